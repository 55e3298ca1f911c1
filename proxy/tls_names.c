/*
 * tls_names.c - which certificate for which host: the sites' names and the given certificates of
 * one snapshot, and the process's table of issued ones. Reading certificates is tls_cert.c's, the
 * handshake tls.c's.
 */
#include "base/log.h"
#include "proxy/tls_parts.h"

/* The certificates of one tls.certificates list, by the names they cover. */
struct given {
    struct tls_cert **v; /* in the order of the file, counted */
    unsigned n;
    struct tls_map by_name; /* SANs; wildcards as "*.example.org" */
};

struct site_tls {
    struct given given;
    unsigned min_version;
    bool star; /* serves what no other site claims */
};

struct name_entry {
    struct site_tls *site;
    struct tls_cert *cert; /* given for this very host; NULL: look on (patterns, issued) */
    struct str pattern;    /* "*.example.org" or "*"; empty: an exact name */
};

struct tls_names {
    struct arena *arena;
    struct given global;
    struct site_tls *sites;
    unsigned n_sites;
    struct tls_map hosts; /* exact names and "*.x" patterns → struct name_entry */
    struct name_entry *star;
    bool patterns, ips, unknown_local;
};

static struct tls_map issued; /* host → struct tls_cert, counted; lives as long as the process */

/* ---- one list of given certificates ---- */

static void warn_dates(const char *path, const struct tls_cert *c)
{
    int64_t now = wall_s();
    if (c->not_after <= now)
        log_warn("certificate has expired: clients will refuse it; put a new one in its place",
                 "cert", "%s", path, "days_ago", "%ld", (long)((now - c->not_after) / 86400));
    else if (c->not_before > now)
        log_warn("certificate is not valid yet: check the clock of this machine, or wait", "cert",
                 "%s", path, "in_seconds", "%ld", (long)(c->not_before - now));
}

static const char *given_load(struct tls_names *n, struct given *g, const struct conf_tls *t)
{
    if (t->n_certs == 0)
        return NULL;
    g->v = arena_zarray(n->arena, struct tls_cert *, t->n_certs);
    for (unsigned i = 0; i < t->n_certs; i++) {
        const struct conf_cert *cc = &t->certs[i];
        const char *why;
        struct tls_cert *c = tls_cert_parse(cc->cert_pem, cc->key_pem, &why);
        if (!c) {
            /* `why` may be the one buffer that the sentence is about to be written to. */
            struct str reason = arena_str(n->arena, str_of(why));
            return tls_sentence("certificate " STR_FMT " with key " STR_FMT ": " STR_FMT,
                                STR_ARG(cc->cert_path), STR_ARG(cc->key_path), STR_ARG(reason));
        }
        warn_dates(arena_strz(n->arena, cc->cert_path), c);
        g->v[g->n++] = c;
        for (unsigned k = 0; k < c->n_names; k++)
            if (!tls_map_get(&g->by_name, c->names[k]))
                tls_map_put(&g->by_name, c->names[k], c); /* the first of the list wins */
    }
    return NULL;
}

static void given_fini(struct given *g)
{
    for (unsigned i = 0; i < g->n; i++)
        tls_cert_unref(&g->v[i]);
    tls_map_fini(&g->by_name);
}

/* `host` canonical: an exact name beats a wildcard. */
static struct tls_cert *given_find(const struct given *g, struct str host)
{
    if (g->n == 0)
        return NULL;
    struct tls_cert *c = tls_map_get(&g->by_name, host);
    size_t dot = str_chr(host, '.');
    if (c || dot == 0 || dot + 1 >= host.n)
        return c;
    char mem[TLS_HOST_MAX + 2];
    struct out wild = out_on(mem, sizeof mem);
    out_char(&wild, '*');
    out_str(&wild, str_sub(host, dot, host.n));
    return tls_map_get(&g->by_name, out_done(&wild));
}

static struct tls_cert *given_for(const struct tls_names *n, const struct site_tls *s,
                                  struct str host)
{
    struct tls_cert *c = NULL;
    if (host.n) {
        c = given_find(&s->given, host);
        if (!c)
            c = given_find(&n->global, host);
    }
    if (!c && s->star)
        c = s->given.n ? s->given.v[0] : n->global.n ? n->global.v[0] : NULL;
    return c;
}

/* ---- building ---- */

/* The configuration's name as the tables know it; a pattern stays as written. */
static struct str conf_name(struct tls_names *n, struct str name, bool *pattern)
{
    char mem[TLS_HOST_MAX + 1];
    struct str out;
    *pattern = str_starts(name, STR("*"));
    if (*pattern)
        return arena_str(n->arena, name);
    enum tls_host_kind kind = tls_host_canonical(name, mem, &out);
    if (kind == TLS_HOST_IP)
        n->ips = true;
    return kind == TLS_HOST_BAD ? STR_NULL : arena_str(n->arena, out);
}

static void add_name(struct tls_names *n, struct site_tls *s, struct str name)
{
    bool pattern;
    struct str host = conf_name(n, name, &pattern);
    struct name_entry *e = arena_znew(n->arena, struct name_entry);
    e->site = s;
    if (str_eq(host, STR("*"))) {
        e->pattern = host;
        s->star = true;
        if (!n->star)
            n->star = e;
        return;
    }
    if (host.n == 0 || tls_map_get(&n->hosts, host))
        return; /* conf has refused it, or the first site has it */
    if (pattern) {
        e->pattern = host;
        n->patterns = true;
    }
    tls_map_put(&n->hosts, host, e);
}

/* The site's list when it has one of its own: conf hands the global one down. */
static bool has_own_certs(const struct conf *c, const struct conf_site *s)
{
    if (s->tls.certs == c->tls.certs || s->tls.n_certs != c->tls.n_certs)
        return s->tls.certs != c->tls.certs;
    for (unsigned i = 0; i < s->tls.n_certs; i++)
        if (s->tls.certs[i].cert_pem.p != c->tls.certs[i].cert_pem.p)
            return true;
    return false;
}

static const char *add_site(struct tls_names *n, const struct conf *c, const struct conf_site *cs)
{
    struct site_tls *s = &n->sites[n->n_sites++];
    if (cs->pass)
        return NULL; /* its certificates are the service's */
    s->min_version = cs->tls.min_version;
    const char *err = has_own_certs(c, cs) ? given_load(n, &s->given, &cs->tls) : NULL;
    if (err)
        return err;
    for (unsigned i = 0; i < conf_site_hosts(cs); i++)
        add_name(n, s, conf_site_host(cs, i));
    return NULL;
}

struct tls_names *tls_names_new(const struct conf *c, const char **err)
{
    struct arena *a = arena_new(4096);
    struct tls_names *n = arena_znew(a, struct tls_names);
    n->arena = a;
    n->unknown_local = c->tls.unknown_sni_local;
    n->sites = arena_zarray(a, struct site_tls, c->n_sites + 1);
    *err = given_load(n, &n->global, &c->tls);
    for (unsigned i = 0; i < c->n_sites && !*err; i++)
        *err = add_site(n, c, &c->sites[i]);
    if (*err) {
        tls_names_free(&n);
        return NULL;
    }
    for (size_t i = 0; i < n->hosts.cap; i++) {
        struct name_entry *e = n->hosts.v[i].value;
        if (e && e->pattern.n == 0)
            e->cert = given_for(n, e->site, (struct str){n->hosts.v[i].key, n->hosts.v[i].n});
    }
    return n;
}

void tls_names_free(struct tls_names **np)
{
    struct tls_names *n = *np;
    *np = NULL;
    if (!n)
        return;
    given_fini(&n->global);
    for (unsigned i = 0; i < n->n_sites; i++)
        given_fini(&n->sites[i].given);
    tls_map_fini(&n->hosts);
    struct arena *a = n->arena;
    arena_free(&a);
}

bool tls_names_has_ip(const struct tls_names *n)
{
    return n->ips;
}

/* ---- the choice ---- */

static const struct name_entry *find_entry(const struct tls_names *n, struct str host)
{
    if (host.n == 0 || host.n > TLS_HOST_MAX)
        return n->star;
    const struct name_entry *e = tls_map_get(&n->hosts, host);
    if (e || !n->patterns)
        return e ? e : n->star;
    /* "a.b.c" is looked for as "*.b.c", then as "*.c": the longest pattern wins. */
    char mem[TLS_HOST_MAX + 1];
    memcpy(mem, host.p, host.n);
    for (size_t i = 1; i + 1 < host.n && !e; i++) {
        if (mem[i] != '.')
            continue;
        mem[i - 1] = '*';
        e = tls_map_get(&n->hosts, (struct str){mem + i - 1, host.n - i + 1});
    }
    return e ? e : n->star;
}

/* One that has ended is as none: an alert says so to programs that would not look at the date. */
static struct tls_cert *issued_get(struct str host)
{
    struct tls_cert *c = tls_map_get(&issued, host);
    return c && c->not_after > wall_s() ? c : NULL;
}

static struct tls_cert *issued_for(const struct name_entry *e, struct str host)
{
    struct tls_cert *c = issued_get(host);
    if (c || e->pattern.n == 0)
        return c;
    c = issued_get(e->pattern);
    bool fits = c && (str_eq(e->pattern, STR("*")) || tls_cert_covers(c, host));
    return fits ? c : NULL;
}

struct tls_choice tls_names_choose(const struct tls_names *n, struct str host)
{
    struct tls_choice out = {0};
    const struct name_entry *e = find_entry(n, host);
    if (e) {
        out.known = true;
        out.min_version = e->site->min_version;
        out.cert = e->cert;
        if (!out.cert && e->pattern.n)
            out.cert = given_for(n, e->site, host);
        if (!out.cert)
            out.cert = issued_for(e, host);
    }
    /* A name that nobody claims, no name, or a host that waits for its certificate: the local CA's,
     * where the config wants that. */
    if (!out.cert && n->unknown_local) {
        out.cert = issued_get(STR("*"));
        if (!out.cert)
            out.cert = issued_get(STR("localhost"));
        out.known = out.known || out.cert;
    }
    return out;
}

void tls_issued(struct str host, struct tls_cert *cert)
{
    char mem[TLS_HOST_MAX + 1];
    struct str name = host;
    if (!str_starts(host, STR("*")) && tls_host_canonical(host, mem, &name) == TLS_HOST_BAD)
        return;
    if (tls_map_get(&issued, name) == cert)
        return; /* sent again, as after a restart of the agent */
    tls_cert_ref(cert);
    if (cert->issued_for.n == 0)
        cert->issued_for = arena_str(cert->arena, name);
    /* An object that already stands for another name cannot lend its copy as the key. */
    struct str key =
        str_eq(cert->issued_for, name) ? cert->issued_for : arena_str(cert->arena, name);
    struct tls_cert *old = tls_map_put(&issued, key, cert);
    tls_cert_unref(&old);
}

int64_t tls_names_not_after(const struct tls_names *n, struct str host)
{
    const struct tls_cert *c = tls_names_choose(n, host).cert;
    return c ? c->not_after : 0;
}
