"""The command line: verbs, exit statuses, diagnostics, schema."""
from headgate import *

GOOD = "sites:\n  s: { host: localhost, routes: { /: { respond: hello } } }\n"
BAD = "sites:\n  s: { host: localhost, rutes: { /: { respond: hello } } }\n  t: { host: t.localhost, routes: { /: { respond: a, redirect: /b } } }\n"


@case()
def test_version(t):
    """version prints one line and the exit status is 0."""
    r = t.run([t.program, "version"])
    assert r.returncode == 0 and "headgate" in r.stdout and r.stdout.count("\n") >= 1, (r.returncode, r.stdout, r.stderr)


USAGE = [Row("none", args=[]), Row("unknown_verb", args=["frobnicate"]), Row("unknown_option", args=["check", "--frobnicate"]),
         Row("missing_value", args=["check", "--config"]), Row("extra_word", args=["reload", "now", "please"]), Row("bad_format", args=["check", "--format", "xml"])]


@table(USAGE, lambda t: None)
def test_usage(t, _, row):
    """Wrong usage: status 2, told on stderr what and how instead."""
    r = t.run([t.program, *row.args])
    assert r.returncode == 2, (r.returncode, r.stdout, r.stderr)
    assert len(r.stderr) > 10 and "\x1b" not in r.stderr, r.stderr


@case()
def test_help(t):
    """--help lists the verbs on stdout and is no error."""
    r = t.run([t.program, "--help"])
    assert r.returncode == 0 and "reload" in r.stdout and "check" in r.stdout, (r.returncode, r.stdout, r.stderr)


@case()
def test_check_good(t):
    """check of a good file: status 0, one line that says so."""
    gate = t.unstarted(GOOD)
    for args in ((), ("--offline",), ("--strict",)):
        r = gate.cli("check", *args)
        assert r.returncode == 0, (args, r.returncode, r.stdout, r.stderr)


@case()
def test_check_bad(t):
    """check of a bad file: status 1, all errors at once, each with place, excerpt, caret and hint."""
    gate = t.unstarted(BAD)
    r = gate.cli("check")
    text = r.stdout + r.stderr
    assert r.returncode == 1, (r.returncode, text)
    assert text.count("error[E") >= 2, text
    assert f"--> {gate.file}:" in text and "^^^" in text and "did you mean `routes`" in text, text
    assert "2 errors" in text or "errors" in text, text


@case()
def test_check_formats(t):
    """--format short is one line an error, --format json is JSON; both name file and line."""
    gate = t.unstarted(BAD)
    r = gate.cli("check", "--format", "short")
    text = r.stdout + r.stderr
    assert r.returncode == 1 and f"{gate.file}:" in text, (r.returncode, text)
    r = gate.cli("check", "--format", "json")
    assert r.returncode == 1
    docs = json.loads(r.stdout) if r.stdout.lstrip().startswith(("[", "{")) and "\n{" not in r.stdout.strip() else [json.loads(x) for x in r.stdout.splitlines() if x]
    text = json.dumps(docs)
    assert gate.file in text and "E0" in text and "rutes" in text, text


@case()
def test_check_ports(t):
    """check warns of a port that another program holds, not of those of its own running server, nor with --offline."""
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    taken.listen(1)
    t.defer(taken.close)
    port = taken.getsockname()[1]
    gate = t.unstarted(GOOD, top={"listen": f"{{ http: '127.0.0.1:{port}', https: off }}"})
    r = gate.cli("check")
    assert r.returncode == 0 and "warning[W006]" in r.stdout and str(port) in r.stdout and "another program" in r.stdout, r
    assert gate.cli("check", "--strict").returncode == 1
    assert "W006" not in gate.cli("check", "--offline").stdout


@case()
def test_check_ports_of_its_own_server(t):
    """The ports of its own running server are not in the way."""
    r = t.headgate(GOOD).cli("check", "--strict")
    assert r.returncode == 0 and "W006" not in r.stdout, r


@case()
def test_check_does_not_touch(t):
    """check makes no folder, opens no port, starts nothing."""
    gate = t.unstarted(run_site(t.service("ok")))
    r = gate.cli("check")
    assert r.returncode == 0, (r.returncode, r.stdout, r.stderr)
    assert not os.path.exists(gate.state) and not os.path.exists(gate.runtime)


@case()
def test_explain(t):
    """explain CODE tells more; an unknown code is status 1."""
    r = t.run([t.program, "explain", "E003"])
    assert r.returncode == 0 and len(r.stdout) > 50, (r.returncode, r.stdout, r.stderr)
    r = t.run([t.program, "explain", "E999"])
    assert r.returncode == 1, (r.returncode, r.stdout, r.stderr)


@case()
def test_schema(t):
    """schema prints valid JSON Schema with the keys of the config."""
    r = t.run([t.program, "schema"])
    doc = json.loads(r.stdout)
    assert r.returncode == 0 and "$schema" in doc, r.stdout[:300]
    for key in ("channels", "sites", "listen", "workers", "timeouts"):
        assert key in doc["properties"], key


@case()
def test_no_server(t):
    """Verbs that need a server: status 3 and the socket's path when there is none."""
    gate = t.unstarted(GOOD)
    for verb in ("reload", "status", "stop"):
        r = gate.cli(verb)
        assert r.returncode == 3 and "admin.sock" in r.stderr + r.stdout, (verb, r.returncode, r.stdout, r.stderr)


@case()
def test_run_with_bad_config(t):
    """run with a bad file: the diagnostics, status 1."""
    gate = t.unstarted(BAD)
    gate.spawn()
    assert gate.wait_exit() == 1
    assert "error[E" in gate.log(), gate.log()


@case()
def test_run_with_missing_config(t):
    """run with a file that is not there: its path, status 1."""
    gate = t.unstarted(GOOD)
    os.unlink(gate.file)
    gate.spawn()
    assert gate.wait_exit() == 1
    assert gate.file in gate.log(), gate.log()


@case()
def test_keys_of_later_versions(t):
    """Keys that no code serves yet are refused by name, not ignored."""
    gate = t.unstarted("streams: { \":4222\": { service: s/app } }\n" + GOOD)
    r = gate.cli("check")
    text = r.stdout + r.stderr
    assert r.returncode == 1 and "not available in this version" in text and "streams" in text, (r.returncode, text)


@case()
def test_colour(t):
    """No escape sequence when the output is no terminal."""
    r = t.unstarted(BAD).cli("check")
    assert "\x1b" not in r.stdout + r.stderr


@case()
def test_closed_stdout(t):
    """A reader that goes away (`headgate schema | head -1`) is no crash."""
    p = subprocess.run(["bash", "-c", f"{t.program} schema | head -c 1; exit ${{PIPESTATUS[0]}}"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=60)
    assert p.returncode in (0, 1, 141), p
