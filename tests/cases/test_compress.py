"""Compression of answers: negotiated, exact, streamed, and never whole-looking when the backend dies."""
import zlib

from headgate import *

CODINGS = ["br", "zstd", "gzip"]
PAGE = "".join(f"<li class=\"item\">line {i} of the page, {i * 7919 % 1000}</li>\n" for i in range(1500)).encode()     # 64 KiB or so
SCRIPT = "".join(f"function f{i}(a) {{ return a + {i * 31337 % 99991}; }}\n" for i in range(40000)).encode()           # more than 1 MiB
NOISE = os.urandom(20000)

CONFIG = """channels:
  www:
    host: localhost
    https: both
    services: { app: "%(url)s" }
    routes:
      /: { proxy: app }
      /files/: { files: %(www)s }
      /long: { respond: "%(long)s" }
      /short: { respond: short }
      /kept/: { files: %(www)s, headers: { set: { Cache-Control: "max-age=60, no-transform" } } }
      /gz/: { files: %(www)s, headers: { set: { Content-Encoding: gzip } } }
      /bare/: { files: %(www)s, headers: { remove: [ETag, Vary] } }
  off: { host: off.localhost, https: both, compress: off, services: { app: "%(url)s" }, routes: { /: { proxy: app } } }
  order: { host: order.localhost, https: both, compress: [gzip, br], services: { app: "%(url)s" }, routes: { /: { proxy: app } } }
"""


def decode(coding, data):
    """The bytes behind it; the decoders are strict about the end."""
    if not coding:
        return data
    if coding == "gzip":
        d = zlib.decompressobj(31)
        out = d.decompress(data)
        assert d.eof and not d.unused_data, "gzip without its end, or with bytes behind it"
        return out
    r = subprocess.run([{"br": "brotli", "zstd": "zstd"}[coding], "-d", "-c"], input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
    assert r.returncode == 0, (coding, r.stderr)
    return r.stdout


def looks_whole(coding, data):
    try:
        decode(coding, data)
        return True
    except (AssertionError, zlib.error):
        return False


def behave(peer, req):
    """/NAME?type=…&…: a page in some framing."""
    peer.backend.whole(peer, req)
    name, query = req.path.strip("/"), dict(x.split("=", 1) for x in req.target.partition("?")[2].split("&") if "=" in x)
    kind = query.get("type", "text/html; charset=utf-8")
    extra = [("Content-Type", kind)] + [(k[2:], v.replace("%20", " ")) for k, v in query.items() if k.startswith("h-")]
    size = int(query.get("size", len(PAGE)))
    lines = "".join(f"{n}: {v}\r\n" for n, v in extra)
    if name == "page":
        if req.get("if-none-match") in ('"v1"', 'W/"v1"'):
            peer.send(b"HTTP/1.1 304 Not Modified\r\nETag: \"v1\"\r\n\r\n")
            return None
        status = int(query.get("status", 200))
        if req.method == "HEAD":
            peer.send(f"HTTP/1.1 {status} OK\r\n{lines}Content-Length: {size}\r\n\r\n".encode())
        else:
            peer.reply(status, extra, (PAGE * (1 + size // len(PAGE)))[:size])
    elif name == "chunked":
        peer.send(f"HTTP/1.1 200 OK\r\n{lines}Transfer-Encoding: chunked\r\n\r\n".encode())
        for at in range(0, size, 5000):
            piece = (PAGE * (1 + size // len(PAGE)))[:size][at:at + 5000]
            peer.send(b"%x\r\n" % len(piece) + piece + b"\r\n")
        peer.send(b"0\r\nX-Sum: 1\r\n\r\n" if "trailers" in query else b"0\r\n\r\n")
    elif name == "until-close":
        peer.send(f"HTTP/1.0 200 OK\r\n{lines}\r\n".encode() + PAGE)
        return False
    elif name == "events":
        peer.send(f"HTTP/1.1 200 OK\r\n{lines}Transfer-Encoding: chunked\r\n\r\n".encode())
        for i in range(3):
            peer.backend.gate.wait(60)
            peer.backend.gate.clear()
            data = b"data: event %d\n\n" % i
            peer.send(b"%x\r\n" % len(data) + data + b"\r\n")
        peer.send(b"0\r\n\r\n")
    elif name == "held":
        peer.send(f"HTTP/1.1 200 OK\r\n{lines}Transfer-Encoding: chunked\r\n\r\n".encode() + b"%x\r\n" % len(PAGE) + PAGE + b"\r\n")
        peer.backend.gate.wait(60)
        peer.send(b"0\r\n\r\n")
    elif name == "cut-length":
        peer.send(f"HTTP/1.1 200 OK\r\n{lines}Content-Length: {len(PAGE) + 100}\r\n\r\n".encode() + PAGE)
        return False
    elif name == "cut-chunked":
        peer.send(f"HTTP/1.1 200 OK\r\n{lines}Transfer-Encoding: chunked\r\n\r\n".encode() + b"%x\r\n" % len(PAGE) + PAGE + b"\r\n")
        return False
    else:
        peer.reply(404, [], b"?")
    return None


class Site:
    def __init__(self, t, workers=1):
        self.t = t
        self.backend = t.backend(behave)
        for name, data in (("page.html", PAGE[:60000]), ("app.js", SCRIPT), ("noise.txt", NOISE), ("small.css", b"a{}"), ("pixel.png", NOISE), ("edge.json", b"[" + b"1," * 511 + b"1]")):
            t.write("www/" + name, data)
        self.gate = t.headgate(CONFIG % {"url": self.backend.url, "www": t.path("www"), "long": "words and more words, " * 100}, workers=workers)

    def get(self, path, accept="br, zstd, gzip", headers=(), **kw):
        return self.gate.get(path, headers=[*([("Accept-Encoding", accept)] if accept is not None else []), *headers], **kw)


SOURCES = [Row(f"{name}_{coding}", path=path, body=body, coding=coding, exact=exact) for coding in CODINGS for name, path, body, exact in [
    ("proxied", "/page", PAGE, False), ("chunked", "/chunked", PAGE, False), ("trailers", "/chunked?trailers=1", PAGE, False),
    ("until_close", "/until-close", PAGE, False), ("large", "/chunked?size=3000000", (PAGE * 60)[:3000000], False), ("large_length", "/page?size=3000000", (PAGE * 60)[:3000000], False),
    ("small_file", "/files/page.html", PAGE[:60000], True), ("large_file", "/files/app.js", SCRIPT, False),
    ("edge_file", "/files/edge.json", b"[" + b"1," * 511 + b"1]", True), ("respond", "/long", b"words and more words, " * 100, False)]]


@table(SOURCES, Site)
def test_exact(t, site, row):
    """What comes out is what went in, in each coding, from each kind of source; the head says what it is."""
    for _ in range(2):      # anew, and from what is kept
        a = site.get(row.path, row.coding)
        assert a.status == 200 and a.get("content-encoding") == row.coding and a.get("vary") == "accept-encoding", a
        assert decode(row.coding, a.body) == row.body and a.size < len(row.body), a.size
        assert (a.get("content-length") is not None) == row.exact and not a.get("accept-ranges"), a
        assert a.get("etag") is None or a.get("etag").startswith("W/"), a
    if "trailers" in row.path:
        assert a.trailers == [("x-sum", "1")], a.trailers
    plain = site.get(row.path, None)
    assert plain.body == row.body and not plain.get("content-encoding") and plain.get("vary") == "accept-encoding", plain


def curl_rows():
    return [Row(f"{version[2:].replace('.', '_')}_{name}", version=version, path=path, body=body) for version in ("--http1.1", "--http2") for name, path, body in
            [("proxied", "/page", PAGE), ("chunked", "/chunked?size=2000000", (PAGE * 40)[:2000000]), ("file", "/files/page.html", PAGE[:60000]), ("script", "/files/app.js", SCRIPT)]]


@table(curl_rows(), Site)
def test_curl(t, site, row):
    """curl --compressed over HTTP/1.1 and HTTP/2."""
    out = t.path("got-" + row.name)
    r = site.gate.curl("--compressed", "-D-", "-o", out, site.gate.url(row.path), version=row.version)
    assert r.returncode == 0 and "content-encoding: br" in r.stdout.lower(), r
    with open(out, "rb") as f:
        assert f.read() == row.body


NOT = [
    Row("no_field", path="/page", accept=None, vary=True),
    Row("identity_wins", path="/page", accept="identity, gzip;q=0.5", vary=True),
    Row("none_of_ours", path="/page", accept="deflate, compress", vary=True),
    Row("small", path="/page?size=1000"),
    Row("small_file", path="/files/small.css"),
    Row("short_text", path="/short"),
    Row("image", path="/page?type=image/png"),
    Row("png_file", path="/files/pixel.png"),
    Row("no_type", path="/page?type="),
    Row("encoded_already", path="/page?h-Content-Encoding=compress"),
    Row("no_transform", path="/page?h-Cache-Control=public,no-transform"),
    Row("no_transform_asked", path="/page", headers=[("Cache-Control", "no-transform")]),
    Row("no_transform_set", path="/kept/page.html"),
    Row("encoding_set", path="/gz/page.html"),
    Row("digest", path="/page?h-Repr-Digest=sha-256"),
    Row("noise_file", path="/files/noise.txt", vary=True, noise=True),
    Row("range", path="/files/page.html", headers=[("Range", "bytes=0-2999")], status=206),
    Row("partial_proxied", path="/page?status=206&h-Content-Range=bytes%200-65000/70000", status=206),
    Row("switched_off", path="/page", host="off.localhost"),
]


@table(NOT, Site)
def test_not_compressed(t, site, row):
    """What goes as it is; Vary is there where another client would get it compressed."""
    a = site.get(row.path, getattr(row, "accept", "br, zstd, gzip"), getattr(row, "headers", ()), host=getattr(row, "host", "localhost"))
    assert a.status == getattr(row, "status", 200), a
    assert a.get("content-encoding") not in CODINGS or row.path.startswith("/gz/"), a
    assert bool(a.get("vary")) == getattr(row, "vary", False), a
    assert a.get("content-length") == str(a.size), a
    if row.path.startswith(("/kept/", "/gz/")):
        assert a.body == PAGE[:60000]


@case()
def test_order(t):
    """The configuration's order decides among what the client weighs the same; q-values go first."""
    site = Site(t)
    for accept, coding in (("br, gzip", "gzip"), ("br, gzip;q=0.5", "br"), ("*", "gzip"), ("zstd, br;q=0.1", "br"), ("zstd", None)):
        assert site.get("/page", accept, host="order.localhost").get("content-encoding") == coding, accept


@case()
def test_conditional(t):
    """A compressed answer's ETag is weak, and serves for If-None-Match; ranges are of the bytes as they are."""
    site = Site(t)
    for path in ("/files/page.html", "/files/app.js"):
        weak = site.get(path).get("etag")
        strong = site.get(path, None).get("etag")
        assert weak == "W/" + strong and site.get(path, None).get("accept-ranges") == "bytes", (weak, strong)
        for tag in (weak, strong):
            a = site.get(path, headers=[("If-None-Match", tag)])
            assert a.status == 304 and a.get("etag") == tag and a.get("vary") == "accept-encoding", a
        a = site.get(path, headers=[("Range", "bytes=10-19"), ("If-Range", weak)])
        assert a.status == 200 and a.get("content-encoding") == "br", a
        a = site.get(path, headers=[("Range", "bytes=10-19"), ("If-Range", strong)])
        assert a.status == 206 and a.size == 10 and not a.get("content-encoding"), a
        assert site.get(path, headers=[("If-Match", weak)]).status == 412
    a = site.get("/page?h-ETag=\"v1\"")
    assert a.get("etag") == 'W/"v1"', a
    a = site.get("/page", headers=[("If-None-Match", 'W/"v1"')])
    assert a.status == 304 and a.get("etag") == 'W/"v1"', a
    a = site.get("/page", headers=[("If-None-Match", '"v1"')])
    assert a.status == 304 and a.get("etag") == '"v1"', a


@case()
def test_set_and_remove(t):
    """Fields that the configuration removes stay away, but for Vary: a cache would mix up what is coded and what is not."""
    site = Site(t)
    a = site.get("/bare/page.html")
    assert a.get("content-encoding") == "br" and not a.get("etag") and a.get("vary") == "accept-encoding", a
    assert decode("br", a.body) == PAGE[:60000]


@case()
def test_head(t):
    """HEAD says what GET would; the connection goes on."""
    site = Site(t)
    with site.gate.tls() as c:
        for path in ("/page", "/files/page.html", "/files/app.js"):
            a = c.get(path, headers=[("Accept-Encoding", "br")], method="HEAD")
            assert a.status == 200 and a.get("content-encoding") == "br" and a.get("vary") == "accept-encoding" and not a.get("content-length"), a
        assert c.get("/short").body == b"short"


CUTS = [Row(f"{path.strip('/').replace('-', '_')}_{coding}_{version[2:].replace('.', '_')}", path=path, coding=coding, version=version)
        for path in ("/cut-length", "/cut-chunked") for coding in CODINGS for version in ("--http1.1", "--http2")]


@table(CUTS, Site)
def test_cut(t, site, row):
    """A backend that dies in its answer: the client sees a failure, and what it has does not decode as whole."""
    out = t.path("cut-" + row.name)
    r = site.gate.curl("-H", f"Accept-Encoding: {row.coding}", "-D-", "-o", out, site.gate.url(row.path), version=row.version)
    assert r.returncode in (18, 56, 92), r
    data = b""
    if os.path.exists(out):     # curl makes none without a byte
        with open(out, "rb") as f:
            data = f.read()
    assert not looks_whole(row.coding, data)


@case()
def test_events(t):
    """Each event of a stream can be read as soon as it was sent."""
    site = Site(t)
    with site.gate.tls() as c:
        c.request("GET", "/events?type=text/event-stream", "localhost", [("Accept-Encoding", "gzip")])
        a = c.head()
        assert a.get("content-encoding") == "gzip" and a.get("transfer-encoding") == "chunked", a
        d, text = zlib.decompressobj(31), []
        for i in range(4):      # three events, then the end
            site.backend.gate.set()
            while n := int(c.line(), 16):
                c.exactly(n, lambda piece: text.append(d.decompress(piece)))
                c.line()
                if b"event %d\n\n" % i in b"".join(text):
                    break
        assert n == 0 and d.eof and b"".join(text) == b"".join(b"data: event %d\n\n" % i for i in range(3)), (n, d.eof, text)


@case()
def test_until_close_old_client(t):
    """HTTP/1.0 without chunks: the connection's end is the body's."""
    site = Site(t)
    with site.gate.tls() as c:
        c.send(b"GET /page HTTP/1.0\r\nHost: localhost\r\nAccept-Encoding: gzip\r\n\r\n")
        a = c.answer()
        assert a.get("content-encoding") == "gzip" and decode("gzip", a.body) == PAGE, a


@case()
def test_changed_file(t):
    """A file that changes is compressed anew; one that is deleted is gone."""
    site = Site(t)
    assert decode("br", site.get("/files/page.html").body) == PAGE[:60000]
    t.write("www/page.html", b"<p>new</p>" * 500)
    wait_for("the new file", lambda: decode("br", site.get("/files/page.html").body) == b"<p>new</p>" * 500)
    os.unlink(t.path("www", "page.html"))
    wait_for("its end", lambda: site.get("/files/page.html").status == 404)


def many(t, kind, coded):
    site = Site(t)
    worker = site.gate.workers()[0]
    conns = [site.gate.tls() for _ in range(100)]
    codings = []
    try:
        for c in conns:
            c.request("GET", f"/held?type={kind}", "localhost", [("Accept-Encoding", "br")])
            codings.append(c.head().get("content-encoding"))
        assert codings.count("br") == coded and codings.count(None) == 100 - coded, codings
        assert procs.rss(worker) < allowance(200), procs.rss(worker)
        a = site.get("/page")
        assert (a.get("content-encoding") == "br") == (kind == "text/event-stream") and decode(a.get("content-encoding"), a.body) == PAGE
        site.backend.gate.set()
        for c, coding in zip(conns, codings):
            body = []
            while n := int(c.line(), 16):
                c.exactly(n, body.append)
                c.line()
            assert decode(coding, b"".join(body)) == PAGE
    finally:
        for c in conns:
            c.close()
    assert site.get("/page").get("content-encoding") == "br"


@case(serial=True)
def test_many(t):
    """More compressed answers at a time than there are encoders: the rest goes as it is, all exact, and memory stays bounded."""
    many(t, "text/html", 64)


@case(serial=True)
def test_many_event_streams(t):
    """Event streams, which last, leave half of the encoders to the others."""
    many(t, "text/event-stream", 32)


@case()
def test_client_leaves(t):
    """Clients that leave in the middle leave nothing behind: encoders are free again."""
    site = Site(t)
    for _ in range(3):
        conns = [site.gate.tls() for _ in range(30)]
        for c in conns:
            c.request("GET", "/chunked?size=3000000", "localhost", [("Accept-Encoding", "zstd")])
            c.head()
        for c in conns:
            c.reset()
    wait_for("an encoder", lambda: site.get("/page").get("content-encoding") == "br")


@case()
def test_reload(t):
    """`compress` changes with a reload."""
    site = Site(t)
    assert site.get("/page").get("content-encoding") == "br"
    site.gate.reload_ok(f"sites:\n  s: {{ host: localhost, compress: [gzip], services: {{ app: \"{site.backend.url}\" }}, routes: {{ /: {{ proxy: app }} }} }}\n")
    wait_for("gzip", lambda: site.get("/page").get("content-encoding") == "gzip")
