/*
 * test_challenge.c - what is shown as proof of a name, looked at as a CA does (RFC 8555 8, RFC 8737
 * 3), and which tokens are none.
 */
#include "base/base.h"

#include <setjmp.h>

#include <cmocka.h>
#include <openssl/sha.h>
#include <openssl/x509v3.h>

#include "acme/challenge.h"
#include "acme/jose.h"
#include "acme/pem.h"

#define TOKEN "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"

static struct arena *arena;
static EVP_PKEY *account;

static int set_up(void **state UNUSED)
{
    arena = arena_new(1 << 14);
    account = EVP_EC_gen("P-256");
    return account ? 0 : 1;
}

static int tear_down(void **state UNUSED)
{
    EVP_PKEY_free(account);
    arena_free(&arena);
    return 0;
}

static struct challenge make(enum conf_challenge kind)
{
    struct challenge c = {.kind = kind, .host = STR("www.a.test"), .token = STR(TOKEN)};
    const char *err = challenge_make(arena, account, &c);
    if (err)
        fail_msg("%s", err);
    return c;
}

static struct str key_authorization(void)
{
    return arena_fmt(arena, TOKEN "." STR_FMT, STR_ARG(jose_thumbprint(arena, account)));
}

static void digest(unsigned char sum[SHA256_DIGEST_LENGTH])
{
    struct str text = key_authorization();
    SHA256((const unsigned char *)text.p, text.n, sum);
}

static void test_names(void **state UNUSED)
{
    static const char *const known[] = {"tls-alpn-01", "http-01", "dns-01"};
    enum conf_challenge k;
    for (unsigned i = 0; i < ARRAY_LEN(known); i++) {
        assert_true(challenge_parse(str_of(known[i]), &k));
        assert_string_equal(challenge_name(k), known[i]);
    }
    assert_false(challenge_parse(STR("dns-account-01"), &k));
    assert_false(challenge_parse(STR(""), &k));
    assert_false(challenge_parse(STR("HTTP-01"), &k));
}

static void test_tokens(void **state UNUSED)
{
    static const char long_one[129] =
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    static const char *const bad[] = {"",     "../../etc/passwd", "a b", "a.b",  "a/b", "a=",
                                      "a\nb", "\xc3\xa9",         "a+b", "a%2f", "a;b"};
    assert_true(challenge_token_fine(STR(TOKEN)));
    assert_true(challenge_token_fine(STR("-_09azAZ")));
    assert_true(challenge_token_fine((struct str){long_one, 128}));
    assert_false(challenge_token_fine((struct str){long_one, 129}));
    assert_false(challenge_token_fine((struct str){"a\0b", 3}));
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        struct challenge c = {.kind = CONF_HTTP_01, .host = STR("a.test"), .token = str_of(bad[i])};
        assert_false(challenge_token_fine(c.token));
        assert_non_null(challenge_make(arena, account, &c));
    }
}

static void test_http(void **state UNUSED)
{
    assert_true(str_eq(make(CONF_HTTP_01).answer, key_authorization()));
}

static void test_dns(void **state UNUSED)
{
    unsigned char sum[SHA256_DIGEST_LENGTH];
    struct str value = STR_NULL;
    struct challenge c = make(CONF_DNS_01);
    digest(sum);
    assert_int_equal(c.answer.n, 43);
    assert_true(jose_unb64(arena, c.answer, &value));
    assert_int_equal(value.n, sizeof(sum));
    assert_memory_equal(value.p, sum, sizeof(sum));
}

/* RFC 8737 3: one dNSName, and the critical extension with nothing but the digest. */
static void test_tls_alpn(void **state UNUSED)
{
    struct challenge c = make(CONF_TLS_ALPN_01);
    X509 *x = pem_cert(c.answer);
    EVP_PKEY *key = pem_key(c.answer);
    assert_non_null(x);
    assert_non_null(key);
    assert_int_equal(X509_check_private_key(x, key), 1);
    assert_true(EVP_PKEY_is_a(key, "EC"));
    assert_int_equal(X509_self_signed(x, 1), 1);
    assert_true(X509_cmp_current_time(X509_get0_notBefore(x)) < 0);
    assert_true(X509_cmp_current_time(X509_get0_notAfter(x)) > 0);

    GENERAL_NAMES *names = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
    assert_int_equal(sk_GENERAL_NAME_num(names), 1);
    int kind;
    const ASN1_STRING *name = GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names, 0), &kind);
    assert_int_equal(kind, GEN_DNS);
    assert_int_equal(ASN1_STRING_length(name), c.host.n);
    assert_memory_equal(ASN1_STRING_get0_data(name), c.host.p, c.host.n);
    GENERAL_NAMES_free(names);

    ASN1_OBJECT *id = OBJ_txt2obj("1.3.6.1.5.5.7.1.31", 1);
    X509_EXTENSION *e = X509_get_ext(x, X509_get_ext_by_OBJ(x, id, -1));
    assert_non_null(e);
    assert_int_equal(X509_EXTENSION_get_critical(e), 1);
    const ASN1_OCTET_STRING *value = X509_EXTENSION_get_data(e);
    unsigned char wanted[2 + SHA256_DIGEST_LENGTH] = {0x04, 0x20};
    digest(wanted + 2);
    assert_int_equal(ASN1_STRING_length(value), sizeof(wanted));
    assert_memory_equal(ASN1_STRING_get0_data(value), wanted, sizeof(wanted));
    ASN1_OBJECT_free(id);
    EVP_PKEY_free(key);
    X509_free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names), cmocka_unit_test(test_tokens),   cmocka_unit_test(test_http),
        cmocka_unit_test(test_dns),   cmocka_unit_test(test_tls_alpn),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
