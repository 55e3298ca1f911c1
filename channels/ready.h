/*
 * ready.h - one look at a backend: does it take connections, does it answer an HTTP/1.1 GET with
 * 2xx or 3xx, does its gRPC health service say SERVING. Non-blocking, one socket a look. When to
 * look and what follows is supervise.c's.
 */
#ifndef HG_READY_H
#define HG_READY_H

#include "base/loop.h"
#include "channels/ready_grpc.h"
#include "conf/conf.h"

#define PROBE_READ_MAX 4096

enum probe_state {
    PROBE_IDLE,
    PROBE_CONNECTING,
    PROBE_READING, /* HTTP/1.1 */
    PROBE_CALLING, /* gRPC */
    PROBE_LINGERING,
    PROBE_TOLD
};

/* What is looked at, and how. The strings are needed in probe_start only. */
struct probe_spec {
    const struct conf_addr *to;
    enum conf_ready way;
    struct str path;    /* CONF_READY_HTTP */
    struct str service; /* CONF_READY_GRPC: empty is the whole server */
    struct str host;    /* who is meant; empty: localhost */
    uint64_t timeout_ms;
};

/* Embedded in its owner, zeroed; the owner's memory must outlive the turn of probe_cancel. */
struct probe {
    enum probe_state state;
    enum conf_ready way;
    int fd;
    struct event ev;
    struct deadline due;
    struct turn_task early; /* a result that was known inside probe_start */
    const char *result;
    size_t n;                  /* bytes of head[] */
    size_t lingered;           /* bytes read behind the judgement */
    char head[PROBE_READ_MAX]; /* the request, then the head of HTTP's answer */
    struct ready_grpc grpc;
    bool no_health; /* for done: it answers gRPC, has no health service, and is taken as ready */
    void (*done)(struct probe *, const char *err);
};

/*
 * Looks once. done(p, err) follows exactly once, never from inside this call: NULL means ready,
 * else a constant in words. A look that is under way is dropped first. What says READY=1 itself is
 * looked at as by tcp.
 */
void probe_start(struct probe *p, const struct probe_spec *spec,
                 void (*done)(struct probe *, const char *err));
void probe_cancel(struct probe *p); /* no done any more; fine when none is under way */
bool probe_busy(const struct probe *p);

#endif
