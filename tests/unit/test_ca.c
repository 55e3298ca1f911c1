/*
 * test_ca.c - the client of a CA against a real one (Pebble): account, nonces, calls.
 */
#include "base/base.h"

#include <dirent.h>
#include <setjmp.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "acme/ca.h"
#include "base/fetch.h"
#include "base/loop.h"
#include "tests/unit/pebble.h"

static struct arena *arena;
static const char *dir;

static void remove_tree(const char *path)
{
    DIR *d = opendir(path);
    if (d) {
        for (struct dirent *e; (e = readdir(d));)
            if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
                remove_tree(arena_fmt(arena, "%s/%s", path, e->d_name).p);
        closedir(d);
    }
    assert_int_equal(remove(path), 0);
}

static int set_up(void **state UNUSED)
{
    signal(SIGPIPE, SIG_IGN);
    arena = arena_new(1 << 16);
    char *path = (char *)(uintptr_t)arena_fmt(arena, "%s/headgate-acme.XXXXXX",
                                              getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp")
                     .p;
    dir = mkdtemp(path);
    loop_init();
    return dir ? 0 : 1;
}

static int tear_down(void **state UNUSED)
{
    fetch_fini();
    loop_fini();
    remove_tree(dir);
    arena_free(&arena);
    return 0;
}

static const char *at(const char *name)
{
    return arena_fmt(arena, "%s/acme/test/%s", dir, name).p;
}

static struct ca *ca_for(const struct pebble *p, const char *email)
{
    return ca_open(&(struct ca_spec){.name = STR("test"),
                                     .directory = p->directory,
                                     .root_pem = p->root,
                                     .email = str_of(email),
                                     .state = dir});
}

/* What became of a call; copied. */
struct heard {
    unsigned n, awaited;
    struct acme_fail fail; /* ACME_FINE: it went well */
    unsigned status;
    json_t *json;
    struct str location;
};

static void on_answer(void *ctx, const struct ca_answer *a)
{
    struct heard *h = ctx;
    h->n++;
    h->fail = a->fail ? *a->fail : (struct acme_fail){0};
    h->status = a->status;
    json_decref(h->json);
    h->json = json_incref(a->json);
    h->location = arena_str(arena, a->location);
    if (h->n == h->awaited)
        loop_stop();
}

static void await(struct heard *h)
{
    h->awaited = h->n + 1;
    loop_run();
    assert_int_equal(h->n, h->awaited);
}

static void fine(const struct heard *h)
{
    if (h->fail.kind != ACME_FINE)
        fail_msg("%s: %s (%s, %u)", h->fail.step, h->fail.text, h->fail.type, h->fail.status);
}

static json_t *new_order(const char *host)
{
    return json_pack("{s:[{s:s,s:s}]}", "identifiers", "type", "dns", "value", host);
}

static void order(struct ca *ca, struct heard *h, const char *host)
{
    ca_post(ca, CA_NEW_ORDER, NULL, new_order(host), "newOrder", on_answer, h);
    await(h);
}

static void account_and_calls(void **state UNUSED)
{
    struct pebble p = pebble_start(arena, (struct pebble_how){.dir = dir});
    struct ca *ca = ca_for(&p, "a@example.org");
    struct heard h = {0};
    assert_null(ca_account_key(ca));
    order(ca, &h, "a.example.org");
    fine(&h);
    assert_int_equal(h.status, 201);
    assert_true(h.location.n > 0);
    assert_string_equal(json_string_value(json_object_get(h.json, "status")), "pending");
    assert_non_null(ca_account_key(ca));
    assert_true(*ca_account_url(ca));
    struct stat st;
    assert_int_equal(stat(at("account.key"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(stat(at("account.json"), &st), 0);

    /* POST-as-GET of what it made. */
    ca_post(ca, 0, h.location.p, NULL, "order", on_answer, &h);
    await(&h);
    fine(&h);
    assert_int_equal(h.status, 200);

    const char *kid = arena_strz(arena, str_of(ca_account_url(ca)));
    ca_close(&ca);
    ca = ca_for(&p, "a@example.org"); /* the same account again */
    order(ca, &h, "b.example.org");
    fine(&h);
    assert_string_equal(kid, ca_account_url(ca));
    ca_close(&ca);
    json_decref(h.json);
    pebble_stop(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(account_and_calls, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
