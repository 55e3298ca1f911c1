/*
 * dns_hook.h - runs acme.dns_hook: a program of the user that puts a TXT record into the DNS, or
 * takes it out. No shell; the master goes on meanwhile. When it is run and for what is
 * master_challenges.c's.
 */
#ifndef HG_DNS_HOOK_H
#define HG_DNS_HOOK_H

#include "base/base.h"

#define DNS_HOOKS_MAX     8 /* at once; the others wait, in their order */
#define DNS_HOOK_LIMIT_MS (5 * 60 * 1000)

struct dns_hook;

/* Copied. */
struct dns_hook_spec {
    struct str path;  /* absolute */
    const char *verb; /* "present", "cleanup": a constant */
    struct str name;  /* of the record, no dot at its end */
    struct str value; /* both of letters, digits, "_", "." and "-" only, or the run fails */
    struct str home;  /* HOME= */
    uid_t uid;        /* (uid_t)-1: as we are */
    gid_t gid;
    uint64_t limit_ms; /* then all of its process group is killed */
};

/*
 * One run at a time for a name, so that what was presented last is cleaned up last. `done` comes
 * once, later, never before this returned: err NULL (exit status 0), or a sentence with the last
 * line of its output, borrowed; the handle is gone then. NULL: nobody wants to know. What it prints
 * goes to the log.
 */
struct dns_hook *dns_hook_start(const struct dns_hook_spec *spec,
                                void (*done)(void *ctx, const char *err), void *ctx);
/* `done` will not be called. True: it runs, and does so to its end; false: it never began. */
bool dns_hook_let_go(struct dns_hook **h);
/* Those that run are asked to end (SIGTERM), those that wait are dropped; nobody is called back. */
void dns_hook_stop_all(void);

#endif
