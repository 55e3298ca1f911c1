/*
 * h1.h - the HTTP/1.1 codec towards clients (RFC 9112): requests in, answers out, one at a time.
 * The grammar is h1_parse.h's; what an answer says is req.h's.
 */
#ifndef HG_H1_H
#define HG_H1_H

#include "base/pace.h"
#include "base/slab.h"
#include "proxy/h1_parse.h"
#include "proxy/req.h"

enum h1_state {
    H1_IDLE,    /* between requests, or a head is coming in */
    H1_REQUEST, /* one is under way */
    H1_DISCARD, /* answered, but the rest of its body has to be read first */
    H1_OVER     /* no further request on this connection */
};

struct h1 {
    enum h1_state state;
    struct req *req;
    struct sliceq in;    /* read, but not taken yet: bounded by IO_READ_MAX */
    struct slab *head;   /* a head that did not come in one piece */
    size_t head_held;    /* bytes of it that the budget knows of */
    size_t scanned;      /* of it, by h1_parse_request */
    uint64_t head_since; /* ms: its first byte came; 0: none yet */
    uint64_t idle_since; /* ms */
    uint64_t requests;
    bool pumping;

    /* of the present request */
    enum h1_framing framing;
    uint64_t body_left;  /* H1_LENGTH */
    uint64_t body_since; /* ms: it is being waited for since then */
    struct pace pace;    /* of the client, while it is asked for more */
    uint64_t discarded;
    struct h1_chunked chunked;
    bool body_done;
    bool keep_alive;
    unsigned minor;

    /* of its answer */
    bool answer_chunked;
    bool answer_done;
};

extern const struct codec h1_codec;

extern const struct protocol h1_protocol;

#endif
