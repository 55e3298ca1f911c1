/*
 * test_ari.c - when to renew: windows of RFC 9773, times of RFC 3339, and the schedule without
 * them.
 */
#include "base/base.h"

#include <setjmp.h>

#include <cmocka.h>

#include "acme/ari.h"

#define NOW  INT64_C(1764244616) /* 2025-11-27 11:56:56 */
#define HOUR INT64_C(3600)
#define DAY  (24 * HOUR)

static void times(void **state)
{
    static const struct {
        const char *text;
        int64_t at; /* INT64_MIN: it is no time */
    } rows[] = {
        {"1970-01-01T00:00:00Z", 0},
        {"2025-11-27T11:56:56Z", NOW},
        {"2025-11-27t11:56:56z", NOW},
        {"2025-11-27T11:56:56.999999999Z", NOW},
        {"2025-11-27T13:56:56+02:00", NOW},
        {"2025-11-27T06:26:56-05:30", NOW},
        {"2025-11-27T11:56:56-00:00", NOW},
        {"2024-02-29T00:00:00Z", 1709164800},
        {"2000-02-29T00:00:00Z", 951782400},
        {"2016-12-31T23:59:60Z", 1483228800},
        {"9999-12-31T23:59:59Z", 253402300799},
        {"1969-12-31T23:59:59Z", -1},
        {"", INT64_MIN},
        {"2025-11-27", INT64_MIN},
        {"2025-11-27T11:56:56", INT64_MIN},
        {"2025-11-27 11:56:56Z", INT64_MIN},
        {"2025-11-27T11:56:56ZZ", INT64_MIN},
        {"2025-11-27T11:56:56.Z", INT64_MIN},
        {"2025-11-27T11:56Z", INT64_MIN},
        {"2025-11-27T11:56:61Z", INT64_MIN},
        {"2025-11-27T11:60:00Z", INT64_MIN},
        {"2025-11-27T24:00:00Z", INT64_MIN},
        {"2025-02-29T00:00:00Z", INT64_MIN},
        {"1900-02-29T00:00:00Z", INT64_MIN},
        {"2025-11-31T00:00:00Z", INT64_MIN},
        {"2025-00-10T00:00:00Z", INT64_MIN},
        {"2025-13-10T00:00:00Z", INT64_MIN},
        {"2025-11-00T00:00:00Z", INT64_MIN},
        {"2025-11-27T11:56:56+24:00", INT64_MIN},
        {"2025-11-27T11:56:56+02:60", INT64_MIN},
        {"2025-11-27T11:56:56+0200", INT64_MIN},
        {"2025-11-27T11:56:56+", INT64_MIN},
        {"+025-11-27T11:56:56Z", INT64_MIN},
        {" 2025-11-27T11:56:56Z", INT64_MIN},
        {"12025-11-27T11:56:56Z", INT64_MIN},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        int64_t at = INT64_MIN;
        print_message("  %s\n", rows[i].text);
        assert_int_equal(ari_time(str_of(rows[i].text), &at), rows[i].at != INT64_MIN);
        assert_int_equal(at, rows[i].at);
    }
    int64_t at;
    assert_false(ari_time(STR("2025-11-27T11:56:56\0"), &at));
}

/* What ari_read makes of a text. */
static const char *read_text(struct arena *a, const char *text, int64_t retry_at,
                             const struct ari_window *old, struct ari_window *out)
{
    json_t *answer = json_loads(text, 0, NULL);
    assert_non_null(answer);
    const char *err = ari_read(a, answer, retry_at, NOW, old, out);
    json_decref(answer);
    return err;
}

static void a_window(void **state)
{
    static const char text[] = "{\"suggestedWindow\": {\"start\": \"2025-12-01T00:00:00Z\","
                               "\"end\": \"2025-12-03T00:00:00Z\"},"
                               "\"explanationURL\": \"https://acme.example/docs/ari\"}";
    struct arena *a = arena_new(1024);
    struct ari_window w, again;
    (void)state;
    assert_null(read_text(a, text, 0, NULL, &w));
    assert_int_equal(w.start, 1764547200);
    assert_int_equal(w.end, w.start + 2 * DAY);
    assert_in_range(w.chosen, w.start, w.end);
    assert_int_equal(w.look_again, NOW + 6 * HOUR);
    assert_true(str_eq(w.url, STR("https://acme.example/docs/ari")));
    /* The moment stays, whenever the CA is asked, and is drawn anew for another window. */
    assert_null(read_text(a, text, 0, &w, &again));
    assert_int_equal(again.chosen, w.chosen);
    assert_null(read_text(a,
                          "{\"suggestedWindow\": {\"start\": \"2025-12-03T00:00:01Z\","
                          "\"end\": \"2025-12-03T00:00:02Z\"}}",
                          0, &w, &again));
    assert_in_range(again.chosen, again.start, again.end);
    assert_int_equal(again.url.n, 0);
    arena_free(&a);
}

/* Each part of a window is chosen now and then, its ends included. */
static void moments_are_spread(void **state)
{
    static const char text[] = "{\"suggestedWindow\": {\"start\": \"2025-12-01T00:00:00Z\","
                               "\"end\": \"2025-12-01T00:00:03Z\"}}";
    struct arena *a = arena_new(1024);
    bool seen[4] = {false};
    (void)state;
    while (!(seen[0] && seen[1] && seen[2] && seen[3])) {
        struct ari_window w;
        assert_null(read_text(a, text, 0, NULL, &w));
        assert_in_range(w.chosen - w.start, 0, 3);
        seen[w.chosen - w.start] = true;
    }
    arena_free(&a);
}

static void retry_after(void **state)
{
    static const struct {
        int64_t retry_at, look_again;
    } rows[] = {
        {NOW + 1, NOW + HOUR},      {NOW - DAY, NOW + HOUR}, {NOW + HOUR, NOW + HOUR},
        {NOW + 5000, NOW + 5000},   {NOW + DAY, NOW + DAY},  {NOW + 8 * DAY, NOW + DAY},
        {INT64_MAX / 2, NOW + DAY},
    };
    struct arena *a = arena_new(1024);
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct ari_window w;
        assert_null(read_text(a,
                              "{\"suggestedWindow\": {\"start\": \"2025-12-01T00:00:00Z\","
                              "\"end\": \"2025-12-03T00:00:00Z\"}}",
                              rows[i].retry_at, NULL, &w));
        assert_int_equal(w.look_again, rows[i].look_again);
    }
    arena_free(&a);
}

static void no_windows(void **state)
{
    static const char *const rows[] = {
        "{}",
        "[]",
        "{\"suggestedWindow\": 1}",
        "{\"suggestedWindow\": {}}",
        "{\"suggestedWindow\": {\"start\": \"2025-12-01T00:00:00Z\"}}",
        "{\"suggestedWindow\": {\"start\": 1, \"end\": 2}}",
        "{\"suggestedWindow\": {\"start\": \"today\", \"end\": \"tomorrow\"}}",
        "{\"suggestedWindow\": {\"start\": \"2025-12-01T00:00:00Z\","
        "\"end\": \"2025-12-01T00:00:00Z\"}}",
        "{\"suggestedWindow\": {\"start\": \"2025-12-02T00:00:00Z\","
        "\"end\": \"2025-12-01T00:00:00Z\"}}",
    };
    struct arena *a = arena_new(1024);
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct ari_window w = {.start = 7};
        print_message("  %s\n", rows[i]);
        assert_non_null(read_text(a, rows[i], 0, NULL, &w));
        assert_int_equal(w.start, 7);
    }
    struct ari_window w;
    assert_non_null(ari_read(a, NULL, 0, NOW, NULL, &w));
    arena_free(&a);
}

/* A page that nobody should open is left out; the window counts all the same. */
static void explanations(void **state)
{
    static const struct {
        const char *url;
        bool fine;
    } rows[] = {
        {"https://ca.example/why", true},
        {"http://ca.example/", true},
        {"HTTPS://ca.example/", true},
        {"javascript:alert(1)", false},
        {"file:///etc/passwd", false},
        {"https://ca.example/\\u001b[2J", false},
        {"https://ca.example/ x", false},
        {"https://ca.example/\\u00e9", false},
        {"", false},
    };
    struct arena *a = arena_new(1024);
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct str text =
            arena_fmt(a,
                      "{\"suggestedWindow\": {\"start\": \"2025-12-01T00:00:00Z\","
                      "\"end\": \"2025-12-03T00:00:00Z\"},\"explanationURL\": \"%s\"}",
                      rows[i].url);
        struct ari_window w;
        print_message("  %s\n", rows[i].url);
        assert_null(read_text(a, text.p, 0, NULL, &w));
        assert_int_equal(w.url.n > 0, rows[i].fine);
    }
    char url[600] = "https://ca.example/";
    memset(url + 19, 'a', 512 - 19);
    for (unsigned more = 0; more < 2; more++) {
        struct ari_window w;
        url[512] = more ? 'a' : '\0';
        struct str text =
            arena_fmt(a,
                      "{\"suggestedWindow\": {\"start\": \"2025-12-01T00:00:00Z\","
                      "\"end\": \"2025-12-03T00:00:00Z\"},\"explanationURL\": \"%s\"}",
                      url);
        assert_null(read_text(a, text.p, 0, NULL, &w));
        assert_int_equal(w.url.n, more ? 0 : 512);
    }
    arena_free(&a);
}

static void without_ari(void **state)
{
    static const struct {
        const char *name;
        int64_t life, before, earliest, latest; /* the last two: seconds before the end */
    } rows[] = {
        {"90 days", 90 * DAY, 0, 30 * DAY + 90 * DAY / 20, 30 * DAY - 90 * DAY / 20},
        {"10 days", 10 * DAY, 0, 10 * DAY / 3 + DAY / 2, 10 * DAY / 3 - DAY / 2},
        {"below 10 days", 6 * DAY, 0, 3 * DAY + 6 * DAY / 20, 3 * DAY - 6 * DAY / 20},
        {"a minute", 60, 0, 33, 27},
        {"a second", 1, 0, 0, 0},
        {"none at all", 0, 0, 0, 0},
        {"it ended before it began", -DAY, 0, 0, 0},
        {"as configured", 90 * DAY, 20 * DAY, 20 * DAY, 20 * DAY},
        {"configured above the lifetime", 90 * DAY, 100 * DAY, 81 * DAY, 81 * DAY},
        {"configured, and no lifetime", 0, DAY, 0, 0},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        int64_t first = INT64_MAX, last = INT64_MIN;
        print_message("  %s\n", rows[i].name);
        for (uint64_t seed = 0; seed < 1000; seed++) {
            const int64_t at = renew_at(NOW, NOW + rows[i].life, rows[i].before, seed);
            assert_int_equal(at, renew_at(NOW, NOW + rows[i].life, rows[i].before, seed));
            first = MIN(first, at);
            last = MAX(last, at);
        }
        const int64_t end = NOW + rows[i].life, width = rows[i].earliest - rows[i].latest;
        assert_true(first >= end - rows[i].earliest && last <= end - rows[i].latest);
        /* The whole width is used. */
        assert_true(last - first >= width * 9 / 10);
    }
}

static void backoff(void **state)
{
    static const int64_t middle[] = {60, 120, 240, 480, 960, 1920, 3840, 7680, 15360, 21600, 21600};
    (void)state;
    for (unsigned n = 1; n <= ARRAY_LEN(middle); n++) {
        const int64_t m = middle[n - 1];
        assert_int_equal(renew_backoff(n, 0), m - m / 4);
        assert_int_equal(renew_backoff(n, (uint64_t)m / 2), m + m / 4);
        assert_in_range(renew_backoff(n, UINT64_MAX), m - m / 4, m + m / 4);
    }
    assert_int_equal(renew_backoff(UINT32_MAX, 0), 16200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(times),       cmocka_unit_test(a_window),
        cmocka_unit_test(retry_after), cmocka_unit_test(moments_are_spread),
        cmocka_unit_test(no_windows),  cmocka_unit_test(explanations),
        cmocka_unit_test(without_ari), cmocka_unit_test(backoff),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
