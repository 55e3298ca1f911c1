/*
 * test_resolve.c - names looked up beside the loop: found and not, many at once, cancelled at every
 * stage. Only names that need no name server.
 */
#include "base/base.h"

#include <setjmp.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <netinet/in.h>
#include <stdio.h>
#include <unistd.h>

#include "base/loop.h"
#include "base/net.h"
#include "base/resolve.h"

static struct {
    unsigned awaited, done; /* the loop ends when as many are done */
    int rc;
    bool words;
    char found[256]; /* the last result's addresses */
    struct resolve *pair[2];
} t;

static void on_done(void *ctx, const struct resolve_result *r)
{
    struct out o = out_on(t.found, sizeof(t.found) - 1);
    (void)ctx;
    t.rc = r->rc;
    t.words = r->err != NULL;
    for (const struct addrinfo *a = r->found; a; a = a->ai_next) {
        char buf[NET_TEXT_MAX];
        out_str(&o, net_ip_text(net_ip_of(a->ai_addr), buf));
        out_char(&o, ' ');
        assert_int_equal(a->ai_socktype, SOCK_STREAM);
    }
    t.found[o.n] = '\0';
    resolve_cancel(&t.pair[0]);
    resolve_cancel(&t.pair[1]);
    if (++t.done == t.awaited)
        loop_stop();
}

static int set_up(void **state)
{
    (void)state;
    memset(&t, 0, sizeof(t));
    loop_init();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    resolve_fini();
    loop_fini();
    return 0;
}

static void look(const char *name, enum resolve_kind kind)
{
    t.awaited = t.done + 1;
    assert_non_null(resolve_start(name, kind, on_done, NULL));
    assert_int_equal(t.done, t.awaited - 1);
    loop_run();
    assert_int_equal(t.words, t.rc != 0);
}

static void names(void **state)
{
    (void)state;
    look("localhost", RESOLVE_A);
    assert_int_equal(t.rc, 0);
    assert_string_equal(t.found, "127.0.0.1 ");
    look("localhost", RESOLVE_USABLE);
    assert_int_equal(t.rc, 0);
    assert_non_null(strstr(t.found, "1 "));
    /* Whatever this machine has: an address is one of its family alone. */
    look("192.0.2.1", RESOLVE_A);
    assert_string_equal(t.found, "192.0.2.1 ");
    look("192.0.2.1", RESOLVE_AAAA);
    assert_int_not_equal(t.rc, 0);
    look("2001:db8::1", RESOLVE_AAAA);
    assert_string_equal(t.found, "2001:db8::1 ");
    look("2001:db8::1", RESOLVE_A);
    assert_int_not_equal(t.rc, 0);
    /* No name server is asked for what cannot be a name. */
    look("two words", RESOLVE_USABLE);
    assert_int_not_equal(t.rc, 0);
    assert_string_equal(t.found, "");
}

/* More than there are threads for, of both kinds: each is done once. */
static void many(void **state)
{
    (void)state;
    t.awaited = 300;
    for (unsigned i = 0; i < t.awaited; i++)
        assert_non_null(
            resolve_start("127.0.0.1", i % 3 ? RESOLVE_A : RESOLVE_USABLE, on_done, NULL));
    loop_run();
    assert_int_equal(t.done, 300);
    assert_string_equal(t.found, "127.0.0.1 ");
}

/* At work, done but not yet told, waiting: none of them is told. */
static void cancelled(void **state)
{
    struct resolve *r[100];
    (void)state;
    t.awaited = 1;
    for (unsigned i = 0; i < ARRAY_LEN(r); i++)
        r[i] = resolve_start("127.0.0.1", RESOLVE_A, on_done, NULL);
    for (unsigned i = 0; i < ARRAY_LEN(r); i++) {
        resolve_cancel(&r[i]);
        assert_null(r[i]);
        resolve_cancel(&r[i]);
    }
    assert_non_null(resolve_start("127.0.0.2", RESOLVE_A, on_done, NULL));
    loop_run();
    assert_int_equal(t.done, 1);
    assert_string_equal(t.found, "127.0.0.2 ");
}

/* The first that is done cancels the other, and itself. */
static void cancelled_by_another(void **state)
{
    (void)state;
    t.awaited = 1;
    for (unsigned i = 0; i < 2; i++)
        t.pair[i] = resolve_start("127.0.0.1", RESOLVE_USABLE, on_done, NULL);
    loop_run();
    assert_int_equal(t.done, 1);
    look("127.0.0.3", RESOLVE_A);
    assert_int_equal(t.done, 2);
    assert_string_equal(t.found, "127.0.0.3 ");
}

/* A process that ends while a thread is at work, and a loop that begins anew. */
static void ended_at_work(void **state)
{
    struct resolve *r[40];
    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(r); i++)
        r[i] = resolve_start("127.0.0.1", RESOLVE_A, on_done, NULL);
    for (unsigned i = 0; i < ARRAY_LEN(r); i++)
        resolve_cancel(&r[i]);
    resolve_fini();
    loop_fini();
    loop_init();
    look("localhost", RESOLVE_A);
    assert_string_equal(t.found, "127.0.0.1 ");
    assert_int_equal(t.done, 1);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(names), T(many), T(cancelled), T(cancelled_by_another), T(ended_at_work),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
