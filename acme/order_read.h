/*
 * order_read.h - orders and authorizations as a CA sends them (RFC 8555 7.1.3, 7.1.4), looked
 * through: nothing of them is used that was not checked here. Pure.
 */
#ifndef HG_ORDER_READ_H
#define HG_ORDER_READ_H

#include "acme/ca.h"
#include "acme/challenge.h"

#define ORDER_AUTHORIZATIONS_MAX 8

/* "deactivated", "expired" and "revoked" are ACME_STATUS_INVALID too: no way leads on. */
enum acme_status {
    ACME_STATUS_PENDING,
    ACME_STATUS_READY,
    ACME_STATUS_PROCESSING,
    ACME_STATUS_VALID,
    ACME_STATUS_INVALID,
};

/* Strings and JSON are borrowed from what was read. */
struct order_view {
    enum acme_status status;
    struct str authorizations[ORDER_AUTHORIZATIONS_MAX]; /* when it is pending */
    unsigned n_authorizations;
    struct str finalize;    /* when it is pending or ready, else empty */
    struct str certificate; /* when it is valid, else empty */
    const json_t *error;    /* a problem document, or NULL */
};
/* For exactly this host. NULL, or a sentence in a. */
const char *order_read(struct arena *a, const struct ca *ca, const json_t *j, struct str host,
                       struct order_view *out) MUST_USE;

struct authz_view {
    enum acme_status status;
    struct authz_challenge {
        bool offered;
        enum acme_status status;
        struct str url, token;
        const json_t *error;
    } challenges[CONF_CHALLENGES];
    const json_t *error; /* the first that a challenge has, of kinds that we do not know too */
};
/* `host` without "*.". NULL, or a sentence in a. */
const char *authz_read(struct arena *a, const struct ca *ca, const json_t *j, struct str host,
                       struct authz_view *out) MUST_USE;

#endif
