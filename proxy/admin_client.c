/*
 * admin_client.c - the command line's end of the admin socket: one request, one answer, blocking.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/file.h"
#include "proxy/admin.h"

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

static void wait_for_end(int fd)
{
    char byte;
    ssize_t n;
    do {
        n = read(fd, &byte, 1);
    } while (n > 0 || (n < 0 && errno == EINTR));
}

/* The socket with the request on its way, or NULL. */
static FILE *request_sent(struct arena *a, const char *path, json_t *request, const char **err)
{
    int fd = dial(a, path, err);
    if (fd < 0)
        return NULL;
    char *text = json_dumps(request, JSON_COMPACT);
    ASSERT(text);
    *err = fd_write_all(fd, arena_fmt(a, "%s\n", text));
    free(text);
    FILE *f = fdopen(fd, "r");
    ASSERT(f);
    return f;
}

/* The next line; NULL when the server went away before its end, or it is no JSON. */
static json_t *next_object(FILE *f)
{
    char *line = NULL;
    size_t cap = 0;
    json_error_t why;
    ssize_t n = getline(&line, &cap, f);
    json_t *object = n > 0 && line[n - 1] == '\n' ? json_loads(line, 0, &why) : NULL;
    free(line);
    return object;
}

static const char *went_away(struct arena *a, const char *path)
{
    return arena_fmt(a, "the server at %s went away before it answered", path).p;
}

json_t *admin_call(struct arena *a, const char *path, json_t *request, bool till_exit,
                   const char **err)
{
    FILE *f = request_sent(a, path, request, err);
    if (!f)
        return NULL;
    json_t *reply = *err ? NULL : next_object(f);
    if (reply && till_exit)
        wait_for_end(fileno(f));
    fclose(f);
    if (!reply)
        *err = went_away(a, path);
    return reply;
}

const char *admin_follow(struct arena *a, const char *path, json_t *request,
                         bool (*each)(void *ctx, json_t *line), void *ctx)
{
    const char *err = NULL;
    FILE *f = request_sent(a, path, request, &err);
    if (!f)
        return err;
    json_t *line = err ? NULL : next_object(f);
    err = line ? NULL : went_away(a, path);
    while (line && each(ctx, line))
        line = next_object(f);
    fclose(f);
    return err;
}
