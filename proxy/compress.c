/*
 * compress.c - the filter that compresses answers: decides by the head, then codes piece by piece.
 * Answers whose length nobody announced may wait for their next piece any time (event streams, long
 * polls), so each of their pieces is flushed; the others are coded as tightly as the coding can.
 *
 * A small file is compressed once: what came of it is kept with the file (files_cache.c).
 */
#include "proxy/compress.h"

#include <stdlib.h>

#include "proxy/coding.h"
#include "proxy/encoder.h"
#include "proxy/files_cache.h"
#include "proxy/req.h"

/* Event streams last for days: they leave half of the encoders to the others. */
#define STREAMS_MAX (ENCODERS_MAX / 2)

struct compress {
    struct encoder *encoder;
    struct slab *whole; /* instead: all of the answer, as it is kept with its file; counted */
    bool flush;
    struct slice *out; /* of the last piece; counted */
    unsigned n, cap;
};

static bool compress_wanted(const struct req *r)
{
    return r->site->n_compress > 0;
}

/* ---- the head ---- */

/*
 * A 304 is about what the client has: where that is the compressed form, its tag was weakened, and
 * a strong one would not fit it (RFC 9111 4.3.4).
 */
static void not_modified(struct req *r)
{
    const struct field *etag = fields_get(&r->answer.fields, FIELD_etag);
    coding_vary(r->arena, &r->answer.fields);
    if (!etag || str_starts(etag->value, STR("W/")))
        return;
    struct str weak = arena_fmt(r->arena, "W/" STR_FMT, STR_ARG(etag->value));
    for (unsigned i = 0; i < r->fields.n; i++)
        if (r->fields.v[i].token == FIELD_if_none_match &&
            http_list_has(r->fields.v[i].value, weak))
            coding_weaken_etag(r->arena, &r->answer.fields);
}

static bool worth(const struct req *r, bool end)
{
    const struct field *type = fields_get(&r->answer.fields, FIELD_content_type);
    if (r->answer.status == 204 || r->answer.status == 206 || (end && r->method != METHOD_HEAD))
        return false;
    return type && r->answer.length >= CODING_MIN && coding_worth_type(type->value) &&
           coding_allowed(&r->fields, &r->answer.fields);
}

static bool is_event_stream(const struct req *r)
{
    const struct field *type = fields_get(&r->answer.fields, FIELD_content_type);
    return type && str_istarts(type->value, STR("text/event-stream"));
}

/* What the body will be coded with; false: nothing is to be had, or it is not worth it. */
static bool take_encoder(struct filter_use *u, enum conf_coding coding)
{
    const struct req *r = u->req;
    struct compress *c = arena_znew(r->arena, struct compress);
    if (r->answer.file) {
        struct slab *coded = files_entry_coded(r->answer.file, coding);
        c->whole = coded ? slab_ref(coded) : NULL;
    } else {
        c->encoder = encoder_new(coding, ENCODER_FAST, r->answer.length,
                                 is_event_stream(r) ? STREAMS_MAX : ENCODERS_MAX);
        c->flush = r->answer.length == REQ_LENGTH_UNKNOWN;
    }
    if (c->whole || c->encoder)
        u->state = c;
    return u->state != NULL;
}

static void compress_head(struct filter_use *u, bool *end)
{
    struct req *r = u->req;
    struct fields *f = &r->answer.fields;
    enum conf_coding coding;
    if (r->answer.status == 304)
        not_modified(r);
    bool fits = worth(r, *end);
    if (fits)
        coding_vary(r->arena, f);
    if (!fits || !coding_choose(&r->fields, r->site->compress, r->site->n_compress, &coding) ||
        !(*end || take_encoder(u, coding))) {
        filter_leave(u);
        return;
    }
    const struct compress *c = u->state;
    fields_add_token(r->arena, f, FIELD_content_encoding, coding_name(coding));
    fields_remove(f, STR("accept-ranges")); /* ranges are of the bytes as they are */
    coding_weaken_etag(r->arena, f);
    r->answer.length = c && c->whole ? c->whole->used : REQ_LENGTH_UNKNOWN;
}

/* ---- the body ---- */

static void out_drop(struct compress *c)
{
    for (unsigned i = 0; i < c->n; i++)
        slice_drop(&c->out[i]);
    c->n = 0;
}

static void out_put(void *arg, struct slab *s)
{
    struct compress *c = arg;
    if (c->n == c->cap) {
        c->cap = MAX(c->cap * 2, 4U);
        c->out = reallocarray(c->out, c->cap, sizeof(*c->out));
        ASSERT(c->out);
    }
    c->out[c->n++] = (struct slice){s, s->data, s->used};
}

static const char *compress_body(struct filter_use *u, struct piece *p)
{
    struct compress *c = u->state;
    bool ok = true;
    if (!c)
        return NULL;
    out_drop(c);
    if (c->whole) {
        out_put(c, c->whole);
        c->whole = NULL;
        p->v = c->out;
        p->n = c->n;
        return NULL;
    }
    for (unsigned i = 0; i < p->n && ok; i++)
        ok = encoder_run(c->encoder, p->v[i].p, p->v[i].n, ENCODER_MORE, out_put, c);
    enum encoder_op op = p->end ? ENCODER_END : c->flush ? ENCODER_FLUSH : ENCODER_MORE;
    ok = ok && encoder_run(c->encoder, NULL, 0, op, out_put, c);
    if (!ok)
        return "compressing the answer failed";
    if (p->end)
        encoder_close(&c->encoder);
    p->v = c->out;
    p->n = c->n;
    return NULL;
}

static void compress_close(struct filter_use *u)
{
    struct compress *c = u->state;
    if (!c)
        return;
    encoder_close(&c->encoder);
    slab_unref(c->whole);
    out_drop(c);
    free(c->out);
    u->state = NULL;
}

const struct filter compress_filter = {
    .name = "compress",
    .wanted = compress_wanted,
    .answer_head = compress_head,
    .answer_body = compress_body,
    .close = compress_close,
};
