/*
 * backend.c - services and instances of a worker, choice among them, and who waits.
 */
#include "proxy/backend.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>

#include "base/log.h"
#include "base/stats.h"
#include "proxy/exchange.h"
#include "proxy/snapshot.h"

#define SUSPECT_MS 200
#define SPREAD_MS  (10 * 1000) /* in which streams end, where there is so much time */

static struct list services = {&services, &services};
static struct backend_reports reports;
static uint64_t
    worker_ends; /* ms: when all streams of this worker have been asked to end; 0: never */

void backend_setup(const struct backend_reports *r)
{
    reports = *r;
}

struct backend_service *backend_service(struct str name)
{
    LIST_EACH (&services, l) {
        struct backend_service *s = container_of(l, struct backend_service, link);
        if (str_eq(s->name, name))
            return s;
    }
    const size_t slash = str_chr(name, '/');
    struct backend_service *s = calloc(1, sizeof(*s) + name.n);
    ASSERT(s);
    char *copy = (char *)(s + 1);
    memcpy(copy, name.p, name.n);
    s->name = (struct str){copy, name.n};
    list_init(&s->instances);
    list_init(&s->waiters);
    list_init(&s->streams);
    list_append(&services, &s->link);
    s->row =
        rows_use(ROW_SERVICE,
                 &(struct row_key){{str_sub(name, 0, slash), str_sub(name, slash + 1, name.n)}});
    return s;
}

struct backend_instance *backend_ref(struct backend_instance *i)
{
    i->refs++;
    return i;
}

static void instance_free(void *p)
{
    struct backend_instance *i = p;
    backend_tls_peer_fini(&i->tls);
    free(i);
}

void backend_unref(struct backend_instance **ip)
{
    struct backend_instance *i = *ip;
    *ip = NULL;
    if (i && --i->refs == 0)
        loop_free_later(i, instance_free);
}

/* All that could serve are ejected: the one that comes back first, rather than none. */
static struct backend_instance *least_bad(struct backend_service *s, uint64_t now)
{
    struct backend_instance *best = NULL;
    LIST_EACH (&s->instances, l) {
        struct backend_instance *i = container_of(l, struct backend_instance, link);
        if (i->state == INSTANCE_READY && i->suspect_until <= now &&
            (!best || i->eject.until < best->eject.until))
            best = i;
    }
    return best;
}

struct backend_instance *backend_choose(struct backend_service *s)
{
    struct backend_instance *best = NULL;
    uint64_t now = loop_now_ms();
    if (s->hold != HOLD_OFF)
        return NULL;
    LIST_EACH (&s->instances, l) {
        struct backend_instance *i = container_of(l, struct backend_instance, link);
        if (i->state != INSTANCE_READY || i->suspect_until > now || eject_is_out(&i->eject, now))
            continue;
        if (!best || (!s->round && i->busy < best->busy))
            best = i;
    }
    if (!best)
        best = least_bad(s, now);
    if (best && list_linked(&best->link) && best->link.next != &s->instances) {
        /* Among equals it is the next one's turn. */
        list_remove(&best->link);
        list_append(&s->instances, &best->link);
    }
    return best;
}

bool backend_met_itself(const struct backend_instance *i, int fd)
{
    struct sockaddr_storage own = {0}, peer = {0};
    socklen_t own_n = sizeof(own), peer_n = sizeof(peer);
    return i->addr.ss_family != AF_UNIX && getsockname(fd, (struct sockaddr *)&own, &own_n) == 0 &&
           getpeername(fd, (struct sockaddr *)&peer, &peer_n) == 0 && own_n == peer_n &&
           memcmp(&own, &peer, own_n) == 0;
}

/* It takes no new requests. */
static void connections_leave(struct backend_instance *i)
{
    exchange_h1_leave(i);
    exchange_h2_leave(i);
}

unsigned backend_count(const struct backend_service *s)
{
    unsigned n = 0;
    LIST_EACH (&s->instances, l)
        n++;
    return n;
}

static void tell_when_idle(struct backend_instance *i)
{
    if (i->state == INSTANCE_DRAINING && !i->busy && !i->gone && reports.on_idle)
        reports.on_idle(i->id);
}

static void tell_when_held(struct backend_service *s)
{
    if (s->hold != HOLD_ON)
        return;
    LIST_EACH (&s->instances, l) {
        if (container_of(l, struct backend_instance, link)->busy)
            return;
    }
    s->hold = HOLD_TOLD;
    if (reports.on_held)
        reports.on_held(s->name);
}

void backend_connect_begun(struct backend_instance *i)
{
    stats_inc(backend_connects);
    row_add(&i->service->row->connects, 1);
}

void backend_connect_failed(struct backend_instance *i)
{
    stats_inc(backend_connect_failures);
    row_add(&i->service->row->connect_failures, 1);
}

void backend_request_begun(struct backend_instance *i)
{
    i->busy++;
    row_add(&i->service->row->in_flight, 1);
}

void backend_request_over(struct backend_instance *i)
{
    ASSERT(i->busy > 0);
    i->busy--;
    row_add(&i->service->row->in_flight, -1);
    tell_when_idle(i);
    tell_when_held(i->service);
}

/* ---- streams ---- */

/* The rest of the time is for what ends by itself, and for ends that do not come at once. */
static uint64_t spread(uint64_t limit)
{
    return limit ? MIN(limit / 2, (uint64_t)SPREAD_MS) : SPREAD_MS;
}

/* How long the supervisor lets an instance drain. */
static uint64_t drain_limit(const struct backend_service *s)
{
    const struct conf *c = snapshot_current()->conf;
    const struct conf_service *def = conf_service_find(c, s->name);
    return def ? conf_service_drain(def) : c->timeouts.drain;
}

void backend_drain(uint64_t limit)
{
    worker_ends = loop_now_ms() + spread(limit);
    LIST_EACH (&services, l) {
        struct backend_service *s = container_of(l, struct backend_service, link);
        LIST_EACH (&s->instances, k)
            drain_ask(&container_of(k, struct backend_instance, link)->drains, spread(limit));
    }
}

/* ---- connections of raw bytes ---- */

void backend_stream_enter(struct backend_service *s, struct backend_stream *st,
                          void (*end)(struct backend_stream *))
{
    st->end = end;
    list_append(&s->streams, &st->link);
}

void backend_stream_leave(struct backend_stream *st)
{
    if (list_linked(&st->link))
        list_remove(&st->link);
}

void backend_tie(struct backend_instance *i, struct backend_stream *st,
                 void (*end)(struct backend_stream *))
{
    st->end = end;
    list_append(&i->tied, &st->link);
}

static void streams_end(struct list *streams)
{
    while (!list_empty(streams)) {
        struct backend_stream *st = container_of(streams->next, struct backend_stream, link);
        list_remove(&st->link);
        st->end(st);
    }
}

/* ---- waiting ---- */

static void waiter_leave(struct backend_waiter *w)
{
    struct backend_service *s = w->service;
    w->service = NULL;
    list_remove(&w->link);
    deadline_cancel(&w->deadline);
    s->n_waiters--;
    stats_dec(requests_waiting);
    row_add(&s->row->waiting, -1);
}

static void waiters_serve(struct backend_service *s)
{
    while (!list_empty(&s->waiters)) {
        struct backend_instance *i = backend_choose(s);
        if (!i)
            return;
        struct backend_waiter *w = container_of(s->waiters.next, struct backend_waiter, link);
        waiter_leave(w);
        w->on_instance(w, i);
    }
}

static void on_wait_over(struct deadline *d)
{
    struct backend_waiter *w = container_of(d, struct backend_waiter, deadline);
    waiter_leave(w);
    w->on_instance(w, NULL);
}

static void on_retry(struct deadline *d)
{
    struct backend_service *s = container_of(d, struct backend_service, retry);
    waiters_serve(s);
    if (!list_empty(&s->waiters))
        deadline_set(d, SUSPECT_MS, on_retry);
}

void backend_wait(struct backend_service *s, struct backend_waiter *w, uint64_t ms)
{
    struct backend_instance *i = backend_choose(s);
    if (i || !ms || s->n_waiters >= BACKEND_WAITERS_MAX) {
        w->on_instance(w, i);
        return;
    }
    w->service = s;
    s->n_waiters++;
    stats_inc(requests_waiting);
    row_add(&s->row->waiting, 1);
    list_append(&s->waiters, &w->link);
    deadline_set(&w->deadline, ms, on_wait_over);
    if (!deadline_is_set(&s->retry))
        deadline_set(&s->retry, SUSPECT_MS, on_retry);
}

void backend_wait_cancel(struct backend_waiter *w)
{
    if (w->service)
        waiter_leave(w);
}

void backend_suspect(struct backend_instance *i)
{
    i->suspect_until = loop_now_ms() + SUSPECT_MS;
}

static void tell_eject(const struct backend_instance *i, enum eject_change change, const char *why)
{
    uint64_t now = loop_now_ms();
    if (change != EJECT_SAME && !i->gone && reports.on_eject)
        reports.on_eject(i->id, change, i->eject.until > now ? i->eject.until - now : 0, why);
}

void backend_failed(struct backend_instance *i, const char *why)
{
    tell_eject(i, eject_failed(&i->eject, loop_now_ms()), why);
}

void backend_served(struct backend_instance *i)
{
    tell_eject(i, eject_served(&i->eject), NULL);
}

void backend_use_tls(struct backend_instance *i, struct backend_tls *t)
{
    if (backend_tls_peer_use(&i->tls, t))
        connections_leave(i);
}

struct str backend_host(const struct backend_instance *i)
{
    struct str a = i->authority;
    if (i->addr.ss_family == AF_UNIX)
        return STR_NULL;
    if (a.n && a.p[0] == '[')
        return str_sub(a, 1, str_chr(a, ']'));
    return str_sub(a, 0, str_chr(a, ':'));
}

/* ---- what the master tells ---- */

/* "127.0.0.1:9000", "[::1]:9000", "unix:/path": always numbers, a worker resolves no name. */
static bool addr_parse(struct backend_instance *i, struct str text)
{
    struct sockaddr_un *un = (struct sockaddr_un *)&i->addr;
    struct sockaddr_in *in = (struct sockaddr_in *)&i->addr;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&i->addr;
    char host[64];
    uint64_t port;
    if (str_starts(text, STR("unix:"))) {
        text = str_sub(text, 5, text.n);
        if (!text.n || text.n >= sizeof(un->sun_path))
            return false;
        un->sun_family = AF_UNIX;
        memcpy(un->sun_path, text.p, text.n);
        i->addr_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + text.n + 1);
        return true;
    }
    size_t colon = text.n;
    while (colon > 0 && text.p[colon - 1] != ':')
        colon--;
    if (!colon || !str_u64(str_sub(text, colon, text.n), &port) || port > 65535)
        return false;
    struct str name = str_sub(text, 0, colon - 1);
    bool v6 = name.n > 2 && name.p[0] == '[';
    if (v6)
        name = str_sub(name, 1, name.n - 1);
    if (name.n >= sizeof(host))
        return false;
    memcpy(host, name.p, name.n);
    host[name.n] = '\0';
    in->sin_port = htons((uint16_t)port); /* sin6_port lies at the same place */
    in->sin_family = v6 ? AF_INET6 : AF_INET;
    i->addr_len = v6 ? sizeof(*in6) : sizeof(*in);
    return inet_pton(in->sin_family, host, v6 ? (void *)&in6->sin6_addr : (void *)&in->sin_addr) ==
           1;
}

bool backend_address(const struct backend_instance *i, struct str port, struct sockaddr_storage *sa,
                     socklen_t *len)
{
    struct str rest = i->ports, one;
    uint64_t number;
    if (!port.n) {
        *sa = i->addr;
        *len = i->addr_len;
        return true;
    }
    while (str_split(&rest, '\0', &one)) {
        const size_t sign = str_chr(one, '=');
        if (!str_eq(str_sub(one, 0, sign), port) ||
            !str_u64(str_sub(one, sign + 1, one.n), &number) || number > UINT16_MAX)
            continue;
        struct sockaddr_in in = {.sin_family = AF_INET,
                                 .sin_port = htons((uint16_t)number),
                                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        memset(sa, 0, sizeof(*sa));
        memcpy(sa, &in, sizeof(in));
        *len = sizeof(in);
        return true;
    }
    return false;
}

static struct backend_instance *instance_find(uint64_t id)
{
    LIST_EACH (&services, l) {
        struct backend_service *s = container_of(l, struct backend_service, link);
        LIST_EACH (&s->instances, k) {
            struct backend_instance *i = container_of(k, struct backend_instance, link);
            if (i->id == id)
                return i;
        }
    }
    return NULL;
}

static struct backend_instance *instance_new(uint64_t id, struct str service, struct str addr,
                                             struct str authority, struct str ports)
{
    struct backend_instance *i = calloc(1, sizeof(*i) + addr.n + authority.n + ports.n);
    ASSERT(i);
    char *copy = (char *)(i + 1);
    memcpy(copy, addr.p, addr.n);
    if (authority.n)
        memcpy(copy + addr.n, authority.p, authority.n);
    if (ports.n)
        memcpy(copy + addr.n + authority.n, ports.p, ports.n);
    i->ports = (struct str){copy + addr.n + authority.n, ports.n};
    i->text = (struct str){copy, addr.n};
    i->authority = (struct str){copy + addr.n, authority.n};
    i->refs = 1;
    i->id = id;
    snprintf(i->id_text, sizeof(i->id_text), "%llu", (unsigned long long)id);
    i->service = backend_service(service);
    list_init(&i->idle);
    list_init(&i->shared);
    list_init(&i->tied);
    list_init(&i->drains.members);
    if (worker_ends)
        drain_ask(&i->drains, worker_ends - MIN(worker_ends, loop_now_ms()));
    if (!addr_parse(i, i->text)) {
        log_error("instance with an address that cannot be read", "instance", "%s", i->id_text);
        free(i);
        return NULL;
    }
    list_append(&i->service->instances, &i->link);
    return i;
}

void backend_on_instance(const struct msg_instance *m, struct str tail)
{
    struct str service, addr, authority;
    if (!str_split(&tail, '\0', &service) || !str_split(&tail, '\0', &addr) ||
        !str_split(&tail, '\0', &authority))
        return;
    struct backend_instance *i = instance_find(m->id);
    if (!i)
        i = instance_new(m->id, service, addr, authority, tail);
    if (!i)
        return;
    i->by_tls = m->tls != 0;
    i->state = (enum instance_state)m->state;
    i->suspect_until = 0;
    if (i->state == INSTANCE_READY)
        waiters_serve(i->service);
    else
        connections_leave(i);
    if (i->state == INSTANCE_DRAINING)
        drain_ask(&i->drains, spread(drain_limit(i->service)));
    tell_when_idle(i);
}

void backend_on_gone(const struct msg_instance_gone *m)
{
    struct backend_instance *i = instance_find(m->id);
    if (!i)
        return;
    i->gone = true;
    i->state = INSTANCE_DRAINING;
    list_remove(&i->link);
    connections_leave(i);
    if (i->authority.n)
        streams_end(&i->tied);
    backend_unref(&i);
}

void backend_on_hold(const struct msg_hold *m, struct str service)
{
    struct backend_service *s = backend_service(service);
    if (!m->on) {
        s->hold = HOLD_OFF;
        waiters_serve(s);
        return;
    }
    if (s->hold == HOLD_OFF)
        s->hold = HOLD_ON;
    streams_end(&s->streams);
    LIST_EACH (&s->instances, l) /* at once: what waits meanwhile waits for them */
        drain_ask(&container_of(l, struct backend_instance, link)->drains, 0);
    tell_when_held(s);
}
