/*
 * agent_names.c - looking up names by getaddrinfo, which knows nsswitch.conf, hosts and
 * resolv.conf as every program of the machine does, in a thread a look, so that a slow name server
 * stops neither the agent nor the other names. The C library tells no TTL: names are looked up
 * every half minute, and sooner after failures.
 */
#include "proxy/agent_names.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/loop.h"

#define EVERY_MS      30000
#define AGAIN_MS      1000 /* after a failure, doubled up to EVERY_MS; least pause between looks */
#define LOOKS_MAX     8    /* threads at a time */
#define BUSY_MS       100
#define ADDRESSES_MAX 64
#define STACK_BYTES   (256 * 1024)

/* What a thread works on; it knows nothing else of the process. */
struct look {
    int done_fd; /* where its own address is written when it is done */
    struct name *name;
    int rc;    /* of getaddrinfo */
    int error; /* errno with EAI_SYSTEM */
    struct addrinfo *found;
    char text[256];
};

struct name {
    struct list link;
    struct deadline due;
    uint64_t generation; /* of the last configuration that named it */
    uint64_t last_ms;    /* when the last look began */
    uint64_t pause_ms;   /* after the next failure */
    bool looking;
    bool again; /* asked for while a look was under way */
    char text[256];
};

static struct {
    struct list names;
    struct msg_peer *master;
    unsigned looks;
    int pipe[2];
    struct event ev;
    bool set_up;
} self = {.names = {&self.names, &self.names}};

static void on_due(struct deadline *d);

/* ---- the thread ---- */

static void *look_up(void *arg)
{
    struct look *k = arg;
    /* No AAAA of a machine without IPv6, and the other way round. */
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
    k->rc = getaddrinfo(k->text, NULL, &hints, &k->found);
    k->error = errno;
    while (write(k->done_fd, &k, sizeof(k)) < 0 && errno == EINTR)
        ;
    return NULL;
}

static const char *look_start(struct look *k)
{
    pthread_attr_t attr;
    pthread_t thread;
    sigset_t all, before;
    if (pthread_attr_init(&attr) != 0)
        return err_of_errno(ENOMEM);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    /* Signals are the loop's. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&thread, &attr, look_up, k);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    return rc ? err_of_errno(rc) : NULL;
}

/* ---- what was found ---- */

static void tell(const struct name *n, struct str tail, bool ok)
{
    struct msg_resolved m = {.ok = ok};
    char text[4096];
    struct out o = out_on(text, sizeof(text));
    out_bytes(&o, n->text, strlen(n->text) + 1);
    out_str(&o, tail);
    ASSERT(!o.over);
    msg_send(self.master, MSG_RESOLVED, &m, out_done(&o), -1);
}

static bool told_before(struct str all, const char *ip)
{
    struct str one;
    while (str_split(&all, '\0', &one))
        if (str_eq(one, str_of(ip)))
            return true;
    return false;
}

static void tell_found(const struct name *n, const struct addrinfo *found)
{
    char all[ADDRESSES_MAX * INET6_ADDRSTRLEN], ip[INET6_ADDRSTRLEN];
    struct out o = out_on(all, sizeof(all));
    unsigned count = 0;
    for (const struct addrinfo *a = found; a && count < ADDRESSES_MAX; a = a->ai_next) {
        const struct sockaddr_in *v4 = (const void *)a->ai_addr;
        const struct sockaddr_in6 *v6 = (const void *)a->ai_addr;
        bool four = a->ai_family == AF_INET, six = a->ai_family == AF_INET6;
        /* A link-local address says nothing without its link. */
        if ((!four && !six) || (six && IN6_IS_ADDR_LINKLOCAL(&v6->sin6_addr)))
            continue;
        inet_ntop(a->ai_family, four ? (const void *)&v4->sin_addr : &v6->sin6_addr, ip,
                  sizeof(ip));
        if (told_before(out_done(&o), ip))
            continue;
        out_bytes(&o, ip, strlen(ip) + 1);
        count++;
    }
    tell(n, out_done(&o), count > 0);
}

static void name_free(struct name *n)
{
    deadline_cancel(&n->due);
    list_remove(&n->link);
    free(n);
}

static void name_failed(struct name *n, const char *why)
{
    log_debug("name not resolved", "name", "%s", n->text, "cause", "%s", why);
    tell(n, str_sub(str_of(why), 0, 256), false);
    deadline_set(&n->due, n->pause_ms, on_due);
    n->pause_ms = MIN(n->pause_ms * 2, (uint64_t)EVERY_MS);
}

static void look_over(struct look *k)
{
    struct name *n = k->name;
    self.looks--;
    n->looking = false;
    if (n->generation == 0) {
        name_free(n); /* a reload took it away meanwhile */
    } else if (k->rc) {
        name_failed(n, k->rc == EAI_SYSTEM ? err_of_errno(k->error) : gai_strerror(k->rc));
    } else {
        tell_found(n, k->found);
        n->pause_ms = AGAIN_MS;
        deadline_set(&n->due, n->again ? AGAIN_MS : EVERY_MS, on_due);
    }
    if (k->found)
        freeaddrinfo(k->found);
    free(k);
}

static void on_done(evutil_socket_t fd, short what, void *arg)
{
    struct look *k;
    (void)what, (void)arg;
    while (read(fd, &k, sizeof(k)) == (ssize_t)sizeof(k))
        look_over(k);
}

/* ---- when ---- */

static void name_look(struct name *n)
{
    if (self.looks >= LOOKS_MAX) {
        deadline_set(&n->due, BUSY_MS, on_due);
        return;
    }
    struct look *k = calloc(1, sizeof(*k));
    ASSERT(k);
    memcpy(k->text, n->text, sizeof(k->text));
    k->name = n;
    k->done_fd = self.pipe[1];
    n->looking = true;
    n->again = false;
    n->last_ms = loop_now_ms();
    self.looks++;
    const char *err = look_start(k);
    if (!err)
        return;
    free(k);
    self.looks--;
    n->looking = false;
    name_failed(n, err);
}

static void on_due(struct deadline *d)
{
    name_look(container_of(d, struct name, due));
}

static struct name *name_find(struct str text)
{
    LIST_EACH (&self.names, l) {
        struct name *n = container_of(l, struct name, link);
        if (n->generation && str_eq(str_of(n->text), text))
            return n;
    }
    return NULL;
}

static void name_want(struct str text, uint64_t generation)
{
    struct name *n = name_find(text);
    if (n && n->generation == generation)
        return; /* named twice */
    if (!n) {
        n = calloc(1, sizeof(*n));
        ASSERT(n && text.n < sizeof(n->text));
        memcpy(n->text, text.p, text.n);
        list_append(&self.names, &n->link);
    }
    n->generation = generation;
    n->pause_ms = AGAIN_MS;
    if (n->looking)
        n->again = true;
    else
        name_look(n);
}

static void set_up(void)
{
    if (self.set_up)
        return;
    self.set_up = true;
    int rc = pipe2(self.pipe, O_CLOEXEC);
    ASSERT(rc == 0);
    const char *err = fd_nonblock(self.pipe[0]);
    ASSERT(!err);
    event_assign(&self.ev, loop_base(), self.pipe[0], EV_READ | EV_PERSIST, on_done, NULL);
    event_add(&self.ev, NULL);
}

void agent_names_use(const struct conf *c, struct msg_peer *master)
{
    self.master = master;
    for (unsigned i = 0; i < c->n_services; i++) {
        const struct conf_service *s = &c->services[i];
        for (unsigned k = 0; k < s->n_backends; k++) {
            if (s->backends[k].addr.len)
                continue;
            set_up();
            name_want(s->backends[k].name, c->generation);
        }
    }
    LIST_EACH_SAFE (&self.names, l) {
        struct name *n = container_of(l, struct name, link);
        if (n->generation == c->generation)
            continue;
        n->generation = 0;
        if (!n->looking)
            name_free(n);
    }
}

void agent_names_again(struct str text)
{
    struct name *n = name_find(text);
    uint64_t now = loop_now_ms();
    if (!n)
        return;
    if (n->looking)
        n->again = true;
    else
        deadline_set(&n->due, n->last_ms + AGAIN_MS > now ? n->last_ms + AGAIN_MS - now : 1,
                     on_due);
}

void agent_names_stop(void)
{
    LIST_EACH (&self.names, l)
        deadline_cancel(&container_of(l, struct name, link)->due);
    if (!self.set_up)
        return;
    event_del(&self.ev);
    self.set_up = false;
    /* The pipe stays: threads may still write to it until the process ends. */
}
