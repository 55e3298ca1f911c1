/*
 * tls.h - TLS of a worker: the one SSL_CTX of the process, certificates as counted objects keyed by
 * digest, shared ticket keys, SNI and ALPN. What bytes go where is base/io.h's.
 */
#ifndef HG_TLS_H
#define HG_TLS_H

#include <openssl/ssl.h>

#include "base/msg.h"
#include "conf/conf.h"

struct tls_cert; /* counted: chain, key, digest, the names it covers, dates */

/*
 * PEM chain and key in one text (key_pem empty), or in two. Checks that they fit. NULL and a
 * sentence in *err, good until the next failure here. The texts stay the caller's: OPENSSL_cleanse
 * them.
 */
struct tls_cert *tls_cert_parse(struct str chain_pem, struct str key_pem, const char **err);
struct tls_cert *tls_cert_ref(struct tls_cert *c);
void tls_cert_unref(struct tls_cert **c);
const uint8_t *tls_cert_digest(const struct tls_cert *c); /* SHA-256 of the leaf */
bool tls_cert_covers(const struct tls_cert *c,
                     struct str host); /* SAN match (RFC 9525); "*.x": that very SAN */

/* Names → certificates of one snapshot: built once per configuration, immutable, counted by its
 * owner. */
struct tls_names;
/*
 * From tls.certificates of the config (they win, "chosen by name"; for site host "*" the first one
 * for names that none covers). Certificates of issuers arrive by tls_issued at any time.
 */
struct tls_names *tls_names_new(const struct conf *c, const char **err); /* NULL and a sentence */
void tls_names_free(struct tls_names **n);
/* When the certificate that clients of that host get ends, seconds since 1970; 0: there is none. */
int64_t tls_names_not_after(const struct tls_names *n, struct str host);

/*
 * A certificate from the agent (local CA now, ACME later) for a host; replaces an older one. The
 * caller keeps its reference. Host "*" is for names that no site claims (tls.unknown_sni: local).
 */
void tls_issued(struct str host, struct tls_cert *cert);

/* Per-connection facts that the callbacks need and fill; embed it, zeroed but `names` and `fd`. */
struct tls_conn {
    const struct tls_names *names; /* of the snapshot at accept; its owner keeps it alive */
    struct tls_cert *cert;         /* counted: what this connection presented */
    char sni[256];                 /* lower case, "" when none was sent */
    int fd; /* the socket, or 0: tells the site of a client without SNI by its local address */
    unsigned version; /* 0x0303 or 0x0304 once established */
    bool h2;          /* ALPN chose h2 */
    bool resumed;
    bool alpn_challenge; /* a CA looks (RFC 8737): it gets the handshake, and nothing after it */
    bool raw; /* set by the owner: raw bytes inside, no protocol is chosen, its sessions are its own
               */
    struct str
        alpn; /* set by the owner, raw: RFC 7301 3.1's list, chosen from; empty: not at all */
    struct str default_host; /* set by the owner: for clients that name none; empty: no such */
};

/* Once a process, before anything else. min_version 0x0303 or 0x0304. */
const char *tls_setup(unsigned min_version) MUST_USE;
void tls_set_min_version(unsigned min_version);
void tls_set_ticket_keys(const struct msg_ticket_keys *k);
void tls_ticket_key_make(struct msg_ticket_key *k); /* master: random name and keys */
SSL *tls_server_new(struct tls_conn *c);            /* server-side SSL with c as its app data */
void tls_conn_established(struct tls_conn *c,
                          SSL *ssl);    /* at the end of the handshake: version, h2, resumed */
void tls_conn_fini(struct tls_conn *c); /* drops the certificate */
/*
 * May this connection answer for `host`? False when the certificate that would be chosen for host
 * is not the one that was presented: then the answer is 421 (RFC 9110 15.5.20). Empty: no Host at
 * all.
 */
bool tls_conn_serves(const struct tls_conn *c, struct str host);
const char *tls_version_text(const SSL *ssl); /* "TLSv1.3" */

#endif
