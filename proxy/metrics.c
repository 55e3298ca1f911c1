/*
 * metrics.c - counting requests, and the `metrics` handler. Reads nothing but this process's own
 * state and shared memory: a scrape asks nobody.
 */
#include "proxy/metrics.h"

#include "base/stats.h"
#include "proxy/backend.h"
#include "proxy/client.h"
#include "proxy/grpc_call.h"
#include "proxy/req.h"
#include "proxy/roles.h"

#define TEXT_FIRST (32 * 1024)
#define TEXT_MAX   (64 * 1024 * 1024)

/* ---- a snapshot's rows ---- */

struct site_rows {
    struct route_row *other; /* no route, or a redirect of the whole host */
    struct route_row **routes;
};

struct metrics_rows {
    struct arena *arena;
    struct site_rows *sites; /* by site index */
    unsigned n_sites;
    unsigned *n_routes;
    struct route_row *other; /* no site */
};

static struct row_key route_key(const struct conf_site *s, struct str route)
{
    return (struct row_key){{s->name, s->host, route}};
}

void metrics_route_keys(const struct conf *c, void (*each)(void *ctx, const struct row_key *key),
                        void *ctx)
{
    for (unsigned i = 0; i < c->n_sites; i++) {
        const struct conf_site *s = &c->sites[i];
        struct row_key key = route_key(s, STR(ROW_OTHER));
        each(ctx, &key);
        for (unsigned k = 0; k < s->n_all_routes; k++) {
            key = route_key(s, s->routes[k].path);
            each(ctx, &key);
        }
    }
}

static struct route_row *row_of(const struct row_key *key)
{
    return rows_use(ROW_ROUTE, key);
}

struct metrics_rows *metrics_rows_new(const struct conf *c)
{
    struct arena *a = arena_new(4096);
    struct metrics_rows *m = arena_znew(a, struct metrics_rows);
    const struct row_key none = {{STR(ROW_OTHER), STR(ROW_OTHER), STR(ROW_OTHER)}};
    m->arena = a;
    m->n_sites = c->n_sites;
    m->other = row_of(&none);
    m->sites = arena_zarray(a, struct site_rows, c->n_sites + 1);
    m->n_routes = arena_zarray(a, unsigned, c->n_sites + 1);
    for (unsigned i = 0; i < c->n_sites; i++) {
        const struct conf_site *s = &c->sites[i];
        struct row_key key = route_key(s, STR(ROW_OTHER));
        m->sites[i].other = row_of(&key);
        m->sites[i].routes = arena_zarray(a, struct route_row *, s->n_all_routes + 1);
        m->n_routes[i] = s->n_all_routes;
        for (unsigned k = 0; k < s->n_all_routes; k++) {
            key = route_key(s, s->routes[k].path);
            m->sites[i].routes[k] = row_of(&key);
        }
    }
    return m;
}

void metrics_rows_free(struct metrics_rows **mp)
{
    struct metrics_rows *m = *mp;
    *mp = NULL;
    if (!m)
        return;
    for (unsigned i = 0; i < m->n_sites; i++) {
        for (unsigned k = 0; k < m->n_routes[i]; k++)
            rows_drop(ROW_ROUTE, m->sites[i].routes[k]);
        rows_drop(ROW_ROUTE, m->sites[i].other);
    }
    rows_drop(ROW_ROUTE, m->other);
    arena_free(&m->arena);
}

/* ---- counting ---- */

struct route_row *metrics_row_keep(const struct req *r)
{
    const struct row_key key = route_key(r->site, r->route->path);
    return row_of(&key);
}

static struct route_row *row_of_req(const struct req *r)
{
    if (r->kept.row)
        return r->kept.row;
    const struct metrics_rows *m = r->snap->rows;
    if (!r->site)
        return m->other;
    const struct site_rows *s = &m->sites[r->site - r->snap->conf->sites];
    return r->route ? s->routes[r->route - r->site->routes] : s->other;
}

static unsigned class_of(const struct req *r)
{
    const unsigned class = r->answer.status / 100;
    return class < CLASSES ? class : CLASS_NONE;
}

_Static_assert((int)METHOD_PATCH < ROW_METHODS, "a cell a method");
_Static_assert((int)GRPC_SHAPES == ROW_CALL_SHAPES, "a cell a shape");
_Static_assert((int)GRPC_STATUS_COUNT == ROW_CALL_STATUSES, "a cell a status");

/* A call that was sent elsewhere (a redirect, 421) has no status: it is no call yet. */
static void count_call(struct route_row *row, const struct req *r)
{
    const struct grpc_call *c = r->grpc;
    const bool web = r->kind == REQ_GRPC_WEB;
    if (c->status >= GRPC_STATUS_COUNT)
        return;
    row_add(&row->calls[web][grpc_call_shape(c)][c->status], 1);
    row_add(&row->messages_in, (int64_t)c->in.messages);
    row_add(&row->messages_out, (int64_t)c->out.messages);
}

void metrics_count(const struct req *r)
{
    struct route_row *row = row_of_req(r);
    row_add(&row->requests[r->method][class_of(r)], 1);
    row_add(&row->body_in, (int64_t)r->body_in);
    row_add(&row->body_out, (int64_t)r->body_out);
    if (r->grpc)
        count_call(row, r);
    /* How long a tunnel stands says nothing about how long an answer takes. */
    row_observe(&row->seconds, r->kept.row ? r->kept.answered_us : r->took_us);
    if (r->kept.row)
        rows_drop(ROW_ROUTE, r->kept.row);
}

struct str metrics_listener_kind(uint32_t kind)
{
    switch (kind) {
    case LISTENER_HTTPS:
        return STR("https");
    case LISTENER_METRICS:
        return STR("metrics");
    case LISTENER_STREAM:
        return STR("stream");
    default:
        return STR("http");
    }
}

/* ---- /metrics ---- */

static void add_cert(struct metrics_facts *f, struct metrics_cert *v, const struct tls_names *names,
                     struct str host)
{
    const int64_t end = tls_names_not_after(names, host);
    if (end)
        v[f->n_certs++] = (struct metrics_cert){host, end};
}

/* The certificates that this process would show now, a host of the configuration each. */
static void gather_certs(struct req *r, struct metrics_facts *f)
{
    const struct conf *c = r->snap->conf;
    struct metrics_cert *v = arena_zarray(r->arena, struct metrics_cert, conf_hosts(c) + 1);
    f->certs = v;
    for (unsigned i = 0; i < c->n_sites; i++)
        for (unsigned k = 0; k < conf_site_hosts(&c->sites[i]); k++)
            add_cert(f, v, r->snap->names, conf_site_host(&c->sites[i], k));
}

static void answer_metrics(struct req *r)
{
    static size_t room = TEXT_FIRST; /* what was enough last time */
    struct metrics_facts f = {.now = loop_now_ms()};
    struct slab *text;
    struct out o;
    gather_certs(r, &f);
    for (;;) {
        text = slab_new(room);
        o = out_on(text->data, room);
        metrics_write(&o, r->arena, &f);
        if (!o.over)
            break;
        slab_unref(text);
        if (room >= TEXT_MAX) { /* a thousand routes, each with every method, status and call */
            req_fail(r, 500, "there are more metrics than one answer may have");
            return;
        }
        room *= 2;
    }
    r->answer.status = 200;
    r->answer.length = o.n;
    fields_add_token(r->arena, &r->answer.fields, FIELD_content_type,
                     STR("text/plain; version=0.0.4; charset=utf-8"));
    req_answer(r, false);
    if (!req_over(r))
        req_send(r, &(struct slice){.slab = text, .p = text->data, .n = o.n}, 1, true);
    slab_unref(text);
}

/* ---- /healthz, /readyz ---- */

static void answer_words(struct req *r, unsigned status, struct str words)
{
    req_answer_text(r, status, STR("text/plain; charset=utf-8"), words);
}

static void answer_health(struct req *r)
{
    answer_words(r, 200, STR("ok\n"));
}

/* Is the configuration that this process uses the current one, and the server serving? */
static const char *server_trouble(const struct req *r)
{
    const int64_t current = stats_slot_get(ROLE_STATS_MASTER, STAT_config_generation);
    if (client_draining())
        return "headgate: stopping, or this worker is being replaced";
    if (stats_slot_get(ROLE_STATS_MASTER, STAT_serving) != 1)
        return "headgate: starting or stopping";
    if (!stats_slot_get(ROLE_STATS_MASTER, STAT_reloading) &&
        (uint64_t)current != r->snap->conf->generation)
        return "headgate: this worker uses an old configuration";
    return NULL;
}

static bool has_ready(const struct conf_service *s)
{
    const struct backend_service *b = backend_service(s->name);
    LIST_EACH (&b->instances, it) {
        if (container_of(it, struct backend_instance, link)->state == INSTANCE_READY)
            return true;
    }
    return false;
}

static bool is_routed_to(const struct conf *c, const struct conf_service *s)
{
    for (unsigned i = 0; i < c->n_sites; i++)
        for (unsigned k = 0; k < c->sites[i].n_all_routes; k++)
            if (c->sites[i].routes[k].service == s)
                return true;
    for (unsigned i = 0; i < c->n_streams; i++)
        if (c->streams[i].service == s)
            return true;
    return false;
}

static void answer_ready(struct req *r)
{
    const struct conf *c = r->snap->conf;
    const char *trouble = server_trouble(r);
    const size_t room = 128 + c->n_services * (size_t)320;
    struct out o = out_on(arena_alloc(r->arena, room), room);
    if (trouble)
        out_fmt(&o, "%s\n", trouble);
    for (unsigned i = 0; i < c->n_services; i++) {
        const struct conf_service *s = &c->services[i];
        if (!has_ready(s) && is_routed_to(c, s))
            out_fmt(&o, STR_FMT ": no ready instance\n", STR_ARG(str_sub(s->name, 0, 256)));
    }
    fields_add_token(r->arena, &r->answer.fields, FIELD_cache_control, STR("no-store"));
    if (o.n)
        answer_words(r, 503, out_done(&o));
    else
        answer_words(r, 200, STR("ready\n"));
}

/* ---- the handler ---- */

static void on_start(struct req *r)
{
    static const struct {
        const char *path;
        void (*answer)(struct req *r);
    } pages[] = {
        {"/metrics", answer_metrics}, {"/healthz", answer_health}, {"/readyz", answer_ready}};
    for (size_t i = 0; i < ARRAY_LEN(pages); i++) {
        if (!str_eq(r->path, str_of(pages[i].path)))
            continue;
        if (r->method == METHOD_GET || r->method == METHOD_HEAD) {
            pages[i].answer(r);
        } else {
            fields_add(r->arena, &r->answer.fields, STR("allow"), STR("GET, HEAD"));
            answer_words(r, 405, STR("only GET and HEAD here\n"));
        }
        return;
    }
    answer_words(r, 404, STR("there are /metrics, /healthz and /readyz here\n"));
}

/* The request's body is of no interest, and nothing is held between calls. */
const struct handler metrics_handler = {
    .name = "metrics",
    .start = on_start,
};
