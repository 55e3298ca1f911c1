/*
 * h2_memory.h - memory for nghttp2: a few sizes, recycled by the process, and counted for the
 * session that has it. A request takes and gives back a dozen such pieces.
 */
#ifndef HG_H2_MEMORY_H
#define HG_H2_MEMORY_H

#include <nghttp2/nghttp2.h>

#include "base/base.h"

/* An allocator that counts what it has out in *bytes; both must outlive the session. */
nghttp2_mem h2_memory(size_t *bytes);

#endif
