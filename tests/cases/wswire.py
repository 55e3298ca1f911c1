"""
WebSocket by hand (RFC 6455, RFC 8441): frames that are exactly the bytes given; a client over an HTTP/1.1 connection or an HTTP/2 stream; a
backend that behaves by path. On purpose not built on a library: each wrong byte must be possible.
"""
import base64
import hashlib
import os
import socket
import ssl
import struct
import sys
import threading

from backends import Backend, by_path
from h2wire import CANCEL, DATA, END_STREAM as H2_END, NO_ERROR, Ended, frame as h2_frame, rst_frame
from wire import GUARD

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
KEY = "dGhlIHNhbXBsZSBub25jZQ=="        # RFC 6455 1.3
GOING_AWAY, RESTART = 1001, 1012


def accept_of(key):
    return base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()).decode()


def ws_frame(opcode, payload=b"", mask=False, fin=True, length=None):
    """length: how many bytes long the length is (0, 2, 8); None: the shortest."""
    if isinstance(payload, str):
        payload = payload.encode()
    n = len(payload)
    head = bytes([(0x80 if fin else 0) | opcode])
    flag = 0x80 if mask else 0
    if length is None:
        length = 0 if n < 126 else 2 if n < 65536 else 8
    head += bytes([flag | n]) if length == 0 else bytes([flag | 126]) + struct.pack(">H", n) if length == 2 else bytes([flag | 127]) + struct.pack(">Q", n)
    if mask:
        key = os.urandom(4)
        head += key
        payload = bytes(b ^ key[i & 3] for i, b in enumerate(payload)) if n < 65536 else xor(payload, key)
    return head + payload


def xor(data, key):
    n = len(data)
    whole = int.from_bytes(key * (n // 4 + 1), "big") >> 8 * ((n // 4 + 1) * 4 - n)
    return (int.from_bytes(data, "big") ^ whole).to_bytes(n, "big")


def close_frame(code, why="", mask=False):
    return ws_frame(CLOSE, struct.pack(">H", code) + why.encode(), mask)


class Frames:
    """Reads frames out of what fill() brings into .buf (bytes); None at the end."""

    def next(self):
        """(opcode, payload) or None at the end; AssertionError when it ends inside a frame."""
        if not self.want(2):
            assert not self.buf, f"the end inside a frame: {self.buf!r}"
            return None
        n, at = self.buf[1] & 127, 2
        if n == 126:
            assert self.want(4)
            n, at = struct.unpack(">H", self.buf[2:4])[0], 4
        elif n == 127:
            assert self.want(10)
            n, at = struct.unpack(">Q", self.buf[2:10])[0], 10
        key = None
        if self.buf[1] & 128:
            assert self.want(at + 4)
            key, at = self.buf[at:at + 4], at + 4
        assert self.want(at + n), f"the end inside a frame of {n} bytes"
        opcode, payload, self.buf = self.buf[0] & 15, self.buf[at:at + n], self.buf[at + n:]
        return opcode, bytes(xor(payload, key) if key else payload)

    def want(self, n):
        while len(self.buf) < n:
            if not self.fill():
                return False
        return True


# --- clients

class Ws1(Frames):
    """Over HTTP/1.1, on a wire.Conn."""

    def __init__(self, conn, path="/ws/echo", headers=(), early=b"", open=True, host="localhost", key=KEY):
        self.conn, self.buf = conn, b""
        conn.send(upgrade_request(path, headers, host, key) + early)
        if open:
            self.open(key)

    def open(self, key=KEY):
        a = self.conn.answer()
        assert a.status == 101, a
        assert a.get("upgrade").lower() == "websocket" and a.get("connection").lower() == "upgrade", a.headers
        assert a.get("sec-websocket-accept") == accept_of(key) and not a.get("content-length") and not a.get("transfer-encoding"), a.headers
        self.answer = a
        self.buf, self.conn.buf = self.conn.buf, b""
        return self

    def fill(self):
        data = self.conn.read()
        self.buf += data
        return bool(data)

    def send(self, opcode, payload=b"", **kw):
        self.raw(ws_frame(opcode, payload, mask=True, **kw))

    def raw(self, data):
        self.conn.send(data)

    def end(self):
        """Ends our side and no more."""
        sock = self.conn.sock
        if not self.conn.tls:
            sock.shutdown(socket.SHUT_WR)
            return
        sock.settimeout(0)
        try:
            sock.unwrap()           # sends close_notify; what the server says next is still to be read
        except ssl.SSLWantReadError:
            pass
        sock.settimeout(GUARD)

    @property
    def clean(self):
        return self.conn.clean_end

    def still_open(self):
        return self.conn.still_open()

    def reset(self):
        self.conn.reset()

    def close(self):
        self.conn.close()


def upgrade_request(path="/ws/echo", headers=(), host="localhost", key=KEY, version="13"):
    head = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    if key is not None:
        head += f"Sec-WebSocket-Key: {key}\r\n"
    if version is not None:
        head += f"Sec-WebSocket-Version: {version}\r\n"
    return (head + "".join(f"{n}: {v}\r\n" for n, v in headers) + "\r\n").encode()


class Ws2(Frames):
    """Over a stream of an h2wire.H2: extended CONNECT."""

    def __init__(self, h2, path="/ws/echo", headers=(), early=b"", open=True, host="localhost", version="13", end=False):
        self.h2, self.buf, self.host = h2, b"", host
        self.stream = h2.open(connect_fields(path, headers, host, version=version), early or None, end=end)
        if open:
            self.open()

    def open(self):
        s = self.h2.head(self.stream)
        assert s.status == 200, s
        assert not s.get("sec-websocket-accept") and not s.get("content-length") and not s.get("upgrade"), s.headers
        return self

    def fill(self):
        s = self.stream
        try:
            self.h2.until(lambda: s.body or s.done)
        except Ended:
            return False
        self.buf, n = self.buf + bytes(s.body), len(s.body)
        del s.body[:]
        return n > 0

    def send(self, opcode, payload=b"", **kw):
        self.raw(ws_frame(opcode, payload, mask=True, **kw))

    def raw(self, data):
        """Also behind the server's END_STREAM, which ends its side only."""
        h, s, at = self.h2, self.stream, 0
        while at < len(data):
            h.until(lambda: s.reset is not None or min(s.send_window, h.send_window) > 0)
            if s.reset is not None:
                raise BrokenPipeError(f"the stream was reset after {at} of {len(data)} bytes")
            n = min(s.send_window, h.send_window, 16384, len(data) - at)
            h.send(h2_frame(DATA, 0, s.id, data[at:at + n]))
            s.send_window -= n
            h.send_window -= n
            at += n

    def end(self):
        self.h2.send(h2_frame(DATA, H2_END, self.stream.id))

    def reset(self, code=CANCEL):
        self.h2.send(rst_frame(self.stream.id, code))

    @property
    def clean(self):
        return self.stream.ended

    def still_open(self):
        return self.h2.quiet() and not self.stream.headers and not self.stream.done

    def close(self):
        self.h2.close()


def connect_fields(path="/ws/echo", headers=(), host="localhost", protocol="websocket", version="13"):
    fields = [(":method", "CONNECT"), (":protocol", protocol), (":scheme", "https"), (":authority", host), (":path", path)]
    if version is not None:
        fields.append(("sec-websocket-version", version))
    return fields + [(n.lower(), v) for n, v in headers]


# --- the backend

def switch(peer, req, extra=(), key=None, more=b""):
    lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade",
             "Sec-WebSocket-Accept: " + accept_of(key or req.get("sec-websocket-key")), *(f"{n}: {v}" for n, v in extra)]
    peer.send("\r\n".join(lines).encode() + b"\r\n\r\n" + more)


class Wire(Frames):
    """The backend's end of a tunnel."""

    def __init__(self, peer):
        self.peer = peer
        self.buf, peer.buf = peer.buf, b""

    def fill(self):
        try:
            data = self.peer.sock.recv(262144)
        except OSError:
            data = b""
        self.buf += data
        return bool(data)

    def send(self, opcode, payload=b""):
        self.peer.send(ws_frame(opcode, payload))


def echo(peer, req):
    switch(peer, req, [("Sec-WebSocket-Protocol", p.split(",")[0].strip()) for p in req.all("sec-websocket-protocol")])
    w = Wire(peer)
    while (f := w.next()):
        opcode, payload = f
        if opcode == CLOSE:
            w.send(CLOSE, payload)
            return
        w.send(PONG if opcode == PING else opcode, payload)


def late(peer, req):
    """Opens when the test says so; what came before that would be too early."""
    peer.backend.gate.wait()
    peer.sock.setblocking(False)
    try:
        peer.backend.early = peer.sock.recv(65536)
    except BlockingIOError:
        peer.backend.early = peer.buf
    peer.sock.setblocking(True)
    echo(peer, req)


def raw_echo(peer, req):
    switch(peer, req)
    while peer.buf or peer.fill():
        data, peer.buf = peer.buf, b""
        peer.send(data)


def flood(peer, req, n):
    """n frames of 64 KiB, then a Close."""
    switch(peer, req)
    block = ws_frame(BINARY, bytes(65536))
    for _ in range(n):
        peer.send(block)
        peer.backend.sent += 65536
    peer.send(close_frame(1000))
    peer.wait_gone()


def sink(peer, req, pause):
    """Counts what comes; `pause`: reads nothing until the test says so."""
    switch(peer, req)
    if pause:
        peer.backend.gate.wait()
    n = len(peer.buf)
    while True:
        peer.buf = b""
        if not peer.fill():
            break
        n += len(peer.buf)
    peer.backend.taken = n


def half(peer, req):
    """Hears the client to its end, then, once the gate is open, says how much that was, then ends."""
    switch(peer, req)
    w = Wire(peer)
    while w.fill():
        pass
    peer.backend.heard = w.buf
    peer.backend.gate.wait()
    w.send(TEXT, b"%d" % len(w.buf))


def first(peer, req, pause=False):
    """Ends its side first, and hears the client to its end; `pause`: once the test says so."""
    switch(peer, req, more=ws_frame(TEXT, b"last"))
    peer.sock.shutdown(socket.SHUT_WR)
    if pause:
        peer.backend.gate.wait()
    w = Wire(peer)
    while w.fill():
        pass
    peer.backend.heard = w.buf
    peer.backend.heard_all.set()


def broken(peer, req):
    """A frame, then RST."""
    switch(peer, req, more=ws_frame(TEXT, b"last"))
    peer.backend.gate.wait()
    peer.reset()


def closing_break(peer, req):
    """A Close frame and RST at once, as servers do that do not wait for the answer."""
    switch(peer, req)
    peer.backend.gate.wait()
    peer.send(ws_frame(TEXT, b"last") + close_frame(1000))
    Wire(peer).next()
    peer.reset()


def hold(peer, req):
    """Half of a frame; its rest when the test says so; then echoes Close."""
    switch(peer, req, more=ws_frame(BINARY, b"x" * 1000)[:500])
    peer.backend.holding.set()
    peer.backend.gate.wait()
    peer.send(ws_frame(BINARY, b"x" * 1000)[500:])
    w = Wire(peer)
    f = w.next()
    peer.backend.said.append(f)
    if f:
        w.send(CLOSE, f[1])


def deaf(peer, req):
    """Takes no notice of anything."""
    switch(peer, req)
    peer.wait_gone()


def unruly(peer, req):
    """Does one of many things, by the first byte of the path's last part."""
    what = req.path[-1]
    if what == "n":         # no answer at all
        return
    if what == "r":
        peer.reset()
        return
    if what == "4":
        peer.reply(400, [], b"no")
        return
    switch(peer, req, more=ws_frame(TEXT, b"first"))
    if what == "s":
        peer.send(ws_frame(BINARY, bytes(70000)))
        peer.reset()
    elif what == "m":       # in the middle of a frame
        peer.send(ws_frame(BINARY, bytes(70000))[:-5])
    elif what == "c":
        peer.send(close_frame(1000))
        peer.reset()
    elif what == "h":
        peer.sock.shutdown(socket.SHUT_WR)
        peer.wait_gone()
    elif what == "p":
        try:
            while True:
                peer.send(ws_frame(BINARY, bytes(65536)))
        except OSError:
            pass
    else:
        while peer.buf or peer.fill():
            data, peer.buf = peer.buf, b""
            peer.send(data)


BAD = {
    "accept": b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n",
    "no-accept": b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    "two-accepts": b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + accept_of(KEY).encode() +
                   b"\r\nSec-WebSocket-Accept: x\r\n\r\n",
    "h2c": b"HTTP/1.1 101 S\r\nUpgrade: h2c\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + accept_of(KEY).encode() + b"\r\n\r\n",
    "no-upgrade": b"HTTP/1.1 101 S\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + accept_of(KEY).encode() + b"\r\n\r\n",
    "no-connection": b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: " + accept_of(KEY).encode() + b"\r\n\r\n",
    "nothing": b"",
    "half-a-head": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: webso",
}


def websocket(peer, req):
    """By path, as above; all else as backends.by_path has it."""
    if not req.path.startswith("/ws/"):
        return by_path(peer, req)
    peer.backend.seen.append(req)
    _, _, name, *more = req.path.split("/")
    if name == "status":
        peer.reply(int(more[0]), [("X-Own", "yes")], b"the backend says no", "Own Words")
        return None
    if name == "bad":
        peer.send(BAD[more[0]])
        return False
    kind = {"echo": echo, "late": late, "raw": raw_echo, "half": half, "broken": broken, "unruly": unruly, "closing": closing_break,
            "hold": hold, "deaf": deaf}.get(name)
    if kind:
        kind(peer, req)
    elif name == "flood":
        flood(peer, req, int(more[0]))
    elif name == "first":
        first(peer, req, bool(more))
    elif name == "sink":
        sink(peer, req, bool(more))
    else:
        peer.reply(404, [], b"")
        return None
    return False


def prepare(b):
    b.seen, b.said, b.sent, b.taken, b.heard, b.early = [], [], 0, None, None, None
    b.heard_all, b.holding = threading.Event(), threading.Event()
    return b


def ws_backend(t, **kw):
    return prepare(t.backend(websocket, **kw))


if __name__ == "__main__":      # as a service: wswire.py 127.0.0.1:PORT
    prepare(Backend(websocket, port=int(sys.argv[1].rpartition(":")[2])))
    threading.Event().wait()
