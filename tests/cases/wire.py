"""HTTP/1.1 and TLS by hand: sockets that send exactly the bytes given and read answers strictly."""
import socket
import ssl
import struct

GUARD = 60.0


class Truncated(Exception):
    """The connection ended inside an answer."""


class Answer:
    def __init__(self, status, reason, headers, version):
        self.status, self.reason, self.headers, self.version = status, reason, headers, version
        self.body = b""
        self.size = 0
        self.trailers = []

    def get(self, name, default=None):
        values = self.all(name)
        return values[0] if values else default

    def all(self, name):
        return [v for n, v in self.headers if n.lower() == name.lower()]

    def __repr__(self):
        return f"<{self.status} {self.headers} {self.body[:200]!r}>"


def tls_context(ca=None, alpn=("http/1.1",), low=None, high=None, ciphers=None):
    ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ctx.check_hostname = ca is not None
    ctx.verify_mode = ssl.CERT_REQUIRED if ca else ssl.CERT_NONE
    if ca:
        ctx.load_verify_locations(ca)
    if alpn:
        ctx.set_alpn_protocols(list(alpn))
    if ciphers:
        ctx.set_ciphers(ciphers)
    if low:
        ctx.minimum_version = low
    if high:
        ctx.maximum_version = high
    return ctx


class Conn:
    """
    One client connection. read() returns b"" at its end; clean_end tells a close_notify or FIN from a cut.
    source: the address that it comes from; first: bytes in front of everything, TLS too.
    """

    def __init__(self, addr, tls=None, sni=None, session=None, rcvbuf=None, guard=GUARD, source=None, first=b""):
        if isinstance(addr, str):
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        else:
            self.sock = socket.socket(socket.AF_INET6 if ":" in addr[0] else socket.AF_INET, socket.SOCK_STREAM)
            if rcvbuf:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        self.sock.settimeout(guard)
        self.buf = b""
        self.ended = False
        self.clean_end = None
        try:
            if source:
                self.sock.bind((source, 0))
            self.sock.connect(addr)
            if not isinstance(addr, str):
                self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if first:
                self.sock.sendall(first)
            if tls:
                self.sock = tls.wrap_socket(self.sock, server_hostname=sni, suppress_ragged_eofs=False, session=session)
        except BaseException:
            self.sock.close()
            raise
        self.tls = tls is not None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()

    def reset(self):
        """Ends the connection with RST."""
        raw = self.sock
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raw.close()

    def send(self, data):
        self.sock.sendall(data)

    def try_send(self, data):
        """For bytes that the server may refuse to read."""
        try:
            self.sock.sendall(data)
            return True
        except OSError:
            return False

    def read(self, n=65536):
        if self.ended:
            return b""
        try:
            data = self.sock.recv(n)
        except ssl.SSLEOFError:
            data, self.clean_end = b"", False
        except (ConnectionResetError, BrokenPipeError):
            data, self.clean_end = b"", False
        except ssl.SSLZeroReturnError:
            data, self.clean_end = b"", True
        if not data:
            self.ended = True
            if self.clean_end is None:
                self.clean_end = True
        return data

    def fill(self):
        data = self.read()
        self.buf += data
        return bool(data)

    def line(self, limit=1 << 20):
        while b"\n" not in self.buf:
            if len(self.buf) > limit or not self.fill():
                raise Truncated(f"connection ended in a line: {self.buf[:200]!r}")
        line, _, self.buf = self.buf.partition(b"\n")
        assert line.endswith(b"\r"), f"a line without CR: {line!r}"
        return line[:-1]

    def exactly(self, n, sink):
        while n:
            if not self.buf and not self.fill():
                raise Truncated(f"{n} bytes of the body are missing")
            piece, self.buf = self.buf[:n], self.buf[n:]
            n -= len(piece)
            sink(piece)

    def fields(self):
        out = []
        while True:
            line = self.line()
            if not line:
                return out
            name, colon, value = line.partition(b":")
            assert colon and name and name == name.strip(), f"a bad field line: {line!r}"
            out.append((name.decode("latin-1"), value.strip().decode("latin-1")))

    def head(self):
        line = self.line()
        parts = line.split(b" ", 2)
        assert len(parts) >= 2 and parts[0] in (b"HTTP/1.1", b"HTTP/1.0"), f"not a status line: {line!r}"
        reason = parts[2].decode("latin-1") if len(parts) > 2 else ""
        return Answer(int(parts[1]), reason, self.fields(), parts[0].decode())

    def answer(self, method="GET", keep=True, interim=False, sink=None):
        """The next final answer, whole; Truncated when it is cut. interim: return a 1xx as it comes."""
        a = self.head()
        while 100 <= a.status < 200 and a.status != 101 and not interim:
            a = self.head()
        pieces = []

        def take(piece):
            a.size += len(piece)
            if sink:
                sink(piece)
            elif keep:
                pieces.append(piece)

        cl, te = a.all("content-length"), a.get("transfer-encoding")
        assert len(cl) < 2, f"several Content-Length: {cl}"
        assert not (cl and te), "Content-Length and Transfer-Encoding in one answer"
        if method == "HEAD" or a.status < 200 or a.status in (204, 304):
            pass
        elif te:
            assert te.lower() == "chunked", te
            self.chunks(take, a)
        elif cl:
            assert cl[0].isdigit(), cl
            self.exactly(int(cl[0]), take)
        else:
            while self.buf or self.fill():
                piece, self.buf = self.buf, b""
                take(piece)
            if not self.clean_end:
                raise Truncated("the connection was cut in a body that lasts until its end")
        a.body = b"".join(pieces)
        return a

    def chunks(self, take, a):
        while True:
            line = self.line()
            size = int(line.split(b";")[0], 16)
            if not size:
                break
            self.exactly(size, take)
            assert self.line() == b"", "no CRLF behind a chunk"
        a.trailers = self.fields()

    def at_end(self):
        """True when the server closes without another byte; False when a byte comes."""
        return not self.buf and not self.fill()

    def still_open(self, wait=0.2):
        """True when nothing has come within `wait` seconds: neither a byte nor the end."""
        if self.buf or self.ended:
            return False
        self.sock.settimeout(wait)
        try:
            self.fill()
            return False
        except (TimeoutError, socket.timeout):
            return True
        finally:
            if self.sock.fileno() >= 0:
                self.sock.settimeout(GUARD)

    def request(self, method, target, host, headers=(), body=None):
        head = f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n"
        if body is not None:
            head += f"Content-Length: {len(body)}\r\n"
        for n, v in headers:
            head += f"{n}: {v}\r\n"
        self.send((head + "\r\n").encode("latin-1") + (body or b""))

    def get(self, target="/", host="localhost", headers=(), method="GET", body=None, **kw):
        self.request(method, target, host, headers, body)
        return self.answer(method, **kw)


def turned_away(port, **kw):
    """Closed before a byte was said; the reset may be there before connect returns."""
    try:
        with Conn(("127.0.0.1", port), **kw) as c:
            return c.at_end()
    except (ConnectionResetError, BrokenPipeError):
        return True
