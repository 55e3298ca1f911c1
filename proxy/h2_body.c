/*
 * h2_body.c - request bodies over HTTP/2: what came waits for its handler, and the windows that say
 * how much may come. A stream's window is returned when its bytes are taken; the connection's as
 * long as the budget has room, so that an upload that stalls does not stop all the others.
 */
#include "proxy/h2.h"

#define WINDOW_CONNECTION NGHTTP2_INITIAL_CONNECTION_WINDOW_SIZE
#define WINDOW_LEAST      (16 * 1024)   /* the connection's, while its uploads do not stall */
#define WINDOW_MAX        (1024 * 1024) /* both windows grow up to it */

/* What the client may still send on this connection is as good as held. */
static void promise(struct h2 *h)
{
    budget_promise(&h->client->budget, h->window - h->owed);
}

/* The connection's window: not a consumer's matter, but the budget's. */
void h2_return_window(struct h2 *h)
{
    size_t n = MIN(h->owed, budget_room(&h->client->budget));
    size_t open = h->window - h->owed;
    /* Where heads or answers have used the budget up, what flows through may still flow. */
    if (open + n < WINDOW_LEAST && h->stalled < H2_WINDOW_STREAM)
        n = MIN(h->owed, WINDOW_LEAST - open);
    if (n) {
        h->owed -= n;
        promise(h);
        nghttp2_session_consume_connection(h->session, n);
    }
    if (h->owed)
        client_wait_room(h->client);
}

static void came(struct h2 *h, size_t n)
{
    h->owed += n;
    promise(h);
    h2_want_send(h);
}

/* A consumer that keeps up gets a larger window, as long as there is room for it. */
static void grow_window(struct h2_stream *s)
{
    struct h2 *h = s->h2;
    size_t window = s->window * 2;
    bool keeps_up = !s->in.bytes && s->req->body_in > s->window;
    if (!keeps_up || window > WINDOW_MAX)
        return;
    if (h->window < window && budget_spare(&h->client->budget) >= window - h->window) {
        h->window = window;
        promise(h);
        nghttp2_session_set_local_window_size(h->session, NGHTTP2_FLAG_NONE, 0, (int32_t)window);
    }
    if (h->window < window)
        return;
    s->window = window;
    nghttp2_session_set_local_window_size(h->session, NGHTTP2_FLAG_NONE, s->id, (int32_t)window);
}

/* The client may send again what was taken: the stream's window follows the consumer. */
void h2_give_window(struct h2_stream *s, size_t n)
{
    s->held -= n;
    s->h2->stalled -= n;
    grow_window(s);
    nghttp2_session_consume_stream(s->h2->session, s->id, n);
    h2_want_send(s->h2);
}

static void body_end(struct h2_stream *s)
{
    if (s->in_end && !s->in.bytes && !req_over(s->req) && !s->req->body_ended)
        req_body_end(s->req, s->trailers.n ? &s->trailers : NULL);
}

/* Hands on what was held back, as long as it is wanted. */
void h2_body_pump(struct h2_stream *s)
{
    while (s->in.bytes && s->req->body_wanted && !req_over(s->req)) {
        struct slice piece = sliceq_first(&s->in);
        slab_ref(piece.slab);
        req_body(s->req, piece);
        slab_unref(piece.slab);
        if (s->in.bytes)
            sliceq_consume(&s->in, piece.n);
    }
    if (s->held > s->in.bytes && (s->req->body_wanted || req_over(s->req)))
        h2_give_window(s, s->held - s->in.bytes);
    body_end(s);
    h2_turn_in(s);
}

/*
 * The rest of a body whose answer is complete: a little is read on, since some clients take a reset
 * for a failure of the whole request; then the client is told to stop (RFC 9113 8.1).
 */
void h2_discard(struct h2_stream *s, uint64_t n)
{
    uint64_t before = s->discarded;
    s->discarded += n;
    h2_turn_in(s);
    if (before <= H2_DISCARD_MAX && s->discarded > H2_DISCARD_MAX)
        nghttp2_submit_rst_stream(s->h2->session, NGHTTP2_FLAG_NONE, s->id, NGHTTP2_NO_ERROR);
}

int h2_on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data, size_t n,
               void *user)
{
    struct h2 *h = user;
    struct h2_stream *s = nghttp2_session_get_stream_user_data(session, id);
    (void)flags;
    came(h, n);
    if (!s || req_over(s->req)) { /* nobody wants it, but the windows go on */
        nghttp2_session_consume_stream(session, id, n);
        if (s) {
            pace_moved(&s->pace_in, n);
            h2_discard(s, n);
        }
        return 0;
    }
    pace_moved(&s->pace_in, n);
    s->held += n;
    h->stalled += n;
    s->last_in = loop_now_ms();
    if (s->req->body_wanted && !s->in.bytes)
        req_body(s->req, (struct slice){h->reading, data, n});
    else /* a copy: what waits must not pin all that was read with it */
        sliceq_copy(&s->in, data, n);
    h2_body_pump(s);
    return 0;
}

void h2_account(struct h2 *h)
{
    budget_recount(&h->client->budget, &h->counted, h->memory.bytes);
}

void h2_windows_init(struct h2 *h)
{
    h->window = WINDOW_CONNECTION;
    promise(h);
}

void h2_want_body(struct req *r, bool on)
{
    if (on)
        h2_body_pump(r->stream);
    else
        h2_turn_in(r->stream);
}
