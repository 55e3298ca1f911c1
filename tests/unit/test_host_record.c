/*
 * test_host_record.c - what is remembered of a host: written and read back, and read from files
 * that are damaged, or that somebody else wrote.
 */
#include "base/base.h"

#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "acme/host_record.h"
#include "base/file.h"
#include "tests/unit/tmp_dir.h"

static struct arena *arena;
static const char *dir, *path;
static const struct str host = {"a.example.org", 13};

static int set_up(void **state)
{
    (void)state;
    arena = arena_new(1 << 16);
    dir = tmp_dir_make(arena);
    path = arena_fmt(arena, "%s/acme/hosts/a.example.org.json", dir).p;
    const struct host_record empty = {0};
    return dir && !host_record_write(arena, dir, host, &empty) ? 0 : 1;
}

static int tear_down(void **state)
{
    (void)state;
    tmp_dir_remove(arena, dir);
    arena_free(&arena);
    return 0;
}

static void test_round(void **state)
{
    (void)state;
    static struct host_record r, back;
    const char *err = NULL;
    r = (struct host_record){.failures = 3, .next_at = 1764244616};
    r.error.at = 5;
    r.pending.issued = true;
    r.ari.chosen = 7;
    text_copy(r.error.text, sizeof(r.error.text), STR("why \xff\x01 not"));
    text_copy(r.pending.ca, sizeof(r.pending.ca), STR("one"));
    text_copy(r.pending.url, sizeof(r.pending.url), STR("https://ca.test/1"));
    text_copy(r.pending.key, sizeof(r.pending.key), STR("KEY"));
    text_copy(r.ari.id, sizeof(r.ari.id), STR("a.b"));
    for (unsigned i = 0; i < HOST_HISTORY + 3; i++)
        host_record_event(&r, i, i % 2, "issued", "one");
    assert_null(host_record_write(arena, dir, host, &r));
    host_record_read(arena, dir, host, &back, &err);
    assert_null(err);
    assert_int_equal(back.failures, 3);
    assert_int_equal(back.next_at, 1764244616);
    assert_string_equal(back.error.text, "why \xef\xbf\xbd\x01 not");
    assert_string_equal(back.pending.url, "https://ca.test/1");
    assert_true(back.pending.issued);
    assert_int_equal(back.ari.chosen, 7);
    assert_int_equal(back.n_history, HOST_HISTORY);
    assert_int_equal(back.history[0].at, 3);
    assert_int_equal(back.history[HOST_HISTORY - 1].at, HOST_HISTORY + 2);
}

static void read_text(const char *text, struct host_record *r, const char **err)
{
    *err = NULL;
    assert_null(file_write(arena, path, str_of(text), 0600));
    host_record_read(arena, dir, host, r, err);
}

/* A file that is none is told of; members that are none are as if they were not there. */
static void test_damaged(void **state)
{
    (void)state;
    static const char *const none[] = {
        "", "{", "[]", "null", "{\"failures\":1,\"failures\":2}", "{\"failures\":1}x"};
    static struct host_record r;
    const char *err;
    for (size_t i = 0; i < ARRAY_LEN(none); i++) {
        read_text(none[i], &r, &err);
        assert_non_null(err);
        assert_int_equal(r.failures, 0);
    }
    read_text("{\"failures\":\"x\",\"next_at\":1.5,\"error\":[],\"history\":{},\"ari\":3,"
              "\"pending\":{\"url\":\"https://ca.test/1\"}}",
              &r, &err);
    assert_null(err);
    assert_int_equal(r.failures + r.n_history, 0);
    assert_int_equal(r.next_at, 0);
    assert_string_equal(r.pending.url, ""); /* without its key it is none */
}

/* Nobody who adds to a time, or takes one from another, leaves the range of numbers. */
static void test_numbers(void **state)
{
    (void)state;
    static struct host_record r;
    const char *err;
    read_text("{\"failures\":-1,\"next_at\":-9223372036854775808,\"error\":{\"at\":"
              "9223372036854775807},\"ari\":{\"id\":\"a\",\"start\":-1,\"end\":"
              "9223372036854775807,\"chosen\":-9223372036854775807,\"look_again\":"
              "-9223372036854775808},\"history\":[{\"at\":-9223372036854775808}]}",
              &r, &err);
    assert_null(err);
    assert_int_equal(r.failures, 0);
    assert_int_equal(r.next_at, 0);
    assert_in_range(r.error.at, 1, 253402300799);
    assert_in_range(r.ari.end, 1, 253402300799);
    assert_int_equal(r.ari.start + r.ari.chosen + r.ari.look_again + r.history[0].at, 0);
    read_text("{\"failures\":4294967297}", &r, &err);
    assert_int_equal(r.failures, 1000);
}

static void test_long_texts(void **state)
{
    (void)state;
    static struct host_record r;
    const char *err;
    const struct str long_one = arena_fmt(arena, "%*s", 5000, "x");
    read_text(arena_fmt(arena,
                        "{\"error\":{\"at\":1,\"text\":\"%s\",\"ca\":\"one\"},"
                        "\"pending\":{\"ca\":\"one\",\"url\":\"u\",\"key\":\"%s\"}}",
                        long_one.p, long_one.p)
                  .p,
              &r, &err);
    assert_null(err);
    assert_string_equal(r.error.text, "");
    assert_string_equal(r.error.ca, "one");
    assert_string_equal(r.pending.url, "");
    char cut[4];
    text_copy(cut, sizeof(cut), STR("ab\xc3\xa4")); /* at a character's border */
    assert_string_equal(cut, "ab");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
        T(test_round),
        T(test_damaged),
        T(test_numbers),
        T(test_long_texts),
    };
    return cmocka_run_group_tests_name("host_record", tests, NULL, NULL);
}
