/*
 * load_stream.c - streams: addresses where raw TCP is taken, and the service that each goes to.
 * After the sites: a stream names a service of one of them.
 */
#include "conf/load.h"

/* The nodes alone, as sites are loaded before streams. `site`: any service of it will do. */
static bool any_names(const struct load *l, struct str name, bool site)
{
    const struct node *streams = node_get(l->root, "streams");
    for (unsigned i = 0; streams && streams->kind == NODE_MAP && i < streams->n; i++) {
        const struct node *n = node_get(streams->v[i].value, "service");
        if (!n || n->kind != NODE_SCALAR)
            continue;
        struct str named = n->text;
        if (str_eq(site ? str_sub(named, 0, str_chr(named, '/')) : named, name))
            return true;
    }
    return false;
}

bool stream_names_site(const struct load *l, struct str site)
{
    return any_names(l, site, true);
}

bool stream_names_service(const struct load *l, struct str service)
{
    return any_names(l, service, false);
}

static const struct conf_site *site_named(const struct load *l, struct str name)
{
    for (unsigned i = 0; i < l->c->n_sites; i++)
        if (str_eq(l->c->sites[i].name, name))
            return &l->c->sites[i];
    return NULL;
}

static void no_service(struct load *l, const struct node *n, struct str name)
{
    struct str best = STR_NULL;
    unsigned least = UINT32_MAX, d;
    unsigned id;
    if (str_chr(name, '/') == name.n)
        id = diags_add(l->d, "E054", n->at,
                       "`" STR_FMT "` names no service: a stream needs CHANNEL/SERVICE",
                       STR_ARG(name));
    else
        id = diags_add(l->d, "E054", n->at, "there is no service `" STR_FMT "`", STR_ARG(name));
    for (unsigned i = 0; i < l->c->n_services; i++) {
        const struct conf_service *s = &l->c->services[i];
        if ((!schema_near(name, s->name, &d) && !schema_near(name, s->short_name, &d)) ||
            d >= least)
            continue;
        least = d;
        best = s->name;
    }
    if (best.n)
        diags_hint(l->d, id, "did you mean `" STR_FMT "`?", STR_ARG(best));
}

static void load_service_of(struct load *l, const struct member *m, struct conf_stream *s)
{
    const struct node *n = node_get(m->value, "service");
    if (!n) {
        unsigned id = diags_add(l->d, "E065", m->at, "the stream " STR_FMT " has no service",
                                STR_ARG(m->key));
        diags_hint(l->d, id, "write { service: CHANNEL/SERVICE }");
        return;
    }
    struct str name = get_text(l, NULL, m->value, G_STREAM, "service");
    if (!name.n)
        return;
    s->service = conf_service_find(l->c, name);
    if (!s->service) {
        no_service(l, n, name);
        return;
    }
    s->site = site_named(l, s->service->site);
}

static void load_port(struct load *l, const struct node *map, struct conf_stream *s)
{
    const struct conf_service *svc = s->service;
    s->port = get_text(l, NULL, map, G_STREAM, "port");
    if (!s->port.n)
        return;
    for (unsigned i = 0; i < svc->n_ports; i++)
        if (str_eq(svc->ports[i].name, s->port))
            return;
    if (!svc->n_argv) {
        unsigned id = diags_add(l->d, "E068", place_of_key(map, "port"),
                                "`port` is for services that headgate runs itself");
        diags_hint(l->d, id, "write the port into the `url` of " STR_FMT, STR_ARG(svc->name));
        return;
    }
    unsigned id = diags_add(l->d, "E068", place_of_key(map, "port"),
                            "the service " STR_FMT " has no port `" STR_FMT "`", STR_ARG(svc->name),
                            STR_ARG(s->port));
    diags_hint(l->d, id,
               "write ports: { " STR_FMT ": auto } there, and $port:" STR_FMT " into `run`",
               STR_ARG(s->port), STR_ARG(s->port));
}

/* Nobody names a port, and the service itself is told of ports only. */
static void check_address(struct load *l, const struct member *m, const struct conf_stream *s)
{
    const struct conf_service *svc = s->service;
    if (s->port.n || !svc->n_argv || svc->listens || !svc->n_ports)
        return;
    unsigned id = diags_add(l->d, "E068", place_of_key(m->value, "service"),
                            "which of its ports? " STR_FMT " is not told of any other address",
                            STR_ARG(svc->name));
    diags_hint(l->d, id, "write port: " STR_FMT, STR_ARG(svc->ports[0].name));
}

static bool is_host(const struct load *l, struct str host)
{
    for (unsigned i = 0; i < l->n_hosts; i++)
        if (str_eq(l->hosts[i].name, host))
            return true;
    return false;
}

static void load_host(struct load *l, const struct node *map, struct conf_stream *s)
{
    struct value_error e;
    struct str text = get_text(l, NULL, map, G_STREAM, "host");
    s->host = s->site->host;
    if (!text.n || !value_host(l->a, text, &s->host, &e))
        return;
    struct diag_place at = place_of_key(map, "host");
    if (!s->tls) {
        unsigned id = diags_add(l->d, "E068", at, "`host` has no effect with `tls: off`");
        diags_hint(l->d, id, "it chooses a certificate");
    } else if (!is_host(l, s->host)) {
        unsigned id =
            diags_add(l->d, "E068", at, "no site has the host `" STR_FMT "`", STR_ARG(s->host));
        diags_hint(l->d, id, "make it one of `aliases` of a site: then it gets a certificate");
    }
}

/* The names as they go over the wire: each with a byte in front that tells its length. */
static void load_alpn(struct load *l, const struct node *map, struct conf_stream *s)
{
    struct str *names;
    const struct node **items;
    unsigned n = get_list(l, NULL, map, G_STREAM, "alpn", &names, &items);
    size_t room = 0;
    if (n && !s->tls) {
        unsigned id = diags_add(l->d, "E068", place_of_key(map, "alpn"),
                                "`alpn` has no effect with `tls: off`");
        diags_hint(l->d, id, "it is a part of TLS");
        return;
    }
    for (unsigned i = 0; i < n; i++)
        room += 1 + names[i].n;
    struct out o = out_on(arena_alloc(l->a, room + 1), room);
    for (unsigned i = 0; i < n; i++) {
        if (names[i].n == 0 || names[i].n > 255) {
            unsigned id = diags_add(l->d, "E068", items[i]->at,
                                    "a protocol's name for ALPN has 1 to 255 bytes");
            diags_hint(l->d, id, "such as mqtt, h2, http/1.1");
            return;
        }
        out_char(&o, (char)(uint8_t)names[i].n);
        out_str(&o, names[i]);
    }
    s->alpn = out_done(&o);
}

static void load_stream(struct load *l, const struct member *m)
{
    struct conf_addr addr;
    struct value_error e;
    if (!value_listen(l->a, m->key, &addr, &e)) {
        unsigned id = diags_add(l->d, e.code, m->at, "%s", e.what);
        if (e.hint[0])
            diags_hint(l->d, id, "%s", e.hint);
        return;
    }
    if (m->value->kind != NODE_MAP || m->value->bad)
        return;
    const struct node *map = m->value;
    struct conf_stream *s = &l->c->streams[l->c->n_streams];
    *s = (struct conf_stream){.address = addr.text, .place = place_keep(l, m->at)};
    load_service_of(l, m, s);
    s->tls = get_bool(l, NULL, map, G_STREAM, "tls");
    s->idle = get_number(l, NULL, map, G_STREAM, "idle");
    s->send_proxy = load_send_proxy(l, NULL, map, G_STREAM);
    if (!s->service || !s->site)
        return;
    load_port(l, map, s);
    check_address(l, m, s);
    load_host(l, map, s);
    load_alpn(l, map, s);
    l->c->n_streams++;
    add_listen(l, CONF_LISTEN_STREAM, &addr, m->at);
}

void load_streams(struct load *l)
{
    const struct node *map = node_get(l->root, "streams");
    if (!map || map->kind != NODE_MAP || map->bad)
        return;
    l->c->streams = arena_zarray(l->a, struct conf_stream, map->n + 1);
    for (unsigned i = 0; i < map->n; i++)
        load_stream(l, &map->v[i]);
}
