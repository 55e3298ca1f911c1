/*
 * load_listen.c - listen and ports of a service that is run, and what follows from them: does the
 * program learn its address, can two instances run at a time, which port is asked for readiness.
 */
#include "conf/load_listen.h"

#define GRPC_NAME_MAX 255 /* bytes: what a look's request has room for */

/* ---- what its arguments and environment say ---- */

static bool holds(const struct str *texts, unsigned n, enum placeholder kind)
{
    struct placeholder_at p;
    for (unsigned i = 0; i < n; i++)
        for (size_t at = 0; placeholder_next(texts[i], at, &p); at = p.to)
            if (p.kind == kind)
                return true;
    return false;
}

static bool told(const struct conf_service *s, enum placeholder kind)
{
    return holds(s->argv, s->n_argv, kind) || holds(s->env, s->n_env, kind);
}

static const struct conf_port *port_find(const struct conf_service *s, struct str name)
{
    for (unsigned i = 0; i < s->n_ports; i++)
        if (str_eq(s->ports[i].name, name))
            return &s->ports[i];
    return NULL;
}

/* $port:NAME in one argument or variable. */
static void check_port_names(struct load *l, const struct node *n, const struct conf_service *s)
{
    struct placeholder_at p;
    if (n->bad || n->kind != NODE_SCALAR)
        return;
    for (size_t at = 0; placeholder_next(n->text, at, &p); at = p.to) {
        if (p.kind != PH_PORT_NAMED || port_find(s, p.arg))
            continue;
        unsigned id = diags_add(l->d, "E044", place_in(n, &p),
                                "the service has no port `" STR_FMT "`", STR_ARG(p.arg));
        diags_hint(l->d, id, "write ports: { " STR_FMT ": auto }", STR_ARG(p.arg));
    }
}

static void check_ports_known(struct load *l, const struct node *map, const struct conf_service *s)
{
    const struct node *run = node_get(map, "run"), *env = node_get(map, "env");
    for (unsigned i = 0; run->kind == NODE_LIST && i < run->n; i++)
        check_port_names(l, run->v[i].value, s);
    for (unsigned i = 0; env && env->kind == NODE_MAP && i < env->n; i++)
        check_port_names(l, env->v[i].value, s);
}

/* How does the program learn where to listen? */
static void check_listen_known(struct load *l, const struct node *map, const struct conf_service *s)
{
    const struct node *run = node_get(map, "run");
    bool whole = run->kind == NODE_LIST && run->n && s->n_argv == run->n;
    const struct node *written = node_get(map, "listen");
    struct diag_place at = place_of_key(map, "run");
    if (!whole || (written && written->bad))
        return;
    if (s->listen == CONF_SVC_UNIX && told(s, PH_PORT)) {
        unsigned id =
            diags_add(l->d, "E058", at, "`$port` with `listen: unix`: a Unix socket has no port");
        diags_hint(l->d, id, "use $listen, which is unix:/path");
        return;
    }
    if (s->listens || told(s, PH_PORT_NAMED))
        return;
    unsigned id = diags_add(l->d, "E058", at, "nothing tells the program where to listen");
    diags_hint(l->d, id,
               "put $listen or $port into `run` or `env`, or write listen: 127.0.0.1:PORT");
}

/* ---- keys ---- */

static void load_listen_kind(struct load *l, const struct scope *sc, const struct node *map,
                             struct conf_service *s)
{
    struct str t = get_text(l, sc, map, G_SERVICE, "listen");
    struct value_error e;
    s->listen = CONF_SVC_TCP;
    if (str_eq(t, STR("unix")))
        s->listen = CONF_SVC_UNIX;
    else if (str_eq(t, STR("fd")))
        s->listen = CONF_SVC_FD;
    else if (!str_eq(t, STR("tcp")) && !value_addr(l->a, t, &s->fixed, &e))
        s->fixed = (struct conf_addr){0};
    s->listens = s->fixed.len || s->listen == CONF_SVC_FD || told(s, PH_LISTEN) || told(s, PH_PORT);
}

static void load_ports(struct load *l, const struct scope *sc, const struct node *map,
                       struct conf_service *s)
{
    const struct node *ports = node_get(map, "ports");
    if (!ports || ports->kind != NODE_MAP)
        return;
    s->ports = arena_zarray(l->a, struct conf_port, ports->n + 1);
    for (unsigned i = 0; i < ports->n; i++) {
        const struct node *n = ports->v[i].value;
        struct str text;
        uint64_t number = 0;
        if (n->bad || n->kind != NODE_SCALAR || !load_expand(l, sc, n, &text))
            continue;
        if (!str_eq(text, STR("auto")) && (!str_u64(text, &number) || !number || number > 65535)) {
            diags_add(l->d, "E031", n->at, "`" STR_FMT "` is no port", STR_ARG(text));
            continue;
        }
        for (unsigned k = 0; number && k < s->n_ports; k++)
            if (s->ports[k].number == number)
                diags_add(l->d, "E068", n->at, "port %u is that of `" STR_FMT "` already",
                          (unsigned)number, STR_ARG(s->ports[k].name));
        s->ports[s->n_ports++] =
            (struct conf_port){arena_str(l->a, ports->v[i].key), (uint16_t)number};
    }
}

static bool has_fixed_port(const struct conf_service *s)
{
    for (unsigned i = 0; i < s->n_ports; i++)
        if (s->ports[i].number)
            return true;
    return s->fixed.len > 0;
}

static void load_how_many(struct load *l, const struct scope *sc, const struct node *map,
                          struct conf_service *s)
{
    s->handover = str_eq(get_text(l, sc, map, G_SERVICE, "strategy"), STR("handover"));
    s->instances = (unsigned)get_number(l, sc, map, G_SERVICE, "instances");
    s->exclusive = s->handover || has_fixed_port(s);
    if (s->instances < 2 || !s->exclusive)
        return;
    unsigned id = diags_add(l->d, "E068", place_of_key(map, "instances"),
                            s->handover ? "only one instance can run with `strategy: handover`"
                                        : "only one instance can listen at a fixed address");
    diags_hint(l->d, id,
               s->handover ? "leave `instances` away" : "let headgate choose: tcp, unix, auto");
}

/* The port that is asked: the one that is named, else the only one that the program was told of. */
static void load_ready_port(struct load *l, const struct scope *sc, const struct node *ready,
                            struct conf_service *s)
{
    s->ready_port = s->listens ? s->n_ports : 0;
    if (!ready || !is_written(ready, "port"))
        return;
    struct str name = get_text(l, sc, ready, G_READY, "port");
    const struct conf_port *p = port_find(s, name);
    if (p) {
        s->ready_port = (unsigned)(p - s->ports);
        return;
    }
    unsigned id = diags_add(l->d, "E068", place_of_key(ready, "port"),
                            "the service has no port `" STR_FMT "`", STR_ARG(name));
    diags_hint(l->d, id, "write ports: { NAME: auto } and name it here");
}

static const char ways_hint[] =
    "write { http: /healthz }, { grpc: \"\" }, { tcp: on } or { notify: on }";

/* `tcp: off`, `notify: off` */
static void check_way_on(struct load *l, const struct scope *sc, const struct node *ready,
                         const char *key)
{
    if (!is_written(ready, key) || get_bool(l, sc, ready, G_READY, key) ||
        node_get(ready, key)->bad)
        return;
    unsigned id = diags_add(l->d, "E068", place_of_key(ready, key),
                            "`%s: off` leaves no way of telling", key);
    diags_hint(l->d, id, "%s", ways_hint);
}

static void load_ready_http(struct load *l, const struct scope *sc, const struct node *ready,
                            struct conf_service *s)
{
    s->ready = CONF_READY_HTTP;
    s->ready_path = get_text(l, sc, ready, G_READY, "http");
    if (s->ready_path.n && s->ready_path.p[0] != '/')
        diags_add(l->d, "E037", place_of_key(ready, "http"),
                  "`" STR_FMT "` is no path: it does not begin with /",
                  STR_ARG(node_get(ready, "http")->text));
}

static void load_ready_grpc(struct load *l, const struct scope *sc, const struct node *ready,
                            struct conf_service *s)
{
    s->ready = CONF_READY_GRPC;
    s->ready_service = get_text(l, sc, ready, G_READY, "grpc");
    if (s->ready_service.n <= GRPC_NAME_MAX)
        return;
    unsigned id = diags_add(l->d, "E068", place_of_key(ready, "grpc"),
                            "the name for the health check has more than %d bytes", GRPC_NAME_MAX);
    diags_hint(l->d, id, "it is a service's, such as app.v1.Orders; \"\" asks for all");
}

void load_ready(struct load *l, const struct scope *sc, const struct node *map,
                struct conf_service *s)
{
    const struct node *ready = node_get(map, "ready");
    bool usable = ready && !ready->bad && ready->kind == NODE_MAP;
    /* By gRPC without TLS: a look is made by the master, which speaks none. */
    s->ready = s->protocol == CONF_GRPC && !s->tls ? CONF_READY_GRPC : CONF_READY_TCP;
    s->ready_path = s->ready_service = STR("");
    load_ready_port(l, sc, usable ? ready : NULL, s);
    if (!usable)
        return;
    unsigned ways = 0;
    for (unsigned i = 0; i < ready->n; i++)
        ways += schema_find(G_READY, ready->v[i].key) && !str_eq(ready->v[i].key, STR("port"));
    if (ways == 0 && is_written(ready, "port"))
        return;
    if (ways != 1) {
        unsigned id =
            diags_add(l->d, "E068", ready->at, "`ready` needs exactly one way of telling");
        diags_hint(l->d, id, "%s", ways_hint);
        return;
    }
    check_way_on(l, sc, ready, "tcp");
    check_way_on(l, sc, ready, "notify");
    if (is_written(ready, "http"))
        load_ready_http(l, sc, ready, s);
    else if (is_written(ready, "grpc"))
        load_ready_grpc(l, sc, ready, s);
    else
        s->ready = is_written(ready, "notify") ? CONF_READY_NOTIFY : CONF_READY_TCP;
}

void load_listening(struct load *l, const struct scope *sc, const struct node *map,
                    struct conf_service *s)
{
    load_listen_kind(l, sc, map, s);
    load_ports(l, sc, map, s);
    load_how_many(l, sc, map, s);
    load_ready(l, sc, map, s);
    check_ports_known(l, map, s);
    check_listen_known(l, map, s);
}
