/*
 * ledger.h - what was asked of a CA lately, on disk, against the limits that it publishes: what
 * would exceed one waits, and says until when. One file a CA, $state/acme/NAME/ledger.
 */
#ifndef HG_LEDGER_H
#define HG_LEDGER_H

#include <jansson.h>

#include "base/arena.h"

enum ledger_kind {
    LEDGER_ORDERS,     /* new orders of the account */
    LEDGER_DOMAIN,     /* certificates of a registered domain (public suffix list) */
    LEDGER_DUPLICATES, /* certificates of the same names */
    LEDGER_FAILURES,   /* failed validations of a host */
    LEDGER_KINDS
};
struct ledger_limit {
    unsigned count; /* 0: no such limit */
    int64_t seconds;
};
/* Let's Encrypt's: 300/3 h, 50/7 d, 5/7 d, 5/1 h. */
extern const struct ledger_limit ledger_letsencrypt[LEDGER_KINDS];
extern const struct ledger_limit ledger_staging[LEDGER_KINDS];
extern const struct ledger_limit ledger_none[LEDGER_KINDS];

struct ledger;
/* A file that is damaged is read as far as it is whole, and told in *err (a sentence, in a). */
struct ledger *ledger_open(struct arena *a, const char *path, const struct ledger_limit *limits,
                           const char **err);
void ledger_close(struct ledger **l);

enum ledger_event { LEDGER_ORDERED = 1, LEDGER_ISSUED = 2, LEDGER_FAILED = 3 };
/* Written and synced at once; `exempt`: an ARI renewal, which counts for no limit but ORDERS. */
const char *ledger_add(struct ledger *l, struct arena *a, enum ledger_event e, struct str host,
                       bool exempt, int64_t now) MUST_USE;

struct ledger_verdict {
    int64_t until; /* 0: go; else wall clock s when there is room again */
    enum ledger_kind kind;
    char text[256]; /* "5 certificates for exactly this host within 7 days: the next one at …" */
};
struct ledger_verdict ledger_ask(const struct ledger *l, struct str host, bool exempt, int64_t now);

struct ledger_left {
    unsigned used, limit;
    int64_t until; /* when one more is free again; 0: it is now */
};
struct ledger_left ledger_left(const struct ledger *l, enum ledger_kind k, struct str host,
                               int64_t now);
const char *ledger_kind_text(enum ledger_kind k); /* "orders of the account" */
/* "example.org" of "a.b.example.org" by the public suffix list; the host itself when it has none.
 */
struct str ledger_domain(struct arena *a, struct str host);

#endif
