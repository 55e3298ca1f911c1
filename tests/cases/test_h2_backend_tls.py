"""HTTP/2 to backends over TLS: what ALPN says, what is verified, what is kept."""
import hashlib
import ssl

from h2backend import H2Backend
from h2wire import h2
from headgate import case, json, port_free, proxy_site, subprocess, wait_for
from test_backend_tls import error_of
from test_grpc import GRPC, OK, grpc_site, message, status
from test_h2_backend import SOME, by_path
from tls_backends import Authority


def context(pair, alpn="h2"):
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    c.load_cert_chain(*pair)
    c.set_alpn_protocols([alpn])
    return c


class Site:
    def __init__(self, t, behave=by_path, names=("127.0.0.1",), alpn="h2", trust=None, extra=""):
        self.ca = Authority(t)
        self.backend = H2Backend(behave, context=context(self.ca.leaf(*names), alpn))
        t.defer(self.backend.close)
        ca = trust or self.ca.cert
        self.config = proxy_site(self.backend.url, service_extra=f", protocol: h2c, backend_tls: {{ ca: \"{ca}\"{extra} }}")
        self.gate = t.headgate(self.config, workers=1)


@case()
def test_served(t):
    """Bodies both ways, many requests on one connection."""
    s = Site(t)
    with h2(s.gate, window=1 << 30) as c:
        streams = [c.request("GET", "/bytes/1000") for _ in range(50)]
        assert all(len(c.answer(x).body) == 1000 for x in streams)
        assert len(c.get("/bytes/3000000").body) == 3000000
    body = SOME * 20
    with s.gate.tls() as c:
        d = json.loads(c.get("/dump", method="POST", body=body).body)
    assert d["sha"] == hashlib.sha256(body).hexdigest()
    assert len(s.backend.conns) == 1


def refused(s, says):
    """502 in words; never plain text, never HTTP/1.1 instead."""
    assert s.gate.get("/empty").status == 502
    assert says in error_of(s.gate), error_of(s.gate)
    assert not s.backend.requests
    s.backend.troubles.clear()      # what its handshake said of us


@case()
def test_no_h2(t):
    refused(Site(t, alpn="http/1.1"), "does not speak HTTP/2")


@case()
def test_wrong_name(t):
    refused(Site(t, names=("other.example.org",)), "another name")


@case()
def test_unknown_authority(t):
    refused(Site(t, trust=Authority(t, "other").cert), "unknown authority")


@case()
def test_grpc(t):
    """A gRPC server behind TLS on another box."""
    ca = Authority(t)
    b = H2Backend(lambda r: (r.whole(), r.reply(200, GRPC, message(b"yes"), OK)), context=context(ca.leaf("127.0.0.1")))
    t.defer(b.close)
    gate = t.headgate(grpc_site(f'url: "{b.url}"', service_extra=f', backend_tls: {{ ca: "{ca.cert}" }}'), workers=1)
    with h2(gate) as c:
        a = c.answer(c.request("POST", "/a.B/C", headers=GRPC, body=message(b"q")))
    assert status(a) == ("trailers", 0) and bytes(a.body) == message(b"yes")


@case()
def test_new_settings_new_connection(t):
    """After a reload with other trust no connection of the old one is used."""
    s = Site(t)
    assert s.gate.get("/empty").status == 200
    s.gate.reload_ok(s.config.replace("backend_tls: {", "backend_tls: { name: 127.0.0.1,"))
    assert s.gate.get("/empty").status == 200
    assert len(s.backend.conns) == 2
    wait_for("the old one is closed", lambda: s.backend.conns[0].gone)


@case()
def test_nginx(t):
    """A real nginx with TLS and HTTP/2."""
    ca = Authority(t)
    cert, key = ca.leaf("127.0.0.1")
    port = t.port()
    t.write("www/a", "from nginx")
    conf = t.write("nginx.conf", f"""daemon off; master_process off; error_log stderr; pid {t.path('pid')}; events {{}}
http {{ access_log off; server {{ listen 127.0.0.1:{port} ssl http2; ssl_certificate {cert}; ssl_certificate_key {key}; root {t.path('www')};
  client_body_temp_path {t.path('b')}; proxy_temp_path {t.path('p')}; fastcgi_temp_path {t.path('f')}; uwsgi_temp_path {t.path('u')}; scgi_temp_path {t.path('s')};
  location /proto {{ return 200 "$server_protocol"; }} }} }}
""")
    p = subprocess.Popen(["nginx", "-c", conf, "-e", t.path("nginx-error")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    t.defer(lambda: (p.kill(), p.wait()))
    wait_for("nginx", lambda: not port_free(port))
    gate = t.headgate(proxy_site(f"https://127.0.0.1:{port}", service_extra=f', protocol: h2c, backend_tls: {{ ca: "{ca.cert}" }}'), workers=1)
    assert gate.get("/a").body == b"from nginx"
    assert gate.get("/proto").body == b"HTTP/2.0"
