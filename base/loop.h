/*
 * loop.h - the one event loop of a process, on libevent: raw level-triggered events, a 100 ms wheel
 * for deadlines, things to do at the end of a turn, and memory that is freed one turn later.
 *
 * A turn: libevent runs all active events, then the flush list (loop_at_turn_end), then due
 * deadlines, then what loop_free_later collected. loop_now_ms() is read once a turn.
 */
#ifndef HG_LOOP_H
#define HG_LOOP_H

#include <event2/event.h>
#include <event2/event_struct.h>

#include "base/base.h"

void loop_init(void);               /* once a process, after any fork */
struct event_base *loop_base(void); /* for struct event users: event_assign(ev, loop_base(), …) */
void loop_run(void);                /* returns after loop_stop */
void loop_stop(void);
void loop_fini(void);       /* frees what waits and the base: for tests and orderly ends */
uint64_t loop_now_ms(void); /* monotonic, of this turn */
uint64_t loop_turn(void);   /* number of this turn */
int64_t loop_wall_s(void);  /* wall clock, of this turn */
/* ms until `since` + `limit` (ms); 0 when that is over, UINT64_MAX when limit is 0 (none). */
uint64_t loop_time_left(uint64_t since, uint64_t limit);
struct str loop_http_date(void); /* "Sun, 06 Nov 1994 08:49:37 GMT" of this turn (RFC 9110 5.6.7) */

/*
 * A deadline on the wheel: fires once, never early, at most ~100 ms late. Setting one that is
 * already set to a later time costs a store. Embed it, zeroed; cancel it before its memory goes.
 */
struct deadline {
    struct list link;
    uint64_t at;   /* ms; 0 when not set */
    uint64_t slot; /* the tick where it is linked */
    void (*fire)(struct deadline *);
};
void deadline_set(struct deadline *d, uint64_t ms_from_now, void (*fire)(struct deadline *));
void deadline_cancel(struct deadline *d);
static inline bool deadline_is_set(const struct deadline *d)
{
    return d->at != 0;
}

/* Runs once at the end of this turn; adding it again before it ran changes nothing. */
struct turn_task {
    struct list link;
    void (*run)(struct turn_task *);
};
void loop_at_turn_end(struct turn_task *t, void (*run)(struct turn_task *));
void turn_task_cancel(struct turn_task *t);

/* Calls destroy(p) after this turn, when no callback can still hold p. */
void loop_free_later(void *p, void (*destroy)(void *));

#endif
