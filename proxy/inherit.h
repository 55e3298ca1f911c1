/*
 * inherit.h - listening sockets that outlived the master before this one: its orphaned workers hand
 * theirs over (master_orphans.c), the service manager hands back what was left in its store. Kept
 * here by address until listeners.c asks for them. A socket that goes on being open loses nobody
 * who is queued at it; one bound anew beside it would.
 */
#ifndef HG_INHERIT_H
#define HG_INHERIT_H

#include "conf/conf.h"

/* Takes over fd; closed when it is no listening stream socket, or one that is here already. */
void inherit_add(int fd);
/* The next one that listens at this address, now the caller's, or -1. */
int inherit_take(const struct conf_addr *addr);
/* Closes what nobody took. */
void inherit_drop(void);

#endif
