/*
 * drain.c - who ends when.
 */
#include "proxy/drain.h"

static void on_moment(struct deadline *m)
{
    struct drain *d = container_of(m, struct drain, moment);
    d->end(d);
}

/* A moment of its own, evenly among all that are left. */
static void give_moment(struct drain *d)
{
    uint64_t now = loop_now_ms(), until = d->group->until, random;
    random_bytes(&random, sizeof(random));
    uint64_t left = until > now ? until - now : 0;
    deadline_set(&d->moment, left ? random % left + 1 : 1, on_moment);
}

void drain_enter(struct drain_group *g, struct drain *d, void (*end)(struct drain *))
{
    ASSERT(!d->group);
    d->group = g;
    d->end = end;
    list_append(&g->members, &d->link);
    if (g->asked)
        give_moment(d);
}

void drain_leave(struct drain *d)
{
    if (!d->group)
        return;
    d->group = NULL;
    list_remove(&d->link);
    deadline_cancel(&d->moment);
}

void drain_later(struct drain *d, uint64_t ms)
{
    deadline_set(&d->moment, ms, on_moment);
}

void drain_ask(struct drain_group *g, uint64_t spread)
{
    uint64_t until = loop_now_ms() + spread;
    if (g->asked && g->until <= until)
        return;
    g->asked = true;
    g->until = until;
    LIST_EACH (&g->members, l) {
        struct drain *d = container_of(l, struct drain, link);
        if (!deadline_is_set(&d->moment) || d->moment.at > until)
            give_moment(d);
    }
}
