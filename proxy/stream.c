/*
 * stream.c - a connection of raw bytes, from accept to its line in the access log.
 *
 *   HANDSHAKE → WAITING → CONNECTING → OPEN → (ENDING) → CLOSED
 *
 * Bytes are read into the one buffer of the process and what the other side does not take at once
 * is queued, at most QUEUE_HIGH and one read more in each direction; so an idle connection holds no
 * buffer at all. splice(2) through a pipe was measured instead (plain to plain, 64 KiB and 256 KiB
 * pipes): the same CPU a byte up to reads of 16 KiB, 10 to 30 % less on full ones, for two
 * descriptors and up to 256 KiB of the kernel's memory in each direction that no budget knows of,
 * and a second way for bytes beside the one that TLS needs anyway. It was not worth that.
 *
 * Silence is no failure: peers that vanished are found by TCP keepalive, and `idle` closes what
 * nobody uses.
 */
#include "proxy/stream.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "base/stats.h"
#include "proxy/access_log.h"
#include "proxy/backend.h"
#include "proxy/exchange.h"
#include "proxy/proxy_header.h"
#include "proxy/snapshot.h"
#include "proxy/tls.h"

#define QUEUE_HIGH SLAB_LARGE
#define LINGER_MS  2000 /* for a side to take the rest, when the other one is gone */

enum stream_state {
    STREAM_HANDSHAKE,  /* TLS of the client */
    STREAM_WAITING,    /* for a ready instance */
    STREAM_CONNECTING, /* to it, with its TLS */
    STREAM_OPEN,
    STREAM_ENDING, /* one side is gone; the other gets what is queued for it, and its end */
    STREAM_CLOSED
};

struct stream {
    struct list link;
    enum stream_state state;
    uint64_t since;                /* ms: state was entered */
    struct snapshot *snap;         /* counted, until the connection to the instance stands */
    const struct conf_stream *def; /* in snap */
    struct str address;
    struct front_pass pass;
    struct io client, backend;
    struct budget budget;
    struct tls_conn tls;

    struct backend_waiter waiter;
    uint64_t wait_until; /* ms */
    unsigned tries;      /* instances that were asked */
    struct backend_service *service;
    struct backend_instance *instance; /* counted; NULL: none yet */
    struct backend_tls *backend_tls;   /* counted; NULL: plain */
    struct backend_stream held; /* ended when the service is handed over; who waits, waits on */
    struct backend_stream tied; /* … and when the instance is gone */
    struct sliceq early;        /* what the client said before the instance was there */

    struct deadline deadline;
    uint64_t idle; /* ms */
    struct turn_task retry;
    bool reset; /* ENDING: not in order, and the other side is to know */
    uint64_t began_us, bytes_in, bytes_out;
    unsigned status;
    const char *error; /* why it ended, a constant; NULL: in order */
};

static struct list streams = {&streams, &streams};

static const struct io_ops client_ops, backend_ops;
static void connect_failed(struct stream *s, const char *err);

static void on_deadline(struct deadline *d);

/* How long the present state may still last; UINT64_MAX: as long as it likes. */
static uint64_t time_left(const struct stream *s)
{
    const struct conf_timeouts *t = &snapshot_current()->conf->timeouts;
    uint64_t last;
    switch (s->state) {
    case STREAM_HANDSHAKE:
        return loop_time_left(s->since, t->handshake);
    case STREAM_CONNECTING:
        return loop_time_left(s->since, s->def->site->timeouts.connect);
    case STREAM_OPEN:
        last = MAX(MAX(s->client.last_in, s->client.last_out),
                   MAX(s->backend.last_in, s->backend.last_out));
        return loop_time_left(last, s->idle);
    case STREAM_ENDING:
        last = MAX(s->since, MAX(s->client.last_out, s->backend.last_out));
        if (io_queued(&s->client) || io_queued(&s->backend))
            return loop_time_left(last, t->write_gap ? t->write_gap : LINGER_MS);
        return loop_time_left(last, LINGER_MS);
    case STREAM_WAITING: /* the waiter knows */
    case STREAM_CLOSED:
        break;
    }
    return UINT64_MAX;
}

static void watch(struct stream *s)
{
    const uint64_t left = time_left(s);
    deadline_cancel(&s->deadline);
    if (left != UINT64_MAX)
        deadline_set(&s->deadline, MAX(left, (uint64_t)1), on_deadline);
}

static void state_set(struct stream *s, enum stream_state to)
{
    ASSERT(s->state != STREAM_CLOSED);
    s->state = to;
    s->since = loop_now_ms();
    watch(s);
}

/* ---- the end ---- */

static void log_end(const struct stream *s)
{
    const struct access_stream line = {.client = str_of(s->pass.ip_text),
                                       .address = s->address,
                                       .host = str_of(s->tls.sni),
                                       .service = s->service ? s->service->name : STR_NULL,
                                       .instance = s->instance ? s->instance->text : STR_NULL,
                                       .tls = s->tls.version == 0        ? STR_NULL
                                              : s->tls.version == 0x0304 ? STR("TLSv1.3")
                                                                         : STR("TLSv1.2"),
                                       .status = s->status,
                                       .bytes_in = s->bytes_in,
                                       .bytes_out = s->bytes_out,
                                       .us = now_us() - s->began_us,
                                       .error = str_of(s->error)};
    access_log_stream(&line);
}

/* The instance is no longer used, if there was one. */
static void backend_leave(struct stream *s)
{
    if (!s->instance)
        return;
    backend_stream_leave(&s->held);
    backend_stream_leave(&s->tied);
    io_close(&s->backend);
    stats_dec(backend_connections);
    backend_request_over(s->instance);
    backend_unref(&s->instance);
    backend_tls_unref(&s->backend_tls);
}

static void stream_free(void *p)
{
    struct stream *s = p;
    budget_fini(&s->budget);
    free(s);
}

static void stream_close(struct stream *s)
{
    if (s->state == STREAM_CLOSED)
        return;
    state_set(s, STREAM_CLOSED);
    log_end(s);
    stats_add(STAT_bytes_in, (int64_t)s->client.bytes_in);
    stats_add(STAT_bytes_out, (int64_t)s->client.bytes_out);
    backend_wait_cancel(&s->waiter);
    turn_task_cancel(&s->retry);
    io_close(&s->client);
    backend_leave(s);
    sliceq_fini(&s->early);
    tls_conn_fini(&s->tls);
    snapshot_unref(&s->snap);
    list_remove(&s->link);
    front_leave(&s->pass);
    loop_free_later(s, stream_free);
}

/* Nothing more is to be said to anybody. `why`: a constant. */
static void stream_fail(struct stream *s, unsigned status, const char *why)
{
    s->status = status;
    s->error = why;
    stream_close(s);
}

static struct io *other_side(struct stream *s, const struct io *io)
{
    return io == &s->client ? &s->backend : &s->client;
}

/* One side is dead. What it said before is read; what is queued for the other still goes out, then
 * its end. */
static void side_lost(struct stream *s, struct io *gone, const char *err)
{
    struct io *other = other_side(s, gone);
    io_read_rest(gone);
    if (s->state != STREAM_OPEN)
        return; /* what it had still said ended the stream */
    /* Who hangs up without TLS's own goodbye, as many do, has ended; others broke off. */
    s->reset = err != err_truncated;
    s->error = err;
    io_close(gone);
    state_set(s, STREAM_ENDING);
    if (!s->reset)
        io_shutdown(other);
    io_resume(other, IO_PAUSE_PEER); /* what it still says is thrown away */
    io_want_drain(other);
}

/* The side's queue is out, its end too where that was asked for. */
static void said(struct stream *s, struct io *io)
{
    if (s->state == STREAM_OPEN) {
        io_resume(other_side(s, io), IO_PAUSE_PEER);
        if (s->client.fin_sent && s->backend.fin_sent)
            stream_close(s);
    } else if (s->state == STREAM_ENDING && s->reset) {
        io_reset(io);
        stream_close(s);
    } else if (s->state == STREAM_ENDING && io->eof_seen) {
        stream_close(s);
    }
}

/* The side will say no more. */
static void ended(struct stream *s, struct io *io)
{
    if (s->state == STREAM_OPEN) {
        io_shutdown(other_side(s, io));
        io_want_drain(other_side(s, io));
    } else if (s->state == STREAM_ENDING && !io_queued(io)) {
        stream_close(s);
    }
}

/* An instance without a process left for good, or the service is handed over. */
static void on_held(struct backend_stream *st)
{
    stream_fail(container_of(st, struct stream, held), 200, "the service was handed over");
}

static void on_untied(struct backend_stream *st)
{
    stream_fail(container_of(st, struct stream, tied), 200, "the instance left the configuration");
}

void streams_cut(void)
{
    LIST_EACH_SAFE (&streams, l)
        stream_fail(container_of(l, struct stream, link), 200, "the time to drain was over");
}

/* ---- bytes ---- */

static void forward(struct io *from, struct io *to, struct slice data)
{
    io_write_slice(to, data);
    if (io_queued(to) <= QUEUE_HIGH)
        return;
    io_pause(from, IO_PAUSE_PEER);
    io_want_drain(to);
}

static void heard(struct stream *s, size_t n)
{
    s->bytes_in += n;
    row_add(&s->pass.row->bytes_in, (int64_t)n);
}

static void on_client_read(struct io *io, struct slice data)
{
    struct stream *s = container_of(io, struct stream, client);
    if (s->state == STREAM_ENDING)
        return;
    heard(s, data.n);
    if (s->state == STREAM_OPEN)
        forward(io, &s->backend, data);
    else
        sliceq_push(&s->early, data); /* came with the end of the handshake: reading is paused */
}

static void on_backend_read(struct io *io, struct slice data)
{
    struct stream *s = container_of(io, struct stream, backend);
    if (s->state != STREAM_OPEN)
        return;
    s->bytes_out += data.n;
    row_add(&s->pass.row->bytes_out, (int64_t)data.n);
    forward(io, &s->client, data);
}

static void on_client_eof(struct io *io)
{
    ended(container_of(io, struct stream, client), io);
}

static void on_backend_eof(struct io *io)
{
    ended(container_of(io, struct stream, backend), io);
}

static void on_client_drain(struct io *io)
{
    said(container_of(io, struct stream, client), io);
}

static void on_backend_drain(struct io *io)
{
    said(container_of(io, struct stream, backend), io);
}

/* ---- the instance ---- */

static void on_backend_open(struct io *io)
{
    struct stream *s = container_of(io, struct stream, backend);
    if (backend_met_itself(s->instance, io->fd)) {
        connect_failed(s, err_refused);
        return;
    }
    backend_served(s->instance);
    s->idle = s->def->idle;
    s->def = NULL;
    snapshot_unref(&s->snap);
    s->status = 200;
    io_keepalive(&s->client);
    io_keepalive(&s->backend);
    state_set(s, STREAM_OPEN);
    while (s->early.bytes) {
        const struct slice first = sliceq_first(&s->early);
        io_write_slice(io, first);
        sliceq_consume(&s->early, first.n);
    }
    sliceq_fini(&s->early);
    io_resume(&s->client, IO_PAUSE_PEER);
    if (s->client.eof_seen)
        ended(s, &s->client);
}

static void send_header(struct stream *s)
{
    char mem[PROXY_HEADER_MAX];
    struct sockaddr_storage from = {0}, to = {0};
    socklen_t from_n = sizeof(from), to_n = sizeof(to);
    if (s->def->send_proxy == CONF_SEND_PROXY_OFF)
        return;
    if (s->pass.named) {
        net_to_sockaddr(s->pass.ip, s->pass.port, &from);
        net_to_sockaddr(s->pass.local_ip, s->pass.local_port, &to);
    } else if (getpeername(s->client.fd, (struct sockaddr *)&from, &from_n) < 0 ||
               getsockname(s->client.fd, (struct sockaddr *)&to, &to_n) < 0) {
        from.ss_family = AF_UNSPEC; /* the client is gone, which is noticed soon enough */
    }
    io_write_before_tls(&s->backend, proxy_header(s->def->send_proxy, &from, &to, mem));
}

/* As for requests: never is an https:// backend spoken to in plain text. */
static bool choose_tls(const struct stream *s, const struct backend_instance *i,
                       struct backend_tls **tls)
{
    *tls = NULL;
    if (!i->by_tls || s->def->opaque)
        return true;
    *tls = s->snap->backend_tls[s->def->service->index];
    if (!*tls)
        *tls = i->tls.tls;
    return *tls != NULL;
}

static void start_tls(struct stream *s)
{
    struct backend_instance *i = s->instance;
    backend_use_tls(i, s->backend_tls);
    SSL *ssl = backend_tls_client(&i->tls, backend_host(i), false);
    (void)SSL_set_alpn_protos(ssl, NULL, 0); /* what is spoken inside is not ours to say */
    io_start_tls(&s->backend, ssl);
}

static void connect_to(struct stream *s, struct backend_instance *i)
{
    struct sockaddr_storage sa;
    socklen_t len;
    struct backend_tls *tls;
    if (!backend_address(i, s->def->port, &sa, &len)) {
        stream_fail(s, 502, "the instance is older than the port that the stream names");
        return;
    }
    if (!choose_tls(s, i, &tls)) {
        stream_fail(s, 502, "the backend and how to speak to it are of two configurations");
        return;
    }
    s->tries++;
    s->instance = backend_ref(i);
    backend_stream_enter(s->service, &s->held, on_held);
    backend_tie(i, &s->tied, on_untied);
    backend_connect_begun(i);
    backend_request_begun(i);
    stats_inc(backend_connections);
    s->backend = (struct io){.out.budget = &s->budget, .early.budget = &s->budget};
    io_connect(&s->backend, (const struct sockaddr *)&sa, len, &backend_ops);
    send_header(s);
    if (tls) {
        s->backend_tls = backend_tls_ref(tls);
        start_tls(s);
    }
    state_set(s, STREAM_CONNECTING);
}

static void on_instance(struct backend_waiter *w, struct backend_instance *i)
{
    struct stream *s = container_of(w, struct stream, waiter);
    if (i) {
        connect_to(s, i);
        return;
    }
    row_add(&s->service->row->unavailable, 1);
    stream_fail(s, 503, "no instance of the service is ready");
}

static void find_instance(struct stream *s)
{
    const uint64_t now = loop_now_ms();
    state_set(s, STREAM_WAITING);
    s->service->round = s->def->service->balance == CONF_BALANCE_ROUND;
    backend_wait(s->service, &s->waiter, s->wait_until > now ? s->wait_until - now : 0);
}

static void on_retry(struct turn_task *t)
{
    struct stream *s = container_of(t, struct stream, retry);
    row_add(&s->service->row->retries, 1);
    find_instance(s);
}

/*
 * Nothing was said yet, so another instance will do as well; one that is run by us and restarts is
 * waited for.
 */
static void connect_failed(struct stream *s, const char *err)
{
    struct backend_instance *i = s->instance;
    const bool timed_out = exchange_timed_out(err);
    backend_connect_failed(i);
    backend_failed(i, err);
    backend_suspect(i);
    backend_leave(s);
    const bool again = (s->def->service->n_argv > 0 && !timed_out) ||
                       (s->tries < backend_count(s->service) && backend_choose(s->service));
    if (again && s->wait_until > loop_now_ms()) {
        /* Not from inside of the io that failed: it is used again. */
        state_set(s, STREAM_WAITING);
        loop_at_turn_end(&s->retry, on_retry);
        return;
    }
    row_add(&s->service->row->failures, 1);
    stream_fail(s, timed_out ? 504 : 502, err);
}

/* ---- the client ---- */

static void begin(struct stream *s)
{
    front_count_as(&s->pass, s->def->tls ? STAT_connections_tcp_tls : STAT_connections_tcp);
    s->wait_until = loop_now_ms() + s->def->service->wait_ready;
    s->service = backend_service(s->def->service->name);
    io_pause(&s->client, IO_PAUSE_PEER);
    find_instance(s);
}

static void on_client_open(struct io *io)
{
    struct stream *s = container_of(io, struct stream, client);
    tls_conn_established(&s->tls, io->ssl);
    if (s->tls.resumed)
        stats_inc(handshakes_resumed);
    else
        stats_inc(handshakes_full);
    s->tls.names = NULL;
    begin(s);
}

static void on_client_error(struct io *io, const char *err)
{
    struct stream *s = container_of(io, struct stream, client);
    switch (s->state) {
    case STREAM_HANDSHAKE:
        stats_inc(handshakes_failed);
        stream_fail(s, 400, err);
        break;
    case STREAM_OPEN:
        side_lost(s, io, err);
        break;
    case STREAM_WAITING:
    case STREAM_CONNECTING:
        stream_fail(s, 499, err);
        break;
    case STREAM_ENDING:
    case STREAM_CLOSED:
        stream_close(s);
    }
}

static void on_backend_error(struct io *io, const char *err)
{
    struct stream *s = container_of(io, struct stream, backend);
    switch (s->state) {
    case STREAM_CONNECTING:
        connect_failed(s, io->ssl ? backend_tls_error(io->ssl, err) : err);
        break;
    case STREAM_OPEN:
        side_lost(s, io, err);
        break;
    case STREAM_HANDSHAKE:
    case STREAM_WAITING:
    case STREAM_ENDING:
    case STREAM_CLOSED:
        stream_close(s);
    }
}

static const struct io_ops client_ops = {on_client_open, on_client_read, on_client_eof,
                                         on_client_drain, on_client_error};
static const struct io_ops backend_ops = {on_backend_open, on_backend_read, on_backend_eof,
                                          on_backend_drain, on_backend_error};

static void on_deadline(struct deadline *d)
{
    struct stream *s = container_of(d, struct stream, deadline);
    if (time_left(s)) {
        watch(s);
        return;
    }
    switch (s->state) {
    case STREAM_HANDSHAKE:
        stats_inc(handshakes_failed);
        stream_fail(s, 408, "TLS handshake timed out");
        break;
    case STREAM_CONNECTING:
        connect_failed(s, exchange_err_connect_timeout);
        break;
    case STREAM_OPEN:
        stream_fail(s, 200, "idle for too long");
        break;
    case STREAM_WAITING:
    case STREAM_ENDING:
    case STREAM_CLOSED:
        stream_close(s);
    }
}

/* ---- birth ---- */

static void start(struct stream *s, int fd)
{
    s->began_us = now_us();
    s->waiter.on_instance = on_instance;
    s->client.out.budget = s->client.early.budget = s->early.budget = &s->budget;
    io_init(&s->client, fd, &client_ops);
    if (!s->def->tls) {
        begin(s);
        return;
    }
    s->tls.names = s->snap->names;
    s->tls.fd = fd;
    s->tls.raw = true;
    s->tls.default_host = s->def->host;
    s->tls.alpn = s->def->alpn;
    state_set(s, STREAM_HANDSHAKE);
    io_start_tls(&s->client, tls_server_new(&s->tls));
}

static struct stream *stream_new(const struct front_pass *pass, const struct front_door *door,
                                 const struct conf_stream *def)
{
    struct stream *s = calloc(1, sizeof(*s));
    ASSERT(s);
    s->pass = *pass;
    s->snap = snapshot_ref(snapshot_current());
    s->def = def;
    s->address = door->address;
    list_append(&streams, &s->link);
    return s;
}

void stream_enter(int fd, const struct front_pass *pass, const struct front_door *door)
{
    const struct conf_stream *def = conf_stream_find(snapshot_current()->conf, door->address);
    if (!def) { /* queued at an address that just left the configuration */
        struct front_pass in = *pass;
        close(fd);
        front_leave(&in);
        return;
    }
    start(stream_new(pass, door, def), fd);
}

void stream_pass_on(int fd, const struct front_pass *pass, const struct front_door *door,
                    const struct conf_stream *def, struct str host, struct str read)
{
    struct stream *s = stream_new(pass, door, def);
    ASSERT(host.n < sizeof(s->tls.sni) && !def->tls);
    if (host.n)
        memcpy(s->tls.sni, host.p, host.n);
    s->early.budget = &s->budget;
    sliceq_copy(&s->early, read.p, read.n);
    heard(s, read.n);
    start(s, fd);
}
