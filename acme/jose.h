/*
 * jose.h - what ACME signs with: account keys, JWK and its thumbprint (RFC 7638), flattened JWS
 * (RFC 7515, 8555 6.2) by ES256, the external account's HS256. Pure; keys are OpenSSL's.
 */
#ifndef HG_JOSE_H
#define HG_JOSE_H

#include <openssl/evp.h>

#include "base/arena.h"

/* base64url without padding (RFC 7515 2), in a. */
struct str jose_b64(struct arena *a, struct str bytes);
/* False: it is none (padding included). */
bool jose_unb64(struct arena *a, struct str text, struct str *out) MUST_USE;

EVP_PKEY *jose_key_new(void);                               /* P-256 */
struct str jose_jwk(struct arena *a, EVP_PKEY *key);        /* members in the order of RFC 7638 3 */
struct str jose_thumbprint(struct arena *a, EVP_PKEY *key); /* base64url */
/* RFC 8555 8.1: TOKEN.THUMBPRINT */
struct str jose_key_authorization(struct arena *a, EVP_PKEY *key, struct str token);

struct jose_head {
    const char *url;
    const char *nonce; /* NULL: none (the inner JWS of a key change or an EAB) */
    const char *kid;   /* NULL: the key itself, as jwk */
};
/* `payload` empty: POST-as-GET. The whole body, JSON, in a. */
struct str jose_sign(struct arena *a, EVP_PKEY *key, const struct jose_head *h, struct str payload);
/* RFC 8555 7.3.4; `hmac` as bytes. */
struct str jose_eab(struct arena *a, EVP_PKEY *account, const char *kid, struct str hmac,
                    const char *url);

#endif
