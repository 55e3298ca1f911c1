/*
 * stats.c - the shared segment of counters. Each process writes its own slot only, so plain stores
 * suffice; readers take what they see.
 */
#include "base/stats.h"

#include <sys/mman.h>

#include "base/segment.h"

#define SEGMENT_BYTES (sizeof(struct stats_slot) * STATS_SLOTS)

static struct stats_slot private_slot;
struct stats_slot *stats_self = &private_slot;
static struct stats_slot *segment; /* NULL until attached */

static const struct {
    const char *name, *help;
    bool gauge;
} table[] = {
#define counter             false
#define gauge               true
#define X(name, kind, help) [STAT_##name] = {#name, help, kind},
    STATS_TABLE(X)
#undef X
#undef counter
#undef gauge
};

int stats_create(void)
{
    return segment_create("headgate-stats", SEGMENT_BYTES);
}

const char *stats_attach(int fd, unsigned slot)
{
    void *at;
    if (slot >= STATS_SLOTS)
        return "no such slot in the stats segment";
    const char *err = segment_map(
        fd, SEGMENT_BYTES, "the stats segment has another size: it is another version's", &at);
    if (err)
        return err;
    if (segment)
        munmap(segment, SEGMENT_BYTES);
    segment = at;
    /* What was counted before goes along: nothing is lost between start and SETUP. */
    for (unsigned i = 0; i < STAT_COUNT; i++)
        segment[slot].v[i] += private_slot.v[i];
    memset(&private_slot, 0, sizeof(private_slot));
    stats_self = &segment[slot];
    return NULL;
}

int64_t stats_slot_get(unsigned slot, enum stats_id s)
{
    ASSERT(slot < STATS_SLOTS && s < STAT_COUNT);
    if (!segment)
        return 0;
    return __atomic_load_n(&segment[slot].v[s], __ATOMIC_RELAXED);
}

int64_t stats_sum(enum stats_id s)
{
    ASSERT(s < STAT_COUNT);
    if (!segment)
        return private_slot.v[s];
    int64_t sum = 0;
    for (unsigned i = 0; i < STATS_SLOTS; i++)
        sum += stats_slot_get(i, s);
    return sum;
}

void stats_slot_died(unsigned slot)
{
    ASSERT(slot < STATS_SLOTS);
    if (!segment)
        return;
    for (unsigned i = 0; i < STAT_COUNT; i++)
        if (table[i].gauge)
            __atomic_store_n(&segment[slot].v[i], 0, __ATOMIC_RELAXED);
}

const char *stats_name(enum stats_id s)
{
    ASSERT(s < STAT_COUNT);
    return table[s].name;
}

const char *stats_help(enum stats_id s)
{
    ASSERT(s < STAT_COUNT);
    return table[s].help;
}

bool stats_is_gauge(enum stats_id s)
{
    ASSERT(s < STAT_COUNT);
    return table[s].gauge;
}
