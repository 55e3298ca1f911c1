/*
 * files_cond.c - preconditions, ranges and dates of files (see files_cond.h).
 */
#include "proxy/files_cond.h"

#include <time.h>

static const char days[] = "SunMonTueWedThuFriSat";
static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";

static void put_2(struct out *o, int v)
{
    out_char(o, (char)('0' + v / 10 % 10));
    out_char(o, (char)('0' + v % 10));
}

struct str http_date_format(char buf[static HTTP_DATE_MAX], int64_t s)
{
    struct tm tm;
    time_t t = (time_t)s;
    /* A file from before 1970 or after 9999 has no HTTP date: the nearest one stands for it. */
    t = MIN(MAX(t, 0), (time_t)253402300799);
    ASSERT(gmtime_r(&t, &tm));
    struct out o = out_on(buf, HTTP_DATE_MAX - 1);
    out_bytes(&o, days + (ptrdiff_t)tm.tm_wday * 3, 3);
    out_lit(&o, ", ");
    put_2(&o, tm.tm_mday);
    out_char(&o, ' ');
    out_bytes(&o, months + (ptrdiff_t)tm.tm_mon * 3, 3);
    out_char(&o, ' ');
    put_2(&o, (tm.tm_year + 1900) / 100);
    put_2(&o, tm.tm_year % 100);
    out_char(&o, ' ');
    put_2(&o, tm.tm_hour);
    out_char(&o, ':');
    put_2(&o, tm.tm_min);
    out_char(&o, ':');
    put_2(&o, tm.tm_sec);
    out_lit(&o, " GMT");
    ASSERT(!o.over);
    buf[o.n] = '\0';
    return out_done(&o);
}

/* `n` digits at the front of *s; with `space` the first may be one, as in asctime. */
static bool take_digits(struct str *s, size_t n, bool space, int *out)
{
    int v = 0;
    if (s->n < n)
        return false;
    for (size_t i = 0; i < n; i++) {
        char c = s->p[i];
        if (c == ' ' && space && i == 0)
            c = '0';
        if (c < '0' || c > '9')
            return false;
        v = v * 10 + (c - '0');
    }
    *out = v;
    *s = str_sub(*s, n, s->n);
    return true;
}

static bool take(struct str *s, struct str what)
{
    if (!str_starts(*s, what))
        return false;
    *s = str_sub(*s, what.n, s->n);
    return true;
}

static bool take_month(struct str *s, int *out)
{
    if (s->n < 3)
        return false;
    for (int m = 0; m < 12; m++) {
        if (memcmp(s->p, months + (ptrdiff_t)m * 3, 3) == 0) {
            *out = m;
            *s = str_sub(*s, 3, s->n);
            return true;
        }
    }
    return false;
}

static bool take_time(struct str *s, struct tm *tm)
{
    return take_digits(s, 2, false, &tm->tm_hour) && take(s, STR(":")) &&
           take_digits(s, 2, false, &tm->tm_min) && take(s, STR(":")) &&
           take_digits(s, 2, false, &tm->tm_sec) && tm->tm_hour < 24 && tm->tm_min < 60 &&
           tm->tm_sec <= 60;
}

/* "Sun Nov  6 08:49:37 1994", behind the day's name and space */
static bool parse_asctime(struct str s, struct tm *tm)
{
    int year;
    if (!take_month(&s, &tm->tm_mon) || !take(&s, STR(" ")) ||
        !take_digits(&s, 2, true, &tm->tm_mday) || !take(&s, STR(" ")) || !take_time(&s, tm) ||
        !take(&s, STR(" ")) || !take_digits(&s, 4, false, &year))
        return false;
    tm->tm_year = year - 1900;
    return s.n == 0;
}

/* "06 Nov 1994 08:49:37 GMT" or "06-Nov-94 08:49:37 GMT", behind the day's name */
static bool parse_dmy(struct str s, struct tm *tm)
{
    int year;
    if (!take_digits(&s, 2, false, &tm->tm_mday))
        return false;
    const bool old = take(&s, STR("-"));
    if ((!old && !take(&s, STR(" "))) || !take_month(&s, &tm->tm_mon) ||
        !take(&s, old ? STR("-") : STR(" ")) || !take_digits(&s, old ? 2 : 4, false, &year) ||
        !take(&s, STR(" ")) || !take_time(&s, tm) || !take(&s, STR(" GMT")))
        return false;
    if (old) /* two digits: 1970 to 2069, which holds every such date that matters */
        year += year < 70 ? 2000 : 1900;
    tm->tm_year = year - 1900;
    return s.n == 0;
}

bool http_date_parse(struct str s, int64_t *out)
{
    struct tm tm = {0};
    size_t comma = str_chr(s, ',');
    bool ok = comma < s.n && comma + 2 <= s.n && s.p[comma + 1] == ' '
                  ? parse_dmy(str_sub(s, comma + 2, s.n), &tm)
                  : s.n > 4 && s.p[3] == ' ' && parse_asctime(str_sub(s, 4, s.n), &tm);
    if (!ok || tm.tm_mday < 1 || tm.tm_mday > 31)
        return false;
    *out = (int64_t)timegm(&tm);
    return true;
}

/*
 * Is `etag` in a list of entity tags (RFC 9110 8.8.3)? Commas may be inside the quotes, so the list
 * is walked tag by tag. `weak`: W/ is ignored (8.8.3.2).
 */
static bool etag_listed(struct str list, struct str etag, bool weak)
{
    for (;;) {
        while (list.n && (list.p[0] == ' ' || list.p[0] == '\t' || list.p[0] == ','))
            list = str_sub(list, 1, list.n);
        const bool is_weak = take(&list, STR("W/"));
        if (list.n < 2 || list.p[0] != '"')
            return false;
        const size_t end = 1 + str_chr(str_sub(list, 1, list.n), '"') + 1;
        if (end > list.n)
            return false;
        if ((weak || !is_weak) && str_eq(str_sub(list, 0, end), etag))
            return true;
        list = str_sub(list, end, list.n);
    }
}

/* Over all lines of the field: "*" fits anything that exists, and the file does. */
static bool etag_fits(const struct fields *f, enum field_token t, struct str etag, bool weak)
{
    for (unsigned i = 0; i < f->n; i++)
        if (f->v[i].token == t &&
            (str_eq(f->v[i].value, STR("*")) || etag_listed(f->v[i].value, etag, weak)))
            return true;
    return false;
}

static bool date_of(const struct fields *f, enum field_token t, int64_t *out)
{
    const struct field *field = fields_get(f, t);
    return field && http_date_parse(field->value, out);
}

/* Digits at the front of *s, at most UINT64_MAX. */
static bool take_number(struct str *s, uint64_t *out)
{
    size_t n = 0;
    uint64_t v = 0;
    for (; n < s->n && s->p[n] >= '0' && s->p[n] <= '9'; n++)
        if (__builtin_mul_overflow(v, 10u, &v) ||
            __builtin_add_overflow(v, (uint64_t)(s->p[n] - '0'), &v))
            v = UINT64_MAX / 10; /* more than any file has: saturates at the next digit too */
    *out = v;
    *s = str_sub(*s, n, s->n);
    return n > 0;
}

/* RFC 9110 14.1.2: one range of bytes. */
static enum files_verdict range_of(struct str s, uint64_t size, struct files_range *r)
{
    uint64_t first;
    uint64_t last;
    if (!str_istarts(s, STR("bytes=")))
        return FILES_WHOLE;
    s = str_trim(str_sub(s, 6, s.n));
    if (take(&s, STR("-"))) {
        if (!take_number(&s, &last) || s.n)
            return FILES_WHOLE;
        if (last == 0 || size == 0)
            return last == 0 ? FILES_UNSATISFIABLE : FILES_WHOLE;
        r->n = MIN(last, size);
        r->from = size - r->n;
        return FILES_PART;
    }
    if (!take_number(&s, &first) || !take(&s, STR("-")))
        return FILES_WHOLE;
    if (s.n == 0)
        last = UINT64_MAX;
    else if (!take_number(&s, &last) || s.n || last < first)
        return FILES_WHOLE;
    if (first >= size)
        return FILES_UNSATISFIABLE;
    r->from = first;
    r->n = MIN(last, size - 1) - first + 1;
    return FILES_PART;
}

/* RFC 9110 13.1.5: the part only if nothing changed, judged by a strong validator. */
static bool if_range_holds(const struct fields *f, const struct files_validators *v, int64_t now)
{
    const struct field *field = fields_get(f, FIELD_if_range);
    int64_t date;
    if (!field)
        return true;
    if (http_date_parse(field->value, &date))
        /* A date is strong once no second change can hide in the same second (8.8.2.2). */
        return date == v->mtime && v->mtime < now - 1;
    return str_eq(field->value, v->etag);
}

enum files_verdict files_judge(const struct fields *request, enum http_method method,
                               const struct files_validators *v, int64_t now,
                               struct files_range *range)
{
    int64_t date;
    *range = (struct files_range){0, v->size};
    if (fields_get(request, FIELD_if_match)) {
        if (!etag_fits(request, FIELD_if_match, v->etag, false))
            return FILES_PRECONDITION;
    } else if (date_of(request, FIELD_if_unmodified_since, &date) && v->mtime > date) {
        return FILES_PRECONDITION;
    }
    if (fields_get(request, FIELD_if_none_match)) {
        if (etag_fits(request, FIELD_if_none_match, v->etag, true))
            return FILES_NOT_MODIFIED;
    } else if (date_of(request, FIELD_if_modified_since, &date) && v->mtime <= date) {
        return FILES_NOT_MODIFIED;
    }
    const struct field *wanted = method == METHOD_GET ? fields_get(request, FIELD_range) : NULL;
    if (!wanted || !if_range_holds(request, v, now))
        return FILES_WHOLE;
    return range_of(wanted->value, v->size, range);
}
