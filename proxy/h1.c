/*
 * h1.c - the HTTP/1.1 codec towards clients: bytes → requests, answers → bytes, with keep-alive,
 * pipelining (one request at a time, the next waits unread) and both framings. Nothing is copied
 * through: every head is parsed and written anew.
 */
#include "proxy/h1.h"

#include "base/io.h"
#include "base/stats.h"
#include "proxy/client.h"
#include "proxy/websocket.h"

#define DISCARD_MAX (1024 * 1024) /* of an unread request body, to keep the connection */
/* a draining worker still waits that long for a connection's first request */
#define FRESH_MS     2000
#define HEAD_SCRATCH (72 * 1024)
#define QUEUE_HIGH   (64 * 1024) /* of answers not taken yet: no further request is begun */

static void pump(struct client *c, struct slice *fresh);

static struct h1_limits limits_of(const struct conf_limits *l)
{
    return (struct h1_limits){.head = l->header ? l->header : SIZE_MAX / 2,
                              .target = l->uri ? l->uri : SIZE_MAX / 2,
                              .fields = l->headers ? (unsigned)MIN(l->headers, 100000u) : 100000u};
}

static void state_set(struct h1 *h, enum h1_state to)
{
    h->state = to;
    if (to == H1_IDLE)
        h->idle_since = loop_now_ms();
}

static void h1_open(struct client *c)
{
    c->h1.in.budget = &c->budget;
    state_set(&c->h1, H1_IDLE);
}

/* An incomplete head waits, or waits no longer. */
static void head_account(struct client *c)
{
    struct h1 *h = &c->h1;
    budget_recount(&c->budget, &h->head_held, h->head ? h->head->cap : 0);
}

static void h1_fini(struct client *c)
{
    sliceq_fini(&c->h1.in);
    slab_unref(c->h1.head);
    c->h1.head = NULL;
    head_account(c);
}

static bool h1_idle(const struct client *c)
{
    return c->h1.state == H1_IDLE && !c->h1.head_since;
}

/* No further request: what is queued goes out, then FIN. */
static void finish_connection(struct client *c)
{
    state_set(&c->h1, H1_OVER);
    sliceq_fini(&c->h1.in);
    client_linger(c);
}

/* ---- requests in ---- */

static void body_framing(struct h1 *h, const struct h1_head *head, const struct h1_limits *l)
{
    struct req *r = h->req;
    h->framing = head->framing;
    h->body_left = head->framing == H1_LENGTH ? head->length : 0;
    h->body_done = head->framing == H1_NO_BODY || (head->framing == H1_LENGTH && !head->length);
    if (head->framing == H1_CHUNKED)
        h1_chunked_init(&h->chunked, r->arena, l);
    r->body_length = head->framing == H1_CHUNKED ? REQ_LENGTH_UNKNOWN : h->body_left;
    r->expect_continue = head->expect_continue && !h->body_done;
}

/* Does the body wait for the client, and for nobody else? */
static void body_turn(struct client *c)
{
    struct h1 *h = &c->h1;
    bool wanted = h->state == H1_REQUEST && !h->body_done && h->req->body_wanted;
    pace_turn(&h->pace, !c->io.paused && (wanted || h->state == H1_DISCARD), loop_now_ms());
}

/* What else of Upgrade there may be is ignored (RFC 9110 7.8), as if it had not come. */
static bool asks_websocket(const struct h1_head *head)
{
    return head->method == METHOD_GET && websocket_is_token(head->upgrade) &&
           (head->framing == H1_NO_BODY || (head->framing == H1_LENGTH && !head->length));
}

static void request_start(struct client *c, bool apart)
{
    struct h1 *h = &c->h1;
    h->pace = (struct pace){0};
    h->req = apart ? req_new_apart(c, &h1_codec, h) : req_new(c, &h1_codec, h);
    h->answer_chunked = h->answer_done = false;
    h->discarded = 0;
    h->requests++;
    state_set(h, H1_REQUEST);
}

/* A head that cannot be trusted: its answer is the last thing on this connection. */
static void head_refused(struct client *c, unsigned status, const char *why)
{
    struct h1 *h = &c->h1;
    request_start(c, false);
    h->framing = H1_NO_BODY;
    h->body_done = true;
    h->keep_alive = false;
    h->minor = 1;
    req_refuse(h->req, status, why);
}

static void head_complete(struct client *c, struct h1_head *head)
{
    struct h1 *h = &c->h1;
    struct req *r = h->req;
    struct h1_limits l = limits_of(&r->snap->conf->limits);
    h->minor = head->minor;
    h->keep_alive = head->keep_alive && !client_draining();
    r->method = head->method;
    r->method_text = head->method_text;
    r->target = head->target;
    r->authority = head->host;
    r->fields = head->fields;
    body_framing(h, head, &l);
    if (asks_websocket(head))
        r->protocol = head->upgrade;
    req_begin(r);
}

/* Parses from `p`; bytes taken, 0 when the head is not complete. The request is made when it is. */
static size_t head_parse(struct client *c, char *p, size_t n)
{
    struct h1 *h = &c->h1;
    struct h1_limits l = limits_of(&snapshot_current()->conf->limits);
    struct h1_head head = {0};
    const char *why = NULL;
    struct arena *a = req_arena_spare();
    ssize_t got = h1_parse_request(p, n, &h->scanned, &l, a, &head, &why);
    if (got == 0)
        return 0;
    h->scanned = 0;
    h->head_since = 0;
    if (got < 0) {
        head_refused(c, (unsigned)-got, why);
        return n;
    }
    /* The head moves into the request's arena; nothing points into the read buffer any more. */
    char *copy = arena_alloc(a, (size_t)got);
    memcpy(copy, p, (size_t)got);
    h1_rebase(&head, p, copy);
    request_start(c, asks_websocket(&head));
    head_complete(c, &head);
    return (size_t)got;
}

/* Adds to the partly read head; how much was taken. */
static size_t head_collect(struct h1 *h, const struct slice *s)
{
    if (!h->head)
        h->head = slab_new(SLAB_SMALL);
    if (h->head->used == h->head->cap) {
        struct slab *more = slab_new((size_t)h->head->cap * 2);
        memcpy(more->data, h->head->data, h->head->used);
        more->used = h->head->used;
        slab_unref(h->head);
        h->head = more;
    }
    size_t some = MIN(s->n, (size_t)(h->head->cap - h->head->used));
    memcpy(h->head->data + h->head->used, s->p, some);
    h->head->used += (uint32_t)some;
    return some;
}

static size_t step_idle(struct client *c, const struct slice *s)
{
    struct h1 *h = &c->h1;
    if (!h->head_since) {
        h->head_since = loop_now_ms();
        client_watch(c);
    }
    if (!h->head) {
        /* The usual case: the whole head came at once and is parsed where it was read. */
        size_t took = head_parse(c, (char *)(uintptr_t)s->p, s->n);
        if (took)
            return took;
        size_t kept = head_collect(h, s);
        head_account(c);
        return kept;
    }
    size_t before = h->head->used;
    size_t added = head_collect(h, s);
    struct slab *head = slab_ref(h->head);
    size_t took = head_parse(c, (char *)head->data, head->used);
    if (took) {
        slab_unref(h->head);
        h->head = NULL;
        /* What was collected before did not complete the head, so its end lies in the new bytes. */
        added = took > before ? MIN(took - before, added) : 0;
    }
    slab_unref(head);
    head_account(c);
    return added;
}

static void body_over(struct h1 *h, const struct fields *trailers)
{
    if (h->body_done)
        return;
    h->body_done = true;
    if (!req_over(h->req))
        req_body_end(h->req, trailers);
}

/* One piece of body out of s, to the request or away; bytes taken. */
static size_t step_body(struct client *c, const struct slice *s)
{
    struct h1 *h = &c->h1;
    struct slice piece = *s;
    if (h->framing == H1_UNTIL_CLOSE) {
        req_body(h->req, piece);
        return piece.n;
    }
    if (h->framing == H1_LENGTH) {
        piece.n = (size_t)MIN((uint64_t)s->n, h->body_left);
        pace_moved(&h->pace, piece.n);
        h->body_left -= piece.n;
        if (h->state == H1_REQUEST)
            req_body(h->req, piece);
        if (!h->body_left && h->req)
            body_over(h, NULL);
        return piece.n;
    }
    struct str data = {(const char *)s->p, s->n}, body = STR_NULL;
    const char *why = NULL;
    switch (h1_chunked_feed(&h->chunked, &data, &body, &why)) {
    case H1_CHUNK_DATA:
        piece.p = (const uint8_t *)body.p;
        piece.n = body.n;
        pace_moved(&h->pace, piece.n);
        if (h->state == H1_REQUEST)
            req_body(h->req, piece);
        break;
    case H1_CHUNK_END:
        body_over(h, h->chunked.trailers.n ? &h->chunked.trailers : NULL);
        break;
    case H1_CHUNK_BAD:
        h->keep_alive = false;
        h->body_done = true;
        if (h->state == H1_REQUEST)
            req_refuse(h->req, 400, why);
        return s->n;
    case H1_CHUNK_MORE:
        break;
    }
    return s->n - data.n;
}

/* Bytes of another protocol come in. */
static bool tunnel_in(const struct h1 *h)
{
    return h->framing == H1_UNTIL_CLOSE && h->state == H1_REQUEST && !h->body_done;
}

static void request_over(struct client *c);

/* Body bytes, wanted or to be thrown away; ends the request when it was answered before. */
static size_t step_rest(struct client *c, const struct slice *s)
{
    struct h1 *h = &c->h1;
    size_t took = step_body(c, s);
    if (h->state != H1_DISCARD)
        return took;
    h->discarded += took;
    if (h->discarded > DISCARD_MAX)
        h->keep_alive = false;
    if (h->body_done || !h->keep_alive)
        request_over(c);
    return took;
}

/*
 * Whoever sends requests and does not read the answers gets no more of them until it does. A head
 * that has begun is read on: its deadline runs.
 */
static bool begin_later(struct client *c)
{
    if (c->h1.head_since || io_queued(&c->io) < QUEUE_HIGH)
        return false;
    io_want_drain(&c->io);
    return true;
}

/* What can be done with s now; bytes taken, 0: nothing until something changes. */
static size_t step(struct client *c, const struct slice *s)
{
    struct h1 *h = &c->h1;
    switch (h->state) {
    case H1_IDLE:
        return begin_later(c) ? 0 : step_idle(c, s);
    case H1_REQUEST:
        if (h->body_done || !h->req->body_wanted)
            return 0;
        return step_rest(c, s);
    case H1_DISCARD:
        return step_rest(c, s);
    case H1_OVER:
        break;
    }
    return s->n;
}

static bool pump_step(struct client *c, struct slice *fresh)
{
    struct h1 *h = &c->h1;
    struct slice s = sliceq_first(&h->in);
    if (s.n) {
        slab_ref(s.slab); /* the queue may be dropped meanwhile */
        size_t took = step(c, &s);
        slab_unref(s.slab);
        if (took && h->in.bytes)
            sliceq_consume(&h->in, MIN(took, h->in.bytes));
        return took > 0;
    }
    if (!fresh || !fresh->n)
        return false;
    size_t took = step(c, fresh);
    fresh->p += took;
    fresh->n -= took;
    return took > 0;
}

/* Takes what was read as far as the state allows; keeps the rest and pauses. Not entered twice. */
static void pump(struct client *c, struct slice *fresh)
{
    struct h1 *h = &c->h1;
    if (h->pumping)
        return;
    h->pumping = true;
    while (c->state == CLIENT_OPEN && pump_step(c, fresh))
        ;
    h->pumping = false;
    if (c->state != CLIENT_OPEN)
        return;
    if (fresh && fresh->n)
        sliceq_push(&h->in, *fresh);
    if (c->io.eof_seen && !h->in.bytes && tunnel_in(h)) {
        body_over(h, NULL);
        if (c->state != CLIENT_OPEN)
            return;
    }
    bool body_held = h->state == H1_REQUEST && !h->body_done && !h->req->body_wanted;
    if (h->in.bytes || body_held)
        io_pause(&c->io, IO_PAUSE_PEER);
    else
        io_resume(&c->io, IO_PAUSE_PEER);
    /* Each read brings up to IO_READ_MAX: none while the client holds more than it may. */
    if (!budget_room(&c->budget)) {
        io_pause(&c->io, IO_PAUSE_BUDGET);
        client_wait_room(c);
    }
    body_turn(c);
}

static void h1_room(struct client *c)
{
    io_resume(&c->io, IO_PAUSE_BUDGET);
    body_turn(c);
}

static void h1_read(struct client *c, struct slice data)
{
    pump(c, &data);
}

static void h1_eof(struct client *c)
{
    /* Like nginx and most others: a client that ends its side no longer wants an answer. What was
     * answered already is still delivered. */
    struct h1 *h = &c->h1;
    if (tunnel_in(h)) { /* where the two directions end apart */
        pump(c, NULL);
        return;
    }
    if (!io_queued(&c->io) || h->state == H1_REQUEST) {
        client_close(c);
    } else if (h->state == H1_DISCARD) {
        h->keep_alive = false;
        request_over(c);
    } else {
        finish_connection(c);
    }
}

/* The request's body and its answer are both over, or the connection cannot go on. */
static void request_over(struct client *c)
{
    struct h1 *h = &c->h1;
    struct req *r = h->req;
    h->req = NULL;
    req_close(r);
    state_set(h, H1_IDLE);
    /* Draining, too, does not close under a client that was told it may go on: its next answer
     * tells it, or h1_drain when nothing comes. */
    if (!h->keep_alive)
        finish_connection(c);
    else
        pump(c, NULL);
}

static void h1_gone(struct client *c, const char *err)
{
    struct h1 *h = &c->h1;
    struct req *r = h->req;
    h->req = NULL;
    state_set(h, H1_OVER);
    if (!r)
        return;
    req_gone(r, err);
    req_close(r);
}

/* ---- answers out ---- */

static struct client *client_of(struct req *r)
{
    return r->client;
}

/* Status line and fields, framing and hop-by-hop apart. */
static void head_fields(struct out *o, const struct req *r)
{
    bool dated = false;
    out_lit(o, "HTTP/1.1 ");
    out_u64(o, r->answer.status);
    out_char(o, ' ');
    out_str(o, http_reason(r->answer.status));
    out_lit(o, "\r\n");
    for (unsigned i = 0; i < r->answer.fields.n; i++) {
        const struct field *f = &r->answer.fields.v[i];
        if (f->flags & FIELD_HOP)
            continue;
        dated |= f->token == FIELD_date;
        out_str(o, f->name);
        out_lit(o, ": ");
        out_str(o, f->value);
        out_lit(o, "\r\n");
    }
    if (!dated) { /* RFC 9110 6.6.1 */
        out_lit(o, "date: ");
        out_str(o, loop_http_date());
        out_lit(o, "\r\n");
    }
}

static void head_framing(struct out *o, struct h1 *h, struct req *r, bool end)
{
    bool bodyless = http_status_bodyless(r->answer.status);
    uint64_t length = r->answer.length;
    if (end && length == REQ_LENGTH_UNKNOWN && !bodyless && r->method != METHOD_HEAD)
        length = 0;
    if (bodyless) {
        ;
    } else if (length != REQ_LENGTH_UNKNOWN) {
        out_lit(o, "content-length: ");
        out_u64(o, length);
        out_lit(o, "\r\n");
    } else if (h->minor == 0) {
        h->keep_alive = h->keep_alive && r->method == METHOD_HEAD; /* the close is the end */
    } else {
        h->answer_chunked = r->method != METHOD_HEAD;
        out_lit(o, "transfer-encoding: chunked\r\n");
    }
    if (!h->keep_alive)
        out_lit(o, "connection: close\r\n");
    else if (h->minor == 0)
        out_lit(o, "connection: keep-alive\r\n");
    out_lit(o, "\r\n");
}

static void answer_over(struct client *c)
{
    struct h1 *h = &c->h1;
    h->answer_done = true;
    if (h->answer_chunked)
        io_write(&c->io, "0\r\n\r\n", 5);
    if (h->body_done || !h->keep_alive) {
        request_over(c);
        return;
    }
    state_set(h, H1_DISCARD);
    h->body_since = loop_now_ms();
    pump(c, NULL);
}

/* The request's body is what comes from now on, until the client ends its side. */
static void codec_tunnel(struct req *r)
{
    static char scratch[HEAD_SCRATCH];
    struct client *c = client_of(r);
    struct h1 *h = &c->h1;
    struct out o = out_on(scratch, sizeof(scratch));
    h->framing = H1_UNTIL_CLOSE;
    h->body_done = h->keep_alive = h->answer_chunked = false;
    r->body_ended = false;
    r->body_length = REQ_LENGTH_UNKNOWN;
    head_fields(&o, r);
    out_lit(&o, "connection: upgrade\r\nupgrade: ");
    out_str(&o, r->protocol);
    out_lit(&o, "\r\n\r\n");
    if (o.over) {
        req_fail(r, 502, "the answer's head is too large");
        return;
    }
    io_keepalive(&c->io);
    io_write(&c->io, o.p, o.n);
    io_want_drain(&c->io);
}

static void codec_head(struct req *r, bool end)
{
    static char scratch[HEAD_SCRATCH];
    struct client *c = client_of(r);
    struct h1 *h = &c->h1;
    struct out o = out_on(scratch, sizeof(scratch));
    /* A client that still waits for 100 may or may not send its body: only a close is clear. */
    if (r->expect_continue || client_draining())
        h->keep_alive = false;
    /* Nor is it worth reading a long body that nobody wants only to keep the connection. */
    if (!h->body_done && !r->body_wanted && h->framing == H1_LENGTH && h->body_left > DISCARD_MAX)
        h->keep_alive = false;
    const struct conf_timeouts *t = req_timeouts(r);
    c->write_gap = t->write_gap;
    c->min_rate = req_may_be_silent(r) ? 0 : t->min_rate;
    head_fields(&o, r);
    head_framing(&o, h, r, end);
    if (o.over) {
        h->answer_done = true;
        r->codec->reset(r, "the answer's head is too large");
        return;
    }
    io_write(&c->io, o.p, o.n);
    if (end)
        h->answer_chunked = false, answer_over(c);
}

static void codec_data(struct req *r, const struct slice *v, unsigned n, bool end)
{
    struct client *c = client_of(r);
    struct h1 *h = &c->h1;
    size_t total = 0;
    for (unsigned i = 0; i < n; i++)
        total += v[i].n;
    if (total && h->answer_chunked) {
        char size[20];
        struct out o = out_on(size, sizeof(size));
        out_hex(&o, total, 8);
        out_lit(&o, "\r\n");
        io_write(&c->io, o.p, o.n);
    }
    for (unsigned i = 0; i < n; i++)
        io_write_slice(&c->io, v[i]);
    if (total && h->answer_chunked)
        io_write(&c->io, "\r\n", 2);
    if (end && r->state == REQ_TUNNEL)
        io_shutdown(&c->io); /* what the client sends is still taken */
    else if (end)
        answer_over(c);
    else
        io_want_drain(&c->io);
}

static void codec_tunnel_over(struct req *r)
{
    struct client *c = client_of(r);
    c->h1.answer_done = true;
    request_over(c);
}

static void codec_trailers(struct req *r, const struct fields *t)
{
    static char scratch[HEAD_SCRATCH];
    struct client *c = client_of(r);
    struct h1 *h = &c->h1;
    struct out o = out_on(scratch, sizeof(scratch));
    if (h->answer_chunked) {
        out_lit(&o, "0\r\n");
        for (unsigned i = 0; i < t->n; i++) {
            if (t->v[i].flags & FIELD_HOP)
                continue;
            out_str(&o, t->v[i].name);
            out_lit(&o, ": ");
            out_str(&o, t->v[i].value);
            out_lit(&o, "\r\n");
        }
        out_lit(&o, "\r\n");
        if (o.over) /* trailers may be dropped (RFC 9110 6.5) */
            io_write(&c->io, "0\r\n\r\n", 5);
        else
            io_write(&c->io, o.p, o.n);
        h->answer_chunked = false;
    }
    answer_over(c);
}

static void codec_info(struct req *r, unsigned status)
{
    struct client *c = client_of(r);
    ASSERT(status == 100);
    if (c->h1.minor > 0)
        io_write(&c->io, "HTTP/1.1 100 Continue\r\n\r\n", 25);
}

static void codec_want_body(struct req *r, bool on)
{
    struct client *c = client_of(r);
    c->h1.body_since = loop_now_ms(); /* while nobody asked, its silence was no fault */
    if (on)
        pump(c, NULL);
    else if (!c->h1.body_done)
        io_pause(&c->io, IO_PAUSE_PEER);
    body_turn(c);
}

/* The client must not take this for a clean end: with TLS no close_notify, without it a reset. */
static void codec_reset(struct req *r, const char *err)
{
    (void)err;
    struct client *c = client_of(r);
    io_reset(&c->io);
    client_close(c);
}

const struct codec h1_codec = {
    .name = "HTTP/1.1",
    .head = codec_head,
    .data = codec_data,
    .trailers = codec_trailers,
    .info = codec_info,
    .want_body = codec_want_body,
    .reset = codec_reset,
    .tunnel = codec_tunnel,
    .tunnel_over = codec_tunnel_over,
};

static void h1_drained(struct client *c)
{
    struct h1 *h = &c->h1;
    if (h->req && !h->answer_done)
        req_proceed(h->req);
    else
        pump(c, NULL); /* requests may wait for the answers to be taken */
}

/* ---- time ---- */

/* Of the body that the client is asked for; ms until it does not come, or too slowly. */
static uint64_t body_time_left(struct client *c, const char **why)
{
    struct h1 *h = &c->h1;
    const struct conf_timeouts *t = req_timeouts(h->req);
    body_turn(c);
    uint64_t left = loop_time_left(MAX(c->io.last_in, h->body_since), t->body_gap);
    uint64_t slow_left = pace_left(&h->pace, req_may_be_silent(h->req) ? 0 : t->min_rate,
                                   t->body_gap, loop_now_ms());
    *why = slow_left < left ? "the request body comes slower than timeouts.min_rate"
                            : "the request body stopped coming";
    return MIN(left, slow_left);
}

static uint64_t request_time_left(struct client *c, const char **why)
{
    const struct h1 *h = &c->h1;
    const char *body_why = NULL;
    if (h->framing == H1_UNTIL_CLOSE)
        return UINT64_MAX; /* it may be silent, and not be read, for as long as it likes */
    uint64_t left = UINT64_MAX, body_left = UINT64_MAX;
    if (!req_may_be_silent(h->req)) /* silent, and so unread */
        left = client_take_left(c, why);
    if (!h->body_done && h->req->body_wanted && !(c->io.paused & IO_PAUSE_BUDGET))
        body_left = body_time_left(c, &body_why);
    if (body_left < left)
        *why = body_why;
    return MIN(left, body_left);
}

static uint64_t h1_time_left(struct client *c, const char **why)
{
    const struct h1 *h = &c->h1;
    const struct conf_timeouts *t = &snapshot_current()->conf->timeouts;
    switch (h->state) {
    case H1_IDLE:
        if (h->head_since || !h->requests) {
            *why = "the request's head did not come in time";
            return loop_time_left(h->head_since ? h->head_since : c->state_since, t->header);
        }
        /* While an answer is still on its way to a slow client the connection is not idle. */
        if (io_queued(&c->io))
            return client_take_left(c, why);
        *why = "idle";
        return loop_time_left(MAX(h->idle_since, c->io.last_out), t->idle);
    case H1_REQUEST:
        return request_time_left(c, why);
    case H1_DISCARD:
        return body_time_left(c, why);
    case H1_OVER:
        break;
    }
    return 0;
}

static void h1_timeout(struct client *c, const char *why)
{
    struct h1 *h = &c->h1;
    if (h->state == H1_IDLE && h->head_since) {
        h->head_since = 0;
        head_refused(c, 408, why);
    } else if (h->state == H1_REQUEST && h->req->state < REQ_ANSWERING && !h->body_done) {
        h->keep_alive = false;
        h->body_done = true;
        req_refuse(h->req, 408, why);
    } else if (h->state == H1_REQUEST) {
        h1_gone(c, why);
        io_reset(&c->io);
        client_close(c);
    } else if (h->state == H1_IDLE && !io_queued(&c->io)) {
        finish_connection(c);
    } else {
        client_close(c);
    }
}

/*
 * Nothing of a request is on its way as far as this side can know. A client that was busy a moment
 * ago may have sent its next one, which closing would lose: it is better told by an answer.
 */
static bool h1_quiet(const struct client *c, uint64_t idle_ms)
{
    char byte;
    if (!h1_idle(c) || io_queued(&c->io))
        return false;
    /* Whoever has just come gets a moment to say what for. */
    if (!c->h1.requests && loop_now_ms() - c->state_since < FRESH_MS)
        return false;
    if (c->h1.requests && loop_now_ms() - c->h1.idle_since < idle_ms)
        return false;
    return recv(c->io.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0;
}

static void h1_drain(struct client *c, uint64_t idle_ms)
{
    if (h1_quiet(c, idle_ms))
        client_linger(c);
}

static void h1_end(struct client *c, const char *why)
{
    if (c->h1.req && !req_over(c->h1.req))
        req_fail(c->h1.req, 503, why);
}

const struct protocol h1_protocol = {
    .name = "HTTP/1.1",
    .open = h1_open,
    .read = h1_read,
    .eof = h1_eof,
    .drained = h1_drained,
    .gone = h1_gone,
    .idle = h1_idle,
    .drain = h1_drain,
    .end = h1_end,
    .time_left = h1_time_left,
    .timeout = h1_timeout,
    .room = h1_room,
    .fini = h1_fini,
};
