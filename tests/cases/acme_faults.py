"""
A reverse proxy in front of Pebble: it passes everything on as it is (Pebble makes its URLs from the Host header, so that
they lead here), notes every request, and misbehaves where it is told to. It adds what Debian's Pebble lacks: ARI, profiles,
rate limits. The functions below `faults` are what it can be told to do; chains are made in class Chains.
"""
import base64
import email.utils
import http.client
import http.server
import json
import os
import random
import socket
import ssl
import struct
import threading
import time

import pebble
from pebble import blocks, openssl
from procs import wait_for
from tls_backends import NEW_KEY

STEPS = {"dir": "directory", "nonce-plz": "newNonce", "sign-me-up": "newAccount", "my-account": "account", "order-plz": "newOrder",
         "my-order": "order", "authZ": "authz", "chalZ": "challenge", "finalize-order": "finalize", "certZ": "cert", "revoke-cert": "revoke",
         "rollover-account-key": "keyChange", "renewal-info": "ari", "list-orderz": "orders"}
HOPS = ("connection", "keep-alive", "transfer-encoding", "content-length")
URN = "urn:ietf:params:acme:error:"


class Cut(Exception):
    """The connection is to be reset, after these bytes."""

    def __init__(self, data=b""):
        self.data = data


class Answer:
    def __init__(self, status, body=b"", headers=(), type="application/json"):
        self.status, self.headers = status, list(headers)
        self.body = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body).encode()
        if type and not self.get("content-type"):
            self.headers.append(("Content-Type", type))

    def get(self, name):
        return next((v for n, v in self.headers if n.lower() == name.lower()), None)

    def set(self, name, value):
        self.headers = [(n, v) for n, v in self.headers if n.lower() != name.lower()] + ([(name, value)] if value is not None else [])
        return self

    @property
    def json(self):
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    def rewrite(self, change):
        """The same with its JSON changed by change(value), in place or by what it returns."""
        value = self.json
        if isinstance(value, dict):
            changed = change(value)
            self.body = json.dumps(value if changed is None else changed).encode()
        return self


class Exchange:
    """
    One request to the CA and what came of it, as kept in Proxy.log. step: a value of STEPS. protected, payload: of its JWS (None
    where it has none; payload "" is a POST-as-GET). host: whose order it belongs to; None: nobody's. status 0: no answer was sent.
    """

    def __init__(self, proxy, method, path, headers, body):
        self.proxy, self.method, self.path, self.headers, self.body = proxy, method, path, headers, body
        self.step = STEPS.get(path.split("?")[0].split("/")[1].partition("~")[0], "other")
        self.at, self.status, self.fault = time.time(), 0, None
        self.protected = self.payload = self.answer = self.host = None
        try:
            jws = json.loads(body)
            self.protected, payload = json.loads(unb64(jws["protected"])), unb64(jws["payload"])
            self.payload = json.loads(payload) if payload else ""
        except (ValueError, KeyError, TypeError):
            pass

    def forward(self):
        return self.proxy.forward(self)

    def __repr__(self):
        return f"<{self.step} {self.method} {self.path} {self.status} {self.fault or ''}>"


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 65536

    def log_message(self, *_):
        pass

    def handle(self):
        try:
            super().handle()
        except (OSError, ValueError):      # clients may go, and speak no TLS
            pass

    def any_method(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        x = Exchange(self.server.proxy, self.command, self.path, self.headers.items(), body)
        try:
            answer = self.server.proxy.answer(x)
        except Cut as cut:
            self.wfile.write(cut.data)
            self.wfile.flush()
            self.cut()
            return
        x.status = answer.status
        self.send_response_only(answer.status)
        for n, v in answer.headers:
            if n.lower() not in HOPS:
                self.send_header(n, v)
        if answer.status != 204:
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)
        self.wfile.flush()

    do_GET = do_HEAD = do_POST = do_PUT = any_method

    def cut(self):
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()


class Server(http.server.ThreadingHTTPServer):
    daemon_threads, block_on_close, request_queue_size = True, False, 256

    def get_request(self):
        sock, addr = super().get_request()
        return self.context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False), addr

    def handle_error(self, *_):
        pass


class Rule:
    def __init__(self, step, fault, times, only):
        self.step, self.fault, self.left, self.only, self.hits = step, fault, times, only, 0


class Proxy:
    """
    url: its directory; alias(NAME) is another one, of another CA for a client. log: every Exchange, in the order that they came.
    ari: called with the certificate's id, gives an Answer. profiles: {name: text} of the directory; None: none. meta: more of the directory's `meta`.
    """

    def __init__(self, t, ca, ari=None, profiles=None, meta=None):
        self.t, self.ca, self.ari, self.profiles, self.meta = t, ca, ari, profiles, meta or {}
        self.lock, self.rules, self.log = threading.Lock(), [], []
        self.released = threading.Event()       # ends the stalls
        self.csrs, self.hosts, self.kinds, self.local = {}, {}, {}, threading.local()
        self.chains = Chains(self)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(ca.cert, ca.key)
        self.server = Server(("127.0.0.1", t.port()), Handler)
        self.server.context, self.server.proxy = context, self
        self.origin = f"https://127.0.0.1:{self.server.server_port}"
        self.url = self.origin + "/dir"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        t.defer(self.close)

    def close(self):
        self.released.set()
        self.server.shutdown()
        self.server.server_close()

    # --- what the tests say and ask

    def fault(self, step, fault, times=1, only=None):
        """The next `times` requests of that step (of those where only(exchange) holds) are answered by fault(exchange)."""
        rule = Rule(step, fault, times, only)
        with self.lock:
            self.rules.append(rule)
        return rule

    def clear(self):
        with self.lock:
            self.rules = []
        self.released.set()
        self.released = threading.Event()

    def alias(self, name):
        return f"{self.url}~{name}"

    def count(self, step, since=0):
        return len(self.of(step, since))

    def of(self, step, since=0):
        with self.lock:
            return [x for x in self.log[since:] if x.step == step]

    def mark(self):
        return len(self.log)

    def challenged(self, since=0):
        """The kinds of challenge that the client said to be ready, in order."""
        return [self.kinds[x.path] for x in self.of("challenge", since) if x.payload == {}]

    def wait(self, step, n=1, since=0):
        """Waits for n answered or broken off requests of that step."""
        wait_for(f"{n} × {step} at the CA", lambda: self.count(step, since) >= n)

    # --- requests

    def answer(self, x):
        with self.lock:
            x.host = x.payload["identifiers"][0]["value"] if x.step == "newOrder" and x.payload else self.hosts.get(x.path)
            self.log.append(x)
            rule = next((r for r in self.rules if r.step == x.step and r.left > 0 and (not r.only or r.only(x))), None)
            if rule:
                rule.left -= 1
                rule.hits += 1
        if rule:
            x.fault = getattr(rule.fault, "__name__", "fault")
        x.answer = rule.fault(x) if rule else self.forward(x)
        return x.answer

    def forward(self, x):
        if x.step == "ari" and self.ari:
            return self.ari(x.path.rpartition("/")[2])
        a = self.pass_on(x)
        if x.step == "directory":
            a.rewrite(self.directory)
        if x.step == "finalize" and x.payload:
            self.csrs[x.path.rpartition("/")[2]] = unb64(x.payload["csr"])
        self.learn(x, a)
        return a

    def learn(self, x, a):
        """Which host, challenge and CSR the CA's URLs are about, before a fault makes something else of them."""
        told = a.json if a.status in (200, 201) else None
        if not isinstance(told, dict):
            return
        path = lambda url: "/" + url.split("/", 3)[3]       # noqa: E731
        urls = [told[k] for k in ("finalize", "certificate") if told.get(k)] + told.get("authorizations", [])
        if x.step == "newOrder":
            urls.append(a.get("location"))
        if x.step == "authz":
            urls += [c["url"] for c in told["challenges"]]
            self.kinds.update({path(c["url"]): c["type"] for c in told["challenges"]})
        if x.step in ("newOrder", "order", "finalize", "authz"):
            self.hosts.update({path(u): x.host for u in urls})
        if told.get("certificate"):
            self.csrs[told["certificate"].rpartition("/")[2]] = self.csrs.get(x.path.rpartition("/")[2])

    def directory(self, d):
        if self.ari:
            d["renewalInfo"] = self.origin + "/renewal-info"
        d.setdefault("meta", {}).update(self.meta)
        if self.profiles is not None:
            d["meta"]["profiles"] = self.profiles

    def pass_on(self, x):
        """The request to Pebble, on a connection of this thread's; a kept one that had ended is made anew."""
        for fresh in (False, True):
            c = None if fresh else getattr(self.local, "connection", None)
            try:
                if not c:
                    c = self.local.connection = http.client.HTTPSConnection("127.0.0.1", self.ca.port, context=self.ca.context)
                    c.connect()
                c.putrequest(x.method, x.path.partition("~")[0], skip_host=True, skip_accept_encoding=True)
                for n, v in x.headers:
                    if n.lower() not in HOPS:
                        c.putheader(n, v)
                c.putheader("Content-Length", str(len(x.body)))
                c.endheaders(x.body)
                r = c.getresponse()
                return Answer(r.status, r.read(), r.getheaders(), type=None)
            except (OSError, http.client.HTTPException):
                c.close()
                self.local.connection = None
        return Answer(502, "Pebble is down", type="text/plain")

    def nonce(self):
        x = Exchange(self, "HEAD", "/nonce-plz", [("Host", self.origin.partition("//")[2])], b"")
        return self.pass_on(x).get("replay-nonce")


# --- faults: each is, or makes, a function from an Exchange to an Answer

def problem(status, type, detail="as the test wants it", retry_after=None, **more):
    """An error of the CA's, with a good nonce. retry_after: the header's value."""
    def fault(x):
        a = Answer(status, {"type": URN + type, "detail": detail, "status": status, **more}, type="application/problem+json")
        return a.set("Replay-Nonce", x.proxy.nonce()).set("Retry-After", retry_after)
    fault.__name__ = f"{status}_{type}"
    return fault


def http_date(seconds):
    return email.utils.formatdate(time.time() + seconds, usegmt=True)


def status(code, body="", retry_after=None):
    """An answer that is no ACME: of a load balancer, say."""
    def fault(x):
        return Answer(code, body, type="text/html").set("Retry-After", retry_after)
    fault.__name__ = f"status_{code}"
    return fault


def cut_before(x):
    """The CA never sees it."""
    raise Cut()


def cut_after(x):
    """The CA has done it, the client never learns."""
    x.forward()
    raise Cut()


def cut_inside(x):
    a = x.forward()
    raise Cut(f"HTTP/1.1 {a.status} OK\r\nContent-Type: {a.get('content-type')}\r\nContent-Length: {len(a.body) + 10}\r\n\r\n".encode() + a.body[:len(a.body) // 2])


def stall(x):
    """No answer until the test clears the faults."""
    x.proxy.released.wait()
    raise Cut()


def body(make, type="application/json"):
    """The CA's answer with another body: make(bytes) gives it."""
    def fault(x):
        a = x.forward()
        a.body = make(a.body)
        return a.set("Content-Type", type) if type else a
    return fault


def edit(change):
    """The CA's answer with its JSON changed: change(value)."""
    return lambda x: x.forward().rewrite(change)


def in_turn(*faults):
    """The first for the first request, and so on; the last one for the rest."""
    left = list(faults)
    lock = threading.Lock()

    def fault(x):
        with lock:
            f = left.pop(0) if len(left) > 1 else left[0]
        return f(x)
    return fault


def at(*keys, value):
    """Sets what lies under the keys; a number or "*" goes into lists."""
    def change(node, keys=keys):
        key, rest = keys[0], keys[1:]
        for k in (range(len(node)) if key == "*" else [key]):
            if rest:
                change(node[k], rest)
            else:
                node[k] = value(node.get(k) if isinstance(node, dict) else node[k]) if callable(value) else value
    return change


BODIES = {
    "empty": lambda b: b"",
    "truncated_json": lambda b: b[:len(b) // 2],
    "invalid_json": lambda b: b"{status: 'valid'",
    "html": lambda b: b"<html><body>It works!</body></html>",
    "array": lambda b: b"[" + b + b"]",
    "null": lambda b: b"null",
    "string": lambda b: b'"valid"',
    "numbers": lambda b: json.dumps({k: 7 for k in json.loads(b)}).encode(),
    "nulls": lambda b: json.dumps({k: None for k in json.loads(b)}).encode(),
    "empty_object": lambda b: b"{}",
    "deep_arrays": lambda b: b"[" * 200000,
    "deep_objects": lambda b: b'{"a":' * 1000 + b"1" + b"}" * 1000,
    "deep_inside": lambda b: b[:b.rindex(b"}")] + b',"x":' + b"[" * 100 + b"]" * 100 + b"}",
    "huge": lambda b: b[:b.rindex(b"}")] + b',"x":"' + b"x" * (10 << 20) + b'"}',
    "duplicate_keys": lambda b: b[:b.rindex(b"}")] + b',"status":"valid","status":"invalid"}',
    "nul": lambda b: b.replace(b'"', b'"\\u0000', 2),
    "bad_utf8": lambda b: b[:b.rindex(b"}")] + b',"x":"\xff\xfe"}',
    "random": lambda b: random.Random(1).randbytes(4096),
}


def evil_urls(origin):
    """name → URL that no client may go to, for a CA at that origin."""
    rest = origin.partition("//")[2]
    return {
        "http": f"http://{rest}/x",
        "other_origin": "https://acme.example.net/x",
        "other_port": "https://127.0.0.1:1/x",
        "user": f"https://{rest}@acme.example.net/x",
        "user_of_ours": f"https://user:password@{rest}/x",
        "fragment": f"{origin}/x#y",
        "javascript": "javascript:alert(1)",
        "file": "file:///etc/passwd",
        "gopher": f"gopher://{rest}/x",
        "relative": "/x",
        "no_scheme": f"//{rest}/x",
        "empty": "",
        "backslash": f"https://{rest}\\@acme.example.net/x",
        "line_break": f"{origin}/x\r\nX-Evil: 1",
        "space": f"{origin}/x y",
        "nul": f"{origin}/x\0",
        "long": f"{origin}/" + "x" * 100000,
    }


EVIL_TOKENS = {
    "slash": "a/b", "dots": "../../etc/passwd", "dot": "a.b", "empty": "", "long": "x" * 100000, "space": "a b", "line_break": "a\r\nb", "quote": "a'b\"c",
    "percent": "%2e%2e", "utf8": "t\u00f6ken", "nul": "a\0b", "number": 7, "null": None, "list": ["x"],
}


# --- chains

class Chains:
    """
    By name, a function that makes another answer out of the CA's good chain and the client's CSR. Those in GOOD are to be taken, all
    others refused. What is signed anew is signed by Pebble's own intermediate: nothing but the named fault is wrong.
    """
    GOOD = ("crlf", "text_around", "no_last_newline", "root_at_end")

    def __init__(self, proxy):
        self.proxy, self.count, self.lock = proxy, 0, threading.Lock()

    def fault(self, name):
        def fault(x):
            a = x.forward()
            if a.status != 200:
                return a
            csr = self.proxy.csrs.get(x.path.rpartition("/")[2])
            host = names(a.body.decode())[0]
            a.body = getattr(self, name)(a.body.decode(), csr, host).encode()
            return a
        fault.__name__ = "chain_" + name
        return fault

    @classmethod
    def names(cls):
        return [n for n, f in vars(cls).items() if callable(f) and not n.startswith("_") and n not in ("fault", "names")]

    def _folder(self):
        with self.lock:
            self.count += 1
            folder = self.proxy.t.path(f"chain-{self.proxy.server.server_port}-{self.count}")
        os.makedirs(folder)
        return folder

    def _sign(self, csr, sans, starts=-60, ends=86400 * 30, ca=False, usage="serverAuth", issuer=None, key_usage="critical,digitalSignature",
              digest="sha256", more="", subject="leaf"):
        """A certificate for the CSR (DER) and its names; from when to when in seconds from now. issuer: (cert, key) files. more: extensions."""
        cert, key = issuer or self.proxy.ca.signer()
        folder = self._folder()
        at = lambda name: os.path.join(folder, name)        # noqa: E731
        stamp = lambda s: time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + s))      # noqa: E731
        lines = ["[ca]", "default_ca=x", "[x]", f"database={at('index')}", f"new_certs_dir={folder}", "rand_serial=yes", f"default_md={digest}", "policy=p",
                 "x509_extensions=e", "unique_subject=no", "[p]", "commonName=optional", "[e]", f"basicConstraints=critical,CA:{str(ca).upper()}",
                 f"keyUsage={key_usage}", "subjectKeyIdentifier=hash", "authorityKeyIdentifier=keyid",
                 *([f"subjectAltName={','.join(sans)}"] if sans else []), *([f"extendedKeyUsage={usage}"] if usage else []), more]
        with open(at("index"), "w"), open(at("conf"), "w") as f:
            f.write("\n".join(lines) + "\n")
        with open(at("csr"), "wb") as f:
            f.write(csr)
        openssl("ca", "-batch", "-notext", "-config", at("conf"), "-in", at("csr"), "-inform", "DER", "-out", at("cert.pem"), "-startdate", stamp(starts),
                "-enddate", stamp(ends), "-cert", cert, "-keyfile", key, "-subj", "/CN=" + subject)
        with open(at("cert.pem")) as c, open(cert) as i:
            return blocks(c.read())[0] + i.read()

    def _issuer(self, how=(), **kw):
        """Another intermediate of the same root: (cert, key) files."""
        folder = self._folder()
        key, request, cert = (os.path.join(folder, n) for n in ("ca.key", "ca.csr", "ca.pem"))
        openssl("req", "-new", *(how or NEW_KEY[:4]), "-nodes", "-subj", "/CN=x", "-keyout", key, "-out", request, "-outform", "DER")
        with open(request, "rb") as f:
            kw = {"ca": True, "usage": None, "key_usage": "critical,keyCertSign,digitalSignature", "subject": "another intermediate", **kw}
            text = blocks(self._sign(f.read(), [], issuer=self.proxy.ca.signer("root"), **kw))[0]
        with open(cert, "w") as f:
            f.write(text)
        return cert, key

    def _new_csr(self):
        folder = self._folder()
        key, csr = os.path.join(folder, "key"), os.path.join(folder, "csr")
        openssl("req", "-new", *NEW_KEY, "-subj", "/CN=other", "-keyout", key, "-out", csr,
                "-outform", "DER")
        with open(csr, "rb") as f:
            return f.read()

    def _own_ca(self):
        folder = self._folder()
        cert, key = os.path.join(folder, "ca.pem"), os.path.join(folder, "ca.key")
        openssl("req", "-x509", *NEW_KEY, "-days", "30", "-subj", "/CN=another ca", "-keyout", key, "-out", cert)
        return cert, key

    # what is to be taken

    def crlf(self, chain, csr, host):
        return chain.replace("\n", "\r\n")

    def text_around(self, chain, csr, host):
        return "Bag Attributes\n  friendlyName: x\nsubject=CN = x\n" + "\nissuer=CN = y\n\n".join(blocks(chain)) + "\nthat was it\n"

    def no_last_newline(self, chain, csr, host):
        return chain.rstrip("\n")

    def root_at_end(self, chain, csr, host):
        return chain + self.proxy.ca.roots[-1]

    # what is not

    def leaf_only(self, chain, csr, host):
        return blocks(chain)[0]

    def issuer_only(self, chain, csr, host):
        return blocks(chain)[1]

    def reversed(self, chain, csr, host):
        return "".join(reversed(blocks(chain)))

    def leaf_twice(self, chain, csr, host):
        return blocks(chain)[0] + chain

    def foreign_issuer(self, chain, csr, host):
        """The CA's leaf, and an issuer that did not sign it."""
        with open(self._own_ca()[0]) as f:
            return blocks(chain)[0] + f.read()

    def same_name_other_issuer(self, chain, csr, host):
        """An issuer of the right name that did not sign it."""
        subject = openssl("x509", "-noout", "-subject", "-nameopt", "compat", input=blocks(chain)[1]).strip().partition("=")[2]
        folder = self._folder()
        out = os.path.join(folder, "ca.pem")
        openssl("req", "-x509", *NEW_KEY, "-days", "30", "-subj", subject.strip(), "-keyout",
                os.path.join(folder, "ca.key"), "-out", out)
        with open(out) as f:
            return blocks(chain)[0] + f.read()

    def extra_behind(self, chain, csr, host):
        """One more at the end that has nothing to do with it."""
        with open(self._own_ca()[0]) as f:
            return chain + f.read()

    def other_key(self, chain, csr, host):
        return self._sign(self._new_csr(), [f"DNS:{host}"])

    def other_host(self, chain, csr, host):
        return self._sign(csr, ["DNS:other.example.org"])

    def extra_san(self, chain, csr, host):
        return self._sign(csr, [f"DNS:{host}", "DNS:other.example.org"])

    def extra_ip(self, chain, csr, host):
        return self._sign(csr, [f"DNS:{host}", "IP:127.0.0.1"])

    def wildcard(self, chain, csr, host):
        return self._sign(csr, ["DNS:*." + host.partition(".")[2]])

    def no_san(self, chain, csr, host):
        return self._sign(csr, [])

    def nul_in_san(self, chain, csr, host):
        """HOST NUL .evil.example: HOST for whom it is a C string."""
        name = host.encode() + b"\0.evil.example"
        der = bytes([0x30, len(name) + 2, 0x82, len(name)]) + name
        return self._sign(csr, ["DER:" + der.hex()])

    def expired(self, chain, csr, host):
        return self._sign(csr, [f"DNS:{host}"], starts=-86400 * 2, ends=-60)

    def not_yet_valid(self, chain, csr, host):
        return self._sign(csr, [f"DNS:{host}"], starts=86400, ends=86400 * 30)

    def is_ca(self, chain, csr, host):
        return self._sign(csr, [f"DNS:{host}"], ca=True)

    def no_server_use(self, chain, csr, host):
        return self._sign(csr, [f"DNS:{host}"], usage="clientAuth")

    def by_a_leaf(self, chain, csr, host):
        """Signed by one that is no CA."""
        return self._sign(csr, [f"DNS:{host}"], issuer=self._issuer(ca=False, key_usage="critical,digitalSignature"))

    def by_one_that_may_not(self, chain, csr, host):
        return self._sign(csr, [f"DNS:{host}"], issuer=self._issuer(key_usage="critical,digitalSignature"))

    def expired_issuer(self, chain, csr, host):
        return self._sign(csr, [f"DNS:{host}"], issuer=self._issuer(starts=-86400 * 9, ends=-3600))

    def issuer_for_others(self, chain, csr, host):
        """An intermediate that may sign for example.net alone."""
        return self._sign(csr, [f"DNS:{host}"], issuer=self._issuer(more="nameConstraints=critical,permitted;DNS:example.net"))

    def weak_issuer(self, chain, csr, host):
        return self._sign(csr, [f"DNS:{host}"], issuer=self._issuer(("-newkey", "rsa:1024")))

    def critical_extension(self, chain, csr, host):
        """One that nobody knows."""
        return self._sign(csr, [f"DNS:{host}"], more="1.2.3.4.5=critical,ASN1:UTF8String:x")

    def no_use_at_all(self, chain, csr, host):
        return self._sign(csr, [f"DNS:{host}"], key_usage="critical,cRLSign")

    def weak_digest(self, chain, csr, host):
        return self._sign(csr, [f"DNS:{host}"], digest="sha1")

    def bad_signature(self, chain, csr, host):
        """The last byte of the leaf's signature is another."""
        der = bytearray(base64.b64decode("".join(blocks(chain)[0].splitlines()[1:-1])))
        der[-1] ^= 1
        text = base64.encodebytes(bytes(der)).decode()
        return f"-----BEGIN CERTIFICATE-----\n{text}-----END CERTIFICATE-----\n" + blocks(chain)[1]

    def garbage(self, chain, csr, host):
        return "\0\1\2 this is no certificate\n" * 50

    def garbage_in_pem(self, chain, csr, host):
        return "-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(os.urandom(700)).decode() + "-----END CERTIFICATE-----\n" + chain

    def cut_pem(self, chain, csr, host):
        return chain[:len(chain) - 200]

    def empty(self, chain, csr, host):
        return ""

    def huge(self, chain, csr, host):
        return blocks(chain)[0] + blocks(chain)[1] * 10000


def names(pem):
    """The DNS names of a leaf."""
    text = openssl("x509", "-noout", "-ext", "subjectAltName", input=pem).splitlines()[1]
    return [n.partition(":")[2] for n in text.strip().split(", ")]


# --- ARI (RFC 9773)

def window(start, end, retry_after="21600", url=None):
    """The answer of a CA: a window from `start` to `end` seconds from now."""
    stamp = lambda s: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + s))     # noqa: E731
    what = {"suggestedWindow": {"start": stamp(start), "end": stamp(end)}}
    if url:
        what["explanationURL"] = url
    return Answer(200, what).set("Retry-After", retry_after)


def ari_id(pem):
    """What a certificate is called in RFC 9773 4.1."""
    aki = openssl("x509", "-noout", "-ext", "authorityKeyIdentifier", input=pem).splitlines()[1].strip()
    number = pebble.serial(pem)
    number = bytes.fromhex(number if len(number) % 2 == 0 else "0" + number)
    if number[0] & 0x80:
        number = b"\0" + number
    return b64(bytes.fromhex(aki.removeprefix("keyid:").replace(":", ""))) + "." + b64(number)
