/*
 * msg.c - the message codec and its queue: one table (msg.h) says what each message looks like, and
 * both ends refuse anything else. What messages mean is their receivers' business.
 *
 * A packet is a head, the fixed struct and the tail. SOCK_SEQPACKET keeps packets apart, so there
 * is nothing to reassemble; a packet that was cut is a broken peer.
 */
#include "base/msg.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/loop.h"

/* A peer that reads nothing is broken; the queue must not eat the master's memory meanwhile. */
#define QUEUE_MAX    (16u * 1024 * 1024)
#define READS_A_TURN 32
#define FIXED_MAX    512
#define HEAD_MAGIC   0x4847u /* "HG" */

struct packet_head {
    uint16_t magic, version;
    uint16_t type, zero;
    uint32_t fixed, tail;
};

struct msg_form {
    const char *name;
    uint32_t fixed, tail_max;
    unsigned fds;
};

static const struct msg_form forms[] = {
#define X(NAME, number, type, tail, n_fds) [number] = {#NAME, sizeof(type), tail, n_fds},
    MSG_TABLE(X)
#undef X
};

#define X(NAME, number, type, tail, n_fds)                             \
    _Static_assert(sizeof(type) <= FIXED_MAX, "fixed part too large"); \
    _Static_assert((tail) <= MSG_TAIL_MAX, "tail too large");          \
    _Static_assert((n_fds) <= 1, "one descriptor at most");
MSG_TABLE(X)
#undef X

struct queued {
    struct list link;
    int fd;
    size_t n;
    uint8_t bytes[];
};

struct msg_peer {
    int fd;
    bool closed;
    void *ctx;
    void (*on_msg)(void *ctx, struct msg *m);
    void (*on_gone)(void *ctx, const char *why);
    const char *why; /* what broke while sending: told when the read side notices */
    struct event ev_read, ev_write;
    struct list queue;
    size_t queued_bytes;
};

union packet {
    struct packet_head head;
    uint8_t bytes[sizeof(struct packet_head) + FIXED_MAX + MSG_TAIL_MAX + 1];
    uint64_t align;
};

/* One buffer a process: a packet is handled before the next is read. */
static union packet inbox;

static const struct msg_form *form_of(unsigned type)
{
    if (type >= ARRAY_LEN(forms) || !forms[type].name)
        return NULL;
    return &forms[type];
}

const char *msg_name(enum msg_type type)
{
    const struct msg_form *f = form_of((unsigned)type);
    return f ? f->name : "unknown";
}

const char *msg_pair(int fds[2])
{
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0)
        return err_of_errno(errno);
    return NULL;
}

/* ---- receiving ---- */

/* The descriptors of one packet; more than one is closed and counted, so that none can leak. */
static unsigned take_fds(struct msghdr *h, int *fd)
{
    unsigned n = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c; c = CMSG_NXTHDR(h, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int got;
            memcpy(&got, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
            if (n++ == 0)
                *fd = got;
            else
                close(got);
        }
    }
    return n;
}

/* Checks a packet of n bytes against the table; NULL when it fits. */
static const char *check_packet(size_t n, unsigned fds, struct msg *m)
{
    const struct packet_head *h = &inbox.head;
    if (n < sizeof(*h) || h->magic != HEAD_MAGIC || h->zero != 0)
        return "sent bytes that are no message";
    const struct msg_form *f = form_of(h->type);
    if (!f)
        return "sent a message of an unknown type";
    bool frozen = h->type == MSG_DRAIN || h->type == MSG_INSTANCE_GONE || h->type == MSG_ORPHAN ||
                  h->type == MSG_ORPHAN_LISTENER;
    if (h->version != MSG_VERSION && !frozen)
        return "speaks another version of the messages";
    if (h->fixed != f->fixed || h->tail > f->tail_max || n != sizeof(*h) + h->fixed + h->tail)
        return "sent a message of the wrong size";
    if (fds != f->fds)
        return "sent a message with the wrong number of descriptors";
    inbox.bytes[n] = 0;
    m->type = (enum msg_type)h->type;
    m->fixed = inbox.bytes + sizeof(*h);
    m->tail = (struct str){(const char *)inbox.bytes + sizeof(*h) + h->fixed, h->tail};
    return NULL;
}

static void gone(struct msg_peer *p, const char *why)
{
    event_del(&p->ev_read);
    event_del(&p->ev_write);
    p->on_gone(p->ctx, p->why ? p->why : why);
}

/* True when there may be more to read. */
static bool read_one(struct msg_peer *p)
{
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(int) * 4)];
    } control;
    struct iovec iov = {inbox.bytes, sizeof(inbox.bytes) - 1};
    struct msghdr h = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control.space,
                       .msg_controllen = sizeof(control.space)};
    ssize_t n = recvmsg(p->fd, &h, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (n < 0) {
        if (errno == EAGAIN)
            return false;
        if (errno == EINTR)
            return true;
        gone(p, err_of_errno(errno));
        return false;
    }
    struct msg m = {.fd = -1};
    unsigned fds = take_fds(&h, &m.fd);
    const char *err = NULL;
    if (n == 0)
        err = err_eof;
    else if (h.msg_flags & (MSG_TRUNC | MSG_CTRUNC))
        err = "sent a message of the wrong size";
    else
        err = check_packet((size_t)n, fds, &m);
    if (err) {
        if (m.fd >= 0)
            close(m.fd);
        gone(p, err);
        return false;
    }
    p->on_msg(p->ctx, &m);
    return !p->closed;
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    for (unsigned i = 0; i < READS_A_TURN && read_one(arg); i++)
        ;
}

/* ---- sending ---- */

/* NULL when sent, err_timeout when the socket is full, else what broke. */
static const char *send_packet(int sock, const uint8_t *bytes, size_t n, int fd)
{
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec iov = {(void *)(uintptr_t)bytes, n};
    struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1};
    if (fd >= 0) {
        memset(&control, 0, sizeof(control));
        h.msg_control = control.space;
        h.msg_controllen = sizeof(control.space);
        struct cmsghdr *c = CMSG_FIRSTHDR(&h);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &fd, sizeof(int));
    }
    ssize_t sent;
    do {
        sent = sendmsg(sock, &h, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (sent < 0 && errno == EINTR);
    if (sent >= 0)
        return NULL;
    /* ETOOMANYREFS: the user's descriptors in flight; as with a full socket, later is fine. */
    if (errno == EAGAIN || errno == ENOBUFS || errno == ETOOMANYREFS)
        return err_timeout;
    return err_of_errno(errno);
}

static void queued_free(struct queued *q)
{
    if (q->fd >= 0)
        close(q->fd);
    free(q);
}

static void queue_drop(struct msg_peer *p)
{
    while (!list_empty(&p->queue)) {
        struct queued *q = container_of(p->queue.next, struct queued, link);
        list_remove(&q->link);
        queued_free(q);
    }
    p->queued_bytes = 0;
}

/*
 * Sending fails in the middle of the caller's work, where nobody expects its peer to vanish:
 * the socket is shut, and the next turn's read tells on_gone.
 */
static void send_failed(struct msg_peer *p, const char *why)
{
    if (!p->why)
        p->why = why;
    queue_drop(p);
    event_del(&p->ev_write);
    shutdown(p->fd, SHUT_RDWR);
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
    struct msg_peer *p = arg;
    (void)fd;
    (void)what;
    while (!list_empty(&p->queue)) {
        struct queued *q = container_of(p->queue.next, struct queued, link);
        const char *err = send_packet(p->fd, q->bytes, q->n, q->fd);
        if (err == err_timeout)
            return;
        if (err) {
            send_failed(p, err);
            return;
        }
        p->queued_bytes -= q->n;
        list_remove(&q->link);
        queued_free(q);
    }
    event_del(&p->ev_write);
}

static void enqueue(struct msg_peer *p, const uint8_t *bytes, size_t n, int fd)
{
    if (p->queued_bytes + n > QUEUE_MAX) {
        send_failed(p, "does not read its messages");
        return;
    }
    struct queued *q = malloc(sizeof(*q) + n);
    ASSERT(q);
    *q = (struct queued){.fd = -1, .n = n};
    memcpy(q->bytes, bytes, n);
    if (fd >= 0) {
        q->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        if (q->fd < 0) {
            free(q);
            send_failed(p, err_of_errno(errno));
            return;
        }
    }
    if (list_empty(&p->queue))
        event_add(&p->ev_write, NULL);
    list_append(&p->queue, &q->link);
    p->queued_bytes += n;
}

void msg_send(struct msg_peer *p, enum msg_type type, const void *fixed, struct str tail, int fd)
{
    static union packet outbox;
    const struct msg_form *f = form_of((unsigned)type);
    ASSERT(f && tail.n <= f->tail_max && (fd >= 0) == (f->fds == 1));
    if (!p || p->closed || p->why)
        return;
    outbox.head = (struct packet_head){.magic = HEAD_MAGIC,
                                       .version = MSG_VERSION,
                                       .type = (uint16_t)type,
                                       .fixed = f->fixed,
                                       .tail = (uint32_t)tail.n};
    size_t n = sizeof(outbox.head);
    memcpy(outbox.bytes + n, fixed, f->fixed);
    n += f->fixed;
    if (tail.n)
        memcpy(outbox.bytes + n, tail.p, tail.n);
    n += tail.n;
    const char *err = err_timeout;
    if (list_empty(&p->queue))
        err = send_packet(p->fd, outbox.bytes, n, fd);
    if (err == err_timeout)
        enqueue(p, outbox.bytes, n, fd);
    else if (err)
        send_failed(p, err);
}

/* ---- life ---- */

struct msg_peer *msg_peer_new(int fd, void *ctx, void (*on_msg)(void *ctx, struct msg *m),
                              void (*on_gone)(void *ctx, const char *why))
{
    struct msg_peer *p = calloc(1, sizeof(*p));
    ASSERT(p && fd >= 0 && on_msg && on_gone);
    p->fd = fd;
    p->ctx = ctx;
    p->on_msg = on_msg;
    p->on_gone = on_gone;
    list_init(&p->queue);
    ASSERT(event_assign(&p->ev_read, loop_base(), fd, EV_READ | EV_PERSIST, on_readable, p) == 0);
    ASSERT(event_assign(&p->ev_write, loop_base(), fd, EV_WRITE | EV_PERSIST, on_writable, p) == 0);
    event_add(&p->ev_read, NULL);
    return p;
}

void msg_peer_close(struct msg_peer **pp)
{
    struct msg_peer *p = *pp;
    *pp = NULL;
    if (!p || p->closed)
        return;
    p->closed = true;
    event_del(&p->ev_read);
    event_del(&p->ev_write);
    queue_drop(p);
    close(p->fd);
    p->fd = -1;
    loop_free_later(p, free);
}
