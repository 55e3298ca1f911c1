/*
 * load_tls.c - tls: of the top level and of sites; given certificates are read, looked at and tried
 * against their keys, so that a wrong pair never reaches a worker.
 */
#include <limits.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <time.h>

#include "conf/load.h"

#define PEM_MAX      (256 * 1024)
#define EXPIRES_SOON (7 * 86400)

struct cert_list {
    struct conf_cert *v;
    unsigned n, cap;
};

static void add_cert(struct load *l, struct cert_list *list, struct conf_cert c)
{
    if (list->n == list->cap) {
        unsigned cap = list->cap ? list->cap * 2 : 4;
        struct conf_cert *v = arena_zarray(l->a, struct conf_cert, cap);
        if (list->n)
            memcpy(v, list->v, list->n * sizeof(*v));
        list->v = v;
        list->cap = cap;
    }
    list->v[list->n++] = c;
}

/* No terminal is asked for the password of an encrypted key. */
static int no_password(char *buf, int size, int rwflag, void *ctx)
{
    (void)buf;
    (void)size;
    (void)rwflag;
    (void)ctx;
    return -1;
}

static X509 *parse_cert(struct str pem)
{
    BIO *bio = BIO_new_mem_buf(pem.p, (int)MIN(pem.n, (size_t)PEM_MAX));
    X509 *x = bio ? PEM_read_bio_X509(bio, NULL, no_password, NULL) : NULL;
    BIO_free(bio);
    ERR_clear_error();
    return x;
}

static EVP_PKEY *parse_key(struct str pem)
{
    BIO *bio = BIO_new_mem_buf(pem.p, (int)MIN(pem.n, (size_t)PEM_MAX));
    EVP_PKEY *k = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL) : NULL;
    BIO_free(bio);
    ERR_clear_error();
    return k;
}

unsigned tls_count_certs(struct str pem)
{
    BIO *bio = BIO_new_mem_buf(pem.p ? pem.p : "", (int)MIN(pem.n, (size_t)INT_MAX));
    unsigned n = 0;
    X509 *x;
    while (bio && (x = PEM_read_bio_X509(bio, NULL, no_password, NULL))) {
        X509_free(x);
        n++;
    }
    /* The end of the text is the error that ends the loop; any other is one. */
    bool ended = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
    BIO_free(bio);
    ERR_clear_error();
    return ended ? n : 0;
}

static void check_dates(struct load *l, const X509 *x, const struct conf_cert *c,
                        struct diag_place at)
{
    time_t now = time(NULL), soon = now + EXPIRES_SOON;
    if (X509_cmp_time(X509_get0_notAfter(x), &now) < 0)
        diags_add(l->d, "W005", at, "the certificate " STR_FMT " has expired",
                  STR_ARG(c->cert_path));
    else if (X509_cmp_time(X509_get0_notAfter(x), &soon) < 0)
        diags_add(l->d, "W005", at, "the certificate " STR_FMT " expires within a week",
                  STR_ARG(c->cert_path));
    else if (X509_cmp_time(X509_get0_notBefore(x), &now) > 0)
        diags_add(l->d, "W005", at, "the certificate " STR_FMT " is not valid yet",
                  STR_ARG(c->cert_path));
}

bool tls_check_pair(struct load *l, const struct conf_cert *c, struct diag_place cert_at,
                    struct diag_place key_at)
{
    X509 *x = parse_cert(c->cert_pem);
    EVP_PKEY *k = parse_key(c->key_pem);
    bool ok = false;
    if (!x) {
        unsigned id =
            diags_add(l->d, "E062", cert_at, "no certificate in " STR_FMT, STR_ARG(c->cert_path));
        diags_hint(l->d, id, "expected PEM: -----BEGIN CERTIFICATE-----");
    } else if (!k) {
        unsigned id =
            diags_add(l->d, "E062", key_at, "no usable key in " STR_FMT, STR_ARG(c->key_path));
        diags_hint(l->d, id, "expected PEM without a password: -----BEGIN PRIVATE KEY-----");
    } else if (X509_check_private_key(x, k) != 1) {
        unsigned id = diags_add(l->d, "E062", key_at,
                                "the key " STR_FMT " does not belong to the certificate " STR_FMT,
                                STR_ARG(c->key_path), STR_ARG(c->cert_path));
        diags_hint(l->d, id, "the leaf comes first in the chain");
    } else {
        check_dates(l, x, c, cert_at);
        ok = true;
    }
    X509_free(x);
    EVP_PKEY_free(k);
    ERR_clear_error();
    return ok;
}

static void read_pair(struct load *l, struct cert_list *list, struct str cert, struct str key,
                      const struct node *entry)
{
    struct diag_place cert_at = place_of_key(entry, "cert");
    struct diag_place key_at = is_written(entry, "key") ? place_of_key(entry, "key") : cert_at;
    struct conf_cert c = {.cert_path = arena_str(l->a, cert),
                          .key_path = arena_str(l->a, key),
                          .place = place_keep(l, cert_at)};
    const char *err = source_read_cert(l->src, c.cert_path.p, PEM_MAX, &c.cert_pem);
    if (err)
        diags_add(l->d, "E062", cert_at, "%s", err);
    const char *key_err = source_read_cert(l->src, c.key_path.p, PEM_MAX, &c.key_pem);
    if (key_err && !str_eq(cert, key))
        diags_add(l->d, "E062", key_at, "%s", key_err);
    if (err || key_err)
        return;
    c.cert_pem = arena_str(l->a, c.cert_pem);
    c.key_pem = arena_str(l->a, c.key_pem);
    if (tls_check_pair(l, &c, cert_at, key_at))
        add_cert(l, list, c);
}

/* `*` of the key's path stands for what `*` of the certificate's path matched. */
static struct str key_for(struct load *l, struct str cert_pattern, struct str cert,
                          struct str key_pattern)
{
    size_t star = str_chr(cert_pattern, '*'), after = cert_pattern.n - star - 1,
           key_star = str_chr(key_pattern, '*');
    if (key_star == key_pattern.n || cert.n < star + after)
        return key_pattern;
    struct str matched = str_sub(cert, star, cert.n - after);
    return arena_fmt(l->a, STR_FMT STR_FMT STR_FMT, STR_ARG(str_sub(key_pattern, 0, key_star)),
                     STR_ARG(matched), STR_ARG(str_sub(key_pattern, key_star + 1, key_pattern.n)));
}

static void read_glob(struct load *l, struct cert_list *list, struct str cert, struct str key,
                      const struct node *entry)
{
    struct diag_place at = place_of_key(entry, "cert");
    if (str_chr(str_sub(cert, str_chr(cert, '*') + 1, cert.n), '*') <
        cert.n - str_chr(cert, '*') - 1) {
        unsigned id = diags_add(l->d, "E062", at, "more than one * in the path of certificates");
        diags_hint(l->d, id, "one: certs/*/fullchain.pem with key: certs/*/privkey.pem");
        return;
    }
    struct str found = source_glob_cert(l->src, cert.p);
    if (!found.n)
        diags_add(l->d, "W004", at, "no file fits " STR_FMT, STR_ARG(cert));
    while (found.n) {
        struct str one = str_of(found.p);
        read_pair(l, list, one, is_written(entry, "key") ? key_for(l, cert, one, key) : one, entry);
        found = str_sub(found, one.n + 1, found.n);
    }
}

static void load_certs(struct load *l, const struct scope *sc, const struct node *list,
                       struct conf_tls *out)
{
    struct cert_list certs = {0};
    for (unsigned i = 0; i < list->n; i++) {
        const struct node *entry = list->v[i].value;
        if (entry->kind != NODE_MAP)
            continue;
        if (!is_written(entry, "cert")) {
            unsigned id = diags_add(l->d, "E065", entry->at, "a certificate without `cert`");
            diags_hint(l->d, id, "write { cert: FILE, key: FILE }");
            continue;
        }
        if (load_offline(l))
            continue;
        struct str cert = get_path(l, sc, entry, G_CERT, "cert");
        struct str key = is_written(entry, "key") ? get_path(l, sc, entry, G_CERT, "key") : cert;
        if (!cert.n || !key.n)
            continue;
        if (str_chr(cert, '*') < cert.n)
            read_glob(l, &certs, cert, key, entry);
        else
            read_pair(l, &certs, cert, key, entry);
    }
    out->certs = certs.v;
    out->n_certs = certs.n;
}

static void load_hsts(struct load *l, const struct scope *sc, const struct node *n,
                      struct conf_hsts *h)
{
    static const uint64_t year = 365ull * 24 * 3600 * 1000;
    if (!n || n->bad)
        return;
    bool on = h->on;
    h->on = n->kind == NODE_MAP;
    if (!h->on)
        return;
    if (!on || is_written(n, "max_age"))
        h->max_age = get_number(l, sc, n, G_HSTS, "max_age");
    if (!on || is_written(n, "subdomains"))
        h->subdomains = get_bool(l, sc, n, G_HSTS, "subdomains");
    if (!on || is_written(n, "preload"))
        h->preload = get_bool(l, sc, n, G_HSTS, "preload");
    if (!h->preload || (h->subdomains && h->max_age >= year))
        return;
    unsigned id =
        diags_add(l->d, "E068", is_written(n, "preload") ? place_of_key(n, "preload") : n->at,
                  "`preload` needs `subdomains: on` and a `max_age` of a year or more");
    diags_hint(l->d, id, "the browsers' lists take no host without them");
}

bool tls_certs_written(const struct node *map)
{
    const struct node *list = node_get(map, "certificates");
    return list && list->kind == NODE_LIST && list->n > 0;
}

void load_tls(struct load *l, const struct scope *sc, const struct node *map, struct conf_tls *out)
{
    const struct node *list = node_get(map, "certificates");
    if (is_written(map, "issuer")) {
        struct str issuer = get_text(l, sc, map, G_TLS, "issuer");
        out->issuer = str_eq(issuer, STR("local"))         ? CONF_ISSUER_LOCAL
                      : str_eq(issuer, STR("acme"))        ? CONF_ISSUER_ACME
                      : str_eq(issuer, STR("passthrough")) ? CONF_ISSUER_PASSTHROUGH
                                                           : CONF_ISSUER_AUTO;
    }
    if (is_written(map, "min_version"))
        out->min_version =
            str_eq(get_text(l, sc, map, G_TLS, "min_version"), STR("1.3")) ? 0x0304 : 0x0303;
    if (is_written(map, "unknown_sni"))
        out->unknown_sni_local = str_eq(get_text(l, sc, map, G_TLS, "unknown_sni"), STR("local"));
    load_hsts(l, sc, node_get(map, "hsts"), &out->hsts);
    if (list && list->kind == NODE_LIST)
        load_certs(l, sc, list, out);
}

/* ---- which names certificates cover ---- */

static bool cert_covers(const struct conf_cert *c, struct str host)
{
    X509 *x = parse_cert(c->cert_pem);
    if (!x)
        return false;
    struct conf_addr ip;
    bool ok;
    char probe[300];
    struct out o = out_on(probe, sizeof(probe) - 1);
    if (host.n > 2 && host.p[0] == '[')
        host = str_sub(host, 1, host.n - 1);
    if (str_starts(host,
                   STR("*."))) { /* only a wildcard of the certificate covers a label nobody has */
        out_lit(&o, "headgate-probe");
        host = str_sub(host, 1, host.n);
    }
    out_str(&o, host);
    probe[o.n] = 0;
    if (value_ip(host, 1, &ip))
        ok = X509_check_ip_asc(x, probe, 0) == 1;
    else
        ok = X509_check_host(x, probe, o.n, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS, NULL) == 1;
    X509_free(x);
    ERR_clear_error();
    return ok;
}

bool tls_covers(const struct conf_tls *tls, struct str host)
{
    if (str_eq(host, STR("*")))
        return tls->n_certs > 0;
    for (unsigned i = 0; i < tls->n_certs; i++)
        if (cert_covers(&tls->certs[i], host))
            return true;
    return false;
}

static bool is_local_name(struct str host)
{
    static const char *const zones[] = {"localhost", "local", "internal", "lan", "home.arpa"};
    for (size_t i = 0; i < ARRAY_LEN(zones); i++) {
        struct str zone = str_of(zones[i]);
        if (str_ieq(host, zone))
            return true;
        if (host.n > zone.n && host.p[host.n - zone.n - 1] == '.' && str_iends(host, zone))
            return true;
    }
    return str_chr(host, '.') == host.n && !str_eq(host, STR("*"));
}

enum conf_issuer conf_issuer_for(const struct conf_tls *tls, struct str host)
{
    struct conf_addr ip;
    if (tls->issuer != CONF_ISSUER_AUTO)
        return tls->issuer;
    if (host.n > 2 && host.p[0] == '[')
        return CONF_ISSUER_LOCAL;
    if (str_starts(host, STR("*.")))
        host = str_sub(host, 2, host.n);
    return value_ip(host, 1, &ip) || is_local_name(host) ? CONF_ISSUER_LOCAL : CONF_ISSUER_ACME;
}

bool conf_wants_acme(const struct conf *c, const struct conf_site *site, struct str host)
{
    return c->acme.on && conf_ends_tls(c) && !str_eq(host, STR("*")) &&
           conf_issuer_for(&site->tls, host) == CONF_ISSUER_ACME && !tls_covers(&site->tls, host);
}

unsigned conf_hosts(const struct conf *c)
{
    unsigned n = 0;
    for (unsigned i = 0; i < c->n_sites; i++)
        n += conf_site_hosts(&c->sites[i]);
    return n;
}

bool conf_names_host(const struct conf *c, struct str host)
{
    for (unsigned i = 0; i < c->n_sites; i++)
        for (unsigned k = 0; k < conf_site_hosts(&c->sites[i]); k++)
            if (str_ieq(conf_site_host(&c->sites[i], k), host))
                return true;
    return false;
}
