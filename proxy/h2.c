/*
 * h2.c - the HTTP/2 codec towards clients, its receiving half: the session, streams, request heads
 * and frames, and the connection's life. Bodies are in h2_body.c, answers in h2_answer.c, deadlines
 * in h2_time.c.
 */
#include "proxy/h2.h"

#include <stdlib.h>

#include "base/stats.h"
#include "proxy/h1_fields.h"
#include "proxy/router.h"
#include "proxy/websocket.h"

#define LEAVE_MS    1000 /* between the two GOAWAYs: longer than a round trip */
#define RESETS_KEPT 256
/* A head this many times over the limit ends the connection. */
#define HEAD_FACTOR   4
#define URGENCY_USUAL 3
#define TYPE_MAX      128

static nghttp2_session_callbacks *callbacks;
static nghttp2_option *options;

/* ---- streams ---- */

static struct h2_stream *stream_of(nghttp2_session *session, int32_t id)
{
    return nghttp2_session_get_stream_user_data(session, id);
}

static struct h2_stream *stream_new(struct h2 *h, int32_t id)
{
    struct h2_stream *s = calloc(1, sizeof(*s));
    ASSERT(s);
    s->h2 = h;
    s->id = id;
    s->window = H2_WINDOW_STREAM;
    s->in.budget = s->out.budget = &h->client->budget;
    s->last_in = s->last_out = loop_now_ms();
    s->req = req_new(h->client, &h2_codec, s);
    list_append(&h->streams, &s->link);
    h->n_streams++;
    h->requests++;
    return s;
}

static void stream_free(void *p)
{
    free(p);
}

/* The request must be over. */
static void stream_end(struct h2_stream *s)
{
    struct h2 *h = s->h2;
    req_close(s->req);
    s->req = NULL;
    sliceq_fini(&s->in);
    h2_out_drop(s);
    h->stalled -= s->held;
    list_remove(&s->link);
    list_remove(&s->proceed);
    h->n_streams--;
    h->idle_since = loop_now_ms();
    loop_free_later(s, stream_free);
}

void h2_break(struct h2 *h, uint32_t code, const char *why)
{
    if (h->broken)
        return;
    h->broken = why;
    nghttp2_session_terminate_session(h->session, code);
    h2_want_send(h);
}

static void guard(struct h2 *h, enum h2_cost cost)
{
    const char *why = h2_guard_take(&h->guard, cost, loop_now_ms() / 1000);
    if (why)
        h2_break(h, NGHTTP2_ENHANCE_YOUR_CALM, why);
}

/* ---- heads ---- */

static void refuse(struct h2_stream *s, unsigned status, const char *why)
{
    if (!s->refuse) {
        s->refuse = status;
        s->refuse_why = why;
    }
}

static void pseudo_field(struct h2_stream *s, struct str name, struct str value)
{
    struct req *r = s->req;
    value = arena_str(r->arena, value);
    if (str_eq(name, STR(":method"))) {
        r->method_text = value;
        r->method = http_method_of(value);
    } else if (str_eq(name, STR(":path"))) {
        r->target = value;
    } else if (str_eq(name, STR(":authority"))) {
        r->authority = value;
    } else if (str_eq(name, STR(":protocol"))) {
        r->protocol = value;
    } else if (!str_eq(name, STR(":scheme"))) {
        refuse(s, 400, "a pseudo-header field that was not agreed on");
    }
}

/* Crumbs of a cookie are one field for whoever reads it (RFC 9113 8.2.3). */
static void cookie_crumb(struct h2_stream *s, struct str value)
{
    size_t need = s->cookies.n + value.n + 2;
    if (need > s->cookies_cap) {
        char *more = arena_alloc(s->req->arena, need * 2);
        if (s->cookies.n)
            memcpy(more, s->cookies.p, s->cookies.n);
        s->cookies.p = more;
        s->cookies_cap = need * 2;
    }
    struct out o = out_on((char *)(uintptr_t)s->cookies.p, s->cookies_cap);
    o.n = s->cookies.n;
    if (o.n)
        out_lit(&o, "; ");
    out_str(&o, value);
    ASSERT(!o.over);
    s->cookies.n = o.n;
}

static void plain_field(struct h2_stream *s, struct fields *to, struct str name, struct str value)
{
    struct req *r = s->req;
    enum field_token t = field_token_of(name);
    if (t == FIELD_cookie && to == &r->fields) {
        cookie_crumb(s, value);
        return;
    }
    value = arena_str(r->arena, value);
    if (t == FIELD_OTHER)
        fields_add(r->arena, to, arena_str(r->arena, name), value);
    else
        fields_add_token(r->arena, to, t, value);
    struct field *f = &to->v[to->n - 1];
    if (t == FIELD_content_length || t == FIELD_te || t == FIELD_expect)
        f->flags |= FIELD_HOP;
}

static bool is_trailer(const nghttp2_frame *frame)
{
    return frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_HEADERS;
}

/* Of a head that is too large only its type is still looked at: a gRPC call is refused as one. */
static bool decides_refusal(const struct h2_stream *s, struct str name, struct str value)
{
    return field_token_of(name) == FIELD_content_type && value.n <= TYPE_MAX &&
           http_value_clean(value) && !fields_get(&s->req->fields, FIELD_content_type);
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_n, const uint8_t *value, size_t value_n, uint8_t flags, void *user)
{
    struct h2 *h = user;
    struct h2_stream *s = stream_of(session, frame->hd.stream_id);
    (void)flags;
    if (!s || h->broken)
        return 0;
    if (s->req->state == REQ_TUNNEL)
        return 0; /* on_frame_recv judges it */
    const struct conf_limits *l = &s->req->snap->conf->limits;
    struct str n = {(const char *)name, name_n}, v = {(const char *)value, value_n};
    s->head_bytes += name_n + value_n + 32; /* as RFC 9113 6.5.2 counts */
    s->n_fields++;
    if (l->header && s->head_bytes > l->header * HEAD_FACTOR) {
        h2_break(h, NGHTTP2_ENHANCE_YOUR_CALM, "a head far over the limit");
        return 0;
    }
    if ((l->header && s->head_bytes > l->header) || (l->headers && s->n_fields > l->headers + 4)) {
        refuse(s, 431, "the head is larger than limits.header or limits.headers");
        if (!s->head_done && decides_refusal(s, n, v))
            plain_field(s, &s->req->fields, n, v);
        return 0;
    }
    if (!http_value_clean(v))
        refuse(s, 400, "a control byte in a field value");
    else if (is_trailer(frame)) {
        struct field f = {.name = n, .value = v, .token = (uint16_t)field_token_of(n)};
        if (!http_trailer_forbidden(&f))
            plain_field(s, &s->trailers, n, v);
    } else if (n.n && n.p[0] == ':')
        pseudo_field(s, n, v);
    else
        plain_field(s, &s->req->fields, n, v);
    return 0;
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct h2 *h = user;
    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST ||
        h->broken)
        return 0;
    if (!budget_room(&h->client->budget)) { /* it may safely be sent again (RFC 9113 8.7) */
        stats_inc(streams_refused);
        nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id,
                                  NGHTTP2_REFUSED_STREAM);
        return 0;
    }
    struct h2_stream *s = stream_new(h, frame->hd.stream_id);
    nghttp2_session_set_stream_user_data(session, frame->hd.stream_id, s);
    h2_account(h);
    client_watch(h->client);
    return 0;
}

/* Host and :authority name the same, or the request means two things (RFC 9113 8.3.1). */
static void check_authority(struct h2_stream *s)
{
    struct req *r = s->req;
    unsigned hosts = 0;
    for (unsigned i = 0; i < r->fields.n; i++)
        hosts += r->fields.v[i].token == FIELD_host;
    const struct field *host = fields_get(&r->fields, FIELD_host);
    if (hosts > 1)
        refuse(s, 400, "several Host fields");
    if (host && r->authority.p && !str_ieq(host->value, r->authority))
        refuse(s, 400, "Host and :authority differ");
    if (!r->authority.p && host)
        r->authority = host->value;
    if (!r->authority.n)
        refuse(s, 400, "neither :authority nor Host");
    else if (!h1_host_valid(r->authority))
        refuse(s, 400, "the authority is no host and port");
}

static void body_length(struct h2_stream *s, bool end)
{
    struct req *r = s->req;
    const struct field *length = fields_get(&r->fields, FIELD_content_length);
    r->body_length = REQ_LENGTH_UNKNOWN;
    if (length && !str_u64(length->value, &r->body_length))
        refuse(s, 400, "a Content-Length that is no number");
    if (end)
        r->body_length = 0;
    else if (!r->body_length) /* whether that is true shows when the stream ends */
        r->body_length = REQ_LENGTH_UNKNOWN;
    s->in_end = end;
}

/* "u=N", 0 most urgent, 3 when it is not told (RFC 9218 4.1). */
static unsigned urgency_in(struct str field, unsigned urgency)
{
    struct str item;
    while (str_split(&field, ',', &item)) {
        item = str_trim(item);
        if (item.n == 3 && str_starts(item, STR("u=")) && item.p[2] >= '0' && item.p[2] <= '7')
            urgency = (unsigned)(item.p[2] - '0');
    }
    return urgency;
}

static unsigned urgency_of(const struct h2_stream *s)
{
    const struct fields *f = &s->req->fields;
    unsigned urgency = URGENCY_USUAL;
    if (s->h2->early.id == s->id) /* it goes before the field (RFC 9218 7) */
        return s->h2->early.urgency;
    for (unsigned i = 0; i < f->n; i++)
        if (str_eq(f->v[i].name, STR("priority")))
            urgency = urgency_in(f->v[i].value, urgency);
    return urgency;
}

/* RFC 9218 7.1. One that comes before its request is kept, the last of them: more are not usual. */
static void priority_update(struct h2 *h, const nghttp2_ext_priority_update *u)
{
    const struct str field = {(const char *)u->field_value, u->field_value_len};
    const unsigned urgency = urgency_in(field, URGENCY_USUAL);
    struct h2_stream *s = stream_of(h->session, u->stream_id);
    if (!u->stream_id)
        h2_break(h, NGHTTP2_PROTOCOL_ERROR, "PRIORITY_UPDATE of no stream");
    else if (s)
        s->urgency = urgency;
    else if (u->stream_id > h->last_id)
        h->early.id = u->stream_id, h->early.urgency = urgency;
}

static void head_complete(struct h2_stream *s, bool end)
{
    struct req *r = s->req;
    const struct conf_limits *l = &r->snap->conf->limits;
    s->head_done = true;
    if (s->cookies.n)
        fields_add_token(r->arena, &r->fields, FIELD_cookie, s->cookies);
    s->urgency = urgency_of(s);
    body_length(s, end);
    check_authority(s);
    if (r->method == METHOD_CONNECT && !r->protocol.p)
        refuse(s, 501, "CONNECT: headgate is no forward proxy");
    else if (r->method == METHOD_CONNECT && !websocket_is_token(r->protocol))
        refuse(s, 501, "CONNECT is served for the protocol websocket only");
    else if (l->uri && r->target.n > l->uri)
        refuse(s, 414, "the target is longer than limits.uri");
    else if (!r->target.n || (r->target.p[0] != '/' && !str_eq(r->target, STR("*"))))
        refuse(s, 400, ":path does not begin with a slash");
    const struct field *expect = fields_get(&r->fields, FIELD_expect);
    if (expect && !str_ieq(expect->value, STR("100-continue")))
        refuse(s, 417, "an expectation other than 100-continue");
    r->expect_continue = expect && !end;
    if (!s->refuse) {
        req_begin(r);
        return;
    }
    guard(s->h2, H2_COST_refused);
    req_refuse(r, s->refuse, s->refuse_why);
}

/* ---- frames ---- */

static int on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct h2 *h = user;
    bool end = frame->hd.flags & NGHTTP2_FLAG_END_STREAM;
    struct h2_stream *s = frame->hd.stream_id ? stream_of(session, frame->hd.stream_id) : NULL;
    switch (frame->hd.type) {
    case NGHTTP2_HEADERS:
        if (s && !s->head_done)
            head_complete(s, end);
        else if (s && s->req->state == REQ_TUNNEL) /* RFC 9113 8.5 */
            nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, s->id, NGHTTP2_PROTOCOL_ERROR);
        else if (s && s->refuse)
            req_fail(s->req, s->refuse, s->refuse_why);
        else if (s && end) {
            s->in_end = true;
            h2_body_pump(s);
        }
        break;
    case NGHTTP2_DATA:
        if (frame->hd.length == frame->data.padlen && !end)
            guard(h, H2_COST_empty);
        if (s && end) {
            s->in_end = true;
            h2_body_pump(s);
        }
        break;
    case NGHTTP2_RST_STREAM:
        guard(h, H2_COST_reset);
        break;
    case NGHTTP2_SETTINGS:
        h2_window_came(h, 0);
        h2_turns(h);
        guard(h, H2_COST_control);
        break;
    case NGHTTP2_PING:
        guard(h, H2_COST_control);
        break;
    case NGHTTP2_WINDOW_UPDATE:
        if (!s)
            break;
        h2_window_came(h, frame->hd.stream_id);
        h2_turn_out(s, 0);
        break;
    case NGHTTP2_PRIORITY_UPDATE:
        priority_update(h, frame->ext.payload);
        break;
    default:
        break;
    }
    return 0;
}

/* A stream that we ended: what the client sent before it heard of that is still on its way. */
static bool reset_by_us(const struct h2 *h, int32_t id)
{
    for (unsigned i = 0; h->resets && i < RESETS_KEPT; i++)
        if (h->resets[i] == id)
            return true;
    return false;
}

static void reset_remember(struct h2 *h, int32_t id)
{
    if (!h->resets)
        h->resets = calloc(RESETS_KEPT, sizeof(*h->resets));
    ASSERT(h->resets);
    h->resets[h->n_resets++ % RESETS_KEPT] = id;
}

/*
 * nghttp2 passes over frames of streams that are closed. Those that we reset cost a little each;
 * for those that the client itself ended it is an error of the connection (RFC 9113 5.1).
 */
static void frame_of_no_stream(struct h2 *h, const nghttp2_frame_hd *hd)
{
    bool opens = hd->type == NGHTTP2_HEADERS && hd->stream_id > h->last_id;
    bool carries = hd->type == NGHTTP2_HEADERS || hd->type == NGHTTP2_DATA;
    if (opens) {
        h->last_id = hd->stream_id;
        return;
    }
    guard(h, hd->type == NGHTTP2_WINDOW_UPDATE ? H2_COST_window : H2_COST_ignored);
    /* Behind the second GOAWAY nghttp2 opens none: what crossed it is nobody's fault. */
    if (h->state != H2_LAST && carries && hd->stream_id <= h->last_id &&
        !reset_by_us(h, hd->stream_id))
        h2_break(h, NGHTTP2_STREAM_CLOSED, "a frame on a stream that the client had ended");
}

/* Before nghttp2 looks at it: it does not tell of everything that it passes over. */
static void frame_seen(struct h2 *h, const nghttp2_frame_hd *hd)
{
    if (hd->type == NGHTTP2_PRIORITY && !hd->stream_id) {
        h2_break(h, NGHTTP2_PROTOCOL_ERROR, "PRIORITY without a stream");
        return;
    }
    switch (hd->type) {
    case NGHTTP2_DATA:
    case NGHTTP2_HEADERS:
    case NGHTTP2_RST_STREAM:
    case NGHTTP2_WINDOW_UPDATE:
        if (hd->stream_id && !stream_of(h->session, hd->stream_id))
            frame_of_no_stream(h, hd);
        break;
    case NGHTTP2_SETTINGS:
    case NGHTTP2_PING:
    case NGHTTP2_GOAWAY:
    case NGHTTP2_CONTINUATION:
        break; /* on_frame_recv, or nghttp2's own limit */
    default:
        guard(h, H2_COST_control); /* PRIORITY, PRIORITY_UPDATE and what nobody knows */
    }
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t code, void *user)
{
    struct h2 *h = user;
    struct h2_stream *s = stream_of(session, id);
    if (!s)
        return 0;
    nghttp2_session_set_stream_user_data(session, id, NULL);
    if (code == NGHTTP2_NO_ERROR && req_over(s->req) && !s->refuse)
        h2_guard_earn(&h->guard);
    s->parted = s->req->state == REQ_TUNNEL && s->in_end && s->out_end && !s->out.bytes;
    if (s->parted && code == NGHTTP2_NO_ERROR)
        return 0;
    req_gone(s->req, "the client gave the stream up");
    stream_end(s);
    return 0;
}

void h2_parted_over(struct h2_stream *s)
{
    if (s->parted)
        stream_end(s);
}

/* nghttp2 resets with these for what the client did wrong: making us reset costs like resetting. */
static void reset_sent(struct h2 *h, int32_t id, uint32_t code)
{
    if (!reset_by_us(h, id))
        reset_remember(h, id);
    if (code == NGHTTP2_PROTOCOL_ERROR || code == NGHTTP2_FLOW_CONTROL_ERROR ||
        code == NGHTTP2_STREAM_CLOSED || code == NGHTTP2_FRAME_SIZE_ERROR)
        guard(h, H2_COST_reset);
}

/* An answer that ended before its request. */
static int on_frame_send(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct h2 *h = user;
    if (frame->hd.type == NGHTTP2_RST_STREAM)
        reset_sent(h, frame->hd.stream_id, frame->rst_stream.error_code);
    struct h2_stream *s = frame->hd.stream_id ? stream_of(session, frame->hd.stream_id) : NULL;
    bool end = (frame->hd.type == NGHTTP2_DATA || frame->hd.type == NGHTTP2_HEADERS) &&
               (frame->hd.flags & NGHTTP2_FLAG_END_STREAM);
    if (!s || !end || s->in_end || s->req->state == REQ_TUNNEL)
        return 0;
    /* A client that asked to switch has no body; it has to be told that nobody listens. */
    bool long_rest = s->req->method == METHOD_CONNECT;
    long_rest |= s->req->body_length != REQ_LENGTH_UNKNOWN &&
                 s->req->body_length > s->req->body_in + H2_DISCARD_MAX;
    if (s->held) { /* what it held back is thrown away: the client may send on */
        sliceq_fini(&s->in);
        h2_give_window(s, s->held);
    }
    h2_discard(s, long_rest ? H2_DISCARD_MAX + 1 : 0);
    return 0;
}

static int on_invalid_frame(nghttp2_session *session, const nghttp2_frame *frame, int code,
                            void *user)
{
    struct h2 *h = user;
    (void)session;
    if (code == NGHTTP2_ERR_REFUSED_STREAM) {
        /* Its reset is not sent yet, but what follows on it is refused with it. */
        reset_remember(h, frame->hd.stream_id);
        guard(h, H2_COST_streams);
    } else {
        guard(h, H2_COST_refused);
    }
    return 0;
}

/* ---- the connection ---- */

static void setup(void)
{
    if (callbacks)
        return;
    ASSERT(nghttp2_session_callbacks_new(&callbacks) == 0 && nghttp2_option_new(&options) == 0);
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame_recv);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, h2_on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_send);
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(callbacks, on_invalid_frame);
    nghttp2_session_callbacks_set_send_data_callback(callbacks, h2_data_send);
    nghttp2_option_set_no_auto_window_update(options, 1);
    nghttp2_option_set_no_closed_streams(options, 1); /* no memory for streams that are over */
    nghttp2_option_set_max_outbound_ack(options, 100);
    nghttp2_option_set_builtin_recv_extension_type(options, NGHTTP2_PRIORITY_UPDATE);
}

/* Those of the site that the connection was opened for; others' requests may come on it too. */
static const struct conf_limits *limits_of(const struct client *c)
{
    const struct snapshot *s = snapshot_current();
    struct route_match m = {0};
    bool named = c->tls.sni[0] && router_host(s->router, str_of(c->tls.sni), &m);
    return named ? &m.site->limits : &s->conf->limits;
}

static void h2_open(struct client *c)
{
    struct h2 *h = calloc(1, sizeof(*h));
    const struct conf_limits *l = limits_of(c);
    ASSERT(h);
    setup();
    c->h2 = h;
    h->client = c;
    h->idle_since = loop_now_ms();
    h->frame_left = NGHTTP2_CLIENT_MAGIC_LEN;
    list_init(&h->streams);
    list_init(&h->proceed);
    list_init(&h->shut);
    h2_windows_init(h);
    ASSERT(h2_memory_session(&h->memory, &h->session, callbacks, h, options) == 0);
    nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS,
         l->streams ? (uint32_t)MIN(l->streams, 100000u) : 128},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, H2_WINDOW_STREAM},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE,
         l->header ? (uint32_t)MIN(l->header, UINT32_MAX) : UINT32_MAX},
        {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},   /* RFC 9218 instead */
        {NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, 1}, /* RFC 8441 */
    };
    nghttp2_submit_settings(h->session, NGHTTP2_FLAG_NONE, settings, ARRAY_LEN(settings));
    h2_want_send(h);
}

static void feed(struct h2 *h, const uint8_t *p, size_t n)
{
    ssize_t took = nghttp2_session_mem_recv(h->session, p, n);
    if (took >= 0)
        return;
    if (took == NGHTTP2_ERR_BAD_CLIENT_MAGIC)
        h2_break(h, NGHTTP2_PROTOCOL_ERROR, "this is not HTTP/2");
    else if (took == NGHTTP2_ERR_FLOODED)
        h2_break(h, NGHTTP2_ENHANCE_YOUR_CALM, "more frames that want an answer than are answered");
    else
        h2_break(h, NGHTTP2_PROTOCOL_ERROR, nghttp2_strerror((int)took));
}

/* Follows the frames' heads (RFC 9113 4.1); bytes of one head, or of one frame behind its head. */
static size_t next_frame(struct h2 *h, const uint8_t *p, size_t n)
{
    if (h->frame_left) {
        size_t some = MIN(n, h->frame_left);
        h->frame_left -= some;
        return some;
    }
    size_t some = MIN(n, sizeof(h->frame_head) - h->frame_have);
    memcpy(h->frame_head + h->frame_have, p, some);
    h->frame_have += (unsigned)some;
    if (h->frame_have < sizeof(h->frame_head))
        return some;
    const uint8_t *b = h->frame_head;
    nghttp2_frame_hd hd = {.length = (size_t)b[0] << 16 | (size_t)b[1] << 8 | b[2],
                           .type = b[3],
                           .flags = b[4],
                           .stream_id =
                               (int32_t)((uint32_t)(b[5] & 0x7f) << 24 | (uint32_t)b[6] << 16 |
                                         (uint32_t)b[7] << 8 | b[8])};
    h->frame_have = 0;
    h->frame_left = hd.length;
    frame_seen(h, &hd);
    return some;
}

static void h2_read(struct client *c, struct slice data)
{
    struct h2 *h = c->h2;
    h->ping_at = 0; /* whatever came, it lives */
    h->reading = data.slab;
    while (data.n && !h->broken && c->state == CLIENT_OPEN) {
        size_t n = next_frame(h, data.p, data.n);
        /* A head and what is there of its frame go together. */
        if (!h->broken && n < data.n && h->frame_left)
            n += next_frame(h, data.p + n, data.n - n);
        feed(h, data.p, n);
        data.p += n;
        data.n -= n;
    }
    h->reading = NULL;
    h2_want_send(h);
}

static void h2_gone(struct client *c, const char *err)
{
    struct h2 *h = c->h2;
    if (!h || h->state == H2_OVER)
        return;
    h->state = H2_OVER;
    turn_task_cancel(&h->send);
    while (!list_empty(&h->streams)) {
        struct h2_stream *s = container_of(h->streams.next, struct h2_stream, link);
        nghttp2_session_set_stream_user_data(h->session, s->id, NULL);
        req_gone(s->req, err);
        stream_end(s);
    }
}

static void h2_eof(struct client *c)
{
    client_close(c);
}

static void h2_fini(struct client *c)
{
    if (!c->h2)
        return;
    nghttp2_session_del(c->h2->session);
    h2_account(c->h2);
    budget_promise(&c->budget, 0);
    free(c->h2->resets);
    free(c->h2);
    c->h2 = NULL;
}

static bool h2_idle(const struct client *c)
{
    return !c->h2->n_streams && c->h2->requests && !c->h2->broken;
}

/*
 * Two steps (RFC 9113 6.8): what a client sent before it heard of the first GOAWAY is still taken;
 * the second names the last stream.
 */
static void h2_drain(struct client *c, uint64_t idle_ms)
{
    (void)idle_ms; /* GOAWAY tells the client in time: no request is lost */
    struct h2 *h = c->h2;
    if (h->state == H2_OPEN) {
        h->state = H2_LEAVING;
        h->left_since = loop_now_ms();
        nghttp2_submit_shutdown_notice(h->session);
        h2_want_send(h);
    } else if (h->state == H2_LEAVING && loop_now_ms() - h->left_since >= LEAVE_MS) {
        h->state = H2_LAST;
        nghttp2_submit_goaway(h->session, NGHTTP2_FLAG_NONE,
                              nghttp2_session_get_last_proc_stream_id(h->session), NGHTTP2_NO_ERROR,
                              NULL, 0);
        h2_want_send(h);
    } else if (h->state == H2_LAST && !h->n_streams) {
        client_linger(c);
    }
}

static void h2_end(struct client *c, const char *why)
{
    LIST_EACH_SAFE (&c->h2->streams, l) {
        struct h2_stream *s = container_of(l, struct h2_stream, link);
        if (!s->head_done)
            nghttp2_submit_rst_stream(c->h2->session, NGHTTP2_FLAG_NONE, s->id,
                                      NGHTTP2_REFUSED_STREAM);
        else if (!req_over(s->req))
            req_fail(s->req, 503, why);
    }
    h2_want_send(c->h2);
}

/* ---- the codec ---- */

static void h2_room(struct client *c)
{
    h2_want_send(c->h2);
}

const struct protocol h2_protocol = {
    .name = "HTTP/2",
    .open = h2_open,
    .read = h2_read,
    .eof = h2_eof,
    .drained = h2_drained,
    .gone = h2_gone,
    .idle = h2_idle,
    .drain = h2_drain,
    .end = h2_end,
    .time_left = h2_time_left,
    .timeout = h2_timeout,
    .room = h2_room,
    .fini = h2_fini,
};
