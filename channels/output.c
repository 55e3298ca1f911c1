/*
 * output.c - pipe → lines → log. Control bytes become spaces: a backend must not be able to write
 * escape sequences into the terminal of whoever reads the log.
 */
#include "channels/output.h"

#include <inttypes.h>
#include <unistd.h>

#include "base/log.h"

#define READ_TURN  (16 * 1024)
#define FLUSH_MAX  (1024 * 1024) /* the largest pipe that a user without privileges can make */
#define COST_MAX   3200          /* of a log line's 4,096 bytes, its other fields taken off */
#define COST_WORST 3             /* a byte that becomes U+FFFD */

static char turn_buf[READ_TURN]; /* one process, one reader at a time */

static void (*tell_line)(void *ctx, const char *service, uint64_t instance, const char *stream,
                         struct str text);
static void *tell_ctx;

void output_tell(void (*on_line)(void *ctx, const char *service, uint64_t instance,
                                 const char *stream, struct str text),
                 void *ctx)
{
    tell_line = on_line;
    tell_ctx = ctx;
}

static void output_emit(struct output *o)
{
    o->piece[o->n] = '\0';
    if (o->n)
        memcpy(o->last, o->piece, MIN(o->n + 1, sizeof(o->last) - 1));
    log_event(LOG_INFO, "output", "service", "%s", o->service, "instance", "%" PRIu64, o->instance,
              "pid", "%d", (int)o->pid, "stream", "%s", o->stream, "line", "%s", o->piece, NULL);
    if (tell_line)
        tell_line(tell_ctx, o->service, o->instance, o->stream, (struct str){o->piece, o->n});
    o->n = o->cost = 0;
}

/* A piece is full and its line goes on: a character that was begun moves to the next piece. */
static void output_split(struct output *o)
{
    size_t keep = 0;
    while (keep < 3 && keep < o->n && ((unsigned char)o->piece[o->n - 1 - keep] & 0xc0) == 0x80)
        keep++;
    if (keep < o->n && (unsigned char)o->piece[o->n - 1 - keep] >= 0xc0)
        keep++;
    if (keep >= o->n)
        keep = 0;
    char tail[4];
    memcpy(tail, o->piece + o->n - keep, keep);
    o->n -= keep;
    output_emit(o);
    memcpy(o->piece, tail, keep);
    o->n = keep;
    o->cost = keep * COST_WORST;
}

static void output_line_end(struct output *o)
{
    if (o->n && o->piece[o->n - 1] == '\r')
        o->n--;
    if (o->n)
        output_emit(o);
    if (o->cut)
        log_warn("output line cut", "service", "%s", o->service, "instance", "%" PRIu64,
                 o->instance, "dropped", "%" PRIu64, o->cut);
    o->line = o->n = o->cost = 0;
    o->cut = 0;
}

static void output_byte(struct output *o, char c)
{
    unsigned char u = (unsigned char)c;
    if ((u < 0x20 && c != '\r') || u == 0x7f)
        c = ' ';
    if (o->n == OUTPUT_PIECE || o->cost >= COST_MAX)
        output_split(o);
    o->piece[o->n++] = c;
    o->line++;
    o->cost += u >= 0x80 ? COST_WORST : c == '"' || c == '\\' || c == '\r' ? 2 : 1;
}

static void output_take(struct output *o, struct str data)
{
    while (data.n) {
        size_t to = str_chr(data, '\n');
        size_t take = MIN(to, OUTPUT_LINE_MAX - o->line);
        for (size_t i = 0; i < take; i++)
            output_byte(o, data.p[i]);
        o->cut += to - take;
        if (to < data.n) {
            output_line_end(o);
            to++;
        }
        data = str_sub(data, to, data.n);
    }
}

/* True while there may be more at once. */
static bool output_read(struct output *o)
{
    ssize_t got = read(o->fd, turn_buf, sizeof(turn_buf));
    if (got > 0) {
        output_take(o, (struct str){turn_buf, (size_t)got});
        return true;
    }
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    /* Nobody holds the other end any more, or it is broken: it would fire for ever. */
    event_del(&o->ev);
    return false;
}

static void on_output(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    output_read(arg);
}

void output_open(struct output *o, int fd, const char *service, uint64_t instance, pid_t pid,
                 const char *stream)
{
    ASSERT(!o->open);
    memset(o, 0, sizeof(*o));
    o->fd = fd;
    o->open = true;
    o->service = service;
    o->stream = stream;
    o->instance = instance;
    o->pid = pid;
    event_assign(&o->ev, loop_base(), fd, EV_READ | EV_PERSIST, on_output, o);
    event_add(&o->ev, NULL);
}

void output_flush(struct output *o)
{
    for (size_t n = 0; o->open && n < FLUSH_MAX && output_read(o); n += READ_TURN)
        ;
}

void output_close(struct output *o)
{
    if (!o->open)
        return;
    output_flush(o);
    output_line_end(o);
    event_del(&o->ev);
    close(o->fd);
    o->open = false;
}
