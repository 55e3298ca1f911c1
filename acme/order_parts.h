/*
 * order_parts.h - what the parts of an order share, and nobody else: order.c (states and actions)
 * and order_answer.c (what answers mean).
 */
#ifndef HG_ORDER_PARTS_H
#define HG_ORDER_PARTS_H

#include "acme/order.h"
#include "acme/order_read.h"
#include "base/loop.h"

#define ORDER_ALTERNATES_MAX 8

enum order_state {
    S_RESUMING,    /* the order of before is looked at */
    S_ORDERING,    /* newOrder */
    S_AUTHORIZING, /* an authorization is looked at */
    S_SHOWING,     /* the proof is put up, by others */
    S_TELLING,     /* the CA is told that it is up */
    S_VALIDATING,  /* the authorization is looked at until it is decided */
    S_READYING,    /* the order is looked at until it is ready */
    S_FINALIZING,  /* the CSR is sent */
    S_PROCESSING,  /* the order is looked at until it is issued */
    S_FETCHING,    /* the chain */
    S_ALTERNATES,  /* the other chains, one after the other */
    S_ENDED,
    N_STATES
};

/* The first five: the status of the order or authorization that came. */
enum order_event {
    E_PENDING = ACME_STATUS_PENDING,
    E_READY = ACME_STATUS_READY,
    E_PROCESSING = ACME_STATUS_PROCESSING,
    E_VALID = ACME_STATUS_VALID,
    E_INVALID = ACME_STATUS_INVALID, /* o->fail says why */
    E_SHOWN,
    E_NOT_SHOWN, /* o->fail */
    E_TOLD,
    E_CHAIN,   /* one came, and was looked at */
    E_NETWORK, /* o->fail: no answer, or not now */
    E_FAILED,  /* o->fail */
    N_EVENTS
};

struct order {
    struct arena *arena; /* holds this struct */
    struct arena *step;  /* of the answer that is being looked at */
    struct ca *ca;
    struct order_spec spec;
    const struct order_ops *ops;
    void *ctx;
    struct turn_task begin;

    enum order_state state;
    struct ca_call *call;
    struct event timer;
    unsigned polls, network_tries; /* in this state */
    uint64_t since;                /* loop ms, of this state */
    int64_t retry_at;              /* wall clock s, of the last answer; 0: nothing was said */
    struct acme_fail fail;

    /* The CA's order. */
    const char *url, *finalize, *certificate; /* NULL: unknown */
    const char *authorizations[ORDER_AUTHORIZATIONS_MAX];
    unsigned n_authorizations, at_authorization;
    EVP_PKEY *key;
    struct str key_pem;
    unsigned orders, finalizes;
    bool resumed, saved, without_replaces, without_profile;
    bool renewal; /* the CA says so */

    /* Ways to prove the name, by what the authorization said. */
    struct way {
        bool offered, used;
        bool under_way; /* the CA was told before */
        const char *url;
        struct str token;
    } ways[CONF_CHALLENGES];
    struct challenge challenge; /* that is tried */
    bool shown;
    struct acme_fail untold; /* the CA did not want to be told of it; ACME_FINE: it did */
    struct str failures;     /* of all that were tried, for people */

    struct cert_facts cert; /* the best chain so far; pem empty: none */
    const char *refusal;    /* of the CA's first one */
    const char *alternates[ORDER_ALTERNATES_MAX];
    unsigned n_alternates, at_alternate;
};

static inline bool order_wild(const struct order *o)
{
    return str_starts(o->spec.host, STR("*."));
}
/* A state of looking until something is decided. */
static inline bool order_polls(enum order_state s)
{
    return s == S_VALIDATING || s == S_READYING || s == S_PROCESSING;
}

/* ---- order.c ---- */
const char *order_step(const struct order *o); /* "finalize", for failures */
#define order_fail(o, kind, ...) acme_fail_set(&(o)->fail, kind, order_step(o), __VA_ARGS__)

/* ---- order_answer.c ---- */
/* What the answer is worth keeping of is copied into the order; o->fail where the event says so. */
enum order_event order_answer(struct order *o, const struct ca_answer *a);

#endif
