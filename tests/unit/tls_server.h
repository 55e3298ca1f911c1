/*
 * tls_server.h - a small HTTPS (or HTTP) server in a child process, for clients under test: it
 * reads whole requests, one connection after the other, and a function of the test writes the
 * answer, as raw as it likes. Uses nothing of headgate's own HTTP code.
 */
#ifndef HG_TEST_TLS_SERVER_H
#define HG_TEST_TLS_SERVER_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <openssl/ssl.h>

#include "tests/unit/certs.h"

struct ts_request {
    unsigned n, connection; /* counted from 1 */
    char method[16], path[512];
    struct str head, body;
};

struct tls_server {
    pid_t pid;
    int port;
    struct str root; /* whom it chains to */
};

/* What the answer is written to; the memory is large enough for every test. */
typedef void ts_handler(const struct tls_server *s, const struct ts_request *r, struct out *o);

/* Closes the connection behind the answer: another one may be waiting. */
UNUSED static void ts_answer(struct out *o, const char *status, const char *fields, struct str body)
{
    out_fmt(o, "HTTP/1.1 %s\r\nConnection: close\r\nContent-Length: %zu\r\n%s\r\n", status, body.n,
            fields);
    out_str(o, body);
}

UNUSED static int ts_read(SSL *ssl, int fd, char *p, int n)
{
    return ssl ? SSL_read(ssl, p, n) : (int)read(fd, p, (size_t)n);
}

/* False: there is no further one. */
UNUSED static bool ts_request(SSL *ssl, int fd, struct ts_request *r, char *mem, size_t cap)
{
    size_t n = 0, head = 0, body = 0;
    while (!head || n < head + body) {
        int got = ts_read(ssl, fd, mem + n, (int)(cap - 1 - n));
        if (got <= 0)
            return false;
        n += (size_t)got;
        mem[n] = '\0';
        const char *end = head ? NULL : strstr(mem, "\r\n\r\n");
        if (end) {
            head = (size_t)(end - mem) + 4;
            const char *length = strcasestr(mem, "\r\ncontent-length:");
            if (length && length < end)
                body = strtoul(length + 17, NULL, 10);
        }
    }
    r->head = (struct str){mem, head};
    r->body = (struct str){mem + head, body};
    return sscanf(mem, "%15s %511s", r->method, r->path) == 2;
}

UNUSED static void ts_connection(const struct tls_server *s, SSL *ssl, int fd, ts_handler *handler,
                                 unsigned connection)
{
    static char in[1 << 18], out[1 << 20];
    static unsigned requests;
    struct ts_request r = {.connection = connection};
    while (ts_request(ssl, fd, &r, in, sizeof in)) {
        struct out o = out_on(out, sizeof out);
        r.n = ++requests;
        handler(s, &r, &o);
        ASSERT(!o.over);
        if (!o.n)
            return;
        if (ssl)
            (void)SSL_write(ssl, o.p, (int)o.n);
        else
            (void)!write(fd, o.p, o.n);
        if (strcasestr(o.p, "connection: close"))
            return;
    }
}

UNUSED static void ts_run(const struct tls_server *s, int listener, const struct test_cert *c,
                          ts_handler *handler)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    if (c)
        ASSERT(SSL_CTX_use_certificate(ctx, c->x) == 1 && SSL_CTX_use_PrivateKey(ctx, c->key) == 1);
    for (unsigned n = 1;; n++) {
        int fd = accept(listener, NULL, NULL);
        ASSERT(fd >= 0);
        SSL *ssl = c ? SSL_new(ctx) : NULL;
        if (ssl)
            SSL_set_fd(ssl, fd);
        if (!ssl || SSL_accept(ssl) == 1)
            ts_connection(s, ssl, fd, handler, n);
        if (ssl)
            SSL_shutdown(ssl);
        SSL_free(ssl);
        /* What it still sends is read, so that the answer is not lost to a reset. */
        char rest[4096];
        shutdown(fd, SHUT_WR);
        while (read(fd, rest, sizeof rest) > 0)
            ;
        close(fd);
    }
}

/* san NULL: plain HTTP. */
UNUSED static struct tls_server ts_start(struct arena *a, const char *san, ts_handler *handler)
{
    struct tls_server s = {0};
    struct test_cert c = {0};
    if (san)
        c = test_cert_make(a, (struct test_cert_how){.san = san, .ca = true});
    s.root = c.pem;
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof in;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ASSERT(bind(fd, (struct sockaddr *)&in, n) == 0 && listen(fd, 128) == 0 &&
           getsockname(fd, (struct sockaddr *)&in, &n) == 0);
    s.port = ntohs(in.sin_port);
    s.pid = fork();
    if (s.pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        signal(SIGPIPE, SIG_IGN);
        ts_run(&s, fd, san ? &c : NULL, handler);
    }
    close(fd);
    if (san)
        test_cert_free(&c);
    return s;
}

UNUSED static void ts_stop(struct tls_server *s)
{
    kill(s->pid, SIGKILL);
    waitpid(s->pid, NULL, 0);
}

#endif
