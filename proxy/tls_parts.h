/*
 * tls_parts.h - what tls.c, tls_cert.c, tls_names.c and tls_tickets.c share. Nobody else includes
 * it: the interface of TLS is tls.h.
 */
#ifndef HG_TLS_PARTS_H
#define HG_TLS_PARTS_H

#include "base/base.h" /* first: it asks libc for its GNU side */
#include "proxy/tls.h"

#define TLS_HOST_MAX 255

/* ---- a map from bytes to pointers; keys are borrowed and must live as long as their entry ---- */
struct tls_map_slot {
    const char *key; /* NULL: free */
    uint32_t n, hash;
    void *value;
};
struct tls_map {
    struct tls_map_slot *v;
    size_t n, cap; /* cap: a power of two, or 0 */
};
void *tls_map_get(const struct tls_map *m, struct str key); /* NULL when absent */
/* Adds or replaces (the key too); returns the value that was there, or NULL. */
void *tls_map_put(struct tls_map *m, struct str key, void *value);
void tls_map_del(struct tls_map *m, struct str key);
void tls_map_fini(struct tls_map *m);

/* ---- certificates ---- */
struct tls_cert {
    unsigned refs;
    struct arena *arena; /* holds this struct and its names */
    X509 *leaf;
    EVP_PKEY *key;
    STACK_OF(X509) * chain; /* behind the leaf; NULL when there is none */
    uint8_t digest[32];
    int64_t not_before, not_after; /* seconds since 1970 */
    struct str *names; /* SANs: lower-case DNS names, "*.x" too, and canonical addresses */
    unsigned n_names;
    struct str issued_for; /* under which name tls_issued got it; empty for a given one */
};

/* The one buffer for sentences that a constant cannot say; overwritten by the next failure. */
const char *tls_sentence(const char *fmt, ...) PRINTF(1, 2);

enum tls_host_kind { TLS_HOST_BAD, TLS_HOST_DNS, TLS_HOST_IP };
/*
 * A host as the tables know it: lower case, without a last dot, without brackets, addresses in
 * canonical form. `mem` gets it, NUL-terminated; *out points there.
 */
enum tls_host_kind tls_host_canonical(struct str host, char mem[TLS_HOST_MAX + 1], struct str *out);

/* ---- names ---- */
struct tls_choice {
    struct tls_cert *cert; /* borrowed; NULL: none */
    bool known;            /* a site claims the host (or the fallback applies) */
    unsigned min_version;  /* of the site; 0: the global one */
};
/* `host` canonical; empty: the client named none. */
struct tls_choice tls_names_choose(const struct tls_names *n, struct str host);
bool tls_names_has_ip(const struct tls_names *n); /* some site's host is an address */

/* ---- tickets (tls_tickets.c) ---- */
const char *tls_tickets_setup(SSL_CTX *ctx) MUST_USE;

#endif
