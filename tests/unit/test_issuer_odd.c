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
    };
    return cmocka_run_group_tests_name("issuer_odd", tests, NULL, NULL);
}
