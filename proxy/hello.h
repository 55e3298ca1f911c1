/*
 * hello.h - which host a client asks for in the first message of TLS, read without speaking TLS: to
 * pass a connection on unopened. A pure function of the bytes that came so far; handshakes that
 * headgate itself ends are OpenSSL's affair (tls.c).
 */
#ifndef HG_HELLO_H
#define HG_HELLO_H

#include "base/base.h"

#define HELLO_MAX ((size_t)16 * 1024) /* bytes that are looked at, record heads included */

enum hello_verdict {
    HELLO_MORE,  /* right so far, and not whole; never with HELLO_MAX bytes and more */
    HELLO_WHOLE, /* one whole ClientHello came; behind it there may be more, of no interest */
    HELLO_BAD    /* no ClientHello, or none that anybody should take */
};

/*
 * Looks at what a connection began with: TLS records (RFC 8446 5.1) over which a ClientHello
 * (4.1.2) is spread in any way. HELLO_WHOLE: *name is the host of server_name (RFC 6066 3) as it
 * was sent, in mem, or empty when none was. More bytes never change a verdict but HELLO_MORE. Outer
 * names of encrypted hellos, GREASE and unknown extensions are nothing special.
 */
enum hello_verdict hello_name(struct str bytes, char mem[static 256], struct str *name);

#endif
