/*
 * exchange_h2.h - inside of HTTP/2 towards backends: the connections (exchange_h2_conn.c) and the
 * calls on their streams (exchange_h2.c), for each other. Others include exchange.h.
 *
 * Nothing is told to a call's owner from inside nghttp2: what came is kept with the call and
 * delivered when the bytes of a wake-up are worked through.
 */
#ifndef HG_EXCHANGE_H2_H
#define HG_EXCHANGE_H2_H

#include <nghttp2/nghttp2.h>

#include "proxy/exchange.h"

/* A stream's window at first; how far it grows while its consumer keeps up is exchange_h2.c's. */
#define H2_CALL_WINDOW (64 * 1024)
#define H2_CALL_HEAD_OUT_MAX                                            \
    (128 * 1024) /* of a request: what clients may send and what we add \
                  */

#define H2_CALL_COPY 4096 /* smaller pieces that wait are copied, not to hold their slabs */

enum h2_conn_state {
    H2_CONN_CONNECTING,
    H2_CONN_OPEN,
    H2_CONN_LEAVING, /* calls end in order, none begins */
    H2_CONN_CLOSED
};

struct h2_conn {
    struct list link; /* of the instance's, while calls may begin on it */
    struct io io;
    unsigned refs; /* its own one until it is closed, and one of each call */
    enum h2_conn_state state;
    bool opened;                       /* it stood once */
    struct backend_instance *instance; /* counted */
    struct backend_tls *tls;           /* counted; NULL: plain */
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

enum h2_call_state {
    H2_CALL_HEAD, /* the answer's head is awaited */
    H2_CALL_BODY,
    H2_CALL_OVER
};

struct h2_call {
    struct exchange e;
    struct list link, ready, waiting;
    struct h2_conn *conn; /* counted */
    int32_t id;           /* 0: no stream yet, or not any more */
    enum h2_call_state state;

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

/* exchange_h2_conn.c */
/* One with room for one more stream; made when there is none, or for `fresh`. */
struct h2_conn *h2_conn_get(struct backend_instance *i, struct backend_tls *tls, bool fresh);
void h2_conn_unref(struct h2_conn *c);
/* Sends and delivers what there is, at the end of this turn; a closed one still delivers. */
void h2_conn_want_send(struct h2_conn *c);
ssize_t h2_conn_data_read(nghttp2_session *session, int32_t id, uint8_t *buf, size_t length,
                          uint32_t *flags, nghttp2_data_source *source, void *user);

/* exchange_h2.c */
/* It failed: the owner hears of it when it has what came before. */
void h2_call_fail(struct h2_call *x, const char *err, enum exchange_failure how);
void h2_call_ready(struct h2_call *x); /* there is something to deliver */
void h2_call_deliver(struct h2_call *x);

#endif
