/*
 * exchange_h2.c - HTTP/2 towards a backend (RFC 9113), on nghttp2: connections that all requests of
 * the worker share, and the exchanges on their streams. Framing is nghttp2's; who gets which
 * connection, windows, timeouts and what a failure means are ours.
 *
 * Nothing is told to an exchange's owner from inside nghttp2: what came is kept with the call and
 * delivered when the bytes of a wake-up are worked through.
 */
#include "proxy/exchange.h"

#include <nghttp2/nghttp2.h>
#include <stdlib.h>

#include "base/stats.h"

#define KEEP_MS  60000 /* without a call; then the connection is given up */
#define CHECK_MS 1000
/*
 * A connection on which calls wait in silence for that long is asked whether it lives. More often
 * than each five minutes gRPC's own servers take it for abuse and send GOAWAY.
 */
#define PING_AFTER_MS (310 * 1000)
#define PING_WAIT_MS  20000
/* A stream's window at first, and how far it grows while its consumer keeps up. */
#define WINDOW_STREAM     (64 * 1024)
#define WINDOW_STREAM_MAX (1024 * 1024)
/* Wide enough never to be what stops: each stream's own window bounds what is held. */
#define WINDOW_CONNECTION (256 * 1024 * 1024)
#define BODIES_CEILING    (64u << 20)  /* of body memory in the process: above it no window grows */
#define QUEUE_HIGH        (64 * 1024)  /* bytes for the socket above which no frames are made */
#define HEAD_MAX          (64 * 1024)  /* of an answer, its interim ones included */
#define HEAD_OUT_MAX      (128 * 1024) /* of a request: what clients may send and what we add */
#define FIELDS_MAX        500
#define SLICE_KEEP        4096 /* smaller pieces that have to wait are copied, not to hold their slabs */
#define PIECES            16 /* slices handed on together */

static const char err_leaves[] = "the backend closes its connection";
static const char err_refused_stream[] = "the backend refused the stream";
static const char err_head[] = "the backend's head is too large";
static const char err_field[] = "a control byte in a field of the backend's";
static const char err_ping[] = "the backend does not answer a PING";
static const char err_no_stream[] = "no stream could be opened to the backend";
static const char err_sent_wrong[] = "the backend breaks the rules of HTTP/2";
const char exchange_err_reset[] = "the backend reset the stream";
const char exchange_err_cancelled[] = "the backend cancelled the stream";
const char exchange_err_calm[] = "the backend is over its limits";

enum conn_state {
    CONN_CONNECTING,
    CONN_OPEN,
    CONN_LEAVING, /* calls end in order, none begins */
    CONN_CLOSED
};

struct h2_conn {
    struct list link; /* of the instance's, while calls may begin on it */
    struct io io;
    unsigned refs; /* its own one until it is closed, and one of each call */
    enum conn_state state;
    struct backend_instance *instance; /* counted */
    nghttp2_session *session;
    struct list calls;
    unsigned n_calls;
    uint64_t served;     /* calls that ended in order */
    struct list ready;   /* calls with something to deliver */
    struct list waiting; /* … that are told when their queue is out */
    struct slab *reading;
    struct turn_task send;
    struct deadline deadline;
    uint64_t since;   /* ms: state was entered, or the last call ended */
    uint64_t ping_at; /* ms: a PING is out; 0: none */
};

enum call_state {
    CALL_HEAD, /* the answer's head is awaited */
    CALL_BODY,
    CALL_OVER
};

struct h2_call {
    struct exchange e;
    struct list link, ready, waiting;
    struct h2_conn *conn; /* counted */
    int32_t id;           /* 0: no stream yet, or not any more */
    enum call_state state;

    /* the request */
    bool head_sent;
    struct sliceq out;
    bool out_end;      /* nothing comes behind `out` */
    bool out_end_sent; /* END_STREAM is out */
    const struct fields *out_trailers;

    /* the answer: as it came, not as it was told */
    struct exchange_head head;
    size_t head_bytes;
    unsigned n_fields;
    bool head_done;
    struct fields trailers;
    struct sliceq in;
    bool in_end;
    bool paused;
    size_t held; /* bytes that the backend has no window for yet, `in` among them */
    size_t window;
    uint64_t taken; /* bytes handed on */
    const char *error;
    enum exchange_failure how;

    uint64_t since, listening_since, last_in, last_out; /* ms */
};

static nghttp2_session_callbacks *callbacks;
static nghttp2_option *options;
static const struct io_ops conn_io;
static const struct exchange_codec h2_codec;

static struct h2_conn *of(struct io *io)
{
    return container_of(io, struct h2_conn, io);
}

static struct h2_call *call_of(const struct exchange *e)
{
    return container_of(e, struct h2_call, e);
}

static struct h2_call *stream_call(nghttp2_session *session, int32_t id)
{
    return nghttp2_session_get_stream_user_data(session, id);
}

/* ---- life of a connection ---- */

static void conn_free(void *p)
{
    struct h2_conn *c = p;
    turn_task_cancel(&c->send);
    nghttp2_session_del(c->session);
    backend_unref(&c->instance);
    free(c);
}

static void conn_unref(struct h2_conn *c)
{
    if (--c->refs == 0)
        loop_free_later(c, conn_free);
}

static void conn_state_set(struct h2_conn *c, enum conn_state to)
{
    ASSERT(c->state != CONN_CLOSED);
    c->state = to;
    c->since = loop_now_ms();
    if (to >= CONN_LEAVING)
        list_remove(&c->link);
}

static void conn_close(struct h2_conn *c)
{
    if (c->state == CONN_CLOSED)
        return;
    conn_state_set(c, CONN_CLOSED);
    io_close(&c->io);
    turn_task_cancel(&c->send);
    deadline_cancel(&c->deadline);
    stats_dec(backend_connections);
    conn_unref(c);
}

static void conn_send(struct h2_conn *c);

static void on_send(struct turn_task *t)
{
    conn_send(container_of(t, struct h2_conn, send));
}

static void conn_want_send(struct h2_conn *c)
{
    if (c->state != CONN_CLOSED)
        loop_at_turn_end(&c->send, on_send);
}

static void conn_leave(struct h2_conn *c)
{
    if (c->state >= CONN_LEAVING)
        return;
    conn_state_set(c, CONN_LEAVING);
    conn_want_send(c); /* which closes it when there is no call */
}

void exchange_h2_leave(struct backend_instance *i)
{
    LIST_EACH_SAFE (&i->shared, l)
        conn_leave(container_of(l, struct h2_conn, link));
}

/* ---- life of a call ---- */

static void call_free(void *p)
{
    struct h2_call *x = p;
    conn_unref(x->conn);
    backend_unref(&x->e.instance);
    free(x);
}

/* The stream is nobody's any more; what is open of it is reset. */
static void stream_leave(struct h2_call *x)
{
    struct h2_conn *c = x->conn;
    if (!x->id || c->state == CONN_CLOSED)
        return;
    nghttp2_session_set_stream_user_data(c->session, x->id, NULL);
    if (!x->in_end || !x->out_end_sent)
        nghttp2_submit_rst_stream(c->session, NGHTTP2_FLAG_NONE, x->id, NGHTTP2_CANCEL);
    if (x->held)
        nghttp2_session_consume_connection(c->session, x->held);
    x->id = 0;
    conn_want_send(c);
}

static void call_over(struct h2_call *x)
{
    struct h2_conn *c = x->conn;
    if (x->state == CALL_OVER)
        return;
    x->state = CALL_OVER;
    stream_leave(x);
    sliceq_fini(&x->in);
    sliceq_fini(&x->out);
    list_remove(&x->link);
    list_remove(&x->ready);
    list_remove(&x->waiting);
    c->n_calls--;
    c->since = loop_now_ms();
    backend_request_over(x->e.instance);
    if (c->state == CONN_LEAVING && !c->n_calls)
        conn_want_send(c);
    loop_free_later(x, call_free);
}

static void call_ready(struct h2_call *x)
{
    if (x->state != CALL_OVER && !list_linked(&x->ready))
        list_append(&x->conn->ready, &x->ready);
}

/* It failed: the owner hears of it when it has what came before. */
static void call_fail(struct h2_call *x, const char *err, enum exchange_failure how)
{
    if (x->error || x->state == CALL_OVER)
        return;
    x->error = err;
    x->how = how;
    call_ready(x);
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
    while (n < PIECES && x->in.bytes) {
        struct slice first = sliceq_first(&x->in);
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
    return !end && x->state == CALL_BODY;
}

static void call_deliver(struct h2_call *x)
{
    if (x->head_done && x->state == CALL_HEAD) {
        x->state = CALL_BODY;
        x->e.ops->on_head(&x->e, &x->head);
    }
    while (x->state == CALL_BODY && x->in.bytes && !x->paused)
        if (!tell_body(x))
            return;
    if (x->state == CALL_OVER || x->in.bytes)
        return;
    if (x->in_end && x->state == CALL_BODY) {
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

static void deliver_all(struct h2_conn *c)
{
    while (!list_empty(&c->ready)) {
        struct h2_call *x = container_of(c->ready.next, struct h2_call, ready);
        list_remove(&x->ready);
        call_deliver(x);
    }
}

/* ---- the connection's end ---- */

static void conn_fail(struct h2_conn *c, const char *err)
{
    if (c->state == CONN_CLOSED)
        return;
    bool opened = c->state != CONN_CONNECTING;
    if (!opened)
        stats_inc(backend_connect_failures);
    c->refs++;
    conn_close(c);
    LIST_EACH (&c->calls, l) {
        struct h2_call *x = container_of(l, struct h2_call, link);
        bool silent = !x->head_done && !x->head_bytes;
        x->id = 0;
        call_fail(x, err, opened && silent && c->served ? EXCHANGE_STALE : EXCHANGE_BROKEN);
        call_ready(x);
    }
    deliver_all(c);
    conn_unref(c);
}

/* ---- what the backend sends ---- */

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_n, const uint8_t *value, size_t value_n, uint8_t flags, void *user)
{
    struct h2_call *x = stream_call(session, frame->hd.stream_id);
    struct str n = {(const char *)name, name_n}, v = {(const char *)value, value_n};
    (void)flags, (void)user;
    if (!x || x->error)
        return 0;
    x->head_bytes += name_n + value_n + 32; /* as RFC 9113 6.5.2 counts */
    if (x->head_bytes > HEAD_MAX || ++x->n_fields > FIELDS_MAX) {
        call_fail(x, err_head, EXCHANGE_BROKEN);
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    if (!http_value_clean(v)) {
        call_fail(x, err_field, EXCHANGE_BROKEN);
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    if (str_eq(n, STR(":status"))) { /* nghttp2 has seen to it that it is three digits */
        uint64_t status = 0;
        if (!str_u64(v, &status))
            status = 502;
        x->head.status = (unsigned)status;
        return 0;
    }
    struct field f = {.token = (uint16_t)field_token_of(n), .name = n, .value = v};
    if (x->head_done && http_trailer_forbidden(&f))
        return 0;
    struct fields *to = x->head_done ? &x->trailers : &x->head.fields;
    fields_add(x->e.arena, to, arena_str(x->e.arena, n), arena_str(x->e.arena, v));
    struct field *added = &to->v[to->n - 1];
    added->token = f.token;
    if (f.token == FIELD_content_length)
        added->flags |= FIELD_HOP;
    return 0;
}

/* 1xx: 100 was answered by us already, others carry nothing that we pass on. */
static void head_complete(struct h2_call *x, bool end)
{
    struct exchange_head *h = &x->head;
    if (h->status < 200) {
        h->fields.n = 0;
        return;
    }
    const struct field *length = fields_get(&h->fields, FIELD_content_length);
    if (!length || x->e.method == METHOD_HEAD || !str_u64(length->value, &h->length))
        h->length = EXCHANGE_LENGTH_UNKNOWN;
    if (end && x->e.method != METHOD_HEAD)
        h->length = 0;
    h->no_body = end;
    x->head_done = true;
    x->in_end = end;
    call_ready(x);
}

/* At a time, as the backend says; until it does, what it said before, or nghttp2's guess. */
static uint32_t streams_allowed(const struct h2_conn *c)
{
    return nghttp2_session_get_remote_settings(c->session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
}

static int on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct h2_conn *c = user;
    struct h2_call *x = frame->hd.stream_id ? stream_call(session, frame->hd.stream_id) : NULL;
    bool end = frame->hd.flags & NGHTTP2_FLAG_END_STREAM;
    if (frame->hd.type == NGHTTP2_GOAWAY)
        conn_leave(c); /* streams that it did not take are closed by nghttp2 */
    if (frame->hd.type == NGHTTP2_SETTINGS)
        c->instance->streams = streams_allowed(c);
    if (!x || (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA))
        return 0;
    x->last_in = loop_now_ms();
    if (frame->hd.type == NGHTTP2_HEADERS && !x->head_done) {
        head_complete(x, end);
    } else if (end) {
        x->in_end = true;
        call_ready(x);
    }
    return 0;
}

static int on_data_chunk(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data,
                         size_t n, void *user)
{
    struct h2_conn *c = user;
    struct h2_call *x = stream_call(session, id);
    (void)flags;
    if (!x) { /* a call that was given up */
        nghttp2_session_consume(session, id, n);
        conn_want_send(c);
        return 0;
    }
    x->held += n;
    if (x->paused && n < SLICE_KEEP)
        sliceq_copy(&x->in, data, n);
    else
        sliceq_push(&x->in, (struct slice){c->reading, data, n});
    call_ready(x);
    return 0;
}

static const char *reset_text(uint32_t code, enum exchange_failure *how)
{
    *how = EXCHANGE_BROKEN;
    switch (code) {
    case NGHTTP2_REFUSED_STREAM:
        *how = EXCHANGE_UNPROCESSED;
        return err_refused_stream;
    case NGHTTP2_CANCEL:
        return exchange_err_cancelled;
    case NGHTTP2_ENHANCE_YOUR_CALM:
        return exchange_err_calm;
    default:
        return exchange_err_reset;
    }
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t code, void *user)
{
    struct h2_call *x = stream_call(session, id);
    (void)user;
    if (!x)
        return 0;
    nghttp2_session_set_stream_user_data(session, id, NULL);
    if (x->held)
        nghttp2_session_consume_connection(session, x->held);
    x->held = 0;
    x->id = 0;
    sliceq_fini(&x->out);
    if (x->in_end) /* a reset behind a whole answer: the rest of the request is not wanted */
        return 0;
    enum exchange_failure how;
    const char *err = reset_text(code, &how);
    call_fail(x, err, how);
    return 0;
}

/* A request whose HEADERS could not go out: GOAWAY came in between, or the numbers are used up. */
static int on_frame_not_send(nghttp2_session *session, const nghttp2_frame *frame, int code,
                             void *user)
{
    struct h2_conn *c = user;
    (void)session, (void)code;
    if (frame->hd.type != NGHTTP2_HEADERS)
        return 0;
    LIST_EACH (&c->calls, l) {
        struct h2_call *x = container_of(l, struct h2_call, link);
        if (x->id != frame->hd.stream_id || x->head_sent)
            continue;
        x->id = 0;
        call_fail(x, err_leaves, EXCHANGE_UNPROCESSED);
        break;
    }
    return 0;
}

/* ---- what goes out ---- */

static int on_frame_send(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct h2_call *x = frame->hd.stream_id ? stream_call(session, frame->hd.stream_id) : NULL;
    (void)user;
    if (!x || (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA))
        return 0;
    x->head_sent = true;
    x->last_out = loop_now_ms();
    x->out_end_sent |= (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    return 0;
}

static void submit_trailers(struct h2_call *x)
{
    const struct fields *t = x->out_trailers;
    nghttp2_nv *nv = arena_zarray(x->e.arena, nghttp2_nv, t->n);
    size_t n = 0;
    for (unsigned i = 0; i < t->n; i++)
        if (!(t->v[i].flags & FIELD_HOP))
            nv[n++] = (nghttp2_nv){.name = (uint8_t *)(uintptr_t)t->v[i].name.p,
                                   .namelen = t->v[i].name.n,
                                   .value = (uint8_t *)(uintptr_t)t->v[i].value.p,
                                   .valuelen = t->v[i].value.n};
    nghttp2_submit_trailer(x->conn->session, x->id, nv, n);
}

static ssize_t on_data_read(nghttp2_session *session, int32_t id, uint8_t *buf, size_t length,
                            uint32_t *flags, nghttp2_data_source *source, void *user)
{
    struct h2_call *x = stream_call(session, id);
    (void)buf, (void)source, (void)user;
    if (!x)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    if (!x->out.bytes && !x->out_end)
        return NGHTTP2_ERR_DEFERRED;
    size_t n = MIN(length, x->out.bytes);
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (n == x->out.bytes && x->out_end) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        if (x->out_trailers && x->out_trailers->n) {
            *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
            submit_trailers(x);
        }
    }
    return (ssize_t)n;
}

static int on_data_send(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *head,
                        size_t length, nghttp2_data_source *source, void *user)
{
    struct h2_conn *c = user;
    struct h2_call *x = stream_call(session, frame->hd.stream_id);
    (void)source;
    if (!x)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    io_write(&c->io, head, 9);
    while (length) {
        struct slice piece = sliceq_first(&x->out);
        piece.n = MIN(piece.n, length);
        io_write_slice(&c->io, piece);
        sliceq_consume(&x->out, piece.n);
        length -= piece.n;
    }
    return 0;
}

/* Those whose queue is out may go on. */
static void tell_sent(struct h2_conn *c)
{
    struct list now;
    if (c->state != CONN_OPEN && c->state != CONN_LEAVING)
        return;
    list_init(&now);
    LIST_EACH_SAFE (&c->waiting, l) {
        if (container_of(l, struct h2_call, waiting)->out.bytes)
            continue;
        list_remove(l);
        list_append(&now, l);
    }
    while (!list_empty(&now)) {
        struct h2_call *x = container_of(now.next, struct h2_call, waiting);
        list_remove(&x->waiting);
        x->e.ops->on_sent(&x->e);
    }
}

static void conn_send(struct h2_conn *c)
{
    c->refs++; /* callbacks may close it */
    while (c->state != CONN_CLOSED && io_queued(&c->io) < QUEUE_HIGH) {
        const uint8_t *p;
        ssize_t n = nghttp2_session_mem_send(c->session, &p);
        if (n < 0)
            conn_fail(c, err_no_stream);
        if (n <= 0)
            break;
        io_write(&c->io, p, (size_t)n);
    }
    deliver_all(c);
    tell_sent(c);
    if (c->state == CONN_LEAVING && !c->n_calls)
        conn_close(c);
    else if (c->state != CONN_CLOSED && !nghttp2_session_want_read(c->session) &&
             !nghttp2_session_want_write(c->session))
        conn_fail(c, err_sent_wrong);
    else if (c->state != CONN_CLOSED && nghttp2_session_want_write(c->session) && io_queued(&c->io))
        io_want_drain(&c->io);
    conn_unref(c);
}

/* ---- what the socket says ---- */

static void on_open(struct io *io)
{
    struct h2_conn *c = of(io);
    if (backend_met_itself(c->instance, io->fd)) {
        conn_fail(c, err_refused);
        return;
    }
    if (c->state == CONN_CONNECTING)
        conn_state_set(c, CONN_OPEN);
    conn_want_send(c);
}

static void on_read(struct io *io, struct slice data)
{
    struct h2_conn *c = of(io);
    c->refs++;
    c->ping_at = 0;
    c->reading = data.slab;
    ssize_t n = nghttp2_session_mem_recv(c->session, data.p, data.n);
    c->reading = NULL;
    deliver_all(c);
    if (n < 0)
        conn_fail(c, err_sent_wrong);
    conn_want_send(c);
    conn_unref(c);
}

static void on_eof(struct io *io)
{
    conn_fail(of(io), err_eof);
}

static void on_drain(struct io *io)
{
    conn_send(of(io));
}

static void on_error(struct io *io, const char *err)
{
    struct h2_conn *c = of(io);
    if (c->state == CONN_OPEN || c->state == CONN_LEAVING)
        io_read_rest(io); /* what it said before it broke off: a GOAWAY, the end of an answer */
    conn_fail(c, err);
}

static const struct io_ops conn_io = {on_open, on_read, on_eof, on_drain, on_error};

/* ---- time ---- */

/* Why the call's time is up, or NULL. */
static const char *call_late(const struct h2_call *x)
{
    const struct exchange_timeouts *t = &x->e.timeouts;
    if (x->conn->state == CONN_CONNECTING)
        return loop_time_left(x->since, t->connect_ms) ? NULL : exchange_err_connect_timeout;
    if (x->out.bytes)
        return loop_time_left(MAX(x->since, x->last_out), t->gap_ms) ? NULL
                                                                     : exchange_err_gap_timeout;
    if (x->state == CALL_HEAD)
        return !x->out_end_sent || loop_time_left(MAX(x->since, x->last_out), t->response_ms)
                   ? NULL
                   : exchange_err_response_timeout;
    /* Silence counts only while we listen. */
    return x->paused || loop_time_left(MAX(x->listening_since, x->last_in), t->gap_ms)
               ? NULL
               : exchange_err_gap_timeout;
}

static void calls_check(struct h2_conn *c)
{
    LIST_EACH_SAFE (&c->calls, l) {
        struct h2_call *x = container_of(l, struct h2_call, link);
        const char *why = call_late(x);
        if (why)
            call_fail(x, why, EXCHANGE_BROKEN);
    }
    deliver_all(c);
}

static void on_deadline(struct deadline *d)
{
    struct h2_conn *c = container_of(d, struct h2_conn, deadline);
    uint64_t now = loop_now_ms();
    c->refs++;
    calls_check(c);
    if (c->n_calls && c->state >= CONN_OPEN && !c->ping_at &&
        MAX(c->io.last_in, c->io.last_out) + PING_AFTER_MS < now) {
        c->ping_at = now;
        nghttp2_submit_ping(c->session, NGHTTP2_FLAG_NONE, NULL);
        conn_want_send(c);
    } else if (c->ping_at && c->ping_at + PING_WAIT_MS < now) {
        conn_fail(c, err_ping);
    } else if (!c->n_calls && c->since + KEEP_MS < now) {
        conn_leave(c);
    }
    if (c->state != CONN_CLOSED)
        deadline_set(d, CHECK_MS, on_deadline);
    conn_unref(c);
}

/* ---- starting ---- */

static void setup(void)
{
    if (callbacks)
        return;
    ASSERT(nghttp2_session_callbacks_new(&callbacks) == 0 && nghttp2_option_new(&options) == 0);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame_recv);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data_chunk);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_send);
    nghttp2_session_callbacks_set_on_frame_not_send_callback(callbacks, on_frame_not_send);
    nghttp2_session_callbacks_set_send_data_callback(callbacks, on_data_send);
    nghttp2_option_set_no_auto_window_update(options, 1);
    nghttp2_option_set_max_outbound_ack(options, 100);
    nghttp2_option_set_max_send_header_block_length(options, 2 * HEAD_OUT_MAX);
}

static struct h2_conn *conn_new(struct backend_instance *i)
{
    static const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, WINDOW_STREAM},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, HEAD_MAX},
    };
    struct h2_conn *c = calloc(1, sizeof(*c));
    ASSERT(c);
    setup();
    c->refs = 1;
    c->instance = backend_ref(i);
    c->since = loop_now_ms();
    list_init(&c->calls);
    list_init(&c->ready);
    list_init(&c->waiting);
    ASSERT(nghttp2_session_client_new2(&c->session, callbacks, c, options) == 0);
    nghttp2_submit_settings(c->session, NGHTTP2_FLAG_NONE, settings, ARRAY_LEN(settings));
    nghttp2_session_set_local_window_size(c->session, NGHTTP2_FLAG_NONE, 0, WINDOW_CONNECTION);
    list_append(&i->shared, &c->link);
    stats_inc(backend_connects);
    stats_inc(backend_connections);
    io_connect(&c->io, (const struct sockaddr *)&i->addr, i->addr_len, &conn_io);
    deadline_set(&c->deadline, CHECK_MS, on_deadline);
    return c;
}

/* Room for one more stream: what the backend allows at a time, and numbers for them. */
static bool conn_has_room(const struct h2_conn *c)
{
    uint32_t known = c->instance->streams;
    return c->n_calls < (known ? MIN(known, streams_allowed(c)) : streams_allowed(c)) &&
           nghttp2_session_get_next_stream_id(c->session) < (1u << 30);
}

static struct h2_conn *conn_find(struct backend_instance *i)
{
    LIST_EACH (&i->shared, l) {
        struct h2_conn *c = container_of(l, struct h2_conn, link);
        if (conn_has_room(c))
            return c;
    }
    return NULL;
}

struct exchange *exchange_h2_start(const struct exchange_start *s)
{
    struct backend_instance *i = s->instance;
    struct h2_conn *c = s->fresh ? NULL : conn_find(i);
    struct h2_call *x = calloc(1, sizeof(*x));
    ASSERT(x);
    if (!c)
        c = conn_new(i);
    x->e = (struct exchange){.codec = &h2_codec,
                             .ops = s->ops,
                             .owner = s->owner,
                             .instance = backend_ref(i),
                             .arena = s->arena,
                             .method = s->method,
                             .timeouts = s->timeouts};
    x->conn = c;
    x->window = WINDOW_STREAM;
    x->since = x->listening_since = loop_now_ms();
    c->refs++;
    c->n_calls++;
    i->busy++;
    list_append(&c->calls, &x->link);
    return &x->e;
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
    nghttp2_data_provider from = {.read_callback = on_data_read};
    size_t n = 0;
    size_t bytes = r->path.n + r->query.n + r->authority.n + r->method.n;
    for (unsigned i = 0; i < r->fields->n; i++)
        bytes += r->fields->v[i].name.n + r->fields->v[i].value.n + 4;
    if (bytes > HEAD_OUT_MAX)
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
    conn_want_send(x->conn);
    return NULL;
}

static void h2_resume(struct h2_call *x)
{
    if (!x->id)
        return;
    nghttp2_session_resume_data(x->conn->session, x->id);
    conn_want_send(x->conn);
}

static void h2_write_body(struct exchange *e, struct slice data)
{
    struct h2_call *x = call_of(e);
    if (!x->id)
        return; /* its stream is closed; what follows from that is on its way to the owner */
    if (!x->out.bytes)
        x->last_out = loop_now_ms(); /* the wait for the backend begins now */
    if (data.n < SLICE_KEEP)
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
    conn_want_send(x->conn);
}

static void on_resume(struct h2_call *x)
{
    struct h2_conn *c = x->conn;
    size_t gone = x->held - x->in.bytes;
    if (gone && x->id && c->state != CONN_CLOSED) {
        x->held -= gone;
        /* A consumer that keeps up gets a larger window, as long as there is room for it. */
        if (!x->in.bytes && x->window < WINDOW_STREAM_MAX && x->taken > x->window &&
            slab_total() < BODIES_CEILING) {
            x->window *= 2;
            nghttp2_session_set_local_window_size(c->session, NGHTTP2_FLAG_NONE, x->id,
                                                  (int32_t)x->window);
        }
        nghttp2_session_consume(c->session, x->id, gone);
        conn_want_send(c);
    }
    if (x->in.bytes || x->in_end || x->error)
        call_ready(x);
}

static void h2_pause(struct exchange *e, bool on)
{
    struct h2_call *x = call_of(e);
    x->paused = on;
    if (on)
        return;
    x->listening_since = loop_now_ms();
    on_resume(x);
    if (!list_linked(&x->ready))
        return;
    /* Not from inside of who resumed. A closed connection has no turn of its own any more. */
    loop_at_turn_end(&x->conn->send, on_send);
}

static bool h2_connecting(const struct exchange *e)
{
    return call_of(e)->conn->state == CONN_CONNECTING;
}

static bool h2_unsent(const struct exchange *e)
{
    const struct h2_call *x = call_of(e);
    return !x->head_sent || !x->conn->io.bytes_out;
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
