/*
 * backend.h - what a worker knows of services: their instances as the master tells (INSTANCE), the
 * kept connections to each, and the requests that wait for a ready one. How a backend is spoken to
 * is exchange.h's.
 */
#ifndef HG_BACKEND_H
#define HG_BACKEND_H

#include "base/io.h"
#include "base/msg.h"
#include "proxy/backend_tls.h"
#include "proxy/drain.h"
#include "proxy/eject.h"
#include "proxy/rows.h"

#define BACKEND_WAITERS_MAX 1024 /* requests held for one service, in this worker */
#define BACKEND_IDLE_MAX \
    512 /* kept connections an instance, in this worker: as many as were busy at once */

struct backend_service {
    struct list link;
    struct str name;       /* "beta/api" */
    struct list instances; /* as the master told: struct backend_instance */
    struct list waiters;   /* struct backend_waiter, oldest first */
    unsigned n_waiters;
    struct deadline retry; /* looks again at instances that were suspected */
    struct list streams;   /* struct backend_stream: what ends when the service is held */
    bool round;            /* balance: round */
    enum { HOLD_OFF, HOLD_ON, HOLD_TOLD } hold; /* told: that no request is left */
    struct service_row *row;                    /* what of it is counted */
};

/* A connection of raw bytes, which nobody can end in order. Embed it, zeroed. */
struct backend_stream {
    struct list link;
    void (*end)(struct backend_stream *);
};

/* Counted: by its service while the master has it, and by each connection. */
struct backend_instance {
    struct list link;
    unsigned refs;
    uint64_t id;
    struct backend_service *service;
    enum instance_state state;
    bool gone;              /* INSTANCE_GONE came */
    uint64_t suspect_until; /* ms: a connect just failed; others first */
    struct eject eject;
    struct backend_tls_peer tls; /* how it was spoken to last; also of its kept connections */
    unsigned busy;               /* requests on it now */
    struct drain_group drains;   /* those of them that have no end of their own */
    struct list idle;            /* kept connections, last used first */
    unsigned n_idle;
    struct list shared;   /* connections that take many requests at a time (HTTP/2) */
    uint32_t streams;     /* … as many as it said last; 0: nothing yet */
    struct list tied;     /* struct backend_stream: what goes on until it is gone */
    struct str ports;     /* "name=4222", a NUL behind each */
    struct str text;      /* address as told */
    struct str authority; /* of its URL, as written; empty: supervised */
    bool by_tls;          /* its URL is https:// */
    struct sockaddr_storage addr;
    socklen_t addr_len;
    char id_text[24];
};

/* A request that waits for a ready instance. Embed it, zeroed. */
struct backend_waiter {
    struct list link;
    struct backend_service *service;
    struct deadline deadline;
    /* An instance is there (borrowed), or NULL: the time is up, or too many wait already. */
    void (*on_instance)(struct backend_waiter *, struct backend_instance *);
};

/* Made at first mention, kept for the worker's life: names come from the configuration only. */
struct backend_service *backend_service(struct str name);
/* The ready instance whose turn it is, or NULL: none, or the service is held. */
struct backend_instance *backend_choose(struct backend_service *s);
unsigned backend_count(const struct backend_service *s); /* its instances, ready or not */
/* on_instance follows, at once when one is ready; never after backend_wait_cancel. */
void backend_wait(struct backend_service *s, struct backend_waiter *w, uint64_t ms);
void backend_wait_cancel(struct backend_waiter *w);
/* A connect to it failed: others are preferred for a moment. */
void backend_suspect(struct backend_instance *i);
/* It failed as a backend (no connection, no HTTP), or answered: counted, and told to the master. */
void backend_failed(struct backend_instance *i, const char *why);
void backend_served(struct backend_instance *i);
/*
 * The settings of TLS towards it from now on (NULL: plain). Connections kept under others are
 * closed.
 */
void backend_use_tls(struct backend_instance *i, struct backend_tls *t);
/* The host of its URL without port and brackets; empty for a Unix socket. */
struct str backend_host(const struct backend_instance *i);
struct backend_instance *backend_ref(struct backend_instance *i);
void backend_unref(struct backend_instance **i);

/*
 * A connect to a port of the dynamic range where nobody listens may meet itself (both ends the same
 * socket) when the kernel picks that very port: then there is no backend.
 */
bool backend_met_itself(const struct backend_instance *i, int fd);

/* Where it is, or one of its ports (empty: none). False: it has no such port. */
bool backend_address(const struct backend_instance *i, struct str port, struct sockaddr_storage *sa,
                     socklen_t *len) MUST_USE;

/* Who opens a connection to it says so, and when that did not come about. */
void backend_connect_begun(struct backend_instance *i);
void backend_connect_failed(struct backend_instance *i);

/* A request is on it from now on. */
void backend_request_begun(struct backend_instance *i);
/* A request on it is over; tells when a draining one has none left. */
void backend_request_over(struct backend_instance *i);

/* `end` may be called from now on, when the service is held, until backend_stream_leave. */
void backend_stream_enter(struct backend_service *s, struct backend_stream *st,
                          void (*end)(struct backend_stream *));
void backend_stream_leave(struct backend_stream *st);
/*
 * The same, when the instance left the configuration and the time to drain is over. One that has a
 * process of ours closes its connections itself when it ends.
 */
void backend_tie(struct backend_instance *i, struct backend_stream *st,
                 void (*end)(struct backend_stream *));
/*
 * This worker takes nothing new: the streams on all instances end, those that come too, in the
 * first half of `limit` ms (0: there is none) and within 10 s. An instance that drains, and one
 * whose service is held, ends its own by itself.
 */
void backend_drain(uint64_t limit);

/* To the master. */
struct backend_reports {
    void (*on_idle)(uint64_t id); /* a draining instance has no request left; once for each */
    void (*on_held)(struct str service); /* a held service has no request left; once each time */
    /* `ms`: EJECT_OUT, for how long; `why`: EJECT_FAILED and EJECT_OUT, a constant */
    void (*on_eject)(uint64_t id, enum eject_change change, uint64_t ms, const char *why);
};
void backend_setup(const struct backend_reports *reports);
/* From the master. */
void backend_on_instance(const struct msg_instance *m, struct str tail);
void backend_on_gone(const struct msg_instance_gone *m);
void backend_on_hold(const struct msg_hold *m, struct str service);

#endif
