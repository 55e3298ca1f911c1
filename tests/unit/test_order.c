/*
 * test_order.c - an order of a certificate against a CA in memory (order_fixture.h): all that goes
 * well, and each trouble in each step.
 */
#include "tests/unit/order_fixture.h"

/* ---- what goes well ---- */

#define ISSUED         "finalize issued certificate done"
#define PROVEN_BY(way) "authorization show:" way " challenge validation hide "
#define NEW            "newOrder spent save "

static void test_straight(void **state UNUSED)
{
    run(spec_of(HOST));
    expect_issued(NEW PROVEN_BY("tls-alpn-01") ISSUED);
}

static void test_keys(void **state UNUSED)
{
    static const char *const kinds[] = {"EC", "EC", "RSA"};
    for (unsigned i = 0; i < ARRAY_LEN(kinds); i++) {
        memset(&seen, 0, sizeof(seen));
        struct order_spec spec = spec_of(HOST);
        spec.key = (enum conf_acme_key)i;
        run(spec);
        expect_issued(NEW PROVEN_BY("tls-alpn-01") ISSUED);
        EVP_PKEY *key = pem_key(seen.key_pem);
        assert_true(EVP_PKEY_is_a(key, kinds[i]));
        assert_true(str_eq(seen.key_pem, seen.saved_key));
        EVP_PKEY_free(key);
    }
}

static void test_slow(void **state UNUSED)
{
    fake.looks = 2;
    fake.late = true;
    uint64_t from = now_ms();
    run(spec_of(HOST));
    expect_issued(NEW "authorization show:tls-alpn-01 challenge validation validation validation "
                      "hide finalize order order order issued certificate done");
    assert_true(now_ms() - from >= 2 * (25 + 37 + 55));
}

static void test_authorized_before(void **state UNUSED)
{
    fake.authorized = true;
    run(spec_of(HOST));
    expect_issued(NEW ISSUED);
}

/* The order is pending, and its only authorization is valid. */
static void test_authorization_valid(void **state UNUSED)
{
    fake.authorized = true;
    fake.odd_step = "newOrder";
    fake.odd_json = "{\"status\":\"pending\",\"identifiers\":[{\"type\":\"dns\",\"value\":\"" HOST
                    "\"}],\"authorizations\":[\"" BASE "/authorization\",\"" BASE
                    "/authorization\"],\"finalize\":\"" BASE "/finalize\"}";
    run(spec_of(HOST));
    expect_issued(NEW "authorization authorization " ISSUED);
}

static void test_wildcard(void **state UNUSED)
{
    run(spec_of("*.a.test"));
    expect_issued(NEW PROVEN_BY("dns-01") ISSUED);
}

/* RFC 9110 10.2.3: the first look is early, the next one when the CA wants it. */
static void test_retry_after(void **state UNUSED)
{
    fake.looks = 1;
    fake.retry_in = 2;
    uint64_t from = now_ms();
    run(spec_of(HOST));
    expect_issued(NEW "authorization show:tls-alpn-01 challenge validation validation hide "
                      "finalize order order issued certificate done");
    assert_true(now_ms() - from >= 2 * 1000);
}

/* ---- challenges ---- */

static void test_next_challenge(void **state UNUSED)
{
    fake.fails[CONF_TLS_ALPN_01] = true;
    run(spec_of(HOST));
    expect_issued(NEW "authorization show:tls-alpn-01 challenge validation failed hide "
                      "forget " NEW PROVEN_BY("http-01") ISSUED);
}

static void test_all_fail(void **state UNUSED)
{
    fake.fails[CONF_TLS_ALPN_01] = fake.fails[CONF_HTTP_01] = true;
    fake.offers_not[CONF_DNS_01] = true;
    run(spec_of(HOST));
    expect_failed(ACME_INVALID,
                  "tls-alpn-01: the CA says: no way to tls-alpn-01; http-01: the CA says: no way",
                  NEW "authorization show:tls-alpn-01 challenge validation failed hide forget " NEW
                      "authorization show:http-01 challenge validation failed hide forget done");
    assert_string_equal(seen.fail.type, "connection");
    assert_string_equal(seen.fail.step, "validation");
    assert_ptr_equal(seen.fail.hint, acme_hint("connection", "http-01"));
}

static void test_none_offered(void **state UNUSED)
{
    struct order_spec spec = spec_of("*.a.test");
    spec.n_challenges = 2; /* without dns-01 */
    run(spec);
    expect_failed(ACME_REFUSED, "no way to prove the name", NEW "authorization forget done");
    assert_non_null(strstr(seen.fail.hint, "dns_hook"));
}

/* Nothing was told to the CA: another way is open in the same order. */
static void test_not_shown(void **state UNUSED)
{
    seen.show_error = "the hook ended with 1";
    run(spec_of(HOST));
    expect_failed(ACME_LOCAL, "dns-01: the hook ended with 1",
                  NEW
                  "authorization show:tls-alpn-01 hide show:http-01 hide show:dns-01 hide done");
}

static void test_never_shown(void **state UNUSED)
{
    struct order_spec spec = spec_of(HOST);
    seen.silent = true;
    spec.n_challenges = 1;
    spec.patience_ms = 30;
    run(spec);
    expect_failed(ACME_LOCAL, "nobody knows whether",
                  NEW "authorization show:tls-alpn-01 hide done");

    /* A hook's turn may come late. */
    uint64_t from = now_ms();
    memset(&seen, 0, sizeof(seen));
    seen.silent = true;
    spec.challenges[0] = CONF_DNS_01;
    run(spec);
    expect_failed(ACME_LOCAL, "nobody knows whether", NEW "authorization show:dns-01 hide done");
    assert_true(now_ms() - from >= 6 * 30);
}

/* Refused to be told, because it is decided: it looks, and goes on. */
static void test_told_too_late(void **state UNUSED)
{
    fake.troubles[0] = (struct trouble){"challenge", 1, ACME_REFUSED, "malformed", 0};
    run(spec_of(HOST));
    expect_failed(ACME_REFUSED, "trouble with challenge",
                  NEW "authorization show:tls-alpn-01 challenge validation forget hide done");

    memset(&seen, 0, sizeof(seen));
    fake.troubles[0].times = 1;
    fake.odd_step = "validation";
    fake.odd_json = "{\"status\":\"valid\",\"identifier\":{\"type\":\"dns\",\"value\":\"" HOST
                    "\"},\"challenges\":[]}";
    run(spec_of(HOST));
    expect_issued(NEW PROVEN_BY("tls-alpn-01") ISSUED);
}

/* ---- trouble ---- */

static void test_network(void **state UNUSED)
{
    static const char *const steps[] = {"newOrder",   "authorization", "challenge",
                                        "validation", "finalize",      "certificate"};
    for (unsigned i = 0; i < ARRAY_LEN(steps); i++) {
        memset(&seen, 0, sizeof(seen));
        fake.kind = -1;
        fake.troubles[0] = (struct trouble){steps[i], 1, ACME_NETWORK, NULL, 0};
        run(spec_of(HOST));
        assert_int_equal(seen.fail.kind, ACME_FINE);
    }
}

/* The order stays to be resumed. */
static void test_network_gone(void **state UNUSED)
{
    fake.troubles[0] = (struct trouble){"finalize", 3, ACME_NETWORK, NULL, 0};
    run(spec_of(HOST));
    expect_failed(ACME_NETWORK, "trouble with finalize",
                  NEW PROVEN_BY("tls-alpn-01") "finalize finalize finalize done");
}

static void test_busy(void **state UNUSED)
{
    fake.troubles[0] = (struct trouble){"validation", 2, ACME_BUSY, NULL, 1};
    fake.troubles[1] = (struct trouble){"finalize", 1, ACME_BUSY, NULL, 7};
    run(spec_of(HOST));
    expect_failed(ACME_BUSY, "trouble with finalize",
                  NEW "authorization show:tls-alpn-01 challenge validation validation validation "
                      "hide finalize done");
    assert_true(seen.fail.retry_at >= wall_s());
}

static void test_stuck(void **state UNUSED)
{
    struct order_spec spec = spec_of(HOST);
    fake.authorized = true;
    fake.looks = 1000000;
    spec.patience_ms = 100;
    run(spec);
    assert_int_equal(seen.fail.kind, ACME_REFUSED);
    assert_non_null(strstr(seen.fail.text, "waiting until the CA has issued"));
    assert_true(seen.url.n > 0); /* to be resumed, once */

    spec.resume_url = seen.url;
    spec.resume_key = seen.saved_key;
    memset(&seen, 0, sizeof(seen));
    run(spec);
    assert_int_equal(seen.fail.kind, ACME_REFUSED);
    assert_true(str_ends(seen.trace, STR("order forget done")));
}

static void test_not_ready(void **state UNUSED)
{
    fake.troubles[0] = (struct trouble){"finalize", 2, ACME_REFUSED, "orderNotReady", 0};
    run(spec_of(HOST));
    expect_issued(NEW PROVEN_BY("tls-alpn-01") "finalize order finalize order " ISSUED);
}

static void test_never_ready(void **state UNUSED)
{
    fake.authorized = true;
    fake.troubles[0] = (struct trouble){"finalize", 99, ACME_REFUSED, "orderNotReady", 0};
    run(spec_of(HOST));
    expect_failed(ACME_BROKEN, "ready, and then that it is not",
                  NEW "finalize order finalize order finalize order finalize order finalize order "
                      "finalize order forget done");
}

static void test_order_invalid(void **state UNUSED)
{
    fake.odd_step = "finalize";
    fake.odd_json =
        "{\"status\":\"invalid\",\"identifiers\":[{\"type\":\"dns\",\"value\":\"" HOST
        "\"}],\"error\":{\"type\":\"urn:ietf:params:acme:error:caa\",\"detail\":\"CAA says no\"}}";
    run(spec_of(HOST));
    expect_failed(ACME_REFUSED, "CAA says no", NEW PROVEN_BY("tls-alpn-01") "finalize forget done");
    assert_ptr_equal(seen.fail.hint, acme_hint("caa", NULL));
}

static void test_not_saved(void **state UNUSED)
{
    seen.save_error = "the disk is full";
    run(spec_of(HOST));
    expect_failed(ACME_LOCAL, "the order cannot be stored: the disk is full", NEW "done");
}

static void test_limited(void **state UNUSED)
{
    fake.troubles[0] = (struct trouble){"newOrder", 9, ACME_LIMITED, "rateLimited", 99};
    run(spec_of(HOST));
    expect_failed(ACME_LIMITED, "trouble with newOrder", "newOrder done");
    assert_true(seen.fail.retry_at > wall_s());
}

/* ---- what is optional ---- */

static void test_replaces(void **state UNUSED)
{
    struct order_spec spec = spec_of(HOST);
    spec.replaces = STR("a.b");
    fake.authorized = true;
    run(spec);
    expect_issued("newOrder+r spent save " ISSUED);

    static const enum acme_fail_kind kinds[] = {ACME_REFUSED, ACME_LIMITED, ACME_BROKEN};
    for (unsigned i = 0; i < ARRAY_LEN(kinds); i++) {
        memset(&seen, 0, sizeof(seen));
        fake.troubles[0] = (struct trouble){"newOrder", 1, kinds[i], "alreadyReplaced", 0};
        run(spec);
        expect_issued("newOrder+r " NEW ISSUED);
    }
}

/* Only what the CA takes for a renewal is told of as one: it counts the others against its limits.
 */
static void test_renewal(void **state UNUSED)
{
    struct order_spec spec = spec_of(HOST);
    spec.replaces = STR("a.b");
    fake.authorized = true;
    fake.knows_renewals = true;
    run(spec);
    expect_issued("newOrder+r spent-renewal save finalize issued-renewal certificate done");

    memset(&seen, 0, sizeof(seen));
    fake.troubles[0] = (struct trouble){"newOrder", 1, ACME_REFUSED, "alreadyReplaced", 0};
    run(spec);
    expect_issued("newOrder+r " NEW ISSUED);
}

static void test_profile(void **state UNUSED)
{
    struct order_spec spec = spec_of(HOST);
    spec.profile = STR("shortlived");
    spec.replaces = STR("a.b");
    fake.authorized = true;
    fake.has_no_profile = true;
    fake.troubles[0] = (struct trouble){"newOrder", 1, ACME_REFUSED, "malformed", 0};
    run(spec);
    expect_issued("newOrder+r " NEW ISSUED);

    /* The first call is made before the directory was read. */
    memset(&seen, 0, sizeof(seen));
    fake.profile_looks = 0;
    fake.unread_looks = 1;
    fake.troubles[0].times = 1;
    run(spec);
    expect_issued("newOrder+r+p " NEW ISSUED);

    memset(&seen, 0, sizeof(seen));
    fake.has_no_profile = false;
    fake.troubles[0].times = 2;
    run(spec);
    expect_failed(ACME_REFUSED, "trouble with newOrder", "newOrder+r+p newOrder+p done");
}

/* ---- an order of before ---- */

static struct order_spec resumed(const char *status)
{
    struct order_spec spec = spec_of(HOST);
    struct arena *a = fake.arena;
    EVP_PKEY *key = test_key(NULL);
    memset(&seen, 0, sizeof(seen));
    spec.resume_url = STR(BASE "/order/0");
    spec.resume_key = pem_of_key(a, key);
    EVP_PKEY_free(fake.csr_key);
    fake.csr_key = key;
    fake.kind = -1;
    fake.under_way = false;
    memset(fake.status, 0, sizeof(fake.status));
    memcpy(fake.status, status, strlen(status));
    return spec;
}

static void test_resumed_renewal(void **state UNUSED)
{
    fake.knows_renewals = true;
    fake.replaces = STR("a.b");
    struct order_spec spec = resumed("valid");
    spec.replaces = STR("a.b");
    run(spec);
    expect_issued("order issued-renewal certificate done");
}

static void test_resumed(void **state UNUSED)
{
    run(resumed("pending"));
    expect_issued("order " PROVEN_BY("tls-alpn-01") ISSUED);

    struct order_spec spec = resumed("pending");
    fake.under_way = true;
    fake.kind = CONF_TLS_ALPN_01;
    fake.looks = 1;
    run(spec);
    expect_issued("order authorization show:tls-alpn-01 validation hide finalize order order "
                  "issued certificate done");
    fake.looks = 0;

    run(resumed("ready"));
    expect_issued("order " ISSUED);

    spec = resumed("processing");
    fake.looks = 1;
    run(spec);
    expect_issued("order order issued certificate done");
    assert_true(str_eq(seen.key_pem, spec.resume_key));
    fake.looks = 0;

    spec = resumed("valid");
    run(spec);
    expect_issued("order issued certificate done");
    assert_true(str_eq(seen.key_pem, spec.resume_key));
}

static void test_not_resumed(void **state UNUSED)
{
    static const char anew[] = "order forget " NEW PROVEN_BY("tls-alpn-01") ISSUED;
    struct order_spec spec = resumed("invalid");
    run(spec);
    expect_issued(anew);
    assert_false(str_eq(seen.key_pem, spec.resume_key));

    run(resumed("expired"));
    expect_issued(anew);
    run(resumed("none"));
    expect_issued(anew);

    spec = resumed("pending");
    fake.troubles[0] = (struct trouble){"order", 1, ACME_REFUSED, "malformed", 0};
    run(spec);
    expect_issued(anew);

    spec = resumed("ready");
    fake.odd_step = "order";
    fake.odd_json = "{\"status\":\"ready\",\"identifiers\":[{\"type\":\"dns\",\"value\":"
                    "\"www.b.test\"}],\"authorizations\":[],\"finalize\":\"" BASE "/finalize\"}";
    run(spec);
    expect_issued(anew);
    fake.odd_step = NULL;

    spec = resumed("ready");
    spec.resume_key = STR("no key");
    run(spec);
    expect_issued("forget " NEW PROVEN_BY("tls-alpn-01") ISSUED);

    spec = resumed("ready");
    fake.troubles[0] = (struct trouble){"order", 9, ACME_NETWORK, NULL, 0};
    run(spec);
    expect_failed(ACME_NETWORK, "trouble with order", "order order order done");
}

/* The chain is for another key than the one that was kept. */
static void test_resumed_with_other_key(void **state UNUSED)
{
    struct order_spec spec = resumed("valid");
    EVP_PKEY_free(fake.csr_key);
    fake.csr_key = test_key(NULL);
    run(spec);
    expect_failed(ACME_BROKEN, "neither stored nor used: the certificate is for another key",
                  "order issued certificate forget done");
}

/* ---- chains ---- */

static void chains(const char *first, const char *second, const char *third, const char *chain,
                   const char *wanted, const char *happened)
{
    struct order_spec spec = spec_of(HOST);
    memset(&seen, 0, sizeof(seen));
    spec.chain = str_of(chain);
    fake.authorized = true;
    fake.chains[0] = first;
    fake.chains[1] = second;
    fake.chains[2] = third;
    run(spec);
    expect_issued(arena_fmt(fake.arena, NEW "finalize %s", happened).p);
    /* The leaf is another each time. */
    struct str up = wanted[1] == 'J' ? fake.inter[1].pem : fake.inter[0].pem;
    assert_true(str_ends(seen.pem, up));
}

static void test_chains(void **state UNUSED)
{
    chains("LI", "LJ", NULL, "", "LI", "issued certificate done");
    chains("LI", "LJ", NULL, "Root A", "LI", "issued certificate done");
    chains("LI", "LJ", NULL, "Root B", "LJ", "issued certificate certificate done");
    chains("LI", "LI", "LJ", "Root B", "LJ", "issued certificate certificate certificate done");
    chains("LI", "LJ", NULL, "Root C", "LI", "issued certificate certificate done");
    chains("LI", "EJ", NULL, "Root B", "LI", "issued certificate certificate done");
    chains("L", "LJ", NULL, "", "LJ", "issued certificate certificate done");
    chains("EI", "", "LI", "Root B", "LI", "issued certificate certificate certificate done");
}

static void test_bad_chain(void **state UNUSED)
{
    fake.authorized = true;
    fake.chains[0] = "EI";
    fake.chains[1] = "L";
    run(spec_of(HOST));
    expect_failed(ACME_BROKEN, "neither stored nor used: the certificate expired on",
                  NEW "finalize issued certificate certificate forget done");
}

/* ---- a CA that means ill ---- */

#define ID    "\"identifiers\":[{\"type\":\"dns\",\"value\":\"" HOST "\"}]"
#define END   "\"finalize\":\"" BASE "/finalize\""
#define WAYS  "\"authorizations\":[\"" BASE "/authorization\"]"
#define A_ID  "\"identifier\":{\"type\":\"dns\",\"value\":\"" HOST "\"}"
#define A_URL "\"type\":\"http-01\",\"status\":\"pending\",\"url\":\"" BASE "/challenge/http-01\""

static const struct {
    const char *step, *json, *words;
} evils[] = {
    {"newOrder", "[]", "its order is no JSON object"},
    {"newOrder", "{}", "the status of its order is none"},
    {"newOrder", "{\"status\":7}", "the status of its order is none"},
    {"newOrder", "{\"status\":\"pending\"," END "," WAYS "}", "not have the one name"},
    {"newOrder", "{\"status\":\"pending\",\"identifiers\":[]," END "," WAYS "}", "the one name"},
    {"newOrder",
     "{\"status\":\"pending\",\"identifiers\":[{\"type\":\"dns\",\"value\":\"b.test\"}]," END
     "," WAYS "}",
     "its order is for \"b.test\", where www.a.test alone was asked for"},
    {"newOrder",
     "{\"status\":\"pending\",\"identifiers\":[{\"type\":\"dns\",\"value\":\"" HOST
     "\"},{\"type\":\"dns\",\"value\":\"b.test\"}]," END "," WAYS "}",
     "its order is for \"b.test\""},
    {"newOrder",
     "{\"status\":\"pending\",\"identifiers\":[{\"type\":\"dns\",\"value\":\"" HOST
     "\"},{\"type\":\"dns\",\"value\":\"" HOST "\"}]," END "," WAYS "}",
     "the one name"},
    {"newOrder",
     "{\"status\":\"pending\",\"identifiers\":[{\"type\":\"ip\",\"value\":\"" HOST "\"}]," END
     "," WAYS "}",
     "alone was asked for"},
    {"newOrder", "{\"status\":\"pending\"," ID "," WAYS "}", "(finalize) is not one of its own"},
    {"newOrder", "{\"status\":\"pending\"," ID ",\"finalize\":\"http://ca.test/\"," WAYS "}",
     "(finalize) is not one of its own (\"http://ca.test/\")"},
    {"newOrder", "{\"status\":\"pending\"," ID "," END "}", "its order has 0 authorizations"},
    {"newOrder", "{\"status\":\"pending\"," ID "," END ",\"authorizations\":[1,2,3,4,5,6,7,8,9]}",
     "its order has 9 authorizations"},
    {"newOrder", "{\"status\":\"pending\"," ID "," END ",\"authorizations\":[\"file:///etc\"]}",
     "authorization is not one of its own (\"file:///etc\")"},
    {"newOrder", "{\"status\":\"pending\"," ID "," END ",\"authorizations\":[{}]}", "its own"},
    {"newOrder", "{\"status\":\"processing\"," ID "}", "it is \"processing\", which cannot be now"},
    {"newOrder", "{\"status\":\"valid\"," ID ",\"certificate\":\"" BASE "/certificate/0\"}",
     "it is \"valid\", which cannot be now"},
    {"authorization", "{}", "the status of its authorization is none"},
    {"authorization", "{\"status\":\"ready\"," A_ID "}", "never \"ready\""},
    {"authorization", "{\"status\":\"pending\"}", "its authorization is for \"\""},
    {"authorization",
     "{\"status\":\"pending\",\"identifier\":{\"type\":\"dns\",\"value\":\"b.test\"}}",
     "its authorization is for \"b.test\""},
    {"authorization", "{\"status\":\"pending\"," A_ID "}", "no way to prove the name"},
    {"authorization", "{\"status\":\"pending\"," A_ID ",\"challenges\":[7,{},[]]}", "no way to"},
    {"authorization", "{\"status\":\"pending\"," A_ID ",\"challenges\":[{" A_URL "}]}",
     "the token of its http-01 challenge is none"},
    {"authorization",
     "{\"status\":\"pending\"," A_ID ",\"challenges\":[{" A_URL ",\"token\":\"../x\"}]}",
     "the token of its http-01 challenge is none"},
    {"authorization",
     "{\"status\":\"pending\"," A_ID ",\"challenges\":[{\"type\":\"http-01\",\"status\":"
     "\"pending\",\"url\":\"https://evil.test/\",\"token\":\"x\"}]}",
     "challenge is not one of its own (\"https://evil.test/\")"},
    {"authorization",
     "{\"status\":\"pending\"," A_ID ",\"challenges\":[{\"type\":\"http-01\",\"token\":\"x\"}]}",
     "the status of its challenge is none"},
    {"authorization", "{\"status\":\"deactivated\"," A_ID "}", "gave it up"},
    {"finalize", "{\"status\":\"valid\"," ID "}", "certificate is not one of its own"},
    {"finalize", "{\"status\":\"valid\"," ID ",\"certificate\":\"https://evil.test/\"}",
     "certificate is not one of its own"},
};

static void test_evil(void **state UNUSED)
{
    for (unsigned i = 0; i < ARRAY_LEN(evils); i++) {
        memset(&seen, 0, sizeof(seen));
        fake.odd_step = evils[i].step;
        fake.odd_json = evils[i].json;
        run(spec_of(HOST));
        bool ours = seen.fail.kind == ACME_BROKEN || seen.fail.kind == ACME_REFUSED;
        if (!ours || !strstr(seen.fail.text, evils[i].words))
            fail_msg("%s: expected \"%s\", not \"%s\"", evils[i].json, evils[i].words,
                     seen.fail.text);
        assert_int_equal(seen.url.n, 0); /* not to be resumed */
    }
}

static void test_no_location(void **state UNUSED)
{
    fake.no_location = true;
    run(spec_of(HOST));
    expect_failed(ACME_BROKEN, "where the new order is (Location)", "newOrder spent done");
}

/* ---- closed ---- */

static struct event end_check;

static void on_end_check(evutil_socket_t fd UNUSED, short what UNUSED, void *ctx UNUSED)
{
    static const struct timeval soon = {.tv_usec = 1000};
    if (seen.words < seen.close_after) {
        event_add(&end_check, &soon);
        return;
    }
    order_close(&seen.order);
    loop_stop();
}

/* After each word of a whole order: nothing is called any more, what was shown is hidden. */
static void test_closed(void **state UNUSED)
{
    fake.looks = 1; /* so that all of it takes some turns */
    for (unsigned at = 1; at < 12; at++) {
        memset(&seen, 0, sizeof(seen));
        struct order_spec spec = spec_of(HOST);
        seen.close_after = at;
        seen.order = order_start(&fake.ca, &spec, &ops, NULL);
        event_assign(&end_check, loop_base(), -1, 0, on_end_check, NULL);
        event_active(&end_check, EV_TIMEOUT, 0);
        loop_run();
        assert_null(seen.order);
        assert_null(fake.call);
        assert_int_equal(seen.shown, 0);
        assert_false(seen.done);
    }
    struct order_spec spec = spec_of(HOST);
    seen.order = order_start(&fake.ca, &spec, &ops, NULL);
    order_close(&seen.order);
    order_close(&seen.order);
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(straight),
        TEST(keys),
        TEST(slow),
        TEST(authorized_before),
        TEST(authorization_valid),
        TEST(wildcard),
        TEST(retry_after),
        TEST(next_challenge),
        TEST(all_fail),
        TEST(none_offered),
        TEST(not_shown),
        TEST(never_shown),
        TEST(told_too_late),
        TEST(network),
        TEST(network_gone),
        TEST(busy),
        TEST(stuck),
        TEST(not_ready),
        TEST(never_ready),
        TEST(order_invalid),
        TEST(not_saved),
        TEST(limited),
        TEST(replaces),
        TEST(renewal),
        TEST(resumed_renewal),
        TEST(profile),
        TEST(resumed),
        TEST(not_resumed),
        TEST(resumed_with_other_key),
        TEST(chains),
        TEST(bad_chain),
        TEST(evil),
        TEST(no_location),
        TEST(closed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
