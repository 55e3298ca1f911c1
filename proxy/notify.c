/*
 * notify.c - READY, RELOADING, STOPPING, STATUS and WATCHDOG for systemd, by hand: one datagram.
 */
#include "proxy/notify.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/loop.h"

static struct {
    struct sockaddr_un addr;
    socklen_t len; /* 0: nobody to tell */
    uint64_t watchdog_us;
    struct event *watchdog;
} manager;

static void take_watchdog(void)
{
    const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
    uint64_t us, whose;
    bool ours = !pid || (str_u64(str_of(pid), &whose) && whose == (uint64_t)getpid());
    if (usec && ours && str_u64(str_of(usec), &us) && us > 0)
        manager.watchdog_us = us;
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
}

void notify_init(void)
{
    const char *path = getenv("NOTIFY_SOCKET");
    take_watchdog();
    if (!path || !*path)
        return;
    size_t n = strlen(path);
    if ((path[0] != '/' && path[0] != '@') || n >= sizeof(manager.addr.sun_path)) {
        log_warn("NOTIFY_SOCKET is not usable", "value", "%s", path);
        unsetenv("NOTIFY_SOCKET");
        return;
    }
    manager.addr.sun_family = AF_UNIX;
    memcpy(manager.addr.sun_path, path, n);
    if (path[0] == '@')
        manager.addr.sun_path[0] = '\0';
    manager.len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
    unsetenv("NOTIFY_SOCKET");
}

static void tell(const struct out *o)
{
    if (!manager.len || o->over)
        return;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return;
    if (sendto(fd, o->p, o->n, MSG_NOSIGNAL, (const struct sockaddr *)&manager.addr, manager.len) <
        0)
        log_warn("the service manager was not told", "cause", "%s", err_of_errno(errno));
    close(fd);
}

static void add_status(struct out *o, const char *status)
{
    if (!status)
        return;
    out_lit(o, "STATUS=");
    for (const char *c = status; *c; c++)
        out_char(o, *c == '\n' ? ' ' : *c);
    out_char(o, '\n');
}

void notify_ready(const char *status)
{
    char text[512];
    struct out o = out_on(text, sizeof(text));
    out_fmt(&o, "READY=1\nMAINPID=%d\n", (int)getpid());
    add_status(&o, status);
    tell(&o);
}

void notify_reloading(void)
{
    char text[128];
    struct timespec ts;
    struct out o = out_on(text, sizeof(text));
    clock_gettime(CLOCK_MONOTONIC, &ts);
    out_lit(&o, "RELOADING=1\nMONOTONIC_USEC=");
    out_u64(&o, (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000);
    out_char(&o, '\n');
    tell(&o);
}

void notify_stopping(const char *status)
{
    char text[512];
    struct out o = out_on(text, sizeof(text));
    out_lit(&o, "STOPPING=1\n");
    add_status(&o, status);
    tell(&o);
}

void notify_status(const char *status)
{
    char text[512];
    struct out o = out_on(text, sizeof(text));
    add_status(&o, status);
    tell(&o);
}

#define FDS_A_MESSAGE 200 /* the kernel takes 253 */

/* 0, or errno. */
static int send_fds(int sock, struct str text, const int *fds, unsigned n)
{
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(int) * FDS_A_MESSAGE)];
    } control;
    struct iovec iov = {(void *)(uintptr_t)text.p, text.n};
    struct msghdr h = {.msg_name = &manager.addr,
                       .msg_namelen = manager.len,
                       .msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control.space,
                       .msg_controllen = CMSG_SPACE(sizeof(int) * n)};
    memset(&control, 0, sizeof(control));
    struct cmsghdr *c = CMSG_FIRSTHDR(&h);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int) * n);
    memcpy(CMSG_DATA(c), fds, sizeof(int) * n);
    return sendmsg(sock, &h, MSG_NOSIGNAL) < 0 ? errno : 0;
}

bool notify_store(const char *name, const int *fds, unsigned n)
{
    char text[512];
    struct out o = out_on(text, sizeof(text));
    out_fmt(&o, "FDSTORE=1\nFDNAME=%s\n", name);
    if (!manager.len || o.over)
        return true;
    int sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int err = sock < 0 ? errno : 0;
    for (unsigned at = 0; at < n && !err; at += FDS_A_MESSAGE)
        err = send_fds(sock, out_done(&o), fds + at, MIN(n - at, (unsigned)FDS_A_MESSAGE));
    if (sock >= 0)
        close(sock);
    if (err && err != EAGAIN && err != ENOBUFS && err != ETOOMANYREFS)
        log_warn("the service manager does not keep our sockets", "cause", "%s", err_of_errno(err));
    return err != EAGAIN && err != ENOBUFS && err != ETOOMANYREFS;
}

void notify_unstore(const char *name)
{
    char text[512];
    struct out o = out_on(text, sizeof(text));
    out_fmt(&o, "FDSTOREREMOVE=1\nFDNAME=%s\n", name);
    tell(&o);
}

static void on_watchdog(evutil_socket_t fd, short what, void *arg)
{
    char text[16];
    struct out o = out_on(text, sizeof(text));
    (void)fd, (void)what, (void)arg;
    out_lit(&o, "WATCHDOG=1\n");
    tell(&o);
}

void notify_watchdog_start(void)
{
    if (!manager.len || !manager.watchdog_us)
        return;
    uint64_t half = manager.watchdog_us / 2;
    struct timeval tv = {(time_t)(half / 1000000), (suseconds_t)(half % 1000000)};
    manager.watchdog = event_new(loop_base(), -1, EV_PERSIST, on_watchdog, NULL);
    ASSERT(manager.watchdog);
    event_add(manager.watchdog, &tv);
    on_watchdog(-1, 0, NULL);
}
