/*
 * listeners.h - the listening sockets: for each address one SO_REUSEPORT socket a worker slot,
 * bound and kept by the master; a Unix socket and one that the service manager passed (fd:NAME) are
 * one queue that all slots share. Which worker holds which one is master_workers.c's.
 */
#ifndef HG_LISTENERS_H
#define HG_LISTENERS_H

#include "base/base.h" /* first: it says which C library we want */
#include "conf/conf.h"

struct worker;

struct listener_sock {
    int fd;
    bool listening;        /* listen(2) is called when a worker first gets it */
    struct worker *holder; /* who accepts on it now; NULL: nobody */
};

struct listener {
    struct list link;
    struct list known; /* of all that are open */
    uint32_t id;       /* unique for the master's life */
    enum conf_listen_kind kind;
    struct conf_addr addr;       /* text owned */
    bool v4_only;                /* [::] was asked for, the machine has no IPv6 */
    int shared_fd;               /* Unix, fd:NAME: all slots share it; -1 for the others */
    ino_t path_id;               /* Unix: the file that we made */
    struct listener_sock *socks; /* by slot */
    unsigned n_socks;
    unsigned stored; /* sockets that the service manager keeps too (master_store.c) */
};

/*
 * Binds the address once for each slot and appends the listener to `into`; fd:NAME may stand for
 * several. Nothing is bound on failure, and a sentence that names address, place in the config,
 * cause and cure comes back (made in `a`); errno says what bind said.
 * `shared`: the address is ours already, under another kind; no check for other programs then.
 */
const char *listener_open(struct arena *a, const struct conf_listen *l, unsigned slots, bool shared,
                          struct list *into) MUST_USE;
/* Binds the sockets for more slots; the ones that it has stay as they are. */
const char *listener_grow(struct arena *a, struct listener *l, unsigned slots) MUST_USE;
/* Begins to take connections on one socket. */
const char *listener_listen(struct listener_sock *s) MUST_USE;
void listener_close(struct listener **l);
bool listener_same(const struct listener *l, const struct conf_listen *c);
const char *listener_kind_text(enum conf_listen_kind k); /* "http", "https", … */

#endif
