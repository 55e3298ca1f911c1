/*
 * coding.h - which content coding an answer gets: what the client accepts (RFC 9110 12.5.3), which
 * types are worth it, and what a head says once it is coded. Pure functions; bytes are encoder.h's.
 */
#ifndef HG_CODING_H
#define HG_CODING_H

#include "conf/conf.h"
#include "proxy/http.h"

#define CODING_MIN 1024 /* bytes: below it coding saves no packet */

struct str coding_name(enum conf_coding c); /* "br", "zstd", "gzip" */
/*
 * The one of the `n` in `prefer` that Accept-Encoding weighs most, the first of equals. False: the
 * answer goes as it is, for want of the field or because the client would rather have it so.
 */
bool coding_choose(const struct fields *request, const enum conf_coding *prefer, unsigned n,
                   enum conf_coding *out) MUST_USE;
bool coding_worth_type(struct str content_type);
/* RFC 9110 7.7: no-transform of either side, and what is coded, a part, or signed as it is. */
bool coding_allowed(const struct fields *request, const struct fields *answer);
/* Adds accept-encoding to Vary unless it is there. */
void coding_vary(struct arena *a, struct fields *answer);
/* A strong ETag is of other bytes now: it becomes a weak one (RFC 9110 8.8.3.3). */
void coding_weaken_etag(struct arena *a, struct fields *answer);

#endif
