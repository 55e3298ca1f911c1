"""Fields that the configuration sets and removes: on every kind of answer, on the way to the backend; robots, HSTS."""
from headgate import *

CONFIG = """tls: { hsts: 30d }
channel_defaults:
  headers: { set: { X-Frame-Options: DENY, X-Both: site }, remove: [X-Secret, Server] }
channels:
  www:
    host: www.localhost
    https: both
    aliases: [also.localhost]
    redirect_from: [old.localhost]
    headers: { to_backend: { set: { X-Channel: $channel, X-Forwarded-Host: "set.example", User-Agent: gate }, remove: [X-Drop, X-Real-IP, Cookie] } }
    services:
      app: { url: "%(url)s" }
      down: { url: "http://127.0.0.1:%(down)d", wait_ready: 0 }
    routes:
      /: { proxy: app }
      /own/: { proxy: app, headers: { set: { X-Both: route, x-own: "a, b" }, remove: [X-Frame-Options], to_backend: { set: { X-Drop: mine }, remove: [X-Channel] } } }
      /down/: { proxy: down }
      /files/: { files: %(www)s }
      /away: { redirect: "https://example.org/" }
      /hello: { respond: hello, robots: noindex, limits: { body: 10B } }
      /open: { respond: open, robots: index }
  closed: { host: closed.localhost, https: redirect, robots: noindex, tls: { hsts: { subdomains: on } }, routes: { /: { respond: x }, /open: { respond: y, robots: index }, /f/: { files: %(www)s }, /tag: { respond: z, headers: { set: { X-Robots-Tag: "nofollow" } } } } }
  never: { host: never.localhost, https: both, robots: auto, tls: { hsts: off }, routes: { /: { respond: x } } }
sites:
  bare: { host: bare.localhost, https: both, tls: { hsts: { max_age: 365d, subdomains: on, preload: on } }, routes: { /: { respond: x } } }
"""


def behave(peer, req):
    """Echoes, with fields that the gate removes or replaces."""
    peer.backend.whole(peer, req)
    body = json.dumps(req.dump()).encode()
    if "not-modified" in req.path:
        peer.send(b"HTTP/1.1 304 Not Modified\r\nX-Secret: 1\r\nX-Both: backend\r\n\r\n")
    else:
        peer.reply(200, [("X-Secret", "1"), ("X-Both", "backend"), ("x-both", "again"), ("Server", "app/1"), ("X-Frame-Options", "SAMEORIGIN"),
                         ("X-Robots-Tag", "all"), ("X-Keep", "kept")], body)


class Site:
    def __init__(self, t):
        self.backend = t.backend(behave)
        t.write("www/a.txt", "a file\n")
        os.makedirs(t.path("www/sub"))
        self.gate = t.headgate(CONFIG % {"url": self.backend.url, "down": t.port(), "www": t.path("www")})


EVERYWHERE = [
    Row("proxied", path="/x", status=200),
    Row("head", path="/x", method="HEAD", status=200),
    Row("not_modified", path="/not-modified", status=304),
    Row("file", path="/files/a.txt", status=200),
    Row("file_304", path="/files/a.txt", headers=[("If-None-Match", "*")], status=304),
    Row("file_206", path="/files/a.txt", headers=[("Range", "bytes=0-1")], status=206),
    Row("file_416", path="/files/a.txt", headers=[("Range", "bytes=900-")], status=416),
    Row("file_404", path="/files/none", status=404),
    Row("file_405", path="/files/a.txt", method="DELETE", status=405),
    Row("add_slash", path="/files", status=308),
    Row("redirect", path="/away", status=308),
    Row("redirect_host", path="/x", host="old.localhost", status=308),
    Row("respond", path="/hello", status=200),
    Row("too_large", path="/hello", method="POST", body=b"x" * 11, status=413),
    Row("backend_down", path="/down/", status=(502, 503)),
    Row("options_star", path="*", method="OPTIONS", status=204),
]


@table(EVERYWHERE, Site)
def test_everywhere(t, site, row):
    """Set fields are on every answer once, removed ones on none, over HTTP/1.1 and HTTP/2."""
    host = getattr(row, "host", "www.localhost")
    a = site.gate.get(row.path, host, method=getattr(row, "method", "GET"), headers=getattr(row, "headers", ()), body=getattr(row, "body", None))
    assert a.status == row.status or a.status in (row.status if isinstance(row.status, tuple) else ()), a
    assert a.all("x-frame-options") == ["DENY"] and a.all("x-both") == ["site"], a
    assert not a.all("x-secret") and not a.all("server"), a
    assert a.all("strict-transport-security") == ["max-age=2592000"], a
    if row.path == "/x" and host == "www.localhost":
        assert a.all("x-keep") == ["kept"], a


@case()
def test_h2(t):
    """The same over HTTP/2, and not over plain HTTP where HSTS must not be."""
    site = Site(t)
    r = site.gate.curl("-D-", "-o", "/dev/null", "--resolve", f"www.localhost:{site.gate.https}:127.0.0.1", site.gate.url("/x", "www.localhost"), version="--http2")
    lines = r.stdout.lower().splitlines()
    assert lines[0].startswith("http/2 200") and "x-both: site" in lines and lines.count("x-frame-options: deny") == 1, r
    assert "strict-transport-security: max-age=2592000" in lines and not any(x.startswith(("x-secret", "server")) for x in lines), r
    a = site.gate.get("/x", "www.localhost", secure=False)
    assert a.status == 200 and a.all("x-both") == ["site"] and not a.all("strict-transport-security"), a


@case()
def test_route_over_site(t):
    """A route's fields go over its site's, name by name, whatever the case."""
    site = Site(t)
    a = site.gate.get("/own/x", "www.localhost")
    assert a.all("x-both") == ["route"] and a.all("x-own") == ["a, b"] and not a.all("x-frame-options") and not a.all("x-secret"), a


@case()
def test_to_backend(t):
    """to_backend: set replaces what the client sent and what the gate adds, remove takes it out, also when Connection names it."""
    site = Site(t)
    sent = [("X-Channel", "evil"), ("x-channel", "evil2"), ("X-Drop", "1"), ("Cookie", "a=b"), ("X-Keep", "2"), ("Connection", "keep-alive, x-channel")]
    site.gate.get("/x", "www.localhost", headers=sent)
    req = site.backend.requests[-1]
    assert req.all("x-channel") == ["www"] and req.all("x-forwarded-host") == ["set.example"] and req.all("user-agent") == ["gate"], req.headers
    assert not req.all("x-drop") and not req.all("cookie") and not req.all("x-real-ip") and req.all("x-keep") == ["2"], req.headers
    assert req.all("x-forwarded-for") == ["127.0.0.1"] and len(req.all("host")) == 1, req.headers
    site.gate.get("/own/x", "www.localhost", headers=sent)
    req = site.backend.requests[-1]
    assert req.all("x-drop") == ["mine"] and not req.all("x-channel"), req.headers


ROBOTS = [Row("noindex", host="closed.localhost", path="/", want=["noindex"]), Row("route_index", host="closed.localhost", path="/open", want=[]),
          Row("route_noindex", host="www.localhost", path="/hello", want=["noindex"]), Row("auto_without_releases", host="never.localhost", path="/", want=[]),
          Row("set_over_robots", host="closed.localhost", path="/tag", want=["nofollow"]), Row("error_page", host="closed.localhost", path="/f/none", want=["noindex"]),
          Row("index_keeps_the_backends", host="www.localhost", path="/x", want=["all"])]


@table(ROBOTS, Site)
def test_robots(t, site, row):
    """robots: noindex is X-Robots-Tag on every answer; auto is index where there are no releases, whatever the channel's name."""
    a = site.gate.get(row.path, row.host)
    assert a.all("x-robots-tag") == row.want, a


HSTS = [Row("site_over_global", host="closed.localhost", want=["max-age=2592000; includeSubDomains"]), Row("off", host="never.localhost", want=[]),
        Row("preload", host="bare.localhost", want=["max-age=31536000; includeSubDomains; preload"])]


@table(HSTS, Site)
def test_hsts(t, site, row):
    """tls.hsts of a channel goes over the global one, key by key; never over plain HTTP."""
    a = site.gate.get("/", row.host)
    assert a.all("strict-transport-security") == row.want, a
    a = site.gate.get("/", row.host, secure=False)
    assert not a.all("strict-transport-security"), a


@case()
def test_reload(t):
    """A reload changes fields for the next request of a kept connection."""
    site = "sites:\n  s: {{ host: localhost, headers: {{ set: {{ X-A: {} }} }}, tls: {{ hsts: {} }}, routes: {{ /: {{ respond: x }} }} }}\n"
    gate = t.headgate(site.format("one", "1d"))
    with gate.tls() as c:
        a = c.get("/")
        assert a.get("x-a") == "one" and a.get("strict-transport-security") == "max-age=86400", a
        gate.reload_ok(site.format("two", "off"))
        wait_for("the new field", lambda: c.get("/").get("x-a") == "two")
        assert not c.get("/").all("strict-transport-security")


@case()
def test_placeholders(t):
    """Values are placeholders' too; a value of two lines is refused in words and changes nothing."""
    secret = t.write("token", "s3cret\n")
    gate = t.headgate(f"sites:\n  s: {{ host: localhost, headers: {{ set: {{ X-Host: \"$host-$channel\", X-Token: \"$file:{secret}\" }} }}, routes: {{ /: {{ respond: x }} }} }}\n")
    a = gate.get("/")
    assert a.get("x-host") == "localhost-s" and a.get("x-token") == "s3cret", a
    t.write("token", "one\nx-evil: two\n")
    r = gate.reload()
    assert r.returncode == 1 and "E071" in r.stdout + r.stderr and "one line" in r.stdout + r.stderr and "evil" not in r.stdout + r.stderr, r
    assert gate.get("/").get("x-token") == "s3cret"
