/*
 * admin_client.c - the command line's end of the admin socket: one request, one answer, blocking.
 */
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/file.h"
#include "proxy/admin.h"

#define ANSWER_MAX (64u * 1024 * 1024)

static int dial(struct arena *a, const char *path, const char **err)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(addr.sun_path)) {
        *err = arena_fmt(a, "%s is too long for a socket's path", path).p;
        return -1;
    }
    memcpy(addr.sun_path, path, strlen(path));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0)
        return fd;
    int code = errno;
    if (fd >= 0)
        close(fd);
    if (code == ENOENT || code == ECONNREFUSED)
        *err = arena_fmt(a,
                         "no headgate serves at %s; start it with `headgate run`, or name another "
                         "place with --socket or --config",
                         path)
                   .p;
    else
        *err = file_error(a, code, "connect to", path);
    return -1;
}

/* One line, malloc'ed; NULL when the server went away before its end. */
static char *read_line(int fd)
{
    size_t n = 0, cap = 4096;
    char *p = malloc(cap);
    ASSERT(p);
    while (n < ANSWER_MAX) {
        if (n + 1 == cap) {
            cap *= 2;
            p = realloc(p, cap);
            ASSERT(p);
        }
        ssize_t got = read(fd, p + n, cap - n - 1);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        n += (size_t)got;
        if (p[n - 1] == '\n') {
            p[n - 1] = '\0';
            return p;
        }
    }
    free(p);
    return NULL;
}

static void wait_for_end(int fd)
{
    char byte;
    ssize_t n;
    do {
        n = read(fd, &byte, 1);
    } while (n > 0 || (n < 0 && errno == EINTR));
}

json_t *admin_call(struct arena *a, const char *path, json_t *request, bool till_exit,
                   const char **err)
{
    int fd = dial(a, path, err);
    if (fd < 0)
        return NULL;
    char *text = json_dumps(request, JSON_COMPACT);
    ASSERT(text);
    const char *bad = fd_write_all(fd, arena_fmt(a, "%s\n", text));
    free(text);
    char *line = bad ? NULL : read_line(fd);
    if (line && till_exit)
        wait_for_end(fd);
    close(fd);
    json_error_t why;
    json_t *reply = line ? json_loads(line, 0, &why) : NULL;
    free(line);
    if (!reply)
        *err = arena_fmt(a, "the server at %s went away before it answered", path).p;
    return reply;
}
