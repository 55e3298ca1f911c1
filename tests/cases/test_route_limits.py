"""Limits and timeouts of a site and of a route: each key over what is above it, and for its own requests only."""
import backends
from headgate import *
from wire import Truncated

MIB = 1 << 20
TIGHT = {"body": "1KiB", "response": "300ms", "connect": "300ms", "body_gap": "300ms", "write_gap": "300ms"}
LOOSE = {"body": "0", "response": "0", "connect": "300s", "body_gap": "0", "write_gap": "0"}

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


ROWS = [Row(f"{what}_{level}", what=what, level=level) for what in ("body", "response", "connect", "body_gap_request", "body_gap_answer", "write_gap")
        for level in ("route", "site")]


@table(ROWS, lambda t: None)
def test_keys(t, _, row):
    """The tight value ends its request, while the same under the looser one goes on."""
    key = row.what.removesuffix("_request").removesuffix("_answer")
    backend = t.backend(behave)
    url = f"http://127.0.0.1:{full_port(t)}" if key == "connect" else backend.url
    text = {"route": ROUTE, "site": SITE}[row.level].format(url=url, key=key, group="limits" if key == "body" else "timeouts", tight=TIGHT[key], loose=LOOSE[key])
    gate = t.headgate(text, top=GLOBAL, name=row.name)
    kw = {"rcvbuf": 4096} if key == "write_gap" else {}
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


def cut(c):
    try:
        c.answer(keep=False)
        return False
    except (Truncated, OSError):
        return True
