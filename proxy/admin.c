/*
 * admin.c - the master's end of the admin socket: who may connect is the socket file's mode and
 * group; lines in, lines out. Knows no verb.
 */
#include "base/base.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/file.h"
#include "base/io.h"
#include "base/json.h"
#include "base/log.h"
#include "proxy/admin.h"

#define REQUEST_MAX (64 * 1024)
#define CONNS_MAX   64
#define STREAM_MAX  (512 * 1024) /* bytes that may wait for one connection; an answer is more */

struct admin {
    int fd;
    char *path;
    struct event ev;
    struct list conns;
    unsigned n_conns;
    const struct admin_ops *ops;
    void *ctx;
};

enum conn_state { CONN_READING, CONN_BUSY, CONN_ENDING };

struct admin_conn {
    struct list link;
    struct admin *admin;
    struct io io;
    struct turn_task more; /* after an answer: the next line, from a flat stack */
    enum conn_state state;
    bool eof;
    bool starved; /* a line was refused: it hears of it when there is room */
    char *in;     /* bytes of the next request */
    size_t n;
};

static void conn_free(void *p)
{
    struct admin_conn *c = p;
    free(c->in);
    free(c);
}

static void conn_close(struct admin_conn *c)
{
    if (!list_linked(&c->link))
        return;
    list_remove(&c->link);
    c->admin->n_conns--;
    c->admin->ops->on_closed(c->admin->ctx, c);
    turn_task_cancel(&c->more);
    io_close(&c->io);
    loop_free_later(c, conn_free);
}

static struct str reply_line(enum admin_status status, struct str text, json_t *more)
{
    json_t *reply = more ? more : json_object();
    json_object_set_new(reply, "status", json_integer(status));
    json_object_set_new(reply, "text", json_text(text));
    char *dump = json_dumps(reply, JSON_COMPACT);
    json_decref(reply);
    ASSERT(dump);
    return str_of(dump);
}

static void on_more(struct turn_task *t);

void admin_reply(struct admin_conn *c, enum admin_status status, struct str text, json_t *more)
{
    ASSERT(c->state == CONN_BUSY);
    struct str line = reply_line(status, text, more);
    io_write(&c->io, line.p, line.n);
    io_write(&c->io, "\n", 1);
    free((void *)(uintptr_t)line.p);
    c->state = CONN_READING;
    loop_at_turn_end(&c->more, on_more);
}

bool admin_stream(struct admin_conn *c, json_t *object)
{
    bool fits = io_queued(&c->io) < STREAM_MAX;
    char *dump = fits ? json_dumps(object, JSON_COMPACT) : NULL;
    json_decref(object);
    if (!fits) {
        c->starved = true;
        io_want_drain(&c->io);
        return false;
    }
    ASSERT(dump);
    io_write(&c->io, dump, strlen(dump));
    io_write(&c->io, "\n", 1);
    free(dump);
    return true;
}

void admin_reply_last(struct admin_conn *c, enum admin_status status, struct str text)
{
    struct str line = reply_line(status, text, NULL);
    /* Short, on an empty socket: it fits. If the other end is gone, nobody misses it. */
    if (send(c->io.fd, line.p, line.n, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)line.n)
        (void)!send(c->io.fd, "\n", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    free((void *)(uintptr_t)line.p);
}

static void conn_request(struct admin_conn *c, struct str line)
{
    json_error_t bad;
    c->state = CONN_BUSY;
    json_t *request = json_loadb(line.p, line.n, JSON_REJECT_DUPLICATES, &bad);
    const char *verb = json_string_value(json_object_get(request, "verb"));
    if (verb)
        c->admin->ops->on_request(c->admin->ctx, c, verb, request);
    else
        admin_reply(c, ADMIN_USAGE, STR("a request is one line of JSON: {\"verb\": \"status\"}"),
                    NULL);
    json_decref(request);
}

/* The next complete line, when no other is being answered. */
static void conn_take_line(struct admin_conn *c)
{
    if (c->state != CONN_READING)
        return;
    if (io_queued(&c->io) >= STREAM_MAX) { /* who asks and asks and does not read waits */
        io_want_drain(&c->io);
        return;
    }
    size_t end = str_chr((struct str){c->in, c->n}, '\n');
    if (end < c->n) {
        char *line = strndup(c->in, end);
        ASSERT(line);
        c->n -= end + 1;
        memmove(c->in, c->in + end + 1, c->n);
        conn_request(c, (struct str){line, end});
        free(line);
    } else if (c->eof) {
        c->state = CONN_ENDING;
        io_want_drain(&c->io);
    }
}

static void on_more(struct turn_task *t)
{
    conn_take_line(container_of(t, struct admin_conn, more));
}

static void on_read(struct io *io, struct slice data)
{
    struct admin_conn *c = container_of(io, struct admin_conn, io);
    if (data.n > REQUEST_MAX - c->n) {
        log_warn("admin request is too long");
        conn_close(c);
        return;
    }
    memcpy(c->in + c->n, data.p, data.n);
    c->n += data.n;
    conn_take_line(c);
}

static void on_eof(struct io *io)
{
    struct admin_conn *c = container_of(io, struct admin_conn, io);
    c->eof = true; /* half-closed: it still gets its answer */
    conn_take_line(c);
}

static void on_drain(struct io *io)
{
    struct admin_conn *c = container_of(io, struct admin_conn, io);
    if (c->state == CONN_ENDING) {
        conn_close(c);
        return;
    }
    if (c->starved) {
        c->starved = false;
        c->admin->ops->on_room(c->admin->ctx, c);
    }
    conn_take_line(c);
}

static void on_error(struct io *io, const char *err)
{
    (void)err;
    conn_close(container_of(io, struct admin_conn, io));
}

static const struct io_ops conn_ops = {
    .on_read = on_read, .on_eof = on_eof, .on_drain = on_drain, .on_error = on_error};

/* Said at once, without a connection of ours. */
static void refuse(int fd)
{
    struct str line = reply_line(
        ADMIN_REFUSED,
        STR("headgate: too many connections to the admin socket, end one of `headgate logs -f`\n"),
        NULL);
    if (send(fd, line.p, line.n, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)line.n)
        (void)!send(fd, "\n", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    free((void *)(uintptr_t)line.p);
    close(fd);
}

static void on_accept(evutil_socket_t fd, short what, void *arg)
{
    struct admin *s = arg;
    (void)what;
    int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (client < 0)
        return;
    if (s->n_conns >= CONNS_MAX) {
        refuse(client);
        return;
    }
    struct admin_conn *c = calloc(1, sizeof(*c));
    ASSERT(c && (c->in = malloc(REQUEST_MAX)));
    c->admin = s;
    list_append(&s->conns, &c->link);
    s->n_conns++;
    io_init(&c->io, client, &conn_ops);
}

/* ---- the socket ---- */

static const char *bind_at(struct arena *a, int fd, const char *path, mode_t mode, gid_t group)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(addr.sun_path))
        return arena_fmt(
                   a, "admin.socket: %s is longer than the %zu bytes that a socket's path may have",
                   path, sizeof(addr.sun_path) - 1)
            .p;
    memcpy(addr.sun_path, path, strlen(path));
    struct stat st;
    if (lstat(path, &st) == 0 && !S_ISSOCK(st.st_mode))
        return arena_fmt(a, "admin.socket: %s is there and is no socket; remove it", path).p;
    unlink(path);
    /* Nobody may connect before the group is right. */
    mode_t before = umask(0777);
    int rc = bind(fd, (struct sockaddr *)&addr, sizeof(addr)), err = errno;
    umask(before);
    if (rc < 0)
        return file_error(a, err, "create", path);
    if (group != (gid_t)-1 && chown(path, (uid_t)-1, group) < 0)
        return file_error(a, errno, "give to its group", path);
    if (chmod(path, mode) < 0)
        return file_error(a, errno, "set the mode of", path);
    return listen(fd, 64) < 0 ? file_error(a, errno, "listen at", path) : NULL;
}

struct admin *admin_open(struct arena *a, const char *path, mode_t mode, gid_t group,
                         const struct admin_ops *ops, void *ctx, const char **err)
{
    const char *slash = strrchr(path, '/');
    if (slash && slash != path) {
        const char *dir = arena_fmt(a, "%.*s", (int)(slash - path), path).p;
        *err = file_mkdirs(a, dir, 0755, (uid_t)-1, (gid_t)-1);
        if (*err)
            return NULL;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    *err = fd < 0 ? err_of_errno(errno) : bind_at(a, fd, path, mode, group);
    if (*err) {
        if (fd >= 0)
            close(fd);
        return NULL;
    }
    struct admin *s = calloc(1, sizeof(*s));
    ASSERT(s);
    s->fd = fd;
    s->path = strdup(path);
    ASSERT(s->path);
    s->ops = ops;
    s->ctx = ctx;
    list_init(&s->conns);
    ASSERT(event_assign(&s->ev, loop_base(), fd, EV_READ | EV_PERSIST, on_accept, s) == 0);
    event_add(&s->ev, NULL);
    return s;
}

void admin_stop_listening(struct admin *s)
{
    if (s->fd < 0)
        return;
    event_del(&s->ev);
    close(s->fd);
    s->fd = -1;
    unlink(s->path);
}

void admin_close(struct admin **sp)
{
    struct admin *s = *sp;
    *sp = NULL;
    if (!s)
        return;
    LIST_EACH_SAFE (&s->conns, it) {
        struct admin_conn *c = container_of(it, struct admin_conn, link);
        conn_close(c);
    }
    admin_stop_listening(s);
    free(s->path);
    free(s);
}
