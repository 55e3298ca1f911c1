/*
 * ready.h - one look at a backend: does it take connections, or does it answer an HTTP/1.1 GET with
 * 2xx or 3xx. Non-blocking, one socket a look. When to look and what follows is instance.c's.
 */
#ifndef HG_READY_H
#define HG_READY_H

#include "base/loop.h"
#include "conf/conf.h"

#define PROBE_READ_MAX 4096

enum probe_state { PROBE_IDLE, PROBE_CONNECTING, PROBE_READING, PROBE_LINGERING, PROBE_TOLD };

/* Embedded in its owner, zeroed; the owner's memory must outlive the turn of probe_cancel. */
struct probe {
    enum probe_state state;
    int fd;
    struct event ev;
    struct deadline due;
    struct turn_task early; /* a result that was known inside probe_start */
    const char *result;
    size_t n;                  /* bytes of head[] */
    size_t lingered;           /* bytes read behind the judgement */
    char head[PROBE_READ_MAX]; /* the request, then the answer's head */
    void (*done)(struct probe *, const char *err);
};

/*
 * Looks once. done(p, err) follows exactly once, never from inside this call: NULL means ready,
 * else a constant in words. A look that is under way is dropped first. `path` empty: tcp only;
 * `host`: for the Host field, empty: localhost.
 */
void probe_start(struct probe *p, const struct conf_addr *to, struct str path, struct str host,
                 uint64_t timeout_ms, void (*done)(struct probe *, const char *err));
void probe_cancel(struct probe *p); /* no done any more; fine when none is under way */
bool probe_busy(const struct probe *p);

#endif
