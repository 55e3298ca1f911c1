"""
Debian's Pebble as the CA and its challtestsrv as the DNS that it asks, on free ports; what a strict client thinks of a
chain; a gate that has its certificates from there. Faults are acme_faults.py's.
"""
import base64
import glob
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import threading
import time
import urllib.request

from procs import wait_for
from tls_backends import Authority
from wire import Conn, tls_context

EAB_KID, EAB_HMAC = "kid-1", base64.urlsafe_b64encode(b"a key of 32 bytes for the tests.").decode().rstrip("=")
BLOCK = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.S)


# --- the CA

class Pebble:
    """
    A CA that looks for challenges on 127.0.0.1 at the given ports, whatever the host. roots: PEM of every root that it
    had, the newest last: a restart forgets accounts and orders, and makes new keys.
    """

    def __init__(self, t, http, https, nonce_reject=0, validity=None, eab=False, alternates=0, chain_length=1, authz_reuse=0):
        self.t, self.http, self.https = t, http, https
        self.port, self.management, self.dns_port, self.dns_management = t.port(), t.port(), t.port(), t.port()
        self.dir = t.path(f"pebble-{self.port}")
        os.makedirs(self.dir)
        self.authority = Authority(t, f"api-{self.port}")
        self.cert, self.key = self.authority.leaf("127.0.0.1", "localhost")
        self.context = ssl.create_default_context(cafile=self.authority.cert)
        self.env = dict(os.environ, PEBBLE_VA_NOSLEEP="1", PEBBLE_WFE_NONCEREJECT=str(nonce_reject), PEBBLE_AUTHZREUSE=str(authz_reuse),
                        PEBBLE_ALTERNATE_ROOTS=str(alternates), PEBBLE_CHAIN_LENGTH=str(chain_length))
        self.config = {"listenAddress": f"127.0.0.1:{self.port}", "managementListenAddress": f"127.0.0.1:{self.management}",
                       "certificate": self.cert, "privateKey": self.key, "httpPort": http, "tlsPort": https, "ocspResponderURL": "",
                       "externalAccountBindingRequired": eab}
        if validity:
            self.config["certificateValidityPeriod"] = validity
        if eab:
            self.config["externalAccountMACKeys"] = {EAB_KID: EAB_HMAC}
        self.roots, self.alternates = [], alternates
        self.proc = None
        t.defer(self.end)
        self.dns = self.spawn("challtestsrv", "pebble-challtestsrv", "-defaultIPv4", "127.0.0.1", "-defaultIPv6", "", "-http01", "", "-https01", "",
                              "-tlsalpn01", "", "-dns01", f"127.0.0.1:{self.dns_port}", "-management", f"127.0.0.1:{self.dns_management}")
        self.start()
        wait_for("challtestsrv", lambda: self.dns_ask("clear-txt", {"host": "nobody.example.org."}, may_fail=True))

    def spawn(self, log, *cmd):
        with open(os.path.join(self.dir, log + ".log"), "ab") as out:
            return subprocess.Popen(cmd, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=self.env, cwd=self.dir)

    @property
    def url(self):
        return f"https://127.0.0.1:{self.port}/dir"

    @property
    def ca_root(self):
        """Whom the CA's own HTTPS chains to: a file."""
        return self.authority.cert

    def start(self):
        config = os.path.join(self.dir, "config.json")
        with open(config, "w") as f:
            json.dump({"pebble": self.config}, f)
        self.proc = self.spawn("pebble", "pebble", "-config", config, "-dnsserver", f"127.0.0.1:{self.dns_port}")
        wait_for("Pebble", self.answers)
        self.roots += [self.manage(f"roots/{i}") for i in range(self.alternates + 1)]
        return self

    def answers(self):
        assert self.proc.poll() is None, "Pebble ended:\n" + self.log()
        try:
            return self.manage("roots/0") and urllib.request.urlopen(self.url, context=self.context, timeout=10).status == 200
        except OSError:
            return False

    def stop(self, sig=signal.SIGKILL):
        self.proc.send_signal(sig)
        self.proc.wait()

    def restart(self):
        self.stop()
        return self.start()

    def end(self):
        for p in (self.proc, self.dns):
            if p and p.poll() is None:
                p.kill()
                p.wait()

    def log(self):
        with open(os.path.join(self.dir, "pebble.log"), errors="replace") as f:
            return f.read()

    def manage(self, what):
        url = f"https://127.0.0.1:{self.management}/{what}"
        return urllib.request.urlopen(url, context=self.context, timeout=30).read().decode()

    def revoked(self, pem):
        """Its reason when the CA holds the certificate for revoked, else None."""
        serial = openssl("x509", "-noout", "-serial", input=pem).strip().partition("=")[2].lower().lstrip("0")
        status = json.loads(self.manage("cert-status-by-serial/" + serial))
        return status.get("Reason") if status["Status"] == "Revoked" else None

    def signer(self, kind="intermediate"):
        """(certificate, key) that the leaves ("intermediate"), or those that sign them ("root"), are signed with: files."""
        out = []
        for what in (kind + "s", kind + "-keys"):
            path = os.path.join(self.dir, f"{what}-{len(self.roots)}.pem")
            if not os.path.exists(path):
                new = f"{path}.{threading.get_ident()}"
                with open(new, "w") as f:
                    f.write(self.manage(what + "/0"))
                os.rename(new, path)
            out.append(path)
        return tuple(out)

    # --- its DNS

    def dns_ask(self, verb, what, may_fail=False):
        request = urllib.request.Request(f"http://127.0.0.1:{self.dns_management}/{verb}", json.dumps(what).encode(), method="POST")
        try:
            return urllib.request.urlopen(request, timeout=30).status == 200
        except OSError:
            if may_fail:
                return False
            raise

    def resolve(self, host, *addresses):
        """A records of a host from now on; none: the default again, 127.0.0.1."""
        verb, what = ("add-a", {"host": host + ".", "addresses": addresses}) if addresses else ("clear-a", {"host": host + "."})
        self.dns_ask(verb, what)

    def hook(self, t, behave=""):
        """
        A `dns_hook` that keeps the records at challtestsrv, and notes what it was called with in hook_calls().
        behave: lines of shell in front.
        """
        self.hook_log = t.write(f"hook-{self.port}.log", "", mode=0o666)
        return t.write(f"hook-{self.port}", f"""#!/bin/sh
set -eu
echo "$#" "$@" >>{self.hook_log}
{behave}
case $1 in
present) verb=set-txt data="{{\\"host\\":\\"$2.\\",\\"value\\":\\"$3\\"}}" ;;
cleanup) verb=clear-txt data="{{\\"host\\":\\"$2.\\"}}" ;;
esac
exec curl --noproxy '*' -fsS -d "$data" http://127.0.0.1:{self.dns_management}/$verb
""", mode=0o755)

    def hook_calls(self):
        """[[verb, name, value], …]"""
        with open(self.hook_log) as f:
            return [line.split()[1:] for line in f]

    # --- for headgate's configuration

    def acme(self, extra="", url=None):
        """The value of `acme:`."""
        return f'{{ email: ops@example.org, ca: "{url or self.url}", ca_root: {self.ca_root}{", " + extra if extra else ""} }}'


# --- certificates

def openssl(*args, input=None, check=True):
    p = subprocess.run(["openssl", *args], input=input, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert not check or p.returncode == 0, (args, p.stdout, p.stderr)
    return p.stdout if check else p


def blocks(pem):
    return [b + "\n" for b in BLOCK.findall(pem)]


def facts(pem):
    """{"issuer", "subject", "notBefore", "text": all that was printed}"""
    text = openssl("x509", "-noout", "-issuer", "-subject", "-startdate", "-ext", "subjectAltName,basicConstraints", "-pubkey", input=pem)
    return {"text": text, **dict(line.split("=", 1) for line in text.splitlines() if re.match(r"(issuer|subject|notBefore)=", line))}


def serial(pem):
    return openssl("x509", "-noout", "-serial", input=pem).strip().partition("=")[2]


def strict(t, chain, host, roots, key=None, at=None):
    """
    Why a strict client, or we ourselves, would not take the chain (PEM, leaf first); "" when all is well. at: when, wall clock s; or now.
    What was looked at once is remembered: stores are looked at again and again, and each look is many processes.
    """
    known = t.__dict__.setdefault("strict_known", {})
    what = (chain, host, tuple(roots), key, at)
    if at is None or what not in known:
        known[what] = look_strictly(t, chain, host, roots, key, at)
    return known[what]


def look_strictly(t, chain, host, roots, key, at):
    certs = blocks(chain)
    if not 1 <= len(certs) <= 20:
        return f"{len(certs)} certificates"
    folder = t.path(f"strict-{threading.get_ident()}")
    os.makedirs(folder, exist_ok=True)
    paths = {}
    for name, text in (("leaf", certs[0]), ("rest", "".join(certs[1:])), ("roots", "".join(roots))):
        paths[name] = os.path.join(folder, name)
        with open(paths[name], "w") as f:
            f.write(text)
    try:
        rest = ["-untrusted", paths["rest"]] if certs[1:] else []
        p = openssl("verify", "-x509_strict", "-auth_level", "2", "-purpose", "sslserver", "-no-CApath", "-no-CAstore", "-CAfile", paths["roots"], *rest,
                    "-verify_hostname", host.replace("*", "any"), "-attime", str(int(at or time.time())), paths["leaf"], check=False)
        if p.returncode:
            return p.stdout + p.stderr
        told = [facts(c) for c in certs]
        for i, (cert, issuer) in enumerate(zip(told, told[1:])):
            if cert["issuer"] != issuer["subject"]:
                return f"certificate {i} is by {cert['issuer']}, the next one is {issuer['subject']}"
        if "CA:TRUE" in told[0]["text"]:
            return "the leaf is a CA"
        sans = told[0]["text"].partition("Subject Alternative Name:")[2].splitlines()[1].strip()
        if sans != f"DNS:{host}":
            return f"its names are {sans}"
        if key and openssl("pkey", "-pubout", input=key) not in told[0]["text"]:
            return "another key"
        return ""
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# --- a gate with certificates from there

def site(*hosts, body="fine", extra=""):
    """A site a host, each answering with its own name."""
    return "sites:\n" + "".join(f"  {h.split('.')[0]}: {{ host: {h}, https: redirect{extra}, routes: {{ /: {{ respond: {h} }} }} }}\n" for h in hosts)


class Issuing:
    """A gate and its CA. `gate` is not started yet. `faults`: an acme_faults.Proxy in front of the CA, when `proxy` makes one."""

    def __init__(self, t, config, acme="", top=None, proxy=None, workers=2, **kw):
        self.t = t
        self.gate = t.unstarted(config, top=top, workers=workers)
        self.ca = Pebble(t, **{"http": self.gate.http, "https": self.gate.https, **kw})
        self.faults = proxy(t, self.ca) if proxy else None
        self.configure(config, acme)

    def configure(self, config, acme="", url=None, **top):
        """Writes the file; a running gate is not told."""
        self.gate.configure(config, top={"acme": self.ca.acme(acme, url or (self.faults and self.faults.url)), **top})
        return self

    def start(self):
        self.gate.start()
        return self

    # --- what clients get

    def context(self):
        """Trusts all roots that the CA had, nothing else."""
        context = tls_context()
        context.verify_mode, context.check_hostname = ssl.CERT_REQUIRED, True
        context.load_verify_locations(cadata="".join(self.ca.roots))
        return context

    def tls(self, host, context=None, **kw):
        return Conn(("127.0.0.1", self.gate.https), tls=context or self.context(), sni=host, **kw)

    def served(self, host, context=None):
        """The leaf in DER that is in service for a host; None while there is none. AssertionError: one that a strict client refuses."""
        try:
            with self.tls(host, context) as c:
                return c.sock.getpeercert(True)
        except ssl.SSLCertVerificationError as e:
            raise AssertionError(f"{host}: a strict client refuses what is served: {e}") from e
        except (ssl.SSLError, ConnectionError):
            return None

    def wait_served(self, *hosts, but=None, guard=60):
        """Waits until each host has a certificate (another than those in `but`); returns {host: DER}."""
        context, but = self.context(), but or {}
        return {h: wait_for(f"a certificate for {h}", lambda h=h: (der := self.served(h, context)) and der != but.get(h) and der, guard) for h in hosts}

    def get(self, target, host):
        with self.tls(host) as c:
            return c.get(target, host)

    # --- what is on disk

    def units(self, host="*"):
        """Folders of the hosts' units, the newest last."""
        folders = glob.glob(os.path.join(self.gate.state, "certs", "*", "_" + host[1:] if host.startswith("*.") else host))
        return sorted((f for f in folders if f"{os.sep}local{os.sep}" not in f), key=os.path.getmtime)

    def unit(self, host, folder=None):
        """(chain, key, meta) of the host's newest unit; None when there is none."""
        folder = folder or (self.units(host) or [None])[-1]
        if not folder:
            return None
        out = []
        for name in ("cert.pem", "key.pem", "meta.json"):
            with open(os.path.join(folder, name)) as f:
                out.append(f.read())
        return out[0], out[1], json.loads(out[2])

    def check_store(self, newest=1000000):
        """Every unit on disk, or the `newest` ones, is whole and one that a strict client takes. Returns the hosts that have one."""
        hosts = set()
        for folder in self.units()[-newest:]:
            name = os.path.basename(folder)
            host = "*" + name[1:] if name.startswith("_") else name
            chain, key, meta = self.unit(host, folder)
            # One may have ended while nobody renewed it; all else must hold.
            why = strict(self.t, chain, host, self.ca.roots, key, at=meta["not_before"] + 1)
            assert not why, f"{folder}: {why}"
            assert isinstance(meta, dict), meta
            hosts.add(host)
        return sorted(hosts)

    # --- what it says of itself

    def renew(self, host, guard=110):
        """`headgate certs renew`: returns when the try is over."""
        return self.gate.cli("certs", "renew", host, guard=guard)

    def renew_ok(self, host):
        r = self.renew(host)
        assert r.returncode == 0, f"certs renew {host}: {r.returncode}\n{r.stdout}{r.stderr}"
        return r

    def certs(self):
        """{host: its part of `headgate certs --json`}"""
        return {h["host"]: h for h in self.told()["hosts"]}

    def told(self):
        r = self.gate.cli("certs", "--json")
        assert r.returncode == 0, (r.returncode, r.stdout, r.stderr)
        return json.loads(r.stdout)

    def wait_failed(self, *hosts, times=1):
        """Waits until each host has failed so often in a row; returns {host: what is said of it}."""
        def failed():
            told = self.certs()
            return all(told[h]["failures"] >= times for h in hosts) and told
        return wait_for(f"failures of {', '.join(hosts)}", failed, every=0.05)


class Watch(threading.Thread):
    """
    A strict client that connects again and again. refused: what it would not have taken, of what it was served. seen: leaves in DER,
    in order. missed: handshakes that failed once there was a certificate.
    """

    def __init__(self, issuing, *hosts, pause=0.01):
        super().__init__(daemon=True)
        self.issuing, self.hosts, self.pause = issuing, hosts, pause
        self.refused, self.missed, self.seen, self.count = [], [], {h: [] for h in hosts}, 0
        self.over = threading.Event()
        issuing.t.defer(self.end)
        self.start()

    def run(self):
        known, context = None, None
        while not self.over.is_set():
            if known != len(self.issuing.ca.roots):
                known, context = len(self.issuing.ca.roots), self.issuing.context()
            for host in self.hosts:
                self.look(host, context)
                self.over.wait(self.pause)

    def look(self, host, context):
        try:
            with self.issuing.tls(host, context) as c:
                der = c.sock.getpeercert(True)
        except ssl.SSLCertVerificationError as e:
            self.refused.append((host, str(e)))
        except (ssl.SSLError, OSError) as e:
            if self.seen[host]:
                self.missed.append((host, time.time(), repr(e)))
        else:
            self.count += 1
            if not self.seen[host] or self.seen[host][-1] != der:
                self.seen[host].append(der)

    def end(self):
        self.over.set()
        self.join(60)

    def check(self):
        assert not self.refused, self.refused[:5]
