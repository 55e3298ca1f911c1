/*
 * certs.h - certificates for unit tests, made as they are needed. Nothing here is tested, and
 * nothing of headgate's own certificate code is used.
 */
#ifndef HG_TEST_CERTS_H
#define HG_TEST_CERTS_H

#include <stdlib.h>

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "base/arena.h"

struct test_cert {
    X509 *x;
    EVP_PKEY *key;
    struct str pem, key_pem;
};

struct test_cert_how {
    const char *san;            /* "DNS:a.test,IP:::1"; NULL: none */
    const char *key;            /* "P-256" (default), "P-384", "RSA:2048", "ED25519" */
    const char *digest;         /* default SHA256 */
    const char *cn;             /* default "test" */
    const struct test_cert *by; /* issuer; NULL: self-signed */
    bool ca;
    long from, to;       /* seconds from now; both 0: an hour ago until tomorrow */
    EVP_PKEY *of;        /* whose public key it has; NULL: one is made */
    const char *serial;  /* NULL: the next of its own */
    const char *more[6]; /* further extensions: "keyUsage=critical,keyCertSign" */
};

UNUSED static struct str test_pem(struct arena *a, X509 *x, EVP_PKEY *key)
{
    BIO *b = BIO_new(BIO_s_mem());
    char *p;
    if (x)
        ASSERT(PEM_write_bio_X509(b, x) == 1);
    else
        ASSERT(PEM_write_bio_PKCS8PrivateKey(b, key, NULL, NULL, 0, NULL, NULL) == 1);
    long n = BIO_get_mem_data(b, &p);
    struct str out = arena_str(a, (struct str){p, (size_t)n});
    BIO_free(b);
    return out;
}

UNUSED static EVP_PKEY *test_key(const char *how)
{
    EVP_PKEY *k = NULL;
    if (!how)
        k = EVP_EC_gen("P-256");
    else if (strncmp(how, "RSA:", 4) == 0)
        k = EVP_RSA_gen((unsigned)strtoul(how + 4, NULL, 10));
    else if (strcmp(how, "ED25519") == 0)
        k = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    else
        k = EVP_EC_gen(how);
    ASSERT(k);
    return k;
}

UNUSED static void test_extension(X509 *x, X509 *by, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, by, x, NULL, NULL, 0);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    ASSERT(e && X509_add_ext(x, e, -1) == 1);
    X509_EXTENSION_free(e);
}

UNUSED static void test_more_extensions(X509 *x, X509 *by, const char *const more[6])
{
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, by, x, NULL, NULL, 0);
    for (unsigned i = 0; i < 6 && more[i]; i++) {
        char name[64];
        size_t n = strcspn(more[i], "=");
        ASSERT(n < sizeof(name));
        memcpy(name, more[i], n);
        name[n] = '\0';
        X509_EXTENSION *e = X509V3_EXT_conf(NULL, &ctx, name, more[i] + n + 1);
        ASSERT(e && X509_add_ext(x, e, -1) == 1);
        X509_EXTENSION_free(e);
    }
}

UNUSED static struct test_cert test_cert_make(struct arena *a, struct test_cert_how how)
{
    static long serial = 1;
    struct test_cert c = {.key = how.of ? how.of : test_key(how.key), .x = X509_new()};
    if (how.of)
        EVP_PKEY_up_ref(how.of);
    X509 *by = how.by ? how.by->x : c.x;
    bool dated = how.from || how.to;
    ASSERT(X509_set_version(c.x, X509_VERSION_3) == 1 && X509_set_pubkey(c.x, c.key) == 1);
    ASSERT(ASN1_INTEGER_set(X509_get_serialNumber(c.x), serial++) == 1);
    if (how.serial) {
        ASN1_INTEGER *own = s2i_ASN1_INTEGER(NULL, how.serial);
        ASSERT(own && X509_set_serialNumber(c.x, own) == 1);
        ASN1_INTEGER_free(own);
    }
    ASSERT(X509_gmtime_adj(X509_getm_notBefore(c.x), dated ? how.from : -3600));
    ASSERT(X509_gmtime_adj(X509_getm_notAfter(c.x), dated ? how.to : 86400));
    ASSERT(X509_NAME_add_entry_by_NID(X509_get_subject_name(c.x), NID_commonName, MBSTRING_UTF8,
                                      (const unsigned char *)(how.cn ? how.cn : "test"), -1, -1,
                                      0));
    ASSERT(X509_set_issuer_name(c.x, X509_get_subject_name(by)) == 1);
    test_extension(c.x, by, NID_basic_constraints,
                   how.ca ? "critical,CA:TRUE" : "critical,CA:FALSE");
    if (how.san)
        test_extension(c.x, by, NID_subject_alt_name, how.san);
    test_more_extensions(c.x, by, how.more);
    bool plain = how.key && strcmp(how.key, "ED25519") == 0 && !how.by;
    const EVP_MD *md = plain ? NULL : EVP_get_digestbyname(how.digest ? how.digest : "SHA256");
    ASSERT(X509_sign(c.x, how.by ? how.by->key : c.key, md) > 0);
    c.pem = test_pem(a, c.x, NULL);
    if (!how.of)
        c.key_pem = test_pem(a, NULL, c.key);
    return c;
}

UNUSED static void test_cert_free(struct test_cert *c)
{
    X509_free(c->x);
    EVP_PKEY_free(c->key);
}

#endif
