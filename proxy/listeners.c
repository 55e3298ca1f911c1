/*
 * listeners.c - binding the addresses of `listen`, or taking the sockets that the service manager
 * bound for us; all or nothing, with errors that say what to do.
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

#include "base/activation.h"
#include "base/file.h"
#include "base/log.h"
#include "proxy/inherit.h"

#define BACKLOG 4096 /* as far as net.core.somaxconn lets it */

/* All that are open, to know which path of a Unix socket is ours already. */
static struct list known = {&known, &known};

const char *listener_kind_text(enum conf_listen_kind k)
{
    static const char *const names[] = {[CONF_LISTEN_HTTP] = "http",
                                        [CONF_LISTEN_HTTPS] = "https",
                                        [CONF_LISTEN_METRICS] = "metrics",
                                        [CONF_LISTEN_STREAM] = "stream"};
    return names[k];
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

/* Another of our listeners at the same path: the address changed its kind. */
static const struct listener *same_path(const struct listener *l)
{
    LIST_EACH (&known, it) {
        const struct listener *other = container_of(it, struct listener, known);
        if (other != l && is_unix(&other->addr) && str_eq(other->addr.text, l->addr.text))
            return other;
    }
    return NULL;
}

/*
 * One queue for all slots: a path can be bound once, so the slots' sockets are the same one.
 * Whoever may enter the folder may connect, as with other servers: the folder's mode is the gate.
 */
static int bind_unix(struct listener *l)
{
    const struct listener *other = same_path(l);
    if (other) {
        l->path_id = other->path_id;
        l->shared_fd = fcntl(other->shared_fd, F_DUPFD_CLOEXEC, 3);
        return l->shared_fd < 0 ? errno : 0;
    }
    int err = clear_path(&l->addr);
    if (err)
        return err;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    mode_t before = umask(0111);
    struct stat st = {0};
    bool ok = fd >= 0 && bind(fd, (const struct sockaddr *)&l->addr.sa, l->addr.len) == 0 &&
              lstat(path_of(&l->addr), &st) == 0;
    err = errno;
    umask(before);
    l->path_id = st.st_ino;
    if (ok)
        l->shared_fd = fd;
    else if (fd >= 0)
        close(fd);
    return ok ? 0 : err;
}

/* Only what is still ours: somebody else may have put a socket there meanwhile. */
static void remove_path(const struct listener *l)
{
    struct stat st;
    if (!same_path(l) && lstat(path_of(&l->addr), &st) == 0 && S_ISSOCK(st.st_mode) &&
        st.st_ino == l->path_id)
        unlink(path_of(&l->addr));
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

static struct conf_addr any4(const struct conf_addr *any6)
{
    struct sockaddr_in in = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port_of(any6)),
                             .sin_addr.s_addr = htonl(INADDR_ANY)};
    struct conf_addr addr = {.text = any6->text, .len = sizeof(in)};
    memcpy(&addr.sa, &in, sizeof(in));
    return addr;
}

/* A machine without IPv6: [::] means every address, so every IPv4 address is what is left of it. */
static void fall_back_to_v4(struct listener *l)
{
    l->addr = any4(&l->addr);
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
        if (err == ENOENT) {
            const char *slash = strrchr(path_of(addr), '/');
            return arena_fmt(a,
                             "there is no folder %.*s; headgate makes the socket, not its folder",
                             (int)(slash - path_of(addr)), path_of(addr))
                .p;
        }
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

static const char *listen_error(struct arena *a, const struct conf_listen *c, const char *why)
{
    /* A default stands nowhere in the file. */
    struct str place = c->place.line ? arena_fmt(a, STR_FMT ":%u:%u: ", STR_ARG(c->place.file),
                                                 c->place.line, c->place.col)
                                     : STR("");
    const char *else_where = c->kind == CONF_LISTEN_METRICS && !c->place.line
                                 ? "; or write `metrics: off`, or another address there"
                                 : "";
    return arena_fmt(a, STR_FMT "cannot listen on " STR_FMT " (%s): %s%s", STR_ARG(place),
                     STR_ARG(c->addr.text), listener_kind_text(c->kind), why, else_where)
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
            l->shared_fd >= 0 ? fcntl(l->shared_fd, F_DUPFD_CLOEXEC, 3) : bind_one(&l->addr, false);
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

static struct listener *listener_new(const struct conf_listen *c)
{
    static uint32_t last_id;
    struct listener *l = calloc(1, sizeof(*l));
    ASSERT(l);
    l->id = ++last_id;
    l->shared_fd = -1;
    l->kind = c->kind;
    l->addr = c->addr;
    l->addr.text = str_of(strndup(c->addr.text.p, c->addr.text.n));
    ASSERT(l->addr.text.p);
    list_append(&known, &l->known);
    return l;
}

/*
 * SO_REUSEPORT would let a second server of the same user share the port and half of its clients in
 * silence; a first socket without it finds that out. 0, or errno.
 */
static int probe(struct listener *l)
{
    int fd = bind_one(&l->addr, true);
    if (fd < 0 && errno == EAFNOSUPPORT && is_any6(&l->addr)) {
        fall_back_to_v4(l);
        fd = bind_one(&l->addr, true);
    }
    if (fd < 0)
        return errno;
    close(fd);
    return 0;
}

/* ---- sockets from the service manager ---- */

static bool is_given(const struct conf_addr *addr)
{
    return addr->sa.ss_family == AF_UNSPEC;
}

/* What the manager passed, for who misspelt a name. */
static const char *names_given(struct arena *a)
{
    struct str names = STR("");
    for (unsigned i = 0; i < activation_count(); i++)
        names = arena_fmt(a, STR_FMT "%s`" STR_FMT "`", STR_ARG(names), names.n ? ", " : "",
                          STR_ARG(activation_at(i)->name));
    return names.n ? arena_fmt(a, "it passed " STR_FMT, STR_ARG(names)).p
                   : "it passed none at all (LISTEN_FDS)";
}

/* A stream socket that listens; NULL, or what it is instead. */
static const char *given_check(int fd)
{
    int type = 0, domain = 0, listens = 0;
    socklen_t len = sizeof(int);
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0)
        return "what the service manager passed under this name is no socket";
    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) < 0 || type != SOCK_STREAM ||
        (domain != AF_INET && domain != AF_INET6 && domain != AF_UNIX))
        return "the socket that the service manager passed is not a stream of TCP or Unix "
               "(ListenStream=)";
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) < 0 || !listens)
        return "the socket that the service manager passed is one connection, not a listener "
               "(Accept=no)";
    return fd_nonblock(fd);
}

/* A unit with several ListenStream= passes several sockets of one name: all of them are served. */
static const char *open_given(struct arena *a, const struct conf_listen *c, unsigned slots,
                              struct list *into)
{
    struct str name = str_sub(c->addr.text, 3, c->addr.text.n);
    unsigned i = 0, found = 0;
    const struct activation *g;
    struct list opened;
    const char *err = NULL;
    list_init(&opened);
    while (!err && (g = activation_next(name, &i))) {
        err = given_check(g->fd);
        if (err)
            break;
        struct listener *l = listener_new(c);
        list_append(&opened, &l->link);
        found++;
        /* The original stays where it is: the address may leave the configuration and come back. */
        l->shared_fd = fcntl(g->fd, F_DUPFD_CLOEXEC, 3);
        if (l->shared_fd < 0 || add_socks(l, slots) != 0)
            err = err_of_errno(errno);
    }
    if (!err && !found)
        err = arena_fmt(a,
                        "the service manager passed no socket of this name; %s. In the .socket "
                        "unit: FileDescriptorName=" STR_FMT,
                        names_given(a), STR_ARG(name))
                  .p;
    LIST_EACH_SAFE (&opened, it) {
        struct listener *l = container_of(it, struct listener, link);
        list_remove(it);
        if (err)
            listener_close(&l);
        else
            list_append(into, &l->link);
    }
    errno = ENOENT;
    return err ? listen_error(a, c, err) : NULL;
}

/* What the master before us listened on here goes on; false when there was none. */
static bool take_inherited(struct listener *l)
{
    int fd = inherit_take(&l->addr);
    if (fd < 0 && is_any6(&l->addr)) {
        struct conf_addr v4 = any4(&l->addr);
        fd = inherit_take(&v4);
        if (fd >= 0)
            fall_back_to_v4(l);
    }
    if (is_unix(&l->addr)) {
        struct stat st = {0};
        l->shared_fd = fd;
        if (fd >= 0 && lstat(path_of(&l->addr), &st) == 0)
            l->path_id = st.st_ino;
        return fd >= 0;
    }
    for (; fd >= 0; fd = inherit_take(&l->addr)) {
        l->socks = reallocarray(l->socks, l->n_socks + 1, sizeof(*l->socks));
        ASSERT(l->socks);
        l->socks[l->n_socks++] = (struct listener_sock){.fd = fd, .listening = true};
    }
    return l->n_socks > 0;
}

const char *listener_open(struct arena *a, const struct conf_listen *c, unsigned slots, bool shared,
                          struct list *into)
{
    if (is_given(&c->addr))
        return open_given(a, c, slots, into);
    struct listener *l = listener_new(c);
    int err = 0;
    if (!take_inherited(l))
        err = is_unix(&l->addr) ? bind_unix(l) : shared ? 0 : probe(l);
    if (!err)
        err = add_socks(l, slots);
    if (!err) {
        list_append(into, &l->link);
        return NULL;
    }
    const char *text = listen_error(a, c, cure(a, err, &l->addr));
    listener_close(&l);
    errno = err;
    return text;
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
    if (l->shared_fd >= 0)
        close(l->shared_fd);
    if (l->shared_fd >= 0 && is_unix(&l->addr))
        remove_path(l);
    list_remove(&l->known);
    free(l->socks);
    free((void *)(uintptr_t)l->addr.text.p);
    free(l);
}
