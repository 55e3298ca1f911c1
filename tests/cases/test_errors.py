"""Error pages of the configuration: by status, then by class; for headgate's own failures, not for a backend's answers."""
from headgate import *

CONFIG = """channel_defaults:
  errors: { 4xx: pages/4xx.html, 404: pages/404.html, 5xx: pages/down.json, 413: pages/large.txt }
channels:
  www:
    host: www.localhost
    https: both
    services: { app: { url: "%(url)s" }, down: { url: "http://127.0.0.1:%(down)d", wait_ready: 0 } }
    routes:
      /app/: { proxy: app, strip_prefix: on }
      /down/: { proxy: down }
      /files/: { files: www }
      /small: { respond: x, limits: { body: 10B } }
      /teapot: { respond: own, status: 404 }
  plain: { host: plain.localhost, https: both, errors: { 4xx: off, 404: off, 5xx: off, 413: off }, routes: { /a: { respond: x } } }
"""
PAGES = {"404.html": "<!doctype html><p>nothing h\u00e9re</p>\n", "4xx.html": "<p>refused</p>\n", "down.json": "{\"sorry\":true}\n", "large.txt": "too much\n"}


class Site:
    def __init__(self, t):
        self.backend = t.backend()
        self.gate = t.unstarted(CONFIG % {"url": self.backend.url, "down": t.port()})
        for name, text in PAGES.items():
            t.write(f"headgate.d/pages/{name}", text)
        t.write("headgate.d/www/a.txt", "a file\n")
        self.gate.start()


HTML, TEXT, JSON = "text/html; charset=utf-8", "text/plain; charset=utf-8", "application/json"
ROWS = [
    Row("no_route", path="/none", status=404, page="404.html", type=HTML),
    Row("no_file", path="/files/none", status=404, page="404.html", type=HTML),
    Row("class", path="/files/a.txt", method="DELETE", status=405, page="4xx.html", type=HTML, allow="GET, HEAD"),
    Row("text", path="/small", method="POST", body=b"x" * 11, status=413, page="large.txt", type=TEXT),
    Row("backend_down", path="/down/", status=(502, 503), page="down.json", type=JSON),
    Row("backend_broken", path="/app/bad/garbage", status=502, page="down.json", type=JSON),
    Row("json_page_for_json", path="/down/", headers=[("Accept", "application/json")], status=(502, 503), page="down.json", type=JSON),
    Row("text_page_for_json", path="/small", method="POST", body=b"x" * 11, headers=[("Accept", "application/json")], status=413, page="large.txt", type=TEXT),
]


@table(ROWS, Site)
def test_pages(t, site, row):
    """The exact status wins over its class; the type follows the file's ending; the failure's own fields stay."""
    method = getattr(row, "method", "GET")
    want = PAGES[row.page].encode()
    a = site.gate.get(row.path, "www.localhost", method=method, headers=getattr(row, "headers", ()), body=getattr(row, "body", None))
    assert a.status == row.status or a.status in (row.status if isinstance(row.status, tuple) else ()), a
    assert a.body == want and a.get("content-type") == row.type and a.get("content-length") == str(len(want)), a
    assert a.get("cache-control") == "no-store" and a.get("x-content-type-options") == "nosniff" and a.get("x-request-id"), a
    if hasattr(row, "allow"):
        assert a.get("allow") == row.allow, a


@case()
def test_head(t):
    """HEAD: the fields without the page, and the connection goes on."""
    gate = Site(t).gate
    with gate.tls("www.localhost") as c:
        a = c.get("/none", "www.localhost", method="HEAD")
        assert a.status == 404 and a.get("content-length") == str(len(PAGES["404.html"].encode())), a
        assert c.get("/files/a.txt", "www.localhost").body == b"a file\n"


@case()
def test_not_for_answers(t):
    """What a backend or a respond route answers is theirs, whatever its status."""
    site = Site(t)
    a = site.gate.get("/app/status/404", "www.localhost")
    assert a.status == 404 and a.body == b"status 404", a
    a = site.gate.get("/teapot", "www.localhost")
    assert a.status == 404 and a.body == b"own", a
    a = site.gate.get("/none", "plain.localhost")
    assert a.status == 404 and b"<title>404" in a.body, a


@case()
def test_json_for_programs(t):
    """A client that prefers JSON gets it where the page is HTML."""
    gate = Site(t).gate
    a = gate.get("/none", "www.localhost", headers=[("Accept", "application/json")])
    assert a.get("content-type") == "application/json" and json.loads(a.body)["status"] == 404, a


@case()
def test_read_at_load(t):
    """Workers read no files: a changed or deleted page shows at the next reload, and a missing one refuses it."""
    site = Site(t)
    t.write("headgate.d/pages/404.html", "<p>new</p>")
    assert site.gate.get("/none", "www.localhost").body == PAGES["404.html"].encode()
    site.gate.reload_ok()
    wait_for("the new page", lambda: site.gate.get("/none", "www.localhost").body == b"<p>new</p>")
    os.unlink(t.path("headgate.d/pages/404.html"))
    r = site.gate.reload()
    assert r.returncode == 1 and "404.html" in r.stdout + r.stderr, r
    assert site.gate.get("/none", "www.localhost").body == b"<p>new</p>"


@case()
def test_large(t):
    """A page over the bound is refused; one just below it is served whole."""
    config = "sites:\n  s: { host: localhost, errors: { 404: page.html }, routes: { /a: { respond: x } } }\n"
    gate = t.unstarted(config)
    t.write("headgate.d/page.html", "x" * (256 * 1024))
    gate.start()
    a = gate.get("/b")
    assert a.status == 404 and a.body == b"x" * (256 * 1024), a.size
    t.write("headgate.d/page.html", "x" * (256 * 1024 + 1))
    r = gate.reload()
    assert r.returncode == 1 and "E042" in r.stdout + r.stderr, r
