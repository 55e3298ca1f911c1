/*
 * pace.c - how far somebody is behind a rate, in the time that is theirs.
 */
#include "base/pace.h"

void pace_turn(struct pace *p, bool its, uint64_t now)
{
    ASSERT(now);
    if (p->since)
        p->ms += now - p->since;
    p->since = its ? now : 0;
}

/* µs that the bytes are worth; rounded up, in favour of who moved them. */
static uint64_t worth(uint64_t bytes, uint64_t rate)
{
    uint64_t us;
    if (__builtin_mul_overflow(bytes, 1000 * 1000, &us))
        return UINT64_MAX;
    return us / rate + (us % rate != 0);
}

uint64_t pace_left(struct pace *p, uint64_t rate, uint64_t patience, uint64_t now)
{
    pace_turn(p, p->since != 0, now);
    if (!rate) {
        pace_forgive(p, now);
        return UINT64_MAX;
    }
    uint64_t owed = p->behind + p->ms * 1000;
    uint64_t paid = worth(p->moved, rate);
    uint64_t limit = (patience ? patience : PACE_PATIENCE_MS) * 1000;
    p->behind = owed > paid ? owed - paid : 0;
    p->ms = p->moved = 0;
    /* Too late is too late, whosever turn this very moment is. */
    if (p->behind > limit)
        return 0;
    return p->since ? (limit - p->behind) / 1000 + 1 : UINT64_MAX;
}

void pace_forgive(struct pace *p, uint64_t now)
{
    *p = (struct pace){.since = p->since ? now : 0};
}
