/*
 * siphash.c - SipHash-2-4.
 */
#include "base/siphash.h"

#include <endian.h>

static inline uint64_t rotate(uint64_t x, unsigned by)
{
    return x << by | x >> (64 - by);
}

static inline void rounds(uint64_t v[static 4], unsigned n)
{
    while (n--) {
        v[0] += v[1];
        v[2] += v[3];
        v[1] = rotate(v[1], 13) ^ v[0];
        v[3] = rotate(v[3], 16) ^ v[2];
        v[0] = rotate(v[0], 32);
        v[2] += v[1];
        v[0] += v[3];
        v[1] = rotate(v[1], 17) ^ v[2];
        v[3] = rotate(v[3], 21) ^ v[0];
        v[2] = rotate(v[2], 32);
    }
}

static inline void word(uint64_t v[static 4], uint64_t m)
{
    v[3] ^= m;
    rounds(v, 2);
    v[0] ^= m;
}

uint64_t siphash(const uint64_t key[static 2], const void *p, size_t n)
{
    const uint8_t *in = p;
    /* "somepseudorandomlygeneratedbytes" */
    uint64_t v[4] = {key[0] ^ 0x736f6d6570736575u, key[1] ^ 0x646f72616e646f6du,
                     key[0] ^ 0x6c7967656e657261u, key[1] ^ 0x7465646279746573u};
    uint64_t m = 0;
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        memcpy(&m, in + i, 8);
        word(v, le64toh(m));
    }
    m = 0;
    if (i < n)
        memcpy(&m, in + i, n - i);
    word(v, le64toh(m) | (uint64_t)(n & 0xff) << 56);
    v[2] ^= 0xff;
    rounds(v, 4);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}
