"""The demo that `make run` starts, as a newcomer meets it: mk/demo in a private tree, curl, and Chromium on its page."""
import re

import procs as processes
from chromium import Chromium
from headgate import *

HOSTS = {"stable": "www.localhost", "beta": "beta.localhost", "alpha": "alpha.localhost"}


class Demo:
    """A copy of what the demo needs, on ports of our own."""

    def __init__(self, t):
        self.t, self.http, self.https, self.metrics = t, t.port(), t.port(), t.port()
        self.tree = t.path("tree")
        build = os.environ["BUILD"]
        shutil.copytree(os.path.join(ROOT, "conf"), os.path.join(self.tree, "conf"))
        os.makedirs(os.path.join(self.tree, "mk"))
        os.makedirs(os.path.join(self.tree, "build"))
        for source, target in ((t.program, "build/headgate"), (os.path.join(build, "demo-backend"), "build/demo-backend"),
                               (os.path.join(ROOT, "mk/demo"), "mk/demo")):
            shutil.copy(source, os.path.join(self.tree, target))
        for name in ("conf/demo.yaml", "mk/demo"):
            path = os.path.join(self.tree, name)
            with open(path) as f:
                text = f.read()
            with open(path, "w") as f:
                f.write(text.replace("8443", str(self.https)).replace("8080", str(self.http)).replace("9145", str(self.metrics)))
        if t.user:
            for folder, _, files in os.walk(self.tree):
                for name in [folder] + [os.path.join(folder, f) for f in files]:
                    os.chown(name, NOBODY, NOBODY)
        self.log_path = t.path("demo.log")
        with open(self.log_path, "wb") as log:
            self.p = subprocess.Popen(t.as_user([os.path.join(self.tree, "mk/demo")]), cwd=self.tree, stdin=subprocess.DEVNULL,
                                      stdout=log, stderr=log, env={k: v for k, v in os.environ.items() if k != "NOTIFY_SOCKET"})
        t.servers.append(self)
        t.defer(self.end)
        wait_for("the demo's word", lambda: "Stop it with" in self.log() or self.p.poll() is not None)
        assert self.p.poll() is None, self.log()
        self.ca = re.search(r"^\s+(/\S+\.(?:pem|crt))$", self.log(), re.M).group(1)

    def log(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    def stop(self, sig=signal.SIGINT):
        if self.p.poll() is None:
            self.p.send_signal(sig)
        wait_for("the demo's end", lambda: self.p.poll() is not None)
        return self.p.returncode

    def end(self):
        if self.p.poll() is None:
            self.stop(signal.SIGTERM)

    def curl(self, *args):
        return self.t.run(["curl", "-sS", "--noproxy", "*", "--cacert", self.ca, *args])

    def key_digest(self, host):
        """Chromium's way to name a certificate that it shall trust; that it is the CA's is curl's to check."""
        return self.t.run(["sh", "-c", f"openssl s_client -connect 127.0.0.1:{self.https} -servername {host} </dev/null 2>/dev/null | openssl x509 -noout -pubkey"
                           " | openssl pkey -pubin -outform DER | openssl dgst -sha256 -binary | base64"]).stdout.strip()

    def info(self, host):
        r = self.curl(f"https://{host}:{self.https}/api/info")
        assert r.returncode == 0, (r.stdout, r.stderr)
        return json.loads(r.stdout)


@case(both=True)
def test_two_commands(t):
    """mk/demo prints URLs and the CA's path; each channel answers as itself over TLS that curl trusts by that CA alone."""
    d = Demo(t)
    for host in HOSTS.values():
        assert f"https://{host}:{d.https}" in d.log(), d.log()
    pids = set()
    for channel, host in HOSTS.items():
        info = d.info(host)
        assert info["channel"] == channel and info["version"] and info["instance"] is not None, info
        pids.add(info["pid"])
        page = d.curl(f"https://{host}:{d.https}/")
        assert "<html" in page.stdout, page
    assert len(pids) == 3
    r = d.curl("-o", "/dev/null", "-w", "%{http_code} %{redirect_url}", f"http://localhost:{d.http}/x?y")
    assert r.stdout == f"308 https://www.localhost:{d.https}/x?y", r
    assert d.stop() == 0, d.log()
    assert port_free(d.https)
    left = [processes.cmdline(p) for p in processes.descendants(os.getpid())]
    assert not left, left


@case()
def test_backend_killed(t):
    """kill -9 of a channel's backend, as the page invites to: the next request is answered by its successor."""
    d = Demo(t)
    before = d.info("alpha.localhost")["pid"]
    os.kill(before, signal.SIGKILL)
    wait_for("its successor", lambda: d.info("alpha.localhost")["pid"] != before)
    for sig in (signal.SIGTERM,):
        assert d.stop(sig) == 0, d.log()


@case(serial=True)
def test_browser(t):
    """Chromium shows the three channels live; a killed backend's new pid appears on its card; a picture is taken."""
    d = Demo(t)
    page = Chromium(t.dir, ",".join(d.key_digest(h) for h in HOSTS.values()))
    t.defer(page.close)
    page.open(f"https://beta.localhost:{d.https}/")
    good = "[...document.querySelectorAll('.card.good, .card.slow')].length"
    try:
        wait_for("three live cards", lambda: page.js(good) == 3, every=0.1)
    except AssertionError:
        raise AssertionError(page.js("document.body.innerText"))
    field = "document.querySelector('.card.%s [data-is=\"%s\"]').textContent"
    spoken = page.js("[...new Set(performance.getEntries().map(e => e.nextHopProtocol).filter(x => x))]")
    assert spoken == ["h2"], spoken
    for channel, host in HOSTS.items():
        assert page.js(field % (channel, "pid")) == str(d.info(host)["pid"])
        wait_for("the event stream", lambda c=channel: re.match(r"\d\d:\d\d:\d\d", page.js(field % (c, "clock")) or ""), every=0.1)
    old = d.info(HOSTS["alpha"])["pid"]
    os.kill(old, signal.SIGKILL)
    wait_for("the new pid on the card", lambda: page.js(field % ("alpha", "pid")) not in (str(old), "…"), every=0.1)
    wait_for("three live cards again", lambda: page.js(good) == 3, every=0.1)
    folder = os.path.join(os.environ["BUILD"], "tests")
    os.makedirs(folder, exist_ok=True)
    picture = os.path.join(folder, "demo.png")
    page.screenshot(picture)
    with open(picture, "rb") as f:
        data = f.read()
    assert data.startswith(b"\x89PNG") and len(data) > 10000, len(data)
    page.close()        # its event streams would be waited for
    assert d.stop() == 0
