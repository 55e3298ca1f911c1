/*
 * dns_hook.c - a queue of runs, and each run from its start to the exit of its process group.
 */
#include "proxy/dns_hook.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/proc.h"

#define LINE_MAX_BYTES 500
#define LINES_MAX      200 /* of one run into the log; the rest is counted */
#define NAME_MAX_BYTES 255
#define READ_TURN      (16 * 1024)
#define FLUSH_TURNS    64 /* the largest pipe that a user can make, and nothing without end */

/* What a run prints: line by line into the log. */
struct printed {
    int fd; /* -1: closed */
    struct event ev;
    char line[LINE_MAX_BYTES + 1], last[LINE_MAX_BYTES + 1];
    size_t n;
    unsigned lines;
};

struct dns_hook {
    struct list link; /* of waiting or running */
    struct arena *arena;
    struct dns_hook_spec spec;
    void (*done)(void *ctx, const char *err); /* NULL: nobody wants to know */
    void *ctx;
    struct proc proc;
    struct event ended;
    struct deadline limit;
    bool late;
    struct printed out;
};

static struct list waiting = {&waiting, &waiting}, running = {&running, &running};
static unsigned n_running;
static struct turn_task task;

static void on_turn(struct turn_task *t);

/* ---- the end of a run ---- */

static void hook_free(void *p)
{
    struct dns_hook *h = p;
    struct arena *a = h->arena;
    arena_free(&a);
}

static void printed_close(struct printed *o)
{
    if (o->fd < 0)
        return;
    event_del(&o->ev);
    close(o->fd);
    o->fd = -1;
}

static void unwatch(struct dns_hook *h)
{
    printed_close(&h->out);
    if (h->proc.pidfd < 0)
        return; /* it did not even start */
    event_del(&h->ended);
    close(h->proc.pidfd);
    h->proc.pidfd = -1;
    deadline_cancel(&h->limit);
    n_running--;
}

static void hook_end(struct dns_hook *h, const char *err)
{
    void (*done)(void *, const char *) = h->done;
    unwatch(h);
    list_remove(&h->link);
    h->done = NULL;
    if (err)
        log_error("dns_hook failed", "verb", "%s", h->spec.verb, "name", "%s", h->spec.name.p,
                  "cause", "%s", err);
    else
        log_info("dns_hook ended", "verb", "%s", h->spec.verb, "name", "%s", h->spec.name.p);
    if (done)
        done(h->ctx, err);
    loop_free_later(h, hook_free);
    loop_at_turn_end(&task, on_turn);
}

/* ---- what it prints ---- */

static void line_end(struct dns_hook *h)
{
    struct printed *o = &h->out;
    o->line[o->n] = '\0';
    if (!o->n)
        return;
    memcpy(o->last, o->line, o->n + 1);
    o->n = 0;
    if (o->lines++ < LINES_MAX)
        log_info("dns_hook output", "verb", "%s", h->spec.verb, "name", "%s", h->spec.name.p,
                 "line", "%s", o->line);
}

/* Control bytes could be a terminal's escape sequences; a line's end is cut off when it is long. */
static void take(struct dns_hook *h, struct str data)
{
    struct printed *o = &h->out;
    for (size_t i = 0; i < data.n; i++) {
        unsigned char c = (unsigned char)data.p[i];
        if (c == '\n')
            line_end(h);
        else if (o->n < LINE_MAX_BYTES && c != '\r')
            o->line[o->n++] = c < 0x20 || c == 0x7f ? ' ' : (char)c;
    }
}

/* True while there may be more at once. */
static bool read_some(struct dns_hook *h)
{
    static char buf[READ_TURN];
    ssize_t n = read(h->out.fd, buf, sizeof(buf));
    if (n > 0)
        take(h, (struct str){buf, (size_t)n});
    else if (n == 0 || (errno != EAGAIN && errno != EINTR))
        printed_close(&h->out); /* nobody holds the other end any more: it would fire for ever */
    return n > 0;
}

static void on_output(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    read_some(arg);
}

static void read_rest(struct dns_hook *h)
{
    for (unsigned i = 0; i < FLUSH_TURNS && h->out.fd >= 0 && read_some(h); i++)
        ;
    line_end(h);
    if (h->out.lines > LINES_MAX)
        log_warn("dns_hook output cut", "name", "%s", h->spec.name.p, "lines_dropped", "%u",
                 h->out.lines - LINES_MAX);
}

/* ---- a run ---- */

static void on_ended(evutil_socket_t fd, short what, void *arg)
{
    struct dns_hook *h = arg;
    char how[64];
    int status = -1; /* of one that was reaped with all the rest, at the master's end */
    siginfo_t info;
    (void)fd, (void)what;
    /* What it left in its group goes with it; while it is not reaped, the number is its own. */
    if (waitid(P_PID, (id_t)h->proc.pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0) {
        proc_signal_group(h->proc.pid, SIGKILL);
        waitpid(h->proc.pid, &status, WNOHANG);
    }
    read_rest(h);
    proc_status_text(status, how, sizeof(how));
    const char *last = h->out.last, *colon = *last ? ": " : "";
    const char *path = h->spec.path.p, *err = NULL;
    if (h->late)
        err = arena_fmt(h->arena, "dns_hook %s took longer than %llu s and was killed%s%s", path,
                        (unsigned long long)(h->spec.limit_ms / 1000), colon, last)
                  .p;
    else if (status)
        err = arena_fmt(h->arena, "dns_hook %s %s%s%s", path, how, colon, last).p;
    hook_end(h, err);
}

static void on_limit(struct deadline *d)
{
    struct dns_hook *h = container_of(d, struct dns_hook, limit);
    h->late = true;
    proc_signal_group(h->proc.pid, SIGKILL);
}

static char *writable(const char *s)
{
    return (char *)(uintptr_t)s;
}

static const char *spawn(struct dns_hook *h, int out_fd)
{
    struct arena *a = h->arena;
    const struct dns_hook_spec *s = &h->spec;
    const char *path = getenv("PATH");
    char *argv[] = {writable(s->path.p), writable(s->verb), writable(s->name.p),
                    writable(s->value.p), NULL};
    char *envp[] = {writable(arena_fmt(a, "PATH=%s", path && *path ? path : PROC_DEFAULT_PATH).p),
                    writable(arena_fmt(a, "HOME=%s", s->home.p).p), writable("LANG=C.UTF-8"), NULL};
    struct proc_spec spec = {
        .path = s->path.p,
        .exec_fd = -1,
        .argv = argv,
        .envp = envp,
        .stdin_fd = -1,
        .stdout_fd = out_fd,
        .stderr_fd = out_fd,
        .uid = s->uid,
        .gid = s->gid,
        .own_group = true,
        .die_with_parent = true, /* nobody else would hold it to its time */
        .no_new_privs = true,
        .no_caps = true,
    };
    return proc_spawn(a, &spec, &h->proc);
}

static const char *run(struct dns_hook *h)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) < 0)
        return err_of_errno(errno);
    const char *err = spawn(h, fds[1]);
    close(fds[1]);
    if (err) {
        close(fds[0]);
        return err;
    }
    n_running++;
    fcntl(fds[0], F_SETFL, O_NONBLOCK);
    h->out.fd = fds[0];
    event_assign(&h->out.ev, loop_base(), fds[0], EV_READ | EV_PERSIST, on_output, h);
    event_add(&h->out.ev, NULL);
    event_assign(&h->ended, loop_base(), h->proc.pidfd, EV_READ | EV_PERSIST, on_ended, h);
    event_add(&h->ended, NULL);
    deadline_set(&h->limit, h->spec.limit_ms, on_limit);
    return NULL;
}

/* ---- the queue ---- */

static bool harmless(struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        bool fine = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                    c == '_' || c == '.' || c == '-';
        if (!fine)
            return false;
    }
    return s.n > 0 && s.n <= NAME_MAX_BYTES;
}

static const char *begin(struct dns_hook *h)
{
    if (!harmless(h->spec.name) || str_ends(h->spec.name, STR(".")) || !harmless(h->spec.value))
        return "the record has other than letters, digits, \"_\", \".\" and \"-\" in it, or is too "
               "long: nothing was run";
    return run(h);
}

static bool name_is_busy(struct str name)
{
    LIST_EACH (&running, it)
        if (str_eq(container_of(it, struct dns_hook, link)->spec.name, name))
            return true;
    return false;
}

static struct dns_hook *next_to_run(void)
{
    if (n_running == DNS_HOOKS_MAX)
        return NULL;
    LIST_EACH (&waiting, it) {
        struct dns_hook *h = container_of(it, struct dns_hook, link);
        if (!name_is_busy(h->spec.name))
            return h;
    }
    return NULL;
}

static void on_turn(struct turn_task *t)
{
    (void)t;
    for (struct dns_hook *h; (h = next_to_run());) {
        list_remove(&h->link);
        list_append(&running, &h->link);
        const char *err = begin(h);
        if (err)
            hook_end(h, err);
    }
}

struct dns_hook *dns_hook_start(const struct dns_hook_spec *spec,
                                void (*done)(void *ctx, const char *err), void *ctx)
{
    struct arena *a = arena_new(4096);
    struct dns_hook *h = arena_znew(a, struct dns_hook);
    h->arena = a;
    h->spec = *spec;
    h->spec.path = arena_str(a, spec->path);
    h->spec.name = arena_str(a, spec->name);
    h->spec.value = arena_str(a, spec->value);
    h->spec.home = arena_str(a, spec->home);
    h->done = done;
    h->ctx = ctx;
    h->proc.pidfd = -1;
    h->out.fd = -1;
    list_append(&waiting, &h->link);
    loop_at_turn_end(&task, on_turn);
    return h;
}

bool dns_hook_let_go(struct dns_hook **hp)
{
    struct dns_hook *h = *hp;
    *hp = NULL;
    h->done = NULL;
    if (h->proc.pidfd >= 0)
        return true;
    list_remove(&h->link);
    loop_free_later(h, hook_free);
    return false;
}

void dns_hook_stop_all(void)
{
    LIST_EACH (&running, it) {
        struct dns_hook *h = container_of(it, struct dns_hook, link);
        h->done = NULL;
        proc_signal_group(h->proc.pid, SIGTERM);
    }
    LIST_EACH_SAFE (&waiting, it) {
        struct dns_hook *h = container_of(it, struct dns_hook, link);
        list_remove(&h->link);
        loop_free_later(h, hook_free);
    }
}
