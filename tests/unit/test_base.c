/*
 * test_base.c - the words that everything is built from: strings, bounded building, arenas, slabs
 * and their queues, the loop's turns and deadlines, files.
 */
#include "base/json.h"

/* cmocka.h wants these first */
#include <setjmp.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/file.h"
#include "base/loop.h"
#include "base/slab.h"

static void numbers(void **state)
{
    static const struct {
        const char *text;
        bool ok;
        uint64_t value;
    } cases[] = {
        {"0", true, 0},
        {"007", true, 7},
        {"18446744073709551615", true, UINT64_MAX},
        {"18446744073709551616", false, 0},
        {"99999999999999999999", false, 0},
        {"", false, 0},
        {"-1", false, 0},
        {"+1", false, 0},
        {" 1", false, 0},
        {"1 ", false, 0},
        {"0x10", false, 0},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        uint64_t v = 0;
        assert_int_equal(str_u64(str_of(cases[i].text), &v), cases[i].ok);
        assert_true(v == cases[i].value);
    }
}

static void escapes(void **state)
{
    static const struct {
        struct str in;
        const char *json;
    } cases[] = {
        {{"plain", 5}, "\"plain\""},
        {{"a\"b\\c", 5}, "\"a\\\"b\\\\c\""},
        {{"\n\r\t\x01\x7f", 5}, "\"\\n\\r\\t\\u0001\\u007f\""},
        {{"\xc3\xa4", 2}, "\"\xc3\xa4\""},
        {{"\xc3", 1}, "\"\xef\xbf\xbd\""},
        {{"\xed\xa0\x80", 3}, "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},
        {{"x\0y", 3}, "\"x\\u0000y\""},
        {{"", 0}, "\"\""},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char buf[64];
        struct out o = out_on(buf, sizeof(buf));
        out_json(&o, cases[i].in);
        assert_false(o.over);
        assert_true(str_eq(out_done(&o), str_of(cases[i].json)));
    }
}

/* Text for JSON by another library: bytes that are no UTF-8 one by one, all else as it was. */
static void bad_utf8(void **state)
{
    static const struct {
        struct str in, out;
    } cases[] = {
        {STR("plain"), STR("plain")},
        {STR(""), STR("")},
        {{"x\0y", 3}, {"x\0y", 3}},
        {STR("\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80"), STR("\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80")},
        {STR("caf\xe9!"), STR("caf\xef\xbf\xbd!")},
        {STR("\xff\xfe"), STR("\xef\xbf\xbd\xef\xbf\xbd")},
        {STR("a\xe2\x82"), STR("a\xef\xbf\xbd\xef\xbf\xbd")},
        {STR("\xc0\xaf"), STR("\xef\xbf\xbd\xef\xbf\xbd")},
        {STR("\xed\xa0\x80"), STR("\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd")},
        {STR("\xf4\x90\x80\x80"), STR("\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd")},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char *in = malloc(cases[i].in.n + 1); /* its end is where the sanitizer looks */
        memcpy(in, cases[i].in.p, cases[i].in.n);
        json_t *j = json_text((struct str){in, cases[i].in.n});
        assert_true(
            str_eq((struct str){json_string_value(j), json_string_length(j)}, cases[i].out));
        json_decref(j);
        free(in);
    }
    json_t *none = json_text(STR_NULL);
    assert_string_equal(json_string_value(none), "");
    json_decref(none);
}

static void building_stops_at_the_end(void **state)
{
    char buf[8] = "xxxxxxx";
    (void)state;
    struct out o = out_on(buf, 4);
    out_lit(&o, "abc");
    out_lit(&o, "de");
    assert_true(o.over);
    assert_int_equal(o.n, 3);
    assert_int_equal(buf[4], 'x');
    o = out_on(buf, 4);
    out_fmt(&o, "%d", 12345);
    assert_true(o.over);
    o = out_on(buf, 4);
    out_hex(&o, 0xabcd, 4);
    assert_false(o.over);
    out_u64(&o, 1);
    assert_true(o.over);
}

static void splitting(void **state)
{
    struct str rest = STR("a,,b"), piece;
    (void)state;
    assert_true(str_split(&rest, ',', &piece) && str_eq(piece, STR("a")));
    assert_true(str_split(&rest, ',', &piece) && piece.n == 0);
    assert_true(str_split(&rest, ',', &piece) && str_eq(piece, STR("b")));
    assert_false(str_split(&rest, ',', &piece));
    rest = STR("x,");
    assert_true(str_split(&rest, ',', &piece) && str_eq(piece, STR("x")));
    assert_true(str_split(&rest, ',', &piece) && piece.n == 0);
    assert_false(str_split(&rest, ',', &piece));
    assert_true(str_eq(str_trim(STR(" \t a b \t")), STR("a b")));
    assert_true(str_ieq(STR("AbC"), STR("aBc")));
    assert_false(str_ieq(STR("@"), STR("`")));
}

static void arenas(void **state)
{
    struct arena *a = arena_new(4096);
    (void)state;
    char *first = arena_alloc(a, 10);
    char *big = arena_alloc(a, 100000);
    char *after = arena_alloc(a, 10);
    memset(first, 1, 10);
    memset(big, 2, 100000);
    memset(after, 3, 10);
    assert_int_equal(first[9], 1);
    assert_true(((uintptr_t)after & 15) == 0);
    assert_true(arena_used(a) > 100000);
    arena_reset(a);
    assert_int_equal(arena_used(a), 4096);
    for (int i = 0; i < 10000; i++)
        assert_true(str_eq(arena_fmt(a, "%d-%s", 42, "x"), STR("42-x")));
    arena_free(&a);
    assert_null(a);
    arena_free(&a);
}

static void slice_queues(void **state)
{
    size_t before = slab_total();
    struct sliceq q = {0};
    char big[60000];
    (void)state;
    memset(big, 'b', sizeof(big));
    for (int i = 0; i < 1000; i++)
        sliceq_copy(&q, "0123456789", 10);
    assert_int_equal(q.bytes, 10000);
    assert_int_equal(q.count, 1); /* small writes share a slab */
    sliceq_copy(&q, big, sizeof(big));
    sliceq_consume(&q, 10005);
    struct slice s = sliceq_first(&q);
    assert_true(s.n > 0 && s.p[0] == 'b');
    sliceq_consume(&q, q.bytes);
    assert_int_equal(sliceq_first(&q).n, 0);

    /* A few bytes of a large slab are copied, most of one is counted. */
    struct slab *slab = slab_new(SLAB_LARGE);
    sliceq_push(&q, (struct slice){slab, slab->data, 10});
    assert_int_equal(slab->refs, 1);
    sliceq_push(&q, (struct slice){slab, slab->data, SLAB_LARGE});
    assert_int_equal(slab->refs, 2);
    sliceq_fini(&q);
    assert_int_equal(slab->refs, 1);
    slab_unref(slab);
    assert_int_equal(slab_total(), before);
    slab_trim(0);
}

/* ---- the loop ---- */

struct timed {
    struct deadline d;
    uint64_t due, fired;
};
static unsigned left;

static void on_fire(struct deadline *d)
{
    struct timed *t = container_of(d, struct timed, d);
    t->fired = now_ms();
    if (--left == 0)
        loop_stop();
}

static void on_never(struct deadline *d)
{
    (void)d;
    fail_msg("a cancelled deadline fired");
}

static void deadlines(void **state)
{
    static const uint64_t after[] = {1, 50, 99, 100, 101, 250, 300, 300, 420};
    struct timed t[ARRAY_LEN(after)] = {0};
    struct deadline never = {0};
    (void)state;
    loop_init();
    left = ARRAY_LEN(after);
    for (size_t i = 0; i < ARRAY_LEN(after); i++) {
        t[i].due = now_ms() + after[i];
        deadline_set(&t[i].d, after[i], on_fire);
    }
    deadline_set(&never, 30, on_never);
    deadline_cancel(&never);
    /* Later, then earlier again: the last word counts. */
    deadline_set(&t[0].d, 400, on_fire);
    deadline_set(&t[0].d, 20, on_fire);
    t[0].due = now_ms() + 20;
    deadline_set(&t[1].d, 350, on_fire);
    t[1].due = now_ms() + 350;
    loop_run();
    for (size_t i = 0; i < ARRAY_LEN(after); i++) {
        assert_true(t[i].fired + 1 >= t[i].due); /* never early, but for the clock's rounding */
        assert_false(deadline_is_set(&t[i].d));
    }
    loop_fini();
}

static int order[4], order_n;

static void on_first(struct turn_task *t);
static void on_second(struct turn_task *t)
{
    (void)t;
    order[order_n++] = 2;
}
static struct turn_task first, second;
static void on_first(struct turn_task *t)
{
    (void)t;
    order[order_n++] = 1;
    loop_at_turn_end(&second, on_second); /* added meanwhile: still this turn */
}
static void on_destroy(void *p)
{
    (void)p;
    order[order_n++] = 3;
    loop_stop();
}

static void turns(void **state)
{
    (void)state;
    loop_init();
    order_n = 0;
    loop_free_later(&first, on_destroy);
    loop_at_turn_end(&first, on_first);
    loop_at_turn_end(&first, on_first);
    loop_run();
    assert_int_equal(order_n, 3);
    assert_true(order[0] == 1 && order[1] == 2 && order[2] == 3);
    loop_fini();
}

/* ---- files ---- */

static void paths(void **state)
{
    static const char *const cases[][3] = {
        {"/etc/headgate", "x.yaml", "/etc/headgate/x.yaml"},
        {"/a/b", "../c", "/a/c"},
        {"/a", "/b/./c//d/", "/b/c/d"},
        {"/a", "../../..", "/"},
        {"/", "x", "/x"},
    };
    struct arena *a = arena_new(4096);
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_string_equal(file_resolve(a, str_of(cases[i][0]), str_of(cases[i][1])).p,
                            cases[i][2]);
    arena_free(&a);
}

static void files(void **state)
{
    struct arena *a = arena_new(4096);
    char dir[] = "/tmp/test_base.XXXXXX";
    struct str got;
    struct stat st;
    (void)state;
    assert_non_null(mkdtemp(dir));
    const char *sub = arena_fmt(a, "%s/a/b", dir).p, *path = arena_fmt(a, "%s/f", sub).p;
    assert_null(file_mkdirs(a, sub, 0750, (uid_t)-1, (gid_t)-1));
    assert_null(file_mkdirs(a, sub, 0750, (uid_t)-1, (gid_t)-1));
    assert_null(file_write(a, path, STR("one"), 0640));
    assert_null(file_write(a, path, STR("two"), 0640));
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0640);
    assert_null(file_read(a, path, 3, &got));
    assert_true(str_eq(got, STR("two")));
    assert_non_null(strstr(file_read(a, path, 2, &got), "larger than 2 bytes"));
    assert_non_null(strstr(file_read(a, sub, 100, &got), "not a regular file"));
    assert_non_null(strstr(file_read(a, arena_fmt(a, "%s/none", sub).p, 9, &got), "there is no "));

    int fd = file_memfd("test", STR("sealed"));
    assert_true(fd >= 0);
    assert_null(file_map_sealed(fd, &got));
    assert_true(str_eq(got, STR("sealed")));
    assert_int_equal(write(fd, "x", 1), -1);
    close(fd);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_non_null(file_map_sealed(fd, &got)); /* an ordinary file may change under its reader */
    close(fd);
    unlink(path);
    rmdir(sub);
    rmdir(arena_fmt(a, "%s/a", dir).p);
    assert_int_equal(rmdir(dir), 0); /* nothing temporary was left behind */
    arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers),      cmocka_unit_test(escapes),
        cmocka_unit_test(bad_utf8),     cmocka_unit_test(building_stops_at_the_end),
        cmocka_unit_test(splitting),    cmocka_unit_test(arenas),
        cmocka_unit_test(slice_queues), cmocka_unit_test(deadlines),
        cmocka_unit_test(turns),        cmocka_unit_test(paths),
        cmocka_unit_test(files),
    };
    return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
