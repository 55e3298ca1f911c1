/*
 * rows.h - labelled counters: the second shared segment. A row belongs to a name of the
 * configuration (a route, a service, a listener, a process, a host) and has a cell in each
 * process's own area, so that counting is a plain store and a scrape adds the areas up. Which
 * metrics are made of the values is metrics_families.c's; plain counters without labels are
 * base/stats.h's.
 *
 * The master alone decides which row has which name, before a configuration goes to the workers
 * (metrics_follow in master_metrics.c). A worker looks its rows up once a snapshot (rows_use,
 * rows_drop) and keeps the pointers. A name that left the configuration keeps its row: it is shown
 * for ROWS_KEEP_MS more, and goes on from its old value when it comes back before the row is needed
 * for another name, which happens last, and only while no process uses it. Names for which there is
 * no row left count into the kind's row 0, "_other": what clients send never makes a row.
 *
 * A new kind: a line in ROW_KINDS with the values as a struct of int64_t and the labels' names, its
 * names claimed in master_metrics.c, families in metrics_families.c. New values of a kind: fields
 * of its struct (gauges in its list below).
 */
#ifndef HG_ROWS_H
#define HG_ROWS_H

#include "base/base.h"

#define ROWS_LABELS_MAX 3
#define ROWS_KEY_MAX    400 /* bytes of a row's labels, each with a NUL behind it */
#define ROWS_KEEP_MS    (15 * 60 * 1000)
#define ROWS_PROCESSES  260 /* as many as there are slots in the stats segment */

/* ---- values ---- */

enum { ROW_BOUNDS = 15 };
/* Upper bounds in µs; one more bucket for what takes longer. */
extern const int64_t row_bounds_us[ROW_BOUNDS];

struct row_histogram {
    int64_t bucket[ROW_BOUNDS + 1]; /* not cumulative */
    int64_t sum_us;
};

/* Classes of answers: 1xx to 5xx, and none for a request that got no answer. */
enum { CLASS_NONE, CLASS_1XX, CLASS_2XX, CLASS_3XX, CLASS_4XX, CLASS_5XX, CLASSES };
enum { ROW_METHODS = 10 }; /* as in enum http_method */

/* gRPC and gRPC-Web; as in enum grpc_shape; as in enum grpc_status. */
enum { ROW_CALL_KINDS = 2, ROW_CALL_SHAPES = 4, ROW_CALL_STATUSES = 17 };

struct route_row {
    int64_t requests[ROW_METHODS][CLASSES];
    int64_t body_in, body_out; /* bytes */
    struct row_histogram seconds;
    int64_t calls[ROW_CALL_KINDS][ROW_CALL_SHAPES][ROW_CALL_STATUSES];
    int64_t messages_in, messages_out;
};

enum { ROW_STATES = 6 }; /* of instances: enum inst_state without INST_GONE */

struct service_row {
    int64_t connects, connect_failures, retries, failures, unavailable;
    int64_t waiting, in_flight; /* gauges */
    int64_t answers[CLASSES];
    struct row_histogram seconds;  /* from the choice of an instance to the answer's head */
    int64_t instances[ROW_STATES]; /* gauges; the master's */
    int64_t restarts;              /* the master's */
};

struct listener_row {
    int64_t accepted;
    int64_t connections;         /* gauge */
    int64_t bytes_in, bytes_out; /* of raw connections */
};

struct process_row { /* the master's, all of it */
    int64_t cpu_us;
    int64_t resident, virtual_size; /* bytes */
    int64_t fds, max_fds;           /* fds: 0 when the kernel does not tell */
    int64_t started_us;             /* since 1970 */
};

struct certificate_row { /* by ACME; the master's, all of it */
    int64_t failures;    /* in a row */
    int64_t next_at;     /* s since 1970; 0: none is planned */
};

/* kind, rows, struct, labels */
#define ROW_KINDS(X)                                                \
    X(ROUTE, 1024, struct route_row, "channel", "host", "route")    \
    X(SERVICE, 512, struct service_row, "channel", "service", NULL) \
    X(LISTENER, 64, struct listener_row, "kind", "address", NULL)   \
    X(PROCESS, 260, struct process_row, "process", NULL, NULL)      \
    X(CERTIFICATE, 1024, struct certificate_row, "host", NULL, NULL)

enum row_kind {
#define X(kind, ...) ROW_##kind,
    ROW_KINDS(X)
#undef X
        ROW_KIND_COUNT
};

/* What of a row goes back to zero when the process that counted it dies. */
#define ROW_GAUGES(X)        \
    X(SERVICE, waiting, 1)   \
    X(SERVICE, in_flight, 1) \
    X(LISTENER, connections, 1)

/* The only writer of its cell is the process itself: a load and a store suffice. */
static inline void row_add(int64_t *v, int64_t n)
{
    __atomic_store_n(v, *v + n, __ATOMIC_RELAXED);
}
static inline void row_set(int64_t *v, int64_t n)
{
    __atomic_store_n(v, n, __ATOMIC_RELAXED);
}
void row_observe(struct row_histogram *h, uint64_t us);

/* ---- names ---- */

/* A row's name: the labels' values in the kind's order. */
struct row_key {
    struct str label[ROWS_LABELS_MAX];
};
#define ROW_OTHER "_other"

/* ---- the segment ---- */

int rows_create(void); /* master: a memfd of sealed size; dies on failure */
/* Maps it; this process's cells are those of `process` from now on. */
const char *rows_attach(int fd, unsigned process) MUST_USE;
void rows_process_died(unsigned process); /* its gauges go to zero, it uses no row any more */

/*
 * The cell of this process in the row of that name, in use until rows_drop; row 0's when the name
 * has none. Never NULL: before rows_attach it is one that nobody reads.
 */
void *rows_use(enum row_kind k, const struct row_key *key);
void rows_drop(enum row_kind k, const void *cell);

/* ---- the master: who has a row ---- */

/*
 * For one kind: rows_claim_begin, rows_claim for each name that is wanted, rows_claim_end, with
 * `now` in loop time. `final`: names that were not claimed begin to vanish, those that were are
 * shown. Not final: a configuration that may still be refused gets its rows, and nothing is seen
 * of that.
 */
void rows_claim_begin(enum row_kind k);
void rows_claim(enum row_kind k, const struct row_key *key, uint64_t now);
void rows_claim_end(enum row_kind k, bool final, uint64_t now);

/* ---- reading ---- */

unsigned rows_capacity(enum row_kind k);
unsigned rows_taken(enum row_kind k);  /* names that have a row, the vanished ones too */
unsigned rows_folded(enum row_kind k); /* names of the configuration that have none */
const char *rows_label(enum row_kind k, unsigned label); /* its name, or NULL */
/* False: no such row, or it is not shown. The labels are copied to `mem`. */
bool rows_get(enum row_kind k, unsigned row, uint64_t now, char mem[static ROWS_KEY_MAX],
              struct row_key *key);
size_t rows_size(enum row_kind k); /* of the kind's struct */
/* The whole row over all processes, into the kind's struct. */
void rows_total(enum row_kind k, unsigned row, void *into);
/* … of the row of that name; false: it has none. */
bool rows_total_of(enum row_kind k, const struct row_key *key, void *into);

#endif
