"""The command line: verbs, exit statuses, diagnostics, schema."""
import re
import time
import zlib

from headgate import *

GOOD = "sites:\n  s: { host: localhost, routes: { /: { respond: hello } } }\n"
BAD = "sites:\n  s: { host: localhost, rutes: { /: { respond: hello } } }\n  t: { host: t.localhost, routes: { /: { respond: a, redirect: /b } } }\n"


@case()
def test_version(t):
    """version prints one line and the exit status is 0."""
    r = t.run([t.program, "version"])
    assert r.returncode == 0 and "headgate" in r.stdout and r.stdout.count("\n") >= 1, (r.returncode, r.stdout, r.stderr)


USAGE = [Row("none", args=[], said="usage: headgate VERB"), Row("unknown_verb", args=["frobnicate"], said="there is no verb `frobnicate`"),
         Row("mistyped_verb", args=["lgos"], said="did you mean `logs`?"), Row("verb_of_later", args=["deploy"], said="not available in this version"),
         Row("unknown_option", args=["check", "--frobnicate"], said="there is no option `--frobnicate`"),
         Row("mistyped_option", args=["check", "--strct"], said="did you mean `--strict`?"), Row("unknown_letter", args=["logs", "c", "-fx"], said="`-x`"),
         Row("contradiction", args=["check", "--online", "--offline"], said="--offline and --online contradict each other"),
         Row("option_of_another_verb", args=["stop", "--strict"], said="`stop` does not take --strict"),
         Row("missing_value", args=["check", "--config"], said="--config needs a value: --config FILE"),
         Row("empty_value", args=["check", "--config="], said="--config needs a value"),
         Row("option_as_value", args=["check", "--config", "--strict"], said="--config needs a value"),
         Row("value_of_a_flag", args=["check", "--strict=yes"], said="--strict takes no value"),
         Row("extra_word", args=["reload", "now", "please"], said="`reload` takes no further word: `now`"),
         Row("two_words", args=["restart", "a/b", "c/d"], said="`c/d` is one word too many"), Row("no_word", args=["restart"], said="CHANNEL/SERVICE"),
         Row("option_behind_two_dashes", args=["logs", "--", "c", "-f"], said="`-f` is one word too many"),
         Row("bad_format", args=["check", "--format", "xml"], said="--format is text|short|json, not `xml`"),
         Row("bad_number", args=["logs", "c", "-n5x"], said="`5x` is no number of lines"), Row("huge_number", args=["logs", "c", "-n", "1000001"], said="no number"),
         Row("mistyped_action", args=["certs", "renw"], said="did you mean `renew`?"), Row("unknown_action", args=["certs", "x"], said="certs [show HOST | renew HOST"),
         Row("action_without_word", args=["certs", "renew"], said="headgate certs renew HOST"),
         Row("action_two_words", args=["certs", "renew", "a", "b"], said="`b` is one word too many"),
         Row("action_extra_word", args=["certs", "roll-key", "now"], said="`certs roll-key` takes no further word: `now`"),
         Row("help_of_no_verb", args=["help", "stattus"], said="did you mean `status`?")]


@table(USAGE, lambda t: None)
def test_usage(t, _, row):
    """Wrong usage: status 2, told on stderr what and how instead."""
    r = t.run([t.program, *row.args])
    assert r.returncode == 2 and row.said in r.stderr and not r.stdout, (r.returncode, r.stdout, r.stderr)
    assert "\x1b" not in r.stderr and "headgate help" in r.stderr or not row.args, r.stderr


def cli_table(t):
    """The table of verbs and options, as the program tells it: name → verb, whose options are name → option."""
    r = t.run([t.program, "help", "--json"])
    assert r.returncode == 0, (r.returncode, r.stderr)
    return {v["name"]: dict(v, options={o["name"]: o for o in v["options"]}) for v in json.loads(r.stdout)}


@case()
def test_help(t):
    """--help, -h and help list the verbs on stdout; each verb's --help says all that the table has, in 80 columns."""
    shown = [t.run([t.program, *args]) for args in (["--help"], ["-h"], ["help"])]
    assert {r.returncode for r in shown} == {0} and len({r.stdout for r in shown}) == 1 and not shown[0].stderr, shown
    verbs = cli_table(t)
    assert {"run", "check", "reload", "status", "logs", "restart", "stop"} <= set(verbs)
    for name, verb in verbs.items():
        assert f"\n  {name} " in shown[0].stdout and verb["summary"] in shown[0].stdout, shown[0].stdout
        r = t.run([t.program, name, "--help"])
        assert r.returncode == 0 and not r.stderr and r.stdout == t.run([t.program, "help", name]).stdout, r
        assert max(map(len, r.stdout.splitlines())) <= 80, r.stdout
        for option in verb["options"].values():
            assert f"--{option['name']}" in r.stdout and option["help"] in r.stdout, (name, option)
            assert not option.get("letter") or f"-{option['letter']}, " in r.stdout, option
        assert not verb.get("word") or verb["word"]["name"] in r.stdout.splitlines()[0], r.stdout
    assert max(map(len, shown[0].stdout.splitlines())) <= 85


@case()
def test_options_wherever(t):
    """Options before and behind the verb, with `=`, as letters in a row; `--` before a word that begins with a dash."""
    gate = t.headgate(GOOD)
    for args in (["--config", gate.file, "status"], ["status", f"--config={gate.file}"], ["status", "--config", gate.file, "--json"],
                 ["logs", "s", "-fn0", "--config", gate.file], ["logs", "-n", "5", "--config", gate.file, "--", "-odd"]):
        r = t.run([t.program, *args])
        assert r.returncode == ("logs" in args) and "usage" not in r.stderr, (args, r)
        assert "logs" not in args or r.stderr.startswith(f"headgate: logs {'s' if 's' in args else '-odd'}: "), r


COMMON = {"config", "socket", "json", "help"}


def man_items(page, section):
    """The items of a section's list in the mdoc source: the head of each in one line, and all of it."""
    items, depth = [], 0
    for line in page.split(f"\n.Sh {section}\n")[1].split("\n.Sh ")[0].split("\n"):
        depth += line.startswith(".Bl ") - line.startswith(".El")
        if line.startswith(".It ") and depth == 1:
            items.append([line])
        elif items:
            items[-1].append(line)
    heads = [" ".join(lines[1:lines.index(".Xc")]) if lines[0] == ".It Xo" else lines[0][4:] for lines in items]
    return list(zip(heads, ("\n".join(lines) for lines in items)))


@case()
def test_man_page(t):
    """man/headgate.8 and the table agree: each verb with its word and its options, and nothing that is not there."""
    with open(os.path.join(ROOT, "man", "headgate.8")) as f:
        page = f.read()
    verbs = cli_table(t)
    flags = lambda text: {x.split()[0] for x in text.replace("Fl -", "\0").split("\0")[1:]}        # noqa: E731
    letters = lambda text: {x[0] for x in text.split("Fl ")[1:] if x[0] != "-"}                      # noqa: E731
    items = [(head.lstrip(".").split()[1], head, text) for head, text in man_items(page, "VERBS")]
    assert sorted(i[0] for i in items) == sorted(verbs), (items, sorted(verbs))
    for name, head, text in items:
        options = verbs[name]["options"]
        assert flags(text) - COMMON == set(options) - COMMON, (name, flags(text), set(options))
        assert flags(text) <= set(options), (name, flags(text))
        assert letters(text) == {o["letter"] for n, o in options.items() if "letter" in o} - {"h"}, (name, letters(text))
        assert ("Ar " in re.sub(r"Fl \S+ Ar \S+", "", head)) == ("word" in verbs[name]), (name, text)
        for option in options.values():
            for choice in option.get("choices", []) if option["name"] not in COMMON else []:
                assert choice in text, (name, choice)
    common = man_items(page, "OPTIONS")
    assert {x for head, _ in common for x in flags("Fl " + head.split("Fl ", 1)[-1])} == COMMON, common
    for head, text in common:
        name = flags("Fl " + head.split("Fl ", 1)[-1]).pop()
        named = {w for line in text.split("\n")[1:] for w in line.replace(",", "").split() if w in verbs and "Cm" in line}
        assert name == "help" or named == {v for v in verbs if name in verbs[v]["options"]}, (name, named)


SECTIONS = ["NAME", "SYNOPSIS", "DESCRIPTION", "VERBS", "OPTIONS", "SIGNALS", "DEATH OF THE MASTER", "CGROUPS", "ENVIRONMENT", "FILES", "EXIT STATUS",
            "EXAMPLES", "DIAGNOSTICS", "SECURITY", "SEE ALSO"]


@case()
def test_man_page_whole(t):
    """All sections are there; ENVIRONMENT names each variable that the code looks at, EXIT STATUS each status, SIGNALS what is handled."""
    with open(os.path.join(ROOT, "man", "headgate.8")) as f:
        page = f.read()
    assert re.findall(r"^\.Sh (.*)$", page, re.M) == SECTIONS
    part = lambda name: page.split(f"\n.Sh {name}\n")[1].split("\n.Sh ")[0]                          # noqa: E731
    looked_at = set()
    for folder in ("base", "conf", "proxy", "acme", "channels"):
        for name in os.listdir(os.path.join(ROOT, folder)):
            if name.endswith(".c"):
                with open(os.path.join(ROOT, folder, name)) as f:
                    looked_at |= set(re.findall(r'(?:getenv|unsetenv|source_env|id_of)\([^";]*"([A-Z_]+)"', f.read()))
    named = {w for line in re.findall(r"^\.It Ev (.*)$", part("ENVIRONMENT"), re.M) for w in line.split(" , ")}
    assert looked_at and looked_at <= named, looked_at - named
    assert re.findall(r"^\.It (\d)$", part("EXIT STATUS"), re.M) == list("01234")
    for name in ("SIGHUP", "SIGTERM", "SIGINT"):
        assert name in part("SIGNALS"), name


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
    gate = t.unstarted("users: { team: { file: team.htpasswd } }\n" + GOOD)
    r = gate.cli("check")
    text = r.stdout + r.stderr
    assert r.returncode == 1 and "`users` is not available in this version" in text, (r.returncode, text)


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


@case()
def test_certs_agent_dies(t):
    """certs while the agent hangs, which then dies: refused in words, and nothing is left of the question."""
    gate = t.headgate(GOOD)
    agent, = gate.agents()
    os.kill(agent, signal.SIGSTOP)
    asking = [subprocess.Popen([t.program, "certs", *args, "--config", gate.file], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for args in ([], ["roll-key", "--json"])]
    wait_for("the questions", lambda: gate.status()["agent"]["asked"] == 2)
    os.kill(agent, signal.SIGKILL)
    for p in asking:
        out, err = p.communicate()
        assert p.returncode == 4 and "the agent died" in (err or out), (p.returncode, out, err)
    assert gate.status()["agent"]["asked"] == 0
    wait_for("another agent", lambda: gate.status()["agent"]["state"] == "serving")


ONLINE = """acme: {{ ca: https://127.0.0.1:9/dir, limits: letsencrypt, challenge: {challenge} }}
tls: {{ issuer: acme }}
sites: {{ s: {{ host: {host}, aliases: [b.localhost], routes: {{ /: {{ respond: hello }} }} }} }}
"""


def ledger(t, gate, *events):
    """A ledger as the agent writes it, of events (seconds ago, what, host)."""
    lines = [f"{int(time.time()) - ago} {what} {host} - " for ago, what, host in events]
    os.makedirs(t.path("headgate.d", "state", "acme", "127.0.0.1-9-dir"))
    t.write("headgate.d/state/acme/127.0.0.1-9-dir/ledger", "".join(f"{x}{zlib.crc32(x.encode()):08x}\n" for x in lines))


@case()
def test_check_online_limits(t):
    """check --online: what is used of the CA's limits, and the host that has to wait for them; dns-01 needs no look at hosts."""
    gate = t.unstarted(ONLINE.format(host="www.example.org", challenge="[dns-01], dns_hook: /bin/true"))
    ledger(t, gate, *[(86400 * i + 600, "issued", "www.example.org") for i in range(5)], (60, "ordered", "b.localhost"), (60, "failed", "b.localhost"))
    r = gate.cli("check", "--online")
    assert r.returncode == 0 and "W009" in r.stdout and "no order for `www.example.org` now: 5 certificates" in r.stdout and "W008" not in r.stdout, r
    for line in ("orders of the account: 1 of 300 used", "certificates of the registered domain, example.org: 5 of 50 used",
                 "certificates for exactly this host, www.example.org: 5 of 5 used", "failed validations of this host, b.localhost: 1 of 5 used"):
        assert line in r.stdout, (line, r.stdout)
    short = gate.cli("check", "--online", "--format", "short").stdout
    assert "warning[W009]" in short and "used\n" not in short, short
    r = gate.configure(GOOD).cli("check", "--online")
    assert r.returncode == 0 and "No host gets its certificate by ACME." in r.stdout, r


@case()
def test_check_online_looks(t):
    """check --online looks names up: one that cannot be there is a warning at its site, and no error."""
    gate = t.unstarted(ONLINE.format(host="nowhere.invalid", challenge="[http-01]"))
    r = gate.cli("check", "--online")
    assert r.returncode == 0 and "warning[W008]" in r.stdout and "nowhere.invalid" in r.stdout.split("warning[W008]")[1], r
