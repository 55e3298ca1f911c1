/*
 * test_io.c - one connection, plain and over TLS, against a real peer: a child process with
 * blocking calls and OpenSSL's own socket BIO. Slow readers, half-closes, cut-off records, big
 * transfers both ways, pausing. Nothing waits for time: the child's end and the io's own events end
 * each test.
 */
#include "base/base.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include "base/io.h"
#include "proxy/tls.h"
#include "tests/unit/certs.h"
#include "tests/unit/io_peer.h"

#define BIG       ((size_t)10 * 1024 * 1024)
#define QUEUE_MAX (256 * 1024)

static const char *const wire_names[] = {"plain", "TLS 1.2", "TLS 1.3"};

static struct arena *arena;
static struct tls_names *names;
static struct test_cert cert;

/* ---- the side under test ---- */

enum act { ECHO, DOWNLOAD, AFTER_EOF, SINK };

struct end {
    struct io io;
    struct tls_conn conn;
    enum act act;
    size_t in, to_send, sent, most_queued;
    bool open, eof, done, close_at_read;
    const char *err;
    struct event *peer_says; /* a byte of the child, outside of the connection */
    unsigned turns;
    size_t in_at_pause;
};
static struct end end;

static void on_open(struct io *io)
{
    struct end *e = container_of(io, struct end, io);
    assert_false(e->open);
    e->open = true;
    if (io->ssl)
        tls_conn_established(&e->conn, io->ssl);
}

static void queue_seen(struct end *e)
{
    e->most_queued = MAX(e->most_queued, io_queued(&e->io));
}

static void on_read(struct io *io, struct slice s)
{
    struct end *e = container_of(io, struct end, io);
    assert_true(s.n > 0 && s.n <= IO_READ_MAX);
    for (size_t i = 0; e->act != ECHO && i < s.n; i++)
        assert_int_equal(s.p[i], pattern(e->in + i));
    e->in += s.n;
    if (e->close_at_read) {
        io_close(io);
        loop_stop();
        return;
    }
    queue_seen(e);
    if (e->act != ECHO)
        return;
    /* Odd pieces and whole slices both. */
    if (s.n % 3)
        io_write(io, s.p, s.n);
    else
        io_write_slice(io, s);
    queue_seen(e);
    if (io_queued(io) > QUEUE_MAX) {
        io_pause(io, IO_PAUSE_PEER);
        io_want_drain(io);
    }
}

/* Small writes, slices of every size, as a handler would. */
static void send_more(struct end *e)
{
    static const size_t sizes[] = {1, 100, 4095, 4096, 4097, 16384, 40000, 65536};
    static unsigned step;
    size_t before = e->sent;
    while (e->sent < e->to_send && e->sent - before < IO_TURN_MAX) {
        size_t size = sizes[step++ % ARRAY_LEN(sizes)], n = MIN(size, e->to_send - e->sent);
        struct slab *slab = slab_new(SLAB_LARGE);
        for (size_t i = 0; i < n; i++)
            slab->data[i] = pattern(e->sent + i);
        if (step % 2)
            io_write_slice(&e->io, (struct slice){slab, slab->data, n});
        else
            io_write(&e->io, slab->data, n);
        slab_unref(slab);
        e->sent += n;
    }
    queue_seen(e);
    io_want_drain(&e->io);
}

static void on_eof(struct io *io)
{
    struct end *e = container_of(io, struct end, io);
    assert_false(e->eof);
    e->eof = true;
    if (e->act == AFTER_EOF) {
        e->act = DOWNLOAD;
        send_more(e);
        return;
    }
    io_shutdown(io);
    io_want_drain(io);
}

static void on_drain(struct io *io)
{
    struct end *e = container_of(io, struct end, io);
    assert_int_equal(io_queued(io), 0);
    io_resume(io, IO_PAUSE_PEER);
    if (e->act == DOWNLOAD && e->sent < e->to_send) {
        send_more(e);
    } else if (e->act == DOWNLOAD && !io->shut) {
        io_shutdown(io);
        io_want_drain(io);
    } else if (io->shut) {
        e->done = true;
        loop_stop();
    }
}

static void on_error(struct io *io, const char *err)
{
    struct end *e = container_of(io, struct end, io);
    assert_non_null(err);
    assert_null(e->err); /* once */
    e->err = err;
    io_close(io);
    loop_stop();
}

static const struct io_ops ops = {on_open, on_read, on_eof, on_drain, on_error};

static void stream_pair(int fds[2])
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
}

static pid_t peer_start(int fds[2], enum wire wire, void (*run)(struct peer *), const char *sni)
{
    stream_pair(fds);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        close(fds[0]);
        alarm(120); /* a guard for a machine that hangs, not a limit for a slow one */
        struct peer p = {.fd = fds[1]};
        peer_tls(&p, wire, sni);
        if (p.ssl && strcmp(sni, "a.test") == 0)
            MUST(SSL_connect(p.ssl) == 1);
        run(&p);
        _exit(0);
    }
    close(fds[1]);
    return pid;
}

static void end_init(int fd, enum wire wire)
{
    io_init(&end.io, fd, &ops);
    end.conn = (struct tls_conn){.names = names};
    if (wire != PLAIN)
        io_start_tls(&end.io, tls_server_new(&end.conn));
}

static void end_fini(void)
{
    io_close(&end.io);
    io_close(&end.io); /* twice is fine */
    tls_conn_fini(&end.conn);
    memset(&end, 0, sizeof end);
}

static void peer_done(pid_t pid, enum wire wire)
{
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        fail_msg("%s: the peer is not content (status %x)", wire_names[wire], (unsigned)status);
}

/* The whole of most tests: the peer's part runs in a child, ours in the loop. */
static void run(enum wire wire, void (*peer)(struct peer *))
{
    int fds[2];
    pid_t pid = peer_start(fds, wire, peer, "a.test");
    end_init(fds[0], wire);
    loop_run();
    if (!end.err) {
        assert_true(end.done || end.close_at_read);
        assert_int_equal(end.open, wire != PLAIN || end.open);
    }
    io_close(&end.io);
    peer_done(pid, wire);
}

/* ---- tests ---- */

static void peer_hello(struct peer *p)
{
    peer_write_all(p, "hello");
    peer_expect(p, "hello");
    peer_write_all(p, "you");
    peer_expect(p, "you");
    peer_end(p);
    peer_expect_end(p);
}

static void echo(void **state UNUSED)
{
    for (enum wire w = PLAIN; w < WIRES; w++) {
        run(w, peer_hello);
        assert_null(end.err);
        assert_true(end.eof);
        assert_int_equal(end.in, 8);
        assert_true(end.io.bytes_in >= 8 && end.io.bytes_out >= 8);
        if (w != PLAIN)
            assert_int_equal(end.conn.version, w == TLS_12 ? TLS1_2_VERSION : TLS1_3_VERSION);
        end_fini();
    }
}

static void peer_both_ways(struct peer *p)
{
    peer_exchange(p, BIG, BIG, 65536);
    peer_end(p);
    peer_expect_end(p);
}

static void big_both_ways(void **state UNUSED)
{
    for (enum wire w = PLAIN; w < WIRES; w++) {
        run(w, peer_both_ways);
        assert_null(end.err);
        assert_int_equal(end.in, BIG);
        end_fini();
    }
}

/* Far less is read at a time than is sent: the queue stays bounded, nothing is lost. */
static void peer_slow(struct peer *p)
{
    int small = 4096;
    setsockopt(p->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    peer_exchange(p, BIG / 4, BIG / 4, 700);
    peer_end(p);
    peer_expect_end(p);
}

static void slow_reader(void **state UNUSED)
{
    for (enum wire w = PLAIN; w < WIRES; w++) {
        run(w, peer_slow);
        assert_null(end.err);
        assert_int_equal(end.in, BIG / 4);
        /* One read more than the bound, and what TLS adds to its records. */
        assert_true(end.most_queued <= (QUEUE_MAX + 2 * IO_READ_MAX) * 21 / 20);
        end_fini();
    }
}

static void peer_download(struct peer *p)
{
    peer_exchange(p, 0, BIG, 65536);
    peer_expect_end(p);
}

/* Paced by on_drain; at most a turn's worth is queued at a time. */
static void download(void **state UNUSED)
{
    for (enum wire w = PLAIN; w < WIRES; w++) {
        int fds[2];
        pid_t pid = peer_start(fds, w, peer_download, "a.test");
        end.act = DOWNLOAD;
        end.to_send = BIG;
        end_init(fds[0], w);
        if (w == PLAIN)
            send_more(&end);
        else
            io_want_drain(&end.io); /* comes when the handshake is done */
        loop_run();
        assert_null(end.err);
        assert_true(end.done);
        assert_int_equal(end.sent, BIG);
        assert_true(end.most_queued <= (size_t)(IO_TURN_MAX + 65536) * 21 / 20);
        io_close(&end.io);
        peer_done(pid, w);
        end_fini();
    }
}

static void peer_upload(struct peer *p)
{
    peer_exchange(p, BIG, 0, 65536);
    peer_end(p);
    peer_expect_end(p);
}

static void upload(void **state UNUSED)
{
    for (enum wire w = PLAIN; w < WIRES; w++) {
        end.act = SINK;
        run(w, peer_upload);
        assert_null(end.err);
        assert_int_equal(end.in, BIG);
        end_fini();
    }
}

/* The peer has said all: what it asked for still reaches it. */
static void peer_half_close(struct peer *p)
{
    peer_exchange(p, 1000, 0, 65536);
    peer_end(p);
    peer_exchange(p, 0, BIG / 4, 65536);
    peer_expect_end(p);
}

static void half_close(void **state UNUSED)
{
    for (enum wire w = PLAIN; w < WIRES; w++) {
        end.act = AFTER_EOF;
        end.to_send = BIG / 4;
        run(w, peer_half_close);
        assert_null(end.err);
        assert_true(end.eof);
        assert_int_equal(end.in, 1000);
        end_fini();
    }
}

/* Hangs up without close_notify: over TLS that may be somebody else's doing. */
static void peer_hangs_up(struct peer *p)
{
    peer_write_all(p, "hello");
    peer_expect(p, "hello");
    MUST(shutdown(p->fd, SHUT_WR) == 0);
    char c;
    while (read(p->fd, &c, 1) > 0)
        ;
}

static void truncated(void **state UNUSED)
{
    for (enum wire w = PLAIN; w < WIRES; w++) {
        run(w, peer_hangs_up);
        assert_int_equal(end.in, 5);
        assert_ptr_equal(end.err, w == PLAIN ? NULL : err_truncated);
        assert_int_equal(end.eof, w == PLAIN);
        end_fini();
    }
}

/* In the middle of a record. */
static void peer_cuts(struct peer *p)
{
    peer_write_all(p, "hello");
    peer_expect(p, "hello");
    MUST(send(p->fd, "\x17\x03\x03\x01\x00half", 9, MSG_NOSIGNAL) == 9);
    MUST(shutdown(p->fd, SHUT_WR) == 0);
    char c;
    while (read(p->fd, &c, 1) > 0)
        ;
}

/* A record that nobody with the keys has made, right behind a good one. */
static void peer_forges(struct peer *p)
{
    peer_write_all(p, "hello");
    char record[5 + 64] = "\x17\x03\x03\x00\x40";
    MUST(send(p->fd, record, sizeof record, MSG_NOSIGNAL) == sizeof record);
    char c;
    while (read(p->fd, &c, 1) > 0)
        ;
}

static void broken_records(void **state UNUSED)
{
    for (enum wire w = TLS_12; w < WIRES; w++) {
        run(w, peer_cuts);
        assert_int_equal(end.in, 5);
        assert_ptr_equal(end.err, err_truncated);
        end_fini();
        run(w, peer_forges);
        assert_int_equal(end.in, 5); /* what came before it counts */
        assert_non_null(end.err);
        assert_ptr_not_equal(end.err, err_truncated);
        end_fini();
    }
}

/* A handshake that fails: the client learns why by an alert. */
static void peer_unknown(struct peer *p)
{
    MUST(SSL_connect(p->ssl) != 1);
    MUST(ERR_GET_REASON(ERR_peek_last_error()) == SSL_R_TLSV1_UNRECOGNIZED_NAME);
}

static void peer_silent(struct peer *p)
{
    MUST(shutdown(p->fd, SHUT_WR) == 0);
}

static void peer_no_tls(struct peer *p)
{
    MUST(send(p->fd, "GET / HTTP/1.1\r\n\r\n", 18, MSG_NOSIGNAL) == 18);
    char c;
    while (read(p->fd, &c, 1) > 0)
        ;
}

static void failed_handshakes(void **state UNUSED)
{
    void (*const peers[])(struct peer *) = {peer_unknown, peer_silent, peer_no_tls};
    for (size_t i = 0; i < ARRAY_LEN(peers); i++)
        for (enum wire w = TLS_12; w < WIRES; w++) {
            int fds[2];
            pid_t pid = peer_start(fds, w, peers[i], "unknown.test");
            end_init(fds[0], w);
            loop_run();
            assert_non_null(end.err);
            assert_false(end.open);
            peer_done(pid, w);
            end_fini();
        }
}

static void peer_key_update(struct peer *p)
{
    for (int i = 0; i < 3; i++) {
        MUST(SSL_key_update(p->ssl, SSL_KEY_UPDATE_REQUESTED) == 1);
        peer_write_all(p, "hello");
        peer_expect(p, "hello");
    }
    peer_end(p);
    peer_expect_end(p);
}

static void key_update(void **state UNUSED)
{
    run(TLS_13, peer_key_update);
    assert_null(end.err);
    assert_int_equal(end.in, 15);
    end_fini();
}

/* The owner closes in the middle of its own callback. */
static void peer_talks(struct peer *p)
{
    peer_write_all(p, "hello");
    char c;
    while (read(p->fd, &c, 1) > 0)
        ;
}

/* Each update is answered by TLS itself; this peer never reads. Ends when it can send no more. */
static void peer_floods(struct peer *p)
{
    struct pollfd out = {.fd = p->fd, .events = POLLOUT};
    MUST(fcntl(p->fd, F_SETFL, O_NONBLOCK) == 0);
    for (size_t i = 0; i < 200000; i++) {
        const uint8_t byte = pattern(i);
        MUST(SSL_key_update(p->ssl, SSL_KEY_UPDATE_REQUESTED) == 1);
        while (peer_write(p, &byte, 1) < 0)
            if (poll(&out, 1, 500) == 0)
                return;
    }
}

static void key_update_flood(void **state UNUSED)
{
    int fds[2];
    pid_t pid = peer_start(fds, TLS_13, peer_floods, "a.test");
    end_init(fds[0], TLS_13);
    end.act = SINK;
    loop_run();
    assert_true(end.in > 0 && end.most_queued < (2u << 20));
    peer_done(pid, TLS_13);
    end_fini();
}

static void close_inside(void **state UNUSED)
{
    for (enum wire w = PLAIN; w < WIRES; w++) {
        end.close_at_read = true;
        run(w, peer_talks);
        assert_int_equal(end.in, 5);
        assert_int_equal(end.io.state, IO_CLOSED);
        end_fini();
    }
}

/* ---- pausing: two reasons, nothing is delivered until both are gone ---- */

static int said[2]; /* the child's other line */

static void peer_paused(struct peer *p)
{
    peer_write_all(p, "one");
    peer_expect(p, "one");
    peer_write_all(p, "two"); /* ours is paused by now */
    MUST(write(said[1], "x", 1) == 1);
    peer_expect(p, "two");
    peer_end(p);
    peer_expect_end(p);
}

static void on_peer_says(evutil_socket_t fd, short what UNUSED, void *arg UNUSED)
{
    char c;
    /* "two" lies in the socket; some turns go by, and it stays there. */
    switch (end.turns++) {
    case 0:
        assert_int_equal(read(fd, &c, 1), 1);
        break;
    case 5:
        assert_int_equal(end.in, end.in_at_pause);
        io_resume(&end.io, IO_PAUSE_BUDGET);
        break;
    case 10:
        assert_int_equal(end.in, end.in_at_pause);
        io_resume(&end.io, IO_PAUSE_HOLD);
        return;
    default:
        break;
    }
    event_active(end.peer_says, EV_READ, 0);
}

static void on_read_pausing(struct io *io, struct slice s)
{
    on_read(io, s);
    if (end.in_at_pause)
        return;
    io_pause(io, IO_PAUSE_HOLD);
    io_pause(io, IO_PAUSE_BUDGET);
    end.in_at_pause = end.in;
}

static void pausing(void **state UNUSED)
{
    static const struct io_ops pausing_ops = {on_open, on_read_pausing, on_eof, on_drain, on_error};
    for (enum wire w = PLAIN; w < WIRES; w++) {
        int fds[2];
        assert_int_equal(pipe(said), 0);
        pid_t pid = peer_start(fds, w, peer_paused, "a.test");
        end_init(fds[0], w);
        end.io.ops = &pausing_ops;
        end.peer_says = event_new(loop_base(), said[0], EV_READ, on_peer_says, NULL);
        event_add(end.peer_says, NULL);
        loop_run();
        assert_null(end.err);
        assert_int_equal(end.in, 6);
        assert_int_equal(end.turns, 11);
        event_free(end.peer_says);
        close(said[0]);
        close(said[1]);
        io_close(&end.io);
        peer_done(pid, w);
        end_fini();
    }
}

/* ---- connecting ---- */

static struct end near_end;
static bool done_inside;

static void near_open(struct io *io)
{
    near_end.open = true;
    io_write(io, "hello", 5);
}

static void near_read(struct io *io, struct slice s)
{
    near_end.in += s.n;
    if (near_end.in == 5)
        io_shutdown(io);
}

static void near_eof(struct io *io UNUSED)
{
    near_end.eof = true;
    loop_stop();
}

static void near_error(struct io *io, const char *err)
{
    assert_false(done_inside); /* never from inside io_connect */
    near_end.err = err;
    io_close(io);
    loop_stop();
}

static const struct io_ops near_ops = {near_open, near_read, near_eof, NULL, near_error};

static int listener_fd;

static void on_accept(evutil_socket_t fd, short what UNUSED, void *wire)
{
    int got = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    assert_true(got >= 0);
    end_init(got, *(enum wire *)wire);
}

/* Both ends are ours here, the far one over TLS too: an io connects, shakes hands, talks, ends. */
static void connecting(void **state UNUSED)
{
    for (enum wire w = PLAIN; w < WIRES; w++) {
        struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t len = sizeof sa;
        listener_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(listener_fd, (struct sockaddr *)&sa, len), 0);
        assert_int_equal(listen(listener_fd, 1), 0);
        assert_int_equal(getsockname(listener_fd, (struct sockaddr *)&sa, &len), 0);
        struct event *accepts = event_new(loop_base(), listener_fd, EV_READ, on_accept, &w);
        event_add(accepts, NULL);
        SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
        memset(&near_end, 0, sizeof near_end);
        done_inside = true;
        io_connect(&near_end.io, (struct sockaddr *)&sa, len, &near_ops);
        if (w != PLAIN) {
            SSL *ssl = SSL_new(ctx);
            SSL_set_max_proto_version(ssl, w == TLS_12 ? TLS1_2_VERSION : TLS1_3_VERSION);
            SSL_set_tlsext_host_name(ssl, "a.test");
            SSL_set_connect_state(ssl);
            io_start_tls(&near_end.io, ssl);
        }
        done_inside = false;
        while (!near_end.eof && !near_end.err) /* the far end's own end stops the loop too */
            loop_run();
        assert_null(near_end.err);
        assert_null(end.err);
        assert_int_equal(near_end.in, 5);
        assert_true(near_end.open && near_end.eof && end.eof);
        io_close(&near_end.io);
        end_fini();
        event_free(accepts);
        close(listener_fd);
        SSL_CTX_free(ctx);
    }
}

static void refused(void **state UNUSED)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof sa;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0); /* bound and not listening: refuses */
    assert_int_equal(bind(fd, (struct sockaddr *)&sa, len), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
    memset(&near_end, 0, sizeof near_end);
    done_inside = true;
    io_connect(&near_end.io, (struct sockaddr *)&sa, len, &near_ops);
    done_inside = false;
    loop_run();
    assert_ptr_equal(near_end.err, err_refused);
    close(fd);

    struct sockaddr_un un = {.sun_family = AF_UNIX, .sun_path = "/nonexistent/socket"};
    memset(&near_end, 0, sizeof near_end);
    done_inside = true;
    io_connect(&near_end.io, (struct sockaddr *)&un, sizeof un, &near_ops);
    done_inside = false;
    loop_run();
    assert_non_null(near_end.err);
    io_close(&near_end.io);
}

/* io_reset: the peer sees a reset, not an end. */
static void resetting(void **state UNUSED)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof sa;
    int l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0),
        c = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(l, (struct sockaddr *)&sa, len) | listen(l, 1), 0);
    assert_int_equal(getsockname(l, (struct sockaddr *)&sa, &len), 0);
    assert_int_equal(connect(c, (struct sockaddr *)&sa, len), 0);
    end_init(accept4(l, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), PLAIN);
    io_write(&end.io, "never sent", 10);
    io_reset(&end.io);
    char byte;
    assert_int_equal(recv(c, &byte, 1, 0), -1);
    assert_int_equal(errno, ECONNRESET);
    end_fini();
    close(c);
    /* And the other way round. */
    c = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(c, (struct sockaddr *)&sa, len), 0);
    end_init(accept4(l, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), PLAIN);
    struct linger hard = {1, 0};
    assert_int_equal(setsockopt(c, SOL_SOCKET, SO_LINGER, &hard, sizeof hard), 0);
    close(c);
    loop_run();
    assert_ptr_equal(end.err, err_reset);
    end_fini();
    close(l);
}

/* A loop of its own each: what a failed test leaves in one does not disturb the next. */
static int each_set_up(void **state UNUSED)
{
    memset(&end, 0, sizeof end);
    loop_init();
    return 0;
}

static int each_tear_down(void **state UNUSED)
{
    loop_fini();
    return 0;
}

#define IO_TEST(f) cmocka_unit_test_setup_teardown(f, each_set_up, each_tear_down)

static int set_up(void **state UNUSED)
{
    arena = arena_new(1 << 16);
    io_setup();
    cert = test_cert_make(arena, (struct test_cert_how){.san = "DNS:a.test"});
    struct conf_cert cc = {.cert_pem = cert.pem, .key_pem = cert.key_pem};
    struct conf_tls tls = {.min_version = TLS1_2_VERSION, .certs = &cc, .n_certs = 1};
    struct conf_site site = {.host = STR("a.test"), .tls = tls};
    struct conf c = {.tls = tls, .sites = &site, .n_sites = 1};
    const char *err = tls_setup(TLS1_2_VERSION);
    names = tls_names_new(&c, &err);
    return names ? 0 : 1;
}

static int tear_down(void **state UNUSED)
{
    tls_names_free(&names);
    test_cert_free(&cert);
    arena_free(&arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IO_TEST(echo),
        IO_TEST(big_both_ways),
        IO_TEST(slow_reader),
        IO_TEST(download),
        IO_TEST(upload),
        IO_TEST(half_close),
        IO_TEST(truncated),
        IO_TEST(broken_records),
        IO_TEST(failed_handshakes),
        IO_TEST(key_update),
        IO_TEST(close_inside),
        IO_TEST(pausing),
        IO_TEST(connecting),
        IO_TEST(refused),
        IO_TEST(resetting),
        IO_TEST(key_update_flood),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
