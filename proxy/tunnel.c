/*
 * tunnel.c - see tunnel.h. The client's side of it is the codec's (a request's body and an answer
 * that may go on for days), the backend's an exchange.
 */
#include "proxy/tunnel.h"

#include "proxy/client.h"
#include "proxy/drain.h"
#include "proxy/websocket.h"

/* Bytes waiting for the backend before the client is paused. */
#define QUEUE_HIGH (16 * 1024)
/*
 * Once one side has ended the other may go on, but not be silent for longer: a peer whose last word
 * was said is told of nothing any more, so nobody would notice that it is gone.
 */
#define HALF_MS  (60 * 1000)
#define CHECK_MS 1000
/* From its moment to end: for the backend's frame to be over, the client's Close, the ends. */
#define CLOSE_WAIT_MS 5000

static const char err_silent[] = "one side ended, and the other was silent";
static const char err_drain[] = "the backend drains, and did not come to the end of its frame";

enum tunnel_state {
    TUNNEL_OPEN,
    TUNNEL_LEAVING, /* it is to end: our Close goes out where the backend's present frame is over */
    TUNNEL_CLOSING, /* our Close is out: the client answers the backend, which ends */
    TUNNEL_CLIENT_ENDED,  /* the client said its last byte; the backend goes on */
    TUNNEL_BACKEND_ENDED, /* the other way round */
    TUNNEL_BROKEN,        /* the backend's connection failed: what came goes out, then the client's
                             fails too */
    TUNNEL_FLUSHING,      /* both ended; what waits for the backend goes out */
    TUNNEL_OVER
};

/* In the request's home. */
struct tunnel {
    struct req *req;
    struct exchange *x; /* NULL: the backend's connection is gone */
    enum tunnel_state state;
    struct websocket_frames frames; /* towards the client */
    bool muted;         /* our Close is out: nothing of the backend's may come behind it */
    const char *broken; /* TUNNEL_BROKEN: how */
    struct deadline deadline;
    struct drain drain;
    uint64_t moved; /* ms: the last byte or end that came */
};

static void on_deadline(struct deadline *d)
{
    struct tunnel *t = container_of(d, struct tunnel, deadline);
    uint64_t left = loop_time_left(t->moved, HALF_MS);
    if (left)
        deadline_set(d, MIN(left, CHECK_MS), on_deadline);
    else
        req_fail(t->req, 504, t->broken ? t->broken : err_silent);
}

static void state_set(struct tunnel *t, enum tunnel_state to)
{
    ASSERT(t->state != TUNNEL_OVER);
    t->state = to;
    t->moved = loop_now_ms();
    if (to == TUNNEL_OVER)
        drain_leave(&t->drain);
    if (to == TUNNEL_OVER || to == TUNNEL_OPEN)
        deadline_cancel(&t->deadline);
    else if (!deadline_is_set(&t->deadline))
        deadline_set(&t->deadline, CHECK_MS, on_deadline);
}

static void tunnel_over(struct tunnel *t)
{
    state_set(t, TUNNEL_OVER);
    exchange_abort(&t->x);
    req_tunnel_over(t->req);
}

static void both_ended(struct tunnel *t)
{
    if (!t->x || !exchange_queued(t->x)) {
        tunnel_over(t);
        return;
    }
    state_set(t, TUNNEL_FLUSHING);
    exchange_want_sent(t->x);
}

/* ---- from the client ---- */

static void on_body(struct req *r, struct slice data)
{
    struct tunnel *t = r->handler_state;
    t->moved = loop_now_ms();
    if (!t->x)
        return; /* the backend is gone: nobody hears it */
    exchange_write_body(t->x, data);
    if (exchange_queued(t->x) > QUEUE_HIGH) {
        req_want_body(r, false);
        exchange_want_sent(t->x);
    }
}

static void on_body_end(struct req *r, const struct fields *trailers)
{
    struct tunnel *t = r->handler_state;
    (void)trailers;
    if (t->x)
        exchange_write_end(t->x, NULL);
    if (t->state == TUNNEL_BACKEND_ENDED)
        both_ended(t);
    else if (t->state == TUNNEL_OPEN) /* else it is about to end anyway */
        state_set(t, TUNNEL_CLIENT_ENDED);
}

static void on_sent(struct exchange *x)
{
    struct tunnel *t = x->owner;
    t->moved = loop_now_ms();
    if (t->state == TUNNEL_FLUSHING)
        tunnel_over(t);
    else
        req_want_body(t->req, true);
}

/* ---- from the backend ---- */

static void backend_ended(struct tunnel *t)
{
    req_send(t->req, NULL, 0, true);
    if (t->req->body_ended)
        both_ended(t);
    else
        state_set(t, TUNNEL_BACKEND_ENDED);
}

/* `last`, the end of a frame, and our Close. What the backend says from now on is thrown away. */
static void say_close(struct tunnel *t, struct slice last)
{
    struct slice v[] = {last, {.p = websocket_close_restart, .n = sizeof(websocket_close_restart)}};
    bool bare = !last.n;
    t->muted = true;
    state_set(t, TUNNEL_CLOSING);
    t->x->room = SLAB_SMALL;
    exchange_pause(t->x, false);
    req_send(t->req, v + bare, 2 - bare, false);
}

/* On its way to the end of a frame. */
static void leave(struct tunnel *t, struct slice s)
{
    size_t n = 0;
    if (!websocket_frames_between(&t->frames))
        n = websocket_frames_step(&t->frames, s.p, s.n);
    if (websocket_frames_closed(&t->frames)) {
        state_set(t, TUNNEL_OPEN); /* it says so itself */
    } else if (websocket_frames_between(&t->frames)) {
        s.n = n;
        say_close(t, s);
        return;
    }
    exchange_pause(t->x, true);
    req_send(t->req, &s, 1, false);
}

static void on_answer_body(struct exchange *x, const struct slice *v, unsigned n, bool end)
{
    struct tunnel *t = x->owner;
    t->moved = loop_now_ms();
    if (end) {
        backend_ended(t);
        return;
    }
    ASSERT(n == 1);
    if (t->muted)
        return;
    if (t->state == TUNNEL_LEAVING) {
        leave(t, *v);
        return;
    }
    websocket_frames_feed(&t->frames, v->p, v->n);
    exchange_pause(x, true);
    req_send(t->req, v, n, false);
}

static void on_proceed(struct req *r)
{
    struct tunnel *t = r->handler_state;
    if (t->state == TUNNEL_BROKEN) {
        req_fail(r, 502, t->broken);
        return;
    }
    if (t->state == TUNNEL_LEAVING && websocket_frames_between(&t->frames)) {
        say_close(t, (struct slice){0});
        return;
    }
    size_t room = t->x && !t->muted ? req_room(r, false) : 0;
    if (!room)
        return;
    t->x->room = room;
    exchange_pause(t->x, false);
}

/*
 * Many backends break their connection off as soon as they have sent their Close frame: there is
 * nothing more to say, so that is as good an end as any.
 */
static void on_error(struct exchange *x, const char *err, enum exchange_failure how)
{
    struct tunnel *t = x->owner;
    (void)how;
    t->x = NULL;
    if (t->state == TUNNEL_FLUSHING || (t->state == TUNNEL_BACKEND_ENDED && t->req->body_ended)) {
        tunnel_over(t);
    } else if (t->state == TUNNEL_BACKEND_ENDED) {
        req_want_body(t->req, true); /* it may be paused; what comes is thrown away */
    } else if (t->muted || websocket_frames_closed(&t->frames)) {
        req_want_body(t->req, true);
        if (t->state != TUNNEL_OVER)
            backend_ended(t);
    } else if (t->req->send_pending) {
        t->broken = err;
        state_set(t, TUNNEL_BROKEN);
    } else {
        req_fail(t->req, 502, err);
    }
}

static const struct exchange_ops ops = {on_sent, NULL, on_answer_body, NULL, on_error};

/* ---- when the backend, or headgate, goes ---- */

/* Its time is up: who was told and did not answer, or ended without the other, is not waited for.
 */
static void on_late(struct drain *d)
{
    struct tunnel *t = container_of(d, struct tunnel, drain);
    if (t->state == TUNNEL_LEAVING || t->state == TUNNEL_BROKEN) {
        req_fail(t->req, 503, err_drain);
        return;
    }
    if (t->state != TUNNEL_BACKEND_ENDED && t->state != TUNNEL_FLUSHING)
        req_send(t->req, NULL, 0, true);
    tunnel_over(t);
}

/*
 * The closing handshake, begun in the backend's place (RFC 6455 7.1.2): the client's answer is for
 * the backend, which takes it for the client's wish and ends. Not where one is under way already.
 */
static void on_drain(struct drain *d)
{
    struct tunnel *t = container_of(d, struct tunnel, drain);
    d->end = on_late;
    drain_later(d, CLOSE_WAIT_MS);
    if (t->state != TUNNEL_OPEN || websocket_frames_closed(&t->frames))
        return;
    state_set(t, TUNNEL_LEAVING);
    if (websocket_frames_between(&t->frames) && !t->req->send_pending)
        say_close(t, (struct slice){0});
}

/* ---- life ---- */

static void on_cancel(struct req *r)
{
    struct tunnel *t = r->handler_state;
    if (t->state == TUNNEL_OVER)
        return;
    state_set(t, TUNNEL_OVER);
    exchange_abort(&t->x);
}

static const struct handler tunnel_handler = {
    .name = "tunnel",
    .body = on_body,
    .body_end = on_body_end,
    .proceed = on_proceed,
    .cancel = on_cancel,
};

void tunnel_open(struct req *r, struct exchange *x)
{
    struct tunnel *t = arena_znew(r->home, struct tunnel);
    t->req = r;
    t->x = x;
    x->ops = &ops;
    x->owner = t;
    req_tunnel(r, &tunnel_handler, t);
    if (t->state == TUNNEL_OVER)
        return;
    x->arena = r->arena;
    drain_enter(&x->instance->drains, &t->drain, on_drain);
    if (r->body_ended) /* the client ended its side with the request */
        on_body_end(r, NULL);
    else
        req_want_body(r, true);
}
