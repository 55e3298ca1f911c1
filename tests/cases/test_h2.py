"""HTTP/2 as clients use it: requests and answers of each kind, bodies, windows, many streams at once, cancelling, going away."""
import hashlib

import backends
from h2wire import *
from headgate import *
from test_proxy import TRUNCATED, peak_growth

MIB = 1 << 20
BIG = 100 * MIB


class Site:
    def __init__(self, t, behave=None, rcvbuf=None, **kw):
        self.t = t
        self.backend = t.backend(behave, rcvbuf=rcvbuf)
        self.www = t.path("www")
        t.write("www/a.txt", "a file\n")
        kw.setdefault("workers", 1)
        routes = f"/: {{ proxy: app }}\n      /hello: {{ respond: hello }}\n      /static/: {{ files: {self.www} }}"
        self.gate = t.headgate(proxy_site(self.backend.url, routes=routes)
                               + "  other: { host: other.localhost, https: both, routes: { /: { respond: other } } }\n", **kw)

    def big_file(self, size):
        if not os.path.exists(os.path.join(self.www, "big")):
            self.t.run(["truncate", "-s", str(size), os.path.join(self.www, "big")])


def names(headers):
    return [n.lower() for n, _ in headers]


def reset_of(c, s):
    """The error code that the stream ends with; an answer that looks whole is a failure."""
    try:
        c.answer(s)
    except Reset as e:
        return error_name(e.code)
    raise AssertionError(f"it ended in order: {s}")


# --- requests and answers

ANSWERS = [
    Row("respond_get", path="/hello", status=200, body=b"hello"),
    Row("respond_head", path="/hello", method="HEAD", status=200, body=b"", length="5"),
    Row("respond_post", path="/hello", method="POST", send=b"x" * 5000, status=(200, 405)),
    Row("file_get", path="/static/a.txt", status=200, body=b"a file\n", length="7"),
    Row("file_head", path="/static/a.txt", method="HEAD", status=200, body=b"", length="7"),
    Row("file_range", path="/static/a.txt", headers=[("range", "bytes=2-3")], status=206, body=b"fi"),
    Row("file_post", path="/static/a.txt", method="POST", send=b"x" * 5000, status=405),
    Row("file_missing", path="/static/none", status=404),
    Row("file_folder", path="/static/", status=(404, 403)),
    Row("proxy_get", path="/x", status=200),
    Row("proxy_head", path="/x", method="HEAD", status=200, body=b""),
    Row("proxy_head_big", path="/bytes/0", method="HEAD", status=200, body=b""),
    Row("proxy_post", path="/sink", method="POST", send=b"x" * 5000, status=200),
    Row("proxy_put_empty", path="/sink", method="PUT", send=b"", status=200),
    Row("proxy_get_body", path="/sink", send=b"x" * 5000, status=200),
    Row("proxy_empty", path="/bytes/0", status=200, body=b"", length="0"),
    Row("proxy_chunked_empty", path="/chunked/0", status=200, body=b""),
    Row("proxy_until_close", path="/until-close/70000", status=200, size=70000),
    Row("proxy_204", path="/status/204", status=204, body=b"", length=None),
    Row("proxy_304", path="/status/304", status=304, body=b""),
    Row("proxy_404", path="/status/404", status=404, body=b"status 404"),
    Row("proxy_500", path="/status/500", status=500, body=b"status 500"),
    Row("proxy_interim", path="/interim", status=200, body=b"final"),
    Row("proxy_hop", path="/hop", status=200, body=b"hop"),
    Row("proxy_close", path="/connection-close", status=200, body=b"bye"),
    Row("proxy_tail_garbage", path="/tail-garbage", status=200, body=b"ok"),
    Row("other_host", path="/x", host="other.localhost", status=421),
    Row("unknown_host", path="/x", host="example.org", status=421),
]


@table(ANSWERS, Site)
def test_answer(t, s, row):
    """Status, length and body of each kind of route; the stream ends, and the connection goes on. The reader checks the fields."""
    method = getattr(row, "method", "GET")
    with h2(s.gate) as c:
        a = c.get(row.path, method, getattr(row, "headers", ()), getattr(row, "send", None), getattr(row, "host", None))
        assert a.status in (row.status if isinstance(row.status, tuple) else (row.status,)), a
        assert getattr(row, "body", a.body) == a.body and getattr(row, "size", a.size) == a.size, a
        assert getattr(row, "length", a.get("content-length")) == a.get("content-length"), a
        assert a.get("date") and a.headers.count(("date", a.get("date"))) == 1 and "x-secret-hop" not in names(a.headers), a
        if row.name == "proxy_hop":
            assert a.all("set-cookie") == ["a=1", "b=2"] and a.get("x-end") == "2", a
        assert c.get("/hello").body == b"hello"
    assert not s.backend.errors, s.backend.errors


@table([Row(n) for n in backends.BAD_ANSWERS], Site)
def test_bad_answer(t, s, row):
    """A backend's answer that breaks the grammar is 502; nothing of it comes through."""
    with h2(s.gate) as c:
        a = c.get("/bad/" + row.name)
        assert a.status == 502 and b"raw" not in a.body and "x-a" not in names(a.headers), a
        assert c.get("/x").status == 200


@table([r for r in TRUNCATED if r.secure], Site)
def test_truncated(t, s, row):
    """A cut answer ends with a reset, INTERNAL_ERROR, never in order; the other streams and the connection go on."""
    with h2(s.gate) as c:
        other = c.request(path="/drip/200")
        x = c.request(path=f"/{row.kind}/{row.size}")
        got = c.outcome(x)
        assert got in ("reset INTERNAL_ERROR", "502"), f"{got}: {x}"
        assert c.answer(other).size == 200 and c.get("/x").status == 200


@case()
def test_truncated_reset(t):
    """RST of the backend inside a body: what came before arrives, then the reset."""
    s = Site(t)
    with h2(s.gate) as c:
        x = c.request(path="/cut-reset/5000")
        c.until(lambda: x.size == 5000)
        s.backend.gate.set()
        assert reset_of(c, x) == "INTERNAL_ERROR" and x.size == 5000, x
        assert c.get("/x").status == 200


@case()
def test_no_backend(t):
    """Nobody listens: 502 or 503 with headgate's page."""
    gate = t.headgate(proxy_site(f"http://127.0.0.1:{t.port()}"), workers=1)
    with h2(gate) as c:
        for _ in range(3):
            a = c.get("/x", headers=[("accept", "text/html")])
            assert a.status in (502, 503) and b"<html" in a.body, a


@case()
def test_what_the_backend_sees(t):
    """HTTP/1.1 with Host from :authority, forwarded fields that tell the truth, crumbs of cookies joined, no trace of HTTP/2."""
    s = Site(t)
    with h2(s.gate) as c:
        a = c.get("/a%2Fb?x=1&y", headers=[("cookie", "a=1"), ("x-before", "1"), ("cookie", "b=2; c=3"), ("cookie", "d=4"), ("te", "trailers"),
                                          ("x-forwarded-for", "6.6.6.6"), ("forwarded", "for=6.6.6.6"), ("x-twice", "1"), ("x-twice", "2")])
        dump = json.loads(a.body)
        h = [(n.lower(), v) for n, v in dump["headers"]]
        d = dict(h)
        assert dump["version"] == "HTTP/1.1" and dump["target"] == "/a%2Fb?x=1&y" and d["host"] == "localhost", dump
        assert [v for n, v in h if n == "cookie"] == ["a=1; b=2; c=3; d=4"], h
        assert d["x-forwarded-for"] == "127.0.0.1" and d["x-forwarded-proto"] == "https" and d["x-forwarded-host"] == "localhost", h
        assert "6.6.6.6" not in json.dumps(h) and [v for n, v in h if n == "x-twice"] == ["1", "2"], h
        assert not any(n.startswith(":") or n in ("http2-settings", "upgrade", "content-length", "transfer-encoding") for n in d), h
        post = json.loads(c.get("/x", "POST", [("content-length", "5")], b"hello").body)
        assert post["body"] == "hello" and dict(map(tuple, post["headers"])).get("content-length", "5") == "5", post
    s.gate.wait_log('"proto":"HTTP/2"', '"path":"/a%2Fb"')


@case()
def test_trailers_both_ways(t):
    """Trailers arrive at the backend and from it; framing fields among them do not; an answer of trailers alone ends in order."""
    s = Site(t)
    with h2(s.gate) as c:
        x = c.request("POST", "/trailers", [("te", "trailers"), ("trailer", "x-sum")], end=False)
        c.send(frame(DATA, 0, x.id, b"hello") + headers_frame(x.id, [("x-sum", "7"), ("content-length", "3")]))
        assert c.outcome(x) in ("200", "reset PROTOCOL_ERROR"), x
        x = c.request("POST", "/trailers", [("te", "trailers"), ("trailer", "x-sum")], end=False)
        c.send(frame(DATA, 0, x.id, b"hello") + headers_frame(x.id, [("x-sum", "7"), ("x-also", "8")]))
        a = c.answer(x)
        assert a.body == b"hello" and a.trailers == [("x-sum", "42")], (a, a.trailers)
    assert [(n.lower(), v) for n, v in s.backend.requests[-1].trailers] == [("x-sum", "7"), ("x-also", "8")], s.backend.requests[-1].trailers


@case()
def test_expect_continue(t):
    """100 comes when the backend's side wants the body, before it is sent; and only then."""
    s = Site(t)
    with h2(s.gate) as c:
        x = c.request("POST", "/sink", [("expect", "100-continue"), ("content-length", "5")], end=False)
        c.until(lambda: x.interim or x.done)
        assert x.interim == [100], x
        c.send_body(x, b"hello")
        assert json.loads(c.answer(x).body)["size"] == 5
        x = c.request("POST", "/x", [("expect", "100-continue"), ("content-length", "5")], end=False, host="other.localhost")
        assert c.answer(x).status == 421 and not x.interim
        x = c.request("POST", "/x", [("expect", "100-continue"), ("content-length", "0")])
        assert c.answer(x).status == 200


@case()
def test_early_answer(t):
    """Answers that come before the body: whole at the client, which may go on sending or is told to stop; the connection goes on."""
    s = Site(t)
    with h2(s.gate) as c:
        for path, status in (("/early", 413), ("/static/a.txt", 405), ("/early-keep", 200), ("/nothing-here", 421)):
            host = "other.localhost" if status == 421 else None
            for announced in ((), [("content-length", str(30 * MIB))]):
                x = c.request("POST", path, announced, end=False, host=host)
                sent = c.send_body(x, (bytes(65536) for _ in range(30 * 16)))
                c.until(lambda: x.done)
                assert x.headers and x.status == status and x.reset in (None, NO_ERROR) and (x.ended or x.reset == NO_ERROR), (path, x)
                assert path == "/early-keep" or sent < 25 * MIB, f"{path}: {sent} bytes were taken"
                assert c.get("/hello").body == b"hello", path


@case()
def test_other_protocols(t):
    """h2 is chosen when it is offered, in whatever order; http/1.1 alone and no ALPN mean HTTP/1.1; both TLS versions."""
    s = Site(t)
    for v in (TLS12, TLS13):
        for offer, chosen in ((["h2"], "h2"), (["h2", "http/1.1"], "h2"), (["http/1.1", "h2"], "h2"), (["x", "h2"], "h2"),
                              (["http/1.1"], "http/1.1"), (["h2c", "http/1.1"], "http/1.1"), (None, None)):
            with s.gate.tls(alpn=offer, low=v, high=v) as c:
                assert c.sock.selected_alpn_protocol() == chosen, (v, offer)
                if chosen != "h2":
                    assert c.get("/hello").body == b"hello"
        with H2(("127.0.0.1", s.gate.https), h2_context(s.gate.ca, low=v, high=v)) as c:
            assert c.get("/hello").body == b"hello"


# --- bodies

SIZES = (0, 1, 1000, 16383, 16384, 16385, 65535, 65536, 131073, MIB)


@case()
def test_upload_sizes(t):
    """Bodies of many sizes arrive whole, announced and not, in frames of many sizes."""
    s = Site(t)
    with h2(s.gate) as c:
        for size in SIZES:
            body = (backends.BLOCK * (size // len(backends.BLOCK) + 1))[:size]
            want = {"size": size, "sha256": hashlib.sha256(body).hexdigest()}
            for headers in ((), [("content-length", str(size))]):
                assert json.loads(c.get("/sink", "POST", headers, body).body) == want, size
            x = c.request("PUT", "/sink", end=False)
            c.send_body(x, (body[i:i + 7001] for i in range(0, size, 7001)))
            assert json.loads(c.answer(x).body) == want, size


@case()
def test_download_sizes(t):
    """Answers of many sizes arrive whole: from backends in three ways, and from files."""
    s = Site(t)
    with h2(s.gate) as c:
        for size in SIZES:
            body = (backends.BLOCK * (size // len(backends.BLOCK) + 1))[:size]
            t.write("www/%d.bin" % size, body)
            for path in (f"/bytes/{size}", f"/until-close/{size}", f"/static/{size}.bin"):
                assert c.get(path).body == body, path
            assert c.get(f"/chunked/{size}").size == size


@case()
def test_download_100m_flat_memory(t):
    """100 MB from a backend and from a file: all arrives, the worker's memory stays flat."""
    s = Site(t)
    s.big_file(BIG)

    def work():
        with h2(s.gate, settings=[(INITIAL_WINDOW, MIB)], window=8 * MIB) as c:
            for path in (f"/bytes/{BIG}", "/static/big"):
                x = c.request(path=path)
                x.sink = lambda piece: None
                assert c.answer(x).size == BIG
    grown = peak_growth(s.gate, work)
    assert grown < allowance(24), f"the worker grew by {grown >> 20} MiB"


@case()
def test_upload_100m_flat_memory(t):
    """100 MB to a backend: all arrives, the worker's memory stays flat; windows have followed the backend."""
    s = Site(t)

    def work():
        with h2(s.gate) as c:
            x = c.request("POST", "/sink", end=False)
            assert c.send_body(x, (bytes(MIB) for _ in range(BIG // MIB))) == BIG
            assert json.loads(c.answer(x).body)["size"] == BIG
    grown = peak_growth(s.gate, work)
    assert grown < allowance(24), f"the worker grew by {grown >> 20} MiB"


@case()
def test_both_ways_at_once(t):
    """Ten uploads and ten downloads of 2 MB each, interleaved on one connection."""
    s = Site(t)
    piece = os.urandom(16384)
    with h2(s.gate) as c:
        downs = [c.request(path=f"/bytes/{2 * MIB}") for _ in range(10)]
        ups = [c.request("POST", "/sink", end=False) for _ in range(10)]
        for _ in range(128):
            for x in ups:
                c.send_body(x, piece, end=False)
        for x in ups:
            c.send_body(x, b"")
        want = hashlib.sha256(piece * 128).hexdigest()
        for x in ups:
            assert json.loads(c.answer(x).body) == {"size": 2 * MIB, "sha256": want}
        for x in downs:
            assert c.answer(x).size == 2 * MIB


# --- many streams

@case()
def test_hundred_streams(t):
    """A hundred requests wait at the backend at the same time, on one connection; each gets its own answer, last come first answered."""
    gates = {}

    def behave(peer, req):
        peer.backend.whole(peer, req)
        gates.setdefault(req.target, threading.Event()).wait(60)
        peer.reply(200, [], req.target)
    s = Site(t, behave)
    with h2(s.gate) as c:
        xs = [c.request(path=f"/{i}") for i in range(100)]
        wait_for("a hundred requests", lambda: s.backend.count == 100)
        for i in reversed(range(100)):
            gates.setdefault(f"/{i}", threading.Event()).set()
            assert c.answer(xs[i]).body == b"/%d" % i
    assert s.backend.connections == 100


@case()
def test_thousands_of_requests(t):
    """Ten thousand requests on one connection, a hundred at a time; memory and descriptors do not grow with them."""
    s = Site(t)
    with h2(s.gate) as c:
        def rounds(n):
            for _ in range(n):
                xs = [c.request(path="/hello") for _ in range(100)]
                for x in xs:
                    assert c.answer(x).body == b"hello"
                    del c.streams[x.id]
        rounds(20)
        w = s.gate.workers()[0]
        before, fds = procs.rss(w), procs.descriptors(w)
        rounds(80)
        assert procs.rss(w) - before < allowance(4) and procs.descriptors(w) <= fds, (before, procs.rss(w))


def overtaken(c, big_path):
    """A small answer asked for behind a big one comes before the big one's end."""
    big = c.request(path=big_path)
    big.sink = lambda piece: None
    c.until(lambda: big.size > 0)
    for _ in range(10):
        small = c.get("/hello")
        assert small.body == b"hello" and not big.done, "a small answer waited for a big one"
    small = c.get("/x")
    assert small.status == 200 and not big.done, "a small answer waited for a big one"
    assert c.answer(big).size == 50 * MIB


@case()
def test_small_beside_big(t):
    """Small answers are not stuck behind a big one, from a backend or a file."""
    s = Site(t)
    s.big_file(50 * MIB)
    with h2(s.gate, settings=[(INITIAL_WINDOW, 4 * MIB)], window=64 * MIB) as c:
        overtaken(c, f"/bytes/{50 * MIB}")
        overtaken(c, "/static/big")


@case()
def test_fair_shares(t):
    """Four big answers at once advance together, from the moment when all of them came to something."""
    s = Site(t)
    s.big_file(100 * MIB)
    for path in (f"/bytes/{100 * MIB}", "/static/big"):
        with h2(s.gate, settings=[(INITIAL_WINDOW, 4 * MIB)], window=400 * MIB) as c:
            xs = [c.request(path=path) for _ in range(4)]
            for x in xs:
                x.sink = lambda piece: None
            c.until(lambda: all(x.size for x in xs))
            before = [x.size for x in xs]
            c.until(lambda: any(x.size > n + 10 * MIB for x, n in zip(xs, before)))
            grown = [x.size - n for x, n in zip(xs, before)]
            assert min(grown) > MIB, grown


@case()
def test_priority_of_files(t):
    """RFC 9218: of two files at once, the one with the lower urgency number comes first, though it was asked for last."""
    s = Site(t)
    s.big_file(20 * MIB)
    with h2(s.gate, settings=[(INITIAL_WINDOW, 4 * MIB)], window=64 * MIB) as c:
        late = c.request(path="/static/big", headers=[("priority", "u=7")])
        late.sink = lambda piece: None
        c.until(lambda: late.size > 0)
        soon = c.request(path="/static/big", headers=[("priority", "u=0")])
        soon.sink = lambda piece: None
        c.answer(soon)
        assert not late.done, "the urgent one came last"
        assert late.size < 15 * MIB, f"{late.size >> 20} MiB of the other came before"
        assert c.answer(late).size == 20 * MIB


UPDATES = [Row("of_an_open_stream", field="u=7", first=b""), Row("before_the_stream", field="u=7", first=b"u=0"), Row("before_it_without_field", field=None, first=b"u=0"),
           Row("back_to_the_usual", field="u=7", first=b"u=6", update=b"i")]


@table(UPDATES, setup=lambda t: Site(t))
def test_priority_update(t, s, row):
    """RFC 9218 7: PRIORITY_UPDATE goes over the field, whether it comes before the request or while its answer is under way."""
    s.big_file(20 * MIB)
    with h2(s.gate, settings=[(INITIAL_WINDOW, 4 * MIB)], window=64 * MIB) as c:
        late = c.request(path="/static/big", headers=[("priority", "u=5")])
        late.sink = lambda piece: None
        c.until(lambda: late.size > 0)
        if row.first:
            c.send(priority_update_frame(c.next_id, row.first))
        soon = c.request(path="/static/big", headers=[("priority", row.field)] if row.field else [])
        soon.sink = lambda piece: None
        if not row.first or hasattr(row, "update"):
            c.until(lambda: late.size > MIB)
            c.send(priority_update_frame(soon.id, getattr(row, "update", b"u=0, i")))
        c.answer(soon)
        assert not late.done, "the urgent one came last"
        assert late.size < 15 * MIB, f"{late.size >> 20} MiB of the other came before"
        assert c.answer(late).size == 20 * MIB


# --- windows

@case()
def test_client_gives_no_window(t):
    """The head comes, the body waits, other streams go on, the backend is held back; with window the rest comes, whole."""
    s = Site(t)
    s.big_file(50 * MIB)
    before = procs.rss(s.gate.workers()[0])
    with h2(s.gate, settings=[(INITIAL_WINDOW, 0)], hold=True) as c:
        xs = [c.request(path=p) for p in (f"/bytes/{50 * MIB}", "/static/big", f"/chunked/{MIB}")]
        c.until(lambda: all(x.headers for x in xs))
        c.quiet(0.3)
        assert not any(x.size for x in xs)
        assert c.get("/x", "HEAD").status == 200 and c.get("/static/none", "HEAD").status == 404
        assert procs.rss(s.gate.workers()[0]) - before < allowance(16)
        c.hold = False
        c.send(window_frame(0, 1 << 30) + b"".join(window_frame(x.id, 1 << 30) for x in xs))
        for x in xs:
            x.sink = lambda piece: None
        assert [c.answer(x).size for x in xs] == [50 * MIB, 50 * MIB, MIB]


@case()
def test_window_by_settings(t):
    """SETTINGS_INITIAL_WINDOW_SIZE moves the windows of open streams, below zero too."""
    s = Site(t)
    with h2(s.gate, settings=[(INITIAL_WINDOW, 3)], hold=True) as c:
        x = c.request(path="/hello")
        c.until(lambda: x.size == 3)
        c.send(settings_frame([(INITIAL_WINDOW, 2)]))
        c.ping()
        c.send(window_frame(x.id, 1))
        c.ping()
        assert x.size == 3
        c.send(window_frame(x.id, 1))
        c.until(lambda: x.size == 4)
        c.send(settings_frame([(INITIAL_WINDOW, 100)]))
        assert c.answer(x).body == b"hello"


@case()
def test_windows_are_kept(t):
    """Not one byte goes out beyond a stream's or the connection's window."""
    s = Site(t)
    with h2(s.gate, settings=[(INITIAL_WINDOW, 40000)], hold=True) as c:
        xs = [c.request(path="/bytes/100000") for _ in range(3)]
        c.quiet(0.3)
        assert sum(x.size for x in xs) == 65535 and max(x.size for x in xs) <= 40000, [x.size for x in xs]
        c.send(window_frame(0, 100000))
        c.quiet(0.3)
        assert [x.size for x in xs] == [40000] * 3, [x.size for x in xs]


@case()
def test_write_gap_of_a_stream(t):
    """timeouts.write_gap: a stream whose client gives no window is reset, its backend let go; the connection goes on."""
    s = Site(t, top={"timeouts": "{ write_gap: 1s }"})
    with h2(s.gate, settings=[(INITIAL_WINDOW, 0)], hold=True) as c:
        x = c.request(path=f"/bytes/{50 * MIB}")
        assert reset_of(c, x) == "CANCEL"
        wait_for("the backend connection's end", lambda: s.backend.open == 0)
        assert c.get("/x", "HEAD").status == 200


@case()
def test_write_gap_of_a_connection(t):
    """A client that gives window but reads nothing from its socket is cut after timeouts.write_gap; nothing stays."""
    s = Site(t, top={"timeouts": "{ write_gap: 1s }"})
    with h2(s.gate, settings=[(INITIAL_WINDOW, 1 << 30)], window=1 << 30, rcvbuf=4096) as c:
        for _ in range(5):
            c.request(path=f"/bytes/{50 * MIB}")
        wait_for("the requests", lambda: s.backend.count == 5)
        wait_for("the backend connections' end", lambda: s.backend.open == 0)
    with h2(s.gate) as c:
        assert c.get("/x").status == 200


@case()
def test_upload_to_a_slow_backend(t):
    """The window stops when the backend does; memory stays flat; other streams go on; then all arrives."""
    s = Site(t, rcvbuf=65536)
    before = procs.rss(s.gate.workers()[0])
    with h2(s.gate) as c:
        x = c.request("POST", "/stalled-read/0", end=False)
        sent, block = 0, bytes(16384)
        while c.quiet(0.5) and min(x.send_window, c.send_window) > 0:
            while (n := min(x.send_window, c.send_window, 16384)) > 0:
                sent += c.send_body(x, block[:n], end=False)
        assert 65536 <= sent < 24 * MIB, f"{sent} bytes were taken for a backend that reads nothing"
        assert procs.rss(s.gate.workers()[0]) - before < allowance(16)
        assert c.get("/x").status == 200 and c.get("/hello").body == b"hello"
        c.sock.settimeout(20)
        assert json.loads(c.get("/sink", "POST", body=bytes(300000)).body)["size"] == 300000, "another upload is held up"
        s.backend.gate.set()
        more = c.send_body(x, (block for _ in range(100)))
        a = c.answer(x)
        assert a.status == 200 and more == 100 * 16384, f"{a} after {sent} and {more} bytes; {c.windows[-5:]}"
        assert json.loads(a.body)["size"] == sent + more


@case()
def test_upload_that_stalls_late(t):
    """A backend that stops after it has kept up (so that the window has grown) does not hold up another upload."""
    def behave(peer, req):
        if req.path != "/late":
            return backends.by_path(peer, req)
        while len(peer.buf) < 8 * MIB:
            assert peer.fill()
        peer.backend.gate.wait(60)
        return backends.sink(peer, req, 0)
    s = Site(t, behave, rcvbuf=65536)
    with h2(s.gate) as c:
        x = c.request("POST", "/late", end=False)
        sent, block = c.send_body(x, (bytes(65536) for _ in range(8 * 16)), end=False), bytes(16384)
        while c.quiet(0.5) and min(x.send_window, c.send_window) > 0:
            while (n := min(x.send_window, c.send_window, 16384)) > 0:
                sent += c.send_body(x, block[:n], end=False)
        c.sock.settimeout(20)
        assert json.loads(c.get("/sink", "POST", body=bytes(300000)).body)["size"] == 300000, "another upload is held up"
        s.backend.gate.set()
        c.send_body(x, b"")
        assert json.loads(c.answer(x).body)["size"] == sent


@case()
def test_beyond_the_window(t):
    """DATA that the client had no window for: FLOW_CONTROL_ERROR, of the stream or the connection."""
    s = Site(t, rcvbuf=65536)
    with h2(s.gate) as c:
        x = c.request("POST", "/stalled-read/0", end=False)
        for _ in range(2000):
            if not c.try_send(frame(DATA, 0, x.id, bytes(16384))):
                break
        got = c.outcome(x)
        assert got in ("reset FLOW_CONTROL_ERROR", "goaway FLOW_CONTROL_ERROR"), got
    s.backend.gate.set()
    wait_for("the backend connection's end", lambda: s.backend.open == 0)
    assert s.backend.count == 0, "half a body looks whole"


# --- cancelling and time

@case()
def test_cancel(t):
    """RST_STREAM of the client ends the backend's part: while it thinks, while it sends, while it reads; the connection goes on."""
    s = Site(t)
    with h2(s.gate) as c:
        for path, body in (("/silent", None), (f"/bytes/{50 * MIB}", None), ("/sink", bytes(5000)), ("/static/a.txt", bytes(50))):
            x = c.request("POST" if body else "GET", path, end=body is None)
            if body:
                c.send_body(x, body, end=False)
            if path.startswith("/bytes"):
                x.sink = lambda piece: None
                c.until(lambda: x.size > MIB)
            elif path.startswith("/static"):
                c.ping()
            else:
                wait_for("the request", lambda n=path: s.backend.open == 1)
            c.send(rst_frame(x.id))
            wait_for("the backend connection's end", lambda: s.backend.open == 0)
            assert c.get("/hello").body == b"hello", path
    assert s.backend.targets().count("/sink") == 0


@case()
def test_connection_lost(t):
    """A connection that ends, by FIN, close_notify or RST, with streams of each kind under way: nothing stays at the backend."""
    s = Site(t)
    for how in ("close", "reset", "goaway"):
        c = h2(s.gate)
        for path in ("/silent", "/held", f"/bytes/{50 * MIB}"):
            c.request(path=path)
        c.send_body(c.request("POST", "/sink", end=False), bytes(5000), end=False)
        wait_for("the requests", lambda: s.backend.open == 4)
        if how == "goaway":
            c.send(goaway_frame())
        c.reset() if how == "reset" else c.close()
        wait_for("headgate to let go", lambda: not s.gate.status()["counters"]["requests"])
        s.backend.gate.set()
        wait_for("the backend connections' end", lambda: s.backend.open == 0)
        s.backend.gate.clear()
    with h2(s.gate) as c:
        assert c.get("/hello").status == 200
    assert "/sink" not in s.backend.targets()


@case()
def test_body_that_stops_coming(t):
    """timeouts.body_gap: an upload that stops is answered 408 or reset; its backend is let go, the connection goes on."""
    s = Site(t, top={"timeouts": "{ body_gap: 1s }"})
    with h2(s.gate) as c:
        x = c.request("POST", "/sink", end=False)
        c.send_body(x, b"hello", end=False)
        assert c.outcome(x) in ("408", "reset CANCEL", "reset NO_ERROR"), x
        wait_for("the backend connection's end", lambda: s.backend.open == 0)
        assert c.get("/x").status == 200
    assert "/sink" not in s.backend.targets()


@case()
def test_response_timeout(t):
    """timeouts.response: 504 for that stream alone."""
    s = Site(t, top={"timeouts": "{ response: 1s }"})
    with h2(s.gate) as c:
        x, y = c.request(path="/silent"), c.request(path="/drip/10")
        assert c.answer(y).size == 10 and c.answer(x).status == 504
        assert c.get("/x").status == 200


@case()
def test_idle(t):
    """timeouts.idle: a connection that nothing was asked on for so long ends with GOAWAY, NO_ERROR; PINGs do not keep it."""
    s = Site(t, top={"timeouts": "{ idle: 1s }"})
    with h2(s.gate) as c:
        x = c.request(path="/drip/1000")
        assert c.answer(x).size == 1000
        assert c.ending() == "goaway NO_ERROR" and c.clean_end, c.goaways
        assert c.goaways[-1][0] == x.id, c.goaways


# --- going away

@case(both=True)
def test_graceful_stop(t):
    """SIGTERM: a first GOAWAY that names no stream, in whose time new streams are still served; a second with the last one; then the end."""
    s = Site(t)
    with h2(s.gate) as c, h2(s.gate) as idle:
        assert idle.get("/hello").status == 200
        x = c.request(path="/held")
        wait_for("the request", lambda: s.backend.count == 1)
        s.gate.proc.send_signal(signal.SIGTERM)
        c.until(lambda: c.goaways)
        assert c.goaways == [((1 << 31) - 1, NO_ERROR, "")], c.goaways
        y = c.request(path="/hello")
        assert c.answer(y).body == b"hello", "a stream between the two GOAWAYs was not served"
        c.until(lambda: len(c.goaways) == 2)
        assert c.goaways[1][:2] == (y.id, NO_ERROR), c.goaways
        assert not x.done
        assert idle.ending() == "goaway NO_ERROR"
        s.backend.gate.set()
        assert c.answer(x).body == b"at last"
        assert c.ending() == "goaway NO_ERROR" and c.clean_end
    assert s.gate.wait_exit() == 0


@case()
def test_stop_and_late_streams(t):
    """Streams that cross the second GOAWAY, uploads too, are passed over; what is under way is not hurt by them."""
    s = Site(t)
    with h2(s.gate) as c:
        x = c.request(path="/held")
        wait_for("the request", lambda: s.backend.count == 1)
        s.gate.proc.send_signal(signal.SIGTERM)
        c.until(lambda: len(c.goaways) == 2)
        late = [c.request("POST", "/late", end=False) for _ in range(3)]
        for y in late:
            c.send(frame(DATA, 0, y.id, bytes(1000)) + frame(DATA, 0, y.id, bytes(1000)))
        c.send(rst_frame(late[0].id) + frame(DATA, END_STREAM, late[1].id) + window_frame(late[2].id, 100))
        c.request(path="/late")
        c.ping()
        s.backend.gate.set()
        assert c.answer(x).body == b"at last"
        assert c.ending() == "goaway NO_ERROR"
    assert s.gate.wait_exit() == 0
    assert "/late" not in s.backend.targets()


@case()
def test_stop_with_long_streams(t):
    """A stop with a long download and upload under way: both are finished, the program then ends with 0."""
    s = Site(t)
    with h2(s.gate) as c:
        down, up = c.request(path="/drip/1500"), c.request("POST", "/sink", end=False)
        c.send_body(up, b"before", end=False)
        wait_for("the requests", lambda: s.backend.begun == 2)
        s.gate.proc.send_signal(signal.SIGTERM)
        c.until(lambda: c.goaways)
        c.send_body(up, b"after")
        assert c.answer(down).size == 1500 and json.loads(c.answer(up).body)["size"] == 11
        assert c.ending() == "goaway NO_ERROR"
    assert s.gate.wait_exit() == 0


@case()
def test_reload_under_streams(t):
    """Reloads touch no connection: streams that began before end as they began, new ones see the new file."""
    s = Site(t)
    with h2(s.gate) as c:
        x = c.request(path="/held")
        wait_for("the request", lambda: s.backend.count == 1)
        s.gate.reload_ok("sites:\n  s: { host: localhost, https: both, routes: { /: { respond: new } } }\n")
        assert c.get("/x").body == b"new" and not c.goaways
        s.backend.gate.set()
        assert c.answer(x).body == b"at last"


@case()
def test_plain_port_speaks_http1(t):
    """The plain port has no HTTP/2, neither by preface nor by Upgrade."""
    s = Site(t)
    with s.gate.plain() as c:
        c.try_send(PREFACE + settings_frame())
        assert c.answer().status in (400, 505) and c.at_end()
    with s.gate.plain() as c:
        a = c.get("/hello", headers=[("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"), ("HTTP2-Settings", "AAMAAABkAAQAAP__")])
        assert a.status == 200 and a.body == b"hello"
