/*
 * resolve.h - looking up the addresses of a name by getaddrinfo, which knows nsswitch.conf, hosts
 * and resolv.conf as every program of the machine does, in a thread a look, so that a slow name
 * server stops neither the loop nor the other names. For the agent: workers have no threads.
 */
#ifndef HG_RESOLVE_H
#define HG_RESOLVE_H

#include <netdb.h>

#include "base/base.h"

struct resolve;

/* Borrowed by the callback. */
struct resolve_result {
    int rc;                       /* of getaddrinfo: 0, EAI_NONAME, … */
    const char *err;              /* the same in words; NULL: there are addresses */
    const struct addrinfo *found; /* SOCK_STREAM, an entry an address */
};
typedef void resolve_done(void *ctx, const struct resolve_result *r);

enum resolve_kind {
    RESOLVE_USABLE, /* of the families that this machine has itself */
    RESOLVE_A,      /* whatever this machine has; these two wait where many looks are under way, */
    RESOLVE_AAAA,   /* so that there is always room for the first */
};
/*
 * `name` is copied. `done` is called once, never before this returned; the look is closed by itself
 * afterwards. Names beyond what threads there are wait for one.
 */
struct resolve *resolve_start(const char *name, enum resolve_kind kind, resolve_done *done,
                              void *ctx);
void resolve_cancel(struct resolve **r); /* `done` is not called any more; fine on NULL */
/* Before the loop ends: all looks are to be cancelled or done. Threads may outlive it. */
void resolve_fini(void);

#endif
