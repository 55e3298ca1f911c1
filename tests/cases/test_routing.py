"""Which site and which handler answers: hosts, redirects, prefixes, files, respond, error pages."""
from headgate import *


def words(t):
    """One site with a respond route a prefix."""
    return """sites:
  main:
    host: main.localhost
    aliases: [also.localhost]
    redirect_from: [old.localhost]
    https: both
    routes:
      /:         { respond: root }
      /docs/:    { respond: docs }
      /docs/a/:  { respond: docs-a }
      /docs/a:   { respond: exact-a }
      /healthz:  { respond: "ok", status: 200 }
      /teapot:   { respond: "short and stout", status: 418 }
      /old/:     { redirect: /new/, status: 308 }
      /away:     { redirect: "https://example.org/there", status: 302 }
  other: { host: other.localhost, routes: { /app/: { respond: other } } }
"""


class Words:
    def __init__(self, t):
        self.gate = t.headgate(words(t))


PREFIXES = [Row(f"prefix_{i}", target=target, body=body) for i, (target, body) in enumerate([
    ("/", b"root"), ("/docs/", b"docs"), ("/docs/x", b"docs"), ("/docs/a", b"exact-a"), ("/docs/a/", b"docs-a"),
    ("/docs/a/b/c", b"docs-a"), ("/docs/ab", b"docs"), ("/docsx", b"root"), ("/healthz", b"ok"), ("/healthz/", b"root"),
    ("/healthz?x=1", b"ok"), ("/docs/?q=/healthz", b"docs"), ("/DOCS/", b"root")])]


@table(PREFIXES, Words)
def test_longest_prefix(t, w, row):
    """The longest prefix wins, whatever the order; a path without the last slash is exact."""
    a = w.gate.get(row.target, "main.localhost")
    assert a.status == 200 and a.body == row.body, (row.target, a)


ENCODED = [Row(f"dots_{i}", target=x) for i, x in enumerate(
    ["/docs/../healthz", "/docs/%2e%2e/healthz", "/docs/..%2fhealthz", "/./healthz", "//healthz", "/docs/a/../../healthz", "/%68ealthz"])]


@table(ENCODED, Words)
def test_normal_form(t, w, row):
    """Routes are chosen on the normal form: no spelling of a path reaches a route other than its meaning's, or it is refused."""
    a = w.gate.get(row.target, "main.localhost")
    meaning = {"/docs/..%2fhealthz": (b"docs", b"ok"), "//healthz": (b"root", b"ok")}.get(row.target, (b"ok",))
    assert a.status in (400, 404) or a.body in meaning, (row.target, a)


@case()
def test_prefix_without_its_slash(t):
    """A prefix asked for without its last slash is redirected to it, query kept, where no exact route claims it."""
    gate = Words(t).gate
    a = gate.get("/docs?x=1", "main.localhost")
    assert a.status == 308 and a.get("location").endswith("/docs/?x=1"), a


@case()
def test_hosts(t):
    """Host and alias are served, another site has its own routes, an unknown host is refused."""
    gate = Words(t).gate
    for host in ("main.localhost", "also.localhost", "MAIN.localhost", f"main.localhost:{gate.http}"):
        a = gate.get("/", host, secure=False)
        assert a.status == 200 and a.body == b"root", (host, a)
    assert gate.get("/", "other.localhost").status == 404
    assert gate.get("/app/x", "other.localhost").body == b"other"
    assert gate.get("/", "unknown.localhost", secure=False).status in (404, 421, 400)


@case()
def test_star_host(t):
    """"*" takes what no other site claims; a wildcard host takes its subdomains."""
    gate = t.headgate("""sites:
  any: { host: "*", https: both, tls: { issuer: local }, routes: { /: { respond: any } } }
  sub: { host: "*.sub.localhost", https: both, tls: { issuer: local }, routes: { /: { respond: sub } } }
  one: { host: one.sub.localhost, https: both, routes: { /: { respond: one } } }
""")
    for host, body in (("x.example", b"any"), ("x.sub.localhost", b"sub"), ("one.sub.localhost", b"one"), ("127.0.0.1", b"any")):
        assert gate.get("/", host, secure=False).body == body, host


@case()
def test_redirect_to_https(t):
    """http is answered with 308 to https at the public port, path and query kept, with the site's own name."""
    gate = t.unstarted(words(t).replace("https: both", "https: redirect"))
    gate.configure(words(t).replace("https: both", "https: redirect"))
    gate.start()
    for method in ("GET", "POST"):
        a = gate.get("/x/y?a=b&c=%20", "main.localhost", secure=False, method=method, body=b"" if method == "POST" else None)
        assert a.status == 308, a
        assert a.get("location") == f"https://main.localhost:{gate.https}/x/y?a=b&c=%20" or \
            a.get("location") == "https://main.localhost/x/y?a=b&c=%20", a


@case()
def test_redirect_public_port(t):
    """listen.public says which ports stand in redirects; 443 is left out."""
    gate = t.unstarted("sites:\n  s: { host: main.localhost, routes: { /: { respond: x } } }\n")
    for public, want in (("{ http: 80, https: 443 }", ""), ("{ http: 8080, https: 8443 }", ":8443")):
        gate.configure("sites:\n  s: { host: main.localhost, routes: { /: { respond: x } } }\n",
                       {"listen": gate.listen()[:-2] + f", public: {public} }}"})
        gate.start()
        a = gate.get("/p?q", "main.localhost", secure=False)
        assert a.status == 308 and a.get("location") == f"https://main.localhost{want}/p?q", a
        assert gate.stop() == 0


@case()
def test_https_only(t):
    """https: only answers nothing useful over http, and does not redirect."""
    gate = t.headgate("sites:\n  s: { host: main.localhost, https: only, routes: { /: { respond: secret } } }\n")
    a = gate.get("/", "main.localhost", secure=False)
    assert a.status >= 400 and b"secret" not in a.body, a
    assert gate.get("/", "main.localhost").body == b"secret"


@case()
def test_redirect_from(t):
    """redirect_from hosts answer 308 to the host, path and query kept, over http and https."""
    gate = Words(t).gate
    for secure in (True, False):
        a = gate.get("/deep/path?x=1", "old.localhost", secure=secure)
        assert a.status == 308 and "//main.localhost" in a.get("location") and a.get("location").endswith("/deep/path?x=1"), a


@case()
def test_redirect_route(t):
    """A redirect route sends the given status; between prefixes the rest of the path is kept."""
    gate = Words(t).gate
    a = gate.get("/old/x/y?q=1", "main.localhost")
    assert a.status == 308 and a.get("location").endswith("/new/x/y?q=1"), a
    a = gate.get("/away", "main.localhost")
    assert a.status == 302 and a.get("location").startswith("https://example.org/there"), a


@case()
def test_redirect_is_not_open(t):
    """No target makes a redirect leave the host: no scheme-relative location, no line break."""
    gate = Words(t).gate
    for target in ("/old//evil.example/", "/old/%0d%0aX-Evil:%201", "//evil.example/%2f..", "/old/\\evil.example"):
        for secure in (True, False):
            a = gate.get(target, "old.localhost" if target.startswith("//") else "main.localhost", secure=secure)
            where = a.get("location") or ""
            assert not where.startswith("//") and "//evil" not in where.split("?")[0][:8], (target, a)
            assert a.get("x-evil") is None, a


@case()
def test_respond(t):
    """respond gives status and body; HEAD the same without the body; a body sent along is taken."""
    gate = Words(t).gate
    with gate.tls("main.localhost") as c:
        a = c.get("/teapot", "main.localhost")
        assert a.status == 418 and a.body == b"short and stout", a
        a = c.get("/teapot", "main.localhost", method="HEAD")
        assert a.status == 418 and a.body == b"" and a.get("content-length") == "15", a
        assert c.get("/healthz", "main.localhost", method="POST", body=b"x" * 100000).body == b"ok"
        assert c.get("/healthz", "main.localhost").body == b"ok"


# --- error pages

@case()
def test_error_page_html(t):
    """A browser gets a small HTML page with the status, the request id, and nothing that came from the request."""
    gate = t.headgate(proxy_site("http://127.0.0.1:1", routes="/app/: { proxy: app }"))
    a = gate.get("/<script>alert(1)</script>", headers=[("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")])
    assert a.status == 404 and a.get("content-type").startswith("text/html"), a
    assert b"404" in a.body and b"<script>alert" not in a.body, a.body
    assert len(a.body) < 8192, len(a.body)


@case()
def test_error_page_json(t):
    """Accept: application/json gets JSON with status and request id."""
    gate = t.headgate(proxy_site("http://127.0.0.1:1", routes="/app/: { proxy: app }"))
    a = gate.get("/x", headers=[("Accept", "application/json")])
    assert a.status == 404 and a.get("content-type").startswith("application/json"), a
    doc = json.loads(a.body)
    assert "404" in json.dumps(doc), doc
    b = json.loads(gate.get("/x", headers=[("Accept", "application/json")]).body)
    ids = [{k: v for k, v in d.items() if "id" in k.lower() or "request" in k.lower()} for d in (doc, b)]
    assert ids[0] and ids[0] != ids[1], f"no request id of its own: {doc} {b}"


# --- files

class Files:
    def __init__(self, t):
        t.write("www/index.html", "<h1>index</h1>")
        t.write("www/hello.txt", "hello, world")
        t.write("www/style.css", "body {}")
        t.write("www/app.js", "1")
        t.write("www/data.json", "{}")
        t.write("www/pic.svg", "<svg/>")
        t.write("www/a.wasm", b"\0asm")
        t.write("www/odd.unknownext", "?")
        t.write("www/noext", "?")
        t.write("www/empty.txt", "")
        t.write("www/sub/index.html", "<h1>sub</h1>")
        t.write("www/sub/deep/x.txt", "deep")
        t.write("www/sp ace.txt", "space")
        t.write("www/\u00fc.txt", "umlaut")
        t.write("www/.secret", "secret")
        t.write("www/.git/config", "secret")
        t.write("www/.well-known/security.txt", "contact")
        t.write("www/private.txt", "secret", 0o600)
        t.write("outside.txt", "secret")
        self.big = os.urandom(3 << 20)
        t.write("www/big.bin", self.big)
        os.makedirs(t.path("www/noindex"))
        os.symlink(t.path("outside.txt"), t.path("www/out"))
        os.symlink("../outside.txt", t.path("www/up"))
        os.symlink("/etc", t.path("www/etc"))
        os.symlink("hello.txt", t.path("www/inside"))
        os.symlink("loop", t.path("www/loop"))
        os.mkfifo(t.path("www/fifo"))
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(t.path("www/sock"))
        t.defer(sock.close)
        self.gate = t.headgate(f"sites:\n  f:\n    host: localhost\n    https: both\n    routes:\n"
                               f"      /: {{ files: {t.path('www')} }}\n      /dl/: {{ files: {t.path('www')}, index: hello.txt }}\n")


SERVED = [Row(n, target=x, body=b, kind=k) for n, x, b, k in [
    ("index", "/", b"<h1>index</h1>", "text/html"), ("text", "/hello.txt", b"hello, world", "text/plain"),
    ("css", "/style.css", b"body {}", "text/css"), ("js", "/app.js", b"1", "javascript"), ("json", "/data.json", b"{}", "application/json"),
    ("svg", "/pic.svg", b"<svg/>", "image/svg+xml"), ("wasm", "/a.wasm", b"\0asm", "application/wasm"), ("empty", "/empty.txt", b"", "text/plain"),
    ("sub_index", "/sub/", b"<h1>sub</h1>", "text/html"), ("deep", "/sub/deep/x.txt", b"deep", "text/plain"),
    ("space", "/sp%20ace.txt", b"space", "text/plain"), ("utf8", "/%C3%BC.txt", b"umlaut", "text/plain"),
    ("query", "/hello.txt?x=1", b"hello, world", "text/plain"), ("encoded", "/%68ello.txt", b"hello, world", "text/plain"),
    ("symlink_inside", "/inside", b"hello, world", None), ("well_known", "/.well-known/security.txt", b"contact", "text/plain"),
    ("other_index", "/dl/", b"hello, world", "text/plain"), ("under_prefix", "/dl/sub/deep/x.txt", b"deep", "text/plain"),
    ("unknown_extension", "/odd.unknownext", b"?", None), ("no_extension", "/noext", b"?", None)]]


@table(SERVED, Files)
def test_files(t, f, row):
    """Regular files below the root, with type, length and validators."""
    a = f.gate.get(row.target)
    assert a.status == 200 and a.body == row.body, a
    assert row.kind is None or row.kind in a.get("content-type"), a.headers
    h = f.gate.get(row.target, method="HEAD")
    assert h.status == 200 and h.body == b"" and h.get("content-length") == str(len(row.body)), h


REFUSED = [Row(f"no_{i}", target=x) for i, x in enumerate([
    "/nothing", "/hello.txt/", "/hello.txt/x", "/sub/nothing", "/noindex/", "/.secret", "/.git/config", "/sub/../.secret", "/%2esecret", "/%2Egit/config",
    "/out", "/up", "/etc/passwd", "/loop", "/fifo", "/sock", "/private.txt", "/../outside.txt", "/%2e%2e/outside.txt", "/..%2foutside.txt", "/sub/../../outside.txt",
    "/sub/%2e%2e/%2e%2e/outside.txt", "/%2e%2e%2foutside.txt", "/..%5coutside.txt", "/..\\outside.txt", "/hello.txt%00", "/hello.txt%00.html", "/%00",
    "/%c0%ae%c0%ae/outside.txt", "/%252e%252e/outside.txt", "//etc/passwd", "/etc%2fpasswd", "/hello%2", "/hello%zz.txt", "/" + "a" * 300, "/" + "a/" * 3000,
    "/dl/../../outside.txt", "/dl%2f..%2f..%2foutside.txt", "/sub%2fdeep%2f..%2f..%2f..%2foutside.txt"])]


@table(REFUSED, Files)
def test_files_refused(t, f, row):
    """Nothing outside the root, no dot file, nothing but regular files; the answer is 4xx at once and tells no path."""
    if row.target == "/private.txt" and not (os.geteuid() == 0 and t.user is None):
        return      # the server's own user may read it
    with f.gate.plain() as c:
        c.send(b"GET " + row.target.encode("latin-1") + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
        a = c.answer()
    assert 400 <= a.status < 500, a
    assert b"secret" not in a.body and b"root:" not in a.body and t.dir.encode() not in a.body, a.body


@case()
def test_files_directory_redirect(t):
    """A folder without its slash is redirected to it, query kept, and never to another host."""
    gate = Files(t).gate
    a = gate.get("/sub?x=1")
    assert a.status in (301, 302, 307, 308), a
    where = a.get("location")
    assert where.endswith("/sub/?x=1") and not where.startswith("//"), where


@case()
def test_files_conditional(t):
    """ETag and Last-Modified give 304 without a body; other values the file."""
    gate = Files(t).gate
    with gate.tls() as c:
        a = c.get("/hello.txt")
        etag, modified = a.get("etag"), a.get("last-modified")
        assert etag and modified, a.headers
        for headers, status in (([("If-None-Match", etag)], 304), ([("If-None-Match", f'"x", {etag}')], 304), ([("If-None-Match", "*")], 304),
                                ([("If-None-Match", '"x"')], 200), ([("If-Modified-Since", modified)], 304),
                                ([("If-Modified-Since", "Thu, 01 Jan 1970 00:00:00 GMT")], 200), ([("If-Modified-Since", "nonsense")], 200),
                                ([("If-None-Match", '"x"'), ("If-Modified-Since", modified)], 200)):
            a = c.get("/hello.txt", headers=headers)
            assert a.status == status, (headers, a)
            assert a.body == (b"hello, world" if status == 200 else b""), a


@case()
def test_files_ranges(t):
    """Ranges are served exactly, or the whole file is: never something in between."""
    f = Files(t)
    with f.gate.tls() as c:
        for spec, want in (("bytes=0-0", f.big[:1]), ("bytes=100-199", f.big[100:200]), ("bytes=-10", f.big[-10:]), ("bytes=3000000-", f.big[3000000:]),
                           ("bytes=0-99999999", f.big)):
            a = c.get("/big.bin", headers=[("Range", spec)])
            if a.status == 206:
                assert a.body == want, (spec, len(a.body))
                assert a.get("content-range").endswith(f"/{len(f.big)}"), a.headers
            else:
                assert a.status == 200 and a.body == f.big, (spec, a.status)
        for spec in ("bytes=99999999-", "bytes=-0"):
            a = c.get("/big.bin", headers=[("Range", spec)])
            assert a.status in (416, 200), (spec, a.status)
        for spec in ("bytes=5-1", "lines=1-2", "bytes=a-b", "bytes=", "bytes=18446744073709551616-18446744073709551617"):
            a = c.get("/big.bin", headers=[("Range", spec)])
            assert a.status in (200, 416, 400), (spec, a.status)


@case()
def test_files_methods(t):
    """Only GET and HEAD (and OPTIONS) mean something to files: others get 405 with Allow."""
    gate = Files(t).gate
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        a = gate.get("/hello.txt", method=method, body=b"x")
        assert a.status == 405 and "GET" in (a.get("allow") or ""), (method, a)


@case()
def test_files_big(t):
    """A file of 3 MiB comes whole over TLS and plain, also while it is replaced."""
    f = Files(t)
    for secure in (True, False):
        assert f.gate.get("/big.bin", secure=secure).body == f.big
    with f.gate.tls() as c:
        c.request("GET", "/big.bin", "localhost")
        head = c.head()
        t.write("www/new.bin", b"x" * 100)
        os.rename(t.path("www/new.bin"), t.path("www/big.bin"))
        got = []
        c.exactly(int(head.get("content-length")), got.append)
        assert b"".join(got) == f.big
    wait_for("the new file", lambda: f.gate.get("/big.bin").body == b"x" * 100)


@case()
def test_files_shrinking(t):
    """A file that is cut while it is sent: the transfer is cut, never filled up or ended cleanly."""
    f = Files(t)
    t.write("www/shrink.bin", os.urandom(50 << 20))
    with f.gate.tls(rcvbuf=65536) as c:
        c.request("GET", "/shrink.bin", "localhost")
        assert c.head().status == 200
        os.truncate(t.path("www/shrink.bin"), 0)
        try:
            c.exactly(50 << 20, lambda piece: None)
            raise AssertionError("a file that was cut came whole")
        except Exception as e:
            assert type(e).__name__ == "Truncated", repr(e)
    assert f.gate.get("/hello.txt").status == 200


@case(both=True)
def test_files_as_user(t):
    """Files are served by workers of the configured user, in a sandbox."""
    f = Files(t)
    assert f.gate.get("/hello.txt").body == b"hello, world"
    if os.geteuid() == 0:
        assert all(procs.uid(w) == NOBODY for w in f.gate.workers()), [procs.uid(w) for w in f.gate.workers()]
    for w in f.gate.workers():
        assert procs.status_field(w, "Seccomp") == "2", "no seccomp filter on a worker"
        assert procs.status_field(w, "NoNewPrivs") == "1"
