/*
 * test_supervise.c - the supervisor on a real loop with real processes. The backends are this very
 * program, started again (supervise_backend.h). Nothing sleeps: each step waits for a condition,
 * with a guard far away.
 */
#include "tests/unit/supervise_backend.h"

/* ---- the friendly ones ---- */

static void test_ready_and_stop(void **state)
{
    (void)state;
    struct conf *c = conf_make(1);
    conf_backend(c, "api", "1", "serve");
    apply(c);
    assert_false(supervisor_settled(sup));
    assert_true(wait_for(cond_ready, "t/api"));
    assert_true(supervisor_settled(sup));
    assert_int_equal(n_told, 1);
    assert_memory_equal(log_told[0].addr, "127.0.0.1:", 10);
    assert_string_equal(status_of("t/api", "state"), "ready");
    assert_string_equal(status_of("t/api", "address"), log_told[0].addr);
    assert_true(atoi(status_of("t/api", "rss")) > 0);
    pid_t pid = pid_of("t/api");
    assert_int_equal(getpgid(pid), pid);
    supervisor_stop(sup);
    assert_true(wait_for(cond_stopped, NULL));
    assert_int_equal(last_told("t/api").state, INST_GONE);
    assert_true(cond_dead(&pid));
}

static void test_http_ready_on_unix(void **state)
{
    (void)state;
    struct conf *c = conf_make(1);
    struct conf_service *s = conf_backend(c, "api", "1", "slow-start");
    s->listen = CONF_SVC_UNIX;
    s->ready = CONF_READY_HTTP;
    s->ready_path = STR("/healthz");
    apply(c);
    /* It answers 503 until this file is there. */
    assert_true(wait_for(cond_file, path_in("asked")));
    assert_int_equal(n_told, 0);
    FILE *f = fopen(path_in("warm"), "w");
    fputs("1", f);
    fclose(f);
    assert_true(wait_for(cond_ready, "t/api"));
    assert_memory_equal(last_told("t/api").addr, "unix:/", 6);
    struct stat st;
    assert_int_equal(stat(last_told("t/api").addr + 5, &st), 0);
    supervisor_stop(sup);
    assert_true(wait_for(cond_stopped, NULL));
    assert_int_equal(stat(log_told[0].addr + 5, &st), -1);
}

static void test_python_http_server(void **state)
{
    (void)state;
    const char *python = access("/usr/bin/python3", X_OK) == 0 ? "/usr/bin/python3" : NULL;
    if (!python)
        skip();
    struct conf *c = conf_make(1);
    struct conf_service *s = conf_add(
        c, "api", "1", arena_fmt(c->arena, "%s -m http.server --bind 127.0.0.1 $port", python).p);
    s->ready = CONF_READY_HTTP;
    s->ready_path = STR("/");
    apply(c);
    assert_true(wait_for(cond_ready, "t/api"));
}

static void test_environment(void **state)
{
    (void)state;
    struct conf *c = conf_make(1);
    struct conf_service *s = conf_backend(c, "api", "1", "serve");
    s->env[s->n_env++] = STR("WHO=$instance");
    s->env[s->n_env++] = STR("LANG=de_DE.UTF-8");
    s->env[s->n_env++] = STR("HEADGATE_INSTANCE=lie");
    apply(c);
    assert_true(wait_for(cond_ready, "t/api"));
    char path[64], env[8192];
    snprintf(path, sizeof(path), "/proc/%d/environ", (int)pid_of("t/api"));
    FILE *f = fopen(path, "r");
    size_t n = fread(env, 1, sizeof(env) - 1, f);
    fclose(f);
    for (size_t k = 0; k < n; k++)
        env[k] = env[k] ? env[k] : '\n';
    env[n] = '\0';
    assert_non_null(strstr(env, "HEADGATE_INSTANCE=t/api-1\n"));
    assert_non_null(strstr(env, "WHO=t/api-1\n"));
    assert_non_null(strstr(env, "LANG=de_DE.UTF-8\n"));
    assert_non_null(strstr(env, "PATH=/"));
    assert_non_null(strstr(env, "state/data/t/api\n")); /* HOME */
    assert_null(strstr(env, "C.UTF-8"));
    assert_null(strstr(env, "lie"));
    assert_null(strstr(env, "SECRET_OF_THE_MASTER"));
    snprintf(path, sizeof(path), "/proc/%d/cwd", (int)pid_of("t/api"));
    char cwd[256] = {0};
    assert_true(readlink(path, cwd, sizeof(cwd) - 1) > 0);
    assert_non_null(strstr(cwd, "/state/data/t/api"));
}

/* ---- reload ---- */

static void test_apply(void **state)
{
    (void)state;
    struct conf *c = conf_make(3);
    conf_backend(c, "same", "1", "serve");
    conf_backend(c, "changed", "1", "serve");
    conf_backend(c, "removed", "1", "serve");
    apply(c);
    assert_true(wait_for(cond_ready, "t/same") && wait_for(cond_ready, "t/changed") &&
                wait_for(cond_ready, "t/removed"));
    struct told same = last_told("t/same"), changed = last_told("t/changed");
    struct told removed = last_told("t/removed");
    c = conf_make(3);
    conf_backend(c, "changed", "2", "serve");
    conf_backend(c, "same", "1", "serve");
    apply(c);
    assert_int_equal(last_told("t/removed").state, INST_DRAINING);
    /* The new instance is ready before the old one drains. */
    assert_true(wait_for(cond_draining_id, &changed.id));
    uint64_t fresh = 0;
    for (unsigned k = 0; k < n_told; k++)
        if (!strcmp(log_told[k].service, "t/changed") && log_told[k].state == INST_READY)
            fresh = log_told[k].id;
    assert_true(fresh != changed.id);
    assert_true(told_index(fresh, INST_READY) < told_index(changed.id, INST_DRAINING));
    assert_int_equal(told_index(changed.id, INST_GONE), -1); /* somebody may still use it */
    supervisor_instance_idle(sup, changed.id);
    supervisor_instance_idle(sup, removed.id);
    assert_true(wait_for(cond_gone_id, &changed.id) && wait_for(cond_gone_id, &removed.id));
    assert_int_equal(last_told("t/same").id, same.id);
    assert_int_equal(count_told("t/same", INST_READY), 1);
    assert_string_equal(status_of("t/removed", "state"), "");
}

static void test_broken_change_keeps_the_old(void **state)
{
    (void)state;
    struct conf *c = conf_make(1);
    conf_backend(c, "api", "1", "serve");
    apply(c);
    assert_true(wait_for(cond_ready, "t/api"));
    uint64_t old = last_told("t/api").id;
    c = conf_make(1);
    conf_backend(c, "api", "2", "exit3");
    apply(c);
    int three = 3;
    assert_true(wait_for(cond_restarts, &three));
    assert_int_equal(last_told("t/api").id, old);
    assert_int_equal(last_told("t/api").state, INST_READY);
    c = conf_make(1);
    conf_backend(c, "api", "1", "serve");
    apply(c); /* back to what it was: one more generation, as the newest is another definition */
    assert_true(wait_for(cond_settled, NULL));
}

static void test_restart(void **state)
{
    (void)state;
    struct conf *c = conf_make(2);
    conf_backend(c, "api", "1", "serve");
    struct conf_service *url = &c->services[c->n_services++];
    *url = (struct conf_service){.name = STR("t/far"), .short_name = STR("far"), .site = STR("t")};
    struct arena *names = arena_new(1024);
    apply(c);
    assert_non_null(strstr(supervisor_restart(sup, names, STR("t/apo")),
                           "did you mean `t/api`? There are: t/api, t/far"));
    assert_non_null(strstr(supervisor_restart(sup, names, STR("far")), "did you mean `t/far`?"));
    assert_null(strstr(supervisor_restart(sup, names, STR("t/wholly other")), "did you mean"));
    assert_non_null(supervisor_restart(sup, names, STR("t/far")));
    assert_true(wait_for(cond_ready, "t/api"));
    uint64_t old = last_told("t/api").id;
    assert_null(supervisor_restart(sup, names, STR("t/api")));
    arena_free(&names);
    assert_true(wait_for(cond_draining_id, &old));
    assert_int_equal(count_told("t/api", INST_READY), 2);
    supervisor_instance_idle(sup, old);
    assert_true(wait_for(cond_gone_id, &old));
}

static void fix_address(struct conf_service *s, struct arena *a, uint16_t port)
{
    struct sockaddr_in in = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    memcpy(&s->fixed.sa, &in, sizeof(in));
    s->fixed.len = sizeof(in);
    s->fixed.text = arena_fmt(a, "127.0.0.1:%u", port);
}

/* A port that is free now; *fd holds it. */
static uint16_t hold_port(int *fd)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(in);
    *fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(*fd, (struct sockaddr *)&in, n), 0);
    assert_int_equal(listen(*fd, 1), 0);
    assert_int_equal(getsockname(*fd, (struct sockaddr *)&in, &n), 0);
    return ntohs(in.sin_port);
}

static void test_fixed_address(void **state)
{
    (void)state;
    int fd;
    uint16_t port = hold_port(&fd);
    struct conf *c = conf_make(1);
    fix_address(conf_backend(c, "api", "1", "serve"), c->arena, port);
    apply(c);
    /* Somebody else has it: said in words, and tried again until it is free. */
    assert_true(wait_for(cond_failing, "t/api"));
    assert_non_null(strstr(status_of("t/api", "last_error"), "is taken by another program"));
    close(fd);
    assert_true(wait_for(cond_ready, "t/api"));
    uint64_t old = last_told("t/api").id;
    c = conf_make(1);
    fix_address(conf_backend(c, "api", "2", "serve"), c->arena, port);
    apply(c);
    assert_int_equal(last_told("t/api").state, INST_DRAINING);
    supervisor_instance_idle(sup, old);
    assert_true(wait_for(cond_ready, "t/api"));
    uint64_t fresh = last_told("t/api").id;
    assert_true(told_index(old, INST_GONE) >= 0);
    assert_true(told_index(old, INST_GONE) < told_index(fresh, INST_READY));
}

static void url_add(struct conf *c, struct conf_service *s, uint16_t port)
{
    struct conf_service tmp = {0};
    fix_address(&tmp, c->arena, port);
    s->backends[s->n_backends++] = (struct conf_backend){.addr = tmp.fixed};
}

static struct conf *url_conf(uint16_t one, uint16_t two)
{
    struct conf *c = conf_make(1);
    struct conf_service *s = &c->services[c->n_services++];
    s->name = STR("t/far");
    s->short_name = STR("far");
    s->site = STR("t");
    s->digest = arena_fmt(c->arena, "%u-%u", one, two);
    s->backends = arena_zarray(c->arena, struct conf_backend, 2);
    url_add(c, s, one);
    url_add(c, s, two);
    return c;
}

static unsigned replayed;
static void on_replay(void *ctx, uint64_t id, const char *service, enum inst_state state,
                      const struct inst_address *at)
{
    (void)ctx, (void)id, (void)service, (void)state, (void)at;
    replayed++;
}

static void test_url_service(void **state)
{
    (void)state;
    apply(url_conf(1001, 1002));
    assert_int_equal(n_told, 2);
    assert_string_equal(log_told[0].addr, "127.0.0.1:1001");
    assert_true(supervisor_settled(sup));
    uint64_t kept = log_told[1].id, gone = log_told[0].id;
    apply(url_conf(1002, 1003));
    assert_int_equal(told_index(kept, INST_DRAINING), -1);
    assert_true(told_index(gone, INST_DRAINING) >= 0);
    replayed = 0;
    supervisor_replay(sup, on_replay, NULL);
    assert_int_equal(replayed, 3);
    supervisor_instance_idle(sup, gone);
    assert_true(told_index(gone, INST_GONE) >= 0);
    /* It becomes a program that headgate starts: the addresses serve until that is ready. */
    struct conf *c = conf_make(1);
    conf_backend(c, "far", "run", "serve");
    apply(c);
    assert_int_equal(told_index(kept, INST_DRAINING), -1);
    assert_true(wait_for(cond_draining_id, &kept));
    assert_string_equal(status_of("t/far", "kind"), "run");
}

/* ---- the hostile ones ---- */

static void test_exits_at_once(void **state)
{
    (void)state;
    struct conf *c = conf_make(1);
    conf_backend(c, "api", "1", "exit3");
    apply(c);
    int four = 4;
    assert_true(wait_for(cond_restarts, &four));
    assert_true(supervisor_settled(sup));
    assert_true(wait_for(cond_failing, "t/api"));
    assert_string_equal(status_of("t/api", "last_exit"), "exited with status 3");
    assert_non_null(strstr(status_of("t/api", "last_error"), "its last words: no good"));
    assert_int_equal(n_told, 0);
}

static void test_dies_of_signal(void **state)
{
    (void)state;
    struct conf *c = conf_make(1);
    conf_backend(c, "api", "1", "killed");
    apply(c);
    assert_true(wait_for(cond_failing, "t/api"));
    assert_non_null(strstr(status_of("t/api", "last_exit"), "SIGKILL"));
}

static void test_never_opens_its_port(void **state)
{
    (void)state;
    struct conf *c = conf_make(1);
    conf_backend(c, "api", "1", "deaf")->start_timeout = 300;
    apply(c);
    assert_true(wait_for(cond_failing, "t/api"));
    assert_non_null(strstr(status_of("t/api", "last_error"), "not ready in time at 127.0.0.1:"));
    int two = 2;
    assert_true(wait_for(cond_restarts, &two));
}

static void test_ignores_term(void **state)
{
    (void)state;
    struct conf *c = conf_make(1);
    conf_backend(c, "api", "1", "stubborn")->stop_timeout = 200;
    apply(c);
    assert_true(wait_for(cond_ready, "t/api"));
    pid_t pid = pid_of("t/api");
    supervisor_stop(sup);
    assert_true(wait_for(cond_stopped, NULL));
    assert_true(cond_dead(&pid));
}

static void test_leaves_child_in_group(void **state)
{
    (void)state;
    struct conf *c = conf_make(1);
    conf_backend(c, "api", "1", "forker");
    apply(c);
    assert_true(wait_for(cond_ready, "t/api"));
    assert_true(wait_for(cond_file, path_in("child")));
    pid_t child = pid_file("child"), leader = pid_of("t/api");
    /* The leader dies alone: the rest of its group must not stay. */
    assert_int_equal(kill(leader, SIGKILL), 0);
    assert_true(wait_for(cond_dead, &child));
    int one = 1;
    assert_true(wait_for(cond_restarts, &one));
    assert_true(wait_for(cond_ready, "t/api"));
    assert_int_equal(log_told[1].state, INST_GONE);
    assert_true(last_told("t/api").id != log_told[0].id);
}

static void test_leaves_daemon(void **state)
{
    (void)state;
    struct conf *c = conf_make(1);
    conf_backend(c, "api", "1", "daemon");
    apply(c);
    assert_true(wait_for(cond_ready, "t/api"));
    assert_true(wait_for(cond_file, path_in("child")));
    pid_t child = pid_file("child");
    assert_int_not_equal(getsid(child), getsid(pid_of("t/api")));
    supervisor_stop(sup);
    assert_true(wait_for(cond_stopped, NULL));
    assert_true(wait_for(cond_dead, &child));
}

static void test_daemonises_itself(void **state)
{
    (void)state;
    struct conf *c = conf_make(1);
    conf_backend(c, "api", "1", "leaver")->restart_min = 100000;
    c->services[0].restart_max = 100000;
    apply(c);
    assert_true(wait_for(cond_failing, "t/api"));
    assert_non_null(strstr(status_of("t/api", "last_error"), "must stay in the foreground"));
    assert_true(wait_for(cond_file, path_in("child")));
    pid_t child = pid_file("child");
    assert_true(wait_for(cond_dead, &child));
    assert_true(wait_for(cond_next_start, "t/api"));
}

static uint64_t own_rss(void)
{
    unsigned long size, resident;
    FILE *f = fopen("/proc/self/statm", "r");
    assert_int_equal(fscanf(f, "%lu %lu", &size, &resident), 2);
    fclose(f);
    return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void test_prints_100_mb(void **state)
{
    (void)state;
    struct conf *c = conf_make(2);
    conf_backend(c, "loud", "1", "printer");
    conf_backend(c, "api", "1", "serve");
    apply(c);
    uint64_t before = own_rss();
    /* It prints until it is told that the other one is ready, and 100 MB at the least. */
    assert_true(wait_for(cond_ready, "t/api"));
    FILE *f = fopen(path_in("enough"), "w");
    fputs("1", f);
    fclose(f);
    assert_true(wait_for(cond_ready, "t/loud"));
    assert_true(own_rss() < before + 16 * 1024 * 1024);
}

static void test_closes_its_port(void **state)
{
    (void)state;
    struct conf *c = conf_make(1);
    struct conf_service *s = conf_backend(c, "api", "1", "closer");
    s->health_interval = 20;
    apply(c);
    assert_true(wait_for(cond_ready, "t/api"));
    struct told first = last_told("t/api");
    pid_t pid = pid_of("t/api");
    assert_int_equal(kill(pid, SIGUSR1), 0);
    assert_true(wait_for(cond_unready, "t/api"));
    assert_non_null(strstr(status_of("t/api", "last_error"), "2 looks in a row failed"));
    assert_int_equal(kill(pid, SIGUSR2), 0);
    assert_true(wait_for(cond_ready, "t/api"));
    assert_int_equal(last_told("t/api").id, first.id);
    assert_int_equal(pid_of("t/api"), pid);
}

static void test_answers_garbage(void **state)
{
    (void)state;
    struct conf *c = conf_make(1);
    struct conf_service *s = conf_backend(c, "api", "1", "garbage");
    s->ready = CONF_READY_HTTP;
    s->ready_path = STR("/");
    s->start_timeout = 300;
    apply(c);
    assert_true(wait_for(cond_failing, "t/api"));
    assert_non_null(strstr(status_of("t/api", "last_error"), "no HTTP"));
}

static void test_exec_fails(void **state)
{
    (void)state;
    struct conf *c = conf_make(2);
    conf_add(c, "api", "1", "/nonexistent/program");
    conf_add(c, "dir", "1", "/tmp");
    apply(c);
    assert_true(wait_for(cond_settled, NULL));
    assert_true(wait_for(cond_failing, "t/api") && wait_for(cond_failing, "t/dir"));
    assert_non_null(strstr(status_of("t/api", "last_error"), "/nonexistent/program"));
    assert_non_null(strstr(status_of("t/dir", "last_error"), "/tmp"));
    assert_int_equal(n_told, 0);
}

static void test_unwritable_state(void **state)
{
    (void)state;
    FILE *f = fopen(path_in("state"), "w"); /* a file where the folder should be */
    fclose(f);
    struct conf *c = conf_make(1);
    conf_backend(c, "api", "1", "serve");
    apply(c);
    assert_true(wait_for(cond_failing, "t/api"));
    assert_non_null(strstr(status_of("t/api", "last_error"), "/state"));
    unlink(path_in("state"));
    assert_true(wait_for(cond_ready, "t/api"));
}

static void test_port_taken(void **state)
{
    (void)state;
    struct conf *c = conf_make(1);
    struct conf_service *s = conf_backend(c, "api", "1", "port-thief");
    s->restart_min = s->restart_max = 100000; /* only a start without backoff comes in time */
    apply(c);
    assert_true(wait_for(cond_file, path_in("port")));
    /* Bound, not listening: our own looks must not succeed by reaching the thief. */
    struct sockaddr_in in = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)pid_file("port")),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof(in)), 0);
    FILE *f = fopen(path_in("taken"), "w");
    fclose(f);
    assert_true(wait_for(cond_ready, "t/api"));
    assert_string_equal(status_of("t/api", "restarts"), "1");
    close(fd);
}

/* ---- output ---- */

static void test_output_lines(void **state)
{
    (void)state;
    int saved = dup(STDERR_FILENO);
    int fd = open(path_in("log"), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    dup2(fd, STDERR_FILENO);
    struct conf *c = conf_make(1);
    conf_backend(c, "api", "1", "chatter");
    apply(c);
    bool ready = wait_for(cond_ready, "t/api");
    supervisor_stop(sup);
    ready = ready && wait_for(cond_stopped, NULL);
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(fd);
    assert_true(ready);
    struct arena *a = arena_new(4096);
    struct str text;
    assert_null(file_read(a, path_in("log"), 1 << 20, &text));
    assert_non_null(strstr(text.p, "\"stream\":\"stdout\",\"line\":\"one\""));
    assert_non_null(strstr(text.p, "\"stream\":\"stderr\",\"line\":\"two\""));
    assert_non_null(strstr(text.p, "\"line\":\"with  [31m colour\"")); /* ESC and CR are gone */
    assert_non_null(strstr(text.p, "\"line\":\"no end\""));
    assert_non_null(strstr(text.p, "output line cut"));
    assert_non_null(strstr(text.p, "\"dropped\":95904"));
    assert_null(strstr(text.p, "\x1b"));
    arena_free(&a);
}

/* ---- users ---- */

static void test_own_users(void **state)
{
    (void)state;
    if (geteuid() != 0)
        skip();
    test_uid = 65534;
    struct conf *c = conf_make(2);
    conf_backend(c, "one", "1", "serve")->listen = CONF_SVC_UNIX;
    conf_backend(c, "two", "1", "naked-daemon");
    apply(c);
    assert_true(wait_for(cond_ready, "t/one") && wait_for(cond_ready, "t/two"));
    assert_string_equal(status_of("t/one", "uid"), "61184");
    assert_string_equal(status_of("t/two", "uid"), "61185");
    char path[64];
    struct stat st;
    snprintf(path, sizeof(path), "/proc/%d", (int)pid_of("t/two"));
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_uid, 61185);
    assert_int_equal(stat(path_in("state/data/t/two"), &st), 0);
    assert_int_equal(st.st_uid, 61185);
    /* The workers' group may reach the socket, nobody else. */
    assert_int_equal(stat(last_told("t/one").addr + 5, &st), 0);
    assert_int_equal(st.st_gid, 65534);
    assert_int_equal(st.st_mode & 0070, 0070);
    /* A daemon without session, group and environment of its maker is told by its user. */
    assert_true(wait_for(cond_file, path_in("child")));
    pid_t child = pid_file("child");
    supervisor_stop(sup);
    assert_true(wait_for(cond_stopped, NULL));
    assert_true(wait_for(cond_dead, &child));
    struct arena *a = arena_new(4096);
    struct str text;
    assert_null(file_read(a, path_in("state/uids"), 4096, &text));
    assert_string_equal(text.p, "t/one 61184\nt/two 61185\n");
    arena_free(&a);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(int argc, char **argv)
{
    if (argc == 5 && !strcmp(argv[1], "--backend")) {
        snprintf(self_exe, sizeof(self_exe), "%s", argv[0]);
        backend_main(argv[2], argv[3], argv[4]);
    }
    const struct CMUnitTest tests[] = {
        CASE(test_ready_and_stop),
        CASE(test_http_ready_on_unix),
        CASE(test_python_http_server),
        CASE(test_environment),
        CASE(test_apply),
        CASE(test_broken_change_keeps_the_old),
        CASE(test_restart),
        CASE(test_fixed_address),
        CASE(test_url_service),
        CASE(test_exits_at_once),
        CASE(test_dies_of_signal),
        CASE(test_never_opens_its_port),
        CASE(test_ignores_term),
        CASE(test_leaves_child_in_group),
        CASE(test_leaves_daemon),
        CASE(test_daemonises_itself),
        CASE(test_prints_100_mb),
        CASE(test_closes_its_port),
        CASE(test_answers_garbage),
        CASE(test_exec_fails),
        CASE(test_unwritable_state),
        CASE(test_port_taken),
        CASE(test_output_lines),
        CASE(test_own_users),
    };
    copy_self(self_exe, sizeof(self_exe));
    setenv("SECRET_OF_THE_MASTER", "1", 1);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    signal(SIGPIPE, SIG_IGN);
    /* Thousands of lines of output: only of interest to who looks for a fault. */
    int quiet = getenv("HG_TEST_LOG") ? -1 : open("/dev/null", O_WRONLY | O_CLOEXEC);
    int shown = dup(STDERR_FILENO);
    if (quiet >= 0) {
        dup2(quiet, STDERR_FILENO);
        stderr = fdopen(shown, "w"); /* cmocka's own words */
    }
    if (argc == 2)
        cmocka_set_test_filter(argv[1]);
    log_init("test", LOG_INFO);
    int rc = cmocka_run_group_tests_name("supervise", tests, NULL, NULL);
    unlink(self_exe);
    return rc;
}
