/*
 * suggest.c - what did they mean? Edit distance to known keys, and the words that other servers use
 * for the same things.
 */
#include "conf/schema.h"

#define WORD_MAX 48

unsigned schema_distance(struct str a, struct str b, unsigned max)
{
    unsigned rows[3][WORD_MAX + 1];
    if (a.n > WORD_MAX || b.n > WORD_MAX || a.n > b.n + max || b.n > a.n + max)
        return max + 1;
    unsigned *two_up = rows[0], *up = rows[1], *row = rows[2];
    for (unsigned j = 0; j <= b.n; j++)
        up[j] = j;
    for (unsigned i = 1; i <= a.n; i++) {
        row[0] = i;
        for (unsigned j = 1; j <= b.n; j++) {
            char x = ascii_lower(a.p[i - 1]), y = ascii_lower(b.p[j - 1]);
            unsigned v = up[j - 1] + (x != y);
            v = MIN(v, up[j] + 1);
            v = MIN(v, row[j - 1] + 1);
            if (i > 1 && j > 1 && x == ascii_lower(b.p[j - 2]) && ascii_lower(a.p[i - 2]) == y)
                v = MIN(v, two_up[j - 2] + 1);
            row[j] = v;
        }
        unsigned *oldest = two_up;
        two_up = up;
        up = row;
        row = oldest;
    }
    return MIN(up[b.n], max + 1);
}

bool schema_near(struct str a, struct str b, unsigned *distance)
{
    unsigned max = a.n <= 3 ? 1 : a.n <= 7 ? 2 : 3;
    *distance = schema_distance(a, b, max);
    return *distance <= max && *distance < b.n;
}

const char *schema_nearest_key(enum schema_group in, struct str name)
{
    const char *best = NULL;
    unsigned least = UINT32_MAX;
    for (unsigned i = 0; i < schema_n_keys; i++) {
        unsigned d;
        if (schema_keys[i].in != in || !schema_near(name, str_of(schema_keys[i].name), &d) ||
            d >= least)
            continue;
        least = d;
        best = schema_keys[i].name;
    }
    return best;
}

/* in: G_NONE fits everywhere. */
static const struct {
    enum schema_group in;
    const char *theirs, *ours;
} synonyms[] = {
    {G_NONE, "server_name", "host names of a site go into `host` and `aliases`"},
    {G_SITE, "domain", "the name goes into `host`"},
    {G_SITE, "hostname", "the name goes into `host`"},
    {G_SITE, "domains", "the names go into `host` and `aliases`"},
    {G_SITE, "hosts", "the names go into `host` and `aliases`"},
    {G_SITE, "server_alias", "further names go into `aliases`"},
    {G_NONE, "root", "files are served by a route: routes: { /: { files: DIR } }"},
    {G_NONE, "document_root", "files are served by a route: routes: { /: { files: DIR } }"},
    {G_ROUTE, "alias", "the folder goes into `files`"},
    {G_ROUTE, "file_server", "the folder goes into `files`"},
    {G_ROUTE, "static", "the folder goes into `files`"},
    {G_ROUTE, "dir", "the folder goes into `files`"},
    {G_NONE, "upstream", "backends go into `services` of a channel or site"},
    {G_NONE, "upstreams", "backends go into `services` of a channel or site"},
    {G_NONE, "backend", "backends go into `services` of a channel or site"},
    {G_NONE, "backends", "backends go into `services` of a channel or site"},
    {G_NONE, "proxy_pass", "name the backend in `services`, then routes: { /: { proxy: NAME } }"},
    {G_NONE, "reverse_proxy",
     "name the backend in `services`, then routes: { /: { proxy: NAME } }"},
    {G_NONE, "location", "paths go into `routes`"},
    {G_NONE, "locations", "paths go into `routes`"},
    {G_SITE, "paths", "paths go into `routes`"},
    {G_ROUTE, "service", "the service goes into `proxy`"},
    {G_ROUTE, "return", "write `redirect: /where/` or `respond: \"text\"`"},
    {G_ROUTE, "rewrite", "write `redirect: /where/`, or `strip_prefix: on` beside `proxy`"},
    {G_ROUTE, "redir", "write `redirect: /where/`"},
    {G_ROUTE, "code", "the code goes into `status`"},
    {G_ROUTE, "autoindex", "the key is `listing`"},
    {G_ROUTE, "browse", "the key is `listing`"},
    {G_ROUTE, "try_files", "the key is `fallback`"},
    {G_ROUTE, "spa", "the key is `fallback`"},
    {G_NONE, "ssl", "the key is `tls`"},
    {G_NONE, "https_only", "write `https: only` in the channel or site"},
    {G_NONE, "force_https", "write `https: redirect` in the channel or site"},
    {G_NONE, "ssl_certificate", "write tls: { certificates: [{ cert: FILE, key: FILE }] }"},
    {G_NONE, "ssl_certificate_key", "write tls: { certificates: [{ cert: FILE, key: FILE }] }"},
    {G_NONE, "ssl_protocols", "write tls: { min_version: \"1.2\" }"},
    {G_TLS, "protocols", "the key is `min_version`"},
    {G_TLS, "cert", "write certificates: [{ cert: FILE, key: FILE }]"},
    {G_TLS, "key", "write certificates: [{ cert: FILE, key: FILE }]"},
    {G_TLS, "acme", "the account goes into `acme` at the top level"},
    {G_TLS, "email", "the account goes into `acme` at the top level"},
    {G_TLS, "dns", "write acme: { challenge: [dns-01], dns_hook: PROGRAM } at the top level"},
    {G_TLS, "certResolver", "write acme: { email: … } at the top level; hosts need nothing more"},
    {G_NONE, "acme_ca", "write acme: { ca: … } at the top level"},
    {G_NONE, "acme_email", "write acme: { email: … } at the top level"},
    {G_NONE, "acme_ca_root", "write acme: { ca_root: FILE } at the top level"},
    {G_NONE, "acme_eab", "write acme: { eab: { kid: …, hmac: … } } at the top level"},
    {G_NONE, "acme_dns", "write acme: { challenge: [dns-01], dns_hook: PROGRAM } at the top level"},
    {G_NONE, "auto_https", "hosts get certificates as soon as `acme` is written; see `https`"},
    {G_NONE, "certificatesResolvers", "write acme: { email: … } at the top level"},
    {G_NONE, "certresolver", "write acme: { email: … } at the top level"},
    {G_NONE, "letsencrypt", "write acme: { email: … } at the top level"},
    {G_NONE, "certbot", "write acme: { email: … } at the top level; certbot is not needed"},
    {G_ACME, "caServer", "the key is `ca`"},
    {G_ACME, "server", "the key is `ca`"},
    {G_ACME, "directory", "the key is `ca`"},
    {G_ACME, "caCertificates", "the key is `ca_root`"},
    {G_ACME, "contact", "the key is `email`"},
    {G_ACME, "keyType", "the key is `key`"},
    {G_ACME, "key_type", "the key is `key`"},
    {G_ACME, "preferred_challenges", "the key is `challenge`"},
    {G_ACME, "challenges", "the key is `challenge`"},
    {G_ACME, "httpChallenge", "write challenge: [http-01]"},
    {G_ACME, "tlsChallenge", "write challenge: [tls-alpn-01]"},
    {G_ACME, "dnsChallenge", "write challenge: [dns-01] and dns_hook: PROGRAM"},
    {G_ACME, "manual_auth_hook", "the key is `dns_hook`"},
    {G_ACME, "preferred_chain", "the key is `chain`"},
    {G_ACME, "preferredChain", "the key is `chain`"},
    {G_ACME, "renew_before_expiry", "the key is `renew`"},
    {G_ACME, "renewal_window_ratio", "the key is `renew`, a duration before the end"},
    {G_ACME, "agree_tos", "writing `acme` agrees to the terms"},
    {G_ACME, "agree", "writing `acme` agrees to the terms"},
    {G_ACME, "domains", "hosts of channels and sites get certificates by themselves"},
    {G_ACME, "storage", "certificates are kept under `state`"},
    {G_ACME, "storage_path", "certificates are kept under `state`"},
    {G_ACME, "test_dir", "write ca: letsencrypt-staging"},
    {G_EAB, "key_id", "the key is `kid`"},
    {G_EAB, "mac_key", "the key is `hmac`"},
    {G_EAB, "hmacEncoded", "the key is `hmac`"},
    {G_CERT, "certificate", "the key is `cert`"},
    {G_CERT, "private_key", "the key is `key`"},
    {G_NONE, "worker_processes", "the key is `workers`, at the top level"},
    {G_NONE, "nbproc", "the key is `workers`, at the top level"},
    {G_NONE, "worker_connections", "write limits: { connections: N }"},
    {G_NONE, "maxconn", "write limits: { connections: N }"},
    {G_NONE, "access_log", "write log: { access: { to: FILE } }"},
    {G_NONE, "error_log", "write log: { level: warn }; the log goes to stderr"},
    {G_NONE, "client_max_body_size", "write limits: { body: SIZE }"},
    {G_NONE, "keepalive_timeout", "write timeouts: { idle: DURATION }"},
    {G_NONE, "proxy_read_timeout", "write timeouts: { response: DURATION }"},
    {G_NONE, "proxy_connect_timeout", "write timeouts: { connect: DURATION }"},
    {G_NONE, "auth_basic", "the key is `basic_auth`"},
    {G_NONE, "gzip", "write compress: [gzip]"},
    {G_NONE, "encode", "write compress: [br, zstd, gzip]"},
    {G_NONE, "add_header", "write headers: { set: { Name: value } }"},
    {G_SITE, "header", "write headers: { set: { Name: value } }"},
    {G_NONE, "error_page", "write errors: { 404: FILE }"},
    {G_SITE_LIMITS, "per_ip",
     "connections are counted before their host is known: it goes into `limits` at the top level; "
     "the requests of a site or route are limited by rate_limit"},
    {G_ROUTE_LIMITS, "per_ip",
     "connections are counted before their route is known: it goes into `limits` at the top level; "
     "the requests of a route are limited by rate_limit"},
    {G_NONE, "limit_conn", "write limits: { per_ip: N } at the top level"},
    {G_NONE, "limit_req", "write rate_limit: { rate: 50/s, burst: 100 }"},
    {G_NONE, "ratelimit", "write rate_limit: { rate: 50/s, burst: 100 }"},
    {G_NONE, "set_real_ip_from", "write trusted_proxies: [NETWORK] at the top level"},
    {G_NONE, "real_ip_header", "write trusted_proxies: [NETWORK] at the top level"},
    {G_NONE, "accept-proxy", "write proxy_protocol: [NETWORK] at the top level"},
    {G_ROOT, "email", "write acme: { email: … }"},
    {G_ROOT, "http", "addresses go into listen: { http: …, https: … }"},
    {G_ROOT, "https", "addresses go into listen: { http: …, https: … }"},
    {G_NONE, "bind", "addresses go into listen: { http: …, https: … } at the top level"},
    {G_ROOT, "port", "addresses go into listen: { http: …, https: … }"},
    {G_ROOT, "server", "servers are entries of `channels` or `sites`"},
    {G_ROOT, "servers", "servers are entries of `channels` or `sites`"},
    {G_ROOT, "vhosts", "servers are entries of `channels` or `sites`"},
    {G_ROOT, "defaults", "the key is `channel_defaults`"},
    {G_ROOT, "host", "hosts go into a channel or a site"},
    {G_ROOT, "routes", "routes go into a channel or a site"},
    {G_ROOT, "services", "services go into a channel or a site"},
    {G_SITE, "listen", "addresses go into `listen` at the top level; a site is chosen by `host`"},
    {G_SITE, "port", "addresses go into `listen` at the top level; a site is chosen by `host`"},
    {G_SITE, "proxy", "write routes: { /: { proxy: SERVICE } }"},
    {G_SITE, "files", "write routes: { /: { files: DIR } }"},
    {G_SITE, "redirect", "write routes: { /: { redirect: WHERE } }, or redirect_from: [HOST]"},
    {G_SERVICE, "command", "the key is `run`"},
    {G_SERVICE, "cmd", "the key is `run`"},
    {G_SERVICE, "exec", "the key is `run`"},
    {G_SERVICE, "ExecStart", "the key is `run`"},
    {G_SERVICE, "entrypoint", "the key is `run`"},
    {G_SERVICE, "args", "program and arguments are one list: run: [program, arg]"},
    {G_SERVICE, "environment", "the key is `env`"},
    {G_SERVICE, "EnvironmentFile", "the key is `env_file`"},
    {G_SERVICE, "working_dir", "the key is `cwd`"},
    {G_SERVICE, "workdir", "the key is `cwd`"},
    {G_SERVICE, "WorkingDirectory", "the key is `cwd`"},
    {G_SERVICE, "address", "the key is `url`"},
    {G_SERVICE, "addr", "the key is `url`"},
    {G_SERVICE, "server", "the key is `url`"},
    {G_SERVICE, "servers", "the key is `url`; it takes a list"},
    {G_SERVICE, "port", "the port is part of `url`, or `listen: 127.0.0.1:PORT` for `run`"},
    {G_SERVICE, "replicas", "the key is `instances`"},
    {G_SERVICE, "healthcheck", "the keys are `ready` and `health`"},
    {G_SERVICE, "health_check", "the keys are `ready` and `health`"},
};

const char *schema_synonym(enum schema_group in, struct str name)
{
    const char *anywhere = NULL;
    for (size_t i = 0; i < ARRAY_LEN(synonyms); i++) {
        if (!str_ieq(str_of(synonyms[i].theirs), name))
            continue;
        if (synonyms[i].in == in)
            return synonyms[i].ours;
        if (synonyms[i].in == G_NONE)
            anywhere = synonyms[i].ours;
    }
    return anywhere;
}
