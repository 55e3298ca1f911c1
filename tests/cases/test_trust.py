"""
headgate trust: the local CA's root in the system's store and in browsers' stores, by the tools that own them. The folders of
this machine stay as they are: each command runs in a mount namespace where copies stand in their places.
"""
import pwd
import re
import stat

from chromium import Chromium
from headgate import *

SITE = "sites:\n  s: { host: localhost, routes: { /: { respond: hello } } }\n"
ANCHORS, BUNDLE = "/usr/local/share/ca-certificates", "/etc/ssl/certs/ca-certificates.crt"
UNSHARE = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--mount"]


class Machine:
    """This machine with places of its own; its programs see `home` as their user's. `covers`: path → what stands there instead."""

    def __init__(self, t):
        self.t = t
        self.home = t.path("home")
        os.mkdir(self.home)
        self.covers = {}
        for path in ("/etc/ssl/certs", ANCHORS):
            self.cover(path, shutil.copytree(path, t.path("root" + path), symlinks=True, ignore=lambda *_: ["java"]))
        self.cover("/etc/ca-certificates/update.d", t.path("hooks"))      # Java's takes seconds
        os.mkdir(t.path("hooks"))

    def cover(self, path, by):
        self.covers[path] = by

    def run(self, *args, env=None, **kw):
        mounts = "".join(f'mount --bind "{by}" "{path}" && ' for path, by in self.covers.items())
        env = {"PATH": os.environ["PATH"], "HOME": self.home, **(env or {})}
        return self.t.run([*UNSHARE, "bash", "-c", mounts + 'exec "$@"', "bash", *args], env=env, stdin=subprocess.DEVNULL, **kw)

    def trust(self, gate, *args, **kw):
        return self.run(self.t.program, "trust", "--config", gate.file, *args, **kw)

    def folder(self, path):
        """All that is in a folder, with what it holds or points to."""
        found = {}
        for base, _, names in os.walk(path):
            for name in names:
                p = os.path.join(base, name)
                if os.path.islink(p):
                    found[p] = os.readlink(p)
                else:
                    with open(p, "rb") as f:
                        found[p] = f.read()
        return found

    def system(self):
        return self.folder(self.t.path("root"))

    def nss(self, path, password=None):
        """A browser's database below the home."""
        path = os.path.join(self.home, path)
        os.makedirs(path)
        args = ["--empty-password"] if password is None else ["-f", self.t.write("password", password + "\n")]
        subprocess.run(["certutil", "-N", "-d", "sql:" + path, *args], check=True)
        return path


def names_in(db):
    out = subprocess.run(["certutil", "-L", "-d", "sql:" + db], check=True, stdout=subprocess.PIPE, text=True).stdout
    return re.findall(r"^(headgate-local-ca-\w+)\s+(\S+)\s*$", out, re.M)


def machine(t):
    if subprocess.run([*UNSHARE, "true"], stderr=subprocess.DEVNULL).returncode:
        print(f"skipped {t.name}: no mount namespace can be made here", flush=True)
        return None
    return Machine(t)


def name_of(gate):
    der = ssl.PEM_cert_to_DER_cert(open(gate.ca).read())
    import hashlib
    return "headgate-local-ca-" + hashlib.sha256(der).hexdigest()[:16]


def done(r, *words):
    assert r.returncode == 0 and not r.stderr and all(w in r.stdout for w in words), (r.returncode, r.stdout, r.stderr)


@case()
def test_system(t):
    """The system's store by its own tool: a stock client connects; twice is once; --uninstall takes out that and nothing else."""
    m = machine(t)
    if not m:
        return
    t.write("root" + ANCHORS + "/another.crt", open(certificate(t, "another", ["another.example.org"])[0]).read())
    assert m.run("update-ca-certificates", "--fresh").returncode == 0
    before = m.system()
    gate = t.headgate(SITE)
    curl = lambda: m.run("curl", "-sS", "--noproxy", "*", gate.url()).returncode       # noqa: E731
    assert curl() == 60
    done(m.trust(gate), "headgate local CA", gate.ca, f"system ({ANCHORS}/{name_of(gate)}.crt): trusted from now on")
    assert curl() == 0
    after = m.system()
    with open(gate.ca) as f:
        assert after[t.path("root" + ANCHORS, name_of(gate) + ".crt")] == f.read().encode()
    assert stat.S_IMODE(os.stat(t.path("root" + ANCHORS, name_of(gate) + ".crt")).st_mode) == 0o644
    bundle = os.stat(t.path("root" + BUNDLE))
    done(m.trust(gate), "was trusted already")
    assert os.stat(t.path("root" + BUNDLE)) == bundle and m.system() == after
    done(m.trust(gate, "--uninstall"), ": removed")
    assert curl() == 60 and m.system() == before
    done(m.trust(gate, "--uninstall"), "was not there")
    assert m.system() == before


@case()
def test_cut_off(t):
    """What a run that was cut off left half done is finished by the next."""
    m = machine(t)
    if not m:
        return
    gate = t.headgate(SITE)
    shutil.copy(gate.ca, t.path("root" + ANCHORS, name_of(gate) + ".crt"))
    done(m.trust(gate), "trusted from now on")
    assert open(gate.ca).read() in open(t.path("root" + BUNDLE)).read()
    os.unlink(t.path("root" + ANCHORS, name_of(gate) + ".crt"))
    done(m.trust(gate, "--uninstall"), ": removed")
    assert open(gate.ca).read() not in open(t.path("root" + BUNDLE)).read()


@case()
def test_tool_fails(t):
    """A tool that fails is named, with its last words; the status is 1."""
    m = machine(t)
    if not m:
        return
    m.cover("/usr/sbin/update-ca-certificates", t.write("tool", "#!/bin/sh\necho all is lost >&2\nexit 3\n", mode=0o755))
    gate = t.headgate(SITE)
    r = m.trust(gate)
    assert r.returncode == 1 and "update-ca-certificates exited with status 3: all is lost" in r.stderr, r


@case()
def test_p11_kit(t):
    """Where update-ca-trust is what there is: its folder of anchors and its bundle."""
    m = machine(t)
    if not m:
        return
    os.makedirs(t.path("etc/pki/ca-trust/source/anchors"))
    os.makedirs(t.path("etc/pki/ca-trust/extracted/pem"))
    for name in ("passwd", "group", "nsswitch.conf", "ld.so.cache"):
        shutil.copy("/etc/" + name, t.path("etc", name))
    t.write("bin/update-ca-trust", "#!/bin/sh\n[ \"$*\" = extract ] || exit 2\ncd /etc/pki/ca-trust || exit\n"
            "cat /dev/null $(find source/anchors -type f) > extracted/pem/tls-ca-bundle.pem\n", mode=0o755)
    os.mkdir(t.path("share"))
    m.covers = {"/usr/local/share": t.path("share"), "/usr/local/bin": t.path("bin"), "/etc": t.path("etc")}
    gate = t.headgate(SITE)
    bundle = lambda: open(t.path("etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem")).read()       # noqa: E731
    done(m.trust(gate), f"system (/etc/pki/ca-trust/source/anchors/{name_of(gate)}.crt): trusted from now on")
    assert bundle() == open(gate.ca).read()
    done(m.trust(gate), "was trusted already")
    done(m.trust(gate, "--uninstall"), ": removed")
    assert bundle() == "" and os.listdir(t.path("etc/pki/ca-trust/source/anchors")) == []


@case()
def test_no_store(t):
    """A machine with neither: said, with the package that is missing; browsers are served all the same."""
    m = machine(t)
    if not m:
        return
    m.cover("/usr/sbin/update-ca-certificates", "/dev/null")
    db = m.nss(".pki/nssdb")
    gate = t.headgate(SITE)
    done(m.trust(gate), "system: left out", "ca-certificates", f"Chromium ({db}): trusted from now on")


@case()
def test_browsers(t):
    """Chromium's store and those of all Firefox profiles, each once; what else is in them stays."""
    m = machine(t)
    if not m:
        return
    dbs = [m.nss(".pki/nssdb"), m.nss(".mozilla/firefox/a.default"), m.nss("snap/firefox/common/.mozilla/firefox/b b.default")]
    os.makedirs(os.path.join(m.home, ".mozilla/firefox/Crash Reports"))
    other = certificate(t, "other", ["other.example.org"])[0]
    subprocess.run(["certutil", "-A", "-d", "sql:" + dbs[0], "-n", "other", "-t", "C,,", "-i", other], check=True)
    gate = t.headgate(SITE)
    r = m.trust(gate)
    done(r, f"Chromium ({dbs[0]}): trusted from now on", f"Firefox ({dbs[1]}): trusted", f"Firefox ({dbs[2]}): trusted")
    assert [names_in(d) for d in dbs] == [[(name_of(gate), "C,,")]] * 3
    assert "Crash" not in r.stdout
    r = m.trust(gate)
    assert r.stdout.count("was trusted already") == 4 and r.returncode == 0, r
    done(m.trust(gate, "--uninstall"), f"Firefox ({dbs[2]}): removed")
    assert [names_in(d) for d in dbs] == [[]] * 3
    subprocess.run(["certutil", "-L", "-d", "sql:" + dbs[0], "-n", "other"], check=True, stdout=subprocess.DEVNULL)


@case()
def test_chromium(t):
    """Chromium itself opens the page without a complaint, and complains again afterwards."""
    m = machine(t)
    if not m:
        return
    m.nss(".pki/nssdb")
    gate = t.headgate(SITE)

    def opens():
        browser = Chromium(m.home, "none")
        try:
            browser.open(gate.url())
            return wait_for("the page", lambda: browser.js("document.body && document.body.textContent") == "hello")
        except AssertionError as e:     # the navigation's own
            assert "ERR_CERT_AUTHORITY_INVALID" in str(e), e
            return False
        finally:
            browser.close()
    assert not opens()
    done(m.trust(gate), "Chromium")
    assert opens()
    done(m.trust(gate, "--uninstall"), "Chromium")
    assert not opens()


@case()
def test_locked_database(t):
    """A database with a password that is not given fails by itself: the other stores are done, the status is 1."""
    m = machine(t)
    if not m:
        return
    locked, free = m.nss(".mozilla/firefox/locked", password="secret"), m.nss(".pki/nssdb")
    gate = t.headgate(SITE)
    r = m.trust(gate)
    assert f"Chromium ({free}): trusted from now on" in r.stdout and names_in(free), r
    assert r.returncode == 1 and f"Firefox ({locked}): failed: " in r.stderr and "password" in r.stderr, r
    assert names_in(locked) == [], "it came in without its trust"


@case()
def test_no_certutil(t):
    """Browsers without certutil are left out, with the package that is missing."""
    m = machine(t)
    if not m:
        return
    db = m.nss(".pki/nssdb")
    m.cover("/usr/bin/certutil", "/dev/null")
    done(m.trust(t.headgate(SITE)), f"Chromium ({db}): left out: certutil is not here (package libnss3-tools)", "system", "trusted from now on")


@case(root=True)
def test_without_rights(t):
    """A user who may not write there is told the very commands; run by root, they are right. The user's browsers are done."""
    m = machine(t)
    if not m:
        return
    db = m.nss(".pki/nssdb")
    for base, _, names in os.walk(m.home):
        for path in [base] + [os.path.join(base, n) for n in names]:
            os.chown(path, NOBODY, NOBODY)
    state = t.path("it's a state")
    gate = t.headgate(SITE, top={"state": f'"{state}"'})
    gate.state = state
    before = m.system()
    drop = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]

    def printed(*args):
        r = m.run(*drop, t.program, "trust", "--config", gate.file, *args)
        assert r.returncode == 1 and "needs rights that you do not have here; run:" in r.stderr, r
        lines = [line.strip() for line in r.stderr.splitlines() if line.startswith("    ")]
        assert len(lines) == 2 and all(line.startswith("sudo ") for line in lines), r
        return r, lines
    r, lines = printed()
    assert names_in(db) and f"Chromium ({db}): trusted from now on" in r.stdout, r
    assert m.system() == before
    for line in lines:
        assert m.run("bash", "-c", line.removeprefix("sudo ")).returncode == 0, line
    r = m.run(*drop, t.program, "trust", "--config", gate.file)
    done(r, "system", "was trusted already")
    r, lines = printed("--uninstall")
    for line in lines:
        assert m.run("bash", "-c", line.removeprefix("sudo ")).returncode == 0, line
    r = m.run(*drop, t.program, "trust", "--uninstall", "--config", gate.file)
    done(r, "system", "was not there")


@case(root=True)
def test_sudo(t):
    """By sudo, the browsers are those of who called it, and their files stay that user's."""
    m = machine(t)
    if not m:
        return
    nobody = pwd.getpwuid(NOBODY)
    with open("/etc/passwd") as f:
        m.cover("/etc/passwd", t.write("passwd", f.read().replace(f":{nobody.pw_dir}:", f":{m.home}:")))
    db = m.nss(".pki/nssdb")
    for base, _, names in os.walk(m.home):
        for path in [base] + [os.path.join(base, n) for n in names]:
            os.chown(path, NOBODY, NOBODY)
    gate = t.headgate(SITE)
    env = {"SUDO_UID": str(NOBODY), "SUDO_GID": str(nobody.pw_gid), "HOME": "/root"}
    done(m.trust(gate, env=env), "system", f"Chromium ({db}): trusted from now on")
    assert names_in(db)
    assert {os.stat(os.path.join(db, n)).st_uid for n in os.listdir(db)} == {NOBODY}
    for bad in ("x", "-1", "4294967295", ""):
        done(m.trust(gate, env={**env, "SUDO_UID": bad, "HOME": m.home}), "Chromium", "was trusted already")


@case()
def test_what_is_no_root(t):
    """No CA yet, or something else in its place: said, and nothing is touched."""
    m = machine(t)
    if not m:
        return
    before = m.system()
    gate = t.unstarted(SITE)
    r = m.trust(gate)
    assert r.returncode == 1 and f"there is no local CA yet at {gate.ca}" in r.stderr, r
    os.makedirs(os.path.dirname(gate.ca))
    root, key = certificate(t, "root", ["x.example.org"])
    leaf = certificate(t, "leaf", ["y.example.org"], issuer=(root, key))[0]
    for text, said in (("", "holds no certificate"), ("junk\n", "holds no certificate"), (open(leaf).read(), "is not the root certificate"),
                       (open(key).read(), "holds no certificate")):
        with open(gate.ca, "w") as f:
            f.write(text)
        r = m.trust(gate)
        assert r.returncode == 1 and said in r.stderr and gate.ca in r.stderr, r
    assert m.system() == before


@case()
def test_broken_file(t):
    """With a file that is broken: the running server knows its state; without one, the way to the errors is named."""
    m = machine(t)
    if not m:
        return
    gate = t.headgate(SITE)
    gate.configure("sites: [\n")
    done(m.trust(gate), "trusted from now on")
    assert gate.stop() == 0
    r = m.trust(gate)
    assert r.returncode == 1 and f"headgate check --config {gate.file}" in r.stderr, r
    os.unlink(gate.file)
    r = m.trust(gate)
    assert r.returncode == 1 and f"there is no {gate.file}" in r.stderr and "--config" in r.stderr, r


@case(both=True)
def test_server_of_another(t):
    """Root asks for the CA of a user's server whose file leaves the state folder open: the server itself says where it is."""
    m = machine(t) if t.user else None
    if not m:
        return
    gate = t.headgate(SITE, top={"state": None}, env={"XDG_STATE_HOME": t.path("headgate.d/x")})
    gate.state = t.path("headgate.d/x/headgate")
    os.chown(gate.file, NOBODY, NOBODY)
    assert gate.get("/").body == b"hello"
    done(m.trust(gate), gate.ca, "system", "trusted from now on")


LIAR = '''
import json, os, socket, sys
s = socket.socket(socket.AF_UNIX)
s.bind(sys.argv[1])
s.listen(5)
print("listens", flush=True)
while True:
    c, _ = s.accept()
    try:
        if c.recv(4096):
            c.sendall(json.dumps({"status": 0, "config": {"file": sys.argv[2], "state": sys.argv[3]}}).encode() + b"\\n")
            print("asked", flush=True)
    except OSError:
        pass
    c.close()
'''


@case(root=True)
def test_liar(t):
    """A user's process that says it serves root's configuration is not believed by root: its CA is not trusted."""
    m = machine(t)
    if not m:
        return
    gate = t.headgate(SITE)
    theirs = t.path("theirs")
    shutil.copytree(gate.state, theirs)
    assert gate.stop() == 0
    shutil.rmtree(gate.state)
    os.mkdir(t.path("liar"))
    os.chown(t.path("liar"), NOBODY, NOBODY)
    cmd = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", PYTHON, t.write("liar.py", LIAR), t.path("liar/admin.sock"), gate.file, theirs]
    p = subprocess.Popen(cmd, stdout=subprocess.PIPE, text=True)
    t.defer(lambda: (p.kill(), p.wait(), p.stdout.close()))
    assert p.stdout.readline() == "listens\n"
    before = m.system()
    for text in (gate.text, "broken: [\n"):
        with open(gate.file, "w") as f:
            f.write(text)
        r = m.trust(gate)
        assert r.returncode == 1 and theirs not in r.stdout + r.stderr, r
    assert m.system() == before
    os.chown(gate.file, NOBODY, NOBODY)     # it can be asked, and its own file it may speak for
    done(m.trust(gate), f"{theirs}/ca/root.crt")
    assert p.stdout.readline() == "asked\n"
