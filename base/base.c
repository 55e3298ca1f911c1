/*
 * base.c - what base.h promises: strings, string building, errors in words, time. No state but the
 * random source's.
 */
#include "base/base.h"
#include "base/utf8.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

const char err_eof[] = "the other side ended the connection";
const char err_truncated[] = "the connection ended in the middle of a message";
const char err_reset[] = "connection reset";
const char err_refused[] = "connection refused";
const char err_timeout[] = "timed out";
const char err_too_large[] = "too large";
const char err_no_memory[] = "out of memory";

void base_die(const char *file, int line, const char *what)
{
    char buf[512];
    struct out o = out_on(buf, sizeof(buf));
    out_lit(&o, "headgate: bug: assertion failed: ");
    out_str(&o, str_of(what));
    out_lit(&o, " at ");
    out_str(&o, str_of(file));
    out_char(&o, ':');
    out_u64(&o, (uint64_t)line);
    out_char(&o, '\n');
    ssize_t n = write(STDERR_FILENO, buf, o.n);
    (void)n;
    abort();
}

const char *err_of_errno(int err)
{
    switch (err) {
    case 0:
        return NULL;
    case ECONNREFUSED:
        return err_refused;
    case ECONNRESET:
    case EPIPE:
        return err_reset;
    case ETIMEDOUT:
        return err_timeout;
    case ENOMEM:
    case ENOBUFS:
        return err_no_memory;
    case ENOENT:
        return "no such file";
    case ENOSPC:
    case EDQUOT:
        return "the disk is full";
    case EHOSTUNREACH:
    case ENETUNREACH:
        return "no route to the host";
    case EADDRNOTAVAIL:
        return "no local port or address is free";
    case EMFILE:
    case ENFILE:
        return "too many open files";
    default:
        return strerrordesc_np(err) ? strerrordesc_np(err) : "unknown error";
    }
}

bool str_ieq(struct str a, struct str b)
{
    if (a.n != b.n)
        return false;
    for (size_t i = 0; i < a.n; i++)
        if (ascii_lower(a.p[i]) != ascii_lower(b.p[i]))
            return false;
    return true;
}

bool str_istarts(struct str s, struct str prefix)
{
    return s.n >= prefix.n && str_ieq(str_sub(s, 0, prefix.n), prefix);
}

bool str_iends(struct str s, struct str suffix)
{
    return s.n >= suffix.n && str_ieq(str_sub(s, s.n - suffix.n, s.n), suffix);
}

struct str str_trim(struct str s)
{
    while (s.n && (s.p[0] == ' ' || s.p[0] == '\t'))
        s = str_sub(s, 1, s.n);
    while (s.n && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
        s.n--;
    return s;
}

bool str_split(struct str *rest, char sep, struct str *piece)
{
    if (!rest->p)
        return false;
    size_t at = str_chr(*rest, sep);
    *piece = str_sub(*rest, 0, at);
    *rest = at < rest->n ? str_sub(*rest, at + 1, rest->n) : STR_NULL;
    return true;
}

bool str_is_base64url(struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        char c = ascii_lower(s.p[i]);
        if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '-' && c != '_')
            return false;
    }
    return true;
}

bool str_u64(struct str s, uint64_t *out)
{
    uint64_t v = 0;
    if (!s.n)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
        if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, s.p[i] - '0', &v))
            return false;
    }
    *out = v;
    return true;
}

void out_u64(struct out *o, uint64_t v)
{
    char buf[20];
    size_t at = sizeof(buf);
    do {
        buf[--at] = (char)('0' + v % 10);
        v /= 10;
    } while (v);
    out_bytes(o, buf + at, sizeof(buf) - at);
}

void out_hex(struct out *o, uint64_t v, unsigned digits)
{
    char buf[16];
    ASSERT(digits <= sizeof(buf));
    for (unsigned i = digits; i-- > 0; v >>= 4)
        buf[i] = "0123456789abcdef"[v & 15];
    out_bytes(o, buf, digits);
}

void out_fmt(struct out *o, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    size_t room = o->cap - o->n;
    /* vsnprintf wants a byte for the NUL that out does not keep. */
    int n = vsnprintf(room ? o->p + o->n : NULL, room, fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= room)
        o->over = true;
    else
        o->n += (size_t)n;
}

void out_utf8(struct out *o, struct str s)
{
    while (s.n) {
        const size_t len = utf8_len(s.p, s.n);
        if (len)
            out_bytes(o, s.p, len);
        else
            out_lit(o, "\xef\xbf\xbd");
        s = str_sub(s, len ? len : 1, s.n);
    }
}

static void out_json_char(struct out *o, unsigned char c)
{
    switch (c) {
    case '"':
        out_lit(o, "\\\"");
        return;
    case '\\':
        out_lit(o, "\\\\");
        return;
    case '\n':
        out_lit(o, "\\n");
        return;
    case '\r':
        out_lit(o, "\\r");
        return;
    case '\t':
        out_lit(o, "\\t");
        return;
    default:
        out_lit(o, "\\u00");
        out_hex(o, c, 2);
    }
}

void out_json(struct out *o, struct str s)
{
    const unsigned char *p = (const unsigned char *)s.p;
    size_t plain = 0; /* bytes that go out as they are, not yet written */
    out_char(o, '"');
    for (size_t i = 0; i < s.n;) {
        if (likely(p[i] >= 0x20 && p[i] < 0x7f && p[i] != '"' && p[i] != '\\')) {
            i++, plain++;
            continue;
        }
        size_t len = p[i] >= 0x80 ? utf8_len(p + i, s.n - i) : 0;
        if (len) {
            i += len, plain += len;
            continue;
        }
        out_bytes(o, p + i - plain, plain);
        plain = 0;
        if (p[i] >= 0x80)
            out_lit(o, "\xef\xbf\xbd");
        else
            out_json_char(o, p[i]);
        i++;
    }
    out_bytes(o, p + s.n - plain, plain);
    out_char(o, '"');
}

void out_html(struct out *o, struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        switch (s.p[i]) {
        case '&':
            out_lit(o, "&amp;");
            break;
        case '<':
            out_lit(o, "&lt;");
            break;
        case '>':
            out_lit(o, "&gt;");
            break;
        case '"':
            out_lit(o, "&quot;");
            break;
        case '\'':
            out_lit(o, "&#39;");
            break;
        default:
            out_char(o, s.p[i]);
        }
    }
}

uint64_t now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

uint64_t now_us(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

int64_t wall_s(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return ts.tv_sec;
}

void out_utc(struct out *o, int64_t at)
{
    const time_t t = (time_t)at;
    struct tm tm;
    char text[64];
    ASSERT(gmtime_r(&t, &tm));
    out_bytes(o, text, strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S UTC", &tm));
}

void random_bytes(void *p, size_t n)
{
    char *at = p;
    while (n) {
        ssize_t got = getrandom(at, n, 0);
        if (got < 0 && errno == EINTR)
            continue;
        ASSERT(got > 0);
        at += got;
        n -= (size_t)got;
    }
}
