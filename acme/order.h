/*
 * order.h - one certificate from one CA, from newOrder to a chain that was checked (RFC
 * 8555 7.4, 7.5): a table of state × event. A challenge that fails is followed by a new order with
 * the next one. An order that was interrupted goes on from its URL and key. When to order, where to
 * store and whom to show it, is issuer.c's.
 */
#ifndef HG_ORDER_H
#define HG_ORDER_H

#include "acme/ca.h"
#include "acme/cert_check.h"
#include "acme/challenge.h"

/* Copied. */
struct order_spec {
    struct str host; /* lower case; "*.example.org": by dns-01 alone */
    enum conf_acme_key key;
    enum conf_challenge challenges[CONF_CHALLENGES]; /* in this order */
    unsigned n_challenges;
    struct str profile;  /* empty: the CA's default; left out where the CA does not list it */
    struct str replaces; /* ARI id; empty: none. Refused: the order is made again without it */
    struct str chain;    /* preferred chain: common name of its top issuer; empty: the CA's first */
    struct str resume_url, resume_key; /* of an interrupted one; both or neither */
    uint64_t patience_ms; /* with a CA that decides nothing, in one step; 0: 10 minutes. With a
                             proof that is not put up as well; with one in the DNS six times it */
};

struct order;

/* What counts against a CA's limits. */
enum order_spent {
    ORDER_SPENT_ORDER,      /* one was made */
    ORDER_SPENT_VALIDATION, /* one failed */
    ORDER_SPENT_CERTIFICATE /* it was issued, whether we get it or not; of an order that is gone on
                               with: now or before */
};

struct order_result {
    const struct acme_fail *fail; /* NULL: there is a certificate */
    struct cert_facts cert;
    struct str key_pem;
    struct str url;
};

/* None but `show` and `done` may close the order. */
struct order_ops {
    /*
     * Shows the challenge to all who may be asked, then order_shown. Called again after a failure,
     * with the next. Borrowed until `hide` of the same.
     */
    void (*show)(void *ctx, const struct challenge *c);
    void (*hide)(void *ctx, const struct challenge *c); /* nobody asks any more */
    /* From here on the order can be resumed: to be on disk when it returns. NULL or a sentence,
     * which fails the order. An empty url: there is nothing to resume any more. */
    const char *(*save)(void *ctx, struct str url, struct str key_pem);
    /* `renewal`: the CA has taken the order as one (RFC 9773 5), which it counts otherwise. */
    void (*spent)(void *ctx, enum order_spent what, bool renewal);
    void (*step)(void *ctx, const char *step); /* "waiting for validation by http-01", for people */
    /* The end; the order is closed by itself afterwards, the result borrowed. */
    void (*done)(void *ctx, const struct order_result *r);
};

/* Never calls back before it returned. */
struct order *order_start(struct ca *ca, const struct order_spec *spec, const struct order_ops *ops,
                          void *ctx);
/* The challenge of the last `show` is up everywhere; err: it could not be, in words. */
void order_shown(struct order *o, const char *err);
void order_close(struct order **o); /* hides what it shows; fine on NULL */

#endif
