"""
A hostile or broken CA or network: every fault at every step. Nothing that a strict client would refuse is served or stored, nobody else
is held up, the reason is told, and all is well once the CA is.
"""
import concurrent.futures

import acme_faults as faults
from headgate import *
from pebble import *

ALWAYS = 1000000


class Gate:
    """A gate behind a misbehaving CA, one host a row, and a strict client that looks at all of them all the while."""

    def __init__(self, t, rows):
        self.hosts = {r.name: r.name.lower().replace("_", "-").replace("/", "--") + ".example.org" for r in rows}
        self.i = Issuing(t, site("good.example.org", *self.hosts.values()), proxy=faults.Proxy)
        self.faults = self.i.faults
        self.rules = {r.name: self.arm(r) for r in rows}
        self.i.start()
        self.watch = Watch(self.i, "good.example.org", *self.hosts.values(), pause=0.03)
        wait_for("each host to have a certificate or an error", self.settled, guard=250, every=0.2)
        self.told = self.i.certs()
        assert self.told["good.example.org"]["serving"], self.told["good.example.org"]
        self.recovered = None

    def arm(self, row):
        host = self.hosts[row.name]
        return self.faults.fault(row.step, row.fault(self.faults), ALWAYS, lambda x: x.host == host)

    def settled(self):
        told = self.i.certs()
        return all(h["serving"] or h["failures"] for h in told.values())

    def recover(self):
        """All faults gone: each host that failed is tried again. {host: what `certs renew` said}"""
        if self.recovered is None:
            self.faults.clear()
            failed = [h for h in self.hosts.values() if not self.told[h]["serving"]]
            with concurrent.futures.ThreadPoolExecutor(4) as pool:
                self.recovered = dict(zip(failed, pool.map(self.i.renew, failed)))
        return self.recovered


def look(gate, row, may_succeed):
    """What must hold once the row's fault was met."""
    host = gate.hosts[row.name]
    told = gate.told[host]
    assert gate.rules[row.name].hits, "the fault was not met"
    if not told["serving"]:
        text = told["error"]["text"]
        assert text and text.isprintable() and len(text) <= 512, text
        assert not gate.watch.seen[host] or gate.recovered is not None
    else:
        assert may_succeed, told


def check_end(gate):
    gate.recover()
    gate.i.wait_served(*gate.hosts.values())
    gate.watch.end()
    gate.watch.check()
    assert {os.path.basename(f) for f in gate.i.units()} == {"good.example.org", *gate.hosts.values()}
    gate.i.check_store(newest=40)


def end_row(rows):
    """The last row looks at all of them together: they recover, and the strict client never had a complaint."""
    return rows + [Row("recovery")]


def gate_of(rows):
    return lambda t: Gate(t, rows)


# --- answers about one order

def bodies(step):
    return [Row(f"{step}/{name}", step=step, fault=lambda p, make=make: faults.body(make, type=None)) for name, make in faults.BODIES.items()]


ANSWERS = [r for step in ("newOrder", "authz", "challenge", "finalize", "order") for r in bodies(step)]


@table(end_row(ANSWERS), gate_of(ANSWERS))
def test_bodies(t, gate, row):
    """An answer that is no ACME, is cut, huge or deep. What does not matter may be overlooked."""
    if row.name == "recovery":
        return check_end(gate)
    return look(gate, row, may_succeed=True)


EVIL = list(faults.evil_urls("https://127.0.0.1:1"))
EVIL_FIELD = [n for n in EVIL if n != "line_break"]      # which would end the field


def urls(where, step, set_url, which=EVIL):
    return [Row(f"{where}/{name}", step=step, fault=lambda p, name=name: lambda x: set_url(x.forward(), faults.evil_urls(p.origin)[name])) for name in which]


def in_json(*keys):
    return lambda a, url: a.rewrite(faults.at(*keys, value=url))


def certificate_url(a, url):
    """Only once it is there."""
    return a.rewrite(lambda v: v.update(certificate=url) if v.get("certificate") else None)


URLS = urls("authorizations", "newOrder", in_json("authorizations", 0)) + urls("finalize", "newOrder", in_json("finalize")) \
    + urls("location", "newOrder", lambda a, url: a.set("Location", url), EVIL_FIELD) + urls("challenge", "authz", in_json("challenges", "*", "url")) \
    + urls("certificate", "order", certificate_url)


@table(end_row(URLS), gate_of(URLS))
def test_urls(t, gate, row):
    """A URL that leads elsewhere, or is none, is not gone to."""
    if row.name == "recovery":
        return check_end(gate)
    look(gate, row, may_succeed=False)
    gone = [x for x in gate.faults.log if x.path.startswith("/x")]
    assert not gone, gone
    return None


TOKENS = [Row(name, step="authz", fault=lambda p, token=token: faults.edit(faults.at("challenges", "*", "token", value=token)))
          for name, token in faults.EVIL_TOKENS.items()]


@table(end_row(TOKENS), gate_of(TOKENS))
def test_tokens(t, gate, row):
    """A token that is none is not answered, and the CA not told to look."""
    if row.name == "recovery":
        return check_end(gate)
    look(gate, row, may_succeed=False)
    host = gate.hosts[row.name]
    assert not [x for x in gate.faults.of("challenge") if x.host == host and x.payload == {}] or gate.recovered is not None
    return None


CHAINS = [Row(name, step="cert", fault=lambda p, name=name: p.chains.fault(name)) for name in faults.Chains.names()]


@table(end_row(CHAINS), gate_of(CHAINS))
def test_chains(t, gate, row):
    """A certificate that a strict client would refuse is neither served nor stored; one with odd text around it is."""
    if row.name == "recovery":
        return check_end(gate)
    host, good = gate.hosts[row.name], row.name in faults.Chains.GOOD
    look(gate, row, may_succeed=good)
    handed = next(x.answer.body.decode("latin-1") for x in gate.faults.of("cert") if x.host == host)
    key = gate.i.unit(host)[1] if good else None
    why = strict(t, handed, host, gate.i.ca.roots, key)
    assert not why if good else why or row.name in ("other_key",), (row.name, why)     # the fault is one, or there is nothing to see here
    assert gate.told[host]["serving"] == good, gate.told[host]
    assert bool(gate.i.units(host)) == good or gate.recovered is not None
    return None


# --- the CA as a whole: each row is another CA, with an account of its own

class Ca:
    """One host, whose CA is another one in each row."""
    HOST = "a.example.org"

    def __init__(self, t):
        self.i = Issuing(t, site(self.HOST), proxy=faults.Proxy).start()
        self.i.wait_served(self.HOST)
        self.watch = Watch(self.i, self.HOST, pause=0.05)
        self.faults = self.i.faults

    def begin(self, row, times=ALWAYS):
        """A CA that was never asked before, with the row's fault; the exchanges from here on."""
        self.faults.clear()
        self.rule = self.faults.fault(row.step, row.fault(self.faults), times)
        self.since = self.faults.mark()
        self.i.configure(site(self.HOST), url=self.faults.alias(row.name.replace("/", "-")))
        self.i.gate.reload_ok()

    def state(self):
        return self.i.certs()[self.HOST]

    def check(self):
        self.watch.check()
        assert not self.watch.missed, self.watch.missed
        self.i.check_store(newest=2)        # each row adds one


def ca_row(step, name, fault, **kw):
    return Row(f"{step}/{name}", step=step, fault=fault, **kw)


DIRECTORY = [ca_row("directory", name, lambda p, make=make: faults.body(make, type=None)) for name, make in faults.BODIES.items()] + [
    ca_row("directory", f"newOrder_{name}", lambda p, name=name: faults.edit(faults.at("newOrder", value=faults.evil_urls(p.origin)[name])))
    for name in EVIL]
ACCOUNT = [ca_row("newAccount", name, lambda p, make=make: faults.body(make, type=None)) for name, make in faults.BODIES.items()] + [
    ca_row("newAccount", "location_" + name, lambda p, name=name: lambda x: x.forward().set("Location", faults.evil_urls(p.origin)[name]))
    for name in EVIL_FIELD] + [
    ca_row("newAccount", type, lambda p, type=type, code=code: faults.problem(code, type, "not you")) for type, code in
    (("unauthorized", 403), ("invalidContact", 400), ("externalAccountRequired", 403), ("userActionRequired", 403), ("malformed", 400))]
NONCE = [ca_row("newNonce", name, lambda p, value=value: lambda x: x.forward().set("Replay-Nonce", value)) for name, value in
         (("none", None), ("empty", ""), ("quote", 'a"b'), ("utf8", "n\u00f6nce"), ("long", "x" * 20000), ("spaces", "a b c"))]


def of_the_ca(t, ca, row):
    ca.begin(row)
    wait_for("the fault", lambda: ca.rule.hits)
    ca.i.renew(ca.HOST)
    evil = [x for x in ca.faults.log[ca.since:] if x.path.startswith("/x")]
    assert not evil, evil
    ca.faults.clear()
    ca.i.renew_ok(ca.HOST)
    assert ca.state()["failures"] == 0
    ca.check()


@table(DIRECTORY + NONCE, Ca)
def test_directory(t, ca, row):
    """A directory that is none, nonces that are none: the old certificate stays, and the next try succeeds when the CA is well."""
    of_the_ca(t, ca, row)


@table(ACCOUNT, Ca)
def test_account(t, ca, row):
    """Accounts that are none, in the same way."""
    of_the_ca(t, ca, row)


CUTS = (faults.cut_before, faults.cut_after, faults.cut_inside)
ALL_STEPS = ("directory", "newNonce", "newAccount", "newOrder", "authz", "challenge", "finalize", "order", "cert")
NETWORK = [ca_row(step, cut.__name__, lambda p, cut=cut: cut) for step in ALL_STEPS for cut in CUTS]


@table(NETWORK, Ca)
def test_cut(t, ca, row):
    """The connection is cut once, before the CA has seen the request, behind it, and inside its answer."""
    ca.begin(row, times=1)
    wait_for("the fault", lambda: ca.rule.hits)
    r = ca.i.renew(ca.HOST)
    if r.returncode:
        ca.i.renew_ok(ca.HOST)
    assert ca.state()["failures"] == 0
    ca.check()


BUSY = [ca_row(step, name, fault, pause=pause) for step in ALL_STEPS for name, pause, fault in (
    ("429_seconds", 2, lambda p: faults.problem(429, "rateLimited", retry_after="2")),
    ("503_date", 3, lambda p: lambda x: faults.status(503, "busy", retry_after=faults.http_date(3))(x)),
)] + [ca_row(step, name, fault, pause=None) for step in ("directory", "newAccount", "newOrder", "finalize") for name, fault in (
    ("429", lambda p: faults.problem(429, "rateLimited")),
    ("500", lambda p: faults.problem(500, "serverInternal")),
    ("502_html", lambda p: faults.status(502, "<html>bad gateway</html>")),
    ("429_nonsense", lambda p: faults.problem(429, "rateLimited", retry_after="soon")),
    ("429_year", lambda p: faults.problem(429, "rateLimited", retry_after=str(365 * 86400))),
)]


@table(BUSY, Ca)
def test_busy(t, ca, row):
    """A CA that wants to be left alone is: until the moment that it names, and not for ever where it names none."""
    ca.begin(row, times=1 if row.pause else ALWAYS)
    wait_for("the fault", lambda: ca.rule.hits)
    if row.pause:
        wait_for("a certificate of this CA", lambda: any(x.status == 200 for x in ca.faults.of("cert", ca.since)))
        at = [x.at for x in ca.faults.log[ca.since:]]
        gap = max(b - a for a, b in zip(at, at[1:]))
        assert gap >= row.pause - 1.2, f"{gap:.2f} s without a request"      # both ends are cut to whole seconds
    else:
        told = wait_for("what is waited for", lambda: (s := ca.state())["state"] == "waiting" and s)
        assert told["error"]["text"] and told["serving"], told
        asked = ca.faults.count(row.step, ca.since)
        assert asked <= 4, f"{asked} requests to a CA that is busy"
        left = told["next"]["at"] - time.time()
        assert left < 8 * 86400, left
    ca.check()


# --- waiting

@case()
def test_stuck(t):
    """Orders and authorizations that stay in processing: the others are served, the CA is not hammered, and the order goes on when it does."""
    hosts = ["order.example.org", "authz.example.org", "good.example.org"]
    i = Issuing(t, site(*hosts), proxy=faults.Proxy)
    slow = lambda x, state: x.forward().rewrite(lambda v: v.update(status=state)).set("Retry-After", "2")       # noqa: E731
    i.faults.fault("order", lambda x: slow(x, "processing"), ALWAYS, lambda x: x.host == hosts[0])
    i.faults.fault("finalize", lambda x: slow(x, "processing"), ALWAYS, lambda x: x.host == hosts[0])
    i.faults.fault("authz", lambda x: slow(x, "pending"), ALWAYS, lambda x: x.host == hosts[1])
    i.start()
    i.wait_served("good.example.org")
    wait_for("three looks at each", lambda: all(len([x for x in i.faults.of(s) if x.host == h]) >= 3 for s, h in (("order", hosts[0]), ("authz", hosts[1]))))
    for step, host in (("order", hosts[0]), ("authz", hosts[1])):
        at = [x.at for x in i.faults.of(step) if x.host == host]
        gaps = [b - a for a, b in zip(at[1:], at[2:])]
        assert min(gaps) >= 0.8, (step, gaps)
    i.faults.clear()
    i.wait_served(*hosts)
    assert i.faults.count("newOrder") == 3
    i.check_store()


@case()
def test_not_ready(t):
    """finalize is refused with orderNotReady once: looked at again, not a new order."""
    i = Issuing(t, site("a.example.org"), proxy=faults.Proxy)
    i.faults.fault("finalize", faults.problem(403, "orderNotReady"))
    i.start()
    wait_for("a certificate", lambda: i.served("a.example.org") or (i.faults.count("finalize") and i.renew("a.example.org") and False))
    i.check_store()


@case(slow=True)
def test_stall(t):
    """A CA that takes the request and says nothing more: others are served, and it is given up in bounded time."""
    hosts = ["a.example.org", "b.example.org"]
    i = Issuing(t, site(*hosts), proxy=faults.Proxy)
    i.faults.fault("newOrder", faults.stall, ALWAYS, lambda x: x.host == hosts[0])
    i.start()
    i.wait_served(hosts[1])
    asked = lambda: len([x for x in i.faults.of("newOrder") if x.host == hosts[0]])     # noqa: E731
    wait_for("the end of patience, and another try", lambda: asked() >= 2, guard=100)
    i.faults.clear()
    i.wait_served(hosts[0])
    assert i.check_store() == hosts


@case()
def test_lost_account_once(t):
    """accountDoesNotExist in the middle of an order: a new account and a certificate."""
    i = Issuing(t, site("a.example.org"), proxy=faults.Proxy).start()
    i.wait_served("a.example.org")
    for step in ("newOrder", "authz", "challenge", "finalize", "order", "cert"):
        i.faults.fault(step, faults.problem(400, "accountDoesNotExist"))
        if i.renew("a.example.org").returncode:
            i.renew_ok("a.example.org")
        i.check_store()


@case()
def test_bad_nonces_for_ever(t):
    """badNonce for every request: given up after a bounded number of tries."""
    i = Issuing(t, site("a.example.org"), proxy=faults.Proxy)
    i.faults.fault("newOrder", faults.problem(400, "badNonce"), ALWAYS)
    i.start()
    told = i.wait_failed("a.example.org")["a.example.org"]
    assert i.faults.count("newOrder") <= 100 and told["error"]["text"], told
    i.faults.clear()
    i.renew_ok("a.example.org")
    i.wait_served("a.example.org")


@case()
def test_limits_of_one_host(t):
    """rateLimited with words for one host: only that host waits."""
    hosts = ["a.example.org", "b.example.org"]
    i = Issuing(t, site(*hosts), proxy=faults.Proxy)
    i.faults.fault("newOrder", faults.problem(400, "rejectedIdentifier", "policy forbids a.example.org"), ALWAYS, lambda x: x.host == hosts[0])
    i.start()
    i.wait_served(hosts[1])
    told = i.wait_failed(hosts[0])[hosts[0]]
    assert "policy forbids a.example.org" in told["error"]["text"], told


@case()
def test_words_of_the_ca(t):
    """What the CA says is told in its words, without what a terminal would act on."""
    i = Issuing(t, site("a.example.org"), proxy=faults.Proxy)
    i.faults.fault("newOrder", faults.problem(403, "caa", "CAA forbids\x1b[31m it\r\n\x07 \u202e " + "x" * 5000), ALWAYS)
    i.start()
    text = i.wait_failed("a.example.org")["a.example.org"]["error"]["text"]
    assert "CAA forbids" in text and text.isprintable() and len(text) <= 512, text
    r = i.gate.cli("certs")
    assert "\x1b[31m" not in r.stdout and "\x07" not in r.stdout and "CAA forbids" in r.stdout, r.stdout
    assert "\x1b" not in i.gate.log() and "\x07" not in i.gate.log()


@case()
def test_redirected(t):
    """Redirects of the CA are not followed."""
    other = t.backend()
    i = Issuing(t, site("a.example.org"), proxy=faults.Proxy)
    for step in ("directory", "newAccount", "newOrder"):
        i.faults.fault(step, lambda x: faults.Answer(307, b"", [("Location", other.url + "/evil")]), ALWAYS)
    i.start()
    i.wait_failed("a.example.org")
    assert other.connections == 0
    i.faults.clear()
    i.renew_ok("a.example.org")
