/*
 * access_line.c - one request as one line: JSON, or the combined format that every log analyser
 * knows. It runs once a request and is written for speed: no printf, and values that need no
 * escaping, which is nearly all, are copied as they are.
 */
#include <time.h>

#include "base/utf8.h"
#include "proxy/access_log.h"
#include "proxy/grpc_call.h"

/* Bytes that a value may take in the line, escaped; together with the keys below ACCESS_LINE_MAX.
 */
enum {
    CUT_METHOD = 24,
    CUT_HOST = 255,
    CUT_PATH = 1536, /* with the query */
    CUT_AGENT = 384,
    CUT_REFERER = 512,
    CUT_NAME = 128,
    CUT_ERROR = 160
};

#define ONES  0x0101010101010101u
#define HIGHS 0x8080808080808080u

/* Is any of the eight bytes below 0x20, above 0x7e, a quote or a backslash? */
static inline bool word_needs_escape(uint64_t w)
{
    const uint64_t quote = w ^ (ONES * '"');
    const uint64_t back = w ^ (ONES * '\\');
    const uint64_t del = w ^ (ONES * 0x7f);
    const uint64_t low = (w - ONES * 0x20) & ~w;
    const uint64_t hit =
        ((quote - ONES) & ~quote) | ((back - ONES) & ~back) | ((del - ONES) & ~del) | low | w;
    return (hit & HIGHS) != 0;
}

static bool needs_escape(struct str s)
{
    size_t i = 0;
    for (; i + 8 <= s.n; i += 8) {
        uint64_t w;
        memcpy(&w, s.p + i, 8);
        if (word_needs_escape(w))
            return true;
    }
    for (; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c < 0x20 || c > 0x7e || c == '"' || c == '\\')
            return true;
    }
    return false;
}

static void put_u_escape(struct out *o, unsigned char c)
{
    out_lit(o, "\\u00");
    out_hex(o, c, 2);
}

/* s as the inside of a JSON string, at most `cut` bytes of it; "…" tells that some are missing. */
static void put_escaped(struct out *o, struct str s, size_t cut)
{
    const size_t stop = o->n + cut;
    if (likely(s.n <= cut && !needs_escape(s))) {
        out_str(o, s);
        return;
    }
    for (size_t i = 0; i < s.n;) {
        const unsigned char c = (unsigned char)s.p[i];
        const size_t n = utf8_len(s.p + i, s.n - i);
        if (o->n + 6 + 3 > stop) { /* the longest escape, and the mark */
            out_lit(o, "\xe2\x80\xa6");
            return;
        }
        if (n == 0) {
            out_lit(o, "\xef\xbf\xbd");
            i++;
            continue;
        }
        if (c == '"' || c == '\\') {
            out_char(o, '\\');
            out_char(o, (char)c);
        } else if (c < 0x20 || c == 0x7f) {
            put_u_escape(o, c);
        } else {
            out_bytes(o, s.p + i, n);
        }
        i += n;
    }
}

/* ,"key":"value" */
#define put_text(o, key, value, cut)   \
    do {                               \
        out_lit(o, ",\"" key "\":\""); \
        put_escaped(o, value, cut);    \
        out_char(o, '"');              \
    } while (0)
#define put_number(o, key, value)    \
    do {                             \
        out_lit(o, ",\"" key "\":"); \
        out_u64(o, value);           \
    } while (0)

static void put_2(struct out *o, unsigned v)
{
    out_char(o, (char)('0' + v / 10 % 10));
    out_char(o, (char)('0' + v % 10));
}

static void put_3(struct out *o, unsigned v)
{
    out_char(o, (char)('0' + v / 100 % 10));
    put_2(o, v % 100);
}

static void put_year(struct out *o, const struct tm *tm)
{
    const unsigned year = (unsigned)(tm->tm_year + 1900);
    put_2(o, year / 100);
    put_2(o, year % 100);
}

/* The second's text in both formats is made once a second. */
struct clock_text {
    time_t second;
    char json[24], combined[32];
    size_t json_n, combined_n;
};

static void clock_make(struct clock_text *c, time_t second)
{
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    struct tm tm;
    ASSERT(gmtime_r(&second, &tm));
    struct out j = out_on(c->json, sizeof(c->json));
    put_year(&j, &tm);
    out_char(&j, '-');
    put_2(&j, (unsigned)tm.tm_mon + 1);
    out_char(&j, '-');
    put_2(&j, (unsigned)tm.tm_mday);
    out_char(&j, 'T');
    put_2(&j, (unsigned)tm.tm_hour);
    out_char(&j, ':');
    put_2(&j, (unsigned)tm.tm_min);
    out_char(&j, ':');
    put_2(&j, (unsigned)tm.tm_sec);
    struct out k = out_on(c->combined, sizeof(c->combined));
    put_2(&k, (unsigned)tm.tm_mday);
    out_char(&k, '/');
    out_bytes(&k, months + (ptrdiff_t)tm.tm_mon * 3, 3);
    out_char(&k, '/');
    put_year(&k, &tm);
    out_char(&k, ':');
    out_bytes(&k, c->json + j.n - 8, 8);
    out_lit(&k, " +0000");
    ASSERT(!j.over && !k.over);
    c->json_n = j.n;
    c->combined_n = k.n;
    c->second = second;
}

static const struct clock_text *clock_now(unsigned *ms)
{
    static struct clock_text text;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (unlikely(now.tv_sec != text.second || text.json_n == 0))
        clock_make(&text, now.tv_sec);
    *ms = (unsigned)(now.tv_nsec / 1000000);
    return &text;
}

/* Gone before it got an answer: 499, as log analysers know it from other servers. */
static unsigned status_of(const struct req *r)
{
    return r->answer.status ? r->answer.status : 499;
}

/* A target that was refused has no path: what was sent, without its query. */
static struct str path_of(const struct req *r)
{
    return r->path.n ? r->path : str_sub(r->target, 0, str_chr(r->target, '?'));
}

static struct str field_of(const struct req *r, enum field_token t)
{
    const struct field *f = fields_get(&r->fields, t);
    return f ? f->value : STR_NULL;
}

static void put_path(struct out *o, const struct req *r, bool query)
{
    const size_t from = o->n;
    put_escaped(o, path_of(r), CUT_PATH);
    const size_t left = CUT_PATH - MIN(o->n - from, (size_t)CUT_PATH);
    if (!query || !r->query.p || left < 16)
        return;
    out_char(o, '?');
    put_escaped(o, r->query, left - 1);
}

static void put_call(struct out *o, const struct grpc_call *c)
{
    put_text(o, "call", str_of(grpc_shape_text(grpc_call_shape(c))), CUT_METHOD);
    put_text(o, "grpc_status", str_of(grpc_status_name(c->status)), CUT_METHOD);
    put_number(o, "messages_in", c->in.messages);
    put_number(o, "messages_out", c->out.messages);
}

/* Where it went; a tunnel has only the names left. */
static void put_place(struct out *o, const struct req *r)
{
    struct str site = r->site ? r->site->name : r->kept.site;
    struct str route = r->route ? r->route->path : r->kept.route;
    struct str service = r->route && r->route->service ? r->route->service->name : r->kept.service;
    if (site.n)
        put_text(o, "site", site, CUT_NAME);
    if (route.n)
        put_text(o, "route", route, CUT_NAME);
    if (service.n)
        put_text(o, "service", service, CUT_NAME);
}

static void line_json(struct out *o, const struct req *r, bool query)
{
    unsigned ms;
    char id[17];
    const struct clock_text *now = clock_now(&ms);
    const uint64_t us = r->took_us;
    out_lit(o, "{\"ts\":\"");
    out_bytes(o, now->json, now->json_n);
    out_char(o, '.');
    put_3(o, ms);
    out_lit(o, "Z\",\"request_id\":\"");
    out_str(o, req_id_text(r, id));
    out_char(o, '"');
    put_text(o, "client", r->ip_text, CUT_NAME);
    put_text(o, "host", r->host.n ? r->host : r->authority, CUT_HOST);
    put_text(o, "method", r->method_text, CUT_METHOD);
    out_lit(o, ",\"path\":\"");
    put_path(o, r, query);
    out_lit(o, "\",\"proto\":\"");
    out_str(o, str_of(r->codec->name));
    out_char(o, '"');
    put_number(o, "status", status_of(r));
    put_number(o, "bytes_in", r->body_in);
    put_number(o, "bytes_out", r->body_out);
    put_number(o, "duration_ms", us / 1000);
    out_char(o, '.');
    put_3(o, (unsigned)(us % 1000));
    put_place(o, r);
    if (r->kind != REQ_HTTP)
        put_text(o, "kind", str_of(req_kind_text(r->kind)), CUT_METHOD);
    if (r->grpc)
        put_call(o, r->grpc);
    if (r->instance.n)
        put_text(o, "instance", r->instance, CUT_NAME);
    if (req_tls_version(r))
        put_text(o, "tls", str_of(req_tls_version(r)), CUT_METHOD);
    struct str value = field_of(r, FIELD_user_agent);
    if (value.n)
        put_text(o, "user_agent", value, CUT_AGENT);
    value = field_of(r, FIELD_referer);
    if (value.n)
        put_text(o, "referer", value, CUT_REFERER);
    if (r->error)
        put_text(o, "error", str_of(r->error), CUT_ERROR);
    out_lit(o, "}\n");
}

static void put_quoted_or_dash(struct out *o, struct str s, size_t cut)
{
    out_lit(o, " \"");
    if (s.n)
        put_escaped(o, s, cut);
    else
        out_char(o, '-');
    out_char(o, '"');
}

/* client - - [time] "request line" status bytes "referer" "user agent" */
static void line_combined(struct out *o, const struct req *r, bool query)
{
    unsigned ms;
    const struct clock_text *now = clock_now(&ms);
    put_escaped(o, r->ip_text, CUT_NAME);
    out_lit(o, " - - [");
    out_bytes(o, now->combined, now->combined_n);
    out_lit(o, "] \"");
    put_escaped(o, r->method_text, CUT_METHOD);
    out_char(o, ' ');
    put_path(o, r, query);
    out_char(o, ' ');
    out_str(o, str_of(r->codec->name));
    out_lit(o, "\" ");
    out_u64(o, status_of(r));
    out_char(o, ' ');
    out_u64(o, r->body_out);
    put_quoted_or_dash(o, field_of(r, FIELD_referer), CUT_REFERER);
    put_quoted_or_dash(o, field_of(r, FIELD_user_agent), CUT_AGENT);
    out_char(o, '\n');
}

size_t access_log_line(const struct req *r, enum conf_access_format format, bool query,
                       char mem[static ACCESS_LINE_MAX])
{
    struct out o = out_on(mem, ACCESS_LINE_MAX);
    if (format == CONF_ACCESS_COMBINED)
        line_combined(&o, r, query);
    else
        line_json(&o, r, query);
    ASSERT(!o.over); /* the cuts above add up to less */
    return o.n;
}
