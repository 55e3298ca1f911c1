"""Limits and timeouts of a site and of a route: each key over what is above it, and for its own requests only."""
import backends
from h2wire import MAX_STREAMS, h2
from headgate import *
from test_slow_clients import paced
from wire import Truncated

MIB = 1 << 20
TIGHT = {"body": "1KiB", "response": "300ms", "connect": "300ms", "body_gap": "300ms", "write_gap": "300ms", "min_rate": "100KiB/s"}
LOOSE = {"body": "0", "response": "0", "connect": "300s", "body_gap": "0", "write_gap": "0", "min_rate": "0"}

ROUTE = """sites:
  s:
    host: localhost
    https: both
    services: {{ app: "{url}" }}
    routes: {{ /: {{ proxy: app }}, /tight/: {{ proxy: app, strip_prefix: on, {group}: {{ {key}: {tight} }} }} }}
"""
SITE = """sites:
  s:
    host: localhost
    https: both
    {group}: {{ {key}: {tight} }}
    services: {{ app: "{url}" }}
    routes: {{ /tight/: {{ proxy: app, strip_prefix: on }}, /: {{ proxy: app, {group}: {{ {key}: {loose} }} }} }}
"""
GLOBAL = {"limits": "{ body: 1GiB }", "timeouts": "{ response: 300s, connect: 300s, body_gap: 300s, write_gap: 300s }"}


def behave(peer, req):
    if req.path == "/halt":      # in the middle of its answer
        peer.backend.whole(peer, req)
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello")
        peer.wait_gone()
        return False
    return backends.by_path(peer, req)


def full_port(t):
    """A listener that takes nobody any more."""
    full = socket.socket()
    full.bind(("127.0.0.1", 0))
    full.listen(0)
    t.defer(full.close)
    for _ in range(4):
        f = socket.socket()
        f.setblocking(False)
        f.connect_ex(full.getsockname())
        t.defer(f.close)
    return full.getsockname()[1]


ROWS = [Row(f"{what}_{level}", what=what, level=level) for what in ("body", "response", "connect", "body_gap_request", "body_gap_answer", "write_gap", "min_rate_request", "min_rate_answer")
        for level in ("route", "site")]


@table(ROWS, lambda t: None)
def test_keys(t, _, row):
    """The tight value ends its request, while the same under the looser one goes on."""
    key = row.what.removesuffix("_request").removesuffix("_answer")
    backend = t.backend(behave)
    url = f"http://127.0.0.1:{full_port(t)}" if key == "connect" else backend.url
    top = dict(GLOBAL)
    if key == "min_rate":       # who is behind by so much is cut
        top["timeouts"] = "{ body_gap: 1s, write_gap: 1s, min_rate: 0 }"
    text = {"route": ROUTE, "site": SITE}[row.level].format(url=url, key=key, group="limits" if key == "body" else "timeouts", tight=TIGHT[key], loose=LOOSE[key])
    gate = t.headgate(text, top=top, name=row.name)
    kw = {"rcvbuf": 4096} if row.what in ("write_gap", "min_rate_answer") else {}
    with gate.tls(**kw) as tight, gate.tls(**kw) as loose:
        if key == "body":
            assert tight.get("/tight/sink", body=b"x" * 1025, method="POST").status == 413
            assert loose.get("/sink", body=b"x" * 100000, method="POST").status == 200
            assert gate.get("/tight/sink", body=b"x" * 1024, method="POST").status == 200
        elif key in ("response", "connect"):
            for c, path in ((loose, "/silent"), (tight, "/tight/silent")):
                c.request("GET", path, "localhost")
            assert tight.answer().status in ((504,) if key == "response" else (502, 504))
            assert loose.still_open()
        elif row.what == "body_gap_request":
            for c, path in ((loose, "/sink"), (tight, "/tight/sink")):
                c.request("POST", path, "localhost", [("Content-Length", "100")])
                c.send(b"ten bytes.")
            assert tight.answer().status == 408
            assert loose.still_open()
            loose.send(b"x" * 90)
            assert json.loads(loose.answer().body)["size"] == 100
        elif row.what == "min_rate_request":
            for c, path in ((loose, "/sink"), (tight, "/tight/sink")):
                c.request("POST", path, "localhost", [("Content-Length", str(MIB))])

            def send(n):
                loose.send(b"x" * n)
                return not tight.try_send(b"x" * n) or not tight.still_open(0.001)
            assert paced(4000, 60, send) and tight.answer().status == 408
            assert loose.still_open()
        elif row.what == "min_rate_answer":
            for c, path in ((loose, f"/bytes/{50 * MIB}"), (tight, f"/tight/bytes/{50 * MIB}")):
                c.request("GET", path, "localhost")
            assert paced(4000, 60, lambda n: not loose.read(n) or not tight.read(n)) and tight.ended and not loose.ended
        elif row.what == "body_gap_answer":
            for c, path in ((loose, "/halt"), (tight, "/tight/halt")):
                c.request("GET", path, "localhost")
            assert cut(tight), "a cut answer looks whole"
            assert loose.head().status == 200
            loose.exactly(5, lambda piece: None)
            assert loose.still_open()
        else:
            for c, path in ((loose, f"/bytes/{50 * MIB}"), (tight, f"/tight/bytes/{50 * MIB}")):
                c.request("GET", path, "localhost")
            wait_for("both answers", lambda: backend.count == 2)
            wait_for("the end of one", lambda: backend.open == 1)
            assert cut(tight), "a cut answer looks whole"
            assert loose.answer(keep=False).size == 50 * MIB


def cut(c, read=None):
    try:
        read() if read else c.answer(keep=False)
        return False
    except (Truncated, OSError):
        return True


STREAMS = """sites:
  s: { host: localhost, limits: { streams: 7 }, routes: { /: { respond: s } } }
  other: { host: other.localhost, routes: { /: { respond: other } } }
"""


@case()
def test_streams(t):
    """limits.streams of the site that the connection was opened for; another one's is the global one."""
    gate = t.headgate(STREAMS, top={"limits": "{ streams: 5 }"})
    for host, streams in (("localhost", 7), ("other.localhost", 5)):
        with h2(gate, host=host) as c:
            assert c.get("/").status == 200 and c.peer[MAX_STREAMS] == streams, c.peer


@case()
def test_drain(t):
    """timeouts.drain of a site: how long a replaced instance may keep its requests; elsewhere the global one holds."""
    def site(name, extra=""):
        return f"  {name}:\n    host: {name}.localhost\n    https: both\n{extra}    services: {{ app: {{ run: {t.service('ok')} }} }}\n    routes: {{ /: {{ proxy: app }} }}\n"
    text = "sites:\n" + site("tight", "    timeouts: { drain: 500ms }\n") + site("loose")
    gate = t.headgate(text, top={"timeouts": "{ drain: 300s, shutdown: 1s }"}, workers=1)
    with gate.plain(rcvbuf=4096) as tight, gate.plain(rcvbuf=4096) as loose:
        for c, name in ((tight, "tight"), (loose, "loose")):
            c.request("GET", f"/bytes/{50 * MIB}", name + ".localhost")
            assert c.head().status == 200
            r = gate.cli("restart", name + "/app")
            assert r.returncode == 0, r.stderr
        wait_for("the end of the one", lambda: states(gate, "tight/app") == ["ready"])
        assert cut(tight, lambda: tight.exactly(50 * MIB, lambda piece: None)), "a cut answer looks whole"
        assert sorted(states(gate, "loose/app")) == ["draining", "ready"]
        loose.exactly(50 * MIB, lambda piece: None)
        wait_for("the end of the other", lambda: states(gate, "loose/app") == ["ready"])


def states(gate, service):
    return [i["state"] for s in gate.status()["services"] if s["service"] == service for i in s["instances"]]
