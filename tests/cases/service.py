"""
A service for headgate to supervise: `service.py MODE LISTEN [FILE]`. Answers JSON like backends.py, with its name, pid
and environment; the modes are the ways in which real programs behave badly.
"""
import fcntl
import json
import os
import resource
import signal
import socket
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import backends  # noqa: E402


def listening(text):
    if os.environ.get("LISTEN_PID") == str(os.getpid()):
        return socket.socket(fileno=3)
    if text.startswith("unix:"):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.bind(text[5:])
    else:
        host, port = text.rsplit(":", 1)
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, int(port)))
    return sock


def deaf(peer, req, until):
    """Stops listening, though alive and well, until a file is there."""
    peer.backend.whole(peer, req)
    peer.backend.sock.shutdown(socket.SHUT_RDWR)
    peer.backend.sock.close()
    peer.reply(200, [("Connection", "close")], b"deaf")

    def listen_again():
        while not os.path.exists(until):
            time.sleep(0.02)
        backends.Backend(peer.backend.behave, sock=listening(sys.argv[2]))
    threading.Thread(target=listen_again, daemon=True).start()
    return False


def answer(healthy):
    def behave(peer, req):
        if req.path == "/deaf":
            return deaf(peer, req, sys.argv[3])
        if req.path == "/crash":
            os.abort()
        if req.path == "/exit":
            os._exit(0)
        if req.path.startswith("/say/"):
            print("said " + req.path[5:] + " " + "x" * 3000, flush=True)
            peer.backend.whole(peer, req)
            return peer.reply(200, [], b"said")
        if req.path == "/healthz":
            peer.backend.whole(peer, req)
            return peer.reply(200 if healthy() else 503, [], b"health")
        if req.path == "/who":
            peer.backend.whole(peer, req)
            return peer.reply(200, [("Content-Type", "application/json")], json.dumps(
                {"pid": os.getpid(), "uid": os.getuid(), "argv": sys.argv, "cwd": os.getcwd(), "env": dict(os.environ),
                 "pgid": os.getpgid(0), "umask": umask(), "nofile": resource.getrlimit(resource.RLIMIT_NOFILE),
                 "status": open("/proc/self/status").read(), "fds": sorted(int(f) for f in os.listdir("/proc/self/fd"))}))
        if req.path == "/notify":
            peer.backend.whole(peer, req)
            notify(req.target.partition("?")[2].replace("%20", " "))
            return peer.reply(200, [], b"said")
        if req.path == "/events":
            peer.backend.whole(peer, req)
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n")
            return peer.wait_gone()
        if req.path == "/ticks":        # events without an end, in pieces that do not end where they do
            peer.backend.whole(peer, req)
            print("begun ticks", flush=True)
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
            text = b"id: 7\ndata: %s\n\n: a comment\n\n" % (b"x" * 50)
            for at in range(0, 1 << 30, 37):
                piece = (text * 2)[at % len(text):][:37]
                peer.send(b"%x\r\n" % len(piece) + piece + b"\r\n")
                time.sleep(0.005)
        if req.path == "/torn":         # stops inside of an event
            peer.backend.whole(peer, req)
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
                      b"f\r\ndata: 1\n\ndata: \r\n")
            print("begun torn", flush=True)
            return peer.wait_gone()
        if req.path == "/until":        # answers when the file is there
            peer.backend.whole(peer, req)
            print("begun until", flush=True)
            while not os.path.exists(sys.argv[3]):
                time.sleep(0.02)
            return peer.reply(200, [], b"done")
        return backends.by_path(peer, req)
    return behave


def umask():
    now = os.umask(0)
    os.umask(now)
    return now


def notify(text):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.sendto(text.encode(), os.environ["NOTIFY_SOCKET"])


def spawn_sleepers():
    """Children that outlive a careless stop: one plain, one that ignores TERM."""
    for ignore in (False, True):
        if os.fork() == 0:
            if ignore:
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
            while True:
                time.sleep(1000)


def main():
    mode, listen = sys.argv[1], sys.argv[2]
    extra = sys.argv[3] if len(sys.argv) > 3 else ""
    print(f"service {mode} says hello on {listen}", flush=True)
    print("and a line on stderr", file=sys.stderr, flush=True)
    if mode == "exit":
        sys.exit(3)
    if mode == "ignore-term":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if mode == "group":
        spawn_sleepers()
    if mode == "daemonise":
        if os.fork():
            os._exit(0)
    if mode == "owns-data":     # two at a time would be the end of the data
        lock = open(extra, "a")
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if mode == "wait-for-file":
        while not os.path.exists(extra):
            time.sleep(0.02)
    if mode == "never-listens":
        while True:
            time.sleep(1000)
    healthy = (lambda: os.path.exists(extra)) if mode == "healthy-by-file" else (lambda: True)
    backends.Backend(answer(healthy), sock=listening(listen))
    if mode == "notify-by-file":
        notify("STATUS=reading the index")
        while not os.path.exists(extra):
            time.sleep(0.02)
        notify("READY=1\nSTATUS=serving")
    if mode == "chatty":
        for i in range(20000):
            print(f"chatter {i} " + "x" * 80)
        sys.stdout.flush()
    while True:
        time.sleep(1000)


if __name__ == "__main__":
    main()
