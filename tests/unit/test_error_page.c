/*
 * test_error_page.c - which form an error takes by Accept, and that nothing of the request gets
 * into the page unescaped.
 */
#include "proxy/error_page.h"

#include <setjmp.h>

#include <cmocka.h>
#include <jansson.h>

static void test_accept(void **state)
{
    (void)state;
    static const struct {
        const char *accept;
        bool json;
    } cases[] = {
        {"", false},
        {"*/*", false},
        {"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", false},
        {"application/json", true},
        {"Application/JSON", true},
        {"application/json, text/plain, */*", true},
        {"application/problem+json", true},
        {"application/vnd.api+json, */*;q=0.1", true},
        {"text/html;q=0.9, application/json", true},
        {"text/html, application/json;q=0.9", false},
        {"text/html;q=0, */*", true},
        {"application/json;q=0, */*", false},
        {"application/json;q=0", false},
        {"text/html, application/json", false},
        {"application/json, text/html", true},
        {"text/*, application/json;q=0.5", false},
        {"application/*;q=0.9, text/*;q=0.3", true},
        {"application/json;charset=utf-8;q=0.5, text/html;q=0.4", true},
        {"application/json;q=1.5", true}, /* MIN(…): not understood is not refused */
        {"application/json;q=abc, text/html;q=0.1", false},
        {"image/png", false},
        {",,;;=,", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        if (error_page_prefers_json(str_of(cases[i].accept)) != cases[i].json)
            fail_msg("Accept: %s", cases[i].accept);
}

static void test_html(void **state)
{
    (void)state;
    struct arena *a = arena_new(4096);
    struct fields f = {0};
    struct str body;
    fields_add(a, &f, STR("retry-after"), STR("5"));
    error_page_make(a, 503, STR("text/html"), STR("0123456789abcdef"), STR("<script>\"x'&"), &f,
                    &body);
    const char *page = arena_strz(a, body);
    assert_non_null(strstr(page, "503"));
    assert_non_null(strstr(page, "Service Unavailable"));
    assert_non_null(strstr(page, "0123456789abcdef"));
    assert_non_null(strstr(page, "try again"));
    assert_null(strstr(page, "<script"));
    assert_null(strstr(page, "http"));
    assert_string_equal(arena_strz(a, fields_get(&f, FIELD_content_type)->value),
                        "text/html; charset=utf-8");
    assert_string_equal(arena_strz(a, fields_get(&f, FIELD_cache_control)->value), "no-store");
    assert_string_equal(arena_strz(a, fields_get(&f, FIELD_retry_after)->value), "5");
    arena_free(&a);
}

static void test_json(void **state)
{
    (void)state;
    struct arena *a = arena_new(4096);
    struct fields f = {0};
    struct str body;
    error_page_make(a, 404, STR("application/json"), STR("ab\"c"), STR("x"), &f, &body);
    json_t *j = json_loadb(body.p, body.n, 0, NULL);
    assert_non_null(j);
    assert_int_equal(json_integer_value(json_object_get(j, "status")), 404);
    assert_string_equal(json_string_value(json_object_get(j, "error")), "Not Found");
    assert_string_equal(json_string_value(json_object_get(j, "request_id")), "ab\"c");
    json_decref(j);
    assert_string_equal(arena_strz(a, fields_get(&f, FIELD_content_type)->value),
                        "application/json");
    arena_free(&a);
}

/* Whatever the status and however long the host: always a page, never an assertion. */
static void test_all_statuses(void **state)
{
    (void)state;
    static char worst[4096];
    memset(worst, '"', sizeof(worst));
    for (unsigned status = 400; status < 600; status++) {
        struct arena *a = arena_new(4096);
        struct fields f = {0};
        struct str body;
        struct str s = {worst, sizeof(worst)};
        error_page_make(a, status, STR(""), s, s, &f, &body);
        assert_true(body.n > 0);
        error_page_make(a, status, STR("application/json"), s, s, &f, &body);
        assert_true(body.n > 0);
        arena_free(&a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accept),
        cmocka_unit_test(test_html),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_all_statuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
