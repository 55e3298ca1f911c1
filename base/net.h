/*
 * net.h - internet addresses as values: from sockets and text, as text, and whether they lie in a
 * network. Knows no names and no ports. IPv4 that came mapped into IPv6 (::ffff:a.b.c.d, as on a
 * dual-stack socket) is IPv4 here: nobody else has to think of it.
 */
#ifndef HG_NET_H
#define HG_NET_H

#include <sys/socket.h>

#include "base/base.h"

enum net_family { NET_NONE, NET_IP4, NET_IP6, NET_UNIX };

/* Compared with net_ip_eq: bytes behind an IPv4 address are zero. */
struct net_ip {
    uint8_t family; /* enum net_family; a Unix socket's peer has no bytes */
    uint8_t b[16];  /* in network order */
};

struct net_range {
    struct net_ip ip; /* bits behind the prefix are zero */
    uint8_t bits;
};
struct net_ranges {
    const struct net_range *v;
    unsigned n;
};

#define NET_TEXT_MAX 46 /* with the NUL */

struct net_ip net_ip_of(const struct sockaddr *sa);
/* Four bytes or sixteen, in network order. */
struct net_ip net_ip_of_bytes(const uint8_t *bytes, size_t n);
/* Family AF_UNSPEC where it is no internet address. */
void net_to_sockaddr(struct net_ip ip, uint16_t port, struct sockaddr_storage *out);
/* "192.0.2.1", "2001:db8::1": no port, no brackets, no zone. False: it is no address. */
bool net_ip_parse(struct str text, struct net_ip *out) MUST_USE;
/* Canonical (RFC 5952), NUL-terminated, in buf; "unix", "unknown". */
struct str net_ip_text(struct net_ip ip, char buf[static NET_TEXT_MAX]);
static inline bool net_ip_eq(struct net_ip a, struct net_ip b)
{
    return memcmp(&a, &b, sizeof(a)) == 0;
}
/*
 * Who is counted as one: an IPv4 address; of IPv6 the /64, the least that a site gets and every
 * host in it can draw addresses from.
 */
struct net_ip net_ip_group(struct net_ip ip);

/* "10.0.0.0/8", "2001:db8::/32", an address, or "unix": peers of Unix sockets. */
bool net_range_parse(struct str text, struct net_range *out) MUST_USE;
bool net_ranges_have(struct net_ranges ranges, struct net_ip ip);

#endif
