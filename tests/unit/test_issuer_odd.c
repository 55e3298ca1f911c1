/*
 * test_issuer_odd.c - the issuer when things come at the wrong moment: reloads in the middle of a
 * try, clocks that jump, CAs that answer late, never or nonsense. Nothing is lost, and nobody is
 * asked without a pause.
 */
#include "tests/unit/issuer_fixture.h"

static void queued_for_a_place(void **state UNUSED)
{
    start();
    cas_find(is, STR("one"))->tokens = 0;
    due(); /* its first moment, which was no deadline's */
    assert_int_equal(n_orders, 0);
    assert_int_equal(told.step, ISSUER_WORKING);
    cas_find(is, STR("one"))->tokens = 1000;
    due();
    order_succeeds(last_order());
    served_by("one");
}

static void reload_that_turns_the_cas_round(void **state UNUSED)
{
    conf.acme.n_cas = 2;
    start();
    due();
    struct order *o = last_order();
    struct conf_ca turned[2] = {conf_cas[1], conf_cas[0]};
    struct conf other = conf;
    other.acme.cas = turned;
    issuer_use(is, &other, &host, 1);
    order_succeeds(o); /* no rehearsal: a certificate */
    assert_int_equal(n_orders, 1);
    served_by("one");
    issuer_use(is, &conf, &host, 1);
}

static void reload_that_leaves_the_second_ca(void **state UNUSED)
{
    conf.acme.n_cas = 2;
    start();
    ca_named("one")->paused_until = wall_s() + 600;
    due();
    struct order *o = last_order();
    assert_string_equal(o->ca->name, "two");
    struct conf other = conf;
    other.acme.cas = &conf_cas[1];
    other.acme.n_cas = 1;
    issuer_use(is, &other, &host, 1);
    told.shown(told.shown_arg, NULL); /* of the look beside it */
    assert_null(o->ops->save(o->ctx, STR("https://ca.test/order/9"), STR("KEY")));
    assert_string_equal(the_host()->rec.pending.ca, "two");
    order_succeeds(o);
    served_by("two");
    issuer_use(is, &conf, &host, 1);
}

static void reload_in_the_middle_of_a_rehearsal(void **state UNUSED)
{
    conf_cas[0].staging = STR("https://one-staging.test/dir");
    conf_cas[0].staging_name = STR("one-staging");
    start();
    due();
    order_fails(last_order(), ACME_INVALID, 0);
    later();
    struct order *o = last_order();
    assert_string_equal(o->ca->name, "one-staging");
    struct conf_ca without = {.name = STR("one"), .url = STR("https://one.test/dir")};
    struct conf other = conf;
    other.acme.cas = &without;
    issuer_use(is, &other, &host, 1);
    assert_false(o->open);
    later();
    order_succeeds(last_order());
    served_by("one");
    issuer_use(is, &conf, &host, 1);
}

static void no_word_about_a_new_certificate(void **state UNUSED)
{
    first_certificate(NULL);
    struct host *h = the_host();
    struct acme_fail f;
    acme_fail_set(&f, ACME_REFUSED, "renewalInfo", "no such certificate");
    text_copy(h->rec.ari.id, sizeof(h->rec.ari.id), STR("of.the-one-before"));
    h->rec.ari.chosen = 1;
    host_ari_look(h);
    h->ari_due.fire(&h->ari_due);
    ca_answers("one", &(struct ca_answer){.status = 404, .fail = &f});
    assert_true(deadline_is_set(&h->ari_due)); /* asked again, but not at once */
    assert_in_range(h->ari_due.at - loop_now_ms(), 3600 * 1000, 86400 * 1000);
    assert_true(host_renew_at(h) > wall_s());
}

static void word_about_the_certificate_before(void **state UNUSED)
{
    first_certificate(NULL);
    struct host *h = the_host();
    host_ari_look(h);
    h->ari_due.fire(&h->ari_due);
    assert_non_null(ca_named("one")->done);
    issuer_ask(is, 7, STR("renew"), host);
    order_succeeds_for(last_order(), -60, 91 * 86400);
    assert_null(ca_named("one")->done); /* nobody listens to it any more */
}

/* It is told of each CA by its name, and of each once. */
static void reload_while_keys_change(void **state UNUSED)
{
    conf.acme.n_cas = 2;
    start();
    issuer_ask(is, 7, STR("roll-key"), STR_NULL);
    struct conf_ca turned[2] = {conf_cas[1], conf_cas[0]};
    struct conf other = conf;
    other.acme.cas = turned;
    issuer_use(is, &other, &host, 1);
    ca_answers("one", &(struct ca_answer){.status = 200});
    ca_answers("two", &(struct ca_answer){.status = 200});
    assert_int_equal(told.answers, 1);
    assert_string_equal(told.text,
                        "one: the account has a new key\ntwo: the account has a new key\n");
    issuer_use(is, &conf, &host, 1);
}

/* The first renewal after a start comes before the directory was read. */
static void renewal_by_an_unread_directory(void **state UNUSED)
{
    first_certificate(NULL);
    start();
    issuer_ask(is, 7, STR("renew"), host);
    assert_string_equal(last_order()->replaces, ""); /* it has no such thing */
    start();
    ca_named("one")->unread = true;
    issuer_ask(is, 7, STR("renew"), host);
    assert_string_equal(last_order()->replaces, the_host()->served.ari_id);
}

/* In service until its successor is there, but not for a new configuration. */
static void revoked_over_a_reload(void **state UNUSED)
{
    first_certificate(NULL);
    issuer_ask(is, 7, STR("revoke"), host);
    ca_answers("one", &(struct ca_answer){.status = 200});
    assert_true(issuer_serves(is, host));
    assert_int_equal(told.certs, 1);
    issuer_use(is, &conf, &host, 1);
    assert_int_equal(told.certs, 1);
    assert_false(issuer_serves(is, host));
    order_succeeds(last_order());
    assert_true(issuer_serves(is, host));
    served_by("one");
}

/* ---- what is left of a try ---- */

static void killed_between_store_and_record(void **state UNUSED)
{
    start();
    due();
    struct order *o = last_order();
    assert_null(o->ops->save(o->ctx, STR("https://ca.test/order/1"), STR("KEY")));
    struct host_record before = the_host()->rec;
    order_succeeds(o);
    assert_null(host_record_write(arena, dir, host, &before));
    start();
    assert_string_equal(the_host()->rec.pending.url, "");
    issuer_ask(is, 7, STR("renew"), host);
    assert_string_equal(last_order()->resume_url, "");
}

static void look_without_an_end(void **state UNUSED)
{
    conf_cas[0].known = true;
    start();
    due();
    told.shown(told.shown_arg, NULL);
    assert_true(looking);
    assert_int_equal(told.step, ISSUER_WORKING);
    assert_int_equal(n_orders, 0);
    due(); /* patience ends */
    assert_int_equal(n_orders, 1);
    verdict = (struct preflight_verdict){PREFLIGHT_BAD, "a.example.org does not exist"};
    looked(looked_ctx, &verdict);
    order_succeeds(last_order());
    served_by("one");
}

/* ---- limits ---- */

static const struct ledger *ledger_of(const char *ca)
{
    return cas_find(is, str_of(ca))->ledger;
}

static void ledger_fill(enum ledger_event e, const char *name, unsigned times)
{
    struct ledger *l = cas_find(is, STR("one"))->ledger;
    for (unsigned i = 0; i < times; i++)
        assert_null(ledger_add(l, arena, e, str_of(name), false, wall_s()));
}

static void limit_reached_in_the_queue(void **state UNUSED)
{
    conf_cas[0].le_limits = true;
    start();
    cas_find(is, STR("one"))->tokens = 0;
    due();
    ledger_fill(LEDGER_FAILED, "a.example.org", 5);
    cas_find(is, STR("one"))->tokens = 1000;
    due();
    assert_int_equal(n_orders, 0);
    assert_int_equal(told.step, ISSUER_WAITING);
    assert_non_null(strstr(told.error, "failed validations"));
    assert_int_equal(cas_find(is, STR("one"))->under_way, 0);
}

/* 49 of 50 certificates of the domain are used, and two hosts of it are due. */
static void last_place_of_a_limit(void **state UNUSED)
{
    const struct str both[] = {host, STR("b.example.org")};
    conf_cas[0].le_limits = true;
    start();
    for (unsigned i = 0; i < 49; i++)
        ledger_fill(LEDGER_ISSUED, arena_fmt(arena, "x%u.example.org", i).p, 1);
    issuer_use(is, &conf, both, 2);
    struct host *other = host_find(is, both[1]);
    due();
    assert_int_equal(n_orders, 1);
    host_event(other, TRIGGER_DUE);
    assert_int_equal(n_orders, 1);
    assert_int_equal(other->state, HOST_QUEUED);
    struct order *o = last_order();
    o->ops->spent(o->ctx, ORDER_SPENT_CERTIFICATE, false);
    order_succeeds(o);
    other->due.fire(&other->due);
    assert_int_equal(n_orders, 1);
    assert_int_equal(other->state, HOST_WAITING);
    assert_in_range(other->rec.next_at - wall_s(), 6 * 86400, 8 * 86400);
}

static void order_of_before_needs_no_place(void **state UNUSED)
{
    conf_cas[0].le_limits = true;
    start();
    due();
    struct order *o = last_order();
    assert_null(o->ops->save(o->ctx, STR("https://ca.test/order/9"), STR("KEY")));
    start(); /* killed and started again */
    ledger_fill(LEDGER_ORDERED, "b.example.org", 300);
    due();
    assert_string_equal(last_order()->resume_url, "https://ca.test/order/9");
}

static void one_certificate_counts_once(void **state UNUSED)
{
    conf_cas[0].le_limits = true;
    start();
    due();
    for (unsigned i = 0; i < 3; i++) { /* it cannot be fetched, or stored */
        struct order *o = last_order();
        if (i == 0)
            assert_null(o->ops->save(o->ctx, STR("https://ca.test/order/9"), STR("KEY")));
        o->ops->spent(o->ctx, ORDER_SPENT_CERTIFICATE, false);
        order_fails(o, ACME_NETWORK, 0);
        start();
        later();
    }
    assert_int_equal(ledger_left(ledger_of("one"), LEDGER_DUPLICATES, host, wall_s()).used, 1);
    struct order *o = last_order();
    assert_null(o->ops->save(o->ctx, STR("https://ca.test/order/10"), STR("KEY")));
    o->ops->spent(o->ctx, ORDER_SPENT_CERTIFICATE, false);
    assert_int_equal(ledger_left(ledger_of("one"), LEDGER_DUPLICATES, host, wall_s()).used, 2);
}

static void renewals_count_as_the_ca_says(void **state UNUSED)
{
    conf_cas[0].le_limits = true;
    first_certificate(NULL);
    ca_named("one")->ari = "https://one.test/ari";
    issuer_ask(is, 7, STR("renew"), host);
    struct order *o = last_order();
    assert_string_equal(o->replaces, the_host()->served.ari_id);
    o->ops->spent(o->ctx, ORDER_SPENT_CERTIFICATE, true);
    assert_int_equal(ledger_left(ledger_of("one"), LEDGER_DUPLICATES, host, wall_s()).used, 0);
    order_succeeds(o);
    issuer_ask(is, 7, STR("renew"), host);
    o = last_order();
    assert_null(o->ops->save(o->ctx, STR("https://ca.test/order/10"), STR("KEY")));
    o->ops->spent(o->ctx, ORDER_SPENT_CERTIFICATE, false); /* it would not have it as a renewal */
    assert_int_equal(ledger_left(ledger_of("one"), LEDGER_DUPLICATES, host, wall_s()).used, 1);
}

/* ---- several CAs ---- */

static void staging_in_trouble(void **state UNUSED)
{
    static const enum acme_fail_kind its_own[] = {ACME_BUSY, ACME_NETWORK, ACME_LIMITED,
                                                  ACME_ACCOUNT};
    conf_cas[0].staging = STR("https://one-staging.test/dir");
    conf_cas[0].staging_name = STR("one-staging");
    start();
    due();
    for (unsigned i = 0; i < ARRAY_LEN(its_own); i++) {
        order_fails(last_order(), ACME_INVALID, 0);
        later();
        assert_string_equal(last_order()->ca->name, "one-staging");
        order_fails(last_order(), its_own[i], wall_s() + 3600);
        assert_string_equal(last_order()->ca->name, "one");
    }
    order_succeeds(last_order());
    served_by("one");
}

static void wait_of_one_ca_and_failure_of_another(void **state UNUSED)
{
    conf.acme.n_cas = 2;
    start();
    due();
    order_fails(last_order(), ACME_LIMITED, wall_s() + 7 * 86400);
    assert_string_equal(last_order()->ca->name, "two");
    order_fails(last_order(), ACME_INVALID, 0);
    assert_int_equal(the_host()->rec.failures, 1);
    assert_in_range(the_host()->rec.next_at - wall_s(), 44, 76);
    later();
    order_fails(last_order(), ACME_LIMITED, wall_s() + 7 * 86400);
    order_fails(last_order(), ACME_BUSY, wall_s() + 600);
    assert_in_range(the_host()->rec.next_at - wall_s(), 599, 661);
}

/* ---- no CA is asked without a pause ---- */

static void retry_after_a_second_for_ever(void **state UNUSED)
{
    start();
    due();
    for (unsigned i = 0; i < 8; i++) {
        order_fails(last_order(), i % 2 ? ACME_LIMITED : ACME_BUSY, wall_s() + 1);
        later();
    }
    order_fails(last_order(), ACME_LIMITED, wall_s() + 1);
    assert_in_range(the_host()->rec.next_at - wall_s(), 59, 67);
    later();
    order_fails(last_order(), ACME_REFUSED, wall_s() + 30 * 86400);
    assert_in_range(the_host()->rec.next_at - wall_s(), 86000, 86400);
}

static void window_in_the_past_for_ever(void **state UNUSED)
{
    start();
    due();
    for (unsigned i = 0; i < 6; i++) {
        order_succeeds(last_order());
        struct host *h = the_host();
        text_copy(h->rec.ari.id, sizeof(h->rec.ari.id), str_of(h->served.ari_id));
        h->rec.ari.chosen = 1;
        assert_true(host_renew_at(h) <= wall_s());
        assert_true(h->rec.next_at - wall_s() >= (44 << i));
        later();
    }
}

static void certificate_of_seconds(void **state UNUSED)
{
    start();
    due();
    order_succeeds_for(last_order(), -4, 6);
    assert_in_range(the_host()->rec.next_at - wall_s(), 4, 5);
}

static void clock_was_ahead(void **state UNUSED)
{
    start();
    due();
    order_fails(last_order(), ACME_INVALID, 0);
    the_host()->rec.next_at = wall_s() + 365 * 86400;
    due();
    order_fails(last_order(), ACME_INVALID, 0);
    the_host()->rec.error.at = wall_s() + 3 * 86400;
    the_host()->rec.next_at = the_host()->rec.error.at + 60;
    due();
    order_succeeds(last_order());
    served_by("one");
}

static void another_way_in(void **state UNUSED)
{
    struct conf closed = conf;
    closed.n_listens = 0;
    start();
    issuer_use(is, &closed, &host, 1);
    due();
    assert_int_equal(n_orders, 0);
    issuer_use(is, &conf, &host, 1);
    due();
    order_succeeds(last_order());
    served_by("one");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
        T(queued_for_a_place),
        T(reload_that_turns_the_cas_round),
        T(reload_that_leaves_the_second_ca),
        T(reload_in_the_middle_of_a_rehearsal),
        T(no_word_about_a_new_certificate),
        T(word_about_the_certificate_before),
        T(reload_while_keys_change),
        T(revoked_over_a_reload),
        T(renewal_by_an_unread_directory),
        T(killed_between_store_and_record),
        T(look_without_an_end),
        T(limit_reached_in_the_queue),
        T(last_place_of_a_limit),
        T(order_of_before_needs_no_place),
        T(staging_in_trouble),
        T(wait_of_one_ca_and_failure_of_another),
        T(one_certificate_counts_once),
        T(renewals_count_as_the_ca_says),
        T(retry_after_a_second_for_ever),
        T(window_in_the_past_for_ever),
        T(certificate_of_seconds),
        T(clock_was_ahead),
        T(another_way_in),
    };
    return cmocka_run_group_tests_name("issuer_odd", tests, NULL, NULL);
}
