/*
 * exchange.h - one request to a backend and its answer, whatever the two speak: head and body out,
 * head and body in. Knows no client: who exchanges gives the callbacks. The protocols are constant
 * tables, as towards clients: exchange_h1.c has a connection to itself for each exchange,
 * exchange_h2.c shares one among many. What a connection does between exchanges is theirs alone.
 */
#ifndef HG_EXCHANGE_H
#define HG_EXCHANGE_H

#include "proxy/backend.h"
#include "proxy/http.h"

#define EXCHANGE_LENGTH_UNKNOWN UINT64_MAX

struct exchange;

enum exchange_protocol { EXCHANGE_H1, EXCHANGE_H2 };

/* A request as it goes out. Everything is borrowed and must live as long as the exchange's arena.
 */
struct exchange_request {
    struct str method, scheme, authority;
    struct str path;             /* begins with "/" */
    struct str query;            /* p == NULL: there is none */
    const struct fields *fields; /* end-to-end only; neither Host nor framing */
    uint64_t length;             /* of the body; 0: none; EXCHANGE_LENGTH_UNKNOWN */
    struct str upgrade;          /* HTTP/1.1: the protocol that is asked for; p NULL: none */
};

/* An answer's head; it lies in the arena that exchange_start got. */
struct exchange_head {
    unsigned status;
    struct fields fields; /* framing and hop-by-hop ones are flagged FIELD_HOP */
    uint64_t length;      /* EXCHANGE_LENGTH_UNKNOWN: told by the end */
    bool no_body;         /* on_body with `end` and nothing in it, or on_end, follows */
    /*
     * 101: to this protocol; p NULL: it is a plain answer. From now on bytes go both ways.
     * on_body brings one slice at a time; exchange_write_end ends our side, on_body with `end`
     * tells that the backend ended its; neither is the exchange's end, only exchange_abort and
     * on_error are.
     */
    struct str upgrade;
};

enum exchange_failure {
    EXCHANGE_BROKEN,
    /*
     * Nothing of an answer came and the connection had served before: most probably the backend
     * closed it just before we wrote (RFC 9112 9.3.1).
     */
    EXCHANGE_STALE,
    /* The backend says that it has not looked at the request (RFC 9113 8.7). */
    EXCHANGE_UNPROCESSED
};

/*
 * Any of these may call exchange_abort. None is called after it, nor after `end`, on_end or
 * on_error.
 */
struct exchange_ops {
    void (*on_sent)(struct exchange *x); /* exchange_want_sent: the queue is out */
    void (*on_head)(struct exchange *x, struct exchange_head *h);
    void (*on_body)(struct exchange *x, const struct slice *v, unsigned n, bool end); /* borrowed */
    void (*on_end)(struct exchange *x,
                   const struct fields *trailers); /* instead of `end` where trailers came */
    void (*on_error)(struct exchange *x, const char *err, enum exchange_failure how);
};

/* A protocol's side; one constant table each. */
struct exchange_codec {
    const char *(*head)(struct exchange *, const struct exchange_request *);
    void (*body)(struct exchange *, struct slice data);
    void (*end)(struct exchange *, const struct fields *trailers);
    size_t (*queued)(const struct exchange *);
    void (*want_sent)(struct exchange *);
    void (*pause)(struct exchange *, bool on);
    bool (*connecting)(const struct exchange *);
    bool (*unsent)(const struct exchange *);
    void (*abort)(struct exchange *);
};

struct exchange_timeouts {
    uint64_t connect_ms, response_ms, gap_ms; /* 0: none */
};

/* The part that all protocols share; embedded in theirs. */
struct exchange {
    const struct exchange_codec *codec;
    const struct exchange_ops *ops;
    void *owner;
    struct backend_instance *instance; /* counted */
    struct arena *arena;               /* of the request */
    enum http_method method;
    struct exchange_timeouts timeouts;
    struct budget *budget; /* of the client that it is made for */
    size_t room;           /* bytes that one on_body should bring at most; 0: as many as come */
};

/* What an exchange is begun with. */
struct exchange_start {
    struct backend_instance *instance;
    struct backend_tls *tls; /* NULL: plain */
    bool fresh;              /* on a new connection, though one is kept */
    struct arena *arena;
    enum http_method method;
    struct exchange_timeouts timeouts;
    const struct exchange_ops *ops;
    void *owner;
    struct budget *budget; /* what waits here is counted there; it outlives the exchange */
    size_t room;
};

/* The protocols' own; none of them calls back from inside. */
struct exchange *exchange_h1_start(const struct exchange_start *s);
struct exchange *exchange_h2_start(const struct exchange_start *s);
/* The instance takes no new requests: what is kept to it goes, what is under way ends in order. */
void exchange_h1_leave(struct backend_instance *i);
void exchange_h2_leave(struct backend_instance *i);

/* On a connection that is there, or a new one. Errors come by on_error, never from inside this. */
static inline struct exchange *exchange_start(enum exchange_protocol p,
                                              const struct exchange_start *s)
{
    return p == EXCHANGE_H2 ? exchange_h2_start(s) : exchange_h1_start(s);
}
/* Once, first. NULL, or why this request cannot be sent: then abort it. */
static inline const char *exchange_write_head(struct exchange *x, const struct exchange_request *r)
{
    return x->codec->head(x, r);
}
static inline void exchange_write_body(struct exchange *x, struct slice data)
{
    x->codec->body(x, data);
}
static inline void exchange_write_end(struct exchange *x, const struct fields *trailers)
{
    x->codec->end(x, trailers); /* NULL: none; they live as long as the arena */
}
/* Bytes of the request that the backend has not taken yet. */
static inline size_t exchange_queued(const struct exchange *x)
{
    return x->codec->queued(x);
}
static inline void exchange_want_sent(struct exchange *x)
{
    x->codec->want_sent(x);
}
/* Backpressure: no more on_body until resumed with x->room, but for what was read already. */
static inline void exchange_pause(struct exchange *x, bool on)
{
    x->codec->pause(x, on);
}
static inline bool exchange_connecting(const struct exchange *x)
{
    return x->codec->connecting(x);
}
/* Not one byte of the request reached the socket. */
static inline bool exchange_unsent(const struct exchange *x)
{
    return x->codec->unsent(x);
}
static inline void exchange_no_gap(struct exchange *x)
{
    x->timeouts.gap_ms = 0; /* an event stream: silence is no failure */
}
/* The owner is done with it before its end: given up at once. Fine on NULL; *xp becomes NULL. */
static inline void exchange_abort(struct exchange **xp)
{
    struct exchange *x = *xp;
    *xp = NULL;
    if (x)
        x->codec->abort(x);
}

/* Errors that code acts on; the resets are those of HTTP/2 (RFC 9113 7). */
extern const char exchange_err_head_too_large[];
extern const char exchange_err_reset[], exchange_err_cancelled[], exchange_err_calm[],
    exchange_err_refused[];
/* … and of its connections, that are lost though no answer was wrong. */
extern const char exchange_err_leaves[], exchange_err_ping[];
extern const char exchange_err_connect_timeout[], exchange_err_response_timeout[],
    exchange_err_gap_timeout[];
bool exchange_timed_out(const char *err); /* is it one of the timeouts? */

#endif
