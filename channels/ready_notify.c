/*
 * ready_notify.c - NOTIFY_SOCKET of an instance: made before it starts, named in its environment,
 * read by the loop. Who sends is told by the kernel (SO_PASSCRED), never by the message.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "channels/instance.h"

#define DATAGRAM_MAX 4096
#define TURN_MAX     32 /* datagrams; the next turn goes on */

static void take_status(struct instance *i, struct str text)
{
    struct out o = out_on(i->says, sizeof(i->says) - 1);
    for (size_t k = 0; k < text.n && k < o.cap; k++)
        out_char(&o, (unsigned char)text.p[k] < 0x20 || text.p[k] == 0x7f ? ' ' : text.p[k]);
    i->says[o.n] = '\0';
}

static void take_message(struct instance *i, struct str text)
{
    struct str line;
    bool ready = false, leaves = false;
    while (text.n && str_split(&text, '\n', &line)) {
        if (str_starts(line, STR("STATUS=")))
            take_status(i, str_sub(line, 7, line.n));
        ready = ready || str_eq(line, STR("READY=1"));
        leaves = leaves || str_eq(line, STR("STOPPING=1"));
    }
    if (leaves)
        instance_event(i, EV_LEAVES);
    else if (ready && i->state == INST_STARTING)
        instance_event(i, EV_GOOD);
}

static const struct ucred *sender_of(struct msghdr *m)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c))
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_CREDENTIALS)
            return (const struct ucred *)(const void *)CMSG_DATA(c);
    return NULL;
}

/* One datagram; false when there is none. */
static bool take_one(struct instance *i)
{
    static char buf[DATAGRAM_MAX];
    /* Room for the sender and nothing else: descriptors that come along are closed by the kernel,
     * which is what systemd-notify waits for (BARRIER=1). */
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(sizeof(struct ucred))];
    } control;
    struct iovec v = {buf, sizeof(buf)};
    struct msghdr m = {
        .msg_iov = &v, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
    ssize_t n = recvmsg(i->notify.fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0)
        return false;
    const struct ucred *who = sender_of(&m);
    if (who && orphans_owns(i, who->pid, who->uid)) {
        take_message(i, (struct str){buf, (size_t)n});
    } else if (!i->notify.stranger) {
        i->notify.stranger = true;
        log_warn("a stranger wrote to the NOTIFY_SOCKET of an instance, passed over", "service",
                 "%s", i->svc->name, "instance", "%" PRIu64, i->id, "pid", "%d",
                 who ? (int)who->pid : 0);
    }
    return true;
}

static void on_notify(evutil_socket_t fd, short what, void *arg)
{
    struct instance *i = arg;
    (void)fd, (void)what;
    for (unsigned n = 0; n < TURN_MAX && i->notify.open && take_one(i); n++)
        ;
}

static const char *bind_own(struct instance *i, int fd, const char *path)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    int one = 1;
    if (strlen(path) >= sizeof(un.sun_path))
        return arena_fmt(
                   i->run,
                   "the socket's path %s is longer than 107 bytes; choose a shorter `runtime`",
                   path)
            .p;
    memcpy(un.sun_path, path, strlen(path));
    unlink(path);
    if (setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &one, sizeof(one)) < 0 ||
        bind(fd, (const struct sockaddr *)&un, sizeof(un)) < 0 || chmod(path, 0600) < 0 ||
        (i->user.uid != (uid_t)-1 && chown(path, i->user.uid, i->user.gid) < 0))
        return file_error(i->run, errno, "create", path);
    return NULL;
}

const char *notify_open(struct instance *i)
{
    const char *dir = arena_fmt(i->run, "%s/notify", i->svc->sup->runtime).p;
    const char *path = arena_fmt(i->run, "%s/%" PRIu64, dir, i->id).p;
    const char *err = file_mkdirs(i->run, dir, 0711, (uid_t)-1, (gid_t)-1);
    if (err)
        return err;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    err = fd < 0 ? err_of_errno(errno) : bind_own(i, fd, path);
    if (err) {
        if (fd >= 0)
            close(fd);
        return err;
    }
    i->notify = (struct ready_notify){.open = true, .fd = fd, .path = path};
    event_assign(&i->notify.ev, loop_base(), fd, EV_READ | EV_PERSIST, on_notify, i);
    event_add(&i->notify.ev, NULL);
    return NULL;
}

void notify_close(struct instance *i)
{
    if (!i->notify.open)
        return;
    i->notify.open = false;
    event_del(&i->notify.ev);
    close(i->notify.fd);
    unlink(i->notify.path);
}
