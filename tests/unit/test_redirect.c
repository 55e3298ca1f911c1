/*
 * test_redirect.c - the redirect and respond handlers: Locations that name no foreign host, and
 * types by the body's looks.
 */
#include "fake_req.h"

#include "proxy/redirect.h"

static int group_setup(void **state)
{
    (void)state;
    loop_init();
    fake.route.path = STR("/old/");
    fake.route.prefix = true;
    return 0;
}

static int group_teardown(void **state)
{
    (void)state;
    fake_end();
    return 0;
}

static void test_redirect(void **state)
{
    (void)state;
    static const struct {
        const char *target, *path, *query, *location;
    } cases[] = {
        {"/new/", "/old/", NULL, "/new/"},
        {"/new/", "/old/a/b", NULL, "/new/a/b"},
        {"/new/", "/old/a", "x=1", "/new/a?x=1"},
        {"/new/", "/old/a", "", "/new/a?"},
        {"/new", "/old/a", "x=1", "/new?x=1"},
        {"/new/?y=2", "/old/a", "x=1", "/new/?y=2&x=1"},
        {"/new/#part", "/old/a", "x=1", "/new/a?x=1#part"},
        {"https://example.org/", "/old/a", "x", "https://example.org/a?x"},
        {"/", "/old//evil.example", NULL, "/evil.example"},
        {"/", "/old///evil.example/", NULL, "/evil.example/"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        fake.route.target = str_of(cases[i].target);
        fake_begin(METHOD_GET, cases[i].path, cases[i].query);
        fake_run(&redirect_handler);
        assert_int_equal(fake.r.answer.status, 308);
        assert_string_equal(fake_answer("location"), cases[i].location);
        assert_true(fake.head_ended);
    }
    fake.route.status = 302;
    fake_begin(METHOD_POST, "/old/", NULL);
    fake_run(&redirect_handler);
    assert_int_equal(fake.r.answer.status, 302);
    fake.route.status = 0;
}

static void test_locations(void **state)
{
    (void)state;
    struct req *r = fake_begin(METHOD_GET, "//evil.example", "q");
    assert_string_equal(arena_strz(r->arena, redirect_add_slash(r)), "/evil.example/?q");
    r = fake_begin(METHOD_GET, "/a", NULL);
    assert_string_equal(
        arena_strz(r->arena, redirect_absolute(r, STR("https"), STR("x.org"), 8443)),
        "https://x.org:8443/a");
    assert_string_equal(arena_strz(r->arena, redirect_absolute(r, STR("https"), STR("x.org"), 443)),
                        "https://x.org/a");
    assert_string_equal(arena_strz(r->arena, redirect_absolute(r, STR("https"), STR("::1"), 8443)),
                        "https://[::1]:8443/a");
    assert_string_equal(
        arena_strz(r->arena, redirect_absolute(r, STR("https"), STR("[::1]"), 8443)),
        "https://[::1]:8443/a");
    r = fake_begin(METHOD_GET, "*", NULL);
    assert_string_equal(arena_strz(r->arena, redirect_absolute(r, STR("http"), STR("x.org"), 80)),
                        "http://x.org/");
}

static void test_respond(void **state)
{
    (void)state;
    static const struct {
        const char *body, *type;
    } cases[] = {
        {"ok", "text/plain; charset=utf-8"},
        {"{\"a\": 1}\n", "application/json"},
        {" [1, 2]", "application/json"},
        {"{not json", "text/plain; charset=utf-8"},
        {"<!DOCTYPE html><p>x", "text/html; charset=utf-8"},
        {"\n<HTML>", "text/html; charset=utf-8"},
        {"<svg>", "text/plain; charset=utf-8"},
        {" ", "text/plain; charset=utf-8"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        fake.route.body = str_of(cases[i].body);
        fake_begin(METHOD_POST, "/old/", NULL);
        fake_run(&respond_handler);
        assert_int_equal(fake.r.answer.status, 200);
        assert_string_equal(fake.body, cases[i].body);
        assert_string_equal(fake_answer("content-type"), cases[i].type);
    }
    fake.route.body = STR("");
    fake.route.status = 410;
    fake_begin(METHOD_GET, "/old/", NULL);
    fake_run(&respond_handler);
    assert_int_equal(fake.r.answer.status, 410);
    assert_true(fake.ended);
    fake.route.body = STR("gone");
    fake_begin(METHOD_HEAD, "/old/", NULL);
    fake_run(&respond_handler);
    assert_int_equal(fake.r.answer.length, 4);
    assert_int_equal(fake.n, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_redirect),
        cmocka_unit_test(test_locations),
        cmocka_unit_test(test_respond),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
