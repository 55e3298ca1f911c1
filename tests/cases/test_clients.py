"""Stock clients and servers, end to end: each client does the calls of clients.py, through the gate, and must see what its protocol promises."""
from clients import *


def against_each(cases):
    return [Row(f"{server}/{c.name}", ask=c, host=host) for server, host in SERVERS.items() for c in cases]


class Plain(Gate):
    def __init__(self, t, *command):
        super().__init__(t)
        self.run = Peer(t, self, *[c.replace("@", self.files) for c in command])


def plain(*command):
    @table(against_each(CASES + STREAMING), setup=lambda t: Plain(t, *command))
    def fn(t, s, row):
        s.check(row.ask, row.host, s.run)
    return fn


# Named as the packages are.
globals()["test_grpc-js"] = plain("node", "@/node_grpc_js.js")
test_grpcio = plain(PYTHON, os.path.join(os.path.dirname(__file__), "probe_grpcio.py"), "client")
