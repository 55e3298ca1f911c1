/*
 * test_msg.c - messages between master and children: order, descriptors, full sockets, and what a
 * peer that breaks the rules gets.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs the four above first */
#include <cmocka.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/loop.h"
#include "base/msg.h"

/* One end with what it was told. */
struct end {
    struct msg_peer *peer;
    unsigned got, want; /* the loop stops when `want` messages came, or the peer went */
    enum msg_type types[8];
    uint64_t generations[8];
    char tail[512];
    int fd;
    const char *gone;
};

static void on_msg(void *ctx, struct msg *m)
{
    struct end *e = ctx;
    if (e->got < ARRAY_LEN(e->types)) {
        e->types[e->got] = m->type;
        if (m->type == MSG_CONFIG)
            e->generations[e->got] = ((const struct msg_generation *)m->fixed)->generation;
    }
    e->got++;
    assert_true(m->tail.p[m->tail.n] == '\0');
    if (m->tail.n < sizeof(e->tail)) {
        memcpy(e->tail, m->tail.p, m->tail.n);
        e->tail[m->tail.n] = '\0';
    }
    if (m->fd >= 0) {
        if (e->fd >= 0)
            close(e->fd);
        e->fd = m->fd;
    }
    if (e->got == e->want)
        loop_stop();
}

static void on_gone(void *ctx, const char *why)
{
    struct end *e = ctx;
    e->gone = why;
    msg_peer_close(&e->peer);
    loop_stop();
}

static void make_ends(struct end *a, struct end *b)
{
    int fds[2];
    assert_null(msg_pair(fds));
    *a = (struct end){.fd = -1};
    *b = (struct end){.fd = -1};
    a->peer = msg_peer_new(fds[0], a, on_msg, on_gone);
    b->peer = msg_peer_new(fds[1], b, on_msg, on_gone);
}

static void free_ends(struct end *a, struct end *b)
{
    msg_peer_close(&a->peer);
    msg_peer_close(&b->peer);
    if (a->fd >= 0)
        close(a->fd);
    if (b->fd >= 0)
        close(b->fd);
}

static void test_round_trip(void **state)
{
    struct end a, b;
    (void)state;
    make_ends(&a, &b);
    struct msg_instance i = {.id = 7, .state = INSTANCE_READY, .tls = 1};
    b.want = 1;
    msg_send(a.peer, MSG_INSTANCE, &i,
             STR("beta/api\0"
                 "127.0.0.1:80\0"),
             -1);
    loop_run();
    assert_int_equal(b.got, 1);
    assert_int_equal(b.types[0], MSG_INSTANCE);
    assert_string_equal(b.tail, "beta/api");
    assert_string_equal(b.tail + strlen(b.tail) + 1, "127.0.0.1:80");
    free_ends(&a, &b);
}

static void test_descriptor(void **state)
{
    struct end a, b;
    int pipe_fds[2];
    (void)state;
    make_ends(&a, &b);
    assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
    struct msg_listener l = {.id = 1, .slot = 0, .kind = LISTENER_HTTP};
    b.want = 1;
    msg_send(a.peer, MSG_LISTENER, &l, STR("[::]:80"), pipe_fds[1]);
    loop_run();
    assert_true(b.fd >= 0);
    assert_true(fcntl(b.fd, F_GETFD) & FD_CLOEXEC);
    assert_int_equal(write(b.fd, "x", 1), 1);
    char c;
    assert_int_equal(read(pipe_fds[0], &c, 1), 1);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
    free_ends(&a, &b);
}

/* More than the socket takes: nothing is lost, the order stays, descriptors stay with their
 * message. */
static void test_queue(void **state)
{
    struct end a, b;
    (void)state;
    make_ends(&a, &b);
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    char *tail = malloc(MSG_TAIL_MAX);
    memset(tail, 'x', MSG_TAIL_MAX);
    enum { COUNT = 600 };
    for (uint64_t i = 0; i < COUNT; i++) {
        struct msg_setup s = {1, 2};
        struct msg_generation g = {i};
        if (i < 2)
            msg_send(a.peer, MSG_CONFIG, &g, STR_NULL, null);
        else
            msg_send(a.peer, MSG_SETUP, &s, (struct str){tail, MSG_TAIL_MAX}, null);
    }
    close(null); /* the queue has its own */
    b.want = COUNT;
    loop_run();
    assert_int_equal(b.got, COUNT);
    assert_null(b.gone);
    assert_int_equal(b.types[0], MSG_CONFIG);
    assert_int_equal(b.generations[1], 1);
    assert_int_equal(b.types[2], MSG_SETUP);
    free(tail);
    free_ends(&a, &b);
}

static void test_end(void **state)
{
    struct end a, b;
    (void)state;
    make_ends(&a, &b);
    msg_peer_close(&a.peer);
    msg_peer_close(&a.peer);
    loop_run();
    assert_ptr_equal(b.gone, err_eof);
    assert_null(b.peer);
    free_ends(&a, &b);
}

/* Sending to a peer that is gone is no crash in the middle of the sender's work. */
static void test_send_to_nobody(void **state)
{
    struct end a, b;
    (void)state;
    make_ends(&a, &b);
    msg_peer_close(&b.peer);
    struct msg_empty e = {0};
    for (int i = 0; i < 3; i++)
        msg_send(a.peer, MSG_READY, &e, STR_NULL, -1);
    assert_null(a.gone);
    loop_run();
    assert_non_null(a.gone);
    free_ends(&a, &b);
}

/* ---- raw bytes: what a broken or hostile child could send ---- */

struct raw_head {
    uint16_t magic, version, type, zero;
    uint32_t fixed, tail;
};

static const char *answer_to(const void *bytes, size_t n, int fd_count)
{
    int fds[2];
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(int) * 4)];
    } control;
    static struct end e;
    assert_null(msg_pair(fds));
    e = (struct end){.fd = -1, .want = 1};
    e.peer = msg_peer_new(fds[0], &e, on_msg, on_gone);
    struct iovec iov = {(void *)(uintptr_t)bytes, n};
    struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1};
    if (fd_count) {
        memset(&control, 0, sizeof(control));
        h.msg_control = control.space;
        h.msg_controllen = CMSG_SPACE(sizeof(int) * (size_t)fd_count);
        struct cmsghdr *c = CMSG_FIRSTHDR(&h);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * (size_t)fd_count);
        for (int i = 0; i < fd_count; i++)
            memcpy(CMSG_DATA(c) + (size_t)i * sizeof(int), &fds[1], sizeof(int));
    }
    assert_true(sendmsg(fds[1], &h, 0) >= 0);
    loop_run();
    msg_peer_close(&e.peer);
    if (e.fd >= 0)
        close(e.fd);
    close(fds[1]);
    return e.got ? "taken" : e.gone;
}

static const char *answer_to_head(struct raw_head h, size_t body, int fd_count)
{
    static unsigned char packet[65536];
    memset(packet, 0, sizeof(packet));
    memcpy(packet, &h, sizeof(h));
    return answer_to(packet, sizeof(h) + body, fd_count);
}

static void test_broken_peers(void **state)
{
    (void)state;
    const uint32_t setup = sizeof(struct msg_setup), empty = sizeof(struct msg_empty);
    const struct raw_head ready = {0x4847, MSG_VERSION, MSG_READY, 0, empty, 0};
    assert_string_equal(answer_to_head(ready, empty, 0), "taken");
    struct raw_head h = ready;
    h.magic = 0x1234;
    assert_non_null(strstr(answer_to_head(h, empty, 0), "no message"));
    h = ready;
    h.type = 999;
    assert_non_null(strstr(answer_to_head(h, empty, 0), "unknown type"));
    h.type = 0;
    assert_non_null(strstr(answer_to_head(h, empty, 0), "unknown type"));
    h = ready;
    h.version = MSG_VERSION + 1;
    assert_non_null(strstr(answer_to_head(h, empty, 0), "another version"));
    h = ready;
    h.fixed = 8;
    assert_non_null(strstr(answer_to_head(h, 8, 0), "wrong size"));
    h = ready;
    h.tail = 1; /* READY has none */
    assert_non_null(strstr(answer_to_head(h, empty + 1, 0), "wrong size"));
    assert_non_null(strstr(answer_to_head(ready, empty + 5, 0), "wrong size"));
    assert_non_null(strstr(answer_to_head(ready, empty, 1), "number of descriptors"));
    h = (struct raw_head){0x4847, MSG_VERSION, MSG_SETUP, 0, setup, 0};
    assert_non_null(strstr(answer_to_head(h, setup, 0), "number of descriptors"));
    assert_non_null(strstr(answer_to_head(h, setup, 3), "number of descriptors"));
    assert_string_equal(answer_to_head(h, setup, 1), "taken");
    h.tail = 40000; /* larger than any message */
    assert_non_null(strstr(answer_to_head(h, setup + 40000, 1), "wrong size"));
    assert_non_null(strstr(answer_to("x", 1, 0), "no message"));
}

/* Another version's master still speaks to old workers, and they hand over to it, for ever. */
static void test_frozen(void **state)
{
    (void)state;
    struct raw_head h = {0x4847, MSG_VERSION + 7, MSG_DRAIN, 0, sizeof(struct msg_drain), 0};
    assert_string_equal(answer_to_head(h, sizeof(struct msg_drain), 0), "taken");
    assert_int_equal(MSG_INSTANCE_GONE, 11);
    assert_int_equal(MSG_DRAIN, 12);
    assert_int_equal(sizeof(struct msg_drain), 8);
    assert_int_equal(sizeof(struct msg_instance_gone), 8);
    const struct raw_head orphan = {0x4847, MSG_VERSION + 7,           MSG_ORPHAN,
                                    0,      sizeof(struct msg_orphan), 0};
    assert_string_equal(answer_to_head(orphan, sizeof(struct msg_orphan), 0), "taken");
    const struct raw_head socket = {
        0x4847, MSG_VERSION + 7, MSG_ORPHAN_LISTENER, 0, sizeof(struct msg_orphan_listener), 0};
    assert_string_equal(answer_to_head(socket, sizeof(struct msg_orphan_listener), 1), "taken");
    assert_int_equal(MSG_ORPHAN, 30);
    assert_int_equal(MSG_ORPHAN_LISTENER, 31);
    assert_int_equal(sizeof(struct msg_orphan), 24);
    assert_int_equal(sizeof(struct msg_orphan_listener), 8);
}

static void test_names(void **state)
{
    (void)state;
    assert_string_equal(msg_name(MSG_LISTENER_DROP), "LISTENER_DROP");
    assert_string_equal(msg_name((enum msg_type)12345), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),     cmocka_unit_test(test_descriptor),
        cmocka_unit_test(test_queue),          cmocka_unit_test(test_end),
        cmocka_unit_test(test_send_to_nobody), cmocka_unit_test(test_broken_peers),
        cmocka_unit_test(test_frozen),         cmocka_unit_test(test_names),
    };
    log_init("test", LOG_ERROR);
    loop_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
