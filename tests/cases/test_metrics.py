"""Metrics in Prometheus' format, /healthz and /readyz: what is counted, by which names, and when it may go down (never)."""
import re

from h2backend import H2Backend
from h2wire import h2
from headgate import *
from load import Load
from test_grpc import by_path, grpc_site, message

LINE = re.compile(r'^([a-z_]+)(?:\{(.*)\})? (-?[0-9.]+(?:e[+-]?[0-9]+)?)$')
LABEL = re.compile(r'([a-z_]+)="((?:[^"\\]|\\.)*)"(?:,|$)')


class Scrape:
    """The text, parsed strictly: {name: {labels as a sorted tuple: value}}."""

    def __init__(self, text):
        self.text, self.values, self.types, self.helped = text, {}, {}, set()
        assert text.endswith("\n"), text[-100:]
        for line in text[:-1].split("\n"):
            if line.startswith("# HELP "):
                self.helped.add(line.split(" ", 3)[2])
                continue
            if line.startswith("# TYPE "):
                _, _, name, kind = line.split(" ")
                assert name not in self.types, f"two families {name}"
                self.types[name] = kind
                continue
            m = LINE.match(line)
            assert m, line
            labels = LABEL.findall(m[2] or "")
            assert ",".join(f'{k}="{v}"' for k, v in labels) == (m[2] or ""), line
            key = tuple(sorted(labels))
            assert key not in self.values.setdefault(m[1], {}), f"twice: {line}"
            self.values[m[1]][key] = float(m[3])

    def get(self, name, **labels):
        """The value of the one series that has these labels, or of none: 0."""
        want = {(k.rstrip("_"), v) for k, v in labels.items()}
        found = [v for k, v in self.values.get(name, {}).items() if want <= set(k)]
        assert len(found) <= 1, (name, labels, found)
        return found[0] if found else 0

    def sum(self, name, **labels):
        want = set(labels.items())
        return sum(v for k, v in self.values.get(name, {}).items() if want <= set(k))

    def growing(self):
        """Everything that may never go down: counters and the parts of histograms."""
        out = {}
        for name, kind in self.types.items():
            if kind == "counter":
                out.update({(name, k): v for k, v in self.values.get(name, {}).items()})
            if kind == "histogram":
                for part in ("_bucket", "_sum", "_count"):
                    out.update({(name + part, k): v for k, v in self.values.get(name + part, {}).items()})
        return out


class Watched:
    """A gate with metrics on a port of its own, and the questions put to it."""

    def __init__(self, t, config, start=True, **kw):
        self.port = t.port()
        top = kw.pop("top", {})
        self.sites = config
        self.gate = t.unstarted(config, top={"metrics": f'"127.0.0.1:{self.port}"', **top}, **kw)
        if start:
            self.gate.start()

    def conn(self):
        return Conn(("127.0.0.1", self.port))

    def ask(self, target, **kw):
        with self.conn() as c:
            return c.get(target, "metrics", **kw)

    def scrape(self):
        a = self.ask("/metrics")
        assert a.status == 200 and a.get("content-type").startswith("text/plain; version=0.0.4"), a
        return Scrape(a.body.decode())

    def wait(self, what, probe):
        """A scrape of which probe is true: requests are counted a moment after their answer is out."""
        last = {}

        def good():
            last["s"] = self.scrape()
            return probe(last["s"])
        wait_for(what, good, every=0.05)
        return last["s"]

    def ready(self):
        a = self.ask("/readyz")
        return a.status, a.body.decode()


def channels(run, extra=""):
    return ("channels:\n  beta:\n    host: beta.localhost\n    aliases: [b.localhost]\n    redirect_from: [old.localhost]\n    https: both\n"
            f"    services: {{ api: {{ run: {run}{extra} }} }}\n"
            "    routes:\n      /: { respond: hello }\n      /api/: { proxy: api }\n      /gone: { respond: bye, status: 410 }\n")


def never_down(before, after):
    """Each series of a counter is still there and not lower."""
    a, b = before.growing(), after.growing()
    lost = [k for k in a if k not in b]
    assert not lost, lost[:5]
    lower = [(k, a[k], b[k]) for k in a if b[k] < a[k]]
    assert not lower, lower[:5]


def check_histograms(s):
    for name in [n for n, kind in s.types.items() if kind == "histogram"]:
        rows = {}
        for key, v in s.values.get(name + "_bucket", {}).items():
            le = dict(key)["le"]
            rest = tuple(x for x in key if x[0] != "le")
            rows.setdefault(rest, []).append((float("inf") if le == "+Inf" else float(le), v))
        assert rows, name
        for rest, buckets in rows.items():
            buckets.sort()
            counts = [v for _, v in buckets]
            assert counts == sorted(counts) and buckets[-1][0] == float("inf"), (name, rest, buckets)
            assert counts[-1] == s.values[name + "_count"][rest], (name, rest)
            least = sum(low * (n - m) for (low, m), (_, n) in zip(buckets, buckets[1:]))
            assert s.values[name + "_sum"][rest] >= least * 0.999, (name, rest, buckets)


@case(both=True)
def test_promtool(t):
    """promtool finds nothing to complain about; names, types and help are by convention."""
    w = Watched(t, channels(t.service("ok")))
    w.gate.get("/", "beta.localhost")
    s = w.wait("processes", lambda s: s.get("headgate_process_resident_memory_bytes", process="worker 1") > 0)
    r = t.run(["promtool", "check", "metrics"], input=s.text)
    assert r.returncode == 0 and not r.stdout and not r.stderr, (r.stdout, r.stderr)
    assert set(s.types) == s.helped, set(s.types) ^ s.helped
    for name, kind in s.types.items():
        assert name.startswith("headgate_") and name.endswith("_total") == (kind == "counter"), (name, kind)
    check_histograms(s)


@case()
def test_counts_are_exact(t):
    """Known requests over two workers, h1 and TLS: every count is exactly theirs, whichever worker answers the scrape."""
    w = Watched(t, channels(t.service("ok")), workers=2)
    gate = w.gate
    for i in range(20):
        assert gate.get("/x", "beta.localhost", secure=i % 2 == 0).status == 200
    for _ in range(7):
        assert gate.get("/api/y", "beta.localhost", method="POST", body=b"z" * 100).status == 200
    for _ in range(3):
        assert gate.get("/gone", "b.localhost", secure=False).status == 410
    for _ in range(2):
        assert gate.get("/", "old.localhost", secure=False).status == 308
    at = dict(channel="beta", host="beta.localhost")
    s = w.wait("32 requests", lambda s: s.sum("headgate_http_requests_total") == 32)
    assert s.get("headgate_http_requests_total", route="/", method="GET", status="2xx", **at) == 20, s.text
    assert s.get("headgate_http_requests_total", route="/api/", method="POST", status="2xx", **at) == 7
    assert s.get("headgate_http_requests_total", route="/gone", method="GET", status="4xx", **at) == 3
    assert s.get("headgate_http_requests_total", route="_other", method="GET", status="3xx", **at) == 2
    assert s.get("headgate_http_request_body_bytes_total", route="/api/", **at) == 700
    assert s.get("headgate_http_response_body_bytes_total", route="/", **at) == 100
    assert s.get("headgate_http_request_duration_seconds_count", route="/", **at) == 20
    assert s.get("headgate_service_answers_total", channel="beta", service="api", status="2xx") == 7
    assert s.get("headgate_service_response_duration_seconds_count", service="api") == 7
    assert 1 <= s.get("headgate_service_connects_total", service="api") <= 7
    assert s.get("headgate_http_requests_begun_total") == 32, "scrapes are not requests of a site"
    assert s.sum("headgate_http_requests_in_flight") == 0
    assert s.sum("headgate_tls_handshakes_total", result="full") == 17
    assert s.get("headgate_listener_connections_total", kind="https") == 17
    assert s.get("headgate_listener_connections_total", kind="http") == 15
    check_histograms(s)
    for _ in range(6):      # both workers say the same
        again = w.scrape()
        assert again.values["headgate_http_requests_total"] == s.values["headgate_http_requests_total"]


@case()
def test_clients_make_no_series(t):
    """Unknown hosts are _other; nothing that a client sends becomes a label, and nothing adds a series."""
    w = Watched(t, channels(t.service("ok")))
    gate = w.gate
    gate.get("/", "beta.localhost", secure=False)
    gate.get("/", "unknown.example", secure=False)
    gate.get("/", "beta.localhost", secure=False, method="BREW")
    gate.get("/", "beta.localhost", secure=False)
    s = w.wait("4 requests, and each process was looked at", lambda s: s.sum("headgate_http_requests_total") == 4 and all(
        s.get("headgate_process_resident_memory_bytes", process=p) > 0 for p in ("master", "agent", "worker 0", "worker 1")))
    before = {(name, key) for name, v in s.values.items() for key in v}
    for i in range(30):
        gate.get(f"/evil-{i}\"}}", f"evil-{i}.example", secure=False)
        gate.get(f"/evil-{i}%22x?evil", "beta.localhost", secure=False, method=f"EVIL{i}" if i % 2 else "GET")
    s = w.wait("64 requests", lambda s: s.sum("headgate_http_requests_total") == 64)
    assert s.get("headgate_http_requests_total", host="_other", channel="_other", route="_other", method="GET", status="4xx") == 31
    assert "evil" not in s.text.lower() and "unknown.example" not in s.text
    assert {(name, key) for name, v in s.values.items() for key in v} == before


@case(serial=True)
def test_never_down(t):
    """A worker's kill -9, a reload that changes routes, fewer workers: what was counted stays counted, in each series."""
    w = Watched(t, channels(t.service("ok")), workers=2)
    gate = w.gate
    for _ in range(40):
        gate.get("/", "beta.localhost", secure=False)
        gate.get("/api/", "beta.localhost", secure=False)
    s = w.wait("80 requests", lambda s: s.sum("headgate_http_requests_total") == 80)
    victims = gate.workers()
    for v in victims:
        os.kill(v, signal.SIGKILL)
    gate.wait_workers(without=victims)
    after = w.wait("restarts", lambda s: s.get("headgate_process_restarts_total", process="worker") == 2)
    never_down(s, after)
    assert after.sum("headgate_http_requests_total") == 80
    assert after.sum("headgate_connections") <= 1 and after.sum("headgate_http_requests_in_flight") == 0
    gate.reload_ok(channels(t.service("ok")).replace("      /gone: { respond: bye, status: 410 }\n", "      /new: { respond: new }\n"),
                   top={"workers": "1"})
    gate.get("/new", "beta.localhost", secure=False)
    last = w.wait("81 requests", lambda s: s.sum("headgate_http_requests_total") == 81)
    never_down(after, last)
    assert last.get("headgate_http_requests_total", route="/new") == 1
    assert last.get("headgate_config_generation") == 2 and last.get("headgate_reloads_total", result="applied") == 1
    assert last.get("headgate_workers_wanted") == 1
    gate.configure("sites: { broken\n")
    assert gate.cli("reload").returncode == 1
    bad = w.scrape()
    assert bad.get("headgate_reloads_total", result="refused") == 1 and bad.get("headgate_last_reload_successful") == 0
    never_down(last, bad)


@case()
def test_scrapes_under_load(t):
    """Scrapes while clients come, workers die and the configuration changes: always whole, never lower, no request lost."""
    w = Watched(t, channels(t.service("ok")).replace("beta.localhost", "localhost"))
    load = Load(w.gate, target="/api/load")
    load.progress()
    s = w.scrape()
    for i in range(12):
        if i == 4:
            w.gate.reload_ok(w.sites.replace("bye", f"bye {i}"))
        s, before = w.scrape(), s
        never_down(before, s)
        check_histograms(s)
        load.progress(20)
    assert not load.stop()
    assert s.sum("headgate_http_requests_total", route="/api/") > 100


@case()
def test_readiness(t):
    """/readyz says no, and which service lacks an instance, until it is ready and again while it is down; /healthz says yes."""
    go = t.path("go")
    run = f'["/bin/sh", "-c", "while ! test -e {go}; do sleep 0.05; done; exec {PYTHON} {HERE}/service.py ok $$0", "$listen"]'
    w = Watched(t, channels(run, ", restart: { min: 10s, max: 10s }"))
    status, text = w.ready()
    assert status == 503 and text == "beta/api: no ready instance\n", (status, text)
    assert w.ask("/healthz").status == 200
    t.write("go", "")
    wait_for("ready", lambda: w.ready() == (200, "ready\n"))
    w.wait("a ready instance", lambda s: s.get("headgate_service_instances", service="api", state="ready") == 1)
    procs.kill_all(w.gate.service_pids())
    wait_for("not ready", lambda: w.ready()[0] == 503)
    s = w.wait("backoff", lambda s: s.get("headgate_service_instances", service="api", state="backoff") == 1)
    assert s.get("headgate_service_instances", service="api", state="ready") == 0
    assert w.ask("/healthz").body == b"ok\n"


@case()
def test_restarts_are_counted(t):
    """A service that dies is counted by its name; a service that nothing is routed to does not make us unready."""
    config = channels(t.service("ok"), ", restart: { min: 10ms, max: 50ms }").replace(
        "services: { api:", "services: { idle: { run: %s, restart: { min: 10ms, max: 50ms } }, api:" % t.service("exit"))
    w = Watched(t, config)
    wait_for("ready", lambda: w.ready()[0] == 200)
    for pid in w.gate.service_pids():
        os.kill(pid, signal.SIGKILL)
    w.wait("a restart", lambda s: s.get("headgate_service_restarts_total", service="api") == 1)
    w.wait("restarts of the other", lambda s: s.get("headgate_service_restarts_total", service="idle") >= 2)
    wait_for("ready", lambda: w.ready()[0] == 200)


ANSWERS = [Row("metrics_head", method="HEAD", target="/metrics", status=200),
           Row("healthz", method="GET", target="/healthz", status=200),
           Row("healthz_head", method="HEAD", target="/healthz", status=200),
           Row("query_is_no_matter", method="GET", target="/healthz?x=1", status=200),
           Row("root", method="GET", target="/", status=404),
           Row("below", method="GET", target="/metrics/x", status=404),
           Row("site_routes_are_not_here", method="GET", target="/gone", status=404),
           Row("post", method="POST", target="/metrics", status=405),
           Row("delete", method="DELETE", target="/readyz", status=405)]


@table(ANSWERS, lambda t: Watched(t, channels(t.service("ok"))))
def test_answers(t, w, row):
    a = w.ask(row.target, method=row.method)
    assert a.status == row.status, a
    assert (a.body == b"") == (row.method == "HEAD"), a
    if row.status == 405:
        assert a.get("allow") == "GET, HEAD", a


@case()
def test_not_in_the_access_log(t):
    """Scrapes are not written to the access log."""
    path = t.path("access.log")
    t.write("access.log", "", 0o666)
    w = Watched(t, channels(t.service("ok")), top={"log": f"{{ access: {{ to: {path} }} }}"})
    for _ in range(5):
        w.ask("/metrics")
    w.gate.get("/seen", "beta.localhost", secure=False)
    wait_for("the line", lambda: "/seen" in open(path).read())
    w.gate.stop()
    assert open(path).read().count("\n") == 1, open(path).read()


@case()
def test_certificates(t):
    """The end of each host's certificate, as it is shown: given ones and the local CA's."""
    cert, key = certificate(t, "given", ["beta.localhost"])
    w = Watched(t, channels(t.service("ok")) + f"    tls: {{ certificates: [{{ cert: {cert}, key: {key} }}] }}\n")
    name = "headgate_certificate_not_after_timestamp_seconds"
    s = w.scrape()
    end = t.run(["openssl", "x509", "-noout", "-enddate", "-dateopt", "iso_8601", "-in", cert]).stdout.strip().split("=")[1]
    import datetime
    want = datetime.datetime.strptime(end, "%Y-%m-%d %H:%M:%SZ").replace(tzinfo=datetime.timezone.utc).timestamp()
    assert s.get(name, host="beta.localhost") == want, (s.values[name], want)
    assert s.get(name, host="b.localhost") > time.time(), s.values[name]


@case(both=True)
def test_listener_moves(t):
    """A reload moves the address, to a Unix socket and to nothing; other listeners do not notice."""
    w = Watched(t, channels(t.service("ok")))
    gate, path = w.gate, t.path("metrics.sock")
    old = w.port
    w.port = t.port()
    gate.reload_ok(w.sites, top={"metrics": f'{{ listen: "127.0.0.1:{w.port}" }}'})
    assert w.ask("/healthz").status == 200
    wait_for("the old address to be free", lambda: port_free(old))
    gate.reload_ok(w.sites, top={"metrics": f'"unix:{path}"'})
    with Conn(path) as c:
        a = c.get("/metrics", "metrics")
        assert a.status == 200 and b'kind="metrics",address="unix:' in a.body, a
    gate.reload_ok(w.sites, top={"metrics": "off"})
    assert not os.path.exists(path)
    assert gate.get("/metrics", "beta.localhost", secure=False).body == b"hello"


@case()
def test_default_and_taken_address(t):
    """Without the key it is 127.0.0.1:9145; a taken address is told with its cure and nothing starts."""
    taken = socket.socket()
    t.defer(taken.close)
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    port = taken.getsockname()[1]
    gate = t.unstarted(channels(t.service("ok")), top={"metrics": f'"127.0.0.1:{port}"'})
    gate.spawn()
    assert gate.wait_exit() == 1
    assert f"cannot listen on 127.0.0.1:{port} (metrics)" in gate.log() and "another program listens there" in gate.log(), gate.log()
    r = gate.configure(channels(t.service("ok")), top={"metrics": None}).cli("check", "--offline")
    assert r.returncode == 0, r.stderr


@case()
def test_stays_reachable_when_full(t):
    """When limits.connections is reached, metrics are still answered: that is when they are wanted."""
    w = Watched(t, channels(t.service("ok")), workers=1, top={"limits": "{ connections: 4 }"})
    held = [w.gate.plain() for _ in range(4)]
    s = w.wait("4 connections", lambda s: s.get("headgate_listener_connections", kind="http") == 4)
    assert s.sum("headgate_connections") == 5
    for c in held:
        c.close()


# --- what is under way, and calls

class Calls:
    """A gate with a gRPC backend by hand, which hears a call out before it answers: what it cuts short has fewer messages."""

    def __init__(self, t):
        self.backend = H2Backend(lambda r: (r.whole(), by_path(r)))
        t.defer(self.backend.close)
        self.watched = Watched(t, grpc_site(f'url: "{self.backend.url}"', "{ service: app, max_message: 1KiB }"), workers=1)
        self.gate = self.watched.gate
        self.before = self.watched.scrape()

    def call(self, path, type="application/grpc", body=None):
        with h2(self.gate) as c:
            headers = [("content-type", type), ("te", "trailers")]
            return c.outcome(c.request("POST", path, headers=headers, body=message(b"q") if body is None else body))


def grown(before, after, name):
    """What was added to each series, by the labels that tell one call from the other."""
    keys = set(before.values.get(name, {})) | set(after.values.get(name, {}))
    rise = {k: after.values.get(name, {}).get(k, 0) - before.values.get(name, {}).get(k, 0) for k in keys}
    return {tuple(dict(k)[label] for label in ("kind", "call", "grpc_status")): v for k, v in rise.items() if v}


CALLS = [
    Row("ok", path="/ok", want=("grpc", "unary", "OK"), messages=(1, 1)),
    Row("web", path="/ok", type="application/grpc-web+proto", want=("grpc-web", "unary", "OK"), messages=(1, 1)),
    Row("client_stream", path="/ok", body=message(b"a") + message(b"b") + message(b"c"), want=("grpc", "client_stream", "OK"), messages=(3, 1)),
    Row("not_found", path="/trailers_only", want=("grpc", "unary", "NOT_FOUND"), messages=(1, 0)),
    Row("no_grpc_at_all", path="/html/404", want=("grpc", "unary", "UNIMPLEMENTED"), messages=(1, 0)),
    Row("made_by_the_gate", path="/hang_up", want=("grpc", "unary", "UNAVAILABLE"), messages=(1, 0)),
    Row("too_large", path="/ok", body=message(b"x" * 2000), want=("grpc", "unary", "RESOURCE_EXHAUSTED"), messages=(0, 0)),
]


@table(CALLS, setup=Calls, serial=True)
def test_grpc_calls(t, s, row):
    """A call counts once, by kind, shape and grpc-status; so do its whole messages; and as a request of its route."""
    before = s.watched.scrape()
    s.call(row.path, row.__dict__.get("type", "application/grpc"), row.__dict__.get("body"))
    last = "headgate_http_request_duration_seconds_count"       # of what is counted for a request: a scrape may come in the midst of it
    s.watched.wait("the call", lambda x: x.sum(last) > before.sum(last))
    after = s.watched.scrape()
    assert grown(before, after, "headgate_grpc_calls_total") == {row.want: 1}, grown(before, after, "headgate_grpc_calls_total")
    seen = tuple(after.sum(n) - before.sum(n) for n in ("headgate_grpc_request_messages_total", "headgate_grpc_response_messages_total"))
    assert seen == row.messages, seen
    assert after.sum("headgate_http_requests_total", method="POST") == before.sum("headgate_http_requests_total", method="POST") + 1
    assert t.run(["promtool", "check", "metrics"], input=after.text).returncode == 0
