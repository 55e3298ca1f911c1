/*
 * fuzz_cert_chain.c - a good chain with bytes changed, in its text or inside of a certificate, and
 * any bytes: what passes has the very leaf that was signed, and passes again as it was normalised.
 */
#include <stdlib.h>

#include "acme/cert_check.h"
#include "tests/unit/certs.h"

#define HOST STR("www.a.test")

struct good {
    struct arena *arena;
    struct str chain, key, leaf, inter; /* the last two in DER */
};

static struct str der_of(struct arena *a, X509 *x)
{
    unsigned char *der = NULL;
    int n = i2d_X509(x, &der);
    struct str out = arena_str(a, (struct str){(const char *)der, (size_t)n});
    OPENSSL_free(der);
    return out;
}

static const struct good *good_chain(void)
{
    static struct good g;
    if (g.arena)
        return &g;
    g.arena = arena_new(1 << 14);
    struct test_cert root = test_cert_make(
        g.arena, (struct test_cert_how){.cn = "Root", .ca = true, .to = 86400 * 365});
    struct test_cert inter =
        test_cert_make(g.arena, (struct test_cert_how){.cn = "Intermediate",
                                                       .ca = true,
                                                       .by = &root,
                                                       .to = 86400 * 365,
                                                       .more = {"keyUsage=critical,keyCertSign",
                                                                "subjectKeyIdentifier=hash"}});
    struct test_cert leaf =
        test_cert_make(g.arena, (struct test_cert_how){.san = "DNS:www.a.test",
                                                       .by = &inter,
                                                       .to = 86400 * 365,
                                                       .more = {"extendedKeyUsage=serverAuth",
                                                                "authorityKeyIdentifier=keyid"}});
    g.chain = arena_fmt(g.arena, "%s%s", leaf.pem.p, inter.pem.p);
    g.key = leaf.key_pem;
    g.leaf = der_of(g.arena, leaf.x);
    g.inter = der_of(g.arena, inter.x);
    test_cert_free(&leaf);
    test_cert_free(&inter);
    test_cert_free(&root);
    return &g;
}

static void check(struct arena *a, struct str text)
{
    const struct good *g = good_chain();
    struct cert_facts f, again;
    if (cert_check(a, text, g->key, HOST, wall_s(), &f))
        return;
    /* Who changed the leaf cannot have signed it; how the root signed nobody can see here. */
    ASSERT(str_eq(f.leaf_der, g->leaf));
    ASSERT(!cert_check(a, f.pem, g->key, HOST, wall_s(), &again) && str_eq(f.pem, again.pem));
}

/* Three bytes each: where (two of them), and what is to be changed there. */
static struct str changed(struct arena *a, struct str good, const uint8_t *data, size_t n)
{
    struct str copy = arena_str(a, good);
    for (size_t i = 0; i + 2 < n; i += 3) {
        size_t at = ((size_t)data[i] << 8 | data[i + 1]) % good.n;
        ((char *)(uintptr_t)copy.p)[at] ^= (char)data[i + 2];
    }
    return copy;
}

static struct str pem_of_der(struct arena *a, struct str der)
{
    BIO *b = BIO_new(BIO_s_mem());
    char *p;
    ASSERT(PEM_write_bio(b, "CERTIFICATE", "", (const unsigned char *)der.p, (long)der.n) > 0);
    long got = BIO_get_mem_data(b, &p);
    struct str out = arena_str(a, (struct str){p, (size_t)got});
    BIO_free(b);
    return out;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const struct good *g = good_chain();
    struct arena *a = arena_new(1 << 14);
    const uint8_t how = n ? data[0] % 4 : 0;
    if (n) {
        data++;
        n--;
    }
    struct str leaf = g->leaf, inter = g->inter;
    if (how == 2)
        leaf = changed(a, leaf, data, n);
    if (how == 3)
        inter = changed(a, inter, data, n);
    if (how == 0)
        check(a, (struct str){(const char *)data, n});
    else if (how == 1)
        check(a, changed(a, g->chain, data, n));
    else
        check(a, arena_fmt(a, "%s%s", pem_of_der(a, leaf).p, pem_of_der(a, inter).p));
    arena_free(&a);
    return 0;
}
