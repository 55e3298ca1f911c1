"""headgate logs: what services print, kept and followed over the admin socket."""
import headgate
from headgate import *

PRINTER = '''
import os, socket, sys, time
# Prints what is appended to a file, line by line, as if it were its own work.
sock = socket.create_server(("127.0.0.1", int(sys.argv[1])))
with open(sys.argv[2]) as f:
    while True:
        line = f.readline()
        if line:
            print(line, end="", flush=True)
        else:
            time.sleep(0.005)
'''


def printers(t, *names):
    """A gate with a channel `c` whose services print what is appended to their files."""
    script = t.write("printer.py", PRINTER)
    services = ""
    for n in names:
        t.write(n + ".txt", "", mode=0o666)
        services += f"      {n}: {{ run: [{PYTHON}, {script}, $port, {t.path(n + '.txt')}] }}\n"
    return t.headgate("channels:\n  c:\n    host: c.localhost\n    https: both\n    services:\n" + services +
                      "    routes: { /: { respond: ok } }\n")


def say(t, name, *lines):
    with open(t.path(name + ".txt"), "a") as f:
        f.write("".join(line + "\n" for line in lines))


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


@case()
def test_slow_reader(t):
    """A reader that does not read is dropped lines, with their number; the server serves on and does not grow."""
    gate = printers(t, "a")
    with socket.socket(socket.AF_UNIX) as slow:
        slow.connect(os.path.join(gate.runtime, "admin.sock"))
        slow.sendall(json.dumps({"verb": "logs", "of": "c/a", "follow": True, "lines": 0}).encode() + b"\n")
        answer = b""
        while not answer.endswith(b"\n"):       # it follows from here on; nothing more is read
            answer += slow.recv(1)
        assert json.loads(answer)["lines"] == [], answer
        before = procs.rss(gate.master)
        for k in range(8):
            say(t, "a", *[f"{k} {i} " + "x" * 1000 for i in range(1000)])
            gate.wait_log(f'"{k} 999 ')
        assert gate.get("/", host="c.localhost").status == 200
        grown = procs.rss(gate.master) - before
        assert headgate.SANITIZED or grown < 8 << 20, f"the master grew by {grown >> 10} KiB"
        objects = []

        def read():
            for line in slow.makefile():
                objects.append(json.loads(line))
        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        wait_for("the number of lines that were dropped", lambda: (say(t, "a", "tick"), any("dropped" in o for o in objects))[1])
        wait_for("lines after that", lambda: (say(t, "a", "tock"), objects[-1].get("line") == "tock")[1])
        slow.shutdown(socket.SHUT_RDWR)
        reader.join()
        seen = [o["line"] for o in objects if "line" in o and o["line"][0].isdigit()]
        assert seen[0].startswith("0 0 ") and len(seen) + sum(o.get("dropped", 0) for o in objects) >= 8000


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
    """What is not there, and options that make no sense."""
    gate = printers(t, "a")
    for words, status, text in ((("x",), 1, "there is no such channel or service"), (("c/x",), 1, "no such"), (("c/",), 1, "no such"),
                                (("c", "-n", "many"), 2, "`many` is no number of lines"), ((), 2, "CHANNEL[/SERVICE]")):
        r = gate.cli("logs", *words)
        assert r.returncode == status and text in r.stderr, (words, r.returncode, r.stderr)
