/*
 * load_hosts.c - names over all sites: each is claimed once, and each has a certificate from
 * somewhere that this version can get one from.
 */
#include <stdlib.h>

#include "conf/load.h"

void add_host(struct load *l, struct conf_site *site, struct str name, const struct node *n)
{
    if (l->n_hosts == l->cap_hosts) {
        unsigned cap = l->cap_hosts ? l->cap_hosts * 2 : 32;
        struct host_use *v = arena_zarray(l->tmp, struct host_use, cap);
        if (l->n_hosts)
            memcpy(v, l->hosts, l->n_hosts * sizeof(*v));
        l->hosts = v;
        l->cap_hosts = cap;
    }
    l->hosts[l->n_hosts++] = (struct host_use){.name = name, .at = n->at, .site = site, .node = n};
}

static int by_name(const void *x, const void *y)
{
    const struct host_use *a = *(const struct host_use *const *)x,
                          *b = *(const struct host_use *const *)y;
    size_t n = MIN(a->name.n, b->name.n);
    int c = memcmp(a->name.p, b->name.p, n);
    if (c)
        return c;
    if (a->name.n != b->name.n)
        return a->name.n < b->name.n ? -1 : 1;
    return a < b ? -1 : 1; /* the order of the file */
}

static void check_twice(struct load *l)
{
    struct host_use **sorted = arena_zarray(l->tmp, struct host_use *, l->n_hosts + 1);
    for (unsigned i = 0; i < l->n_hosts; i++)
        sorted[i] = &l->hosts[i];
    qsort(sorted, l->n_hosts, sizeof(struct host_use *), by_name);
    const struct host_use *first = NULL;
    for (unsigned i = 0; i < l->n_hosts; i++) {
        const struct host_use *h = sorted[i];
        if (!first || !str_eq(first->name, h->name)) {
            first = h;
            continue;
        }
        unsigned id = diags_add(l->d, "E055", h->at, "the host `" STR_FMT "` is claimed twice",
                                STR_ARG(h->name));
        if (first->site != h->site)
            diags_hint(l->d, id, "by `" STR_FMT "` and `" STR_FMT "`", STR_ARG(first->site->name),
                       STR_ARG(h->site->name));
        diags_also(l->d, id, first->at, "first here");
    }
}

/* Certificates were written for the site, though an offline check did not read them. */
static bool certs_written(const struct load *l, const struct conf_site *site)
{
    const struct node *sites = node_get(l->root, site->is_channel ? "channels" : "sites");
    const struct member *m = node_member(sites, site->name);
    const struct node *tls = m ? node_get(m->value, "tls") : NULL;
    if (is_written(tls, "certificates"))
        return tls_certs_written(tls);
    return tls_certs_written(node_get(l->root, "tls"));
}

static void check_certificate(struct load *l, const struct host_use *h)
{
    const struct conf_tls *tls = &h->site->tls;
    bool written = certs_written(l, h->site);
    if (h->site->tls.issuer == CONF_ISSUER_PASSTHROUGH ||
        conf_issuer_for(tls, h->name) == CONF_ISSUER_LOCAL || (written && load_offline(l)) ||
        tls_covers(tls, h->name))
        return;
    if (written && !tls->n_certs)
        return; /* they could not be read, which was said */
    unsigned id;
    if (str_eq(h->name, STR("*"))) {
        id = diags_add(l->d, "E069", h->at, "the host `*` has no certificate");
        diags_hint(l->d, id, "it needs tls.certificates, or tls: { issuer: local }");
        return;
    }
    if (written)
        id = diags_add(l->d, "E059", h->at,
                       "none of tls.certificates covers `" STR_FMT
                       "`, and ACME is not available in this version",
                       STR_ARG(h->name));
    else
        id = diags_add(l->d, "E059", h->at,
                       "`" STR_FMT
                       "` needs a certificate, and ACME is not available in this version",
                       STR_ARG(h->name));
    diags_hint(l->d, id, "give one in tls.certificates, or write tls: { issuer: local }");
}

void check_hosts(struct load *l)
{
    check_twice(l);
    if (!conf_ends_tls(l->c))
        return;
    for (unsigned i = 0; i < l->n_hosts; i++)
        check_certificate(l, &l->hosts[i]);
}
