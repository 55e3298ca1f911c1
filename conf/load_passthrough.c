/*
 * load_passthrough.c - sites whose TLS is passed on unopened: of what a site may have, they have a
 * host and one service. All else would look as if it were served.
 */
#include "conf/load.h"

enum conf_send_proxy load_send_proxy(struct load *l, const struct scope *sc, const struct node *map,
                                     enum schema_group g)
{
    struct str text = get_text(l, sc, map, g, "proxy_protocol");
    return str_eq(text, STR("v1"))   ? CONF_SEND_PROXY_V1
           : str_eq(text, STR("v2")) ? CONF_SEND_PROXY_V2
                                     : CONF_SEND_PROXY_OFF;
}

void check_passthrough_global(struct load *l)
{
    const struct node *tls = node_get(l->root, "tls");
    if (l->c->tls.issuer != CONF_ISSUER_PASSTHROUGH)
        return;
    l->c->tls.issuer = CONF_ISSUER_AUTO;
    unsigned id = diags_add(l->d, "E068", place_of_key(tls, "issuer"),
                            "`issuer: passthrough` is for a channel or a site");
    diags_hint(l->d, id, "write it into the `tls` of those whose backends have certificates");
}

static void no_effect(struct load *l, const struct node *map, const char *const *keys, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct member *m = node_member(map, str_of(keys[i]));
        if (!m || node_is_off(m->value))
            continue;
        unsigned id = diags_add(l->d, "E068", m->at,
                                "`%s` has no effect with `tls: { issuer: passthrough }`", keys[i]);
        diags_hint(l->d, id, "nobody here sees what is inside of the TLS");
    }
}

static const struct conf_route *only_route(struct load *l, const struct member *m,
                                           const struct conf_site *site)
{
    const struct node *routes = node_get(m->value, "routes");
    const struct conf_route *r = site->n_routes == 1 ? &site->routes[0] : NULL;
    if (r && r->handler == CONF_PROXY && str_eq(r->path, STR("/")))
        return r;
    /* One that could not be read was reported. */
    if (routes && routes->kind == NODE_MAP && routes->n == 1 && !site->n_routes)
        return NULL;
    unsigned id = diags_add(l->d, "E068", routes ? routes->at : m->at,
                            "with `tls: { issuer: passthrough }` there is one route, for all");
    diags_hint(l->d, id, "write routes: { /: { proxy: SERVICE } }");
    return NULL;
}

static void check_https(struct load *l, const struct member *m, const struct conf_site *site)
{
    const bool https = conf_listens(l->c, CONF_LISTEN_HTTPS);
    if (!https) {
        unsigned id = diags_add(l->d, "E067", place_of_key(node_get(m->value, "tls"), "issuer"),
                                "`issuer: passthrough`, but no https address is listened on");
        diags_hint(l->d, id, "write listen: { https: \":443\" }");
    } else if (site->https == CONF_HTTPS_BOTH) {
        unsigned id = diags_add(l->d, "E068", place_of_key(m->value, "https"),
                                "`https: both` contradicts `tls: { issuer: passthrough }`");
        diags_hint(l->d, id, "the service takes TLS only: https: redirect, or only");
    }
}

void load_passthrough(struct load *l, const struct member *m, struct conf_site *site)
{
    static const char *const site_keys[] = {"redirect_from", "grpc",   "basic_auth", "headers",
                                            "rate_limit",    "errors", "robots",     "compress"};
    static const char *const tls_keys[] = {"certificates", "hsts", "min_version", "unknown_sni"};
    static const char *const route_keys[] = {"strip_prefix", "headers",    "limits",    "timeouts",
                                             "rate_limit",   "basic_auth", "websocket", "robots"};
    const struct node *tls = node_get(m->value, "tls");
    if (site->tls.issuer != CONF_ISSUER_PASSTHROUGH) {
        for (unsigned i = 0; i < site->n_routes; i++)
            if (site->routes[i].send_proxy != CONF_SEND_PROXY_OFF) {
                unsigned id = diags_add(l->d, "E068", site->routes[i].place,
                                        "`proxy_protocol` has no effect here");
                diags_hint(l->d, id, "it belongs to `tls: { issuer: passthrough }`");
            }
        return;
    }
    /* What a channel inherits was not written for it. */
    if (!site->is_channel) {
        no_effect(l, m->value, site_keys, ARRAY_LEN(site_keys));
        no_effect(l, tls, tls_keys, ARRAY_LEN(tls_keys));
    }
    check_https(l, m, site);
    const struct conf_route *r = only_route(l, m, site);
    if (!r || !r->service)
        return;
    const struct node *routes = node_get(m->value, "routes");
    no_effect(l, routes->v[0].value, route_keys, ARRAY_LEN(route_keys));
    site->pass = arena_znew(l->a, struct conf_stream);
    *site->pass = (struct conf_stream){.service = r->service,
                                       .site = site,
                                       .port = STR(""),
                                       .opaque = true,
                                       .host = site->host,
                                       .send_proxy = r->send_proxy,
                                       .idle = get_number(l, NULL, NULL, G_STREAM, "idle"),
                                       .place = site->place};
    l->c->passes_tls = true;
}
