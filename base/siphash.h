/*
 * siphash.h - SipHash-2-4 (Aumasson, Bernstein: "SipHash: a fast short-input PRF"): a keyed hash
 * for tables whose keys clients choose. Without the key nobody can make two of them meet.
 */
#ifndef HG_SIPHASH_H
#define HG_SIPHASH_H

#include "base/base.h"

uint64_t siphash(const uint64_t key[static 2], const void *p, size_t n);

#endif
