/*
 * fuzz_base64.c - any bytes encoded in pieces, padded at any of their borders, and decoded in other
 * pieces: the same bytes. And any bytes decoded: whole or in pieces the same, and what a plain
 * reading of RFC 4648 says.
 */
#include <stdlib.h>

#include "proxy/base64.h"

static size_t cut(uint32_t *seed, size_t left)
{
    *seed = *seed * 1664525u + 1013904223u;
    return MIN(left, (size_t)(*seed >> 24) % (*seed & 0x800 ? 4 : 60));
}

/* Decodes in pieces; those are each in memory of their own, to its byte. */
static bool decode(const uint8_t *p, size_t n, uint32_t seed, struct out *o)
{
    struct base64_decoder d = {0};
    bool good = true;
    for (size_t at = 0, some; at < n && good; at += some) {
        some = seed ? cut(&seed, n - at) : n;
        uint8_t *mem = malloc(some ? some : 1);
        ASSERT(mem);
        memcpy(mem, p + at, some);
        good = base64_decode(&d, mem, some, o);
        free(mem);
    }
    return good && base64_decode_complete(&d);
}

static void round_trip(const uint8_t *p, size_t n, uint32_t seed)
{
    struct base64_encoder e = {0};
    char *text = malloc(n * 4 + 8), *back = malloc(n + 3);
    ASSERT(text && back);
    struct out o = out_on(text, n * 4 + 8), b = out_on(back, n + 3);
    uint32_t cuts = seed;
    for (size_t at = 0, some; at < n; at += some) {
        some = cut(&cuts, n - at);
        base64_encode(&e, p + at, some, &o);
        if (cuts & 0x1000)
            base64_encode_pad(&e, &o);
    }
    base64_encode_pad(&e, &o);
    ASSERT(!o.over && o.n % 4 == 0);
    ASSERT(decode((const uint8_t *)text, o.n, seed + 1, &b));
    ASSERT(!b.over && b.n == n && (!n || memcmp(back, p, n) == 0));
    free(text);
    free(back);
}

static bool is_digit64(uint8_t c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' ||
           c == '/';
}

/* Groups of four, each padded or not. */
static bool is_base64(const uint8_t *p, size_t n, size_t *bytes)
{
    *bytes = 0;
    for (; n >= 4; p += 4, n -= 4) {
        const size_t len = p[3] != '=' ? 3 : p[2] != '=' ? 2 : 1;
        for (size_t i = 0; i < len + 1; i++)
            if (!is_digit64(p[i]))
                return false;
        *bytes += len;
    }
    return n == 0;
}

static void any_bytes(const uint8_t *p, size_t n, uint32_t seed)
{
    char *a = malloc(n + 3), *b = malloc(n + 3);
    ASSERT(a && b);
    struct out whole = out_on(a, n + 3), pieces = out_on(b, n + 3);
    size_t bytes;
    const bool good = decode(p, n, 0, &whole);
    ASSERT(good == decode(p, n, seed, &pieces));
    ASSERT(good == is_base64(p, n, &bytes));
    ASSERT(!whole.over && !pieces.over && whole.n == pieces.n && memcmp(a, b, whole.n) == 0);
    ASSERT(!good || whole.n == bytes);
    ASSERT(whole.n <= n / 4 * 3);
    free(a);
    free(b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size)
        return 0;
    const uint32_t seed = (uint32_t)data[0] << 16 | 1;
    round_trip(data + 1, size - 1, seed);
    any_bytes(data + 1, size - 1, seed);
    return 0;
}
