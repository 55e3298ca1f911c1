/*
 * services.c - what should run: the services of the config, their generations of instances, and the
 * public calls. A changed service is replaced by a new generation; when enough of it are ready, the
 * older ones drain. How one instance lives is supervise.c's.
 */
#include <inttypes.h>
#include <stdio.h>

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
    i->since = loop_now_ms();
    list_append(&svc->instances, &i->link);
    return i;
}

void instance_close(struct instance *i)
{
    instance_release(i);
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
    list_init(&svc->instances);
    list_append(&s->services, &svc->link);
    return svc;
}

static void service_close(struct service *svc)
{
    list_remove(&svc->link);
    loop_free_later(svc->arena, destroy_arena);
}

static struct service *service_find(const struct supervisor *s, struct str name)
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

/* How many ready instances of a generation make it the one that counts. */
static unsigned service_wanted(const struct service *svc)
{
    (void)svc;
    return 1;
}

static bool service_fixed(const struct service *svc)
{
    return svc->def && svc->def->n_argv && svc->def->fixed.len;
}

static void retire(struct instance *i)
{
    uint64_t drain = i->svc->sup->conf->timeouts.drain;
    /*
     * While the holder of a fixed address drains, new requests wait for its successor: it gets half
     * of their patience, so that the successor has time to start in the other half.
     */
    if (service_fixed(i->svc) && !i->url) {
        uint64_t half = MAX(i->svc->def->wait_ready / 2, 1u);
        drain = drain ? MIN(drain, half) : half;
    }
    i->drain = drain;
    instance_event(i, EV_RETIRE);
}

static void service_replace(struct service *svc)
{
    bool fixed = service_fixed(svc);
    svc->gen++;
    LIST_EACH_SAFE (&svc->instances, l) {
        struct instance *i = container_of(l, struct instance, link);
        bool serves = i->state == INST_READY || i->state == INST_UNREADY;
        if (fixed || !serves)
            retire(i);
    }
    bool waits = fixed && !list_empty(&svc->instances);
    struct instance *i = instance_new(svc, false);
    i->waits = waits;
    if (!waits)
        instance_event(i, EV_DUE);
}

static void service_end(struct service *svc)
{
    svc->def = NULL;
    LIST_EACH_SAFE (&svc->instances, l)
        retire(container_of(l, struct instance, link));
}

/* A url service: an instance an address; those that stay are not touched. */
static void service_match_urls(struct service *svc)
{
    const struct conf_service *def = svc->def;
    svc->gen++;
    for (unsigned k = 0; k < def->n_addrs; k++) {
        struct instance *found = NULL;
        LIST_EACH (&svc->instances, l) {
            struct instance *i = container_of(l, struct instance, link);
            if (i->url && i->state == INST_READY && str_eq(i->addr.text, def->addrs[k].text))
                found = i;
        }
        if (!found) {
            found = instance_new(svc, true);
            found->addr = def->addrs[k];
            found->addr.text = arena_str(found->arena, def->addrs[k].text);
            instance_set_url(found);
        }
        found->gen = svc->gen;
    }
    LIST_EACH_SAFE (&svc->instances, l) {
        struct instance *i = container_of(l, struct instance, link);
        if (i->gen != svc->gen)
            retire(i);
    }
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
    if (waiting && !older) {
        waiting->waits = false;
        instance_event(waiting, EV_DUE);
    }
    if (!older || ready < service_wanted(svc))
        return;
    LIST_EACH_SAFE (&svc->instances, l) {
        struct instance *i = container_of(l, struct instance, link);
        if (i->gen != svc->gen)
            retire(i);
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
    list_init(&s->services);
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
    out_str(&o, str_sub(def->digest, 0, sizeof(svc->digest) - 1));
    svc->digest[o.n] = '\0';
    if (!def->n_argv)
        service_match_urls(svc);
    else if (!same)
        service_replace(svc);
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
    turn_task_cancel(&s->task);
    if (s->conf)
        conf_unref(&s->conf);
    loop_free_later(s->arena, destroy_arena);
}

void supervisor_instance_idle(struct supervisor *s, uint64_t id)
{
    LIST_EACH (&s->services, l) {
        const struct service *svc = container_of(l, struct service, link);
        LIST_EACH (&svc->instances, il) {
            struct instance *i = container_of(il, struct instance, link);
            if (i->id == id) {
                instance_event(i, EV_IDLE);
                return;
            }
        }
    }
}

const char *supervisor_restart(struct supervisor *s, struct str name)
{
    struct service *svc = service_find(s, name);
    if (s->stopping)
        return "headgate is stopping";
    if (!svc || !svc->def)
        return "there is no such service; `headgate status` lists them";
    if (!svc->def->n_argv)
        return "this service has a url: headgate does not start it and cannot restart it";
    log_info("restart asked for", "service", "%s", svc->name);
    service_replace(svc);
    return NULL;
}

void supervisor_replay(struct supervisor *s,
                       void (*each)(void *ctx, uint64_t id, const char *service, enum inst_state,
                                    const char *addr),
                       void *ctx)
{
    LIST_EACH (&s->services, l) {
        const struct service *svc = container_of(l, struct service, link);
        LIST_EACH (&svc->instances, il) {
            const struct instance *i = container_of(il, struct instance, link);
            if (i->told != INST_BACKOFF)
                each(ctx, i->id, svc->name, i->told, i->addr.text.p);
        }
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
