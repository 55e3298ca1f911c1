/*
 * lines.h - the last lines that each service printed, kept in memory, and who reads them
 * (`headgate logs`). Bounded a service by bytes and by lines; a reader is called, never waited for.
 * Where lines come from is output.c's matter.
 */
#ifndef HG_LINES_H
#define HG_LINES_H

#include "base/base.h"

#define KEPT_BYTES (256 * 1024) /* of text, a service */
#define KEPT_MAX   2000

struct line {
    struct list link;
    uint64_t seq;  /* grows over all services: the order in which they came */
    int64_t at_ms; /* wall clock */
    uint64_t instance;
    const char *service; /* borrowed: the lines are the service's */
    const char *stream;  /* "stdout", "stderr": a constant */
    size_t n;
    char text[];
};

/* Embedded in the service, zeroed. */
struct kept_lines {
    struct list all; /* oldest first */
    size_t bytes;
    unsigned n;
};

/* A copy is kept; the oldest ones go to make room. Returned: the one that was added, borrowed. */
const struct line *lines_add(struct kept_lines *l, const char *service, uint64_t instance,
                             const char *stream, struct str text);
/*
 * The last `n` of several services, by time, and no more than `bytes` of text; *out is malloc'ed,
 * its lines borrowed.
 */
unsigned lines_last(struct kept_lines *const *of, unsigned n_of, unsigned n, size_t bytes,
                    const struct line ***out);
void lines_fini(struct kept_lines *l);

#endif
