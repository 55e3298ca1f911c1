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


# --- the command line

def words(r):
    return r.stdout + r.stderr


@case()
def test_status_tells_troubles(t):
    """status: how a service ended, when it is tried again; the last reload with its reasons; what a config names."""
    config = ("channels:\n  beta:\n    host: beta.localhost\n    aliases: [b.localhost]\n    redirect_from: [old.localhost]\n    services:\n"
              "      bad: { run: [/bin/sh, -c, 'exit 3', x, $listen], wait_ready: 100ms, restart: { min: 30s, max: 60s } }\n"
              "    routes: { /: { proxy: bad } }\n")
    gate = t.headgate(config)
    wait_for("its end", lambda: "exited with status 3" in gate.cli("status").stdout)
    out = gate.cli("status").stdout
    line = next(x for x in out.splitlines() if x.strip().startswith("beta/bad"))
    assert "failing" in line and "next start in " in line and "exited with status 3" in line, out
    assert "b.localhost" in out and "redirected from old.localhost" in out, out
    gate.reload_ok()
    assert "applied" in gate.cli("status").stdout
    assert gate.reload("sites: [\n").returncode == 1
    out = gate.cli("status").stdout
    assert "refused" in out and gate.file in out and "not touched" in out, out
    doc = gate.status()
    assert doc["reload"]["ok"] is False and doc["services"][0]["instances"][0]["next_start_ms"] > 0, doc


@case()
def test_status_while_starting(t):
    """A server that still starts answers, and says that it does and what it waits for."""
    gate = t.unstarted("sites:\n  s: { host: localhost, routes: { /: { respond: hello } } }\n")
    gate.spawn()
    seen = set()

    def up():
        r = gate.cli("status", "--json")
        if r.returncode == 0:
            doc = json.loads(r.stdout)
            seen.add(doc["state"])
            assert ("waits_for" in doc) == (doc["state"] == "starting"), doc
        else:
            assert r.returncode == 3, (r.returncode, words(r))
        return "serving" in seen
    wait_for("serving", up, every=0.001)
    assert seen <= {"starting", "serving"}, seen
    assert gate.notify.has("READY=1")


@case()
def test_stop_while_starting(t):
    """SIGTERM at any moment of the start: the end, status 0, and nothing left."""
    for delay in (0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1):
        gate = t.unstarted(run_site(t.service("slow", "30")), name=f"stop{delay}")
        gate.spawn()
        wait_for("its process", lambda: "headgate" in procs.cmdline(gate.master) or gate.proc.poll() is not None)
        end = time.monotonic() + delay
        while time.monotonic() < end:
            pass
        gate.proc.send_signal(signal.SIGTERM)
        assert gate.wait_exit() in (0, -signal.SIGTERM), gate.log()
        wait_for("no process", lambda: not procs.descendants(os.getpid()))


@case()
def test_words_of_the_command_line(t):
    """Mistakes on the command line name the cure."""
    gate = t.headgate("sites:\n  s: { host: localhost, routes: { /: { respond: hello } } }\n")
    for args, status, said in (
            (["restart"], 2, "CHANNEL/SERVICE"), (["explain"], 2, "CODE"), (["explain", "E999"], 1, "E001 to"), (["sttatus"], 2, "`status`"),
            (["status", "--config", "/nowhere.yaml"], 3, "there is no /nowhere.yaml"), (["run", "--config", "/nowhere.yaml"], 1, "/nowhere.yaml"),
            (["restart", "s/none", "--config", gate.file], 1, "there is no service of this name"), (["restart", "s", "--config", gate.file], 1, "is CHANNEL/SERVICE"), (["reload", "--plan", "--config", gate.file], 0, "change nothing"),
            (["status", "--socket", t.path("none.sock")], 3, "headgate run"), (["deploy"], 2, "not available in this version")):
        r = t.run([t.program, *args])
        assert r.returncode == status and said in words(r), (args, r.returncode, words(r))


@case()
def test_new_host_while_the_agent_is_down(t):
    """A reload with a new host in the moment after the agent's death waits for the new agent and the host's certificate."""
    one = "sites:\n  s: { host: localhost, routes: { /: { respond: hello } } }\n"
    gate = t.headgate(one)
    for i in range(3):
        os.kill(wait_for("an agent", gate.agents)[0], signal.SIGKILL)
        one += f"  n{i}: {{ host: n{i}.localhost, routes: {{ /: {{ respond: new }} }} }}\n"
        r = gate.reload_ok(one)
        assert gate.get("/", f"n{i}.localhost").body == b"new", words(r)


# --- storms

def storm_config(t, i, first, second):
    """Every kind of change in turn: services, listeners, roots, workers, sites."""
    root = t.path(f"root{i % 3}")
    if not os.path.isdir(root):
        os.makedirs(root)
        t.write(f"root{i % 3}/f.txt", "file")
    https = f'["127.0.0.1:{first}", "127.0.0.1:{second}"]' if i % 4 < 2 else f'"127.0.0.1:{first}"'
    top = {"workers": str(1 + i % 3), "timeouts": "{ drain: 60s }"}
    config = run_site(t.service("ok", str(i // 5)), routes=f"{{ /: {{ proxy: app }}, /files/: {{ files: {root} }} }}")
    if i % 2:
        config += "  extra: { host: extra.localhost, routes: { /: { respond: extra } } }\n"
    return top, https, config


@case(serial=True)
def test_fifty_changes_under_load(t):
    """50 reloads that change services, listeners, roots, workers and sites, some by SIGHUP, under load: no request is lost."""
    gate = t.unstarted(run_site(t.service("ok", "0")))
    second = t.port()
    listen = lambda https: '{ http: "127.0.0.1:%d", https: %s }' % (gate.http, https)        # noqa: E731
    top, https, config = storm_config(t, 0, gate.https, second)
    gate.configure(config, dict(top, listen=listen(https)))
    gate.start()
    load = Load(gate, target="/who")
    load.progress(20)
    for i in range(1, 51):
        top, https, config = storm_config(t, i, gate.https, second)
        gate.configure(config, dict(top, listen=listen(https)))
        if i % 10 == 0:
            before = gate.status()["config"]["generation"]
            gate.proc.send_signal(signal.SIGHUP)
            wait_for("the reload by SIGHUP", lambda: gate.status()["config"]["generation"] > before)
            wait_for("its end", lambda: not gate.status()["reload"]["under_way"])
        else:
            r = gate.reload()
            assert r.returncode == 0, words(r)
        assert gate.get("/files/f.txt").body == b"file", i
    load.progress(20)
    failures = load.stop()
    assert not failures, (len(failures), failures[:5])
    wait_for("one service", lambda: len(gate.service_pids()) == 1)
    wait_for("the workers of the last config", lambda: len(gate.workers()) == 1 + 50 % 3)


# --- disks

@case(root=True)
def test_full_state(t):
    """A full disk under the state folder: the server runs on and names disk and place; with space again, all is well."""
    state = t.path("small")
    os.makedirs(state)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", state], stderr=subprocess.DEVNULL).returncode:
        return      # a container that may not mount
    t.defer(lambda: subprocess.run(["umount", "-l", state], check=True))
    t.write("small/fill", "x" * 4096)
    gate = t.headgate(run_site(t.service("ok")), top={"state": state})
    gate.state = state
    gate.wait_log("the disk is full", state)
    out = gate.cli("status").stdout
    assert "the disk is full" in out and "free some space" in out, out
    assert subprocess.run(["mount", "-o", "remount,size=1m", state]).returncode == 0
    wait_for("the service", lambda: gate.get("/who", secure=False).status == 200)
    wait_for("the certificate", lambda: os.path.exists(gate.ca) and served(gate))


def served(gate):
    try:
        return gate.get("/").status == 200
    except OSError:
        return False
