/*
 * test_stats.c - the shared counters: attach, sums over slots, what a death leaves.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs the four above first */
#include <cmocka.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/stats.h"

static void test_names(void **state)
{
    (void)state;
    assert_string_equal(stats_name(STAT_connections_total), "connections_total");
    assert_false(stats_is_gauge(STAT_connections_total));
    assert_true(stats_is_gauge(STAT_connections));
    for (unsigned i = 0; i < STAT_COUNT; i++)
        assert_true(stats_help((enum stats_id)i)[0] != '\0');
}

static void test_attach(void **state)
{
    (void)state;
    /* What is counted before the segment is there goes along. */
    stats_inc(requests_total);
    stats_inc(requests_total);
    int fd = stats_create();
    assert_null(stats_attach(fd, 3));
    assert_int_equal(stats_slot_get(3, STAT_requests_total), 2);
    stats_inc(requests_total);
    assert_int_equal(stats_sum(STAT_requests_total), 3);
    assert_non_null(stats_attach(fd, STATS_SLOTS));
    close(fd);
}

static void test_two_processes(void **state)
{
    (void)state;
    int fd = stats_create();
    assert_null(stats_attach(fd, 0));
    stats_inc(connections);
    pid_t pid = fork();
    if (pid == 0) {
        bool ok = stats_attach(fd, 7) == NULL;
        stats_add(STAT_connections, 5);
        stats_add(STAT_connections_total, 9);
        _exit(ok ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(stats_slot_get(7, STAT_connections), 5);
    assert_int_equal(stats_sum(STAT_connections), 6);
    /* Nothing is open in a dead process; what it counted stays. */
    stats_slot_died(7);
    assert_int_equal(stats_sum(STAT_connections), 1);
    assert_int_equal(stats_sum(STAT_connections_total), 9);
    close(fd);
}

static void test_wrong_segment(void **state)
{
    (void)state;
    int fd = memfd_create("small", MFD_CLOEXEC);
    assert_int_equal(ftruncate(fd, 100), 0);
    assert_non_null(stats_attach(fd, 0));
    close(fd);
    assert_non_null(stats_attach(-1, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_attach),
        cmocka_unit_test(test_two_processes),
        cmocka_unit_test(test_wrong_segment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
