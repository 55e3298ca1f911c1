"""TLS as clients see it: versions, ciphers, SNI, ALPN, certificates, tickets, 421. Clients: Python's ssl, openssl, curl."""
import re

from headgate import *

THREE = """sites:
  one: { host: one.localhost, https: both, routes: { /: { respond: one } } }
  two: { host: two.localhost, aliases: [also.localhost], routes: { /: { respond: two } } }
"""


def s_client(gate, *args, host="one.localhost", text="Q\n", guard=60):
    cmd = ["openssl", "s_client", "-connect", f"127.0.0.1:{gate.https}", "-servername", host, "-CAfile", gate.ca, *args]
    return gate.t.run(cmd, input=text, guard=guard, stderr=subprocess.STDOUT)


def alert(fn):
    """The alert that a handshake ends with, as OpenSSL names it."""
    try:
        fn().close()
    except ssl.SSLError as e:
        return (e.reason or str(e)).upper().replace(" ", "_")
    return "none: the handshake succeeded"


@case(both=True)
def test_local_ca_curl(t):
    """curl with --cacert verifies what the local CA made, for each host and alias; the CA file is a root."""
    gate = t.headgate(THREE)
    for host, body in (("one.localhost", "one"), ("two.localhost", "two"), ("also.localhost", "two")):
        r = gate.curl(gate.url("/", host), "--resolve", f"{host}:{gate.https}:127.0.0.1")
        assert r.stdout == body, (host, r.stdout, r.stderr)
    text = t.run(["openssl", "x509", "-in", gate.ca, "-noout", "-text"]).stdout
    assert "CA:TRUE" in text, text


@case()
def test_local_ca_leaf(t):
    """Leaves are short-lived, for the one host, not a CA, with the chain that openssl verifies strictly."""
    gate = t.headgate(THREE)
    out = s_client(gate, "-showcerts", "-x509_strict", "-verify_return_error", "-verify_hostname", "one.localhost").stdout
    assert "Verify return code: 0" in out or "Verification: OK" in out, out
    pem = re.search(r"-----BEGIN.*?-----END CERTIFICATE-----", out, re.S).group(0)
    text = t.run(["openssl", "x509", "-noout", "-text", "-checkend", str(60 * 86400)], input=pem)
    assert text.returncode == 1, "a leaf of the local CA lives longer than 60 days"
    assert "DNS:one.localhost" in text.stdout and "two.localhost" not in text.stdout and "CA:TRUE" not in text.stdout, text.stdout


@case(both=True)
def test_keys_on_disk_are_private(t):
    """Private keys under the state folder are 0600 and the workers' own account cannot read them."""
    gate = t.headgate(THREE)
    keys = []
    for folder, _, files in os.walk(gate.state):
        for f in files:
            with open(os.path.join(folder, f), "rb") as data:
                if b"PRIVATE KEY" in data.read():
                    keys.append(os.path.join(folder, f))
    assert keys, "no key under the state folder"
    for k in keys:
        assert os.stat(k).st_mode & 0o077 == 0, f"{k}: {os.stat(k).st_mode:o}"


@case()
def test_local_ca_survives_restart(t):
    """The root stays the same over restarts: clients need to trust it once."""
    gate = t.headgate(THREE)
    with open(gate.ca) as f:
        before = f.read()
    assert gate.stop() == 0
    gate.start()
    with open(gate.ca) as f:
        assert f.read() == before
    assert gate.get("/", "one.localhost").body == b"one"


@case()
def test_versions(t):
    """TLS 1.2 and 1.3 work; 1.0 and 1.1 get the protocol_version alert."""
    gate = t.headgate(THREE)
    for v in (TLS12, TLS13):
        with gate.tls("one.localhost", low=v, high=v) as c:
            assert c.get("/", "one.localhost").body == b"one"
            assert c.sock.version() == ("TLSv1.2" if v == TLS12 else "TLSv1.3")
    for flag in ("-tls1", "-tls1_1"):
        out = s_client(gate, flag, "-cipher", "ALL:@SECLEVEL=0").stdout
        assert "protocol version" in out or "no protocols available" in out, out
        assert "BEGIN CERTIFICATE" not in out, out


@case()
def test_min_version_13(t):
    """tls.min_version: "1.3" refuses 1.2."""
    gate = t.headgate(THREE, top={"tls": '{ min_version: "1.3" }'})
    with gate.tls("one.localhost") as c:
        assert c.sock.version() == "TLSv1.3"
    assert "PROTOCOL_VERSION" in alert(lambda: gate.tls("one.localhost", high=TLS12))


@case()
def test_ciphers(t):
    """Only AEAD ciphers with forward secrecy, in the server's order; CBC, RSA key exchange and NULL are refused."""
    gate = t.headgate(THREE)
    for cipher in ("ECDHE-ECDSA-AES128-SHA256", "ECDHE-ECDSA-AES256-SHA", "AES128-GCM-SHA256", "AES128-SHA", "NULL-SHA256"):
        out = s_client(gate, "-tls1_2", "-cipher", cipher + ":@SECLEVEL=0").stdout
        assert "BEGIN CERTIFICATE" not in out, (cipher, out)
    for cipher in ("ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305"):
        with gate.tls("one.localhost", high=TLS12, ciphers=cipher) as c:
            assert c.sock.cipher()[0] == cipher
    a, b = "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384"
    chosen = set()
    for order in (f"{a}:{b}", f"{b}:{a}"):
        with gate.tls("one.localhost", high=TLS12, ciphers=order) as c:
            chosen.add(c.sock.cipher()[0])
    assert len(chosen) == 1, f"the client's order decides: {chosen}"


@case()
def test_alpn(t):
    """h2 is chosen where it is offered, else http/1.1; no ALPN means HTTP/1.1, and a client without a common protocol gets the alert."""
    gate = t.headgate(THREE)
    for offer, chosen in ((["http/1.1"], "http/1.1"), (["h2"], "h2"), (["http/1.1", "h2"], "h2"), (["x", "h2"], "h2"), (["h2c", "http/1.1"], "http/1.1")):
        with gate.tls("one.localhost", alpn=offer) as c:
            assert c.sock.selected_alpn_protocol() == chosen, offer
    with gate.tls("one.localhost", alpn=None) as c:
        assert c.sock.selected_alpn_protocol() is None
        assert c.get("/", "one.localhost").body == b"one"
    for v in (TLS12, TLS13):
        for offer in (["h2x"], ["h2c"], ["h3"], ["acme-tls/1"], ["http/1.0", "spdy/3"]):
            assert "NO_APPLICATION_PROTOCOL" in alert(lambda: gate.tls("one.localhost", alpn=offer, low=v, high=v)), (v, offer)


@case()
def test_sni_unknown(t):
    """A name that nobody claims, and none at all, get unrecognized_name and no certificate, in 1.2 and 1.3."""
    gate = t.headgate(THREE)
    for v in (TLS12, TLS13):
        for host in ("unknown.localhost", "localhost", "one.localhost.evil.example"):
            got = alert(lambda: gate.tls(host, verify=False, low=v, high=v))
            assert "UNRECOGNIZED_NAME" in got, (v, host, got)
    out = t.run(["openssl", "s_client", "-connect", f"127.0.0.1:{gate.https}", "-noservername"], input="Q\n", stderr=subprocess.STDOUT).stdout
    assert "BEGIN CERTIFICATE" not in out and "alert" in out, out
    assert gate.get("/", "one.localhost").body == b"one"


@case()
def test_sni_case(t):
    """Names are compared without regard to case."""
    gate = t.headgate(THREE)
    with gate.tls("ONE.LocalHost", verify=False) as c:
        assert c.get("/", "oNe.localhost").body == b"one"


@case()
def test_misdirected(t):
    """421 for a host whose certificate is another than the one presented; the connection's own host goes on."""
    gate = t.headgate(THREE)
    with gate.tls("one.localhost") as c:
        a = c.get("/", "two.localhost")
        assert a.status == 421, a
        if not c.ended and c.still_open():
            assert c.get("/", "one.localhost").body == b"one"
    with gate.tls("one.localhost") as c:
        assert c.get("/", "unknown.example").status in (404, 421)


@case()
def test_given_certificates(t):
    """tls.certificates win over the issuer, chosen by name; one certificate for two hosts serves both without 421."""
    cert, key = certificate(t, "given", ["a.example.org", "b.example.org"])
    config = "sites:\n" + "".join(f"  {n}: {{ host: {n}.example.org, routes: {{ /: {{ respond: {n} }} }} }}\n" for n in "ab")
    gate = t.headgate(config, top={"tls": f"{{ certificates: [{{ cert: {cert}, key: {key} }}] }}"})
    ctx = tls_context(cert)
    with gate.tls("a.example.org", context=ctx) as c:
        assert c.get("/", "a.example.org").body == b"a"
        assert c.get("/", "b.example.org").body == b"b"


@case()
def test_given_wildcard_and_star(t):
    """A wildcard certificate serves the names one label below it; host "*" gets the first one for all others."""
    wild, wild_key = certificate(t, "wild", ["*.example.org", "example.org"])
    config = "sites:\n  any: { host: \"*\", routes: { /: { respond: any } } }\n"
    gate = t.headgate(config, top={"tls": f"{{ certificates: [{{ cert: {wild}, key: {wild_key} }}] }}"})
    with gate.tls("x.example.org", context=tls_context(wild)) as c:
        assert c.get("/", "x.example.org").body == b"any"
    with gate.tls("elsewhere.test", verify=False) as c:
        assert c.get("/", "elsewhere.test").body == b"any"


@case()
def test_given_certificate_mismatch(t):
    """A key that does not fit its certificate is an error with both paths' place, before anything serves."""
    cert, _ = certificate(t, "one", ["a.example.org"])
    _, key = certificate(t, "two", ["a.example.org"])
    gate = t.unstarted("sites:\n  a: { host: a.example.org, routes: { /: { respond: a } } }\n",
                       top={"tls": f"{{ certificates: [{{ cert: {cert}, key: {key} }}] }}"})
    r = gate.cli("check")
    assert r.returncode == 1, (r.returncode, r.stdout, r.stderr)
    assert "two.key" in r.stdout + r.stderr or "one.pem" in r.stdout + r.stderr, r.stdout + r.stderr


def resume(gate, version, host="one.localhost"):
    """Two connections, the second with the first one's ticket: whether it was resumed."""
    ctx = tls_context(gate.ca, low=version, high=version)
    with gate.tls(host, context=ctx) as c:
        assert c.get("/", host).status == 200     # 1.3: the ticket comes with the answer
        session = c.sock.session
    with gate.tls(host, context=ctx, session=session) as c:
        assert c.get("/", host).status == 200
        return c.sock.session_reused


@case()
def test_tickets_across_workers(t):
    """Tickets are good at every worker, TLS 1.2 and 1.3: twenty resumptions land on both of them."""
    gate = t.headgate(THREE, workers=2)
    for v in (TLS12, TLS13):
        got = [resume(gate, v) for _ in range(20)]
        assert all(got), (v, got)


@case()
def test_tickets_survive_reload(t):
    """A ticket from before a reload resumes after it."""
    gate = t.headgate(THREE)
    ctx = tls_context(gate.ca)
    with gate.tls("one.localhost", context=ctx) as c:
        c.get("/", "one.localhost")
        session = c.sock.session
    gate.reload_ok(THREE + "  three: { host: three.localhost, routes: { /: { respond: three } } }\n")
    with gate.tls("one.localhost", context=ctx, session=session) as c:
        assert c.get("/", "one.localhost").body == b"one" and c.sock.session_reused


@case()
def test_ticket_of_another_host(t):
    """A ticket of one host does not open another host's site under the wrong certificate."""
    gate = t.headgate(THREE)
    ctx = tls_context(gate.ca)
    with gate.tls("one.localhost", context=ctx) as c:
        c.get("/", "one.localhost")
        session = c.sock.session
    with gate.tls("two.localhost", context=ctx, session=session) as c:
        assert c.get("/", "two.localhost").body == b"two"
        assert not c.sock.session_reused, "one.localhost's session was resumed for two.localhost"


@case()
def test_renegotiation_is_refused(t):
    """A TLS 1.2 client that asks for renegotiation does not get it."""
    gate = t.headgate(THREE)
    p = subprocess.Popen(["openssl", "s_client", "-tls1_2", "-connect", f"127.0.0.1:{gate.https}", "-servername", "one.localhost"],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    p.stdin.write(b"R\n")
    p.stdin.flush()
    out = p.communicate(timeout=60)[0].decode(errors="replace")
    assert "no renegotiation" in out or "renegotiation" in out.split("RENEGOTIATING", 1)[1].lower(), out[-1500:]
    assert gate.get("/", "one.localhost").body == b"one"


@case()
def test_compression_and_early_data_off(t):
    """No TLS compression, no 0-RTT."""
    gate = t.headgate(THREE)
    out = s_client(gate).stdout
    assert "Compression: NONE" in out, out
    assert "Max Early Data: 0" in out or "Max Early Data" not in out, out


@case()
def test_truncated_handshakes(t):
    """Connections that end or stall in the handshake, or speak something else, cost nobody else anything."""
    gate = t.headgate(THREE, top={"timeouts": "{ handshake: 1s }"})
    hello = bytes.fromhex("16030100a2010000")
    for raw in (b"", hello, hello + b"\0" * 50, b"GET / HTTP/1.1\r\nHost: one.localhost\r\n\r\n", b"\x80\x2e\x01\x00\x02" + b"\0" * 50,
                b"SSH-2.0-x\r\n", b"\x16\x03\x01\xff\xff" + b"\0" * 70000):
        c = Conn(("127.0.0.1", gate.https))
        c.try_send(raw)
        while c.fill():
            c.buf = b""
        c.close()
    assert gate.get("/", "one.localhost").body == b"one"


@case()
def test_large_records_both_ways(t):
    """Records of every size around OpenSSL's borders arrive: a client that sends 1-byte and 16-KiB records."""
    b = t.backend()
    gate = t.headgate(proxy_site(b.url))
    with gate.tls() as c:
        body = b"z" * 50000
        c.send(b"POST /sink HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body))
        at = 0
        for size in [1] * 50 + [16384, 16383, 1000, 1, 16384]:
            c.send(body[at:at + size])
            at += size
        c.send(body[at:])
        assert json.loads(c.answer().body)["size"] == len(body)


@case()
def test_close_notify(t):
    """Connections that headgate ends, end with close_notify."""
    gate = t.headgate(THREE)
    with gate.tls("one.localhost") as c:
        assert c.get("/", "one.localhost", headers=[("Connection", "close")]).status == 200
        assert c.at_end() and c.clean_end, "no close_notify"


@case()
def test_certificate_reload(t):
    """tls.certificates with new bytes are in service after a reload; open connections go on."""
    cert, key = certificate(t, "given", ["a.example.org"])
    gate = t.headgate("sites:\n  a: { host: a.example.org, routes: { /: { respond: a } } }\n",
                      top={"tls": f"{{ certificates: [{{ cert: {cert}, key: {key} }}] }}"})
    with gate.tls("a.example.org", context=tls_context(cert)) as c:
        first = c.sock.getpeercert(True)
        certificate(t, "given", ["a.example.org"])
        gate.reload_ok()
        assert c.get("/", "a.example.org").body == b"a"
        with gate.tls("a.example.org", context=tls_context(cert)) as d:
            assert d.sock.getpeercert(True) != first
