/*
 * test_ca_faults.c - the client of a CA against one that is hostile, broken or busy: what is
 * refused, what pauses, what is tried again. The fake CA checks no signature; test_ca.c has a real
 * one.
 */
#include "tests/unit/ca_fixture.h"
#include "tests/unit/tls_server.h"

#include <time.h>

#include "acme/ca_parts.h"
#include "acme/jose.h"

#define URN "urn:ietf:params:acme:error:"

static struct tls_server server;

/* ---- the fake: /SCENARIO/dir, and what the directory names ---- */

/* In the server's process. */
static unsigned orders, accounts, nonces;
static char wanted_nonce[32];
static bool no_nonces;

static void give(struct out *o, const char *status, const char *type, const char *fields,
                 const char *fmt, ...)
{
    static char body[1 << 19], all[4096];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(body, sizeof body, fmt, ap);
    va_end(ap);
    struct out f = out_on(all, sizeof all - 1);
    out_fmt(&f, "Content-Type: %s\r\n%s", type, fields);
    if (!no_nonces)
        out_fmt(&f, "Replay-Nonce: n%u\r\n", ++nonces);
    all[f.n] = '\0';
    ts_answer(o, status, all, (struct str){body, (size_t)n});
}

#define JSON    "application/json; charset=utf-8"
#define PROBLEM "application/problem+json"

static void problem(struct out *o, const char *status, const char *type, const char *fields)
{
    give(o, status, PROBLEM, fields,
         "{\"type\":\"" URN "%s\",\"detail\":\"words of the CA\","
         "\"instance\":\"https://ca.test/why\"}",
         type);
}

/* A member of the protected header, in a buffer. */
static const char *signed_member(const struct ts_request *r, const char *name)
{
    static char out[512];
    struct arena *a = arena_new(4096);
    struct str head;
    json_t *jws = json_loadb(r->body.p, r->body.n, 0, NULL);
    ASSERT(jose_unb64(a, str_of(json_string_value(json_object_get(jws, "protected"))), &head));
    json_t *j = json_loadb(head.p, head.n, 0, NULL);
    const char *v = json_string_value(json_object_get(j, name));
    struct out o = out_on(out, sizeof out - 1);
    out_str(&o, str_of(v));
    out[o.n] = '\0';
    json_decref(j);
    json_decref(jws);
    arena_free(&a);
    return out;
}

/* The path "/WHAT/..." of this scenario. */
static bool in(const struct ts_request *r, const char *what)
{
    struct str path = str_of(r->path), name;
    path = str_sub(path, 1, path.n);
    (void)str_split(&path, '/', &name);
    return str_eq(name, str_of(what));
}

static void directory(const struct tls_server *s, const struct ts_request *r, struct out *o)
{
    char base[256], order_url[300];
    size_t n = strlen(r->path) - strlen("/dir");
    struct out b = out_on(base, sizeof base - 1), u = out_on(order_url, sizeof order_url - 1);
    out_fmt(&b, "https://localhost:%d%.*s", s->port, (int)n, r->path);
    base[b.n] = '\0';
    if (in(r, "dir-other"))
        out_lit(&u, "https://evil.test/order");
    else if (in(r, "dir-plain"))
        out_fmt(&u, "http://localhost:%d/order", s->port);
    else
        out_fmt(&u, "%s/order", base);
    order_url[u.n] = '\0';
    if (in(r, "dir-empty"))
        give(o, "200 OK", JSON, "", "{}");
    else if (in(r, "dir-text"))
        give(o, "200 OK", "text/html", "", "<html>");
    else if (in(r, "dir-404"))
        give(o, "404 Not Found", "text/html", "", "<html>");
    else
        give(o, "200 OK", JSON, "",
             "{\"newNonce\":\"%s/nonce\",\"newAccount\":\"%s/account\",\"newOrder\":\"%s\","
             "\"keyChange\":\"%s/roll\",\"renewalInfo\":\"%s/ari\",\"meta\":{%s}}",
             base, base, order_url, base, base,
             in(r, "profiles") ? "\"profiles\":{\"shortlived\":\"six days\"}" : "");
}

static void account_answer(const struct tls_server *s, const struct ts_request *r, struct out *o)
{
    char location[300];
    struct out l = out_on(location, sizeof location - 1);
    size_t n = strlen(r->path) - strlen("/account");
    out_fmt(&l, "Location: https://localhost:%d%.*s/a/%u\r\n", s->port, (int)n, r->path,
            ++accounts);
    location[l.n] = '\0';
    if (in(r, "terms"))
        problem(o, "403 Forbidden", "userActionRequired", "");
    else if (in(r, "account-refused"))
        problem(o, "400 Bad Request", "malformed", "");
    else if (in(r, "account-limited"))
        problem(o, "429 Too Many", "rateLimited", "Retry-After: 300\r\n");
    else if (in(r, "account-nowhere"))
        give(o, "201 Created", JSON, "", "{\"status\":\"valid\"}");
    else if (in(r, "account-closed"))
        give(o, "200 OK", JSON, location, "{\"status\":\"deactivated\"}");
    else if (in(r, "contact-lost"))
        give(o, "200 OK", JSON, location, "{\"contact\":[\"mailto:old@example.org\"]}");
    else
        give(o, "201 Created", JSON, location, "{\"status\":\"valid\"}");
}

static void bad_nonce(const struct ts_request *r, struct out *o)
{
    bool good = strcmp(signed_member(r, "nonce"), wanted_nonce) == 0;
    if (in(r, "nonce-twice") && good && orders >= 3) {
        give(o, "201 Created", JSON, "", "{\"tries\":%u}", orders);
        return;
    }
    struct out w = out_on(wanted_nonce, sizeof wanted_nonce - 1);
    out_fmt(&w, "n%u", nonces + 1);
    wanted_nonce[w.n] = '\0';
    problem(o, "400 Bad Request", "badNonce", "");
}

static void lost_account(const struct ts_request *r, struct out *o)
{
    if (in(r, "lost-always") || str_ends(str_of(signed_member(r, "kid")), STR("/a/1")))
        problem(o, "400 Bad Request", "accountDoesNotExist", "");
    else
        give(o, "201 Created", JSON, "", "{\"orders\":%u}", orders);
}

static void order_answer(const struct tls_server *s, const struct ts_request *r, struct out *o)
{
    static const struct {
        const char *scenario, *status, *type, *fields, *body;
    } answers[] = {
        {"fine", "201 Created", JSON, "Retry-After: 30\r\n", "{}"},
        {"contact-lost", "201 Created", JSON, "", "{}"},
        {"busy", "503 Busy", "text/plain", "Retry-After: 120\r\n", "sorry"},
        {"busy-date", "503 Busy", "text/plain", "Retry-After: Fri, 01 Jan 2100 00:00:00 GMT\r\n",
         ""},
        {"busy-429", "429 Too Many", "text/plain", "Retry-After: 120\r\n", ""},
        {"busy-bare", "500 Oops", PROBLEM, "", "{\"type\":\"" URN "serverInternal\"}"},
        {"busy-json", "502 Bad Gateway", PROBLEM, "", "{[[[[[[[[[[[[[[[[[["},
        {"garbage", "201 Created", JSON, "", "{\"a\":"},
        {"twice", "201 Created", JSON, "", "{\"a\":1,\"a\":2}"},
        {"array", "201 Created", JSON, "", "[]"},
        {"utf8", "201 Created", JSON, "", "{\"a\":\"\xff\"}"},
        {"deep", "201 Created", JSON, "", "{\"a\":[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]}"},
        {"not-deep", "201 Created", JSON, "", "{\"a\":\"{[{[{[{[{[{[{[{[{[{[{[{[\\\"{[\"}"},
        {"location", "201 Created", JSON, "Location: https://evil.test/1\r\n", "{}"},
        {"location-plain", "201 Created", JSON, "Location: http://localhost/\r\n", "{}"},
        {"location-rel", "201 Created", JSON, "Location: /order/1\r\n", "{}"},
        {"redirect", "302 Found", JSON, "Location: https://localhost/\r\n", "{}"},
        {"closed", "403 Forbidden", PROBLEM, "", "{\"type\":\"" URN "unauthorized\"}"},
    };
    orders++;
    if (in(r, "huge"))
        give(o, "201 Created", JSON, "", "{\"a\":\"%*s\"}", 300000, "x");
    else if (in(r, "cut"))
        return;
    else if (in(r, "limited"))
        problem(o, "429 Too Many", "rateLimited", "Retry-After: 600\r\n");
    else if (in(r, "nonce-twice") || in(r, "nonce-never"))
        bad_nonce(r, o);
    else if (in(r, "lost") || in(r, "lost-always"))
        lost_account(r, o);
    else if (in(r, "links"))
        give(o, "200 OK", "application/pem-certificate-chain",
             arena_fmt(
                 arena,
                 "Link: <https://localhost:%d/up>;rel=\"up\"\r\n"
                 "Link: <https://localhost:%d/1>;rel=\"alternate\", "
                 "<https://LOCALHOST:%d/2> ; title=x; rel=alternate\r\n"
                 "Link: <https://evil.test/3>;rel=\"alternate\", junk;rel=\"alternate\", <\r\n",
                 s->port, s->port, s->port)
                 .p,
             "PEM");
    else
        for (size_t i = 0; i < ARRAY_LEN(answers); i++)
            if (in(r, answers[i].scenario))
                give(o, answers[i].status, answers[i].type, answers[i].fields, "%s",
                     answers[i].body);
}

static void fake(const struct tls_server *s, const struct ts_request *r, struct out *o)
{
    struct str path = str_of(r->path);
    no_nonces = in(r, "no-nonce");
    if (str_ends(path, STR("/dir")))
        directory(s, r, o);
    else if (str_ends(path, STR("/nonce")))
        give(o, "200 OK", "text/plain", "", "%s", "");
    else if (str_ends(path, STR("/account")))
        account_answer(s, r, o);
    else if (str_ends(path, STR("/order")))
        order_answer(s, r, o);
    else if (in(r, "contact-lost") && strstr(r->path, "/a/"))
        problem(o, "400 Bad Request", "accountDoesNotExist", "");
    else if (str_ends(path, STR("/count")))
        give(o, "200 OK", JSON, "", "{\"orders\":%u}", orders);
    else if (str_ends(path, STR("/ari/id")))
        give(o, "200 OK", JSON, "Retry-After: 21600\r\n", "{\"signed\":%s}",
             strcmp(r->method, "GET") ? "true" : "false");
    /* /roll: closes the connection, and nobody knows whether it was done */
}

/* ---- ours ---- */

static int set_up(void **state)
{
    int rc = ca_set_up(state);
    server = ts_start(arena, "DNS:localhost", fake);
    return rc;
}

static int tear_down(void **state)
{
    ts_stop(&server);
    return ca_tear_down(state);
}

static struct ca *ca_for(const char *scenario)
{
    return ca_open(&(struct ca_spec){
        .name = STR("test"),
        .directory = arena_fmt(arena, "https://localhost:%d/%s/dir", server.port, scenario),
        .root_pem = server.root,
        .email = STR("a@example.org"),
        .state = dir});
}

/* A CA of its own for each, since they leave pauses behind. */
static struct heard ordered(const char *scenario)
{
    struct heard h = {0};
    struct ca *ca = ca_for(scenario);
    order(ca, &h, "a.example.org");
    ca_close(&ca);
    json_decref(h.json);
    h.json = NULL;
    return h;
}

/* Of all orders so far; without one of them. */
static long long orders_seen(void)
{
    struct heard h = {0};
    struct ca *ca = ca_for("fine");
    ask(ca, &h, arena_fmt(arena, "https://localhost:%d/fine/count", server.port).p, NULL);
    fine(&h);
    long long n = json_integer_value(json_object_get(h.json, "orders"));
    json_decref(h.json);
    ca_close(&ca);
    return n;
}

static void good(void **state UNUSED)
{
    struct heard h = ordered("fine");
    fine(&h);
    assert_int_equal(h.status, 201);
    assert_true(h.retry_at > wall_s() + 20 && h.retry_at <= wall_s() + 30);
    struct ca *ca = ca_for("fine");
    ca_get(ca, CA_RENEWAL_INFO, "id", "renewalInfo", on_answer, &h);
    await(&h);
    fine(&h);
    assert_true(json_is_false(json_object_get(h.json, "signed")));
    assert_true(h.retry_at > wall_s() + 21000);
    assert_true(ca_has_profile(ca, STR("shortlived")));
    ca_close(&ca);
    ca = ca_for("profiles");
    order(ca, &h, "a");
    assert_true(ca_has_profile(ca, STR("shortlived")));
    assert_false(ca_has_profile(ca, STR("classic")));
    ca_close(&ca);
    json_decref(h.json);
}

static void broken_answers(void **state UNUSED)
{
    static const struct {
        const char *scenario, *words;
        enum acme_fail_kind kind;
    } cases[] = {
        {"dir-other", "newOrder is no URL of its own", ACME_BROKEN},
        {"dir-plain", "newOrder is no URL of its own", ACME_BROKEN},
        {"dir-empty", "newNonce is missing", ACME_BROKEN},
        {"dir-text", "newNonce is missing", ACME_BROKEN},
        {"dir-404", "status 404", ACME_BROKEN},
        {"no-nonce", "no nonce", ACME_BROKEN},
        {"garbage", "its JSON is none", ACME_BROKEN},
        {"twice", "its JSON is none", ACME_BROKEN},
        {"array", "no object", ACME_BROKEN},
        {"utf8", "its JSON is none", ACME_BROKEN},
        {"deep", "nested too deep", ACME_BROKEN},
        {"huge", "too large", ACME_BROKEN},
        {"location", "not its own", ACME_BROKEN},
        {"location-plain", "not its own", ACME_BROKEN},
        {"location-rel", "not its own", ACME_BROKEN},
        {"redirect", "redirects", ACME_BROKEN},
        {"cut", "without an answer", ACME_NETWORK},
        {"account-nowhere", "which account is ours", ACME_BROKEN},
        {"account-closed", "closed our account", ACME_ACCOUNT},
        {"closed", "unauthorized", ACME_ACCOUNT},
        {"account-refused", "words of the CA", ACME_ACCOUNT},
        {"terms", "words of the CA (see https://ca.test/why)", ACME_ACCOUNT},
        {"account-limited", "words of the CA", ACME_BUSY},
        {"limited", "words of the CA", ACME_LIMITED},
        {"nonce-never", "words of the CA", ACME_BROKEN},
        {"lost-always", "words of the CA", ACME_ACCOUNT},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct heard h = ordered(cases[i].scenario);
        if (h.fail.kind != cases[i].kind || !strstr(h.fail.text, cases[i].words))
            fail_msg("%s: %d, \"%s\"", cases[i].scenario, h.fail.kind, h.fail.text);
    }
    struct heard h = ordered("not-deep");
    fine(&h);
}

static void urls(void **state UNUSED)
{
    struct heard h = {0};
    struct ca *ca = ca_for("fine");
    const char *own = arena_fmt(arena, "https://localhost:%d", server.port).p;
    static const char *const good_ones[] = {"%s/x", "%s", "%s?a", "%s/a?b=@#", "%s/%%20"};
    for (size_t i = 0; i < 3; i++)
        assert_true(ca_url_fine(ca, arena_fmt(arena, good_ones[i], own)));
    static const char *const bad[] = {"",
                                      "http://localhost/",
                                      "https://localhost/",
                                      "https://localhost.evil.test/",
                                      "https://evil.test/",
                                      "file:///etc/passwd",
                                      "/order/1",
                                      "https://",
                                      "https:///x"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (ca_url_fine(ca, str_of(bad[i])))
            fail_msg("%s", bad[i]);
    static const char *const tails[] = {".evil.test/", "@evil.test/", "/a b",         "/\x01",
                                        "/\xff",       "/#x",         "\\@evil.test/"};
    for (size_t i = 0; i < ARRAY_LEN(tails); i++)
        if (ca_url_fine(ca, arena_fmt(arena, "%s%s", own, tails[i])))
            fail_msg("%s", tails[i]);
    assert_false(ca_url_fine(ca, arena_fmt(arena, "https://u@localhost:%d/", server.port)));
    assert_true(ca_url_fine(ca, arena_fmt(arena, "https://LocalHost:%d/X", server.port)));
    assert_false(ca_url_fine(ca, arena_fmt(arena, "%s/%*s", own, 2048, "x")));
    ask(ca, &h, "https://evil.test/x", NULL);
    failed(&h, ACME_BROKEN, "not its own");
    ca_close(&ca);
    /* The port that https has anyway may be left out. */
    ca = ca_open(&(struct ca_spec){
        .name = STR("test"), .directory = STR("https://ca.test/dir"), .state = dir});
    assert_true(ca_url_fine(ca, STR("https://ca.test:443/x")));
    assert_false(ca_url_fine(ca, STR("https://ca.test:444/x")));
    ca_close(&ca);
}

static void links(void **state UNUSED)
{
    struct heard h = ordered("links");
    fine(&h);
    assert_true(str_eq(h.body, STR("PEM")));
    assert_int_equal(h.n_alternates, 2);
    assert_true(str_ends(h.alternates[0], STR("/1")) && str_ends(h.alternates[1], STR("/2")));
}

static void nonces_again(void **state UNUSED)
{
    struct heard h = {0};
    struct ca *ca = ca_for("nonce-twice");
    order(ca, &h, "a");
    fine(&h);
    /* Each time with the nonce of the error. */
    assert_int_equal(json_integer_value(json_object_get(h.json, "tries")), 3);
    json_decref(h.json);
    ca_close(&ca);
}

static void account_made_anew(void **state UNUSED)
{
    struct heard h = {0};
    struct ca *ca = ca_for("lost");
    order(ca, &h, "a");
    fine(&h);
    assert_int_equal(json_integer_value(json_object_get(h.json, "orders")), 2);
    assert_true(str_ends(str_of(ca_account_url(ca)), STR("/a/2")));
    json_decref(h.json);
    ca_close(&ca);
}

/* It has the account whenever it is asked for it, and never when its address is to change. */
static void contact_of_a_lost_account(void **state UNUSED)
{
    struct heard h = ordered("contact-lost");
    fine(&h);
}

/* ---- pauses ---- */

static void pauses(void **state UNUSED)
{
    static const struct {
        const char *scenario;
        int64_t least, most;
    } cases[] = {
        {"busy", 100, 120},    {"busy-429", 100, 120}, {"busy-date", 86000, 86400},
        {"busy-bare", 50, 60}, {"busy-json", 50, 60},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct heard h = {0};
        struct ca *ca = ca_for(cases[i].scenario);
        assert_int_equal(ca_paused_until(ca), 0);
        order(ca, &h, "a");
        assert_int_equal(h.fail.kind, ACME_BUSY);
        int64_t until = h.fail.retry_at, now = wall_s();
        if (until < now + cases[i].least || until > now + cases[i].most)
            fail_msg("%s pauses for %ld s", cases[i].scenario, (long)(until - now));
        assert_int_equal(ca_paused_until(ca), until);
        assert_int_equal(ca_problem(ca)->kind, ACME_BUSY);
        /* Nobody is asked meanwhile. */
        order(ca, &h, "b");
        failed(&h, ACME_BUSY, "left alone until");
        assert_string_equal(h.fail.step, "newOrder");
        assert_int_equal(h.fail.retry_at, until);
        assert_int_equal(h.status, h.fail.status);
        ca_close(&ca);
        assert_int_equal(orders_seen(), i + 1);
    }
}

/* Without a word how long: twice as long each time, up to an hour; an answer makes it short again.
 */
static void pauses_grow(void **state UNUSED)
{
    static const int64_t seconds[] = {60, 120, 240, 480, 960, 1920, 3600, 3600};
    struct ca *ca = ca_for("busy-bare");
    struct heard h = {0}, other = {0};
    for (size_t i = 0; i < ARRAY_LEN(seconds); i++) {
        ca->paused_until = 0; /* it is over */
        ca_post(ca, CA_NEW_ORDER, NULL, NULL, "newOrder", on_answer, &other);
        order(ca, &h, "a"); /* side by side: one failure */
        if (!other.n)
            await(&other);
        other.n = 0;
        int64_t left = h.fail.retry_at - wall_s();
        if (left > seconds[i] || left < seconds[i] - 30)
            fail_msg("pause %zu is %ld s long", i, (long)left);
    }
    ca->paused_until = 0;
    ask(ca, &h, arena_fmt(arena, "https://localhost:%d/fine/count", server.port).p, NULL);
    fine(&h);
    assert_null(ca_problem(ca));
    order(ca, &h, "a");
    assert_true(h.fail.retry_at <= wall_s() + 60);
    json_decref(h.json);
    ca_close(&ca);
}

/* Of those that come while there is one the longest counts, and a clock that is set back ends it.
 */
static void pauses_meet(void **state UNUSED)
{
    struct ca *ca = ca_for("fine");
    int64_t now = wall_s();
    struct acme_fail asked, bare;
    acme_fail_set(&asked, ACME_BUSY, "order", "busy");
    bare = asked;
    asked.retry_at = now + 5;
    ca_heard(ca, &asked);
    assert_int_equal(asked.retry_at, now + 5);
    ca_heard(ca, &bare);
    assert_true(bare.retry_at >= now + 60 && bare.retry_at < now + 120);
    ca_heard(ca, &asked);
    assert_int_equal(asked.retry_at, bare.retry_at);
    ca->paused_until = now + 10 * 365 * 86400;
    assert_int_equal(ca_paused_until(ca), 0);
    asked.retry_at = now + 100;
    ca_heard(ca, &asked);
    assert_int_equal(ca_paused_until(ca), now + 100);
    ca_close(&ca);
}

/* One host's limit is no pause of the others. */
static void limits_do_not_pause(void **state UNUSED)
{
    struct heard h = {0};
    struct ca *ca = ca_for("limited");
    order(ca, &h, "a");
    failed(&h, ACME_LIMITED, "words");
    assert_true(h.fail.retry_at > wall_s() + 500);
    assert_int_equal(ca_paused_until(ca), 0);
    ca_close(&ca);
    ca = ca_for("account-limited"); /* but there all stand behind it */
    order(ca, &h, "a");
    assert_true(ca_paused_until(ca) > wall_s() + 200);
    ca_close(&ca);
}

static void *asked_again;

static void on_answer_ask_again(void *ctx, const struct ca_answer *a)
{
    if (asked_again)
        ca_post(asked_again, CA_NEW_ORDER, NULL, NULL, "newOrder", on_answer, ctx);
    asked_again = NULL;
    on_answer(ctx, a);
}

/* A callback may ask again at once, or close the CA, whatever it was told. */
static void callbacks(void **state UNUSED)
{
    struct heard h = {0};
    struct ca *ca = ca_for("busy");
    order(ca, &h, "a");
    asked_again = ca;
    ca_post(ca, CA_NEW_ORDER, NULL, NULL, "newOrder", on_answer_ask_again, &h);
    h.awaited = h.n + 2;
    loop_run();
    failed(&h, ACME_BUSY, "left alone");
    ca_close(&ca);
}

/* ---- a key change of which nobody knows whether it was done ---- */

static void on_begun(struct turn_task *t UNUSED)
{
    loop_stop();
}

static void key_change_in_doubt(void **state UNUSED)
{
    struct heard h = {0};
    struct ca *ca = ca_for("fine");
    order(ca, &h, "a");
    fine(&h);
    struct str old = content("account.key");
    ca_roll_key(ca, on_answer, &h);
    await(&h);
    failed(&h, ACME_NETWORK, "without an answer");
    assert_true(is_there("account.key.new"));
    struct str new = content("account.key.new");
    assert_true(str_eq(old, content("account.key")));
    order(ca, &h, "a"); /* this CA knows every key: the new one is ours */
    fine(&h);
    assert_true(str_eq(new, content("account.key")));
    assert_false(is_there("account.key.new"));
    /* Given up while it is under way: the same. */
    struct turn_task begun = {0};
    struct ca_call *c = ca_roll_key(ca, on_answer, &h);
    loop_at_turn_end(&begun, on_begun);
    loop_run();
    assert_int_equal(ca->state, CA_ROLLING);
    assert_true(is_there("account.key.new"));
    new = content("account.key.new");
    ca_call_cancel(&c);
    order(ca, &h, "a");
    fine(&h);
    assert_true(str_eq(new, content("account.key")));
    assert_false(is_there("account.key.new"));
    json_decref(h.json);
    ca_close(&ca);
}

/* Nothing is asked of a CA when our side cannot keep what it says. */
static void disk_is_full(void **state UNUSED)
{
    struct heard h = {0};
    const char *in_the_way = arena_fmt(arena, "%s/acme", dir).p;
    const char *err = file_write(arena, in_the_way, STR(""), 0600);
    assert_null(err);
    struct ca *ca = ca_for("fine");
    order(ca, &h, "a");
    failed(&h, ACME_LOCAL, in_the_way);
    assert_int_equal(unlink(in_the_way), 0);
    order(ca, &h, "a"); /* and goes on when it can */
    fine(&h);
    json_decref(h.json);
    ca_close(&ca);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(good),         CASE(broken_answers),
        CASE(urls),         CASE(links),
        CASE(nonces_again), CASE(account_made_anew),
        CASE(pauses),       CASE(pauses_grow),
        CASE(pauses_meet),  CASE(limits_do_not_pause),
        CASE(callbacks),    CASE(key_change_in_doubt),
        CASE(disk_is_full), CASE(contact_of_a_lost_account),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
