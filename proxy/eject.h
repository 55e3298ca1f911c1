/*
 * eject.h - passive ejection: an instance that failed several times in a row gets no requests for a
 * while that grows, then is tried again. Pure state of one instance in one worker; who is chosen
 * when all are out is backend.c's.
 */
#ifndef HG_EJECT_H
#define HG_EJECT_H

#include "base/base.h"

#define EJECT_AFTER    3     /* failures in a row */
#define EJECT_FIRST_MS 1000  /* doubled each time … */
#define EJECT_MAX_MS   60000 /* … up to this; each time by chance up to a quarter longer */

struct eject {         /* zeroed: all is well */
    unsigned failures; /* in a row */
    unsigned times;    /* ejected in a row, without a success between */
    uint64_t until;    /* ms: no requests before; 0: not ejected since the last success */
    uint64_t told_ms;  /* when a failure was last reported */
};

enum eject_change {
    EJECT_SAME,
    EJECT_FAILED, /* a failure worth telling, at most one a second */
    EJECT_OUT,    /* ejected from now on */
    EJECT_BACK    /* it served again after an ejection */
};

enum eject_change eject_failed(struct eject *e, uint64_t now);
enum eject_change eject_served(struct eject *e);
static inline bool eject_is_out(const struct eject *e, uint64_t now)
{
    return e->until > now;
}

#endif
