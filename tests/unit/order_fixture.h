/*
 * order_fixture.h - for test_order.c: a CA in memory, which can be told to fail in any step, and
 * somebody who orders of it. It defines ca.h's functions itself. What happened is kept as a line of
 * words: the CA's requests and the order's calls back, in their order.
 */
#ifndef HG_TEST_ORDER_FIXTURE_H
#define HG_TEST_ORDER_FIXTURE_H

#include "base/base.h"

#include <setjmp.h>

#include <cmocka.h>

#include "acme/jose.h"
#include "acme/order.h"
#include "acme/pem.h"
#include "base/json.h"
#include "base/loop.h"
#include "tests/unit/certs.h"

#define HOST "www.a.test"
#define BASE "https://ca.test"

/* ---- the CA ---- */

struct ca {
    int unused;
};
struct ca_call {
    struct turn_task task;
    char step[32], url[256];
    json_t *payload;
    ca_done *done;
    void *ctx;
};

/* A failure that a step has at its first `times` requests. */
struct trouble {
    const char *step;
    unsigned times;
    enum acme_fail_kind kind;
    const char *type;
    int64_t retry_in; /* s */
};

static struct {
    struct arena *arena;
    struct ca ca;
    EVP_PKEY *account;
    struct test_cert root[2], inter[2];
    struct ca_call *call;

    /* what it is told to do */
    struct trouble troubles[3];
    bool fails[CONF_CHALLENGES];      /* validation by these */
    bool offers_not[CONF_CHALLENGES]; /* these */
    unsigned looks;                   /* that many find nothing decided */
    int64_t retry_in;                 /* s, said with each of those */
    bool authorized, under_way, late; /* late: ready some looks after validation */
    bool has_no_profile, no_location, knows_renewals;
    unsigned profile_looks, unread_looks; /* so many before its directory was read */
    const char *odd_step, *odd_json;      /* a body in place of that step's */
    const char *chains[4];                /* "LI", the first and its alternates */

    /* what it did */
    char status[16];
    unsigned orders, looked;
    int kind; /* of the challenge that it was told of; -1: none */
    EVP_PKEY *csr_key;
    const char *host;    /* that is ordered */
    struct str replaces; /* by it */
} fake;

static struct {
    struct order *order;
    struct str trace;
    bool done;
    struct acme_fail fail; /* ACME_FINE: there is a certificate */
    struct str pem, key_pem, url, saved_key;
    enum conf_challenge kind;
    const char *show_error, *save_error;
    bool silent;          /* order_shown is not called */
    unsigned close_after; /* that many words; 0: never */
    unsigned words, shown;
} seen;

static void trace(const char *word)
{
    if (seen.trace.n)
        seen.trace = arena_fmt(fake.arena, STR_FMT " ", STR_ARG(seen.trace));
    seen.trace = arena_fmt(fake.arena, STR_FMT "%s", STR_ARG(seen.trace), word);
    seen.words++;
}

bool ca_url_fine(const struct ca *ca UNUSED, struct str url)
{
    return str_starts(url, STR(BASE "/"));
}

bool ca_has_profile(const struct ca *ca UNUSED, struct str profile UNUSED)
{
    return !fake.has_no_profile || fake.profile_looks++ < fake.unread_looks;
}

EVP_PKEY *ca_account_key(const struct ca *ca UNUSED)
{
    return fake.account;
}

static void call_free(void *p)
{
    struct ca_call *c = p;
    json_decref(c->payload);
    free(c);
}

void ca_call_cancel(struct ca_call **c)
{
    if (*c) {
        assert_ptr_equal(*c, fake.call);
        turn_task_cancel(&(*c)->task);
        loop_free_later(*c, call_free);
        fake.call = NULL;
    }
    *c = NULL;
}

static bool is_wild(void)
{
    return fake.host[0] == '*';
}

/* ---- its objects ---- */

static bool undecided(void)
{
    return fake.looked++ < fake.looks;
}

static json_t *challenge_object(unsigned kind, bool failed)
{
    const char *name = challenge_name((enum conf_challenge)kind);
    const char *status = failed ? "invalid" : fake.under_way ? "processing" : "pending";
    json_t *j = json_pack("{s:s, s:o, s:s, s:s}", "type", name, "url",
                          json_text(arena_fmt(fake.arena, BASE "/challenge/%s", name)), "token",
                          "a-token_of-43", "status", status);
    if (failed)
        json_object_set_new(j, "error",
                            json_pack("{s:s, s:o}", "type", "urn:ietf:params:acme:error:connection",
                                      "detail",
                                      json_text(arena_fmt(fake.arena, "no way to %s", name))));
    return j;
}

static json_t *authorization_object(void)
{
    bool told = fake.kind >= 0;
    bool failed = told && fake.fails[fake.kind];
    bool decided = fake.authorized || (told && !undecided());
    json_t *all = json_array();
    for (unsigned i = 0; i < CONF_CHALLENGES; i++)
        if (!fake.offers_not[i])
            json_array_append_new(all,
                                  challenge_object(i, decided && failed && fake.kind == (int)i));
    json_array_append_new(all, json_pack("{s:s}", "type", "unheard-of-01"));
    if (decided && !fake.authorized && !failed)
        strcpy(fake.status, fake.late ? "pending" : "ready");
    if (decided)
        fake.looked = 0;
    return json_pack("{s:s, s:{s:s, s:s}, s:o}", "status",
                     !decided ? "pending"
                     : failed ? "invalid"
                              : "valid",
                     "identifier", "type", "dns", "value", is_wild() ? fake.host + 2 : fake.host,
                     "challenges", all);
}

static json_t *order_object(void)
{
    json_t *j = json_pack("{s:s, s:[{s:s, s:s}], s:[s], s:s}", "status", fake.status, "identifiers",
                          "type", "dns", "value", fake.host, "authorizations",
                          BASE "/authorization", "finalize", BASE "/finalize");
    if (strcmp(fake.status, "valid") == 0)
        json_object_set_new(j, "certificate", json_string(BASE "/certificate/0"));
    if (fake.knows_renewals && fake.replaces.n)
        json_object_set_new(j, "replaces", json_text(fake.replaces));
    return j;
}

/* L: a leaf of the CSR's key, E: one that has expired, I, J: two ways up from it, of both roots. */
static struct str chain_text(const char *letters)
{
    struct str out = STR("");
    for (; *letters; letters++) {
        struct str pem = *letters == 'J' ? fake.inter[1].pem : fake.inter[0].pem;
        if (*letters == 'L' || *letters == 'E') {
            struct test_cert leaf = test_cert_make(
                fake.arena,
                (struct test_cert_how){.san = arena_fmt(fake.arena, "DNS:%s", fake.host).p,
                                       .of = fake.csr_key,
                                       .by = &fake.inter[0],
                                       .from = *letters == 'E' ? -7200 : -3600,
                                       .to = *letters == 'E' ? -3600 : 3600,
                                       .more = {"keyUsage=critical,digitalSignature",
                                                "extendedKeyUsage=serverAuth",
                                                "authorityKeyIdentifier=keyid"}});
            pem = leaf.pem;
            test_cert_free(&leaf);
        }
        out = arena_fmt(fake.arena, STR_FMT STR_FMT, STR_ARG(out), STR_ARG(pem));
    }
    return out;
}

static void read_csr(const json_t *payload)
{
    struct str der = STR_NULL, text = str_of(json_string_value(json_object_get(payload, "csr")));
    assert_true(jose_unb64(fake.arena, text, &der));
    const unsigned char *p = (const unsigned char *)der.p;
    X509_REQ *r = d2i_X509_REQ(NULL, &p, (long)der.n);
    assert_non_null(r);
    EVP_PKEY_free(fake.csr_key);
    fake.csr_key = X509_REQ_get_pubkey(r);
    assert_int_equal(X509_REQ_verify(r, fake.csr_key), 1);
    assert_int_equal(X509_NAME_entry_count(X509_REQ_get_subject_name(r)), 0);
    STACK_OF(X509_EXTENSION) *all = X509_REQ_get_extensions(r);
    assert_int_equal(sk_X509_EXTENSION_num(all), 1);
    GENERAL_NAMES *names = X509V3_get_d2i(all, NID_subject_alt_name, NULL, NULL);
    assert_int_equal(sk_GENERAL_NAME_num(names), 1);
    const ASN1_STRING *name = GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names, 0), NULL);
    assert_int_equal(ASN1_STRING_length(name), strlen(fake.host));
    assert_memory_equal(ASN1_STRING_get0_data(name), fake.host, strlen(fake.host));
    GENERAL_NAMES_free(names);
    sk_X509_EXTENSION_pop_free(all, X509_EXTENSION_free);
    X509_REQ_free(r);
}

/* ---- its answers ---- */

static void answer_new_order(const struct ca_call *c, struct ca_answer *a)
{
    fake.orders++;
    fake.kind = -1;
    fake.looked = 0;
    strcpy(fake.status, fake.authorized ? "ready" : "pending");
    json_t *names = json_object_get(c->payload, "identifiers");
    assert_int_equal(json_array_size(names), 1);
    const json_t *value = json_object_get(json_array_get(names, 0), "value");
    assert_string_equal(json_string_value(value), fake.host);
    if (!fake.no_location)
        a->location = arena_fmt(fake.arena, BASE "/order/%u", fake.orders);
    a->json = order_object();
}

static void answer_order(struct ca_answer *a)
{
    if (strcmp(fake.status, "processing") == 0 && !undecided())
        strcpy(fake.status, "valid");
    else if (strcmp(fake.status, "pending") == 0 && fake.late && !undecided())
        strcpy(fake.status, "ready");
    a->json = order_object();
    a->retry_at = fake.retry_in ? wall_s() + fake.retry_in : 0;
}

static void answer_challenge(const struct ca_call *c, struct ca_answer *a)
{
    enum conf_challenge k;
    assert_int_equal(json_object_size(c->payload), 0);
    assert_true(challenge_parse(str_of(c->url + strlen(BASE "/challenge/")), &k));
    fake.kind = (int)k;
    fake.looked = 0;
    a->json = challenge_object(k, false);
}

static void answer_certificate(unsigned i, struct ca_answer *a)
{
    a->body = chain_text(fake.chains[i]);
    for (unsigned k = 1; i == 0 && k < ARRAY_LEN(fake.chains) && fake.chains[k]; k++)
        a->alternates[a->n_alternates++] = arena_fmt(fake.arena, BASE "/certificate/%u", k);
}

static void answer_by_url(const struct ca_call *c, struct ca_answer *a)
{
    if (!*c->url) {
        answer_new_order(c, a);
    } else if (strstr(c->url, "/order/")) {
        answer_order(a);
    } else if (strstr(c->url, "/authorization")) {
        a->json = authorization_object();
        a->retry_at = fake.retry_in ? wall_s() + fake.retry_in : 0;
    } else if (strstr(c->url, "/challenge/")) {
        answer_challenge(c, a);
    } else if (strstr(c->url, "/finalize")) {
        read_csr(c->payload);
        strcpy(fake.status, fake.looks ? "processing" : "valid");
        fake.looked = 0;
        a->json = order_object();
    } else {
        answer_certificate((unsigned)(c->url[strlen(c->url) - 1] - '0'), a);
    }
}

static bool troubled(const struct ca_call *c, struct acme_fail *f)
{
    for (unsigned i = 0; i < ARRAY_LEN(fake.troubles); i++) {
        struct trouble *t = &fake.troubles[i];
        if (!t->step || strcmp(t->step, c->step) != 0 || !t->times)
            continue;
        t->times--;
        acme_fail_set(f, t->kind, c->step, "trouble with %s", c->step);
        if (t->type)
            memcpy(f->type, t->type, strlen(t->type) + 1);
        f->retry_at = t->retry_in ? wall_s() + t->retry_in : 0;
        return true;
    }
    return false;
}

static void answer(struct turn_task *t)
{
    struct ca_call *c = container_of(t, struct ca_call, task);
    struct ca_answer a = {.status = 200};
    struct acme_fail f;
    fake.call = NULL;
    if (troubled(c, &f)) {
        a.fail = &f;
    } else {
        answer_by_url(c, &a);
        if (fake.odd_step && strcmp(fake.odd_step, c->step) == 0) {
            json_decref(a.json);
            a.json = json_loads(fake.odd_json, 0, NULL);
        }
    }
    c->done(c->ctx, &a);
    json_decref(a.json);
    loop_free_later(c, call_free);
}

struct ca_call *ca_post(struct ca *ca, enum ca_resource r, const char *url, json_t *payload,
                        const char *step, ca_done *done, void *ctx)
{
    assert_ptr_equal(ca, &fake.ca);
    assert_true(url || r == CA_NEW_ORDER);
    assert_null(fake.call); /* one after the other */
    struct ca_call *c = calloc(1, sizeof(*c));
    *c = (struct ca_call){.payload = payload, .done = done, .ctx = ctx};
    struct out o = out_on(c->url, sizeof(c->url) - 1), s = out_on(c->step, sizeof(c->step) - 1);
    out_str(&o, str_of(url));
    out_str(&s, str_of(step));
    assert_false(o.over || s.over);
    trace(arena_fmt(fake.arena, "%s%s%s", step, json_object_get(payload, "replaces") ? "+r" : "",
                    json_object_get(payload, "profile") ? "+p" : "")
              .p);
    if (strcmp(step, "newOrder") == 0)
        fake.replaces =
            arena_str(fake.arena, str_of(json_string_value(json_object_get(payload, "replaces"))));
    fake.call = c;
    loop_at_turn_end(&c->task, answer);
    return c;
}

/* ---- who ordered ---- */

static void maybe_close(void)
{
    if (seen.close_after && seen.words >= seen.close_after)
        order_close(&seen.order);
}

static void on_show(void *ctx UNUSED, const struct challenge *c)
{
    assert_string_equal(arena_strz(fake.arena, c->host), is_wild() ? fake.host + 2 : fake.host);
    assert_true(c->answer.n > 0);
    seen.kind = c->kind;
    seen.shown++;
    trace(arena_fmt(fake.arena, "show:%s", challenge_name(c->kind)).p);
    maybe_close();
    if (seen.order && !seen.silent)
        order_shown(seen.order, seen.show_error);
}

static void on_hide(void *ctx UNUSED, const struct challenge *c)
{
    assert_int_equal(c->kind, seen.kind);
    assert_int_equal(seen.shown, 1);
    seen.shown--;
    trace("hide");
}

static const char *on_save(void *ctx UNUSED, struct str url, struct str key_pem)
{
    trace(url.n ? "save" : "forget");
    assert_int_equal(url.n > 0, key_pem.n > 0);
    seen.saved_key = arena_str(fake.arena, key_pem);
    seen.url = arena_str(fake.arena, url);
    return url.n ? seen.save_error : NULL;
}

static void on_spent(void *ctx UNUSED, enum order_spent what, bool renewal)
{
    static const char *const names[] = {[ORDER_SPENT_ORDER] = "spent",
                                        [ORDER_SPENT_VALIDATION] = "failed",
                                        [ORDER_SPENT_CERTIFICATE] = "issued"};
    trace(arena_fmt(fake.arena, "%s%s", names[what], renewal ? "-renewal" : "").p);
}

static void on_step(void *ctx UNUSED, const char *step)
{
    assert_true(*step != '\0');
}

static void on_done(void *ctx UNUSED, const struct order_result *r)
{
    trace("done");
    seen.order = NULL;
    seen.done = true;
    if (r->fail) {
        seen.fail = *r->fail;
    } else {
        seen.pem = arena_str(fake.arena, r->cert.pem);
        seen.key_pem = arena_str(fake.arena, r->key_pem);
        assert_true(str_starts(r->url, STR(BASE "/order/")));
    }
    loop_stop();
}

static const struct order_ops ops = {.show = on_show,
                                     .hide = on_hide,
                                     .save = on_save,
                                     .spent = on_spent,
                                     .step = on_step,
                                     .done = on_done};

static struct order_spec spec_of(const char *host)
{
    fake.host = host;
    return (struct order_spec){.host = str_of(host),
                               .challenges = {CONF_TLS_ALPN_01, CONF_HTTP_01, CONF_DNS_01},
                               .n_challenges = 3};
}

static void run(struct order_spec spec)
{
    seen.order = order_start(&fake.ca, &spec, &ops, NULL);
    assert_int_equal(seen.words, 0);
    loop_run();
    assert_true(seen.done);
    assert_int_equal(seen.shown, 0);
    assert_null(fake.call);
}

/* `words`: the whole of what happened. */
static void expect(const char *happened)
{
    if (seen.fail.kind)
        print_message("%s\n", seen.fail.text);
    assert_string_equal(seen.trace.p, happened);
}

static void expect_issued(const char *happened)
{
    expect(happened);
    assert_int_equal(seen.fail.kind, ACME_FINE);
    X509 *x = pem_cert(seen.pem);
    EVP_PKEY *key = pem_key(seen.key_pem);
    assert_int_equal(X509_check_private_key(x, key), 1);
    X509_free(x);
    EVP_PKEY_free(key);
}

static void expect_failed(enum acme_fail_kind kind, const char *text, const char *happened)
{
    expect(happened);
    assert_int_equal(seen.fail.kind, kind);
    if (!strstr(seen.fail.text, text))
        fail_msg("expected \"%s\", not \"%s\"", text, seen.fail.text);
}

static void make_roots(void)
{
    static const char *const names[] = {"Root A", "Root B"};
    EVP_PKEY *shared = test_key(NULL);
    for (unsigned i = 0; i < 2; i++) {
        fake.root[i] =
            test_cert_make(fake.arena, (struct test_cert_how){.cn = names[i], .ca = true});
        fake.inter[i] = test_cert_make(
            fake.arena, (struct test_cert_how){.cn = "Intermediate",
                                               .ca = true,
                                               .of = shared,
                                               .by = &fake.root[i],
                                               .more = {"keyUsage=critical,keyCertSign",
                                                        "subjectKeyIdentifier=hash"}});
    }
    EVP_PKEY_free(shared);
}

static int set_up(void **state UNUSED)
{
    memset(&fake, 0, sizeof(fake));
    memset(&seen, 0, sizeof(seen));
    fake.arena = arena_new(1 << 16);
    fake.account = test_key(NULL);
    fake.kind = -1;
    fake.chains[0] = "LI";
    make_roots();
    loop_init();
    return 0;
}

static int tear_down(void **state UNUSED)
{
    loop_fini();
    for (unsigned i = 0; i < 2; i++) {
        test_cert_free(&fake.root[i]);
        test_cert_free(&fake.inter[i]);
    }
    EVP_PKEY_free(fake.account);
    EVP_PKEY_free(fake.csr_key);
    arena_free(&fake.arena);
    return 0;
}

#endif
