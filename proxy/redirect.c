/*
 * redirect.c - the `redirect` handler, and Locations for whoever sends a client elsewhere. A
 * Location is never built from bytes that were not normalised (uri.c), and never names a host that
 * the configuration did not.
 */
#include "proxy/redirect.h"

void redirect_answer(struct req *r, unsigned status, struct str location)
{
    r->answer.status = status;
    r->answer.length = 0;
    fields_add_token(r->arena, &r->answer.fields, FIELD_location, location);
    req_answer(r, true);
}

/* "//host/x" as a path would be read as a host by browsers (RFC 3986 4.2): one slash is left. */
static struct str one_slash(struct str path)
{
    while (path.n > 1 && path.p[0] == '/' && path.p[1] == '/')
        path = str_sub(path, 1, path.n);
    return path;
}

static void put_query(struct out *o, const struct req *r, char sep)
{
    if (!r->query.p)
        return;
    out_char(o, sep);
    out_str(o, r->query);
}

struct str redirect_add_slash(struct req *r)
{
    struct str path = one_slash(r->path);
    struct out o = out_on(arena_alloc(r->arena, path.n + r->query.n + 2), path.n + r->query.n + 2);
    out_str(&o, path);
    out_char(&o, '/');
    put_query(&o, r, '?');
    ASSERT(!o.over);
    return out_done(&o);
}

struct str redirect_absolute(struct req *r, struct str scheme, struct str host, uint16_t port)
{
    size_t cap = scheme.n + host.n + r->path.n + r->query.n + 16; /* "://[]:65535/?" */
    struct out o = out_on(arena_alloc(r->arena, cap), cap);
    const unsigned usual = str_eq(scheme, STR("https")) ? 443 : 80;
    out_str(&o, scheme);
    out_lit(&o, "://");
    const bool ip6 = host.n && host.p[0] != '[' && str_chr(host, ':') < host.n;
    if (ip6)
        out_char(&o, '[');
    out_str(&o, host);
    if (ip6)
        out_char(&o, ']');
    if (port && port != usual) {
        out_char(&o, ':');
        out_u64(&o, port);
    }
    out_str(&o, r->path.n && r->path.p[0] == '/' ? r->path : STR("/")); /* "*" has no place there */
    put_query(&o, r, '?');
    ASSERT(!o.over);
    return out_done(&o);
}

static void redirect_start(struct req *r)
{
    struct str target = r->route->target;
    const size_t hash = str_chr(target, '#');
    struct str fragment = str_sub(target, hash, target.n);
    target = str_sub(target, 0, hash);

    struct str rest = STR_NULL;
    if (r->route->prefix && str_ends(target, STR("/"))) {
        rest = r->rest;
        while (rest.n && rest.p[0] == '/')
            rest = str_sub(rest, 1, rest.n);
    }
    size_t cap = target.n + rest.n + r->query.n + fragment.n + 1;
    struct out o = out_on(arena_alloc(r->arena, cap), cap);
    out_str(&o, target);
    out_str(&o, rest);
    put_query(&o, r, str_chr(target, '?') < target.n ? '&' : '?');
    out_str(&o, fragment);
    ASSERT(!o.over);
    redirect_answer(r, r->route->status ? r->route->status : 308, out_done(&o));
}

/* The request's body is of no interest, and nothing is held between calls. */
const struct handler redirect_handler = {
    .name = "redirect",
    .start = redirect_start,
};
