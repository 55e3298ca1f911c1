/*
 * master.c - the master's own life: start, signals, stop. It parses nothing that comes from the
 * network; what it does for workers, agent and reloads is in the other master_*.c files.
 */
#include "proxy/master.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/activation.h"
#include "base/io.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/rate.h"
#include "base/stats.h"
#include "base/tally.h"
#include "proxy/inherit.h"
#include "proxy/notify.h"

#define STRAY_LIMIT_MS 2000

struct master master;

/* SIGHUP's place among those who wait for reloads: one that runs, one that comes after it. */
static struct reload_wait hangups[2];

/* ---- ready ---- */

static struct str addresses_text(struct arena *a)
{
    struct str text = STR("");
    LIST_EACH (&master.listeners, it) {
        const struct listener *l = container_of(it, struct listener, link);
        text = arena_fmt(a, STR_FMT "%s%s " STR_FMT "%s", STR_ARG(text), text.n ? ", " : "",
                         listener_kind_text(l->kind), STR_ARG(l->addr.text),
                         l->v4_only ? " (IPv4 only)" : "");
    }
    return text;
}

static void serve_when_ready(void)
{
    if (!workers_all_serve() || !agent_settled(master_conf()->generation))
        return;
    struct arena *a = arena_new(4096);
    master.state = MASTER_SERVING;
    workers_share_listeners();
    struct str where = addresses_text(a);
    log_info("serving", "version", "%s", HG_VERSION, "listen", "%s", where.p, "workers", "%u",
             workers_serving(), "config", "%s", master.config_file);
    notify_ready(arena_fmt(a, "serving on " STR_FMT, STR_ARG(where)).p);
    orphans_drain(master_conf()->timeouts.drain);
    arena_free(&a);
}

/* ---- stop ---- */

static void on_all_stopped(void *ctx)
{
    (void)ctx;
    master.services_stopped = true;
    master_changed();
}

static void on_stray_limit(struct deadline *d)
{
    (void)d;
    proc_signal_children(SIGKILL);
    deadline_set(d, STRAY_LIMIT_MS, on_stray_limit);
}

static void stop_agent_now(void)
{
    master.stop = STOP_AGENT;
    agent_stop();
}

static bool childless(void)
{
    pid_t pid;
    while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
        ;
    return pid < 0 && errno == ECHILD;
}

/* One step after the other; each is looked at whenever anything changed. */
static void stop_go_on(void)
{
    if (master.stop == STOP_WORKERS && list_empty(&master.workers) && orphans_none()) {
        master.stop = STOP_SERVICES;
        notify_status("stopping: services");
        supervisor_stop(master.supervisor);
        if (master.stop_signals > 1)
            proc_signal_children(SIGKILL);
    }
    if (master.stop == STOP_SERVICES && master.services_stopped)
        stop_agent_now();
    if (master.stop == STOP_AGENT && master.agent.state == AGENT_STOPPED) {
        master.stop = STOP_DONE;
        /* What a service left behind and nobody waits for any more. */
        deadline_set(&master.stop_limit, 1, on_stray_limit);
    }
    if (master.stop == STOP_DONE && childless())
        loop_stop();
}

void master_stop(void)
{
    master.stop_signals++;
    if (master.state == MASTER_STOPPING) {
        log_warn("asked to stop once more: what is left is killed");
        workers_kill_all();
        orphans_kill_all();
        proc_signal_children(SIGKILL);
        return;
    }
    log_info("stopping");
    notify_stopping("stopping: requests under way are finished");
    master.state = MASTER_STOPPING;
    master.stop = STOP_WORKERS;
    reload_abort(STR("headgate stops.\n"));
    challenges_stop();
    LIST_EACH_SAFE (&master.listeners, it) {
        listener_take_away(container_of(it, struct listener, link));
    }
    workers_drain_all();
    orphans_drain(master_conf()->timeouts.shutdown);
    master_changed();
}

void master_fail_start(const char *why)
{
    if (master.state != MASTER_STARTING)
        return;
    log_error("headgate cannot start", "cause", "%s", why);
    /* Others serve: an orderly end, which is theirs too, would be worse than no master. */
    if (!orphans_none()) {
        log_error("the workers of the master before go on serving");
        _exit(1);
    }
    master.exit_status = 1;
    master_stop();
}

/* ---- what follows from what happened ---- */

static void on_settle(struct turn_task *t)
{
    (void)t;
    if (master.state == MASTER_STARTING)
        serve_when_ready();
    workers_share_listeners();
    challenges_settle();
    reload_go_on();
    metrics_tell_state();
    if (master.state == MASTER_STOPPING)
        stop_go_on();
}

void master_changed(void)
{
    loop_at_turn_end(&master.settle, on_settle);
}

/* ---- signals ---- */

static void on_hangup_done(struct reload_wait *w, enum admin_status status, struct str text)
{
    (void)w;
    /* The log has it too, as one event; a terminal gets it as it reads best. */
    if (status != ADMIN_FINE && isatty(STDERR_FILENO) == 1)
        fprintf(stderr, STR_FMT, STR_ARG(text));
}

static void on_hangup(void)
{
    for (size_t i = 0; i < ARRAY_LEN(hangups); i++) {
        struct reload_wait *w = &hangups[i];
        if (list_linked(&w->link))
            continue;
        w->done = on_hangup_done;
        w->colour = isatty(STDERR_FILENO) == 1 && !getenv("NO_COLOR");
        reload_request(w);
        return;
    }
}

/* Each child is reaped by who started it: the supervisor watches its own by pidfd. */
static void reap(void)
{
    workers_reap();
    agent_reap();
    reload_reap();
    proc_reap_strangers();
    master_changed();
}

static void on_signal(evutil_socket_t sig, short what, void *arg)
{
    (void)what;
    (void)arg;
    switch ((int)sig) {
    case SIGCHLD:
        reap();
        break;
    case SIGHUP:
        log_info("SIGHUP: reload");
        on_hangup();
        break;
    case SIGUSR2:
        log_warn("SIGUSR2: an upgrade in place is not available in this version; restart instead");
        break;
    default:
        log_info(sig == SIGINT ? "SIGINT: stop" : "SIGTERM: stop");
        master_stop();
    }
}

static void signals_start(void)
{
    static const int signals[] = {SIGCHLD, SIGHUP, SIGTERM, SIGINT, SIGUSR2};
    signal(SIGUSR1, SIG_IGN); /* means nothing here, and must not end us */
    for (size_t i = 0; i < ARRAY_LEN(signals); i++) {
        struct event *ev = &master.signals[i];
        ASSERT(event_assign(ev, loop_base(), signals[i], EV_SIGNAL | EV_PERSIST, on_signal, NULL) ==
               0);
        event_add(ev, NULL);
    }
}

/* ---- start ---- */

static void set_up(const char *config_file)
{
    activation_init(); /* before any descriptor is opened or closed here */
    log_init("master", LOG_INFO);
    signal(SIGPIPE, SIG_IGN);
    proc_raise_nofile();
    /* What services leave behind comes to us, to be reaped and, at the end, ended. */
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    loop_init();
    io_setup();
    notify_init();
    master.config_file = config_file;
    master.started_at = wall_s();
    master.lock_fds[0] = master.lock_fds[1] = master.access_fd = -1;
    master.agent.pid = -1;
    master.reload.load.pid = -1;
    list_init(&master.listeners);
    list_init(&master.workers);
    list_init(&master.certs);
    list_init(&master.cert_states);
    reload_init();
}

/* The first load is waited for: there is nothing else to do yet. */
static bool load_first(struct arena *a)
{
    struct load load;
    struct str text = STR("");
    int status;
    const char *err = load_start(&load, master.config_file);
    if (err) {
        fprintf(stderr, "headgate: cannot read the configuration: %s\n", err);
        return false;
    }
    while (waitpid(load.pid, &status, 0) < 0 && errno == EINTR)
        ;
    bool colour = isatty(STDERR_FILENO) == 1 && !getenv("NO_COLOR");
    master.loaded = load_finish(&load, status, ++master.last_generation, colour, a, &text);
    fprintf(stderr, STR_FMT, STR_ARG(text));
    return master.loaded != NULL;
}

static const char *open_listeners(struct arena *a)
{
    const struct conf *c = master_conf();
    for (unsigned i = 0; i < c->n_listens; i++) {
        const char *err =
            listener_open(a, &c->listens[i], MIN(c->workers, SLOTS_MAX), false, &master.listeners);
        if (err)
            return err;
    }
    return NULL;
}

static const char *prepare(struct arena *a)
{
    int access_fd = -1;
    enum log_level level;
    if (log_level_parse(master_conf()->log.level, &level))
        log_set_level(level);
    const char *err = files_prepare(a, master_conf());
    if (!err)
        err = rescue_prepare(a);
    if (!err)
        orphans_find();
    store_take();
    if (!err)
        err = open_listeners(a);
    store_clean();
    inherit_drop(); /* those of addresses that went: the orphans take who is queued there */
    if (!err)
        err = access_target_open(a, master_conf(), &access_fd);
    if (!err)
        err = master_admin_open(a);
    if (err)
        return err;
    access_target_use(access_fd);
    access_target_watch();
    certs_watch();
    master.stats_fd = stats_create();
    master.rates_fd = rate_create();
    master.tally_fd = tally_create();
    err = stats_attach(master.stats_fd, ROLE_STATS_MASTER);
    if (!err)
        err = tally_watch(master.tally_fd);
    return err ? err : metrics_start();
}

static void start_children(struct arena *a)
{
    static const struct supervisor_ops ops = {.on_instance = workers_tell_instance,
                                              .on_hold = workers_tell_hold,
                                              .on_socket = store_socket,
                                              .kept_socket = store_socket_take,
                                              .on_all_stopped = on_all_stopped};
    tickets_start();
    master.supervisor = supervisor_new(&ops, NULL, arena_strz(a, master_conf()->state),
                                       arena_strz(a, master_conf()->runtime));
    supervisor_skip_ids(master.supervisor, orphans_last_instance());
    supervisor_adopt(master.supervisor, master_conf());
    store_sockets_clean();
    agent_start();
    workers_set_count(master_conf()->workers);
    supervisor_apply(master.supervisor, master_conf());
    master_changed();
}

static void clean_up(void)
{
    LIST_EACH_SAFE (&master.listeners, it) {
        struct listener *l = container_of(it, struct listener, link);
        list_remove(&l->link);
        listener_close(&l);
    }
    if (master.supervisor)
        supervisor_free(&master.supervisor);
    certs_drop_older(UINT64_MAX);
    master_admin_stopped();
    loaded_free(&master.loaded);
    free(master.reload.last_text);
}

int master_main(const char *config_file)
{
    set_up(config_file);
    struct arena *a = arena_new(16 * 1024);
    if (!load_first(a)) {
        arena_free(&a);
        return 1;
    }
    const char *err = prepare(a);
    if (err) {
        fprintf(stderr, "headgate: %s\n", err);
        clean_up();
        arena_free(&a);
        return 1;
    }
    proc_set_title("headgate: master");
    signals_start();
    start_children(a);
    notify_watchdog_start();
    loop_run();
    log_info("stopped");
    clean_up();
    arena_free(&a);
    return master.exit_status;
}
