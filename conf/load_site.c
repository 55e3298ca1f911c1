/*
 * load_site.c - channels and sites: names, hosts, and their parts in order. Services, routes and
 * TLS have files of their own.
 */
#include <stdlib.h>

#include "conf/load.h"

static unsigned map_size(const struct node *n)
{
    return n && n->kind == NODE_MAP ? n->n : 0;
}

/* How many services and routes there will be at most: their arrays never move. */
static void count_parts(const struct node *sites, unsigned *services, unsigned *routes)
{
    for (unsigned i = 0; i < map_size(sites); i++) {
        *services += map_size(node_get(sites->v[i].value, "services"));
        *routes += map_size(node_get(sites->v[i].value, "routes"));
    }
}

static unsigned load_names(struct load *l, const struct scope *sc, const struct node *map,
                           const char *key, struct conf_site *site, struct str **out)
{
    const struct node **items;
    struct value_error e;
    unsigned n = get_list(l, sc, map, G_SITE, key, out, &items), kept = 0;
    for (unsigned i = 0; i < n; i++) {
        struct str host;
        if (!value_host(l->a, (*out)[i], &host, &e))
            continue;
        (*out)[kept++] = host;
        add_host(l, site, host, items[i]);
    }
    return kept;
}

static void load_host(struct load *l, struct scope *sc, const struct member *m,
                      struct conf_site *site)
{
    const struct node *map = m->value, *n = node_get(map, "host");
    struct value_error e;
    if (!n && map->stray)
        return;
    if (!n) {
        unsigned id = diags_add(l->d, "E056", m->at, "%s `" STR_FMT "` has no host",
                                site->is_channel ? "channel" : "site", STR_ARG(m->key));
        diags_hint(l->d, id, "write host: www.example.org");
        return;
    }
    struct str text = get_text(l, sc, map, G_SITE, "host");
    if (!text.n || !value_host(l->a, text, &site->host, &e))
        return;
    sc->host = site->host;
    add_host(l, site, site->host, n);
}

static void load_https(struct load *l, const struct scope *sc, const struct node *map,
                       struct conf_site *site)
{
    struct str https = get_text(l, sc, map, G_SITE, "https");
    site->https = str_eq(https, STR("both"))   ? CONF_HTTPS_BOTH
                  : str_eq(https, STR("only")) ? CONF_HTTPS_ONLY
                                               : CONF_HTTPS_REDIRECT;
    if (conf_listens(l->c, CONF_LISTEN_HTTPS) || site->https == CONF_HTTPS_BOTH || !l->c->n_listens)
        return;
    if (is_written(map, "https")) {
        unsigned id =
            diags_add(l->d, "E067", place_of_key(map, "https"),
                      "`https: " STR_FMT "`, but no https address is listened on", STR_ARG(https));
        diags_hint(l->d, id, "write https: both, or listen: { https: \":443\" }");
    }
    site->https = CONF_HTTPS_BOTH; /* where there is only HTTP there is nowhere to redirect to */
}

static void load_site(struct load *l, const struct member *m, bool is_channel)
{
    const struct node *map = m->value;
    struct conf *c = l->c;
    if (map->kind != NODE_MAP || map->bad)
        return;
    struct conf_site *site = &c->sites[c->n_sites];
    site->index = c->n_sites++;
    site->name = arena_str(l->a, m->key);
    site->is_channel = is_channel;
    site->place = place_keep(l, m->at);
    struct scope sc = {.channel = site->name};
    load_host(l, &sc, m, site);
    site->n_aliases = load_names(l, &sc, map, "aliases", site, &site->aliases);
    site->n_redirect_from = load_names(l, &sc, map, "redirect_from", site, &site->redirect_from);
    if (site->n_redirect_from && str_chr(site->host, '*') < site->host.n)
        diags_add(l->d, "E068", place_of_key(map, "redirect_from"),
                  "`redirect_from` needs one `host` to redirect to, not `" STR_FMT "`",
                  STR_ARG(site->host));
    load_https(l, &sc, map, site);
    site->tls = c->tls;
    load_tls(l, &sc, node_get(map, "tls"), &site->tls);
    site->limits = c->limits;
    load_limits(l, &sc, node_get(map, "limits"), G_SITE_LIMITS, &site->limits);
    load_rate(l, &sc, map, site->name, STR(""), &site->rate);
    site->timeouts = c->timeouts;
    load_timeouts(l, &sc, node_get(map, "timeouts"), G_SITE_TIMEOUTS, &site->timeouts);
    load_site_answer(l, &sc, map, site);
    load_services(l, &sc, node_get(map, "services"), site);
    const struct node *routes = node_get(map, "routes"), *grpc = node_get(map, "grpc");
    if (!map_size(routes) && (map->stray || (routes && routes->bad)))
        return;
    if (!map_size(routes) && !grpc && stream_names_site(l, site->name))
        return; /* nothing but raw TCP */
    if (!map_size(routes) && !grpc) {
        unsigned id = diags_add(l->d, "E057", m->at, "%s `" STR_FMT "` has no routes",
                                is_channel ? "channel" : "site", STR_ARG(m->key));
        diags_hint(l->d, id, "write routes: { /: { proxy: SERVICE } }");
        return;
    }
    load_routes(l, &sc, routes, grpc, site);
    load_passthrough(l, m, site);
}

static void name_space(struct load *l, const struct node *channels, const struct node *sites)
{
    for (unsigned i = 0; i < map_size(sites); i++) {
        const struct member *other =
            map_size(channels) ? node_member(channels, sites->v[i].key) : NULL;
        if (!other)
            continue;
        unsigned id = diags_add(l->d, "E051", sites->v[i].at,
                                "`" STR_FMT "` is a channel and a site", STR_ARG(other->key));
        diags_hint(l->d, id, "channels and sites share their names");
        diags_also(l->d, id, other->at, "the channel");
    }
}

void load_sites(struct load *l)
{
    const struct node *channels = node_get(l->root, "channels"),
                      *sites = node_get(l->root, "sites");
    struct conf *c = l->c;
    unsigned services = 0, routes = 0, n = map_size(channels) + map_size(sites);
    count_parts(channels, &services, &routes);
    count_parts(sites, &services, &routes);
    c->sites = arena_zarray(l->a, struct conf_site, n + 1);
    c->services = arena_zarray(l->a, struct conf_service, services + 1);
    c->roots = arena_zarray(l->a, struct conf_root, routes + 1);
    name_space(l, channels, sites);
    for (unsigned i = 0; i < map_size(channels); i++)
        load_site(l, &channels->v[i], true);
    for (unsigned i = 0; i < map_size(sites); i++)
        load_site(l, &sites->v[i], false);
    bool wrong_shape = (channels && channels->bad) || (sites && sites->bad);
    if (n == 0 && !wrong_shape) {
        unsigned id = diags_add(l->d, "E070", (struct diag_place){.file = source_file(l->src)},
                                "there is no channel and no site to serve");
        diags_note(
            l->d, id,
            "write sites: { web: { host: www.example.org, routes: { /: { files: DIR } } } }");
    }
}
