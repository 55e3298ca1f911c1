/*
 * forwarded.c - X-Forwarded-* and Forwarded, in and out.
 */
#include "proxy/forwarded.h"

#include "proxy/client.h"
#include "proxy/uri.h"

/* ---- in ---- */

/* One of X-Forwarded-For: an address, by some proxies with its port: 192.0.2.1:80, [::1]:80. */
static bool element_ip(struct str e, struct net_ip *out)
{
    if (e.n && e.p[0] == '[') {
        size_t close = str_chr(e, ']');
        return close < e.n && net_ip_parse(str_sub(e, 1, close), out);
    }
    size_t colon = str_chr(e, ':');
    bool one = colon < e.n && str_chr(str_sub(e, colon + 1, e.n), ':') == e.n - colon - 1;
    return net_ip_parse(one ? str_sub(e, 0, colon) : e, out);
}

static bool trusted(const struct req *r, struct net_ip ip)
{
    return net_ranges_have(r->snap->conf->trusted_proxies, ip);
}

/*
 * One field, right to left: each proxy appended whom it saw. True to go on: all of them are trusted
 * ones. What is no address ends it: nobody can say who stands behind that.
 */
static bool follow(struct req *r, struct str list)
{
    while (list.n) {
        size_t at = list.n;
        while (at && list.p[at - 1] != ',')
            at--;
        struct str e = str_trim(str_sub(list, at, list.n));
        struct net_ip ip;
        list.n = at ? at - 1 : 0;
        if (!e.n)
            continue;
        if (!element_ip(e, &ip))
            return false;
        r->ip = ip;
        if (!trusted(r, ip))
            return false;
    }
    return true;
}

static void believe_for(struct req *r)
{
    for (unsigned i = r->fields.n; i-- > 0;) {
        const struct field *f = &r->fields.v[i];
        if (f->token == FIELD_x_forwarded_for && !follow(r, f->value))
            break;
    }
    if (net_ip_eq(r->ip, r->client->pass.ip))
        return;
    r->ip_text = net_ip_text(r->ip, arena_alloc(r->arena, NET_TEXT_MAX));
}

/* The client's own is what the first proxy wrote: the first one. */
static struct str first_of(const struct req *r, enum field_token t)
{
    const struct field *f = fields_get(&r->fields, t);
    return f ? str_trim(str_sub(f->value, 0, str_chr(f->value, ','))) : STR_NULL;
}

static void believe_proto(struct req *r)
{
    struct str proto = first_of(r, FIELD_x_forwarded_proto);
    /* Some say ws and wss of a WebSocket's request. */
    if (str_ieq(proto, STR("https")) || str_ieq(proto, STR("wss")))
        r->scheme = STR("https");
    else if (str_ieq(proto, STR("http")) || str_ieq(proto, STR("ws")))
        r->scheme = STR("http");
    else
        return;
    /* The port that the proxy chose here is not the one that its clients see. */
    r->forwarded_port = str_eq(r->scheme, STR("https")) ? 443 : 80;
}

static void believe_host(struct req *r)
{
    struct str host = first_of(r, FIELD_x_forwarded_host), port;
    struct uri_host h = {0};
    uint64_t number;
    if (host.n && !uri_host_parse(r->arena, host, &h)) {
        r->forwarded_host = host;
        if (h.port)
            r->forwarded_port = h.port;
    }
    port = first_of(r, FIELD_x_forwarded_port);
    if (port.n <= 5 && str_u64(port, &number) && number >= 1 && number <= 65535)
        r->forwarded_port = (uint16_t)number;
}

void step_forwarded(struct req *r)
{
    if (likely(!trusted(r, r->ip)))
        return;
    believe_for(r);
    believe_proto(r);
    believe_host(r);
}

/* ---- out ---- */

bool forwarded_replaces(enum field_token t)
{
    return t == FIELD_x_forwarded_for || t == FIELD_x_forwarded_host ||
           t == FIELD_x_forwarded_port || t == FIELD_x_forwarded_proto || t == FIELD_x_real_ip ||
           t == FIELD_forwarded;
}

/* What clients ask for. */
static struct str host_of(const struct req *r)
{
    return r->forwarded_host.n ? r->forwarded_host : r->authority;
}

/* RFC 7239 4: for=…;proto=…;host=… */
static struct str forwarded_value(const struct req *r)
{
    struct str ip = r->ip_text, host = host_of(r);
    size_t cap = ip.n + r->scheme.n + host.n + 40;
    struct out o = out_on(arena_alloc(r->arena, cap), cap);
    bool v6 = r->ip.family == NET_IP6;
    out_lit(&o, "for=");
    /* RFC 7239 6: IPv6 in brackets, and with them quoted; who has no address is unknown */
    out_str(&o, v6 ? STR("\"[") : STR(""));
    out_str(&o, r->ip.family == NET_UNIX ? STR("unknown") : ip);
    out_str(&o, v6 ? STR("]\"") : STR(""));
    out_lit(&o, ";proto=");
    out_str(&o, r->scheme);
    if (host.n) {
        out_lit(&o, ";host=\"");
        out_str(&o, host);
        out_char(&o, '"');
    }
    ASSERT(!o.over);
    return out_done(&o);
}

static void add(const struct req *r, struct fields *to, const char *name, struct str value)
{
    fields_add(r->arena, to, str_of(name), value);
}

void forwarded_add(const struct req *r, struct fields *to)
{
    struct out port = out_on(arena_alloc(r->arena, 5), 5);
    out_u64(&port, r->forwarded_port ? r->forwarded_port : req_local_port(r));
    add(r, to, "x-forwarded-for", r->ip_text);
    add(r, to, "x-forwarded-proto", r->scheme);
    add(r, to, "x-forwarded-host", host_of(r));
    add(r, to, "x-forwarded-port", out_done(&port));
    add(r, to, "forwarded", forwarded_value(r));
}
