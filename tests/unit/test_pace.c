/*
 * test_pace.c - how far somebody is behind a rate: exact, in their own time only.
 */
#include "base/base.h"

#include <setjmp.h>

#include <cmocka.h>

#include "base/pace.h"

#define START    1000000
#define PATIENCE 3000

/* Moves `lump` bytes every `every` ms, for `total` ms of its turn; ms until it was too slow, or 0.
 */
static uint64_t run(uint64_t rate, uint64_t lump, uint64_t every, uint64_t total)
{
    struct pace p = {0};
    pace_turn(&p, true, START);
    for (uint64_t ms = 1; ms <= total; ms++) {
        if (ms % every == 0)
            pace_moved(&p, lump);
        if (ms % 100 == 0 && !pace_left(&p, rate, PATIENCE, START + ms))
            return ms;
    }
    return 0;
}

static void rates(void **state)
{
    static const struct {
        const char *name;
        uint64_t rate, lump, every, total, cut_min, cut_max; /* cut 0: never */
    } rows[] = {
        {"exactly at the rate, evenly", 500, 5, 10, 10 * 60 * 1000, 0, 0},
        {"exactly at the rate, in lumps as rare as patience allows", 500, 1500, 3000, 600000, 0, 0},
        {"a rate that does not divide evenly", 7, 7, 1000, 10 * 60 * 1000, 0, 0},
        {"faster", 500, 600, 1000, 600000, 0, 0},
        {"nothing at all", 500, 0, 1000, 600000, 3001, 3100},
        {"a trickle", 500, 1, 1000, 600000, 3001, 3200},
        {"half the rate: behind by half of the time", 500, 250, 1000, 600000, 5500, 7100},
        {"a little too slow, in the end", 1000, 99, 100, 600000, 290000, 310100},
        {"one byte a second", 1, 1, 1000, 600000, 0, 0},
        {"a rate above all clocks", UINT64_MAX, UINT32_MAX, 1, 60000, 3000, 3100},
        {"no rate", 0, 0, 1, 600000, 0, 0},
        {"more than can be counted in time", 1, UINT64_MAX / 1000000, 1000, 60000, 0, 0},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        uint64_t cut = run(rows[i].rate, rows[i].lump, rows[i].every, rows[i].total);
        if (cut < rows[i].cut_min || cut > rows[i].cut_max)
            fail_msg("%s: cut at %llu", rows[i].name, (unsigned long long)cut);
    }
}

/* What others hold up is not its fault, however long; what it owed before stays. */
static void only_its_turns_count(void **state)
{
    struct pace p = {0};
    uint64_t now = START;
    (void)state;
    assert_true(pace_left(&p, 500, PATIENCE, now) == UINT64_MAX);
    for (unsigned i = 0; i < 29; i++) {
        pace_turn(&p, true, now);
        now += 100;
        assert_true(pace_left(&p, 500, PATIENCE, now) <= PATIENCE);
        pace_turn(&p, false, now);
        now += 3600 * 1000;
        assert_true(pace_left(&p, 500, PATIENCE, now) == UINT64_MAX);
    }
    pace_turn(&p, true, now);
    assert_in_range(pace_left(&p, 500, PATIENCE, now), 100, 101);
    assert_int_equal(pace_left(&p, 500, PATIENCE, now + 101), 0);
}

/* The last byte that makes somebody late comes in a turn that is over by the time of the look. */
static void late_between_turns(void **state)
{
    struct pace p = {0};
    (void)state;
    for (uint64_t ms = 0; ms < 2 * PATIENCE; ms += 50) {
        pace_turn(&p, true, START + ms);
        pace_moved(&p, 1);
        pace_turn(&p, false, START + ms + 49);
        assert_true(pace_had_turn(&p));
        if (!pace_left(&p, 500, PATIENCE, START + ms + 49))
            return;
        assert_false(pace_had_turn(&p));
    }
    fail_msg("never too late");
}

/* Between two looks turns come and go; only their sum counts. */
static void turns_between_looks(void **state)
{
    struct pace p = {0};
    (void)state;
    for (uint64_t ms = 0; ms < 1000; ms += 10) {
        pace_turn(&p, true, START + ms);
        pace_turn(&p, true, START + ms + 1);
        pace_turn(&p, false, START + ms + 2);
    }
    pace_turn(&p, true, START + 1000);
    assert_in_range(pace_left(&p, 500, PATIENCE, START + 1000), PATIENCE - 200, PATIENCE - 199);
}

/* A fast hour earns no slow one. */
static void nothing_is_saved_up(void **state)
{
    struct pace p = {0};
    (void)state;
    pace_turn(&p, true, START);
    pace_moved(&p, UINT64_C(1) << 40);
    assert_in_range(pace_left(&p, 500, PATIENCE, START + 1000), PATIENCE, PATIENCE + 1);
    assert_int_equal(pace_left(&p, 500, PATIENCE, START + 1000 + PATIENCE + 1), 0);
    pace_forgive(&p, START + 5000);
    assert_in_range(pace_left(&p, 500, PATIENCE, START + 5000), PATIENCE, PATIENCE + 1);
}

static void patience_of_its_own(void **state)
{
    struct pace p = {0};
    (void)state;
    pace_turn(&p, true, START);
    assert_in_range(pace_left(&p, 500, 0, START), PACE_PATIENCE_MS, PACE_PATIENCE_MS + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rates),
        cmocka_unit_test(only_its_turns_count),
        cmocka_unit_test(late_between_turns),
        cmocka_unit_test(turns_between_looks),
        cmocka_unit_test(nothing_is_saved_up),
        cmocka_unit_test(patience_of_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
