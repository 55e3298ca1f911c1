/*
 * ari.h - when to renew: the CA's word (RFC 9773), or a part of the lifetime. Pure but for the
 * random moment.
 */
#ifndef HG_ARI_H
#define HG_ARI_H

#include <jansson.h>

#include "base/arena.h"

struct ari_window {
    int64_t start, end; /* wall clock s */
    /* A random moment in it, chosen once for this window. Whether that is before the certificate's
     * end is the CA's affair: the schedule trusts it no further than that. */
    int64_t chosen;
    int64_t look_again; /* by Retry-After; at least 1 h, at most 1 d from now; without it 6 h */
    struct str url;     /* explanationURL, http(s) only, ≤ 512 bytes; empty: none */
};
/*
 * RFC 9773 4.2; `old`: what is known (same window: same moment); NULL: nothing. `retry_at`: wall
 * clock s; 0: no Retry-After. NULL, or why not: then *out is as it was.
 */
const char *ari_read(struct arena *a, const json_t *answer, int64_t retry_at, int64_t now,
                     const struct ari_window *old, struct ari_window *out) MUST_USE;
/* RFC 3339 in UTC or with an offset; fractions of a second are cut off. False: it is none. */
bool ari_time(struct str text, int64_t *out) MUST_USE;

/*
 * Without ARI: at a third of the lifetime left, at half for one below 10 days; `seed` (of the host
 * and certificate) spreads it over ±1/20 of the lifetime, the same for the same seed.
 * `before_s` > 0: just so long before the end instead (acme.renew), at most 9/10 of the lifetime.
 */
int64_t renew_at(int64_t not_before, int64_t not_after, int64_t before_s, uint64_t seed);
/* After n failures in a row (n ≥ 1): 1 min doubled to 6 h, ±1/4 by `random`. Seconds. */
int64_t renew_backoff(unsigned n, uint64_t random);

#endif
