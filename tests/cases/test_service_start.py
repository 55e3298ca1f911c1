"""
How services start and take over: the socket that they are handed, further ports, sd_notify, several instances, and
handover. With the real gunicorn and etcd.
"""
import re

from headgate import *


def who(gate, **kw):
    a = gate.get("/who", **kw)
    assert a.status == 200, a
    return json.loads(a.body)


def service(gate):
    return next(s for s in gate.status()["services"] if s["service"] == "s/app")


def instances(gate, state="ready"):
    return [i for i in service(gate)["instances"] if i["state"] == state]


def address(text):
    host, port = text.rsplit(":", 1)
    return host, int(port)


# --- listen: fd

@case(both=True)
def test_listen_fd(t):
    """listen: fd hands over one listening socket as descriptor 3, told by LISTEN_FDS, LISTEN_PID and LISTEN_FDNAMES."""
    gate = t.headgate(run_site(t.service("ok"), ", listen: fd, env: { LISTEN_FDS: \"7\", LISTEN_PID: \"1\" }"))
    w = who(gate)
    assert w["env"]["LISTEN_FDS"] == "1" and w["env"]["LISTEN_PID"] == str(w["pid"]), w["env"]
    assert w["env"]["LISTEN_FDNAMES"] == "app", w["env"]
    assert re.fullmatch(r"127\.0\.0\.1:\d+", w["argv"][2]), w["argv"]


@case()
def test_listen_fd_outlives_the_process(t):
    """While the process is down, clients of its socket queue: none is refused, and the next process answers them."""
    gate = t.headgate(run_site(t.service("ok"), ", listen: fd, restart: { min: 400ms, max: 400ms }"))
    at, pid = address(service(gate)["address"]), who(gate)["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_for("its end", lambda: not procs.stat(pid))
    queued = [socket.create_connection(at) for _ in range(5)]
    for s in queued:
        s.sendall(b"GET /who HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        s.shutdown(socket.SHUT_WR)
    for s in queued:
        s.settimeout(60)
        data = b""
        while piece := s.recv(65536):
            data += piece
        assert data.startswith(b"HTTP/1.1 200"), data[:200]
        assert json.loads(data.partition(b"\r\n\r\n")[2])["pid"] != pid
        s.close()
    assert address(service(gate)["address"]) == at


APP = '''
import os

def app(environ, start_response):
    body = str(os.getppid()).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
'''


@case(both=True)
def test_gunicorn(t):
    """gunicorn takes the socket as under systemd; killed, it is started again on the same one and no request fails."""
    t.write("app.py", APP)
    run = f'[{PYTHON}, -m, gunicorn, --chdir, "{t.path()}", "app:app"]'
    gate = t.headgate(run_site(run, ", listen: fd, ready: { http: / }, wait_ready: 60s"))
    at = service(gate)["address"]
    first = gate.get("/").body
    assert int(first) == instances(gate)[0]["pid"], first
    assert f"Listening at: http://{at}" in gate.log()
    os.kill(int(first), signal.SIGKILL)
    wait_for("its end", lambda: not procs.stat(int(first)))
    answers = [gate.get("/") for _ in range(20)]
    assert all(a.status == 200 and a.body != first for a in answers), answers
    assert service(gate)["address"] == at


# --- ports

TWO = '''
import http.server, os, sys, threading
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        ok = self.path != "/healthz" or os.path.exists(sys.argv[3])
        self.send_response(200 if ok else 503)
        body = f"{self.server.server_port} {os.environ['ADMIN']} {' '.join(sys.argv[1:3])}".encode()
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *a): pass
servers = [http.server.ThreadingHTTPServer(("127.0.0.1", int(p)), H) for p in sys.argv[1:3]]
for s in servers[1:]:
    threading.Thread(target=s.serve_forever, daemon=True).start()
servers[0].serve_forever()
'''


@case(both=True)
def test_ports(t):
    """$port:NAME in run and env; ready.port names the one that is asked; requests go to $listen's."""
    script, flag = t.write("two.py", TWO), t.path("healthy")
    gate = t.unstarted(run_site(f'[{PYTHON}, {script}, $port, "$port:admin", {flag}]', ", ports: { admin: auto }, env: { ADMIN: \"at-${port:admin}\" }, "
                                "ready: { http: /healthz, port: admin }, wait_ready: 60s"))
    gate.spawn()
    wait_for("the listener", lambda: not port_free(gate.http))
    with gate.plain() as c:
        c.request("GET", "/", "localhost")
        assert c.still_open(0.5), "asked before it was ready"
        t.write("healthy", "")
        own, admin, *argv = c.answer().body.decode().split()
    assert argv == [own, admin[3:]] and own != admin[3:], (own, admin, argv)


@case()
def test_port_fixed(t):
    """A port with a number: the old instance leaves it before the new one starts, and no request fails."""
    script, port = t.write("two.py", TWO), t.port()
    t.write("healthy", "")
    run = f'[{PYTHON}, {script}, $port, "$port:admin", {t.path("healthy")}]'
    gate = t.headgate(run_site(run, f", ports: {{ admin: {port} }}, env: {{ ADMIN: a }}, wait_ready: 60s"))
    assert gate.get("/").body.decode().split()[3] == str(port)
    before = instances(gate)[0]["pid"]
    assert gate.cli("restart", "s/app").returncode == 0
    answers = [gate.get("/") for _ in range(20)]
    assert all(a.status == 200 for a in answers), answers
    wait_for("the new one", lambda: [i["pid"] for i in instances(gate)] not in ([], [before]))


@case()
def test_port_taken(t):
    """A fixed port that somebody else has: said in words."""
    script, other = t.write("two.py", TWO), t.backend()
    gate = t.unstarted(run_site(f'[{PYTHON}, {script}, $port, "$port:admin", /x]', f", ports: {{ admin: {other.port} }}, env: {{ ADMIN: a }}"))
    gate.spawn()
    gate.wait_log(f"127.0.0.1:{other.port} is taken by another program")


@case()
def test_ports_only(t):
    """A program that is told of its ports only is asked and reached at the first of them."""
    script = t.write("two.py", TWO)
    t.write("healthy", "")
    gate = t.headgate(run_site(f'[{PYTHON}, {script}, "$port:a", "$port:b", {t.path("healthy")}]', ", ports: { a: auto, b: auto }, env: { ADMIN: a }"))
    own, _, a, b = gate.get("/").body.decode().split()
    assert own == a and a != b


# --- ready: notify

@case(both=True)
def test_notify(t):
    """ready: notify waits for READY=1, not for the port; STATUS= is in status; STOPPING=1 means no new requests."""
    flag = t.path("go")
    gate = t.unstarted(run_site(t.service("notify-by-file", flag), ", ready: { notify: on }, wait_ready: 60s, restart: { min: 50ms, max: 50ms }"))
    gate.spawn()
    wait_for("the listener", lambda: not port_free(gate.http))
    wait_for("its status", lambda: any(i.get("says") == "reading the index" for i in service(gate)["instances"]))
    assert "reading the index" in gate.cli("status").stdout
    with gate.plain() as c:
        c.request("GET", "/who", "localhost")
        assert c.still_open(0.5), "a service that did not say READY=1 was asked"
        t.write("go", "")
        w = json.loads(c.answer().body)
    assert w["env"]["NOTIFY_SOCKET"].startswith(gate.runtime + "/notify/"), w["env"]
    assert service(gate)["instances"][0]["says"] == "serving"
    assert gate.get("/notify?STOPPING=1").status == 200
    gate.wait_log("it said that it stops")
    os.kill(w["pid"], signal.SIGTERM)
    assert who(gate)["pid"] != w["pid"]


@case(both=True)
def test_notify_strangers(t):
    """READY=1 from a process that is not the instance's own changes nothing and is logged."""
    flag = t.path("go")
    gate = t.unstarted(run_site(t.service("notify-by-file", flag), ", ready: { notify: on }, wait_ready: 60s"))
    gate.spawn()
    wait_for("its status", lambda: not port_free(gate.http) and any(i.get("says") for i in service(gate)["instances"]))
    path = os.path.join(gate.runtime, "notify", os.listdir(os.path.join(gate.runtime, "notify"))[0])
    lie = "import socket,sys\ns = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\ns.sendto(b'READY=1', sys.argv[1])\nsys.stdin.read()"
    liar = subprocess.Popen(t.as_user([PYTHON, "-c", lie, path]), stdin=subprocess.PIPE)
    try:
        gate.wait_log("a stranger wrote to the NOTIFY_SOCKET")
        assert service(gate)["state"] == "starting", service(gate)
    finally:
        liar.communicate(b"")
    t.write("go", "")
    assert who(gate)


@case()
def test_notify_never(t):
    """A program that never says READY=1 is ended after start_timeout; its last status is in the reason."""
    gate = t.unstarted(run_site(t.service("notify-by-file", "/nonexistent/x"), ", ready: { notify: on }, start_timeout: 300ms, restart: { min: 50ms, max: 50ms }"))
    gate.spawn()
    gate.wait_log("it did not say READY=1; its status: reading the index")
    wait_for("a second start", lambda: gate.log().count("service notify-by-file says hello") >= 2)


@case(both=True)
def test_etcd(t):
    """etcd, unchanged: two ports, ready by notify, reached through the gate, its data in the service's own folder."""
    url = "http://127.0.0.1:$port:"
    run = ('[etcd, --data-dir, $data/etcd, --listen-client-urls, "' + url + 'client", --advertise-client-urls, "' + url + 'client", '
           '--listen-peer-urls, "' + url + 'peer", --initial-advertise-peer-urls, "' + url + 'peer", --initial-cluster, "default=' + url + 'peer"]')
    gate = t.headgate(run_site(run, ", ports: { client: auto, peer: auto }, ready: { notify: on }, start_timeout: 0, stop: { timeout: 60s }"))
    assert json.loads(gate.get("/version").body)["etcdserver"]
    assert json.loads(gate.get("/health").body)["health"] == "true"
    assert os.path.isdir(os.path.join(gate.state, "data", "s", "app", "etcd", "member"))
    assert gate.stop() == 0


# --- several instances

def pids_seen(gate, n):
    with gate.plain() as c:
        return [json.loads(c.get("/who").body)["pid"] for _ in range(n)]


@case()
def test_instances_round(t):
    """instances: 3 with balance: round: each in turn, whatever the others do."""
    gate = t.headgate(run_site(t.service("ok"), ", instances: 3, balance: round"), workers=1)
    wait_for("all three", lambda: len(instances(gate)) == 3)
    seen = pids_seen(gate, 9)
    assert len(set(seen)) == 3 and seen[:3] == seen[3:6] == seen[6:9], seen


@case()
def test_instances_least(t):
    """balance: least passes over the one that is busy."""
    gate = t.headgate(run_site(t.service("ok"), ", instances: 2"), workers=1)
    wait_for("both", lambda: len(instances(gate)) == 2)
    with gate.plain() as busy:
        busy.request("GET", "/held", "localhost")
        wait_for("it is under way", lambda: gate.status()["counters"]["requests"] == 1)
        assert len(set(pids_seen(gate, 6))) == 1
    assert len(set(pids_seen(gate, 6))) == 2


@case()
def test_instances_reload(t):
    """More or fewer instances: those that stay are not touched, and no request fails meanwhile."""
    site = run_site(t.service("ok"), ", instances: %d")
    gate = t.headgate(site % 2)
    wait_for("both", lambda: len(instances(gate)) == 2)
    two = {i["pid"] for i in instances(gate)}
    gate.reload_ok(site % 4)
    wait_for("four", lambda: len(instances(gate)) == 4)
    assert two < {i["pid"] for i in instances(gate)}
    gate.reload_ok(site % 1)
    assert all(gate.get("/who").status == 200 for _ in range(20))
    wait_for("one", lambda: len(service(gate)["instances"]) == 1)
    assert instances(gate)[0]["pid"] in two


@case()
def test_instances_one_dies(t):
    """One of three dies again and again: the others serve on."""
    gate = t.headgate(run_site(t.service("ok"), ", instances: 3, wait_ready: 60s"))
    wait_for("all three", lambda: len(instances(gate)) == 3)
    for _ in range(3):
        pid = instances(gate)[0]["pid"]
        os.kill(pid, signal.SIGKILL)
        wait_for("its end", lambda: not procs.stat(pid))
        assert all(gate.get("/who").status == 200 for _ in range(10))
    wait_for("all three again", lambda: len(instances(gate)) == 3)


# --- strategy: handover

@case(both=True)
def test_handover(t):
    """handover: never two at a time; requests under way end, new ones wait, event streams end in order; nothing is lost."""
    lock = t.path("lock")
    t.write("lock", "", mode=0o666)
    gate = t.headgate(run_site(t.service("owns-data", lock), ", strategy: handover, wait_ready: 60s"))
    first, results, go = who(gate)["pid"], [], threading.Event()

    def load():
        with gate.plain() as c:
            while not go.is_set():
                a = c.get("/who")
                results.append((a.status, a.body))
    threads = [threading.Thread(target=load) for _ in range(4)]
    with gate.plain() as stream, gate.plain() as slow:
        stream.request("GET", "/events", "localhost")
        slow.request("GET", "/drip/400", "localhost")
        wait_for("both under way", lambda: gate.status()["counters"]["requests"] == 2)
        for x in threads:
            x.start()
        assert gate.cli("restart", "s/app").returncode == 0
        a = stream.answer()
        assert a.status == 200 and a.body == b"data: 1\n\n", a
        assert slow.answer().status == 200
        assert stream.get("/who").status == 200
        wait_for("the new one", lambda: [i["pid"] for i in instances(gate)] not in ([], [first]))
        done = len(results)
        wait_for("some more requests", lambda: len(results) > done + 20)
        go.set()
    for x in threads:
        x.join()
    assert all(status == 200 for status, _ in results), [r for r in results if r[0] != 200][:3]
    assert {json.loads(b)["pid"] for _, b in results} >= {who(gate)["pid"]}
    assert "BlockingIOError" not in gate.log(), "two instances at a time"


@case()
def test_handover_dies_meanwhile(t):
    """The old instance dies while it is held: the new one starts at once, the old one is not started again."""
    lock = t.path("lock")
    t.write("lock", "", mode=0o666)
    gate = t.headgate(run_site(t.service("owns-data", lock), ", strategy: handover, wait_ready: 60s"))
    first = who(gate)["pid"]
    with gate.plain() as held:
        held.request("GET", "/held", "localhost")
        wait_for("it is under way", lambda: gate.status()["counters"]["requests"] == 1)
        assert gate.cli("restart", "s/app").returncode == 0
        assert service(gate)["instances"][0]["pid"] == first
        os.kill(first, signal.SIGKILL)
        assert who(gate)["pid"] != first
        assert len(service(gate)["instances"]) == 1


@case()
def test_handover_limit(t):
    """A request that does not end holds the handover up for half of wait_ready, not for ever."""
    gate = t.headgate(run_site(t.service("ok"), ", strategy: handover, wait_ready: 1s"))
    first = who(gate)["pid"]
    with gate.plain() as held:
        held.request("GET", "/held", "localhost")
        wait_for("it is under way", lambda: gate.status()["counters"]["requests"] == 1)
        assert gate.cli("restart", "s/app").returncode == 0
        gate.wait_log("requests do not end in time for the handover")
        wait_for("the new one", lambda: [i["pid"] for i in instances(gate)] not in ([], [first]))


# --- what a process is given

def status_of(w, name):
    return next(x.split(":")[1].strip() for x in w["status"].splitlines() if x.startswith(name + ":"))


@case(both=True)
def test_privileges(t):
    """A service has no capabilities and can get none, no new privileges, umask 022 and, with open_files, that limit."""
    w = who(t.headgate(run_site(t.service("ok"), ", open_files: 300")))
    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(status_of(w, name), 16) == 0, (name, status_of(w, name))
    if not t.user:
        assert int(status_of(w, "CapBnd"), 16) == 0
    assert status_of(w, "NoNewPrivs") == "1" and status_of(w, "SigBlk") == "0000000000000000"
    assert w["nofile"] == [300, 300] and w["umask"] == 0o022


@case()
def test_open_files_too_many(t):
    """A limit that headgate may not give: said in words."""
    gate = t.unstarted(run_site(t.service("ok"), ", open_files: 1073741816"))
    gate.spawn()
    gate.wait_log("cannot let it open 1073741816 files", "LimitNOFILE")
