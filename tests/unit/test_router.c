/*
 * test_router.c - which site a name means and which route a path means.
 */
#include "proxy/router.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static struct conf_route routes_a[] = {
    {.path = {"/docs/guide/", 12}, .prefix = true}, {.path = {"/healthz", 8}},
    {.path = {"/docs/", 6}, .prefix = true},        {.path = {"/exact", 6}},
    {.path = {"/exact/", 7}, .prefix = true},       {.path = {"/", 1}, .prefix = true},
};
static struct conf_route routes_b[] = {
    {.path = {"/api/", 5}, .prefix = true},
    {.path = {"/x", 2}},
};
static struct str aliases_a[] = {{"alias.example.org", 17}, {"*.a.example.org", 15}};
static struct str redirects_a[] = {{"example.org", 11}};
static struct conf_site sites[] = {
    {.index = 0,
     .name = {"a", 1},
     .host = {"www.example.org", 15},
     .aliases = aliases_a,
     .n_aliases = 2,
     .redirect_from = redirects_a,
     .n_redirect_from = 1,
     .routes = routes_a,
     .n_routes = ARRAY_LEN(routes_a)},
    {.index = 1,
     .name = {"b", 1},
     .host = {"*.example.net", 13},
     .routes = routes_b,
     .n_routes = ARRAY_LEN(routes_b)},
    {.index = 2, .name = {"c", 1}, .host = {"[::1]", 5}},
    {.index = 3, .name = {"d", 1}, .host = {"*", 1}},
};

static struct conf conf_of(unsigned n)
{
    return (struct conf){.sites = sites, .n_sites = n};
}

static const char *site_of(const struct router *r, const char *host)
{
    struct route_match m = {0};
    if (!router_host(r, str_of(host), &m))
        return "none";
    return m.site->name.p;
}

static void test_hosts(void **state)
{
    (void)state;
    struct conf c = conf_of(3);
    struct router *r = router_new(&c);
    assert_string_equal(site_of(r, "www.example.org"), "a");
    assert_string_equal(site_of(r, "alias.example.org"), "a");
    assert_string_equal(site_of(r, "x.a.example.org"), "a");
    assert_string_equal(site_of(r, "a.example.org"), "none");
    assert_string_equal(site_of(r, "y.x.a.example.org"), "none");
    assert_string_equal(site_of(r, "www.example.net"), "b");
    assert_string_equal(site_of(r, "example.net"), "none");
    assert_string_equal(site_of(r, "*.example.net"), "b");
    assert_string_equal(site_of(r, ".example.net"), "none");
    assert_string_equal(site_of(r, "a.b.example.net"), "none");
    assert_string_equal(site_of(r, "::1"), "c");
    assert_string_equal(site_of(r, "other"), "none");
    assert_string_equal(site_of(r, ""), "none");
    struct route_match m = {0};
    assert_true(router_host(r, STR("example.org"), &m));
    assert_true(m.redirect_host);
    assert_true(router_host(r, STR("www.example.org"), &m));
    assert_false(m.redirect_host);
    router_free(&r);
    assert_null(r);
    router_free(&r);

    c = conf_of(4);
    r = router_new(&c);
    assert_string_equal(site_of(r, "other"), "d");
    assert_string_equal(site_of(r, ""), "d");
    assert_string_equal(site_of(r, "www.example.org"), "a");
    router_free(&r);
}

static void check(const struct router *r, unsigned site, const char *path, const char *route,
                  const char *rest, bool add_slash)
{
    struct route_match m = {0};
    bool found = router_path(r, &sites[site], str_of(path), &m);
    assert_int_equal(found, route != NULL);
    assert_int_equal(m.route != NULL, route != NULL);
    if (!route)
        return;
    if (!str_eq(m.route->path, str_of(route)))
        fail_msg("%s goes to %.*s", path, STR_ARG(m.route->path));
    assert_true(str_eq(m.rest, str_of(rest)));
    assert_int_equal(m.add_slash, add_slash);
}

static void test_paths(void **state)
{
    (void)state;
    struct conf c = conf_of(4);
    struct router *r = router_new(&c);
    check(r, 0, "/", "/", "", false);
    check(r, 0, "/x", "/", "x", false);
    check(r, 0, "/docs/", "/docs/", "", false);
    check(r, 0, "/docs/a/b", "/docs/", "a/b", false);
    check(r, 0, "/docs/guide/", "/docs/guide/", "", false);
    check(r, 0, "/docs/guide/x", "/docs/guide/", "x", false);
    check(r, 0, "/docs/guidex", "/docs/", "guidex", false);
    check(r, 0, "/docs", "/docs/", "", true);
    check(r, 0, "/docs/guide", "/docs/guide/", "", true);
    check(r, 0, "/docsx", "/", "docsx", false);
    check(r, 0, "/healthz", "/healthz", "", false);
    check(r, 0, "/healthz/", "/", "healthz/", false);
    check(r, 0, "/exact", "/exact", "", false);
    check(r, 0, "/exact/", "/exact/", "", false);
    check(r, 0, "/exact/y", "/exact/", "y", false);
    check(r, 0, "//docs/", "/", "/docs/", false);
    check(r, 1, "/api/v1", "/api/", "v1", false);
    check(r, 1, "/api", "/api/", "", true);
    check(r, 1, "/x", "/x", "", false);
    check(r, 1, "/x/", NULL, NULL, false);
    check(r, 1, "/", NULL, NULL, false);
    check(r, 1, "/healthz", NULL, NULL, false);
    check(r, 2, "/", NULL, NULL, false);
    router_free(&r);
}

/* Many sites and routes: every one is found, and none is found for another site. */
static void test_many(void **state)
{
    (void)state;
    enum { SITES = 300, ROUTES = 20 };
    struct arena *a = arena_new(65536);
    struct conf c = {.n_sites = SITES};
    c.sites = arena_zarray(a, struct conf_site, SITES);
    for (unsigned i = 0; i < SITES; i++) {
        struct conf_site *s = &c.sites[i];
        s->index = i;
        s->host = arena_fmt(a, "host%u.example.org", i);
        s->n_routes = ROUTES;
        s->routes = arena_zarray(a, struct conf_route, ROUTES);
        for (unsigned k = 0; k < ROUTES; k++) {
            s->routes[k].path = arena_fmt(a, "/site%u/r%u/", i, k);
            s->routes[k].prefix = true;
        }
    }
    struct router *r = router_new(&c);
    for (unsigned i = 0; i < SITES; i++) {
        struct route_match m = {0};
        assert_true(router_host(r, c.sites[i].host, &m));
        assert_ptr_equal(m.site, &c.sites[i]);
        for (unsigned k = 0; k < ROUTES; k++) {
            struct str path = arena_fmt(a, "/site%u/r%u/some/file", i, k);
            assert_true(router_path(r, m.site, path, &m));
            assert_ptr_equal(m.route, &m.site->routes[k]);
            assert_false(router_path(r, &c.sites[(i + 1) % SITES], path, &m));
        }
    }
    router_free(&r);
    arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hosts),
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
