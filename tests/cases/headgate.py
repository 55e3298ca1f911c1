"""
What every case stands on: Case (temp folder, ports, clean-up) and Headgate (config, start, CLI, log, processes).
The driver is tests/run; wire.py has the clients, backends.py the backends, procs.py a look at processes.
"""
import grp
import json
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time

import procs
from backends import Backend
from procs import wait_for
from wire import Conn, tls_context

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
NOBODY = 65534
SANITIZED = False       # set by the driver: the program is a sanitizer build, whose memory says little
PYTHON = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable


# --- how a test says what it needs

def case(serial=False, both=False, root=False, slow=False):
    """serial: runs alone. both: as root, also as an unprivileged user. root: only makes sense as root. slow: waits long, so it begins early."""
    def mark(fn):
        fn.serial, fn.both, fn.root, fn.slow = serial, both, root, slow
        return fn
    return mark


def table(rows, setup, serial=False, both=False):
    """One named case a row, over what setup(t) made once: fn(t, shared, row). A row has a `name`."""
    def mark(fn):
        fn.rows, fn.setup, fn.serial, fn.both, fn.root = rows, setup, serial, both, False
        return fn
    return mark


class Row:
    def __init__(self, name, **kw):
        self.name = name
        self.__dict__.update(kw)


# --- one case

class Case:
    """Made by the driver for each case, ended by it too."""

    def __init__(self, name, program, user=None, base=None):
        self.name, self.program, self.user = name, program, user
        self.dir = tempfile.mkdtemp(prefix="case-", dir=base)
        os.chmod(self.dir, 0o755)
        if user:
            os.chown(self.dir, NOBODY, NOBODY)
        self.crashes = False
        self.undo, self.servers, self.block, self.next_port = [], [], None, 0

    def defer(self, fn):
        self.undo.append(fn)

    def finish(self):
        """Runs what was deferred, last first; returns the troubles as text."""
        troubles = []
        for fn in reversed(self.undo):
            try:
                fn()
            except Exception as e:      # noqa: all of them must run
                troubles.append(f"clean-up: {e!r}")
        self.undo = []
        return troubles

    def path(self, *names):
        return os.path.join(self.dir, *names)

    def write(self, name, text, mode=0o644):
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as f:
            f.write(text if isinstance(text, bytes) else text.encode())
        os.chmod(path, mode)
        return path

    def port(self):
        """A port below the ephemeral range, ours alone among all test runs on this machine."""
        if self.block is None:
            self.block = self.lock_block()
        while True:
            port = self.block + self.next_port
            self.next_port += 1
            assert self.next_port <= 50, "a case needs more than 50 ports"
            if port_free(port):
                return port

    def lock_block(self):
        while True:
            n = random.randrange(240)
            lock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            try:
                lock.bind(f"\0headgate-test-ports-{n}")
            except OSError:
                lock.close()
                continue
            self.lock = lock
            return 20000 + n * 50

    def backend(self, behave=None, **kw):
        b = Backend(behave, **kw)
        self.defer(b.close)
        return b

    def headgate(self, config, **kw):
        """Starts headgate with the config and waits until it says that it is ready."""
        h = Headgate(self, config, **kw)
        h.start()
        return h

    def unstarted(self, config, **kw):
        return Headgate(self, config, **kw)

    def service(self, mode, *extra, listen="$listen"):
        """The `run:` list of a service that behaves in that mode."""
        words = [PYTHON, os.path.join(HERE, "service.py"), mode, listen, *extra]
        return "[" + ", ".join(f'"{w}"' for w in words) + "]"

    def as_user(self, args):
        if not self.user:
            return args
        return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--inh-caps=-all"] + args

    def run(self, args, guard=60, **kw):
        kw.setdefault("stdout", subprocess.PIPE)
        kw.setdefault("stderr", subprocess.PIPE)
        return subprocess.run(args, timeout=guard, text=True, **kw)


def port_free(port):
    for family, host in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        with socket.socket(family) as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind((host, port))
            except OSError:
                return False
    return True


# --- the program

class Notify(threading.Thread):
    """The other end of NOTIFY_SOCKET: keeps what was said, in order; and descriptors in a store, if there is one."""

    def __init__(self, path, store=None):
        super().__init__(daemon=True)
        self.store = store
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(path)
        os.chmod(path, 0o777)
        self.said = []
        self.start()

    def run(self):
        while True:
            try:
                data, fds, _, _ = socket.recv_fds(self.sock, 65536, 253)
            except OSError:
                return
            if self.store:
                self.store.message(data.decode(errors="replace").split("\n"), fds)
            else:
                procs.close_all(fds)
            if data:
                self.said.append(data.decode(errors="replace"))

    def has(self, word):
        return any(word in m.split("\n") for m in list(self.said))

    def count(self, word):
        return sum(m.split("\n").count(word) for m in list(self.said))


class Headgate:
    """
    One configuration and the server that runs it. `config` holds sites and channels; the top-level keys that every
    test needs are put in front, `top` overrides them (None drops one).
    """

    def __init__(self, t, config, top=None, workers=2, name="headgate", env=None, stdout=None, http=True, https=True):
        self.t, self.workers_wanted = t, workers
        self.dir = t.path(name + ".d")
        os.makedirs(self.dir)
        if t.user:
            os.chown(self.dir, NOBODY, NOBODY)
        self.file = os.path.join(self.dir, "headgate.yaml")
        self.state = os.path.join(self.dir, "state")
        self.runtime = os.path.join(self.dir, "run")
        self.http = t.port() if http else None
        self.https = t.port() if https else None
        self.top = {"state": self.state, "runtime": self.runtime, "workers": str(workers),
                    "listen": self.listen(), "metrics": "off", "admin": "{ group: %s }" % self.group()}
        if os.geteuid() == 0 and not t.user:
            self.top["user"] = "nobody"
        self.override(top)
        self.env, self.stdout = env, stdout
        self.wrap, self.pass_fds = [], []       # a command that executes headgate in its place, and what it inherits
        self.proc, self.notify, self.master = None, None, None
        self.store = None           # store.Store: what a service manager would keep
        self.outlived = set()       # processes of masters that were killed: (pid, start time)
        self.configure(config)
        t.servers.append(self)
        t.defer(self.end)

    def group(self):
        return grp.getgrgid(NOBODY if self.t.user else os.getegid()).gr_name

    def listen(self, http=None, https=None):
        http, https = http or self.http, https or self.https
        words = [f'http: "127.0.0.1:{http}"' if http else "http: off", f'https: "127.0.0.1:{https}"' if https else "https: off"]
        return "{ " + ", ".join(words) + " }"

    def override(self, top):
        for key, value in (top or {}).items():
            if value is None:
                self.top.pop(key, None)
            else:
                self.top[key] = value

    def configure(self, config, top=None):
        """Writes the file; a running server is not told."""
        self.override(top)
        text = "".join(f"{k}: {v}\n" for k, v in self.top.items()) + config
        tmp = self.file + ".new"
        with open(tmp, "w") as f:
            f.write(text)
        os.chmod(tmp, 0o644)
        os.rename(tmp, self.file)
        self.text = text
        return self

    def command(self, *args):
        return self.t.as_user([*self.wrap, self.t.program, "run", "--config", self.file, *args])

    def spawn(self, *args):
        """Starts `headgate run` and does not wait."""
        self.notify_path = tempfile.mktemp(prefix="notify-", dir=self.dir)
        self.notify = Notify(self.notify_path, self.store)
        env = {k: v for k, v in os.environ.items() if k not in ("LISTEN_FDS", "LISTEN_PID", "NOTIFY_SOCKET", "NO_COLOR")}
        env["NOTIFY_SOCKET"] = self.notify_path
        if SANITIZED:       # looking for leaks needs a thread and ptrace, which the sandbox refuses; unit tests look
            env["ASAN_OPTIONS"] = "quarantine_size_mb=16:detect_leaks=0"
        env.update(self.env or {})
        self.log_path = os.path.join(self.dir, "log")
        out = self.stdout if self.stdout is not None else open(self.log_path, "ab")
        self.proc = subprocess.Popen(self.command(*args), stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, env=env, cwd=self.dir,
                                     pass_fds=self.pass_fds)
        if self.stdout is None:
            out.close()
        self.master = self.proc.pid     # setpriv executes in place
        return self

    def start(self):
        self.spawn()
        wait_for("READY=1 or the end", lambda: self.notify.has("READY=1") or self.proc.poll() is not None)
        assert self.proc.poll() is None, f"headgate ended with {self.proc.returncode}:\n{self.log()}"
        return self

    def wait_exit(self, guard=60):
        wait_for("headgate's end", lambda: self.proc.poll() is not None, guard)
        return self.proc.returncode

    def stop(self, sig=signal.SIGTERM):
        """A graceful stop: returns the exit status."""
        self.proc.send_signal(sig)
        return self.wait_exit()

    def kill_master(self):
        """kill -9 of the master alone. What outlives it is ended with the case, unless a later master does."""
        self.outlived |= {(p, procs.started(p)) for p in procs.descendants(self.master)}
        os.kill(self.master, signal.SIGKILL)
        return self.wait_exit()

    def end(self):
        orphaned = self.proc and self.proc.returncode == -signal.SIGKILL
        if orphaned:
            procs.kill_all([p for p, began in self.outlived if procs.started(p) == began])
        if self.proc and self.proc.poll() is None:
            self.proc.send_signal(signal.SIGTERM)
            try:
                self.wait_exit(40)
            except AssertionError:
                procs.kill_all(procs.descendants(self.master) + [self.master])
                self.proc.wait()
                raise AssertionError("headgate did not end within 40 s of SIGTERM")
        if self.notify:
            self.notify.sock.close()

    def log(self):
        try:
            with open(self.log_path, errors="replace") as f:
                return f.read()
        except (OSError, AttributeError):
            return ""

    def wait_log(self, *words):
        wait_for(f"a log line with {words}", lambda: any(all(w in line for w in words) for line in self.log().splitlines()))

    # --- the command line

    def cli(self, verb, *args, guard=60, config=True, **kw):
        cmd = [self.t.program, verb] + (["--config", self.file] if config else []) + list(args)
        return self.t.run(self.t.as_user(cmd), guard=guard, cwd=self.dir, **kw)

    def reload(self, config=None, top=None):
        if config is not None or top:
            self.configure(config, top)
        return self.cli("reload")

    def reload_ok(self, config=None, top=None):
        r = self.reload(config, top)
        assert r.returncode == 0, f"reload: {r.returncode}\n{r.stdout}{r.stderr}"
        return r

    def status(self):
        r = self.cli("status", "--json")
        assert r.returncode == 0, f"status: {r.returncode}\n{r.stdout}{r.stderr}"
        return json.loads(r.stdout)

    # --- clients

    @property
    def ca(self):
        return os.path.join(self.state, "ca", "root.crt")

    def plain(self, **kw):
        return Conn(("127.0.0.1", self.http), **kw)

    def tls(self, host="localhost", verify=True, context=None, session=None, **kw):
        conn_kw = {k: kw.pop(k) for k in ("rcvbuf", "guard", "source", "first") if k in kw}
        context = context or tls_context(self.ca if verify else None, **kw)
        return Conn(("127.0.0.1", self.https), tls=context, sni=host, session=session, **conn_kw)

    def get(self, target="/", host="localhost", secure=True, **kw):
        """One request on a fresh connection."""
        with (self.tls(host) if secure else self.plain()) as c:
            return c.get(target, host, **kw)

    def curl(self, *args, guard=110, version="--http1.1", **kw):
        return self.t.run(["curl", version, "-sS", "--cacert", self.ca, "--noproxy", "*", *args], guard=guard, **kw)

    def url(self, target="/", host="localhost"):
        return f"https://{host}:{self.https}{target}"

    # --- its processes

    def role_pids(self, role):
        out = []
        for p in procs.children(self.master):
            line = procs.cmdline(p)
            if role in line.split("/")[0]:
                out.append(p)
        return out

    def workers(self):
        return self.role_pids("worker")

    def agents(self):
        return self.role_pids("agent")

    def service_pids(self):
        return [p for p in procs.children(self.master) if "service.py" in procs.cmdline(p)]

    def wait_workers(self, without=()):
        """Waits for the full number of workers, none of them among `without`."""
        return wait_for("all workers", lambda: (w := self.workers()) and len(w) == self.workers_wanted
                        and not set(w) & set(without) and w)


def allowance(megabytes):
    """Bytes that memory may grow by where it should stay flat."""
    return (megabytes + (200 if SANITIZED else 0)) << 20


def certificate(t, name, hosts, issuer=None):
    """A certificate and key by openssl, p256; returns their paths. issuer: (cert, key) of a CA."""
    cert, key = t.path(name + ".pem"), t.path(name + ".key")
    names = ",".join(("IP:" if h[0].isdigit() else "DNS:") + h for h in hosts)
    cmd = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
           "-subj", f"/CN={name}", "-addext", f"subjectAltName={names}", "-keyout", key, "-out", cert]
    if issuer:
        cmd += ["-CA", issuer[0], "-CAkey", issuer[1]]
    subprocess.run(cmd, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    if t.user:
        os.chown(key, NOBODY, NOBODY)
    return cert, key


def proxy_site(url, extra="", service_extra="", https="both", host="localhost", routes="/: { proxy: app }"):
    """The config that most proxy cases use: one site in front of one url service."""
    return (f"sites:\n  s:\n    host: {host}\n    https: {https}\n{extra}"
            f"    services:\n      app: {{ url: \"{url}\"{service_extra} }}\n    routes:\n      {routes}\n")


def run_site(run, service_extra="", extra="", https="both", host="localhost", routes="/: { proxy: app }", kind="sites", name="s"):
    """One site with one supervised service."""
    return (f"{kind}:\n  {name}:\n    host: {host}\n    https: {https}\n{extra}"
            f"    services:\n      app: {{ run: {run}{service_extra} }}\n    routes:\n      {routes}\n")


TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
__all__ = ["Backend", "Case", "Conn", "HERE", "Headgate", "NOBODY", "Notify", "PYTHON", "ROOT", "Row", "TLS12", "TLS13", "allowance", "case",
           "certificate", "json", "os", "port_free", "procs", "proxy_site", "run_site", "shutil", "signal", "socket", "ssl",
           "subprocess", "sys", "table", "threading", "time", "tls_context", "wait_for"]
