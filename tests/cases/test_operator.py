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
