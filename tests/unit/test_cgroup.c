/*
 * test_cgroup.c - what is read from and written to a cgroup's files. They are plain ones here, with
 * the kernel's forms: this machine's kernel need not have a memory controller. Real groups are
 * those of cases/test_confine.py.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs the four above first */
#include <cmocka.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cgroup.h"
#include "base/file.h"

static struct arena *arena;
static char folder[] = "/tmp/headgate-cgroup-XXXXXX";
static const char *const names[] = {"cgroup.controllers", "cgroup.subtree_control", "cgroup.procs",
                                    "cgroup.kill",        "cgroup.events",          "memory.max",
                                    "memory.events",      "memory.oom.group"};

static const char *path_of(const char *name)
{
    return arena_fmt(arena, "%s/%s", folder, name).p;
}

static void put(const char *name, const char *text)
{
    int fd = open(path_of(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    assert_null(fd_write_all(fd, str_of(text)));
    close(fd);
}

static void assert_holds(const char *name, const char *text)
{
    struct str got;
    assert_null(file_read(arena, path_of(name), 4096, &got));
    assert_string_equal(got.p, text);
}

static int setup(void **state)
{
    (void)state;
    arena = arena_new(1024);
    assert_non_null(mkdtemp(folder));
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        put(names[i], "");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        unlink(path_of(names[i]));
    rmdir(folder);
    arena_free(&arena);
    return 0;
}

static void wait_for_keeper(void)
{
    while (waitpid(-1, NULL, 0) < 0 && errno == EINTR)
        ;
}

static void test_controllers(void **state)
{
    static const struct {
        const char *text;
        bool memory;
    } rows[] = {
        {"memory\n", true},      {"cpu io memory pids\n", true},
        {"cpu memory\n", true},  {"cpu io\n", false},
        {"\n", false},           {"", false},
        {"hugememory\n", false}, {"memory2 cpu\n", false},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        put("cgroup.controllers", rows[i].text);
        put("cgroup.subtree_control", "");
        const char *err = cgroup_allow_memory(folder);
        assert_int_equal(rows[i].memory, err == NULL);
        assert_holds("cgroup.subtree_control", rows[i].memory ? "+memory" : "");
        cgroup_disallow_memory();
        if (rows[i].memory)
            wait_for_keeper();
    }
}

/* By the child alone, as after kill -9 of us: a process in between is what ends. */
static void test_taken_back_by_the_keeper(void **state)
{
    (void)state;
    put("cgroup.controllers", "memory\n");
    put("cgroup.subtree_control", "");
    pid_t pid = fork();
    if (pid == 0)
        _exit(cgroup_allow_memory(folder) ? 1 : 0);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    struct str got = STR_NULL;
    while (!str_eq(got, STR("-memory")))
        assert_null(file_read(arena, path_of("cgroup.subtree_control"), 4096, &got));
}

static void test_limit_and_end(void **state)
{
    bool left;
    (void)state;
    assert_null(cgroup_set_memory(folder, UINT64_C(5) << 30));
    assert_holds("memory.max", "5368709120");
    assert_holds("memory.oom.group", "1");
    put("memory.events", "low 0\nhigh 0\nmax 3\noom 0\noom_kill 0\noom_group_kill 1\n");
    assert_false(cgroup_ran_out(folder));
    put("memory.events", "low 0\nhigh 0\nmax 9\noom 1\noom_kill 2\noom_group_kill 1\n");
    assert_true(cgroup_ran_out(folder));
    put("cgroup.events", "populated 1\nfrozen 0\n");
    assert_null(cgroup_kill(folder, &left));
    assert_true(left);
    assert_holds("cgroup.kill", "1");
    put("cgroup.events", "populated 0\nfrozen 0\n");
    assert_null(cgroup_kill(folder, &left));
    assert_false(left);
    unlink(path_of("cgroup.kill")); /* a kernel that has none */
    assert_non_null(cgroup_kill(folder, &left));
    assert_null(cgroup_add(folder, 4711));
    assert_holds("cgroup.procs", "4711");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_controllers),
        cmocka_unit_test(test_taken_back_by_the_keeper),
        cmocka_unit_test(test_limit_and_end),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
