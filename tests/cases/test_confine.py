"""
Instances in cgroups of their own, and `memory`. The cases make the delegated cgroup themselves, as root where cgroup v2
is mounted; elsewhere, and where the kernel has no memory controller for it, they see to what is said instead.
"""
import itertools

from headgate import *

PROGRAM = os.path.join(HERE, "hostile_service.py")
numbers = itertools.count()


def read(*path):
    with open(os.path.join(*path)) as f:
        return f.read()


def write(text, *path):
    with open(os.path.join(*path), "w") as f:
        f.write(text)


def own_group():
    """Where we stand in cgroup v2, as a folder; None where there is none."""
    for line in read("/proc/self/mountinfo").splitlines():
        left, right = line.split(" - ")
        if right.split()[0] == "cgroup2" and left.split()[3] == "/":
            own = [x[3:] for x in read("/proc/self/cgroup").splitlines() if x.startswith("0::")]
            return left.split()[4] + own[0].rstrip("/")
    return None


def why_none():
    return "no cgroup is delegated to headgate" if own_group() else "this system has no cgroup v2 mounted"


def remove(path):
    for p in read(path, "cgroup.procs").split():
        os.kill(int(p), signal.SIGKILL)
    write("1", path, "cgroup.kill")
    for folder, _, _ in os.walk(path, topdown=False):
        wait_for("an empty cgroup", lambda: "populated 0" in read(folder, "cgroup.events"))
        os.rmdir(folder)


def group(t, delegated=True):
    """A cgroup as a service manager would delegate it; None where we may not make one."""
    above = own_group()
    if not above:
        return None
    path = f"{above}/headgate-test-{os.getpid()}-{next(numbers)}"
    try:
        os.mkdir(path)
    except OSError:
        return None
    t.defer(lambda: remove(path))
    if delegated:
        os.setxattr(path, "user.delegate", b"1")
    if delegated and t.user:
        for name in ("", "cgroup.procs", "cgroup.subtree_control"):
            os.chown(os.path.join(path, name), NOBODY, NOBODY)
    return path


class Grouped(Headgate):
    """headgate, started in a cgroup."""

    def __init__(self, t, base, mode, extra=""):
        self.base = base
        super().__init__(t, run_site(f"[{PYTHON}, {PROGRAM}, {mode}, $port, {t.path('go')}]", ", restart: { min: 50ms, max: 100ms }" + extra))

    def command(self, *args):
        enter = ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', self.base] if self.base else []
        return enter + super().command(*args)

    def app(self):
        return next(s for s in self.status()["services"] if s["service"] == "s/app")["instances"][-1]

    def ready(self):
        wait_for("a ready instance", lambda: self.app()["state"] == "ready")
        return self.app()


def groups(base):
    return sorted(x for x in os.listdir(base) if x.startswith("instance-"))


def hidden():
    return [p for p in procs.descendants(os.getpid()) if procs.cmdline(p).endswith("hidden")]


@case(both=True)
def test_each_has_its_own(t):
    """Each instance stands in a group named by its number; a restart kills all that was in the old one and removes it."""
    base = group(t)
    gate = Grouped(t, base, "hides").start()
    first = gate.ready()
    if base:
        assert groups(base) == [f"instance-{first['id']}"], groups(base)
        inside = read(base, groups(base)[0], "cgroup.procs").split()
        assert str(first["pid"]) in inside and len(inside) == 2, inside
        assert str(gate.master) not in inside
    gone = hidden()
    assert len(gone) == 1, gone
    assert gate.cli("restart", "s/app").returncode == 0
    wait_for("the next one", lambda: gate.app()["id"] != first["id"] and gate.app()["state"] == "ready")
    if base:        # without one, it is a stranger, and lives as long as the master
        wait_for("its end", lambda: not procs.alive(gone[0]))
        wait_for("the old group's end", lambda: groups(base) == [f"instance-{gate.app()['id']}"])
        assert len(hidden()) == 1, hidden()
    assert gate.stop() == 0
    assert not hidden()
    if base:
        assert groups(base) == []


@case(both=True)
def test_adopted(t):
    """The group outlives the master: what the instance hides is found there by the next one, though nothing else tells whose it is."""
    base = group(t)
    gate = Grouped(t, base, "hides").start()
    first = gate.ready()
    gate.kill_master()
    gate.start()
    assert gate.ready()["pid"] == first["pid"]
    if base:
        assert groups(base) == [f"instance-{first['id']}"]
        assert gate.stop() == 0
        assert not hidden() and groups(base) == []
    else:
        procs.kill_all(hidden())    # no group, no mark, no session: nobody can know


def limited(base):
    return base and "memory" in read(base, "cgroup.controllers").split()


@case(both=True)
def test_memory(t):
    """memory: what needs more is killed, and started again; status says why. Where it cannot be limited, status and log say that."""
    base = group(t)
    gate = Grouped(t, base, "eats", ", memory: 96MiB").start()
    first = gate.ready()
    if not limited(base):
        why = "the memory controller is not delegated with its cgroup" if base else why_none()
        assert first["warning"].startswith("memory is not limited: " + why) and "memory_max" not in first, first
        assert why in gate.cli("status").stdout
        gate.wait_log("memory of a service is not limited", "s/app", why)
        return
    assert first["memory_max"] == 96 << 20 and "warning" not in first, first
    assert read(base, f"instance-{first['id']}", "memory.max").strip() == str(96 << 20)
    t.write("go", "")
    wait_for("its end", lambda: "it needed more than its memory of 96.0 MiB" in gate.app()["last_exit"])
    os.unlink(t.path("go"))
    assert gate.ready()["pid"] != first["pid"]
    assert gate.stop() == 0
    assert read(base, "cgroup.subtree_control").split() == []


@case(both=True)
def test_memory_outlives_the_master(t):
    """A master that is killed leaves a group that the next one can be started in; it limits what it adopts anew."""
    base = group(t)
    gate = Grouped(t, base, "eats", ", memory: 96MiB").start()
    first = gate.ready()
    gate.kill_master()
    if limited(base):
        wait_for("the group to be free again", lambda: read(base, "cgroup.subtree_control").split() == [])
    gate.start()
    again = gate.ready()
    assert again["pid"] == first["pid"]
    if limited(base):
        assert again["memory_max"] == 96 << 20
        assert read(base, f"instance-{first['id']}", "memory.max").strip() == str(96 << 20)
    else:
        assert again["warning"].startswith("memory is not limited: "), again
    assert gate.stop() == 0


@case()
def test_memory_by_reload(t):
    """A limit that comes by reload: the service is started anew with it."""
    base = group(t)
    gate = Grouped(t, base, "eats").start()
    first = gate.ready()
    assert "memory_max" not in first and "warning" not in first, first
    gate.reload_ok(run_site(f"[{PYTHON}, {PROGRAM}, eats, $port, {t.path('go')}]", ", memory: 96MiB"))
    wait_for("another one", lambda: gate.app()["id"] != first["id"] and gate.app()["state"] == "ready")
    assert gate.app()["memory_max"] == 96 << 20 if limited(base) else gate.app()["warning"]


@case()
def test_not_delegated(t):
    """A group that nobody delegated is left alone, root or not: no folder is made in it."""
    base = group(t, delegated=False)
    gate = Grouped(t, base, "eats", ", memory: 96MiB").start()
    assert why_none() in gate.ready()["warning"]
    if base:
        assert groups(base) == []
