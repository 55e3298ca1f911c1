"""
HTTP/2 by hand (RFC 9113, RFC 7541): frames that are exactly the bytes given, a strict reader of what comes back, and a
client over them. On purpose not built on a library: each wrong byte must be possible, and each one that comes is looked at.
"""
import struct
import time

from wire import GUARD, Conn, tls_context

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONT = range(10)
END_STREAM = ACK = 1
END_HEADERS, PADDED, PRIO = 4, 8, 32
ERRORS = ["NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED", "FRAME_SIZE_ERROR",
          "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM", "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED"]
(NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL,
 COMPRESSION_ERROR, CONNECT_ERROR, ENHANCE_YOUR_CALM, INADEQUATE_SECURITY, HTTP_1_1_REQUIRED) = range(14)
TABLE_SIZE, ENABLE_PUSH, MAX_STREAMS, INITIAL_WINDOW, MAX_FRAME, MAX_LIST = range(1, 7)


def error_name(code):
    return ERRORS[code] if code < len(ERRORS) else f"error {code}"


# --- HPACK

STATIC = [tuple(x.replace("§", " ").split("=", 1)) for x in (
    ":authority= :method=GET :method=POST :path=/ :path=/index.html :scheme=http :scheme=https :status=200 :status=204 :status=206 "
    ":status=304 :status=400 :status=404 :status=500 accept-charset= accept-encoding=gzip,§deflate accept-language= accept-ranges= accept= "
    "access-control-allow-origin= age= allow= authorization= cache-control= content-disposition= content-encoding= content-language= "
    "content-length= content-location= content-range= content-type= cookie= date= etag= expect= expires= from= host= if-match= "
    "if-modified-since= if-none-match= if-range= if-unmodified-since= last-modified= link= location= max-forwards= proxy-authenticate= "
    "proxy-authorization= range= referer= refresh= retry-after= server= set-cookie= strict-transport-security= transfer-encoding= "
    "user-agent= vary= via= www-authenticate=").split(" ")]

# Lengths in bits of the codes of byte 0 … 255 and of the end (a digit or a letter each, a = 10): the code is canonical.
HUFFMAN = ("dnsssssssoussussssssssusssssssss6aacd68baa8b8666555666666678f6cad67777777777777777777777878djde6f56565666577666567655677777fbeds"
           "kmkkmmmnmnnnnnonoomnonnnnlmnmnnomlkmmnnlnmmolmnnllmlnmnnkmmmnmmnqqkjmnmpqqqrrqopjlqrrqrollqqsrrrkoklmllnmmppooqnqrqqrrrrrsrrrrrqu")


def huffman_codes():
    """(length, code) → symbol (RFC 7541 Appendix B)."""
    order = sorted((int(c, 36), symbol) for symbol, c in enumerate(HUFFMAN))
    codes, code, last = {}, 0, order[0][0]
    for length, symbol in order:
        code <<= length - last
        codes[length, code] = symbol
        code, last = code + 1, length
    return codes


CODES = huffman_codes()


def huffman_decode(data):
    out, code, length = bytearray(), 0, 0
    for byte in data:
        for bit in range(7, -1, -1):
            code, length = code << 1 | (byte >> bit & 1), length + 1
            symbol = CODES.get((length, code))
            if symbol is not None:
                assert symbol != 256, "the end symbol inside a string"
                out.append(symbol)
                code, length = 0, 0
    assert length < 8 and code == (1 << length) - 1, "bad Huffman padding"
    return bytes(out)


def huffman_encode(data):
    by_symbol = {s: k for k, s in CODES.items()}
    bits, n = 0, 0
    for byte in data:
        length, code = by_symbol[byte]
        bits, n = bits << length | code, n + length
    pad = -n % 8
    return (bits << pad | (1 << pad) - 1).to_bytes((n + pad) // 8, "big")


def integer(value, prefix, first=0):
    """An integer with that many bits of prefix (RFC 7541 5.1)."""
    most = (1 << prefix) - 1
    if value < most:
        return bytes([first | value])
    out, value = bytearray([first | most]), value - most
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def as_bytes(text):
    return text if isinstance(text, bytes) else text.encode("latin-1")


def text_literal(text, huffman=False):
    data = as_bytes(text)
    if huffman:
        data = huffman_encode(data)
    return integer(len(data), 7, 128 if huffman else 0) + data


def literal(name, value, index=False, huffman=False):
    """A field with a literal name; index: it enters the table."""
    return bytes([64 if index else 0]) + text_literal(name, huffman) + text_literal(value, huffman)


def indexed(i):
    return integer(i, 7, 128)


def table_size(n):
    return integer(n, 5, 32)


def encode(fields):
    return b"".join(literal(n, v) for n, v in fields)


class Decoder:
    """The whole of RFC 7541, for what the server sends."""

    def __init__(self, size=4096):
        self.limit = self.size = size
        self.entries, self.used = [], 0

    def evict(self):
        while self.used > self.size:
            n, v = self.entries.pop()
            self.used -= len(n) + len(v) + 32

    def add(self, field):
        self.entries.insert(0, field)
        self.used += len(field[0]) + len(field[1]) + 32
        self.evict()

    def entry(self, i):
        assert 0 < i <= len(STATIC) + len(self.entries), f"index {i} is outside the table"
        return STATIC[i - 1] if i <= len(STATIC) else self.entries[i - 1 - len(STATIC)]

    def integer(self, prefix):
        most = (1 << prefix) - 1
        value = self.data[self.at] & most
        self.at += 1
        shift = 0
        while value >= most:
            byte = self.data[self.at]
            self.at += 1
            value += (byte & 127) << shift
            shift += 7
            if not byte & 128:
                break
        return value

    def text(self):
        huffman = self.data[self.at] & 128
        n = self.integer(7)
        raw = self.data[self.at:self.at + n]
        assert len(raw) == n, "a string beyond the block"
        self.at += n
        return (huffman_decode(raw) if huffman else raw).decode("latin-1")

    def literal(self, prefix):
        i = self.integer(prefix)
        name = self.entry(i)[0] if i else self.text()
        return name, self.text()

    def decode(self, block):
        self.data, self.at = block, 0
        out = []
        while self.at < len(block):
            first = block[self.at]
            if first & 128:
                out.append(self.entry(self.integer(7)))
            elif first & 64:
                field = self.literal(6)
                self.add(field)
                out.append(field)
            elif first & 32:
                assert not out, "a table size update behind a field"
                self.size = self.integer(5)
                assert self.size <= self.limit, f"table size {self.size}"
                self.evict()
            else:
                out.append(self.literal(4))
        return out


# --- frames

def frame(kind, flags, stream, payload=b"", length=None):
    n = len(payload) if length is None else length
    return struct.pack(">I", n)[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def settings_frame(pairs=(), flags=0, stream=0):
    return frame(SETTINGS, flags, stream, b"".join(struct.pack(">HI", k, v) for k, v in pairs))


def window_frame(stream, n):
    return frame(WINDOW, 0, stream, struct.pack(">I", n))


def rst_frame(stream, code=CANCEL):
    return frame(RST, 0, stream, struct.pack(">I", code))


def ping_frame(data=b"12345678", flags=0, stream=0):
    return frame(PING, flags, stream, data)


def priority_frame(stream, parent=0, weight=15):
    return frame(PRIORITY, 0, stream, struct.pack(">IB", parent, weight))


def priority_update_frame(stream, field, on=0):
    """RFC 9218 7.1."""
    return frame(0x10, 0, on, struct.pack(">I", stream) + field)


def goaway_frame(last=0, code=NO_ERROR, debug=b"", stream=0):
    return frame(GOAWAY, 0, stream, struct.pack(">II", last, code) + debug)


def headers_frame(stream, block, flags=END_HEADERS | END_STREAM):
    """As many frames as the block needs at 16 KiB each."""
    if not isinstance(block, (bytes, bytearray)):
        block = encode(block)
    if len(block) <= 16384 or not flags & END_HEADERS:
        return frame(HEADERS, flags, stream, block)
    out = frame(HEADERS, flags & ~END_HEADERS, stream, block[:16384])
    for at in range(16384, len(block), 16384):
        out += frame(CONT, END_HEADERS if at + 16384 >= len(block) else 0, stream, block[at:at + 16384])
    return out


def request_fields(method="GET", path="/", authority="localhost", scheme="https", more=()):
    """None leaves a pseudo-header field out."""
    pseudo = [(":method", method), (":scheme", scheme), (":authority", authority), (":path", path)]
    return [(n, v) for n, v in pseudo if v is not None] + list(more)


# --- a client

class Reset(Exception):
    """The server reset the stream."""

    def __init__(self, code, answer):
        super().__init__(f"{error_name(code)} after {answer!r}")
        self.code, self.answer = code, answer


class Ended(Exception):
    """The connection ended; goaway: the code of the last GOAWAY, or None."""

    def __init__(self, goaway, text):
        super().__init__(text)
        self.goaway = goaway


class Stream:
    """What came on one stream. ended: END_STREAM; reset: the code of RST_STREAM, or None."""

    def __init__(self, sid, window):
        self.id, self.send_window = sid, window
        self.interim, self.headers, self.trailers = [], None, []
        self.body, self.size, self.frames = bytearray(), 0, 0
        self.ended, self.reset, self.sink, self.method = False, None, None, "GET"
        self.begun = self.over = None       # when the head and the end came

    @property
    def done(self):
        return self.ended or self.reset is not None

    @property
    def status(self):
        return int(self.headers[0][1]) if self.headers else None

    def get(self, name, default=None):
        values = self.all(name)
        return values[0] if values else default

    def all(self, name):
        return [v for n, v in self.headers or () if n == name]

    def __repr__(self):
        end = "ended" if self.ended else "open" if self.reset is None else "reset " + error_name(self.reset)
        return f"<stream {self.id}: {end}, {self.headers}, {self.size} bytes {bytes(self.body[:200])!r}>"


CONNECTION_FIELDS = ("connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade")


class H2(Conn):
    """
    A connection whose preface and SETTINGS are out. Everything that is waited for goes through read_frame, which
    acknowledges SETTINGS and PING, and gives window for what came unless `hold`.
    """

    def __init__(self, addr, tls, sni="localhost", settings=(), preface=True, hold=False, window=None, **kw):
        super().__init__(addr, tls=tls, sni=sni, **kw)
        assert self.sock.selected_alpn_protocol() == "h2", f"ALPN chose {self.sock.selected_alpn_protocol()}"
        self.host, self.hold = sni, hold
        self.decoder = Decoder()
        self.streams, self.next_id = {}, 1
        self.peer = {INITIAL_WINDOW: 65535, MAX_FRAME: 16384}
        self.send_window = 65535
        self.settings_came = self.settings_acked = False
        self.pongs, self.goaways, self.windows = [], [], []
        self.initial_window = dict(settings).get(INITIAL_WINDOW, 65535)
        if preface:
            self.send(PREFACE + settings_frame(settings) + (window_frame(0, window) if window else b""))

    # --- reading

    def need(self, n):
        while len(self.buf) < n:
            if not self.fill():
                raise Ended(self.goaways[-1][1] if self.goaways else None,
                            "the connection ended" + (f" after GOAWAY {[(a, error_name(c), d) for a, c, d in self.goaways]}" if self.goaways else ""))

    def next_frame(self):
        """(kind, flags, stream, payload), as it came."""
        self.need(9)
        n = int.from_bytes(self.buf[:3], "big")
        kind, flags, stream = struct.unpack(">BBI", self.buf[3:9])
        assert n <= 16384, f"a frame of {n} bytes"
        self.need(9 + n)
        payload, self.buf = self.buf[9:9 + n], self.buf[9 + n:]
        return kind, flags, stream, payload

    def read_frame(self):
        """Reads one frame and acts on it; returns its (kind, stream)."""
        kind, flags, sid, payload = self.next_frame()
        assert not sid & 1 << 31, "the reserved bit is set"
        handler = {DATA: self.on_data, HEADERS: self.on_headers, RST: self.on_rst, SETTINGS: self.on_settings, PING: self.on_ping,
                   GOAWAY: self.on_goaway, WINDOW: self.on_window}.get(kind)
        assert handler, f"a frame of kind {kind} from a server"
        assert self.settings_came or kind == SETTINGS, f"the first frame is of kind {kind}"
        handler(flags, sid, payload)
        return kind, sid

    def stream(self, sid):
        s = self.streams.get(sid)
        assert s, f"a frame for stream {sid}, which we did not open"
        return s

    def on_data(self, flags, sid, payload):
        s, n = self.stream(sid), len(payload)
        if flags & PADDED:
            payload = payload[1:n - payload[0]]
        assert s.headers and not s.done, f"DATA on {s!r}"
        s.size += len(payload)
        s.frames += 1
        if s.sink:
            s.sink(payload)
        else:
            s.body += payload
        if n and not self.hold:
            self.send(window_frame(0, n) + (b"" if flags & END_STREAM else window_frame(sid, n)))
        if flags & END_STREAM:
            self.end(s)

    def end(self, s):
        s.ended, s.over = True, time.monotonic()
        length = s.get("content-length")
        assert length is None or s.method == "HEAD" or int(length) == s.size, f"content-length {length}, came {s.size}"

    def on_headers(self, flags, sid, payload):
        s = self.stream(sid)
        if flags & PADDED:
            payload = payload[1:len(payload) - payload[0]]
        if flags & PRIO:
            payload = payload[5:]
        last = flags
        while not last & END_HEADERS:
            kind, last, other, more = self.next_frame()
            assert kind == CONT and other == sid, "a header block with something else inside"
            payload += more
        fields = self.decoder.decode(payload)
        assert not s.done, f"HEADERS on {s!r}"
        for n, v in fields:
            assert n == n.lower() and n not in CONNECTION_FIELDS and v == v.strip(), f"a bad field {n!r}: {v!r}"
            assert not any(c in v for c in "\0\r\n"), (n, v)
        if s.headers is not None:
            assert flags & END_STREAM and not any(n.startswith(":") for n, _ in fields), f"bad trailers {fields}"
            s.trailers = fields
        else:
            assert [n for n, _ in fields if n.startswith(":")] == [":status"] and fields[0][0] == ":status", fields
            if fields[0][1].startswith("1"):
                assert not flags & END_STREAM
                s.interim.append(int(fields[0][1]))
                return
            s.headers, s.begun = fields, time.monotonic()
        if flags & END_STREAM:
            self.end(s)

    def on_rst(self, flags, sid, payload):
        s = self.stream(sid)
        assert len(payload) == 4
        if s.reset is None:
            s.reset, s.over = struct.unpack(">I", payload)[0], time.monotonic()

    def on_settings(self, flags, sid, payload):
        assert sid == 0
        if flags & ACK:
            self.settings_acked = True
            return
        for at in range(0, len(payload), 6):
            k, v = struct.unpack(">HI", payload[at:at + 6])
            if k == INITIAL_WINDOW:
                for s in self.streams.values():
                    s.send_window += v - self.peer[k]
            self.peer[k] = v
        self.settings_came = True
        self.send(settings_frame(flags=ACK))

    def on_ping(self, flags, sid, payload):
        assert sid == 0 and len(payload) == 8
        if flags & ACK:
            self.pongs.append(payload)
        else:
            self.send(ping_frame(payload, ACK))

    def on_goaway(self, flags, sid, payload):
        assert sid == 0
        last, code = struct.unpack(">II", payload[:8])
        assert not self.goaways or last <= self.goaways[-1][0], "a later GOAWAY names a later stream"
        self.goaways.append((last, code, payload[8:].decode("latin-1")))

    def on_window(self, flags, sid, payload):
        n = struct.unpack(">I", payload)[0]
        assert n, "WINDOW_UPDATE of nothing"
        self.windows.append((sid, n))
        if sid:
            self.stream(sid).send_window += n
            assert self.stream(sid).send_window < 1 << 31
        else:
            self.send_window += n
            assert self.send_window < 1 << 31

    def until(self, probe):
        """Reads frames until the probe is true; the socket's guard is the only time limit."""
        while not (value := probe()):
            self.read_frame()
        return value

    def quiet(self, wait=0.2):
        """Takes what comes until nothing has come for that long; True while the connection is open."""
        self.sock.settimeout(wait)
        try:
            while True:
                self.read_frame()
        except TimeoutError:
            return True
        except Ended:
            return False
        finally:
            if self.sock.fileno() >= 0:
                self.sock.settimeout(GUARD)

    # --- asking

    def open(self, fields, body=None, end=True, block=None, method=None, more=b""):
        """Sends a head; body: also that, in frames that flow control allows; returns the stream."""
        sid, self.next_id = self.next_id, self.next_id + 2
        s = self.streams[sid] = Stream(sid, self.peer[INITIAL_WINDOW])
        s.method = method or next((v for n, v in fields if n == ":method"), "GET")
        last = end and body is None
        self.send(headers_frame(sid, block if block is not None else encode(fields), END_HEADERS | (END_STREAM if last else 0)) + more)
        if body is not None:
            self.send_body(s, body, end)
        return s

    def request(self, method="GET", path="/", headers=(), body=None, end=True, host=None, more=b""):
        return self.open(request_fields(method, path, host or self.host, more=headers), body, end, more=more)

    def send_body(self, s, body, end=True):
        """All of it, waiting for window; stops when the stream is over. Returns how much went out."""
        pieces, sent = ([body] if isinstance(body, (bytes, bytearray)) else body), 0
        for piece in pieces:
            at = 0
            while at < len(piece):
                self.until(lambda: s.done or min(s.send_window, self.send_window) > 0)
                if s.done:
                    return sent
                n = min(s.send_window, self.send_window, 16384, len(piece) - at)
                self.send(frame(DATA, 0, s.id, piece[at:at + n]))
                s.send_window -= n
                self.send_window -= n
                at, sent = at + n, sent + n
        if end and not s.done:
            self.send(frame(DATA, END_STREAM, s.id))
        return sent

    def head(self, s):
        self.until(lambda: s.headers or s.reset is not None)
        if s.headers is None:
            raise Reset(s.reset, s)
        return s

    def answer(self, s):
        """The whole answer; Reset when the stream was."""
        self.until(lambda: s.done)
        if not s.ended:
            raise Reset(s.reset, s)
        return s

    def get(self, path="/", method="GET", headers=(), body=None, host=None):
        return self.answer(self.request(method, path, headers, body, host=host))

    def ping(self, data=b"are-you?"):
        """Goes through all that the server has to say before."""
        n = self.pongs.count(data)
        self.send(ping_frame(data))
        self.until(lambda: self.pongs.count(data) > n)

    # --- what became of it

    def outcome(self, s):
        """Of a stream: "200", "reset CODE", "goaway CODE" (the connection ended with it), "closed" (without a word)."""
        try:
            self.until(lambda: s.done or self.failed())
            if s.done:
                return str(s.status) if s.ended else "reset " + error_name(s.reset)
        except (Ended, OSError):
            if s.ended:
                return str(s.status)
        return self.ending()

    def failed(self):
        return any(code for _, code, _ in self.goaways)

    def ending(self):
        """How the connection ends; what still comes is read."""
        try:
            self.until(lambda: False)
        except (Ended, OSError):
            pass
        return "goaway " + error_name(self.goaways[-1][1]) if self.goaways else "closed"

    def verdict(self):
        """Of the connection: "open", or how it ended. What was sent before is dealt with when the PING is answered."""
        try:
            self.ping()
            return "open"
        except (Ended, OSError):
            return self.ending()


def h2_context(ca=None, **kw):
    return tls_context(ca, alpn=kw.pop("alpn", ("h2",)), **kw)


def h2(gate, host="localhost", verify=True, context=None, **kw):
    """A connection to a headgate that the test started."""
    return H2(("127.0.0.1", gate.https), context or h2_context(gate.ca if verify else None), host, **kw)
