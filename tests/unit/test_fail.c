/*
 * test_fail.c - failures with a CA: problem documents, harmless text, hints, Retry-After.
 */
#include "base/base.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "acme/fail.h"

static struct acme_fail problem(unsigned status, const char *json)
{
    struct acme_fail f;
    json_error_t e;
    json_t *j = json ? json_loads(json, 0, &e) : NULL;
    if (json && !j)
        fail_msg("%s: %s", json, e.text);
    acme_fail_problem(&f, "newOrder", status, j);
    json_decref(j);
    return f;
}

#define URN "urn:ietf:params:acme:error:"

static void problems(void **state UNUSED)
{
    static const struct {
        unsigned status;
        const char *json, *type, *text;
        enum acme_fail_kind kind;
    } cases[] = {
        {403, "{\"type\":\"" URN "rejectedIdentifier\",\"detail\":\"no such TLD\"}",
         "rejectedIdentifier", "the CA says: no such TLD", ACME_REFUSED},
        {429, "{\"type\":\"" URN "rateLimited\",\"detail\":\"too many\"}", "rateLimited",
         "the CA says: too many", ACME_LIMITED},
        {503, "{\"type\":\"" URN "rateLimited\",\"detail\":\"busy\"}", "rateLimited",
         "the CA says: busy", ACME_BUSY},
        {429, "{\"title\":\"slow down\"}", "", "the CA says: slow down", ACME_BUSY},
        {500, NULL, "", "the CA answered with status 500", ACME_BUSY},
        {404, NULL, "", "the CA answered with status 404", ACME_REFUSED},
        {400, "{\"type\":\"" URN "accountDoesNotExist\"}", "accountDoesNotExist",
         "the CA says: " URN "accountDoesNotExist", ACME_ACCOUNT},
        {403,
         "{\"type\":\"" URN "userActionRequired\",\"detail\":\"new terms\","
         "\"instance\":\"https://ca.test/agree\"}",
         "userActionRequired", "the CA says: new terms (see https://ca.test/agree)", ACME_ACCOUNT},
        {400,
         "{\"type\":\"" URN "compound\",\"detail\":\"two\",\"subproblems\":["
         "{\"detail\":\"x\",\"identifier\":{\"type\":\"dns\",\"value\":\"a.b\"}},{\"detail\":\"y\"}"
         "]}",
         "compound", "the CA says: two; a.b: x; y", ACME_REFUSED},
        {400, "{\"type\":\"about:blank\",\"detail\":7}", "", "the CA says: about:blank",
         ACME_REFUSED},
        {400, "{\"type\":[],\"subproblems\":{},\"instance\":1}", "",
         "the CA answered with status 400", ACME_REFUSED},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct acme_fail f = problem(cases[i].status, cases[i].json);
        assert_int_equal(f.kind, cases[i].kind);
        assert_int_equal(f.status, cases[i].status);
        assert_string_equal(f.type, cases[i].type);
        assert_string_equal(f.text, cases[i].text);
        assert_string_equal(f.step, "newOrder");
    }
}

/* What a CA says cannot write on a terminal, break a line or run over. */
static void harmless(void **state UNUSED)
{
    struct acme_fail f;
    char big[5000];
    acme_fail_set(&f, ACME_REFUSED, "a step whose name is longer than there is room for it",
                  "a\nb\x1b[31m\x7f\xc2\x9b\xff\xc3\xa4%s", "!");
    assert_string_equal(f.text, "a b [31m  ?\xc3\xa4!");
    assert_int_equal(strlen(f.step), sizeof f.step - 1);
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    acme_fail_set(&f, ACME_REFUSED, "s", "%s", big);
    assert_int_equal(strlen(f.text), sizeof f.text - 1);
    /* A character that does not fit any more is left out whole. */
    for (size_t i = 0; i + 3 < sizeof big; i += 3)
        memcpy(big + i, "\xe2\x82\xac", 3);
    acme_fail_set(&f, ACME_REFUSED, "s", "x%s", big);
    assert_int_equal(strlen(f.text) % 3, 1);
    char *json = NULL;
    assert_true(asprintf(&json, "{\"type\":\"" URN "%s\",\"detail\":\"%s\"}", big, big) > 0);
    f = problem(400, json);
    assert_true(strlen(f.type) < sizeof f.type && strlen(f.text) < sizeof f.text);
    free(json);
    assert_int_equal(f.kind, ACME_REFUSED);
}

static void hints(void **state UNUSED)
{
    assert_non_null(strstr(acme_hint("connection", "http-01"), "port 80"));
    assert_non_null(strstr(acme_hint("connection", "tls-alpn-01"), "port 443"));
    assert_non_null(acme_hint("connection", NULL));
    assert_non_null(strstr(acme_hint("caa", "dns-01"), "CAA"));
    assert_non_null(strstr(acme_hint("externalAccountRequired", NULL), "acme.eab"));
    assert_null(acme_hint("unauthorized", NULL));
    assert_null(acme_hint("", NULL));
    assert_null(acme_hint("malformed", "http-01"));
    assert_ptr_equal(problem(400, "{\"type\":\"" URN "caa\"}").hint, acme_hint("caa", NULL));
}

static void retry_after(void **state UNUSED)
{
    const int64_t now = 784111777; /* Sun, 06 Nov 1994 08:49:37 GMT */
    static const struct {
        const char *text;
        int64_t after; /* 0: none */
    } cases[] = {
        {"120", 120},
        {" 7 ", 7},
        {"0", 1},
        {"99999999999", 7 * 86400},
        {"99999999999999999999999", 0},
        {"", 0},
        {"-1", 0},
        {"1.5", 0},
        {"soon", 0},
        {"Sun, 06 Nov 1994 08:50:37 GMT", 60},
        {"Sunday, 06-Nov-94 08:50:37 GMT", 60},
        {"Sun Nov  6 08:50:37 1994", 60},
        {"Sun, 06 Nov 1994 08:49:30 GMT", 1},
        {"Sun, 06 Nov 2094 08:49:37 GMT", 7 * 86400},
        {"Sun, 06 Nov 1994 08:50:37 GMT, and so on", 0},
        {"Sun, 06 Nov 1994 08:50:37 GMT                                                      .", 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int64_t want = cases[i].after ? now + cases[i].after : 0;
        if (acme_retry_after(str_of(cases[i].text), now) != want)
            fail_msg("\"%s\" is read as %ld", cases[i].text,
                     (long)(acme_retry_after(str_of(cases[i].text), now) - now));
    }
    assert_int_equal(acme_retry_after(STR_NULL, now), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(problems),
        cmocka_unit_test(harmless),
        cmocka_unit_test(hints),
        cmocka_unit_test(retry_after),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
