/*
 * router.c - the tables behind router.h: one open-addressing hash for names, one for the routes of
 * all sites. Keys come from the configuration only, so no request can lengthen a probe sequence,
 * and FNV-1a, which goes byte by byte, gives the hash of every prefix of a path on the way.
 */
#include "proxy/router.h"

#include <stdlib.h>

enum host_kind { HOST_NONE, HOST_EXACT, HOST_WILDCARD };

struct host_entry {
    uint64_t hash;
    struct str name; /* without "*." */
    const struct conf_site *site;
    enum host_kind kind;
    bool redirect;
};

struct route_entry {
    uint64_t hash;
    unsigned site;
    const struct conf_route *route; /* NULL: an empty cell */
};

struct site_lengths { /* longest routes of a site: where the walk over a path may end */
    size_t prefix, exact;
};

struct router {
    struct host_entry *hosts;
    size_t host_mask;
    struct host_entry any; /* "*" */
    struct route_entry *routes;
    size_t route_mask;
    struct site_lengths *lengths; /* by site index */
    struct arena *arena;
};

#define FNV_BASIS 0xcbf29ce484222325u
#define FNV_PRIME 0x100000001b3u

static inline uint64_t fnv_step(uint64_t h, char c)
{
    return (h ^ (unsigned char)c) * FNV_PRIME;
}

static uint64_t fnv(uint64_t h, struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        h = fnv_step(h, s.p[i]);
    return h;
}

/* FNV's low bits know little of the last byte's high ones: fold before masking. */
static inline size_t cell_of(uint64_t h, size_t mask)
{
    return (size_t)(h ^ (h >> 29)) & mask;
}

static uint64_t site_seed(unsigned site)
{
    return (FNV_BASIS ^ site) * FNV_PRIME;
}

/* At least twice the entries, so that an empty cell ends every probe soon. */
static size_t table_size(size_t entries)
{
    size_t n = 8;
    while (n < entries * 2)
        n *= 2;
    return n;
}

static const struct host_entry *host_find(const struct router *r, struct str name,
                                          enum host_kind kind)
{
    uint64_t h = fnv(FNV_BASIS ^ kind, name);
    for (size_t i = cell_of(h, r->host_mask);; i = (i + 1) & r->host_mask) {
        const struct host_entry *e = &r->hosts[i];
        if (e->kind == HOST_NONE)
            return NULL;
        if (e->hash == h && e->kind == kind && str_eq(e->name, name))
            return e;
    }
}

static void host_insert(struct router *r, const struct conf_site *site, struct str name,
                        bool redirect)
{
    struct host_entry e = {.site = site, .redirect = redirect, .kind = HOST_EXACT};
    if (str_eq(name, STR("*"))) {
        if (!r->any.site)
            r->any = e;
        return;
    }
    if (str_starts(name, STR("*."))) {
        e.kind = HOST_WILDCARD;
        name = str_sub(name, 2, name.n);
    } else if (name.n > 2 && name.p[0] == '[') {
        name = str_sub(name, 1, name.n - 1);
    }
    if (name.n == 0 || host_find(r, name, e.kind))
        return; /* the configuration's check reports doubles; the first one stands */
    e.name = name;
    e.hash = fnv(FNV_BASIS ^ e.kind, name);
    size_t i = cell_of(e.hash, r->host_mask);
    while (r->hosts[i].kind != HOST_NONE)
        i = (i + 1) & r->host_mask;
    r->hosts[i] = e;
}

static const struct conf_route *route_find(const struct router *r, unsigned site, uint64_t h,
                                           struct str path)
{
    for (size_t i = cell_of(h, r->route_mask);; i = (i + 1) & r->route_mask) {
        const struct route_entry *e = &r->routes[i];
        if (!e->route)
            return NULL;
        if (e->hash == h && e->site == site && str_eq(e->route->path, path))
            return e->route;
    }
}

static void route_insert(struct router *r, const struct conf_site *site,
                         const struct conf_route *route)
{
    uint64_t h = fnv(site_seed(site->index), route->path);
    struct site_lengths *l = &r->lengths[site->index];
    if (route_find(r, site->index, h, route->path))
        return;
    size_t i = cell_of(h, r->route_mask);
    while (r->routes[i].route)
        i = (i + 1) & r->route_mask;
    r->routes[i] = (struct route_entry){.hash = h, .site = site->index, .route = route};
    if (route->prefix)
        l->prefix = MAX(l->prefix, route->path.n);
    else
        l->exact = MAX(l->exact, route->path.n);
}

struct router *router_new(const struct conf *c)
{
    struct arena *a = arena_new(4096);
    struct router *r = arena_znew(a, struct router);
    size_t hosts = 0;
    size_t routes = 0;
    unsigned sites = 0;
    for (unsigned i = 0; i < c->n_sites; i++) {
        const struct conf_site *s = &c->sites[i];
        hosts += conf_site_hosts(s);
        routes += s->n_routes;
        sites = MAX(sites, s->index + 1);
    }
    r->arena = a;
    r->host_mask = table_size(hosts) - 1;
    r->hosts = arena_zarray(a, struct host_entry, r->host_mask + 1);
    r->route_mask = table_size(routes) - 1;
    r->routes = arena_zarray(a, struct route_entry, r->route_mask + 1);
    r->lengths = arena_zarray(a, struct site_lengths, MAX(sites, 1u));
    for (unsigned i = 0; i < c->n_sites; i++) {
        const struct conf_site *s = &c->sites[i];
        host_insert(r, s, s->host, false);
        for (unsigned k = 0; k < s->n_aliases; k++)
            host_insert(r, s, s->aliases[k], false);
        for (unsigned k = 0; k < s->n_redirect_from; k++)
            host_insert(r, s, s->redirect_from[k], true);
        for (unsigned k = 0; k < s->n_routes; k++)
            route_insert(r, s, &s->routes[k]);
    }
    return r;
}

void router_free(struct router **r)
{
    if (!*r)
        return;
    struct arena *a = (*r)->arena;
    *r = NULL;
    arena_free(&a);
}

bool router_host(const struct router *r, struct str name, struct route_match *m)
{
    const struct host_entry *e = name.n ? host_find(r, name, HOST_EXACT) : NULL;
    if (!e) {
        size_t dot = str_chr(name, '.');
        if (dot > 0 && dot + 1 < name.n)
            e = host_find(r, str_sub(name, dot + 1, name.n), HOST_WILDCARD);
    }
    if (!e)
        e = &r->any;
    m->site = e->site;
    m->redirect_host = e->redirect;
    return e->site != NULL;
}

/*
 * What only the whole path can be: an exact route, or a prefix route that lacks its slash. `h` is
 * the hash of the path.
 */
static bool path_whole(const struct router *r, const struct conf_site *site, struct str path,
                       uint64_t h, struct route_match *m)
{
    const struct conf_route *route = route_find(r, site->index, h, path);
    if (route) {
        m->route = route;
        m->rest = str_sub(path, path.n, path.n);
        return true;
    }
    h = fnv_step(h, '/');
    for (size_t i = cell_of(h, r->route_mask); r->routes[i].route; i = (i + 1) & r->route_mask) {
        const struct route_entry *e = &r->routes[i];
        struct str want = e->route->path;
        if (e->hash == h && e->site == site->index && want.n == path.n + 1 &&
            want.p[path.n] == '/' && str_starts(want, path)) {
            m->route = e->route;
            m->add_slash = true;
            m->rest = str_sub(path, path.n, path.n);
            return true;
        }
    }
    return false;
}

bool router_path(const struct router *r, const struct conf_site *site, struct str path,
                 struct route_match *m)
{
    const struct site_lengths *l = &r->lengths[site->index];
    const size_t longest = MAX(l->prefix, l->exact);
    uint64_t h = site_seed(site->index);
    m->route = NULL;
    m->add_slash = false;
    m->rest = STR_NULL;
    for (size_t i = 0; i < path.n && i < longest; i++) {
        h = fnv_step(h, path.p[i]);
        if (path.p[i] != '/')
            continue;
        struct str head = str_sub(path, 0, i + 1);
        const struct conf_route *route = route_find(r, site->index, h, head);
        if (route) {
            m->route = route;
            m->rest = str_sub(path, i + 1, path.n);
        }
    }
    /* A path that ends in "/" was looked up whole already. */
    if (path.n && path.n <= longest && path.p[path.n - 1] != '/' && path_whole(r, site, path, h, m))
        return true;
    return m->route != NULL;
}
