/*
 * master_admin.c - the verbs of the admin socket: status, reload, stop. How they look on a terminal
 * is cli_status.c's.
 */
#include "proxy/master.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/json.h"
#include "base/log.h"
#include "base/stats.h"
#include "proxy/rows.h"

/* ---- status ---- */

struct gauge {
    const char *name;
    enum stats_id id;
};

/* Who accepts on a slot's socket; lent: another slot's worker. */
static bool sock_lent(const struct listener *l, unsigned i)
{
    const struct worker *w = l->socks[i].holder;
    return w && (!w->slot || w->slot->index != i);
}

static json_t *sock_status(const struct listener *l, unsigned i)
{
    const struct worker *w = l->socks[i].holder;
    json_t *j = json_object();
    json_object_set_new(j, "slot", json_integer(i));
    json_object_set_new(j, "worker", w ? json_integer(w->num) : json_null());
    json_object_set_new(j, "pid", w ? json_integer(w->pid) : json_null());
    json_object_set_new(j, "lent", json_boolean(sock_lent(l, i)));
    return j;
}

static json_t *listener_status(const struct listener *l)
{
    const struct row_key key = {{str_of(listener_kind_text(l->kind)), l->addr.text}};
    struct listener_row row = {0};
    unsigned lent = 0, idle = 0;
    json_t *j = json_object(), *slots = json_array();
    for (unsigned i = 0; i < l->n_socks; i++) {
        idle += l->socks[i].holder == NULL;
        lent += sock_lent(l, i);
        json_array_append_new(slots, sock_status(l, i));
    }
    (void)rows_total_of(ROW_LISTENER, &key, &row); /* none: it is too new, nobody came yet */
    json_object_set_new(j, "kind", json_string(listener_kind_text(l->kind)));
    json_object_set_new(j, "address", json_text(l->addr.text));
    json_object_set_new(j, "state",
                        json_string(!idle               ? "serving"
                                    : idle < l->n_socks ? "partly served"
                                                        : "not served"));
    json_object_set_new(j, "connections", json_integer(row.connections));
    json_object_set_new(j, "accepted", json_integer(row.accepted));
    json_object_set_new(j, "sockets", json_integer(l->n_socks));
    json_object_set_new(j, "lent", json_integer(lent));
    json_object_set_new(j, "unserved", json_integer(idle));
    json_object_set_new(j, "slots", slots);
    json_object_set_new(j, "ipv4_only", json_boolean(l->v4_only));
    return j;
}

static json_t *listeners_status(void)
{
    json_t *all = json_array();
    LIST_EACH (&master.listeners, it)
        json_array_append_new(all, listener_status(container_of(it, struct listener, link)));
    return all;
}

/* What is open and under way now by kind: of one process, or of all. */
#define ALL_PROCESSES STATS_SLOTS

static json_t *gauges(const struct gauge *v, size_t n, unsigned slot)
{
    json_t *j = json_object();
    for (size_t i = 0; i < n; i++) {
        const enum stats_id s = v[i].id;
        const int64_t now = slot == ALL_PROCESSES ? stats_sum(s) : stats_slot_get(slot, s);
        json_object_set_new(j, v[i].name, json_integer(now));
    }
    return j;
}

static json_t *traffic_status(unsigned slot)
{
    static const struct gauge connections[] = {
        {"handshake", STAT_connections_handshake}, {"http/1.1", STAT_connections_h1},
        {"http/1.1 tls", STAT_connections_h1_tls}, {"h2", STAT_connections_h2},
        {"h2 tls", STAT_connections_h2_tls},       {"tcp", STAT_connections_tcp},
        {"tcp tls", STAT_connections_tcp_tls}};
    static const struct gauge requests[] = {{"http", STAT_requests_http},
                                            {"grpc", STAT_requests_grpc},
                                            {"grpc-web", STAT_requests_grpc_web},
                                            {"websocket", STAT_requests_websocket},
                                            {"sse", STAT_requests_sse}};
    json_t *j = json_object();
    json_object_set_new(j, "connections", gauges(connections, ARRAY_LEN(connections), slot));
    json_object_set_new(j, "requests", gauges(requests, ARRAY_LEN(requests), slot));
    return j;
}

/* Till a pause is over, ms. */
static json_t *json_due(const struct deadline *d)
{
    uint64_t now = loop_now_ms();
    return json_integer(deadline_is_set(d) && d->at > now ? (json_int_t)(d->at - now) : 0);
}

static json_t *worker_status(const struct worker *w)
{
    json_t *j = json_object();
    json_object_set_new(j, "worker", json_integer(w->num));
    json_object_set_new(j, "slot", w->slot ? json_integer(w->slot->index) : json_null());
    json_object_set_new(j, "pid", json_integer(w->pid));
    json_object_set_new(j, "state", json_string(worker_state_text(w->state)));
    json_object_set_new(j, "uptime",
                        json_integer((json_int_t)(loop_now_ms() - w->started_ms) / 1000));
    json_object_set_new(j, "restarts", json_integer(w->slot ? w->slot->restarts : 0));
    json_object_set_new(j, "configuration", json_integer((json_int_t)w->answered));
    static const enum stats_id shown[] = {STAT_connections, STAT_requests, STAT_requests_total,
                                          STAT_requests_waiting};
    for (size_t i = 0; i < ARRAY_LEN(shown); i++)
        json_object_set_new(j, stats_name(shown[i]),
                            json_integer(stats_slot_get(w->num, shown[i])));
    json_object_set_new(j, "traffic", traffic_status(w->num));
    return j;
}

/* The slots' workers in order, those without one too, then the ones that drain. */
static json_t *workers_status(void)
{
    json_t *all = json_array();
    for (unsigned i = 0; i < master.n_slots; i++) {
        const struct slot *s = &master.slots[i];
        if (s->cur)
            json_array_append_new(all, worker_status(s->cur));
        if (s->next)
            json_array_append_new(all, worker_status(s->next));
        if (s->state == SLOT_BACKOFF)
            json_array_append_new(all,
                                  json_pack("{s:n, s:i, s:n, s:s, s:i, s:o}", "worker", "slot", i,
                                            "pid", "state", "waiting", "restarts", (int)s->restarts,
                                            "next_start_ms", json_due(&s->pause)));
    }
    LIST_EACH (&master.workers, it) {
        const struct worker *w = container_of(it, struct worker, link);
        if (w->state == WORKER_DRAINING)
            json_array_append_new(all, worker_status(w));
    }
    orphans_status(all);
    return all;
}

static json_t *agent_status(void)
{
    static const char *const states[] = {[AGENT_STOPPED] = "stopped",
                                         [AGENT_STARTING] = "starting",
                                         [AGENT_SERVING] = "serving",
                                         [AGENT_BACKOFF] = "waiting"};
    const struct agent *a = &master.agent;
    json_t *j = json_object();
    json_object_set_new(j, "pid", a->pid > 0 ? json_integer(a->pid) : json_null());
    json_object_set_new(j, "state", json_string(states[a->state]));
    json_object_set_new(j, "restarts", json_integer(a->restarts));
    if (a->pid > 0)
        json_object_set_new(j, "uptime",
                            json_integer((json_int_t)(loop_now_ms() - a->started_ms) / 1000));
    if (a->state == AGENT_BACKOFF)
        json_object_set_new(j, "next_start_ms", json_due(&a->pause));
    json_object_set_new(j, "asked", json_integer(asks_open()));
    json_object_set_new(j, "problem", a->problem[0] ? json_string(a->problem) : json_null());
    return j;
}

static void add_given(json_t *all, const struct conf_tls *tls)
{
    for (unsigned i = 0; i < tls->n_certs; i++)
        json_array_append_new(
            all,
            json_pack("{s:o, s:s}", "file", json_text(tls->certs[i].cert_path), "issuer", "given"));
}

json_t *certs_status(void)
{
    json_t *all = json_array();
    LIST_EACH (&master.cert_states, it) {
        const struct cert_state *s = container_of(it, struct cert_state, link);
        json_array_append_new(all, cert_state_status(s, cert_find(str_of(s->host)) != NULL));
    }
    LIST_EACH (&master.certs, it) {
        const struct master_cert *c = container_of(it, struct master_cert, link);
        if (cert_state_find(str_of(c->host)))
            continue;
        json_t *j = json_object();
        json_object_set_new(j, "host", json_string(c->host));
        json_object_set_new(j, "issuer", json_string("local"));
        json_object_set_new(j, "not_after", json_integer((json_int_t)c->fixed.not_after));
        json_array_append_new(all, j);
    }
    const struct conf *conf = master_conf();
    add_given(all, &conf->tls);
    for (unsigned i = 0; i < conf->n_sites; i++)
        if (conf->sites[i].tls.certs != conf->tls.certs)
            add_given(all, &conf->sites[i].tls);
    return all;
}

static json_t *json_strs(const struct str *v, unsigned n)
{
    json_t *all = json_array();
    for (unsigned i = 0; i < n; i++)
        json_array_append_new(all, json_text(v[i]));
    return all;
}

static json_t *sites_status(void)
{
    json_t *all = json_array();
    const struct conf *c = master_conf();
    for (unsigned i = 0; i < c->n_sites; i++) {
        const struct conf_site *s = &c->sites[i];
        json_t *j = json_object();
        json_object_set_new(j, "name", json_text(s->name));
        json_object_set_new(j, "kind", json_string(s->is_channel ? "channel" : "site"));
        json_object_set_new(j, "host", json_text(s->host));
        json_object_set_new(j, "aliases", json_strs(s->aliases, s->n_aliases));
        json_object_set_new(j, "redirect_from", json_strs(s->redirect_from, s->n_redirect_from));
        json_array_append_new(all, j);
    }
    return all;
}

static json_t *counters_status(void)
{
    json_t *j = json_object();
    for (unsigned i = 0; i < STAT_COUNT; i++)
        if (i != STAT_config_generation)
            json_object_set_new(j, stats_name((enum stats_id)i),
                                json_integer(stats_sum((enum stats_id)i)));
    return j;
}

static json_t *reload_status(void)
{
    const struct reload *r = &master.reload;
    json_t *j = json_object();
    json_object_set_new(j, "under_way", json_boolean(r->step != RELOAD_IDLE));
    if (!r->last_text)
        return j;
    json_object_set_new(j, "at", json_integer(r->last_at));
    json_object_set_new(j, "ok", json_boolean(r->last_ok));
    json_object_set_new(j, "text", json_text(str_of(r->last_text)));
    return j;
}

/* What a server that still starts has not got yet. */
static const char *awaited(void)
{
    if (!workers_all_serve())
        return "workers";
    return agent_settled(master_conf()->generation) ? "" : "certificates";
}

json_t *master_status(void)
{
    static const char *const states[] = {[MASTER_STARTING] = "starting",
                                         [MASTER_SERVING] = "serving",
                                         [MASTER_STOPPING] = "stopping"};
    const struct conf *c = master_conf();
    json_t *j = json_object(), *config = json_object();
    json_object_set_new(config, "file", json_string(master.config_file));
    json_object_set_new(config, "generation", json_integer((json_int_t)c->generation));
    json_object_set_new(config, "digest", json_text(c->digest));
    json_object_set_new(config, "state", json_text(c->state));
    json_object_set_new(j, "version", json_string(HG_VERSION));
    json_object_set_new(j, "pid", json_integer(getpid()));
    json_object_set_new(j, "state", json_string(states[master.state]));
    if (master.state == MASTER_STARTING)
        json_object_set_new(j, "waits_for", json_string(awaited()));
    json_object_set_new(j, "started_at", json_integer(master.started_at));
    json_object_set_new(j, "uptime", json_integer(wall_s() - master.started_at));
    json_object_set_new(j, "config", config);
    json_object_set_new(j, "reload", reload_status());
    json_object_set_new(j, "listeners", listeners_status());
    json_object_set_new(j, "traffic", traffic_status(ALL_PROCESSES));
    json_object_set_new(j, "workers", workers_status());
    json_object_set_new(j, "agent", agent_status());
    json_object_set_new(j, "sites", sites_status());
    json_t *services = supervisor_status(master.supervisor);
    eject_status(services);
    json_object_set_new(j, "services", services);
    json_object_set_new(j, "certificates", certs_status());
    json_object_set_new(j, "counters", counters_status());
    return j;
}

static void verb_status(struct admin_conn *c, json_t *request)
{
    (void)request;
    admin_reply(c, ADMIN_FINE, STR(""), master_status());
}

/* ---- reload ---- */

struct reload_asked {
    struct reload_wait wait;
    struct list link; /* in asked, to be found when the connection goes */
    struct admin_conn *conn;
};
static struct list asked = {&asked, &asked};

static void on_reload_done(struct reload_wait *w, enum admin_status status, struct str text)
{
    struct reload_asked *r = container_of(w, struct reload_asked, wait);
    list_remove(&r->link);
    json_t *more = json_pack("{s:I}", "generation", (json_int_t)master_conf()->generation);
    admin_reply(r->conn, status, text, more);
    free(r);
}

static void verb_reload(struct admin_conn *c, json_t *request)
{
    if (master.state == MASTER_STOPPING) {
        admin_reply(c, ADMIN_REFUSED, STR("headgate stops.\n"), NULL);
        return;
    }
    struct reload_asked *r = calloc(1, sizeof(*r));
    ASSERT(r);
    r->conn = c;
    r->wait.colour = json_is_true(json_object_get(request, "colour"));
    r->wait.kind = json_is_true(json_object_get(request, "plan")) ? RELOAD_PLAN : RELOAD_APPLY;
    r->wait.done = on_reload_done;
    list_append(&asked, &r->link);
    reload_request(&r->wait);
}

/* ---- restart ---- */

static void verb_restart(struct admin_conn *c, json_t *request)
{
    const char *service = json_string_value(json_object_get(request, "service"));
    struct arena *a = arena_new(1024);
    const char *err = "the name of a service is CHANNEL/SERVICE";
    if (master.state == MASTER_STOPPING)
        err = "headgate stops";
    else if (service)
        err = supervisor_restart(master.supervisor, a, str_of(service));
    if (err)
        admin_reply(c, ADMIN_FAILED,
                    arena_fmt(a, "headgate: restart %s: %s\n", service ? service : "", err), NULL);
    else
        admin_reply(c, ADMIN_FINE, arena_fmt(a, "%s: a new instance is on its way\n", service),
                    NULL);
    arena_free(&a);
}

/* ---- stop ---- */

static void verb_stop(struct admin_conn *c, json_t *request)
{
    (void)request;
    if (master.n_stop_asked == ARRAY_LEN(master.stop_asked)) {
        admin_reply(c, ADMIN_REFUSED, STR("headgate stops already.\n"), NULL);
        return;
    }
    master.stop_asked[master.n_stop_asked++] = c;
    log_info("stop: asked over the admin socket");
    if (master.state != MASTER_STOPPING)
        master_stop();
}

void master_admin_stopped(void)
{
    if (!master.admin)
        return;
    admin_stop_listening(master.admin);
    for (unsigned i = 0; i < master.n_stop_asked; i++)
        admin_reply_last(master.stop_asked[i], ADMIN_FINE, STR("stopped\n"));
    master.n_stop_asked = 0;
}

/* ---- all verbs ---- */

static const struct {
    const char *name;
    void (*run)(struct admin_conn *c, json_t *request);
} verbs[] = {{"status", verb_status}, {"reload", verb_reload}, {"restart", verb_restart},
             {"logs", verb_logs},     {"certs", verb_certs},   {"stop", verb_stop}};

static void on_request(void *ctx, struct admin_conn *c, const char *verb, json_t *request)
{
    (void)ctx;
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
        if (strcmp(verbs[i].name, verb) == 0) {
            verbs[i].run(c, request);
            return;
        }
    }
    admin_reply(c, ADMIN_REFUSED,
                STR("the server does not know this verb; is it of an older version?\n"), NULL);
}

static void on_room(void *ctx, struct admin_conn *c)
{
    (void)ctx;
    logs_conn_room(c);
}

static void on_closed(void *ctx, struct admin_conn *c)
{
    (void)ctx;
    logs_conn_closed(c);
    asks_conn_closed(c);
    LIST_EACH_SAFE (&asked, it) {
        struct reload_asked *r = container_of(it, struct reload_asked, link);
        if (r->conn != c)
            continue;
        /* The reload goes on; only nobody hears of it. */
        reload_cancel(&r->wait);
        list_remove(&r->link);
        free(r);
    }
    for (unsigned i = 0; i < master.n_stop_asked; i++)
        if (master.stop_asked[i] == c)
            master.stop_asked[i--] = master.stop_asked[--master.n_stop_asked];
}

const char *master_admin_open(struct arena *a)
{
    static const struct admin_ops ops = {
        .on_request = on_request, .on_room = on_room, .on_closed = on_closed};
    const struct conf *c = master_conf();
    const char *err = NULL;
    master.admin = admin_open(a, arena_strz(a, c->admin.socket), c->admin.mode, c->admin.group,
                              &ops, NULL, &err);
    return err;
}
