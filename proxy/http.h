/*
 * http.h - HTTP in RFC 9110's words, whatever the version on the wire: methods, fields, statuses.
 */
#ifndef HG_HTTP_H
#define HG_HTTP_H

#include "base/arena.h"

enum http_method {
    METHOD_OTHER,
    METHOD_GET,
    METHOD_HEAD,
    METHOD_POST,
    METHOD_PUT,
    METHOD_DELETE,
    METHOD_CONNECT,
    METHOD_OPTIONS,
    METHOD_TRACE,
    METHOD_PATCH
};

/* Field names that code acts on; the enumerator is FIELD_ and the name with _ for -. */
#define FIELD_TABLE(X)                                        \
    X(accept, "accept")                                       \
    X(accept_encoding, "accept-encoding")                     \
    X(accept_ranges, "accept-ranges")                         \
    X(age, "age")                                             \
    X(alt_svc, "alt-svc")                                     \
    X(authorization, "authorization")                         \
    X(cache_control, "cache-control")                         \
    X(connection, "connection")                               \
    X(content_encoding, "content-encoding")                   \
    X(content_length, "content-length")                       \
    X(content_range, "content-range")                         \
    X(content_type, "content-type")                           \
    X(cookie, "cookie")                                       \
    X(date, "date")                                           \
    X(etag, "etag")                                           \
    X(expect, "expect")                                       \
    X(forwarded, "forwarded")                                 \
    X(host, "host")                                           \
    X(if_match, "if-match")                                   \
    X(if_modified_since, "if-modified-since")                 \
    X(if_none_match, "if-none-match")                         \
    X(if_range, "if-range")                                   \
    X(if_unmodified_since, "if-unmodified-since")             \
    X(keep_alive, "keep-alive")                               \
    X(last_modified, "last-modified")                         \
    X(location, "location")                                   \
    X(origin, "origin")                                       \
    X(proxy_authenticate, "proxy-authenticate")               \
    X(proxy_authorization, "proxy-authorization")             \
    X(proxy_connection, "proxy-connection")                   \
    X(range, "range")                                         \
    X(referer, "referer")                                     \
    X(retry_after, "retry-after")                             \
    X(server, "server")                                       \
    X(set_cookie, "set-cookie")                               \
    X(strict_transport_security, "strict-transport-security") \
    X(te, "te")                                               \
    X(trailer, "trailer")                                     \
    X(transfer_encoding, "transfer-encoding")                 \
    X(upgrade, "upgrade")                                     \
    X(user_agent, "user-agent")                               \
    X(vary, "vary")                                           \
    X(via, "via")                                             \
    X(www_authenticate, "www-authenticate")                   \
    X(x_forwarded_for, "x-forwarded-for")                     \
    X(x_forwarded_host, "x-forwarded-host")                   \
    X(x_forwarded_port, "x-forwarded-port")                   \
    X(x_forwarded_proto, "x-forwarded-proto")                 \
    X(x_real_ip, "x-real-ip")                                 \
    X(x_request_id, "x-request-id")

enum field_token {
    FIELD_OTHER,
#define X(id, text) FIELD_##id,
    FIELD_TABLE(X)
#undef X
        FIELD_COUNT
};

enum { FIELD_HOP = 1 }; /* flags: named by Connection, or hop-by-hop by itself: not passed on */

struct field {
    struct str name;  /* lower case */
    struct str value; /* no OWS around it */
    uint16_t token;   /* enum field_token */
    uint16_t flags;
};

struct fields {
    struct field *v;
    unsigned n, cap;
};

enum http_method http_method_of(struct str name);       /* case-sensitive (RFC 9110 9.1) */
enum field_token field_token_of(struct str lower_name); /* FIELD_OTHER when not in the table */
struct str field_name(enum field_token t);
bool http_method_idempotent(enum http_method m); /* RFC 9110 9.2.2 */
struct str http_reason(unsigned status);         /* "Not Found"; "" when unknown */
/* Appends; grows in the arena. Names from code are lower case already. */
void fields_add(struct arena *a, struct fields *f, struct str name, struct str value);
void fields_add_token(struct arena *a, struct fields *f, enum field_token t, struct str value);
/* All of the name (lower case) go; the order of the others stays. */
void fields_remove(struct fields *f, struct str name);
/* First field with the token, or NULL. */
const struct field *fields_get(const struct fields *f, enum field_token t);
/* No control bytes but tabs. nghttp2 lets some through that other readers would stumble over. */
bool http_value_clean(struct str value);
bool http_is_tchar(unsigned char c); /* RFC 9110 5.6.2 */
/* The byte in lower case when it is a tchar, 0 for every other byte: check and fold in one step. */
extern const unsigned char http_tchar_lower[256];
/* 1xx, 204 and 304 end with their head, whatever it says (RFC 9112 6.3). */
bool http_status_bodyless(unsigned status);
/* What must not come in a trailer section (RFC 9110 6.5.1): framing, routing, authentication … */
bool http_trailer_forbidden(const struct field *f);
/* qvalue (RFC 9110 12.4.2) in thousandths; what is no qvalue counts as 0: not wanted. */
unsigned http_qvalue(struct str s);
/* Does a comma-separated list (RFC 9110 5.6.1) hold the token, without regard to case? */
bool http_list_has(struct str list, struct str token);

#endif
