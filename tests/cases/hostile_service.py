"""
Programs that do what no service should: `hostile_service.py MODE PORT [FILE]`. Each serves HTTP on its port when its
mode lets it, so that the gate has something to lose.
"""
import os
import signal
import socket
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import backends  # noqa: E402

mode, port, file = sys.argv[1], int(sys.argv[2]), (sys.argv + [""])[3]


def listener():
    return socket.create_server(("127.0.0.1", port))


def sleep():
    while True:
        time.sleep(1000)


def stay(ignore=()):
    """In a child: outlives what it can."""
    for s in ignore:
        signal.signal(s, signal.SIG_IGN)
    sleep()


def behave(peer, req):
    peer.backend.whole(peer, req)
    if req.path == "/fill":
        held = []
        peer.reply(200, [], b"full")
        try:
            while True:
                held.append(open("/dev/null"))
        except OSError:
            sleep()
    peer.reply(200, [], f"{mode} {os.getpid()}".encode())


def serve():
    backends.Backend(behave, sock=listener())


def daemonise():
    """As in the books: twice, with a session of its own."""
    if os.fork():
        os._exit(0)
    os.setsid()
    if os.fork():
        os._exit(0)
    serve()
    sleep()


def garbage():
    s = listener()
    while True:
        peer = s.accept()[0]
        peer.sendall(os.urandom(64) + b"\r\n\r\n" * 4)
        peer.close()


def prints():
    serve()
    while not os.path.exists(file):
        time.sleep(0.01)
    block = b"".join(b"%08d " % i + b"x" * 990 + b"\n" for i in range(1000))
    for _ in range(100):
        sys.stdout.buffer.write(block)
    print("that was all", flush=True)
    sleep()


def dies():
    print("opening the database", flush=True)
    print("the database is of another version", file=sys.stderr, flush=True)
    sys.exit(3)


def new_group():
    """The one that serves leaves the group and the session of the one that was started."""
    if os.fork() == 0:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        serve()
    sleep()


def grandchildren():
    """Children of children, each in a session of its own, their parents gone."""
    for _ in range(5):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.setsid()
                stay((signal.SIGTERM, signal.SIGHUP, signal.SIGINT))
            os._exit(0)
    serve()
    sleep()


def hides():
    """A child with a session of its own, no parent, and an environment that names nobody."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execve(sys.executable, [sys.executable, "-c", "import time; time.sleep(1000)", "hidden"], {})
        os._exit(0)
    os.wait()
    serve()
    sleep()


def eats():
    """Takes memory without end when the file is there."""
    serve()
    while not os.path.exists(file):
        time.sleep(0.01)
    eaten = []
    while True:
        eaten.append(b"x" * (1 << 20))


def ignores():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    serve()
    sleep()


def closes():
    """Its port closes when the file is there, and opens again when it is gone."""
    while True:
        s = listener()
        b = backends.Backend(behave, sock=s)
        while not os.path.exists(file):
            time.sleep(0.01)
        b.close()
        while os.path.exists(file):
            time.sleep(0.01)


def slow():
    while not os.path.exists(file):
        time.sleep(0.01)
    serve()
    sleep()


def fills():
    serve()
    sleep()


{"daemonise": daemonise, "garbage": garbage, "prints": prints, "dies": dies, "exit0": lambda: sys.exit(0), "new-group": new_group,
 "grandchildren": grandchildren, "ignores": ignores, "closes": closes, "slow": slow, "fills": fills, "hides": hides, "eats": eats, "never": sleep}[mode]()
