/*
 * master_orphans.c - workers that outlived the master that started them, and how they are reached.
 *
 * Every worker is handed a listening socket, $runtime/workers/PID.STARTED, whose folder only we may
 * enter. Nobody calls there as long as we live. When we are killed the worker sees the end of its
 * message socket, serves on with what it has, and waits there for the next master, which
 *
 *   1. finds it by that name and calls; the worker answers ORPHAN and, one by one, the listening
 *      sockets that it accepts on: they stay open whatever becomes of the worker;
 *   2. adopts the instances, starts workers of its own on those sockets;
 *   3. when these serve, sends DRAIN: the orphan finishes what is under way, and ends.
 *
 * Both may be of different versions: what they send each other is frozen for ever (msg.h). Under
 * systemd the sockets are in its store too (master_store.c), for the case that a worker dies while
 * there is no master. Instances are adopted by channels/adopt.c.
 */
#include "proxy/master.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/proc.h"
#include "proxy/inherit.h"

#define ANSWER_LIMIT_MS 10000 /* who does not answer for that long serves nobody either */
#define DRAIN_GRACE_MS  10000 /* beyond what it was told */
#define DRAIN_IDLE_MS   2000
#define BACKLOG         8
#define NEW_NAME        "new"

enum orphan_state { ORPHAN_CALLED, ORPHAN_SERVING, ORPHAN_DRAINING };

struct orphan {
    struct list link;
    enum orphan_state state;
    struct proc proc;
    struct event ended; /* its pidfd */
    char name[RESCUE_NAME];
    struct msg_peer *peer; /* NULL after it closed its end */
    unsigned listeners_due;
    struct deadline limit;
};

static struct list orphans = {&orphans, &orphans};
static int folder = -1; /* $runtime/workers */
static uint64_t last_instance;

/* ---- the folder ---- */

const char *rescue_prepare(struct arena *a)
{
    const char *path = arena_fmt(a, STR_FMT "/workers", STR_ARG(master_conf()->runtime)).p;
    const char *err = file_mkdirs(a, path, 0700, (uid_t)-1, (gid_t)-1);
    if (err)
        return arena_fmt(a, "runtime: %s", err).p;
    folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    return folder < 0 ? arena_fmt(a, "runtime: %s", file_error(a, errno, "enter", path)).p : NULL;
}

/* By the folder's descriptor, since a socket's address has room for 107 bytes. */
static socklen_t address_of(const char *name, struct sockaddr_un *un)
{
    struct out o = out_on(un->sun_path, sizeof(un->sun_path) - 1);
    memset(un, 0, sizeof(*un));
    un->sun_family = AF_UNIX;
    out_fmt(&o, "/proc/self/fd/%d/%s", folder, name);
    ASSERT(!o.over);
    return sizeof(*un);
}

const char *rescue_open(int *fd)
{
    struct sockaddr_un un;
    socklen_t len = address_of(NEW_NAME, &un);
    unlinkat(folder, NEW_NAME, 0);
    *fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (*fd < 0)
        return err_of_errno(errno);
    if (bind(*fd, (const struct sockaddr *)&un, len) == 0 && listen(*fd, BACKLOG) == 0)
        return NULL;
    const char *err = err_of_errno(errno);
    close(*fd);
    *fd = -1;
    return err;
}

void rescue_name(pid_t pid, char name[RESCUE_NAME])
{
    struct out o = out_on(name, RESCUE_NAME - 1);
    out_fmt(&o, "%d.%" PRIu64, (int)pid, proc_started(pid));
    name[o.n] = '\0';
    if (renameat(folder, NEW_NAME, folder, name) < 0)
        log_warn("worker could not be reached if the master were killed", "pid", "%d", (int)pid,
                 "cause", "%s", err_of_errno(errno));
}

void rescue_forget(const char name[RESCUE_NAME])
{
    if (name[0])
        unlinkat(folder, name, 0);
}

/* ---- one orphan ---- */

static void orphan_free(void *p)
{
    free(p);
}

static bool all_answered(void)
{
    LIST_EACH (&orphans, it) {
        const struct orphan *o = container_of(it, struct orphan, link);
        if (o->state == ORPHAN_CALLED || o->listeners_due)
            return false;
    }
    return true;
}

/* Before the first configuration serves, the loop runs for these answers alone. */
static void look(void)
{
    if (!master.supervisor && all_answered())
        loop_stop();
    else if (master.supervisor)
        master_changed();
}

static void orphan_kill(struct orphan *o)
{
    syscall(SYS_pidfd_send_signal, o->proc.pidfd, SIGKILL, NULL, 0);
}

static void on_ended(evutil_socket_t fd, short what, void *arg)
{
    struct orphan *o = arg;
    (void)fd, (void)what;
    log_info("orphaned worker ended", "pid", "%d", (int)o->proc.pid);
    event_del(&o->ended);
    close(o->proc.pidfd);
    msg_peer_close(&o->peer);
    deadline_cancel(&o->limit);
    list_remove(&o->link);
    rescue_forget(o->name);
    loop_free_later(o, orphan_free);
    if (list_empty(&orphans))
        idle_orphans_gone();
    look();
}

static void on_limit(struct deadline *d)
{
    struct orphan *o = container_of(d, struct orphan, limit);
    log_error(o->state == ORPHAN_CALLED ? "orphaned worker does not answer: killed"
                                        : "orphaned worker did not finish draining in time: killed",
              "pid", "%d", (int)o->proc.pid);
    orphan_kill(o);
}

static void on_orphan(struct orphan *o, const struct msg_orphan *m)
{
    o->state = m->draining ? ORPHAN_DRAINING : ORPHAN_SERVING;
    o->listeners_due = m->listeners;
    last_instance = MAX(last_instance, m->last_instance);
    log_info("orphaned worker found", "pid", "%d", (int)o->proc.pid, "state", "%s",
             m->draining ? "draining" : "serving", "listeners", "%u", m->listeners);
}

static void on_msg(void *ctx, struct msg *m)
{
    struct orphan *o = ctx;
    if (m->type == MSG_ORPHAN && o->state == ORPHAN_CALLED) {
        on_orphan(o, m->fixed);
    } else if (m->type == MSG_ORPHAN_LISTENER && o->listeners_due) {
        o->listeners_due--;
        inherit_add(m->fd);
    } else {
        if (m->fd >= 0)
            close(m->fd);
        log_error("orphaned worker broke the protocol: killed", "pid", "%d", (int)o->proc.pid);
        orphan_kill(o);
    }
    if (o->state != ORPHAN_CALLED && !o->listeners_due)
        deadline_cancel(&o->limit);
    look();
}

static void on_gone(void *ctx, const char *why)
{
    struct orphan *o = ctx;
    log_debug("orphaned worker closed its end", "pid", "%d", (int)o->proc.pid, "cause", "%s", why);
    msg_peer_close(&o->peer);
    orphan_kill(o); /* it is on its way out, or cannot be told anything any more */
}

static int call(const char *name)
{
    struct sockaddr_un un;
    socklen_t len = address_of(name, &un);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 && connect(fd, (const struct sockaddr *)&un, len) == 0)
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

static void find_one(const char *name)
{
    struct str rest = str_of(name), number;
    uint64_t pid = 0, started = 0;
    struct proc proc = {.pidfd = -1};
    bool named = rest.n < RESCUE_NAME && str_split(&rest, '.', &number) && str_u64(number, &pid) &&
                 str_u64(rest, &started) && pid <= INT32_MAX;
    int fd = named && proc_find((pid_t)pid, started, &proc) ? call(name) : -1;
    if (fd < 0) {
        if (proc.pidfd >= 0)
            close(proc.pidfd);
        unlinkat(folder, name, 0);
        return;
    }
    struct orphan *o = calloc(1, sizeof(*o));
    ASSERT(o);
    memcpy(o->name, name, strlen(name) + 1);
    o->proc = proc;
    list_append(&orphans, &o->link);
    event_assign(&o->ended, loop_base(), proc.pidfd, EV_READ | EV_PERSIST, on_ended, o);
    event_add(&o->ended, NULL);
    o->peer = msg_peer_new(fd, o, on_msg, on_gone);
    deadline_set(&o->limit, ANSWER_LIMIT_MS, on_limit);
}

void orphans_find(void)
{
    int fd = fcntl(folder, F_DUPFD_CLOEXEC, 3);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    ASSERT(d);
    rewinddir(d);
    for (struct dirent *e; (e = readdir(d));)
        if (e->d_name[0] != '.')
            find_one(e->d_name);
    closedir(d);
    while (!all_answered())
        loop_run();
}

/* ---- all of them ---- */

void orphans_drain(uint64_t timeout_ms)
{
    bool stopping = master.state == MASTER_STOPPING;
    struct msg_drain m = {(uint32_t)MIN(timeout_ms, (uint64_t)UINT32_MAX),
                          stopping ? 0 : DRAIN_IDLE_MS};
    LIST_EACH (&orphans, it) {
        struct orphan *o = container_of(it, struct orphan, link);
        if (o->state == ORPHAN_DRAINING && !stopping)
            continue; /* it was told how long it may take */
        o->state = ORPHAN_DRAINING;
        if (o->peer)
            msg_send(o->peer, MSG_DRAIN, &m, STR_NULL, -1);
        if (timeout_ms)
            deadline_set(&o->limit, timeout_ms + DRAIN_GRACE_MS, on_limit);
        log_info("orphaned worker drains", "pid", "%d", (int)o->proc.pid);
    }
}

void orphans_kill_all(void)
{
    LIST_EACH (&orphans, it) {
        orphan_kill(container_of(it, struct orphan, link));
    }
}

bool orphans_none(void)
{
    return list_empty(&orphans);
}

uint64_t orphans_last_instance(void)
{
    return last_instance;
}

bool orphans_know(uint64_t id)
{
    return id <= last_instance && !list_empty(&orphans);
}

void orphans_tell_gone(uint64_t id)
{
    struct msg_instance_gone m = {id};
    if (!orphans_know(id))
        return;
    LIST_EACH (&orphans, it) {
        struct orphan *o = container_of(it, struct orphan, link);
        if (o->peer)
            msg_send(o->peer, MSG_INSTANCE_GONE, &m, STR_NULL, -1);
    }
}

void orphans_status(json_t *workers)
{
    LIST_EACH (&orphans, it) {
        const struct orphan *o = container_of(it, struct orphan, link);
        json_array_append_new(
            workers, json_pack("{s:n, s:n, s:i, s:s}", "worker", "slot", "pid", (int)o->proc.pid,
                               "state", o->state == ORPHAN_DRAINING ? "draining" : "orphaned"));
    }
}
