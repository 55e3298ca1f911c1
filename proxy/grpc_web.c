/*
 * grpc_web.c - gRPC-Web ↔ gRPC: heads, base64, and the frame of trailers at the end of every body.
 */
#include "proxy/grpc_web.h"

#include "proxy/base64.h"
#include "proxy/grpc_call.h"

#define FRAME_HEAD     5
#define FRAME_TRAILERS 0x80

const char grpc_web_err_base64[] = "the request's body is no base64";

struct grpc_web {
    bool text_in;
    struct grpc_type answer; /* the form that the client gets */
    struct base64_decoder decoder;
    struct base64_encoder encoder;
    struct grpc_frames frames;     /* of the answer: text is padded where a message ends */
    const struct fields *trailers; /* of an answer that was over with its head */
    struct slab *in, *out;         /* what the last piece of each direction became */
    struct slice v_in, *v_out;
    unsigned cap;
};

/* ---- the request ---- */

/* Of several media types the first one of gRPC-Web's decides, else what the request is. */
static struct grpc_type answer_type(const struct req *r)
{
    const struct field *accept = fields_get(&r->fields, FIELD_accept);
    struct str rest = accept ? accept->value : STR_NULL, item;
    while (rest.n && str_split(&rest, ',', &item)) {
        struct grpc_type t = grpc_type_parse(str_trim(item));
        if (t.form == GRPC_WEB || t.form == GRPC_WEB_TEXT)
            return (struct grpc_type){.form = t.form, .suffix = r->grpc->type.suffix};
    }
    return r->grpc->type;
}

/*
 * What is about gRPC-Web alone stays here. Browsers cannot set User-Agent, so the client library's
 * name comes in x-user-agent; what they accept is about us, not about the backend.
 */
static void clean_fields(struct req *r)
{
    struct fields kept = {0};
    struct grpc_type plain = {.form = GRPC_PLAIN, .suffix = r->grpc->type.suffix};
    bool named = false;
    for (unsigned i = 0; i < r->fields.n; i++)
        named |= str_eq(r->fields.v[i].name, STR("x-user-agent"));
    for (unsigned i = 0; i < r->fields.n; i++) {
        struct field f = r->fields.v[i];
        if (str_eq(f.name, STR("x-grpc-web")) || f.token == FIELD_accept ||
            f.token == FIELD_accept_encoding || (named && f.token == FIELD_user_agent))
            continue;
        if (str_eq(f.name, STR("x-user-agent")))
            f.name = STR("user-agent");
        if (f.token == FIELD_content_type)
            f.value = grpc_type_text(r->arena, plain);
        fields_add(r->arena, &kept, f.name, f.value);
        kept.v[kept.n - 1].token = f.token;
        kept.v[kept.n - 1].flags = f.flags;
    }
    r->fields = kept;
}

static void on_begin(struct filter_use *u)
{
    struct req *r = u->req;
    struct grpc_web *w = arena_znew(r->arena, struct grpc_web);
    u->state = w;
    w->text_in = r->grpc->type.form == GRPC_WEB_TEXT;
    w->answer = answer_type(r);
    clean_fields(r);
    if (w->text_in && r->body_length)
        r->body_length = REQ_LENGTH_UNKNOWN;
}

static size_t bytes_of(const struct piece *p)
{
    size_t n = 0;
    for (unsigned i = 0; i < p->n; i++)
        n += p->v[i].n;
    return n;
}

/*
 * Of what is wrong in a body the first counts, however it was cut: a bad message may stand before
 * the bad text.
 */
static const char *text_error(const struct req *r, const struct out *o)
{
    struct grpc_frames f = r->grpc->in;
    f.max = r->site->grpc.max_message;
    const char *err = grpc_frames_feed(&f, (const uint8_t *)o->p, o->n);
    return err ? err : grpc_web_err_base64;
}

static const char *on_request_body(struct filter_use *u, struct piece *p)
{
    struct grpc_web *w = u->state;
    if (!w->text_in)
        return NULL;
    slab_unref(w->in);
    size_t cap = bytes_of(p) / 4 * 3 + 6;
    w->in = slab_new(cap);
    struct out o = out_on(w->in->data, cap);
    for (unsigned i = 0; i < p->n; i++)
        if (!base64_decode(&w->decoder, p->v[i].p, p->v[i].n, &o))
            return text_error(u->req, &o);
    if (p->end && !base64_decode_complete(&w->decoder))
        return text_error(u->req, &o);
    ASSERT(!o.over);
    w->v_in = (struct slice){w->in, w->in->data, o.n};
    p->v = &w->v_in;
    p->n = o.n != 0;
    return NULL;
}

/* ---- the answer's head ---- */

/* Of an answer that is over with its head these are HTTP's; all else are trailers of the call. */
static bool is_of_http(const struct field *f)
{
    static const struct str names[] = {{"x-content-type-options", 22}, {"x-robots-tag", 12}};
    if (f->token != FIELD_OTHER)
        return true;
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (str_eq(f->name, names[i]))
            return true;
    return false;
}

static void on_answer_head(struct filter_use *u, bool *end)
{
    struct req *r = u->req;
    struct grpc_web *w = u->state;
    struct fields kept = {0};
    if (r->answer.status != 200) { /* an error page or a redirect: no answer to a call */
        grpc_cors_answer(r);
        filter_leave(u);
        return;
    }
    struct fields *trailers = *end ? arena_znew(r->arena, struct fields) : NULL;
    for (unsigned i = 0; i < r->answer.fields.n; i++) {
        const struct field *f = &r->answer.fields.v[i];
        if (f->token == FIELD_content_type || f->token == FIELD_content_length ||
            str_starts(f->name, STR("access-control-"))) /* the backend's own word on origins */
            continue;
        struct fields *to = trailers && !is_of_http(f) ? trailers : &kept;
        fields_add(r->arena, to, f->name, f->value);
        to->v[to->n - 1].token = f->token;
        to->v[to->n - 1].flags = f->flags;
    }
    fields_add_token(r->arena, &kept, FIELD_content_type, grpc_type_text(r->arena, w->answer));
    r->answer.fields = kept;
    r->answer.length = REQ_LENGTH_UNKNOWN;
    w->trailers = trailers;
    *end = false;
    grpc_cors_answer(r);
}

/* ---- the answer's body ---- */

static size_t trailers_size(const struct fields *t)
{
    size_t n = FRAME_HEAD;
    for (unsigned i = 0; t && i < t->n; i++)
        n += t->v[i].name.n + t->v[i].value.n + 4;
    return n;
}

/* PROTOCOL-WEB.md: a frame with the most significant bit set, lines as in HTTP/1.1 within. */
static void put_trailers(struct out *o, const struct fields *t)
{
    size_t n = trailers_size(t) - FRAME_HEAD;
    const uint8_t head[FRAME_HEAD] = {FRAME_TRAILERS, (uint8_t)(n >> 24), (uint8_t)(n >> 16),
                                      (uint8_t)(n >> 8), (uint8_t)n};
    out_bytes(o, head, sizeof(head));
    for (unsigned i = 0; t && i < t->n; i++) {
        out_str(o, t->v[i].name);
        out_lit(o, ": ");
        out_str(o, t->v[i].value);
        out_lit(o, "\r\n");
    }
}

static const char *encode(struct grpc_web *w, const uint8_t *p, size_t n, struct out *o)
{
    while (n) {
        size_t some = grpc_frames_step(&w->frames, n); /* text is padded where a message ends */
        const char *err = grpc_frames_feed(&w->frames, p, some);
        if (err)
            return err;
        base64_encode(&w->encoder, p, some, o);
        if (grpc_frames_between(&w->frames))
            base64_encode_pad(&w->encoder, o);
        p += some;
        n -= some;
    }
    return NULL;
}

/* Text: everything in one slab of our own; five bytes of a message become eight characters. */
static const char *text_body(struct grpc_web *w, struct piece *p, const struct fields *trailers)
{
    size_t cap = bytes_of(p) * 2 + 16 + (p->end ? trailers_size(trailers) * 3 : 0);
    const char *err = NULL;
    w->out = slab_new(cap);
    struct out o = out_on(w->out->data, cap);
    for (unsigned i = 0; i < p->n && !err; i++)
        err = encode(w, p->v[i].p, p->v[i].n, &o);
    if (p->end && !err) {
        size_t n = trailers_size(trailers);
        struct out frame = out_on(o.p + (cap - n), n); /* behind what its text needs */
        put_trailers(&frame, trailers);
        base64_encode(&w->encoder, (const uint8_t *)frame.p, frame.n, &o);
        base64_encode_pad(&w->encoder, &o);
    }
    ASSERT(!o.over);
    w->v_out[0] = (struct slice){w->out, w->out->data, o.n};
    p->n = o.n != 0;
    return err;
}

static void binary_end(struct grpc_web *w, struct piece *p, const struct fields *trailers)
{
    size_t n = trailers_size(trailers);
    w->out = slab_new(n);
    struct out o = out_on(w->out->data, n);
    put_trailers(&o, trailers);
    for (unsigned i = 0; i < p->n; i++)
        w->v_out[i] = p->v[i];
    w->v_out[p->n++] = (struct slice){w->out, w->out->data, o.n};
}

static const char *on_answer_body(struct filter_use *u, struct piece *p)
{
    struct grpc_web *w = u->state;
    const struct fields *trailers = p->trailers ? p->trailers : w->trailers;
    const char *err = NULL;
    if (w->answer.form == GRPC_WEB && !p->end)
        return NULL;
    slab_unref(w->out);
    w->out = NULL;
    if (w->cap < p->n + 1) {
        w->cap = p->n + 1;
        w->v_out = arena_zarray(u->req->arena, struct slice, w->cap);
    }
    if (w->answer.form == GRPC_WEB_TEXT)
        err = text_body(w, p, trailers);
    else
        binary_end(w, p, trailers);
    p->v = w->v_out;
    p->trailers = NULL;
    return err;
}

static void on_close(struct filter_use *u)
{
    struct grpc_web *w = u->state;
    slab_unref(w->in);
    slab_unref(w->out);
    w->in = w->out = NULL;
}

static bool never(const struct req *r)
{
    (void)r;
    return false; /* step_grpc chains it */
}

const struct filter grpc_web_filter = {
    .name = "grpc-web",
    .wanted = never,
    .begin = on_begin,
    .request_body = on_request_body,
    .answer_head = on_answer_head,
    .answer_body = on_answer_body,
    .close = on_close,
};
