/*
 * urls.c - services with `url`: what names stand for, and an instance for each address. Who finds
 * out what a name stands for is not here: supervisor_resolved is told.
 */
#include <stdlib.h>

#include "base/log.h"
#include "channels/instance.h"

/* What a name stands for; kept while a service names it. */
struct name {
    struct list link;
    struct arena *arena; /* this struct */
    struct str text;
    struct arena *known;     /* of addrs; NULL: never resolved */
    struct conf_addr *addrs; /* without a port */
    unsigned n;
    char error[256]; /* of the last try; "": it went well */
};

static struct name *name_find(const struct supervisor *s, struct str text)
{
    LIST_EACH (&s->names, l) {
        struct name *n = container_of(l, struct name, link);
        if (str_eq(n->text, text))
            return n;
    }
    return NULL;
}

static struct name *name_new(struct supervisor *s, struct str text)
{
    struct arena *a = arena_new(sizeof(struct name) + 512);
    struct name *n = arena_znew(a, struct name);
    n->arena = a;
    n->text = arena_str(a, text);
    list_append(&s->names, &n->link);
    return n;
}

static void name_free(struct name *n)
{
    struct arena *a = n->arena;
    list_remove(&n->link);
    if (n->known)
        arena_free(&n->known);
    arena_free(&a);
}

void names_free(struct supervisor *s)
{
    while (!list_empty(&s->names))
        name_free(container_of(s->names.next, struct name, link));
}

static void name_failed(struct name *n, const char *err)
{
    bool news = strcmp(n->error, err) != 0;
    struct out o = out_on(n->error, sizeof(n->error) - 1);
    out_str(&o, str_sub(str_of(err), 0, sizeof(n->error) - 1));
    n->error[o.n] = '\0';
    if (news)
        log_warn("a backend's name cannot be resolved", "name", "%s", n->text.p, "cause", "%s", err,
                 "addresses_kept", "%u", n->n);
}

static unsigned count_texts(struct str texts)
{
    unsigned n = 0;
    for (size_t i = 0; i < texts.n; i++)
        n += texts.p[i] == '\0';
    return n;
}

static void name_means(struct name *n, struct str addrs)
{
    struct str ip;
    if (n->error[0])
        log_info("a backend's name is resolved again", "name", "%s", n->text.p);
    n->error[0] = '\0';
    if (n->known)
        arena_free(&n->known);
    n->known = arena_new(1024);
    n->addrs = arena_zarray(n->known, struct conf_addr, count_texts(addrs) + 1);
    n->n = 0;
    while (str_split(&addrs, '\0', &ip))
        n->n += conf_addr_ip(n->known, ip, 0, &n->addrs[n->n]);
}

/* ---- instances ---- */

static struct instance *instance_at(struct service *svc, const struct conf_backend *b,
                                    struct str addr)
{
    LIST_EACH (&svc->instances, l) {
        struct instance *i = container_of(l, struct instance, link);
        if (i->url && (i->state == INST_READY || i->state == INST_UNREADY) &&
            str_eq(i->addr.text, addr) && str_eq(i->backend.authority, b->authority) &&
            i->backend.tls == b->tls)
            return i;
    }
    return NULL;
}

static void want_instance(struct service *svc, const struct conf_backend *b,
                          const struct conf_addr *addr)
{
    struct instance *i = instance_at(svc, b, addr->text);
    if (i) {
        i->gen = svc->gen;
        instance_watch_url(i);
        return;
    }
    i = instance_new(svc, true);
    i->addr = *addr;
    i->addr.text = arena_str(i->arena, addr->text);
    i->asked = i->addr;
    i->backend = *b;
    i->backend.addr.text = arena_str(i->arena, b->addr.text);
    i->backend.name = arena_str(i->arena, b->name);
    i->backend.authority = arena_str(i->arena, b->authority);
    instance_set_url(i);
}

static void want_name(struct service *svc, const struct conf_backend *b)
{
    struct supervisor *s = svc->sup;
    struct name *n = name_find(s, b->name);
    if (!n)
        n = name_new(s, b->name);
    svc->tried = svc->tried || n->known || n->error[0];
    struct arena *a = arena_new(512);
    for (unsigned k = 0; k < n->n; k++) {
        struct conf_addr addr;
        struct str text = n->addrs[k].text; /* "192.0.2.1:0", "[2001:db8::1]:0" */
        struct str ip = str_sub(text, text.p[0] == '[', text.n - 2 - (text.p[0] == '['));
        if (conf_addr_ip(a, ip, b->port, &addr))
            want_instance(svc, b, &addr);
    }
    arena_free(&a);
}

void service_match_urls(struct service *svc)
{
    const struct conf_service *def = svc->def;
    svc->gen++;
    for (unsigned k = 0; k < def->n_backends; k++) {
        const struct conf_backend *b = &def->backends[k];
        if (b->addr.len) {
            svc->tried = true;
            want_instance(svc, b, &b->addr);
        } else {
            want_name(svc, b);
        }
    }
    LIST_EACH_SAFE (&svc->instances, l) {
        struct instance *i = container_of(l, struct instance, link);
        if (i->gen != svc->gen)
            service_retire(i);
    }
}

static bool names_it(const struct conf_service *def, struct str name)
{
    for (unsigned k = 0; def && k < def->n_backends; k++)
        if (!def->backends[k].addr.len && str_eq(def->backends[k].name, name))
            return true;
    return false;
}

void names_prune(struct supervisor *s)
{
    LIST_EACH_SAFE (&s->names, l) {
        struct name *n = container_of(l, struct name, link);
        bool wanted = false;
        LIST_EACH (&s->services, k)
            wanted = wanted || names_it(container_of(k, struct service, link)->def, n->text);
        if (!wanted)
            name_free(n);
    }
}

void supervisor_resolved(struct supervisor *s, struct str text, struct str addrs, const char *err)
{
    struct name *n = name_find(s, text);
    if (s->stopping)
        return;
    if (!n)
        n = name_new(s, text); /* of a configuration that is not in use yet, or any more */
    if (err)
        name_failed(n, err);
    else
        name_means(n, addrs);
    LIST_EACH_SAFE (&s->services, l) {
        struct service *svc = container_of(l, struct service, link);
        if (names_it(svc->def, n->text))
            service_match_urls(svc);
    }
}

/* ---- status ---- */

json_t *service_names(const struct service *svc)
{
    json_t *all = json_array();
    for (unsigned k = 0; k < svc->def->n_backends; k++) {
        const struct conf_backend *b = &svc->def->backends[k];
        if (b->addr.len)
            continue;
        const struct name *n = name_find(svc->sup, b->name);
        const char *err = n && n->error[0] ? n->error : n && n->known ? "" : "not resolved yet";
        json_t *o = json_pack("{s:s#, s:i, s:s}", "name", b->name.p, (int)b->name.n, "addresses",
                              n ? (int)n->n : 0, "error", err);
        ASSERT(o);
        json_array_append_new(all, o);
    }
    return all;
}
