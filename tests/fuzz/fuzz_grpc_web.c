/*
 * fuzz_grpc_web.c - any bytes as the body of a gRPC-Web request, or of the answer to one, binary or
 * text, through req.c and the two filters of a call. However the body is cut, what comes out is the
 * same; it is what a plain reading of the protocol says; and a call that fails ends in one frame of
 * trailers, or is reset where that could be read as a message's rest.
 */
#include <stdlib.h>

#include "proxy/client.h"
#include "proxy/grpc_call.h"
#include "proxy/grpc_web.h"

/* ---- bytes that grow ---- */

struct bytes {
    uint8_t *p;
    size_t n;
};

static void add(struct bytes *b, const void *p, size_t n)
{
    if (!n)
        return;
    b->p = realloc(b->p, b->n + n);
    ASSERT(b->p);
    memcpy(b->p + b->n, p, n);
    b->n += n;
}

static bool same(const struct bytes *a, const struct bytes *b)
{
    return a->n == b->n && (!a->n || memcmp(a->p, b->p, a->n) == 0);
}

static bool begins(const struct bytes *all, const struct bytes *with)
{
    return with->n <= all->n && (!with->n || memcmp(all->p, with->p, with->n) == 0);
}

/* ---- what the protocol says, read plainly: the body is there as a whole ---- */

static int value_of(uint8_t c)
{
    static const char all[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c ? strchr(all, c) : NULL;
    return at ? (int)(at - all) : -1;
}

/* Groups of four, each of which may be padded; false: what comes next is none. */
static bool plain_base64(const uint8_t *p, size_t n, struct bytes *out)
{
    for (; n >= 4; p += 4, n -= 4) {
        const int v[4] = {value_of(p[0]), value_of(p[1]), value_of(p[2]), value_of(p[3])};
        const unsigned len = p[3] != '=' ? 3 : p[2] != '=' ? 2 : 1;
        if (v[0] < 0 || v[1] < 0 || (len > 1 && v[2] < 0) || (len > 2 && v[3] < 0))
            return false;
        const uint8_t b[3] = {(uint8_t)(v[0] << 2 | v[1] >> 4),
                              (uint8_t)(v[1] << 4 | (len > 1 ? v[2] >> 2 : 0)),
                              (uint8_t)((len > 1 ? v[2] << 6 : 0) | (len > 2 ? v[3] : 0))};
        add(out, b, len);
    }
    return n == 0;
}

/* Whole messages and nothing else? */
static bool plain_messages(const struct bytes *b, uint64_t max, uint64_t *count)
{
    size_t at = 0;
    for (*count = 0; at < b->n; ++*count) {
        if (b->n - at < 5 || b->p[at] > 1)
            return false;
        const uint64_t n = (uint64_t)b->p[at + 1] << 24 | (uint64_t)b->p[at + 2] << 16 |
                           (uint64_t)b->p[at + 3] << 8 | b->p[at + 4];
        if ((max && n > max) || n > b->n - at - 5)
            return false;
        at += 5 + n;
    }
    return true;
}

/* ---- one call ---- */

struct call {
    bool text_in, text_out, answers; /* answers: the body is the answer's */
    bool trailers, end_with_last;    /* how the answer ends */
    uint64_t max;
    const uint8_t *body;
    size_t n;
};

static struct run {
    struct bytes handler, client; /* what each of them got */
    bool handler_ended, ended, was_reset;
    unsigned http_status;
    enum grpc_status status;
    uint64_t in, out; /* messages */
} * now;

static void on_head(struct req *r, bool end)
{
    ASSERT(!now->http_status);
    now->http_status = r->answer.status;
    now->ended = end;
}
static void on_data(struct req *r, const struct slice *v, unsigned n, bool end)
{
    (void)r;
    ASSERT(now->http_status && !now->ended && !now->was_reset);
    for (unsigned i = 0; i < n; i++)
        add(&now->client, v[i].p, v[i].n);
    now->ended = end;
}
static void on_trailers(struct req *r, const struct fields *t)
{
    (void)r;
    ASSERT(!t); /* gRPC-Web has no trailers of HTTP */
}
static void on_info(struct req *r, unsigned status)
{
    (void)r;
    (void)status;
}
static void on_want_body(struct req *r, bool on)
{
    (void)r;
    (void)on;
}
static void on_reset(struct req *r, const char *err)
{
    (void)r;
    ASSERT(err && !now->ended);
    now->was_reset = true;
}
static const struct codec codec = {.name = "HTTP/2",
                                   .head = on_head,
                                   .data = on_data,
                                   .trailers = on_trailers,
                                   .info = on_info,
                                   .want_body = on_want_body,
                                   .reset = on_reset};

static void on_body(struct req *r, struct slice data)
{
    (void)r;
    ASSERT(!now->handler_ended);
    add(&now->handler, data.p, data.n);
}
static void on_body_end(struct req *r, const struct fields *trailers)
{
    (void)r;
    (void)trailers;
    now->handler_ended = true;
}
static const struct handler sink = {.name = "sink", .body = on_body, .body_end = on_body_end};

/* The size of the next piece; the pieces are each in memory of their own, to its byte. */
static size_t cut(uint32_t *seed, size_t left)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 17;
    *seed ^= *seed << 5;
    const size_t most = *seed & 1 ? 3 : 40;
    return MIN(left, (*seed >> 8) % (most + 1));
}

static void *copy_of(const uint8_t *p, size_t n)
{
    void *mem = malloc(n ? n : 1);
    ASSERT(mem);
    if (n)
        memcpy(mem, p, n);
    return mem;
}

static void send_request(struct req *r, const struct call *c, uint32_t seed)
{
    for (size_t at = 0, n; at < c->n && !req_over(r); at += n) {
        n = seed ? cut(&seed, c->n - at) : c->n;
        void *mem = copy_of(c->body + at, n);
        req_body(r, (struct slice){.p = mem, .n = n});
        free(mem);
    }
    if (!req_over(r))
        req_body_end(r, NULL);
}

static void send_answer(struct req *r, const struct call *c, uint32_t seed)
{
    for (size_t at = 0; at < c->n && !req_over(r);) {
        struct slice v[3];
        unsigned n_v = 0;
        for (; n_v < (seed ? ARRAY_LEN(v) : 1) && at < c->n; n_v++) {
            const size_t n = seed ? cut(&seed, c->n - at) : c->n;
            v[n_v] = (struct slice){.p = copy_of(c->body + at, n), .n = n};
            at += n;
        }
        req_send(r, v, n_v, at == c->n && c->end_with_last && !c->trailers);
        for (unsigned i = 0; i < n_v; i++)
            free((void *)(uintptr_t)v[i].p);
        req_proceed(r);
    }
}

static void end_answer(struct req *r, const struct call *c)
{
    struct fields *t = arena_znew(r->arena, struct fields);
    fields_add(r->arena, t, STR("grpc-status"), STR("0"));
    fields_add(r->arena, t, STR("x-end"), STR("b"));
    if (req_over(r))
        return;
    if (c->trailers)
        req_send_trailers(r, t);
    else
        req_send(r, NULL, 0, true);
}

static void answer_head(struct req *r, bool trailers_only)
{
    r->answer.status = 200;
    fields_add_token(r->arena, &r->answer.fields, FIELD_content_type, STR("application/grpc"));
    if (trailers_only)
        fields_add(r->arena, &r->answer.fields, STR("grpc-status"), STR("0"));
    req_answer(r, trailers_only);
}

static struct req *begin(const struct call *c, struct client *client)
{
    static struct conf_site site;
    static struct conf_route route;
    struct arena *a = arena_new(1024);
    struct req *r = arena_znew(a, struct req);
    site.grpc.on = site.grpc.web = true;
    site.grpc.max_message = c->max;
    *r = (struct req){.arena = a,
                      .home = a,
                      .client = client,
                      .codec = &codec,
                      .state = REQ_BEGUN,
                      .method = METHOD_POST,
                      .path = STR("/a.B/C"),
                      .site = &site,
                      .route = &route,
                      .handler = &sink};
    r->answer.length = r->body_length = REQ_LENGTH_UNKNOWN;
    fields_add_token(a, &r->fields, FIELD_content_type,
                     c->text_in ? STR("application/grpc-web-text") : STR("application/grpc-web"));
    fields_add_token(a, &r->fields, FIELD_accept,
                     c->text_out ? STR("application/grpc-web-text+proto")
                                 : STR("application/grpc-web+proto"));
    ASSERT(step_grpc(r));
    return r;
}

static struct run run(const struct call *c, uint32_t seed)
{
    static struct client client = {.kind = LISTENER_HTTPS};
    struct run result = {0};
    now = &result;
    struct req *r = begin(c, &client);
    if (c->answers) {
        req_body_end(r, NULL);
        answer_head(r, false);
        send_answer(r, c, seed);
        end_answer(r, c);
    } else {
        send_request(r, c, seed);
        if (!req_over(r))
            answer_head(r, true);
    }
    ASSERT(req_over(r) && result.ended != result.was_reset);
    result.status = r->grpc->status;
    result.in = r->grpc->in.messages;
    result.out = r->grpc->out.messages;
    filters_close(r);
    struct arena *a = r->arena;
    budget_recount(&client.budget, &r->counted, 0);
    arena_free(&a);
    return result;
}

static void run_free(struct run *r)
{
    free(r->handler.p);
    free(r->client.p);
}

/* ---- what must hold ---- */

/* What the client got, without its base64; all of it must be some. */
static struct bytes decoded(const struct call *c, const struct run *r)
{
    struct bytes b = {0};
    if (!c->text_out)
        add(&b, r->client.p, r->client.n);
    else
        ASSERT(plain_base64(r->client.p, r->client.n, &b));
    return b;
}

/* Messages, and behind them one frame of trailers with that status, which ends the body. */
static void check_end(const struct bytes *got, size_t messages, enum grpc_status status)
{
    char line[32];
    struct out o = out_on(line, sizeof(line));
    out_fmt(&o, "grpc-status: %u\r\n", (unsigned)status);
    ASSERT(got->n >= messages + 5 + o.n && got->p[messages] == 0x80);
    const uint8_t *len = got->p + messages + 1;
    const size_t n = (size_t)len[0] << 24 | (size_t)len[1] << 16 | (size_t)len[2] << 8 | len[3];
    ASSERT(n == got->n - messages - 5);
    ASSERT(memcmp(got->p + messages + 5, line, o.n) == 0);
}

static void check_request(const struct call *c, const struct run *r)
{
    struct bytes want = {0}, got = decoded(c, r);
    uint64_t count = 0;
    bool good = true;
    if (c->text_in)
        good = plain_base64(c->body, c->n, &want);
    else
        add(&want, c->body, c->n);
    good = good && plain_messages(&want, c->max, &count);
    ASSERT(r->http_status == 200 && r->ended && begins(&want, &r->handler));
    ASSERT(good == (r->status == GRPC_OK) && good == r->handler_ended);
    if (good)
        ASSERT(same(&want, &r->handler) && r->in == count);
    else
        ASSERT(r->status == GRPC_INVALID_ARGUMENT || r->status == GRPC_RESOURCE_EXHAUSTED ||
               r->status == GRPC_INTERNAL);
    check_end(&got, 0, r->status);
    free(want.p);
    free(got.p);
}

static void check_answer(const struct call *c, const struct run *r)
{
    struct bytes sent = {0}, got = decoded(c, r);
    uint64_t count = 0;
    add(&sent, c->body, c->n);
    const bool good = plain_messages(&sent, 0, &count);
    ASSERT(r->http_status == 200 && good == r->ended);
    if (good) {
        ASSERT(begins(&got, &sent) && r->out == count);
        ASSERT(r->status == (c->trailers ? GRPC_OK : GRPC_UNKNOWN));
        check_end(&got, sent.n, r->status);
    } else {
        ASSERT(begins(&sent, &got) && r->status != GRPC_OK);
    }
    free(sent.p);
    free(got.p);
}

static void check_same(const struct call *c, const struct run *whole, const struct run *pieces)
{
    ASSERT(whole->status == pieces->status && whole->http_status == pieces->http_status);
    ASSERT(whole->ended == pieces->ended && whole->was_reset == pieces->was_reset);
    ASSERT(whole->handler_ended == pieces->handler_ended);
    /* What fails may have got further when it came in pieces, never elsewhere. */
    if (whole->ended)
        ASSERT(same(&whole->client, &pieces->client));
    else
        ASSERT(begins(&pieces->client, &whole->client));
    if (whole->handler_ended)
        ASSERT(same(&whole->handler, &pieces->handler) && whole->in == pieces->in);
    else
        ASSERT(begins(&pieces->handler, &whole->handler));
    if (c->answers && whole->ended)
        ASSERT(whole->out == pieces->out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool ready;
    if (!ready)
        loop_init();
    ready = true;
    if (size < 3)
        return 0;
    const struct call c = {.text_in = data[0] & 1,
                           .text_out = data[0] & 2,
                           .answers = data[0] & 4,
                           .trailers = data[0] & 8,
                           .end_with_last = data[0] & 16,
                           .max = data[1],
                           .body = data + 3,
                           .n = size - 3};
    struct run whole = run(&c, 0);
    (c.answers ? check_answer : check_request)(&c, &whole);
    for (uint32_t k = 1; k <= 3; k++) {
        struct run pieces = run(&c, data[2] * 2654435761u + k);
        check_same(&c, &whole, &pieces);
        (c.answers ? check_answer : check_request)(&c, &pieces);
        run_free(&pieces);
    }
    run_free(&whole);
    return 0;
}
