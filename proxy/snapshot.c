/*
 * snapshot.c - making, counting and swapping a worker's configuration.
 */
#include "proxy/snapshot.h"

#include <stdlib.h>
#include <unistd.h>

#include "proxy/metrics.h"

static struct snapshot *current;

static void snapshot_free(struct snapshot *s)
{
    for (unsigned i = 0; s->root_fds && i < s->conf->n_roots; i++)
        if (s->root_fds[i] >= 0)
            close(s->root_fds[i]);
    free(s->root_fds);
    metrics_rows_free(&s->rows);
    for (unsigned i = 0; s->backend_tls && i < s->conf->n_services; i++)
        backend_tls_unref(&s->backend_tls[i]);
    free(s->backend_tls);
    router_free(&s->router);
    tls_names_free(&s->names);
    conf_unref(&s->conf);
    free(s);
}

static bool backend_tls_make(struct snapshot *s, const char **err)
{
    s->backend_tls = calloc(s->conf->n_services + 1, sizeof(struct backend_tls *));
    ASSERT(s->backend_tls);
    for (unsigned i = 0; i < s->conf->n_services; i++) {
        const struct conf_backend_tls *tls = s->conf->services[i].tls;
        if (tls && !(s->backend_tls[i] = backend_tls_get(tls, err)))
            return false;
    }
    return true;
}

struct snapshot *snapshot_new(struct conf *c, int *root_fds, const char **err)
{
    struct snapshot *s = calloc(1, sizeof(*s));
    ASSERT(s);
    s->refs = 1;
    s->conf = c;
    s->root_fds = root_fds;
    s->router = router_new(c);
    s->rows = metrics_rows_new(c);
    s->names = tls_names_new(c, err);
    if (!s->names || !backend_tls_make(s, err)) {
        snapshot_free(s);
        return NULL;
    }
    return s;
}

void snapshot_unref(struct snapshot **sp)
{
    struct snapshot *s = *sp;
    *sp = NULL;
    if (s && --s->refs == 0)
        snapshot_free(s);
}

struct snapshot *snapshot_current(void)
{
    return current;
}

void snapshot_set_current(struct snapshot *s)
{
    struct snapshot *old = current;
    current = s;
    snapshot_unref(&old);
}
