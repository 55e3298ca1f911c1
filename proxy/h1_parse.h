/*
 * h1_parse.h - the strict HTTP/1.1 grammar (RFC 9112), both roles: heads of requests and answers,
 * and the chunked coding. Pure functions on bytes; no connection, no allocation but the field
 * array.
 */
#ifndef HG_H1_PARSE_H
#define HG_H1_PARSE_H

#include "proxy/http.h"

enum h1_framing { H1_NO_BODY, H1_LENGTH, H1_CHUNKED, H1_UNTIL_CLOSE /* answers only */ };

struct h1_limits {
    size_t head;   /* bytes of start line and fields together */
    size_t target; /* bytes of the request target */
    unsigned fields;
};

/* All strs point into the buffer that was parsed, until h1_rebase moved them. */
struct h1_head {
    enum http_method method;
    struct str method_text;
    struct str target; /* as received: origin-form, absolute-form or "*" */
    unsigned status;   /* answers */
    unsigned minor;    /* HTTP/1.minor: 0 or 1 */
    struct fields
        fields; /* names lower-cased in place; framing and hop-by-hop ones flagged FIELD_HOP */
    struct str
        host; /* the one Host field's value; empty and p == NULL when there is none (HTTP/1.0) */
    enum h1_framing framing;
    uint64_t length; /* H1_LENGTH */
    bool keep_alive; /* what version and Connection say */
    bool expect_continue;
    bool te_trailers;   /* TE: trailers */
    struct str upgrade; /* value of Upgrade when Connection names it */
};

/*
 * > 0: bytes of the head, h is filled. 0: more bytes are needed. < 0: refused: -status for a
 * request
 * (-400, -414, -431, -501, -505, …), -502 for an answer; *why names the rule that was broken.
 * *scanned (0 at first) keeps the place where the search for the end goes on, so that a head that
 * comes byte by byte costs no quadratic time. The field array is made in `a` only when the head is
 * complete. Bytes of buf are changed: field names become lower case.
 */
ssize_t h1_parse_request(char *buf, size_t n, size_t *scanned, const struct h1_limits *l,
                         struct arena *a, struct h1_head *h, const char **why);
/* `method`: of the request it answers (HEAD and CONNECT change the framing). 1xx have no body. */
ssize_t h1_parse_answer(char *buf, size_t n, size_t *scanned, const struct h1_limits *l,
                        enum http_method method, struct arena *a, struct h1_head *h,
                        const char **why);
/* After the head's bytes moved from `from` to `to` (a copy in the request's arena). */
void h1_rebase(struct h1_head *h, const char *from, const char *to);

/*
 * The chunked coding (RFC 9112 7.1). Feed bytes; each call consumes from *data and hands out at
 * most one piece of body. Chunk extensions are checked and dropped; trailers are collected up to
 * limits.
 */
struct h1_chunked {
    int state;
    uint64_t left; /* of the chunk */
    unsigned digits;
    size_t line;        /* bytes of the line so far: bounded */
    struct out trailer; /* bytes of the trailer section; memory from the arena at first need */
    size_t trailer_max;
    unsigned trailer_fields_max;
    struct arena *arena;
    struct fields trailers; /* filled at H1_CHUNK_END */
};
enum h1_chunk_event { H1_CHUNK_MORE, H1_CHUNK_DATA, H1_CHUNK_END, H1_CHUNK_BAD };
void h1_chunked_init(struct h1_chunked *c, struct arena *a, const struct h1_limits *l);
/*
 * MORE: everything was consumed. DATA: *piece is body, call again. END: the body is over, *data is
 * what follows (pipelined bytes). BAD: *why. Trailers that must not be there (framing, routing,
 * hop-by-hop: RFC 9110 6.5.1) are dropped.
 */
enum h1_chunk_event h1_chunked_feed(struct h1_chunked *c, struct str *data, struct str *piece,
                                    const char **why);

#endif
