"""
A client on Debian's python3-h2, an HTTP/2 stack that is strict about what it gets: every frame of the server that breaks
the protocol raises. `h2py_client.py PORT CA WHAT` does one thing and prints what came of it as JSON.
"""
import json
import os
import socket
import ssl
import sys

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings

MIB = 1 << 20


class Client:
    def __init__(self, port, ca, settings=None):
        context = ssl.create_default_context(cafile=ca)
        context.set_alpn_protocols(["h2"])
        self.sock = context.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname="localhost")
        assert self.sock.selected_alpn_protocol() == "h2"
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.answers, self.events = {}, []
        self.acknowledged()
        if settings:
            self.update(settings)

    def flush(self):
        self.sock.sendall(self.h2.data_to_send())

    def acknowledged(self):
        """h2 takes each ACK for its oldest change, so only one may be on its way."""
        before = self.events.count("SettingsAcknowledged")
        self.flush()
        while self.events.count("SettingsAcknowledged") == before:
            assert self.take()

    def update(self, settings):
        self.h2.update_settings(settings)
        self.acknowledged()

    def begin(self, method, path, end=True, more=()):
        sid = self.h2.get_next_available_stream_id()
        self.answers[sid] = {"status": None, "size": 0, "body": b"", "fields": {}, "trailers": None, "reset": None, "ended": False}
        self.h2.send_headers(sid, [(":method", method), (":scheme", "https"), (":authority", "localhost"), (":path", path), *more], end_stream=end)
        self.flush()
        return sid

    def take(self):
        """What one read brings."""
        data = self.sock.recv(65536)
        events = self.h2.receive_data(data) if data else [None]
        for e in events:
            self.events.append(type(e).__name__)
            a = self.answers.get(getattr(e, "stream_id", None))
            if isinstance(e, h2.events.ResponseReceived):
                a["fields"] = dict(e.headers)
                a["status"] = int(a["fields"][":status"])
            elif isinstance(e, h2.events.DataReceived):
                a["size"] += len(e.data)
                a["body"] = (a["body"] + e.data)[:300]
                self.h2.acknowledge_received_data(e.flow_controlled_length, e.stream_id)
            elif isinstance(e, h2.events.TrailersReceived):
                a["trailers"] = dict(e.headers)
            elif isinstance(e, h2.events.StreamReset):
                a["reset"] = int(e.error_code)
            elif isinstance(e, h2.events.StreamEnded):
                a["ended"] = True
        self.flush()
        return data

    def finish(self, *sids):
        while not all(self.answers[s]["ended"] or self.answers[s]["reset"] is not None for s in sids):
            assert self.take(), f"the connection ended: {self.events[-5:]}"
        return [self.answers[s] for s in sids]

    def get(self, path, **kw):
        return self.finish(self.begin("GET", path, **kw))[0]

    def upload(self, path, body, chunk=None):
        sid = self.begin("POST", path, end=False, more=[("content-length", str(len(body)))])
        while body:
            room = min(self.h2.local_flow_control_window(sid), self.h2.max_outbound_frame_size, chunk or len(body))
            if room <= 0:
                assert self.take()
                continue
            self.h2.send_data(sid, body[:room])
            body = body[room:]
            self.flush()
        self.h2.end_stream(sid)
        self.flush()
        return self.finish(sid)[0]


def get(c):
    return c.get("/a?b=c")


def head(c):
    return c.finish(c.begin("HEAD", f"/bytes/{MIB}"))[0]


def upload(c):
    return c.upload("/sink", bytes(5 * MIB))


def upload_in_crumbs(c):
    return c.upload("/sink", bytes(20000), chunk=100)


def download(c):
    return c.get(f"/bytes/{20 * MIB}")


def file(c):
    return c.get("/static/big")


def hundred_at_once(c):
    answers = c.finish(*[c.begin("GET", f"/bytes/{10000 + i}") for i in range(100)])
    return {"status": 200 if all(a["status"] == 200 for a in answers) else 0, "size": sum(a["size"] for a in answers)}


def small_windows(c):
    return c.get(f"/bytes/{MIB}")


def cookies(c):
    return c.get("/echoed", more=[("cookie", "a=1"), ("cookie", "b=2")])


def cancel(c):
    sid = c.begin("GET", f"/bytes/{1000 * MIB}")
    while not c.answers[sid]["size"]:
        assert c.take()
    c.h2.reset_stream(sid, h2.errors.ErrorCodes.CANCEL)
    c.flush()
    return c.get("/after")


def ping(c):
    c.h2.ping(b"01234567")
    c.flush()
    while "PingAckReceived" not in c.events:
        assert c.take()
    return c.get("/after")


def settings_while_open(c):
    """The table's size and the windows change under an answer that is on its way."""
    sid = c.begin("GET", f"/bytes/{2 * MIB}")
    for size in (0, 4096, 100):
        c.update({h2.settings.SettingCodes.HEADER_TABLE_SIZE: size, h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 30000 + size})
        assert c.get("/between")["status"] == 200
    return c.finish(sid)[0]


SETTINGS = {"small_windows": {h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 1000, h2.settings.SettingCodes.MAX_FRAME_SIZE: 65536}}


def main():
    port, ca, what = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    c = Client(port, ca, SETTINGS.get(what))
    out = globals()[what](c)
    out.pop("body", None) if "fields" not in out else out.update(body=out["body"].decode("latin-1"))
    print(json.dumps(out))
    sys.stdout.flush()
    os._exit(0)


main()
