/*
 * eject.c - counting failures of an instance, and for how long it is left alone.
 */
#include "proxy/eject.h"

#define TELL_MS 1000

static uint64_t pause_of(unsigned times)
{
    uint64_t ms = (uint64_t)EJECT_FIRST_MS << MIN(times, 16u);
    uint32_t chance;
    ms = MIN(ms, (uint64_t)EJECT_MAX_MS);
    /* Workers that ejected it together do not try it together. */
    random_bytes(&chance, sizeof(chance));
    return ms + chance % (ms / 4);
}

enum eject_change eject_failed(struct eject *e, uint64_t now)
{
    e->failures++;
    /* Requests that were under way when it was ejected say nothing new. */
    if (eject_is_out(e, now))
        return EJECT_SAME;
    /* One that comes back is on trial: its first failure sends it away again. */
    if (e->failures >= EJECT_AFTER) {
        e->until = now + pause_of(e->times++);
        e->told_ms = now;
        return EJECT_OUT;
    }
    if (e->told_ms && now - e->told_ms < TELL_MS)
        return EJECT_SAME;
    e->told_ms = now;
    return EJECT_FAILED;
}

enum eject_change eject_served(struct eject *e)
{
    bool was_out = e->until != 0;
    e->failures = e->times = 0;
    e->until = 0;
    return was_out ? EJECT_BACK : EJECT_SAME;
}
