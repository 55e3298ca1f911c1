/*
 * rate.h - how often somebody may do something, counted over all workers: one table of cells in a
 * shared segment. GCRA: a cell holds the time at which its owner would have used up nothing
 * ("theoretical arrival time"), so that one 64-bit compare-and-swap is the whole of a decision. No
 * locks: a process that dies at any moment leaves nothing behind.
 *
 * The table has a fixed size. A cell belongs to a key (rate_key: a keyed hash of what is limited
 * and of whom); one whose owner has used up nothing is free for anybody. Where all cells of a set
 * are in use, the owner who has used up least loses its one: a flood of addresses makes the gate
 * forget, never refuse strangers. Two keys share a cell with a chance of about 1 in 100,000.
 */
#ifndef HG_RATE_H
#define HG_RATE_H

#include "base/net.h"

struct rate {
    uint64_t interval_us; /* from one to the next, on average; 0: no limit */
    uint64_t burst;       /* so many at once; 1 at least */
};

/* burst × interval_us is at most this: what a cell can look ahead. */
#define RATE_AHEAD_MAX (30ULL * 86400 * 1000000)

int rate_create(void);                    /* master: a memfd of sealed size; dies on failure */
const char *rate_attach(int fd) MUST_USE; /* maps it */
/* What is limited, and whom: the address, of IPv6 its /64. The same in all processes. */
uint64_t rate_key(struct str what, struct net_ip ip);
/* Takes one. 0: it may; else µs until it might, and nothing was taken. `now_us`: now_us(). */
uint64_t rate_take(uint64_t key, struct rate r, uint64_t now_us);

#endif
