/*
 * h2_guard.c - budgets of cheap frames: a tenth comes back each second, and a little with each
 * request that was answered in full.
 */
#include "proxy/h2_guard.h"

static const struct {
    unsigned budget;
    const char *why;
} kinds[] = {
#define X(kind, budget, why) [H2_COST_##kind] = {budget, why},
    H2_GUARD_TABLE(X)
#undef X
};

static void refill(struct h2_guard *g, uint64_t now_s)
{
    uint64_t seconds = MIN(now_s - g->second, (uint64_t)10);
    g->second = now_s;
    for (unsigned i = 0; i < H2_COST_COUNT; i++) {
        unsigned back = (unsigned)seconds * (kinds[i].budget / 10);
        g->used[i] -= MIN(back, g->used[i]);
    }
}

const char *h2_guard_take(struct h2_guard *g, enum h2_cost cost, uint64_t now_s)
{
    if (now_s != g->second)
        refill(g, now_s);
    return ++g->used[cost] > kinds[cost].budget ? kinds[cost].why : NULL;
}

void h2_guard_give(struct h2_guard *g, enum h2_cost cost, unsigned n)
{
    g->used[cost] -= MIN(n, g->used[cost]);
}

void h2_guard_earn(struct h2_guard *g)
{
    for (unsigned i = 0; i < H2_COST_COUNT; i++)
        h2_guard_give(g, (enum h2_cost)i, 1);
}
