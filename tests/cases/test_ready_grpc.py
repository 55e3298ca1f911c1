"""Readiness and health by grpc.health.v1.Health/Check: a real server (grpcio), and by hand what a hostile or odd one answers."""
import re

import h2wire
from grpc_health import GOOD, GRPC, YES, Raw, block, data, head, trailers
from h2wire import (DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PADDED, PRIO, PUSH, frame, goaway_frame, headers_frame, ping_frame,
                    rst_frame, settings_frame, window_frame)
from headgate import *

SERVER = os.path.join(HERE, "grpc_health.py")
PEER = os.path.join(HERE, "grpc_peer.py")


def site(service, extra=""):
    return (f"sites:\n  s:\n    host: localhost\n    https: both\n    services:\n      app: {{ {service}, protocol: grpc{extra} }}\n"
            "    grpc: app\n    routes:\n      /: { respond: web }\n")


def run(*words):
    return 'run: ["' + '", "'.join((PYTHON, *words)) + '"]'


def call(t, gate, method="/test.Echo/Unary"):
    spec = {"address": f"127.0.0.1:{gate.https}", "ca": gate.ca, "kind": "uu", "method": method, "messages": ["00"]}
    out = t.run([PYTHON, PEER, "call"], input=json.dumps(spec))
    assert out.returncode == 0, out.stderr
    return json.loads(out.stdout)


def instance(gate):
    return gate.status()["services"][0]["instances"][0]


def wait_state(gate, state, error=""):
    wait_for(f"{state} {error}", lambda: (i := instance(gate))["state"] == state and error in i["last_error"], every=0.05)


# --- a real server

LISTENS = [Row("tcp", listen="tcp"), Row("unix", listen="unix"), Row("fixed", listen=None)]


@table(LISTENS, setup=lambda t: None, both=True)
def test_life(t, _, row):
    """protocol: grpc asks for health without being told to: no request before SERVING, none while NOT_SERVING, and they come back."""
    file = t.write("status", "=NOT_SERVING\n")
    listen = row.listen or f'"127.0.0.1:{t.port()}"'
    gate = t.headgate(site(run(SERVER, "serve", "$listen", file),
                           f", listen: {listen}, health: {{ interval: 50ms, timeout: 30s, failures: 2 }}, wait_ready: 100ms"), workers=1, name=row.name)
    gate.wait_log("asked for <>: NOT_SERVING, deadline True")
    wait_state(gate, "starting")
    wait_for("why it is not ready", lambda: instance(gate).get("not_ready") == "it says NOT_SERVING")
    assert "not ready yet: it says NOT_SERVING" in gate.cli("status").stdout
    assert call(t, gate)["code"] == "UNAVAILABLE"
    for _ in range(2):
        t.write("status", "=SERVING\n")
        wait_state(gate, "ready")
        answer = call(t, gate)
        assert answer["code"] == "OK" and bytes.fromhex(answer["got"][0]) == b"%d" % instance(gate)["pid"], answer
        t.write("status", "=NOT_SERVING\n")
        wait_state(gate, "unready", "it says NOT_SERVING")
        assert call(t, gate)["code"] == "UNAVAILABLE"
    assert instance(gate)["restarts"] == 0


@case()
def test_socket_handed_over(t):
    """listen: fd: the socket takes connections before anybody accepts them; ready is who answers."""
    gate = t.headgate(site(run(SERVER, "raw", "fd"), ", listen: fd"), workers=1)
    wait_state(gate, "ready")
    gate.reload_ok(site(run(os.path.join(HERE, "service.py"), "never-listens", "fd"), ", listen: fd, start_timeout: 2s"))
    gate.wait_log("not ready in time", "it does not answer in time")


@case()
def test_named(t):
    """ready: { grpc: NAME } asks for that service and no other."""
    file = t.write("status", "=NOT_SERVING\napp.v1.Orders=SERVING\n")
    gate = t.headgate(site(run(SERVER, "serve", "$listen", file), ", ready: { grpc: app.v1.Orders }"), workers=1)
    wait_state(gate, "ready")
    gate.wait_log("asked for <app.v1.Orders>: SERVING")
    gate.reload_ok(site(run(SERVER, "serve", "$listen", file), ", ready: { grpc: app.v1.Other }, start_timeout: 2s"))
    gate.wait_log("not ready in time", "does not know the service's name")
    assert call(t, gate)["code"] == "OK"        # the one that is ready stays


@case()
def test_port(t):
    """The port that `port` names is asked, whatever the service itself speaks."""
    file = t.write("status", "=SERVING\n")
    gate = t.headgate(run_site(f'["{PYTHON}", "{SERVER}", serve, "127.0.0.1:$port:health", "{file}"]',
                               ', ports: { health: auto }, ready: { grpc: "", port: health }'), workers=1)
    wait_state(gate, "ready")
    gate.wait_log("asked for <>: SERVING")


@case()
def test_no_health_service(t):
    """A server that answers UNIMPLEMENTED is ready, and the log says so once, whatever follows."""
    extra = ", health: { interval: 20ms, timeout: 30s }"
    gate = t.headgate(site(run(PEER, "serve", "$listen"), extra), workers=1)
    assert call(t, gate)["code"] == "OK"
    said = "has no health service (UNIMPLEMENTED)"
    gate.wait_log(said, "s/app")
    pid = instance(gate)["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_for("its successor", lambda: instance(gate)["state"] == "ready" and instance(gate)["pid"] != pid)
    gate.reload_ok(site(run(PEER, "serve", "$listen"), extra + ", balance: round"))
    assert call(t, gate)["code"] == "OK"
    assert gate.log().count(said) == 1, gate.log()


@case()
def test_default_over_tls(t):
    """The master speaks no TLS: an https:// backend is looked at by tcp, unless told otherwise, which is refused."""
    b = t.backend()
    gate = t.headgate(site(f'url: "https://127.0.0.1:{b.port}"', ", health: { interval: 20ms }"), workers=1)
    wait_state(gate, "ready")
    r = gate.reload(site(f'url: "https://127.0.0.1:{b.port}"', ', ready: { grpc: "" }'))
    assert r.returncode == 1 and "looks by gRPC at an https:// backend are not available" in r.stderr + r.stdout, r


# --- by hand: what is asked, and what is made of the answers

def with_type(text):
    return [(":status", "200"), ("content-type", text)]


def status(n):
    return [("grpc-status", str(n)), ("grpc-message", "why")]


BEGIN = settings_frame()
HUFFMAN = BEGIN + head(huffman=True) + data() + trailers(huffman=True)

GOODS = [
    Row("indexed", answer=BEGIN + head(index=True) + data() + trailers(index=True)),
    Row("huffman", answer=HUFFMAN),
    Row("static_name", answer=BEGIN + headers_frame(1, b"\x88\x0f\x10" + h2wire.text_literal("application/grpc", True), END_HEADERS) + data() + trailers()),
    Row("table_size", answer=BEGIN + headers_frame(1, h2wire.table_size(0) + block(GRPC), END_HEADERS) + data() + trailers()),
    Row("byte_by_byte", answer=[HUFFMAN[i:i + 1] for i in range(len(HUFFMAN))]),
    Row("type_proto", answer=BEGIN + head(with_type("application/grpc+proto")) + data() + trailers()),
    Row("type_parameter", answer=BEGIN + head(with_type("application/grpc;x=y"), huffman=True) + data() + trailers()),
    Row("padded", answer=BEGIN + frame(HEADERS, END_HEADERS | PADDED | PRIO, 1, b"\x03" + b"\0\0\0\0\x0f" + block(GRPC) + b"\0\0\0")
        + frame(DATA, PADDED, 1, b"\xff" + YES + bytes(255)) + trailers()),
    Row("message_in_pieces", answer=BEGIN + head() + b"".join(data(YES[i:i + 1]) for i in range(len(YES))) + data(b"") + trailers()),
    Row("other_frames", answer=settings_frame([(3, 100), (4, 0)]) + settings_frame(flags=1) + window_frame(0, 1000) + ping_frame() + frame(0xbe, 0, 0, bytes(9000))
        + head() + settings_frame() + h2wire.priority_frame(1) + data() + window_frame(1, 5) + trailers()),
    Row("many_fields", answer=BEGIN + head(GRPC + [(f"x-{i}", "v" * 20) for i in range(90)], huffman=True) + data() + trailers(status(0))),
    Row("goaway_behind_the_call", answer=BEGIN + goaway_frame(1) + head() + data() + trailers()),
    Row("goaway_to_come", answer=BEGIN + goaway_frame(0x7fffffff) + head() + data() + trailers()),
    Row("unknown_fields", answer=BEGIN + head() + data(b"\0\0\0\0\x17" + b"\x10\xff\x01" + b"\x1a\x02hi" + b"\x21" + bytes(8) + b"\x2d" + bytes(4) + b"\x08\x01") + trailers()),
    Row("closes_behind", answer=GOOD, close=True),
    Row("unimplemented", answer=BEGIN + head(GRPC + status(12), True)),
    Row("unimplemented_huffman", answer=BEGIN + head(GRPC + status(12), True, huffman=True)),
    Row("unimplemented_in_trailers", answer=BEGIN + head() + trailers(status(12))),
    Row("unimplemented_alone", answer=BEGIN + head([(":status", "200")] + status(12), True)),
]
BADS = [
    Row("silent", answer=b"", why="it does not answer in time"),
    Row("settings_and_silent", answer=BEGIN, why="it does not answer in time"),
    Row("half_an_answer", answer=BEGIN + head() + data(), why="it does not answer in time"),
    Row("closes", answer=b"", close=True, why="closed the connection without an answer"),
    Row("closes_in_a_frame", answer=GOOD[:-3], close=True, why="closed the connection before its answer was whole"),
    Row("closes_before_the_trailers", answer=BEGIN + head() + data(), close=True, why="closed the connection before its answer was whole"),
    Row("garbage", answer=b"\x00\x02 lorem ipsum\r\n" * 1000, why="no HTTP/2"),
    Row("http1", answer=b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", close=True, why="it speaks HTTP/1, not gRPC"),
    Row("no_settings", answer=head() + data() + trailers(), why="no HTTP/2"),
    Row("acknowledged_settings_first", answer=settings_frame(flags=1) + GOOD, why="no HTTP/2"),
    Row("huge_settings", answer=frame(4, 0, 0, b"", length=0xffffff) + bytes(100000), why="no HTTP/2"),
    Row("settings_of_seven_bytes", answer=BEGIN + frame(4, 0, 0, bytes(7)) + GOOD, why="breaks the rules of HTTP/2"),
    Row("settings_on_a_stream", answer=BEGIN + settings_frame(stream=1) + GOOD, why="breaks the rules of HTTP/2"),
    Row("ping_of_nine_bytes", answer=BEGIN + ping_frame(bytes(9)) + GOOD, why="breaks the rules of HTTP/2"),
    Row("huge_frame", answer=BEGIN + head() + frame(DATA, 0, 1, b"", length=0xffffff) + bytes(100000), why="breaks the rules of HTTP/2"),
    Row("huge_data", answer=BEGIN + head() + data(bytes(16384)), why="its answer is too long"),
    Row("much_data", answer=BEGIN + head() + data(bytes(300)) * 300, why="its answer is too long"),
    Row("huge_head", answer=BEGIN + head(GRPC + [("x", "v" * 9000)]), why="head is too long"),
    Row("continuation", answer=BEGIN + headers_frame(1, block(GRPC), 0) + frame(9, 0, 1, b"") * 5000, why="head is too long"),
    Row("continuation_alone", answer=BEGIN + frame(9, END_HEADERS, 1, block(GRPC)), why="breaks the rules of HTTP/2"),
    Row("interim_without_end", answer=BEGIN + head([(":status", "100")]) * 100, why="no gRPC"),
    Row("endless_windows", answer=BEGIN + window_frame(0, 1) * 10000, why="its answer is too long"),
    Row("endless_pings", answer=BEGIN + ping_frame() * 10000, why="its answer is too long"),
    Row("endless_settings", answer=BEGIN * 10000, why="its answer is too long"),
    Row("endless_unknown", answer=BEGIN + frame(0xbe, 0, 0, bytes(16384)) * 100, why="its answer is too long"),
    Row("push", answer=BEGIN + frame(PUSH, END_HEADERS, 1, b"\0\0\0\2" + block(GRPC)), why="breaks the rules of HTTP/2"),
    Row("other_stream", answer=BEGIN + headers_frame(3, block(GRPC), END_HEADERS), why="breaks the rules of HTTP/2"),
    Row("goaway", answer=BEGIN + goaway_frame(0) + GOOD, why="ends the connection before it answers"),
    Row("goaway_error", answer=BEGIN + goaway_frame(1, 11, b"calm"), why="ends the connection before it answers"),
    Row("goaway_of_four_bytes", answer=BEGIN + frame(GOAWAY, 0, 0, bytes(4)), why="breaks the rules of HTTP/2"),
    Row("reset", answer=BEGIN + rst_frame(1, 7), why="it resets the health check"),
    Row("reset_behind_the_head", answer=BEGIN + head() + rst_frame(1, 0), why="it resets the health check"),
    Row("html", answer=BEGIN + head(with_type("text/html")) + data(YES) + trailers(), why="no gRPC"),
    Row("grpc_web", answer=BEGIN + head(with_type("application/grpc-web+proto"), huffman=True) + data(YES) + trailers(), why="no gRPC"),
    Row("no_type", answer=BEGIN + head([(":status", "200")]) + data(YES) + trailers(), why="no gRPC"),
    Row("not_found", answer=BEGIN + head([(":status", "404")], True), why="no gRPC"),
    Row("padding_too_long", answer=BEGIN + frame(HEADERS, END_HEADERS | PADDED, 1, b"\xf0" + block(GRPC)), why="breaks the rules of HTTP/2"),
    Row("index_zero", answer=BEGIN + headers_frame(1, b"\x80", END_HEADERS), why="breaks the rules of HTTP/2"),
    Row("integer_without_end", answer=BEGIN + headers_frame(1, b"\xff" * 20, END_HEADERS), why="breaks the rules of HTTP/2"),
    Row("string_beyond_the_block", answer=BEGIN + headers_frame(1, b"\0\x05gr", END_HEADERS), why="breaks the rules of HTTP/2"),
    Row("value_missing", answer=BEGIN + headers_frame(1, b"\0\x02gr", END_HEADERS), why="breaks the rules of HTTP/2"),
    Row("data_first", answer=BEGIN + data(), why="breaks the rules of HTTP/2"),
    Row("head_twice", answer=BEGIN + head() + head(), why="breaks the rules of HTTP/2"),
    Row("ends_with_data", answer=BEGIN + head() + data(YES, END_STREAM), why="no grpc-status"),
    Row("trailers_without_status", answer=BEGIN + head() + data() + trailers([("x", "y")]), why="no grpc-status"),
    Row("status_of_letters", answer=BEGIN + head() + data() + trailers([("grpc-status", "ok")]), why="no grpc-status"),
    Row("status_17", answer=BEGIN + head() + data() + trailers(status(17)), why="no grpc-status"),
    Row("no_message", answer=BEGIN + head() + trailers(), why="no message"),
    Row("compressed", answer=BEGIN + head(GRPC + [("grpc-encoding", "gzip")]) + data(b"\1" + YES[1:]) + trailers(), why="is compressed"),
    Row("two_messages", answer=BEGIN + head() + data(YES + YES) + trailers(), why="no HealthCheckResponse"),
    Row("short_message", answer=BEGIN + head() + data(YES[:-1]) + trailers(), why="no HealthCheckResponse"),
    Row("long_length", answer=BEGIN + head() + data(b"\0\xff\xff\xff\xff\x08\1") + trailers(), why="no HealthCheckResponse"),
    Row("strange_status", answer=BEGIN + head() + data(b"\0\0\0\0\2\x08\x09") + trailers(), why="no HealthCheckResponse"),
    Row("field_without_end", answer=BEGIN + head() + data(b"\0\0\0\0\3\x0a\x7fx") + trailers(), why="no HealthCheckResponse"),
    Row("group", answer=BEGIN + head() + data(b"\0\0\0\0\1\x0b") + trailers(), why="no HealthCheckResponse"),
    Row("unknown", answer=BEGIN + head() + data(b"\0\0\0\0\0") + trailers(), why="UNKNOWN"),
    Row("not_serving", answer=BEGIN + head() + data(b"\0\0\0\0\2\x08\2") + trailers(), why="it says NOT_SERVING"),
    Row("last_one_counts", answer=BEGIN + head() + data(b"\0\0\0\0\4\x08\1\x08\2") + trailers(), why="it says NOT_SERVING"),
    Row("service_unknown", answer=BEGIN + head() + data(b"\0\0\0\0\2\x08\3") + trailers(), why="does not know the service's name"),
    Row("status_5", answer=BEGIN + head(GRPC + status(5), True), why="does not know the service's name"),
    Row("status_14", answer=BEGIN + head() + data() + trailers(status(14), huffman=True), why="ends in UNAVAILABLE"),
    Row("status_16", answer=BEGIN + head(GRPC + status(16), True, huffman=True), why="ends in UNAUTHENTICATED"),
]


class ByHand:
    """A look every 20 ms; the backend is out after one that failed."""

    def __init__(self, t):
        self.b = Raw()
        t.defer(self.b.close)
        self.gate = t.headgate(site(f'url: "{self.b.url}"', ', ready: { grpc: "" }, health: { interval: 20ms, timeout: 400ms, failures: 1 }'), workers=1)


@table(BADS, setup=ByHand)
def test_not_ready(_, s, row):
    """Each is not ready, with its own reason; and ready again when the backend has come to its senses."""
    s.b.say(GOOD)
    wait_state(s.gate, "ready")
    s.b.say(row.answer, getattr(row, "close", False))
    wait_state(s.gate, "unready", row.why)
    assert s.gate.proc.poll() is None


@table(GOODS, setup=ByHand)
def test_ready(_, s, row):
    """Each is ready, from a state that is not."""
    s.b.say(b"", close=True)
    wait_state(s.gate, "unready")
    s.b.say(row.answer, getattr(row, "close", False))
    wait_state(s.gate, "ready")


@case()
def test_request(t):
    """What is asked: the fields, the deadline, the name; settings that forbid what the answer must not have."""
    b = Raw()
    t.defer(b.close)
    name = "n" * 200
    t.headgate(site(f'url: "{b.url}"', f", ready: {{ grpc: {name} }}, health: {{ interval: 20ms, timeout: 7s }}"), workers=1)
    c = wait_for("a call", lambda: b.calls and b.calls[0])
    host = b.url.removeprefix("http://")
    agent = dict(c["fields"]).pop("user-agent")
    assert re.fullmatch(r"headgate/[0-9.]+", agent), agent
    assert c["fields"] == [(":method", "POST"), (":scheme", "http"), (":path", "/grpc.health.v1.Health/Check"), (":authority", host), ("te", "trailers"),
                           ("grpc-timeout", "7000m"), ("content-type", "application/grpc"), ("user-agent", agent)], c
    assert c["message"] == b"\0\0\0\0\xcb\x0a\xc8\x01" + name.encode(), c
    assert c["settings"][h2wire.TABLE_SIZE] == 0 and c["settings"][h2wire.ENABLE_PUSH] == 0 and c["settings"][h2wire.MAX_LIST] <= 4096, c
