"""The process tree: what a death costs, what comes back, what is left."""
from headgate import *
from load import Load, Wrk


class Counted:
    def __init__(self, t, workers=2):
        self.backend = t.backend()
        self.gate = t.headgate(proxy_site(self.backend.url), workers=workers)


@case(both=True)
def test_tree(t):
    """One master with its workers and one agent; unprivileged children when started as root."""
    gate = Counted(t).gate
    gate.wait_workers()
    assert len(gate.agents()) == 1, [procs.cmdline(p) for p in procs.children(gate.master)]
    if os.geteuid() == 0:
        for p in gate.workers() + gate.agents():
            assert procs.uid(p) == NOBODY, procs.cmdline(p)
            assert int(procs.status_field(p, "CapEff"), 16) == 0, procs.cmdline(p)


@case(serial=True)
def test_worker_killed_under_load(t):
    """kill -9 of a worker under load costs its own connections only: every connection begun after it is served."""
    s = Counted(t)
    load = Load(s.gate)
    load.progress(100)
    for _ in range(5):
        workers = s.gate.wait_workers()
        victim = workers[0]
        before = time.monotonic()
        os.kill(victim, signal.SIGKILL)
        wait_for("its death", lambda: not procs.alive(victim))
        dead = time.monotonic()
        load.progress(100)
        s.gate.wait_workers(without=[victim])
        late = [f for f in load.failures if f[1] > dead and f[2] == "fresh"]
        assert not late, late
        early = [f for f in load.failures if f[0] < before]
        assert not early, early
        load.failures.clear()
        load.progress(100)
        assert not load.failures, load.failures
    load.stop()


@case(serial=True)
def test_worker_back_within_a_second(t):
    """A killed worker is replaced at once."""
    s = Counted(t)
    victim = s.gate.wait_workers()[0]
    os.kill(victim, signal.SIGKILL)
    began = time.monotonic()
    s.gate.wait_workers(without=[victim])
    took = time.monotonic() - began
    assert took < 5, f"{took:.1f} s"       # a second on an idle machine; the guard leaves room for a slow one
    assert s.gate.get("/x").status == 200


@case()
def test_only_worker_killed(t):
    """With a single worker: connections made while there is none wait in the listener and are served."""
    s = Counted(t, workers=1)
    for _ in range(3):
        victim = s.gate.wait_workers()[0]
        os.kill(victim, signal.SIGKILL)
        wait_for("its death", lambda: not procs.alive(victim))
        for _ in range(5):
            assert s.gate.get("/x").status == 200


@case()
def test_worker_stopped_queue_is_not_lost(t):
    """A hundred connections right after a kill: none is reset, none waits for ever."""
    s = Counted(t)
    victim = s.gate.wait_workers()[0]
    os.kill(victim, signal.SIGKILL)
    wait_for("its death", lambda: not procs.alive(victim))
    conns = [s.gate.plain() for _ in range(100)]
    for c in conns:
        c.request("GET", "/x", "localhost")
    for c in conns:
        assert c.answer().status == 200
        c.close()


@case()
def test_worker_aborts(t):
    """A worker that dies by SIGABRT or SIGSEGV is replaced and its death is in the log."""
    t.crashes = True
    s = Counted(t)
    for sig in (signal.SIGABRT, signal.SIGSEGV):
        victim = s.gate.wait_workers()[0]
        os.kill(victim, sig)
        s.gate.wait_workers(without=[victim])
        assert s.gate.get("/x").status == 200
        gate_log = s.gate.log()
        assert str(victim) in gate_log, "the death is not in the log"


@case()
def test_agent_killed(t):
    """kill -9 of the agent: traffic does not notice, the agent is back, certificates still come."""
    s = Counted(t)
    victim = s.gate.agents()[0]
    with s.gate.tls() as c:
        assert c.get("/1").status == 200
        os.kill(victim, signal.SIGKILL)
        assert c.get("/2").status == 200
    wait_for("a new agent", lambda: (a := s.gate.agents()) and a[0] != victim)
    s.gate.reload_ok(proxy_site(s.backend.url) + "  two: { host: two.localhost, routes: { /: { respond: two } } }\n")
    wait_for("the new host's certificate", lambda: served(s.gate, "two.localhost"))


def served(gate, host):
    try:
        return gate.get("/", host).status == 200
    except OSError:
        return False


@case(both=True)
def test_stop_leaves_nothing(t):
    """SIGTERM and SIGINT: exit status 0, listeners closed, no process, no socket file."""
    for sig in (signal.SIGTERM, signal.SIGINT):
        gate = t.headgate(run_site(t.service("ok")), name="stop-" + sig.name)
        assert gate.get("/who").status == 200
        tree = procs.descendants(gate.master)
        assert gate.stop(sig) == 0
        assert not [p for p in tree if procs.alive(p)], [procs.cmdline(p) for p in tree]
        assert port_free(gate.http) and port_free(gate.https)
        assert not os.path.exists(os.path.join(gate.runtime, "admin.sock")), "the admin socket's file is left"


@case()
def test_stop_verb(t):
    """`headgate stop` ends the server gracefully and returns 0."""
    gate = t.headgate(run_site(t.service("ok")))
    r = gate.cli("stop")
    assert r.returncode == 0, (r.returncode, r.stdout, r.stderr)
    assert gate.wait_exit() == 0


@case()
def test_frozen_worker_does_not_hold_up_the_rest(t):
    """SIGSTOP of a worker: the other one's connections go on; after SIGCONT all is well."""
    s = Counted(t)
    conns = [s.gate.plain() for _ in range(20)]
    for c in conns:
        assert c.get("/x").status == 200
    victim = s.gate.wait_workers()[0]
    os.kill(victim, signal.SIGSTOP)
    t.defer(lambda: procs.alive(victim) and os.kill(victim, signal.SIGCONT))
    for c in conns:
        c.request("GET", "/y", "localhost")
    answered = sum(not c.still_open(0.5) for c in conns)
    assert 0 < answered < 20, f"{answered} of 20 connections are served"
    os.kill(victim, signal.SIGCONT)
    for c in conns:
        assert c.answer().status == 200


@case(serial=True)
def test_wrk_with_kills(t):
    """wrk on respond routes while workers are killed in turn: headgate itself goes on, memory does not pile up."""
    gate = t.headgate("sites:\n  s: { host: localhost, aliases: [\"127.0.0.1\"], https: both, routes: { /: { respond: hello } } }\n")
    wrk = Wrk(gate, secure=False)
    for _ in range(6):
        victim = gate.wait_workers()[0]
        os.kill(victim, signal.SIGKILL)
        gate.wait_workers(without=[victim])
        assert gate.get("/").body == b"hello"
    wrk.progress()
    requests, _, out = wrk.stop()
    assert requests > 0, out
