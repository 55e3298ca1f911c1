"""When certificates are tried for: the end that is near, the rehearsal at a staging directory, the limits that are known before they are hit."""
import acme_faults as faults
from headgate import *
from pebble import *

HOST = "a.example.org"


def alert(i):
    try:
        i.tls(HOST).close()
    except ssl.SSLCertVerificationError:
        raise
    except ssl.SSLError as e:
        return str(e)
    return ""


@case(slow=True)
def test_end_is_near(t):
    """A certificate that nobody renews: told in the log as its end nears, and when it has come; then an alert, not what clients refuse."""
    i = Issuing(t, site(HOST), validity=20).start()
    i.wait_served(HOST)
    i.ca.stop()
    i.gate.wait_log("certificate expires soon and was not renewed", HOST, "cannot connect")
    served, now = i.served(HOST), time.time()
    assert served or now >= i.unit(HOST)[2]["not_after"], "not served to its end"
    i.gate.wait_log("certificate has expired and is not served any more", HOST)
    wait_for("an alert", lambda: alert(i))
    told = i.certs()[HOST]
    assert not told["serving"] and told["failures"] >= 1 and "cannot connect" in told["error"]["text"], told
    i.ca.start()
    i.renew_ok(HOST)
    i.wait_served(HOST)


@case()
def test_rehearsed_at_staging(t):
    """After a failure the staging directory is asked first; what it signs is neither stored nor served, the CA's own is."""
    i = Issuing(t, site(HOST), proxy=faults.Proxy)
    i.configure(site(HOST), f"staging: '{i.faults.alias('staging')}'")
    i.faults.fault("newOrder", faults.problem(403, "rejectedIdentifier", "not today"), times=1)
    i.start()
    i.wait_failed(HOST)
    assert i.faults.count("newOrder") == 1 and i.faults.count("cert") == 0
    i.faults.fault("newOrder", faults.problem(403, "rejectedIdentifier", "not in the rehearsal"), times=1)
    assert i.renew(HOST).returncode == 1
    assert i.faults.count("newOrder") == 2, "the CA itself was asked"
    i.renew_ok(HOST)
    i.wait_served(HOST)
    assert i.faults.count("newOrder") == 4 and i.faults.count("cert") == 2
    assert i.check_store() == [HOST] and len(i.units()) == 1 and "staging" not in i.units()[0], i.units()
    assert [e["what"] for e in i.certs()[HOST]["history"]] == ["failed", "failed", "dry run", "issued"], i.certs()[HOST]["history"]


@case()
def test_limits_before_they_are_hit(t):
    """Five failed validations of a host in an hour: the sixth is not tried, and what is left is told; the ledger outlives a restart."""
    dead = t.port()
    i = Issuing(t, site(HOST), proxy=faults.Proxy, http=dead)
    i.configure(site(HOST), "challenge: [http-01], limits: letsencrypt")
    i.start()
    i.wait_failed(HOST)
    for _ in range(4):
        assert i.renew(HOST).returncode == 1
    for again in (False, True):
        if again:
            assert i.gate.stop() == 0
            i.start()
        orders = i.faults.count("newOrder")
        assert i.renew(HOST).returncode == 1
        told = i.certs()[HOST]
        assert i.faults.count("newOrder") == orders == 5, (orders, i.faults.count("newOrder"))
        assert "5 failed validations of this host within 1 hour" in told["error"]["text"] and told["state"] == "waiting", told
        assert 3000 < told["next"]["at"] - time.time() < 4100, told
