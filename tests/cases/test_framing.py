"""Raw requests and what becomes of them: strict framing (RFC 9112), limits, keep-alive. Each row is a case."""
from headgate import *

G = b"GET /good HTTP/1.1\r\nHost: localhost\r\n"
P = b"POST /post HTTP/1.1\r\nHost: localhost\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"


def refused(name, raw, status=400, **kw):
    """The status, nothing whole at the backend, the connection closed."""
    return Row(name, raw=raw, status=status, end="close", reach=0, **kw)


def served(name, raw, end="keep", status=200, **kw):
    return Row(name, raw=raw, status=status, end=end, reach=1, **kw)


def chunks(name, body, status=400, **kw):
    return refused("chunked_" + name, P + b"Transfer-Encoding: chunked\r\n\r\n" + body + SMUGGLED, status, **kw)


BAD_LENGTHS = {"plus": b"+5", "minus": b"-5", "hex": b"0x5", "letters": b"five", "empty": b"", "space_inside": b"5 5", "float": b"5.0",
               "trailing": b"5x", "overflow": b"18446744073709551621", "huge": b"99999999999999999999999999",
               "list_same": b"5, 5", "list_differs": b"5, 6", "list_empty": b"5,", "nbsp": b"\xa05", "vt": b"5\x0b"}
BAD_CODINGS = {"gzip": b"gzip", "gzip_chunked": b"gzip, chunked", "chunked_gzip": b"chunked, gzip", "twice": b"chunked, chunked",
               "identity": b"identity", "xchunked": b"xchunked", "chunkedx": b"chunkedx", "empty": b"", "quoted": b'"chunked"',
               "comma": b"chunked,", "leading_comma": b",chunked", "param": b"chunked;q=1", "vt": b"\x0bchunked", "nul": b"chunked\x00"}
BAD_TARGETS = {"empty": b"", "relative": b"good", "fragment_only": b"#x", "control": b"/a\x01b", "tab": b"/a\tb", "del": b"/a\x7fb",
               "star_get": b"*", "authority": b"localhost:80", "absolute_no_host": b"http:///x", "userinfo": b"http://u:p@localhost/x",
               "space": b"/a b", "high_byte_host": b"http://loc\xffalhost/"}
BAD_LINES = {"lf_in_line": (b"GET /good\nHTTP/1.1\r\nHost: localhost\r\n\r\n", (400,)),
             "two_spaces": (b"GET  /good HTTP/1.1\r\nHost: localhost\r\n\r\n", (400,)),
             "tab_separators": (b"GET\t/good\tHTTP/1.1\r\nHost: localhost\r\n\r\n", (400,)),
             "leading_space": (b" GET /good HTTP/1.1\r\nHost: localhost\r\n\r\n", (400,)),
             "space_at_end": (b"GET /good HTTP/1.1 \r\nHost: localhost\r\n\r\n", (400,)),
             "http09": (b"GET /good\r\n\r\n", (400, 505)),
             "lower_case_version": (b"GET /good http/1.1\r\nHost: localhost\r\n\r\n", (400, 505)),
             "version_two_digits": (b"GET /good HTTP/1.10\r\nHost: localhost\r\n\r\n", (400, 505)),
             "version_word": (b"GET /good HTTP/x.y\r\nHost: localhost\r\n\r\n", (400, 505)),
             "http2": (b"GET /good HTTP/2.0\r\nHost: localhost\r\n\r\n", (505,)),
             "http3": (b"GET /good HTTP/3.0\r\nHost: localhost\r\n\r\n", (505,)),
             "http2_preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (400, 505)),
             "bad_method": (b"GE(T /good HTTP/1.1\r\nHost: localhost\r\n\r\n", (400, 501)),
             "method_nul": (b"GE\x00T /good HTTP/1.1\r\nHost: localhost\r\n\r\n", (400,)),
             "tls_hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(200)) + b"\r\n\r\n", (400,)),
             "binary": (bytes(range(256)) * 4 + b"\r\n\r\n", (400, 501))}
BAD_FIELDS = {"bare_cr": b"X-A: b\rc\r\n", "bare_cr_end": b"X-A: b\r\r\n", "bare_lf": b"X-A: b\nX-B: c\r\n", "nul": b"X-A: b\x00c\r\n",
              "control": b"X-A: b\x01c\r\n", "escape": b"X-A: \x1b[1m\r\n", "del": b"X-A: b\x7f\r\n", "fold": b"X-A: b\r\n c\r\n",
              "fold_tab": b"X-A: b\r\n\tc\r\n", "space_before_colon": b"X-A : b\r\n", "tab_before_colon": b"X-A\t: b\r\n",
              "no_colon": b"X-A\r\n", "empty_name": b": b\r\n", "space_in_name": b"X A: b\r\n", "name_nul": b"X\x00A: b\r\n",
              "name_high": b"X\xe9: b\r\n", "name_paren": b"X(A): b\r\n", "length_space": b"Content-Length : 5\r\n",
              "coding_space": b"Transfer-Encoding : chunked\r\n", "coding_folded": b"Transfer-Encoding:\r\n chunked\r\n",
              "crcrlf_end": b"\r\r\n"}
BAD_HOSTS = {"missing": b"", "twice": b"Host: localhost\r\nHost: localhost\r\n", "twice_differs": b"Host: localhost\r\nHost: evil\r\n",
             "list": b"Host: localhost, evil\r\n", "space": b"Host: local host\r\n", "slash": b"Host: localhost/x\r\n",
             "at": b"Host: u@localhost\r\n", "bad_port": b"Host: localhost:port\r\n", "port_too_big": b"Host: localhost:99999\r\n",
             "empty": b"Host:\r\n", "control": b"Host: local\x01host\r\n", "percent_nul": b"Host: localhost%00\r\n"}

ROWS = []
for key, value in BAD_LENGTHS.items():
    ROWS.append(refused("length_" + key, P + b"Content-Length: " + value + b"\r\n\r\nhello" + SMUGGLED))
for key, value in BAD_CODINGS.items():
    ROWS.append(refused("coding_" + key, P + b"Transfer-Encoding: " + value + b"\r\n\r\n5\r\nhello\r\n0\r\n\r\n" + SMUGGLED, (400, 501)))
for key, value in BAD_TARGETS.items():
    ROWS.append(refused("target_" + key, b"GET " + value + b" HTTP/1.1\r\nHost: localhost\r\n\r\n" + SMUGGLED))
for key, (value, status) in BAD_LINES.items():
    ROWS.append(refused("line_" + key, value, status))
for key, value in BAD_FIELDS.items():
    ROWS.append(refused("field_" + key, G + value + b"\r\n" + SMUGGLED))
for key, value in BAD_HOSTS.items():
    ROWS.append(refused("host_" + key, b"GET /good HTTP/1.1\r\n" + value + b"\r\n"))

ROWS += [
    # both lengths, and variants that hide one of them
    refused("cl_and_te", P + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED),
    refused("te_and_cl", P + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + SMUGGLED),
    refused("cl_twice_same", P + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello" + SMUGGLED),
    refused("cl_twice_differs", P + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello" + SMUGGLED),
    refused("te_twice", P + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED, (400, 501)),
    refused("te_twice_identity", P + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + SMUGGLED, (400, 501)),
    refused("te_in_1_0", b"POST /post HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED),
    refused("te_underscore_and_cl", P + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\nTransfer_Encoding: x\r\n\r\n0\r\n\r\n"),
    refused("get_cl_and_te", G + b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED),
    refused("lf_only", b"GET /good HTTP/1.1\nHost: localhost\n\n"),
    refused("lf_end", b"GET /good HTTP/1.1\r\nHost: localhost\r\n\n" + SMUGGLED),
    refused("cr_only", b"GET /good HTTP/1.1\rHost: localhost\r\r", more=b"\r\n\r\n"),
    refused("fold_first_field", b"GET /good HTTP/1.1\r\n Host: localhost\r\n\r\n"),
    refused("connect", b"CONNECT localhost:443 HTTP/1.1\r\nHost: localhost:443\r\n\r\n", (501, 405, 400)),
    refused("connect_path", b"CONNECT /x HTTP/1.1\r\nHost: localhost\r\n\r\n", (501, 405, 400)),
    refused("expect_unknown", P + b"Expect: teapot\r\nContent-Length: 5\r\n\r\nhello", 417),
    refused("uri_long", b"GET /" + b"a" * 20000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414),
    refused("uri_very_long", b"GET /" + b"a" * 200000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", (414, 431)),
    refused("fields_many", G + b"".join(b"X-%d: y\r\n" % i for i in range(200)) + b"\r\n", 431),
    refused("field_long", G + b"X-A: " + b"a" * 40000 + b"\r\n\r\n", 431),
    refused("field_very_long", G + b"X-A: " + b"a" * 400000 + b"\r\n\r\n", 431),
    # chunk lines
    chunks("not_hex", b"g\r\nhello\r\n0\r\n\r\n"),
    chunks("minus", b"-5\r\nhello\r\n0\r\n\r\n"),
    chunks("plus", b"+5\r\nhello\r\n0\r\n\r\n"),
    chunks("0x", b"0x5\r\nhello\r\n0\r\n\r\n"),
    chunks("empty_size", b"\r\nhello\r\n0\r\n\r\n"),
    chunks("leading_space", b" 5\r\nhello\r\n0\r\n\r\n"),
    chunks("lf_line", b"5\nhello\r\n0\r\n\r\n"),
    chunks("lf_after_data", b"5\r\nhello\n0\r\n\r\n"),
    chunks("no_crlf_after_data", b"5\r\nhello0\r\n\r\n"),
    chunks("data_too_long", b"5\r\nhelloX\r\n0\r\n\r\n"),
    chunks("cr_in_line", b"5\rX\r\nhello\r\n0\r\n\r\n"),
    chunks("overflow", b"10000000000000005\r\nhello\r\n0\r\n\r\n"),
    chunks("overflow_64", b"ffffffffffffffff5\r\nhello\r\n0\r\n\r\n"),
    chunks("extension_alone", b";a=b\r\nhello\r\n0\r\n\r\n"),
    chunks("extension_lf", b"5;a\nb\r\nhello\r\n0\r\n\r\n"),
    chunks("extension_cr", b"5;a\rb\r\nhello\r\n0\r\n\r\n"),
    chunks("extension_nul", b"5;a=\x00\r\nhello\r\n0\r\n\r\n"),
    chunks("extension_endless", b"5;" + b"a" * 70000 + b"\r\nhello\r\n0\r\n\r\n", (400, 413, 431)),
    chunks("zeros_endless", b"0" * 70000 + b"5\r\nhello\r\n0\r\n\r\n", (400, 413, 431)),
    chunks("last_lf", b"0\n\r\n"),
    chunks("trailer_lf", b"0\r\nX-A: b\n\r\n"),
    chunks("trailer_fold", b"0\r\nX-A: b\r\n c\r\n\r\n"),
    chunks("trailer_space_colon", b"0\r\nX-A : b\r\n\r\n"),
    chunks("trailer_nul", b"0\r\nX-A: \x00\r\n\r\n"),
    chunks("trailer_huge", b"0\r\nX-A: " + b"a" * 100000 + b"\r\n\r\n", (400, 413, 431)),
    # what must work
    served("get", G + b"\r\n"),
    served("get_close", G + b"Connection: close\r\n\r\n", "close"),
    served("get_close_in_list", G + b"Connection: x, Close\r\n\r\n", "close"),
    served("get_1_0", b"GET /good HTTP/1.0\r\nHost: localhost\r\n\r\n", "close"),
    served("get_1_0_keep_alive", b"GET /good HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n"),
    served("absolute_form", b"GET http://localhost/good HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    served("absolute_form_wins", b"GET http://localhost/good HTTP/1.1\r\nHost: elsewhere.example\r\n\r\n", None, (200, 400), reach_any=True),
    served("absolute_form_empty_path", b"GET http://localhost HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    served("options_star", b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n", None, (200, 204, 400, 404, 405, 501), reach_any=True),
    served("leading_crlf", b"\r\n" + G + b"\r\n", None, (200, 400), reach_any=True),
    served("host_with_port", b"GET /good HTTP/1.1\r\nHost: localhost:8080\r\n\r\n"),
    served("host_upper", b"GET /good HTTP/1.1\r\nHost: LOCALHOST\r\n\r\n"),
    served("host_dot", b"GET /good HTTP/1.1\r\nHost: localhost.\r\n\r\n", None, (200, 400, 404, 421), reach_any=True),
    served("field_empty_value", G + b"X-A:\r\nX-B: \t \r\n\r\n"),
    served("field_tab_inside", G + b"X-A: b\tc\r\n\r\n"),
    served("field_no_space", G + b"X-A:b\r\n\r\n"),
    served("field_obs_text", G + b"X-A: caf\xc3\xa9\r\n\r\n"),
    served("upgrade_ignored", G + b"Connection: upgrade\r\nUpgrade: h2c\r\n\r\n"),
    served("post_length", P + b"Content-Length: 5\r\n\r\nhello", body=b"hello"),
    served("post_length_zero", P + b"Content-Length: 0\r\n\r\n", body=b""),
    served("post_length_leading_zero", P + b"Content-Length: 005\r\n\r\nhello", None, (200, 400), reach_any=True),
    served("post_nothing", P + b"\r\n", body=b""),
    served("post_chunked", P + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", body=b"hello world"),
    served("post_chunked_case", P + b"transfer-ENCODING: CHUNKED\r\n\r\n5\r\nhello\r\n0\r\n\r\n", body=b"hello"),
    served("post_chunked_hex_case", P + b"Transfer-Encoding: chunked\r\n\r\nA\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", body=b"0123456789" * 2),
    served("post_chunked_extension", P + b"Transfer-Encoding: chunked\r\n\r\n5;a=b;c=\"d;e\"\r\nhello\r\n0;x\r\n\r\n", body=b"hello"),
    served("post_chunked_zeros", P + b"Transfer-Encoding: chunked\r\n\r\n0005\r\nhello\r\n000\r\n\r\n", body=b"hello"),
    served("post_chunked_trailers", P + b"Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 42\r\nContent-Length: 3\r\n\r\n",
           body=b"hello", trailers_not=("content-length",)),
    served("get_with_body", G + b"Content-Length: 5\r\n\r\nhello", body=b"hello"),
    served("method_unknown", b"BREW /good HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    served("method_lower_case", b"get /good HTTP/1.1\r\nHost: localhost\r\n\r\n", None, (200, 400, 501), reach_any=True),
    served("http_1_2", b"GET /good HTTP/1.2\r\nHost: localhost\r\n\r\n", None, (200, 400, 505), reach_any=True),
    served("head", b"HEAD /good HTTP/1.1\r\nHost: localhost\r\n\r\n", method="HEAD"),
    served("fields_90", G + b"".join(b"X-%d: y\r\n" % i for i in range(90)) + b"\r\n"),
    served("field_20k", G + b"X-A: " + b"a" * 20000 + b"\r\n\r\n"),
    served("uri_10k", b"GET /" + b"a" * 10000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    served("http_1_0_no_host", b"GET /good HTTP/1.0\r\n\r\n", None, (200, 400, 404, 421), reach_any=True),
    served("cookies_twice", G + b"Cookie: a=1\r\nCookie: b=2\r\n\r\n"),
]


class Site:
    def __init__(self, t):
        self.backend = t.backend()
        self.gate = t.headgate(proxy_site(self.backend.url))


@table(ROWS, Site)
def test_raw(t, site, row):
    """The status, the end of the connection, what the backend saw, and that the next client is served."""
    before = site.backend.count
    with site.gate.plain() as c:
        c.try_send(row.raw)
        if getattr(row, "more", None):
            c.try_send(row.more)
        a = c.answer(getattr(row, "method", "GET"))
        allowed = row.status if isinstance(row.status, tuple) else (row.status,)
        assert a.status in allowed, f"{a.status}, expected {allowed}: {a}"
        if row.end == "close":
            assert c.at_end(), f"the connection goes on after {a}: {c.buf!r}"
            assert row.reach or "keep-alive" not in (a.get("connection") or "").lower(), a
        elif row.end == "keep":
            assert c.get("/again").status == 200, "the connection was not kept"
    assert not site.backend.errors, site.backend.errors
    new = site.backend.requests[before:]
    assert not any("smuggled" in r.target for r in new), "a smuggled request reached the backend"
    if not getattr(row, "reach_any", False):
        assert len([r for r in new if r.target != "/again"]) == row.reach, [r.dump() for r in new]
    if row.reach and getattr(row, "body", None) is not None:
        assert new[0].body == row.body, new[0].body
        for name in getattr(row, "trailers_not", ()):
            assert name not in [n.lower() for n, _ in new[0].trailers], new[0].trailers
    good = site.gate.get("/after/" + row.name, secure=False)
    assert good.status == 200 and json.loads(good.body)["target"] == "/after/" + row.name, good


@case()
def test_byte_by_byte(t):
    """A head and a chunked body that come one byte at a time are understood alike."""
    site = Site(t)
    with site.gate.plain() as c:
        for b in P + b"Transfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nX-T: 1\r\n\r\n":
            c.send(bytes([b]))
        assert json.loads(c.answer().body)["body"] == "hello"
        assert c.get("/again").status == 200


@case(both=True)
def test_pipelining_ten(t):
    """Ten requests in one write are answered in their order, over TLS and plain."""
    site = Site(t)
    raw = b"".join(b"GET /p%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % i for i in range(10))
    for c in (site.gate.plain(), site.gate.tls()):
        with c:
            c.send(raw)
            got = [json.loads(c.answer().body)["target"] for _ in range(10)]
            assert got == [f"/p{i}" for i in range(10)], got


@case()
def test_pipelining_post_then_get(t):
    """A body with its length, a chunked one and a GET in one write: each sees only its own bytes."""
    site = Site(t)
    with site.gate.plain() as c:
        c.send(P + b"Content-Length: 5\r\n\r\nGET /" + P + b"Transfer-Encoding: chunked\r\n\r\n3\r\nGET\r\n0\r\n\r\n" + G + b"\r\n")
        assert [json.loads(c.answer().body)["body"] for _ in range(3)] == ["GET /", "GET", ""]
    assert site.backend.count == 3


@case()
def test_pipelining_bad_second(t):
    """A good request, then a bad one: the first is answered, the second refused, the rest never read."""
    site = Site(t)
    with site.gate.plain() as c:
        c.send(G + b"\r\n" + P + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED)
        assert c.answer().status == 200
        assert c.answer().status == 400
        assert c.at_end()
    assert site.backend.targets() == ["/good"]


@case()
def test_keep_alive_many(t):
    """A hundred requests on one connection; the backend connection is kept too."""
    site = Site(t)
    with site.gate.tls() as c:
        for i in range(100):
            assert json.loads(c.get(f"/{i}").body)["target"] == f"/{i}"
    assert site.backend.connections == 1, site.backend.connections


@case()
def test_expect_continue(t):
    """100-continue: the client hears 100, sends, and is answered; the body arrives once."""
    site = Site(t)
    with site.gate.plain() as c:
        c.send(P + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        assert c.answer(interim=True).status == 100
        c.send(b"hello")
        assert json.loads(c.answer().body)["body"] == "hello"
        c.send(P + b"Expect: 100-Continue\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert c.answer(interim=True).status == 100
        c.send(b"5\r\nhello\r\n0\r\n\r\n")
        assert json.loads(c.answer().body)["body"] == "hello"


@case()
def test_expect_continue_not_waited_for(t):
    """A client that sends the body at once is served too, with or without a 100."""
    site = Site(t)
    with site.gate.plain() as c:
        c.send(P + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\nhello")
        assert json.loads(c.answer().body)["body"] == "hello"
        assert c.get("/again").status == 200


@case()
def test_expect_continue_1_0(t):
    """An HTTP/1.0 client never gets a 100 (RFC 9110 10.1.1)."""
    site = Site(t)
    with site.gate.plain() as c:
        c.send(b"POST /x HTTP/1.0\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello")
        assert c.answer(interim=True).status == 200


@case()
def test_expect_continue_refused(t):
    """Where headgate itself refuses, the final status comes instead of 100, and no body is waited for."""
    b = t.backend()
    gate = t.headgate(proxy_site(b.url, routes="/app/: { proxy: app }"))
    with gate.plain() as c:
        c.send(b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        assert c.answer(interim=True).status == 404
    assert b.begun == 0


@case()
def test_head_answers_have_no_body(t):
    """HEAD through the proxy, of chunked and of counted answers: no body byte, and the connection goes on."""
    def behave(peer, req):
        peer.backend.whole(peer, req)
        if req.method == "HEAD" and req.path == "/chunked":
            peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        elif req.method == "HEAD":
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n")
        else:
            peer.reply(200, [], b"body")
    gate = t.headgate(proxy_site(t.backend(behave).url))
    with gate.plain() as c:
        assert c.get("/counted", method="HEAD").get("content-length") == "1234"
        assert c.get("/chunked", method="HEAD").status == 200
        assert c.get("/x").body == b"body"


@case()
def test_answers_without_body(t):
    """204 and 304 pass without a body and without framing that a client could misread."""
    site = Site(t)
    with site.gate.plain() as c:
        for code in (204, 304):
            a = c.get(f"/status/{code}")
            assert a.status == code and a.get("x-code") == str(code), a
            assert not a.get("transfer-encoding"), a
        assert c.get("/x").status == 200


@case()
def test_http_1_0_client_gets_no_chunks(t):
    """A chunked answer reaches an HTTP/1.0 client as a body that lasts until the end."""
    site = Site(t)
    with site.gate.plain() as c:
        c.send(b"GET /chunked/50000 HTTP/1.0\r\nHost: localhost\r\n\r\n")
        a = c.answer()
        assert not a.get("transfer-encoding") and len(a.body) == 50000, a.headers
        assert c.at_end()


@case()
def test_half_request_then_close(t):
    """Clients that go away in a head or a body leave nothing whole at the backend."""
    site = Site(t)
    for raw in (b"GET /x HT", G, P + b"Content-Length: 10\r\n\r\nhello", P + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhel"):
        with site.gate.plain() as c:
            c.send(raw)
        with site.gate.tls() as c:
            c.send(raw)
    assert site.gate.get("/after").status == 200
    assert site.backend.targets() == ["/after"]


@case()
def test_half_close_client(t):
    """A client that ends its sending side after a whole request is answered whole or, as one that left, not at all."""
    site = Site(t)
    with site.gate.plain() as c:
        c.send(G + b"\r\n")
        c.sock.shutdown(socket.SHUT_WR)
        assert c.at_end() or c.answer().status == 200
    assert site.gate.get("/after").status == 200


@case()
def test_slow_head_is_cut(t):
    """timeouts.header: a head that never ends is answered 408 or cut, and costs nobody else anything."""
    b = t.backend()
    gate = t.headgate(proxy_site(b.url), top={"timeouts": "{ header: 1s, idle: 1s }"})
    with gate.plain() as c:
        c.send(G)
        assert gate.get("/meanwhile").status == 200
        if c.fill():
            assert c.answer().status == 408
        assert c.at_end()
    with gate.plain() as c:
        assert c.get("/x").status == 200
        assert c.at_end(), "an idle connection outlives timeouts.idle"
