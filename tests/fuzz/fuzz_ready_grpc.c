/*
 * fuzz_ready_grpc.c - any bytes as the answer to a health check: the verdict and what is sent back
 * do not depend on how they were cut, and what is sent back is bounded.
 */
#include <stdlib.h>

#include "channels/ready_grpc.h"

static bool feed(struct ready_grpc *g, const uint8_t *p, size_t n, uint32_t seed, struct out *reply)
{
    bool judged = false;
    ready_grpc_begin(g);
    for (size_t at = 0; at < n && !judged;) {
        size_t step = n - at;
        if (seed) {
            seed = seed * 1664525 + 1013904223;
            step = MIN(step, (size_t)(seed >> 24) % 40 + 1);
        }
        uint8_t *exact = malloc(step);
        ASSERT(exact);
        memcpy(exact, p + at, step);
        judged = ready_grpc_feed(g, exact, step, reply);
        free(exact);
        at += step;
    }
    return judged;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static struct ready_grpc whole, cut;
    char a[READY_GRPC_REPLY], b[READY_GRPC_REPLY];
    struct out of_whole = out_on(a, sizeof(a)), of_cut = out_on(b, sizeof(b));
    uint32_t seed = 1;
    for (size_t i = 0; i < n; i++)
        seed = seed * 31 + data[i];
    bool judged = feed(&whole, data, n, 0, &of_whole);
    ASSERT(feed(&cut, data, n, seed | 1, &of_cut) == judged);
    ASSERT(whole.err == cut.err && whole.no_health == cut.no_health);
    ASSERT(!of_whole.over && !of_cut.over && str_eq(out_done(&of_whole), out_done(&of_cut)));
    ASSERT(judged || (!whole.err && !whole.no_health));
    ASSERT(!whole.no_health || !whole.err);
    return 0;
}
