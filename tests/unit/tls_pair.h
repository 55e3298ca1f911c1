/*
 * tls_pair.h - OpenSSL's own client and a server of ours, over memory. Nothing here is tested.
 */
#ifndef HG_TLS_PAIR_H
#define HG_TLS_PAIR_H

#include "base/base.h"

#include <setjmp.h>

#include <cmocka.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include "proxy/tls.h"

struct pair {
    SSL_CTX *ctx;
    SSL *client, *server;
    struct tls_conn conn;
    bool done;
    int alert; /* what the server sent, or 0 */
};

UNUSED static int sent_alert;

static void on_info(const SSL *ssl UNUSED, int where, int value)
{
    if ((where & SSL_CB_READ_ALERT) == SSL_CB_READ_ALERT && (value >> 8) == SSL3_AL_FATAL)
        sent_alert = value & 0xff;
}

static SSL_SESSION *last_session;
static unsigned sessions;

static int on_session(SSL *ssl UNUSED, SSL_SESSION *s)
{
    SSL_SESSION_free(last_session);
    last_session = s;
    sessions++;
    return 1;
}

UNUSED static void pair_init(struct pair *p, const struct tls_names *names, const char *sni)
{
    *p = (struct pair){.conn.names = names};
    p->ctx = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_security_level(p->ctx, 0);
    SSL_CTX_set_info_callback(p->ctx, on_info);
    SSL_CTX_set_session_cache_mode(p->ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(p->ctx, on_session);
    p->client = SSL_new(p->ctx);
    p->server = tls_server_new(&p->conn);
    BIO *a, *b;
    assert_int_equal(BIO_new_bio_pair(&a, 1 << 16, &b, 1 << 16), 1);
    SSL_set_bio(p->client, a, a);
    SSL_set_bio(p->server, b, b);
    SSL_set_connect_state(p->client);
    if (sni)
        assert_int_equal(SSL_set_tlsext_host_name(p->client, sni), 1);
}

UNUSED static void pair_alpn(struct pair *p, const char *wire)
{
    assert_int_equal(SSL_set_alpn_protos(p->client, (const uint8_t *)wire, (unsigned)strlen(wire)),
                     0);
}

UNUSED static void pair_version(struct pair *p, int version)
{
    assert_int_equal(SSL_set_min_proto_version(p->client, version), 1);
    assert_int_equal(SSL_set_max_proto_version(p->client, version), 1);
}

UNUSED static bool pair_run(struct pair *p)
{
    sent_alert = 0;
    sessions = 0;
    char c;
    for (int i = 0; i < 20; i++) {
        SSL_do_handshake(p->client);
        SSL_do_handshake(p->server);
        SSL_read(p->client, &c, 1); /* alerts and tickets */
    }
    ERR_clear_error();
    p->done = SSL_is_init_finished(p->client) && SSL_is_init_finished(p->server);
    p->alert = sent_alert;
    if (p->done)
        tls_conn_established(&p->conn, p->server);
    return p->done;
}

UNUSED static void pair_fini(struct pair *p)
{
    /* Else OpenSSL takes the end for an accident and spoils the client's session. */
    SSL_set_shutdown(p->client, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(p->client);
    SSL_free(p->server);
    tls_conn_fini(&p->conn);
    SSL_CTX_free(p->ctx);
}

#endif
