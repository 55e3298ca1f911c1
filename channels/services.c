/*
 * services.c - what should run: the services of the config, their generations of instances, and the
 * public calls. A changed service is replaced by a new generation; when enough of it are ready, the
 * older ones drain. How one instance lives is supervise.c's.
 */
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "base/cgroup.h"
#include "base/log.h"
#include "channels/instance.h"

/* ---- objects ---- */

static void destroy_instance(void *p)
{
    struct instance *i = p;
    struct arena *a = i->arena;
    arena_free(&i->run);
    arena_free(&a);
}

struct instance *instance_new(struct service *svc, bool url)
{
    struct arena *a = arena_new(sizeof(struct instance) + 512);
    struct instance *i = arena_znew(a, struct instance);
    i->arena = a;
    i->run = arena_new(2048);
    i->svc = svc;
    i->id = ++svc->sup->last_id;
    i->gen = svc->gen;
    i->url = url;
    i->proc.pidfd = -1;
    i->probe.fd = -1;
    i->listen_fd = -1;
    i->user.uid = (uid_t)-1; /* until one is found for it */
    i->since = loop_now_ms();
    list_append(&svc->instances, &i->link);
    return i;
}

void instance_close(struct instance *i)
{
    instance_release(i);
    if (i->listen_fd >= 0)
        close(i->listen_fd);
    probe_cancel(&i->probe);
    deadline_cancel(&i->due);
    if (event_initialized(&i->poll))
        event_del(&i->poll);
    list_remove(&i->link);
    loop_free_later(i, destroy_instance);
}

static void destroy_arena(void *p)
{
    struct arena *a = p;
    arena_free(&a);
}

static struct service *service_new(struct supervisor *s, struct str name)
{
    struct arena *a = arena_new(1024);
    struct service *svc = arena_znew(a, struct service);
    svc->arena = a;
    svc->sup = s;
    svc->name = arena_strz(a, name);
    svc->drain = s->conf ? s->conf->timeouts.drain : 0;
    list_init(&svc->instances);
    list_append(&s->services, &svc->link);
    return svc;
}

static void service_close(struct service *svc)
{
    deadline_cancel(&svc->hold_limit);
    lines_fini(&svc->lines);
    list_remove(&svc->link);
    loop_free_later(svc->arena, destroy_arena);
}

struct service *service_find(const struct supervisor *s, struct str name)
{
    LIST_EACH (&s->services, l) {
        struct service *svc = container_of(l, struct service, link);
        if (str_eq(str_of(svc->name), name))
            return svc;
    }
    return NULL;
}

struct service *service_get(struct supervisor *s, struct str name)
{
    struct service *svc = service_find(s, name);
    return svc ? svc : service_new(s, name);
}

/* ---- replacing ---- */

/* How many there are to be; so many ready ones of a generation make it the one that counts. */
static unsigned service_wanted(const struct service *svc)
{
    return svc->def && svc->def->n_argv ? MAX(svc->def->instances, 1u) : 1;
}

static bool service_exclusive(const struct service *svc)
{
    return svc->def && conf_service_alone(svc->def);
}

void service_retire(struct instance *i)
{
    i->drain = i->svc->def && !i->url ? conf_service_drain(i->svc->def) : i->svc->drain;
    instance_event(i, EV_RETIRE);
}

/* ---- handover: requests wait in the workers while the old instance goes ---- */

static void hold_tell(struct service *svc, bool on)
{
    svc->holding = on;
    svc->sup->ops.on_hold(svc->sup->ctx, svc->name, on);
}

static void hold_over(struct service *svc)
{
    deadline_cancel(&svc->hold_limit);
    LIST_EACH_SAFE (&svc->instances, l) {
        struct instance *i = container_of(l, struct instance, link);
        if (i->gen != svc->gen)
            instance_event(i, EV_STOP);
    }
}

static void on_hold_limit(struct deadline *d)
{
    struct service *svc = container_of(d, struct service, hold_limit);
    log_warn("requests do not end in time for the handover, going on without them", "service", "%s",
             svc->name);
    hold_over(svc);
}

/* The old instance serves until no request is left, but gets none any more. */
static void hold_begin(struct service *svc, struct instance *old)
{
    old->goal = GOAL_END; /* should it end by itself meanwhile: not again */
    if (svc->holding)
        return;
    hold_tell(svc, true);
    deadline_set(&svc->hold_limit, conf_service_drain(svc->def), on_hold_limit);
}

/* Nothing of the old ones runs any more. What is not ready yet makes requests wait by itself. */
static void hold_end(struct service *svc)
{
    if (!svc->holding)
        return;
    deadline_cancel(&svc->hold_limit);
    hold_tell(svc, false);
}

void supervisor_held(struct supervisor *s, struct str name)
{
    struct service *svc = service_find(s, name);
    if (svc && svc->holding)
        hold_over(svc);
}

/* ---- generations ---- */

static void service_add(struct service *svc, unsigned n, bool waits)
{
    while (n--) {
        struct instance *i = instance_new(svc, false);
        i->waits = waits;
        if (!waits)
            instance_event(i, EV_DUE);
    }
}

static void service_replace(struct service *svc)
{
    bool alone = service_exclusive(svc);
    bool hold = svc->def->handover && svc->sup->ops.on_hold;
    svc->gen++;
    LIST_EACH_SAFE (&svc->instances, l) {
        struct instance *i = container_of(l, struct instance, link);
        bool serves = i->state == INST_READY || i->state == INST_UNREADY;
        if (serves && hold)
            hold_begin(svc, i);
        else if (alone || !serves)
            service_retire(i);
    }
    service_add(svc, service_wanted(svc), alone && !list_empty(&svc->instances));
}

static bool is_going(const struct instance *i)
{
    return i->state == INST_DRAINING || (i->state == INST_STOPPING && i->goal == GOAL_END);
}

/* Only the number changed: some come, or the newest go. */
static void service_scale(struct service *svc)
{
    unsigned n = 0, wanted = service_wanted(svc);
    LIST_EACH (&svc->instances, l) {
        const struct instance *i = container_of(l, struct instance, link);
        n += i->gen == svc->gen && !is_going(i);
    }
    if (n < wanted)
        service_add(svc, wanted - n, false);
    for (struct list *l = svc->instances.prev, *before; n > wanted && l != &svc->instances;
         l = before) {
        struct instance *i = container_of(l, struct instance, link);
        before = l->prev;
        if (i->gen != svc->gen || is_going(i))
            continue;
        n--;
        service_retire(i);
    }
}

static void service_end(struct service *svc)
{
    hold_end(svc);
    svc->def = NULL;
    LIST_EACH_SAFE (&svc->instances, l)
        service_retire(container_of(l, struct instance, link));
}

/* Older generations go when the newest one serves; who waits for an address starts when it is free.
 */
static void service_reconcile(struct service *svc)
{
    unsigned ready = 0;
    struct instance *waiting = NULL;
    bool older = false;
    LIST_EACH (&svc->instances, l) {
        struct instance *i = container_of(l, struct instance, link);
        if (i->gen != svc->gen)
            older = true;
        else if (i->waits)
            waiting = i;
        else if (i->state == INST_READY)
            ready++;
    }
    if (!older)
        hold_end(svc);
    if (waiting && !older) {
        waiting->waits = false;
        instance_event(waiting, EV_DUE);
    }
    if (!older || svc->holding || ready < service_wanted(svc))
        return;
    LIST_EACH_SAFE (&svc->instances, l) {
        struct instance *i = container_of(l, struct instance, link);
        if (i->gen != svc->gen)
            service_retire(i);
    }
}

void supervisor_reconcile(struct turn_task *t)
{
    struct supervisor *s = container_of(t, struct supervisor, task);
    bool any = false;
    LIST_EACH_SAFE (&s->services, l) {
        struct service *svc = container_of(l, struct service, link);
        if (!s->stopping && svc->def)
            service_reconcile(svc);
        else if (!svc->def && list_empty(&svc->instances))
            service_close(svc);
        any = any || (list_linked(&svc->link) && !list_empty(&svc->instances));
    }
    if (s->stopping && !any && !s->stopped) {
        s->stopped = true;
        cgroup_disallow_memory();
        if (s->ops.on_all_stopped)
            s->ops.on_all_stopped(s->ctx); /* the last thing: it may free s */
    }
}

/* ---- the public calls ---- */

struct supervisor *supervisor_new(const struct supervisor_ops *ops, void *ctx, const char *state,
                                  const char *runtime)
{
    struct arena *a = arena_new(1024);
    struct supervisor *s = arena_znew(a, struct supervisor);
    s->arena = a;
    s->ops = *ops;
    s->ctx = ctx;
    s->state = arena_strz(a, str_of(state));
    s->runtime = arena_strz(a, str_of(runtime));
    s->no_cgroup = cgroup_find_base(a, &s->cgroup);
    list_init(&s->services);
    list_init(&s->names);
    logs_start(s);
    return s;
}

static void apply_service(struct supervisor *s, const struct conf_service *def)
{
    struct service *svc = service_find(s, def->name);
    bool fresh = !svc || !svc->def;
    if (!svc)
        svc = service_new(s, def->name);
    struct out o = out_on(svc->digest, sizeof(svc->digest) - 1);
    bool same = !fresh && str_eq(def->digest, str_of(svc->digest));
    svc->def = def;
    svc->drain = def->drain;
    out_str(&o, str_sub(def->digest, 0, sizeof(svc->digest) - 1));
    svc->digest[o.n] = '\0';
    if (!def->n_argv)
        service_match_urls(svc);
    else if (!same)
        service_replace(svc);
    else
        service_scale(svc);
}

void supervisor_apply(struct supervisor *s, struct conf *c)
{
    if (s->stopping)
        return;
    struct conf *before = s->conf;
    s->conf = conf_ref(c);
    LIST_EACH_SAFE (&s->services, l) {
        struct service *svc = container_of(l, struct service, link);
        if (!conf_service_find(c, str_of(svc->name)))
            service_end(svc);
    }
    for (unsigned k = 0; k < c->n_services; k++)
        apply_service(s, &c->services[k]);
    names_prune(s);
    if (before)
        conf_unref(&before);
    loop_at_turn_end(&s->task, supervisor_reconcile);
}

void supervisor_stop(struct supervisor *s)
{
    s->stopping = true;
    LIST_EACH_SAFE (&s->services, l) {
        struct service *svc = container_of(l, struct service, link);
        LIST_EACH_SAFE (&svc->instances, il)
            instance_event(container_of(il, struct instance, link), EV_STOP);
    }
    loop_at_turn_end(&s->task, supervisor_reconcile);
}

void supervisor_free(struct supervisor **sp)
{
    struct supervisor *s = *sp;
    *sp = NULL;
    if (!s)
        return;
    LIST_EACH_SAFE (&s->services, l) {
        struct service *svc = container_of(l, struct service, link);
        LIST_EACH_SAFE (&svc->instances, il)
            instance_close(container_of(il, struct instance, link));
        service_close(svc);
    }
    logs_stop(s);
    turn_task_cancel(&s->task);
    names_free(s);
    if (s->conf)
        conf_unref(&s->conf);
    loop_free_later(s->arena, destroy_arena);
}

static struct instance *instance_find(const struct supervisor *s, uint64_t id)
{
    LIST_EACH (&s->services, l) {
        const struct service *svc = container_of(l, struct service, link);
        LIST_EACH (&svc->instances, il) {
            struct instance *i = container_of(il, struct instance, link);
            if (i->id == id)
                return i;
        }
    }
    return NULL;
}

void supervisor_instance_idle(struct supervisor *s, uint64_t id)
{
    struct instance *i = instance_find(s, id);
    if (i)
        instance_event(i, EV_IDLE);
}

bool supervisor_knows(const struct supervisor *s, uint64_t id)
{
    return instance_find(s, id) != NULL;
}

struct str supervisor_name_of(const struct supervisor *s, uint64_t id)
{
    const struct instance *i = instance_find(s, id);
    return i && i->url && !i->backend.addr.len ? i->backend.name : STR_NULL;
}

const char *supervisor_restart(struct supervisor *s, struct arena *a, struct str name)
{
    struct service *svc = service_find(s, name);
    if (s->stopping)
        return "headgate is stopping";
    if (!svc || !svc->def)
        return supervisor_no_such(s, a, name, false);
    if (!svc->def->n_argv)
        return "this service has a url: headgate does not start it and cannot restart it";
    log_info("restart asked for", "service", "%s", svc->name);
    service_replace(svc);
    return NULL;
}

void supervisor_replay(struct supervisor *s,
                       void (*each)(void *ctx, uint64_t id, const char *service, enum inst_state,
                                    const struct inst_address *at),
                       void *ctx)
{
    LIST_EACH (&s->services, l) {
        const struct service *svc = container_of(l, struct service, link);
        LIST_EACH (&svc->instances, il) {
            const struct instance *i = container_of(il, struct instance, link);
            const struct inst_address at = instance_address(i);
            if (i->told != INST_BACKOFF)
                each(ctx, i->id, svc->name, i->told, &at);
        }
    }
}

void supervisor_replay_holds(struct supervisor *s,
                             void (*each)(void *ctx, const char *service, bool on), void *ctx)
{
    LIST_EACH (&s->services, l) {
        const struct service *svc = container_of(l, struct service, link);
        if (svc->holding)
            each(ctx, svc->name, true);
    }
}

bool supervisor_settled(const struct supervisor *s)
{
    LIST_EACH (&s->services, l) {
        const struct service *svc = container_of(l, struct service, link);
        if (svc->def && !svc->tried)
            return false;
    }
    return true;
}
