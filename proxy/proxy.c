/*
 * proxy.c - the `proxy` handler: a request to a service's instance and its answer back. Builds the
 * request's head anew, streams both bodies with backpressure, and decides what may be tried again.
 * Connections are exchange.h's, instances and waiting backend.h's.
 */
#include "base/stats.h"
#include "proxy/client.h"
#include "proxy/drain.h"
#include "proxy/events.h"
#include "proxy/exchange.h"
#include "proxy/field_rules.h"
#include "proxy/forwarded.h"
#include "proxy/grpc_call.h"
#include "proxy/req.h"
#include "proxy/tunnel.h"
#include "proxy/websocket.h"

/* Request body waiting for the backend before the client is paused. */
#define QUEUE_HIGH (16 * 1024)
/* What an answer's head may bring along of its body, which nobody asked for yet. */
#define FIRST_READ       SLAB_SMALL
#define FIRST_READ_SCANT 4096 /* where the client's memory is short */

#define HELD_MAX         (64 * 1024) /* of a body, to be sent again */
#define REFUSALS_MAX     3
/* How long a stream that is to end may take to come to the end of a message. */
#define END_WAIT_MS 5000
#define LOOK_MS     1000 /* how often a call is looked at that may be a stream */

enum proxy_state {
    PROXY_WAITING,  /* for a ready instance */
    PROXY_SENDING,  /* an exchange is under way, no answer yet */
    PROXY_ANSWERED, /* its answer's head is out */
    PROXY_OVER
};

struct proxy {
    struct req *req;
    enum proxy_state state;
    struct backend_waiter waiter;
    struct exchange *x;
    bool retried;       /* a stale kept connection was replaced once */
    bool body_sent;     /* body bytes went to a backend and are not held: no second try */
    struct sliceq held; /* what went out of the body, while an h2 backend may still refuse it */
    const struct fields *trailers;
    unsigned refusals;   /* of backends that did not look at it */
    unsigned tries;      /* instances that were asked */
    uint64_t wait_until; /* ms */
    struct drain drain;  /* a call, or an event stream */
    bool ending;         /* it is a stream, and ends where its message does */
    bool coded;          /* of an event stream: by a content coding, nobody sees where it may end */
    struct events events; /* of an event stream */
    struct str key;       /* a WebSocket's Sec-WebSocket-Key, as the backend gets it */
    uint64_t asked_us;    /* the exchange began */
};

static const struct exchange_ops ops;

static void proxy_over(struct proxy *p)
{
    p->state = PROXY_OVER;
    backend_wait_cancel(&p->waiter);
    drain_leave(&p->drain);
    exchange_abort(&p->x);
    sliceq_fini(&p->held);
}

static bool is_websocket(const struct proxy *p)
{
    return p->req->kind == REQ_WEBSOCKET;
}

static enum exchange_protocol protocol_of(const struct proxy *p)
{
    bool h1 = is_websocket(p) || p->req->route->service->protocol == CONF_HTTP1;
    return h1 ? EXCHANGE_H1 : EXCHANGE_H2;
}

/* ---- the request's head ---- */

/* Ours go in their place. */
static bool replaced(enum field_token t)
{
    return t == FIELD_host || t == FIELD_x_request_id || t == FIELD_expect || forwarded_replaces(t);
}

static void add(const struct req *r, struct fields *to, const char *name, struct str value)
{
    fields_add(r->arena, to, str_of(name), value);
}

static struct str path_of(const struct req *r)
{
    return r->route->strip_prefix ? arena_fmt(r->arena, "/" STR_FMT, STR_ARG(r->rest)) : r->path;
}

/* A second try: what the first one was sent of the body. */
static void write_held(struct proxy *p)
{
    struct sliceq again = p->held;
    p->held = (struct sliceq){.budget = again.budget};
    while (again.bytes) {
        struct slice piece = sliceq_first(&again);
        exchange_write_body(p->x, piece);
        sliceq_push(&p->held, piece);
        sliceq_consume(&again, piece.n);
    }
    sliceq_fini(&again);
}

/* What Host says (`host_header`); X-Forwarded-Host tells what the client asked for. */
static struct str authority_of(const struct req *r, const struct backend_instance *i)
{
    const struct conf_service *svc = r->route->service;
    switch (svc->host_header) {
    case CONF_HOST_CLIENT:
        break;
    case CONF_HOST_NAME:
        return svc->host_name;
    case CONF_HOST_BACKEND:
        if (i->authority.n)
            return i->authority;
        return i->addr.ss_family == AF_UNIX ? STR("localhost") : i->text;
    }
    return r->authority;
}

/* The handshake's half that only HTTP/1.1 has (RFC 8441 5). The client's own passes through. */
static void websocket_key(struct proxy *p, struct fields *to)
{
    struct req *r = p->req;
    if (r->method == METHOD_CONNECT) {
        char *key = arena_alloc(r->arena, WEBSOCKET_KEY_SIZE);
        websocket_key_new(key);
        p->key = (struct str){key, WEBSOCKET_KEY_SIZE};
        fields_remove(to, STR("sec-websocket-key"));
        add(r, to, "sec-websocket-key", p->key);
    } else {
        p->key = websocket_field(&r->fields, STR("sec-websocket-key"));
    }
}

static void write_head(struct proxy *p)
{
    struct req *r = p->req;
    struct fields fields = {0};
    char id[17];
    for (unsigned i = 0; i < r->fields.n; i++) {
        const struct field *f = &r->fields.v[i];
        if (!(f->flags & FIELD_HOP) && !replaced(f->token))
            fields_add(r->arena, &fields, f->name, f->value);
    }
    forwarded_add(r, &fields);
    add(r, &fields, "x-request-id", arena_str(r->arena, req_id_text(r, id)));
    field_rules_apply(&r->route->backend_fields, true, r->arena, &fields);
    if (protocol_of(p) == EXCHANGE_H2)
        add(r, &fields, "te", STR("trailers")); /* we pass them on, whatever the client said */
    if (is_websocket(p))
        websocket_key(p, &fields);
    struct exchange_request request = {.method = is_websocket(p) ? STR("GET") : r->method_text,
                                       .scheme = r->scheme,
                                       .authority = authority_of(r, p->x->instance),
                                       .path = path_of(r),
                                       .query = r->query,
                                       .fields = &fields,
                                       .length = is_websocket(p) ? 0 : r->body_length,
                                       .upgrade = is_websocket(p) ? STR("websocket") : STR_NULL};
    const char *err = exchange_write_head(p->x, &request);
    if (err) {
        req_fail(r, 431, err);
        return;
    }
    write_held(p);
    if (r->body_ended || is_websocket(p)) /* what a WebSocket's client sends waits for the 101 */
        exchange_write_end(p->x, p->trailers);
    else if (exchange_connecting(p->x))
        exchange_want_sent(p->x); /* while nobody takes it, the body stays where it is */
    else
        req_want_body(r, true);
}

/* ---- finding an instance ---- */

/*
 * Whether TLS is spoken is the instance's, how is the configuration's. Around a reload the two can
 * be of different ages; never is an https:// backend spoken to in plain text.
 */
static bool choose_tls(const struct proxy *p, const struct backend_instance *i,
                       struct backend_tls **tls)
{
    const struct req *r = p->req;
    *tls = NULL;
    if (!i->by_tls)
        return true;
    *tls = r->snap->backend_tls[r->route->service->index];
    if (!*tls)
        *tls = i->tls.tls;
    return *tls != NULL;
}

static void on_drain(struct drain *d);

static void start_exchange(struct proxy *p, struct backend_instance *i)
{
    struct req *r = p->req;
    struct backend_tls *tls;
    if (!choose_tls(p, i, &tls)) {
        req_fail(r, 502, "the backend and how to speak to it are of two configurations");
        return;
    }
    p->tries++;
    const struct conf_timeouts *t = &r->route->timeouts;
    struct exchange_start start = {
        .instance = i,
        .tls = tls,
        .fresh = p->retried,
        .arena = r->arena,
        .method = is_websocket(p) ? METHOD_GET : r->method,
        .timeouts = {.connect_ms = t->connect, .response_ms = t->response, .gap_ms = t->body_gap},
        .ops = &ops,
        .owner = p,
        .budget = &r->client->budget,
        .room = budget_of_right(&r->client->budget) ? FIRST_READ : FIRST_READ_SCANT};
    if (req_may_be_silent(r))
        start.timeouts.gap_ms = 0;
    p->state = PROXY_SENDING;
    p->asked_us = now_us();
    p->x = exchange_start(protocol_of(p), &start);
    if (r->grpc)
        drain_enter(&i->drains, &p->drain, on_drain);
    r->instance = arena_str(r->arena, i->text); /* the log's; the instance may be gone by then */
    write_head(p);
}

static void on_instance(struct backend_waiter *w, struct backend_instance *i)
{
    struct proxy *p = container_of(w, struct proxy, waiter);
    struct req *r = p->req;
    if (i) {
        start_exchange(p, i);
        return;
    }
    row_add(&backend_service(r->route->service->name)->row->unavailable, 1);
    fields_add_token(r->arena, &r->answer.fields, FIELD_retry_after, STR("5"));
    req_fail(r, 503, "no instance of the service is ready");
}

static void find_instance(struct proxy *p)
{
    uint64_t now = loop_now_ms();
    const struct conf_service *def = p->req->route->service;
    struct backend_service *s = backend_service(def->name);
    p->state = PROXY_WAITING;
    s->round = def->balance == CONF_BALANCE_ROUND;
    backend_wait(s, &p->waiter, p->wait_until > now ? p->wait_until - now : 0);
}

static void on_start(struct req *r)
{
    struct proxy *p = arena_znew(r->arena, struct proxy);
    p->req = r;
    p->held.budget = &r->client->budget;
    p->waiter.on_instance = on_instance;
    p->wait_until = loop_now_ms() + r->route->service->wait_ready;
    r->handler_state = p;
    find_instance(p);
}

/* ---- the request's body ---- */

/* Until its answer comes an h2 backend may say that it did not look at the request. */
static void hold(struct proxy *p, struct slice data)
{
    if (!p->body_sent && protocol_of(p) == EXCHANGE_H2 && p->state == PROXY_SENDING &&
        p->held.bytes + data.n <= HELD_MAX) {
        sliceq_copy(&p->held, data.p, data.n);
        return;
    }
    p->body_sent = true;
    sliceq_fini(&p->held);
}

static void on_body(struct req *r, struct slice data)
{
    struct proxy *p = r->handler_state;
    if (!p->x)
        return;
    hold(p, data);
    exchange_write_body(p->x, data);
    if (exchange_queued(p->x) > QUEUE_HIGH) {
        req_want_body(r, false);
        exchange_want_sent(p->x);
    }
}

static void on_body_end(struct req *r, const struct fields *trailers)
{
    struct proxy *p = r->handler_state;
    p->trailers = trailers;
    if (p->x)
        exchange_write_end(p->x, trailers);
}

static void on_sent(struct exchange *x)
{
    struct proxy *p = x->owner;
    req_want_body(p->req, true);
}

/* ---- the answer ---- */

/* It is no longer ours. */
static void exchange_gone(struct proxy *p)
{
    p->x = NULL;
    drain_leave(&p->drain);
}

/* ---- streams that are to end ---- */

/* Here, where one message is over and the next has not begun? */
static bool may_end(const struct proxy *p)
{
    const struct req *r = p->req;
    if (r->grpc)
        return r->state < REQ_ANSWERING || grpc_frames_between(&r->grpc->out);
    return !r->send_pending && (p->coded || events_between(&p->events));
}

/*
 * A call ends with a status that says where to go on. An event stream ends as if the backend had
 * ended it: the client opens it again. Both get to the next instance then.
 */
static void end_with(struct proxy *p, const struct slice *v, unsigned n)
{
    struct req *r = p->req;
    struct exchange *x = p->x;
    if (r->grpc) {
        if (n)
            req_send(r, v, n, false);
        req_fail(r, 503, grpc_err_drain);
        return;
    }
    exchange_gone(p);
    req_send(r, v, n, true);
    exchange_abort(&x);
}

static void end_now(struct proxy *p)
{
    end_with(p, NULL, 0);
}

static void on_drain(struct drain *d)
{
    struct proxy *p = container_of(d, struct proxy, drain);
    struct req *r = p->req;
    bool waited = p->ending;
    if (r->grpc && !grpc_call_is_stream(r->grpc)) {
        drain_later(d, LOOK_MS);
        return;
    }
    p->ending = true;
    if (may_end(p) || (waited && !r->send_pending))
        end_now(p);
    else
        drain_later(d, END_WAIT_MS);
}

/* One with a length has an end of its own. */
static void events_begin(struct proxy *p, const struct exchange_head *h)
{
    p->coded = fields_get(&h->fields, FIELD_content_encoding) != NULL;
    if (h->length == EXCHANGE_LENGTH_UNKNOWN && !p->drain.group)
        drain_enter(&p->x->instance->drains, &p->drain, on_drain);
}

/* How many bytes of b to the first place where the answer may end, or all; *there: it may. */
static size_t step(struct proxy *p, struct grpc_frames *f, struct slice b, bool *there)
{
    if (!p->req->grpc) {
        size_t n = events_step(&p->events, b.p, b.n);
        *there = events_between(&p->events);
        return n;
    }
    size_t done = 0;
    *there = false;
    while (done < b.n && !*there) {
        size_t n = grpc_frames_step(f, b.n - done);
        if (grpc_frames_feed(f, b.p + done, n)) /* the filter will say what is wrong */
            return b.n;
        done += n;
        *there = grpc_frames_between(f);
    }
    return done;
}

/* Calls are followed by their filter; where one that is to end may do so is looked for here. */
static bool follows(const struct proxy *p)
{
    return p->drain.group && !p->coded && (p->ending || !p->req->grpc);
}

/* Follows what is sent. True: the stream was to end, and did within this. */
static bool stream_body(struct proxy *p, const struct slice *v, unsigned n)
{
    struct req *r = p->req;
    struct grpc_frames f = r->grpc ? r->grpc->out : (struct grpc_frames){0};
    for (unsigned i = 0; i < n; i++) {
        for (size_t at = 0; at < v[i].n;) {
            bool there;
            at += step(p, &f, (struct slice){v[i].slab, v[i].p + at, v[i].n - at}, &there);
            if (!p->ending || !there)
                continue;
            struct slice *cut = arena_zarray(r->arena, struct slice, i + 1u);
            memcpy(cut, v, sizeof(*cut) * (i + 1u));
            cut[i].n = at;
            end_with(p, cut, i + 1);
            return true;
        }
    }
    return false;
}

static void count_answer(const struct proxy *p, const struct exchange *x)
{
    struct service_row *row = x->instance->service->row;
    const unsigned class = p->req->answer.status / 100;
    row_add(&row->answers[class < CLASSES ? class : CLASS_NONE], 1);
    row_observe(&row->seconds, now_us() - p->asked_us);
}

/* The exchange is the tunnel's from now on. */
static void on_switch(struct proxy *p, struct exchange_head *h)
{
    struct req *r = p->req;
    struct exchange *x = p->x;
    const char *err = websocket_answer_check(&h->fields, h->upgrade, p->key);
    if (err) {
        row_add(&x->instance->service->row->failures, 1);
        req_fail(r, 502, err);
        return;
    }
    r->answer.status = h->status;
    r->answer.fields = h->fields;
    p->state = PROXY_ANSWERED;
    count_answer(p, x);
    if (r->method == METHOD_CONNECT) { /* RFC 8441 5: a 2xx is what opens it, and proves nothing */
        r->answer.status = 200;
        fields_remove(&r->answer.fields, STR("sec-websocket-accept"));
    }
    p->x = NULL;
    proxy_over(p);
    tunnel_open(r, x);
}

static void on_head(struct exchange *x, struct exchange_head *h)
{
    struct proxy *p = x->owner;
    struct req *r = p->req;
    if (h->upgrade.p) {
        on_switch(p, h);
        return;
    }
    if (r->method == METHOD_CONNECT && h->status < 300) { /* it would mean that it stands */
        req_fail(r, 502, "the backend answered a WebSocket request without switching");
        return;
    }
    const struct field *type = fields_get(&h->fields, FIELD_content_type);
    if (type && str_istarts(type->value, STR("text/event-stream"))) {
        if (r->kind == REQ_HTTP)
            r->kind = REQ_EVENTS;
        exchange_no_gap(x);
        events_begin(p, h);
    }
    r->answer.status = h->status;
    r->answer.fields = h->fields;
    r->answer.length = h->length;
    const struct field *length = fields_get(&h->fields, FIELD_content_length);
    if (r->method == METHOD_HEAD && length && !str_u64(length->value, &r->answer.length))
        r->answer.length = REQ_LENGTH_UNKNOWN;
    p->state = PROXY_ANSWERED;
    count_answer(p, x);
    sliceq_fini(&p->held);
    /* What has no body ends with on_body: there the connection was given back already. */
    if (h->no_body)
        return;
    req_answer(r, false);
}

static void on_answer_body(struct exchange *x, const struct slice *v, unsigned n, bool end)
{
    struct proxy *p = x->owner;
    struct req *r = p->req;
    if (end)
        exchange_gone(p);
    else
        exchange_pause(x, true);
    if (r->state == REQ_BEGUN)
        req_answer(r, true);
    else if (end || !follows(p) || !stream_body(p, v, n))
        req_send(r, v, n, end);
}

static void on_answer_end(struct exchange *x, const struct fields *trailers)
{
    struct proxy *p = x->owner;
    struct req *r = p->req;
    /* Those of the exchange go with it, while the codec may need them for longer. */
    struct fields *own = arena_znew(r->arena, struct fields);
    *own = *trailers;
    exchange_gone(p);
    req_send_trailers(r, own);
}

static void on_proceed(struct req *r)
{
    struct proxy *p = r->handler_state;
    if (p->x && p->ending && may_end(p)) {
        end_now(p);
        return;
    }
    size_t room = p->x ? req_room(r, false) : 0;
    if (!room)
        return;
    p->x->room = room;
    exchange_pause(p->x, false);
}

/*
 * May it be sent again? Only while no byte of an answer came and no body byte went out. A kept
 * connection that went stale is replaced once, if nothing was written or repeating does no harm
 * (RFC 9110 9.2.2, RFC 9112 9.3.1).
 */
static bool may_replace(const struct proxy *p, const struct exchange *x, enum exchange_failure how)
{
    return how == EXCHANGE_STALE && !p->retried && !p->body_sent &&
           (exchange_unsent(x) || http_method_idempotent(x->method));
}

/* What a backend says that it has not looked at may go out again, whatever it is (RFC 9113 8.7). */
static bool may_repeat(struct proxy *p, enum exchange_failure how)
{
    return how == EXCHANGE_UNPROCESSED && !p->body_sent && p->refusals++ < REFUSALS_MAX &&
           p->wait_until > loop_now_ms();
}

/*
 * Where nothing answers at all, a supervised service most probably restarts: wait for it as long as
 * a request may wait. An address of somebody else's is tried elsewhere, or reported at once: each
 * instance is asked about once.
 */
static bool may_go_elsewhere(const struct proxy *p, const struct exchange *x, const char *err)
{
    const struct conf_service *svc = p->req->route->service;
    bool timed_out = exchange_timed_out(err);
    if (!exchange_unsent(x) || p->body_sent || p->wait_until <= loop_now_ms())
        return false;
    if (timed_out && err != exchange_err_connect_timeout)
        return false;
    backend_suspect(x->instance);
    return (svc->n_argv > 0 && !timed_out) ||
           (p->tries < backend_count(x->instance->service) && backend_choose(x->instance->service));
}

/* Body bytes that came while there is no exchange would be lost: none until the next one. */
static void try_again(struct proxy *p)
{
    req_want_body(p->req, false);
    find_instance(p);
}

static void on_exchange_error(struct exchange *x, const char *err, enum exchange_failure how)
{
    struct proxy *p = x->owner;
    struct req *r = p->req;
    bool timed_out = exchange_timed_out(err);
    struct service_row *row = x->instance->service->row;
    exchange_gone(p);
    if (p->state == PROXY_SENDING && may_replace(p, x, how)) {
        p->retried = true;
        stats_inc(backend_retries);
        row_add(&row->retries, 1);
        try_again(p);
    } else if (p->state == PROXY_SENDING && may_repeat(p, how)) {
        stats_inc(backend_retries);
        row_add(&row->retries, 1);
        try_again(p);
    } else if (p->state == PROXY_SENDING && may_go_elsewhere(p, x, err)) {
        row_add(&row->retries, 1);
        try_again(p);
    } else {
        row_add(&row->failures, 1);
        req_fail(r, timed_out ? 504 : 502, err);
    }
}

static const struct exchange_ops ops = {on_sent, on_head, on_answer_body, on_answer_end,
                                        on_exchange_error};

static void on_cancel(struct req *r)
{
    proxy_over(r->handler_state);
}

const struct handler proxy_handler = {
    .name = "proxy",
    .start = on_start,
    .body = on_body,
    .body_end = on_body_end,
    .proceed = on_proceed,
    .cancel = on_cancel,
};
