/*
 * base.h - the words every file speaks: strings with a length, bytes, assertions, errors, checked
 * arithmetic, intrusive lists. Knows no HTTP and no headgate; holds nothing with state.
 */
#ifndef HG_BASE_H
#define HG_BASE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>

#define HG_VERSION                    "0.1.0"

#define MUST_USE                      __attribute__((warn_unused_result))
#define PRINTF(f, a)                  __attribute__((format(printf, f, a)))
#define NORETURN                      __attribute__((noreturn))
#define UNUSED                        __attribute__((unused))
#define likely(x)                     __builtin_expect(!!(x), 1)
#define unlikely(x)                   __builtin_expect(!!(x), 0)
#define ARRAY_LEN(a)                  (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b)                     ((a) < (b) ? (a) : (b))
#define MAX(a, b)                     ((a) > (b) ? (a) : (b))
#define container_of(p, type, member) ((type *)(void *)((char *)(p)-offsetof(type, member)))

/*
 * A bug ends the process, in production too: a worker that goes on with broken state is worse than
 * one that is restarted. The last words go to the log (see log_set_last_words) and to stderr.
 */
#define ASSERT(x) (likely(x) ? (void)0 : base_die(__FILE__, __LINE__, #x))
NORETURN void base_die(const char *file, int line, const char *what);

/*
 * An expected failure is a `const char *`: NULL is fine, anything else names what went wrong in
 * words for the log ("connection refused"). Errors that code acts on are compared by pointer.
 */
extern const char err_eof[];       /* the other side ended in order */
extern const char err_truncated[]; /* it ended in the middle of something */
extern const char err_reset[];
extern const char err_refused[];
extern const char err_timeout[];
extern const char err_too_large[];
extern const char err_no_memory[];
const char *err_of_errno(int err); /* a constant in plain words, never NULL for err != 0 */

/* ---- bytes with a length; not NUL-terminated unless the maker says so ---- */
struct str {
    const char *p;
    size_t n;
};
#define STR(lit)   ((struct str){(lit), sizeof(lit) - 1})
#define STR_NULL   ((struct str){NULL, 0})
#define STR_FMT    "%.*s"
#define STR_ARG(s) (int)MIN((s).n, (size_t)INT32_MAX), (s).p ? (s).p : ""

static inline struct str str_of(const char *z)
{
    return (struct str){z, z ? strlen(z) : 0};
}
static inline bool str_eq(struct str a, struct str b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}
bool str_ieq(struct str a, struct str b); /* ASCII case only */
bool str_istarts(struct str s, struct str prefix);
bool str_iends(struct str s, struct str suffix);
static inline bool str_starts(struct str s, struct str prefix)
{
    return s.n >= prefix.n && (prefix.n == 0 || memcmp(s.p, prefix.p, prefix.n) == 0);
}
static inline bool str_ends(struct str s, struct str suffix)
{
    return s.n >= suffix.n &&
           (suffix.n == 0 || memcmp(s.p + s.n - suffix.n, suffix.p, suffix.n) == 0);
}
/* [from, to) of s, clamped to it. */
static inline struct str str_sub(struct str s, size_t from, size_t to)
{
    to = MIN(to, s.n);
    from = MIN(from, to);
    return (struct str){s.p ? s.p + from : NULL, to - from};
}
/* Index of c in s, or s.n. */
static inline size_t str_chr(struct str s, char c)
{
    const char *at = s.n ? memchr(s.p, c, s.n) : NULL;
    return at ? (size_t)(at - s.p) : s.n;
}
struct str str_trim(struct str s); /* without spaces and tabs at both ends (RFC 9110 OWS) */
/* Takes the next piece of *rest up to sep; false when nothing is left. Pieces may be empty. */
bool str_split(struct str *rest, char sep, struct str *piece);
/* Only characters of RFC 4648 5, without padding; an empty one passes. */
bool str_is_base64url(struct str s);
/* Decimal digits only, whole string, no sign, checked: false for anything else. */
bool str_u64(struct str s, uint64_t *out) MUST_USE;
static inline char ascii_lower(char c)
{
    return (c >= 'A' && c <= 'Z') ? (char)(c | 0x20) : c;
}

/* ---- string building that cannot overflow: writes stop at the end and are remembered ---- */
struct out {
    char *p;  /* caller's memory */
    size_t n; /* bytes written */
    size_t cap;
    bool over; /* something did not fit: the content is not to be used */
};
static inline struct out out_on(void *mem, size_t cap)
{
    return (struct out){.p = mem, .cap = cap};
}
static inline void out_bytes(struct out *o, const void *p, size_t n)
{
    if (unlikely(n > o->cap - o->n)) {
        o->over = true;
        return;
    }
    if (n)
        memcpy(o->p + o->n, p, n);
    o->n += n;
}
static inline void out_str(struct out *o, struct str s)
{
    out_bytes(o, s.p, s.n);
}
static inline void out_char(struct out *o, char c)
{
    out_bytes(o, &c, 1);
}
#define out_lit(o, lit) out_bytes(o, lit, sizeof(lit) - 1)
void out_u64(struct out *o, uint64_t v);
void out_hex(struct out *o, uint64_t v, unsigned digits);
void out_fmt(struct out *o, const char *fmt, ...) PRINTF(2, 3); /* cold paths only */
void out_json(struct out *o, struct str s); /* with the quotes; bad UTF-8 becomes U+FFFD */
void out_utf8(struct out *o, struct str s); /* each bad byte becomes U+FFFD: up to 3 times s.n */
void out_html(struct out *o, struct str s); /* & < > " ' escaped */
static inline struct str out_done(const struct out *o)
{
    return (struct str){o->p, o->n};
}

/* ---- intrusive doubly linked lists ---- */
struct list {
    struct list *next, *prev;
};
static inline void list_init(struct list *l)
{
    l->next = l->prev = l;
}
static inline bool list_empty(const struct list *l)
{
    return l->next == l;
}
static inline bool list_linked(const struct list *l)
{
    return l->next && l->next != l;
}
static inline void list_append(struct list *head, struct list *l)
{
    l->prev = head->prev;
    l->next = head;
    head->prev->next = l;
    head->prev = l;
}
static inline void list_push(struct list *head, struct list *l)
{
    l->next = head->next;
    l->prev = head;
    head->next->prev = l;
    head->next = l;
}
/* Fine on an element that is in no list (zeroed, initialised or removed). */
static inline void list_remove(struct list *l)
{
    if (l->next) {
        l->next->prev = l->prev;
        l->prev->next = l->next;
    }
    l->next = l->prev = l;
}
#define LIST_EACH(head, it) for (struct list *it = (head)->next; it != (head); it = it->next)
#define LIST_EACH_SAFE(head, it)                                              \
    for (struct list *it = (head)->next, *it##_next = it->next; it != (head); \
         it = it##_next, it##_next = it->next)

/*
 * FNV-1a, byte by byte and on from `h`, which is FNV1A_BASIS at first: for tables whose keys no
 * stranger chooses, and for names of folders. Else: siphash.h.
 */
#define FNV1A_BASIS UINT64_C(0xcbf29ce484222325)
static inline uint64_t fnv1a_byte(uint64_t h, uint8_t byte)
{
    return (h ^ byte) * UINT64_C(0x100000001b3);
}
static inline uint64_t fnv1a(uint64_t h, struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        h = fnv1a_byte(h, (uint8_t)s.p[i]);
    return h;
}

/* ---- time and randomness ---- */
uint64_t now_ms(void);                   /* CLOCK_MONOTONIC; in a loop prefer loop_now_ms() */
uint64_t now_us(void);                   /* the same, finer */
int64_t wall_s(void);                    /* seconds since 1970 */
void out_utc(struct out *o, int64_t at); /* such seconds for people: "2026-11-27 09:30:00 UTC" */
void random_bytes(void *p, size_t n);    /* getrandom; dies when the kernel has none */

#endif
