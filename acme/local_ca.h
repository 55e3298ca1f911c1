/*
 * local_ca.h - the local certificate authority (tls.issuer: local): a root under $state/ca made
 * once, and short-lived leaves for the hosts that need one, renewed by themselves. Runs in the
 * agent.
 */
#ifndef HG_LOCAL_CA_H
#define HG_LOCAL_CA_H

#include "base/arena.h"

#define LOCAL_CA_ROOT_DAYS 3650
#define LOCAL_CA_LEAF_DAYS 7 /* renewed when a third is left */

struct local_ca;
/*
 * Opens or makes $state/ca/root.crt and root.key (p256, 0600). NULL and a sentence (in a) in *err.
 * `state` may be ".", where the way to the working folder is closed; messages name it in full.
 */
struct local_ca *local_ca_open(struct arena *a, const char *state, const char **err);
void local_ca_close(struct local_ca **ca);
struct local_leaf {
    struct str pem;              /* leaf and key in one text */
    int64_t not_after, renew_at; /* wall clock seconds */
};
/* From $state/certs/local/HOST when still good, else made and stored there; strings in a. */
const char *local_ca_leaf(struct local_ca *ca, struct arena *a, struct str host,
                          struct local_leaf *leaf) MUST_USE;
/* When a certificate should be made anew: wall clock seconds. */
int64_t local_ca_renew_at(int64_t not_before, int64_t not_after);

#endif
