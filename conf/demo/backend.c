/*
 * backend.c - the demo's backend: a small HTTP server such as a user of headgate would write, on
 * libevent's evhttp. It tells who it is, streams a clock, echoes bodies, and ends in order on
 * SIGTERM. It uses nothing of headgate: what it needs to know comes by arguments and environment.
 */
#include <err.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <event2/listener.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define BODY_MAX   (1024 * 1024)
#define STOP_TICKS 50 /* of 100 ms: how long the last requests have after SIGTERM */

LIST_HEAD(clock_list, clock_stream);

/* One client of /api/clock. */
struct clock_stream {
    LIST_ENTRY(clock_stream) link;
    struct server *server;
    struct evhttp_request *req;
    struct event tick;
    uint64_t n;
};

struct server {
    struct event_base *base;
    struct evhttp *http;
    struct evhttp_bound_socket *socket;
    const char *listen, *channel, *instance, *version;
    time_t started;
    uint64_t requests;
    unsigned active; /* requests whose answer is not written yet */
    unsigned stop_ticks;
    bool stopping;
    struct event stop_timer;
    struct clock_list clocks;
};

/* ---- answers ---- */

static void on_written(struct evhttp_request *req, void *arg)
{
    struct server *s = arg;

    (void)req;
    s->active--;
}

/* Counts the request and sets what every answer carries. */
static struct evkeyvalq *answer_begin(struct server *s, struct evhttp_request *req,
                                      const char *content_type)
{
    struct evkeyvalq *head = evhttp_request_get_output_headers(req);

    s->requests++;
    s->active++;
    evhttp_request_set_on_complete_cb(req, on_written, s);
    evhttp_add_header(head, "Content-Type", content_type);
    evhttp_add_header(head, "Cache-Control", "no-store");
    if (s->stopping)
        evhttp_add_header(head, "Connection", "close");
    return head;
}

/* Writes `text` as a JSON string, quotes included. */
static void json_string(struct evbuffer *out, const char *text)
{
    evbuffer_add(out, "\"", 1);
    for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
        if (*c == '"' || *c == '\\')
            evbuffer_add_printf(out, "\\%c", *c);
        else if (*c < 0x20)
            evbuffer_add_printf(out, "\\u%04x", *c);
        else
            evbuffer_add(out, c, 1);
    }
    evbuffer_add(out, "\"", 1);
}

/* GET /api/info: who answers here. The demo's page of one host asks all three, hence the CORS line.
 */
static void on_info(struct evhttp_request *req, void *arg)
{
    struct server *s = arg;
    struct evkeyvalq *head = answer_begin(s, req, "application/json");
    struct evbuffer *out = evhttp_request_get_output_buffer(req);

    evhttp_add_header(head, "Access-Control-Allow-Origin", "*");
    evbuffer_add_printf(out, "{\"channel\":");
    json_string(out, s->channel);
    evbuffer_add_printf(out, ",\"version\":");
    json_string(out, s->version);
    evbuffer_add_printf(out, ",\"pid\":%d,\"instance\":", (int)getpid());
    json_string(out, s->instance);
    evbuffer_add_printf(out, ",\"listen\":");
    json_string(out, s->listen);
    evbuffer_add_printf(out, ",\"uptime\":%lld,\"requests\":%" PRIu64 "}\n",
                        (long long)(time(NULL) - s->started), s->requests);
    evhttp_send_reply(req, HTTP_OK, "OK", NULL);
}

/* GET /healthz: a backend that is about to end says so, and gets no new requests. */
static void on_health(struct evhttp_request *req, void *arg)
{
    struct server *s = arg;
    struct evbuffer *out = evhttp_request_get_output_buffer(req);

    answer_begin(s, req, "text/plain");
    evbuffer_add_printf(out, "%s\n", s->stopping ? "stopping" : "ok");
    evhttp_send_reply(req, s->stopping ? HTTP_SERVUNAVAIL : HTTP_OK, NULL, NULL);
}

/* POST /api/echo: the body, as it came. */
static void on_echo(struct evhttp_request *req, void *arg)
{
    struct server *s = arg;
    const char *type = evhttp_find_header(evhttp_request_get_input_headers(req), "Content-Type");

    answer_begin(s, req, type ? type : "application/octet-stream");
    evhttp_send_reply(req, HTTP_OK, "OK", evhttp_request_get_input_buffer(req));
}

static void on_unknown(struct evhttp_request *req, void *arg)
{
    struct server *s = arg;

    answer_begin(s, req, "application/json");
    evbuffer_add_printf(evhttp_request_get_output_buffer(req), "{\"error\":\"not found\"}\n");
    evhttp_send_reply(req, HTTP_NOTFOUND, "Not Found", NULL);
}

/* ---- the clock: one server-sent event a second, for as long as the client listens ---- */

static void clock_free(struct clock_stream *c)
{
    LIST_REMOVE(c, link);
    event_del(&c->tick);
    free(c);
}

static void on_clock_closed(struct evhttp_connection *conn, void *arg)
{
    struct clock_stream *c = arg;

    (void)conn;
    c->server->active--; /* an answer that breaks off is never reported as written */
    if (!evhttp_request_get_connection(c->req))
        evhttp_send_reply_end(c->req); /* cut off from its connection, it is ours to free */
    clock_free(c);
}

static void clock_send(struct clock_stream *c)
{
    struct evbuffer *out = evbuffer_new();
    time_t now = time(NULL);
    struct tm tm;
    char text[32];

    if (!out || !gmtime_r(&now, &tm))
        err(1, "clock");
    strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm);
    evbuffer_add_printf(out, "id: %" PRIu64 "\ndata: %s\n\n", ++c->n, text);
    evhttp_send_reply_chunk(c->req, out);
    evbuffer_free(out);
}

static void on_clock_tick(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    clock_send(arg);
}

static void on_clock(struct evhttp_request *req, void *arg)
{
    struct server *s = arg;
    struct clock_stream *c = calloc(1, sizeof(*c));
    const struct timeval second = {.tv_sec = 1};
    struct evkeyvalq *head = answer_begin(s, req, "text/event-stream");

    if (!c)
        err(1, "clock");
    c->server = s;
    c->req = req;
    LIST_INSERT_HEAD(&s->clocks, c, link);
    evhttp_add_header(head, "Access-Control-Allow-Origin", "*");
    evhttp_connection_set_closecb(evhttp_request_get_connection(req), on_clock_closed, c);
    event_assign(&c->tick, s->base, -1, EV_PERSIST, on_clock_tick, c);
    event_add(&c->tick, &second);
    evhttp_send_reply_start(req, HTTP_OK, "OK");
    clock_send(c);
}

static void clock_end(struct clock_stream *c)
{
    struct evhttp_request *req = c->req;

    evhttp_connection_set_closecb(evhttp_request_get_connection(req), NULL, NULL);
    clock_free(c);
    evhttp_send_reply_end(req);
}

/* ---- the end: no new connections, streams end cleanly, the last answers are written ---- */

static void on_stop_timer(evutil_socket_t fd, short what, void *arg)
{
    struct server *s = arg;

    (void)fd;
    (void)what;
    if (s->active == 0 || ++s->stop_ticks >= STOP_TICKS)
        event_base_loopbreak(s->base);
}

static void on_stop_signal(evutil_socket_t sig, short what, void *arg)
{
    struct server *s = arg;
    const struct timeval tenth = {.tv_usec = 100 * 1000};
    struct clock_stream *c;

    (void)what;
    if (s->stopping)
        return;
    s->stopping = true;
    printf("%s: signal %d, ending\n", s->channel, (int)sig);
    evhttp_del_accept_socket(s->http, s->socket);
    while ((c = LIST_FIRST(&s->clocks)))
        clock_end(c);
    event_assign(&s->stop_timer, s->base, -1, EV_PERSIST, on_stop_timer, s);
    event_add(&s->stop_timer, &tenth);
}

/* ---- the start ---- */

static struct evhttp_bound_socket *listen_unix(struct server *s, const char *path)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    struct evconnlistener *listener;

    if (strlen(path) >= sizeof(sun.sun_path))
        errx(2, "--listen: the path is longer than %zu bytes", sizeof(sun.sun_path) - 1);
    memcpy(sun.sun_path, path, strlen(path));
    unlink(path);
    listener =
        evconnlistener_new_bind(s->base, NULL, NULL, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC,
                                128, (struct sockaddr *)&sun, sizeof(sun));
    return listener ? evhttp_bind_listener(s->http, listener) : NULL;
}

static struct evhttp_bound_socket *listen_tcp(struct server *s, const char *address)
{
    const char *colon = strrchr(address, ':');
    char host[64], *end;
    unsigned long port;

    if (!colon || colon == address || (size_t)(colon - address) >= sizeof(host))
        errx(2, "--listen: %s is neither ADDRESS:PORT nor unix:PATH", address);
    port = strtoul(colon + 1, &end, 10);
    if (end == colon + 1 || *end || port > UINT16_MAX)
        errx(2, "--listen: %s is no port", colon + 1);
    memcpy(host, address, (size_t)(colon - address));
    host[colon - address] = '\0';
    return evhttp_bind_socket_with_handle(s->http, host, (uint16_t)port);
}

static void usage(void)
{
    fputs("usage: demo-backend --listen ADDRESS:PORT|unix:PATH [--channel NAME] [--instance NAME]\n"
          "The version that it reports comes from APP_VERSION.\n",
          stderr);
    exit(2);
}

static void read_arguments(struct server *s, int argc, char **argv)
{
    struct {
        const char *name, **value;
    } options[] = {
        {"--listen", &s->listen}, {"--channel", &s->channel}, {"--instance", &s->instance}};
    const size_t n = sizeof(options) / sizeof(options[0]);

    s->channel = s->instance = "none";
    s->version = getenv("APP_VERSION");
    if (!s->version)
        s->version = "unknown";
    for (int i = 1; i < argc; i += 2) {
        size_t o = 0;

        while (o < n && strcmp(argv[i], options[o].name) != 0)
            o++;
        if (o == n || i + 1 == argc)
            usage();
        *options[o].value = argv[i + 1];
    }
    if (!s->listen)
        usage();
}

int main(int argc, char **argv)
{
    struct server s = {.started = time(NULL)};
    struct event term, intr;

    setvbuf(stdout, NULL, _IOLBF, 0);
    read_arguments(&s, argc, argv);
    LIST_INIT(&s.clocks);
    signal(SIGPIPE, SIG_IGN);
    s.base = event_base_new();
    s.http = s.base ? evhttp_new(s.base) : NULL;
    if (!s.http)
        errx(1, "no memory");
    evhttp_set_max_body_size(s.http, BODY_MAX);
    evhttp_set_cb(s.http, "/api/info", on_info, &s);
    evhttp_set_cb(s.http, "/api/clock", on_clock, &s);
    evhttp_set_cb(s.http, "/api/echo", on_echo, &s);
    evhttp_set_cb(s.http, "/healthz", on_health, &s);
    evhttp_set_gencb(s.http, on_unknown, &s);

    if (strncmp(s.listen, "unix:", 5) == 0)
        s.socket = listen_unix(&s, s.listen + 5);
    else
        s.socket = listen_tcp(&s, s.listen);
    if (!s.socket)
        err(1, "cannot listen on %s", s.listen);

    event_assign(&term, s.base, SIGTERM, EV_SIGNAL | EV_PERSIST, on_stop_signal, &s);
    event_assign(&intr, s.base, SIGINT, EV_SIGNAL | EV_PERSIST, on_stop_signal, &s);
    event_add(&term, NULL);
    event_add(&intr, NULL);
    printf("%s %s: pid %d listens on %s\n", s.channel, s.version, (int)getpid(), s.listen);

    event_base_dispatch(s.base);
    event_del(&term);
    event_del(&intr);
    if (event_initialized(&s.stop_timer))
        event_del(&s.stop_timer);
    evhttp_free(s.http);
    event_base_free(s.base);
    return 0;
}
