/*
 * h2.c - the demo's HTTP/2 server: nghttp2 speaks the protocol, bufferevents carry the bytes.
 */
#include "conf/demo/h2.h"

#include <err.h>
#include <event2/bufferevent.h>
#include <event2/listener.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define BODY_MAX   (1024 * 1024)
#define OUTPUT_MAX (256 * 1024) /* written and not yet taken by the peer, a connection */
#define FIELDS_MAX 8

LIST_HEAD(conn_list, h2_conn);
LIST_HEAD(request_list, h2_request);

struct h2_conn {
    LIST_ENTRY(h2_conn) link;
    struct h2_server *server;
    struct bufferevent *bev;
    nghttp2_session *session;
    bool reading; /* inside nghttp2: what is to be sent goes out when it returns */
    struct request_list requests;
};

struct h2_server {
    struct event_base *base;
    struct evconnlistener *listener;
    nghttp2_session_callbacks *callbacks;
    void (*on_request)(struct h2_request *r, void *ctx);
    void *ctx;
    unsigned active;
    struct conn_list conns;
};

static void *must(void *p)
{
    if (!p)
        errx(1, "no memory");
    return p;
}

/* ---- requests ---- */

static struct h2_request *request_new(struct h2_conn *c, int32_t id)
{
    struct h2_request *r = must(calloc(1, sizeof(*r)));

    r->conn = c;
    r->id = id;
    r->path = must(strdup(""));
    r->content_type = must(strdup(""));
    r->body = must(evbuffer_new());
    r->out = must(evbuffer_new());
    LIST_INSERT_HEAD(&c->requests, r, link);
    c->server->active++;
    return r;
}

static void request_free(struct h2_request *r)
{
    if (r->on_gone)
        r->on_gone(r);
    LIST_REMOVE(r, link);
    r->conn->server->active--;
    evbuffer_free(r->body);
    evbuffer_free(r->out);
    free(r->path);
    free(r->content_type);
    free(r);
}

static struct h2_request *request_of(nghttp2_session *session, int32_t id)
{
    return nghttp2_session_get_stream_user_data(session, id);
}

/* ---- connections ---- */

static void conn_free(struct h2_conn *c)
{
    struct h2_request *r;

    while ((r = LIST_FIRST(&c->requests)))
        request_free(r);
    LIST_REMOVE(c, link);
    nghttp2_session_del(c->session);
    bufferevent_free(c->bev);
    free(c);
}

/* Hands over what nghttp2 has, as far as the peer takes it. False: the connection is gone. */
static bool conn_flush(struct h2_conn *c)
{
    struct evbuffer *out = bufferevent_get_output(c->bev);
    const uint8_t *bytes;
    ssize_t n = 0;

    while (evbuffer_get_length(out) < OUTPUT_MAX &&
           (n = nghttp2_session_mem_send(c->session, &bytes)) > 0)
        bufferevent_write(c->bev, bytes, (size_t)n);
    if (n >= 0 && (nghttp2_session_want_read(c->session) ||
                   nghttp2_session_want_write(c->session) || evbuffer_get_length(out)))
        return true;
    conn_free(c);
    return false;
}

static void on_readable(struct bufferevent *bev, void *arg)
{
    struct h2_conn *c = arg;
    struct evbuffer *in = bufferevent_get_input(bev);
    size_t n = evbuffer_get_length(in);
    ssize_t taken;

    c->reading = true;
    taken = nghttp2_session_mem_recv(c->session, evbuffer_pullup(in, -1), n);
    c->reading = false;
    if (taken < 0) {
        conn_free(c);
        return;
    }
    evbuffer_drain(in, (size_t)taken);
    conn_flush(c);
}

static void on_drained(struct bufferevent *bev, void *arg)
{
    (void)bev;
    conn_flush(arg);
}

static void on_closed(struct bufferevent *bev, short what, void *arg)
{
    (void)bev;
    (void)what;
    conn_free(arg);
}

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *sa,
                      int n, void *arg)
{
    struct h2_server *s = arg;
    struct h2_conn *c = must(calloc(1, sizeof(*c)));
    const nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 128}};
    const int one = 1;

    (void)listener;
    (void)n;
    if (sa->sa_family != AF_UNIX)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    c->server = s;
    LIST_INIT(&c->requests);
    LIST_INSERT_HEAD(&s->conns, c, link);
    c->bev = must(bufferevent_socket_new(s->base, fd, BEV_OPT_CLOSE_ON_FREE));
    bufferevent_setcb(c->bev, on_readable, on_drained, on_closed, c);
    bufferevent_enable(c->bev, EV_READ | EV_WRITE);
    if (nghttp2_session_server_new(&c->session, s->callbacks, c) != 0)
        errx(1, "no memory");
    nghttp2_submit_settings(c->session, NGHTTP2_FLAG_NONE, settings, 1);
    conn_flush(c);
}

/* ---- what nghttp2 reports ---- */

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST)
        nghttp2_session_set_stream_user_data(session, frame->hd.stream_id,
                                             request_new(arg, frame->hd.stream_id));
    return 0;
}

static void keep(char **field, const uint8_t *value, size_t n)
{
    free(*field);
    *field = must(strndup((const char *)value, n));
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t n_name, const uint8_t *value, size_t n_value, uint8_t flags, void *arg)
{
    struct h2_request *r = request_of(session, frame->hd.stream_id);

    (void)flags;
    (void)arg;
    if (r && n_name == 5 && memcmp(name, ":path", 5) == 0)
        keep(&r->path, value, n_value);
    else if (r && n_name == 12 && memcmp(name, "content-type", 12) == 0)
        keep(&r->content_type, value, n_value);
    return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *bytes,
                   size_t n, void *arg)
{
    struct h2_request *r = request_of(session, id);

    (void)flags;
    (void)arg;
    if (!r)
        return 0;
    if (evbuffer_get_length(r->body) + n > BODY_MAX)
        return nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, id, NGHTTP2_CANCEL);
    evbuffer_add(r->body, bytes, n);
    return 0;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct h2_conn *c = arg;
    struct h2_request *r = request_of(session, frame->hd.stream_id);

    if (r && frame->hd.flags & NGHTTP2_FLAG_END_STREAM &&
        (frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA))
        c->server->on_request(r, c->server->ctx);
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t code, void *arg)
{
    struct h2_request *r = request_of(session, id);

    (void)code;
    (void)arg;
    if (r)
        request_free(r);
    return 0;
}

/* ---- answers ---- */

static nghttp2_nv field(const char *name, const char *value)
{
    return (nghttp2_nv){.name = (uint8_t *)(uintptr_t)name,
                        .value = (uint8_t *)(uintptr_t)value,
                        .namelen = strlen(name),
                        .valuelen = strlen(value)};
}

static ssize_t read_out(nghttp2_session *session, int32_t id, uint8_t *to, size_t n,
                        uint32_t *flags, nghttp2_data_source *source, void *arg)
{
    struct h2_request *r = source->ptr;
    int taken = evbuffer_remove(r->out, to, n);

    (void)arg;
    if (evbuffer_get_length(r->out))
        return taken;
    if (!r->ended)
        return taken > 0 ? taken : NGHTTP2_ERR_DEFERRED;
    *flags |= NGHTTP2_DATA_FLAG_EOF;
    if (r->grpc_status) {
        const nghttp2_nv trailers[] = {field("grpc-status", r->grpc_status),
                                       field("grpc-message", r->grpc_message)};

        *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
        nghttp2_submit_trailer(session, id, trailers, *r->grpc_message ? 2 : 1);
    }
    return taken;
}

static void go_on(struct h2_request *r)
{
    struct h2_conn *c = r->conn;

    nghttp2_session_resume_data(c->session, r->id);
    if (!c->reading)
        conn_flush(c); /* r may be gone */
}

void h2_begin(struct h2_request *r, const char *status, const char *const *fields)
{
    nghttp2_nv all[FIELDS_MAX] = {field(":status", status)};
    nghttp2_data_provider body = {.source.ptr = r, .read_callback = read_out};
    size_t n = 1;

    for (; fields[0] && n < FIELDS_MAX; fields += 2)
        all[n++] = field(fields[0], fields[1]);
    r->begun = true;
    nghttp2_submit_response(r->conn->session, r->id, all, n, &body);
}

void h2_send(struct h2_request *r, struct evbuffer *bytes)
{
    evbuffer_add_buffer(r->out, bytes);
    go_on(r);
}

void h2_end(struct h2_request *r, const char *grpc_status, const char *grpc_message)
{
    r->ended = true;
    r->grpc_status = grpc_status;
    r->grpc_message = grpc_message;
    go_on(r);
}

/* ---- the server ---- */

static struct evconnlistener *listen_at(struct h2_server *s, struct sockaddr *sa, socklen_t n)
{
    const unsigned flags = LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_REUSEABLE;

    return evconnlistener_new_bind(s->base, on_accept, s, flags, 128, sa, (int)n);
}

static struct evconnlistener *listen_unix(struct h2_server *s, const char *path)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX};

    if (strlen(path) >= sizeof(sun.sun_path))
        errx(2, "--listen: the path is longer than %zu bytes", sizeof(sun.sun_path) - 1);
    memcpy(sun.sun_path, path, strlen(path));
    unlink(path);
    return listen_at(s, (struct sockaddr *)&sun, sizeof(sun));
}

static struct evconnlistener *listen_tcp(struct h2_server *s, const char *address)
{
    struct sockaddr_storage sa;
    int n = sizeof(sa);

    if (evutil_parse_sockaddr_port(address, (struct sockaddr *)&sa, &n) < 0)
        errx(2, "--listen: %s is neither ADDRESS:PORT nor unix:PATH", address);
    return listen_at(s, (struct sockaddr *)&sa, (socklen_t)n);
}

struct h2_server *h2_server_new(struct event_base *base, const char *listen,
                                void (*on_request)(struct h2_request *r, void *ctx), void *ctx)
{
    struct h2_server *s = must(calloc(1, sizeof(*s)));

    s->base = base;
    s->on_request = on_request;
    s->ctx = ctx;
    LIST_INIT(&s->conns);
    if (nghttp2_session_callbacks_new(&s->callbacks) != 0)
        errx(1, "no memory");
    nghttp2_session_callbacks_set_on_begin_headers_callback(s->callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(s->callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(s->callbacks, on_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(s->callbacks, on_frame);
    nghttp2_session_callbacks_set_on_stream_close_callback(s->callbacks, on_stream_close);
    s->listener =
        strncmp(listen, "unix:", 5) == 0 ? listen_unix(s, listen + 5) : listen_tcp(s, listen);
    if (!s->listener)
        err(1, "cannot listen on %s", listen);
    return s;
}

void h2_server_stop(struct h2_server *s)
{
    struct h2_conn *c, *next;

    evconnlistener_disable(s->listener);
    for (c = LIST_FIRST(&s->conns); c; c = next) {
        next = LIST_NEXT(c, link);
        nghttp2_submit_goaway(c->session, NGHTTP2_FLAG_NONE,
                              nghttp2_session_get_last_proc_stream_id(c->session), NGHTTP2_NO_ERROR,
                              NULL, 0);
        conn_flush(c);
    }
}

unsigned h2_server_active(const struct h2_server *s)
{
    return s->active;
}

void h2_server_free(struct h2_server *s)
{
    struct h2_conn *c;

    while ((c = LIST_FIRST(&s->conns)))
        conn_free(c);
    evconnlistener_free(s->listener);
    nghttp2_session_callbacks_del(s->callbacks);
    free(s);
}
