/*
 * redirect.h - answers that send the client elsewhere, for the `redirect` handler, folders, hosts
 * and http → https alike.
 */
#ifndef HG_REDIRECT_H
#define HG_REDIRECT_H

#include "proxy/req.h"

/* Answers with `status` (301, 302, 303, 307, 308) and Location; location is in r->arena or
 * constant. */
void redirect_answer(struct req *r, unsigned status, struct str location);

/*
 * Location for r's own path and query with a "/" behind the path: for "/docs" of the route "/docs/"
 * and for folders. Relative, so that it holds behind any port; never "//…", which would be a host.
 */
struct str redirect_add_slash(struct req *r);

/*
 * scheme://host[:port]path[?query] of r; the port is left out when it is the scheme's own. host:
 * with or without the brackets of an IPv6 address.
 */
struct str redirect_absolute(struct req *r, struct str scheme, struct str host, uint16_t port);

#endif
