/*
 * rpc.c - the demo's gRPC methods, as demo.proto has them, and grpc.health.v1. gRPC is five bytes
 * in front of each message and a status in the trailers; what these messages need of protobuf is
 * written out below.
 */
#include "conf/demo/backend.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NAME_MAX_BYTES 100
#define SERVING        1
#define NOT_SERVING    2

/* ---- messages ---- */

static void put_varint(struct evbuffer *b, uint64_t v)
{
    do {
        const uint8_t byte = (uint8_t)((v & 127) | (v > 127 ? 128 : 0));

        evbuffer_add(b, &byte, 1);
        v >>= 7;
    } while (v);
}

static void put_number(struct evbuffer *b, unsigned field, uint64_t v)
{
    put_varint(b, field << 3);
    put_varint(b, v);
}

static void put_bytes(struct evbuffer *b, unsigned field, const void *p, size_t n)
{
    put_varint(b, field << 3 | 2);
    put_varint(b, n);
    evbuffer_add(b, p, n);
}

static void put_text(struct evbuffer *b, unsigned field, const char *text)
{
    put_bytes(b, field, text, strlen(text));
}

struct message {
    const uint8_t *p, *end;
};

/* What a field holds: a number, or bytes in a message of their own. */
struct value {
    unsigned field;
    uint64_t number;
    struct message bytes;
};

static bool get_varint(struct message *m, uint64_t *v)
{
    *v = 0;
    for (unsigned shift = 0; shift < 64 && m->p < m->end; shift += 7) {
        const uint8_t byte = *m->p++;

        *v |= (uint64_t)(byte & 127) << shift;
        if (byte < 128)
            return true;
    }
    return false;
}

/* The next field; false at the end, and at what is no message (then p is not end). */
static bool get_value(struct message *m, struct value *v)
{
    uint64_t key;

    memset(v, 0, sizeof(*v));
    if (!get_varint(m, &key) || !get_varint(m, &v->number))
        return false;
    v->field = (unsigned)(key >> 3);
    if ((key & 7) == 0)
        return true;
    if ((key & 7) != 2 || v->number > (uint64_t)(m->end - m->p))
        return false;
    v->bytes = (struct message){m->p, m->p + v->number};
    m->p += v->number;
    return true;
}

/* The one message of a unary call; false when the body is something else. */
static bool get_request(struct h2_request *r, struct message *m)
{
    const size_t n = evbuffer_get_length(r->body);
    const uint8_t *p = evbuffer_pullup(r->body, -1);

    if (n < 5 || p[0] != 0)
        return false;
    m->p = p + 5;
    m->end = p + n;
    return ((size_t)p[1] << 24 | (size_t)p[2] << 16 | (size_t)p[3] << 8 | p[4]) == n - 5;
}

/* Sends what is in `b` as one message; b is empty then. */
static void send_message(struct h2_request *r, struct evbuffer *b)
{
    const size_t n = evbuffer_get_length(b);
    const uint8_t head[5] = {0, (uint8_t)(n >> 24), (uint8_t)(n >> 16), (uint8_t)(n >> 8),
                             (uint8_t)n};

    evbuffer_prepend(b, head, sizeof(head));
    h2_send(r, b);
}

/* ---- methods ---- */

static void greet(struct backend *b, struct h2_request *r, struct message m)
{
    struct evbuffer *reply = evbuffer_new();
    char text[32 + NAME_MAX_BYTES] = "Hello";
    struct value v;

    while (get_value(&m, &v)) {
        const size_t n = (size_t)(v.bytes.end - v.bytes.p);

        if (v.field == 1 && n > 0 && n <= NAME_MAX_BYTES)
            snprintf(text, sizeof(text), "Hello, %.*s", (int)n, (const char *)v.bytes.p);
    }
    put_text(reply, 1, text);
    put_text(reply, 2, b->channel);
    put_text(reply, 3, b->version);
    put_number(reply, 4, (uint64_t)getpid());
    send_message(r, reply);
    evbuffer_free(reply);
    h2_end(r, "0", "");
}

static void say_tick(struct ticker *t)
{
    struct evbuffer *tick = evbuffer_new();
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    put_number(tick, 1, t->n);
    put_number(tick, 2, (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000);
    put_number(tick, 3, (uint64_t)getpid());
    send_message(t->req, tick);
    evbuffer_free(tick);
}

static void say_unavailable(struct ticker *t)
{
    h2_end(t->req, "14", "the backend ends");
}

static void watch(struct backend *b, struct h2_request *r, struct message m)
{
    unsigned ms = 1000;
    struct value v;

    while (get_value(&m, &v))
        if (v.field == 1 && v.number >= 20 && v.number <= 60000)
            ms = (unsigned)v.number;
    ticker_start(b, r, ms, say_tick, say_unavailable);
}

/* Whatever service is asked for: it is this program that serves or ends. */
static void health(struct backend *b, struct h2_request *r, struct message m)
{
    struct evbuffer *reply = evbuffer_new();

    (void)m;
    put_number(reply, 1, b->stopping ? NOT_SERVING : SERVING);
    send_message(r, reply);
    evbuffer_free(reply);
    h2_end(r, "0", "");
}

static const struct {
    const char *path;
    void (*call)(struct backend *b, struct h2_request *r, struct message m);
} methods[] = {
    {"/headgate.demo.v1.Demo/Greet", greet},
    {"/headgate.demo.v1.Demo/Watch", watch},
    {"/grpc.health.v1.Health/Check", health},
};

bool rpc_is_call(const struct h2_request *r)
{
    return strncmp(r->content_type, "application/grpc", 16) == 0;
}

void rpc_answer(struct backend *b, struct h2_request *r)
{
    static const char *const fields[] = {"content-type", "application/grpc", NULL};
    const size_t n = sizeof(methods) / sizeof(methods[0]);
    struct message m;
    size_t i = 0;

    h2_begin(r, "200", fields);
    while (i < n && strcmp(methods[i].path, r->path) != 0)
        i++;
    if (i == n)
        h2_end(r, "12", "there is no such method");
    else if (!get_request(r, &m))
        h2_end(r, "13", "not one message");
    else
        methods[i].call(b, r, m);
}
