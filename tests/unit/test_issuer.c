/*
 * test_issuer.c - the schedule of ACME certificates: what is ordered from whom and when, what is
 * kept over restarts, what is served. CAs, orders and the look at DNS are played here; store,
 * record and ledger are real.
 */
#include "base/base.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "acme/cert_store.h"
#include "base/file.h"
#include "tests/unit/certs.h"
#include "tests/unit/issuer_world.h"

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
    char *path = (char *)(uintptr_t)arena_fmt(arena, "%s/headgate-issuer.XXXXXX",
                                              getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp")
                     .p;
    dir = mkdtemp(path);
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

static void remove_tree(const char *path)
{
    DIR *d = opendir(path);
    if (d) {
        for (struct dirent *e; (e = readdir(d));)
            if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
                remove_tree(arena_fmt(arena, "%s/%s", path, e->d_name).p);
        closedir(d);
    }
    assert_int_equal(remove(path), 0);
}

static int tear_down(void **state UNUSED)
{
    issuer_close(&is);
    test_cert_free(&root);
    test_cert_free(&mid);
    remove_tree(dir);
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

/* ---- cases ---- */

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

static void served_from_disk_before_anything_else(void **state UNUSED)
{
    first_certificate(NULL);
    start();
    assert_int_equal(told.certs, 2);
    assert_int_equal(told.step, ISSUER_SERVED);
    assert_int_equal(n_orders, 1);
    issuer_use(is, &conf, &host, 1); /* a reload: it is sent again */
    assert_int_equal(told.certs, 3);
}

static void damaged_unit_is_not_served(void **state UNUSED)
{
    first_certificate(NULL);
    const char *key = arena_fmt(arena, "%s/certs/one/a.example.org/key.pem", dir).p;
    struct str other;
    (void)leaf_of(-60, 86400, &other);
    assert_null(file_write(arena, key, other, 0600));
    start();
    assert_int_equal(told.certs, 1);
    due();
    order_succeeds(last_order());
    served_by("one");
}

static void failure_is_remembered(void **state UNUSED)
{
    start();
    due();
    order_fails(last_order(), ACME_REFUSED, 0);
    assert_int_equal(told.step, ISSUER_WAITING);
    assert_string_equal(told.error, "the CA says no");
    assert_in_range(the_host()->rec.next_at - wall_s(), 44, 76);
    start(); /* the agent was restarted */
    assert_int_equal(the_host()->rec.failures, 1);
    due();
    assert_int_equal(n_orders, 1); /* not before its time */
    later();
    order_fails(last_order(), ACME_INVALID, 0);
    assert_in_range(the_host()->rec.next_at - wall_s(), 89, 151);
    later();
    order_fails(last_order(), ACME_BROKEN, wall_s() + 5000); /* Retry-After */
    assert_in_range(the_host()->rec.next_at - wall_s(), 4999, 5000);
    later();
    order_succeeds(last_order());
    served_by("one");
    assert_int_equal(the_host()->rec.failures, 0);
}

static void renewal_that_fails_leaves_the_old_one(void **state UNUSED)
{
    start();
    due();
    order_succeeds_for(last_order(), -80 * 86400, 10 * 86400);
    assert_true(host_renew_at(the_host()) <= wall_s());
    due(); /* not at once: it has just been made */
    assert_int_equal(n_orders, 1);
    later();
    order_fails(last_order(), ACME_REFUSED, 0);
    assert_int_equal(told.step, ISSUER_WAITING);
    assert_string_equal(told.issuer, "one");
    start();
    assert_int_equal(told.certs, 2);
    assert_int_equal(told.step, ISSUER_WAITING);
}

static void staging_first_after_a_failure(void **state UNUSED)
{
    conf_cas[0].staging = STR("https://one-staging.test/dir");
    conf_cas[0].staging_name = STR("one-staging");
    start();
    due();
    assert_string_equal(last_order()->ca->name, "one");
    order_fails(last_order(), ACME_INVALID, 0);
    later();
    assert_string_equal(last_order()->ca->name, "one-staging");
    order_fails(last_order(), ACME_INVALID, 0); /* production was not bothered */
    assert_int_equal(the_host()->rec.failures, 2);
    later();
    assert_string_equal(last_order()->ca->name, "one-staging");
    order_succeeds(last_order());
    assert_int_equal(told.certs, 0);
    assert_false(stored("one-staging"));
    assert_string_equal(last_order()->ca->name, "one");
    order_succeeds(last_order());
    served_by("one");
}

static void cas_in_their_order(void **state UNUSED)
{
    conf.acme.n_cas = 2;
    start();
    due();
    order_fails(last_order(), ACME_REFUSED, 0);
    assert_string_equal(last_order()->ca->name, "two");
    assert_int_equal(told.step, ISSUER_WORKING);
    order_succeeds(last_order());
    served_by("two");
}

/* ca_root is for CAs of one's own, and no CA is shown what another one gave us. */
static void each_ca_its_own(void **state UNUSED)
{
    conf.acme.n_cas = 2;
    conf.acme.root_pem = STR("root");
    conf.acme.eab_kid = conf.acme.eab_hmac = STR("kid");
    conf_cas[0].known = true;
    conf_cas[1].takes_eab = true;
    conf_cas[1].staging = STR("https://two-staging.test/dir");
    conf_cas[1].staging_name = STR("two-staging");
    start();
    assert_string_equal(ca_named("one")->root_pem, "");
    assert_string_equal(ca_named("one")->eab_kid, "");
    assert_string_equal(ca_named("two")->root_pem, "root");
    assert_string_equal(ca_named("two")->eab_kid, "kid");
    assert_string_equal(ca_named("two-staging")->root_pem, "root");
    assert_string_equal(ca_named("two-staging")->eab_kid, "kid");
}

static void pause_of_a_ca_is_no_failure(void **state UNUSED)
{
    conf.acme.n_cas = 2;
    start();
    ca_named("one")->paused_until = wall_s() + 600;
    due();
    assert_string_equal(last_order()->ca->name, "two");
    order_fails(last_order(), ACME_BUSY, wall_s() + 100);
    assert_int_equal(told.step, ISSUER_WAITING);
    assert_int_equal(the_host()->rec.failures, 0);
    assert_in_range(the_host()->rec.next_at - wall_s(), 99, 111);
    ca_named("two")->paused_until = wall_s() + 300;
    later();
    assert_int_equal(n_orders, 1);
    assert_in_range(the_host()->rec.next_at - wall_s(), 299, 331);
}

static void limits_wait_and_say_until_when(void **state UNUSED)
{
    conf_cas[0].le_limits = true;
    start();
    struct ledger *l = cas_find(is, STR("one"))->ledger;
    for (int i = 0; i < 5; i++)
        assert_null(ledger_add(l, arena, LEDGER_FAILED, host, false, wall_s()));
    due();
    assert_int_equal(n_orders, 0);
    assert_int_equal(told.step, ISSUER_WAITING);
    assert_in_range(the_host()->rec.next_at - wall_s(), 3500, 4000);
    assert_string_not_equal(told.error, "");
}

static void locked_by_another(void **state UNUSED)
{
    start();
    int ready[2], go[2];
    assert_int_equal(pipe(ready), 0);
    assert_int_equal(pipe(go), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct arena *a = arena_new(1024);
        int lock;
        const char *owner;
        char c;
        if (cert_store_lock(a, dir, "one", host, &lock, &owner) || lock < 0)
            _exit(1);
        if (write(ready[1], "x", 1) != 1 || read(go[0], &c, 1) != 1)
            _exit(1);
        _exit(0); /* the lock goes with its owner */
    }
    char c;
    assert_int_equal(read(ready[0], &c, 1), 1);
    due();
    assert_int_equal(n_orders, 0);
    assert_non_null(strstr(told.error, arena_fmt(arena, "pid %d on ", (int)pid).p));
    assert_int_equal(write(go[1], "x", 1), 1);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    for (int i = 0; i < 2; i++) {
        close(ready[i]);
        close(go[i]);
    }
    later();
    order_succeeds(last_order());
    served_by("one");
}

static void renewed_by_another(void **state UNUSED)
{
    start();
    due();
    order_succeeds_for(last_order(), -80 * 86400, 10 * 86400);
    struct cert_unit u = {.meta = STR("{}")};
    u.cert_pem = leaf_of(-60, 90 * 86400, &u.key_pem);
    assert_null(cert_store_write(arena, dir, "one", host, &u));
    later();
    assert_int_equal(n_orders, 1);
    assert_int_equal(told.certs, 2);
    served_by("one");
}

static void window_of_the_ca(void **state UNUSED)
{
    start();
    due();
    order_succeeds(last_order());
    struct host *h = the_host();
    ca_named("one")->ari = "https://one.test/ari";
    host_ari_look(h);
    assert_true(deadline_is_set(&h->ari_due));
    h->ari_due.fire(&h->ari_due);
    json_t *past = json_loads("{\"suggestedWindow\":{\"start\":\"2020-01-01T00:00:00Z\",\"end\":"
                              "\"2020-01-02T00:00:00Z\"}}",
                              0, NULL);
    ca_answers("one", &(struct ca_answer){.status = 200, .json = past});
    json_decref(past);
    assert_true(host_renew_at(h) <= wall_s());
    later();
    assert_string_equal(last_order()->replaces, h->served.ari_id);
    /* Its word is kept over a restart, but it is not asked for in a hurry. */
    order_fails(last_order(), ACME_NETWORK, 0);
    start();
    assert_true(the_host()->rec.ari.chosen > 0);
}

static void interrupted_order_goes_on(void **state UNUSED)
{
    start();
    due();
    struct order *o = last_order();
    assert_null(o->ops->save(o->ctx, STR("https://ca.test/order/9"), STR("KEY")));
    start(); /* killed and started again */
    due();
    assert_string_equal(last_order()->resume_url, "https://ca.test/order/9");
    assert_null(last_order()->ops->save(last_order()->ctx, STR(""), STR("")));
    order_fails(last_order(), ACME_REFUSED, 0);
    start();
    assert_string_equal(the_host()->rec.pending.url, "");
}

static void full_disk_at_the_store(void **state UNUSED)
{
    start();
    due();
    struct order *o = last_order();
    assert_null(o->ops->save(o->ctx, STR("https://ca.test/order/9"), STR("KEY")));
    /* Nothing can be made in a file. */
    const char *unit = arena_fmt(arena, "%s/certs/one/.new.a.example.org", dir).p;
    assert_int_equal(mkdir(unit, 0700), 0);
    assert_null(file_write(arena, arena_fmt(arena, "%s/x", unit).p, STR("x"), 0600));
    order_succeeds(o);
    assert_int_equal(told.certs, 1); /* it is good, and served */
    assert_int_equal(told.step, ISSUER_WAITING);
    assert_string_equal(the_host()->rec.pending.url, "https://ca.test/order/9");
    assert_int_equal(unlink(arena_fmt(arena, "%s/x", unit).p), 0);
    later();
    assert_string_equal(last_order()->resume_url, "https://ca.test/order/9");
    order_succeeds(last_order());
    served_by("one");
}

static void reload_without_the_host(void **state UNUSED)
{
    start();
    due();
    struct order *o = last_order();
    issuer_use(is, &conf, NULL, 0);
    assert_false(o->open);
    assert_null(host_find(is, host));
}

static void another_account_is_tried_at_once(void **state UNUSED)
{
    start();
    due();
    order_fails(last_order(), ACME_ACCOUNT, 0);
    struct conf mended = conf;
    mended.acme.eab_kid = STR("kid");
    mended.acme.eab_hmac = STR("aGk");
    issuer_use(is, &mended, &host, 1);
    due();
    order_succeeds(last_order());
    served_by("one");
    issuer_use(is, &conf, &host, 1);
}

static void another_ca_takes_over(void **state UNUSED)
{
    first_certificate(NULL);
    conf_cas[0] = conf_cas[1];
    start();
    assert_int_equal(told.certs, 2); /* the old one, meanwhile */
    later();
    assert_string_equal(last_order()->ca->name, "two");
    order_succeeds(last_order());
    served_by("two");
}

static void no_challenge_can_work(void **state UNUSED)
{
    conf.n_listens = 0;
    start();
    due();
    assert_int_equal(n_orders, 0);
    assert_non_null(strstr(told.error, "none of acme.challenge can work"));
}

static void only_challenges_that_can_work(void **state UNUSED)
{
    conf.n_listens = 1;
    start();
    due();
    assert_int_equal(last_order()->n_challenges, 1);
    assert_int_equal(last_order()->challenges[0], CONF_HTTP_01);
}

static void look_before_a_known_ca(void **state UNUSED)
{
    conf_cas[0].known = true;
    start();
    due();
    assert_int_equal(n_orders, 0);
    assert_int_equal(told.shows, 1);
    told.shown(told.shown_arg, NULL);
    assert_true(looking);
    verdict = (struct preflight_verdict){PREFLIGHT_BAD, "a.example.org does not exist"};
    looked(looked_ctx, &verdict);
    assert_int_equal(n_orders, 0);
    assert_int_equal(told.hides, 1);
    assert_string_equal(told.error, "a.example.org does not exist");
    the_host()->rec.next_at = 0;
    the_host()->first_look_done = false;
    due();
    told.shown(told.shown_arg, NULL);
    verdict = (struct preflight_verdict){PREFLIGHT_UNSURE, "it may be"};
    looked(looked_ctx, &verdict);
    order_succeeds(last_order());
    served_by("one");
}

static void look_beside_another_ca(void **state UNUSED)
{
    start();
    due();
    told.shown(told.shown_arg, NULL);
    verdict = (struct preflight_verdict){PREFLIGHT_BAD, "a.example.org does not exist"};
    looked(looked_ctx, &verdict);
    order_succeeds(last_order());
    served_by("one");
}

static void asked_to_renew(void **state UNUSED)
{
    first_certificate(NULL);
    issuer_ask(is, 7, STR("renew"), host);
    assert_int_equal(told.answers, 0);
    order_succeeds_for(last_order(), -60, 91 * 86400);
    assert_int_equal(told.answers, 1);
    assert_true(told.ok);
    issuer_ask(is, 7, STR("renew"), host);
    order_fails(last_order(), ACME_INVALID, 0);
    assert_int_equal(told.answers, 2);
    assert_false(told.ok);
    assert_non_null(strstr(told.text, "the CA says no"));
    issuer_ask(is, 7, STR("renew"), STR("nobody.example.org"));
    assert_false(told.ok);
    issuer_ask(is, 7, STR("list"), STR_NULL);
    assert_true(told.ok);
    issuer_ask(is, 7, STR("juggle"), host);
    assert_false(told.ok);
    assert_int_equal(told.answers, 5);
}

static void asked_to_revoke(void **state UNUSED)
{
    first_certificate(NULL);
    issuer_ask(is, 7, STR("revoke"), host);
    ca_answers("one", &(struct ca_answer){.status = 200});
    assert_false(stored("one"));
    order_succeeds(last_order());
    assert_true(told.ok);
    assert_non_null(strstr(told.text, "revoked"));
    served_by("one");
}

static void asked_to_roll_the_key(void **state UNUSED)
{
    conf.acme.n_cas = 2;
    start();
    struct acme_fail f;
    acme_fail_set(&f, ACME_NETWORK, "keyChange", "no route");
    issuer_ask(is, 7, STR("roll-key"), STR_NULL);
    ca_answers("one", &(struct ca_answer){.status = 200});
    ca_answers("two", &(struct ca_answer){.fail = &f});
    assert_int_equal(told.answers, 1);
    assert_false(told.ok);
    assert_non_null(strstr(told.text, "one: the account has a new key"));
    assert_non_null(strstr(told.text, "no route"));
}

static void ca_goes_while_it_is_asked(void **state UNUSED)
{
    first_certificate(NULL);
    issuer_ask(is, 7, STR("revoke"), host);
    conf_cas[0] = conf_cas[1];
    issuer_use(is, &conf, &host, 1);
    assert_int_equal(told.answers, 1);
    assert_false(told.ok);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
        T(first_certificate),
        T(served_from_disk_before_anything_else),
        T(damaged_unit_is_not_served),
        T(failure_is_remembered),
        T(renewal_that_fails_leaves_the_old_one),
        T(staging_first_after_a_failure),
        T(cas_in_their_order),
        T(each_ca_its_own),
        T(pause_of_a_ca_is_no_failure),
        T(limits_wait_and_say_until_when),
        T(locked_by_another),
        T(renewed_by_another),
        T(window_of_the_ca),
        T(interrupted_order_goes_on),
        T(full_disk_at_the_store),
        T(reload_without_the_host),
        T(another_account_is_tried_at_once),
        T(another_ca_takes_over),
        T(no_challenge_can_work),
        T(only_challenges_that_can_work),
        T(look_before_a_known_ca),
        T(look_beside_another_ca),
        T(asked_to_renew),
        T(asked_to_revoke),
        T(asked_to_roll_the_key),
        T(ca_goes_while_it_is_asked),
    };
    return cmocka_run_group_tests_name("issuer", tests, NULL, NULL);
}
