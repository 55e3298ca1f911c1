"""
An HTTP/2 backend by hand, on the frames of h2wire.py: each behaviour is a function that gets a request of its own thread
and may send any frame, also wrong ones. It keeps what it was told, so that cases can ask what really reached a backend.
"""
import socket
import struct
import threading

from h2wire import *
from wire import GUARD


class Request:
    """A request as it comes; `body` grows until `ended`."""

    def __init__(self, conn, sid, fields):
        self.conn, self.sid, self.fields = conn, sid, fields
        self.body, self.ended, self.reset, self.trailers, self.reading = bytearray(), False, None, None, True
        self.chunks = []

    def get(self, name, default=None):
        return next((v for n, v in self.fields if n == name), default)

    @property
    def path(self):
        return self.get(":path")

    def wait(self, probe):
        """Until probe(self) holds, or the stream or the connection is gone: returns whether it holds."""
        with self.conn.changed:
            self.conn.changed.wait_for(lambda: probe(self) or self.reset is not None or self.conn.gone, GUARD)
            return bool(probe(self))

    def whole(self):
        self.wait(lambda r: r.ended)
        return bytes(self.body)

    def wait_reset(self):
        with self.conn.changed:
            self.conn.changed.wait_for(lambda: self.reset is not None or self.conn.gone, GUARD)
        return self.reset

    # what it answers

    def head(self, status=200, fields=(), end=False):
        self.conn.send(headers_frame(self.sid, encode([(":status", str(status)), *fields]), END_HEADERS | (END_STREAM if end else 0)))

    def data(self, data, end=False):
        """With regard to the windows, in frames of 16 KiB."""
        data = bytes(data)
        while True:
            n = self.conn.room(self.sid, min(len(data), 16384))
            piece, data = data[:n], data[n:]
            self.conn.send(frame(DATA, END_STREAM if end and not data else 0, self.sid, piece))
            if not data:
                return

    def end(self, trailers=None):
        if trailers is None:
            self.conn.send(frame(DATA, END_STREAM, self.sid))
        else:
            self.conn.send(headers_frame(self.sid, encode(trailers), END_HEADERS | END_STREAM))

    def rst(self, code):
        self.conn.send(rst_frame(self.sid, code))

    def reply(self, status=200, fields=(), body=b"", trailers=None):
        bare = not body and trailers is None
        self.head(status, fields, end=bare)
        if body:
            self.data(body, end=trailers is None)
        if trailers is not None:
            self.end(trailers)


class H2Conn:
    def __init__(self, sock, backend):
        self.sock, self.backend = sock, backend
        self.lock, self.changed = threading.Lock(), threading.Condition()
        self.requests, self.gone, self.pings = {}, False, 0
        self.window, self.windows, self.initial = 65535, {}, 65535
        self.decoder, self.buf = Decoder(), bytearray()

    def send(self, data):
        with self.lock:
            try:
                self.sock.sendall(data)
            except OSError:
                pass

    def room(self, sid, want):
        if not want:
            return 0
        with self.changed:
            def least():
                return min(self.window, self.windows.get(sid, self.initial))
            self.changed.wait_for(lambda: least() > 0 or self.gone or self.requests[sid].reset is not None, GUARD)
            if self.gone or self.requests[sid].reset is not None:
                raise ConnectionError("nobody takes it any more")
            n = min(want, least())
            self.window -= n
            self.windows[sid] = self.windows.get(sid, self.initial) - n
            return n

    def need(self, n):
        while len(self.buf) < n:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError
            self.buf += data
        out, self.buf = bytes(self.buf[:n]), self.buf[n:]
        return out

    def run(self):
        try:
            if self.backend.context:
                self.sock = self.backend.context.wrap_socket(self.sock, server_side=True)
            assert self.need(len(PREFACE)) == PREFACE, "no preface"
            self.send(settings_frame(self.backend.settings))
            while True:
                head = self.need(9)
                payload = self.need(int.from_bytes(head[:3], "big"))
                self.frame(head[3], head[4], int.from_bytes(head[5:], "big"), payload)
        except (OSError, EOFError):
            pass
        except Exception as e:      # noqa: what headgate sent wrong must fail the case
            self.backend.troubles.append(repr(e))
        with self.changed:
            self.gone = True
            self.changed.notify_all()
        self.sock.close()

    def frame(self, kind, flags, sid, payload):
        with self.changed:
            if kind == HEADERS:
                assert flags & END_HEADERS and not flags & PADDED, "heads in one frame are all that headgate sends here"
                fields = [(as_text(n), as_text(v)) for n, v in self.decoder.decode(payload)]
                self.on_headers(sid, fields, flags & END_STREAM)
            elif kind == DATA:
                self.on_data(self.requests[sid], payload, flags & END_STREAM)
            elif kind == RST and sid in self.requests:
                self.requests[sid].reset = struct.unpack(">I", payload)[0]
            elif kind == SETTINGS and not flags & ACK:
                for k, v in struct.iter_unpack(">HI", payload):
                    if k == INITIAL_WINDOW:
                        for s in self.windows:
                            self.windows[s] += v - self.initial
                        self.initial = v
                self.send(settings_frame(flags=ACK))
            elif kind == PING and not flags & ACK:
                self.pings += 1
                self.send(ping_frame(payload, ACK))
            elif kind == WINDOW:
                n = struct.unpack(">I", payload)[0]
                if sid:
                    self.windows[sid] = self.windows.get(sid, self.initial) + n
                else:
                    self.window += n
            self.changed.notify_all()

    def on_headers(self, sid, fields, end):
        r = self.requests.get(sid)
        if r:
            r.trailers, r.ended = fields, True
            return
        r = self.requests[sid] = Request(self, sid, fields)
        r.ended = bool(end)
        with self.backend.lock:
            self.backend.requests.append(r)
        threading.Thread(target=self.behave, args=(r,), daemon=True).start()

    def on_data(self, r, payload, end):
        r.body += payload
        r.chunks.append(len(payload))
        r.ended = r.ended or bool(end)
        if payload and self.backend.reads:
            self.give(r, len(payload))

    def give(self, r, n):
        self.send(window_frame(0, n) + (b"" if r.ended else window_frame(r.sid, n)))

    def behave(self, r):
        try:
            self.backend.behave(r)
        except ConnectionError:
            pass
        except Exception as e:      # noqa
            self.backend.troubles.append(repr(e))


def as_text(b):
    return b if isinstance(b, str) else bytes(b).decode("latin-1")


class H2Backend:
    """Listens on a port of its own. reads: gives window for what it takes. context: speaks TLS."""

    def __init__(self, behave, settings=(), reads=True, context=None):
        self.behave, self.settings, self.reads, self.context = behave, settings, reads, context
        self.requests, self.conns, self.troubles, self.lock = [], [], [], threading.Lock()
        self.sock = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self.sock.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    @property
    def url(self):
        return f"{'https' if self.context else 'http'}://127.0.0.1:{self.port}"

    def accept(self):
        while True:
            try:
                sock, _ = self.sock.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            conn = H2Conn(sock, self)
            with self.lock:
                self.conns.append(conn)
            threading.Thread(target=conn.run, daemon=True).start()

    def cut(self):
        """All connections end at once, without a word."""
        for c in self.conns:
            try:
                c.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def deafen(self):
        """Nobody listens any more; a plain close would wait for the thread that accepts."""
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.sock.close()

    def close(self):
        self.deafen()
        self.cut()
        assert not self.troubles, self.troubles
