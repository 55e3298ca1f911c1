/*
 * master_diff.c - what a reload changed, in a few lines for the one who asked for it.
 */
#include "proxy/master.h"

#define LINES_MAX 40

struct lines {
    struct arena *arena;
    struct str text;
    unsigned n, left_out;
};

static void line(struct lines *l, const char *kind, struct str name, const char *what)
{
    if (l->n >= LINES_MAX) {
        l->left_out++;
        return;
    }
    l->n++;
    l->text = arena_fmt(l->arena, STR_FMT "  %s " STR_FMT ": %s\n", STR_ARG(l->text), kind,
                        STR_ARG(name), what);
}

/* ---- sites ---- */

static bool strs_eq(const struct str *a, unsigned n, const struct str *b, unsigned m)
{
    if (n != m)
        return false;
    for (unsigned i = 0; i < n; i++)
        if (!str_eq(a[i], b[i]))
            return false;
    return true;
}

static bool certs_eq(const struct conf_tls *a, const struct conf_tls *b)
{
    if (a->n_certs != b->n_certs)
        return false;
    for (unsigned i = 0; i < a->n_certs; i++)
        if (!str_eq(a->certs[i].cert_pem, b->certs[i].cert_pem) ||
            !str_eq(a->certs[i].key_pem, b->certs[i].key_pem))
            return false;
    return true;
}

static bool tls_eq(const struct conf_tls *a, const struct conf_tls *b)
{
    return a->issuer == b->issuer && a->min_version == b->min_version &&
           a->unknown_sni_local == b->unknown_sni_local && certs_eq(a, b);
}

static struct str root_of(const struct conf *c, const struct conf_route *r)
{
    return r->handler == CONF_FILES ? c->roots[r->root].path : STR("");
}

static struct str service_of(const struct conf_route *r)
{
    return r->service ? r->service->name : STR("");
}

static bool limits_eq(const struct conf_limits *a, const struct conf_limits *b)
{
    return memcmp(a, b, sizeof(*a)) == 0;
}

static bool timeouts_eq(const struct conf_timeouts *a, const struct conf_timeouts *b)
{
    return memcmp(a, b, sizeof(*a)) == 0;
}

static bool rate_eq(const struct conf_rate *a, const struct conf_rate *b)
{
    return a->rate.interval_us == b->rate.interval_us && a->rate.burst == b->rate.burst &&
           str_eq(a->name, b->name);
}

static bool fields_eq(const struct conf_fields *a, const struct conf_fields *b)
{
    if (a->n != b->n)
        return false;
    for (unsigned i = 0; i < a->n; i++)
        if (!str_eq(a->v[i].name, b->v[i].name) || !str_eq(a->v[i].value, b->v[i].value) ||
            a->v[i].remove != b->v[i].remove || a->v[i].https_only != b->v[i].https_only)
            return false;
    return true;
}

static bool files_eq(const struct conf *ca, const struct conf_route *a, const struct conf *cb,
                     const struct conf_route *b)
{
    return str_eq(root_of(ca, a), root_of(cb, b)) && str_eq(a->index, b->index) &&
           a->listing == b->listing && str_eq(a->fallback, b->fallback);
}

static bool route_eq(const struct conf *ca, const struct conf_route *a, const struct conf *cb,
                     const struct conf_route *b)
{
    return str_eq(a->path, b->path) && a->prefix == b->prefix && a->handler == b->handler &&
           str_eq(service_of(a), service_of(b)) && a->strip_prefix == b->strip_prefix &&
           a->websocket == b->websocket && files_eq(ca, a, cb, b) &&
           fields_eq(&a->answer_fields, &b->answer_fields) &&
           fields_eq(&a->backend_fields, &b->backend_fields) && str_eq(a->target, b->target) &&
           a->send_proxy == b->send_proxy && a->status == b->status && str_eq(a->body, b->body) &&
           rate_eq(&a->rate, &b->rate) && limits_eq(&a->limits, &b->limits) &&
           timeouts_eq(&a->timeouts, &b->timeouts);
}

static bool routes_eq(const struct conf *ca, const struct conf_site *a, const struct conf *cb,
                      const struct conf_site *b)
{
    if (a->n_routes != b->n_routes || a->n_all_routes != b->n_all_routes)
        return false;
    for (unsigned i = 0; i < a->n_all_routes; i++) /* those of grpc too */
        if (!route_eq(ca, &a->routes[i], cb, &b->routes[i]))
            return false;
    return true;
}

static bool grpc_eq(const struct conf_grpc *a, const struct conf_grpc *b)
{
    return a->on == b->on && a->web == b->web && a->cors_any == b->cors_any &&
           a->max_message == b->max_message && strs_eq(a->cors, a->n_cors, b->cors, b->n_cors);
}

/* What its answers look like, whichever route they come from. */
static bool answers_eq(const struct conf_site *a, const struct conf_site *b)
{
    if (a->n_error_pages != b->n_error_pages || a->n_compress != b->n_compress ||
        a->dotfiles != b->dotfiles)
        return false;
    for (unsigned i = 0; i < a->n_compress; i++)
        if (a->compress[i] != b->compress[i])
            return false;
    for (unsigned i = 0; i < a->n_error_pages; i++) {
        const struct conf_error_page *p = &a->error_pages[i], *q = &b->error_pages[i];
        if (p->from != q->from || p->to != q->to || !str_eq(p->type, q->type) ||
            !str_eq(p->body, q->body))
            return false;
    }
    return fields_eq(&a->answer_fields, &b->answer_fields) &&
           fields_eq(&a->backend_fields, &b->backend_fields);
}

static bool site_eq(const struct conf *ca, const struct conf_site *a, const struct conf *cb,
                    const struct conf_site *b)
{
    return str_eq(a->host, b->host) &&
           strs_eq(a->aliases, a->n_aliases, b->aliases, b->n_aliases) &&
           strs_eq(a->redirect_from, a->n_redirect_from, b->redirect_from, b->n_redirect_from) &&
           a->https == b->https && tls_eq(&a->tls, &b->tls) && answers_eq(a, b) &&
           grpc_eq(&a->grpc, &b->grpc) && rate_eq(&a->rate, &b->rate) &&
           limits_eq(&a->limits, &b->limits) && timeouts_eq(&a->timeouts, &b->timeouts) &&
           routes_eq(ca, a, cb, b);
}

static const struct conf_site *site_find(const struct conf *c, struct str name)
{
    for (unsigned i = 0; i < c->n_sites; i++)
        if (str_eq(c->sites[i].name, name))
            return &c->sites[i];
    return NULL;
}

static void diff_sites(struct lines *l, const struct conf *old, const struct conf *now)
{
    for (unsigned i = 0; i < now->n_sites; i++) {
        const struct conf_site *s = &now->sites[i], *was = site_find(old, s->name);
        const char *kind = s->is_channel ? "channel" : "site";
        if (!was)
            line(l, kind, s->name, "added");
        else if (!site_eq(old, was, now, s))
            line(l, kind, s->name, "changed");
    }
    for (unsigned i = 0; i < old->n_sites; i++)
        if (!site_find(now, old->sites[i].name))
            line(l, old->sites[i].is_channel ? "channel" : "site", old->sites[i].name, "removed");
}

/* ---- services, listeners, workers ---- */

static void diff_services(struct lines *l, const struct conf *old, const struct conf *now)
{
    for (unsigned i = 0; i < now->n_services; i++) {
        const struct conf_service *s = &now->services[i], *was = conf_service_find(old, s->name);
        if (!was)
            line(l, "service", s->name, s->n_argv ? "added: it starts" : "added");
        else if (!str_eq(was->digest, s->digest))
            line(l, "service", s->name,
                 s->n_argv ? "changed: a new instance takes over when it is ready" : "changed");
        else if (s->n_argv && was->instances != s->instances)
            line(l, "service", s->name,
                 was->instances < s->instances ? "changed: more instances start"
                                               : "changed: fewer instances, the newest drain");
    }
    for (unsigned i = 0; i < old->n_services; i++)
        if (!conf_service_find(now, old->services[i].name))
            line(l, "service", old->services[i].name,
                 old->services[i].n_argv ? "removed: it drains and stops" : "removed");
}

static bool listens_on(const struct conf *c, const struct conf_listen *l)
{
    for (unsigned i = 0; i < c->n_listens; i++)
        if (c->listens[i].kind == l->kind && str_eq(c->listens[i].addr.text, l->addr.text))
            return true;
    return false;
}

static void diff_listens(struct lines *l, const struct conf *old, const struct conf *now)
{
    for (unsigned i = 0; i < now->n_listens; i++)
        if (!listens_on(old, &now->listens[i]))
            line(l, listener_kind_text(now->listens[i].kind), now->listens[i].addr.text,
                 "listening");
    for (unsigned i = 0; i < old->n_listens; i++)
        if (!listens_on(now, &old->listens[i]))
            line(l, listener_kind_text(old->listens[i].kind), old->listens[i].addr.text,
                 "not listening any more");
}

static bool stream_eq(const struct conf_stream *a, const struct conf_stream *b)
{
    return str_eq(a->service->name, b->service->name) && str_eq(a->port, b->port) &&
           a->tls == b->tls && str_eq(a->host, b->host) && str_eq(a->alpn, b->alpn) &&
           a->send_proxy == b->send_proxy && a->idle == b->idle;
}

/* Those that came and went are among the listeners. */
static void diff_streams(struct lines *l, const struct conf *old, const struct conf *now)
{
    for (unsigned i = 0; i < now->n_streams; i++) {
        const struct conf_stream *s = &now->streams[i], *was = conf_stream_find(old, s->address);
        if (was && !stream_eq(was, s))
            line(l, "stream", s->address, "changed: for new connections");
    }
}

static bool ranges_eq(struct net_ranges a, struct net_ranges b)
{
    if (a.n != b.n)
        return false;
    for (unsigned i = 0; i < a.n; i++)
        if (a.v[i].bits != b.v[i].bits || !net_ip_eq(a.v[i].ip, b.v[i].ip))
            return false;
    return true;
}

static void diff_front(struct lines *l, const struct conf *old, const struct conf *now)
{
    if (!ranges_eq(old->proxy_protocol, now->proxy_protocol))
        line(l, "networks of", STR("proxy_protocol"), "changed, for new connections");
    if (!ranges_eq(old->trusted_proxies, now->trusted_proxies))
        line(l, "networks of", STR("trusted_proxies"), "changed");
    if (!limits_eq(&old->limits, &now->limits))
        line(l, "limits", STR("defaults"), "changed");
}

static bool ca_eq(const struct conf_ca *a, const struct conf_ca *b)
{
    return str_eq(a->name, b->name) && str_eq(a->url, b->url) && str_eq(a->staging, b->staging) &&
           a->le_limits == b->le_limits;
}

static bool acme_eq(const struct conf_acme *a, const struct conf_acme *b)
{
    const struct str x[] = {a->email,    a->root_pem, a->dns_hook, a->eab_kid,
                            a->eab_hmac, a->profile,  a->chain};
    const struct str y[] = {b->email,    b->root_pem, b->dns_hook, b->eab_kid,
                            b->eab_hmac, b->profile,  b->chain};
    if (a->on != b->on || !strs_eq(x, ARRAY_LEN(x), y, ARRAY_LEN(y)) || a->n_cas != b->n_cas ||
        a->n_challenges != b->n_challenges || a->key != b->key ||
        a->renew_before != b->renew_before)
        return false;
    for (unsigned i = 0; i < a->n_cas; i++)
        if (!ca_eq(&a->cas[i], &b->cas[i]))
            return false;
    for (unsigned i = 0; i < a->n_challenges; i++)
        if (a->challenges[i] != b->challenges[i])
            return false;
    return true;
}

static void diff_rest(struct lines *l, const struct conf *old, const struct conf *now)
{
    if (old->workers != now->workers)
        line(l, "workers", arena_fmt(l->arena, "%u", old->workers),
             arena_fmt(l->arena, "now %u", now->workers).p);
    diff_front(l, old, now);
    if (!tls_eq(&old->tls, &now->tls))
        line(l, "tls", STR("defaults"), "changed");
    if (!acme_eq(&old->acme, &now->acme))
        line(l, "certificates", STR("acme"),
             "changed: those at hand stay in service until they are renewed");
    if (!str_eq(old->log.to, now->log.to) || old->log.format != now->log.format)
        line(l, "access log", now->log.format == CONF_ACCESS_OFF ? STR("off") : now->log.to,
             "from now on");
}

struct str conf_diff(struct arena *a, const struct conf *old, const struct conf *now)
{
    struct lines l = {.arena = a, .text = STR("")};
    diff_sites(&l, old, now);
    diff_services(&l, old, now);
    diff_listens(&l, old, now);
    diff_streams(&l, old, now);
    diff_rest(&l, old, now);
    if (l.left_out)
        l.text = arena_fmt(a, STR_FMT "  … and %u more\n", STR_ARG(l.text), l.left_out);
    if (l.n)
        return l.text;
    return str_eq(old->digest, now->digest) ? STR("  nothing changed\n")
                                            : STR("  no channel, site or service changed\n");
}
