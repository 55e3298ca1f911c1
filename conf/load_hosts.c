/*
 * load_hosts.c - names over all sites: each is claimed once, and each has a certificate from
 * somewhere that can give one.
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

static void no_certificate(struct load *l, const struct host_use *h, bool written)
{
    unsigned id;
    if (written)
        id = diags_add(l->d, "E059", h->at, "none of tls.certificates covers `" STR_FMT "`",
                       STR_ARG(h->name));
    else
        id = diags_add(l->d, "E059", h->at, "`" STR_FMT "` has no certificate", STR_ARG(h->name));
    diags_hint(l->d, id,
               "write acme: { email: you@… } at the top level, or tls: { certificates: … }, or "
               "tls: { issuer: local }");
}

/* ---- can the CA have the name proven? ---- */

static bool is_wildcard(struct str host)
{
    return str_starts(host, STR("*."));
}

/* May the challenge ever be tried for a host: a wildcard, or one without a star? */
static bool can_work(const struct load *l, enum conf_challenge c, bool wildcard)
{
    switch (c) {
    case CONF_TLS_ALPN_01:
        return !wildcard && conf_listens(l->c, CONF_LISTEN_HTTPS);
    case CONF_HTTP_01:
        return !wildcard && conf_listens(l->c, CONF_LISTEN_HTTP);
    case CONF_DNS_01:
        return true;
    case CONF_CHALLENGES:
        break;
    }
    return false;
}

static bool any_can_work(const struct load *l, bool wildcard)
{
    const struct conf_acme *acme = &l->c->acme;
    for (unsigned i = 0; i < acme->n_challenges; i++)
        if (can_work(l, acme->challenges[i], wildcard))
            return true;
    return acme->n_challenges == 0; /* which was reported */
}

static bool is_address(struct str host)
{
    struct conf_addr ip;
    return host.n && (host.p[0] == '[' || value_ip(host, 1, &ip));
}

static bool only_public_cas(const struct conf_acme *acme)
{
    for (unsigned i = 0; i < acme->n_cas; i++)
        if (!acme->cas[i].known)
            return false;
    return acme->n_cas > 0;
}

static void check_provable(struct load *l, const struct host_use *h)
{
    const struct conf_tls by_name = {.issuer = CONF_ISSUER_AUTO};
    unsigned id;
    if (is_address(h->name)) {
        id = diags_add(l->d, "E074", h->at, "`issuer: acme` for the address " STR_FMT,
                       STR_ARG(h->name));
        diags_hint(l->d, id, "ACME is for names; leave `issuer` away: the local CA signs for it");
    } else if (is_wildcard(h->name) && !any_can_work(l, true)) {
        id = diags_add(l->d, "E074", h->at, "`" STR_FMT "` can be proven by dns-01 only",
                       STR_ARG(h->name));
        diags_hint(l->d, id,
                   "write acme: { challenge: [dns-01], dns_hook: PROGRAM }, or name each "
                   "host");
    } else if (conf_issuer_for(&by_name, h->name) == CONF_ISSUER_LOCAL &&
               only_public_cas(&l->c->acme)) {
        id = diags_add(l->d, "W007", h->at, "no public CA signs for `" STR_FMT "`",
                       STR_ARG(h->name));
        diags_hint(l->d, id,
                   "leave `issuer: acme` away: the local CA signs for it; or name a CA "
                   "of your own in acme.ca");
    }
}

/* Once for all hosts without a star: they only differ in their names. */
static void check_challenges(struct load *l, const struct host_use *first)
{
    const struct node *map = node_get(l->root, "acme");
    const struct conf_acme *acme = &l->c->acme;
    bool work = any_can_work(l, false);
    unsigned id;
    if (!work && first && !is_address(first->name)) {
        bool alpn = acme->challenges[0] == CONF_TLS_ALPN_01;
        id = diags_add(
            l->d, "E074", is_written(map, "challenge") ? place_of_key(map, "challenge") : map->at,
            "no challenge can work for `" STR_FMT "`: %s needs an %s address", STR_ARG(first->name),
            alpn ? "tls-alpn-01" : "http-01", alpn ? "https" : "http");
        diags_hint(l->d, id, "write listen: { %s }, or another challenge",
                   alpn ? "https: \":443\"" : "http: \":80\"");
        return;
    }
    for (unsigned i = 0; i < acme->n_challenges && is_written(map, "challenge") && work; i++) {
        enum conf_challenge c = acme->challenges[i];
        if (can_work(l, c, false))
            continue;
        bool alpn = c == CONF_TLS_ALPN_01;
        id = diags_add(l->d, "W007", place_of_key(map, "challenge"),
                       "%s is never tried: no %s address is listened on",
                       alpn ? "tls-alpn-01" : "http-01", alpn ? "https" : "http");
        diags_hint(l->d, id, "take it out of the list");
    }
}

/* ---- each host ---- */

/* True when the host's certificate comes by ACME. */
static bool check_certificate(struct load *l, const struct host_use *h)
{
    const struct conf_tls *tls = &h->site->tls;
    bool written = certs_written(l, h->site);
    if (tls->issuer == CONF_ISSUER_PASSTHROUGH ||
        conf_issuer_for(tls, h->name) == CONF_ISSUER_LOCAL || (written && load_offline(l)) ||
        tls_covers(tls, h->name))
        return false;
    if (written && !tls->n_certs)
        return false; /* they could not be read, which was said */
    if (str_eq(h->name, STR("*"))) {
        unsigned id = diags_add(l->d, "E069", h->at, "the host `*` has no certificate");
        diags_hint(l->d, id, "it needs tls.certificates, or tls: { issuer: local }");
        return false;
    }
    if (!l->c->acme.on) {
        no_certificate(l, h, written);
        return false;
    }
    check_provable(l, h);
    return true;
}

void check_hosts(struct load *l)
{
    const struct host_use *plain = NULL;
    bool any = false;
    check_twice(l);
    if (!conf_ends_tls(l->c))
        return;
    for (unsigned i = 0; i < l->n_hosts; i++) {
        const struct host_use *h = &l->hosts[i];
        if (!check_certificate(l, h))
            continue;
        any = true;
        if (!plain && !is_wildcard(h->name))
            plain = h;
    }
    if (any)
        check_challenges(l, plain);
}
