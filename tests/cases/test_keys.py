"""Keys of the file that no other case sets: what each does in a running server, and what a reload of it does."""
import stat

from h2wire import h2
from headgate import *


# --- limits

class Limited:
    """The same routes under limits that are easy to reach."""

    def __init__(self, t, limits="{ header: 2KiB, uri: 200B, headers: 20, body: 1KiB }"):
        self.b = t.backend()
        self.gate = t.headgate(proxy_site(self.b.url), workers=1, top={"limits": limits})

    def ask(self, http2, target, fields, body, chunked):
        """The answer's status."""
        if http2:
            with h2(self.gate) as c:
                fields = fields + ([("content-length", str(len(body)))] if body and not chunked else [])
                x = c.request("POST" if body else "GET", target, headers=fields, body=body or None)
                return c.answer(x).status
        method, size = ("POST", f"Content-Length: {len(body)}\r\n") if body else ("GET", "")
        if chunked:
            size, body = "Transfer-Encoding: chunked\r\n", b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        with self.gate.tls() as c:
            c.send(f"{method} {target} HTTP/1.1\r\nHost: localhost\r\n{size}".encode() + b"".join(f"{n}: {v}\r\n".encode() for n, v in fields) + b"\r\n")
            c.try_send(body)
            return c.answer(method).status


def many(n):
    return [(f"x-{i}", "v") for i in range(n)]


ASKED = [
    Row("uri_fits", target="/" + "a" * 199, want=200), Row("uri_over", target="/" + "a" * 200, want=414),
    Row("header_fits", fields=[("x-a", "b" * 1500)], want=200), Row("header_over", fields=[("x-a", "b" * 2048)], want=431),
    Row("headers_fit", fields=many(15), want=200), Row("headers_over", fields=many(25), want=431),
    Row("body_fits", body=b"x" * 1024, want=200), Row("body_over", body=b"x" * 1025, want=413),
    Row("body_of_unknown_length_fits", body=b"x" * 1024, chunked=True, want=200), Row("body_of_unknown_length_over", body=b"x" * 1025, chunked=True, want=413),
]
WIDE = [Row("uri", target="/" + "a" * 30000), Row("header", fields=[("x-" + c, c * 20000) for c in "abc"]), Row("headers", fields=many(400)),
             Row("body", body=bytes(3 << 20), chunked=True)]
VERSIONS = (("h1", False), ("h2", True))


def asked(s, row):
    return s.ask(row.http2, getattr(row, "target", "/"), getattr(row, "fields", []), getattr(row, "body", b""), getattr(row, "chunked", False))


@table([Row(f"{r.name}_{v}", http2=http2, **{k: x for k, x in r.__dict__.items() if k != "name"}) for r in ASKED for v, http2 in VERSIONS], setup=Limited)
def test_limits(t, s, row):
    """header, uri, headers, body: what fits is passed on, what does not is answered with the status that says which it was."""
    before = len(s.b.requests)
    assert asked(s, row) == row.want
    assert (len(s.b.requests) > before) == (row.want == 200), s.b.requests[before:]


@table([Row(f"{r.name}_{v}", http2=http2, **{k: x for k, x in r.__dict__.items() if k != "name"}) for r in WIDE for v, http2 in VERSIONS],
       setup=lambda t: Limited(t, "{ header: 1MiB, uri: 1MiB, headers: 4096, body: 0 }"))
def test_wide_limits(t, s, row):
    """Wider ones than the defaults: what those would refuse is passed on."""
    assert asked(s, row) == 200


@case()
def test_limits_by_reload(t):
    """A reload changes them for the connections that are there."""
    s = Limited(t)
    with s.gate.tls() as c:
        assert c.get("/" + "a" * 200).status == 414
    with s.gate.tls() as c:
        assert c.get("/" + "a" * 150).status == 200
        s.gate.reload_ok(proxy_site(s.b.url), top={"limits": "{ uri: 100B }"})
        assert c.get("/" + "a" * 150).status == 414


# --- tls, log, admin

@case()
def test_unknown_sni(t):
    """tls.unknown_sni: local shows the local CA's certificate to names that nobody claims, whose requests are misdirected; reject again after a reload."""
    config = "sites:\n  s: { host: one.localhost, https: both, routes: { /: { respond: one } } }\n"
    gate = t.headgate(config, top={"tls": "{ unknown_sni: local }"})
    for host in ("other.example", "two.localhost"):
        with gate.tls(host, verify=False) as c:
            assert c.get("/", host).status == 421
    assert gate.get("/", "one.localhost").body == b"one"
    with gate.tls("other.example", verify=False) as c:      # a certificate of nobody's opens no site
        assert c.get("/", "one.localhost").status == 421
    gate.reload_ok(config, top={"tls": "{ unknown_sni: reject }"})
    try:
        gate.tls("other.example", verify=False).close()
        raise AssertionError("a name that nobody claims was let in")
    except ssl.SSLError as e:
        assert "UNRECOGNIZED_NAME" in str(e), e


@case()
def test_log_level(t):
    """log.level: nothing below it is written, in any process; a reload changes it."""
    config = run_site(t.service("ok"))
    gate = t.headgate(config, top={"log": "{ level: error, access: off }"})
    assert gate.get("/").status == 200
    assert gate.log() == "", gate.log()
    gate.reload_ok(config, top={"log": "{ level: debug, access: off }"})
    try:
        gate.tls("nobody.example", verify=False).close()
    except ssl.SSLError:
        pass
    gate.wait_log('"level":"debug"', "TLS handshake failed")     # a worker's
    gate.cli("restart", "s/app")
    gate.wait_log('"level":"info"', "s/app")                     # the master's


@case(both=True)
def test_admin_socket(t):
    """admin.socket, mode and group: where it lies, who may use it; the command line finds it by the file, or is told."""
    gate = t.unstarted("sites:\n  s: { host: localhost, https: both, routes: { /: { respond: x } } }\n")
    path = os.path.join(gate.dir, "elsewhere.sock")
    gate.override({"admin": "{ socket: %s, mode: 0600, group: %s }" % (path, gate.group())})
    gate.configure("sites:\n  s: { host: localhost, https: both, routes: { /: { respond: x } } }\n")
    gate.start()
    st = os.stat(path)
    assert stat.S_ISSOCK(st.st_mode) and stat.S_IMODE(st.st_mode) == 0o600, oct(st.st_mode)
    assert not os.path.exists(os.path.join(gate.runtime, "admin.sock"))
    assert gate.status()["state"] == "serving"
    r = gate.cli("status", "--socket", path, config=False)
    assert r.returncode == 0 and "serving" in r.stdout, r
    if os.geteuid() == 0 and not t.user:    # nobody else may: told in words
        r = t.run(["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", t.program, "status", "--socket", path])
        assert r.returncode == 3 and "permission denied" in r.stderr, r


# --- files that the file names

@case()
def test_include(t):
    """include: sites of other files are served, by pattern; a reload finds new ones; a name given twice is refused with both places, and nothing changes."""
    gate = t.unstarted("")
    def part(name, host, text):
        with open(os.path.join(gate.dir, "conf.d", name), "w") as f:
            f.write(f"sites:\n  {host}: {{ host: {host}.localhost, https: both, routes: {{ /: {{ respond: {text} }} }} }}\n")
    os.makedirs(os.path.join(gate.dir, "conf.d"))
    part("a.yaml", "a", "first")
    own = "sites:\n  own: { host: own.localhost, https: both, routes: { /: { respond: own } } }\n"
    gate.configure(own, {"include": "[conf.d/*.yaml]"}).start()
    assert gate.get("/", "a.localhost").body == b"first" and gate.get("/", "own.localhost").body == b"own"
    part("b.yaml", "b", "second")
    gate.reload_ok()
    assert gate.get("/", "b.localhost").body == b"second"
    part("c.yaml", "own", "third")
    r = gate.reload()
    text = r.stdout + r.stderr
    assert r.returncode == 1 and "conf.d/c.yaml:2:" in text and "headgate.yaml:" in text, text
    assert gate.get("/", "own.localhost").body == b"own"


@case(both=True)
def test_env_file(t):
    """env_file: its lines are the service's environment, `env` goes over them; a changed file is a changed service."""
    path = t.write("service.env", "# a comment\nFROM_FILE=one two\nBOTH=file\n")
    gate = t.headgate(run_site(t.service("ok"), f", env_file: {path}, env: {{ BOTH: env }}"))

    def who():
        return json.loads(gate.get("/who").body)
    before = who()
    assert before["env"]["FROM_FILE"] == "one two" and before["env"]["BOTH"] == "env", before["env"]
    gate.reload_ok()
    assert who()["pid"] == before["pid"]
    t.write("service.env", "FROM_FILE=three\n")
    gate.reload_ok()
    wait_for("the changed environment", lambda: who()["env"]["FROM_FILE"] == "three")
    assert who()["pid"] != before["pid"]


# --- accounts

@case(root=True)
def test_accounts(t):
    """Started as root: workers and agent run as `user`; each service has a user of its own from service_uids, the same one after a restart."""
    services = "\n".join(f"      {n}: {{ run: {t.service('ok')} }}" for n in ("one", "two"))
    config = (f"sites:\n  s:\n    host: localhost\n    https: both\n    services:\n{services}\n    routes: {{ /one/: {{ proxy: one, strip_prefix: on }}, "
              "/two/: { proxy: two, strip_prefix: on } }\n")
    gate = t.headgate(config, top={"user": "daemon", "service_uids": "65000-65001"})

    def uid_of(pid):
        return os.stat(f"/proc/{pid}").st_uid

    def uids():
        return [json.loads(gate.get(f"/{n}/who").body)["uid"] for n in ("one", "two")]
    import pwd
    own = pwd.getpwnam("daemon").pw_uid
    assert {uid_of(p) for p in gate.workers() + gate.agents()} == {own} and uid_of(gate.master) == 0
    before = uids()
    assert sorted(before) == [65000, 65001], before
    gate.stop()
    gate.start()
    assert uids() == before
    r = gate.reload(config.replace("      two:", f"      three: {{ run: {t.service('ok')} }}\n      two:"))
    gate.wait_log("s/three", "service_uids")
    assert uids() == before, r
