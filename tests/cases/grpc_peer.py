"""
A gRPC server and client on Debian's python3-grpcio, run by PYTHON as `grpc_peer.py serve ADDRESS` or `grpc_peer.py call`, which reads its
call as JSON.
Messages are plain bytes: what is tested is the way, not protobuf.

Methods of test.Echo: Unary (echoes), Fail (the status that the message names, with details and trailing metadata), Count
(a server stream of so many messages), Sum (a client stream: how many bytes came), Chat (bidirectional: echoes each),
Wait (unary, answers when it is cancelled or after the seconds in the message), Meta (the metadata as JSON), Quiet (a server
stream: one message, a second one when the file named in the message is there), Until (unary, answers when that file is
there), Tick (a server stream without an end: messages of the size in the message). What lasts says when it begins.
"""
import json
import os
import sys
import threading
import time

import grpc


def as_is(b):
    return b


def fail(request, context):
    code = next(c for c in grpc.StatusCode if c.name == request.decode())
    context.set_trailing_metadata((("x-why", "because"), ("x-raw-bin", b"\x00\x01\xff")))
    context.abort(code, "made to fail: ä%")


def count(request, context):
    context.send_initial_metadata((("x-first", "1"),))
    n, _, size = request.decode().partition("x")
    for i in range(int(n)):
        yield (b"%d" % i) if not size else bytes(int(size))


def wait(request, context):
    gone = threading.Event()
    context.add_callback(gone.set)
    cancelled = gone.wait(float(request))
    print("cancelled" if cancelled else "waited", flush=True)
    return b"waited"


def meta(request, context):
    context.set_trailing_metadata((("x-end", "a"), ("x-end", "b"), ("x-sum-bin", b"\xfe\xff")))
    context.send_initial_metadata((("x-begin", "1"), ("x-begin", "2")))
    return json.dumps([[k, v if isinstance(v, str) else "hex:" + v.hex()] for k, v in context.invocation_metadata()]).encode()


def begun(name):
    print("begun " + name, flush=True)


def quiet(request, context):
    yield b"first"
    begun("Quiet")
    while not os.path.exists(request.decode()) and context.is_active():
        time.sleep(0.02)
    yield b"second"


def until(request, context):
    begun("Until")
    while not os.path.exists(request.decode()) and context.is_active():
        time.sleep(0.02)
    return b"done"


def tick(request, context):
    begun("Tick")
    while context.is_active():
        yield bytes(int(request))
        time.sleep(0.01)


def told(name, messages):
    """Passes them on, and tells of the first one."""
    for i, m in enumerate(messages):
        if not i:
            begun(name)
        yield m


class Handlers(grpc.GenericRpcHandler):
    METHODS = {
        "Unary": grpc.unary_unary_rpc_method_handler(lambda r, c: r, as_is, as_is),
        "Fail": grpc.unary_unary_rpc_method_handler(fail, as_is, as_is),
        "Count": grpc.unary_stream_rpc_method_handler(count, as_is, as_is),
        "Sum": grpc.stream_unary_rpc_method_handler(lambda it, c: b"%d" % sum(len(m) for m in told("Sum", it)), as_is, as_is),
        "Chat": grpc.stream_stream_rpc_method_handler(lambda it, c: told("Chat", it), as_is, as_is),
        "Wait": grpc.unary_unary_rpc_method_handler(wait, as_is, as_is),
        "Meta": grpc.unary_unary_rpc_method_handler(meta, as_is, as_is),
        "Quiet": grpc.unary_stream_rpc_method_handler(quiet, as_is, as_is),
        "Until": grpc.unary_unary_rpc_method_handler(until, as_is, as_is),
        "Tick": grpc.unary_stream_rpc_method_handler(tick, as_is, as_is),
    }

    def service(self, details):
        service, _, method = details.method.strip("/").rpartition("/")
        return self.METHODS.get(method) if service.startswith("test.") else None


def serve(address):
    from concurrent import futures
    server = grpc.server(futures.ThreadPoolExecutor(32), handlers=(Handlers(),), options=[
        ("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1), ("grpc.so_reuseport", 0)])
    assert server.add_insecure_port(address), f"cannot listen on {address}"
    server.start()
    print("serving", flush=True)
    server.wait_for_termination()


def channel(address, ca, host="localhost"):
    with open(ca, "rb") as f:
        creds = grpc.ssl_channel_credentials(f.read())
    return grpc.secure_channel(address, creds, options=[
        ("grpc.ssl_target_name_override", host), ("grpc.default_authority", host), ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1), ("grpc.enable_retries", 0), ("grpc.enable_http_proxy", 0)])


def text(pairs):
    return [[k, v if isinstance(v, str) else "hex:" + v.hex()] for k, v in pairs or ()]


def held(messages, path):
    """All of them, and then silence until the file is there."""
    yield from messages
    while not os.path.exists(path):
        time.sleep(0.02)


def call(address, ca, kind, method, messages, timeout=None, metadata=(), cancel=None, hold=None, after=None):
    """
    One call; returns what came as a dict. cancel: after so many messages. hold: a client stream stays open until that
    file is there. after: a unary call of that method follows on the same channel, whatever came; its status is told.
    """
    with channel(address, ca) as ch:
        out = one_call(ch, kind, method, messages, timeout, metadata, cancel, hold)
        if after:
            try:
                ch.unary_unary(after, request_serializer=as_is, response_deserializer=as_is)(b"after")
                out["after"] = "OK"
            except grpc.RpcError as e:
                out["after"] = e.code().name
        return out


def one_call(ch, kind, method, messages, timeout, metadata, cancel, hold):
    kinds = {"uu": "unary_unary", "us": "unary_stream", "su": "stream_unary", "ss": "stream_stream"}
    stub = getattr(ch, kinds[kind])(method, request_serializer=as_is, response_deserializer=as_is)
    messages = held(messages, hold) if hold else iter(messages)
    request = messages if kind[0] == "s" else next(messages)
    got = []
    try:
        if kind[1] == "u":
            answer, c = stub.with_call(request, timeout=timeout, metadata=metadata)
            got.append(answer)
        else:
            c = stub(request, timeout=timeout, metadata=metadata)
            for m in c:
                got.append(m)
                if cancel == len(got):
                    c.cancel()
        return {"code": "OK", "got": got, "initial": text(c.initial_metadata()), "trailing": text(c.trailing_metadata())}
    except grpc.RpcError as e:
        return {"code": e.code().name, "details": e.details(), "got": got, "trailing": text(e.trailing_metadata())}


def main():
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        spec = json.load(sys.stdin)
        spec["messages"] = [bytes.fromhex(m) for m in spec["messages"]]
        spec["metadata"] = [(k, bytes.fromhex(v) if k.endswith("-bin") else v) for k, v in spec.get("metadata", ())]
        out = call(**spec)
        sizes = [len(m) for m in out["got"]]
        out["got"] = [m.hex() for m in out["got"]] if sum(sizes) < 100000 else sizes
        print(json.dumps(out))


if __name__ == "__main__":
    main()
