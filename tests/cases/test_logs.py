"""headgate logs: what services print, kept and followed over the admin socket."""
import pty
import select

import headgate
from headgate import *

PRINTER = '''
import os, socket, sys, time
# Prints what is appended to a file, line by line, as if it were its own work.
sock = socket.create_server(("127.0.0.1", int(sys.argv[1])))
with open(sys.argv[2], "rb") as f:
    while True:
        line = f.readline()
        if line:
            sys.stdout.buffer.write(line)
            sys.stdout.flush()
        else:
            time.sleep(0.005)
'''


def printers(t, *names, channel="c"):
    """A gate with a channel whose services print what is appended to their files."""
    script = t.write("printer.py", PRINTER)
    services = ""
    for n in names:
        t.write(n + ".txt", "", mode=0o666)
        services += f"      {n}: {{ run: [{PYTHON}, {script}, $port, {t.path(n + '.txt')}] }}\n"
    return t.headgate(f"channels:\n  {channel}:\n    host: c.localhost\n    https: both\n    services:\n" + services +
                      "    routes: { /: { respond: ok } }\n")


def say(t, name, *lines):
    with open(t.path(name + ".txt"), "ab") as f:
        f.write(b"".join((line if isinstance(line, bytes) else line.encode()) + b"\n" for line in lines))


def lines_of(r):
    assert r.returncode == 0, (r.returncode, r.stdout, r.stderr)
    return [line.split(" ", 3)[-1] for line in r.stdout.splitlines()]


class Following:
    """`headgate logs -f` in the background."""

    def __init__(self, t, gate, *args):
        cmd = t.as_user([t.program, "logs", "--config", gate.file, "-f", *args])
        self.proc = subprocess.Popen(cmd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=gate.dir)
        t.defer(self.end)
        self.lines = []
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.proc.stdout:
            self.lines.append(line.rstrip("\n"))

    def wait(self, text):
        wait_for(f"the line {text}", lambda: any(line.endswith(text) for line in list(self.lines)))

    def end(self):
        self.proc.kill()
        self.proc.wait()


@case(both=True)
def test_last_lines(t):
    """The last n lines of a service, of a channel in the order in which they came; --json has all about each."""
    gate = printers(t, "a", "b")
    for i in range(5):
        for name in ("a", "b"):
            say(t, name, f"{name} says {i}")
            gate.wait_log(f"{name} says {i}")
    assert lines_of(gate.cli("logs", "c/a", "-n", "3")) == ["a says 2", "a says 3", "a says 4"]
    assert lines_of(gate.cli("logs", "c", "-n", "4")) == ["a says 3", "b says 3", "a says 4", "b says 4"]
    assert lines_of(gate.cli("logs", "c/b", "--lines=0")) == []
    rows = [json.loads(x) for x in gate.cli("logs", "c/b", "-n", "1", "--json").stdout.splitlines()]
    assert rows[0]["line"] == "b says 4" and rows[0]["service"] == "c/b" and rows[0]["stream"] == "stdout", rows
    assert rows[0]["at_ms"] > 1.5e12 and rows[0]["instance"] > 0, rows


@case(both=True)
def test_follow(t):
    """-f goes on with new lines of those services and no others; the instance may change; it ends with the server."""
    gate = printers(t, "a", "b")
    say(t, "a", "before")
    gate.wait_log("before")
    one, all_ = Following(t, gate, "c/a"), Following(t, gate, "c")
    one.wait("before")
    all_.wait("before")
    say(t, "b", "only b")
    say(t, "a", "only a")
    one.wait("only a")
    all_.wait("only a")
    all_.wait("only b")
    assert not any("only b" in line for line in one.lines), one.lines
    pid = next(s for s in gate.status()["services"] if s["service"] == "c/a")["instances"][0]["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_for("another", lambda: next(s for s in gate.status()["services"] if s["service"] == "c/a")["instances"][0]["pid"] not in (0, pid))
    say(t, "a", "after the restart")
    one.wait("after the restart")
    gate.stop()
    one.proc.wait(60)


@case()
def test_reader_gone(t):
    """A reader that goes is forgotten; the next lines harm nobody."""
    gate = printers(t, "a")
    f = Following(t, gate, "c/a")
    say(t, "a", "one")
    f.wait("one")
    f.end()
    say(t, "a", *[f"more {i}" for i in range(200)])
    gate.wait_log("more 199")
    assert lines_of(gate.cli("logs", "c/a", "-n", "1")) == ["more 199"]


class Admin:
    """A connection to the admin socket, by hand."""

    def __init__(self, t, gate):
        self.sock = socket.socket(socket.AF_UNIX)
        t.defer(self.sock.close)
        self.sock.settimeout(60)
        self.sock.connect(os.path.join(gate.runtime, "admin.sock"))
        self.file = self.sock.makefile()

    def send(self, **request):
        self.sock.sendall(json.dumps(request).encode() + b"\n")

    def read(self):
        line = self.file.readline()
        return json.loads(line) if line else None

    def ask(self, **request):
        self.send(**request)
        return self.read()

    def follow_slowly(self, of):
        """Follows, and nothing is read behind the answer."""
        self.send(verb="logs", of=of, follow=True, lines=0)
        answer = b""
        while not answer.endswith(b"\n"):
            answer += self.sock.recv(1)
        assert json.loads(answer)["lines"] == [], answer
        return self


@case()
def test_slow_reader(t):
    """A reader that does not read is dropped lines; their number comes as soon as it has read what was there, not with the next line."""
    gate = printers(t, "a")
    slow = Admin(t, gate).follow_slowly("c/a")
    for k in range(8):
        say(t, "a", *[f"{k} {i} " + "x" * 1000 for i in range(1000)])
        gate.wait_log(f'"{k} 999 ')
    objects = [slow.read()]
    while "dropped" not in objects[-1]:
        objects.append(slow.read())
    seen = [o["line"] for o in objects if "line" in o]
    assert seen[0].startswith("0 0 ") and len(seen) + objects[-1]["dropped"] == 8000, (len(seen), objects[-1])
    say(t, "a", "and on")
    assert slow.read()["line"] == "and on"


@case(serial=True)
def test_50_megabytes(t):
    """A service prints 50 MB at once, one follows and does not read: the master serves on, its memory stays, no line is missing unseen."""
    lines = 50000
    script = t.write("torrent.py", f"""
import os, socket, sys, time
sock = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while not os.path.exists(sys.argv[2]):
    time.sleep(0.01)
for i in range({lines}):
    sys.stdout.write(f"{{i}} " + "x" * 994 + "\\n")
print("the end", flush=True)
time.sleep(1000)
""")
    gate = t.headgate(f"sites:\n  c:\n    host: c.localhost\n    services: {{ a: {{ run: [{PYTHON}, {script}, $port, {t.path('go')}] }} }}\n"
                      "    routes: { /: { respond: ok } }\n")
    wait_for("its start", lambda: gate.status()["services"][0]["state"] == "ready")
    slow = Admin(t, gate).follow_slowly("c/a")
    before = procs.rss(gate.master)
    t.write("go", "")
    most = 0
    while '"the end"' not in gate.log()[-5000:]:
        assert gate.get("/", host="c.localhost").status == 200
        most = max(most, procs.rss(gate.master) - before)
    assert headgate.SANITIZED or most < 8 << 20, f"the master grew by {most >> 10} KiB"
    seen = dropped = 0
    while seen + dropped <= lines:
        o = slow.read()
        if "dropped" in o:
            dropped += o["dropped"]
        elif o["line"] != "the end":
            assert o["line"].split(" ")[0] == str(seen + dropped), (o["line"][:20], seen, dropped)
            seen += 1
        else:
            break
    assert dropped and seen + dropped in (lines, lines + 1), (seen, dropped)       # the last one may be among them
    assert len(lines_of(gate.cli("logs", "c/a", "-n", "100000"))) < 300


def bytes_of(t, gate, *args):
    """What `headgate logs` writes to a pipe."""
    return subprocess.run(t.as_user([t.program, "logs", "--config", gate.file, *args]), stdout=subprocess.PIPE, check=True, timeout=60).stdout


ODD = b"caf\xe9 \xff\xe2\x82 \xc3\xa4 \xe2\x82\xac \x1b[31m\xc2\x9b31m over\rwritten \xe2\x80\xaegnp.exe"


@case()
def test_bad_bytes(t):
    """Bytes that are no UTF-8 are replaced one by one; what is fine around them stays."""
    gate = printers(t, "a")
    say(t, "a", ODD, b"\xff" * 100)
    wait_for("both lines", lambda: bytes_of(t, gate, "c/a").count(b"\n") == 2)
    rows = [json.loads(x) for x in bytes_of(t, gate, "c/a", "--json").splitlines()]
    assert rows[0]["line"] == "caf\ufffd \ufffd\ufffd\ufffd \xe4 \u20ac  [31m\x9b31m over\rwritten \u202egnp.exe", ascii(rows[0]["line"])
    assert rows[1]["line"] == "\ufffd" * 100, ascii(rows[1]["line"])


def on_terminal(t, *args):
    """What a command writes to a terminal, and its status."""
    ours, theirs = pty.openpty()
    shown = bytearray()
    with subprocess.Popen(t.as_user([t.program, *args]), stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, "NO_COLOR": "1"}) as p:
        os.close(theirs)
        while select.select([ours], [], [], 60)[0]:
            try:
                shown += os.read(ours, 65536)
            except OSError:         # nobody has the other end any more
                break
        status = p.wait(60)
    os.close(ours)
    return shown.replace(b"\r\n", b"\n"), status


@case(both=True)
def test_control_characters_on_a_terminal(t):
    """What a service prints cannot move the cursor, change colours or turn the text around; a pipe gets it as it is."""
    gate = printers(t, "a")
    say(t, "a", ODD)
    wait_for("the line", lambda: bytes_of(t, gate, "c/a"))
    raw = bytes_of(t, gate, "c/a")
    assert b"\rwritten" in raw and b"\xc2\x9b31m" in raw, raw
    for more in ((), ("--json",)):
        shown, status = on_terminal(t, "logs", "--config", gate.file, "c/a", *more)
        bad = [b for b in shown if b < 0x20 and b != 0x0a or b == 0x7f]
        assert status == 0 and not bad and not any(0x80 <= ord(c) < 0xa0 or c == "\u202e" for c in shown.decode()), shown
        assert b"\\u009b31m over\\rwritten \\u202egnp.exe" in shown.replace(b"\\u009B", b"\\u009b").replace(b"\\u202E", b"\\u202e"), shown
    assert "\xe4 \u20ac" in on_terminal(t, "logs", "--config", gate.file, "c/a")[0].decode()


@case()
def test_words_of_a_service_in_status(t):
    """What a service says of itself is shown by status; on a terminal it is harmless too."""
    script = t.write("says.py", """
import os, socket, time
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
    s.connect(os.environ["NOTIFY_SOCKET"])
    s.send("READY=1\\nSTATUS=all \\x1b[2Jgone \\u202eeurt".encode())
    time.sleep(1000)
""")
    gate = t.headgate(f"sites:\n  c:\n    host: c.localhost\n    services: {{ a: {{ run: [{PYTHON}, {script}, $port], ready: {{ notify: on }} }} }}\n"
                      "    routes: { /: { respond: ok } }\n")
    wait_for("its words", lambda: "eurt" in gate.cli("status").stdout)
    shown, status = on_terminal(t, "status", "--config", gate.file)
    assert status == 0 and b"\x1b" not in shown and "\u202e" not in shown.decode() and b"gone" in shown, shown


@case()
def test_followers_are_bounded(t):
    """One a connection, 32 in all; who is refused is told why, and other verbs have connections left."""
    gate = printers(t, "a")
    first = Admin(t, gate)
    assert first.ask(verb="logs", of="c/a", follow=True)["status"] == 0
    again = first.ask(verb="logs", of="c", follow=True)
    assert again["status"] == 4 and "this connection follows already" in again["text"], again
    assert first.ask(verb="logs", of="c/a")["status"] == 0
    others = [Admin(t, gate) for _ in range(31)]
    assert all(c.ask(verb="logs", of="c/a", follow=True)["status"] == 0 for c in others)
    r = gate.cli("logs", "c/a", "-f")
    assert r.returncode == 4 and "32 others follow already" in r.stderr, r.stderr
    others.pop().sock.shutdown(socket.SHUT_RDWR)
    wait_for("room for one", lambda: Admin(t, gate).ask(verb="logs", of="c/a", follow=True)["status"] == 0)
    assert gate.cli("status").returncode == 0


@case()
def test_connections_are_bounded(t):
    """Who comes to the admin socket when it is full is told so."""
    gate = printers(t, "a")
    held = [Admin(t, gate) for _ in range(64)]
    assert held[-1].ask(verb="status")["status"] == 0
    r = gate.cli("status")
    assert r.returncode == 4 and "too many connections to the admin socket" in r.stdout + r.stderr, (r.returncode, r.stdout, r.stderr)
    held[0].sock.shutdown(socket.SHUT_RDWR)
    wait_for("a free one", lambda: gate.cli("status").returncode == 0)


@case()
def test_asking_without_reading(t):
    """Questions wait while their answers do: somebody who asks and asks and never reads costs no memory."""
    gate = printers(t, "a")
    say(t, "a", *["z" * 1000 for _ in range(250)], "the last")
    gate.wait_log("the last")
    c, before = Admin(t, gate), procs.rss(gate.master)
    for _ in range(300):
        c.send(verb="logs", of="c/a", lines=1000)
    assert gate.cli("status").returncode == 0
    grown = procs.rss(gate.master) - before
    assert headgate.SANITIZED or grown < 16 << 20, f"the master grew by {grown >> 10} KiB"
    for _ in range(300):
        assert len(c.read()["lines"]) > 200


class FakeServer:
    """Something else at the socket's path: answers each connection with these bytes, over and over."""

    def __init__(self, t, answer, times=1):
        self.path = t.path("fake.sock")
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.bind(self.path)
        os.chmod(self.path, 0o777)
        self.sock.listen()
        t.defer(self.sock.close)
        self.answer, self.times = answer, times
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        conn = self.sock.accept()[0]
        with conn:
            conn.recv(65536)
            for _ in range(self.times):
                try:
                    conn.sendall(self.answer)
                except OSError:
                    return


FAKES = [Row("without_end", answer=b"x" * (1 << 20), times=1000, said="answers with more than 64 MiB"),
         Row("no_json", answer=b"HTTP/1.1 200 OK\r\n\r\n", times=1, said="what answers at"),
         Row("not_an_object", answer=b"[]\n", times=1, said="what answers at"),
         Row("cut", answer=b'{"status": 0', times=1, said="in the middle of an answer"),
         Row("nothing", answer=b"", times=1, said="before it answered")]


@table(FAKES, lambda t: None)
def test_what_is_no_server(t, shared, row):
    """What comes from the socket is bounded and looked at; the error names it."""
    for verb in (["status"], ["logs", "c"]):
        fake = FakeServer(t, row.answer, row.times)
        r = t.run([t.program, *verb, "--socket", fake.path])
        assert r.returncode == 3 and row.said in r.stderr, (verb, r.returncode, r.stderr)
        os.unlink(fake.path)


@case()
def test_bounded(t):
    """What is kept of a service is bounded: the oldest lines go."""
    gate = printers(t, "a")
    say(t, "a", *[f"{i} " + "y" * 1000 for i in range(1000)])
    gate.wait_log('"999 ')
    kept = lines_of(gate.cli("logs", "c/a", "-n", "100000"))
    assert 200 < len(kept) < 270 and kept[-1].startswith("999 "), len(kept)


@case()
def test_unknown(t):
    """What is not there: which name was meant, which there are; and options that make no sense."""
    gate = printers(t, "api", "worker", channel="beta")
    there = " There are: beta/api, beta/worker\n"
    for words, status, text in ((("bta",), 1, f"logs bta: there is no channel or service of this name; did you mean `beta`?{there}"),
                                (("beta/apo",), 1, f"did you mean `beta/api`?{there}"), (("beta/",), 1, "there is no channel or service of this name"),
                                (("quite-another",), 1, f"of this name.{there}"), (("beta", "-n", "many"), 2, "`many` is no number of lines"),
                                ((), 2, "CHANNEL[/SERVICE]")):
        r = gate.cli("logs", *words)
        assert r.returncode == status and text in r.stderr, (words, r.returncode, r.stderr)
    r = gate.cli("restart", "worker")
    assert r.returncode == 1 and f"did you mean `beta/worker`?{there}" in r.stdout + r.stderr, (r.stdout, r.stderr)
    gate.reload_ok("sites:\n  s:\n    host: localhost\n    routes: { /: { respond: ok } }\n")
    assert "logs s: it has no service" in gate.cli("logs", "s").stderr
    wait_for("their end", lambda: "The configuration has no services." in gate.cli("logs", "x").stderr)
