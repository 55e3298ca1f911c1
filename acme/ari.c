/*
 * ari.c - when to renew: RFC 9773's suggested window, RFC 3339 times, and the schedule of those
 * who got no window. Asking the CA and keeping what it said is the issuer's.
 */
#include "acme/ari.h"

#include <time.h>

#include "base/json.h"
#include "base/siphash.h"

#define HOUR    ((int64_t)3600)
#define DAY     (24 * HOUR)
#define URL_MAX 512

/* ---- RFC 3339 ---- */

/* Takes n digits from the front of *s. */
static bool digits(struct str *s, size_t n, int *out)
{
    uint64_t v;
    if (s->n < n || !str_u64(str_sub(*s, 0, n), &v))
        return false;
    *out = (int)v;
    *s = str_sub(*s, n, s->n);
    return true;
}

/* Takes one character of `any` (lower case) from the front of *s. */
static bool one_of(struct str *s, const char *any)
{
    if (!s->n || !s->p[0] || !strchr(any, ascii_lower(s->p[0])))
        return false;
    *s = str_sub(*s, 1, s->n);
    return true;
}

static bool fraction(struct str *s)
{
    if (!one_of(s, "."))
        return true;
    size_t n = 0;
    while (n < s->n && s->p[n] >= '0' && s->p[n] <= '9')
        n++;
    *s = str_sub(*s, n, s->n);
    return n > 0;
}

/* "Z", "+02:00": seconds east of Greenwich. */
static bool offset(struct str *s, int *seconds)
{
    int hours, minutes;
    *seconds = 0;
    if (one_of(s, "z"))
        return true;
    const bool west = s->n && s->p[0] == '-';
    if (!one_of(s, "+-") || !digits(s, 2, &hours) || !one_of(s, ":") || !digits(s, 2, &minutes) ||
        hours > 23 || minutes > 59)
        return false;
    *seconds = (hours * 60 + minutes) * (west ? -60 : 60);
    return true;
}

static int days_of(int year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    const bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return days[month - 1] + (month == 2 && leap);
}

static bool date(struct str *s, struct tm *t)
{
    int year, month;
    if (!digits(s, 4, &year) || !one_of(s, "-") || !digits(s, 2, &month) || !one_of(s, "-") ||
        !digits(s, 2, &t->tm_mday))
        return false;
    t->tm_year = year - 1900;
    t->tm_mon = month - 1;
    return month >= 1 && month <= 12 && t->tm_mday >= 1 && t->tm_mday <= days_of(year, month);
}

/* Second 60 is a leap second, which timegm counts as the next one. */
static bool time_of_day(struct str *s, struct tm *t)
{
    return digits(s, 2, &t->tm_hour) && one_of(s, ":") && digits(s, 2, &t->tm_min) &&
           one_of(s, ":") && digits(s, 2, &t->tm_sec) && fraction(s) && t->tm_hour <= 23 &&
           t->tm_min <= 59 && t->tm_sec <= 60;
}

bool ari_time(struct str text, int64_t *out)
{
    struct tm t = {0};
    int east;
    if (!date(&text, &t) || !one_of(&text, "t") || !time_of_day(&text, &t) ||
        !offset(&text, &east) || text.n)
        return false;
    *out = (int64_t)timegm(&t) - east;
    return true;
}

/* ---- the CA's word ---- */

/* For people to open: nothing but the web, and no byte that a terminal obeys. */
static struct str explanation(struct arena *a, const json_t *answer)
{
    struct str url = json_str(json_object_get(answer, "explanationURL"));
    if (url.n > URL_MAX || !(str_istarts(url, STR("https://")) || str_istarts(url, STR("http://"))))
        return STR_NULL;
    for (size_t i = 0; i < url.n; i++)
        if (url.p[i] <= ' ' || url.p[i] > '~')
            return STR_NULL;
    return arena_str(a, url);
}

/* Each second of the window alike; its two ends are seconds of it. */
static int64_t moment_in(int64_t start, int64_t end)
{
    uint64_t random;
    random_bytes(&random, sizeof(random));
    return start + (int64_t)(random % ((uint64_t)(end - start) + 1));
}

const char *ari_read(struct arena *a, const json_t *answer, int64_t retry_at, int64_t now,
                     const struct ari_window *old, struct ari_window *out)
{
    const json_t *window = json_object_get(answer, "suggestedWindow");
    struct ari_window w = {0};
    if (!ari_time(json_str(json_object_get(window, "start")), &w.start) ||
        !ari_time(json_str(json_object_get(window, "end")), &w.end))
        return "the CA's renewal information has no suggestedWindow with two times in it";
    if (w.end <= w.start)
        return "the CA's suggested window for the renewal ends before it begins";
    const bool same = old && old->start == w.start && old->end == w.end;
    w.chosen = same ? old->chosen : moment_in(w.start, w.end);
    /* RFC 9773 4.3: six hours where the CA names no time. */
    w.look_again = retry_at ? MIN(MAX(retry_at, now + HOUR), now + DAY) : now + 6 * HOUR;
    w.url = explanation(a, answer);
    *out = w;
    return NULL;
}

/* ---- without it ---- */

int64_t renew_at(int64_t not_before, int64_t not_after, int64_t before_s, uint64_t seed)
{
    const int64_t life = MAX(not_after - not_before, 0);
    if (before_s > 0)
        return not_after - MIN(before_s, life - life / 10);
    /* Hashed, so that seeds beside one another give moments that lie apart. */
    static const uint64_t key[2] = {0};
    const uint64_t random = siphash(key, &seed, sizeof(seed));
    const int64_t left = life < 10 * DAY ? life / 2 : life / 3, spread = life / 20;
    return not_after - left - spread + (int64_t)(random % (2 * (uint64_t)spread + 1));
}

int64_t renew_backoff(unsigned n, uint64_t random)
{
    int64_t pause = 60;
    for (unsigned i = 1; i < n && pause < 6 * HOUR; i++)
        pause *= 2;
    pause = MIN(pause, 6 * HOUR);
    return pause - pause / 4 + (int64_t)(random % ((uint64_t)pause / 2 + 1));
}
