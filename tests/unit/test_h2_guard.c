/*
 * test_h2_guard.c - budgets of cheap HTTP/2 frames: used up by floods, never by honest clients.
 */
#include "base/base.h"

#include <setjmp.h>

#include <cmocka.h>

#include "proxy/h2_guard.h"

static void a_flood_ends(void **state)
{
    (void)state;
    for (unsigned cost = 0; cost < H2_COST_COUNT; cost++) {
        struct h2_guard g = {0};
        unsigned n = 0;
        while (!h2_guard_take(&g, (enum h2_cost)cost, 1000) && n < 1000000)
            n++;
        assert_in_range(n, 50, 5000);
        /* It stays that way within the second, and comes back with time. */
        assert_non_null(h2_guard_take(&g, (enum h2_cost)cost, 1000));
        assert_null(h2_guard_take(&g, (enum h2_cost)cost, 1020));
    }
}

static void work_pays(void **state)
{
    struct h2_guard g = {0};
    (void)state;
    for (unsigned i = 0; i < 100000; i++) {
        assert_null(h2_guard_take(&g, H2_COST_reset, 5));
        h2_guard_earn(&g);
    }
}

static void slow_use_is_free(void **state)
{
    struct h2_guard g = {0};
    (void)state;
    for (uint64_t second = 1; second < 10000; second++)
        for (unsigned i = 0; i < 5; i++)
            assert_null(h2_guard_take(&g, H2_COST_control, second));
}

static void a_clock_that_starts_late(void **state)
{
    struct h2_guard g = {0};
    (void)state;
    assert_null(h2_guard_take(&g, H2_COST_empty, UINT64_MAX / 2));
    assert_int_equal(g.used[H2_COST_empty], 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_flood_ends),
        cmocka_unit_test(work_pays),
        cmocka_unit_test(slow_use_is_free),
        cmocka_unit_test(a_clock_that_starts_late),
    };
    return cmocka_run_group_tests_name("h2_guard", tests, NULL, NULL);
}
