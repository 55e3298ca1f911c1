/*
 * loop.c - libevent driven turn by turn, so that "the end of a turn" exists: writes are batched
 * there and closed objects are freed there. The deadline wheel is lazy: a deadline that moves
 * later stays where it is linked and moves on when its slot comes up.
 */
#include "base/loop.h"

#include <stdlib.h>
#include <time.h>

#define TICK_MS 100
#define SLOTS   512u

static struct event_base *base;
static struct event *tick_event;
static bool stopping, now_fresh;
static uint64_t now;
static uint64_t turn = 1;

static struct list slots[SLOTS];
static uint64_t tick; /* the last tick that was processed */
static unsigned linked;

static struct list turn_tasks;

/* What is freed at the end of the turn; two lists, since a destructor may doom more. */
struct doomed {
    void *p;
    void (*destroy)(void *);
};
static struct {
    struct doomed *v;
    size_t n, cap;
} dooms[2];
static unsigned doom_now;

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    /* Only wakes the loop; deadlines are looked at after every turn. */
    (void)fd, (void)what, (void)arg;
}

void loop_init(void)
{
    struct event_config *cfg = event_config_new();
    ASSERT(cfg && event_config_set_flag(cfg, EVENT_BASE_FLAG_NOLOCK) == 0);
    base = event_base_new_with_config(cfg);
    event_config_free(cfg);
    ASSERT(base);
    tick_event = event_new(base, -1, EV_PERSIST, on_tick, NULL);
    ASSERT(tick_event);
    for (unsigned i = 0; i < SLOTS; i++)
        list_init(&slots[i]);
    list_init(&turn_tasks);
    linked = 0;
    stopping = now_fresh = false;
    tick = now_ms() / TICK_MS;
}

struct event_base *loop_base(void)
{
    return base;
}

uint64_t loop_now_ms(void)
{
    if (!now_fresh) {
        now = now_ms();
        now_fresh = true;
    }
    return now;
}

uint64_t loop_turn(void)
{
    return turn;
}

int64_t loop_wall_s(void)
{
    static uint64_t of_ms = UINT64_MAX;
    static int64_t wall;
    if (of_ms != loop_now_ms()) {
        of_ms = now;
        wall = wall_s();
    }
    return wall;
}

uint64_t loop_time_left(uint64_t since, uint64_t limit)
{
    uint64_t at = loop_now_ms();
    if (!limit)
        return UINT64_MAX;
    return since + limit > at ? since + limit - at : 0;
}

struct str loop_http_date(void)
{
    static int64_t of;
    static char text[32];
    static size_t n;
    int64_t s = loop_wall_s();
    if (s != of) {
        struct tm tm;
        time_t t = (time_t)s;
        gmtime_r(&t, &tm);
        /* No setlocale anywhere in headgate: names are the C locale's, as RFC 9110 wants. */
        n = strftime(text, sizeof(text), "%a, %d %b %Y %H:%M:%S GMT", &tm);
        of = s;
    }
    return (struct str){text, n};
}

static void wheel_link(struct deadline *d)
{
    uint64_t due = (d->at + TICK_MS - 1) / TICK_MS;
    if (due <= tick)
        due = tick + 1;
    if (due >= tick + SLOTS)
        due = tick + SLOTS - 1; /* comes up again there, and is linked on */
    d->slot = due;
    list_append(&slots[due % SLOTS], &d->link);
    if (linked++ == 0) {
        struct timeval tv = {0, TICK_MS * 1000};
        event_add(tick_event, &tv);
    }
}

static void wheel_unlink(struct deadline *d)
{
    list_remove(&d->link);
    ASSERT(linked > 0);
    if (--linked == 0)
        event_del(tick_event);
}

void deadline_set(struct deadline *d, uint64_t ms, void (*fire)(struct deadline *))
{
    uint64_t at = loop_now_ms() + ms;
    d->fire = fire;
    if (d->at && (at + TICK_MS - 1) / TICK_MS >= d->slot) {
        d->at = at;
        return;
    }
    if (d->at)
        wheel_unlink(d);
    d->at = at ? at : 1;
    wheel_link(d);
}

void deadline_cancel(struct deadline *d)
{
    if (!d->at)
        return;
    d->at = 0;
    wheel_unlink(d);
}

static void wheel_slot(struct list *slot)
{
    /* The slot's deadlines move to a list of their own first: a callback may link into this slot.
     */
    struct list due;
    list_init(&due);
    while (!list_empty(slot)) {
        struct list *l = slot->next;
        list_remove(l);
        list_append(&due, l);
    }
    while (!list_empty(&due)) {
        struct deadline *d = container_of(due.next, struct deadline, link);
        wheel_unlink(d);
        if (d->at > loop_now_ms()) {
            wheel_link(d);
            continue;
        }
        d->at = 0;
        d->fire(d);
    }
}

static void wheel_run(void)
{
    uint64_t to = loop_now_ms() / TICK_MS;
    if (!linked) {
        tick = to;
        return;
    }
    /* After a long stop of the process every slot is looked at once, not every missed tick. */
    if (to > tick + SLOTS)
        tick = to - SLOTS;
    while (tick < to) {
        tick++;
        wheel_slot(&slots[tick % SLOTS]);
    }
}

void loop_at_turn_end(struct turn_task *t, void (*run)(struct turn_task *))
{
    t->run = run;
    if (!list_linked(&t->link))
        list_append(&turn_tasks, &t->link);
}

void turn_task_cancel(struct turn_task *t)
{
    list_remove(&t->link);
}

void loop_free_later(void *p, void (*destroy)(void *))
{
    if (dooms[doom_now].n == dooms[doom_now].cap) {
        size_t cap = dooms[doom_now].cap ? dooms[doom_now].cap * 2 : 64;
        struct doomed *v = reallocarray(dooms[doom_now].v, cap, sizeof(*v));
        ASSERT(v);
        dooms[doom_now].v = v;
        dooms[doom_now].cap = cap;
    }
    dooms[doom_now].v[dooms[doom_now].n++] = (struct doomed){.p = p, .destroy = destroy};
}

static void run_turn_tasks(void)
{
    while (!list_empty(&turn_tasks)) {
        struct turn_task *t = container_of(turn_tasks.next, struct turn_task, link);
        list_remove(&t->link);
        t->run(t);
    }
}

static void free_doomed(void)
{
    unsigned i = doom_now;
    doom_now = 1 - doom_now; /* what a destructor dooms waits for the next turn */
    for (size_t k = 0; k < dooms[i].n; k++)
        dooms[i].v[k].destroy(dooms[i].v[k].p);
    dooms[i].n = 0;
}

static void turn_end(void)
{
    run_turn_tasks();
    wheel_run();
    run_turn_tasks();
    free_doomed();
    now_fresh = false;
    turn++;
}

void loop_run(void)
{
    stopping = false;
    turn_end(); /* what was set up before the loop ran */
    while (!stopping) {
        int rc = event_base_loop(base, EVLOOP_ONCE);
        turn_end();
        if (rc == 1 && !dooms[doom_now].n && list_empty(&turn_tasks))
            break; /* nothing can ever happen again */
    }
}

void loop_stop(void)
{
    stopping = true;
    event_base_loopbreak(base);
}

void loop_fini(void)
{
    if (!base)
        return;
    turn_end();
    turn_end();
    for (unsigned i = 0; i < ARRAY_LEN(dooms); i++) {
        free(dooms[i].v);
        dooms[i].v = NULL;
        dooms[i].n = dooms[i].cap = 0;
    }
    event_free(tick_event);
    event_base_free(base);
    base = NULL;
}
