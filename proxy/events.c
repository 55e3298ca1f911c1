/*
 * events.c - follows event streams, line by line.
 */
#include "proxy/events.h"

static void end_of_line(struct events *e)
{
    if (!e->in_line)
        e->open = false; /* an empty line: the event is whole */
    e->in_line = false;
}

static void take(struct events *e, uint8_t c)
{
    bool lf_of_cr = c == '\n' && e->cr;
    e->cr = c == '\r';
    if (lf_of_cr)
        return;
    if (c == '\n' || c == '\r') {
        end_of_line(e);
        return;
    }
    if (!e->in_line && c != ':') /* a comment belongs to no event */
        e->open = true;
    e->in_line = true;
}

size_t events_step(struct events *e, const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        take(e, p[i]);
        if (!events_between(e))
            continue;
        /* LF behind CR is part of the same end. */
        bool pair = e->cr && i + 1 < n && p[i + 1] == '\n';
        if (pair)
            e->cr = false;
        return i + 1 + pair;
    }
    return n;
}
