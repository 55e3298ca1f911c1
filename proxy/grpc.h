/*
 * grpc.h - gRPC's vocabulary (PROTOCOL-HTTP2.md, PROTOCOL-WEB.md): media types, statuses, timeouts,
 * messages' frames. Pure: knows bytes and fields, no request and no connection.
 */
#ifndef HG_GRPC_H
#define HG_GRPC_H

#include "proxy/http.h"

/* Numbers as they go over the wire (statuscodes.md). */
enum grpc_status {
    GRPC_OK = 0,
    GRPC_CANCELLED = 1,
    GRPC_UNKNOWN = 2,
    GRPC_INVALID_ARGUMENT = 3,
    GRPC_DEADLINE_EXCEEDED = 4,
    GRPC_NOT_FOUND = 5,
    GRPC_ALREADY_EXISTS = 6,
    GRPC_PERMISSION_DENIED = 7,
    GRPC_RESOURCE_EXHAUSTED = 8,
    GRPC_FAILED_PRECONDITION = 9,
    GRPC_ABORTED = 10,
    GRPC_OUT_OF_RANGE = 11,
    GRPC_UNIMPLEMENTED = 12,
    GRPC_INTERNAL = 13,
    GRPC_UNAVAILABLE = 14,
    GRPC_DATA_LOSS = 15,
    GRPC_UNAUTHENTICATED = 16,
    GRPC_STATUS_COUNT,
    GRPC_STATUS_NONE = 255 /* none was seen yet */
};

enum grpc_form {
    GRPC_NONE,     /* another media type */
    GRPC_PLAIN,    /* application/grpc */
    GRPC_WEB,      /* application/grpc-web */
    GRPC_WEB_TEXT, /* application/grpc-web-text: base64 */
    GRPC_LOOKALIKE /* begins like one of them and is none: 415 */
};

struct grpc_type {
    enum grpc_form form;
    struct str suffix; /* "+proto", "+json", or empty; borrowed, as it was written */
};

/* Which of the forms a Content-Type names; case and parameters do not count (RFC 9110 8.3.1). */
struct grpc_type grpc_type_parse(struct str content_type);
/* "application/grpc-web-text+proto"; in `a`. */
struct str grpc_type_text(struct arena *a, struct grpc_type t);

/*
 * What a gRPC client makes of an answer without grpc-status (http-grpc-status-mapping.md), so that
 * we say the same.
 */
enum grpc_status grpc_status_of_http(unsigned http_status);
/* "UNAVAILABLE"; "?" for what is none. */
const char *grpc_status_name(enum grpc_status s);
/* Of a grpc-status field: GRPC_UNKNOWN for what is no number of the table. */
enum grpc_status grpc_status_parse(struct str value);

#define GRPC_TIMEOUT_MAX_MS (365ull * 24 * 3600 * 1000) /* nobody waits longer */
/*
 * grpc-timeout: 1 to 8 digits and a unit (H M S m u n). *ms is rounded up, at least 1 where the
 * timeout is not 0. False: it is none.
 */
bool grpc_timeout_parse(struct str value, uint64_t *ms) MUST_USE;

/* grpc-message: percent-encoded, all but printable ASCII without "%"; in `a`. */
struct str grpc_message_encode(struct arena *a, struct str text);

/*
 * Follows length-prefixed messages through a body that comes in any pieces: one byte of flags, four
 * of length, the message. Zeroed it is at the beginning of one.
 */
struct grpc_frames {
    uint64_t messages; /* that are complete */
    uint64_t max;      /* bytes of one message; 0: no limit */
    uint32_t left;     /* of the present one's bytes */
    uint8_t head[5];
    uint8_t head_have;
};

/* NULL, or what is wrong: a constant. */
const char *grpc_frames_feed(struct grpc_frames *f, const uint8_t *p, size_t n) MUST_USE;
/* How many of n bytes follow up to the end of the message, or of its head; never past it. */
static inline size_t grpc_frames_step(const struct grpc_frames *f, size_t n)
{
    return MIN(n, f->left ? (size_t)f->left : sizeof(f->head) - f->head_have);
}
extern const char grpc_err_too_large[]; /* a message is larger than max */
extern const char grpc_err_flags[];     /* a flag that is not defined */
/* Between two messages, where a body may end. */
static inline bool grpc_frames_between(const struct grpc_frames *f)
{
    return !f->left && !f->head_have;
}

#endif
