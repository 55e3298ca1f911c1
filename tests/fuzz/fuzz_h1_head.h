/*
 * fuzz_h1_head.h - what the fuzzers of request and answer heads share: both must keep the same
 * promises, whatever the bytes. Included by exactly one target each.
 */
#ifndef HG_FUZZ_H1_HEAD_H
#define HG_FUZZ_H1_HEAD_H

#include <stdlib.h>

#include "proxy/h1_parse.h"

static const struct h1_limits fuzz_limits = {.head = 2048, .target = 256, .fields = 32};

/* The parser under test, for one role and method. */
typedef ssize_t fuzz_parse_fn(char *buf, size_t n, size_t *scanned, struct arena *a,
                              struct h1_head *h, const char **why);

struct fuzz_result {
    ssize_t result;
    const char *why;
    struct h1_head head;
    char *buf; /* exactly as long as what was parsed: one byte too far is seen by ASan */
    size_t n;
};

static inline char *fuzz_exact(const void *p, size_t n)
{
    char *copy = malloc(n ? n : 1);
    ASSERT(copy != NULL);
    if (n)
        memcpy(copy, p, n);
    return copy;
}

static inline struct fuzz_result fuzz_whole(fuzz_parse_fn *parse, struct arena *a, const void *p,
                                            size_t n)
{
    struct fuzz_result r = {.buf = fuzz_exact(p, n), .n = n};
    size_t scanned = 0;
    r.result = parse(r.buf, n, &scanned, a, &r.head, &r.why);
    ASSERT(scanned <= n);
    return r;
}

/* The same bytes in pieces, each time in memory of its own; `seed` chooses the cuts. */
static inline struct fuzz_result fuzz_cut(fuzz_parse_fn *parse, struct arena *a, const uint8_t *p,
                                          size_t n, uint32_t seed)
{
    struct fuzz_result r = {.buf = fuzz_exact(p, 0)};
    size_t scanned = 0;
    while (r.result == 0 && r.n < n) {
        seed = seed * 1664525u + 1013904223u;
        size_t step = MIN(n - r.n, 1 + (seed >> 24) % ((seed >> 16 & 3) ? 8 : 200));
        char *more = fuzz_exact(p, r.n + step);
        memcpy(more, r.buf, r.n);
        free(r.buf);
        r.buf = more;
        r.n += step;
        r.result = parse(r.buf, r.n, &scanned, a, &r.head, &r.why);
        ASSERT(scanned <= r.n);
    }
    return r;
}

static inline void fuzz_same_heads(const struct h1_head *a, const struct h1_head *b)
{
    ASSERT(str_eq(a->method_text, b->method_text) && a->method == b->method);
    ASSERT(str_eq(a->target, b->target) && a->status == b->status && a->minor == b->minor);
    ASSERT(str_eq(a->host, b->host) && str_eq(a->upgrade, b->upgrade));
    ASSERT(a->framing == b->framing && a->length == b->length);
    ASSERT(a->keep_alive == b->keep_alive && a->expect_continue == b->expect_continue);
    ASSERT(a->te_trailers == b->te_trailers && a->fields.n == b->fields.n);
    for (unsigned i = 0; i < a->fields.n; i++) {
        const struct field *f = &a->fields.v[i], *g = &b->fields.v[i];
        ASSERT(str_eq(f->name, g->name) && str_eq(f->value, g->value));
        ASSERT(f->token == g->token && f->flags == g->flags);
    }
}

static inline void fuzz_check_fields(const struct fuzz_result *r)
{
    const struct fields *f = &r->head.fields;
    ASSERT(f->n <= fuzz_limits.fields && f->cap >= f->n + 8);
    for (unsigned i = 0; i < f->n; i++) {
        struct str name = f->v[i].name, value = f->v[i].value;
        ASSERT(name.n > 0);
        for (size_t k = 0; k < name.n; k++) {
            unsigned char c = (unsigned char)name.p[k];
            ASSERT(http_is_tchar(c) && !(c >= 'A' && c <= 'Z'));
        }
        for (size_t k = 0; k < value.n; k++) {
            unsigned char c = (unsigned char)value.p[k];
            ASSERT((c >= 0x20 || c == '\t') && c != 0x7f);
        }
        ASSERT(str_eq(str_trim(value), value));
        ASSERT(f->v[i].token == field_token_of(name));
        ASSERT(name.p >= r->buf && value.p + value.n <= r->buf + r->result);
    }
}

/* The fields as a writer would put them, behind what `o` holds. */
static inline void fuzz_write_fields(struct out *o, const struct fields *f)
{
    for (unsigned i = 0; i < f->n; i++) {
        out_str(o, f->v[i].name);
        out_char(o, ':');
        out_str(o, f->v[i].value);
        out_lit(o, "\r\n");
    }
    out_lit(o, "\r\n");
    ASSERT(!o->over);
}

/* All promises but those of one role; `write` puts the start line of a good head. */
static inline void fuzz_head(fuzz_parse_fn *parse,
                             void (*write)(struct out *, const struct h1_head *), const uint8_t *p,
                             size_t n, uint32_t seed)
{
    struct arena *a = arena_new(4096);
    struct fuzz_result whole = fuzz_whole(parse, a, p, n), cut = fuzz_cut(parse, a, p, n, seed);
    ASSERT(whole.result <= (ssize_t)n);
    ASSERT(whole.result == cut.result && whole.why == cut.why);
    ASSERT((whole.result < 0) == (whole.why != NULL));
    if (whole.result > 0) {
        ASSERT((size_t)whole.result <= fuzz_limits.head);
        fuzz_check_fields(&whole);
        fuzz_check_fields(&cut);
        fuzz_same_heads(&whole.head, &cut.head);
        char *moved = fuzz_exact(cut.buf, (size_t)cut.result);
        h1_rebase(&cut.head, cut.buf, moved);
        free(cut.buf);
        cut.buf = moved;
        fuzz_same_heads(&whole.head, &cut.head);
        struct out o = out_on(arena_alloc(a, 4096), 4096);
        write(&o, &whole.head);
        fuzz_write_fields(&o, &whole.head.fields);
        struct fuzz_result again = fuzz_whole(parse, a, o.p, o.n);
        ASSERT(again.result == (ssize_t)o.n);
        fuzz_same_heads(&whole.head, &again.head);
        free(again.buf);
    }
    free(whole.buf);
    free(cut.buf);
    arena_free(&a);
}

#endif
