/*
 * slab.h - counted memory for bodies. What was read from one side is what is queued to the other:
 * a slice points into a slab and whoever keeps it takes a reference. Slabs come from a free list of
 * the process, so that a steady stream allocates nothing. SLAB_HEADROOM bytes before the data stay
 * free for frame heads and chunk sizes.
 */
#ifndef HG_SLAB_H
#define HG_SLAB_H

#include "base/base.h"
#include "base/budget.h"

#include <sys/uio.h>

#define SLAB_HEADROOM 32
#define SLAB_SMALL    (16 * 1024 + 512) /* one TLS record with its overhead */
#define SLAB_LARGE    (64 * 1024)

struct slab {
    uint32_t refs;
    uint32_t cap;      /* bytes of data[] behind the headroom */
    uint32_t used;     /* for those who append */
    struct slab *next; /* free list, or a queue's chain */
    uint8_t room[SLAB_HEADROOM];
    uint8_t data[];
};

struct slab *slab_new(
    size_t cap); /* refs 1; SLAB_SMALL and SLAB_LARGE are recycled, others malloced */
static inline struct slab *slab_ref(struct slab *s)
{
    s->refs++;
    return s;
}
void slab_unref(struct slab *s); /* fine on NULL */
size_t slab_total(void);         /* bytes of all slabs in use, for budgets and metrics */
void slab_trim(size_t keep); /* gives free-listed memory above `keep` bytes back to the system */

/* Some bytes of a slab. A slice in an argument is borrowed; who keeps it calls slice_keep. */
struct slice {
    struct slab
        *slab; /* NULL: the bytes are borrowed for the call only and must be copied to be kept */
    const uint8_t *p;
    size_t n;
};
struct slice slice_keep(struct slice s); /* counted reference, or a copy when it has no slab */
static inline void slice_drop(struct slice *s)
{
    slab_unref(s->slab);
    *s = (struct slice){0};
}

/* A queue of kept slices: what one side cannot take yet. Bounded by whoever fills it. */
struct sliceq {
    struct slice *ring;
    uint32_t head, count, cap;
    size_t bytes;
    struct budget *budget; /* of the client for whom it is kept; set while empty; NULL: nobody's */
};
void sliceq_push(struct sliceq *q, struct slice s); /* keeps it */
void sliceq_copy(struct sliceq *q, const void *p,
                 size_t n); /* copies into slabs of its own, filling the last */
/* The first up to `max` slices for writev. */
unsigned sliceq_iov(const struct sliceq *q, struct iovec *v, unsigned max);
/* The first slice (borrowed), n == 0 when empty. */
struct slice sliceq_first(const struct sliceq *q);
void sliceq_consume(struct sliceq *q, size_t n); /* n <= q->bytes */
void sliceq_fini(struct sliceq *q);              /* drops all; q may be used again */

#endif
