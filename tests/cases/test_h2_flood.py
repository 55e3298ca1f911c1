"""
HTTP/2 clients that make work for nothing: floods of each cheap frame, header bombs, streams over the limit, answers nobody
reads. The connection ends or is held back, the worker's memory stays flat, the backend hears little, others are served.
"""
import backends
from h2wire import *
from headgate import *

CALM = "goaway ENHANCE_YOUR_CALM"


class Site:
    def __init__(self, t, **kw):
        self.backend = t.backend()
        t.write("www/big.bin", backends.BLOCK * 40)
        routes = f"/: {{ proxy: app }}\n      /hello: {{ respond: hello }}\n      /static/: {{ files: {t.path('www')} }}"
        self.gate = t.headgate(proxy_site(self.backend.url, routes=routes), workers=1, **kw)
        self.worker = self.gate.workers()[0]


def unhurt(s, before, grown=16):
    """The same worker serves the next client at once, and has not grown."""
    assert s.gate.workers() == [s.worker], "the worker was replaced"
    with h2(s.gate) as c:
        assert json.loads(c.get("/after").body)["target"] == "/after"
    more = procs.rss(s.worker) - before
    assert more < allowance(grown), f"the worker grew by {more >> 20} MiB"
    assert not s.backend.errors, s.backend.errors
    wait_for("the backend's connections to end or rest", lambda: s.backend.open <= 8)


def pour(c, pieces):
    """Sends until the server has enough; True when all went out."""
    batch = b""
    for piece in pieces:
        batch += piece
        if len(batch) > 16000:
            if not c.try_send(batch):
                return False
            batch = b""
    return c.try_send(batch)


def req(sid, path="/silent", end=True, method="GET"):
    return headers_frame(sid, request_fields(method, path), END_HEADERS | (END_STREAM if end else 0))


def ids(n, first=1):
    return range(first, first + 2 * n, 2)


def opened(c, n, first=1):
    for sid in ids(n, first):
        c.streams[sid] = Stream(sid, 65535)


N = 5000
OPEN = req(1, "/sink", end=False, method="POST")
FLOODS = [
    Row("rapid_reset", make=lambda: (req(i) + rst_frame(i) for i in ids(N))),
    Row("rapid_reset_of_answers", make=lambda: (req(i, "/hello") + rst_frame(i) for i in ids(N))),
    Row("rapid_reset_of_files", make=lambda: (req(i, "/static/big.bin") + rst_frame(i) for i in ids(N))),
    Row("rapid_reset_of_posts", make=lambda: (req(i, "/sink", False, "POST") + frame(DATA, 0, i, b"x") + rst_frame(i) for i in ids(N))),
    # the server made to reset the streams itself
    Row("made_reset_window_zero", make=lambda: (req(i) + window_frame(i, 0) for i in ids(N)), want=(CALM, "goaway PROTOCOL_ERROR")),
    Row("made_reset_window_overflow", make=lambda: (req(i) + window_frame(i, (1 << 31) - 1) for i in ids(N)), want=(CALM, "goaway FLOW_CONTROL_ERROR")),
    Row("made_reset_data_half_closed", make=lambda: (req(i) + frame(DATA, 0, i, b"x") for i in ids(N)), want=(CALM, "goaway STREAM_CLOSED")),
    Row("made_reset_headers_half_closed", make=lambda: (req(i) + req(i) for i in ids(N)), want=(CALM, "goaway STREAM_CLOSED")),
    Row("made_reset_priority_length", make=lambda: (req(i) + frame(PRIORITY, 0, i, b"\0\0\0\0") for i in ids(N)),
        want=(CALM, "goaway FRAME_SIZE_ERROR")),
    Row("made_reset_length", make=lambda: (headers_frame(i, request_fields("POST", "/sink", more=[("content-length", "1")]), END_HEADERS)
                                           + frame(DATA, END_STREAM, i, b"xx") for i in ids(N))),
    Row("malformed", make=lambda: (headers_frame(i, request_fields(more=[("connection", "close")])) for i in ids(N))),
    Row("refused", make=lambda: (headers_frame(i, request_fields(more=[("host", "x")])) for i in ids(N))),
    Row("ping", make=lambda: (ping_frame(b"%08d" % i) for i in range(4 * N))),
    Row("ping_acks", make=lambda: (ping_frame(flags=ACK) for i in range(4 * N))),
    Row("settings", make=lambda: (settings_frame([(INITIAL_WINDOW, 65535)]) for i in range(4 * N))),
    Row("settings_empty", make=lambda: (settings_frame() for i in range(4 * N))),
    Row("settings_table_size", make=lambda: (settings_frame([(TABLE_SIZE, i % 2 * 4096)]) for i in range(4 * N))),
    Row("settings_windows_of_open_streams", make=lambda: ([req(i) for i in ids(100)] + [settings_frame([(INITIAL_WINDOW, 65535 + i % 2)]) for i in range(4 * N)]),
        streams=100),
    Row("priority_update", make=lambda: (priority_update_frame(1, b"u=%d" % (i % 8)) for i in range(4 * N))),
    Row("priority_update_idle", make=lambda: (priority_update_frame(2 * i + 1, b"u=0") for i in range(4 * N)), want=(CALM, "goaway PROTOCOL_ERROR")),
    Row("priority", make=lambda: (priority_frame(2 * i + 1) for i in range(4 * N)), want=(CALM,)),
    Row("data_empty", make=lambda: [OPEN] + [frame(DATA, 0, 1)] * N),
    Row("data_empty_padded", make=lambda: [OPEN] + [frame(DATA, PADDED, 1, b"\3\0\0\0")] * N),
    Row("data_for_closed", make=lambda: [OPEN + rst_frame(1)] + [frame(DATA, 0, 1, b"x")] * N, want=(CALM, "goaway STREAM_CLOSED")),
    Row("headers_for_closed", make=lambda: [OPEN + rst_frame(1)] + [req(1)] * N, want=(CALM, "goaway STREAM_CLOSED", "goaway PROTOCOL_ERROR")),
    Row("rst_for_closed", make=lambda: [OPEN + rst_frame(1)] + [rst_frame(1)] * N, want=(CALM, "goaway STREAM_CLOSED")),
    Row("window_for_closed", make=lambda: [OPEN + rst_frame(1)] + [window_frame(1, 1)] * N, want=(CALM,)),
    Row("continuation", make=lambda: [frame(HEADERS, END_STREAM, 1, encode(request_fields()))] + [frame(CONT, 0, 1, encode([("x-a", "b" * 1000)]))] * N,
        want=None),
    Row("continuation_empty", make=lambda: [frame(HEADERS, END_STREAM, 1, encode(request_fields()))] + [frame(CONT, 0, 1)] * (20 * N), want=None),
    Row("continuation_half_field", make=lambda: [frame(HEADERS, END_STREAM, 1, b"\0\x7f\xff\xff\xff\x07")] + [frame(CONT, 0, 1, b"a" * 16384)] * 500, want=None),
    # one entry of the table, many times
    Row("header_bomb", make=lambda: [headers_frame(1, encode(request_fields(path="/hello")) + literal("x-bomb", "b" * 3900, index=True) + indexed(62) * 16000)],
        want=("431", CALM, "reset ENHANCE_YOUR_CALM")),
    Row("header_bombs", make=lambda: [headers_frame(1, encode(request_fields(path="/hello")) + literal("x-bomb", "b" * 3900, index=True))]
        + [headers_frame(i, encode(request_fields(path="/hello")) + indexed(62) * 8) for i in ids(N, 3)] , want=("200", CALM, "reset ENHANCE_YOUR_CALM")),
    Row("header_bomb_cookies", make=lambda: [headers_frame(1, encode(request_fields(path="/hello")) + literal("cookie", "b" * 30, index=True) + indexed(62) * 16000)],
        want=("431", CALM, "reset ENHANCE_YOUR_CALM")),
    Row("header_bomb_trailers", make=lambda: [OPEN, headers_frame(1, literal("x-bomb", "b" * 3900, index=True) + indexed(62) * 16000)],
        want=("431", CALM, "reset ENHANCE_YOUR_CALM", "reset PROTOCOL_ERROR")),
]


@table(FLOODS, Site)
def test_flood(t, s, row):
    """A client that reads what it is told: the connection ends with ENHANCE_YOUR_CALM (or another error that fits)."""
    want = getattr(row, "want", (CALM,))
    before, begun = procs.rss(s.worker), s.backend.begun
    with h2(s.gate, hold=True) as c:
        opened(c, 2 * N)
        pour(c, row.make())
        got = c.outcome(c.streams[1])
        if not got.startswith(("goaway", "open")) and want and got not in want:
            got = c.ending() if c.verdict() != "open" else "open"
        assert got.startswith("goaway ") if want is None else got in want, f"{got}, expected {want}; {c.streams[1]}, {c.goaways}"
    assert s.backend.begun - begun < 1000, f"{s.backend.begun - begun} requests reached the backend"
    unhurt(s, before)


@table([r for r in FLOODS if r.name in ("ping", "settings_empty", "rapid_reset", "rapid_reset_of_answers", "made_reset_data_half_closed", "refused")], Site)
def test_flood_unread(t, s, row):
    """The same from a client that reads nothing: what is queued for it is bounded, and the connection ends."""
    before = procs.rss(s.worker)
    with h2(s.gate, hold=True, rcvbuf=4096) as c:
        opened(c, 2 * N)
        all_out = pour(c, row.make())
        assert not all_out or c.at_end() or not c.quiet(10), "the connection goes on"
    unhurt(s, before)


@case()
def test_streams_over_the_limit(t):
    """limits.streams: of a client that has not yet heard of it, those above are refused as ones that nobody looked at; the others are answered."""
    s = Site(t, top={"limits": "{ streams: 10 }"})
    with h2(s.gate) as c:
        held = [c.request(path="/held") for _ in range(10)]
        over = [c.request(path="/x") for _ in range(5)]
        assert [c.outcome(x) for x in over] == ["reset REFUSED_STREAM"] * 5
        assert c.peer[MAX_STREAMS] == 10, c.peer
        wait_for("ten requests", lambda: s.backend.count == 10)
        s.backend.gate.set()
        for x in held:
            assert c.answer(x).body == b"at last"
        assert c.get("/y").status == 200
    assert "/x" not in s.backend.targets()


@case()
def test_streams_over_the_known_limit(t):
    """One that knows the limit and goes over it breaks the protocol: the stream is refused, or the connection ends."""
    s = Site(t, top={"limits": "{ streams: 10 }"})
    with h2(s.gate) as c:
        c.ping()
        for _ in range(10):
            c.request(path="/held")
        c.ping()
        assert c.outcome(c.request(path="/x")) in ("reset REFUSED_STREAM", "reset PROTOCOL_ERROR", "goaway PROTOCOL_ERROR")
    s.backend.gate.set()
    assert "/x" not in s.backend.targets()
    with h2(s.gate) as c:
        assert c.get("/y").status == 200


@case()
def test_streams_over_the_limit_at_once(t):
    """Three hundred streams in one write, over the default limit: each is answered or refused, none hangs."""
    s = Site(t)
    with h2(s.gate) as c:
        opened(c, 300)
        c.try_send(b"".join(req(i, "/x") for i in ids(300)))
        got = [c.outcome(c.streams[i]) for i in ids(300)]
        assert set(got) <= {"200", "reset REFUSED_STREAM"} and got.count("200") >= 100, {g: got.count(g) for g in set(got)}
        c.next_id = 601
        assert c.get("/y").status == 200


@case()
def test_windows_that_stay_shut(t):
    """A hundred streams of one client, with no window, ask for a gibibyte each: little is taken from the backend, memory stays flat."""
    s = Site(t)
    before = procs.rss(s.worker)
    with h2(s.gate, settings=[(INITIAL_WINDOW, 0)]) as c:
        for _ in range(100):
            c.request(path=f"/bytes/{1 << 30}")
        c.until(lambda: all(x.headers for x in c.streams.values()))
        c.quiet(0.5)
        assert all(x.size == 0 and not x.done for x in c.streams.values())
        grown = procs.rss(s.worker) - before
        assert grown < allowance(40), f"the worker grew by {grown >> 20} MiB"
    wait_for("the backend's connections to end", lambda: s.backend.open == 0)
    with h2(s.gate) as c:
        assert c.get("/x").status == 200


@case()
def test_windows_of_one_byte(t):
    """A client that gives one byte of window at a time is served; it costs nobody else anything."""
    s = Site(t)
    with h2(s.gate, settings=[(INITIAL_WINDOW, 1)]) as c:
        x = c.request(path="/bytes/3000")
        assert c.answer(x).size == 3000
        x = c.request(path="/hello")
        assert c.answer(x).body == b"hello"


@case()
def test_many_small_data_frames(t):
    """Bodies in frames of one byte are slow, not a flood: they arrive."""
    s = Site(t)
    with h2(s.gate) as c:
        x = c.request("POST", "/sink", end=False)
        for _ in range(20):
            c.send(b"".join(frame(DATA, 0, x.id, b"x") for _ in range(500)))
            c.ping()
        c.send(frame(DATA, END_STREAM, x.id))
        assert json.loads(c.answer(x).body)["size"] == 10000


@case()
def test_patient_client(t):
    """What an honest browser does in a day is no flood: thousands of requests with a reset, a PING and a PRIORITY among them."""
    s = Site(t)
    with h2(s.gate) as c:
        for i in range(300):
            xs = [c.request(path="/hello") for _ in range(10)]
            if i % 3 == 0:
                x = c.request(path="/silent")
                c.send(rst_frame(x.id) + priority_frame(x.id + 2))
                c.streams.pop(x.id)
            for x in xs:
                assert c.answer(x).body == b"hello"
            c.ping()


@case()
def test_link_measured_by_pings(t):
    """A PING after each DATA frame is how gRPC's libraries measure a link while they download (Go's on fast ones: thousands a second): no flood."""
    s = Site(t)
    with h2(s.gate) as c:
        for _ in range(6):
            x = c.request(path="/static/big.bin")
            x.sink = lambda data: c.send(ping_frame(b"measured"))
            assert c.answer(x).size == len(backends.BLOCK) * 40 and x.frames > 600
        c.ping()
        assert not c.goaways and c.pongs.count(b"measured") > 3600


@case()
def test_page_left(t):
    """A browser that leaves a page cancels all its streams at once; the next page is served on the same connection. And again."""
    s = Site(t)
    with h2(s.gate) as c:
        c.ping()
        for i in range(3):
            xs = [c.request(path="/silent") for _ in range(c.peer[MAX_STREAMS])]
            wait_for("the requests", lambda n=len(xs): s.backend.open >= n)
            c.send(b"".join(rst_frame(x.id) for x in xs))
            assert c.get("/hello").body == b"hello"
            wait_for("the backend connections' end", lambda: s.backend.open == 0)
            for _ in range(100):
                assert c.get("/hello").body == b"hello"


@case()
def test_window_updates_come_late(t):
    """Clients that give window for each 4 KiB that they take (Go's) do so for streams that are long over at our side: no flood."""
    s = Site(t)
    t.write("www/mib.bin", backends.BLOCK * 4)
    with h2(s.gate, hold=True, settings=[(INITIAL_WINDOW, 4 << 20)], window=1 << 30, rcvbuf=4 << 20) as c:
        for _ in range(30):
            x = c.request(path="/static/mib.bin")
            assert c.answer(x).size == 1 << 20
            c.send(window_frame(x.id, 4096) * 255)
        assert c.get("/hello").body == b"hello" and not c.goaways


@case()
def test_nothing_sent(t):
    """A handshake with h2 and then nothing, half a preface, half a frame, half a head: the connection ends after timeouts.header."""
    s = Site(t, top={"timeouts": "{ header: 1s, idle: 2s }"})
    for raw in (b"", PREFACE[:10], PREFACE, PREFACE + settings_frame()[:5], PREFACE + settings_frame(),
                PREFACE + settings_frame() + req(1, "/hello")[:20], PREFACE + settings_frame() + frame(HEADERS, END_STREAM, 1, encode(request_fields()))):
        with h2(s.gate, preface=False) as c:
            c.send(raw)
            opened(c, 1)
            got = c.ending()
            assert got in ("goaway NO_ERROR", "goaway PROTOCOL_ERROR", "closed"), (raw[-20:], got)
    with h2(s.gate) as c:
        assert c.get("/x").status == 200
