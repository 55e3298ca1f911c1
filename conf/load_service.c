/*
 * load_service.c - services: what is run and how it is watched, or where it is. The digest tells
 * two definitions apart; the environment is in load_env.c.
 */
#include <openssl/evp.h>
#include <signal.h>

#include "conf/load.h"
#include "conf/load_env.h"

/* ---- run ---- */

static void find_program(struct load *l, const struct node *n, struct conf_service *s)
{
    /* argv[0] may hold escaped dollar signs, but nothing late. */
    struct str name = conf_expand(l->a, s->argv[0], &(struct conf_vars){0});
    struct placeholder_at p;
    for (size_t at = 0; placeholder_next(s->argv[0], at, &p); at = p.to)
        if (p.kind != PH_DOLLAR) {
            diags_add(l->d, "E044", n->at,
                      "`$" STR_FMT "` has no meaning in the name of the program", STR_ARG(p.name));
            return;
        }
    s->program = name;
    if (!name.n) {
        diags_add(l->d, "E061", n->at, "the name of the program is empty");
        return;
    }
    if (str_chr(name, '/') < name.n)
        s->program = resolve_path(l, n, name);
    if (load_offline(l))
        return;
    struct str found;
    const char *err = source_which(l->src, arena_strz(l->tmp, s->program), &found);
    if (err)
        diags_add(l->d, "E061", n->at, "%s", err);
    else
        s->program = arena_str(l->a, found);
}

static bool holds(const struct str *texts, unsigned n, enum placeholder kind)
{
    struct placeholder_at p;
    for (unsigned i = 0; i < n; i++)
        for (size_t at = 0; placeholder_next(texts[i], at, &p); at = p.to)
            if (p.kind == kind)
                return true;
    return false;
}

/* How does the program learn where to listen? */
static void check_listen_known(struct load *l, const struct node *map, const struct conf_service *s)
{
    bool listen = holds(s->argv, s->n_argv, PH_LISTEN) || holds(s->env, s->n_env, PH_LISTEN);
    bool port = holds(s->argv, s->n_argv, PH_PORT) || holds(s->env, s->n_env, PH_PORT);
    struct diag_place at = place_of_key(map, "run");
    if (s->listen == CONF_SVC_UNIX && port) {
        unsigned id =
            diags_add(l->d, "E058", at, "`$port` with `listen: unix`: a Unix socket has no port");
        diags_hint(l->d, id, "use $listen, which is unix:/path");
        return;
    }
    const struct node *written = node_get(map, "listen");
    if (s->fixed.len || listen || port || (written && written->bad))
        return;
    unsigned id = diags_add(l->d, "E058", at, "nothing tells the program where to listen");
    diags_hint(l->d, id,
               "put $listen or $port into `run` or `env`, or write listen: 127.0.0.1:PORT");
}

static void load_listen_kind(struct load *l, const struct scope *sc, const struct node *map,
                             struct conf_service *s)
{
    struct str t = get_text(l, sc, map, G_SERVICE, "listen");
    struct value_error e;
    s->listen = CONF_SVC_TCP;
    if (str_eq(t, STR("unix")))
        s->listen = CONF_SVC_UNIX;
    else if (!str_eq(t, STR("tcp")) && !value_addr(l->a, t, &s->fixed, &e))
        s->fixed = (struct conf_addr){0};
}

static void load_ready(struct load *l, const struct scope *sc, const struct node *map,
                       struct conf_service *s)
{
    const struct node *ready = node_get(map, "ready");
    s->ready = CONF_READY_TCP;
    s->ready_path = STR("");
    if (!ready || ready->bad || ready->kind != NODE_MAP)
        return;
    unsigned ways = 0;
    for (unsigned i = 0; i < ready->n; i++)
        ways += schema_find(G_READY, ready->v[i].key) && !str_eq(ready->v[i].key, STR("port"));
    if (ways != 1) {
        unsigned id =
            diags_add(l->d, "E068", ready->at, "`ready` needs exactly one way of telling");
        diags_hint(l->d, id, "write { http: /healthz } or { tcp: on }");
        return;
    }
    if (is_written(ready, "http")) {
        s->ready = CONF_READY_HTTP;
        s->ready_path = get_text(l, sc, ready, G_READY, "http");
        if (s->ready_path.n && s->ready_path.p[0] != '/')
            diags_add(l->d, "E037", place_of_key(ready, "http"),
                      "`" STR_FMT "` is no path: it does not begin with /",
                      STR_ARG(node_get(ready, "http")->text));
    } else if (is_written(ready, "tcp") && !get_bool(l, sc, ready, G_READY, "tcp") &&
               !node_get(ready, "tcp")->bad) {
        unsigned id = diags_add(l->d, "E068", place_of_key(ready, "tcp"),
                                "`tcp: off` leaves no way of telling");
        diags_hint(l->d, id, "write { http: /healthz } or { tcp: on }");
    }
}

static int signal_of(struct str name)
{
    static const struct {
        const char *name;
        int number;
    } signals[] = {{"TERM", SIGTERM}, {"INT", SIGINT},   {"HUP", SIGHUP},  {"QUIT", SIGQUIT},
                   {"USR1", SIGUSR1}, {"USR2", SIGUSR2}, {"KILL", SIGKILL}};
    for (size_t i = 0; i < ARRAY_LEN(signals); i++)
        if (str_eq(str_of(signals[i].name), name))
            return signals[i].number;
    return SIGTERM;
}

static void load_watching(struct load *l, const struct scope *sc, const struct node *map,
                          struct conf_service *s)
{
    const struct node *health = node_get(map, "health"), *stop = node_get(map, "stop"),
                      *restart = node_get(map, "restart");
    load_ready(l, sc, map, s);
    s->health_interval = get_number(l, sc, health, G_HEALTH, "interval");
    s->health_timeout = get_number(l, sc, health, G_HEALTH, "timeout");
    s->health_failures = (unsigned)get_number(l, sc, health, G_HEALTH, "failures");
    s->start_timeout = get_number(l, sc, map, G_SERVICE, "start_timeout");
    s->stop_signal = signal_of(get_text(l, sc, stop, G_STOP, "signal"));
    s->stop_timeout = get_number(l, sc, stop, G_STOP, "timeout");
    s->restart_min = get_number(l, sc, restart, G_RESTART, "min");
    s->restart_max = get_number(l, sc, restart, G_RESTART, "max");
    if (s->restart_min > s->restart_max) {
        unsigned id = diags_add(l->d, "E068", restart->at, "`restart`: min is longer than max");
        diags_hint(l->d, id, "the pause grows from min to max");
    }
}

static void load_owner(struct load *l, const struct scope *sc, const struct node *map,
                       struct conf_service *s)
{
    struct source_user u;
    s->user = get_text(l, sc, map, G_SERVICE, "user");
    if (str_eq(s->user, STR("auto")))
        s->user = STR("");
    if (!s->user.n || load_offline(l) || !source_fact(l->src, FACT_ROOT) ||
        source_user(l->src, s->user.p, &u))
        return;
    unsigned id = diags_add(l->d, "E063", place_of_key(map, "user"),
                            "there is no user `" STR_FMT "` for the service", STR_ARG(s->user));
    diags_hint(l->d, id, "make it: useradd --system " STR_FMT ", or leave `user` away",
               STR_ARG(s->user));
}

static void load_run(struct load *l, const struct scope *sc, const struct node *map,
                     struct conf_service *s)
{
    const struct node **items, *run = node_get(map, "run");
    struct scope late = *sc;
    late.late = true;
    s->n_argv = get_list(l, &late, map, G_SERVICE, "run", &s->argv, &items);
    if (run->kind == NODE_LIST && run->n == 0) {
        unsigned id = diags_add(l->d, "E061", run->at, "`run` names no program");
        diags_hint(l->d, id, "write [program, arg, …]");
    }
    if (s->n_argv)
        find_program(l, items[0], s);
    load_listen_kind(l, sc, map, s);
    load_env(l, &late, map, s);
    s->cwd_is_data = !is_written(map, "cwd");
    s->cwd = get_path(l, sc, map, G_SERVICE, "cwd");
    load_owner(l, sc, map, s);
    load_watching(l, sc, map, s);
    if (get_number(l, sc, map, G_SERVICE, "instances") > 1)
        diags_add(l->d, "E004", place_of_key(map, "instances"),
                  "more than one instance is not available in this version");
    if (run->kind == NODE_LIST && s->n_argv == run->n && run->n)
        check_listen_known(l, map, s);
}

/* ---- url ---- */

static void load_url(struct load *l, const struct scope *sc, const struct node *map,
                     struct conf_service *s)
{
    struct str *urls, host;
    const struct node **items, *url = node_get(map, "url");
    struct value_error e;
    unsigned n = get_list(l, sc, map, G_SERVICE, "url", &urls, &items);
    if (url->kind == NODE_LIST && url->n == 0)
        diags_add(l->d, "E036", url->at, "`url` names no backend");
    s->addrs = arena_zarray(l->a, struct conf_addr, n + 1);
    for (unsigned i = 0; i < n; i++) {
        if (!value_url(l->a, urls[i], &s->addrs[s->n_addrs], &host, &e))
            continue;
        for (unsigned k = 0; k < s->n_addrs; k++)
            if (str_eq(s->addrs[k].text, s->addrs[s->n_addrs].text))
                diags_add(l->d, "E066", items[i]->at, "the backend " STR_FMT " is listed twice",
                          STR_ARG(s->addrs[k].text));
        if (s->n_addrs++ == 0)
            s->url_host = host;
    }
    for (unsigned i = 0; i < map->n; i++) {
        const struct schema_key *k = schema_find(G_SERVICE, map->v[i].key);
        if (!k || !(k->flags & S_RUN) || strcmp(k->name, "run") == 0)
            continue;
        unsigned id = diags_add(l->d, "E068", map->v[i].at,
                                "`%s` has no effect on a service with `url`", k->name);
        diags_hint(l->d, id, "it belongs to `run`");
    }
}

/* ---- digest ---- */

static void hash_bytes(EVP_MD_CTX *h, const void *p, size_t n)
{
    ASSERT(EVP_DigestUpdate(h, p, n) == 1);
}

static void hash_str(EVP_MD_CTX *h, struct str s)
{
    uint64_t n = s.n;
    hash_bytes(h, &n, sizeof(n));
    hash_bytes(h, s.p ? s.p : "", s.n);
}

static void hash_strs(EVP_MD_CTX *h, const struct str *v, unsigned n)
{
    hash_bytes(h, &n, sizeof(n));
    for (unsigned i = 0; i < n; i++)
        hash_str(h, v[i]);
}

/*
 * Over the whole resolved definition of what runs; how it is watched counts too, so that a changed
 * check is never put off until the next start. How long requests wait does not: workers see it.
 */
static struct str digest_of(struct load *l, const struct conf_service *s)
{
    uint8_t sum[32];
    char hex[2 * sizeof(sum)];
    struct out o = out_on(hex, sizeof(hex));
    const uint64_t numbers[] = {
        s->listen,          s->ready,         s->health_interval,       s->health_timeout,
        s->health_failures, s->start_timeout, (uint64_t)s->stop_signal, s->stop_timeout,
        s->restart_min,     s->restart_max,   s->cwd_is_data,
    };
    EVP_MD_CTX *h = EVP_MD_CTX_new();
    ASSERT(h && EVP_DigestInit_ex(h, EVP_sha256(), NULL) == 1);
    hash_str(h, s->name);
    hash_strs(h, s->argv, s->n_argv);
    hash_str(h, s->program);
    hash_strs(h, s->env, s->n_env);
    hash_str(h, s->cwd);
    hash_str(h, s->user);
    hash_str(h, s->fixed.text);
    hash_str(h, s->ready_path);
    hash_bytes(h, numbers, sizeof(numbers));
    hash_bytes(h, &s->n_addrs, sizeof(s->n_addrs));
    for (unsigned i = 0; i < s->n_addrs; i++)
        hash_str(h, s->addrs[i].text);
    ASSERT(EVP_DigestFinal_ex(h, sum, NULL) == 1);
    EVP_MD_CTX_free(h);
    for (size_t i = 0; i < sizeof(sum); i++)
        out_hex(&o, sum[i], 2);
    return arena_str(l->a, out_done(&o));
}

/* ---- all ---- */

static enum conf_protocol protocol_of(struct str word)
{
    return str_eq(word, STR("grpc")) ? CONF_GRPC : str_eq(word, STR("h2c")) ? CONF_H2C : CONF_HTTP1;
}

static void load_service(struct load *l, const struct scope *site_scope, const struct member *m,
                         struct conf_site *site)
{
    const struct node *map = m->value;
    struct conf *c = l->c;
    if (map->kind != NODE_MAP || map->bad)
        return;
    struct conf_service *s = &c->services[c->n_services];
    s->index = c->n_services++;
    s->short_name = arena_str(l->a, m->key);
    s->site = site->name;
    s->name = arena_fmt(l->a, STR_FMT "/" STR_FMT, STR_ARG(site->name), STR_ARG(m->key));
    s->place = place_keep(l, m->at);
    s->listen = CONF_SVC_TCP;
    struct scope sc = *site_scope;
    sc.service = s->short_name;
    sc.data = arena_fmt(l->a, STR_FMT "/data/" STR_FMT, STR_ARG(c->state), STR_ARG(s->name));
    s->protocol = protocol_of(get_text(l, &sc, map, G_SERVICE, "protocol"));
    get_text(l, &sc, map, G_SERVICE, "strategy");
    const struct member *run = node_member(map, STR("run")), *url = node_member(map, STR("url"));
    if (run && url) {
        unsigned id = diags_add(l->d, "E053", url->at,
                                "service `" STR_FMT "` has both `run` and `url`", STR_ARG(m->key));
        diags_hint(l->d, id, "headgate runs it, or it runs by itself");
        diags_also(l->d, id, run->at, "run is here");
    } else if (run) {
        load_run(l, &sc, map, s);
    } else if (url) {
        load_url(l, &sc, map, s);
    } else if (!map->stray) {
        unsigned id =
            diags_add(l->d, "E053", m->at, "service `" STR_FMT "` has neither `run` nor `url`",
                      STR_ARG(m->key));
        diags_hint(l->d, id, "write run: [program, arg, …] or url: http://127.0.0.1:PORT");
    }
    s->wait_ready = 10 * 1000;
    if (!str_eq(get_text(l, &sc, map, G_SERVICE, "wait_ready"), STR("auto")))
        s->wait_ready = get_number(l, &sc, map, G_SERVICE, "wait_ready");
    s->digest = digest_of(l, s);
}

void load_services(struct load *l, const struct scope *sc, const struct node *map,
                   struct conf_site *site)
{
    for (unsigned i = 0; map && map->kind == NODE_MAP && i < map->n; i++)
        load_service(l, sc, &map->v[i], site);
}
