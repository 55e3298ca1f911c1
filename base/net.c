/*
 * net.c - internet addresses as values.
 */
#include "base/net.h"

#include <arpa/inet.h>
#include <netinet/in.h>

static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

static struct net_ip ip4(const void *bytes)
{
    struct net_ip ip = {.family = NET_IP4};
    memcpy(ip.b, bytes, 4);
    return ip;
}

static struct net_ip ip6(const uint8_t bytes[16])
{
    if (memcmp(bytes, mapped, sizeof(mapped)) == 0)
        return ip4(bytes + sizeof(mapped));
    struct net_ip ip = {.family = NET_IP6};
    memcpy(ip.b, bytes, 16);
    return ip;
}

struct net_ip net_ip_of(const struct sockaddr *sa)
{
    switch (sa->sa_family) {
    case AF_INET:
        return ip4(&((const struct sockaddr_in *)(const void *)sa)->sin_addr);
    case AF_INET6:
        return ip6(((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr.s6_addr);
    case AF_UNIX:
        return (struct net_ip){.family = NET_UNIX};
    default:
        return (struct net_ip){.family = NET_NONE};
    }
}

struct net_ip net_ip_of_bytes(const uint8_t *bytes, size_t n)
{
    ASSERT(n == 4 || n == 16);
    return n == 4 ? ip4(bytes) : ip6(bytes);
}

void net_to_sockaddr(struct net_ip ip, uint16_t port, struct sockaddr_storage *out)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    memset(out, 0, sizeof(*out));
    memcpy(&in.sin_addr, ip.b, sizeof(in.sin_addr));
    memcpy(&in6.sin6_addr, ip.b, sizeof(in6.sin6_addr));
    if (ip.family == NET_IP4)
        memcpy(out, &in, sizeof(in));
    else if (ip.family == NET_IP6)
        memcpy(out, &in6, sizeof(in6));
}

/* As inet_pton takes it: a mapped one stays in its 16 bytes. */
static unsigned parse(struct str text, uint8_t bytes[16])
{
    char z[INET6_ADDRSTRLEN];
    if (!text.n || text.n >= sizeof(z) || memchr(text.p, 0, text.n))
        return 0;
    memcpy(z, text.p, text.n);
    z[text.n] = '\0';
    if (inet_pton(AF_INET, z, bytes) == 1)
        return 4;
    return inet_pton(AF_INET6, z, bytes) == 1 ? 16 : 0;
}

bool net_ip_parse(struct str text, struct net_ip *out)
{
    uint8_t bytes[16];
    unsigned n = parse(text, bytes);
    if (n)
        *out = net_ip_of_bytes(bytes, n);
    return n != 0;
}

struct str net_ip_text(struct net_ip ip, char buf[static NET_TEXT_MAX])
{
    struct str word = ip.family == NET_UNIX ? STR("unix") : STR("unknown");
    if (ip.family == NET_IP4 || ip.family == NET_IP6) {
        inet_ntop(ip.family == NET_IP4 ? AF_INET : AF_INET6, ip.b, buf, NET_TEXT_MAX);
        return str_of(buf);
    }
    memcpy(buf, word.p, word.n + 1);
    return (struct str){buf, word.n};
}

static void keep_bits(struct net_ip *ip, unsigned bits)
{
    for (unsigned i = 0; i < sizeof(ip->b); i++, bits -= MIN(bits, 8u))
        ip->b[i] &= (uint8_t)(0xff00u >> MIN(bits, 8u));
}

struct net_ip net_ip_group(struct net_ip ip)
{
    if (ip.family == NET_IP6)
        keep_bits(&ip, 64);
    return ip;
}

bool net_range_parse(struct str text, struct net_range *out)
{
    uint8_t bytes[16];
    size_t slash = str_chr(text, '/');
    if (str_eq(text, STR("unix"))) {
        *out = (struct net_range){.ip = {.family = NET_UNIX}};
        return true;
    }
    unsigned n = parse(str_sub(text, 0, slash), bytes);
    uint64_t bits = n * 8;
    if (!n || (slash < text.n && !str_u64(str_sub(text, slash + 1, text.n), &bits)) || bits > n * 8)
        return false;
    out->ip = n == 4 ? ip4(bytes) : ip6(bytes);
    if (n == 16 && out->ip.family == NET_IP4) {
        if (bits < 96) /* more than what is mapped: of IPv6 nothing comes as such */
            return false;
        bits -= 96;
    }
    out->bits = (uint8_t)bits;
    keep_bits(&out->ip, out->bits);
    return true;
}

static bool range_has(const struct net_range *r, struct net_ip ip)
{
    keep_bits(&ip, r->bits);
    return net_ip_eq(r->ip, ip);
}

bool net_ranges_have(struct net_ranges ranges, struct net_ip ip)
{
    for (unsigned i = 0; i < ranges.n; i++)
        if (ranges.v[i].ip.family == ip.family && range_has(&ranges.v[i], ip))
            return true;
    return false;
}
