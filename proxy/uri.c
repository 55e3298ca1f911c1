/*
 * uri.c - request targets, file names and authorities in one normal form (see uri.h). No routing,
 * no configuration, no I/O.
 */
#include "proxy/uri.h"

#include <arpa/inet.h>

/* What a byte of a path means for normalisation. */
enum path_class {
    PC_REFUSE, /* controls, space, DEL, backslash, "#" */
    PC_PLAIN,  /* pchar (RFC 3986 3.3) and "/": stays as it is */
    PC_ENCODE, /* no pchar, yet sent by browsers, and bytes from 0x80: written percent-encoded */
    PC_PERCENT,
    PC_QUERY, /* "?": the path's end */
};

/* clang-format off */
#define R PC_REFUSE
#define P PC_PLAIN
#define E PC_ENCODE
static const uint8_t path_class[256] = {
    R, R, R, R, R, R, R, R, R, R, R, R, R, R, R, R,
    R, R, R, R, R, R, R, R, R, R, R, R, R, R, R, R,
    /* sp ! " # $ % & ' ( ) * + , - . / */
    R, P, E, R, P, PC_PERCENT, P, P, P, P, P, P, P, P, P, P,
    /* 0-9 : ; < = > ? */
    P, P, P, P, P, P, P, P, P, P, P, P, E, P, E, PC_QUERY,
    /* @ A-O */
    P, P, P, P, P, P, P, P, P, P, P, P, P, P, P, P,
    /* P-Z [ \ ] ^ _ */
    P, P, P, P, P, P, P, P, P, P, P, E, R, E, E, P,
    /* ` a-o */
    E, P, P, P, P, P, P, P, P, P, P, P, P, P, P, P,
    /* p-z { | } ~ DEL */
    P, P, P, P, P, P, P, P, P, P, P, E, E, E, P, R,
    E, E, E, E, E, E, E, E, E, E, E, E, E, E, E, E,
    E, E, E, E, E, E, E, E, E, E, E, E, E, E, E, E,
    E, E, E, E, E, E, E, E, E, E, E, E, E, E, E, E,
    E, E, E, E, E, E, E, E, E, E, E, E, E, E, E, E,
    E, E, E, E, E, E, E, E, E, E, E, E, E, E, E, E,
    E, E, E, E, E, E, E, E, E, E, E, E, E, E, E, E,
    E, E, E, E, E, E, E, E, E, E, E, E, E, E, E, E,
    E, E, E, E, E, E, E, E, E, E, E, E, E, E, E, E,
};
#undef R
#undef P
#undef E
/* clang-format on */

static const char hex_upper[] = "0123456789ABCDEF";

static bool is_alnum(unsigned char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

/* RFC 3986 2.3 */
static bool is_unreserved(unsigned char c)
{
    return is_alnum(c) || c == '-' || c == '.' || c == '_' || c == '~';
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = ascii_lower(c);
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return -1;
}

/* The byte behind "%XX" at s.p[i], or -1. */
static int pct_value(struct str s, size_t i)
{
    if (s.n - i < 3)
        return -1;
    int high = hex_value(s.p[i + 1]);
    int low = hex_value(s.p[i + 2]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

static const char *refusal(unsigned char c)
{
    if (c == '\\')
        return "backslash in the request target";
    if (c == '#')
        return "fragment in the request target";
    if (c == ' ')
        return "space in the request target";
    return "control byte in the request target";
}

/*
 * Where the path ends. *rewrite tells whether normalisation would change it: then the slow way
 * copies. The common target is used in place.
 */
static const char *path_scan(struct str s, size_t *end, bool *rewrite)
{
    size_t i = 0;
    bool changes = false;
    for (; i < s.n; i++) {
        enum path_class k = path_class[(unsigned char)s.p[i]];
        if (likely(k == PC_PLAIN)) {
            /* Any segment that begins with a dot goes the slow way: few do. */
            if (unlikely(s.p[i] == '.' && i > 0 && s.p[i - 1] == '/'))
                changes = true;
            continue;
        }
        if (k == PC_QUERY)
            break;
        if (k == PC_REFUSE)
            return refusal((unsigned char)s.p[i]);
        changes = true;
    }
    *end = i;
    *rewrite = changes;
    return NULL;
}

static void put_pct(struct out *o, unsigned char c)
{
    out_char(o, '%');
    out_char(o, hex_upper[c >> 4]);
    out_char(o, hex_upper[c & 15]);
}

/* RFC 3986 6.2.2.1 and 6.2.2.2: decodes what needs no encoding, encodes what does. */
static const char *path_recode(struct str in, struct out *o)
{
    for (size_t i = 0; i < in.n; i++) {
        unsigned char c = (unsigned char)in.p[i];
        if (path_class[c] == PC_PLAIN) {
            out_char(o, (char)c);
        } else if (c != '%') {
            put_pct(o, c);
        } else {
            int v = pct_value(in, i);
            if (v < 0)
                return "\"%\" without two hex digits in the path";
            if (v < 0x20 || v == 0x7f)
                return "percent-encoded control byte in the path";
            if (is_unreserved((unsigned char)v))
                out_char(o, (char)v);
            else
                put_pct(o, (unsigned char)v);
            i += 2;
        }
    }
    return NULL;
}

/*
 * RFC 3986 5.2.4 in place, on a path that begins with "/". Unlike there, ".." at the root is
 * refused: no honest client sends it. Returns the new length, or 0 when it climbed out.
 */
static size_t remove_dot_segments(char *p, size_t n)
{
    size_t to = 0;
    size_t at = 0;
    while (at < n) { /* p[at] is the "/" before a segment */
        const char *slash = memchr(p + at + 1, '/', n - at - 1);
        size_t next = slash ? (size_t)(slash - p) : n;
        size_t len = next - at - 1;
        const char *seg = p + at + 1;
        if (len == 1 && seg[0] == '.') {
            if (next == n)
                p[to++] = '/';
        } else if (len == 2 && seg[0] == '.' && seg[1] == '.') {
            if (to == 0)
                return 0;
            while (p[--to] != '/')
                continue;
            if (next == n)
                p[to++] = '/';
        } else {
            memmove(p + to, p + at, next - at);
            to += next - at;
        }
        at = next;
    }
    if (to == 0)
        p[to++] = '/';
    return to;
}

static const char *path_normalise(struct arena *a, struct str in, struct str *out)
{
    struct out o = out_on(arena_alloc(a, in.n * 3), in.n * 3);
    const char *err = path_recode(in, &o);
    if (err)
        return err;
    ASSERT(!o.over);
    size_t n = remove_dot_segments(o.p, o.n);
    if (n == 0)
        return "the path climbs above the root";
    *out = (struct str){o.p, n};
    return NULL;
}

static const char *query_check(struct str q)
{
    for (size_t i = 0; i < q.n; i++) {
        unsigned char c = (unsigned char)q.p[i];
        /* Browsers leave "\" alone in queries; no server reads it as a path there. */
        if (c <= 0x20 || c == 0x7f || c == '#')
            return refusal(c);
    }
    return NULL;
}

/* "http://host[:port]" at the front of *s; leaves what follows: "", "/…" or "?…". */
static const char *take_authority(struct str *s, struct uri *u)
{
    if (str_istarts(*s, STR("http://")))
        u->scheme = STR("http");
    else if (str_istarts(*s, STR("https://")))
        u->scheme = STR("https");
    else
        return "the request target is neither a path nor an http(s) URI";
    struct str rest = str_sub(*s, u->scheme.n + 3, s->n);
    size_t n = 0;
    while (n < rest.n && rest.p[n] != '/' && rest.p[n] != '?' && rest.p[n] != '#')
        n++;
    u->authority = str_sub(rest, 0, n);
    if (n == 0)
        return "the request target has no host";
    if (str_chr(u->authority, '@') < n)
        return "userinfo in the request target";
    *s = str_sub(rest, n, rest.n);
    return NULL;
}

const char *uri_parse(struct arena *a, struct str target, struct uri *u)
{
    *u = (struct uri){0};
    if (target.n == 1 && target.p[0] == '*') {
        u->asterisk = true;
        u->path = target;
        return NULL;
    }
    if (target.n == 0)
        return "the request target is empty";
    struct str s = target;
    const char *err = NULL;
    if (s.p[0] != '/' && (err = take_authority(&s, u)) != NULL)
        return err;

    size_t end;
    bool rewrite;
    if ((err = path_scan(s, &end, &rewrite)) != NULL)
        return err;
    u->path = end ? str_sub(s, 0, end) : STR("/");
    if (end < s.n) {
        u->has_query = true;
        u->query = str_sub(s, end + 1, s.n);
        if ((err = query_check(u->query)) != NULL)
            return err;
    }
    return rewrite ? path_normalise(a, u->path, &u->path) : NULL;
}

bool uri_file_path(struct arena *a, struct str path, struct str *out)
{
    size_t from = 0;
    while (from < path.n && path.p[from] == '/')
        from++;
    struct out o = out_on(arena_alloc(a, path.n - from + 1), path.n - from + 1);
    for (size_t i = from; i < path.n; i++) {
        char c = path.p[i];
        if (c == '%') {
            int v = pct_value(path, i);
            if (v <= 0 || v == '/')
                return false;
            c = (char)v;
            i += 2;
        }
        if (c == '\0')
            return false;
        out_char(&o, c);
    }
    *out = out_done(&o);
    out_char(&o, '\0');
    return true;
}

/* Splits "name[:port]"; brackets stay with the name. */
static const char *host_split(struct str v, struct str *name, uint16_t *port)
{
    size_t n;
    if (v.n && v.p[0] == '[') {
        n = str_chr(v, ']') + 1;
        if (n > v.n)
            return "\"[\" without \"]\" in the host";
    } else {
        n = str_chr(v, ':');
    }
    *name = str_sub(v, 0, n);
    *port = 0;
    if (n >= v.n)
        return NULL;
    if (v.p[n] != ':')
        return "bytes behind the host's \"]\"";
    struct str digits = str_sub(v, n + 1, v.n);
    uint64_t value = 0;
    if (digits.n && (digits.n > 5 || !str_u64(digits, &value) || value == 0 || value > UINT16_MAX))
        return "the host's port is not a number from 1 to 65535";
    *port = (uint16_t)value;
    return NULL;
}

static const char *host_ip6(struct arena *a, struct str name, struct uri_host *h)
{
    char text[INET6_ADDRSTRLEN];
    struct in6_addr ip;
    struct str inner = str_sub(name, 1, name.n - 1);
    if (inner.n == 0 || inner.n >= sizeof(text))
        return "not an IPv6 address in the host's brackets";
    memcpy(text, inner.p, inner.n);
    text[inner.n] = '\0';
    if (inet_pton(AF_INET6, text, &ip) != 1)
        return "not an IPv6 address in the host's brackets";
    ASSERT(inet_ntop(AF_INET6, &ip, text, sizeof(text)));
    h->host = arena_fmt(a, "[%s]", text);
    h->name = str_sub(h->host, 1, h->host.n - 1);
    return NULL;
}

/* Labels of 1 to 63 letters, digits, "-" and "_" (RFC 1123 2.1, RFC 2181 11), 253 bytes in all. */
static const char *host_check(struct str name, bool *upper)
{
    size_t label = 0;
    *upper = false;
    if (name.n > 253)
        return "the host's name is longer than 253 bytes";
    for (size_t i = 0; i < name.n; i++) {
        unsigned char c = (unsigned char)name.p[i];
        if (c == '.') {
            if (label == 0)
                return "empty label in the host's name";
            label = 0;
            continue;
        }
        if (!is_alnum(c) && c != '-' && c != '_')
            return "a character in the host that no name has";
        if (++label > 63)
            return "a label of the host's name is longer than 63 bytes";
        if (c >= 'A' && c <= 'Z')
            *upper = true;
    }
    return label ? NULL : "the host is empty";
}

const char *uri_host_parse(struct arena *a, struct str value, struct uri_host *h)
{
    struct str name;
    *h = (struct uri_host){0};
    const char *err = host_split(value, &name, &h->port);
    if (err)
        return err;
    if (name.n && name.p[0] == '[')
        return host_ip6(a, name, h);
    if (name.n > 1 && name.p[name.n - 1] == '.')
        name.n--;
    bool upper;
    if ((err = host_check(name, &upper)) != NULL)
        return err;
    if (upper) {
        char *copy = arena_alloc(a, name.n);
        for (size_t i = 0; i < name.n; i++)
            copy[i] = ascii_lower(name.p[i]);
        name.p = copy;
    }
    h->host = h->name = name;
    return NULL;
}
