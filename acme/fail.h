/*
 * fail.h - why a step with a CA failed: one record that the protocol makes, the schedule acts on
 * and people read.
 */
#ifndef HG_FAIL_H
#define HG_FAIL_H

#include <jansson.h>

#include "base/base.h"

enum acme_fail_kind {
    ACME_FINE,
    ACME_NETWORK, /* the CA could not be reached, or its answer broke off */
    ACME_BUSY,    /* 429, 503, 5xx: it wants to be left alone: the whole CA pauses */
    ACME_LIMITED, /* rateLimited for this host or account alone */
    ACME_REFUSED, /* a problem document about this order: the host's failure */
    ACME_INVALID, /* a validation failed: the next challenge may work */
    ACME_BROKEN,  /* what it said is no ACME, or its certificate is not to be served */
    ACME_ACCOUNT, /* the account: terms, EAB, contact, deactivated: all hosts of this CA */
    ACME_LOCAL,   /* our side: disk, hook, worker, clock */
};

struct acme_fail {
    enum acme_fail_kind kind;
    unsigned status;  /* HTTP; 0: none */
    int64_t retry_at; /* wall clock s; what the CA asked for (Retry-After); 0: nothing */
    char type[64];    /* the problem's, without its URN: "rateLimited", "badNonce", or "" */
    char step[32];    /* what was being done: "newOrder", "finalize" */
    char text[512];   /* a sentence for people, the CA's own words in it; harmless bytes only */
    const char *hint; /* a constant that names the cure, or NULL */
};

/* `text` as printf's; control bytes of the CA are made harmless. */
void acme_fail_set(struct acme_fail *f, enum acme_fail_kind kind, const char *step, const char *fmt,
                   ...) PRINTF(4, 5);
/*
 * From a problem document (RFC 8555 6.7, RFC 7807): of an answer, or an order's or challenge's
 * "error". The kind is that of its type; where it is about a validation, the caller knows better.
 * No object at all is fine: then `status` alone speaks.
 */
void acme_fail_problem(struct acme_fail *f, const char *step, unsigned status,
                       const json_t *problem);
/* The cure for a problem type ("connection", "dns", "caa", "rateLimited", …); NULL: we know none.
 */
const char *acme_hint(const char *type, const char *challenge);
/* RFC 9110 10.2.3: seconds or a date, as wall clock s: more than `now`, at most a week more; 0 when
 * there is none or it is no time. */
int64_t acme_retry_after(struct str value, int64_t now);

#endif
