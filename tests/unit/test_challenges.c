/*
 * test_challenges.c - the table of a worker, HTTP-01 by a request's way, and the agent's side.
 */
#include "tests/unit/fake_req.h"

#include "proxy/agent_challenges.h"
#include "proxy/challenges.h"
#include "proxy/router.h"

static struct str text_of(const char *host, const char *token, const char *answer)
{
    static char mem[MSG_TAIL_MAX];
    struct out o = out_on(mem, sizeof(mem));
    challenge_text_write(&(struct challenge_text){str_of(host), str_of(token), str_of(answer)}, &o);
    assert_false(o.over);
    return out_done(&o);
}

static const char *show(uint64_t id, const char *host, const char *token, const char *answer)
{
    struct msg_challenge m = {.id = id, .kind = MSG_CHALLENGE_HTTP, .on = 1};
    return challenges_take(&m, text_of(host, token, answer));
}

static void hide(uint64_t id)
{
    assert_null(challenges_take(&(struct msg_challenge){.id = id}, STR_NULL));
}

static void answers(const char *host, const char *token, const char *want)
{
    struct str got = challenges_answer(str_of(host), str_of(token));
    assert_int_equal(got.p != NULL, want != NULL);
    assert_true(str_eq(got, str_of(want)));
}

/* ---- the table ---- */

static void test_text(void **state)
{
    (void)state;
    struct challenge_text t;
    assert_true(challenge_text_read(text_of("a.test", "tok", "tok.thumb"), &t));
    assert_true(str_eq(t.host, STR("a.test")));
    assert_true(str_eq(t.token, STR("tok")));
    assert_true(str_eq(t.answer, STR("tok.thumb")));
    static const struct str bad[] = {
        {NULL, 0},         {"a.test", 6},    {"a.test\0tok", 10}, {"a.test\0tok\0", 11},
        {"\0tok\0ans", 8}, {"a\0b\0c\0", 6}, {"a\0b\0c\0d", 7},
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (challenge_text_read(bad[i], &t))
            fail_msg("%zu", i);
}

static void test_table(void **state)
{
    (void)state;
    assert_false(challenges_any());
    answers("a.test", "tok", NULL);
    hide(7); /* of an unknown one: fine */
    assert_null(show(1, "A.Test", "tok", "tok.one"));
    assert_true(challenges_any());
    answers("a.test", "tok", "tok.one");
    answers("a.test", "to", NULL);
    answers("a.test", "Tok", NULL);
    answers("b.test", "tok", NULL);
    answers("", "tok", NULL);
    answers("a.test", "", NULL);
    assert_null(challenges_cert(STR("a.test")));
    assert_null(show(2, "a.test", "tok", "tok.two")); /* the newest wins, the other stays */
    answers("a.test", "tok", "tok.two");
    hide(2);
    answers("a.test", "tok", "tok.one");
    assert_null(show(1, "b.test", "other", "other.one"));
    answers("a.test", "tok", NULL);
    answers("b.test", "other", "other.one");
    hide(1);
    assert_false(challenges_any());
}

static void test_refused(void **state)
{
    (void)state;
    struct msg_challenge m = {.id = 1, .kind = MSG_CHALLENGE_TLS_ALPN, .on = 1};
    assert_non_null(challenges_take(&m, text_of("a.test", "tok", "no PEM")));
    m.kind = MSG_CHALLENGE_DNS;
    assert_non_null(challenges_take(&m, text_of("a.test", "tok", "value")));
    m.kind = 99;
    assert_non_null(challenges_take(&m, text_of("a.test", "tok", "value")));
    m.kind = MSG_CHALLENGE_HTTP;
    assert_non_null(challenges_take(&m, STR("a.test")));
    assert_false(challenges_any());
}

static void test_bounded(void **state)
{
    (void)state;
    char host[32];
    for (unsigned i = 0; i < CHALLENGES_MAX; i++) {
        snprintf(host, sizeof(host), "h%u.test", i);
        assert_null(show(i + 1, host, "tok", host));
    }
    assert_non_null(strstr(show(CHALLENGES_MAX + 1, "a.test", "tok", "tok.one"), "as many"));
    answers("a.test", "tok", NULL);
    answers("h4095.test", "tok", "h4095.test");
    hide(17);
    assert_null(show(CHALLENGES_MAX + 1, "a.test", "tok", "tok.one"));
    answers("a.test", "tok", "tok.one");
    answers("h16.test", "tok", NULL);
    challenges_fini();
    assert_false(challenges_any());
    answers("a.test", "tok", NULL);
}

/* ---- HTTP-01 ---- */

#define WELL_KNOWN "/.well-known/acme-challenge/"

/* A request to a site that redirects to https, over HTTP unless `kind` says otherwise. */
static struct req *ask(enum http_method method, const char *host, const char *target,
                       enum listener_kind kind)
{
    static struct conf_site site;
    struct req *r = fake_begin(method, "", NULL);
    site = (struct conf_site){.host = STR("a.test"), .https = CONF_HTTPS_REDIRECT};
    fake.conf.sites = &site;
    fake.conf.n_sites = 1;
    fake.conf.public_https = 443;
    fake.client.kind = kind;
    router_free(&fake.snap.router);
    fake.snap.router = router_new(&fake.conf);
    r->site = NULL;
    r->route = NULL;
    r->state = REQ_HEAD;
    r->scheme = kind == LISTENER_HTTPS ? STR("https") : STR("http");
    r->authority = str_of(host);
    r->host = STR_NULL;
    r->target = str_of(target);
    req_begin(r);
    return r;
}

static void expect_answer(const struct req *r, const char *want)
{
    assert_int_equal(r->answer.status, 200);
    assert_string_equal(fake_answer("content-type"), "application/octet-stream");
    assert_string_equal(fake_answer("cache-control"), "no-store");
    assert_int_equal(r->answer.length, strlen(want));
    assert_true(fake.ended);
    if (r->method == METHOD_HEAD)
        assert_int_equal(fake.n, 0);
    else
        assert_string_equal(fake.body, want);
}

static void test_http(void **state)
{
    (void)state;
    assert_null(show(1, "a.test", "tok", "tok.thumb"));
    assert_null(show(2, "elsewhere.test", "tok", "tok.other"));
    expect_answer(ask(METHOD_GET, "a.test", WELL_KNOWN "tok", LISTENER_HTTP), "tok.thumb");
    expect_answer(ask(METHOD_HEAD, "a.test", WELL_KNOWN "tok", LISTENER_HTTP), "tok.thumb");
    expect_answer(ask(METHOD_GET, "A.TEST:8080", WELL_KNOWN "tok?x=1", LISTENER_HTTP), "tok.thumb");
    expect_answer(ask(METHOD_GET, "a.test.", WELL_KNOWN "t%6Fk", LISTENER_HTTP), "tok.thumb");
    expect_answer(ask(METHOD_GET, "ignored", "http://a.test" WELL_KNOWN "tok", LISTENER_HTTP),
                  "tok.thumb");
    /* No site has it: the CA's way may be a redirect of some other server. */
    expect_answer(ask(METHOD_GET, "elsewhere.test", WELL_KNOWN "tok", LISTENER_HTTP), "tok.other");
    expect_answer(ask(METHOD_GET, "a.test", WELL_KNOWN "tok", LISTENER_HTTPS), "tok.thumb");
    challenges_fini();
}

static void test_http_usual_way(void **state)
{
    (void)state;
    static const struct {
        enum http_method method;
        const char *host, *target;
        unsigned status;
    } cases[] = {
        {METHOD_GET, "a.test", WELL_KNOWN "other", 308},
        {METHOD_GET, "a.test", WELL_KNOWN, 308},
        {METHOD_GET, "a.test", WELL_KNOWN "tok/", 308},
        {METHOD_GET, "a.test", WELL_KNOWN "TOK", 308},
        {METHOD_GET, "a.test", "/.well-known/acme-challenge", 308},
        {METHOD_GET, "a.test", "/x" WELL_KNOWN "tok", 308},
        {METHOD_GET, "b.test", WELL_KNOWN "tok", 404},
        {METHOD_GET, "", WELL_KNOWN "tok", 404},
        {METHOD_GET, "a b", WELL_KNOWN "tok", 400},
        {METHOD_POST, "a.test", WELL_KNOWN "tok", 308},
        {METHOD_OPTIONS, "a.test", WELL_KNOWN "tok", 308},
    };
    for (int shown = 0; shown <= 1; shown++) {
        if (shown)
            assert_null(show(1, "a.test", "tok", "tok.thumb"));
        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
            const struct req *r =
                ask(cases[i].method, cases[i].host, cases[i].target, LISTENER_HTTP);
            if (r->answer.status != cases[i].status)
                fail_msg("%s %s: %u", cases[i].host, cases[i].target, r->answer.status);
        }
    }
    challenges_fini();
}

/* ---- the agent's side ---- */

static struct {
    struct msg_peer *agent, *master;
    unsigned came, want;
    struct msg_challenge last;
    char tail[MSG_TAIL_MAX];
    size_t n;
    unsigned said;
    char err[64];
} wire;

static void on_master_msg(void *ctx, struct msg *m)
{
    (void)ctx;
    assert_int_equal(m->type, MSG_CHALLENGE);
    wire.last = *(const struct msg_challenge *)m->fixed;
    memcpy(wire.tail, m->tail.p, m->tail.n);
    wire.n = m->tail.n;
    if (++wire.came == wire.want)
        loop_stop();
}

static void on_agent_msg(void *ctx, struct msg *m)
{
    (void)ctx;
    agent_challenge_said(m->fixed, m->tail);
    if (++wire.came == wire.want)
        loop_stop();
}

static void on_wire_gone(void *ctx, const char *why)
{
    (void)ctx;
    fail_msg("%s", why);
}

static void messages(unsigned n)
{
    wire.came = 0;
    wire.want = n;
    loop_run();
}

static void on_shown(void *ctx, const char *err)
{
    struct out o = out_on(wire.err, sizeof(wire.err) - 1);
    out_str(&o, str_of(err ? err : "fine"));
    wire.err[o.n] = '\0';
    wire.said++;
    if (ctx) /* an order that goes on, or fails, hides it from here */
        agent_challenge_hide(*(uint64_t *)ctx);
}

static void say(uint64_t id, bool ok, const char *why)
{
    struct msg_challenge_done m = {.id = id, .ok = ok};
    msg_send(wire.master, MSG_CHALLENGE_DONE, &m, str_of(why), -1);
    messages(1);
}

static void test_agent(void **state)
{
    (void)state;
    int fds[2];
    struct challenge_text t;
    struct challenge c = {.kind = CONF_HTTP_01,
                          .host = STR("a.test"),
                          .token = STR("tok"),
                          .answer = STR("tok.thumb")};
    loop_init();
    assert_null(msg_pair(fds));
    wire.agent = msg_peer_new(fds[0], NULL, on_agent_msg, on_wire_gone);
    wire.master = msg_peer_new(fds[1], NULL, on_master_msg, on_wire_gone);
    agent_challenges_start(wire.agent);

    uint64_t first = agent_challenge_show(&c, on_shown, NULL);
    assert_int_not_equal(first, 0);
    assert_int_equal(wire.said, 0);
    messages(1);
    assert_int_equal(wire.last.id, first);
    assert_int_equal(wire.last.on, 1);
    assert_int_equal(wire.last.kind, MSG_CHALLENGE_HTTP);
    assert_true(challenge_text_read((struct str){wire.tail, wire.n}, &t));
    assert_true(str_eq(t.host, c.host) && str_eq(t.token, c.token) && str_eq(t.answer, c.answer));
    say(first, true, "");
    assert_int_equal(wire.said, 1);
    assert_string_equal(wire.err, "fine");
    say(first, false, "late"); /* one word is enough */
    assert_int_equal(wire.said, 1);
    agent_challenge_hide(first);
    agent_challenge_hide(first);
    messages(1);
    assert_int_equal(wire.last.on, 0);
    assert_int_equal(wire.last.id, first);

    c.kind = CONF_DNS_01;
    uint64_t second = agent_challenge_show(&c, on_shown, &second);
    messages(1);
    assert_int_equal(wire.last.kind, MSG_CHALLENGE_DNS);
    say(second, false, "the hook exited with status 1");
    assert_string_equal(wire.err, "the hook exited with status 1");
    messages(1);
    assert_int_equal(wire.last.on, 0);

    c.kind = CONF_TLS_ALPN_01;
    uint64_t third = agent_challenge_show(&c, on_shown, NULL);
    agent_challenge_hide(third);
    messages(2);
    say(third, true, ""); /* was on its way already */
    assert_int_equal(wire.said, 2);

    /* Without a master nobody answers, and everything can still be called. */
    third = agent_challenge_show(&c, on_shown, NULL);
    agent_challenges_stop();
    agent_challenge_hide(third);
    third = agent_challenge_show(&c, on_shown, NULL);
    agent_challenge_said(&(struct msg_challenge_done){.id = third - 1, .ok = 1}, STR_NULL);
    assert_int_equal(wire.said, 2);
    agent_challenges_stop();
    msg_peer_close(&wire.agent);
    msg_peer_close(&wire.master);
    loop_fini();
}

static int tear_down(void **state)
{
    (void)state;
    fake_end();
    router_free(&fake.snap.router);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),    cmocka_unit_test(test_table),
        cmocka_unit_test(test_refused), cmocka_unit_test(test_bounded),
        cmocka_unit_test(test_http),    cmocka_unit_test(test_http_usual_way),
        cmocka_unit_test(test_agent),
    };
    return cmocka_run_group_tests(tests, NULL, tear_down);
}
