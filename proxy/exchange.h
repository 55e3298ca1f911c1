/*
 * exchange.h - one connection to a backend and the one HTTP/1.1 exchange on it: request head and
 * body out, answer head and body in, then kept or closed. Knows no client: who exchanges gives the
 * callbacks. A connection that ended other than in order is never used again.
 */
#ifndef HG_EXCHANGE_H
#define HG_EXCHANGE_H

#include "proxy/backend.h"
#include "proxy/h1_parse.h"

struct exchange;

/*
 * Any of these may call exchange_abort. None is called after it, nor after on_end or on_error.
 * `stale` in on_error: nothing of an answer came and the connection had served before, so that the
 * backend most probably closed it just before we wrote (RFC 9112 9.3.1).
 */
struct exchange_ops {
    void (*on_sent)(struct exchange *x); /* exchange_want_sent: the queue is out */
    /* The head lies in the arena that exchange_start got. */
    void (*on_head)(struct exchange *x, struct h1_head *h);
    void (*on_body)(struct exchange *x, const struct slice *v, unsigned n, bool end); /* borrowed */
    void (*on_end)(struct exchange *x,
                   const struct fields *trailers); /* instead of `end` where trailers came */
    void (*on_error)(struct exchange *x, const char *err, bool stale);
};

enum exchange_state {
    EX_CONNECTING,
    EX_HEAD, /* the answer's head is awaited */
    EX_BODY, /* the answer's body comes */
    EX_IDLE, /* kept, between exchanges */
    EX_CLOSED
};

struct exchange {
    struct io io;
    struct list link;                  /* of the instance's idle ones */
    struct backend_instance *instance; /* counted */
    const struct exchange_ops *ops;
    void *owner;
    enum exchange_state state;
    struct deadline deadline;
    uint64_t since;                           /* ms: state was entered */
    uint64_t listening_since;                 /* ms: the last pause's end */
    uint64_t used;                            /* exchanges begun on this connection */
    uint64_t out_before;                      /* io.bytes_out when this one began */
    uint64_t connect_ms, response_ms, gap_ms; /* timeouts, 0: none */
    struct arena *arena;                      /* of the request */
    enum http_method method;
    bool request_done; /* all of the request was written */
    bool request_chunked;
    bool keep_alive;
    struct slab *head; /* an answer's head that did not come in one piece */
    size_t scanned;
    size_t interim; /* bytes of 1xx answers */
    struct h1_limits limits;
    enum h1_framing framing;
    uint64_t left;
    struct h1_chunked chunked;
};

struct exchange_timeouts {
    uint64_t connect_ms, response_ms, gap_ms;
};

/*
 * A kept connection of the instance, or a new one (`fresh` or none kept). Errors come by on_error,
 * never from inside this call. The arena is the request's.
 */
struct exchange *exchange_start(struct backend_instance *i, bool fresh, struct arena *a,
                                enum http_method method, const struct exchange_timeouts *t,
                                const struct exchange_ops *ops, void *owner);
static inline bool exchange_reused(const struct exchange *x)
{
    return x->used > 1;
}
static inline bool exchange_connecting(const struct exchange *x)
{
    return x->state == EX_CONNECTING;
}
/* Not one byte of the request reached the socket. */
static inline bool exchange_unsent(const struct exchange *x)
{
    return x->io.bytes_out == x->out_before;
}
bool exchange_timed_out(const char *err); /* is it one of the timeouts? */
/* The request's head, complete with its empty line; `chunked`: how its body is framed. */
void exchange_write_head(struct exchange *x, struct str head, bool chunked);
void exchange_write_body(struct exchange *x, struct slice data);
void exchange_write_end(struct exchange *x, const struct fields *trailers); /* NULL: none */
size_t exchange_queued(const struct exchange *x);
void exchange_want_sent(struct exchange *x);
/* Backpressure: no more on_body until resumed, but for what was read already. */
void exchange_pause(struct exchange *x, bool on);
void exchange_no_gap(struct exchange *x); /* an event stream: silence is no failure */
/* The owner is done with it before its end: closed at once. Fine on NULL; *x becomes NULL. */
void exchange_abort(struct exchange **x);

#endif
