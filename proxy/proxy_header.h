/*
 * proxy_header.h - the header of the PROXY protocol that is sent to backends: who the client is, in
 * front of its bytes. Writing only; as haproxy's proxy-protocol.txt has it, in text (v1) and binary
 * (v2).
 */
#ifndef HG_PROXY_HEADER_H
#define HG_PROXY_HEADER_H

#include <sys/socket.h>

#include "base/base.h"
#include "conf/conf.h"

#define PROXY_HEADER_MAX 108 /* a line of v1 with its CRLF; v2 needs less */

/*
 * The header for a connection from `from` to `to`, in mem. An IPv4 address that came mapped into
 * IPv6 is IPv4 again; of two different families both are written as IPv6. What is neither (a Unix
 * socket, family 0) is "UNKNOWN" in v1 and LOCAL in v2. Returns its bytes; v: not OFF.
 */
struct str proxy_header(enum conf_send_proxy v, const struct sockaddr_storage *from,
                        const struct sockaddr_storage *to, char mem[static PROXY_HEADER_MAX]);

#endif
