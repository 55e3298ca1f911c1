"""
timeouts.min_rate: who sends a body or takes an answer slower than that is cut, in both codecs and both directions; who keeps
up, and who waits for somebody else, is not.
"""
import backends
from h2wire import *
from headgate import *
from test_grpc import PEER, grpc_site

MIB = 1 << 20
RATE = 256 << 10        # bytes a second
TICK = 0.05
PATIENCE = 2            # seconds, with those who are to be spared


class Late(Exception):
    """This process itself did not keep its schedule: what the client met with then says nothing."""


def paced(rate, seconds, step):
    """
    step(n) for each tick, so that `rate` bytes a second are asked for, until it answers True. Sleeping is what a slow
    client does; one that is to keep up must not be late itself.
    """
    began, asked = time.monotonic(), 0
    while (spent := time.monotonic() - began) < seconds:
        due = int(rate * (spent + TICK))
        if rate >= RATE and due - asked > rate * PATIENCE / 2:
            raise Late()
        if due > asked and step(due - asked):
            return True
        asked = due
        time.sleep(TICK)
    return False


class Shared:
    def __init__(self, t, patience):
        self.t = t
        self.backend = t.backend(self.behave, rcvbuf=65536)
        t.write("www/big", b"")
        t.run(["truncate", "-s", str(50 * MIB), t.path("www/big")])
        routes = f"/: {{ proxy: app }}\n      /static/: {{ files: {t.path('www')} }}"
        self.gate = t.headgate(proxy_site(self.backend.url, routes=routes), workers=1,
                               top={"timeouts": f"{{ min_rate: {RATE // 1024}KiB/s, body_gap: {patience}, write_gap: {patience} }}"})

    @staticmethod
    def behave(peer, req):
        if req.path == "/slow-take":    # of more than the buffers on the way hold it takes half of the rate for a while
            left = len(BIG)
            for _ in range(3 * PATIENCE):
                time.sleep(1)
                peer.exactly(req, RATE // 2, 0)
                left -= RATE // 2
            peer.exactly(req, left, 0)
            return peer.reply(200, [], json.dumps({"size": req.size}))
        if req.path == "/slow-answer":
            peer.backend.whole(peer, req)
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 600\r\n\r\n")
            for _ in range(6):
                time.sleep(0.9)
                peer.send(b"x" * 100)
            return None
        if req.path == "/events":
            peer.backend.whole(peer, req)
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
            for _ in range(50 * MIB // 65536):
                peer.send((b"data: " + b"x" * 65528 + b"\n\n"))
            return False
        return backends.by_path(peer, req)

    def cause(self, path):
        self.gate.wait_log(path, "min_rate")


def h1_upload(s, path, chunked, seconds, rate, secure=True):
    """Sends a body evenly; the answer that came before its end, or None."""
    with (s.gate.tls() if secure else s.gate.plain()) as c:
        c.request("POST", path, "localhost", [("Transfer-Encoding", "chunked")] if chunked else [("Content-Length", str(50 * MIB))])
        if paced(rate, seconds, lambda n: not c.try_send(b"%x\r\n" % n + b"x" * n + b"\r\n" if chunked else b"x" * n) or not c.still_open(0.001)):
            return c.answer()
        return None


def h1_download(s, path, seconds, rate, secure=True):
    """Takes an answer evenly; True when it was cut."""
    with (s.gate.tls(rcvbuf=4096) if secure else s.gate.plain(rcvbuf=4096)) as c:
        c.request("GET", path, "localhost")

        def take(n):
            while n > 0:
                try:
                    got = len(c.read(n))
                except OSError:
                    return True
                if not got:
                    return True
                n -= got
            return False
        return paced(rate, seconds, take)


def h2_upload(s, path, seconds, rate, streams=1, body_of=None):
    """Uploads that share the rate; how they ended before their time, or None."""
    with h2(s.gate) as c:
        xs = [c.request("POST", path, end=False) for _ in range(streams)]
        c.until(lambda: c.settings_acked)

        def send(n):
            for x in xs:
                if not x.done:
                    c.send_body(x, b"x" * max(n // streams, 1), end=False)
            c.quiet(0.001)
            return all(x.done for x in xs)
        if not paced(rate, seconds, send):
            return [x for x in xs if x.done] or None
        assert c.get("/x").status == 200, "the connection goes on"
        return xs


def h2_download(s, path, seconds, rate, window, streams=1):
    """Answers whose client gives window evenly: for each stream, or for the connection. How they ended before their time, or None."""
    small = 1000
    settings = [(INITIAL_WINDOW, small if window == "stream" else 1 << 30)]
    with h2(s.gate, settings=settings, hold=True) as c:
        xs = [c.request(path=path) for _ in range(streams)]

        def give(n):
            for x in xs:
                if window == "stream" and not x.done:
                    c.try_send(window_frame(x.id, max(n // streams, 1)) + window_frame(0, max(n // streams, 1)))
            if window == "connection":
                c.try_send(window_frame(0, n))
            return not c.quiet(0.001) or all(x.done for x in xs)
        if not paced(rate, seconds, give):
            return [x for x in xs if x.done] or None
        if window == "stream":
            assert c.get("/x", "HEAD").status == 200, "the connection goes on"
        return xs


def h2_socket(s, path, seconds, rate):
    """A client that gives all windows and reads its socket slowly; True when it was cut."""
    with h2(s.gate, settings=[(INITIAL_WINDOW, 1 << 30)], window=1 << 30, rcvbuf=4096) as c:
        for _ in range(3):
            c.request(path=path)

        def take(n):
            try:
                return not c.read(n)
            except OSError:
                return True
        return paced(rate, seconds, take)


# --- too slow

SLOW, LONG = RATE // 4, 90      # LONG only bounds a case that fails
CUT = [
    Row("h1_upload", run=lambda s, p: h1_upload(s, p, False, LONG, SLOW).status == 408, path="/sink"),
    Row("h1_upload_chunked", run=lambda s, p: h1_upload(s, p, True, LONG, SLOW).status == 408, path="/sink"),
    Row("h1_upload_plain", run=lambda s, p: h1_upload(s, p, True, LONG, SLOW, secure=False).status == 408, path="/sink"),
    Row("h1_upload_one_byte_chunks", run=lambda s, p: h1_upload(s, p, True, LONG, 1 / TICK).status == 408, path="/sink"),
    Row("h1_rest_after_the_answer", run=lambda s, p: h1_rest(s, p), path="/early-keep"),
    Row("h1_download", run=lambda s, p: h1_download(s, p, LONG, SLOW), path=f"/bytes/{50 * MIB}"),
    Row("h1_download_chunked", run=lambda s, p: h1_download(s, p, LONG, SLOW), path=f"/chunked/{50 * MIB}"),
    Row("h1_download_plain", run=lambda s, p: h1_download(s, p, LONG, SLOW, secure=False), path=f"/bytes/{50 * MIB}"),
    Row("h1_download_file", run=lambda s, p: h1_download(s, p, LONG, SLOW), path="/static/big"),
    Row("h1_answer_is_queued_whole", run=lambda s, p: h1_last_bytes(s, p), path="/bytes/60000"),
    Row("h2_upload", run=lambda s, p: outcome(h2_upload(s, p, LONG, SLOW)) in ({"408"}, {"CANCEL"}), path="/sink"),
    Row("h2_upload_one_byte_frames", run=lambda s, p: outcome(h2_upload(s, p, LONG, 1 / TICK)) in ({"408"}, {"CANCEL"}), path="/sink"),
    Row("h2_upload_many", run=lambda s, p: outcome(h2_upload(s, p, LONG, SLOW, streams=4)) <= {"408", "CANCEL"}, path="/sink"),
    Row("h2_download_stream_window", run=lambda s, p: outcome(h2_download(s, p, LONG, SLOW, "stream")) == {"CANCEL"}, path=f"/bytes/{50 * MIB}"),
    Row("h2_download_file", run=lambda s, p: outcome(h2_download(s, p, LONG, SLOW, "stream")) == {"CANCEL"}, path="/static/big"),
    Row("h2_download_connection_window", run=lambda s, p: h2_download(s, p, LONG, SLOW, "connection"), path=f"/bytes/{50 * MIB}"),
    Row("h2_download_socket", run=lambda s, p: h2_socket(s, p, LONG, SLOW), path=f"/bytes/{50 * MIB}"),
]


def outcome(xs):
    return {str(x.status) if x.ended else error_name(x.reset) for x in xs}


def h1_rest(s, path):
    """The answer is out already; the rest of the body comes too slowly to keep the connection for it."""
    with s.gate.tls() as c:
        c.request("POST", path, "localhost", [("Content-Length", str(MIB // 2))])
        assert c.answer().status == 200
        return paced(SLOW, LONG, lambda n: not c.try_send(b"x" * n) or not c.still_open(0.001)) and c.at_end()


def h1_last_bytes(s, path):
    """Many small answers that nobody takes: what is left of them in the queue is no reason to wait for ever either."""
    with s.gate.tls(rcvbuf=4096) as c:
        for _ in range(200):
            c.request("GET", path, "localhost")

        def take(n):
            try:
                return not c.read(n)
            except OSError:
                return True
        return paced(SLOW, LONG, take)


@table(CUT, setup=lambda t: Shared(t, "1s"))
def test_cut(t, s, row):
    """A client that moves all the time, at a quarter of the rate, is cut; the log says why; its backend is let go."""
    lost = s.backend.lost
    assert row.run(s, row.path), "it was not cut, or not in that way"
    if row.path not in ("/early-keep", "/bytes/60000"):
        s.cause(row.path)
    if row.path in ("/sink", f"/bytes/{50 * MIB}"):
        wait_for("the backend connection's end", lambda: s.backend.lost > lost)


# --- not its fault

SPELL = 3 * PATIENCE
SPARED = [
    Row("h1_upload_at_the_rate", run=lambda s, p: h1_upload(s, p, False, SPELL, RATE) is None, path="/sink"),
    Row("h1_upload_chunked_at_the_rate", run=lambda s, p: h1_upload(s, p, True, SPELL, RATE) is None, path="/sink"),
    Row("h1_download_at_the_rate", run=lambda s, p: not h1_download(s, p, SPELL, RATE), path=f"/bytes/{50 * MIB}"),
    Row("h2_upload_at_the_rate", run=lambda s, p: not h2_upload(s, p, SPELL, RATE), path="/sink"),
    Row("h2_uploads_share_the_rate", run=lambda s, p: not h2_upload(s, p, SPELL, RATE * 1.1, streams=4), path="/sink"),
    Row("h2_download_at_the_rate", run=lambda s, p: not h2_download(s, p, SPELL, RATE, "stream"), path=f"/bytes/{50 * MIB}"),
    Row("h2_downloads_share_the_rate", run=lambda s, p: not h2_download(s, p, SPELL, RATE * 1.1, "stream", streams=4), path=f"/bytes/{50 * MIB}"),
    Row("h2_connection_window_at_the_rate", run=lambda s, p: not h2_download(s, p, SPELL, RATE, "connection", streams=3), path=f"/bytes/{50 * MIB}"),
    Row("h1_backend_takes_slowly", run=lambda s, p: h1_whole(s, p), path="/slow-take"),
    Row("h2_backend_takes_slowly", run=lambda s, p: h2_whole(s, p), path="/slow-take"),
    Row("h1_backend_answers_slowly", run=lambda s, p: s.gate.get(p).body == b"x" * 600, path="/slow-answer"),
    Row("h2_backend_answers_slowly", run=lambda s, p: slow_answer(s, p), path="/slow-answer"),
    Row("h1_event_stream", run=lambda s, p: not h1_download(s, p, SPELL, SLOW), path="/events"),
    Row("h2_event_stream", run=lambda s, p: not h2_download(s, p, SPELL, SLOW, "stream"), path="/events"),
]


BIG = bytes(32 * MIB)


def h1_whole(s, path):
    with s.gate.tls() as c:
        return json.loads(c.get(path, body=BIG, method="POST").body)["size"] == len(BIG)


def h2_whole(s, path):
    with h2(s.gate) as c:
        return json.loads(bytes(c.get(path, "POST", [("content-length", str(len(BIG)))], body=BIG).body))["size"] == len(BIG)


def slow_answer(s, path):
    with h2(s.gate) as c:
        return bytes(c.get(path).body) == b"x" * 600


@table(SPARED, setup=lambda t: Shared(t, f"{PATIENCE}s"))
def test_spared(t, s, row):
    """At the rate exactly, slow for somebody else's reason, or of a kind that may be slow: it goes on."""
    for _ in range(10):
        try:
            assert row.run(s, row.path), "it was cut"
            return
        except Late:
            pass
    raise AssertionError("this machine never kept the client's schedule")


@case()
def test_grpc_stream_is_spared(t):
    """A gRPC stream whose client takes it at a trickle goes on; min_rate is not for calls."""
    run = f'run: ["{PYTHON}", "{PEER}", serve, $listen]'
    gate = t.headgate(grpc_site(run), workers=1, top={"timeouts": "{ min_rate: 1MiB/s, body_gap: 300ms, write_gap: 300ms }"})
    with h2(gate, settings=[(INITIAL_WINDOW, 100)], hold=True) as c:
        message = b"200x1000"
        x = c.request("POST", "/test.Echo/Count", [("content-type", "application/grpc"), ("te", "trailers")],
                      body=b"\0" + len(message).to_bytes(4, "big") + message)
        c.head(x)

        def give(n):
            c.send(window_frame(x.id, n))
            c.quiet(0.001)
            return x.done
        assert not paced(2000, 3, give), x
        c.send(window_frame(x.id, 1 << 20) + window_frame(0, 1 << 20))
        c.answer(x)
        assert ("grpc-status", "0") in x.trailers and x.size == 200 * 1005, x
