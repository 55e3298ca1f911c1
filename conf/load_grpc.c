/*
 * load_grpc.c - `grpc` of a site: which service the calls of which package go to, who may call from
 * other origins. A call's route is made like any other, so that limits and fields hold for it too.
 */
#include <stdlib.h>

#include "conf/load.h"

static void check_protocol(struct load *l, const struct node *at, const struct conf_service *s)
{
    if (!s || s->protocol != CONF_HTTP1)
        return;
    unsigned id = diags_add(l->d, "E068", at->at,
                            "gRPC goes to the service `" STR_FMT "`, which speaks HTTP/1.1",
                            STR_ARG(s->short_name));
    diags_hint(l->d, id, "write protocol: grpc into the service");
}

static void add_route(struct load *l, const struct scope *sc, const struct node *n,
                      struct str package, struct str service, struct conf_site *site)
{
    struct conf_route *r = &site->grpc.routes[site->grpc.n_routes++];
    site->n_all_routes++;
    r->package = arena_str(l->a, package);
    r->path = package.n ? arena_fmt(l->a, "grpc:" STR_FMT, STR_ARG(package)) : STR("grpc");
    r->prefix = true;
    r->handler = CONF_PROXY;
    r->place = place_keep(l, n->at);
    r->rate = site->rate;
    r->limits = site->limits;
    r->timeouts = site->timeouts;
    load_route_answer(l, sc, NULL, site, r);
    r->service = find_service(l, n, service, site);
    check_protocol(l, n, r->service);
}

/* The longest package first: the first that fits is the one. */
static int by_package(const void *x, const void *y)
{
    const struct conf_route *a = x, *b = y;
    return a->package.n == b->package.n ? 0 : a->package.n > b->package.n ? -1 : 1;
}

static void load_routes_of(struct load *l, const struct scope *sc, const struct node *map,
                           struct conf_site *site)
{
    const struct node *packages = node_get(map, "packages");
    unsigned n = packages && packages->kind == NODE_MAP ? packages->n : 0;
    site->grpc.routes = site->routes + site->n_routes;
    struct str service = get_text(l, sc, map, G_GRPC, "service"), name;
    for (unsigned i = 0; i < n; i++)
        if (load_expand(l, sc, packages->v[i].value, &name))
            add_route(l, sc, packages->v[i].value, packages->v[i].key, name, site);
    if (service.n)
        add_route(l, sc, node_get(map, "service"), STR(""), service, site);
    if (!site->grpc.n_routes && !map->stray) {
        unsigned id = diags_add(l->d, "E053", map->at, "`grpc` names no service");
        diags_hint(l->d, id, "write grpc: SERVICE");
    }
    if (site->grpc.n_routes)
        qsort(site->grpc.routes, site->grpc.n_routes, sizeof(*site->grpc.routes), by_package);
}

/* "https://app.example.org": what browsers send in Origin (RFC 6454 6.2), or "*". */
static bool is_origin(struct str s)
{
    struct str rest = str_starts(s, STR("https://"))  ? str_sub(s, 8, s.n)
                      : str_starts(s, STR("http://")) ? str_sub(s, 7, s.n)
                                                      : STR("");
    return str_eq(s, STR("*")) || (rest.n && str_chr(rest, '/') == rest.n);
}

static void load_cors(struct load *l, const struct scope *sc, const struct node *map,
                      struct conf_grpc *g)
{
    const struct node **items;
    g->n_cors = get_list(l, sc, map, G_GRPC, "cors", &g->cors, &items);
    for (unsigned i = 0; i < g->n_cors; i++) {
        g->cors_any |= str_eq(g->cors[i], STR("*"));
        if (is_origin(g->cors[i]))
            continue;
        unsigned id = diags_add(l->d, "E036", items[i]->at, "`" STR_FMT "` is no origin",
                                STR_ARG(g->cors[i]));
        diags_hint(l->d, id, "an origin has a scheme and no path: https://app.example.org");
    }
}

unsigned grpc_routes_max(const struct node *map)
{
    const struct node *packages = map ? node_get(map, "packages") : NULL;
    return packages && packages->kind == NODE_MAP ? packages->n + 1 : 1;
}

void load_grpc(struct load *l, const struct scope *sc, const struct node *map,
               struct conf_site *site)
{
    site->n_all_routes = site->n_routes;
    if (!map || map->bad || map->kind != NODE_MAP)
        return;
    site->grpc.on = true;
    site->grpc.web = get_bool(l, sc, map, G_GRPC, "web");
    site->grpc.max_message = get_number(l, sc, map, G_GRPC, "max_message");
    load_cors(l, sc, map, &site->grpc);
    load_routes_of(l, sc, map, site);
}
