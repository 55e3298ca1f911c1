"""
What every stock client is asked, and what it must see: the rows of test_clients.py. A call is a spec of plain data (note.js says what
its words mean), so that each client runs the same ones.
"""
from headgate import *

SERVERS = {"grpc-js": "js.localhost", "grpcio": "py.localhost"}
BIG = 4_000_000
DETAILS = "08%02x120c6d61646520746f206661696c1a290a1e747970652e676f6f676c65617069732e636f6d2f70726f62652e4e6f746512070a037768791007"
FAILURE = {"x-why": "because"}


def note(text="", n=0):
    return {"text": text, "n": n}


def ask(method, *notes, **kw):
    return dict(method=method, notes=list(notes) or [note()], **kw)


def failure(code, number, got=(), head=None):
    return dict(code=code, message="made to fail: ä%", got=list(got), head=head or {}, tail={**FAILURE, "grpc-status-details-bin": DETAILS % number})


class Ask(Row):
    """spec: the call; want: what the client must see of it, `code` as one name or a set; quiet: and no call is left waiting at the server."""

    def __init__(self, name, spec, quiet=False, **want):
        super().__init__(name, spec=spec, quiet=quiet, want=want)


META = [["x-echo", "1"], ["x-echo", "two words"], ["x-echo-raw-bin", "00ff10"]]
HEAD, TAIL = {"x-echo": "1, two words", "x-echo-raw-bin": "00ff10"}, {"x-tail": "1, two words", "x-tail-raw-bin": "00ff10"}

# All clients: the calls of which the server streams at most.
CASES = [
    Ask("unary", ask("Unary", note("hällo", 41)), code="OK", got=[note("hällo", 42)]),
    Ask("unary_empty", ask("Unary"), code="OK", got=[note("", 1)]),
    Ask("server_stream", ask("Count", note("ä", 300)), code="OK", got=[note("ä", i) for i in range(300)]),
    Ask("server_stream_of_none", ask("Count", note("", 0)), code="OK", got=[]),
    Ask("error_with_details", ask("Fail", note("late", 9)), **failure("FAILED_PRECONDITION", 9, head={"x-begin": "1"})),
    Ask("error_after_a_message", ask("FailAfter", note("", 5)), **failure("NOT_FOUND", 5, [note("one", 1)])),
    Ask("trailers_only", ask("Fail", note("", 7)), **failure("PERMISSION_DENIED", 7)),
    Ask("unknown_method", ask("Nothing"), code="UNIMPLEMENTED", got=[]),
    Ask("metadata", ask("Meta", metadata=META), code="OK", head=HEAD, tail=TAIL),
    Ask("message_of_4_MB", ask("Unary", dict(size=BIG, n=1)), code="OK", got=[dict(size=BIG, n=2)]),
    Ask("message_too_large", ask("Unary", dict(size=BIG + 500_000, n=1)), code="RESOURCE_EXHAUSTED", got=[]),
    Ask("cancel", ask("Hang", at_first="cancel"), quiet=True, code="CANCELLED", got=[note("first", 1)]),
    Ask("deadline", ask("Wait", timeout=300), quiet=True, code="DEADLINE_EXCEEDED", got=[]),
    Ask("killed_unary", ask("Unary", note("die")), code="UNAVAILABLE", got=[]),
    Ask("killed_server_stream", ask("Hang", at_first="kill"), code="UNAVAILABLE", got=[note("first", 1)]),
    # Inside a message no trailers can follow: the transport is aborted, which clients report in their own words.
    Ask("killed_in_full_flow", ask("Flood", at_first="kill", flood=True), code={"UNAVAILABLE", "INTERNAL"}, got=[dict(size=100000, n=1)]),
    Ask("after_the_kills", ask("Unary", note("again", 1)), code="OK", got=[note("again", 2)]),
]

# Clients of plain gRPC stream too.
STREAMING = [
    Ask("client_stream", ask("Sum", *[note("x", i) for i in range(300)]), code="OK", got=[note("sum", 44850)]),
    Ask("bidi_stream", ask("Chat", *[note("x", i) for i in range(300)]), code="OK", got=[note("x", i) for i in range(300)]),
    Ask("killed_client_stream", ask("Sum", note("die"), open=True), code="UNAVAILABLE", got=[]),
    Ask("killed_bidi_stream", ask("Chat", note("x"), open=True, at_first="kill"), code="UNAVAILABLE", got=[note("x")]),
]


def bundles():
    """The folder of what tests/node became; made anew when it is out of date."""
    r = subprocess.run([os.path.join(ROOT, "mk", "node")], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=200)
    assert r.returncode == 0, r.stdout
    return os.path.join(ROOT, "build", "node")


class Gate:
    """headgate in front of the servers, each on a host of its own, and what the clients have in common."""

    def __init__(self, t, servers=SERVERS, extra=""):
        self.t = t
        self.files = t.path("node")
        os.mkdir(self.files)
        built = bundles()
        for name in os.listdir(built):
            if name.endswith(".js"):
                shutil.copy(os.path.join(built, name), self.files)
        run = {"grpc-js": [shutil.which("node"), os.path.join(self.files, "node_server.js")],
               "grpcio": [PYTHON, os.path.join(HERE, "probe_grpcio.py"), "serve"]}
        config = "".join(
            f"  {name}:\n    host: {SERVERS[name]}\n    services:\n"
            f"      app: {{ run: {json.dumps(run[name] + ['$listen'])}, protocol: grpc, ready: {{ tcp: on }}, restart: {{ min: 10ms, max: 50ms }} }}\n"
            "    grpc: app\n    routes: { /: { respond: web } }\n" for name in servers)
        self.gate = t.headgate("sites:\n" + config + extra, workers=1)

    def check(self, row, host, run):
        """run(spec) is the client's way to make a call and say what it saw."""
        outcome = run(dict(row.spec, host=host))
        for key, want in row.want.items():
            have = outcome[key]
            if isinstance(want, dict):
                assert want.items() <= have.items(), (key, have, want)
            else:
                assert have in want if isinstance(want, set) else have == want, (key, outcome if len(str(outcome)) < 2000 else str(outcome)[:2000])
        if "kill" in row.name:      # the next one is not to meet the end of this one
            wait_for("the next instance", lambda: run(dict(ask("Unary"), host=host))["code"] == "OK")
        if row.quiet:
            wait_for("the server to hear of the call's end", lambda: run(dict(ask("Live"), host=host))["got"] == [note("", 0)])


class Peer:
    """A client that is a program: a call a line in, what it saw a line out."""

    def __init__(self, t, gate, *command):
        self.p = subprocess.Popen([*command, f"127.0.0.1:{gate.gate.https}", gate.gate.ca], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        t.defer(self.close)

    def __call__(self, spec):
        self.p.stdin.write(json.dumps(spec) + "\n")
        self.p.stdin.flush()
        line = self.p.stdout.readline()
        assert line, f"the client ended: {self.p.wait()}"
        return json.loads(line)

    def close(self):
        self.p.stdin.close()
        self.p.stdout.close()
        assert self.p.wait(30) == 0
