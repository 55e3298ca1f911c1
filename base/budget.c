/*
 * budget.c - the accounts of what is held for clients (see budget.h), and their sum in the stats.
 */
#include "base/budget.h"

#include "base/loop.h"
#include "base/stats.h"

static size_t lent; /* by the ceiling: what all clients use above their right */
static struct list waiting = {&waiting, &waiting};
static struct turn_task wake;

static size_t used(const struct budget *b)
{
    return b->held + b->promised;
}

static size_t above(size_t bytes)
{
    return bytes > BUDGET_RIGHT ? bytes - BUDGET_RIGHT : 0;
}

static void on_wake(struct turn_task *t)
{
    (void)t;
    struct list now; /* who waits again during this comes last, next time */
    list_init(&now);
    LIST_EACH_SAFE (&waiting, l) {
        if (!budget_room(container_of(l, struct budget, wait)))
            continue;
        list_remove(l);
        list_append(&now, l);
    }
    while (!list_empty(&now)) {
        struct budget *b = container_of(now.next, struct budget, wait);
        list_remove(&b->wait);
        b->on_room(b);
    }
}

static void lend(size_t before, size_t after)
{
    lent = lent - above(before) + above(after);
    if (after < before && !list_empty(&waiting))
        loop_at_turn_end(&wake, on_wake);
}

void budget_hold(struct budget *b, size_t n)
{
    if (!b)
        return;
    size_t before = used(b);
    b->held += n;
    if (unlikely(before + n > BUDGET_RIGHT))
        lend(before, before + n);
    stats_add(STAT_held_bytes, (int64_t)n);
    int64_t over = stats_self->v[STAT_held_bytes] - stats_self->v[STAT_held_bytes_peak];
    if (over > 0)
        stats_add(STAT_held_bytes_peak, over);
}

void budget_release(struct budget *b, size_t n)
{
    if (!b)
        return;
    size_t before = used(b);
    ASSERT(n <= b->held);
    b->held -= n;
    stats_add(STAT_held_bytes, -(int64_t)n);
    if (unlikely(before > BUDGET_RIGHT || list_linked(&b->wait)))
        lend(before, before - n);
}

void budget_recount(struct budget *b, size_t *counted, size_t n)
{
    if (n > *counted)
        budget_hold(b, n - *counted);
    else if (n < *counted)
        budget_release(b, *counted - n);
    *counted = n;
}

void budget_promise(struct budget *b, size_t n)
{
    size_t before = used(b);
    stats_add(STAT_promised_bytes, (int64_t)n - (int64_t)b->promised);
    b->promised = n;
    lend(before, used(b));
}

bool budget_of_right(const struct budget *b)
{
    return used(b) <= BUDGET_RIGHT;
}

static size_t room(const struct budget *b, size_t ceiling)
{
    size_t now = used(b);
    size_t of_right = now < BUDGET_RIGHT ? BUDGET_RIGHT - now : 0;
    return of_right + (lent < ceiling ? ceiling - lent : 0);
}

size_t budget_room(const struct budget *b)
{
    return room(b, BUDGET_CEILING);
}

size_t budget_spare(const struct budget *b)
{
    return room(b, BUDGET_CEILING / 2);
}

void budget_wait(struct budget *b, void (*on_room)(struct budget *b))
{
    b->on_room = on_room;
    if (list_linked(&b->wait))
        return;
    list_append(&waiting, &b->wait);
    stats_inc(budget_waits);
}

void budget_fini(struct budget *b)
{
    ASSERT(b->held == 0);
    if (b->promised)
        budget_promise(b, 0);
    list_remove(&b->wait);
}
