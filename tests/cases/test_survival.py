"""Deaths by kill -9: the master's costs nothing, whoever starts the next one; every other process's costs its own connections."""
import glob

from headgate import *
from load import Load
from store import Store
from test_h2_clients import Load as LoadH2


def who(gate):
    return json.loads(gate.get("/who").body)


def instances(gate, service="s/app"):
    return next(s for s in gate.status()["services"] if s["service"] == service)["instances"]


def ready(gate, service="s/app"):
    return wait_for("a ready instance", lambda: next((i for i in instances(gate, service) if i["state"] == "ready"), None))


def gone(pids):
    return wait_for(f"the end of {pids}", lambda: (procs.reap(), not [p for p in pids if procs.alive(p)])[1])


def records(gate):
    return [p for p in glob.glob(os.path.join(gate.runtime, "instances", "*")) if os.path.basename(p).isdigit()]


def same_process(gate, before, began):
    """The instance is the one of before, and serves."""
    after = who(gate)["pid"]
    assert after == before and procs.started(after) == began, f"pid {before} is now {after}"


# --- the master

@case(both=True)
def test_started_again_by_hand(t):
    """No service manager: workers serve on, the next `headgate run` takes over sockets and instances; no request is lost."""
    gate = t.headgate(run_site(t.service("ok")))
    before = who(gate)["pid"]
    began = procs.started(before)
    agent, workers = gate.agents(), gate.wait_workers()
    load = Load(gate, target="/who")
    load.progress(100)
    gate.kill_master()
    gone(agent)
    load.progress(100)
    gate.start()
    load.progress(200)
    same_process(gate, before, began)
    gone(workers)
    load.progress(100)
    assert not load.stop(), load.failures[:5]
    assert gate.stop() == 0
    assert not procs.alive(before) and not records(gate)


class Managed:
    """A server whose manager keeps its sockets and starts it again, as systemd does."""

    def __init__(self, t, config, **kw):
        self.gate = t.unstarted(config, **kw)
        self.store = Store()
        t.defer(self.store.close)
        self.store.attach(self.gate)
        self.gate.start()
        wait_for("the sockets in the store", lambda: sum(n.startswith("headgate.http") for n in self.store.names()) == 2 * self.gate.workers_wanted)

    def start(self):
        self.store.attach(self.gate)
        self.gate.start()


@case(serial=True, both=True)
def test_killed_under_load_with_a_manager(t):
    """kill -9 of the master again and again, also right after its start: h1 and h2 clients and a long download notice nothing."""
    backend = t.backend()
    config = run_site(t.service("ok")) + ("  two:\n    host: two.localhost\n    https: both\n    services:\n"
                                          f"      app: {{ url: \"{backend.url}\" }}\n    routes: {{ /: {{ proxy: app }} }}\n")
    m = Managed(t, config)
    gate = m.gate
    before = who(gate)["pid"]
    began = procs.started(before)
    with gate.tls("two.localhost") as download:
        download.request("GET", "/drip/3000", "two.localhost")
        h1, h2 = Load(gate, target="/who"), LoadH2(gate, clients=4)
        for wait in (True, False, False, True):
            h1.progress(50)
            h2.progress(100)
            gate.kill_master()
            h1.progress(50)
            h2.progress(100)
            if wait:
                m.start()
            else:       # the next one dies before it serves
                m.store.attach(gate)
                gate.spawn()
                wait_for("its lock", lambda: str(gate.master) in open(os.path.join(gate.runtime, "headgate.lock")).read() or gate.proc.poll())
        h1.progress(100)
        h2.progress(200)
        assert len(download.answer().body) == 3000
    h2.stop()
    assert not h1.stop(), h1.failures[:5]
    assert not h2.wrong and not h2.lost, (h2.wrong[:5], h2.lost[:5])
    same_process(gate, before, began)
    assert gate.stop() == 0
    assert not m.store.names(), "sockets of a server that was stopped are kept"


@case(both=True)
def test_workers_die_too(t):
    """All workers die while there is no master: connections made meanwhile wait in the kept sockets and are served later."""
    m = Managed(t, run_site(t.service("ok")))
    gate = m.gate
    workers = gate.wait_workers()
    gate.kill_master()
    procs.kill_all(workers)
    gone(workers)
    waiting = [gate.plain() for _ in range(30)]
    for c in waiting:
        c.request("GET", "/who", "localhost")
    m.start()
    for c in waiting:
        assert c.answer().status == 200
        c.close()


@case()
def test_address_that_went_meanwhile(t):
    """The configuration changed while there was no master: the next one serves the new addresses, and the old ones close."""
    m = Managed(t, run_site(t.service("ok")))
    gate, old = m.gate, m.gate.http
    gate.kill_master()
    gate.http = t.port()
    gate.configure(run_site(t.service("ok")), {"listen": gate.listen()})
    m.start()
    assert gate.get("/who", secure=False).status == 200 and gate.get("/who").status == 200
    wait_for("the old address to close", lambda: port_free(old))
    assert len(set(m.store.names())) == 2, m.store.names()


@case()
def test_killed_while_a_reload_is_under_way(t):
    """kill -9 at moments of a reload: whichever configuration wins, everything is served."""
    one, two = run_site(t.service("ok")), run_site(t.service("ok", "second"))
    gate = t.headgate(one)
    ready(gate)
    load = Load(gate, kept=2, fresh=2, target="/who")
    for delay in (0, 0.02, 0.05, 0.1, 0.2):
        gate.configure(two)
        gate.proc.send_signal(signal.SIGHUP)
        time.sleep(delay)       # what is being hit is left to chance
        gate.kill_master()
        load.progress(20)
        gate.start()
        load.progress(20)
        wait_for("the new configuration's instance, alone", lambda: len(i := instances(gate)) == 1 and i[0]["state"] == "ready"
                 and "second" in procs.cmdline(i[0]["pid"]))
        gate.reload_ok(one)
        wait_for("the old one", lambda: len(i := instances(gate)) == 1 and i[0]["state"] == "ready" and "second" not in procs.cmdline(i[0]["pid"]))
    assert not load.stop(), load.failures[:5]
    assert gate.stop() == 0


@case()
def test_killed_while_a_worker_starts(t):
    """A worker that had nothing to serve yet ends with the master; those that serve stay."""
    gate = t.headgate(run_site(t.service("ok")))
    for _ in range(5):
        victim = gate.wait_workers()[0]
        os.kill(victim, signal.SIGKILL)
        wait_for("its successor", lambda: [w for w in gate.workers() if w != victim and len(gate.workers()) == 2])
        everyone = procs.descendants(gate.master)
        gate.kill_master()
        assert gate.get("/who").status == 200
        gate.start()
        assert gate.get("/who").status == 200
        gone([p for p in everyone if p not in gate.service_pids() and "service.py" not in procs.cmdline(p)])


@case()
def test_start_that_fails_harms_nobody(t):
    """The next master cannot start: bad file, foreign port. The orphans serve on, and the one after it takes over."""
    gate = t.headgate(run_site(t.service("ok")))
    before = who(gate)["pid"]
    began = procs.started(before)
    gate.kill_master()
    busy = socket.create_server(("127.0.0.1", t.port()))
    good = gate.text
    for bad in (good + "nonsense: 1\n", good.replace(f'https: "127.0.0.1:{gate.https}"', f'https: "127.0.0.1:{busy.getsockname()[1]}"')):
        with open(gate.file, "w") as f:
            f.write(bad)
        gate.spawn()
        assert gate.wait_exit() == 1
        same_process(gate, before, began)
    with open(gate.file, "w") as f:
        f.write(good)
    busy.close()
    gate.start()
    same_process(gate, before, began)


@case()
def test_orphan_that_hangs(t):
    """A stopped orphan does not hold up the next master for ever: it is killed, the other hands over."""
    gate = t.headgate(run_site(t.service("ok")))
    hung = gate.wait_workers()[0]
    gate.kill_master()
    os.kill(hung, signal.SIGSTOP)
    gate.start()
    assert not procs.alive(hung)
    for _ in range(8):
        assert gate.get("/who").status == 200
    assert "does not answer" in gate.log()


@case()
def test_long_download_outlives_the_drain(t):
    """The status shows an orphan until what it has under way is done; a stop waits for it too."""
    backend = t.backend()
    gate = t.headgate(proxy_site(backend.url))
    with gate.tls() as c:
        c.request("GET", "/drip/4000", "localhost")
        wait_for("the request at the backend", lambda: backend.requests)
        gate.kill_master()
        gate.start()
        states = [w["state"] for w in gate.status()["workers"]]
        assert states.count("serving") == 2 and "draining" in states, states
        assert "of a master that was killed" in gate.cli("status").stdout
        gate.proc.send_signal(signal.SIGTERM)
        assert len(c.answer().body) == 4000
    assert gate.wait_exit() == 0


# --- every process in turn

@case(serial=True)
def test_every_process_in_turn(t):
    """kill -9 of master, agent, each worker and each instance under h1 and h2 load: lost are the victim's own connections."""
    config = run_site(t.service("ok"))
    m = Managed(t, config)
    gate = m.gate
    h1, h2 = Load(gate, target="/who"), LoadH2(gate, clients=4)

    def settle():
        h1.progress(100)
        h2.progress(200)

    def quiet(what):
        assert not h1.failures and not h2.wrong and not h2.lost, (what, h1.failures[:3], h2.wrong[:3], h2.lost[:3])
    settle()
    quiet("before")
    gate.kill_master()
    settle()
    m.start()
    settle()
    quiet("master")
    os.kill(gate.agents()[0], signal.SIGKILL)
    settle()
    quiet("agent")
    for victim in gate.wait_workers():
        held = held_ports(victim)
        os.kill(victim, signal.SIGKILL)
        gone([victim])
        began = time.monotonic()
        gate.wait_workers(without=[victim])
        settle()
        strangers = [f for f in h1.failures if f[1] > began] + [x for x in h2.lost if x[0] not in held]
        assert not strangers and not h2.wrong, ("worker", strangers[:3], h2.wrong[:3])
        h1.failures.clear()
        h2.lost.clear()
    os.kill(ready(gate)["pid"], signal.SIGKILL)     # adopted
    victim = ready(gate)["pid"]
    settle_after_instance(h1, h2)
    os.kill(victim, signal.SIGKILL)                 # our own child
    settle_after_instance(h1, h2)
    h1.failures.clear()
    h2.wrong.clear()
    settle()
    quiet("instances")
    h2.stop()
    assert not h1.stop(), h1.failures[:3]


def settle_after_instance(h1, h2):
    """Requests that the instance had are answered with 502 at worst; no client's connection is lost."""
    h1.progress(200)
    wait_for("h2 requests", lambda: h2.served and not h2.wrong or h2.wrong.clear())
    assert not h2.lost, h2.lost[:3]
    assert all("status 502" in f[3] for f in h1.failures), h1.failures[:3]


def held_ports(pid):
    """Remote ports of the process's established connections, by /proc."""
    inodes = set()
    for fd in glob.glob(f"/proc/{pid}/fd/*"):
        try:
            inodes.add(os.readlink(fd).strip("socket:[]"))
        except OSError:
            pass
    with open("/proc/net/tcp") as f:
        rows = [line.split() for line in f][1:]
    return {int(r[2].rpartition(":")[2], 16) for r in rows if r[9] in inodes}


# --- instances

@case(both=True)
def test_adopted_is_supervised(t):
    """An adopted instance that dies is restarted, and that its end is not known is said; then it is an ordinary one."""
    gate = t.headgate(run_site(t.service("ok")))
    pid = ready(gate)["pid"]
    gate.kill_master()
    gate.start()
    assert ready(gate)["pid"] == pid
    os.kill(pid, signal.SIGKILL)
    wait_for("a new instance", lambda: [i for i in instances(gate) if i["state"] == "ready" and i["pid"] != pid])
    assert "not known" in instances(gate)[0]["last_exit"], instances(gate)
    os.kill(ready(gate)["pid"], signal.SIGKILL)
    wait_for("its end in words", lambda: "SIGKILL" in instances(gate)[0]["last_exit"])


@case(both=True)
def test_socket_of_a_service(t):
    """listen: fd: the instance's socket is kept with ours: an adopted instance that dies is back on it, and clients queue meanwhile."""
    m = Managed(t, run_site(t.service("ok"), ", listen: fd"))
    gate = m.gate
    before = ready(gate)
    wait_for("its socket in the store", lambda: [n for n in m.store.names() if n == f"headgate.service.{before['id']}"])
    gate.kill_master()
    m.start()
    os.kill(ready(gate)["pid"], signal.SIGKILL)
    for _ in range(10):
        assert gate.get("/who").status == 200
    after = ready(gate)
    assert (after["address"], after["pid"] != before["pid"]) == (before["address"], True), (before, after)
    wait_for("the new id alone", lambda: [n for n in m.store.names() if "service" in n] == [f"headgate.service.{after['id']}"])
    assert gate.stop() == 0 and not m.store.names()


@case()
def test_adopted_restarts_and_stops(t):
    """restart, a changed definition and stop work on adopted instances; ids are never used twice."""
    gate = t.headgate(run_site(t.service("ok")))
    first = ready(gate)
    gate.kill_master()
    gate.start()
    assert ready(gate)["id"] == first["id"]
    assert gate.cli("restart", "s/app").returncode == 0
    gone([first["pid"]])
    second = ready(gate)
    assert second["id"] > first["id"]
    gate.kill_master()
    gate.start()
    gate.reload_ok(run_site(t.service("ok", "changed")))
    gone([second["pid"]])
    third = ready(gate)
    assert third["id"] > second["id"]
    gate.kill_master()
    gate.start()
    assert gate.cli("stop").returncode == 0
    gate.wait_exit()
    assert not procs.alive(third["pid"]) and not records(gate)


@case()
def test_definition_changed_meanwhile(t):
    """The file was changed while there was no master: the adopted instance serves until the new one is ready."""
    gate = t.headgate(run_site(t.service("ok")))
    old = ready(gate)["pid"]
    load = Load(gate, target="/who")
    load.progress(50)
    gate.kill_master()
    gate.configure(run_site(t.service("ok", "changed")))
    gate.start()
    gone([old])
    load.progress(50)
    assert not load.stop(), load.failures[:3]
    assert "changed" in who(gate)["argv"]


@case()
def test_service_removed_meanwhile(t):
    """A service that is configured no more is adopted, drained and stopped."""
    gate = t.headgate(run_site(t.service("ok")))
    pid = ready(gate)["pid"]
    gate.kill_master()
    gate.configure("sites:\n  s: { host: localhost, https: both, routes: { /: { respond: hello } } }\n")
    gate.start()
    gone([pid])
    assert gate.get("/").body == b"hello"
    wait_for("its record to go", lambda: not records(gate))


@case()
def test_died_meanwhile(t):
    """An instance that died while there was no master: what it left behind ends, and the service starts anew."""
    gate = t.headgate(run_site(t.service("group")))
    pid = ready(gate)["pid"]
    family = [pid, *procs.descendants(pid)]
    assert len(family) == 3, family
    gate.kill_master()
    os.kill(pid, signal.SIGKILL)
    gone([pid])
    gate.start()
    gone(family)
    assert ready(gate)["pid"] != pid and gate.get("/who").status == 200


@case(both=True)
def test_adopted_group_ends(t):
    """The children of an adopted instance end with it: those of its group, and those that left it."""
    gate = t.headgate(run_site(t.service("group")))
    family = [ready(gate)["pid"], *procs.descendants(ready(gate)["pid"])]
    gate.kill_master()
    gate.start()
    assert gate.stop() == 0
    assert not [p for p in family if procs.alive(p)]


@case()
def test_killed_while_an_instance_starts(t):
    """The master dies while an instance starts: the next one goes on waiting for it."""
    flag = t.path("go")
    gate = t.headgate(run_site(t.service("wait-for-file", flag)))
    pid = instances(gate)[0]["pid"]
    gate.kill_master()
    gate.start()
    now = instances(gate)[0]
    assert (now["pid"], now["state"]) == (pid, "starting"), now
    t.write("go", "")
    assert ready(gate)["pid"] == pid and gate.get("/who").status == 200


SPOILED = [
    Row("half", spoil=lambda text: text[:len(text) // 2]),
    Row("empty", spoil=lambda text: ""),
    Row("other_boot", spoil=lambda text: re_line(text, "boot", "00000000-0000-0000-0000-000000000000")),
    Row("number_of_another_process", spoil=lambda text: re_line(text, "pid", str(os.getpid())), marks=True),
    Row("number_given_out_anew", spoil=lambda text: re_line(text, "started", "1"), marks=True),
    Row("no_pid", spoil=lambda text: re_line(text, "pid", "1")),
    Row("no_number", spoil=lambda text: re_line(text, "state", "-3")),
    Row("later_version", spoil=lambda text: text.replace("instance 1\n", "instance 2\n", 1)),
]


def re_line(text, key, value):
    lines = [f"{key} {value}" if line.startswith(key + " ") else line for line in text.split("\n")]
    return "\n".join(lines)


@table(SPOILED, setup=lambda t: t)
def test_record_is_not_trusted(t, _, row):
    """
    A record that names no living instance of this boot: no stranger is harmed, the service starts anew. marks: the record
    can be read, so what has the instance's marks in its environment, here itself, is what it left behind.
    """
    gate = t.headgate(run_site(t.service("ok")), name=row.name)
    pid = ready(gate)["pid"]
    gate.kill_master()
    [record] = records(gate)
    with open(record) as f:
        text = f.read()
    with open(record, "w") as f:
        f.write(row.spoil(text))
    gate.start()
    new = ready(gate)["pid"]
    assert new != pid and gate.get("/who").status == 200
    if getattr(row, "marks", False):
        gone([pid])
    assert procs.alive(pid) != getattr(row, "marks", False), "a process was killed that the record did not name"
    procs.kill_all([pid])
    assert gate.stop() == 0


@case(both=True)
def test_output_goes_on(t):
    """What an instance prints while there is no master neither ends nor stops it, and is in the log of the next one."""
    gate = t.headgate(run_site(t.service("ok")))
    pid = ready(gate)["pid"]
    gate.kill_master()
    for i in range(20):
        assert gate.get(f"/say/{i}").status == 200
    gate.start()
    gate.wait_log('"line":"said 19', '"stdout"')
    gate.get("/say/later")
    gate.wait_log('"line":"said later')
    assert ready(gate)["pid"] == pid
