/*
 * ledger.c - the events that a CA's limits count: in memory sorted by time, on disk a line each,
 * "1764244616 issued www.example.org - 1b2f00d5": wall clock, what, host, "ari" or "-", and the
 * CRC-32 of all before it. Lines are appended; the file is written anew when it grew too long,
 * when a line of it is damaged, and after an append that failed. What to do with a verdict is the
 * issuer's.
 */
#include "acme/ledger.h"

#include <fcntl.h>
#include <libpsl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "base/file.h"

#define MINUTE     ((int64_t)60)
#define HOUR       (60 * MINUTE)
#define DAY        (24 * HOUR)
#define HOST_BYTES 255
#define LINE_BYTES 320
#define FILE_BYTES ((size_t)4 * LEDGER_MAX * LINE_BYTES)
#define TIME_MAX   INT64_C(253402300799) /* the year 9999 */

const struct ledger_limit ledger_letsencrypt[LEDGER_KINDS] = {
    [LEDGER_ORDERS] = {300, 3 * HOUR},
    [LEDGER_DOMAIN] = {50, 7 * DAY},
    [LEDGER_DUPLICATES] = {5, 7 * DAY},
    [LEDGER_FAILURES] = {5, HOUR},
};
/* Its limits of certificates, 30,000 a week, are none to us. */
const struct ledger_limit ledger_staging[LEDGER_KINDS] = {
    [LEDGER_ORDERS] = {1500, 3 * HOUR},
    [LEDGER_FAILURES] = {60, HOUR},
};
const struct ledger_limit ledger_none[LEDGER_KINDS] = {{0}};

const struct ledger_limit *ledger_limits(struct str ca, bool letsencrypt)
{
    return !letsencrypt                             ? ledger_none
           : str_eq(ca, STR("letsencrypt-staging")) ? ledger_staging
                                                    : ledger_letsencrypt;
}

/* What each kind counts, and by what. */
static const struct {
    enum ledger_event event;
    enum { OF_ACCOUNT, OF_DOMAIN, OF_HOST } of;
    bool ari; /* ARI renewals too */
    const char *text;
} kinds[LEDGER_KINDS] = {
    [LEDGER_ORDERS] = {LEDGER_ORDERED, OF_ACCOUNT, true, "orders of the account"},
    [LEDGER_DOMAIN] = {LEDGER_ISSUED, OF_DOMAIN, false, "certificates of the registered domain"},
    [LEDGER_DUPLICATES] = {LEDGER_ISSUED, OF_HOST, false, "certificates for exactly this host"},
    [LEDGER_FAILURES] = {LEDGER_FAILED, OF_HOST, true, "failed validations of this host"},
};
static const char *const event_names[] = {
    [LEDGER_ORDERED] = "ordered", [LEDGER_ISSUED] = "issued", [LEDGER_FAILED] = "failed"};

struct entry {
    int64_t at;
    const char *host; /* in the ledger's arena */
    uint8_t n;        /* its length */
    uint8_t domain;   /* where in it the registered domain begins */
    uint8_t event;
    bool ari;
};

struct ledger {
    char *path;
    struct ledger_limit limits[LEDGER_KINDS];
    struct arena *hosts;
    bool rewrite; /* the file does not hold what memory does */
    unsigned n;
    struct entry v[LEDGER_MAX]; /* by time */
};

/* ---- names ---- */

/* Printable ASCII: a line's fields end at spaces. */
static bool host_fine(struct str host)
{
    for (size_t i = 0; i < host.n; i++)
        if (host.p[i] <= ' ' || host.p[i] > '~')
            return false;
    return host.n > 0 && host.n <= HOST_BYTES;
}

/* The registered domain is the end of the name; of a public suffix all of it. */
static struct str domain_of(struct str host)
{
    char z[HOST_BYTES + 1];
    if (!host_fine(host))
        return host;
    const struct str name = str_sub(host, str_starts(host, STR("*.")) ? 2 : 0, host.n);
    memcpy(z, name.p, name.n);
    z[name.n] = '\0';
    const char *domain = psl_registrable_domain(psl_builtin(), z);
    return domain ? str_sub(name, (size_t)(domain - z), name.n) : name;
}

struct str ledger_domain(struct arena *a, struct str host)
{
    return arena_str(a, domain_of(host));
}

const char *ledger_kind_text(enum ledger_kind k)
{
    return kinds[k].text;
}

/* ---- events in memory ---- */

/*
 * An event from the future, written before the clock was set back, counts as long as one of the
 * past: not to count it could exceed the limit, and to wait for a clock that was years ahead would
 * take years.
 */
static bool in_window(const struct ledger *l, enum ledger_kind k, int64_t at, int64_t now)
{
    const int64_t window = l->limits[k].seconds;
    return l->limits[k].count && at > now - window && at <= now + window;
}

static bool is_limited(const struct ledger *l, enum ledger_event e)
{
    for (unsigned k = 0; k < LEDGER_KINDS; k++)
        if (kinds[k].event == e && l->limits[k].count)
            return true;
    return false;
}

static bool matters(const struct ledger *l, const struct entry *e, int64_t now)
{
    for (unsigned k = 0; k < LEDGER_KINDS; k++)
        if (kinds[k].event == e->event && in_window(l, k, e->at, now))
            return true;
    return false;
}

static struct str host_of(const struct entry *e)
{
    return (struct str){e->host, e->n};
}

/* The host is copied. */
static const struct entry *insert(struct ledger *l, struct entry e)
{
    unsigned at = l->n;
    ASSERT(l->n < LEDGER_MAX);
    while (at && l->v[at - 1].at > e.at)
        at--;
    memmove(&l->v[at + 1], &l->v[at], (l->n - at) * sizeof(e));
    e.domain = (uint8_t)(e.n - domain_of(host_of(&e)).n);
    e.host = arena_strz(l->hosts, host_of(&e));
    l->v[at] = e;
    l->n++;
    return &l->v[at];
}

/* Forgets what no limit looks at any more; where that is little, the oldest too, so that the file
 * is not written anew for each of the next events. */
static void prune(struct ledger *l, int64_t now)
{
    struct arena *old = l->hosts;
    unsigned kept = 0;
    for (unsigned i = 0; i < l->n; i++)
        if (matters(l, &l->v[i], now))
            l->v[kept++] = l->v[i];
    const unsigned most = LEDGER_MAX / 4 * 3, over = kept > most ? kept - most : 0;
    l->n = kept - over;
    memmove(l->v, l->v + over, l->n * sizeof(l->v[0]));
    l->hosts = arena_new(4096);
    for (unsigned i = 0; i < l->n; i++)
        l->v[i].host = arena_strz(l->hosts, host_of(&l->v[i]));
    arena_free(&old);
}

/* ---- lines ---- */

static void put_crc(struct out *o, struct str s)
{
    out_hex(o, crc32(0, (const Bytef *)s.p, (uInt)s.n), 8);
}

static void put_line(struct out *o, const struct entry *e)
{
    const size_t start = o->n;
    out_u64(o, (uint64_t)e->at);
    out_char(o, ' ');
    out_str(o, str_of(event_names[e->event]));
    out_char(o, ' ');
    out_str(o, host_of(e));
    out_str(o, e->ari ? STR(" ari ") : STR(" - "));
    put_crc(o, str_sub(out_done(o), start, o->n));
    out_char(o, '\n');
}

/* Without its end. The host is borrowed. False: no line of ours, or no longer as it was written. */
static bool parse_line(struct str line, struct entry *e)
{
    char mem[LINE_BYTES];
    struct str rest = line, at, event, host, ari;
    uint64_t seconds;
    if (!str_split(&rest, ' ', &at) || !str_split(&rest, ' ', &event) ||
        !str_split(&rest, ' ', &host) || !str_split(&rest, ' ', &ari))
        return false;
    if (!str_u64(at, &seconds) || seconds > TIME_MAX || !host_fine(host))
        return false;
    *e = (struct entry){.at = (int64_t)seconds,
                        .host = host.p,
                        .n = (uint8_t)host.n,
                        .ari = str_eq(ari, STR("ari"))};
    for (unsigned i = LEDGER_ORDERED; i < ARRAY_LEN(event_names); i++)
        if (str_eq(event, str_of(event_names[i])))
            e->event = (uint8_t)i;
    if (!e->event)
        return false;
    struct out o = out_on(mem, sizeof(mem));
    put_line(&o, e);
    return str_eq(line, str_sub(out_done(&o), 0, o.n - 1));
}

/* The last LEDGER_MAX lines. */
static struct str last_lines(struct str text)
{
    size_t from = text.n;
    unsigned lines = 0;
    while (from && (from == text.n || text.p[from - 1] != '\n' || ++lines < LEDGER_MAX))
        from--;
    return str_sub(text, from, text.n);
}

static const char *load(struct ledger *l, struct arena *a, struct str text)
{
    struct str rest = last_lines(text), line;
    unsigned lines = 0, bad = 0;
    l->rewrite = rest.n < text.n || (rest.n && rest.p[rest.n - 1] != '\n');
    while (rest.n && str_split(&rest, '\n', &line)) {
        struct entry e;
        lines++;
        if (parse_line(line, &e))
            insert(l, e);
        else
            bad++;
    }
    if (!bad)
        return NULL;
    l->rewrite = true;
    return arena_fmt(a,
                     "%s: %u of %u lines are damaged and do not count: the CA may refuse an order "
                     "that they would have held back",
                     l->path, bad, lines)
        .p;
}

/* ---- the file ---- */

struct ledger *ledger_open(struct arena *a, const char *path, const struct ledger_limit *limits,
                           const char **err)
{
    struct ledger *l = calloc(1, sizeof(*l));
    ASSERT(l);
    l->path = strdup(path);
    ASSERT(l->path);
    memcpy(l->limits, limits, sizeof(l->limits));
    l->hosts = arena_new(4096);
    *err = NULL;
    struct stat st;
    if (lstat(path, &st) < 0 && errno == ENOENT) {
        l->rewrite = true;
        return l;
    }
    struct arena *scratch = arena_new(4096);
    struct str text = STR_NULL;
    const char *why = file_read(scratch, path, FILE_BYTES, &text);
    *err = why ? arena_strz(a, str_of(why)) : load(l, a, text);
    l->rewrite = l->rewrite || why;
    arena_free(&scratch);
    return l;
}

void ledger_close(struct ledger **l)
{
    if (!*l)
        return;
    arena_free(&(*l)->hosts);
    free((*l)->path);
    free(*l);
    *l = NULL;
}

static const char *write_all(struct ledger *l, struct arena *a)
{
    struct arena *scratch = arena_new(4096);
    const size_t cap = (size_t)l->n * LINE_BYTES;
    struct out o = out_on(arena_alloc(scratch, cap), cap);
    for (unsigned i = 0; i < l->n; i++)
        put_line(&o, &l->v[i]);
    ASSERT(!o.over);
    const char *slash = strrchr(l->path, '/'), *err = NULL;
    if (slash && slash > l->path)
        err = file_mkdirs(scratch,
                          arena_strz(scratch, (struct str){l->path, (size_t)(slash - l->path)}),
                          0700, (uid_t)-1, (gid_t)-1);
    if (!err)
        err = file_write(scratch, l->path, out_done(&o), 0600);
    l->rewrite = err != NULL;
    err = err ? arena_strz(a, str_of(err)) : NULL;
    arena_free(&scratch);
    return err;
}

static const char *append(struct ledger *l, struct arena *a, const struct entry *e)
{
    char mem[LINE_BYTES];
    struct out o = out_on(mem, sizeof(mem));
    put_line(&o, e);
    ASSERT(!o.over);
    int fd = open(l->path, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 && errno == ENOENT)
        return write_all(l, a); /* somebody took it away */
    const char *err = NULL;
    if (fd < 0 || fd_write_all(fd, out_done(&o)) || fdatasync(fd) < 0)
        err = file_error(a, errno, "write", l->path);
    if (fd >= 0)
        close(fd);
    l->rewrite = err != NULL; /* half of the line may be there */
    return err;
}

const char *ledger_add(struct ledger *l, struct arena *a, enum ledger_event e, struct str host,
                       bool exempt, int64_t now)
{
    if (!host_fine(host))
        return arena_fmt(a, "`" STR_FMT "` is no name of a host", STR_ARG(host)).p;
    if (!is_limited(l, e))
        return NULL;
    if (l->n == LEDGER_MAX) {
        prune(l, now);
        l->rewrite = true;
    }
    const struct entry *entry = insert(
        l,
        (struct entry){
            .at = now, .host = host.p, .n = (uint8_t)host.n, .event = (uint8_t)e, .ari = exempt});
    return l->rewrite ? write_all(l, a) : append(l, a, entry);
}

/* ---- verdicts ---- */

static bool is_of(enum ledger_kind k, const struct entry *e, struct str host, struct str domain)
{
    if (e->event != kinds[k].event || (e->ari && !kinds[k].ari))
        return false;
    switch (kinds[k].of) {
    case OF_ACCOUNT:
        return true;
    case OF_DOMAIN:
        return str_eq(str_sub(host_of(e), e->domain, e->n), domain);
    case OF_HOST:
        return str_eq(host_of(e), host);
    }
    return false;
}

struct ledger_left ledger_left(const struct ledger *l, enum ledger_kind k, struct str host,
                               int64_t now)
{
    const struct ledger_limit *limit = &l->limits[k];
    struct ledger_left left = {.limit = limit->count};
    const struct str domain = kinds[k].of == OF_DOMAIN ? domain_of(host) : STR_NULL;
    for (unsigned i = l->n; i && l->v[i - 1].at > now - limit->seconds; i--) {
        const struct entry *e = &l->v[i - 1];
        if (!in_window(l, k, e->at, now) || !is_of(k, e, host, domain))
            continue;
        /* From the newest on: when this one leaves the window, one less than the limit are in it.
         */
        if (++left.used == limit->count)
            left.until = e->at + limit->seconds;
    }
    return left;
}

static void put_span(struct out *o, int64_t s)
{
    static const struct {
        int64_t seconds;
        const char *one;
    } units[] = {{DAY, "day"}, {HOUR, "hour"}, {MINUTE, "minute"}, {1, "second"}};
    unsigned i = 0;
    while (s % units[i].seconds)
        i++;
    const int64_t n = s / units[i].seconds;
    out_fmt(o, "%lld %s%s", (long long)n, units[i].one, n == 1 ? "" : "s");
}

struct ledger_verdict ledger_ask(const struct ledger *l, struct str host, bool exempt, int64_t now)
{
    struct ledger_verdict v = {0};
    unsigned used = 0;
    for (unsigned k = 0; k < LEDGER_KINDS; k++) {
        if (exempt && k != LEDGER_ORDERS)
            continue;
        const struct ledger_left left = ledger_left(l, k, host, now);
        if (left.until <= v.until)
            continue;
        v.until = left.until;
        v.kind = k;
        used = left.used;
    }
    if (!v.until)
        return v;
    struct out o = out_on(v.text, sizeof(v.text) - 1);
    out_fmt(&o, "%u %s", used, kinds[v.kind].text);
    if (kinds[v.kind].of == OF_DOMAIN)
        out_fmt(&o, " " STR_FMT, STR_ARG(str_sub(domain_of(host), 0, 100)));
    out_lit(&o, " within ");
    put_span(&o, l->limits[v.kind].seconds);
    if (used == l->limits[v.kind].count)
        out_lit(&o, ", which is the CA's limit: the next one at ");
    else
        out_fmt(&o, ", the CA's limit is %u: the next one at ", l->limits[v.kind].count);
    out_utc(&o, v.until);
    ASSERT(!o.over);
    return v;
}
