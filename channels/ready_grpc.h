/*
 * ready_grpc.h - one call of grpc.health.v1.Health/Check as bytes: the request, and the judgement
 * of what comes back. No socket and no clock: ready.c has them. gRPC's health checking protocol,
 * over HTTP/2 (RFC 9113) with prior knowledge.
 */
#ifndef HG_READY_GRPC_H
#define HG_READY_GRPC_H

#include "base/base.h"

#define READY_GRPC_FRAME   4096 /* bytes of a frame that are looked at */
#define READY_GRPC_MESSAGE 512  /* longest answer; two bytes are usual */
#define READY_GRPC_REPLY   (16 * (9 + 8))

enum ready_grpc_state {
    READY_GRPC_SETTINGS, /* what HTTP/2 begins with */
    READY_GRPC_HEAD,
    READY_GRPC_BODY, /* the message, then the trailers */
    READY_GRPC_JUDGED
};

/* Fixed memory, nothing to free. */
struct ready_grpc {
    enum ready_grpc_state state;
    const char *err; /* judged: NULL ready, else why not, a constant in words */
    bool no_health;  /* judged ready because it answers gRPC: it has no health service */
    size_t total;    /* bytes that came */
    unsigned replies;
    uint8_t head[9]; /* of the frame that comes */
    size_t n_head;
    size_t length, taken; /* its payload: all, and come so far */
    uint8_t payload[READY_GRPC_FRAME];
    uint8_t message[READY_GRPC_MESSAGE];
    size_t n_message;
};

/*
 * Everything that is sent before the answer. `service`: whose health, empty: the server's as a
 * whole. o->over when it does not fit; 1 KiB is enough for names up to 255 bytes.
 */
void ready_grpc_request(struct out *o, struct str host, struct str service, uint64_t timeout_ms);
void ready_grpc_begin(struct ready_grpc *g);
/*
 * Takes what came; what must be sent back (acknowledgements) is added to `reply`, which has room
 * for READY_GRPC_REPLY. True once it is judged: later bytes are not looked at.
 */
bool ready_grpc_feed(struct ready_grpc *g, const void *p, size_t n, struct out *reply);
/* Said when the call is over. */
void ready_grpc_goodbye(struct out *o);

#endif
