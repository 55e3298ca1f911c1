/*
 * ca.h - one ACME CA: its directory, nonces, our account there, and signed requests (RFC 8555
 * 6, 7.1, 7.3). A call waits by itself until directory and account are there, tries badNonce again
 * with the error's nonce, makes the account anew when the CA lost it (once a call), and keeps to
 * the CA's pauses: while there is one, each call fails at once as ACME_BUSY with retry_at. What an
 * order is, is order.c's.
 *
 * A pause is what Retry-After says (at most a day), else 1 min doubled to 1 h, after 503, another
 * 5xx or a 429 that is no rateLimited; a rateLimited is ACME_LIMITED and the caller's to wait for,
 * unless it stands before the account itself.
 *
 * Bounds: bodies 256 KiB, JSON 16 deep, an exchange 60 s, 100 tries with another nonce, 8 nonces
 * kept, URLs https and of the directory's origin; anything else from the CA is ACME_BROKEN.
 */
#ifndef HG_CA_H
#define HG_CA_H

#include <jansson.h>
#include <openssl/evp.h>

#include "acme/fail.h"
#include "base/arena.h"

struct ca;
struct ca_call;

/* Copied. */
struct ca_spec {
    struct str name; /* folder under certs/ and acme/: "letsencrypt", "localhost-14000-dir" */
    struct str directory;
    struct str root_pem;          /* whom its HTTPS must chain to; empty: the system's CAs */
    struct str email;             /* "" fine */
    struct str eab_kid, eab_hmac; /* both empty: none; hmac in base64url */
    const char *state;            /* $state: acme/NAME/account.{json,key} lie below */
};

/* Account key and folder are made at the first call. Never NULL. */
struct ca *ca_open(const struct ca_spec *spec);
void ca_close(struct ca **ca);                /* calls under way are dropped without a word */
struct str ca_directory(const struct ca *ca); /* its URL */

/* URLs of the directory; "" until it was read, or when the CA has none. */
enum ca_resource {
    CA_NEW_NONCE,
    CA_NEW_ACCOUNT,
    CA_NEW_ORDER,
    CA_REVOKE,
    CA_KEY_CHANGE,
    CA_RENEWAL_INFO, /* RFC 9773 */
    CA_RESOURCES
};
const char *ca_url(const struct ca *ca, enum ca_resource r);
/* Does the CA say that it has this profile? True when it says nothing of profiles at all. */
bool ca_has_profile(const struct ca *ca, struct str profile);
EVP_PKEY *ca_account_key(const struct ca *ca);   /* borrowed; NULL before the first call */
const char *ca_account_url(const struct ca *ca); /* "" : none yet */
int64_t ca_paused_until(const struct ca *ca);    /* wall clock s; 0: it is not */
const struct acme_fail *ca_problem(
    const struct ca *ca); /* the last of the CA as a whole; or NULL */
/* Is a URL one that we go to: https, of the directory's origin, no user, no fragment, ≤ 2,048
 * bytes. */
bool ca_url_fine(const struct ca *ca, struct str url);

/* Borrowed by the callback. */
struct ca_answer {
    const struct acme_fail *fail; /* NULL: 2xx */
    unsigned status;
    json_t *json;             /* an object, or NULL when the body is none */
    struct str body;          /* PEM */
    struct str location;      /* checked like every URL; empty: none */
    struct str alternates[8]; /* Link rel=alternate, checked */
    unsigned n_alternates;
    int64_t retry_at; /* Retry-After of a 2xx; 0: none */
};
typedef void ca_done(void *ctx, const struct ca_answer *a);

/*
 * Where to: a URL from the CA, or (url NULL) one of its directory, looked up once it is there.
 * `payload` is stolen; NULL: POST-as-GET. `step`: a constant, for messages. `done` is called
 * later, never before ca_post returned.
 */
struct ca_call *ca_post(struct ca *ca, enum ca_resource r, const char *url, json_t *payload,
                        const char *step, ca_done *done, void *ctx);
/* Unsigned (RFC 9773 4.1). `suffix` is put behind the resource's URL with a slash. A server that
 * is too busy for these is not paused: orders do not depend on them. */
struct ca_call *ca_get(struct ca *ca, enum ca_resource r, const char *suffix, const char *step,
                       ca_done *done, void *ctx);
void ca_call_cancel(struct ca_call **c); /* fine on NULL */

/* RFC 8555 7.3.5: a new account key; stored before the CA is told, in use once it agreed. */
struct ca_call *ca_roll_key(struct ca *ca, ca_done *done, void *ctx);
/*
 * RFC 8555 7.6, signed by the account; `reason`: RFC 5280 5.3.1. alreadyRevoked is fine.
 */
struct ca_call *ca_revoke(struct ca *ca, struct str leaf_der, unsigned reason, ca_done *done,
                          void *ctx);

#endif
