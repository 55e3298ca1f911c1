/*
 * io_peer.h - the other end of test_io.c's connections: a child process with blocking calls and
 * OpenSSL's own socket BIO, which checks what it sees and tells by its exit status.
 */
#ifndef HG_TEST_IO_PEER_H
#define HG_TEST_IO_PEER_H

#include "base/base.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

enum wire { PLAIN, TLS_12, TLS_13, WIRES };

static uint8_t pattern(size_t i)
{
    return (uint8_t)(i * 31 + (i >> 9));
}

struct peer {
    int fd;
    SSL *ssl;
};

/* In the child: says what is wrong and ends. */
#define MUST(x)                                                   \
    do {                                                          \
        if (!(x)) {                                               \
            fprintf(stderr, "peer, line %d: %s\n", __LINE__, #x); \
            _exit(1);                                             \
        }                                                         \
    } while (0)

static void peer_tls(struct peer *p, enum wire wire, const char *sni)
{
    if (wire == PLAIN)
        return;
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    int version = wire == TLS_12 ? TLS1_2_VERSION : TLS1_3_VERSION;
    MUST(SSL_CTX_set_min_proto_version(ctx, version) &&
         SSL_CTX_set_max_proto_version(ctx, version));
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    p->ssl = SSL_new(ctx);
    MUST(SSL_set_fd(p->ssl, p->fd) == 1 && SSL_set_tlsext_host_name(p->ssl, sni) == 1);
}

/* > 0 bytes, 0 the end in order, -1 not now, -2 broken. */
static ssize_t peer_read(struct peer *p, void *to, size_t n)
{
    if (!p->ssl) {
        ssize_t got = read(p->fd, to, n);
        return got >= 0 ? got : errno == EAGAIN ? -1 : -2;
    }
    ERR_clear_error();
    int got = SSL_read(p->ssl, to, (int)n);
    if (got > 0)
        return got;
    switch (SSL_get_error(p->ssl, got)) {
    case SSL_ERROR_ZERO_RETURN:
        return 0;
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        return -1;
    default:
        return -2;
    }
}

static ssize_t peer_write(struct peer *p, const void *from, size_t n)
{
    if (!p->ssl) {
        ssize_t put = send(p->fd, from, n, MSG_NOSIGNAL);
        return put >= 0 ? put : errno == EAGAIN ? -1 : -2;
    }
    ERR_clear_error();
    int put = SSL_write(p->ssl, from, (int)n);
    if (put > 0)
        return put;
    int code = SSL_get_error(p->ssl, put);
    return code == SSL_ERROR_WANT_READ || code == SSL_ERROR_WANT_WRITE ? -1 : -2;
}

static void peer_write_all(struct peer *p, const char *text)
{
    size_t n = strlen(text);
    MUST(peer_write(p, text, n) == (ssize_t)n);
}

static void peer_expect(struct peer *p, const char *text)
{
    char c;
    for (; *text; text++)
        MUST(peer_read(p, &c, 1) == 1 && c == *text);
}

/* The peer's half is over; it still reads. */
static void peer_end(struct peer *p)
{
    if (p->ssl)
        MUST(SSL_shutdown(p->ssl) >= 0);
    else
        MUST(shutdown(p->fd, SHUT_WR) == 0);
}

/* The end in order, and behind close_notify the FIN. */
static void peer_expect_end(struct peer *p)
{
    char c;
    MUST(peer_read(p, &c, 1) == 0);
    MUST(read(p->fd, &c, 1) == 0);
}

/* Sends and checks `up` and `down` bytes of the pattern at once, reading at most `piece` at a time.
 */
static void peer_exchange(struct peer *p, size_t up, size_t down, size_t piece)
{
    static uint8_t out[65536], in[65536];
    size_t sent = 0, got = 0;
    MUST(fcntl(p->fd, F_SETFL, O_NONBLOCK) == 0);
    while (sent < up || got < down) {
        bool idle = true;
        if (sent < up) {
            size_t n = MIN(up - sent, sizeof out);
            for (size_t i = 0; i < n; i++)
                out[i] = pattern(sent + i);
            ssize_t put = peer_write(p, out, n);
            MUST(put != -2 && put != 0);
            sent += put > 0 ? (size_t)put : 0;
            idle = put < 0;
        }
        if (got < down) {
            ssize_t n = peer_read(p, in, MIN(piece, sizeof in));
            MUST(n != -2 && n != 0);
            for (ssize_t i = 0; i < n; i++)
                MUST(in[i] == pattern(got + (size_t)i));
            got += n > 0 ? (size_t)n : 0;
            idle = idle && n < 0;
        }
        struct pollfd f = {p->fd, (short)(POLLIN | (sent < up ? POLLOUT : 0)), 0};
        if (idle)
            MUST(poll(&f, 1, 60000) == 1);
    }
    MUST(fcntl(p->fd, F_SETFL, 0) == 0);
}

#endif
