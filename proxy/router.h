/*
 * router.h - host and path → site and route, by tables built once a snapshot. Lookups allocate
 * nothing and read the name or path once. Paths and hosts come normalised (uri.h); what is done
 * with the answer (redirects, gates, handlers) is the request's.
 */
#ifndef HG_ROUTER_H
#define HG_ROUTER_H

#include "conf/conf.h"

struct router; /* immutable; borrows the conf that it was made from */

struct router *router_new(const struct conf *c);
void router_free(struct router **r); /* fine on NULL */

struct route_match {
    const struct conf_site *site;
    const struct conf_route *route; /* NULL: the site has none for the path: 404 */
    bool redirect_host;             /* the name is one of redirect_from: 308 to site->host */
    bool add_slash;                 /* "/docs" for the route "/docs/": 308 to "/docs/" */
    struct str rest; /* path behind the route's own: "" or "guide/x", no "/" in front */
};

/*
 * Fills site and redirect_host. `name`: uri_host.name. An exact name wins over "*.example.org" (one
 * label), that over "*". False: no site has the name (421 over TLS, else 404: RFC 9110 15.5.20).
 */
bool router_host(const struct router *r, struct str name, struct route_match *m);

/*
 * Fills route, add_slash and rest. `path` begins with "/". The longest route wins; "/docs" goes to
 * "/docs/" unless a route "/docs" exists. False: no route.
 */
bool router_path(const struct router *r, const struct conf_site *site, struct str path,
                 struct route_match *m);

#endif
