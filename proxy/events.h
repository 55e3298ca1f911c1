/*
 * events.h - event streams (text/event-stream, HTML 9.2.5): where one event ends and the next has
 * not begun. Pure.
 */
#ifndef HG_EVENTS_H
#define HG_EVENTS_H

#include "base/base.h"

/* Follows a stream that comes in any pieces. Zeroed it is at the beginning. */
struct events {
    bool open;    /* an event has begun: fields of it came, its empty line did not */
    bool in_line; /* behind a line's first byte; in a comment too */
    bool cr;      /* the last byte was CR: LF belongs to it */
};

/* Where a stream may end, and nobody misses a part of an event. */
static inline bool events_between(const struct events *e)
{
    return !e->open && !e->in_line;
}
/*
 * Goes on until behind p's first byte after which it is between events, or to p's end; how many
 * bytes that are. Whether it is shows events_between. n > 0.
 */
size_t events_step(struct events *e, const uint8_t *p, size_t n);

#endif
