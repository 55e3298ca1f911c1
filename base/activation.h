/*
 * activation.h - descriptors that the service manager handed over at start (sd_listen_fds(3)):
 * sockets that it bound for us, and what we left in its store. Names and numbers only; what a
 * descriptor is good for is for who asks for it.
 */
#ifndef HG_ACTIVATION_H
#define HG_ACTIVATION_H

#include "base/base.h"

#define ACTIVATION_MAX 4096 /* descriptors; what comes behind them is closed */

struct activation {
    struct str name; /* as LISTEN_FDNAMES says; "unknown" when it does not */
    int fd;          /* close-on-exec; -1 once it was taken */
};

/*
 * Reads LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES and takes them out of the environment, so that no
 * child believes they were meant for it. To be called once, before anything else opens or closes
 * descriptors. Without them, or when they are another process's, there are none.
 */
void activation_init(void);
unsigned activation_count(void);
/* In the order given; i < activation_count(). Whoever keeps the fd for itself sets it to -1. */
struct activation *activation_at(unsigned i);
/* The first at or behind *i with this name and not taken; *i is set behind it. NULL: no more. */
struct activation *activation_next(struct str name, unsigned *i);
/* For tests and orderly ends: closes what nobody took, forgets all. */
void activation_fini(void);

#endif
