/*
 * h1_parse.c - heads of HTTP/1.1 requests and answers (RFC 9112 2 to 6). Field lines are read in
 * h1_fields.c, bodies in h1_chunked.c, the byte loops are in h1_scan.h.
 *
 * A head is looked at twice: first for its end, then for its meaning, since most come whole and the
 * first look is cheap. What can be told before the end came (no HTTP at all, a target or a head
 * that is too long, a bare CR or LF) is told at once, and in the order of the bytes, so that the
 * verdict does not depend on how the bytes were cut into reads.
 */
#include "proxy/h1_parse.h"

#include "proxy/h1_fields.h"

enum { METHOD_MAX = 32, SPARE_FIELDS = 8 /* room for those that handlers add */ };

/* One call: the bytes, and the verdict when it is a bad one. */
struct parse {
    char *buf;
    size_t n;
    const struct h1_limits *limits;
    size_t start;           /* of the start line: 2 behind an empty line */
    size_t target_at;       /* requests; 0 until the method is complete */
    size_t end;             /* bytes of the whole head */
    struct h1_lines *lines; /* of the head, the start line first */
    int status;
    const char *why;
};

static const char why_bare[] = "a CR or LF that stands alone";
static const char why_control[] = "a control byte in the head";
static const char why_head[] = "the head is too large";
static const char why_target[] = "the request target is too long";
static const char why_version[] = "not an HTTP version";

static bool refuse(struct parse *x, int status, const char *why)
{
    x->status = status;
    x->why = why;
    return false;
}

/* ---- what is known before the end ---- */

/*
 * The method, and at most one empty line before it (RFC 9112 2.2). False: refused. x->target_at
 * stays 0 while the method is not complete.
 */
static bool read_method(struct parse *x, struct h1_head *h)
{
    if (x->n > 0 && x->buf[0] == '\x16')
        return refuse(x, 400, "a TLS handshake on a port that speaks plain HTTP");
    if (x->n > 0 && x->buf[0] == '\r') {
        if (x->n == 1)
            return true;
        if (x->buf[1] != '\n')
            return refuse(x, 400, why_bare);
        x->start = 2;
    }
    size_t i = x->start;
    for (; i < x->n && http_tchar_lower[(unsigned char)x->buf[i]]; i++)
        if (i - x->start == METHOD_MAX)
            return refuse(x, 400, "the method is too long");
    if (i == x->n)
        return true;
    if (x->buf[i] != ' ' || i == x->start)
        return refuse(x, 400, "not an HTTP request");
    h->method_text = (struct str){x->buf + x->start, i - x->start};
    h->method = http_method_of(h->method_text);
    x->target_at = i + 1;
    return true;
}

/* Is the target over its limit, seen in the first `n` bytes? `scanned` of them were looked at. */
static bool target_too_long(const struct parse *x, size_t scanned, size_t n)
{
    size_t max = x->limits->target;
    if (x->target_at == 0 || x->target_at >= n || n - x->target_at <= max)
        return false;
    if (scanned > x->target_at && scanned - x->target_at > max)
        return false; /* that was seen to be fine when these bytes came */
    const char *target = x->buf + x->target_at;
    return !memchr(target, ' ', max + 1) && !memchr(target, '\r', max + 1);
}

enum end { END_MORE, END_FOUND, END_REFUSED };

/* Looks for the empty line from *scanned on, within the limit for heads. */
static enum end find_end(struct parse *x, size_t *scanned)
{
    size_t max = MIN(x->limits->head, UINT32_MAX), n = MIN(x->n, max);
    size_t old = MIN(MAX(*scanned, x->start), n);
    struct h1_end e = h1_find_end(x->buf, old, n, x->lines);
    if (likely(e.found == H1_FOUND_END)) {
        x->end = e.at;
        if (unlikely(old > x->start)) /* once a head: now all its lines are wanted */
            e = h1_find_end(x->buf, x->start, x->end, x->lines);
        ASSERT(e.found == H1_FOUND_END && e.at == x->end && x->lines->n >= 2);
        return END_FOUND;
    }
    *scanned = e.at;
    if (target_too_long(x, old, e.at))
        refuse(x, 414, why_target);
    else if (e.found == H1_FOUND_BARE)
        refuse(x, 400, why_bare);
    else if (e.found == H1_FOUND_CONTROL)
        refuse(x, 400, why_control);
    else if (x->n > max)
        refuse(x, 431, why_head);
    else
        return END_MORE;
    return END_REFUSED;
}

/* ---- start lines ---- */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* "HTTP/1.0" or "HTTP/1.1" and the end of the line at p. */
static bool read_version(struct parse *x, struct h1_head *h, const char *p)
{
    const char *end = x->buf + x->lines->lf[0];
    if (end - p != 9 || memcmp(p, "HTTP/", 5) != 0 || !is_digit(p[5]) || p[6] != '.' ||
        !is_digit(p[7]))
        return refuse(x, 400, why_version);
    if (p[5] != '1' || p[7] > '1')
        return refuse(x, 505, "an HTTP version other than 1.0 and 1.1");
    h->minor = (unsigned)(p[7] - '0');
    return true;
}

/* `c` ended the target: which rule is that? */
static bool refuse_target_byte(struct parse *x, const char *p)
{
    const char *start = x->buf + x->target_at, *end = x->buf + x->end;
    while (p < end && *p != ' ' && *p != '\r')
        p++;
    if ((size_t)(p - start) > x->limits->target)
        return refuse(x, 414, why_target);
    return refuse(x, 400, "a byte that a request target cannot hold");
}

/* The authority of an absolute-form target (RFC 9112 3.2.2), or STR_NULL with *bad set. */
static struct str authority_of(struct str target, struct str *default_port)
{
    struct str rest;
    if (str_istarts(target, STR("http://"))) {
        rest = str_sub(target, 7, target.n);
        *default_port = STR("80");
    } else if (str_istarts(target, STR("https://"))) {
        rest = str_sub(target, 8, target.n);
        *default_port = STR("443");
    } else {
        return STR_NULL;
    }
    size_t n = 0;
    while (n < rest.n && rest.p[n] != '/' && rest.p[n] != '?')
        n++;
    return str_sub(rest, 0, n);
}

/* Its form; the bytes were checked before. */
static bool check_target(struct parse *x, struct h1_head *h)
{
    struct str t = h->target, port;
    if (h->method == METHOD_CONNECT)
        return refuse(x, 501, "CONNECT: headgate is no forward proxy");
    if (t.n == 0)
        return refuse(x, 400, "an empty request target");
    if (likely(t.p[0] == '/'))
        return true;
    if (str_eq(t, STR("*"))) {
        if (h->method == METHOD_OPTIONS)
            return true;
        return refuse(x, 400, "the request target * without OPTIONS");
    }
    h->host = authority_of(t, &port);
    if (h->host.p == NULL)
        return refuse(x, 400, "a request target that is neither a path nor an http URL");
    if (!h1_host_valid(h->host))
        return refuse(x, 400, "the request target names no valid host");
    return true;
}

/* From the target to the end of the line. */
static bool read_request_line(struct parse *x, struct h1_head *h)
{
    const char *target = x->buf + x->target_at;
    const char *p = h1_find_target_end(target, x->buf + x->end);
    if (*p != ' ' && *p != '\r')
        return refuse_target_byte(x, p);
    h->target = (struct str){target, (size_t)(p - target)};
    if (h->target.n > x->limits->target)
        return refuse(x, 414, why_target);
    if (*p == '\r')
        return refuse(x, 400, "a request line without an HTTP version");
    return read_version(x, h, p + 1) && check_target(x, h);
}

/* ---- the meaning of the fields ---- */

static bool read_fields(struct parse *x, struct h1_head *h, struct arena *a, struct h1_facts *k)
{
    unsigned n = x->lines->n - 2; /* without the start line and the empty one */
    if (n > x->limits->fields)
        return refuse(x, 431, "too many fields");
    h->fields.cap = n + SPARE_FIELDS;
    h->fields.v = arena_alloc(a, h->fields.cap * sizeof(struct field));
    const char *why = h1_fields_parse(x->buf, x->n, x->lines, 1, &h->fields);
    if (why == NULL)
        why = h1_facts_of(&h->fields, k);
    if (unlikely(why != NULL))
        return refuse(x, 400, why);
    if (k->coding && h->minor == 0)
        return refuse(x, 400, "Transfer-Encoding in HTTP/1.0");
    h->keep_alive = !k->close && (h->minor == 1 || k->keep_alive);
    h->te_trailers = k->te_trailers;
    if (k->upgrade && k->connection_upgrade && h->minor == 1) /* RFC 9110 7.8: not with 1.0 */
        h->upgrade = k->upgrade->value;
    h->length = k->content_length;
    return true;
}

/* One Host with 1.1, at most one with 1.0; the target's authority goes before it. */
static bool check_host(struct parse *x, struct h1_head *h, const struct h1_facts *k)
{
    if (k->host == NULL) {
        if (h->minor == 1)
            return refuse(x, 400, "no Host");
        return true;
    }
    if (!h1_host_valid(k->host->value))
        return refuse(x, 400, "Host is not a valid host");
    if (unlikely(h->host.p != NULL)) {
        struct str port = STR_NULL;
        (void)authority_of(h->target, &port);
        if (!h1_host_same(h->host, k->host->value, port))
            return refuse(x, 400, "Host and the request target name different hosts");
        return true;
    }
    h->host = k->host->value;
    return true;
}

static bool check_expect(struct parse *x, struct h1_head *h, const struct h1_facts *k)
{
    if (h->minor == 0) /* RFC 9110 10.1.1: ignored */
        return true;
    if (k->expect_other)
        return refuse(x, 417, "an Expect other than 100-continue");
    /* Without a body there is nothing to go on with. */
    h->expect_continue = k->expect_continue && (k->chunked || h->length > 0);
    return true;
}

static bool parse_request(struct parse *x, struct h1_head *h, struct arena *a)
{
    struct h1_facts k = {0};
    if (!read_request_line(x, h) || !read_fields(x, h, a, &k) || !check_host(x, h, &k) ||
        !check_expect(x, h, &k))
        return false;
    if (k.chunked)
        h->framing = H1_CHUNKED;
    else
        h->framing = k.length ? H1_LENGTH : H1_NO_BODY;
    return true;
}

ssize_t h1_parse_request(char *buf, size_t n, size_t *scanned, const struct h1_limits *l,
                         struct arena *a, struct h1_head *h, const char **why)
{
    struct h1_lines lines; /* not zeroed: that would cost more than the search */
    struct parse x = {.buf = buf, .n = n, .limits = l, .lines = &lines};
    *h = (struct h1_head){0};
    *why = NULL;
    if (read_method(&x, h)) {
        enum end end = find_end(&x, scanned);
        if (end == END_MORE)
            return 0;
        if (end == END_FOUND && parse_request(&x, h, a))
            return (ssize_t)x.end;
    }
    *why = x.why;
    return -x.status;
}

/* ---- answers ---- */

/* As much of "HTTP/1." as there is; told apart early so that no other protocol is waited for. */
static bool check_answer_start(struct parse *x)
{
    static const char want[] = "HTTP/1.";
    if (x->n > 0 && x->buf[0] == '\x15')
        return refuse(x, 502, "the backend speaks TLS where plain HTTP is expected");
    if (memcmp(x->buf, want, MIN(x->n, sizeof(want) - 1)) != 0)
        return refuse(x, 502, "the backend's answer is not HTTP/1");
    return true;
}

/* "HTTP/1.1 200 OK"; the reason may be empty or, with its space, missing (RFC 9112 4). */
static bool read_status_line(struct parse *x, struct h1_head *h)
{
    const char *p = x->buf, *end = x->buf + x->lines->lf[0];
    if (end - p < 10 || p[7] < '0' || p[7] > '1' || p[8] != ' ')
        return refuse(x, 502, why_version);
    h->minor = (unsigned)(p[7] - '0');
    p += 9;
    if (end - p < 4 || !is_digit(p[0]) || !is_digit(p[1]) || !is_digit(p[2]) ||
        (p[3] != ' ' && p[3] != '\r'))
        return refuse(x, 502, "no three-digit status");
    h->status = (unsigned)((p[0] - '0') * 100 + (p[1] - '0') * 10 + (p[2] - '0'));
    if (h->status < 100 || h->status > 599)
        return refuse(x, 502, "a status outside 100 to 599");
    return true;
}

static bool has_no_body(const struct h1_head *h, enum http_method method)
{
    return method == METHOD_HEAD || http_status_bodyless(h->status) ||
           (method == METHOD_CONNECT && h->status < 300);
}

/* RFC 9112 6.3 */
static bool parse_answer(struct parse *x, struct h1_head *h, enum http_method method,
                         struct arena *a)
{
    struct h1_facts k = {0};
    if (!read_status_line(x, h) || !read_fields(x, h, a, &k))
        return false;
    if (has_no_body(h, method))
        h->framing = H1_NO_BODY;
    else if (k.chunked)
        h->framing = H1_CHUNKED;
    else if (k.length)
        h->framing = H1_LENGTH;
    else
        h->framing = H1_UNTIL_CLOSE;
    if (h->framing == H1_UNTIL_CLOSE)
        h->keep_alive = false;
    h->method = method;
    return true;
}

ssize_t h1_parse_answer(char *buf, size_t n, size_t *scanned, const struct h1_limits *l,
                        enum http_method method, struct arena *a, struct h1_head *h,
                        const char **why)
{
    struct h1_lines lines; /* not zeroed: that would cost more than the search */
    struct parse x = {.buf = buf, .n = n, .limits = l, .lines = &lines};
    *h = (struct h1_head){0};
    *why = NULL;
    if (check_answer_start(&x)) {
        enum end end = find_end(&x, scanned);
        if (end == END_MORE)
            return 0;
        if (end == END_FOUND && parse_answer(&x, h, method, a))
            return (ssize_t)x.end;
    }
    *why = x.why;
    return -502;
}

/* ---- moving ---- */

static void move_str(struct str *s, const char *from, const char *to)
{
    if (s->p)
        s->p = to + (s->p - from);
}

void h1_rebase(struct h1_head *h, const char *from, const char *to)
{
    move_str(&h->method_text, from, to);
    move_str(&h->target, from, to);
    move_str(&h->host, from, to);
    move_str(&h->upgrade, from, to);
    for (unsigned i = 0; i < h->fields.n; i++) {
        move_str(&h->fields.v[i].name, from, to);
        move_str(&h->fields.v[i].value, from, to);
    }
}
