/*
 * front.h - what stands between accept and whoever speaks on a connection: who the client is,
 * whether it may come in, and the count of those that are in. The same for every kind of listener;
 * knows nothing of TLS and of the protocols behind it.
 *
 *   front_accepted → door->enter(fd, pass) → … → front_leave(pass)
 */
#ifndef HG_FRONT_H
#define HG_FRONT_H

#include "base/msg.h"
#include "base/net.h"
#include "proxy/rows.h"

/* A connection that is in; moved, not copied, from hand to hand, and left exactly once. */
struct front_pass {
    struct net_ip ip;           /* whose connection it is */
    char ip_text[NET_TEXT_MAX]; /* the same: "192.0.2.1", "2001:db8::1", "unix" */
    struct listener_row *row;   /* where it came in */
};

/* A listener's: where accepted connections go. Copied; the row outlives every connection. */
struct front_door {
    enum listener_kind kind;
    struct str address; /* as the configuration has it; outlives every connection too */
    struct listener_row *row;
    /* Owns the descriptor (non-blocking, nothing read from it) and the pass from now on. */
    void (*enter)(int fd, const struct front_pass *pass, const struct front_door *door);
};

/* Takes over what accept4 gave; the connection enters, or is closed. */
void front_accepted(int fd, const struct sockaddr *peer, const struct front_door *door);
/* The connection is closed. Twice is fine. */
void front_leave(struct front_pass *pass);
/* How many of this worker's are accepted and not closed. */
unsigned front_count(void);

#endif
