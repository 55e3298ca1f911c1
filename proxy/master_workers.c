/*
 * master_workers.c - slots and the workers in them: a table of state × event; and who accepts on
 * which socket. A slot outlives its workers, its sockets outlive them too: while a slot has nobody,
 * a worker of another slot accepts for it.
 */
#include "proxy/master.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/proc.h"
#include "base/stats.h"
#include "base/tally.h"
#include "proxy/rows.h"

#define RESTART_MS     1000  /* two starts of a slot are at least this far apart */
#define START_LIMIT_MS 60000 /* generous: a loaded machine is no reason to kill */
#define DRAIN_GRACE_MS 10000 /* beyond what the worker was told */
#define DRAIN_IDLE_MS  2000  /* who sent nothing for that long is not about to */
#define FAILED_STARTS  5     /* at headgate's own start, then it gives up */

static const char *const slot_states[] = {
    [SLOT_EMPTY] = "empty",         [SLOT_STARTING] = "starting", [SLOT_SERVING] = "serving",
    [SLOT_REPLACING] = "replacing", [SLOT_BACKOFF] = "backoff",
};

const char *worker_state_text(enum worker_state s)
{
    static const char *const names[] = {[WORKER_STARTING] = "starting",
                                        [WORKER_SERVING] = "serving",
                                        [WORKER_DRAINING] = "draining"};
    return names[s];
}

/* ---- workers ---- */

void worker_kill(struct worker *w)
{
    proc_signal_group(w->pid, SIGKILL);
}

static void on_limit(struct deadline *d)
{
    struct worker *w = container_of(d, struct worker, limit);
    log_error(w->state == WORKER_STARTING ? "worker did not become ready in time: killed"
                                          : "worker did not finish draining in time: killed",
              "worker", "%u", w->num, "pid", "%d", (int)w->pid);
    worker_kill(w);
}

static bool num_taken(unsigned num)
{
    LIST_EACH (&master.workers, it) {
        if (container_of(it, struct worker, link)->num == num)
            return true;
    }
    return false;
}

/* The slot's own number when it is free, so that names are quiet; else one from the top. */
static int free_num(unsigned slot)
{
    if (!num_taken(slot))
        return (int)slot;
    for (int num = ROLE_WORKERS_MAX - 1; num >= SLOTS_MAX; num--)
        if (!num_taken((unsigned)num))
            return num;
    return -1;
}

static const char *worker_spawn(struct arena *a, struct slot *s, const struct loaded *l)
{
    int fd, num = free_num(s->index);
    pid_t pid;
    if (num < 0)
        return "too many workers drain at the same time";
    int rescue_fd;
    const char *err = rescue_open(&rescue_fd);
    if (err)
        return err;
    err = role_spawn(a, "worker", NULL, &fd, &pid);
    if (err) {
        close(rescue_fd);
        return err;
    }
    struct worker *w = calloc(1, sizeof(*w));
    ASSERT(w);
    w->slot = s;
    w->num = (unsigned)num;
    w->pid = pid;
    w->started_ms = loop_now_ms();
    w->peer = msg_peer_new(fd, w, worker_on_msg, worker_on_gone);
    list_append(&master.workers, &w->link);
    deadline_set(&w->limit, START_LIMIT_MS, on_limit);
    s->next = w;
    rescue_name(pid, w->rescue);
    worker_introduce(w, l, rescue_fd);
    close(rescue_fd);
    return NULL;
}

static void drain_limit(struct worker *w, uint64_t timeout_ms)
{
    if (timeout_ms)
        deadline_set(&w->limit, timeout_ms + DRAIN_GRACE_MS, on_limit);
    else
        deadline_cancel(&w->limit);
}

/* Leaves its slot. Its sockets are given to others by workers_share_listeners before DRAIN goes. */
static void worker_drain(struct worker *w, uint64_t timeout_ms)
{
    w->state = WORKER_DRAINING;
    w->slot = NULL;
    workers_share_listeners();
    /* At the end of everything there is nobody whom a closed connection could come back to. */
    uint32_t idle_ms = master.state == MASTER_STOPPING ? 0 : DRAIN_IDLE_MS;
    struct msg_drain d = {(uint32_t)MIN(timeout_ms, (uint64_t)UINT32_MAX), idle_ms};
    if (w->peer)
        msg_send(w->peer, MSG_DRAIN, &d, STR_NULL, -1);
    drain_limit(w, timeout_ms);
    log_info("worker drains", "worker", "%u", w->num, "pid", "%d", (int)w->pid);
}

/* ---- the slot's table ---- */

static void slot_set(struct slot *s, enum slot_state state)
{
    if (s->state != state)
        log_debug("slot", "slot", "%u", s->index, "from", "%s", slot_states[s->state], "to", "%s",
                  slot_states[state]);
    s->state = state;
    master_changed();
}

static void on_pause_over(struct deadline *d)
{
    slot_event(container_of(d, struct slot, pause), SLOT_TIMER);
}

static void pause_start(struct slot *s)
{
    uint64_t due = s->last_start_ms + RESTART_MS, now = loop_now_ms();
    slot_set(s, SLOT_BACKOFF);
    deadline_set(&s->pause, due > now ? due - now : 1, on_pause_over);
}

static void do_start(struct slot *s)
{
    struct arena *a = arena_new(4096);
    s->last_start_ms = loop_now_ms();
    const char *err = worker_spawn(a, s, master.loaded);
    if (err) {
        log_error("worker cannot be started", "slot", "%u", s->index, "cause", "%s", err);
        s->failed_starts++;
        if (master.state == MASTER_STARTING && s->failed_starts >= FAILED_STARTS)
            master_fail_start(err);
        pause_start(s);
    } else {
        slot_set(s, SLOT_STARTING);
    }
    arena_free(&a);
}

/* At once when the last start is a while ago: then this death is no loop. */
static void do_restart(struct slot *s)
{
    s->restarts++;
    stats_inc(worker_restarts);
    if (loop_now_ms() - s->last_start_ms >= RESTART_MS)
        do_start(s);
    else
        pause_start(s);
}

static void do_failed(struct slot *s)
{
    s->next = NULL;
    if (++s->failed_starts >= FAILED_STARTS && master.state == MASTER_STARTING)
        master_fail_start("workers die before they are ready; the lines above say how");
    do_restart(s);
}

static void do_serve(struct slot *s)
{
    struct worker *old = s->cur;
    s->cur = s->next;
    s->next = NULL;
    s->failed_starts = 0;
    s->cur->state = WORKER_SERVING;
    deadline_cancel(&s->cur->limit);
    log_info("worker ready", "worker", "%u", s->cur->num, "pid", "%d", (int)s->cur->pid);
    slot_set(s, SLOT_SERVING);
    if (old)
        worker_drain(old, master_conf()->timeouts.drain);
}

static void do_died(struct slot *s)
{
    s->cur = NULL;
    do_restart(s);
}

/* A successor is on its way already: it becomes the slot's first. */
static void do_died_replaced(struct slot *s)
{
    s->cur = NULL;
    slot_set(s, SLOT_STARTING);
}

static void do_replace(struct slot *s)
{
    struct arena *a = arena_new(4096);
    const struct loaded *l = master.reload.next ? master.reload.next : master.loaded;
    const char *err = worker_spawn(a, s, l);
    if (err)
        log_error("worker cannot be replaced", "slot", "%u", s->index, "cause", "%s", err);
    slot_set(s, err ? SLOT_SERVING : SLOT_REPLACING);
    arena_free(&a);
}

static void do_failed_replace(struct slot *s)
{
    s->next = NULL;
    s->failed_starts++;
    slot_set(s, SLOT_SERVING);
}

/* The starting one knows an outdated configuration: its death brings a new one. */
static void do_kill_next(struct slot *s)
{
    worker_kill(s->next);
}

static void do_give_up_next(struct slot *s)
{
    s->next->slot = NULL;
    worker_kill(s->next);
    s->next = NULL;
    slot_set(s, SLOT_EMPTY);
}

static void do_retire(struct slot *s)
{
    struct worker *w = s->cur;
    s->cur = NULL;
    slot_set(s, SLOT_EMPTY);
    worker_drain(w, master_conf()->timeouts.drain);
}

static void do_retire_both(struct slot *s)
{
    do_give_up_next(s);
    do_retire(s);
}

static void do_forget(struct slot *s)
{
    deadline_cancel(&s->pause);
    slot_set(s, SLOT_EMPTY);
}

#define EVENTS (SLOT_REPLACE + 1)

static void (*const slot_table[][EVENTS])(struct slot *) = {
    [SLOT_EMPTY] = {[SLOT_WANT] = do_start},
    [SLOT_STARTING] = {[SLOT_READY] = do_serve,
                       [SLOT_NEXT_DIED] = do_failed,
                       [SLOT_UNWANT] = do_give_up_next,
                       [SLOT_REPLACE] = do_kill_next},
    [SLOT_SERVING] =
        {[SLOT_CUR_DIED] = do_died, [SLOT_UNWANT] = do_retire, [SLOT_REPLACE] = do_replace},
    [SLOT_REPLACING] = {[SLOT_READY] = do_serve,
                        [SLOT_NEXT_DIED] = do_failed_replace,
                        [SLOT_CUR_DIED] = do_died_replaced,
                        [SLOT_UNWANT] = do_retire_both,
                        [SLOT_REPLACE] = do_kill_next},
    [SLOT_BACKOFF] = {[SLOT_TIMER] = do_start, [SLOT_UNWANT] = do_forget},
};

void slot_event(struct slot *s, enum slot_event e)
{
    void (*act)(struct slot *) = slot_table[s->state][e];
    if (act)
        act(s);
}

void workers_set_count(unsigned n)
{
    n = MIN(n, SLOTS_MAX);
    for (unsigned i = 0; i < SLOTS_MAX; i++) {
        master.slots[i].index = i;
        slot_event(&master.slots[i], i < n ? SLOT_WANT : SLOT_UNWANT);
    }
    master.n_slots = MAX(master.n_slots, n);
}

bool workers_all_serve(void)
{
    for (unsigned i = 0; i < master.n_slots; i++) {
        enum slot_state s = master.slots[i].state;
        if (s != SLOT_EMPTY && s != SLOT_SERVING)
            return false;
    }
    return true;
}

unsigned workers_serving(void)
{
    unsigned n = 0;
    for (unsigned i = 0; i < master.n_slots; i++)
        n += master.slots[i].cur != NULL;
    return n;
}

/* ---- deaths ---- */

static void worker_free(void *p)
{
    struct worker *w = p;
    free(w->roots);
    free(w);
}

static void forget_holder(const struct worker *w)
{
    LIST_EACH (&master.listeners, it) {
        struct listener *l = container_of(it, struct listener, link);
        for (unsigned i = 0; i < l->n_socks; i++)
            if (l->socks[i].holder == w)
                l->socks[i].holder = NULL;
    }
}

static void worker_died(struct worker *w, int status)
{
    char how[64];
    bool expected =
        (w->state == WORKER_DRAINING && WIFEXITED(status) && WEXITSTATUS(status) == 0) ||
        master.stop != STOP_NONE || !w->slot;
    proc_status_text(status, how, sizeof(how));
    if (expected)
        log_info("worker ended", "worker", "%u", w->num, "pid", "%d", (int)w->pid, "how", "%s",
                 how);
    else
        log_error("worker died", "worker", "%u", w->num, "pid", "%d", (int)w->pid, "how", "%s", how,
                  "state", "%s", worker_state_text(w->state));
    deadline_cancel(&w->limit);
    list_remove(&w->link);
    msg_peer_close(&w->peer);
    rescue_forget(w->rescue);
    stats_slot_died(w->num);
    rows_process_died(w->num);
    tally_process_died(w->num);
    forget_holder(w);
    idle_worker_gone(w);
    challenges_worker_gone(w);
    eject_worker_gone(w);
    struct slot *s = w->slot;
    if (s && s->next == w)
        slot_event(s, SLOT_NEXT_DIED);
    else if (s && s->cur == w)
        slot_event(s, SLOT_CUR_DIED);
    reload_worker_died(w);
    loop_free_later(w, worker_free);
    master_changed();
}

void workers_reap(void)
{
    LIST_EACH_SAFE (&master.workers, it) {
        struct worker *w = container_of(it, struct worker, link);
        int status;
        if (waitpid(w->pid, &status, WNOHANG) == w->pid)
            worker_died(w, status);
    }
}

/* ---- who accepts where ---- */

static struct msg_listener listener_msg(const struct listener *l, unsigned slot,
                                        const struct worker *w)
{
    bool own = w->slot && w->slot->index == slot;
    return (struct msg_listener){
        .id = l->id, .slot = slot, .kind = (uint32_t)l->kind, .lent = own ? 0 : 1};
}

static void sock_give(struct listener *l, unsigned i, struct worker *w)
{
    struct listener_sock *s = &l->socks[i];
    const char *err = listener_listen(s);
    if (err) {
        log_error("cannot listen", "address", "%s", l->addr.text.p, "cause", "%s", err);
        return;
    }
    struct msg_listener m = listener_msg(l, i, w);
    msg_send(w->peer, MSG_LISTENER, &m, str_sub(l->addr.text, 0, 256), s->fd);
    w->holds++;
}

static void sock_take(struct listener *l, unsigned i, struct worker *w)
{
    struct msg_listener m = listener_msg(l, i, w);
    msg_send(w->peer, MSG_LISTENER_DROP, &m, STR_NULL, -1);
    w->holds--;
    w->drops_due++;
}

bool worker_accepts(const struct worker *w)
{
    return w && w->state == WORKER_SERVING && w->peer;
}

/* The slot's own worker; else who has it now; else the one that accepts on the fewest. */
static struct worker *wanted_holder(unsigned slot, struct worker *now)
{
    if (slot < SLOTS_MAX && worker_accepts(master.slots[slot].cur))
        return master.slots[slot].cur;
    if (worker_accepts(now))
        return now;
    struct worker *best = NULL;
    for (unsigned i = 0; i < master.n_slots; i++) {
        struct worker *w = master.slots[i].cur;
        if (worker_accepts(w) && (!best || w->holds < best->holds))
            best = w;
    }
    return best;
}

void workers_share_listeners(void)
{
    if (master.state != MASTER_SERVING)
        return;
    LIST_EACH (&master.listeners, it) {
        struct listener *l = container_of(it, struct listener, link);
        for (unsigned i = 0; i < l->n_socks; i++) {
            struct worker *now = l->socks[i].holder, *want = wanted_holder(i, now);
            if (want == now)
                continue;
            /* The new one first: for a moment both accept, and never nobody. */
            if (want)
                sock_give(l, i, want);
            if (now && now->peer)
                sock_take(l, i, now);
            l->socks[i].holder = want;
        }
    }
    store_look();
}

/*
 * The holders take what is queued and close; the master's descriptor goes first, so that theirs is
 * the last one and nothing can queue up behind it.
 */
void listener_take_away(struct listener *l)
{
    for (unsigned i = 0; i < l->n_socks; i++) {
        struct worker *w = l->socks[i].holder;
        l->socks[i].holder = NULL;
        if (w && w->peer)
            sock_take(l, i, w);
    }
    store_forget(l);
    list_remove(&l->link);
    listener_close(&l);
}

/* ---- the end ---- */

void workers_drain_all(void)
{
    for (unsigned i = 0; i < SLOTS_MAX; i++) {
        struct slot *s = &master.slots[i];
        deadline_cancel(&s->pause);
        s->cur = s->next = NULL;
        s->state = SLOT_EMPTY;
    }
    /* Those that drain already had more time, by a reload, than there is now. */
    LIST_EACH (&master.workers, it) {
        struct worker *w = container_of(it, struct worker, link);
        if (w->state == WORKER_STARTING)
            worker_kill(w);
        else
            worker_drain(w, master_conf()->timeouts.shutdown);
        w->slot = NULL;
    }
}

void workers_kill_all(void)
{
    LIST_EACH (&master.workers, it) {
        worker_kill(container_of(it, struct worker, link));
    }
}
