/*
 * inherit.c - sockets found, told apart by inode, looked up by address.
 */
#include "proxy/inherit.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/file.h"

struct inherited {
    int fd;
    ino_t id; /* of the socket: many descriptors may be the same one */
};

static struct {
    struct inherited *v;
    unsigned n, cap;
} found;

static bool listens(int fd)
{
    int type = 0, yes = 0;
    socklen_t len = sizeof(int);
    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && type == SOCK_STREAM &&
           getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &yes, &len) == 0 && yes && !fd_nonblock(fd);
}

void inherit_add(int fd)
{
    struct stat st;
    bool good = listens(fd) && fstat(fd, &st) == 0;
    for (unsigned i = 0; i < found.n && good; i++)
        good = found.v[i].id != st.st_ino;
    if (!good) {
        close(fd);
        return;
    }
    if (found.n == found.cap) {
        found.cap = found.cap ? found.cap * 2 : 32;
        found.v = reallocarray(found.v, found.cap, sizeof(*found.v));
        ASSERT(found.v);
    }
    found.v[found.n++] = (struct inherited){.fd = fd, .id = st.st_ino};
}

static bool same_address(const struct sockaddr_storage *x, const struct sockaddr_storage *y)
{
    if (x->ss_family != y->ss_family)
        return false;
    if (x->ss_family == AF_INET) {
        const struct sockaddr_in *a = (const void *)x, *b = (const void *)y;
        return a->sin_port == b->sin_port && a->sin_addr.s_addr == b->sin_addr.s_addr;
    }
    if (x->ss_family == AF_INET6) {
        const struct sockaddr_in6 *a = (const void *)x, *b = (const void *)y;
        return a->sin6_port == b->sin6_port &&
               memcmp(&a->sin6_addr, &b->sin6_addr, sizeof(a->sin6_addr)) == 0;
    }
    const struct sockaddr_un *a = (const void *)x, *b = (const void *)y;
    return x->ss_family == AF_UNIX && strncmp(a->sun_path, b->sun_path, sizeof(a->sun_path)) == 0;
}

int inherit_take(const struct conf_addr *addr)
{
    for (unsigned i = 0; i < found.n; i++) {
        struct sockaddr_storage sa = {0};
        socklen_t len = sizeof(sa);
        int fd = found.v[i].fd;
        if (getsockname(fd, (struct sockaddr *)&sa, &len) < 0 || !same_address(&sa, &addr->sa))
            continue;
        found.v[i] = found.v[--found.n];
        return fd;
    }
    return -1;
}

void inherit_drop(void)
{
    while (found.n)
        close(found.v[--found.n].fd);
    free(found.v);
    found.v = NULL;
    found.cap = 0;
}
