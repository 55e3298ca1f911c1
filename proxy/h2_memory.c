/*
 * h2_memory.c - nghttp2's allocator: free lists by size in front of malloc. Under ASan each piece
 * is malloc's own, so that a use after free is seen.
 */
#include "proxy/h2_memory.h"

#include <stdlib.h>

#define STEP 64 /* sizes are multiples of it */
#ifdef __SANITIZE_ADDRESS__
#define CLASSES 0
#else
#define CLASSES 16 /* up to 1 KiB; what is larger is rare */
#endif
#define KEEP 128 /* free pieces kept a size */

/* Before each piece. */
struct block {
    size_t size; /* of the piece behind it */
    struct block *next;
};
_Static_assert(sizeof(struct block) == 16, "pieces are as aligned as malloc's");

static struct {
    struct block *free;
    unsigned count;
} classes[CLASSES + 1];

static size_t rounded(size_t n)
{
    return n <= (size_t)CLASSES * STEP ? (n + STEP - 1) / STEP * STEP : n;
}

static void *take(size_t n, void *bytes)
{
    size_t size = rounded(n);
    struct block *b;
    if (size <= (size_t)CLASSES * STEP && classes[size / STEP].free) {
        b = classes[size / STEP].free;
        classes[size / STEP].free = b->next;
        classes[size / STEP].count--;
    } else {
        size_t total;
        if (__builtin_add_overflow(size, sizeof(*b), &total))
            return NULL;
        b = malloc(total);
        ASSERT(b);
        b->size = size;
    }
    *(size_t *)bytes += size + sizeof(*b);
    return b + 1;
}

static void give(void *p, void *bytes)
{
    if (!p)
        return;
    struct block *b = (struct block *)p - 1;
    size_t i = b->size / STEP;
    *(size_t *)bytes -= b->size + sizeof(*b);
    if (b->size > (size_t)CLASSES * STEP || classes[i].count >= KEEP) {
        free(b);
        return;
    }
    b->next = classes[i].free;
    classes[i].free = b;
    classes[i].count++;
}

static void *take_zeroed(size_t n, size_t size, void *bytes)
{
    size_t total;
    if (__builtin_mul_overflow(n, size, &total))
        return NULL;
    void *p = take(total, bytes);
    return p ? memset(p, 0, total) : NULL;
}

static void *again(void *p, size_t n, void *bytes)
{
    size_t have = p ? ((struct block *)p - 1)->size : 0;
    if (p && n <= have)
        return p;
    void *more = take(n, bytes);
    if (!more || !p)
        return more;
    memcpy(more, p, have);
    give(p, bytes);
    return more;
}

nghttp2_mem h2_memory(size_t *bytes)
{
    return (nghttp2_mem){.mem_user_data = bytes,
                         .malloc = take,
                         .free = give,
                         .calloc = take_zeroed,
                         .realloc = again};
}
