"""Stock clients and servers, end to end: each client does the calls of clients.py, or its WebSocket conversations, through the gate, and must see
what its protocol promises."""
from clients import *


def against_each(cases):
    return [Row(f"{server}/{c.name}", ask=c, host=host) for server, host in SERVERS.items() for c in cases]


class Plain(Gate):
    def __init__(self, t, *command):
        super().__init__(t)
        self.run = Peer(t, [c.replace("@", self.files) for c in command] + [f"127.0.0.1:{self.gate.https}", self.gate.ca])


def plain(*command, differs=None):
    @table(against_each(CASES + STREAMING), setup=lambda t: Plain(t, *command))
    def fn(t, s, row):
        s.check(row.ask, row.host, s.run, differs)
    return fn


# Named as the packages are.
globals()["test_grpc-js"] = plain("node", "@/node_grpc_js.js")
test_grpcio = plain(PYTHON, os.path.join(os.path.dirname(__file__), "probe_grpcio.py"), "client")
# It does not even send what is larger than the gate's SETTINGS say.
globals()["test_grpc-go"] = plain("@/probe", "client", differs={
    "metadata_too_large": dict(code="INTERNAL", message="header list size to send violates the maximum size (32768 bytes) set by server")})


# --- in a browser

CROSS = ("unary", "server_stream", "error_with_details", "error_after_a_message", "trailers_only", "metadata")
HTTP1 = CROSS + ("message_of_4_MB", "cancel", "cancel_unary", "deadline", "killed_unary", "killed_server_stream", "killed_in_full_flow")


class Page(Gate):
    def __init__(self, t, script):
        super().__init__(t)
        self.browser = Browser(t, self.gate, script, [*SERVERS.values(), PAGE, NOBODY_HOME])


def in_browser(script, forms=("",), differs=None, without=lambda form, case: False):
    """Each form on a page of the host that it calls, by HTTP/2; from a page of another host; and by HTTP/1.1. Each way to another server."""
    rows = [Row("/".join(filter(None, [form, server + word, c.name])), ask=c, form=form, host=SERVERS[server], page=page)
            for server, word, page, names in (("grpc-js", "", (SERVERS["grpc-js"],), None), ("grpcio", "_cross_origin", (PAGE,), CROSS),
                                              ("grpc-go", "_http1", (SERVERS["grpc-go"], "http"), HTTP1))
            for form in forms for c in CASES if (not names or c.name in names) and not without(form, c)]

    @table(rows, setup=lambda t: Page(t, script))
    def fn(t, s, row):
        s.browser.at(*row.page)
        s.check(row.ask, row.host, lambda spec: s.browser(dict(spec, form=row.form)), differs)
    return fn


def aborted(code):
    """What a client calls it when the transport ends inside a message. The kill may also come between two."""
    return {"killed_in_full_flow": dict(code={code, "UNAVAILABLE"})}


# Its metadata is one value a key, the last one; in binary form it sees messages when the answer is over.
globals()["test_grpc-web"] = in_browser(
    "page_grpc_web", ("text", "binary"), {**aborted("UNKNOWN"), "metadata": dict(tail={**TAIL, "x-tail-two": "b"})},
    without=lambda form, c: form == "binary" and "at_first" in c.spec)
globals()["test_connect-web"] = in_browser("page_connect_web", differs=aborted("UNKNOWN"))
globals()["test_improbable"] = in_browser("page_improbable", differs=aborted("UNKNOWN"))
# It shows grpc-message as it came, and servers differ in what they encode.
RAW = dict(message={"made%20to%20fail:%20%C3%A4%25", "made to fail: %C3%A4%25"})
globals()["test_protobuf-ts"] = in_browser(
    "page_protobuf_ts", ("text", "binary"), {**aborted("INTERNAL"), "error_with_details": RAW, "error_after_a_message": RAW, "trailers_only": RAW})
globals()["test_nice-grpc-web"] = in_browser("page_nice_grpc_web", differs=aborted("UNKNOWN"))


# --- WebSocket, and nats.ws on it

DEFLATE = "permessage-deflate"
# Empty ones before the large one: over HTTP/2 Chromium keeps an empty message that follows it, whatever proxy is there.
MESSAGES = ["hällo", dict(size=0), "", dict(size=1_000_000), "x"]
SOCKETS = [
    Row("echo", spec=dict(path="/ws/echo", messages=MESSAGES, close=[4000, "bye"]), want=dict(code=4000, reason="bye", clean=True, got=MESSAGES)),
    Row("burst", spec=dict(path="/ws/echo", messages=[str(i) for i in range(3000)], close=[1000, ""]),
        want=dict(code=1000, clean=True, got=[str(i) for i in range(3000)])),
    Row("subprotocol", spec=dict(path="/ws/echo", protocols=["a", "b"], messages=["x"], close=[1000, ""]), want=dict(protocol="b", code=1000, got=["x"])),
    Row("closed_by_the_server", spec=dict(path="/ws/close", messages=[]), want=dict(code=4001, reason="enough", clean=True, got=[])),
    Row("killed", spec=dict(path="/ws/echo", messages=["die"]), want=dict(code=1006, clean=False, got=[])),
    Row("no_websocket_there", spec=dict(path="/page", messages=[]), want=dict(code=1006, clean=False, got=[])),
]
NATS = [
    Row("publish", spec=dict(nats="publish", count=2000, size=100), want=dict(good=2000)),
    Row("payload_of_1_MB", spec=dict(nats="publish", count=8, size=1_000_000), want=dict(good=8)),
    Row("request", spec=dict(nats="request"), want=dict(answer="hällo: one two")),
    Row("no_responders", spec=dict(nats="no_responders"), want=dict(error="503")),
    Row("server_killed", spec=dict(nats="hold"), want=dict(answer="again", events=["disconnect", "reconnect"])),
]
SOCKET_HOST = "localhost"


class Sockets:
    """The server of `ws` and a real nats-server, both as services."""

    def __init__(self, t):
        self.t, self.files = t, peers(t)
        nats = t.write("nats.sh", 'printf "listen: 127.0.0.1:-1\\nwebsocket { listen: \\"%s\\", no_tls: true }\\n" "$1" >nats.conf\nexec nats-server -c nats.conf\n')
        again = "restart: { min: 10ms, max: 50ms }"
        self.gate = t.headgate(f"""sites:
  s:
    host: {SOCKET_HOST}
    https: both
    services:
      app: {{ run: ["{shutil.which("node")}", "{self.files}/node_ws_server.js", $listen], {again} }}
      nats: {{ run: [/bin/sh, "{nats}", $listen], {again} }}
    routes:
      /ws/:   {{ proxy: app }}
      /nats/: {{ proxy: nats, strip_prefix: on }}
      /:      {{ files: "{self.files}" }}
""", workers=1)

    def kill_nats(self):
        pid, = [p for p in procs.children(self.gate.master) if "nats-server" in procs.cmdline(p)]
        os.kill(pid, signal.SIGKILL)


class NodeSockets(Sockets):
    def __init__(self, t):
        super().__init__(t)
        self.peer = Peer(t, ["node", os.path.join(self.files, "node_ws.js")], env=dict(os.environ, NODE_EXTRA_CA_CERTS=self.gate.ca))

    def run(self, spec, scheme="https"):
        return self.peer(dict(spec, host=f"{scheme}://localhost:{self.gate.https if scheme == 'https' else self.gate.http}"))


class PageSockets(Sockets):
    def __init__(self, t):
        super().__init__(t)
        self.browser = Browser(t, self.gate, "page_websocket", [SOCKET_HOST])

    def run(self, spec, scheme="https"):
        self.browser.at(SOCKET_HOST, scheme)
        return self.browser(dict(spec, host=SOCKET_HOST))


def websocket(setup, secure_proto):
    rows = [Row(f"{word}/{r.name}", row=r, scheme=scheme, proto=proto)
            for word, scheme, proto in (("wss", "https", secure_proto), ("ws", "http", "HTTP/1.1")) for r in SOCKETS]

    @table(rows, setup=setup)
    def sockets(t, s, row):
        seen = s.run(row.row.spec, row.scheme)
        for key, want in row.row.want.items():
            assert seen[key] == want, (key, str(seen)[:1000])
        if row.row.want["got"]:
            assert DEFLATE in seen["extensions"], seen
            s.gate.wait_log('"kind":"websocket"', f'"proto":"{row.proto}"')
        if row.row.name == "killed":
            wait_for("the next instance", lambda: s.run(dict(path="/ws/echo", messages=["again"], close=[1000, ""]), row.scheme)["got"] == ["again"])

    @table(NATS, setup=setup)
    def nats(t, s, row):
        seen = s.run(dict(row.spec, path="/nats/"))
        if row.spec["nats"] == "hold":
            s.kill_nats()
            seen = s.run(dict(nats="again"))
        assert seen == row.want, seen
    return sockets, nats


test_ws, globals()["test_nats.ws"] = websocket(NodeSockets, "HTTP/1.1")
globals()["test_chromium-websocket"], globals()["test_nats.ws-chromium"] = websocket(PageSockets, "HTTP/2")
