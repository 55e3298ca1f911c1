"""
probe.Probe on Debian's python3-grpcio, as tests/node has it in JavaScript: `probe_grpcio.py serve ADDRESS`, and
`probe_grpcio.py client ADDRESS CA`, which reads a call a line as JSON and answers each with a line.
"""
import json
import os
import re
import signal
import sys
import threading

import grpc

SERVICE = "probe.Probe"


# --- message Note { string text = 1; uint32 n = 2; }

def varint(v):
    out = b""
    while v > 0x7f:
        out += bytes([v & 0x7f | 0x80])
        v >>= 7
    return out + bytes([v])


def lengthed(tag, data):
    return bytes([tag]) + varint(len(data)) + data if data else b""


def encode(note):
    return lengthed(0x0a, note.get("text", "").encode()) + (b"\x10" + varint(note["n"]) if note.get("n") else b"")


def decode(data):
    note, i = {"text": "", "n": 0}, 0

    def number():
        nonlocal i
        v = shift = 0
        while True:
            b = data[i]
            i += 1
            v |= (b & 0x7f) << shift
            shift += 7
            if not b & 0x80:
                return v
    while i < len(data):
        tag = data[i]
        i += 1
        if tag == 0x0a:
            n = number()
            assert i + n <= len(data), "a Note that is cut"
            note["text"] = data[i:i + n].decode()
            i += n
        else:
            assert tag == 0x10, f"a Note with tag {tag}"
            note["n"] = number()
    return note


# --- the server; node_server.js says what the methods do

SAID = "made to fail: ä%"


def details(code):
    any_ = lengthed(0x0a, b"type.googleapis.com/probe.Note") + lengthed(0x12, encode({"text": "why", "n": 7}))
    return bytes([0x08, code]) + lengthed(0x12, SAID.encode()) + lengthed(0x1a, any_)


def code_of(number):
    return next(c for c in grpc.StatusCode if c.value[0] == number)


def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)


class Probe:
    def __init__(self):
        self.live, self.lock = 0, threading.Lock()

    def change(self, by):
        with self.lock:
            self.live += by

    def waits(self, context):
        """Counts a call until its end, of which only the callback is sure to hear: a generator whose call is over is not resumed."""
        gone = threading.Event()
        self.change(1)

        def end():
            self.change(-1)
            gone.set()
        if not context.add_callback(end):
            end()
        return gone

    def Unary(self, note, context):
        if note["text"] == "die":
            die()
        return {"text": note["text"], "n": note["n"] + 1}

    def Fail(self, note, context):
        if note["text"] == "late":
            context.send_initial_metadata((("x-begin", "1"),))
        context.set_trailing_metadata((("x-why", "because"), ("grpc-status-details-bin", details(note["n"]))))
        context.abort(code_of(note["n"]), SAID)

    def FailAfter(self, note, context):
        yield {"text": "one", "n": 1}
        self.Fail({"text": "", "n": note["n"]}, context)

    def Meta(self, note, context):
        echo = [(k, v) for k, v in context.invocation_metadata() if k.startswith("x-echo")]
        context.send_initial_metadata(echo + [("x-two", "a"), ("x-two", "b")])
        context.set_trailing_metadata([(k.replace("x-echo", "x-tail"), v) for k, v in echo] + [("x-tail-two", "a"), ("x-tail-two", "b")])
        return {}

    def Wait(self, note, context):
        self.waits(context).wait()
        return {}

    def Live(self, note, context):
        return {"n": self.live}

    def Exit(self, note, context):
        die()

    def Count(self, note, context):
        for i in range(note["n"]):
            yield {"text": note["text"], "n": i}

    def Hang(self, note, context):
        gone = self.waits(context)
        yield {"text": "first", "n": 1}
        gone.wait()

    def Flood(self, note, context):
        while context.is_active():
            yield {"text": "x" * 100000, "n": 1}

    def Sum(self, notes, context):
        n = 0
        for note in notes:
            if note["text"] == "die":
                die()
            if note["text"] == "enough":
                return {"text": "enough", "n": n}
            if note["text"] == "no":
                self.Fail({"text": "", "n": 9}, context)
            n += note["n"]
        return {"text": "sum", "n": n}

    def Chat(self, notes, context):
        yield from notes


KINDS = {"FailAfter": "unary_stream", "Count": "unary_stream", "Hang": "unary_stream", "Flood": "unary_stream", "Sum": "stream_unary", "Chat": "stream_stream"}


class Handlers(grpc.GenericRpcHandler):
    def __init__(self):
        self.probe = Probe()

    def service(self, details):
        service, _, method = details.method.strip("/").rpartition("/")
        if service != SERVICE or not hasattr(Probe, method) or not method[0].isupper():
            return None
        make = getattr(grpc, KINDS.get(method, "unary_unary") + "_rpc_method_handler")
        return make(getattr(self.probe, method), decode, encode)


def serve(address):
    from concurrent import futures
    server = grpc.server(futures.ThreadPoolExecutor(32), handlers=(Handlers(),), options=[
        ("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1), ("grpc.so_reuseport", 0)])
    assert server.add_insecure_port(address), f"cannot listen on {address}"
    server.start()
    print("serving", flush=True)
    server.wait_for_termination()


# --- the client

def seen(pairs):
    """As seen() of note.js."""
    out = {}
    for key, value in pairs or ():
        if re.match("x-|grpc-status-details-bin", key):
            out.setdefault(key, []).append(value if isinstance(value, str) else value.hex())
    return {k: ", ".join(v) for k, v in out.items()}


class Client:
    def __init__(self, address, ca):
        self.address, self.channels = address, {}
        with open(ca, "rb") as f:
            self.creds = grpc.ssl_channel_credentials(f.read())

    def channel(self, host):
        if host not in self.channels:
            self.channels[host] = grpc.secure_channel(self.address, self.creds, options=[
                ("grpc.ssl_target_name_override", host), ("grpc.default_authority", host), ("grpc.max_receive_message_length", -1),
                ("grpc.max_send_message_length", -1), ("grpc.enable_retries", 0), ("grpc.enable_http_proxy", 0)])
        return self.channels[host]

    def begin(self, host, method, notes, metadata=(), timeout=None, open=False, compress=False):
        kind = KINDS.get(method, "unary_unary")
        stub = getattr(self.channel(host), kind)(f"/{SERVICE}/{method}", request_serializer=encode, response_deserializer=decode)
        done = threading.Event()

        def stream():
            yield from notes
            if open:
                done.wait()
        request = stream() if kind.startswith("stream") else notes[0]
        start = stub if kind.endswith("stream") else stub.future
        c = start(request, timeout=timeout, metadata=metadata, compression=grpc.Compression.Gzip if compress else None)
        c.add_done_callback(lambda _: done.set())
        return c, kind

    def run(self, spec):
        notes = [{"text": "x" * n["size"], "n": n["n"]} if "size" in n else n for n in spec["notes"]]
        metadata = [(k, bytes.fromhex(v) if k.endswith("-bin") else v) for k, v in spec.get("metadata", ())]
        timeout = spec["timeout"] / 1000 if spec.get("timeout") else None
        c, kind = self.begin(spec["host"], spec["method"], notes, metadata, timeout, spec.get("open", False), spec.get("compress", False))
        got = []
        while spec.get("when_live") and not self.begin(spec["host"], "Live", [{}])[0].result()["n"]:
            pass
        if spec.get("when_live"):
            c.cancel()
        try:
            for note in c if kind.endswith("stream") else [c.result()]:
                got.append({"size": len(note["text"]), "n": note["n"]} if len(note["text"]) > 1000 else note)
                if len(got) == 1 and spec.get("at_first") == "cancel":
                    c.cancel()
                if len(got) == 1 and spec.get("at_first") == "kill":
                    self.begin(spec["host"], "Exit", [{}])
        except grpc.RpcError:
            pass        # the code says it too
        except grpc.FutureCancelledError:
            pass
        return {"code": c.code().name, "message": c.details(), "head": seen(c.initial_metadata()), "tail": seen(c.trailing_metadata()),
                "got": got[:1] if spec.get("flood") else got}


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    client = Client(*sys.argv[2:])
    for line in sys.stdin:
        print(json.dumps(client.run(json.loads(line))), flush=True)
