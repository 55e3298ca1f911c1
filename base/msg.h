/*
 * msg.h - messages between the master and its children: typed, sized and versioned, over a
 * SOCK_SEQPACKET socketpair, descriptors by SCM_RIGHTS. One table makes both ends; an unknown or
 * wrongly sized message kills the peer. A message is a fixed struct and a tail of bytes.
 */
#ifndef HG_MSG_H
#define HG_MSG_H

#include <event2/event_struct.h>

#include "base/arena.h"

#define MSG_VERSION  1
#define MSG_TAIL_MAX 16384

/*
 * name, number (never reused), fixed struct, most tail bytes, descriptors
 * M→W, M→A: master to worker, to agent; W→M, A→M: back.
 */
#define MSG_TABLE(X)                                                                                                                            \
    X(HELLO, 1, struct msg_hello, 0, 0)            /* first, both ways */                                                                       \
    X(SETUP, 2, struct msg_setup, MSG_TAIL_MAX, 1) /* M→W,A: slot; fd: stats */                                                               \
    X(ROOT, 3, struct msg_root, 4096, 1)        /* M→W: an opened static root; tail: its path */                                              \
    X(CONFIG, 4, struct msg_generation, 0, 1)   /* M→W,A: sealed memfd, the bundle */                                                         \
    X(CONFIG_DONE, 5, struct msg_done, 4096, 0) /* W,A→M: in use, or the error in the tail */                                                 \
    X(LISTENER, 6, struct msg_listener, 256, 1) /* M→W: accept here; tail: its address */                                                     \
    X(LISTENER_DROP, 7, struct msg_listener, 0, 0)    /* M→W: stop accepting there, close */                                                  \
    X(LISTENER_DROPPED, 8, struct msg_listener, 0, 0) /* W→M: done */                                                                         \
    X(READY, 9, struct msg_empty, 0, 0)               /* W,A→M: serving */                                                                    \
    X(INSTANCE, 10, struct msg_instance, MSG_TAIL_MAX,                                                                                          \
      0)                                                 /* M→W: tail: "channel/service",                                                     \
     "address", "authority of its URL", then "port=4222" for each of its ports; a NUL behind each */ \
    X(INSTANCE_GONE, 11, struct msg_instance_gone, 0, 0) /* M→W: frozen for ever */                                                           \
    X(DRAIN, 12, struct msg_drain, 0, 0)       /* M→W: frozen for ever: finish, then exit */                                                  \
    X(HOLD, 13, struct msg_hold, 256, 0)       /* M→W: tail: service; on: requests wait */                                                    \
    X(HELD, 14, struct msg_hold, 256, 0)       /* W→M: none is in flight any more */                                                          \
    X(PREPARE, 15, struct msg_prepare, 256, 0) /* M→W: a release generation is reachable */                                                   \
    X(PREPARED, 16, struct msg_prepare, 256, 0)                                                                                                 \
    X(COMMIT, 17, struct msg_prepare, 256, 0) /* M→W: it is current */                                                                        \
    X(COMMITTED, 18, struct msg_prepare, 256, 0)                                                                                                \
    X(TICKET_KEYS, 19, struct msg_ticket_keys, 0, 0) /* M→W: previous, current, next */                                                       \
    X(CERT, 20, struct msg_cert, 4096, 1)       /* A→M→W: fd: PEM chain and key; tail: host */                                              \
    X(CERTS_DONE, 21, struct msg_done, 4096, 0) /* A→M: all certificates at hand were sent */                                                 \
    X(CHALLENGE, 22, struct msg_challenge, MSG_TAIL_MAX,                                                                                        \
      0) /* A→M→W: a name is to be proven; tail: host NUL token NUL answer */                                                               \
    X(HASH, 23, struct msg_empty, 4096, 0) /* W→M→A: password check (named, not yet sent) */                                                \
    X(LOG_REOPEN, 24, struct msg_empty, 0,                                                                                                      \
      0) /* M→W: open the access log again; fd by ACCESS_LOG */                                                                               \
    X(ACCESS_LOG, 25, struct msg_empty, 4096, 1) /* M→W: where access lines go; tail: path */                                                 \
    X(DEMAND, 26, struct msg_empty, 256, 0)      /* W→M: requests wait for a service: tail */                                                 \
    X(TLS_FILES, 27, struct msg_generation, 0,                                                                                                  \
      1) /* M→W: tls.certificates were read again: a new bundle */                                                                            \
    X(INSTANCE_IDLE, 28, struct msg_instance_gone, 0,                                                                                           \
      0)                                   /* W→M: a draining one has no request left here */                                                 \
    X(RESCUE, 29, struct msg_empty, 0, 1)  /* M→W: where to wait for the next master */                                                       \
    X(ORPHAN, 30, struct msg_orphan, 0, 0) /* W→M: frozen for ever: to the next master */                                                     \
    X(ORPHAN_LISTENER, 31, struct msg_orphan_listener, 0, 1) /* W→M: frozen for ever */                                                       \
    X(ROWS, 32, struct msg_empty, 0, 1)      /* M→W: fd: the segment of labelled counters */                                                  \
    X(EJECT, 33, struct msg_eject, 256, 0)   /* W→M: an instance fails, or is back; tail: why */                                              \
    X(RESOLVE, 34, struct msg_empty, 256, 0) /* M→A: look this name up again: tail */                                                         \
    X(RESOLVED, 35, struct msg_resolved, 4096,                                                                                                  \
      0) /* A→M: tail: name NUL, then numbers with a NUL each, or why there are none */                                                       \
    X(RATES, 36, struct msg_empty, 0, 1) /* M→W: fd: the segment of rate cells */                                                             \
    X(TALLY, 37, struct msg_empty, 0, 1) /* M→W: fd: the segment of connections by address */                                                 \
    X(CHALLENGE_DONE, 38, struct msg_challenge_done, 512, 0) /* W→M→A: shown, or why not: tail */                                           \
    X(CERT_STATE, 39, struct msg_cert_state, 1024,                                                                                              \
      0)                                     /* A→M: tail: host NUL issuer NUL last error */                                                  \
    X(CERTS_ASK, 40, struct msg_ask, 512, 0) /* M→A: `headgate certs`; tail: what NUL host */                                                 \
    X(CERTS_ANSWER, 41, struct msg_answer, 0, 1) /* A→M: fd: sealed memfd, JSON for the asker */

enum msg_role { ROLE_MASTER = 1, ROLE_WORKER = 2, ROLE_AGENT = 3 };
enum instance_state {
    INSTANCE_STARTING = 1,
    INSTANCE_READY = 2,
    INSTANCE_DRAINING = 3,
    INSTANCE_HELD = 4
};
/*
 * LISTENER_METRICS: metrics, /healthz and /readyz of headgate itself, no site of anybody.
 * LISTENER_STREAM: raw TCP, one of `streams`.
 */
enum listener_kind {
    LISTENER_HTTP = 1,
    LISTENER_HTTPS = 2,
    LISTENER_METRICS = 3,
    LISTENER_STREAM = 4
};

struct msg_empty {
    uint32_t zero;
};
struct msg_hello {
    uint32_t version, role, slot, pid;
};
struct msg_setup {
    uint32_t slot, workers;
};
struct msg_root {
    uint64_t generation;
    uint32_t index, zero;
};
struct msg_generation {
    uint64_t generation;
};
struct msg_done {
    uint64_t generation;
    uint32_t ok, zero;
};
struct msg_listener {
    uint32_t id, slot, kind, lent;
}; /* id: the address; slot: whose; lent: not the worker's own */
struct msg_instance {
    uint64_t id;
    uint32_t state, tls;
}; /* id: unique for the master's life; tls: its URL is https:// */
struct msg_instance_gone {
    uint64_t id;
};
enum msg_eject_change { MSG_EJECT_FAILED = 1, MSG_EJECT_OUT = 2, MSG_EJECT_BACK = 3 };
struct msg_eject {
    uint64_t id;
    uint32_t change, ms; /* ms: how long it gets no requests */
};
struct msg_resolved {
    uint32_t ok, zero;
};
struct msg_drain {
    uint32_t timeout_ms;
    uint32_t idle_ms; /* kept connections are closed when nothing came for that long */
};
struct msg_orphan {
    uint32_t pid, listeners; /* listeners: that many ORPHAN_LISTENERs follow */
    uint32_t draining, zero;
    uint64_t last_instance; /* the highest id that it was told */
};
struct msg_orphan_listener {
    uint32_t kind, slot;
};
struct msg_hold {
    uint32_t on, in_flight;
};
struct msg_prepare {
    uint64_t generation;
    uint32_t channel, zero;
};
struct msg_ticket_key {
    uint8_t name[16], aes[32], hmac[32];
};
struct msg_ticket_keys {
    uint64_t epoch;
    struct msg_ticket_key previous, current, next;
};
struct msg_cert {
    uint8_t digest[32];
    uint64_t not_after;
    uint32_t issuer, zero;
};

enum msg_challenge_kind {
    MSG_CHALLENGE_TLS_ALPN = 1, /* answer: PEM of certificate and key */
    MSG_CHALLENGE_HTTP = 2,     /* answer: the key authorization */
    MSG_CHALLENGE_DNS = 3,      /* by dns_hook, in the master; answer: the TXT value */
};
struct msg_challenge {
    uint64_t id; /* unique for the agent's life */
    uint32_t kind, on;
};
struct msg_challenge_done {
    uint64_t id;
    uint32_t ok, zero;
};
enum msg_cert_step {
    MSG_CERT_SERVED = 1,  /* all is well; next_at: when it is renewed */
    MSG_CERT_WORKING = 2, /* an order is under way */
    MSG_CERT_WAITING = 3, /* a try failed or a limit is near; next_at: the next one */
};
struct msg_cert_state {
    uint64_t not_after, next_at; /* wall clock s; 0: none */
    uint32_t step, failures;
};
struct msg_ask {
    uint64_t id;
};
struct msg_answer {
    uint64_t id;
    uint32_t status, zero; /* enum admin_status */
};

enum msg_type {
#define X(name, number, type, tail, fds) MSG_##name = number,
    MSG_TABLE(X)
#undef X
};

/* What a peer's handler gets; descriptors are its to close, the bytes are borrowed. */
struct msg {
    enum msg_type type;
    const void *fixed; /* the struct of the table */
    struct str tail;
    int fd; /* -1 when none */
};

struct msg_peer;
/* on_msg(ctx, m); on_gone(ctx, why): the peer closed, or broke the protocol: close it. */
struct msg_peer *msg_peer_new(int fd, void *ctx, void (*on_msg)(void *ctx, struct msg *m),
                              void (*on_gone)(void *ctx, const char *why));
void msg_peer_close(struct msg_peer **p);
/* Queued when the socket is full; order is kept. fd (or -1) is duplicated, the caller keeps its
 * own. */
void msg_send(struct msg_peer *p, enum msg_type type, const void *fixed, struct str tail, int fd);
/* A pair of sockets, both close-on-exec and non-blocking. */
const char *msg_pair(int fds[2]) MUST_USE;
const char *msg_name(enum msg_type type);

#endif
