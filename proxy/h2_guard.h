/*
 * h2_guard.h - what a client may make us do for nothing (RFC 9113 10.5): each kind of cheap frame
 * has a budget that useful work refills. Counting only; what follows from an empty one is h2.c's.
 */
#ifndef HG_H2_GUARD_H
#define HG_H2_GUARD_H

#include "base/base.h"

/* kind, how many at once, why a connection ends when it is used up */
#define H2_GUARD_TABLE(X)                                                \
    X(reset, 400, "streams are reset faster than they are used")         \
    X(control, 1000, "too many SETTINGS, PING and PRIORITY frames")      \
    X(empty, 200, "too many empty DATA frames")                          \
    X(ignored, 1000, "too many frames for streams that are closed")      \
    X(refused, 200, "too many refused requests")                         \
    X(window, 1000, "too many WINDOW_UPDATEs for streams that are over") \
    X(streams, 1000, "too many streams above the announced limit")

enum h2_cost {
#define X(kind, budget, why) H2_COST_##kind,
    H2_GUARD_TABLE(X)
#undef X
        H2_COST_COUNT
};

struct h2_guard {
    unsigned used[H2_COST_COUNT];
    uint64_t second; /* of the last refill */
};

/* Counts one; NULL, or why the connection has to end. `now_s`: any clock of seconds. */
const char *h2_guard_take(struct h2_guard *g, enum h2_cost cost, uint64_t now_s);
/* A request was answered in full: honest clients pay with these. */
void h2_guard_earn(struct h2_guard *g);
/* Gives back up to n of one kind. */
void h2_guard_give(struct h2_guard *g, enum h2_cost cost, unsigned n);

#endif
