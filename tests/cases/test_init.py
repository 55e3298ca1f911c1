"""headgate init: a configuration to begin with, from options or from a terminal; it passes check and serves as it is."""
import re

from headgate import *
from terminal import Terminal

# As a program that somebody has: one that takes an address, one that looks at PORT.
SERVER = '''
import http.server, json, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps([self.path, sys.argv, os.getcwd()]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
address = next((a for a in sys.argv[1:] if a.startswith("127.0.0.1:")), None)
port = address.split(":")[1] if address else os.environ["PORT"]
http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), Handler).serve_forever()
'''
HOSTILE = ["*", "#", " # not a comment", "it's", 'say "hi"', "a\nb", "\t", "\\", "{ a: b }", "[x", "- a", "&x", "!x", "%", "@", "`", "a: b",
           "ü 名前 \U0001F600", "\u2028", "\x1b[31m", "$$HOME", "null", "---", "--option=a b"]


def blank(t):
    """A server that has a folder, ports, and no configuration yet."""
    gate = t.unstarted("")
    os.unlink(gate.file)
    return gate


def init(gate, *args, **kw):
    kw.setdefault("stdin", subprocess.DEVNULL)
    return gate.cli("init", "--http", f"127.0.0.1:{gate.http}", "--https", f"127.0.0.1:{gate.https}", *args, **kw)


def written(gate):
    with open(gate.file) as f:
        return f.read()


def serve(gate):
    """Starts it with the file as it was written; only places and ports of this machine are added behind it."""
    more = {k: v for k, v in gate.top.items() if k not in ("listen", "user")}
    with open(gate.file, "a") as f:
        f.write("".join(f"{k}: {v}\n" for k, v in more.items()))
    r = gate.cli("check", "--strict")
    assert r.returncode == 0, r.stdout + written(gate)
    gate.start()


def init_ok(gate, *args):
    r = init(gate, *args)
    assert r.returncode == 0 and f"{gate.file} is written" in r.stdout and not r.stderr, (r.returncode, r.stdout, r.stderr)
    assert f":{gate.https}/" in r.stdout and f"`headgate trust --config {gate.file}`" in r.stdout, r.stdout
    serve(gate)


def folder(t):
    t.write("www/index.html", "<p>a page")
    return t.path("www")


@case(both=True)
def test_static(t):
    """--static: the files, by HTTPS, for localhost; HTTP redirects to the right port; comments name the next steps."""
    gate = blank(t)
    init_ok(gate, "--static", folder(t))
    assert gate.get("/").body == b"<p>a page"
    r = gate.get("/x", secure=False)
    assert r.status == 308 and r.get("location") == f"https://localhost:{gate.https}/x", r
    for word in ("headgate check", "headgate reload", "headgate trust", "headgate.yaml(5)", "# redirect_from:", "certificates:"):
        assert word in written(gate), written(gate)


@case(both=True)
def test_proxy(t):
    """--proxy with a port alone; a host that no local CA is for by itself gets its certificate all the same."""
    backend = t.backend()
    gate = blank(t)
    init_ok(gate, "--host", "APP.example.org", "--proxy", str(backend.port))
    assert gate.get("/hello", host="app.example.org").status == 200
    assert "\n    host: app.example.org\n" in written(gate) and "issuer: local" in written(gate), written(gate)


PUBLIC = [Row("email", args=["--email", "ops@example.org"], want='\nacme: { email: "ops@example.org" }\n'), Row("without", args=[], want="\nacme: {}   # "),
          Row("http_alone", args=["--https", "off"], want="\nacme: {}   # "), Row("other_ports", args=["--http", ":8080", "--https", ":8443"], want="issuer: local")]


@table(PUBLIC, lambda t: None)
def test_public(t, _, row):
    """A name of the internet: by ACME where a CA comes to one of the ports, else of the local CA; checked as it is written."""
    file = t.path(f"{row.name}.yaml")
    r = t.run([t.program, "init", "--config", file, "--host", "www.example.org", "--static", folder(t), "--http", ":80", "--https", ":443", *row.args])
    text = open(file).read()
    assert row.want in text and ("issuer: local" in text) == (row.name == "other_ports"), (r, text)
    r = t.run([t.program, "check", "--offline", "--strict", "--config", file])
    assert r.returncode == 0, (r, text)


@case(both=True)
def test_run(t):
    """--run: the program is started; what looks like options behind it is its own; files it names are found."""
    gate = blank(t)
    t.write("headgate.d/server.py", SERVER)
    init_ok(gate, "--run", PYTHON, "server.py", "--listen", "$listen", "--host", "b")
    path, argv, cwd = json.loads(gate.get("/a?b").body)
    assert path == "/a?b" and argv[1] == "--listen" and argv[2].startswith("127.0.0.1:") and argv[3:] == ["--host", "b"], argv
    assert cwd == gate.dir
    assert "PORT" not in written(gate), written(gate)


@case(both=True)
def test_run_and_static(t):
    """--static and --run: the server gets /api/; a program that is not told its address finds PORT in its environment."""
    gate = blank(t)
    init_ok(gate, "--static", folder(t), "--run", PYTHON, t.write("server.py", SERVER))
    assert gate.get("/").body == b"<p>a page"
    assert json.loads(gate.get("/api/x").body)[0] == "/api/x"


@case()
def test_hostile_arguments(t):
    """Words that mean something to YAML reach the program as they were given."""
    gate = blank(t)
    init_ok(gate, "--run", PYTHON, t.write("server.py", SERVER), "$listen", *HOSTILE)
    assert json.loads(gate.get("/").body)[1][2:] == [w.replace("$$", "$") for w in HOSTILE]


@case(both=True)
def test_hostile_folder(t):
    """So does the name of a folder, dollars too, which are no placeholders there."""
    name = 'a "b" \'c\' #*&!|\n\t\\ {x: [y]} ü\u2028 $host $$ %'
    t.write(name + "/index.html", "found")
    gate = blank(t)
    init_ok(gate, "--static", t.path(name))
    assert gate.get("/").body == b"found"


WRONG = [Row("two_servers", args=["--proxy", "3000", "--run", "true"], said="one of them"),
         Row("no_folder", args=["--static", "nowhere"], said="--static: there is no "),
         Row("file_as_folder", args=["--static", "/etc/passwd"], said="/etc/passwd is no folder"),
         Row("no_program", args=["--run", "no-such-program-here"], said="no program `no-such-program-here` in PATH"),
         Row("no_program_there", args=["--run", "./nowhere"], said="--run: there is no "),
         Row("folder_as_program", args=["--run", "/etc"], said="/etc is no program"),
         Row("not_executable", args=["--run", "/etc/passwd"], said="cannot execute /etc/passwd"),
         Row("no_command", args=["--run"], said="--run needs a value"), Row("equals", args=["--run=true"], said="--run PROGRAM"),
         Row("bad_host", args=["--host", "a b", "--static", "."], said="--host: `a b`"),
         Row("bad_url", args=["--proxy", "ftp://x"], said="--proxy: `ftp://x`"), Row("bad_port", args=["--proxy", "99999"], said="99999"),
         Row("bad_address", args=["--static", ".", "--http", "here"], said="--http: `here`"),
         Row("placeholder", args=["--run", "true", "a$lisen"], said="--run: `$lisen` stands for nothing; a dollar sign is written $$"),
         Row("not_utf8", args=["--run", "true", b"caf\xe9"], said="not UTF-8"),
         Row("no_terminal", args=[], said="no terminal to ask at"), Row("host_alone", args=["--host", "a.example.org"], said="no terminal to ask at")]


@table(WRONG, lambda t: t.path("c", "h.yaml"))
def test_wrong(t, file, row):
    """What cannot be is said, with the option; nothing is written, no folder made."""
    r = t.run([t.program, "init", "--config", file, *row.args], stdin=subprocess.DEVNULL, cwd=t.dir)
    assert r.returncode == 2 and row.said in r.stderr and not r.stdout, (r.returncode, r.stdout, r.stderr)
    assert not os.path.exists(os.path.dirname(file))


@case()
def test_would_not_run(t):
    """What only the whole file shows is shown as `check` shows it; the file does not stay."""
    file = t.path("h.yaml")
    r = t.run([t.program, "init", "--config", file, "--run", "true", "$version"], stdin=subprocess.DEVNULL)
    assert r.returncode == 1 and "$version" in r.stdout and "error[E" in r.stdout and "Nothing was written" in r.stdout, r
    assert not os.path.exists(file)


@case()
def test_never_overwrites(t):
    """A file that is there stays, whatever it is; the message names the way out."""
    for make in (lambda p: t.write("h.yaml", "mine"), lambda p: os.symlink("/nowhere", p), os.mkdir):
        path = t.path("h.yaml")
        make(path)
        r = t.run([t.program, "init", "--config", path, "--static", "."], stdin=subprocess.DEVNULL)
        assert r.returncode == 1 and "stays as it is" in r.stderr and "--config FILE" in r.stderr, r
        assert os.path.lexists(path) and not os.path.exists("/nowhere")
        os.rmdir(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)


@case(both=True)
def test_default_place(t):
    """Without --config: a user's file is below ~/.config, its ports are such as a user may have."""
    if not t.user:
        return      # root's is /etc/headgate: not for a test to touch
    home = t.path("home")
    os.mkdir(home)
    os.chown(home, NOBODY, NOBODY)
    env = {"HOME": home, "PATH": os.environ["PATH"]}
    r = t.run(t.as_user(["env", "-i", *[f"{k}={v}" for k, v in env.items()], t.program, "init", "--static", home]), stdin=subprocess.DEVNULL)
    file = os.path.join(home, ".config", "headgate", "headgate.yaml")
    assert r.returncode == 0 and file in r.stdout, r
    with open("/proc/sys/net/ipv4/ip_unprivileged_port_start") as f:
        high = int(f.read()) > 80
    with open(file) as f:
        assert ('public: { http: 8080, https: 8443 }' in f.read()) == high
    assert (":8443/" in r.stdout) == high
    r = t.run(t.as_user(["env", "-i", "HOME=/root", t.program, "init", "--static", home, "--config", "/etc/headgate-of-nobody/h.yaml"]), stdin=subprocess.DEVNULL)
    assert r.returncode == 1 and "permission denied" in r.stderr, r


def asked(t, gate, *args):
    return Terminal(t, t.as_user([t.program, "init", "--config", gate.file, "--http", f"127.0.0.1:{gate.http}", "--https", f"127.0.0.1:{gate.https}", *args]),
                    cwd=gate.dir)


@case(both=True)
def test_terminal_folder(t):
    """On a terminal: questions with defaults; an answer that cannot be is asked again, with the reason."""
    gate, www = blank(t), folder(t)
    tty = asked(t, gate)
    at = tty.wait("Host name that clients ask for [localhost]: ")
    tty.type("not a host\n")
    at = tty.wait("`not a host`", at)
    at = tty.wait("[localhost]: ", at)
    tty.type("\n")
    at = tty.wait("Which [1]: ", at)
    tty.type("4\n")
    at = tty.wait("Which [1]: ", tty.wait("1, 2 or 3", at))
    tty.type("\n")
    at = tty.wait(f"Folder [{gate.dir}]: ", at)
    tty.type("nowhere\n")
    at = tty.wait("Folder", tty.wait("there is no", at))
    tty.type(www + "\n")
    tty.wait("is written", at)
    assert tty.exit() == 0, tty.text
    serve(gate)
    assert gate.get("/").body == b"<p>a page"


@case(both=True)
def test_terminal_command(t):
    """A command is typed as at a shell: quotes, spaces and backslashes; no shell reads it."""
    gate = blank(t)
    script = t.write("server.py", SERVER)
    tty = asked(t, gate, "--host", "app.localhost")
    tty.wait("Which [1]: ")
    assert "Host name" not in tty.text
    tty.type("3\n")
    at = tty.wait("Command: ")
    tty.type(f"{PYTHON} 'not closed\n")
    at = tty.wait("Command: ", tty.wait("a quote is not closed", at))
    tty.type(f"{PYTHON} $(id)\n")
    at = tty.wait("Command: ", tty.wait("stands for nothing", at))
    tty.type(f"{PYTHON} {script}   $listen 'a  \"b' \"c'd\" e\\ f $$(id) > x\n")
    tty.wait("is written", at)
    assert tty.exit() == 0, tty.text
    serve(gate)
    assert json.loads(gate.get("/", host="app.localhost").body)[1][2:] == ['a  "b', "c'd", "e f", "$(id)", ">", "x"]


@case()
def test_terminal_proxy(t):
    """An address of a server, and its end by Ctrl-D: then nothing is written."""
    gate, backend = blank(t), t.backend()
    tty = asked(t, gate, "--host", "localhost")
    tty.wait("Which [1]: ")
    tty.type("2\n")
    tty.wait("Its address or port: ")
    tty.type("\x04")
    assert tty.exit() == 1 and "nothing was written" in tty.text and not os.path.exists(gate.file), tty.text
    tty = asked(t, gate, "--host", "localhost")
    tty.wait("Which [1]: ")
    tty.type("2\n")
    tty.wait("Its address or port: ")
    tty.type(f"127.0.0.1:{backend.port}\n")
    assert tty.exit() == 0, tty.text
    serve(gate)
    assert gate.get("/").status == 200


# --- what files that one begins with suggest

def with_suggestions(text):
    """The file with each commented-out key and route in force."""
    return re.sub(r"^( *)# ([a-z_/]+: [^ ].*)$", r"\1\2", text, flags=re.M)


@case()
def test_suggestions(t):
    """What the comments of such a file suggest can be uncommented, all of it at once."""
    gate = blank(t)
    init(gate, "--static", folder(t), "--run", PYTHON, t.write("server.py", SERVER), "$listen")
    with open(os.path.join(ROOT, "conf", "example.yaml")) as f:
        example = f.read()
    for text, keys in ((written(gate), ["aliases:", "redirect_from:", "env:", "ready:"]), (example, ["workers:", "limits:", "grpc:", "protocol:"])):
        more = with_suggestions(text)
        for key in keys:
            assert re.search(f"^ *{key}", more, re.M) and not re.search(f"^ *# {key}", more, re.M), (key, more)
        r = t.run([t.program, "check", "--offline", "--strict", "--config", t.write("more.yaml", more)])
        assert r.returncode == 0, r.stdout


@case()
def test_example(t):
    """conf/example.yaml serves, with its folders, program and certificates in other places."""
    hosts = ["example.org"] + [f"{n}.example.org" for n in ("www", "beta", "alpha", "status")]
    cert, key = certificate(t, "given", hosts)
    for name, path in ((cert, "a.crt"), (key, "a.key")):
        os.makedirs(t.path("tls"), exist_ok=True)
        shutil.copy(name, t.path("tls", path))
    for channel in ("stable", "beta", "alpha"):
        t.write(f"srv/{channel}/index.html", channel)
    t.write("srv/down.html", "down")
    backend = t.backend()
    gate = blank(t)
    with open(os.path.join(ROOT, "conf", "example.yaml")) as f:
        text = f.read()
    for theirs, ours in (("[/opt/app/$channel/server, --listen, $listen]", t.service("ok")), ("/srv/app", t.path("srv")), ("/etc/headgate/tls", t.path("tls")),
                         ("/var/log/headgate/access.log", t.path("access.log")), ("127.0.0.1:9001", f"127.0.0.1:{backend.port}")):
        assert theirs in text, theirs
        text = text.replace(theirs, ours)
    assert "\n  # certificates: [" in text and "\nacme: {" in text
    text = text.replace("\n  # certificates: [", "\n  certificates: [").replace("\nacme: {", "\n# acme: {")
    t.write("access.log", "", mode=0o666)
    with open(gate.file, "w") as f:
        f.write(text + "".join(f"{k}: {v}\n" for k, v in gate.top.items()))
    r = gate.cli("check", "--strict")
    assert r.returncode == 0, r.stdout
    gate.start()
    for host, target, body in (("www.example.org", "/", b"stable"), ("beta.example.org", "/", b"beta"), ("alpha.example.org", "/", b"alpha")):
        with gate.tls(host, context=tls_context(cert)) as c:
            r = c.get(target, host)
            assert r.status == 200 and r.body == body, r
            assert r.get("x-content-type-options") == "nosniff" and r.get("strict-transport-security") == "max-age=2592000", r
            assert (r.get("x-robots-tag") == "noindex") == (body != b"stable"), r
            assert c.get("/api/who", host).status == 200
            assert c.get("/old/x", host).status == 308
    with gate.tls("status.example.org", context=tls_context(cert)) as c:
        assert c.get("/", "status.example.org").status == 200
    assert "/api/who" in open(t.path("access.log")).read() or wait_for("the log", lambda: "/api/who" in open(t.path("access.log")).read())
