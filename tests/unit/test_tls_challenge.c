/*
 * test_tls_challenge.c - TLS-ALPN-01 (RFC 8737): who offers acme-tls/1 alone gets the certificate
 * of a challenge that is shown, and nobody else does.
 */
#include "base/base.h"

#include <setjmp.h>
#include <stdlib.h>

#include <cmocka.h>

#include "acme/challenge.h"
#include "proxy/challenges.h"
#include "tests/unit/certs.h"
#include "tests/unit/tls_pair.h"

#define ACME \
    "\x0a"   \
    "acme-tls/1"
#define HTTP "\x08http/1.1"

static struct arena *arena;
static struct tls_names *names;
static struct test_cert own, proof;

/* ---- helpers ---- */

static void show(uint64_t id, const char *host, const struct test_cert *c)
{
    char mem[MSG_TAIL_MAX];
    struct out tail = out_on(mem, sizeof(mem));
    struct str pem = arena_fmt(arena, STR_FMT STR_FMT, STR_ARG(c->pem), STR_ARG(c->key_pem));
    challenge_text_write(&(struct challenge_text){str_of(host), STR("token"), pem}, &tail);
    struct msg_challenge m = {.id = id, .kind = MSG_CHALLENGE_TLS_ALPN, .on = 1};
    assert_null(challenges_take(&m, out_done(&tail)));
}

static void hide(uint64_t id)
{
    assert_null(challenges_take(&(struct msg_challenge){.id = id}, STR_NULL));
}

static void look(struct pair *p, const char *sni, int version, const char *offer)
{
    pair_init(p, names, sni);
    pair_version(p, version);
    pair_alpn(p, offer);
    if (last_session)
        assert_int_equal(SSL_set_session(p->client, last_session), 1);
    pair_run(p);
}

static void sees(const struct pair *p, const struct test_cert *want)
{
    X509 *x = SSL_get0_peer_certificate(p->client);
    assert_true(p->done);
    assert_non_null(x);
    assert_int_equal(X509_cmp(x, want->x), 0);
}

static void refuses(const char *sni, const char *offer, int alert)
{
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        struct pair p;
        look(&p, sni, version, offer);
        assert_false(p.done);
        assert_int_equal(p.alert, alert);
        pair_fini(&p);
    }
}

/* The handshake of a CA: the certificate, the protocol, and no ticket. */
static void proves(const char *sni, const struct test_cert *want)
{
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        struct pair p;
        const unsigned char *at;
        unsigned n;
        look(&p, sni, version, ACME);
        sees(&p, want);
        SSL_get0_alpn_selected(p.client, &at, &n);
        assert_true(str_eq((struct str){(const char *)at, n}, STR("acme-tls/1")));
        assert_true(p.conn.alpn_challenge);
        assert_false(p.conn.h2);
        assert_false(p.conn.resumed);
        assert_false(SSL_SESSION_has_ticket(SSL_get0_session(p.client)));
        assert_int_equal(SSL_version(p.client), version);
        pair_fini(&p);
    }
}

static void forget(void)
{
    SSL_SESSION_free(last_session);
    last_session = NULL;
}

/* ---- tests ---- */

static void shown_and_hidden(void **state UNUSED)
{
    /* b.test is served, new.test has no certificate, and of gone.test no site knows. */
    static const char *const hosts[] = {"b.test", "new.test", "gone.test"};
    refuses("b.test", ACME, SSL_AD_NO_APPLICATION_PROTOCOL);
    refuses("new.test", ACME, SSL_AD_NO_APPLICATION_PROTOCOL);
    refuses("gone.test", ACME, SSL_AD_UNRECOGNIZED_NAME);
    for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
        show(1, hosts[i], &proof);
        proves(hosts[i], &proof);
        hide(1);
        forget();
    }
    refuses("b.test", ACME, SSL_AD_NO_APPLICATION_PROTOCOL);
    refuses("new.test", ACME, SSL_AD_NO_APPLICATION_PROTOCOL);
    refuses("gone.test", ACME, SSL_AD_UNRECOGNIZED_NAME);
}

static void others_go_their_way(void **state UNUSED)
{
    struct pair p;
    show(1, "b.test", &proof);
    show(2, "new.test", &proof);
    static const char *const offers[] = {HTTP, ACME HTTP, HTTP ACME};
    for (size_t i = 0; i < ARRAY_LEN(offers); i++)
        for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
            look(&p, "b.test", version, offers[i]);
            sees(&p, &own);
            assert_false(p.conn.alpn_challenge);
            pair_fini(&p);
            forget();
        }
    refuses("new.test", HTTP, SSL_AD_INTERNAL_ERROR);
    refuses("new.test",
            "\x0a"
            "acme-tls/2",
            SSL_AD_INTERNAL_ERROR);
    refuses("other.test", ACME, SSL_AD_UNRECOGNIZED_NAME);
    /* A CA always names the host. */
    refuses(NULL, ACME, SSL_AD_UNRECOGNIZED_NAME);
    /* Raw bytes in TLS are no business of ours: their configuration says what is spoken. */
    pair_init(&p, names, "b.test");
    p.conn.raw = true;
    p.conn.alpn = STR(ACME);
    pair_alpn(&p, ACME);
    pair_run(&p);
    sees(&p, &own);
    pair_fini(&p);
    forget();
    challenges_fini();
}

static void by_host_and_newest_first(void **state UNUSED)
{
    struct test_cert second =
        test_cert_make(arena, (struct test_cert_how){.san = "DNS:b.test", .cn = "second"});
    show(1, "B.test", &proof);
    show(2, "new.test", &proof);
    show(3, "b.test", &second);
    proves("B.TEST", &second);
    proves("new.test", &proof);
    hide(3);
    proves("b.test", &proof);
    show(1, "b.test", &second); /* the same id: another in its place */
    proves("b.test", &second);
    hide(1);
    refuses("b.test", ACME, SSL_AD_NO_APPLICATION_PROTOCOL);
    challenges_fini();
    test_cert_free(&second);
}

/* A session of the host does not stand in for the proof, and the proof leaves no session. */
static void never_resumed(void **state UNUSED)
{
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        struct pair p;
        look(&p, "b.test", version, HTTP);
        sees(&p, &own);
        pair_fini(&p);
        assert_non_null(last_session);
        show(1, "b.test", &proof);
        look(&p, "b.test", version, ACME);
        assert_false(SSL_session_reused(p.client));
        sees(&p, &proof);
        pair_fini(&p);
        forget();
        /* With what the proof's handshake left, if anything, a client starts anew. */
        proves("b.test", &proof);
        look(&p, "b.test", version, HTTP);
        assert_false(p.conn.resumed);
        sees(&p, &own);
        pair_fini(&p);
        forget();
        challenges_fini();
    }
}

/* The hello comes twice; between the two the challenge may be taken back. */
static void hello_retry(void **state UNUSED)
{
    struct pair p;
    for (int hidden = 0; hidden <= 1; hidden++) {
        show(1, "new.test", &proof);
        pair_init(&p, names, "new.test");
        pair_alpn(&p, ACME);
        assert_int_equal(SSL_set1_groups_list(p.client, "P-384:P-256"), 1);
        SSL_do_handshake(p.client);
        SSL_do_handshake(p.server);
        if (hidden)
            hide(1);
        pair_run(&p);
        assert_int_equal(p.done, !hidden);
        if (hidden)
            assert_int_equal(p.alert, SSL_AD_NO_APPLICATION_PROTOCOL);
        pair_fini(&p);
        challenges_fini();
    }
    forget();
}

/* What the ACME client makes is shown as it is, with the digest that the CA looks for. */
static void made_by_the_client(void **state UNUSED)
{
    EVP_PKEY *account = EVP_EC_gen("P-256");
    struct challenge c = {
        .kind = CONF_TLS_ALPN_01, .host = STR("new.test"), .token = STR("to_k-en")};
    char mem[MSG_TAIL_MAX];
    struct out tail = out_on(mem, sizeof(mem));
    struct msg_challenge m = {.id = 1, .kind = MSG_CHALLENGE_TLS_ALPN, .on = 1};
    struct pair p;
    assert_null(challenge_make(arena, account, &c));
    challenge_text_write(&(struct challenge_text){c.host, c.token, c.answer}, &tail);
    assert_null(challenges_take(&m, out_done(&tail)));
    look(&p, "new.test", TLS1_3_VERSION, ACME);
    assert_true(p.done);
    X509 *x = SSL_get0_peer_certificate(p.client);
    ASN1_OBJECT *oid = OBJ_txt2obj("1.3.6.1.5.5.7.1.31", 1); /* RFC 8737 6.1 */
    X509_EXTENSION *e = X509_get_ext(x, X509_get_ext_by_OBJ(x, oid, -1));
    assert_non_null(e);
    assert_int_equal(X509_EXTENSION_get_critical(e), 1);
    assert_int_equal(ASN1_STRING_length(X509_EXTENSION_get_data(e)), 2 + 32);
    ASN1_OBJECT_free(oid);
    EVP_PKEY_free(account);
    pair_fini(&p);
    forget();
    challenges_fini();
}

static int set_up(void **state UNUSED)
{
    static struct conf_cert given;
    arena = arena_new(1 << 16);
    own = test_cert_make(arena, (struct test_cert_how){.san = "DNS:b.test", .cn = "own"});
    proof = test_cert_make(arena, (struct test_cert_how){.san = "DNS:b.test", .cn = "proof"});
    given = (struct conf_cert){.cert_path = STR("cert.pem"),
                               .key_path = STR("key.pem"),
                               .cert_pem = own.pem,
                               .key_pem = own.key_pem};
    struct conf_tls tls = {.min_version = 0x0303, .certs = &given, .n_certs = 1};
    struct conf_site sites[] = {{.host = STR("b.test"), .tls = tls},
                                {.host = STR("new.test"), .tls = tls}};
    struct conf c = {.tls = tls, .sites = sites, .n_sites = ARRAY_LEN(sites)};
    const char *err = tls_setup(TLS1_2_VERSION);
    names = err ? NULL : tls_names_new(&c, &err);
    return err ? 1 : 0;
}

static int tear_down(void **state UNUSED)
{
    tls_names_free(&names);
    test_cert_free(&own);
    test_cert_free(&proof);
    arena_free(&arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shown_and_hidden),
        cmocka_unit_test(others_go_their_way),
        cmocka_unit_test(by_host_and_newest_first),
        cmocka_unit_test(never_resumed),
        cmocka_unit_test(hello_retry),
        cmocka_unit_test(made_by_the_client),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
