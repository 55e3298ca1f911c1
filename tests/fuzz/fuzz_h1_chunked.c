/*
 * fuzz_h1_chunked.c - any bytes as a chunked body: fed whole and in pieces, the body, the trailers,
 * the end and the verdict are the same; and a good one, written anew as one chunk, is read the
 * same.
 */
#include <stdlib.h>

#include "proxy/h1_parse.h"

static const struct h1_limits limits = {.head = 1024, .target = 256, .fields = 16};

struct outcome {
    enum h1_chunk_event event;
    const char *why;
    struct out body;
    size_t used; /* bytes up to the end */
    struct h1_chunked c;
};

static void feed(struct outcome *o, const uint8_t *p, size_t n)
{
    char *exact = malloc(n ? n : 1);
    ASSERT(exact != NULL);
    if (n)
        memcpy(exact, p, n);
    struct str data = {exact, n}, piece;
    do {
        o->event = h1_chunked_feed(&o->c, &data, &piece, &o->why);
        ASSERT((o->event == H1_CHUNK_DATA) == (piece.n > 0));
        if (piece.n)
            ASSERT(piece.p >= exact && piece.p + piece.n <= exact + n);
        out_str(&o->body, piece);
    } while (o->event == H1_CHUNK_DATA);
    ASSERT(o->event != H1_CHUNK_MORE || data.n == 0);
    o->used += n - data.n;
    free(exact);
}

/* In pieces; `seed` chooses the cuts. */
static void run(struct outcome *o, struct arena *a, const uint8_t *p, size_t n, uint32_t seed)
{
    *o = (struct outcome){.body = out_on(arena_alloc(a, n + 1), n + 1)};
    h1_chunked_init(&o->c, a, &limits);
    for (size_t i = 0, step; i < n && o->event == H1_CHUNK_MORE; i += step) {
        uint32_t r = seed = seed * 1664525u + 1013904223u;
        step = MIN(n - i, 1 + (r >> 24) % ((r >> 16 & 3) ? 4 : 100));
        feed(o, p + i, step);
    }
    ASSERT(!o->body.over);
}

static void run_whole(struct outcome *o, struct arena *a, const uint8_t *p, size_t n)
{
    *o = (struct outcome){.body = out_on(arena_alloc(a, n + 1), n + 1)};
    h1_chunked_init(&o->c, a, &limits);
    feed(o, p, n);
    ASSERT(!o->body.over);
}

static void same(const struct outcome *a, const struct outcome *b)
{
    ASSERT(a->event == b->event);
    ASSERT(str_eq(out_done(&a->body), out_done(&b->body)));
    if (a->event == H1_CHUNK_BAD)
        ASSERT(a->why == b->why && a->why != NULL);
    if (a->event != H1_CHUNK_END)
        return;
    ASSERT(a->c.trailers.n == b->c.trailers.n);
    for (unsigned i = 0; i < a->c.trailers.n; i++) {
        const struct field *f = &a->c.trailers.v[i], *g = &b->c.trailers.v[i];
        ASSERT(str_eq(f->name, g->name) && str_eq(f->value, g->value));
        for (size_t k = 0; k < f->name.n; k++)
            ASSERT(http_tchar_lower[(unsigned char)f->name.p[k]] == (unsigned char)f->name.p[k]);
        ASSERT(f->token != FIELD_content_length && f->token != FIELD_transfer_encoding &&
               f->token != FIELD_host && f->token != FIELD_authorization);
    }
}

static void write_anew(struct out *o, const struct outcome *from)
{
    if (from->body.n) {
        out_hex(o, from->body.n, 8);
        out_lit(o, "\r\n");
        out_str(o, out_done(&from->body));
        out_lit(o, "\r\n");
    }
    out_lit(o, "0\r\n");
    for (unsigned i = 0; i < from->c.trailers.n; i++) {
        out_str(o, from->c.trailers.v[i].name);
        out_char(o, ':');
        out_str(o, from->c.trailers.v[i].value);
        out_lit(o, "\r\n");
    }
    out_lit(o, "\r\n");
    ASSERT(!o->over);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct arena *a = arena_new(4096);
    struct outcome whole, cut, again;
    uint32_t seed = (uint32_t)n;
    for (size_t i = 0; i < n; i++)
        seed = seed * 31 + data[i];
    run_whole(&whole, a, data, n);
    run(&cut, a, data, n, seed);
    same(&whole, &cut);
    if (whole.event == H1_CHUNK_END) {
        ASSERT(whole.used == cut.used && whole.used <= n);
        struct out o = out_on(arena_alloc(a, n + 64), n + 64);
        write_anew(&o, &whole);
        run_whole(&again, a, (const uint8_t *)o.p, o.n);
        same(&whole, &again);
        ASSERT(again.used == o.n);
    }
    arena_free(&a);
    return 0;
}
