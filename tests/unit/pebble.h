/*
 * pebble.h - Debian's Pebble, a real CA for unit tests, on free loopback ports and with files in a
 * folder of its own.
 */
#ifndef HG_TEST_PEBBLE_H
#define HG_TEST_PEBBLE_H

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "tests/unit/certs.h"

struct pebble_how {
    const char *dir;          /* where its files go */
    const char *nonce_reject; /* percent; NULL: none */
    bool eab;                 /* wants an external account: kid-1 */
};

struct pebble {
    pid_t pid;
    struct pebble_how how;
    int port;
    const char *config;
    struct str directory; /* its URL */
    struct str root;      /* whom its HTTPS chains to */
};

#define PEBBLE_HMAC "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"

UNUSED static int pebble_free_port(void)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof in;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ASSERT(bind(fd, (struct sockaddr *)&in, n) == 0 &&
           getsockname(fd, (struct sockaddr *)&in, &n) == 0);
    close(fd);
    return ntohs(in.sin_port);
}

UNUSED static bool pebble_answers(int port)
{
    struct sockaddr_in in = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool ok = connect(fd, (struct sockaddr *)&in, sizeof in) == 0;
    close(fd);
    return ok;
}

/* In the child: as little as possible lies between fork and exec. */
UNUSED static void pebble_exec(const struct pebble_how *how, const char *config)
{
    int null = open("/dev/null", O_RDWR);
    if (!getenv("PEBBLE_LOUD")) {
        dup2(null, 1);
        dup2(null, 2);
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setenv("PEBBLE_VA_NOSLEEP", "1", 1);
    setenv("PEBBLE_VA_ALWAYS_VALID", "1", 1);
    setenv("PEBBLE_WFE_NONCEREJECT", how->nonce_reject ? how->nonce_reject : "0", 1);
    execlp("pebble", "pebble", "-config", config, (char *)NULL);
    _exit(127);
}

UNUSED static void pebble_stop(struct pebble *p)
{
    kill(p->pid, SIGKILL);
    waitpid(p->pid, NULL, 0);
}

/* False when it ends instead: somebody else took the port meanwhile. */
UNUSED static bool pebble_run(struct pebble *p)
{
    int status;
    p->pid = fork();
    if (p->pid == 0)
        pebble_exec(&p->how, p->config);
    while (waitpid(p->pid, &status, WNOHANG) == 0) {
        if (pebble_answers(p->port))
            return true;
        poll(NULL, 0, 5);
    }
    ASSERT(WEXITSTATUS(status) != 127); /* pebble is installed */
    return false;
}

/* Returns when it answers. */
UNUSED static struct pebble pebble_start(struct arena *a, struct pebble_how how)
{
    struct test_cert c =
        test_cert_make(a, (struct test_cert_how){.san = "DNS:localhost,IP:127.0.0.1", .ca = true});
    struct pebble p = {.root = c.pem, .how = how};
    const char *crt = arena_fmt(a, "%s/pebble.crt", how.dir).p;
    const char *key = arena_fmt(a, "%s/pebble.key", how.dir).p;
    p.config = arena_fmt(a, "%s/pebble.json", how.dir).p;
    ASSERT(!file_write(a, crt, c.pem, 0600) && !file_write(a, key, c.key_pem, 0600));
    test_cert_free(&c);
    do {
        p.port = pebble_free_port();
        p.directory = arena_fmt(a, "https://127.0.0.1:%d/dir", p.port);
        struct str text =
            arena_fmt(a,
                      "{\"pebble\":{\"listenAddress\":\"127.0.0.1:%d\",\"certificate\":\"%s\","
                      "\"privateKey\":\"%s\",\"httpPort\":1,\"tlsPort\":1,"
                      "\"externalAccountBindingRequired\":%s,"
                      "\"externalAccountMACKeys\":{\"kid-1\":\"%s\"}}}",
                      p.port, crt, key, how.eab ? "true" : "false", PEBBLE_HMAC);
        ASSERT(!file_write(a, p.config, text, 0600));
    } while (!pebble_run(&p));
    return p;
}

/* It forgets all that it knew: accounts, orders, its issuers. */
UNUSED static void pebble_restart(struct pebble *p)
{
    pebble_stop(p);
    while (!pebble_run(p))
        ; /* a client somewhere has its port for the moment */
}

#endif
