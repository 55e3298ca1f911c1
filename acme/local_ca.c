/*
 * local_ca.c - the local certificate authority: its root, made once, and the leaves it signs. Where
 * leaves lie on disk is cert_store.c's; when they are asked for anew is the agent's.
 */
#include "acme/local_ca.h"

#include <arpa/inet.h>
#include <jansson.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "acme/cert_store.h"
#include "acme/pem.h"
#include "base/file.h"
#include "base/log.h"

#define DAY      ((int64_t)86400)
#define BACKDATE 3600 /* clocks of phones and virtual machines run late */
#define CN_MAX   64   /* X.520's upper bound for a common name */
#define PEM_MAX  (64 * 1024)

struct local_ca {
    struct arena *arena; /* holds this struct */
    const char *state;
    const char *shown; /* in messages: its full name */
    X509 *root;
    EVP_PKEY *key;
};

/* ---- words ---- */

/* A text that names paths below the state folder, with the folder's full name. */
static const char *in_full(const struct local_ca *ca, struct arena *a, const char *text)
{
    return file_in_full(a, text, ca->state, ca->shown);
}

/* ---- making certificates ---- */

static void add_extension(X509 *x, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, issuer, x, NULL, NULL, 0);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    ASSERT(e && X509_add_ext(x, e, -1) == 1);
    X509_EXTENSION_free(e);
}

/* The parts that root and leaf share; 128 random bits of serial, as CAs do it. */
static X509 *cert_new(EVP_PKEY *key, const char *cn, int64_t now, int64_t not_after)
{
    X509 *x = X509_new();
    BIGNUM *serial = BN_new();
    ASSERT(x && serial && X509_set_version(x, X509_VERSION_3) == 1);
    ASSERT(BN_rand(serial, 128, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) == 1);
    ASSERT(BN_to_ASN1_INTEGER(serial, X509_get_serialNumber(x)));
    BN_free(serial);
    ASSERT(X509_set_pubkey(x, key) == 1);
    ASSERT(ASN1_TIME_set(X509_getm_notBefore(x), (time_t)(now - BACKDATE)));
    ASSERT(ASN1_TIME_set(X509_getm_notAfter(x), (time_t)not_after));
    if (*cn)
        ASSERT(X509_NAME_add_entry_by_NID(X509_get_subject_name(x), NID_commonName, MBSTRING_UTF8,
                                          (const unsigned char *)cn, -1, -1, 0) == 1);
    return x;
}

static EVP_PKEY *key_new(void)
{
    EVP_PKEY *k = EVP_EC_gen("P-256");
    ASSERT(k);
    return k;
}

/* People find it in their trust store by this name: it says which machine made it. */
static const char *root_cn(char cn[CN_MAX + 1])
{
    char host[256] = "";
    if (gethostname(host, sizeof host - 1) < 0)
        host[0] = '\0';
    struct out o = out_on(cn, CN_MAX);
    out_lit(&o, "headgate local CA ");
    for (const char *p = host; *p; p++)
        if (*p > ' ' && *p < 0x7f)
            out_char(&o, *p);
    cn[o.n] = '\0';
    return cn;
}

static X509 *root_make(EVP_PKEY *key)
{
    char cn[CN_MAX + 1];
    int64_t now = wall_s();
    X509 *x = cert_new(key, root_cn(cn), now, now + LOCAL_CA_ROOT_DAYS * DAY);
    ASSERT(X509_set_issuer_name(x, X509_get_subject_name(x)) == 1);
    add_extension(x, x, NID_basic_constraints, "critical,CA:TRUE,pathlen:0");
    add_extension(x, x, NID_key_usage, "critical,keyCertSign,cRLSign");
    add_extension(x, x, NID_subject_key_identifier, "hash");
    ASSERT(X509_sign(x, key, EVP_sha256()) > 0);
    return x;
}

/* What stands in the certificate for a host of the configuration. */
struct leaf_name {
    const char *text;  /* "www.localhost", "*.lan", "::1" */
    const char *probe; /* a name that the certificate must cover */
    bool ip;
};

/* Letters, digits, hyphens, underscores; no label is empty; "*." may lead. */
static bool is_dns_name(const char *z)
{
    size_t n = strlen(z), label = 0;
    if (strncmp(z, "*.", 2) == 0)
        z += 2;
    for (; *z; z++) {
        char c = ascii_lower(*z);
        if (c == '.' && label == 0)
            return false;
        if (c != '.' && !(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '-' && c != '_')
            return false;
        label = c == '.' ? 0 : label + 1;
    }
    return label > 0 && n <= 253;
}

static const char *leaf_name(struct arena *a, struct str host, struct leaf_name *out)
{
    unsigned char raw[16];
    struct str bare = host;
    if (host.n >= 2 && host.p[0] == '[')
        bare = str_sub(host, 1, host.n - 1);
    if (str_eq(host, STR("*")))
        bare = STR("localhost"); /* nothing else is true of every name */
    const char *text = arena_strz(a, bare);
    *out = (struct leaf_name){.text = text, .probe = text};
    out->ip = inet_pton(AF_INET, text, raw) == 1 || inet_pton(AF_INET6, text, raw) == 1;
    if (strlen(text) != bare.n || (!out->ip && !is_dns_name(text)))
        return arena_fmt(a,
                         "the local CA cannot issue for `" STR_FMT "`: that is no name of a host",
                         STR_ARG(host))
            .p;
    if (text[0] == '*')
        out->probe = arena_fmt(a, "any%s", text + 1).p;
    return NULL;
}

static X509 *leaf_make(struct local_ca *ca, struct arena *a, const struct leaf_name *name,
                       EVP_PKEY *key)
{
    int64_t now = wall_s();
    int64_t end = MIN(now + LOCAL_CA_LEAF_DAYS * DAY, pem_seconds(X509_get0_notAfter(ca->root)));
    bool cn = strlen(name->text) <= CN_MAX;
    X509 *x = cert_new(key, cn ? name->text : "", now, end);
    ASSERT(X509_set_issuer_name(x, X509_get_subject_name(ca->root)) == 1);
    add_extension(x, ca->root, NID_basic_constraints, "critical,CA:FALSE");
    add_extension(x, ca->root, NID_key_usage, "critical,digitalSignature");
    add_extension(x, ca->root, NID_ext_key_usage, "serverAuth");
    add_extension(x, ca->root, NID_subject_key_identifier, "hash");
    add_extension(x, ca->root, NID_authority_key_identifier, "keyid:always");
    /* RFC 5280 4.2.1.6: critical when it is the only name. */
    add_extension(
        x, ca->root, NID_subject_alt_name,
        arena_fmt(a, "%s%s:%s", cn ? "" : "critical,", name->ip ? "IP" : "DNS", name->text).p);
    ASSERT(X509_sign(x, ca->key, EVP_sha256()) > 0);
    return x;
}

/* ---- the root on disk ---- */

struct root_paths {
    const char *dir, *crt, *key;
};

static const char *root_store(struct arena *a, const struct root_paths *p, EVP_PKEY *key,
                              X509 *root)
{
    /* The key first: a key without a certificate is a making that was cut off, and is finished
     * later. */
    struct str secret = pem_of_key(a, key);
    const char *err = file_write(a, p->key, secret, 0600);
    pem_wipe(secret);
    if (!err)
        err = file_write(a, p->crt, pem_of_cert(a, root), 0644);
    return err;
}

/* `key` is used when it is given (and becomes the CA's), else made. */
static const char *root_new(struct local_ca *ca, struct arena *a, const struct root_paths *p,
                            EVP_PKEY *key)
{
    ca->key = key ? key : key_new();
    ca->root = root_make(ca->key);
    const char *err = root_store(a, p, ca->key, ca->root);
    if (!err)
        log_info("local CA made: let browsers trust its certificate", "cert", "%s",
                 in_full(ca, a, p->crt));
    return err;
}

static const char *damaged(struct arena *a, const struct root_paths *p, const char *what)
{
    return arena_fmt(a,
                     "the local CA is damaged: %s. Bring %s and %s back from a backup, or remove "
                     "both and "
                     "a new one is made (clients must then trust the new certificate)",
                     what, p->crt, p->key)
        .p;
}

/* The folder's owner is who wrote the root; a key that others can read is worth a word. */
static void check_mode(const struct local_ca *ca, struct arena *a, const char *path)
{
    struct stat st;
    if (stat(path, &st) == 0 && (st.st_mode & 077))
        log_warn("the local CA's key can be read by others: chmod 600 it", "key", "%s",
                 in_full(ca, a, path));
}

static const char *root_check(struct local_ca *ca, struct arena *a, const struct root_paths *p)
{
    if (!ca->key)
        return damaged(a, p, arena_fmt(a, "%s holds no private key", p->key).p);
    if (!ca->root)
        return damaged(a, p, arena_fmt(a, "%s holds no certificate", p->crt).p);
    bool fits = X509_check_private_key(ca->root, ca->key) == 1;
    ERR_clear_error();
    if (!fits)
        return damaged(a, p, arena_fmt(a, "%s is not the key of %s", p->key, p->crt).p);
    if (X509_check_ca(ca->root) != 1)
        return damaged(a, p, arena_fmt(a, "%s is not the certificate of a CA", p->crt).p);
    check_mode(ca, a, p->key);
    return NULL;
}

static void root_drop(struct local_ca *ca)
{
    X509_free(ca->root);
    EVP_PKEY_free(ca->key);
    ca->root = NULL;
    ca->key = NULL;
}

static const char *root_load(struct local_ca *ca, struct arena *a, const struct root_paths *p)
{
    struct str crt = STR_NULL, key = STR_NULL;
    const char *err = file_read(a, p->key, PEM_MAX, &key);
    if (err)
        return err;
    ca->key = pem_key(key);
    pem_wipe(key);
    if (!ca->key)
        return root_check(ca, a, p);
    if (access(p->crt, F_OK) < 0 && errno == ENOENT)
        return root_new(ca, a, p, ca->key);
    err = file_read(a, p->crt, PEM_MAX, &crt);
    if (err)
        return err;
    ca->root = pem_cert(crt);
    err = root_check(ca, a, p);
    if (err)
        return err;
    if (pem_seconds(X509_get0_notAfter(ca->root)) > wall_s())
        return NULL;
    log_error("the local CA has expired and is made anew: clients must trust the new certificate",
              "cert", "%s", in_full(ca, a, p->crt));
    root_drop(ca);
    /* The certificate goes first: cut off here, a key without one is finished by the next start. */
    if (unlink(p->crt) < 0)
        return file_error(a, errno, "remove", p->crt);
    return root_new(ca, a, p, NULL);
}

static const char *root_open(struct local_ca *ca, struct arena *a)
{
    struct root_paths p = {.dir = arena_fmt(a, "%s/ca", ca->state).p};
    p.crt = arena_fmt(a, "%s/root.crt", p.dir).p;
    p.key = arena_fmt(a, "%s/root.key", p.dir).p;
    const char *err = file_mkdirs(a, p.dir, 0755, (uid_t)-1, (gid_t)-1);
    if (err)
        return err;
    bool no_key = access(p.key, F_OK) < 0 && errno == ENOENT;
    bool no_crt = access(p.crt, F_OK) < 0 && errno == ENOENT;
    if (no_key && no_crt)
        return root_new(ca, a, &p, NULL);
    if (no_key)
        return damaged(a, &p, arena_fmt(a, "there is no %s", p.key).p);
    return root_load(ca, a, &p);
}

struct local_ca *local_ca_open(struct arena *a, const char *state, const char **err)
{
    struct arena *own = arena_new(1024);
    struct local_ca *ca = arena_znew(own, struct local_ca);
    ca->arena = own;
    ca->state = ca->shown = arena_strz(own, str_of(state));
    char *cwd = strcmp(state, ".") == 0 ? getcwd(NULL, 0) : NULL;
    if (cwd)
        ca->shown = arena_strz(own, str_of(cwd));
    free(cwd);
    *err = in_full(ca, a, root_open(ca, a));
    if (*err)
        local_ca_close(&ca);
    return ca;
}

void local_ca_close(struct local_ca **cap)
{
    struct local_ca *ca = *cap;
    *cap = NULL;
    if (!ca)
        return;
    root_drop(ca);
    struct arena *own = ca->arena;
    arena_free(&own);
}

/* ---- leaves ---- */

int64_t local_ca_renew_at(int64_t not_before, int64_t not_after)
{
    return not_after - MAX(not_after - not_before, 0) / 3;
}

static bool covers(X509 *x, const struct leaf_name *name)
{
    unsigned flags = X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT;
    return name->ip ? X509_check_ip_asc(x, name->text, flags) == 1
                    : X509_check_host(x, name->probe, 0, flags, NULL) == 1;
}

/* Signed by this root, for this host, with its key, and not due for renewal. */
static bool still_good(struct local_ca *ca, const struct leaf_name *name, X509 *x, EVP_PKEY *key)
{
    if (!x || !key)
        return false;
    int64_t from = pem_seconds(X509_get0_notBefore(x)), to = pem_seconds(X509_get0_notAfter(x));
    int64_t now = wall_s();
    bool good = now >= from && now < local_ca_renew_at(from, to) && covers(x, name) &&
                X509_check_issued(ca->root, x) == X509_V_OK && X509_verify(x, ca->key) == 1 &&
                X509_check_private_key(x, key) == 1;
    ERR_clear_error();
    return good;
}

static struct str join(struct arena *a, struct str cert, struct str key)
{
    return arena_fmt(a, STR_FMT STR_FMT, STR_ARG(cert), STR_ARG(key));
}

static void leaf_times(struct local_leaf *leaf, const X509 *x)
{
    leaf->not_after = pem_seconds(X509_get0_notAfter(x));
    leaf->renew_at = local_ca_renew_at(pem_seconds(X509_get0_notBefore(x)), leaf->not_after);
}

/* False when there is none, or none that is good any more. */
static bool leaf_stored(struct local_ca *ca, struct arena *a, struct str host,
                        const struct leaf_name *name, struct local_leaf *leaf)
{
    struct cert_unit unit = {0};
    bool found;
    const char *err = cert_store_read(a, ca->state, "local", host, &unit, &found);
    if (err)
        log_warn("stored certificate cannot be read, a new one is made", "host", "%s", name->text,
                 "error", "%s", in_full(ca, a, err));
    if (err || !found) {
        pem_wipe(unit.key_pem);
        return false;
    }
    X509 *x = pem_cert(unit.cert_pem);
    EVP_PKEY *key = pem_key(unit.key_pem);
    bool good = still_good(ca, name, x, key);
    if (good) {
        leaf->pem = join(a, unit.cert_pem, unit.key_pem);
        leaf_times(leaf, x);
    }
    pem_wipe(unit.key_pem);
    X509_free(x);
    EVP_PKEY_free(key);
    return good;
}

static struct str meta_json(struct arena *a, const struct leaf_name *name, X509 *x)
{
    json_t *j = json_pack("{s:s, s:s, s:I, s:I}", "host", name->text, "issuer", "local",
                          "not_before", (json_int_t)pem_seconds(X509_get0_notBefore(x)),
                          "not_after", (json_int_t)pem_seconds(X509_get0_notAfter(x)));
    char *text = json_dumps(j, JSON_INDENT(2));
    ASSERT(text);
    struct str out = arena_fmt(a, "%s\n", text);
    free(text);
    json_decref(j);
    return out;
}

const char *local_ca_leaf(struct local_ca *ca, struct arena *a, struct str host,
                          struct local_leaf *leaf)
{
    struct leaf_name name;
    const char *err = leaf_name(a, host, &name);
    if (err)
        return err;
    if (leaf_stored(ca, a, host, &name, leaf))
        return NULL;
    if (pem_seconds(X509_get0_notAfter(ca->root)) <= wall_s())
        return "the local CA has expired: restart headgate, and it makes a new one";
    EVP_PKEY *key = key_new();
    X509 *x = leaf_make(ca, a, &name, key);
    struct cert_unit unit = {pem_of_cert(a, x), pem_of_key(a, key), meta_json(a, &name, x)};
    leaf->pem = join(a, unit.cert_pem, unit.key_pem);
    leaf_times(leaf, x);
    /* A full disk is no reason to leave the host without TLS: the leaf is as good unstored. */
    err = cert_store_write(a, ca->state, "local", host, &unit);
    if (err)
        log_error("certificate cannot be stored: it serves until the next restart", "host", "%s",
                  name.text, "error", "%s", in_full(ca, a, err));
    pem_wipe(unit.key_pem);
    X509_free(x);
    EVP_PKEY_free(key);
    return NULL;
}
