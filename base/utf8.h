/*
 * utf8.h - one question: how long is the UTF-8 character here?
 */
#ifndef HG_UTF8_H
#define HG_UTF8_H

#include "base/base.h"

/* Bytes of the character at p (RFC 3629: no overlong forms, no surrogates); 0 when it is none. n
 * >= 1. */
size_t utf8_len(const void *p, size_t n);

#endif
