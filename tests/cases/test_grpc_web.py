"""gRPC-Web through the gate, byte by byte: both forms, both HTTP versions, every end; and CORS for pages of other origins."""
import base64

import h2wire
from h2backend import H2Backend
from h2wire import CANCEL, INTERNAL_ERROR, h2
from headgate import *
from test_grpc import DO, GRPC, OK, by_path, grpc_site, message

WEB, TEXT = "application/grpc-web+proto", "application/grpc-web-text+proto"
CORS = "https://app.example.org"


class Site:
    def __init__(self, t, grpc="{ service: app, cors: [https://app.example.org] }", top=None, routes="/: { respond: web }"):
        self.backend = H2Backend(by_path)
        t.defer(self.backend.close)
        self.gate = t.headgate(grpc_site(f'url: "{self.backend.url}"', grpc, routes=routes), workers=1, top=top)

    def call(self, path, type=WEB, body=message(b"q"), headers=(), version=2):
        headers = [("content-type", type), ("x-grpc-web", "1"), *headers]
        if version == 2:
            with h2(self.gate) as c:
                return c.answer(c.request("POST", path, headers=headers, body=body))
        with self.gate.tls() as c:
            return c.get(path, method="POST", headers=headers, body=body)


def pieces(text):
    """Base64 that may be padded after any four characters."""
    assert len(text) % 4 == 0, text
    return b"".join(base64.b64decode(text[i:i + 4], validate=True) for i in range(0, len(text), 4))


def frames(body):
    out = []
    while body:
        n = int.from_bytes(body[1:5], "big")
        assert len(body) >= 5 + n, "a frame is cut"
        out.append((body[0], body[5:5 + n]))
        body = body[5 + n:]
    return out


def parts(body):
    """(messages, trailers): exactly one frame of trailers, the last one."""
    all_ = frames(bytes(body))
    assert [f for f, _ in all_].count(0x80) == 1 and all_[-1][0] == 0x80, all_
    lines = all_[-1][1].decode().split("\r\n")
    assert lines[-1] == "", lines
    trailers = [tuple(line.split(": ", 1)) for line in lines[:-1]]
    assert all(n == n.lower() for n, _ in trailers), trailers
    return [m for _, m in all_[:-1]], dict(trailers)


ENDS = [
    Row("ok", path="/ok", got=[b"yes"], status="0"),
    Row("trailers_only", path="/trailers_only", got=[], status="5", message="none%20there"),
    Row("trailers_only_without_status", path="/trailers_only_no_status", got=[], status="2"),
    Row("no_trailers", path="/no_trailers", got=[b"yes"], status="2"),
    Row("html_404", path="/html/404", got=[], status="12"),
    Row("html_503", path="/html/503", got=[], status="14"),
    Row("html_200", path="/html/200", got=[], status="2"),
    Row("reset", path=f"/rst/{INTERNAL_ERROR}", got=[], status="13"),
    Row("reset_between_messages", path=f"/rst_between/{INTERNAL_ERROR}", got=[b"one"], status="13"),
    Row("hang_up", path="/hang_up", got=[], status="14"),
    Row("hang_up_between_messages", path="/hang_up_between", got=[b"one"], status="14"),
    Row("deadline", path="/hold", headers=[("grpc-timeout", "200m")], got=[], status="4"),
    Row("deadline_between_messages", path="/hold_between", headers=[("grpc-timeout", "300m")], got=[b"one"], status="4"),
    Row("bad_flags_of_the_client", path="/ok", body=message(b"q", 0x80), got=[], status="13"),
    Row("request_cut", path="/ok", body=message(b"12345")[:7], got=[], status="3"),
]


def every_form(rows):
    return [Row(f"{r.name}/{form}_h{v}", row=r, type=WEB if form == "binary" else TEXT, version=v)
            for r in rows for form in ("binary", "text") for v in (1, 2)]


@table(every_form(ENDS), setup=Site)
def test_ends(t, s, row):
    """Whatever happens between two messages: HTTP 200, the request's type, and one frame of trailers with the status in it alone."""
    r, text = row.row, row.type == TEXT
    body = r.__dict__.get("body", message(b"q"))
    a = s.call(r.path, row.type, base64.b64encode(body) if text else body, r.__dict__.get("headers", ()), row.version)
    assert a.status == 200 and a.get("content-type") == row.type, (a.status, a.get("content-type"))
    assert a.get("grpc-status") is None and a.get("grpc-message") is None, a
    got, trailers = parts(pieces(bytes(a.body)) if text else a.body)
    assert got == r.got and trailers["grpc-status"] == r.status, (got, trailers)
    if hasattr(r, "message"):
        assert trailers["grpc-message"] == r.message, trailers
    if row.version == 2:
        assert not a.trailers, a.trailers


@table([Row(f"{n}_{f}", path=p, type=ty) for n, p in (("reset", f"/rst_inside/{INTERNAL_ERROR}"), ("end", "/end_inside"), ("flags", "/bad_flags"))
        for f, ty in (("binary", WEB), ("text", TEXT))], setup=Site)
def test_cut_inside_a_message(t, s, row):
    """A frame of trailers there would be read as the message's rest: the transport is aborted."""
    with h2(s.gate) as c:
        body = message(b"q") if row.type == WEB else base64.b64encode(message(b"q"))
        stream = c.request("POST", row.path, headers=[("content-type", row.type)], body=body)
        assert c.outcome(stream) == "reset INTERNAL_ERROR"
    if row.type == TEXT:
        out = s.gate.curl("-o", "/dev/null", "-H", f"content-type: {row.type}", "--data-binary", body.decode(), s.gate.url(row.path))
        assert out.returncode in (18, 56), (out.returncode, out.stderr)


EARLY = [
    Row("head_too_large_h2", path="/known.X/Y", headers=[("x-a", "y" * 40000)], version=2, status="8"),
    Row("uri_too_long_h2", path="/" + "x" * 17000, version=2, status="2"),
    Row("no_route_h2", path="/other.X/Y", version=2, status="12"),
    Row("no_route_h1", path="/other.X/Y", version=1, status="12"),
]


@table([Row(f"{r.name}_{form}", row=r, type=type) for r in EARLY for form, type in (("binary", WEB), ("text", TEXT))],
       setup=lambda t: Site(t, "{ packages: { known: app }, cors: [https://app.example.org] }", routes="/page: { respond: web }"))
def test_early_ends(t, s, row):
    """What fails with its head, or has no route, is answered as a call too; with CORS once the site is known."""
    r, text = row.row, row.type == TEXT
    a = s.call(r.path, row.type, base64.b64encode(message(b"q")) if text else message(b"q"), [*r.__dict__.get("headers", ()), ("origin", CORS)], r.version)
    assert a.status == 200 and a.get("content-type") == row.type, (a.status, a)
    got, trailers = parts(pieces(bytes(a.body)) if text else a.body)
    assert got == [] and trailers["grpc-status"] == r.status, trailers
    assert (a.get("access-control-allow-origin") == CORS) == (r.status == "12"), a
    assert not s.backend.requests


def seen(s):
    return s.backend.requests[-1]


@case()
def test_request_head(t):
    """The backend sees plain gRPC: type, te, the library's user agent; metadata as it came, nothing of gRPC-Web or of the browser."""
    s = Site(t)
    a = s.call("/ok", WEB, headers=[("x-user-agent", "grpc-web-javascript/0.1"), ("user-agent", "Mozilla/5.0"), ("accept-encoding", "br"),
                                    ("x-meta", "1"), ("x-raw-bin", "AAH/"), ("grpc-accept-encoding", "identity"), ("accept", "*/*")])
    assert parts(a.body)[0] == [b"yes"]
    r = seen(s)
    assert r.get("content-type") == "application/grpc+proto" and r.get("te") == "trailers", r.fields
    assert r.get("user-agent") == "grpc-web-javascript/0.1" and r.get("x-meta") == "1" and r.get("x-raw-bin") == "AAH/", r.fields
    assert r.get("grpc-accept-encoding") == "identity", r.fields
    names = [n for n, _ in r.fields]
    assert not {"x-grpc-web", "x-user-agent", "accept", "accept-encoding"} & set(names), names
    assert bytes(r.body) == message(b"q")


@table([Row("request_type", type=TEXT, accept=None, want=TEXT), Row("accept_text", type=WEB, accept="application/grpc-web-text", want=TEXT),
        Row("accept_binary", type=TEXT, accept="text/html, application/grpc-web+proto;q=1", want=WEB), Row("accept_any", type=WEB, accept="*/*", want=WEB),
        Row("no_suffix", type="application/grpc-web", accept=None, want="application/grpc-web"),
        Row("json", type="application/grpc-web+json", accept=None, want="application/grpc-web+json"),
        Row("upper_case", type="Application/GRPC-Web-Text; charset=utf-8", accept=None, want="application/grpc-web-text")], setup=Site)
def test_answer_type(t, s, row):
    """A gRPC-Web Accept decides the answer's form, else the request's type; the request's suffix is kept."""
    text = "text" in row.type.lower()
    a = s.call("/ok", row.type, base64.b64encode(message(b"q")) if text else message(b"q"), [("accept", row.accept)] if row.accept else ())
    assert a.get("content-type") == row.want, a
    got, trailers = parts(pieces(bytes(a.body)) if "text" in row.want else a.body)
    assert got == [b"yes"] and trailers == {"grpc-status": "0"}


MANY = message(b"") + message(b"a") + message(b"bc") + message(b"def") + message(bytes(range(256)) * 40)
CUTS = [Row(f"every_{n}", n=n) for n in (1, 2, 3, 4, 5, 7, 1000)]


@table(CUTS, setup=lambda t: Site(t, grpc="{ service: app, max_message: 0 }"))
def test_text_padded_and_split_anywhere(t, s, row):
    """Base64 padded after each n bytes and sent in pieces of n characters arrives as the bytes it means."""
    text = b"".join(base64.b64encode(MANY[i:i + row.n]) for i in range(0, len(MANY), row.n))
    with h2(s.gate) as c:
        stream = c.request("POST", "/ok", headers=[("content-type", TEXT)], end=False)
        c.send_body(stream, [text[i:i + max(row.n, 50)] for i in range(0, len(text), max(row.n, 50))])
        got, trailers = parts(pieces(bytes(c.answer(stream).body)))
    assert got == [b"yes"] and trailers["grpc-status"] == "0"
    assert bytes(seen(s).body) == MANY


@table([Row("no_alphabet", body=b"AA*A"), Row("lone_padding", body=b"===="), Row("after_padding", body=b"AA=A"), Row("cut", body=b"AAAAA"),
        Row("binary", body=message(b"q"))], setup=Site)
def test_bad_base64(t, s, row):
    a = s.call("/hold", TEXT, row.body)
    got, trailers = parts(pieces(bytes(a.body)))
    assert got == [] and trailers["grpc-status"] == "3" and "base64" in trailers["grpc-message"], trailers
    assert all(r.wait_reset() == CANCEL for r in s.backend.requests)


@table([Row("binary", type=WEB), Row("text", type=TEXT)], setup=Site)
def test_messages_pass_as_they_come(t, s, row):
    """Each message can be read before the next one is sent; in text it is padded, so that nothing of it waits."""
    said = threading.Event()

    def one_by_one(r):
        r.head(200, GRPC)
        for i in range(30):
            r.data(message(b"x" * i))
            assert said.wait(60)
            said.clear()
        r.end(OK + [("x-end", "1")])
    s.backend.behave = one_by_one
    with h2(s.gate) as c:
        stream = c.request("POST", "/any", headers=[("content-type", row.type)],
                           body=message(b"q") if row.type == WEB else base64.b64encode(message(b"q")))
        for i in range(30):
            def have():
                body = bytes(stream.body)
                if row.type == TEXT:
                    body = pieces(body[:len(body) // 4 * 4])
                return len(frames(body)) == i + 1 if body else False
            c.until(have)
            said.set()
        body = bytes(c.answer(stream).body)
        got, trailers = parts(pieces(body) if row.type == TEXT else body)
    assert [len(m) for m in got] == list(range(30)) and trailers == {"grpc-status": "0", "x-end": "1"}


@case()
def test_trailing_metadata_of_trailers_only(t):
    """What a call that ends with its head says goes into the frame of trailers, and nowhere else; -bin stays base64."""
    s = Site(t)
    s.backend.behave = lambda r: r.head(200, GRPC + [("grpc-status", "3"), ("grpc-status-details-bin", "CAM="), ("x-why", "so"), ("date", "now")], end=True)
    a = s.call("/any")
    got, trailers = parts(a.body)
    assert trailers == {"grpc-status": "3", "grpc-status-details-bin": "CAM=", "x-why": "so"}, trailers
    assert a.get("x-why") is None and a.get("grpc-status-details-bin") is None


@case()
def test_backends_own_cors_and_length(t):
    """The backend's Content-Length and its own word on origins do not reach the client."""
    s = Site(t)
    s.backend.behave = lambda r: (r.head(200, GRPC + [("content-length", str(len(message(b"yes")))), ("access-control-allow-origin", "*"),
                                                      ("access-control-expose-headers", "x"), ("x-begin", "1")]), r.data(message(b"yes")), r.end(OK))
    a = s.call("/any")
    assert a.get("content-length") is None and a.get("access-control-allow-origin") is None and a.get("x-begin") == "1", a
    a = s.call("/any", headers=[("origin", CORS)])
    assert a.all("access-control-allow-origin") == [CORS], a


# --- CORS

def preflight(s, path="/pkg.Service/Method", origin=CORS, method="POST", names="content-type,x-grpc-web,x-user-agent,grpc-timeout,x-my-meta"):
    with s.gate.tls() as c:
        return c.get(path, method="OPTIONS", headers=[("Origin", origin), ("Access-Control-Request-Method", method),
                                                      ("Access-Control-Request-Headers", names)])


@case()
def test_preflight(t):
    """Answered by the gate for a method's path: the origin, POST, every header that was asked for, for two hours."""
    s = Site(t)
    a = preflight(s)
    assert a.status == 204 and a.get("access-control-allow-origin") == CORS and a.get("access-control-allow-methods") == "POST", a
    assert a.get("access-control-allow-headers") == "content-type,x-grpc-web,x-user-agent,grpc-timeout,x-my-meta", a
    assert a.get("access-control-max-age") == "7200" and a.get("access-control-allow-credentials") == "true" and "origin" in a.get("vary"), a
    assert not s.backend.requests


@table([Row("other_origin", kw=dict(origin="https://evil.example"), status=403), Row("other_scheme", kw=dict(origin="http://app.example.org"), status=403),
        Row("no_method_path", kw=dict(path="/page"), status=200), Row("deep_path", kw=dict(path="/a/b/c"), status=200),
        Row("another_method", kw=dict(method="PUT"), status=200), Row("other_headers", kw=dict(names="x-a"), status=200)], setup=Site)
def test_no_preflight(t, s, row):
    """Who is not listed is refused; what is no preflight of a call goes the way of its path."""
    a = preflight(s, **row.kw)
    assert a.status == row.status and a.get("access-control-allow-origin") is None, (a.status, a)


@case()
def test_exposed_headers(t):
    """A page of a listed origin may read the status fields and all metadata; another one gets no leave."""
    s = Site(t)
    s.backend.behave = lambda r: (r.head(200, GRPC + [("x-begin", "1"), ("x-raw-bin", "AA==")]), r.data(message(b"yes")), r.end(OK))
    a = s.call("/any", headers=[("origin", CORS)])
    names = [n.strip() for n in a.get("access-control-expose-headers").split(",")]
    assert {"grpc-status", "grpc-message", "grpc-status-details-bin", "x-begin", "x-raw-bin"} <= set(names), names
    assert a.get("access-control-allow-origin") == CORS and "origin" in a.get("vary"), a
    assert s.call("/any", headers=[("origin", "https://evil.example")]).get("access-control-allow-origin") is None


@case()
def test_any_origin_without_credentials(t):
    s = Site(t, grpc='{ service: app, cors: "*" }')
    a = preflight(s, origin="https://anyone.example")
    assert a.get("access-control-allow-origin") == "*" and a.get("access-control-allow-credentials") is None, a


@case()
def test_web_off(t):
    """With web: off the paths' routes decide, as for any other media type."""
    s = Site(t, grpc="{ service: app, web: off }")
    assert s.call("/x").body == b"web"


@case()
def test_access_log(t):
    s = Site(t)
    s.call("/ok")
    s.gate.wait_log('"path":"/ok"', '"kind":"grpc-web"', '"grpc_status":"OK"', '"messages_in":1,"messages_out":1')


@case()
def test_no_instance(t):
    """Nobody serves: UNAVAILABLE in a frame of trailers, with CORS, so that the page can read it."""
    gate = t.headgate(grpc_site('run: ["/bin/sleep", "1000"], listen: "127.0.0.1:%d", wait_ready: 100ms' % t.port(),
                                "{ service: app, cors: [https://app.example.org] }"), workers=1)
    with h2(gate) as c:
        a = c.answer(c.request("POST", "/a.B/C", headers=[("content-type", WEB), ("origin", CORS)], body=message(b"q")))
    assert parts(a.body)[1]["grpc-status"] == "14" and a.get("access-control-allow-origin") == CORS, a
