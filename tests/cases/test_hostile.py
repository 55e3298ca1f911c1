"""Clients and backends that mean harm: floods, cuts at every byte, answers without end. Memory stays flat, nothing leaks."""
import random

import backends
from headgate import *
from wire import Truncated

GET = b"GET /%d HTTP/1.1\r\nHost: localhost\r\n\r\n"
BIG = "x" * 3000
GAUGES = ("connections", "requests", "requests_waiting", "backend_connections", "backend_idle")


def respond_site(body="hello"):
    return f"sites:\n  s: {{ host: localhost, https: both, routes: {{ /: {{ respond: \"{body}\" }} }} }}\n"


def gauges(gate):
    """The sums over all workers."""
    found = {}

    def walk(node):
        for key, value in node.items() if isinstance(node, dict) else ():
            if key in GAUGES and isinstance(value, (int, float)):
                found[key] = found.get(key, 0) + value
            walk(value)
    walk(gate.status())
    return found


def quiet(gate, *without):
    """Waits until no gauge but those named counts anything."""
    return wait_for("gauges at 0", lambda: not any(v for k, v in gauges(gate).items() if k not in without))


def same_workers(gate, pids):
    assert gate.workers() == pids, f"a worker died:\n{gate.log()[-3000:]}"


# --- clients that send and do not read

def flood(c, piece, most):
    """Sends the same bytes until the other side takes no more for a while; how many it took."""
    c.sock.settimeout(2)
    sent = 0
    try:
        while sent < most:
            sent += c.sock.send(piece[sent % len(piece):])
    except (TimeoutError, socket.timeout, ssl.SSLWantWriteError):
        pass
    c.sock.settimeout(60)
    return sent


@table([Row("plain", secure=False), Row("tls", secure=True)], lambda t: t.headgate(respond_site(BIG), workers=1))
def test_pipelining_without_reading(t, gate, row):
    """Whoever pipelines and never reads is stopped: the queue of answers is bounded, and none is lost when it reads at last."""
    one = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
    before = procs.rss(gate.workers()[0])
    with (gate.tls() if row.secure else gate.plain()) as c:
        sent = flood(c, one * 1000, 64 << 20)
        assert sent < 64 << 20, "headgate takes requests without end"
        grown = procs.rss(gate.workers()[0]) - before
        assert grown < allowance(16), f"grown by {grown >> 20} MiB"
        if row.secure:      # the TLS library insists on repeating the very write that was refused
            return
        for _ in range(sent // len(one)):
            assert c.answer(keep=False).size == len(BIG)


@case()
def test_pipelining_in_one_write(t):
    """Thousands of requests in one write, through a backend: all answered, in order."""
    b = t.backend()
    gate = t.headgate(proxy_site(b.url), workers=1)
    n = 3000
    with gate.plain() as c:
        threading.Thread(target=c.try_send, args=(b"".join(GET % i for i in range(n)),), daemon=True).start()
        for i in range(n):
            assert json.loads(c.answer().body)["target"] == f"/{i}"
    quiet(gate, "connections", "backend_idle", "backend_connections")


# --- bodies that come while there is nobody to take them

@case()
def test_body_between_two_tries(t):
    """A body that comes while its request waits for a second try is not lost."""
    gate = t.headgate(run_site(t.service("deaf", t.path("listen-again"))), workers=1)
    assert gate.get("/deaf", secure=False).status == 200
    with gate.plain() as c:
        c.send(b"POST /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        for piece in (b"5\r\nhello\r\n", b"0\r\n\r\n"):
            c.send(piece)
        c.still_open()
        t.write("listen-again", "")
        a = c.answer()
        assert a.status == 200 and json.loads(a.body)["body"] == "hello", a


@case()
def test_body_gap_counts_from_the_wish(t):
    """timeouts.body_gap begins when the body is wanted, not before: here the service becomes ready only after it."""
    gate = t.headgate(run_site(t.service("wait-for-file", t.path("go"))), workers=1, top={"timeouts": "{ body_gap: 6s }"})
    with gate.plain() as c:
        c.send(b"POST /x HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        assert c.still_open(7)
        t.write("go", "")
        assert c.answer(interim=True).status == 100
        assert c.still_open(1.5), c.buf
        c.send(b"hello")
        assert json.loads(c.answer().body)["body"] == "hello"


# --- backends that answer strangely

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"


def endless(first, piece):
    def behave(peer, req):
        peer.backend.whole(peer, req)
        peer.send(first)
        while True:
            peer.send(piece)
    return behave


ENDLESS = {"interim": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100), "interim_byte": (b"", b"HTTP/1.1 102 Processing\r\nX: y\r\n\r\n"),
           "head": (b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n" * 100), "line": (b"HTTP/1.1 200 ", b"x" * 1000),
           "extension": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5", b";a=b" * 100),
           "trailers": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n", b"X-A: b\r\n" * 100)}


@table([Row(k, answer=v) for k, v in ENDLESS.items()], lambda t: None)
def test_endless(t, _, row):
    """What has no end in a backend's answer is cut off, in bounded memory."""
    b = t.backend(endless(*row.answer))
    gate = t.headgate(proxy_site(b.url), workers=1, name=row.name)
    pid = gate.workers()[0]
    before = procs.rss(pid)
    with gate.plain() as c:
        c.request("GET", "/", "localhost")
        try:
            assert c.answer().status == 502
        except Truncated:
            assert row.name in ("extension", "trailers"), "the client was cut off without a word"
    assert procs.rss(pid) - before < allowance(16)
    quiet(gate)
    same_workers(gate, [pid])


def in_pieces(raw, then_close):
    def behave(peer, req):
        peer.backend.whole(peer, req)
        for i in range(len(raw)):
            peer.send(raw[i:i + 1])
            if i % 8 == 0:
                time.sleep(0.001)
        return not then_close
    return behave


@table([Row("interim_then_final", raw=b"HTTP/1.1 102 P\r\n\r\nHTTP/1.1 103 E\r\nLink: x\r\n\r\n" + HEAD + b"ok"),
        Row("chunked", raw=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1;x=y\r\nk\r\n0\r\nX-A: b\r\n\r\n"),
        Row("until_close", raw=b"HTTP/1.0 200 OK\r\n\r\nok", close=True)], lambda t: None)
def test_answer_byte_by_byte(t, _, row):
    b = t.backend(in_pieces(row.raw, getattr(row, "close", False)))
    gate = t.headgate(proxy_site(b.url), workers=1, name=row.name)
    with gate.plain() as c:
        for _ in range(3):
            assert c.get("/").body == b"ok"
    assert not b.errors, b.errors


@case()
def test_answer_before_the_body_and_gone(t):
    """A backend that answers an upload at once and closes: its answer arrives, whatever became of the body."""
    def behave(peer, req):
        peer.reply(413, [("Connection", "close")], b"too much")
        return False
    b = t.backend(behave)
    gate = t.headgate(proxy_site(b.url), workers=1)
    for _ in range(20):
        with gate.plain() as c:
            c.send(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4000000\r\n\r\n")
            threading.Thread(target=c.try_send, args=(b"x" * 4000000,), daemon=True).start()
            assert c.answer().status == 413
    quiet(gate)


# --- cuts everywhere

REQUESTS = {"get": GET % 1 + GET % 2, "length": b"POST /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello" + GET % 2,
            "chunked": b"POST /a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n1\r\nd\r\n0\r\nX-A: b\r\n\r\n" + GET % 2}


class Proxied:
    def __init__(self, t):
        self.backend = t.backend()
        self.gate = t.headgate(proxy_site(self.backend.url), workers=1)


@table([Row(k, raw=v) for k, v in REQUESTS.items()], Proxied)
def test_request_cut_at_every_byte(t, site, row):
    """Reset, end or half-close behind each byte of two requests, and in two pieces: no worker falls, no gauge stays behind."""
    pids = site.gate.workers()
    for i in range(1, len(row.raw)):
        for how in ("reset", "close", "half", "pieces"):
            c = site.gate.plain()
            c.send(row.raw[:i])
            if how == "reset":
                c.reset()
                continue
            if how == "half":
                c.sock.shutdown(socket.SHUT_WR)
            if how == "pieces":
                c.send(row.raw[i:])
                assert c.answer().status == 200 and c.answer().status == 200
            c.close()
    same_workers(site.gate, pids)
    quiet(site.gate, "backend_idle", "backend_connections")


ANSWERS = {"length": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
           "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n1\r\nd\r\n0\r\nX-A: b\r\n\r\n",
           "interim": b"HTTP/1.1 103 Hints\r\nLink: x\r\n\r\nHTTP/1.1 204 No\r\n\r\n"}


@table([Row(k, raw=v) for k, v in ANSWERS.items()], lambda t: None)
def test_answer_cut_at_every_byte(t, _, row):
    """The backend's answer ends or is reset behind each byte: never a whole answer out of half a one."""
    def behave(peer, req):
        peer.backend.whole(peer, req)
        i, how = (int(x) for x in req.path.strip("/").split("-"))
        peer.send(row.raw[:i])
        if how:
            peer.reset()
        return False
    b = t.backend(behave)
    gate = t.headgate(proxy_site(b.url), workers=1, name=row.name)
    pids = gate.workers()
    for i in range(0, len(row.raw)):
        for how in (0, 1):
            with gate.plain() as c:
                c.request("GET", f"/{i}-{how}", "localhost")
                try:
                    a = c.answer()
                    assert a.status == 502, f"cut at {i}: {a}"
                except (Truncated, ConnectionResetError):
                    pass
    same_workers(gate, pids)
    quiet(gate)


# --- TLS

class Relay:
    """Between a TLS client and headgate: bytes go on one by one, or only the first `most` of them."""

    def __init__(self, port, piece, most=None):
        self.ours, theirs = socket.socketpair()
        self.theirs, self.piece, self.most = theirs, piece, most
        self.gate = socket.create_connection(("127.0.0.1", port))
        self.gate.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for way in (self.up, self.down):
            threading.Thread(target=way, daemon=True).start()

    def up(self):
        try:
            while data := self.theirs.recv(65536):
                if self.most is not None:
                    data = data[:self.most]
                    self.most -= len(data)
                for i in range(0, len(data), self.piece):
                    self.gate.sendall(data[i:i + self.piece])
                if self.most == 0:
                    break
        except OSError:
            pass
        try:
            self.gate.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def down(self):
        try:
            while data := self.gate.recv(65536):
                self.theirs.sendall(data)
        except OSError:
            pass
        self.theirs.close()
        self.gate.close()


@table([Row("tls13", low=TLS13, high=TLS13), Row("tls12", low=TLS12, high=TLS12)], Proxied)
def test_tls_in_pieces(t, site, row):
    """Records that come byte by byte, and handshakes that end behind each byte."""
    pids = site.gate.workers()
    ctx = tls_context(site.gate.ca, low=row.low, high=row.high)
    for piece in (1, 7):
        s = ctx.wrap_socket(Relay(site.gate.https, piece).ours, server_hostname="localhost")
        s.settimeout(60)
        s.sendall(GET % 5 + GET % 6)
        got = b""
        while b'"/6"' not in got:
            more = s.recv(65536)
            assert more, got
            got += more
        s.close()
    for most in range(1, 900, 13):
        raw = Relay(site.gate.https, 65536, most).ours
        raw.settimeout(60)
        try:
            s = ctx.wrap_socket(raw, server_hostname="localhost")
            s.sendall(GET % 7)
            s.recv(1)
            s.close()
        except OSError:
            raw.close()
    same_workers(site.gate, pids)
    quiet(site.gate, "backend_idle", "backend_connections")


# --- waiting, leaving, changing

@case()
def test_waiting_clients_leave(t):
    """Two thousand requests wait for a service that is not ready; half of the clients leave in anger, the others are served."""
    gate = t.headgate(run_site(t.service("wait-for-file", t.path("go")), service_extra=", wait_ready: 60s"), workers=1,
                      top={"limits": "{ per_ip: 0 }"})
    conns = [gate.plain() for _ in range(1500)]
    for i, c in enumerate(conns):
        c.send(GET % i if i % 2 else b"POST /%d HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc" % i)
    wait_for("requests waiting", lambda: gauges(gate)["requests_waiting"] >= 1024)
    for i, c in enumerate(conns[:1000]):
        c.reset() if i % 3 else c.close()
    t.write("go", "")
    statuses = [c.answer(keep=False).status for c in conns[1000:]]
    for c in conns[1000:]:
        c.close()
    # 1,024 wait; which ones is up to the order in which a busy worker came to read them.
    assert set(statuses) <= {200, 503} and statuses.count(200) >= 24, statuses
    quiet(gate, "backend_idle", "backend_connections")


@case()
def test_reload_during_requests(t):
    """Reloads that change everything while requests of all kinds begin, are cut and end."""
    b = t.backend()
    gate = t.headgate(proxy_site(b.url), workers=1)
    pids, done = gate.workers(), threading.Event()
    rng = random.Random(1)
    kinds = list(REQUESTS.values()) + [b"GET /bytes/300000 HTTP/1.1\r\nHost: localhost\r\n\r\n", b"GET /drip/50 HTTP/1.1\r\nHost: localhost\r\n\r\n"]

    def client():
        while not done.is_set():
            raw = rng.choice(kinds)
            try:
                with (gate.plain() if rng.random() < 0.5 else gate.tls(verify=False)) as c:
                    c.send(raw[:rng.randrange(1, 2 * len(raw))])
                    c.sock.settimeout(rng.random() * 0.1)
                    c.read(rng.choice((1, 100, 65536)))
                    if not c.tls and rng.random() < 0.5:
                        c.reset()
            except (OSError, ValueError):
                pass
    threads = [threading.Thread(target=client, daemon=True) for _ in range(8)]
    for th in threads:
        th.start()
    for i in range(12):
        gate.reload_ok(proxy_site(b.url, service_extra=f", wait_ready: {i + 1}s") if i % 2 else respond_site(BIG))
    done.set()
    for th in threads:
        th.join()
    same_workers(gate, pids)
    b.close()
    quiet(gate)
