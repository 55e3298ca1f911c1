/*
 * test_fetch.c - HTTP exchanges by libcurl on the loop: what comes back, what is refused, and that
 * the agent's sandbox lets it work.
 */
#include "base/base.h"

#include <setjmp.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "base/fetch.h"
#include "base/loop.h"
#include "base/sandbox.h"
#include "tests/unit/tls_server.h"

static struct arena *arena;
static struct tls_server server;

/* What became of one; copied. */
struct heard {
    unsigned n;
    const char *err;
    bool too_large;
    unsigned status, n_headers;
    struct str body, kind, more, none;
};

static unsigned awaited;

static void on_done(void *ctx, const struct fetch_answer *a)
{
    struct heard *h = ctx;
    h->n++;
    h->err = a->err ? arena_strz(arena, str_of(a->err)) : NULL;
    h->too_large = a->too_large;
    h->status = a->status;
    h->n_headers = a->n_headers;
    h->body = arena_str(arena, a->body);
    h->kind = arena_str(arena, fetch_header(a, "X-Kind"));
    h->more = arena_str(arena, fetch_header(a, "x-more"));
    h->none = fetch_header(a, "X-None");
    if (--awaited == 0)
        loop_stop();
}

static struct fetch_spec spec(const char *path)
{
    return (struct fetch_spec){.method = "GET",
                               .url = arena_fmt(arena, "%s://localhost:%d%s",
                                                server.root.n ? "https" : "http", server.port, path)
                                          .p,
                               .plain = !server.root.n,
                               .ca_pem = server.root,
                               .max_body = 1000,
                               .timeout_ms = 60000};
}

static struct heard fetched(struct fetch_spec s)
{
    struct heard h = {0};
    awaited = 1;
    (void)fetch_start(&s, on_done, &h);
    assert_int_equal(h.n, 0);
    loop_run();
    assert_int_equal(h.n, 1);
    return h;
}

static void failed(struct heard h, const char *part)
{
    assert_non_null(h.err);
    if (!strstr(h.err, part))
        fail_msg("\"%s\" does not say \"%s\"", h.err, part);
    assert_int_equal(h.body.n, 0);
}

static void fine(struct heard h, unsigned status)
{
    if (h.err)
        fail_msg("%s", h.err);
    assert_int_equal(h.status, status);
}

static int set_up(void **state UNUSED)
{
    static const char *const proxies[] = {"http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy",
                                          "ALL_PROXY"};
    for (size_t i = 0; i < ARRAY_LEN(proxies); i++)
        unsetenv(proxies[i]);
    signal(SIGPIPE, SIG_IGN);
    arena = arena_new(1 << 16);
    loop_init();
    return 0;
}

static int tear_down(void **state UNUSED)
{
    ts_stop(&server);
    fetch_fini();
    loop_fini();
    arena_free(&arena);
    return 0;
}

static void serve(ts_handler *handler)
{
    server = ts_start(arena, "DNS:localhost", handler);
}

/* ---- answers ---- */

static void echo(const struct tls_server *s UNUSED, const struct ts_request *r, struct out *o)
{
    char text[4096];
    struct out body = out_on(text, sizeof text);
    out_str(&body, r->head);
    out_str(&body, r->body);
    ts_answer(o, "200 OK", "x-KIND:  one \r\nX-Kind: two\r\nX-Empty:\r\n", out_done(&body));
}

static void get(void **state UNUSED)
{
    serve(echo);
    struct fetch_spec s = spec("/a/../b?c");
    s.accept = "text/x";
    struct heard h = fetched(s);
    fine(h, 200);
    assert_true(str_eq(h.kind, STR("one"))); /* the first one */
    assert_int_equal(h.none.n, 0);
    assert_non_null(strstr(h.body.p, "GET /a/../b?c HTTP/1.1\r\n"));
    assert_non_null(strstr(h.body.p, "\r\nUser-Agent: headgate/" HG_VERSION "\r\n"));
    assert_non_null(strstr(h.body.p, "\r\nAccept: text/x\r\n"));
    assert_null(strstr(h.body.p, "Accept-Encoding"));
}

static void post_and_head(void **state UNUSED)
{
    serve(echo);
    struct fetch_spec s = spec("/");
    s.method = "POST";
    s.body = STR("some\0bytes");
    s.content_type = "application/jose+json";
    struct heard h = fetched(s);
    fine(h, 200);
    assert_non_null(strstr(h.body.p, "\r\nContent-Type: application/jose+json\r\n"));
    assert_true(str_ends(h.body, s.body));
    s.body = STR("");
    h = fetched(s);
    fine(h, 200);
    assert_non_null(strstr(h.body.p, "\r\nContent-Length: 0\r\n"));
    s.method = "HEAD";
    h = fetched(s);
    fine(h, 200);
    assert_true(str_eq(h.kind, STR("one")));
    assert_int_equal(h.body.n, 0);
}

/* The length of the body stands in the path; chunked when an x does too. */
static void sized(const struct tls_server *s UNUSED, const struct ts_request *r, struct out *o)
{
    size_t n = strtoul(r->path + 1, NULL, 10);
    char *body = malloc(n + 1);
    ASSERT(body);
    memset(body, 'b', n);
    if (strchr(r->path, 'x')) {
        out_fmt(o,
                "HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n%zx\r\n",
                n);
        out_bytes(o, body, n);
        out_lit(o, "\r\n0\r\nX-More: trailer\r\n\r\n");
    } else {
        ts_answer(o, "200 OK", "", (struct str){body, n});
    }
    free(body);
}

static void bodies_are_bounded(void **state UNUSED)
{
    serve(sized);
    for (int chunked = 0; chunked < 2; chunked++) {
        struct heard h = fetched(spec(chunked ? "/1000x" : "/1000"));
        fine(h, 200);
        assert_int_equal(h.body.n, 1000);
        assert_int_equal(h.more.n, 0); /* trailers are no part of the head */
        h = fetched(spec(chunked ? "/1001x" : "/1001"));
        failed(h, "too large");
        assert_true(h.too_large);
        failed(fetched(spec(chunked ? "/500000x" : "/500000")), "too large");
    }
    struct fetch_spec s = spec("/0");
    s.max_body = 0;
    fine(fetched(s), 200);
}

/* As many fields as the path says, each of 1,000 bytes when an x stands there. */
static void fields(const struct tls_server *s UNUSED, const struct ts_request *r, struct out *o)
{
    unsigned long n = strtoul(r->path + 1, NULL, 10);
    out_lit(o, "HTTP/1.1 103 Early Hints\r\nX-Kind: early\r\nX-More: early\r\n\r\n");
    out_lit(o, "HTTP/1.1 204 No Content\r\nConnection: close\r\n");
    for (unsigned long i = 1; i < n; i++)
        out_fmt(o, "X-F%lu: %*s\r\n", i, strchr(r->path, 'x') ? 1000 : 1, "v");
    out_lit(o, "\r\n");
}

static void heads_are_bounded(void **state UNUSED)
{
    serve(fields);
    struct heard h = fetched(spec("/64"));
    fine(h, 204);
    assert_int_equal(h.n_headers, 64);
    assert_int_equal(h.kind.n + h.more.n, 0); /* not those of the 103 */
    h = fetched(spec("/65"));
    failed(h, "too many fields");
    assert_true(h.too_large);
    failed(fetched(spec("/40x")), "too large");
}

static void redirect(const struct tls_server *s, const struct ts_request *r, struct out *o)
{
    char field[128];
    struct out f = out_on(field, sizeof field - 1);
    out_fmt(&f, "Location: https://localhost:%d/next\r\n", s->port);
    field[f.n] = '\0';
    ts_answer(o, strcmp(r->path, "/next") ? "302 Found" : "200 OK", field, STR(""));
}

static void redirects_are_not_followed(void **state UNUSED)
{
    serve(redirect);
    fine(fetched(spec("/")), 302);
}

/* ---- what fails ---- */

static void wrong_urls(void **state UNUSED)
{
    serve(echo);
    static const char *const urls[] = {"http://localhost/", "file:///etc/passwd",
                                       "ftp://x/",          "https://u:p@localhost/",
                                       "nothing",           "",
                                       "https://"};
    for (size_t i = 0; i < ARRAY_LEN(urls); i++) {
        struct fetch_spec s = spec("/");
        s.url = urls[i];
        struct heard h = fetched(s);
        assert_non_null(h.err);
        assert_int_equal(h.status, 0);
    }
    struct fetch_spec s = spec("/");
    s.url = "http://localhost/";
    failed(fetched(s), "not usable");
    s.url = "https://a..b/";
    failed(fetched(s), "does not resolve");
}

static void plain_http(void **state UNUSED)
{
    server = ts_start(arena, NULL, echo);
    fine(fetched(spec("/")), 200);
}

static void trust(void **state UNUSED)
{
    serve(echo);
    struct fetch_spec s = spec("/");
    s.ca_pem = STR_NULL;
    failed(fetched(s), "is not trusted");
    struct test_cert other = test_cert_make(arena, (struct test_cert_how){.ca = true});
    s.ca_pem = other.pem;
    failed(fetched(s), "is not trusted");
    test_cert_free(&other);
    /* One that was trusted does not help those after it. */
    fine(fetched(spec("/")), 200);
    failed(fetched(s), "is not trusted");
    s.ca_pem = server.root;
    s.url = arena_fmt(arena, "https://127.0.0.1:%d/", server.port).p;
    failed(fetched(s), "is not trusted"); /* another name */
    s.ca_pem = STR("garbage");
    assert_non_null(fetched(s).err);
}

static void nobody_there(void **state UNUSED)
{
    serve(echo);
    struct fetch_spec s = spec("/");
    ts_stop(&server);
    failed(fetched(s), "cannot connect to localhost");
    failed(fetched(s), "refused");
    serve(echo);
}

static void breaks_off(const struct tls_server *s UNUSED, const struct ts_request *r, struct out *o)
{
    static const char *const parts[] = {
        "", "HTTP/1.1 200 OK\r\nConnection: close\r\nX-",
        "no HTTP at all, connection: close\r\n\r\n",
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 10\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"};
    size_t i = strtoul(r->path + 1, NULL, 10);
    if (i < ARRAY_LEN(parts))
        out_str(o, str_of(parts[i]));
    else
        for (;;)
            pause();
}

static void cut_answers(void **state UNUSED)
{
    serve(breaks_off);
    for (int i = 0; i < 5; i++) {
        struct heard h = fetched(spec(arena_fmt(arena, "/%d", i).p));
        if (!h.err)
            fail_msg("part %d passes as an answer: %u", i, h.status);
        assert_int_equal(h.body.n, 0);
    }
    struct fetch_spec s = spec("/5"); /* never answers */
    s.timeout_ms = 50;
    failed(fetched(s), "in time");
}

/* ---- many, and their ends ---- */

static void numbered(const struct tls_server *s UNUSED, const struct ts_request *r, struct out *o)
{
    out_fmt(o, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Kind: %u\r\n\r\n", r->connection);
}

static void connections_are_kept(void **state UNUSED)
{
    serve(numbered);
    for (int i = 0; i < 5; i++) {
        struct heard h = fetched(spec("/"));
        fine(h, 200);
        assert_true(str_eq(h.kind, STR("1")));
    }
}

static void side_by_side(void **state UNUSED)
{
    static struct heard h[50];
    memset(h, 0, sizeof h);
    serve(echo);
    struct fetch_spec s = spec("/");
    awaited = ARRAY_LEN(h);
    for (size_t i = 0; i < ARRAY_LEN(h); i++)
        (void)fetch_start(&s, on_done, &h[i]);
    loop_run();
    for (size_t i = 0; i < ARRAY_LEN(h); i++)
        fine(h[i], 200);
}

static struct fetch *itself;

static void on_done_cancel(void *ctx, const struct fetch_answer *a)
{
    fetch_cancel(&itself);
    on_done(ctx, a);
}

static void cancelled(void **state UNUSED)
{
    serve(breaks_off);
    struct heard never = {0}, h = {0};
    struct fetch_spec s = spec("/5"), bad = spec("/");
    bad.url = "http://x/";
    struct fetch *f = fetch_start(&s, on_done, &never), *early = fetch_start(&bad, on_done, &never);
    fetch_cancel(&early);
    fetch_cancel(&f);
    assert_null(f);
    fetch_cancel(&f);
    f = fetch_start(&s, on_done, &never);
    s.timeout_ms = 50;
    s.url = bad.url;
    awaited = 1;
    itself = fetch_start(&s, on_done_cancel, &h); /* while the other one is under way */
    loop_run();
    assert_int_equal(h.n, 1);
    assert_null(itself);
    fetch_cancel(&f);
    assert_int_equal(never.n, 0);
    assert_null(fetch_setup()); /* once more is fine */
}

/* ---- in the agent ---- */

static int agent(const char *dir)
{
    if (chdir(dir) != 0)
        return 2;
    fetch_fini();
    loop_init(); /* epoll is not inherited */
    if (fetch_setup() || sandbox_agent("."))
        return 3;
    struct heard h = fetched(spec("/")); /* by name: a thread resolves it */
    if (h.err || h.status != 200)
        return 4;
    struct fetch_spec s = spec("/");
    s.ca_pem = STR_NULL; /* the system's CAs are read, and do not know this one */
    h = fetched(s);
    if (!h.err || !strstr(h.err, "not trusted"))
        return 5;
    s.url = "https://a..b/";
    h = fetched(s);
    if (!h.err || !strstr(h.err, "resolve"))
        return 6;
    fetch_fini();
    loop_fini();
    return 0;
}

static void in_the_sandbox(void **state UNUSED)
{
    char dir[] = "/tmp/headgate-fetch-XXXXXX";
    int status;
    assert_non_null(mkdtemp(dir));
    serve(echo);
    pid_t pid = fork();
    if (pid == 0)
        _exit(agent(dir));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(rmdir(dir), 0);
    if (WIFSIGNALED(status))
        fail_msg("killed by signal %d%s", WTERMSIG(status),
                 WTERMSIG(status) == SIGSYS ? ": a system call is missing in the agent's list"
                                            : "");
    assert_int_equal(WEXITSTATUS(status), 0);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(get),
        CASE(post_and_head),
        CASE(bodies_are_bounded),
        CASE(heads_are_bounded),
        CASE(redirects_are_not_followed),
        CASE(wrong_urls),
        CASE(plain_http),
        CASE(trust),
        CASE(nobody_there),
        CASE(cut_answers),
        CASE(connections_are_kept),
        CASE(side_by_side),
        CASE(cancelled),
        CASE(in_the_sandbox),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
