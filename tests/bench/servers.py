"""The contestants of tests/bench/run: how each is configured, started, reloaded, counted and stopped; and the backends behind the proxies."""
import os
import signal
import subprocess
import time

import headgate as hg
import procs

TICK = os.sysconf("SC_CLK_TCK")
KIB = "x" * 1024
CORE_SERVER, CORE_LOAD = "0", "1"


def nobody(text):
    return text if os.geteuid() == 0 else ""


def grpc_message(data):
    return b"\0" + len(data).to_bytes(4, "big") + data


def temp_paths(names, folder):
    return "".join(f"{n}_temp_path {folder}/{n}; " for n in names.split())


def thread_seconds(pid, task):
    with open(f"/proc/{pid}/task/{task}/schedstat") as f:
        return int(f.read().split()[0]) / 1e9


class Server:
    """
    One contestant. `place` is "static", "proxy", "stream" (the same bytes as raw TCP, TLS ended here), "grpc" or "grpc-web"; `h2` whether it
    offers HTTP/2.
    """
    name = "?"
    places = ("static", "proxy")
    reloads = True
    checked = False     # one of its answers was looked at
    env = {}

    def __init__(self, t, backend_port, place, h2):
        self.t, self.port, self.backend, self.place, self.h2 = t, t.port(), backend_port, place, h2
        self.version, self.p = 0, None
        self.dir = t.path(f"{self.name}-{time.monotonic_ns()}")
        os.makedirs(self.dir)
        os.chmod(self.dir, 0o777)

    def write(self, name, text):
        return self.t.write(os.path.relpath(os.path.join(self.dir, name), self.t.dir), text)

    def spawn(self):
        """Starts it on its core and does not wait."""
        cmd = self.command()
        self.log = open(os.path.join(self.dir, "log"), "ab")
        self.p = subprocess.Popen(["taskset", "-c", CORE_SERVER, *cmd], stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
                                  env=dict(os.environ, **self.env))

    def start(self):
        self.spawn()
        hg.wait_for(f"{self.name} to listen", lambda: self.p.poll() is not None or not hg.port_free(self.port))
        self.check()
        return self

    def check(self):
        if self.p.poll() is not None:
            raise AssertionError(f"{self.name} ended:\n" + open(self.log.name).read()[-2000:])

    def reload(self):
        """The same configuration but for one answer; returns when the command has, or at once where it is a signal."""
        self.version += 1
        self.command()

    def pids(self):
        return [self.p.pid] + procs.descendants(self.p.pid)

    def cpu(self):
        """Seconds of user and system time so far, of all threads. Nanosecond counters where the kernel has them."""
        total = 0
        for pid in self.pids():
            try:
                total += sum(thread_seconds(pid, task) for task in os.listdir(f"/proc/{pid}/task"))
            except (OSError, ValueError, IndexError):
                total += procs.cpu_ticks(pid) / TICK
        return total

    def rss(self):
        return sum(procs.rss(pid) for pid in self.pids())

    def stop(self):
        if not self.p:
            return
        self.p.terminate()
        try:
            self.p.wait(30)
        except subprocess.TimeoutExpired:
            procs.kill_all(self.pids())
            self.p.wait()
        self.log.close()
        self.p = None


class Nginx(Server):
    name = "nginx"
    places = ("static", "proxy", "grpc")

    def command(self):
        place = "root %s;" % self.t.path("www") if self.place == "static" else \
            'proxy_pass http://b; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header X-Forwarded-For $remote_addr; ' \
            "proxy_set_header X-Forwarded-Proto https; proxy_set_header Host $host;"
        if self.place == "grpc":
            place = "grpc_pass grpc://b; grpc_set_header X-Forwarded-For $remote_addr; grpc_set_header X-Forwarded-Proto https;"
        self.conf = self.write("nginx.conf", f"""daemon off; worker_processes 1; pid {self.dir}/pid; error_log {self.dir}/error; {nobody("user nobody nogroup;")}
worker_rlimit_nofile 65536;
events {{ worker_connections 16384; }}
http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000000; keepalive_timeout 300s; open_file_cache max=100;
{temp_paths("client_body proxy fastcgi uwsgi scgi", self.dir)}
upstream b {{ server 127.0.0.1:{self.backend}; keepalive 600; keepalive_requests 100000000; }}
server {{ listen 127.0.0.1:{self.port} ssl{" http2" if self.h2 else ""}; ssl_certificate {self.t.cert}; ssl_certificate_key {self.t.key}; ssl_protocols TLSv1.3;
location = /version {{ return 200 "{self.version}"; }} location / {{ {place} }} }} }}""")
        return ["nginx", "-c", self.conf, "-e", f"{self.dir}/error"]

    def reload(self):
        super().reload()
        self.p.send_signal(signal.SIGHUP)


class Haproxy(Server):
    name = "haproxy"
    places = ("proxy", "stream", "grpc")

    def command(self):
        with open(self.t.cert) as c, open(self.t.key) as k:
            pem = self.write("both.pem", c.read() + k.read())
        if self.place == "stream":
            return ["haproxy", "-Ws", "-f", self.write("haproxy.cfg", f"""global
  nbthread 1
  maxconn 5000
  ssl-default-bind-options ssl-min-ver TLSv1.3
defaults
  mode tcp
  timeout connect 5s
  timeout client 60s
  timeout server 60s
listen s
  bind 127.0.0.1:{self.port} ssl crt {pem}
  server s 127.0.0.1:{self.backend}
""")]
        conf = self.write("haproxy.cfg", f"""global
  nbthread 1
  maxconn 5000
  ssl-default-bind-options ssl-min-ver TLSv1.3
defaults
  mode http
  option forwardfor
  http-reuse always
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend f
  bind 127.0.0.1:{self.port} ssl crt {pem} alpn {"h2" if self.h2 else "http/1.1"}
  http-request return status 200 content-type text/plain string "{self.version}" if {{ path /version }}
  default_backend b
backend b
  server s 127.0.0.1:{self.backend} pool-max-conn 600{" proto h2" if self.place == "grpc" else ""}
""")
        return ["haproxy", "-Ws", "-f", conf]       # with a master: only so it can reload

    def reload(self):
        super().reload()
        self.p.send_signal(signal.SIGUSR2)


class H2o(Server):
    name = "h2o"
    reloads = False     # only with a starter of its own around it

    def command(self):
        place = f"file.dir: {self.t.path('www')}" if self.place == "static" else \
            f'proxy.reverse.url: "http://127.0.0.1:{self.backend}/"\n        proxy.timeout.keepalive: 60000'
        conf = self.write("h2o.conf", f"""num-threads: 1
{nobody("user: nobody")}
max-connections: 20000
http1-request-timeout: 300
http2-idle-timeout: 300
error-log: {self.dir}/error
listen:
  host: 127.0.0.1
  port: {self.port}
  ssl:
    certificate-file: {self.t.cert}
    key-file: {self.t.key}
    minimum-version: TLSv1.3
hosts:
  default:
    paths:
      "/":
        {place}
""")
        return ["h2o", "-m", "worker", "-c", conf]


class Nghttpx(Server):
    name = "nghttpx"
    places = ("proxy", "grpc")
    reloads = False     # its worker is replaced by hand

    def command(self):
        return ["nghttpx", "--conf=/dev/null", "--workers=1", "--single-process", "--no-ocsp", f"--frontend=127.0.0.1,{self.port}",
                f"--backend=127.0.0.1,{self.backend}" + (";/;proto=h2" if self.place == "grpc" else ""), f"--errorlog-file={self.dir}/error", "--tls-min-proto-version=TLSv1.3",
                "--add-x-forwarded-for", self.t.key, self.t.cert]


class Caddy(Server):
    name = "caddy"

    def __init__(self, *args):
        super().__init__(*args)
        self.admin = self.t.port()
        self.env = {"XDG_DATA_HOME": self.dir, "XDG_CONFIG_HOME": self.dir, "HOME": self.dir}

    def command(self):
        place = f"root * {self.t.path('www')}\n  file_server" if self.place == "static" else \
            f"reverse_proxy 127.0.0.1:{self.backend} {{\n    transport http {{\n      keepalive_idle_conns_per_host 600\n    }}\n  }}"
        self.conf = self.write("Caddyfile", f"""{{
  admin 127.0.0.1:{self.admin}
  auto_https off
  log {{
    level ERROR
  }}
  servers {{
    protocols {"h1 h2" if self.h2 else "h1"}
  }}
}}
https://localhost:{self.port} {{
  bind 127.0.0.1
  tls {self.t.cert} {self.t.key} {{
    protocols tls1.3
  }}
  respond /version "{self.version}"
  {place}
}}
""")
        return ["caddy", "run", "--config", self.conf, "--adapter", "caddyfile"]

    def reload(self):
        super().reload()
        subprocess.run(["caddy", "reload", "--config", self.conf, "--adapter", "caddyfile", "--address", f"127.0.0.1:{self.admin}"], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ, **self.env))


class Headgate(Server):
    name = "headgate"
    places = ("static", "proxy", "stream", "grpc", "grpc-web")

    def config(self):
        if self.place == "stream":
            return f"""streams: {{ "127.0.0.1:{self.port}": {{ service: s/app }} }}
sites: {{ s: {{ host: localhost, services: {{ app: "tcp://127.0.0.1:{self.backend}" }} }} }}
"""
        if self.place.startswith("grpc"):
            return f"""sites:
  s:
    host: localhost
    services: {{ app: {{ url: "http://127.0.0.1:{self.backend}", protocol: grpc, ready: {{ tcp: on }} }} }}
    grpc: app
    routes: {{ /: {{ respond: "{self.version}" }} }}
"""
        handler = f"files: {self.t.path('www')}" if self.place == "static" else "proxy: app"
        return f"""sites:
  s:
    host: localhost
    services: {{ app: {{ url: "http://127.0.0.1:{self.backend}" }} }}
    routes: {{ /: {{ {handler} }}, /version: {{ respond: "{self.version}" }} }}
"""

    def top(self):
        return {"listen": "{ http: off, https: %s }" % ("off" if self.place == "stream" else f'"127.0.0.1:{self.port}"'), "log": "{ access: { format: off } }",
                "tls": f"{{ certificates: [{{ cert: {self.t.cert}, key: {self.t.key} }}] }}"}

    def command(self):
        if self.version:
            self.gate.configure(self.config())
            return None
        self.gate = hg.Headgate(self.t, self.config(), name=f"headgate-{time.monotonic_ns()}", workers=1, http=False, https=False, top=self.top())
        return [self.t.program, "run", "--config", self.gate.file]

    def reload(self):
        super().reload()
        r = self.gate.cli("reload")
        assert r.returncode == 0, r


class HeadgateGrpc(Headgate):
    """Its own plain gRPC, beside which its gRPC-Web is measured: nobody else here speaks that."""
    name = "own gRPC"
    places = ("grpc-web",)


class Backend(Server):
    """nginx on the load's core that returns 1 KiB."""
    name = "backend"

    def __init__(self, t):
        super().__init__(t, 0, "backend", False)
        conf = self.write("nginx.conf", f"""daemon off; worker_processes 1; pid {self.dir}/pid; error_log {self.dir}/error; {nobody("user nobody nogroup;")}
worker_rlimit_nofile 65536;
events {{ worker_connections 16384; }}
http {{ access_log off; keepalive_requests 100000000; keepalive_timeout 300s; default_type text/plain;
{temp_paths("client_body proxy fastcgi uwsgi scgi", self.dir)}
server {{ listen 127.0.0.1:{self.port}; location / {{ return 200 "{KIB}"; }} }} }}""")
        self.p = subprocess.Popen(["taskset", "-c", CORE_LOAD, "nginx", "-c", conf, "-e", f"{self.dir}/error"],
                                  stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.log = open(os.devnull)
        hg.wait_for("the backend", lambda: not hg.port_free(self.port))


class GrpcBackend(Server):
    """On the load's core: answers every call with a message of 1 KiB."""
    name = "grpc-backend"

    def __init__(self, t):
        super().__init__(t, 0, "backend", False)
        self.p = subprocess.Popen(["taskset", "-c", CORE_LOAD, t.bench_grpc_backend, str(self.port)], stdin=subprocess.DEVNULL)
        self.log = open(os.devnull)
        hg.wait_for("the gRPC backend", lambda: not hg.port_free(self.port))


PEERS = (Nginx, Haproxy, H2o, Nghttpx, Caddy)
