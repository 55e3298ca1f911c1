/*
 * test_challenge_client.c - a CA's connection through a worker's front, in one process: with and
 * without PROXY protocol and passthrough beside it. What it gets is a handshake, and then the end.
 */
#include "base/base.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <setjmp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include "base/io.h"
#include "base/log.h"
#include "base/loop.h"
#include "proxy/challenges.h"
#include "proxy/front.h"
#include "proxy/passthrough.h"
#include "proxy/snapshot.h"
#include "tests/unit/certs.h"

static struct arena *arena;
static struct test_cert proof;
static struct conf_site site;
static struct conf conf;

/* ---- the client: OpenSSL's own, woken whenever bytes came ---- */

static struct {
    SSL *ssl;
    int fd;
    struct event ev;
    bool shaken; /* the handshake is done */
    bool ended;  /* close_notify, and the connection's end behind it */
    size_t read; /* bytes inside */
    bool failed;
} client;

static void read_on(void)
{
    char buf[256];
    int n;
    while ((n = SSL_read(client.ssl, buf, sizeof(buf))) > 0)
        client.read += (size_t)n;
    if (SSL_get_error(client.ssl, n) == SSL_ERROR_WANT_READ)
        return;
    client.ended = SSL_get_error(client.ssl, n) == SSL_ERROR_ZERO_RETURN;
    client.failed = !client.ended;
    loop_stop();
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what, (void)arg;
    if (!client.shaken) {
        int n = SSL_do_handshake(client.ssl);
        if (n != 1 && SSL_get_error(client.ssl, n) == SSL_ERROR_WANT_READ)
            return;
        client.shaken = n == 1;
        client.failed = n != 1;
        if (client.failed) {
            loop_stop();
            return;
        }
        /* No CA does it, and nobody may answer. */
        SSL_write(client.ssl, "GET / HTTP/1.1\r\nhost: a.test\r\n\r\n", 31);
    }
    read_on();
}

/* A connected pair over TCP; the accepted end goes into the front. */
static void connect_to_front(void)
{
    static struct front_door door;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_storage peer;
    socklen_t len = sizeof(at), peer_len = sizeof(peer);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&at, &len), 0);
    client.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(client.fd, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(fcntl(client.fd, F_SETFL, O_NONBLOCK), 0);
    int fd = accept4(listener, (struct sockaddr *)&peer, &peer_len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    assert_true(fd >= 0);
    close(listener);
    struct row_key key = {{STR("https"), STR("here")}};
    door = (struct front_door){.kind = LISTENER_HTTPS,
                               .address = STR("here"),
                               .row = rows_use(ROW_LISTENER, &key),
                               .enter = passthrough_enter};
    front_accepted(fd, (struct sockaddr *)&peer, &door);
}

/* From connect to the connection's end. */
static void visit(int version, const char *proxy_header)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    memset(&client, 0, sizeof(client));
    client.ssl = SSL_new(ctx);
    connect_to_front();
    size_t n = strlen(proxy_header);
    assert_int_equal(write(client.fd, proxy_header, n), n);
    assert_int_equal(SSL_set_fd(client.ssl, client.fd), 1);
    assert_int_equal(SSL_set_min_proto_version(client.ssl, version), 1);
    assert_int_equal(SSL_set_max_proto_version(client.ssl, version), 1);
    assert_int_equal(SSL_set_tlsext_host_name(client.ssl, "a.test"), 1);
    assert_int_equal(SSL_set_alpn_protos(client.ssl,
                                         (const uint8_t *)"\x0a"
                                                          "acme-tls/1",
                                         11),
                     0);
    SSL_set_connect_state(client.ssl);
    event_assign(&client.ev, loop_base(), client.fd, EV_READ | EV_PERSIST, on_readable, NULL);
    event_add(&client.ev, NULL);
    on_readable(client.fd, EV_READ, NULL);
    loop_run();
    event_del(&client.ev);
    SSL_CTX_free(ctx);
}

static void leave(void)
{
    SSL_free(client.ssl);
    close(client.fd);
}

/* The server's side lets go once the client has. */
static void on_look(struct deadline *d)
{
    if (front_count() == 0)
        loop_stop();
    else
        deadline_set(d, 1, on_look);
}

static void wait_empty(void)
{
    struct deadline d = {0};
    deadline_set(&d, 1, on_look);
    loop_run();
}

/* ---- tests ---- */

static void proves(const char *proxy_header)
{
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        visit(version, proxy_header);
        assert_true(client.shaken);
        assert_true(client.ended);
        assert_int_equal(client.read, 0);
        X509 *x = SSL_get0_peer_certificate(client.ssl);
        assert_int_equal(X509_cmp(x, proof.x), 0);
        leave();
        wait_empty();
    }
}

static void test_shown(void **state)
{
    (void)state;
    char mem[MSG_TAIL_MAX];
    struct out tail = out_on(mem, sizeof(mem));
    struct str pem = arena_fmt(arena, STR_FMT STR_FMT, STR_ARG(proof.pem), STR_ARG(proof.key_pem));
    challenge_text_write(&(struct challenge_text){STR("a.test"), STR("tok"), pem}, &tail);
    struct msg_challenge m = {.id = 1, .kind = MSG_CHALLENGE_TLS_ALPN, .on = 1};
    assert_null(challenges_take(&m, out_done(&tail)));
    proves("");
    conf.passes_tls = true;
    proves("");
    static struct net_range loopback;
    assert_true(net_range_parse(STR("127.0.0.0/8"), &loopback));
    conf.proxy_protocol = (struct net_ranges){&loopback, 1};
    proves("PROXY TCP4 192.0.2.7 192.0.2.1 5000 443\r\n");
    conf.passes_tls = false;
    proves("PROXY TCP4 192.0.2.7 192.0.2.1 5000 443\r\n");
    conf.proxy_protocol = (struct net_ranges){0};
    challenges_fini();
    visit(TLS1_3_VERSION, "");
    assert_true(client.failed);
    leave();
    wait_empty();
}

static int set_up(void **state)
{
    (void)state;
    const char *err = tls_setup(TLS1_2_VERSION);
    arena = arena_new(1 << 16);
    proof = test_cert_make(arena, (struct test_cert_how){.san = "DNS:a.test", .cn = "proof"});
    site = (struct conf_site){.host = STR("a.test"), .tls.min_version = 0x0303};
    conf = (struct conf){.sites = &site, .n_sites = 1, .tls.min_version = 0x0303};
    loop_init();
    io_setup();
    struct snapshot *s = err ? NULL : snapshot_new(&conf, NULL, &err);
    if (!s)
        return 1;
    snapshot_set_current(s);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    test_cert_free(&proof);
    arena_free(&arena);
    loop_fini();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_shown)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
