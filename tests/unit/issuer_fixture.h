/*
 * issuer_fixture.h - for test_issuer*.c: one host, two CAs at hand, what the issuer tells, and its
 * world (issuer_world.h) at the test's command. Store, record and ledger are real.
 */
#ifndef HG_TEST_ISSUER_FIXTURE_H
#define HG_TEST_ISSUER_FIXTURE_H

#include "base/base.h"

#include <setjmp.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "acme/cert_store.h"
#include "base/file.h"
#include "tests/unit/certs.h"
#include "tests/unit/issuer_world.h"
#include "tests/unit/tmp_dir.h"

/* ---- what the issuer tells ---- */

static struct {
    unsigned certs, answers, shows, hides;
    char cert_host[256];
    enum issuer_step step;
    char error[512], issuer[128];
    bool ok;
    char text[1024];
    void (*shown)(void *arg, const char *err);
    void *shown_arg;
} told;

static void on_cert(void *ctx UNUSED, struct str host, struct str pem, int64_t not_after)
{
    told.certs++;
    text_copy(told.cert_host, sizeof(told.cert_host), host);
    assert_true(not_after > wall_s());
    assert_non_null(memmem(pem.p, pem.n, "PRIVATE KEY", 11));
}

static uint64_t on_show(void *ctx UNUSED, const struct challenge *c,
                        void (*done)(void *arg, const char *err), void *arg)
{
    assert_true(challenge_token_fine(c->token));
    told.shown = done;
    told.shown_arg = arg;
    return ++told.shows;
}

static void on_hide(void *ctx UNUSED, uint64_t id)
{
    assert_in_range(id, 1, told.shows);
    told.hides++;
}

static void on_state(void *ctx UNUSED, const struct issuer_state *s)
{
    told.step = s->step;
    text_copy(told.error, sizeof(told.error), str_of(s->error));
    text_copy(told.issuer, sizeof(told.issuer), str_of(s->issuer));
}

static void on_answer(void *ctx UNUSED, uint64_t ask, bool ok, json_t *answer)
{
    assert_int_equal(ask, 7);
    told.answers++;
    told.ok = ok;
    text_copy(told.text, sizeof(told.text),
              str_of(json_string_value(json_object_get(answer, "text"))));
    json_decref(answer);
}

static const struct issuer_ops ops = {
    .cert = on_cert, .show = on_show, .hide = on_hide, .state = on_state, .answer = on_answer};

/* ---- fixture ---- */

static struct arena *arena;
static const char *dir;
static struct conf conf;
static struct conf_ca conf_cas[2];
static struct conf_listen listens[2] = {{.kind = CONF_LISTEN_HTTP}, {.kind = CONF_LISTEN_HTTPS}};
static struct issuer *is;
static struct test_cert root, mid;
static const struct str host = {"a.example.org", 13};

static int set_up(void **state UNUSED)
{
    arena = arena_new(1 << 16);
    dir = tmp_dir_make(arena);
    conf = (struct conf){.refs = 1000,
                         .listens = listens,
                         .n_listens = 2,
                         .acme = {.on = true,
                                  .cas = conf_cas,
                                  .n_cas = 1,
                                  .challenges = {CONF_TLS_ALPN_01, CONF_HTTP_01},
                                  .n_challenges = 2}};
    conf_cas[0] = (struct conf_ca){.name = STR("one"), .url = STR("https://one.test/dir")};
    conf_cas[1] = (struct conf_ca){.name = STR("two"), .url = STR("https://two.test/dir")};
    n_cas = n_orders = 0;
    memset(&told, 0, sizeof(told));
    looking = false;
    loop_init();
    root = test_cert_make(arena, (struct test_cert_how){.cn = "root", .ca = true});
    mid = test_cert_make(arena, (struct test_cert_how){.cn = "mid",
                                                       .ca = true,
                                                       .by = &root,
                                                       .from = -9000000,
                                                       .to = 9000000,
                                                       .more = {"keyUsage=critical,keyCertSign",
                                                                "subjectKeyIdentifier=hash"}});
    return dir ? 0 : 1;
}

static int tear_down(void **state UNUSED)
{
    issuer_close(&is);
    test_cert_free(&root);
    test_cert_free(&mid);
    tmp_dir_remove(arena, dir);
    arena_free(&arena);
    loop_fini();
    return 0;
}

static void start(void)
{
    issuer_close(&is);
    is = issuer_new(dir, dir, &ops, NULL);
    issuer_use(is, &conf, &host, 1);
}

static struct host *the_host(void)
{
    struct host *h = host_find(is, host);
    assert_non_null(h);
    return h;
}

/* Its moment has come, if it has one. */
static void due(void)
{
    struct host *h = the_host();
    if (list_linked(&h->now.link)) {
        turn_task_cancel(&h->now);
        h->now.run(&h->now);
        return;
    }
    assert_true(deadline_is_set(&h->due));
    deadline_cancel(&h->due);
    h->due.fire(&h->due);
}

/* Whatever it waited for is over. */
static void later(void)
{
    the_host()->rec.next_at = 0;
    due();
}

static struct order *last_order(void)
{
    assert_true(n_orders > 0 && orders[n_orders - 1].open);
    return &orders[n_orders - 1];
}

static struct str leaf_of(long from, long to, struct str *key_pem)
{
    struct test_cert leaf = test_cert_make(
        arena, (struct test_cert_how){
                   .san = "DNS:a.example.org",
                   .by = &mid,
                   .from = from,
                   .to = to,
                   .more = {"keyUsage=critical,digitalSignature", "extendedKeyUsage=serverAuth",
                            "subjectKeyIdentifier=hash", "authorityKeyIdentifier=keyid"}});
    struct str chain = arena_fmt(arena, STR_FMT STR_FMT, STR_ARG(leaf.pem), STR_ARG(mid.pem));
    *key_pem = leaf.key_pem;
    test_cert_free(&leaf);
    return chain;
}

static void order_succeeds_for(struct order *o, long from, long to)
{
    struct order_result r = {.url = STR("https://ca.test/order/1")};
    struct str chain = leaf_of(from, to, &r.key_pem);
    const char *why = cert_check(arena, chain, r.key_pem, host, wall_s(), &r.cert);
    assert_string_equal(why ? why : "", "");
    o->open = false;
    o->ops->done(o->ctx, &r);
}

static void order_succeeds(struct order *o)
{
    order_succeeds_for(o, -60, 90 * 86400);
}

static void order_fails(struct order *o, enum acme_fail_kind kind, int64_t retry_at)
{
    struct acme_fail f;
    acme_fail_set(&f, kind, "newOrder", "the CA says no");
    f.retry_at = retry_at;
    o->open = false;
    o->ops->done(o->ctx, &(struct order_result){.fail = &f});
}

static bool stored(const char *ca)
{
    struct cert_unit u;
    bool found;
    assert_null(cert_store_read(arena, dir, ca, host, &u, &found));
    return found;
}

static void served_by(const char *ca)
{
    assert_int_equal(told.step, ISSUER_SERVED);
    assert_string_equal(told.issuer, ca);
    assert_string_equal(told.error, "");
    assert_true(stored(ca));
}

/* What most cases begin with. */
static void first_certificate(void **state UNUSED)
{
    start();
    assert_int_equal(told.step, ISSUER_WAITING);
    due();
    assert_int_equal(told.step, ISSUER_WORKING);
    assert_string_equal(last_order()->host, "a.example.org");
    assert_int_equal(last_order()->n_challenges, 2);
    order_succeeds(last_order());
    served_by("one");
    assert_int_equal(told.certs, 1);
    /* A third of 90 days, give or take a twentieth of them. */
    assert_in_range(host_renew_at(the_host()) - wall_s(), 54 * 86400, 66 * 86400);
}

#endif
