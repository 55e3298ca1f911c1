/*
 * backend_tls.h - TLS towards backends: what a service's `backend_tls` means to a worker, counted
 * and shared by all snapshots that say the same, and the session kept for each instance. Chain and
 * name are always verified. Bytes are base/io.h's, the exchange on them exchange.h's.
 */
#ifndef HG_BACKEND_TLS_H
#define HG_BACKEND_TLS_H

#include <openssl/ssl.h>

#include "conf/conf.h"

struct backend_tls; /* counted: one SSL_CTX */

/* One that lives already and says the same, or a new one. NULL and *err: a constant. */
struct backend_tls *backend_tls_get(const struct conf_backend_tls *c, const char **err);
struct backend_tls *backend_tls_ref(struct backend_tls *t);
void backend_tls_unref(struct backend_tls **t); /* fine on NULL */

/* Of an instance: under which settings it was spoken to last, and the session from then. Zeroed. */
struct backend_tls_peer {
    struct backend_tls *tls; /* counted; NULL: plain */
    SSL_SESSION *session;    /* NULL: none */
    uint64_t session_ms;     /* loop_now_ms of its full handshake, about */
};
/* True when the settings are others than before: kept connections are not to be used again. */
bool backend_tls_peer_use(struct backend_tls_peer *p, struct backend_tls *t);
void backend_tls_peer_forget(struct backend_tls_peer *p); /* the session: a handshake failed */
void backend_tls_peer_fini(struct backend_tls_peer *p);

/*
 * A client's SSL for base/io.h, under p->tls. `name`: the URL's, a DNS name or an address without
 * brackets; the configured one goes before it. `h2`: HTTP/2 is what ALPN offers, else HTTP/1.1.
 * p must outlive the SSL.
 */
SSL *backend_tls_client(struct backend_tls_peer *p, struct str name, bool h2);
/* A backend that was offered HTTP/2 took it (RFC 9113 3.2). */
bool backend_tls_chose_h2(const SSL *ssl);
/* What made a handshake fail, in words: `err`, or a constant that says more. */
const char *backend_tls_error(const SSL *ssl, const char *err);

#endif
