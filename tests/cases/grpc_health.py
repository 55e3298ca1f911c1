"""
Servers of grpc.health.v1.Health, run by PYTHON: `grpc_health.py serve LISTEN FILE` is a real one (grpcio), `grpc_health.py raw LISTEN`
answers SERVING by hand, on a socket that it is handed too. FILE has what Check answers, a line a service: `NAME=STATUS`, where STATUS is a
ServingStatus or a grpc-status. In the tests' own process Raw says any bytes.

grpc.health.v1: Check(HealthCheckRequest { string service = 1; }) returns HealthCheckResponse { ServingStatus status = 1; }.
"""
import os
import socket
import sys
import threading
import time

import h2wire
from h2wire import DATA, END_HEADERS, END_STREAM, HEADERS, SETTINGS, frame, headers_frame, literal, settings_frame

SERVING = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"]


def serve(address, path):
    from concurrent import futures

    import grpc

    def check(request, context):
        name = request[2:].decode()     # names of the tests have less than 128 bytes
        with open(path) as f:
            known = dict(line.strip().split("=") for line in f)
        status = known.get(name, "NOT_FOUND")
        print(f"asked for <{name}>: {status}, deadline {context.time_remaining() < 60}", flush=True)
        if status not in SERVING:
            context.abort(grpc.StatusCode[status], "made to fail")
        return bytes([8, SERVING.index(status)]) if status != "UNKNOWN" else b""

    class Handlers(grpc.GenericRpcHandler):
        METHODS = {
            "/grpc.health.v1.Health/Check": grpc.unary_unary_rpc_method_handler(check, None, None),
            "/test.Echo/Unary": grpc.unary_unary_rpc_method_handler(lambda r, c: b"%d" % os.getpid(), None, None),
        }

        def service(self, details):
            return self.METHODS.get(details.method)

    server = grpc.server(futures.ThreadPoolExecutor(8), handlers=(Handlers(),), options=[("grpc.so_reuseport", 0)], compression=grpc.Compression.Gzip)
    assert server.add_insecure_port(address), f"cannot listen on {address}"
    server.start()
    print("serving", flush=True)
    server.wait_for_termination()


# --- by hand

GRPC = [(":status", "200"), ("content-type", "application/grpc")]
YES, OK = b"\0\0\0\0\2\x08\1", [("grpc-status", "0")]


def block(fields, **kw):
    """Literals; huffman and index as in h2wire.literal."""
    return b"".join(literal(n, v, **kw) for n, v in fields)


def head(fields=GRPC, last=False, **kw):
    return headers_frame(1, block(fields, **kw), END_HEADERS | (END_STREAM if last else 0))


def data(message=YES, flags=0):
    return frame(DATA, flags, 1, message)


def trailers(fields=OK, **kw):
    return head(fields, True, **kw)


GOOD = settings_frame() + head() + data() + trailers()


class Raw:
    """
    A server that says `answer` (bytes, or a list of them, each in a send of its own) once it has the whole call. `close`: and closes, else
    it waits for the peer to do so. What it says to the next connection can be changed.
    """

    def __init__(self, sock=None, answer=GOOD, close=False):
        self.answer, self.close_after, self.calls = answer, close, []
        self.sock = sock or socket.create_server(("127.0.0.1", 0))
        self.sock.listen(64)
        self.url = None if sock else "http://127.0.0.1:%d" % self.sock.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def say(self, answer, close=False):
        self.answer, self.close_after = answer, close

    def accept(self):
        while True:
            try:
                peer, _ = self.sock.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(peer,), daemon=True).start()

    def serve(self, peer):
        answer, close = self.answer, self.close_after
        try:
            if peer.family != socket.AF_UNIX:
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.read_call(peer)
            for piece in [answer] if isinstance(answer, bytes) else answer:
                peer.sendall(piece)
            if close:
                peer.shutdown(socket.SHUT_WR)       # a close with bytes unread would be a reset
            while peer.recv(65536):
                pass
        except OSError:
            pass
        peer.close()

    def read_call(self, peer):
        def take(n):
            out = b""
            while len(out) < n:
                got = peer.recv(n - len(out))
                if not got:
                    raise OSError("gone")
                out += got
            return out
        assert take(len(h2wire.PREFACE)) == h2wire.PREFACE
        call = {}
        while True:
            raw = take(9)
            kind, flags = raw[3], raw[4]
            payload = take(int.from_bytes(raw[:3], "big"))
            if kind == SETTINGS and not flags:
                call["settings"] = {int.from_bytes(payload[i:i + 2], "big"): int.from_bytes(payload[i + 2:i + 6], "big") for i in range(0, len(payload), 6)}
            elif kind == HEADERS:
                call["fields"] = h2wire.Decoder().decode(payload)
            elif kind == DATA:
                call["message"] = payload
                if flags & END_STREAM:
                    self.calls.append(call)
                    return

    def close(self):
        self.sock.close()


def main():
    if sys.argv[1] == "serve":
        serve(*sys.argv[2:])
    else:
        import service
        Raw(service.listening(sys.argv[2]))
        while True:
            time.sleep(1000)


if __name__ == "__main__":
    main()
