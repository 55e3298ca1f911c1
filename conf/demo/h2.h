/*
 * h2.h - the demo's HTTP/2 server, cleartext with prior knowledge, on nghttp2 and libevent:
 * requests with small bodies, answers that may go on for as long as somebody listens. What the
 * requests mean is backend.c's and rpc.c's.
 */
#ifndef DEMO_H2_H
#define DEMO_H2_H

#include <event2/buffer.h>
#include <event2/event.h>
#include <nghttp2/nghttp2.h>
#include <stdbool.h>
#include <sys/queue.h>

struct h2_server;

/* One request with its answer; gone after on_gone. */
struct h2_request {
    LIST_ENTRY(h2_request) link;
    struct h2_conn *conn;
    int32_t id;
    char *path, *content_type; /* "": none */
    struct evbuffer *body, *out;
    bool begun, ended;
    const char *grpc_status, *grpc_message;
    /* the application's, NULL until it sets them */
    void *app;
    void (*on_gone)(struct h2_request *r);
};

/* Listens on ADDRESS:PORT or unix:PATH; ends the program when that cannot be. */
struct h2_server *h2_server_new(struct event_base *base, const char *listen,
                                void (*on_request)(struct h2_request *r, void *ctx), void *ctx);
/* No new connections, no new requests. */
void h2_server_stop(struct h2_server *s);
unsigned h2_server_active(const struct h2_server *s); /* requests whose answer is not sent yet */
void h2_server_free(struct h2_server *s);

/* Begins the answer; {name, value, name, value, …, NULL}. */
void h2_begin(struct h2_request *r, const char *status, const char *const *fields);
/* Takes what `bytes` holds. */
void h2_send(struct h2_request *r, struct evbuffer *bytes);
/* Ends it, with trailers when there is a grpc-status; both strings must be constants. */
void h2_end(struct h2_request *r, const char *grpc_status, const char *grpc_message);

#endif
