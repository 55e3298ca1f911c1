"""gRPC through the gate: a real server and a real client (grpcio), and backends and clients by hand for what those never do."""
import h2wire
from h2backend import H2Backend
from h2wire import CANCEL, ENHANCE_YOUR_CALM, INTERNAL_ERROR, REFUSED_STREAM, frame, h2
from headgate import *

PEER = os.path.join(HERE, "grpc_peer.py")


def grpc_site(service, grpc="app", extra="", routes="/: { respond: web }", service_extra=""):
    return (f"sites:\n  s:\n    host: localhost\n    https: both\n{extra}"
            f"    services:\n      app: {{ {service}, protocol: grpc, ready: {{ tcp: on }}{service_extra} }}\n" if service.startswith("run") else
            f"sites:\n  s:\n    host: localhost\n    https: both\n{extra}"
            f"    services:\n      app: {{ {service}, protocol: grpc{service_extra} }}\n") + f"    grpc: {grpc}\n    routes:\n      {routes}\n"


class Real:
    """headgate in front of a supervised grpcio server."""

    def __init__(self, t, grpc="app", **kw):
        self.t = t
        self.gate = t.headgate(grpc_site(f'run: ["{PYTHON}", "{PEER}", serve, $listen]', grpc), workers=1, **kw)

    def call(self, kind, method, *messages, **kw):
        spec = dict(address=f"127.0.0.1:{self.gate.https}", ca=self.gate.ca, kind=kind, method=method if "/" in method else f"/test.Echo/{method}",
                    messages=[m.hex() for m in messages], **kw)
        out = self.t.run([PYTHON, PEER, "call"], input=json.dumps(spec))
        assert out.returncode == 0, out.stderr
        answer = json.loads(out.stdout)
        answer["got"] = [bytes.fromhex(m) if isinstance(m, str) else m for m in answer["got"]]
        return answer


# --- a real server, a real client

BIG = os.urandom(3 << 20)
CALLS = [
    Row("unary", kind="uu", method="Unary", messages=[b"hello"], got=[b"hello"], log=("unary", 1, 1)),
    Row("unary_empty", kind="uu", method="Unary", messages=[b""], got=[b""], log=("unary", 1, 1)),
    Row("unary_3_MiB", kind="uu", method="Unary", messages=[BIG], got=[len(BIG)], log=("unary", 1, 1)),
    Row("server_stream", kind="us", method="Count", messages=[b"1000"], got=[b"%d" % i for i in range(1000)], log=("server_stream", 1, 1000)),
    Row("server_stream_of_none", kind="us", method="Count", messages=[b"0"], got=[], log=("unary", 1, 0)),
    Row("server_stream_20_MB", kind="us", method="Count", messages=[b"10x2000000"], got=[2000000] * 10, log=("server_stream", 1, 10)),
    Row("client_stream", kind="su", method="Sum", messages=[b"x" * 1000] * 500, got=[b"500000"], log=("client_stream", 500, 1)),
    Row("client_stream_of_none", kind="su", method="Sum", messages=[], got=[b"0"], log=("unary", 0, 1)),
    Row("bidi", kind="ss", method="Chat", messages=[b"%d" % i for i in range(300)], got=[b"%d" % i for i in range(300)], log=("bidi_stream", 300, 300)),
]


@table(CALLS, setup=Real)
def test_calls(t, s, row):
    """All four kinds of call; the access log tells the kind, the status and the messages."""
    a = s.call(row.kind, row.method, *row.messages)
    assert a["code"] == "OK" and a["got"] == row.got, (a["code"], a.get("details"), str(a["got"])[:200])
    call, n_in, n_out = row.log
    s.gate.wait_log(f"/test.Echo/{row.method}", f'"call":"{call}"', '"grpc_status":"OK"', f'"messages_in":{n_in},"messages_out":{n_out}')


STATUSES = ["CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "RESOURCE_EXHAUSTED", "UNIMPLEMENTED", "INTERNAL",
            "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"]


@table([Row(s, status=s) for s in STATUSES], setup=Real)
def test_statuses_of_the_backend(t, s, row):
    """Status, details and trailing metadata of the backend come as it sent them."""
    a = s.call("uu", "Fail", row.status.encode())
    assert a["code"] == row.status and a["details"] == "made to fail: ä%", a
    assert ["x-why", "because"] in a["trailing"] and ["x-raw-bin", "hex:0001ff"] in a["trailing"], a


@case()
def test_metadata(t):
    """Metadata both ways: repeated keys in their order, -bin untouched, the gate's own fields beside them."""
    s = Real(t)
    a = s.call("uu", "Meta", b"", metadata=[["x-a", "1"], ["x-a", "2"], ["x-raw-bin", "00ff10"], ["user-data", "plain text"]])
    assert a["code"] == "OK", a
    seen = json.loads(a["got"][0])
    assert [v for k, v in seen if k == "x-a"] == ["1", "2"], seen
    assert ["x-raw-bin", "hex:00ff10"] in seen and ["user-data", "plain text"] in seen, seen
    assert [v for k, v in seen if k == "x-forwarded-proto"] == ["https"], seen
    assert [v for k, v in a["initial"] if k == "x-begin"] == ["1", "2"], a["initial"]
    assert [v for k, v in a["trailing"] if k == "x-end"] == ["a", "b"] and ["x-sum-bin", "hex:feff"] in a["trailing"], a["trailing"]


@case()
def test_unknown_method(t):
    a = Real(t).call("uu", "/test.Echo/Nothing", b"x")
    assert a["code"] == "UNIMPLEMENTED", a


@case()
def test_deadline_of_the_client(t):
    """The deadline ends the call at both ends."""
    s = Real(t)
    a = s.call("uu", "Wait", b"60", timeout=0.5)
    assert a["code"] == "DEADLINE_EXCEEDED", a
    s.gate.wait_log('"line":"cancelled"')


@case()
def test_cancel(t):
    """A client that cancels: the server hears of it at once."""
    s = Real(t)
    a = s.call("us", "Quiet", t.path("never").encode(), cancel=1)
    assert a["code"] == "CANCELLED" and a["got"] == [b"first"], a
    s.gate.wait_log("/test.Echo/Quiet", '"grpc_status":"CANCELLED"')


@case()
def test_quiet_stream_outlives_the_gaps(t):
    """Silence is no failure of a gRPC stream: gap timeouts far shorter than the pause do not end it."""
    s = Real(t, top={"timeouts": "{ body_gap: 200ms, write_gap: 200ms }"})
    go = t.path("go")
    threading.Timer(2.5, lambda: open(go, "w").close()).start()
    a = s.call("us", "Quiet", go.encode())
    assert a["code"] == "OK" and a["got"] == [b"first", b"second"], a


@case()
def test_web_and_grpc_share_a_host(t):
    """The content type tells them apart, whatever the path."""
    s = Real(t)
    assert s.gate.get("/test.Echo/Unary").body == b"web"
    assert s.call("uu", "Unary", b"x")["got"] == [b"x"]


@case()
def test_no_instance(t):
    """No instance of the service: UNAVAILABLE with a pushback, not a page."""
    s = Real(t)
    gate = t.headgate(grpc_site('run: ["/bin/sleep", "1000"], listen: "127.0.0.1:%d", wait_ready: 100ms' % t.port()), workers=1, name="none")
    s.gate = gate
    a = s.call("uu", "Unary", b"x")
    assert a["code"] == "UNAVAILABLE" and "no instance" in a["details"], a
    assert ["grpc-retry-pushback-ms", "5000"] in a["trailing"], a


@case()
def test_packages(t):
    """The longest package decides; names that only begin alike do not."""
    backends = {name: H2Backend(answer_name(name)) for name in ("rest", "billing", "invoices")}
    for b in backends.values():
        t.defer(b.close)
    services = "".join(f"      {n}: {{ url: \"{b.url}\", protocol: grpc }}\n" for n, b in backends.items())
    gate = t.headgate(f"sites:\n  s:\n    host: localhost\n    services:\n{services}"
                      "    grpc: { service: rest, packages: { billing.v1: billing, billing.v1.Invoices: invoices } }\n"
                      "    routes: { /: { respond: web } }\n", workers=1)
    with h2(gate) as c:
        for path, want in (("/billing.v1.Accounts/Get", b"billing"), ("/billing.v1.Invoices/Get", b"invoices"), ("/billing.v10.X/Get", b"rest"),
                           ("/other.Y/Get", b"rest"), ("/billing.v1/Get", b"billing")):
            a = c.answer(c.request("POST", path, headers=[("content-type", "application/grpc"), ("te", "trailers")], body=message(b"")))
            assert bytes(a.body) == message(want), (path, a)


# --- by hand

def message(data, flags=0):
    return bytes([flags]) + len(data).to_bytes(4, "big") + data


GRPC = [("content-type", "application/grpc")]
OK = [("grpc-status", "0")]


def answer_name(name):
    return lambda r: (r.whole(), r.head(200, GRPC), r.data(message(name.encode())), r.end(OK))


def by_path(r):
    word, *args = r.path.strip("/").split("/")
    DO[word](r, *[int(a) for a in args])


def stream_then(r, *frames):
    r.head(200, GRPC)
    r.data(message(b"one"))
    for f in frames:
        r.conn.send(f)


DO = {
    "ok": lambda r: (r.whole(), r.reply(200, GRPC, message(b"yes"), OK)),
    "trailers_only": lambda r: r.head(200, GRPC + [("grpc-status", "5"), ("grpc-message", "none%20there")], end=True),
    "trailers_only_no_status": lambda r: r.head(200, GRPC, end=True),
    "no_trailers": lambda r: r.reply(200, GRPC, message(b"yes")),
    "trailers_no_status": lambda r: r.reply(200, GRPC, message(b"yes"), [("x-a", "1")]),
    "status_in_head": lambda r: (r.head(200, GRPC + [("grpc-status", "0")]), r.data(message(b"yes"), end=True)),
    "html": lambda r, n: r.reply(n, [("content-type", "text/html")], b"<h1>no</h1>"),
    "no_type": lambda r: r.reply(200, [], b"what"),
    "rst": lambda r, code: r.rst(code),
    "rst_between": lambda r, code: stream_then(r, h2wire.rst_frame(r.sid, code)),
    "rst_inside": lambda r, code: stream_then(r, frame(h2wire.DATA, 0, r.sid, message(b"12345")[:7]), h2wire.rst_frame(r.sid, code)),
    "end_inside": lambda r: stream_then(r, frame(h2wire.DATA, 0, r.sid, message(b"12345")[:7]), h2wire.headers_frame(r.sid, h2wire.encode(OK))),
    "bad_flags": lambda r: stream_then(r, frame(h2wire.DATA, 0, r.sid, message(b"x", 0x42))),
    "hang_up": lambda r: r.conn.sock.shutdown(socket.SHUT_RDWR),
    "hang_up_between": lambda r: (stream_then(r), r.conn.sock.shutdown(socket.SHUT_RDWR)),
    "hold": lambda r: r.wait_reset(),
    "hold_between": lambda r: (stream_then(r), r.wait_reset()),
}


class Hand:
    def __init__(self, t, grpc="app", top=None, routes="/: { respond: web }", **kw):
        self.backend = H2Backend(by_path, **kw)
        t.defer(self.backend.close)
        self.gate = t.headgate(grpc_site(f'url: "{self.backend.url}"', grpc, routes=routes), workers=1, top=top)

    def post(self, c, path, body=message(b"q"), headers=(), **kw):
        return c.request("POST", path, headers=[*GRPC, ("te", "trailers"), *headers], body=body, **kw)

    def call(self, path, **kw):
        with h2(self.gate) as c:
            return c.answer(self.post(c, path, **kw))


def status(a):
    """Where the status stood, and what it was."""
    head, tail = dict(a.headers), dict(a.trailers or ())
    assert ("grpc-status" in head) != ("grpc-status" in tail), (a.headers, a.trailers)
    return ("head", int(head["grpc-status"])) if "grpc-status" in head else ("trailers", int(tail["grpc-status"]))


ENDS = [
    Row("ok", path="/ok", status=("trailers", 0), body=message(b"yes")),
    Row("trailers_only", path="/trailers_only", status=("head", 5), body=b""),
    Row("trailers_only_without_status", path="/trailers_only_no_status", status=("head", 2), body=b""),
    Row("no_trailers", path="/no_trailers", status=("trailers", 2), body=message(b"yes")),
    Row("trailers_without_status", path="/trailers_no_status", status=("trailers", 2), body=message(b"yes")),
    Row("html_200", path="/html/200", status=("head", 2), body=b""),
    Row("html_400", path="/html/400", status=("head", 13), body=b""),
    Row("html_401", path="/html/401", status=("head", 16), body=b""),
    Row("html_403", path="/html/403", status=("head", 7), body=b""),
    Row("html_404", path="/html/404", status=("head", 12), body=b""),
    Row("html_429", path="/html/429", status=("head", 14), body=b""),
    Row("html_502", path="/html/502", status=("head", 14), body=b""),
    Row("html_503", path="/html/503", status=("head", 14), body=b""),
    Row("html_500", path="/html/500", status=("head", 2), body=b""),
    Row("no_type", path="/no_type", status=("head", 2), body=b""),
    Row("reset_internal", path=f"/rst/{INTERNAL_ERROR}", status=("head", 13), body=b""),
    Row("reset_cancel", path=f"/rst/{CANCEL}", status=("head", 1), body=b""),
    Row("reset_calm", path=f"/rst/{ENHANCE_YOUR_CALM}", status=("head", 8), body=b""),
    Row("refused", path=f"/rst/{REFUSED_STREAM}", status=("head", 14), body=b""),
    Row("reset_between_messages", path=f"/rst_between/{INTERNAL_ERROR}", status=("trailers", 13), body=message(b"one")),
    Row("hang_up", path="/hang_up", status=("head", 14), body=b""),
    Row("hang_up_between_messages", path="/hang_up_between", status=("trailers", 14), body=message(b"one")),
    Row("bad_flags", path="/bad_flags", status=None, body=None),
    Row("reset_inside_a_message", path=f"/rst_inside/{INTERNAL_ERROR}", status=None, body=None),
    Row("ends_inside_a_message", path="/end_inside", status=None, body=None),
    Row("unimplemented_deadline", path="/hold", headers=[("grpc-timeout", "200m")], status=("head", 4), body=b""),
    Row("deadline_between_messages", path="/hold_between", headers=[("grpc-timeout", "300m")], status=("trailers", 4), body=message(b"one")),
    Row("no_timeout", path="/ok", headers=[("grpc-timeout", "soon")], status=("head", 13), body=b""),
    Row("timeout_0", path="/hold", headers=[("grpc-timeout", "0S")], status=("head", 4), body=b""),
    Row("bad_request_flags", path="/ok", request=message(b"q", 9), status=("head", 13), body=b""),
    Row("request_cut", path="/ok", request=message(b"12345")[:8], status=("head", 3), body=b""),
]


@table(ENDS, setup=Hand)
def test_ends(t, s, row):
    """Whatever the backend does, the call ends in one grpc-status, in well-formed trailers; inside a message only a reset is honest."""
    with h2(s.gate) as c:
        stream = s.post(c, row.path, row.__dict__.get("request", message(b"q")), row.__dict__.get("headers", ()))
        if row.status is None:
            assert c.outcome(stream) == "reset INTERNAL_ERROR", c.outcome(stream)
        else:
            a = c.answer(stream)
            assert a.status == 200 and a.get("content-type") == "application/grpc", a
            assert status(a) == row.status and bytes(a.body) == row.body, (a, a.trailers)
        assert status(c.answer(s.post(c, "/ok"))) == ("trailers", 0)


# Before it is known whose they are. limits.header is 32 KiB, limits.uri 16 KiB.
LARGE = ("x-a", "y" * 40000)
EARLY = [
    Row("head_too_large", path="/known.X/Y", headers=[LARGE], status=8),
    Row("head_too_large_before_its_type", path="/known.X/Y", before=[LARGE], status=8),
    Row("bad_length", path="/known.X/Y", headers=[("content-length", "some")], status=None),
    Row("uri_too_long", path="/" + "x" * 17000, status=2),
    Row("expectation", path="/known.X/Y", headers=[("expect", "wonders")], status=2),
    Row("no_route", path="/other.X/Y", status=12),
]


@table(EARLY, setup=lambda t: Hand(t, grpc="{ packages: { known: app } }", routes="/page: { respond: web }"))
def test_early_ends(t, s, row):
    """What fails with its head is answered as a call too."""
    with h2(s.gate) as c:
        stream = c.request("POST", row.path, headers=[*row.__dict__.get("before", ()), *GRPC, *row.__dict__.get("headers", ())], body=message(b"q"))
        if row.status is None:
            assert c.outcome(stream).startswith("reset"), c.outcome(stream)
            return
        a = c.answer(stream)
        assert a.status == 200 and a.get("content-type") == "application/grpc" and status(a) == ("head", row.status), (a, a.body)
        s.gate.wait_log('"kind":"grpc"', f'"path":"{row.path[:100]}')
    assert not s.backend.requests


@case()
def test_te_trailers_is_always_sent(t):
    s = Hand(t)
    with h2(s.gate) as c:
        c.answer(c.request("POST", "/ok", headers=GRPC, body=message(b"q")))
    assert s.backend.requests[0].get("te") == "trailers"
    assert s.backend.requests[0].get("grpc-timeout") is None


@case()
def test_suffix_is_kept(t):
    """application/grpc+json of the request is that of an answer of the gate's own."""
    s = Hand(t)
    with h2(s.gate) as c:
        a = c.answer(c.request("POST", "/hang_up", headers=[("content-type", "Application/gRPC+json;x=y")], body=message(b"q")))
    assert a.get("content-type") == "application/grpc+json" and status(a) == ("head", 14), a


@case()
def test_message_too_large(t):
    """Over max_message: RESOURCE_EXHAUSTED as soon as its length is known, and a cancelled call for the backend."""
    s = Hand(t, grpc="{ service: app, max_message: 1KiB }")
    with h2(s.gate) as c:
        assert status(c.answer(s.post(c, "/ok", message(bytes(1024))))) == ("trailers", 0)
        a = c.answer(s.post(c, "/hold", message(bytes(1025))))
        assert status(a) == ("head", 8) and "max_message" in a.get("grpc-message"), a
    held = [r for r in s.backend.requests if r.path == "/hold"]
    assert all(r.wait_reset() == CANCEL for r in held)


@table([Row("lookalike", type="application/grpcfoo", status=415), Row("lookalike_suffix", type="application/grpc+", status=415),
        Row("parameters", type="application/grpc; charset=x", status=200), Row("upper_case", type="APPLICATION/GRPC", status=200)], setup=Hand)
def test_media_types(t, s, row):
    with h2(s.gate) as c:
        a = c.answer(c.request("POST", "/ok", headers=[("content-type", row.type)], body=message(b"q")))
    assert a.status == row.status, a


@case()
def test_grpc_over_http1(t):
    """HTTP/1.1 has no trailers that clients would look at: 505 in words."""
    s = Hand(t)
    with s.gate.tls() as c:
        a = c.get("/ok", method="POST", headers=GRPC, body=message(b"q"))
    assert a.status == 505, a.status
    s.gate.wait_log('"status":505', "gRPC needs HTTP/2")


@case()
def test_client_cancels(t):
    """RST_STREAM of the client reaches the backend; the call is CANCELLED in the log."""
    s = Hand(t)
    with h2(s.gate) as c:
        stream = s.post(c, "/hold")
        wait_for("it is there", lambda: s.backend.requests)
        c.send(h2wire.rst_frame(stream.id))
        assert s.backend.requests[0].wait_reset() == CANCEL
    s.gate.wait_log('"path":"/hold"', '"grpc_status":"CANCELLED"')


@case()
def test_refused_call_is_sent_again(t):
    """A call that the backend did not look at is sent again; too much of a body held for that: UNAVAILABLE."""
    tries = []

    def refuse_once(r):
        tries.append(len(r.whole()))
        if len(tries) == 1:
            r.rst(REFUSED_STREAM)
        else:
            r.reply(200, GRPC, message(b"yes"), OK)
    s = Hand(t, grpc="{ service: app, max_message: 0 }")
    s.backend.behave = refuse_once
    a = s.call("/any", body=message(bytes(50000)))
    assert status(a) == ("trailers", 0) and tries == [50005, 50005], (a, tries)
    tries.clear()
    assert status(s.call("/any", body=message(bytes(200000)))) == ("head", 14)
    assert len(tries) == 1


@case()
def test_messages_pass_as_they_come(t):
    """Each message of a stream reaches the client before the next one is sent: nothing waits for more."""
    seen = threading.Event()

    def one_by_one(r):
        r.head(200, GRPC)
        for i in range(50):
            r.data(message(b"%d" % i))
            assert seen.wait(60)
            seen.clear()
        r.end(OK)
    s = Hand(t)
    s.backend.behave = one_by_one
    with h2(s.gate) as c:
        stream = s.post(c, "/any")
        for i in range(50):
            c.until(lambda: bytes(stream.body).endswith(message(b"%d" % i)))
            seen.set()
        assert status(c.answer(stream)) == ("trailers", 0)


@case(slow=True)
def test_silent_client_is_asked(t):
    """A quiet stream's client is asked by PING whether it lives; one that does not answer is gone for the backend too."""
    s = Hand(t)
    c = h2(s.gate)
    s.post(c, "/hold")
    wait_for("it is there", lambda: s.backend.requests)
    assert s.backend.requests[0].wait_reset() == CANCEL     # nobody reads, so nobody answers
    s.gate.wait_log('"path":"/hold"', "PING")
    c.close()


def streams_config(n):
    return {"limits": f"{{ streams: {n} }}"}


@case()
def test_many_streams(t):
    """A thousand open streams over few connections, each with its own message at the end."""
    release = threading.Event()

    def held(r):
        r.head(200, GRPC)
        release.wait(60)
        r.data(message(r.path.encode()))
        r.end(OK)
    s = Hand(t, top=streams_config(500))
    s.backend.behave = held
    clients = [h2(s.gate) for _ in range(4)]
    streams = [(c, s.post(c, f"/{i}/{k}"), f"/{i}/{k}") for k in range(100) for i, c in enumerate(clients)]
    wait_for("all are there", lambda: len(s.backend.requests) == 400)
    release.set()
    for c, stream, path in streams:
        assert bytes(c.answer(stream).body) == message(path.encode())
    for c in clients:
        c.close()
