/*
 * agent_names.c - when the names of `url` are looked up (base/resolve.h), and what the master is
 * told of them. The C library tells no TTL: names are looked up every half minute, and sooner after
 * failures.
 */
#include "proxy/agent_names.h"

#include <arpa/inet.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/loop.h"
#include "base/resolve.h"

#define EVERY_MS      30000
#define AGAIN_MS      1000 /* after a failure, doubled up to EVERY_MS; least pause between looks */
#define ADDRESSES_MAX 64

struct name {
    struct list link;
    struct deadline due;
    struct resolve *look; /* under way */
    uint64_t generation;  /* of the last configuration that named it */
    uint64_t last_ms;     /* when the last look began */
    uint64_t pause_ms;    /* after the next failure */
    bool again;           /* asked for while a look was under way */
    char text[256];
};

static struct {
    struct list names;
    struct msg_peer *master;
} self = {.names = {&self.names, &self.names}};

static void on_due(struct deadline *d);

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
    resolve_cancel(&n->look);
    deadline_cancel(&n->due);
    list_remove(&n->link);
    free(n);
}

static void on_look(void *ctx, const struct resolve_result *r)
{
    struct name *n = ctx;
    n->look = NULL;
    if (r->err) {
        log_debug("name not resolved", "name", "%s", n->text, "cause", "%s", r->err);
        tell(n, str_sub(str_of(r->err), 0, 256), false);
        deadline_set(&n->due, n->pause_ms, on_due);
        n->pause_ms = MIN(n->pause_ms * 2, (uint64_t)EVERY_MS);
        return;
    }
    tell_found(n, r->found);
    n->pause_ms = AGAIN_MS;
    deadline_set(&n->due, n->again ? AGAIN_MS : EVERY_MS, on_due);
}

/* ---- when ---- */

static void name_look(struct name *n)
{
    ASSERT(!n->look);
    deadline_cancel(&n->due); /* a reload looks before it is due */
    n->again = false;
    n->last_ms = loop_now_ms();
    n->look = resolve_start(n->text, RESOLVE_USABLE, on_look, n);
}

static void on_due(struct deadline *d)
{
    name_look(container_of(d, struct name, due));
}

static struct name *name_find(struct str text)
{
    LIST_EACH (&self.names, l) {
        struct name *n = container_of(l, struct name, link);
        if (str_eq(str_of(n->text), text))
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
    if (n->look)
        n->again = true;
    else
        name_look(n);
}

void agent_names_use(const struct conf *c, struct msg_peer *master)
{
    self.master = master;
    for (unsigned i = 0; i < c->n_services; i++) {
        const struct conf_service *s = &c->services[i];
        for (unsigned k = 0; k < s->n_backends; k++) {
            if (s->backends[k].addr.len)
                continue;
            name_want(s->backends[k].name, c->generation);
        }
    }
    LIST_EACH_SAFE (&self.names, l) {
        struct name *n = container_of(l, struct name, link);
        if (n->generation != c->generation)
            name_free(n);
    }
}

void agent_names_again(struct str text)
{
    struct name *n = name_find(text);
    uint64_t now = loop_now_ms();
    if (!n)
        return;
    if (n->look)
        n->again = true;
    else
        deadline_set(&n->due, n->last_ms + AGAIN_MS > now ? n->last_ms + AGAIN_MS - now : 1,
                     on_due);
}

void agent_names_stop(void)
{
    LIST_EACH_SAFE (&self.names, l)
        name_free(container_of(l, struct name, link));
}
