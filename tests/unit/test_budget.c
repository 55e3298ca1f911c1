/*
 * test_budget.c - the accounts of what is held for clients: right, ceiling, who waits, queues.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs the four above first */
#include <cmocka.h>

#include "base/budget.h"
#include "base/loop.h"
#include "base/slab.h"
#include "base/stats.h"

#define KIB ((size_t)1024)

static int64_t held(void)
{
    return stats_self->v[STAT_held_bytes];
}

static void test_right(void **state)
{
    (void)state;
    struct budget b = {0};
    assert_int_equal(budget_room(&b), BUDGET_RIGHT + BUDGET_CEILING);
    budget_hold(&b, 100 * KIB);
    budget_promise(&b, 56 * KIB);
    assert_true(budget_of_right(&b));
    assert_int_equal(budget_room(&b), 100 * KIB + BUDGET_CEILING);
    assert_int_equal(held(), 100 * KIB);
    assert_int_equal(stats_self->v[STAT_promised_bytes], 56 * KIB);
    budget_promise(&b, 200 * KIB); /* 44 KiB of it from the ceiling */
    assert_false(budget_of_right(&b));
    assert_int_equal(budget_room(&b), BUDGET_CEILING - 44 * KIB);
    struct budget other = {0};
    assert_int_equal(budget_room(&other), BUDGET_RIGHT + BUDGET_CEILING - 44 * KIB);
    assert_int_equal(budget_spare(&other), BUDGET_RIGHT + BUDGET_CEILING / 2 - 44 * KIB);
    budget_release(&b, 100 * KIB);
    assert_int_equal(budget_room(&other), BUDGET_RIGHT + BUDGET_CEILING);
    budget_fini(&b);
    assert_int_equal(stats_self->v[STAT_promised_bytes], 0);
    assert_int_equal(held(), 0);
    assert_int_equal(stats_self->v[STAT_held_bytes_peak], 100 * KIB);
}

/* What one client takes from the ceiling leaves every other one its right. */
static void test_ceiling(void **state)
{
    (void)state;
    struct budget greedy = {0}, other = {0};
    budget_hold(&greedy, BUDGET_RIGHT + BUDGET_CEILING / 2);
    assert_int_equal(budget_spare(&greedy), 0);
    assert_int_equal(budget_room(&greedy), BUDGET_CEILING / 2);
    budget_hold(&greedy, BUDGET_CEILING); /* never refused: it is there already */
    assert_int_equal(budget_room(&greedy), 0);
    assert_int_equal(budget_room(&other), BUDGET_RIGHT);
    budget_hold(&other, BUDGET_RIGHT);
    assert_int_equal(budget_room(&other), 0);
    assert_true(budget_of_right(&other));
    budget_release(&other, 1);
    assert_int_equal(budget_room(&other), 1);
    budget_release(&other, BUDGET_RIGHT - 1);
    budget_release(&greedy, greedy.held);
    budget_fini(&greedy);
    budget_fini(&other);
    assert_int_equal(held(), 0);
}

static unsigned woken[2];
static struct budget waiters[2];

static void on_room(struct budget *b)
{
    woken[b == &waiters[1]]++;
    assert_true(budget_room(b) > 0);
}

static void on_room_again(struct budget *b)
{
    woken[b == &waiters[1]]++;
    budget_wait(b, on_room_again);
}

static void on_stop(struct deadline *d)
{
    (void)d;
    loop_stop();
}

static void turn(void)
{
    static struct deadline stop;
    deadline_set(&stop, 1, on_stop);
    loop_run();
}

static void test_waiting(void **state)
{
    (void)state;
    struct budget greedy = {0};
    loop_init();
    budget_hold(&greedy, BUDGET_RIGHT + BUDGET_CEILING);
    for (unsigned i = 0; i < 2; i++) {
        budget_hold(&waiters[i], BUDGET_RIGHT);
        budget_wait(&waiters[i], on_room);
        budget_wait(&waiters[i], on_room); /* once is enough */
    }
    assert_int_equal(stats_self->v[STAT_budget_waits], 2);
    turn();
    assert_int_equal(woken[0] + woken[1], 0);
    budget_release(&waiters[0], 10); /* its own: the other one goes on waiting */
    turn();
    assert_int_equal(woken[0], 1);
    assert_int_equal(woken[1], 0);
    budget_release(&greedy, 10); /* the ceiling has room */
    turn();
    assert_int_equal(woken[0], 1);
    assert_int_equal(woken[1], 1);
    /* Who still waits after its turn is asked at the next occasion, not without end. */
    budget_wait(&waiters[0], on_room_again);
    budget_release(&greedy, 10);
    turn();
    assert_int_equal(woken[0], 2);
    budget_release(&greedy, 10);
    turn();
    assert_int_equal(woken[0], 3);
    budget_release(&greedy, greedy.held);
    for (unsigned i = 0; i < 2; i++) {
        budget_release(&waiters[i], waiters[i].held);
        budget_fini(&waiters[i]); /* waiting or not */
    }
    turn();
    assert_int_equal(woken[0], 3);
    budget_fini(&greedy);
    assert_int_equal(held(), 0);
    loop_fini();
}

/* Whatever way bytes leave a queue, none stays in the account. */
static void test_queue(void **state)
{
    (void)state;
    static const char text[40000];
    struct budget b = {0};
    struct sliceq q = {.budget = &b};
    struct slab *s = slab_new(SLAB_LARGE);
    sliceq_push(&q, (struct slice){s, s->data, 30000}); /* kept */
    sliceq_push(&q, (struct slice){s, s->data, 100});   /* copied */
    sliceq_copy(&q, text, 50);                          /* behind it */
    sliceq_copy(&q, text, sizeof(text));
    assert_int_equal(b.held, 30000 + 100 + 50 + sizeof(text));
    assert_int_equal(b.held, q.bytes);
    sliceq_consume(&q, 29999);
    sliceq_consume(&q, 2);
    assert_int_equal(b.held, q.bytes);
    sliceq_fini(&q);
    assert_int_equal(b.held, 0);
    sliceq_copy(&q, text, 7); /* it may be used again, for the same client */
    assert_int_equal(b.held, 7);
    sliceq_consume(&q, 7);
    sliceq_fini(&q);
    budget_fini(&b);
    budget_hold(NULL, 5); /* nobody's */
    budget_release(NULL, 5);
    assert_int_equal(held(), 0);
    slab_unref(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_right),
        cmocka_unit_test(test_ceiling),
        cmocka_unit_test(test_waiting),
        cmocka_unit_test(test_queue),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
