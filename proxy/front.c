/*
 * front.c - connections between accept and the protocol that takes them over.
 */
#include "proxy/front.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "base/loop.h"
#include "base/tally.h"
#include "proxy/proxy_protocol.h"
#include "proxy/snapshot.h"

#define FRESH_MS 2000 /* a draining worker still waits that long for a new connection's header */
#define QUIET_MS                                                                     \
    10000 /* a line of each sort at most that often: floods are no reason to log one \
           */

static unsigned count;

unsigned front_count(void)
{
    return count;
}

void front_leave(struct front_pass *pass)
{
    if (!pass->row)
        return;
    count--;
    stats_dec(connections);
    stats_add(pass->counted_as, -1);
    row_add(&pass->row->connections, -1);
    tally_drop(&pass->held);
    pass->row = NULL;
}

void front_count_as(struct front_pass *pass, enum stats_id gauge)
{
    stats_add(pass->counted_as, -1);
    stats_add(gauge, 1);
    pass->counted_as = gauge;
}

/* ---- who is not let in ---- */

struct quiet {
    uint64_t next_ms;
    unsigned n; /* since the last line */
};

/* One more; true when a line is due, which says how many there were. */
static bool quiet_due(struct quiet *q, unsigned *n)
{
    q->n++;
    if (loop_now_ms() < q->next_ms)
        return false;
    *n = q->n;
    *q = (struct quiet){.next_ms = loop_now_ms() + QUIET_MS};
    return true;
}

/* RST, so that whoever comes again and again leaves nothing in the kernel. */
static void turn_away(int fd, struct front_pass *pass)
{
    const struct linger now = {.l_onoff = 1};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    close(fd);
    front_leave(pass);
}

/* Known to be somebody, and not one behind whom many stand. */
static bool counted(const struct conf *c, const struct front_pass *pass,
                    const struct front_door *door)
{
    return door->kind != LISTENER_METRICS && pass->ip.family != NET_UNIX &&
           !net_ranges_have(c->trusted_proxies, pass->ip);
}

static void come_in(int fd, struct front_pass *pass, const struct front_door *door)
{
    static struct quiet quiet;
    const struct conf *c = snapshot_current()->conf;
    unsigned n;
    if (!counted(c, pass, door) || tally_take(pass->ip, c->limits.per_ip, &pass->held)) {
        door->enter(fd, pass, door);
        return;
    }
    stats_inc(connections_refused);
    if (quiet_due(&quiet, &n))
        log_warn("connection refused: its address has as many as limits.per_ip lets in", "client",
                 "%s", pass->ip_text, "limit", "%llu", (unsigned long long)c->limits.per_ip,
                 "refused", "%u", n);
    turn_away(fd, pass);
}

/* ---- PROXY protocol ---- */

/* A connection whose header has not come yet. */
struct announced {
    struct list link;
    uint64_t since; /* ms */
    struct front_pass pass;
    struct front_door door;
    int fd;
    struct event readable;
    struct deadline deadline;
    struct proxy_protocol header;
};

static struct list waiting = {&waiting, &waiting};

/* Lets go of all but the descriptor and the pass. */
static void announced_over(struct announced *a)
{
    list_remove(&a->link);
    event_del(&a->readable);
    deadline_cancel(&a->deadline);
    loop_free_later(a, free);
}

static void announced_close(struct announced *a)
{
    turn_away(a->fd, &a->pass);
    announced_over(a);
}

static void announced_bad(struct announced *a, const char *why)
{
    static struct quiet quiet;
    unsigned n;
    stats_inc(proxy_headers_bad);
    if (quiet_due(&quiet, &n))
        log_warn("connection closed: no good PROXY protocol header", "peer", "%s", a->pass.ip_text,
                 "error", "%s", why, "closed", "%u", n);
    announced_close(a);
}

static void on_no_header(struct deadline *d)
{
    announced_bad(container_of(d, struct announced, deadline), "it did not come in time");
}

static void header_done(struct announced *a)
{
    const struct proxy_protocol *h = &a->header;
    announced_over(a);
    if (h->named) {
        a->pass.ip = h->ip;
        a->pass.named = true;
        a->pass.local_ip = h->local_ip;
        a->pass.port = h->port;
        a->pass.local_port = h->local_port;
        net_ip_text(a->pass.ip, a->pass.ip_text);
        come_in(a->fd, &a->pass, &a->door);
    } else { /* the proxy's own, or of somebody whom it does not tell: it is not one client's */
        a->door.enter(a->fd, &a->pass, &a->door);
    }
}

/* Looked at first and then only the header taken: what follows stays for who reads on. */
static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    struct announced *a = arg;
    uint8_t bytes[PROXY_PROTOCOL_MAX];
    (void)what;
    ssize_t n = recv((int)fd, bytes, sizeof(bytes), MSG_PEEK);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0 && a->header.n == 0) { /* a load balancer that looks whether somebody listens */
        announced_close(a);
        return;
    }
    if (n <= 0) {
        announced_bad(a, "the connection ended inside it");
        return;
    }
    size_t took = proxy_protocol_feed(&a->header, bytes, (size_t)n);
    if (recv((int)fd, bytes, took, 0) != (ssize_t)took)
        announced_bad(a, "the connection ended inside it");
    else if (a->header.state == PROXY_PROTOCOL_BAD)
        announced_bad(a, a->header.error);
    else if (a->header.state == PROXY_PROTOCOL_DONE)
        header_done(a);
}

static void wait_header(int fd, const struct front_pass *pass, const struct front_door *door)
{
    struct announced *a = calloc(1, sizeof(*a));
    uint64_t limit = snapshot_current()->conf->timeouts.handshake;
    ASSERT(a);
    a->pass = *pass;
    a->door = *door;
    a->fd = fd;
    a->since = loop_now_ms();
    list_append(&waiting, &a->link);
    event_assign(&a->readable, loop_base(), fd, EV_READ | EV_PERSIST, on_readable, a);
    event_add(&a->readable, NULL);
    if (limit)
        deadline_set(&a->deadline, limit, on_no_header);
}

void front_drain_quiet(uint64_t idle_ms)
{
    LIST_EACH_SAFE (&waiting, l) {
        struct announced *a = container_of(l, struct announced, link);
        if (!a->header.n && !loop_time_left(a->since, MAX(idle_ms, (uint64_t)FRESH_MS)))
            announced_close(a);
    }
}

/* ---- in ---- */

void front_accepted(int fd, const struct sockaddr *peer, const struct front_door *door)
{
    struct front_pass pass = {
        .ip = net_ip_of(peer), .row = door->row, .counted_as = STAT_connections_handshake};
    int on = 1;
    net_ip_text(pass.ip, pass.ip_text);
    if (pass.ip.family != NET_UNIX)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    count++;
    stats_inc(connections_total);
    stats_inc(connections);
    stats_add(pass.counted_as, 1);
    row_add(&pass.row->accepted, 1);
    row_add(&pass.row->connections, 1);
    if (door->kind != LISTENER_METRICS &&
        net_ranges_have(snapshot_current()->conf->proxy_protocol, pass.ip))
        wait_header(fd, &pass, door);
    else
        come_in(fd, &pass, door);
}
