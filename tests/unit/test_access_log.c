/*
 * test_access_log.c - lines that programs can read, never longer than promised, never torn, never
 * blocking, and counted when nobody reads them.
 */
#include "fake_req.h"

#include <fcntl.h>
#include <jansson.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/stats.h"
#include "proxy/access_log.h"

static struct conf_service service;

static int group_setup(void **state)
{
    (void)state;
    loop_init();
    fake.conf.log.format = CONF_ACCESS_JSON;
    fake.site.name = STR("beta");
    fake.route.path = STR("/");
    fake.route.prefix = true;
    service.name = STR("beta/api");
    fake.client.kind = LISTENER_HTTP;
    return 0;
}

static int group_teardown(void **state)
{
    (void)state;
    access_log_open(-1);
    fake_end();
    return 0;
}

static struct req *over(const char *path, const char *query)
{
    struct req *r = fake_begin(METHOD_GET, path, query);
    r->answer.status = 200;
    r->body_out = 1234;
    r->state = REQ_DONE;
    r->started_us = now_ms() * 1000;
    return r;
}

static const char *get(const json_t *j, const char *key)
{
    return json_string_value(json_object_get(j, key));
}

static json_t *line_of(const struct req *r, bool query)
{
    char mem[ACCESS_LINE_MAX];
    size_t n = access_log_line(r, CONF_ACCESS_JSON, query, mem);
    assert_true(n > 0 && n <= ACCESS_LINE_MAX && mem[n - 1] == '\n');
    assert_ptr_equal(memchr(mem, '\n', n), mem + n - 1);
    json_error_t err;
    json_t *j = json_loadb(mem, n, JSON_REJECT_DUPLICATES, &err);
    if (!j)
        fail_msg("%s: %.*s", err.text, (int)n, mem);
    return j;
}

static void test_json(void **state)
{
    (void)state;
    struct req *r = over("/a", "secret=1");
    fake_field(FIELD_user_agent, "curl/7.88");
    fake_field(FIELD_referer, "https://example.org/\"x\"");
    fake.route.service = &service;
    r->instance = STR("127.0.0.1:5001");
    r->error = "timed out";
    json_t *j = line_of(r, false);
    assert_string_equal(get(j, "client"), "192.0.2.1");
    assert_string_equal(get(j, "host"), "www.example.org");
    assert_string_equal(get(j, "method"), "GET");
    assert_string_equal(get(j, "path"), "/a");
    assert_string_equal(get(j, "proto"), "HTTP/1.1");
    assert_string_equal(get(j, "site"), "beta");
    assert_string_equal(get(j, "route"), "/");
    assert_string_equal(get(j, "service"), "beta/api");
    assert_string_equal(get(j, "instance"), "127.0.0.1:5001");
    assert_string_equal(get(j, "user_agent"), "curl/7.88");
    assert_string_equal(get(j, "referer"), "https://example.org/\"x\"");
    assert_string_equal(get(j, "error"), "timed out");
    assert_int_equal(strlen(get(j, "request_id")), 16);
    assert_int_equal(json_integer_value(json_object_get(j, "status")), 200);
    assert_int_equal(json_integer_value(json_object_get(j, "bytes_out")), 1234);
    assert_true(json_is_real(json_object_get(j, "duration_ms")));
    const char *ts = get(j, "ts");
    assert_int_equal(strlen(ts), 24);
    assert_true(ts[10] == 'T' && ts[19] == '.' && ts[23] == 'Z');
    json_decref(j);
    fake.route.service = NULL;
    j = line_of(r, true);
    assert_string_equal(get(j, "path"), "/a?secret=1");
    json_decref(j);
}

static void test_refused_and_gone(void **state)
{
    (void)state;
    struct req *r = over("", NULL);
    r->target = STR("/bad\\?q");
    r->answer.status = 0;
    r->site = NULL;
    r->route = NULL;
    json_t *j = line_of(r, false);
    assert_string_equal(get(j, "path"), "/bad\\");
    assert_int_equal(json_integer_value(json_object_get(j, "status")), 499);
    assert_null(json_object_get(j, "site"));
    json_decref(j);
}

/* Every value as long and as bad as can be. */
static void test_hostile(void **state)
{
    (void)state;
    enum { LONG = 20000 };
    static const char *const bad[] = {"\"", "\x01", "\xff", "\xe2\x82",     "\xc3\xa4",        "\\",
                                      "a",  "\n",   "\x7f", "\xed\xa0\x80", "\xf4\x90\x80\x80"};
    char *worst = malloc(LONG + 8);
    assert_non_null(worst);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        const size_t n = strlen(bad[i]);
        size_t k = 0;
        for (; k + n <= LONG; k += n)
            memcpy(worst + k, bad[i], n);
        worst[k] = '\0';
        struct str all = {worst, k};
        struct req *r = over(worst, worst);
        fake_field(FIELD_user_agent, worst);
        fake_field(FIELD_referer, worst);
        r->host = r->method_text = r->instance = all;
        r->error = worst;
        fake.site.name = fake.route.path = service.name = all;
        fake.route.service = &service;
        json_decref(line_of(r, true));
        char mem[ACCESS_LINE_MAX];
        size_t len = access_log_line(r, CONF_ACCESS_COMBINED, true, mem);
        assert_true(len <= ACCESS_LINE_MAX && mem[len - 1] == '\n');
        assert_ptr_equal(memchr(mem, '\n', len), mem + len - 1);
    }
    fake.site.name = STR("beta");
    fake.route.path = STR("/");
    fake.route.service = NULL;
    service.name = STR("beta/api");
    free(worst);
}

static void test_combined(void **state)
{
    (void)state;
    struct req *r = over("/a", "b");
    fake_field(FIELD_user_agent, "x \"y\"");
    char mem[ACCESS_LINE_MAX];
    size_t n = access_log_line(r, CONF_ACCESS_COMBINED, true, mem);
    mem[n] = '\0';
    assert_non_null(strstr(mem, "192.0.2.1 - - ["));
    assert_non_null(strstr(mem, " +0000] \"GET /a?b HTTP/1.1\" 200 1234 \"-\" \"x \\\"y\\\"\"\n"));
}

/* Everything that is in the pipe now; checks that it is whole lines, and counts them. */
static unsigned read_lines(int fd)
{
    static char buf[1024 * 1024];
    size_t n = 0;
    ssize_t got;
    while ((got = read(fd, buf + n, sizeof(buf) - n)) > 0)
        n += (size_t)got;
    unsigned lines = 0;
    for (char *p = buf, *end = buf + n, *nl; p < end; p = nl + 1, lines++) {
        nl = memchr(p, '\n', (size_t)(end - p));
        assert_non_null(nl);
        json_t *j = json_loadb(p, (size_t)(nl - p), 0, NULL);
        assert_non_null(j);
        json_decref(j);
    }
    return lines;
}

/* A reader that sleeps: nothing blocks, what was written is whole, the rest is counted. */
static void slow_reader(int writer, int reader)
{
    enum { LINES = 2000 };
    assert_true(fcntl(reader, F_SETFL, O_NONBLOCK) == 0);
    const int64_t dropped = stats_self->v[STAT_access_dropped];
    access_log_open(writer);
    struct req *r = over("/path/of/some/length/to/fill/the/pipe/with/fewer/lines", NULL);
    for (unsigned i = 0; i < LINES; i++)
        access_log_write(r);
    unsigned read = 0;
    for (unsigned more; access_log_flush(), (more = read_lines(reader)) > 0;)
        read += more;
    const int64_t lost = stats_self->v[STAT_access_dropped] - dropped;
    assert_true(lost > 0);
    assert_int_equal(read + lost, LINES);
    access_log_write(r); /* and it goes on */
    access_log_flush();
    assert_int_equal(read_lines(reader), 1);
    access_log_open(-1);
}

static void test_pipe(void **state)
{
    (void)state;
    int fds[2];
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    const int other = dup(fds[1]); /* someone else's stdout: stays blocking */
    slow_reader(fds[1], fds[0]);
    assert_int_equal(fcntl(other, F_GETFL) & O_NONBLOCK, 0);
    close(other);
    close(fds[0]);
}

static void test_socket(void **state)
{
    (void)state;
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    slow_reader(fds[1], fds[0]);
    close(fds[0]);
}

static void test_reader_gone(void **state)
{
    (void)state;
    int fds[2];
    const int64_t dropped = stats_self->v[STAT_access_dropped];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    close(fds[0]);
    access_log_open(fds[1]);
    access_log_write(over("/", NULL));
    access_log_flush();
    assert_int_equal(stats_self->v[STAT_access_dropped] - dropped, 1);
    access_log_open(-1);
}

static void on_stop(struct deadline *d)
{
    (void)d;
    loop_stop();
}

/* Written by itself soon, to a file, and to the next one after a change of files. */
static void test_file(void **state)
{
    (void)state;
    char path[] = "/tmp/hg-access-XXXXXX";
    int fd = mkostemp(path, O_APPEND | O_CLOEXEC);
    assert_true(fd >= 0);
    int look = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(look >= 0);
    access_log_open(fd);
    access_log_write(over("/", NULL));
    const uint64_t start = now_ms();
    unsigned lines = 0;
    while ((lines += read_lines(look)) == 0 && now_ms() - start < 60000) {
        struct deadline d = {0};
        deadline_set(&d, 100, on_stop);
        loop_run();
    }
    assert_int_equal(lines, 1);
    access_log_write(over("/", NULL));
    access_log_open(-1); /* what is gathered goes to the old one */
    assert_int_equal(read_lines(look), 1);
    access_log_write(over("/", NULL));
    access_log_flush();
    assert_int_equal(read_lines(look), 0);
    close(look);
    unlink(path);
}

static void test_excluded(void **state)
{
    (void)state;
    struct str exclude[] = {STR("/healthz"), STR("/static/")};
    int fds[2];
    assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
    access_log_open(fds[1]);
    fake.conf.log.exclude = exclude;
    fake.conf.log.n_exclude = 2;
    access_log_write(over("/healthz", NULL));
    access_log_write(over("/static/a", NULL));
    access_log_write(over("/a/static/", NULL));
    access_log_flush();
    assert_int_equal(read_lines(fds[0]), 1);
    fake.conf.log.n_exclude = 0;
    fake.conf.log.format = CONF_ACCESS_OFF;
    access_log_write(over("/", NULL));
    access_log_flush();
    assert_int_equal(read_lines(fds[0]), 0);
    fake.conf.log.format = CONF_ACCESS_JSON;
    access_log_open(-1);
    close(fds[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json),        cmocka_unit_test(test_refused_and_gone),
        cmocka_unit_test(test_hostile),     cmocka_unit_test(test_combined),
        cmocka_unit_test(test_pipe),        cmocka_unit_test(test_socket),
        cmocka_unit_test(test_reader_gone), cmocka_unit_test(test_file),
        cmocka_unit_test(test_excluded),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
