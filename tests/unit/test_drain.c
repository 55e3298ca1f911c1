/*
 * test_drain.c - moments that are dealt out: within the time, each its own, none later than it was.
 */
#include "base/base.h"

#include <setjmp.h>

#include <cmocka.h>

#include "proxy/drain.h"

#define MANY 400

static struct drain_group group;
static struct drain drains[MANY];
static unsigned ends;

static void on_end(struct drain *d)
{
    ends++;
    drain_leave(d);
}

static int setup(void **state)
{
    (void)state;
    loop_init();
    group = (struct drain_group){0};
    list_init(&group.members);
    memset(drains, 0, sizeof(drains));
    ends = 0;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (unsigned i = 0; i < MANY; i++)
        drain_leave(&drains[i]);
    loop_fini();
    return 0;
}

static void enter_all(void)
{
    for (unsigned i = 0; i < MANY; i++)
        drain_enter(&group, &drains[i], on_end);
}

static void nobody_is_asked_before(void **state)
{
    (void)state;
    enter_all();
    for (unsigned i = 0; i < MANY; i++) {
        assert_false(deadline_is_set(&drains[i].moment));
        assert_false(drain_asked(&drains[i]));
    }
}

/* Each tenth of the time gets its share: 40 of 400, and 5 of them are not missed in this life. */
static void moments_are_spread(void **state)
{
    unsigned tenths[10] = {0};
    (void)state;
    enter_all();
    drain_ask(&group, 10000);
    for (unsigned i = 0; i < MANY; i++) {
        assert_in_range(drains[i].moment.at, loop_now_ms() + 1, loop_now_ms() + 10000);
        tenths[(drains[i].moment.at - loop_now_ms() - 1) / 1000]++;
    }
    for (unsigned i = 0; i < 10; i++)
        assert_in_range(tenths[i], 5, 100);
}

static void who_comes_later_is_asked_too(void **state)
{
    (void)state;
    drain_ask(&group, 10000);
    enter_all();
    for (unsigned i = 0; i < MANY; i++) {
        assert_true(drain_asked(&drains[i]));
        assert_in_range(drains[i].moment.at, loop_now_ms() + 1, loop_now_ms() + 10000);
    }
}

/* Less time makes the late ones earlier, and leaves the early ones alone; more time changes
 * nothing. */
static void asked_again(void **state)
{
    uint64_t first[MANY];
    (void)state;
    enter_all();
    drain_ask(&group, 10000);
    drain_ask(&group, 60000);
    for (unsigned i = 0; i < MANY; i++) {
        first[i] = drains[i].moment.at;
        assert_in_range(first[i], loop_now_ms() + 1, loop_now_ms() + 10000);
    }
    drain_ask(&group, 3000);
    for (unsigned i = 0; i < MANY; i++) {
        assert_in_range(drains[i].moment.at, loop_now_ms() + 1, loop_now_ms() + 3000);
        if (first[i] <= loop_now_ms() + 3000)
            assert_int_equal(drains[i].moment.at, first[i]);
    }
}

static void on_stop(struct deadline *d)
{
    (void)d;
    loop_stop();
}

/* All end once; those that have left do not. */
static void ends_come(void **state)
{
    struct deadline stop = {0};
    (void)state;
    enter_all();
    for (unsigned i = 0; i < MANY / 2; i++)
        drain_leave(&drains[i * 2]);
    drain_ask(&group, 0);
    assert_int_equal(ends, 0);
    deadline_set(&stop, 300, on_stop);
    loop_run();
    assert_int_equal(ends, MANY / 2);
    assert_true(list_empty(&group.members));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nobody_is_asked_before, setup, teardown),
        cmocka_unit_test_setup_teardown(moments_are_spread, setup, teardown),
        cmocka_unit_test_setup_teardown(who_comes_later_is_asked_too, setup, teardown),
        cmocka_unit_test_setup_teardown(asked_again, setup, teardown),
        cmocka_unit_test_setup_teardown(ends_come, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
