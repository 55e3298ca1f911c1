/*
 * test_ca.c - the client of a CA against a real one (Pebble): the account and what befalls it,
 * nonces, calls, a whole order, revocation, key changes.
 */
#include "tests/unit/ca_fixture.h"
#include "tests/unit/pebble.h"

#include "acme/jose.h"
#include "base/sandbox.h"

/* One for all that want nothing special: its start costs more than a test. */
static struct pebble shared, pebble;
static struct arena *shared_arena;
static const char *shared_dir;

static void start(struct pebble_how how)
{
    if (how.eab || how.nonce_reject) {
        how.dir = dir;
        pebble = pebble_start(arena, how);
        return;
    }
    if (!shared.pid)
        shared = pebble_start(shared_arena, (struct pebble_how){.dir = shared_dir});
    pebble = shared;
}

static int tear_down(void **state)
{
    if (pebble.pid != shared.pid)
        pebble_stop(&pebble);
    return ca_tear_down(state);
}

static int group_set_up(void **state UNUSED)
{
    shared_arena = arena_new(1 << 16);
    shared_dir = tmp_dir_make(shared_arena);
    return shared_dir ? 0 : 1;
}

static int group_tear_down(void **state UNUSED)
{
    if (shared.pid)
        pebble_stop(&shared);
    tmp_dir_remove(shared_arena, shared_dir);
    arena_free(&shared_arena);
    return 0;
}

static struct ca_spec spec(const char *email)
{
    return (struct ca_spec){.name = STR("test"),
                            .directory = pebble.directory,
                            .root_pem = pebble.root,
                            .email = str_of(email),
                            .state = dir};
}

static struct ca *ca_for(const char *email)
{
    struct ca_spec s = spec(email);
    return ca_open(&s);
}

static const char *account(const struct ca *ca)
{
    return arena_strz(arena, str_of(ca_account_url(ca)));
}

static const char *noted(const char *member)
{
    json_t *j = json_loads(content("account.json").p, 0, NULL);
    const char *v = arena_strz(arena, str_of(json_string_value(json_object_get(j, member))));
    json_decref(j);
    return v;
}

static void account_and_calls(void **state UNUSED)
{
    start((struct pebble_how){0});
    struct ca *ca = ca_for("a@example.org");
    struct heard h = {0};
    assert_null(ca_account_key(ca));
    assert_string_equal(ca_account_url(ca), "");
    assert_string_equal(ca_url(ca, CA_NEW_ORDER), "");
    order(ca, &h, "a.example.org");
    fine(&h);
    assert_int_equal(h.status, 201);
    assert_string_equal(json_string_value(json_object_get(h.json, "status")), "pending");
    assert_non_null(ca_account_key(ca));
    assert_string_equal(noted("kid"), ca_account_url(ca));
    assert_string_equal(noted("email"), "a@example.org");
    assert_true(ca_url_fine(ca, str_of(ca_url(ca, CA_NEW_ORDER))));
    assert_string_equal(ca_url(ca, CA_RENEWAL_INFO), ""); /* this Pebble has none */
    assert_true(ca_has_profile(ca, STR("any")));
    assert_null(ca_problem(ca));
    struct stat st;
    assert_int_equal(stat(at("account.key"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(stat(at(""), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);

    ask(ca, &h, h.location.p, NULL); /* POST-as-GET of what it made */
    fine(&h);
    assert_int_equal(h.status, 200);
    ask(ca, &h, arena_fmt(arena, "https://127.0.0.1:%d/nothing", pebble.port).p, NULL);
    failed(&h, ACME_REFUSED, "404");
    order(ca, &h, "not a name");
    failed(&h, ACME_REFUSED, "the CA says");
    assert_string_equal(h.fail.step, "newOrder");

    /* RFC 9773 would be there; here it is told, not asked. */
    ca_get(ca, CA_RENEWAL_INFO, "x.y", "renewalInfo", on_answer, &h);
    await(&h);
    failed(&h, ACME_BROKEN, "no such resource");

    const char *kid = account(ca);
    ca_close(&ca);
    assert_null(ca);
    ca = ca_for("a@example.org"); /* the same account again */
    order(ca, &h, "b.example.org");
    fine(&h);
    assert_string_equal(kid, account(ca));
    ca_close(&ca);
    json_decref(h.json);
}

static void account_is_found_again(void **state UNUSED)
{
    start((struct pebble_how){0});
    struct ca *ca = ca_for("a@example.org");
    struct heard h = {0};
    order(ca, &h, "a.example.org");
    fine(&h);
    const char *kid = account(ca);
    ca_close(&ca);
    static const char *const damages[] = {NULL, "", "{", "{\"kid\":\"https://evil.test/1\"}", "[]"};
    for (size_t i = 0; i < ARRAY_LEN(damages); i++) {
        if (damages[i])
            put("account.json", str_of(damages[i]));
        else
            assert_int_equal(unlink(at("account.json")), 0);
        ca = ca_for("a@example.org");
        order(ca, &h, "a.example.org");
        fine(&h);
        assert_string_equal(kid, account(ca)); /* onlyReturnExisting */
        assert_string_equal(noted("kid"), kid);
        ca_close(&ca);
    }
    /* A key that the CA never heard of, with the note of another one and without: cut off before
     * the account was made, or brought back from a backup. */
    for (int note = 1; note >= 0; note--) {
        EVP_PKEY *k = jose_key_new();
        put("account.key", test_pem(arena, NULL, k));
        EVP_PKEY_free(k);
        if (!note)
            assert_int_equal(unlink(at("account.json")), 0);
        ca = ca_for("");
        order(ca, &h, "a.example.org");
        fine(&h);
        assert_string_not_equal(kid, account(ca));
        kid = account(ca);
        ca_close(&ca);
    }
    /* A key that is none is not overwritten. */
    put("account.key", STR("spoilt"));
    ca = ca_for("");
    order(ca, &h, "a.example.org");
    failed(&h, ACME_LOCAL, "account.key holds no P-256 key");
    assert_true(str_eq(content("account.key"), STR("spoilt")));
    ca_close(&ca);
    json_decref(h.json);
}

static void account_is_lost(void **state UNUSED)
{
    start((struct pebble_how){0});
    struct ca *ca = ca_for("a@example.org");
    struct heard h = {0}, others[5] = {0};
    order(ca, &h, "a.example.org");
    fine(&h);
    const char *kid = account(ca);
    pebble_restart(&shared);
    pebble = shared;
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        ca_post(ca, CA_NEW_ORDER, NULL, new_order("b.example.org"), "newOrder", on_answer,
                &others[i]);
    order(ca, &h, "a.example.org");
    fine(&h);
    assert_string_not_equal(kid, account(ca));
    assert_string_equal(noted("kid"), account(ca));
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        if (!others[i].n)
            await(&others[i]);
        fine(&others[i]);
        json_decref(others[i].json);
    }
    ca_close(&ca);
    json_decref(h.json);
}

static void contact_follows(void **state UNUSED)
{
    start((struct pebble_how){0});
    static const char *const emails[] = {"a@example.org", "b@example.org", "", "a@example.org"};
    struct heard h = {0};
    const char *kid = NULL;
    for (size_t i = 0; i < ARRAY_LEN(emails); i++) {
        struct ca *ca = ca_for(emails[i]);
        order(ca, &h, "a.example.org");
        fine(&h);
        assert_string_equal(noted("email"), emails[i]);
        assert_string_equal(kid ? kid : account(ca), account(ca));
        kid = account(ca);
        ask(ca, &h, kid, NULL); /* what the CA thinks of it */
        fine(&h);
        json_t *contact = json_object_get(h.json, "contact");
        assert_int_equal(json_array_size(contact), *emails[i] ? 1 : 0);
        if (*emails[i])
            assert_string_equal(json_string_value(json_array_get(contact, 0)),
                                arena_fmt(arena, "mailto:%s", emails[i]).p);
        ca_close(&ca);
    }
    json_decref(h.json);
}

static void external_account(void **state UNUSED)
{
    start((struct pebble_how){.eab = true});
    struct heard h = {0};
    struct ca *ca = ca_for("");
    order(ca, &h, "a.example.org");
    failed(&h, ACME_ACCOUNT, "external account binding");
    assert_non_null(strstr(h.fail.hint, "acme.eab"));
    assert_int_equal(ca_problem(ca)->kind, ACME_ACCOUNT);
    ca_close(&ca);
    struct ca_spec s = spec("");
    s.eab_kid = STR("kid-1");
    s.eab_hmac = STR("AAAA");
    ca = ca_open(&s);
    order(ca, &h, "a.example.org");
    assert_int_not_equal(h.fail.kind, ACME_FINE);
    ca_close(&ca);
    s.eab_hmac = STR(PEBBLE_HMAC);
    ca = ca_open(&s);
    order(ca, &h, "a.example.org");
    fine(&h);
    assert_null(ca_problem(ca));
    ca_close(&ca);
    json_decref(h.json);
}

static void nonces_are_refused(void **state UNUSED)
{
    start((struct pebble_how){.nonce_reject = "90"});
    struct heard h = {0};
    struct ca *ca = ca_for("");
    for (int i = 0; i < 3; i++) {
        order(ca, &h, "a.example.org");
        fine(&h);
    }
    ca_close(&ca);
    json_decref(h.json);
}

static void many_at_once(void **state UNUSED)
{
    static struct heard h[50];
    memset(h, 0, sizeof h);
    start((struct pebble_how){0});
    struct ca *ca = ca_for("");
    for (size_t i = 0; i < ARRAY_LEN(h); i++)
        ca_post(ca, CA_NEW_ORDER, NULL, new_order(arena_fmt(arena, "h%zu.example.org", i).p),
                "newOrder", on_answer, &h[i]);
    for (size_t i = 0; i < ARRAY_LEN(h); i++) {
        if (!h[i].n)
            await(&h[i]);
        fine(&h[i]);
        assert_int_equal(h[i].n, 1);
        json_decref(h[i].json);
    }
    ca_close(&ca);
}

/* ---- a whole order, by hand, and its revocation ---- */

static struct str csr(const char *host)
{
    EVP_PKEY *k = test_key(NULL);
    X509_REQ *r = X509_REQ_new();
    STACK_OF(X509_EXTENSION) *list = sk_X509_EXTENSION_new_null();
    sk_X509_EXTENSION_push(list, X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name,
                                                     arena_fmt(arena, "DNS:%s", host).p));
    X509_REQ_set_pubkey(r, k);
    X509_REQ_add_extensions(r, list);
    sk_X509_EXTENSION_pop_free(list, X509_EXTENSION_free);
    assert_true(X509_REQ_sign(r, k, EVP_sha256()) > 0);
    unsigned char *der = NULL;
    int n = i2d_X509_REQ(r, &der);
    struct str out = jose_b64(arena, (struct str){(char *)der, (size_t)n});
    OPENSSL_free(der);
    X509_REQ_free(r);
    EVP_PKEY_free(k);
    return out;
}

static const char *text_of(const json_t *j, const char *member)
{
    const char *v = json_string_value(json_object_get(j, member));
    return v ? arena_strz(arena, str_of(v)) : "";
}

static void until(struct ca *ca, struct heard *h, const char *url, const char *status)
{
    do {
        ask(ca, h, url, NULL);
        fine(h);
        assert_string_not_equal(text_of(h->json, "status"), "invalid");
    } while (strcmp(text_of(h->json, "status"), status) != 0);
}

/* The leaf in DER; Pebble takes every challenge here. */
static struct str issue(struct ca *ca, struct heard *h, const char *host)
{
    order(ca, h, host);
    fine(h);
    const char *url = h->location.p, *finalize = text_of(h->json, "finalize");
    const char *authz =
        json_string_value(json_array_get(json_object_get(h->json, "authorizations"), 0));
    ask(ca, h, arena_strz(arena, str_of(authz)), NULL);
    fine(h);
    const char *challenge =
        text_of(json_array_get(json_object_get(h->json, "challenges"), 0), "url");
    ask(ca, h, challenge, json_object());
    fine(h);
    until(ca, h, url, "ready");
    ask(ca, h, finalize, json_pack("{s:s}", "csr", csr(host).p));
    fine(h);
    until(ca, h, url, "valid");
    ask(ca, h, text_of(h->json, "certificate"), NULL);
    fine(h);
    assert_null(h->json);
    BIO *b = BIO_new_mem_buf(h->body.p, (int)h->body.n);
    X509 *x = PEM_read_bio_X509(b, NULL, NULL, NULL);
    assert_non_null(x);
    unsigned char *der = NULL;
    int n = i2d_X509(x, &der);
    struct str out = arena_str(arena, (struct str){(char *)der, (size_t)n});
    OPENSSL_free(der);
    X509_free(x);
    BIO_free(b);
    return out;
}

static void revoked(void **state UNUSED)
{
    start((struct pebble_how){0});
    struct heard h = {0};
    struct ca *ca = ca_for("");
    struct str leaf = issue(ca, &h, "a.example.org");
    ca_revoke(ca, leaf, 1, on_answer, &h);
    await(&h);
    fine(&h);
    assert_int_equal(h.status, 200);
    ca_revoke(ca, leaf, 1, on_answer, &h); /* it is already */
    await(&h);
    fine(&h);
    ca_revoke(ca, issue(ca, &h, "b.example.org"), 99, on_answer, &h);
    await(&h);
    failed(&h, ACME_REFUSED, "the CA says");
    ca_close(&ca);
    json_decref(h.json);
}

/* ---- key changes ---- */

static void roll(struct ca *ca, struct heard *h)
{
    ca_roll_key(ca, on_answer, h);
    await(h);
}

static void keys_are_changed(void **state UNUSED)
{
    start((struct pebble_how){0});
    struct heard h = {0}, others[4] = {0};
    struct ca *ca = ca_for("");
    order(ca, &h, "a.example.org");
    fine(&h);
    const char *kid = account(ca);
    struct str old = content("account.key");
    /* In the midst of calls. */
    for (size_t i = 0; i < 2; i++)
        ca_post(ca, CA_NEW_ORDER, NULL, new_order("b.example.org"), "newOrder", on_answer,
                &others[i]);
    ca_roll_key(ca, on_answer, &h);
    for (size_t i = 2; i < 4; i++)
        ca_post(ca, CA_NEW_ORDER, NULL, new_order("b.example.org"), "newOrder", on_answer,
                &others[i]);
    await(&h);
    fine(&h);
    for (size_t i = 0; i < 4; i++) {
        if (!others[i].n)
            await(&others[i]);
        fine(&others[i]);
        json_decref(others[i].json);
    }
    assert_false(str_eq(old, content("account.key")));
    assert_false(is_there("account.key.new"));
    ca_close(&ca);
    ca = ca_for("");
    roll(ca, &h); /* as the first thing */
    fine(&h);
    order(ca, &h, "a.example.org");
    fine(&h);
    assert_string_equal(kid, account(ca));
    ca_close(&ca);
    json_decref(h.json);
}

/* A crash at each step of a change leaves what the next start goes on from. */
static void key_change_is_cut_off(void **state UNUSED)
{
    start((struct pebble_how){0});
    struct heard h = {0};
    struct ca *ca = ca_for("");
    roll(ca, &h);
    fine(&h);
    const char *kid = account(ca);
    struct str old = content("account.key");
    ca_close(&ca);

    /* Stored aside; the CA was not told. */
    EVP_PKEY *k = jose_key_new();
    put("account.key.new", test_pem(arena, NULL, k));
    EVP_PKEY_free(k);
    ca = ca_for("");
    order(ca, &h, "a.example.org");
    fine(&h);
    assert_false(is_there("account.key.new"));
    assert_true(str_eq(old, content("account.key")));
    assert_string_equal(kid, account(ca));

    /* The CA was told, we had not put it in place. */
    roll(ca, &h);
    fine(&h);
    struct str new = content("account.key");
    ca_close(&ca);
    put("account.key", old);
    put("account.key.new", new);
    ca = ca_for("");
    order(ca, &h, "a.example.org");
    fine(&h);
    assert_false(is_there("account.key.new"));
    assert_true(str_eq(new, content("account.key")));
    assert_string_equal(kid, account(ca));
    ca_close(&ca);

    /* In place, and still aside. */
    put("account.key.new", new);
    ca = ca_for("");
    order(ca, &h, "a.example.org");
    fine(&h);
    assert_false(is_there("account.key.new"));
    assert_string_equal(kid, account(ca));
    ca_close(&ca);
    json_decref(h.json);
}

/* ---- ends ---- */

static void never(void *ctx UNUSED, const struct ca_answer *a UNUSED)
{
    fail_msg("this was cancelled");
}

static struct ca *closed_within;

static void on_answer_close(void *ctx, const struct ca_answer *a)
{
    assert_non_null(closed_within); /* nobody is told once it is closed */
    ca_close(&closed_within);
    on_answer(ctx, a);
}

static void cancelled(void **state UNUSED)
{
    start((struct pebble_how){0});
    struct heard h = {0};
    struct ca *ca = ca_for("");
    struct ca_call *c =
        ca_post(ca, CA_NEW_ORDER, NULL, new_order("a.example.org"), "newOrder", never, NULL);
    ca_call_cancel(&c);
    assert_null(c);
    ca_call_cancel(&c);
    order(ca, &h, "b.example.org");
    fine(&h);
    c = ca_post(ca, CA_NEW_ORDER, NULL, new_order("a.example.org"), "newOrder", never, NULL);
    ca_post(ca, CA_NEW_ORDER, NULL, new_order("a.example.org"), "newOrder", never, NULL);
    ca_close(&ca);
    closed_within = ca_for("");
    for (int i = 0; i < 3; i++)
        ca_post(closed_within, CA_NEW_ORDER, NULL, new_order("a.example.org"), "newOrder",
                on_answer_close, &h);
    await(&h);
    fine(&h);
    ca = ca_for(""); /* what was under way had time to be told, and is not */
    order(ca, &h, "c.example.org");
    fine(&h);
    ca_close(&ca);
    json_decref(h.json);
}

/* ---- in the agent ---- */

static int agent(void)
{
    if (chdir(dir) != 0)
        return 2;
    loop_init(); /* epoll is not inherited */
    if (fetch_setup() || sandbox_agent("."))
        return 3;
    struct ca_spec s = spec("a@example.org");
    struct heard h = {0};
    s.state = ".";
    struct ca *ca = ca_open(&s);
    order(ca, &h, "a.example.org");
    if (h.fail.kind != ACME_FINE)
        return 4;
    roll(ca, &h);
    ca_close(&ca);
    return h.fail.kind == ACME_FINE ? 0 : 5;
}

static void in_the_sandbox(void **state UNUSED)
{
    int status;
    start((struct pebble_how){0});
    pid_t pid = fork();
    if (pid == 0)
        _exit(agent());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_false(WIFSIGNALED(status)); /* SIGSYS: a system call is missing in the agent's list */
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_true(is_there("account.key") && is_there("account.json"));
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, ca_set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(account_and_calls), CASE(account_is_found_again),
        CASE(account_is_lost),   CASE(contact_follows),
        CASE(external_account),  CASE(nonces_are_refused),
        CASE(many_at_once),      CASE(revoked),
        CASE(keys_are_changed),  CASE(key_change_is_cut_off),
        CASE(cancelled),         CASE(in_the_sandbox),
    };
    return cmocka_run_group_tests(tests, group_set_up, group_tear_down);
}
