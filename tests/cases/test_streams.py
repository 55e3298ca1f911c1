"""`streams`: raw TCP to a service, TLS ended at the gate; real nats-server, ends of either side, drain, reload."""
import hashlib
import random
import re

import headgate
from headgate import *
from raw_peers import RawBackend, echo, read_all, read_exactly, reset
from test_metrics import Scrape
from tls_backends import Authority

PATTERN = bytes(range(256)) * 256       # 64 KiB


def site(url, service_extra="", host="localhost", routes="    routes: { /: { respond: ok } }\n"):
    return (f"sites:\n  s:\n    host: {host}\n    https: both\n    services:\n      app: {{ url: {url}{service_extra} }}\n{routes}")


def streams(*lines):
    return "streams:\n" + "".join(f"  {line}\n" for line in lines)


class Gate:
    """A gate in front of one raw backend, with a plain and a TLS stream."""

    def __init__(self, t, behave=echo, extra="", service_extra="", url=None, backend=None, workers=1, **kw):
        self.t = t
        self.backend = backend or (None if url else RawBackend(t, behave))
        self.plain_port, self.tls_port = t.port(), t.port()
        self.extra = extra
        self.url = url or f'"{self.backend.url}"'
        self.service_extra = service_extra
        self.gate = t.headgate(self.config(), workers=workers, **kw)

    def config(self):
        return streams(f'"127.0.0.1:{self.plain_port}": {{ service: s/app, tls: off{self.extra} }}',
                       f'"127.0.0.1:{self.tls_port}": {{ service: s/app{self.extra} }}') + site(self.url, self.service_extra)

    def conn(self, tls, sni="localhost", **kw):
        if not tls:
            return Conn(("127.0.0.1", self.plain_port), **kw)
        return Conn(("127.0.0.1", self.tls_port), tls=tls_context(self.gate.ca, alpn=None), sni=sni, **kw)

    def lines(self):
        """The access log so far."""
        return [json.loads(x) for x in self.gate.log().splitlines() if x.startswith('{"ts"') and '"kind":"stream"' in x]

    def line(self, guard=60, **want):
        """Waits for a line with these values."""
        return wait_for(f"an access line with {want}, not {self.lines()}",
                        lambda: next((x for x in self.lines() if all(x.get(k) == v for k, v in want.items())), None), guard)


BOTH = [Row("plain", tls=False), Row("tls", tls=True)]


def read_until_end(c):
    out = b""
    while piece := c.read():
        out += piece
    return out


# ---- bytes

@table(BOTH, Gate)
def test_echo(_, g, row):
    """Bytes of any value and size come back as they were, in both directions at once."""
    with g.conn(row.tls) as c:
        for size in (1, 100, 16384, 16385, 300000):
            sent = (PATTERN * 5)[:size]
            c.send(sent)
            got = []
            c.exactly(size, got.append)
            assert b"".join(got) == sent, size
        assert c.still_open()


def greet(sock):
    sock.sendall(b"220 ready\r\n")
    echo(sock)


@table(BOTH, lambda t: Gate(t, greet))
def test_server_first(_, g, row):
    """Protocols in which the server speaks first: nothing is awaited from the client."""
    with g.conn(row.tls) as c:
        assert c.line() == b"220 ready"


def sum_at_end(sock):
    got = read_all(sock)
    sock.sendall(hashlib.sha256(got).hexdigest().encode() + b"\r\n")


@case()
def test_client_ends_first(t):
    """The client's FIN reaches the backend behind all its bytes, and the answer still comes back: half-close."""
    g = Gate(t, sum_at_end)
    with g.conn(False) as c:
        c.send(PATTERN * 20)
        c.sock.shutdown(socket.SHUT_WR)
        assert c.line().decode() == hashlib.sha256(PATTERN * 20).hexdigest()
        assert c.at_end() and c.clean_end
    line = g.line(status=200)
    assert line["bytes_in"] == len(PATTERN) * 20 and line["bytes_out"] == 66 and "error" not in line, line


class RawTls:
    """A TLS client whose records are sent by hand: it can end its side and go on reading."""

    def __init__(self, port, ca, sni="localhost"):
        self.into, self.out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = tls_context(ca, alpn=None).wrap_bio(self.into, self.out, server_hostname=sni)
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.do(self.tls.do_handshake)

    def flush(self):
        if data := self.out.read():
            self.sock.sendall(data)

    def do(self, what, *args):
        while True:
            try:
                got = what(*args)
                self.flush()
                return got
            except ssl.SSLWantReadError:
                self.flush()
                data = self.sock.recv(65536)
                self.into.write(data) if data else self.into.write_eof()


@case()
def test_tls_client_ends_first(t):
    """close_notify is the end of one direction too."""
    g = Gate(t, sum_at_end)
    c = RawTls(g.tls_port, g.gate.ca)
    c.do(c.tls.write, b"all of it")
    try:
        c.tls.unwrap()
    except ssl.SSLWantReadError:
        pass        # ours is written; the other side's comes with its end
    c.flush()
    # what came after our close_notify: records, which this library would not show any more
    c.sock.shutdown(socket.SHUT_WR)
    assert len(read_all(c.sock)) > 66
    line = g.line(status=200, bytes_in=9)
    assert line["bytes_out"] == 66 and "error" not in line, line


heard = []


def say_bye(sock):
    sock.sendall(b"bye")
    sock.shutdown(socket.SHUT_WR)
    heard.append(read_all(sock))


@table(BOTH, lambda t: Gate(t, say_bye))
def test_backend_ends_first(_, g, row):
    """The backend's end reaches the client as one in order, and what the client still says reaches the backend."""
    ended = g.backend.ended
    del heard[:]
    with g.conn(row.tls) as c:
        assert c.read() == b"bye"
        assert c.at_end() and c.clean_end
        assert g.backend.ended == ended
        for _ in range(20):
            c.send(PATTERN)
    wait_for("the backend sees the end", lambda: g.backend.ended == ended + 1)
    assert len(heard[0]) == 20 * len(PATTERN) and heard[0].endswith(PATTERN)


def hang_up_hard(sock):
    sock.sendall(b"so far")
    read_exactly(sock, 1)
    reset(sock)


@table(BOTH, lambda t: Gate(t, hang_up_hard))
def test_backend_breaks_off(_, g, row):
    """A backend that breaks off is no end in order: what it said comes first."""
    with g.conn(row.tls) as c:
        assert c.read() == b"so far"
        c.send(b"x")
        assert c.at_end() and c.clean_end is False
    assert g.line(tls="TLSv1.3" if row.tls else None, bytes_out=6)["error"] == "connection reset"


@case()
def test_client_breaks_off(t):
    """… and a client that does so is noticed by the backend."""
    g = Gate(t)
    c = g.conn(False)
    c.send(b"x")
    assert c.read() == b"x"
    c.reset()
    wait_for("the backend's error", lambda: g.backend.errors)
    assert isinstance(g.backend.errors[0], ConnectionResetError)


@case()
def test_hangs_up_without_goodbye(t):
    """TLS clients that just close (most do): what they said is whole for the backend, which sees an end."""
    heard = []
    g = Gate(t, lambda sock: (sock.sendall(b"welcome"), heard.append(read_all(sock))))
    c = g.conn(True)
    assert c.read() == b"welcome"       # nothing is left unread, which would make the end a RST
    c.send(b"last words")
    raw = c.sock.detach()
    os.close(raw)
    g.line(bytes_in=10)
    wait_for("the backend's end", lambda: g.backend.ended == 1)
    assert not g.backend.errors and heard == [b"last words"], (g.backend.errors, heard)


# ---- much of it

def pour(sock):
    """A number of blocks is asked for, and sent."""
    n = int(read_exactly(sock, 8))
    for _ in range(n):
        sock.sendall(PATTERN)
    sock.shutdown(socket.SHUT_WR)
    got = 0
    while piece := sock.recv(1 << 20):
        got += len(piece)


@table(BOTH, lambda t: Gate(t, pour))
def test_256_mib_each_way(_, g, row):
    """Both directions at once, 256 MiB each, in flat memory."""
    blocks = 4096
    worker = g.gate.workers()[0]
    before = procs.rss(worker)
    sha, got = hashlib.sha256(), 0
    with g.conn(row.tls) as c:
        c.send(b"%08d" % blocks)

        def upload():
            for _ in range(blocks):
                c.send(PATTERN)
        up = None
        if not row.tls:     # one TLS object is no affair of two threads
            up = threading.Thread(target=upload)
            up.start()
        while piece := c.read(1 << 20):
            sha.update(piece)
            got += len(piece)
        assert got == blocks * len(PATTERN)
        if row.tls:
            upload()
        else:
            up.join()
    want = hashlib.sha256()
    for _ in range(blocks):
        want.update(PATTERN)
    assert sha.digest() == want.digest()
    g.line(bytes_in=blocks * len(PATTERN) + 8, bytes_out=blocks * len(PATTERN))
    assert procs.rss(worker) - before < allowance(8), procs.rss(worker) - before


class Poured(Gate):
    """Its backend counts what it could send."""

    def __init__(self, t):
        super().__init__(t, self.pour)

    def pour(self, sock):
        blocks, self.sent = int(read_exactly(sock, 8)), 0
        for _ in range(blocks):
            sock.sendall(PATTERN)
            self.sent += len(PATTERN)


@table(BOTH, Poured)
def test_slow_reader(_, g, row):
    """A client that does not read stops the backend, and not the memory; then everything comes."""
    worker, blocks = g.gate.workers()[0], 2048
    with g.conn(row.tls, rcvbuf=16384) as c:
        before = procs.rss(worker)
        g.sent, last = None, [-1]
        c.send(b"%08d" % blocks)

        def stands():
            same, last[0] = g.sent == last[0], g.sent
            return same and g.sent
        stood = wait_for("the backend to stand", stands, every=0.3)
        assert 0 < stood < blocks * len(PATTERN) // 2, stood
        assert procs.rss(worker) - before < allowance(4)
        got = 0
        while piece := c.read(1 << 20):
            got += len(piece)
        assert got == blocks * len(PATTERN)


@case()
def test_idle_is_cheap(t):
    """Hundreds of connections on which nothing happens: a few KiB each in plain, with TLS what OpenSSL keeps."""
    g = Gate(t, workers=1, top={"limits": "{ per_ip: 0 }"})
    worker = g.gate.workers()[0]
    for tls, most in ((False, 8 << 10), (True, 48 << 10)):
        with g.conn(tls) as c:
            c.send(b"x")
            c.read()
        before = procs.rss(worker)
        conns = []
        for _ in range(300):
            c = g.conn(tls)
            c.send(PATTERN[:2000])
            c.exactly(2000, lambda piece: None)
            conns.append(c)
        each = (procs.rss(worker) - before) / 300
        for c in conns:
            c.close()
        assert each < most or headgate.SANITIZED, (tls, each)


# ---- which instance, and when

@case()
def test_goes_elsewhere(t):
    """An address where nobody listens costs a try, not a connection."""
    b = RawBackend(t, greet)
    dead = t.port()
    g = Gate(t, url=f'["tcp://127.0.0.1:{dead}", "{b.url}"]', backend=b)
    for _ in range(4):
        with g.conn(False) as c:
            assert c.line() == b"220 ready"


@case()
def test_nobody_there(t):
    """Nothing answers at all: the connection is closed, and the log says why."""
    g = Gate(t, url=f'"http://127.0.0.1:{t.port()}"', backend=None)
    with g.conn(False) as c:
        assert c.at_end()
    assert g.line(status=502)["error"] == "connection refused"


@case()
def test_waits_for_an_instance(t):
    """A connection waits for its service to be ready, as requests do; its bytes wait with it."""
    gate_file = t.path("go")
    port = t.port()
    run = t.service("wait-for-file", gate_file)
    config = (streams(f'"127.0.0.1:{port}": {{ service: s/app, tls: off }}') + run_site(run, ", wait_ready: 60s"))
    gate = t.headgate(config, workers=1)
    with Conn(("127.0.0.1", port)) as c:
        c.request("GET", "/", "localhost")
        assert c.still_open()
        t.write("go", "")
        assert c.answer().status == 200
    assert gate.status()


@case()
def test_wait_is_over(t):
    port = t.port()
    config = (streams(f'"127.0.0.1:{port}": {{ service: s/app, tls: off }}')
              + run_site(t.service("never-listens"), ", wait_ready: 200ms"))
    gate = t.headgate(config, workers=1)
    with Conn(("127.0.0.1", port)) as c:
        assert c.at_end()
    gate.wait_log('"kind":"stream"', '"status":503', "no instance of the service is ready")


# ---- who the client is

V2 = b"\r\n\r\n\0\r\nQUIT\n"
HEADERS = [Row(f"{version}_{'tls' if tls else 'plain'}", version=version, tls=tls) for version in ("v1", "v2") for tls in (False, True)]


def show_header(sock):
    """The header of the PROXY protocol goes back, and then what follows it."""
    header = read_exactly(sock, 12)
    if header == V2:
        header += read_exactly(sock, 4)
        header += read_exactly(sock, int.from_bytes(header[14:], "big"))
    else:
        while not header.endswith(b"\r\n"):
            header += read_exactly(sock, 1)
    sock.sendall(header.hex().encode() + b"\r\n")
    echo(sock)


class Headers:
    def __init__(self, t):
        self.backend = RawBackend(t, show_header)
        self.ports = {(v, tls): t.port() for v in ("v1", "v2") for tls in (False, True)}
        self.gate = t.headgate(streams(*(f'"127.0.0.1:{p}": {{ service: s/app, tls: {"on" if tls else "off"}, proxy_protocol: {v} }}'
                                         for (v, tls), p in self.ports.items())) + site(f'"{self.backend.url}"'), workers=1)


@table(HEADERS, Headers)
def test_proxy_protocol(_, s, row):
    """The backend learns who the client is, in front of its bytes."""
    port = s.ports[row.version, row.tls]
    with Conn(("127.0.0.1", port), tls=tls_context(s.gate.ca, alpn=None) if row.tls else None, sni="localhost" if row.tls else None) as c:
        c.send(b"hello\r\n")
        own = c.sock.getsockname()[1]
        header = bytes.fromhex(c.line().decode())
        if row.version == "v1":
            assert header == b"PROXY TCP4 127.0.0.1 127.0.0.1 %d %d\r\n" % (own, port), header
        else:
            lo = b"\x7f\0\0\1"
            assert header == V2 + b"\x21\x11\0\x0c" + lo + lo + own.to_bytes(2, "big") + port.to_bytes(2, "big"), header
        assert c.line() == b"hello"


@case()
def test_proxy_protocol_before_tls(t):
    """To a backend that wants TLS the header goes first, in plain."""
    authority = Authority(t)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.leaf("127.0.0.1"))
    seen = []

    def behave(sock):
        seen.append(read_exactly(sock, 28))
        with context.wrap_socket(sock, server_side=True) as tls:
            echo(tls)
    b = RawBackend(t, behave)
    port = t.port()
    t.headgate(streams(f'"127.0.0.1:{port}": {{ service: s/app, tls: off, proxy_protocol: v2 }}')
               + site(f"https://127.0.0.1:{b.port}", f", backend_tls: {{ ca: {authority.cert} }}"), workers=1)
    with Conn(("127.0.0.1", port)) as c:
        c.send(PATTERN)
        got = []
        c.exactly(len(PATTERN), got.append)
        assert b"".join(got) == PATTERN
    assert seen[0].startswith(V2)


@case()
def test_proxy_protocol_of_a_unix_client(t):
    """Who came by a Unix socket has no address: UNKNOWN."""
    b = RawBackend(t, show_header, unix=t.path("b.sock"))
    path = t.path("front.sock")
    t.headgate(streams(f'"unix:{path}": {{ service: s/app, tls: off, proxy_protocol: v1 }}') + site(f'"{b.url}"'), workers=2)
    with Conn(path) as c:
        assert bytes.fromhex(c.line().decode()) == b"PROXY UNKNOWN\r\n"
        c.send(b"hello\r\n")
        assert c.line() == b"hello"


# ---- TLS

@case()
def test_certificates(t):
    """The certificate is that of the name that the client asks for; of `host`, or the channel's, when it names none."""
    b = RawBackend(t)
    ports = [t.port(), t.port()]
    config = (streams(f'"127.0.0.1:{ports[0]}": {{ service: s/app }}', f'"127.0.0.1:{ports[1]}": {{ service: s/app, host: b.localhost }}')
              + site(f'"{b.url}"', host="a.localhost, aliases: [b.localhost]".replace(", aliases", "\n    aliases")))
    gate = t.headgate(config, workers=1)

    def shown(port, sni):
        context = tls_context(gate.ca, alpn=["h2", "http/1.1"])
        context.check_hostname = sni is not None
        with Conn(("127.0.0.1", port), tls=context, sni=sni) as c:
            assert c.sock.selected_alpn_protocol() is None      # what is inside is not HTTP, as far as we know
            c.send(b"x")
            assert c.read() == b"x"
            return [v for k, v in c.sock.getpeercert()["subjectAltName"]]
    assert shown(ports[0], "a.localhost") == ["a.localhost"]
    assert shown(ports[0], "b.localhost") == ["b.localhost"]
    assert shown(ports[0], None) == ["a.localhost"]
    assert shown(ports[1], "a.localhost") == ["a.localhost"]
    assert shown(ports[1], None) == ["b.localhost"]
    try:
        shown(ports[0], "nobody.localhost")
        raise AssertionError("a name that no site has was served")
    except ssl.SSLError as e:
        assert "UNRECOGNIZED_NAME" in str(e).upper(), e


@case()
def test_alpn(t):
    """`alpn`: the best of those that the client offers; none of them: refused; nothing offered: let in."""
    b = RawBackend(t)
    port = t.port()
    gate = t.headgate(streams(f'"127.0.0.1:{port}": {{ service: s/app, alpn: [mqtt, x-old] }}') + site(f'"{b.url}"'), workers=1)

    def chosen(*offered):
        with Conn(("127.0.0.1", port), tls=tls_context(gate.ca, alpn=offered), sni="localhost") as c:
            c.send(b"x")
            assert c.read() == b"x"
            return c.sock.selected_alpn_protocol()
    assert chosen("x-old", "mqtt") == "mqtt" and chosen("h2", "x-old") == "x-old" and chosen() is None
    try:
        chosen("h2", "http/1.1")
        raise AssertionError("a browser got in")
    except ssl.SSLError as e:
        assert "NO_APPLICATION_PROTOCOL" in str(e).upper().replace(" ", "_"), e


@case()
def test_slow_handshake(t):
    """A client that begins TLS and does not go on is closed in time, and costs the backend nothing."""
    g = Gate(t, top={"timeouts": "{ handshake: 300ms }"})
    with Conn(("127.0.0.1", g.tls_port)) as c:
        c.send(b"\x16\x03\x01")
        assert c.at_end()
    assert g.line(status=408)["error"] == "TLS handshake timed out"
    with Conn(("127.0.0.1", g.tls_port)) as c:
        c.send(b"GET / HTTP/1.1\r\n\r\n")
        read_until_end(c)
    g.line(status=400)
    assert g.backend.accepted == 0


@case()
def test_early_bytes(t):
    """What comes in the same segment as the handshake's end is not lost while the instance is sought."""
    g = Gate(t)
    context = tls_context(g.gate.ca, alpn=None)
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(into, out, server_hostname="localhost")
    sock = socket.create_connection(("127.0.0.1", g.tls_port), timeout=60)
    while True:
        try:
            tls.do_handshake()
            break
        except ssl.SSLWantReadError:
            if data := out.read():
                sock.sendall(data)
            into.write(sock.recv(65536))
    tls.write(b"e" * 10000)
    sock.sendall(out.read())        # Finished and application data together
    got = b""
    while len(got) < 10000:
        try:
            got += tls.read(65536)
        except ssl.SSLWantReadError:
            into.write(sock.recv(65536))
    assert got == b"e" * 10000


@case()
def test_tls_to_the_backend(t):
    """A service with https:// is spoken to over TLS, its certificate checked; a wrong one is no connection."""
    authority, other = Authority(t), Authority(t, "other")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.leaf("127.0.0.1"))
    b = RawBackend(t, tls=context)
    g = Gate(t, backend=b, url=f"https://127.0.0.1:{b.port}", service_extra=f", backend_tls: {{ ca: {authority.cert} }}")
    for tls in (False, True):
        with g.conn(tls) as c:
            c.send(PATTERN)
            got = []
            c.exactly(len(PATTERN), got.append)
            assert b"".join(got) == PATTERN
    g.service_extra = f", backend_tls: {{ ca: {other.cert} }}"
    g.gate.reload_ok(g.config())
    with g.conn(False) as c:
        assert c.at_end()
    assert "certificate" in g.line(status=502)["error"]


# ---- time

@case()
def test_idle(t):
    """A connection on which nothing moves is closed when its time is up, one that is used is not."""
    g = Gate(t, extra=", idle: 1s")
    quiet, busy = g.conn(False), g.conn(True)
    done = threading.Event()

    def use():
        while not done.wait(0.1):
            busy.send(b"x")
            assert busy.read() == b"x"
    user = threading.Thread(target=use)
    user.start()
    try:
        assert quiet.at_end()
    finally:
        done.set()
        user.join()
    g.line(error="idle for too long")
    busy.send(b"y")
    assert busy.read() == b"y"
    busy.close(), quiet.close()


# ---- operation

@case(both=True)
def test_reload(t):
    """Streams come and go under live connections, which stay; what goes is not listened on any more."""
    g = Gate(t, workers=2)
    old = g.conn(True)
    old.send(b"a")
    assert old.read() == b"a"
    gone, g.plain_port = g.plain_port, t.port()
    told = g.gate.reload_ok(g.config()).stdout
    assert f"stream 127.0.0.1:{gone}: not listening any more" in told and f"stream 127.0.0.1:{g.plain_port}: listening" in told, told
    with g.conn(False) as c:
        c.send(b"b")
        assert c.read() == b"b"
    try:
        Conn(("127.0.0.1", gone)).close()
        raise AssertionError("still listening")
    except ConnectionRefusedError:
        pass
    g.extra = ", idle: 1h, proxy_protocol: off"
    told = g.gate.reload_ok(site(g.url)).stdout
    assert f"stream 127.0.0.1:{g.tls_port}: not listening any more" in told, told
    old.send(b"c")
    assert old.read() == b"c"
    old.close()


@case()
def test_reload_changes_a_stream(t):
    """Another service behind the same address: new connections go there, the old ones stay."""
    a, b = RawBackend(t, lambda s: (s.sendall(b"a\r\n"), echo(s))), RawBackend(t, lambda s: (s.sendall(b"b\r\n"), echo(s)))
    port = t.port()
    services = f'sites:\n  s:\n    host: localhost\n    services: {{ a: "{a.url}", b: "{b.url}" }}\n'
    gate = t.headgate(streams(f'"127.0.0.1:{port}": {{ service: s/a, tls: off }}') + services)
    with Conn(("127.0.0.1", port)) as old:
        assert old.line() == b"a"
        told = gate.reload_ok(streams(f'"127.0.0.1:{port}": {{ service: s/b, tls: off }}') + services).stdout
        assert f"stream 127.0.0.1:{port}: changed" in told, told
        with Conn(("127.0.0.1", port)) as new:
            assert new.line() == b"b"
        old.send(b"x")
        assert old.read() == b"x"


@case()
def test_address_that_left(t):
    """A url that leaves the configuration: its connections stay until the time to drain is over, and no longer."""
    a, b = RawBackend(t, greet), RawBackend(t, greet)
    port = t.port()
    config = lambda url: streams(f'"127.0.0.1:{port}": {{ service: s/app, tls: off }}') + site(f'"{url}"')      # noqa: E731
    gate = t.headgate(config(a.url), workers=1, top={"timeouts": "{ drain: 2s }"})
    with Conn(("127.0.0.1", port)) as old:
        assert old.line() == b"220 ready"
        gate.reload_ok(config(b.url))
        with Conn(("127.0.0.1", port)) as new:
            assert new.line() == b"220 ready"
            assert b.accepted == 1
            old.send(b"x")
            assert old.read() == b"x"
            assert old.at_end()
            new.send(b"x")
            assert new.read() == b"x"
    gate.wait_log('"kind":"stream"', "the instance left the configuration")


@case()
def test_stop(t):
    """A stop waits for connections as long as it may, then cuts them; each has its line."""
    g = Gate(t, top={"timeouts": "{ shutdown: 1s }"})
    with g.conn(False) as c:
        c.send(b"x")
        assert c.read() == b"x"
        assert g.gate.stop() == 0
        assert c.at_end()
    assert [x["error"] for x in g.lines()] == ["the time to drain was over"]


@case()
def test_stop_ends_with_the_last(t):
    """… and ends as soon as the last one does."""
    g = Gate(t, top={"timeouts": "{ shutdown: 10m }"})
    with g.conn(False) as c:
        c.send(b"x")
        assert c.read() == b"x"
        g.gate.proc.send_signal(signal.SIGTERM)
        g.gate.wait_log("stopping")
        c.send(b"y")
        assert c.read() == b"y"
    assert g.gate.wait_exit() == 0


@case()
def test_shares_the_limit(t):
    """limits.connections counts them too: who is too much waits in the kernel's queue."""
    g = Gate(t, greet, top={"limits": "{ connections: 3 }"})
    held = [g.conn(False) for _ in range(3)]
    assert all(c.line() == b"220 ready" for c in held)
    with g.conn(False) as c:
        assert c.still_open()
        held.pop().close()
        assert c.line() == b"220 ready"
    for c in held:
        c.close()


@case()
def test_counted(t):
    """Metrics and status: connections and bytes by listener, the service's share."""
    metrics = t.port()
    g = Gate(t, top={"metrics": f'"127.0.0.1:{metrics}"'})

    def scrape():
        with Conn(("127.0.0.1", metrics)) as c:
            return Scrape(c.get("/metrics").body.decode())
    address = f"127.0.0.1:{g.tls_port}"
    with g.conn(True) as c:
        c.send(PATTERN)
        c.exactly(len(PATTERN), lambda piece: None)
        s = scrape()
        assert s.get("headgate_listener_connections", kind="stream", address=address) == 1
        assert s.get("headgate_listener_connections_total", kind="stream", address=address) == 1
        assert s.get("headgate_stream_received_bytes_total", kind="stream", address=address) == len(PATTERN)
        assert s.get("headgate_stream_sent_bytes_total", kind="stream", address=address) == len(PATTERN)
        assert s.get("headgate_service_requests_in_flight", channel="s", service="app") == 1
        assert s.get("headgate_connections", protocol="tcp", transport="tls") == 1
    wait_for("the gauge to fall", lambda: scrape().get("headgate_listener_connections", kind="stream", address=address) == 0)
    listed = [x for x in g.gate.status()["listeners"] if x["kind"] == "stream"]
    assert sorted(x["address"] for x in listed) == sorted([address, f"127.0.0.1:{g.plain_port}"]), listed
    line = g.line(status=200)
    assert line["tls"] == "TLSv1.3" and line["host"] == "localhost" and line["service"] == "s/app", line
    assert line["address"] == address and line["client"] == "127.0.0.1" and line["instance"] == f"127.0.0.1:{g.backend.port}", line


@case()
def test_combined_log(t):
    g = Gate(t, top={"log": "{ access: { format: combined } }"})
    with g.conn(False) as c:
        c.send(b"abc")
        assert c.read() == b"abc"
    g.gate.wait_log(f'127.0.0.1 - - [', f'] "STREAM 127.0.0.1:{g.plain_port} TCP" 200 3 "-" "-"')


@case()
def test_streams_alone(t):
    """Neither http nor https is needed, and a site needs no routes then."""
    b = RawBackend(t)
    port = t.port()
    gate = t.headgate(streams(f'"127.0.0.1:{port}": s/app') + site(f'"{b.url}"', routes="").replace("    https: both\n", ""),
                      top={"listen": "{ http: off, https: off }"})
    with Conn(("127.0.0.1", port), tls=tls_context(gate.ca, alpn=None), sni="localhost") as c:
        c.send(b"x")
        assert c.read() == b"x"


# ---- nats-server

class Nats:
    """As much of the protocol as a test needs."""

    def __init__(self, port, ca=None):
        self.c = Conn(("127.0.0.1", port), tls=tls_context(ca, alpn=None) if ca else None, sni="www.localhost" if ca else None)
        self.info = json.loads(self.c.line().removeprefix(b"INFO "))
        self.say('CONNECT {"verbose":false,"pedantic":true}', "PING")
        assert self.c.line() == b"PONG"

    def say(self, *lines):
        self.c.send("".join(x + "\r\n" for x in lines).encode())

    def subscribe(self, subject):
        self.say(f"SUB {subject} 1", "PING")
        assert self.c.line() == b"PONG"

    def message(self):
        words = self.c.line().split()
        assert words[0] == b"MSG", words
        got = []
        self.c.exactly(int(words[-1]) + 2, got.append)
        return b"".join(got)[:-2]


NATS = "[/usr/sbin/nats-server, -a, 127.0.0.1, -p, $port:client]"


def nats_config(port, plain, extra=""):
    return (streams(f'"127.0.0.1:{port}": {{ service: stable/nats, port: client }}',
                    f'"127.0.0.1:{plain}": {{ service: stable/nats, port: client, tls: off }}')
            + f"channels:\n  stable:\n    host: www.localhost\n    services:\n      nats: {{ run: {NATS}, ports: {{ client: auto }}{extra} }}\n")


@case(both=True)
def test_nats(t):
    """Native NATS through the gate: one client over TLS, one in plain, a message of 900 KB from one to the other."""
    port, plain = t.port(), t.port()
    gate = t.headgate(nats_config(port, plain))
    a, b = Nats(port, gate.ca), Nats(plain)
    a.subscribe("news.>")
    body = (b"0123456789" * 90000)
    b.say(f"PUB news.today {len(body)}")
    b.c.send(body + b"\r\n")
    assert a.message() == body
    a.c.close(), b.c.close()


@case()
def test_nats_restart(t):
    """A restart: who is connected stays with the old server until it leaves, who comes gets the new one."""
    port, plain = t.port(), t.port()
    gate = t.headgate(nats_config(port, plain))
    old = Nats(port, gate.ca)
    service = lambda: [s for s in gate.status()["services"] if s["service"] == "stable/nats"][0]["instances"]      # noqa: E731
    first = service()[0]["pid"]
    r = gate.cli("restart", "stable/nats")
    assert r.returncode == 0, r.stderr
    wait_for("the new one", lambda: any(i["state"] == "ready" and i["pid"] != first for i in service()))
    new = Nats(port, gate.ca)
    assert new.info["server_id"] != old.info["server_id"]
    old.subscribe("x")
    assert any(i["pid"] == first and i["state"] == "draining" for i in service()), service()
    old.c.close()
    wait_for("the old one's end", lambda: all(i["pid"] != first for i in service()))
    new.subscribe("y")
    new.c.close()


@case()
def test_nats_killed(t):
    """kill -9 of the server: its connections end, the next one waits until it is there again."""
    port, plain = t.port(), t.port()
    gate = t.headgate(nats_config(port, plain, ", restart: { min: 1s }"))
    old = Nats(port, gate.ca)
    pid = [s for s in gate.status()["services"] if s["service"] == "stable/nats"][0]["instances"][0]["pid"]
    os.kill(pid, signal.SIGKILL)
    assert old.c.at_end()
    new = Nats(port, gate.ca)
    assert new.info["server_id"] != old.info["server_id"]
    new.c.close(), old.c.close()


@case()
def test_handover_while_it_waits(t):
    """A service whose only instance is not ready is handed over: who waits for it waits on, as requests do."""
    port = t.port()
    run = t.service("ok", t.path("never"))
    gate = t.headgate(streams(f'"127.0.0.1:{port}": {{ service: s/app, tls: off }}') +
                      run_site(run, ", wait_ready: 60s, strategy: handover, health: { interval: 50ms, timeout: 1s, failures: 1 }"), workers=1)

    def app():
        return gate.status()["services"][0]["instances"][0]
    old = app()["pid"]
    assert gate.get("/deaf").body == b"deaf"
    wait_for("it to be unready", lambda: app()["state"] == "unready")
    with Conn(("127.0.0.1", port)) as c:
        c.request("GET", "/who", "localhost")
        wait_for("it to wait", lambda: gate.status()["counters"]["requests_waiting"] == 1)
        assert gate.cli("restart", "s/app").returncode == 0
        a = c.answer()
        assert a.status == 200 and json.loads(a.body)["pid"] != old, a


@case()
def test_nats_handover(t):
    """strategy: handover: who is connected is let go first, two never run at a time."""
    port, plain = t.port(), t.port()
    gate = t.headgate(nats_config(port, plain, ", strategy: handover"))
    old = Nats(port, gate.ca)
    r = gate.cli("restart", "stable/nats")
    assert r.returncode == 0, r.stderr
    assert old.c.at_end()
    new = Nats(port, gate.ca)
    assert new.info["server_id"] != old.info["server_id"]
    new.c.close(), old.c.close()
    gate.wait_log('"kind":"stream"', "the service was handed over")


@case()
def test_nats_survives_the_master(t):
    """kill -9 of the master: connections go on; the next master knows the instance's port again."""
    port, plain = t.port(), t.port()
    gate = t.headgate(nats_config(port, plain))
    old = Nats(port, gate.ca)
    gate.kill_master()
    old.subscribe("x")
    gate.start()
    new = Nats(port, gate.ca)
    assert new.info["server_id"] == old.info["server_id"]
    old.subscribe("y")
    old.c.close(), new.c.close()


@case()
def test_nats_with_openssl(t):
    """What people try first: openssl s_client."""
    port, plain = t.port(), t.port()
    gate = t.headgate(nats_config(port, plain))
    r = t.run(["openssl", "s_client", "-quiet", "-connect", f"127.0.0.1:{port}", "-servername", "www.localhost", "-CAfile", gate.ca,
               "-verify_return_error"], input='CONNECT {"verbose":true}\r\nPING\r\nQUIT\r\n')
    assert re.match(r"INFO \{.*\} *\r?\n\+OK\r?\nPONG\r?\n", r.stdout), (r.stdout, r.stderr)


# ---- everything at once

def unruly(sock):
    """Does one of many things, by the first byte that comes."""
    what = sock.recv(1)
    if what == b"r":
        reset(sock)
    elif what == b"s":
        sock.sendall(PATTERN * 4)
        reset(sock)
    elif what == b"h":
        sock.sendall(b"half")
        sock.shutdown(socket.SHUT_WR)
        read_all(sock)
    elif what == b"p":
        try:
            while True:
                sock.sendall(PATTERN)
        except OSError:
            pass
    elif what == b"e":
        echo(sock)


def misbehave(g, rng, n):
    """n connections, each of which ends in some way at some time."""
    for _ in range(n):
        tls = rng.random() < 0.5
        try:
            if tls and rng.random() < 0.2:      # ends inside of the handshake
                c = Conn(("127.0.0.1", g.tls_port))
                c.send(b"\x16\3\1\2\0\1\0\1\xfc\3\3"[:rng.randrange(12)])
            else:
                c = g.conn(tls)
                c.send(rng.choice([b"r", b"s", b"h", b"p", b"e", b"x"]) + b"y" * rng.randrange(3000))
            for _ in range(rng.randrange(4)):
                c.sock.settimeout(rng.choice([0.001, 0.01]))
                try:
                    c.sock.recv(rng.choice([1, 5000, 200000]))
                    c.sock.send(PATTERN[:rng.randrange(1, 65536)])
                except OSError:
                    pass
            how = rng.randrange(4)
            if how == 0 and not tls:
                c.reset()
            elif how == 1:
                c.sock.shutdown(socket.SHUT_WR) if not tls else os.close(c.sock.detach())
            c.close()
        except OSError:
            pass


@case()
def test_torture(t):
    """Hundreds of connections that end in every way, while the configuration is reloaded: nothing is left, nobody died."""
    metrics = t.port()
    g = Gate(t, unruly, workers=2, top={"metrics": f'"127.0.0.1:{metrics}"', "timeouts": "{ handshake: 1s, connect: 1s }"})
    workers = g.gate.workers()
    threads = [threading.Thread(target=misbehave, args=(g, random.Random(i), 60)) for i in range(6)]
    for x in threads:
        x.start()
    n = 0
    while any(x.is_alive() for x in threads):
        n += 1
        g.extra = f", idle: {n}h"
        g.gate.reload_ok(g.config())
    for x in threads:
        x.join()

    def left():
        with Conn(("127.0.0.1", metrics)) as c:
            s = Scrape(c.get("/metrics").body.decode())
        return (s.sum("headgate_connections", protocol="tcp"), s.get("headgate_service_requests_in_flight", channel="s", service="app"),
                s.get("headgate_backend_connections"), s.get("headgate_held_bytes"))
    wait_for("all of it to be over", lambda: left()[:3] == (0, 0, 0) and left()[3] < 100000)
    assert g.gate.workers() == workers


@case()
def test_nats_stop(t):
    """A stop: the server runs on for who is connected as long as they may, and ends behind them."""
    port, plain = t.port(), t.port()
    gate = t.headgate(nats_config(port, plain), top={"timeouts": "{ shutdown: 10m }"})
    a = Nats(port, gate.ca)
    gate.proc.send_signal(signal.SIGTERM)
    gate.wait_log("stopping")
    a.subscribe("x")
    a.say("PUB x 2", "hi")
    assert a.message() == b"hi"
    a.c.close()
    assert gate.wait_exit() == 0
