/*
 * proxy_header.c - the two forms of the PROXY protocol's header.
 */
#include "proxy/proxy_header.h"

#include <arpa/inet.h>

/* An end of a connection: an address in its shortest form, network order. */
struct end {
    size_t n; /* 4, 16, or 0: none */
    uint8_t ip[16];
    uint16_t port;
};

static struct end end_of(const struct sockaddr_storage *sa)
{
    struct end e = {0};
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
    if (sa->ss_family == AF_INET) {
        memcpy(&in, sa, sizeof(in));
        e.n = 4;
        memcpy(e.ip, &in.sin_addr, 4);
        e.port = ntohs(in.sin_port);
    } else if (sa->ss_family == AF_INET6) {
        memcpy(&in6, sa, sizeof(in6));
        const bool mapped = IN6_IS_ADDR_V4MAPPED(&in6.sin6_addr);
        e.n = mapped ? 4 : 16;
        memcpy(e.ip, in6.sin6_addr.s6_addr + (mapped ? 12 : 0), e.n);
        e.port = ntohs(in6.sin6_port);
    }
    return e;
}

static void widen(struct end *e)
{
    if (e->n != 4)
        return;
    memmove(e->ip + 12, e->ip, 4);
    memset(e->ip, 0, 10);
    memset(e->ip + 10, 0xff, 2);
    e->n = 16;
}

static void put_ip(struct out *o, const struct end *e)
{
    char text[INET6_ADDRSTRLEN];
    ASSERT(inet_ntop(e->n == 4 ? AF_INET : AF_INET6, e->ip, text, sizeof(text)));
    out_str(o, str_of(text));
    out_char(o, ' ');
}

static void put_v1(struct out *o, const struct end *from, const struct end *to)
{
    if (!from->n) {
        out_lit(o, "PROXY UNKNOWN\r\n");
        return;
    }
    out_str(o, from->n == 4 ? STR("PROXY TCP4 ") : STR("PROXY TCP6 "));
    put_ip(o, from);
    put_ip(o, to);
    out_u64(o, from->port);
    out_char(o, ' ');
    out_u64(o, to->port);
    out_lit(o, "\r\n");
}

static void put_u16(struct out *o, unsigned v)
{
    out_char(o, (char)(v >> 8));
    out_char(o, (char)(v & 0xff));
}

static void put_v2(struct out *o, const struct end *from, const struct end *to)
{
    enum { VERSION_2 = 0x20, LOCAL = 0, PROXY = 1, TCP4 = 0x11, TCP6 = 0x21, UNSPEC = 0 };
    out_lit(o, "\r\n\r\n\0\r\nQUIT\n");
    out_char(o, (char)(VERSION_2 | (from->n ? PROXY : LOCAL)));
    out_char(o, (char)(!from->n ? UNSPEC : from->n == 4 ? TCP4 : TCP6));
    if (!from->n) {
        put_u16(o, 0);
        return;
    }
    put_u16(o, (unsigned)(2 * from->n + 4));
    out_bytes(o, from->ip, from->n);
    out_bytes(o, to->ip, to->n);
    put_u16(o, from->port);
    put_u16(o, to->port);
}

struct str proxy_header(enum conf_send_proxy v, const struct sockaddr_storage *from,
                        const struct sockaddr_storage *to, char mem[static PROXY_HEADER_MAX])
{
    struct end a = end_of(from), b = end_of(to);
    struct out o = out_on(mem, PROXY_HEADER_MAX);
    ASSERT(v != CONF_SEND_PROXY_OFF);
    if (!a.n || !b.n) {
        a.n = b.n = 0;
    } else if (a.n != b.n) {
        widen(&a);
        widen(&b);
    }
    if (v == CONF_SEND_PROXY_V1)
        put_v1(&o, &a, &b);
    else
        put_v2(&o, &a, &b);
    ASSERT(!o.over); /* the longest is 107 bytes */
    return out_done(&o);
}
