/*
 * fuzz_websocket_frames.c - any bytes as a direction of WebSocket: wherever they are cut, the
 * follower says at each cut what a reader of the whole says.
 */
#include "proxy/websocket.h"

/* Where the frame at `at` ends by RFC 6455 5.2, SIZE_MAX: not among these bytes. */
static size_t frame_end(const uint8_t *p, size_t n, size_t at)
{
    if (n - at < 2)
        return SIZE_MAX;
    uint64_t size = p[at + 1] & 0x7f;
    size_t head = 2;
    if (size == 126)
        head = 4;
    else if (size == 127)
        head = 10;
    if (n - at < head)
        return SIZE_MAX;
    if (head > 2) {
        size = 0;
        for (size_t i = 2; i < head; i++)
            size = size << 8 | p[at + i];
    }
    if (p[at + 1] & 0x80)
        head += 4;
    return n - at >= head && size <= n - at - head ? at + head + (size_t)size : SIZE_MAX;
}

static void check(const struct websocket_frames *f, const uint8_t *p, size_t n, size_t cut)
{
    size_t at = 0, end, last = 0;
    while ((end = frame_end(p, n, at)) <= cut) {
        last = at;
        at = end;
    }
    ASSERT(websocket_frames_between(f) == (at == cut));
    if (at == cut && cut)
        ASSERT(websocket_frames_closed(f) == ((p[last] & 0x0f) == 0x8));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct websocket_frames f = {0};
    uint32_t seed = (uint32_t)n;
    if (n > 4096)
        return 0;
    for (size_t i = 0; i < n; i++)
        seed = seed * 31 + data[i];
    check(&f, data, n, 0);
    for (size_t i = 0, step; i < n; i += step) {
        seed = seed * 1664525u + 1013904223u;
        step = MIN(n - i, 1 + (seed >> 24) % ((seed >> 16 & 3) ? 4 : 100));
        websocket_frames_feed(&f, data + i, step);
        check(&f, data, n, i + step);
    }
    return 0;
}
