/*
 * test_eject.c - when an instance is ejected, for how long, and when it is back.
 */
#include "base/base.h" /* first: it says which C library we want */

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include "proxy/eject.h"

static uint64_t eject_all(struct eject *e, uint64_t now)
{
    while (eject_failed(e, now) != EJECT_OUT)
        ;
    return e->until - now;
}

static void test_third_in_a_row(void **state)
{
    struct eject e = {0};
    (void)state;
    assert_int_equal(eject_failed(&e, 1000), EJECT_FAILED);
    assert_int_equal(eject_failed(&e, 1001), EJECT_SAME); /* told within the second */
    assert_false(eject_is_out(&e, 1001));
    assert_int_equal(eject_failed(&e, 1002), EJECT_OUT);
    assert_true(eject_is_out(&e, 1002));
    assert_false(eject_is_out(&e, 1002 + EJECT_FIRST_MS + EJECT_FIRST_MS / 4));
}

static void test_success_between(void **state)
{
    struct eject e = {0};
    (void)state;
    for (int i = 0; i < 10; i++) {
        assert_int_not_equal(eject_failed(&e, 1000), EJECT_OUT);
        assert_int_not_equal(eject_failed(&e, 1000), EJECT_OUT);
        assert_int_equal(eject_served(&e), EJECT_SAME);
    }
}

static void test_one_failure_on_trial(void **state)
{
    struct eject e = {0};
    (void)state;
    uint64_t now = 1000 + eject_all(&e, 1000);
    assert_false(eject_is_out(&e, now));
    assert_int_equal(eject_failed(&e, now), EJECT_OUT);
    now = e.until;
    assert_int_equal(eject_served(&e), EJECT_BACK);
    assert_int_equal(eject_served(&e), EJECT_SAME);
    assert_int_equal(eject_failed(&e, now), EJECT_FAILED); /* all is forgiven */
}

static void test_requests_under_way(void **state)
{
    struct eject e = {0};
    (void)state;
    eject_all(&e, 1000);
    uint64_t until = e.until;
    for (int i = 0; i < 100; i++)
        assert_int_equal(eject_failed(&e, 1001), EJECT_SAME);
    assert_int_equal(e.until, until);
}

static void test_pauses_grow_and_end(void **state)
{
    struct eject e = {0};
    uint64_t now = 1000, least = EJECT_FIRST_MS;
    (void)state;
    for (int i = 0; i < 100; i++) {
        uint64_t pause = eject_all(&e, now);
        assert_in_range(pause, least, least + least / 4);
        now = e.until;
        least = MIN(least * 2, (uint64_t)EJECT_MAX_MS);
    }
    eject_served(&e);
    assert_in_range(eject_all(&e, now), EJECT_FIRST_MS, EJECT_FIRST_MS + EJECT_FIRST_MS / 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_third_in_a_row),       cmocka_unit_test(test_success_between),
        cmocka_unit_test(test_one_failure_on_trial), cmocka_unit_test(test_requests_under_way),
        cmocka_unit_test(test_pauses_grow_and_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
