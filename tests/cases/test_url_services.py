"""Services with `url`: names and what they stand for, ejection and return, looks, the Host field."""
import ctypes
import json
import os
import signal
import socket
import subprocess
import threading

from backends import Backend
from headgate import Row, case, proxy_site, table, wait_for


def instances(gate, service="s/app"):
    return [s for s in gate.status()["services"] if s["service"] == service][0]["instances"]


def states(gate):
    return {i["address"].split(":")[0]: i["state"] for i in instances(gate)}


def site(urls, extra="", host="localhost"):
    listed = "[" + ", ".join(f'"{u}"' for u in urls) + "]"
    return proxy_site("@", service_extra=extra, host=host).replace('url: "@"', f"url: {listed}")


def at(address, port=0, behave=None):
    """A backend at an address of the loopback."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((address, port))
    b = Backend(behave, sock=sock)
    b.port = sock.getsockname()[1]
    return b


# ---- the Host field

HOSTS = [
    Row("client", value="client", sent="asked.localhost"),
    Row("default", value=None, sent="asked.localhost"),
    Row("backend", value="backend", sent="127.0.0.1:{port}"),
    Row("name", value="app.example.org:8080", sent="app.example.org:8080"),
]


class Hosts:
    def __init__(self, t):
        self.b = t.backend()
        self.gate = t.headgate(proxy_site(self.b.url, host="asked.localhost"), workers=1)


@table(HOSTS, Hosts)
def test_host_header(_, s, row):
    """host_header: what the backend sees as Host; X-Forwarded-Host is always what the client asked for."""
    extra = f", host_header: \"{row.value}\"" if row.value else ""
    s.gate.reload_ok(proxy_site(s.b.url, host="asked.localhost", service_extra=extra))
    with s.gate.plain() as c:
        headers = {n.lower(): v for n, v in json.loads(c.get("/", "asked.localhost").body)["headers"]}
    assert headers["host"] == row.sent.format(port=s.b.port), headers
    assert headers["x-forwarded-host"] == "asked.localhost"


@case()
def test_host_header_of_a_unix_socket(t):
    """There is no name in a socket's path: `backend` sends localhost."""
    b = t.backend(unix=t.path("b.sock"))
    gate = t.headgate(proxy_site(b.url, service_extra=", host_header: backend"), workers=1)
    headers = dict(json.loads(gate.get("/").body)["headers"])
    assert headers["host"] == "localhost"


# ---- names

@case(both=True)
def test_localhost(t):
    """A name that every machine knows is resolved, and shown with what it stands for."""
    b = t.backend()
    gate = t.headgate(proxy_site(f"http://localhost:{b.port}"))
    assert gate.get("/").status == 200
    service = gate.status()["services"][0]
    assert service["names"][0]["name"] == "localhost" and service["names"][0]["error"] == ""
    assert f"127.0.0.1:{b.port}" in [i["address"] for i in service["instances"]]


@case()
def test_unknown_name(t):
    """A name that nobody knows does not stop the start; requests wait, then get 503; status and log say why, once."""
    gate = t.headgate(proxy_site("http://no-such-name.invalid:80", service_extra=", wait_ready: 200ms")
                      + "  other: { host: other.localhost, https: both, routes: { /: { respond: fine } } }\n", workers=1)
    with gate.plain() as c:
        assert c.get("/", "other.localhost").status == 200
    assert gate.get("/").status == 503
    name = wait_for("its error", lambda: [n for n in gate.status()["services"][0]["names"] if n["error"] not in ("", "not resolved yet")])[0]
    assert name["addresses"] == 0
    assert name["error"] in gate.cli("status").stdout
    gate.reload_ok()
    gate.wait_log("cannot be resolved", "no-such-name.invalid")
    assert gate.log().count("cannot be resolved") == 1


class Machine:
    """
    A mount namespace of the test's own with its own /etc/hosts: what headgate resolves there is what the test writes.
    The case's process enters it for good: it runs nothing else.
    """

    def __init__(self, t):
        libc = ctypes.CDLL(None, use_errno=True)
        self.file = t.write("hosts", "127.0.0.1 localhost\n")
        conf = t.write("nsswitch.conf", "hosts: files\npasswd: files\ngroup: files\n")
        assert libc.unshare(0x00020000) == 0, os.strerror(ctypes.get_errno())
        for command in (["--make-rprivate", "/"], ["--bind", self.file, "/etc/hosts"], ["--bind", conf, "/etc/nsswitch.conf"]):
            subprocess.run(["mount", *command], check=True)

    def says(self, **names):
        """Which addresses each name has; written in place, for the mount is of this very file."""
        with open(self.file, "w") as f:
            f.write("127.0.0.1 localhost\n" + "".join(f"{a} {n}.test\n" for n, addresses in names.items() for a in addresses))


@case(root=True)
def test_addresses_of_a_name(t):
    """Several addresses are several instances; a change is followed at a reload: new ones serve, those that went drain."""
    m = Machine(t)
    two = at("127.0.0.2")
    three, four = at("127.0.0.3", two.port), at("127.0.0.4", two.port)
    m.says(app=["127.0.0.2", "127.0.0.3"])
    gate = t.headgate(proxy_site(f"http://app.test:{two.port}", service_extra=", host_header: backend"), workers=1)
    with gate.tls() as c:
        a = c.get("/")
        assert dict(json.loads(a.body)["headers"])["host"] == f"app.test:{two.port}"
        for _ in range(19):
            assert c.get("/").status == 200
        assert two.count == three.count == 10, (two.count, three.count)
        held = gate.tls()
        held.request("GET", "/held", "localhost")
        wait_for("a held request", lambda: two.count + three.count == 21)
        busy, free = (two, three) if two.count == 11 else (three, two)
        m.says(app=["127.0.0.4"])
        gate.reload_ok()
        wait_for("the new address alone", lambda: states(gate).get("127.0.0.4") == "ready" and len(states(gate)) == 2)
        assert "draining" in states(gate).values()
        for _ in range(10):
            assert c.get("/").status == 200
        assert four.count == 10 and free.count == 10
        busy.gate.set()
        assert held.answer().body == b"at last"
        held.close()
        wait_for("the drained one to go", lambda: list(states(gate)) == ["127.0.0.4"])


@case(root=True)
def test_name_that_fails_later(t):
    """When a name is not found any more its last addresses stay, with the error in status and once in the log; then it recovers."""
    m = Machine(t)
    two = at("127.0.0.2")
    m.says(app=["127.0.0.2"])
    gate = t.headgate(proxy_site(f"http://app.test:{two.port}"), workers=1)
    assert gate.get("/").status == 200
    m.says()
    gate.reload_ok()
    wait_for("the error", lambda: gate.status()["services"][0]["names"][0]["error"] not in ("", "not resolved yet"))
    assert gate.get("/").status == 200
    assert states(gate) == {"127.0.0.2": "ready"}
    gate.wait_log("cannot be resolved", "app.test", '"addresses_kept":1')
    m.says(app=["127.0.0.2"])
    wait_for("the recovery", lambda: gate.status()["services"][0]["names"][0]["error"] == "")
    gate.wait_log("resolved again", "app.test")
    assert gate.log().count("cannot be resolved") == 1


@case(root=True)
def test_moved_backend(t):
    """A backend moves to another address: its failures make the agent look the name up again, without a reload."""
    m = Machine(t)
    two = at("127.0.0.2")
    m.says(app=["127.0.0.2"])
    gate = t.headgate(proxy_site(f"http://app.test:{two.port}"), workers=1)
    assert gate.get("/").status == 200
    three = at("127.0.0.3", two.port)
    m.says(app=["127.0.0.3"])
    two.close()
    wait_for("the new address", lambda: gate.get("/").status == 200)
    assert three.count >= 1
    wait_for("the old one to go", lambda: list(states(gate)) == ["127.0.0.3"])


@case(root=True)
def test_agent_dies(t):
    """Without the agent the addresses stay; its successor looks names up again."""
    m = Machine(t)
    two = at("127.0.0.2")
    three = at("127.0.0.3", two.port)
    m.says(app=["127.0.0.2"])
    gate = t.headgate(proxy_site(f"http://app.test:{two.port}"), workers=1)
    assert gate.get("/").status == 200
    m.says(app=["127.0.0.3"])
    os.kill(gate.agents()[0], signal.SIGKILL)
    assert gate.get("/").status == 200
    wait_for("what its successor found", lambda: list(states(gate)) == ["127.0.0.3"])
    assert gate.get("/").status == 200 and three.count


# ---- ejection

def refuse(backend):
    """The backend's port stays its own, but nobody listens."""
    backend.close()


@case(both=True)
def test_ejected_and_back(t):
    """One of two dies: no request fails, it is ejected with its cause, logged once; when it is back it serves again."""
    one, two = at("127.0.0.1"), at("127.0.0.1")
    t.defer(one.close)
    gate = t.headgate(site([f"http://127.0.0.1:{one.port}", f"http://127.0.0.1:{two.port}"]), workers=1)
    with gate.tls() as c:
        for _ in range(10):
            assert c.get("/").status == 200
        two.close()

        def ejected():
            assert c.get("/").status == 200
            return [i for i in instances(gate) if i["state"] == "ejected"]
        out = wait_for("the ejection", ejected)[0]
        assert out["address"].endswith(f":{two.port}") and "refused" in out["last_failure"] and out["ejected_by"] == 1, out
        assert "ejected" in gate.cli("status").stdout
        back = at("127.0.0.1", two.port)
        t.defer(back.close)

        def returned():
            assert c.get("/").status == 200
            return back.count
        wait_for("its return", returned)
        wait_for("status ready", lambda: c.get("/") and set(i["state"] for i in instances(gate)) == {"ready"})
    gate.wait_log("serves again")
    assert gate.log().count("is ejected") >= 1


@case()
def test_all_ejected(t):
    """When every instance is ejected requests still go to one of them: nothing is refused unasked."""
    one = at("127.0.0.1")
    gate = t.headgate(site([f"http://127.0.0.1:{one.port}"]), workers=1)
    assert gate.get("/").status == 200
    one.close()
    wait_for("the ejection", lambda: gate.get("/").status == 502 and instances(gate)[0]["state"] == "ejected")
    back = at("127.0.0.1", one.port)
    t.defer(back.close)
    wait_for("a served request", lambda: gate.get("/").status == 200)
    assert instances(gate)[0]["state"] == "ready"


@case()
def test_garbage_is_ejected(t):
    """An instance that answers what is no HTTP is ejected: the other one serves."""
    one = t.backend()

    def garbage(peer, req):
        peer.backend.whole(peer, req)
        peer.send(b"\x00\x01garbage\r\n\r\n")
        return False
    two = t.backend(garbage)
    gate = t.headgate(site([one.url, two.url]), workers=1)
    seen = [gate.get("/").status for _ in range(12)]
    assert seen.count(502) == 3 and seen[-4:] == [200] * 4 or two.count <= 4, seen
    out = [i for i in instances(gate) if i["state"] == "ejected"]
    assert len(out) == 1 and out[0]["address"].endswith(str(two.port)), instances(gate)


@case()
def test_error_statuses_are_no_failure(t):
    """A backend that answers 500 works as HTTP: it is not ejected."""
    b = t.backend()
    gate = t.headgate(proxy_site(b.url), workers=1)
    for _ in range(8):
        assert gate.get("/status/500").status == 500
    assert instances(gate)[0]["state"] == "ready"


@case()
def test_connect_timeout_goes_elsewhere(t):
    """An address that does not answer at all costs its connect timeout, then the other one is asked."""
    full = socket.socket()
    full.bind(("127.0.0.1", 0))
    full.listen(0)
    fillers = []
    for _ in range(3):      # the kernel queues backlog + 1, then drops SYNs
        s = socket.socket()
        s.setblocking(False)
        s.connect_ex(full.getsockname())
        fillers.append(s)
    t.defer(lambda: [s.close() for s in fillers + [full]])
    good = t.backend()
    config = site([f"http://127.0.0.1:{full.getsockname()[1]}", good.url]).replace("    https: both\n", "    https: both\n    timeouts: { connect: 200ms }\n")
    gate = t.headgate(config, workers=1)
    for _ in range(4):
        assert gate.get("/").status == 200
    assert good.count == 4


# ---- looks

@case()
def test_looks_by_http(t):
    """With `ready: { http }` an instance that answers 500 there gets no requests until it is well again; Host is its URL's."""
    well, seen = threading.Event(), []
    well.set()

    def behave(peer, req):
        peer.backend.whole(peer, req)
        if req.path == "/healthz":
            seen.append(req.get("host"))
            peer.reply(200 if well.is_set() else 500)
        else:
            peer.reply(200, (), b"fine")
    one, two = t.backend(behave), t.backend(behave)
    extra = ", ready: { http: /healthz }, health: { interval: 50ms, failures: 2 }, wait_ready: 100ms"
    gate = t.headgate(site([one.url, two.url], extra), workers=1)
    wait_for("looks at both", lambda: len(set(seen)) == 2)
    assert set(seen) == {f"127.0.0.1:{one.port}", f"127.0.0.1:{two.port}"}
    well.clear()
    wait_for("both unready", lambda: [i["state"] for i in instances(gate)] == ["unready"] * 2)
    assert "status 5xx" in instances(gate)[0]["last_error"]
    assert gate.get("/").status == 503
    well.set()
    wait_for("both ready", lambda: [i["state"] for i in instances(gate)] == ["ready"] * 2)
    assert gate.get("/").body == b"fine"


@case()
def test_looks_come_and_go_with_reload(t):
    """Looks begin and end with the configuration, at instances that stay; without looks nobody is unready."""
    b = at("127.0.0.1")
    gate = t.headgate(proxy_site(f"http://127.0.0.1:{b.port}"), workers=1)
    assert gate.get("/").status == 200
    first, connections = instances(gate)[0]["id"], b.connections
    gate.reload_ok(proxy_site(f"http://127.0.0.1:{b.port}", service_extra=", health: { interval: 50ms, failures: 1 }"))
    wait_for("looks", lambda: b.connections > connections + 1)
    b.close()
    wait_for("unready", lambda: instances(gate)[0]["state"] == "unready")
    gate.reload_ok(proxy_site(f"http://127.0.0.1:{b.port}"))
    wait_for("ready as it is", lambda: instances(gate)[0]["state"] in ("ready", "ejected"))
    assert instances(gate)[0]["id"] == first


@case()
def test_changed_addresses(t):
    """A reload that changes the list: instances that stay keep their connections, others come and go."""
    one, two, three = t.backend(), t.backend(), t.backend()
    gate = t.headgate(site([one.url, two.url]), workers=1)
    with gate.tls() as c:
        for _ in range(4):
            assert c.get("/").status == 200
        gate.reload_ok(site([two.url, three.url]))
        wait_for("the change", lambda: {i["address"] for i in instances(gate)} == {f"127.0.0.1:{two.port}", f"127.0.0.1:{three.port}"})
        count = one.count
        for _ in range(10):
            assert c.get("/").status == 200
        assert one.count == count and two.connections == 1 and three.count >= 3
