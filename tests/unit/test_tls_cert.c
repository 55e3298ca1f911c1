/*
 * test_tls_cert.c - reading certificates: what is refused and in which words, which hosts a
 * certificate covers, one object for each digest.
 */
#include "base/base.h"

#include <setjmp.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proxy/tls_parts.h"
#include "tests/unit/certs.h"

static struct arena *arena;

static int set_up(void **state UNUSED)
{
    arena = arena_new(4096);
    return 0;
}

static int tear_down(void **state UNUSED)
{
    arena_free(&arena);
    return 0;
}

static struct str join(struct str a, struct str b)
{
    return arena_fmt(arena, STR_FMT STR_FMT, STR_ARG(a), STR_ARG(b));
}

static void refused(struct str chain, struct str key, const char *part)
{
    const char *err = NULL;
    if (tls_cert_parse(chain, key, &err))
        fail_msg("accepted, instead of \"%s\"", part);
    assert_non_null(err);
    if (!strstr(err, part))
        fail_msg("\"%s\" does not say \"%s\"", err, part);
}

static void good_forms(void **state UNUSED)
{
    static const char *const keys[] = {NULL, "P-384", "RSA:2048", "ED25519"};
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        struct test_cert c =
            test_cert_make(arena, (struct test_cert_how){.san = "DNS:a.test", .key = keys[i]});
        const char *err;
        struct tls_cert *two = tls_cert_parse(c.pem, c.key_pem, &err);
        assert_non_null(two);
        /* One text, either order; the same object, since the digest is the same. */
        struct tls_cert *one = tls_cert_parse(join(c.pem, c.key_pem), STR_NULL, &err);
        struct tls_cert *turned = tls_cert_parse(join(c.key_pem, c.pem), STR_NULL, &err);
        assert_ptr_equal(one, two);
        assert_ptr_equal(turned, two);
        uint8_t digest[32];
        assert_int_equal(X509_digest(c.x, EVP_sha256(), digest, NULL), 1);
        assert_memory_equal(digest, tls_cert_digest(two), 32);
        tls_cert_unref(&one);
        tls_cert_unref(&turned);
        tls_cert_unref(&two);
        assert_null(two);
        test_cert_free(&c);
    }
}

static void chains(void **state UNUSED)
{
    struct test_cert ca = test_cert_make(arena, (struct test_cert_how){.ca = true, .cn = "ca"});
    struct test_cert c =
        test_cert_make(arena, (struct test_cert_how){.san = "DNS:a.test", .by = &ca});
    const char *err;
    struct tls_cert *with = tls_cert_parse(join(c.pem, ca.pem), c.key_pem, &err);
    struct tls_cert *without = tls_cert_parse(c.pem, c.key_pem, &err);
    assert_non_null(with);
    assert_non_null(without);
    assert_ptr_not_equal(with, without); /* what is sent differs */
    assert_int_equal(sk_X509_num(with->chain), 1);
    assert_null(without->chain);
    tls_cert_unref(&with);
    struct tls_cert *again = tls_cert_parse(c.pem, c.key_pem, &err);
    assert_ptr_equal(again, without);
    tls_cert_unref(&again);
    tls_cert_unref(&without);
    refused(join(ca.pem, c.pem), c.key_pem, "wrong order");
    struct str many = c.pem;
    for (int i = 0; i < 17; i++)
        many = join(many, ca.pem);
    refused(many, c.key_pem, "more than 16");
    test_cert_free(&c);
    test_cert_free(&ca);
}

static struct str locked_key(EVP_PKEY *key)
{
    BIO *b = BIO_new(BIO_s_mem());
    char word[] = "secret", *p;
    assert_int_equal(PEM_write_bio_PKCS8PrivateKey(b, key, EVP_aes_256_cbc(), word, 6, NULL, NULL),
                     1);
    long n = BIO_get_mem_data(b, &p);
    struct str out = arena_str(arena, (struct str){p, (size_t)n});
    BIO_free(b);
    return out;
}

/* The text with one line of its base64 spoilt. */
static struct str spoilt(struct str pem)
{
    struct str out = arena_str(arena, pem);
    char *p = (char *)(uintptr_t)out.p;
    memset(p + str_chr(pem, '\n') + 1, '!', 20);
    return out;
}

static void wrong_input(void **state UNUSED)
{
    struct test_cert c = test_cert_make(arena, (struct test_cert_how){.san = "DNS:a.test"});
    struct test_cert other = test_cert_make(arena, (struct test_cert_how){.san = "DNS:a.test"});
    refused(STR(""), STR(""), "no certificate in the file");
    refused(STR("hello\n"), c.key_pem, "no certificate in the file");
    refused(c.key_pem, c.key_pem, "no certificate in the file");
    refused(spoilt(c.pem), c.key_pem, "certificate in the file is damaged");
    refused(join(c.pem, spoilt(c.pem)), c.key_pem, "certificate in the file is damaged");
    refused(c.pem, STR("hello\n"), "no private key in the file");
    refused(c.pem, STR_NULL, "no private key in the file");
    refused(c.pem, spoilt(c.key_pem), "private key is damaged");
    refused(c.pem, other.key_pem, "does not belong");
    refused(c.pem, locked_key(c.key), "passphrase");
    refused((struct str){arena_zalloc(arena, 2 << 20), 2 << 20}, c.key_pem, "larger than 1 MiB");
    test_cert_free(&other);
    test_cert_free(&c);
}

static void weak_input(void **state UNUSED)
{
    struct test_cert ca = test_cert_make(arena, (struct test_cert_how){.ca = true, .cn = "ca"});
    const struct {
        struct test_cert_how how;
        const char *part;
    } cases[] = {
        {{.san = NULL}, "names no host"},
        {{.san = "email:a@a.test"}, "names no host"},
        {{.san = "DNS:a.test", .key = "RSA:1024"}, "too weak (1024 bits)"},
        {{.san = "DNS:a.test", .digest = "SHA1", .by = &ca}, "broken hash"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct test_cert c = test_cert_make(arena, cases[i].how);
        refused(c.pem, c.key_pem, cases[i].part);
        test_cert_free(&c);
    }
    test_cert_free(&ca);
}

static void coverage(void **state UNUSED)
{
    struct test_cert c = test_cert_make(
        arena,
        (struct test_cert_how){.san = "DNS:A.test,DNS:*.w.test,DNS:x*.p.test,IP:127.0.0.1,IP:::1"});
    const char *err;
    struct tls_cert *t = tls_cert_parse(c.pem, c.key_pem, &err);
    assert_non_null(t);
    static const struct {
        const char *host;
        bool covered;
    } cases[] = {
        {"a.test", true},     {"A.TEST", true},      {"a.test.", true},      {"b.test", false},
        {"w.test", false},    {"b.w.test", true},    {"B.W.test", true},     {"a.b.w.test", false},
        {".w.test", false},   {"*.w.test", true},    {"127.0.0.1", true},    {"127.0.0.2", false},
        {"::1", true},        {"[::1]", true},       {"[0:0::0:1]", true},   {"::2", false},
        {"xa.p.test", false}, {"", false},           {"a.test/", false},     {"a..test", false},
        {"1.0.0.127", false}, {"test", false},       {"a.test..", false},    {"*.a.test", false},
        {"*.W.test", true},   {"*.b.w.test", false}, {"*.127.0.0.1", false}, {"*.", false},
        {"*", false},         {"[a.test", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        if (tls_cert_covers(t, str_of(cases[i].host)) != cases[i].covered)
            fail_msg("\"%s\" should %sbe covered", cases[i].host, cases[i].covered ? "" : "not ");
    tls_cert_unref(&t);
    test_cert_free(&c);
}

static void canonical_hosts(void **state UNUSED)
{
    char mem[TLS_HOST_MAX + 1], label[80], most[300];
    struct str out;
    memset(label, 'a', sizeof label);
    memset(most, 'a', sizeof most);
    for (size_t i = 63; i < sizeof most; i += 64)
        most[i] = '.';
    assert_int_equal(tls_host_canonical(STR("WWW.Example.ORG."), mem, &out), TLS_HOST_DNS);
    assert_true(str_eq(out, STR("www.example.org")));
    assert_int_equal(mem[out.n], 0);
    assert_int_equal(tls_host_canonical((struct str){label, 63}, mem, &out), TLS_HOST_DNS);
    assert_int_equal(tls_host_canonical((struct str){label, 64}, mem, &out), TLS_HOST_BAD);
    assert_int_equal(tls_host_canonical((struct str){most, 253}, mem, &out), TLS_HOST_DNS);
    assert_int_equal(tls_host_canonical((struct str){most, 254}, mem, &out), TLS_HOST_BAD);
    assert_int_equal(tls_host_canonical((struct str){most, 290}, mem, &out), TLS_HOST_BAD);
    assert_int_equal(tls_host_canonical(STR("a\0b"), mem, &out), TLS_HOST_BAD);
    assert_int_equal(tls_host_canonical(STR("*"), mem, &out), TLS_HOST_BAD);
    assert_int_equal(tls_host_canonical(STR("."), mem, &out), TLS_HOST_BAD);
    assert_int_equal(tls_host_canonical(STR("[2001:DB8::0:1]"), mem, &out), TLS_HOST_IP);
    assert_true(str_eq(out, STR("2001:db8::1")));
}

/* Many keys go in and out in every order; what is left is found, what is gone is not. */
static void map(void **state UNUSED)
{
    enum { N = 500 };
    static char keys[N][8];
    struct tls_map m = {0};
    assert_null(tls_map_get(&m, STR("x")));
    tls_map_del(&m, STR("x"));
    for (int i = 0; i < N; i++) {
        struct out o = out_on(keys[i], sizeof keys[i] - 1);
        out_u64(&o, (uint64_t)i);
        assert_null(tls_map_put(&m, str_of(keys[i]), keys[i]));
    }
    assert_ptr_equal(tls_map_put(&m, str_of(keys[7]), keys[7]), keys[7]);
    for (int i = 0; i < N; i++)
        if ((i * 7919) % 3)
            tls_map_del(&m, str_of(keys[i]));
    for (int i = 0; i < N; i++)
        assert_ptr_equal(tls_map_get(&m, str_of(keys[i])), (i * 7919) % 3 ? NULL : keys[i]);
    tls_map_fini(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(good_forms, set_up, tear_down),
        cmocka_unit_test_setup_teardown(chains, set_up, tear_down),
        cmocka_unit_test_setup_teardown(wrong_input, set_up, tear_down),
        cmocka_unit_test_setup_teardown(weak_input, set_up, tear_down),
        cmocka_unit_test_setup_teardown(coverage, set_up, tear_down),
        cmocka_unit_test_setup_teardown(canonical_hosts, set_up, tear_down),
        cmocka_unit_test(map),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
