/*
 * error_page.h - what a client sees when a request failed: a small page for people, or JSON for
 * programs, by what Accept prefers. When a request fails, and how, is req.c's (req_fail).
 */
#ifndef HG_ERROR_PAGE_H
#define HG_ERROR_PAGE_H

#include "base/arena.h"
#include "conf/conf.h"
#include "proxy/http.h"

/*
 * Adds Content-Type, Cache-Control: no-store and X-Content-Type-Options to out_fields (which may
 * hold others, such as Allow or Retry-After) and makes the body in `a`. `accept`: value of the
 * request's Accept, may be empty; host may be empty. The caller leaves the body out for HEAD.
 */
void error_page_make(struct arena *a, unsigned status, struct str accept, struct str request_id,
                     struct str host, struct fields *out_fields, struct str *out_body);

/*
 * The page that the site's `errors` has for the status, with the same fields; false: none, or an
 * HTML one for a client that prefers JSON. The body is the configuration's. `site` may be NULL.
 */
bool error_page_of_site(struct arena *a, const struct conf_site *site, unsigned status,
                        struct str accept, struct fields *out_fields, struct str *out_body);

/* Does Accept (RFC 9110 12.5.1) prefer JSON (application/json, …+json) to HTML? Empty: no. */
bool error_page_prefers_json(struct str accept);

#endif
