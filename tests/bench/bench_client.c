/*
 * bench_client.c - the clients that wrk and h2load are not: handshakes one after the other, idle
 * connections by the thousand, and requests at a fixed rate whose latency counts from when they
 * were due. Blocking sockets and threads: it measures servers, not itself. Its output is JSON.
 *
 *   bench_client handshakes PORT PATH SECONDS full|resumed
 *   bench_client idle PORT PATH CONNECTIONS h1|h2      holds them until its stdin ends
 *   bench_client rate PORT PATH SECONDS RATE THREADS
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/base.h"

enum { PER_ADDRESS = 100 /* connections, below any server's limit a client */, ANSWER_MAX = 65536 };

static const char h2_preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";

static struct {
    uint16_t port;
    const char *path;
    SSL_CTX *tls;
    SSL_SESSION *session; /* of the last connection, for the next */
} bench;

struct conn {
    int fd;
    SSL *ssl;
};

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static long number(const char *text)
{
    char *end;
    long n = strtol(text, &end, 10);
    if (*end || n <= 0) {
        fprintf(stderr, "bench_client: %s is no number\n", text);
        exit(2);
    }
    return n;
}

/* ---- one connection ---- */

static int on_session(SSL *ssl, SSL_SESSION *session)
{
    (void)ssl;
    SSL_SESSION_free(bench.session);
    bench.session = session;
    return 1;
}

static void conn_close(struct conn *c)
{
    if (c->ssl)
        SSL_shutdown(c->ssl); /* a session that ended without is not resumed */
    SSL_free(c->ssl);
    if (c->fd >= 0)
        close(c->fd);
    *c = (struct conn){.fd = -1};
}

/* From 127.0.0.1 and its neighbours, so that limits an address are not what is measured. */
static bool conn_tcp(struct conn *c, unsigned nth)
{
    struct sockaddr_in from = {.sin_family = AF_INET,
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK + nth / PER_ADDRESS)};
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons(bench.port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
    struct timeval guard = {.tv_sec = 20};
    setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &guard, sizeof(guard));
    return c->fd >= 0 && bind(c->fd, (struct sockaddr *)&from, sizeof(from)) == 0 &&
           connect(c->fd, (struct sockaddr *)&to, sizeof(to)) == 0;
}

static bool conn_open(struct conn *c, unsigned nth, bool h2, bool resume)
{
    static const unsigned char alpn[2][9] = {"\x08http/1.1", "\x02h2"};
    if (!conn_tcp(c, nth))
        return false;
    c->ssl = SSL_new(bench.tls);
    SSL_set_fd(c->ssl, c->fd);
    SSL_set_tlsext_host_name(c->ssl, "localhost");
    SSL_set_alpn_protos(c->ssl, alpn[h2], h2 ? 3 : 9);
    if (resume && bench.session)
        SSL_set_session(c->ssl, bench.session);
    return SSL_connect(c->ssl) == 1;
}

static bool conn_send(struct conn *c, const void *p, size_t n)
{
    return SSL_write(c->ssl, p, (int)n) == (int)n;
}

/* ---- an HTTP/1.1 request ---- */

enum outcome { ANSWERED, LOST /* no whole answer to what was sent */ };

static bool h1_send(struct conn *c, const char *connection)
{
    char head[512];
    struct out o = out_on(head, sizeof(head));
    out_fmt(&o, "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: %s\r\n\r\n", bench.path,
            connection);
    return conn_send(c, head, o.n);
}

/* Length of the whole answer as far as its head tells, 0 while it does not. */
static size_t h1_length(const char *buf, size_t n)
{
    const char *end = memmem(buf, n, "\r\n\r\n", 4);
    if (!end || strncmp(buf, "HTTP/1.1 200", 12) != 0)
        return 0;
    for (const char *at = buf; at < end; at = (const char *)memchr(at, '\n', n) + 1)
        if (strncasecmp(at, "content-length:", 15) == 0)
            return (size_t)(end + 4 - buf) + strtoul(at + 15, NULL, 10);
    return 0;
}

/* *closing: the server said that it will close. */
static enum outcome h1_receive(struct conn *c, bool *closing)
{
    static __thread char buf[ANSWER_MAX + 1];
    size_t n = 0, whole = 0;
    while (!whole || n < whole) {
        int got = SSL_read(c->ssl, buf + n, (int)(ANSWER_MAX - n));
        if (got <= 0)
            return LOST;
        n += (size_t)got;
        buf[n] = '\0';
        whole = h1_length(buf, n);
    }
    *closing = strcasestr(buf, "\r\nconnection: close") != NULL;
    return ANSWERED;
}

/* ---- handshakes ---- */

static int handshakes(double seconds, bool resumed)
{
    uint64_t end = now_ns() + (uint64_t)(seconds * 1e9);
    unsigned done = 0, failed = 0, reused = 0;
    while (now_ns() < end) {
        struct conn c = {.fd = -1};
        bool closing;
        if (conn_open(&c, 0, false, resumed) && h1_send(&c, "close") &&
            h1_receive(&c, &closing) == ANSWERED) {
            done++;
            reused += SSL_session_reused(c.ssl) == 1;
        } else {
            failed++;
        }
        conn_close(&c);
    }
    printf("{\"done\": %u, \"failed\": %u, \"reused\": %u}\n", done, failed, reused);
    return 0;
}

/* ---- idle connections ---- */

/* One frame of what the server sends; false at its end. *ended: it ended stream 1. */
static bool h2_frame(struct conn *c, bool *ended)
{
    static char buf[ANSWER_MAX];
    unsigned char head[9];
    for (size_t n = 0; n < sizeof(head);) {
        int got = SSL_read(c->ssl, head + n, (int)(sizeof(head) - n));
        if (got <= 0)
            return false;
        n += (size_t)got;
    }
    size_t length = (size_t)head[0] << 16 | (size_t)head[1] << 8 | head[2];
    for (size_t n = 0; n < length;) {
        int got = SSL_read(c->ssl, buf, (int)MIN(length - n, sizeof(buf)));
        if (got <= 0)
            return false;
        n += (size_t)got;
    }
    bool settings = head[3] == 4 && !(head[4] & 1);
    *ended = head[3] <= 1 && (head[4] & 1);
    return !settings || conn_send(c, "\0\0\0\4\1\0\0\0\0", 9);
}

static bool h2_request(struct conn *c)
{
    char block[512];
    struct out o = out_on(block, sizeof(block));
    /* HPACK: GET, https, then :path and :authority as literals that are not indexed */
    out_fmt(&o, "\x82\x87\x04%c%s\x01\tlocalhost", (int)strlen(bench.path), bench.path);
    char head[] = {0, 0, (char)o.n, 1, 5, 0, 0, 0, 1};
    bool ended = false;
    if (!conn_send(c, h2_preface, sizeof(h2_preface) - 1) || !conn_send(c, head, sizeof(head)) ||
        !conn_send(c, block, o.n))
        return false;
    while (!ended)
        if (!h2_frame(c, &ended))
            return false;
    return true;
}

static int idle(unsigned n, bool h2)
{
    struct conn *all = calloc(n, sizeof(*all));
    ASSERT(all);
    for (unsigned i = 0; i < n; i++) {
        bool closing = false;
        bool ok = conn_open(&all[i], i, h2, false) &&
                  (h2 ? h2_request(&all[i])
                      : h1_send(&all[i], "keep-alive") &&
                            h1_receive(&all[i], &closing) == ANSWERED && !closing);
        if (!ok) {
            fprintf(stderr, "bench_client: connection %u of %u failed\n", i + 1, n);
            return 1;
        }
    }
    printf("{\"open\": %u}\n", n);
    fflush(stdout);
    while (getchar() != EOF)
        ;
    return 0;
}

/* ---- a fixed rate ---- */

struct pacer {
    pthread_t thread;
    unsigned nth;
    uint64_t first_ns, step_ns, end_ns;
    uint64_t *latency; /* ns, one a request that was answered */
    size_t done, lost;
};

/* A connection that the server closed while it was idle is no loss: nothing was sent on it. */
static bool conn_is_over(struct conn *c)
{
    char byte;
    int flags = fcntl(c->fd, F_GETFL);
    fcntl(c->fd, F_SETFL, flags | O_NONBLOCK);
    int got = SSL_peek(c->ssl, &byte, 1);
    bool alive = got <= 0 && SSL_get_error(c->ssl, got) == SSL_ERROR_WANT_READ;
    fcntl(c->fd, F_SETFL, flags);
    return !alive;
}

static bool one_request(struct conn *c, const struct pacer *p)
{
    bool closing = false;
    if (c->ssl && conn_is_over(c))
        conn_close(c);
    bool ok = (c->ssl || conn_open(c, p->nth, false, false)) && h1_send(c, "keep-alive") &&
              h1_receive(c, &closing) == ANSWERED;
    if (!ok || closing)
        conn_close(c);
    return ok;
}

static void *pace(void *arg)
{
    struct pacer *p = arg;
    struct conn c = {.fd = -1};
    for (uint64_t due = p->first_ns; due < p->end_ns; due += p->step_ns) {
        struct timespec at = {(time_t)(due / 1000000000), (long)(due % 1000000000)};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
        if (one_request(&c, p))
            p->latency[p->done++] = now_ns() - due;
        else
            p->lost++;
    }
    conn_close(&c);
    return NULL;
}

static int by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static int rate(double seconds, unsigned per_second, unsigned threads)
{
    struct pacer *all = calloc(threads, sizeof(*all));
    ASSERT(all);
    uint64_t start = now_ns() + 100000000, step = 1000000000 / per_second;
    size_t each = (size_t)(seconds * per_second / threads) + 2, n = 0, lost = 0;
    for (unsigned i = 0; i < threads; i++) {
        all[i] = (struct pacer){.nth = i,
                                .first_ns = start + i * step,
                                .step_ns = step * threads,
                                .end_ns = start + (uint64_t)(seconds * 1e9),
                                .latency = calloc(each, sizeof(uint64_t))};
        ASSERT(all[i].latency && pthread_create(&all[i].thread, NULL, pace, &all[i]) == 0);
    }
    uint64_t *merged = calloc(each * threads, sizeof(*merged));
    ASSERT(merged);
    for (unsigned i = 0; i < threads; i++) {
        pthread_join(all[i].thread, NULL);
        memcpy(merged + n, all[i].latency, all[i].done * sizeof(*merged));
        n += all[i].done;
        lost += all[i].lost;
    }
    qsort(merged, n, sizeof(*merged), by_size);
    printf("{\"done\": %zu, \"lost\": %zu, \"p50_us\": %.1f, \"p99_us\": %.1f}\n", n, lost,
           n ? (double)merged[n / 2] / 1e3 : 0, n ? (double)merged[n * 99 / 100] / 1e3 : 0);
    return 0;
}

/* ---- the command line ---- */

int main(int argc, char **argv)
{
    if (argc < 6) {
        fputs("usage: bench_client handshakes|idle|rate PORT PATH …\n", stderr);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    bench.port = (uint16_t)number(argv[2]);
    bench.path = argv[3];
    bench.tls = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_ciphersuites(bench.tls, "TLS_AES_128_GCM_SHA256");
    SSL_CTX_set_min_proto_version(bench.tls, TLS1_3_VERSION);
    SSL_CTX_set_mode(bench.tls, SSL_MODE_AUTO_RETRY);
    if (strcmp(argv[1], "handshakes") == 0) {
        /* One connection at a time: the session needs no lock. */
        SSL_CTX_set_session_cache_mode(bench.tls, SSL_SESS_CACHE_CLIENT);
        SSL_CTX_sess_set_new_cb(bench.tls, on_session);
        return handshakes((double)number(argv[4]), strcmp(argv[5], "resumed") == 0);
    }
    SSL_CTX_set_session_cache_mode(bench.tls, SSL_SESS_CACHE_OFF);
    if (strcmp(argv[1], "idle") == 0)
        return idle((unsigned)number(argv[4]), strcmp(argv[5], "h2") == 0);
    if (argc < 7)
        return 2;
    return rate((double)number(argv[4]), (unsigned)number(argv[5]), (unsigned)number(argv[6]));
}
