"""
What a client may make the process hold: slow readers, slow writers, stalled windows, heads near the limits; by the process's
own accounts and by its memory, and back to nothing afterwards.
"""
from h2wire import *
from headgate import *

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
RIGHT, CEILING = 256 * KIB, 64 * MIB
READ = 64 * KIB         # one read may come on top of what is held
STREAM = 24 * KIB       # a stream's fixed part: arena, nghttp2's, what comes along with an answer's head


class Site:
    """One worker, so that its accounts are the sums; a file and a backend."""

    def __init__(self, t, name="headgate", top=None):
        self.backend = t.backend(rcvbuf=64 * KIB)
        t.write("www/small", b"x" * 60000)
        t.run(["truncate", "-s", "100M", t.path("www/big")])
        routes = f"/: {{ proxy: app }}\n      /static/: {{ files: {t.path('www')} }}\n      /hello: {{ respond: hello }}"
        self.gate = t.headgate(proxy_site(self.backend.url, routes=routes), workers=1, name=name, top={"log": "{ access: { format: off } }", **(top or {})})
        self.pid = self.gate.workers()[0]
        assert self.gate.get("/hello", secure=False).body == b"hello"
        self.before = procs.rss(self.pid)

    def count(self, name):
        return self.gate.status()["counters"][name]

    def requests(self, n):
        wait_for(f"{n} requests", lambda: self.count("requests_total") > n)     # one was made at the start

    def steady(self):
        """What is held once it no longer changes."""
        last = [None]

        def same():
            before, last[0] = last[0], (self.count("held_bytes"), self.count("bytes_in"))
            return before == last[0]
        wait_for("what is held to stay the same", same, every=0.3)
        return last[0][0]

    def within(self, most, connections):
        """Peak of the accounts, and memory: what lies in a buffer may pin one four times as large; TLS and sockets cost too."""
        held, peak, grown = self.steady(), self.count("held_bytes_peak"), procs.rss(self.pid) - self.before
        assert held <= peak <= most, f"{held >> 10} KiB are held, {peak >> 10} KiB at most; {most >> 10} were expected"
        assert grown < 4 * most + connections * 100 * KIB + allowance(8), f"grown by {grown >> 10} KiB"
        return held

    def nothing_left(self):
        for name in ("held_bytes", "promised_bytes"):
            wait_for(f"{name} to be 0", lambda n=name: self.count(n) == 0)
        assert self.gate.workers() == [self.pid], self.gate.log()[-3000:]


# --- answers that nobody reads

def h1_stalled(s, row):
    """Asks and reads nothing."""
    conns = [s.gate.tls(rcvbuf=4096) if row.tls else s.gate.plain(rcvbuf=4096) for _ in range(row.conns)]
    for c in conns:
        c.request("GET", row.path, "localhost")
    return conns


def h2_stalled(s, row):
    """Streams whose window is what the row says, and no more of it; `deaf`: not even the socket is read."""
    conns = []
    for _ in range(row.conns):
        deaf = getattr(row, "deaf", False)
        c = h2(s.gate, settings=[(INITIAL_WINDOW, row.window)], window=getattr(row, "connection", None), hold=True, **({"rcvbuf": 4096} if deaf else {}))
        for _ in range(row.streams):
            c.request(path=row.path)
        if not deaf:
            c.until(lambda c=c: all(x.headers for x in c.streams.values()))
        conns.append(c)
    return conns


BIG, SMALL, FILE, CHUNKED = f"/bytes/{GIB}", "/static/small", "/static/big", f"/chunked/{100 * MIB}"
STALLED = [
    Row("h1_plain_file", open=h1_stalled, tls=False, path=FILE, conns=20),
    Row("h1_tls_file", open=h1_stalled, tls=True, path=FILE, conns=20),
    Row("h1_plain_proxy", open=h1_stalled, tls=False, path=BIG, conns=20),
    Row("h1_tls_chunked", open=h1_stalled, tls=True, path=CHUNKED, conns=20),
    Row("h2_no_window_file", open=h2_stalled, window=0, path=FILE, conns=3, streams=120),
    Row("h2_no_window_small", open=h2_stalled, window=0, path=SMALL, conns=3, streams=120),
    Row("h2_no_window_proxy", open=h2_stalled, window=0, path=BIG, conns=2, streams=120),
    Row("h2_one_byte_proxy", open=h2_stalled, window=1, path=BIG, conns=1, streams=120),
    Row("h2_connection_window_file", open=h2_stalled, window=MIB, path=FILE, conns=3, streams=120),
    Row("h2_connection_window_small", open=h2_stalled, window=MIB, path=SMALL, conns=3, streams=120),
    Row("h2_connection_window_proxy", open=h2_stalled, window=MIB, path=BIG, conns=2, streams=120),
    Row("h2_deaf_file", open=h2_stalled, window=GIB, connection=GIB, deaf=True, path=FILE, conns=10, streams=20),
    Row("h2_deaf_proxy", open=h2_stalled, window=GIB, connection=GIB, deaf=True, path=CHUNKED, conns=5, streams=20),
    Row("h2_many_connections", open=h2_stalled, window=0, path=BIG, conns=50, streams=2),
]


@case()
def test_held_is_seen(t):
    """The accounts tell the truth: a stalled answer is held, counted in `status`, and gone with its client."""
    s = Site(t)
    with s.gate.plain(rcvbuf=4096) as c:
        c.request("GET", BIG, "localhost")
        s.requests(1)
        held = s.steady()
        assert 8 * KIB <= held <= RIGHT, held
    s.nothing_left()
    assert s.count("held_bytes_peak") >= held


@table(STALLED, lambda t: None)
def test_stalled(t, _, row):
    """Answers that wait for their client: bounded a connection, other requests go on, nothing stays."""
    s = Site(t, name=row.name, top={"timeouts": "{ write_gap: 10m }"})
    conns, streams = row.open(s, row), getattr(row, "streams", 1)
    s.requests(row.conns * streams)
    s.within(row.conns * (RIGHT + READ + streams * STREAM), row.conns)
    if getattr(row, "window", MIB) <= 1:        # the others of that very client
        for path in ("/hello", SMALL, "/bytes/60000"):
            x = conns[0].request(path=path)
            conns[0].send(window_frame(x.id, 60000))
            assert conns[0].answer(x).status == 200
            conns[0].send(window_frame(0, x.size))
    assert s.gate.get("/hello").body == b"hello"
    for c in conns:
        c.close()
    s.nothing_left()


# --- answers that are read slowly, but are

@table([Row("tiny", window=1000), Row("default", window=65535), Row("large", window=4 * MIB)], lambda t: None)
def test_slow_h2_reader(t, _, row):
    """Twenty answers read in turn, a little window at a time, beside a hundred that are not read at all: all arrive, in bounded memory."""
    s = Site(t, name=row.name)
    with h2(s.gate, settings=[(INITIAL_WINDOW, 0)], hold=True) as c:
        for i in range(100):
            c.request(path=BIG if i % 2 else FILE)
        c.until(lambda: all(x.headers for x in c.streams.values()))
        c.send(settings_frame([(INITIAL_WINDOW, 0)]))
        xs = [c.request(path=p) for p in (SMALL, "/bytes/100000", "/chunked/100000") for _ in range(6)]
        c.until(lambda: all(x.headers for x in xs))
        given = dict.fromkeys(xs, 0)
        while not all(x.done for x in xs):
            for x in xs:
                if not x.done and given[x] <= x.size:   # what it had is used up
                    c.send(window_frame(x.id, row.window) + window_frame(0, row.window))
                    given[x] += row.window
            size = sum(x.size for x in xs)
            c.until(lambda: sum(x.size for x in xs) > size or all(x.done for x in xs))
        assert {x.size for x in xs} == {60000, 100000}
        s.within(RIGHT + READ + 120 * STREAM, 1)
    s.nothing_left()


@case()
def test_slow_h1_reader(t):
    """A download read in small pieces arrives whole, and little of it lies here meanwhile."""
    s = Site(t)
    with s.gate.tls(rcvbuf=4096) as c:
        c.request("GET", f"/bytes/{4 * MIB}", "localhost")
        assert c.answer(sink=lambda piece: None).size == 4 * MIB
    s.within(RIGHT, 1)
    s.nothing_left()


# --- uploads that nobody takes

def fill(c, xs):
    """Sends on all streams what the windows allow, until for a while none opens any more; bytes a stream."""
    sent, block = {x.id: 0 for x in xs}, bytes(16384)
    c.sock.settimeout(1)
    try:
        while True:
            c.until(lambda: c.send_window > 0 and any(x.send_window > 0 for x in xs))
            for x in xs:
                if (n := min(x.send_window, c.send_window, 16384)) > 0:
                    sent[x.id] += c.send_body(x, block[:n], end=False)
    except TimeoutError:
        c.sock.settimeout(60)
    return sent


@table([Row("one", n=1), Row("some", n=10), Row("many", n=25)], lambda t: None)
def test_stalled_h2_uploads(t, _, row):
    """Uploads on one connection to a backend that does not read; another upload goes on; then all of them arrive, whole."""
    s = Site(t, name=row.name, top={"timeouts": "{ body_gap: 10m }"})
    with h2(s.gate) as c:
        xs = [c.request("POST", "/stalled-read/0", end=False) for _ in range(row.n)]
        sent = fill(c, xs)
        s.within(RIGHT + READ + row.n * (STREAM + MIB), row.n)     # windows that grew while the backend kept up
        assert json.loads(c.get("/sink", "POST", body=bytes(300000)).body)["size"] == 300000, "another upload is held up"
        s.backend.gate.set()
        for x in xs:
            c.send_body(x, b"")
        for x in xs:
            assert json.loads(c.answer(x).body)["size"] == sent[x.id]
    s.nothing_left()


@table([Row("length", head=b"Content-Length: 1000000000\r\n", piece=bytes(65536)),
        Row("chunked", head=b"Transfer-Encoding: chunked\r\n", piece=b"4000\r\n" + bytes(16384) + b"\r\n")], lambda t: None)
def test_stalled_h1_uploads(t, _, row):
    s = Site(t, name=row.name, top={"timeouts": "{ body_gap: 10m }"})
    conns = []
    for i in range(10):
        c = s.gate.tls() if i % 2 else s.gate.plain()
        conns.append(c)
        c.send(b"POST /stalled-read/0 HTTP/1.1\r\nHost: localhost\r\n" + row.head + b"\r\n")
        c.sock.settimeout(0.5)
        try:
            for _ in range((64 << 20) // len(row.piece)):      # the kernel's buffers alone may hold 16
                c.sock.sendall(row.piece)
            raise AssertionError("64 MB were taken for a backend that reads nothing")
        except (TimeoutError, ssl.SSLWantWriteError):
            pass
    s.within(10 * (RIGHT + READ), 10)
    assert s.gate.get("/hello").body == b"hello"
    s.backend.gate.set()    # while nothing is read from a client, nobody learns that it went away
    for c in conns:
        c.close()
    s.nothing_left()


# --- heads

@case()
def test_slow_heads(t):
    """Heads near the limit that never end, on many connections: each is counted, and gone with its connection."""
    s = Site(t, top={"timeouts": "{ header: 10m }"})
    conns = [s.gate.plain() for _ in range(100)]
    for c in conns:
        c.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X-A: %s\r\n" % (b"x" * 1000) * 30)
    wait_for("the heads", lambda: s.count("held_bytes") >= 100 * 30 * KIB)
    s.within(100 * 2 * READ, 100)
    assert s.gate.get("/hello").body == b"hello"
    for c in conns:
        c.send(b"\r\n")
        assert c.answer().status == 200
        c.close()
    s.nothing_left()


def greedy(s, n):
    """Connections whose streams, all with large heads and no window, use the ceiling up; how many streams were refused."""
    conns, refused = [], 0
    head = [("x-large", "x" * 30000)]
    for _ in range(n):
        c = h2(s.gate, settings=[(INITIAL_WINDOW, 0)], hold=True)
        for _ in range(120):
            c.request(path=FILE, headers=head)
        c.until(lambda c=c: all(x.headers or x.reset is not None for x in c.streams.values()))
        assert {x.reset for x in c.streams.values()} <= {None, REFUSED_STREAM}
        refused += sum(x.reset is not None for x in c.streams.values())
        conns.append(c)
    return conns, refused


@case()
def test_ceiling(t):
    """Clients that use the ceiling up are refused streams beyond their right; what others have of right they get, uploads and downloads too."""
    s = Site(t, top={"timeouts": "{ write_gap: 10m }"})
    conns, refused = greedy(s, 25)
    assert refused > 100 and s.count("streams_refused") == refused, refused
    s.within(25 * (RIGHT + READ) + CEILING, 25)
    for c in conns[:2]:         # the greedy themselves: what they read and send still flows
        for x in [x for x in c.streams.values() if x.reset is None][:2]:
            c.send(window_frame(x.id, 3 * 65536))
        c.send(window_frame(0, 1 << 20))
        c.until(lambda c=c: sum(x.size for x in c.streams.values()) == 6 * 65536)
    with h2(s.gate) as c:
        assert c.answer(c.request(path=f"/bytes/{MIB}")).size == MIB
        assert json.loads(c.get("/sink", "POST", body=bytes(300000)).body)["size"] == 300000
        for _ in range(10):
            assert c.get("/hello").body == b"hello"
    with s.gate.tls() as c:
        assert c.get(f"/bytes/{MIB}").size == MIB
        assert json.loads(c.get("/sink", method="POST", body=bytes(300000)).body)["size"] == 300000
    for c in conns:
        c.close()
    s.nothing_left()
    with h2(s.gate) as c:       # and then there is room again
        assert {c.answer(c.request(path="/hello", headers=[("x-large", "x" * 30000)])).status for _ in range(100)} == {200}


@case()
def test_uploads_wait_for_the_ceiling(t):
    """An upload beyond its right waits while others use the ceiling up, and goes on when they let go."""
    s = Site(t, top={"timeouts": "{ write_gap: 10m, body_gap: 10m }"})
    conns, refused = greedy(s, 25)
    with h2(s.gate) as c:
        xs = [c.request("POST", "/stalled-read/0", end=False) for _ in range(10)]
        sent = fill(c, xs)
        assert c.send_window == 0, f"{c.send_window} {sent} {s.gate.status()['counters']}"
        wait_for("it to wait", lambda: s.count("budget_waits") > 0)
        for other in conns:
            other.close()
        c.until(lambda: c.send_window > 0)
        s.backend.gate.set()
        for x in xs:
            sent[x.id] += c.send_body(x, bytes(200000))
        for x in xs:
            assert json.loads(c.answer(x).body)["size"] == sent[x.id]
    s.nothing_left()
