/*
 * test_files_cond.c - dates, preconditions and ranges.
 */
#include "proxy/files_cond.h"

#include <setjmp.h>

#include <cmocka.h>

#define MTIME 784111777 /* Sun, 06 Nov 1994 08:49:37 GMT */
#define NOW   (MTIME + 100)

static void test_dates(void **state)
{
    (void)state;
    char buf[HTTP_DATE_MAX];
    int64_t t;
    assert_true(str_eq(http_date_format(buf, MTIME), STR("Sun, 06 Nov 1994 08:49:37 GMT")));
    assert_true(str_eq(http_date_format(buf, 0), STR("Thu, 01 Jan 1970 00:00:00 GMT")));
    assert_true(str_eq(http_date_format(buf, -5), STR("Thu, 01 Jan 1970 00:00:00 GMT")));
    assert_true(str_eq(http_date_format(buf, INT64_MAX), STR("Fri, 31 Dec 9999 23:59:59 GMT")));
    static const char *const good[] = {"Sun, 06 Nov 1994 08:49:37 GMT",
                                       "Sunday, 06-Nov-94 08:49:37 GMT",
                                       "Sun Nov  6 08:49:37 1994"};
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_true(http_date_parse(str_of(good[i]), &t));
        assert_int_equal(t, MTIME);
    }
    assert_true(http_date_parse(STR("Thu, 29 Feb 2024 12:00:00 GMT"), &t));
    assert_int_equal(t, 1709208000);
    static const char *const bad[] = {
        "",
        "Sun",
        "Sun,",
        "Sun, ",
        "Sun, 06 Nov 1994",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49:37 CET",
        "Sun, 06 Nov 1994 08:49:37 GMT ",
        "Sun, 06 Xyz 1994 08:49:37 GMT",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 24:49:37 GMT",
        "Sun, 00 Nov 1994 08:49:37 GMT",
        "Sun, 06-Nov-1994 08:49:37 GMT",
        "784111777",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (http_date_parse(str_of(bad[i]), &t))
            fail_msg("%s: accepted", bad[i]);
}

struct row {
    enum field_token t;
    const char *value;
    enum field_token t2;
    const char *value2;
    enum files_verdict verdict;
    uint64_t from, n;
};

static void judge(enum http_method method, const struct row *row, uint64_t size)
{
    struct arena *a = arena_new(1024);
    struct fields f = {0};
    const struct files_validators v = {.etag = STR("\"e-1\""), .mtime = MTIME, .size = size};
    struct files_range range;
    fields_add_token(a, &f, row->t, str_of(row->value));
    if (row->value2)
        fields_add_token(a, &f, row->t2, str_of(row->value2));
    enum files_verdict got = files_judge(&f, method, &v, NOW, &range);
    if (got != row->verdict)
        fail_msg("%s, %s: %d instead of %d", row->value, row->value2 ? row->value2 : "-", (int)got,
                 (int)row->verdict);
    if (got == FILES_PART && (range.from != row->from || range.n != row->n))
        fail_msg("%s: from %d, %d bytes", row->value, (int)range.from, (int)range.n);
    if (got == FILES_WHOLE)
        assert_true(range.from == 0 && range.n == size);
    arena_free(&a);
}

#define SAME  "Sun, 06 Nov 1994 08:49:37 GMT"
#define OLDER "Sun, 06 Nov 1994 08:49:36 GMT"
#define NEWER "Sun, 06 Nov 1994 08:49:38 GMT"

static void test_preconditions(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {FIELD_if_none_match, "\"e-1\"", 0, NULL, FILES_NOT_MODIFIED, 0, 0},
        {FIELD_if_none_match, "W/\"e-1\"", 0, NULL, FILES_NOT_MODIFIED, 0, 0},
        {FIELD_if_none_match, "*", 0, NULL, FILES_NOT_MODIFIED, 0, 0},
        {FIELD_if_none_match, "\"x\", \"a,\", ,W/\"e-1\"", 0, NULL, FILES_NOT_MODIFIED, 0, 0},
        {FIELD_if_none_match, "\"x\"", 0, NULL, FILES_WHOLE, 0, 0},
        {FIELD_if_none_match, "e-1", 0, NULL, FILES_WHOLE, 0, 0},
        {FIELD_if_none_match, "\"e-1", 0, NULL, FILES_WHOLE, 0, 0},
        {FIELD_if_none_match, "", 0, NULL, FILES_WHOLE, 0, 0},
        {FIELD_if_none_match, "\"x\"", FIELD_if_none_match, "\"e-1\"", FILES_NOT_MODIFIED, 0, 0},
        {FIELD_if_none_match, "\"x\"", FIELD_if_modified_since, SAME, FILES_WHOLE, 0, 0},
        {FIELD_if_modified_since, SAME, 0, NULL, FILES_NOT_MODIFIED, 0, 0},
        {FIELD_if_modified_since, NEWER, 0, NULL, FILES_NOT_MODIFIED, 0, 0},
        {FIELD_if_modified_since, OLDER, 0, NULL, FILES_WHOLE, 0, 0},
        {FIELD_if_modified_since, "yesterday", 0, NULL, FILES_WHOLE, 0, 0},
        {FIELD_if_match, "\"e-1\"", 0, NULL, FILES_WHOLE, 0, 0},
        {FIELD_if_match, "*", 0, NULL, FILES_WHOLE, 0, 0},
        {FIELD_if_match, "W/\"e-1\"", 0, NULL, FILES_PRECONDITION, 0, 0},
        {FIELD_if_match, "\"x\"", 0, NULL, FILES_PRECONDITION, 0, 0},
        {FIELD_if_match, "\"x\"", FIELD_if_none_match, "\"e-1\"", FILES_PRECONDITION, 0, 0},
        {FIELD_if_match, "\"e-1\"", FIELD_if_unmodified_since, OLDER, FILES_WHOLE, 0, 0},
        {FIELD_if_unmodified_since, OLDER, 0, NULL, FILES_PRECONDITION, 0, 0},
        {FIELD_if_unmodified_since, SAME, 0, NULL, FILES_WHOLE, 0, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        judge(METHOD_GET, &rows[i], 1000);
        judge(METHOD_HEAD, &rows[i], 1000);
    }
}

static void test_ranges(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {FIELD_range, "bytes=0-0", 0, NULL, FILES_PART, 0, 1},
        {FIELD_range, "bytes=0-", 0, NULL, FILES_PART, 0, 1000},
        {FIELD_range, "Bytes= 10-19 ", 0, NULL, FILES_PART, 10, 10},
        {FIELD_range, "bytes=990-5000", 0, NULL, FILES_PART, 990, 10},
        {FIELD_range, "bytes=999-99999999999999999999999", 0, NULL, FILES_PART, 999, 1},
        {FIELD_range, "bytes=-1", 0, NULL, FILES_PART, 999, 1},
        {FIELD_range, "bytes=-5000", 0, NULL, FILES_PART, 0, 1000},
        {FIELD_range, "bytes=-0", 0, NULL, FILES_UNSATISFIABLE, 0, 0},
        {FIELD_range, "bytes=1000-", 0, NULL, FILES_UNSATISFIABLE, 0, 0},
        {FIELD_range, "bytes=99999999999999999999999-", 0, NULL, FILES_UNSATISFIABLE, 0, 0},
        {FIELD_range, "bytes=5-4", 0, NULL, FILES_WHOLE, 0, 0},
        {FIELD_range, "bytes=", 0, NULL, FILES_WHOLE, 0, 0},
        {FIELD_range, "bytes=-", 0, NULL, FILES_WHOLE, 0, 0},
        {FIELD_range, "bytes=a-b", 0, NULL, FILES_WHOLE, 0, 0},
        {FIELD_range, "bytes=1 - 2", 0, NULL, FILES_WHOLE, 0, 0},
        {FIELD_range, "bytes=0-1,5-6", 0, NULL, FILES_WHOLE, 0, 0},
        {FIELD_range, "lines=0-1", 0, NULL, FILES_WHOLE, 0, 0},
        {FIELD_range, "bytes=1-1", FIELD_if_range, "\"e-1\"", FILES_PART, 1, 1},
        {FIELD_range, "bytes=1-1", FIELD_if_range, "W/\"e-1\"", FILES_WHOLE, 0, 0},
        {FIELD_range, "bytes=1-1", FIELD_if_range, "\"x\"", FILES_WHOLE, 0, 0},
        {FIELD_range, "bytes=1-1", FIELD_if_range, SAME, FILES_PART, 1, 1},
        {FIELD_range, "bytes=1-1", FIELD_if_range, NEWER, FILES_WHOLE, 0, 0},
        {FIELD_range, "bytes=1-1", FIELD_if_none_match, "\"e-1\"", FILES_NOT_MODIFIED, 0, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        judge(METHOD_GET, &rows[i], 1000);
    const struct row head = {FIELD_range, "bytes=1-1", 0, NULL, FILES_WHOLE, 0, 0};
    judge(METHOD_HEAD, &head, 1000);
    const struct row empty = {FIELD_range, "bytes=0-", 0, NULL, FILES_UNSATISFIABLE, 0, 0};
    judge(METHOD_GET, &empty, 0);
    const struct row suffix = {FIELD_range, "bytes=-5", 0, NULL, FILES_WHOLE, 0, 0};
    judge(METHOD_GET, &suffix, 0);
}

/* A date younger than a second may hide a change: it is no strong validator. */
static void test_young_date(void **state)
{
    (void)state;
    struct arena *a = arena_new(1024);
    struct fields f = {0};
    const struct files_validators v = {.etag = STR("\"e\""), .mtime = MTIME, .size = 10};
    struct files_range range;
    fields_add_token(a, &f, FIELD_range, STR("bytes=1-1"));
    fields_add_token(a, &f, FIELD_if_range, STR(SAME));
    assert_int_equal(files_judge(&f, METHOD_GET, &v, MTIME, &range), FILES_WHOLE);
    assert_int_equal(files_judge(&f, METHOD_GET, &v, MTIME + 2, &range), FILES_PART);
    arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dates),
        cmocka_unit_test(test_preconditions),
        cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_young_date),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
