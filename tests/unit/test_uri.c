/*
 * test_uri.c - request targets, file names and hosts: what is normalised to what, what is refused.
 */
#include "proxy/uri.h"

#include <setjmp.h>

#include <cmocka.h>

struct pair {
    const char *in, *out;
};

static struct arena *arena;

static int setup(void **state)
{
    (void)state;
    arena = arena_new(4096);
    return 0;
}
static int teardown(void **state)
{
    (void)state;
    arena_free(&arena);
    return 0;
}

static const char *text(struct str s)
{
    return arena_strz(arena, s);
}

static void test_normalises(void **state)
{
    (void)state;
    static const struct pair cases[] = {
        {"/", "/"},
        {"/a/b.html", "/a/b.html"},
        {"/a//b", "/a//b"},
        {"//a", "//a"},
        {"/%7Euser/%41%2d%2E%5f", "/~user/A-._"},
        {"/a%2fb", "/a%2Fb"},
        {"/a%2Fb%20c", "/a%2Fb%20c"},
        {"/%c3%a4", "/%C3%A4"},
        {"/\xc3\xa4", "/%C3%A4"},
        {"/a|b[c]^`{}\"<>", "/a%7Cb%5Bc%5D%5E%60%7B%7D%22%3C%3E"},
        {"/a;v=1,2@x:y!$&'()*+=", "/a;v=1,2@x:y!$&'()*+="},
        {"/./a", "/a"},
        {"/a/.", "/a/"},
        {"/a/./", "/a/"},
        {"/a/..", "/"},
        {"/a/../", "/"},
        {"/a/../b", "/b"},
        {"/a/b/c/./../../g", "/a/g"},
        {"/a/%2e%2e/b", "/b"},
        {"/a/.%2E/b/%2e/c", "/b/c"},
        {"/a//../b", "/a/b"},
        {"/a//..//b", "/a//b"},
        {"/...", "/..."},
        {"/.well-known/x", "/.well-known/x"},
        {"/.a/..b/c..", "/.a/..b/c.."},
        {"/%252e%252e/", "/%252e%252e/"},
        {"/%5c", "/%5C"},
        {"http://example.org", "/"},
        {"HTTP://Example.org:8080/x/../y", "/y"},
        {"https://example.org?q", "/"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct uri u;
        const char *err = uri_parse(arena, str_of(cases[i].in), &u);
        if (err)
            fail_msg("%s: %s", cases[i].in, err);
        assert_string_equal(text(u.path), cases[i].out);
        struct uri again;
        assert_null(uri_parse(arena, u.path, &again));
        assert_true(str_eq(u.path, again.path));
    }
}

static void test_refuses(void **state)
{
    (void)state;
    static const struct pair cases[] = {
        {"", "empty"},
        {"a", "neither"},
        {"ftp://x/", "neither"},
        {"http:/x", "neither"},
        {"http://", "no host"},
        {"http:///x", "no host"},
        {"http://u:p@example.org/", "userinfo"},
        {"/a b", "space"},
        {"/a\tb", "control"},
        {"/a\x7f", "control"},
        {"/a\\b", "backslash"},
        {"/a#b", "fragment"},
        {"/a?b#c", "fragment"},
        {"/a?b c", "space"},
        {"/a?\x01", "control"},
        {"/%", "hex"},
        {"/%4", "hex"},
        {"/%zz", "hex"},
        {"/%4g", "hex"},
        {"/%00", "control"},
        {"/%0d%0a", "control"},
        {"/%7f", "control"},
        {"/..", "above"},
        {"/../", "above"},
        {"/../a", "above"},
        {"/a/../../b", "above"},
        {"/%2e%2e/etc/passwd", "above"},
        {"/a/%2e%2E/.%2e/b", "above"},
        {"http://x/..", "above"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct uri u;
        const char *err = uri_parse(arena, str_of(cases[i].in), &u);
        if (!err || !strstr(err, cases[i].out))
            fail_msg("%s: %s", cases[i].in, err ? err : "accepted");
    }
    struct uri u;
    assert_non_null(uri_parse(arena, STR("/a\0b"), &u));
}

static void test_parts(void **state)
{
    (void)state;
    struct uri u;
    assert_null(uri_parse(arena, STR("/a?b=%zz&c=\\"), &u));
    assert_true(u.has_query);
    assert_string_equal(text(u.query), "b=%zz&c=\\");
    assert_null(uri_parse(arena, STR("/a?"), &u));
    assert_true(u.has_query);
    assert_int_equal(u.query.n, 0);
    assert_null(uri_parse(arena, STR("/a"), &u));
    assert_false(u.has_query);
    assert_int_equal(u.authority.n, 0);
    assert_null(uri_parse(arena, STR("HTTPS://Example.org:8443?x/y"), &u));
    assert_string_equal(text(u.scheme), "https");
    assert_string_equal(text(u.authority), "Example.org:8443");
    assert_string_equal(text(u.query), "x/y");
    assert_null(uri_parse(arena, STR("*"), &u));
    assert_true(u.asterisk);
    assert_non_null(uri_parse(arena, STR("*a"), &u));
    /* What needs no change is not copied. */
    struct str plain = STR("/static/app.js?v=1");
    assert_null(uri_parse(arena, plain, &u));
    assert_ptr_equal(u.path.p, plain.p);
}

static void test_file_path(void **state)
{
    (void)state;
    static const struct pair cases[] = {
        {"/", ""},
        {"/a%20b/c", "a b/c"},
        {"//a", "a"},
        {"a/b/", "a/b/"},
        {"/%C3%A4", "\xc3\xa4"},
        {"/%5C", "\\"},
        {"/%25", "%"},
        {"", ""},
    };
    struct str out;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_true(uri_file_path(arena, str_of(cases[i].in), &out));
        assert_string_equal(text(out), cases[i].out);
        assert_int_equal(out.p[out.n], '\0');
    }
    assert_false(uri_file_path(arena, STR("/a%2Fb"), &out));
    assert_false(uri_file_path(arena, STR("/a%00b"), &out));
    assert_false(uri_file_path(arena, STR("/a%"), &out));
}

static void test_host(void **state)
{
    (void)state;
    static const struct {
        const char *in, *host, *name;
        unsigned port;
    } cases[] = {
        {"example.org", "example.org", "example.org", 0},
        {"EXAMPLE.org:8443", "example.org", "example.org", 8443},
        {"example.org.", "example.org", "example.org", 0},
        {"example.org.:80", "example.org", "example.org", 80},
        {"example.org:", "example.org", "example.org", 0},
        {"localhost", "localhost", "localhost", 0},
        {"a_b.x-y", "a_b.x-y", "a_b.x-y", 0},
        {"127.0.0.1:65535", "127.0.0.1", "127.0.0.1", 65535},
        {"[::1]:8443", "[::1]", "::1", 8443},
        {"[2001:DB8:0:0:0:0:0:1]", "[2001:db8::1]", "2001:db8::1", 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct uri_host h;
        const char *err = uri_host_parse(arena, str_of(cases[i].in), &h);
        if (err)
            fail_msg("%s: %s", cases[i].in, err);
        assert_string_equal(text(h.host), cases[i].host);
        assert_string_equal(text(h.name), cases[i].name);
        assert_int_equal(h.port, cases[i].port);
    }
    static const char *const bad[] = {
        "",
        ".",
        "a..b",
        ".a",
        "a b",
        "a/b",
        "a%41",
        "user@a",
        "a:b",
        "a:0",
        "a:65536",
        "a:123456",
        "a:+80",
        "[::1",
        "[::1]80",
        "[]",
        "[::g]",
        "[1.2.3.4]",
        "a:80:90",
        "a\xc3\xa4",
        "a,b",
        "example.org..",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.org",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct uri_host h;
        if (!uri_host_parse(arena, str_of(bad[i]), &h))
            fail_msg("%s: accepted", bad[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_normalises, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refuses, setup, teardown),
        cmocka_unit_test_setup_teardown(test_parts, setup, teardown),
        cmocka_unit_test_setup_teardown(test_file_path, setup, teardown),
        cmocka_unit_test_setup_teardown(test_host, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
