/*
 * test_dns_hook.c - acme.dns_hook by small scripts: what they are given, how they end, how many run
 * at once, and what is left of them.
 */
#include "base/base.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/proc.h"
#include "proxy/dns_hook.h"
#include "tests/unit/tmp_dir.h"

static struct arena *arena;
static const char *dir;

/* ---- scripts and files ---- */

static const char *path_of(const char *name)
{
    return arena_fmt(arena, "%s/%s", dir, name).p;
}

/* `D` is our folder. */
static struct str script(const char *name, const char *text)
{
    const char *path = path_of(name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fprintf(f, "#!/bin/sh\nD=%s\n%s\n", dir, text);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(chmod(path, 0755), 0);
    return str_of(path);
}

/* The file's text, "" when there is none. */
static const char *text_of(const char *name)
{
    char *mem = arena_zalloc(arena, 64 * 1024);
    int fd = open(path_of(name), O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        assert_true(read(fd, mem, 64 * 1024 - 1) >= 0);
        close(fd);
    }
    return mem;
}

static void touch(const char *name)
{
    int fd = open(path_of(name), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    close(fd);
}

static unsigned count(const char *text, const char *what)
{
    unsigned n = 0;
    for (; (text = strstr(text, what)); text += strlen(what))
        n++;
    return n;
}

/* ---- runs ---- */

static struct {
    unsigned done, want, failed;
    char err[1024];
} got;

static void on_done(void *ctx, const char *err)
{
    (void)ctx;
    struct out o = out_on(got.err, sizeof(got.err) - 1);
    out_str(&o, str_of(err));
    got.err[o.n] = '\0';
    got.failed += err != NULL;
    if (++got.done == got.want)
        loop_stop();
}

static struct dns_hook_spec spec_of(struct str path, const char *name)
{
    return (struct dns_hook_spec){.path = path,
                                  .verb = "present",
                                  .name = str_of(name),
                                  .value = STR("va-l_ue.9"),
                                  .home = str_of(dir),
                                  .uid = (uid_t)-1,
                                  .gid = (gid_t)-1,
                                  .limit_ms = DNS_HOOK_LIMIT_MS};
}

static void wait_done(unsigned n)
{
    got.want = n;
    if (got.done < n)
        loop_run();
    assert_int_equal(got.done, n);
}

/* One run, to its end. */
static void run(const struct dns_hook_spec *spec)
{
    memset(&got, 0, sizeof(got));
    assert_non_null(dns_hook_start(spec, on_done, NULL));
    assert_int_equal(got.done, 0);
    wait_done(1);
}

static struct {
    const char *file, *what;
    unsigned n;
} awaited;

static void on_look(struct deadline *d)
{
    if (count(text_of(awaited.file), awaited.what) >= awaited.n)
        loop_stop();
    else
        deadline_set(d, 1, on_look);
}

/* Until `what` stands n times in the file. */
static void wait_text(const char *file, const char *what, unsigned n)
{
    struct deadline d = {0};
    awaited.file = file;
    awaited.what = what;
    awaited.n = n;
    deadline_set(&d, 1, on_look);
    loop_run();
    deadline_cancel(&d);
}

/* ---- tests ---- */

static void test_given(void **state)
{
    (void)state;
    struct str path = script("given", "echo \"$#:$1:$2:$3\" >$D/args\n"
                                      "pwd >$D/cwd\n"
                                      "tr '\\0' '\\n' </proc/$$/environ | sort >$D/env\n"
                                      "cut -d' ' -f5 /proc/$$/stat >$D/group; echo $$ >$D/pid\n"
                                      "cat >$D/stdin\n");
    struct dns_hook_spec spec = spec_of(path, "_acme-challenge.a.test");
    setenv("SECRET", "of the master", 1);
    run(&spec);
    unsetenv("SECRET");
    assert_string_equal(got.err, "");
    assert_string_equal(text_of("args"), "3:present:_acme-challenge.a.test:va-l_ue.9\n");
    assert_string_equal(text_of("cwd"), "/\n");
    assert_string_equal(text_of("group"), text_of("pid"));
    assert_string_equal(text_of("stdin"), "");
    const char *path_env = getenv("PATH");
    const char *env = arena_fmt(arena, "HOME=%s\nLANG=C.UTF-8\nPATH=%s\n", dir,
                                path_env && *path_env ? path_env : PROC_DEFAULT_PATH)
                          .p;
    assert_string_equal(text_of("env"), env);
    spec.verb = "cleanup";
    run(&spec);
    assert_string_equal(text_of("args"), "3:cleanup:_acme-challenge.a.test:va-l_ue.9\n");
}

static void test_fails(void **state)
{
    (void)state;
    struct dns_hook_spec spec = spec_of(
        script("fails", "echo first; echo 'the zone is locked' >&2; echo; exit 3"), "a.test");
    run(&spec);
    assert_non_null(strstr(got.err, "/fails exited with status 3: the zone is locked"));
    spec.path = script("quiet", "exit 1");
    run(&spec);
    assert_true(str_ends(str_of(got.err), STR("/quiet exited with status 1")));
    spec.path = script("killed", "printf 'no end of line'; kill -TERM $$");
    run(&spec);
    assert_non_null(strstr(got.err, "killed by SIGTERM: no end of line"));
    spec.path = str_of(path_of("not-there"));
    run(&spec);
    assert_non_null(strstr(got.err, "not-there"));
}

static void test_harmless_words_only(void **state)
{
    (void)state;
    struct str path = script("words", "echo ran >>$D/words.ran");
    char longest[300];
    memset(longest, 'a', sizeof(longest));
    static const char *const bad[] = {"",    "a b",     "a\nb",     "$(id)",   "a;b",
                                      "a/b", "a.test.", "\xc3\xa4", "*.a.test"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct dns_hook_spec spec = spec_of(path, bad[i]);
        run(&spec);
        assert_non_null(strstr(got.err, "nothing was run"));
        spec = spec_of(path, "a.test");
        spec.value = str_of(bad[i]);
        if (strcmp(bad[i], "a.test.") == 0)
            continue;
        run(&spec);
        assert_non_null(strstr(got.err, "nothing was run"));
    }
    struct dns_hook_spec spec = spec_of(path, "a.test");
    spec.name = (struct str){longest, 256};
    run(&spec);
    assert_non_null(strstr(got.err, "nothing was run"));
    assert_string_equal(text_of("words.ran"), "");
}

/* Starts and ends as they are written down; how many ran at once at most. */
static unsigned most_at_once(const char *log)
{
    unsigned now = 0, most = 0;
    struct str rest = str_of(log), line;
    while (str_split(&rest, '\n', &line) && line.n) {
        now = line.p[0] == '+' ? now + 1 : now - 1;
        most = MAX(most, now);
    }
    return most;
}

/* A name each. */
static void start_many(struct str path, unsigned n)
{
    memset(&got, 0, sizeof(got));
    for (unsigned i = 0; i < n; i++) {
        struct dns_hook_spec spec = spec_of(path, arena_fmt(arena, "h%u.test", i).p);
        dns_hook_start(&spec, on_done, NULL);
    }
}

static void test_some_at_once(void **state)
{
    (void)state;
    struct str path = script("many", "echo \"+ $2\" >>$D/many.log\n"
                                     "while [ ! -e $D/many.go ]; do sleep 0.02; done\n"
                                     "echo \"- $2\" >>$D/many.log\n");
    start_many(path, 20);
    wait_text("many.log", "+", DNS_HOOKS_MAX);
    assert_int_equal(got.done, 0);
    touch("many.go");
    wait_done(20);
    assert_int_equal(got.failed, 0);
    assert_int_equal(count(text_of("many.log"), "+"), 20);
    assert_int_equal(most_at_once(text_of("many.log")), DNS_HOOKS_MAX);
}

static void test_a_name_in_order(void **state)
{
    (void)state;
    struct str path =
        script("order", "echo \"+ $2 $3\" >>$D/order.log\n"
                        "[ $2 = b.test ] || while [ ! -e $D/order.go ]; do sleep 0.02; done\n"
                        "echo \"- $2 $3\" >>$D/order.log\n");
    static const char *const values[] = {"one", "two", "three"};
    memset(&got, 0, sizeof(got));
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        struct dns_hook_spec spec = spec_of(path, "a.test");
        spec.value = str_of(values[i]);
        dns_hook_start(&spec, on_done, NULL);
    }
    struct dns_hook_spec other = spec_of(path, "b.test");
    dns_hook_start(&other, on_done, NULL); /* is not held up */
    wait_text("order.log", "- b.test", 1);
    touch("order.go");
    wait_done(4);
    const char *log = text_of("order.log");
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        const char *begins = strstr(log, arena_fmt(arena, "+ a.test %s\n", values[i]).p);
        const char *ends = strstr(log, arena_fmt(arena, "- a.test %s\n", values[i]).p);
        assert_true(begins && ends && begins < ends);
        log = ends;
    }
}

static void await_end_of(const char *pid_file)
{
    uint64_t pid;
    assert_true(
        str_u64(str_trim((struct str){text_of(pid_file), strcspn(text_of(pid_file), "\n")}), &pid));
    while (proc_started((pid_t)pid))
        usleep(1000);
}

static void test_time_is_over(void **state)
{
    (void)state;
    struct dns_hook_spec spec =
        spec_of(script("slow", "sleep 1000 & echo $! >$D/slow.pid; echo waiting; wait"), "a.test");
    spec.limit_ms = 1;
    run(&spec);
    assert_non_null(strstr(got.err, "took longer than"));
    if (*text_of("slow.pid"))
        await_end_of("slow.pid");
}

/* What it leaves behind holds its output open: that is not waited for. */
static void test_leftovers(void **state)
{
    (void)state;
    struct dns_hook_spec spec =
        spec_of(script("left", "sleep 1000 & echo $! >$D/left.pid; echo fine"), "a.test");
    run(&spec);
    assert_string_equal(got.err, "");
    await_end_of("left.pid");
}

static void test_output(void **state)
{
    (void)state;
    int before = dup(STDERR_FILENO);
    int fd = open(path_of("output.log"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0 && dup2(fd, STDERR_FILENO) >= 0);
    struct dns_hook_spec spec = spec_of(
        script("output", "printf 'esc\\033[31m\\n'\n"
                         "head -c 100000 /dev/zero | tr '\\0' x; echo\n"
                         "i=0; while [ $i -lt 300 ]; do i=$((i+1)); echo line $i; done; exit 1"),
        "a.test");
    run(&spec);
    assert_true(dup2(before, STDERR_FILENO) >= 0);
    close(before);
    close(fd);
    assert_true(str_ends(str_of(got.err), STR("exited with status 1: line 300")));
    char *log = arena_zalloc(arena, 512 * 1024);
    fd = open(path_of("output.log"), O_RDONLY | O_CLOEXEC);
    assert_true(read(fd, log, 512 * 1024 - 1) > 0);
    close(fd);
    assert_int_equal(count(log, "dns_hook output\""), 200);
    assert_non_null(strstr(log, "\"lines_dropped\":102"));
    assert_non_null(strstr(log, "esc [31m"));
    assert_non_null(strstr(log, "\"line\":\"line 198\""));
    assert_int_equal(count(log, "xxxxxxxxxx"), 50);
}

static void test_let_go(void **state)
{
    (void)state;
    struct str path = script("loose", "echo \"+ $3\" >>$D/loose.log\n"
                                      "while [ ! -e $D/loose.go ]; do sleep 0.02; done\n"
                                      "echo \"- $3\" >>$D/loose.log\n");
    struct dns_hook_spec spec = spec_of(path, "a.test");
    memset(&got, 0, sizeof(got));
    spec.value = STR("runs");
    struct dns_hook *runs = dns_hook_start(&spec, on_done, NULL);
    spec.value = STR("waits");
    struct dns_hook *waits = dns_hook_start(&spec, on_done, NULL);
    spec.value = STR("last");
    dns_hook_start(&spec, on_done, NULL);
    wait_text("loose.log", "+ runs", 1);
    assert_true(dns_hook_let_go(&runs));
    assert_false(dns_hook_let_go(&waits));
    assert_null(waits);
    touch("loose.go");
    wait_done(1);
    assert_string_equal(text_of("loose.log"), "+ runs\n- runs\n+ last\n- last\n");
}

static void test_stop(void **state)
{
    (void)state;
    struct str path = script("stop", "trap 'echo \"ended $2\" >>$D/stop.log; exit 0' TERM\n"
                                     "echo \"+ $2\" >>$D/stop.log\n"
                                     "while :; do sleep 0.02; done\n");
    start_many(path, 12);
    wait_text("stop.log", "+", DNS_HOOKS_MAX);
    dns_hook_stop_all();
    /* The pipe is read on: a message of the shell about its `sleep` must not kill it. */
    wait_text("stop.log", "ended", DNS_HOOKS_MAX);
    assert_int_equal(got.done, 0);
    assert_int_equal(count(text_of("stop.log"), "+"), DNS_HOOKS_MAX);
    /* The queue is as new. */
    struct dns_hook_spec spec = spec_of(script("again", "exit 0"), "h0.test");
    run(&spec);
    assert_string_equal(got.err, "");
}

static int set_up(void **state)
{
    (void)state;
    arena = arena_new(1 << 16);
    log_init("test", LOG_INFO);
    loop_init();
    dir = tmp_dir_make(arena);
    return dir ? 0 : 1;
}

static int tear_down(void **state)
{
    (void)state;
    loop_fini();
    tmp_dir_remove(arena, dir);
    arena_free(&arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_given),
        cmocka_unit_test(test_fails),
        cmocka_unit_test(test_harmless_words_only),
        cmocka_unit_test(test_some_at_once),
        cmocka_unit_test(test_a_name_in_order),
        cmocka_unit_test(test_time_is_over),
        cmocka_unit_test(test_leftovers),
        cmocka_unit_test(test_output),
        cmocka_unit_test(test_let_go),
        cmocka_unit_test(test_stop),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
