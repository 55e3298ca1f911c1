/*
 * conf.h - the checked configuration: an immutable, counted snapshot that every process makes for
 * itself from the same bytes. The file format, defaults and rules are in schema.c; how errors read
 * in diag.c. Nothing here changes after conf_load returned it.
 */
#ifndef HG_CONF_H
#define HG_CONF_H

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/arena.h"
#include "base/net.h"
#include "base/rate.h"
#include "conf/diag.h"

enum conf_listen_kind {
    CONF_LISTEN_HTTP = 1,
    CONF_LISTEN_HTTPS = 2,
    CONF_LISTEN_METRICS = 3,
    CONF_LISTEN_STREAM = 4
};
enum conf_https { CONF_HTTPS_REDIRECT, CONF_HTTPS_BOTH, CONF_HTTPS_ONLY };
enum conf_handler { CONF_PROXY = 1, CONF_FILES, CONF_REDIRECT, CONF_RESPOND };
enum conf_issuer { CONF_ISSUER_AUTO, CONF_ISSUER_ACME, CONF_ISSUER_LOCAL, CONF_ISSUER_PASSTHROUGH };
enum conf_challenge { CONF_TLS_ALPN_01, CONF_HTTP_01, CONF_DNS_01, CONF_CHALLENGES };
extern const char *const conf_challenge_names[CONF_CHALLENGES]; /* RFC 8555 8, RFC 8737 */
enum conf_acme_key { CONF_KEY_P256, CONF_KEY_P384, CONF_KEY_RSA2048 };
enum conf_protocol { CONF_HTTP1, CONF_H2C, CONF_GRPC };
enum conf_service_listen { CONF_SVC_TCP, CONF_SVC_UNIX, CONF_SVC_FD };
enum conf_ready { CONF_READY_TCP, CONF_READY_HTTP, CONF_READY_NOTIFY, CONF_READY_GRPC };
enum conf_balance { CONF_BALANCE_LEAST, CONF_BALANCE_ROUND };
enum conf_coding { CONF_BR, CONF_ZSTD, CONF_GZIP };
enum conf_host_header { CONF_HOST_CLIENT, CONF_HOST_BACKEND, CONF_HOST_NAME };
enum conf_send_proxy { CONF_SEND_PROXY_OFF, CONF_SEND_PROXY_V1, CONF_SEND_PROXY_V2 };
enum conf_access_format { CONF_ACCESS_OFF, CONF_ACCESS_JSON, CONF_ACCESS_COMBINED };

/* A socket address as written and as the kernel wants it. */
struct conf_addr {
    struct str text; /* canonical: "[::]:443", "127.0.0.1:8080", "unix:/run/x.sock" */
    struct sockaddr_storage sa;
    socklen_t len;
};

struct conf_listen {
    enum conf_listen_kind kind;
    struct conf_addr addr; /* ":443" is [::]:443, dual stack */
    struct diag_place place;
};

struct conf_limits { /* 0: unlimited */
    uint64_t connections, per_ip, header, uri, headers, body, streams;
};

struct conf_timeouts { /* ms; 0: off */
    uint64_t handshake, header, idle, body_gap, write_gap, connect, response, drain, shutdown;
    uint64_t min_rate; /* bytes a second */
};

struct conf_rate {
    struct str name; /* of what is limited: "beta", "beta/api/" */
    struct rate rate;
};

struct conf_cert { /* one of tls.certificates: the bytes as read at load */
    struct str cert_path, key_path;
    struct str cert_pem, key_pem;
    struct diag_place place;
};

struct conf_hsts {
    bool on, subdomains, preload;
    uint64_t max_age; /* ms */
};

struct conf_tls {
    struct conf_hsts hsts;
    enum conf_issuer issuer;
    unsigned min_version; /* 0x0303, 0x0304 */
    struct conf_cert *certs;
    unsigned n_certs;
    bool unknown_sni_local; /* tls.unknown_sni: local */
};

struct conf_port { /* one of a service's `ports` */
    struct str name;
    uint16_t number; /* 0: chosen for each instance */
};

/* What one entry of `url` names: an address, or a name that the agent resolves. */
struct conf_backend {
    struct conf_addr addr; /* len 0: by name; the text is "api.lan:9001" then */
    struct str name;       /* name or number without a port; empty for a Unix socket */
    uint16_t port;
    struct str authority; /* as written: what `host_header: backend` sends */
    bool tls;             /* https:// */
    bool raw;             /* tcp:// */
    bool h2c;             /* h2c:// */
};

/* How a service's TLS backends are spoken to; bytes as read at load, all checked. */
struct conf_backend_tls {
    struct str ca_pem;            /* whom to trust */
    struct str name;              /* the name that certificates must have; empty: the URL's */
    struct str cert_pem, key_pem; /* shown when asked; both empty: none */
    struct str digest;            /* of all of the above, hex */
};

struct conf_service {
    unsigned index;              /* in conf.services */
    struct str name;             /* "beta/api": unique, the identity across configs */
    struct str short_name;       /* "api" */
    struct str site;             /* "beta" */
    enum conf_protocol protocol; /* of its requests; WebSocket goes as HTTP/1.1 all the same */
    struct str digest;           /* of everything that makes a running instance differ: hex */
    struct diag_place place;

    /* run: */
    struct str *argv; /* late placeholders ($listen $port $release $version $instance) still inside:
                         conf_expand */
    unsigned n_argv;  /* 0: a `url` service */
    struct str program; /* absolute path of argv[0] */
    struct str *env;    /* "NAME=value", env_file first, env over it; late placeholders inside */
    unsigned n_env;
    struct str cwd;   /* absolute */
    bool cwd_is_data; /* the default: $state/data/SITE/SERVICE, made by the master, owned by the
                         service */
    struct str user;  /* empty: auto */
    enum conf_service_listen listen;
    struct conf_addr fixed; /* len 0: an address is chosen for each instance */
    bool listens; /* it knows its own address, $listen: by run, env, or as the descriptor */
    struct conf_port *ports;
    unsigned n_ports;
    bool exclusive; /* two instances cannot run at a time: a fixed address or port, handover */
    bool handover;
    unsigned instances;
    enum conf_ready ready;
    struct str ready_path;    /* ready: { http: /healthz } */
    struct str ready_service; /* ready: { grpc: NAME }; empty: the whole server */
    unsigned ready_port; /* index in ports of the one that is asked; n_ports: its own address */
    uint64_t memory;     /* bytes; 0: unlimited */
    unsigned open_files; /* 0: as headgate itself was given */
    uint64_t health_interval, health_timeout; /* ms; interval 0: no looks */
    unsigned health_failures;
    uint64_t start_timeout; /* ms */
    int stop_signal;
    uint64_t stop_timeout;             /* ms */
    uint64_t restart_min, restart_max; /* ms */

    /* url: */
    struct conf_backend *backends;
    unsigned n_backends;
    bool raw;                     /* they are tcp://: not HTTP, for streams and TLS passed on */
    struct conf_backend_tls *tls; /* NULL: the backends are plain */

    enum conf_host_header host_header;
    struct str host_name; /* CONF_HOST_NAME: what is sent */

    uint64_t wait_ready; /* ms */
    uint64_t drain;      /* ms: timeouts.drain of its site; 0: for ever */
    enum conf_balance balance;
};

/* A header field that is set, over all of that name, or removed. */
struct conf_field {
    struct str name; /* lower case */
    struct str value;
    bool remove, https_only;
};
struct conf_fields { /* each name once */
    struct conf_field *v;
    unsigned n;
};

struct conf_error_page {
    unsigned from, to; /* statuses that it is for, both included */
    bool html;
    struct str type, body;
};

struct conf_route {
    struct str path; /* "/docs/": a prefix; "/healthz": exact */
    bool prefix;
    struct str package; /* of gRPC: path is "grpc:PACKAGE", or "grpc" for the rest */
    enum conf_handler handler;
    struct diag_place place;
    struct conf_service *service; /* proxy */
    bool strip_prefix;
    bool websocket;                  /* may switch to it */
    unsigned root;                   /* files: index in conf.roots */
    struct str index;                /* files: "index.html"; empty: none */
    enum conf_send_proxy send_proxy; /* proxy, with passthrough */
    bool listing;
    struct str fallback; /* files: name below the root, NUL-terminated; empty: none */
    struct str
        target; /* redirect: where to; what follows the prefix is appended when both end in "/" */
    unsigned status;           /* redirect, respond */
    struct str body;           /* respond */
    struct conf_rate rate;     /* its own, or the site's */
    struct conf_limits limits; /* the site's with the route's over them */
    struct conf_timeouts timeouts;
    struct conf_fields answer_fields, backend_fields; /* the same: headers, robots, HSTS */
};

struct conf_grpc {
    bool on;
    bool web;         /* gRPC-Web is translated */
    bool cors_any;    /* "*" is among them */
    struct str *cors; /* origins of other sites that may call */
    unsigned n_cors;
    uint64_t max_message;      /* bytes; 0: no limit */
    struct conf_route *routes; /* by package: longest first; among the site's */
    unsigned n_routes;
};

struct conf_site { /* a channel or a site */
    unsigned index;
    struct str name;
    bool is_channel;
    struct str host;     /* lower case, A-label; "*" and "*.example.org" as written */
    struct str *aliases; /* answered like host */
    unsigned n_aliases;
    struct str *redirect_from; /* answered with 308 to host */
    unsigned n_redirect_from;
    enum conf_https https;
    struct conf_tls tls;       /* the global one with the site's over it */
    struct conf_stream *pass;  /* tls.issuer: passthrough; NULL: TLS is ended here */
    struct conf_route *routes; /* longest path first; exact before prefix of the same length */
    unsigned n_routes;
    unsigned n_all_routes; /* with those of grpc, which no path finds: they follow */
    struct conf_grpc grpc;
    struct conf_rate rate;
    struct conf_limits limits;
    struct conf_timeouts timeouts;
    struct conf_fields answer_fields, backend_fields;
    struct conf_error_page *error_pages;
    unsigned n_error_pages;
    enum conf_coding compress[3]; /* in order of preference */
    unsigned n_compress;
    bool dotfiles;   /* static.dotfiles: allow */
    bool prerelease; /* its releases are not stable ones */
    struct diag_place place;
};

/* One of `streams`: raw TCP from a listener to a service. */
struct conf_stream {
    struct str address; /* text of its conf_listen */
    const struct conf_service *service;
    const struct conf_site *site; /* the service's */
    struct str port;              /* one of the service's ports; empty: where it listens itself */
    bool tls;                     /* it is ended here */
    bool opaque;                  /* TLS is passed on: none is added either */
    struct str host;              /* whose certificate clients get that name no host */
    struct str
        alpn; /* what is chosen from, best first, as RFC 7301 3.1 has lists; empty: nothing */
    enum conf_send_proxy send_proxy;
    uint64_t idle; /* ms; 0: off */
    struct diag_place place;
};

struct conf_root {   /* a folder that `files` serves */
    struct str path; /* absolute */
    struct diag_place place;
};

/* See known_cas in load_acme.c for the ones known by name. */
struct conf_ca {
    struct str name;    /* the folder's: "letsencrypt", "acme.example.org-directory" */
    struct str url;     /* of its directory, https:// */
    struct str staging; /* its staging directory, tried first after a failure; empty: it has none */
    struct str staging_name;
    bool known;     /* by name: a public CA that looks at hosts from the internet */
    bool takes_eab; /* acme.eab is for it, if there is one: not for Let's Encrypt */
    bool le_limits; /* Let's Encrypt's published limits are kept; letsencrypt-staging: its own */
};

struct conf_acme {
    bool on; /* `acme` was written */
    struct str email;
    struct conf_ca *cas; /* tried in this order */
    unsigned n_cas;
    struct str root_pem; /* ca_root as read at load, for CAs that are not `known`; empty: the
                            system's CAs, as for those that are */
    enum conf_challenge challenges[CONF_CHALLENGES]; /* in this order; each once */
    unsigned n_challenges;
    struct str dns_hook; /* absolute; empty: none */
    enum conf_acme_key key;
    struct str eab_kid, eab_hmac; /* hmac in base64url, checked; both empty: none */
    struct str profile, chain;
    uint64_t renew_before; /* ms before the end; 0: auto */
};

struct conf {
    struct arena *arena;
    unsigned refs;
    uint64_t generation;       /* set by the process that loads it */
    struct str file;           /* absolute */
    struct str digest;         /* of the bundle, hex */
    struct str state, runtime; /* absolute */
    struct str user;           /* "" when not started as root */
    uid_t uid;                 /* (uid_t)-1 when not started as root */
    gid_t gid;
    uint32_t service_uid_first, service_uid_last;
    unsigned workers;
    struct conf_listen *listens;
    unsigned n_listens;
    uint16_t public_http, public_https; /* ports written into redirects */
    struct net_ranges trusted_proxies, proxy_protocol;
    struct conf_tls tls;
    struct conf_acme acme;
    struct {
        struct str level;
        enum conf_access_format format;
        struct str to; /* "stdout", "stderr", or an absolute path */
        bool query;
        struct str *exclude; /* path prefixes */
        unsigned n_exclude;
    } log;
    struct {
        struct str socket; /* absolute */
        mode_t mode;
        gid_t group; /* (gid_t)-1: as it is */
    } admin;
    struct conf_limits limits;
    struct conf_timeouts timeouts;
    struct conf_site *sites; /* channels, then sites, each in the order of the file */
    unsigned n_sites;
    struct conf_service *services;
    unsigned n_services;
    struct conf_root *roots;
    unsigned n_roots;
    bool passes_tls; /* some site has `pass` */
    struct conf_stream *streams;
    unsigned n_streams;
};

/*
 * Where a load takes its bytes from. From the file system everything read (files, secrets,
 * environment, resolved users, directory globs) is recorded, so that conf_bundle can hand it on
 * and a load from that bundle, in a sandbox, gives the same conf.
 */
struct conf_source;
struct conf_source *conf_source_fs(const char *file); /* path of the main file */
/* `bundle` is borrowed for the source's life. NULL and *err when it is none. */
struct conf_source *conf_source_bundle(struct str bundle, const char **err);
/*
 * On a bundle: the files of tls.certificates, and those that their patterns find, are looked at in
 * the file system again; all else stays as it was when the bundle was made.
 */
void conf_source_certs_anew(struct conf_source *s);
/* After a load: those files, and the folders of the patterns, made in `a`; returns how many. */
unsigned conf_source_cert_paths(const struct conf_source *s, struct arena *a, const char ***out);
void conf_source_close(struct conf_source **s);

enum { CONF_OFFLINE = 1 }; /* flags: no look at paths, users, ports (headgate check --offline) */

/* NULL when `diags` holds an error; warnings alone do not fail. The caller holds one reference. */
struct conf *conf_load(struct conf_source *s, unsigned flags, struct diags *diags);
struct str conf_bundle(struct arena *a, const struct conf_source *s); /* after a good load */
struct conf *conf_ref(struct conf *c);
void conf_unref(struct conf **c);

/* From "127.0.0.1" or "::1"; the text in a. False when it is no address. */
bool conf_addr_ip(struct arena *a, struct str ip, uint16_t port, struct conf_addr *out);

/* Late placeholders of argv, env and the like; each may be empty. */
struct conf_vars {
    struct str listen, port, release, version, instance;
    const struct conf_port *ports; /* $port:NAME, all with numbers */
    unsigned n_ports;
};
struct str conf_expand(struct arena *a, struct str text, const struct conf_vars *v);

const struct conf_service *conf_service_find(const struct conf *c, struct str name);
/* The stream of a listener; NULL: it has none (any more). */
const struct conf_stream *conf_stream_find(const struct conf *c, struct str address);
bool conf_listens(const struct conf *c, enum conf_listen_kind kind);
bool conf_ends_tls(const struct conf *c); /* anywhere: https, or a stream with TLS */
/* Two instances of it cannot run side by side: the old one goes first. */
bool conf_service_alone(const struct conf_service *s);
/*
 * How long a replaced instance of it may go on with its requests, ms; 0: for ever. Where its
 * successor has to wait for it, so do new requests: then it gets half of their patience, so that
 * the successor has time to start in the other half.
 */
uint64_t conf_service_drain(const struct conf_service *s);

/* The issuer that `auto` means for a host (CONFIG.md: localhost, *.local, …, IP addresses). */
enum conf_issuer conf_issuer_for(const struct conf_tls *tls, struct str host);
/* The certificate of that host, one of the site's, comes by ACME: not given, not local. */
bool conf_wants_acme(const struct conf *c, const struct conf_site *site, struct str host);
/* All names of a site: its host, then the aliases, then redirect_from. */
static inline unsigned conf_site_hosts(const struct conf_site *s)
{
    return 1 + s->n_aliases + s->n_redirect_from;
}
static inline struct str conf_site_host(const struct conf_site *s, unsigned i)
{
    return i == 0              ? s->host
           : i <= s->n_aliases ? s->aliases[i - 1]
                               : s->redirect_from[i - 1 - s->n_aliases];
}
unsigned conf_hosts(const struct conf *c); /* names of all sites, counted */
/* Is it a name of some site, as written? */
bool conf_names_host(const struct conf *c, struct str host);

/* Verbs, in conf/: each writes to a stream and returns the exit status. */
#include <stdio.h>
int conf_print_schema(FILE *f);              /* headgate schema: JSON Schema 2020-12 */
int conf_print_keys_mdoc(FILE *f);           /* the key reference of headgate.yaml.5 */
int conf_explain(const char *code, FILE *f); /* headgate explain E003; 1 when unknown */

#endif
