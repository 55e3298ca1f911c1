/*
 * worker.c - the data plane's process: what the master sends is taken here and handed to where it
 * belongs; listeners are accepted from. Opens nothing, resolves nothing, decides nothing about
 * other processes.
 */
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/rate.h"
#include "base/sandbox.h"
#include "base/stats.h"
#include "base/tally.h"
#include "proxy/access_log.h"
#include "proxy/backend.h"
#include "proxy/challenges.h"
#include "proxy/client.h"
#include "proxy/metrics.h"
#include "proxy/passthrough.h"
#include "proxy/roles.h"
#include "proxy/stream.h"

#define LAST_WORDS_MS  500 /* for what clients are told when their time is over */
#define ACCEPT_TURN    64  /* connections taken from one listener a turn */
#define ACCEPT_WAIT_MS 100 /* when there are too many connections or no descriptors */

enum worker_state { WORKER_SETUP, WORKER_SERVING, WORKER_DRAINING };
/* Who is at the other end: the one that started us; nobody; the next one, perhaps of another
 * version: between it and us only what is frozen for ever is said. */
enum master_link { MASTER_OURS, MASTER_GONE, MASTER_NEXT };

struct listener {
    struct list link;
    struct msg_listener m;
    int fd;
    struct front_door door;
    struct event ev;
};

static struct {
    enum worker_state state;
    enum master_link link;
    struct msg_peer *master;
    int rescue_fd; /* -1, or a listening socket where the next master calls */
    struct event rescue;
    uint64_t last_instance; /* highest id that was told */
    unsigned slot, workers;
    struct list listeners;
    struct deadline accept_again;
    struct deadline drain;
    uint32_t drain_idle_ms;
    /* roots of the generation whose CONFIG has not come yet */
    uint64_t roots_generation;
    int *roots;
    unsigned n_roots;
    char name[32];
} w;

NORETURN static void end(int status)
{
    access_log_flush();
    _exit(status);
}

/* ---- accepting ---- */

static void accept_on(struct listener *l, bool on)
{
    if (on)
        event_add(&l->ev, NULL);
    else
        event_del(&l->ev);
}

static void on_accept_again(struct deadline *d)
{
    (void)d;
    LIST_EACH (&w.listeners, l)
        accept_on(container_of(l, struct listener, link), true);
}

/* New connections stay in the kernel's queue for a moment: that is where they cost least. */
static void accept_pause(void)
{
    LIST_EACH (&w.listeners, l)
        if (container_of(l, struct listener, link)->m.kind != LISTENER_METRICS)
            accept_on(container_of(l, struct listener, link), false);
    deadline_set(&w.accept_again, ACCEPT_WAIT_MS, on_accept_again);
}

static bool accept_one(struct listener *l)
{
    struct sockaddr_storage sa;
    socklen_t len = sizeof(sa);
    sa.ss_family = AF_UNIX; /* an unnamed peer writes nothing there */
    int fd = accept4(l->fd, (struct sockaddr *)&sa, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
        front_accepted(fd, (struct sockaddr *)&sa, &l->door);
        return true;
    }
    if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
        log_error("cannot accept connections", "error", "%s", err_of_errno(errno));
        accept_pause();
    }
    /* A client that was gone before it was accepted is no reason to stop. */
    return errno == ECONNABORTED || errno == EPROTO || errno == EINTR;
}

static bool too_many(void)
{
    uint64_t limit = snapshot_current()->conf->limits.connections;
    return limit && front_count() >= MAX(limit / MAX(w.workers, 1u), 1u);
}

static void on_accept(evutil_socket_t fd, short what, void *arg)
{
    struct listener *l = arg;
    (void)fd, (void)what;
    for (unsigned i = 0; i < ACCEPT_TURN; i++) {
        if (l->m.kind != LISTENER_METRICS && too_many()) {
            accept_pause();
            return;
        }
        if (!accept_one(l))
            return;
    }
}

static void listener_add(const struct msg_listener *m, struct str address, int fd)
{
    struct listener *l = calloc(1, sizeof(*l));
    ASSERT(l && fd >= 0);
    l->m = *m;
    l->fd = fd;
    static void (*const enters[])(int, const struct front_pass *, const struct front_door *) = {
        [LISTENER_HTTP] = client_enter,
        [LISTENER_HTTPS] = passthrough_enter,
        [LISTENER_METRICS] = client_enter,
        [LISTENER_STREAM] = stream_enter};
    ASSERT(m->kind < ARRAY_LEN(enters) && enters[m->kind]);
    /* Neither is dropped: connections outlive their listener, and addresses are few. */
    l->door = (struct front_door){
        .kind = (enum listener_kind)m->kind,
        .address = str_of(strndup(address.p, address.n)),
        .row = rows_use(ROW_LISTENER, &(struct row_key){{metrics_listener_kind(m->kind), address}}),
        .enter = enters[m->kind]};
    ASSERT(l->door.address.p);
    event_assign(&l->ev, loop_base(), fd, EV_READ | EV_PERSIST, on_accept, l);
    accept_on(l, true);
    list_append(&w.listeners, &l->link);
}

static void listener_free(void *p)
{
    free(p);
}

/* What is queued there already is still served; the event goes before the descriptor does. */
static void listener_drop(struct listener *l)
{
    while (accept_one(l))
        ;
    accept_on(l, false);
    close(l->fd);
    list_remove(&l->link);
    loop_free_later(l, listener_free);
}

static void on_listener_drop(const struct msg_listener *m)
{
    LIST_EACH_SAFE (&w.listeners, k) {
        struct listener *l = container_of(k, struct listener, link);
        if (l->m.id == m->id && l->m.slot == m->slot)
            listener_drop(l);
    }
    msg_send(w.master, MSG_LISTENER_DROPPED, m, STR_NULL, -1);
}

/* ---- configuration ---- */

static void roots_forget(void)
{
    for (unsigned i = 0; i < w.n_roots; i++)
        if (w.roots[i] >= 0)
            close(w.roots[i]);
    free(w.roots);
    w.roots = NULL;
    w.n_roots = 0;
}

static void on_root(const struct msg_root *m, int fd)
{
    if (m->generation != w.roots_generation)
        roots_forget();
    w.roots_generation = m->generation;
    if (m->index >= w.n_roots) {
        int *more = reallocarray(w.roots, m->index + 1u, sizeof(*more));
        ASSERT(more);
        for (unsigned i = w.n_roots; i <= m->index; i++)
            more[i] = -1;
        w.roots = more;
        w.n_roots = m->index + 1u;
    }
    if (w.roots[m->index] >= 0)
        close(w.roots[m->index]);
    w.roots[m->index] = fd;
}

/* The roots of a configuration, in its order; owned by the caller. */
static int *roots_take(const struct conf *c)
{
    int *fds = calloc(c->n_roots ? c->n_roots : 1, sizeof(*fds));
    ASSERT(fds);
    for (unsigned i = 0; i < c->n_roots; i++) {
        fds[i] = i < w.n_roots ? w.roots[i] : -1;
        if (i < w.n_roots)
            w.roots[i] = -1;
    }
    roots_forget();
    return fds;
}

static struct conf *load_bundle(int fd, const char **err)
{
    struct str bundle;
    *err = file_map_sealed(fd, &bundle);
    if (*err)
        return NULL;
    struct diags *d = diags_new();
    struct conf_source *src = conf_source_bundle(bundle, err);
    struct conf *c = src ? conf_load(src, 0, d) : NULL;
    if (!c && src)
        *err = "the configuration that the master checked does not load here";
    conf_source_close(&src);
    diags_free(&d);
    munmap((void *)(uintptr_t)bundle.p, bundle.n);
    return c;
}

static void first_config(void)
{
    const struct snapshot *s = snapshot_current();
    const char *err = tls_setup(s->conf->tls.min_version);
    if (!err)
        err = sandbox_worker(s->root_fds, s->conf->n_roots);
    if (err) {
        log_error("worker cannot start", "error", "%s", err);
        end(1);
    }
    w.state = WORKER_SERVING;
}

static void config_use(struct snapshot *s, uint64_t generation)
{
    enum log_level level;
    s->conf->generation = generation;
    snapshot_set_current(s);
    if (log_level_parse(s->conf->log.level, &level))
        log_set_level(level);
    stats_add(STAT_config_generation, (int64_t)generation - stats_self->v[STAT_config_generation]);
    if (w.state == WORKER_SETUP)
        first_config();
    else
        tls_set_min_version(s->conf->tls.min_version);
}

static void on_config(const struct msg_generation *m, int fd)
{
    const char *err = NULL;
    struct conf *c = load_bundle(fd, &err);
    close(fd);
    struct snapshot *s = c ? snapshot_new(c, roots_take(c), &err) : NULL;
    struct msg_done done = {.generation = m->generation, .ok = s != NULL};
    bool first = w.state == WORKER_SETUP;
    if (s)
        config_use(s, m->generation);
    else
        log_error("configuration refused", "error", "%s", err);
    msg_send(w.master, MSG_CONFIG_DONE, &done, str_of(s ? NULL : err), -1);
    if (s && first)
        msg_send(w.master, MSG_READY, &(struct msg_empty){0}, STR_NULL, -1);
}

static void on_cert(struct str host, int fd)
{
    struct str pem;
    const char *err = file_map_sealed(fd, &pem);
    struct tls_cert *cert = err ? NULL : tls_cert_parse(pem, STR_NULL, &err);
    if (!err)
        munmap((void *)(uintptr_t)pem.p, pem.n);
    close(fd);
    if (!cert) {
        char name[256];
        snprintf(name, sizeof(name), STR_FMT, STR_ARG(host));
        log_error("certificate refused", "host", "%s", name, "error", "%s", err);
        return;
    }
    tls_issued(host, cert);
    tls_cert_unref(&cert);
}

static void on_challenge(const struct msg_challenge *m, struct str tail)
{
    const char *err = challenges_take(m, tail);
    if (err)
        log_error("challenge cannot be shown", "error", "%s", err);
    struct msg_challenge_done done = {.id = m->id, .ok = !err};
    if (m->on)
        msg_send(w.master, MSG_CHALLENGE_DONE, &done, str_sub(str_of(err), 0, 512), -1);
}

/* ---- the end ---- */

static void on_drain_check(struct deadline *d)
{
    front_drain_quiet(w.drain_idle_ms);
    client_drain_quiet(w.drain_idle_ms);
    if (front_count() == 0)
        end(0);
    deadline_set(d, 100, on_drain_check);
}

static void on_last_words_over(struct deadline *d)
{
    (void)d;
    end(0);
}

static void on_drain_over(struct deadline *d)
{
    log_warn("drain time is over", "connections_cut", "%u", front_count());
    streams_cut();
    client_end_all("headgate stops, and the time that requests had is over");
    deadline_set(d, LAST_WORDS_MS, on_last_words_over);
}

static void on_drain(const struct msg_drain *m)
{
    static struct deadline over;
    if (w.state == WORKER_DRAINING && !m->timeout_ms)
        end(0);
    w.state = WORKER_DRAINING;
    while (!list_empty(&w.listeners))
        listener_drop(container_of(w.listeners.next, struct listener, link));
    deadline_cancel(&w.accept_again);
    w.drain_idle_ms = m->idle_ms;
    backend_drain(m->timeout_ms);
    client_drain_quiet(m->idle_ms); /* at once: the very next answers say "connection: close" */
    deadline_set(&w.drain, 1, on_drain_check);
    if (m->timeout_ms)
        deadline_set(&over, m->timeout_ms, on_drain_over);
}

/* ---- messages ---- */

static void on_instance_idle(uint64_t id)
{
    if (w.link == MASTER_OURS)
        msg_send(w.master, MSG_INSTANCE_IDLE, &(struct msg_instance_gone){.id = id}, STR_NULL, -1);
}

static void on_service_held(struct str service)
{
    if (w.link == MASTER_OURS)
        msg_send(w.master, MSG_HELD, &(struct msg_hold){.on = 1}, service, -1);
}

static void on_eject(uint64_t id, enum eject_change change, uint64_t ms, const char *why)
{
    static const uint32_t words[] = {[EJECT_FAILED] = MSG_EJECT_FAILED,
                                     [EJECT_OUT] = MSG_EJECT_OUT,
                                     [EJECT_BACK] = MSG_EJECT_BACK};
    struct msg_eject m = {.id = id, .change = words[change], .ms = (uint32_t)ms};
    if (w.link == MASTER_OURS)
        msg_send(w.master, MSG_EJECT, &m, str_sub(str_of(why), 0, 256), -1);
}

static void on_setup(const struct msg_setup *m, int fd)
{
    const char *err = stats_attach(fd, m->slot);
    snprintf(w.name, sizeof(w.name), "worker %u", m->slot);
    log_init(w.name, LOG_INFO);
    proc_set_title(w.name);
    w.workers = m->workers;
    close(fd);
    if (err) {
        log_error("worker cannot start", "error", "%s", err);
        end(1);
    }
    w.slot = m->slot;
}

static void on_segment(enum msg_type type, int fd)
{
    const char *err = type == MSG_ROWS    ? rows_attach(fd, w.slot)
                      : type == MSG_RATES ? rate_attach(fd)
                                          : tally_attach(fd, w.slot);
    close(fd);
    if (err) {
        log_error("worker cannot start", "error", "%s", err);
        end(1);
    }
}

static void on_msg(void *ctx, struct msg *m)
{
    (void)ctx;
    switch (m->type) {
    case MSG_SETUP:
        on_setup(m->fixed, m->fd);
        break;
    case MSG_ROWS:
    case MSG_RATES:
    case MSG_TALLY:
        on_segment(m->type, m->fd);
        break;
    case MSG_ROOT:
        on_root(m->fixed, m->fd);
        break;
    case MSG_CONFIG:
        on_config(m->fixed, m->fd);
        break;
    case MSG_LISTENER:
        listener_add(m->fixed, m->tail, m->fd);
        break;
    case MSG_LISTENER_DROP:
        on_listener_drop(m->fixed);
        break;
    case MSG_RESCUE:
        w.rescue_fd = m->fd;
        break;
    case MSG_INSTANCE:
        w.last_instance = MAX(w.last_instance, ((const struct msg_instance *)m->fixed)->id);
        backend_on_instance(m->fixed, m->tail);
        break;
    case MSG_INSTANCE_GONE:
        backend_on_gone(m->fixed);
        break;
    case MSG_HOLD:
        backend_on_hold(m->fixed, m->tail);
        break;
    case MSG_DRAIN:
        on_drain(m->fixed);
        break;
    case MSG_TICKET_KEYS:
        tls_set_ticket_keys(m->fixed);
        break;
    case MSG_CERT:
        on_cert(m->tail, m->fd);
        break;
    case MSG_CHALLENGE:
        on_challenge(m->fixed, m->tail);
        break;
    case MSG_ACCESS_LOG:
        access_log_open(m->fd);
        break;
    case MSG_HELLO:
        break;
    default:
        log_error("message not for a worker", "type", "%s", msg_name(m->type));
        end(1);
    }
}

/* ---- without a master ---- */

static unsigned count_listeners(void)
{
    unsigned n = 0;
    LIST_EACH (&w.listeners, k)
        n++;
    return n;
}

static void on_master_gone(void *ctx, const char *why);

/* The next master calls: it gets our listening sockets, and will tell us to drain. */
static void on_rescue(evutil_socket_t fd, short what, void *arg)
{
    (void)what, (void)arg;
    int peer = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (peer < 0)
        return;
    event_del(&w.rescue);
    w.link = MASTER_NEXT;
    w.master = msg_peer_new(peer, NULL, on_msg, on_master_gone);
    struct msg_orphan m = {.pid = (uint32_t)getpid(),
                           .listeners = count_listeners(),
                           .draining = w.state == WORKER_DRAINING,
                           .last_instance = w.last_instance};
    msg_send(w.master, MSG_ORPHAN, &m, STR_NULL, -1);
    LIST_EACH (&w.listeners, k) {
        const struct listener *l = container_of(k, struct listener, link);
        struct msg_orphan_listener ml = {.kind = l->m.kind, .slot = l->m.slot};
        msg_send(w.master, MSG_ORPHAN_LISTENER, &ml, STR_NULL, l->fd);
    }
}

/* We serve on with what we have. Who has nothing to serve goes. */
static void on_master_gone(void *ctx, const char *why)
{
    (void)ctx;
    msg_peer_close(&w.master);
    bool serves = !list_empty(&w.listeners) || front_count() > 0;
    if (w.state == WORKER_SETUP || !serves) {
        log_error("the master is gone", "error", "%s", why);
        end(1);
    }
    if (w.link == MASTER_OURS)
        log_error("the master is gone: serving on as configured until the next one takes over",
                  "error", "%s", why);
    w.link = MASTER_GONE;
    if (w.rescue_fd < 0)
        return;
    event_assign(&w.rescue, loop_base(), w.rescue_fd, EV_READ | EV_PERSIST, on_rescue, NULL);
    event_add(&w.rescue, NULL);
}

int worker_main(int msg_fd)
{
    /* A terminal's Ctrl-C reaches the whole group; only the master decides what it means. */
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    log_init("worker", LOG_INFO);
    loop_init();
    io_setup();
    list_init(&w.listeners);
    w.rescue_fd = -1;
    backend_setup(&(struct backend_reports){on_instance_idle, on_service_held, on_eject});
    w.master = msg_peer_new(msg_fd, NULL, on_msg, on_master_gone);
    struct msg_hello hello = {
        .version = MSG_VERSION, .role = ROLE_WORKER, .pid = (uint32_t)getpid()};
    msg_send(w.master, MSG_HELLO, &hello, STR_NULL, -1);
    loop_run();
    return 0;
}
