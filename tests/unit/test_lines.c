/*
 * test_lines.c - the last lines of services: what stays, in which order, and how much of it at
 * once.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs the four above first */
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "channels/lines.h"

#define ALL SIZE_MAX

static struct kept_lines api, web;
static struct kept_lines *const both[] = {&api, &web};

static int clean(void **state)
{
    (void)state;
    lines_fini(&api);
    lines_fini(&web);
    return 0;
}

static void add(struct kept_lines *l, const char *text)
{
    const struct line *line =
        lines_add(l, l == &api ? "c/api" : "c/web", 1, "stdout", str_of(text));
    assert_true(str_eq((struct str){line->text, line->n}, str_of(text)));
}

static void add_numbered(struct kept_lines *l, unsigned from, unsigned to, size_t bytes)
{
    char *text = calloc(1, bytes + 1);
    for (unsigned i = from; i < to; i++) {
        memset(text, 'x', bytes);
        const int n = snprintf(text, bytes + 1, "%u ", i);
        text[n] = 'x';
        add(l, text);
    }
    free(text);
}

/* The last ones, each cut at its first blank, with one between them. */
static const char *last(unsigned n_of, unsigned n, size_t bytes)
{
    static char mem[4096];
    const struct line **v;
    struct out o = out_on(mem, sizeof(mem) - 1);
    const unsigned got = lines_last(both, n_of, n, bytes, &v);
    for (unsigned i = 0; i < got; i++) {
        const struct str text = {v[i]->text, v[i]->n};
        if (i)
            out_char(&o, ' ');
        out_str(&o, str_sub(text, 0, str_chr(text, ' ')));
        if (i)
            assert_true(v[i]->seq > v[i - 1]->seq && v[i]->at_ms >= v[i - 1]->at_ms);
    }
    free(v);
    assert_false(o.over);
    mem[o.n] = '\0';
    return mem;
}

static void test_order(void **state)
{
    (void)state;
    assert_string_equal(last(2, 10, ALL), "");
    add(&api, "a1");
    add(&web, "w1");
    add(&web, "w2");
    add(&api, "a2");
    add(&web, "");
    assert_string_equal(last(1, 10, ALL), "a1 a2");
    assert_string_equal(last(2, 10, ALL), "a1 w1 w2 a2 ");
    assert_string_equal(last(2, 3, ALL), "w2 a2 ");
    assert_string_equal(last(2, 0, ALL), "");
    assert_string_equal(last(0, 10, ALL), "");
}

static void test_bytes_asked_for(void **state)
{
    (void)state;
    add(&api, "aaaa");
    add(&web, "bbb");
    add(&api, "cc");
    assert_string_equal(last(2, 10, 9), "aaaa bbb cc");
    assert_string_equal(last(2, 10, 8), "bbb cc");
    assert_string_equal(last(2, 10, 4),
                        "cc"); /* no gap: what is behind the first that does not fit stays out */
    assert_string_equal(last(2, 10, 1), "");
}

/* The oldest go first, when there are too many lines or too many bytes; another service's stay. */
static void test_bounds(void **state)
{
    (void)state;
    const struct line **v;
    add(&web, "untouched");
    add_numbered(&api, 0, KEPT_MAX + 50, 8);
    assert_int_equal(api.n, KEPT_MAX);
    assert_int_equal(api.bytes, 8 * KEPT_MAX);
    assert_int_equal(lines_last(both, 1, UINT32_MAX, ALL, &v), KEPT_MAX);
    assert_memory_equal(v[0]->text, "50 ", 3);
    free(v);

    add_numbered(&api, 5000, 5400, 1000);
    assert_true(api.bytes <= KEPT_BYTES && api.bytes > KEPT_BYTES - 1000);
    assert_int_equal(api.n, KEPT_BYTES / 1000);
    assert_string_equal(last(1, 2, ALL), "5398 5399");
    assert_int_equal(web.n, 1);
}

static void test_one_that_is_all(void **state)
{
    (void)state;
    add_numbered(&api, 0, 3, 10);
    add_numbered(&api, 3, 4, KEPT_BYTES);
    assert_int_equal(api.n, 1);
    assert_string_equal(last(1, 10, ALL), "3");
    add(&api, "4");
    assert_string_equal(last(1, 10, ALL), "4");
    assert_int_equal(api.bytes, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_order, clean),
        cmocka_unit_test_teardown(test_bytes_asked_for, clean),
        cmocka_unit_test_teardown(test_bounds, clean),
        cmocka_unit_test_teardown(test_one_that_is_all, clean),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
