/*
 * bench_h1_parse.c - nanoseconds a head: what browsers send, a bare request, a backend's answer;
 * with the field array from an arena that is reset each time, as in use. Linked with libheadgate.a
 * like a unit test; needs no arguments.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "proxy/h1_parse.h"

enum { HEAD_MAX = 1024, BATCH = 16, BATCHES = 20001 };

static const struct h1_limits limits = {.head = 32768, .target = 16384, .fields = 100};

struct template
{
    const char *name, *start;
    const char *fields[12];
    enum http_method answers; /* METHOD_OTHER: a request */
};

static const struct template templates[] = {
    {"browser",
     "GET /assets/main.dart.js?v=20240607 HTTP/1.1\r\nHost: www.example.org\r\n",
     {"Connection: keep-alive",
      "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0",
      "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*",
      "Referer: https://www.example.org/start/overview/of/all",
      "Accept-Encoding: gzip, deflate, br, zstd",
      "Accept-Language: de-DE,de;q=0.9,en-US;q=0.8,en;q=0.7",
      "Cookie: session=9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"},
     METHOD_OTHER},
    {"small", "GET / HTTP/1.1\r\nHost: a.example\r\nUser-Agent: wrk\r\n", {NULL}, METHOD_OTHER},
    {"answer",
     "HTTP/1.1 200 OK\r\nContent-Length: 1024\r\nConnection: keep-alive\r\n",
     {"Server: nginx/1.22.1", "Date: Sun, 06 Nov 1994 08:49:37 GMT",
      "Content-Type: application/json; charset=utf-8", "Vary: Accept-Encoding",
      "ETag: \"65f1c0de-400-0123456789abcdef\"", "Cache-Control: max-age=60, must-revalidate"},
     METHOD_GET},
};

static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static uint32_t random_below(uint32_t n)
{
    static uint32_t state = 1;
    state = state * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)state * n >> 32);
}

/*
 * The template's head, every value but the start's cut by up to a third: no two heads on the wire
 * have the same lengths, and a loop that the processor knows by heart would measure too well.
 */
static size_t make_head(const struct template *t, char *buf)
{
    struct out o = out_on(buf, HEAD_MAX);
    out_str(&o, str_of(t->start));
    for (size_t i = 0; i < ARRAY_LEN(t->fields) && t->fields[i]; i++) {
        struct str line = str_of(t->fields[i]);
        size_t value = line.n - str_chr(line, ':') - 2;
        bool is_option = str_starts(line, STR("Connection"));
        out_str(&o, str_sub(line, 0, line.n - (is_option ? 0 : random_below((uint32_t)value / 3))));
        out_lit(&o, "\r\n");
    }
    out_lit(&o, "\r\n");
    ASSERT(!o.over);
    return o.n;
}

static ssize_t parse(const struct template *t, char *buf, size_t n, struct arena *a)
{
    struct h1_head h;
    const char *why;
    size_t scanned = 0;
    if (t->answers != METHOD_OTHER)
        return h1_parse_answer(buf, n, &scanned, &limits, t->answers, a, &h, &why);
    return h1_parse_request(buf, n, &scanned, &limits, a, &h, &why);
}

/* The median of the batches: what else the machine does hits only some of them. */
static void measure(const struct template *t)
{
    static double each[BATCHES];
    static char bufs[BATCH][HEAD_MAX];
    size_t n[BATCH], bytes = 0;
    struct arena *a = arena_new(16384);
    for (size_t k = 0; k < BATCHES; k++) {
        for (size_t i = 0; i < BATCH; i++)
            bytes += n[i] = make_head(t, bufs[i]);
        double start = now_ns();
        for (size_t i = 0; i < BATCH; i++) {
            ssize_t r = parse(t, bufs[i], n[i], a);
            ASSERT(r == (ssize_t)n[i]);
            arena_reset(a);
        }
        each[k] = (now_ns() - start) / BATCH;
    }
    qsort(each, BATCHES, sizeof(*each), by_size);
    printf("%-10s %4zu bytes  %6.1f ns a head\n", t->name, bytes / BATCH / BATCHES,
           each[BATCHES / 2]);
    arena_free(&a);
}

int main(void)
{
    for (size_t i = 0; i < ARRAY_LEN(templates); i++)
        measure(&templates[i]);
    return 0;
}
