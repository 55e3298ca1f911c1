"""trusted_proxies: whose X-Forwarded-* is believed, what that changes, and that nobody else's is."""
import h2wire
from headgate import *

SITE = """sites:
  s:
    host: localhost
    https: redirect
    tls: {{ hsts: 1d }}
    services: {{ app: "{url}" }}
    routes: {{ /: {{ proxy: app }} }}
"""
TRUSTED = "[127.0.0.1, 10.0.0.0/8, 2001:db8:1::/48]"
FOR, PROTO, HOST, PORT = "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port"


class Shared:
    def __init__(self, t):
        self.backend = t.backend()
        self.gate = t.headgate(SITE.format(url=self.backend.url), top={"trusted_proxies": TRUSTED})

    def seen(self, conn, headers):
        """What the backend was told by a request with these fields."""
        dump = json.loads(conn.get("/x", headers=headers).body)
        fields = [(n.lower(), v) for n, v in dump["headers"]]
        names = [n for n, _ in fields]
        for n in ("x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port", "forwarded"):
            assert names.count(n) == 1, (n, fields)
        return dict(fields)


FORS = [
    ("one", ["192.0.2.7"], "192.0.2.7"),
    ("no_field", [], "127.0.0.1"),
    ("skips_trusted", ["192.0.2.7, 10.1.1.1, 10.2.2.2"], "192.0.2.7"),
    ("stops_at_the_first_stranger", ["6.6.6.6, 192.0.2.7, 10.1.1.1"], "192.0.2.7"),
    ("all_trusted", ["10.1.1.1, 10.2.2.2"], "10.1.1.1"),
    ("several_fields", ["6.6.6.6, 192.0.2.7", "10.1.1.1", "10.2.2.2"], "192.0.2.7"),
    ("field_of_trusted_only_last", ["192.0.2.7", "10.2.2.2, 10.1.1.1"], "192.0.2.7"),
    ("no_spaces", ["192.0.2.7,10.1.1.1"], "192.0.2.7"),
    ("empty_elements", [" ,192.0.2.7, , 10.1.1.1, "], "192.0.2.7"),
    ("empty", [""], "127.0.0.1"),
    ("port", ["192.0.2.7:4711"], "192.0.2.7"),
    ("ipv6", ["2001:DB8:2:0::7, 2001:db8:1::1"], "2001:db8:2::7"),
    ("ipv6_bracketed", ["[2001:db8:2::7]"], "2001:db8:2::7"),
    ("ipv6_with_port", ["[2001:db8:2::7]:443"], "2001:db8:2::7"),
    ("ipv4_mapped", ["::ffff:192.0.2.7, ::ffff:10.0.0.1"], "192.0.2.7"),
    ("unknown", ["unknown"], "127.0.0.1"),
    ("garbage_left_of_a_stranger", ["<script>, 192.0.2.7"], "192.0.2.7"),
    ("garbage_left_of_a_trusted_one", ["6.6.6.6, <script>, 10.1.1.1"], "10.1.1.1"),
    ("a_name", ["6.6.6.6, client.example.org"], "127.0.0.1"),
    ("bracket_open", ["[2001:db8:2::7"], "127.0.0.1"),
    ("many", ["6.6.6.6, " + "10.1.1.1, " * 1000 + "10.2.2.2"], "6.6.6.6"),
]


@table([Row(name, fields=fields, ip=ip) for name, fields, ip in FORS], Shared)
def test_for(t, s, row):
    """X-Forwarded-For of a trusted proxy: from the right, the first address that is none of them; in the log too."""
    with s.gate.tls() as c:
        h = s.seen(c, [(FOR, v) for v in row.fields])
    assert h["x-forwarded-for"] == row.ip, h
    assert h["forwarded"].startswith(f'for="[{row.ip}]";' if ":" in row.ip else f"for={row.ip};"), h
    s.gate.wait_log(f'"client":"{row.ip}"')


@table([Row(name, source=source) for name, source in (("stranger", "127.0.0.2"), ("another_one", "127.9.9.9"))], Shared)
def test_strangers(t, s, row):
    """From everybody else nothing is believed."""
    lies = [(FOR, "6.6.6.6"), (PROTO, "https"), (HOST, "evil.example"), (PORT, "666"), ("Forwarded", "for=6.6.6.6"), ("X-Real-IP", "6.6.6.6")]
    with s.gate.tls(source=row.source) as c:
        h = s.seen(c, lies)
    assert h["x-forwarded-for"] == row.source and h["x-forwarded-port"] == str(s.gate.https), h
    for lie in ("6.6.6.6", "evil", "666"):
        assert lie not in str(h), h
    with Conn(("127.0.0.1", s.gate.http), source=row.source) as c:
        assert c.get("/x", headers=lies).status == 308


PROTOS = [
    ("https", "https", "https"), ("upper_case", "HTTPS", "https"), ("wss", "wss", "https"), ("list", "https, http", "https"),
    ("http", "http", None), ("ws", "ws", None), ("garbage", "gopher", None), ("empty", "", None),
]


@table([Row(name, said=said, scheme=scheme) for name, said, scheme in PROTOS], Shared)
def test_proto_on_plain(t, s, row):
    """A trusted proxy that ended the client's TLS says so: no redirect, HSTS; what is not https goes there."""
    with s.gate.plain() as c:
        if not row.scheme:
            a = c.get("/x", headers=[(PROTO, row.said)])
            assert a.status == 308 and a.get("location").startswith("https://localhost"), a
            return
        h = s.seen(c, [(PROTO, row.said)])
        assert h["x-forwarded-proto"] == row.scheme and h["x-forwarded-port"] == "443", h
        assert f";proto={row.scheme};" in h["forwarded"], h
        assert c.get("/x", headers=[(PROTO, row.said)]).get("strict-transport-security")


@case()
def test_proto_http_on_tls(t):
    """The client of a proxy that speaks TLS to us came by plain HTTP: it is sent to https."""
    s = Shared(t)
    with s.gate.tls() as c:
        a = c.get("/x?y", headers=[(PROTO, "http")])
        assert a.status == 308 and a.get("location") == f"https://localhost/x?y", a
        assert c.get("/x").status == 200


HOSTS = [
    ("host", [(HOST, "www.example.org")], "www.example.org", None),
    ("host_with_port", [(HOST, "www.example.org:8443")], "www.example.org:8443", "8443"),
    ("list", [(HOST, "www.example.org, inner.example.org")], "www.example.org", None),
    ("bad_host", [(HOST, "a b")], None, None),
    ("quote_in_host", [(HOST, 'a";by=evil')], None, None),
    ("port", [(PORT, "8443")], None, "8443"),
    ("port_over_host", [(HOST, "www.example.org:1"), (PORT, "2")], "www.example.org:1", "2"),
    ("port_of_proto", [(PROTO, "https")], None, "443"),
    ("port_over_proto", [(PROTO, "https"), (PORT, "8443")], None, "8443"),
    ("port_0", [(PORT, "0")], None, None),
    ("port_65536", [(PORT, "65536")], None, None),
    ("port_garbage", [(PORT, "443;x")], None, None),
]


@table([Row(name, fields=fields, host=host, port=port) for name, fields, host, port in HOSTS], Shared)
def test_host_and_port(t, s, row):
    """X-Forwarded-Host and -Port of a trusted proxy go on to the backend when they are any; Host still chooses the site."""
    with s.gate.tls() as c:
        h = s.seen(c, row.fields)
    assert h["x-forwarded-host"] == (row.host or "localhost") and h["host"] == "localhost", h
    assert h["x-forwarded-port"] == (row.port or str(s.gate.https)), h
    assert h["forwarded"].endswith(f';host="{row.host or "localhost"}"'), h


@case()
def test_h2(t):
    """Over HTTP/2 likewise, each request for itself."""
    s = Shared(t)
    with h2wire.H2(("127.0.0.1", s.gate.https), tls_context(s.gate.ca, alpn=("h2",))) as c:
        for ip in ("192.0.2.1", "192.0.2.2"):
            body = json.loads(bytes(c.get("/x", headers=[("x-forwarded-for", f"{ip}, 10.0.0.1")]).body))
            assert dict(body["headers"])["x-forwarded-for"] == ip, body
        body = json.loads(bytes(c.get("/x").body))
        assert dict(body["headers"])["x-forwarded-for"] == "127.0.0.1", body


@case()
def test_unix(t):
    """`unix` trusts whoever comes by a Unix socket; networks, even all of them, do not."""
    d = t.path("open")
    os.mkdir(d)
    os.chmod(d, 0o777)
    b = t.backend()
    top = {"listen": f'{{ http: "unix:{d}/s", https: off }}', "trusted_proxies": '[0.0.0.0/0, "::/0"]'}
    site = proxy_site(b.url)
    gate = t.headgate(site, top=top)

    def client():
        with Conn(f"{d}/s") as c:
            return dict((n.lower(), v) for n, v in json.loads(c.get("/", headers=[(FOR, "192.0.2.1"), (PROTO, "https")]).body)["headers"])
    h = client()
    assert h["x-forwarded-for"] == "unix" and h["x-forwarded-proto"] == "http", h
    gate.reload_ok(site, top={"trusted_proxies": "[unix]"})
    h = client()
    assert h["x-forwarded-for"] == "192.0.2.1" and h["x-forwarded-proto"] == "https", h


@case()
def test_reload(t):
    """A reload changes whom to believe, for the next request of a standing connection too."""
    b = t.backend()
    text = SITE.format(url=b.url)
    gate = t.headgate(text)

    def client(c):
        return dict(json.loads(c.get("/", headers=[(FOR, "192.0.2.1")]).body)["headers"])["x-forwarded-for"]
    with gate.tls() as c:
        assert client(c) == "127.0.0.1"
        gate.reload_ok(text, top={"trusted_proxies": "[127.0.0.0/8]"})
        assert client(c) == "192.0.2.1"
        gate.reload_ok(text, top={"trusted_proxies": "[]"})
        assert client(c) == "127.0.0.1"


@case()
def test_refused_head_is_the_proxys(t):
    """A head that cannot be parsed has no fields to believe: the connection's address stands in the log."""
    s = Shared(t)
    with s.gate.plain() as c:
        c.send(b"GET / HTTP/1.1\r\nX-Forwarded-For: 192.0.2.200\r\nHost: a\r\nHost: b\r\n\r\n")
        assert c.answer().status == 400
    s.gate.wait_log('"client":"127.0.0.1"', '"status":400')
