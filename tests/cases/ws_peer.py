"""
A WebSocket server and client on Debian's python3-websockets, run by PYTHON as `ws_peer.py serve ADDRESS` or `ws_peer.py call`, which reads
what to do as JSON and prints what came of it.

Paths: /who answers each message with the server's pid, /count with so many messages, /close closes with 4001, /slow takes a message a 10 ms;
all others echo.
"""
import asyncio
import json
import os
import ssl
import sys

import websockets


async def serve_one(ws, path):
    if path == "/close":
        await ws.close(4001, "enough")
        return
    async for message in ws:
        if path == "/who":
            await ws.send(str(os.getpid()))
        elif path == "/count":
            for i in range(int(message)):
                await ws.send(str(i))
        else:
            if path == "/slow":
                await asyncio.sleep(0.01)
            await ws.send(message)


async def serve(address):
    opts = dict(max_size=None, subprotocols=["chat.v2", "chat.v1"])
    if address.startswith("unix:"):
        server = websockets.unix_serve(serve_one, address[5:], **opts)
    else:
        host, port = address.rsplit(":", 1)
        server = websockets.serve(serve_one, host, int(port), **opts)
    async with server:
        await asyncio.Future()


async def one(spec):
    context = ssl.create_default_context(cafile=spec["ca"]) if spec.get("ca") else None
    out = {"got": [], "close": None}
    kw = {"ssl": context, "server_hostname": "localhost"} if context else {}
    async with websockets.connect(spec["uri"], max_size=None, subprotocols=spec.get("subprotocols"), host="127.0.0.1", port=spec["port"],
                                  compression=spec.get("compression", "deflate"), **kw) as ws:
        out["subprotocol"] = ws.subprotocol
        out["extensions"] = [e.name for e in ws.extensions]
        try:
            for kind, message, answers in spec["messages"]:
                await ws.send(bytes.fromhex(message) if kind == "binary" else message)
                for _ in range(answers):
                    got = await ws.recv()
                    out["got"].append(got.hex() if isinstance(got, bytes) else got)
            for _ in range(spec.get("pings", 0)):
                await (await ws.ping())
            if spec.get("until_closed"):
                await ws.recv()
        except websockets.ConnectionClosed as e:
            out["close"] = [e.rcvd.code, e.rcvd.reason] if e.rcvd else [1006, ""]
    return out


async def call(spec):
    return await asyncio.gather(*(one(spec) for _ in range(spec.get("times", 1))))


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        asyncio.run(serve(sys.argv[2]))
    else:
        print(json.dumps(asyncio.run(call(json.load(sys.stdin)))))
