"""`tls.issuer: passthrough`: connections told apart by the name in their ClientHello, and passed on with TLS unopened."""
import base64
import hashlib

from chromium import Chromium
from headgate import *
from raw_peers import RawBackend, echo, read_exactly
from test_metrics import Scrape
from tls_backends import Authority, TlsBackend
from wire import turned_away

HELLOS = os.path.join(ROOT, "tests", "fuzz", "corpus", "hello")


def site(url, extra="", name="p", host="pass.localhost", route_extra="", service_extra=""):
    return (f"  {name}:\n    host: \"{host}\"\n    tls: {{ issuer: passthrough }}\n{extra}    services:\n      web: {{ url: \"{url}\"{service_extra} }}\n"
            f"    routes: {{ /: {{ proxy: web{route_extra} }} }}\n")


OWN = "  own: { host: own.localhost, routes: { /: { respond: own } } }\n"


class Gate:
    """A site whose TLS ends at the gate, and one whose TLS does not, on one address."""

    def __init__(self, t, backend=None, workers=1, config=None, **kw):
        self.t = t
        self.authority = Authority(t)
        self.leaf = self.authority.leaf("pass.localhost")
        self.backend = backend(self) if backend else TlsBackend(*self.leaf)
        t.defer(self.backend.close)
        self.gate = t.headgate("sites:\n" + OWN + (config(self) if config else site(f"http://127.0.0.1:{self.backend.port}")), workers=workers, **kw)

    def through(self, sni="pass.localhost", **kw):
        return Conn(("127.0.0.1", self.gate.https), tls=tls_context(self.authority.cert, **kw), sni=sni)

    def lines(self):
        return [json.loads(x) for x in self.gate.log().splitlines() if x.startswith('{"ts"') and '"kind":"stream"' in x]

    def line(self, **want):
        return wait_for(f"an access line with {want}, not {self.lines()}",
                        lambda: next((x for x in self.lines() if all(x.get(k) == v for k, v in want.items())), None))


# ---- who gets it

@case(both=True)
def test_curl(t):
    """curl --resolve --cacert: the service's own certificate is what the client sees; the neighbour has the gate's."""
    g = Gate(t, workers=2)
    port = g.gate.https
    r = t.run(["curl", "-sS", "--noproxy", "*", "--cacert", g.authority.cert, "--resolve", f"pass.localhost:{port}:127.0.0.1",
               f"https://pass.localhost:{port}/where?x=1"])
    assert r.returncode == 0 and json.loads(r.stdout)["target"] == "/where?x=1", (r.stdout, r.stderr)
    assert g.gate.curl("--resolve", f"own.localhost:{port}:127.0.0.1", f"https://own.localhost:{port}/").stdout == "own"
    assert g.backend.names == ["pass.localhost"]
    line = g.line(host="pass.localhost")
    assert line["status"] == 200 and line["service"] == "p/web" and line["address"] == f"127.0.0.1:{port}", line
    assert line["bytes_in"] > 200 and line["bytes_out"] > 500 and "tls" not in line, line


@case()
def test_requests(t):
    """What HTTP does on such a connection is the service's affair: large bodies both ways, a kept connection, resumption."""
    g = Gate(t)
    body = bytes(range(256)) * 40000
    with g.through() as c:
        a = json.loads(c.get("/a", "pass.localhost", method="POST", body=body).body)
        assert a["size"] == len(body) and a["sha256"] == hashlib.sha256(body).hexdigest()
        assert c.get("/b", "pass.localhost").status == 200
        session = c.sock.session
    with Conn(("127.0.0.1", g.gate.https), tls=c.sock.context, sni="pass.localhost", session=session) as again:
        assert again.get("/", "pass.localhost").status == 200
        assert again.sock.session_reused


@case()
def test_alpn(t):
    """ALPN is between client and service: what the gate itself would choose does not matter."""
    def backend(g):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*g.leaf)
        context.set_alpn_protocols(["mqtt", "h2"])
        return RawBackend(t, tls=context)
    g = Gate(t, backend)
    for offered, chosen in ((["http/1.1", "h2"], "h2"), (["mqtt"], "mqtt"), (None, None)):
        with g.through(alpn=offered) as c:
            assert c.sock.selected_alpn_protocol() == chosen
            c.send(b"x")
            assert c.read() == b"x"


@case()
def test_http_redirects(t):
    """Plain HTTP for such a host is redirected as for any other."""
    g = Gate(t)
    with g.gate.plain() as c:
        a = c.get("/x?y", "pass.localhost")
        assert a.status == 308 and a.get("location") == "https://pass.localhost/x?y", a


@case()
def test_misdirected(t):
    """A request for it on a connection that the gate opened: 421, the client comes again by itself (RFC 9110 15.5.20)."""
    g = Gate(t)
    with g.gate.tls("own.localhost") as c:
        assert c.get("/", "pass.localhost").status == 421
        assert c.get("/", "own.localhost").body == b"own"
    assert g.backend.handshakes == 0


@case()
def test_names(t):
    """Aliases, wildcards of one label, upper case, a dot at the end; "*" takes the rest, and who names nobody."""
    a, b = RawBackend(t, lambda s: s.sendall(b"a")), RawBackend(t, lambda s: s.sendall(b"b"))
    config = "sites:\n" + OWN + site(a.url, "    aliases: [also.localhost]\n", "a", "*.a.localhost") + site(b.url, "", "b", "*")
    gate = t.headgate(config, workers=1)
    for sni, got in (("x.a.localhost", b"a"), ("X.A.localhost", b"a"), ("also.localhost", b"a"), ("also.localhost.", b"a"),
                     ("x.y.a.localhost", b"b"), ("a.localhost", b"b"), ("else.example", b"b"), (None, b"b")):
        sock = socket.create_connection(("127.0.0.1", gate.https), timeout=60)
        sock.sendall(hello(sni))
        assert read_all_reset(sock) == got, sni
        sock.close()
    with gate.tls("own.localhost") as c:
        assert c.get("/", "own.localhost").body == b"own"


def read_all_reset(sock):
    """What came, whether the end was in order or not."""
    out = b""
    try:
        while piece := sock.recv(65536):
            out += piece
    except ConnectionResetError:
        pass
    return out


# ---- how the hello comes

def hello(sni, alpn=None):
    context = tls_context(None, alpn=alpn)
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(into, out, server_hostname=sni)
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return out.read()


def recut(data, size):
    """The same message in records of `size` bytes."""
    pieces = [data[i:i + size] for i in range(5, len(data), size)]
    return b"".join(b"\x16\3\1" + len(p).to_bytes(2, "big") + p for p in pieces)


def stored(name):
    with open(os.path.join(HELLOS, name), "rb") as f:
        return f.read()


LONG = ["%03d" % i + "x" * 200 for i in range(60)]        # 12 KiB of ALPN
SHAPES = [
    Row("whole", data=lambda: hello("pass.localhost"), step=0),
    Row("a_byte_at_a_time", data=lambda: hello("pass.localhost"), step=1),
    Row("records", data=lambda: recut(hello("pass.localhost"), 11), step=0),
    Row("records_and_segments", data=lambda: recut(hello("pass.localhost"), 11), step=7),
    Row("long", data=lambda: hello("pass.localhost", LONG), step=0),
    Row("long_in_segments", data=lambda: hello("pass.localhost", LONG), step=1000),
    Row("post_quantum_grease_ech", data=lambda: stored("chromium"), step=0),
    Row("post_quantum_in_segments", data=lambda: stored("chromium"), step=500),
    Row("more_behind", data=lambda: hello("pass.localhost") + b"\x17\3\3\0\5early", step=0),
]


class Recorder:
    def __init__(self, t):
        self.backend = RawBackend(t, self.behave)
        self.gate = t.headgate("sites:\n" + OWN + site(self.backend.url), workers=1)
        self.want = 0

    def behave(self, sock):
        sock.sendall(hashlib.sha256(read_exactly(sock, self.want)).digest())
        echo(sock)


@table(SHAPES, Recorder)
def test_bytes_pass_as_they_came(_, s, row):
    """However the hello is cut, the service gets exactly the bytes that the client sent; then both go on."""
    data = row.data()
    s.want = len(data)
    with Conn(("127.0.0.1", s.gate.https)) as c:
        step = row.step or len(data)
        for i in range(0, len(data), step):
            c.send(data[i:i + step])
        got = []
        c.exactly(32, got.append)
        assert b"".join(got) == hashlib.sha256(data).digest()
        c.send(b"and more")
        c.exactly(8, got.append)


class Opened:
    def __init__(self, t):
        self.gate = t.headgate("sites:\n" + OWN + site(f"http://127.0.0.1:{t.port()}"), workers=1)


class Cut:
    """A socket that sends what it is given in pieces."""

    def __init__(self, port, step, split):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.step, self.split, self.first = step, split, True

    def send(self, data):
        if self.first and self.split:
            data = recut(data, self.split)
        self.first = False
        for i in range(0, len(data), self.step):
            self.sock.sendall(data[i:i + self.step])


OPENED = [Row("whole", step=1 << 20, split=0, alpn=None), Row("bytes", step=1, split=0, alpn=None), Row("records", step=1 << 20, split=9, alpn=None),
          Row("both", step=5, split=9, alpn=None), Row("long", step=3000, split=0, alpn=["http/1.1"] + LONG), Row("too_long", step=1 << 20, split=0,
    alpn=["http/1.1"] + LONG + ["z" * 250] * 30)]


@table(OPENED, Opened)
def test_others_are_opened(_, s, row):
    """A neighbour's handshake goes on with what was read already, however it came; one longer than is looked at, too."""
    link = Cut(s.gate.https, row.step, row.split)
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = tls_context(s.gate.ca, alpn=row.alpn).wrap_bio(into, out, server_hostname="own.localhost")

    def do(what, *args):
        while True:
            try:
                got = what(*args)
                if data := out.read():
                    link.send(data)
                return got
            except ssl.SSLWantReadError:
                if data := out.read():
                    link.send(data)
                data = link.sock.recv(65536)
                assert data, "the gate hung up"
                into.write(data)
    do(tls.do_handshake)
    do(tls.write, b"GET / HTTP/1.1\r\nHost: own.localhost\r\nConnection: close\r\n\r\n")
    assert do(tls.read, 65536).startswith(b"HTTP/1.1 200 ")
    link.sock.close()


@case()
def test_hello_retry(t):
    """A client whose key share the gate cannot use is asked again; its second hello is nobody's affair but TLS's."""
    gate = t.headgate("sites:\n" + OWN + site(f"http://127.0.0.1:{t.port()}"), workers=1)
    r = t.run(["openssl", "s_client", "-connect", f"127.0.0.1:{gate.https}", "-servername", "own.localhost", "-CAfile", gate.ca,
               "-verify_return_error", "-groups", "P-384:P-256", "-msg"], input="")
    assert r.returncode == 0 and r.stdout.count(", ClientHello") == 2, (r.stdout[-2000:], r.stderr)


WRONG = [
    Row("http", data=b"GET / HTTP/1.1\r\nHost: pass.localhost\r\n\r\n"),
    Row("garbage", data=bytes(range(256)) * 4),
    Row("alert", data=b"\x15\3\1\0\2\2\x28"),
    Row("no_name", data=hello(None)),
    Row("unknown_name", data=hello("nobody.localhost")),
    Row("a_name_too_many", data=b"\x16\3\1\0\x4d\1\0\0\x49\3\3" + bytes(32) + b"\0\0\2\x13\1\1\0\0\x1e" + b"\0\0\0\x0b\0\x09\0\0\6a.test" * 2),
]


@table(WRONG, Recorder)
def test_refused(_, s, row):
    """What names no site of ours is answered by TLS itself, and never reaches the service."""
    s.want = 1
    with Conn(("127.0.0.1", s.gate.https)) as c:
        c.send(row.data)
        got = b""
        while piece := c.read():
            got += piece
        assert not got or got[0] == 0x15, got       # an alert
    assert s.backend.accepted == 0


@case()
def test_slow_hello(t):
    """Who begins and does not go on is closed in time; so is who says nothing at all."""
    g = Gate(t, top={"timeouts": "{ handshake: 500ms }"})
    data = hello("pass.localhost")
    with Conn(("127.0.0.1", g.gate.https)) as c, Conn(("127.0.0.1", g.gate.https)) as silent:
        c.send(data[:100])
        assert c.at_end() and silent.at_end()
    with Conn(("127.0.0.1", g.gate.https)) as c:        # hangs up in the middle
        c.send(data[:100])
    with g.through() as c:
        assert c.get("/", "pass.localhost").status == 200


@case()
def test_chromium(t):
    """A real browser, with whatever it says first today."""
    g = Gate(t)
    key = subprocess.run(["openssl", "x509", "-in", g.leaf[0], "-pubkey", "-noout"], check=True, stdout=subprocess.PIPE).stdout
    der = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "DER"], input=key, check=True, stdout=subprocess.PIPE).stdout
    folder = t.path("browser")
    os.makedirs(folder)
    browser = Chromium(folder, base64.b64encode(hashlib.sha256(der).digest()).decode())
    t.defer(browser.close)
    browser.call("Page.navigate", url=f"https://pass.localhost:{g.gate.https}/from-the-browser")
    wait_for("the request", lambda: any(r.target == "/from-the-browser" for r in list(g.backend.requests)))
    assert "pass.localhost" in g.backend.names


# ---- the service

@case()
def test_proxy_protocol(t):
    """The header goes before the TLS that is passed on."""
    seen = []

    def backend(g):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*g.leaf)

        def behave(sock):
            line = b""
            while not line.endswith(b"\r\n"):
                line += read_exactly(sock, 1)
            seen.append(line)
            with context.wrap_socket(sock, server_side=True) as tls:
                echo(tls)
        return RawBackend(t, behave)
    g = Gate(t, backend, config=lambda g: site(g.backend.url, route_extra=", proxy_protocol: v1"))
    with g.through(alpn=None) as c:
        own = c.sock.getsockname()[1]
        c.send(b"x")
        assert c.read() == b"x"
    assert seen == [b"PROXY TCP4 127.0.0.1 127.0.0.1 %d %d\r\n" % (own, g.gate.https)], seen


@case()
def test_behind_a_balancer(t):
    """A header of the PROXY protocol comes in front of the hello, in one segment: who it names is told to the service."""
    b = RawBackend(t, lambda sock: sock.sendall(read_exactly(sock, 44)))
    gate = t.headgate("sites:\n" + OWN + site(b.url, route_extra=", proxy_protocol: v1"), workers=1, top={"proxy_protocol": '["127.0.0.1/32"]'})
    with Conn(("127.0.0.1", gate.https)) as c:
        c.send(b"PROXY TCP4 192.0.2.7 198.51.100.1 1234 443\r\n" + hello("pass.localhost"))
        assert c.line() == b"PROXY TCP4 192.0.2.7 198.51.100.1 1234 443"
    gate.wait_log('"kind":"stream"', '"client":"192.0.2.7"')
    with Conn(("127.0.0.1", gate.https)) as c:
        c.send(b"PROXY TCP4 192.0.2.7 198.51.100.1 1234 443\r\n")
        c.sock = tls_context(gate.ca).wrap_socket(c.sock, server_hostname="own.localhost", suppress_ragged_eofs=False)
        assert c.get("/", "own.localhost").body == b"own"


@case()
def test_shares_the_limits(t):
    """Who has not said yet what it wants counts too, for its address and among all."""
    b = RawBackend(t)
    gate = t.headgate("sites:\n" + OWN + site(b.url), workers=1, top={"limits": "{ per_ip: 2 }", "timeouts": "{ handshake: 1m }"})
    with Conn(("127.0.0.1", gate.https)) as silent, Conn(("127.0.0.1", gate.https)) as passed:
        passed.send(hello("pass.localhost"))
        assert passed.read()
        assert turned_away(gate.https)
        silent.close()
        wait_for("room again", lambda: fits(gate))


def fits(gate):
    try:
        with Conn(("127.0.0.1", gate.https)) as c:
            return c.try_send(hello("pass.localhost")) and bool(c.read())
    except ConnectionResetError:
        return False


@case()
def test_https_url(t):
    """https:// in the url is only where the service is: no second TLS, and no certificate of it is checked here."""
    g = Gate(t, config=lambda g: site(f"https://127.0.0.1:{g.backend.port}"))
    with g.through() as c:
        assert c.get("/", "pass.localhost").status == 200


@case()
def test_reload(t):
    """A site becomes one, and is none any more, under live connections."""
    g = Gate(t, workers=2)
    passed, opened = g.through(), g.gate.tls("own.localhost")
    assert passed.get("/", "pass.localhost").status == 200 and opened.get("/", "own.localhost").body == b"own"
    plain = "sites:\n" + OWN + "  p: { host: pass.localhost, routes: { /: { respond: mine } } }\n"
    told = g.gate.reload_ok(plain).stdout
    assert "site p: changed" in told, told
    wait_for("the certificate of the local CA", lambda: g.gate.get("/", "pass.localhost").body == b"mine")
    assert passed.get("/", "pass.localhost").status == 200 and opened.get("/", "own.localhost").body == b"own"
    g.gate.reload_ok("sites:\n" + OWN + site(f"http://127.0.0.1:{g.backend.port}"))
    with g.through() as c:
        assert c.get("/", "pass.localhost").status == 200
    assert passed.get("/", "pass.localhost").status == 200 and opened.get("/", "own.localhost").body == b"own"
    assert opened.get("/", "pass.localhost").status == 421
    passed.close(), opened.close()


@case()
def test_nobody_there(t):
    """No instance: the connection is closed; TLS of our own would be a lie."""
    g = Gate(t, config=lambda g: site(f"http://127.0.0.1:{t.port()}"))
    with Conn(("127.0.0.1", g.gate.https)) as c:
        c.send(hello("pass.localhost"))
        assert c.at_end()
    assert g.line(host="pass.localhost")["status"] == 502


@case()
def test_counted(t):
    """They count as streams, at their https listener."""
    metrics = t.port()
    g = Gate(t, top={"metrics": f'"127.0.0.1:{metrics}"'})

    def scrape():
        with Conn(("127.0.0.1", metrics)) as c:
            return Scrape(c.get("/metrics").body.decode())
    address = f"127.0.0.1:{g.gate.https}"
    with g.through() as c:
        assert c.get("/", "pass.localhost").status == 200
        s = scrape()
        assert s.sum("headgate_connections", protocol="tcp") == 1
        assert s.get("headgate_listener_connections", kind="https", address=address) == 1
        assert s.get("headgate_stream_received_bytes_total", kind="https", address=address) > 200
    wait_for("the gauge to fall", lambda: scrape().get("headgate_listener_connections", kind="https", address=address) == 0)


@case()
def test_stop(t):
    """A stop leaves them the time that it has."""
    g = Gate(t, top={"timeouts": "{ shutdown: 10m }"})
    with g.through() as c:
        assert c.get("/", "pass.localhost").status == 200
        g.gate.proc.send_signal(signal.SIGTERM)
        g.gate.wait_log("stopping")
        assert c.get("/", "pass.localhost").status == 200
    assert g.gate.wait_exit() == 0
