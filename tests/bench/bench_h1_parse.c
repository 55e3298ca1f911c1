/*
 * bench_h1_parse.c - nanoseconds a head: the request that a browser sends, one with a long cookie,
 * a backend's answer; with the field array from an arena that is reset each time, as in use.
 * Linked with libheadgate.a like a unit test; needs no arguments.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "proxy/h1_parse.h"

static const struct h1_limits limits = {.head = 32768, .target = 16384, .fields = 100};

static const char browser[] =
    "GET /assets/main.dart.js?v=20240607 HTTP/1.1\r\n"
    "Host: www.example.org\r\n"
    "Connection: keep-alive\r\n"
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/126.0.0.0 Safari/537.36\r\n"
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
    "\r\n"
    "Referer: https://www.example.org/start/overview\r\n"
    "Accept-Encoding: gzip, deflate, br, zstd\r\n"
    "Accept-Language: de-DE,de;q=0.9,en-US;q=0.8,en;q=0.7\r\n"
    "Cookie: session=9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\r\n"
    "\r\n";

static const char small[] = "GET / HTTP/1.1\r\nHost: a.example\r\nUser-Agent: wrk\r\n\r\n";

static const char answer[] = "HTTP/1.1 200 OK\r\n"
                             "Server: nginx/1.22.1\r\n"
                             "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
                             "Content-Type: application/json; charset=utf-8\r\n"
                             "Content-Length: 1024\r\n"
                             "Connection: keep-alive\r\n"
                             "Vary: Accept-Encoding\r\n"
                             "ETag: \"65f1c0de-400\"\r\n"
                             "Cache-Control: max-age=60\r\n"
                             "\r\n";

static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* The clock is read once a batch, whose heads were copied before: parsing changes them in place. */
enum { BATCH = 16, BATCHES = 20001 };

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static ssize_t parse(char *buf, size_t n, bool is_answer, struct arena *a)
{
    struct h1_head h;
    const char *why;
    size_t scanned = 0;
    if (is_answer)
        return h1_parse_answer(buf, n, &scanned, &limits, METHOD_GET, a, &h, &why);
    return h1_parse_request(buf, n, &scanned, &limits, a, &h, &why);
}

/* The median of the batches: what else the machine does hits only some of them. */
static void measure(const char *name, const char *head, size_t n, bool is_answer)
{
    static double each[BATCHES];
    struct arena *a = arena_new(16384);
    char *bufs = malloc(BATCH * n);
    ASSERT(bufs != NULL);
    for (size_t k = 0; k < BATCHES; k++) {
        for (size_t i = 0; i < BATCH; i++)
            memcpy(bufs + i * n, head, n);
        double start = now_ns();
        for (size_t i = 0; i < BATCH; i++) {
            ssize_t r = parse(bufs + i * n, n, is_answer, a);
            ASSERT(r == (ssize_t)n);
            arena_reset(a);
        }
        each[k] = (now_ns() - start) / BATCH;
    }
    qsort(each, BATCHES, sizeof(*each), by_size);
    printf("%-10s %4zu bytes  %6.1f ns a head\n", name, n, each[BATCHES / 2]);
    free(bufs);
    arena_free(&a);
}

int main(void)
{
    measure("browser", browser, sizeof(browser) - 1, false);
    measure("small", small, sizeof(small) - 1, false);
    measure("answer", answer, sizeof(answer) - 1, true);
    return 0;
}
