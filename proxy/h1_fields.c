/*
 * h1_fields.c - field lines, and what they say about framing, connection and host. Where a reader
 * before or behind headgate could understand something else than headgate does, the message is
 * refused: that difference is what request smuggling lives on. No start lines, no bodies here.
 */
#include "proxy/h1_fields.h"

#include <arpa/inet.h>

enum { CONNECTION_OPTIONS_MAX = 32 }; /* each is compared with every field's name */

static inline bool is_ows(char c)
{
    return c == ' ' || c == '\t';
}

/* Why the name's end is not a colon. `at` is what stands there instead. */
static const char *bad_name(const char *name, const char *at)
{
    if (at == name && is_ows(*at))
        return "a field line is folded (obs-fold)";
    if (at == name && *at == ':')
        return "a field has no name";
    if (is_ows(*at))
        return "white space before the colon of a field";
    if (*at == '\r')
        return "a field line has no colon";
    return "a byte that a field name cannot hold";
}

/* The LF that ends the line at `from`, the i-th. */
static inline size_t line_end(const char *buf, size_t n, const struct h1_lines *l, unsigned i,
                              size_t from)
{
    if (likely(i < H1_LINES))
        return l->lf[i];
    const char *at = memchr(buf + from, '\n', n - from);
    ASSERT(at != NULL);
    return (size_t)(at - buf);
}

/* Name and value of each line; the names are as they came. */
static const char *split(char *buf, size_t n, const struct h1_lines *l, unsigned first,
                         struct fields *f)
{
    size_t from = first ? l->lf[first - 1] + 1 : 0;
    for (unsigned i = first; i + 1 < l->n; i++) {
        size_t lf = line_end(buf, n, l, i, from);
        char *name = buf + from, *colon = h1_find_name_end(name, buf + n);
        if (unlikely(colon == name || *colon != ':')) /* the CR at the latest */
            return bad_name(name, colon);
        const char *value = colon + 1, *end = buf + lf - 1;
        while (is_ows(*value))
            value++;
        while (end > value && is_ows(end[-1]))
            end--;
        f->v[f->n++] = (struct field){.name = {name, (size_t)(colon - name)},
                                      .value = {value, (size_t)(end - value)}};
        from = lf + 1;
    }
    return NULL;
}

const char *h1_fields_parse(char *buf, size_t n, const struct h1_lines *l, unsigned first,
                            struct fields *f)
{
    ASSERT(first < H1_LINES && first < l->n && l->n - first - 1 <= f->cap - f->n);
    const char *why = split(buf, n, l, first, f);
    if (unlikely(why != NULL))
        return why;
    for (unsigned i = 0; i < f->n; i++)
        h1_fold_name(buf + (f->v[i].name.p - buf), f->v[i].name.n, buf + n);
    for (unsigned i = 0; i < f->n; i++)
        f->v[i].token = (uint16_t)field_token_of(f->v[i].name);
    return NULL;
}

/* ---- Connection ---- */

static const char *flag_named(struct fields *f, struct str option)
{
    if (str_ieq(option, STR("host")) || str_ieq(option, STR("content-length")))
        return "Connection names a field that is not the connection's";
    for (unsigned i = 0; i < f->n; i++)
        if (str_ieq(f->v[i].name, option))
            f->v[i].flags |= FIELD_HOP;
    return NULL;
}

static const char *read_option(struct fields *f, struct h1_facts *k, struct str option)
{
    for (size_t i = 0; i < option.n; i++)
        if (!http_is_tchar((unsigned char)option.p[i]))
            return "Connection is not a list of tokens";
    if (str_ieq(option, STR("keep-alive")))
        k->keep_alive = true;
    else if (str_ieq(option, STR("close")))
        k->close = true;
    else if (str_ieq(option, STR("upgrade")))
        k->connection_upgrade = true;
    return flag_named(f, option);
}

/* After all fields are known, since a field may stand before the Connection that names it. */
static const char *read_connection(struct fields *f, struct h1_facts *k)
{
    unsigned options = 0;
    for (unsigned i = 0; i < f->n; i++) {
        if (f->v[i].token != FIELD_connection)
            continue;
        struct str rest = f->v[i].value, piece;
        if (str_eq(rest,
                   STR("keep-alive"))) { /* what browsers send; that field is flagged anyway */
            k->keep_alive = true;
            continue;
        }
        while (str_split(&rest, ',', &piece)) {
            piece = str_trim(piece);
            if (piece.n == 0)
                continue;
            if (++options > CONNECTION_OPTIONS_MAX)
                return "too many options in Connection";
            const char *why = read_option(f, k, piece);
            if (why)
                return why;
        }
    }
    return NULL;
}

/* ---- framing ---- */

static const char *read_length(struct h1_facts *k, const struct field *f)
{
    if (k->length)
        return "more than one Content-Length";
    k->length = f;
    if (!str_u64(f->value, &k->content_length))
        return "Content-Length is not a number";
    if (k->content_length > INT64_MAX)
        return "Content-Length is too large";
    return NULL;
}

static const char *read_coding(struct h1_facts *k, const struct field *f)
{
    if (k->coding)
        return "more than one Transfer-Encoding";
    k->coding = f;
    if (!str_ieq(f->value, STR("chunked")))
        return "a Transfer-Encoding other than chunked";
    k->chunked = true;
    return NULL;
}

static const char *read_field(struct h1_facts *k, struct field *f)
{
    switch (f->token) {
    case FIELD_host:
        if (k->host)
            return "more than one Host";
        k->host = f;
        return NULL;
    case FIELD_content_length:
        f->flags |= FIELD_HOP; /* whoever writes frames anew */
        return read_length(k, f);
    case FIELD_transfer_encoding:
        f->flags |= FIELD_HOP;
        return read_coding(k, f);
    case FIELD_te:
        f->flags |= FIELD_HOP;
        k->te_trailers |= http_list_has(f->value, STR("trailers"));
        return NULL;
    case FIELD_upgrade:
        f->flags |= FIELD_HOP;
        if (k->upgrade == NULL)
            k->upgrade = f;
        return NULL;
    case FIELD_connection:
    case FIELD_keep_alive:
    case FIELD_proxy_connection:
    case FIELD_proxy_authenticate:
    case FIELD_proxy_authorization:
        f->flags |= FIELD_HOP;
        return NULL;
    case FIELD_expect:
        if (str_ieq(f->value, STR("100-continue")))
            k->expect_continue = true;
        else
            k->expect_other = true;
        return NULL;
    default:
        return NULL;
    }
}

const char *h1_facts_of(struct fields *f, struct h1_facts *k)
{
    bool connection = false;
    for (unsigned i = 0; i < f->n; i++) {
        if (f->v[i].token == FIELD_OTHER)
            continue;
        connection |= f->v[i].token == FIELD_connection;
        const char *why = read_field(k, &f->v[i]);
        if (unlikely(why != NULL))
            return why;
    }
    if (k->length && k->coding)
        return "Content-Length and Transfer-Encoding together";
    return connection ? read_connection(f, k) : NULL;
}

/* ---- host ---- */

/* Splits host[:port]; false when a bracket or colon is out of place. */
static bool split_port(struct str s, struct str *host, struct str *port)
{
    size_t at;
    *port = STR_NULL;
    if (s.n > 0 && s.p[0] == '[') {
        at = str_chr(s, ']');
        if (at == s.n)
            return false;
        at++;
    } else {
        at = str_chr(s, ':');
    }
    *host = str_sub(s, 0, at);
    if (at == s.n)
        return true;
    if (s.p[at] != ':')
        return false;
    *port = str_sub(s, at + 1, s.n);
    return true;
}

static bool ipv6_valid(struct str inner)
{
    char z[INET6_ADDRSTRLEN];
    struct in6_addr addr;
    if (inner.n >= sizeof(z))
        return false;
    memcpy(z, inner.p, inner.n);
    z[inner.n] = '\0';
    return strlen(z) == inner.n && inet_pton(AF_INET6, z, &addr) == 1;
}

/*
 * Narrower than RFC 3986's reg-name on purpose: headgate answers for DNS names only, and quotes,
 * commas or percent-escapes in a host would only serve to mislead whoever reads it further behind.
 */
static bool name_valid(struct str name)
{
    if (name.n > 255)
        return false;
    for (size_t i = 0; i < name.n; i++) {
        char c = ascii_lower(name.p[i]);
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_'))
            return false;
    }
    return true;
}

static bool port_valid(struct str port)
{
    uint64_t number;
    return port.n <= 5 && str_u64(port, &number) && number >= 1 && number <= 65535;
}

bool h1_host_valid(struct str s)
{
    struct str host, port;
    if (!split_port(s, &host, &port) || host.n == 0 || (port.p && !port_valid(port)))
        return false;
    if (host.p[0] == '[')
        return ipv6_valid(str_sub(host, 1, host.n - 1));
    return name_valid(host);
}

bool h1_host_same(struct str a, struct str b, struct str default_port)
{
    struct str host_a, host_b, port_a, port_b;
    if (!split_port(a, &host_a, &port_a) || !split_port(b, &host_b, &port_b))
        return false;
    return str_ieq(host_a, host_b) &&
           str_eq(port_a.p ? port_a : default_port, port_b.p ? port_b : default_port);
}
