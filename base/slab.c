/*
 * slab.c - counted buffers with a free list a size, and queues of slices into them.
 */
#include "base/slab.h"

#include <stdlib.h>

struct pool {
    uint32_t cap;
    struct slab *free;
    unsigned count;
};
static struct pool pools[] = {{.cap = SLAB_SMALL}, {.cap = SLAB_LARGE}};
#define POOL_KEEP 64 /* free slabs kept a size */
static size_t total;

static struct pool *pool_of(size_t cap)
{
    for (size_t i = 0; i < ARRAY_LEN(pools); i++)
        if (pools[i].cap == cap)
            return &pools[i];
    return NULL;
}

struct slab *slab_new(size_t cap)
{
    struct pool *pool = pool_of(cap);
    struct slab *s;
    if (pool && pool->free) {
        s = pool->free;
        pool->free = s->next;
        pool->count--;
    } else {
        ASSERT(cap <= UINT32_MAX);
        s = malloc(sizeof(*s) + cap);
        ASSERT(s);
        s->cap = (uint32_t)cap;
    }
    s->refs = 1;
    s->used = 0;
    s->next = NULL;
    total += sizeof(*s) + cap;
    return s;
}

void slab_unref(struct slab *s)
{
    if (!s || --s->refs)
        return;
    total -= sizeof(*s) + s->cap;
    struct pool *pool = pool_of(s->cap);
    if (!pool || pool->count >= POOL_KEEP) {
        free(s);
        return;
    }
    s->next = pool->free;
    pool->free = s;
    pool->count++;
}

size_t slab_total(void)
{
    return total;
}

void slab_trim(size_t keep)
{
    for (size_t i = 0; i < ARRAY_LEN(pools); i++) {
        struct pool *pool = &pools[i];
        while (pool->free && (size_t)pool->count * pool->cap > keep) {
            struct slab *s = pool->free;
            pool->free = s->next;
            pool->count--;
            free(s);
        }
    }
}

struct slice slice_keep(struct slice s)
{
    /* A few bytes must not hold on to a large slab: that would be memory that no budget sees. */
    if (s.slab && s.n >= s.slab->cap / 4) {
        slab_ref(s.slab);
        return s;
    }
    struct slab *copy = slab_new(s.n <= SLAB_SMALL && s.n > SLAB_SMALL / 4 ? SLAB_SMALL : s.n);
    memcpy(copy->data, s.p, s.n);
    copy->used = (uint32_t)s.n;
    return (struct slice){copy, copy->data, s.n};
}

static void sliceq_grow(struct sliceq *q)
{
    uint32_t cap = q->cap ? q->cap * 2 : 8;
    struct slice *ring = reallocarray(NULL, cap, sizeof(*ring));
    ASSERT(ring);
    for (uint32_t i = 0; i < q->count; i++)
        ring[i] = q->ring[(q->head + i) & (q->cap - 1)];
    free(q->ring);
    q->ring = ring;
    q->head = 0;
    q->cap = cap;
}

/* Takes over the reference that s holds. */
static void sliceq_append(struct sliceq *q, struct slice s)
{
    if (q->count == q->cap)
        sliceq_grow(q);
    q->ring[(q->head + q->count++) & (q->cap - 1)] = s;
    q->bytes += s.n;
    budget_hold(q->budget, s.n);
}

void sliceq_push(struct sliceq *q, struct slice s)
{
    if (s.n)
        sliceq_append(q, slice_keep(s));
}

void sliceq_copy(struct sliceq *q, const void *p, size_t n)
{
    const char *from = p;
    while (n) {
        struct slice *last = q->count ? &q->ring[(q->head + q->count - 1) & (q->cap - 1)] : NULL;
        struct slab *s = last ? last->slab : NULL;
        /* Only a slab that this queue alone holds and fills may be appended to. */
        if (!s || s->refs != 1 || last->p + last->n != s->data + s->used || s->used == s->cap) {
            s = slab_new(SLAB_SMALL);
            size_t some = MIN(n, s->cap);
            memcpy(s->data, from, some);
            s->used = (uint32_t)some;
            sliceq_append(q, (struct slice){s, s->data, some});
            from += some, n -= some;
            continue;
        }
        size_t some = MIN(n, (size_t)(s->cap - s->used));
        memcpy(s->data + s->used, from, some);
        s->used += (uint32_t)some;
        last->n += some;
        q->bytes += some;
        budget_hold(q->budget, some);
        from += some, n -= some;
    }
}

struct slice sliceq_first(const struct sliceq *q)
{
    return q->count ? q->ring[q->head] : (struct slice){0};
}

unsigned sliceq_iov(const struct sliceq *q, struct iovec *v, unsigned max)
{
    unsigned n = MIN(q->count, max);
    for (unsigned i = 0; i < n; i++) {
        const struct slice *s = &q->ring[(q->head + i) & (q->cap - 1)];
        /* writev does not write through it */
        v[i] = (struct iovec){.iov_base = (void *)(uintptr_t)s->p, .iov_len = s->n};
    }
    return n;
}

void sliceq_consume(struct sliceq *q, size_t n)
{
    ASSERT(n <= q->bytes);
    q->bytes -= n;
    budget_release(q->budget, n);
    while (n) {
        struct slice *s = &q->ring[q->head];
        if (n < s->n) {
            s->p += n;
            s->n -= n;
            return;
        }
        n -= s->n;
        slice_drop(s);
        q->head = (q->head + 1) & (q->cap - 1);
        q->count--;
    }
    if (!q->count)
        q->head = 0;
}

void sliceq_fini(struct sliceq *q)
{
    for (uint32_t i = 0; i < q->count; i++)
        slice_drop(&q->ring[(q->head + i) & (q->cap - 1)]);
    budget_release(q->budget, q->bytes);
    free(q->ring);
    *q = (struct sliceq){.budget = q->budget};
}
