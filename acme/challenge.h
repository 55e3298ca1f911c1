/*
 * challenge.h - the three ways to prove a name: what is to be shown, where (RFC 8555 8, RFC 8737).
 * Showing it is the workers' and the hook's. Pure.
 */
#ifndef HG_CHALLENGE_H
#define HG_CHALLENGE_H

#include <openssl/evp.h>

#include "base/arena.h"
#include "conf/conf.h"

const char *challenge_name(enum conf_challenge k); /* "tls-alpn-01" */
bool challenge_parse(struct str name, enum conf_challenge *k) MUST_USE;

struct challenge {
    enum conf_challenge kind;
    struct str host;  /* as ordered; of a wildcard without "*." */
    struct str token; /* RFC 8555 8: [A-Za-z0-9_-] only, 1 to 128 */
    /* tls-alpn-01: PEM of certificate and key. http-01: the key authorization. dns-01: the TXT
     * value. */
    struct str answer;
};
bool challenge_token_fine(struct str token);
/* Fills `answer`; strings in a. NULL or a sentence. */
const char *challenge_make(struct arena *a, EVP_PKEY *account, struct challenge *c) MUST_USE;

#endif
