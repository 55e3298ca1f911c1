/*
 * test_activation.c - descriptors from the service manager: whose they are, their names, what is
 * left of the environment. Each row runs in a child, since descriptors 3 and up must be ours.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs the four above first */
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/activation.h"

struct row {
    const char *name;
    const char *fds, *names; /* NULL: not set */
    bool other_pid;
    unsigned open; /* how many descriptors from 3 on are open */
    const char *want[4];
};

static const struct row rows[] = {
    {.name = "nothing", .open = 2},
    {.name = "two names", .fds = "2", .names = "web:admin", .open = 2, .want = {"web", "admin"}},
    {.name = "no names", .fds = "2", .open = 2, .want = {"unknown", "unknown"}},
    {.name = "too few names", .fds = "2", .names = "web", .open = 2, .want = {"web", "unknown"}},
    {.name = "an empty name", .fds = "2", .names = ":b", .open = 2, .want = {"unknown", "b"}},
    {.name = "more names", .fds = "1", .names = "web:b:c", .open = 2, .want = {"web"}},
    {.name = "one is closed", .fds = "2", .names = "web:b", .open = 1, .want = {"web"}},
    {.name = "another process's", .fds = "2", .names = "web:b", .other_pid = true, .open = 2},
    {.name = "no number", .fds = "2x", .names = "web:b", .open = 2},
    {.name = "negative", .fds = "-1", .open = 2},
    {.name = "none", .fds = "0", .open = 2},
    {.name = "far too many", .fds = "99999999999", .open = 2},
    {.name = "longer than a number", .fds = "99999999999999999999999", .open = 2},
};

static void set(const char *name, const char *value)
{
    if (value)
        setenv(name, value, 1);
    else
        unsetenv(name);
}

/* In the child: 0 when all is as the row says, else the number of what is not. */
static int check(const struct row *r)
{
    char pid[16];
    snprintf(pid, sizeof(pid), "%d", (int)getpid() + (r->other_pid ? 1 : 0));
    for (unsigned i = 0; i < 4; i++)
        close(3 + (int)i);
    for (unsigned i = 0; i < r->open; i++)
        if (open("/dev/null", O_RDONLY) != 3 + (int)i)
            return 1;
    set("LISTEN_PID", pid);
    set("LISTEN_FDS", r->fds);
    set("LISTEN_FDNAMES", r->names);
    activation_init();
    unsigned n = 0;
    while (n < 4 && r->want[n])
        n++;
    if (activation_count() != n)
        return 2;
    for (unsigned i = 0; i < n; i++) {
        const struct activation *a = activation_at(i);
        if (!str_eq(a->name, str_of(r->want[i])) || a->fd != 3 + (int)i)
            return 3;
        if (!(fcntl(a->fd, F_GETFD) & FD_CLOEXEC))
            return 4;
    }
    if (getenv("LISTEN_PID") || getenv("LISTEN_FDS") || getenv("LISTEN_FDNAMES"))
        return 5;
    activation_fini();
    return n && fcntl(3, F_GETFD) >= 0 ? 6 : 0;
}

static void test_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        int status;
        pid_t pid = fork();
        if (pid == 0)
            _exit(check(&rows[i]));
        assert_int_equal(waitpid(pid, &status, 0), pid);
        if (status != 0)
            print_error("%s: check %d\n", rows[i].name, WEXITSTATUS(status));
        assert_int_equal(status, 0);
    }
}

/* Those of one name, in order, without those that somebody took. */
static int check_next(void)
{
    static const struct row r = {.fds = "4", .names = "a:b:a:a", .open = 4};
    char pid[16];
    snprintf(pid, sizeof(pid), "%d", (int)getpid());
    for (int i = 0; i < 4; i++) {
        close(3 + i);
        if (open("/dev/null", O_RDONLY) != 3 + i)
            return 1;
    }
    set("LISTEN_PID", pid);
    set("LISTEN_FDS", r.fds);
    set("LISTEN_FDNAMES", r.names);
    activation_init();
    activation_at(2)->fd = -1;
    unsigned i = 0;
    const struct activation *first = activation_next(STR("a"), &i);
    const struct activation *second = activation_next(STR("a"), &i);
    if (!first || first->fd != 3 || !second || second->fd != 6 || activation_next(STR("a"), &i))
        return 2;
    activation_fini();
    return fcntl(5, F_GETFD) < 0 ? 3 : 0; /* the taken one is not ours to close */
}

static void test_next(void **state)
{
    (void)state;
    int status;
    pid_t pid = fork();
    if (pid == 0)
        _exit(check_next());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rows), cmocka_unit_test(test_next)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
