/*
 * uri.h - request targets and authorities: what a client wrote → one normal form that routing,
 * files and backends agree on, so that no two of them read the same bytes differently. Pure
 * functions on bytes; which site or route is meant is router.h's.
 */
#ifndef HG_URI_H
#define HG_URI_H

#include "base/arena.h"

/* A request target (RFC 9112 3.2) taken apart. The strs point into the target or into the arena. */
struct uri {
    /*
     * Begins with "/" ("*" when `asterisk`). Percent-encoded: unreserved characters are plain, the
     * rest has upper-case hex, dot segments are gone (RFC 3986 6.2.2). Empty segments stay.
     */
    struct str path;
    struct str query;     /* as received, without the "?" */
    bool has_query;       /* "/x?" has an empty one */
    bool asterisk;        /* "*", for OPTIONS only (RFC 9112 3.2.4): the caller checks the method */
    struct str scheme;    /* absolute-form: "http" or "https", lower case; else empty */
    struct str authority; /* absolute-form: replaces Host (RFC 9112 3.2.2); else empty */
};

/*
 * NULL, or the rule that was broken: the request gets 400. Refused are: a fragment, spaces, control
 * bytes and backslashes (also NUL and control bytes percent-encoded), a "%" without two hex digits
 * in the path, dot segments that climb above the root, userinfo, other schemes than http(s).
 */
const char *uri_parse(struct arena *a, struct str target, struct uri *u) MUST_USE;

/*
 * A normalised path → the name below a folder, all decoded, without the leading slashes ("" for
 * the folder itself), NUL-terminated. False when no file can be meant: an encoded slash or NUL.
 */
bool uri_file_path(struct arena *a, struct str path, struct str *out) MUST_USE;

/* host[:port] of Host, :authority or an absolute-form target (RFC 3986 3.2). */
struct uri_host {
    struct str host; /* lower case, no trailing dot; an IPv6 address canonical and in brackets */
    struct str name; /* the same without brackets: what certificates and sites are looked up by */
    uint16_t port;   /* 0 when none was given */
};
/* NULL, or the rule that was broken (400). Copies into the arena only what had to be changed. */
const char *uri_host_parse(struct arena *a, struct str value, struct uri_host *h) MUST_USE;

#endif
