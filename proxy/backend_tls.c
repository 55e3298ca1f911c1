/*
 * backend_tls.c - SSL_CTXs towards backends, found again by the digest of what they were made from:
 * one outlives its snapshot while connections use it, and a reload that changes nothing makes none.
 */
#include "proxy/backend_tls.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdlib.h>

#include "base/loop.h"
#include "proxy/tls_parts.h"

#define NAME_MAX_BYTES 253
/* A resumed handshake sees no certificate: after this long the chain is looked at again. */
#define SESSION_MAX_MS (3600 * 1000u)

struct backend_tls {
    struct list link;
    unsigned refs;
    SSL_CTX *ctx;
    char digest[65];
    char ca_digest[65]; /* authorities take long to read: those who trust the same share them */
    char name[NAME_MAX_BYTES + 1]; /* the name certificates must have; "": the URL's */
};

static struct list all = {&all, &all};

/* ---- making one ---- */

static int on_session(SSL *ssl, SSL_SESSION *session)
{
    struct backend_tls_peer *p = SSL_get_app_data(ssl);
    const struct backend_tls *t = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
    if (p->tls != t)
        return 0; /* settings changed meanwhile */
    if (!SSL_session_reused(ssl) || !p->session)
        p->session_ms = loop_now_ms();
    SSL_SESSION_free(p->session);
    p->session = session;
    return 1; /* it is ours now */
}

static void hex_of(struct str bytes, char hex[65])
{
    uint8_t sum[32];
    struct out o = out_on(hex, 64);
    EVP_Digest(bytes.p ? bytes.p : "", bytes.n, sum, NULL, EVP_sha256(), NULL);
    for (size_t i = 0; i < sizeof(sum); i++)
        out_hex(&o, sum[i], 2);
    hex[64] = '\0';
}

static X509_STORE *store_from(struct str pem)
{
    X509_STORE *store = X509_STORE_new();
    BIO *bio = BIO_new_mem_buf(pem.p ? pem.p : "", (int)MIN(pem.n, (size_t)INT32_MAX));
    X509 *x;
    ASSERT(store && bio);
    while ((x = PEM_read_bio_X509(bio, NULL, NULL, NULL))) {
        int rc = X509_STORE_add_cert(store, x);
        ASSERT(rc == 1); /* one that is there already is fine too */
        X509_free(x);
    }
    BIO_free(bio);
    ERR_clear_error(); /* the end of the text is one */
    return store;
}

static void trust(struct backend_tls *t, struct str ca_pem)
{
    hex_of(ca_pem, t->ca_digest);
    LIST_EACH (&all, l) {
        const struct backend_tls *other = container_of(l, struct backend_tls, link);
        if (strcmp(other->ca_digest, t->ca_digest) != 0)
            continue;
        SSL_CTX_set1_cert_store(t->ctx, SSL_CTX_get_cert_store(other->ctx));
        return;
    }
    SSL_CTX_set_cert_store(t->ctx, store_from(ca_pem));
}

static const char *show(struct backend_tls *t, const struct conf_backend_tls *c)
{
    const char *err = NULL;
    if (!c->cert_pem.n)
        return NULL;
    struct tls_cert *own = tls_cert_parse(c->cert_pem, c->key_pem, &err);
    if (!own)
        return err;
    if (SSL_CTX_use_cert_and_key(t->ctx, own->leaf, own->key, own->chain, 1) != 1)
        err = "OpenSSL does not take the client certificate of backend_tls";
    tls_cert_unref(&own);
    return err;
}

static const char *configure(struct backend_tls *t, const struct conf_backend_tls *c)
{
    SSL_CTX_set_app_data(t->ctx, t);
    SSL_CTX_set_options(t->ctx, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_mode(t->ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                 SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_verify(t->ctx, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_session_cache_mode(t->ctx,
                                   SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL_STORE);
    SSL_CTX_sess_set_new_cb(t->ctx, on_session);
    if (SSL_CTX_set_min_proto_version(t->ctx, TLS1_2_VERSION) != 1)
        return "OpenSSL lacks what TLS to backends needs: check openssl.cnf";
    trust(t, c->ca_pem);
    return show(t, c);
}

struct backend_tls *backend_tls_get(const struct conf_backend_tls *c, const char **err)
{
    LIST_EACH (&all, l) {
        struct backend_tls *t = container_of(l, struct backend_tls, link);
        if (str_eq(str_of(t->digest), c->digest))
            return backend_tls_ref(t);
    }
    struct backend_tls *t = calloc(1, sizeof(*t));
    ASSERT(t && c->digest.n < sizeof(t->digest) && c->name.n < sizeof(t->name));
    t->refs = 1;
    t->ctx = SSL_CTX_new(TLS_client_method());
    ASSERT(t->ctx);
    memcpy(t->digest, c->digest.p, c->digest.n);
    if (c->name.n)
        memcpy(t->name, c->name.p, c->name.n);
    *err = configure(t, c);
    list_append(&all, &t->link);
    if (*err)
        backend_tls_unref(&t);
    return t;
}

struct backend_tls *backend_tls_ref(struct backend_tls *t)
{
    t->refs++;
    return t;
}

void backend_tls_unref(struct backend_tls **tp)
{
    struct backend_tls *t = *tp;
    *tp = NULL;
    if (!t || --t->refs)
        return;
    list_remove(&t->link);
    SSL_CTX_free(t->ctx);
    free(t);
}

/* ---- an instance ---- */

void backend_tls_peer_forget(struct backend_tls_peer *p)
{
    SSL_SESSION_free(p->session);
    p->session = NULL;
}

void backend_tls_peer_fini(struct backend_tls_peer *p)
{
    backend_tls_peer_forget(p);
    backend_tls_unref(&p->tls);
}

bool backend_tls_peer_use(struct backend_tls_peer *p, struct backend_tls *t)
{
    if (p->tls == t)
        return false;
    backend_tls_peer_fini(p);
    p->tls = t ? backend_tls_ref(t) : NULL;
    return true;
}

/* ---- a connection ---- */

static bool expect_name(SSL *ssl, const char *name)
{
    X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    /* An address is none of the names that SNI knows (RFC 6066 3). */
    if (X509_VERIFY_PARAM_set1_ip_asc(param, name) == 1)
        return true;
    ERR_clear_error();
    return X509_VERIFY_PARAM_set1_host(param, name, 0) == 1 &&
           SSL_set_tlsext_host_name(ssl, name) == 1;
}

SSL *backend_tls_client(struct backend_tls_peer *p, struct str url_name, bool h2)
{
    static const uint8_t alpn_h1[] = "\x08http/1.1", alpn_h2[] = "\x02h2";
    char name[NAME_MAX_BYTES + 1] = "";
    SSL *ssl = SSL_new(p->tls->ctx);
    if (url_name.n && url_name.n < sizeof(name))
        memcpy(name, url_name.p, url_name.n);
    const char *expected = p->tls->name[0] ? p->tls->name : name;
    /* Without a name there would be nothing to compare with. */
    ASSERT(ssl && expected[0]);
    bool named = expect_name(ssl, expected);
    ASSERT(named);
    bool offered = SSL_set_alpn_protos(ssl, h2 ? alpn_h2 : alpn_h1,
                                       h2 ? sizeof(alpn_h2) - 1 : sizeof(alpn_h1) - 1) == 0;
    ASSERT(offered);
    SSL_set_app_data(ssl, p);
    SSL_set_connect_state(ssl);
    if (p->session && loop_now_ms() - p->session_ms > SESSION_MAX_MS)
        backend_tls_peer_forget(p);
    if (p->session)
        SSL_set_session(ssl, p->session);
    return ssl;
}

bool backend_tls_chose_h2(const SSL *ssl)
{
    const unsigned char *p;
    unsigned n;
    SSL_get0_alpn_selected(ssl, &p, &n);
    return n == 2 && memcmp(p, "h2", 2) == 0;
}

const char *backend_tls_error(const SSL *ssl, const char *err)
{
    long why = SSL_get_verify_result(ssl);
    switch (why) {
    case X509_V_OK:
        return err;
    case X509_V_ERR_CERT_HAS_EXPIRED:
        return "the backend's certificate has expired";
    case X509_V_ERR_CERT_NOT_YET_VALID:
        return "the backend's certificate is not valid yet";
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
        return "the backend's certificate is for another name";
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
        return "the backend's certificate is self-signed, and not among those trusted";
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
        return "the backend's certificate is of an unknown authority";
    default:
        return X509_verify_cert_error_string(why); /* a constant */
    }
}
