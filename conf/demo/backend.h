/*
 * backend.h - what backend.c (HTTP, start and end) and rpc.c (gRPC) share: who the program is, and
 * the streams that tick.
 */
#ifndef DEMO_BACKEND_H
#define DEMO_BACKEND_H

#include "conf/demo/h2.h"

#include <event2/event_struct.h>

#include <stdint.h>
#include <time.h>

LIST_HEAD(ticker_list, ticker);

struct backend {
    struct event_base *base;
    struct h2_server *http;
    const char *listen, *channel, *instance, *version;
    time_t started;
    uint64_t requests;
    unsigned stop_ticks;
    bool stopping;
    struct event stop_timer;
    struct ticker_list tickers;
};

/* An answer that says something again and again, for as long as the client listens. */
struct ticker {
    LIST_ENTRY(ticker) link;
    struct backend *backend;
    struct h2_request *req; /* NULL once it is gone */
    struct event tick;
    uint64_t n;
    void (*say)(struct ticker *t); /* its next word; may end with t gone */
    void (*bye)(struct ticker *t); /* its last one: the backend ends */
};

/* The answer must have begun. Says its first word at once. */
void ticker_start(struct backend *b, struct h2_request *r, unsigned ms,
                  void (*say)(struct ticker *t), void (*bye)(struct ticker *t));

bool rpc_is_call(const struct h2_request *r);
void rpc_answer(struct backend *b, struct h2_request *r);

#endif
