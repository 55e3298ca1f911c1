"""HTTP/2 to backends: connections that requests share, windows end to end, and what a backend may say or break."""
import hashlib

import h2wire
from h2backend import H2Backend
from h2wire import CANCEL, ENHANCE_YOUR_CALM, INTERNAL_ERROR, MAX_STREAMS, NO_ERROR, REFUSED_STREAM, frame, goaway_frame, h2, headers_frame
from headgate import *

SOME = bytes(range(256)) * 256      # 64 KiB


class Site:
    def __init__(self, t, behave, protocol="h2c", extra="", settings=(), reads=True, workers=1, **kw):
        self.backend = H2Backend(behave, settings, reads)
        t.defer(self.backend.close)
        self.gate = t.headgate(proxy_site(self.backend.url, service_extra=f", protocol: {protocol}{extra}"), workers=workers, **kw)

    def paths(self):
        return [r.path for r in self.backend.requests]


def dump(r):
    body = r.whole()
    r.reply(200, [("content-type", "application/json")],
            json.dumps({"fields": r.fields, "n": len(body), "sha": hashlib.sha256(body).hexdigest(), "trailers": r.trailers}).encode())


def by_path(r):
    """The path says what is wanted: the first word behind the slash, then numbers."""
    word, *args = r.path.split("?")[0].strip("/").split("/")
    DO[word](r, *[int(a) for a in args])


def bytes_(r, n, piece=16384):
    r.head(200, [("content-length", str(n))])
    for at in range(0, n, piece):
        r.data(bytes(min(piece, n - at)), end=at + piece >= n)


def refuse_first(r):
    """Refused until the third try."""
    body = r.whole() if r.get("x-whole") else b""
    with r.conn.backend.lock:
        tries = sum(q.path == r.path for q in r.conn.backend.requests)
    if tries < 3:
        r.rst(REFUSED_STREAM)
    else:
        r.reply(200, [], hashlib.sha256(body or r.whole()).hexdigest().encode())


def leave(r):
    """GOAWAY that counts this stream as not looked at, once; the next connection answers."""
    if r.conn is r.conn.backend.conns[0]:
        r.conn.send(goaway_frame(0, NO_ERROR))
    else:
        r.reply(200, [], b"elsewhere")


def leave_in_order(r):
    """The answer is whole, then the connection goes."""
    r.conn.send(goaway_frame(r.sid, NO_ERROR))
    r.reply(200, [], b"last one")


def early(r):
    """An answer that does not wait for the request, and RST_STREAM(NO_ERROR) behind it (RFC 9113 8.1)."""
    r.reply(200, [], b"early")
    r.rst(NO_ERROR)


def interim(r):
    r.conn.send(headers_frame(r.sid, h2wire.encode([(":status", "103"), ("link", "</a>")]), h2wire.END_HEADERS))
    r.reply(200, [], b"final")


def interim_for_ever(r):
    while not r.conn.gone and r.reset is None:
        r.conn.send(headers_frame(r.sid, h2wire.encode([(":status", "103"), ("link", "x" * 1000)]), h2wire.END_HEADERS))


def big_head(r):
    r.head(200, [(f"x-{i}", "v" * 1000) for i in range(80)], end=True)


def many_fields(r):
    r.head(200, [(f"x{i}", "v") for i in range(600)], end=True)


def cut_body(r, code):
    r.head(200)
    r.data(b"x" * 1000)
    r.rst(code)


def short(r):
    """Less than announced."""
    r.head(200, [("content-length", "10")])
    r.data(b"12345", end=True)


def hang_up(r):
    r.conn.sock.shutdown(socket.SHUT_RDWR)


def hang_up_inside(r):
    r.head(200)
    r.data(b"x" * 1000)
    r.conn.sock.shutdown(socket.SHUT_RDWR)


def garbage(r):
    r.conn.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok" * 3)


def on_no_stream(r):
    r.conn.send(frame(h2wire.DATA, 0, 77, b"for nobody"))


def trailers(r):
    r.head(200, [("trailer", "x-sum")])
    r.data(b"body")
    r.end([("x-sum", "42"), ("authorization", "no")])


def hold(r):
    r.wait_reset()


DO = {"dump": dump, "bytes": bytes_, "refuse": refuse_first, "leave": leave, "leave_in_order": leave_in_order, "early": early,
      "interim": interim, "interim_for_ever": interim_for_ever, "big_head": big_head, "many_fields": many_fields, "cut": cut_body,
      "short": short, "hang_up": hang_up, "hang_up_inside": hang_up_inside, "garbage": garbage, "on_no_stream": on_no_stream,
      "trailers": trailers, "hold": hold, "status": lambda r, n: r.reply(n, []), "rst": lambda r, n: r.rst(n),
      "empty": lambda r: r.reply(200), "end_alone": lambda r: (r.head(200), r.data(b"abc"), r.end())}


# --- what reaches the backend, what comes back

@case()
def test_request_head(t):
    """Method, scheme, authority and path are pseudo-header fields; no field of HTTP/1.1's connections is there; te: trailers is."""
    s = Site(t, by_path)
    for secure in (True, False):
        d = json.loads(s.gate.get("/dump?a=b&c", headers=[("X-Kept", "yes"), ("Connection", "x-gone"), ("X-Gone", "1"), ("TE", "gzip")],
                                  secure=secure).body)
        fields = [tuple(f) for f in d["fields"]]
        assert fields[:4] == [(":method", "GET"), (":scheme", "https" if secure else "http"), (":authority", "localhost"), (":path", "/dump?a=b&c")], fields
        names = [n for n, _ in fields]
        assert ("x-kept", "yes") in fields and ("te", "trailers") in fields, fields
        assert not {"connection", "x-gone", "host", "transfer-encoding", "upgrade", "keep-alive"} & set(names), names
        assert len(names) == len(set(names)), names


@table([Row("length", chunked=False), Row("chunked", chunked=True)], setup=lambda t: Site(t, by_path))
def test_upload(t, s, row):
    """A body of a known length is announced, one of chunks is not; both arrive whole."""
    body = SOME * 40
    with s.gate.tls() as c:
        if row.chunked:
            c.send(b"POST /dump HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
            for at in range(0, len(body), 50000):
                piece = body[at:at + 50000]
                c.send(b"%x\r\n%s\r\n" % (len(piece), piece))
            c.send(b"0\r\n\r\n")
            answer = c.answer("POST")
        else:
            answer = c.get("/dump", method="POST", body=body)
    d = json.loads(answer.body)
    assert d["n"] == len(body) and d["sha"] == hashlib.sha256(body).hexdigest()
    assert dict(d["fields"]).get("content-length") == (None if row.chunked else str(len(body)))


@table([Row("h1", h2=False), Row("h2", h2=True)], setup=lambda t: Site(t, by_path))
def test_download(t, s, row):
    """Ten megabytes through a window that has to grow, byte for byte as long as announced."""
    if row.h2:
        with h2(s.gate, window=1 << 30) as c:
            assert len(c.get("/bytes/10000000").body) == 10000000
    else:
        assert len(s.gate.get("/bytes/10000000").body) == 10000000


ANSWERS = [
    Row("no_body", path="/empty", status=200, body=b""),
    Row("status_204", path="/status/204", status=204, body=b""),
    Row("status_304", path="/status/304", status=304, body=b""),
    Row("status_418", path="/status/418", status=418, body=b""),
    Row("end_in_a_frame_of_its_own", path="/end_alone", status=200, body=b"abc"),
    Row("interim", path="/interim", status=200, body=b"final"),
    Row("early", path="/early", status=200, body=b"early"),
    Row("leave_in_order", path="/leave_in_order", status=200, body=b"last one"),
    Row("frame_for_nobody", path="/on_no_stream", status=502, body=None),
    Row("interim_for_ever", path="/interim_for_ever", status=502, body=None, error="too large"),
    Row("head_too_large", path="/big_head", status=502, body=None, error="too large"),
    Row("too_many_fields", path="/many_fields", status=502, body=None, error="too large"),
    Row("reset_at_once", path="/rst/2", status=502, body=None, error="reset the stream"),
    Row("cancelled_at_once", path="/rst/8", status=502, body=None, error="cancelled"),
    Row("over_its_limits", path="/rst/11", status=502, body=None, error="limits"),
    Row("refused_always", path="/rst/7", status=502, body=None, error="refused"),
    Row("hangs_up", path="/hang_up", status=502, body=None),
    Row("garbage", path="/garbage", status=502, body=None, error="rules of HTTP/2"),
]


@table(ANSWERS, setup=lambda t: Site(t, by_path))
def test_answers(t, s, row):
    """What a backend may answer, and what it may not: both ways a whole answer for the client, and the next request is served."""
    for secure in (True, False):
        answer = s.gate.get(row.path, secure=secure)
        assert answer.status == row.status, (answer.status, answer.body)
        if row.body is not None:
            assert answer.body == row.body, answer.body
        if getattr(row, "error", None):
            s.gate.wait_log(row.path, row.error)
    assert s.gate.get("/empty").status == 200


CUT = [Row("reset", path=f"/cut/{INTERNAL_ERROR}"), Row("cancel", path=f"/cut/{CANCEL}"), Row("no_error", path=f"/cut/{NO_ERROR}"),
       Row("hang_up", path="/hang_up_inside"), Row("short", path="/short")]


@table(CUT, setup=lambda t: Site(t, by_path))
def test_answer_cut(t, s, row):
    """An answer that ends in its middle never looks complete, in neither protocol."""
    out = s.gate.curl("-o", "/dev/null", s.gate.url(row.path))
    assert out.returncode in (18, 56), (out.returncode, out.stderr)
    with h2(s.gate) as c:
        stream = c.request("GET", row.path)
        assert c.outcome(stream) == "reset INTERNAL_ERROR"
        assert c.get("/empty").status == 200


@case()
def test_trailers(t):
    """Trailers pass both ways; what must not stand in them (RFC 9110 6.5.1) does not."""
    s = Site(t, by_path)
    with h2(s.gate) as c:
        a = c.get("/trailers")
        assert a.body == b"body" and a.trailers == [("x-sum", "42")], (a.body, a.trailers)
        up = c.request("POST", "/dump", body=b"abc", end=False)
        c.send(headers_frame(up.id, h2wire.encode([("x-up", "7")])))
        d = json.loads(c.answer(up).body)
        assert d["trailers"] == [["x-up", "7"]] and d["n"] == 3, d


# --- connections

@case()
def test_requests_share_a_connection(t):
    """Fifty at a time and three hundred in all: one connection."""
    s = Site(t, by_path)
    with h2(s.gate) as c:
        for _ in range(6):
            streams = [c.request("GET", "/bytes/100") for _ in range(50)]
            assert all(len(c.answer(x).body) == 100 for x in streams)
    assert len(s.backend.conns) == 1, len(s.backend.conns)


@case()
def test_as_many_connections_as_it_asks_for(t):
    """A backend that takes four streams at a time gets a connection for each four, and never a fifth stream on one."""
    released = threading.Event()
    s = Site(t, lambda r: (r.path == "/first" or released.wait(60), r.reply(200, [], b"ok")), settings=[(MAX_STREAMS, 4)])
    with h2(s.gate) as c:
        assert c.get("/first").body == b"ok"    # its SETTINGS are known from now on
        streams = [c.request("GET", f"/{i}") for i in range(20)]
        wait_for("all are there", lambda: len(s.backend.requests) == 21)
        busy = [sum(q.path != "/first" for q in x.requests.values()) for x in s.backend.conns]
        assert sorted(busy) == [4] * 5, busy
        released.set()
        assert all(c.answer(x).body == b"ok" for x in streams)


@table([Row("GET", method="GET", body=None), Row("POST", method="POST", body=b"x" * 1000), Row("POST_64_KiB", method="POST", body=SOME)],
       setup=lambda t: Site(t, by_path))
def test_refused_is_sent_again(t, s, row):
    """REFUSED_STREAM: sent again, whatever the method, with the whole body as long as it is held."""
    with s.gate.tls() as c:
        a = c.get(f"/refuse?{row.name}", method=row.method, body=row.body, headers=[("x-whole", "1")])
    assert a.status == 200 and a.body == hashlib.sha256(row.body or b"").hexdigest().encode(), (a.status, a.body)
    assert s.paths().count(f"/refuse?{row.name}") == 3


@case()
def test_refused_with_more_than_is_held(t):
    """Above 64 KiB nothing is sent twice: the client hears of it."""
    s = Site(t, by_path)
    with s.gate.tls() as c:
        a = c.get("/refuse", method="POST", body=SOME * 2, headers=[("x-whole", "1")])
    assert a.status == 502, a.status
    assert s.paths().count("/refuse") == 1


@case()
def test_goaway_moves_to_a_new_connection(t):
    s = Site(t, by_path)
    assert s.gate.get("/leave").body == b"elsewhere"
    assert len(s.backend.conns) == 2


@case()
def test_connection_lost_between_requests(t):
    """A backend that closes idle connections costs no request."""
    s = Site(t, by_path)
    for _ in range(5):
        assert s.gate.get("/empty").status == 200
        s.backend.cut()
        wait_for("the connection ended", lambda: all(c.gone for c in s.backend.conns))
    assert len(s.backend.conns) >= 5


@case()
def test_client_gives_up(t):
    """A client that leaves cancels its stream at once, and only that."""
    s = Site(t, by_path)
    with h2(s.gate) as keep:
        c = h2(s.gate)
        c.request("GET", "/hold")
        wait_for("it is there", lambda: any(r.path == "/hold" for r in s.backend.requests))
        held = next(r for r in s.backend.requests if r.path == "/hold")
        c.close()
        assert held.wait_reset() == CANCEL
        assert keep.get("/empty").status == 200
    assert len(s.backend.conns) == 1


@case()
def test_slow_client_stops_the_backend(t):
    """Who does not read holds a window's worth and no more, and nobody else's stream."""
    s = Site(t, by_path)
    with h2(s.gate, window=0, settings=[(h2wire.INITIAL_WINDOW, 0)]) as slow, h2(s.gate, window=1 << 30) as fast:
        slow.request("GET", "/bytes/100000000")
        wait_for("it is there", lambda: s.backend.requests)
        stalled = s.backend.requests[0]
        assert len(fast.get("/bytes/5000000").body) == 5000000
        wait_for("its window is used up", lambda: stalled.conn.windows.get(stalled.sid, 65535) == 0)
        sent = 65535 - stalled.conn.windows[stalled.sid]
        assert sent <= 3 * 65536, sent
    assert stalled.wait_reset() == CANCEL
    assert s.gate.get("/empty").status == 200


@case()
def test_slow_backend_stops_the_client(t):
    """A backend that takes nothing: its window fills, then ours; other requests go on."""
    s = Site(t, lambda r: by_path(r) if r.path != "/sink" else r.wait_reset(), reads=False, top={"timeouts": "{ body_gap: 300s }"})
    with h2(s.gate) as c:
        up = c.request("POST", "/sink", end=False)
        wait_for("it is there", lambda: s.backend.requests)
        sent = 0
        while min(c.send_window, up.send_window) > 0:   # all that headgate takes
            sent += c.send_body(up, bytes(min(c.send_window, up.send_window)), end=False)
            c.ping()
            assert sent < 5000000, sent
        sink = s.backend.requests[0]
        assert len(sink.body) <= 65535, len(sink.body)
        assert s.gate.get("/empty").status == 200
        c.send(h2wire.rst_frame(up.id))
        assert sink.wait_reset() == CANCEL


@case()
def test_response_timeout(t):
    s = Site(t, by_path, top={"timeouts": "{ response: 300ms }"})
    assert s.gate.get("/hold").status == 504
    wait_for("the stream is cancelled", lambda: s.backend.requests[0].reset == CANCEL)
    assert s.gate.get("/empty").status == 200 and len(s.backend.conns) == 1


@case()
def test_nothing_listens(t):
    """Connection refused: 502 in words, at once for a service that headgate does not run."""
    s = Site(t, by_path)
    s.backend.deafen()
    s.backend.cut()
    wait_for("502", lambda: s.gate.get("/empty").status == 502)


@case()
def test_reload_drains(t):
    """A reload that takes the service away lets what is under way end."""
    gates = threading.Event()
    s = Site(t, lambda r: by_path(r) if r.path != "/wait" else (r.head(200), gates.wait(60), r.data(b"end", end=True)))
    with h2(s.gate) as c:
        stream = c.request("GET", "/wait")
        c.head(stream)
        other = H2Backend(by_path)
        t.defer(other.close)
        s.gate.reload_ok(proxy_site(other.url, service_extra=", protocol: h2c"))
        assert s.gate.get("/empty").status == 200 and len(other.requests) == 1
        gates.set()
        assert c.answer(stream).body == b"end"
    wait_for("the old connection is closed", lambda: all(x.gone for x in s.backend.conns))


@case()
def test_url_h2c(t):
    """h2c://HOST says what http://HOST and protocol: h2c say."""
    backend = H2Backend(by_path)
    t.defer(backend.close)
    gate = t.headgate(proxy_site(backend.url.replace("http://", "h2c://")))
    assert gate.get("/empty").status == 200 and len(backend.requests) == 1


@case()
def test_load(t):
    """h2load through headgate to nghttpd: every request is answered."""
    port = t.port()
    os.makedirs(t.path("doc"))
    t.write("doc/a", "x" * 1000)
    p = subprocess.Popen(["nghttpd", "--no-tls", "-d", t.path("doc"), str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    t.defer(lambda: (p.kill(), p.wait()))
    wait_for("nghttpd listens", lambda: not port_free(port))
    gate = t.headgate(proxy_site(f"http://127.0.0.1:{port}", service_extra=", protocol: h2c"))
    out = t.run(["h2load", "-n5000", "-c8", "-m32", f"https://localhost:{gate.https}/a"])
    assert "5000 succeeded, 0 failed, 0 errored" in out.stdout, out.stdout
