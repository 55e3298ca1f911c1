/*
 * test_files.c - the files handler on a real folder: names, ways out, answers, the cache, and files
 * that change under it.
 */
#include "fake_req.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "proxy/files_cache.h"

static char folder[64];
static int root_fd;
static const char small[] = "<h1>index</h1>";
#define LARGE (300 * 1024 + 7)

static void put_file(const char *name, const void *p, size_t n)
{
    int fd = openat(root_fd, name, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    assert_true(fd >= 0);
    while (n) {
        ssize_t got = write(fd, p, n);
        assert_true(got > 0);
        p = (const char *)p + got;
        n -= (size_t)got;
    }
    close(fd);
}

static void put_text(const char *name, const char *text)
{
    put_file(name, text, strlen(text));
}

static char *large_content(void)
{
    char *p = malloc(LARGE);
    assert_non_null(p);
    for (size_t i = 0; i < LARGE; i++)
        p[i] = (char)(i * 31 + i / 1000);
    return p;
}

static void run(enum http_method method, const char *path)
{
    fake_begin(method, path, NULL);
    fake_run(&files_handler);
}

static unsigned status_of(const char *path)
{
    run(METHOD_GET, path);
    assert_true(req_over(&fake.r));
    return fake.r.answer.status;
}

static int group_setup(void **state)
{
    (void)state;
    loop_init();
    const char *tmp = getenv("TMPDIR");
    snprintf(folder, sizeof(folder), "%.40s/hg-files-XXXXXX",
             tmp && strlen(tmp) < 40 ? tmp : "/tmp");
    assert_non_null(mkdtemp(folder));
    char root[80];
    snprintf(root, sizeof(root), "%s/root", folder);
    assert_int_equal(mkdir(root, 0755), 0);
    root_fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    assert_true(root_fd >= 0);
    put_text("index.html", small);
    put_text("a b.txt", "space");
    put_text("..odd", "dots");
    put_text(".secret", "secret");
    put_text("empty.css", "");
    put_text("../outside.txt", "outside");
    assert_int_equal(mkdirat(root_fd, "docs", 0755), 0);
    assert_int_equal(mkdirat(root_fd, "docs/deep", 0755), 0);
    assert_int_equal(mkdirat(root_fd, "bare", 0755), 0);
    assert_int_equal(mkdirat(root_fd, ".git", 0755), 0);
    assert_int_equal(mkdirat(root_fd, ".well-known", 0755), 0);
    put_text("docs/index.html", "docs");
    put_text("docs/deep/x.js", "let x;");
    put_text("docs/.htpasswd", "secret");
    put_text(".git/config", "secret");
    put_text(".well-known/security.txt", "Contact: x");
    put_text(".well-known/.secret", "secret");
    assert_int_equal(symlinkat("docs/index.html", root_fd, "inside.html"), 0);
    assert_int_equal(symlinkat("../outside.txt", root_fd, "up.txt"), 0);
    assert_int_equal(symlinkat("/etc/passwd", root_fd, "absolute.txt"), 0);
    assert_int_equal(symlinkat("/proc/self/fd/0", root_fd, "magic.txt"), 0);
    assert_int_equal(symlinkat("loop", root_fd, "loop"), 0);
    assert_int_equal(mkfifoat(root_fd, "fifo", 0644), 0);
    char *p = large_content();
    put_file("large.bin", p, LARGE);
    free(p);

    static int fds[1];
    fds[0] = root_fd;
    fake.snap.root_fds = fds;
    fake.route.path = STR("/");
    fake.route.prefix = true;
    fake.route.index = STR("index.html");
    return 0;
}

static int group_teardown(void **state)
{
    (void)state;
    fake_end();
    files_cache_clear();
    close(root_fd);
    char command[128];
    snprintf(command, sizeof(command), "rm -rf '%s'", folder);
    return system(command);
}

static void test_plain(void **state)
{
    (void)state;
    assert_int_equal(status_of("/index.html"), 200);
    assert_string_equal(fake.body, small);
    assert_int_equal(fake.r.answer.length, sizeof(small) - 1);
    assert_true(fake.ended);
    assert_int_equal(fake.pieces, 1);
    assert_string_equal(fake_answer("content-type"), "text/html; charset=utf-8");
    assert_string_equal(fake_answer("accept-ranges"), "bytes");
    assert_string_equal(fake_answer("x-content-type-options"), "nosniff");
    assert_non_null(fake_answer("etag"));
    assert_non_null(fake_answer("last-modified"));
    assert_int_equal(status_of("/"), 200);
    assert_string_equal(fake.body, small);
    assert_int_equal(status_of("//docs//index.html"), 200);
    assert_string_equal(fake.body, "docs");
    assert_int_equal(status_of("/docs/"), 200);
    assert_int_equal(status_of("/docs/deep/x.js"), 200);
    assert_string_equal(fake_answer("content-type"), "text/javascript; charset=utf-8");
    assert_int_equal(status_of("/a%20b.txt"), 200);
    assert_string_equal(fake.body, "space");
    assert_int_equal(status_of("/inside.html"), 200);
    assert_int_equal(status_of("/.well-known/security.txt"), 200);
    assert_int_equal(status_of("/empty.css"), 200);
    assert_int_equal(fake.r.answer.length, 0);
    assert_true(fake.head_ended);
}

static void test_missing(void **state)
{
    (void)state;
    static const char *const paths[] = {
        "/nothing",
        "/docs/nothing",
        "/index.html/",
        "/index.html/x",
        "/bare/",
        "/docs/deep/",
        "/.secret",
        "/docs/.htpasswd",
        "/.git/config",
        "/..odd",
        "/.well-known/.secret",
        "/docs/.well-known/x",
        "/.well-knownx",
        "/up.txt",
        "/absolute.txt",
        "/magic.txt",
        "/loop",
        "/fifo",
        "/docs%2Findex.html",
        "/a%00",
        "/.git/",
        "/.git",
    };
    for (size_t i = 0; i < ARRAY_LEN(paths); i++)
        if (status_of(paths[i]) != 404)
            fail_msg("%s: %u", paths[i], fake.r.answer.status);
    char *longest = malloc(10002);
    assert_non_null(longest);
    memset(longest, 'a', 10001);
    longest[0] = '/';
    longest[10001] = '\0';
    assert_int_equal(status_of(longest), 404);
    free(longest);
}

static void test_folders(void **state)
{
    (void)state;
    assert_int_equal(status_of("/docs"), 308);
    assert_string_equal(fake_answer("location"), "/docs/");
    fake_begin(METHOD_GET, "//docs", "a=b");
    fake_run(&files_handler);
    assert_int_equal(fake.r.answer.status, 308);
    assert_string_equal(fake_answer("location"), "/docs/?a=b");
    fake.route.index = STR("");
    assert_int_equal(status_of("/docs/"), 404);
    assert_int_equal(status_of("/"), 404);
    fake.route.index = STR("index.html");
}

/* An exact route serves the file of its own name. */
static void test_exact_route(void **state)
{
    (void)state;
    fake.route.path = STR("/some/index.html");
    fake.route.prefix = false;
    assert_int_equal(status_of("/some/index.html"), 200);
    assert_string_equal(fake.body, small);
    fake.route.path = STR("/some/docs");
    assert_int_equal(status_of("/some/docs"), 404);
    fake.route.path = STR("/");
    fake.route.prefix = true;
}

static void test_methods(void **state)
{
    (void)state;
    run(METHOD_HEAD, "/index.html");
    assert_int_equal(fake.r.answer.status, 200);
    assert_int_equal(fake.r.answer.length, sizeof(small) - 1);
    assert_int_equal(fake.n, 0);
    assert_true(fake.head_ended);
    run(METHOD_POST, "/index.html");
    assert_int_equal(fake.r.answer.status, 405);
    assert_string_equal(fake_answer("allow"), "GET, HEAD");
}

static void test_large(void **state)
{
    (void)state;
    char *want = large_content();
    run(METHOD_GET, "/large.bin");
    assert_int_equal(fake.r.answer.status, 200);
    assert_int_equal(fake.n, LARGE);
    assert_memory_equal(fake.body, want, LARGE);
    assert_int_equal(fake.pieces, 5);
    fake_begin(METHOD_GET, "/large.bin", NULL);
    fake_field(FIELD_range, "bytes=65000-200000");
    fake_run(&files_handler);
    assert_int_equal(fake.r.answer.status, 206);
    assert_string_equal(fake_answer("content-range"), "bytes 65000-200000/307207");
    assert_int_equal(fake.n, 135001);
    assert_memory_equal(fake.body, want + 65000, 135001);
    free(want);
}

static void test_conditions(void **state)
{
    (void)state;
    char etag[80];
    run(METHOD_GET, "/index.html");
    snprintf(etag, sizeof(etag), "%s", fake_answer("etag"));
    fake_begin(METHOD_GET, "/index.html", NULL);
    fake_field(FIELD_if_none_match, etag);
    fake_run(&files_handler);
    assert_int_equal(fake.r.answer.status, 304);
    assert_string_equal(fake_answer("etag"), etag);
    assert_null(fake_answer("content-type"));
    assert_true(fake.head_ended);

    fake_begin(METHOD_GET, "/index.html", NULL);
    fake_field(FIELD_range, "bytes=-5");
    fake_run(&files_handler);
    assert_int_equal(fake.r.answer.status, 206);
    assert_string_equal(fake.body, "</h1>");
    assert_string_equal(fake_answer("content-range"), "bytes 9-13/14");

    fake_begin(METHOD_GET, "/index.html", NULL);
    fake_field(FIELD_range, "bytes=14-");
    fake_run(&files_handler);
    assert_int_equal(fake.r.answer.status, 416);
    assert_string_equal(fake_answer("content-range"), "bytes */14");

    fake_begin(METHOD_GET, "/index.html", NULL);
    fake_field(FIELD_if_match, "\"other\"");
    fake_run(&files_handler);
    assert_int_equal(fake.r.answer.status, 412);
}

static void on_stop(struct deadline *d)
{
    (void)d;
    loop_stop();
}

/* Turns of the loop, whose clock the cache goes by, until the file's answer is `status` and `text`.
 */
static void until(const char *path, unsigned status, const char *text)
{
    const uint64_t start = now_ms();
    for (;;) {
        struct deadline d = {0};
        if (status_of(path) == status && (!text || (fake.body && !strcmp(fake.body, text))))
            return;
        if (now_ms() - start > 60000)
            fail_msg("%s does not become %u", path, status);
        deadline_set(&d, 100, on_stop);
        loop_run();
    }
}

static void test_changes(void **state)
{
    (void)state;
    put_text("change.txt", "one");
    until("/change.txt", 200, "one");
    put_text("change.txt", "two");
    until("/change.txt", 200, "two");
    /* another file of the same size in its place */
    put_text("change.new", "six");
    assert_int_equal(renameat(root_fd, "change.new", root_fd, "change.txt"), 0);
    until("/change.txt", 200, "six");
    char *p = calloc(1, LARGE);
    assert_non_null(p);
    put_file("change.txt", p, LARGE);
    until("/change.txt", 200, NULL);
    free(p);
    assert_int_equal(unlinkat(root_fd, "change.txt", 0), 0);
    until("/change.txt", 404, NULL);
    assert_int_equal(mkdirat(root_fd, "change.txt", 0755), 0);
    until("/change.txt", 308, NULL);
}

/* A file dated tomorrow: Last-Modified is now, at the latest. */
static void test_future(void **state)
{
    (void)state;
    const struct timespec times[2] = {{.tv_sec = wall_s() + 86400}, {.tv_sec = wall_s() + 86400}};
    put_text("future.txt", "x");
    assert_int_equal(utimensat(root_fd, "future.txt", times, 0), 0);
    assert_int_equal(status_of("/future.txt"), 200);
    int64_t told;
    assert_true(http_date_parse(str_of(fake_answer("last-modified")), &told));
    assert_true(told <= wall_s());
}

/* What was announced and is not there any more must not end cleanly. */
static void test_truncated(void **state)
{
    (void)state;
    char *p = large_content();
    put_file("cut.bin", p, LARGE);
    free(p);
    fake_begin(METHOD_GET, "/cut.bin", NULL);
    fake.r.handler = &files_handler;
    files_handler.start(&fake.r);
    assert_true(fake.r.send_pending);
    put_text("cut.bin", "short");
    while (!req_over(&fake.r))
        req_proceed(&fake.r);
    assert_true(fake.was_reset);
    assert_false(fake.ended);
    assert_int_equal(fake.r.state, REQ_FAILED);
}

/* A client that leaves in the middle: the descriptor is the cache's alone again. */
static void test_cancel(void **state)
{
    (void)state;
    fake_begin(METHOD_GET, "/large.bin", NULL);
    fake.r.handler = &files_handler;
    files_handler.start(&fake.r);
    req_gone(&fake.r, err_reset);
    assert_null(fake.r.handler);
    files_cache_clear();
    assert_int_equal(files_cache_count(), 0);
    assert_int_equal(files_cache_bytes(), 0);
}

static void test_bounds(void **state)
{
    (void)state;
    files_cache_clear();
    char *p = calloc(1, FILES_CONTENT_MAX);
    assert_non_null(p);
    assert_int_equal(mkdirat(root_fd, "many", 0755), 0);
    enum { FILES = 300 };
    for (unsigned i = 0; i < FILES; i++) {
        char name[32];
        snprintf(name, sizeof(name), "many/%u.bin", i);
        put_file(name, p, FILES_CONTENT_MAX);
    }
    free(p);
    size_t largest = 0;
    for (unsigned i = 0; i < FILES; i++) {
        char path[32];
        snprintf(path, sizeof(path), "/many/%u.bin", i);
        assert_int_equal(status_of(path), 200);
        assert_int_equal(fake.n, FILES_CONTENT_MAX);
        assert_true(files_cache_bytes() <= FILES_CACHE_BYTES);
        assert_true(files_cache_count() <= FILES_CACHE_ENTRIES);
        largest = MAX(largest, files_cache_bytes());
    }
    assert_int_equal(largest, FILES_CACHE_BYTES);
    files_cache_clear();
    assert_int_equal(files_cache_bytes(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),      cmocka_unit_test(test_missing),
        cmocka_unit_test(test_folders),    cmocka_unit_test(test_exact_route),
        cmocka_unit_test(test_methods),    cmocka_unit_test(test_large),
        cmocka_unit_test(test_conditions), cmocka_unit_test(test_changes),
        cmocka_unit_test(test_truncated),  cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_bounds),     cmocka_unit_test(test_future),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
