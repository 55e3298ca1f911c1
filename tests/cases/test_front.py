"""What stands before a connection's first byte: limits.per_ip over all workers, and the PROXY protocol."""
import struct

import h2wire
import test_passthrough as passthrough
from headgate import *
from raw_peers import RawBackend, read_exactly
from test_metrics import Scrape
from test_streams import show_header, streams
from test_streams import site as stream_site
from wire import Truncated, turned_away

FOR = "X-Forwarded-For"
RESPOND = "sites: { s: { host: localhost, https: both, routes: { /: { respond: hello } } } }\n"
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


class Watched:
    """A gate with metrics, and connections that are held open."""

    def __init__(self, t, config=RESPOND, top=None, **kw):
        self.t, self.held, self.port, self.config = t, [], t.port(), config
        self.gate = t.headgate(config, top={"metrics": f'"127.0.0.1:{self.port}"', **(top or {})}, **kw)

    def reload(self, **top):
        self.gate.reload_ok(self.config, top=top)

    def metric(self, name, **labels):
        with Conn(("127.0.0.1", self.port)) as c:
            return Scrape(c.get("/metrics").body.decode()).get(name, **labels)

    def connections(self):
        """Of every kind; the one that asks is one of them."""
        with Conn(("127.0.0.1", self.port)) as c:
            return Scrape(c.get("/metrics").body.decode()).sum("headgate_connections")

    def refused(self, reason):
        return self.metric("headgate_connections_refused_total", reason=reason)

    def come(self, secure=False, **kw):
        """A connection that answered a request and stays, or None: it was turned away."""
        try:
            c = self.gate.tls(**kw) if secure else Conn(("127.0.0.1", self.gate.http), **kw)
        except OSError:
            return None
        self.t.defer(c.close)
        try:
            assert c.get("/").status == 200
        except (OSError, Truncated):
            return None
        self.held.append(c)
        return c

    def fill(self, n, **kw):
        assert all([self.come(**kw) for _ in range(n)])


# --- per_ip

@case(both=True)
def test_per_ip(t):
    """As many as the limit over all workers, plain and TLS together; the next one is reset before TLS; others come in; one that goes makes room."""
    w = Watched(t, top={"limits": "{ per_ip: 4 }"})
    w.fill(2, source="127.0.0.2")
    w.fill(2, source="127.0.0.2", secure=True)
    for secure in (False, True, False):
        assert w.come(source="127.0.0.2", secure=secure) is None
    assert w.refused("per_ip") == 3
    w.fill(4, source="127.0.0.3")
    w.gate.wait_log("limits.per_ip", '"client":"127.0.0.2"', '"limit":4')
    assert sum("limits.per_ip" in line for line in w.gate.log().splitlines()) <= 2, "one line a worker is enough"
    w.held[0].close()
    wait_for("room for another one", lambda: w.come(source="127.0.0.2"))
    assert w.come(source="127.0.0.2") is None


@case()
def test_per_ip_h2_streams_are_no_connections(t):
    w = Watched(t, top={"limits": "{ per_ip: 1 }"})
    with h2wire.h2(w.gate) as c:
        ids = [c.request("GET", "/") for _ in range(20)]
        assert all(int(c.answer(i).status) == 200 for i in ids)
        assert w.come() is None


@case()
def test_per_ip_dead_worker(t):
    """kill -9 of a worker: what it had counted is gone with it, and what the others have is not."""
    w = Watched(t, top={"limits": "{ per_ip: 30 }"}, workers=3)
    t.crashes = True
    for _ in range(2):
        w.held = []
        wait_for("the limit", lambda: w.come(source="127.0.0.2") is None)
        assert len(w.held) == 30, len(w.held)
        old = w.gate.workers()
        os.kill(old[0], signal.SIGKILL)
        w.gate.wait_workers(without=old[:1])
        alive = sum(c.still_open(0.05) for c in w.held)
        left = 30 - alive
        assert left > 0, "thirty connections, and none of them at one of three workers"
        wait_for("room for those that died", lambda: (w.come(source="127.0.0.2"), len(w.held) == 30 + left)[1])
        assert w.come(source="127.0.0.2") is None
        for c in w.held:
            c.close()


@case()
def test_per_ip_replaced_workers(t):
    """Connections of a worker that drains are counted until they end."""
    b = t.backend()
    w = Watched(t, proxy_site(b.url), top={"limits": "{ per_ip: 2 }"}, workers=2)
    c = Conn(("127.0.0.1", w.gate.http), source="127.0.0.2")
    t.defer(c.close)
    c.request("GET", "/silent", "localhost")        # under way until it is closed
    wait_for("the request at the backend", lambda: b.requests)
    w.reload(workers="1")
    w.gate.workers_wanted = 1
    w.fill(1, source="127.0.0.2")
    assert w.come(source="127.0.0.2") is None
    c.close()
    wait_for("room for another one", lambda: w.come(source="127.0.0.2"))


EXEMPT = [
    ("trusted_proxies", {"trusted_proxies": "[127.0.0.2]"}, "127.0.0.2", 6),
    ("trusted_network", {"trusted_proxies": "[127.0.0.0/8]"}, "127.0.0.2", 6),
    ("trusted_others", {"trusted_proxies": "[10.0.0.0/8]"}, "127.0.0.2", 2),
    ("no_limit", {"limits": "{ per_ip: 0 }"}, "127.0.0.2", 6),
]


@table([Row(name, top=top, source=source, n=n) for name, top, source, n in EXEMPT], lambda t: None)
def test_per_ip_exempt(t, _, row):
    w = Watched(t, top={"limits": "{ per_ip: 2 }", **row.top}, name=row.name)
    w.fill(row.n, source=row.source)
    assert row.n == 6 or w.come(source=row.source) is None


@case()
def test_per_ip_unix_and_metrics(t):
    """Unix sockets have no addresses; metrics are no client's."""
    d = t.path("open")
    os.mkdir(d)
    os.chmod(d, 0o777)
    w = Watched(t, top={"limits": "{ per_ip: 2 }", "listen": f'{{ http: "unix:{d}/s", https: off }}'})
    for where in [f"{d}/s"] * 5 + [("127.0.0.1", w.port)] * 5:
        c = Conn(where)
        t.defer(c.close)
        assert c.get("/healthz" if isinstance(where, tuple) else "/").status == 200


@case()
def test_per_ip_reload(t):
    """The limit changes at once, and knows whom it did not count against before."""
    w = Watched(t, top={"limits": "{ per_ip: 0 }"})
    w.fill(3)
    w.reload(limits="{ per_ip: 3 }")
    assert w.come() is None
    w.reload(limits="{ per_ip: 5 }")
    w.fill(2)
    assert w.come() is None
    w.reload(limits="{ per_ip: 2 }")
    assert all(c.get("/").status == 200 for c in w.held), "who is in stays"
    for c in w.held[:3]:
        c.close()
    wait_for("the three to be gone", lambda: w.connections() <= 3)     # two, and the one that asks
    assert w.come() is None


@case()
def test_per_ip_flood(t):
    """Whoever connects for ever gets nothing, and nobody else feels it."""
    w = Watched(t, top={"limits": "{ per_ip: 5 }"})
    w.fill(5, source="127.0.0.66")
    assert all([turned_away(w.gate.http, source="127.0.0.66") for _ in range(1000)])
    w.fill(5, source="127.0.0.2")
    assert w.refused("per_ip") == 1000
    lines = sum("limits.per_ip" in line for line in w.gate.log().splitlines())
    assert lines <= 4, f"{lines} lines of log for 1000 connections"


# --- PROXY protocol

def v1(client="192.0.2.7", server="198.51.100.1", ports=(4711, 8443)):
    return f"PROXY TCP{6 if ':' in client else 4} {client} {server} {ports[0]} {ports[1]}\r\n".encode()


def v2(client="192.0.2.7", server="198.51.100.1", ports=(4711, 8443), command=1, tlvs=b"", family=None):
    kind = socket.AF_INET6 if ":" in client else socket.AF_INET
    body = socket.inet_pton(kind, client) + socket.inet_pton(kind, server) + struct.pack(">HH", *ports) + tlvs
    return SIGNATURE + bytes([0x20 | command, family or (0x21 if ":" in client else 0x11)]) + struct.pack(">H", len(body)) + body


def tlv(kind, value):
    return bytes([kind]) + struct.pack(">H", len(value)) + value


PROXIED = {"proxy_protocol": "[127.0.0.1]"}


class Named(Watched):
    """Behind it a backend that tells what it was told."""

    def __init__(self, t, top=None, **kw):
        self.backend = t.backend()
        super().__init__(t, proxy_site(self.backend.url), top={**PROXIED, **(top or {})}, **kw)

    def told(self, conn, headers=()):
        return dict((n.lower(), v) for n, v in json.loads(conn.get("/", headers=headers).body)["headers"])


HEADERS = [
    ("v1", v1(), "192.0.2.7", "8443"),
    ("v1_ipv6", v1("2001:db8::7", "2001:db8::1"), "2001:db8::7", "8443"),
    ("v1_unknown", b"PROXY UNKNOWN\r\n", "127.0.0.1", None),
    ("v2", v2(), "192.0.2.7", "8443"),
    ("v2_ipv6", v2("2001:db8::7", "2001:db8::1"), "2001:db8::7", "8443"),
    ("v2_mapped", v2("::ffff:192.0.2.7", "::ffff:198.51.100.1"), "192.0.2.7", "8443"),
    ("v2_local", v2(command=0), "127.0.0.1", None),
    ("v2_local_empty", SIGNATURE + b"\x20\0\0\0", "127.0.0.1", None),
    ("v2_tlvs", v2(tlvs=tlv(1, b"h2") + tlv(2, b"localhost") + tlv(0x20, b"\1\0\0\0\0") + tlv(4, b"x" * 500)), "192.0.2.7", "8443"),
    ("v2_unspec", SIGNATURE + b"\x21\0\0\0", "127.0.0.1", None),
    ("v2_udp", v2(family=0x12), "127.0.0.1", None),
]


@table([Row(f"{name}/{how}", header=header, ip=ip, port=port, how=how) for name, header, ip, port in HEADERS for how in ("h1", "tls", "h2")], Named)
def test_proxy_header(t, w, row):
    """Whom the header names is the client, for the backend and in the log; plain, over TLS, over HTTP/2."""
    if row.how == "h2":
        with h2wire.H2(("127.0.0.1", w.gate.https), tls_context(w.gate.ca, alpn=("h2",)), first=row.header) as c:
            h = dict(json.loads(bytes(c.get("/").body))["headers"])
    else:
        with w.gate.tls(first=row.header) if row.how == "tls" else w.gate.plain(first=row.header) as c:
            h = w.told(c)
            assert w.told(c)["x-forwarded-for"] == row.ip, "for every request of the connection"
    port = row.port or str(w.gate.http if row.how == "h1" else w.gate.https)
    assert h["x-forwarded-for"] == row.ip and h["x-forwarded-port"] == port, h
    w.gate.wait_log(f'"client":"{row.ip}"')


@case()
def test_proxy_curl(t):
    """curl --haproxy-protocol, as a balancer would: HTTP/1.1 and HTTP/2."""
    w = Named(t)
    for args, version in (((w.gate.url("/"),), "--http1.1"), ((w.gate.url("/"),), "--http2"), ((f"http://127.0.0.1:{w.gate.http}/", "-H", "Host: localhost"), "--http1.1")):
        r = w.gate.curl("--haproxy-protocol", *args, version=version)
        assert r.returncode == 0 and json.loads(r.stdout)["method"] == "GET", (r.returncode, r.stderr)
    r = w.gate.curl(w.gate.url("/"))
    assert r.returncode != 0, "without a header it is not served"


@table([Row(f"{name}_{step}", header=header, step=step) for name, header in (("v1", v1()), ("v2", v2(tlvs=tlv(4, b"x" * 40)))) for step in (1, 5, 13, 1000)], Named)
def test_proxy_pieces(t, w, row):
    """The header cut anywhere, the request in the same segment: not a byte is lost."""
    whole = row.header + b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with w.gate.plain() as c:
        for i in range(0, len(whole), row.step):
            c.send(whole[i:i + row.step])
        h = dict((n.lower(), v) for n, v in json.loads(c.answer().body)["headers"])
    assert h["x-forwarded-for"] == "192.0.2.7", h


def crc32c(data):
    c = 0xffffffff
    for b in data:
        c ^= b
        for _ in range(8):
            c = c >> 1 ^ (0x82f63b78 if c & 1 else 0)
    return c ^ 0xffffffff


@case()
def test_proxy_crc(t):
    """A CRC32C is checked where there is one."""
    w = Named(t)
    zeroed = v2(tlvs=tlv(4, b"pad") + tlv(3, bytes(4)))
    good = zeroed[:-4] + struct.pack(">I", crc32c(zeroed))
    with w.gate.plain(first=good) as c:
        assert w.told(c)["x-forwarded-for"] == "192.0.2.7"
    with w.gate.plain(first=good[:-1] + bytes([good[-1] ^ 1])) as c:
        assert c.at_end()
    assert w.refused("proxy_protocol") == 1


HOSTILE = [
    ("no_header", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    ("tls_without_header", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(40)),
    ("v1_line_too_long", b"PROXY TCP4 " + b"1" * 200 + b"\r\n"),
    ("v1_bare_lf", v1().replace(b"\r\n", b"\n") + b"GET / HTTP/1.1\r\n\r\n"),
    ("v1_smuggled_second", b"PROXY TCP4 192.0.2.7 198.51.100.1 1 2 3\r\n"),
    ("v1_name_for_address", b"PROXY TCP4 localhost 198.51.100.1 1 2\r\n"),
    ("v2_length_65535", SIGNATURE + b"\x21\x11\xff\xff" + b"x" * 4000),
    ("v2_addresses_cut", SIGNATURE + b"\x21\x11\0\4\1\2\3\4"),
    ("v2_tlv_over_the_end", v2(tlvs=b"\1\xff\xff")),
    ("v2_version_9", SIGNATURE + b"\x91\x11\0\0"),
    ("v2_bad_command", v2(command=5)),
    ("zeros", bytes(64)),
    ("random", os.urandom(200).replace(b"P", b"x").replace(b"\r", b"x")),
]


@table([Row(name, data=data) for name, data in HOSTILE], Named)
def test_proxy_malformed(t, w, row):
    """Anything but a good header: closed without an answer, and counted."""
    before = w.refused("proxy_protocol")
    with w.gate.plain() as c:
        c.try_send(row.data)
        assert c.at_end()
    assert w.refused("proxy_protocol") == before + 1
    with w.gate.plain(first=v1()) as c:
        assert w.told(c)["x-forwarded-for"] == "192.0.2.7"


@case()
def test_proxy_log_is_no_flood(t):
    w = Named(t)
    for _ in range(300):
        with w.gate.plain() as c:
            c.try_send(b"nonsense")
    wait_for("all of them to be counted", lambda: w.refused("proxy_protocol") == 300)
    lines = [line for line in w.gate.log().splitlines() if "no good PROXY protocol header" in line]
    assert 1 <= len(lines) <= 4 and '"peer":"127.0.0.1"' in lines[0] and "does not begin with one" in lines[0], lines


@case()
def test_proxy_slow(t):
    """timeouts.handshake bounds it, whether nothing came or a part."""
    w = Named(t, top={"timeouts": "{ handshake: 300ms }"})
    for part in (b"", b"PROXY TCP4 192.0", v2()[:20]):
        with w.gate.plain() as c:
            if part:
                c.send(part)
            assert c.at_end()
    assert w.refused("proxy_protocol") == 3
    w.gate.wait_log("PROXY protocol", "in time")


@case()
def test_proxy_looks(t):
    """A balancer that only looks whether somebody listens is no trouble; one that leaves in the middle is."""
    w = Named(t)
    for _ in range(3):
        with w.gate.plain():
            pass
    with w.gate.plain(first=b"PROXY TCP4 "):
        pass
    wait_for("the half one to be counted", lambda: w.refused("proxy_protocol") == 1)
    wait_for("only the connection that asks", lambda: w.connections() == 1)


@case()
def test_proxy_from_strangers(t):
    """Who is not in the list is served as is; what looks like a header there is a bad request."""
    w = Named(t)
    with w.gate.tls(source="127.0.0.2") as c:
        assert w.told(c)["x-forwarded-for"] == "127.0.0.2"
    for header in (v1(), v2()):
        with w.gate.plain(source="127.0.0.2", first=header + b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n") as c:
            assert c.answer().status == 400
            assert c.at_end()
        try:
            with w.gate.tls(source="127.0.0.2", first=header):
                raise AssertionError("TLS behind a header that nobody asked for")
        except (ssl.SSLError, OSError):
            pass
    assert w.refused("proxy_protocol") == 0


@case()
def test_proxy_and_per_ip(t):
    """Counted is whom the header names (of IPv6 the /64), never the balancer; nor those whom it does not name."""
    w = Named(t, top={"limits": "{ per_ip: 2 }"})
    w.fill(2, first=v1("192.0.2.7"))
    assert w.come(first=v2("192.0.2.7")) is None
    assert w.come(first=v2("192.0.2.7"), secure=True) is None
    w.fill(1, first=v2("192.0.2.8"))
    w.fill(1, first=v2("2001:db8::1", "::1"))
    w.fill(1, first=v2("2001:db8::ffff", "::1"))
    assert w.come(first=v2("2001:db8::3", "::1")) is None
    w.fill(1, first=v2("2001:db8:0:1::1", "::1"))
    w.fill(4, first=v2(command=0))
    w.fill(2, source="127.0.0.2")
    assert w.come(source="127.0.0.2") is None
    assert w.refused("per_ip") == 4
    w.held[0].close()
    wait_for("room for another one", lambda: w.come(first=v2("192.0.2.7")))


@case()
def test_proxy_and_trusted_proxies(t):
    """A CDN in front of the balancer: the header names the CDN, which is trusted to name the client."""
    w = Named(t, top={"trusted_proxies": "[198.18.0.0/15]", "limits": "{ per_ip: 1 }"})
    for _ in range(3):
        c = w.gate.plain(first=v2("198.18.0.1"))
        t.defer(c.close)
        assert w.told(c, [(FOR, "6.6.6.6, 192.0.2.9")])["x-forwarded-for"] == "192.0.2.9"
    with w.gate.plain(first=v2("192.0.2.7")) as c:
        assert w.told(c, [(FOR, "6.6.6.6")])["x-forwarded-for"] == "192.0.2.7"


@case()
def test_proxy_and_rate_limit(t):
    w = Watched(t, RESPOND.replace("https: both", "https: both, rate_limit: { rate: 1/h, burst: 2 }"), top=PROXIED)
    for ip, want in (("192.0.2.1", 200), ("192.0.2.1", 200), ("192.0.2.1", 429), ("192.0.2.2", 200)):
        with w.gate.plain(first=v2(ip)) as c:
            assert c.get("/").status == want


@case()
def test_proxy_unix(t):
    """`unix` in the list: who comes by a Unix socket must send it too; without, it is served as is."""
    d = t.path("open")
    os.mkdir(d)
    os.chmod(d, 0o777)
    top = {"listen": f'{{ http: "unix:{d}/http", https: "unix:{d}/https" }}'}
    w = Named(t, top={**top, "proxy_protocol": '[0.0.0.0/0, "::/0"]'})
    with Conn(f"{d}/http") as c:
        assert w.told(c)["x-forwarded-for"] == "unix"
    w.reload(proxy_protocol="[unix]")
    with Conn(f"{d}/http", first=v2()) as c:
        assert w.told(c)["x-forwarded-for"] == "192.0.2.7"
    with Conn(f"{d}/https", first=v1(), tls=tls_context(w.gate.ca), sni="localhost") as c:
        assert w.told(c)["x-forwarded-for"] == "192.0.2.7"
    with Conn(f"{d}/http") as c:
        c.try_send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert c.at_end()


@case()
def test_proxy_reload(t):
    """On and off at a reload, for new connections; standing ones are not touched."""
    w = Named(t, top={"proxy_protocol": "off"})
    with w.gate.plain() as standing:
        assert w.told(standing)["x-forwarded-for"] == "127.0.0.1"
        w.reload(proxy_protocol="[127.0.0.0/8]")
        with w.gate.plain(first=v1()) as c:
            assert w.told(c)["x-forwarded-for"] == "192.0.2.7"
            w.reload(proxy_protocol="[]")
            assert w.told(c)["x-forwarded-for"] == "192.0.2.7"
        assert w.told(standing)["x-forwarded-for"] == "127.0.0.1"
    with w.gate.plain() as c:
        assert w.told(c)["x-forwarded-for"] == "127.0.0.1"


@case()
def test_proxy_stop(t):
    """A balancer's open connection without a header does not hold up a stop."""
    w = Named(t, top={"timeouts": "{ handshake: 100s, shutdown: 100s }"})
    with w.gate.plain() as c:
        wait_for("the connection", lambda: w.connections() == 2)
        assert w.gate.stop() == 0
        assert c.at_end()


@case()
def test_connections_that_wait_for_a_header_count(t):
    """limits.connections holds for them too."""
    w = Named(t, top={"limits": "{ connections: 4 }", "timeouts": "{ handshake: 100s }"}, workers=1)
    waiting = []
    for _ in range(8):
        waiting.append(w.gate.plain())
        t.defer(waiting[-1].close)
    wait_for("as many as may be", lambda: w.connections() == 5)        # and the one that asks
    with w.gate.plain(first=v1()) as c:
        c.request("GET", "/", "localhost")
        for w_ in waiting:
            w_.close()
        assert c.answer().status == 200


# --- streams stand behind the same front

class Stream:
    """A raw TCP stream, plain or with TLS, whose backend tells the header that it was sent."""

    def __init__(self, t, tls, top):
        self.backend, self.port, self.tls = RawBackend(t, show_header), t.port(), tls
        self.gate = t.headgate(streams(f'"127.0.0.1:{self.port}": {{ service: s/app, tls: {"on" if tls else "off"}, proxy_protocol: v1 }}')
                               + stream_site(f'"{self.backend.url}"'), top=top, workers=2, name="tls" if tls else "plain")

    def conn(self, **kw):
        if self.tls:
            kw |= {"tls": tls_context(self.gate.ca, alpn=None), "sni": "localhost"}
        return Conn(("127.0.0.1", self.port), **kw)


@table([Row("plain", tls=False), Row("tls", tls=True)], lambda t: None)
def test_stream_proxy_header(t, _, row):
    """The client that a balancer names is the one that the stream's backend is told, whole."""
    s = Stream(t, row.tls, PROXIED)
    with s.conn(first=v2("2001:db8::7", "2001:db8::1")) as c:
        assert bytes.fromhex(c.line().decode()) == b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 8443\r\n"
        c.send(b"hello\r\n")
        assert c.line() == b"hello"
    s.gate.wait_log('"kind":"stream"', '"client":"2001:db8::7"')
    with Conn(("127.0.0.1", s.port), first=b"nonsense, not a header") as c:
        assert c.at_end()


@table([Row("plain", tls=False), Row("tls", tls=True)], lambda t: None)
def test_stream_per_ip(t, _, row):
    s = Stream(t, row.tls, {"limits": "{ per_ip: 2 }"})
    held = [s.conn() for _ in range(2)]
    for c in held:
        t.defer(c.close)
        c.line()
    assert [turned_away(s.port) for _ in range(3)] == [True] * 3
    with s.conn(source="127.0.0.2") as c:
        c.line()


@case()
def test_passthrough_behind_a_balancer(t):
    """The header in front of TLS that is not opened here: the service is told whom it named, the neighbour's log too."""
    seen = []

    def backend(gate):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*gate.leaf)

        def behave(sock):
            header = b""
            while not header.endswith(b"\r\n"):
                header += read_exactly(sock, 1)
            seen.append(header)
            with context.wrap_socket(sock, server_side=True) as tls:
                tls.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
        return RawBackend(t, behave)
    g = passthrough.Gate(t, backend, config=lambda g: passthrough.site(g.backend.url, route_extra=", proxy_protocol: v1"),
                         top={**PROXIED, "limits": "{ per_ip: 1 }"})
    # the header and the ClientHello in the same segments, as a balancer sends them
    with Conn(("127.0.0.1", g.gate.https), tls=tls_context(g.authority.cert), sni="pass.localhost", first=v2("192.0.2.7")) as c:
        assert c.answer().body == b"hi"
    assert seen == [v1("192.0.2.7")], seen
    g.line(host="pass.localhost", client="192.0.2.7")
    with g.gate.tls("own.localhost", first=v1("192.0.2.8")) as c:
        assert c.get("/", "own.localhost").body == b"own"
        assert turned_away(g.gate.https, first=v1("192.0.2.8")), "counted whichever way it goes"
        with Conn(("127.0.0.1", g.gate.https), tls=tls_context(g.authority.cert), sni="pass.localhost", first=v1("192.0.2.9")) as other:
            assert other.answer().body == b"hi"
    g.gate.wait_log('"client":"192.0.2.8"', '"status":200')
