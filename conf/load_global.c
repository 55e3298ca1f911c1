/*
 * load_global.c - the keys of the top level: folders, user, workers, addresses, log, admin socket,
 * limits and timeouts. Channels and sites are load_site.c's.
 */
#include "base/file.h"
#include "conf/load.h"

/* The first folder that systemd made for the unit (StateDirectory=, RuntimeDirectory=). */
static bool unit_folder(struct load *l, const char *name, struct str *dir)
{
    if (!source_env(l->src, name, dir) || !dir->n || dir->p[0] != '/')
        return false;
    *dir = str_sub(*dir, 0, str_chr(*dir, ':'));
    return true;
}

/* Where a user's headgate keeps its state: the unit's folder, else $XDG_…/headgate. */
static struct str user_state(struct load *l)
{
    struct str dir;
    if (unit_folder(l, "STATE_DIRECTORY", &dir))
        return arena_str(l->a, dir);
    if (source_env(l->src, "XDG_STATE_HOME", &dir) && dir.n && dir.p[0] == '/')
        return arena_fmt(l->a, STR_FMT "/headgate", STR_ARG(dir));
    if (source_env(l->src, "HOME", &dir) && dir.n && dir.p[0] == '/')
        return arena_fmt(l->a, STR_FMT "/.local/state/headgate", STR_ARG(dir));
    return STR_NULL;
}

static struct str user_runtime(struct load *l)
{
    struct str dir;
    if (unit_folder(l, "RUNTIME_DIRECTORY", &dir))
        return arena_str(l->a, dir);
    if (source_env(l->src, "XDG_RUNTIME_DIR", &dir) && dir.n && dir.p[0] == '/')
        return arena_fmt(l->a, STR_FMT "/headgate", STR_ARG(dir));
    return arena_fmt(l->a, STR_FMT "/run", STR_ARG(l->c->state));
}

static void load_folders(struct load *l, bool root)
{
    struct conf *c = l->c;
    if (root || is_written(l->root, "state")) {
        c->state = get_path(l, NULL, l->root, G_ROOT, "state");
    } else {
        c->state = user_state(l);
        if (!c->state.p) {
            unsigned id = diags_add(l->d, "E065", (struct diag_place){.file = source_file(l->src)},
                                    "no place for headgate's state");
            diags_note(l->d, id,
                       "neither XDG_STATE_HOME nor HOME is set: write `state: /some/folder`");
            c->state = STR("/nonexistent");
        }
    }
    if (root || is_written(l->root, "runtime"))
        c->runtime = get_path(l, NULL, l->root, G_ROOT, "runtime");
    else
        c->runtime = user_runtime(l);
}

static void load_user(struct load *l, bool root)
{
    struct conf *c = l->c;
    struct source_user u;
    c->user = STR("");
    struct str name = get_text(l, NULL, l->root, G_ROOT, "user");
    if (!root || load_offline(l))
        return;
    c->user = name;
    struct diag_place at = place_of_key(l->root, "user");
    if (!source_user(l->src, name.p, &u)) {
        unsigned id = diags_add(
            l->d, "E063",
            is_written(l->root, "user") ? at : (struct diag_place){.file = source_file(l->src)},
            "there is no user `" STR_FMT "` for the workers", STR_ARG(name));
        diags_note(l->d, id,
                   "make it: useradd --system --home-dir /var/lib/headgate --shell "
                   "/usr/sbin/nologin " STR_FMT,
                   STR_ARG(name));
        diags_note(l->d, id, "or name another one: user: nobody");
        return;
    }
    if (u.uid == 0) {
        unsigned id = diags_add(l->d, "E063", at, "the workers cannot run as root");
        diags_hint(l->d, id, "name a user without rights, such as headgate");
        return;
    }
    c->uid = u.uid;
    c->gid = u.gid;
}

static void load_uids(struct load *l)
{
    struct value_error e;
    struct str t = get_text(l, NULL, l->root, G_ROOT, "service_uids");
    if (!value_uids(t, &l->c->service_uid_first, &l->c->service_uid_last, &e))
        l->c->service_uid_first = l->c->service_uid_last = 0;
}

/* ---- listen ---- */

void add_listen(struct load *l, enum conf_listen_kind kind, const struct conf_addr *addr,
                struct diag_place at)
{
    struct conf *c = l->c;
    for (unsigned i = 0; i < c->n_listens; i++) {
        if (!str_eq(c->listens[i].addr.text, addr->text))
            continue;
        unsigned id = diags_add(l->d, "E066", at, "the address " STR_FMT " is listened on twice",
                                STR_ARG(addr->text));
        if (c->listens[i].place.line)
            diags_also(l->d, id, c->listens[i].place, "first here");
        return;
    }
    struct conf_listen *more = arena_zarray(l->a, struct conf_listen, c->n_listens + 1);
    if (c->n_listens)
        memcpy(more, c->listens, c->n_listens * sizeof(*more));
    c->listens = more;
    c->listens[c->n_listens++] =
        (struct conf_listen){.kind = kind, .addr = *addr, .place = place_keep(l, at)};
}

static void load_listen_key(struct load *l, const struct node *map, enum schema_group g,
                            enum conf_listen_kind kind, const char *name)
{
    struct str *texts;
    const struct node **items;
    struct conf_addr addr;
    struct value_error e;
    const struct node *n = node_get(map, name);
    if (!n) {
        struct str t = get_text(l, NULL, map, g, name);
        if (value_listen(l->a, t, &addr, &e))
            add_listen(l, kind, &addr, (struct diag_place){.file = source_file(l->src)});
        return;
    }
    unsigned count = get_list(l, NULL, map, g, name, &texts, &items);
    for (unsigned i = 0; i < count; i++) {
        if (value_is_off(texts[i]) || !value_listen(l->a, texts[i], &addr, &e))
            continue;
        add_listen(l, kind, &addr, items[i]->at);
    }
}

static bool is_nothing(const struct node *n)
{
    return node_is_off(n) || (n && n->kind == NODE_LIST && n->n == 0);
}

static bool streams_written(const struct load *l)
{
    const struct node *streams = node_get(l->root, "streams");
    return streams && streams->kind == NODE_MAP && streams->n > 0;
}

static void load_listen(struct load *l)
{
    const struct node *map = node_get(l->root, "listen"), *public = node_get(map, "public");
    load_listen_key(l, map, G_LISTEN, CONF_LISTEN_HTTP, "http");
    load_listen_key(l, map, G_LISTEN, CONF_LISTEN_HTTPS, "https");
    l->c->public_http = (uint16_t)get_number(l, NULL, public, G_PUBLIC, "http");
    l->c->public_https = (uint16_t)get_number(l, NULL, public, G_PUBLIC, "https");
    if (is_nothing(node_get(map, "http")) && is_nothing(node_get(map, "https")) &&
        !streams_written(l)) {
        unsigned id = diags_add(l->d, "E067", map->at, "neither http nor https is listened on");
        diags_hint(l->d, id, "write listen: { https: \":443\" }");
    }
}

static void load_metrics(struct load *l)
{
    const struct node *metrics = node_get(l->root, "metrics");
    if (!node_is_off(metrics))
        load_listen_key(l, metrics, G_METRICS, CONF_LISTEN_METRICS, "listen");
}

/* ---- log and admin ---- */

static void load_log(struct load *l)
{
    const struct node *log = node_get(l->root, "log"), *access = node_get(log, "access");
    struct conf *c = l->c;
    c->log.level = get_text(l, NULL, log, G_LOG, "level");
    struct str format = get_text(l, NULL, access, G_ACCESS, "format");
    c->log.format = str_eq(format, STR("combined")) ? CONF_ACCESS_COMBINED : CONF_ACCESS_JSON;
    if (node_is_off(access) || value_is_off(format))
        c->log.format = CONF_ACCESS_OFF;
    c->log.to = get_text(l, NULL, access, G_ACCESS, "to");
    if (!str_eq(c->log.to, STR("stdout")) && !str_eq(c->log.to, STR("stderr")))
        c->log.to = resolve_path(l, node_get(access, "to"), c->log.to);
    c->log.query = get_bool(l, NULL, access, G_ACCESS, "query");
    const struct node **items;
    c->log.n_exclude = get_list(l, NULL, access, G_ACCESS, "exclude", &c->log.exclude, &items);
    for (unsigned i = 0; i < c->log.n_exclude; i++)
        if (!str_starts(c->log.exclude[i], STR("/"))) {
            unsigned id = diags_add(l->d, "E037", items[i]->at,
                                    "`" STR_FMT "` does not begin with /", STR_ARG(items[i]->text));
            diags_hint(l->d, id, "paths that are not logged, such as /healthz");
        }
}

static void load_admin(struct load *l, bool root)
{
    const struct node *admin = node_get(l->root, "admin");
    struct conf *c = l->c;
    struct value_error e;
    struct conf_addr addr;
    c->admin.socket = get_path(l, NULL, admin, G_ADMIN, "socket");
    if (!value_unix(l->tmp, c->admin.socket, &addr, &e)) {
        unsigned id = diags_add(l->d, "E034",
                                is_written(admin, "socket") ? place_of_key(admin, "socket")
                                                            : place_of_key(l->root, "runtime"),
                                "the admin socket's path does not fit: %s", e.what);
        diags_hint(l->d, id, "%s", e.hint);
    }
    if (!value_mode(get_text(l, NULL, admin, G_ADMIN, "mode"), &c->admin.mode, &e))
        c->admin.mode = 0660;
    c->admin.group = (gid_t)-1;
    struct str group = get_text(l, NULL, admin, G_ADMIN, "group");
    bool written = is_written(admin, "group");
    if (load_offline(l) || (!root && !written) || source_group(l->src, group.p, &c->admin.group))
        return;
    c->admin.group = (gid_t)-1;
    if (!written)
        return;
    unsigned id = diags_add(l->d, "E063", place_of_key(admin, "group"),
                            "there is no group `" STR_FMT "`", STR_ARG(group));
    diags_hint(l->d, id, "make it: groupadd --system " STR_FMT, STR_ARG(group));
}

/* ---- networks ---- */

static struct net_ranges load_ranges(struct load *l, const char *name)
{
    struct str *texts;
    unsigned n = get_list(l, NULL, l->root, G_ROOT, name, &texts, NULL), kept = 0;
    struct net_range *v = arena_zarray(l->a, struct net_range, n ? n : 1);
    for (unsigned i = 0; i < n; i++)
        kept += net_range_parse(texts[i], &v[kept]); /* `off` is none */
    return (struct net_ranges){v, kept};
}

/* ---- limits and timeouts ---- */

struct number_key {
    const char *name;
    size_t offset;
};

static void load_numbers(struct load *l, const struct scope *sc, const struct node *map,
                         enum schema_group g, const struct number_key *keys, size_t n, char *out)
{
    for (size_t i = 0; i < n; i++) {
        const struct schema_key *k = schema_find(g, str_of(keys[i].name));
        /* Without a default here, what the outer level says stays. */
        if (!k || (!k->def && !is_written(map, keys[i].name)))
            continue;
        const struct node *v = node_get(map, keys[i].name);
        if (!k->def && v && v->bad)
            continue;
        uint64_t number = get_number(l, sc, map, g, keys[i].name);
        memcpy(out + keys[i].offset, &number, sizeof(number));
    }
}

void load_limits(struct load *l, const struct scope *sc, const struct node *map,
                 enum schema_group g, struct conf_limits *out)
{
#define LIMIT(name)                               \
    {                                             \
#name, offsetof(struct conf_limits, name) \
    }
    static const struct number_key keys[] = {LIMIT(connections), LIMIT(per_ip),  LIMIT(header),
                                             LIMIT(uri),         LIMIT(headers), LIMIT(body),
                                             LIMIT(streams)};
    load_numbers(l, sc, map, g, keys, ARRAY_LEN(keys), (char *)out);
}

void load_timeouts(struct load *l, const struct scope *sc, const struct node *map,
                   enum schema_group g, struct conf_timeouts *out)
{
#define TIMEOUT(name)                               \
    {                                               \
#name, offsetof(struct conf_timeouts, name) \
    }
    static const struct number_key keys[] = {
        TIMEOUT(handshake), TIMEOUT(header),  TIMEOUT(idle),     TIMEOUT(body_gap),
        TIMEOUT(write_gap), TIMEOUT(connect), TIMEOUT(response), TIMEOUT(drain),
        TIMEOUT(shutdown),  TIMEOUT(min_rate)};
    load_numbers(l, sc, map, g, keys, ARRAY_LEN(keys), (char *)out);
}

void load_rate(struct load *l, const struct scope *sc, const struct node *map, struct str site,
               struct str route, struct conf_rate *out)
{
    const struct node *limit = node_get(map, "rate_limit");
    if (!limit || limit->bad)
        return;
    *out = (struct conf_rate){0};
    if (node_is_off(limit))
        return;
    if (!is_written(limit, "rate")) {
        unsigned id = diags_add(l->d, "E072", limit->at, "`rate_limit` has no rate");
        diags_hint(l->d, id, "write rate_limit: { rate: 50/s, burst: 100 }");
        return;
    }
    struct rate r = {.interval_us = get_number(l, sc, limit, G_RATE, "rate"),
                     .burst = get_number(l, sc, limit, G_RATE, "burst")};
    if (!r.interval_us || !r.burst)
        return;
    if (r.burst > RATE_AHEAD_MAX / r.interval_us) {
        unsigned id = diags_add(l->d, "E072", place_of_key(limit, "burst"),
                                "a burst of %llu is not let through again within 30 days",
                                (unsigned long long)r.burst);
        diags_hint(l->d, id, "at this rate %llu at most",
                   (unsigned long long)(RATE_AHEAD_MAX / r.interval_us));
        return;
    }
    out->rate = r;
    out->name = arena_fmt(l->a, STR_FMT STR_FMT, STR_ARG(site), STR_ARG(route));
}

void load_global(struct load *l)
{
    bool root = source_fact(l->src, FACT_ROOT) != 0;
    load_folders(l, root);
    load_user(l, root);
    load_uids(l);
    uint64_t workers = get_number(l, NULL, l->root, G_ROOT, "workers");
    if (!workers)
        workers = MIN(source_fact(l->src, FACT_CPUS), (uint64_t)256);
    l->c->workers = (unsigned)MAX(workers, (uint64_t)1);
    load_listen(l);
    l->c->proxy_protocol = load_ranges(l, "proxy_protocol");
    l->c->trusted_proxies = load_ranges(l, "trusted_proxies");
    load_metrics(l);
    l->c->tls.min_version = 0x0303;
    load_tls(l, NULL, node_get(l->root, "tls"), &l->c->tls);
    check_passthrough_global(l);
    load_acme(l);
    load_log(l);
    load_admin(l, root);
    load_limits(l, NULL, node_get(l->root, "limits"), G_LIMITS, &l->c->limits);
    load_timeouts(l, NULL, node_get(l->root, "timeouts"), G_TIMEOUTS, &l->c->timeouts);
}
