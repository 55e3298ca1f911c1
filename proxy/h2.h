/*
 * h2.h - the HTTP/2 codec towards clients (RFC 9113), on nghttp2: streams in, answers out. Framing
 * and HPACK are nghttp2's; windows, budgets, order of writing and what is refused are ours.
 */
#ifndef HG_H2_H
#define HG_H2_H

#include <nghttp2/nghttp2.h>

#include "proxy/client.h"
#include "proxy/h2_guard.h"
#include "proxy/h2_memory.h"

enum h2_state {
    H2_OPEN,
    H2_LEAVING, /* the first GOAWAY is out: new streams are still taken for a moment */
    H2_LAST,    /* the second one is out: no new streams */
    H2_OVER
};

struct h2 {
    struct client *client;
    nghttp2_session *session;
    struct h2_memory memory; /* nghttp2's */
    enum h2_state state;
    struct list streams;
    unsigned n_streams;
    struct list proceed; /* streams whose last send is out */
    struct list shut;    /* those of them that the client gives no window */
    size_t out_bytes;    /* in the out of all streams, where their windows have room for it */
    size_t counted;      /* what of `memory` the budget knows of */
    size_t window;       /* of the connection */
    size_t owed;         /* bytes that came and for which the connection got no window yet */
    size_t stalled;      /* in all streams' held */
    bool in_shut;        /* the client has no window of the connection left to send in */
    struct pace pace;    /* of the client, while only its window of the connection is missing */
    uint64_t last_out;   /* ms of the last DATA */
    struct turn_task send;
    struct slab *reading; /* where the bytes that nghttp2 looks at lie */
    struct h2_guard guard;
    uint64_t idle_since; /* ms: the last stream ended */
    uint64_t left_since; /* ms: the first GOAWAY */
    uint64_t ping_at;    /* ms: a PING of ours is out; 0: none */
    uint64_t requests;
    uint8_t frame_head[9]; /* of the frame that comes in, and how much of it came */
    unsigned frame_have;
    size_t frame_left; /* bytes of its payload to come */
    int32_t last_id;   /* highest stream that the client opened */
    struct {
        int32_t id; /* a stream whose priority came before it did; 0: none */
        unsigned urgency;
    } early;
    /* Streams that we reset last: frames on them are not the client's fault. NULL: none yet. */
    int32_t *resets;
    unsigned n_resets;
    const char *broken; /* why the connection ends after this turn's writes */
};

struct h2_stream {
    struct list link;
    struct list proceed; /* of h2.proceed or h2.shut */
    struct h2 *h2;
    int32_t id;
    struct req *req;

    /* the request's head, until it is complete */
    size_t head_bytes;
    unsigned n_fields;
    unsigned refuse; /* status for a head that is too much or not allowed; 0: fine */
    const char *refuse_why;
    struct str cookies; /* crumbs joined (RFC 9113 8.2.3) */
    size_t cookies_cap;
    bool head_done;
    struct fields trailers;

    /* its body */
    struct sliceq in;   /* came, but the handler does not take it now: bounded by the window */
    bool in_end;        /* END_STREAM came */
    bool parted;        /* a tunnel whose stream is over, while the backend has not taken all yet */
    size_t held;        /* bytes that the stream gets no window for yet */
    uint64_t discarded; /* of a body whose answer is complete */
    size_t window;      /* of the stream */
    uint64_t last_in, last_out; /* ms of the last progress */
    struct pace pace_in;        /* of the client, while it is asked for more and has window */

    /* the answer */
    unsigned urgency;  /* RFC 9218: 0 first */
    struct sliceq out; /* the handler's present send */
    bool out_fits; /* the stream's window has room for it: only the connection's may be missing */
    bool shut;     /* it could go on, but the client gives no window */
    bool out_end;
    const struct fields *out_trailers;
    struct pace pace_out; /* of the client, while only its window of the stream is missing */
};

extern const struct codec h2_codec;
extern const struct protocol h2_protocol;

#define H2_WINDOW_STREAM (64 * 1024) /* at first; grows while the consumer keeps up */
/* Of an unread request body, before the client is told to stop. */
#define H2_DISCARD_MAX (1024 * 1024)

/* ---- h2_body.c ---- */
void h2_windows_init(struct h2 *h);
void h2_want_body(struct req *r, bool on);
int h2_on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data, size_t n,
               void *user);
void h2_body_pump(struct h2_stream *s); /* hands on what was held back, as long as it is wanted */
void h2_discard(struct h2_stream *s, uint64_t n);
void h2_give_window(struct h2_stream *s, size_t n); /* n bytes of it were taken */
void h2_return_window(struct h2 *h);                /* the connection's, as far as there is room */

void h2_account(struct h2 *h); /* the budget learns what nghttp2 has taken and given back */

/* ---- h2_time.c ---- */
/* Each after what may have changed whose turn it is: to send body; to give window, of which
 * `used` bytes are spent that nghttp2 has not subtracted yet. */
void h2_turn_in(struct h2_stream *s);
void h2_turn_out(struct h2_stream *s, size_t used);
void h2_turns(struct h2 *h); /* … of all streams */
void h2_turn_connection(struct h2 *h);
uint64_t h2_time_left(struct client *c, const char **why);
void h2_timeout(struct client *c, const char *why);

/* ---- h2_answer.c, the sending half, and h2.c for each other ---- */
void h2_parted_over(struct h2_stream *s); /* the request of a parted one is over */
void h2_drained(struct client *c);
void h2_out_drop(struct h2_stream *s);         /* its send is given up */
void h2_window_came(struct h2 *h, int32_t id); /* 0: for all streams */
/* Ends the connection with this turn's writes: GOAWAY with the error code, then close. */
void h2_break(struct h2 *h, uint32_t code, const char *why);
void h2_want_send(struct h2 *h);
ssize_t h2_data_read(nghttp2_session *session, int32_t id, uint8_t *buf, size_t length,
                     uint32_t *flags, nghttp2_data_source *source, void *user);
int h2_data_send(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *head, size_t length,
                 nghttp2_data_source *source, void *user);

#endif
