/*
 * proxy_protocol.h - the PROXY protocol's header, by which a load balancer names the client in
 * front of everything else (haproxy's proxy-protocol.txt, versions 1 and 2). A parser of bytes:
 * sockets, and who must send it, are front.c's.
 */
#ifndef HG_PROXY_PROTOCOL_H
#define HG_PROXY_PROTOCOL_H

#include "base/net.h"

/* Of the whole header with its TLVs; the standard's own minimum for receivers is 536. */
#define PROXY_PROTOCOL_MAX 4096

enum proxy_protocol_state { PROXY_PROTOCOL_MORE, PROXY_PROTOCOL_DONE, PROXY_PROTOCOL_BAD };

/* Zeroed before the first byte. */
struct proxy_protocol {
    enum proxy_protocol_state state;
    const char *error; /* BAD: why; a constant */
    /*
     * It names the client. Else (LOCAL, UNKNOWN, a client of no address) the peer of the connection
     * itself is the client.
     */
    bool named;
    struct net_ip ip, local_ip; /* the client's, and where it connected to */
    uint16_t port, local_port;
    size_t n, want; /* bytes that are there, and that there have to be next */
    uint8_t bytes[PROXY_PROTOCOL_MAX];
};

/*
 * The next bytes of the connection, cut anywhere. Returns how many of them belong to the header:
 * all while it is not complete, and never one behind its end. Not called again after DONE or BAD.
 */
size_t proxy_protocol_feed(struct proxy_protocol *h, const void *p, size_t n);

#endif
