"""Backends over TLS: what is verified, what is sent, what is kept, and how failures read."""
import json
import os
import ssl
import subprocess

from backends import Gone
from headgate import Row, case, port_free, proxy_site, table, wait_for
from tls_backends import Authority, TlsBackend


def tls_site(url, **tls):
    words = ", ".join(f'{k}: "{v}"' for k, v in tls.items())
    return proxy_site(url, service_extra=f", backend_tls: {{ {words} }}")


def tls_backend(t, *pair, **kw):
    b = TlsBackend(*pair, **kw)
    t.defer(b.close)
    return b


def error_of(gate, host="localhost"):
    """The error of the newest 502 of a host in the access log, as soon as there is one."""
    def last():
        lines = [json.loads(x) for x in gate.log().splitlines() if x.startswith("{") and '"status":502' in x and host in x]
        return lines and lines[-1].get("error")
    return wait_for("an access line with an error", last)


@case(both=True)
def test_served(t):
    """Requests and bodies both ways on one kept connection; ALPN says http/1.1, and an address has no SNI."""
    ca = Authority(t)
    b = tls_backend(t, *ca.leaf("127.0.0.1"))
    gate = t.headgate(tls_site(b.url, ca=ca.cert), workers=1)
    with gate.tls() as c:
        for i in range(5):
            a = c.get(f"/{i}")
            assert a.status == 200 and json.loads(a.body)["target"] == f"/{i}", a
        for size in (1, 5000, 3 << 20):
            a = c.get("/echo", method="POST", body=b"x" * size)
            assert json.loads(a.body)["size"] == size, a
        assert len(c.get("/bytes/5000000").body) == 5000000
        assert len(c.get("/chunked/300000").body) == 300000
    assert b.connections == b.handshakes == 1 and b.alpn == ["http/1.1"] and b.names == [None], vars(b)


BAD = [
    Row("expired", leaf=("127.0.0.1",), dates=(-20, -2), says="has expired"),
    Row("not_yet_valid", leaf=("127.0.0.1",), dates=(2, 20), says="not valid yet"),
    Row("wrong_name", leaf=("other.example.org",), says="for another name"),
    Row("wrong_address", leaf=("127.0.0.2",), says="for another name"),
    Row("unknown_authority", leaf=("127.0.0.1",), ca="other", says="unknown authority"),
    Row("not_of_the_system", leaf=("127.0.0.1",), ca="system", says="unknown authority"),
    Row("partial_wildcard", leaf=("a*.example.org",), expects="api.example.org", says="for another name"),
    Row("configured_name_wins", leaf=("127.0.0.1",), expects="api.example.org", says="for another name"),
]


class Refusals:
    """One headgate with a site and a backend for each row of BAD."""

    def __init__(self, t):
        ca, other = Authority(t), Authority(t, "other")
        self.backends, sites = {}, "sites:\n"
        for row in BAD:
            dates = getattr(row, "dates", (-1, 30))
            b = self.backends[row.name] = tls_backend(t, *ca.leaf(*row.leaf, starts=dates[0], ends=dates[1]))
            tls = {"ca": {"other": other.cert, "system": "system"}.get(getattr(row, "ca", ""), ca.cert), "name": getattr(row, "expects", "")}
            sites += (f"  {row.name}:\n    host: {row.name}.localhost\n    https: both\n    routes: {{ /: {{ proxy: app }} }}\n    services:\n"
                      f"      app: {{ url: {b.url}, backend_tls: {{ ca: {tls['ca']}, name: \"{tls['name']}\" }} }}\n")
        self.gate = t.headgate(sites, workers=1)


@table(BAD, Refusals)
def test_refused(_, s, row):
    """A certificate that does not verify is a 502 that says why, in log and status; no request reaches the backend."""
    host = row.name + ".localhost"
    with s.gate.plain() as c:
        assert c.get("/", host).status == 502
    assert row.says in error_of(s.gate, host), error_of(s.gate, host)
    instance = [x for x in s.gate.status()["services"] if x["service"] == row.name + "/app"][0]["instances"][0]
    assert row.says in instance["last_failure"], instance
    assert row.says in s.gate.cli("status").stdout
    assert s.backends[row.name].begun == 0


@case()
def test_plain_backend_behind_https(t):
    """A backend that speaks no TLS: 502, and it never sees the request in plain text."""
    b = t.backend()
    ca = Authority(t)
    gate = t.headgate(tls_site(b.url.replace("http:", "https:"), ca=ca.cert), workers=1)
    assert gate.get("/secret").status == 502
    assert b.count == 0 and not [r for r in b.requests if "secret" in r.target]
    assert error_of(gate)


@case()
def test_name_and_sni(t):
    """backend_tls.name is what is asked for by SNI and what the certificate must have; wildcards cover a label."""
    ca = Authority(t)
    b = tls_backend(t, *ca.leaf("*.example.org"))
    gate = t.headgate(tls_site(b.url, ca=ca.cert, name="api.example.org"), workers=1)
    assert gate.get("/").status == 200
    assert b.names == ["api.example.org"]


@case()
def test_system_authorities(t):
    """`system` follows SSL_CERT_FILE, as OpenSSL's programs do."""
    ca = Authority(t)
    b = tls_backend(t, *ca.leaf("127.0.0.1"))
    gate = t.headgate(proxy_site(b.url), workers=1, env={"SSL_CERT_FILE": ca.cert})
    assert gate.get("/").status == 200


@case(both=True)
def test_client_certificate(t):
    """A backend that asks for a certificate gets ours; without one it refuses, which is a 502."""
    ca = Authority(t)
    b = tls_backend(t, *ca.leaf("127.0.0.1"), client_ca=ca.cert)
    cert, key = ca.leaf("gate.example.org")
    gate = t.headgate(tls_site(b.url, ca=ca.cert), workers=1)
    assert gate.get("/").status == 502
    assert "certificate required" in error_of(gate), error_of(gate)
    gate.reload_ok(tls_site(b.url, ca=ca.cert, cert=cert, key=key))
    wait_for("the certificate to be shown", lambda: gate.get("/").status == 200)
    assert b.begun >= 1


VERSIONS = [Row("tls12", version=ssl.TLSVersion.TLSv1_2), Row("tls13", version=ssl.TLSVersion.TLSv1_3)]


@table(VERSIONS, Authority)
def test_resumption(t, ca, row):
    """A second connection resumes the session of the first."""
    b = TlsBackend(*ca.leaf("127.0.0.1"), version=row.version)
    gate = t.headgate(tls_site(b.url, ca=ca.cert), workers=1, name=row.name)
    try:
        for _ in range(3):
            assert gate.get("/connection-close").status == 200
        assert b.handshakes == 3 and b.resumed == 2, (b.handshakes, b.resumed)
    finally:
        b.close()


@case()
def test_stale_connection(t):
    """A kept connection that the backend closed meanwhile is replaced without the client's notice."""
    ca = Authority(t)
    b = tls_backend(t, *ca.leaf("127.0.0.1"))
    gate = t.headgate(tls_site(b.url, ca=ca.cert), workers=1)
    with gate.tls() as c:
        assert c.get("/1").status == 200
        b.close_peers()
        assert c.get("/2").status == 200
    assert b.connections == 2


@case()
def test_truncation(t):
    """A body until the connection's end is whole only with close_notify: who cuts the connection cannot shorten it."""
    def cut(peer, req):
        peer.backend.whole(peer, req)
        peer.send(b"HTTP/1.0 200 OK\r\n\r\nhalf of it")
        raise Gone      # the socket is closed without a close_notify
    ca = Authority(t)
    b = tls_backend(t, *ca.leaf("127.0.0.1"), behave=cut)
    gate = t.headgate(tls_site(b.url, ca=ca.cert), workers=1)
    with gate.tls() as c:
        c.request("GET", "/", "localhost")
        try:
            a = c.answer()
        except Exception as e:      # noqa: whichever way it was cut
            assert type(e).__name__ == "Truncated", repr(e)
        else:
            assert a.status == 502, a


@case()
def test_early_answer(t):
    """An early 413 reaches a client that is in the middle of sending 100 MB, by TLS as in plain text."""
    ca = Authority(t)
    b = tls_backend(t, *ca.leaf("127.0.0.1"))
    gate = t.headgate(tls_site(b.url, ca=ca.cert), workers=1)
    t.run(["truncate", "-s", "100000000", t.path("big")])
    r = gate.curl("-o", "/dev/null", "-w", "%{http_code}", "-H", "Expect:", "-T", t.path("big"), gate.url("/early"))
    assert r.stdout.startswith("413"), (r.returncode, r.stdout, r.stderr)


@case()
def test_reload_of_trust(t):
    """Whom we trust is changed by a reload: connections made under the old settings are not used any more."""
    ca, other = Authority(t), Authority(t, "other")
    b = tls_backend(t, *ca.leaf("127.0.0.1"))
    gate = t.headgate(tls_site(b.url, ca=ca.cert), workers=1)
    assert gate.get("/").status == 200 and b.connections == 1
    gate.reload_ok(tls_site(b.url, ca=ca.cert) + "  x: { host: x.localhost, routes: { /: { respond: x } } }\n")
    assert gate.get("/").status == 200 and b.connections == 1, "settings that stayed the same cost no connection"
    gate.reload_ok(tls_site(b.url, ca=other.cert))
    assert gate.get("/").status == 502 and b.begun == 2
    gate.reload_ok(tls_site(b.url, ca=ca.cert))
    assert gate.get("/").status == 200 and b.connections >= 3


@case()
def test_authority_file_is_read_again(t):
    """The file of authorities is replaced: it is read again as tls.certificates are, without a reload."""
    ca, other = Authority(t), Authority(t, "other")
    b = tls_backend(t, *ca.leaf("127.0.0.1"))
    trusted = t.write("trusted.pem", open(other.cert).read())
    gate = t.headgate(tls_site(b.url, ca=trusted), workers=1)
    assert gate.get("/").status == 502
    t.write("trusted.pem", open(ca.cert).read() + open(other.cert).read())
    wait_for("the new authority", lambda: gate.get("/").status == 200, every=0.1)


@case()
def test_from_plain_to_tls(t):
    """A reload from http:// to https:// and back, under load: no request fails, none goes the wrong way."""
    ca = Authority(t)
    plain, safe = t.backend(), tls_backend(t, *ca.leaf("127.0.0.1"))
    configs = [proxy_site(plain.url), tls_site(safe.url, ca=ca.cert)]
    gate = t.headgate(configs[0], workers=1)
    with gate.tls() as c:
        for i in range(6):
            for k in range(20):
                assert c.get(f"/{i}/{k}").status == 200
            gate.reload_ok(configs[(i + 1) % 2])
    assert plain.begun + safe.begun == 120 and plain.begun >= 40 and safe.begun >= 40, (plain.begun, safe.begun)


@case()
def test_one_bad_of_two(t):
    """One address shows a wrong certificate: all requests are served by the other."""
    ca = Authority(t)
    good, wrong = tls_backend(t, *ca.leaf("127.0.0.1")), tls_backend(t, *ca.leaf("x.example.org"))
    gate = t.headgate(tls_site("unused", ca=ca.cert).replace('url: "unused"', f"url: [{wrong.url}, {good.url}]"), workers=1)
    with gate.tls() as c:
        for i in range(20):
            assert c.get(f"/{i}").status == 200
    assert good.begun == 20 and wrong.begun == 0


def spawn(t, *cmd, env=None):
    p = subprocess.Popen(cmd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env)
    t.defer(lambda: (p.terminate(), p.wait()))


@case()
def test_nginx(t):
    """A real nginx with TLS and client certificates."""
    ca, port = Authority(t), t.port()
    cert, key = ca.leaf("backend.example.org")
    own = ca.leaf("gate.example.org")
    os.makedirs(t.path("www"))
    big = os.urandom(4 << 20)
    t.write("www/big.bin", big)
    conf = t.write("nginx.conf", f"""daemon off; master_process off; error_log stderr; pid {t.path('pid')}; events {{}}
http {{ access_log off; client_body_temp_path {t.path('b')}; proxy_temp_path {t.path('p')}; fastcgi_temp_path {t.path('f')};
uwsgi_temp_path {t.path('u')}; scgi_temp_path {t.path('s')};
server {{ listen 127.0.0.1:{port} ssl; server_name backend.example.org; root {t.path('www')}; ssl_certificate {cert}; ssl_certificate_key {key};
ssl_client_certificate {ca.cert}; ssl_verify_client on; location /who {{ return 200 "$ssl_client_s_dn $host $ssl_protocol"; }} }} }}""")
    spawn(t, "nginx", "-c", conf, "-e", t.path("nginx-error"))
    wait_for("nginx", lambda: not port_free(port))
    service = f", host_header: backend.example.org, backend_tls: {{ ca: {ca.cert}, name: backend.example.org, cert: {own[0]}, key: {own[1]} }}"
    gate = t.headgate(proxy_site(f"https://127.0.0.1:{port}", service_extra=service), workers=1)
    with gate.tls() as c:
        a = c.get("/who")
        assert a.status == 200 and b"CN=leaf backend.example.org TLSv1." in a.body, a
        assert c.get("/big.bin").body == big
        assert c.get("/big.bin", headers=[("Range", "bytes=100-199")]).body == big[100:200]


@case()
def test_caddy(t):
    """A real caddy with TLS, which knows its site by SNI and Host."""
    ca, port = Authority(t), t.port()
    cert, key = ca.leaf("backend.example.org")
    conf = t.write("Caddyfile", f"{{\n admin off\n auto_https off\n skip_install_trust\n}}\nhttps://backend.example.org:{port} {{\n bind 127.0.0.1\n"
                   f" tls {cert} {key}\n respond /hello \"hello from caddy\"\n}}\n")
    spawn(t, "caddy", "run", "--adapter", "caddyfile", "--config", conf, env={**os.environ, "HOME": t.path(), "XDG_DATA_HOME": t.path("data")})
    wait_for("caddy", lambda: not port_free(port))
    gate = t.headgate(proxy_site(f"https://127.0.0.1:{port}", service_extra=f", host_header: \"backend.example.org:{port}\", "
                                 f"backend_tls: {{ ca: {ca.cert}, name: backend.example.org }}"), workers=1)
    for _ in range(3):
        a = gate.get("/hello")
        assert a.status == 200 and a.body == b"hello from caddy", a


SERVERS = [
    Row("refuses_client", args=["-Verify", "1", "-verify_return_error"], status=502),
    Row("old_tls", args=["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"], status=502),
    Row("served", args=[], status=200),
]


@table(SERVERS, Authority)
def test_s_server(t, ca, row):
    """openssl s_server: TLS below 1.2 and a refused client are 502 with OpenSSL's words."""
    cert, key = ca.leaf("127.0.0.1")
    port = t.port()
    p = subprocess.Popen(["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-cert", cert, "-key", key, "-CAfile", ca.cert, "-www", "-quiet",
                          *row.args], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for("s_server", lambda: not port_free(port))
        gate = t.headgate(tls_site(f"https://127.0.0.1:{port}", ca=ca.cert), workers=1, name=row.name)
        assert gate.get("/").status == row.status
        assert row.status == 200 or error_of(gate)
    finally:
        p.terminate()
        p.wait()
