/*
 * test_local_ca.c - the local CA: what it makes passes strict clients, what lies on disk is used
 * again, never overwritten in silence, and damage is told with its cure. And the store of
 * certificates.
 */
#include "base/base.h"

#include <fcntl.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/err.h>

#include "acme/cert_store.h"
#include "acme/local_ca.h"
#include "base/file.h"
#include "tests/unit/certs.h"
#include "tests/unit/tmp_dir.h"

static struct arena *arena;
static const char *dir;

static int set_up(void **state UNUSED)
{
    arena = arena_new(1 << 16);
    dir = tmp_dir_make(arena);
    return dir ? 0 : 1;
}

static int tear_down(void **state UNUSED)
{
    tmp_dir_remove(arena, dir);
    arena_free(&arena);
    return 0;
}

static const char *at(const char *name)
{
    return arena_fmt(arena, "%s/%s", dir, name).p;
}

static struct str content(const char *name)
{
    struct str out = STR_NULL;
    const char *err = file_read(arena, at(name), 1 << 16, &out);
    if (err)
        fail_msg("%s", err);
    return out;
}

static void put(const char *name, struct str text)
{
    const char *err = file_write(arena, at(name), text, 0600);
    if (err)
        fail_msg("%s", err);
}

static unsigned mode_of(const char *name)
{
    struct stat st;
    assert_int_equal(stat(at(name), &st), 0);
    return st.st_mode & 07777;
}

static X509 *cert_of(struct str pem)
{
    BIO *b = BIO_new_mem_buf(pem.p, (int)pem.n);
    X509 *x = PEM_read_bio_X509(b, NULL, NULL, NULL);
    assert_non_null(x);
    BIO_free(b);
    return x;
}

static struct local_ca *ca_open(void)
{
    const char *err = NULL;
    struct local_ca *ca = local_ca_open(arena, dir, &err);
    if (!ca)
        fail_msg("%s", err);
    assert_null(err);
    return ca;
}

static void ca_refused(const char *part)
{
    const char *err = NULL;
    struct str crt = access(at("ca/root.crt"), F_OK) == 0 ? content("ca/root.crt") : STR_NULL;
    assert_null(local_ca_open(arena, dir, &err));
    assert_non_null(err);
    if (!strstr(err, part))
        fail_msg("\"%s\" does not say \"%s\"", err, part);
    assert_non_null(strstr(err, "root.key"));
    if (crt.p)
        assert_true(str_eq(crt, content("ca/root.crt"))); /* untouched */
}

static struct str leaf(struct local_ca *ca, const char *host, int64_t *until)
{
    struct local_leaf made = {0};
    const char *err = local_ca_leaf(ca, arena, str_of(host), &made);
    if (err)
        fail_msg("%s", err);
    if (until)
        *until = made.not_after;
    return made.pem;
}

/* As a client with this root alone and all checks on sees it. */
static void verify(struct str pem, const char *host, bool ip)
{
    X509 *root = cert_of(content("ca/root.crt")), *x = cert_of(pem);
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    assert_int_equal(X509_STORE_add_cert(store, root), 1);
    assert_int_equal(X509_STORE_CTX_init(ctx, store, x, NULL), 1);
    X509_VERIFY_PARAM *v = X509_STORE_CTX_get0_param(ctx);
    X509_VERIFY_PARAM_set_flags(v, X509_V_FLAG_X509_STRICT | X509_V_FLAG_CHECK_SS_SIGNATURE);
    X509_VERIFY_PARAM_set_hostflags(v, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
    X509_VERIFY_PARAM_set_purpose(v, X509_PURPOSE_SSL_SERVER);
    if (ip)
        assert_int_equal(X509_VERIFY_PARAM_set1_ip_asc(v, host), 1);
    else
        assert_int_equal(X509_VERIFY_PARAM_set1_host(v, host, 0), 1);
    if (X509_verify_cert(ctx) != 1)
        fail_msg("%s: %s", host, X509_verify_cert_error_string(X509_STORE_CTX_get_error(ctx)));
    X509_STORE_CTX_free(ctx);
    X509_STORE_free(store);
    X509_free(root);
    X509_free(x);
}

static long days_of(X509 *x)
{
    int days, seconds;
    assert_int_equal(ASN1_TIME_diff(&days, &seconds, X509_get0_notBefore(x), X509_get0_notAfter(x)),
                     1);
    return days;
}

static void root(void **state UNUSED)
{
    struct local_ca *ca = ca_open();
    assert_int_equal(mode_of("ca/root.key"), 0600);
    assert_int_equal(mode_of("ca/root.crt"), 0644);
    X509 *x = cert_of(content("ca/root.crt"));
    char cn[128];
    assert_true(X509_NAME_get_text_by_NID(X509_get_subject_name(x), NID_commonName, cn, sizeof cn) >
                0);
    assert_memory_equal(cn, "headgate local CA", 17);
    assert_int_equal(X509_check_ca(x), 1);
    assert_int_equal(X509_get_pathlen(x), 0);
    assert_int_equal(X509_get_key_usage(x), KU_KEY_CERT_SIGN | KU_CRL_SIGN);
    assert_int_equal(days_of(x), LOCAL_CA_ROOT_DAYS);
    X509_free(x);
    struct str crt = content("ca/root.crt"), key = content("ca/root.key");
    local_ca_close(&ca);
    assert_null(ca);
    ca = ca_open(); /* the same one again */
    assert_true(str_eq(crt, content("ca/root.crt")));
    assert_true(str_eq(key, content("ca/root.key")));
    local_ca_close(&ca);
}

static void leaves(void **state UNUSED)
{
    static const struct {
        const char *host, *check, *folder;
        bool ip;
    } cases[] = {
        {"www.localhost", "www.localhost", "www.localhost", false},
        {"nas", "nas", "nas", false},
        {"*.home.arpa", "x.home.arpa", "_.home.arpa", false},
        {"*", "localhost", "_", false},
        {"127.0.0.1", "127.0.0.1", "127.0.0.1", true},
        {"::1", "::1", "::1", true},
        {"a-name-that-is-longer-than-a-common-name-may-be.of-64-characters.example.internal",
         "a-name-that-is-longer-than-a-common-name-may-be.of-64-characters.example.internal",
         "a-name-that-is-longer-than-a-common-name-may-be.of-64-characters.example.internal",
         false},
    };
    struct local_ca *ca = ca_open();
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int64_t until;
        struct str pem = leaf(ca, cases[i].host, &until);
        verify(pem, cases[i].check, cases[i].ip);
        X509 *x = cert_of(pem);
        assert_int_equal(days_of(x), LOCAL_CA_LEAF_DAYS);
        assert_true(llabs(until - wall_s() - LOCAL_CA_LEAF_DAYS * 86400) < 600);
        assert_int_equal(X509_cmp_current_time(X509_get0_notBefore(x)), -1);
        assert_int_equal(X509_get_extended_key_usage(x), XKU_SSL_SERVER);
        BIGNUM *serial = ASN1_INTEGER_to_BN(X509_get0_serialNumber(x), NULL);
        assert_int_equal(BN_num_bits(serial), 128);
        assert_false(BN_is_negative(serial));
        BN_free(serial);
        X509_free(x);
        static const char *const files[] = {"cert.pem", "key.pem", "meta.json"};
        for (size_t k = 0; k < ARRAY_LEN(files); k++)
            assert_int_equal(
                mode_of(arena_fmt(arena, "certs/local/%s/%s", cases[i].folder, files[k]).p), 0600);
        json_t *meta = json_loads(
            content(arena_fmt(arena, "certs/local/%s/meta.json", cases[i].folder).p).p, 0, NULL);
        assert_int_equal(json_integer_value(json_object_get(meta, "not_after")), until);
        json_decref(meta);
        assert_true(str_eq(pem, leaf(ca, cases[i].host, NULL))); /* used again */
    }
    local_ca_close(&ca);
}

static void wrong_hosts(void **state UNUSED)
{
    static const char *const hosts[] = {"",   "../x",    "a/b", "a b", "*x",
                                        "**", "a,DNS:b", "x\n", ".."};
    struct local_ca *ca = ca_open();
    for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
        struct local_leaf none;
        const char *err = local_ca_leaf(ca, arena, str_of(hosts[i]), &none);
        assert_non_null(err);
        assert_non_null(strstr(err, "no name of a host"));
    }
    local_ca_close(&ca);
}

static struct str joined(struct str a, struct str b)
{
    return arena_fmt(arena, STR_FMT STR_FMT, STR_ARG(a), STR_ARG(b));
}

/* A leaf is made anew when it is another root's, another host's, damaged, or soon over. */
static void leaf_renewal(void **state UNUSED)
{
    struct local_ca *ca = ca_open();
    struct str first = leaf(ca, "a.local", NULL);
    local_ca_close(&ca);
    ca = ca_open();
    assert_true(str_eq(first, leaf(ca, "a.local", NULL)));
    struct str other = leaf(ca, "b.local", NULL);

    put("certs/local/a.local/cert.pem", content("certs/local/b.local/cert.pem"));
    put("certs/local/a.local/key.pem", content("certs/local/b.local/key.pem"));
    struct str again = leaf(ca, "a.local", NULL);
    assert_false(str_eq(again, other));
    verify(again, "a.local", false);

    put("certs/local/a.local/key.pem", content("certs/local/b.local/key.pem")); /* does not fit */
    assert_false(str_eq(again, leaf(ca, "a.local", NULL)));
    put("certs/local/a.local/cert.pem", STR("spoilt"));
    verify(leaf(ca, "a.local", NULL), "a.local", false);
    assert_int_equal(unlink(at("certs/local/a.local/key.pem")), 0);
    verify(leaf(ca, "a.local", NULL), "a.local", false);
    local_ca_close(&ca);

    /* By this root, for this host, but less than a third of its life is left; then a little more.
     */
    struct str key = content("ca/root.key");
    BIO *b = BIO_new_mem_buf(key.p, (int)key.n);
    struct test_cert signer = {.x = cert_of(content("ca/root.crt")),
                               .key = PEM_read_bio_PrivateKey(b, NULL, NULL, NULL)};
    BIO_free(b);
    for (int left = 30; left <= 40; left += 10) {
        struct test_cert c =
            test_cert_make(arena, (struct test_cert_how){.san = "DNS:a.local",
                                                         .by = &signer,
                                                         .from = -1000 * (100 - left),
                                                         .to = 1000 * left});
        put("certs/local/a.local/cert.pem", c.pem);
        put("certs/local/a.local/key.pem", c.key_pem);
        ca = ca_open();
        assert_int_equal(str_eq(joined(c.pem, c.key_pem), leaf(ca, "a.local", NULL)), left == 40);
        local_ca_close(&ca);
        test_cert_free(&c);
    }
    test_cert_free(&signer);

    /* A new root: the old one's leaves are of no use. */
    again = leaf(ca = ca_open(), "b.local", NULL);
    local_ca_close(&ca);
    assert_int_equal(unlink(at("ca/root.crt")) | unlink(at("ca/root.key")), 0);
    ca = ca_open();
    other = leaf(ca, "b.local", NULL);
    assert_false(str_eq(again, other));
    verify(other, "b.local", false);
    local_ca_close(&ca);
    assert_int_equal(local_ca_renew_at(1000, 1900), 1600);
}

static void damaged_root(void **state UNUSED)
{
    struct local_ca *ca = ca_open();
    local_ca_close(&ca);
    struct str crt = content("ca/root.crt"), key = content("ca/root.key");
    struct test_cert other = test_cert_make(arena, (struct test_cert_how){.ca = true});
    struct test_cert plain = test_cert_make(arena, (struct test_cert_how){.san = "DNS:a"});

    put("ca/root.crt", STR("spoilt"));
    ca_refused("holds no certificate");
    put("ca/root.crt", STR(""));
    ca_refused("holds no certificate");
    put("ca/root.crt", other.pem);
    ca_refused("is not the key of");
    put("ca/root.crt", crt);
    put("ca/root.key", STR("spoilt"));
    ca_refused("holds no private key");
    assert_int_equal(unlink(at("ca/root.crt")), 0);
    ca_refused("holds no private key");
    put("ca/root.crt", plain.pem);
    put("ca/root.key", plain.key_pem);
    ca_refused("is not the certificate of a CA");
    put("ca/root.crt", crt);
    assert_int_equal(unlink(at("ca/root.key")), 0);
    ca_refused("there is no");

    /* A key alone is a making that was cut off: it is finished with that key. */
    put("ca/root.key", key);
    assert_int_equal(unlink(at("ca/root.crt")), 0);
    ca = ca_open();
    assert_true(str_eq(key, content("ca/root.key")));
    verify(leaf(ca, "a.local", NULL), "a.local", false);
    local_ca_close(&ca);

    /* Expired: made anew, key and all. */
    struct test_cert old =
        test_cert_make(arena, (struct test_cert_how){.ca = true, .from = -7200, .to = -60});
    put("ca/root.crt", old.pem);
    put("ca/root.key", old.key_pem);
    ca = ca_open();
    assert_false(str_eq(old.pem, content("ca/root.crt")));
    verify(leaf(ca, "a.local", NULL), "a.local", false);
    local_ca_close(&ca);
    test_cert_free(&old);
    test_cert_free(&other);
    test_cert_free(&plain);
}

/* Root may write anywhere, so the folder is a file here: no mode helps against that. */
static void unwritable(void **state UNUSED)
{
    put("ca", STR("in the way"));
    const char *err = NULL;
    assert_null(local_ca_open(arena, dir, &err));
    assert_non_null(strstr(err, at("ca")));
    assert_int_equal(unlink(at("ca")), 0);
    struct local_ca *ca = ca_open();
    put("certs", STR("in the way"));
    verify(leaf(ca, "a.local", NULL), "a.local", false); /* serves, unstored */
    local_ca_close(&ca);
    if (geteuid() == 0)
        return;
    assert_int_equal(chmod(at("ca"), 0500), 0);
    assert_int_equal(unlink(at("ca/root.crt")), -1);
    assert_int_equal(chmod(at("ca"), 0700), 0);
    assert_int_equal(unlink(at("ca/root.crt")), 0);
    assert_int_equal(chmod(at("ca"), 0500), 0);
    assert_null(local_ca_open(arena, dir, &err));
    assert_non_null(strstr(err, "permission denied"));
    assert_int_equal(chmod(at("ca"), 0700), 0);
}

static void store(void **state UNUSED)
{
    struct cert_unit in = {STR("cert 1"), STR("key 1"), STR("{}")}, out;
    bool found;
    struct str host = STR("a.test");
    assert_null(cert_store_read(arena, dir, "x", host, &out, &found));
    assert_false(found);
    assert_null(cert_store_write(arena, dir, "x", host, &in));
    in.cert_pem = STR("cert 2");
    in.key_pem = STR("key 2");
    assert_null(cert_store_write(arena, dir, "x", host, &in));
    assert_null(cert_store_read(arena, dir, "x", host, &out, &found));
    assert_true(found && str_eq(out.cert_pem, in.cert_pem) && str_eq(out.key_pem, in.key_pem));
    /* What a crash left behind is cleared away, and nothing else lies there. */
    assert_int_equal(mkdir(at("certs/x/.new.a.test"), 0700), 0);
    put("certs/x/.new.a.test/cert.pem", STR("half"));
    assert_null(cert_store_write(arena, dir, "x", host, &in));
    assert_int_equal(access(at("certs/x/.new.a.test"), F_OK), -1);
    /* Between the two renames of the other way: the old one is found. */
    assert_int_equal(rename(at("certs/x/a.test"), at("certs/x/.old.a.test")), 0);
    assert_null(cert_store_read(arena, dir, "x", host, &out, &found));
    assert_true(found && str_eq(out.cert_pem, in.cert_pem));
    assert_null(cert_store_write(arena, dir, "x", host, &in));
    assert_int_equal(access(at("certs/x/.old.a.test"), F_OK), -1);
    /* A unit that lost a file says which. */
    assert_int_equal(unlink(at("certs/x/a.test/key.pem")), 0);
    const char *err = cert_store_read(arena, dir, "x", host, &out, &found);
    assert_non_null(strstr(err, "key.pem"));
    static const char *const bad[] = {"", "..", "a/b", ".hidden", "a b", "a\xff"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_non_null(cert_store_write(arena, dir, "x", str_of(bad[i]), &in));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(root, set_up, tear_down),
        cmocka_unit_test_setup_teardown(leaves, set_up, tear_down),
        cmocka_unit_test_setup_teardown(wrong_hosts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(leaf_renewal, set_up, tear_down),
        cmocka_unit_test_setup_teardown(damaged_root, set_up, tear_down),
        cmocka_unit_test_setup_teardown(unwritable, set_up, tear_down),
        cmocka_unit_test_setup_teardown(store, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
