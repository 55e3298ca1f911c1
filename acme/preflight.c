/*
 * preflight.c - looking at a host as a CA would: its A and AAAA, then each address, port by port.
 * Of an address that answers, a probe that only this server knows the answer of tells whose it is.
 * What a verdict means for an order is the issuer's.
 */
#include "acme/preflight.h"

#include <ifaddrs.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/loop.h"
#include "base/net.h"
#include "base/resolve.h"

#define RESOLVE_MS    30000
#define LOOK_MS       5000
#define FAMILY_MAX    4 /* addresses of each kind that are looked at */
#define ADDRESSES_MAX (2 * FAMILY_MAX)
#define AT_ONCE       16 /* preflights */
#define ANSWER_MAX    (16 * 1024)

enum look_result {
    LOOK_UNDER_WAY,
    LOOK_CONNECTED,   /* and nothing was asked */
    LOOK_OURS,        /* it answered as this server does */
    LOOK_OTHER,       /* as another one does */
    LOOK_ODD,         /* with a status that may be of something between: a redirect, a 502 */
    LOOK_SILENT,      /* refused, no answer in time, or none at all */
    LOOK_UNREACHABLE, /* no way there from here */
};

/* At one port of one address. */
struct look {
    struct preflight *p;
    struct event ev;
    struct deadline due;
    int fd; /* -1: none */
    uint16_t port;
    bool asks; /* for the probe */
    enum look_result result;
    const char *err; /* of SILENT and UNREACHABLE */
    unsigned status; /* of ODD */
    struct out in;
};

struct address {
    struct net_ip ip;
    bool own;     /* of an interface of this machine */
    bool private; /* no address of the internet */
    struct look looks[2];
    unsigned n_looks;
};

enum state { WAITS, RESOLVES, LOOKS, TOLD };

struct preflight {
    struct list link;
    enum state state;
    struct arena *arena; /* texts and answers */
    struct str host, path, body;
    uint16_t ports[2];
    struct deadline due; /* of the names */
    struct family {
        struct preflight *p;
        struct resolve *look;
        int rc;
        const char *err; /* in the arena */
    } families[2];       /* A, AAAA */
    struct address addresses[ADDRESSES_MAX];
    unsigned n_addresses, more; /* more: addresses that were not looked at */
    unsigned under_way;         /* looks */
    void (*done)(void *ctx, const struct preflight_verdict *v);
    void *ctx;
};

static struct {
    struct list waiting;
    unsigned at_work;
} self = {.waiting = {&self.waiting, &self.waiting}};

static const char *const family_names[] = {"A", "AAAA"};

/* ---- the verdict ---- */

/* No such name, or no address of that family: an answer, not a failure. */
static bool is_answer(int rc)
{
    return rc == 0 || rc == EAI_NONAME || rc == EAI_NODATA || rc == EAI_ADDRFAMILY;
}

/* Both ports alike: told once. */
static bool is_alike(const struct address *a)
{
    const struct look *k = a->looks;
    return a->n_looks == 2 && k[0].result == k[1].result && k[0].err == k[1].err;
}

/* What a look found, as the end of a sentence about its address. False: nothing is wrong. */
static bool put_look(struct out *o, const struct address *a, const struct look *k)
{
    switch (k->result) {
    case LOOK_OTHER:
        out_fmt(o,
                a->own ? "is this host, but another server answers on port %u"
                       : "is not this host: another server answers on port %u",
                k->port);
        return true;
    case LOOK_ODD:
        out_fmt(o, "answers on port %u with status %u, not as this host does", k->port, k->status);
        return true;
    case LOOK_SILENT:
        if (is_alike(a))
            out_fmt(o, "does not answer on ports %u and %u (%s)", a->looks[0].port,
                    a->looks[1].port, k->err);
        else
            out_fmt(o, "does not answer on port %u (%s)", k->port, k->err);
        return true;
    case LOOK_UNREACHABLE:
        if (a->private && !a->own)
            return false; /* that is told */
        out_fmt(o, "cannot be reached from here (%s)", k->err);
        return true;
    case LOOK_UNDER_WAY:
    case LOOK_CONNECTED:
    case LOOK_OURS:
        break;
    }
    return false;
}

/* All that is wrong with an address; false: nothing. */
static bool put_address(struct out *o, const struct address *a)
{
    const bool proven = a->own || a->looks[0].result == LOOK_OURS;
    bool any = false;
    if (a->private && !proven) {
        out_lit(o, "is a private address that no public CA reaches");
        any = true;
    }
    for (unsigned i = 0; i < a->n_looks - is_alike(a); i++) {
        const size_t before = o->n;
        if (any)
            out_lit(o, ", and ");
        if (put_look(o, a, &a->looks[i]))
            any = true;
        else
            o->n = before;
    }
    if (!any && !proven) {
        out_lit(o, "is no address of this machine");
        any = true;
    }
    return any;
}

/* A clause that does not fit any more is counted. */
struct telling {
    struct out o;
    unsigned told, untold;
};

static void tell(struct telling *t, struct str clause)
{
    if (t->o.n + clause.n + sizeof("; and 65535 more things") > t->o.cap) {
        t->untold++;
        return;
    }
    out_str(&t->o, t->told++ ? STR("; ") : STR(""));
    out_str(&t->o, clause);
}

static void tell_address(struct telling *t, const struct preflight *p, const struct address *a)
{
    char mem[768], what[320], ip[NET_TEXT_MAX];
    struct out o = out_on(mem, sizeof(mem)), w = out_on(what, sizeof(what));
    if (!put_address(&w, a))
        return;
    net_ip_text(a->ip, ip);
    if (t->told)
        out_fmt(&o, "its %s %s ", family_names[a->ip.family == NET_IP6], ip);
    else
        out_fmt(&o, STR_FMT " resolves to %s, which ", STR_ARG(p->host), ip);
    out_str(&o, out_done(&w));
    tell(t, out_done(&o));
}

static void tell_family(struct telling *t, const struct preflight *p, unsigned i)
{
    char mem[512];
    struct out o = out_on(mem, sizeof(mem));
    if (t->told)
        out_fmt(&o, "its %s", family_names[i]);
    else
        out_fmt(&o, "the %s of " STR_FMT, family_names[i], STR_ARG(p->host));
    out_fmt(&o, " could not be looked up (%s)", p->families[i].err);
    tell(t, out_done(&o));
}

/* The name stands for nothing, as far as one can tell. */
static enum preflight_result judge_name(struct telling *t, const struct preflight *p)
{
    const struct family *f = p->families;
    char mem[512];
    struct out o = out_on(mem, sizeof(mem));
    out_str(&o, p->host);
    if (!is_answer(f[0].rc) || !is_answer(f[1].rc))
        out_fmt(&o, " could not be looked up: %s", is_answer(f[0].rc) ? f[1].err : f[0].err);
    else if (f[0].rc == EAI_NONAME && f[1].rc == EAI_NONAME)
        out_lit(&o, " does not resolve: there is no such name");
    else
        out_lit(&o, " does not resolve: it has neither A nor AAAA");
    tell(t, out_done(&o));
    return is_answer(f[0].rc) && is_answer(f[1].rc) ? PREFLIGHT_BAD : PREFLIGHT_UNSURE;
}

static enum preflight_result judge_addresses(struct telling *t, const struct preflight *p)
{
    unsigned foreign = 0;
    bool whole = p->more == 0;
    for (unsigned i = 0; i < p->n_addresses; i++) {
        const struct address *a = &p->addresses[i];
        tell_address(t, p, a);
        foreign += !a->own && !a->private && a->looks[0].result == LOOK_OTHER;
    }
    for (unsigned i = 0; i < ARRAY_LEN(p->families); i++) {
        if (is_answer(p->families[i].rc))
            continue;
        whole = false;
        tell_family(t, p, i);
    }
    return foreign == p->n_addresses && whole ? PREFLIGHT_BAD
           : t->told                          ? PREFLIGHT_UNSURE
                                              : PREFLIGHT_FINE;
}

static struct preflight_verdict judge(const struct preflight *p)
{
    struct preflight_verdict v = {0};
    struct telling t = {.o = out_on(v.text, sizeof(v.text) - 1)};
    v.result = p->n_addresses ? judge_addresses(&t, p) : judge_name(&t, p);
    if (t.untold)
        out_fmt(&t.o, "; and %u more things", t.untold);
    return v;
}

/* ---- begin and end ---- */

static void begin(struct preflight *p);

static void destroy(void *arg)
{
    struct preflight *p = arg;
    arena_free(&p->arena);
    free(p);
}

static void look_release(struct look *k)
{
    deadline_cancel(&k->due);
    if (k->fd < 0)
        return;
    event_del(&k->ev);
    close(k->fd);
    k->fd = -1;
}

/* It takes part in nothing any more; the next one that waits begins. */
static void retire(struct preflight *p)
{
    const bool waited = p->state == WAITS;
    p->state = TOLD;
    list_remove(&p->link);
    deadline_cancel(&p->due);
    for (unsigned i = 0; i < ARRAY_LEN(p->families); i++)
        resolve_cancel(&p->families[i].look);
    for (unsigned i = 0; i < p->n_addresses; i++)
        for (unsigned k = 0; k < p->addresses[i].n_looks; k++)
            look_release(&p->addresses[i].looks[k]);
    if (waited)
        return;
    self.at_work--;
    if (!list_empty(&self.waiting))
        begin(container_of(self.waiting.next, struct preflight, link));
}

static void finish(struct preflight *p)
{
    const struct preflight_verdict v = judge(p);
    retire(p);
    p->done(p->ctx, &v);
    loop_free_later(p, destroy);
}

void preflight_close(struct preflight **preflight)
{
    struct preflight *p = *preflight;
    *preflight = NULL;
    if (!p || p->state == TOLD)
        return; /* its `done` is running: it goes by itself */
    retire(p);
    loop_free_later(p, destroy);
}

/* ---- a look ---- */

static void look_end(struct look *k, enum look_result result, const char *err)
{
    look_release(k);
    k->result = result;
    k->err = err;
    if (--k->p->under_way == 0)
        finish(k->p);
}

/* Of errno: was it the other side that did not want us, or is there no way? */
static void look_fail(struct look *k, int err)
{
    const bool silent = err == ECONNREFUSED || err == ECONNRESET || err == ETIMEDOUT;
    look_end(k, silent ? LOOK_SILENT : LOOK_UNREACHABLE, err_of_errno(err));
}

static bool has(struct str text, struct str part)
{
    return part.n && text.n && memmem(text.p, text.n, part.p, part.n);
}

/* The probe's answer in its body; its head is not trusted to be no echo of what was asked. */
static bool is_ours(const struct look *k)
{
    const struct str text = out_done(&k->in);
    const char *head_end = memmem(text.p, text.n, "\r\n\r\n", 4);
    return head_end && has(str_sub(text, (size_t)(head_end - text.p), text.n), k->p->body);
}

/* All has come that will. */
static void look_judge(struct look *k, const char *why_no_more)
{
    const struct str text = out_done(&k->in);
    uint64_t status = 0;
    if (!text.n) {
        look_end(k, LOOK_SILENT, why_no_more);
    } else if (is_ours(k)) {
        look_end(k, LOOK_OURS, NULL);
    } else if (str_starts(text, STR("HTTP/1.")) && str_u64(str_sub(text, 9, 12), &status) &&
               status != 200 && status != 404) {
        k->status = (unsigned)status;
        look_end(k, LOOK_ODD, NULL);
    } else {
        look_end(k, LOOK_OTHER, NULL);
    }
}

static void on_answer(evutil_socket_t fd, short what, void *arg)
{
    struct look *k = arg;
    (void)what;
    ssize_t n = recv(fd, k->in.p + k->in.n, k->in.cap - k->in.n, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        look_judge(k, n < 0 ? err_of_errno(errno) : "it closes the connection");
        return;
    }
    k->in.n += (size_t)n;
    if (k->in.n == k->in.cap || is_ours(k))
        look_judge(k, NULL);
}

static void on_late(struct deadline *d)
{
    look_judge(container_of(d, struct look, due), err_timeout);
}

static void look_ask(struct look *k)
{
    const struct preflight *p = k->p;
    char port[8] = "";
    if (k->port != 80)
        snprintf(port, sizeof(port), ":%u", k->port);
    struct str ask = arena_fmt(p->arena,
                               "GET " STR_FMT " HTTP/1.1\r\nHost: " STR_FMT
                               "%s\r\nUser-Agent: headgate\r\nAccept: */*\r\n"
                               "Connection: close\r\n\r\n",
                               STR_ARG(p->path), STR_ARG(p->host), port);
    k->in = out_on(arena_alloc(p->arena, ANSWER_MAX), ANSWER_MAX);
    /* The first bytes of a connection: they fit, or it is broken. */
    ssize_t n = send(k->fd, ask.p, ask.n, MSG_NOSIGNAL);
    if (n != (ssize_t)ask.n) {
        look_fail(k, n < 0 ? errno : ECONNRESET);
        return;
    }
    event_assign(&k->ev, loop_base(), k->fd, EV_READ | EV_PERSIST, on_answer, k);
    event_add(&k->ev, NULL);
}

static void on_connected(evutil_socket_t fd, short what, void *arg)
{
    struct look *k = arg;
    int err = 0;
    socklen_t n = sizeof(err);
    (void)what;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &n) < 0)
        err = errno;
    if (err)
        look_fail(k, err);
    else if (k->asks)
        look_ask(k);
    else
        look_end(k, LOOK_CONNECTED, NULL);
}

static void look_start(struct look *k, struct net_ip ip)
{
    struct sockaddr_storage to;
    net_to_sockaddr(ip, k->port, &to);
    k->fd = socket(to.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (k->fd < 0) {
        look_fail(k, errno);
        return;
    }
    event_assign(&k->ev, loop_base(), k->fd, EV_WRITE, on_connected, k);
    if (connect(k->fd, (const struct sockaddr *)&to, sizeof(to)) < 0 && errno != EINPROGRESS) {
        look_fail(k, errno);
        return;
    }
    event_add(&k->ev, NULL);
    deadline_set(&k->due, LOOK_MS, on_late);
}

/* ---- the addresses ---- */

static bool is_private(struct net_ip ip)
{
    static const char *const ranges[] = {"10.0.0.0/8",    "172.16.0.0/12",  "192.168.0.0/16",
                                         "100.64.0.0/10", "169.254.0.0/16", "fc00::/7",
                                         "fe80::/10"};
    for (size_t i = 0; i < ARRAY_LEN(ranges); i++) {
        struct net_range r;
        if (net_range_parse(str_of(ranges[i]), &r) &&
            net_ranges_have((struct net_ranges){&r, 1}, ip))
            return true;
    }
    return false;
}

static void mark_own(struct preflight *p)
{
    struct ifaddrs *all = NULL;
    if (getifaddrs(&all) < 0)
        return; /* then the probe alone tells */
    for (const struct ifaddrs *i = all; i; i = i->ifa_next) {
        if (!i->ifa_addr)
            continue;
        const struct net_ip ip = net_ip_of(i->ifa_addr);
        for (unsigned k = 0; k < p->n_addresses; k++)
            if (net_ip_eq(ip, p->addresses[k].ip))
                p->addresses[k].own = true;
    }
    freeifaddrs(all);
}

static void look_at_all(struct preflight *p)
{
    p->state = LOOKS;
    deadline_cancel(&p->due);
    mark_own(p);
    p->under_way = 1; /* ourselves: some fail at once */
    for (unsigned i = 0; i < p->n_addresses; i++) {
        struct address *a = &p->addresses[i];
        a->private = is_private(a->ip);
        for (unsigned k = 0; k < ARRAY_LEN(p->ports); k++) {
            if (!p->ports[k])
                continue;
            struct look *look = &a->looks[a->n_looks++];
            *look =
                (struct look){.p = p, .fd = -1, .port = p->ports[k], .asks = k == 0 && p->path.n};
            p->under_way++;
            look_start(look, a->ip);
        }
    }
    if (--p->under_way == 0)
        finish(p);
}

/* ---- the names ---- */

static void address_add(struct preflight *p, struct net_ip ip, unsigned *of_family)
{
    for (unsigned i = 0; i < p->n_addresses; i++)
        if (net_ip_eq(ip, p->addresses[i].ip))
            return;
    if (*of_family == FAMILY_MAX) {
        p->more++;
        return;
    }
    (*of_family)++;
    p->addresses[p->n_addresses++].ip = ip;
}

static void family_over(struct family *f, int rc, const char *err)
{
    struct preflight *p = f->p;
    f->look = NULL;
    f->rc = rc;
    /* The C library's sentences begin like sentences; ours go on. */
    f->err = err ? arena_fmt(p->arena, "%c%s", ascii_lower(err[0]), err + 1).p : NULL;
    if (!p->families[0].look && !p->families[1].look)
        look_at_all(p);
}

static void on_name(void *ctx, const struct resolve_result *r)
{
    struct family *f = ctx;
    unsigned count = 0;
    for (const struct addrinfo *a = r->found; a; a = a->ai_next)
        address_add(f->p, net_ip_of(a->ai_addr), &count);
    family_over(f, r->rc, r->err);
}

static void on_names_late(struct deadline *d)
{
    struct preflight *p = container_of(d, struct preflight, due);
    for (unsigned i = 0; i < ARRAY_LEN(p->families) && p->state == RESOLVES; i++) {
        struct family *f = &p->families[i];
        if (!f->look)
            continue;
        resolve_cancel(&f->look);
        family_over(f, EAI_AGAIN, err_timeout);
    }
}

static void begin(struct preflight *p)
{
    static const enum resolve_kind kinds[] = {RESOLVE_A, RESOLVE_AAAA};
    list_remove(&p->link);
    p->state = RESOLVES;
    self.at_work++;
    for (unsigned i = 0; i < ARRAY_LEN(kinds); i++) {
        p->families[i].p = p;
        p->families[i].look = resolve_start(p->host.p, kinds[i], on_name, &p->families[i]);
    }
    deadline_set(&p->due, RESOLVE_MS, on_names_late);
}

struct preflight *preflight_start(const struct preflight_spec *spec,
                                  void (*done)(void *ctx, const struct preflight_verdict *v),
                                  void *ctx)
{
    struct preflight *p = calloc(1, sizeof(*p));
    ASSERT(p);
    p->arena = arena_new(1024);
    p->host = arena_str(p->arena, spec->host);
    p->path = arena_str(p->arena, spec->probe_path);
    p->body = arena_str(p->arena, spec->probe_body);
    memcpy(p->ports, spec->ports, sizeof(p->ports));
    p->done = done;
    p->ctx = ctx;
    list_append(&self.waiting, &p->link);
    if (self.at_work < AT_ONCE)
        begin(p);
    return p;
}
