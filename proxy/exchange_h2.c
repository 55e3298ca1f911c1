/*
 * exchange_h2.c - HTTP/2 towards a backend: the calls, each a request on a stream of a connection
 * that many share. What is told to the owner and when, windows, cancelling. Connections are
 * exchange_h2_conn.c's.
 */
#include "proxy/exchange_h2.h"

#include <stdlib.h>

#define WINDOW_MAX (1024 * 1024)
#define PIECES     16 /* slices handed on together */

static const struct exchange_codec h2_codec;

static struct h2_call *call_of(const struct exchange *e)
{
    return container_of(e, struct h2_call, e);
}

/* ---- life of a call ---- */

static void call_free(void *p)
{
    struct h2_call *x = p;
    h2_conn_unref(x->conn);
    backend_unref(&x->e.instance);
    free(x);
}

/* The stream is nobody's any more; what is open of it is reset. */
static void stream_leave(struct h2_call *x)
{
    struct h2_conn *c = x->conn;
    if (!x->id || c->state == H2_CONN_CLOSED)
        return;
    nghttp2_session_set_stream_user_data(c->session, x->id, NULL);
    if (!x->in_end || !x->out_end_sent)
        nghttp2_submit_rst_stream(c->session, NGHTTP2_FLAG_NONE, x->id, NGHTTP2_CANCEL);
    if (x->held)
        nghttp2_session_consume_connection(c->session, x->held);
    x->id = 0;
    h2_conn_want_send(c);
}

static void call_over(struct h2_call *x)
{
    struct h2_conn *c = x->conn;
    if (x->state == H2_CALL_OVER)
        return;
    x->state = H2_CALL_OVER;
    stream_leave(x);
    sliceq_fini(&x->in);
    sliceq_fini(&x->out);
    list_remove(&x->link);
    list_remove(&x->ready);
    list_remove(&x->waiting);
    c->n_calls--;
    c->since = loop_now_ms();
    backend_request_over(x->e.instance);
    if (c->state == H2_CONN_LEAVING && !c->n_calls)
        h2_conn_want_send(c);
    loop_free_later(x, call_free);
}

void h2_call_ready(struct h2_call *x)
{
    if (x->state != H2_CALL_OVER && !list_linked(&x->ready))
        list_append(&x->conn->ready, &x->ready);
}

/* It failed: the owner hears of it when it has what came before. */
void h2_call_fail(struct h2_call *x, const char *err, enum exchange_failure how)
{
    if (x->error || x->state == H2_CALL_OVER)
        return;
    x->error = err;
    x->how = how;
    h2_call_ready(x);
}

/* ---- delivery ---- */

static void tell_error(struct h2_call *x)
{
    const char *err = x->error;
    enum exchange_failure how = x->how;
    call_over(x);
    x->e.ops->on_error(&x->e, err, how);
}

/* What came of the body, and its end where that is all. False: nothing more can be told now. */
static bool tell_body(struct h2_call *x)
{
    struct slice v[PIECES];
    unsigned n = 0;
    size_t room = x->e.room ? x->e.room : SIZE_MAX;
    while (n < PIECES && x->in.bytes && room) {
        struct slice first = sliceq_first(&x->in);
        first.n = MIN(first.n, room);
        room -= first.n;
        v[n++] = slice_keep(first);
        x->taken += first.n;
        sliceq_consume(&x->in, first.n);
    }
    bool end = x->in_end && !x->in.bytes && !x->trailers.n;
    const struct exchange_ops *ops = x->e.ops;
    if (end) { /* given up first: the last callback may begin the next exchange */
        x->conn->served++;
        call_over(x);
    }
    ops->on_body(&x->e, v, n, end);
    for (unsigned i = 0; i < n; i++)
        slice_drop(&v[i]);
    return !end && x->state == H2_CALL_BODY;
}

void h2_call_deliver(struct h2_call *x)
{
    if (x->head_done && x->state == H2_CALL_HEAD) {
        x->state = H2_CALL_BODY;
        backend_served(x->e.instance);
        x->e.ops->on_head(&x->e, &x->head);
    }
    while (x->state == H2_CALL_BODY && x->in.bytes && !x->paused)
        if (!tell_body(x))
            return;
    if (x->state == H2_CALL_OVER || x->in.bytes)
        return;
    if (x->in_end && x->state == H2_CALL_BODY) {
        if (!x->trailers.n) {
            if (!x->paused)
                tell_body(x);
            return;
        }
        x->conn->served++;
        call_over(x);
        x->e.ops->on_end(&x->e, &x->trailers);
    } else if (x->error) {
        tell_error(x);
    }
}

/* ---- the codec ---- */

static nghttp2_nv nv_of(struct str name, struct str value)
{
    /* All of it lives as long as the exchange does; a stream that is given up is not looked at. */
    return (nghttp2_nv){.name = (uint8_t *)(uintptr_t)name.p,
                        .namelen = name.n,
                        .value = (uint8_t *)(uintptr_t)value.p,
                        .valuelen = value.n,
                        .flags = NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE};
}

static struct str path_text(struct arena *a, const struct exchange_request *r)
{
    if (!r->query.p)
        return r->path;
    size_t n = r->path.n + r->query.n + 1;
    struct out o = out_on(arena_alloc(a, n), n);
    out_str(&o, r->path);
    out_char(&o, '?');
    out_str(&o, r->query);
    return out_done(&o);
}

static const char *h2_write_head(struct exchange *e, const struct exchange_request *r)
{
    struct h2_call *x = call_of(e);
    nghttp2_nv *nv = arena_zarray(e->arena, nghttp2_nv, r->fields->n + 5u);
    nghttp2_data_provider from = {.read_callback = h2_conn_data_read};
    size_t n = 0;
    size_t bytes = r->path.n + r->query.n + r->authority.n + r->method.n;
    for (unsigned i = 0; i < r->fields->n; i++)
        bytes += r->fields->v[i].name.n + r->fields->v[i].value.n + 4;
    if (bytes > H2_CALL_HEAD_OUT_MAX)
        return exchange_err_head_too_large;
    nv[n++] = nv_of(STR(":method"), r->method);
    nv[n++] = nv_of(STR(":scheme"), r->scheme);
    if (r->authority.n)
        nv[n++] = nv_of(STR(":authority"), r->authority);
    nv[n++] = nv_of(STR(":path"), path_text(e->arena, r));
    for (unsigned i = 0; i < r->fields->n; i++)
        nv[n++] = nv_of(r->fields->v[i].name, r->fields->v[i].value);
    if (r->length && r->length != EXCHANGE_LENGTH_UNKNOWN) {
        struct out o = out_on(arena_alloc(e->arena, 20), 20);
        out_u64(&o, r->length);
        nv[n++] = nv_of(STR("content-length"), out_done(&o));
    }
    int32_t id = nghttp2_submit_request(x->conn->session, NULL, nv, n, r->length ? &from : NULL, x);
    ASSERT(id > 0); /* conn_has_room saw to it */
    x->id = id;
    h2_conn_want_send(x->conn);
    return NULL;
}

static void h2_resume(struct h2_call *x)
{
    if (!x->id)
        return;
    nghttp2_session_resume_data(x->conn->session, x->id);
    h2_conn_want_send(x->conn);
}

static void h2_write_body(struct exchange *e, struct slice data)
{
    struct h2_call *x = call_of(e);
    if (!x->id)
        return; /* its stream is closed; what follows from that is on its way to the owner */
    if (!x->out.bytes)
        x->last_out = loop_now_ms(); /* the wait for the backend begins now */
    if (data.n < H2_CALL_COPY)
        sliceq_copy(&x->out, data.p, data.n);
    else
        sliceq_push(&x->out, data);
    h2_resume(x);
}

static void h2_write_end(struct exchange *e, const struct fields *trailers)
{
    struct h2_call *x = call_of(e);
    x->out_end = true;
    x->out_trailers = trailers;
    h2_resume(x);
}

static size_t h2_queued(const struct exchange *e)
{
    return call_of(e)->out.bytes;
}

static void h2_want_sent(struct exchange *e)
{
    struct h2_call *x = call_of(e);
    if (!list_linked(&x->waiting))
        list_append(&x->conn->waiting, &x->waiting);
    h2_conn_want_send(x->conn);
}

static void on_resume(struct h2_call *x)
{
    struct h2_conn *c = x->conn;
    size_t gone = x->held - x->in.bytes;
    if (gone && x->id && c->state != H2_CONN_CLOSED) {
        x->held -= gone;
        /* A consumer that keeps up gets a larger window, as long as there is room for it. */
        if (!x->in.bytes && x->window < WINDOW_MAX && x->taken > x->window &&
            budget_spare(x->e.budget) >= x->window) {
            x->window *= 2;
            nghttp2_session_set_local_window_size(c->session, NGHTTP2_FLAG_NONE, x->id,
                                                  (int32_t)x->window);
        }
        nghttp2_session_consume(c->session, x->id, gone);
        h2_conn_want_send(c);
    }
    if (x->in.bytes || x->in_end || x->error)
        h2_call_ready(x);
}

static void h2_pause(struct exchange *e, bool on)
{
    struct h2_call *x = call_of(e);
    x->paused = on;
    if (on)
        return;
    x->listening_since = loop_now_ms();
    on_resume(x);
    if (list_linked(&x->ready))
        h2_conn_want_send(x->conn); /* not from inside of who resumed */
}

static bool h2_connecting(const struct exchange *e)
{
    return call_of(e)->conn->state == H2_CONN_CONNECTING;
}

static bool h2_unsent(const struct exchange *e)
{
    const struct h2_call *x = call_of(e);
    return !x->head_sent || !x->conn->opened;
}

static void h2_abort(struct exchange *e)
{
    call_over(call_of(e));
}

static const struct exchange_codec h2_codec = {
    .head = h2_write_head,
    .body = h2_write_body,
    .end = h2_write_end,
    .queued = h2_queued,
    .want_sent = h2_want_sent,
    .pause = h2_pause,
    .connecting = h2_connecting,
    .unsent = h2_unsent,
    .abort = h2_abort,
};

struct exchange *exchange_h2_start(const struct exchange_start *s)
{
    struct backend_instance *i = s->instance;
    struct h2_conn *c = h2_conn_get(i, s->tls, s->fresh);
    struct h2_call *x = calloc(1, sizeof(*x));
    ASSERT(x);
    x->e = (struct exchange){.codec = &h2_codec,
                             .ops = s->ops,
                             .owner = s->owner,
                             .instance = backend_ref(i),
                             .arena = s->arena,
                             .method = s->method,
                             .timeouts = s->timeouts,
                             .budget = s->budget,
                             .room = s->room};
    x->in.budget = x->out.budget = s->budget;
    x->conn = c;
    x->window = H2_CALL_WINDOW;
    x->since = x->listening_since = loop_now_ms();
    c->refs++;
    c->n_calls++;
    backend_request_begun(i);
    list_append(&c->calls, &x->link);
    return &x->e;
}
