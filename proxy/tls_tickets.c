/*
 * tls_tickets.c - session tickets under keys that all workers share, so that a client resumes
 * wherever the kernel sends it. The master makes the keys and rotates them; here they are used.
 */
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/rand.h>

#include "proxy/tls_parts.h"

static struct {
    struct msg_ticket_keys keys;
    bool keyed;         /* they are the master's, or at least random */
    EVP_CIPHER *cipher; /* fetched once: a fetch by name in each handshake takes locks and time */
} tickets;

_Static_assert(sizeof tickets.keys.current.name == 16, "OpenSSL's key name");
_Static_assert(sizeof tickets.keys.current.aes == 32, "AES-256");

void tls_ticket_key_make(struct msg_ticket_key *k)
{
    random_bytes(k, sizeof *k);
}

void tls_set_ticket_keys(const struct msg_ticket_keys *k)
{
    tickets.keys = *k;
    tickets.keyed = true;
}

static bool use(const struct msg_ticket_key *k, uint8_t *iv, EVP_CIPHER_CTX *cipher,
                EVP_MAC_CTX *mac, int encrypt)
{
    char digest[] = "SHA256";
    uint8_t key[sizeof k->hmac];
    memcpy(key, k->hmac, sizeof key);
    OSSL_PARAM params[] = {OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, key, sizeof key),
                           OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
                           OSSL_PARAM_construct_end()};
    bool fine = EVP_MAC_CTX_set_params(mac, params) == 1 &&
                EVP_CipherInit_ex(cipher, tickets.cipher, NULL, k->aes, iv, encrypt) == 1;
    OPENSSL_cleanse(key, sizeof key);
    return fine;
}

/*
 * RFC 5077, RFC 8446 4.6.1. OpenSSL's answers: < 0 failure, 0 unknown key (full handshake), 1 fine,
 * 2 fine and a new ticket is due.
 */
static int on_ticket(SSL *ssl, unsigned char name[16], unsigned char *iv, EVP_CIPHER_CTX *cipher,
                     EVP_MAC_CTX *mac, int encrypt)
{
    const struct msg_ticket_keys *k = &tickets.keys;
    if (encrypt) {
        memcpy(name, k->current.name, sizeof k->current.name);
        if (RAND_bytes(iv, EVP_CIPHER_get_iv_length(tickets.cipher)) != 1)
            return -1;
        return use(&k->current, iv, cipher, mac, 1) ? 1 : -1;
    }
    /* `next` too: another worker may have heard of the rotation first. */
    const struct msg_ticket_key *all[] = {&k->current, &k->next, &k->previous};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        if (CRYPTO_memcmp(name, all[i]->name, sizeof all[i]->name) != 0)
            continue;
        if (!use(all[i], iv, cipher, mac, 0))
            return -1;
        /* TLS 1.3 clients use a ticket once (RFC 8446 C.4): each resumption needs to bring the
         * next. */
        return all[i] == &k->previous || SSL_version(ssl) == TLS1_3_VERSION ? 2 : 1;
    }
    return 0;
}

const char *tls_tickets_setup(SSL_CTX *ctx)
{
    if (!tickets.cipher)
        tickets.cipher = EVP_CIPHER_fetch(NULL, "AES-256-CBC", NULL);
    if (!tickets.cipher)
        return "OpenSSL has no AES-256-CBC for session tickets: check openssl.cnf";
    /* Own keys until the master's come, never all zeros. */
    if (!tickets.keyed) {
        tls_ticket_key_make(&tickets.keys.previous);
        tls_ticket_key_make(&tickets.keys.current);
        tls_ticket_key_make(&tickets.keys.next);
        tickets.keyed = true;
    }
    if (SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, on_ticket) != 1)
        return "OpenSSL refuses the ticket keys";
    return NULL;
}
