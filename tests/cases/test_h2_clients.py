"""HTTP/2 by real clients: curl, nghttp and h2load; and many connections under load through reloads, a killed worker and a stop."""
import hashlib
import re

import headgate
from h2wire import *
from headgate import *

BASE = "sites:\n  s: {{ host: localhost, https: both, services: {{ app: {{ url: \"{url}\" }} }}, routes: {{ /: {{ proxy: app }}, /hello: {{ respond: hello }} }} }}\n"


class Site:
    def __init__(self, t, **kw):
        self.t = t
        self.backend = t.backend()
        self.base = BASE.format(url=self.backend.url)
        self.gate = t.headgate(self.base, **kw)


@case(both=True)
def test_curl(t):
    """curl --http2: a page, a HEAD, an upload and a download of 20 MB, and a hundred requests in parallel, all as HTTP/2."""
    s = Site(t)
    body = os.urandom(20 << 20)
    up = t.write("up", body)

    def curl(*args):
        r = s.gate.curl("--http2", "-w", "\n%{http_version} %{http_code}", *args)
        assert r.returncode == 0, (args, r.stdout, r.stderr)
        out, _, last = r.stdout.rpartition("\n")
        assert last == "2 200", (args, r.stdout[-500:])
        return out
    assert curl(s.gate.url("/hello")) == "hello"
    assert "content-length: 5" in curl("-I", s.gate.url("/hello"))
    assert json.loads(curl("-T", up, s.gate.url("/sink"))) == {"size": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    curl("-o", t.path("down"), s.gate.url("/bytes/20000000"))
    assert os.path.getsize(t.path("down")) == 20000000
    r = s.gate.curl("--http2", "--parallel", "--parallel-max", "50", "-o", "/dev/null", "-w", "%{http_version} %{http_code}\n", s.gate.url("/n/[1-100]"))
    assert r.returncode == 0 and r.stdout.split("\n")[:-1] == ["2 200"] * 100, r.stdout
    assert len(s.backend.targets()) == 102 and len(set(s.backend.targets())) == 102


MIB = 1 << 20
BY_H2 = [Row("get", body='"target": "/a?b=c"'), Row("head", size=0), Row("upload", body=f'"size": {5 * MIB}'), Row("upload_in_crumbs", body='"size": 20000'),
         Row("download", size=20 * MIB), Row("file", size=20 * MIB), Row("hundred_at_once", size=sum(range(10000, 10100))), Row("small_windows", size=MIB),
         Row("cookies", body='["cookie", "a=1; b=2"]'), Row("cancel"), Row("ping"), Row("settings_while_open", size=2 * MIB)]


class Strict(Site):
    """Python's h2 in front of a proxied site with files."""

    def __init__(self, t):
        super().__init__(t, workers=1)
        t.write("www/big", bytes(20 * MIB))
        self.gate.reload_ok(self.base.replace("/hello:", f"/static/: {{ files: {t.path('www')} }}, /hello:"))

    def args(self, what):
        return [PYTHON, os.path.join(HERE, "h2py_client.py"), str(self.gate.https), self.gate.ca, what]


@table(BY_H2, setup=Strict)
def test_python_h2(t, s, row):
    """Python's h2, which raises at every frame that breaks the protocol: what it asks for comes, whole."""
    r = t.run(s.args(row.name))
    assert r.returncode == 0, r.stderr
    got = json.loads(r.stdout)
    assert got["status"] == 200 and got.get("reset") is None, got
    if hasattr(row, "size"):
        assert got["size"] == row.size, got
    if hasattr(row, "body"):
        assert row.body in got["body"], got


@case()
def test_curl_sees_a_cut(t):
    """curl takes a cut answer for what it is."""
    s = Site(t)
    for path in ("/cut-length/5000", "/cut-chunked/5000"):
        r = s.gate.curl("--http2", "-o", "/dev/null", s.gate.url(path))
        assert r.returncode in (18, 92), (path, r.returncode, r.stderr)


@case()
def test_nghttp(t):
    """nghttp: many requests on one connection, an upload with a trailer, the settings as announced."""
    s = Site(t)
    r = t.run(["nghttp", "-nv", "--no-dep", s.gate.url("/hello"), s.gate.url("/a"), s.gate.url("/bytes/500000")])
    assert r.returncode == 0 and r.stdout.count(":status: 200") == 3, r.stdout[-3000:]
    assert "SETTINGS_MAX_CONCURRENT_STREAMS(0x03):128" in r.stdout and "SETTINGS_NO_RFC7540_PRIORITIES(0x09):1" in r.stdout, r.stdout[:3000]
    data = t.write("data", b"d" * 300000)
    r = t.run(["nghttp", "-v", "--no-content-length", "-d", data, "--trailer", "x-sum: 42", s.gate.url("/x")])
    assert r.returncode == 0 and ":status: 200" in r.stdout, r.stdout[-3000:]
    got = s.backend.requests[-1]
    assert got.size == 300000 and [(n.lower(), v) for n, v in got.trailers] == [("x-sum", "42")], got.dump()["trailers"]


class H2load:
    def __init__(self, url, *args):
        self.p = subprocess.Popen(["h2load", *args, url], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def over(self):
        return self.p.poll() is not None

    def result(self):
        """(total, succeeded, failed, errored, timed out, status 2xx), and the text."""
        out = self.p.communicate(timeout=110)[0]
        m = re.search(r"requests: (\d+) total, \d+ started, \d+ done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", out)
        ok = re.search(r"status codes: (\d+) 2xx", out)
        assert m and ok, out
        return [int(x) for x in m.groups()] + [int(ok.group(1))], out


@case(serial=True)
def test_h2load(t):
    """h2load with 16 connections of 32 streams: 50,000 static and 20,000 proxied requests, all answered with 200."""
    s = Site(t)
    for path, n in (("/hello", 5000 if headgate.SANITIZED else 50000), ("/bytes/1024", 2000 if headgate.SANITIZED else 20000)):
        (total, good, failed, errored, late, ok), out = H2load(s.gate.url(path), "-n", str(n), "-c", "16", "-m", "32").result()
        assert (total, good, failed, errored, late, ok) == (n, n, 0, 0, 0, n), out
    assert not s.backend.errors, s.backend.errors


@case(serial=True)
def test_reloads_under_h2load(t):
    """Twenty reloads under h2load: not one request lost, not one connection cut."""
    s = Site(t)
    load = H2load(s.gate.url("/hello"), "-n", "20000" if headgate.SANITIZED else "400000", "-c", "16", "-m", "32")
    reloads = 0
    while reloads < 20 or not load.over():
        s.gate.reload_ok(s.base + f"  extra{reloads % 2}: {{ host: extra{reloads % 2}.localhost, routes: {{ /: {{ respond: extra }} }} }}\n")
        reloads += 1
        if reloads >= 200:
            break
    (total, good, failed, errored, late, ok), out = load.result()
    assert (good, failed, errored, late, ok) == (total, 0, 0, 0, total), out


class Load:
    """Clients that keep ten streams under way each; a connection that ends is noted with its port, and made anew."""

    def __init__(self, gate, clients=12, path="/load"):
        self.gate, self.path = gate, path
        self.context = h2_context(gate.ca)
        self.done, self.lock = threading.Event(), threading.Lock()
        self.served, self.lost, self.wrong = 0, [], []
        self.threads = [threading.Thread(target=self.client, daemon=True) for _ in range(clients)]
        for x in self.threads:
            x.start()

    def client(self):
        while not self.done.is_set():
            try:
                c = h2(self.gate, context=self.context)
            except OSError as e:
                with self.lock:
                    self.wrong.append(f"no connection: {e!r}")
                continue
            port = c.sock.getsockname()[1]
            try:
                while not self.done.is_set() and not c.goaways:
                    self.batch(c)
            except (Ended, OSError) as e:
                with self.lock:
                    self.lost.append((port, repr(e)))
            except (Reset, AssertionError) as e:
                with self.lock:
                    self.wrong.append(repr(e))
            c.close()

    def batch(self, c):
        xs = [c.request(path=f"{self.path}/{i}") for i in range(10)]
        for x in xs:
            a = c.answer(x)
            assert a.status == 200, a
            del c.streams[x.id]
        with self.lock:
            self.served += 10

    def progress(self, n=500):
        goal = self.served + n
        wait_for(f"{n} more requests", lambda: self.served >= goal or self.wrong)
        assert not self.wrong, self.wrong[:5]

    def stop(self):
        self.done.set()
        for x in self.threads:
            x.join(70)
        assert not any(x.is_alive() for x in self.threads), "a client hangs"


def ports_of(pid, port):
    """The client ports of the connections to `port` that the process holds."""
    inodes = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            m = re.match(r"socket:\[(\d+)\]", os.readlink(f"/proc/{pid}/fd/{fd}"))
        except OSError:
            continue
        if m:
            inodes.add(m.group(1))
    out = set()
    with open("/proc/net/tcp") as f:
        for line in list(f)[1:]:
            w = line.split()
            if w[9] in inodes and int(w[1].split(":")[1], 16) == port and w[3] == "01":
                out.add(int(w[2].split(":")[1], 16))
    return out


@case(serial=True)
def test_killed_worker_under_h2(t):
    """SIGKILL of one worker under load: its connections are lost, and those alone; the other's never notice; new ones are accepted at once."""
    s = Site(t)
    load = Load(s.gate, path="/load")
    load.progress(500)
    for _ in range(3):
        workers = s.gate.wait_workers()
        victim = max(workers, key=lambda w: len(ports_of(w, s.gate.https)))
        held, before = ports_of(victim, s.gate.https), len(load.lost)
        assert held, "no worker has a connection"
        os.kill(victim, signal.SIGKILL)
        s.gate.wait_workers(without=[victim])
        load.progress(500)
        lost = {p for p, _ in load.lost[before:]}
        assert lost <= held, f"lost {lost - held} of other workers: {load.lost[before:]}"
    load.stop()
    assert not load.wrong, load.wrong[:5]


@case(serial=True)
def test_workers_change_under_h2(t):
    """workers: 2 → 1 → 3 → 2 by reload under load: connections of a worker that goes end with GOAWAY, without a request lost."""
    s = Site(t)
    load = Load(s.gate)
    load.progress(300)
    for n in (1, 3, 2):
        s.gate.reload_ok(s.base, {"workers": str(n)})
        s.gate.workers_wanted = n
        load.progress(300)
        wait_for(f"{n} workers", lambda: len(s.gate.workers()) == n)
    load.stop()
    assert not load.wrong and not load.lost, (load.wrong[:5], load.lost[:5])


@case(serial=True)
def test_stop_under_h2(t):
    """SIGTERM under load: every request that was taken is answered; clients are told by GOAWAY; the program ends with 0."""
    s = Site(t)
    cut, told, served = [], [0], [0]

    def client():
        c = h2(s.gate)
        try:
            while not c.goaways:
                xs = [c.request(path=f"/stop/{i}") for i in range(10)]
                for x in xs:
                    assert c.answer(x).status == 200
                    served[0] += 1
            told[0] += 1
        except Exception as e:
            over = [x for x in xs if not x.done]
            if not (c.goaways and all(x.id > c.goaways[-1][0] for x in over)):
                cut.append(repr(e))
        c.close()
    threads = [threading.Thread(target=client, daemon=True) for _ in range(8)]
    for x in threads:
        x.start()
    wait_for("requests", lambda: served[0] > 500 or cut)
    assert s.gate.stop() == 0
    for x in threads:
        x.join(60)
    assert not cut and told[0] == 8, (cut, told)
