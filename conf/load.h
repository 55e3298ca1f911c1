/*
 * load.h - what the files of a load share: trees → checked tree (check.c, merge.c) → struct conf
 * (load*.c). Private to conf/.
 */
#ifndef HG_CONF_LOAD_H
#define HG_CONF_LOAD_H

#include "conf/conf.h"
#include "conf/schema.h"
#include "conf/source.h"
#include "conf/tree.h"
#include "conf/value.h"

/* Where a host name is claimed. */
struct host_use {
    struct str name;
    struct diag_place at;
    struct conf_site *site;
    const struct node *node;
};

struct load {
    struct arena *a;   /* the conf's own */
    struct arena *tmp; /* trees and the like, gone after the load */
    struct conf_source *src;
    struct diags *d;
    unsigned flags;
    struct conf *c;
    struct host_use *hosts;
    unsigned n_hosts, cap_hosts;
    struct node *root; /* files combined, defaults merged in */
    bool broken;       /* a file could not be read to its end */
};

/* What placeholders stand for at a place; empty: they have no meaning there. */
struct scope {
    struct str channel, host, service, data;
    bool late; /* $listen and its like stay in the text, everything else is escaped for conf_expand
                */
};

/* check.c: keys and types of one file; shorthands become maps. */
void check_file(struct arena *a, struct diags *d, struct node *root);

/* Place of a placeholder in the text of n. */
struct diag_place place_in(const struct node *n, const struct placeholder_at *p);

/* merge.c */
void merge_file(struct arena *a, struct diags *d, struct node *into, struct node *from);
void merge_defaults(struct arena *a, struct diags *d, struct node *root);

/* load_get.c: values by schema row, default when missing or wrong (which was reported then). */
bool load_expand(struct load *l, const struct scope *sc, const struct node *n, struct str *out);
struct str get_text(struct load *l, const struct scope *sc, const struct node *map,
                    enum schema_group g, const char *name);
struct str get_path(struct load *l, const struct scope *sc, const struct node *map,
                    enum schema_group g, const char *name);
uint64_t get_number(struct load *l, const struct scope *sc, const struct node *map,
                    enum schema_group g, const char *name);
bool get_bool(struct load *l, const struct scope *sc, const struct node *map, enum schema_group g,
              const char *name);
/* Each item expanded and checked; wrong ones are left out. items[i] is the node of out[i]; either
 * may be NULL. */
unsigned get_list(struct load *l, const struct scope *sc, const struct node *map,
                  enum schema_group g, const char *name, struct str **out,
                  const struct node ***items);
/* Place of the key's value, or of the map when it is not written. */
struct diag_place place_of_key(const struct node *map, const char *name);
/* The place as it may last: the file's name copied. */
struct diag_place place_keep(struct load *l, struct diag_place at);
bool is_written(const struct node *map, const char *name);
/* Absolute, against the folder of the file that n stands in (the main file's when NULL). */
struct str resolve_path(struct load *l, const struct node *n, struct str path);

/* load_global.c */
void load_global(struct load *l);
void load_limits(struct load *l, const struct scope *sc, const struct node *map,
                 enum schema_group g, struct conf_limits *out);
void load_timeouts(struct load *l, const struct scope *sc, const struct node *map,
                   enum schema_group g, struct conf_timeouts *out);
/* One more address; one that is there already is an error. */
void add_listen(struct load *l, enum conf_listen_kind kind, const struct conf_addr *addr,
                struct diag_place at);
/* load_stream.c: after load_sites, whose services they name */
void load_streams(struct load *l);
/* Does one go to the service ("beta/api"), to any of the site? */
bool stream_names_service(const struct load *l, struct str service);
bool stream_names_site(const struct load *l, struct str site);
/* load_passthrough.c: sites whose TLS is passed on; after their routes */
enum conf_send_proxy load_send_proxy(struct load *l, const struct scope *sc, const struct node *map,
                                     enum schema_group g);
void load_passthrough(struct load *l, const struct member *m, struct conf_site *site);
void check_passthrough_global(struct load *l);
/* rate_limit of a site or, with its path, a route; over what is in *out already. */
void load_rate(struct load *l, const struct scope *sc, const struct node *map, struct str site,
               struct str route, struct conf_rate *out);
/* load_tls.c: over what is in *out already. */
void load_tls(struct load *l, const struct scope *sc, const struct node *map, struct conf_tls *out);
/* Is there a certificate, a key, and do they belong together? Says so when not; looks at dates. */
bool tls_check_pair(struct load *l, const struct conf_cert *c, struct diag_place cert_at,
                    struct diag_place key_at);
/* How many certificates the PEM text holds; 0 also when one of them cannot be read. */
unsigned tls_count_certs(struct str pem);
bool tls_covers(const struct conf_tls *tls, struct str host);
bool tls_certs_written(const struct node *map);
/* load_acme.c */
void load_acme(struct load *l);
/* load_site.c */
void load_sites(struct load *l);
/* load_answer.c: fields, robots, HSTS, error pages, compression; after load_tls */
void load_site_answer(struct load *l, const struct scope *sc, const struct node *map,
                      struct conf_site *site);
void load_route_answer(struct load *l, const struct scope *sc, const struct node *map,
                       const struct conf_site *site, struct conf_route *r);
/* load_service.c */
void load_services(struct load *l, const struct scope *sc, const struct node *map,
                   struct conf_site *site);
/* How often a service is looked at, and when it has failed. */
void load_health(struct load *l, const struct scope *sc, const struct node *map,
                 struct conf_service *s);
/* load_backend.c: services with `url`; host_header of all */
void load_url(struct load *l, const struct scope *sc, const struct node *map,
              struct conf_service *s);
void load_host_header(struct load *l, const struct scope *sc, const struct node *map,
                      struct conf_service *s);
/* load_grpc.c: its routes go behind the site's others, where load_routes left room */
unsigned grpc_routes_max(const struct node *map);
void load_grpc(struct load *l, const struct scope *sc, const struct node *map,
               struct conf_site *site);
/* load_route.c */
/* "api", or "beta/api" of another site; NULL when there is none, which was reported at n. */
struct conf_service *find_service(struct load *l, const struct node *n, struct str name,
                                  const struct conf_site *site);
void load_routes(struct load *l, const struct scope *sc, const struct node *map,
                 const struct node *grpc, struct conf_site *site);
/* load_hosts.c: names claimed twice, names without a certificate. */
void add_host(struct load *l, struct conf_site *site, struct str name, const struct node *n);
void check_hosts(struct load *l);

bool load_offline(const struct load *l);

#endif
