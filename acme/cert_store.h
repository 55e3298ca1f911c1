/*
 * cert_store.h - certificates on disk: $state/certs/ISSUER/HOST/{cert.pem,key.pem,meta.json}, one
 * unit that is replaced whole. The agent alone writes there; which certificate is good is its
 * issuer's business (local_ca.c, later the ACME orders).
 */
#ifndef HG_CERT_STORE_H
#define HG_CERT_STORE_H

#include "base/arena.h"

struct cert_unit {
    struct str cert_pem; /* the host's own first */
    struct str key_pem;
    struct str meta; /* JSON */
};

/*
 * The functions return NULL, or a sentence in `a`. `host` as in the configuration; the folder of
 * "*.example.org" is "_.example.org", that of "*" is "_".
 */
/* *found false: there is none. The texts are in `a`. */
const char *cert_store_read(struct arena *a, const char *state, const char *issuer, struct str host,
                            struct cert_unit *out, bool *found) MUST_USE;
/* Aside, synced, then in place at once: a crash leaves the old unit or the new one. Files are 0600.
 */
const char *cert_store_write(struct arena *a, const char *state, const char *issuer,
                             struct str host, const struct cert_unit *unit) MUST_USE;

#endif
