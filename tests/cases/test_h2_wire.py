"""
HTTP/2 that is not as it should be: heads that are refused, frames that end a stream or the connection, floods of cheap
frames. Each row is a case; what must go on afterwards is asked for each time.
"""
from h2wire import *
from headgate import *

SITE = """sites:
  s:
    host: localhost
    https: both
    services: {{ app: {{ url: "{url}" }} }}
    routes: {{ /: {{ proxy: app }}, /hello: {{ respond: hello }}, /static/: {{ files: {www} }}, /small/: {{ proxy: app, limits: {{ body: 1KiB }} }} }}
  other: {{ host: other.localhost, https: both, routes: {{ /: {{ respond: other }} }} }}
"""


class Site:
    def __init__(self, t, top=None):
        self.backend = t.backend()
        t.write("www/a.txt", "a file\n")
        self.gate = t.headgate(SITE.format(url=self.backend.url, www=t.path("www")), workers=1, top=top)


def goes_on(site, name):
    """The next client is served, by the same process."""
    with h2(site.gate) as c:
        s = c.get("/after/" + name)
        assert s.status == 200 and json.loads(s.body)["target"] == "/after/" + name, s
    assert not site.backend.errors, site.backend.errors


# --- heads

MALFORMED = ("400", "reset PROTOCOL_ERROR")


def head(name, fields=None, want=MALFORMED, reach=0, **kw):
    return Row(name, fields=fields, want=want if isinstance(want, tuple) else (want,), reach=reach, **kw)


def plain(*more, **kw):
    return request_fields(path=kw.pop("path", "/good"), more=more, **kw)


def fine(name, fields, want="200", **kw):
    return head(name, fields, want, reach=1, **kw)


M, S, A, P = (":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", "/good")
BAD_PATHS = {"empty": "", "relative": "good", "space": "/a b", "control": "/a\x01b", "tab": "/a\tb", "del": "/a\x7fb", "star_get": "*",
             "absolute": "https://localhost/x", "fragment": "/a#b", "nul": "/a\0b", "crlf": "/a HTTP/1.1\r\nHost: localhost\r\n\r\nGET /smuggled"}
BAD_AUTHORITIES = {"empty": "", "userinfo": "user@localhost", "userinfo_password": "u:p@localhost", "space": "local host", "slash": "localhost/x",
                   "bad_port": "localhost:port", "port_too_big": "localhost:99999", "control": "local\x01host", "list": "localhost, evil",
                   "crlf": "localhost\r\nX-A: b", "query": "localhost?x", "nul": "localhost\0"}
BAD_VALUES = {"nul": "b\0c", "cr": "b\rc", "lf": "b\nc", "crlf": "b\r\nx-smuggled: 1", "control": "b\x01c", "escape": "\x1b[1m", "del": "b\x7f",
              "leading_space": " b", "trailing_space": "b ", "leading_tab": "\tb"}
BAD_NAMES = {"upper": "X-A", "upper_inside": "x-A", "space": "x a", "colon": "x:a", "nul": "x\0a", "crlf": "x-a: b\r\nx-b", "high": "x\xe9", "empty": "",
             "paren": "x(a)", "del": "x\x7f", "underscore_upper": "X_A", "space_end": "x-a ", "slash": "x/a"}
HOP_FIELDS = {"connection_close": ("connection", "close"), "connection_keep_alive": ("connection", "keep-alive"), "keep_alive": ("keep-alive", "timeout=5"),
              "proxy_connection": ("proxy-connection", "keep-alive"), "transfer_encoding": ("transfer-encoding", "chunked"),
              "transfer_encoding_identity": ("transfer-encoding", "identity"), "upgrade": ("upgrade", "h2c"), "te_gzip": ("te", "gzip"),
              "te_trailers_and_more": ("te", "trailers, gzip"), "te_empty": ("te", "")}

HEADS = [head("path_" + k, plain(path=v)) for k, v in BAD_PATHS.items()]
HEADS += [head("authority_" + k, plain(authority=v)) for k, v in BAD_AUTHORITIES.items()]
HEADS += [head("value_" + k, plain(("x-a", v)), value=v) for k, v in BAD_VALUES.items()]
HEADS += [head("name_" + k, plain((v, "b"))) for k, v in BAD_NAMES.items()]
HEADS += [head("hop_" + k, plain(v)) for k, v in HOP_FIELDS.items()]
HEADS += [head("no_" + k[0][1:], [x for x in (M, S, A, P) if x != k]) for k in (M, S, P)]
HEADS += [head("twice_" + k[0][1:], [M, S, A, P, k]) for k in (M, S, A, P)]
HEADS += [
    head("nothing", []),
    head("no_authority", [M, S, P]),
    head("authority_twice_differs", [M, S, A, P, (":authority", "other.localhost")]),
    head("path_twice_differs", [M, S, A, P, (":path", "/smuggled")]),
    head("pseudo_after_regular", [M, S, A, ("x-a", "b"), P]),
    head("pseudo_unknown", [M, S, A, P, (":x", "y")]),
    head("pseudo_protocol", [M, S, A, P, (":protocol", "websocket")]),
    head("pseudo_status", [M, S, A, P, (":status", "200")]),
    head("pseudo_upper", [(":METHOD", "GET"), S, A, P]),
    head("method_empty", plain(method="")),
    head("method_space", plain(method="GET /smuggled HTTP/1.1")),
    head("method_control", plain(method="GE\x01T")),
    head("method_crlf", plain(method="GET\r\nX: y")),
    head("scheme_empty", plain(scheme="")),
    head("connect", [(":method", "CONNECT"), (":authority", "localhost:443")], MALFORMED + ("501", "405")),
    head("connect_path", plain(method="CONNECT"), MALFORMED + ("501", "405")),
    head("connect_extended", [(":method", "CONNECT"), (":protocol", "websocket"), S, A, P], MALFORMED + ("501", "405")),
    head("host_differs", plain(("host", "other.localhost"))),
    head("host_differs_port", plain(("host", "localhost:1"))),
    head("host_twice", plain(("host", "localhost"), ("host", "localhost"))),
    head("host_twice_alone", [M, S, P, ("host", "localhost"), ("host", "localhost")]),
    head("host_alone_bad", [M, S, P, ("host", "u@localhost")]),
    head("length_bad", plain(("content-length", "5x"), method="POST")),
    head("length_plus", plain(("content-length", "+5"), method="POST")),
    head("length_empty", plain(("content-length", ""), method="POST")),
    head("length_overflow", plain(("content-length", "18446744073709551621"), method="POST")),
    head("length_twice", plain(("content-length", "5"), ("content-length", "5"), method="POST"), body=b"hello"),
    head("length_twice_differs", plain(("content-length", "5"), ("content-length", "6"), method="POST"), body=b"hello"),
    head("length_list", plain(("content-length", "5, 5"), method="POST"), body=b"hello"),
    head("length_but_end", plain(("content-length", "5"), method="POST")),
    head("length_too_small", plain(("content-length", "3"), method="POST"), "reset PROTOCOL_ERROR", body=b"hello"),
    head("length_too_large", plain(("content-length", "7"), method="POST"), "reset PROTOCOL_ERROR", body=b"hello"),
    head("length_zero_with_data", plain(("content-length", "0"), method="POST"), "reset PROTOCOL_ERROR", body=b"hello"),
    head("expect_unknown", plain(("expect", "teapot"), method="POST"), ("417", "400"), body=b"hello"),
    head("other_host", plain(authority="other.localhost"), "421"),
    head("unknown_host", plain(authority="elsewhere.example"), "421"),
    head("uri_long", plain(path="/" + "a" * 20000), "414"),
    head("uri_very_long", plain(path="/" + "a" * 60000), ("414", "431")),
    head("fields_many", plain(*[("x-%d" % i, "y") for i in range(200)]), "431"),
    head("field_long", plain(("x-a", "a" * 40000)), "431"),
    head("field_far_over", plain(("x-a", "a" * 400000)), ("431", "goaway ENHANCE_YOUR_CALM", "goaway COMPRESSION_ERROR", "goaway PROTOCOL_ERROR")),
    head("cookies_many", plain(*[("cookie", "a%d=b" % i) for i in range(2000)]), ("431", "goaway ENHANCE_YOUR_CALM")),
    head("body_over_limit", plain(("content-length", "1025"), method="POST", path="/small/x"), "413", body=b"x" * 1025),
    head("body_over_limit_no_length", plain(method="POST", path="/small/x"), "413", body=b"x" * 5000, reach=None),
    # trailers
    head("trailer_pseudo", plain(method="POST"), "reset PROTOCOL_ERROR", body=b"hello", trailers=[(":path", "/x")]),
    head("trailer_upper", plain(method="POST"), "reset PROTOCOL_ERROR", body=b"hello", trailers=[("X-A", "b")]),
    head("trailer_connection", plain(method="POST"), "reset PROTOCOL_ERROR", body=b"hello", trailers=[("connection", "close")]),
    head("trailer_nul", plain(method="POST"), MALFORMED, body=b"hello", trailers=[("x-a", "b\0c")]),
    head("trailer_crlf", plain(method="POST"), MALFORMED, body=b"hello", trailers=[("x-a", "b\r\nx-b: c")]),
    head("trailer_no_end", plain(method="POST"), "reset PROTOCOL_ERROR", body=b"hello", trailers=[("x-a", "b")], trailer_flags=END_HEADERS),
    head("trailer_huge", plain(method="POST"), ("431", "400", "reset PROTOCOL_ERROR", "goaway ENHANCE_YOUR_CALM"), body=b"hello",
         trailers=[("x-a", "b" * 60000)]),
    # what must work
    fine("get", plain()),
    fine("get_with_te_trailers", plain(("te", "trailers"))),
    fine("host_same", plain(("host", "localhost"))),
    fine("host_same_case", plain(("host", "LOCALhost"))),
    fine("host_alone", [M, S, P, ("host", "localhost")]),
    fine("authority_with_port", plain(authority="localhost:8443")),
    fine("authority_upper", plain(authority="LOCALHOST")),
    fine("method_unknown", plain(method="BREW")),
    fine("head", plain(method="HEAD")),
    fine("options_star", plain(method="OPTIONS", path="*"), ("200", "204"), reach_any=True),
    fine("query", plain(path="/good?a=b&c=%20d")),
    fine("value_empty", plain(("x-a", ""))),
    fine("value_tab_inside", plain(("x-a", "b\tc"))),
    fine("value_obs_text", plain(("x-a", "caf\xc3\xa9"))),
    fine("fields_90", plain(*[("x-%d" % i, "y") for i in range(90)])),
    fine("field_20k", plain(("x-a", "a" * 20000))),
    fine("uri_10k", plain(path="/" + "a" * 10000)),
    fine("post", plain(method="POST"), body=b"hello"),
    fine("post_length", plain(("content-length", "5"), method="POST"), body=b"hello"),
    fine("post_empty", plain(method="POST"), body=b""),
    fine("post_length_zero", plain(("content-length", "0"), method="POST")),
    fine("get_with_body", plain(), body=b"hello"),
    fine("trailers", plain(method="POST"), body=b"hello", trailers=[("x-sum", "42")], sees=[("x-sum", "42")]),
    fine("trailers_forbidden", plain(method="POST"), body=b"hello", sees=[("x-sum", "42")], trailers=[
        ("x-sum", "42"), ("host", "evil"), ("authorization", "x"), ("set-cookie", "a=b"), ("cookie", "a=b"), ("content-type", "text/x")]),
]


@table(HEADS, Site)
def test_head(t, site, row):
    """What the client is told, that nothing of a refused request reaches the backend, and that the connection and the next client go on."""
    before, begun = site.backend.count, site.backend.begun
    body, trailers = getattr(row, "body", None), getattr(row, "trailers", None)
    with h2(site.gate) as c:
        s = c.open(row.fields, end=body is None and trailers is None)
        try:
            if body is not None:
                c.send_body(s, body, end=trailers is None)
            if trailers is not None:
                c.send(headers_frame(s.id, trailers, getattr(row, "trailer_flags", END_HEADERS | END_STREAM)))
        except (Ended, OSError):
            pass
        got = c.outcome(s)
        assert got in row.want, f"{got}, expected {row.want}: {s}"
        if not got.startswith(("goaway", "closed")):
            assert c.get("/again").status == 200, "the connection does not go on"
    new = [r for r in site.backend.requests[before:] if r.target != "/again"]
    assert not any("smuggled" in r.target or "smuggled" in n.lower() for r in new for n, _ in r.headers), new
    if row.reach is not None and not getattr(row, "reach_any", False):
        assert len(new) == row.reach, [r.dump() for r in new]
    if row.reach == 0 and body is None:
        assert site.backend.begun - begun == ("again" in str(site.backend.targets()[before:])), "a head reached the backend"
    if row.reach and body is not None:
        assert new[0].body == body, new[0].body
    if hasattr(row, "sees"):
        assert [(n.lower(), v) for n, v in new[0].trailers] == row.sees, new[0].trailers
    goes_on(site, row.name)


# --- frames

def req(sid=1, end=True, path="/hello", more=b"", method="GET", flags=END_HEADERS):
    return headers_frame(sid, request_fields(method, path), flags | (END_STREAM if end else 0)) + more


def post(sid=1):
    """An open stream whose answer waits for the body."""
    return req(sid, end=False, path="/sink", method="POST")


def conn(code):
    return ("goaway " + code,)


PROTOCOL, SIZE, FLOW, COMPRESSION, CLOSED = (conn(c) for c in ("PROTOCOL_ERROR", "FRAME_SIZE_ERROR", "FLOW_CONTROL_ERROR", "COMPRESSION_ERROR",
                                                              "STREAM_CLOSED"))
BLOCK = encode(request_fields(path="/hello"))
HALF = headers_frame(1, BLOCK[:20], END_STREAM)


def bad(name, data, want, **kw):
    """data: what is sent behind preface and SETTINGS. want: what becomes of the connection; stream: of stream 1."""
    return Row(name, data=data, want=want, **kw)


def ok(name, data, **kw):
    return bad(name, data, ("open",), **kw)


FRAMES = [
    # 3.4 the preface
    bad("preface_wrong", b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", PROTOCOL + ("closed",), preface=False),
    bad("preface_http1", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", PROTOCOL + ("closed",), preface=False),
    bad("preface_binary", bytes(range(256)), PROTOCOL + ("closed",), preface=False),
    bad("preface_without_settings", PREFACE + ping_frame(), PROTOCOL + ("closed",), preface=False),
    # 4 frames
    ok("unknown_type", frame(0xee, 0xff, 0, b"x" * 100)),
    ok("unknown_type_on_stream", post() + frame(0xee, 0, 1, b"x") + frame(DATA, END_STREAM, 1), stream=("200",)),
    ok("undefined_flags", ping_frame(flags=0xfe)),
    ok("reserved_bit", frame(PING, 0, 1 << 31, b"12345678")),
    ok("data_16384", post() + frame(DATA, END_STREAM, 1, b"x" * 16384), stream=("200",)),
    bad("data_16385", post() + frame(DATA, END_STREAM, 1, b"x" * 16385), SIZE),
    bad("headers_16385", frame(HEADERS, END_HEADERS | END_STREAM, 1, BLOCK + b"x" * 16385), SIZE),
    bad("settings_16386", frame(SETTINGS, 0, 0, b"\0\x07\0\0\0\0" * 2731), SIZE),
    bad("length_16_megabytes", frame(DATA, 0, 1, b"", length=(1 << 24) - 1) + b"x" * 20000, SIZE + PROTOCOL),
    # 4.3 header blocks
    bad("priority_inside_headers", HALF + priority_frame(1), PROTOCOL),
    bad("ping_inside_headers", HALF + ping_frame(), PROTOCOL),
    bad("data_inside_headers", HALF + frame(DATA, END_STREAM, 1, b"x"), PROTOCOL),
    bad("headers_inside_headers", HALF + req(3), PROTOCOL),
    bad("unknown_inside_headers", HALF + frame(0xee, 0, 1, b"x"), PROTOCOL),
    bad("continuation_other_stream", HALF + frame(CONT, END_HEADERS, 3, BLOCK[20:]), PROTOCOL),
    ok("continuation", HALF + frame(CONT, END_HEADERS, 1, BLOCK[20:]), stream=("200",)),
    ok("continuation_bytewise", HALF + b"".join(frame(CONT, 0, 1, BLOCK[i:i + 1]) for i in range(20, 25)) + frame(CONT, END_HEADERS, 1, BLOCK[25:]), stream=("200",)),
    ok("continuation_empty", HALF + frame(CONT, 0, 1) * 2 + frame(CONT, END_HEADERS, 1, BLOCK[20:]), stream=("200",)),
    bad("continuation_idle", frame(CONT, END_HEADERS, 1, BLOCK), PROTOCOL),
    bad("continuation_stream_0", frame(CONT, END_HEADERS, 0, BLOCK), PROTOCOL),
    bad("continuation_after_end", req() + frame(CONT, END_HEADERS, 1, BLOCK), PROTOCOL),
    bad("continuation_after_data", post() + frame(DATA, 0, 1, b"x") + frame(CONT, END_HEADERS, 1, BLOCK), PROTOCOL),
    # HPACK
    bad("hpack_index_0", frame(HEADERS, 5, 1, b"\x80"), COMPRESSION),
    bad("hpack_index_beyond", frame(HEADERS, 5, 1, indexed(70)), COMPRESSION),
    bad("hpack_index_far", frame(HEADERS, 5, 1, integer(1 << 30, 7, 128)), COMPRESSION),
    bad("hpack_integer_overflow", frame(HEADERS, 5, 1, b"\xff" * 20 + b"\x7f"), COMPRESSION),
    bad("hpack_name_index_beyond", frame(HEADERS, 5, 1, integer(99, 4) + text_literal("x")), COMPRESSION),
    bad("hpack_truncated", frame(HEADERS, 5, 1, BLOCK[:-3]), COMPRESSION),
    bad("hpack_string_beyond", frame(HEADERS, 5, 1, b"\0\x7f\xff\x7f"), COMPRESSION),
    bad("hpack_size_too_large", frame(HEADERS, 5, 1, table_size(4097) + BLOCK), COMPRESSION),
    bad("hpack_size_behind_field", frame(HEADERS, 5, 1, BLOCK + table_size(0)), COMPRESSION),
    bad("hpack_huffman_padding_long", frame(HEADERS, 5, 1, BLOCK + b"\0" + text_literal("x-a") + b"\x83\x1f\xff\xff"), COMPRESSION),
    bad("hpack_huffman_padding_zeros", frame(HEADERS, 5, 1, BLOCK + b"\0" + text_literal("x-a") + b"\x81\x18"), COMPRESSION),
    bad("hpack_huffman_end", frame(HEADERS, 5, 1, BLOCK + b"\0" + text_literal("x-a") + b"\x84\xff\xff\xff\xff"), COMPRESSION),
    bad("hpack_bad_though_refused", frame(HEADERS, 5, 1, encode([("X-A", "b")]) + b"\x80"), COMPRESSION),
    ok("hpack_sizes", frame(HEADERS, 5, 1, table_size(0) + table_size(4096) + BLOCK), stream=("200",)),
    ok("hpack_huffman", frame(HEADERS, 5, 1, b"".join(literal(n, v, huffman=True) for n, v in request_fields(path="/hello"))), stream=("200",)),
    ok("hpack_indexed", frame(HEADERS, 5, 1, indexed(2) + indexed(7) + literal(":authority", "localhost", index=True) + literal(":path", "/hello", index=True))
       + frame(HEADERS, 5, 3, indexed(2) + indexed(7) + indexed(63) + indexed(62)), stream=("200",), third=("200",)),
    # 5.1 states
    bad("data_idle", frame(DATA, END_STREAM, 1, b"x"), PROTOCOL),
    bad("rst_idle", rst_frame(1), PROTOCOL),
    bad("window_idle", window_frame(1, 100), PROTOCOL),
    ok("priority_idle", priority_frame(1) + req(), stream=("200",)),
    bad("data_half_closed", req(path="/silent") + frame(DATA, END_STREAM, 1, b"x"), CLOSED + ("open",), stream=("reset STREAM_CLOSED",)),
    bad("headers_half_closed", req(path="/silent") + req(), CLOSED + ("open",), stream=("reset STREAM_CLOSED",)),
    bad("data_after_rst", post() + rst_frame(1) + frame(DATA, END_STREAM, 1, b"x"), CLOSED),
    bad("headers_after_rst", post() + rst_frame(1) + req(), CLOSED + PROTOCOL),
    bad("data_after_answer", req(), CLOSED, stream=("200",), then=frame(DATA, END_STREAM, 1, b"x")),
    bad("headers_after_answer", req(), CLOSED + PROTOCOL, stream=("200",), then=req()),
    ok("window_after_answer", req(), stream=("200",), then=window_frame(1, 100)),
    ok("rst_after_answer", req(), stream=("200",), then=rst_frame(1)),
    ok("priority_after_answer", req(), stream=("200",), then=priority_frame(1)),
    bad("stream_even", req(2), PROTOCOL),
    bad("stream_lower", req(5) + req(3), PROTOCOL + CLOSED),
    bad("stream_zero", headers_frame(0, BLOCK), PROTOCOL),
    ok("stream_ids_with_gaps", req(1) + req(101, path="/hello"), stream=("200",)),
    ok("stream_id_last", req(1) + req((1 << 31) - 1), stream=("200",)),
    bad("headers_again_no_end", post() + headers_frame(1, [("x-a", "b")], END_HEADERS), ("open",) + PROTOCOL, stream=("reset PROTOCOL_ERROR",)),
    bad("self_dependency", priority_frame(1, 1), PROTOCOL + ("open",), stream=None),
    # 6 each kind
    bad("data_stream_0", frame(DATA, 0, 0, b"x"), PROTOCOL),
    bad("data_padding_too_long", post() + frame(DATA, END_STREAM | PADDED, 1, b"\x05abcd"), PROTOCOL),
    bad("data_padding_no_length", post() + frame(DATA, END_STREAM | PADDED, 1, b""), SIZE + PROTOCOL),
    ok("data_padded", post() + frame(DATA, END_STREAM | PADDED, 1, b"\x04x\0\0\0\0"), stream=("200",)),
    ok("data_all_padding", post() + frame(DATA, END_STREAM | PADDED, 1, b"\x04\0\0\0\0"), stream=("200",)),
    bad("headers_padding_too_long", frame(HEADERS, END_HEADERS | END_STREAM | PADDED, 1, b"\xff" + BLOCK), PROTOCOL),
    ok("headers_padded_priority", frame(HEADERS, END_HEADERS | END_STREAM | PADDED | PRIO, 1, b"\x03" + b"\0\0\0\0\x0f" + BLOCK + b"\0\0\0"), stream=("200",)),
    bad("priority_stream_0", priority_frame(0), PROTOCOL),
    bad("priority_update_on_stream", HALF + priority_update_frame(1, b"u=0", on=1), PROTOCOL),
    bad("priority_update_of_stream_0", priority_update_frame(0, b"u=0"), PROTOCOL),
    bad("priority_update_short", frame(0x10, 0, 0, b"\0\0\0"), ("goaway FRAME_SIZE_ERROR", "goaway PROTOCOL_ERROR")),
    ok("priority_update_garbage", priority_update_frame(1, b"u=9, ;=u=,,u") + req(), stream=("200",)),
    ok("priority_update_after_answer", req(), stream=("200",), then=priority_update_frame(1, b"u=0")),
    bad("priority_length", post() + frame(PRIORITY, 0, 1, b"\0\0\0\0"), SIZE + ("open",), stream=("reset FRAME_SIZE_ERROR",)),
    bad("rst_stream_0", rst_frame(0), PROTOCOL),
    bad("rst_length", post() + frame(RST, 0, 1, b"\0\0\0"), SIZE),
    ok("rst_unknown_code", post() + rst_frame(1, 0xdead), stream=None),
    bad("settings_on_stream", settings_frame(stream=1), PROTOCOL),
    bad("settings_length", frame(SETTINGS, 0, 0, b"\0\0\0"), SIZE),
    bad("settings_ack_with_payload", settings_frame([(1, 1)], ACK), SIZE),
    bad("settings_ack_unasked", settings_frame(flags=ACK) * 3, PROTOCOL + ("open",)),
    bad("settings_push_2", settings_frame([(ENABLE_PUSH, 2)]), PROTOCOL),
    bad("settings_window_too_large", settings_frame([(INITIAL_WINDOW, 1 << 31)]), FLOW),
    bad("settings_frame_too_small", settings_frame([(MAX_FRAME, 16383)]), PROTOCOL),
    bad("settings_frame_too_large", settings_frame([(MAX_FRAME, 1 << 24)]), PROTOCOL),
    ok("settings_unknown", settings_frame([(0xff, 1), (0, 7)]) + req(), stream=("200",)),
    ok("settings_many_values", settings_frame([(INITIAL_WINDOW, i) for i in (0, 100, 65535)]) + req(), stream=("200",)),
    ok("settings_table_0", settings_frame([(TABLE_SIZE, 0)]) + req(), stream=("200",)),
    ok("settings_table_huge", settings_frame([(TABLE_SIZE, 0xffffffff)]) + req(), stream=("200",)),
    bad("push_promise", frame(PUSH, END_HEADERS, 1, b"\0\0\0\2" + BLOCK), PROTOCOL),
    bad("push_promise_on_open", post() + frame(PUSH, END_HEADERS, 1, b"\0\0\0\2" + BLOCK), PROTOCOL),
    bad("ping_on_stream", ping_frame(stream=1), PROTOCOL),
    bad("ping_length", ping_frame(b"123"), SIZE),
    ok("ping_ack_unasked", ping_frame(flags=ACK)),
    bad("goaway_on_stream", goaway_frame(stream=1), PROTOCOL),
    bad("goaway_length", frame(GOAWAY, 0, 0, b"\0\0\0\0"), SIZE),
    ok("goaway_while_running", req() + goaway_frame(0, 0xdead, b"debug"), stream=("200",), ping=False),
    bad("window_zero_connection", window_frame(0, 0), PROTOCOL),
    bad("window_zero_stream", post() + window_frame(1, 0), ("open",) + PROTOCOL, stream=("reset PROTOCOL_ERROR",)),
    bad("window_overflow_connection", window_frame(0, (1 << 31) - 1), FLOW),
    bad("window_overflow_stream", post() + window_frame(1, (1 << 31) - 1), ("open",), stream=("reset FLOW_CONTROL_ERROR",)),
    bad("window_overflow_by_settings", post() + window_frame(1, (1 << 31) - 1 - 65535) + settings_frame([(INITIAL_WINDOW, 65536)]), FLOW + ("open",),
        stream=("reset FLOW_CONTROL_ERROR",)),
    bad("window_length", frame(WINDOW, 0, 0, b"\0\0\1"), SIZE),
]


@table(FRAMES, Site)
def test_frame(t, site, row):
    """What becomes of the connection, of the stream, and of the next client."""
    stream = getattr(row, "stream", ())
    before = site.backend.count
    with h2(site.gate, preface=getattr(row, "preface", True)) as c:
        for sid in (1, 3, 5, 101, (1 << 31) - 1):
            c.streams[sid] = Stream(sid, 65535)
        c.try_send(row.data)
        if hasattr(row, "then"):
            assert c.outcome(c.streams[1]) in stream
            c.try_send(row.then)
        if getattr(row, "ping", True):
            got = c.verdict()
            assert got in row.want, f"{got}, expected {row.want}; {c.streams[1]}; {c.goaways}"
        else:
            got = "open"
        if got == "open" and stream:
            of_stream = c.outcome(c.streams[1])
            assert of_stream in stream, f"{of_stream}, expected {stream}"
        if hasattr(row, "third"):
            assert c.outcome(c.streams[3]) in row.third
    assert not any("smuggled" in r.target for r in site.backend.requests[before:])
    goes_on(site, row.name)
