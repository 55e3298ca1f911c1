"""
Backends that speak TLS, and the certificates that they show: a CA of the test's own, leaves that it signs, and a
Backend (backends.py) behind Python's ssl.
"""
import os
import ssl
import subprocess
import time

from backends import Backend

NOBODY = 65534
NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]


class Authority:
    """A CA in files: .cert is whom to trust."""

    def __init__(self, t, name="ca"):
        self.t, self.name, self.count = t, name, 0
        self.cert, self.key = t.path(name + ".pem"), t.path(name + ".key")
        openssl("req", "-x509", *NEW_KEY, "-days", "30", "-subj", f"/CN={name}", "-keyout", self.key, "-out", self.cert)

    def leaf(self, *names, starts=-1, ends=30):
        """(cert, key) for names and addresses; from when to when it is valid, in days from now."""
        self.count += 1
        folder = self.t.path(f"{self.name}-{self.count}")
        os.makedirs(folder)
        at = lambda name: os.path.join(folder, name)        # noqa: E731
        stamp = lambda days: time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + days * 86400))        # noqa: E731
        sans = ",".join(("IP:" if n[0].isdigit() or ":" in n else "DNS:") + n for n in names)
        with open(at("index"), "w"), open(at("conf"), "w") as f:
            f.write(f"[ca]\ndefault_ca=x\n[x]\ndatabase={at('index')}\nnew_certs_dir={folder}\nrand_serial=yes\ndefault_md=sha256\npolicy=p\n"
                    f"x509_extensions=e\nunique_subject=no\n[p]\ncommonName=supplied\n[e]\nsubjectAltName={sans}\n"
                    "basicConstraints=critical,CA:FALSE\nextendedKeyUsage=serverAuth,clientAuth\n")
        openssl("req", "-new", *NEW_KEY, "-subj", "/CN=leaf", "-keyout", at("key.pem"), "-out", at("csr"))
        openssl("ca", "-batch", "-notext", "-config", at("conf"), "-in", at("csr"), "-out", at("cert.pem"), "-startdate", stamp(starts),
                "-enddate", stamp(ends), "-cert", self.cert, "-keyfile", self.key)
        if self.t.user:
            os.chown(at("key.pem"), NOBODY, NOBODY)
        return at("cert.pem"), at("key.pem")


def openssl(*args):
    subprocess.run(["openssl", *args], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


class TlsBackend(Backend):
    """A Backend behind TLS. It counts handshakes, and those among them that resumed a session."""

    def __init__(self, cert, key, behave=None, client_ca=None, version=None, **kw):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(cert, key)
        self.context.set_alpn_protocols(["http/1.1"])
        if version:
            self.context.minimum_version = self.context.maximum_version = version
        if client_ca:
            self.context.verify_mode = ssl.CERT_REQUIRED
            self.context.load_verify_locations(client_ca)
        self.context.sni_callback = self.on_sni
        self.names, self.alpn, self.handshakes, self.resumed, self.refused = [], [], 0, 0, []
        super().__init__(behave, **kw)

    def on_sni(self, _, name, __):
        self.names.append(name)

    @property
    def url(self):
        return f"https://127.0.0.1:{self.port}"

    def serve(self, peer):
        try:
            peer.sock = self.context.wrap_socket(peer.sock, server_side=True)
        except (OSError, ValueError) as e:
            with self.lock:
                self.refused.append(str(e))
                self.open -= 1
                self.peers.discard(peer)
            peer.sock.close()
            return
        with self.lock:
            self.handshakes += 1
            self.resumed += bool(peer.sock.session_reused)
            self.alpn.append(peer.sock.selected_alpn_protocol())
        super().serve(peer)


__all__ = ["Authority", "TlsBackend"]
