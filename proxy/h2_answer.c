/*
 * h2_answer.c - the sending half of the HTTP/2 codec: answers become frames when there is room for
 * them, at the end of a turn, so that all streams share records and writes. One send of a handler
 * is kept a stream, never more.
 */
#include "proxy/h2.h"

/* Clients may give window for each 2 KiB that they take, also when the stream is over at our side.
 */
#define WINDOWS_A_FRAME 8
#define QUEUE_HIGH      (64 * 1024) /* bytes for the socket above which no more frames are made */
/* Bytes in all streams' sends above which no handler goes on: the client's reading makes room. */
#define OUT_HIGH (64 * 1024)
/* Handlers whose bytes come later share this; each may bring at least so much, or where memory is
 * short so little. */
#define OUT_SHARED (128 * 1024)
#define OUT_LEAST  (4 * 1024)
#define OUT_SCANT  1024

static void h2_send(struct h2 *h)
{
    struct client *c = h->client;
    if (c->state != CLIENT_OPEN || h->state == H2_OVER)
        return;
    if (h->owed)
        h2_return_window(h);
    while (io_queued(&c->io) < QUEUE_HIGH) {
        const uint8_t *p;
        ssize_t n = nghttp2_session_mem_send(h->session, &p);
        if (n <= 0)
            break;
        io_write(&c->io, p, (size_t)n);
    }
    h2_turn_connection(h);
    h2_account(h);
    if (h->broken ||
        (!nghttp2_session_want_read(h->session) && !nghttp2_session_want_write(h->session))) {
        if (h->broken)
            h2_protocol.gone(c, h->broken);
        client_linger(c);
        return;
    }
    bool go_on = !list_empty(&h->proceed) && h->out_bytes < OUT_HIGH;
    if (nghttp2_session_want_write(h->session) || go_on)
        io_want_drain(&c->io);
}

static void on_send(struct turn_task *t)
{
    h2_send(container_of(t, struct h2, send));
}

void h2_want_send(struct h2 *h)
{
    if (h->state != H2_OVER)
        loop_at_turn_end(&h->send, on_send);
}

static unsigned most_urgent(const struct h2 *h)
{
    unsigned least = UINT32_MAX;
    LIST_EACH (&h->proceed, l)
        least = MIN(least, container_of(l, struct h2_stream, proceed)->urgency);
    return least;
}

/*
 * The queue is out: handlers go on, then their frames are made. Only the most urgent of those that
 * could go on do (RFC 9218 10): the others' turn comes when those wait for something else.
 */
void h2_drained(struct client *c)
{
    struct h2 *h = c->h2;
    unsigned urgency = most_urgent(h);
    struct list now;
    list_init(&now);
    LIST_EACH_SAFE (&h->proceed, l) {
        if (container_of(l, struct h2_stream, proceed)->urgency != urgency)
            continue;
        list_remove(l);
        list_append(&now, l);
    }
    while (!list_empty(&now) && c->state == CLIENT_OPEN) {
        struct h2_stream *s = container_of(now.next, struct h2_stream, proceed);
        list_remove(&s->proceed);
        if (h->out_bytes < OUT_HIGH)
            req_proceed(s->req);
        else
            list_append(&h->proceed, &s->proceed);
    }
    h2_want_send(h);
}

/* ---- how much a handler may send ---- */

void h2_window_came(struct h2 *h, int32_t id)
{
    LIST_EACH_SAFE (&h->shut, l) {
        struct h2_stream *s = container_of(l, struct h2_stream, proceed);
        if (id && s->id != id)
            continue;
        s->shut = false;
        list_remove(l);
        list_append(&h->proceed, l);
    }
    h2_want_send(h);
}

static size_t share_of(const struct h2 *h)
{
    const struct budget *b = &h->client->budget;
    if (budget_of_right(b))
        return MAX(OUT_SHARED / MAX(h->n_streams, 1u), OUT_LEAST);
    return budget_room(b) ? OUT_LEAST : OUT_SCANT;
}

/*
 * Never more than the stream's window: what is there only waits for the connection's, and a client
 * that opens that one moves all of it. So whatever some streams wait for, the others go on.
 */
static size_t codec_room(struct req *r, bool at_once)
{
    struct h2_stream *s = r->stream;
    struct h2 *h = s->h2;
    int32_t window = nghttp2_session_get_stream_remote_window_size(h->session, s->id);
    if (window > 0 && h->out_bytes < OUT_HIGH)
        return MIN((size_t)window, at_once ? IO_READ_MAX : MIN(share_of(h), IO_READ_MAX));
    s->shut = window <= 0;
    if (s->shut)
        s->last_out = loop_now_ms(); /* the wait for the client begins now */
    list_remove(&s->proceed);
    list_append(s->shut ? &h->shut : &h->proceed, &s->proceed);
    h2_turn_out(s, 0);
    return 0;
}

void h2_out_drop(struct h2_stream *s)
{
    if (s->out_fits)
        s->h2->out_bytes -= s->out.bytes;
    sliceq_fini(&s->out);
    s->shut = false;
    list_remove(&s->proceed);
    pace_turn(&s->pace_out, false, loop_now_ms());
}

/* ---- DATA frames ---- */

static void submit_trailers(struct h2_stream *s)
{
    const struct fields *t = s->out_trailers;
    nghttp2_nv nv[64];
    size_t n = 0;
    for (unsigned i = 0; i < t->n && n < ARRAY_LEN(nv); i++) {
        if (t->v[i].flags & FIELD_HOP)
            continue;
        nv[n++] = (nghttp2_nv){.name = (uint8_t *)(uintptr_t)t->v[i].name.p,
                               .namelen = t->v[i].name.n,
                               .value = (uint8_t *)(uintptr_t)t->v[i].value.p,
                               .valuelen = t->v[i].value.n};
    }
    nghttp2_submit_trailer(s->h2->session, s->id, nv, n);
}

ssize_t h2_data_read(nghttp2_session *session, int32_t id, uint8_t *buf, size_t length,
                     uint32_t *flags, nghttp2_data_source *source, void *user)
{
    struct h2_stream *s = source->ptr;
    (void)session, (void)id, (void)buf, (void)user;
    if (!s->out.bytes && !s->out_end)
        return NGHTTP2_ERR_DEFERRED;
    size_t n = MIN(length, s->out.bytes);
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (n == s->out.bytes && s->out_end) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        if (s->out_trailers) {
            *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
            submit_trailers(s);
        }
    }
    return (ssize_t)n;
}

int h2_data_send(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *head, size_t length,
                 nghttp2_data_source *source, void *user)
{
    struct h2 *h = user;
    struct h2_stream *s = source->ptr;
    struct io *io = &h->client->io;
    (void)session;
    io_write(io, head, 9);
    h->last_out = s->last_out = loop_now_ms();
    h2_guard_give(&h->guard, H2_COST_window, WINDOWS_A_FRAME);
    /* gRPC's libraries measure the link by a PING after each DATA frame, one at a time. */
    h2_guard_give(&h->guard, H2_COST_control, 1);
    while (length) {
        struct slice piece = sliceq_first(&s->out);
        piece.n = MIN(piece.n, length);
        io_write_slice(io, piece);
        sliceq_consume(&s->out, piece.n);
        if (s->out_fits)
            h->out_bytes -= piece.n;
        length -= piece.n;
    }
    pace_moved(&h->pace, frame->hd.length);
    pace_moved(&s->pace_out, frame->hd.length);
    h2_turn_out(s, frame->hd.length);
    if (!s->out.bytes && !s->out_end && !list_linked(&s->proceed))
        list_append(&h->proceed, &s->proceed);
    return 0;
}

/* ---- the codec ---- */

static nghttp2_nv nv_of(struct str name, struct str value)
{
    /* Both lie in the request's arena, which outlives the stream. */
    return (nghttp2_nv){.name = (uint8_t *)(uintptr_t)name.p,
                        .namelen = name.n,
                        .value = (uint8_t *)(uintptr_t)value.p,
                        .valuelen = value.n,
                        .flags = NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE};
}

static struct str number_text(struct req *r, uint64_t v)
{
    struct out o = out_on(arena_alloc(r->arena, 20), 20);
    out_u64(&o, v);
    return out_done(&o);
}

static size_t head_fields(struct req *r, nghttp2_nv *nv)
{
    const struct fields *f = &r->answer.fields;
    size_t n = 0;
    bool dated = false;
    nv[n++] = nv_of(STR(":status"), number_text(r, r->answer.status));
    for (unsigned i = 0; i < f->n; i++) {
        if (f->v[i].flags & FIELD_HOP)
            continue;
        dated |= f->v[i].token == FIELD_date;
        nv[n++] = nv_of(f->v[i].name, f->v[i].value);
    }
    if (!dated) {
        nv[n] = nv_of(STR("date"), loop_http_date());
        nv[n++].flags =
            NGHTTP2_NV_FLAG_NO_COPY_NAME; /* the text is the turn's, not the request's */
    }
    if (r->answer.length != REQ_LENGTH_UNKNOWN && !http_status_bodyless(r->answer.status))
        nv[n++] = nv_of(STR("content-length"), number_text(r, r->answer.length));
    return n;
}

static void codec_head(struct req *r, bool end)
{
    struct h2_stream *s = r->stream;
    struct h2 *h = s->h2;
    nghttp2_nv *nv = arena_zarray(r->arena, nghttp2_nv, r->answer.fields.n + 4u);
    size_t n = head_fields(r, nv);
    nghttp2_data_provider from = {.source.ptr = s, .read_callback = h2_data_read};
    s->out_end = end;
    s->last_out = loop_now_ms();
    if (nghttp2_submit_response(h->session, s->id, nv, n, end ? NULL : &from) != 0)
        nghttp2_submit_rst_stream(h->session, NGHTTP2_FLAG_NONE, s->id, NGHTTP2_INTERNAL_ERROR);
    h2_want_send(h);
}

/* The same head for a switch, which over HTTP/2 is an answer like any other (RFC 8441 5). */
static void codec_tunnel(struct req *r)
{
    codec_head(r, false);
}

/* Where both ends are out nghttp2 tells, and the stream goes then, or it has told already. */
static void codec_tunnel_over(struct req *r)
{
    h2_parted_over(r->stream);
}

/* What came along with a backend's head may not fit: it waits without being in others' way. */
static void out_count(struct h2_stream *s, size_t before)
{
    struct h2 *h = s->h2;
    if (!before) {
        int32_t window = nghttp2_session_get_stream_remote_window_size(h->session, s->id);
        s->out_fits = window > 0 && s->out.bytes <= (size_t)window;
    }
    if (s->out_fits)
        h->out_bytes += s->out.bytes - before;
}

static void codec_data(struct req *r, const struct slice *v, unsigned n, bool end)
{
    struct h2_stream *s = r->stream;
    if (!s->out.bytes)
        s->last_out = loop_now_ms(); /* the wait for the client begins now */
    size_t before = s->out.bytes;
    for (unsigned i = 0; i < n; i++)
        sliceq_push(&s->out, v[i]);
    out_count(s, before);
    h2_turn_out(s, 0);
    s->out_end = end;
    nghttp2_session_resume_data(s->h2->session, s->id);
    h2_want_send(s->h2);
}

static void codec_trailers(struct req *r, const struct fields *t)
{
    struct h2_stream *s = r->stream;
    s->out_trailers = t;
    s->out_end = true;
    nghttp2_session_resume_data(s->h2->session, s->id);
    h2_want_send(s->h2);
}

static void codec_info(struct req *r, unsigned status)
{
    struct h2_stream *s = r->stream;
    nghttp2_nv nv = nv_of(STR(":status"), STR("100"));
    ASSERT(status == 100);
    nghttp2_submit_headers(s->h2->session, NGHTTP2_FLAG_NONE, s->id, NULL, &nv, 1, NULL);
    h2_want_send(s->h2);
}

static void codec_reset(struct req *r, const char *err)
{
    struct h2_stream *s = r->stream;
    (void)err;
    if (s->parted) { /* nothing is left of it that could be reset, and nobody else ends it */
        h2_parted_over(s);
        return;
    }
    h2_out_drop(s);
    s->out_end = false;
    /* RFC 8441 5: what a reset is to a TCP connection */
    nghttp2_submit_rst_stream(s->h2->session, NGHTTP2_FLAG_NONE, s->id,
                              r->kind == REQ_WEBSOCKET ? NGHTTP2_CANCEL : NGHTTP2_INTERNAL_ERROR);
    h2_want_send(s->h2);
}

const struct codec h2_codec = {
    .name = "HTTP/2",
    .head = codec_head,
    .data = codec_data,
    .trailers = codec_trailers,
    .info = codec_info,
    .want_body = h2_want_body,
    .room = codec_room,
    .reset = codec_reset,
    .tunnel = codec_tunnel,
    .tunnel_over = codec_tunnel_over,
};
