/*
 * test_h1_parse.c - heads of requests and answers as tables: bytes in, verdict out. Each case is
 * parsed whole and byte by byte, from memory of exactly its size, and the verdicts must be one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proxy/h1_parse.h"

static const struct h1_limits limits = {.head = 1024, .target = 200, .fields = 20};

struct verdict {
    ssize_t result;
    const char *why;
    struct h1_head head;
    char *buf;
};

enum role { REQUEST, ANSWER };

static ssize_t parse(enum role role, enum http_method method, char *buf, size_t n, size_t *scanned,
                     struct arena *a, struct verdict *v)
{
    if (role == REQUEST)
        return h1_parse_request(buf, n, scanned, &limits, a, &v->head, &v->why);
    return h1_parse_answer(buf, n, scanned, &limits, method, a, &v->head, &v->why);
}

/* From memory of exactly n bytes, so that a byte too far is seen by ASan and valgrind. */
static struct verdict parse_whole(enum role role, enum http_method method, struct str in,
                                  struct arena *a)
{
    struct verdict v = {0};
    size_t scanned = 0;
    v.buf = malloc(in.n ? in.n : 1);
    assert_non_null(v.buf);
    if (in.n)
        memcpy(v.buf, in.p, in.n);
    v.result = parse(role, method, v.buf, in.n, &scanned, a, &v);
    return v;
}

static struct verdict parse_bytewise(enum role role, enum http_method method, struct str in,
                                     struct arena *a)
{
    struct verdict v = {0};
    size_t scanned = 0;
    v.buf = malloc(in.n ? in.n : 1);
    assert_non_null(v.buf);
    for (size_t n = 1; n <= in.n && v.result == 0; n++) {
        char *exact = malloc(n);
        assert_non_null(exact);
        memcpy(exact, v.buf, n - 1);
        exact[n - 1] = in.p[n - 1];
        v.result = parse(role, method, exact, n, &scanned, a, &v);
        memcpy(v.buf, exact, n);
        if (v.result > 0)
            h1_rebase(&v.head, exact, v.buf);
        free(exact);
    }
    return v;
}

static void same_str(struct str a, struct str b)
{
    assert_true(str_eq(a, b));
    assert_int_equal(a.p == NULL, b.p == NULL);
}

static void same(const struct verdict *a, const struct verdict *b)
{
    assert_int_equal(a->result, b->result);
    assert_ptr_equal(a->why, b->why);
    if (a->result <= 0)
        return;
    same_str(a->head.method_text, b->head.method_text);
    same_str(a->head.target, b->head.target);
    same_str(a->head.host, b->head.host);
    same_str(a->head.upgrade, b->head.upgrade);
    assert_int_equal(a->head.framing, b->head.framing);
    assert_int_equal(a->head.keep_alive, b->head.keep_alive);
    assert_int_equal(a->head.fields.n, b->head.fields.n);
    for (unsigned i = 0; i < a->head.fields.n; i++) {
        same_str(a->head.fields.v[i].name, b->head.fields.v[i].name);
        same_str(a->head.fields.v[i].value, b->head.fields.v[i].value);
        assert_int_equal(a->head.fields.v[i].flags, b->head.fields.v[i].flags);
    }
}

/* The head in one line, for tables: "1.1 chunked keep host=x expect trailers upgrade=y". */
static struct str describe(struct arena *a, const struct h1_head *h)
{
    struct str framing = STR("none");
    if (h->framing == H1_LENGTH)
        framing = arena_fmt(a, "%llu", (unsigned long long)h->length);
    else if (h->framing == H1_CHUNKED)
        framing = STR("chunked");
    else if (h->framing == H1_UNTIL_CLOSE)
        framing = STR("until-close");
    struct out o = out_on(arena_alloc(a, 4096), 4096);
    out_fmt(&o, "1.%u " STR_FMT " %s", h->minor, STR_ARG(framing),
            h->keep_alive ? "keep" : "close");
    if (h->host.p)
        out_fmt(&o, " host=" STR_FMT, STR_ARG(h->host));
    if (h->status)
        out_fmt(&o, " status=%u", h->status);
    if (h->expect_continue)
        out_lit(&o, " expect");
    if (h->te_trailers)
        out_lit(&o, " trailers");
    if (h->upgrade.p)
        out_fmt(&o, " upgrade=" STR_FMT, STR_ARG(h->upgrade));
    for (unsigned i = 0; i < h->fields.n; i++)
        if (h->fields.v[i].flags & FIELD_HOP)
            out_fmt(&o, " -" STR_FMT, STR_ARG(h->fields.v[i].name));
    assert_false(o.over);
    return out_done(&o);
}

struct h1_case {
    struct str in;
    int result;       /* OK: the whole input; 0: more; < 0: refused */
    const char *want; /* what describe() says, or what `why` holds */
    enum http_method method;
};
enum { OK = 1 };

static void run(enum role role, const struct h1_case *cases, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct arena *a = arena_new(8192);
        struct verdict whole = parse_whole(role, cases[i].method, cases[i].in, a);
        struct verdict bytewise = parse_bytewise(role, cases[i].method, cases[i].in, a);
        ssize_t want = cases[i].result == OK ? (ssize_t)cases[i].in.n : cases[i].result;
        if (whole.result != want)
            print_error("case %zu: result %zd, wanted %zd: %s\n" STR_FMT "\n", i, whole.result,
                        want, whole.why ? whole.why : "", STR_ARG(cases[i].in));
        assert_int_equal(whole.result, want);
        same(&whole, &bytewise);
        if (want > 0) {
            assert_null(whole.why);
            struct str said = describe(a, &whole.head);
            if (!str_eq(said, str_of(cases[i].want)))
                print_error("case %zu: " STR_FMT "\nwanted  %s\n", i, STR_ARG(said), cases[i].want);
            assert_true(str_eq(said, str_of(cases[i].want)));
            assert_true(whole.head.fields.cap >= whole.head.fields.n + 8);
        } else if (want < 0) {
            assert_non_null(whole.why);
            if (!strstr(whole.why, cases[i].want))
                print_error("case %zu: why \"%s\", wanted \"%s\"\n", i, whole.why, cases[i].want);
            assert_non_null(strstr(whole.why, cases[i].want));
        }
        free(whole.buf);
        free(bytewise.buf);
        arena_free(&a);
    }
}

#define HOST "Host: a.example\r\n"
#define GET  "GET / HTTP/1.1\r\n"
#define POST "POST / HTTP/1.1\r\n" HOST
#define X10  "xxxxxxxxxx"
#define X100 X10 X10 X10 X10 X10 X10 X10 X10 X10 X10
#define F5   "a: b\r\nc: d\r\ne: f\r\ng: h\r\ni: j\r\n"

static void good_requests(void **state)
{
    (void)state;
    static const struct h1_case cases[] = {
        {STR(GET HOST "\r\n"), OK, "1.1 none keep host=a.example", 0},
        {STR("\r\n" GET HOST "\r\n"), OK, "1.1 none keep host=a.example", 0},
        {STR("GET / HTTP/1.0\r\n\r\n"), OK, "1.0 none close", 0},
        {STR("GET / HTTP/1.0\r\n" HOST "\r\n"), OK, "1.0 none close host=a.example", 0},
        {STR("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"), OK, "1.0 none keep -connection",
         0},
        {STR("GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n"), OK,
         "1.0 none close -connection", 0},
        {STR(GET HOST "Connection: close\r\n\r\n"), OK, "1.1 none close host=a.example -connection",
         0},
        {STR(GET HOST "Connection: keep-alive\r\nKeep-Alive: 5\r\n\r\n"), OK,
         "1.1 none keep host=a.example -connection -keep-alive", 0},
        {STR(GET "hOsT:\ta.Example:8443 \t\r\n\r\n"), OK, "1.1 none keep host=a.Example:8443", 0},
        {STR(GET "Host:[::1]:80\r\n\r\n"), OK, "1.1 none keep host=[::1]:80", 0},
        {STR(GET "Host: 127.0.0.1\r\n\r\n"), OK, "1.1 none keep host=127.0.0.1", 0},
        {STR(GET "Host: _a-b.example.\r\n\r\n"), OK, "1.1 none keep host=_a-b.example.", 0},
        {STR(GET HOST "A:\r\nB: \r\nc_d: \xff\x80 x\ty\r\n\r\n"), OK,
         "1.1 none keep host=a.example", 0},
        {STR(POST "Content-Length: 0\r\n\r\n"), OK, "1.1 0 keep host=a.example -content-length", 0},
        {STR(POST "Content-Length: 0018\r\n\r\n"), OK, "1.1 18 keep host=a.example -content-length",
         0},
        {STR(POST "Content-Length: 9223372036854775807\r\n\r\n"), OK,
         "1.1 9223372036854775807 keep host=a.example -content-length", 0},
        {STR(POST "Transfer-Encoding: Chunked\r\n\r\n"), OK,
         "1.1 chunked keep host=a.example -transfer-encoding", 0},
        {STR(POST "Content-Length: 5\r\nExpect: 100-Continue\r\n\r\n"), OK,
         "1.1 5 keep host=a.example expect -content-length", 0},
        {STR(GET HOST "Expect: 100-continue\r\n\r\n"), OK, "1.1 none keep host=a.example", 0},
        {STR("POST / HTTP/1.0\r\nContent-Length: 5\r\nExpect: x\r\n\r\n"), OK,
         "1.0 5 close -content-length", 0},
        {STR(GET HOST "TE: gzip, trailers\r\nConnection: te\r\n\r\n"), OK,
         "1.1 none keep host=a.example trailers -te -connection", 0},
        {STR(GET HOST "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"), OK,
         "1.1 none keep host=a.example upgrade=websocket -connection -upgrade", 0},
        {STR(GET HOST "Upgrade: h2c\r\n\r\n"), OK, "1.1 none keep host=a.example -upgrade", 0},
        {STR("GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n"), OK,
         "1.0 none close -connection -upgrade", 0},
        {STR(GET HOST "X-A: 1\r\nConnection: x-a,, x-b ,cookie\r\nX-B: 2\r\nCookie: c\r\n\r\n"), OK,
         "1.1 none keep host=a.example -x-a -connection -x-b -cookie", 0},
        {STR(GET HOST "Proxy-Connection: close\r\nProxy-Authorization: b\r\n\r\n"), OK,
         "1.1 none keep host=a.example -proxy-connection -proxy-authorization", 0},
        {STR("OPTIONS * HTTP/1.1\r\n" HOST "\r\n"), OK, "1.1 none keep host=a.example", 0},
        {STR("GET http://B.example/x HTTP/1.1\r\nHost: b.example\r\n\r\n"), OK,
         "1.1 none keep host=B.example", 0},
        {STR("GET HTTPS://b.example?q HTTP/1.1\r\nHost: b.example:443\r\n\r\n"), OK,
         "1.1 none keep host=b.example", 0},
        {STR("GET http://b.example:80 HTTP/1.1\r\nHost: b.example\r\n\r\n"), OK,
         "1.1 none keep host=b.example:80", 0},
        {STR("GET http://b.example/ HTTP/1.0\r\n\r\n"), OK, "1.0 none close host=b.example", 0},
        {STR("!#$%&'*+-.^_`|~09azAZ / HTTP/1.1\r\n" HOST "\r\n"), OK,
         "1.1 none keep host=a.example", 0},
        {STR("GET //a/%2e?\"{}|^`[]\\<> HTTP/1.1\r\n" HOST "\r\n"), OK,
         "1.1 none keep host=a.example", 0},
        {STR(X10 X10 X10 "xx / HTTP/1.1\r\n" HOST "\r\n"), OK, "1.1 none keep host=a.example", 0},
        {STR("GET /" X100 X10 X10 X10 X10 X10 X10 X10 X10 X10 "xxxxxxxxx HTTP/1.1\r\n" HOST "\r\n"),
         OK, "1.1 none keep host=a.example", 0},
        {STR(GET HOST F5 F5 F5 "a: b\r\nc: d\r\ne: f\r\ng: h\r\n\r\n"), OK,
         "1.1 none keep host=a.example", 0},
    };
    run(REQUEST, cases, ARRAY_LEN(cases));
}

static void unfinished_requests(void **state)
{
    (void)state;
    static const struct h1_case cases[] = {
        {STR(""), 0, "", 0},
        {STR("\r"), 0, "", 0},
        {STR("\r\n"), 0, "", 0},
        {STR("\r\nG"), 0, "", 0},
        {STR("GET"), 0, "", 0},
        {STR("GET /"), 0, "", 0},
        {STR(GET), 0, "", 0},
        {STR(GET HOST), 0, "", 0},
        {STR(GET HOST "\r"), 0, "", 0},
        {STR(GET HOST "Cookie: " X100 X100 X100), 0, "", 0},
    };
    run(REQUEST, cases, ARRAY_LEN(cases));
}

static void bad_framing(void **state)
{
    (void)state;
    static const struct h1_case cases[] = {
        {STR(POST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"), -400, "together", 0},
        {STR(POST "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n"), -400, "together", 0},
        {STR(POST "Content-Length: 5\r\nContent-Length: 6\r\n\r\n"), -400, "more than one Content",
         0},
        {STR(POST "Content-Length: 5\r\nContent-Length: 5\r\n\r\n"), -400, "more than one Content",
         0},
        {STR(POST "Content-Length: 5, 5\r\n\r\n"), -400, "not a number", 0},
        {STR(POST "Content-Length: +5\r\n\r\n"), -400, "not a number", 0},
        {STR(POST "Content-Length: -5\r\n\r\n"), -400, "not a number", 0},
        {STR(POST "Content-Length: 0x5\r\n\r\n"), -400, "not a number", 0},
        {STR(POST "Content-Length: 5 5\r\n\r\n"), -400, "not a number", 0},
        {STR(POST "Content-Length: 5;\r\n\r\n"), -400, "not a number", 0},
        {STR(POST "Content-Length: \r\n\r\n"), -400, "not a number", 0},
        {STR(POST "Content-Length: \xb2\r\n\r\n"), -400, "not a number", 0},
        {STR(POST "Content-Length: 9223372036854775808\r\n\r\n"), -400, "too large", 0},
        {STR(POST "Content-Length: 18446744073709551616\r\n\r\n"), -400, "Content-Length", 0},
        {STR(POST "Content-Length: 18446744073709551621\r\n\r\n"), -400, "Content-Length", 0},
        {STR(POST "Transfer-Encoding: gzip\r\n\r\n"), -400, "other than chunked", 0},
        {STR(POST "Transfer-Encoding: gzip, chunked\r\n\r\n"), -400, "other than chunked", 0},
        {STR(POST "Transfer-Encoding: chunked, chunked\r\n\r\n"), -400, "other than chunked", 0},
        {STR(POST "Transfer-Encoding: chunked,\r\n\r\n"), -400, "other than chunked", 0},
        {STR(POST "Transfer-Encoding: chunked;q=1\r\n\r\n"), -400, "other than chunked", 0},
        {STR(POST "Transfer-Encoding: xchunked\r\n\r\n"), -400, "other than chunked", 0},
        {STR(POST "Transfer-Encoding: identity\r\n\r\n"), -400, "other than chunked", 0},
        {STR(POST "Transfer-Encoding:\r\n\r\n"), -400, "other than chunked", 0},
        {STR(POST "Transfer-Encoding: \"chunked\"\r\n\r\n"), -400, "other than chunked", 0},
        {STR(POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"), -400,
         "more than one Transfer", 0},
        {STR(POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n"), -400,
         "more than one Transfer", 0},
        {STR("POST / HTTP/1.0\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"), -400, "HTTP/1.0", 0},
        {STR(POST "Content-Length: 5\r\nConnection: content-length\r\n\r\n"), -400,
         "Connection names", 0},
        {STR(GET "Connection: close, Host\r\n" HOST "\r\n"), -400, "Connection names", 0},
        {STR(GET HOST "Connection: a;b\r\n\r\n"), -400, "list of tokens", 0},
        {STR(GET HOST "Connection: a,b,c,d,e,f,g,h,a,b,c,d,e,f,g,h,a,b,c,d,e,f,g,h,a,b,c,d,e,f,g,h,"
                      "i\r\n\r\n"),
         -400, "too many options", 0},
        {STR(POST "Content-Length: 5\r\nExpect: 200-ok\r\n\r\n"), -417, "Expect", 0},
        {STR(POST "Content-Length: 5\r\nExpect: 100-continue, x\r\n\r\n"), -417, "Expect", 0},
        {STR(POST "Content-Length: 5\r\nExpect:\r\n\r\n"), -417, "Expect", 0},
    };
    run(REQUEST, cases, ARRAY_LEN(cases));
}

static void bad_lines(void **state)
{
    (void)state;
    static const struct h1_case cases[] = {
        {STR("GET / HTTP/1.1\nHost: a\n\n"), -400, "stands alone", 0},
        {STR(GET "Host: a\n\r\n"), -400, "stands alone", 0},
        {STR(GET "Host: a\r\r\n\r\n"), -400, "stands alone", 0},
        {STR(GET HOST "a: b\rc: d\r\n\r\n"), -400, "stands alone", 0},
        {STR(GET HOST "\r\r\n\r\n"), -400, "stands alone", 0},
        {STR(GET HOST "\n"), -400, "stands alone", 0},
        {STR(GET HOST X100 X100 "\n"), -400, "stands alone", 0},
        {STR("\rGET"), -400, "stands alone", 0},
        {STR("\r\n\r\n" GET HOST "\r\n"), -400, "not an HTTP request", 0},
        {STR("\nGET"), -400, "not an HTTP request", 0},
        {STR(GET HOST "a: b\0c\r\n\r\n"), -400, "control byte", 0},
        {STR(GET HOST "a: b\x01\r\n\r\n"), -400, "control byte", 0},
        {STR(GET HOST "a: \x7f\r\n\r\n"), -400, "control byte", 0},
        {STR(GET HOST "a: " X10 X10 X10 "\x0b" X10 X10 "\r\n\r\n"), -400, "control byte", 0},
        {STR(GET HOST "a: b\r\n c\r\n\r\n"), -400, "obs-fold", 0},
        {STR(GET HOST "a: b\r\n\tc: d\r\n\r\n"), -400, "obs-fold", 0},
        {STR(GET " " HOST "\r\n"), -400, "obs-fold", 0},
        {STR(GET HOST " \r\n\r\n"), -400, "obs-fold", 0},
        {STR(GET "Host : a\r\n\r\n"), -400, "before the colon", 0},
        {STR(GET "Host\t: a\r\n\r\n"), -400, "before the colon", 0},
        {STR(GET HOST ": b\r\n\r\n"), -400, "no name", 0},
        {STR(GET HOST "abc\r\n\r\n"), -400, "no colon", 0},
        {STR(GET HOST "a(b: c\r\n\r\n"), -400, "field name", 0},
        {STR(GET HOST "a\0: c\r\n\r\n"), -400, "control byte", 0},
        {STR(GET HOST "\xc3\xa4: c\r\n\r\n"), -400, "field name", 0},
        {STR(GET HOST "\"a\": c\r\n\r\n"), -400, "field name", 0},
        {STR(GET HOST "content-length\0: 5\r\n\r\n"), -400, "control byte", 0},
    };
    run(REQUEST, cases, ARRAY_LEN(cases));
}

static void bad_request_lines(void **state)
{
    (void)state;
    static const struct h1_case cases[] = {
        {STR("\x16\x03\x01\x02"), -400, "TLS", 0},
        {STR(" GET / HTTP/1.1\r\n"), -400, "not an HTTP request", 0},
        {STR("G\xc3T / HTTP/1.1\r\n"), -400, "not an HTTP request", 0},
        {STR("G(T / HTTP/1.1\r\n"), -400, "not an HTTP request", 0},
        {STR("GET\t/ HTTP/1.1\r\n"), -400, "not an HTTP request", 0},
        {STR("GET\r\n"), -400, "not an HTTP request", 0},
        {STR("{\"a\": 1}"), -400, "not an HTTP request", 0},
        {STR(X10 X10 X10 "xxx"), -400, "method is too long", 0},
        {STR("GET  / HTTP/1.1\r\n" HOST "\r\n"), -400, "not an HTTP version", 0},
        {STR("GET \r\n\r\n"), -400, "without an HTTP version", 0},
        {STR("GET  HTTP/1.1\r\n" HOST "\r\n"), -400, "empty request target", 0},
        {STR("GET /\r\n\r\n"), -400, "without an HTTP version", 0},
        {STR("GET / \r\n\r\n"), -400, "not an HTTP version", 0},
        {STR("GET /  HTTP/1.1\r\n" HOST "\r\n"), -400, "not an HTTP version", 0},
        {STR("GET / HTTP/1.1 \r\n" HOST "\r\n"), -400, "not an HTTP version", 0},
        {STR("GET / http/1.1\r\n" HOST "\r\n"), -400, "not an HTTP version", 0},
        {STR("GET / HTTP/1.10\r\n" HOST "\r\n"), -400, "not an HTTP version", 0},
        {STR("GET / HTTP/11\r\n" HOST "\r\n"), -400, "not an HTTP version", 0},
        {STR("GET / HTTP/1,1\r\n" HOST "\r\n"), -400, "not an HTTP version", 0},
        {STR("GET / FTP/1.1\r\n" HOST "\r\n"), -400, "not an HTTP version", 0},
        {STR("GET / HTTP/1.2\r\n" HOST "\r\n"), -505, "HTTP version", 0},
        {STR("GET / HTTP/0.9\r\n" HOST "\r\n"), -505, "HTTP version", 0},
        {STR("GET / HTTP/2.0\r\n" HOST "\r\n"), -505, "HTTP version", 0},
        {STR("GET / HTTP/3.1\r\n" HOST "\r\n"), -505, "HTTP version", 0},
        {STR("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), -505, "HTTP version", 0},
        {STR("CONNECT a.example:443 HTTP/1.1\r\n" HOST "\r\n"), -501, "CONNECT", 0},
        {STR("CONNECT / HTTP/1.1\r\n" HOST "\r\n"), -501, "CONNECT", 0},
        {STR("GET * HTTP/1.1\r\n" HOST "\r\n"), -400, "without OPTIONS", 0},
        {STR("GET a.example:80 HTTP/1.1\r\n" HOST "\r\n"), -400, "neither", 0},
        {STR("GET index.html HTTP/1.1\r\n" HOST "\r\n"), -400, "neither", 0},
        {STR("GET ?x HTTP/1.1\r\n" HOST "\r\n"), -400, "neither", 0},
        {STR("GET ftp://a.example/ HTTP/1.1\r\n" HOST "\r\n"), -400, "neither", 0},
        {STR("GET http:/a.example/ HTTP/1.1\r\n" HOST "\r\n"), -400, "neither", 0},
        {STR("GET http:/// HTTP/1.1\r\n" HOST "\r\n"), -400, "no valid host", 0},
        {STR("GET http://u@a.example/ HTTP/1.1\r\n" HOST "\r\n"), -400, "no valid host", 0},
        {STR("GET http://a.example\\b/ HTTP/1.1\r\n" HOST "\r\n"), -400, "no valid host", 0},
        {STR("GET http://b.example/ HTTP/1.1\r\n" HOST "\r\n"), -400, "different hosts", 0},
        {STR("GET http://a.example:81/ HTTP/1.1\r\n" HOST "\r\n"), -400, "different hosts", 0},
        {STR("GET http://a.example/ HTTP/1.1\r\n\r\n"), -400, "no Host", 0},
        {STR("GET /#a HTTP/1.1\r\n" HOST "\r\n"), -400, "cannot hold", 0},
        {STR("GET /\xc3\xa4 HTTP/1.1\r\n" HOST "\r\n"), -400, "cannot hold", 0},
        {STR("GET /\0 HTTP/1.1\r\n" HOST "\r\n"), -400, "control byte", 0},
        {STR("GET /a\0"), -400, "control byte", 0},
        {STR("GET /a\tb HTTP/1.1\r\n" HOST "\r\n"), -400, "cannot hold", 0},
        {STR("GET /\x7f HTTP/1.1\r\n" HOST "\r\n"), -400, "control byte", 0},
        {STR("GET /a b HTTP/1.1\r\n" HOST "\r\n"), -400, "not an HTTP version", 0},
    };
    run(REQUEST, cases, ARRAY_LEN(cases));
}

static void bad_hosts(void **state)
{
    (void)state;
    static const struct h1_case cases[] = {
        {STR(GET "\r\n"), -400, "no Host", 0},
        {STR(GET HOST HOST "\r\n"), -400, "more than one Host", 0},
        {STR("GET / HTTP/1.0\r\n" HOST "Host: b\r\n\r\n"), -400, "more than one Host", 0},
        {STR(GET "Host:\r\n\r\n"), -400, "not a valid host", 0},
        {STR(GET "Host: \t \r\n\r\n"), -400, "not a valid host", 0},
        {STR(GET "Host: a b\r\n\r\n"), -400, "not a valid host", 0},
        {STR(GET "Host: a,b\r\n\r\n"), -400, "not a valid host", 0},
        {STR(GET "Host: u@a\r\n\r\n"), -400, "not a valid host", 0},
        {STR(GET "Host: a/b\r\n\r\n"), -400, "not a valid host", 0},
        {STR(GET "Host: a?b\r\n\r\n"), -400, "not a valid host", 0},
        {STR(GET "Host: a\"b\r\n\r\n"), -400, "not a valid host", 0},
        {STR(GET "Host: a%00\r\n\r\n"), -400, "not a valid host", 0},
        {STR(GET "Host: \xc3\xa4\r\n\r\n"), -400, "not a valid host", 0},
        {STR(GET "Host: a:\r\n\r\n"), -400, "not a valid host", 0},
        {STR(GET "Host: a:b\r\n\r\n"), -400, "not a valid host", 0},
        {STR(GET "Host: a:0\r\n\r\n"), -400, "not a valid host", 0},
        {STR(GET "Host: a:65536\r\n\r\n"), -400, "not a valid host", 0},
        {STR(GET "Host: a:-1\r\n\r\n"), -400, "not a valid host", 0},
        {STR(GET "Host: a:80:80\r\n\r\n"), -400, "not a valid host", 0},
        {STR(GET "Host: :80\r\n\r\n"), -400, "not a valid host", 0},
        {STR(GET "Host: ::1\r\n\r\n"), -400, "not a valid host", 0},
        {STR(GET "Host: [::1\r\n\r\n"), -400, "not a valid host", 0},
        {STR(GET "Host: []\r\n\r\n"), -400, "not a valid host", 0},
        {STR(GET "Host: [::1]a\r\n\r\n"), -400, "not a valid host", 0},
        {STR(GET "Host: [::g]\r\n\r\n"), -400, "not a valid host", 0},
        {STR(GET "Host: [fe80::1%25eth0]\r\n\r\n"), -400, "not a valid host", 0},
        {STR(GET "Host: " X100 X100 X100 "\r\n\r\n"), -400, "not a valid host", 0},
        {STR(GET "Host: http://a\r\n\r\n"), -400, "not a valid host", 0},
    };
    run(REQUEST, cases, ARRAY_LEN(cases));
}

/* Also when the end of the head never comes, and whatever else is wrong behind the limit. */
static void limits_of_requests(void **state)
{
    (void)state;
    static const struct h1_case cases[] = {
        {STR("GET /" X100 X100), -414, "target", 0},
        {STR("GET /" X100 X100 " HTTP/1.1\r\n" HOST "\r\n"), -414, "target", 0},
        {STR("GET /\x80" X100 X100 " HTTP/1.1\r\n" HOST "\r\n"), -414, "target", 0},
        {STR("GET /" X100 X100 "\n"), -414, "target", 0},
        {STR("\r\nGET /#" X100 X100 "\r\r"), -414, "target", 0},
        {STR("CONNECT " X100 X100 "x"), -414, "target", 0},
        {STR(GET HOST X100 X100 X100 X100 X100 X100 X100 X100 X100 X100), -431, "head", 0},
        {STR(GET HOST X100 X100 X100 X100 X100 X100 X100 X100 X100 X100 "\r\n\r\n"), -431, "head",
         0},
        {STR(GET HOST "a: " X100 X100 X100 X100 X100 X100 X100 X100 X100 X100 "\n"), -431, "head",
         0},
        {STR(GET HOST F5 F5 F5 F5 "\r\n"), -431, "fields", 0},
    };
    run(REQUEST, cases, ARRAY_LEN(cases));
}

#define S200 "HTTP/1.1 200 OK\r\n"

static void good_answers(void **state)
{
    (void)state;
    static const struct h1_case cases[] = {
        {STR(S200 "\r\n"), OK, "1.1 until-close close status=200", METHOD_GET},
        {STR("HTTP/1.1 200\r\nContent-Length: 3\r\n\r\n"), OK,
         "1.1 3 keep status=200 -content-length", METHOD_GET},
        {STR("HTTP/1.1 404 \r\nContent-Length: 3\r\n\r\n"), OK,
         "1.1 3 keep status=404 -content-length", METHOD_GET},
        {STR("HTTP/1.1 599 \xfc \t x\r\nContent-Length: 3\r\n\r\n"), OK,
         "1.1 3 keep status=599 -content-length", METHOD_POST},
        {STR(S200 "Transfer-Encoding: chunked\r\n\r\n"), OK,
         "1.1 chunked keep status=200 -transfer-encoding", METHOD_GET},
        {STR(S200 "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"), OK,
         "1.1 chunked close status=200 -transfer-encoding -connection", METHOD_GET},
        {STR("HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n"), OK,
         "1.0 3 close status=200 -content-length", METHOD_GET},
        {STR("HTTP/1.0 200 OK\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\n"), OK,
         "1.0 3 keep status=200 -content-length -connection", METHOD_GET},
        {STR("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n"), OK,
         "1.0 until-close close status=200 -connection", METHOD_GET},
        {STR(S200 "Content-Length: 3\r\n\r\n"), OK, "1.1 none keep status=200 -content-length",
         METHOD_HEAD},
        {STR(S200 "Transfer-Encoding: chunked\r\n\r\n"), OK,
         "1.1 none keep status=200 -transfer-encoding", METHOD_HEAD},
        {STR("HTTP/1.1 100 Continue\r\n\r\n"), OK, "1.1 none keep status=100", METHOD_POST},
        {STR("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"), OK, "1.1 none keep status=103",
         METHOD_GET},
        {STR("HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"), OK,
         "1.1 none keep status=101 upgrade=websocket -connection -upgrade", METHOD_GET},
        {STR("HTTP/1.1 204 No Content\r\n\r\n"), OK, "1.1 none keep status=204", METHOD_GET},
        {STR("HTTP/1.1 304 N\r\nContent-Length: 7\r\n\r\n"), OK,
         "1.1 none keep status=304 -content-length", METHOD_GET},
    };
    run(ANSWER, cases, ARRAY_LEN(cases));
}

static void bad_answers(void **state)
{
    (void)state;
    static const struct h1_case cases[] = {
        {STR(""), 0, "", METHOD_GET},
        {STR("HTTP/1"), 0, "", METHOD_GET},
        {STR(S200), 0, "", METHOD_GET},
        {STR("\r\n"), -502, "not HTTP/1", METHOD_GET},
        {STR("SSH-2.0"), -502, "not HTTP/1", METHOD_GET},
        {STR("HTTP/2 200\r\n"), -502, "not HTTP/1", METHOD_GET},
        {STR("http/1.1 200 OK\r\n"), -502, "not HTTP/1", METHOD_GET},
        {STR("HTTP/1.2 200 OK\r\n\r\n"), -502, "version", METHOD_GET},
        {STR("HTTP/1.1200 OK\r\n\r\n"), -502, "version", METHOD_GET},
        {STR("HTTP/1.1\r\n\r\n"), -502, "version", METHOD_GET},
        {STR("HTTP/1.1  200 OK\r\n\r\n"), -502, "three-digit", METHOD_GET},
        {STR("HTTP/1.1 20 OK\r\n\r\n"), -502, "three-digit", METHOD_GET},
        {STR("HTTP/1.1 2000 OK\r\n\r\n"), -502, "three-digit", METHOD_GET},
        {STR("HTTP/1.1 200OK\r\n\r\n"), -502, "three-digit", METHOD_GET},
        {STR("HTTP/1.1 +20 OK\r\n\r\n"), -502, "three-digit", METHOD_GET},
        {STR("HTTP/1.1 \r\n\r\n"), -502, "three-digit", METHOD_GET},
        {STR("HTTP/1.1 099 OK\r\n\r\n"), -502, "100 to 599", METHOD_GET},
        {STR("HTTP/1.1 600 OK\r\n\r\n"), -502, "100 to 599", METHOD_GET},
        {STR("HTTP/1.1 200 O\0K\r\n\r\n"), -502, "control byte", METHOD_GET},
        {STR("HTTP/1.1 200 OK\n\n"), -502, "stands alone", METHOD_GET},
        {STR(S200 "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"), -502, "together",
         METHOD_GET},
        {STR(S200 "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"), -502, "together",
         METHOD_HEAD},
        {STR(S200 "Content-Length: 3\r\nContent-Length: 3\r\n\r\n"), -502, "more than one",
         METHOD_GET},
        {STR(S200 "Content-Length: 3,3\r\n\r\n"), -502, "not a number", METHOD_GET},
        {STR(S200 "Transfer-Encoding: gzip\r\n\r\n"), -502, "other than", METHOD_GET},
        {STR("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), -502, "HTTP/1.0",
         METHOD_GET},
        {STR(S200 "a: b\r\n c\r\n\r\n"), -502, "obs-fold", METHOD_GET},
        {STR(S200 "a : b\r\n\r\n"), -502, "before the colon", METHOD_GET},
        {STR(S200 "a: b\0\r\n\r\n"), -502, "control byte", METHOD_GET},
        {STR(S200 F5 F5 F5 F5 "a: b\r\n\r\n"), -502, "fields", METHOD_GET},
        {STR(S200 X100 X100 X100 X100 X100 X100 X100 X100 X100 X100 X100), -502, "head",
         METHOD_GET},
        {STR("\x15\x03\x03\x00\x02"), -502, "TLS", METHOD_GET},
    };
    run(ANSWER, cases, ARRAY_LEN(cases));
}

/* What stands behind a head is not touched: the next request of a pipeline, or a body. */
static void pipelined(void **state)
{
    (void)state;
    struct arena *a = arena_new(4096);
    struct str in = STR(GET "HOST: a\r\n\r\nPOST /Next HTTP/1.1\r\nHOST: b\r\n\r\n");
    struct verdict v = parse_whole(REQUEST, METHOD_GET, in, a);
    assert_int_equal(v.result, 27);
    assert_true(str_eq(v.head.fields.v[0].name, STR("host")));
    assert_int_equal(v.head.fields.v[0].token, FIELD_host);
    assert_memory_equal(v.buf + v.result, in.p + v.result, in.n - (size_t)v.result);
    free(v.buf);
    arena_free(&a);
}

/* Every place of the end within and over the blocks of the vector loops. */
static void every_length(void **state)
{
    (void)state;
    char text[512];
    for (size_t pad = 0; pad < 200; pad++) {
        struct arena *a = arena_new(4096);
        struct out o = out_on(text, sizeof(text));
        out_lit(&o, "GET / HTTP/1.1\r\nHost: a\r\nx: ");
        for (size_t i = 0; i < pad; i++)
            out_char(&o, 'y');
        out_lit(&o, "\r\n\r\n");
        assert_false(o.over);
        struct verdict v = parse_whole(REQUEST, METHOD_GET, out_done(&o), a);
        assert_int_equal(v.result, o.n);
        assert_int_equal(v.head.fields.n, 2);
        assert_int_equal(v.head.fields.v[1].value.n, pad);
        free(v.buf);
        arena_free(&a);
    }
}

/* More lines than the first look keeps places for: they are found again. */
static void many_lines(void **state)
{
    (void)state;
    static const struct h1_limits wide = {.head = 65536, .target = 200, .fields = 1000};
    struct arena *a = arena_new(65536);
    struct out o = out_on(arena_alloc(a, 32768), 32768);
    for (unsigned count = 100; count < 300; count += 7) {
        o.n = 0;
        out_lit(&o, "GET / HTTP/1.1\r\nHost: a\r\n");
        for (unsigned i = 1; i < count; i++)
            out_fmt(&o, "X-%u: %u\r\n", i, i);
        out_lit(&o, "\r\n");
        assert_false(o.over);
        size_t scanned = 0;
        const char *why = NULL;
        struct h1_head h;
        assert_int_equal(h1_parse_request(o.p, o.n, &scanned, &wide, a, &h, &why), o.n);
        assert_int_equal(h.fields.n, count);
        for (unsigned i = 1; i < count; i++) {
            assert_true(str_eq(h.fields.v[i].name, arena_fmt(a, "x-%u", i)));
            assert_true(str_eq(h.fields.v[i].value, arena_fmt(a, "%u", i)));
        }
    }
    arena_free(&a);
}

static void rebase(void **state)
{
    (void)state;
    struct arena *a = arena_new(4096);
    struct verdict v = parse_whole(REQUEST, METHOD_GET, STR(GET HOST "X: y\r\n\r\n"), a);
    char *to = arena_alloc(a, (size_t)v.result);
    memcpy(to, v.buf, (size_t)v.result);
    h1_rebase(&v.head, v.buf, to);
    memset(v.buf, '?', (size_t)v.result);
    free(v.buf);
    assert_true(str_eq(v.head.method_text, STR("GET")));
    assert_true(str_eq(v.head.target, STR("/")));
    assert_true(str_eq(v.head.host, STR("a.example")));
    assert_null(v.head.upgrade.p);
    assert_true(str_eq(v.head.fields.v[1].name, STR("x")));
    assert_true(str_eq(v.head.fields.v[1].value, STR("y")));
    arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_requests),      cmocka_unit_test(unfinished_requests),
        cmocka_unit_test(bad_framing),        cmocka_unit_test(bad_lines),
        cmocka_unit_test(bad_request_lines),  cmocka_unit_test(bad_hosts),
        cmocka_unit_test(limits_of_requests), cmocka_unit_test(good_answers),
        cmocka_unit_test(bad_answers),        cmocka_unit_test(pipelined),
        cmocka_unit_test(every_length),       cmocka_unit_test(rebase),
        cmocka_unit_test(many_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
