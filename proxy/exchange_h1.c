/*
 * exchange_h1.c - HTTP/1.1 towards a backend (RFC 9112): connections kept an instance, and the one
 * exchange on each. A connection that ended other than in order is never used again.
 */
#include "proxy/exchange.h"

#include <stdlib.h>

#include "base/stats.h"
#include "proxy/h1_parse.h"

#define KEEP_MS                                                                       \
    60000 /* an idle connection is given up then, if the backend does not do it first \
           */
#define CHECK_MS 1000
#define PIECES   32 /* chunks handed on together */

#define HEAD_MAX (128 * 1024) /* of a request: what clients may send and what we add */

const char exchange_err_head_too_large[] = "the request's head is too large for the backend";
const char exchange_err_connect_timeout[] = "connecting to the backend timed out";
const char exchange_err_response_timeout[] = "the backend did not answer in time";
const char exchange_err_gap_timeout[] = "the backend stopped in the middle of its answer";

enum h1_state {
    EX_CONNECTING,
    EX_HEAD,   /* the answer's head is awaited */
    EX_BODY,   /* the answer's body comes */
    EX_TUNNEL, /* another protocol is spoken, both ways */
    EX_IDLE,   /* kept, between exchanges */
    EX_CLOSED
};

struct h1_exchange {
    struct exchange e;
    struct io io;
    struct list link; /* of the instance's idle ones */
    enum h1_state state;
    struct deadline deadline;
    uint64_t since;           /* ms: state was entered */
    uint64_t listening_since; /* ms: the last pause's end */
    uint64_t used;            /* exchanges begun on this connection */
    uint64_t out_before;      /* io.bytes_out without a byte of this one */
    struct backend_tls *tls;  /* counted; NULL: plain */
    bool request_done;        /* all of the request was written */
    bool request_chunked;
    bool upgrade; /* another protocol was asked for */
    bool keep_alive;
    struct slab *head; /* an answer's head that did not come in one piece */
    size_t head_held;  /* bytes of it that the client's budget knows of */
    size_t scanned;
    size_t interim; /* bytes of 1xx answers */
    struct h1_limits limits;
    enum h1_framing framing;
    uint64_t left;
    struct h1_chunked chunked;
};

static const struct io_ops exchange_io;
static const struct exchange_codec h1_codec;

bool exchange_timed_out(const char *err)
{
    return err == exchange_err_connect_timeout || err == exchange_err_response_timeout ||
           err == exchange_err_gap_timeout || err == err_timeout;
}

static struct h1_exchange *of(struct io *io)
{
    return container_of(io, struct h1_exchange, io);
}

static struct h1_exchange *h1_of(const struct exchange *e)
{
    return container_of(e, struct h1_exchange, e);
}

static void state_set(struct h1_exchange *x, enum h1_state to)
{
    ASSERT(x->state != EX_CLOSED);
    x->state = to;
    x->since = loop_now_ms();
}

/* ---- life ---- */

static void exchange_free(void *p)
{
    struct h1_exchange *x = p;
    backend_tls_unref(&x->tls);
    backend_unref(&x->e.instance);
    free(x);
}

static void idle_leave(struct h1_exchange *x)
{
    list_remove(&x->link);
    x->e.instance->n_idle--;
    stats_dec(backend_idle);
}

/* An incomplete head waits, or waits no longer. */
static void head_account(struct h1_exchange *x)
{
    budget_recount(x->e.budget, &x->head_held, x->head ? x->head->cap : 0);
}

/* From now on it is one client's; NULL: nobody's. */
static void belong(struct h1_exchange *x, struct budget *b, size_t room)
{
    ASSERT(!x->head_held && !io_queued(&x->io));
    x->e.budget = x->io.out.budget = b;
    x->e.room = x->io.read_max = room;
}

static void exchange_close(struct h1_exchange *x)
{
    if (x->state == EX_CLOSED)
        return;
    bool busy = x->state != EX_IDLE;
    if (!busy)
        idle_leave(x);
    /* OpenSSL takes a connection that ends unannounced for a broken one, and its session with it.
     */
    if (x->io.ssl && x->state != EX_CONNECTING)
        SSL_set_shutdown(x->io.ssl, SSL_SENT_SHUTDOWN);
    state_set(x, EX_CLOSED);
    io_close(&x->io);
    deadline_cancel(&x->deadline);
    slab_unref(x->head);
    x->head = NULL;
    head_account(x);
    stats_dec(backend_connections);
    if (busy)
        backend_request_over(x->e.instance);
    loop_free_later(x, exchange_free);
}

static void h1_abort(struct exchange *e)
{
    exchange_close(h1_of(e));
}

static void fail(struct h1_exchange *x, const char *err)
{
    bool silent = x->state == EX_CONNECTING || (x->state == EX_HEAD && !x->head && !x->interim);
    bool stale = silent && x->used > 1;
    bool idle = x->state == EX_IDLE, tunnel = x->state == EX_TUNNEL;
    if (x->state == EX_CLOSED)
        return;
    if (x->state == EX_CONNECTING)
        backend_connect_failed(x->e.instance);
    exchange_close(x);
    if (idle)
        return;
    /* How long an answer takes, or a tunnel lasts, is not the instance's affair alone. */
    if (!stale && !tunnel && err != exchange_err_response_timeout &&
        err != exchange_err_gap_timeout)
        backend_failed(x->e.instance, err);
    x->e.ops->on_error(&x->e, err, stale ? EXCHANGE_STALE : EXCHANGE_BROKEN);
}

static void on_deadline(struct deadline *d)
{
    struct h1_exchange *x = container_of(d, struct h1_exchange, deadline);
    uint64_t now = loop_now_ms(), from = x->since, limit = 0;
    const char *why = NULL;
    switch (x->state) {
    case EX_CONNECTING:
        limit = x->e.timeouts.connect_ms, why = exchange_err_connect_timeout;
        break;
    case EX_HEAD:
        /* The clock of the answer's first byte starts when the request is out. */
        if (x->request_done && !io_queued(&x->io))
            limit = x->e.timeouts.response_ms, from = MAX(x->since, x->io.last_out);
        else if (io_queued(&x->io))
            limit = x->e.timeouts.gap_ms, from = MAX(x->since, io_last_taken(&x->io));
        why = exchange_err_response_timeout;
        break;
    case EX_BODY:
        /* Silence counts only while we listen. */
        if (!x->io.paused)
            limit = x->e.timeouts.gap_ms, from = MAX(x->listening_since, x->io.last_in);
        why = exchange_err_gap_timeout;
        break;
    case EX_IDLE:
        limit = KEEP_MS;
        break;
    case EX_TUNNEL: /* may be silent for ever: its owner's affair */
    case EX_CLOSED:
        return;
    }
    if (!limit || from + limit > now)
        deadline_set(d, limit ? MIN(from + limit - now, CHECK_MS) : CHECK_MS, on_deadline);
    else
        fail(x, why);
}

static struct h1_exchange *exchange_new(struct backend_instance *i, struct backend_tls *tls)
{
    struct h1_exchange *x = calloc(1, sizeof(*x));
    ASSERT(x);
    x->e.codec = &h1_codec;
    x->e.instance = backend_ref(i);
    x->state = EX_CONNECTING;
    backend_connect_begun(i);
    stats_inc(backend_connections);
    io_connect(&x->io, (const struct sockaddr *)&i->addr, i->addr_len, &exchange_io);
    if (tls) {
        x->tls = backend_tls_ref(tls);
        io_start_tls(&x->io, backend_tls_client(&i->tls, backend_host(i), false));
    }
    return x;
}

struct exchange *exchange_h1_start(const struct exchange_start *s)
{
    struct backend_instance *i = s->instance;
    struct h1_exchange *x;
    backend_use_tls(i, s->tls);
    if (!s->fresh && !list_empty(&i->idle)) {
        x = container_of(i->idle.next, struct h1_exchange, link);
        idle_leave(x);
        state_set(x, EX_HEAD);
    } else {
        x = exchange_new(i, s->tls);
        x->since = loop_now_ms();
    }
    backend_request_begun(i);
    x->used++;
    /* What goes out before a TLS connection stands is handshake: on_open knows how much. */
    x->out_before = x->state == EX_CONNECTING && s->tls ? UINT64_MAX : x->io.bytes_out;
    x->e.ops = s->ops;
    x->e.owner = s->owner;
    x->e.arena = s->arena;
    x->e.method = s->method;
    x->e.timeouts = s->timeouts;
    belong(x, s->budget, s->room);
    x->request_done = x->request_chunked = x->upgrade = false;
    x->scanned = x->interim = 0;
    /* Backends are ours, but their answers are bounded all the same. */
    x->limits = (struct h1_limits){.head = 64 * 1024, .target = SIZE_MAX, .fields = 500};
    deadline_set(&x->deadline, CHECK_MS, on_deadline);
    return &x->e;
}

/* The exchange ended in order: keep the connection if both sides can. */
static void release(struct h1_exchange *x)
{
    struct backend_instance *i = x->e.instance;
    io_resume(&x->io, IO_PAUSE_PEER);
    if (!x->keep_alive || !x->request_done || io_queued(&x->io) || i->gone ||
        i->state != INSTANCE_READY || i->n_idle >= BACKEND_IDLE_MAX || x->io.eof_seen ||
        x->io.error || x->tls != i->tls.tls) {
        exchange_close(x);
        return;
    }
    state_set(x, EX_IDLE);
    belong(x, NULL, 0);
    x->e.arena = NULL;
    list_push(&i->idle, &x->link);
    i->n_idle++;
    stats_inc(backend_idle);
    backend_request_over(i);
}

/* ---- the request ---- */

static void field(struct out *o, struct str name, struct str value)
{
    out_str(o, name);
    out_lit(o, ": ");
    out_str(o, value);
    out_lit(o, "\r\n");
}

static void request_line(struct out *o, const struct exchange_request *r)
{
    out_str(o, r->method);
    out_char(o, ' ');
    out_str(o, r->path);
    if (r->query.p) {
        out_char(o, '?');
        out_str(o, r->query);
    }
    out_lit(o, " HTTP/1.1\r\n");
    field(o, STR("host"), r->authority);
}

/* RFC 9112 6: how long the body is. Where one is usual, its absence is said too. */
static void framing(struct out *o, const struct h1_exchange *x, uint64_t length)
{
    enum http_method m = x->e.method;
    if (x->request_chunked) {
        out_lit(o, "transfer-encoding: chunked\r\n");
    } else if (length || m == METHOD_POST || m == METHOD_PUT || m == METHOD_PATCH) {
        out_lit(o, "content-length: ");
        out_u64(o, length);
        out_lit(o, "\r\n");
    }
}

static const char *h1_write_head(struct exchange *e, const struct exchange_request *r)
{
    static char scratch[HEAD_MAX];
    struct h1_exchange *x = h1_of(e);
    struct out o = out_on(scratch, sizeof(scratch));
    x->request_chunked = r->length == EXCHANGE_LENGTH_UNKNOWN;
    request_line(&o, r);
    for (unsigned i = 0; i < r->fields->n; i++)
        field(&o, r->fields->v[i].name, r->fields->v[i].value);
    if (r->upgrade.p) {
        x->upgrade = true;
        field(&o, STR("connection"), STR("upgrade"));
        field(&o, STR("upgrade"), r->upgrade);
    }
    framing(&o, x, r->length);
    out_lit(&o, "\r\n");
    if (o.over)
        return exchange_err_head_too_large;
    io_write(&x->io, o.p, o.n);
    return NULL;
}

static void h1_write_body(struct exchange *e, struct slice data)
{
    struct h1_exchange *x = h1_of(e);
    if (x->request_chunked) {
        char size[20];
        struct out o = out_on(size, sizeof(size));
        out_hex(&o, data.n, 8);
        out_lit(&o, "\r\n");
        io_write(&x->io, o.p, o.n);
    }
    io_write_slice(&x->io, data);
    if (x->request_chunked)
        io_write(&x->io, "\r\n", 2);
}

static void h1_write_end(struct exchange *e, const struct fields *trailers)
{
    struct h1_exchange *x = h1_of(e);
    x->request_done = true;
    if (x->state == EX_TUNNEL)
        io_shutdown(&x->io);
    if (!x->request_chunked)
        return;
    io_write(&x->io, "0\r\n", 3);
    for (unsigned i = 0; trailers && i < trailers->n; i++) {
        const struct field *f = &trailers->v[i];
        if (f->flags & FIELD_HOP)
            continue;
        io_write(&x->io, f->name.p, f->name.n);
        io_write(&x->io, ": ", 2);
        io_write(&x->io, f->value.p, f->value.n);
        io_write(&x->io, "\r\n", 2);
    }
    io_write(&x->io, "\r\n", 2);
}

static size_t h1_queued(const struct exchange *e)
{
    return io_queued(&h1_of(e)->io);
}

static void h1_want_sent(struct exchange *e)
{
    io_want_drain(&h1_of(e)->io);
}

static void h1_pause(struct exchange *e, bool on)
{
    struct h1_exchange *x = h1_of(e);
    if (on) {
        io_pause(&x->io, IO_PAUSE_PEER);
        return;
    }
    x->io.read_max = x->e.room;
    x->listening_since = loop_now_ms();
    io_resume(&x->io, IO_PAUSE_PEER);
}

static bool h1_connecting(const struct exchange *e)
{
    return h1_of(e)->state == EX_CONNECTING;
}

static bool h1_unsent(const struct exchange *e)
{
    const struct h1_exchange *x = h1_of(e);
    return x->io.bytes_out <= x->out_before;
}

static const struct exchange_codec h1_codec = {
    .head = h1_write_head,
    .body = h1_write_body,
    .end = h1_write_end,
    .queued = h1_queued,
    .want_sent = h1_want_sent,
    .pause = h1_pause,
    .connecting = h1_connecting,
    .unsent = h1_unsent,
    .abort = h1_abort,
};

void exchange_h1_leave(struct backend_instance *i)
{
    LIST_EACH_SAFE (&i->idle, l)
        exchange_close(container_of(l, struct h1_exchange, link));
}

/* ---- the answer ---- */

/*
 * Given back first: the last callback may well start the next exchange on this very connection. It
 * must take what it needs of x (its owner) before it hands on the slices.
 */
static void answer_over(struct h1_exchange *x, const struct fields *trailers, const struct slice *v,
                        unsigned n)
{
    if (!trailers) {
        release(x);
        x->e.ops->on_body(&x->e, v, n, true);
        return;
    }
    if (n)
        x->e.ops->on_body(&x->e, v, n, false);
    if (x->state != EX_BODY)
        return;
    release(x);
    x->e.ops->on_end(&x->e, trailers);
}

static void body_length(struct h1_exchange *x, struct slice s)
{
    struct slice piece = s;
    piece.n = (size_t)MIN((uint64_t)s.n, x->left);
    x->left -= piece.n;
    if (piece.n < s.n)
        x->keep_alive = false; /* more than it announced: what follows cannot be trusted */
    if (!x->left)
        answer_over(x, NULL, &piece, 1);
    else
        x->e.ops->on_body(&x->e, &piece, 1, false);
}

static void body_chunked(struct h1_exchange *x, struct slice s)
{
    struct slice v[PIECES];
    unsigned n = 0;
    struct str data = {(const char *)s.p, s.n}, piece;
    const char *why = NULL;
    while (x->state == EX_BODY) {
        switch (h1_chunked_feed(&x->chunked, &data, &piece, &why)) {
        case H1_CHUNK_DATA:
            v[n++] = (struct slice){s.slab, (const uint8_t *)piece.p, piece.n};
            if (n == PIECES) {
                x->e.ops->on_body(&x->e, v, n, false);
                n = 0;
            }
            break;
        case H1_CHUNK_MORE:
            if (n)
                x->e.ops->on_body(&x->e, v, n, false);
            return;
        case H1_CHUNK_END:
            if (data.n)
                x->keep_alive = false;
            answer_over(x, x->chunked.trailers.n ? &x->chunked.trailers : NULL, v, n);
            return;
        case H1_CHUNK_BAD:
            fail(x, why);
            return;
        }
    }
}

static void on_body(struct h1_exchange *x, struct slice s)
{
    if (!s.n)
        return;
    switch (x->framing) {
    case H1_LENGTH:
        body_length(x, s);
        return;
    case H1_CHUNKED:
        body_chunked(x, s);
        return;
    case H1_UNTIL_CLOSE:
        x->e.ops->on_body(&x->e, &s, 1, false);
        return;
    case H1_NO_BODY:
        break;
    }
}

/* The connection is a tunnel from now on; who asked judges whether it is what was asked for. */
static void switched(struct h1_exchange *x, struct h1_head *h, struct slice rest)
{
    if (!x->upgrade || !h->upgrade.p) {
        fail(x, "the backend switched protocols unasked");
        return;
    }
    state_set(x, EX_TUNNEL);
    x->keep_alive = false;
    deadline_cancel(&x->deadline);
    io_keepalive(&x->io);
    backend_served(x->e.instance);
    struct exchange_head head = {.status = 101,
                                 .fields = h->fields,
                                 .length = EXCHANGE_LENGTH_UNKNOWN,
                                 .upgrade = h->upgrade};
    x->e.ops->on_head(&x->e, &head);
    if (x->state == EX_TUNNEL && rest.n)
        x->e.ops->on_body(&x->e, &rest, 1, false);
}

static void head_complete(struct h1_exchange *x, struct h1_head *h, struct slice rest)
{
    bool none = h->framing == H1_NO_BODY || (h->framing == H1_LENGTH && !h->length);
    x->framing = h->framing;
    x->left = h->length;
    x->keep_alive = h->keep_alive && h->framing != H1_UNTIL_CLOSE;
    if (h->framing == H1_CHUNKED)
        h1_chunked_init(&x->chunked, x->e.arena, &x->limits);
    if (h->status == 101) {
        switched(x, h, rest);
        return;
    }
    if (none && rest.n)
        x->keep_alive = false;
    state_set(x, EX_BODY);
    backend_served(x->e.instance);
    struct exchange_head head = {.status = h->status,
                                 .fields = h->fields,
                                 .length =
                                     h->framing == H1_LENGTH ? h->length : EXCHANGE_LENGTH_UNKNOWN,
                                 .no_body = none};
    x->e.ops->on_head(&x->e, &head);
    if (x->state != EX_BODY)
        return;
    if (none)
        answer_over(x, NULL, NULL, 0);
    else
        on_body(x, rest);
}

/* Adds to the partly read head. False: over the limit (the parser says so on the next try). */
static void head_collect(struct h1_exchange *x, struct slice s)
{
    size_t have = x->head ? x->head->used : 0;
    if (!x->head || x->head->cap - have < s.n) {
        struct slab *more = slab_new(MAX(2 * have + s.n, (size_t)SLAB_SMALL));
        if (have)
            memcpy(more->data, x->head->data, have);
        more->used = (uint32_t)have;
        slab_unref(x->head);
        x->head = more;
    }
    memcpy(x->head->data + have, s.p, s.n);
    x->head->used = (uint32_t)(have + s.n);
}

/* What of a head is there waits for the rest, in a buffer of its own. */
static void head_keep(struct h1_exchange *x, struct slice s)
{
    struct slab *old = x->head;
    if (old && s.p == old->data)
        return;
    x->head = NULL;
    if (s.n)
        head_collect(x, s);
    slab_unref(old);
}

/*
 * 1xx: 100 was answered by us already, others carry nothing that we pass on. All of them together
 * may be as long as one head: whoever sends them without end keeps a request's memory growing.
 */
static bool head_interim(struct h1_exchange *x, const struct h1_head *h, size_t n)
{
    if (h->status >= 200 || h->status == 101)
        return false;
    x->interim += n;
    if (x->interim > x->limits.head)
        fail(x, "the backend sends interim answers without end");
    return true;
}

static void on_head_bytes(struct h1_exchange *x, struct slice s)
{
    if (x->head) {
        head_collect(x, s);
        s = (struct slice){x->head, x->head->data, x->head->used};
    }
    while (x->state == EX_HEAD && s.n) {
        struct h1_head h = {0};
        const char *why = NULL;
        char *p = (char *)(uintptr_t)s.p;
        ssize_t n =
            h1_parse_answer(p, s.n, &x->scanned, &x->limits, x->e.method, x->e.arena, &h, &why);
        if (n < 0) {
            fail(x, why);
            return;
        }
        if (n == 0)
            break;
        x->scanned = 0;
        s.p += n;
        s.n -= (size_t)n;
        if (head_interim(x, &h, (size_t)n))
            continue;
        char *copy = arena_alloc(x->e.arena, (size_t)n);
        memcpy(copy, p, (size_t)n);
        h1_rebase(&h, p, copy);
        struct slab *held = x->head;
        x->head = NULL;
        head_account(x);
        head_complete(x, &h, s);
        slab_unref(held);
        return;
    }
    if (x->state == EX_HEAD)
        head_keep(x, s);
    head_account(x);
}

/* ---- what the socket says ---- */

static void on_open(struct io *io)
{
    struct h1_exchange *x = of(io);
    if (backend_met_itself(x->e.instance, io->fd)) {
        fail(x, err_refused);
        return;
    }
    if (io->ssl) /* the handshake's last bytes may still be to go */
        x->out_before = io->bytes_out + io->out.bytes;
    state_set(x, EX_HEAD);
}

static void on_read(struct io *io, struct slice s)
{
    struct h1_exchange *x = of(io);
    switch (x->state) {
    case EX_HEAD:
        on_head_bytes(x, s);
        return;
    case EX_BODY:
        on_body(x, s);
        return;
    case EX_TUNNEL:
        x->e.ops->on_body(&x->e, &s, 1, false);
        return;
    case EX_IDLE: /* an answer that nobody asked for */
        exchange_close(x);
        return;
    case EX_CONNECTING:
    case EX_CLOSED:
        return;
    }
}

static void on_eof(struct io *io)
{
    struct h1_exchange *x = of(io);
    if (x->state == EX_BODY && x->framing == H1_UNTIL_CLOSE) {
        answer_over(x, NULL, NULL, 0);
        return;
    }
    if (x->state == EX_TUNNEL) {
        x->e.ops->on_body(&x->e, NULL, 0, true);
        return;
    }
    fail(x, x->state == EX_BODY ? err_truncated : err_eof);
}

static void on_drain(struct io *io)
{
    struct h1_exchange *x = of(io);
    if (x->state == EX_HEAD || x->state == EX_BODY || x->state == EX_TUNNEL)
        x->e.ops->on_sent(&x->e);
}

static void on_error(struct io *io, const char *err)
{
    struct h1_exchange *x = of(io);
    /* Who answers early and closes makes our sending fail, while its answer waits to be read. */
    if (x->state == EX_HEAD || x->state == EX_BODY || x->state == EX_TUNNEL)
        io_read_rest(io);
    if (io->ssl && x->state == EX_CONNECTING) {
        err = backend_tls_error(io->ssl, err);
        backend_tls_peer_forget(&x->e.instance->tls);
    }
    fail(x, err);
}

static const struct io_ops exchange_io = {on_open, on_read, on_eof, on_drain, on_error};
