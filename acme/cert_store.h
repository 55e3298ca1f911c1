/*
 * cert_store.h - certificates on disk: $state/certs/ISSUER/HOST/{cert.pem,key.pem,meta.json}, one
 * unit that is replaced whole. The agent alone writes there; which certificate is good is its
 * issuer's business (local_ca.c, issuer.c). Several headgates may share the folder: a lock says who
 * renews a host.
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
/* As if it had never been; none there is fine. */
const char *cert_store_remove(struct arena *a, const char *state, const char *issuer,
                              struct str host) MUST_USE;

/*
 * The right to renew the host, for this process: *lock is a descriptor then, kept until
 * cert_store_unlock or the process's end, whichever way it ends. -1 while another one has it:
 * *owner says who, for people ("pid 812 on gate2").
 */
const char *cert_store_lock(struct arena *a, const char *state, const char *issuer, struct str host,
                            int *lock, const char **owner) MUST_USE;
void cert_store_unlock(int *lock); /* fine on -1 */

/* The issuers' folders below $state/certs, in `a`; the number of them, 0 when there are none. */
unsigned cert_store_issuers(struct arena *a, const char *state, const char ***out);
/* What the host is called in paths: "_.example.org" of "*.example.org". NULL and *err: it is none.
 */
const char *cert_store_name(struct arena *a, struct str host, const char **err);

#endif
