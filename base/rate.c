/*
 * rate.c - the shared table of rate cells.
 *
 * A cell is one word: 20 bits of its owner's key, 44 bits of the theoretical arrival time in µs,
 * which wrap every 203 days. What is more than RATE_AHEAD_MAX ahead lies in the past.
 */
#include "base/rate.h"

#include "base/segment.h"
#include "base/siphash.h"

#define SETS      16384
#define CELLS     8 /* of a set: a cache line */
#define TIME_BITS 44
#define TIME_MASK ((1ULL << TIME_BITS) - 1)

struct segment {
    uint64_t key[2];
    uint64_t cells[SETS][CELLS] __attribute__((aligned(64)));
};

static struct segment *segment;

/* Not attached (a test, a process that is just starting): limits of its own. */
static struct segment *table(void)
{
    static struct segment own;
    if (unlikely(!segment)) {
        random_bytes(own.key, sizeof(own.key));
        segment = &own;
    }
    return segment;
}

int rate_create(void)
{
    int fd = segment_create("headgate-rates", sizeof(struct segment));
    uint64_t key[2];
    random_bytes(key, sizeof(key));
    segment_write(fd, offsetof(struct segment, key), key, sizeof(key));
    return fd;
}

const char *rate_attach(int fd)
{
    void *at;
    const char *err =
        segment_map(fd, sizeof(struct segment),
                    "the segment of rates has another size: it is another version's", &at);
    if (!err)
        segment = at;
    return err;
}

uint64_t rate_key(struct str what, struct net_ip ip)
{
    const struct net_ip group = net_ip_group(ip);
    const uint64_t *key = table()->key;
    /* The name's hash and the address: one word more than the address alone, of fixed length. */
    struct {
        uint64_t what;
        uint8_t ip[sizeof(group.b)], family, zero[7];
    } whole = {.what = siphash(key, what.p, what.n), .family = group.family};
    memcpy(whole.ip, group.b, sizeof(whole.ip));
    return siphash(key, &whole, sizeof(whole));
}

/* µs that the cell's owner is ahead of now; 0 when it has used up nothing, or long ago. */
static uint64_t ahead_of(uint64_t cell, uint64_t now, uint64_t most)
{
    uint64_t ahead = (cell - now) & TIME_MASK;
    return cell && ahead <= most ? ahead : 0;
}

/* The owner's cell, else the one that can best be spared; *seen is what stood in it. */
static uint64_t *find(uint64_t *set, uint64_t tag, uint64_t now, uint64_t *seen)
{
    uint64_t *spare = NULL, least = UINT64_MAX;
    for (unsigned i = 0; i < CELLS; i++) {
        uint64_t cell = __atomic_load_n(&set[i], __ATOMIC_RELAXED);
        if (cell >> TIME_BITS == tag) {
            *seen = cell;
            return &set[i];
        }
        uint64_t ahead = ahead_of(cell, now, RATE_AHEAD_MAX);
        if (ahead < least) {
            least = ahead;
            spare = &set[i];
            *seen = cell;
        }
    }
    return spare;
}

uint64_t rate_take(uint64_t key, struct rate r, uint64_t now_us)
{
    uint64_t *set = table()->cells[key % SETS];
    const uint64_t tag = MAX(key >> TIME_BITS, 1u), now = now_us & TIME_MASK;
    const uint64_t most = r.interval_us * r.burst;
    if (!r.interval_us)
        return 0;
    ASSERT(r.burst && most <= RATE_AHEAD_MAX);
    for (;;) {
        uint64_t seen = 0, *cell = find(set, tag, now, &seen);
        /* Further ahead than the limit allows: a larger one's, or left there 203 days ago. */
        uint64_t ahead = seen >> TIME_BITS == tag ? ahead_of(seen, now, most) : 0;
        uint64_t next = ahead + r.interval_us;
        if (next > most)
            return next - most;
        if (__atomic_compare_exchange_n(cell, &seen, tag << TIME_BITS | ((now + next) & TIME_MASK),
                                        false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
            return 0;
    }
}
