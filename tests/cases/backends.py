"""
Helper backends: small HTTP/1.1 servers in threads of the test, that record what reached them and misbehave
on demand, by path. They are on purpose not built on a library: each wrong byte must be possible.
"""
import hashlib
import json
import os
import socket
import struct
import threading
import time

KEEP = 1 << 20
BLOCK = bytes(range(256)) * 1024


class Gone(Exception):
    """The peer closed the connection inside a request."""


class Request:
    def __init__(self, method, target, version, headers, conn_id):
        self.method, self.target, self.version, self.headers = method, target, version, headers
        self.conn_id = conn_id
        self.body, self.size, self.trailers = b"", 0, []
        self.sha = hashlib.sha256()
        self.complete = False

    def all(self, name):
        return [v for n, v in self.headers if n.lower() == name.lower()]

    def get(self, name, default=None):
        values = self.all(name)
        return values[0] if values else default

    @property
    def path(self):
        return self.target.split("?", 1)[0]

    def dump(self):
        return {"method": self.method, "target": self.target, "version": self.version, "headers": self.headers,
                "body": self.body.decode("latin-1"), "size": self.size, "trailers": self.trailers,
                "sha256": self.sha.hexdigest(), "connection": self.conn_id, "pid": os.getpid()}


class Peer:
    """The backend's end of one connection."""

    def __init__(self, sock, conn_id, backend):
        self.sock, self.id, self.backend = sock, conn_id, backend
        self.buf = b""
        self.served = 0

    def fill(self):
        try:
            data = self.sock.recv(262144)
        except OSError:
            data = b""
        self.buf += data
        return bool(data)

    def line(self):
        while b"\n" not in self.buf:
            if not self.fill():
                raise Gone()
        line, _, self.buf = self.buf.partition(b"\n")
        assert line.endswith(b"\r"), f"headgate sent a line without CR: {line!r}"
        return line[:-1].decode("latin-1")

    def fields(self):
        out = []
        while True:
            line = self.line()
            if not line:
                return out
            name, _, value = line.partition(":")
            out.append((name, value.strip()))

    def head(self):
        line = self.line()
        method, target, version = line.split(" ")
        assert version in ("HTTP/1.1", "HTTP/1.0"), line
        return Request(method, target, version, self.fields(), self.id)

    def take(self, req, piece):
        req.size += len(piece)
        req.sha.update(piece)
        if len(req.body) < KEEP:
            req.body += piece

    def exactly(self, req, n, pause):
        while n:
            if not self.buf and not self.fill():
                raise Gone()
            piece, self.buf = self.buf[:n], self.buf[n:]
            n -= len(piece)
            self.take(req, piece)
            if pause:
                time.sleep(pause)

    def body(self, req, pause=0):
        """Reads the request's body whole."""
        te, cl = req.get("transfer-encoding"), req.all("content-length")
        assert len(cl) < 2 and not (te and cl), f"headgate sent doubtful framing: {req.headers}"
        if te:
            assert te == "chunked", te
            while True:
                size = int(self.line().split(";")[0], 16)
                if not size:
                    break
                self.exactly(req, size, pause)
                assert self.line() == ""
            req.trailers = self.fields()
        elif cl:
            self.exactly(req, int(cl[0]), pause)
        req.complete = True
        return req

    def send(self, data):
        self.sock.sendall(data)

    def reply(self, status=200, headers=(), body=b"", reason="OK"):
        if isinstance(body, str):
            body = body.encode()
        head = f"HTTP/1.1 {status} {reason}\r\nContent-Length: {len(body)}\r\n"
        head += "".join(f"{n}: {v}\r\n" for n, v in headers)
        self.send(head.encode("latin-1") + b"\r\n" + body)

    def reset(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def wait_gone(self):
        """Blocks until the other side closes; what it still sends is thrown away."""
        while self.fill():
            self.buf = b""


class Backend:
    """
    behave(peer, request) answers one request (the head is read, the body not); default: by path, as below.
    requests: those that came whole. begun: heads seen. lost: connections that ended inside a request or an answer.
    """

    def __init__(self, behave=None, port=0, unix=None, sock=None, rcvbuf=None):
        self.behave = behave or by_path
        self.lock = threading.Lock()
        self.requests, self.begun, self.lost, self.errors = [], 0, 0, []
        self.connections, self.open, self.closing = 0, 0, False
        self.peers = set()
        self.gate = threading.Event()      # handlers that wait for a word from the test
        self.unix = unix
        if sock:
            self.sock = sock
        elif unix:
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.bind(unix)
            os.chmod(unix, 0o777)
        else:
            self.sock = socket.socket()
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if rcvbuf:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
            self.sock.bind(("127.0.0.1", port))
        self.sock.listen(128)
        if not unix and not sock:
            self.port = self.sock.getsockname()[1]
        self.thread = threading.Thread(target=self.accept, daemon=True)
        self.thread.start()

    @property
    def url(self):
        return f"unix:{self.unix}" if self.unix else f"http://127.0.0.1:{self.port}"

    @property
    def count(self):
        return len(self.requests)

    def targets(self):
        return [r.target for r in self.requests]

    def accept(self):
        while True:
            try:
                sock, _ = self.sock.accept()
            except OSError:
                return
            with self.lock:
                self.connections += 1
                self.open += 1
                peer = Peer(sock, self.connections, self)
                self.peers.add(peer)
            threading.Thread(target=self.serve, args=(peer,), daemon=True).start()

    def serve(self, peer):
        try:
            if peer.sock.family != socket.AF_UNIX:
                peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while peer.buf or peer.fill():
                req = peer.head()
                with self.lock:
                    self.begun += 1
                more = self.behave(peer, req)
                peer.served += 1
                if more is False:
                    break
        except (Gone, OSError):
            with self.lock:
                self.lost += 1
        except Exception as e:      # noqa: an assertion about what headgate sent: the test looks at errors
            self.errors.append(repr(e))
        finally:
            peer.sock.close()
            with self.lock:
                self.open -= 1
                self.peers.discard(peer)

    def whole(self, peer, req, pause=0):
        peer.body(req, pause)
        with self.lock:
            self.requests.append(req)

    def close_peers(self):
        """Ends all kept connections, as a backend does whose idle time is up."""
        with self.lock:
            peers = list(self.peers)
        for p in peers:
            try:
                p.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self):
        self.closing = True
        self.gate.set()
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.sock.close()
        self.close_peers()


def echo(peer, req):
    peer.backend.whole(peer, req)
    body = json.dumps(req.dump()).encode()
    if req.method == "HEAD":
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body))
    else:
        peer.reply(200, [("Content-Type", "application/json")], body)


def send_many(peer, n):
    while n:
        piece = BLOCK[:n] if n < len(BLOCK) else BLOCK
        peer.send(piece)
        n -= len(piece)


def bytes_(peer, req, n):
    """n bytes with Content-Length."""
    peer.backend.whole(peer, req)
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n" % n)
    send_many(peer, n)


def chunked(peer, req, n):
    peer.backend.whole(peer, req)
    peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while n:
        size = min(n, 10000)
        peer.send(b"%x\r\n" % size + BLOCK[:size] + b"\r\n")
        n -= size
    peer.send(b"0\r\n\r\n")


def trailers(peer, req, _):
    peer.backend.whole(peer, req)
    peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
              b"5;ext=1\r\nhello\r\n0\r\nX-Sum: 42\r\nContent-Length: 3\r\n\r\n")


def until_close(peer, req, n):
    """A body that lasts until the connection's end, as HTTP/1.0 has it."""
    peer.backend.whole(peer, req)
    peer.send(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n")
    send_many(peer, n)
    return False


def cut_length(peer, req, n):
    peer.backend.whole(peer, req)
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (n + 1000) + BLOCK[:n])
    return False


def cut_chunked(peer, req, n):
    peer.backend.whole(peer, req)
    peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % n + BLOCK[:n] + b"\r\n")
    return False


def cut_chunk_inside(peer, req, n):
    peer.backend.whole(peer, req)
    peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % (n + 100) + BLOCK[:n])
    return False


def cut_reset(peer, req, n):
    """RST in the middle of a body."""
    peer.backend.whole(peer, req)
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (n + 1000) + BLOCK[:n])
    peer.backend.gate.wait(60)
    peer.reset()
    return False


def bad_chunk(peer, req, n):
    peer.backend.whole(peer, req)
    peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % n + BLOCK[:n] + b"\r\nzz\r\nhello\r\n0\r\n\r\n")
    peer.wait_gone()
    return False


def silent(peer, req, _):
    """Never answers; ends with the other side."""
    peer.backend.whole(peer, req)
    peer.wait_gone()
    return False


def held(peer, req, _):
    """Answers when the test opens the gate."""
    peer.backend.whole(peer, req)
    peer.backend.gate.wait(60)
    peer.reply(200, [], b"at last")


def close_at_once(peer, req, _):
    peer.backend.whole(peer, req)
    return False


def early(peer, req, _):
    """Answers before it has read the body, and closes."""
    peer.reply(413, [("Connection", "close")], b"too much", reason="Content Too Large")
    peer.sock.shutdown(socket.SHUT_WR)
    peer.wait_gone()
    return False


def early_keep(peer, req, _):
    """Answers before the body came, then reads it."""
    peer.reply(200, [], b"early")
    peer.backend.whole(peer, req)


def interim(peer, req, _):
    peer.backend.whole(peer, req)
    peer.send(b"HTTP/1.1 103 Early Hints\r\nLink: </x.css>; rel=preload\r\n\r\n")
    peer.reply(200, [], b"final")


def drip(peer, req, n):
    """n bytes, one at a time."""
    peer.backend.whole(peer, req)
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % n)
    for i in range(n):
        peer.send(BLOCK[i % 256:i % 256 + 1])
        time.sleep(0.002)


def slow_read(peer, req, ms):
    """Takes 256 KiB of the body, pauses `ms`, and so on."""
    peer.backend.whole(peer, req, ms / 1000)
    peer.reply(200, [], json.dumps({"size": req.size, "sha256": req.sha.hexdigest()}))


def stalled_read(peer, req, _):
    """Reads the body only when the test opens the gate."""
    peer.backend.gate.wait(60)
    return slow_read(peer, req, 0)


def sink(peer, req, _):
    """Reads the body, tells size and digest."""
    peer.backend.whole(peer, req)
    peer.reply(200, [], json.dumps({"size": req.size, "sha256": req.sha.hexdigest()}))


def hop(peer, req, _):
    """Hop-by-hop fields that must not get through, and one that Connection names."""
    peer.backend.whole(peer, req)
    peer.reply(200, [("Connection", "keep-alive, X-Secret-Hop"), ("Keep-Alive", "timeout=5"), ("X-Secret-Hop", "1"),
                     ("Proxy-Connection", "keep-alive"), ("Upgrade", "h2c"), ("X-End", "2"),
                     ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")], b"hop")


def connection_close(peer, req, _):
    peer.backend.whole(peer, req)
    peer.reply(200, [("Connection", "close")], b"bye")
    return False


def once_then_close(peer, req, _):
    """A good answer that promises keep-alive; then the connection goes."""
    peer.backend.whole(peer, req)
    peer.reply(200, [], b"once")
    return False


def status(peer, req, code):
    peer.backend.whole(peer, req)
    if code in (204, 304):
        peer.send(b"HTTP/1.1 %d X\r\nX-Code: %d\r\n\r\n" % (code, code))
    else:
        peer.reply(code, [], b"status %d" % code, reason="Whatever")


def tail_garbage(peer, req, _):
    """A whole answer with bytes behind it that nobody asked for: the connection is not to be used again."""
    peer.backend.whole(peer, req)
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")


BAD_ANSWERS = {
    "garbage": b"\x00\x01\x02 this is not HTTP \xff\xfe\r\n\r\n",
    "smtp": b"220 mail.example.org ESMTP\r\n",
    "no-version": b"200 OK\r\nContent-Length: 2\r\n\r\nok",
    "bad-status": b"HTTP/1.1 2x0 OK\r\nContent-Length: 2\r\n\r\nok",
    "status-99": b"HTTP/1.1 99 OK\r\nContent-Length: 2\r\n\r\nok",
    "status-long": b"HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok",
    "http2": b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "cl-and-te": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "cl-differs": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
    "cl-bad": b"HTTP/1.1 200 OK\r\nContent-Length: 2x\r\n\r\nok",
    "cl-negative": b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
    "cl-overflow": b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nok",
    "te-gzip": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok",
    "te-double": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "space-colon": b"HTTP/1.1 200 OK\r\nX-A : b\r\nContent-Length: 2\r\n\r\nok",
    "fold": b"HTTP/1.1 200 OK\r\nX-A: b\r\n c\r\nContent-Length: 2\r\n\r\nok",
    "nul": b"HTTP/1.1 200 OK\r\nX-A: b\x00c\r\nContent-Length: 2\r\n\r\nok",
    "bare-cr": b"HTTP/1.1 200 OK\r\nX-A: b\rc\r\nContent-Length: 2\r\n\r\nok",
    "bare-lf": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    "half-head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "switch": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nraw",
    "huge-head": b"HTTP/1.1 200 OK\r\n" + b"X-A: " + b"a" * 200000 + b"\r\n\r\n",
    "endless-1xx": b"HTTP/1.1 100 Continue\r\n\r\n" * 2000,
    "nothing": b"",
}


def bad(peer, req, name):
    peer.backend.whole(peer, req)
    peer.send(BAD_ANSWERS[name])
    return False


PATHS = {"bytes": bytes_, "chunked": chunked, "trailers": trailers, "until-close": until_close, "cut-length": cut_length,
         "cut-chunked": cut_chunked, "cut-chunk-inside": cut_chunk_inside, "cut-reset": cut_reset, "bad-chunk": bad_chunk,
         "silent": silent, "held": held, "close": close_at_once, "early": early, "early-keep": early_keep,
         "interim": interim, "drip": drip, "slow-read": slow_read, "stalled-read": stalled_read, "sink": sink,
         "hop": hop, "connection-close": connection_close, "once": once_then_close, "status": status,
         "tail-garbage": tail_garbage, "bad": bad}


def by_path(peer, req):
    """/NAME/N does NAME with the number N; anything else is echoed."""
    parts = req.path.strip("/").split("/")
    behave = PATHS.get(parts[0])
    if not behave:
        return echo(peer, req)
    arg = parts[1] if len(parts) > 1 else "0"
    return behave(peer, req, int(arg) if arg.isdigit() else arg)
