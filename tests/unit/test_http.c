/*
 * test_http.c - the vocabulary of HTTP: names to tokens and back, lists, the growing field array.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "proxy/http.h"

static void methods(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        enum http_method method;
        bool idempotent;
    } cases[] = {
        {"GET", METHOD_GET, true},         {"HEAD", METHOD_HEAD, true},
        {"POST", METHOD_POST, false},      {"PUT", METHOD_PUT, true},
        {"DELETE", METHOD_DELETE, true},   {"CONNECT", METHOD_CONNECT, false},
        {"OPTIONS", METHOD_OPTIONS, true}, {"TRACE", METHOD_TRACE, true},
        {"PATCH", METHOD_PATCH, false},    {"get", METHOD_OTHER, false},
        {"GETS", METHOD_OTHER, false},     {"GE", METHOD_OTHER, false},
        {"", METHOD_OTHER, false},         {"PROPFIND", METHOD_OTHER, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        enum http_method m = http_method_of(str_of(cases[i].name));
        assert_int_equal(m, cases[i].method);
        assert_int_equal(http_method_idempotent(m), cases[i].idempotent);
    }
}

/* Every name finds its token; whatever is changed in it does not. */
static void tokens(void **state)
{
    (void)state;
    char text[64];
    for (unsigned t = 1; t < FIELD_COUNT; t++) {
        struct str name = field_name((enum field_token)t);
        assert_in_range(name.n, 1, sizeof(text) - 1);
        assert_int_equal(field_token_of(name), t);
        memcpy(text, name.p, name.n);
        text[name.n] = 'x';
        assert_int_not_equal(field_token_of((struct str){text, name.n + 1}), t);
        assert_int_not_equal(field_token_of((struct str){text, name.n - 1}), t);
        for (size_t i = 0; i < name.n; i++) {
            text[i] ^= 0x20; /* upper case, or another byte */
            assert_int_not_equal(field_token_of((struct str){text, name.n}), t);
            text[i] ^= 0x20;
        }
    }
    assert_int_equal(field_token_of(STR("")), FIELD_OTHER);
    assert_int_equal(field_token_of(STR("grpc-status")), FIELD_OTHER);
    assert_int_equal(field_token_of(STR("Host")), FIELD_OTHER); /* lower case is the contract */
    assert_int_equal(field_name(FIELD_OTHER).n, 0);
}

static void tchars(void **state)
{
    (void)state;
    static const char marks[] = "!#$%&'*+-.^_`|~";
    for (unsigned c = 0; c < 256; c++) {
        bool upper = c >= 'A' && c <= 'Z';
        bool want = upper || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
                    (c != 0 && c < 0x80 && strchr(marks, (int)c));
        assert_int_equal(http_is_tchar((unsigned char)c), want);
        assert_int_equal(http_tchar_lower[c], want ? (upper ? c | 0x20 : c) : 0);
    }
}

static void lists(void **state)
{
    (void)state;
    static const struct {
        const char *list, *token;
        bool has;
    } cases[] = {
        {"close", "close", true},
        {"Close", "close", true},
        {"keep-alive, close", "CLOSE", true},
        {"a,b,c", "b", true},
        {" a ,\tb\t, c", "b", true},
        {",,a,,", "a", true},
        {"closed", "close", false},
        {"clos", "close", false},
        {"", "close", false},
        {"a b", "a", false},
        {",,", "", false},
        {"a;q=1, b", "b", true},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_int_equal(http_list_has(str_of(cases[i].list), str_of(cases[i].token)),
                         cases[i].has);
}

static void field_arrays(void **state)
{
    (void)state;
    struct arena *a = arena_new(1024);
    struct fields f = {0};
    assert_null(fields_get(&f, FIELD_host));
    for (unsigned i = 0; i < 100; i++)
        fields_add(a, &f, arena_fmt(a, "x-%u", i), arena_fmt(a, "value %u", i));
    fields_add(a, &f, STR("host"), STR("first"));
    fields_add_token(a, &f, FIELD_host, STR("second"));
    assert_int_equal(f.n, 102);
    assert_true(f.cap >= f.n);
    for (unsigned i = 0; i < 100; i++) {
        assert_true(str_eq(f.v[i].name, arena_fmt(a, "x-%u", i)));
        assert_true(str_eq(f.v[i].value, arena_fmt(a, "value %u", i)));
        assert_int_equal(f.v[i].token, FIELD_OTHER);
        assert_int_equal(f.v[i].flags, 0);
    }
    assert_true(str_eq(fields_get(&f, FIELD_host)->value, STR("first")));
    assert_true(str_eq(f.v[101].name, STR("host")));
    arena_free(&a);
}

static void reasons(void **state)
{
    (void)state;
    assert_true(str_eq(http_reason(200), STR("OK")));
    assert_true(str_eq(http_reason(404), STR("Not Found")));
    assert_true(str_eq(http_reason(431), STR("Request Header Fields Too Large")));
    assert_true(str_eq(http_reason(599), STR("")));
    assert_true(str_eq(http_reason(0), STR("")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(methods), cmocka_unit_test(tokens),       cmocka_unit_test(tchars),
        cmocka_unit_test(lists),   cmocka_unit_test(field_arrays), cmocka_unit_test(reasons),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
