/*
 * websocket.h - WebSocket's vocabulary (RFC 6455): what a request must say to be one, the two
 * halves of the handshake's proof, and where frames begin and end. Pure. Connections are
 * tunnel.h's.
 */
#ifndef HG_WEBSOCKET_H
#define HG_WEBSOCKET_H

#include "proxy/http.h"

#define WEBSOCKET_KEY_SIZE    24 /* 16 bytes in base64 */
#define WEBSOCKET_ACCEPT_SIZE 28 /* a SHA-1 in base64 */

/* The value of Upgrade or :protocol: `websocket` alone, in any case, without a version. */
bool websocket_is_token(struct str protocol);

struct websocket_request {
    struct str key;     /* of Sec-WebSocket-Key; not asked for where `keyed` is false */
    bool other_version; /* it is a version that is not 13 (RFC 6455 4.4) */
};
/* NULL, or what is missing or wrong. keyed: HTTP/1.1; over HTTP/2 there is no key (RFC 8441 5). */
const char *websocket_request_check(const struct fields *f, bool keyed,
                                    struct websocket_request *out) MUST_USE;

void websocket_key_new(char key[static WEBSOCKET_KEY_SIZE]); /* random; no NUL behind it */
/* Sec-WebSocket-Accept for the key (RFC 6455 4.2.2). */
void websocket_accept(struct str key, char accept[static WEBSOCKET_ACCEPT_SIZE]);
/* NULL, or why the 101 of a backend is none for this key. */
const char *websocket_answer_check(const struct fields *f, struct str upgrade,
                                   struct str key) MUST_USE;

/*
 * Follows the frames that pass in one direction (RFC 6455 5.2), whatever pieces they come in: what
 * is between two of them may be interrupted by a frame of somebody else's. Zeroed: before the
 * first.
 */
struct websocket_frames {
    uint8_t head[14];
    unsigned have; /* bytes of the head that came */
    uint64_t left; /* of the payload */
    bool close;    /* the present frame, or the last one, is a Close */
};
void websocket_frames_feed(struct websocket_frames *f, const uint8_t *p, size_t n);
/* As far as the end of the frame that p is in, or begins: how many bytes were taken. */
size_t websocket_frames_step(struct websocket_frames *f, const uint8_t *p, size_t n);
static inline bool websocket_frames_between(const struct websocket_frames *f)
{
    return !f->have && !f->left;
}
/* A Close frame came, whole: that side has said its last word. */
static inline bool websocket_frames_closed(const struct websocket_frames *f)
{
    return f->close && websocket_frames_between(f);
}

/* A Close frame of a server's, whole: 1012, "service restart" (RFC 6455 7.4, IANA). */
extern const uint8_t websocket_close_restart[4];

/* First value of the field with that (lower-case) name; p == NULL: there is none. */
struct str websocket_field(const struct fields *f, struct str name);

#endif
