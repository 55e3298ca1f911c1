"""The systemd units: what systemd-analyze says of them, and headgate started under what they promise (unit.py stands in for systemd)."""
import grp
import random
import re

import headgate
import procs
from headgate import *
from unit import Unit

EXPOSURE = {"headgate.service": 3.2, "headgate-user.service": 2.5}
KEY = "a secret of the credentials"
# What both units say otherwise than one another; all else is the same, so that they cannot drift apart.
OWN = {"User", "Group", "AmbientCapabilities", "CapabilityBoundingSet", "ProtectProc", "SystemCallFilter"}


def unit_path(name):
    return os.path.join(ROOT, "conf", name)


def low_port(t):
    """A free port below 1024, ours alone among all test runs on this machine."""
    for port in random.sample(range(600, 1024), 400):
        lock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        t.defer(lock.close)
        try:
            lock.bind(f"\0headgate-test-port-{port}")
        except OSError:
            continue
        if port_free(port):
            return port
    raise AssertionError("no port below 1024 is free")


# --- by systemd's own word

def installable(t, name):
    """The unit with a program that is there, as `make install` would leave it."""
    with open(unit_path(name)) as f:
        return t.write(name, f.read().replace("/usr/local/bin/headgate", t.program))


def analyze(t, *args):
    return t.run(["systemd-analyze", "--no-pager", *args])


@case(both=True)
def test_verify(t):
    """systemd-analyze verify finds nothing in either."""
    for name in EXPOSURE:
        r = analyze(t, "verify", "--man=no", installable(t, name))
        assert (r.returncode, r.stdout + r.stderr) == (0, ""), (name, r)


@case(both=True)
def test_exposure(t):
    """systemd-analyze security: the figure of each stays at or below what is promised."""
    for name, most in EXPOSURE.items():
        r = analyze(t, "security", "--offline=true", installable(t, name))
        figure = re.search(r"Overall exposure level for \S+ ([\d.]+)", r.stdout)
        assert figure and not r.stderr, (name, r)
        assert float(figure.group(1)) <= most, (name, figure.group(1))


@case()
def test_same_where_it_can_be(t):
    """Both units hold the same directives but for users and rights; each is explained by a comment above it or its group."""
    a, b = (Unit(unit_path(n)) for n in EXPOSURE)
    keys = {k for k in set(a.values) | set(b.values) if k[0] == "Service" and k[1] not in OWN}
    for section, key in sorted(keys):
        assert a.all(key) == b.all(key), key


@case()
def test_nothing_that_breaks(t):
    """What would hurt JIT compilers, adopted services, cgroups or the workers' openat2 is not set."""
    for name in EXPOSURE:
        u = Unit(unit_path(name))
        for key in ("MemoryDenyWriteExecute", "PrivateTmp", "RemoveIPC", "RestrictSUIDSGID", "ProtectControlGroups", "PrivateUsers"):
            assert not u.on(key), (name, key)
        assert u.get("KillMode") == "process" and u.on("Delegate") and u.on("RuntimeDirectoryPreserve"), name
        assert u.get("Type") == "notify" and u.get("NotifyAccess") == "main" and int(u.get("FileDescriptorStoreMax")) >= 512, name


# --- headgate under a unit

class UnitGate(Headgate):
    """headgate as the unit starts it: folders, environment and rights are the unit's, the command is its ExecStart."""

    def __init__(self, t, name, config, **kw):
        self.unit, self.as_root = Unit(unit_path(name)), os.geteuid() == 0 and not t.user
        super().__init__(t, config, **kw)
        self.user = (NOBODY, NOBODY) if self.as_root and self.unit.get("User") else None
        if self.user:
            self.top.pop("user", None)
        self.folders = {}
        for kind in ("State", "Runtime", "Logs"):
            path = self.folders[kind] = os.path.join(self.dir, kind.lower(), self.unit.get(kind + "Directory"))
            os.makedirs(path)
            if self.user or t.user:
                os.chown(path, NOBODY, NOBODY)
        self.state, self.runtime = self.folders["State"], self.folders["Runtime"]
        # Whoever is not root at the end takes the unit's folders without a key.
        self.master_is_root = self.as_root and not self.user
        self.override({"state": self.state if self.master_is_root else None, "runtime": self.runtime if self.master_is_root else None})
        if self.user:
            self.override({"admin": "{ group: %s }" % grp.getgrgid(NOBODY).gr_name})
        secrets = t.path("credentials")
        os.makedirs(secrets)
        self.credentials = t.write("credentials/word", KEY)
        self.configure(config)

    def unit_env(self):
        env = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "INVOCATION_ID": "0" * 32, "WATCHDOG_USEC": "500000",
               "NOTIFY_SOCKET": self.notify_path, "CREDENTIALS_DIRECTORY": os.path.dirname(self.credentials)}
        for kind, path in self.folders.items():
            env[kind.upper() + "_DIRECTORY"] = path
        if headgate.SANITIZED:
            env["ASAN_OPTIONS"] = "detect_leaks=0"
        return env

    def line(self, key):
        """The words of ExecStart= or ExecReload=, with our program and file in place of the installed ones."""
        words = self.unit.get(key).split()
        assert words[0] == "/usr/local/bin/headgate" and words[-1] == "/etc/headgate/headgate.yaml", words
        return [self.t.program] + words[1:-1] + [self.file]

    def under_unit(self, key):
        here = [PYTHON, os.path.join(headgate.HERE, "unit.py")]
        return self.unit.command(here, self.line(key), self.unit_env(), self.folders.values(), [self.t.dir], self.as_root, self.user)

    def command(self):
        return self.t.as_user(self.under_unit("ExecStart"))

    def exec_reload(self):
        return self.t.run(self.t.as_user(self.under_unit("ExecReload")))


def jit_config(t):
    """A JIT-like service, static files, a credential: what must all work under a unit."""
    t.write("www/page.txt", "static")
    if t.user or os.geteuid() == 0:
        os.chmod(t.path("www"), 0o755)
    run = f"[{PYTHON}, {os.path.join(HERE, 'jit.py')}, $listen]"
    return f"""sites:
  s:
    host: localhost
    https: both
    services:
      jit: {{ run: {run} }}
      sock: {{ run: {run}, listen: unix }}
    routes:
      /: {{ proxy: jit }}
      /sock/: {{ proxy: sock, strip_prefix: on }}
      /files/: {{ files: {t.path('www')} }}
      /secret: {{ respond: "$secret:word" }}
"""


def jit_answer(gate, path="/"):
    a = gate.get(path)
    assert a.status == 200, (a, gate.log())
    return json.loads(a.body)


def bits(pid, field):
    return int(procs.status_field(pid, field), 16)


def check_service(gate, path):
    told = jit_answer(gate, path)
    assert told["jit"] == 42, told      # machine code that it wrote itself ran
    pid = told["pid"]
    for field in ("CapEff", "CapPrm", "CapAmb"):
        assert bits(pid, field) == 0, (field, procs.status_field(pid, field))
    assert procs.status_field(pid, "NoNewPrivs") == "1"
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC", "CREDENTIALS_DIRECTORY", "STATE_DIRECTORY"} & set(told["env"]), told["env"]
    assert told["tmp"] and told["data"], told       # could write to /tmp and to its working folder
    assert not told["elsewhere"], told
    assert (procs.uid(pid) != procs.uid(gate.master)) == gate.master_is_root


def lives(gate, low):
    """Start, serve, reload, watchdog, stop: a unit's life."""
    assert gate.get("/files/page.txt").body == b"static"
    assert gate.get("/secret").body.decode() == KEY
    for path in ("/", "/sock/"):
        check_service(gate, path)
    for w in gate.workers() + gate.agents():
        assert bits(w, "CapEff") == bits(w, "CapPrm") == bits(w, "CapAmb") == 0 and procs.uid(w) == procs.uid(gate.agents()[0]), w
    if low:
        with socket.create_connection(("127.0.0.1", low)) as s:
            s.sendall(b"GET /secret HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert b" 200 " in s.recv(100)
    r = gate.exec_reload()
    assert r.returncode == 0, r
    wait_for("READY=1 after RELOADING=1", lambda: gate.notify.count("RELOADING=1") == 1 and gate.notify.count("READY=1") == 2)
    wait_for("watchdog pings", lambda: gate.notify.count("WATCHDOG=1") >= 3)
    assert gate.stop() == 0, gate.log()
    wait_for("STOPPING=1", lambda: gate.notify.count("STOPPING=1") == 1)
    assert "ermission denied" not in gate.log() and "read-only" not in gate.log(), gate.log()


def with_low_port(t, gate):
    port = low_port(t)
    gate.configure(jit_config(t), {"listen": f'{{ http: ["127.0.0.1:{gate.http}", "127.0.0.1:{port}"], https: "127.0.0.1:{gate.https}" }}'})
    return port


@case(root=True)
def test_life_as_root(t):
    """headgate.service: a low port, JIT backends by TCP and unix socket as users of their own, files, credentials, reload, stop."""
    gate = UnitGate(t, "headgate.service", jit_config(t))
    low = with_low_port(t, gate)
    gate.start()
    bound = gate.unit.words("CapabilityBoundingSet")
    assert bin(bits(gate.master, "CapBnd")).count("1") == len(bound) and bits(gate.master, "CapEff") == bits(gate.master, "CapBnd")
    assert procs.status_field(gate.master, "NoNewPrivs") == "1" and procs.status_field(gate.master, "Seccomp") == "2"
    lives(gate, low)


@case(both=True)
def test_life_unprivileged(t):
    """headgate-user.service: one user, which binds a low port where it is given the capability, state and runtime by the unit alone."""
    gate = UnitGate(t, "headgate-user.service", jit_config(t))
    low = with_low_port(t, gate) if gate.as_root else None
    gate.start()
    if gate.as_root:
        only = 1 << 10      # CAP_NET_BIND_SERVICE
        assert {bits(gate.master, f) for f in ("CapBnd", "CapEff", "CapAmb")} == {only} and procs.uid(gate.master) == NOBODY
    lives(gate, low)


# --- make install

@case()
def test_install(t):
    """make install lays both units and the sysusers snippet under PREFIX, naming the program there; uninstall takes all away."""
    r = t.run(["make", "-C", ROOT, "-o", "all", "-o", os.path.join(os.environ["BUILD"], "headgate"), "install", f"DESTDIR={t.path('d')}", "PREFIX=/opt/x", f"BUILD={os.environ['BUILD']}"])
    assert r.returncode == 0, r
    for name in EXPOSURE:
        u = Unit(t.path("d/opt/x/lib/systemd/system", name))
        assert u.get("ExecStart").startswith("/opt/x/bin/headgate run") and u.get("ExecReload").startswith("/opt/x/bin/headgate reload")
    for name in ("bash-completion/completions/headgate", "zsh/site-functions/_headgate", "doc/headgate/examples/example.yaml", "man/man8/headgate.8"):
        assert os.path.isfile(t.path("d/opt/x/share", name)), name
    r = t.run(["systemd-sysusers", "--dry-run", t.path("d/opt/x/lib/sysusers.d/headgate.conf")])
    assert r.returncode == 0, r
    r = t.run(["make", "-C", ROOT, "uninstall", f"DESTDIR={t.path('d')}", "PREFIX=/opt/x", f"BUILD={os.environ['BUILD']}"])
    left = [f for _, _, files in os.walk(t.path("d")) for f in files]
    assert r.returncode == 0 and not left, (r, left)
