/*
 * fuzz_coding.c - any bytes as Accept-Encoding and Content-Type: what is chosen is one of the
 * preferred codings, and one that is refused by name is never among them. Then the same bytes
 * through each encoder, cut at any place: an encoder takes what it gets.
 */
#include "proxy/coding.h"
#include "proxy/encoder.h"

static void put(void *arg, struct slab *s)
{
    *(size_t *)arg += s->used;
    slab_unref(s);
}

static void encode(const uint8_t *p, size_t n, enum conf_coding c)
{
    struct encoder *e = encoder_new(c, ENCODER_FAST, n & 1 ? n : UINT64_MAX, ENCODERS_MAX);
    size_t cut = n ? p[0] % (n + 1) : 0, out = 0;
    ASSERT(e);
    ASSERT(encoder_run(e, p, cut, n & 2 ? ENCODER_FLUSH : ENCODER_MORE, put, &out));
    ASSERT(encoder_run(e, p + cut, n - cut, ENCODER_END, put, &out));
    ASSERT(out > 0 && out < n + 1024);
    encoder_close(&e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const enum conf_coding prefer[] = {CONF_BR, CONF_ZSTD, CONF_GZIP};
    struct arena *a = arena_new(1024);
    struct fields f = {0};
    struct str text = {(const char *)data, size};
    enum conf_coding c;
    fields_add_token(a, &f, FIELD_accept_encoding, str_sub(text, 0, size / 2));
    fields_add_token(a, &f, FIELD_accept_encoding, str_sub(text, size / 2, size));
    if (coding_choose(&f, prefer, 2, &c))
        ASSERT(c == CONF_BR || c == CONF_ZSTD);
    fields_add_token(a, &f, FIELD_accept_encoding, STR("br;q=0, zstd;q=0"));
    if (coding_choose(&f, prefer, 3, &c))
        ASSERT(c == CONF_GZIP);
    fields_add_token(a, &f, FIELD_accept_encoding, STR("gzip;q=0, *;q=0"));
    ASSERT(!coding_choose(&f, prefer, 3, &c));
    (void)coding_worth_type(text);
    encode(data, size, prefer[size % 3]);
    arena_free(&a);
    return 0;
}
