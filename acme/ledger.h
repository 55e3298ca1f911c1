/*
 * ledger.h - what was asked of a CA lately, on disk, against the limits that it publishes: what
 * would exceed one waits, and says until when. One file a CA, $state/acme/NAME/ledger, which one
 * process writes; others may open it to look.
 */
#ifndef HG_LEDGER_H
#define HG_LEDGER_H

#include "base/arena.h"

#define LEDGER_MAX 4096 /* events kept; of more the oldest are forgotten */

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
/* Those of a CA whose folder has that name; `letsencrypt`: its limits are Let's Encrypt's. */
const struct ledger_limit *ledger_limits(struct str ca, bool letsencrypt);

struct ledger;
/*
 * Never NULL. `limits` (LEDGER_KINDS of them) and `path` are copied. Lines that are damaged are
 * left out, and told in *err (a sentence, in a; else NULL), as is a file that cannot be read.
 */
struct ledger *ledger_open(struct arena *a, const char *path, const struct ledger_limit *limits,
                           const char **err);
void ledger_close(struct ledger **l);

enum ledger_event { LEDGER_ORDERED = 1, LEDGER_ISSUED = 2, LEDGER_FAILED = 3 };
/*
 * Written and synced at once; `host`: lower case, "*." too. `exempt`: an ARI renewal, whose order
 * and certificate count for no limit but ORDERS; its failures count like all. NULL, or a sentence
 * in a: it counts all the same, and is written with the next one.
 */
const char *ledger_add(struct ledger *l, struct arena *a, enum ledger_event e, struct str host,
                       bool exempt, int64_t now) MUST_USE;

struct ledger_verdict {
    int64_t until; /* 0: go; else wall clock s when there is room again */
    enum ledger_kind kind;
    char text[256]; /* "5 certificates for exactly this host within 7 days, which is the CA's limit:
                       the next one at 2026-12-04 10:00:00 UTC"; "" when there is room */
};
/* May an order for this host be made? An exempt one waits for ORDERS alone. */
struct ledger_verdict ledger_ask(const struct ledger *l, struct str host, bool exempt, int64_t now);

struct ledger_left {
    unsigned used, limit; /* limit 0: there is none, and nothing is counted */
    int64_t until;        /* when one more is free again; 0: it is now */
};
struct ledger_left ledger_left(const struct ledger *l, enum ledger_kind k, struct str host,
                               int64_t now);
const char *ledger_kind_text(enum ledger_kind k); /* "orders of the account" */
/* "example.org" of "a.b.example.org" by the public suffix list; the host itself when it has none.
 */
struct str ledger_domain(struct arena *a, struct str host);

#endif
