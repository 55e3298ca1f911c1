"""What an operator meets: status, access log, sd_notify, stop, second starts, full disks, lost readers, unwritable folders."""
from headgate import *


def site():
    return "sites:\n  s: { host: localhost, https: both, routes: { /: { respond: hello } } }\n"


@case(both=True)
def test_status_json(t):
    """status --json is one JSON document that names workers, sites, services, listeners; --text is readable."""
    gate = t.headgate(run_site(t.service("ok"), kind="channels", name="beta"))
    doc = gate.status()
    text = json.dumps(doc)
    for word in ("beta", "app", str(gate.https), str(gate.master)):
        assert word in text, (word, doc)
    for w in gate.workers():
        assert str(w) in text, doc
    r = gate.cli("status")
    assert not [line for line in r.stdout.splitlines() if line.endswith(" ")], r.stdout
    assert r.returncode == 0 and "beta" in r.stdout, (r.returncode, r.stdout, r.stderr)
    for p in gate.service_pids():
        assert str(p) in text, doc


@case()
def test_status_after_crash(t):
    """A service that cannot start is loud in status."""
    gate = t.unstarted(run_site(t.service("exit"), ", wait_ready: 100ms"))
    gate.spawn()
    wait_for("a start", lambda: "service exit says hello" in gate.log())
    wait_for("status to tell of it", lambda: any(w in json.dumps(gate.status()).lower() for w in ("backoff", "crash", "failed", "exited")))


@case()
def test_access_log_json(t):
    """Each request is one JSON line: method, path, status, sizes, duration, client, host, request id; no query by default."""
    b = t.backend()
    path = t.path("access.log")
    if os.geteuid() == 0:
        t.write("access.log", "", 0o666)
    gate = t.headgate(proxy_site(b.url), top={"log": f"{{ access: {{ format: json, to: {path} }} }}"})
    a = gate.get("/some/path?token=secret", headers=[("User-Agent", 'odd "agent"\\')])
    gate.get("/bytes/1000", secure=False)
    gate.get("/nothing", "unknown.localhost", secure=False)

    def lines():
        with open(path) as f:
            return [x for x in f.read().split("\n") if x]
    wait_for("three lines", lambda: len(lines()) >= 3)
    order = {"/some/path": 0, "/bytes/1000": 1, "/nothing": 2}      # workers write in batches, each its own
    found = sorted(lines(), key=lambda x: order[json.loads(x)["path"]])
    docs = [json.loads(x) for x in found]
    text = found[0]
    assert "secret" not in text, text
    assert docs[0]["method"] == "GET" and docs[0]["status"] == 200, docs[0]
    assert "/some/path" in text and "localhost" in text and "127.0.0.1" in text, text
    assert 'odd "agent"\\' in docs[0].values() or 'odd \\"agent' in text, text
    assert any("id" in k for k in docs[0]) and any("time" in k or "ts" == k or "duration" in k or k.endswith("ms") for k in docs[0]), docs[0]
    assert docs[1]["bytes_out"] == 1000, docs[1]
    assert docs[2]["status"] in (404, 421), docs[2]
    assert a.status == 200


@case()
def test_access_log_query_and_exclude(t):
    """log.access.query: on keeps the query; exclude leaves out its prefixes."""
    path = t.path("access.log")
    t.write("access.log", "", 0o666)
    gate = t.headgate(site(), top={"log": f"{{ access: {{ to: {path}, query: on, exclude: [/healthz] }} }}"})
    gate.get("/healthz")
    gate.get("/x?q=1")
    wait_for("the line", lambda: open(path).read())
    text = open(path).read()
    assert "q=1" in text and "healthz" not in text, text


@case()
def test_access_log_combined(t):
    """format: combined is the form that log tools know, and no request can break its lines."""
    path = t.path("access.log")
    t.write("access.log", "", 0o666)
    gate = t.headgate(site(), top={"log": f"{{ access: {{ format: combined, to: {path} }} }}"})
    gate.get('/x"y', headers=[("User-Agent", 'a" b'), ("Referer", "http://r/\u00e9")])
    wait_for("the line", lambda: open(path, errors="replace").read().endswith("\n"))
    line = open(path, errors="replace").read()
    assert line.startswith("127.0.0.1 - ") and '" 200 5 "' in line, line
    assert line.count("\n") == 1 and line.count('"') - line.count('\\"') == 6, line


@case()
def test_access_log_reopened(t):
    """A log that was moved away is opened again."""
    path = t.path("logs/access.log")
    os.makedirs(t.path("logs"))
    os.chmod(t.path("logs"), 0o777)
    gate = t.headgate(site(), top={"log": f"{{ access: {{ to: {path} }} }}"})
    gate.get("/one")
    wait_for("the first line", lambda: os.path.exists(path) and "/one" in open(path).read())
    os.rename(path, path + ".1")

    def again():
        gate.get("/two")
        return os.path.exists(path) and "/two" in open(path).read()
    wait_for("the new file", again, every=0.2)


@case()
def test_access_log_full_disk(t):
    """An access log on a full disk hurts no request; it is said once, with the cause."""
    gate = t.headgate(site(), top={"log": "{ access: { to: /dev/full } }"})
    for _ in range(50):
        assert gate.get("/").body == b"hello"
    wait_for("the cause in the log", lambda: "/dev/full" in gate.log())


@case()
def test_lost_stdout_reader(t):
    """The reader of stdout goes away: headgate and its services serve on."""
    r, w = os.pipe()
    gate = t.unstarted(run_site(t.service("ok")), stdout=w)
    gate.spawn()
    os.close(w)
    wait_for("READY=1", lambda: gate.notify.has("READY=1") or gate.proc.poll() is not None)
    os.close(r)
    for _ in range(30):
        assert gate.get("/x").status == 200
    gate.reload_ok()
    assert gate.get("/x").status == 200
    assert gate.stop() == 0


@case()
def test_slow_stdout_reader(t):
    """A reader of stdout that stops reading holds up no request."""
    r, w = os.pipe()
    gate = t.unstarted(run_site(t.service("chatty")), stdout=w)
    gate.spawn()
    os.close(w)
    wait_for("READY=1", lambda: gate.notify.has("READY=1") or gate.proc.poll() is not None)
    with gate.tls() as c:
        for _ in range(2000):
            assert c.get("/x").status == 200
    gate.reload_ok()
    assert gate.stop() == 0
    os.close(r)


@case()
def test_unwritable_state(t):
    """A state folder that cannot be made: the path and the cause, status 1, nothing left."""
    t.write("file", "")
    bad = t.path("file") + "/state"
    gate = t.unstarted(site(), top={"state": bad})
    gate.spawn()
    assert gate.wait_exit() == 1
    assert bad in gate.log() or t.path("file") in gate.log(), gate.log()
    assert "errno" not in gate.log().lower()


@case()
def test_unwritable_runtime(t):
    """The same for the runtime folder."""
    t.write("file", "")
    gate = t.unstarted(site(), top={"runtime": t.path("file") + "/run"})
    gate.spawn()
    assert gate.wait_exit() == 1
    assert t.path("file") in gate.log(), gate.log()


@case()
def test_port_in_use_at_start(t):
    """A port in use at start: the address and the cause, status 1, services not started."""
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    taken.listen(1)
    t.defer(taken.close)
    port = taken.getsockname()[1]
    gate = t.unstarted(run_site(t.service("ok")))
    gate.configure(run_site(t.service("ok")), {"listen": gate.listen(http=port)})
    gate.spawn()
    assert gate.wait_exit() == 1
    assert str(port) in gate.log() and "in use" in gate.log(), gate.log()


@case()
def test_second_server_is_refused(t):
    """A second server over the same state is refused, with the reason; the first goes on."""
    gate = t.headgate(site())
    second = t.unstarted(site(), name="second", top={"state": gate.state, "runtime": gate.runtime})
    second.spawn()
    assert second.wait_exit() != 0
    assert gate.state in second.log() or gate.runtime in second.log() or "already" in second.log(), second.log()
    assert gate.get("/").body == b"hello"
    assert gate.status()


@case()
def test_start_after_kill(t):
    """After kill -9 the next start takes over what is left: sockets, locks, half-written files."""
    gate = t.headgate(site())
    gate.kill_master()
    gate.start()
    assert gate.get("/").body == b"hello"


@case()
def test_notify_sequence(t):
    """sd_notify: READY once, RELOADING with MONOTONIC_USEC and READY again at a reload, STATUS text, STOPPING at the end."""
    gate = t.headgate(site())
    said = gate.notify.said
    assert gate.notify.count("READY=1") == 1 and any("STATUS=" in m for m in said), said
    gate.reload_ok()
    wait_for("READY=1 again", lambda: gate.notify.count("READY=1") == 2)
    assert gate.notify.count("RELOADING=1") == 1, said
    assert any("RELOADING=1" in m and "MONOTONIC_USEC=" in m for m in said), said
    assert gate.stop() == 0
    wait_for("STOPPING=1", lambda: gate.notify.count("STOPPING=1") == 1)


@case()
def test_notify_watchdog(t):
    """WATCHDOG_USEC: the master says WATCHDOG=1 about twice as often as asked."""
    gate = t.headgate(site(), env={"WATCHDOG_USEC": "1000000"})
    wait_for("five pings", lambda: gate.notify.count("WATCHDOG=1") >= 5)


@case()
def test_ready_means_serving(t):
    """At READY=1 every host has its certificate and every service answers: the first request succeeds."""
    for i in range(3):
        gate = t.headgate(run_site(t.service("ok")), name=f"r{i}")
        assert gate.get("/who").status == 200
        gate.end()


@case(both=True)
def test_graceful_stop(t):
    """SIGTERM: listeners close, requests under way are finished, idle connections end, then exit 0."""
    b = t.backend()
    gate = t.headgate(proxy_site(b.url))
    idle = gate.tls()
    assert idle.get("/x").status == 200
    busy = gate.tls()
    busy.request("GET", "/held", "localhost")
    long = gate.plain()
    long.send(b"POST /sink HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhello")
    wait_for("the requests", lambda: b.begun == 3)
    gate.proc.send_signal(signal.SIGTERM)
    wait_for("closed listeners", lambda: port_free(gate.http) and port_free(gate.https))
    b.gate.set()
    long.send(b"world")
    a = busy.answer()
    assert a.body == b"at last", a
    assert json.loads(long.answer().body)["size"] == 10
    assert gate.wait_exit() == 0
    assert idle.at_end()


@case()
def test_graceful_stop_has_an_end(t):
    """A request that never ends does not hold up the stop beyond timeouts.shutdown; it is told so."""
    b = t.backend()
    gate = t.headgate(proxy_site(b.url), top={"timeouts": "{ shutdown: 500ms, drain: 500ms }"})
    c = gate.tls()
    c.request("GET", "/silent", "localhost")
    wait_for("the request", lambda: b.begun == 1)
    assert gate.stop() == 0
    a = c.answer()
    assert a.status == 503 and a.get("connection") == "close" and c.at_end(), a


@case()
def test_second_term_does_not_hurt(t):
    """Impatient signals while stopping: still a clean end."""
    gate = t.headgate(run_site(t.service("ignore-term"), ", stop: { timeout: 500ms }"))
    gate.proc.send_signal(signal.SIGTERM)
    gate.proc.send_signal(signal.SIGHUP)
    gate.proc.send_signal(signal.SIGTERM)
    assert gate.wait_exit() == 0


@case()
def test_ipv6_listener(t):
    """":PORT" is dual stack: 127.0.0.1 and ::1 are both served."""
    gate = t.unstarted(site())
    gate.configure(site(), {"listen": f'{{ http: ":{gate.http}", https: ":{gate.https}" }}'})
    gate.start()
    for host in ("127.0.0.1", "::1"):
        with Conn((host, gate.http)) as c:
            assert c.get("/").body == b"hello"


@case()
def test_admin_socket_is_private(t):
    """The admin socket has the mode of the config, and garbage on it kills nobody."""
    gate = t.headgate(site())
    path = os.path.join(gate.runtime, "admin.sock")
    assert os.stat(path).st_mode & 0o777 == 0o660, oct(os.stat(path).st_mode)
    for raw in (b"", b"\0" * 100000, b"{}\n", b"[" * 100000 + b"\n", b'{"verb":"nothing"}\n', b"GET / HTTP/1.1\r\n\r\n"):
        with Conn(path) as c:
            c.try_send(raw)
            try:
                c.sock.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            while c.fill():
                c.buf = b""
    assert gate.status()
    idle = [Conn(path) for _ in range(50)]
    assert gate.status()
    for c in idle:
        c.close()


@case()
def test_strangers_messages(t):
    """Signals that mean nothing to it do not end the master."""
    gate = t.headgate(site())
    for sig in (signal.SIGPIPE, signal.SIGCHLD, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH, signal.SIGURG):
        gate.proc.send_signal(sig)
    assert gate.status() and gate.get("/").body == b"hello"
