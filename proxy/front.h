/*
 * front.h - what stands between accept and whoever speaks on a connection: who the client is
 * (PROXY protocol), whether it may come in (limits.per_ip), and the count of those that are in. The
 * same for every kind of listener; knows nothing of TLS and of the protocols behind it.
 *
 *   front_accepted → [PROXY header] → [per_ip] → door->enter(fd, pass) → … → front_leave(pass)
 */
#ifndef HG_FRONT_H
#define HG_FRONT_H

#include "base/msg.h"
#include "base/net.h"
#include "base/stats.h"
#include "proxy/rows.h"

/* A connection that is in; moved, not copied, from hand to hand, and left exactly once. */
struct front_pass {
    struct net_ip ip; /* whose connection it is: the peer, or whom its PROXY header names */
    char ip_text[NET_TEXT_MAX]; /* the same: "192.0.2.1", "2001:db8::1", "unix" */
    bool named;                 /* by such a header; else ask the socket for what follows: */
    struct net_ip local_ip;     /* where the client connected to */
    uint16_t port, local_port;  /* the client's, and that one's */
    struct listener_row *row;   /* where it came in; NULL: left */
    uint64_t *held;             /* by base/tally.h; NULL: not counted */
    enum stats_id counted_as;   /* the gauge of what is spoken on it */
};

/* A listener's: where accepted connections go. Copied; the row outlives every connection. */
struct front_door {
    enum listener_kind kind; /* LISTENER_METRICS: no client's, everybody may come in */
    struct str address;      /* as the configuration has it; outlives every connection too */
    struct listener_row *row;
    /* Owns the descriptor (non-blocking, nothing behind the header read) and the pass. */
    void (*enter)(int fd, const struct front_pass *pass, const struct front_door *door);
};

/* Takes over what accept4 gave; the connection enters, now or when its header came, or is closed.
 */
void front_accepted(int fd, const struct sockaddr *peer, const struct front_door *door);
/* What is spoken on it is known; until then it counts as STAT_connections_handshake. */
void front_count_as(struct front_pass *pass, enum stats_id gauge);
/* The connection is closed. Twice is fine. */
void front_leave(struct front_pass *pass);
/*
 * From now on and again and again until front_count() is 0: connections from which nothing came
 * for a while, though a PROXY header should, are closed.
 */
void front_drain_quiet(uint64_t idle_ms);
/* How many of this worker's are accepted and not closed. */
unsigned front_count(void);

#endif
