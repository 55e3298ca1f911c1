/*
 * tls.c - the one SSL_CTX of the process and the callbacks of a handshake: SNI, versions, ALPN, the
 * certificate. Certificates are read in tls_cert.c and chosen in tls_names.c, ticket keys are in
 * tls_tickets.c; the bytes on the wire are base/io.c's.
 *
 * A handshake's order: on_hello (both versions of TLS, before tickets are looked at) settles the
 * site and the certificate; on_certificate hands it to OpenSSL in full handshakes only; on_alpn.
 */
#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <openssl/sha.h>

#include "base/log.h"
#include "base/siphash.h"
#include "proxy/challenges.h"
#include "proxy/tls_parts.h"

/* AES-128 first: it is the cheapest with AES-NI; who prefers ChaCha (phones) gets it, see
 * PRIORITIZE. */
#define CIPHERS_12                                               \
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:" \
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:" \
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
#define CIPHERS_13 "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
#define GROUPS     "X25519:P-256"

/* A ticket's life. The master turns the keys as often, and the one before is kept: none dies early.
 */
#define SESSION_SECONDS (8 * 3600)

#define WARN_MS         60000

/* What is spoken inside, best first (RFC 7301). HTTP/2 will be a line here. */
static const struct {
    struct str name;
    bool h2;
} protocols[] = {
    {{"h2", 2}, true},
    {{"http/1.1", 8}, false},
};

static struct {
    SSL_CTX *ctx;
    unsigned min_version;
} tls;

/* ---- the client hello ---- */

/* Two bytes of length, then that many, off the front of *in. */
static bool take_u16_vector(struct str *in, struct str *out)
{
    if (in->n < 2)
        return false;
    size_t n = (size_t)(uint8_t)in->p[0] << 8 | (uint8_t)in->p[1];
    if (in->n - 2 < n)
        return false;
    *out = str_sub(*in, 2, 2 + n);
    *in = str_sub(*in, 2 + n, in->n);
    return true;
}

static bool hello_extension(SSL *ssl, unsigned type, struct str *out)
{
    const unsigned char *p;
    size_t n;
    if (SSL_client_hello_get0_ext(ssl, type, &p, &n) != 1)
        return false;
    *out = (struct str){(const char *)p, n};
    return true;
}

/* RFC 6066 3: c->sni, "" for none and for an address (which must not be sent, and is by some). */
static bool read_sni(SSL *ssl, struct tls_conn *c, int *alert)
{
    struct str ext, list, name, host;
    char mem[TLS_HOST_MAX + 1];
    c->sni[0] = '\0';
    if (!hello_extension(ssl, TLSEXT_TYPE_server_name, &ext))
        return true;
    bool whole = take_u16_vector(&ext, &list) && ext.n == 0 && list.n > 0 &&
                 list.p[0] == TLSEXT_NAMETYPE_host_name;
    list = whole ? str_sub(list, 1, list.n) : list;
    if (!whole || !take_u16_vector(&list, &name) || list.n > 0 || name.n == 0) {
        *alert = SSL_AD_DECODE_ERROR;
        return false;
    }
    switch (tls_host_canonical(name, mem, &host)) {
    case TLS_HOST_IP:
        return true;
    case TLS_HOST_DNS:
        memcpy(c->sni, host.p, host.n + 1);
        return true;
    case TLS_HOST_BAD:
        break;
    }
    *alert = SSL_AD_UNRECOGNIZED_NAME;
    return false;
}

/* RFC 8737: a CA that validates offers this protocol and no other. */
static bool is_alpn_challenge(SSL *ssl)
{
    struct str ext, list;
    return hello_extension(ssl, TLSEXT_TYPE_application_layer_protocol_negotiation, &ext) &&
           take_u16_vector(&ext, &list) &&
           str_eq(list, STR("\x0a"
                            "acme-tls/1"));
}

/* The name for a client that sent none: the address it connected to, where a site has that as host.
 */
static struct str local_address(const struct tls_conn *c, char mem[INET6_ADDRSTRLEN])
{
    struct sockaddr_storage sa;
    socklen_t len = sizeof sa;
    const void *at = NULL;
    if (c->fd <= 0 || getsockname(c->fd, (struct sockaddr *)&sa, &len) < 0)
        return STR_NULL;
    int family = sa.ss_family;
    if (family == AF_INET)
        at = &((struct sockaddr_in *)&sa)->sin_addr;
    if (family == AF_INET6) {
        struct in6_addr *in6 = &((struct sockaddr_in6 *)&sa)->sin6_addr;
        at = in6;
        if (IN6_IS_ADDR_V4MAPPED(in6)) { /* a dual-stack listener */
            family = AF_INET;
            at = &in6->s6_addr[12];
        }
    }
    return at && inet_ntop(family, at, mem, INET6_ADDRSTRLEN) ? str_of(mem) : STR_NULL;
}

static struct tls_choice choose(const struct tls_conn *c)
{
    char mem[INET6_ADDRSTRLEN];
    char own[TLS_HOST_MAX + 1];
    struct str host = str_of(c->sni);
    if (host.n == 0 && tls_names_has_ip(c->names))
        host = local_address(c, mem);
    if (c->sni[0] == '\0' && c->default_host.n &&
        (host.n == 0 || !tls_names_choose(c->names, host).known) &&
        tls_host_canonical(c->default_host, own, &host) == TLS_HOST_BAD)
        host = c->default_host; /* "*", "*.example.org" */
    return tls_names_choose(c->names, host);
}

/*
 * OpenSSL resumes only within one session id context, in TLS 1.2 and 1.3 alike: making the name a
 * part of it keeps a ticket that was given for one host from opening another.
 */
static bool bind_sessions(SSL *ssl, const struct tls_conn *c)
{
    struct str sni = c->sni[0] ? str_of(c->sni) : c->default_host;
    uint8_t sid[SSL_MAX_SID_CTX_LENGTH], hash[SHA256_DIGEST_LENGTH];
    struct out o = out_on(sid, sizeof sid);
    const bool whole = sni.n < sizeof sid;
    out_char(&o, c->raw ? (whole ? 'r' : 'R') : whole ? 'n' : 'h');
    if (whole)
        out_str(&o, sni);
    else if (SHA256((const uint8_t *)sni.p, sni.n, hash))
        out_bytes(&o, hash, sizeof sid - 1);
    return o.n > 0 && SSL_set_session_id_context(ssl, sid, (unsigned)o.n) == 1;
}

/* Once a host and minute; hosts that meet in a place share it, so that a flood has few lines. */
static void warn_no_certificate(const struct tls_conn *c)
{
    static uint64_t key[2], next_ms[256];
    if (!key[0])
        random_bytes(key, sizeof key);
    const uint64_t now = now_ms();
    uint64_t *next = &next_ms[siphash(key, c->sni, strlen(c->sni)) % ARRAY_LEN(next_ms)];
    if (now < *next)
        return;
    *next = now + WARN_MS;
    log_warn("no certificate for this host yet", "sni", "%s", c->sni);
}

/*
 * RFC 8737 3: the CA is shown the certificate of the challenge, and there is nothing behind it. A
 * host that has a challenge needs neither a site nor a certificate.
 */
static bool hello_challenge(SSL *ssl, struct tls_conn *c)
{
    struct tls_cert *cert = challenges_cert(str_of(c->sni));
    if (!cert)
        return false;
    c->cert = tls_cert_ref(cert);
    SSL_set_options(ssl, SSL_OP_NO_TICKET); /* neither taken nor, by TLS 1.2, given */
    return SSL_set_num_tickets(ssl, 0) == 1;
}

static int on_hello(SSL *ssl, int *alert, void *arg UNUSED)
{
    struct tls_conn *c = SSL_get_app_data(ssl);
    tls_cert_unref(&c->cert); /* of the first hello, when this is the one after HelloRetryRequest */
    if (!read_sni(ssl, c, alert))
        return SSL_CLIENT_HELLO_ERROR;
    c->alpn_challenge = !c->raw && is_alpn_challenge(ssl);
    if (c->alpn_challenge && hello_challenge(ssl, c))
        return SSL_CLIENT_HELLO_SUCCESS;
    struct tls_choice choice = choose(c);
    if (!choice.known) {
        log_debug("no site for this name", "sni", "%s", c->sni);
        *alert = SSL_AD_UNRECOGNIZED_NAME;
        return SSL_CLIENT_HELLO_ERROR;
    }
    if (c->alpn_challenge) {
        log_debug("nothing is to be proven for this name now", "sni", "%s", c->sni);
        *alert = SSL_AD_NO_APPLICATION_PROTOCOL;
        return SSL_CLIENT_HELLO_ERROR;
    }
    if (!choice.cert) {
        warn_no_certificate(c);
        *alert = SSL_AD_INTERNAL_ERROR;
        return SSL_CLIENT_HELLO_ERROR;
    }
    c->cert = tls_cert_ref(choice.cert);
    bool fine = bind_sessions(ssl, c);
    if (choice.min_version > tls.min_version)
        fine = fine && SSL_set_min_proto_version(ssl, (int)choice.min_version) == 1;
    if (fine)
        return SSL_CLIENT_HELLO_SUCCESS;
    *alert = SSL_AD_INTERNAL_ERROR;
    return SSL_CLIENT_HELLO_ERROR;
}

/* Tells the client that its name was used (RFC 6066 3). */
static int on_servername(SSL *ssl, int *alert UNUSED, void *arg UNUSED)
{
    const struct tls_conn *c = SSL_get_app_data(ssl);
    return c->sni[0] ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_NOACK;
}

/* References only: nothing is parsed or copied here. */
static int on_certificate(SSL *ssl, void *arg UNUSED)
{
    const struct tls_conn *c = SSL_get_app_data(ssl);
    const struct tls_cert *cert = c->cert;
    return cert && SSL_use_cert_and_key(ssl, cert->leaf, cert->key, cert->chain, 1) == 1;
}

/* Of raw bytes we know what the configuration says, and else nothing. */
static int raw_alpn(const struct tls_conn *c, const unsigned char **out, unsigned char *out_n,
                    const unsigned char *in, unsigned in_n)
{
    unsigned char *chosen;
    if (!c->alpn.n)
        return SSL_TLSEXT_ERR_NOACK;
    if (SSL_select_next_proto(&chosen, out_n, (const unsigned char *)c->alpn.p, (unsigned)c->alpn.n,
                              in, in_n) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

/* RFC 7301 3.2: no protocol in common ends the handshake. Not called when the client sent no list.
 */
static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_n,
                   const unsigned char *in, unsigned in_n, void *arg UNUSED)
{
    const struct tls_conn *c = SSL_get_app_data(ssl);
    if (c->raw)
        return raw_alpn(c, out, out_n, in, in_n);
    if (c->alpn_challenge) { /* all that was offered */
        *out = in + 1;
        *out_n = in[0];
        return SSL_TLSEXT_ERR_OK;
    }
    for (size_t i = 0; i < ARRAY_LEN(protocols); i++) {
        for (unsigned at = 0; at < in_n && in_n - at > in[at]; at += 1u + in[at]) {
            struct str offered = {(const char *)in + at + 1, in[at]};
            if (!str_eq(offered, protocols[i].name))
                continue;
            *out = in + at + 1;
            *out_n = in[at];
            return SSL_TLSEXT_ERR_OK;
        }
    }
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* ---- the process ---- */

static const char *configure(SSL_CTX *ctx)
{
    SSL_CTX_set_options(ctx, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA |
                                 SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_clear_options(ctx, SSL_OP_IGNORE_UNEXPECTED_EOF |
                                   SSL_OP_ALLOW_UNSAFE_LEGACY_RENEGOTIATION |
                                   SSL_OP_LEGACY_SERVER_CONNECT);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                              SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_security_level(ctx, 2);
    if (SSL_CTX_set_max_proto_version(ctx, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_cipher_list(ctx, CIPHERS_12) != 1 ||
        SSL_CTX_set_ciphersuites(ctx, CIPHERS_13) != 1 ||
        SSL_CTX_set1_groups_list(ctx, GROUPS) != 1)
        return "OpenSSL lacks the ciphers or curves that TLS needs today: check openssl.cnf";
    /* Sessions live in tickets alone: a cache would be a worker's own and grow. */
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_timeout(ctx, SESSION_SECONDS);
    if (SSL_CTX_set_num_tickets(ctx, 1) != 1 || SSL_CTX_set_max_early_data(ctx, 0) != 1 ||
        SSL_CTX_set_session_id_context(ctx, (const uint8_t *)"headgate", 8) != 1)
        return "OpenSSL refuses the settings of sessions";
    SSL_CTX_set_client_hello_cb(ctx, on_hello, NULL);
    SSL_CTX_set_tlsext_servername_callback(ctx, on_servername);
    SSL_CTX_set_cert_cb(ctx, on_certificate, NULL);
    SSL_CTX_set_alpn_select_cb(ctx, on_alpn, NULL);
    return tls_tickets_setup(ctx);
}

const char *tls_setup(unsigned min_version)
{
    ASSERT(!tls.ctx);
    unsigned char seed;
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    /* One byte now opens the random source before the sandbox closes. */
    if (!ctx || RAND_bytes(&seed, 1) != 1) {
        SSL_CTX_free(ctx);
        return "OpenSSL does not start: check openssl.cnf";
    }
    const char *err = configure(ctx);
    ERR_clear_error();
    if (err) {
        SSL_CTX_free(ctx);
        return err;
    }
    tls.ctx = ctx;
    tls_set_min_version(min_version);
    return NULL;
}

void tls_set_min_version(unsigned min_version)
{
    ASSERT(min_version == TLS1_2_VERSION || min_version == TLS1_3_VERSION);
    ASSERT(SSL_CTX_set_min_proto_version(tls.ctx, (int)min_version) == 1);
    tls.min_version = min_version;
}

/* ---- a connection ---- */

SSL *tls_server_new(struct tls_conn *c)
{
    ASSERT(c->names);
    SSL *ssl = SSL_new(tls.ctx);
    ASSERT(ssl && SSL_set_app_data(ssl, c) == 1);
    SSL_set_accept_state(ssl);
    return ssl;
}

void tls_conn_established(struct tls_conn *c, SSL *ssl)
{
    const unsigned char *p = NULL;
    unsigned n = 0;
    SSL_get0_alpn_selected(ssl, &p, &n);
    struct str chosen = {(const char *)p, n};
    c->h2 = false;
    for (size_t i = 0; i < ARRAY_LEN(protocols); i++)
        if (str_eq(chosen, protocols[i].name))
            c->h2 = protocols[i].h2;
    c->resumed = SSL_session_reused(ssl) == 1;
    c->version = (unsigned)SSL_version(ssl);
}

void tls_conn_fini(struct tls_conn *c)
{
    tls_cert_unref(&c->cert);
}

bool tls_conn_serves(const struct tls_conn *c, struct str host)
{
    char mem[TLS_HOST_MAX + 1];
    struct str name;
    bool none = host.n == 0; /* HTTP/1.0: what "*" serves */
    if (!c->cert || (tls_host_canonical(host, mem, &name) == TLS_HOST_BAD && !none))
        return false;
    if (!none && str_eq(name, str_of(c->sni)))
        return true; /* the handshake was for this very name */
    struct tls_choice choice = tls_names_choose(c->names, name);
    if (!choice.cert || choice.min_version > c->version)
        return false;
    if (choice.cert == c->cert || memcmp(choice.cert->digest, c->cert->digest, 32) == 0)
        return true;
    /* Renewed since the handshake: still the same host's certificate. */
    return choice.cert->issued_for.n && str_eq(choice.cert->issued_for, c->cert->issued_for);
}

const char *tls_version_text(const SSL *ssl)
{
    return SSL_get_version(ssl);
}
