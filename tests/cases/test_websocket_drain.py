"""WebSockets when what they hang on goes: close 1012 between frames, spread over time, and a bounded wait for the closing handshake."""
from h2wire import h2
from headgate import *
from test_websocket import KINDS, PEER, Gate, misbehave1, misbehave2, nothing_left, roundtrip
from wswire import *

WENT = (CLOSE, struct.pack(">H", RESTART))


class Stopping(Gate):
    """A gate that is told to stop while tunnels stand. shutdown is long: what ends does so by itself."""

    def __init__(self, t, shutdown="60s"):
        super().__init__(t, top={"timeouts": f"{{ shutdown: {shutdown} }}"})

    def stop(self):
        self.gate.proc.send_signal(signal.SIGTERM)

    def ended(self):
        assert self.gate.wait_exit() == 0
        assert "drain time is over" not in self.gate.log() and "connections_cut" not in self.gate.log()


def answered(ws):
    """The client answers a Close as RFC 6455 5.5.1 asks; then the backend ends, in order."""
    ws.raw(close_frame(RESTART, mask=True))
    assert ws.next() is None and ws.clean, ws.clean
    ws.close()


def all_answered(tunnels):
    """Each gets 1012 at a moment of its own, and answers at once."""
    ended = []

    def end(ws):
        assert ws.next() == WENT
        answered(ws)
        ended.append(ws)
    threads = [threading.Thread(target=end, args=(ws,)) for ws in tunnels]
    for th in threads:
        th.start()
    for th in threads:
        th.join()
    assert len(ended) == len(tunnels)


@case()
def test_stop(t):
    """Idle tunnels over each protocol: 1012, whose answer reaches the backend, whose end is the end. headgate waits for no more than that."""
    s = Stopping(t)
    tunnels = [s.ws(row.kind) for row in KINDS]
    for ws in tunnels:
        roundtrip(ws)
    s.stop()
    all_answered(tunnels)
    s.ended()


@case(serial=True)
def test_stop_is_spread(t):
    """Forty tunnels are not told at the same moment."""
    s = Stopping(t)
    tunnels = [s.ws("plain") for _ in range(40)]
    told = {}

    def wait(i, ws):
        assert ws.next() == WENT
        told[i] = time.monotonic()
        answered(ws)
    threads = [threading.Thread(target=wait, args=(i, ws)) for i, ws in enumerate(tunnels)]
    for th in threads:
        th.start()
    s.stop()
    for th in threads:
        th.join()
    s.ended()
    assert len(told) == 40 and max(told.values()) - min(told.values()) > 1, sorted(told.values())


@table(KINDS, setup=lambda t: t)
def test_never_inside_a_frame(t, shared, row):
    """While the backend is in the middle of a frame nothing else is sent; behind its end comes the Close, and its answer reaches the backend."""
    s = Stopping(Sub(t, row.name))
    tunnels = [s.ws(row.kind, "/ws/hold") for _ in range(20)]
    for ws in tunnels:
        assert ws.want(500)
    s.stop()
    s.gate.wait_log("worker drains")
    time.sleep(1.5)             # by now the moment of some has come, and they have no place for it
    for ws in tunnels:
        assert (ws.h2.quiet(0.01) and not ws.stream.body if row.kind == "h2" else ws.conn.still_open(0.01)) and len(ws.buf) == 500
    s.b.gate.set()
    ended = []

    def end(ws):
        assert ws.next() == (BINARY, b"x" * 1000) and ws.next() == WENT
        answered(ws)
        ended.append(ws)
    threads = [threading.Thread(target=end, args=(ws,)) for ws in tunnels]
    for th in threads:
        th.start()
    for th in threads:
        th.join()
    assert len(ended) == 20
    wait_for("the clients' answers at the backend", lambda: len(s.b.said) == 20)
    assert s.b.said == [WENT] * 20
    s.ended()


class Sub:
    """A case's helper for several gates in one table: each has a folder of its own."""

    def __init__(self, t, name):
        self.t, self.name = t, name

    def headgate(self, config, **kw):
        return self.t.headgate(config, name=self.name, **kw)

    def __getattr__(self, name):
        return getattr(self.t, name)


@table(KINDS, setup=lambda t: t)
def test_busy_backend(t, shared, row):
    """A backend that sends without pause: every frame up to the Close is whole."""
    s = Stopping(Sub(t, row.name))
    ws = s.ws(row.kind, "/ws/flood/100000000")
    for _ in range(5):
        assert ws.next() == (BINARY, bytes(65536))
    s.stop()
    n = 0
    while (f := ws.next()) != WENT:
        assert f == (BINARY, bytes(65536)), f and (f[0], len(f[1]))
        n += 1
    ws.raw(close_frame(RESTART, mask=True))
    ws.end()
    assert ws.next() is None and ws.clean
    ws.close()
    s.ended()


@table(KINDS, setup=lambda t: t)
def test_client_that_does_not_answer(t, shared, row):
    """The closing handshake is awaited for a bounded time; then the end comes, in order."""
    s = Stopping(Sub(t, row.name))
    ws = s.ws(row.kind)
    s.stop()
    assert ws.next() == WENT and ws.next() is None and ws.clean
    s.ended()
    ws.close()


@table(KINDS, setup=lambda t: t)
def test_backend_that_does_not_end(t, shared, row):
    """So is a backend that takes no notice."""
    s = Stopping(Sub(t, row.name))
    ws = s.ws(row.kind, "/ws/deaf")
    s.stop()
    assert ws.next() == WENT
    answered(ws)
    s.ended()


@case()
def test_close_under_way(t):
    """Where the backend has said Close already none is added."""
    s = Stopping(t)
    ws = s.ws("plain", "/ws/closing")
    s.b.gate.set()
    assert ws.next() == (TEXT, b"last") and ws.next() == (CLOSE, struct.pack(">H", 1000))
    s.stop()
    assert ws.next() is None and ws.clean
    ws.close()
    s.ended()


@case()
def test_frame_that_never_ends(t):
    """A frame that is never finished is cut in the end: there is no place for a Close."""
    s = Stopping(t)
    ws = s.ws("plain", "/ws/hold")
    s.b.holding.wait()
    ws.want(500)
    s.stop()
    assert not ws.want(501) and not ws.clean
    s.b.gate.set()
    ws.close()
    s.ended()


@case()
def test_restart_of_the_instance(t):
    """`restart` of the service: its tunnels get 1012 and its process ends when they have; new ones are with the successor."""
    gate = t.headgate(run_site(f'["{PYTHON}", "{PEER}", serve, $listen]', service_extra=", ready: { tcp: on }"), workers=1)
    old = [Ws1(gate.tls(), "/who"), Ws1(gate.plain(), "/who"), Ws2(h2(gate), "/who")]

    def pid(ws):
        ws.send(TEXT, b"pid")
        return int(ws.next()[1])
    before = {pid(ws) for ws in old}
    assert len(before) == 1
    done = threading.Thread(target=lambda: gate.cli("restart", "s/app"))
    done.start()
    all_answered(old)
    done.join()
    new = Ws1(gate.tls(), "/who")
    assert pid(new) not in before
    wait_for("the old process's end", lambda: not procs.alive(min(before)))
    new.close()


@case()
def test_handover(t):
    """A service that cannot run twice: its tunnels are told at once, and clients that come again get to the successor."""
    gate = t.headgate(run_site(f'["{PYTHON}", "{PEER}", serve, $listen]', service_extra=", ready: { tcp: on }, strategy: handover"), workers=1)
    ws = Ws1(gate.tls(), "/echo")
    roundtrip(ws)
    done = threading.Thread(target=lambda: gate.cli("restart", "s/app"))
    done.start()
    assert ws.next() == WENT
    answered(ws)
    again = Ws1(gate.tls(), "/echo")
    roundtrip(again)
    done.join()
    again.close()


class Supervised:
    """headgate and a backend that it runs itself, which behaves by path."""

    def __init__(self, t, metrics, extra):
        self.gate = t.headgate(run_site(f'["{PYTHON}", "{os.path.join(HERE, "wswire.py")}", $listen]',
                                        service_extra=f", ready: {{ tcp: on }}{extra}, stop: {{ timeout: 1s }}"),
                               top={"metrics": f'"127.0.0.1:{metrics}"', "limits": "{ per_ip: 0 }", "timeouts": "{ drain: 2s }"})

    def conn(self, kind):
        return self.gate.tls() if kind == "tls" else self.gate.plain()


@table([Row("overlap", extra=""), Row("handover", extra=", strategy: handover")], setup=lambda t: t)
def test_torture(t, shared, row):
    """Hundreds of tunnels that end in every way, while their service is restarted again and again: nothing is left, nobody died."""
    import random
    metrics = t.port()
    s = Supervised(Sub(t, row.name), metrics, row.extra)
    workers = s.gate.workers()
    threads = [threading.Thread(target=f, args=(s, random.Random(i), 60)) for f in (misbehave1, misbehave2) for i in range(3)]
    for th in threads:
        th.start()
    n = 0
    while any(th.is_alive() for th in threads) or n < 3:
        assert s.gate.cli("restart", "s/app").returncode == 0
        n += 1
    for th in threads:
        th.join()
    nothing_left(metrics)
    assert s.gate.workers() == workers
