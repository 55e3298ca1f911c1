/*
 * listeners.c - binding the addresses of `listen`, all or nothing, with errors that say what to do.
 */
#include "proxy/listeners.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"

#define BACKLOG 4096 /* as far as net.core.somaxconn lets it */

const char *listener_kind_text(enum conf_listen_kind k)
{
    return k == CONF_LISTEN_HTTPS ? "https" : "http";
}

bool listener_same(const struct listener *l, const struct conf_listen *c)
{
    return l->kind == c->kind && str_eq(l->addr.text, c->addr.text);
}

static int option(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof(value));
}

/* A bound socket, or -1 and errno. `alone`: without SO_REUSEPORT, to see whether others are there.
 */
static int bind_one(const struct conf_addr *addr, bool alone)
{
    const struct sockaddr *sa = (const struct sockaddr *)&addr->sa;
    int fd = socket(sa->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    bool ok = option(fd, SOL_SOCKET, SO_REUSEADDR, 1) == 0 &&
              (alone || option(fd, SOL_SOCKET, SO_REUSEPORT, 1) == 0) &&
              (sa->sa_family != AF_INET6 || option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0) == 0) &&
              bind(fd, sa, addr->len) == 0;
    if (ok)
        return fd;
    int err = errno;
    close(fd);
    errno = err;
    return -1;
}

static bool is_any6(const struct conf_addr *addr)
{
    struct sockaddr_in6 in6;
    if (addr->sa.ss_family != AF_INET6)
        return false;
    memcpy(&in6, &addr->sa, sizeof(in6));
    return IN6_IS_ADDR_UNSPECIFIED(&in6.sin6_addr);
}

static bool is_unix(const struct conf_addr *addr)
{
    return addr->sa.ss_family == AF_UNIX;
}

static const char *path_of(const struct conf_addr *addr)
{
    return ((const struct sockaddr_un *)(const void *)&addr->sa)->sun_path;
}

/* A socket file that nobody listens at is left over from a server that was killed. */
static int clear_path(const struct conf_addr *addr)
{
    struct stat st;
    if (lstat(path_of(addr), &st) < 0)
        return 0; /* bind says what is wrong with the rest of the path */
    if (!S_ISSOCK(st.st_mode))
        return EEXIST;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool alive = fd >= 0 && (connect(fd, (const struct sockaddr *)&addr->sa, addr->len) == 0 ||
                             errno == EAGAIN);
    if (fd >= 0)
        close(fd);
    if (alive)
        return EADDRINUSE;
    unlink(path_of(addr));
    return 0;
}

/* One queue for all slots: a path can be bound once, so the slots' sockets are the same one. */
static int bind_unix(struct listener *l)
{
    int err = clear_path(&l->addr);
    if (err)
        return err;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    mode_t before = umask(0111); /* whoever may enter the folder may connect */
    bool ok = fd >= 0 && bind(fd, (const struct sockaddr *)&l->addr.sa, l->addr.len) == 0;
    err = errno;
    umask(before);
    if (ok)
        l->unix_fd = fd;
    else if (fd >= 0)
        close(fd);
    return ok ? 0 : err;
}

static unsigned port_of(const struct conf_addr *addr)
{
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
    if (addr->sa.ss_family == AF_INET) {
        memcpy(&in, &addr->sa, sizeof(in));
        return ntohs(in.sin_port);
    }
    memcpy(&in6, &addr->sa, sizeof(in6));
    return ntohs(in6.sin6_port);
}

/* A machine without IPv6: [::] means every address, so every IPv4 address is what is left of it. */
static void fall_back_to_v4(struct listener *l)
{
    struct sockaddr_in in = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port_of(&l->addr)),
                             .sin_addr.s_addr = htonl(INADDR_ANY)};
    memset(&l->addr.sa, 0, sizeof(l->addr.sa));
    memcpy(&l->addr.sa, &in, sizeof(in));
    l->addr.len = sizeof(in);
    l->v4_only = true;
    log_warn("this machine has no IPv6: listening on IPv4 only", "address", "%s", l->addr.text.p);
}

static const char *cure(struct arena *a, int err, const struct conf_addr *addr)
{
    if (is_unix(addr)) {
        if (err == EADDRINUSE)
            return "the address is in use: another program listens there";
        if (err == EEXIST)
            return "there is a file of this name that is no socket; remove it";
        return file_error(a, err, "create", path_of(addr));
    }
    unsigned port = port_of(addr);
    switch (err) {
    case EADDRINUSE:
        return arena_fmt(a,
                         "the address is in use: another program listens there; `ss -ltnp 'sport = "
                         ":%u'` names it. "
                         "Stop it, or choose another port",
                         port)
            .p;
    case EACCES:
    case EPERM:
        return arena_fmt(
                   a,
                   "permission denied: ports below 1024 need CAP_NET_BIND_SERVICE (start as root, "
                   "or `setcap cap_net_bind_service=+ep` on the program, or choose a port above "
                   "1023)")
            .p;
    case EADDRNOTAVAIL:
        return "this machine has no such address; `ip address` lists those that it has";
    case EAFNOSUPPORT:
        return "this machine has no IPv6; give an IPv4 address";
    case EMFILE:
    case ENFILE:
        return "too many open files; raise the limit (LimitNOFILE=)";
    default:
        return err_of_errno(err);
    }
}

static const char *bind_error(struct arena *a, int err, const struct conf_listen *c,
                              const struct conf_addr *addr)
{
    /* A default stands nowhere in the file. */
    struct str place = c->place.line ? arena_fmt(a, STR_FMT ":%u:%u: ", STR_ARG(c->place.file),
                                                 c->place.line, c->place.col)
                                     : STR("");
    return arena_fmt(a, STR_FMT "cannot listen on " STR_FMT " (%s): %s", STR_ARG(place),
                     STR_ARG(c->addr.text), listener_kind_text(c->kind), cure(a, err, addr))
        .p;
}

/* Sockets from l->n_socks up to `slots`; 0, or errno with nothing added. */
static int add_socks(struct listener *l, unsigned slots)
{
    unsigned before = l->n_socks;
    if (slots <= before)
        return 0;
    l->socks = reallocarray(l->socks, slots, sizeof(*l->socks));
    ASSERT(l->socks);
    for (; l->n_socks < slots; l->n_socks++) {
        int fd =
            is_unix(&l->addr) ? fcntl(l->unix_fd, F_DUPFD_CLOEXEC, 3) : bind_one(&l->addr, false);
        if (fd < 0) {
            int err = errno;
            while (l->n_socks > before)
                close(l->socks[--l->n_socks].fd);
            return err;
        }
        l->socks[l->n_socks] = (struct listener_sock){.fd = fd};
    }
    return 0;
}

const char *listener_open(struct arena *a, const struct conf_listen *c, unsigned slots, bool shared,
                          struct listener **out)
{
    static uint32_t last_id;
    int err = 0;
    struct listener *l = calloc(1, sizeof(*l));
    ASSERT(l);
    l->id = ++last_id;
    l->unix_fd = -1;
    l->kind = c->kind;
    l->addr = c->addr;
    l->addr.text = str_of(strndup(c->addr.text.p, c->addr.text.n));
    ASSERT(l->addr.text.p);
    /*
     * SO_REUSEPORT would let a second server of the same user share the port and half of its
     * clients in silence; a first socket without it finds that out.
     */
    bool probing = !shared && !is_unix(&l->addr);
    int probe = probing ? bind_one(&l->addr, true) : -1;
    if (probing && probe < 0 && errno == EAFNOSUPPORT && is_any6(&l->addr)) {
        fall_back_to_v4(l);
        probe = bind_one(&l->addr, true);
    }
    if (probing && probe < 0)
        err = errno;
    if (is_unix(&l->addr))
        err = bind_unix(l);
    if (probe >= 0)
        close(probe);
    if (!err)
        err = add_socks(l, slots);
    if (err) {
        const char *text = bind_error(a, err, c, &l->addr);
        listener_close(&l);
        errno = err;
        return text;
    }
    *out = l;
    return NULL;
}

const char *listener_grow(struct arena *a, struct listener *l, unsigned slots)
{
    int err = add_socks(l, slots);
    if (!err)
        return NULL;
    return arena_fmt(a, "cannot listen on " STR_FMT " for more workers: %s", STR_ARG(l->addr.text),
                     cure(a, err, &l->addr))
        .p;
}

const char *listener_listen(struct listener_sock *s)
{
    if (s->listening)
        return NULL;
    if (listen(s->fd, BACKLOG) < 0)
        return err_of_errno(errno);
    s->listening = true;
    return NULL;
}

void listener_close(struct listener **lp)
{
    struct listener *l = *lp;
    *lp = NULL;
    if (!l)
        return;
    for (unsigned i = 0; i < l->n_socks; i++)
        if (l->socks[i].fd >= 0)
            close(l->socks[i].fd);
    if (l->unix_fd >= 0) {
        close(l->unix_fd);
        unlink(path_of(&l->addr));
    }
    free(l->socks);
    free((void *)(uintptr_t)l->addr.text.p);
    free(l);
}
