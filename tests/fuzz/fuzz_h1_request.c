/*
 * fuzz_h1_request.c - any bytes as a request's head: nothing beyond them is read, the verdict does
 * not depend on how they were cut, and a good head written anew is the same head again.
 */
#include "tests/fuzz/fuzz_h1_head.h"

static ssize_t parse(char *buf, size_t n, size_t *scanned, struct arena *a, struct h1_head *h,
                     const char **why)
{
    return h1_parse_request(buf, n, scanned, &fuzz_limits, a, h, why);
}

static void write_line(struct out *o, const struct h1_head *h)
{
    ASSERT(h->method_text.n > 0 && h->method == http_method_of(h->method_text));
    ASSERT(h->target.n > 0 && h->target.n <= fuzz_limits.target);
    for (size_t i = 0; i < h->target.n; i++)
        ASSERT(h->target.p[i] > ' ' && h->target.p[i] < 0x7f && h->target.p[i] != '#');
    ASSERT(h->minor == 0 || h->host.n > 0);
    ASSERT(h->framing != H1_UNTIL_CLOSE && h->method != METHOD_CONNECT);
    ASSERT(h->framing != H1_CHUNKED || h->minor == 1);
    ASSERT(h->length <= INT64_MAX && (h->length == 0 || h->framing == H1_LENGTH));
    out_str(o, h->method_text);
    out_char(o, ' ');
    out_str(o, h->target);
    out_fmt(o, " HTTP/1.%u\r\n", h->minor);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    /* The cuts come from the bytes too, so that corpora stay plain files of what is on the wire. */
    uint32_t seed = (uint32_t)n;
    for (size_t i = 0; i < n; i++)
        seed = seed * 31 + data[i];
    fuzz_head(parse, write_line, data, n, seed);
    return 0;
}
