/*
 * arena.c - chunks of memory that are filled from the front and freed together. Under ASan the
 * unused part of a chunk is poisoned and a gap is left behind every allocation.
 */
#include "base/arena.h"

#include <stdio.h>
#include <stdlib.h>

#if defined(__SANITIZE_ADDRESS__)
#define ARENA_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ARENA_ASAN 1
#endif
#endif
#ifdef ARENA_ASAN
#include <sanitizer/asan_interface.h>
#define ARENA_GAP      16
#define poison(p, n)   ASAN_POISON_MEMORY_REGION(p, n)
#define unpoison(p, n) ASAN_UNPOISON_MEMORY_REGION(p, n)
#else
#define ARENA_GAP      0
#define poison(p, n)   ((void)(p), (void)(n))
#define unpoison(p, n) ((void)(p), (void)(n))
#endif

#define ALIGN 16

struct chunk {
    struct chunk *next;
    size_t size; /* of mem[] */
    size_t used;
    size_t pad;
    _Alignas(ALIGN) char mem[];
};

struct arena {
    struct chunk *now; /* the one that is being filled; the others behind it */
    struct chunk *own; /* the first: the arena itself lies in it */
    size_t first;
    size_t held;
};

/*
 * Request arenas come and go with every request: chunks of the usual size are kept on a free list
 * of the process, so that malloc is not on the hot path.
 */
#define CHUNK_USUAL 4096
#define CHUNK_LEAST 512
#define FREE_MAX    256
static struct chunk *free_list;
static unsigned free_count;

static struct chunk *chunk_new(size_t total)
{
    struct chunk *c = NULL;
    if (total == CHUNK_USUAL && free_list) {
        c = free_list;
        free_list = c->next;
        free_count--;
    } else {
        c = malloc(total);
        ASSERT(c);
    }
    c->next = NULL;
    c->size = total - sizeof(*c);
    c->used = 0;
    poison(c->mem, c->size);
    return c;
}

static void chunk_free(struct chunk *c)
{
    unpoison(c->mem, c->size);
    if (c->size + sizeof(*c) == CHUNK_USUAL && free_count < FREE_MAX) {
        c->next = free_list;
        free_list = c;
        free_count++;
        return;
    }
    free(c);
}

static void *chunk_take(struct chunk *c, size_t n)
{
    size_t want = (n + ARENA_GAP + ALIGN - 1) & ~(size_t)(ALIGN - 1);
    if (want < n || want > c->size - c->used)
        return NULL;
    char *p = c->mem + c->used;
    c->used += want;
    unpoison(p, n);
    return p;
}

struct arena *arena_new(size_t first)
{
    first = MAX(first, (size_t)CHUNK_LEAST);
    struct chunk *c = chunk_new(first);
    /* The arena lives in its own first chunk. */
    struct arena *a = chunk_take(c, sizeof(*a));
    ASSERT(a);
    *a = (struct arena){.now = c, .own = c, .first = first, .held = first};
    return a;
}

void arena_free(struct arena **ap)
{
    struct arena *a = *ap;
    *ap = NULL;
    if (!a)
        return;
    for (struct chunk *c = a->now, *next; c; c = next) {
        next = c->next;
        chunk_free(c);
    }
}

void arena_reset(struct arena *a)
{
    struct chunk *c = a->own;
    for (struct chunk *other = a->now, *next; other; other = next) {
        next = other->next;
        if (other != c)
            chunk_free(other);
    }
    c->next = NULL;
    size_t own = (sizeof(*a) + ARENA_GAP + ALIGN - 1) & ~(size_t)(ALIGN - 1);
    poison(c->mem + own, c->size - own);
    c->used = own;
    a->now = c;
    a->held = a->first;
}

void *arena_alloc(struct arena *a, size_t n)
{
    void *p = chunk_take(a->now, n);
    if (likely(p))
        return p;
    size_t total = a->first, need;
    ASSERT(!__builtin_add_overflow(n, sizeof(struct chunk) + ARENA_GAP + ALIGN, &need));
    if (total < need)
        total = need;
    struct chunk *c = chunk_new(total);
    a->held += total;
    if (total > a->first && a->now->size - a->now->used > 256) {
        /* A large one of its own: the present chunk goes on being filled. */
        c->next = a->now->next;
        a->now->next = c;
    } else {
        c->next = a->now;
        a->now = c;
    }
    p = chunk_take(c, n);
    ASSERT(p);
    return p;
}

void *arena_zalloc(struct arena *a, size_t n)
{
    return memset(arena_alloc(a, n), 0, n);
}

void *arena_zalloc_array(struct arena *a, size_t size, size_t n)
{
    size_t total;
    ASSERT(!__builtin_mul_overflow(size, n, &total));
    return arena_zalloc(a, total);
}

struct str arena_str(struct arena *a, struct str s)
{
    char *p = arena_alloc(a, s.n + 1);
    if (s.n)
        memcpy(p, s.p, s.n);
    p[s.n] = '\0';
    return (struct str){p, s.n};
}

const char *arena_strz(struct arena *a, struct str s)
{
    return arena_str(a, s).p;
}

struct str arena_fmt(struct arena *a, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    ASSERT(n >= 0);
    char *p = arena_alloc(a, (size_t)n + 1);
    vsnprintf(p, (size_t)n + 1, fmt, again);
    va_end(again);
    return (struct str){p, (size_t)n};
}

size_t arena_used(const struct arena *a)
{
    return a->held;
}
