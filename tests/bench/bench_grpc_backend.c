/*
 * bench_grpc_backend.c - a gRPC server for tests/bench/run that costs next to nothing: it answers
 * every call, whatever its method, with one message of 1 KiB and grpc-status 0 in trailers, without
 * a content-length, as gRPC servers do. HTTP/2 without TLS; one thread, one argument: the port.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <nghttp2/nghttp2.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define MESSAGE   1024
#define READ_SIZE (64 * 1024)
#define STREAMS   1000

struct conn {
    nghttp2_session *session;
    int fd;
    const uint8_t *left; /* of what nghttp2 gave last, borrowed */
    size_t n_left;
};

static uint8_t answer[5 + MESSAGE];
static int epoll_fd;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

#define FIELD(n, v)                                                      \
    {                                                                    \
        (uint8_t *)(n), (uint8_t *)(v), sizeof(n) - 1, sizeof(v) - 1,    \
            NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE \
    }

static ssize_t on_answer(nghttp2_session *s, int32_t id, uint8_t *buf, size_t room, uint32_t *flags,
                         nghttp2_data_source *source, void *user)
{
    static const nghttp2_nv trailers[] = {FIELD("grpc-status", "0")};
    size_t at = (size_t)(uintptr_t)source->ptr, n = sizeof(answer) - at;
    (void)user;
    n = n < room ? n : room;
    memcpy(buf, answer + at, n);
    source->ptr = (void *)(uintptr_t)(at + n);
    if (at + n == sizeof(answer)) {
        *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
        if (nghttp2_submit_trailer(s, id, trailers, 1))
            return NGHTTP2_ERR_CALLBACK_FAILURE;
    }
    return (ssize_t)n;
}

static int on_frame(nghttp2_session *s, const nghttp2_frame *f, void *user)
{
    static const nghttp2_nv head[] = {FIELD(":status", "200"),
                                      FIELD("content-type", "application/grpc")};
    nghttp2_data_provider body = {.read_callback = on_answer};
    (void)user;
    if ((f->hd.type == NGHTTP2_DATA || f->hd.type == NGHTTP2_HEADERS) &&
        (f->hd.flags & NGHTTP2_FLAG_END_STREAM))
        return nghttp2_submit_response(s, f->hd.stream_id, head, 2, &body);
    return 0;
}

static void conn_close(struct conn *c)
{
    nghttp2_session_del(c->session);
    close(c->fd);
    free(c);
}

/* False: the connection is over. */
static int conn_write(struct conn *c)
{
    static uint8_t out[READ_SIZE];
    for (;;) {
        size_t n = 0;
        if (!c->n_left) {
            ssize_t got = nghttp2_session_mem_send(c->session, &c->left);
            if (got < 0)
                return 0;
            c->n_left = (size_t)got;
        }
        /* One write for as many frames as fit. */
        while (c->n_left && n + c->n_left <= sizeof(out)) {
            memcpy(out + n, c->left, c->n_left);
            n += c->n_left;
            ssize_t got = nghttp2_session_mem_send(c->session, &c->left);
            if (got < 0)
                return 0;
            c->n_left = (size_t)got;
        }
        if (!n)
            return nghttp2_session_want_read(c->session) || nghttp2_session_want_write(c->session);
        for (size_t at = 0; at < n;) {
            ssize_t sent = send(c->fd, out + at, n - at, MSG_NOSIGNAL);
            if (sent < 0 && errno != EINTR)
                return 0;
            at += sent > 0 ? (size_t)sent : 0;
        }
    }
}

static int conn_read(struct conn *c)
{
    static uint8_t in[READ_SIZE];
    ssize_t n = recv(c->fd, in, sizeof(in), MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 1;
    return n > 0 && nghttp2_session_mem_recv(c->session, in, (size_t)n) == n;
}

static void conn_open(int listener)
{
    static nghttp2_session_callbacks *callbacks;
    const nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, STREAMS}};
    struct conn *c = calloc(1, sizeof(*c));
    int on = 1;
    if (!callbacks) {
        nghttp2_session_callbacks_new(&callbacks);
        nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    }
    if (!c || (c->fd = accept(listener, NULL, NULL)) < 0)
        die("accept");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (nghttp2_session_server_new(&c->session, callbacks, c) ||
        nghttp2_submit_settings(c->session, NGHTTP2_FLAG_NONE, settings, 1))
        die("nghttp2");
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &ev))
        die("epoll");
    if (!conn_write(c))
        conn_close(c);
}

int main(int argc, char **argv)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                             .sin_port = htons((uint16_t)atoi(argc > 1 ? argv[1] : "0"))};
    int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    struct epoll_event ev = {.events = EPOLLIN};
    answer[3] = MESSAGE >> 8;
    memset(answer + 5, 'x', MESSAGE);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(listener, (struct sockaddr *)&at, sizeof(at)) || listen(listener, 1024))
        die("listen");
    epoll_fd = epoll_create1(0);
    if (epoll_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &ev))
        die("epoll");
    for (;;) {
        struct epoll_event got[64];
        int n = epoll_wait(epoll_fd, got, 64, -1);
        for (int i = 0; i < n; i++) {
            struct conn *c = got[i].data.ptr;
            if (!c)
                conn_open(listener);
            else if (!conn_read(c) || !conn_write(c))
                conn_close(c);
        }
    }
}
