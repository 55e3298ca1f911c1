"""Reload in place: nothing lost, nothing cut, nothing left, nothing half applied."""
import hashlib

from headgate import *
from load import Load, Wrk


def with_site(base, i):
    return base + f"  extra{i % 2}: {{ host: extra{i % 2}.localhost, https: both, routes: {{ /: {{ respond: extra }} }} }}\n"


@case(serial=True)
def test_fifty_reloads_under_load(t):
    """50 reloads under load, with a long download and a long upload: no request lost, no connection cut, no process left."""
    b = t.backend()
    base = proxy_site(b.url)
    gate = t.headgate(base)
    tree = sorted(procs.descendants(gate.master))
    stop = threading.Event()

    def endless(peer, req):     # the long transfers end when the reloads do
        if req.path == "/long-get":
            b.whole(peer, req)
            peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            n = 0
            while not stop.is_set():
                peer.send(b"3e8\r\n" + b"x" * 1000 + b"\r\n")
                n += 1000
                time.sleep(0.002)
            peer.send(b"0\r\n\r\n")
            b.sent = n
            return None
        return by_path(peer, req)
    from backends import by_path
    b.behave = endless

    down, up = gate.tls(), gate.tls()
    down.request("GET", "/long-get", "localhost")
    assert down.head().status == 200
    got = {"down": 0}

    def download():
        a = type("A", (), {})()
        down.chunks(lambda piece: got.__setitem__("down", got["down"] + len(piece)), a)

    digest, size = hashlib.sha256(), [0]

    def upload():
        up.send(b"PUT /sink HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not stop.is_set():
            piece = os.urandom(4000)
            digest.update(piece)
            size[0] += len(piece)
            up.send(b"fa0\r\n" + piece + b"\r\n")
            time.sleep(0.002)
        up.send(b"0\r\n\r\n")
        got["up"] = json.loads(up.answer().body)
    threads = [threading.Thread(target=f) for f in (download, upload)]
    for th in threads:
        th.start()
    load = Load(gate)
    idle = [gate.tls() for _ in range(5)]
    for c in idle:
        assert c.get("/before").status == 200
    load.progress(50)
    for i in range(50):
        gate.reload_ok(with_site(base, i))
        load.progress(5)
    for c in idle:
        assert c.get("/after").status == 200, "an idle connection was cut"
        c.close()
    stop.set()
    for th in threads:
        th.join(60)
    failures = load.stop()
    assert not failures, f"{len(failures)} of {load.served}: {failures[:5]}"
    assert got["down"] == b.sent and got["up"] == {"size": size[0], "sha256": digest.hexdigest()}, (got, b.sent, size)
    assert sorted(procs.descendants(gate.master)) == tree, "other processes than before the reloads"


@case(serial=True)
def test_reloads_under_wrk(t):
    """20 reloads under wrk over TLS: not one socket error, not one status other than 200."""
    base = "sites:\n  s: { host: localhost, aliases: [\"127.0.0.1\"], https: both, routes: { /: { respond: hello } } }\n"
    gate = t.headgate(base)
    wrk = Wrk(gate)
    for i in range(20):
        gate.reload_ok(with_site(base, i))
        wrk.progress()
    requests, errors, out = wrk.stop()
    assert errors == 0 and requests > 100, out


@case(serial=True)
def test_sighups_under_load(t):
    """A burst of SIGHUPs, closer together than they can be served, ends in the last file."""
    b = t.backend()
    base = proxy_site(b.url)
    gate = t.headgate(base)
    load = Load(gate)
    load.progress(20)
    for i in range(20):
        gate.configure(base + f"  last: {{ host: last.localhost, https: both, routes: {{ /: {{ respond: \"{i}\" }} }} }}\n")
        gate.proc.send_signal(signal.SIGHUP)
    wait_for("the last file", lambda: gate.get("/", "last.localhost", secure=False).body == b"19")
    failures = load.stop()
    assert not failures, failures[:5]


@case(both=True)
def test_reload_adds_and_removes(t):
    """Sites come and go; what `reload` prints names them; open connections see the new configuration."""
    base = "sites:\n  one: { host: one.localhost, https: both, routes: { /: { respond: one } } }\n"
    gate = t.headgate(base)
    with gate.tls("one.localhost") as c:
        assert c.get("/", "one.localhost").body == b"one"
        gate.reload_ok(base.replace("respond: one", "respond: uno") + "  two: { host: two.localhost, https: both, routes: { /: { respond: two } } }\n")
        assert c.get("/", "one.localhost").body == b"uno"
    assert gate.get("/", "two.localhost").body == b"two"
    gate.reload_ok(base)
    assert gate.get("/", "two.localhost", secure=False).status in (404, 421)


@case()
def test_request_under_way_keeps_its_snapshot(t):
    """A request that began before the reload ends as it began, though its site is gone."""
    b = t.backend()
    gate = t.headgate(proxy_site(b.url))
    with gate.tls() as c:
        c.request("GET", "/held", "localhost")
        wait_for("the request", lambda: b.count == 1)
        gate.reload_ok("sites:\n  other: { host: other.localhost, routes: { /: { respond: x } } }\n")
        b.gate.set()
        assert c.answer().body == b"at last"


@case()
def test_unchanged_services_keep_their_pid(t):
    """A reload restarts only what changed: one service changes, one goes, one comes, one stays."""
    def config(a, names):
        return "sites:\n" + "".join(
            f"  {n}:\n    host: {n}.localhost\n    https: both\n    services:\n      app: {{ run: {t.service('ok', a if n == 'changes' else 'same')} }}\n"
            "    routes:\n      /: { proxy: app }\n" for n in names)
    gate = t.headgate(config("before", ["stays", "changes", "goes"]))
    pid = {n: json.loads(gate.get("/who", n + ".localhost").body)["pid"] for n in ("stays", "changes", "goes")}
    gate.reload_ok(config("after", ["stays", "changes", "comes"]))
    assert json.loads(gate.get("/who", "stays.localhost").body)["pid"] == pid["stays"]
    wait_for("the new service", lambda: gate.get("/who", "comes.localhost", secure=False).status == 200)
    wait_for("the changed one", lambda: json.loads(gate.get("/who", "changes.localhost").body)["argv"][3] == "after")
    for n in ("changes", "goes"):
        wait_for(f"the end of the old {n}", lambda n=n: not procs.alive(pid[n]))


@case(serial=True)
def test_service_change_under_load(t):
    """A reload that changes a service under load: the new one first, then the old one goes; no request is lost."""
    gate = t.headgate(run_site(t.service("ok", "0")))
    load = Load(gate, target="/who")
    load.progress(20)
    for i in range(1, 6):
        gate.reload_ok(run_site(t.service("ok", str(i))))
        wait_for("the new one", lambda: json.loads(gate.get("/who").body)["argv"][3] == str(i))
    failures = load.stop()
    assert not failures, failures[:5]
    wait_for("one service only", lambda: len(gate.service_pids()) == 1)


BAD_FILES = [Row("syntax", text="sites: [\n"), Row("unknown_key", text="sites:\n  s: { host: localhost, rutes: { /: { respond: x } } }\n"),
             Row("unknown_service", text="sites:\n  s: { host: localhost, routes: { /: { proxy: nothing } } }\n"),
             Row("missing_root", text="sites:\n  s: { host: localhost, routes: { /: { files: /nonexistent-folder } } }\n"),
             Row("duplicate_host", text="sites:\n  a: { host: localhost, routes: { /: { respond: x } } }\n  b: { host: localhost, routes: { /: { respond: x } } }\n"),
             Row("empty", text=None)]


class Running:
    def __init__(self, t):
        self.good = "sites:\n  s: { host: localhost, https: both, routes: { /: { respond: good } } }\n"
        self.gate = t.headgate(self.good)


@table(BAD_FILES, Running)
def test_bad_file(t, s, row):
    """A bad file: diagnostics in the caller's terminal, status 1, nothing changed."""
    s.gate.configure(s.good)
    if row.text is None:
        with open(s.gate.file, "w"):
            pass
    else:
        s.gate.configure(row.text)
    r = s.gate.cli("reload")
    text = r.stdout + r.stderr
    assert r.returncode == 1, (r.returncode, text)
    assert "error[E" in text and s.gate.file in text, text
    assert "not touched" in text, text
    assert s.gate.get("/").body == b"good"
    s.gate.reload_ok(s.good)


TOLD = [Row(name, site=site, route=route) for name, site, route in (
    ("headers", "headers: { set: { X-A: b } }", ""), ("headers_to_backend", "headers: { to_backend: { remove: [X-A] } }", ""),
    ("route_headers", "", "headers: { remove: [X-A] }"), ("robots", "robots: noindex", ""), ("hsts", "tls: { hsts: 30d }", ""),
    ("errors", "errors: { 404: PAGE }", ""), ("compress", "compress: [gzip]", ""), ("dotfiles", "static: { dotfiles: allow }", ""),
    ("grpc", "grpc: calls", ""), ("grpc_cors", "grpc: { service: calls, cors: [\"https://a.example\"] }", ""),
    ("grpc_packages", "grpc: { service: calls, packages: { a.v1: calls } }", ""), ("websocket", "", "websocket: off"), ("listing", "", "listing: on"),
    ("fallback", "", "fallback: a.txt"), ("rate_limit", "rate_limit: { rate: 5/s }", ""), ("limits", "limits: { body: 1KiB }", ""),
    ("aliases", "aliases: [b.localhost]", ""))]


class Telling:
    def __init__(self, t):
        self.page = t.write("page.html", "<p>none</p>")
        t.write("www/a.txt", "a file")
        self.www = t.path("www")
        self.gate = t.headgate(self.config())

    def config(self, site="", route=""):
        handler = f"files: {self.www}" if route.startswith(("listing", "fallback")) else "proxy: app"
        extra = f"    {site}\n".replace("PAGE", self.page)
        return (f"sites:\n  s:\n    host: localhost\n    https: both\n{extra}    services: {{ app: {{ url: \"http://127.0.0.1:9\" }}, calls: {{ url: \"h2c://127.0.0.1:9\", protocol: grpc }} }}\n"
                f"    routes:\n      /: {{ {handler}{', ' + route if route else ''} }}\n      /files/: {{ files: {self.www} }}\n      /app/: {{ proxy: app }}\n")


@table(TOLD, Telling)
def test_told(t, s, row):
    """A reload says that the site changed, whichever of its keys did; and that nothing did when it is done again."""
    changed = s.config(row.site, row.route)
    if row.route:       # the handler is the same before
        s.gate.reload_ok(s.config("", row.route).replace(", " + row.route, ""))
    else:
        s.gate.reload_ok(s.config())
    told = s.gate.reload_ok(changed).stdout
    assert "site s: changed" in told, told
    told = s.gate.reload_ok(changed).stdout
    assert "nothing changed" in told, told


TOLD_ACME = [Row(key, text=f"{key}: {value}") for key, value in (
    ("email", "b@example.org"), ("ca", "https://127.0.0.1:9/other"), ("staging", "https://127.0.0.1:9/staging"), ("limits", "letsencrypt"),
    ("ca_root", "ROOT"), ("challenge", "[http-01, tls-alpn-01]"), ("key", "p384"), ("eab", "{ kid: a, hmac: aHVudGVyMg }"),
    ("profile", "shortlived"), ("chain", "Other Root"), ("renew", "30d"))] + [Row("dns", text="challenge: dns-01, dns_hook: /bin/true")]


class TellingAcme:
    def __init__(self, t):
        self.root = certificate(t, "root", ["root.example.org"])[0]
        self.gate = t.headgate(self.config(""))

    def config(self, text):
        ca = "" if text.startswith("ca:") else "ca: https://127.0.0.1:9/dir"
        keys = ", ".join(k for k in (ca, text.replace("ROOT", self.root)) if k)
        return f"acme: {{ {keys} }}\nsites: {{ s: {{ host: localhost, routes: {{ /: {{ respond: ok }} }} }} }}\n"


@table(TOLD_ACME, TellingAcme)
def test_told_acme(t, s, row):
    """A reload says that `acme` changed, whichever of its keys did."""
    s.gate.reload_ok(s.config(""))
    told = s.gate.reload_ok(s.config(row.text)).stdout
    assert "certificates acme: changed" in told and "site s" not in told, told
    told = s.gate.reload_ok(s.config(row.text)).stdout
    assert "nothing changed" in told, told


@case()
def test_file_gone(t):
    """The file is not there any more: told so, nothing changed."""
    s = Running(t)
    os.unlink(s.gate.file)
    r = s.gate.cli("reload")
    assert r.returncode == 1 and s.gate.file in r.stdout + r.stderr, (r.returncode, r.stdout, r.stderr)
    assert s.gate.get("/").body == b"good"


@case()
def test_bad_file_by_sighup(t):
    """The same by SIGHUP: the diagnostics go into the log."""
    s = Running(t)
    s.gate.configure("sites:\n  s: { host: localhost, rutes: x }\n")
    s.gate.proc.send_signal(signal.SIGHUP)
    s.gate.wait_log("rutes")
    assert s.gate.get("/").body == b"good"


@case(both=True)
def test_listener_added_and_removed(t):
    """A new address serves after the reload, a removed one refuses; requests on its old connections are finished."""
    s = Running(t)
    old, new = s.gate.http, t.port()
    both = '{ http: ["127.0.0.1:%d", "127.0.0.1:%d"], https: "127.0.0.1:%d" }' % (old, new, s.gate.https)
    s.gate.reload_ok(s.good, {"listen": both})
    for port in (old, new):
        with Conn(("127.0.0.1", port)) as c:
            assert c.get("/").body == b"good"
    s.gate.reload_ok(s.good, {"listen": s.gate.listen(http=new)})
    wait_for("the old port to be free", lambda: port_free(old))
    with Conn(("127.0.0.1", new)) as c:
        assert c.get("/").body == b"good"


@case()
def test_port_in_use(t):
    """A reload to an address that another program holds is refused with address and cause; the rest goes on as it was."""
    s = Running(t)
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    taken.listen(1)
    t.defer(taken.close)
    port = taken.getsockname()[1]
    r = s.gate.reload(s.good.replace("good", "changed"), {"listen": s.gate.listen(http=port)})
    text = r.stdout + r.stderr
    assert r.returncode != 0 and str(port) in text and "in use" in text, (r.returncode, text)
    assert s.gate.get("/", secure=False).body == b"good"


@case()
def test_workers_change(t):
    """workers: 2 → 1 → 3 → 2 by reload: no connection is cut under a request, those of a worker that goes end after their next answer."""
    s = Running(t)
    conns = [s.gate.tls() for _ in range(10)]
    for n in (1, 3, 2):
        s.gate.reload_ok(s.good, {"workers": str(n)})
        s.gate.workers_wanted = n
        for i in range(len(conns)):
            while (a := conns[i].get("/")).get("connection") == "close":
                assert a.body == b"good"
                conns[i].close()
                conns[i] = s.gate.tls()
            assert a.body == b"good"
        wait_for(f"{n} workers", lambda: len(s.gate.workers()) == n)
        for _ in range(20):
            assert s.gate.get("/").body == b"good"


@case()
def test_root_added(t):
    """A static root outside the old ones is served after the reload."""
    s = Running(t)
    t.write("newroot/x.txt", "new")
    with s.gate.tls() as c:
        assert c.get("/").status == 200
        s.gate.reload_ok(s.good.replace("/: {", f"/new/: {{ files: {t.path('newroot')} }}, /: {{"))
        wait_for("the new root", lambda: s.gate.get("/new/x.txt").body == b"new")


@case()
def test_reload_while_one_runs(t):
    """Ten callers of `reload` at once: each is told the truth, none hangs."""
    s = Running(t)
    callers = [subprocess.Popen(s.gate.t.as_user([t.program, "reload", "--config", s.gate.file]), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
               for _ in range(10)]
    out = [(p.communicate(timeout=60)[0], p.returncode) for p in callers]
    assert all(code in (0, 4) for _, code in out) and any(code == 0 for _, code in out), out
    assert s.gate.get("/").body == b"good"


@case()
def test_reload_does_not_leak(t):
    """A hundred reloads: descriptors and memory of master and workers do not grow with them."""
    s = Running(t)
    for i in range(10):
        s.gate.reload_ok(with_site(s.good, i))
    pids = [s.gate.master] + s.gate.workers() + s.gate.agents()
    fds = {p: procs.descriptors(p) for p in pids}
    mem = {p: procs.rss(p) for p in pids}
    for i in range(90):
        s.gate.reload_ok(with_site(s.good, i))
    for p in pids:
        assert procs.descriptors(p) <= fds[p] + 2, (procs.cmdline(p), fds[p], procs.descriptors(p))
        assert procs.rss(p) < mem[p] + allowance(8), (procs.cmdline(p), mem[p], procs.rss(p))


@case()
def test_plan(t):
    """reload --plan says what it would touch and touches nothing."""
    s = Running(t)
    s.gate.configure(s.good.replace("good", "planned"))
    r = s.gate.cli("reload", "--plan")
    assert r.returncode == 0, (r.returncode, r.stdout, r.stderr)
    assert s.gate.get("/").body == b"good"
