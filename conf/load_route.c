/*
 * load_route.c - routes of a site: exactly one handler each, with the keys that belong to it;
 * folders that are served; sorted so that the first that fits wins.
 */
#include <stdlib.h>

#include "conf/load.h"

static const struct {
    const char *name;
    enum conf_handler handler;
} handlers[] = {{"proxy", CONF_PROXY},
                {"files", CONF_FILES},
                {"redirect", CONF_REDIRECT},
                {"respond", CONF_RESPOND}};

/* The one handler of the route; 0 when there is none that is served, or more than one. */
static enum conf_handler one_handler(struct load *l, const struct member *m)
{
    const struct node *map = m->value;
    const struct member *first = NULL;
    enum conf_handler found = (enum conf_handler)0;
    for (unsigned i = 0; i < map->n; i++) {
        const struct schema_key *k = schema_find(G_ROUTE, map->v[i].key);
        if (!k || !(k->flags & S_HANDLER))
            continue;
        if (first) {
            unsigned id = diags_add(l->d, "E052", map->v[i].at,
                                    "route `" STR_FMT "` has two handlers", STR_ARG(m->key));
            diags_hint(l->d, id, "one of them is too much");
            diags_also(l->d, id, first->at, "the other one");
            return (enum conf_handler)0;
        }
        first = &map->v[i];
        for (size_t h = 0; h < ARRAY_LEN(handlers); h++)
            if (strcmp(k->name, handlers[h].name) == 0)
                found = handlers[h].handler;
    }
    if (!first && !map->stray) {
        unsigned id =
            diags_add(l->d, "E052", m->at, "route `" STR_FMT "` has no handler", STR_ARG(m->key));
        diags_hint(l->d, id, "one of proxy, files, redirect, respond");
    }
    return found;
}

/* Keys that belong to other handlers would do nothing. */
static void check_fit(struct load *l, const struct node *map, enum conf_handler h)
{
    static const struct {
        const char *key;
        unsigned handlers;
        const char *words;
    } fits[] = {
        {"strip_prefix", 1U << CONF_PROXY, "proxy"},
        {"websocket", 1U << CONF_PROXY, "proxy"},
        {"proxy_protocol", 1U << CONF_PROXY, "proxy"},
        {"index", 1U << CONF_FILES, "files"},
        {"listing", 1U << CONF_FILES, "files"},
        {"fallback", 1U << CONF_FILES, "files"},
        {"status", 1U << CONF_REDIRECT | 1U << CONF_RESPOND, "redirect and respond"},
    };
    for (size_t i = 0; i < ARRAY_LEN(fits); i++) {
        const struct member *m = node_member(map, str_of(fits[i].key));
        if (!m || (fits[i].handlers & 1U << h))
            continue;
        unsigned id = diags_add(l->d, "E068", m->at, "`%s` has no effect here", fits[i].key);
        diags_hint(l->d, id, "it belongs to %s", fits[i].words);
    }
}

static void unknown_service(struct load *l, const struct node *n, struct str name,
                            const struct conf_site *site)
{
    unsigned id =
        diags_add(l->d, "E054", n->at, "there is no service `" STR_FMT "` in `" STR_FMT "`",
                  STR_ARG(name), STR_ARG(site->name));
    struct str best = STR_NULL;
    unsigned least = UINT32_MAX, d, own = 0;
    for (unsigned i = 0; i < l->c->n_services; i++) {
        const struct conf_service *s = &l->c->services[i];
        if (!str_eq(s->site, site->name))
            continue;
        own++;
        if (!schema_near(name, s->short_name, &d) || d >= least)
            continue;
        least = d;
        best = s->short_name;
    }
    if (best.n)
        diags_hint(l->d, id, "did you mean `" STR_FMT "`?", STR_ARG(best));
    else if (!own)
        diags_hint(l->d, id, "write services: { " STR_FMT ": http://127.0.0.1:PORT }",
                   STR_ARG(name));
}

/* Whatever route leads there; unless all that it does is to pass TLS on. */
static bool speaks_http(struct load *l, const struct node *n, const struct conf_service *s,
                        const struct conf_site *site)
{
    if (!s->raw || site->tls.issuer == CONF_ISSUER_PASSTHROUGH)
        return true;
    unsigned id = diags_add(l->d, "E068", n->at, "the service " STR_FMT " is tcp://, not HTTP",
                            STR_ARG(s->name));
    diags_hint(l->d, id, "write http:// if it speaks HTTP; raw TCP belongs to `streams`");
    return false;
}

struct conf_service *find_service(struct load *l, const struct node *n, struct str name,
                                  const struct conf_site *site)
{
    struct str full = str_chr(name, '/') < name.n ? name
                                                  : arena_fmt(l->tmp, STR_FMT "/" STR_FMT,
                                                              STR_ARG(site->name), STR_ARG(name));
    for (unsigned i = 0; i < l->c->n_services; i++)
        if (str_eq(l->c->services[i].name, full))
            return speaks_http(l, n, &l->c->services[i], site) ? &l->c->services[i] : NULL;
    unknown_service(l, n, name, site);
    return NULL;
}

static void load_proxy(struct load *l, const struct scope *sc, const struct node *map,
                       struct conf_site *site, struct conf_route *r)
{
    const struct node *n = node_get(map, "proxy");
    struct str name = get_text(l, sc, map, G_ROUTE, "proxy");
    r->strip_prefix = get_bool(l, sc, map, G_ROUTE, "strip_prefix");
    r->websocket = get_bool(l, sc, map, G_ROUTE, "websocket");
    r->send_proxy = load_send_proxy(l, sc, map, G_ROUTE);
    if (name.n)
        r->service = find_service(l, n, name, site);
}

/* A name below the folder: a slash in front means no more than that. */
static void load_fallback(struct load *l, const struct scope *sc, const struct node *map,
                          struct conf_route *r)
{
    struct str name = get_text(l, sc, map, G_ROUTE, "fallback"), rest = name, part;
    bool up = false;
    while (name.n && name.p[0] == '/')
        name = str_sub(name, 1, name.n);
    while (rest.n && str_split(&rest, '/', &part))
        up |= str_eq(part, STR(".."));
    if (up || str_ends(name, STR("/"))) {
        unsigned id = diags_add(l->d, "E037", place_of_key(map, "fallback"),
                                "`fallback` is a file below the folder of `files`");
        diags_hint(l->d, id, "such as index.html");
        return;
    }
    r->fallback = arena_str(l->a, name);
}

static void load_files(struct load *l, const struct scope *sc, const struct node *map,
                       struct conf_route *r)
{
    const struct node *n = node_get(map, "files");
    struct conf *c = l->c;
    struct str path = get_path(l, sc, map, G_ROUTE, "files");
    r->index = get_text(l, sc, map, G_ROUTE, "index");
    if (value_is_off(r->index))
        r->index = STR("");
    if (str_chr(r->index, '/') < r->index.n)
        diags_add(l->d, "E037", place_of_key(map, "index"),
                  "`index` is the name of a file, without a folder");
    r->listing = get_bool(l, sc, map, G_ROUTE, "listing");
    load_fallback(l, sc, map, r);
    if (!path.n)
        return;
    const char *err = load_offline(l) ? NULL
                                      : source_path(l->src, path.p, WANT_FOLDER,
                                                    c->user.p ? c->user.p : "", c->uid, c->gid);
    if (err)
        diags_add(l->d, "E060", n->at, "%s", err);
    for (r->root = 0; r->root < c->n_roots; r->root++)
        if (str_eq(c->roots[r->root].path, path))
            return;
    c->roots[c->n_roots++] = (struct conf_root){.path = path, .place = place_keep(l, n->at)};
}

static void load_redirect(struct load *l, const struct scope *sc, const struct node *map,
                          struct conf_route *r)
{
    r->target = get_text(l, sc, map, G_ROUTE, "redirect");
    r->status = 308;
    if (!is_written(map, "status"))
        return;
    r->status = (unsigned)get_number(l, sc, map, G_ROUTE, "status");
    static const unsigned good[] = {0, 301, 302, 303, 307, 308}; /* 0: reported already */
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        if (good[i] == r->status)
            return;
    unsigned id =
        diags_add(l->d, "E031", place_of_key(map, "status"), "status %u is no redirect", r->status);
    diags_hint(l->d, id, "one of 301, 302, 303, 307, 308");
}

static void load_respond(struct load *l, const struct scope *sc, const struct node *map,
                         struct conf_route *r)
{
    r->body = get_text(l, sc, map, G_ROUTE, "respond");
    r->status =
        is_written(map, "status") ? (unsigned)get_number(l, sc, map, G_ROUTE, "status") : 200;
}

static void load_route(struct load *l, const struct scope *sc, const struct member *m,
                       struct conf_site *site)
{
    const struct node *map = m->value;
    if (map->kind != NODE_MAP || map->bad)
        return;
    enum conf_handler handler = one_handler(l, m);
    if (!handler)
        return;
    struct conf_route *r = &site->routes[site->n_routes++];
    r->path = arena_str(l->a, m->key);
    r->prefix = str_ends(r->path, STR("/"));
    r->handler = handler;
    r->place = place_keep(l, m->at);
    check_fit(l, map, handler);
    r->limits = site->limits;
    load_limits(l, sc, node_get(map, "limits"), G_ROUTE_LIMITS, &r->limits);
    r->rate = site->rate;
    load_rate(l, sc, map, site->name, r->path, &r->rate);
    r->timeouts = site->timeouts;
    load_timeouts(l, sc, node_get(map, "timeouts"), G_ROUTE_TIMEOUTS, &r->timeouts);
    load_route_answer(l, sc, map, site, r);
    switch (handler) {
    case CONF_PROXY:
        load_proxy(l, sc, map, site, r);
        return;
    case CONF_FILES:
        load_files(l, sc, map, r);
        return;
    case CONF_REDIRECT:
        load_redirect(l, sc, map, r);
        return;
    case CONF_RESPOND:
        load_respond(l, sc, map, r);
        return;
    }
}

/* Longest first; exact before prefix of the same length; else the order of the file. */
static int by_length(const void *x, const void *y)
{
    const struct conf_route *a = x, *b = y;
    if (a->path.n != b->path.n)
        return a->path.n > b->path.n ? -1 : 1;
    if (a->prefix != b->prefix)
        return a->prefix ? 1 : -1;
    return memcmp(a->path.p, b->path.p, a->path.n);
}

/* A backend that runs by itself and gets no request is most likely forgotten. */
static void unused_services(struct load *l, const struct conf_site *site)
{
    for (unsigned i = 0; i < l->c->n_services; i++) {
        const struct conf_service *s = &l->c->services[i];
        bool used =
            s->n_backends == 0 || !str_eq(s->site, site->name) || stream_names_service(l, s->name);
        for (unsigned k = 0; k < site->n_all_routes && !used; k++)
            used = site->routes[k].service == s;
        if (used)
            continue;
        unsigned id = diags_add(l->d, "W003", s->place,
                                "no route and no stream leads to the service `" STR_FMT "`",
                                STR_ARG(s->short_name));
        diags_hint(l->d, id, "write routes: { /: { proxy: " STR_FMT " } }", STR_ARG(s->short_name));
    }
}

void load_routes(struct load *l, const struct scope *sc, const struct node *map,
                 const struct node *grpc, struct conf_site *site)
{
    unsigned before = diags_errors(l->d), n = map && map->kind == NODE_MAP ? map->n : 0;
    site->routes = arena_zarray(l->a, struct conf_route, n + grpc_routes_max(grpc));
    for (unsigned i = 0; i < n; i++)
        load_route(l, sc, &map->v[i], site);
    if (site->n_routes)
        qsort(site->routes, site->n_routes, sizeof(*site->routes), by_length);
    load_grpc(l, sc, grpc, site);
    if (diags_errors(l->d) == before)
        unused_services(l, site);
}
