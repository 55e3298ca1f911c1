/*
 * pace.h - does the other side keep up? Counted is only the time in which it is its turn, so that
 * what somebody else holds up is never its fault. Pure: the clock is the caller's.
 *
 * How far it is behind is a debt in time: each millisecond of its turns adds to it, each byte that
 * it moves pays 1/rate s back, and nothing can be saved up. So over any stretch it may fall behind
 * by the caller's patience, and whoever moves at the rate never does, however unevenly within that.
 */
#ifndef HG_PACE_H
#define HG_PACE_H

#include "base/base.h"

#define PACE_PATIENCE_MS (30 * 1000) /* where the caller has none of its own */

/* Zeroed: not its turn, not behind. */
struct pace {
    uint64_t since;  /* ms: its turn, counted up to here; 0: it is not its turn */
    uint64_t ms;     /* of its turns that were not looked at yet */
    uint64_t moved;  /* bytes, likewise */
    uint64_t behind; /* µs */
};

/* From now on it is its turn, or not. Saying it again changes nothing. `now`: ms, never 0. */
void pace_turn(struct pace *p, bool its, uint64_t now);
static inline void pace_moved(struct pace *p, uint64_t bytes)
{
    p->moved += bytes;
}
/*
 * ms until it is more than `patience` ms (0: PACE_PATIENCE_MS) behind `rate` (bytes a second) if
 * nothing moves; 0: it is. UINT64_MAX: it is not, and it is not its turn, or the rate is 0. To be
 * called now and then while it has turns: what moves between two calls counts as moved evenly.
 */
uint64_t pace_left(struct pace *p, uint64_t rate, uint64_t patience, uint64_t now);
/* Had it a turn since the last look, or has it one now? */
static inline bool pace_had_turn(const struct pace *p)
{
    return p->since || p->ms;
}
/* A fresh start; whose turn it is stays as it is. */
void pace_forgive(struct pace *p, uint64_t now);

#endif
