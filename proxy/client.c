/*
 * client.c - a client connection from accept to close: TLS first where the listener says so, then
 * the codec. One deadline a connection: it asks the present state how long it may still last.
 */
#include "proxy/client.h"

#include <netinet/in.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/stats.h"
#include "proxy/h2.h"

#define LINGER_MS 2000 /* for the client to read our last answer and close */
#define CHECK_MS  1000 /* how often a deadline that keeps moving is looked at */

static struct list clients = {&clients, &clients};
static bool draining;

static const struct io_ops client_io;

static void state_set(struct client *c, enum client_state to)
{
    ASSERT(c->state != CLIENT_CLOSED);
    c->state = to;
    c->state_since = loop_now_ms();
}

bool client_draining(void)
{
    return draining;
}

static void client_free(void *p)
{
    struct client *c = p;
    c->protocol->fini(c);
    budget_fini(&c->budget);
    free(c);
}

void client_close(struct client *c)
{
    if (c->state == CLIENT_CLOSED)
        return;
    state_set(c, CLIENT_CLOSED);
    stats_add(STAT_bytes_in, (int64_t)c->io.bytes_in);
    stats_add(STAT_bytes_out, (int64_t)c->io.bytes_out);
    io_close(&c->io);
    deadline_cancel(&c->deadline);
    c->protocol->gone(c, "the client went away");
    tls_conn_fini(&c->tls);
    snapshot_unref(&c->snap);
    list_remove(&c->link);
    front_leave(&c->pass);
    loop_free_later(c, client_free);
}

void client_linger(struct client *c)
{
    if (c->state != CLIENT_OPEN)
        return;
    state_set(c, CLIENT_LINGER);
    io_shutdown(&c->io);
    io_resume(&c->io, IO_PAUSE_PEER);
    io_resume(&c->io, IO_PAUSE_BUDGET);
}

/* ---- deadlines ---- */

uint64_t client_take_left(struct client *c, const char **why)
{
    bool slow;
    uint64_t left = io_take_left(&c->io, c->write_gap, c->min_rate, &slow);
    if (left != UINT64_MAX)
        *why =
            slow ? "the client reads slower than timeouts.min_rate" : "the client stopped reading";
    return left;
}

static uint64_t time_left(struct client *c, const char **why)
{
    const struct conf_timeouts *t = &snapshot_current()->conf->timeouts;
    switch (c->state) {
    case CLIENT_HANDSHAKE:
        *why = "TLS handshake timed out";
        return loop_time_left(c->state_since, t->handshake);
    case CLIENT_LINGER:
        /* As long as the answer is being taken, the gap counts, not the linger time. */
        if (!c->write_gap)
            c->write_gap = LINGER_MS;
        if (io_queued(&c->io))
            return client_take_left(c, why);
        *why = "client did not close";
        return loop_time_left(MAX(c->state_since, c->io.last_out), LINGER_MS);
    case CLIENT_OPEN:
        return c->protocol->time_left(c, why);
    case CLIENT_CLOSED:
        break;
    }
    return UINT64_MAX;
}

static void on_deadline(struct deadline *d)
{
    struct client *c = container_of(d, struct client, deadline);
    const char *why = NULL;
    uint64_t left = time_left(c, &why);
    if (left) {
        /* Idle connections are many: they are looked at when their time is up, or by client_watch.
         */
        bool idle = c->state == CLIENT_OPEN && c->protocol->idle(c) && left != UINT64_MAX;
        deadline_set(d, idle ? left : MIN(left, CHECK_MS), on_deadline);
        return;
    }
    if (c->state == CLIENT_HANDSHAKE)
        stats_inc(handshakes_failed);
    if (c->state == CLIENT_OPEN) {
        c->protocol->timeout(c, why);
    } else {
        if (io_queued(&c->io)) /* what it did not take must not look like all there is */
            io_reset(&c->io);
        client_close(c);
    }
    if (c->state != CLIENT_CLOSED && !deadline_is_set(d))
        deadline_set(d, CHECK_MS, on_deadline);
}

void client_watch(struct client *c)
{
    deadline_set(&c->deadline, CHECK_MS, on_deadline);
}

static void on_room(struct budget *b)
{
    struct client *c = container_of(b, struct client, budget);
    if (c->state == CLIENT_OPEN)
        c->protocol->room(c);
}

void client_wait_room(struct client *c)
{
    budget_wait(&c->budget, on_room);
}

static void open_protocol(struct client *c, const struct protocol *p)
{
    const bool tls = c->kind == LISTENER_HTTPS;
    state_set(c, CLIENT_OPEN);
    c->protocol = p;
    if (p == &h2_protocol)
        front_count_as(&c->pass, tls ? STAT_connections_h2_tls : STAT_connections_h2);
    else
        front_count_as(&c->pass, tls ? STAT_connections_h1_tls : STAT_connections_h1);
    p->open(c);
}

/* ---- what the socket says ---- */

static struct client *of(struct io *io)
{
    return container_of(io, struct client, io);
}

static void on_open(struct io *io)
{
    struct client *c = of(io);
    if (c->io.ssl) {
        tls_conn_established(&c->tls, c->io.ssl);
        if (c->tls.resumed)
            stats_inc(handshakes_resumed);
        else
            stats_inc(handshakes_full);
        c->tls.names = NULL;
        snapshot_unref(&c->snap);
    }
    if (c->tls.alpn_challenge) { /* RFC 8737 3: the handshake was all that it came for */
        state_set(c, CLIENT_OPEN);
        client_linger(c);
        return;
    }
    open_protocol(c, c->tls.h2 ? &h2_protocol : &h1_protocol);
}

static void on_read(struct io *io, struct slice data)
{
    struct client *c = of(io);
    if (c->state == CLIENT_OPEN)
        c->protocol->read(c, data);
}

static void on_eof(struct io *io)
{
    struct client *c = of(io);
    if (c->state == CLIENT_OPEN)
        c->protocol->eof(c);
    else if (!io_queued(io))
        client_close(c); /* else the deadline waits for the queue */
}

static void on_drain(struct io *io)
{
    struct client *c = of(io);
    if (c->state == CLIENT_OPEN)
        c->protocol->drained(c);
}

static void on_error(struct io *io, const char *err)
{
    struct client *c = of(io);
    if (c->state == CLIENT_HANDSHAKE) {
        stats_inc(handshakes_failed);
        log_debug("TLS handshake failed", "client", "%s", c->pass.ip_text, "sni", "%s", c->tls.sni,
                  "error", "%s", err);
    }
    if (c->state == CLIENT_OPEN)
        c->protocol->gone(c, err);
    client_close(c);
}

static const struct io_ops client_io = {on_open, on_read, on_eof, on_drain, on_error};

/* ---- birth ---- */

void client_enter_with(int fd, const struct front_pass *pass, const struct front_door *door,
                       struct str read)
{
    struct client *c = calloc(1, sizeof(*c));
    ASSERT(c);
    c->kind = door->kind;
    c->pass = *pass;
    c->write_gap = snapshot_current()->conf->timeouts.write_gap;
    c->min_rate = snapshot_current()->conf->timeouts.min_rate;
    c->local_port = pass->local_port;
    c->protocol = &h1_protocol;
    c->state_since = loop_now_ms();
    list_append(&clients, &c->link);
    c->io.out.budget = &c->budget;
    io_init(&c->io, fd, &client_io);
    if (c->kind == LISTENER_HTTPS) {
        c->snap = snapshot_ref(snapshot_current());
        c->tls.names = c->snap->names;
        c->tls.fd = fd;
        c->state = CLIENT_HANDSHAKE;
        io_start_tls(&c->io, tls_server_new(&c->tls));
    } else {
        open_protocol(c, &h1_protocol);
    }
    deadline_set(&c->deadline, CHECK_MS, on_deadline);
    if (read.n)
        io_feed(&c->io, read);
}

void client_enter(int fd, const struct front_pass *pass, const struct front_door *door)
{
    client_enter_with(fd, pass, door, STR_NULL);
}

void client_drain_quiet(uint64_t idle_ms)
{
    draining = true;
    LIST_EACH_SAFE (&clients, l) {
        struct client *c = container_of(l, struct client, link);
        if (c->state == CLIENT_OPEN)
            c->protocol->drain(c, idle_ms);
    }
}

void client_end_all(const char *why)
{
    LIST_EACH_SAFE (&clients, l) {
        struct client *c = container_of(l, struct client, link);
        if (c->state == CLIENT_OPEN)
            c->protocol->end(c, why);
    }
}

/* ---- facts for requests ---- */

uint16_t req_local_port(const struct req *r)
{
    struct client *c = r->client;
    struct sockaddr_storage sa;
    socklen_t len = sizeof(sa);
    if (!c->local_port && c->io.fd >= 0 &&
        getsockname(c->io.fd, (struct sockaddr *)&sa, &len) == 0) {
        if (sa.ss_family == AF_INET)
            c->local_port = ntohs(((struct sockaddr_in *)(void *)&sa)->sin_port);
        else if (sa.ss_family == AF_INET6)
            c->local_port = ntohs(((struct sockaddr_in6 *)(void *)&sa)->sin6_port);
        else /* a Unix socket has none: what clients see is what counts */
            c->local_port = c->kind == LISTENER_HTTPS ? r->snap->conf->public_https
                                                      : r->snap->conf->public_http;
    }
    return c->local_port;
}

const char *req_tls_version(const struct req *r)
{
    if (r->client->kind != LISTENER_HTTPS)
        return NULL;
    return r->client->tls.version == 0x0304 ? "TLSv1.3" : "TLSv1.2";
}
