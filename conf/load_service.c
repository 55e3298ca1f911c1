/*
 * load_service.c - services: what is run and how it is watched. The digest tells two definitions
 * apart; the environment is in load_env.c, backends that run by themselves in load_backend.c.
 */
#include <openssl/evp.h>
#include <signal.h>

#include "conf/load.h"
#include "conf/load_env.h"
#include "conf/load_listen.h"

#define WAIT_READY_MS 10000

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

void load_health(struct load *l, const struct scope *sc, const struct node *map,
                 struct conf_service *s)
{
    const struct node *health = node_get(map, "health");
    s->health_interval = get_number(l, sc, health, G_HEALTH, "interval");
    s->health_timeout = get_number(l, sc, health, G_HEALTH, "timeout");
    s->health_failures = (unsigned)get_number(l, sc, health, G_HEALTH, "failures");
}

static void load_watching(struct load *l, const struct scope *sc, const struct node *map,
                          struct conf_service *s)
{
    const struct node *stop = node_get(map, "stop"), *restart = node_get(map, "restart");
    load_health(l, sc, map, s);
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
    load_env(l, &late, map, s);
    load_listening(l, sc, map, s);
    s->cwd_is_data = !is_written(map, "cwd");
    s->cwd = get_path(l, sc, map, G_SERVICE, "cwd");
    load_owner(l, sc, map, s);
    load_watching(l, sc, map, s);
    s->memory = get_number(l, sc, map, G_SERVICE, "memory");
    s->open_files = (unsigned)get_number(l, sc, map, G_SERVICE, "open_files");
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
 * check is never put off until the next start. How long requests wait and how they are shared out
 * does not: workers see it. Nor does the number of instances: some are added, or go.
 */
static struct str digest_of(struct load *l, const struct conf_service *s)
{
    uint8_t sum[32];
    char hex[2 * sizeof(sum)];
    struct out o = out_on(hex, sizeof(hex));
    const uint64_t numbers[] = {
        s->listen,
        s->ready,
        s->health_interval,
        s->health_timeout,
        s->health_failures,
        s->start_timeout,
        (uint64_t)s->stop_signal,
        s->stop_timeout,
        s->restart_min,
        s->restart_max,
        s->cwd_is_data,
        s->ready_port,
        s->handover,
        s->memory,
        s->open_files,
        s->n_ports,
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
    hash_str(h, s->ready_service);
    hash_bytes(h, numbers, sizeof(numbers));
    for (unsigned i = 0; i < s->n_ports; i++) {
        hash_str(h, s->ports[i].name);
        hash_bytes(h, &s->ports[i].number, sizeof(s->ports[i].number));
    }
    hash_bytes(h, &s->n_backends, sizeof(s->n_backends));
    for (unsigned i = 0; i < s->n_backends; i++)
        hash_str(h, s->backends[i].addr.text);
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
    s->drain = site->timeouts.drain;
    s->name = arena_fmt(l->a, STR_FMT "/" STR_FMT, STR_ARG(site->name), STR_ARG(m->key));
    s->place = place_keep(l, m->at);
    s->listen = CONF_SVC_TCP;
    struct scope sc = *site_scope;
    sc.service = s->short_name;
    sc.data = arena_fmt(l->a, STR_FMT "/data/" STR_FMT, STR_ARG(c->state), STR_ARG(s->name));
    s->protocol = protocol_of(get_text(l, &sc, map, G_SERVICE, "protocol"));
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
    load_host_header(l, &sc, map, s);
    if (str_eq(get_text(l, &sc, map, G_SERVICE, "balance"), STR("round")))
        s->balance = CONF_BALANCE_ROUND;
    s->wait_ready = WAIT_READY_MS;
    if (s->handover)
        s->wait_ready = s->stop_timeout + (s->start_timeout ? s->start_timeout : WAIT_READY_MS);
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
