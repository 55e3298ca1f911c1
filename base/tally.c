/*
 * tally.c - connections by address, over all workers.
 *
 * A table is sets of eight words: 40 bits of an address's keyed hash, 24 bits of its count; 0 is
 * free. An address may be in either of two sets, so that a set is full only when nearly all are.
 */
#include "base/tally.h"

#include <sys/mman.h>

#include "base/segment.h"
#include "base/siphash.h"

#define SETS       4096
#define CELLS      8 /* of a set: a cache line */
#define COUNT_BITS 24
#define COUNT_MAX  ((1ULL << COUNT_BITS) - 1)

struct table {
    uint64_t cells[SETS][CELLS];
} __attribute__((aligned(4096)));

struct segment {
    uint64_t key[2];
    uint32_t used[TALLY_PROCESSES]; /* whose tables are worth a look: the others have no memory */
    struct table tables[TALLY_PROCESSES];
};

static struct segment *segment;
static struct table *own;

/* Where an address is looked for. */
struct place {
    uint64_t tag;
    unsigned set[2];
};

int tally_create(void)
{
    int fd = segment_create("headgate-tally", sizeof(struct segment));
    uint64_t key[2];
    random_bytes(key, sizeof(key));
    segment_write(fd, offsetof(struct segment, key), key, sizeof(key));
    return fd;
}

const char *tally_watch(int fd)
{
    void *at;
    const char *err =
        segment_map(fd, sizeof(struct segment),
                    "the segment of addresses has another size: it is another version's", &at);
    if (!err)
        segment = at;
    return err;
}

const char *tally_attach(int fd, unsigned process)
{
    if (process >= TALLY_PROCESSES)
        return "no such process in the segment of addresses";
    const char *err = tally_watch(fd);
    if (err)
        return err;
    own = &segment->tables[process];
    __atomic_store_n(&segment->used[process], 1, __ATOMIC_RELEASE);
    return NULL;
}

void tally_process_died(unsigned process)
{
    ASSERT(process < TALLY_PROCESSES);
    if (!segment || !segment->used[process])
        return;
    __atomic_store_n(&segment->used[process], 0, __ATOMIC_RELEASE);
    /* Zeros, and the memory is given back. */
    ASSERT(madvise(&segment->tables[process], sizeof(struct table), MADV_REMOVE) == 0);
}

static struct place place_of(struct net_ip ip)
{
    const struct net_ip group = net_ip_group(ip);
    uint64_t h = siphash(segment->key, &group, sizeof(group));
    return (struct place){.tag = MAX(h >> COUNT_BITS, 1u), .set = {h % SETS, (h / SETS) % SETS}};
}

/* The address's cell in a table, or NULL. */
static uint64_t *find(struct table *t, const struct place *at)
{
    for (unsigned s = 0; s < 2; s++)
        for (unsigned i = 0; i < CELLS; i++) {
            uint64_t *cell = &t->cells[at->set[s]][i];
            if (__atomic_load_n(cell, __ATOMIC_RELAXED) >> COUNT_BITS == at->tag)
                return cell;
        }
    return NULL;
}

/* One in the set that has more of them free. */
static uint64_t *find_free(struct table *t, const struct place *at)
{
    uint64_t *first = NULL;
    unsigned most = 0;
    for (unsigned s = 0; s < 2; s++) {
        unsigned n = 0;
        uint64_t *one = NULL;
        for (unsigned i = 0; i < CELLS; i++) {
            uint64_t *cell = &t->cells[at->set[s]][i];
            if (*cell == 0) {
                n++;
                one = cell;
            }
        }
        if (n > most) {
            most = n;
            first = one;
        }
    }
    return first;
}

static uint64_t total(const struct place *at)
{
    uint64_t sum = 0;
    for (unsigned p = 0; p < TALLY_PROCESSES; p++) {
        if (!__atomic_load_n(&segment->used[p], __ATOMIC_ACQUIRE))
            continue;
        const uint64_t *cell = find(&segment->tables[p], at);
        /* Read again, it may be somebody else's by now: then it says nothing of this address. */
        uint64_t v = cell ? __atomic_load_n(cell, __ATOMIC_RELAXED) : 0;
        if (v >> COUNT_BITS == at->tag)
            sum += v & COUNT_MAX;
    }
    return sum;
}

bool tally_take(struct net_ip ip, uint64_t limit, uint64_t **held)
{
    *held = NULL;
    if (!own)
        return true;
    struct place at = place_of(ip);
    uint64_t *cell = find(own, &at);
    if (!cell)
        cell = find_free(own, &at);
    if (!cell || (*cell & COUNT_MAX) == COUNT_MAX)
        return true;
    /*
     * First counted, then looked: of two processes that take at the same moment one at least sees
     * the other, so that there never are more than the limit.
     */
    uint64_t n = *cell & COUNT_MAX;
    __atomic_store_n(cell, at.tag << COUNT_BITS | (n + 1), __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    *held = cell;
    if (!limit || total(&at) <= limit)
        return true;
    tally_drop(held);
    return false;
}

void tally_drop(uint64_t **held)
{
    uint64_t *cell = *held;
    *held = NULL;
    if (!cell)
        return;
    uint64_t v = *cell;
    ASSERT(v & COUNT_MAX);
    __atomic_store_n(cell, (v & COUNT_MAX) == 1 ? 0 : v - 1, __ATOMIC_RELEASE);
}
