/*
 * supervise_fixture.h - what test_supervise.c stands on: a supervisor on a real loop, a record of
 * what it told, waiting for conditions, configs made by hand. No test is in here.
 */
#ifndef HG_SUPERVISE_FIXTURE_H
#define HG_SUPERVISE_FIXTURE_H

#include "base/base.h"

#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/proc.h"
#include "channels/supervise.h"

#define GUARD_MS 60000

static char self_exe[4096]; /* a copy that every user may run */
static char dir[64];        /* of this run */

/* ---- what the supervisor told ---- */

struct told {
    uint64_t id;
    char service[64];
    enum inst_state state;
    char addr[128];
};

static struct told log_told[512];
static unsigned n_told;
static bool all_stopped;
static struct supervisor *sup;
static struct event ev_chld, ev_check;

static void on_instance(void *ctx, uint64_t id, const char *service, enum inst_state state,
                        const struct inst_address *at)
{
    const char *addr = at->text;
    (void)ctx;
    assert_true(n_told < ARRAY_LEN(log_told));
    struct told *t = &log_told[n_told++];
    t->id = id;
    t->state = state;
    snprintf(t->service, sizeof(t->service), "%s", service);
    snprintf(t->addr, sizeof(t->addr), "%s", addr ? addr : "");
}

static void on_all_stopped(void *ctx)
{
    (void)ctx;
    all_stopped = true;
}

/* The last thing told about a service; an empty one when there is none. */
static struct told last_told(const char *service)
{
    for (unsigned k = n_told; k > 0; k--)
        if (!strcmp(log_told[k - 1].service, service))
            return log_told[k - 1];
    return (struct told){0};
}

static unsigned count_told(const char *service, enum inst_state state)
{
    unsigned n = 0;
    for (unsigned k = 0; k < n_told; k++)
        n += !strcmp(log_told[k].service, service) && log_told[k].state == state;
    return n;
}

static int told_index(uint64_t id, enum inst_state state)
{
    for (unsigned k = 0; k < n_told; k++)
        if (log_told[k].id == id && log_told[k].state == state)
            return (int)k;
    return -1;
}

/* ---- waiting ---- */

static bool (*wait_cond)(const void *);
static const void *wait_arg;
static bool wait_met;
static uint64_t wait_until;

static void on_check(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what, (void)arg;
    wait_met = wait_cond(wait_arg);
    if (wait_met || now_ms() > wait_until)
        loop_stop();
}

static bool wait_for(bool (*cond)(const void *), const void *arg)
{
    struct timeval tv = {.tv_usec = 2000};
    wait_cond = cond;
    wait_arg = arg;
    wait_until = now_ms() + GUARD_MS;
    wait_met = cond(arg);
    event_assign(&ev_check, loop_base(), -1, EV_PERSIST, on_check, NULL);
    event_add(&ev_check, &tv);
    if (!wait_met)
        loop_run();
    event_del(&ev_check);
    return wait_met;
}

static void on_chld(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what, (void)arg;
    proc_reap_strangers(); /* as the master does it */
}

static bool cond_ready(const void *service)
{
    return last_told(service).state == INST_READY;
}
static bool cond_unready(const void *service)
{
    return last_told(service).state == INST_UNREADY;
}
static bool cond_draining_id(const void *id)
{
    return told_index(*(const uint64_t *)id, INST_DRAINING) >= 0;
}
static bool cond_gone_id(const void *id)
{
    return told_index(*(const uint64_t *)id, INST_GONE) >= 0;
}
static bool cond_stopped(const void *unused)
{
    (void)unused;
    return all_stopped;
}
static bool cond_file(const void *path)
{
    struct stat st;
    return stat(path, &st) == 0 && st.st_size > 0;
}
static bool cond_dead(const void *pid)
{
    return kill(*(const pid_t *)pid, 0) < 0 && errno == ESRCH;
}
static bool cond_settled(const void *unused)
{
    (void)unused;
    return supervisor_settled(sup);
}

/* ---- status ---- */

/* A member of the newest instance of a service, as text; in a static buffer. */
static const char *status_of(const char *service, const char *member)
{
    static char buf[1024];
    json_t *all = supervisor_status(sup), *s;
    size_t k;
    buf[0] = '\0';
    json_array_foreach(all, k, s)
    {
        if (strcmp(json_string_value(json_object_get(s, "service")), service))
            continue;
        json_t *is = json_object_get(s, "instances");
        json_t *v = json_object_get(json_array_get(is, json_array_size(is) - 1), member);
        if (!v)
            v = json_object_get(s, member);
        if (json_is_string(v))
            snprintf(buf, sizeof(buf), "%s", json_string_value(v));
        else if (json_is_integer(v))
            snprintf(buf, sizeof(buf), "%" JSON_INTEGER_FORMAT, json_integer_value(v));
    }
    json_decref(all);
    return buf;
}

static bool cond_restarts(const void *arg)
{
    return atoi(status_of("t/api", "restarts")) >= *(const int *)arg;
}
static bool cond_failing(const void *service)
{
    return !strcmp(status_of(service, "state"), "failing") &&
           status_of(service, "last_error")[0] != '\0';
}

static bool cond_next_start(const void *service)
{
    return atoi(status_of(service, "next_start_ms")) > 0;
}

static pid_t pid_of(const char *service)
{
    return (pid_t)atoi(status_of(service, "pid"));
}

/* ---- configs made by hand ---- */

static uid_t test_uid = (uid_t)-1;

static struct conf *conf_make(unsigned services)
{
    struct arena *a = arena_new(4096);
    struct conf *c = arena_znew(a, struct conf);
    c->arena = a;
    c->refs = 1;
    c->uid = test_uid;
    c->gid = test_uid == (uid_t)-1 ? (gid_t)-1 : (gid_t)test_uid;
    c->service_uid_first = 61184;
    c->service_uid_last = 65519;
    c->state = arena_fmt(a, "%s/state", dir);
    c->runtime = arena_fmt(a, "%s/run", dir);
    c->timeouts.drain = 300000;
    c->services = arena_zarray(a, struct conf_service, services);
    return c;
}

/* A run service "t/NAME" whose command line is split at spaces. */
static struct conf_service *conf_add(struct conf *c, const char *name, const char *digest,
                                     const char *command)
{
    struct conf_service *s = &c->services[c->n_services];
    struct arena *a = c->arena;
    struct str rest = arena_str(a, str_of(command)), word;
    s->index = c->n_services++;
    s->site = STR("t");
    s->short_name = arena_str(a, str_of(name));
    s->name = arena_fmt(a, "t/%s", name);
    s->digest = arena_str(a, str_of(digest));
    s->argv = arena_zarray(a, struct str, 32);
    while (str_split(&rest, ' ', &word))
        s->argv[s->n_argv++] = word;
    s->program = s->argv[0];
    s->env = arena_zarray(a, struct str, 8);
    s->cwd = arena_fmt(a, STR_FMT "/data/t/%s", STR_ARG(c->state), name);
    s->cwd_is_data = true;
    s->health_interval = 0;
    s->health_timeout = 5000;
    s->health_failures = 2;
    s->start_timeout = 50000;
    s->stop_signal = SIGTERM;
    s->stop_timeout = 50000;
    s->restart_min = 1;
    s->restart_max = 1000;
    s->wait_ready = 10000;
    return s;
}

static struct conf_service *conf_backend(struct conf *c, const char *name, const char *digest,
                                         const char *mode)
{
    return conf_add(c, name, digest,
                    arena_fmt(c->arena, "%s --backend %s $listen %s", self_exe, mode, dir).p);
}

static void apply(struct conf *c)
{
    supervisor_apply(sup, c);
    conf_unref(&c);
}

static const char *path_in(const char *name)
{
    static char buf[4][256];
    static unsigned k;
    char *p = buf[k++ % 4];
    snprintf(p, 256, "%s/%s", dir, name);
    return p;
}

static pid_t pid_file(const char *name)
{
    struct arena *a = arena_new(4096);
    struct str text;
    assert_null(file_read(a, path_in(name), 64, &text));
    pid_t pid = (pid_t)atoi(text.p);
    arena_free(&a);
    assert_true(pid > 1);
    return pid;
}

/* ---- around each test ---- */

static int setup(void **state)
{
    static const struct supervisor_ops ops = {.on_instance = on_instance,
                                              .on_all_stopped = on_all_stopped};
    (void)state;
    snprintf(dir, sizeof(dir), "/tmp/hg-supervise-XXXXXX");
    assert_non_null(mkdtemp(dir));
    assert_int_equal(chmod(dir, 0777), 0); /* services of other users leave their pids there */
    n_told = 0;
    all_stopped = false;
    loop_init();
    event_assign(&ev_chld, loop_base(), SIGCHLD, EV_SIGNAL | EV_PERSIST, on_chld, NULL);
    event_add(&ev_chld, NULL);
    sup = supervisor_new(&ops, NULL, path_in("state"), path_in("run"));
    return 0;
}

/* Zombies of orphans may still be on their way; whoever lives on is a failure. */
static bool cond_no_child(const void *unused)
{
    (void)unused;
    return proc_reap_strangers() == 0;
}

static void remove_tree(void)
{
    char *const argv[] = {(char[]){"rm"}, (char[]){"-rf"}, dir, NULL};
    pid_t pid = fork();
    if (pid == 0) {
        execv("/bin/rm", argv);
        _exit(127);
    }
    waitpid(pid, NULL, 0);
}

static int teardown(void **state)
{
    (void)state;
    supervisor_stop(sup);
    bool ok = wait_for(cond_stopped, NULL);
    ok = wait_for(cond_no_child, NULL) && ok;
    supervisor_free(&sup);
    event_del(&ev_chld);
    loop_fini();
    remove_tree();
    test_uid = (uid_t)-1;
    return ok ? 0 : -1;
}

/* A copy in /tmp: the build folder may be closed to the users that services run as. */
static void copy_self(char *out, size_t n)
{
    char buf[65536];
    snprintf(out, n, "/tmp/hg-supervise-backend-XXXXXX");
    int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC), to = mkostemp(out, O_CLOEXEC);
    if (from < 0 || to < 0)
        exit(1);
    for (ssize_t got; (got = read(from, buf, sizeof(buf))) > 0;)
        if (fd_write_all(to, (struct str){buf, (size_t)got}))
            exit(1);
    if (fchmod(to, 0755) < 0)
        exit(1);
    close(from);
    close(to);
}

#endif
