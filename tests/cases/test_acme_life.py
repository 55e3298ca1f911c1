"""Certificates over time: renewal under load, the CA's word about when, and what a crash, a full disk or two headgates leave behind."""
import random

import acme_faults as faults
from headgate import *
from pebble import *

HOST = "a.example.org"
ALWAYS = 1000000


# --- renewal

@case(slow=True)
def test_renewal_under_load(t):
    """Certificates of 60 seconds, renewed twice under load: not one handshake fails, and no client sees one that has ended."""
    hosts = [HOST, "b.example.org"]
    i = Issuing(t, site(*hosts), validity=60).start()
    first = i.wait_served(*hosts)
    watches = [Watch(i, *hosts, pause=0.02) for _ in range(4)]
    second = i.wait_served(*hosts, but=first, guard=60)
    i.wait_served(*hosts, but=second, guard=60)
    for w in watches:
        wait_for("each client has seen them all", lambda w=w: all(len(w.seen[h]) >= 3 for h in hosts))
        w.end()
        w.check()
        assert not w.missed, w.missed[:5]
        assert w.count > 500, w.count
    i.check_store()
    assert '"level":"error"' not in i.gate.log()


@case()
def test_renewal_is_not_too_early(t):
    """With 90 days left nothing is asked of the CA after a restart."""
    i = Issuing(t, site(HOST), proxy=faults.Proxy).start()
    i.wait_served(HOST)
    assert i.gate.stop() == 0
    since = i.faults.mark()
    i.start()
    i.wait_served(HOST)
    told = i.certs()[HOST]
    ends = told["not_after"] - time.time()
    assert told["state"] == "served" and told["next"]["at"] - time.time() > ends / 2, told
    assert not i.faults.count("newOrder", since)


# --- the CA's word (RFC 9773)

class Ari:
    """The CA's answers about renewal: `now` is called for each."""

    def __init__(self, now):
        self.now, self.asked = now, []

    def __call__(self, id):
        self.asked.append(id)
        return self.now(id)

    def proxy(self, t, ca):
        return faults.Proxy(t, ca, ari=self)


def look_now(i):
    """As if the time had come when the CA wants to be asked again, and may be; the gate is stopped."""
    path = os.path.join(i.gate.state, "acme", "hosts", HOST + ".json")
    with open(path) as f:
        record = json.load(f)
    record["ari"]["look_again"] = record["next_at"] = 0
    with open(path, "w") as f:
        json.dump(record, f)


@case()
def test_ari_window_past(t):
    """A window in the past (the CA is about to revoke): renewed at once, with a new key, and the old one named by `replaces`."""
    gone = set()
    ari = Ari(lambda id: faults.window(-7200, -3600) if id in gone else faults.window(86400 * 30, 86400 * 31))
    i = Issuing(t, site(HOST), proxy=ari.proxy).start()
    before = i.wait_served(HOST)
    wait_for("the look", lambda: ari.asked)
    chain, key, _ = i.unit(HOST)
    id = faults.ari_id(blocks(chain)[0])
    assert set(ari.asked) == {id}, (ari.asked, id)
    assert i.faults.of("newOrder")[0].payload.get("replaces") is None
    gone.add(id)
    assert i.gate.stop() == 0
    look_now(i)
    i.start()
    i.wait_served(HOST, but=before)
    wait_for("the unit", lambda: i.unit(HOST)[1] != key)
    assert i.faults.of("newOrder")[-1].payload["replaces"] == id
    assert i.check_store() == [HOST]


@case()
def test_ari_moment_kept(t):
    """The moment in the window is chosen once: the same after a restart, and inside."""
    ari = Ari(lambda id: faults.window(86400, 86400 * 20))
    i = Issuing(t, site(HOST), proxy=ari.proxy).start()
    i.wait_served(HOST)
    at = lambda: wait_for("the window", lambda: (h := i.certs()[HOST])["ari"] and h["state"] == "served" and h["next"]["at"])      # noqa: E731
    first = at()
    assert 86400 - 60 <= first - time.time() <= 86400 * 20, first - time.time()
    assert i.gate.stop() == 0
    i.start()
    assert at() == first


ARI_FAULTS = [
    Row("none", answer=lambda: faults.Answer(404, {"type": faults.URN + "malformed", "detail": "no such certificate"})),
    Row("500", answer=lambda: faults.Answer(500, "oops")),
    Row("reversed", answer=lambda: faults.window(86400, 3600)),
    Row("empty", answer=lambda: faults.Answer(200, {})),
    Row("garbage", answer=lambda: faults.Answer(200, b"\0\1{")),
    Row("numbers", answer=lambda: faults.Answer(200, {"suggestedWindow": {"start": 1, "end": 2}})),
    Row("no_times", answer=lambda: faults.Answer(200, {"suggestedWindow": {"start": "tomorrow", "end": "never"}})),
    Row("evil_url", answer=lambda: faults.window(86400, 86400 * 2, url="javascript:alert(1)")),
    Row("huge", answer=lambda: faults.Answer(200, b'{"x":"' + b"x" * (10 << 20) + b'"}')),
    Row("deep", answer=lambda: faults.Answer(200, b"[" * 100000)),
    Row("far", answer=lambda: faults.window(86400 * 3000, 86400 * 3001)),
]


class AriGate:
    def __init__(self, t):
        self.ari = Ari(lambda id: faults.Answer(404, "no"))
        self.i = Issuing(t, site(HOST), proxy=self.ari.proxy).start()
        self.i.wait_served(HOST)


@table(ARI_FAULTS, AriGate)
def test_ari_nonsense(t, gate, row):
    """An answer that is none is as if the CA had nothing to say: renewed before its end all the same, and not at once."""
    gate.ari.now = lambda id: row.answer()
    asked = len(gate.ari.asked)
    gate.i.renew_ok(HOST)
    wait_for("the look", lambda: len(gate.ari.asked) > asked)
    gate.i.renew_ok(HOST)       # asked about this one too, and not again and again about the other
    wait_for("the next look", lambda: len(set(gate.ari.asked[asked:])) >= 2)
    assert len(gate.ari.asked) - asked <= 4, gate.ari.asked[asked:]
    assert gate.i.gate.stop() == 0      # what it noted of the answer is what it begins with
    orders = gate.i.faults.count("newOrder")
    gate.i.start()
    told = wait_for("a state", lambda: (h := gate.i.certs()[HOST])["state"] == "served" and h)
    assert time.time() + 3600 < told["next"]["at"] < told["not_after"], told
    assert "javascript" not in json.dumps(told)
    assert gate.i.faults.count("newOrder") == orders


@case()
def test_replaces_refused(t):
    """The CA does not want `replaces`: ordered again without it."""
    ari = Ari(lambda id: faults.window(86400 * 30, 86400 * 31))
    i = Issuing(t, site(HOST), proxy=ari.proxy).start()
    i.wait_served(HOST)
    for status, kind in ((409, "alreadyReplaced"), (404, "malformed"), (403, "unauthorized")):
        since = i.faults.mark()
        i.faults.fault("newOrder", faults.problem(status, kind), ALWAYS, lambda x: "replaces" in x.payload)
        i.renew_ok(HOST)
        orders = i.faults.of("newOrder", since)
        assert "replaces" in orders[0].payload and "replaces" not in orders[-1].payload, [o.payload for o in orders]
        i.faults.clear()
    i.check_store()


# --- crashes

def kill(i):
    """kill -9 of all its processes at once, and their end."""
    pids = [i.gate.master] + procs.descendants(i.gate.master)
    procs.kill_all(pids)
    i.gate.proc.wait()
    procs.reap()
    wait_for("their end", lambda: not any(procs.alive(p) for p in pids))


STEPS = ("newOrder", "authz", "challenge", "finalize", "order", "cert")


def killed(step, agent):
    @case()
    def run(t):
        i = Issuing(t, site(HOST), proxy=faults.Proxy)
        unseen = step in ("newOrder", "challenge")     # else the CA would have made one, or looked for what is gone
        rule = i.faults.fault(step, lambda x: faults.stall(x) if unseen else (x.forward(), faults.stall(x))[1])
        i.start()
        wait_for("the step", lambda: rule.hits)
        if agent:
            before, = i.gate.agents()
            os.kill(before, signal.SIGKILL)
            wait_for("another agent", lambda: i.gate.agents() not in ([], [before]))
        else:
            kill(i)
            i.check_store()
            i.faults.clear()
            i.start()
        i.faults.clear()
        i.wait_served(HOST)
        wait_for("the unit", lambda: i.check_store() == [HOST])
        urls = [x for x in i.faults.of("newOrder") if x.status == 201]
        assert len(urls) == 1, f"{len(urls)} orders"
        assert i.faults.count("newAccount") == 1
        assert len({x.path for x in i.faults.of("cert")}) == 1
    run.__doc__ = f"The {'agent' if agent else 'whole of it'} is killed at {step}: the order that was begun is finished, no second one is made."
    return run


for _step in STEPS:
    globals()[f"test_agent_killed_at_{_step}"] = killed(_step, True)
    globals()[f"test_killed_at_{_step}"] = killed(_step, False)


def killed_at_random(seed):
    @case(slow=True)
    def run(t):
        moments = random.Random(seed)
        i = Issuing(t, site(HOST, "b.example.org"))
        for n in range(10):
            i.start()
            if n % 3 == 2:
                wait_for("a certificate", lambda: i.served(HOST), guard=100)
                subprocess.Popen([t.program, "certs", "renew", HOST, "--config", i.gate.file], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                 stdin=subprocess.DEVNULL)
            time.sleep(moments.random() * 0.5)      # the moment is what this is about
            kill(i)
            i.check_store()
        i.start()
        for host in (HOST, "b.example.org"):
            wait_for("a certificate", lambda host=host: i.served(host) or (i.renew(host), i.served(host))[1])
        assert i.check_store() == [HOST, "b.example.org"]
        i.renew_ok(HOST)
    run.__doc__ = "kill -9 of all of it at random moments: what is on disk is whole each time, and a certificate is served in the end."
    return run


for _seed in range(10):
    globals()[f"test_killed_at_random_{_seed}"] = killed_at_random(_seed)


# --- the disk

UNSHARE = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--mount"]


class SmallDisk:
    """The state folder on a tmpfs of its own, in a mount namespace; look at it and fill it through `path`."""

    def __init__(self, i, size):
        self.i = i
        os.makedirs(i.gate.state, exist_ok=True)
        i.gate.wrap = [*UNSHARE, "sh", "-c", f'mount -t tmpfs -o size={size},mode=0755 tmpfs "{i.gate.state}" && exec "$@"', "sh"]

    @property
    def path(self):
        return f"/proc/{self.i.gate.master}/root{self.i.gate.state}"

    def fill(self, free):
        """Until no more than so many bytes are left."""
        st = os.statvfs(self.path)
        left = st.f_bavail * st.f_bsize - free
        if left > 0:
            with open(os.path.join(self.path, "filler"), "wb") as f:
                f.write(bytes(left))

    def empty(self):
        os.remove(os.path.join(self.path, "filler"))


@case()
def test_disk_full(t):
    """A full disk, at each amount that is left: the old unit stays whole on it, a certificate is in service, and the next one comes with the room."""
    i = Issuing(t, site(HOST))
    disk = SmallDisk(i, "1m")
    i.start()
    i.wait_served(HOST)
    real, i.gate.state = i.gate.state, disk.path
    assert i.check_store() == [HOST]
    watch = Watch(i, HOST)
    for pages in range(8):
        disk.fill(pages * 4096)
        i.renew(HOST)
        assert i.check_store() == [HOST], f"{pages} pages left"
        assert i.served(HOST)
        disk.empty()
    i.renew_ok(HOST)
    assert i.check_store() == [HOST]
    watch.end()
    watch.check()
    assert not watch.missed, watch.missed
    i.gate.state = real


@case()
def test_disk_full_from_the_start(t):
    """No room for an account: told in words, and the first certificate comes when there is some."""
    i = Issuing(t, site(HOST))
    disk = SmallDisk(i, "1m")
    i.ca.stop()
    i.start()
    i.wait_failed(HOST)
    disk.fill(0)
    i.ca.start()
    r = i.renew(HOST)
    assert r.returncode == 0 or "space" in r.stdout + r.stderr, (r.stdout, r.stderr)
    disk.empty()
    i.renew_ok(HOST)
    i.wait_served(HOST)


# --- several headgates

def owner(path):
    st = os.stat(path)
    return st.st_uid, st.st_gid


@case()
def test_two_share_a_folder(t):
    """Two headgates whose certs folder is one: the second one serves what the first one has, and no unit is torn when both renew."""
    i = Issuing(t, site(HOST), proxy=faults.Proxy).start()
    i.wait_served(HOST)
    other = t.unstarted(site(HOST), name="other", top={"acme": i.gate.top["acme"]})
    shared = os.path.join(other.state, "certs")
    os.makedirs(shared)
    os.chown(other.state, *owner(i.gate.state))
    other.wrap = [*UNSHARE, "sh", "-c", f'mount --bind "{i.gate.state}/certs" "{shared}" && exec "$@"', "sh"]
    other.start()

    def serves():
        try:
            with Conn(("127.0.0.1", other.https), tls=i.context(), sni=HOST) as c:
                return c.get("/", HOST).status == 200
        except (ssl.SSLError, OSError):
            return False
    wait_for("the second one's certificate", serves)
    assert i.faults.count("newOrder") == 1, "the second one ordered too"
    i.renew_ok(HOST)
    i.check_store()
    assert serves()


@case()
def test_damaged_store(t):
    """A unit that was cut, emptied or mixed on disk is not served; a new one comes."""
    i = Issuing(t, site(HOST)).start()
    i.wait_served(HOST)
    damage = {
        "cut": lambda f: cut(os.path.join(f, "cert.pem"), 300),
        "empty": lambda f: cut(os.path.join(f, "cert.pem"), 0),
        "no_key": lambda f: os.remove(os.path.join(f, "key.pem")),
        "other_key": lambda f: shutil.copy(certificate(t, "other", ["x.example.org"])[1], os.path.join(f, "key.pem")),
        "gone": shutil.rmtree,
        "bad_meta": lambda f: cut(os.path.join(f, "meta.json"), 7),
    }
    for name, spoil in damage.items():
        assert i.gate.stop() == 0
        spoil(i.units(HOST)[-1])
        i.start()
        i.wait_served(HOST)
        if name == "bad_meta":      # of which nothing in service depends
            i.renew_ok(HOST)
        wait_for(f"a whole unit after {name}", lambda: i.units(HOST) and i.check_store() == [HOST])


def cut(path, n):
    with open(path, "r+b") as f:
        f.truncate(n)
