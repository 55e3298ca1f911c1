/*
 * h1_scan.h - the inner loops of the HTTP/1.1 parser: where the lines of a head and the head itself
 * end, where a name or a target ends. Bytes only, no grammar above a byte class. Each has a scalar
 * form for what remains at a buffer's end and for machines other than x86-64; nothing ever reads at
 * or past the end given.
 *
 * The first loop finds all line ends, and what reads the lines then starts each at a known place:
 * the processor works on several at once, where one loop from line to line would wait for each.
 */
#ifndef HG_H1_SCAN_H
#define HG_H1_SCAN_H

#include "proxy/http.h"

#ifdef __x86_64__
#include <immintrin.h>
#endif

/* Which bytes of a block of 64 are LF, CR, or a control byte other than HTAB: bit i is byte i. */
struct h1_marks {
    uint64_t lf, cr, control;
};

static inline struct h1_marks h1_marks_scalar(const char *p)
{
    struct h1_marks m = {0, 0, 0};
    for (unsigned i = 0; i < 64; i++) {
        unsigned char c = (unsigned char)p[i];
        m.lf |= (uint64_t)(c == '\n') << i;
        m.cr |= (uint64_t)(c == '\r') << i;
        m.control |= (uint64_t)((c < 0x20 && c != '\t') || c == 0x7f) << i;
    }
    return m;
}

#ifdef __x86_64__
static inline struct h1_marks h1_marks_sse2(const char *p)
{
    const __m128i low = _mm_set1_epi8(0x1f), tab = _mm_set1_epi8('\t'), del = _mm_set1_epi8(0x7f);
    const __m128i lf = _mm_set1_epi8('\n'), cr = _mm_set1_epi8('\r');
    struct h1_marks m = {0, 0, 0};
    for (unsigned i = 0; i < 64; i += 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)(p + i));
        __m128i control = _mm_cmpeq_epi8(_mm_min_epu8(v, low), v);
        control = _mm_andnot_si128(_mm_cmpeq_epi8(v, tab), control);
        control = _mm_or_si128(control, _mm_cmpeq_epi8(v, del));
        m.control |= (uint64_t)(uint32_t)_mm_movemask_epi8(control) << i;
        m.lf |= (uint64_t)(uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(v, lf)) << i;
        m.cr |= (uint64_t)(uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(v, cr)) << i;
    }
    return m;
}

__attribute__((target("avx2"))) static inline struct h1_marks h1_marks_avx2(const char *p)
{
    const __m256i low = _mm256_set1_epi8(0x1f), tab = _mm256_set1_epi8('\t');
    const __m256i lf = _mm256_set1_epi8('\n'), cr = _mm256_set1_epi8('\r');
    struct h1_marks m = {0, 0, 0};
    for (unsigned i = 0; i < 64; i += 32) {
        __m256i v = _mm256_loadu_si256((const __m256i *)(const void *)(p + i));
        __m256i control = _mm256_cmpeq_epi8(_mm256_min_epu8(v, low), v);
        control = _mm256_andnot_si256(_mm256_cmpeq_epi8(v, tab), control);
        control = _mm256_or_si256(control, _mm256_cmpeq_epi8(v, _mm256_set1_epi8(0x7f)));
        m.control |= (uint64_t)(uint32_t)_mm256_movemask_epi8(control) << i;
        m.lf |= (uint64_t)(uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(v, lf)) << i;
        m.cr |= (uint64_t)(uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(v, cr)) << i;
    }
    return m;
}
#endif

/* Where lines end. More lines than places here are counted, and looked for again by who needs them.
 */
enum { H1_LINES = 128 };
struct h1_lines {
    unsigned n;            /* all of them, the empty one too */
    uint32_t lf[H1_LINES]; /* offsets of the first ones' LF; not initialised beyond n */
};

enum h1_found { H1_FOUND_NONE, H1_FOUND_END, H1_FOUND_BARE, H1_FOUND_CONTROL };

struct h1_end {
    enum h1_found found;
    size_t at; /* END: bytes up to and with the empty line. BARE, CONTROL: the byte that tells it */
};

/*
 * A block of 64 bytes seldom has more than four lines: so many places are written whether there are
 * lines for them or not, since a branch on their number would be guessed wrong every other time.
 */
static inline __attribute__((always_inline)) void h1_note_lines(struct h1_lines *l, uint64_t lf,
                                                                size_t base)
{
    const uint64_t none = UINT64_C(1) << 63;
    unsigned n = l->n, end = n + (unsigned)__builtin_popcountll(lf);
    l->n = end;
    if (likely(n + 4 <= H1_LINES)) {
        for (unsigned i = 0; i < 4; i++, lf &= lf - 1)
            l->lf[n + i] = (uint32_t)base + (uint32_t)__builtin_ctzll(lf | none);
        n += 4;
    }
    for (; unlikely(n < end) && n < H1_LINES; n++, lf &= lf - 1)
        l->lf[n] = (uint32_t)base + (uint32_t)__builtin_ctzll(lf);
}

/*
 * One block of the search for the empty line: `valid` bytes of it are new. CR and LF may only come
 * as a pair, so CR's bits shifted by one must be LF's bits; no other control byte may come; and a
 * LF two bytes behind another one ends the head. Whichever is first counts. The pairs that reach
 * over a block's edge are carried in *cr and *lf.
 */
static inline __attribute__((always_inline)) bool h1_end_block(struct h1_marks m, unsigned valid,
                                                               uint64_t *cr, uint64_t *lf,
                                                               size_t base, struct h1_lines *l,
                                                               struct h1_end *e)
{
    uint64_t mask = valid < 64 ? (UINT64_C(1) << valid) - 1 : UINT64_MAX;
    uint64_t bare = (m.lf ^ (m.cr << 1 | *cr)) & mask;
    uint64_t control = (m.control & ~(m.lf | m.cr)) & mask;
    uint64_t end = m.lf & (m.lf << 2 | *lf) & mask;
    if (likely((bare | control | end) == 0)) {
        h1_note_lines(l, m.lf & mask, base);
        *cr = m.cr >> 63;
        *lf = m.lf >> 62;
        return false;
    }
    unsigned at = (unsigned)__builtin_ctzll(bare | control | end);
    h1_note_lines(l, m.lf & (UINT64_MAX >> (63 - at)), base);
    e->at = base + at;
    if (bare >> at & 1) {
        e->found = H1_FOUND_BARE;
    } else if (control >> at & 1) {
        e->found = H1_FOUND_CONTROL;
    } else {
        e->found = H1_FOUND_END;
        e->at++;
    }
    return true;
}

/* Searches [from, n); what is before `from` was searched already and is only looked back at. */
static inline __attribute__((always_inline)) struct h1_end h1_find_end_with(
    struct h1_marks (*marks)(const char *), const char *buf, size_t from, size_t n,
    struct h1_lines *l)
{
    struct h1_end e = {H1_FOUND_NONE, n};
    uint64_t cr = from > 0 && buf[from - 1] == '\r';
    uint64_t lf = (uint64_t)(from > 0 && buf[from - 1] == '\n') << 1 |
                  (uint64_t)(from > 1 && buf[from - 2] == '\n');
    size_t i = from;
    l->n = 0;
    for (; n - i >= 64; i += 64)
        if (h1_end_block(marks(buf + i), 64, &cr, &lf, i, l, &e))
            return e;
    if (i == n)
        return e;
    unsigned rest = (unsigned)(n - i);
    struct h1_marks m;
    if (n >= 64) { /* the last 64 bytes again, without those that were looked at */
        m = marks(buf + n - 64);
        m.lf >>= 64 - rest;
        m.cr >>= 64 - rest;
        m.control >>= 64 - rest;
    } else {
        char tail[64] = {0};
        memcpy(tail, buf + i, rest);
        m = marks(tail);
    }
    (void)h1_end_block(m, rest, &cr, &lf, i, l, &e);
    return e;
}

#ifdef __x86_64__
__attribute__((target("avx2,bmi,popcnt"))) static inline struct h1_end h1_find_end_avx2(
    const char *buf, size_t from, size_t n, struct h1_lines *l)
{
    return h1_find_end_with(h1_marks_avx2, buf, from, n, l);
}
#endif

static inline struct h1_end h1_find_end(const char *buf, size_t from, size_t n, struct h1_lines *l)
{
#ifdef __x86_64__
    if (likely(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi")))
        return h1_find_end_avx2(buf, from, n, l);
    return h1_find_end_with(h1_marks_sse2, buf, from, n, l);
#else
    return h1_find_end_with(h1_marks_scalar, buf, from, n, l);
#endif
}

/* The first byte that a request target cannot hold: not 0x21 to 0x7e, or '#'. */
static inline const char *h1_find_target_end(const char *p, const char *end)
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

/* ---- names: where one ends, and making it lower case ---- */

/* The first byte that is no tchar. */
static inline char *h1_find_name_end_scalar(char *p, const char *end)
{
    while (p < end && http_tchar_lower[(unsigned char)*p])
        p++;
    return p;
}

#ifdef __x86_64__
/* Which bytes of v are in [from, from + n): 0xff, others 0. */
static inline __m128i h1_in_range(__m128i v, char from, char n)
{
    __m128i at = _mm_sub_epi8(v, _mm_set1_epi8(from));
    return _mm_cmpeq_epi8(_mm_min_epu8(at, _mm_set1_epi8((char)(n - 1))), at);
}
#endif

/*
 * Letters, digits, '-' and '_' make nearly every name there is; one with any other tchar goes on
 * the scalar way from there.
 */
static inline char *h1_find_name_end(char *p, const char *end)
{
#ifdef __x86_64__
    for (; end - p >= 16; p += 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);
        __m128i good = h1_in_range(_mm_or_si128(v, _mm_set1_epi8(0x20)), 'a', 26);
        good = _mm_or_si128(good, h1_in_range(v, '0', 10));
        good = _mm_or_si128(good, _mm_cmpeq_epi8(v, _mm_set1_epi8('-')));
        good = _mm_or_si128(good, _mm_cmpeq_epi8(v, _mm_set1_epi8('_')));
        unsigned bad = (unsigned)_mm_movemask_epi8(good) ^ 0xffff;
        if (likely(bad)) {
            p += __builtin_ctz(bad);
            return likely(*p == ':') ? p : h1_find_name_end_scalar(p, end);
        }
    }
#endif
    return h1_find_name_end_scalar(p, end);
}

/*
 * Makes the n tchars at p lower case. To be called when all lines were split: whole vectors are
 * stored, and a load that reaches from such a store into bytes behind it waits for it.
 */
static inline void h1_fold_name(char *p, size_t n, const char *end)
{
#ifdef __x86_64__
    static const unsigned char first_n[32] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                              0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    for (; n > 0 && end - p >= 16; p += 16) {
        size_t part = MIN(n, 16u);
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);
        __m128i mask = _mm_loadu_si128((const __m128i *)(const void *)(first_n + 16 - part));
        __m128i upper = _mm_and_si128(h1_in_range(v, 'A', 26), mask);
        v = _mm_or_si128(v, _mm_and_si128(upper, _mm_set1_epi8(0x20)));
        _mm_storeu_si128((__m128i *)(void *)p, v);
        n -= part;
    }
#else
    (void)end;
#endif
    for (size_t i = 0; i < n; i++)
        p[i] = (char)http_tchar_lower[(unsigned char)p[i]];
}

#endif
