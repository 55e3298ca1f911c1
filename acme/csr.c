/*
 * csr.c - keys for certificates, and the request for one (RFC 2986). What is done with what comes
 * back is order.c's.
 */
#include "acme/csr.h"

#include <openssl/ec.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

EVP_PKEY *csr_key_new(enum conf_acme_key kind)
{
    EVP_PKEY *k = NULL;
    switch (kind) {
    case CONF_KEY_P256:
        k = EVP_EC_gen("P-256");
        break;
    case CONF_KEY_P384:
        k = EVP_EC_gen("P-384");
        break;
    case CONF_KEY_RSA2048:
        k = EVP_RSA_gen(2048);
        break;
    }
    ASSERT(k);
    return k;
}

/* Put together by parts: the text form would take commas and colons of a name for its own. */
X509_EXTENSION *csr_san(struct str host)
{
    GENERAL_NAMES *all = GENERAL_NAMES_new();
    GENERAL_NAME *name = GENERAL_NAME_new();
    ASN1_IA5STRING *text = ASN1_IA5STRING_new();
    ASSERT(all && name && text && host.n <= INT32_MAX);
    ASSERT(ASN1_STRING_set(text, host.p, (int)host.n) == 1);
    GENERAL_NAME_set0_value(name, GEN_DNS, text);
    ASSERT(sk_GENERAL_NAME_push(all, name) > 0);
    X509_EXTENSION *e = X509V3_EXT_i2d(NID_subject_alt_name, 0, all);
    ASSERT(e);
    GENERAL_NAMES_free(all);
    return e;
}

struct str csr_make(struct arena *a, EVP_PKEY *key, struct str host)
{
    unsigned char *der = NULL;
    X509_REQ *r = X509_REQ_new();
    STACK_OF(X509_EXTENSION) *all = sk_X509_EXTENSION_new_null();
    ASSERT(r && all && sk_X509_EXTENSION_push(all, csr_san(host)) > 0);
    ASSERT(X509_REQ_set_version(r, X509_REQ_VERSION_1) == 1 && X509_REQ_set_pubkey(r, key) == 1);
    ASSERT(X509_REQ_add_extensions(r, all) == 1);
    ASSERT(X509_REQ_sign(r, key, EVP_sha256()) > 0);
    int n = i2d_X509_REQ(r, &der);
    ASSERT(n > 0);
    struct str out = arena_str(a, (struct str){(const char *)der, (size_t)n});
    OPENSSL_free(der);
    sk_X509_EXTENSION_pop_free(all, X509_EXTENSION_free);
    X509_REQ_free(r);
    return out;
}
