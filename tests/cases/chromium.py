"""Headless Chromium over its debugging pipe: open a page, wait for what scripts show, take a picture."""
import base64
import json
import os
import select
import subprocess
import time


class Chromium:
    """spki: base64 SHA-256 of the public key of the one CA that is trusted."""

    def __init__(self, folder, spki, width=1200, height=800):
        to_read, self.write = os.pipe()
        self.read, to_write = os.pipe()

        def place():    # Chromium reads commands at 3 and writes answers at 4
            a, b = os.dup(to_read), os.dup(to_write)
            os.dup2(a, 3)
            os.dup2(b, 4)
            os.set_inheritable(3, True)
            os.set_inheritable(4, True)
        env = dict(os.environ, HOME=folder, XDG_CONFIG_HOME=folder, XDG_CACHE_HOME=folder)
        self.log = open(os.path.join(folder, "chromium.log"), "wb")
        self.p = subprocess.Popen(
            ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--no-proxy-server", "--remote-debugging-pipe",
             f"--user-data-dir={folder}/profile", f"--ignore-certificate-errors-spki-list={spki}", f"--window-size={width},{height}", "about:blank"],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, env=env, preexec_fn=place, close_fds=False)
        os.close(to_read)
        os.close(to_write)
        self.buf, self.n, self.session = b"", 0, None
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next((x for x in targets if x["type"] == "page"), None)
        target = page["targetId"] if page else self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Page.enable")

    def message(self, end):
        while b"\0" not in self.buf:
            ready, _, _ = select.select([self.read], [], [], max(0, end - time.monotonic()))
            assert ready, "Chromium does not answer"
            data = os.read(self.read, 1 << 16)
            assert data, "Chromium ended"
            self.buf += data
        text, _, self.buf = self.buf.partition(b"\0")
        return json.loads(text)

    def call(self, method, **params):
        self.n += 1
        doc = {"id": self.n, "method": method, "params": params}
        if self.session:
            doc["sessionId"] = self.session
        data = json.dumps(doc).encode() + b"\0"
        while data:
            data = data[os.write(self.write, data):]
        end = time.monotonic() + 90
        while True:
            m = self.message(end)
            if m.get("id") == self.n:
                assert "error" not in m, (method, m["error"])
                return m["result"]

    def open(self, url):
        r = self.call("Page.navigate", url=url)
        assert not r.get("errorText"), (url, r)

    def js(self, expression):
        r = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in r, r
        return r["result"].get("value")

    def screenshot(self, path):
        with open(path, "wb") as f:
            f.write(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def close(self):
        if self.p.poll() is not None:
            return
        try:
            self.session = None
            self.call("Browser.close")
        except (AssertionError, OSError):
            pass
        try:
            self.p.wait(30)
        except subprocess.TimeoutExpired:
            self.p.kill()
            self.p.wait()
        for fd in (self.read, self.write):
            os.close(fd)
        self.log.close()
