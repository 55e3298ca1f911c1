/*
 * log.c - one event, one line, one write; JSON for machines, aligned text for a terminal. A reader
 * that does not read costs its lines, never the process's time.
 */
#include "base/log.h"

#include <poll.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 4096 /* PIPE_BUF: a line is written whole or not at all */

static const char *log_role = "headgate";
static enum log_level log_min = LOG_INFO;
static bool log_tty;
static uint64_t dropped;
static const char *const level_names[] = {"debug", "info", "warn", "error"};

void log_init(const char *role, enum log_level level)
{
    log_role = role;
    log_min = level;
    log_tty = isatty(STDERR_FILENO) == 1;
}

void log_set_level(enum log_level level)
{
    log_min = level;
}

bool log_level_parse(struct str s, enum log_level *out)
{
    for (unsigned i = 0; i < ARRAY_LEN(level_names); i++) {
        if (str_eq(s, str_of(level_names[i]))) {
            *out = (enum log_level)i;
            return true;
        }
    }
    return false;
}

bool log_enabled(enum log_level level)
{
    return level >= log_min;
}

uint64_t log_dropped(void)
{
    return dropped;
}

/* The value behind a format with exactly one conversion, as text; *number when it needs no quotes.
 */
static struct str value_text(char *buf, size_t cap, const char *fmt, va_list *ap, bool *number)
{
    const char *conv = strchr(fmt, '%');
    ASSERT(conv);
    const char *end = conv + 1 + strspn(conv + 1, "-+ #0123456789.");
    size_t longs = strspn(end, "lzjq");
    char type = end[longs];
    int n;
    *number = strchr("diu", type) && conv == fmt && end[longs + 1] == '\0';
    if (type == 's') {
        const char *s = va_arg(*ap, const char *);
        if (conv == fmt && fmt[2] == '\0')
            return str_of(s ? s : "");
        n = snprintf(buf, cap, fmt, s ? s : "");
    } else if (type == 'f' || type == 'g') {
        n = snprintf(buf, cap, fmt, va_arg(*ap, double));
    } else if (longs) {
        n = snprintf(buf, cap, fmt, va_arg(*ap, long));
    } else {
        n = snprintf(buf, cap, fmt, va_arg(*ap, int));
    }
    return (struct str){buf, n < 0 ? 0 : MIN((size_t)n, cap - 1)};
}

static void head_json(struct out *o, enum log_level level, const char *what,
                      const struct timespec *ts)
{
    struct tm tm;
    char when[32];
    gmtime_r(&ts->tv_sec, &tm);
    strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &tm);
    out_fmt(o, "{\"ts\":\"%s.%03ldZ\",\"level\":\"%s\",\"role\":", when, ts->tv_nsec / 1000000,
            level_names[level]);
    out_json(o, str_of(log_role));
    out_lit(o, ",\"msg\":");
    out_json(o, str_of(what));
}

static void head_text(struct out *o, enum log_level level, const char *what,
                      const struct timespec *ts)
{
    static const char *const colours[] = {"2", "32", "33", "31"};
    struct tm tm;
    char when[16];
    localtime_r(&ts->tv_sec, &tm);
    strftime(when, sizeof(when), "%H:%M:%S", &tm);
    out_fmt(o, "%s \x1b[%sm%-5s\x1b[0m %-8s %s", when, colours[level], level_names[level], log_role,
            what);
}

static void field_json(struct out *o, const char *key, struct str value, bool number)
{
    out_char(o, ',');
    out_json(o, str_of(key));
    out_char(o, ':');
    if (number)
        out_str(o, value);
    else
        out_json(o, value);
}

static void field_text(struct out *o, const char *key, struct str value, bool number)
{
    bool plain = number || value.n > 0;
    for (size_t i = 0; i < value.n && plain; i++)
        plain = value.p[i] > ' ' && value.p[i] != '"' && value.p[i] < 0x7f;
    out_fmt(o, "  \x1b[2m%s=\x1b[0m", key);
    if (plain)
        out_str(o, value);
    else
        out_json(o, value);
}

static void line_write(const struct out *o)
{
    /* A pipe is writable when PIPE_BUF bytes fit, so this write cannot block. */
    struct pollfd p = {.fd = STDERR_FILENO, .events = POLLOUT};
    if (poll(&p, 1, 0) == 1 && (p.revents & POLLOUT) &&
        write(STDERR_FILENO, o->p, o->n) == (ssize_t)o->n)
        return;
    dropped++;
}

void log_event(enum log_level level, const char *what, ...)
{
    char line[LINE_MAX_BYTES], value[512];
    struct out o = out_on(line, sizeof(line) - 2); /* room for the line's end */
    struct timespec ts;
    if (!log_enabled(level))
        return;
    clock_gettime(CLOCK_REALTIME, &ts);
    (log_tty ? head_text : head_json)(&o, level, what, &ts);
    va_list ap;
    va_start(ap, what);
    for (const char *key; (key = va_arg(ap, const char *));) {
        const char *fmt = va_arg(ap, const char *);
        bool number;
        struct str v = value_text(value, sizeof(value), fmt, &ap, &number);
        size_t before = o.n;
        (log_tty ? field_text : field_json)(&o, key, str_sub(v, 0, 2048), number);
        if (o.over) { /* a field that does not fit is left out whole */
            o.n = before;
            o.over = false;
        }
    }
    va_end(ap);
    o.cap += 2;
    out_str(&o, log_tty ? STR("\n") : STR("}\n"));
    line_write(&o);
}
