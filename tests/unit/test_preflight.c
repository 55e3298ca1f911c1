/*
 * test_preflight.c - what is told of a host: ours, somebody else's, silent, unreachable, without a
 * name. Addresses of the loopback stand for all: 127.0.0.1 is this machine's own, 127.0.0.2 is on
 * no interface. "Names" are addresses or localhost, so that no name server is asked.
 */
#include "base/base.h"

#include <setjmp.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <netdb.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "acme/preflight.h"
#include "base/loop.h"
#include "base/net.h"
#include "base/resolve.h"
#include "base/sandbox.h"

#define PATH  "/.well-known/acme-challenge/probe"
#define TOKEN "0123456789abcdef0123456789abcdef"

/* ---- servers ---- */

#define REQUEST_MAX 1024

/* Listens, and answers each connection with `answer`: NULL: never; "": by closing. */
struct server {
    int fd;
    uint16_t port;
    const char *answer;
    struct event accept;
    struct event reads[64];
    int fds[64];
    unsigned n;
    char request[REQUEST_MAX]; /* the last one */
};

/* -1: the port is taken, or this machine has no such address. */
static int try_bind(const char *ip, uint16_t port)
{
    struct net_ip addr;
    struct sockaddr_storage at;
    assert_true(net_ip_parse(str_of(ip), &addr));
    net_to_sockaddr(addr, port, &at);
    int fd = socket(at.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(fd, (struct sockaddr *)&at, sizeof(at)) == 0)
        return fd;
    close(fd);
    return -1;
}

static uint16_t port_of(int fd)
{
    struct sockaddr_in6 at;
    socklen_t n = sizeof(at);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &n), 0);
    return ntohs(at.sin6_port);
}

static void on_request(evutil_socket_t fd, short what, void *arg)
{
    struct server *s = arg;
    (void)what;
    ssize_t n = recv(fd, s->request, sizeof(s->request) - 1, 0);
    if (n <= 0)
        return;
    s->request[n] = '\0';
    if (!s->answer)
        return;
    assert_int_equal(send(fd, s->answer, strlen(s->answer), MSG_NOSIGNAL), strlen(s->answer));
    shutdown(fd, SHUT_WR);
}

static void on_accept(evutil_socket_t fd, short what, void *arg)
{
    struct server *s = arg;
    (void)what;
    int c = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (c < 0)
        return;
    assert_true(s->n < ARRAY_LEN(s->fds));
    s->fds[s->n] = c;
    event_assign(&s->reads[s->n], loop_base(), c, EV_READ, on_request, s);
    event_add(&s->reads[s->n++], NULL);
}

static void server_on(struct server *s, int fd, const char *answer)
{
    *s = (struct server){.fd = fd, .answer = answer};
    assert_int_equal(listen(fd, 64), 0);
    s->port = port_of(fd);
    event_assign(&s->accept, loop_base(), fd, EV_READ | EV_PERSIST, on_accept, s);
    event_add(&s->accept, NULL);
}

static void server_start(struct server *s, const char *ip, const char *answer)
{
    int fd = try_bind(ip, 0);
    assert_true(fd >= 0);
    server_on(s, fd, answer);
}

static void server_stop(struct server *s)
{
    event_del(&s->accept);
    for (unsigned i = 0; i < s->n; i++) {
        event_del(&s->reads[i]);
        close(s->fds[i]);
    }
    close(s->fd);
}

/* A port at all addresses of the loopback where nobody listens, and nobody else can. */
static int dead_port(uint16_t *port)
{
    int fd = try_bind("0.0.0.0", 0);
    assert_true(fd >= 0);
    *port = port_of(fd);
    return fd;
}

/* ---- asking ---- */

static struct {
    unsigned done;
    struct preflight_verdict v;
    struct preflight *close_me;
} t;

static void on_verdict(void *ctx, const struct preflight_verdict *v)
{
    (void)ctx;
    t.done++;
    t.v = *v;
    preflight_close(&t.close_me);
    loop_stop();
}

static enum preflight_result ask(const char *host, uint16_t http, uint16_t https, bool probe)
{
    const struct preflight_spec spec = {
        .host = str_of(host),
        .ports = {http, https},
        .probe_path = probe ? STR(PATH) : STR_NULL,
        .probe_body = probe ? STR(TOKEN) : STR_NULL,
    };
    const unsigned before = t.done;
    t.close_me = preflight_start(&spec, on_verdict, NULL);
    assert_int_equal(t.done, before);
    loop_run();
    assert_int_equal(t.done, before + 1);
    assert_null(t.close_me);
    print_message("  %s\n", t.v.text);
    assert_int_equal(t.v.result == PREFLIGHT_FINE, t.v.text[0] == '\0');
    return t.v.result;
}

static int set_up(void **state)
{
    (void)state;
    memset(&t, 0, sizeof(t));
    loop_init();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    resolve_fini();
    loop_fini();
    return 0;
}

/* ---- cases ---- */

#define OURS "HTTP/1.1 200 OK\r\nContent-Length: 33\r\n\r\n" TOKEN "\n"

static void told(const char *fmt, ...) PRINTF(1, 2);
static void told(const char *fmt, ...)
{
    char want[1024];
    va_list args;
    va_start(args, fmt);
    vsnprintf(want, sizeof(want), fmt, args);
    va_end(args);
    assert_string_equal(t.v.text, want);
}

/* The address is of this machine, or proves to be: there is nothing to tell. */
static void fine(void **state)
{
    struct server http, https;
    (void)state;
    server_start(&http, "0.0.0.0", OURS);
    server_start(&https, "0.0.0.0", NULL);
    assert_int_equal(ask("127.0.0.1", http.port, https.port, false), PREFLIGHT_FINE);
    assert_int_equal(ask("127.0.0.1", http.port, https.port, true), PREFLIGHT_FINE);
    assert_int_equal(ask("127.0.0.2", http.port, https.port, true), PREFLIGHT_FINE);
    char want[REQUEST_MAX];
    snprintf(want, sizeof(want),
             "GET " PATH " HTTP/1.1\r\nHost: 127.0.0.2:%u\r\nUser-Agent: headgate\r\n"
             "Accept: */*\r\nConnection: close\r\n\r\n",
             http.port);
    assert_string_equal(http.request, want);
    assert_int_equal(ask("127.0.0.1", 0, https.port, false), PREFLIGHT_FINE);
    assert_int_equal(ask("127.0.0.1", 0, 0, false), PREFLIGHT_FINE);
    server_stop(&http);
    server_stop(&https);
}

/* Where something stands between, the answer comes in other clothes. */
static void ours_in_other_clothes(void **state)
{
    static const char *const answers[] = {
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n20\r\n" TOKEN "\r\n0\r\n\r\n",
        "HTTP/1.0 200 OK\r\n\r\n" TOKEN,
        "HTTP/1.1 203 Changed\r\nVia: 1.1 x\r\n\r\n<pre>" TOKEN "</pre>",
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
        struct server s;
        server_start(&s, "127.0.0.2", answers[i]);
        assert_int_equal(ask("127.0.0.2", s.port, 0, true), PREFLIGHT_FINE);
        server_stop(&s);
    }
}

/* Somebody else's: for sure only when the answer is a web server's own. */
static void foreign(void **state)
{
    static const struct {
        const char *answer;
        enum preflight_result result;
        const char *text;
    } rows[] = {
        {"HTTP/1.1 404 Not Found\r\n\r\nno " PATH, PREFLIGHT_BAD,
         "127.0.0.2 resolves to 127.0.0.2, which is not this host: another server answers on port "
         "%u"},
        {"HTTP/1.1 200 OK\r\n\r\nWelcome", PREFLIGHT_BAD,
         "127.0.0.2 resolves to 127.0.0.2, which is not this host: another server answers on port "
         "%u"},
        {"HTTP/1.1 200 OK\r\nEcho: " TOKEN "\r\n\r\n", PREFLIGHT_BAD,
         "127.0.0.2 resolves to 127.0.0.2, which is not this host: another server answers on port "
         "%u"},
        {"SSH-2.0-OpenSSH_9.2\r\n", PREFLIGHT_BAD,
         "127.0.0.2 resolves to 127.0.0.2, which is not this host: another server answers on port "
         "%u"},
        {"HTTP/1.1 502 Bad Gateway\r\n\r\n", PREFLIGHT_UNSURE,
         "127.0.0.2 resolves to 127.0.0.2, which answers on port %u with status 502, not as this "
         "host does"},
        {"HTTP/1.1 301 Moved Permanently\r\nLocation: https://x/\r\n\r\n", PREFLIGHT_UNSURE,
         "127.0.0.2 resolves to 127.0.0.2, which answers on port %u with status 301, not as this "
         "host does"},
        {"HTTP/1.1 403 Forbidden\r\n\r\n", PREFLIGHT_UNSURE,
         "127.0.0.2 resolves to 127.0.0.2, which answers on port %u with status 403, not as this "
         "host does"},
        {"", PREFLIGHT_UNSURE,
         "127.0.0.2 resolves to 127.0.0.2, which does not answer on port %u (it closes the "
         "connection)"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct server s;
        char want[512];
        server_start(&s, "127.0.0.2", rows[i].answer);
        assert_int_equal(ask("127.0.0.2", s.port, 0, true), rows[i].result);
        snprintf(want, sizeof(want), rows[i].text, s.port);
        assert_string_equal(t.v.text, want);
        server_stop(&s);
    }
}

/* A flood ends the look: what came first is judged. */
static void endless_answer(void **state)
{
    struct server s;
    char *flood = malloc(100001);
    (void)state;
    memset(flood, 'x', 100000);
    flood[100000] = '\0';
    server_start(&s, "127.0.0.2", flood);
    assert_int_equal(ask("127.0.0.2", s.port, 0, true), PREFLIGHT_BAD);
    server_stop(&s);
    free(flood);
}

/* On an address of this machine the certificate may come all the same. */
static void foreign_on_our_address(void **state)
{
    struct server s;
    (void)state;
    server_start(&s, "127.0.0.1", "HTTP/1.1 200 OK\r\n\r\nIt works!");
    assert_int_equal(ask("127.0.0.1", s.port, 0, true), PREFLIGHT_UNSURE);
    told("127.0.0.1 resolves to 127.0.0.1, which is this host, but another server answers on port "
         "%u",
         s.port);
    server_stop(&s);
}

/* It answers, and nothing tells whose it is. */
static void no_probe(void **state)
{
    struct server s;
    (void)state;
    server_start(&s, "127.0.0.2", OURS);
    assert_int_equal(ask("127.0.0.2", s.port, s.port, false), PREFLIGHT_UNSURE);
    told("127.0.0.2 resolves to 127.0.0.2, which is no address of this machine");
    server_stop(&s);
}

static void dead_ports(void **state)
{
    struct server s;
    uint16_t dead;
    int fd = dead_port(&dead);
    (void)state;
    server_start(&s, "0.0.0.0", OURS);
    assert_int_equal(ask("127.0.0.1", dead, s.port, true), PREFLIGHT_UNSURE);
    told("127.0.0.1 resolves to 127.0.0.1, which does not answer on port %u (connection refused)",
         dead);
    assert_int_equal(ask("127.0.0.2", s.port, dead, true), PREFLIGHT_UNSURE);
    told("127.0.0.2 resolves to 127.0.0.2, which does not answer on port %u (connection refused)",
         dead);
    assert_int_equal(ask("127.0.0.2", dead, dead, false), PREFLIGHT_UNSURE);
    told("127.0.0.2 resolves to 127.0.0.2, which does not answer on ports %u and %u (connection "
         "refused)",
         dead, dead);
    server_stop(&s);
    /* Another server at one port is told with the dead other; it is somebody else's for sure. */
    server_start(&s, "127.0.0.2", "HTTP/1.1 200 OK\r\n\r\nIt works!");
    assert_int_equal(ask("127.0.0.2", s.port, dead, true), PREFLIGHT_BAD);
    told("127.0.0.2 resolves to 127.0.0.2, which is not this host: another server answers on port "
         "%u, and does not answer on port %u (connection refused)",
         s.port, dead);
    server_stop(&s);
    close(fd);
}

/* It takes the connection and says nothing: the look ends by itself. */
static void never_answers(void **state)
{
    struct server s;
    (void)state;
    server_start(&s, "127.0.0.2", NULL);
    assert_int_equal(ask("127.0.0.2", s.port, 0, true), PREFLIGHT_UNSURE);
    told("127.0.0.2 resolves to 127.0.0.2, which does not answer on port %u (timed out)", s.port);
    server_stop(&s);
}

/* One port at ::1 and 127.0.0.1, where nobody listens yet. False: a machine without IPv6. */
static bool bind_both(int *six, int *four)
{
    do {
        *six = try_bind("::1", 0);
        if (*six < 0)
            return false;
        *four = try_bind("127.0.0.1", port_of(*six));
        if (*four < 0)
            close(*six);
    } while (*four < 0);
    return true;
}

static bool localhost_has_aaaa(void)
{
    struct addrinfo *found = NULL;
    const struct addrinfo hints = {.ai_family = AF_INET6};
    const bool has = getaddrinfo("localhost", NULL, &hints, &found) == 0;
    if (has)
        freeaddrinfo(found);
    return has;
}

/* A and AAAA of one name, each told. Whether localhost has both is this machine's affair; one
 * without IPv6 says that of the AAAA. */
static void both_families(void **state)
{
    const bool has_aaaa = localhost_has_aaaa();
    struct server six, four;
    char aaaa[128] = "";
    int fd6 = -1, fd4 = -1;
    (void)state;
    if (!bind_both(&fd6, &fd4)) {
        assert_int_equal(ask("::1", 80, 0, true), PREFLIGHT_UNSURE);
        assert_true(str_starts(str_of(t.v.text),
                               STR("::1 resolves to ::1, which cannot be reached from here (")));
        return;
    }
    unsigned port = port_of(fd6);
    if (has_aaaa)
        snprintf(aaaa, sizeof(aaaa),
                 "; its AAAA ::1 does not answer on port %u (connection refused)", port);
    assert_int_equal(ask("localhost", (uint16_t)port, 0, true), PREFLIGHT_UNSURE);
    told("localhost resolves to 127.0.0.1, which does not answer on port %u (connection refused)%s",
         port, aaaa);

    server_on(&four, fd4, OURS);
    assert_int_equal(ask("::1", four.port, 0, true), PREFLIGHT_UNSURE);
    told("::1 resolves to ::1, which does not answer on port %u (connection refused)", port);
    assert_int_equal(ask("localhost", four.port, 0, true),
                     has_aaaa ? PREFLIGHT_UNSURE : PREFLIGHT_FINE);
    if (has_aaaa)
        told("localhost resolves to ::1, which does not answer on port %u (connection refused)",
             port);

    server_on(&six, fd6, OURS);
    assert_int_equal(ask("localhost", six.port, six.port, true), PREFLIGHT_FINE);
    assert_int_equal(ask("::1", six.port, 0, true), PREFLIGHT_FINE);
    server_stop(&four);
    server_stop(&six);
}

static void no_such_name(void **state)
{
    (void)state;
    assert_int_equal(ask("two words", 80, 443, true), PREFLIGHT_BAD);
    told("two words does not resolve: there is no such name");
}

static void private_addresses(void **state)
{
    (void)state;
    /* A limited broadcast is reached by no connection, whatever the machine. */
    assert_int_equal(ask("255.255.255.255", 80, 443, true), PREFLIGHT_UNSURE);
    assert_true(str_starts(str_of(t.v.text), STR("255.255.255.255 resolves to 255.255.255.255, "
                                                 "which cannot be reached from here (")));
    /* Link-local without a link. */
    assert_int_equal(ask("fe80::1", 80, 443, true), PREFLIGHT_UNSURE);
    told("fe80::1 resolves to fe80::1, which is a private address that no public CA reaches");
}

/* More than are at work at once, each told once; those that are closed never. */
static void many(void **state)
{
    struct server s;
    struct preflight *p[60];
    const struct preflight_spec spec = {.host = STR("127.0.0.1")};
    (void)state;
    server_start(&s, "127.0.0.1", OURS);
    for (unsigned i = 0; i < ARRAY_LEN(p); i++)
        p[i] = preflight_start(&spec, on_verdict, NULL);
    for (unsigned i = 0; i < ARRAY_LEN(p); i += 2)
        preflight_close(&p[i]);
    while (t.done < ARRAY_LEN(p) / 2)
        loop_run();
    assert_int_equal(t.v.result, PREFLIGHT_FINE);
    server_stop(&s);
    /* None of the closed ones was at work for ever. */
    assert_int_equal(ask("127.0.0.1", 0, 0, false), PREFLIGHT_FINE);
    assert_int_equal(t.done, ARRAY_LEN(p) / 2 + 1);
}

/* At every stage: names, connecting, asking. */
static void closed_at_work(void **state)
{
    struct server s;
    (void)state;
    server_start(&s, "127.0.0.2", NULL);
    const struct preflight_spec spec = {.host = STR("127.0.0.2"),
                                        .ports = {s.port, s.port},
                                        .probe_path = STR(PATH),
                                        .probe_body = STR(TOKEN)};
    struct preflight *p = preflight_start(&spec, on_verdict, NULL);
    preflight_close(&p);
    assert_null(p);
    preflight_close(&p);
    p = preflight_start(&spec, on_verdict, NULL);
    while (!s.request[0])
        event_base_loop(loop_base(), EVLOOP_ONCE);
    preflight_close(&p);
    assert_int_equal(ask("127.0.0.1", 0, 0, false), PREFLIGHT_FINE);
    assert_int_equal(t.done, 1);
    server_stop(&s);
}

/* As the agent does it. */
static void in_the_sandbox(void **state)
{
    struct server s;
    (void)state;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        loop_init();
        server_start(&s, "0.0.0.0", OURS);
        if (sandbox_agent("/tmp"))
            _exit(99);
        bool ok = ask("127.0.0.1", s.port, s.port, true) == PREFLIGHT_FINE &&
                  ask("localhost", s.port, 0, false) != PREFLIGHT_BAD &&
                  ask("127.0.0.2", s.port, 0, false) == PREFLIGHT_UNSURE;
        _exit(ok ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(fine),           T(ours_in_other_clothes),  T(foreign),
        T(endless_answer), T(foreign_on_our_address), T(no_probe),
        T(dead_ports),     T(never_answers),          T(both_families),
        T(no_such_name),   T(private_addresses),      T(many),
        T(closed_at_work), T(in_the_sandbox),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
