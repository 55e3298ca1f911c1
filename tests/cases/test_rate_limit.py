"""rate_limit: how often one address may ask a site or a route, counted over all workers; and what the one too many is told."""
import base64

import h2wire
from headgate import *
from test_grpc import Real, grpc_site
from test_grpc_web import Site as WebSite, parts, pieces
from test_metrics import Scrape

FOR = "X-Forwarded-For"
SITE = """sites:
  s:
    host: localhost
    https: both
    rate_limit: {limit}
    services: {{ app: "{url}" }}
    routes:
      /: {{ proxy: app }}
      /own/: {{ respond: own, rate_limit: {{ rate: 1/h, burst: 2 }} }}
      /free/: {{ respond: free, rate_limit: off }}
  other: {{ host: other.localhost, https: both, routes: {{ /: {{ respond: other }} }} }}
"""
THREE = "{ rate: 1/h, burst: 3 }"


def site(t, limit=THREE, **kw):
    b = t.backend()
    text = SITE.format(limit=limit, url=b.url)
    return t.headgate(text, **kw), text


def ask(gate, n, target="/", source=None, **kw):
    """The statuses of n requests, each on a connection of its own: they meet all workers."""
    out = []
    for _ in range(n):
        with gate.plain(source=source) as c:
            out.append(c.get(target, **kw).status)
    return out


@case(both=True)
def test_answer(t):
    """The one too many: 429, Retry-After in seconds, a page, the reason in the log; it never reaches the backend."""
    gate, _ = site(t)
    assert ask(gate, 3) == [200] * 3
    with gate.tls() as c:
        a = c.get("/", headers=[("Accept", "text/html")])
        assert a.status == 429 and 3590 <= int(a.get("retry-after")) <= 3600 and b"Too many requests" in a.body, (a, a.body)
        assert c.get("/free/").body == b"free"      # the connection is as good as before
    gate.wait_log('"status":429', "more requests from one address than rate_limit lets through", '"client":"127.0.0.1"')
    assert ask(gate, 2, source="127.0.0.2") == [200] * 2
    assert ask(gate, 1) == [429]


@case()
def test_comes_back(t):
    """At 4/s the next one is let through within the second that Retry-After names; never two."""
    gate, _ = site(t, "{ rate: 4/s, burst: 1 }")
    with gate.plain() as c:
        began = time.monotonic()
        let = 0
        while let < 9:
            a = c.get("/")
            let += a.status == 200
            assert a.status == 200 or a.get("retry-after") == "1", a
        assert time.monotonic() - began >= 8 * 0.25 - 0.05, "more than 4 a second"


ROUTES = [
    ("own_limit", ["/own/x"] * 3, [200, 200, 429]),
    ("own_is_apart_from_the_sites", ["/own/"] * 3 + ["/"] * 4, [200, 200, 429, 200, 200, 200, 429]),
    ("off", ["/free/"] * 6, [200] * 6),
    ("unknown_path_counts", ["/"] * 3 + ["/"], [200] * 3 + [429]),
]


@table([Row(name, paths=paths, want=want, client=f"192.0.2.{i}") for i, (name, paths, want) in enumerate(ROUTES)],
       lambda t: site(t, top={"trusted_proxies": "[127.0.0.1]"})[0])
def test_routes(t, gate, row):
    """A route's own limit stands in the place of the site's."""
    with gate.plain() as c:
        assert [c.get(p, headers=[(FOR, row.client)]).status for p in row.paths] == row.want


@case()
def test_no_route(t):
    """Paths that no route has are counted like others: who guesses paths is stopped too."""
    text = "sites: { s: { host: localhost, https: both, rate_limit: { rate: 1/h, burst: 2 }, routes: { /a/: { respond: a } } } }\n"
    gate = t.headgate(text)
    assert ask(gate, 4, "/nothing") == [404, 404, 429, 429]


WHO = [
    ("ipv6_of_one_64", ["2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8::4"], [200, 200, 200, 429]),
    ("ipv6_of_several", ["2001:db8:1::1", "2001:db8:1:1::1", "2001:db8:1:2::1", "2001:db8:1:3::1"], [200] * 4),
    ("ipv4_each", [f"198.51.100.{i}" for i in range(6)], [200] * 6),
    ("the_proxy_itself", [None] * 4, [200, 200, 200, 429]),
    ("last_stranger", ["6.6.6.1, 203.0.113.9", "6.6.6.2, 203.0.113.9", "6.6.6.3, 203.0.113.9", "6.6.6.4, 203.0.113.9"], [200, 200, 200, 429]),
]


@table([Row(name, clients=clients, want=want) for name, clients, want in WHO], lambda t: site(t, top={"trusted_proxies": "[127.0.0.1]"})[0])
def test_who(t, gate, row):
    """It is the client's address that counts, behind trusted proxies too."""
    with gate.tls() as c:
        assert [c.get("/", headers=[(FOR, ip)] if ip else []).status for ip in row.clients] == row.want


@case()
def test_strangers_cannot_choose(t):
    """X-Forwarded-For of a stranger buys nothing."""
    gate, _ = site(t)
    with gate.plain() as c:
        assert [c.get("/", headers=[(FOR, f"192.0.2.{i}")]).status for i in range(5)] == [200, 200, 200, 429, 429]


@case()
def test_unix(t):
    """Who comes by a Unix socket has no address of its own; with a trusted proxy there, its clients have."""
    d = t.path("open")
    os.mkdir(d)
    os.chmod(d, 0o777)
    gate, text = site(t, top={"listen": f'{{ http: "unix:{d}/s", https: off }}'})
    with Conn(f"{d}/s") as c:
        assert [c.get("/").status for _ in range(6)] == [200] * 6
    gate.reload_ok(text, top={"trusted_proxies": "[unix]"})
    with Conn(f"{d}/s") as c:
        assert [c.get("/", headers=[(FOR, "192.0.2.1")]).status for _ in range(4)] == [200] * 3 + [429]
        assert c.get("/").status == 200


@case()
def test_sites_apart(t):
    gate, _ = site(t)
    assert ask(gate, 4) == [200] * 3 + [429]
    assert ask(gate, 6, host="other.localhost") == [200] * 6


@case()
def test_reload(t):
    """A reload changes the limit for the next request of a standing connection, and keeps what was used up."""
    gate, text = site(t)
    with gate.plain() as c:
        assert [c.get("/").status for _ in range(4)] == [200] * 3 + [429]
        gate.reload_ok(text.replace(THREE, "off"))
        assert [c.get("/").status for _ in range(5)] == [200] * 5
        gate.reload_ok(text)
        assert c.get("/").status == 429
        gate.reload_ok(text.replace(THREE, "{ rate: 1/h, burst: 5 }"))
        assert [c.get("/").status for _ in range(3)] == [200] * 2 + [429]


@case()
def test_all_workers_and_a_dead_one(t):
    """Exactly the burst is let through by four workers at once; one that dies forgets nothing."""
    gate, _ = site(t, "{ rate: 1/h, burst: 40 }", workers=4)
    got, lock = [], threading.Lock()

    def client():
        for _ in range(20):
            s = ask(gate, 1)
            with lock:
                got.extend(s)
    threads = [threading.Thread(target=client) for _ in range(4)]
    for th in threads:
        th.start()
    for th in threads:
        th.join()
    assert got.count(200) == 40 and got.count(429) == 40, got
    old = gate.workers()
    for pid in old:
        os.kill(pid, signal.SIGKILL)
    t.crashes = True
    gate.wait_workers(without=old)
    assert ask(gate, 8) == [429] * 8


@case()
def test_body_of_a_refused_request(t):
    """A body that comes with it is thrown away in order, up to a size; then the connection goes on."""
    gate, _ = site(t, "{ rate: 1/h, burst: 1 }")
    with gate.tls() as c:
        assert c.get("/").status == 200
        for _ in range(3):
            assert c.get("/", method="POST", body=b"x" * 100000).status == 429
        assert c.get("/free/").status == 200


@case()
def test_h2(t):
    """Streams of one connection are requests like others."""
    gate, _ = site(t)
    with h2wire.h2(gate) as c:
        answers = [c.get("/") for _ in range(5)]
        assert [int(a.status) for a in answers] == [200] * 3 + [429] * 2
        assert answers[3].get("retry-after")


@case()
def test_grpc(t):
    """A gRPC client is told RESOURCE_EXHAUSTED and when to come again."""
    real = Real(t, grpc="app\n    rate_limit: { rate: 1/h, burst: 1 }")
    assert real.call("uu", "Unary", b"x")["code"] == "OK"
    a = real.call("uu", "Unary", b"x")
    assert a["code"] == "RESOURCE_EXHAUSTED" and "rate_limit" in a["details"], a
    pushback = [int(v) for k, v in a["trailing"] if k == "grpc-retry-pushback-ms"]
    assert len(pushback) == 1 and 3500000 <= pushback[0] <= 3600000, a
    real.gate.wait_log('"grpc_status":"RESOURCE_EXHAUSTED"', "rate_limit")


@table([Row(f"{form}_h{v}", form=form, version=v) for form in ("binary", "text") for v in (1, 2)],
       lambda t: WebSite(t, grpc="{ service: app }\n    rate_limit: { rate: 1/h, burst: 1 }", top={"trusted_proxies": "[127.0.0.1]"}))
def test_grpc_web(t, s, row):
    """And a page in its frame of trailers, with HTTP 200."""
    text, client = row.form == "text", [(FOR.lower(), f"192.0.2.{row.version}{len(row.form)}")]
    type = "application/grpc-web-text+proto" if text else "application/grpc-web+proto"
    body = b"\0\0\0\0\x01q"
    body = base64.b64encode(body) if text else body
    for want in ("0", "8"):
        a = s.call("/ok", type, body, client, row.version)
        assert a.status == 200 and a.get("content-type") == type, a
        _, trailers = parts(pieces(bytes(a.body)) if text else a.body)
        assert trailers["grpc-status"] == want, trailers
    assert int(trailers["grpc-retry-pushback-ms"]) > 3500000, trailers


@case()
def test_metrics(t):
    port = t.port()
    gate, _ = site(t, top={"metrics": f'"127.0.0.1:{port}"'})
    assert ask(gate, 5) == [200] * 3 + [429] * 2
    with Conn(("127.0.0.1", port)) as c:
        s = Scrape(c.get("/metrics").body.decode())
    assert s.get("headgate_http_requests_limited_total") == 2
