/*
 * fuzz_h1_answer.c - any bytes as an answer's head, to a GET and to a HEAD: the same promises as
 * for requests.
 */
#include "tests/fuzz/fuzz_h1_head.h"

static ssize_t parse_get(char *buf, size_t n, size_t *scanned, struct arena *a, struct h1_head *h,
                         const char **why)
{
    return h1_parse_answer(buf, n, scanned, &fuzz_limits, METHOD_GET, a, h, why);
}

static ssize_t parse_head(char *buf, size_t n, size_t *scanned, struct arena *a, struct h1_head *h,
                          const char **why)
{
    return h1_parse_answer(buf, n, scanned, &fuzz_limits, METHOD_HEAD, a, h, why);
}

static void write_line(struct out *o, const struct h1_head *h)
{
    ASSERT(h->status >= 100 && h->status <= 599);
    ASSERT(h->framing == H1_NO_BODY || (h->status >= 200 && h->method != METHOD_HEAD));
    ASSERT(h->framing != H1_UNTIL_CLOSE || !h->keep_alive);
    ASSERT(h->framing != H1_CHUNKED || h->minor == 1);
    ASSERT(h->length <= INT64_MAX);
    out_fmt(o, "HTTP/1.%u %u\r\n", h->minor, h->status);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    uint32_t seed = (uint32_t)n;
    for (size_t i = 0; i < n; i++)
        seed = seed * 31 + data[i];
    fuzz_head(parse_get, write_line, data, n, seed);
    fuzz_head(parse_head, write_line, data, n, seed);
    return 0;
}
