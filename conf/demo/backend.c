/*
 * backend.c - the demo's backend: a small server such as a user of headgate would write. It tells
 * who it is, streams a clock, echoes bodies, answers gRPC calls (rpc.c) on the same port, and ends
 * in order on SIGTERM. It uses nothing of headgate: what it needs to know comes by arguments and
 * environment.
 */
#include "conf/demo/backend.h"

#include <err.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STOP_TICKS 50 /* of 100 ms: how long the last requests have after SIGTERM */

/* ---- answers that tick ---- */

static void ticker_gone(struct h2_request *r)
{
    struct ticker *t = r->app;

    LIST_REMOVE(t, link);
    event_del(&t->tick);
    free(t);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    struct ticker *t = arg;

    (void)fd;
    (void)what;
    t->n++;
    t->say(t);
}

void ticker_start(struct backend *b, struct h2_request *r, unsigned ms,
                  void (*say)(struct ticker *t), void (*bye)(struct ticker *t))
{
    struct ticker *t = calloc(1, sizeof(*t));
    const struct timeval every = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};

    if (!t)
        err(1, "ticker");
    t->backend = b;
    t->req = r;
    t->say = say;
    t->bye = bye;
    r->app = t;
    r->on_gone = ticker_gone;
    LIST_INSERT_HEAD(&b->tickers, t, link);
    event_assign(&t->tick, b->base, -1, EV_PERSIST, on_tick, t);
    event_add(&t->tick, &every);
    on_tick(-1, 0, t);
}

/* ---- answers ---- */

/* `bytes` is taken and freed. */
static void answer(struct h2_request *r, const char *status, const char *content_type,
                   struct evbuffer *bytes)
{
    /* The demo's page of one host asks all three. */
    const char *const fields[] = {"content-type",
                                  content_type,
                                  "cache-control",
                                  "no-store",
                                  "access-control-allow-origin",
                                  "*",
                                  NULL};

    h2_begin(r, status, fields);
    if (!bytes)
        return;
    evbuffer_add_buffer(r->out, bytes);
    evbuffer_free(bytes);
    h2_end(r, NULL, NULL);
}

static struct evbuffer *buffer(void)
{
    struct evbuffer *b = evbuffer_new();

    if (!b)
        err(1, "buffer");
    return b;
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

/* /api/info: who answers here. */
static void on_info(struct backend *b, struct h2_request *r)
{
    struct evbuffer *out = buffer();

    evbuffer_add_printf(out, "{\"channel\":");
    json_string(out, b->channel);
    evbuffer_add_printf(out, ",\"version\":");
    json_string(out, b->version);
    evbuffer_add_printf(out, ",\"pid\":%d,\"instance\":", (int)getpid());
    json_string(out, b->instance);
    evbuffer_add_printf(out, ",\"listen\":");
    json_string(out, b->listen);
    evbuffer_add_printf(out, ",\"uptime\":%lld,\"requests\":%" PRIu64 "}\n",
                        (long long)(time(NULL) - b->started), b->requests);
    answer(r, "200", "application/json", out);
}

/* /api/echo: the body, as it came. */
static void on_echo(struct backend *b, struct h2_request *r)
{
    struct evbuffer *out = buffer();

    (void)b;
    evbuffer_add_buffer(out, r->body);
    answer(r, "200", *r->content_type ? r->content_type : "application/octet-stream", out);
}

static void say_time(struct ticker *t)
{
    struct evbuffer *out = buffer();
    time_t now = time(NULL);
    struct tm tm;
    char text[32];

    if (!gmtime_r(&now, &tm))
        err(1, "clock");
    strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm);
    evbuffer_add_printf(out, "id: %" PRIu64 "\ndata: %s\n\n", t->n, text);
    h2_send(t->req, out);
    evbuffer_free(out);
}

static void say_nothing(struct ticker *t)
{
    h2_end(t->req, NULL, NULL);
}

/* /api/clock: one server-sent event a second. */
static void on_clock(struct backend *b, struct h2_request *r)
{
    answer(r, "200", "text/event-stream", NULL);
    ticker_start(b, r, 1000, say_time, say_nothing);
}

static void on_unknown(struct backend *b, struct h2_request *r)
{
    struct evbuffer *out = buffer();

    (void)b;
    evbuffer_add_printf(out, "{\"error\":\"not found\"}\n");
    answer(r, "404", "application/json", out);
}

static void on_request(struct h2_request *r, void *ctx)
{
    static const struct {
        const char *path;
        void (*answer)(struct backend *b, struct h2_request *r);
    } known[] = {{"/api/info", on_info}, {"/api/clock", on_clock}, {"/api/echo", on_echo}};
    const size_t n = sizeof(known) / sizeof(known[0]), path = strcspn(r->path, "?");
    struct backend *b = ctx;
    size_t i = 0;

    b->requests++;
    if (rpc_is_call(r)) {
        rpc_answer(b, r);
        return;
    }
    while (i < n && (strlen(known[i].path) != path || strncmp(known[i].path, r->path, path) != 0))
        i++;
    if (i < n)
        known[i].answer(b, r);
    else
        on_unknown(b, r);
}

/* ---- the end: no new connections, streams end cleanly, the last answers are written ---- */

static void on_stop_timer(evutil_socket_t fd, short what, void *arg)
{
    struct backend *b = arg;

    (void)fd;
    (void)what;
    if (h2_server_active(b->http) == 0 || ++b->stop_ticks >= STOP_TICKS)
        event_base_loopbreak(b->base);
}

static void on_stop_signal(evutil_socket_t sig, short what, void *arg)
{
    struct backend *b = arg;
    const struct timeval tenth = {.tv_usec = 100 * 1000};
    struct ticker *t, *next;

    (void)what;
    if (b->stopping)
        return;
    b->stopping = true;
    printf("%s: signal %d, ending\n", b->channel, (int)sig);
    for (t = LIST_FIRST(&b->tickers); t; t = next) {
        event_del(&t->tick);
        next = LIST_NEXT(t, link);
        t->bye(t);
    }
    h2_server_stop(b->http);
    event_assign(&b->stop_timer, b->base, -1, EV_PERSIST, on_stop_timer, b);
    event_add(&b->stop_timer, &tenth);
}

/* ---- the start ---- */

static void usage(void)
{
    fputs("usage: demo-backend --listen ADDRESS:PORT|unix:PATH [--channel NAME] [--instance NAME]\n"
          "The version that it reports comes from APP_VERSION.\n",
          stderr);
    exit(2);
}

static void read_arguments(struct backend *b, int argc, char **argv)
{
    struct {
        const char *name, **value;
    } options[] = {
        {"--listen", &b->listen}, {"--channel", &b->channel}, {"--instance", &b->instance}};
    const size_t n = sizeof(options) / sizeof(options[0]);

    b->channel = b->instance = "none";
    b->version = getenv("APP_VERSION");
    if (!b->version)
        b->version = "unknown";
    for (int i = 1; i < argc; i += 2) {
        size_t o = 0;

        while (o < n && strcmp(argv[i], options[o].name) != 0)
            o++;
        if (o == n || i + 1 == argc)
            usage();
        *options[o].value = argv[i + 1];
    }
    if (!b->listen)
        usage();
}

int main(int argc, char **argv)
{
    struct backend b = {.started = time(NULL)};
    struct event term, intr;

    setvbuf(stdout, NULL, _IOLBF, 0);
    read_arguments(&b, argc, argv);
    LIST_INIT(&b.tickers);
    signal(SIGPIPE, SIG_IGN);
    b.base = event_base_new();
    if (!b.base)
        errx(1, "no memory");
    b.http = h2_server_new(b.base, b.listen, on_request, &b);

    event_assign(&term, b.base, SIGTERM, EV_SIGNAL | EV_PERSIST, on_stop_signal, &b);
    event_assign(&intr, b.base, SIGINT, EV_SIGNAL | EV_PERSIST, on_stop_signal, &b);
    event_add(&term, NULL);
    event_add(&intr, NULL);
    printf("%s %s: pid %d listens on %s\n", b.channel, b.version, (int)getpid(), b.listen);

    event_base_dispatch(b.base);
    event_del(&term);
    event_del(&intr);
    if (event_initialized(&b.stop_timer))
        event_del(&b.stop_timer);
    h2_server_free(b.http);
    event_base_free(b.base);
    return 0;
}
