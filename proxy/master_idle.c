/*
 * master_idle.c - when is a draining instance idle? Each worker that lives when it is told DRAINING
 * says once that it has no request left there; a dead worker has none either. Orphans cannot be
 * asked: what they know is busy until they are gone. When nobody is left
 * to say it, the supervisor may stop the instance.
 */
#include "proxy/master.h"

#include <stdlib.h>

struct watch {
    struct list link;
    uint64_t id;
    uint64_t busy[ROLE_WORKERS_MAX / 64]; /* bits: workers, by num, that did not say it yet */
};

static struct list watches = {&watches, &watches};

static bool none_busy(const struct watch *w)
{
    uint64_t any = 0;
    for (unsigned i = 0; i < ARRAY_LEN(w->busy); i++)
        any |= w->busy[i];
    return !any;
}

static void watch_end(struct watch *w)
{
    list_remove(&w->link);
    free(w);
}

/* At the turn's end: the supervisor may be in the middle of telling us of this very instance. */
static void on_look(struct turn_task *t)
{
    (void)t;
    LIST_EACH_SAFE (&watches, it) {
        struct watch *w = container_of(it, struct watch, link);
        uint64_t id = w->id;
        if (!none_busy(w) || orphans_know(id))
            continue;
        watch_end(w);
        supervisor_instance_idle(master.supervisor, id);
    }
}

static void look(void)
{
    static struct turn_task task;
    loop_at_turn_end(&task, on_look);
}

static void free_to_say(struct watch *w, unsigned num)
{
    w->busy[num / 64] &= ~(UINT64_C(1) << (num % 64));
}

static struct watch *watch_of(uint64_t id)
{
    LIST_EACH (&watches, it) {
        struct watch *w = container_of(it, struct watch, link);
        if (w->id == id)
            return w;
    }
    return NULL;
}

void idle_await(uint64_t id)
{
    if (watch_of(id))
        return;
    struct watch *w = calloc(1, sizeof(*w));
    ASSERT(w);
    w->id = id;
    LIST_EACH (&master.workers, it) {
        const struct worker *k = container_of(it, struct worker, link);
        if (k->peer)
            w->busy[k->num / 64] |= UINT64_C(1) << (k->num % 64);
    }
    list_append(&watches, &w->link);
    look();
}

void idle_forget(uint64_t id)
{
    struct watch *w = watch_of(id);
    if (w)
        watch_end(w);
}

void idle_said(const struct worker *from, uint64_t id)
{
    struct watch *w = watch_of(id);
    if (!w)
        return;
    free_to_say(w, from->num);
    look();
}

void idle_worker_gone(const struct worker *gone)
{
    LIST_EACH (&watches, it)
        free_to_say(container_of(it, struct watch, link), gone->num);
    look();
}

void idle_orphans_gone(void)
{
    look();
}
