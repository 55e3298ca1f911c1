"""Services that headgate starts: start, ready, crash, restart, stop, and programs that behave badly."""
import re

from headgate import *


def who(gate, **kw):
    a = gate.get("/who", **kw)
    assert a.status == 200, a
    return json.loads(a.body)


@case(both=True)
def test_start_tcp(t):
    """A service gets $listen as 127.0.0.1:PORT and its own cwd; READY=1 means that it answers."""
    gate = t.headgate(run_site(t.service("ok")))
    w = who(gate)
    assert re.fullmatch(r"127\.0\.0\.1:\d+", w["argv"][2]), w["argv"]
    assert w["cwd"] == os.path.join(gate.state, "data", "s", "app"), w["cwd"]
    assert w["pid"] in procs.children(gate.master)


@case(both=True)
def test_start_unix(t):
    """listen: unix hands out unix:/path; headgate reaches it there."""
    gate = t.headgate(run_site(t.service("ok"), ", listen: unix"))
    w = who(gate)
    assert w["argv"][2].startswith("unix:/"), w["argv"]


@case()
def test_env_and_placeholders(t):
    """env, and placeholders in run and env, arrive; nothing of headgate's own environment leaks."""
    run = t.service("ok", "$channel-$service-$$-$host")
    gate = t.headgate(run_site(run, ", env: { COLOUR: green, WHERE: \"$state/x\" }"), env={"SECRET_OF_MASTER": "leak"})
    w = who(gate)
    assert w["argv"][3] == "s-app-$-localhost", w["argv"]
    assert w["env"]["COLOUR"] == "green" and w["env"]["WHERE"] == gate.state + "/x", w["env"]
    for name in ("SECRET_OF_MASTER", "NOTIFY_SOCKET", "LISTEN_FDS"):
        assert name not in w["env"], w["env"]


@case()
def test_descriptors_do_not_leak(t):
    """A service starts with its standard descriptors and those it opens itself: none of headgate's."""
    gate = t.headgate(run_site(t.service("ok")))
    w = who(gate)
    assert len(w["fds"]) <= 7, w["fds"]    # 0 to 2, its listener, its connection, the folder it is listing, one of Python's
    # Before it opened any: ls has one of its own, the folder's.
    script = t.write("fds.sh", 'echo fds: $(ls /proc/self/fd)\nexec "$@"\n')
    gate.reload_ok(run_site(f'[/bin/sh, -c, ". {script}", sh, {t.service("ok")[1:]}'))
    gate.wait_log('fds: 0 1 2 3"')


@case(root=True)
def test_own_user(t):
    """Started as root, a service runs under an account that is neither root nor headgate's."""
    gate = t.headgate(run_site(t.service("ok")))
    w = who(gate)
    assert w["uid"] not in (0, NOBODY), w["uid"]


@case()
def test_own_process_group(t):
    """A service leads its own process group."""
    gate = t.headgate(run_site(t.service("ok")))
    w = who(gate)
    assert w["pgid"] == w["pid"] and procs.stat(gate.master)[2] != str(w["pid"])


@case()
def test_output_goes_into_the_log(t):
    """What a service prints, on both streams, is in headgate's log with the service's name."""
    gate = t.headgate(run_site(t.service("ok")))
    gate.wait_log("service ok says hello", "s/app")
    gate.wait_log("and a line on stderr", "s/app")


@case()
def test_chatty(t):
    """A service that prints two megabytes at its start is not held up."""
    gate = t.headgate(run_site(t.service("chatty")))
    assert who(gate)
    wait_for("the last line, or a note that lines were dropped", lambda: "chatter 19999" in gate.log() or "dropped" in gate.log())


@case()
def test_python_http_server(t):
    """Python's http.server, unchanged, as a supervised service."""
    t.write("www/index.html", "from http.server")
    run = f'[{PYTHON}, -m, http.server, --bind, 127.0.0.1, --directory, {t.path("www")}, $port]'
    gate = t.headgate(run_site(run, ", ready: { http: / }"))
    for _ in range(5):
        assert gate.get("/").body == b"from http.server"
    with gate.tls() as c:
        assert c.get("/").body == b"from http.server"
        assert c.get("/nothing").status == 404
        assert c.get("/").body == b"from http.server"


@case()
def test_ready_http(t):
    """ready: http waits for a 2xx of the path; requests wait meanwhile and are then answered."""
    flag = t.path("healthy")
    gate = t.unstarted(run_site(t.service("healthy-by-file", flag), ", ready: { http: /healthz }, wait_ready: 60s"))
    gate.spawn()
    wait_for("the listener", lambda: not port_free(gate.http))
    with gate.plain() as c:
        c.request("GET", "/who", "localhost")
        assert c.still_open(1.0), "a service that is not ready was asked"
        t.write("healthy", "")
        a = c.answer()
        assert a.status == 200, a


@case()
def test_requests_wait_for_a_slow_start(t):
    """Requests that come before a service listens are held and then served, in TLS and plain, bodies too."""
    flag = t.path("go")
    gate = t.unstarted(run_site(t.service("wait-for-file", flag), ", wait_ready: 60s"))
    gate.spawn()
    wait_for("the listener", lambda: not port_free(gate.http))
    conns = [gate.plain() for _ in range(5)]
    for i, c in enumerate(conns):
        c.request("POST", f"/{i}", "localhost", body=b"x" * 1000)
    assert conns[0].still_open(0.5)
    t.write("go", "")
    for i, c in enumerate(conns):
        assert json.loads(c.answer().body)["size"] == 1000
        c.close()


@case()
def test_wait_ready_ends_with_503(t):
    """After wait_ready a request that found no instance gets 503 with Retry-After; the connection goes on."""
    gate = t.unstarted(run_site(t.service("never-listens"), ", wait_ready: 300ms", routes="/: { proxy: app }\n      /ok: { respond: fine }"))
    gate.spawn()
    wait_for("the listener", lambda: not port_free(gate.http))
    with gate.plain() as c:
        a = c.get("/x")
        assert a.status == 503 and int(a.get("retry-after")) > 0, a
        assert c.get("/ok").body == b"fine"


@case()
def test_client_gone_while_waiting(t):
    """A client that leaves while its request waits: the request is forgotten, nothing reaches the service later."""
    flag = t.path("go")
    gate = t.unstarted(run_site(t.service("wait-for-file", flag), ", wait_ready: 60s"))
    gate.spawn()
    wait_for("the listener", lambda: not port_free(gate.http))
    for _ in range(20):
        with gate.plain() as c:
            c.request("GET", "/x", "localhost")
    t.write("go", "")
    wait_for("the service", lambda: gate.get("/who", secure=False).status == 200)


@case()
def test_crash_restarts(t):
    """A service that aborts is started again with a new pid; the crash is in the log."""
    gate = t.headgate(run_site(t.service("ok")))
    first = who(gate)["pid"]
    assert gate.get("/crash").status in (502, 503)
    second = who(gate)["pid"]
    assert second != first
    gate.wait_log("s/app")


@case()
def test_crash_by_kill(t):
    """kill -9 of a service: it is back, and requests wait for it instead of failing."""
    gate = t.headgate(run_site(t.service("ok"), ", wait_ready: 60s"))
    for _ in range(3):
        pid = who(gate)["pid"]
        os.kill(pid, signal.SIGKILL)
        wait_for("its end", lambda: not procs.alive(pid))
        wait_for("an answer of the new one", lambda: (a := gate.get("/who")).status == 200 and json.loads(a.body)["pid"] != pid)


@case()
def test_exit_0_restarts_too(t):
    """An exit with status 0 is as unwanted as a crash: started again."""
    gate = t.headgate(run_site(t.service("ok")))
    first = who(gate)["pid"]
    gate.get("/exit")
    assert who(gate)["pid"] != first


@case()
def test_exits_at_once_backs_off(t):
    """A program that ends at once is tried again with growing pauses, not in a tight loop, and the site says 503."""
    gate = t.unstarted(run_site(t.service("exit"), ", wait_ready: 200ms, restart: { min: 100ms, max: 60s }"))
    gate.spawn()
    wait_for("three starts", lambda: gate.log().count("service exit says hello") >= 3)
    time_of = gate.log().count("service exit says hello")
    assert gate.get("/x", secure=False).status == 503
    wait_for("one more start", lambda: gate.log().count("service exit says hello") > time_of)
    assert gate.log().count("service exit says hello") < 50
    assert gate.stop() == 0


@case()
def test_program_missing(t):
    """A program that does not exist is an error of the config, with its place; nothing starts."""
    gate = t.unstarted(run_site("[/nonexistent/program, $listen]"))
    r = gate.cli("check")
    assert r.returncode == 1 and "/nonexistent/program" in r.stdout + r.stderr, (r.returncode, r.stdout, r.stderr)


@case(both=True)
def test_stop_ends_the_whole_group(t):
    """A service with children that ignore TERM: after the stop none is left (the driver looks again)."""
    gate = t.headgate(run_site(t.service("group"), ", stop: { signal: TERM, timeout: 1s }"))
    pid = who(gate)["pid"]
    group = [p for p in procs.parents() if (s := procs.stat(p)) and s[2] == str(pid)]
    assert len(group) == 3, group
    assert gate.stop() == 0
    assert not any(procs.alive(p) for p in group), [procs.cmdline(p) for p in group]


@case(both=True)
def test_ignores_term(t):
    """A service that ignores TERM is killed after stop.timeout; headgate ends with status 0."""
    gate = t.headgate(run_site(t.service("ignore-term"), ", stop: { signal: TERM, timeout: 500ms }"))
    pid = who(gate)["pid"]
    assert gate.stop() == 0
    assert not procs.alive(pid)


@case()
def test_stop_signal(t):
    """stop.signal is what the service gets."""
    gate = t.headgate(run_site(t.service("ignore-term"), ", stop: { signal: INT, timeout: 60s }"))
    who(gate)
    began = time.monotonic()
    assert gate.stop() == 0
    assert time.monotonic() - began < 50


@case()
def test_daemonises(t):
    """A program that forks and lets its parent exit: seen as ended; what it left is killed, nothing outlives the stop."""
    gate = t.unstarted(run_site(t.service("daemonise"), ", wait_ready: 200ms, stop: { timeout: 1s }"))
    gate.spawn()
    wait_for("its start", lambda: "service daemonise says hello" in gate.log())
    wait_for("a second start", lambda: gate.log().count("service daemonise says hello") >= 2)
    assert gate.stop() == 0
    left = [p for p in procs.descendants(os.getpid()) if "service.py" in procs.cmdline(p)]
    assert not left, [procs.cmdline(p) for p in left]


@case()
def test_start_timeout(t):
    """A program that never listens is ended after start_timeout and tried again."""
    gate = t.unstarted(run_site(t.service("never-listens"), ", start_timeout: 500ms, wait_ready: 100ms, restart: { min: 100ms, max: 200ms }, stop: { timeout: 1s }"))
    gate.spawn()
    wait_for("a second start", lambda: gate.log().count("service never-listens says hello") >= 2)


@case()
def test_service_is_not_reached_from_outside_ready(t):
    """Two channels with a service each: each host reaches its own."""
    channels = "channels:\n" + "".join(
        f"  {n}:\n    host: {n}.localhost\n    https: both\n    services:\n      api: {{ run: {t.service('ok', n)} }}\n    routes:\n      /: {{ proxy: api }}\n"
        for n in ("stable", "beta", "alpha"))
    gate = t.headgate(channels)
    seen = {}
    for n in ("stable", "beta", "alpha"):
        w = who(gate, host=f"{n}.localhost")
        assert w["argv"][3] == n, w["argv"]
        seen[w["pid"]] = n
    assert len(seen) == 3


@case()
def test_large_bodies_through_a_service(t):
    """A supervised service over its unix socket takes and gives 50 MB."""
    gate = t.headgate(run_site(t.service("ok"), ", listen: unix"))
    with gate.tls() as c:
        assert c.get("/bytes/50000000", keep=False).size == 50000000
        assert json.loads(c.get("/sink", method="POST", body=b"y" * 50000000).body)["size"] == 50000000
