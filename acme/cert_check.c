/*
 * cert_check.c - is a chain one that every client takes? The strictest known opinion on each point
 * wins (browsers', Go's, rustls', Python's strict OpenSSL), but for the lifetime: how long is the
 * CA's choice. Each refusal is a sentence; at the end OpenSSL's own strict verification has to
 * agree, which also knows name constraints and policies.
 */
#include "acme/cert_check.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "acme/jose.h"
#include "acme/pem.h"

#define CERTS_MAX      8 /* a leaf, what signed it, a root: three are common, four are rare */
#define EXTENSIONS_MAX 64
#define NAME_MAX_SHOWN 128 /* bytes of a common name */
#define RSA_MIN_BITS   2048
#define RSA_MAX_BITS   8192
#define SERIAL_MAX     20 /* bytes, RFC 5280 4.1.2.2 */
#define SECURITY_LEVEL 2  /* OpenSSL's security level: 112 bits at least */

struct chain {
    struct arena *a; /* for sentences */
    X509 *x[CERTS_MAX];
    unsigned n;
};

/* ---- words ---- */

/* Bytes from a CA, for logs and terminals. */
static struct str harmless(struct arena *a, const unsigned char *p, size_t n)
{
    char clean[NAME_MAX_SHOWN], wide[3 * NAME_MAX_SHOWN];
    struct out o = out_on(wide, sizeof(wide));
    n = MIN(n, sizeof(clean));
    for (size_t i = 0; i < n; i++)
        clean[i] = p[i] < ' ' || p[i] == 0x7f ? '?' : (char)p[i];
    out_utf8(&o, (struct str){clean, n});
    return arena_str(a, out_done(&o));
}

/* The common name, else the organisation; empty when it has neither. */
static struct str name_of(struct arena *a, const X509_NAME *name)
{
    static const int parts[] = {NID_commonName, NID_organizationName};
    for (unsigned i = 0; i < ARRAY_LEN(parts); i++) {
        int at = X509_NAME_get_index_by_NID(name, parts[i], -1);
        unsigned char *text = NULL;
        int n = at < 0 ? -1
                       : ASN1_STRING_to_UTF8(
                             &text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at)));
        struct str out = n > 0 ? harmless(a, text, (size_t)n) : STR_NULL;
        OPENSSL_free(text);
        if (out.n)
            return out;
    }
    return STR("");
}

/* "the certificate", "the chain's 2nd certificate (R3)" */
static const char *who(const struct chain *c, unsigned i)
{
    static const char *const nth[] = {"", "2nd", "3rd", "4th", "5th", "6th", "7th", "8th"};
    _Static_assert(ARRAY_LEN(nth) == CERTS_MAX, "a word for each");
    if (i == 0)
        return "the certificate";
    struct str cn = name_of(c->a, X509_get_subject_name(c->x[i]));
    return arena_fmt(c->a, "the chain's %s certificate (" STR_FMT ")", nth[i],
                     STR_ARG(cn.n ? cn : STR("without a name")))
        .p;
}

static const char *moment(struct arena *a, int64_t t)
{
    char text[64];
    struct out o = out_on(text, sizeof(text));
    out_utc(&o, t);
    return arena_strz(a, out_done(&o));
}

/* ---- reading ---- */

/*
 * DER and nothing else: what OpenSSL reads leniently (BER, bytes behind the end) other clients do
 * not.
 */
static X509 *read_der(const unsigned char *der, long n)
{
    const unsigned char *p = der;
    unsigned char *again = NULL;
    X509 *x = d2i_X509(NULL, &p, n);
    int back = x ? i2d_X509(x, &again) : -1;
    bool same = back == n && p == der + n && memcmp(again, der, (size_t)n) == 0;
    OPENSSL_free(again);
    if (!same) {
        X509_free(x);
        x = NULL;
    }
    return x;
}

/* One block of the text; a sentence when it is no certificate. */
static const char *add_block(struct chain *c, const char *name, const char *header,
                             const unsigned char *der, long n)
{
    if (strcmp(name, "CERTIFICATE") != 0 || *header)
        return arena_fmt(c->a, "among the certificates there is a block that is none (" STR_FMT ")",
                         STR_ARG(harmless(c->a, (const unsigned char *)name, strlen(name))))
            .p;
    if (c->n == CERTS_MAX)
        return arena_fmt(c->a, "the chain has more than %d certificates", CERTS_MAX).p;
    c->x[c->n] = read_der(der, n);
    if (!c->x[c->n])
        return arena_fmt(c->a, "certificate number %u of the chain is damaged: it is no DER",
                         c->n + 1)
            .p;
    c->n++;
    return NULL;
}

static const char *read_chain(struct chain *c, struct str pem)
{
    const char *err = NULL;
    char *name = NULL, *header = NULL;
    unsigned char *der = NULL;
    long n = 0;
    if (pem.n > CERT_CHAIN_MAX)
        return arena_fmt(c->a, "the chain has more than %d KiB", CERT_CHAIN_MAX / 1024).p;
    BIO *b = BIO_new_mem_buf(pem.n ? pem.p : "", (int)pem.n);
    ASSERT(b);
    while (!err && PEM_read_bio(b, &name, &header, &der, &n) == 1) {
        err = add_block(c, name, header, der, n);
        OPENSSL_free(name);
        OPENSSL_free(header);
        OPENSSL_free(der);
    }
    BIO_free(b);
    bool at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
    ERR_clear_error();
    if (!err && !at_end)
        err =
            arena_fmt(c->a, "certificate number %u of the chain is damaged: it is no PEM", c->n + 1)
                .p;
    return !err && c->n == 0 ? "there is no certificate in what the CA sent" : err;
}

/* ---- the leaf ---- */

static const char *check_order(const struct chain *c)
{
    X509 *leaf = c->x[0];
    /* The second alone is no CA for those who look at the key usage too. */
    if (X509_check_ca(leaf) == 0 && !(X509_get_extension_flags(leaf) & EXFLAG_CA))
        return NULL;
    struct str cn = name_of(c->a, X509_get_subject_name(leaf));
    return arena_fmt(c->a,
                     "the first certificate is that of a CA (" STR_FMT
                     "): the chain is in the wrong order, or the host's own is missing",
                     STR_ARG(cn))
        .p;
}

static const char *check_key(const struct chain *c, struct str key_pem)
{
    EVP_PKEY *key = pem_key(key_pem);
    if (!key)
        return "the key that it was ordered for cannot be read";
    bool fits = X509_check_private_key(c->x[0], key) == 1;
    EVP_PKEY_free(key);
    ERR_clear_error();
    return fits ? NULL : "the certificate is for another key than the one that was sent";
}

static struct str san_text(struct arena *a, const GENERAL_NAME *g)
{
    int kind = 0;
    const ASN1_STRING *s = GENERAL_NAME_get0_value(g, &kind);
    if (kind != GEN_DNS && kind != GEN_EMAIL && kind != GEN_URI)
        return kind == GEN_IPADD ? STR("an IP address") : STR("a name of another kind");
    return harmless(a, ASN1_STRING_get0_data(s), (size_t)ASN1_STRING_length(s));
}

/* Exactly the host, byte by byte, and nothing else. */
static const char *check_names(const struct chain *c, struct str host)
{
    const char *err = NULL;
    int seen = 0;
    GENERAL_NAMES *all = X509_get_ext_d2i(c->x[0], NID_subject_alt_name, &seen, NULL);
    int n = all ? sk_GENERAL_NAME_num(all) : 0;
    if (n == 0)
        err = seen == -1 ? "the certificate names no host: it has no subject alternative name"
                         : "the certificate's subject alternative name cannot be read";
    for (int i = 0; i < n && !err; i++) {
        const GENERAL_NAME *g = sk_GENERAL_NAME_value(all, i);
        int kind = 0;
        const ASN1_STRING *s = GENERAL_NAME_get0_value(g, &kind);
        struct str name = STR_NULL;
        if (kind == GEN_DNS)
            name =
                (struct str){(const char *)ASN1_STRING_get0_data(s), (size_t)ASN1_STRING_length(s)};
        if (!str_eq(name, host))
            err = arena_fmt(c->a,
                            "the certificate is for " STR_FMT "%s, where " STR_FMT
                            " alone was asked for",
                            STR_ARG(san_text(c->a, g)), n > 1 ? " too" : "", STR_ARG(host))
                      .p;
        else if (i > 0)
            err = "the certificate has its name twice";
    }
    GENERAL_NAMES_free(all);
    ERR_clear_error();
    return err;
}

static const char *check_use(const struct chain *c)
{
    X509 *x = c->x[0];
    uint32_t flags = X509_get_extension_flags(x);
    if ((flags & EXFLAG_KUSAGE) && !(X509_get_key_usage(x) & KU_DIGITAL_SIGNATURE))
        return "the certificate's key must not sign (key usage), so no TLS server can use it";
    if (!(flags & EXFLAG_XKUSAGE) || !(X509_get_extended_key_usage(x) & XKU_SSL_SERVER))
        return "the certificate is none for a TLS server (extended key usage)";
    /* RFC 7633: who sees it and no stapled answer of OCSP hangs up; nobody asked for it. */
    if (X509_get_ext_by_NID(x, NID_tlsfeature, -1) >= 0)
        return "the certificate demands OCSP stapling (TLS feature), which was not asked for";
    return NULL;
}

/* ---- each certificate ---- */

static const char *check_dates(const struct chain *c, unsigned i, int64_t now)
{
    int64_t from = pem_seconds(X509_get0_notBefore(c->x[i]));
    int64_t to = pem_seconds(X509_get0_notAfter(c->x[i]));
    if (from == 0 || to == 0)
        return arena_fmt(c->a, "%s has a date that cannot be read", who(c, i)).p;
    if (now < from)
        return arena_fmt(c->a,
                         "%s is not valid before %s, and here it is %s: one of the clocks is wrong",
                         who(c, i), moment(c->a, from), moment(c->a, now))
            .p;
    if (now >= to)
        return arena_fmt(c->a, "%s expired on %s, and here it is %s", who(c, i), moment(c->a, to),
                         moment(c->a, now))
            .p;
    return NULL;
}

/* What browsers, Go and rustls all take: RSA of a sane size, and two curves by name. */
static const char *check_public_key(const struct chain *c, unsigned i)
{
    EVP_PKEY *k = X509_get0_pubkey(c->x[i]);
    char curve[32] = "";
    int bits = k ? EVP_PKEY_get_bits(k) : 0, spelled_out = 0;
    if (k && EVP_PKEY_is_a(k, "RSA")) {
        if (bits >= RSA_MIN_BITS && bits <= RSA_MAX_BITS)
            return NULL;
        return arena_fmt(c->a, "%s has an RSA key of %d bits; %d to %d are taken by clients",
                         who(c, i), bits, RSA_MIN_BITS, RSA_MAX_BITS)
            .p;
    }
    if (k && EVP_PKEY_is_a(k, "EC")) {
        (void)EVP_PKEY_get_group_name(k, curve, sizeof(curve), NULL);
        (void)EVP_PKEY_get_int_param(k, OSSL_PKEY_PARAM_EC_DECODED_FROM_EXPLICIT_PARAMS,
                                     &spelled_out);
        if (!spelled_out &&
            (strcmp(curve, SN_X9_62_prime256v1) == 0 || strcmp(curve, SN_secp384r1) == 0))
            return NULL;
    }
    return arena_fmt(c->a,
                     "%s has a key that not every client takes: only RSA, P-256 and P-384 are safe",
                     who(c, i))
        .p;
}

static const char *check_signature_kind(const struct chain *c, unsigned i)
{
    int nid = X509_get_signature_nid(c->x[i]);
    switch (nid) {
    case NID_sha256WithRSAEncryption:
    case NID_sha384WithRSAEncryption:
    case NID_sha512WithRSAEncryption:
    case NID_ecdsa_with_SHA256:
    case NID_ecdsa_with_SHA384:
    case NID_ecdsa_with_SHA512:
        return NULL;
    default:
        return arena_fmt(c->a, "%s is signed by %s, which clients refuse", who(c, i),
                         nid == NID_undef ? "an unknown algorithm" : OBJ_nid2ln(nid))
            .p;
    }
}

static const char *check_serial(const struct chain *c, unsigned i)
{
    const ASN1_INTEGER *s = X509_get0_serialNumber(c->x[i]);
    const unsigned char *p = ASN1_STRING_get0_data(s);
    int n = ASN1_STRING_length(s);
    bool positive = ASN1_STRING_type(s) == V_ASN1_INTEGER && n > 0 && (n > 1 || p[0] != 0);
    /* A first bit that is set costs a byte more in DER. */
    if (positive && n + (p[0] >> 7) <= SERIAL_MAX)
        return NULL;
    return arena_fmt(c->a, "%s has a serial number that is not allowed (RFC 5280 4.1.2.2)",
                     who(c, i))
        .p;
}

static const char *check_extensions(const struct chain *c, unsigned i)
{
    X509 *x = c->x[i];
    int n = X509_get_ext_count(x);
    if (X509_get_version(x) != X509_VERSION_3 || n > EXTENSIONS_MAX)
        return arena_fmt(c->a, "%s is none of version 3 with at most %d extensions", who(c, i),
                         EXTENSIONS_MAX)
            .p;
    for (int k = 0; k < n; k++) {
        X509_EXTENSION *e = X509_get_ext(x, k);
        char id[80] = "";
        (void)OBJ_obj2txt(id, sizeof(id), X509_EXTENSION_get_object(e), 0);
        if (X509_get_ext_by_OBJ(x, X509_EXTENSION_get_object(e), k) >= 0)
            return arena_fmt(c->a, "%s has an extension twice (%s)", who(c, i), id).p;
        if (X509_EXTENSION_get_critical(e) && !X509_supported_extension(e))
            return arena_fmt(c->a, "%s has a critical extension that clients do not know (%s)",
                             who(c, i), id)
                .p;
    }
    if (X509_get_extension_flags(x) & EXFLAG_INVALID)
        return arena_fmt(c->a, "%s has an extension that cannot be read", who(c, i)).p;
    return NULL;
}

static const char *check_each(const struct chain *c, int64_t now)
{
    const char *err = NULL;
    for (unsigned i = 0; i < c->n && !err; i++) {
        err = check_dates(c, i, now);
        if (!err)
            err = check_serial(c, i);
        if (!err)
            err = check_extensions(c, i);
        if (!err)
            err = check_public_key(c, i);
        /* Nobody looks at how a root signed itself. */
        if (!err && X509_check_issued(c->x[i], c->x[i]) != X509_V_OK)
            err = check_signature_kind(c, i);
    }
    return err;
}

/* ---- the chain ---- */

static bool same_name(const X509_NAME *a, const X509_NAME *b)
{
    const unsigned char *pa, *pb;
    size_t na, nb;
    return X509_NAME_get0_der(a, &pa, &na) == 1 && X509_NAME_get0_der(b, &pb, &nb) == 1 &&
           na == nb && memcmp(pa, pb, na) == 0;
}

/* Names are compared by their bytes, as the stricter clients do. */
static const char *check_link(const struct chain *c, unsigned i)
{
    X509 *x = c->x[i], *by = c->x[i + 1];
    struct str wanted = name_of(c->a, X509_get_issuer_name(x));
    if (!same_name(X509_get_issuer_name(x), X509_get_subject_name(by)))
        return arena_fmt(c->a,
                         "%s was issued by \"" STR_FMT "\", but what follows it is %s: the chain "
                         "is in the wrong order or does not belong together",
                         who(c, i), STR_ARG(wanted), who(c, i + 1))
            .p;
    if (X509_check_ca(by) != 1)
        return arena_fmt(c->a, "%s signed %s without being that of a CA that may", who(c, i + 1),
                         who(c, i))
            .p;
    if (X509_verify(x, X509_get0_pubkey(by)) != 1)
        return arena_fmt(c->a, "the signature of %s is not one by %s", who(c, i), who(c, i + 1)).p;
    int verdict = X509_check_issued(by, x);
    if (verdict != X509_V_OK)
        return arena_fmt(c->a, "%s must not have signed %s: %s", who(c, i + 1), who(c, i),
                         X509_verify_cert_error_string(verdict))
            .p;
    return NULL;
}

static bool self_signed(X509 *x)
{
    return X509_self_signed(x, 0) == 1;
}

static const char *check_links(const struct chain *c)
{
    for (unsigned i = 0; i + 1 < c->n; i++) {
        if (self_signed(c->x[i]))
            return arena_fmt(c->a, "%s is signed by itself, and yet another one follows", who(c, i))
                .p;
        const char *err = check_link(c, i);
        if (err)
            return err;
    }
    if (c->n > 1)
        return NULL;
    if (self_signed(c->x[0]))
        return "the certificate is signed by itself: no client trusts it";
    return arena_fmt(c->a,
                     "the intermediate certificate (" STR_FMT
                     ") is missing: clients that know only the root could not follow the chain",
                     STR_ARG(name_of(c->a, X509_get_issuer_name(c->x[0]))))
        .p;
}

/* The last certificate of the chain stands for the root that a client has. */
static int verify(X509_STORE *store, X509_STORE_CTX *ctx, STACK_OF(X509) * others,
                  const struct chain *c, struct str host, int64_t now)
{
    ASSERT(X509_STORE_add_cert(store, c->x[c->n - 1]) == 1);
    for (unsigned i = 1; i + 1 < c->n; i++)
        ASSERT(sk_X509_push(others, c->x[i]) > 0);
    ASSERT(X509_STORE_CTX_init(ctx, store, c->x[0], others) == 1);
    X509_VERIFY_PARAM *p = X509_STORE_CTX_get0_param(ctx);
    ASSERT(X509_VERIFY_PARAM_set_flags(p, X509_V_FLAG_X509_STRICT | X509_V_FLAG_PARTIAL_CHAIN));
    X509_VERIFY_PARAM_set_time(p, (time_t)now);
    X509_VERIFY_PARAM_set_auth_level(p, SECURITY_LEVEL);
    ASSERT(X509_VERIFY_PARAM_set_purpose(p, X509_PURPOSE_SSL_SERVER) == 1);
    if (!str_starts(host, STR("*"))) {
        X509_VERIFY_PARAM_set_hostflags(p, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
        ASSERT(X509_VERIFY_PARAM_set1_host(p, host.p, host.n) == 1);
    }
    return X509_verify_cert(ctx) == 1 ? X509_V_OK : X509_STORE_CTX_get_error(ctx);
}

static const char *check_strictly(const struct chain *c, struct str host, int64_t now)
{
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    STACK_OF(X509) *others = sk_X509_new_null();
    ASSERT(store && ctx && others);
    const char *err = NULL;
    int verdict = verify(store, ctx, others, c, host, now);
    int depth = X509_STORE_CTX_get_error_depth(ctx);
    if (verdict != X509_V_OK)
        err = arena_fmt(c->a, "strict clients refuse the chain at %s: %s",
                        who(c, (unsigned)MIN(MAX(depth, 0), (int)c->n - 1)),
                        X509_verify_cert_error_string(verdict))
                  .p;
    X509_STORE_CTX_free(ctx);
    X509_STORE_free(store);
    sk_X509_free(others);
    ERR_clear_error();
    return err;
}

static const char *check_chain(const struct chain *c, struct str key_pem, struct str host,
                               int64_t now)
{
    const char *err = check_order(c);
    if (!err)
        err = check_key(c, key_pem);
    if (!err)
        err = check_names(c, host);
    if (!err)
        err = check_each(c, now);
    if (!err)
        err = check_use(c);
    if (!err)
        err = check_links(c);
    return err ? err : check_strictly(c, host, now);
}

/* ---- facts ---- */

/* RFC 9773 4.1: key identifier of the issuer, a dot, the serial number as DER has it. */
static struct str ari_id(struct arena *a, X509 *x)
{
    const ASN1_OCTET_STRING *k = X509_get0_authority_key_id(x);
    unsigned char *der = NULL;
    int n = i2d_ASN1_INTEGER(X509_get0_serialNumber(x), &der);
    ASSERT(n > 2 && n <= 3 + SERIAL_MAX); /* tag and length, a byte each */
    struct str serial = jose_b64(a, (struct str){(const char *)der + 2, (size_t)n - 2});
    OPENSSL_free(der);
    if (!k)
        return STR("");
    struct str issuer = jose_b64(
        a, (struct str){(const char *)ASN1_STRING_get0_data(k), (size_t)ASN1_STRING_length(k)});
    return arena_fmt(a, STR_FMT "." STR_FMT, STR_ARG(issuer), STR_ARG(serial));
}

static struct str der_of(struct arena *a, X509 *x)
{
    unsigned char *der = NULL;
    int n = i2d_X509(x, &der);
    ASSERT(n > 0);
    struct str out = arena_str(a, (struct str){(const char *)der, (size_t)n});
    OPENSSL_free(der);
    return out;
}

static void find_facts(const struct chain *c, struct cert_facts *out)
{
    struct arena *a = c->a;
    X509 *leaf = c->x[0];
    /* Clients have their roots: one in the chain is bytes in each handshake for nothing. */
    unsigned n = self_signed(c->x[c->n - 1]) ? c->n - 1 : c->n;
    *out = (struct cert_facts){
        .leaf_der = der_of(a, leaf),
        .not_before = pem_seconds(X509_get0_notBefore(leaf)),
        .not_after = pem_seconds(X509_get0_notAfter(leaf)),
        .chain_until = INT64_MAX,
        .ari_id = ari_id(a, leaf),
        .issuer = name_of(a, X509_get_issuer_name(leaf)),
        .top = name_of(a, X509_get_issuer_name(c->x[n - 1])),
    };
    for (unsigned i = 0; i < c->n; i++)
        out->chain_until = MIN(out->chain_until, pem_seconds(X509_get0_notAfter(c->x[i])));
    out->pem = STR("");
    for (unsigned i = 0; i < n; i++)
        out->pem =
            arena_fmt(a, STR_FMT STR_FMT, STR_ARG(out->pem), STR_ARG(pem_of_cert(a, c->x[i])));
}

const char *cert_check(struct arena *a, struct str chain_pem, struct str key_pem, struct str host,
                       int64_t now, struct cert_facts *out)
{
    struct chain c = {.a = a};
    const char *err = read_chain(&c, chain_pem);
    if (!err)
        err = check_chain(&c, key_pem, host, now);
    if (!err)
        find_facts(&c, out);
    for (unsigned i = 0; i < c.n; i++)
        X509_free(c.x[i]);
    return err;
}
