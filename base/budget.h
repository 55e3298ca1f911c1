/*
 * budget.h - what the process holds in memory for one client: bytes that wait in either direction,
 * heads, the protocol's own state. Counting only: who waits when nothing is left is the owner's.
 *
 * Each client holds up to BUDGET_RIGHT as of right. What all of them hold above that comes from one
 * ceiling of the process. A window that is open to a client counts as used: what it was promised it
 * may send at any time.
 */
#ifndef HG_BUDGET_H
#define HG_BUDGET_H

#include "base/base.h"

#define BUDGET_RIGHT   ((size_t)256 * 1024)
#define BUDGET_CEILING ((size_t)64 * 1024 * 1024)

/* Embedded in its owner, zeroed. At its end nothing may be held or promised: budget_fini. */
struct budget {
    size_t held;     /* bytes */
    size_t promised; /* bytes that may come without being asked for again */
    struct list wait;
    void (*on_room)(struct budget *b);
};

/* Never refused: what came is there. Both are fine on NULL: memory that is no client's. */
void budget_hold(struct budget *b, size_t n);
void budget_release(struct budget *b, size_t n);
/* Of something that grows and shrinks: *counted bytes of it were held, now it is n. */
void budget_recount(struct budget *b, size_t *counted, size_t n);
void budget_promise(struct budget *b, size_t n); /* all that is promised from now on */
bool budget_of_right(const struct budget *b);    /* nothing of it comes from the ceiling */
/* Bytes that may still be taken: what is left of the right, and the ceiling's rest. */
size_t budget_room(const struct budget *b);
/* The same for growth beyond need: half of the ceiling stays for those who need it. */
size_t budget_spare(const struct budget *b);
/* on_room once, at the end of a turn, when there is room again. */
void budget_wait(struct budget *b, void (*on_room)(struct budget *b));
void budget_fini(struct budget *b);

#endif
