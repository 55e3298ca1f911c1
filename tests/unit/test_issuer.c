/*
 * test_issuer.c - the schedule of ACME certificates: what is ordered from whom and when, what is
 * kept over restarts, what is served. What goes wrong in the middle is test_issuer_odd.c's.
 */
#include "tests/unit/issuer_fixture.h"

#include <sys/file.h>
#include <sys/wait.h>

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
