"""
Services that behave badly, one case each. What all share: the service beside it is served on, the master lives, status
says what is wrong, and after the stop no process is left (the driver looks).
"""
from headgate import *

PROGRAM = os.path.join(HERE, "hostile_service.py")


def config(t, run, extra=""):
    return ("sites:\n  s:\n    host: localhost\n    https: both\n    services:\n"
            f"      app: {{ run: {run}, restart: {{ min: 50ms, max: 100ms }}{extra} }}\n"
            f"      good: {{ run: {t.service('ok')} }}\n"
            "    routes:\n      /: { proxy: app }\n      /good/: { proxy: good }\n")


def hostile(t, mode, extra="", file="", stdout=None):
    """The gate with the hostile service beside a good one; returns when the good one answers."""
    gate = t.unstarted(config(t, f'[{PYTHON}, {PROGRAM}, {mode}, $port{", " + file if file else ""}]', extra), stdout=stdout)
    gate.spawn()
    wait_for("the listener", lambda: not port_free(gate.http))
    good(gate)
    return gate


def good(gate):
    a = gate.get("/good/", secure=False)
    assert a.status == 200, a


def app(gate):
    return next(s for s in gate.status()["services"] if s["service"] == "s/app")["instances"][-1]


def wait_state(gate, state):
    wait_for(f"state {state}", lambda: app(gate)["state"] == state)


def wait_error(gate, text):
    wait_for(f"an error with {text}", lambda: text in app(gate)["last_error"])


def left(name=PROGRAM):
    return [p for p in procs.descendants(os.getpid()) if name in procs.cmdline(p)]


def end(gate):
    good(gate)
    assert gate.stop() == 0
    assert not left(), [procs.cmdline(p) for p in left()]


@case(both=True)
def test_forks_and_daemonises(t):
    """It goes into the background by the book: seen as ended each time, and what it left is killed before the next start."""
    gate = hostile(t, "daemonise", ", wait_ready: 100ms")
    wait_error(gate, "a service must stay in the foreground")
    wait_for("a crash loop", lambda: app(gate).get("failures", 0) >= 4)
    assert len(left()) <= 3, [procs.cmdline(p) for p in left()]
    end(gate)


@case(both=True)
def test_ignores_term(t):
    """It ignores TERM: it is killed after stop.timeout, by a restart and by the stop."""
    gate = hostile(t, "ignores", ", stop: { timeout: 200ms }")
    wait_state(gate, "ready")
    first = app(gate)["pid"]
    assert gate.cli("restart", "s/app").returncode == 0
    wait_for("its end", lambda: not procs.stat(first))
    gate.wait_log("instance does not stop, killing it")
    assert gate.get("/").status == 200
    end(gate)


@case(both=True)
def test_closes_its_port(t):
    """It closes its port and lives on: unready, requests wait, and are served when it listens again. Twice."""
    flag = t.path("closed")
    gate = hostile(t, "closes", ", health: { interval: 50ms, timeout: 1s, failures: 2 }, wait_ready: 60s", flag)
    for _ in range(2):
        wait_state(gate, "ready")
        pid = app(gate)["pid"]
        t.write("closed", "")
        wait_state(gate, "unready")
        with gate.plain() as c:
            c.request("GET", "/", "localhost")
            assert c.still_open(0.3)
            os.unlink(flag)
            assert c.answer().body == f"closes {pid}".encode()
    end(gate)


@case(both=True)
def test_answers_garbage(t):
    """Garbage on its port: never ready by http, in words; ready by tcp, each request gets 502."""
    gate = hostile(t, "garbage", ", ready: { http: / }, start_timeout: 300ms, wait_ready: 100ms")
    wait_error(gate, "what it answers is no HTTP/1.1")
    assert gate.get("/").status == 503
    gate.reload_ok(config(t, f"[{PYTHON}, {PROGRAM}, garbage, $port]", ", wait_ready: 60s"))
    assert [gate.get("/").status for _ in range(3)] == [502] * 3
    end(gate)


@case()
def test_prints_100_mb(t):
    """It prints 100 MB at once: neither it nor anybody else is held up, and the master does not grow."""
    go = t.path("go")
    gate = hostile(t, "prints", file=go, stdout=subprocess.DEVNULL)
    wait_state(gate, "ready")
    before = procs.rss(gate.master)
    t.write("go", "")
    seen = []

    def last_line():
        good(gate)
        seen.append(procs.rss(gate.master))
        r = gate.cli("logs", "s/app", "-n", "1")
        return r.stdout.rstrip().endswith("that was all")
    wait_for("its last line", last_line, guard=110)
    assert max(seen) < before + (16 << 20), f"the master grew from {before >> 10} to {max(seen) >> 10} KiB"
    end(gate)


@case(both=True)
def test_dies_while_starting(t):
    """It dies before it is ready: a crash loop, loud in status and in the log: how often, since when, how, its last words."""
    gate = hostile(t, "dies", ", wait_ready: 100ms")
    wait_for("four failures", lambda: app(gate).get("failures", 0) >= 4)
    gate.wait_log("crash loop: the service fails again and again", "s/app", "the database is of another version")
    a = app(gate)
    assert a["last_exit"] == "exited with status 3" and "before it was ready" in a["last_error"], a
    text = gate.cli("status").stdout
    assert "CRASH LOOP: failed" in text and "the database is of another version" in text, text
    assert gate.get("/").status == 503
    end(gate)


@case()
def test_slow_start(t):
    """A start that takes long, within start_timeout, is waited for; it is not started again and requests are served late."""
    gate = hostile(t, "slow", ", start_timeout: 29s, wait_ready: 60s", t.path("go"))
    with gate.plain() as c:
        c.request("GET", "/", "localhost")
        wait_for("two seconds of it", lambda: app(gate)["since_s"] >= 2)
        pid = app(gate)["pid"]
        t.write("go", "")
        assert c.answer().body == f"slow {pid}".encode()
    assert app(gate)["restarts"] == 0
    end(gate)


@case(both=True)
def test_never_ready(t):
    """It never listens: ended after start_timeout, tried again, for ever; the reason is in status."""
    gate = hostile(t, "never", ", start_timeout: 200ms, wait_ready: 100ms")
    wait_error(gate, "not ready in time at 127.0.0.1:")
    wait_for("the third start", lambda: app(gate)["restarts"] >= 2)
    end(gate)


@case(both=True)
def test_changes_its_process_group(t):
    """The process that serves has left group and session, and ignores TERM: it ends with the instance all the same."""
    gate = hostile(t, "new-group", ", stop: { timeout: 500ms }")
    wait_state(gate, "ready")
    first = int(gate.get("/").body.split()[1])
    assert first != app(gate)["pid"]
    assert gate.cli("restart", "s/app").returncode == 0
    wait_for("its end", lambda: not procs.stat(first))
    assert int(gate.get("/").body.split()[1]) != first
    end(gate)


@case(both=True)
def test_leaves_grandchildren(t):
    """Grandchildren in sessions of their own, their parents gone, deaf to signals: none outlives the instance."""
    gate = hostile(t, "grandchildren", ", stop: { timeout: 500ms }")
    wait_state(gate, "ready")
    before = set(left())
    assert len(before) == 6, [procs.cmdline(p) for p in before]
    os.kill(app(gate)["pid"], signal.SIGKILL)
    wait_for("their end", lambda: not before & set(left()))
    wait_state(gate, "ready")
    end(gate)


@case()
def test_fills_its_descriptors(t):
    """It opens all it may (open_files) and can accept no more: unready, while others and the master go on."""
    gate = hostile(t, "fills", ", open_files: 64, ready: { http: / }, health: { interval: 50ms, timeout: 500ms, failures: 2 }, wait_ready: 200ms")
    wait_state(gate, "ready")
    assert gate.get("/fill").body == b"full"
    wait_state(gate, "unready")
    assert gate.get("/").status == 503
    end(gate)


@case(both=True)
def test_exits_0_at_once(t):
    """It ends at once with status 0: that is a failure, and said so."""
    gate = hostile(t, "exit0", ", wait_ready: 100ms")
    wait_error(gate, "exited with status 0 before it was ready; a service must stay in the foreground")
    wait_for("a crash loop", lambda: app(gate).get("failures", 0) >= 4)
    end(gate)


# --- programs that cannot be executed, though they could when the configuration was checked

def spoilt(t, spoil, shebang=f"#!{PYTHON}\n"):
    """A script that runs well, then is spoilt while it runs, and dies."""
    with open(PROGRAM) as f:
        text = f.read().replace("os.path.dirname(os.path.abspath(__file__))", repr(HERE))
    path = t.write("program", shebang + text, 0o755)
    if t.user:
        os.chown(path, NOBODY, NOBODY)
    gate = t.unstarted(config(t, f"[{path}, fills, $port]", ", wait_ready: 100ms"))
    gate.spawn()
    wait_for("it is ready", lambda: not port_free(gate.http) and app(gate)["state"] == "ready")
    pid = app(gate)["pid"]
    spoil(path)
    os.kill(pid, signal.SIGKILL)
    return gate, path


@case(both=True)
def test_no_exec_permission(t):
    """The program may not be executed: permission denied, with its path, and tried again until it may."""
    gate, path = spoilt(t, lambda path: os.chmod(path, 0o644))
    wait_error(gate, "permission denied")
    assert path in app(gate)["last_error"], app(gate)
    os.chmod(path, 0o755)
    wait_state(gate, "ready")
    end(gate)


@case(both=True)
def test_text_without_shebang(t):
    """A text file without #! is no program, and no shell is asked to guess."""
    def spoil(path):
        with open(path + ".new", "w") as f:
            f.write("echo hello\n")
        os.chmod(path + ".new", 0o755)
        os.rename(path + ".new", path)
    gate, path = spoilt(t, spoil)
    wait_error(gate, f"cannot run {path}: it is no program for this machine (or a script without #!)")
    end(gate)


@case(root=True)
def test_its_user_cannot_read_it(t):
    """The service's own user may not read the program: permission denied, said with the user and the path."""
    gate, path = spoilt(t, lambda path: os.chmod(path, 0o700))
    wait_error(gate, "permission denied")
    assert path in app(gate)["last_error"], app(gate)
    end(gate)
