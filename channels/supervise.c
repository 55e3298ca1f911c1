/*
 * supervise.c - the life of an instance: a table of state × event, and one function that changes
 * the state, logs it and tells others. What should run is services.c's, the process instance.c's.
 *
 *   BACKOFF → STARTING → READY ⇄ UNREADY → DRAINING → STOPPING → GONE
 *      ↑_________|__________|_______|____________________|         a process that ended comes back
 */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "channels/confine.h"
#include "channels/record.h"

#define POLL_FIRST_MS 20
#define POLL_MAX_MS   250
#define LOOK_MIN_MS   1000 /* a look at a starting instance may take this long, or health.timeout */
#define STABLE_MS     10000 /* ready for so long, and the next failure counts as the first */
#define SWEEP_MS      20
#define GIVE_UP_MS    10000 /* a process that SIGKILL does not end hangs in the kernel */
#define PORT_RETRIES  8
#define CRASH_LOOP    4 /* failures in a row; a power of two, as are those that are logged */

static const char *const state_names[] = {
    [INST_BACKOFF] = "waiting for its next start",
    [INST_STARTING] = "starting",
    [INST_READY] = "ready",
    [INST_UNREADY] = "not ready",
    [INST_DRAINING] = "draining",
    [INST_STOPPING] = "stopping",
    [INST_GONE] = "gone",
};

static void tell(struct instance *i, enum inst_state state)
{
    struct supervisor *s = i->svc->sup;
    if (i->told == state || (i->told == INST_BACKOFF && state != INST_READY))
        return;
    i->told = state == INST_GONE ? INST_BACKOFF : state;
    const struct inst_address at = instance_address(i);
    if (s->ops.on_instance)
        s->ops.on_instance(s->ctx, i->id, i->svc->name, state, &at);
}

/* The only place where an instance's state changes. `why` may be NULL. */
static void set_state(struct instance *i, enum inst_state to, const char *why)
{
    enum log_level level = to == INST_UNREADY || to == INST_BACKOFF  ? LOG_WARN
                           : to == INST_STOPPING && i->proc.pid <= 0 ? LOG_DEBUG /* on its way */
                                                                     : LOG_INFO;
    log_event(level, "instance", "service", "%s", i->svc->name, "instance", "%" PRIu64, i->id,
              "pid", "%d", (int)i->proc.pid, "state", "%s", state_names[to], "address", "%s",
              i->addr.text.n ? i->addr.text.p : "", why ? "why" : NULL, "%s", why, NULL);
    i->state = to;
    i->since = loop_now_ms();
    if (i->proc.pid > 0 && to != INST_STARTING && to != INST_UNREADY)
        record_save(i, to);
    if (to == INST_READY || to == INST_UNREADY || to == INST_DRAINING)
        tell(i, to);
    else if (to == INST_STOPPING && i->proc.pid > 0)
        tell(i, INST_DRAINING); /* no new requests; it is GONE when the process has ended */
    else
        tell(i, INST_GONE);
    loop_at_turn_end(&i->svc->sup->task, supervisor_reconcile);
}

PRINTF(2, 3)
static void remember_error(struct instance *i, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    if (vsnprintf(i->last_error, sizeof(i->last_error), fmt, ap) < 0)
        i->last_error[0] = '\0';
    va_end(ap);
}

static void on_due(struct deadline *d)
{
    instance_event(container_of(d, struct instance, due), EV_DUE);
}

/* ---- looks at its port ---- */

/* Once for each definition: a server without a health service is a fine server. */
static void tell_no_health(const struct instance *i)
{
    struct service *svc = i->svc;
    if (svc->no_health_told == svc->gen + 1)
        return;
    svc->no_health_told = svc->gen + 1;
    log_warn("it speaks gRPC and has no health service (UNIMPLEMENTED): taken as ready when it "
             "answers; `ready: { tcp: on }` does not ask",
             "service", "%s", svc->name, "instance", "%" PRIu64, i->id);
}

static void on_probe_done(struct probe *p, const char *err)
{
    struct instance *i = container_of(p, struct instance, probe);
    i->probe_err = err;
    if (!err && p->no_health)
        tell_no_health(i);
    instance_event(i, err ? EV_BAD : EV_GOOD);
}

/* What says READY=1 itself is not asked before, and later only where it is known to listen. */
static bool asks(const struct instance *i)
{
    const struct conf_service *def = i->svc->def;
    return def->ready != CONF_READY_NOTIFY ||
           (i->state != INST_STARTING && (def->listens || def->n_ports));
}

static void on_poll(evutil_socket_t fd, short what, void *arg)
{
    struct instance *i = arg;
    (void)fd, (void)what;
    if (i->state == INST_STOPPING) {
        instance_sweep(i);
        return;
    }
    const struct conf_service *def = i->svc->def;
    if (!def || !asks(i))
        return;
    uint64_t timeout = def->health_timeout ? def->health_timeout : LOOK_MIN_MS;
    if (i->state == INST_STARTING)
        timeout = MAX(timeout, (uint64_t)LOOK_MIN_MS);
    const struct probe_spec look = {.to = &i->asked,
                                    .way = def->ready,
                                    .path = def->ready_path,
                                    .service = def->ready_service,
                                    .host = i->backend.authority,
                                    .timeout_ms = timeout};
    probe_start(&i->probe, &look, on_probe_done);
}

static void poll_in(struct instance *i, uint64_t ms)
{
    struct timeval tv = {.tv_sec = (time_t)(ms / 1000), .tv_usec = (suseconds_t)(ms % 1000 * 1000)};
    if (!event_initialized(&i->poll))
        event_assign(&i->poll, loop_base(), -1, 0, on_poll, i);
    event_add(&i->poll, &tv);
}

static void poll_stop(struct instance *i)
{
    if (event_initialized(&i->poll))
        event_del(&i->poll);
    probe_cancel(&i->probe);
}

static void poll_health(struct instance *i)
{
    uint64_t every = i->svc->def ? i->svc->def->health_interval : 0;
    if (i->state == INST_UNREADY)
        every = MIN(every, (uint64_t)LOOK_MIN_MS);
    if (every)
        poll_in(i, every);
}

/* ---- actions: what the table names ---- */

bool instance_stable(const struct instance *i)
{
    return i->ready_at && loop_now_ms() - i->ready_at >= MAX((uint64_t)STABLE_MS, i->backoff);
}

/* The first of these is a failure like others; what goes on is said as what it is, ever more
 * rarely.
 */
static void count_failure(struct instance *i, bool stable)
{
    if (!i->failures || stable) {
        i->failures = 0;
        i->failing_since = loop_now_ms();
    }
    i->failures++;
    if (i->failures < CRASH_LOOP || (i->failures & (i->failures - 1)) != 0)
        return;
    log_event(LOG_ERROR, "crash loop: the service fails again and again", "service", "%s",
              i->svc->name, "instance", "%" PRIu64, i->id, "failures", "%u", i->failures, "seconds",
              "%" PRIu64, (loop_now_ms() - i->failing_since) / 1000, "last", "%s", i->last_error,
              NULL);
}

static void enter_backoff(struct instance *i)
{
    const struct conf_service *def = i->svc->def;
    uint64_t least = def && def->restart_min ? def->restart_min : 1;
    uint64_t most = def ? MAX(def->restart_max, least) : least;
    bool stable = instance_stable(i);
    count_failure(i, stable);
    i->backoff = i->backoff && !stable ? MIN(i->backoff * 2, most) : least;
    i->ready_at = 0;
    i->next_start = loop_now_ms() + i->backoff;
    char why[640];
    struct out o = out_on(why, sizeof(why) - 1);
    out_fmt(&o, "%s; next start in %" PRIu64 " ms", i->last_error, i->backoff);
    why[o.n] = '\0';
    set_state(i, INST_BACKOFF, why);
    i->svc->tried = true;
    deadline_set(&i->due, i->backoff, on_due);
}

static void act_start(struct instance *i)
{
    if (!i->svc->def || i->svc->sup->stopping) {
        instance_event(i, EV_STOP);
        return;
    }
    if (i->starts++) {
        i->id = ++i->svc->sup->last_id;
        i->restarts++;
        i->svc->restarts_untold++;
    }
    const struct conf_service *def = i->svc->def;
    i->stop_signal = def->stop_signal ? def->stop_signal : SIGTERM;
    i->stop_timeout = def->stop_timeout;
    i->probe_err = NULL;
    i->says[0] = '\0';
    i->bad = 0;
    const char *err = instance_spawn(i);
    if (err) {
        remember_error(i, "%s", err);
        instance_release(i);
        enter_backoff(i);
        return;
    }
    set_state(i, INST_STARTING, NULL);
    if (def->start_timeout)
        deadline_set(&i->due, def->start_timeout, on_due);
    i->poll_ms = POLL_FIRST_MS;
    poll_in(i, i->poll_ms);
}

static void act_ready(struct instance *i)
{
    deadline_cancel(&i->due);
    instance_share_socket(i);
    i->svc->tried = true;
    i->bad = 0;
    if (!i->ready_at)
        i->ready_at = loop_now_ms();
    i->port_retries = 0;
    set_state(i, INST_READY, NULL);
    poll_health(i);
}

static void act_look_again(struct instance *i)
{
    i->poll_ms = MIN(i->poll_ms * 2, (uint64_t)POLL_MAX_MS);
    poll_in(i, i->poll_ms);
}

static void act_healthy(struct instance *i)
{
    i->bad = 0;
    poll_health(i);
}

static void act_unhealthy(struct instance *i)
{
    const struct conf_service *def = i->svc->def;
    i->bad++;
    if (i->state == INST_READY &&
        i->bad >= (def && def->health_failures ? def->health_failures : 1)) {
        remember_error(i, "%u looks in a row failed: %s", i->bad, i->probe_err);
        set_state(i, INST_UNREADY, i->last_error);
    }
    poll_health(i);
}

/* Its group. An adopted one's number is nobody else's only as long as its descriptor says so. */
static void signal_all(const struct instance *i, int sig)
{
    if (i->adopted && syscall(SYS_pidfd_send_signal, i->proc.pidfd, sig, NULL, 0) < 0)
        return;
    proc_signal_group(i->proc.pid, sig);
}

/* The signal to the whole group; on_due kills what does not follow it. */
static void act_end(struct instance *i)
{
    poll_stop(i);
    set_state(i, INST_STOPPING, i->goal == GOAL_RUN ? i->last_error : NULL);
    if (i->proc.pid <= 0) {
        instance_event(i, EV_CLEAN);
        return;
    }
    signal_all(i, i->stop_signal);
    signal_all(i, SIGCONT); /* a stopped process would not hear it */
    deadline_set(&i->due, i->stop_timeout, on_due);
}

static void act_stop(struct instance *i)
{
    i->goal = GOAL_END;
    act_end(i);
}

static void act_start_timeout(struct instance *i)
{
    if (i->svc->def && i->svc->def->ready == CONF_READY_NOTIFY)
        remember_error(i, "not ready in time: it did not say READY=1%s%s",
                       i->says[0] ? "; its status: " : "", i->says);
    else
        remember_error(i, "not ready in time at %s: %s", i->asked.text.p,
                       i->probe_err ? i->probe_err : "no answer yet");
    act_end(i);
}

static void act_drain(struct instance *i)
{
    i->goal = GOAL_END;
    poll_stop(i);
    set_state(i, INST_DRAINING, NULL);
    if (i->drain)
        deadline_set(&i->due, i->drain, on_due);
}

/* It said STOPPING=1: it gets no new requests, and time to do so. */
static void act_leaves(struct instance *i)
{
    poll_stop(i);
    remember_error(i, "it said that it stops");
    set_state(i, INST_STOPPING, i->last_error);
    deadline_set(&i->due, i->stop_timeout, on_due);
}

static void act_never_again(struct instance *i)
{
    i->goal = GOAL_END;
}

static void act_forget(struct instance *i)
{
    i->goal = GOAL_END;
    deadline_cancel(&i->due);
    poll_stop(i);
    set_state(i, INST_GONE, NULL);
    instance_close(i);
}

/* SIGKILL; and when even that did not help, go on without it: it hangs in the kernel. */
static void act_kill(struct instance *i)
{
    if (i->proc.pid > 0 && !i->killed) {
        log_warn("instance does not stop, killing it", "service", "%s", i->svc->name, "instance",
                 "%" PRIu64, i->id, "pid", "%d", (int)i->proc.pid);
        i->killed = true;
        orphans_kill(i, false); /* those that left the group, while their parents are known */
        signal_all(i, SIGKILL);
        deadline_set(&i->due, GIVE_UP_MS, on_due);
        return;
    }
    log_error("processes cannot be killed, leaving them behind", "service", "%s", i->svc->name,
              "instance", "%" PRIu64, i->id, "pid", "%d", (int)i->leader);
    instance_event(i, EV_CLEAN);
}

/* Its process ended: by itself, or because it was told to. */
static void act_exit(struct instance *i)
{
    bool asked = i->state == INST_STOPPING;
    bool starting = i->state == INST_STARTING;
    pid_t pid = i->proc.pid;
    deadline_cancel(&i->due);
    poll_stop(i);
    output_flush(&i->out[0]);
    output_flush(&i->out[1]);
    if (i->adopted)
        snprintf(i->last_exit, sizeof(i->last_exit),
                 "ended; how is not known, since it was adopted");
    else
        proc_status_text(i->wait_status, i->last_exit, sizeof(i->last_exit));
    confine_explain_end(i);
    if (!asked)
        remember_error(i, "%s%s%s%s%s", i->last_exit, starting ? " before it was ready" : "",
                       starting && !i->adopted && i->wait_status == 0
                           ? "; a service must stay in the foreground"
                           : "",
                       i->out[1].last[0] ? "; its last words: " : "", i->out[1].last);
    log_event(asked ? LOG_INFO : LOG_WARN, "instance ended", "service", "%s", i->svc->name,
              "instance", "%" PRIu64, i->id, "pid", "%d", (int)pid, "how", "%s", i->last_exit,
              NULL);
    instance_unwatch(i);
    if (!asked)
        set_state(i, INST_STOPPING, NULL);
    tell(i, INST_GONE);
    deadline_set(&i->due, GIVE_UP_MS, on_due);
    i->lost_port = starting && address_lost(i);
    instance_sweep(i);
}

static void act_clean(struct instance *i)
{
    deadline_cancel(&i->due);
    poll_stop(i);
    instance_release(i);
    if (i->goal == GOAL_END || !i->svc->def || i->svc->sup->stopping) {
        act_forget(i);
    } else if (i->lost_port && i->port_retries < PORT_RETRIES) {
        i->lost_port = false;
        i->port_retries++;
        log_info("somebody else took the port, trying another", "service", "%s", i->svc->name,
                 "instance", "%" PRIu64, i->id);
        i->state = INST_BACKOFF; /* for no time at all: not worth a line in the log */
        act_start(i);
    } else {
        enter_backoff(i);
    }
}

void instance_set_url(struct instance *i)
{
    set_state(i, INST_READY, NULL);
    instance_watch_url(i);
}

void instance_watch_url(struct instance *i)
{
    if (i->svc->def->health_interval) {
        if (!probe_busy(&i->probe) &&
            !(event_initialized(&i->poll) && event_pending(&i->poll, EV_TIMEOUT, NULL)))
            poll_health(i);
        return;
    }
    poll_stop(i);
    if (i->state == INST_UNREADY)
        instance_event(i, EV_GOOD); /* nobody looks any more */
}

void instance_ended(struct instance *i)
{
    if (i->adopted) {
        instance_event(i, EV_EXIT);
        return;
    }
    /* The group outlives its leader, and must not. While the leader is not reaped, its number is
     * nobody else's. */
    kill(-i->leader, SIGKILL);
    pid_t got = waitpid(i->proc.pid, &i->wait_status, WNOHANG);
    if (got == 0)
        return;
    if (got < 0) {
        log_error("somebody else waited for an instance, how it ended is not known", "service",
                  "%s", i->svc->name, "pid", "%d", (int)i->proc.pid);
        i->wait_status = 0;
    }
    instance_event(i, EV_EXIT);
}

/* ---- what another master started ---- */

void instance_adopt(struct instance *i, const struct proc *proc, enum inst_state was)
{
    const struct conf_service *def = i->svc->def;
    bool leaves = was == INST_DRAINING || was == INST_STOPPING;
    instance_watch(i, proc);
    instance_reopen_output(i);
    if (was == INST_STARTING) {
        set_state(i, INST_STARTING, "adopted");
        if (def && def->start_timeout)
            deadline_set(&i->due, def->start_timeout, on_due);
        i->poll_ms = POLL_FIRST_MS;
        poll_in(i, i->poll_ms);
        return;
    }
    /* It serves now, by the workers of the master before us. */
    i->ready_at = loop_now_ms();
    set_state(i, INST_READY, leaves ? "adopted; it was to end" : "adopted");
    poll_health(i);
    if (leaves)
        instance_event(i, was == INST_DRAINING ? EV_RETIRE : EV_STOP);
}

void instance_adopt_remains(struct instance *i)
{
    i->goal = GOAL_END;
    set_state(i, INST_STOPPING, NULL);
    deadline_set(&i->due, GIVE_UP_MS, on_due);
    instance_sweep(i);
}

void instance_sweep(struct instance *i)
{
    bool alone = true; /* of its service: then what runs as the service's user is its */
    LIST_EACH (&i->svc->instances, l) {
        const struct instance *other = container_of(l, struct instance, link);
        alone = alone && (other == i || other->leader == 0);
    }
    if (orphans_kill(i, alone) == 0)
        instance_event(i, EV_CLEAN);
    else
        poll_in(i, SWEEP_MS);
}

/* An empty field: the event means nothing in that state. */
static void (*const table[INST_GONE][EV_COUNT])(struct instance *) = {
    [INST_BACKOFF] =
        {
            [EV_DUE] = act_start,
            [EV_RETIRE] = act_forget,
            [EV_STOP] = act_forget,
        },
    [INST_STARTING] =
        {
            [EV_DUE] = act_start_timeout,
            [EV_GOOD] = act_ready,
            [EV_BAD] = act_look_again,
            [EV_EXIT] = act_exit,
            [EV_RETIRE] = act_stop,
            [EV_STOP] = act_stop,
            [EV_LEAVES] = act_leaves,
        },
    [INST_READY] =
        {
            [EV_GOOD] = act_healthy,
            [EV_BAD] = act_unhealthy,
            [EV_EXIT] = act_exit,
            [EV_RETIRE] = act_drain,
            [EV_STOP] = act_stop,
            [EV_LEAVES] = act_leaves,
        },
    [INST_UNREADY] =
        {
            [EV_GOOD] = act_ready,
            [EV_BAD] = act_unhealthy,
            [EV_EXIT] = act_exit,
            [EV_RETIRE] = act_drain,
            [EV_STOP] = act_stop,
            [EV_LEAVES] = act_leaves,
        },
    [INST_DRAINING] =
        {
            [EV_DUE] = act_stop,
            [EV_EXIT] = act_exit,
            [EV_STOP] = act_stop,
            [EV_IDLE] = act_stop,
        },
    [INST_STOPPING] =
        {
            [EV_DUE] = act_kill,
            [EV_EXIT] = act_exit,
            [EV_RETIRE] = act_never_again,
            [EV_STOP] = act_never_again,
            [EV_CLEAN] = act_clean,
        },
};

void instance_event(struct instance *i, enum inst_event ev)
{
    ASSERT(i->state < INST_GONE && ev < EV_COUNT);
    void (*act)(struct instance *) = table[i->state][ev];
    if (act)
        act(i);
}
