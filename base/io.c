/*
 * io.c - one connected socket, plain or TLS. What happens where: reads come once a wake-up into
 * buffers of the process; writes are queued and leave by one writev at the turn's end; TLS sees the
 * socket only through a BIO whose two ends are those buffers and that queue.
 */
#include "base/io.h"

#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#define CIPHER_READ    IO_FEED_MAX /* with what SSL still holds of a record it fits one read slab */
#define RECORD_FULL    (16 * 1024)
#define RECORD_SMALL   1400 /* one segment: the first bytes of a burst are usable at once */
#define BURST_SMALL    (64 * 1024)
#define BURST_IDLE_MS  1000
#define SLICE_IN_PLACE 4096
#define IOV_MAX_TURN   64
/*
 * With so much queued nothing more is read, whatever the owner says: TLS answers key updates by
 * itself, and who sends them without end and never reads would make the queue grow as long.
 */
#define OUT_MAX ((size_t)1024 * 1024)

static BIO_METHOD *bio_method;
/* Where plaintext is read to; replaced when somebody kept it. Small reads do not pin large slabs.
 */
static struct slab *read_slab, *read_slab_small;

/* Ciphertext of the wake-up that is being worked on; the BIO's reading end. */
static char cipher_buf[CIPHER_READ];
static struct str cipher_in;
static const struct io *cipher_of; /* whose they are */

static void io_fail(struct io *io, const char *err);
static void io_want_flush(struct io *io);
static void gather_add(struct io *io, const char *p, size_t n);

/* ---- the BIO ---- */

static int bio_read(BIO *b, char *to, size_t max, size_t *got)
{
    *got = cipher_of == BIO_get_data(b) ? MIN(max, cipher_in.n) : 0;
    BIO_clear_retry_flags(b);
    if (!*got) {
        BIO_set_retry_read(b);
        return 0;
    }
    memcpy(to, cipher_in.p, *got);
    cipher_in = str_sub(cipher_in, *got, cipher_in.n);
    return 1;
}

static int bio_write(BIO *b, const char *p, size_t n, size_t *written)
{
    struct io *io = BIO_get_data(b);
    sliceq_copy(&io->out, p, n);
    *written = n;
    return 1;
}

static long bio_ctrl(BIO *b, int cmd, long num, void *ptr)
{
    (void)b, (void)num, (void)ptr;
    return cmd == BIO_CTRL_FLUSH ? 1 : 0;
}

static struct slab *read_slab_new(size_t cap)
{
    struct slab *s = slab_new(cap);
    s->used = s->cap; /* nobody appends to it */
    return s;
}

void io_setup(void)
{
    if (bio_method)
        return;
    bio_method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "headgate io");
    ASSERT(bio_method);
    BIO_meth_set_read_ex(bio_method, bio_read);
    BIO_meth_set_write_ex(bio_method, bio_write);
    BIO_meth_set_ctrl(bio_method, bio_ctrl);
    read_slab = read_slab_new(SLAB_LARGE);
    read_slab_small = read_slab_new(SLAB_SMALL);
}

/* ---- reading ---- */

static struct slab *read_buffer(size_t max)
{
    struct slab **s = max && max <= SLAB_SMALL ? &read_slab_small : &read_slab;
    if ((*s)->refs > 1) {
        size_t cap = (*s)->cap;
        slab_unref(*s);
        *s = read_slab_new(cap);
    }
    return *s;
}

static void read_stop(struct io *io)
{
    if (io->reading)
        event_del(&io->ev_read);
    io->reading = false;
}

static void read_start(struct io *io)
{
    if (io->reading || io->paused || io->eof_seen || io->state < IO_HANDSHAKE)
        return;
    event_add(&io->ev_read, NULL);
    io->reading = true;
}

static void read_eof(struct io *io)
{
    io->eof_seen = true;
    read_stop(io);
    /* A TLS client that just hangs up may have been cut off by somebody else (RFC 8446 6.1). */
    if (io->ssl && !(SSL_get_shutdown(io->ssl) & SSL_RECEIVED_SHUTDOWN))
        io_fail(io, io->state == IO_HANDSHAKE ? err_eof : err_truncated);
    else if (io->state == IO_OPEN)
        io->ops->on_eof(io);
    else
        io_fail(io, err_eof);
}

/* recv into p: > 0 bytes; 0 when there is nothing to do (the cause was handled). */
static size_t read_some(struct io *io, void *p, size_t max)
{
    ssize_t n = recv(io->fd, p, max, 0);
    if (n > 0) {
        io->bytes_in += (uint64_t)n;
        io->last_in = loop_now_ms();
        return (size_t)n;
    }
    if (n == 0)
        read_eof(io);
    else if (errno != EAGAIN && errno != EINTR)
        io_fail(io, err_of_errno(errno));
    return 0;
}

/* Plain: one read into a buffer of the process. */
static void plain_read(struct io *io)
{
    struct slab *s = read_buffer(io->read_max);
    size_t max = io->read_max ? MIN(io->read_max, s->cap) : s->cap;
    size_t n = read_some(io, s->data, max);
    if (n)
        io->ops->on_read(io, (struct slice){s, s->data, n});
}

static const char *tls_error(void)
{
    unsigned long code = ERR_peek_last_error();
    const char *text = code ? ERR_reason_error_string(code) : NULL;
    ERR_clear_error();
    return text ? text : "TLS failed";
}

/* What was written before there was a way to encrypt it. */
static void early_encrypt(struct io *io)
{
    while (io->state == IO_OPEN && io->early.bytes) {
        struct iovec v[1];
        sliceq_iov(&io->early, v, 1);
        gather_add(io, v[0].iov_base, v[0].iov_len);
        sliceq_consume(&io->early, v[0].iov_len);
    }
}

/* Goes on with the handshake; true when it is done. */
static bool tls_handshake(struct io *io)
{
    int rc = SSL_do_handshake(io->ssl);
    if (io->out.bytes)
        io_want_flush(io);
    if (rc == 1) {
        io->state = IO_OPEN;
        io_want_flush(io); /* somebody may wait for on_drain already */
        if (io->ops->on_open)
            io->ops->on_open(io);
        early_encrypt(io);
        return io->state == IO_OPEN;
    }
    if (SSL_get_error(io->ssl, rc) != SSL_ERROR_WANT_READ)
        io_fail(io, tls_error());
    return false;
}

/* Everything that the ciphertext of this wake-up holds, in one slab. */
static void tls_read(struct io *io)
{
    struct slab *s = read_buffer(0);
    size_t n = 0;
    for (;;) {
        int got = SSL_read(io->ssl, s->data + n, (int)(s->cap - n));
        if (got > 0) {
            n += (size_t)got;
            ASSERT(n < s->cap);
            continue;
        }
        int code = SSL_get_error(io->ssl, got);
        /* What came before an alert or a broken record is delivered first. */
        const char *err = NULL;
        bool closed = code == SSL_ERROR_ZERO_RETURN;
        if (!closed && code != SSL_ERROR_WANT_READ)
            err = tls_error();
        if (io->out.bytes)
            io_want_flush(io); /* a key update's or a refused renegotiation's answer */
        if (n)
            io->ops->on_read(io, (struct slice){s, s->data, n});
        if (io->state == IO_OPEN && err)
            io_fail(io, err);
        else if (io->state == IO_OPEN && closed && !io->eof_seen)
            read_eof(io);
        return;
    }
}

/* The first n bytes of cipher_buf have come. */
static void tls_decrypt(struct io *io, size_t n)
{
    cipher_in = (struct str){cipher_buf, n};
    cipher_of = io;
    ERR_clear_error(); /* SSL_get_error looks at the thread's queue: nobody else's leftovers */
    if (io->state != IO_HANDSHAKE || tls_handshake(io))
        tls_read(io);
    cipher_of = NULL;
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    struct io *io = arg;
    (void)fd, (void)what;
    if (io->paused || io->out.bytes > OUT_MAX) {
        read_stop(io);
        return;
    }
    if (!io->ssl) {
        plain_read(io);
        return;
    }
    size_t n = read_some(io, cipher_buf, sizeof(cipher_buf));
    if (!n)
        return;
    tls_decrypt(io, n);
}

void io_feed(struct io *io, struct str cipher)
{
    ASSERT(io->ssl && io->state == IO_HANDSHAKE && !cipher_of && cipher.n <= sizeof(cipher_buf));
    io->bytes_in += cipher.n;
    io->last_in = loop_now_ms();
    memcpy(cipher_buf, cipher.p, cipher.n);
    tls_decrypt(io, cipher.n);
}

void io_read_rest(struct io *io)
{
    /* cipher_of: it is our reading that failed, there is no more sense to be had from it. */
    if (io->state != IO_OPEN || io->paused || io->eof_seen || cipher_of == io)
        return;
    struct slab *s = io->ssl ? NULL : read_buffer(0);
    ssize_t n = recv(io->fd, s ? (char *)s->data : cipher_buf, s ? s->cap : sizeof(cipher_buf), 0);
    if (n <= 0)
        return;
    if (s)
        io->ops->on_read(io, (struct slice){s, s->data, (size_t)n});
    else
        tls_decrypt(io, (size_t)n);
}

void io_pause(struct io *io, enum io_pause why)
{
    io->paused |= why; /* the event goes only if it fires meanwhile */
}

void io_resume(struct io *io, enum io_pause why)
{
    io->paused &= ~(unsigned)why;
    if (!io->paused)
        read_start(io);
}

/* ---- writing ---- */

static void tls_write(struct io *io, const void *p, size_t n)
{
    const char *at = p;
    ASSERT(io->state == IO_OPEN); /* before the handshake is done there is nobody to write to */
    while (n) {
        size_t record = io->burst < BURST_SMALL ? RECORD_SMALL : RECORD_FULL;
        size_t some = MIN(n, record);
        /* The BIO takes everything, so this never wants a retry. */
        if (SSL_write(io->ssl, at, (int)some) != (int)some) {
            io->error = tls_error();
            return;
        }
        io->burst += some;
        at += some;
        n -= some;
    }
}

static void gather_encrypt(struct io *io)
{
    struct slab *g = io->gather;
    if (!g || io->state != IO_OPEN)
        return;
    io->gather = NULL;
    tls_write(io, g->data, g->used);
    slab_unref(g);
}

static void write_stop(struct io *io)
{
    if (io->writing)
        event_del(&io->ev_write);
    io->writing = false;
    pace_turn(&io->take, false, loop_now_ms());
}

static void write_start(struct io *io)
{
    if (!io->writing)
        event_add(&io->ev_write, NULL);
    io->writing = true;
}

/* Sends what is queued; false when the socket takes no more now, or is dead. */
static bool out_send(struct io *io)
{
    while (io->out.bytes) {
        struct iovec v[IOV_MAX_TURN];
        unsigned n = sliceq_iov(&io->out, v, IOV_MAX_TURN);
        struct msghdr m = {.msg_iov = v, .msg_iovlen = n};
        size_t asked = 0;
        for (unsigned i = 0; i < n; i++)
            asked += v[i].iov_len;
        ssize_t sent = sendmsg(io->fd, &m, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0) {
            if (errno != EAGAIN)
                io->error = err_of_errno(errno);
            return false;
        }
        io->bytes_out += (uint64_t)sent;
        io->last_out = loop_now_ms();
        sliceq_consume(&io->out, (size_t)sent);
        if ((size_t)sent < asked)
            return false;
    }
    return true;
}

static void send_fin(struct io *io)
{
    if (!io->shut || io->fin_sent)
        return;
    io->fin_sent = true;
    shutdown(io->fd, SHUT_WR);
}

static void drained(struct io *io)
{
    if (!io->drain_wanted || io_queued(io) || io->state != IO_OPEN)
        return;
    io->drain_wanted = false;
    io->ops->on_drain(io);
}

static void io_flush(struct io *io)
{
    if (io->state < IO_HANDSHAKE && !io->error)
        return; /* closed, or the connect is still under way */
    gather_encrypt(io);
    if (io->shut && io->ssl && io->state == IO_OPEN &&
        !(SSL_get_shutdown(io->ssl) & SSL_SENT_SHUTDOWN))
        SSL_shutdown(io->ssl);
    bool all = !io->error && out_send(io);
    if (io->error) {
        io_fail(io, io->error);
        return;
    }
    if (!all) {
        write_start(io);
        pace_turn(&io->take, true, loop_now_ms());
        return;
    }
    write_stop(io);
    read_start(io); /* if it was OUT_MAX that stopped it */
    send_fin(io);
    if (!io->drain_wanted)
        return;
    if (io->turn != loop_turn() || io->turn_out < IO_TURN_MAX)
        drained(io);
    else
        event_active(&io->ev_write, EV_WRITE, 0); /* next turn: others first */
}

static void on_flush(struct turn_task *t)
{
    io_flush(container_of(t, struct io, flush));
}

static void io_want_flush(struct io *io)
{
    loop_at_turn_end(&io->flush, on_flush);
}

static void on_connected(struct io *io)
{
    int err = 0;
    socklen_t len = sizeof(err);
    write_stop(io);
    if (getsockopt(io->fd, SOL_SOCKET, SO_ERROR, &err, &len) < 0)
        err = errno;
    if (err) {
        io_fail(io, err_of_errno(err));
        return;
    }
    io->state = io->ssl ? IO_HANDSHAKE : IO_OPEN;
    io->last_in = io->last_out = loop_now_ms();
    read_start(io);
    ERR_clear_error();
    if (io->ssl)
        tls_handshake(io);
    else if (io->ops->on_open)
        io->ops->on_open(io);
    if (io->state == IO_OPEN)
        io_want_flush(io);
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
    struct io *io = arg;
    (void)fd, (void)what;
    if (io->state == IO_CONNECTING)
        on_connected(io);
    else if (io->state != IO_CLOSED && (io->out.bytes || io->gather))
        io_flush(io);
    else
        drained(io);
}

/* Counts what this turn emits, and notices the start of a new burst. */
static void write_account(struct io *io, size_t n)
{
    if (io->turn != loop_turn()) {
        io->turn = loop_turn();
        io->turn_out = 0;
        if (loop_now_ms() - io->last_out > BURST_IDLE_MS)
            io->burst = 0;
    }
    if (!io_queued(io))
        io->last_out = loop_now_ms(); /* the time that the peer has to take it begins now */
    io->turn_out += n;
    io_want_flush(io);
}

static void gather_add(struct io *io, const char *p, size_t n)
{
    ASSERT(io->state == IO_OPEN);
    while (n) {
        if (!io->gather)
            io->gather = slab_new(SLAB_SMALL);
        size_t some = MIN(n, RECORD_FULL - io->gather->used);
        memcpy(io->gather->data + io->gather->used, p, some);
        io->gather->used += (uint32_t)some;
        p += some;
        n -= some;
        if (io->gather->used == RECORD_FULL)
            gather_encrypt(io);
    }
}

void io_write(struct io *io, const void *p, size_t n)
{
    if (io->state == IO_CLOSED || io->shut || !n)
        return;
    write_account(io, n);
    if (io->ssl && io->state != IO_OPEN)
        sliceq_copy(&io->early, p, n);
    else if (io->ssl)
        gather_add(io, p, n);
    else
        sliceq_copy(&io->out, p, n);
}

void io_write_before_tls(struct io *io, struct str bytes)
{
    ASSERT(io->state == IO_CONNECTING && !io->out.bytes);
    sliceq_copy(&io->out, bytes.p, bytes.n);
}

void io_write_slice(struct io *io, struct slice s)
{
    if (s.n < SLICE_IN_PLACE || io->state == IO_CLOSED || io->shut) {
        io_write(io, s.p, s.n);
        return;
    }
    write_account(io, s.n);
    if (!io->ssl || io->state != IO_OPEN) {
        sliceq_push(io->ssl ? &io->early : &io->out, s);
        return;
    }
    /* The record that is being gathered is filled first; the rest is encrypted where it lies. */
    if (io->gather) {
        size_t fill = MIN(s.n, RECORD_FULL - io->gather->used);
        gather_add(io, (const char *)s.p, fill);
        s.p += fill;
        s.n -= fill;
        gather_encrypt(io);
    }
    tls_write(io, s.p, s.n);
}

/* Without the kernel's buffer, which empties evenly while it asks for more in large steps only. */
static void look_taken(struct io *io)
{
    int queued = 0;
    if (ioctl(io->fd, SIOCOUTQ, &queued) < 0 || queued < 0)
        queued = 0;
    uint64_t taken = io->bytes_out - MIN((uint64_t)queued, io->bytes_out);
    if (taken <= io->taken) /* a Unix socket's queue counts more than the bytes in it */
        return;
    pace_moved(&io->take, taken - io->taken);
    io->taken = taken;
    io->last_out = loop_now_ms();
}

uint64_t io_last_taken(struct io *io)
{
    if (io->fd >= 0)
        look_taken(io);
    return io->last_out;
}

uint64_t io_take_left(struct io *io, uint64_t gap, uint64_t rate, bool *slow)
{
    *slow = false;
    if (!io_queued(io))
        return UINT64_MAX;
    uint64_t left = loop_time_left(io_last_taken(io), gap);
    uint64_t rate_left = pace_left(&io->take, rate, gap, loop_now_ms());
    *slow = rate_left < left;
    return MIN(left, rate_left);
}

void io_want_drain(struct io *io)
{
    io->drain_wanted = true;
    io_want_flush(io);
}

void io_shutdown(struct io *io)
{
    if (io->state == IO_CLOSED)
        return;
    io->shut = true;
    io_want_flush(io);
}

/* ---- life ---- */

void io_init(struct io *io, int fd, const struct io_ops *ops)
{
    io->ops = ops;
    io->fd = fd;
    io->state = IO_OPEN;
    io->last_in = io->last_out = loop_now_ms();
    event_assign(&io->ev_read, loop_base(), fd, EV_READ | EV_PERSIST, on_readable, io);
    event_assign(&io->ev_write, loop_base(), fd, EV_WRITE | EV_PERSIST, on_writable, io);
    read_start(io);
}

void io_start_tls(struct io *io, SSL *ssl)
{
    BIO *b = BIO_new(bio_method);
    ASSERT(b);
    BIO_set_data(b, io);
    BIO_set_init(b, 1);
    SSL_set_bio(ssl, b, b);
    io->ssl = ssl;
    /* A client speaks first: its handshake begins with the connect's end. */
    ASSERT(SSL_is_server(ssl) || io->state == IO_CONNECTING);
    if (io->state == IO_OPEN)
        io->state = IO_HANDSHAKE;
}

void io_keepalive(struct io *io)
{
    int on = 1, idle_s = 60, again_s = 15, tries = 4;
    if (io->fd < 0 || setsockopt(io->fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on)) < 0)
        return;
    /* These fail on a Unix socket, whose peer cannot vanish unnoticed. */
    setsockopt(io->fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s));
    setsockopt(io->fd, IPPROTO_TCP, TCP_KEEPINTVL, &again_s, sizeof(again_s));
    setsockopt(io->fd, IPPROTO_TCP, TCP_KEEPCNT, &tries, sizeof(tries));
}

static void on_connect_failed(struct turn_task *t)
{
    struct io *io = container_of(t, struct io, flush);
    io_fail(io, io->error);
}

void io_connect(struct io *io, const struct sockaddr *addr, socklen_t len, const struct io_ops *ops)
{
    int on = 1;
    io->ops = ops;
    io->state = IO_CONNECTING;
    io->last_in = io->last_out = loop_now_ms();
    io->fd = socket(addr->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    event_assign(&io->ev_read, loop_base(), io->fd, EV_READ | EV_PERSIST, on_readable, io);
    event_assign(&io->ev_write, loop_base(), io->fd, EV_WRITE | EV_PERSIST, on_writable, io);
    if (io->fd >= 0 && addr->sa_family != AF_UNIX)
        setsockopt(io->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    /* EAGAIN from a Unix socket: the backend's queue is full, nothing is under way. */
    if (io->fd < 0 || (connect(io->fd, addr, len) < 0 && errno != EINPROGRESS)) {
        io->error = err_of_errno(errno);
        loop_at_turn_end(&io->flush, on_connect_failed);
        return;
    }
    write_start(io);
}

static void io_fail(struct io *io, const char *err)
{
    if (io->state == IO_CLOSED)
        return;
    /* An alert that explains the failure goes out before the owner closes. */
    if (io->ssl && io->out.bytes && !io->error && io->state >= IO_HANDSHAKE)
        out_send(io);
    io->error = err;
    read_stop(io);
    write_stop(io);
    turn_task_cancel(&io->flush);
    io->ops->on_error(io, err);
}

void io_close(struct io *io)
{
    if (io->state == IO_CLOSED)
        return;
    io->state = IO_CLOSED;
    read_stop(io);
    write_stop(io);
    turn_task_cancel(&io->flush);
    if (io->fd >= 0) {
        event_del(&io->ev_write); /* it may be active for the next turn */
        close(io->fd);
    }
    io->fd = -1;
    sliceq_fini(&io->out);
    sliceq_fini(&io->early);
    slab_unref(io->gather);
    io->gather = NULL;
    if (io->ssl)
        SSL_free(io->ssl);
    io->ssl = NULL;
}

int io_take(struct io *io)
{
    const int fd = io->fd;
    ASSERT(io->state == IO_OPEN && !io->ssl && !io_queued(io));
    event_del(&io->ev_write);
    io->fd = -1;
    io_close(io);
    return fd;
}

void io_reset(struct io *io)
{
    struct linger l = {.l_onoff = 1, .l_linger = 0};
    if (io->fd >= 0)
        setsockopt(io->fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
    io_close(io);
}
