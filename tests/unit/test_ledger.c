/*
 * test_ledger.c - limits of a CA that are reached and free again, by a clock of our own; and the
 * file: kept across restarts, damaged, full, from the future, too long.
 */
#include "base/base.h"

#include <setjmp.h>

#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "acme/ledger.h"
#include "base/file.h"

#define NOW  INT64_C(1764244616) /* 2025-11-27 11:56:56 */
#define HOUR INT64_C(3600)
#define DAY  (24 * HOUR)
#define WWW  STR("www.example.org")

static struct {
    char dir[64];
    char path[96];
    struct arena *a;
    struct ledger *l;
} t;

static void reopen_as(const struct ledger_limit *limits, bool damaged)
{
    const char *err;
    ledger_close(&t.l);
    t.l = ledger_open(t.a, t.path, limits, &err);
    assert_non_null(t.l);
    if (err)
        print_message("  %s\n", err);
    assert_int_equal(err != NULL, damaged);
}

static void reopen(bool damaged)
{
    reopen_as(ledger_letsencrypt, damaged);
}

static int set_up(void **state)
{
    (void)state;
    snprintf(t.dir, sizeof(t.dir), "/tmp/headgate-ledger-XXXXXX");
    assert_non_null(mkdtemp(t.dir));
    snprintf(t.path, sizeof(t.path), "%s/acme/ledger", t.dir);
    t.a = arena_new(4096);
    reopen(false);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    ledger_close(&t.l);
    arena_free(&t.a);
    unlink(t.path);
    *strrchr(t.path, '/') = '\0';
    assert_int_equal(rmdir(t.path), 0); /* nothing else is left there */
    assert_int_equal(rmdir(t.dir), 0);
    return 0;
}

static void add(enum ledger_event e, struct str host, bool exempt, int64_t at)
{
    assert_null(ledger_add(t.l, t.a, e, host, exempt, at));
}

static int64_t until(struct str host, int64_t now)
{
    const struct ledger_verdict v = ledger_ask(t.l, host, false, now);
    assert_int_equal(v.until == 0, v.text[0] == '\0');
    return v.until;
}

static unsigned used(enum ledger_kind k, struct str host, int64_t now)
{
    return ledger_left(t.l, k, host, now).used;
}

static struct str content(void)
{
    struct str text;
    assert_null(file_read(t.a, t.path, 1 << 22, &text));
    return text;
}

static void put_content(struct str text)
{
    assert_null(file_write(t.a, t.path, text, 0600));
}

static unsigned lines_of(struct str text)
{
    unsigned n = 0;
    for (size_t i = 0; i < text.n; i++)
        n += text.p[i] == '\n';
    return n;
}

/* ---- the four limits ---- */

/* Fills a limit of Let's Encrypt, one event a second, and lets it run free again. */
static void each_limit(void **state)
{
    static const struct {
        enum ledger_kind kind;
        enum ledger_event event;
        const char *host; /* %u: the number of the event */
        unsigned count;
        int64_t seconds;
        const char *text;
    } rows[] = {
        {LEDGER_ORDERS, LEDGER_ORDERED, "h%u.example.org", 300, 3 * HOUR,
         "300 orders of the account within 3 hours, which is the CA's limit: the next one at "
         "2025-11-27 14:56:57 UTC"},
        {LEDGER_DOMAIN, LEDGER_ISSUED, "h%u.example.org", 50, 7 * DAY,
         "50 certificates of the registered domain example.org within 7 days, which is the CA's "
         "limit: the next one at 2025-12-04 11:56:57 UTC"},
        {LEDGER_DUPLICATES, LEDGER_ISSUED, "www.example.org", 5, 7 * DAY,
         "5 certificates for exactly this host within 7 days, which is the CA's limit: the next "
         "one at 2025-12-04 11:56:57 UTC"},
        {LEDGER_FAILURES, LEDGER_FAILED, "www.example.org", 5, HOUR,
         "5 failed validations of this host within 1 hour, which is the CA's limit: the next one "
         "at "
         "2025-11-27 12:56:57 UTC"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const int64_t last = NOW + rows[i].count;
        print_message("  %s\n", ledger_kind_text(rows[i].kind));
        for (unsigned n = 1; n <= rows[i].count; n++) {
            assert_int_equal(until(WWW, NOW + n), 0);
            char host[64];
            snprintf(host, sizeof(host), rows[i].host, n);
            add(rows[i].event, str_of(host), false, NOW + n);
        }
        /* The file tells the next process the same. */
        for (unsigned again = 0; again < 2; again++) {
            const struct ledger_verdict v = ledger_ask(t.l, WWW, false, last);
            assert_int_equal(v.kind, rows[i].kind);
            assert_string_equal(v.text, rows[i].text);
            assert_int_equal(v.until, NOW + 1 + rows[i].seconds);
            struct ledger_left left = ledger_left(t.l, rows[i].kind, WWW, last);
            assert_int_equal(left.used, rows[i].count);
            assert_int_equal(left.limit, rows[i].count);
            assert_int_equal(left.until, v.until);
            reopen(false);
        }
        /* One a second becomes free, as they came. */
        const int64_t first_free = NOW + 1 + rows[i].seconds;
        assert_int_equal(until(WWW, first_free - 1), first_free);
        assert_int_equal(until(WWW, first_free), 0);
        assert_int_equal(used(rows[i].kind, WWW, first_free), rows[i].count - 1);
        assert_int_equal(used(rows[i].kind, WWW, last + rows[i].seconds), 0);
        ledger_close(&t.l);
        unlink(t.path);
        reopen(false);
    }
}

/* What one host used up does not hold back another, unless they share a domain or the account. */
static void who_shares_what(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 5; i++) {
        add(LEDGER_FAILED, WWW, false, NOW);
        add(LEDGER_ISSUED, STR("b.example.co.uk"), false, NOW);
    }
    assert_int_equal(until(WWW, NOW), NOW + HOUR);
    assert_int_equal(until(STR("b.example.co.uk"), NOW), NOW + 7 * DAY);
    assert_int_equal(until(STR("example.org"), NOW), 0);
    assert_int_equal(until(STR("w.example.org"), NOW), 0);
    assert_int_equal(until(STR("*.b.example.co.uk"), NOW), 0);
    assert_int_equal(used(LEDGER_DOMAIN, STR("x.y.example.co.uk"), NOW), 5);
    assert_int_equal(used(LEDGER_DOMAIN, STR("*.example.co.uk"), NOW), 5);
    assert_int_equal(used(LEDGER_DOMAIN, STR("example.org"), NOW), 0);
    assert_int_equal(used(LEDGER_DOMAIN, STR("other.co.uk"), NOW), 0);
    assert_int_equal(used(LEDGER_DOMAIN, STR("notexample.co.uk"), NOW), 0);
}

/* Of two limits that are reached the later end counts. */
static void the_later_end(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 5; i++) {
        add(LEDGER_ISSUED, WWW, false, NOW - 7 * DAY + 600);
        add(LEDGER_FAILED, WWW, false, NOW);
    }
    struct ledger_verdict v = ledger_ask(t.l, WWW, false, NOW);
    assert_int_equal(v.until, NOW + HOUR);
    assert_int_equal(v.kind, LEDGER_FAILURES);
}

/* A limit that was lowered, or a file of another time: as many leave as are too many. */
static void more_than_the_limit(void **state)
{
    static const struct ledger_limit two[LEDGER_KINDS] = {[LEDGER_DUPLICATES] = {2, 90}};
    (void)state;
    for (unsigned i = 0; i < 5; i++)
        add(LEDGER_ISSUED, WWW, false, NOW + i);
    reopen_as(two, false);
    struct ledger_verdict v = ledger_ask(t.l, WWW, false, NOW + 5);
    assert_int_equal(v.until, NOW + 3 + 90);
    assert_string_equal(v.text, "5 certificates for exactly this host within 90 seconds, the CA's "
                                "limit is 2: the next one at 2025-11-27 11:58:29 UTC");
    assert_int_equal(until(WWW, v.until - 1), v.until);
    assert_int_equal(until(WWW, v.until), 0);
}

static void renewals_by_ari(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 60; i++) {
        add(LEDGER_ORDERED, WWW, true, NOW);
        add(LEDGER_ISSUED, WWW, true, NOW);
    }
    assert_int_equal(until(WWW, NOW), 0);
    assert_int_equal(used(LEDGER_DUPLICATES, WWW, NOW), 0);
    assert_int_equal(used(LEDGER_DOMAIN, WWW, NOW), 0);
    assert_int_equal(used(LEDGER_ORDERS, WWW, NOW), 60);
    reopen(false);
    assert_int_equal(used(LEDGER_DUPLICATES, WWW, NOW), 0);
    /* They wait for nothing but the account's orders. */
    for (unsigned i = 0; i < 5; i++) {
        add(LEDGER_ISSUED, WWW, false, NOW);
        add(LEDGER_FAILED, WWW, true, NOW);
    }
    assert_int_equal(used(LEDGER_FAILURES, WWW, NOW), 5);
    assert_int_equal(until(WWW, NOW), NOW + 7 * DAY);
    assert_int_equal(ledger_ask(t.l, WWW, true, NOW).until, 0);
    for (unsigned i = 60; i < 300; i++)
        add(LEDGER_ORDERED, WWW, false, NOW + 1);
    assert_int_equal(ledger_ask(t.l, WWW, true, NOW + 1).until, NOW + 3 * HOUR);
}

static void no_limits(void **state)
{
    (void)state;
    reopen_as(ledger_none, false);
    for (unsigned i = 0; i < 400; i++)
        for (unsigned e = LEDGER_ORDERED; e <= LEDGER_FAILED; e++)
            add(e, WWW, false, NOW);
    assert_int_equal(until(WWW, NOW), 0);
    assert_int_equal(ledger_left(t.l, LEDGER_ORDERS, WWW, NOW).limit, 0);
    assert_int_equal(access(t.path, F_OK), -1);
    reopen(false);
    add(LEDGER_ORDERED, WWW, false, NOW);
}

static void domains(void **state)
{
    static const struct {
        const char *host, *domain;
    } rows[] = {
        {"example.org", "example.org"},
        {"a.b.example.org", "example.org"},
        {"*.example.org", "example.org"},
        {"*.a.example.org", "example.org"},
        {"www.example.co.uk", "example.co.uk"},
        {"alice.github.io", "alice.github.io"},
        {"www.alice.github.io", "alice.github.io"},
        {"github.io", "github.io"},
        {"co.uk", "co.uk"},
        {"www.ck", "www.ck"},
        {"a.b.c.kawasaki.jp", "b.c.kawasaki.jp"},
        {"www.city.kawasaki.jp", "city.kawasaki.jp"},
        {"www.xn--85x722f.xn--55qx5d.cn", "xn--85x722f.xn--55qx5d.cn"},
        {"localhost", "localhost"},
        {"app.localhost", "app.localhost"},
        {"a.b.unknown-end", "b.unknown-end"},
        {"", ""},
        {"with space.example.org", "with space.example.org"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        assert_string_equal(ledger_domain(t.a, str_of(rows[i].host)).p, rows[i].domain);
    add(LEDGER_ORDERED, WWW, false, NOW);
}

static void no_hosts(void **state)
{
    char longest[257];
    (void)state;
    memset(longest, 'a', sizeof(longest));
    longest[256] = '\0';
    static const char *const rows[] = {"", "two words", "new\nline", "tab\t", "\x7f", "b\xc3\xbc"};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        assert_non_null(ledger_add(t.l, t.a, LEDGER_ORDERED, str_of(rows[i]), false, NOW));
    assert_non_null(ledger_add(t.l, t.a, LEDGER_ORDERED, str_of(longest), false, NOW));
    assert_int_equal(used(LEDGER_ORDERS, WWW, NOW), 0);
    add(LEDGER_ISSUED, str_of(longest + 1), false, NOW);
    reopen(false);
    for (unsigned i = 1; i < 50; i++)
        add(LEDGER_ISSUED, str_of(longest + 1), false, NOW);
    assert_int_equal(used(LEDGER_DUPLICATES, str_of(longest + 1), NOW), 50);
    struct ledger_verdict v = ledger_ask(t.l, str_of(longest + 1), false, NOW);
    assert_true(v.until);
}

/* ---- the file ---- */

static void strict_and_private(void **state)
{
    (void)state;
    add(LEDGER_ORDERED, WWW, false, NOW);
    add(LEDGER_ISSUED, STR("*.example.org"), true, NOW + 1);
    add(LEDGER_FAILED, WWW, false, NOW + 2);
    assert_string_equal(content().p, "1764244616 ordered www.example.org - ba66318b\n"
                                     "1764244617 issued *.example.org ari fcb4c215\n"
                                     "1764244618 failed www.example.org - 10ce0bae\n");
    struct stat st;
    assert_int_equal(stat(t.path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
}

/* Three events, then the file is changed by `damage`: `left` of them still count. */
static void damaged(void **state)
{
    static const struct {
        const char *name;
        size_t at;    /* this byte … */
        char becomes; /* NUL: the file ends there */
        unsigned left;
    } rows[] = {
        {"a digit of a time", 47, '9', 2},
        {"a letter of a host", 63, 'x', 2},
        {"a digit of a sum", 77, 'x', 2},
        {"two lines become one", 42, ' ', 1},
        {"a line is cut in two", 60, '\n', 2},
        {"torn in the last line", 100, '\0', 2},
        {"torn within the last sum", 126, '\0', 2},
        {"torn before the last end of line", 128, '\0', 3},
        {"torn behind an end of line", 86, '\0', 2},
        {"empty", 0, '\0', 0},
    };
    const struct str host = STR("a.example.org");
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        for (unsigned k = 0; k < 3; k++)
            add(LEDGER_ISSUED, host, false, NOW + k);
        struct str text = content();
        char mem[256];
        assert_int_equal(text.n, 3 * 43);
        memcpy(mem, text.p, text.n);
        print_message("  %s\n", rows[i].name);
        assert_true(mem[rows[i].at] != rows[i].becomes);
        mem[rows[i].at] = rows[i].becomes;
        put_content((struct str){mem, rows[i].becomes ? text.n : rows[i].at});
        reopen(rows[i].left < 3 && rows[i].at % 43 != 0);
        assert_int_equal(used(LEDGER_DUPLICATES, host, NOW + 3), rows[i].left);
        /* The next event mends the file. */
        add(LEDGER_ISSUED, host, false, NOW + 3);
        reopen(false);
        assert_int_equal(used(LEDGER_DUPLICATES, host, NOW + 3), rows[i].left + 1);
        ledger_close(&t.l);
        unlink(t.path);
        reopen(false);
    }
    add(LEDGER_ORDERED, WWW, false, NOW);
}

/* Lines that have a good sum, and are none of ours. */
static void strict_lines(void **state)
{
    (void)state;
    add(LEDGER_ORDERED, WWW, false, NOW);
    static const char *const rows[] = {
        "1764244616 paid www.example.org - 309f4bbf\n",
        "01764244616 ordered www.example.org - 03e8c6aa\n",
        "1764244616  ordered www.example.org - c2d592eb\n",
        "\n",
        "                \n",
        "253402300800 ordered www.example.org - 06d12a78\n",
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        put_content(str_of(rows[i]));
        reopen(true);
        assert_int_equal(used(LEDGER_ORDERS, WWW, NOW), 0);
    }
    char binary[5000];
    memset(binary, 0, sizeof(binary));
    put_content((struct str){binary, sizeof(binary)});
    reopen(true);
}

static void not_readable(void **state)
{
    (void)state;
    add(LEDGER_ORDERED, WWW, false, NOW);
    unlink(t.path);
    assert_int_equal(mkdir(t.path, 0700), 0);
    reopen(true);
    assert_int_equal(used(LEDGER_ORDERS, WWW, NOW), 0);
    assert_non_null(ledger_add(t.l, t.a, LEDGER_ORDERED, WWW, false, NOW));
    assert_int_equal(used(LEDGER_ORDERS, WWW, NOW), 1);
    assert_int_equal(rmdir(t.path), 0);
    add(LEDGER_ORDERED, WWW, false, NOW);
    reopen(false);
    assert_int_equal(used(LEDGER_ORDERS, WWW, NOW), 2);
}

/* Somebody took the file away: the next event brings all of it back. */
static void taken_away(void **state)
{
    (void)state;
    add(LEDGER_ORDERED, WWW, false, NOW);
    add(LEDGER_ORDERED, WWW, false, NOW);
    unlink(t.path);
    add(LEDGER_ORDERED, WWW, false, NOW);
    reopen(false);
    assert_int_equal(used(LEDGER_ORDERS, WWW, NOW), 3);
}

/* No room: in the middle of a line, then for the file as a whole. Nothing is forgotten. */
static void no_room(void **state)
{
    (void)state;
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, SIG_IGN);
    add(LEDGER_ISSUED, WWW, false, NOW);
    const size_t full = content().n + 10;
    const struct rlimit tight = {.rlim_cur = full, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    const char *errs[2];
    for (unsigned i = 0; i < 2; i++) {
        errs[i] = ledger_add(t.l, t.a, LEDGER_ISSUED, WWW, false, NOW);
        assert_int_equal(used(LEDGER_DUPLICATES, WWW, NOW), i + 2);
    }
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_non_null(errs[0]);
    assert_non_null(errs[1]);
    print_message("  %s\n", errs[0]);
    assert_int_equal(content().n, full); /* half a line */
    add(LEDGER_ISSUED, WWW, false, NOW);
    assert_int_equal(lines_of(content()), 4);
    reopen(false);
    assert_int_equal(used(LEDGER_DUPLICATES, WWW, NOW), 4);
}

/* The clock was ahead, by a little or by years, and is right again; or it is behind for a while. */
static void the_clock_jumps(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 5; i++)
        add(LEDGER_FAILED, WWW, false, NOW + HOUR);
    assert_int_equal(until(WWW, NOW), NOW + 2 * HOUR);
    assert_int_equal(until(WWW, NOW + 2 * HOUR), 0);
    for (unsigned i = 0; i < 5; i++)
        add(LEDGER_FAILED, STR("years.example.org"), false, NOW + 3650 * DAY);
    assert_int_equal(until(STR("years.example.org"), NOW), 0);
    /* Back at its old place, it is as before. */
    assert_int_equal(until(WWW, 0), 0);
    assert_int_equal(until(WWW, NOW), NOW + 2 * HOUR);
    /* Events that come out of order are sorted. */
    for (unsigned i = 0; i < 5; i++)
        add(LEDGER_ISSUED, WWW, false, NOW + 60 - i);
    assert_int_equal(until(WWW, NOW + 60), NOW + 56 + 7 * DAY);
    reopen(false);
    assert_int_equal(until(WWW, NOW + 60), NOW + 56 + 7 * DAY);
}

/* Without end: what no limit looks at goes, and at most LEDGER_MAX lines stay. */
static void bounded(void **state)
{
    char mem[LEDGER_MAX * 48];
    (void)state;
    static const struct ledger_limit many[LEDGER_KINDS] = {[LEDGER_FAILURES] = {1000000, 7 * DAY}};
    add(LEDGER_FAILED, WWW, false, NOW);
    const size_t line = content().n;
    struct out o = out_on(mem, sizeof(mem));
    while (o.n + line <= (size_t)(LEDGER_MAX - 1) * line)
        out_str(&o, content());
    put_content(out_done(&o));
    reopen_as(many, false);
    add(LEDGER_FAILED, WWW, false, NOW + 1);
    assert_int_equal(lines_of(content()), LEDGER_MAX);
    assert_int_equal(used(LEDGER_FAILURES, WWW, NOW + 1), LEDGER_MAX);
    add(LEDGER_FAILED, WWW, false, NOW + 2);
    assert_int_equal(lines_of(content()), LEDGER_MAX / 4 * 3 + 1);
    assert_int_equal(used(LEDGER_FAILURES, WWW, NOW + 2), LEDGER_MAX / 4 * 3 + 1);
    assert_int_equal(used(LEDGER_FAILURES, WWW, NOW + 7 * DAY), 2);
    /* A file that is longer than it may be is read from its end. */
    struct str text = content();
    struct arena *scratch = arena_new(4096);
    char *twice = arena_alloc(scratch, text.n * 2);
    memcpy(twice, text.p, text.n);
    memcpy(twice + text.n, text.p, text.n);
    put_content((struct str){twice, text.n * 2});
    arena_free(&scratch);
    reopen_as(many, false);
    assert_int_equal(used(LEDGER_FAILURES, WWW, NOW + 2), LEDGER_MAX);
    /* All of them are too old by now. */
    reopen(false);
    add(LEDGER_FAILED, WWW, false, NOW + 8 * DAY);
    assert_int_equal(lines_of(content()), 1);
}

static void whose_limits(void **state)
{
    (void)state;
    assert_ptr_equal(ledger_limits(STR("letsencrypt"), true), ledger_letsencrypt);
    assert_ptr_equal(ledger_limits(STR("letsencrypt-staging"), true), ledger_staging);
    assert_ptr_equal(ledger_limits(STR("ca.example.org-directory"), true), ledger_letsencrypt);
    assert_ptr_equal(ledger_limits(STR("zerossl"), false), ledger_none);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whose_limits),
        T(each_limit),
        T(who_shares_what),
        T(the_later_end),
        T(more_than_the_limit),
        T(renewals_by_ari),
        T(no_limits),
        T(domains),
        T(no_hosts),
        T(damaged),
        T(strict_lines),
        T(strict_and_private),
        T(not_readable),
        T(taken_away),
        T(no_room),
        T(the_clock_jumps),
        T(bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
