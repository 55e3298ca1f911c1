/*
 * address.c - where an instance listens: a free TCP port of the loopback, a Unix socket in a folder
 * of its own, a listening socket that it is handed, or the address that the config fixed; and its
 * further ports. But for the socket nothing stays bound here: a port is only probed, and an
 * instance that finds it taken is started again with another (address_lost).
 */
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "channels/instance.h"

#define PORT_TRIES 64

struct inst_address instance_address(const struct instance *i)
{
    return (struct inst_address){.text = i->addr.text.p,
                                 .url = i->url ? &i->backend : NULL,
                                 .ports = i->ports,
                                 .n_ports = i->n_ports};
}

/* 0, or the errno of binding to it. */
static int bind_probe(const struct sockaddr *sa, socklen_t len, struct sockaddr_in *got)
{
    int fd = socket(sa->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1, err = 0;
    if (fd < 0)
        return errno;
    /* As servers do it: what only lingers in TIME_WAIT is no obstacle to them. */
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    socklen_t n = sizeof(*got);
    if (bind(fd, sa, len) < 0 || (got && getsockname(fd, (struct sockaddr *)got, &n) < 0))
        err = errno;
    close(fd);
    return err;
}

static struct sockaddr_in loopback(uint16_t port)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static bool has_port(const struct instance *i, uint16_t port)
{
    for (unsigned k = 0; k < i->n_ports; k++)
        if (i->ports[k].number == port)
            return true;
    return i->port == port;
}

static bool port_avoided(const struct supervisor *s, uint16_t port)
{
    for (unsigned k = 0; k < PORTS_AVOIDED; k++) {
        if (s->avoid[k] == port)
            return true;
    }
    LIST_EACH (&s->services, l) {
        const struct service *svc = container_of(l, struct service, link);
        LIST_EACH (&svc->instances, il) {
            if (has_port(container_of(il, struct instance, link), port))
                return true;
        }
    }
    return false;
}

static const char *free_port(struct instance *i, uint16_t *port)
{
    struct sockaddr_in any = loopback(0), got;
    for (unsigned k = 0; k < PORT_TRIES; k++) {
        int err = bind_probe((const struct sockaddr *)&any, sizeof(any), &got);
        if (err)
            return arena_fmt(i->run, "no free port on 127.0.0.1: %s", err_of_errno(err)).p;
        *port = ntohs(got.sin_port);
        if (!port_avoided(i->svc->sup, *port))
            return NULL;
    }
    return "no free port on 127.0.0.1 was found; are thousands of programs listening?";
}

static void set_tcp(struct instance *i, struct conf_addr *addr, uint16_t port)
{
    struct sockaddr_in sa = loopback(port);
    memset(addr, 0, sizeof(*addr));
    memcpy(&addr->sa, &sa, sizeof(sa));
    addr->len = sizeof(sa);
    addr->text = arena_fmt(i->run, "127.0.0.1:%u", port);
}

static const char *choose_tcp(struct instance *i)
{
    uint16_t port;
    const char *err = free_port(i, &port);
    if (err)
        return err;
    i->port = port; /* only now: it would be found taken, by itself */
    set_tcp(i, &i->addr, port);
    return NULL;
}

/*
 * A socket that outlives the process: kept as long as the instance is to run, so that clients of a
 * program that starts again queue and are not refused.
 */
static const char *choose_fd(struct instance *i)
{
    struct sockaddr_in sa = loopback(0);
    socklen_t n = sizeof(sa);
    if (i->listen_fd < 0)
        i->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    else if (getsockname(i->listen_fd, (struct sockaddr *)&sa, &n) < 0)
        return err_of_errno(errno);
    if (!sa.sin_port && (i->listen_fd < 0 || bind(i->listen_fd, (struct sockaddr *)&sa, n) < 0 ||
                         listen(i->listen_fd, SOMAXCONN) < 0 ||
                         getsockname(i->listen_fd, (struct sockaddr *)&sa, &n) < 0))
        return arena_fmt(i->run, "cannot listen on 127.0.0.1: %s", err_of_errno(errno)).p;
    set_tcp(i, &i->addr, ntohs(sa.sin_port));
    return NULL;
}

static const char *port_taken(struct instance *i, const struct sockaddr *sa, socklen_t len,
                              const char *text)
{
    int err = bind_probe(sa, len, NULL);
    if (err == EADDRINUSE)
        return arena_fmt(i->run,
                         "%s is taken by another program; stop it, or choose another port "
                         "(ss -ltnp shows who it is)",
                         text)
            .p;
    if (err == EADDRNOTAVAIL)
        return arena_fmt(i->run, "%s is no address of this machine", text).p;
    return NULL; /* a port below 1024 may be the service's and yet not ours to bind */
}

static const char *choose_ports(struct instance *i)
{
    const struct conf_service *def = i->svc->def;
    struct conf_port *ports = arena_zarray(i->run, struct conf_port, def->n_ports + 1);
    const char *err = NULL;
    i->ports = ports;
    for (unsigned k = 0; k < def->n_ports && !err; k++) {
        struct conf_addr addr;
        ports[k] = (struct conf_port){arena_str(i->run, def->ports[k].name), def->ports[k].number};
        if (!ports[k].number) {
            err = free_port(i, &ports[k].number);
        } else {
            set_tcp(i, &addr, ports[k].number);
            err = port_taken(i, (const struct sockaddr *)&addr.sa, addr.len, addr.text.p);
        }
        i->n_ports = k + 1; /* one by one: the next one is another */
    }
    return err;
}

/* Somebody else has a port that was chosen for it: not again. */
static bool port_lost(struct supervisor *s, uint16_t port)
{
    struct sockaddr_in sa = loopback(port);
    if (!port || bind_probe((const struct sockaddr *)&sa, sizeof(sa), NULL) != EADDRINUSE)
        return false;
    s->avoid[s->avoid_next++ % PORTS_AVOIDED] = port;
    return true;
}

bool address_lost(struct instance *i)
{
    const struct conf_service *def = i->svc->def;
    bool lost = port_lost(i->svc->sup, i->port);
    for (unsigned k = 0; def && k < MIN(i->n_ports, def->n_ports); k++)
        lost = (!def->ports[k].number && port_lost(i->svc->sup, i->ports[k].number)) || lost;
    return lost;
}

static bool set_unix(struct instance *i, const char *path)
{
    struct sockaddr_un *un = (struct sockaddr_un *)&i->addr.sa;
    size_t n = strlen(path);
    if (n >= sizeof(un->sun_path))
        return false;
    memset(&i->addr.sa, 0, sizeof(i->addr.sa));
    un->sun_family = AF_UNIX;
    memcpy(un->sun_path, path, n);
    i->addr.len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + 1);
    i->addr.text = arena_fmt(i->run, "unix:%s", path);
    return true;
}

static const char *short_hash(struct arena *a, const char *name)
{
    /* It names a folder and guards nothing. */
    return arena_fmt(a, "%016" PRIx64, fnv1a(FNV1A_BASIS, str_of(name))).p;
}

/*
 * Removes a socket that nobody listens on any more. Somebody who does is an error: two servers
 * behind one path would take turns unseen.
 */
static const char *clear_unix(struct instance *i, const char *path)
{
    struct stat st;
    if (lstat(path, &st) < 0)
        return NULL;
    if (!S_ISSOCK(st.st_mode))
        return arena_fmt(i->run,
                         "%s exists and is no socket; remove it, or choose another `listen`", path)
            .p;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_of_errno(errno);
    int rc = connect(fd, (const struct sockaddr *)&i->addr.sa, i->addr.len), err = errno;
    close(fd);
    if (rc == 0 || err == EAGAIN)
        return arena_fmt(i->run,
                         "%s is taken: another program listens there; stop it, or choose another "
                         "`listen`",
                         path)
            .p;
    if (unlink(path) < 0 && errno != ENOENT)
        return file_error(i->run, errno, "remove", path);
    return NULL;
}

static const char *choose_unix(struct instance *i)
{
    const struct conf_service *def = i->svc->def;
    const char *runtime = i->svc->sup->runtime;
    const char *dir = arena_fmt(i->run, "%s/services/" STR_FMT "/" STR_FMT, runtime,
                                STR_ARG(def->site), STR_ARG(def->short_name))
                          .p;
    const char *path = arena_fmt(i->run, "%s/%" PRIu64 ".sock", dir, i->id).p;
    if (!set_unix(i, path)) {
        dir = arena_fmt(i->run, "%s/services/%s", runtime, short_hash(i->run, i->svc->name)).p;
        path = arena_fmt(i->run, "%s/%" PRIu64 ".sock", dir, i->id).p;
        if (!set_unix(i, path))
            return arena_fmt(i->run,
                             "the socket's path %s is longer than 107 bytes; choose a shorter "
                             "`runtime`",
                             path)
                .p;
    }
    /* Its own user makes the socket there; headgate's group, and nobody else, may reach it. */
    bool foreign = i->user.uid != (uid_t)-1;
    gid_t gid = foreign ? i->svc->sup->conf->gid : (gid_t)-1;
    const char *err = file_mkdirs(i->run, dir, foreign ? 02710 : 0700, i->user.uid, gid);
    if (!err)
        err = clear_unix(i, path);
    i->socket = path;
    return err;
}

static const char *choose_fixed(struct instance *i)
{
    const struct conf_service *def = i->svc->def;
    i->addr = def->fixed;
    i->addr.text = arena_str(i->run, def->fixed.text);
    if (def->fixed.sa.ss_family == AF_UNIX) {
        const struct sockaddr_un *un = (const struct sockaddr_un *)&i->addr.sa;
        return clear_unix(i, arena_fmt(i->run, "%.*s", (int)sizeof(un->sun_path), un->sun_path).p);
    }
    return port_taken(i, (const struct sockaddr *)&i->addr.sa, i->addr.len, i->addr.text.p);
}

static const char *choose_own(struct instance *i)
{
    const struct conf_service *def = i->svc->def;
    if (def->fixed.len)
        return choose_fixed(i);
    switch (def->listen) {
    case CONF_SVC_UNIX:
        return choose_unix(i);
    case CONF_SVC_FD:
        return choose_fd(i);
    case CONF_SVC_TCP:
        break;
    }
    /* A program that is told of its ports only listens at those. */
    if (def->n_ports && !def->listens) {
        set_tcp(i, &i->addr, i->ports[def->ready_port].number);
        return NULL;
    }
    return choose_tcp(i);
}

const char *address_choose(struct instance *i)
{
    const struct conf_service *def = i->svc->def;
    i->port = 0;
    i->n_ports = 0;
    i->socket = NULL;
    memset(&i->addr, 0, sizeof(i->addr));
    if (i->listen_fd >= 0 && def->listen != CONF_SVC_FD) {
        close(i->listen_fd); /* the definition changed under an instance that starts again */
        i->listen_fd = -1;
    }
    const char *err = choose_ports(i);
    if (!err)
        err = choose_own(i);
    i->asked = i->addr;
    if (!err && def->ready_port < i->n_ports)
        set_tcp(i, &i->asked, i->ports[def->ready_port].number);
    return err;
}
