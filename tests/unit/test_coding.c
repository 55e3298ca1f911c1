/*
 * test_coding.c - content codings: what Accept-Encoding asks for, which answers may be coded, what
 * their heads become; and the encoders as streams, checked against each library's decoder.
 */
#include "base/base.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

#include <brotli/decode.h>
#include <cmocka.h>
#include <zlib.h>
#include <zstd.h>

#include "proxy/coding.h"
#include "proxy/encoder.h"

static struct arena *arena;

static int setup(void **state)
{
    (void)state;
    arena = arena_new(4096);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    arena_free(&arena);
    return 0;
}

/* ---- what the client accepts ---- */

static const char *chosen(const char *accept, const char *more, const char *prefer)
{
    struct fields f = {0};
    enum conf_coding order[3], c;
    unsigned n = 0;
    for (; *prefer; prefer++)
        order[n++] = *prefer == 'b' ? CONF_BR : *prefer == 'z' ? CONF_ZSTD : CONF_GZIP;
    if (accept)
        fields_add_token(arena, &f, FIELD_accept_encoding, str_of(accept));
    if (more)
        fields_add_token(arena, &f, FIELD_accept_encoding, str_of(more));
    return coding_choose(&f, order, n, &c) ? coding_name(c).p : "identity";
}

static void test_choose(void **state)
{
    (void)state;
    static const struct {
        const char *accept, *more, *prefer, *want;
    } cases[] = {
        {NULL, NULL, "bzg", "identity"},
        {"", NULL, "bzg", "identity"},
        {"gzip", NULL, "bzg", "gzip"},
        {"x-gzip", NULL, "bzg", "gzip"},
        {"GZIP", NULL, "bzg", "gzip"},
        {"gzip, deflate, br, zstd", NULL, "bzg", "br"},
        {"gzip, deflate, br, zstd", NULL, "zbg", "zstd"},
        {"gzip, deflate, br, zstd", NULL, "g", "gzip"},
        {"gzip, br", NULL, "", "identity"},
        {"gzip", "br", "bzg", "br"},
        {"br;q=0.5, gzip;q=0.8", NULL, "bzg", "gzip"},
        {"br;q=0.5,gzip ; q=0.5", NULL, "bzg", "br"},
        {"br;q=0, gzip", NULL, "bzg", "gzip"},
        {"br;q=0", NULL, "bzg", "identity"},
        {"*", NULL, "bzg", "br"},
        {"*;q=0", NULL, "bzg", "identity"},
        {"*;q=0, gzip", NULL, "bzg", "gzip"},
        {"br;q=0, *", NULL, "bzg", "zstd"},
        {"gzip;q=0.5, *;q=0.1", NULL, "bzg", "gzip"},
        {"identity", NULL, "bzg", "identity"},
        {"identity;q=0", NULL, "bzg", "identity"}, /* and nothing else is accepted either */
        {"identity;q=0, gzip;q=0.1", NULL, "bzg", "gzip"},
        {"identity, gzip;q=0.9", NULL, "bzg", "identity"},
        {"identity;q=0.9, gzip", NULL, "bzg", "gzip"},
        {"identity, gzip", NULL, "bzg", "gzip"},
        {"gzip;q=1.5", NULL, "bzg", "gzip"}, /* clamped */
        {"gzip;q=x", NULL, "bzg", "identity"},
        {"gzip;q=0.1234", NULL, "bzg", "identity"}, /* no qvalue */
        {",,gzip,", NULL, "bzg", "gzip"},
        {"gzipp, bro", NULL, "bzg", "identity"},
        {"deflate, compress", NULL, "bzg", "identity"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const char *got = chosen(cases[i].accept, cases[i].more, cases[i].prefer);
        if (strcmp(got, cases[i].want) != 0)
            fail_msg("%s of %s: %s, not %s", cases[i].accept, cases[i].prefer, got, cases[i].want);
    }
}

static void test_types(void **state)
{
    (void)state;
    static const char *const good[] = {"text/html; charset=utf-8",
                                       "TEXT/CSS",
                                       "application/json",
                                       "application/wasm",
                                       "image/svg+xml",
                                       "text/event-stream",
                                       "application/problem+json ;x=y",
                                       "font/ttf"};
    static const char *const bad[] = {"",
                                      "image/png",
                                      "video/mp4",
                                      "font/woff2",
                                      "application/zip",
                                      "application/grpc-web",
                                      "application/octet-stream",
                                      "application/jsonx",
                                      "x; text/html"};
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        if (!coding_worth_type(str_of(good[i])))
            fail_msg("%s is worth it", good[i]);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (coding_worth_type(str_of(bad[i])))
            fail_msg("%s is not worth it", bad[i]);
}

static bool allowed(const char *request_cc, const char *name, const char *value)
{
    struct fields req = {0}, answer = {0};
    if (request_cc)
        fields_add_token(arena, &req, FIELD_cache_control, str_of(request_cc));
    if (name)
        fields_add(arena, &answer, str_of(name), str_of(value));
    return coding_allowed(&req, &answer);
}

static void test_allowed(void **state)
{
    (void)state;
    assert_true(allowed(NULL, NULL, NULL));
    assert_true(allowed("no-cache", "cache-control", "max-age=3"));
    assert_false(allowed(NULL, "cache-control", "max-age=3, No-Transform"));
    assert_false(allowed("no-transform", NULL, NULL));
    assert_false(allowed(NULL, "content-encoding", "gzip"));
    assert_false(allowed(NULL, "content-range", "bytes 0-1/2"));
    assert_false(allowed(NULL, "repr-digest", "sha-256=:x:"));
    assert_false(allowed(NULL, "content-md5", "x"));
}

static void test_heads(void **state)
{
    (void)state;
    static const struct {
        const char *vary;
        unsigned n;
    } cases[] = {{NULL, 1}, {"origin", 2}, {"Origin, Accept-Encoding", 1}, {"*", 1}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct fields f = {0};
        if (cases[i].vary)
            fields_add_token(arena, &f, FIELD_vary, str_of(cases[i].vary));
        coding_vary(arena, &f);
        coding_vary(arena, &f);
        assert_int_equal(f.n, cases[i].n);
    }
    struct fields f = {0};
    fields_add_token(arena, &f, FIELD_etag, STR("\"a\""));
    coding_weaken_etag(arena, &f);
    coding_weaken_etag(arena, &f);
    assert_true(str_eq(f.v[0].value, STR("W/\"a\"")));
}

/* ---- encoders ---- */

struct sink {
    uint8_t *p;
    size_t n, cap;
};

static void sink_put(void *arg, struct slab *s)
{
    struct sink *k = arg;
    assert_true(s->used > 0);
    if (k->n + s->used > k->cap) {
        k->cap = 2 * (k->n + s->used);
        k->p = realloc(k->p, k->cap);
        assert_non_null(k->p);
    }
    memcpy(k->p + k->n, s->data, s->used);
    k->n += s->used;
    slab_unref(s);
}

/* What can be decoded of it; *whole: it has its end, and nothing behind it. */
static size_t decode(enum conf_coding c, const struct sink *k, uint8_t *out, size_t cap,
                     bool *whole)
{
    size_t in_n = k->n, out_n = cap;
    const uint8_t *in = k->p;
    uint8_t *at = out;
    if (c == CONF_BR) {
        BrotliDecoderState *d = BrotliDecoderCreateInstance(NULL, NULL, NULL);
        BrotliDecoderResult rc = BrotliDecoderDecompressStream(d, &in_n, &in, &out_n, &at, NULL);
        assert_int_not_equal(rc, BROTLI_DECODER_RESULT_ERROR);
        *whole = rc == BROTLI_DECODER_RESULT_SUCCESS && in_n == 0;
        BrotliDecoderDestroyInstance(d);
        return cap - out_n;
    }
    if (c == CONF_ZSTD) {
        ZSTD_DCtx *d = ZSTD_createDCtx();
        ZSTD_inBuffer i = {in, in_n, 0};
        ZSTD_outBuffer o = {out, cap, 0};
        size_t rc = 1;
        while (i.pos < i.size && rc)
            rc = ZSTD_decompressStream(d, &o, &i);
        assert_false(ZSTD_isError(rc));
        *whole = rc == 0 && i.pos == i.size;
        ZSTD_freeDCtx(d);
        return o.pos;
    }
    z_stream z = {.next_in = (Bytef *)(uintptr_t)in,
                  .avail_in = (uInt)in_n,
                  .next_out = out,
                  .avail_out = (uInt)cap};
    assert_int_equal(inflateInit2(&z, 15 + 16), Z_OK);
    int rc = inflate(&z, Z_SYNC_FLUSH);
    assert_true(rc == Z_OK || rc == Z_STREAM_END || rc == Z_BUF_ERROR);
    *whole = rc == Z_STREAM_END && z.avail_in == 0;
    size_t n = cap - z.avail_out;
    inflateEnd(&z);
    return n;
}

#define TEXT_MAX ((size_t)700000)

/* Text that compresses, noise that does not. */
static void fill(uint8_t *p, size_t n, bool noise)
{
    uint64_t x = 88172645463325252u;
    for (size_t i = 0; i < n; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        p[i] = noise ? (uint8_t)x : (uint8_t)("etaoin shrdlu\n{}[]"[x % 18]);
    }
}

static void test_streams(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 5, 1000, 65536, 300001, TEXT_MAX};
    static const size_t steps[] = {1000, 16384, TEXT_MAX};
    uint8_t *text = malloc(TEXT_MAX), *back = malloc(TEXT_MAX + 1);
    assert_true(text && back);
    for (unsigned c = 0; c < 3; c++)
        for (unsigned k = 0; k < ARRAY_LEN(sizes) * ARRAY_LEN(steps) * 4; k++) {
            size_t size = sizes[k % ARRAY_LEN(sizes)];
            size_t step = steps[k / ARRAY_LEN(sizes) % ARRAY_LEN(steps)];
            bool known = k & 1, noise = k & 2, whole;
            struct sink out = {0};
            fill(text, size, noise);
            struct encoder *e = encoder_new((enum conf_coding)c, ENCODER_FAST,
                                            known ? size : UINT64_MAX, ENCODERS_MAX);
            for (size_t at = 0; at < size; at += step)
                assert_true(
                    encoder_run(e, text + at, MIN(step, size - at), ENCODER_MORE, sink_put, &out));
            assert_true(encoder_run(e, NULL, 0, ENCODER_END, sink_put, &out));
            encoder_close(&e);
            assert_int_equal(decode((enum conf_coding)c, &out, back, TEXT_MAX + 1, &whole), size);
            assert_true(whole);
            assert_memory_equal(text, back, size);
            if (!noise && size > 1000)
                assert_true(out.n < size * 3 / 4);
            free(out.p);
        }
    free(text);
    free(back);
}

/* After a flush all that went in can be read; before its end no stream looks whole. */
static void test_flush(void **state)
{
    (void)state;
    uint8_t text[5000], back[5001];
    fill(text, sizeof(text), false);
    for (unsigned c = 0; c < 3; c++) {
        bool whole;
        struct sink out = {0};
        struct encoder *e =
            encoder_new((enum conf_coding)c, ENCODER_FAST, UINT64_MAX, ENCODERS_MAX);
        for (size_t at = 0; at < sizeof(text); at += 500) {
            assert_true(encoder_run(e, text + at, 500, ENCODER_MORE, sink_put, &out));
            assert_true(encoder_run(e, NULL, 0, ENCODER_FLUSH, sink_put, &out));
            assert_int_equal(decode((enum conf_coding)c, &out, back, sizeof(back), &whole),
                             at + 500);
            assert_false(whole);
            size_t before = out.n; /* twice makes nothing more of it */
            assert_true(encoder_run(e, NULL, 0, ENCODER_FLUSH, sink_put, &out));
            assert_true(out.n - before < 16);
        }
        assert_true(encoder_run(e, NULL, 0, ENCODER_END, sink_put, &out));
        assert_int_equal(decode((enum conf_coding)c, &out, back, sizeof(back), &whole), 5000);
        assert_true(whole);
        encoder_close(&e);
        free(out.p);
    }
}

static void test_bound(void **state)
{
    (void)state;
    struct encoder *e[ENCODERS_MAX];
    for (unsigned i = 0; i < ENCODERS_MAX; i++)
        assert_non_null(e[i] = encoder_new(CONF_GZIP, ENCODER_FAST, 10, ENCODERS_MAX));
    assert_null(encoder_new(CONF_BR, ENCODER_FAST, 10, ENCODERS_MAX));
    assert_null(encoder_new(CONF_BR, ENCODER_FAST, 10, 2 * ENCODERS_MAX));
    encoder_close(&e[0]);
    assert_null(encoder_new(CONF_BR, ENCODER_FAST, 10, ENCODERS_MAX / 2));
    e[0] = encoder_new(CONF_BR, ENCODER_FAST, 10, ENCODERS_MAX);
    assert_non_null(e[0]);
    for (unsigned i = 0; i < ENCODERS_MAX; i++)
        encoder_close(&e[i]);
    assert_int_equal(encoder_count(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_choose),  cmocka_unit_test(test_types),
        cmocka_unit_test(test_allowed), cmocka_unit_test(test_heads),
        cmocka_unit_test(test_streams), cmocka_unit_test(test_flush),
        cmocka_unit_test(test_bound),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
