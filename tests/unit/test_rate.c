/* base/rate, base/siphash: what is let through when, by one process and by several at once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs the four above first */
#include <cmocka.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/rate.h"
#include "base/siphash.h"

#define MS    1000ULL
#define S     (1000 * MS)
#define WRAPS (1ULL << 44) /* µs: where the cells' clock begins anew */

static void test_siphash_vectors(void **state)
{
    /* of the paper's reference, key 00 01 … 0f, input 00 01 …: by length */
    static const struct {
        size_t n;
        uint64_t hash;
    } rows[] = {
        {0, 0x726fdb47dd0e0e31u},  {1, 0x74f839c593dc67fdu},  {7, 0xab0200f58b01d137u},
        {8, 0x93f5f5799a932462u},  {15, 0xa129ca6149be45e5u}, {16, 0x3f2acc7f57c29bdbu},
        {63, 0x958a324ceb064572u},
    };
    const uint64_t key[2] = {0x0706050403020100u, 0x0f0e0d0c0b0a0908u};
    uint8_t in[64];
    (void)state;
    for (unsigned i = 0; i < sizeof(in); i++)
        in[i] = (uint8_t)i;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        assert_int_equal(siphash(key, in, rows[i].n), rows[i].hash);
}

static struct net_ip ip(const char *text)
{
    struct net_ip out;
    assert_true(net_ip_parse(str_of(text), &out));
    return out;
}

/* How many are let through at one moment. */
static unsigned take_all(uint64_t key, struct rate r, uint64_t now)
{
    unsigned n = 0;
    while (!rate_take(key, r, now))
        n++;
    return n;
}

static void test_take(void **state)
{
    static const struct {
        const char *name;
        struct rate rate;
        uint64_t begin; /* µs */
        uint64_t pause; /* from when the burst was used up */
        unsigned later; /* so many more are let through then */
        uint64_t wait;  /* and then the next one has to wait so long, µs */
    } rows[] = {
        {"at_once", {20 * MS, 100}, S, 0, 0, 20 * MS},
        {"just_before_the_next", {20 * MS, 100}, S, 20 * MS - 1, 0, 1},
        {"the_next", {20 * MS, 100}, S, 20 * MS, 1, 20 * MS},
        {"half_of_it_back", {20 * MS, 100}, S, S, 50, 20 * MS},
        {"all_back", {20 * MS, 100}, S, 2 * S, 100, 20 * MS},
        {"no_more_than_the_burst", {20 * MS, 100}, S, 3600 * S, 100, 20 * MS},
        {"one_at_a_time", {S, 1}, S, 999 * MS, 0, MS},
        {"one_a_second", {S, 1}, S, S, 1, S},
        {"an_hour_each", {3600 * S, 2}, S, 1800 * S, 0, 1800 * S},
        {"as_fast_as_it_goes", {1, 5}, S, 3, 3, 1},
        {"at_the_very_beginning", {20 * MS, 3}, 0, 20 * MS, 1, 20 * MS},
        {"over_the_wrap", {20 * MS, 100}, WRAPS - 10 * MS, 20 * MS, 1, 20 * MS},
        {"after_203_days", {20 * MS, 100}, S, WRAPS + 2 * S, 100, 20 * MS},
        /* the one moment at which the clock's wrap can be seen: as if it were a second later */
        {"after_203_days_to_the_second", {20 * MS, 100}, S, WRAPS + S, 50, 20 * MS},
        {"farthest_ahead", {RATE_AHEAD_MAX / 1000, 1000}, S, 0, 0, RATE_AHEAD_MAX / 1000},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        uint64_t key = rate_key(str_of(rows[i].name), ip("192.0.2.1"));
        uint64_t now = rows[i].begin + rows[i].pause;
        print_message("  %s\n", rows[i].name);
        assert_int_equal(take_all(key, rows[i].rate, rows[i].begin), rows[i].rate.burst);
        assert_int_equal(take_all(key, rows[i].rate, now), rows[i].later);
        assert_int_equal(rate_take(key, rows[i].rate, now), rows[i].wait);
    }
}

static void test_no_limit(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 1000; i++)
        assert_int_equal(rate_take(rate_key(STR("none"), ip("192.0.2.1")), (struct rate){0}, S), 0);
}

static void test_whose_it_is(void **state)
{
    static const struct {
        const char *name, *what_a, *a, *what_b, *b;
        bool same;
    } rows[] = {
        {"the_same", "x", "192.0.2.1", "x", "192.0.2.1", true},
        {"mapped", "x", "192.0.2.1", "x", "::ffff:192.0.2.1", true},
        {"another_address", "x", "192.0.2.1", "x", "192.0.2.2", false},
        {"another_limit", "x", "192.0.2.1", "y", "192.0.2.1", false},
        {"one_64", "x", "2001:db8::1", "x", "2001:db8::9:9", true},
        {"another_64", "x", "2001:db8::1", "x", "2001:db8:0:1::1", false},
        {"ipv4_is_not_ipv6", "x", "192.0.2.1", "x", "c000:201::", false},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        print_message("  %s\n", rows[i].name);
        assert_int_equal(rate_key(str_of(rows[i].what_a), ip(rows[i].a)) ==
                             rate_key(str_of(rows[i].what_b), ip(rows[i].b)),
                         rows[i].same);
    }
}

/* A smaller limit in the place of a larger one, as after a reload: no one is locked out for long.
 */
static void test_limit_shrinks(void **state)
{
    uint64_t key = rate_key(STR("shrinks"), ip("192.0.2.1"));
    const struct rate large = {S, 1000}, small = {S, 10};
    (void)state;
    assert_int_equal(take_all(key, large, S), 1000);
    assert_true(take_all(key, small, S) <= 10);
    assert_int_equal(rate_take(key, small, S), S);
    assert_int_equal(rate_take(key, small, 2 * S), 0);
}

/* More strangers than there are cells: none of them is refused for another's sake. */
static void test_flood_refuses_nobody(void **state)
{
    const struct rate r = {3600 * S, 2};
    struct net_ip who = ip("10.0.0.0");
    unsigned refused = 0, n = 400000;
    (void)state;
    for (unsigned i = 0; i < n; i++) {
        memcpy(who.b + 1, (uint8_t[]){(uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i}, 3);
        refused += rate_take(rate_key(STR("flood"), who), r, S) != 0;
    }
    /* two that share a cell: one in 100,000 */
    assert_in_range(refused, 0, 30);
}

/* Who has used up most keeps its cell longest. */
static void test_flood_frees_nobody_who_is_limited(void **state)
{
    const struct rate r = {3600 * S, 100};
    uint64_t key = rate_key(STR("flooder"), ip("192.0.2.66"));
    struct net_ip who = ip("10.0.0.0");
    (void)state;
    assert_int_equal(take_all(key, r, S), 100);
    for (unsigned i = 0; i < 400000; i++) {
        memcpy(who.b + 1, (uint8_t[]){(uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i}, 3);
        (void)!rate_take(rate_key(STR("flood2"), who), r, S);
    }
    assert_int_not_equal(rate_take(key, r, S), 0);
}

/* ---- several processes ---- */

static unsigned *shared_counts(unsigned n)
{
    unsigned *at =
        mmap(NULL, n * sizeof(*at), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(at != MAP_FAILED);
    return at;
}

/* Each of them asks for the same key at one moment, all at once: `rounds` keys one after another.
 */
static void test_two_processes_hammer(void **state)
{
    enum { CHILDREN = 4, ROUNDS = 200 };
    const struct rate r = {20 * MS, 500};
    (void)state;
    int fd = rate_create();
    unsigned *let = shared_counts(ROUNDS), *begun = shared_counts(1);
    pid_t pids[CHILDREN];
    for (unsigned c = 0; c < CHILDREN; c++) {
        pids[c] = fork();
        assert_true(pids[c] >= 0);
        if (pids[c])
            continue;
        ASSERT(rate_attach(fd) == NULL); /* each maps it for itself, as workers do */
        __atomic_add_fetch(begun, 1, __ATOMIC_SEQ_CST);
        while (__atomic_load_n(begun, __ATOMIC_SEQ_CST) < CHILDREN)
            ;
        for (unsigned k = 0; k < ROUNDS; k++) {
            uint64_t key = rate_key((struct str){(const char *)&k, sizeof(k)}, ip("192.0.2.1"));
            __atomic_add_fetch(&let[k], take_all(key, r, S), __ATOMIC_SEQ_CST);
        }
        _exit(0);
    }
    for (unsigned c = 0; c < CHILDREN; c++) {
        int status;
        assert_int_equal(waitpid(pids[c], &status, 0), pids[c]);
        assert_int_equal(status, 0);
    }
    for (unsigned k = 0; k < ROUNDS; k++)
        /* none is lost and none let through twice; two that make a cell at one moment may make two
         */
        assert_in_range(let[k], 500, 501);
    close(fd);
}

static void test_one_process_sees_what_another_took(void **state)
{
    const struct rate r = {3600 * S, 3};
    (void)state;
    int fd = rate_create(), status;
    assert_null(rate_attach(fd));
    uint64_t key = rate_key(STR("seen"), ip("2001:db8::1"));
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (!pid) {
        ASSERT(rate_attach(fd) == NULL);
        ASSERT(rate_key(STR("seen"), ip("2001:db8::2")) == key);
        _exit((int)take_all(key, r, S));
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(WEXITSTATUS(status), 3);
    assert_int_not_equal(rate_take(key, r, S), 0);
    close(fd);
}

static void test_foreign_segment(void **state)
{
    (void)state;
    int fd = memfd_create("other", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_non_null(rate_attach(fd));
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_siphash_vectors),
        cmocka_unit_test(test_take),
        cmocka_unit_test(test_no_limit),
        cmocka_unit_test(test_whose_it_is),
        cmocka_unit_test(test_limit_shrinks),
        cmocka_unit_test(test_flood_refuses_nobody),
        cmocka_unit_test(test_flood_frees_nobody_who_is_limited),
        cmocka_unit_test(test_two_processes_hammer),
        cmocka_unit_test(test_one_process_sees_what_another_took),
        cmocka_unit_test(test_foreign_segment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
