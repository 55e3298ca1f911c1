/* base/tally: connections by address over several processes, and what the death of one leaves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs the four above first */
#include <cmocka.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/tally.h"

static struct net_ip ip(const char *text)
{
    struct net_ip out;
    assert_true(net_ip_parse(str_of(text), &out));
    return out;
}

static struct net_ip nth(unsigned i)
{
    struct net_ip who = {.family = NET_IP4, .b = {10}};
    memcpy(who.b + 1, (uint8_t[]){(uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i}, 3);
    return who;
}

static int fresh(unsigned process)
{
    int fd = tally_create();
    assert_null(tally_attach(fd, process));
    return fd;
}

static void test_limit(void **state)
{
    uint64_t *held[4], *more;
    (void)state;
    close(fresh(0));
    for (unsigned i = 0; i < 3; i++)
        assert_true(tally_take(ip("192.0.2.1"), 3, &held[i]));
    assert_false(tally_take(ip("192.0.2.1"), 3, &more));
    assert_null(more);
    assert_false(tally_take(ip("::ffff:192.0.2.1"), 3, &more));
    assert_true(tally_take(ip("192.0.2.2"), 3, &held[3]));
    /* One goes, one comes; twice gone is gone once. */
    tally_drop(&held[0]);
    tally_drop(&held[0]);
    assert_true(tally_take(ip("192.0.2.1"), 3, &held[0]));
    assert_false(tally_take(ip("192.0.2.1"), 3, &more));
    /* Another limit, as after a reload, holds for what was counted before it. */
    assert_false(tally_take(ip("192.0.2.1"), 2, &more));
    assert_true(tally_take(ip("192.0.2.1"), 4, &more));
    tally_drop(&more);
    assert_true(tally_take(ip("192.0.2.1"), 0, &more));
    assert_non_null(more);
}

static void test_ipv6_by_64(void **state)
{
    uint64_t *held;
    (void)state;
    close(fresh(0));
    assert_true(tally_take(ip("2001:db8::1"), 2, &held));
    assert_true(tally_take(ip("2001:db8::2"), 2, &held));
    assert_false(tally_take(ip("2001:db8::3"), 2, &held));
    assert_true(tally_take(ip("2001:db8:0:1::3"), 2, &held));
}

/* All that a worker can have are counted, come and gone, and nothing is left. */
static void test_many_addresses(void **state)
{
    enum { N = 20000 };
    static uint64_t *held[N];
    unsigned counted = 0;
    uint64_t *more;
    (void)state;
    close(fresh(0));
    for (unsigned i = 0; i < N; i++) {
        assert_true(tally_take(nth(i), 1, &held[i]));
        counted += held[i] != NULL;
    }
    assert_int_equal(counted, N);
    for (unsigned i = 0; i < N; i++)
        assert_false(tally_take(nth(i), 1, &more));
    for (unsigned i = 0; i < N; i++)
        tally_drop(&held[i]);
    for (unsigned i = 0; i < N; i++)
        assert_true(tally_take(nth(i), 1, &held[i]));
}

/* More than there is room for: they come in, uncounted. */
static void test_full(void **state)
{
    unsigned uncounted = 0;
    uint64_t *held;
    (void)state;
    close(fresh(0));
    for (unsigned i = 0; i < 100000; i++) {
        assert_true(tally_take(nth(i), 1, &held));
        uncounted += held == NULL;
    }
    assert_true(uncounted > 0);
}

/* ---- several processes ---- */

struct pipes {
    int to[2], from[2];
};

/* A worker: takes `n` of the address, says so, and waits for its end. */
static pid_t worker(int fd, unsigned process, unsigned n, struct pipes *p)
{
    assert_int_equal(pipe(p->to), 0);
    assert_int_equal(pipe(p->from), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid)
        return pid;
    char c = 'n';
    uint64_t *held;
    ASSERT(tally_attach(fd, process) == NULL);
    for (unsigned i = 0; i < n; i++)
        if (!tally_take(ip("192.0.2.1"), 5, &held))
            c = 'y';
    ASSERT(write(p->from[1], &c, 1) == 1);
    close(p->to[1]);
    (void)!read(p->to[0], &c, 1);
    _exit(0);
}

static void test_death_leaves_nothing(void **state)
{
    struct pipes a, b;
    uint64_t *held[5], *more;
    char refused;
    (void)state;
    int fd = tally_create(), status;
    assert_null(tally_watch(fd));
    pid_t first = worker(fd, 1, 3, &a);
    assert_int_equal(read(a.from[0], &refused, 1), 1);
    assert_int_equal(refused, 'n');
    pid_t second = worker(fd, 2, 3, &b); /* two of them fit */
    assert_int_equal(read(b.from[0], &refused, 1), 1);
    assert_int_equal(refused, 'y');
    assert_null(tally_attach(fd, 3));
    assert_false(tally_take(ip("192.0.2.1"), 5, &more));

    assert_int_equal(kill(first, SIGKILL), 0);
    assert_int_equal(waitpid(first, &status, 0), first);
    assert_false(tally_take(ip("192.0.2.1"), 5, &more)); /* until the master knows */
    tally_process_died(1);
    for (unsigned i = 0; i < 3; i++)
        assert_true(tally_take(ip("192.0.2.1"), 5, &held[i]));
    assert_false(tally_take(ip("192.0.2.1"), 5, &more));

    assert_int_equal(kill(second, SIGKILL), 0);
    assert_int_equal(waitpid(second, &status, 0), second);
    tally_process_died(2);
    tally_process_died(2);
    /* Its successor has the same number and starts from nothing. */
    assert_null(tally_attach(fd, 2));
    assert_true(tally_take(ip("192.0.2.1"), 5, &held[3]));
    assert_true(tally_take(ip("192.0.2.1"), 5, &held[4]));
    assert_false(tally_take(ip("192.0.2.1"), 5, &more));
    close(fd);
}

/* Several take and drop the same address: never more than the limit at a moment. */
static void test_processes_hammer(void **state)
{
    enum { CHILDREN = 3, LIMIT = 2, ROUNDS = 20000 };
    unsigned *now = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t pids[CHILDREN];
    uint64_t *held;
    (void)state;
    assert_true(now != MAP_FAILED);
    int fd = tally_create();
    for (unsigned c = 0; c < CHILDREN; c++) {
        pids[c] = fork();
        assert_true(pids[c] >= 0);
        if (pids[c])
            continue;
        unsigned got = 0;
        ASSERT(tally_attach(fd, c) == NULL);
        for (unsigned i = 0; i < ROUNDS || !got; i++) {
            if (!tally_take(ip("192.0.2.1"), LIMIT, &held))
                continue;
            got++;
            ASSERT(__atomic_add_fetch(now, 1, __ATOMIC_SEQ_CST) <= LIMIT);
            __atomic_sub_fetch(now, 1, __ATOMIC_SEQ_CST);
            tally_drop(&held);
        }
        _exit(0);
    }
    for (unsigned c = 0; c < CHILDREN; c++) {
        int status;
        assert_int_equal(waitpid(pids[c], &status, 0), pids[c]);
        assert_int_equal(status, 0);
    }
    /* All of them dropped all: there is room for the limit again. */
    assert_null(tally_attach(fd, CHILDREN));
    for (unsigned i = 0; i < LIMIT; i++)
        assert_true(tally_take(ip("192.0.2.1"), LIMIT, &held));
    assert_false(tally_take(ip("192.0.2.1"), LIMIT, &held));
    close(fd);
}

static void test_attach_errors(void **state)
{
    (void)state;
    int fd = tally_create(), other = memfd_create("other", MFD_CLOEXEC);
    assert_non_null(tally_attach(fd, TALLY_PROCESSES));
    assert_non_null(tally_attach(other, 0));
    close(fd);
    close(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_ipv6_by_64),
        cmocka_unit_test(test_many_addresses),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_death_leaves_nothing),
        cmocka_unit_test(test_processes_hammer),
        cmocka_unit_test(test_attach_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
