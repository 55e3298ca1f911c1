/*
 * h2_time.c - the HTTP/2 codec and time: whose turn it is, how long each stream and the whole
 * connection may still last, and what happens when that is over. A stream whose time is up ends
 * alone; the connection does when it is the whole that waits.
 */
#include "proxy/h2.h"

/*
 * A client whose streams may be silent is asked whether it lives when nothing came for that long,
 * and is gone when it does not answer.
 */
#define PING_AFTER_MS (30 * 1000)
#define PING_WAIT_MS  (20 * 1000)

static const char err_silent[] = "the client does not answer a PING";

/* ---- whose turn it is ---- */

void h2_turn_in(struct h2_stream *s)
{
    nghttp2_session *session = s->h2->session;
    bool its = s->head_done && !s->in_end && s->req && (req_over(s->req) || s->req->body_wanted) &&
               !s->h2->in_shut && nghttp2_session_get_stream_local_window_size(session, s->id) > 0;
    pace_turn(&s->pace_in, its, loop_now_ms());
}

void h2_turn_out(struct h2_stream *s, size_t used)
{
    bool waits = s->out.bytes || s->shut;
    if (!waits && !s->pace_out.since)
        return;
    int32_t window = nghttp2_session_get_stream_remote_window_size(s->h2->session, s->id);
    pace_turn(&s->pace_out, waits && window <= (int32_t)used, loop_now_ms());
}

void h2_turns(struct h2 *h)
{
    LIST_EACH (&h->streams, l) {
        struct h2_stream *s = container_of(l, struct h2_stream, link);
        h2_turn_in(s);
        h2_turn_out(s, 0);
    }
}

void h2_turn_connection(struct h2 *h)
{
    bool in_shut = nghttp2_session_get_local_window_size(h->session) <= 0;
    bool out_shut = nghttp2_session_get_remote_window_size(h->session) <= 0;
    if (in_shut != h->in_shut) {
        h->in_shut = in_shut;
        h2_turns(h);
    }
    pace_turn(&h->pace, out_shut && h->out_bytes, loop_now_ms());
}

/* ---- how long it may last ---- */

/* The least of several deadlines, and what it means. */
struct soonest {
    uint64_t left; /* ms */
    const char *why;
};

static void sooner(struct soonest *s, uint64_t left, const char *why)
{
    if (left >= s->left)
        return;
    s->left = left;
    s->why = why;
}

/* What the client does is shared out among its streams, as it likes: so is the rate. */
struct shares {
    unsigned in, out; /* streams that wait for it */
};

static uint64_t share_of(uint64_t rate, unsigned n)
{
    return rate ? MAX(rate / MAX(n, 1u), (uint64_t)1) : 0;
}

static bool may_be_silent(const struct h2_stream *s)
{
    return req_may_be_silent(s->req) && !req_over(s->req);
}

static struct shares count_shares(const struct h2 *h)
{
    struct shares n = {0};
    LIST_EACH (&h->streams, l) {
        const struct h2_stream *s = container_of(l, struct h2_stream, link);
        if (may_be_silent(s))
            continue;
        n.in += pace_had_turn(&s->pace_in);
        n.out += pace_had_turn(&s->pace_out);
    }
    return n;
}

static struct soonest stream_left(struct h2_stream *s, const struct shares *n)
{
    const struct conf_timeouts *t = req_timeouts(s->req);
    struct soonest left = {UINT64_MAX, NULL};
    uint64_t now = loop_now_ms();
    if (!s->head_done) {
        sooner(&left, loop_time_left(s->last_in, t->header),
               "the request's head did not come in time");
        return left;
    }
    if (may_be_silent(s))
        return left;
    /* Body that is wanted, or the rest of one whose answer is out already. */
    bool may_send = !s->held && !s->h2->owed;
    if (!s->in_end && (req_over(s->req) || (s->req->body_wanted && may_send)))
        sooner(&left, loop_time_left(MAX(s->last_in, s->last_out), t->body_gap),
               "the request body stopped coming");
    sooner(&left, pace_left(&s->pace_in, share_of(t->min_rate, n->in), t->body_gap, now),
           "the request body comes slower than timeouts.min_rate");
    /* One that has window of its own only waits for others that come first (RFC 9218 10). */
    uint64_t last_out = s->pace_out.since ? s->last_out : MAX(s->last_out, s->h2->last_out);
    if (s->out.bytes || s->shut)
        sooner(&left, loop_time_left(last_out, t->write_gap), "the client stopped reading");
    sooner(&left, pace_left(&s->pace_out, share_of(t->min_rate, n->out), t->write_gap, now),
           "the client reads slower than timeouts.min_rate");
    return left;
}

/* The connection's own rate is the lowest that the answers which wait for the client allow. */
static void set_rate(struct h2 *h)
{
    uint64_t lowest = UINT64_MAX;
    LIST_EACH (&h->streams, l) {
        const struct h2_stream *s = container_of(l, struct h2_stream, link);
        if (s->out.bytes)
            lowest = MIN(lowest, req_may_be_silent(s->req) ? 0 : req_timeouts(s->req)->min_rate);
    }
    if (lowest != UINT64_MAX)
        h->client->min_rate = lowest;
}

/* One of its streams may be silent, and so unread: that the client lives at all a PING tells. */
static bool patient(const struct h2 *h)
{
    LIST_EACH (&h->streams, l)
        if (may_be_silent(container_of(l, struct h2_stream, link)))
            return true;
    return false;
}

/* Of the connection as a whole. */
static struct soonest whole_left(struct h2 *h)
{
    struct client *c = h->client;
    struct soonest left = {UINT64_MAX, NULL};
    const char *why = NULL;
    c->write_gap = snapshot_current()->conf->timeouts.write_gap;
    set_rate(h);
    if (patient(h))
        return left;
    uint64_t take_left = client_take_left(c, &why);
    sooner(&left, take_left, why);
    sooner(&left, pace_left(&h->pace, c->min_rate, c->write_gap, loop_now_ms()),
           "the client gives window slower than timeouts.min_rate");
    return left;
}

uint64_t h2_time_left(struct client *c, const char **why)
{
    struct h2 *h = c->h2;
    const struct conf_timeouts *t = &snapshot_current()->conf->timeouts;
    const struct shares n = count_shares(h);
    struct soonest left = whole_left(h);
    LIST_EACH (&h->streams, l) {
        struct soonest its = stream_left(container_of(l, struct h2_stream, link), &n);
        sooner(&left, its.left, its.why);
    }
    *why = left.why;
    if (h->n_streams && left.left == UINT64_MAX) {
        *why = err_silent;
        return h->ping_at ? loop_time_left(h->ping_at, PING_WAIT_MS)
                          : loop_time_left(MAX(c->io.last_in, c->state_since), PING_AFTER_MS);
    }
    if (h->n_streams || io_queued(&c->io))
        return left.left;
    *why = h->requests ? "idle" : "the first request did not come in time";
    return h->requests ? loop_time_left(h->idle_since, t->idle)
                       : loop_time_left(c->state_since, t->header);
}

/* ---- when it is over ---- */

static void stream_timeout(struct h2_stream *s, const char *why)
{
    bool began = s->head_done && s->req->state < REQ_ANSWERING;
    s->last_in = s->last_out = loop_now_ms();
    pace_forgive(&s->pace_in, loop_now_ms());
    pace_forgive(&s->pace_out, loop_now_ms());
    if (began && !req_over(s->req))
        req_fail(s->req, 408, why);
    else
        nghttp2_submit_rst_stream(s->h2->session, NGHTTP2_FLAG_NONE, s->id, NGHTTP2_CANCEL);
    h2_want_send(s->h2);
}

void h2_timeout(struct client *c, const char *why)
{
    struct h2 *h = c->h2;
    bool stream_was_it = false;
    if (why == err_silent && !h->ping_at) {
        h->ping_at = loop_now_ms();
        nghttp2_submit_ping(h->session, NGHTTP2_FLAG_NONE, NULL);
        h2_want_send(h);
        return;
    }
    struct soonest whole = whole_left(h);
    if (!whole.left) { /* it would not read a word of farewell either */
        h2_protocol.gone(c, whole.why);
        io_reset(&c->io);
        client_close(c);
        return;
    }
    const struct shares n = count_shares(h);
    LIST_EACH_SAFE (&h->streams, l) {
        struct h2_stream *s = container_of(l, struct h2_stream, link);
        struct soonest its = stream_left(s, &n);
        if (its.left)
            continue;
        stream_was_it = true;
        stream_timeout(s, its.why);
    }
    if (!stream_was_it)
        h2_break(h, NGHTTP2_NO_ERROR, why);
}
