"""
headgate status: what is open and under way now, by protocol and kind, of all and of each worker; listeners and their slots. And what
the access log says of each kind when it is over.
"""
import pty
import re
import select

import wswire
from h2backend import H2Backend
from h2wire import h2
from headgate import *
from test_grpc import by_path, message
from test_metrics import Scrape

PLAIN, SECURE = "http/1.1", "http/1.1 tls"
BEGUN = {PLAIN: 3, SECURE: 1, "h2 tls": 1, "tcp": 1}, {"http": 2, "grpc": 1, "grpc-web": 1, "websocket": 1, "sse": 1}


def events(peer, req):
    """/events: one event, then silence until the client goes; /ws: a WebSocket, the same; anything else: no answer until then."""
    peer.backend.whole(peer, req)
    if req.path == "/events":
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n")
    if req.path == "/ws":
        peer.send(b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
                  b"Sec-WebSocket-Accept: " + wswire.accept_of(req.get("sec-websocket-key")).encode() + b"\r\n\r\n")
    peer.wait_gone()
    return False


class Busy:
    """A gate with one of each: HTTP, gRPC, gRPC-Web, WebSocket, SSE and a raw stream, under way and going nowhere."""

    def __init__(self, t, workers=2):
        self.t = t
        self.calls, self.web = H2Backend(by_path), t.backend(events)
        t.defer(self.calls.close)
        self.metrics, self.stream = t.port(), t.port()
        self.config = (
            f"sites:\n  s:\n    host: localhost\n    https: both\n    services:\n      api: {{ url: \"{self.calls.url}\", protocol: grpc }}\n"
            f"      web: {{ url: \"{self.web.url}\" }}\n    grpc: api\n    routes: {{ /: {{ proxy: web }} }}\n")
        self.gate = t.headgate(self.config, workers=workers, top={
            "metrics": f'"127.0.0.1:{self.metrics}"', "streams": f'{{ "127.0.0.1:{self.stream}": {{ service: s/web, tls: off }} }}'})
        self.open = []

    def keep(self, conn):
        self.open.append(conn)
        self.t.defer(conn.close)
        return conn

    def begin(self):
        """Three plain connections, one of them idle; one with TLS; three requests over one HTTP/2 connection; a raw stream."""
        self.keep(Conn(("127.0.0.1", self.stream)))
        self.keep(self.gate.plain())
        self.keep(self.gate.plain()).request("GET", "/held", "localhost", [("User-Agent", "me"), ("Referer", "there")])
        wswire.Ws1(self.keep(self.gate.plain()), "/ws")
        self.keep(self.gate.tls()).request("GET", "/events", "localhost")
        c = self.keep(h2(self.gate))
        calls = [c.request("POST", "/hold_between", headers=[("content-type", kind), ("te", "trailers")], body=message(b"q"))
                 for kind in ("application/grpc", "application/grpc-web+proto")]
        c.until(lambda: all(len(x.body) >= len(message(b"one")) for x in calls))
        c.request("GET", "/held")
        return self.wait(*BEGUN)

    def wait(self, connections, requests):
        """Until exactly that is there; the document then."""
        last = {}

        def there():
            last["doc"] = self.gate.status()
            return counts(last["doc"]["traffic"]) == (connections, requests)
        try:
            wait_for("what was begun", there, every=0.05)
        except AssertionError:
            raise AssertionError(f"{connections} {requests} wanted, not {counts(last['doc']['traffic'])}") from None
        return last["doc"]

    def scrape(self):
        with Conn(("127.0.0.1", self.metrics)) as c:
            return Scrape(c.get("/metrics", "metrics").body.decode())


def counts(traffic):
    return tuple({k: n for k, n in traffic[part].items() if n} for part in ("connections", "requests"))


@case(both=True)
def test_by_kind(t):
    """Connections by protocol, requests by kind; the workers' numbers add up to them; metrics say the same; all go back to nothing."""
    s = Busy(t)
    doc = s.begin()
    for part in ("connections", "requests"):
        for kind, n in doc["traffic"][part].items():
            assert n == sum(w["traffic"][part][kind] for w in doc["workers"]), (part, kind, doc["workers"])
        assert doc["counters"][part] == sum(doc["traffic"][part].values()), doc["counters"]
    m = s.scrape()
    for protocol, transport, n in (("http/1.1", "plain", 4), ("http/1.1", "tls", 1), ("h2", "tls", 1), ("h2", "plain", 0)):    # one asks
        assert m.get("headgate_connections", protocol=protocol, transport=transport) == n, (protocol, transport, m.values["headgate_connections"])
    for kind, n in (("http", 2), ("grpc", 1), ("grpc-web", 1), ("sse", 1), ("websocket", 1)):
        assert m.get("headgate_http_requests_in_flight", kind=kind) == n, (kind, m.values["headgate_http_requests_in_flight"])
    s.wait(*BEGUN)      # without the scrape's
    out = s.gate.cli("status").stdout
    assert re.search(r"traffic +6 connections \(3 http/1.1, 1 http/1.1 tls, 1 h2 tls, 1 tcp\)\n", out), out
    assert "6 requests under way (2 http, 1 grpc, 1 grpc-web, 1 websocket, 1 sse), " in out, out
    for c in s.open:
        c.close()
    s.wait({}, {})


@case()
def test_access_log_of_each_kind(t):
    """A line for each when it is over, which names its kind; the man page has all members of these lines and no others."""
    s = Busy(t)
    s.begin()
    for c in s.open:
        c.close()
    s.wait({}, {})
    lines = [json.loads(x) for x in s.gate.log().splitlines() if x.startswith('{"ts"') and '"bytes_in"' in x]
    assert sorted(x.get("kind", "http") for x in lines) == ["grpc", "grpc-web", "http", "http", "sse", "stream", "websocket"], lines
    for x in lines:
        calls = {"call", "grpc_status", "messages_in", "messages_out"} & set(x)
        assert len(calls) == (4 if x.get("kind") in ("grpc", "grpc-web") else 0), x
        if calls:
            assert (x["call"], x["grpc_status"], x["messages_in"], x["messages_out"]) == ("unary", "CANCELLED", 1, 1), x
    with open(os.path.join(ROOT, "man", "headgate.8")) as f:
        section = f.read().split(".Ss The access log")[1].split(".El")[0]
    told = {name for line in re.findall(r"^\.It Li (.*)$", section, re.M) for name in line.split(" , ")}
    assert told == {name for x in lines for name in x}, told ^ {name for x in lines for name in x}


@case()
def test_handshakes(t):
    """A connection whose TLS handshake is not done has no protocol yet."""
    s = Busy(t)
    s.keep(Conn(("127.0.0.1", s.gate.https)))
    s.wait({"handshake": 1}, {})
    s.open[0].close()
    s.wait({}, {})


@case(serial=True)
def test_killed_worker(t):
    """What a worker had goes with it when it is killed, and the one in its place counts from nothing; the others' numbers stay."""
    s = Busy(t)
    s.begin()
    for _ in range(20):         # until both workers have something
        s.keep(s.gate.plain()).request("GET", "/held", "localhost")
    wait_for("both at work", lambda: all(w["requests"] for w in s.gate.status()["workers"]))
    doc = s.gate.status()
    victim, other = doc["workers"]
    os.kill(victim["pid"], signal.SIGKILL)
    s.gate.wait_workers(without=[victim["pid"]])
    s.wait(*counts(other["traffic"]))
    new = next(w for w in s.gate.status()["workers"] if w["slot"] == victim["slot"])
    assert counts(new["traffic"]) == ({}, {}) and new["requests_total"] == victim["requests_total"], new


@case()
def test_listeners(t):
    """Each listener's state, connections and who accepts for each slot; a slot without its worker is lent, and shown so."""
    s = Busy(t)
    s.keep(s.gate.plain())
    s.wait({PLAIN: 1}, {})
    doc = s.gate.status()
    by_kind = {x["kind"]: x for x in doc["listeners"]}
    assert by_kind["http"]["state"] == by_kind["https"]["state"] == "serving", doc["listeners"]
    assert by_kind["http"]["connections"] == by_kind["http"]["accepted"] == 1 and by_kind["https"]["connections"] == 0, by_kind
    pids = [w["pid"] for w in doc["workers"]]
    assert [(x["slot"], x["pid"], x["lent"]) for x in by_kind["http"]["slots"]] == [(0, pids[0], False), (1, pids[1], False)], by_kind
    s.gate.reload_ok(s.config, top={"workers": "1"})
    wait_for("the slot to be lent", lambda: next(x for x in s.gate.status()["listeners"] if x["kind"] == "http")["lent"] == 1)
    wait_for("the worker's end", lambda: len(s.gate.workers()) == 1)
    http = next(x for x in s.gate.status()["listeners"] if x["kind"] == "http")
    assert http["state"] == "serving" and [(x["slot"], x["worker"], x["lent"]) for x in http["slots"]] == [(0, 0, False), (1, 0, True)], http
    out = s.gate.cli("status").stdout
    assert re.search(r"http +127\.0\.0\.1:\d+ +serving +\d+ +slot 1 lent to worker 0\n", out), out


@case()
def test_watch(t):
    """--watch on a terminal: the screen is drawn anew with what changed meanwhile; without one a block after the other."""
    s = Busy(t)
    ours, theirs = pty.openpty()
    t.defer(lambda: os.close(ours))
    env = {k: v for k, v in os.environ.items() if k != "NO_COLOR"}
    watch = subprocess.Popen(t.as_user([t.program, "status", "--watch", "--config", s.gate.file]), stdin=theirs, stdout=theirs, stderr=theirs,
                             env={**env, "TERM": "xterm"})
    os.close(theirs)
    t.defer(lambda: (watch.kill(), watch.wait()))
    shown = bytearray()

    def shows(text):
        while select.select([ours], [], [], 0)[0]:
            shown.extend(os.read(ours, 65536))
        return text in shown
    wait_for("the first screen", lambda: shows(b"0 requests under way"))
    s.keep(s.gate.plain()).request("GET", "/held", "localhost")
    wait_for("the request on it", lambda: shows(b"1 request under way (1 http)"))
