/*
 * arena.h - memory with a lifetime: process, snapshot, connection or request. Allocation never
 * fails (out of memory ends the process); everything goes at once with arena_free. Under ASan each
 * allocation is poisoned around, so that an overrun inside an arena is seen.
 */
#ifndef HG_ARENA_H
#define HG_ARENA_H

#include "base/base.h"

struct arena;

/* `first`: bytes of the first chunk, header included; later chunks are at least as large. */
struct arena *arena_new(size_t first);
void arena_free(struct arena **a); /* sets *a to NULL; fine on NULL */
/* Keeps the first chunk and forgets everything in it; the rest is freed. */
void arena_reset(struct arena *a);
void *arena_alloc(struct arena *a, size_t n);  /* 16-byte aligned, not zeroed */
void *arena_zalloc(struct arena *a, size_t n); /* zeroed */
#define arena_znew(a, type)      ((type *)arena_zalloc(a, sizeof(type)))
#define arena_zarray(a, type, n) ((type *)arena_zalloc_array(a, sizeof(type), n))
void *arena_zalloc_array(struct arena *a, size_t size, size_t n); /* checked multiplication */
struct str arena_str(struct arena *a, struct str s);   /* a copy, NUL-terminated behind its end */
const char *arena_strz(struct arena *a, struct str s); /* the same as a C string */
struct str arena_fmt(struct arena *a, const char *fmt, ...) PRINTF(2, 3); /* NUL-terminated too */
size_t arena_used(const struct arena *a); /* bytes held from the system */

#endif
