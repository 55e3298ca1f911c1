"""How certificates by ACME are told of: `headgate certs`, status, metrics, completion. That they are right is test_acme.py's."""
import re

from headgate import *
from pebble import Issuing, site

GOOD, BAD = "www.example.org", "bad.example.org"


class Told:
    """A host that has its certificate, one whose name leads to nobody, one of the local CA."""

    def __init__(self, t):
        self.t, self.metrics = t, t.port()
        config = site(GOOD, BAD) + "  local: { host: localhost, routes: { /: { respond: local } } }\n"
        self.i = Issuing(t, config, "limits: letsencrypt", top={"metrics": f'"127.0.0.1:{self.metrics}"'})
        self.gate = self.i.gate
        self.i.ca.resolve(BAD, "127.0.0.2")
        self.i.start().wait_served(GOOD)
        wait_for("a failure", lambda: (h := self.state(BAD)) and h["failures"])
        wait_for("the other's state", lambda: (h := self.state(GOOD)) and h["state"] == "served")

    def state(self, host):
        """What status says of its certificate."""
        return {c.get("host"): c for c in self.gate.status()["certificates"]}.get(host)

    def block(self, text, name):
        """The lines of a host or CA in what `headgate certs` prints."""
        return re.search(rf"^{re.escape(name)}(  .*)?(\n  .*)*", text, re.M).group(0)


def check_text(s):
    text = s.gate.cli("certs").stdout
    good, bad = s.block(text, GOOD), s.block(text, BAD)
    assert good.splitlines()[0] == f"{GOOD}  served" and re.search(r"^  ends      in \d+ (day|year)s? \(\d{4}-", good, re.M), text
    assert re.search(r"^  next      renewal in \d+ day", good, re.M) and "why" not in good and "failed" not in good, text
    assert bad.startswith(f"{BAD}  no certificate yet") and re.search(r"^  why       .*127\.0\.0\.2", bad, re.M), text
    assert re.search(r"^  next      \S", bad, re.M) and re.search(r"^  history   .*  failed: ", bad, re.M), text
    ca = s.block(text, good.split("issuer    ")[1].split("\n")[0])
    assert ca.splitlines()[0].endswith(f"  {s.i.ca.url}") and re.search(r"^  limits    orders of the account: \d+ of 300 used$", ca, re.M), text
    assert re.search(r"^  localhost +local +ends in \d days", text, re.M), text


def check_one(s):
    r = s.gate.cli("certs", "show", BAD)
    assert r.returncode == 0 and r.stdout.startswith(f"{BAD}  no certificate yet") and GOOD not in r.stdout, r
    r = s.gate.cli("certs", "show", "localhost")
    assert r.returncode == 1 and "no certificate of `localhost` comes by ACME" in r.stderr and not r.stdout, r
    r = s.gate.cli("certs", "renew", "nobody.example.org")
    assert r.returncode == 1 and "nobody.example.org" in r.stderr and not r.stdout, r


def check_json(s):
    told = json.loads(s.gate.cli("certs", "--json").stdout)
    assert told["status"] == 0 and {h["host"] for h in told["hosts"]} == {GOOD, BAD}, told
    assert {c["host"] for c in told["certificates"]} == {GOOD, BAD, "localhost"}, told


def check_status(s):
    good, bad = s.state(GOOD), s.state(BAD)
    assert good["serving"] and good["issuer"].startswith("127.0.0.1-") and good["not_after"] > good["next_at"] > time.time(), good
    assert good["failures"] == 0 and good["error"] is None, good
    assert not bad["serving"] and bad["not_after"] is None and "127.0.0.2" in bad["error"], bad
    assert s.state("localhost") == dict(host="localhost", issuer="local", not_after=s.state("localhost")["not_after"])
    text = s.gate.cli("status").stdout
    assert re.search(rf"^  {GOOD} +127\.0\.0\.1-\S+  until .*  renewed \d{{4}}-", text, re.M), text
    assert re.search(rf"^  {BAD} .*  none yet  .*failed \d+ times?\n      .*127\.0\.0\.2", text, re.M), text


def check_metrics(s):
    def ask():
        with plain_conn(s) as c:
            return c.get("/metrics", "metrics").body.decode()
    text = wait_for("the rows", lambda: (x := ask()) and f'renewal_failures{{host="{BAD}"}} ' in x and x)
    value = lambda name, host: int(re.search(rf'^headgate_certificate_{name}{{host="{host}"}} (\d+)$', text, re.M).group(1))      # noqa: E731
    assert value("renewal_failures", GOOD) == 0 and value("renewal_failures", BAD) >= 1, text
    assert value("next_renewal_timestamp_seconds", GOOD) > time.time(), text
    assert f'headgate_certificate_not_after_timestamp_seconds{{host="{GOOD}"}} ' in text, text


def plain_conn(s):
    return Conn(("127.0.0.1", s.metrics))


def check_completion(s):
    r = s.t.run([s.t.program, "complete", "certs", "--config", s.gate.file, "renew", "b"])
    assert r.stdout.split() == [BAD], r


CHECKS = [Row(f.__name__.removeprefix("check_"), check=f) for f in (check_text, check_one, check_json, check_status, check_metrics, check_completion)]


@table(CHECKS, Told)
def test_told(t, s, row):
    """Each place tells of each host what there is to tell."""
    row.check(s)


@case()
def test_dropped(t):
    """A host that leaves the configuration leaves what is told of it."""
    s = Told(t)
    s.gate.reload_ok(site(GOOD))
    wait_for("the host to go", lambda: not s.state(BAD))
    assert s.state(GOOD)["serving"] and BAD not in s.gate.cli("certs").stdout
