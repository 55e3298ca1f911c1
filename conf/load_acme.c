/*
 * load_acme.c - acme: which CAs, how names are proven, with what account. Which hosts come from
 * there, and whether a challenge can work for them, is load_hosts.c's.
 */
#include <openssl/sha.h>

#include "conf/load.h"

#define ROOT_MAX ((size_t)1024 * 1024)
#define URL_MAX  2048
#define NAME_MAX 120 /* of a folder; longer ones are cut */

static const char letsencrypt_url[] = "https://acme-v02.api.letsencrypt.org/directory";
static const char staging_url[] = "https://acme-staging-v02.api.letsencrypt.org/directory";

/* The CAs that are known by name. */
static const struct known_ca {
    const char *name, *url;
    const char *staging; /* a name of this table */
    bool needs_eab;
    bool letsencrypt; /* whose rate limits are known */
} known_cas[] = {
    {"letsencrypt", letsencrypt_url, "letsencrypt-staging", false, true},
    {"letsencrypt-staging", staging_url, NULL, false, true},
    {"zerossl", "https://acme.zerossl.com/v2/DV90", NULL, true, false},
};

/* By its name, or by the URL that the name stands for. */
static const struct known_ca *find_known(struct str text)
{
    for (size_t i = 0; i < ARRAY_LEN(known_cas); i++)
        if (str_eq(text, str_of(known_cas[i].name)) || str_eq(text, str_of(known_cas[i].url)))
            return &known_cas[i];
    return NULL;
}

/* ---- where a CA is ---- */

static bool plain_url(struct str url)
{
    for (size_t i = 0; i < url.n; i++) {
        unsigned char c = (unsigned char)url.p[i];
        if (c <= ' ' || c >= 0x7f || strchr("?#@\\\"<>", c))
            return false;
    }
    return url.n <= URL_MAX;
}

/* Folders are named by it: host, port when it is not 443, path. */
static struct str folder_name(struct load *l, const struct conf_backend *at, struct str path)
{
    char buf[NAME_MAX];
    struct out o = out_on(buf, sizeof(buf));
    struct str port = at->port == 443 ? STR("") : arena_fmt(l->tmp, "-%u", at->port);
    while (path.n && path.p[path.n - 1] == '/')
        path.n--;
    struct str all =
        arena_fmt(l->tmp, STR_FMT STR_FMT STR_FMT, STR_ARG(at->name), STR_ARG(port), STR_ARG(path));
    for (size_t i = 0; i < all.n && i < sizeof(buf); i++) {
        char c = ascii_lower(all.p[i]);
        bool fine = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.';
        if (fine || o.n) /* nothing begins with a dash: an IPv6 address */
            out_char(&o, fine ? c : '-');
    }
    return arena_str(l->a, out_done(&o));
}

/* The name as it is when another one has the same: with a part of the URL's digest. */
static struct str longer_name(struct load *l, const struct conf_ca *ca)
{
    uint8_t sum[SHA256_DIGEST_LENGTH];
    char hex[8];
    struct out o = out_on(hex, sizeof(hex));
    SHA256((const uint8_t *)ca->url.p, ca->url.n, sum);
    for (size_t i = 0; i < sizeof(hex) / 2; i++)
        out_hex(&o, sum[i], 2);
    return arena_fmt(l->a, STR_FMT "-" STR_FMT, STR_ARG(ca->name), STR_ARG(out_done(&o)));
}

static bool bad_ca(struct load *l, const struct node *n, const char *what, const char *hint)
{
    unsigned id = diags_add(l->d, "E073", n->at, "%s", what);
    diags_hint(l->d, id, "%s", hint);
    return false;
}

static const char *nearest_ca(struct str text)
{
    unsigned d, least = UINT32_MAX;
    const char *best = NULL;
    for (size_t i = 0; i < ARRAY_LEN(known_cas); i++)
        if (schema_near(text, str_of(known_cas[i].name), &d) && d < least) {
            least = d;
            best = known_cas[i].name;
        }
    return best;
}

/* A directory by URL: where requests go, and how its folder is called. */
static bool ca_by_url(struct load *l, const struct node *n, struct str url, struct conf_ca *ca)
{
    struct value_error e;
    struct conf_backend at;
    size_t head = strlen("https://");
    if (str_starts(url, STR("http://")))
        return bad_ca(l, n, "ACME over http:// would let anyone between give certificates away",
                      "write https://, and `ca_root: FILE` for a CA of your own (RFC 8555 6.1)");
    if (!str_starts(url, STR("https://"))) {
        const char *near = nearest_ca(url);
        struct str what =
            arena_fmt(l->tmp, "`" STR_FMT "` is no CA that is known by name", STR_ARG(url));
        return bad_ca(l, n, what.p,
                      near ? arena_fmt(l->tmp, "did you mean `%s`?", near).p
                           : "letsencrypt, letsencrypt-staging, zerossl, or the https:// URL of "
                             "its directory");
    }
    if (!plain_url(url))
        return bad_ca(l, n, "a CA's URL has no user, query, fragment or odd characters",
                      "write it as https://ca.example.org/acme/directory");
    size_t path = head + str_chr(str_sub(url, head, url.n), '/');
    if (!value_url(l->tmp, str_sub(url, 0, path), &at, &e))
        return bad_ca(l, n, "the CA's URL names no host",
                      "write it as https://ca.example.org/acme/directory");
    *ca = (struct conf_ca){.name = folder_name(l, &at, str_sub(url, path, url.n)),
                           .url = arena_str(l->a, url),
                           .takes_eab = true};
    if (find_known(ca->name) || str_eq(ca->name, STR("local"))) /* taken: certs/local is ours */
        ca->name = longer_name(l, ca);
    return true;
}

static bool load_ca(struct load *l, const struct node *n, struct str text, struct conf_ca *ca)
{
    const struct known_ca *k = find_known(text);
    if (!k)
        return ca_by_url(l, n, text, ca);
    *ca = (struct conf_ca){.name = str_of(k->name),
                           .url = str_of(k->url),
                           .known = true,
                           .takes_eab = k->needs_eab,
                           .le_limits = k->letsencrypt};
    return true;
}

/* Different URLs of one name: `a/b` and `a-b`. */
static void part_names(struct load *l, struct conf_acme *acme)
{
    for (unsigned i = 0; i < acme->n_cas; i++)
        for (unsigned k = i + 1; k < acme->n_cas; k++) {
            struct conf_ca *a = &acme->cas[i], *b = &acme->cas[k];
            if (!str_eq(a->name, b->name))
                continue;
            a->name = longer_name(l, a);
            b->name = longer_name(l, b);
        }
}

static void add_ca(struct load *l, struct conf_acme *acme, const struct node *n, struct str text)
{
    struct conf_ca *ca = &acme->cas[acme->n_cas];
    if (!load_ca(l, n, text, ca))
        return;
    for (unsigned i = 0; i < acme->n_cas; i++)
        if (str_eq(acme->cas[i].url, ca->url)) {
            bad_ca(l, n, "the CA is listed twice", "CAs are tried in the order of the list");
            return;
        }
    acme->n_cas++;
}

static void load_cas(struct load *l, const struct node *map, struct conf_acme *acme)
{
    struct str *texts;
    const struct node **items, *n = node_get(map, "ca");
    unsigned count = get_list(l, NULL, map, G_ACME, "ca", &texts, &items);
    acme->cas = arena_zarray(l->a, struct conf_ca, count + 1);
    if (n && n->kind == NODE_LIST && n->n == 0 && !n->bad)
        bad_ca(l, n, "`ca` names no CA", "leave it away for letsencrypt");
    for (unsigned i = 0; i < count; i++)
        add_ca(l, acme, items[i], texts[i]);
    if (!n)
        add_ca(l, acme, map, STR("letsencrypt"));
    part_names(l, acme);
}

/* ---- more about the CAs ---- */

static void no_effect(struct load *l, const struct node *map, const char *key, const char *why)
{
    unsigned id = diags_add(l->d, "E068", place_of_key(map, key), "`%s` has no effect here", key);
    diags_hint(l->d, id, "%s", why);
}

static void load_staging(struct load *l, const struct node *map, struct conf_acme *acme)
{
    struct str text = get_text(l, NULL, map, G_ACME, "staging");
    struct conf_ca *ca = acme->cas, staging;
    if (!is_written(map, "staging") || str_eq(text, STR("auto"))) {
        for (unsigned i = 0; i < acme->n_cas; i++) {
            const struct known_ca *k = find_known(acme->cas[i].name);
            if (!k || !k->staging)
                continue;
            k = find_known(str_of(k->staging));
            acme->cas[i].staging = str_of(k->url);
            acme->cas[i].staging_name = str_of(k->name);
        }
        return;
    }
    if (!text.n || value_is_off(text) || !acme->n_cas)
        return;
    if (acme->n_cas > 1)
        no_effect(l, map, "staging", "of which CA? A URL is for a single one: auto or off");
    else if (!load_ca(l, node_get(map, "staging"), text, &staging))
        return;
    else if (str_eq(staging.url, ca->url))
        no_effect(l, map, "staging", "it is the CA itself: write `staging: off`");
    else {
        ca->staging = staging.url;
        ca->staging_name = str_eq(staging.name, ca->name) ? longer_name(l, &staging) : staging.name;
    }
}

static void load_limits_kept(struct load *l, const struct node *map, struct conf_acme *acme)
{
    struct str text = get_text(l, NULL, map, G_ACME, "limits");
    if (str_eq(text, STR("auto")))
        return;
    for (unsigned i = 0; i < acme->n_cas; i++)
        acme->cas[i].le_limits = str_eq(text, STR("letsencrypt"));
}

static void load_root(struct load *l, const struct node *map, struct conf_acme *acme)
{
    struct str path = get_path(l, NULL, map, G_ACME, "ca_root"), pem;
    bool any = false;
    acme->root_pem = STR("");
    if (!path.n)
        return;
    for (unsigned i = 0; i < acme->n_cas; i++)
        any |= !acme->cas[i].known;
    if (!any && acme->n_cas) {
        no_effect(l, map, "ca_root", "it is for a CA given by URL; these chain to public roots");
        return;
    }
    if (load_offline(l))
        return;
    const char *err = source_read(l->src, arena_strz(l->tmp, path), ROOT_MAX, &pem);
    if (err) {
        diags_add(l->d, "E062", place_of_key(map, "ca_root"), "%s", err);
    } else if (!tls_count_certs(pem)) {
        unsigned id = diags_add(l->d, "E062", place_of_key(map, "ca_root"),
                                "no certificate in " STR_FMT, STR_ARG(path));
        diags_hint(l->d, id, "expected PEM: -----BEGIN CERTIFICATE-----");
    } else {
        acme->root_pem = arena_str(l->a, pem);
    }
}

/* ---- the account ---- */

/* What a mail server would take is its business; this finds what is no address at all. */
static bool is_email(struct str t)
{
    size_t at = str_chr(t, '@');
    struct str domain = at < t.n ? str_sub(t, at + 1, t.n) : STR("");
    if (!at || !domain.n || str_chr(domain, '@') < domain.n || t.n > 254)
        return false;
    for (size_t i = 0; i < t.n; i++) {
        unsigned char c = (unsigned char)t.p[i];
        if (c <= ' ' || c == 0x7f || strchr(",;:<>()[]\\\"?&", c))
            return false;
    }
    return domain.p[0] != '.' && domain.p[domain.n - 1] != '.';
}

static void load_email(struct load *l, const struct node *map, struct conf_acme *acme)
{
    acme->email = get_text(l, NULL, map, G_ACME, "email");
    if (!acme->email.n || is_email(acme->email))
        return;
    unsigned id = diags_add(l->d, "E073", place_of_key(map, "email"), "that is no e-mail address");
    diags_hint(l->d, id, "one, such as you@example.org, without mailto: in front");
}

static void load_eab(struct load *l, const struct node *map, struct conf_acme *acme)
{
    const struct node *eab = node_get(map, "eab");
    bool kid = is_written(eab, "kid"), hmac = is_written(eab, "hmac"), takes = !acme->n_cas;
    acme->eab_kid = get_text(l, NULL, eab, G_EAB, "kid");
    acme->eab_hmac = get_text(l, NULL, eab, G_EAB, "hmac");
    /* As CAs show it, sometimes with the padding that the RFC has not. */
    while (acme->eab_hmac.n && acme->eab_hmac.p[acme->eab_hmac.n - 1] == '=')
        acme->eab_hmac.n--;
    for (unsigned i = 0; i < acme->n_cas; i++) {
        const struct known_ca *k = find_known(acme->cas[i].name);
        takes |= acme->cas[i].takes_eab;
        if (!k || !k->needs_eab || eab)
            continue;
        unsigned id =
            diags_add(l->d, "E073", is_written(map, "ca") ? place_of_key(map, "ca") : map->at,
                      "%s gives accounts only to those whom it knows: `eab`", k->name);
        diags_hint(l->d, id, "write eab: { kid: …, hmac: … } as its web site shows them");
    }
    if (!eab || eab->bad)
        return;
    if (kid != hmac) {
        unsigned id = diags_add(l->d, "E065", eab->at, "`eab` with `%s` and without `%s`",
                                kid ? "kid" : "hmac", kid ? "hmac" : "kid");
        diags_hint(l->d, id, "the CA gives both");
    } else if (!str_is_base64url(acme->eab_hmac) || acme->eab_hmac.n % 4 == 1) {
        unsigned id = diags_add(l->d, "E073", place_of_key(eab, "hmac"),
                                "`hmac` is no base64url text (letters, digits, - and _)");
        diags_hint(l->d, id, "copy it as the CA shows it; the value is not shown here");
    } else if (kid && !takes) {
        no_effect(l, map, "eab", "Let's Encrypt has no external accounts");
    }
}

/* ---- how names are proven ---- */

const char *const conf_challenge_names[CONF_CHALLENGES] = {
    [CONF_TLS_ALPN_01] = "tls-alpn-01",
    [CONF_HTTP_01] = "http-01",
    [CONF_DNS_01] = "dns-01",
};

static bool has_challenge(const struct conf_acme *acme, enum conf_challenge c)
{
    for (unsigned i = 0; i < acme->n_challenges; i++)
        if (acme->challenges[i] == c)
            return true;
    return false;
}

static void load_challenges(struct load *l, const struct node *map, struct conf_acme *acme)
{
    struct str *texts;
    const struct node **items, *n = node_get(map, "challenge");
    if (!n) {
        acme->challenges[acme->n_challenges++] = CONF_TLS_ALPN_01;
        acme->challenges[acme->n_challenges++] = CONF_HTTP_01;
        return;
    }
    unsigned count = get_list(l, NULL, map, G_ACME, "challenge", &texts, &items);
    if (n->kind == NODE_LIST && n->n == 0 && !n->bad) {
        unsigned id = diags_add(l->d, "E074", n->at, "without a challenge no name can be proven");
        diags_hint(l->d, id, "leave `challenge` away for tls-alpn-01, then http-01");
    }
    for (unsigned i = 0; i < count; i++) {
        enum conf_challenge c = CONF_TLS_ALPN_01;
        while (c < CONF_CHALLENGES && !str_eq(texts[i], str_of(conf_challenge_names[c])))
            c++;
        if (c < CONF_CHALLENGES && !has_challenge(acme, c)) {
            acme->challenges[acme->n_challenges++] = c;
            continue;
        }
        unsigned id = diags_add(l->d, "E074", items[i]->at, "`" STR_FMT "` is listed twice",
                                STR_ARG(texts[i]));
        diags_hint(l->d, id, "each challenge is tried once, in the order of the list");
    }
}

static void load_hook(struct load *l, const struct node *map, struct conf_acme *acme)
{
    bool wanted = has_challenge(acme, CONF_DNS_01);
    acme->dns_hook = get_path(l, NULL, map, G_ACME, "dns_hook");
    if (wanted && !acme->dns_hook.n && !is_written(map, "dns_hook")) {
        unsigned id = diags_add(l->d, "E074", place_of_key(map, "challenge"),
                                "dns-01 without `dns_hook`: nobody would write the record");
        diags_hint(l->d, id,
                   "write dns_hook: PROGRAM, which is called with present|cleanup "
                   "NAME VALUE");
    }
    if (!acme->dns_hook.n)
        return;
    if (!wanted) {
        unsigned id = diags_add(l->d, "W007", place_of_key(map, "dns_hook"),
                                "`dns_hook` is never called: dns-01 is not in `challenge`");
        diags_hint(l->d, id, "write challenge: [dns-01]");
    }
    if (load_offline(l))
        return;
    const char *err = source_path(l->src, arena_strz(l->tmp, acme->dns_hook), WANT_PROGRAM, "",
                                  (uid_t)-1, (gid_t)-1);
    if (err)
        diags_add(l->d, "E061", place_of_key(map, "dns_hook"), "%s", err);
}

/* ---- the certificates ---- */

static void load_profile(struct load *l, const struct node *map, struct conf_acme *acme)
{
    acme->profile = get_text(l, NULL, map, G_ACME, "profile");
    acme->chain = get_text(l, NULL, map, G_ACME, "chain");
    for (size_t i = 0; i < acme->profile.n; i++) {
        unsigned char c = (unsigned char)acme->profile.p[i];
        if (c > ' ' && c < 0x7f && c != '"' && c != '\\')
            continue;
        unsigned id = diags_add(l->d, "E073", place_of_key(map, "profile"),
                                "`profile` is one word, as the CA's directory lists it");
        diags_hint(l->d, id, "Let's Encrypt: classic, tlsserver, shortlived");
        return;
    }
}

static void load_renew(struct load *l, const struct node *map, struct conf_acme *acme)
{
    acme->renew_before = get_number(l, NULL, map, G_ACME, "renew");
    const struct node *n = node_get(map, "renew");
    if (acme->renew_before || !n || n->bad || n->kind != NODE_SCALAR ||
        str_eq(get_text(l, NULL, map, G_ACME, "renew"), STR("auto")))
        return;
    unsigned id = diags_add(l->d, "E031", n->at, "`renew` is how long before the end, not 0");
    diags_hint(l->d, id, "write renew: auto, or such as 30d");
}

void load_acme(struct load *l)
{
    const struct node *map = node_get(l->root, "acme");
    struct conf_acme *acme = &l->c->acme;
    acme->on = map != NULL;
    if (!map || map->bad || map->kind != NODE_MAP)
        return;
    load_email(l, map, acme);
    load_cas(l, map, acme);
    load_staging(l, map, acme);
    load_limits_kept(l, map, acme);
    load_root(l, map, acme);
    load_eab(l, map, acme);
    load_challenges(l, map, acme);
    load_hook(l, map, acme);
    struct str key = get_text(l, NULL, map, G_ACME, "key");
    acme->key = str_eq(key, STR("p384"))      ? CONF_KEY_P384
                : str_eq(key, STR("rsa2048")) ? CONF_KEY_RSA2048
                                              : CONF_KEY_P256;
    load_profile(l, map, acme);
    load_renew(l, map, acme);
}
