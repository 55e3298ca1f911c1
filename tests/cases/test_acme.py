"""Certificates by ACME, from Debian's Pebble: all challenges, accounts, many hosts, what stays in service while. Faults: test_acme_faults.py."""
import acme_faults as faults
import wswire
from headgate import *
from pebble import *

HOST = "a.example.org"


def issuing(t, hosts=(HOST,), acme="", **kw):
    """Started, and each host has a certificate."""
    i = Issuing(t, site(*hosts), acme, **kw).start()
    i.wait_served(*hosts)
    return i


def alert(i, host, **kw):
    try:
        i.tls(host, **kw).close()
    except ssl.SSLError as e:
        return (e.reason or str(e)).upper().replace(" ", "_")
    return "none: the handshake succeeded"


# --- issuing

@case(both=True)
def test_first_start(t):
    """All that a user writes is an e-mail address; the certificate is for the host alone, its unit on disk whole and private."""
    i = issuing(t)
    assert i.get("/", HOST).body == HOST.encode()
    assert i.check_store() == [HOST]
    for folder, _, files in os.walk(i.gate.state):
        for f in files:
            path = os.path.join(folder, f)
            if "/certs/" in path or "/acme/" in path:
                assert os.stat(path).st_mode & 0o077 == 0, f"{path}: {os.stat(path).st_mode:o}"
    told = i.certs()[HOST]
    assert told["serving"] and told["state"] == "served" and not told["error"] and told["failures"] == 0, told


CHALLENGES = [
    Row("tls_alpn_01", want=["tls-alpn-01"]),
    Row("http_01", want=["http-01"]),
    Row("dns_01", want=["dns-01"]),
    Row("default", challenge=None, want=["tls-alpn-01"]),
    Row("alpn_then_http", dead="https", challenge="tls-alpn-01, http-01", want=["tls-alpn-01", "http-01"]),
    Row("http_then_alpn", dead="http", challenge="http-01, tls-alpn-01", want=["http-01", "tls-alpn-01"]),
    Row("both_then_dns", dead="http https", challenge="tls-alpn-01, http-01, dns-01", want=["tls-alpn-01", "http-01", "dns-01"]),
    Row("hook_fails", challenge="dns-01, http-01", hook="echo no such zone >&2; exit 1", want=["http-01"]),
    Row("hook_lies", challenge="dns-01, http-01", hook="[ $1 = cleanup ] || set -- present $2 another-value", want=["dns-01", "http-01"]),
    Row("only_offered", challenge="tls-alpn-01, dns-01, http-01", offered="http-01", want=["http-01"]),
]


def only(kind):
    return faults.edit(lambda v: v.update(challenges=[c for c in v["challenges"] if c["type"] == kind]))


def challenge_case(row):
    @case()
    def run(t):
        dead = {k: t.port() for k in getattr(row, "dead", "").split()}      # where Pebble looks, and nobody listens
        i = Issuing(t, site(HOST), proxy=faults.Proxy, **dead)
        kinds = getattr(row, "challenge", row.want[0])
        words = [f"challenge: [{kinds}]"] if kinds else []
        if kinds and "dns-01" in kinds:
            words.append(f"dns_hook: {i.ca.hook(t, getattr(row, 'hook', ''))}")
        i.configure(site(HOST), ", ".join(words))
        if hasattr(row, "offered"):
            i.faults.fault("authz", only(row.offered), times=1000)
        i.start()
        i.wait_served(HOST)
        assert i.faults.challenged() == row.want, i.faults.challenged()
        assert i.check_store() == [HOST]
        if "dns-01" in row.want and row.want[-1] == "dns-01":
            wait_for("the hook's cleanup", lambda: any(c[0] == "cleanup" for c in i.ca.hook_calls()))
            (verb, name, value), (last, same, value_too) = i.ca.hook_calls()
            assert (verb, last) == ("present", "cleanup") and name == same == "_acme-challenge." + HOST and value == value_too, i.ca.hook_calls()
    run.__doc__ = "By the first challenge that works, in the order of the configuration; one that fails is followed by the next."
    return run


for _row in CHALLENGES:
    globals()["test_challenge_" + _row.name] = challenge_case(_row)


@case()
def test_challenges_are_gone(t):
    """Only what is pending is answered: not before an order, and not after it."""
    i = issuing(t, (HOST,), "challenge: [http-01, tls-alpn-01]", proxy=faults.Proxy)
    token = next(c["token"] for x in i.faults.of("authz") for c in x.answer.json["challenges"] if c["type"] == "http-01")
    for path in (token, "unknown", "", "..%2f..%2fetc%2fpasswd", token + "x", token[:-1]):
        with i.gate.plain() as c:
            a = c.get("/.well-known/acme-challenge/" + path, HOST)
            assert a.status in (308, 404) and b"." not in a.body[:len(token) + 1], (path, a)
    with i.tls(HOST) as c:
        assert c.get("/", HOST).status == 200
    assert "NO_APPLICATION_PROTOCOL" in alert(i, HOST, context=tls_context(alpn=["acme-tls/1"]))


def shown(kind):
    @case()
    def run(t):
        i = Issuing(t, site(HOST), f"challenge: [{kind}]", proxy=faults.Proxy, workers=4)
        context, got = tls_context(alpn=["acme-tls/1"]), []

        def look(x):
            token = next(c["token"] for a in i.faults.of("authz") for c in a.answer.json["challenges"] if c["type"] == kind)
            for _ in range(60):
                if kind == "http-01":
                    with i.gate.plain() as c:
                        got.append(c.get("/.well-known/acme-challenge/" + token, HOST).body.decode().startswith(token + "."))
                else:
                    with i.tls(HOST, context=context) as c:
                        got.append(c.sock.selected_alpn_protocol() == "acme-tls/1")
            return x.forward()

        i.faults.fault("challenge", look)
        i.start()
        i.wait_served(HOST)
        assert len(got) == 60 and all(got), got
    run.__doc__ = "When the CA is told to look, every worker answers."
    return run


test_shown_before_told_alpn, test_shown_before_told_http = shown("tls-alpn-01"), shown("http-01")


@case()
def test_http_01_before_the_redirect(t):
    """Neither a redirect, nor a site without plain HTTP, nor a route of the site's own stands in the challenge's way."""
    ways = ("redirect", "only", "both")
    config = "sites:\n" + "".join(
        f"  {w}: {{ host: {w}.example.org, https: {w}, routes: {{ /: {{ redirect: /x }}, /.well-known/: {{ respond: mine }} }} }}\n" for w in ways)
    i = Issuing(t, config, "challenge: [http-01]", proxy=faults.Proxy).start()
    i.wait_served(*[w + ".example.org" for w in ways])
    assert set(i.faults.challenged()) == {"http-01"}
    with i.gate.plain() as c:
        assert c.get("/", "redirect.example.org").status == 308


@case()
def test_every_name(t):
    """host, aliases and redirect_from each have a certificate of their own; the redirect is on the name's own."""
    config = "sites:\n  www: { host: www.example.org, aliases: [app.example.org], redirect_from: [example.org], routes: { /: { respond: www } } }\n" \
             "channels:\n  beta: { host: beta.example.org, routes: { /: { respond: beta } } }\n"
    names = ["www.example.org", "app.example.org", "example.org", "beta.example.org"]
    i = Issuing(t, config).start()
    assert len(set(i.wait_served(*names).values())) == 4
    assert i.check_store() == sorted(names)
    a = i.get("/x", "example.org")
    assert a.status == 308 and a.get("location").startswith("https://www.example.org"), a
    assert i.get("/", "app.example.org").body == b"www" and i.get("/", "beta.example.org").body == b"beta"


@case()
def test_wildcard_by_dns(t):
    """"*.example.org" by dns-01 alone."""
    config = "sites:\n  any: { host: \"*.example.org\", routes: { /: { respond: any } } }\n"
    i = Issuing(t, config)
    i.configure(config, f"challenge: [dns-01], dns_hook: {i.ca.hook(t)}").start()
    wait_for("a certificate", lambda: i.served("x.example.org"))
    assert i.get("/", "y.example.org").body == b"any"
    assert i.unit("*.example.org")


@case()
def test_many_hosts(t):
    """Thirty orders side by side, with each fifth nonce refused."""
    hosts = [f"h{n}.example.org" for n in range(30)]
    i = issuing(t, hosts, nonce_reject=20, workers=3)
    assert i.check_store() == sorted(hosts)


def nonces(rate):
    @case()
    def run(t):
        i = Issuing(t, site(HOST, "b.example.org"), nonce_reject=rate).start()
        wait_for("certificates", lambda: all(i.served(h) or (i.renew(h), i.served(h))[1] for h in (HOST, "b.example.org")))
        i.check_store()
    run.__doc__ = f"{rate} % of the nonces are refused."
    return run


test_nonces_15, test_nonces_60 = nonces(15), nonces(60)


KEYS = {"p256": "NIST CURVE: P-256", "p384": "NIST CURVE: P-384", "rsa2048": "(2048 bit)"}


@case()
def test_kinds_of_keys(t):
    """acme.key; a change holds from the next certificate on."""
    i = issuing(t)
    for kind, words in KEYS.items():
        i.configure(site(HOST), f"key: {kind}")
        i.gate.reload_ok()
        i.renew_ok(HOST)
        text = openssl("x509", "-noout", "-text", input=i.unit(HOST)[0])
        assert words in text, (kind, text)
        i.check_store()


@case()
def test_alternate_chain(t):
    """acme.chain picks among what the CA offers by the name at its top; without a match the first one is taken."""
    i = Issuing(t, site(HOST), proxy=faults.Proxy, alternates=2).start()
    i.wait_served(HOST)
    tops = [openssl("x509", "-noout", "-subject", "-nameopt", "multiline", input=r).rpartition("= ")[2].strip() for r in i.ca.roots]
    for top in (tops[2], tops[1], "no such name"):
        i.configure(site(HOST), f'chain: "{top}"')
        i.gate.reload_ok()
        i.renew_ok(HOST)
        last = blocks(i.unit(HOST)[0])[-1]
        issuer = openssl("x509", "-noout", "-issuer", "-nameopt", "multiline", input=last).rpartition("= ")[2].strip()
        assert issuer == (top if top in tops else tops[0]), (issuer, top, tops)
        i.check_store()


@case()
def test_long_chain(t):
    """Two more intermediates."""
    i = issuing(t, chain_length=3)
    assert len(blocks(i.unit(HOST)[0])) == 4
    i.check_store()


# --- accounts

@case()
def test_external_account(t):
    """EAB: with the right key an account; without one, and with a wrong one, no certificate and the reason in words."""
    i = Issuing(t, site(HOST), eab=True).start()
    told = i.wait_failed(HOST)[HOST]
    assert "eab" in json.dumps(told["error"]).lower(), told["error"]
    i.configure(site(HOST), f"eab: {{ kid: {EAB_KID}, hmac: {EAB_HMAC[:-4]}AAAA }}")
    i.gate.reload_ok()
    assert i.renew(HOST).returncode == 1
    i.configure(site(HOST), f"eab: {{ kid: {EAB_KID}, hmac: {EAB_HMAC} }}")
    i.gate.reload_ok()
    i.renew_ok(HOST)
    i.wait_served(HOST)
    secrets = i.gate.log() + json.dumps(i.certs())
    assert EAB_HMAC not in secrets


@case()
def test_one_account(t):
    """One account for all hosts, kept over restarts."""
    i = issuing(t, (HOST, "b.example.org", "c.example.org"), proxy=faults.Proxy)
    assert i.faults.count("newAccount") == 1
    kids = {x.protected["kid"] for x in i.faults.of("newOrder")}
    assert i.gate.stop() == 0
    i.start()
    since = i.faults.mark()
    i.renew_ok(HOST)
    assert i.faults.count("newAccount", since) == 0
    assert {x.protected["kid"] for x in i.faults.of("newOrder")} == kids and len(kids) == 1


@case()
def test_account_recovered(t):
    """The account's URL was lost, its key was not: found again at the CA, no new one."""
    i = issuing(t, proxy=faults.Proxy)
    kid = i.faults.of("newOrder")[0].protected["kid"]
    assert i.gate.stop() == 0
    account = glob.glob(os.path.join(i.gate.state, "acme", "*", "account.json"))
    assert len(account) == 1, account
    os.remove(account[0])
    since = i.faults.mark()
    i.start()
    i.renew_ok(HOST)
    assert [x.status for x in i.faults.of("newAccount", since)][-1] == 200
    assert {x.protected["kid"] for x in i.faults.of("newOrder", since)} == {kid}


@case()
def test_account_lost(t):
    """The CA has forgotten the account (a Pebble that was restarted): a new one, without a word from anybody."""
    i = issuing(t, proxy=faults.Proxy)
    i.ca.restart()
    i.renew_ok(HOST)
    assert i.faults.count("newAccount") >= 2
    assert i.check_store() == [HOST]


@case()
def test_account_key_rollover(t):
    """`certs roll-key`: the old key is of no use any more, and orders go on."""
    i = issuing(t, proxy=faults.Proxy)
    key = glob.glob(os.path.join(i.gate.state, "acme", "*", "account.key"))[0]
    with open(key) as f:
        before = f.read()
    r = i.gate.cli("certs", "roll-key")
    assert r.returncode == 0, (r.stdout, r.stderr)
    assert [x.status for x in i.faults.of("keyChange")][-1] == 200
    with open(key) as f:
        assert f.read() != before
    i.renew_ok(HOST)
    assert i.faults.count("newAccount") == 1
    assert i.gate.stop() == 0
    i.start()
    i.renew_ok(HOST)
    assert i.faults.count("newAccount") == 1


@case()
def test_terms_and_contact(t):
    """The e-mail address and the agreement to the terms are what the account has."""
    i = issuing(t, proxy=faults.Proxy)
    payload = next(x.payload for x in i.faults.of("newAccount") if "onlyReturnExisting" not in x.payload)
    assert payload["termsOfServiceAgreed"] is True and payload["contact"] == ["mailto:ops@example.org"], payload


@case()
def test_order_of_cas(t):
    """Several CAs: the next one issues when the first one cannot."""
    i = Issuing(t, site(HOST))
    dead = t.port()
    i.configure(site(HOST))
    i.gate.configure(site(HOST), top={"acme": f'{{ email: ops@example.org, ca: ["https://127.0.0.1:{dead}/dir", "{i.ca.url}"], ca_root: {i.ca.ca_root} }}'})
    i.start()
    i.wait_served(HOST)
    assert i.check_store() == [HOST]


# --- revocation, profiles

@case()
def test_revoke(t):
    """`certs revoke`: the CA knows it, the next one has another key, and the host is never without one."""
    i = issuing(t)
    chain, key, _ = i.unit(HOST)
    watch = Watch(i, HOST)
    r = i.gate.cli("certs", "revoke", HOST, guard=110)
    assert r.returncode == 0, (r.stdout, r.stderr)
    assert i.ca.revoked(blocks(chain)[0]) is not None
    wait_for("the next certificate to be seen", lambda: len(watch.seen[HOST]) == 2)
    watch.end()
    assert not watch.missed, watch.missed
    watch.check()
    assert i.unit(HOST)[1] != key
    i.check_store()


@case()
def test_profile(t):
    """acme.profile goes with the order; where the CA does not list it and refuses, the order goes without it."""
    i = Issuing(t, site(HOST), "profile: shortlived", proxy=lambda t, ca: faults.Proxy(t, ca, profiles={"shortlived": "six days", "classic": "90 days"})).start()
    i.wait_served(HOST)
    assert [x.payload.get("profile") for x in i.faults.of("newOrder")] == ["shortlived"]
    i.faults.fault("newOrder", faults.problem(400, "invalidProfile"), 1000, lambda x: x.payload.get("profile") == "unknown")
    i.configure(site(HOST), "profile: unknown")
    i.gate.reload_ok()
    i.renew_ok(HOST)
    assert i.faults.of("newOrder")[-1].payload.get("profile") is None
    i.check_store()


# --- never in the way

@case(both=True)
def test_start_without_ca(t):
    """The CA is down: ready at once, hosts of the local CA are served, the others get an alert; and a certificate once the CA is back."""
    config = site(HOST) + "  loc: { host: x.localhost, https: both, routes: { /: { respond: local } } }\n"
    i = Issuing(t, config)
    i.ca.stop()
    i.start()
    assert i.gate.get("/", "x.localhost").body == b"local"
    assert "ALERT" in alert(i, HOST) or "UNRECOGNIZED_NAME" in alert(i, HOST), alert(i, HOST)
    with i.gate.plain() as c:
        assert c.get("/", HOST).status == 308
    told = i.wait_failed(HOST)[HOST]
    assert not told["serving"] and "connect" in told["error"]["text"], told
    i.ca.start()
    i.renew_ok(HOST)
    i.wait_served(HOST)


@case()
def test_unknown_sni_local(t):
    """tls.unknown_sni: local: until the CA's certificate is there, clients get the local CA's."""
    i = Issuing(t, site(HOST), top={"tls": "{ unknown_sni: local }"})
    i.ca.stop()
    i.start()
    context = tls_context(i.gate.ca)
    context.check_hostname = False
    with i.gate.tls(HOST, context=context) as c:
        assert c.get("/", HOST).body == HOST.encode()
    i.ca.start()
    i.renew_ok(HOST)
    i.wait_served(HOST)


@case()
def test_restart_without_ca(t):
    """What is on disk is served at once, whatever the CA does."""
    i = issuing(t, (HOST, "b.example.org"))
    before = {h: i.served(h) for h in (HOST, "b.example.org")}
    assert i.gate.stop() == 0
    i.ca.stop()
    i.start()
    for host, der in before.items():
        assert i.served(host) == der, host


@case()
def test_renewal_fails(t):
    """The CA is down when it is asked: the old certificate stays in service, and the reason is told."""
    i = issuing(t)
    before = i.served(HOST)
    i.ca.stop()
    r = i.renew(HOST)
    assert r.returncode == 1 and "connect" in r.stdout + r.stderr, (r.returncode, r.stdout, r.stderr)
    told = i.certs()[HOST]
    assert told["serving"] and told["failures"] == 1 and told["error"], told
    assert i.served(HOST) == before
    assert i.check_store() == [HOST]


@case()
def test_one_fails_others_do_not(t):
    """A host that cannot be validated has an error of its own; the others have certificates."""
    hosts = [HOST, "b.example.org", "bad.example.org", "c.example.org"]
    i = Issuing(t, site(*hosts))
    i.ca.resolve("bad.example.org", "127.0.0.77")       # nobody is there
    i.start()
    i.wait_served(HOST, "b.example.org", "c.example.org")
    told = i.wait_failed("bad.example.org")
    assert told["bad.example.org"]["error"]["text"], told
    assert all(told[h]["failures"] == 0 for h in (HOST, "b.example.org", "c.example.org"))
    i.ca.resolve("bad.example.org")
    i.renew_ok("bad.example.org")
    i.wait_served(*hosts)


@case(both=True)
def test_turned_on_by_reload(t):
    """The first `acme` comes by a reload: an agent whose sandbox is closed loads what it speaks to CAs with."""
    i = Issuing(t, site(HOST))
    i.gate.configure(site("x.localhost"))
    i.start()
    i.configure(site(HOST))
    i.gate.reload_ok()
    i.wait_served(HOST)
    assert i.check_store() == [HOST]


@case()
def test_added_by_reload(t):
    """A host that a reload brings gets its certificate; one that goes is asked for no more."""
    i = issuing(t, proxy=faults.Proxy)
    i.configure(site(HOST, "b.example.org"))
    i.gate.reload_ok()
    i.wait_served("b.example.org")
    assert i.faults.count("newOrder") == 2
    i.configure(site("b.example.org"))
    i.gate.reload_ok()
    assert list(i.certs()) == ["b.example.org"]
    assert alert(i, HOST) != "none: the handshake succeeded"


# --- hot

def busy(peer, req):
    """A WebSocket that echoes, a request that waits for the test, else an answer at once."""
    if req.path == "/ws":
        return wswire.echo(peer, req)
    if req.path == "/long":
        peer.backend.gate.wait()
    return peer.reply(body="fine")


@case()
def test_hot(t):
    """A renewed certificate is in service in all workers without a reload; what is under way goes on: a request, kept connections, a WebSocket."""
    backend = t.backend(busy)
    config = f"sites:\n  a:\n    host: {HOST}\n    services: {{ app: {{ url: \"{backend.url}\" }} }}\n    routes: {{ /: {{ proxy: app }} }}\n"
    i = Issuing(t, config, workers=3).start()
    before = i.wait_served(HOST)
    workers = i.gate.workers()
    kept = [i.tls(HOST) for _ in range(12)]
    for c in kept:
        t.defer(c.close)
        assert c.get("/", HOST).status == 200
    tunnel = wswire.Ws1(i.tls(HOST), "/ws", host=HOST)
    long = i.tls(HOST)
    long.request("GET", "/long", HOST)
    wait_for("the long request", lambda: backend.begun >= 14)
    watch = Watch(i, HOST)
    i.renew_ok(HOST)
    after = i.wait_served(HOST, but=before)[HOST]
    wait_for("the new certificate alone", lambda: all(i.served(HOST) == after for _ in range(40)))
    watch.end()
    assert not watch.missed, watch.missed
    watch.check()
    for c in kept:
        assert c.get("/", HOST).status == 200
        assert c.sock.getpeercert(True) == before[HOST]
    tunnel.send(1, b"still here")
    assert tunnel.next() == (1, b"still here")
    backend.gate.set()
    assert long.answer().body == b"fine"
    assert i.gate.workers() == workers
