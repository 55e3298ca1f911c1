/*
 * test_metrics.c - rows: who gets one, what stays of it across processes, deaths and other
 * configurations; and the text that is made of them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs the four above first */
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/stats.h"
#include "proxy/metrics.h"
#include "proxy/roles.h"

static int rows_fd = -1;
static uint64_t now = 1;

/* The routes of a configuration of one site: a row a path. */
static struct row_key key_of(const char *path)
{
    return (struct row_key){{STR("beta"), STR("b.example"), str_of(path)}};
}

static void claim(bool final, const char *const *paths, size_t n)
{
    rows_claim_begin(ROW_ROUTE);
    for (size_t i = 0; i < n; i++) {
        const struct row_key key = key_of(paths[i]);
        rows_claim(ROW_ROUTE, &key, now);
    }
    rows_claim_end(ROW_ROUTE, final, now);
}
#define CLAIM(final, ...)                            \
    claim(final, (const char *const[]){__VA_ARGS__}, \
          ARRAY_LEN(((const char *const[]){__VA_ARGS__})))

static struct route_row *use(const char *path)
{
    const struct row_key key = key_of(path);
    return rows_use(ROW_ROUTE, &key);
}

static void drop(const char *path)
{
    struct route_row *row = use(path);
    rows_drop(ROW_ROUTE, row); /* of this use */
    rows_drop(ROW_ROUTE, row);
}

/* The row that shows that route, or -1. */
static int shown(const char *path)
{
    char mem[ROWS_KEY_MAX];
    struct row_key key;
    for (unsigned i = 0; i < rows_capacity(ROW_ROUTE); i++)
        if (rows_get(ROW_ROUTE, i, now, mem, &key) && str_eq(key.label[2], str_of(path)))
            return (int)i;
    return -1;
}

static int64_t body_in(const char *path)
{
    struct route_row sum;
    const int row = shown(path);
    assert_true(row >= 0);
    rows_total(ROW_ROUTE, (unsigned)row, &sum);
    return sum.body_in;
}

static int setup(void **state)
{
    (void)state;
    if (rows_fd >= 0)
        return 0;
    rows_fd = rows_create();
    return rows_attach(rows_fd, ROLE_STATS_MASTER) ? -1 : 0;
}

static void test_before_attach(void **state)
{
    (void)state;
    struct route_row *row = use("/");
    row_add(&row->body_in, 5);
    assert_ptr_equal(use("/other"), row);
    rows_drop(ROW_ROUTE, row);
    assert_int_equal(rows_taken(ROW_ROUTE), 0);
}

static void test_life(void **state)
{
    (void)state;
    CLAIM(true, "/", "/a/");
    struct route_row *a = use("/a/");
    assert_ptr_not_equal(a, use("/"));
    row_add(&a->body_in, 7);
    assert_int_equal(body_in("/a/"), 7);
    assert_int_equal(shown("/b/"), -1);

    /* A configuration that may be refused gets its rows unseen; the current one's stay. */
    CLAIM(false, "/", "/a/", "/b/");
    row_add(&use("/b/")->body_in, 3);
    assert_int_equal(shown("/b/"), -1);
    CLAIM(true, "/", "/b/");
    assert_int_equal(body_in("/b/"), 3);

    /* What went is shown for a while, and goes on from there when it comes back. */
    assert_int_equal(body_in("/a/"), 7);
    now += ROWS_KEEP_MS + 1;
    assert_int_equal(shown("/a/"), -1);
    assert_ptr_equal(use("/a/"), a);
    CLAIM(true, "/", "/a/");
    assert_int_equal(body_in("/a/"), 7);
}

static void test_processes(void **state)
{
    (void)state;
    const struct row_key service = {{STR("beta"), STR("api")}};
    CLAIM(true, "/");
    rows_claim_begin(ROW_SERVICE);
    rows_claim(ROW_SERVICE, &service, now);
    rows_claim_end(ROW_SERVICE, true, now);
    const int64_t before = body_in("/");
    for (int round = 0; round < 2; round++) { /* two processes, one after the other, same number */
        pid_t pid = fork();
        if (pid == 0) {
            bool ok = rows_attach(rows_fd, 3) == NULL;
            row_add(&use("/")->body_in, 10);
            struct service_row *s = rows_use(ROW_SERVICE, &service);
            row_add(&s->connects, 1);
            row_add(&s->waiting, 4);
            _exit(ok ? 0 : 1);
        }
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
    }
    struct service_row sum;
    rows_total(ROW_SERVICE, 1, &sum);
    assert_int_equal(sum.waiting, 8);
    rows_process_died(3);
    rows_total(ROW_SERVICE, 1, &sum);
    assert_int_equal(sum.waiting, 0);
    assert_int_equal(sum.connects, 2);
    assert_int_equal(body_in("/"), before + 20);
    assert_non_null(rows_attach(rows_fd, ROWS_PROCESSES));
}

/* More names than rows: the rest folds, vanished rows that are not used any more are taken again.
 */
static void test_exhausted(void **state)
{
    (void)state;
    const unsigned all = rows_capacity(ROW_ROUTE);
    char **paths = calloc(all + 10, sizeof(*paths));
    for (unsigned i = 0; i < all + 10; i++)
        assert_true(asprintf(&paths[i], "/p%u/", i) > 0);
    CLAIM(true, "/", "/held/");
    row_add(&use("/held/")->body_in, 99);
    const int held = shown("/held/");
    CLAIM(true, "/");
    now += ROWS_KEEP_MS + 1;
    claim(true, (const char *const *)paths, all + 10);
    const unsigned folded = rows_folded(ROW_ROUTE);
    assert_true(folded > 10 && folded < 30); /* row 0, and what earlier tests hold */
    assert_int_equal(rows_taken(ROW_ROUTE), all);
    struct route_row *other = use("no such route");
    assert_ptr_equal(use(paths[all + 9]), other);
    row_add(&other->body_in, 1);
    assert_int_equal(body_in("_other"), 1);
    row_add(&use(paths[3])->body_in, 33);
    drop(paths[3]);

    /* All of them vanish. The one that a snapshot still uses is nobody else's, and one that comes
     * back in time keeps its count; a new name starts at nothing. */
    CLAIM(true, "/back/");
    now += ROWS_KEEP_MS + 1;
    claim(true, (const char *const *)paths + 100, 50);
    CLAIM(true, "/held/", "/fresh/");
    assert_int_equal(shown("/held/"), held);
    assert_int_equal(body_in("/held/"), 99);
    assert_int_equal(body_in("/fresh/"), 0);
    assert_int_equal(rows_folded(ROW_ROUTE), 0);
    for (unsigned i = 0; i < all + 10; i++)
        free(paths[i]);
    free(paths);
}

static void test_long_name(void **state)
{
    (void)state;
    static char path[ROWS_KEY_MAX + 10];
    memset(path, 'x', sizeof(path) - 1);
    CLAIM(true, path, "/");
    assert_int_equal(rows_folded(ROW_ROUTE), 1);
    assert_ptr_equal(use(path), use("nothing like it"));
}

static void test_wrong_segment(void **state)
{
    (void)state;
    int fd = memfd_create("small", MFD_CLOEXEC);
    assert_int_equal(ftruncate(fd, 4096), 0);
    assert_non_null(rows_attach(fd, 0));
    close(fd);
    assert_non_null(rows_attach(-1, 0));
}

/* ---- text ---- */

static const char *text_of(struct arena *a, const struct metrics_facts *f)
{
    const size_t room = 4 * 1024 * 1024;
    struct out o = out_on(arena_alloc(a, room + 1), room);
    metrics_write(&o, a, f);
    assert_false(o.over);
    o.p[o.n] = '\0';
    return o.p;
}

static void assert_line(const char *text, const char *line)
{
    const char *at = strstr(text, line);
    if (!at || (at != text && at[-1] != '\n') || at[strlen(line)] != '\n')
        fail_msg("no line %s", line);
}

static void test_text(void **state)
{
    (void)state;
    struct arena *a = arena_new(4096);
    CLAIM(true, "/a\"b\\c\nd");
    struct route_row *row = use("/a\"b\\c\nd");
    row_add(&row->requests[1][CLASS_2XX], 2);
    row_observe(&row->seconds, 1000); /* a bound belongs to its bucket */
    row_observe(&row->seconds, 1001);
    row_observe(&row->seconds, 61000000);
    const struct metrics_cert cert = {STR("b.example"), 1234567890};
    const struct metrics_facts f = {.now = now, .certs = &cert, .n_certs = 1};
    const char *text = text_of(a, &f);
#define ROW "{channel=\"beta\",host=\"b.example\",route=\"/a\\\"b\\\\c\\nd\""
    assert_line(text, "headgate_http_requests_total" ROW ",method=\"GET\",status=\"2xx\"} 2");
    assert_line(text, "headgate_http_request_duration_seconds_bucket" ROW ",le=\"0.001\"} 1");
    assert_line(text, "headgate_http_request_duration_seconds_bucket" ROW ",le=\"0.0025\"} 2");
    assert_line(text, "headgate_http_request_duration_seconds_bucket" ROW ",le=\"60\"} 2");
    assert_line(text, "headgate_http_request_duration_seconds_bucket" ROW ",le=\"+Inf\"} 3");
    assert_line(text, "headgate_http_request_duration_seconds_sum" ROW "} 61.002001");
    assert_line(text, "headgate_http_request_duration_seconds_count" ROW "} 3");
    assert_line(text, "headgate_certificate_not_after_timestamp_seconds{host=\"b.example\"} "
                      "1234567890");
    assert_line(text, "# TYPE headgate_http_request_duration_seconds histogram");
    assert_line(text, "headgate_build_info{version=\"" HG_VERSION "\"} 1");
    /* Too little room is told, and nothing is written behind it. */
    char small[300];
    memset(small, 'z', sizeof(small));
    struct out o = out_on(small, 256);
    metrics_write(&o, a, &f);
    assert_true(o.over);
    for (size_t i = 256; i < sizeof(small); i++)
        assert_int_equal(small[i], 'z');
    arena_free(&a);
}

/* Every counter of the stats table is told under a name of its kind, each family once. */
static void test_families(void **state)
{
    (void)state;
    struct arena *a = arena_new(4096);
    const struct metrics_facts f = {.now = now};
    const char *text = text_of(a, &f);
    unsigned families = 0;
    for (const char *at = strstr(text, "# TYPE "); at; at = strstr(at + 1, "# TYPE ")) {
        struct str rest = str_of(at + 7), name, kind;
        assert_true(str_split(&rest, ' ', &name) && str_split(&rest, '\n', &kind));
        assert_true(str_starts(name, STR("headgate_")));
        assert_int_equal(str_ends(name, STR("_total")), str_eq(kind, STR("counter")));
        const char *head = arena_fmt(a, "# TYPE " STR_FMT " ", STR_ARG(name)).p;
        assert_ptr_equal(strstr(text, head), at);
        assert_null(strstr(at + 1, head));
        families++;
    }
    assert_true(families > 40);
    arena_free(&a);
}

static void test_manual(void **state)
{
    (void)state;
    char *text = NULL;
    size_t n = 0;
    FILE *m = open_memstream(&text, &n);
    assert_int_equal(metrics_print_mdoc(m), 0);
    fclose(m);
    assert_non_null(strstr(text,
                           ".It Li headgate_http_requests_total Pq counter channel host route "
                           "method status\n"));
    assert_non_null(strstr(text, ".It Li headgate_tls_handshakes_total Pq counter result\n"));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_before_attach),
        cmocka_unit_test_setup(test_life, setup),
        cmocka_unit_test_setup(test_processes, setup),
        cmocka_unit_test_setup(test_exhausted, setup),
        cmocka_unit_test_setup(test_long_name, setup),
        cmocka_unit_test_setup(test_wrong_segment, setup),
        cmocka_unit_test_setup(test_text, setup),
        cmocka_unit_test_setup(test_families, setup),
        cmocka_unit_test_setup(test_manual, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
