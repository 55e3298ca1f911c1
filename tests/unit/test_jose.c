/*
 * test_jose.c - what ACME signs with: the examples of the RFCs, and signatures that verify.
 */
#include "base/base.h"

#include <jansson.h>
#include <setjmp.h>

#include <cmocka.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/hmac.h>
#include <openssl/param_build.h>

#include "acme/jose.h"

static struct arena *arena;

static int set_up(void **state UNUSED)
{
    arena = arena_new(8192);
    return 0;
}

static int tear_down(void **state UNUSED)
{
    arena_free(&arena);
    return 0;
}

static struct str unb64(const char *text)
{
    struct str out = STR_NULL;
    if (!jose_unb64(arena, str_of(text), &out))
        fail_msg("%s is base64url", text);
    return out;
}

/* RFC 7515 A.3.1 */
static const char key_x[] = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
static const char key_y[] = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";
static const char key_d[] = "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI";

static EVP_PKEY *known_key(void)
{
    struct str x = unb64(key_x), y = unb64(key_y), d = unb64(key_d);
    unsigned char point[65] = {4};
    memcpy(point + 1, x.p, 32);
    memcpy(point + 33, y.p, 32);
    BIGNUM *n = BN_bin2bn((const unsigned char *)d.p, (int)d.n, NULL);
    OSSL_PARAM_BLD *b = OSSL_PARAM_BLD_new();
    OSSL_PARAM_BLD_push_utf8_string(b, OSSL_PKEY_PARAM_GROUP_NAME, "prime256v1", 0);
    OSSL_PARAM_BLD_push_octet_string(b, OSSL_PKEY_PARAM_PUB_KEY, point, sizeof point);
    OSSL_PARAM_BLD_push_BN(b, OSSL_PKEY_PARAM_PRIV_KEY, n);
    OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(b);
    EVP_PKEY *k = NULL;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
    assert_int_equal(EVP_PKEY_fromdata_init(ctx), 1);
    assert_int_equal(EVP_PKEY_fromdata(ctx, &k, EVP_PKEY_KEYPAIR, params), 1);
    EVP_PKEY_CTX_free(ctx);
    OSSL_PARAM_free(params);
    OSSL_PARAM_BLD_free(b);
    BN_free(n);
    return k;
}

/* RFC 4648 10 and RFC 7515 C, without padding. */
static void base64url(void **state UNUSED)
{
    static const struct {
        struct str bytes;
        const char *text;
    } cases[] = {
        {STR(""), ""},
        {STR("f"), "Zg"},
        {STR("fo"), "Zm8"},
        {STR("foo"), "Zm9v"},
        {STR("foob"), "Zm9vYg"},
        {STR("fooba"), "Zm9vYmE"},
        {STR("foobar"), "Zm9vYmFy"},
        {STR("\x03\xec\xff\xe0\xc1"), "A-z_4ME"},
        {STR("\x00\x00\x00"), "AAAA"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct str back;
        assert_string_equal(jose_b64(arena, cases[i].bytes).p, cases[i].text);
        assert_true(jose_unb64(arena, str_of(cases[i].text), &back));
        assert_true(str_eq(back, cases[i].bytes));
    }
    static const char *const bad[] = {"A",  "Zg==", "Zg=",    "Zh",   "Zm9vYmF",
                                      "+/", "Zm 9", "Zm9v\n", "AAAAA"};
    struct str none;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (jose_unb64(arena, str_of(bad[i]), &none))
            fail_msg("%s is no base64url", bad[i]);
    assert_false(jose_unb64(arena, STR("AA\0A"), &none));
}

/* RFC 7638 3: members sorted, no space; the digest was made by another program. */
static void thumbprint(void **state UNUSED)
{
    EVP_PKEY *k = known_key();
    assert_string_equal(jose_jwk(arena, k).p,
                        "{\"crv\":\"P-256\",\"kty\":\"EC\","
                        "\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\","
                        "\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\"}");
    assert_string_equal(jose_thumbprint(arena, k).p, "oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U");
    /* RFC 8555 8.1 */
    assert_string_equal(jose_key_authorization(arena, k, STR("evaGxfADs6pSRb2LAv9IZ")).p,
                        "evaGxfADs6pSRb2LAv9IZ.oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U");
    EVP_PKEY_free(k);
}

static json_t *object(struct str text)
{
    json_error_t e;
    json_t *j = json_loadb(text.p, text.n, JSON_REJECT_DUPLICATES, &e);
    if (!json_is_object(j))
        fail_msg("%.*s: %s", (int)text.n, text.p, e.text);
    return j;
}

/* The three parts of a flattened JWS; protected header parsed. */
struct parts {
    json_t *jws, *head;
    const char *protected, *payload;
    struct str signature, text; /* text: what was signed */
};

static struct parts take_apart(struct str jws)
{
    struct parts p = {.jws = object(jws)};
    const char *signature;
    assert_int_equal(json_unpack(p.jws, "{s:s,s:s,s:s!}", "protected", &p.protected, "payload",
                                 &p.payload, "signature", &signature),
                     0);
    p.head = object(unb64(p.protected));
    p.signature = unb64(signature);
    p.text = arena_fmt(arena, "%s.%s", p.protected, p.payload);
    return p;
}

static void parts_free(struct parts *p)
{
    json_decref(p->head);
    json_decref(p->jws);
}

static const char *head_text(const struct parts *p, const char *name)
{
    return json_string_value(json_object_get(p->head, name));
}

static bool verifies(EVP_PKEY *k, const struct parts *p)
{
    assert_int_equal(p->signature.n, 64);
    const unsigned char *raw = (const unsigned char *)p->signature.p;
    ECDSA_SIG *sig = ECDSA_SIG_new();
    unsigned char *der = NULL;
    ECDSA_SIG_set0(sig, BN_bin2bn(raw, 32, NULL), BN_bin2bn(raw + 32, 32, NULL));
    int n = i2d_ECDSA_SIG(sig, &der);
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    assert_int_equal(EVP_DigestVerifyInit(md, NULL, EVP_sha256(), NULL, k), 1);
    int rc = EVP_DigestVerify(md, der, (size_t)n, (const unsigned char *)p->text.p, p->text.n);
    EVP_MD_CTX_free(md);
    OPENSSL_free(der);
    ECDSA_SIG_free(sig);
    return rc == 1;
}

/* RFC 8555 6.2: alg, nonce, url, and one of jwk and kid. */
static void signed_by_jwk(void **state UNUSED)
{
    EVP_PKEY *k = known_key();
    struct jose_head h = {.url = "https://ca.test/new-acct", .nonce = "6S8IqOGY7eL2lsGoTZYifg"};
    struct parts p = take_apart(jose_sign(arena, k, &h, STR("{\"a\":1}")));
    assert_string_equal(unb64(p.payload).p, "{\"a\":1}");
    assert_int_equal(json_object_size(p.head), 4);
    assert_string_equal(head_text(&p, "alg"), "ES256");
    assert_string_equal(head_text(&p, "nonce"), "6S8IqOGY7eL2lsGoTZYifg");
    assert_string_equal(head_text(&p, "url"), "https://ca.test/new-acct");
    json_t *jwk = json_object_get(p.head, "jwk");
    assert_string_equal(json_string_value(json_object_get(jwk, "x")), key_x);
    assert_int_equal(json_object_size(jwk), 4); /* nothing of the private part */
    assert_true(verifies(k, &p));
    parts_free(&p);
    EVP_PKEY_free(k);
}

static void signed_by_kid(void **state UNUSED)
{
    EVP_PKEY *k = jose_key_new();
    struct jose_head h = {
        .url = "https://ca.test/a\"b", .nonce = "n", .kid = "https://ca.test/acct/1"};
    struct parts p = take_apart(jose_sign(arena, k, &h, STR("")));
    assert_string_equal(p.payload, ""); /* POST-as-GET */
    assert_string_equal(head_text(&p, "url"), "https://ca.test/a\"b");
    assert_string_equal(head_text(&p, "kid"), "https://ca.test/acct/1");
    assert_null(json_object_get(p.head, "jwk"));
    assert_true(verifies(k, &p));
    parts_free(&p);
    /* RFC 8555 7.3.5: the inner one of a key change has no nonce. */
    p = take_apart(jose_sign(arena, k, &(struct jose_head){.url = "https://ca.test/x"}, STR("{}")));
    assert_null(json_object_get(p.head, "nonce"));
    assert_int_equal(json_object_size(p.head), 3);
    parts_free(&p);
    EVP_PKEY_free(k);
}

/* A coordinate, r or s that begins with zeros keeps its length: one in 128 signatures is so. */
static void fixed_lengths(void **state UNUSED)
{
    for (int i = 0; i < 600; i++) {
        EVP_PKEY *k = jose_key_new();
        struct parts p =
            take_apart(jose_sign(arena, k, &(struct jose_head){.url = "https://x"}, STR("")));
        json_t *jwk = json_object_get(p.head, "jwk");
        assert_int_equal(json_string_length(json_object_get(jwk, "x")), 43);
        assert_int_equal(json_string_length(json_object_get(jwk, "y")), 43);
        assert_true(verifies(k, &p));
        parts_free(&p);
        EVP_PKEY_free(k);
        arena_reset(arena);
    }
}

/* RFC 8555 7.3.4 */
static void external_account(void **state UNUSED)
{
    EVP_PKEY *k = known_key();
    struct str hmac = unb64("zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W");
    struct parts p = take_apart(jose_eab(arena, k, "kid-1", hmac, "https://ca.test/new-acct"));
    assert_int_equal(json_object_size(p.head), 3);
    assert_string_equal(head_text(&p, "alg"), "HS256");
    assert_string_equal(head_text(&p, "kid"), "kid-1");
    assert_string_equal(head_text(&p, "url"), "https://ca.test/new-acct");
    assert_true(str_eq(unb64(p.payload), jose_jwk(arena, k)));
    unsigned char mac[32];
    unsigned n = sizeof mac;
    HMAC(EVP_sha256(), hmac.p, (int)hmac.n, (const unsigned char *)p.text.p, p.text.n, mac, &n);
    assert_true(str_eq(p.signature, (struct str){(char *)mac, n}));
    parts_free(&p);
    EVP_PKEY_free(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(base64url, set_up, tear_down),
        cmocka_unit_test_setup_teardown(thumbprint, set_up, tear_down),
        cmocka_unit_test_setup_teardown(signed_by_jwk, set_up, tear_down),
        cmocka_unit_test_setup_teardown(signed_by_kid, set_up, tear_down),
        cmocka_unit_test_setup_teardown(fixed_lengths, set_up, tear_down),
        cmocka_unit_test_setup_teardown(external_account, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
