/*
 * exchange_h2_conn.c - HTTP/2 towards a backend (RFC 9113), on nghttp2: the connections that all
 * requests of the worker share. Framing is nghttp2's; who gets which connection, what a frame means
 * for a call, timeouts and PING are ours.
 */
#include <stdlib.h>

#include "base/stats.h"
#include "proxy/exchange_h2.h"

#define KEEP_MS  60000 /* without a call; then the connection is given up */
#define CHECK_MS 1000
/*
 * A connection on which calls wait in silence for that long is asked whether it lives. More often
 * than each five minutes gRPC's own servers take it for abuse and send GOAWAY.
 */
#define PING_AFTER_MS (310 * 1000)
#define PING_WAIT_MS  20000
/* Wide enough never to be what stops: each stream's own window bounds what is held. */
#define WINDOW_CONNECTION (256 * 1024 * 1024)
#define QUEUE_HIGH        (64 * 1024) /* bytes for the socket above which no frames are made */
#define HEAD_MAX          (64 * 1024) /* of an answer, its interim ones included */
#define FIELDS_MAX        500

const char exchange_err_leaves[] = "the backend closes its connection";
const char exchange_err_refused[] = "the backend refused the stream";
static const char err_head[] = "the backend's head is too large";
static const char err_field[] = "a control byte in a field of the backend's";
const char exchange_err_ping[] = "the backend does not answer a PING";
static const char err_no_h2[] = "the backend does not speak HTTP/2 over TLS";
static const char err_no_stream[] = "no stream could be opened to the backend";
static const char err_sent_wrong[] = "the backend breaks the rules of HTTP/2";
const char exchange_err_reset[] = "the backend reset the stream";
const char exchange_err_cancelled[] = "the backend cancelled the stream";
const char exchange_err_calm[] = "the backend is over its limits";

static nghttp2_session_callbacks *callbacks;
static nghttp2_option *options;
static const struct io_ops conn_io;

static struct h2_conn *of(struct io *io)
{
    return container_of(io, struct h2_conn, io);
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
    backend_tls_unref(&c->tls);
    backend_unref(&c->instance);
    free(c);
}

void h2_conn_unref(struct h2_conn *c)
{
    if (--c->refs == 0)
        loop_free_later(c, conn_free);
}

static void conn_state_set(struct h2_conn *c, enum h2_conn_state to)
{
    ASSERT(c->state != H2_CONN_CLOSED);
    c->state = to;
    c->since = loop_now_ms();
    if (to >= H2_CONN_LEAVING)
        list_remove(&c->link);
}

static void conn_close(struct h2_conn *c)
{
    if (c->state == H2_CONN_CLOSED)
        return;
    conn_state_set(c, H2_CONN_CLOSED);
    io_close(&c->io);
    turn_task_cancel(&c->send);
    deadline_cancel(&c->deadline);
    stats_dec(backend_connections);
    h2_conn_unref(c);
}

static void conn_send(struct h2_conn *c);

static void on_send(struct turn_task *t)
{
    conn_send(container_of(t, struct h2_conn, send));
}

void h2_conn_want_send(struct h2_conn *c)
{
    loop_at_turn_end(&c->send, on_send);
}

static void conn_leave(struct h2_conn *c)
{
    if (c->state >= H2_CONN_LEAVING)
        return;
    conn_state_set(c, H2_CONN_LEAVING);
    h2_conn_want_send(c); /* which closes it when there is no call */
}

void exchange_h2_leave(struct backend_instance *i)
{
    LIST_EACH_SAFE (&i->shared, l)
        conn_leave(container_of(l, struct h2_conn, link));
}

static void deliver_all(struct h2_conn *c)
{
    while (!list_empty(&c->ready)) {
        struct h2_call *x = container_of(c->ready.next, struct h2_call, ready);
        list_remove(&x->ready);
        h2_call_deliver(x);
    }
}

/* ---- the connection's end ---- */

static void conn_fail(struct h2_conn *c, const char *err)
{
    if (c->state == H2_CONN_CLOSED)
        return;
    bool opened = c->opened;
    if (!opened)
        backend_connect_failed(c->instance);
    if (!opened || (!c->served && !list_empty(&c->calls)))
        backend_failed(c->instance, err);
    c->refs++;
    conn_close(c);
    LIST_EACH (&c->calls, l) {
        struct h2_call *x = container_of(l, struct h2_call, link);
        bool silent = !x->head_done && !x->head_bytes;
        x->id = 0;
        h2_call_fail(x, err, opened && silent && c->served ? EXCHANGE_STALE : EXCHANGE_BROKEN);
        h2_call_ready(x);
    }
    deliver_all(c);
    h2_conn_unref(c);
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
        h2_call_fail(x, err_head, EXCHANGE_BROKEN);
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    if (!http_value_clean(v)) {
        h2_call_fail(x, err_field, EXCHANGE_BROKEN);
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
    h2_call_ready(x);
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
        h2_call_ready(x);
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
        h2_conn_want_send(c);
        return 0;
    }
    x->held += n;
    if (x->paused && n < H2_CALL_COPY)
        sliceq_copy(&x->in, data, n);
    else
        sliceq_push(&x->in, (struct slice){c->reading, data, n});
    h2_call_ready(x);
    return 0;
}

static const char *reset_text(uint32_t code, enum exchange_failure *how)
{
    *how = EXCHANGE_BROKEN;
    switch (code) {
    case NGHTTP2_REFUSED_STREAM:
        *how = EXCHANGE_UNPROCESSED;
        return exchange_err_refused;
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
    h2_call_fail(x, err, how);
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
        h2_call_fail(x, exchange_err_leaves, EXCHANGE_UNPROCESSED);
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

ssize_t h2_conn_data_read(nghttp2_session *session, int32_t id, uint8_t *buf, size_t length,
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
    if (c->state != H2_CONN_OPEN && c->state != H2_CONN_LEAVING)
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
    while (c->state != H2_CONN_CLOSED && io_queued(&c->io) < QUEUE_HIGH) {
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
    if (c->state == H2_CONN_LEAVING && !c->n_calls)
        conn_close(c);
    else if (c->state != H2_CONN_CLOSED && !nghttp2_session_want_read(c->session) &&
             !nghttp2_session_want_write(c->session))
        conn_fail(c, err_sent_wrong);
    else if (c->state != H2_CONN_CLOSED && nghttp2_session_want_write(c->session) &&
             io_queued(&c->io))
        io_want_drain(&c->io);
    h2_conn_unref(c);
}

/* ---- what the socket says ---- */

static void on_open(struct io *io)
{
    struct h2_conn *c = of(io);
    if (backend_met_itself(c->instance, io->fd)) {
        conn_fail(c, err_refused);
        return;
    }
    if (io->ssl && !backend_tls_chose_h2(io->ssl)) {
        conn_fail(c, err_no_h2);
        return;
    }
    c->opened = true;
    if (c->state == H2_CONN_CONNECTING)
        conn_state_set(c, H2_CONN_OPEN);
    h2_conn_want_send(c);
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
    h2_conn_want_send(c);
    h2_conn_unref(c);
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
    if (io->ssl && !c->opened) {
        err = backend_tls_error(io->ssl, err);
        backend_tls_peer_forget(&c->instance->tls);
    } else if (c->opened)
        io_read_rest(io); /* what it said before it broke off: a GOAWAY, the end of an answer */
    conn_fail(c, err);
}

static const struct io_ops conn_io = {on_open, on_read, on_eof, on_drain, on_error};

/* ---- time ---- */

/* Why the call's time is up, or NULL. */
static const char *call_late(const struct h2_call *x)
{
    const struct exchange_timeouts *t = &x->e.timeouts;
    if (x->conn->state == H2_CONN_CONNECTING)
        return loop_time_left(x->since, t->connect_ms) ? NULL : exchange_err_connect_timeout;
    if (x->out.bytes)
        return loop_time_left(MAX(x->since, x->last_out), t->gap_ms) ? NULL
                                                                     : exchange_err_gap_timeout;
    if (x->state == H2_CALL_HEAD)
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
            h2_call_fail(x, why, EXCHANGE_BROKEN);
    }
    deliver_all(c);
}

static void on_deadline(struct deadline *d)
{
    struct h2_conn *c = container_of(d, struct h2_conn, deadline);
    uint64_t now = loop_now_ms();
    c->refs++;
    calls_check(c);
    if (c->n_calls && c->state >= H2_CONN_OPEN && !c->ping_at &&
        MAX(c->io.last_in, c->io.last_out) + PING_AFTER_MS < now) {
        c->ping_at = now;
        nghttp2_submit_ping(c->session, NGHTTP2_FLAG_NONE, NULL);
        h2_conn_want_send(c);
    } else if (c->ping_at && c->ping_at + PING_WAIT_MS < now) {
        conn_fail(c, exchange_err_ping);
    } else if (!c->n_calls && c->since + KEEP_MS < now) {
        conn_leave(c);
    }
    if (c->state != H2_CONN_CLOSED)
        deadline_set(d, CHECK_MS, on_deadline);
    h2_conn_unref(c);
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
    nghttp2_option_set_max_send_header_block_length(options, 2 * H2_CALL_HEAD_OUT_MAX);
}

static struct h2_conn *conn_new(struct backend_instance *i, struct backend_tls *tls)
{
    static const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, H2_CALL_WINDOW},
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
    backend_connect_begun(i);
    stats_inc(backend_connections);
    io_connect(&c->io, (const struct sockaddr *)&i->addr, i->addr_len, &conn_io);
    if (tls) {
        c->tls = backend_tls_ref(tls);
        io_start_tls(&c->io, backend_tls_client(&i->tls, backend_host(i), true));
    }
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

struct h2_conn *h2_conn_get(struct backend_instance *i, struct backend_tls *tls, bool fresh)
{
    backend_use_tls(i, tls); /* those under other settings leave: they are not found any more */
    struct h2_conn *c = fresh ? NULL : conn_find(i);
    return c ? c : conn_new(i, tls);
}
