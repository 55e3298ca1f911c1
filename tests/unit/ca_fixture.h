/*
 * ca_fixture.h - what the tests of the CA's client share: a folder, a loop, and calls that are
 * waited for.
 */
#ifndef HG_TEST_CA_FIXTURE_H
#define HG_TEST_CA_FIXTURE_H

#include "base/base.h"

#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "acme/ca.h"
#include "base/fetch.h"
#include "base/file.h"
#include "base/loop.h"
#include "tests/unit/tmp_dir.h"

static struct arena *arena;
static const char *dir;

UNUSED static int ca_set_up(void **state UNUSED)
{
    static const char *const proxies[] = {"http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy",
                                          "ALL_PROXY"};
    for (size_t i = 0; i < ARRAY_LEN(proxies); i++)
        unsetenv(proxies[i]);
    signal(SIGPIPE, SIG_IGN);
    arena = arena_new(1 << 16);
    dir = tmp_dir_make(arena);
    loop_init();
    return dir ? 0 : 1;
}

UNUSED static int ca_tear_down(void **state UNUSED)
{
    fetch_fini();
    loop_fini();
    tmp_dir_remove(arena, dir);
    arena_free(&arena);
    return 0;
}

/* A file of the account. */
UNUSED static const char *at(const char *name)
{
    return arena_fmt(arena, "%s/acme/test/%s", dir, name).p;
}

UNUSED static struct str content(const char *name)
{
    struct str out = STR_NULL;
    const char *err = file_read(arena, at(name), 1 << 16, &out);
    if (err)
        fail_msg("%s", err);
    return out;
}

UNUSED static void put(const char *name, struct str text)
{
    const char *err = file_write(arena, at(name), text, 0600);
    if (err)
        fail_msg("%s", err);
}

UNUSED static bool is_there(const char *name)
{
    return access(at(name), F_OK) == 0;
}

/* What became of a call; copied. */
struct heard {
    unsigned n, awaited;
    struct acme_fail fail; /* ACME_FINE: it went well */
    unsigned status, n_alternates;
    json_t *json;
    struct str location, body, alternates[8];
    int64_t retry_at;
};

UNUSED static void on_answer(void *ctx, const struct ca_answer *a)
{
    struct heard *h = ctx;
    h->n++;
    h->fail = a->fail ? *a->fail : (struct acme_fail){0};
    h->status = a->status;
    json_decref(h->json);
    h->json = json_incref(a->json);
    h->location = arena_str(arena, a->location);
    h->body = arena_str(arena, a->body);
    h->n_alternates = a->n_alternates;
    for (unsigned i = 0; i < a->n_alternates; i++)
        h->alternates[i] = arena_str(arena, a->alternates[i]);
    h->retry_at = a->retry_at;
    if (h->n == h->awaited)
        loop_stop();
}

UNUSED static void await(struct heard *h)
{
    h->awaited = h->n + 1;
    loop_run();
    assert_int_equal(h->n, h->awaited);
}

UNUSED static void fine(const struct heard *h)
{
    if (h->fail.kind != ACME_FINE)
        fail_msg("%s: %s (%s, %u)", h->fail.step, h->fail.text, h->fail.type, h->fail.status);
}

UNUSED static void failed(const struct heard *h, enum acme_fail_kind kind, const char *part)
{
    if (h->fail.kind != kind || !strstr(h->fail.text, part))
        fail_msg("%d: \"%s\" is not %d: \"%s\"", h->fail.kind, h->fail.text, kind, part);
    assert_true(*h->fail.step);
}

UNUSED static json_t *new_order(const char *host)
{
    return json_pack("{s:[{s:s,s:s}]}", "identifiers", "type", "dns", "value", host);
}

UNUSED static void order(struct ca *ca, struct heard *h, const char *host)
{
    ca_post(ca, CA_NEW_ORDER, NULL, new_order(host), "newOrder", on_answer, h);
    await(h);
}

UNUSED static void ask(struct ca *ca, struct heard *h, const char *url, json_t *payload)
{
    ca_post(ca, 0, url, payload, "ask", on_answer, h);
    await(h);
}

#endif
