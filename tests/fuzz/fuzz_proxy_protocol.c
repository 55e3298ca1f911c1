/*
 * fuzz_proxy_protocol.c - any bytes as a PROXY protocol header: what comes out does not depend on
 * how they were cut, no byte behind the header is taken, and a name is only there when it is done.
 */
#include "proxy/proxy_protocol.h"

#include <stdlib.h>

static size_t feed(struct proxy_protocol *h, const uint8_t *p, size_t n, const uint8_t *cuts,
                   size_t n_cuts)
{
    size_t used = 0;
    for (size_t i = 0; used < n && h->state == PROXY_PROTOCOL_MORE; i++) {
        size_t some = n_cuts ? 1 + cuts[i % n_cuts] % 32u : n;
        some = MIN(some, n - used);
        /* In memory of its own: a byte too far is seen. */
        uint8_t *piece = malloc(some);
        ASSERT(piece);
        memcpy(piece, p + used, some);
        size_t took = proxy_protocol_feed(h, piece, some);
        free(piece);
        ASSERT(took <= some && (h->state != PROXY_PROTOCOL_MORE || took == some));
        used += took;
    }
    return used;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct proxy_protocol whole, cut;
    size_t n_cuts = size ? data[0] % 8u : 0;
    if (size < 1 + n_cuts)
        return 0;
    const uint8_t *p = data + 1 + n_cuts;
    size_t n = size - 1 - n_cuts;
    memset(&whole, 0, sizeof(whole));
    memset(&cut, 0, sizeof(cut));
    size_t took = feed(&whole, p, n, NULL, 0);
    size_t took_cut = feed(&cut, p, n, data + 1, n_cuts);
    ASSERT(whole.state == cut.state && whole.named == cut.named && whole.error == cut.error);
    ASSERT(took <= PROXY_PROTOCOL_MAX);
    ASSERT((whole.state == PROXY_PROTOCOL_BAD) == (whole.error != NULL));
    if (whole.state == PROXY_PROTOCOL_DONE)
        ASSERT(took == took_cut && memcmp(whole.bytes, p, took) == 0);
    else
        ASSERT(!whole.named);
    if (whole.named)
        ASSERT(net_ip_eq(whole.ip, cut.ip) && whole.local_port == cut.local_port &&
               whole.port == cut.port && net_ip_eq(whole.local_ip, cut.local_ip) &&
               (whole.ip.family == NET_IP4 || whole.ip.family == NET_IP6));
    return 0;
}
