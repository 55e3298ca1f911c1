/*
 * h1_scan.h - the inner loops of the HTTP/1.1 parser: where a head ends, where a value, a name or a
 * target ends. Bytes only, no grammar above a byte class. Each has a scalar form for what remains
 * at a buffer's end and for machines other than x86-64; nothing ever reads at or past the end
 * given.
 */
#ifndef HG_H1_SCAN_H
#define HG_H1_SCAN_H

#include "proxy/http.h"

#ifdef __x86_64__
#include <immintrin.h>
#endif

/* Which bytes of a block of 64 are LF, and which are CR: bit i is byte i. */
struct h1_marks {
    uint64_t lf, cr;
};

static inline struct h1_marks h1_marks_scalar(const char *p)
{
    struct h1_marks m = {0, 0};
    for (unsigned i = 0; i < 64; i++) {
        m.lf |= (uint64_t)(p[i] == '\n') << i;
        m.cr |= (uint64_t)(p[i] == '\r') << i;
    }
    return m;
}

#ifdef __x86_64__
static inline uint64_t h1_mask_sse2(__m128i a, __m128i b, __m128i c, __m128i d, char byte)
{
    const __m128i want = _mm_set1_epi8(byte);
    uint64_t m0 = (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(a, want));
    uint64_t m1 = (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(b, want));
    uint64_t m2 = (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(c, want));
    uint64_t m3 = (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(d, want));
    return m0 | m1 << 16 | m2 << 32 | m3 << 48;
}

static inline struct h1_marks h1_marks_sse2(const char *p)
{
    const __m128i *v = (const __m128i *)(const void *)p;
    __m128i a = _mm_loadu_si128(v), b = _mm_loadu_si128(v + 1);
    __m128i c = _mm_loadu_si128(v + 2), d = _mm_loadu_si128(v + 3);
    return (struct h1_marks){h1_mask_sse2(a, b, c, d, '\n'), h1_mask_sse2(a, b, c, d, '\r')};
}

__attribute__((target("avx2"))) static inline struct h1_marks h1_marks_avx2(const char *p)
{
    const __m256i lf = _mm256_set1_epi8('\n'), cr = _mm256_set1_epi8('\r');
    __m256i a = _mm256_loadu_si256((const __m256i *)(const void *)p);
    __m256i b = _mm256_loadu_si256((const __m256i *)(const void *)(p + 32));
    uint64_t lf0 = (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(a, lf));
    uint64_t lf1 = (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(b, lf));
    uint64_t cr0 = (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(a, cr));
    uint64_t cr1 = (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(b, cr));
    return (struct h1_marks){lf0 | lf1 << 32, cr0 | cr1 << 32};
}
#endif

enum h1_found { H1_FOUND_NONE, H1_FOUND_END, H1_FOUND_BARE };

struct h1_end {
    enum h1_found found;
    size_t at;      /* END: bytes up to and with the empty line. BARE: the byte that gave it away */
    unsigned lines; /* line ends in [from, at): only of the part that was scanned */
};

/*
 * One block of the search for the empty line: `valid` bytes of it are new. CR and LF may only come
 * as a pair, so CR's bits shifted by one must be LF's bits; and a LF two bytes behind another one
 * ends the head. The pairs that reach over a block's edge are carried in *cr and *lf.
 */
static inline bool h1_end_block(struct h1_marks m, unsigned valid, uint64_t *cr, uint64_t *lf,
                                size_t base, struct h1_end *e)
{
    uint64_t mask = valid < 64 ? (UINT64_C(1) << valid) - 1 : UINT64_MAX;
    uint64_t bare = (m.lf ^ (m.cr << 1 | *cr)) & mask;
    uint64_t end = m.lf & (m.lf << 2 | *lf) & mask;
    if (likely((bare | end) == 0)) {
        e->lines += (unsigned)__builtin_popcountll(m.lf & mask);
        *cr = m.cr >> 63;
        *lf = m.lf >> 62;
        return false;
    }
    unsigned at = (unsigned)__builtin_ctzll(bare | end);
    e->found = bare >> at & 1 ? H1_FOUND_BARE : H1_FOUND_END;
    e->at = base + at + (e->found == H1_FOUND_END ? 1 : 0);
    e->lines += (unsigned)__builtin_popcountll(m.lf & (UINT64_MAX >> (63 - at)));
    return true;
}

/* Searches [from, n); what is before `from` was searched already and is only looked back at. */
static inline __attribute__((always_inline)) struct h1_end h1_find_end_with(
    struct h1_marks (*marks)(const char *), const char *buf, size_t from, size_t n)
{
    struct h1_end e = {H1_FOUND_NONE, n, 0};
    uint64_t cr = from > 0 && buf[from - 1] == '\r';
    uint64_t lf = (uint64_t)(from > 0 && buf[from - 1] == '\n') << 1 |
                  (uint64_t)(from > 1 && buf[from - 2] == '\n');
    size_t i = from;
    for (; n - i >= 64; i += 64)
        if (h1_end_block(marks(buf + i), 64, &cr, &lf, i, &e))
            return e;
    if (i == n)
        return e;
    unsigned rest = (unsigned)(n - i);
    struct h1_marks m;
    if (n >= 64) { /* the last 64 bytes again, without those that were looked at */
        m = marks(buf + n - 64);
        m.lf >>= 64 - rest;
        m.cr >>= 64 - rest;
    } else {
        char tail[64] = {0};
        memcpy(tail, buf + i, rest);
        m = marks(tail);
    }
    (void)h1_end_block(m, rest, &cr, &lf, i, &e);
    return e;
}

#ifdef __x86_64__
__attribute__((target("avx2,popcnt"))) static inline struct h1_end h1_find_end_avx2(const char *buf,
                                                                                    size_t from,
                                                                                    size_t n)
{
    return h1_find_end_with(h1_marks_avx2, buf, from, n);
}
#endif

static inline struct h1_end h1_find_end(const char *buf, size_t from, size_t n)
{
#ifdef __x86_64__
    if (likely(__builtin_cpu_supports("avx2")))
        return h1_find_end_avx2(buf, from, n);
    return h1_find_end_with(h1_marks_sse2, buf, from, n);
#else
    return h1_find_end_with(h1_marks_scalar, buf, from, n);
#endif
}

/* The first control byte but HTAB (RFC 9110 5.5: VCHAR, SP, HTAB and obs-text make a value). */
static inline char *h1_find_control(char *p, const char *end)
{
#ifdef __x86_64__
    const __m128i low = _mm_set1_epi8(0x1f), tab = _mm_set1_epi8('\t'), del = _mm_set1_epi8(0x7f);
    for (; end - p >= 16; p += 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);
        __m128i control = _mm_cmpeq_epi8(_mm_min_epu8(v, low), v);
        __m128i bad =
            _mm_or_si128(_mm_andnot_si128(_mm_cmpeq_epi8(v, tab), control), _mm_cmpeq_epi8(v, del));
        unsigned m = (unsigned)_mm_movemask_epi8(bad);
        if (m)
            return p + __builtin_ctz(m);
    }
#endif
    for (; p < end; p++) {
        unsigned char c = (unsigned char)*p;
        if ((c < 0x20 && c != '\t') || c == 0x7f)
            break;
    }
    return p;
}

/* The first byte that a request target cannot hold: not 0x21 to 0x7e, or '#'. */
static inline char *h1_find_target_end(char *p, const char *end)
{
#ifdef __x86_64__
    const __m128i space = _mm_set1_epi8(' '), del = _mm_set1_epi8(0x7f), hash = _mm_set1_epi8('#');
    for (; end - p >= 16; p += 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);
        __m128i good = _mm_cmpgt_epi8(v, space); /* signed: 0x80 and above are below zero */
        __m128i stop = _mm_or_si128(_mm_cmpeq_epi8(v, del), _mm_cmpeq_epi8(v, hash));
        unsigned m = (unsigned)_mm_movemask_epi8(_mm_andnot_si128(stop, good)) ^ 0xffff;
        if (m)
            return p + __builtin_ctz(m);
    }
#endif
    for (; p < end; p++) {
        unsigned char c = (unsigned char)*p;
        if (c <= 0x20 || c >= 0x7f || c == '#')
            break;
    }
    return p;
}

/* Makes tchars lower case in place; the first byte that is none. */
static inline char *h1_fold_name(char *p, const char *end)
{
    for (; p < end; p++) {
        unsigned char low = http_tchar_lower[(unsigned char)*p];
        if (low == 0)
            break;
        *p = (char)low;
    }
    return p;
}

#endif
