/*
 * ready.c - the look at a backend. A connection that reached itself is no backend: a TCP port of
 * the ephemeral range that nobody listens on can be met by our own connect, with us as both ends.
 */
#include "channels/ready.h"

#include <stdio.h>
#include <unistd.h>

#define LINGER_MAX (64 * 1024)

static const char err_itself[] = "nothing listens on its address";
static const char err_no_http[] = "what it answers is no HTTP/1.1";
static const char err_no_answer[] = "it closed the connection without an answer";
static const char err_long_head[] = "its answer's head is too long";
static const char err_status_4xx[] = "it answers with a status 4xx";
static const char err_status_5xx[] = "it answers with a status 5xx";
static const char err_broke_off[] = "it closed the connection before its answer was whole";
static const char err_slow_connect[] = "it does not take connections in time";
static const char err_slow_answer[] = "it does not answer in time";
static const char err_long_request[] = "its ready path or name is too long";
static const char err_sent_short[] = "it does not read the request";

static void probe_end(struct probe *p)
{
    if (p->state == PROBE_IDLE)
        return;
    if (p->fd >= 0) {
        event_del(&p->ev);
        close(p->fd);
    }
    p->fd = -1;
    deadline_cancel(&p->due);
    turn_task_cancel(&p->early);
    p->state = PROBE_IDLE;
}

void probe_cancel(struct probe *p)
{
    probe_end(p);
}

bool probe_busy(const struct probe *p)
{
    return p->state != PROBE_IDLE && p->state != PROBE_LINGERING;
}

static void probe_judge(struct probe *p, const char *err)
{
    probe_end(p);
    p->done(p, err);
}

/*
 * Judged by what it answers. The rest is read and thrown away before the close, so that the backend
 * does not see a reset and complain in its log.
 */
static void probe_linger_judged(struct probe *p, const char *err)
{
    p->state = PROBE_LINGERING;
    p->done(p, err);
}

/* The status of the first final answer in head[]: 0 when more is needed, -1 when it is no HTTP. */
static int head_status(const struct probe *p)
{
    struct str rest = {p->head, p->n};
    for (;;) {
        static const char want[] = "HTTP/1.";
        size_t known = MIN(rest.n, sizeof(want) - 1);
        if (memcmp(rest.p, want, known) != 0)
            return -1;
        if (rest.n < 13)
            return 0;
        const char *d = rest.p + 9;
        bool digits =
            d[0] >= '1' && d[0] <= '5' && d[1] >= '0' && d[1] <= '9' && d[2] >= '0' && d[2] <= '9';
        if (rest.p[8] != ' ' || !digits || (d[3] != ' ' && d[3] != '\r'))
            return -1;
        if (d[0] != '1')
            return (d[0] - '0') * 100 + (d[1] - '0') * 10 + (d[2] - '0');
        /* Interim answers go before the one that counts (RFC 9110 15.2). */
        const char *end = memmem(rest.p, rest.n, "\r\n\r\n", 4);
        if (!end)
            return 0;
        rest = str_sub(rest, (size_t)(end - rest.p) + 4, rest.n);
        if (!rest.n)
            return 0;
    }
}

static void probe_read_head(struct probe *p)
{
    ssize_t got = recv(p->fd, p->head + p->n, sizeof(p->head) - p->n, 0);
    if (got < 0) {
        if (errno != EAGAIN && errno != EINTR)
            probe_judge(p, err_of_errno(errno));
        return;
    }
    if (got == 0) {
        probe_judge(p, p->n ? err_no_http : err_no_answer);
        return;
    }
    p->n += (size_t)got;
    int status = head_status(p);
    if (status < 0)
        probe_judge(p, err_no_http);
    else if (status >= 500)
        probe_judge(p, err_status_5xx);
    else if (status >= 400)
        probe_judge(p, err_status_4xx);
    else if (status > 0)
        probe_linger_judged(p, NULL);
    else if (p->n == sizeof(p->head))
        probe_judge(p, err_long_head);
}

static bool probe_send(struct probe *p, const void *bytes, size_t n)
{
    return send(p->fd, bytes, n, MSG_NOSIGNAL) == (ssize_t)n;
}

static void probe_read_call(struct probe *p)
{
    char got[4096], back[READY_GRPC_REPLY];
    struct out reply = out_on(back, sizeof(back));
    ssize_t n = recv(p->fd, got, sizeof(got), 0);
    if (n <= 0) {
        if (n == 0)
            probe_judge(p, p->grpc.total ? err_broke_off : err_no_answer);
        else if (errno != EAGAIN && errno != EINTR)
            probe_judge(p, err_of_errno(errno));
        return;
    }
    bool judged = ready_grpc_feed(&p->grpc, got, (size_t)n, &reply);
    if (judged)
        ready_grpc_goodbye(&reply);
    if (!probe_send(p, reply.p, reply.n) && !judged) {
        probe_judge(p, err_sent_short);
        return;
    }
    if (!judged)
        return;
    shutdown(p->fd, SHUT_WR); /* HTTP/2 has no other word for "close it" */
    p->no_health = p->grpc.no_health;
    probe_linger_judged(p, p->grpc.err);
}

static void probe_linger(struct probe *p)
{
    char waste[16 * 1024];
    ssize_t got = recv(p->fd, waste, sizeof(waste), 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    p->lingered += got > 0 ? (size_t)got : 0;
    if (got <= 0 || p->lingered > LINGER_MAX)
        probe_end(p);
}

static bool reached_itself(int fd)
{
    struct sockaddr_storage self, peer;
    socklen_t ns = sizeof(self), np = sizeof(peer);
    memset(&self, 0, sizeof(self));
    memset(&peer, 0, sizeof(peer));
    if (getsockname(fd, (struct sockaddr *)&self, &ns) < 0 ||
        getpeername(fd, (struct sockaddr *)&peer, &np) < 0 || self.ss_family == AF_UNIX)
        return false;
    return ns == np && memcmp(&self, &peer, ns) == 0;
}

static void on_probe(evutil_socket_t fd, short what, void *arg);

/* Connected: for tcp that was all; else the request goes out, which an empty buffer takes. */
static void probe_connected(struct probe *p)
{
    if (reached_itself(p->fd)) {
        probe_judge(p, err_itself);
        return;
    }
    if (!p->n) {
        probe_judge(p, NULL);
        return;
    }
    if (!probe_send(p, p->head, p->n)) {
        probe_judge(p, err_sent_short);
        return;
    }
    p->n = 0; /* from here on head[] is the answer's */
    p->state = p->way == CONF_READY_GRPC ? PROBE_CALLING : PROBE_READING;
    event_del(&p->ev);
    event_assign(&p->ev, loop_base(), p->fd, EV_READ | EV_PERSIST, on_probe, p);
    event_add(&p->ev, NULL);
}

static void on_probe(evutil_socket_t fd, short what, void *arg)
{
    struct probe *p = arg;
    (void)what;
    if (p->state == PROBE_CONNECTING) {
        int err = 0;
        socklen_t n = sizeof(err);
        if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &n) < 0)
            err = errno;
        if (err)
            probe_judge(p, err_of_errno(err));
        else
            probe_connected(p);
    } else if (p->state == PROBE_READING) {
        probe_read_head(p);
    } else if (p->state == PROBE_CALLING) {
        probe_read_call(p);
    } else {
        probe_linger(p);
    }
}

static void on_probe_due(struct deadline *d)
{
    struct probe *p = container_of(d, struct probe, due);
    if (p->state == PROBE_LINGERING)
        probe_end(p);
    else
        probe_judge(p, p->state == PROBE_CONNECTING ? err_slow_connect : err_slow_answer);
}

static void on_probe_early(struct turn_task *t)
{
    struct probe *p = container_of(t, struct probe, early);
    probe_judge(p, p->result);
}

static void probe_tell(struct probe *p, const char *err)
{
    p->state = PROBE_TOLD;
    p->result = err;
    loop_at_turn_end(&p->early, on_probe_early);
}

/* Nothing for tcp. */
static void make_request(struct probe *p, const struct probe_spec *spec, struct out *o)
{
    struct str host = spec->host.n ? spec->host : STR("localhost");
    if (spec->way == CONF_READY_GRPC) {
        ready_grpc_begin(&p->grpc);
        ready_grpc_request(o, host, spec->service, spec->timeout_ms);
    } else if (spec->way == CONF_READY_HTTP) {
        out_fmt(o,
                "GET " STR_FMT " HTTP/1.1\r\nHost: " STR_FMT "\r\nUser-Agent: headgate/" HG_VERSION
                "\r\nAccept: */*\r\nConnection: close\r\n\r\n",
                STR_ARG(spec->path), STR_ARG(host));
    }
}

void probe_start(struct probe *p, const struct probe_spec *spec,
                 void (*done)(struct probe *, const char *err))
{
    const struct conf_addr *to = spec->to;
    probe_end(p);
    p->done = done;
    p->way = spec->way;
    p->lingered = 0;
    p->no_health = false;
    struct out o = out_on(p->head, sizeof(p->head));
    make_request(p, spec, &o);
    p->n = o.n;
    p->fd = o.over ? -1 : socket(to->sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (p->fd < 0) {
        probe_tell(p, o.over ? err_long_request : err_of_errno(errno));
        return;
    }
    p->state = PROBE_CONNECTING;
    event_assign(&p->ev, loop_base(), p->fd, EV_WRITE | EV_PERSIST, on_probe, p);
    if (connect(p->fd, (const struct sockaddr *)&to->sa, to->len) < 0 && errno != EINPROGRESS) {
        probe_tell(p, err_of_errno(errno)); /* a full queue of a Unix socket (EAGAIN) too */
        return;
    }
    event_add(&p->ev, NULL);
    deadline_set(&p->due, spec->timeout_ms, on_probe_due);
}
