/*
 * metrics.h - what headgate tells monitoring about itself: counting a request in its route's row,
 * and the `metrics` handler that answers /metrics, /healthz and /readyz on listeners of its kind.
 * The rows are rows.h's, the families and their text metrics_families.c's, facts that only the
 * master knows master_metrics.c's.
 */
#ifndef HG_METRICS_H
#define HG_METRICS_H

#include <stdio.h>

#include "base/arena.h"
#include "conf/conf.h"
#include "proxy/rows.h"

struct req;

/* The rows of a snapshot's sites and routes, looked up once. */
struct metrics_rows;
struct metrics_rows *metrics_rows_new(const struct conf *c);
void metrics_rows_free(struct metrics_rows **m); /* fine on NULL */

/* Calls each(ctx, key) for every row that requests of the configuration may count into. */
void metrics_route_keys(const struct conf *c, void (*each)(void *ctx, const struct row_key *key),
                        void *ctx);

/*
 * Its row, for a request that outlives its snapshot: as r->kept.row, which metrics_count gives
 * back.
 */
struct route_row *metrics_row_keep(const struct req *r);

/* The request is over: adds it to its row. Once a request; a few stores. */
void metrics_count(const struct req *r);

struct str metrics_listener_kind(uint32_t kind); /* enum listener_kind: "http", … */

/* ---- metrics_families.c ---- */

/* What the process that answers knows by itself. */
struct metrics_cert {
    struct str host;
    int64_t not_after; /* seconds since 1970 */
};
struct metrics_facts {
    uint64_t now; /* ms, loop time */
    const struct metrics_cert *certs;
    unsigned n_certs;
};

/*
 * All metrics in Prometheus' text format 0.0.4, in the order of the tables, rows in that of the
 * segment. Made in memory of `o`; o->over when that is too small. `a` for what it needs meanwhile.
 */
void metrics_write(struct out *o, struct arena *a, const struct metrics_facts *f);
/* The families for the manual: an mdoc list. Returns the exit status. */
int metrics_print_mdoc(FILE *f);

#endif
