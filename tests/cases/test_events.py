"""Event streams and long polls: each event is at the client before the next is sent, and no gap ends what may be silent."""
import select

from h2backend import H2Backend
from h2wire import h2
from headgate import *


def events(peer, req):
    """One event each time the test says so; /poll answers when it says so; /flood/N: N of 1000 bytes as fast as they go."""
    b = peer.backend
    b.whole(peer, req)
    _, name, *more = req.path.split("/")
    n = int(more[0]) if more else 5
    if name == "poll":
        b.gate.wait()
        peer.reply(200, [("Content-Type", "application/json")], b'{"news":"yes"}')
        return None
    close = name == "until-close"
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n" +
              (b"Connection: close\r\n\r\n" if close else b"Transfer-Encoding: chunked\r\n\r\n"))

    def say(data):
        peer.send(data if close else b"%x\r\n" % len(data) + data + b"\r\n")
    for i in range(n):
        if name == "flood":
            say(b"data: %d %s\n\n" % (i, b"x" * 1000))
        else:
            b.turn.acquire()
            say(b"data: event %d\n\n" % i)
    if not close:
        peer.send(b"0\r\n\r\n")
    return not close


def event_backend(t):
    b = t.backend(events)
    b.turn = threading.Semaphore(0)
    return b


class Site:
    def __init__(self, t, **kw):
        self.t, self.b = t, event_backend(t)
        self.gate = t.headgate(proxy_site(self.b.url, **kw.pop("site", {})), workers=1, **kw)


# --- readers: a read() that returns what is there, waiting for some

class Raw1:
    def __init__(self, conn, path):
        self.c, self.pending = conn, b""
        conn.request("GET", path, "localhost")
        self.a = conn.head()
        assert self.a.status == 200, self.a
        assert self.a.get("transfer-encoding") == "chunked", self.a.headers

    def read(self):
        size = int(self.c.line(), 16)
        out = []
        self.c.exactly(size, out.append)
        assert self.c.line() == b""
        return b"".join(out)

    def close(self):
        self.c.close()


class Raw2:
    def __init__(self, conn, path):
        self.c = conn
        self.s = conn.request("GET", path)
        assert conn.head(self.s).status == 200, self.s

    def read(self):
        self.c.until(lambda: self.s.body or self.s.done)
        out = bytes(self.s.body)
        del self.s.body[:]
        return out

    def close(self):
        self.c.close()


class Curl:
    def __init__(self, gate, path, version, coding):
        more = ["--compressed", "-H", f"Accept-Encoding: {coding}"] if coding else []
        self.p = subprocess.Popen(["curl", version, "-sSN", "--cacert", gate.ca, "--noproxy", "*", *more, gate.url(path)], stdout=subprocess.PIPE)

    def read(self):
        assert select.select([self.p.stdout], [], [], 60)[0], "curl says nothing"
        return os.read(self.p.stdout.fileno(), 65536)

    def close(self):
        self.p.kill()
        self.p.wait()
        self.p.stdout.close()


def reader(s, row, path):
    if row.by == "curl":
        return Curl(s.gate, path, row.version, row.coding)
    if row.by == "h2":
        return Raw2(h2(s.gate), path)
    return Raw1(s.gate.tls() if row.by == "tls" else s.gate.plain(), path)


READERS = [Row(by, by=by) for by in ("plain", "tls", "h2")] + [
    Row(f"curl_{version[6:]}_{coding or 'plain'}", by="curl", version=version, coding=coding)
    for version in ("--http1.1", "--http2") for coding in (None, "gzip", "br", "zstd")]
FRAMINGS = ["chunked", "until-close"]


@table([Row(f"{r.name}_{f}", reader=r, framing=f) for r in READERS for f in FRAMINGS], setup=Site)
def test_each_event_at_once(t, s, row):
    """The next event is sent when the one before is at the client: over both protocols, coded or not, however the backend frames it."""
    r = reader(s, row.reader, f"/{row.framing}")
    text = b""
    for i in range(5):
        s.b.turn.release()
        want = b"data: event %d\n\n" % i
        while not text.endswith(want):
            piece = r.read()
            assert piece, f"the end after {text!r}"
            text += piece
    assert text == b"".join(b"data: event %d\n\n" % i for i in range(5))
    r.close()


@table(READERS, setup=lambda t: Http2Site(t))
def test_events_of_an_http2_backend(t, s, row):
    """The same from a backend that speaks HTTP/2."""
    r = reader(s, row, "/")
    text = b""
    for i in range(5):
        s.turn.release()
        want = b"data: event %d\n\n" % i
        while not text.endswith(want):
            piece = r.read()
            assert piece, f"the end after {text!r}"
            text += piece
    r.close()


class Http2Site:
    def __init__(self, t):
        self.turn = threading.Semaphore(0)

        def behave(req):
            req.head(200, [("content-type", "text/event-stream")])
            for i in range(5):
                self.turn.acquire()
                req.data(b"data: event %d\n\n" % i)
            req.end()
        self.b = H2Backend(behave)
        t.defer(self.b.deafen)
        self.gate = t.headgate(proxy_site(self.b.url, service_extra=", protocol: h2c"), workers=1)


QUICK = {"site": {"extra": "    timeouts: { body_gap: 1s, write_gap: 1s }\n"}, "top": {"timeouts": "{ body_gap: 1s, write_gap: 1s, idle: 1s, header: 1s }"}}
KINDS = READERS[:3]


@table(KINDS, setup=lambda t: Site(t, **QUICK))
def test_silent_stream(t, s, row):
    """An event stream may be silent for longer than every gap allows others."""
    r = reader(s, row, "/chunked/2")
    s.b.turn.release()
    assert r.read() == b"data: event 0\n\n"
    time.sleep(3)
    s.b.turn.release()
    assert r.read() == b"data: event 1\n\n"
    r.close()


@table(KINDS, setup=lambda t: Site(t, **QUICK))
def test_client_that_looks_away(t, s, row):
    """A client that does not read an event stream for longer than write_gap finds all of it when it does."""
    n = 1000 if row.by == "h2" else 8000        # more than the window, more than the kernel takes
    path = f"/flood/{n}"
    if row.by == "h2":
        r = Raw2(h2(s.gate, rcvbuf=65536), path)
    else:
        r = Raw1(s.gate.tls(rcvbuf=65536) if row.by == "tls" else s.gate.plain(rcvbuf=65536), path)
    time.sleep(3)
    want = b"".join(b"data: %d %s\n\n" % (i, b"x" * 1000) for i in range(n))
    pieces, left = [], len(want)
    while left > 0:
        piece = r.read()
        assert piece, f"the end, {left} bytes are missing"
        pieces.append(piece)
        left -= len(piece)
    assert b"".join(pieces) == want
    r.close()


@table(KINDS, setup=lambda t: Site(t, **QUICK))
def test_long_poll(t, s, row):
    """A request that waits for its answer for longer than every gap; response: 0 is the default."""
    s.b.gate.clear()
    begun = s.b.count
    c = h2(s.gate) if row.by == "h2" else s.gate.tls() if row.by == "tls" else s.gate.plain()
    if row.by == "h2":
        stream = c.request("GET", "/poll")
    else:
        c.request("GET", "/poll", "localhost")
    wait_for("the request at the backend", lambda: s.b.count > begun)
    time.sleep(3)
    s.b.gate.set()
    a = c.answer(stream) if row.by == "h2" else c.answer()
    assert a.status == 200 and bytes(a.body) == b'{"news":"yes"}', a
    c.close()
