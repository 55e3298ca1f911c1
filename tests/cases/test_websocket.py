"""WebSocket through the gate, over HTTP/1.1: the handshake, the tunnel, its ends; by hand and with Debian's python3-websockets."""
import headgate
from h2wire import DATA, Ended, H2, REFUSED_STREAM, frame, h2, headers_frame, rst_frame, window_frame
from headgate import *
from test_metrics import Scrape
from wire import Conn
from wswire import *

PEER = os.path.join(HERE, "ws_peer.py")


class Gate:
    """headgate in front of a backend that speaks WebSocket by hand."""

    def __init__(self, t, extra="", routes="/: { proxy: app }", service="", workers=1, top=None, **kw):
        self.t = t
        self.b = ws_backend(t, **kw)
        self.gate = t.headgate(self.config(extra, routes, service), workers=workers, top=top)

    def config(self, extra="", routes="/: { proxy: app }", service=""):
        return proxy_site(self.b.url, extra=extra, routes=routes, service_extra=service)

    def conn(self, kind, **kw):
        return self.gate.tls(**kw) if kind == "tls" else self.gate.plain(**kw)

    def ws(self, kind="plain", path="/ws/echo", headers=(), early=b"", open=True, **kw):
        if kind == "h2":
            return Ws2(h2(self.gate, window=(1 << 30), **kw), path, headers, early, open)
        return Ws1(self.conn(kind, **kw), path, headers, early, open)

    def again(self):
        self.b.gate.clear()
        self.b.heard_all.clear()
        self.b.heard = None


KINDS = [Row("plain", kind="plain"), Row("tls", kind="tls"), Row("h2", kind="h2")]
H1_KINDS = KINDS[:2]


def roundtrip(ws, payload=b"hello", opcode=TEXT):
    ws.send(opcode, payload)
    got = ws.next()
    assert got == (opcode, payload), (str(got)[:100], len(payload))


def closed(ws, code=1000):
    """Our Close frame is answered by the backend's, then both ends close in order."""
    ws.raw(close_frame(code, mask=True))
    assert ws.next() == (CLOSE, struct.pack(">H", code))
    assert ws.next() is None and ws.clean, ws.clean
    ws.close()


# --- the tunnel

@table(KINDS, setup=Gate)
def test_echo(t, s, row):
    """Frames of all sizes both ways, ping and pong, a fragmented message, the closing handshake; one access log line at the end."""
    ws = s.ws(row.kind, f"/ws/echo?{row.kind}")
    for n in (0, 1, 125, 126, 65535, 65536, 1 << 20):
        roundtrip(ws, os.urandom(n), BINARY)
    ws.send(PING, b"are you there")
    assert ws.next() == (PONG, b"are you there")
    ws.send(TEXT, b"two ", fin=False)
    ws.send(CONT, b"halves")
    assert [ws.next(), ws.next()] == [(TEXT, b"two "), (CONT, b"halves")]
    closed(ws)
    s.gate.wait_log('"path":"/ws/echo"', f'"status":{200 if row.kind == "h2" else 101}', '"kind":"websocket"', '"site":"s"', '"route":"/"', '"service":"s/app"', '"instance":"127.0.0.1:')


@table(KINDS, setup=Gate)
def test_log_counts_bytes(t, s, row):
    """The log tells how many bytes went each way, and how long it stood; status counts it while it stands."""
    path = "/ws/raw/" + row.kind
    ws = s.ws(row.kind, path)
    ws.raw(b"x" * 5000)
    while len(ws.buf) < 5000:
        assert ws.fill()
    assert not [line for line in s.gate.log().splitlines() if path in line], "logged before its end"
    ws.end()
    assert not ws.fill()
    s.gate.wait_log(f'"path":"{path}"', '"bytes_in":5000,"bytes_out":5000')
    ws.close()


@case()
def test_request_as_the_backend_sees_it(t):
    """Hop-by-hop fields are written anew; key, version, subprotocols and extensions pass untouched, as the answer's do."""
    s = Gate(t)
    offers = [("Sec-WebSocket-Protocol", "chat, superchat"), ("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits"),
              ("Origin", "https://localhost"), ("X-Mine", "1"), ("Connection", "X-Hop"), ("X-Hop", "gone")]
    ws = s.ws("tls", "/ws/echo?a=1", offers)
    r = s.b.seen[0]
    assert (r.method, r.target, r.version) == ("GET", "/ws/echo?a=1", "HTTP/1.1")
    assert r.all("upgrade") == ["websocket"] and r.all("connection") == ["upgrade"], r.headers
    assert r.all("sec-websocket-key") == [KEY] and r.all("sec-websocket-version") == ["13"]
    assert r.all("sec-websocket-protocol") == ["chat, superchat"] and r.all("sec-websocket-extensions") == ["permessage-deflate; client_max_window_bits"]
    assert r.get("origin") == "https://localhost" and r.get("x-mine") == "1" and r.get("x-forwarded-proto") == "https"
    assert not r.all("x-hop") and not r.all("content-length") and not r.all("transfer-encoding"), r.headers
    assert ws.answer.all("sec-websocket-protocol") == ["chat"], ws.answer.headers
    closed(ws)


@table(KINDS, setup=Gate)
def test_any_split(t, s, row):
    """Frames that come a byte at a time leave whole; nothing is added, lost or reordered."""
    ws = s.ws(row.kind, "/ws/echo")
    payload = os.urandom(300)
    for byte in ws_frame(BINARY, payload, mask=True):
        ws.raw(bytes([byte]))
    assert ws.next() == (BINARY, payload)
    closed(ws)


@table(KINDS, setup=Gate)
def test_early_bytes_wait(t, s, row):
    """Frames sent before the 101 reach the backend behind it, not before."""
    s.again()
    s.b.early = None
    ws = s.ws(row.kind, "/ws/late", early=ws_frame(TEXT, b"early", mask=True), open=False)
    ws.send(TEXT, b"too")
    wait_for("the request at the backend", lambda: s.b.seen and s.b.seen[-1].path == "/ws/late")
    assert ws.still_open()
    s.b.gate.set()
    ws.open()
    assert [ws.next(), ws.next()] == [(TEXT, b"early"), (TEXT, b"too")]
    assert s.b.early == b"", s.b.early
    closed(ws)


@case()
def test_early_bytes_are_bounded(t):
    """A client that sends and sends before the 101 is not read on: the kernel's buffers fill, headgate's memory does not."""
    s = Gate(t)
    worker = s.gate.workers()[0]
    ws = s.ws("plain", "/ws/late", open=False)
    wait_for("the request at the backend", lambda: s.b.seen)
    before = procs.rss(worker)
    sent, frame = 0, ws_frame(BINARY, bytes(65536), mask=True)
    ws.conn.sock.setblocking(False)
    idle = 0
    while idle < 50:                # a second in which nothing more was taken
        try:
            sent += ws.conn.sock.send(frame)
            idle = 0
        except BlockingIOError:
            idle += 1
            time.sleep(0.02)
        assert sent < 64 << 20
    assert procs.rss(worker) - before < allowance(2), (procs.rss(worker) - before, sent)
    s.b.gate.set()
    ws.close()


@table(KINDS, setup=Gate)
def test_backend_speaks_first(t, s, row):
    """A frame in the same packet as the 101 is the first that the client gets."""
    s.again()
    ws = s.ws(row.kind, "/ws/broken")
    assert ws.next() == (TEXT, b"last")
    s.b.gate.set()
    ws.close()


# --- ends

@table(KINDS, setup=Gate)
def test_half_close_by_the_client(t, s, row):
    """The client's end reaches the backend as its end, while the backend still answers."""
    s.again()
    ws = s.ws(row.kind, "/ws/half")
    ws.raw(b"y" * 70000)
    ws.end()
    s.b.gate.set()              # an answer in the middle of our own end would be taken for its opposite
    assert ws.next() == (TEXT, b"70000") and ws.next() is None and ws.clean
    assert s.b.heard == b"y" * 70000
    ws.close()


@table(KINDS, setup=Gate)
def test_half_close_by_the_backend(t, s, row):
    """The backend's end reaches the client as a clean end, while what the client sends still arrives."""
    s.again()
    ws = s.ws(row.kind, "/ws/first")
    assert ws.next() == (TEXT, b"last") and ws.next() is None and ws.clean
    ws.raw(b"z" * 70000)
    ws.end()
    s.b.heard_all.wait()
    assert s.b.heard == b"z" * 70000, len(s.b.heard)
    ws.close()


@table(KINDS, setup=Gate)
def test_backend_breaks_off(t, s, row):
    """A backend's connection that is reset is not a clean end; what came before it is delivered."""
    s.again()
    ws = s.ws(row.kind, "/ws/broken")
    assert ws.next() == (TEXT, b"last")
    s.b.gate.set()
    assert ws.next() is None and ws.clean is False
    s.gate.wait_log('"path":"/ws/broken"', '"error":"')
    ws.close()


@table(KINDS, setup=Gate)
def test_backend_breaks_off_behind_its_close(t, s, row):
    """After its Close frame a backend may break off: the client got all of it, and a clean end."""
    s.again()
    ws = s.ws(row.kind, "/ws/closing")
    s.b.gate.set()
    assert ws.next() == (TEXT, b"last") and ws.next() == (CLOSE, struct.pack(">H", 1000))
    ws.raw(close_frame(1000, mask=True))
    assert ws.next() is None and ws.clean
    ws.close()


@table(KINDS, setup=Gate)
def test_client_vanishes(t, s, row):
    """A client that is reset ends the backend's side too."""
    s.again()
    ws = s.ws(row.kind, "/ws/first")
    ws.raw(b"heard")
    assert ws.next() == (TEXT, b"last")
    wait_for("the frame at the backend", lambda: s.gate)
    ws.reset()
    s.b.heard_all.wait()
    wait_for("no connection to the backend", lambda: not s.b.open)


@case(serial=True)
def test_backend_killed(t):
    """kill -9 of a supervised backend in the middle of a tunnel: the client sees the end, and the next one reaches its successor."""
    gate = t.headgate(run_site(f'["{PYTHON}", "{PEER}", serve, $listen]', service_extra=", ready: { tcp: on }"), workers=1)
    ws = Ws1(gate.tls(), "/who")
    ws.send(TEXT, b"pid")
    pid = int(ws.next()[1])
    os.kill(pid, signal.SIGKILL)
    assert ws.next() is None
    ws.close()
    gate.wait_log("instance ended")     # its socket may still take a connection, and drop it
    ws = Ws1(gate.tls(), "/who")
    ws.send(TEXT, b"pid")
    assert int(ws.next()[1]) != pid
    ws.close()


# --- backpressure

@table(KINDS, setup=Gate)
def test_slow_client(t, s, row):
    """A client that does not read stops the backend; headgate holds little of it, and all of it comes once the client reads."""
    worker = s.gate.workers()[0]
    s.b.sent = 0
    ws = s.ws(row.kind, "/ws/flood/1000", rcvbuf=65536)
    before = procs.rss(worker)
    last = [-1, time.monotonic()]

    def stopped():
        if s.b.sent != last[0]:
            last[:] = [s.b.sent, time.monotonic()]
        return s.b.sent and time.monotonic() - last[1] > 0.5
    wait_for("the backend to be stopped", stopped)
    assert s.b.sent < 40 << 20, s.b.sent
    assert procs.rss(worker) - before < allowance(4), procs.rss(worker) - before
    for _ in range(1000):
        assert ws.next() == (BINARY, bytes(65536))
    assert ws.next()[0] == CLOSE
    ws.close()


@table(KINDS, setup=lambda t: Gate(t, rcvbuf=65536))
def test_slow_backend(t, s, row):
    """A backend that does not read stops the client; nothing is lost."""
    s.again()
    s.b.taken = None
    worker = s.gate.workers()[0]
    ws = s.ws(row.kind, "/ws/sink/paused")
    before = procs.rss(worker)
    block, sent = b"z" * 65536, [0]

    def send():
        for _ in range(1000):
            ws.raw(block)
            sent[0] += len(block)
        ws.end()
    sender = threading.Thread(target=send)
    sender.start()
    last = [-1, time.monotonic()]

    def stopped():
        if sent[0] != last[0]:
            last[:] = [sent[0], time.monotonic()]
        return sent[0] and time.monotonic() - last[1] > 0.5
    wait_for("the client to be stopped", stopped)
    assert sent[0] < 40 << 20, sent
    assert procs.rss(worker) - before < allowance(4), procs.rss(worker) - before
    s.b.gate.set()
    sender.join()
    wait_for("all of it at the backend", lambda: s.b.taken == 1000 * 65536)
    ws.close()


# --- answers that are none

@table([Row(f"{status}_{k.name}", status=status, kind=k.kind) for status in (200, 302, 401, 404, 426, 500) for k in H1_KINDS], setup=Gate)
def test_backend_refuses(t, s, row):
    """Any other answer goes to the client as it is, and the connection goes on as HTTP/1.1."""
    c = s.conn(row.kind)
    c.send(upgrade_request(f"/ws/status/{row.status}"))
    a = c.answer()
    assert (a.status, a.body, a.get("x-own")) == (row.status, b"the backend says no", "yes"), a
    assert c.get("/hello").status == 200
    c.close()


@table([Row(name, want=502) for name in BAD], setup=Gate)
def test_backend_switches_wrongly(t, s, row):
    """A 101 that does not prove itself, names another protocol, or does not come whole: 502, and no tunnel."""
    with s.gate.plain() as c:
        c.send(upgrade_request(f"/ws/bad/{row.name}") + ws_frame(TEXT, b"never", mask=True))
        a = c.answer()
        assert a.status == 502, a
    wait_for("no connection to the backend", lambda: not s.b.open)


@case()
def test_switch_unasked(t):
    """A backend that answers 101 to a plain request, or to an Upgrade that was ignored, has answered nothing."""
    s = Gate(t)
    with s.gate.plain() as c:
        c.send(upgrade("Upgrade: h2c", "Connection: Upgrade", path="/bad/switch"))
        assert c.answer().status == 502


# --- requests that are none

def upgrade(*lines, method="GET", version="1.1", body=b"", path="/hello"):
    return (f"{method} {path} HTTP/{version}\r\nHost: localhost\r\n" + "".join(line + "\r\n" for line in lines) + "\r\n").encode() + body


WANT = ("Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Key: {KEY}", "Sec-WebSocket-Version: 13")

PLAIN = [
    Row("h2c", raw=upgrade("Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABkAAQAAP__")),
    Row("two_values", raw=upgrade("Upgrade: h2c, websocket", *WANT[1:])),
    Row("two_fields", raw=upgrade("Upgrade: h2c", "Upgrade: websocket", *WANT[1:])),
    Row("with_a_version", raw=upgrade("Upgrade: websocket/13", *WANT[1:])),
    Row("no_connection", raw=upgrade("Upgrade: websocket", *WANT[2:])),
    Row("connection_close", raw=upgrade("Upgrade: websocket", "Connection: close", *WANT[2:])),
    Row("http_1_0", raw=upgrade(*WANT, version="1.0")),
    Row("post_with_body", raw=upgrade(*WANT, "Content-Length: 5", method="POST", body=b"hello"), body="hello"),
    Row("get_with_body", raw=upgrade(*WANT, "Content-Length: 5", body=b"hello"), body="hello"),
    Row("get_chunked", raw=upgrade(*WANT, "Transfer-Encoding: chunked", body=b"5\r\nhello\r\n0\r\n\r\n"), body="hello"),
    Row("put", raw=upgrade(*WANT, "Content-Length: 0", method="PUT")),
    Row("options", raw=upgrade(*WANT, method="OPTIONS")),
]


@table(PLAIN, setup=Gate)
def test_no_upgrade(t, s, row):
    """What is no WebSocket request is a plain one, without Upgrade, and its bytes are no tunnel's."""
    with s.gate.plain() as c:
        c.send(row.raw)
        a = c.answer()
        assert a.status == 200, a
        seen = json.loads(a.body)
        names = [n.lower() for n, _ in seen["headers"]]
        assert "upgrade" not in names and ("connection" not in names), names
        assert seen["body"] == getattr(row, "body", ""), seen


REFUSED = [
    Row("no_key", drop="Sec-WebSocket-Key", status=400),
    Row("short_key", drop="Sec-WebSocket-Key", add=["Sec-WebSocket-Key: AAAA"], status=400),
    Row("long_key", drop="Sec-WebSocket-Key", add=["Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"], status=400),
    Row("key_not_base64", drop="Sec-WebSocket-Key", add=["Sec-WebSocket-Key: !!!!!!!!!!!!!!!!!!!!!!=="], status=400),
    Row("key_unpadded", drop="Sec-WebSocket-Key", add=["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQAA"], status=400),
    Row("two_keys", add=[f"Sec-WebSocket-Key: {KEY}"], status=400),
    Row("no_version", drop="Sec-WebSocket-Version", status=400),
    Row("two_versions", add=["Sec-WebSocket-Version: 13"], status=400),
    Row("version_8", drop="Sec-WebSocket-Version", add=["Sec-WebSocket-Version: 8"], status=426),
    Row("version_list", drop="Sec-WebSocket-Version", add=["Sec-WebSocket-Version: 13, 8"], status=426),
]


@table(REFUSED, setup=Gate)
def test_bad_handshake(t, s, row):
    """A WebSocket request that is not whole is refused before any backend hears of it; what follows it is read as HTTP/1.1."""
    before = len(s.b.seen) + s.b.begun
    lines = [line for line in WANT if not line.startswith(getattr(row, "drop", None) or "-")] + getattr(row, "add", [])
    with s.gate.plain() as c:
        c.send(upgrade(*lines))
        a = c.answer()
        assert a.status == row.status, a
        if row.status == 426:
            assert a.get("sec-websocket-version") == "13" and a.get("upgrade") == "websocket", a.headers
        assert len(s.b.seen) + s.b.begun == before
        assert c.get("/hello").status == 200


@case()
def test_smuggling(t):
    """A request behind an upgrade that the backend refuses is the next request of the connection, and not a byte of it went to the backend before."""
    s = Gate(t)
    with s.gate.plain() as c:
        c.send(upgrade_request("/ws/status/401") + b"GET /second HTTP/1.1\r\nHost: localhost\r\nX-Second: 1\r\n\r\n")
        assert c.answer().status == 401
        a = c.answer()
        assert a.status == 200 and json.loads(a.body)["target"] == "/second", a
    assert [r.path for r in s.b.requests][-1:] == ["/second"] and s.b.seen[0].size == 0
    assert not s.b.errors, s.b.errors


@case()
def test_request_in_the_tunnel(t):
    """Behind the 101 nothing is HTTP any more: a request's bytes reach the backend as bytes."""
    s = Gate(t)
    ws = s.ws("plain", "/ws/raw")
    smuggled = b"GET /second HTTP/1.1\r\nHost: localhost\r\n\r\n"
    ws.raw(smuggled)
    while len(ws.buf) < len(smuggled):
        assert ws.fill()
    assert ws.buf == smuggled and not s.b.requests
    ws.close()


# --- where it goes

@case()
def test_off(t):
    """websocket: off refuses with 403 and says why in the log; plain requests of the route go on."""
    s = Gate(t, routes="/: { proxy: app, websocket: off }")
    with s.gate.plain() as c:
        c.send(upgrade_request("/ws/echo"))
        assert c.answer().status == 403
        assert c.get("/hello").status == 200
    assert not s.b.seen
    s.gate.wait_log("WebSocket is off for this route")


@case()
def test_other_handlers(t):
    """Where nothing could take it up, Upgrade is ignored; a redirect redirects."""
    s = Gate(t, routes="/: { proxy: app }\n      /text: { respond: hello }\n      /old/: { redirect: /ws/ }")
    with s.gate.plain() as c:
        c.send(upgrade_request("/text"))
        a = c.answer()
        assert (a.status, a.body) == (200, b"hello") and not a.get("upgrade"), a
        c.send(upgrade_request("/old/echo"))
        a = c.answer()
        assert a.status == 308 and a.get("location").endswith("/ws/echo"), a


@case()
def test_strip_prefix_and_fields(t):
    """strip_prefix, to_backend and the answer's headers hold for WebSockets too."""
    s = Gate(t, extra="    headers: { set: { X-Set: yes }, to_backend: { set: { X-To: backend } } }\n",
             routes="/: { respond: no }\n      /live/: { proxy: app, strip_prefix: on }")
    ws = s.ws("plain", "/live/ws/echo?q")
    assert s.b.seen[0].target == "/ws/echo?q" and s.b.seen[0].get("x-to") == "backend"
    assert ws.answer.get("x-set") == "yes", ws.answer.headers
    closed(ws)


PROTOCOLS = [Row("h2c"), Row("grpc"), Row("http1")]


class AllProtocols(Gate):
    def config(self, *_):
        routes = "".join(f"      /{p.name}/: {{ proxy: {p.name}, strip_prefix: on }}\n" for p in PROTOCOLS)
        services = "".join(f"      {p.name}: {{ url: \"{self.b.url}\", protocol: {p.name} }}\n" for p in PROTOCOLS)
        return f"sites:\n  s:\n    host: localhost\n    https: both\n    services:\n{services}    routes:\n{routes}"


@table(PROTOCOLS, setup=AllProtocols)
def test_always_http1(t, s, row):
    """A service of any protocol gets WebSockets as HTTP/1.1."""
    ws = s.ws("tls", f"/{row.name}/ws/echo")
    roundtrip(ws)
    closed(ws)


@case()
def test_unix_socket(t):
    s = Gate(t, unix=t.path("b.sock"))
    ws = s.ws("tls")
    roundtrip(ws, bytes(200000), BINARY)
    closed(ws)


@case()
def test_kept_connection_is_used_and_stale_ones_replaced(t):
    """An upgrade may go out on a kept connection; one that went stale is replaced, unseen by the client."""
    s = Gate(t)
    assert s.gate.get("/hello").status == 200
    s.b.close_peers()
    wait_for("no connection", lambda: not s.b.open)
    ws = s.ws("plain")
    roundtrip(ws)
    closed(ws)


# --- configuration

@case()
def test_reload_under_a_tunnel(t):
    """A reload leaves a tunnel as it is, even one that takes its service and route away; the old configuration is not held for it."""
    s = Gate(t)
    tunnels = [s.ws(kind) for kind in ("plain", "tls")]
    for i in range(3):
        s.gate.reload_ok(s.config(extra=f"    headers: {{ set: {{ X-Generation: '{i}' }} }}\n"))
        for ws in tunnels:
            roundtrip(ws, b"%d" % i)
    s.gate.reload_ok("sites:\n  other:\n    host: localhost\n    https: both\n    routes: { /: { respond: gone } }\n")
    for ws in tunnels:
        roundtrip(ws, b"still here")
        closed(ws)
    s.gate.wait_log('"kind":"websocket"', '"site":"s"', '"service":"s/app"')


@table(KINDS, setup=Gate)
def test_reload_before_the_switch(t, s, row):
    """The answer of a handshake that began before a reload is made by the configuration that it began with, which goes with it."""
    def config(n):
        return s.config(extra=f"    headers: {{ set: {{ X-Generation: {n * 500} }} }}\n")
    s.again()
    s.gate.reload_ok(config("a"))
    ws = s.ws(row.kind, "/ws/late", open=False)
    wait_for("the request at the backend", lambda: s.b.seen and s.b.seen[-1].path == "/ws/late")
    s.gate.reload_ok(config("b"))
    s.gate.reload_ok(config("c"))
    s.b.seen.clear()
    s.b.gate.set()
    ws.open()
    told = ws.stream if row.kind == "h2" else ws.answer
    assert [v.replace("a" * 500, "all of it") for v in told.all("x-generation")] == ["all of it"]
    closed(ws)


@case()
def test_gaps_do_not_end_it(t):
    """body_gap, write_gap and idle are about other things than a tunnel's silence."""
    s = Gate(t, extra="    timeouts: { body_gap: 1s, write_gap: 1s, response: 1s }\n", top={"timeouts": "{ idle: 1s, body_gap: 1s, write_gap: 1s, header: 1s }"})
    quiet = [s.ws(kind) for kind in ("plain", "tls")]
    slow = s.ws("plain", "/ws/flood/300", rcvbuf=65536)
    time.sleep(3)               # three times what they allow others
    for ws in quiet:
        roundtrip(ws)
        closed(ws)
    for _ in range(300):
        assert slow.next() == (BINARY, bytes(65536))
    assert slow.next()[0] == CLOSE
    slow.close()


# --- everything at once

def misbehave1(s, rng, n):
    """n tunnels, or what was to become one, each of which ends in some way at some time."""
    for _ in range(n):
        tls = rng.random() < 0.5
        c = s.conn("tls" if tls else "plain")
        request = upgrade_request("/ws/unruly/" + rng.choice("nr4smchpeee"))
        try:
            c.send(request[:rng.randrange(len(request))] if rng.random() < 0.1 else request)
            if rng.random() < 0.3:
                c.send(bytes(rng.randrange(100000)))
            for _ in range(rng.randrange(5)):
                c.sock.settimeout(rng.choice([0.001, 0.02]))
                try:
                    c.sock.recv(rng.choice([1, 5000, 200000]))
                    c.sock.send(bytes(rng.randrange(1, 65536)))
                except OSError:
                    pass
            how = rng.randrange(3)
            if how == 0 and not tls:
                c.reset()
            elif how == 1:
                c.sock.shutdown(socket.SHUT_WR) if not tls else os.close(c.sock.detach())
            c.close()
        except OSError:
            pass


def misbehave2(s, rng, n):
    """The same as streams, twenty a connection."""
    for _ in range(n // 20):
        c = h2(s.gate, window=1 << 20)
        try:
            tunnels = [Ws2(c, "/ws/unruly/" + rng.choice("nr4smchpeee"), open=False, end=rng.random() < 0.1) for _ in range(20)]
            for _ in range(100):
                ws = rng.choice(tunnels)
                what = rng.randrange(6)
                if ws.stream.done and what < 5:
                    continue
                if what < 3:
                    n = min(ws.stream.send_window, c.send_window, rng.randrange(1, 16384))
                    if n > 0 and not getattr(ws, "over", False):
                        ws.raw(bytes(n))
                elif what == 3 and not getattr(ws, "over", False):
                    ws.over = True
                    ws.end()
                elif what == 4 and not getattr(ws, "over", False):
                    ws.over = True
                    ws.reset()
                else:
                    c.quiet(0.002)
        except (OSError, Ended):
            pass
        c.reset() if rng.random() < 0.5 else c.close()


def nothing_left(metrics):
    def left():
        with Conn(("127.0.0.1", metrics)) as c:
            m = Scrape(c.get("/metrics").body.decode())
        return (m.get("headgate_service_requests_in_flight", channel="s", service="app"), m.get("headgate_backend_connections"),
                m.get("headgate_held_bytes"))
    wait_for("all of it to be over", lambda: left()[:2] == (0, 0) and left()[2] < 100000, guard=90)


@case()
def test_torture(t):
    """Hundreds of tunnels that end in every way, while the configuration is reloaded: nothing is left, nobody died."""
    import random
    metrics = t.port()
    s = Gate(t, workers=2, top={"metrics": f'"127.0.0.1:{metrics}"', "limits": "{ per_ip: 0 }"})
    workers = s.gate.workers()
    threads = [threading.Thread(target=f, args=(s, random.Random(i), 60)) for f in (misbehave1, misbehave2) for i in range(3)]
    for th in threads:
        th.start()
    n = 0
    while any(th.is_alive() for th in threads):
        n += 1
        s.gate.reload_ok(s.config(extra=f"    headers: {{ set: {{ X-Generation: '{n}' }} }}\n"))
    for th in threads:
        th.join()

    nothing_left(metrics)
    assert s.gate.workers() == workers
    roundtrip(s.ws("tls"))


# --- what it costs

@case(serial=True)
def test_idle_tunnels_are_cheap(t):
    """500 idle tunnels, each with a TLS client: under 20 KiB a tunnel of the worker's memory."""
    s = Gate(t, top={"limits": "{ per_ip: 0 }"})
    worker = s.gate.workers()[0]

    def many(n):
        return [s.ws("tls", "/ws/deaf") for _ in range(n)]
    kept = many(100)            # what is made once
    before = procs.rss(worker)
    kept += many(500)
    grown = (procs.rss(worker) - before) / 500
    print(f"{grown:.0f} bytes a tunnel")
    assert headgate.SANITIZED or grown < 20 * 1024, f"{grown:.0f} bytes a tunnel"
    for ws in kept:
        ws.close()


# --- extended CONNECT (RFC 8441)

@case()
def test_connect_is_announced(t):
    s = Gate(t)
    with h2(s.gate) as c:
        c.ping()
        assert c.peer.get(8) == 1, c.peer


@case()
def test_connect_as_the_backend_sees_it(t):
    """HTTP/1.1's handshake is made up for it: GET, a fresh key each, whose proof stays here; all else passes."""
    s = Gate(t)
    offers = [("sec-websocket-protocol", "chat, superchat"), ("origin", "https://localhost"), ("cookie", "a=1"), ("sec-websocket-key", "mine")]
    tunnels = [s.ws("h2", "/ws/echo?a=1", offers) for _ in range(2)]
    for ws, r in zip(tunnels, s.b.seen):
        assert (r.method, r.target) == ("GET", "/ws/echo?a=1") and r.get("host") == "localhost"
        assert r.all("upgrade") == ["websocket"] and r.all("connection") == ["upgrade"] and r.all("sec-websocket-version") == ["13"]
        assert r.all("sec-websocket-protocol") == ["chat, superchat"] and r.get("cookie") == "a=1", r.headers
        assert len(r.all("sec-websocket-key")) == 1 and len(r.get("sec-websocket-key")) == 24
        assert ws.stream.all("sec-websocket-protocol") == ["chat"], ws.stream
        closed(ws)
    assert len({r.get("sec-websocket-key") for r in s.b.seen}) == 2


CONNECTS = [
    Row("other_protocol", fields=connect_fields(protocol="connect-udp"), want="501"),
    Row("protocol_with_a_version", fields=connect_fields(protocol="websocket/13"), want="501"),
    Row("plain_connect", fields=[(":method", "CONNECT"), (":authority", "localhost")], want="501"),
    Row("no_version", fields=connect_fields(version=None), want="400"),
    Row("version_8", fields=connect_fields(version="8"), want="400", told=("sec-websocket-version", "13")),
    Row("get_with_protocol", fields=[(":method", "GET")] + connect_fields()[1:], want="reset PROTOCOL_ERROR"),
    Row("no_path", fields=[f for f in connect_fields() if f[0] != ":path"], want="reset PROTOCOL_ERROR"),
    Row("no_scheme", fields=[f for f in connect_fields() if f[0] != ":scheme"], want="reset PROTOCOL_ERROR"),
    Row("asterisk", fields=connect_fields("*"), want="reset PROTOCOL_ERROR"),
    Row("respond", fields=connect_fields("/text"), want="403"),
    Row("off", fields=connect_fields("/off/ws/echo"), want="403"),
    Row("redirect", fields=connect_fields("/old/echo"), want="308"),
    Row("backend_401", fields=connect_fields("/ws/status/401"), want="401"),
    Row("backend_302", fields=connect_fields("/ws/status/302"), want="302"),
    Row("backend_200", fields=connect_fields("/ws/status/200"), want="502"),
    Row("backend_proves_wrongly", fields=connect_fields("/ws/bad/accept"), want="502"),
    Row("no_such_host", fields=connect_fields(host="other.example"), want="421"),
]


@table(CONNECTS, setup=lambda t: Gate(t, routes="/: { proxy: app }\n      /text: { respond: hello }\n      /old/: { redirect: /ws/ }\n"
                                      "      /off/: { proxy: app, strip_prefix: on, websocket: off }"))
def test_connect_refused(t, s, row):
    """No 2xx but for a tunnel that stands; the stream ends with its answer, and the connection goes on."""
    with h2(s.gate) as c:
        stream = c.open(row.fields, end=False, more=b"")
        assert c.outcome(stream) == row.want, (c.outcome(stream), stream)
        if row.want[0] in "345":
            c.until(lambda: stream.reset is not None)
            assert stream.reset == NO_ERROR, stream
        if hasattr(row, "told"):
            assert stream.get(row.told[0]) == row.told[1]
        assert c.get("/hello").status == 200


@case()
def test_connect_with_its_end(t):
    """END_STREAM with the request itself: the client's side has ended before it began."""
    s = Gate(t)
    s.b.gate.set()
    ws = Ws2(h2(s.gate), "/ws/half", end=True)
    assert ws.next() == (TEXT, b"0") and ws.next() is None and ws.clean
    ws.close()


@case()
def test_connect_resets(t):
    """A reset of the stream ends the backend's connection; the backend's reset is CANCEL; HEADERS in a tunnel are a protocol error."""
    s = Gate(t)
    c = h2(s.gate)
    gone, broken, wrong, other = (Ws2(c, p) for p in ("/ws/first", "/ws/broken", "/ws/echo", "/ws/echo"))
    assert broken.next() == (TEXT, b"last")
    gone.reset()
    s.b.heard_all.wait()
    s.b.gate.set()
    assert broken.next() is None and broken.stream.reset == CANCEL, broken.stream
    c.send(headers_frame(wrong.stream.id, [("x-trailer", "1")]))
    assert wrong.next() is None and wrong.stream.reset == 1, wrong.stream
    roundtrip(other)
    wait_for("one connection to the backend", lambda: s.b.open == 1)
    closed(other)


@case()
def test_connect_many(t):
    """A hundred tunnels on one connection; one that its client does not read, and one that its backend does not, hold up none of them."""
    s = Gate(t, rcvbuf=65536)
    c = h2(s.gate, window=1 << 30)
    c.hold = True       # no window for the flood
    flood = Ws2(c, "/ws/flood/100")
    deaf = Ws2(c, "/ws/sink/paused")
    sent = fill_window(c, deaf)
    assert sent
    tunnels = [Ws2(c, "/ws/echo") for _ in range(98)]
    for i in range(3):
        for ws in tunnels:
            ws.send(TEXT, b"%d" % i * 50)
        for ws in tunnels:
            assert ws.next() == (TEXT, b"%d" % i * 50)
    for ws in tunnels:
        ws.raw(close_frame(1000, mask=True))
    for ws in tunnels:
        assert ws.next()[0] == CLOSE and ws.next() is None and ws.clean
    assert not flood.stream.done and flood.stream.size == 65535, flood.stream
    s.b.gate.set()
    deaf.end()
    wait_for("all of it at the backend", lambda: s.b.taken == sent)
    c.close()


def fill_window(c, ws):
    """Sends until the stream's window stays shut; returns how much that was."""
    sent = 0
    while c.quiet(0.5) and ws.stream.send_window > 0:
        n = min(ws.stream.send_window, c.send_window)
        ws.raw(bytes(n))
        sent += n
    return sent


@case()
def test_connect_all_arrives_behind_both_ends(t):
    """Both sides have ended while the backend has not taken all yet: HTTP/2's stream is over, and still nothing is lost."""
    s = Gate(t, rcvbuf=65536)
    c = h2(s.gate)
    ws = Ws2(c, "/ws/first/paused")
    assert ws.next() == (TEXT, b"last") and ws.next() is None
    sent = fill_window(c, ws)
    ws.end()
    c.ping()
    assert sent > 65535, sent
    s.b.gate.set()
    s.b.heard_all.wait()
    assert len(s.b.heard) == sent
    wait_for("no connection to the backend", lambda: not s.b.open)
    assert c.get("/hello").status == 200
    c.close()


@case(slow=True)
def test_connect_over_and_backend_silent(t):
    """The same, while the backend never takes the rest: after a minute of silence it is given up, and its stream is not held until the client goes."""
    s = Gate(t, rcvbuf=65536)
    c = h2(s.gate)
    ws = Ws2(c, "/ws/first/paused")
    assert ws.next() == (TEXT, b"last") and ws.next() is None
    fill_window(c, ws)
    ws.end()
    c.ping()

    def given_up():
        c.ping()
        return [line for line in s.gate.log().splitlines() if '"path":"/ws/first/paused"' in line]
    line = wait_for("its line in the log", given_up, guard=110, every=0.5)[0]
    assert "one side ended, and the other was silent" in line, line
    wait_for("no request under way", lambda: s.gate.status()["counters"]["requests"] == 0)
    s.b.gate.set()
    wait_for("no connection to the backend", lambda: not s.b.open)
    assert c.get("/hello").status == 200
    c.close()


# --- real parts

class Real:
    """headgate in front of a supervised server on python3-websockets."""

    def __init__(self, t, extra=""):
        self.t = t
        self.gate = t.headgate(run_site(f'["{PYTHON}", "{PEER}", serve, $listen]', service_extra=", ready: { tcp: on }" + extra), workers=1)

    def call(self, path, tls=True, **spec):
        spec.setdefault("messages", [])
        spec.update({"uri": f"wss://localhost:{self.gate.https}{path}", "port": self.gate.https, "ca": self.gate.ca} if tls else
                    {"uri": f"ws://localhost:{self.gate.http}{path}", "port": self.gate.http})
        out = self.t.run([PYTHON, PEER, "call"], input=json.dumps(spec))
        assert out.returncode == 0, out.stderr
        return json.loads(out.stdout)


BIG = os.urandom(3 << 20).hex()
REAL = [
    Row("text", path="/echo", messages=[("text", "hällo", 1)] * 20, got=["hällo"] * 20),
    Row("binary_3_MiB", path="/echo", messages=[("binary", BIG, 1)], got=[BIG]),
    Row("compressed", path="/echo", messages=[("text", "again " * 50000, 1)], got=["again " * 50000], extensions=["permessage-deflate"]),
    Row("uncompressed", path="/echo", messages=[("text", "again " * 50000, 1)], got=["again " * 50000], compression=None, extensions=[]),
    Row("subprotocol", path="/echo", messages=[("text", "x", 1)], got=["x"], subprotocols=["chat.v1", "other"], chosen="chat.v1"),
    Row("ten_thousand_messages", path="/count", messages=[("text", "10000", 10000)], got=[str(i) for i in range(10000)]),
    Row("pings", path="/echo", pings=50),
    Row("closed_by_the_server", path="/close", until_closed=True, close=[4001, "enough"]),
    Row("fifty_at_once", path="/echo", messages=[("text", "hello", 1)] * 5, got=["hello"] * 5, times=50),
    Row("plain_ws", path="/echo", tls=False, messages=[("text", "hello", 1)], got=["hello"]),
]


@table(REAL, setup=Real)
def test_real(t, s, row):
    """python3-websockets on both sides."""
    spec = {k: v for k, v in row.__dict__.items() if k in ("messages", "subprotocols", "pings", "until_closed", "times", "tls", "compression")}
    answers = s.call(row.path, **spec)
    assert len(answers) == getattr(row, "times", 1)
    for a in answers:
        assert a["got"] == getattr(row, "got", []) and a["close"] == getattr(row, "close", None), str(a)[:300]
        assert a["subprotocol"] == getattr(row, "chosen", None)
        if hasattr(row, "extensions"):
            assert a["extensions"] == row.extensions, a["extensions"]


@case(serial=True)
def test_nats(t):
    """A real nats-server with its WebSocket listener as a supervised service: what one client publishes another gets, both through the gate."""
    script = t.write("nats.sh", 'printf "listen: 127.0.0.1:-1\\nwebsocket { listen: \\"%s\\", no_tls: true }\\n" "$1" > nats.conf\n'
                     'exec /usr/sbin/nats-server -c nats.conf\n')
    gate = t.headgate(run_site(f"[/bin/sh, {script}, $listen]", service_extra=", ready: { tcp: on }"), workers=1)

    def say(ws, text):
        ws.send(BINARY, text)

    def hear(ws, want):
        got = b""
        while want not in got:
            opcode, payload = ws.next()
            assert opcode == BINARY, (opcode, payload)
            got += payload
            if payload.startswith(b"PING"):
                say(ws, b"PONG\r\n")
        return got
    a, b = Ws1(gate.tls(), "/"), Ws1(gate.plain(), "/")
    for ws in (a, b):
        hear(ws, b"INFO ")
        say(ws, b'CONNECT {"verbose":false,"pedantic":false}\r\nPING\r\n')
        hear(ws, b"PONG\r\n")
    say(a, b"SUB news 1\r\nPING\r\n")
    hear(a, b"PONG\r\n")
    big = os.urandom(500000)
    say(b, b"PUB news 5\r\nhello\r\nPUB news %d\r\n" % len(big) + big + b"\r\n")
    got = hear(a, big[-64:] + b"\r\n")
    assert b"MSG news 1 5\r\nhello\r\n" in got and big in got
    a.close()
    b.close()


# --- all of it at once

PATHS = ["/ws/" + p for p in ("echo", "late", "raw", "half", "broken", "closing", "hold", "deaf", "flood/20", "first", "sink", "bad/accept", "bad/half-a-head")]


def some_frames(rng):
    return b"".join(rng.choice([ws_frame(BINARY, bytes(rng.randrange(9000)), mask=True), close_frame(1000, mask=True), os.urandom(rng.randrange(1, 50))])
                    for _ in range(rng.randrange(4)))


def listen_a_little(conn, rng):
    conn.sock.settimeout(rng.choice([0.001, 0.02]))
    try:
        conn.sock.recv(rng.choice([1, 5000, 200000]))
    except OSError:
        pass
    conn.sock.settimeout(60)


def misbehave_h1(s, rng):
    c = s.conn(rng.choice(["plain", "tls"]))
    c.send(upgrade_request(rng.choice(PATHS)) + some_frames(rng))
    for _ in range(rng.randrange(4)):
        listen_a_little(c, rng)
        c.send(some_frames(rng))
    how = rng.randrange(4)
    if how == 0:
        c.reset()
    elif how == 1:
        os.close(c.sock.detach())
    elif how == 2:
        c.sock.shutdown(socket.SHUT_WR)
        listen_a_little(c, rng)
    c.close()


def misbehave_h2(s, rng):
    """A dozen tunnels on one connection: DATA, ends and resets in any order, then the connection's end."""
    c = h2(s.gate, window=rng.choice([None, 1 << 24]), settings=rng.choice([(), [(4, 0)], [(4, 1 << 20)]]))
    ids = range(1, 25, 2)
    for i in ids:
        c.send(headers_frame(i, connect_fields(rng.choice(PATHS)), 4 | (rng.random() < 0.1)))
        listen_a_little(c, rng)
    for i in rng.sample(ids, 8) * 2:
        what = rng.randrange(5)
        data = some_frames(rng)[:3000]
        c.send(frame(DATA, what == 0, i, data) if what < 3 else rst_frame(i) if what == 3 else window_frame(i, 70000))
        listen_a_little(c, rng)
    os.close(c.sock.detach()) if rng.random() < 0.5 else c.close()


@case()
def test_torture(t):
    """Hundreds of tunnels of both versions whose two sides do anything and end in any way, under reloads: nothing is left, nobody died."""
    import random
    s = Gate(t, workers=2, top={"timeouts": "{ handshake: 1s, connect: 1s }"})
    s.b.gate.set()
    workers = s.gate.workers()

    def misbehave(seed):
        rng = random.Random(seed)
        for i in range(40):
            try:
                (misbehave_h2 if i % 4 == 0 else misbehave_h1)(s, rng)
            except OSError:
                pass
    threads = [threading.Thread(target=misbehave, args=(i,)) for i in range(6)]
    for x in threads:
        x.start()
    n = 0
    while any(x.is_alive() for x in threads):
        n += 1
        s.gate.reload_ok(s.config(extra=f"    headers: {{ set: {{ X-Generation: '{n}' }} }}\n"))
    for x in threads:
        x.join()

    def counters():
        c = s.gate.status()["counters"]
        return c["connections"], c["requests"]
    wait_for("all of it to be over", lambda: counters() == (0, 0))
    wait_for("no tunnel to the backend", lambda: not s.b.open)
    assert s.gate.workers() == workers
    assert s.gate.get("/hello").status == 200
