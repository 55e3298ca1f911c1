/*
 * issuer.h - all hosts whose certificates come by ACME: what lies on disk is served at once, and
 * each is ordered, renewed and tried again at its time, from the CAs of the configuration in their
 * order. Runs in the agent; never waits. One order is order.c's, who shows challenges and serves
 * certificates is told by the owner's callbacks.
 */
#ifndef HG_ISSUER_H
#define HG_ISSUER_H

#include <jansson.h>

#include "acme/challenge.h"
#include "conf/conf.h"

enum issuer_step {
    ISSUER_SERVED = 1,  /* all is well until next_at */
    ISSUER_WORKING = 2, /* a try is under way */
    ISSUER_WAITING = 3, /* no certificate, or a late one: the next try is at next_at */
};
/* For status and metrics; borrowed. */
struct issuer_state {
    struct str host;
    const char *issuer; /* of the certificate in service; "" none */
    int64_t not_after;  /* wall clock s; 0: no certificate */
    int64_t next_at;    /* 0: under way */
    enum issuer_step step;
    unsigned failures; /* in a row */
    const char *error; /* "" when the last try went well */
};

struct issuer_ops {
    /* To be served from now on; chain and key in one text. Again with the same after a restart. */
    void (*cert)(void *ctx, struct str host, struct str pem, int64_t not_after);
    /* Shows a challenge (copied) everywhere, then calls `done`; never before it returned. What it
     * returns, never 0, is for `hide`, after which `done` is not called. */
    uint64_t (*show)(void *ctx, const struct challenge *c, void (*done)(void *arg, const char *err),
                     void *arg);
    void (*hide)(void *ctx, uint64_t id);
    void (*state)(void *ctx, const struct issuer_state *s);
    /* The end of what issuer_ask began, by its number; `answer` is stolen, `ok`: it was done. */
    void (*answer)(void *ctx, uint64_t ask, bool ok, json_t *answer);
};

struct issuer;
/* `state`: the state folder, maybe "."; `shown`: its name in messages. Both are copied. */
struct issuer *issuer_new(const char *state, const char *shown, const struct issuer_ops *ops,
                          void *ctx);
void issuer_close(struct issuer **is);
/*
 * The hosts of a configuration, each once; with the first come certificates from disk, before it
 * returns. Orders of hosts that are named no more are dropped; those of others go on.
 */
void issuer_use(struct issuer *is, struct conf *c, const struct str *hosts, unsigned n);
bool issuer_serves(struct issuer *is, struct str host); /* a certificate that has not ended */
/*
 * `what`: "list", "renew", "revoke", "roll-key"; `host`: where it needs one. Answered by
 * ops.answer, now or later.
 */
void issuer_ask(struct issuer *is, uint64_t ask, struct str what, struct str host);

#endif
