"""
What every stock client is asked, and what it must see: the rows of test_clients.py. A call is a spec of plain data (note.js says what
its words mean), so that each client runs the same ones.
"""
import base64
import glob
import hashlib

from chromium import Chromium
from headgate import *

PAGE = "page.localhost"         # serves pages alone
NOBODY_HOME = "none.localhost"  # its service has no instance
SERVERS = {"grpc-js": "js.localhost", "grpcio": "py.localhost", "grpc-go": "go.localhost"}
BIG = 4_000_000
SAID = "made to fail: ä%"


def note(text="", n=0):
    return {"text": text, "n": n}


def ask(method, *notes, **kw):
    return dict(method=method, notes=list(notes) or [note()], **kw)


def failure(code, number, got=(), head=None):
    """With its details: a google.rpc.Status that holds a Note."""
    detail = b"\x0a\x1etype.googleapis.com/probe.Note" + b"\x12\x07" + b"\x0a\x03why\x10\x07"
    status = bytes([0x08, number, 0x12, len(SAID.encode())]) + SAID.encode() + bytes([0x1a, len(detail)]) + detail
    return dict(code=code, message=SAID, got=list(got), head=head or {}, tail={"x-why": "because", "grpc-status-details-bin": status.hex()})


class Ask(Row):
    """
    spec: the call; want: what the client must see of it, `code` as one name or a set; quiet: and no call is left waiting at the server;
    host: whom the call is for, if not the server under test.
    """

    def __init__(self, name, spec, quiet=False, host=None, **want):
        super().__init__(name, spec=spec, quiet=quiet, host=host, want=want)


META = [["x-echo", "1"], ["x-echo", "two words"], ["x-echo-raw-bin", "00ff10"]]
HEAD = {"x-echo": "1, two words", "x-echo-raw-bin": "00ff10", "x-two": "a, b"}
TAIL = {"x-tail": "1, two words", "x-tail-raw-bin": "00ff10", "x-tail-two": "a, b"}

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
    Ask("no_instance", ask("Unary"), host=NOBODY_HOME, code="UNAVAILABLE", message="no instance of the service is ready", got=[]),
    Ask("metadata", ask("Meta", metadata=META), code="OK", head=HEAD, tail=TAIL),
    Ask("message_of_4_MB", ask("Unary", dict(size=BIG, n=1)), code="OK", got=[dict(size=BIG, n=2)]),
    Ask("message_too_large", ask("Unary", dict(size=BIG + 500_000, n=1)), code="RESOURCE_EXHAUSTED", got=[]),
    Ask("metadata_too_large", ask("Unary", metadata=[["x-echo", "y" * 40000]]), code="RESOURCE_EXHAUSTED",
        message="the head is larger than limits.header or limits.headers", got=[]),
    Ask("cancel", ask("Hang", at_first="cancel"), quiet=True, code="CANCELLED", got=[note("first", 1)]),
    Ask("cancel_unary", ask("Wait", when_live="cancel"), quiet=True, code="CANCELLED", got=[]),
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
    Ask("gzip", ask("Unary", dict(size=BIG, n=1), compress=True), code="OK", got=[dict(size=BIG, n=2)]),
    Ask("gzip_bidi_stream", ask("Chat", *[dict(size=100_000, n=i) for i in range(30)], compress=True), code="OK",
        got=[dict(size=100_000, n=i) for i in range(30)]),
    Ask("answered_early", ask("Sum", note("", 5), note("enough"), open=True), code="OK", got=[note("enough", 5)]),
    Ask("failed_early", ask("Sum", note("no"), open=True), **failure("FAILED_PRECONDITION", 9)),
    Ask("killed_client_stream", ask("Sum", note("die"), open=True), code="UNAVAILABLE", got=[]),
    Ask("killed_bidi_stream", ask("Chat", note("x"), open=True, at_first="kill"), code="UNAVAILABLE", got=[note("x")]),
]


def peers(t, go=False):
    """What tests/node (and tests/go) became, made anew when it is out of date, in a folder that every user can read."""
    files = t.path("node")
    os.mkdir(files)
    for kind in ["node", "go"] if go else ["node"]:
        r = subprocess.run([os.path.join(ROOT, "mk", kind)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=200)
        assert r.returncode == 0, r.stdout
        for path in glob.glob(os.path.join(ROOT, "build", kind, "*.js" if kind == "node" else "probe")):
            shutil.copy(path, files)
    return files


class Gate:
    """headgate in front of the servers, each on a host of its own, and what the clients have in common."""

    def __init__(self, t, servers=SERVERS):
        self.t = t
        self.files = peers(t, "grpc-go" in servers)
        run = {"grpc-js": [shutil.which("node"), os.path.join(self.files, "node_server.js")],
               "grpcio": [PYTHON, os.path.join(HERE, "probe_grpcio.py"), "serve"],
               "grpc-go": [os.path.join(self.files, "probe"), "serve"]}
        config = "".join(
            f"  {name}:\n    host: {SERVERS[name]}\n    https: both\n    services:\n"
            f"      app: {{ run: {json.dumps(run[name] + ['$listen'])}, protocol: grpc, ready: {{ tcp: on }}, restart: {{ min: 10ms, max: 50ms }} }}\n"
            f"    grpc: {{ service: app, cors: [\"https://{PAGE}:@HTTPS\"] }}\n    routes: {{ /: {{ files: {self.files} }} }}\n" for name in servers)
        config += (f"  none:\n    host: {NOBODY_HOME}\n    https: both\n    services:\n      app: {{ run: [\"/bin/sleep\", \"1000\"], protocol: grpc,"
                   f" listen: \"127.0.0.1:{t.port()}\", ready: {{ tcp: on }}, wait_ready: 100ms }}\n"
                   "    grpc: { service: app, cors: \"*\" }\n    routes: { /: { respond: none } }\n")
        config += f"  page: {{ host: {PAGE}, routes: {{ /: {{ files: {self.files} }} }} }}\n"
        self.gate = t.unstarted("", workers=1)
        self.gate.configure("sites:\n" + config.replace("@HTTPS", str(self.gate.https)))
        self.gate.start()

    def check(self, row, host, run, differs=None):
        """run(spec) is the client's way to make a call and say what it saw; differs: what this client sees otherwise, by its own rules."""
        outcome = run(dict(row.spec, host=row.host or host))
        for key, want in {**row.want, **(differs or {}).get(row.name, {})}.items():
            have = outcome[key]
            if isinstance(want, dict):
                assert want.items() <= have.items(), (key, have, want)
            else:
                assert have in want if isinstance(want, set) else have == want, (key, outcome if len(str(outcome)) < 2000 else str(outcome)[:2000])
        if "kill" in row.name:      # the next one is not to meet the end of this one
            wait_for("the next instance", lambda: run(dict(ask("Unary"), host=host))["code"] == "OK")
        if row.quiet:
            wait_for("the server to hear of the call's end", lambda: run(dict(ask("Live"), host=host))["got"] == [note("", 0)])


class Browser:
    """Chromium with a page of one client, served by the gate itself; on the host of its calls, or on another one."""

    def __init__(self, t, gate, script, hosts):
        self.gate, self.script, self.place = gate, script, None
        t.write(f"node/{script}.html", f'<!doctype html><meta charset="utf-8"><title>{script}</title><script src="{script}.js"></script>')
        self.page = Chromium(t.dir, ",".join(key_digest(gate, h) for h in hosts))
        t.defer(self.page.close)

    def origin(self, host, scheme):
        return f"{scheme}://{host}:{self.gate.https if scheme == 'https' else self.gate.http}"

    def at(self, host, scheme="https"):
        if (host, scheme) == self.place:
            return
        self.page.open(f"{self.origin(host, scheme)}/{self.script}.html")
        wait_for("the page", lambda: self.page.js("document.readyState") == "complete")
        spoken = self.page.js("performance.getEntriesByType('navigation')[0].nextHopProtocol")
        assert spoken == {"https": "h2", "http": "http/1.1"}[scheme], spoken
        self.place = host, scheme

    def __call__(self, spec):
        return self.page.js(f"probe({json.dumps(dict(spec, host=self.origin(spec['host'], self.place[1])))})")


def key_digest(gate, host):
    """Chromium's way to name a certificate that it shall trust."""
    key = subprocess.run(["openssl", "x509", "-noout", "-pubkey"], input=served_certificate(gate, host), stdout=subprocess.PIPE, check=True).stdout
    der = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "DER"], input=key, stdout=subprocess.PIPE, check=True).stdout
    return base64.b64encode(hashlib.sha256(der).digest()).decode()


def served_certificate(gate, host):
    """As PEM; checked against the local CA."""
    with gate.tls(host) as c:
        return ssl.DER_cert_to_PEM_cert(c.sock.getpeercert(True)).encode()


class Peer:
    """A client that is a program: a call a line in, what it saw a line out."""

    def __init__(self, t, command, env=None):
        self.p = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
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
