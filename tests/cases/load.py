"""Load that misses nothing: clients in threads, on kept and on new connections, that note every request that was not served."""
import re
import subprocess
import threading
import time

from procs import wait_for
from wire import Truncated, tls_context


class Load:
    """
    `kept` clients go on one connection as long as it lives, `fresh` ones make a new one each request; half of each over TLS.
    failures: (when, what kind, why). A connection that headgate announced to close is no failure.
    """

    def __init__(self, gate, kept=4, fresh=4, target="/load", host="localhost", secure=True):
        self.gate, self.target, self.host = gate, target, host
        self.done, self.failures, self.served = threading.Event(), [], 0
        self.lock = threading.Lock()
        self.context = tls_context(gate.ca) if secure else None
        self.threads = [threading.Thread(target=self.loop, args=(work, secure and i % 2 == 0), daemon=True)
                        for work, n in ((self.kept, kept), (self.fresh, fresh)) for i in range(n)]
        for t in self.threads:
            t.start()

    def connect(self, secure):
        return self.gate.tls(self.host, context=self.context) if secure else self.gate.plain()

    def one(self, c):
        a = c.get(self.target, self.host)
        if a.status != 200:
            raise AssertionError(f"status {a.status}: {a.body[:200]!r}")
        with self.lock:
            self.served += 1
        return (a.get("connection") or "").lower() == "close"

    def kept(self, secure):
        with self.connect(secure) as c:
            while not self.done.is_set():
                if self.one(c):
                    return

    def fresh(self, secure):
        with self.connect(secure) as c:
            self.one(c)

    def loop(self, work, secure):
        while not self.done.is_set():
            began = time.monotonic()
            try:
                work(secure)
            except (OSError, AssertionError, Truncated) as e:
                with self.lock:
                    self.failures.append((time.monotonic(), began, work.__name__, repr(e)))

    def progress(self, n=50, guard=60):
        """Waits until n more requests were served."""
        goal, end = self.served + n, time.monotonic() + guard
        while self.served < goal:
            assert time.monotonic() < end, f"only {self.served} of {goal} requests; failures: {self.failures[-3:]}"
            time.sleep(0.005)

    def stop(self):
        self.done.set()
        for t in self.threads:
            t.join(70)
        assert not any(t.is_alive() for t in self.threads), "a client hangs"
        return self.failures


class Wrk:
    """
    wrk in the background, on `gate`; stop() gives (requests, errors, its report). It connects to 127.0.0.1, which the site
    has as host or alias: wrk would look "localhost" up, and not every machine answers that.
    """

    def __init__(self, gate, secure=True, connections=32, seconds=110, threads=1):
        self.gate = gate
        url = f"https://127.0.0.1:{gate.https}/" if secure else f"http://127.0.0.1:{gate.http}/"
        self.p = subprocess.Popen(["wrk", "-c", str(connections), "-t", str(threads), "-d", f"{seconds}s", "--timeout", "60s", url],
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        gate.t.defer(self.end)
        self.progress()

    def progress(self, n=200):
        """Waits until headgate served n more requests."""
        goal = self.total() + n
        wait_for(f"{n} requests of wrk", lambda: self.p.poll() is not None or self.total() >= goal)
        assert self.p.poll() is None, f"wrk ended with {self.p.returncode}: {self.p.communicate()[0]}"

    def total(self):
        return self.gate.status()["counters"]["requests_total"]

    def stop(self):
        self.p.send_signal(2)       # wrk prints its report at SIGINT
        out = self.p.communicate(timeout=60)[0]
        report = re.search(r"(\d+) requests in", out)
        assert report, f"no report of wrk, which ended with {self.p.returncode}: {out}"
        errors = 0
        for m in re.finditer(r"(?:connect|read|write|timeout) (\d+)|Non-2xx or 3xx responses: (\d+)", out):
            errors += int(m.group(1) or m.group(2))
        return int(report.group(1)), errors, out

    def end(self):
        if self.p.poll() is None:
            self.p.kill()
            self.p.communicate()
