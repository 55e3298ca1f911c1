"""Shell completion: what the program offers for a line, and real bash and zsh that complete by it."""
from headgate import *
from terminal import Terminal

CONFIG = ("channels:\n"
          "  beta: { host: beta.localhost, services: { api: { run: %s }, blog: { run: %s } }, routes: { /: { proxy: api } } }\n"
          "sites:\n"
          "  s: { host: localhost, services: { app: { run: %s }, far: { url: 'http://127.0.0.1:1' } }, routes: { /: { proxy: app } } }\n"
          "  bare: { host: bare.localhost, routes: { /: { respond: hello } } }\n")


def served(t):
    run = t.service("ok")
    gate = t.headgate(CONFIG % (run, run, run))
    os.mkdir(os.path.join(gate.dir, "a folder"))
    t.write("headgate.d/a file.yaml", "")
    return gate


def offered(t, gate, *words):
    r = t.run([t.program, "complete", *words], cwd=gate.dir)
    assert r.returncode == 0 and not r.stderr, r
    return [line.split("\t")[0] for line in r.stdout.splitlines()]


CONF = ["--config", "headgate.yaml"]
OFFERED = [
    Row("verbs", words=["st"], are=["status", "stop"]), Row("no_hidden_verb", words=["comp"], are=[]), Row("no_later_verb", words=["depl"], are=[]),
    Row("without_a_verb", words=["-"], are=["--help", "--version"]),
    Row("options", words=["logs", "-"], are=["--follow", "--lines", "--config", "--socket", "--json", "--help"]),
    Row("no_option_twice", words=["logs", "-fn", "5", "--json", "-"], are=["--config", "--socket", "--help"]),
    Row("no_hidden_option", words=["schema", "--"], are=["--help"]), Row("option", words=["check", "--on"], are=["--online"]),
    Row("options_where_no_word_is", words=["stop", ""], are=["--config", "--socket", "--json", "--help"]),
    Row("choices", words=["check", "--format", ""], are=["text", "short", "json"]), Row("choice_behind_equals", words=["check", "--format=s"], are=["short"]),
    Row("choice_as_bash_cuts_it", words=["check", "--format", "=", "s"], are=["short"]),
    Row("at_the_equals_as_bash_cuts_it", words=["check", "--format", "="], are=["text", "short", "json"]),
    Row("behind_the_value_as_bash_cuts_it", words=["check", "--format", "=", "text", "--str"], are=["--strict"]),
    Row("file", words=["check", "--config", "x"], are=[":files"]), Row("file_behind_equals", words=["check", "--config="], are=[":files"]),
    Row("folder", words=["init", "--static", ""], are=[":folders"]), Row("number", words=["logs", "-n", ""], are=[]), Row("text", words=["init", "--host", ""], are=[]),
    Row("program", words=["init", "--run", ""], are=[":commands"]), Row("argument", words=["init", "--run", "x", "--con"], are=[":files"]),
    Row("services", words=["restart", *CONF, ""], are=["beta/api", "beta/blog", "s/app"]),
    Row("channels_and_services", words=["logs", *CONF, ""], are=["beta", "beta/api", "beta/blog", "s", "s/app"]),
    Row("services_of_one", words=["logs", "--config=headgate.yaml", "beta/"], are=["beta/api", "beta/blog"]),
    Row("behind_dashes", words=["logs", *CONF, "--", "s/"], are=["s/app"]), Row("by_socket", words=["restart", "--socket", "run/admin.sock", "s/"], are=["s/app"]),
    Row("one_word_only", words=["restart", *CONF, "s/app", ""], are=[]),
    Row("actions", words=["certs", ""], are=["show", "renew", "revoke", "roll-key"]), Row("action", words=["certs", "re"], are=["renew", "revoke"]),
    Row("no_host_by_acme", words=["certs", *CONF, "renew", ""], are=[]), Row("behind_an_action", words=["certs", "roll-key", ""], are=["--config", "--socket", "--json", "--help"]),
    Row("no_action", words=["certs", "frobnicate", ""], are=[]),
    Row("no_server", words=["restart", "--config", "nowhere.yaml", ""], are=[]), Row("broken_file", words=["restart", "--config", "a file.yaml", ""], are=[]),
    Row("codes", words=["explain", "E00"], are=["E001", "E002", "E003", "E004", "E005"]), Row("help", words=["help", "st"], are=["status", "stop"]),
    Row("unknown_verb", words=["frobnicate", ""], are=["run"]), Row("nonsense", words=["--", "=", "-", "--=", "-=", ""], are=["run"])]


@table(OFFERED, served)
def test_offered(t, gate, row):
    """What may stand at the end of a line, from the table and from the running server."""
    found = offered(t, gate, *row.words)
    assert found[:1] == row.are if row.are == ["run"] else found == row.are, found


# Keys as typed behind `headgate `, and the words that the program gets: TAB after TAB.
TYPED = [
    Row("verb", keys="rest\tx", words=["restart", "x"]), Row("option", keys="check --str\t", words=["check", "--strict"]),
    Row("choice", keys="check --format sh\t", words=["check", "--format", "short"]),
    Row("choice_behind_equals", keys="check --format=sh\t", words=["check", "--format=short"]),
    Row("file", keys="check --config a\\ fi\t", words=["check", "--config", "a file.yaml"]),
    Row("file_behind_equals", keys="check --config=headgate.y\t", words=["check", "--config=headgate.yaml"]),
    Row("folder", keys="init --static a\\ f\t", words=["init", "--static", "a folder/"]),
    Row("program", keys="init --run setpr\t", words=["init", "--run", "setpriv"]),
    Row("argument", keys="init --run cat headgate.y\t", words=["init", "--run", "cat", "headgate.yaml"]),
    Row("service", keys="restart --config headgate.yaml beta/b\t", words=["restart", "--config", "headgate.yaml", "beta/blog"]),
    Row("channel", keys="logs --config=headgate.yaml b\t", words=["logs", "--config=headgate.yaml", "beta"]),
    Row("tilde", keys="restart --config ~/headgate.yaml s/\t", words=["restart", "--config", "HOME/headgate.yaml", "s/app"]),
    Row("nothing_fits", keys="restart --config nowhere.yaml s/\t", words=["restart", "--config", "nowhere.yaml", "s/"])]

# The program is asked by its name in PATH; what is typed at last comes to this in its place.
SHOW = "headgate() { printf '<%s>' \"$@\"; echo '!'; }\n"


def shell(t, gate, args, rc):
    """A terminal with a shell in it, in the gate's folder, which is the home too."""
    rc = t.write(rc, f". {t.write('shell.rc', SHOW)}\nPS1='ready> '\n" + RC[args[0]](t))
    env = {"PATH": os.path.dirname(t.program) + ":" + os.environ["PATH"], "HOME": gate.dir, "TERM": "dumb", "LC_ALL": "C.UTF-8", "ZDOTDIR": t.dir}
    tty = Terminal(t, args if args[0] == "zsh" else [*args, rc, "-i"], env=env, cwd=gate.dir)
    tty.wait("ready> ")
    return tty


def bash_rc(t):
    return f"bind 'set bell-style none' 'set enable-bracketed-paste off' 'set completion-query-items 0' 'set page-completions off'\n. {ROOT}/conf/completion.bash\n"


def zsh_rc(t):
    t.write("functions/_headgate", open(os.path.join(ROOT, "conf", "completion.zsh")).read())
    return f"setopt no_beep no_auto_remove_slash\nfpath=({t.path('functions')} $fpath)\nautoload -Uz compinit\ncompinit -u -D\n"


RC = {"bash": bash_rc, "zsh": zsh_rc}
SHELLS = {"bash": (["bash", "--noprofile", "--rcfile"], "bashrc"), "zsh": (["zsh", "-d", "-i"], ".zshrc")}


def typed(tty, keys):
    """The words that the program gets for a line with TABs."""
    at = len(tty.text)
    tty.type("headgate " + keys + "\n")
    end = tty.wait("!", tty.wait("<", at))
    line = tty.text[at:end]
    return line[line.index("<") + 1:line.rindex(">")].split("><")


def open_shell(name):
    def setup(t):
        gate = served(t)
        return gate, shell(t, gate, *SHELLS[name])
    return setup


def check_typed(shared, row):
    gate, tty = shared
    words = typed(tty, row.keys)
    assert words == [w.replace("HOME", gate.dir) for w in row.words], (words, tty.text[-400:])


@table(TYPED, open_shell("bash"))
def test_bash(t, shared, row):
    """bash completes as it is typed."""
    check_typed(shared, row)


@table(TYPED, open_shell("zsh"))
def test_zsh(t, shared, row):
    """zsh completes as it is typed."""
    check_typed(shared, row)


@case()
def test_lists(t):
    """Where several fit, TAB shows them; zsh says what they are."""
    gate = served(t)
    for name, said in (("bash", ["reload", "restart"]), ("zsh", ["reload", "restart", "a new instance of a service"])):
        tty = shell(t, gate, *SHELLS[name])
        at = len(tty.text)
        tty.type("headgate re\t\t")
        for word in said:
            tty.wait(word, at)
        tty.type("\x03")


@case()
def test_asks_only_the_one_in_path(t):
    """A program of the same name in the working folder is not executed by TAB."""
    gate = served(t)
    t.write("headgate.d/headgate", f"#!/bin/sh\ntouch {t.path('executed')}\n", mode=0o755)
    for name in SHELLS:
        tty = shell(t, gate, *SHELLS[name])
        at = len(tty.text)
        tty.type("./headgate sta\t\x15echo done\\!\n")
        tty.wait("done!", at)
        assert not os.path.exists(t.path("executed")), name


@case()
def test_stuck_server(t):
    """A server that does not answer holds the shell up for seconds only."""
    gate = t.unstarted(CONFIG % (t.service("ok"), t.service("ok"), t.service("ok")))
    os.makedirs(gate.runtime)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(os.path.join(gate.runtime, "admin.sock"))
        silent.listen(5)
        r = t.run([t.program, "complete", "restart", "--config", gate.file, ""])
        assert r.stdout == "" and r.returncode == -signal.SIGALRM, r
