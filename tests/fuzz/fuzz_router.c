/*
 * fuzz_router.c - a host line and a target through normalisation and routing: whatever comes in,
 * the normal form is stable and stays below the root, and the tables answer as a plain search does.
 */
#include "proxy/router.h"
#include "proxy/uri.h"

static struct conf_route routes[] = {
    {.path = {"/docs/guide/", 12}, .prefix = true}, {.path = {"/healthz", 8}},
    {.path = {"/docs/", 6}, .prefix = true},        {.path = {"/exact", 6}},
    {.path = {"/a%2Fb/", 7}, .prefix = true},       {.path = {"/", 1}, .prefix = true},
};
static struct conf_route routes_b[] = {
    {.path = {"/api/", 5}, .prefix = true},
    {.path = {"/x", 2}},
};
static struct str aliases[] = {{"alias.example.org", 17}, {"*.a.example.org", 15}};
static struct conf_site sites[] = {
    {.index = 0,
     .host = {"www.example.org", 15},
     .aliases = aliases,
     .n_aliases = 2,
     .routes = routes,
     .n_routes = ARRAY_LEN(routes)},
    {.index = 1,
     .host = {"*.example.net", 13},
     .routes = routes_b,
     .n_routes = ARRAY_LEN(routes_b)},
};

static bool has_dot_segment(struct str path)
{
    struct str piece;
    while (str_split(&path, '/', &piece))
        if (str_eq(piece, STR(".")) || str_eq(piece, STR("..")))
            return true;
    return false;
}

/* The routes are sorted as conf promises: the first that fits is the one. */
static const struct conf_route *plain_search(const struct conf_site *s, struct str path)
{
    for (unsigned i = 0; i < s->n_routes; i++) {
        const struct conf_route *r = &s->routes[i];
        if (r->prefix ? str_starts(path, r->path) : str_eq(path, r->path))
            return r;
        if (r->prefix && path.n + 1 == r->path.n && str_starts(r->path, path)) {
            for (unsigned k = 0; k < s->n_routes; k++)
                if (!s->routes[k].prefix && str_eq(path, s->routes[k].path))
                    return &s->routes[k];
            return r;
        }
    }
    return NULL;
}

static bool name_fits(struct str pattern, struct str name)
{
    if (!str_starts(pattern, STR("*.")))
        return str_eq(pattern, name);
    size_t dot = str_chr(name, '.');
    return dot > 0 && str_eq(str_sub(pattern, 1, pattern.n), str_sub(name, dot, name.n));
}

static void check_host(struct arena *a, const struct router *r, struct str value)
{
    struct uri_host h;
    struct uri_host again;
    struct route_match m = {0};
    if (uri_host_parse(a, value, &h))
        return;
    ASSERT(h.host.n && !uri_host_parse(a, h.host, &again) && str_eq(h.host, again.host));
    ASSERT(again.port == 0 && str_eq(h.name, again.name));
    const struct conf_site *want = NULL;
    for (unsigned i = 0; i < ARRAY_LEN(sites) && !want; i++) {
        if (name_fits(sites[i].host, h.name))
            want = &sites[i];
        for (unsigned k = 0; k < sites[i].n_aliases; k++)
            if (name_fits(sites[i].aliases[k], h.name))
                want = &sites[i];
    }
    ASSERT(router_host(r, h.name, &m) == (want != NULL));
    ASSERT(m.site == want);
}

static void check_path(struct arena *a, const struct router *r, struct str path)
{
    struct uri again;
    struct str file;
    ASSERT(path.n && path.p[0] == '/' && !has_dot_segment(path));
    for (size_t i = 0; i < path.n; i++)
        ASSERT(path.p[i] > ' ' && path.p[i] < 0x7f && path.p[i] != '\\' && path.p[i] != '?');
    ASSERT(!uri_parse(a, path, &again) && str_eq(path, again.path));
    if (uri_file_path(a, path, &file))
        ASSERT(!has_dot_segment(file) && strlen(file.p) == file.n && file.p[0] != '/');
    for (unsigned i = 0; i < ARRAY_LEN(sites); i++) {
        struct route_match m = {0};
        const struct conf_route *want = plain_search(&sites[i], path);
        ASSERT(router_path(r, &sites[i], path, &m) == (want != NULL));
        ASSERT(m.route == want);
        if (want && !m.add_slash)
            ASSERT(want->path.n + m.rest.n == path.n && str_ends(path, m.rest));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct router *router;
    static const struct conf conf = {.sites = sites, .n_sites = ARRAY_LEN(sites)};
    if (!router)
        router = router_new(&conf);
    struct arena *a = arena_new(1024);
    struct str in = {(const char *)data, size};
    const size_t line = str_chr(in, '\n');
    struct uri u;
    check_host(a, router, str_sub(in, 0, line));
    if (!uri_parse(a, str_sub(in, line + 1, in.n), &u)) {
        if (u.authority.n)
            check_host(a, router, u.authority);
        if (!u.asterisk)
            check_path(a, router, u.path);
    }
    arena_free(&a);
    return 0;
}
