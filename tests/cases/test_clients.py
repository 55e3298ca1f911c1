"""Stock clients and servers, end to end: each client does the calls of clients.py, through the gate, and must see what its protocol promises."""
from clients import *


def against_each(cases):
    return [Row(f"{server}/{c.name}", ask=c, host=host) for server, host in SERVERS.items() for c in cases]


class Plain(Gate):
    def __init__(self, t, *command):
        super().__init__(t)
        self.run = Peer(t, [c.replace("@", self.files) for c in command] + [f"127.0.0.1:{self.gate.https}", self.gate.ca])


def plain(*command):
    @table(against_each(CASES + STREAMING), setup=lambda t: Plain(t, *command))
    def fn(t, s, row):
        s.check(row.ask, row.host, s.run)
    return fn


# Named as the packages are.
globals()["test_grpc-js"] = plain("node", "@/node_grpc_js.js")
test_grpcio = plain(PYTHON, os.path.join(os.path.dirname(__file__), "probe_grpcio.py"), "client")


# --- in a browser

CROSS = ("unary", "server_stream", "error_with_details", "error_after_a_message", "trailers_only", "metadata")
HTTP1 = CROSS + ("message_of_4_MB", "cancel", "cancel_unary", "deadline", "killed_unary", "killed_server_stream", "killed_in_full_flow")


class Page(Gate):
    def __init__(self, t, script):
        super().__init__(t, ["grpc-js"])
        self.browser = Browser(t, self.gate, script, [SERVERS["grpc-js"], PAGE, NOBODY_HOME])


def in_browser(script, forms=("",), differs=None, without=lambda form, case: False):
    """Each form on a page of the host that it calls, by HTTP/2; from a page of another host; and by HTTP/1.1."""
    rows = [Row("/".join(filter(None, [form, word, c.name])), ask=c, form=form, page=page)
            for word, page, names in (("", (SERVERS["grpc-js"],), None), ("cross_origin", (PAGE,), CROSS), ("http1", (SERVERS["grpc-js"], "http"), HTTP1))
            for form in forms for c in CASES if (not names or c.name in names) and not without(form, c)]

    @table(rows, setup=lambda t: Page(t, script))
    def fn(t, s, row):
        s.browser.at(*row.page)
        s.check(row.ask, SERVERS["grpc-js"], lambda spec: s.browser(dict(spec, form=row.form)), differs)
    return fn


def aborted(code):
    """What a client calls it when the transport ends inside a message. The kill may also come between two."""
    return {"killed_in_full_flow": dict(code={code, "UNAVAILABLE"})}


# Its metadata is one value a key, the last one; in binary form it sees messages when the answer is over.
globals()["test_grpc-web"] = in_browser(
    "page_grpc_web", ("text", "binary"), {**aborted("UNKNOWN"), "metadata": dict(tail={**TAIL, "x-tail-two": "b"})},
    without=lambda form, c: form == "binary" and "at_first" in c.spec)
globals()["test_connect-web"] = in_browser("page_connect_web", differs=aborted("UNKNOWN"))
globals()["test_improbable"] = in_browser("page_improbable", differs=aborted("UNKNOWN"))
# It shows grpc-message as it came.
RAW = dict(message="made%20to%20fail:%20%C3%A4%25")
globals()["test_protobuf-ts"] = in_browser(
    "page_protobuf_ts", ("text", "binary"), {**aborted("INTERNAL"), "error_with_details": RAW, "error_after_a_message": RAW, "trailers_only": RAW})
globals()["test_nice-grpc-web"] = in_browser("page_nice_grpc_web", differs=aborted("UNKNOWN"))
