/*
 * drain.h - requests that go on for as long as their client likes (event streams, gRPC streams,
 * tunnels) end in order when what they hang on goes: each at a moment of its own, so that their
 * clients do not all come back at once. Here is who is asked to end and when; how a kind of request
 * ends is its handler's. What ends by itself is not in a group.
 */
#ifndef HG_DRAIN_H
#define HG_DRAIN_H

#include "base/loop.h"

/* Those that hang on one thing: an instance. list_init its members, else zeroed. */
struct drain_group {
    struct list members;
    bool asked;     /* to end: who enters from now on is too */
    uint64_t until; /* ms: the last moment that is dealt out */
};

/* One request in a group. Embed it, zeroed; leave before its memory goes. */
struct drain {
    struct list link;
    struct drain_group *group; /* NULL: in none */
    struct deadline moment;    /* set: it was asked */
    void (*end)(struct drain *);
};

/*
 * `end` is called when its moment has come, never from inside a call of these. Its owner is still
 * in the group then: it leaves when it has ended, or asks for a later moment.
 */
void drain_enter(struct drain_group *g, struct drain *d, void (*end)(struct drain *));
void drain_leave(struct drain *d);              /* twice is fine, and without having entered */
void drain_later(struct drain *d, uint64_t ms); /* from `end`: once more */
/* Each member gets a moment within `spread` ms from now; one that has an earlier one keeps it. */
void drain_ask(struct drain_group *g, uint64_t spread);
static inline bool drain_asked(const struct drain *d)
{
    return d->group && d->group->asked;
}

#endif
