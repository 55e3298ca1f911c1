"""Where headgate listens besides ports: Unix sockets, and sockets that systemd passes; and the public ports of redirects."""
import stat

from headgate import *

ROUTES = "routes: { /: { respond: hello } }"
SITE = f"sites:\n  s: {{ host: localhost, https: both, redirect_from: [old.localhost], {ROUTES} }}\n"


def listens(http="off", https="off"):
    return {"listen": f"{{ http: {http}, https: {https} }}"}


def open_folder(t):
    """A folder that the server may write to, whoever it runs as."""
    path = t.path("sockets")
    os.makedirs(path)
    os.chmod(path, 0o777)
    return path


# --- Unix sockets

@case(both=True)
def test_unix_listener(t):
    """Served for HTTP and HTTPS by all workers; open to who may enter the folder; gone after the stop."""
    d = open_folder(t)
    gate = t.headgate(SITE, top=listens(f'["unix:{d}/http"]', f'"unix:{d}/https"'))
    for _ in range(8):
        with Conn(f"{d}/http") as c:
            assert c.get("/").body == b"hello"
        with Conn(f"{d}/https", tls=tls_context(gate.ca), sni="localhost") as c:
            assert c.get("/").body == b"hello"
    for name in ("http", "https"):
        assert stat.S_IMODE(os.stat(f"{d}/{name}").st_mode) == 0o666
    assert gate.stop() == 0
    assert os.listdir(d) == []


@case()
def test_unix_client_in_log_and_fields(t):
    """A client by a Unix socket has no address: "unix" in the access log, RFC 7239's "unknown", and the public port."""
    d, b = open_folder(t), t.backend()
    gate = t.headgate(proxy_site(b.url), top={"listen": f'{{ http: "unix:{d}/s", https: off, public: {{ http: 8080 }} }}'})
    with Conn(f"{d}/s") as c:
        h = {n.lower(): v for n, v in json.loads(c.get("/").body)["headers"]}
    assert h["x-forwarded-for"] == "unix" and h["x-forwarded-port"] == "8080", h
    assert h["forwarded"].startswith("for=unknown;proto=http"), h
    gate.wait_log('"client":"unix"')


@case()
def test_unix_stale_file_is_replaced(t):
    """A socket file that nobody listens at, as after kill -9, is in nobody's way."""
    d = open_folder(t)
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(f"{d}/s")
    t.headgate(SITE, top=listens(f'"unix:{d}/s"'))
    with Conn(f"{d}/s") as c:
        assert c.get("/").body == b"hello"


def occupied(d):
    s = socket.socket(socket.AF_UNIX)
    s.bind(f"{d}/s")
    s.listen()
    return s


@table([Row("in_use", make=lambda d: occupied(d), path="s", says="another program listens there"),
        Row("a_file", make=lambda d: open(f"{d}/s", "w").close(), path="s", says="that is no socket; remove it"),
        Row("no_folder", make=lambda d: None, path="none/s", says="there is no folder"),
        Row("too_long", make=lambda d: None, path="x" * 200, says="too long"),
        Row("relative", make=lambda d: None, path=None, says="has no absolute path")], open_folder)
def test_unix_errors(t, d, row):
    """What is wrong with a path is said in words, with the place; what lies there is not touched."""
    held = row.make(d)
    before = os.listdir(d)
    path = f"{d}/{row.path}" if row.path else "here"
    gate = t.unstarted(SITE, top=listens(f'"unix:{path}"'), name=row.name).spawn()
    assert gate.wait_exit() == 1
    assert row.says in gate.log() and "headgate.yaml:4:" in gate.log(), gate.log()
    assert os.listdir(d) == before
    if os.path.exists(f"{d}/s"):
        os.unlink(f"{d}/s")
    if held:
        held.close()


@case()
def test_unix_reload(t):
    """A path that comes, changes its kind and goes by reload; one that a refused reload wanted is as it was."""
    d = open_folder(t)
    gate = t.headgate(SITE, workers=1)
    port = '"127.0.0.1:%d"' % gate.http
    gate.reload_ok(SITE, listens(f'[{port}, "unix:{d}/s"]'))
    with Conn(f"{d}/s") as c:
        assert c.get("/").body == b"hello"
    gate.reload_ok(SITE, listens(port, f'"unix:{d}/s"'))
    with Conn(f"{d}/s", tls=tls_context(gate.ca), sni="localhost") as c:
        assert c.get("/").body == b"hello"
    refused = gate.reload(SITE, listens(f'[{port}, "unix:{d}/s"]', f'"unix:{d}/none/s"'))
    assert refused.returncode == 1 and "there is no folder" in refused.stdout + refused.stderr, refused
    with Conn(f"{d}/s", tls=tls_context(gate.ca), sni="localhost") as c:
        assert c.get("/").body == b"hello"
    gate.reload_ok(SITE, listens(port))
    assert os.listdir(d) == []


# --- sockets from systemd

def activated(t, sockets, listen, config=SITE, **kw):
    """A server to be started by systemd-socket-activate, which waits for the first connection. sockets: (name, address)."""
    gate = t.unstarted(config, top=listens(**listen), **kw)
    gate.wrap = ["systemd-socket-activate", "-E", "NOTIFY_SOCKET", "-E", "ASAN_OPTIONS",
                 "--fdname=" + ":".join(name for name, _ in sockets), *[f"--listen={a}" for _, a in sockets]]
    return gate.spawn()


def connect(addr, **kw):
    """A connection as soon as somebody listens there."""
    def probe():
        try:
            return Conn(addr, guard=60, **kw)
        except OSError:
            return None
    return wait_for(f"a listener at {addr}", probe)


@case(both=True)
def test_socket_activation(t):
    """TCP and Unix sockets by name, HTTP and HTTPS; the very connection that started the server is served."""
    d, http, https = open_folder(t), t.port(), t.port()
    gate = activated(t, [("web", f"127.0.0.1:{http}"), ("tls", f"127.0.0.1:{https}"), ("front", f"{d}/s")],
                     dict(http="[fd:web, fd:front]", https="fd:tls"))
    with connect(("127.0.0.1", http)) as c:
        assert c.get("/").body == b"hello"
    wait_for("READY=1", lambda: gate.notify.has("READY=1"))
    with Conn(f"{d}/s") as c:
        assert c.get("/").body == b"hello"
    with Conn(("127.0.0.1", https), tls=tls_context(gate.ca), sni="localhost") as c:
        assert c.get("/").body == b"hello"
    assert {l["address"] for l in gate.status()["listeners"]} == {"fd:web", "fd:tls", "fd:front"}


@case()
def test_socket_activation_shared(t):
    """One given socket is shared by all workers, and lent on when one dies; two of one name are both served."""
    one, two = t.port(), t.port()
    gate = activated(t, [("web", f"127.0.0.1:{one}"), ("web", f"127.0.0.1:{two}")], dict(http="fd:web"), workers=2)
    connect(("127.0.0.1", one)).close()
    wait_for("READY=1", lambda: gate.notify.has("READY=1"))
    workers = gate.wait_workers()
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
        for port in (one, two):
            with Conn(("127.0.0.1", port)) as c:
                assert c.get("/").body == b"hello"
        os.kill(pid, signal.SIGCONT)
    os.kill(workers[0], signal.SIGKILL)
    for _ in range(20):
        for port in (one, two):
            with Conn(("127.0.0.1", port)) as c:
                assert c.get("/").body == b"hello"
    gate.wait_workers(without=workers[:1])


@case()
def test_socket_activation_reload(t):
    """A given socket may leave the configuration and come back: who connects in between waits in its queue."""
    one, two = t.port(), t.port()
    gate = activated(t, [("a", f"127.0.0.1:{one}"), ("b", f"127.0.0.1:{two}")], dict(http="[fd:a, fd:b]"))
    connect(("127.0.0.1", two)).close()
    wait_for("READY=1", lambda: gate.notify.has("READY=1"))
    gate.reload_ok(SITE, listens("fd:a"))
    with Conn(("127.0.0.1", two)) as c:
        c.request("GET", "/", "localhost")
        assert c.still_open()
        r = gate.reload(SITE, listens("[fd:a, fd:c]"))
        assert r.returncode == 1 and "passed no socket of this name; it passed `a`, `b`" in r.stdout + r.stderr, r
        gate.reload_ok(SITE, listens("[fd:a, fd:b]"))
        assert c.answer().body == b"hello"


def datagram(t):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(("127.0.0.1", 0))
    return s


def unbound(t):
    return socket.socket(socket.AF_INET, socket.SOCK_STREAM)


@table([Row("not_passed", fd=None, says="passed none at all (LISTEN_FDS)"),
        Row("misspelt", fd=lambda t: occupied(t.path()), fdname="wbe", says="it passed `wbe`"),
        Row("datagram", fd=datagram, fdname="web", says="is not a stream of TCP or Unix (ListenStream=)"),
        Row("no_listener", fd=unbound, fdname="web", says="is one connection, not a listener (Accept=no)"),
        Row("no_socket", fd=lambda t: open("/dev/null"), fdname="web", says="is no socket")], lambda t: None)
def test_socket_activation_errors(t, _, row):
    """A socket that is missing, or is no listener, is an error in words with its place."""
    gate = t.unstarted(SITE, top=listens("fd:web"), name=row.name)
    if row.fd:
        with row.fd(t) as given:
            code = ("import os, sys; os.dup2(%d, 3, True); os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()), "
                    "LISTEN_FDNAMES='%s'); os.execv(sys.argv[1], sys.argv[1:])" % (given.fileno(), row.fdname))
            gate.wrap, gate.pass_fds = [PYTHON, "-c", code], [given.fileno()]
            gate.spawn()
    else:
        gate.spawn()
    assert gate.wait_exit() == 1
    assert row.says in gate.log() and "headgate.yaml:4:" in gate.log(), gate.log()


# --- public ports

@table([Row("http_to_https", host="localhost", secure=False, want="https://localhost:8443/x"),
        Row("name_by_http", host="old.localhost", secure=False, want="https://localhost:8443/x"),
        Row("name_by_https", host="old.localhost", secure=True, want="https://localhost:8443/x")],
       lambda t: t.headgate(SITE))
def test_public_ports(t, gate, row):
    """Redirects name the public port and not the one listened on; which a reload changes, and the usual one is left out."""
    def location(public):
        gate.reload_ok(SITE.replace("both", "redirect"), {"listen": gate.listen()[:-2] + f", public: {public} }}"})
        return gate.get("/x", row.host, secure=row.secure).get("location")
    assert location("{ http: 8080, https: 8443 }") == row.want
    assert location("{ https: 443 }") == row.want.replace(":8443", "")


@case()
def test_public_port_of_plain_redirects(t):
    """Where a site is served by both, a redirect of plain HTTP stays plain, at the public port of HTTP."""
    gate = t.headgate(SITE)
    gate.reload_ok(SITE, {"listen": gate.listen()[:-2] + ", public: { http: 8080, https: 8443 } }"})
    assert gate.get("/x", "old.localhost", secure=False).get("location") == "http://localhost:8080/x"
    assert gate.get("/x", "old.localhost").get("location") == "https://localhost:8443/x"
