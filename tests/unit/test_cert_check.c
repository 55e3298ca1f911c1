/*
 * test_cert_check.c - every kind of bad chain is refused with its reason, and what is only written
 * oddly is not. The chains are data; what OpenSSL thinks of them is not asked here.
 */
#include "base/base.h"

#include <setjmp.h>

#include <cmocka.h>

#include "acme/cert_check.h"
#include "acme/pem.h"
#include "tests/unit/certs.h"

#define HOST "www.a.test"
#define DAY  86400L

static struct arena *arena;

static int set_up(void **state UNUSED)
{
    arena = arena_new(1 << 16);
    return 0;
}

static int tear_down(void **state UNUSED)
{
    arena_free(&arena);
    return 0;
}

/* ---- chains ---- */

struct three {
    struct test_cert root, inter, leaf, stranger; /* stranger: another intermediate of the root */
};

static const char *const ca_like[6] = {"keyUsage=critical,keyCertSign,cRLSign",
                                       "subjectKeyIdentifier=hash", "authorityKeyIdentifier=keyid"};
static const char *const leaf_like[6] = {
    "keyUsage=critical,digitalSignature", "extendedKeyUsage=serverAuth,clientAuth",
    "subjectKeyIdentifier=hash", "authorityKeyIdentifier=keyid"};

static struct test_cert make(struct test_cert_how how, const char *const more[6])
{
    if (!how.more[0])
        memcpy(how.more, more, sizeof(how.more));
    return test_cert_make(arena, how);
}

enum twist { STRAIGHT, SELF_SIGNED_LEAF, ISSUER_IS_NO_CA };

/* What is not said is as a good CA does it. */
static struct three three_make(struct test_cert_how root, struct test_cert_how inter,
                               struct test_cert_how leaf, enum twist twist)
{
    struct three t;
    root.cn = root.cn ? root.cn : "Root X1";
    root.ca = true;
    t.root = make(root, (const char *const[6]){ca_like[0], ca_like[1]});
    inter.cn = inter.cn ? inter.cn : "Intermediate R3";
    inter.by = &t.root;
    t.stranger = make((struct test_cert_how){.cn = inter.cn, .by = &t.root, .ca = true}, ca_like);
    inter.ca = twist != ISSUER_IS_NO_CA;
    t.inter = make(inter, ca_like);
    leaf.san = leaf.san ? leaf.san : "DNS:" HOST;
    leaf.san = *leaf.san ? leaf.san : NULL;
    leaf.by = twist == SELF_SIGNED_LEAF ? NULL : &t.inter;
    t.leaf = make(leaf, leaf_like);
    return t;
}

static struct three good_three(void)
{
    struct test_cert_how how = {0};
    return three_make(how, how, how, STRAIGHT);
}

static void three_free(struct three *t)
{
    test_cert_free(&t->root);
    test_cert_free(&t->inter);
    test_cert_free(&t->leaf);
    test_cert_free(&t->stranger);
}

static struct str join(struct str a, struct str b)
{
    return arena_fmt(arena, STR_FMT STR_FMT, STR_ARG(a), STR_ARG(b));
}

/* L: the leaf, I: its intermediate, R: the root, S: the stranger, K: the leaf's key. */
static struct str text_of(const struct three *t, const char *letters)
{
    struct str out = STR("");
    for (; *letters; letters++)
        switch (*letters) {
        case 'L':
            out = join(out, t->leaf.pem);
            break;
        case 'I':
            out = join(out, t->inter.pem);
            break;
        case 'R':
            out = join(out, t->root.pem);
            break;
        case 'S':
            out = join(out, t->stranger.pem);
            break;
        case 'K':
            out = join(out, t->leaf.key_pem);
            break;
        default:
            fail();
        }
    return out;
}

static const char *ask(const struct three *t, struct str pem, struct cert_facts *f)
{
    return cert_check(arena, pem, t->leaf.key_pem, STR(HOST), wall_s(), f);
}

/* `words` NULL: it is fine. */
static void expect(const char *what, const char *err, const char *words)
{
    if (words ? !err || !strstr(err, words) : err != NULL)
        fail_msg("%s: expected \"%s\", not \"%s\"", what, words ? words : "nothing",
                 err ? err : "nothing");
}

struct bad {
    const char *what;
    const char *chain; /* default "LI" */
    struct test_cert_how leaf, inter, root;
    enum twist twist;
    const char *words; /* NULL: it is fine */
};

static const struct bad bads[] = {
    {.what = "in order"},
    {.what = "with the root", .chain = "LIR"},
    {.what = "RSA", .leaf = {.key = "RSA:2048"}, .inter = {.key = "P-384"}},

    {.what = "nothing", .chain = "", .words = "there is no certificate"},
    {.what = "only a key", .chain = "K", .words = "a block that is none (PRIVATE KEY)"},
    {.what = "the key too", .chain = "LIK", .words = "a block that is none (PRIVATE KEY)"},
    {.what = "leaf only", .chain = "L", .words = "certificate (Intermediate R3) is missing"},
    {.what = "reversed", .chain = "IL", .words = "first certificate is that of a CA (Intermediate"},
    {.what = "no leaf", .chain = "IR", .words = "the host's own is missing"},
    {.what = "leaf twice", .chain = "LLI", .words = "what follows it is the chain's 2nd"},
    {.what = "gap",
     .chain = "LR",
     .words = "issued by \"Intermediate R3\", but what follows it is"},
    {.what = "intermediate twice", .chain = "LII", .words = "wrong order"},
    {.what = "root first", .chain = "LRI", .words = "wrong order"},
    {.what = "root twice", .chain = "LIRR", .words = "and yet another one follows"},
    {.what = "a stranger", .chain = "LIS", .words = "does not belong together"},
    {.what = "same name, other key", .chain = "LS", .words = "signature of the certificate is not"},
    {.what = "self-signed", .chain = "L", .twist = SELF_SIGNED_LEAF, .words = "trusts it"},

    {.what = "other host", .leaf = {.san = "DNS:www.b.test"}, .words = "is for www.b.test, where"},
    {.what = "case", .leaf = {.san = "DNS:WWW.a.test"}, .words = "WWW.a.test, where www.a.test"},
    {.what = "extra", .leaf = {.san = "DNS:" HOST ",DNS:b.test"}, .words = "is for b.test too"},
    {.what = "twice", .leaf = {.san = "DNS:" HOST ",DNS:" HOST}, .words = "its name twice"},
    {.what = "wildcard", .leaf = {.san = "DNS:*.a.test"}, .words = "is for *.a.test, where"},
    {.what = "address", .leaf = {.san = "IP:192.0.2.1"}, .words = "is for an IP address"},
    {.what = "address too", .leaf = {.san = "DNS:" HOST ",IP:::1"}, .words = "an IP address too"},
    {.what = "mail", .leaf = {.san = "email:" HOST}, .words = "is for www.a.test, where"},
    {.what = "no SAN", .leaf = {.san = "", .cn = HOST}, .words = "names no host"},

    {.what = "expired", .leaf = {.from = -2 * DAY, .to = -DAY}, .words = "certificate expired on"},
    {.what = "ends now", .leaf = {.from = -DAY, .to = 0}, .words = "the certificate expired on"},
    {.what = "soon", .leaf = {.from = 60, .to = DAY}, .words = "certificate is not valid before"},
    {.what = "old intermediate",
     .inter = {.from = -2 * DAY, .to = -DAY},
     .words = "2nd certificate (Intermediate R3) expired"},
    {.what = "old root",
     .chain = "LIR",
     .root = {.from = -2 * DAY, .to = -DAY},
     .words = "3rd certificate (Root X1) expired"},

    {.what = "leaf as issuer", .twist = ISSUER_IS_NO_CA, .words = "without being that of a CA"},
    {.what = "SHA-1", .leaf = {.digest = "SHA1"}, .words = "signed by ecdsa-with-SHA1"},
    {.what = "MD5", .inter = {.digest = "MD5"}, .root = {.key = "RSA:2048"}, .words = "by md5With"},
    {.what = "weak key", .leaf = {.key = "RSA:1024"}, .words = "has an RSA key of 1024 bits"},
    {.what = "weak CA", .inter = {.key = "RSA:1024"}, .words = "(Intermediate R3) has an RSA key"},
    {.what = "curve", .leaf = {.key = "P-521"}, .words = "only RSA, P-256 and P-384"},
    {.what = "Ed25519", .leaf = {.key = "ED25519"}, .words = "only RSA, P-256 and P-384"},
    {.what = "negative serial", .leaf = {.serial = "-1"}, .words = "a serial number"},
    {.what = "serial of nothing", .leaf = {.serial = "0"}, .words = "a serial number"},
    {.what = "long serial",
     .leaf = {.serial = "0x80112233445566778899aabbccddeeff00112233"},
     .words = "a serial number"},

    {.what = "client's",
     .leaf = {.more = {"extendedKeyUsage=clientAuth"}},
     .words = "none for a TLS server"},
    {.what = "no use",
     .leaf = {.more = {"subjectKeyIdentifier=hash"}},
     .words = "for a TLS server"},
    {.what = "must not sign",
     .leaf = {.more = {"extendedKeyUsage=serverAuth", "keyUsage=keyEncipherment"}},
     .words = "must not sign"},
    {.what = "must staple",
     .leaf = {.more = {leaf_like[0], leaf_like[1], "tlsfeature=status_request"}},
     .words = "demands OCSP stapling"},
    {.what = "precertificate",
     .leaf = {.more = {leaf_like[0], leaf_like[1], "1.3.6.1.4.1.11129.2.4.3=critical,DER:0500"}},
     .words = "a critical extension that clients do not know (CT Precertificate Poison)"},
    {.what = "unknown",
     .inter = {.more = {ca_like[0], ca_like[1], "1.2.3.4=critical,DER:0500"}},
     .words = "(Intermediate R3) has a critical extension that clients do not know (1.2.3.4)"},
    {.what = "extension twice",
     .leaf = {.more = {leaf_like[0], leaf_like[1], leaf_like[2], "subjectKeyIdentifier=00"}},
     .words = "an extension twice (X509v3 Subject Key Identifier)"},
    {.what = "unreadable",
     .leaf = {.more = {leaf_like[0], leaf_like[1], "2.5.29.30=DER:0500"}},
     .words = "an extension that cannot be read"},
    {.what = "must not sign certificates",
     .inter = {.more = {"keyUsage=critical,cRLSign", ca_like[1], ca_like[2]}},
     .words = "without being that of a CA that may"},
    {.what = "other issuer's identifier",
     .leaf = {.more = {leaf_like[0], leaf_like[1], "2.5.29.35=DER:300680040a0b0c0d"}},
     .words = "must not have signed the certificate: authority and subject key"},
    {.what = "no place for it",
     .inter = {.more = {ca_like[0], ca_like[1], "nameConstraints=critical,permitted;DNS:b.test"}},
     .words = "strict clients refuse the chain at the certificate: permitted subtree violation"},
    {.what = "not for servers",
     .inter = {.more = {ca_like[0], ca_like[1], "extendedKeyUsage=emailProtection"}},
     .words = "strict clients refuse the chain at the chain's 2nd"},
    {.what = "no identifier of the issuer",
     .leaf = {.more = {leaf_like[0], leaf_like[1]}},
     .words = "Missing Authority Key Identifier"},
};

static void test_chains(void **state UNUSED)
{
    for (unsigned i = 0; i < ARRAY_LEN(bads); i++) {
        const struct bad *b = &bads[i];
        struct cert_facts f = {0};
        struct three t = three_make(b->root, b->inter, b->leaf, b->twist);
        expect(b->what, ask(&t, text_of(&t, b->chain ? b->chain : "LI"), &f), b->words);
        assert_true(b->words ? f.pem.n == 0 : str_eq(f.pem, text_of(&t, "LI")));
        three_free(&t);
    }
}

/* ---- odd ways to write a good one ---- */

static struct str crlf(struct str s)
{
    struct str out = STR(""), line;
    while (str_split(&s, '\n', &line))
        out = arena_fmt(arena, STR_FMT STR_FMT "\r\n", STR_ARG(out), STR_ARG(line));
    return out;
}

static void test_odd_text(void **state UNUSED)
{
    struct three t = good_three();
    struct str li = text_of(&t, "LI");
    struct str odd[] = {
        crlf(li),
        str_sub(li, 0, li.n - 1),
        str_sub(crlf(li), 0, crlf(li).n - 2),
        arena_fmt(arena, "subject=CN = x\n\n%sissuer: y\r\n \t\n%s\n\nand that was it",
                  t.leaf.pem.p, t.inter.pem.p),
        arena_fmt(arena, "\n\n%s\n\n\n%s\n\n", t.leaf.pem.p, t.inter.pem.p),
        arena_fmt(arena, "%s%s-----\n", t.leaf.pem.p, t.inter.pem.p),
    };
    for (unsigned i = 0; i < ARRAY_LEN(odd); i++) {
        struct cert_facts f = {0};
        expect(odd[i].p, ask(&t, odd[i], &f), NULL);
        assert_true(str_eq(f.pem, li));
    }
    three_free(&t);
}

/* ---- damage ---- */

static struct str der_pem(const unsigned char *der, size_t n, const char *name)
{
    BIO *b = BIO_new(BIO_s_mem());
    char *p;
    assert_true(PEM_write_bio(b, name, "", der, (long)n) > 0);
    long got = BIO_get_mem_data(b, &p);
    struct str out = arena_str(arena, (struct str){p, (size_t)got});
    BIO_free(b);
    return out;
}

static void test_garbage(void **state UNUSED)
{
    struct three t = good_three();
    struct str li = text_of(&t, "LI"), leaf = t.leaf.pem, inter = t.inter.pem;
    struct cert_facts f;
    unsigned char *der = NULL;
    size_t n = (size_t)i2d_X509(t.leaf.x, &der);
    char *with_tail = arena_zalloc(arena, n + 1);
    memcpy(with_tail, der, n);
    OPENSSL_free(der);
    der = (unsigned char *)with_tail;

    expect("no PEM", ask(&t, STR("<html><h1>502</h1>"), &f), "no certificate in what the CA sent");
    expect("NULs", ask(&t, (struct str){arena_zalloc(arena, 999), 999}, &f), "no certificate");
    expect("cut", ask(&t, str_sub(li, 0, li.n - 40), &f),
           "number 2 of the chain is damaged: it is");
    expect("cut early", ask(&t, str_sub(li, 0, 99), &f), "number 1 of the chain is damaged: it is");
    expect("empty block",
           ask(&t, STR("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"), &f), "damaged");
    expect("bytes behind it", ask(&t, join(der_pem(der, n + 1, "CERTIFICATE"), inter), &f),
           "number 1 of the chain is damaged: it is no DER");
    expect("trusted", ask(&t, join(der_pem(der, n, "TRUSTED CERTIFICATE"), inter), &f),
           "a block that is none (TRUSTED CERTIFICATE)");
    der[n - 1] ^= 1;
    expect("broken signature", ask(&t, join(der_pem(der, n, "CERTIFICATE"), inter), &f),
           "signature of the certificate is not one by the chain's 2nd");
    der[n / 2] ^= 1;
    assert_non_null(ask(&t, join(der_pem(der, n, "CERTIFICATE"), inter), &f));

    struct str many = leaf;
    for (unsigned i = 0; i < 199; i++)
        many = join(many, inter);
    expect("200", ask(&t, many, &f),
           many.n > CERT_CHAIN_MAX ? "more than 128 KiB" : "more than 8 certificates");
    expect("9", ask(&t, text_of(&t, "LIIIIIIII"), &f), "more than 8 certificates");
    char *long_text = arena_alloc(arena, CERT_CHAIN_MAX + 1);
    memset(long_text, 'x', CERT_CHAIN_MAX + 1);
    expect("long", ask(&t, (struct str){long_text, CERT_CHAIN_MAX + 1}, &f), "more than 128 KiB");
    three_free(&t);
}

static void test_other_key(void **state UNUSED)
{
    struct three t = good_three();
    struct str li = text_of(&t, "LI");
    struct cert_facts f;
    expect("another", cert_check(arena, li, t.inter.key_pem, STR(HOST), wall_s(), &f),
           "for another key");
    expect("none", cert_check(arena, li, STR(""), STR(HOST), wall_s(), &f), "cannot be read");
    three_free(&t);
}

static void test_wildcard(void **state UNUSED)
{
    struct three t = three_make((struct test_cert_how){0}, (struct test_cert_how){0},
                                (struct test_cert_how){.san = "DNS:*.a.test"}, STRAIGHT);
    struct cert_facts f;
    struct str li = text_of(&t, "LI");
    expect("wildcard", cert_check(arena, li, t.leaf.key_pem, STR("*.a.test"), wall_s(), &f), NULL);
    three_free(&t);
}

/* ---- facts ---- */

static void test_facts(void **state UNUSED)
{
    /* The key identifier and serial of RFC 9773 4.1's example. */
    struct three t = three_make(
        (struct test_cert_how){.cn = "Top"},
        (struct test_cert_how){
            .cn = "Signer \x1b[31m",
            .from = -DAY,
            .to = 7200,
            .more = {ca_like[0],
                     "subjectKeyIdentifier="
                     "69:88:5B:6B:87:46:40:41:E1:B3:7B:84:7B:A0:AE:2C:DE:01:C8:D4",
                     ca_like[2]}},
        (struct test_cert_how){.serial = "0x8765432100", .from = -60, .to = DAY}, STRAIGHT);
    struct cert_facts f;
    expect("facts", ask(&t, text_of(&t, "LIR"), &f), NULL);
    int64_t now = wall_s();
    assert_in_range(now - f.not_before, 60, 3600);
    assert_int_equal(f.not_after - f.not_before, DAY + 60);
    assert_in_range(f.chain_until - f.not_before, 7260, 7262);
    assert_string_equal(f.issuer.p, "Signer ?[31m");
    assert_string_equal(f.top.p, "Top");
    assert_string_equal(f.ari_id.p, "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyEA");
    X509 *leaf = pem_cert(f.pem);
    unsigned char *der = NULL;
    int n = i2d_X509(leaf, &der);
    assert_true(str_eq(f.leaf_der, (struct str){(const char *)der, (size_t)n}));
    OPENSSL_free(der);
    X509_free(leaf);

    expect("without the root", ask(&t, text_of(&t, "LI"), &f), NULL);
    assert_string_equal(f.top.p, "Top");
    three_free(&t);
}

/* A root that signs leaves itself, sent along: complete, and known to be. */
static void test_signed_by_root(void **state UNUSED)
{
    struct test_cert root = make((struct test_cert_how){.cn = "Own root", .ca = true}, ca_like);
    struct test_cert leaf =
        make((struct test_cert_how){.san = "DNS:" HOST, .by = &root}, leaf_like);
    struct cert_facts f;
    expect("root as issuer",
           cert_check(arena, join(leaf.pem, root.pem), leaf.key_pem, STR(HOST), wall_s(), &f),
           NULL);
    assert_true(str_eq(f.pem, leaf.pem));
    assert_string_equal(f.top.p, "Own root");
    test_cert_free(&leaf);
    test_cert_free(&root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chains),         cmocka_unit_test(test_odd_text),
        cmocka_unit_test(test_garbage),        cmocka_unit_test(test_other_key),
        cmocka_unit_test(test_wildcard),       cmocka_unit_test(test_facts),
        cmocka_unit_test(test_signed_by_root),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
