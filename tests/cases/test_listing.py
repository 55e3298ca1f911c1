"""files: listing, fallback and static.dotfiles: what a folder shows, and what is served for what does not exist."""
import html.parser
import urllib.parse

from headgate import *

NAMES = ["b.txt", "a.txt", "Z.bin", "space name.txt", "quo\"te'.txt", "<b>&amp;.html", "100%.txt", "a:b.txt", "ünïcode.txt", "semi;colon?#.txt"]
CONFIG = """sites:
  s:
    host: localhost
    https: both
    routes:
      /dl/: { files: %(www)s, listing: on }
      /no/: { files: %(www)s }
      /bare/: { files: %(www)s, listing: on, index: off }
      /app/: { files: %(app)s, fallback: index.html }
      /deep/: { files: %(app)s, fallback: /sub/page.html, listing: on }
      /gone/: { files: %(app)s, fallback: none.html }
      /one.txt: { files: %(www)s, fallback: a.txt }
  dots: { host: dots.localhost, https: both, static: { dotfiles: allow }, routes: { /: { files: %(www)s, listing: on } } }
"""


class Site:
    def __init__(self, t):
        for name in NAMES:
            t.write("www/" + name, name + "\n")
        t.write("www/.hidden", "secret\n")
        t.write("www/.git/config", "secret\n")
        t.write("www/.well-known/x", "known\n")
        t.write("www/with-index/index.html", "<p>index</p>\n")
        t.write("www/sub/c.txt", "c\n")
        os.makedirs(t.path("www/empty"))
        os.mkfifo(t.path("www/fifo"))
        os.symlink("/etc/passwd", t.path("www/out"))
        os.symlink("a.txt", t.path("www/inside"))
        os.symlink("nothing", t.path("www/dangling"))
        t.write("app/index.html", "<p>app</p>\n")
        t.write("app/main.js", "1\n")
        t.write("app/sub/page.html", "<p>page</p>\n")
        t.write("app/locked", "x\n", mode=0)
        os.makedirs(t.path("app/empty"))
        self.gate = t.headgate(CONFIG % {"www": t.path("www"), "app": t.path("app")})


class Links(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.links, self.texts, self.tags, self.inside = [], [], set(), False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag == "a":
            assert [n for n, _ in attrs] == ["href"], attrs
            self.links.append(attrs[0][1])
            self.texts.append("")
            self.inside = True

    def handle_endtag(self, tag):
        self.inside = self.inside and tag != "a"

    def handle_data(self, data):
        if self.inside:
            self.texts[-1] += data


@case()
def test_html(t):
    """Folders first, then files by name; each link leads to the file, whatever its name; nothing that is not served is shown."""
    gate = Site(t).gate
    a = gate.get("/dl/")
    assert a.status == 200 and a.get("content-type") == "text/html; charset=utf-8" and "accept" in a.get("vary"), a
    page = Links(a.body.decode())
    files = sorted(NAMES + ["inside"], key=lambda n: n.encode())
    assert page.texts == ["empty/", "sub/", "with-index/"] + files, page.texts
    assert not page.tags & {"b", "script", "img"}, page.tags
    with gate.tls() as c:
        for link, text in zip(page.links, page.texts):
            got = c.get(urllib.parse.urljoin("/dl/", link))
            assert got.status == 200, (link, got)
            if not text.endswith("/") and text != "inside":
                assert got.body.decode() == text + "\n", (link, got)
    below = Links(gate.get("/dl/sub/").body.decode())
    assert below.links == ["../", "./c.txt"], below.links


@case()
def test_json(t):
    """The same for programs."""
    gate = Site(t).gate
    a = gate.get("/dl/", headers=[("Accept", "application/json")])
    assert a.status == 200 and a.get("content-type") == "application/json", a
    doc = json.loads(a.body)
    assert [e["name"] for e in doc["entries"][:3]] == ["empty", "sub", "with-index"] and doc["truncated"] is False, doc
    entry = next(e for e in doc["entries"] if e["name"] == "a.txt")
    assert entry["type"] == "file" and entry["size"] == 6 and entry["mtime"].endswith("GMT"), entry
    assert {e["name"] for e in doc["entries"]} == {"empty", "sub", "with-index", "inside", *NAMES}, doc
    assert json.loads(gate.get("/dl/empty/", headers=[("Accept", "application/json")]).body)["entries"] == []


ANSWERS = [
    Row("index_wins", path="/dl/with-index/", status=200, body=b"<p>index</p>\n"),
    Row("index_off", path="/bare/with-index/", status=200, part=b"index.html"),
    Row("off_by_default", path="/no/", status=404),
    Row("off_by_default_sub", path="/no/sub/", status=404),
    Row("no_slash", path="/dl/sub", status=308),
    Row("no_folder", path="/dl/none/", status=404),
    Row("a_file", path="/dl/a.txt/", status=404),
    Row("dot_folder", path="/dl/.git/", status=404),
    Row("outside", path="/dl/../../", status=400),
    Row("outside_link", path="/dl/out/", status=404),
    Row("post", path="/dl/", method="POST", status=405),
    Row("head", path="/dl/", method="HEAD", status=200, body=b""),
    Row("dots_file", path="/.hidden", host="dots.localhost", status=200, body=b"secret\n"),
    Row("dots_folder", path="/.git/config", host="dots.localhost", status=200, body=b"secret\n"),
    Row("dots_listed", path="/", host="dots.localhost", status=200, part=b".hidden"),
    Row("no_dots", path="/dl/.hidden", status=404),
    Row("fallback", path="/app/some/where?x=1", status=200, body=b"<p>app</p>\n"),
    Row("fallback_like_a_file", path="/app/none.js", status=200, body=b"<p>app</p>\n"),
    Row("fallback_head", path="/app/none", method="HEAD", status=200, body=b""),
    Row("fallback_folder", path="/app/empty/", status=200, body=b"<p>app</p>\n"),
    Row("fallback_not_for_files", path="/app/main.js", status=200, body=b"1\n"),
    Row("fallback_not_for_dots", path="/app/.env", status=404),
    Row("fallback_not_for_slashless_folders", path="/app/sub", status=308),
    Row("fallback_post", path="/app/none", method="POST", status=405),
    Row("fallback_missing", path="/gone/none", status=404),
    Row("fallback_below", path="/deep/none", status=200, body=b"<p>page</p>\n"),
    Row("listing_before_fallback", path="/deep/empty/", status=200, part=b"../"),
    Row("fallback_of_exact", path="/one.txt", status=200, body=b"a.txt\n"),
]


@table(ANSWERS, Site)
def test_answers(t, site, row):
    """Which of index, listing, fallback and error a path gets."""
    a = site.gate.get(row.path, getattr(row, "host", "localhost"), method=getattr(row, "method", "GET"))
    assert a.status == row.status, a
    assert a.body == getattr(row, "body", a.body) and getattr(row, "part", b"") in a.body, a


@case()
def test_fallback_conditions(t):
    """A fallback is a file like any other: type, ETag, 304, ranges."""
    gate = Site(t).gate
    a = gate.get("/app/x/y")
    assert a.get("content-type") == "text/html; charset=utf-8" and a.get("etag") == gate.get("/app/").get("etag"), a
    assert gate.get("/app/x/y", headers=[("If-None-Match", a.get("etag"))]).status == 304
    assert gate.get("/app/x/y", headers=[("Range", "bytes=0-2")]).body == b"<p>"


@case()
def test_large_folder(t):
    """A folder of very many files: bounded, told so, and the worker goes on."""
    site = Site(t)
    os.makedirs(t.path("www/many"))
    for i in range(2500):
        with open(t.path("www/many", f"{i:05}" + "n" * 200), "w"):
            pass
    page = Links((a := site.gate.get("/dl/many/")).body.decode())
    assert len(page.links) == 2001 and b"more entries" in a.body, len(page.links)
    doc = json.loads(site.gate.get("/dl/many/", headers=[("Accept", "application/json")]).body)
    assert len(doc["entries"]) == 2000 and doc["truncated"] is True
    assert site.gate.curl("--compressed", site.gate.url("/dl/many/")).stdout == a.body.decode()


@case(root=True)
def test_unreadable_folder(t):
    """A folder that the workers may not read is forbidden, as a file is."""
    site = Site(t)
    os.chmod(t.path("www/sub"), 0o700)
    assert site.gate.get("/dl/sub/").status == 403
    assert site.gate.get("/app/locked").status == 403


@case()
def test_new_files_show(t):
    """A listing is never old."""
    site = Site(t)
    assert b"new.txt" not in site.gate.get("/dl/").body
    t.write("www/new.txt", "x")
    assert b"new.txt" in site.gate.get("/dl/").body
    os.unlink(t.path("www/new.txt"))
    assert b"new.txt" not in site.gate.get("/dl/").body
