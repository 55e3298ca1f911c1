/*
 * h2_memory.c - nghttp2's allocator: free lists by size in front of malloc. Under ASan each piece
 * is malloc's own, so that a use after free is seen.
 */
#include "proxy/h2_memory.h"

#include <stdlib.h>

#define STEP 16 /* sizes are multiples of it */
#ifdef __SANITIZE_ADDRESS__
#define CLASSES 0
#else
#define CLASSES 64 /* up to 1 KiB; what is larger is rare */
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

/* A frame of the smallest maximum (RFC 9113 6.5.2), its head, and the padding's length. */
#define FRAME_BUFFER (16384 + 9 + 1)
static _Alignas(16) char frame_buffer[FRAME_BUFFER];

static size_t rounded(size_t n)
{
    return n <= (size_t)CLASSES * STEP ? (n + STEP - 1) / STEP * STEP : n;
}

static void *take(size_t n, void *arg)
{
    struct h2_memory *m = arg;
    if (m->opening && n == FRAME_BUFFER) {
        m->opening = false;
        return frame_buffer;
    }
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
    m->bytes += size + sizeof(*b);
    return b + 1;
}

static void give(void *p, void *arg)
{
    struct h2_memory *m = arg;
    if (!p || p == frame_buffer)
        return;
    struct block *b = (struct block *)p - 1;
    size_t i = b->size / STEP;
    m->bytes -= b->size + sizeof(*b);
    if (b->size > (size_t)CLASSES * STEP || classes[i].count >= KEEP) {
        free(b);
        return;
    }
    b->next = classes[i].free;
    classes[i].free = b;
    classes[i].count++;
}

static void *take_zeroed(size_t n, size_t size, void *arg)
{
    size_t total;
    if (__builtin_mul_overflow(n, size, &total))
        return NULL;
    void *p = take(total, arg);
    return p ? memset(p, 0, total) : NULL;
}

static size_t size_of(const void *p)
{
    return p == frame_buffer ? FRAME_BUFFER : ((const struct block *)p - 1)->size;
}

static void *again(void *p, size_t n, void *arg)
{
    if (!p)
        return take(n, arg);
    size_t have = size_of(p);
    if (n <= have)
        return p;
    void *more = take(n, arg);
    if (!more)
        return NULL;
    memcpy(more, p, have);
    give(p, arg);
    return more;
}

int h2_memory_session(struct h2_memory *m, nghttp2_session **session,
                      const nghttp2_session_callbacks *callbacks, void *user,
                      const nghttp2_option *options)
{
    m->hooks = (nghttp2_mem){
        .mem_user_data = m, .malloc = take, .free = give, .calloc = take_zeroed, .realloc = again};
    m->opening = true;
    int rc = nghttp2_session_server_new3(session, callbacks, user, options, &m->hooks);
    m->opening = false;
    return rc;
}
