"""Backends of raw TCP, in threads of the test: what each connection does is a function of the case's own."""
import os
import socket
import ssl
import struct
import threading


def read_all(sock):
    """Everything up to the end of the other side."""
    out = b""
    while piece := sock.recv(65536):
        out += piece
    return out


def read_exactly(sock, n):
    out = b""
    while len(out) < n:
        piece = sock.recv(n - len(out))
        assert piece, f"the end after {out!r}"
        out += piece
    return out


def echo(sock):
    while piece := sock.recv(65536):
        sock.sendall(piece)


def reset(sock):
    """Ends with RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


class RawBackend:
    """Calls behave(sock) for each connection, in a thread; its end is that of the connection."""

    def __init__(self, t, behave=echo, unix=None, port=0, tls=None):
        self.listener = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(unix or ("127.0.0.1", port))
        if unix:
            os.chmod(unix, 0o777)
        self.listener.listen(256)
        self.port = None if unix else self.listener.getsockname()[1]
        self.url = f"unix:{unix}" if unix else f"tcp://127.0.0.1:{self.port}"
        self.behave, self.tls = behave, tls
        self.lock = threading.Lock()
        self.accepted, self.ended, self.errors, self.open = 0, 0, [], set()
        threading.Thread(target=self.run, daemon=True).start()
        t.defer(self.close)

    def run(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            with self.lock:
                self.accepted += 1
                self.open.add(sock)
            threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    def serve(self, sock):
        raw = sock
        try:
            if self.tls:
                sock = self.tls.wrap_socket(sock, server_side=True, suppress_ragged_eofs=False)
            self.behave(sock)
        except (OSError, ssl.SSLError) as e:
            self.errors.append(e)
        except AssertionError as e:
            self.errors.append(e)
        finally:
            sock.close()
            with self.lock:
                self.ended += 1
                self.open.discard(raw)

    def close(self):
        self.listener.close()
        with self.lock:
            for sock in self.open:
                try:
                    sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
