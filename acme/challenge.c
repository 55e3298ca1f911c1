/*
 * challenge.c - what a CA wants to see as proof of a name (RFC 8555 8.3, 8.4; RFC 8737 3). Showing
 * it is the workers' and the hook's, choosing a way order.c's.
 */
#include "acme/challenge.h"

#include <openssl/err.h>
#include <openssl/sha.h>
#include <openssl/x509v3.h>

#include "acme/csr.h"
#include "acme/jose.h"
#include "acme/pem.h"

#define TOKEN_MAX   128 /* characters; RFC 8555 asks for 128 bits at least, which are 22 */
#define ALPN_BEFORE 3600
#define ALPN_AFTER  (7 * 86400) /* nobody waits for a validation that long */

const char *challenge_name(enum conf_challenge k)
{
    ASSERT(k < CONF_CHALLENGES);
    return conf_challenge_names[k];
}

bool challenge_parse(struct str name, enum conf_challenge *k)
{
    for (unsigned i = 0; i < CONF_CHALLENGES; i++)
        if (str_eq(name, str_of(conf_challenge_names[i]))) {
            *k = (enum conf_challenge)i;
            return true;
        }
    return false;
}

bool challenge_token_fine(struct str token)
{
    return token.n > 0 && token.n <= TOKEN_MAX && str_is_base64url(token);
}

static struct str digest_of(unsigned char sum[SHA256_DIGEST_LENGTH], struct str text)
{
    SHA256((const unsigned char *)text.p, text.n, sum);
    return (struct str){(const char *)sum, SHA256_DIGEST_LENGTH};
}

/* ---- tls-alpn-01 ---- */

/* RFC 8737 3: id-pe-acmeIdentifier, critical, the digest as an OCTET STRING inside. */
static void add_acme_identifier(X509 *x, struct str digest)
{
    unsigned char value[2 + SHA256_DIGEST_LENGTH] = {V_ASN1_OCTET_STRING, SHA256_DIGEST_LENGTH};
    ASN1_OBJECT *id = OBJ_txt2obj("1.3.6.1.5.5.7.1.31", 1);
    ASN1_OCTET_STRING *octets = ASN1_OCTET_STRING_new();
    memcpy(value + 2, digest.p, SHA256_DIGEST_LENGTH);
    ASSERT(id && octets && ASN1_OCTET_STRING_set(octets, value, sizeof(value)) == 1);
    X509_EXTENSION *e = X509_EXTENSION_create_by_OBJ(NULL, id, 1, octets);
    ASSERT(e && X509_add_ext(x, e, -1) == 1);
    X509_EXTENSION_free(e);
    ASN1_OCTET_STRING_free(octets);
    ASN1_OBJECT_free(id);
}

static struct str alpn_answer(struct arena *a, struct str host, struct str digest)
{
    X509 *x = X509_new();
    EVP_PKEY *key = EVP_EC_gen("P-256");
    ASSERT(x && key && X509_set_version(x, X509_VERSION_3) == 1 && X509_set_pubkey(x, key) == 1);
    ASSERT(ASN1_INTEGER_set(X509_get_serialNumber(x), 1) == 1);
    ASSERT(X509_gmtime_adj(X509_getm_notBefore(x), -ALPN_BEFORE));
    ASSERT(X509_gmtime_adj(X509_getm_notAfter(x), ALPN_AFTER));
    X509_NAME *cn = X509_get_subject_name(x);
    ASSERT(X509_NAME_add_entry_by_NID(cn, NID_commonName, MBSTRING_ASC,
                                      (const unsigned char *)"ACME challenge", -1, -1, 0) == 1);
    ASSERT(X509_set_issuer_name(x, cn) == 1);
    X509_EXTENSION *san = csr_san(host);
    ASSERT(X509_add_ext(x, san, -1) == 1);
    X509_EXTENSION_free(san);
    add_acme_identifier(x, digest);
    ASSERT(X509_sign(x, key, EVP_sha256()) > 0);
    struct str secret = pem_of_key(a, key), public = pem_of_cert(a, x);
    struct str out = arena_fmt(a, STR_FMT STR_FMT, STR_ARG(public), STR_ARG(secret));
    pem_wipe(secret);
    X509_free(x);
    EVP_PKEY_free(key);
    return out;
}

const char *challenge_make(struct arena *a, EVP_PKEY *account, struct challenge *c)
{
    unsigned char sum[SHA256_DIGEST_LENGTH];
    if (!challenge_token_fine(c->token))
        return "the CA's token is none: it must be 1 to 128 letters, digits, - and _";
    struct str proof = jose_key_authorization(a, account, c->token);
    switch (c->kind) {
    case CONF_HTTP_01:
        c->answer = proof;
        return NULL;
    case CONF_DNS_01:
        c->answer = jose_b64(a, digest_of(sum, proof));
        return NULL;
    case CONF_TLS_ALPN_01:
        c->answer = alpn_answer(a, c->host, digest_of(sum, proof));
        return NULL;
    case CONF_CHALLENGES:
        break;
    }
    base_die(__FILE__, __LINE__, "a challenge of no kind");
}
