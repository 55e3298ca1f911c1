"""An operator's days: certificates that change under a running server, renewals, full disks, storms of reloads, what the command line says."""
from headgate import *
from load import Load
from wire import tls_context


# --- certificates

def presented(gate, host, cafile):
    """The certificate that a new connection is shown, in DER."""
    with gate.tls(host, context=tls_context(cafile)) as c:
        assert c.get("/", host).status == 200
        return c.sock.getpeercert(True)


def trust_all(t, name, *certs):
    text = "".join(open(c).read() for c in certs)
    return t.write(name, text)


@case(both=True)
def test_certificate_files_watched(t):
    """New certificate files are in service without a reload; the edited config is not, services stay, connections go on."""
    cert, key = certificate(t, "given", ["a.example.org"])
    config = run_site(t.service("ok"), host="a.example.org")
    gate = t.headgate(config, top={"tls": f"{{ certificates: [{{ cert: {cert}, key: {key} }}] }}"})
    before, old = presented(gate, "a.example.org", cert), shutil.copy(cert, t.path("old.pem"))
    pids = gate.service_pids() + gate.workers()
    gate.configure("broken: [ half an edit\n")
    with gate.tls("a.example.org", context=tls_context(cert)) as c:
        assert c.get("/x", "a.example.org").status == 200
        certificate(t, "given", ["a.example.org"])
        both = trust_all(t, "both.pem", old, cert)
        wait_for("the new certificate", lambda: presented(gate, "a.example.org", both) != before, every=0.2)
        assert c.get("/y", "a.example.org").status == 200
    assert sorted(gate.service_pids() + gate.workers()) == sorted(pids)
    assert gate.get("/who", "a.example.org", secure=False).status == 200


@case()
def test_certificate_files_broken(t):
    """A certificate without its key is said with both paths and changes nothing; mended, it serves."""
    cert, key = certificate(t, "given", ["a.example.org"])
    gate = t.headgate("sites:\n  a: { host: a.example.org, routes: { /: { respond: a } } }\n",
                      top={"tls": f"{{ certificates: [{{ cert: {cert}, key: {key} }}] }}"})
    before, old = presented(gate, "a.example.org", cert), shutil.copy(cert, t.path("old.pem"))
    other, other_key = certificate(t, "other", ["a.example.org"])
    both = trust_all(t, "both.pem", old, other)
    shutil.copy(other, cert)
    gate.wait_log("old ones stay", cert, key)
    assert presented(gate, "a.example.org", both) == before
    assert "refused" in gate.cli("status").stdout
    shutil.copy(other_key, key)
    wait_for("the new pair", lambda: presented(gate, "a.example.org", both) != before, every=0.2)


@case()
def test_certificate_files_found_by_pattern(t):
    """A pair that comes into the folder of a pattern serves by itself."""
    def pair(name):
        files = certificate(t, name, [name + ".example.org"])
        os.makedirs(t.path("certs", name))
        return [shutil.move(f, t.path("certs", name, x)) for f, x in zip(files, ("x.pem", "x.key"))]
    pair("b")
    sites = "sites:\n" + "".join(f"  {n}: {{ host: {n}.example.org, tls: {{ issuer: local }}, routes: {{ /: {{ respond: {n} }} }} }}\n" for n in "ab")
    gate = t.headgate(sites, top={"tls": "{ certificates: [{ cert: %s, key: %s }] }" % (t.path("certs/*/x.pem"), t.path("certs/*/x.key"))})
    cert, _ = pair("a")

    def served():
        try:
            return presented(gate, "a.example.org", cert)
        except OSError:
            return None
    wait_for("its certificate", served, every=0.2)


class PlantedLeaf:
    """A leaf of the server's own CA whose renewal is due `lead` seconds from now: two thirds of its life are over then."""

    def __init__(self, t, gate, host, lead):
        now, began = int(time.time()), int(time.time()) - 1200
        ends = (3 * (now + lead) - began) // 2
        work = t.path(f"ca-{lead}")
        os.makedirs(work)
        at = lambda name: os.path.join(work, name)                                       # noqa: E731
        stamp = lambda when: time.strftime("%Y%m%d%H%M%SZ", time.gmtime(when))           # noqa: E731
        t.write(f"ca-{lead}/index", "")
        t.write(f"ca-{lead}/conf", f"[ca]\ndefault_ca=x\n[x]\ndatabase={at('index')}\nnew_certs_dir={work}\nrand_serial=yes\ndefault_md=sha256\n"
                f"policy=p\nx509_extensions=e\nunique_subject=no\n[p]\ncommonName=supplied\n[e]\nsubjectAltName=DNS:{host}\nbasicConstraints=critical,CA:FALSE\n"
                "keyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth\nauthorityKeyIdentifier=keyid:always\n")
        run = lambda *args: subprocess.run(["openssl", *args], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)   # noqa: E731
        run("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={host}",
            "-keyout", at("key.pem"), "-out", at("csr"))
        run("ca", "-batch", "-notext", "-config", at("conf"), "-in", at("csr"), "-out", at("cert.pem"), "-startdate", stamp(began),
            "-enddate", stamp(ends), "-cert", gate.ca, "-keyfile", os.path.join(gate.state, "ca", "root.key"))
        unit = os.path.join(gate.state, "certs", "local", host)
        for name in ("cert.pem", "key.pem"):
            with open(at(name)) as source, open(os.path.join(unit, name), "w") as target:
                target.write(source.read())
        with open(at("cert.pem")) as f:
            self.der = ssl.PEM_cert_to_DER_cert(f.read())


@case()
def test_local_leaf_is_renewed(t):
    """A leaf of the local CA is made anew when a third of its life is left, and workers show it without a reload."""
    gate = t.headgate("sites:\n  s: { host: localhost, routes: { /: { respond: hello } } }\n")
    for lead in (6, 20, 60):        # a slow machine may not be up in time to show the old one
        assert gate.stop() == 0
        planted = PlantedLeaf(t, gate, "localhost", lead)
        gate.start()
        if presented(gate, "localhost", gate.ca) == planted.der:
            break
    else:
        raise AssertionError("the stored certificate was never shown")
    pids = gate.workers() + gate.agents()
    with gate.tls() as c:
        wait_for("the new one", lambda: presented(gate, "localhost", gate.ca) != planted.der, every=0.2)
        assert c.get("/").body == b"hello"
    with gate.tls() as c:
        days = (ssl.cert_time_to_seconds(c.sock.getpeercert()["notAfter"]) - time.time()) / 86400
    assert 6.9 < days < 7.1, days
    assert gate.workers() + gate.agents() == pids and gate.status()["config"]["generation"] == 1


@case(root=True)
def test_closed_way_to_the_state(t):
    """A state folder that the agent cannot reach by its path still serves; the log names the CA in full."""
    os.makedirs(t.path("closed"), mode=0o700)
    state = t.path("closed/state")
    gate = t.headgate("sites:\n  s: { host: localhost, routes: { /: { respond: hello } } }\n", top={"state": state})
    gate.state = state
    assert gate.get("/").body == b"hello"
    gate.wait_log("local CA made", f'"{state}/ca/root.crt"')
