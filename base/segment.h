/*
 * segment.h - memory that headgate's processes share: made by the master, handed on as a
 * descriptor, mapped by each. What lies in it is its owner's: stats.h, rate.h, tally.h, rows.h.
 */
#ifndef HG_SEGMENT_H
#define HG_SEGMENT_H

#include "base/base.h"

/* A memfd of `size` zero bytes, whose size is sealed; pages come when they are first touched. Dies
 * on failure. */
int segment_create(const char *name, size_t size);
/* Writes into one that nobody has mapped yet. Dies on failure. */
void segment_write(int fd, size_t at, const void *p, size_t n);
/*
 * Maps one for reading and writing into *at; the caller unmaps it. Error: errno's, or `other_size`
 * when it is not of `size` bytes, as another version's may be.
 */
const char *segment_map(int fd, size_t size, const char *other_size, void **at) MUST_USE;

#endif
