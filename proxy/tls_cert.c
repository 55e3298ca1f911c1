/*
 * tls_cert.c - certificates as counted objects, one for each digest in the process: PEM in, checks
 * with sentences that name the cure, the names they cover. All parsing happens here, none of it in
 * a handshake. Which certificate a connection gets is tls_names.c's.
 */
#include "proxy/tls_parts.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>

#define CHAIN_MAX 16
#define PEM_MAX   (1024 * 1024)
#define SECURITY_BITS \
    112 /* OpenSSL's level 2, which the context of tls.c has: less would fail late */

static struct tls_map by_digest; /* every live certificate */

const char *tls_sentence(const char *fmt, ...)
{
    static char text[1024];
    va_list ap;
    va_start(ap, fmt);
    if (vsnprintf(text, sizeof text, fmt, ap) < 0)
        text[0] = '\0';
    va_end(ap);
    return text;
}

/* ---- hosts ---- */

static bool is_ip(const char *z, char mem[TLS_HOST_MAX + 1], struct str *out)
{
    unsigned char raw[16];
    int family = inet_pton(AF_INET, z, raw) == 1    ? AF_INET
                 : inet_pton(AF_INET6, z, raw) == 1 ? AF_INET6
                                                    : 0;
    if (!family)
        return false;
    ASSERT(inet_ntop(family, raw, mem, TLS_HOST_MAX));
    *out = str_of(mem);
    return true;
}

/* Letters, digits, hyphens and (as seen in the wild) underscores in labels of 1 to 63. */
static bool is_dns(struct str s)
{
    size_t label = 0;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (c == '.') {
            if (label == 0)
                return false;
            label = 0;
            continue;
        }
        bool fine = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
        if (!fine || ++label > 63)
            return false;
    }
    return label > 0 && s.n <= 253;
}

enum tls_host_kind tls_host_canonical(struct str host, char mem[TLS_HOST_MAX + 1], struct str *out)
{
    char text[TLS_HOST_MAX + 1];
    *out = STR_NULL;
    if (host.n >= 2 && host.p[0] == '[' && host.p[host.n - 1] == ']')
        host = str_sub(host, 1, host.n - 1);
    if (host.n == 0 || host.n > TLS_HOST_MAX || memchr(host.p, '\0', host.n))
        return TLS_HOST_BAD;
    for (size_t i = 0; i < host.n; i++)
        text[i] = ascii_lower(host.p[i]);
    text[host.n] = '\0';
    if (is_ip(text, mem, out))
        return TLS_HOST_IP;
    if (text[host.n - 1] == '.')
        text[--host.n] = '\0';
    if (!is_dns((struct str){text, host.n}))
        return TLS_HOST_BAD;
    memcpy(mem, text, host.n + 1);
    *out = (struct str){mem, host.n};
    return TLS_HOST_DNS;
}

/* ---- PEM ---- */

/* Nobody is there to be asked for a passphrase. */
static int on_passphrase(char *buf UNUSED, int size UNUSED, int rw UNUSED, void *asked)
{
    *(bool *)asked = true;
    return -1;
}

static BIO *bio_on(struct str pem)
{
    BIO *b = BIO_new_mem_buf(pem.n ? pem.p : "", (int)pem.n);
    ASSERT(b);
    return b;
}

static const char *read_chain(struct tls_cert *c, struct str pem)
{
    BIO *b = bio_on(pem);
    const char *err = NULL;
    bool asked = false;
    ERR_clear_error();
    for (unsigned n = 0; !err; n++) {
        X509 *x = PEM_read_bio_X509(b, NULL, on_passphrase, &asked);
        if (!x)
            break;
        if (n == 0)
            c->leaf = x;
        else if (n >= CHAIN_MAX) {
            X509_free(x);
            err = "the file holds more than 16 certificates: keep the host's own and its "
                  "intermediates";
        } else {
            if (!c->chain)
                c->chain = sk_X509_new_null();
            ASSERT(c->chain && sk_X509_push(c->chain, x) > 0);
        }
    }
    unsigned long why = ERR_peek_last_error();
    bool end = ERR_GET_LIB(why) == ERR_LIB_PEM && ERR_GET_REASON(why) == PEM_R_NO_START_LINE;
    if (!err && !end)
        err = "a certificate in the file is damaged (its PEM block cannot be read): copy the file "
              "anew";
    else if (!err && !c->leaf)
        err = "no certificate in the file: it needs PEM blocks of -----BEGIN CERTIFICATE-----, the "
              "host's own first, then the intermediates";
    ERR_clear_error();
    BIO_free(b);
    return err;
}

static const char *read_key(struct tls_cert *c, struct str pem)
{
    BIO *b = bio_on(pem);
    bool asked = false;
    ERR_clear_error();
    c->key = PEM_read_bio_PrivateKey(b, NULL, on_passphrase, &asked);
    BIO_free(b);
    ERR_clear_error();
    if (c->key)
        return NULL;
    if (asked)
        return "the key is locked with a passphrase, and nobody is there to type it: write it "
               "without one (openssl pkey -in KEY -out NEW) and keep the file at mode 0600";
    if (memmem(pem.p, pem.n, "PRIVATE KEY-----", 16))
        return "the private key is damaged (its PEM block cannot be read): copy the file anew";
    return "no private key in the file: it needs a PEM block of -----BEGIN PRIVATE KEY-----";
}

/* ---- checks ---- */

static const char *check_pair(const struct tls_cert *c)
{
    if (X509_check_private_key(c->leaf, c->key) == 1)
        return NULL;
    ERR_clear_error();
    for (int i = 0; i < sk_X509_num(c->chain); i++) {
        bool fits = X509_check_private_key(sk_X509_value(c->chain, i), c->key) == 1;
        ERR_clear_error();
        if (fits)
            return "the certificates are in the wrong order: the one that the key belongs to must "
                   "be the first in the file, the intermediates behind it";
    }
    return "the key does not belong to the certificate: give the key that the certificate was "
           "requested with";
}

static const char *check_strength(const struct tls_cert *c)
{
    int type = EVP_PKEY_get_base_id(c->key);
    if (type != EVP_PKEY_RSA && type != EVP_PKEY_RSA_PSS && type != EVP_PKEY_EC &&
        type != EVP_PKEY_ED25519 && type != EVP_PKEY_ED448)
        return "TLS does not know this type of key: use an EC key (P-256) or RSA with 2048 bits or "
               "more";
    if (EVP_PKEY_get_security_bits(c->key) < SECURITY_BITS)
        return tls_sentence(
            "the key is too weak (%d bits), clients refuse it: use an EC key (P-256) or RSA "
            "with 2048 bits or more",
            EVP_PKEY_get_bits(c->key));
    int n = c->chain ? sk_X509_num(c->chain) : 0;
    for (int i = -1; i < n; i++) {
        X509 *x = i < 0 ? c->leaf : sk_X509_value(c->chain, i);
        int bits = 0;
        if (X509_get_extension_flags(x) & EXFLAG_SS)
            continue; /* a root's own signature is of no use to anyone */
        if (X509_get_signature_info(x, NULL, NULL, &bits, NULL) == 1 && bits < SECURITY_BITS)
            return "a certificate of the chain is signed with a broken hash (SHA-1 or MD5): "
                   "clients refuse it, have it issued again with SHA-256";
        EVP_PKEY *pub = X509_get0_pubkey(x);
        if (!pub || EVP_PKEY_get_security_bits(pub) < SECURITY_BITS)
            return "the key of an intermediate certificate is too weak or unknown: have the chain "
                   "issued again";
    }
    ERR_clear_error();
    return NULL;
}

static int64_t seconds_of(const ASN1_TIME *t)
{
    int days = 0, seconds = 0;
    ASN1_TIME *epoch = ASN1_TIME_set(NULL, 0);
    ASSERT(epoch);
    bool fine = ASN1_TIME_diff(&days, &seconds, epoch, t) == 1;
    ASN1_TIME_free(epoch);
    return fine ? (int64_t)days * 86400 + seconds : 0;
}

/* One subjectAltName as the tables want it; empty for what no client compares. */
static struct str san_text(const GENERAL_NAME *g, char mem[TLS_HOST_MAX + 1])
{
    struct str out = STR_NULL;
    if (g->type == GEN_IPADD) {
        int n = ASN1_STRING_length(g->d.iPAddress);
        if ((n == 4 || n == 16) &&
            inet_ntop(n == 4 ? AF_INET : AF_INET6, ASN1_STRING_get0_data(g->d.iPAddress), mem,
                      TLS_HOST_MAX))
            out = str_of(mem);
        return out;
    }
    if (g->type != GEN_DNS)
        return out;
    struct str dns = {(const char *)ASN1_STRING_get0_data(g->d.dNSName),
                      (size_t)ASN1_STRING_length(g->d.dNSName)};
    bool wild = str_starts(dns, STR("*."));
    if (tls_host_canonical(str_sub(dns, wild ? 2 : 0, dns.n), mem, &out) != TLS_HOST_DNS)
        return STR_NULL;
    if (!wild)
        return out;
    if (out.n + 2 > TLS_HOST_MAX)
        return STR_NULL;
    memmove(mem + 2, mem, out.n + 1);
    mem[0] = '*';
    mem[1] = '.';
    return (struct str){mem, out.n + 2};
}

static const char *read_names(struct tls_cert *c)
{
    GENERAL_NAMES *all = X509_get_ext_d2i(c->leaf, NID_subject_alt_name, NULL, NULL);
    int n = all ? sk_GENERAL_NAME_num(all) : 0;
    if (n > 0)
        c->names = arena_zarray(c->arena, struct str, (size_t)n);
    for (int i = 0; i < n; i++) {
        char mem[TLS_HOST_MAX + 1];
        struct str s = san_text(sk_GENERAL_NAME_value(all, i), mem);
        if (s.n)
            c->names[c->n_names++] = arena_str(c->arena, s);
    }
    GENERAL_NAMES_free(all);
    ERR_clear_error();
    if (c->n_names == 0)
        return "the certificate names no host (no subjectAltName with a DNS name or an address; "
               "clients do not look at the common name): have it issued again with the host in it";
    return NULL;
}

static const char *read_facts(struct tls_cert *c)
{
    unsigned n = 0;
    /* The caches that OpenSSL fills at first use are filled now, not in a handshake. */
    X509_check_purpose(c->leaf, -1, 0);
    ASSERT(X509_digest(c->leaf, EVP_sha256(), c->digest, &n) == 1 && n == sizeof c->digest);
    for (int i = 0; i < sk_X509_num(c->chain); i++)
        X509_check_purpose(sk_X509_value(c->chain, i), -1, 0);
    c->not_before = seconds_of(X509_get0_notBefore(c->leaf));
    c->not_after = seconds_of(X509_get0_notAfter(c->leaf));
    const char *err = check_pair(c);
    if (!err)
        err = check_strength(c);
    return err ? err : read_names(c);
}

/* ---- the objects ---- */

static void cert_free(struct tls_cert *c)
{
    X509_free(c->leaf);
    EVP_PKEY_free(c->key);
    sk_X509_pop_free(c->chain, X509_free);
    struct arena *a = c->arena;
    arena_free(&a);
}

static bool same_chain(const struct tls_cert *a, const struct tls_cert *b)
{
    int n = a->chain ? sk_X509_num(a->chain) : 0;
    if (n != (b->chain ? sk_X509_num(b->chain) : 0))
        return false;
    for (int i = 0; i < n; i++)
        if (X509_cmp(sk_X509_value(a->chain, i), sk_X509_value(b->chain, i)) != 0)
            return false;
    return true;
}

static struct str digest_str(const struct tls_cert *c)
{
    return (struct str){(const char *)c->digest, sizeof c->digest};
}

struct tls_cert *tls_cert_parse(struct str chain_pem, struct str key_pem, const char **err)
{
    if (chain_pem.n > PEM_MAX || key_pem.n > PEM_MAX) {
        *err = "the file is larger than 1 MiB: that is no certificate";
        return NULL;
    }
    struct arena *a = arena_new(1024);
    struct tls_cert *c = arena_znew(a, struct tls_cert);
    c->arena = a;
    c->refs = 1;
    *err = read_chain(c, chain_pem);
    if (!*err)
        *err = read_key(c, key_pem.n ? key_pem : chain_pem);
    if (!*err)
        *err = read_facts(c);
    if (*err) {
        cert_free(c);
        return NULL;
    }
    /* A reload with the same files gives the same objects, so that connections stay good for their
     * hosts. */
    struct tls_cert *old = tls_map_get(&by_digest, digest_str(c));
    if (old && same_chain(old, c)) {
        cert_free(c);
        return tls_cert_ref(old);
    }
    tls_map_put(&by_digest, digest_str(c), c);
    return c;
}

struct tls_cert *tls_cert_ref(struct tls_cert *c)
{
    ASSERT(c->refs > 0 && c->refs < UINT32_MAX);
    c->refs++;
    return c;
}

void tls_cert_unref(struct tls_cert **c)
{
    struct tls_cert *gone = *c;
    *c = NULL;
    if (!gone)
        return;
    ASSERT(gone->refs > 0);
    if (--gone->refs > 0)
        return;
    /* One with the same leaf and another chain may have taken the place. */
    if (tls_map_get(&by_digest, digest_str(gone)) == gone)
        tls_map_del(&by_digest, digest_str(gone));
    cert_free(gone);
}

const uint8_t *tls_cert_digest(const struct tls_cert *c)
{
    return c->digest;
}

/* RFC 9525 6.3: a wildcard is the whole left-most label and stands for exactly one label. */
static bool name_covers(struct str name, struct str host)
{
    if (!str_starts(name, STR("*.")))
        return str_eq(name, host);
    size_t dot = str_chr(host, '.');
    return dot > 0 && dot < host.n && str_eq(str_sub(name, 1, name.n), str_sub(host, dot, host.n));
}

bool tls_cert_covers(const struct tls_cert *c, struct str host)
{
    char mem[TLS_HOST_MAX + 1];
    struct str want;
    bool wild = str_starts(host, STR("*."));
    enum tls_host_kind kind = tls_host_canonical(str_sub(host, wild ? 2 : 0, host.n), mem, &want);
    if (kind == TLS_HOST_BAD || (wild && kind != TLS_HOST_DNS))
        return false;
    for (unsigned i = 0; i < c->n_names; i++) {
        struct str name = c->names[i];
        bool same_wild = str_starts(name, STR("*.")) && str_eq(str_sub(name, 2, name.n), want);
        if (wild ? same_wild : kind == TLS_HOST_IP ? str_eq(name, want) : name_covers(name, want))
            return true;
    }
    return false;
}
