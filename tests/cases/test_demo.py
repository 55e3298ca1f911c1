"""The demo that `make run` starts, as a newcomer meets it: mk/demo in a private tree, curl, and Chromium on its page."""
import re

import procs as processes
from chromium import Chromium
from headgate import *

HOSTS = {"stable": "www.localhost", "beta": "beta.localhost", "alpha": "alpha.localhost"}


class Demo:
    """A copy of what the demo needs, on ports of our own. web: also the page's client from npm."""

    def __init__(self, t, web=False):
        self.t, self.http, self.https, self.metrics = t, t.port(), t.port(), t.port()
        self.tree = t.path("tree")
        build = os.environ["BUILD"]
        shutil.copytree(os.path.join(ROOT, "conf"), os.path.join(self.tree, "conf"))
        os.makedirs(os.path.join(self.tree, "mk"))
        os.makedirs(os.path.join(self.tree, "build"))
        for source, target in ((t.program, "build/headgate"), (os.path.join(build, "demo-backend"), "build/demo-backend"),
                               (os.path.join(ROOT, "mk/demo"), "mk/demo")):
            shutil.copy(source, os.path.join(self.tree, target))
        os.makedirs(os.path.join(self.tree, "build/demo-web"))
        if web:
            r = t.run([os.path.join(ROOT, "mk/demo-web"), build], guard=110)
            assert r.returncode == 0, r.stderr
            shutil.copy(os.path.join(build, "demo-web/rpc.js"), os.path.join(self.tree, "build/demo-web"))
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


def open_page(t, d):
    """Chromium on beta's page, once it shows three live cards."""
    page = Chromium(t.dir, ",".join(d.key_digest(h) for h in HOSTS.values()))
    t.defer(page.close)
    page.open(f"https://beta.localhost:{d.https}/")
    try:
        wait_for("three live cards", lambda: page.js(GOOD) == 3, every=0.1)
    except AssertionError:
        raise AssertionError(page.js("document.body.innerText"))
    return page


GOOD = "[...document.querySelectorAll('.card.good, .card.slow')].length"


def field(page, channel, name):
    return page.js(f"document.querySelector('.card.{channel} [data-is=\"{name}\"]').textContent")


def wait_field(page, channel, name, pattern):
    """Waits until the card's field fits; returns the match."""
    try:
        return wait_for(f"{name} of {channel} like {pattern}", lambda: re.fullmatch(pattern, field(page, channel, name) or ""), every=0.05)
    except AssertionError as e:
        raise AssertionError(f"{e}: {page.js('document.body.innerText')}")


@case(serial=True)
def test_browser(t):
    """
    Chromium shows the three channels live: who answers, the event stream, a unary and a streaming gRPC-Web call by the official client.
    A backend is killed inside the stream: the page tells the gRPC status and goes on with its successor; a picture is taken.
    """
    d = Demo(t, web=True)
    page = open_page(t, d)
    spoken = page.js("[...new Set(performance.getEntries().map(e => e.nextHopProtocol).filter(x => x))]")
    assert spoken == ["h2"], spoken
    for channel, host in HOSTS.items():
        pid = str(d.info(host)["pid"])
        assert field(page, channel, "pid") == pid
        wait_field(page, channel, "clock", r"\d\d:\d\d:\d\d")
        wait_field(page, channel, "greet", rf"Hello, {channel} · [0-9.]+ ms")
        first = int(wait_field(page, channel, "watch", rf"message (\d+) from {pid}")[1])
        wait_for("its next message", lambda c=channel, p=pid, n=first: int(wait_field(page, c, "watch", rf"message (\d+) from {p}")[1]) > n, every=0.1)
    old = d.info(HOSTS["alpha"])["pid"]
    others = {c: field(page, c, "pid") for c in ("stable", "beta")}
    os.kill(old, signal.SIGKILL)
    wait_field(page, "alpha", "broken", r"UNAVAILABLE, back in [0-9.]+ s")
    new = wait_field(page, "alpha", "watch", r"message \d+ from (\d+)")[1]
    assert new != str(old), (new, old)
    wait_for("the new pid on the card", lambda: field(page, "alpha", "pid") == new, every=0.1)
    wait_field(page, "alpha", "greet", r"Hello, alpha · [0-9.]+ ms")
    wait_for("three live cards again", lambda: page.js(GOOD) == 3, every=0.1)
    for channel, pid in others.items():     # nobody else noticed
        assert field(page, channel, "broken") == "none yet" and field(page, channel, "pid") == pid
    folder = os.path.join(os.environ["BUILD"], "tests")
    os.makedirs(folder, exist_ok=True)
    picture = os.path.join(folder, "demo.png")
    page.screenshot(picture)
    with open(picture, "rb") as f:
        data = f.read()
    assert data.startswith(b"\x89PNG") and len(data) > 10000, len(data)
    page.close()        # its event streams would be waited for
    assert d.stop() == 0


@case(serial=True)
def test_without_npm(t):
    """The page's client could not be had: the rest is as live as ever, and the page says what is missing."""
    d = Demo(t)
    page = open_page(t, d)
    wait_field(page, "alpha", "clock", r"\d\d:\d\d:\d\d")
    assert page.js("document.getElementById('no-rpc').hidden") is False
    assert page.js("[...document.querySelectorAll('.rpc')].every(x => x.hidden)") is True
    page.close()
    assert d.stop() == 0


@case()
def test_npm_out_of_reach(t):
    """No registry answers: mk/demo-web says so in a line and fails, and leaves no client that would be an old one."""
    port = t.port()     # nobody listens there
    env = dict(os.environ, npm_config_registry=f"http://127.0.0.1:{port}/", npm_config_cache=t.path("cache"), HOME=t.dir)
    r = t.run([os.path.join(ROOT, "mk/demo-web"), t.path("build")], guard=110, env=env)
    assert r.returncode == 1 and "the demo's page makes no gRPC-Web calls; the rest of it works" in r.stderr and "ECONNREFUSED" in r.stderr, r
    assert os.listdir(t.path("build/demo-web")) == []
