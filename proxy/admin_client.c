/*
 * admin_client.c - the command line's end of the admin socket: one request, one answer, blocking.
 */
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/file.h"
#include "proxy/admin.h"

#define ANSWER_FIRST (64 * 1024)
#define ANSWER_MAX   (64 * 1024 * 1024) /* bytes of one line: who sends more is no headgate */

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

/* What comes from the server, line by line. */
struct answers {
    const char *path; /* of the socket */
    int fd;
    char *buf;
    size_t n, cap; /* bytes that are there, and that there is room for */
};

/* The request on its way; even where that failed there may be an answer that says why. */
static const char *answers_open(struct answers *s, struct arena *a, const char *path,
                                json_t *request)
{
    const char *err = NULL;
    *s = (struct answers){.path = path, .fd = dial(a, path, &err)};
    if (s->fd < 0)
        return err;
    char *text = json_dumps(request, JSON_COMPACT);
    ASSERT(text);
    struct str line = arena_fmt(a, "%s\n", text);
    free(text);
    while (line.n) {
        const ssize_t sent = send(s->fd, line.p, line.n, MSG_NOSIGNAL);
        if (sent < 0 && errno != EINTR)
            break;
        line = str_sub(line, sent > 0 ? (size_t)sent : 0, line.n);
    }
    return NULL;
}

static void answers_close(struct answers *s)
{
    close(s->fd);
    free(s->buf);
}

/* More bytes; false at the end of them. */
static bool answers_fill(struct answers *s)
{
    if (s->n == s->cap) {
        s->cap = MAX(s->cap * 2, (size_t)ANSWER_FIRST);
        s->buf = realloc(s->buf, s->cap);
        ASSERT(s->buf);
    }
    ssize_t got;
    do {
        got = read(s->fd, s->buf + s->n, s->cap - s->n);
    } while (got < 0 && errno == EINTR);
    s->n += got > 0 ? (size_t)got : 0;
    return got > 0;
}

/*
 * The next line's object; NULL when there is none, and *err says why unless the server ended
 * between two lines.
 */
static json_t *answers_next(struct answers *s, struct arena *a, const char **err)
{
    size_t seen = 0, end;
    json_error_t why;
    for (;;) {
        end = seen + str_chr((struct str){s->buf + seen, s->n - seen}, '\n');
        if (end < s->n)
            break;
        seen = s->n;
        if (seen > ANSWER_MAX) {
            *err =
                arena_fmt(a, "the server at %s answers with more than %d MiB, which is no answer",
                          s->path, ANSWER_MAX >> 20)
                    .p;
            return NULL;
        }
        if (!answers_fill(s)) {
            if (s->n)
                *err =
                    arena_fmt(a, "the server at %s went away in the middle of an answer", s->path)
                        .p;
            return NULL;
        }
    }
    json_t *object = json_loadb(s->buf, end, JSON_ALLOW_NUL, &why);
    if (!json_is_object(object)) {
        *err = arena_fmt(a, "what answers at %s is no headgate: it speaks no JSON", s->path).p;
        json_decref(object);
        return NULL;
    }
    s->n -= end + 1;
    memmove(s->buf, s->buf + end + 1, s->n);
    return object;
}

static json_t *answers_first(struct answers *s, struct arena *a, const char **err)
{
    json_t *reply = answers_next(s, a, err);
    if (!reply && !*err)
        *err = arena_fmt(a, "the server at %s went away before it answered", s->path).p;
    return reply;
}

json_t *admin_call(struct arena *a, const char *path, json_t *request, bool till_exit,
                   const char **err)
{
    struct answers s;
    *err = answers_open(&s, a, path, request);
    if (*err)
        return NULL;
    json_t *reply = answers_first(&s, a, err);
    if (reply && till_exit)
        wait_for_end(s.fd);
    answers_close(&s);
    return reply;
}

const char *admin_follow(struct arena *a, const char *path, json_t *request,
                         bool (*each)(void *ctx, json_t *line), void *ctx)
{
    struct answers s;
    const char *err = answers_open(&s, a, path, request);
    if (err)
        return err;
    json_t *line = answers_first(&s, a, &err);
    while (line && each(ctx, line))
        line = answers_next(&s, a, &err);
    answers_close(&s);
    return err;
}
