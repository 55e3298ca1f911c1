/*
 * address.c - where an instance listens: a free TCP port of the loopback, a Unix socket in a folder
 * of its own, or the address that the config fixed. Nothing stays bound here: the port is only
 * probed, and an instance that finds it taken is started again with another (address_lost).
 */
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "channels/instance.h"

#define PORT_TRIES 64

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

static bool port_avoided(const struct supervisor *s, uint16_t port)
{
    for (unsigned k = 0; k < PORTS_AVOIDED; k++) {
        if (s->avoid[k] == port)
            return true;
    }
    LIST_EACH (&s->services, l) {
        const struct service *svc = container_of(l, struct service, link);
        LIST_EACH (&svc->instances, il) {
            if (container_of(il, struct instance, link)->port == port)
                return true;
        }
    }
    return false;
}

static const char *choose_tcp(struct instance *i)
{
    struct sockaddr_in any = loopback(0), got;
    for (unsigned k = 0; k < PORT_TRIES; k++) {
        int err = bind_probe((const struct sockaddr *)&any, sizeof(any), &got);
        if (err)
            return arena_fmt(i->run, "no free port on 127.0.0.1: %s", err_of_errno(err)).p;
        uint16_t port = ntohs(got.sin_port);
        if (port_avoided(i->svc->sup, port))
            continue;
        i->port = port;
        memcpy(&i->addr.sa, &got, sizeof(got));
        i->addr.len = sizeof(got);
        i->addr.text = arena_fmt(i->run, "127.0.0.1:%u", port);
        return NULL;
    }
    return "no free port on 127.0.0.1 was found; are thousands of programs listening?";
}

bool address_lost(struct instance *i)
{
    struct supervisor *s = i->svc->sup;
    struct sockaddr_in sa = loopback(i->port);
    if (!i->port || bind_probe((const struct sockaddr *)&sa, sizeof(sa), NULL) != EADDRINUSE)
        return false;
    s->avoid[s->avoid_next++ % PORTS_AVOIDED] = i->port;
    return true;
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
    uint64_t h = 0xcbf29ce484222325u; /* FNV-1a: names a folder, guards nothing */
    for (; *name; name++)
        h = (h ^ (unsigned char)*name) * 0x100000001b3u;
    return arena_fmt(a, "%016" PRIx64, h).p;
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
    int err = bind_probe((const struct sockaddr *)&i->addr.sa, i->addr.len, NULL);
    if (err == EADDRINUSE)
        return arena_fmt(i->run,
                         "%s is taken by another program; stop it, or choose another `listen` "
                         "(ss -ltnp shows who it is)",
                         i->addr.text.p)
            .p;
    if (err == EADDRNOTAVAIL)
        return arena_fmt(i->run, "%s is no address of this machine", i->addr.text.p).p;
    return NULL; /* a port below 1024 may be the service's and yet not ours to bind */
}

const char *address_choose(struct instance *i)
{
    const struct conf_service *def = i->svc->def;
    i->port = 0;
    i->socket = NULL;
    memset(&i->addr, 0, sizeof(i->addr));
    if (def->fixed.len)
        return choose_fixed(i);
    return def->listen == CONF_SVC_UNIX ? choose_unix(i) : choose_tcp(i);
}
