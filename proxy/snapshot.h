/*
 * snapshot.h - one configuration as a worker uses it: immutable, counted. A request holds the one
 * it began with; a reload swaps the current pointer and the last holder frees the old one.
 */
#ifndef HG_SNAPSHOT_H
#define HG_SNAPSHOT_H

#include "conf/conf.h"
#include "proxy/backend_tls.h"
#include "proxy/router.h"
#include "proxy/tls.h"

struct metrics_rows;

struct snapshot {
    unsigned refs;
    struct conf *conf;
    struct router *router;
    struct tls_names *names;
    struct metrics_rows *rows;
    int *root_fds;                    /* conf.roots[i] opened (O_PATH); owned */
    struct backend_tls **backend_tls; /* of conf.services[i]; NULL: plain */
};

/* Takes over the conf's reference and the descriptors, also when it fails. */
struct snapshot *snapshot_new(struct conf *c, int *root_fds, const char **err);
static inline struct snapshot *snapshot_ref(struct snapshot *s)
{
    s->refs++;
    return s;
}
void snapshot_unref(struct snapshot **s);
struct snapshot *snapshot_current(void);       /* borrowed; NULL before the first */
void snapshot_set_current(struct snapshot *s); /* takes over the reference */

#endif
