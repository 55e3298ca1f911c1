"""
Draining by kind: what ends by itself is let finish, what would go on for ever ends in order, each at a moment of its own, when its
instance is replaced, handed over or killed, or headgate stops. Real gRPC servers and clients (grpcio), event streams, HTTP/1.1 and 2.
"""
import base64

from h2wire import h2
from headgate import *
from test_grpc import PEER, message
from test_grpc_web import TEXT, WEB, parts, pieces

# Streams end within ten seconds; what finishes by itself has longer than any machine needs.
TOP = {"timeouts": "{ drain: 90s, shutdown: 90s }"}
ONCE = 30       # seconds, far below both: who is cut by the end of the drain only, is later


def site(t, strategy="overlap"):
    grpc = f'run: ["{PYTHON}", "{PEER}", serve, $listen], protocol: grpc, ready: {{ tcp: on }}, strategy: {strategy}, wait_ready: 60s'
    return (f"sites:\n  s:\n    host: localhost\n    https: both\n    grpc: calls\n"
            f"    services:\n      calls: {{ {grpc} }}\n      web: {{ run: {t.service('ok', t.path('go'))}, strategy: {strategy}, wait_ready: 60s }}\n"
            "    routes: { /: { proxy: web } }\n")


class Client(threading.Thread):
    """One client in a thread: what run(s) returned, or the exception; and how long after the event."""

    def __init__(self, s, name, run):
        super().__init__(daemon=True)
        self.s, self.name, self.act = s, name, run
        self.out = self.over = None

    def run(self):
        try:
            self.out = self.act(self.s)
        except Exception as e:      # noqa: the row that looks at it tells
            self.out = e
        self.over = time.monotonic()


# --- the clients, by kind

def grpc(kind, method, *messages, hold=False, after=False):
    def run(s):
        spec = dict(address=f"127.0.0.1:{s.gate.https}", ca=s.gate.ca, kind=kind, method="/test.Echo/" + method, messages=[m.hex() for m in messages])
        if hold:
            spec["hold"] = s.t.path("never")
        if after and s.follows:
            spec["after"] = "/test.Echo/Unary"
        out = s.t.run([PYTHON, PEER, "call"], input=json.dumps(spec), guard=110)
        assert out.returncode == 0, out.stderr
        return json.loads(out.stdout)
    return run


def web(version, type, method, body):
    def run(s):
        sent = body if type == WEB else base64.b64encode(body)
        headers = [("content-type", type), ("x-grpc-web", "1")]
        if version == 1:
            with s.gate.tls(guard=110) as c:
                a = c.get("/test.Echo/" + method, method="POST", headers=headers, body=sent)
                again = c.get("/hello") if s.follows and a.get("connection") != "close" else None
        else:
            with h2(s.gate, guard=110) as c:
                a = c.answer(c.request("POST", "/test.Echo/" + method, headers=headers, body=sent))
                again = c.get("/hello") if s.follows and not c.goaways else None
        got, trailers = parts(pieces(bytes(a.body)) if type == TEXT else a.body)
        return {"code": trailers["grpc-status"], "got": got, "trailing": list(trailers.items()), "status": a.status, "again": again and again.status}
    return run


def events(version, path, encoding=None):
    """The whole stream, ended in order; then one more request on the same connection."""
    headers = [("accept-encoding", encoding)] if encoding else []

    def run(s):
        if version == 1:
            with s.gate.tls(guard=110) as c:
                a = c.get(path, headers=headers)
                return {"status": a.status, "body": a.body, "close": a.get("connection"), "again": s.follows and c.get("/hello").status}
        with h2(s.gate, guard=110) as c:
            a = c.get(path, headers=headers)
            return {"status": a.status, "body": bytes(a.body), "again": s.follows and not c.goaways and c.get("/hello").status}
    return run


def plain(version):
    def run(s):
        if version == 1:
            with s.gate.tls(guard=110) as c:
                a = c.get("/until")
                return {"status": a.status, "body": a.body, "close": a.get("connection")}
        with h2(s.gate, guard=110) as c:
            a = c.get("/until")
            return {"status": a.status, "body": bytes(a.body)}
    return run


MANY = [b"one", b"two"]
TICK = message(b"100")
KINDS = {
    "server_stream": grpc("us", "Tick", b"100", after=True),
    "server_stream_of_large_messages": grpc("us", "Tick", b"300000"),
    "server_stream_quiet": grpc("us", "Quiet", b"/none/never"),
    "client_stream": grpc("su", "Sum", *MANY, hold=True, after=True),
    "client_stream_one_message": grpc("su", "Sum", b"one", hold=True),
    "bidi_stream": grpc("ss", "Chat", *MANY, hold=True),
    "bidi_stream_one_message": grpc("ss", "Chat", b"one", hold=True, after=True),
    "web_stream_h1": web(1, WEB, "Tick", TICK),
    "web_stream_h2": web(2, WEB, "Tick", TICK),
    "web_text_stream_h1": web(1, TEXT, "Tick", TICK),
    "web_text_stream_h2": web(2, TEXT, "Tick", TICK),
    "events_h1": events(1, "/ticks"),
    "events_h2": events(2, "/ticks"),
    "events_gzip_h2": events(2, "/ticks", "gzip"),
    "events_quiet_h1": events(1, "/events"),
    "events_torn_h2": events(2, "/torn"),
    "unary": None,      # those that finish: below, since the test says when
    "web_unary_h1": None,
    "plain_h1": plain(1),
    "plain_h2": plain(2),
}
FINISH = ("unary", "web_unary_h1", "plain_h1", "plain_h2")


def is_call(kind):
    return not kind.startswith(("plain", "events"))


class Drained:
    """All kinds at once, then the event; then what finishes by itself is let finish."""

    def __init__(self, t, event, strategy="overlap"):
        self.t, self.event_name = t, event
        self.follows = event == "restart" and strategy == "overlap"     # a further request comes on the same connection
        go = t.path("go")
        self.gate = t.headgate(site(t, strategy), workers=1, top=TOP)
        runs = dict(KINDS, unary=grpc("uu", "Until", go.encode()), web_unary_h1=web(1, WEB, "Until", message(go.encode())))
        if event == "kill":     # calls only; and one that is cut inside of a message has no status (test_grpc)
            runs = {k: v for k, v in runs.items() if is_call(k) and "large" not in k}
        self.clients = {k: Client(self, k, v) for k, v in runs.items()}
        for c in self.clients.values():
            c.start()
        lines = {"Tick": 6, "Quiet": 1, "Sum": 2, "Chat": 2, "Until": 2, "ticks": 3, "torn": 1, "until": 2}
        if event == "kill":
            lines = {"Tick": 5, "Quiet": 1, "Sum": 2, "Chat": 2, "Until": 2}
        for word, n in lines.items():
            wait_for(f"{n} × {word} to begin", lambda: self.gate.log().count(f'"line":"begun {word}"') >= n, 100)
        self.began = time.monotonic()
        self.event(event)
        self.lasting = [c for k, c in self.clients.items() if k not in FINISH]
        if event != "kill":
            wait_for("the streams' ends", lambda: all(c.over for c in self.lasting), 100)
            self.finished_early = [k for k in FINISH if self.clients[k].over]
        open(go, "w").close()
        wait_for("all ends", lambda: all(c.over for c in self.clients.values()), 100)

    def event(self, event):
        if event == "restart":
            for name in ("s/calls", "s/web"):
                r = self.gate.cli("restart", name)
                assert r.returncode == 0, r.stderr
        elif event == "stop":
            self.gate.proc.send_signal(signal.SIGTERM)
        else:
            pid = next(s["instances"][0]["pid"] for s in self.gate.status()["services"] if s["service"] == "s/calls")
            os.kill(pid, signal.SIGKILL)

    def result(self, name):
        c = self.clients[name]
        if isinstance(c.out, Exception):
            raise c.out
        assert c.over - self.began < ONCE or name in FINISH, f"{name} ended only after {c.over - self.began:.0f} s"
        return c.out


def pushback(out):
    """Its value; exactly one."""
    values = [v for k, v in out["trailing"] if k == "grpc-retry-pushback-ms"]
    assert len(values) == 1 and 100 <= int(values[0]) <= 1000, out
    return int(values[0])


def check_call(name, out, stays):
    assert out["code"] in ("UNAVAILABLE", "14"), out
    pushback(out)
    if "details" in out:
        assert "goes away" in out["details"], out
    if stays:
        assert out.get("after", "OK") == "OK" and out.get("again", 200) == 200, out
    if "large" in name:
        assert all(n == 300000 or len(n) == 600000 for n in out["got"]) and out["got"], out["got"]


def check_events(name, out, stays):
    assert out["status"] == 200, out
    if "gzip" in name:
        return
    if "torn" in name:
        assert out["body"] == b"data: 1\n\ndata: ", out["body"]
    else:
        assert out["body"].endswith((b"\n\n", b"\n: a comment\n")), out["body"][-100:]     # a comment belongs to no event
    if stays:
        assert out["again"] == 200, out


def check_finished(name, out, event):
    if name.startswith("plain"):
        assert (out["status"], out["body"]) == (200, b"done"), out
        if event == "stop" and "h1" in name:
            assert out["close"] == "close", out
    else:
        assert out["code"] in ("OK", "0") and out["got"] in ([b"done"], [b"done".hex()]), out


def check(s, row, stays):
    out = s.result(row.name)
    if row.name in FINISH:
        assert row.name not in s.finished_early, "it did not wait for its answer"
        check_finished(row.name, out, s.event_name)
    elif row.name.startswith("events"):
        check_events(row.name, out, stays)
    else:
        check_call(row.name, out, stays)


ROWS = [Row(k) for k in KINDS]


def moments(s):
    return sorted(c.over - s.began for c in s.lasting)


@table(ROWS, setup=lambda t: Drained(t, "restart"))
def test_restart(t, s, row):
    """`headgate restart`: the old instance's streams end, the clients' connections stay, and the next call goes to the new one."""
    check(s, row, True)
    if row is ROWS[0]:      # 16 moments of ten seconds: all within two of them is one case in 10^10
        assert moments(s)[-1] - moments(s)[0] > 2, moments(s)


@table(ROWS, setup=lambda t: Drained(t, "restart", "handover"))
def test_handover(t, s, row):
    """strategy: handover: the same, while new requests wait."""
    check(s, row, False)


@table(ROWS, setup=lambda t: Drained(t, "stop"))
def test_stop(t, s, row):
    """headgate stops: the same, and what finishes does so before it ends."""
    check(s, row, False)
    if row is ROWS[-1]:
        assert s.gate.wait_exit() == 0


@table([Row(k) for k in KINDS if is_call(k) and "large" not in k], setup=lambda t: Drained(t, "kill"))
def test_killed_instance(t, s, row):
    """The instance is killed: each call that was on it ends with UNAVAILABLE and says when to come again."""
    out = s.result(row.name)
    assert out["code"] in ("UNAVAILABLE", "14"), out
    pushback(out)


# --- one instance of two

@table([Row("calls"), Row("events")], setup=lambda t: None)
def test_only_its_own(t, _, row):
    """One of two instances goes: the streams on it end, those on the other one do not notice."""
    def text(n):
        grpc = f'run: ["{PYTHON}", "{PEER}", serve, $listen], protocol: grpc, ready: {{ tcp: on }}, instances: {n}'
        return ("sites:\n  s:\n    host: localhost\n    https: both\n    grpc: calls\n    services:\n"
                f"      calls: {{ {grpc} }}\n      web: {{ run: {t.service('ok')}, instances: {n} }}\n    routes: {{ /: {{ proxy: web }} }}\n")
    gate = t.headgate(text(2), workers=1, top={"timeouts": "{ drain: 90s }"}, name=row.name)
    wait_for("all four instances", lambda: states(gate) == states(gate, "s/web") == ["ready", "ready"])
    with h2(gate) as c:
        if row.name == "calls":
            body = message(t.path("go").encode())
            xs = [c.request("POST", "/test.Echo/Quiet", [("content-type", "application/grpc"), ("te", "trailers")], body=body) for _ in range(6)]
        else:
            xs = [c.request(path="/events") for _ in range(6)]
        c.until(lambda: all(x.size for x in xs))
        said = gate.reload_ok(text(1)).stdout
        assert said.count("fewer instances") == 2, said
        c.until(lambda: sum(x.ended for x in xs) == 3)
        if row.name == "calls":
            assert all(dict(x.trailers)["grpc-status"] == "14" for x in xs if x.ended), xs
            wait_for("the instance's end", lambda: states(gate) == ["ready"])
            open(t.path("go"), "w").close()     # the others end as they like
            c.until(lambda: all(x.ended for x in xs))
            assert sorted(dict(x.trailers)["grpc-status"] for x in xs) == ["0"] * 3 + ["14"] * 3, xs
        else:
            wait_for("the instance's end", lambda: states(gate, "s/web") == ["ready"])
            assert c.quiet() and sum(x.done for x in xs) == 3, xs


def states(gate, service="s/calls"):
    return [i["state"] for s in gate.status()["services"] if s["service"] == service for i in s["instances"]]


# --- connections

@case()
def test_keep_alive(t):
    """headgate stops: HTTP/1.1's next answer says that it is the last one; a kept connection that is idle ends without a word."""
    s = Held(t)
    with s.gate.tls() as busy, s.gate.tls() as idle:
        assert idle.get("/x").status == 200 and busy.get("/x").status == 200
        busy.request("GET", "/held", "localhost")
        wait_for("the request", lambda: s.backend.count == 3)
        s.gate.proc.send_signal(signal.SIGTERM)
        assert idle.at_end() and idle.clean_end
        s.backend.gate.set()
        a = busy.answer()
        assert a.body == b"at last" and a.get("connection") == "close", a
        assert busy.at_end() and busy.clean_end
    assert s.gate.wait_exit() == 0


class Held:
    def __init__(self, t, top=None):
        self.backend = t.backend()
        self.gate = t.headgate(proxy_site(self.backend.url), workers=1, top=top)


@case()
def test_promise_before_the_stop(t):
    """An answer that began before headgate stops promised that the connection goes on: the next request on it is answered."""
    s = Held(t, top={"timeouts": "{ shutdown: 60s }"})
    with s.gate.tls() as c, s.gate.tls() as other:
        c.request("GET", "/drip/400", "localhost")
        assert c.head().get("connection") is None
        other.request("GET", "/held", "localhost")
        wait_for("the request", lambda: s.backend.count == 2)
        s.gate.proc.send_signal(signal.SIGTERM)
        s.gate.wait_log('"worker drains"')
        c.request("GET", "/x", "localhost")         # it waits behind the answer
        c.exactly(400, lambda piece: None)
        a = c.answer()
        assert a.status == 200 and a.get("connection") == "close", a
        s.backend.gate.set()
        assert other.answer().status == 200
    assert s.gate.wait_exit() == 0


@case()
def test_time_is_over(t):
    """What does not finish within timeouts.shutdown is told so as its protocol has it, and not just cut."""
    run = f'run: ["{PYTHON}", "{PEER}", serve, $listen], protocol: grpc, ready: {{ tcp: on }}'
    text = (f"sites:\n  s:\n    host: localhost\n    https: both\n    grpc: calls\n    services:\n      calls: {{ {run} }}\n"
            f"      web: {{ run: {t.service('ok')} }}\n    routes: {{ /: {{ proxy: web }} }}\n")
    gate = t.headgate(text, workers=1, top={"timeouts": "{ shutdown: 1s }"})
    never = message(t.path("never").encode())
    with h2(gate) as c, gate.tls() as h1:
        x = c.request("POST", "/test.Echo/Until", [("content-type", "application/grpc"), ("te", "trailers")], body=never)
        y = c.request(path="/silent")
        h1.request("GET", "/silent", "localhost")
        gate.wait_log('"line":"begun Until"')
        gate.proc.send_signal(signal.SIGTERM)
        assert dict(c.answer(x).headers)["grpc-status"] == "14", x
        assert c.answer(y).status == 503, y
        assert h1.answer().status == 503
    assert gate.wait_exit() == 0
