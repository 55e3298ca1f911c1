/*
 * client.h - one client connection of a worker: accepted socket, TLS, the codec that it speaks, and
 * the deadlines of its present state. Bytes are base/io.h's, framing h1.h's.
 */
#ifndef HG_CLIENT_H
#define HG_CLIENT_H

#include "base/io.h"
#include "proxy/front.h"
#include "proxy/h1.h"
#include "proxy/snapshot.h"

enum client_state {
    CLIENT_HANDSHAKE,
    CLIENT_OPEN,   /* the codec has it */
    CLIENT_LINGER, /* our FIN is out or on its way; what still comes is thrown away */
    CLIENT_CLOSED
};

struct client;

/* A protocol's side of a connection; one constant table each. */
struct protocol {
    const char *name;
    void (*open)(struct client *);                    /* the connection is ready */
    void (*read)(struct client *, struct slice data); /* borrowed */
    void (*eof)(struct client *);                     /* the client ended its side */
    void (*drained)(struct client *); /* the io's queue is out, as it was asked for */
    void (*gone)(struct client *,
                 const char *err);       /* dead: lets go of the requests; twice is fine */
    bool (*idle)(const struct client *); /* between requests, nothing of the next one came */
    void (*drain)(struct client *,
                  uint64_t idle_ms); /* called again and again: end when no request suffers */
    void (*end)(struct client *,
                const char *why); /* requests under way fail, as well as they can */
    /* ms until the state's time is up: 0 = now, with *why; UINT64_MAX = nothing waits. */
    uint64_t (*time_left)(struct client *, const char **why);
    void (*timeout)(struct client *, const char *why); /* time_left was 0 */
    void (*room)(struct client *); /* there is memory for it again: client_wait_room */
    void (*fini)(struct client *);
};

struct h2;

struct client {
    struct list link; /* of the worker's clients */
    struct budget budget;
    struct io io;
    struct tls_conn tls;
    struct snapshot *snap; /* counted, during the handshake only */
    enum client_state state;
    enum listener_kind kind;
    struct front_pass pass;
    struct deadline deadline;
    uint64_t state_since; /* ms: when state was entered */
    /* What the answers on their way to it allow; ms, bytes a second; 0: no limit. */
    uint64_t write_gap, min_rate;
    const struct protocol *protocol;
    struct h1 h1;
    struct h2 *h2;       /* NULL until ALPN chose it */
    uint16_t local_port; /* looked up when first asked for */
};

/* front_door.enter of the listeners for HTTP. */
/* The same, when `read` was read from it already: the beginning of a TLS handshake. */
void client_enter_with(int fd, const struct front_pass *pass, const struct front_door *door,
                       struct str read);
void client_enter(int fd, const struct front_pass *pass, const struct front_door *door);
/* At once, with everything that hangs on it; freed one turn later. Twice is fine. */
void client_close(struct client *c);
/* Sends what is queued, then FIN, and throws away what still comes, for a bounded time. */
void client_linger(struct client *c);
/* Nothing is left of the budget: protocol->room once there is. */
void client_wait_room(struct client *c);
/* ms until it takes what is queued for it too slowly, or not at all; as protocol.time_left. */
uint64_t client_take_left(struct client *c, const char **why);
/* The codec left idleness: shorter deadlines hold from now on. */
void client_watch(struct client *c);
/*
 * From now on every answer is the last of its connection; connections idle for idle_ms are closed,
 * unless a request is just arriving. To be called again until front_count() is 0.
 */
void client_drain_quiet(uint64_t idle_ms);
/* What is under way fails now: each client is told as its protocol has it. */
void client_end_all(const char *why);
bool client_draining(void);

#endif
