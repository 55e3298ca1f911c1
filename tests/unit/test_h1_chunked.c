/*
 * test_h1_chunked.c - the chunked coding as a table: bytes in; body, trailers, what follows and the
 * verdict out. Each case is fed in pieces of 1, 2, 3, 7 bytes and whole.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proxy/h1_parse.h"

static const struct h1_limits limits = {.head = 1100, .target = 200, .fields = 4};

struct chunk_case {
    struct str in;
    enum h1_chunk_event event;
    const char *body;
    const char *want; /* END: trailers as "name=value;"; BAD: what `why` holds */
    const char *rest; /* END: what follows the body */
};

struct chunk_outcome {
    enum h1_chunk_event event;
    struct out body;
    const char *why;
    size_t rest;
    struct h1_chunked c;
};

/* One piece of the input, in memory of exactly its size. */
static void feed_piece(struct chunk_outcome *o, const char *p, size_t n)
{
    char *exact = malloc(n);
    assert_non_null(exact);
    memcpy(exact, p, n);
    struct str data = {exact, n}, piece;
    do {
        o->event = h1_chunked_feed(&o->c, &data, &piece, &o->why);
        if (o->event == H1_CHUNK_DATA) {
            assert_int_not_equal(piece.n, 0);
            out_str(&o->body, piece);
        } else {
            assert_int_equal(piece.n, 0);
        }
    } while (o->event == H1_CHUNK_DATA);
    if (o->event == H1_CHUNK_MORE)
        assert_int_equal(data.n, 0);
    if (o->event == H1_CHUNK_END)
        o->rest += data.n;
    free(exact);
}

static void feed_all(struct chunk_outcome *o, struct arena *a, struct str in, size_t step)
{
    *o = (struct chunk_outcome){.event = H1_CHUNK_MORE, .body = out_on(arena_alloc(a, 2048), 2048)};
    h1_chunked_init(&o->c, a, &limits);
    for (size_t i = 0; i < in.n && o->event != H1_CHUNK_BAD; i += step)
        feed_piece(o, in.p + i, MIN(step, in.n - i));
    assert_false(o->body.over);
}

static struct str trailers_text(struct arena *a, const struct fields *f)
{
    struct out o = out_on(arena_alloc(a, 2048), 2048);
    for (unsigned i = 0; i < f->n; i++)
        out_fmt(&o, STR_FMT "=" STR_FMT ";", STR_ARG(f->v[i].name), STR_ARG(f->v[i].value));
    assert_false(o.over);
    return out_done(&o);
}

static void check(struct arena *a, const struct chunk_case *k, size_t step)
{
    struct chunk_outcome o;
    feed_all(&o, a, k->in, step);
    if (o.event != k->event)
        print_error("event %d, wanted %d: %s: " STR_FMT "\n", (int)o.event, (int)k->event,
                    o.why ? o.why : "", STR_ARG(k->in));
    assert_int_equal(o.event, k->event);
    assert_true(str_eq(out_done(&o.body), str_of(k->body)));
    if (k->event == H1_CHUNK_BAD) {
        if (!strstr(o.why, k->want))
            print_error("why \"%s\", wanted \"%s\"\n", o.why, k->want);
        assert_non_null(strstr(o.why, k->want));
        struct str more = STR("0\r\n\r\n"), piece;
        assert_int_equal(h1_chunked_feed(&o.c, &more, &piece, &o.why), H1_CHUNK_BAD);
    }
    if (k->event == H1_CHUNK_END) {
        struct str text = trailers_text(a, &o.c.trailers);
        if (!str_eq(text, str_of(k->want)))
            print_error("trailers " STR_FMT ", wanted %s\n", STR_ARG(text), k->want);
        assert_true(str_eq(text, str_of(k->want)));
        assert_int_equal(o.rest, strlen(k->rest));
    }
}

static void run(const struct chunk_case *cases, size_t n)
{
    static const size_t steps[] = {1, 2, 3, 7, 4096};
    for (size_t i = 0; i < n; i++) {
        for (size_t s = 0; s < ARRAY_LEN(steps); s++) {
            struct arena *a = arena_new(8192);
            check(a, &cases[i], steps[s]);
            arena_free(&a);
        }
    }
}

#define X10  "xxxxxxxxxx"
#define X100 X10 X10 X10 X10 X10 X10 X10 X10 X10 X10

static void good(void **state)
{
    (void)state;
    static const struct chunk_case cases[] = {
        {STR("0\r\n\r\n"), H1_CHUNK_END, "", "", ""},
        {STR("000\r\n\r\n"), H1_CHUNK_END, "", "", ""},
        {STR("5\r\nhello\r\n0\r\n\r\n"), H1_CHUNK_END, "hello", "", ""},
        {STR("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\nGET / H"), H1_CHUNK_END, "hello world", "",
         "GET / H"},
        {STR("a\r\n0123456789\r\n0\r\n\r\n"), H1_CHUNK_END, "0123456789", "", ""},
        {STR("0B\r\n0123\r\n6789a\r\n0\r\n\r\n"), H1_CHUNK_END, "0123\r\n6789a", "", ""},
        {STR("0000000000000001\r\nx\r\n0\r\n\r\n"), H1_CHUNK_END, "x", "", ""},
        {STR("1;a=b;c=\"d\\\"\xff\"\r\nx\r\n0;z\r\n\r\n"), H1_CHUNK_END, "x", "", ""},
        {STR("1 \t;a\r\nx\r\n0\r\n\r\n"), H1_CHUNK_END, "x", "", ""},
        {STR("1;" X100 X100 X10 X10 X10 X10 X10 "xx\r\nx\r\n0\r\n\r\n"), H1_CHUNK_END, "x", "", ""},
        {STR("0\r\nGrpc-Status: 0\r\nx-Y:\tz \r\n\r\nrest"), H1_CHUNK_END, "",
         "grpc-status=0;x-y=z;", "rest"},
        {STR("0\r\nETag: \"a\"\r\nHost: a\r\nContent-Length: 5\r\nContent-Foo: x\r\n\r\n"),
         H1_CHUNK_END, "", "etag=\"a\";", ""},
        {STR("0\r\nTransfer-Encoding: chunked\r\nTE: x\r\nTrailer: x\r\nConnection: y\r\n\r\n"),
         H1_CHUNK_END, "", "", ""},
        {STR("0\r\nAuthorization: x\r\nCookie: x\r\nSet-Cookie: x\r\na: b\r\n\r\n"), H1_CHUNK_END,
         "", "a=b;", ""},
        {STR("0\r\nProxy-Foo: x\r\nX-Forwarded-Proto: x\r\nIf-Foo: x\r\nPragma: b\r\n\r\n"),
         H1_CHUNK_END, "", "", ""},
        {STR("0\r\na: " X100 X100 X100 X100 X100 X100 "\r\nb: " X100 X100 "\r\n\r\n"), H1_CHUNK_END,
         "", "a=" X100 X100 X100 X100 X100 X100 ";b=" X100 X100 ";", ""},
    };
    run(cases, ARRAY_LEN(cases));
}

static void unfinished(void **state)
{
    (void)state;
    static const struct chunk_case cases[] = {
        {STR("5"), H1_CHUNK_MORE, "", "", ""},
        {STR("5\r"), H1_CHUNK_MORE, "", "", ""},
        {STR("5\r\nhel"), H1_CHUNK_MORE, "hel", "", ""},
        {STR("5\r\nhello"), H1_CHUNK_MORE, "hello", "", ""},
        {STR("5\r\nhello\r\n0\r\n"), H1_CHUNK_MORE, "hello", "", ""},
        {STR("5\r\nhello\r\n0\r\na: b\r\n\r"), H1_CHUNK_MORE, "hello", "", ""},
        {STR("7fffffffffffffff\r\nx"), H1_CHUNK_MORE, "x", "", ""},
    };
    run(cases, ARRAY_LEN(cases));
}

static void bad(void **state)
{
    (void)state;
    static const struct chunk_case cases[] = {
        {STR("\r\n"), H1_CHUNK_BAD, "", "no size", ""},
        {STR(";a\r\n"), H1_CHUNK_BAD, "", "no size", ""},
        {STR(" 5\r\nhello\r\n"), H1_CHUNK_BAD, "", "no size", ""},
        {STR("-5\r\nhello"), H1_CHUNK_BAD, "", "no size", ""},
        {STR("g\r\n"), H1_CHUNK_BAD, "", "no size", ""},
        {STR("0x5\r\nhello"), H1_CHUNK_BAD, "", "not a number", ""},
        {STR("5_\r\nhello"), H1_CHUNK_BAD, "", "not a number", ""},
        {STR("5\nhello\n"), H1_CHUNK_BAD, "", "not a number", ""},
        {STR("5 \r\nhello"), H1_CHUNK_BAD, "", "not a number", ""},
        {STR("5 5\r\nhello"), H1_CHUNK_BAD, "", "not a number", ""},
        {STR("5\rhello"), H1_CHUNK_BAD, "", "stands alone", ""},
        {STR("5\r\r\nhello"), H1_CHUNK_BAD, "", "stands alone", ""},
        {STR("5;a\nhello"), H1_CHUNK_BAD, "", "control byte", ""},
        {STR("5;a\0\r\nhello"), H1_CHUNK_BAD, "", "control byte", ""},
        {STR("5;a\rb\r\nhello"), H1_CHUNK_BAD, "", "stands alone", ""},
        {STR("8000000000000000\r\n"), H1_CHUNK_BAD, "", "too large", ""},
        {STR("ffffffffffffffff\r\n"), H1_CHUNK_BAD, "", "too large", ""},
        {STR("10000000000000000\r\n"), H1_CHUNK_BAD, "", "too large", ""},
        {STR("00000000000000001\r\nx"), H1_CHUNK_BAD, "", "too large", ""},
        {STR("1;" X100 X100 X10 X10 X10 X10 X10 "xxx\r\nx\r\n"), H1_CHUNK_BAD, "", "too long", ""},
        {STR("5\r\nhelloX\r\n"), H1_CHUNK_BAD, "hello", "longer than", ""},
        {STR("5\r\nhello\n"), H1_CHUNK_BAD, "hello", "longer than", ""},
        {STR("5\r\nhello\rX"), H1_CHUNK_BAD, "hello", "stands alone", ""},
        {STR("5\r\nhello\r\n\r\n"), H1_CHUNK_BAD, "hello", "no size", ""},
        {STR("0\r\na: b\n\r\n"), H1_CHUNK_BAD, "", "stands alone", ""},
        {STR("0\r\n\n"), H1_CHUNK_BAD, "", "stands alone", ""},
        {STR("0\r\n\rX"), H1_CHUNK_BAD, "", "stands alone", ""},
        {STR("0\r\na: b\rc\r\n\r\n"), H1_CHUNK_BAD, "", "stands alone", ""},
        {STR("0\r\na : b\r\n\r\n"), H1_CHUNK_BAD, "", "before the colon", ""},
        {STR("0\r\na: b\r\n c\r\n\r\n"), H1_CHUNK_BAD, "", "obs-fold", ""},
        {STR("0\r\na: \0\r\n\r\n"), H1_CHUNK_BAD, "", "control byte", ""},
        {STR("0\r\nGET / HTTP/1.1\r\n\r\n"), H1_CHUNK_BAD, "", "before the colon", ""},
        {STR("0\r\na: b\r\na: b\r\na: b\r\na: b\r\na: b\r\n\r\n"), H1_CHUNK_BAD, "", "too many",
         ""},
        {STR("0\r\na: " X100 X100 X100 X100 X100 X100 X100 X100 X100 X100 X100), H1_CHUNK_BAD, "",
         "too large", ""},
    };
    run(cases, ARRAY_LEN(cases));
}

/* A chunk's data comes out where it lies: nothing is copied. */
static void in_place(void **state)
{
    (void)state;
    struct arena *a = arena_new(1024);
    struct h1_chunked c;
    struct str data = STR("3\r\nabc\r\n0\r\n\r\nxyz"), piece;
    const char *start = data.p, *why = NULL;
    h1_chunked_init(&c, a, &limits);
    assert_int_equal(h1_chunked_feed(&c, &data, &piece, &why), H1_CHUNK_DATA);
    assert_ptr_equal(piece.p, start + 3);
    assert_int_equal(piece.n, 3);
    assert_int_equal(h1_chunked_feed(&c, &data, &piece, &why), H1_CHUNK_END);
    assert_true(str_eq(data, STR("xyz")));
    assert_int_equal(h1_chunked_feed(&c, &data, &piece, &why), H1_CHUNK_END); /* and stays there */
    assert_true(str_eq(data, STR("xyz")));
    assert_null(c.trailer.p);
    arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good),
        cmocka_unit_test(unfinished),
        cmocka_unit_test(bad),
        cmocka_unit_test(in_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
