/*
 * test_tls.c - handshakes with OpenSSL's own client over memory: names, certificates, versions,
 * ciphers, ALPN, tickets, and what a connection may answer for.
 */
#include "base/base.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include "proxy/tls_parts.h"
#include "tests/unit/certs.h"
#include "tests/unit/tls_pair.h"

static struct arena *arena;

/* ---- configurations by hand ---- */

enum { CERT_A, CERT_WILD, CERT_B, CERT_GLOBAL_A, CERT_RSA, CERT_P384, CERT_ED, CERTS };
static struct test_cert certs[CERTS];

static struct conf_cert conf_cert(int which)
{
    return (struct conf_cert){.cert_path = STR("cert.pem"),
                              .key_path = STR("key.pem"),
                              .cert_pem = certs[which].pem,
                              .key_pem = certs[which].key_pem};
}

/*
 * a.test: has CERT_A at the site; b.test, c.w.test: from the global list; issued.test: by
 * tls_issued; new.test: TLS 1.3 only.
 */
static struct tls_names *names_make(bool star, bool unknown_local)
{
    static struct conf_cert own[1], star_own[1], global[6];
    static struct str aliases[] = {{"x.w.test", 8}, {"*.p.test", 8}};
    own[0] = conf_cert(CERT_A);
    star_own[0] = conf_cert(CERT_B);
    static const int list[] = {CERT_GLOBAL_A, CERT_WILD, CERT_B, CERT_RSA, CERT_P384, CERT_ED};
    for (size_t i = 0; i < ARRAY_LEN(list); i++)
        global[i] = conf_cert(list[i]);
    struct conf_tls base = {.min_version = 0x0303, .certs = global, .n_certs = ARRAY_LEN(list)};
    base.unknown_sni_local = unknown_local;
    struct conf_tls site = base;
    site.certs = own;
    site.n_certs = 1;
    struct conf_tls newer = base;
    newer.min_version = 0x0304;
    struct conf_tls star_tls = base;
    star_tls.certs = star_own;
    star_tls.n_certs = 1;
    struct conf_site sites[] = {
        {.host = STR("a.test"), .tls = site},
        {.host = STR("b.test"), .tls = base, .aliases = aliases, .n_aliases = 2},
        {.host = STR("issued.test"), .tls = base},
        {.host = STR("new.test"), .tls = newer},
        {.host = STR("127.0.0.1"), .tls = base},
        {.host = STR("rsa.test"), .tls = base},
        {.host = STR("p384.test"), .tls = base},
        {.host = STR("ed.test"), .tls = base},
        {.host = STR("a-very-long-name-for-a-host-of-more-than-thirty-two-bytes.w.test"),
         .tls = base},
        {.host = STR("*"), .tls = star_tls},
    };
    struct conf c = {.tls = base, .sites = sites, .n_sites = ARRAY_LEN(sites) - (star ? 0 : 1)};
    const char *err = NULL;
    struct tls_names *n = tls_names_new(&c, &err);
    if (!n)
        fail_msg("%s", err);
    return n;
}

static struct tls_cert *issue(const char *host, const char *san)
{
    struct test_cert c = test_cert_make(arena, (struct test_cert_how){.san = san, .cn = host});
    const char *err;
    struct tls_cert *t = tls_cert_parse(c.pem, c.key_pem, &err);
    assert_non_null(t);
    tls_issued(str_of(host), t);
    test_cert_free(&c);
    return t;
}

/* ---- names and certificates ---- */

static void presented(const struct pair *p, const struct test_cert *want)
{
    X509 *x = SSL_get0_peer_certificate(p->client);
    assert_non_null(x);
    assert_int_equal(X509_cmp(x, want->x), 0);
    uint8_t digest[32];
    assert_int_equal(X509_digest(x, EVP_sha256(), digest, NULL), 1);
    assert_memory_equal(digest, tls_cert_digest(p->conn.cert), 32);
}

static void chooses_by_name(void **state UNUSED)
{
    struct tls_names *n = names_make(false, false);
    static const struct {
        const char *sni;
        int cert; /* -1: refused */
    } cases[] = {
        {"a.test", CERT_A}, /* the site's list goes before the global one */
        {"A.TEST", CERT_A},
        {"a.test.", CERT_A},
        {"b.test", CERT_B},
        {"x.w.test", CERT_WILD},
        {"y.w.test", -1}, /* covered, but no site has it */
        {"rsa.test", CERT_RSA},
        {"p384.test", CERT_P384},
        {"ed.test", CERT_ED},
        {"unknown.test", -1},
        {"127.0.0.1", -1}, /* an address is no name: as if none had been sent */
        {NULL, -1},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
            struct pair p;
            pair_init(&p, n, cases[i].sni);
            pair_version(&p, version);
            bool done = pair_run(&p);
            if (done != (cases[i].cert >= 0))
                fail_msg("%s: %s", cases[i].sni, done ? "accepted" : "refused");
            if (done)
                presented(&p, &certs[cases[i].cert]);
            else
                assert_int_equal(p.alert, SSL_AD_UNRECOGNIZED_NAME);
            assert_int_equal(SSL_version(p.server) == version || !done, 1);
            pair_fini(&p);
        }
    tls_names_free(&n);
}

static void star_takes_the_rest(void **state UNUSED)
{
    struct tls_names *n = names_make(true, false);
    static const struct {
        const char *sni;
        int cert;
    } cases[] = {
        {"a.test", CERT_A},      {"unknown.test", CERT_B}, {NULL, CERT_B},
        {"y.w.test", CERT_WILD}, /* the global list covers it better than the first one does */
        {"10.0.0.1", CERT_B},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct pair p;
        pair_init(&p, n, cases[i].sni);
        assert_true(pair_run(&p));
        presented(&p, &certs[cases[i].cert]);
        /* A request of HTTP/1.0 without Host means this site. */
        assert_int_equal(tls_conn_serves(&p.conn, STR_NULL), cases[i].cert == CERT_B);
        pair_fini(&p);
    }
    tls_names_free(&n);
}

static void bad_names(void **state UNUSED)
{
    struct tls_names *n = names_make(true, false);
    static const char *const bad[] = {"a/b",    "*.w.test", "*",         "a..test",
                                      "a test", ".",        "a\x80.test"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct pair p;
        pair_init(&p, n, bad[i]);
        assert_false(pair_run(&p));
        assert_int_equal(p.alert, SSL_AD_UNRECOGNIZED_NAME);
        assert_null(p.conn.cert);
        pair_fini(&p);
    }
    tls_names_free(&n);
}

static void issued_certificates(void **state UNUSED)
{
    struct tls_names *n = names_make(false, false);
    struct pair p, q;
    pair_init(&p, n, "issued.test");
    assert_false(pair_run(&p)); /* none yet: known, but nothing to show */
    assert_int_equal(p.alert, SSL_AD_INTERNAL_ERROR);
    pair_fini(&p);

    struct tls_cert *first = issue("issued.test", "DNS:issued.test");
    pair_init(&p, n, "issued.test");
    assert_true(pair_run(&p));
    assert_ptr_equal(p.conn.cert, first);
    /* Renewed: new connections get the new one; the old one goes on answering for its host. */
    struct tls_cert *second = issue("ISSUED.test", "DNS:issued.test");
    pair_init(&q, n, "issued.test");
    assert_true(pair_run(&q));
    assert_ptr_equal(q.conn.cert, second);
    assert_true(tls_conn_serves(&p.conn, STR("issued.test")));
    assert_true(tls_conn_serves(&q.conn, STR("issued.test")));
    p.conn.sni[0] = '\0'; /* even when no name was sent */
    assert_true(tls_conn_serves(&p.conn, STR("issued.test")));
    tls_issued(STR("issued.test"), second); /* sent again: nothing happens */
    assert_int_equal(second->refs, 3);
    pair_fini(&p);
    pair_fini(&q);
    assert_int_equal(first->refs, 1);
    tls_cert_unref(&first);
    tls_cert_unref(&second);
    tls_names_free(&n);
}

static void unknown_by_local(void **state UNUSED)
{
    struct tls_names *n = names_make(false, true);
    struct tls_cert *local = issue("localhost", "DNS:localhost");
    static const char *const unknown[] = {"unknown.test", "localhost", NULL};
    for (size_t i = 0; i < ARRAY_LEN(unknown); i++) {
        struct pair p;
        pair_init(&p, n, unknown[i]);
        assert_true(pair_run(&p));
        assert_ptr_equal(p.conn.cert, local);
        assert_true(tls_conn_serves(&p.conn, STR("unknown.test")));
        assert_true(tls_conn_serves(&p.conn, STR("other.test"))); /* the router says 404 */
        assert_false(tls_conn_serves(&p.conn, STR("a.test")));
        pair_fini(&p);
    }
    struct tls_cert *star = issue("*", "DNS:localhost");
    struct pair p;
    pair_init(&p, n, "unknown.test");
    assert_true(pair_run(&p));
    assert_ptr_equal(p.conn.cert, star);
    pair_fini(&p);
    tls_cert_unref(&star);
    tls_cert_unref(&local);
    tls_names_free(&n);
}

/* Without SNI, the address that the client connected to names the site. */
static void address_without_name(void **state UNUSED)
{
    struct tls_names *n = names_make(false, false);
    struct tls_cert *t = issue("127.0.0.1", "IP:127.0.0.1");
    struct sockaddr_in6 any = {.sin6_family = AF_INET6};
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0) { /* some sandboxes have no IPv6 */
        assert_int_equal(inet_pton(AF_INET6, "::ffff:127.0.0.1", &any.sin6_addr), 1);
        int off = 0;
        assert_int_equal(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off), 0);
        assert_int_equal(bind(fd, (struct sockaddr *)&any, sizeof any), 0);
    } else {
        struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof in), 0);
    }
    struct pair p;
    pair_init(&p, n, NULL);
    p.conn.fd = fd;
    assert_true(pair_run(&p));
    assert_ptr_equal(p.conn.cert, t);
    assert_true(tls_conn_serves(&p.conn, STR("127.0.0.1")));
    assert_false(tls_conn_serves(&p.conn, STR("127.0.0.2")));
    assert_false(tls_conn_serves(&p.conn, STR("a.test")));
    pair_fini(&p);
    close(fd);
    tls_cert_unref(&t);
    tls_names_free(&n);
}

static void serves(void **state UNUSED)
{
    struct tls_names *n = names_make(false, false);
    struct pair p;
    pair_init(&p, n, "x.w.test");
    assert_true(pair_run(&p));
    assert_true(tls_conn_serves(&p.conn, STR("x.w.test")));
    assert_true(tls_conn_serves(&p.conn, STR("X.W.test.")));
    /* The same certificate is chosen for this one: a client may put both on one connection. */
    struct str same = STR("a-very-long-name-for-a-host-of-more-than-thirty-two-bytes.w.test");
    assert_true(tls_conn_serves(&p.conn, same));
    assert_false(tls_conn_serves(&p.conn, STR("b.test")));
    assert_false(tls_conn_serves(&p.conn, STR("y.w.test")));
    assert_false(tls_conn_serves(&p.conn, STR("unknown.test")));
    assert_false(tls_conn_serves(&p.conn, STR("")));
    assert_false(tls_conn_serves(&p.conn, STR("a/b")));
    pair_fini(&p);
    /* A site of TLS 1.3 only is not served over a TLS 1.2 connection that was made for another one.
     */
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        pair_init(&p, n, "b.test");
        pair_version(&p, version);
        assert_true(pair_run(&p));
        assert_int_equal(tls_conn_serves(&p.conn, STR("new.test")), version == TLS1_3_VERSION);
        pair_fini(&p);
    }
    tls_names_free(&n);
}

static void reload_keeps_objects(void **state UNUSED)
{
    struct tls_names *before = names_make(false, false), *after = names_make(true, true);
    struct tls_choice a = tls_names_choose(before, STR("a.test"));
    struct tls_choice b = tls_names_choose(after, STR("a.test"));
    assert_ptr_equal(a.cert, b.cert);
    struct pair p;
    pair_init(&p, before, "a.test");
    assert_true(pair_run(&p));
    tls_names_free(&before);
    tls_names_free(&after);
    presented(&p, &certs[CERT_A]); /* its certificate outlives both */
    p.conn.names = NULL;
    pair_fini(&p);
}

static void wrong_lists(void **state UNUSED)
{
    struct conf_cert cc = conf_cert(CERT_A);
    cc.cert_path = STR("/etc/x/cert.pem");
    cc.key_pem = certs[CERT_B].key_pem;
    struct conf c = {.tls = {.min_version = 0x0303, .certs = &cc, .n_certs = 1}};
    const char *err = NULL;
    assert_null(tls_names_new(&c, &err));
    assert_non_null(strstr(err, "/etc/x/cert.pem"));
    assert_non_null(strstr(err, "does not belong"));
    /* Expired: a warning only, since serving it beats serving nothing. */
    struct test_cert old = test_cert_make(
        arena, (struct test_cert_how){.san = "DNS:a.test", .from = -7200, .to = -60});
    cc.cert_pem = old.pem;
    cc.key_pem = old.key_pem;
    struct tls_names *n = tls_names_new(&c, &err);
    assert_non_null(n);
    tls_names_free(&n);
    test_cert_free(&old);
}

/* ---- versions, ciphers, ALPN ---- */

static void versions(void **state UNUSED)
{
    struct tls_names *n = names_make(false, false);
    struct pair p;
    pair_init(&p, n, "b.test");
    pair_version(&p, TLS1_1_VERSION);
    SSL_set_cipher_list(p.client, "ALL:@SECLEVEL=0");
    assert_false(pair_run(&p));
    assert_int_equal(p.alert, SSL_AD_PROTOCOL_VERSION);
    pair_fini(&p);

    pair_init(&p, n, "new.test"); /* the site wants 1.3 */
    pair_version(&p, TLS1_2_VERSION);
    assert_false(pair_run(&p));
    assert_int_equal(p.alert, SSL_AD_PROTOCOL_VERSION);
    pair_fini(&p);
    pair_init(&p, n, "new.test");
    assert_true(pair_run(&p));
    assert_string_equal(tls_version_text(p.server), "TLSv1.3");
    assert_int_equal(p.conn.version, TLS1_3_VERSION);
    pair_fini(&p);

    tls_set_min_version(TLS1_3_VERSION);
    pair_init(&p, n, "b.test");
    pair_version(&p, TLS1_2_VERSION);
    assert_false(pair_run(&p));
    pair_fini(&p);
    tls_set_min_version(TLS1_2_VERSION);
    tls_names_free(&n);
}

static void ciphers(void **state UNUSED)
{
    struct tls_names *n = names_make(false, false);
    static const struct {
        const char *list; /* of a TLS 1.2 client */
        const char *sni;
        const char *chosen; /* NULL: refused */
    } cases[] = {
        {"ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256", "b.test",
         "ECDHE-ECDSA-AES128-GCM-SHA256"}, /* the server's order */
        {"ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-GCM-SHA256", "b.test",
         "ECDHE-ECDSA-CHACHA20-POLY1305"}, /* a client without AES in hardware */
        {"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305", "b.test",
         "ECDHE-ECDSA-AES128-GCM-SHA256"},
        {"ECDHE-RSA-AES128-GCM-SHA256", "rsa.test", "ECDHE-RSA-AES128-GCM-SHA256"},
        {"ECDHE-RSA-AES128-GCM-SHA256", "b.test", NULL}, /* that host has an EC key */
        {"ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES128-SHA", "b.test", NULL}, /* CBC */
        {"AES128-GCM-SHA256", "rsa.test", NULL}, /* no forward secrecy */
        {"DHE-RSA-AES128-GCM-SHA256", "rsa.test", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct pair p;
        pair_init(&p, n, cases[i].sni);
        pair_version(&p, TLS1_2_VERSION);
        assert_int_equal(SSL_set_cipher_list(p.client, cases[i].list), 1);
        assert_int_equal(pair_run(&p), cases[i].chosen != NULL);
        if (cases[i].chosen)
            assert_string_equal(SSL_get_cipher_name(p.server), cases[i].chosen);
        else
            assert_int_equal(p.alert, SSL_AD_HANDSHAKE_FAILURE);
        pair_fini(&p);
    }
    tls_names_free(&n);
}

static void alpn(void **state UNUSED)
{
    struct tls_names *n = names_make(false, false);
    static const struct {
        const char *offer, *chosen; /* NULL: the alert */
    } cases[] = {
        {"\x08http/1.1", "http/1.1"},
        {"\x02h2\x08http/1.1", "h2"},
        {"\x08http/1.1\x02h2", "h2"}, /* ours is the order */
        {"\x08http/1.0\x08http/1.1", "http/1.1"},
        {"\x02h2", "h2"},
        {"\x08http/1.0", NULL},
        {"\x0a"
         "acme-tls/1",
         NULL},
        {"\x08HTTP/1.1", NULL},
        {"\x07http/1.\x03h2c", NULL},
        {"\x02H2", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
            struct pair p;
            pair_init(&p, n, "b.test");
            pair_version(&p, version);
            pair_alpn(&p, cases[i].offer);
            const char *chosen = cases[i].chosen;
            assert_int_equal(pair_run(&p), chosen != NULL);
            const unsigned char *at;
            unsigned len;
            SSL_get0_alpn_selected(p.client, &at, &len);
            if (chosen)
                assert_true(str_eq((struct str){(const char *)at, len}, str_of(chosen)));
            else
                assert_int_equal(p.alert, SSL_AD_NO_APPLICATION_PROTOCOL);
            assert_int_equal(p.conn.alpn_challenge, strstr(cases[i].offer, "acme") != NULL);
            assert_int_equal(p.conn.h2, chosen && strcmp(chosen, "h2") == 0);
            pair_fini(&p);
        }
    tls_names_free(&n);
}

/* The client's first key share is for a curve that we do not have: the hello comes twice. */
static void hello_retry(void **state UNUSED)
{
    struct tls_names *n = names_make(false, false);
    struct pair p;
    pair_init(&p, n, "b.test");
    assert_int_equal(SSL_set1_groups_list(p.client, "P-384:P-256"), 1);
    assert_true(pair_run(&p));
    presented(&p, &certs[CERT_B]);
    assert_int_equal(SSL_get_negotiated_group(p.client), NID_X9_62_prime256v1);
    pair_fini(&p);
    pair_init(&p, n, "b.test");
    assert_int_equal(SSL_set1_groups_list(p.client, "P-384"), 1);
    assert_false(pair_run(&p));
    pair_fini(&p);
    tls_names_free(&n);
}

static void no_renegotiation(void **state UNUSED)
{
    struct tls_names *n = names_make(false, false);
    struct pair p;
    pair_init(&p, n, "b.test");
    pair_version(&p, TLS1_2_VERSION);
    assert_true(pair_run(&p));
    assert_int_equal(SSL_renegotiate(p.client), 1);
    char c;
    for (int i = 0; i < 10; i++) {
        SSL_do_handshake(p.client);
        SSL_read(p.server, &c, 1);
    }
    assert_int_not_equal(SSL_is_init_finished(p.client), 1); /* the server said no_renegotiation */
    assert_int_equal(SSL_num_renegotiations(p.server), 0);
    ERR_clear_error();
    pair_fini(&p);
    tls_names_free(&n);
}

/* Bytes that are no hello end the handshake and nothing else. */
static void garbage(void **state UNUSED)
{
    struct tls_names *n = names_make(false, false);
    static const struct str wire[] = {
        {"GET / HTTP/1.1\r\n\r\n", 18},
        {"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", 10},
        {"\x16\x03\x01\xff\xff", 5},
        {"\x16\x03\x01\x00\x00", 5},
    };
    for (size_t i = 0; i < ARRAY_LEN(wire); i++) {
        struct tls_conn c = {.names = n};
        SSL *s = tls_server_new(&c);
        BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
        SSL_set_bio(s, in, out);
        BIO_write(in, wire[i].p, (int)wire[i].n);
        assert_true(SSL_do_handshake(s) <= 0);
        ERR_clear_error();
        SSL_free(s);
        tls_conn_fini(&c);
    }
    tls_names_free(&n);
}

/* ---- tickets ---- */

/* OpenSSL's client tells of a TLS 1.2 session once; a ticket that was renewed lies in its session.
 */
static void look_for_ticket(struct pair *p)
{
    const unsigned char *before, *after;
    size_t before_n, after_n;
    SSL_SESSION_get0_ticket(last_session, &before, &before_n);
    SSL_SESSION_get0_ticket(SSL_get_session(p->client), &after, &after_n);
    if (before_n != after_n || memcmp(before, after, after_n) != 0)
        on_session(p->client, SSL_get1_session(p->client));
}

/* A connection with the last session; was it resumed? *again: a new ticket came. */
static bool resumes(const struct tls_names *n, const char *sni, int version, bool *again)
{
    struct pair p;
    pair_init(&p, n, sni);
    pair_version(&p, version);
    if (last_session)
        assert_int_equal(SSL_set_session(p.client, last_session), 1);
    assert_true(pair_run(&p));
    bool resumed = p.conn.resumed;
    if (resumed && version == TLS1_2_VERSION)
        look_for_ticket(&p);
    assert_int_equal(resumed, SSL_session_reused(p.client) == 1);
    assert_non_null(p.conn.cert); /* chosen by this connection's name, resumed or not */
    assert_true(tls_conn_serves(&p.conn, str_of(sni)));
    if (again)
        *again = sessions > 0;
    assert_true(sessions <= 1); /* one ticket a handshake */
    pair_fini(&p);
    return resumed;
}

static void forget(void)
{
    SSL_SESSION_free(last_session);
    last_session = NULL;
}

static void tickets_resume(void **state UNUSED)
{
    struct tls_names *n = names_make(false, false);
    bool again;
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        forget();
        assert_false(resumes(n, "b.test", version, &again));
        assert_true(again);
        assert_true(resumes(n, "b.test", version, &again));
        /* TLS 1.3 clients use a ticket once: each resumption brings the next one. */
        assert_int_equal(again, version == TLS1_3_VERSION);
        assert_true(resumes(n, "b.test", version, &again));
        /* The same certificate, another name: no session crosses over. */
        assert_false(resumes(n, "new.test", TLS1_3_VERSION, NULL));
    }
    struct str longest = STR("a-very-long-name-for-a-host-of-more-than-thirty-two-bytes.w.test");
    forget();
    assert_false(resumes(n, longest.p, TLS1_3_VERSION, NULL));
    assert_true(resumes(n, longest.p, TLS1_3_VERSION, NULL));
    assert_false(resumes(n, "x.w.test", TLS1_3_VERSION, NULL));
    assert_true(resumes(n, "x.w.test", TLS1_3_VERSION, NULL));
    assert_false(resumes(n, "x.w.test", TLS1_2_VERSION, NULL));
    forget();
    assert_false(resumes(n, "b.test", TLS1_2_VERSION, NULL));
    assert_false(resumes(n, "x.w.test", TLS1_2_VERSION, NULL));
    forget();
    tls_names_free(&n);
}

static void tickets_rotate(void **state UNUSED)
{
    struct tls_names *n = names_make(false, false);
    struct msg_ticket_keys k = {.epoch = 1};
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        bool again;
        tls_ticket_key_make(&k.previous);
        tls_ticket_key_make(&k.current);
        tls_ticket_key_make(&k.next);
        tls_set_ticket_keys(&k);
        forget();
        assert_false(resumes(n, "b.test", version, NULL));
        struct msg_ticket_keys rotated = {.epoch = 2, .previous = k.current, .current = k.next};
        tls_ticket_key_make(&rotated.next);
        tls_set_ticket_keys(&rotated);
        /* By the previous key: fine, and a new ticket comes along. */
        assert_true(resumes(n, "b.test", version, &again));
        assert_true(again);
        /* That one is of `next` for a worker that has not heard of the rotation yet. */
        tls_set_ticket_keys(&k);
        assert_true(resumes(n, "b.test", version, &again));
        assert_int_equal(again, version == TLS1_3_VERSION);
        /* Keys that nobody has any more: a full handshake, no error. */
        tls_ticket_key_make(&rotated.previous);
        tls_ticket_key_make(&rotated.current);
        tls_set_ticket_keys(&rotated);
        assert_false(resumes(n, "b.test", version, &again));
        assert_true(again);
        assert_true(resumes(n, "b.test", version, NULL));
    }
    forget();
    tls_names_free(&n);
}

/* A ticket whose bytes were changed is not ours. */
static void tickets_forged(void **state UNUSED)
{
    struct tls_names *n = names_make(false, false);
    forget();
    assert_false(resumes(n, "b.test", TLS1_2_VERSION, NULL));
    unsigned char *der = NULL;
    int len = i2d_SSL_SESSION(last_session, &der);
    const unsigned char *ticket;
    size_t ticket_n;
    SSL_SESSION_get0_ticket(last_session, &ticket, &ticket_n);
    unsigned char *at = memmem(der, (size_t)len, ticket, ticket_n);
    assert_non_null(at);
    at[ticket_n - 1] ^= 1;
    const unsigned char *p = der;
    SSL_SESSION *forged = d2i_SSL_SESSION(NULL, &p, len);
    assert_non_null(forged);
    forget();
    last_session = forged;
    OPENSSL_free(der);
    assert_false(resumes(n, "b.test", TLS1_2_VERSION, NULL));
    forget();
    tls_names_free(&n);
}

static int set_up(void **state UNUSED)
{
    static const struct test_cert_how hows[CERTS] = {
        [CERT_A] = {.san = "DNS:a.test", .cn = "own"},
        [CERT_WILD] = {.san = "DNS:*.w.test", .cn = "wild"},
        [CERT_B] = {.san = "DNS:b.test,DNS:new.test", .cn = "b"},
        [CERT_GLOBAL_A] = {.san = "DNS:a.test", .cn = "global"},
        [CERT_RSA] = {.san = "DNS:rsa.test", .key = "RSA:2048"},
        [CERT_P384] = {.san = "DNS:p384.test", .key = "P-384"},
        [CERT_ED] = {.san = "DNS:ed.test", .key = "ED25519"},
    };
    arena = arena_new(1 << 16);
    for (int i = 0; i < CERTS; i++)
        certs[i] = test_cert_make(arena, hows[i]);
    return tls_setup(TLS1_2_VERSION) ? 1 : 0;
}

static int tear_down(void **state UNUSED)
{
    for (int i = 0; i < CERTS; i++)
        test_cert_free(&certs[i]);
    arena_free(&arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chooses_by_name),  cmocka_unit_test(star_takes_the_rest),
        cmocka_unit_test(bad_names),        cmocka_unit_test(issued_certificates),
        cmocka_unit_test(unknown_by_local), cmocka_unit_test(address_without_name),
        cmocka_unit_test(serves),           cmocka_unit_test(reload_keeps_objects),
        cmocka_unit_test(wrong_lists),      cmocka_unit_test(versions),
        cmocka_unit_test(ciphers),          cmocka_unit_test(alpn),
        cmocka_unit_test(hello_retry),      cmocka_unit_test(no_renegotiation),
        cmocka_unit_test(garbage),          cmocka_unit_test(tickets_resume),
        cmocka_unit_test(tickets_rotate),   cmocka_unit_test(tickets_forged),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
