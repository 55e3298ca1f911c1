/*
 * test_cli_certs.c - `headgate certs` as people see it: what the server says of hosts and CAs, by
 * data. Times are told against a fixed moment, in UTC.
 */
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <time.h>

#include "proxy/cli.h"

#define NOW 1796000000 /* 2026-11-30 00:53:20 UTC */

static struct arena *arena;

static const char *printed(const char *json, const char *only, bool *any)
{
    json_error_t e;
    char *text = NULL;
    size_t n = 0;
    json_t *j = json_loads(json, 0, &e);
    if (!j)
        fail_msg("%s: %s", e.text, json);
    FILE *f = open_memstream(&text, &n);
    assert_non_null(f);
    bool shown = cli_print_certs(j, only, NOW, false, f);
    if (any)
        *any = shown;
    assert_int_equal(fclose(f), 0);
    const char *copy = arena_strz(arena, (struct str){text, n});
    free(text);
    json_decref(j);
    return copy;
}

static void test_print(void **state)
{
    (void)state;
    static const struct {
        const char *json, *want;
    } cases[] = {
        {"{}", "No host gets its certificate by ACME.\n"},
        /* all is well: one line of history */
        {"{\"hosts\":[{\"host\":\"www.example.org\",\"issuer\":\"letsencrypt\",\"state\":"
         "\"served\",\"serving\":true,\"not_before\":1795000000,\"not_after\":1801184000,"
         "\"next\":{\"at\":1798592000,\"what\":\"renewal\"},\"failures\":0,\"error\":null,"
         "\"ari\":{\"start\":1798500000,\"end\":1798600000,\"url\":\"https://ca.example/why\"},"
         "\"preflight\":\"\",\"history\":[{\"at\":1794000000,\"what\":\"order\",\"ok\":false,"
         "\"text\":\"no\"},{\"at\":1795000000,\"what\":\"order\",\"ok\":true,\"text\":\"\"}]}]}",
         "www.example.org  served\n"
         "  issuer    letsencrypt\n"
         "  ends      in 60 days (2027-01-29 00:53:20), begun 2026-11-18 11:06:40\n"
         "  next      renewal in 30 days (2026-12-30 00:53:20)\n"
         "  CA says   renew between 2026-12-28 23:20:00 and 2026-12-30 03:06:40: "
         "https://ca.example/why\n"
         "  history   2026-11-18 11:06:40  order\n"
         "            … and 1 more: headgate certs show www.example.org\n"},
        /* why no certificate? */
        {"{\"hosts\":[{\"host\":\"beta.example.org\",\"issuer\":\"\",\"state\":\"waiting\","
         "\"serving\":false,\"not_before\":0,\"not_after\":0,\"next\":{\"at\":1796000720,"
         "\"what\":\"an order at letsencrypt-staging\"},\"failures\":3,\"error\":{\"at\":"
         "1795999999,\"text\":\"dns: no such name\",\"hint\":\"make an A record\",\"ca\":"
         "\"letsencrypt\"},\"ari\":null,\"preflight\":\"it resolves elsewhere;\\nno IPv6\","
         "\"history\":[{\"at\":1795999999,\"what\":\"http-01\",\"ok\":false,\"text\":"
         "\"dns\\nmore\"}]}],\"cas\":[{\"name\":\"letsencrypt\",\"directory\":"
         "\"https://ca.example/dir\",\"account\":\"\",\"paused_until\":1796003600,\"problem\":"
         "\"busy\",\"limits\":[{\"what\":\"orders\",\"used\":300,\"limit\":300,\"until\":"
         "1796000060},{\"what\":\"failures\",\"used\":3,\"limit\":5,\"until\":0}]}],"
         "\"certificates\":[{\"host\":\"beta.example.org\",\"failures\":3},{\"host\":"
         "\"www.localhost\",\"issuer\":\"local\",\"not_after\":1796604800},{\"file\":"
         "\"/etc/x.pem\",\"issuer\":\"given\"}]}",
         "beta.example.org  no certificate yet\n"
         "  next      an order at letsencrypt-staging in 12 minutes (2026-11-30 01:05:20)\n"
         "  looks     it resolves elsewhere;\n"
         "            no IPv6\n"
         "  failed    3 times in a row, last now (2026-11-30 00:53:19) at letsencrypt\n"
         "  why       dns: no such name\n"
         "  cure      make an A record\n"
         "  history   2026-11-30 00:53:19  failed http-01: dns…\n"
         "\n"
         "letsencrypt  https://ca.example/dir\n"
         "  account   none yet\n"
         "  paused    nothing is asked of it before in 1 hour (2026-11-30 01:53:20)\n"
         "  problem   busy\n"
         "  limits    orders: 300 of 300 used, the next one in 1 minute (2026-11-30 00:54:20)\n"
         "            failures: 3 of 5 used\n"
         "\n"
         "given, and of the local CA\n"
         "  www.localhost                   local   ends in 7 days (2026-12-07 00:53:20)\n"
         "  /etc/x.pem                      given\n"},
        {"{\"hosts\":[{\"host\":\"a\",\"issuer\":\"ca\",\"state\":\"working\",\"serving\":true,"
         "\"not_before\":1788000000,\"not_after\":1795900000,\"failures\":0,\"history\":[]},"
         "{\"host\":\"b\",\"issuer\":\"ca\",\"state\":\"waiting\",\"serving\":true,"
         "\"not_before\":1788000000,\"not_after\":1796100000,\"failures\":1}]}",
         "a  the certificate has expired, an order is under way\n"
         "  issuer    ca\n"
         "  ended     1 day ago (2026-11-28 21:06:40), begun 2026-08-29 10:40:00\n"
         "\n"
         "b  served, its renewal failed\n"
         "  issuer    ca\n"
         "  ends      in 1 day (2026-12-01 04:40:00), begun 2026-08-29 10:40:00  soon\n"},
        /* a limit: that is no failure */
        {"{\"hosts\":[{\"host\":\"a\",\"issuer\":\"ca\",\"state\":\"waiting\",\"serving\":true,"
         "\"not_after\":1798592000,\"failures\":0,\"error\":{\"at\":1795999999,\"text\":"
         "\"300 orders\",\"hint\":\"\",\"ca\":\"ca\"},\"history\":[{\"at\":1795999999,\"what\":"
         "\"waits\",\"ok\":false,\"text\":\"300 orders\"}]}]}",
         "a  served, its renewal waits\n"
         "  issuer    ca\n"
         "  ends      in 30 days (2026-12-30 00:53:20)\n"
         "  waits     now (2026-11-30 00:53:19) at ca\n"
         "  why       300 orders\n"
         "  history   2026-11-30 00:53:19  waits: 300 orders\n"},
        /* nothing of the expected types */
        {"{\"hosts\":[7,{}],\"cas\":[{\"limits\":{}}],\"certificates\":7}",
         "  no certificate yet\n\n  no certificate yet\n\n\n  account   none yet\n"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_string_equal(printed(cases[i].json, NULL, NULL), cases[i].want);
}

static void test_one_host(void **state)
{
    (void)state;
    static const char json[] =
        "{\"hosts\":[{\"host\":\"a\",\"state\":\"served\",\"serving\":true,\"history\":["
        "{\"at\":1795000000,\"what\":\"order\",\"ok\":false,\"text\":\"no\"},"
        "{\"at\":1795000060,\"what\":\"order\",\"ok\":true}]},{\"host\":\"b\"}],"
        "\"cas\":[{\"name\":\"ca\"}]}";
    bool any = false;
    assert_string_equal(printed(json, "a", &any), "a  served\n"
                                                  "  history   2026-11-18 11:07:40  order\n"
                                                  "            2026-11-18 11:06:40  failed "
                                                  "order: no\n");
    assert_true(any);
    assert_string_equal(printed(json, "c", &any), "");
    assert_false(any);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_print),
                                       cmocka_unit_test(test_one_host)};
    setenv("TZ", "UTC", 1);
    tzset();
    arena = arena_new(16 * 1024);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    arena_free(&arena);
    return failed;
}
