/*
 * jose.c - base64url, keys as JSON, and signatures as ACME wants them. No state, no network, no
 * nonces; where keys lie on disk is ca_account.c's.
 */
#include "acme/jose.h"

#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>

#define COORDINATE 32 /* bytes of one of P-256's */

/* ---- base64url ---- */

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

struct str jose_b64(struct arena *a, struct str bytes)
{
    char *p = arena_alloc(a, bytes.n / 3 * 4 + 5);
    size_t n = 0;
    for (size_t i = 0; i < bytes.n; i += 3) {
        size_t have = MIN(bytes.n - i, (size_t)3);
        uint32_t v = 0;
        for (size_t k = 0; k < 3; k++)
            v = v << 8 | (k < have ? (unsigned char)bytes.p[i + k] : 0);
        for (size_t k = 0; k <= have; k++)
            p[n++] = alphabet[v >> (18 - 6 * k) & 63];
    }
    p[n] = '\0';
    return (struct str){p, n};
}

bool jose_unb64(struct arena *a, struct str text, struct str *out)
{
    char *p = arena_alloc(a, text.n / 4 * 3 + 4);
    size_t n = 0;
    uint32_t v = 0;
    unsigned bits = 0;
    for (size_t i = 0; i < text.n; i++) {
        const char *at = text.p[i] ? strchr(alphabet, text.p[i]) : NULL;
        if (!at)
            return false;
        v = (v << 6 | (uint32_t)(at - alphabet)) & 0xffff;
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            p[n++] = (char)(v >> bits & 0xff);
        }
    }
    /* A lone last character stands for no byte; bits that stand for none are zero. */
    if (bits == 6 || (v & ((1u << bits) - 1)))
        return false;
    p[n] = '\0';
    *out = (struct str){p, n};
    return true;
}

/* ---- keys ---- */

EVP_PKEY *jose_key_new(void)
{
    EVP_PKEY *k = EVP_EC_gen("P-256");
    ASSERT(k);
    return k;
}

static struct str coordinate(struct arena *a, EVP_PKEY *key, const char *name)
{
    unsigned char raw[COORDINATE];
    BIGNUM *n = NULL;
    ASSERT(EVP_PKEY_get_bn_param(key, name, &n) == 1);
    ASSERT(BN_bn2binpad(n, raw, sizeof raw) == (int)sizeof raw);
    BN_free(n);
    return jose_b64(a, (struct str){(char *)raw, sizeof raw});
}

struct str jose_jwk(struct arena *a, EVP_PKEY *key)
{
    struct str x = coordinate(a, key, OSSL_PKEY_PARAM_EC_PUB_X);
    struct str y = coordinate(a, key, OSSL_PKEY_PARAM_EC_PUB_Y);
    return arena_fmt(a, "{\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":\"%s\",\"y\":\"%s\"}", x.p, y.p);
}

struct str jose_thumbprint(struct arena *a, EVP_PKEY *key)
{
    unsigned char digest[SHA256_DIGEST_LENGTH];
    struct str jwk = jose_jwk(a, key);
    SHA256((const unsigned char *)jwk.p, jwk.n, digest);
    return jose_b64(a, (struct str){(char *)digest, sizeof digest});
}

struct str jose_key_authorization(struct arena *a, EVP_PKEY *key, struct str token)
{
    return arena_fmt(a, STR_FMT ".%s", STR_ARG(token), jose_thumbprint(a, key).p);
}

/* ---- signatures ---- */

/* RFC 7518 3.4: r and s one behind the other, of fixed length; OpenSSL gives DER. */
static struct str sign_es256(struct arena *a, EVP_PKEY *key, struct str text)
{
    unsigned char der[128], raw[2 * COORDINATE];
    size_t n = sizeof der;
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    ASSERT(md && EVP_DigestSignInit(md, NULL, EVP_sha256(), NULL, key) == 1);
    ASSERT(EVP_DigestSign(md, der, &n, (const unsigned char *)text.p, text.n) == 1);
    EVP_MD_CTX_free(md);
    const unsigned char *at = der;
    ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &at, (long)n);
    ASSERT(sig);
    ASSERT(BN_bn2binpad(ECDSA_SIG_get0_r(sig), raw, COORDINATE) == COORDINATE);
    ASSERT(BN_bn2binpad(ECDSA_SIG_get0_s(sig), raw + COORDINATE, COORDINATE) == COORDINATE);
    ECDSA_SIG_free(sig);
    return jose_b64(a, (struct str){(char *)raw, sizeof raw});
}

static struct str sign_hs256(struct arena *a, struct str hmac, struct str text)
{
    unsigned char mac[SHA256_DIGEST_LENGTH];
    unsigned n = sizeof mac;
    ASSERT(HMAC(EVP_sha256(), hmac.p, (int)hmac.n, (const unsigned char *)text.p, text.n, mac, &n));
    return jose_b64(a, (struct str){(char *)mac, n});
}

static void out_member(struct out *o, const char *name, const char *value)
{
    if (!value)
        return;
    if (o->n > 1)
        out_char(o, ',');
    out_json(o, str_of(name));
    out_char(o, ':');
    out_json(o, str_of(value));
}

/* The protected header; `jwk` empty: the key is named by `kid`. */
static struct str head_of(struct arena *a, const char *alg, const struct jose_head *h,
                          struct str jwk)
{
    /* A byte becomes six at most. */
    size_t cap =
        128 + jwk.n +
        6 * (strlen(h->url) + (h->nonce ? strlen(h->nonce) : 0) + (h->kid ? strlen(h->kid) : 0));
    struct out o = out_on(arena_alloc(a, cap), cap);
    out_char(&o, '{');
    out_member(&o, "alg", alg);
    if (jwk.n) {
        out_lit(&o, ",\"jwk\":");
        out_str(&o, jwk);
    }
    out_member(&o, "kid", h->kid);
    out_member(&o, "nonce", h->nonce);
    out_member(&o, "url", h->url);
    out_char(&o, '}');
    ASSERT(!o.over);
    return out_done(&o);
}

/* RFC 7515 7.2.2; one of the two keys signs. */
static struct str flattened(struct arena *a, struct str head, struct str payload, EVP_PKEY *key,
                            struct str hmac)
{
    struct str h = jose_b64(a, head), p = jose_b64(a, payload);
    struct str text = arena_fmt(a, STR_FMT "." STR_FMT, STR_ARG(h), STR_ARG(p));
    struct str sig = key ? sign_es256(a, key, text) : sign_hs256(a, hmac, text);
    return arena_fmt(a, "{\"protected\":\"%s\",\"payload\":\"%s\",\"signature\":\"%s\"}", h.p, p.p,
                     sig.p);
}

struct str jose_sign(struct arena *a, EVP_PKEY *key, const struct jose_head *h, struct str payload)
{
    struct str head = head_of(a, "ES256", h, h->kid ? STR_NULL : jose_jwk(a, key));
    return flattened(a, head, payload, key, STR_NULL);
}

struct str jose_eab(struct arena *a, EVP_PKEY *account, const char *kid, struct str hmac,
                    const char *url)
{
    struct jose_head h = {.url = url, .kid = kid};
    return flattened(a, head_of(a, "HS256", &h, STR_NULL), jose_jwk(a, account), NULL, hmac);
}
