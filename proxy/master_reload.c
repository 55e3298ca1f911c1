/*
 * master_reload.c - one reload after the other. Each step waits for something; reload_go_on looks
 * whether it came, and is called at the end of every turn in which anything changed. Up to the
 * canary's answer everything can be taken back, and is.
 *
 *   LOADING   a child reads and checks the files; new addresses and the access log are opened
 *   CERTS     the agent makes what certificates new hosts need
 *   CANARY    one worker uses the new configuration
 *   WORKERS   all of them; then it is the current one, services follow it
 *   LISTENERS addresses that went are emptied
 */
#include "proxy/master.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>

#include <unistd.h>

#include "base/log.h"
#include "base/proc.h"
#include "proxy/notify.h"

#define LOAD_LIMIT_MS 120000 /* a file on a dead network disk must not block reloads for ever */
/* Generous: who does not answer for that long hangs. */
#define FOLLOW_LIMIT_MS 60000
#define DROP_LIMIT_MS   60000
#define REPLACE_TRIES   5

static struct reload *const r = &master.reload;
static int new_access_fd = -1;

static void reload_start(void);

void reload_init(void)
{
    list_init(&r->waiting);
    list_init(&r->queued);
    list_init(&r->opened);
}

/* ---- the outcome ---- */

static void tell_all(struct list *waiting, enum admin_status status, struct str text)
{
    while (!list_empty(waiting)) {
        struct reload_wait *w = container_of(waiting->next, struct reload_wait, link);
        list_remove(&w->link);
        w->done(w, status, text);
    }
}

static void remember(bool ok, struct str text)
{
    free(r->last_text);
    r->last_text = strndup(text.p, text.n);
    ASSERT(r->last_text);
    r->last_ok = ok;
    r->last_at = wall_s();
}

static void take_back(void)
{
    while (!list_empty(&r->opened)) {
        struct listener *l = container_of(r->opened.next, struct listener, link);
        list_remove(&l->link);
        listener_close(&l);
    }
    if (new_access_fd >= 0)
        close(new_access_fd);
    new_access_fd = -1;
    if (master.agent.sent != master_conf()->generation)
        agent_configure(master.loaded);
    loaded_free(&r->next);
    metrics_follow(NULL);
}

static void reload_end(enum admin_status status, struct str text)
{
    struct list waiting;
    list_init(&waiting);
    LIST_EACH_SAFE (&r->waiting, it) {
        list_remove(it);
        list_append(&waiting, it);
    }
    deadline_cancel(&r->limit);
    r->step = RELOAD_IDLE;
    r->canary = NULL;
    r->replacing = false;
    if (r->kind != RELOAD_PLAN) {
        remember(status == ADMIN_FINE, text);
        metrics_reload_ended(status == ADMIN_FINE);
        notify_ready(status == ADMIN_FINE ? "serving" : "serving; the last reload was refused");
    }
    tell_all(&waiting, status, text);
    arena_free(&r->arena);
    master_changed(); /* a queued one may start */
}

/* Nothing of the new configuration stays. */
static void reload_refuse(struct str text)
{
    struct str t = text;
    while (t.n && t.p[t.n - 1] == '\n')
        t.n--;
    t = arena_fmt(r->arena, STR_FMT "%sThe running configuration was not touched.\n", STR_ARG(t),
                  t.n ? " " : "");
    const char *refused = r->kind == RELOAD_REREAD
                              ? "certificate files changed and cannot be used: the old ones stay"
                              : "reload refused: the running configuration was not touched";
    if (r->kind != RELOAD_PLAN)
        log_error(refused, "cause", "%s", arena_strz(r->arena, str_sub(t, 0, 2000)));
    take_back();
    reload_end(ADMIN_FAILED, t);
}

static void reload_refuse_why(const char *why)
{
    reload_refuse(arena_fmt(r->arena, STR_FMT "error: %s.\n", STR_ARG(r->warnings), why));
}

void reload_abort(struct str why)
{
    if (r->load.pid > 0)
        proc_signal_group(r->load.pid, SIGKILL);
    if (r->step != RELOAD_IDLE) {
        if (r->next)
            take_back();
        reload_end(ADMIN_REFUSED, why);
    }
    tell_all(&r->queued, ADMIN_REFUSED, why);
}

/* ---- LOADING ---- */

static void on_load_limit(struct deadline *d)
{
    (void)d;
    if (r->load.pid > 0)
        proc_signal_group(r->load.pid, SIGKILL);
}

/* What a running server cannot change under its own feet. */
static const char *unchangeable(const struct conf *old, const struct conf *new_one)
{
    if (!str_eq(old->state, new_one->state))
        return "`state` changed: that needs a restart of headgate";
    if (!str_eq(old->runtime, new_one->runtime))
        return "`runtime` changed: that needs a restart of headgate";
    if (!str_eq(old->admin.socket, new_one->admin.socket))
        return "`admin.socket` changed: that needs a restart of headgate";
    if (old->uid != new_one->uid || old->gid != new_one->gid)
        return "`user` changed: that needs a restart of headgate";
    return NULL;
}

static struct listener *listener_at(const struct conf_listen *c, bool same_kind)
{
    LIST_EACH (&master.listeners, it) {
        struct listener *l = container_of(it, struct listener, link);
        if (same_kind ? listener_same(l, c) : str_eq(l->addr.text, c->addr.text))
            return l;
    }
    return NULL;
}

static const char *grow_listeners(unsigned slots)
{
    const char *err = NULL;
    LIST_EACH (&master.listeners, it) {
        if (!err)
            err = listener_grow(r->arena, container_of(it, struct listener, link), slots);
    }
    return err;
}

static const char *open_listeners(void)
{
    const struct conf *c = r->next->conf;
    unsigned slots = MAX(MIN(c->workers, SLOTS_MAX), master.n_slots);
    const char *err = grow_listeners(slots);
    for (unsigned i = 0; i < c->n_listens && !err; i++) {
        if (listener_at(&c->listens[i], true))
            continue;
        bool ours = listener_at(&c->listens[i], false) != NULL;
        err = listener_open(r->arena, &c->listens[i], slots, ours, &r->opened);
    }
    return err;
}

static const char *open_what_is_new(void)
{
    const char *err = unchangeable(master_conf(), r->next->conf);
    if (!err)
        err = open_listeners();
    if (!err)
        err = access_target_open(r->arena, r->next->conf, &new_access_fd);
    return err;
}

/* reload --plan: the words of a reload, and nothing else of it. */
static void tell_plan(void)
{
    const char *err = unchangeable(master_conf(), r->next->conf);
    bool replace = false;
    for (unsigned i = 0; i < master.n_slots; i++)
        replace = replace || (master.slots[i].cur && !worker_sees(master.slots[i].cur, r->next));
    bool same = str_eq(master_conf()->digest, r->next->conf->digest);
    struct str text = arena_fmt(
        r->arena, STR_FMT "A reload would change%s\n" STR_FMT "%s", STR_ARG(r->warnings),
        same ? " nothing." : ":",
        STR_ARG(same ? STR("") : conf_diff(r->arena, master_conf(), r->next->conf)),
        replace ? "  workers: replaced one by one, for a folder outside their sandbox\n" : "");
    loaded_free(&r->next);
    if (err)
        reload_refuse_why(err);
    else
        reload_end(ADMIN_FINE, text);
}

/* Files were touched, and are what they were. */
static void forget_reread(void)
{
    loaded_free(&r->next);
    r->kind = RELOAD_PLAN; /* nothing to remember */
    reload_end(ADMIN_FINE, STR("nothing changed\n"));
    certs_watch();
}

static void loaded_came(int wait_status)
{
    bool colour = false;
    LIST_EACH (&r->waiting, it) {
        colour = colour || container_of(it, struct reload_wait, link)->colour;
    }
    r->next = load_finish(&r->load, wait_status, master.last_generation + 1, colour, r->arena,
                          &r->warnings);
    deadline_cancel(&r->limit);
    if (!r->next) {
        reload_refuse(r->warnings);
        return;
    }
    if (r->kind == RELOAD_PLAN) {
        tell_plan();
        return;
    }
    if (r->kind == RELOAD_REREAD && str_eq(r->next->conf->digest, master_conf()->digest)) {
        forget_reread();
        return;
    }
    master.last_generation++;
    const char *err = open_what_is_new();
    if (err) {
        reload_refuse_why(err);
        return;
    }
    metrics_follow(r->next->conf);
    r->summary = conf_diff(r->arena, master_conf(), r->next->conf);
    r->step = RELOAD_CERTS;
    agent_configure(r->next);
    master_changed();
}

void reload_reap(void)
{
    int status;
    if (r->load.pid <= 0 || waitpid(r->load.pid, &status, WNOHANG) != r->load.pid)
        return;
    r->load.pid = -1;
    if (r->step == RELOAD_LOADING)
        loaded_came(status);
    else
        load_drop(&r->load);
}

static void reload_start(void)
{
    /* One load serves all who wait for the same thing. */
    r->kind = container_of(r->queued.next, struct reload_wait, link)->kind;
    LIST_EACH_SAFE (&r->queued, it) {
        if (container_of(it, struct reload_wait, link)->kind != r->kind)
            continue;
        list_remove(it);
        list_append(&r->waiting, it);
    }
    r->arena = arena_new(16 * 1024);
    r->warnings = STR("");
    r->step = RELOAD_LOADING;
    if (r->kind == RELOAD_APPLY)
        notify_reloading();
    const char *err = r->kind == RELOAD_REREAD
                          ? load_start_certs(&r->load, master.loaded->bundle_fd)
                          : load_start(&r->load, master.config_file);
    if (err)
        reload_refuse_why(err);
    else
        deadline_set(&r->limit, LOAD_LIMIT_MS, on_load_limit);
}

void reload_request(struct reload_wait *w)
{
    ASSERT(!list_linked(&w->link));
    list_append(&r->queued, &w->link);
    master_changed();
}

void reload_cancel(struct reload_wait *w)
{
    list_remove(&w->link);
}

/* ---- CANARY ---- */

static struct worker *first_serving(void)
{
    for (unsigned i = 0; i < master.n_slots; i++)
        if (master.slots[i].cur && master.slots[i].cur->state == WORKER_SERVING)
            return master.slots[i].cur;
    return NULL;
}

static void to_workers(void);

/* Who was sent the configuration and says nothing is stuck: its successor starts with it. */
static void on_follow_limit(struct deadline *d)
{
    const uint64_t generation = (r->next ? r->next : master.loaded)->conf->generation;
    LIST_EACH (&master.workers, it) {
        struct worker *w = container_of(it, struct worker, link);
        if (w->state != WORKER_SERVING || w->sent != generation || w->answered == generation)
            continue;
        log_error("worker does not take the configuration: killed", "worker", "%u", w->num);
        worker_kill(w);
    }
    deadline_set(d, FOLLOW_LIMIT_MS, on_follow_limit);
}

/*
 * The first worker that serves tries it, so that a configuration that no worker can use is refused
 * while all the others still serve the old one. Without a worker there is nobody to ask.
 */
static void to_canary(void)
{
    struct worker *w = first_serving();
    r->step = RELOAD_CANARY;
    r->canary = NULL;
    deadline_set(&r->limit, FOLLOW_LIMIT_MS, on_follow_limit);
    if (!w) {
        to_workers();
        return;
    }
    r->replacing = !worker_sees(w, r->next);
    if (r->replacing) {
        slot_event(w->slot, SLOT_REPLACE);
        r->canary = w->slot->next;
        if (!r->canary)
            reload_refuse_why("a worker for the new folders cannot be started");
        return;
    }
    r->canary = w;
    worker_send_config(w, r->next);
}

static void canary_look(void)
{
    struct worker *w = r->canary;
    uint64_t generation = r->next->conf->generation;
    if (w->answered == generation && w->refused) {
        if (r->replacing)
            worker_kill(w); /* it has nothing else to serve */
        reload_refuse_why(arena_fmt(r->arena, "a worker cannot use it: %s", w->refused_why).p);
    } else if (w->answered == generation && w->state != WORKER_STARTING)
        to_workers();
}

void reload_worker_died(const struct worker *w)
{
    if (r->step != RELOAD_CANARY || w != r->canary)
        return;
    r->canary = NULL;
    reload_refuse_why("the worker that tried it died; the log says how");
}

/* ---- WORKERS ---- */

/* From here on the new configuration is the current one; nothing is taken back any more. */
static void to_workers(void)
{
    struct loaded *old = master.loaded;
    master.loaded = r->next;
    r->next = NULL;
    r->canary = NULL;
    r->step = RELOAD_WORKERS;
    loaded_free(&old);
    metrics_follow(NULL);
    certs_watch();
    access_target_use(new_access_fd);
    new_access_fd = -1;
    enum log_level level;
    if (log_level_parse(master_conf()->log.level, &level))
        log_set_level(level);
    /* New addresses are ours now, but given out only when all workers know what they mean. */
    master_changed();
}

/* The serving worker of a slot: true when it uses the new configuration, else it is made to. */
static bool worker_follows(struct slot *s, bool *replacing)
{
    struct worker *w = s->cur;
    if (w->answered == master_conf()->generation) {
        /* The canary could and this one cannot: something is wrong with it alone. */
        if (w->refused)
            worker_kill(w);
        return !w->refused;
    }
    if (worker_sees(w, master.loaded)) {
        if (w->sent != master_conf()->generation)
            worker_send_config(w, master.loaded);
        return false;
    }
    if (s->failed_starts >= REPLACE_TRIES) {
        log_error("worker cannot be replaced: it goes on with the old configuration", "worker",
                  "%u", w->num);
        return true;
    }
    /* One by one: each new one serves before the next old one goes. */
    if (!*replacing)
        slot_event(s, SLOT_REPLACE);
    *replacing = r->replacing = true;
    return false;
}

/* Sends the configuration to whoever lacks it; true when all who serve use it. */
static bool workers_follow(void)
{
    bool all = true, replacing = false;
    for (unsigned i = 0; i < master.n_slots; i++)
        replacing = replacing || master.slots[i].state == SLOT_REPLACING;
    for (unsigned i = 0; i < master.n_slots; i++) {
        struct slot *s = &master.slots[i];
        if (s->next && s->next->peer && s->next->sent != master_conf()->generation)
            worker_send_config(s->next, master.loaded);
        if (s->cur && s->cur->peer && !worker_follows(s, &replacing))
            all = false;
    }
    return all;
}

static bool listener_wanted(const struct listener *l)
{
    const struct conf *c = master_conf();
    for (unsigned i = 0; i < c->n_listens; i++)
        if (listener_same(l, &c->listens[i]))
            return true;
    return false;
}

static void on_drop_limit(struct deadline *d)
{
    (void)d;
    master_changed();
}

static void to_listeners(void)
{
    r->step = RELOAD_LISTENERS;
    if (!master.agent.gave_up && master.agent.certs_ok)
        certs_drop_older(master_conf()->generation);
    supervisor_apply(master.supervisor, master_conf());
    while (!list_empty(&r->opened)) {
        struct list *it = r->opened.next;
        list_remove(it);
        list_append(&master.listeners, it);
    }
    workers_set_count(master_conf()->workers);
    workers_share_listeners();
    LIST_EACH_SAFE (&master.listeners, it) {
        struct listener *l = container_of(it, struct listener, link);
        if (!listener_wanted(l))
            listener_take_away(l);
    }
    deadline_cancel(&r->limit);
    deadline_set(&r->limit, DROP_LIMIT_MS, on_drop_limit);
    master_changed();
}

static bool drops_all_done(void)
{
    if (!deadline_is_set(&r->limit))
        return true; /* somebody does not answer: its listeners go with it */
    LIST_EACH (&master.workers, it) {
        const struct worker *w = container_of(it, struct worker, link);
        if (w->peer && w->drops_due)
            return false;
    }
    return true;
}

static void finish(void)
{
    struct str more = r->replacing
                          ? STR("A folder outside the workers' sandbox was added: the workers "
                                "were replaced one by one.\n")
                          : STR("");
    const struct agent *agent = &master.agent;
    struct str certs = agent->problem[0]
                           ? arena_fmt(r->arena, "Certificates are missing: %s.\n", agent->problem)
                           : STR("");
    struct str text =
        arena_fmt(r->arena, STR_FMT "Configuration %lu is in use.\n" STR_FMT STR_FMT STR_FMT,
                  STR_ARG(r->warnings), (unsigned long)master_conf()->generation,
                  STR_ARG(r->summary), STR_ARG(more), STR_ARG(certs));
    log_info("reloaded", "generation", "%lu", (unsigned long)master_conf()->generation, "changes",
             "%s", arena_strz(r->arena, str_sub(r->summary, 0, 1000)));
    reload_end(ADMIN_FINE, text);
}

void reload_go_on(void)
{
    if (master.state != MASTER_SERVING)
        return;
    if (r->step == RELOAD_IDLE && !list_empty(&r->queued))
        reload_start();
    if (r->step == RELOAD_CERTS && agent_settled(r->next->conf->generation))
        to_canary();
    if (r->step == RELOAD_CANARY && r->canary)
        canary_look();
    if (r->step == RELOAD_WORKERS && workers_follow())
        to_listeners();
    if (r->step == RELOAD_LISTENERS && drops_all_done())
        finish();
}
