"""
The contestants of the acme rows: each begins without account or certificate, and Pebble looks for it where its `http` and
`https` ports are told; the servers run one behind the other and have the same two.
"""
import os
import socket
import ssl

from pebble import Pebble
from servers import CORE_LOAD, Caddy, Headgate

PLACES = ("acme-1", "acme-3", "acme-50")


def acme_ca(t):
    """The CA of all rows, on the load's core: it looks at 127.0.0.1, whatever the host."""
    here = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {int(CORE_LOAD)} & here or here)
    try:
        ca = Pebble(t, t.port(), t.port())
    finally:
        os.sched_setaffinity(0, here)
    ca.trust = ssl.create_default_context(cadata=ca.roots[0])
    return ca


def acme_served(s, host, context):
    """Is the host served with the CA's certificate?"""
    try:
        with socket.create_connection(("127.0.0.1", s.port)) as raw, context.wrap_socket(raw, server_hostname=host):
            return True
    except ssl.SSLCertVerificationError:
        raise
    except OSError:
        return False


class Acme:
    """What both have: hosts by the row's place."""
    places = PLACES
    reloads = False

    def __init__(self, *args):
        super().__init__(*args)
        self.hosts = [f"h{i}.example.org" for i in range(int(self.place.rpartition("-")[2]))]
        self.port, self.http = self.t.acme.https, self.t.acme.http


class AcmeCaddy(Acme, Caddy):
    def command(self):
        conf = self.write("Caddyfile", f"""{{
  admin off
  email ops@example.org
  acme_ca {self.t.acme.url}
  acme_ca_root {self.t.acme.ca_root}
  http_port {self.http}
  https_port {self.port}
  log {{
    level ERROR
  }}
}}
{", ".join(self.hosts)} {{
  bind 127.0.0.1
  respond "{self.version}"
}}
""")
        return ["caddy", "run", "--config", conf, "--adapter", "caddyfile"]


class AcmeHeadgate(Acme, Headgate):
    def top(self):
        return {"listen": f'{{ http: "127.0.0.1:{self.http}", https: "127.0.0.1:{self.port}" }}', "log": "{ access: { format: off } }",
                "acme": self.t.acme.acme()}

    def config(self):
        return f"""sites:
  s:
    host: {self.hosts[0]}
    aliases: [{", ".join(self.hosts[1:])}]
    routes: {{ /: {{ respond: "{self.version}" }} }}
"""


ACME_PEERS = (AcmeCaddy,)
