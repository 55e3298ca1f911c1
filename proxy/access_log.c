/*
 * access_log.c - gathers lines and writes them in whole (see access_log.h). The lines themselves
 * are made in access_line.c.
 *
 * Not blocking is harder than it sounds: stdout is often a pipe or socket that other processes
 * hold too, so O_NONBLOCK, which belongs to the shared description, must not be set on it. A socket
 * is asked per call (MSG_DONTWAIT). For a pipe a description of our own is opened by /proc/self/fd;
 * where that is not possible, poll is asked before each write: a pipe with room for one page takes
 * PIPE_BUF bytes at once, unless another worker was quicker, and then the wait is one read long.
 * A pipe takes up to PIPE_BUF bytes wholly or not at all, so lines of several workers do not mix.
 */
#include "proxy/access_log.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"
#include "base/loop.h"
#include "base/stats.h"

#define BUFFER_MAX  (64 * 1024)
#define FLUSH_AT    (32 * 1024)
#define FLUSH_AFTER 1 /* ms; the wheel makes it up to 100 */

enum sink_kind {
    SINK_NONE,
    SINK_FILE,     /* takes everything at once */
    SINK_NONBLOCK, /* O_NONBLOCK on a description of our own */
    SINK_SOCKET,   /* MSG_DONTWAIT */
    SINK_POLL      /* poll before each write */
};

static struct {
    int fd;
    enum sink_kind kind;
    size_t used;
    bool torn;  /* the last thing written was not a whole line, and its rest is lost */
    bool lost;  /* the last write failed, and that was said */
    bool stuck; /* the reader took nothing last time: wait for the deadline before the next try */
    struct deadline due;
    char buffer[BUFFER_MAX];
} sink = {.fd = -1};

static enum sink_kind kind_of(int fd)
{
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0)
        return SINK_NONE;
    if (S_ISSOCK(st.st_mode))
        return SINK_SOCKET;
    if (S_ISREG(st.st_mode))
        return SINK_FILE;
    const int flags = fcntl(fd, F_GETFL);
    return flags >= 0 && (flags & O_NONBLOCK) ? SINK_NONBLOCK : SINK_POLL;
}

/*
 * A descriptor for the same pipe or terminal that is non-blocking without making its other holders'
 * so. The master hands such a one over already; whoever did not may still reach /proc, and if not,
 * poll has to do.
 */
static int own_description(int fd)
{
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0 || S_ISREG(st.st_mode) || S_ISSOCK(st.st_mode))
        return fd;
    const int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || (flags & O_NONBLOCK))
        return fd;
    char path[32];
    struct out o = out_on(path, sizeof(path) - 1);
    out_lit(&o, "/proc/self/fd/");
    out_u64(&o, (uint64_t)fd);
    path[o.n] = '\0';
    struct open_how how = {.flags = O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY};
    const int own = (int)syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof(how));
    if (own < 0)
        return fd;
    close(fd);
    return own;
}

void access_log_open(int fd)
{
    access_log_flush();
    if (sink.fd >= 0 && sink.fd != fd)
        close(sink.fd);
    deadline_cancel(&sink.due);
    fd = own_description(fd);
    sink.fd = fd;
    sink.kind = kind_of(fd);
    sink.used = 0;
    sink.torn = sink.stuck = false;
}

static ssize_t write_polled(const char *p, size_t n)
{
    struct pollfd pfd = {.fd = sink.fd, .events = POLLOUT};
    if (poll(&pfd, 1, 0) == 0) {
        errno = EAGAIN;
        return -1;
    }
    return write(sink.fd, p, n);
}

static ssize_t sink_write(const char *p, size_t n)
{
    switch (sink.kind) {
    case SINK_SOCKET:
        return send(sink.fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL);
    case SINK_POLL:
        return write_polled(p, n);
    case SINK_FILE:
    case SINK_NONBLOCK:
        break;
    case SINK_NONE:
        errno = EBADF;
        return -1;
    }
    return write(sink.fd, p, n);
}

/* How much of p is written at once: whole lines, as many as keep whole for this kind of reader. */
static size_t portion(const char *p, size_t n)
{
    if (sink.kind == SINK_FILE || n <= PIPE_BUF)
        return n;
    const char *end = memrchr(p, '\n', PIPE_BUF);
    return end ? (size_t)(end - p) + 1 : PIPE_BUF;
}

static unsigned count_lines(const char *p, size_t n)
{
    unsigned lines = 0;
    for (const char *end = p + n; (p = memchr(p, '\n', (size_t)(end - p))) != NULL; p++)
        lines++;
    return lines;
}

/* A line that was cut by a full disk must not run into the next one. */
static void mend(void)
{
    if (sink.torn && sink_write("\n", 1) == 1)
        sink.torn = false;
}

/* Said once; again only after lines went through in between. */
static void say_lost(int err)
{
    if (sink.lost)
        return;
    sink.lost = true;
    const struct snapshot *now = snapshot_current();
    log_error("access log lines are lost: make room for them, or change log.access.to", "to", "%s",
              now ? now->conf->log.to.p : "", "cause", "%s", err_of_errno(err));
}

static void drop(size_t from)
{
    const unsigned lines = count_lines(sink.buffer + from, sink.used - from);
    stats_add(STAT_access_dropped, lines);
    sink.torn = from > 0 && sink.buffer[from - 1] != '\n';
    sink.used = 0;
}

void access_log_flush(void)
{
    size_t done = 0;
    sink.stuck = false;
    mend();
    while (done < sink.used) {
        const size_t n = portion(sink.buffer + done, sink.used - done);
        ssize_t got = sink_write(sink.buffer + done, n);
        if (got > 0) {
            done += (size_t)got;
            sink.lost = false;
        } else if (got < 0 && errno == EINTR) {
            continue;
        } else if (got < 0 && errno == EAGAIN) {
            sink.stuck = true;
            break;
        } else { /* the reader is gone or the disk is full: these lines are lost, later ones may not
                    be */
            say_lost(errno);
            drop(done);
            return;
        }
    }
    if (done && done < sink.used)
        memmove(sink.buffer, sink.buffer + done, sink.used - done);
    sink.used -= done;
}

static void on_due(struct deadline *d)
{
    access_log_flush();
    if (sink.used)
        deadline_set(d, FLUSH_AFTER, on_due);
}

static bool excluded(const struct conf *c, struct str path)
{
    for (unsigned i = 0; i < c->log.n_exclude; i++)
        if (str_starts(path, c->log.exclude[i]))
            return true;
    return false;
}

/* Is there room for one more line? */
static bool room(void)
{
    if (sink.used > BUFFER_MAX - ACCESS_LINE_MAX && !sink.stuck)
        access_log_flush();
    if (sink.used <= BUFFER_MAX - ACCESS_LINE_MAX)
        return true;
    stats_inc(access_dropped);
    return false;
}

static void added(size_t n)
{
    sink.used += n;
    if (sink.used >= FLUSH_AT && !sink.stuck)
        access_log_flush();
    if (sink.used && !deadline_is_set(&sink.due))
        deadline_set(&sink.due, FLUSH_AFTER, on_due);
}

void access_log_write(const struct req *r)
{
    /* A tunnel let its snapshot go: the present one says how it is logged. */
    const struct snapshot *snap = r->snap ? r->snap : snapshot_current();
    if (!snap || sink.kind == SINK_NONE)
        return;
    const struct conf *c = snap->conf;
    if (c->log.format == CONF_ACCESS_OFF || excluded(c, r->path))
        return;
    if (room())
        added(access_log_line(r, c->log.format, c->log.query, sink.buffer + sink.used));
}

void access_log_stream(const struct access_stream *s)
{
    const struct conf *c = snapshot_current()->conf;
    if (sink.kind == SINK_NONE || c->log.format == CONF_ACCESS_OFF)
        return;
    if (room())
        added(access_stream_line(s, c->log.format, sink.buffer + sink.used));
}
