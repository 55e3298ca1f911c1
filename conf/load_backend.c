/*
 * load_backend.c - services with `url`: where they are, how TLS is spoken to them, and the Host
 * field that is sent. Certificates are read here, and again when their files change; names are
 * resolved by the agent, not here.
 */
#include <openssl/evp.h>
#include <openssl/x509.h>

#include "conf/load_listen.h"

#define CA_MAX ((size_t)4 * 1024 * 1024)

/* ---- backend_tls ---- */

/* Where systems keep the authorities that they trust; SSL_CERT_FILE goes first, as in OpenSSL. */
static const char *read_system_ca(struct load *l, struct str *pem)
{
    static const char *const paths[] = {"/etc/ssl/certs/ca-certificates.crt",
                                        "/etc/pki/tls/certs/ca-bundle.crt",
                                        "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"};
    struct str own = STR_NULL;
    if (source_env(l->src, X509_get_default_cert_file_env(), &own) && own.n)
        return source_read_cert(l->src, own.p, CA_MAX, pem);
    for (size_t i = 0; i < ARRAY_LEN(paths); i++)
        if (!source_read_cert(l->src, paths[i], CA_MAX, pem))
            return NULL;
    return "no file of the system's authorities was found (Debian: ca-certificates)";
}

/* The system's authorities are many: services that trust the same share one copy, looked at once.
 */
static bool ca_seen(const struct load *l, struct conf_backend_tls *t)
{
    for (unsigned i = 0; i < l->c->n_services; i++) {
        const struct conf_backend_tls *other = l->c->services[i].tls;
        if (!other || other == t || !other->ca_pem.n || !str_eq(other->ca_pem, t->ca_pem))
            continue;
        t->ca_pem = other->ca_pem;
        return true;
    }
    return false;
}

static void load_ca(struct load *l, const struct scope *sc, const struct node *map,
                    struct conf_backend_tls *t, struct diag_place none)
{
    struct str ca = get_text(l, sc, map, G_BACKEND_TLS, "ca");
    struct diag_place at = map && is_written(map, "ca") ? place_of_key(map, "ca") : none;
    bool system = str_eq(ca, STR("system"));
    const char *err;
    if (load_offline(l))
        return;
    if (system) {
        err = read_system_ca(l, &t->ca_pem);
    } else {
        ca = resolve_path(l, node_get(map, "ca"), ca);
        err = source_read_cert(l->src, arena_strz(l->tmp, ca), CA_MAX, &t->ca_pem);
    }
    if (err) {
        unsigned id = diags_add(l->d, "E062", at, "%s", err);
        diags_hint(l->d, id, "backend_tls: { ca: FILE } names whom to trust");
        return;
    }
    if (ca_seen(l, t))
        return;
    t->ca_pem = arena_str(l->a, t->ca_pem);
    if (tls_count_certs(t->ca_pem))
        return;
    t->ca_pem = STR_NULL;
    unsigned id = diags_add(l->d, "E062", at, "no certificate in " STR_FMT,
                            STR_ARG(system ? STR("the file of the system's authorities") : ca));
    diags_hint(l->d, id, "expected PEM: -----BEGIN CERTIFICATE-----");
}

static void load_own_cert(struct load *l, const struct scope *sc, const struct node *map,
                          struct conf_backend_tls *t)
{
    bool cert = is_written(map, "cert"), key = is_written(map, "key");
    struct conf_cert c = {0};
    if (cert != key) {
        unsigned id = diags_add(l->d, "E065", map->at, "`backend_tls` with `%s` and without `%s`",
                                cert ? "cert" : "key", cert ? "key" : "cert");
        diags_hint(l->d, id, "a client certificate needs both");
        return;
    }
    if (!cert || load_offline(l))
        return;
    c.cert_path = get_path(l, sc, map, G_BACKEND_TLS, "cert");
    c.key_path = get_path(l, sc, map, G_BACKEND_TLS, "key");
    if (!c.cert_path.n || !c.key_path.n)
        return;
    struct diag_place cert_at = place_of_key(map, "cert"), key_at = place_of_key(map, "key");
    const char *err =
        source_read_cert(l->src, arena_strz(l->tmp, c.cert_path), CA_MAX, &c.cert_pem);
    if (err)
        diags_add(l->d, "E062", cert_at, "%s", err);
    const char *key_err =
        source_read_cert(l->src, arena_strz(l->tmp, c.key_path), CA_MAX, &c.key_pem);
    if (key_err)
        diags_add(l->d, "E062", key_at, "%s", key_err);
    if (err || key_err || !tls_check_pair(l, &c, cert_at, key_at))
        return;
    t->cert_pem = arena_str(l->a, c.cert_pem);
    t->key_pem = arena_str(l->a, c.key_pem);
}

static struct str digest_of(struct load *l, const struct conf_backend_tls *t)
{
    const struct str parts[] = {t->ca_pem, t->name, t->cert_pem, t->key_pem};
    uint8_t sum[32];
    char hex[2 * sizeof(sum)];
    struct out o = out_on(hex, sizeof(hex));
    EVP_MD_CTX *h = EVP_MD_CTX_new();
    ASSERT(h && EVP_DigestInit_ex(h, EVP_sha256(), NULL) == 1);
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        uint64_t n = parts[i].n;
        ASSERT(EVP_DigestUpdate(h, &n, sizeof(n)) == 1);
        ASSERT(EVP_DigestUpdate(h, n ? parts[i].p : "", n) == 1);
    }
    ASSERT(EVP_DigestFinal_ex(h, sum, NULL) == 1);
    EVP_MD_CTX_free(h);
    for (size_t i = 0; i < sizeof(sum); i++)
        out_hex(&o, sum[i], 2);
    return arena_str(l->a, out_done(&o));
}

static void load_backend_tls(struct load *l, const struct scope *sc, const struct node *map,
                             struct conf_service *s, struct diag_place url_at)
{
    const struct node *tls = node_get(map, "backend_tls");
    if (tls && (tls->bad || tls->kind != NODE_MAP))
        return;
    struct conf_backend_tls *t = arena_znew(l->a, struct conf_backend_tls);
    s->tls = t;
    load_ca(l, sc, tls, t, url_at);
    if (tls && is_written(tls, "name")) {
        struct value_error e;
        struct str name = get_text(l, sc, tls, G_BACKEND_TLS, "name");
        if (name.n && (!value_host(l->a, name, &t->name, &e) || str_chr(name, '*') < name.n))
            diags_add(l->d, "E035", place_of_key(tls, "name"), "`" STR_FMT "` is not a host name",
                      STR_ARG(name));
        /* Without the brackets of a Host field. */
        if (t->name.n > 2 && t->name.p[0] == '[')
            t->name = arena_str(l->a, str_sub(t->name, 1, t->name.n - 1));
    }
    if (tls)
        load_own_cert(l, sc, tls, t);
    t->digest = digest_of(l, t);
}

/* ---- url ---- */

/* Who asks for looks at backends that run by themselves gets them. */
static void load_looks(struct load *l, const struct scope *sc, const struct node *map,
                       struct conf_service *s)
{
    if (!is_written(map, "ready") && !is_written(map, "health"))
        return;
    load_ready(l, sc, map, s);
    load_health(l, sc, map, s);
    if (s->ready == CONF_READY_NOTIFY)
        diags_add(l->d, "E068", place_of_key(map, "ready"),
                  "`notify` is for programs that headgate runs itself");
    if ((s->ready != CONF_READY_HTTP && s->ready != CONF_READY_GRPC) || !s->tls)
        return;
    unsigned id = diags_add(l->d, "E004", place_of_key(map, "ready"),
                            "looks by %s at an https:// backend are not available in this version",
                            s->ready == CONF_READY_GRPC ? "gRPC" : "HTTP");
    diags_hint(l->d, id, "write ready: { tcp: on }");
}

static void no_effect(struct load *l, const struct member *m, const char *where)
{
    unsigned id = diags_add(l->d, "E068", m->at, "`" STR_FMT "` has no effect on a service %s",
                            STR_ARG(m->key), where);
    diags_hint(l->d, id, "it belongs to `%s`",
               strcmp(where, "with `url`") == 0 ? "run" : "url: https://…");
}

static void check_keys(struct load *l, const struct node *map, const struct conf_service *s)
{
    for (unsigned i = 0; i < map->n; i++) {
        const struct schema_key *k = schema_find(G_SERVICE, map->v[i].key);
        if (!k)
            continue;
        if (k->flags & S_RUN && strcmp(k->name, "run") != 0)
            no_effect(l, &map->v[i], "with `url`");
        else if (strcmp(k->name, "backend_tls") == 0 && !s->tls)
            no_effect(l, &map->v[i], "without TLS");
    }
}

/* h2c://HOST says the same as http://HOST and `protocol: h2c`. */
static void speak_h2c(struct load *l, const struct node *map, struct conf_service *s,
                      unsigned n_h2c, struct diag_place url_at)
{
    if (s->protocol != CONF_HTTP1)
        return;
    if (is_written(map, "protocol")) {
        unsigned id = diags_add(l->d, "E068", place_of_key(map, "protocol"),
                                "`protocol: http1` with an h2c:// backend");
        diags_hint(l->d, id, "leave `protocol` away, or write http://");
    } else if (n_h2c < s->n_backends) {
        unsigned id = diags_add(l->d, "E068", url_at,
                                "some of the service's backends are h2c://, some are not");
        diags_hint(l->d, id, "all of them, or none; make two services");
    }
    s->protocol = CONF_H2C;
}

void load_url(struct load *l, const struct scope *sc, const struct node *map,
              struct conf_service *s)
{
    struct str *urls;
    const struct node **items, *url = node_get(map, "url");
    struct value_error e;
    unsigned n = get_list(l, sc, map, G_SERVICE, "url", &urls, &items);
    unsigned n_tls = 0, n_raw = 0, n_h2c = 0;
    if (url->kind == NODE_LIST && url->n == 0)
        diags_add(l->d, "E036", url->at, "`url` names no backend");
    s->backends = arena_zarray(l->a, struct conf_backend, n + 1);
    for (unsigned i = 0; i < n; i++) {
        struct conf_backend *b = &s->backends[s->n_backends];
        if (!value_url(l->a, urls[i], b, &e))
            continue;
        for (unsigned k = 0; k < s->n_backends; k++)
            if (str_eq(s->backends[k].addr.text, b->addr.text))
                diags_add(l->d, "E066", items[i]->at, "the backend " STR_FMT " is listed twice",
                          STR_ARG(b->addr.text));
        n_tls += b->tls;
        n_raw += b->raw;
        n_h2c += b->h2c;
        s->n_backends++;
    }
    if (n_h2c)
        speak_h2c(l, map, s, n_h2c, url->at);
    s->raw = n_raw > 0;
    if (n_raw && n_raw < s->n_backends) {
        unsigned id = diags_add(l->d, "E068", url->at,
                                "some of the service's backends are tcp://, some are not");
        diags_hint(l->d, id, "all of them, or none; make two services");
    }
    if (n_tls && n_tls < s->n_backends) {
        unsigned id = diags_add(l->d, "E068", url->at,
                                "some of the service's backends speak TLS, some do not");
        diags_hint(l->d, id, "all https://, or none; make two services");
    } else if (n_tls) {
        load_backend_tls(l, sc, map, s, url->at);
    }
    load_looks(l, sc, map, s);
    check_keys(l, map, s);
}

void load_host_header(struct load *l, const struct scope *sc, const struct node *map,
                      struct conf_service *s)
{
    struct str t = get_text(l, sc, map, G_SERVICE, "host_header");
    struct value_error e;
    s->host_header = CONF_HOST_CLIENT;
    if (s->n_argv && is_written(map, "backend_tls"))
        no_effect(l, node_member(map, STR("backend_tls")), "without TLS");
    if (str_eq(t, STR("client")))
        return;
    if (str_eq(t, STR("backend"))) {
        s->host_header = CONF_HOST_BACKEND;
    } else if (value_authority(l->tmp, t, &e)) {
        s->host_header = CONF_HOST_NAME;
        s->host_name = arena_str(l->a, t);
    } else {
        unsigned id = diags_add(l->d, e.code, place_of_key(map, "host_header"), "%s", e.what);
        diags_hint(l->d, id, "%s", e.hint);
    }
}
