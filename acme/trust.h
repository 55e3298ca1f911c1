/*
 * trust.h - letting this machine's programs trust a root certificate: the system's store, and the
 * NSS stores of one user's browsers. The certificate is the local CA's (local_ca.h); servers never
 * call this, only `headgate trust`.
 */
#ifndef HG_TRUST_H
#define HG_TRUST_H

#include "base/arena.h"

struct trust_cert {
    const char *path;
    struct str pem;   /* of this one certificate, made anew from what was read */
    const char *name; /* "headgate-local-ca-0123456789abcdef": by its SHA-256, in all stores */
    const char *common_name; /* printable ASCII */
};
/* NULL, or a sentence in `a`: no file, no certificate, not one of a CA, expired. */
const char *trust_cert_read(struct arena *a, const char *path, struct trust_cert *out) MUST_USE;

/* Whose browsers: uid (uid_t)-1 is the one that runs this. */
struct trust_user {
    const char *home; /* NULL: there are none */
    uid_t uid;
    gid_t gid;
};

enum trust_result {
    TRUST_DONE,
    TRUST_WAS_SO,    /* it was as asked for: nothing was touched */
    TRUST_NO_TOOL,   /* there is no such store here, or nothing to write it with */
    TRUST_NO_RIGHTS, /* `text` is what to run, a command a line */
    TRUST_FAILED,    /* `text` says why */
};
struct trust_step {
    const char *store; /* "system", "Chromium", "Firefox" */
    const char *place; /* path; may be NULL */
    enum trust_result result;
    const char *text; /* may be NULL */
};

/*
 * Puts the certificate into each store, or takes it out of them; what is not the certificate's own
 * is left alone. Blocks while the stores' tools run. Returns the number of steps in *out (in `a`).
 */
unsigned trust_apply(struct arena *a, const struct trust_cert *c, const struct trust_user *user,
                     bool remove, struct trust_step **out);

#endif
