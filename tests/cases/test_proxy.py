"""Proxying to HTTP/1.1 backends: what reaches them, what comes back, and every way in which they fail."""
import backends
from headgate import *

GIB = 1 << 30
FLAT = 64           # MiB that a worker may grow by while a gibibyte passes


class Site:
    def __init__(self, t, behave=None, **kw):
        self.backend = t.backend(behave)
        self.gate = t.headgate(proxy_site(self.backend.url, **kw))


def lower(headers):
    return [(n.lower(), v) for n, v in headers]


# --- what the backend sees

@case(both=True)
def test_forwarded_fields(t):
    """X-Forwarded-* and Forwarded tell the client's address, scheme, host and port; over TLS and plain."""
    s = Site(t)
    for secure, proto, port in ((True, "https", s.gate.https), (False, "http", s.gate.http)):
        dump = json.loads(s.gate.get("/x", secure=secure).body)
        h = dict(lower(dump["headers"]))
        assert h["x-forwarded-for"] == "127.0.0.1", h
        assert h["x-forwarded-proto"] == proto, h
        assert h["x-forwarded-host"].split(":")[0] == "localhost", h
        assert h["x-forwarded-port"] == str(port), h
        assert "for=127.0.0.1" in h["forwarded"].lower() and f"proto={proto}" in h["forwarded"].lower(), h
        assert "host=" in h["forwarded"].lower(), h


@case()
def test_forwarded_fields_of_clients_are_not_believed(t):
    """What a stranger claims in X-Forwarded-*, Forwarded or X-Real-IP never reaches the backend."""
    s = Site(t)
    fake = [("X-Forwarded-For", "6.6.6.6"), ("x-forwarded-for", "7.7.7.7"), ("X-Forwarded-Proto", "gopher"), ("X-Forwarded-Host", "evil"),
            ("X-Forwarded-Port", "666"), ("Forwarded", "for=6.6.6.6;proto=gopher;host=evil"), ("X-Real-IP", "6.6.6.6")]
    dump = json.loads(s.gate.get("/x", headers=fake).body)
    text = json.dumps(dump["headers"])
    for lie in ("6.6.6.6", "7.7.7.7", "gopher", "evil", "666"):
        assert lie not in text, dump["headers"]
    names = [n for n, _ in lower(dump["headers"])]
    for n in ("x-forwarded-for", "x-forwarded-proto", "forwarded"):
        assert names.count(n) == 1, names


@case()
def test_hop_by_hop_of_client(t):
    """Hop-by-hop fields and those that Connection names stop at headgate; the others pass unchanged."""
    s = Site(t)
    dump = json.loads(s.gate.get("/x", headers=[
        ("Connection", "close, X-Private"), ("X-Private", "1"), ("Keep-Alive", "timeout=5"), ("Proxy-Connection", "keep-alive"),
        ("TE", "trailers, gzip"), ("Upgrade", "h2c"), ("Proxy-Authorization", "Basic eDp5"), ("X-Kept", "yes"), ("Cookie", "a=1"),
        ("Accept", "text/html")]).body)
    h = lower(dump["headers"])
    names = [n for n, _ in h]
    for n in ("x-private", "keep-alive", "proxy-connection", "upgrade", "proxy-authorization"):
        assert n not in names, h
    assert ("x-kept", "yes") in h and ("cookie", "a=1") in h and ("accept", "text/html") in h, h
    assert ("te", "trailers, gzip") not in h, h
    assert "x-private" not in (dict(h).get("connection") or ""), h


@case()
def test_hop_by_hop_of_backend(t):
    """The backend's hop-by-hop fields stop at headgate; repeated Set-Cookie stay apart."""
    s = Site(t)
    a = s.gate.get("/hop")
    names = [n for n, _ in lower(a.headers)]
    for n in ("x-secret-hop", "proxy-connection", "upgrade"):
        assert n not in names, a.headers
    assert "x-secret-hop" not in (a.get("connection") or "").lower(), a.headers
    assert a.all("set-cookie") == ["a=1", "b=2"] and a.get("x-end") == "2", a.headers


@case()
def test_target_and_host_are_kept(t):
    """Path, encoded bytes and query arrive as the client wrote them, but for the case of hex digits; Host is the client's."""
    s = Site(t)
    for target in ("/a%2Fb/c?x=1&y=%00", "/%E2%82%AC?", "/a;b=c", "/?q", "/a//b", "/x?a=/../b"):
        dump = json.loads(s.gate.get(target).body)
        assert dump["target"] == target, (target, dump["target"])
        assert dict(lower(dump["headers"]))["host"].split(":")[0] == "localhost"


@case()
def test_strip_prefix(t):
    """strip_prefix drops the route's prefix, and only that."""
    b = t.backend()
    gate = t.headgate(proxy_site(b.url, routes="/api/: { proxy: app, strip_prefix: on }\n      /: { proxy: app }"))
    for target, seen in (("/api/v1?x=1", "/v1?x=1"), ("/api/", "/"), ("/api/api/x", "/api/x"), ("/apix", "/apix"), ("/other", "/other")):
        assert json.loads(gate.get(target).body)["target"] == seen, target


@case()
def test_date_and_request_id(t):
    """The request id that the backend sees is one token, and differs by request."""
    s = Site(t)
    ids = set()
    for _ in range(3):
        h = dict(lower(json.loads(s.gate.get("/x").body)["headers"]))
        if "x-request-id" in h:
            ids.add(h["x-request-id"])
    assert len(ids) in (0, 3), ids


# --- bodies

@case()
def test_upload_sizes(t):
    """Bodies of many sizes arrive whole, counted and chunked, over TLS and plain."""
    s = Site(t)
    for size in (0, 1, 1000, 16383, 16384, 16385, 65536, 1000003):
        body = backends.BLOCK[:256] * (size // 256 + 1)
        body = body[:size]
        want = backends.hashlib.sha256(body).hexdigest()
        for conn in (s.gate.tls(), s.gate.plain()):
            with conn as c:
                a = c.get("/sink", method="POST", body=body)
                assert json.loads(a.body) == {"size": size, "sha256": want}, (size, a.body)
                c.send(b"POST /sink HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
                for i in range(0, size, 7001):
                    piece = body[i:i + 7001]
                    c.send(b"%x\r\n" % len(piece) + piece + b"\r\n")
                c.send(b"0\r\n\r\n")
                assert json.loads(c.answer().body)["sha256"] == want, size


@case()
def test_download_sizes(t):
    """Answers of many sizes arrive whole, counted, chunked and until the backend closes."""
    s = Site(t)
    for size in (0, 1, 1399, 1400, 1401, 16384, 65536, 65537, 1000003):
        for kind in ("bytes", "chunked", "until-close"):
            for conn in (s.gate.tls(), s.gate.plain()):
                with conn as c:
                    a = c.get(f"/{kind}/{size}")
                    assert a.size == size, (kind, size, a.size)
                    if kind != "chunked":
                        assert a.body == (backends.BLOCK * (size // len(backends.BLOCK) + 1))[:size], (kind, size)
                    assert c.get("/again").status == 200


@case()
def test_answer_trailers(t):
    """Trailers of a chunked answer arrive; framing fields among them do not."""
    s = Site(t)
    with s.gate.tls() as c:
        c.request("GET", "/trailers", "localhost", [("TE", "trailers"), ("Connection", "TE")])
        a = c.answer()
        assert a.body == b"hello"
        names = [n.lower() for n, _ in a.trailers]
        assert "content-length" not in names, a.trailers
        assert ("x-sum", "42") in lower(a.trailers), a.trailers


@case()
def test_request_trailers(t):
    """Trailers of a chunked request arrive at the backend."""
    s = Site(t)
    with s.gate.plain() as c:
        c.send(b"POST /x HTTP/1.1\r\nHost: localhost\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
               b"5\r\nhello\r\n0\r\nX-Sum: 42\r\n\r\n")
        dump = json.loads(c.answer().body)
    assert dump["body"] == "hello"
    assert ["x-sum", "42"] in [[n.lower(), v] for n, v in dump["trailers"]], dump["trailers"]


@case()
def test_interim_answers_do_not_confuse(t):
    """1xx answers of the backend never take the final one's place."""
    s = Site(t)
    with s.gate.tls() as c:
        assert c.get("/interim").body == b"final"
        assert c.get("/x").status == 200


@case()
def test_drip(t):
    """A backend that sends byte by byte is passed on as it comes."""
    s = Site(t)
    assert s.gate.get("/drip/300").size == 300


@case()
def test_streaming_is_not_held_back(t):
    """The first piece of an answer reaches the client while the rest is not yet made."""
    def behave(peer, req):
        peer.backend.whole(peer, req)
        peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        peer.backend.gate.wait(60)
        peer.send(b"4\r\nlast\r\n0\r\n\r\n")
    s = Site(t, behave)
    with s.gate.tls() as c:
        c.request("GET", "/x", "localhost")
        assert c.head().status == 200
        while b"first" not in c.buf:
            assert c.fill()
        s.backend.gate.set()
        while not c.buf.endswith(b"\r\n0\r\n\r\n"):
            assert c.fill()
        assert b"last" in c.buf


@case()
def test_request_body_is_not_held_back(t):
    """The first bytes of an upload reach the backend while the client still holds the rest."""
    got = threading.Event()

    def behave(peer, req):
        while b"first" not in peer.buf:
            assert peer.fill()
        got.set()
        peer.backend.whole(peer, req)
        peer.reply(200, [], b"done")
    s = Site(t, behave)
    with s.gate.tls() as c:
        c.send(b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nfirst")
        assert got.wait(60)
        c.send(b"later")
        assert c.answer().body == b"done"


# --- kept connections

@case()
def test_pool_reuse(t):
    """Requests one after the other use one backend connection, across client connections."""
    b = t.backend()
    gate = t.headgate(proxy_site(b.url), workers=1)
    for i in range(20):
        assert gate.get(f"/{i}").status == 200
    assert b.connections == 1, b.connections


@case()
def test_pool_not_after_close(t):
    """A backend's Connection: close is honoured: the next request goes over a new connection."""
    b = t.backend()
    gate = t.headgate(proxy_site(b.url), workers=1)
    with gate.tls() as c:
        for _ in range(3):
            assert c.get("/connection-close").body == b"bye"
    assert b.connections == 3, b.connections


@case()
def test_pool_not_after_unasked_bytes(t):
    """Bytes behind an answer poison a connection: the next client never sees them."""
    b = t.backend()
    gate = t.headgate(proxy_site(b.url), workers=1)
    for _ in range(5):
        assert gate.get("/tail-garbage").body == b"ok"
        assert json.loads(gate.get("/x").body)["target"] == "/x"


@case()
def test_stale_connection_get_is_sent_again(t):
    """A kept connection that the backend closes under a GET: the GET is sent again, the client sees nothing."""
    b = t.backend()
    gate = t.headgate(proxy_site(b.url), workers=1)
    with gate.tls() as c:
        for _ in range(20):
            assert c.get("/once").body == b"once"
            assert c.get("/x").status == 200


def stale_once(swallow):
    """Answers the first request of a connection; closes under the second, after having read it."""
    def behave(peer, req):
        if peer.served and peer.id == 1:
            peer.body(req)
            swallow.append(req.method)
            return False
        peer.backend.whole(peer, req)
        return peer.reply(200, [], str(peer.id))
    return behave


@case()
def test_stale_connection_read_then_closed_get(t):
    """The backend reads the second request of a kept connection and closes: an idempotent one is sent again, once."""
    swallowed = []
    b = t.backend(stale_once(swallowed))
    gate = t.headgate(proxy_site(b.url), workers=1)
    with gate.tls() as c:
        assert c.get("/1").body == b"1"
        assert c.get("/2").body == b"2"
    assert swallowed == ["GET"] and b.targets() == ["/1", "/2"]


@case()
def test_stale_connection_post_is_not_sent_again(t):
    """The same under a POST whose body was sent: 502, and the backend never sees it twice."""
    swallowed = []
    b = t.backend(stale_once(swallowed))
    gate = t.headgate(proxy_site(b.url), workers=1)
    with gate.tls() as c:
        assert c.get("/1").body == b"1"
        assert c.get("/2", method="POST", body=b"money").status == 502
    assert swallowed == ["POST"] and b.targets() == ["/1"], (swallowed, b.targets())
    assert gate.get("/3").status == 200


@case()
def test_fresh_connection_is_not_tried_twice(t):
    """A backend that closes each new connection unanswered gets the request once and the client 502."""
    s = Site(t)
    a = s.gate.get("/close")
    assert a.status == 502, a
    assert s.backend.count == 1, s.backend.targets()


@case()
def test_client_abort_ends_the_backend_connection(t):
    """A client that leaves in the middle of an answer: the backend connection is closed and not used again."""
    b = t.backend()
    gate = t.headgate(proxy_site(b.url), workers=1)
    for conn in (gate.tls(), gate.plain()):
        with conn as c:
            c.request("GET", "/bytes/1000000000", "localhost")
            assert c.head().status == 200
    wait_for("the backend's connections to be closed", lambda: b.open == 0)
    assert json.loads(gate.get("/x").body)["target"] == "/x"
    assert b.connections == 3


@case()
def test_client_abort_while_waiting(t):
    """A client that leaves before the answer began: the backend hears of it."""
    b = t.backend()
    gate = t.headgate(proxy_site(b.url), workers=1)
    with gate.tls() as c:
        c.request("GET", "/silent", "localhost")
        wait_for("the request at the backend", lambda: b.count == 1)
    wait_for("the backend connection's end", lambda: b.open == 0)


@case()
def test_client_abort_in_upload(t):
    """A client that leaves inside its body: the backend sees a cut request, never a whole one."""
    b = t.backend()
    gate = t.headgate(proxy_site(b.url), workers=1)
    for framing in (b"Content-Length: 1000000\r\n\r\nhello", b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"):
        with gate.tls() as c:
            c.send(b"POST /sink HTTP/1.1\r\nHost: localhost\r\n" + framing)
            wait_for("the head at the backend", lambda: b.begun >= 1)
        wait_for("the backend connection's end", lambda: b.open == 0)
    assert b.count == 0 and not b.errors, (b.targets(), b.errors)


# --- early answers

@case()
def test_early_answer_closed(t):
    """413 before the body ended: the client gets it, and the connection does not go on in doubt."""
    s = Site(t)
    with s.gate.tls() as c:
        c.send(b"POST /early HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000000\r\n\r\n" + b"x" * 1000)
        a = c.answer()
        assert a.status == 413 and a.body == b"too much", a
    assert s.gate.get("/x").status == 200


@case()
def test_early_answer_while_uploading(t):
    """An early 413 reaches a client that is in the middle of sending 100 MB."""
    s = Site(t)
    t.run(["truncate", "-s", "100000000", t.path("big")])
    r = s.gate.curl("-o", "/dev/null", "-w", "%{http_code}", "-H", "Expect:", "-T", t.path("big"), s.gate.url("/early"))
    assert r.stdout.startswith("413"), (r.returncode, r.stdout, r.stderr)


@case()
def test_early_answer_kept(t):
    """200 before the body ended, with the rest read later: the next request is answered rightly or the connection closed."""
    s = Site(t)
    with s.gate.tls() as c:
        c.send(b"POST /early-keep HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhello")
        assert c.answer().body == b"early"
        if c.try_send(b"world" + b"GET /next HTTP/1.1\r\nHost: localhost\r\n\r\n") and (c.buf or c.fill()):
            assert json.loads(c.answer().body)["target"] == "/next"
    assert s.gate.get("/x").status == 200


# --- failing backends

TRUNCATED = [Row(f"{kind}_{size}_{'tls' if secure else 'plain'}", kind=kind, size=size, secure=secure)
             for kind in ("cut-length", "cut-chunked", "cut-chunk-inside", "bad-chunk") for size in (10, 100000) for secure in (True, False)]


@table(TRUNCATED, Site)
def test_truncated(t, s, row):
    """A cut answer never ends cleanly at the client: no last chunk, no full length, no close_notify."""
    with (s.gate.tls() if row.secure else s.gate.plain()) as c:
        c.request("GET", f"/{row.kind}/{row.size}", "localhost")
        try:
            a = c.answer()
        except Exception as e:
            assert type(e).__name__ == "Truncated", repr(e)
            assert c.ended
        else:
            assert a.status == 502, f"a cut answer looks whole: {a}"
    assert s.gate.get("/after").status == 200


@case()
def test_truncated_reset(t):
    """RST of the backend inside a body: the client's transfer is cut."""
    s = Site(t)
    with s.gate.tls() as c:
        c.request("GET", "/cut-reset/5000", "localhost")
        a = c.head()
        assert a.status == 200 and a.get("content-length") == "6000"
        c.exactly(5000, lambda piece: None)
        s.backend.gate.set()
        assert c.at_end()


@case()
def test_truncated_for_http_1_0(t):
    """A cut chunked answer to an HTTP/1.0 client ends with RST, or without close_notify, not as a whole one."""
    s = Site(t)
    for conn in (s.gate.plain(), s.gate.tls()):
        with conn as c:
            c.send(b"GET /cut-chunked/50000 HTTP/1.0\r\nHost: localhost\r\n\r\n")
            try:
                c.answer()
            except Exception as e:
                assert type(e).__name__ == "Truncated", repr(e)
            else:
                assert c.clean_end is False, "a cut answer ended cleanly"


@table([Row(n) for n in backends.BAD_ANSWERS], Site)
def test_bad_answer(t, s, row):
    """An answer that breaks the grammar is 502 with headgate's own page; nothing of it comes through."""
    with s.gate.tls() as c:
        a = c.get("/bad/" + row.name)
        assert a.status == 502, a
        assert b"raw" not in a.body and "x-a" not in [n.lower() for n, _ in a.headers], a
        assert c.get("/after").status == 200
    assert s.gate.get("/after").status == 200


@case()
def test_refused(t):
    """Nobody listens at the backend's address: 502 or 503, soon, and the next try reaches one that came back."""
    port = t.port()
    gate = t.headgate(proxy_site(f"http://127.0.0.1:{port}"), workers=1)
    a = gate.get("/x")
    assert a.status in (502, 503), a
    t.backend(port=port)
    wait_for("the backend that came back", lambda: gate.get("/x").status == 200)


@case()
def test_connect_timeout(t):
    """A backend whose queue is full (SYNs go unanswered): 504 or 502 after timeouts.connect."""
    full = socket.socket()
    full.bind(("127.0.0.1", 0))
    full.listen(0)
    t.defer(full.close)
    port, fillers = full.getsockname()[1], []
    for _ in range(4):
        f = socket.socket()
        f.setblocking(False)
        f.connect_ex(("127.0.0.1", port))
        fillers.append(f)
        t.defer(f.close)
    gate = t.headgate(proxy_site(f"http://127.0.0.1:{port}"), top={"timeouts": "{ connect: 500ms }"})
    a = gate.get("/x")
    assert a.status in (502, 504), a


@case()
def test_response_timeout(t):
    """timeouts.response: a backend that takes a request and says nothing: 504, and its connection is closed."""
    b = t.backend()
    gate = t.headgate(proxy_site(b.url), top={"timeouts": "{ response: 500ms }"})
    assert gate.get("/silent").status == 504
    wait_for("the backend connection's end", lambda: b.open == 0)
    assert gate.get("/x").status == 200


@case()
def test_body_gap_of_backend(t):
    """timeouts.body_gap: a backend that stops inside an answer is cut, and the client's transfer with it."""
    def behave(peer, req):
        peer.backend.whole(peer, req)
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello")
        peer.wait_gone()
        return False
    b = t.backend(behave)
    gate = t.headgate(proxy_site(b.url), top={"timeouts": "{ body_gap: 500ms }"})
    with gate.tls() as c:
        c.request("GET", "/x", "localhost")
        try:
            c.answer()
            raise AssertionError("a cut answer looks whole")
        except Exception as e:
            assert type(e).__name__ == "Truncated", repr(e)
    wait_for("the backend connection's end", lambda: b.open == 0)


@case()
def test_unix_backend(t):
    """A backend on a unix socket is served, and its connections are kept."""
    b = t.backend(unix=t.path("b.sock"))
    gate = t.headgate(proxy_site(b.url), workers=1)
    for i in range(5):
        assert json.loads(gate.get(f"/{i}").body)["target"] == f"/{i}"
    assert b.connections == 1


@case()
def test_several_addresses(t):
    """A list of urls shares the requests that are under way at the same time."""
    one, two = t.backend(), t.backend()
    gate = t.headgate(f"sites:\n  s:\n    host: localhost\n    services:\n      app: {{ url: [\"{one.url}\", \"{two.url}\"] }}\n"
                      "    routes:\n      /: { proxy: app }\n", workers=1)
    conns = [gate.tls() for _ in range(10)]
    for c in conns:
        c.request("GET", "/held", "localhost")
    wait_for("ten requests", lambda: one.count + two.count == 10)
    assert one.count == two.count == 5, (one.count, two.count)
    one.gate.set()
    two.gate.set()
    for c in conns:
        assert c.answer().body == b"at last"
        c.close()


@case()
def test_nginx_as_backend(t):
    """A real nginx behind the gate: pages, ranges, 304 and a 10 MB file come through unchanged."""
    port = t.port()
    os.makedirs(t.path("www"))
    big = os.urandom(10 << 20)
    t.write("www/big.bin", big)
    t.write("www/index.html", "hello from nginx")
    conf = t.write("nginx.conf", f"""daemon off; master_process off; error_log stderr; pid {t.path('pid')}; events {{}}
http {{ access_log off; client_body_temp_path {t.path('b')}; proxy_temp_path {t.path('p')}; fastcgi_temp_path {t.path('f')};
uwsgi_temp_path {t.path('u')}; scgi_temp_path {t.path('s')}; types {{ text/html html; }}
server {{ listen 127.0.0.1:{port}; root {t.path('www')}; keepalive_requests 3; }} }}""")
    p = subprocess.Popen(["nginx", "-c", conf, "-e", t.path("nginx-error")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    t.defer(lambda: (p.terminate(), p.wait()))
    wait_for("nginx", lambda: not port_free(port))
    gate = t.headgate(proxy_site(f"http://127.0.0.1:{port}"), workers=1)
    with gate.tls() as c:
        for _ in range(10):
            a = c.get("/")
            assert a.status == 200 and a.body == b"hello from nginx", a
        etag = a.get("etag")
        assert c.get("/", headers=[("If-None-Match", etag)]).status == 304
        assert c.get("/big.bin", headers=[("Range", "bytes=100-199")]).body == big[100:200]
        assert c.get("/big.bin").body == big
        assert c.get("/nothing").status == 404


# --- memory

def peak_growth(gate, work):
    """The most bytes that any worker grew by while work() ran."""
    base = {w: procs.rss(w) for w in gate.workers()}
    assert base, "no workers found"
    most, done = [0], threading.Event()

    def watch():
        while not done.is_set():
            most[0] = max([most[0]] + [procs.rss(w) - base[w] for w in base])
            time.sleep(0.02)
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        work()
    finally:
        done.set()
        watcher.join()
    return most[0]


@case()
def test_download_1g_flat_memory(t):
    """curl downloads 1 GiB over TLS; the workers' memory stays flat."""
    s = Site(t)

    def work():
        r = s.gate.curl("-o", "/dev/null", "-w", "%{http_code} %{size_download}", s.gate.url(f"/bytes/{GIB}"))
        assert r.stdout == f"200 {GIB}", (r.returncode, r.stdout, r.stderr)
    grown = peak_growth(s.gate, work)
    assert grown < allowance(FLAT), f"a worker grew by {grown >> 20} MiB"


@case()
def test_upload_1g_flat_memory(t):
    """curl uploads 1 GiB over TLS; the workers' memory stays flat."""
    s = Site(t)
    t.run(["truncate", "-s", str(GIB), t.path("big")])

    def work():
        r = s.gate.curl("-H", "Expect:", "-T", t.path("big"), s.gate.url("/sink"))
        assert json.loads(r.stdout)["size"] == GIB, (r.returncode, r.stdout, r.stderr)
    grown = peak_growth(s.gate, work)
    assert grown < allowance(FLAT), f"a worker grew by {grown >> 20} MiB"


@case()
def test_download_to_a_client_that_stops_reading(t):
    """Twenty clients that ask for 1 GiB each and read nothing: backpressure reaches the backend, memory stays flat."""
    sent = [0]

    def behave(peer, req):
        peer.backend.whole(peer, req)
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % GIB)
        for _ in range(GIB // len(backends.BLOCK)):
            peer.send(backends.BLOCK)
            sent[0] += len(backends.BLOCK)
    s = Site(t, behave)

    def work():
        conns = [s.gate.tls(rcvbuf=65536) for _ in range(20)]
        for c in conns:
            c.request("GET", "/x", "localhost")
        wait_for("all requests at the backend", lambda: s.backend.count == 20)
        last = -1
        while sent[0] != last:      # until nothing moves any more
            last = sent[0]
            time.sleep(0.3)
        assert sent[0] < 20 * (32 << 20), f"{sent[0] >> 20} MiB were taken from the backend for clients that read nothing"
        assert s.gate.get("/other", method="HEAD").status == 200
        for c in conns:
            c.close()
    grown = peak_growth(s.gate, work)
    assert grown < allowance(FLAT), f"a worker grew by {grown >> 20} MiB"
    wait_for("the backend's connections to end", lambda: s.backend.open <= 2)


@case()
def test_upload_to_a_backend_that_stops_reading(t):
    """Uploads to a backend that does not read: the client is held back, memory stays flat, then all arrives."""
    s = Site(t)
    size = 200 << 20

    def work():
        t.run(["truncate", "-s", str(size), t.path("big")])
        p = subprocess.Popen(["curl", "--http1.1", "-sS", "--cacert", s.gate.ca, "-H", "Expect:", "-T", t.path("big"), s.gate.url("/stalled-read")],
                             stdout=subprocess.PIPE)
        wait_for("the request at the backend", lambda: s.backend.begun == 1)
        last = -1
        while (now := sum(procs.rss(w) for w in s.gate.workers())) != last:
            last = now
            time.sleep(0.5)
        s.backend.gate.set()
        assert json.loads(p.communicate()[0])["size"] == size
    grown = peak_growth(s.gate, work)
    assert grown < allowance(FLAT), f"a worker grew by {grown >> 20} MiB"


@case(both=True)
def test_many_connections(t):
    """Nearly two hundred connections at once, each with a few requests; all are answered, descriptors come back."""
    s = Site(t)
    before = sum(procs.descriptors(w) for w in s.gate.workers())
    conns = [s.gate.plain() for _ in range(150)] + [s.gate.tls() for _ in range(40)]
    for _ in range(3):
        for i, c in enumerate(conns):
            c.request("GET", f"/{i}", "localhost")
        for i, c in enumerate(conns):
            assert json.loads(c.answer().body)["target"] == f"/{i}"
    for c in conns:
        c.close()
    s.backend.close_peers()
    wait_for("the descriptors to come back", lambda: sum(procs.descriptors(w) for w in s.gate.workers()) <= before + 4)
