/*
 * master_idle.c - when is a draining instance idle, or a held service? Each worker that lives when
 * it is told so says once that it has no request left there; a dead worker has none either. Orphans
 * cannot be asked: what they know is busy until they are gone. When nobody is left to say it, the
 * supervisor may stop the instance.
 */
#include "proxy/master.h"

#include <stdlib.h>

struct watch {
    struct list link;
    uint64_t id;            /* of an instance; 0: of a service */
    char *service;          /* NULL: of an instance */
    struct worker_set busy; /* did not say it yet */
};

static struct list watches = {&watches, &watches};

static void watch_end(struct watch *w)
{
    list_remove(&w->link);
    free(w->service);
    free(w);
}

/* At the turn's end: the supervisor may be in the middle of telling us of this very instance. */
static void on_look(struct turn_task *t)
{
    (void)t;
    LIST_EACH_SAFE (&watches, it) {
        struct watch *w = container_of(it, struct watch, link);
        if (worker_set_count(&w->busy) || (w->service ? !orphans_none() : orphans_know(w->id)))
            continue;
        uint64_t id = w->id;
        char *service = w->service;
        w->service = NULL;
        watch_end(w);
        if (service)
            supervisor_held(master.supervisor, str_of(service));
        else
            supervisor_instance_idle(master.supervisor, id);
        free(service);
    }
}

static void look(void)
{
    static struct turn_task task;
    loop_at_turn_end(&task, on_look);
}

static struct watch *watch_of(uint64_t id)
{
    LIST_EACH (&watches, it) {
        struct watch *w = container_of(it, struct watch, link);
        if (!w->service && w->id == id)
            return w;
    }
    return NULL;
}

static struct watch *watch_of_service(struct str service)
{
    LIST_EACH (&watches, it) {
        struct watch *w = container_of(it, struct watch, link);
        if (w->service && str_eq(str_of(w->service), service))
            return w;
    }
    return NULL;
}

/* All workers that live now have to say it. */
static struct watch *watch_new(void)
{
    struct watch *w = calloc(1, sizeof(*w));
    ASSERT(w);
    LIST_EACH (&master.workers, it) {
        const struct worker *k = container_of(it, struct worker, link);
        if (k->peer)
            worker_set_add(&w->busy, k);
    }
    list_append(&watches, &w->link);
    look();
    return w;
}

static void watch_said(struct watch *w, const struct worker *from)
{
    if (!w)
        return;
    worker_set_remove(&w->busy, from);
    look();
}

static void watch_forget(struct watch *w)
{
    if (w)
        watch_end(w);
}

void idle_await(uint64_t id)
{
    if (!watch_of(id))
        watch_new()->id = id;
}

void idle_await_service(const char *service)
{
    if (watch_of_service(str_of(service)))
        return;
    struct watch *w = watch_new();
    w->service = strdup(service);
    ASSERT(w->service);
}

void idle_forget(uint64_t id)
{
    watch_forget(watch_of(id));
}

void idle_forget_service(const char *service)
{
    watch_forget(watch_of_service(str_of(service)));
}

void idle_said(const struct worker *from, uint64_t id)
{
    watch_said(watch_of(id), from);
}

void idle_said_service(const struct worker *from, struct str service)
{
    watch_said(watch_of_service(service), from);
}

void idle_worker_gone(const struct worker *gone)
{
    LIST_EACH (&watches, it)
        worker_set_remove(&container_of(it, struct watch, link)->busy, gone);
    look();
}

void idle_orphans_gone(void)
{
    look();
}
