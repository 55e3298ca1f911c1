/*
 * master_store.c - the service manager's descriptor store (sd_notify(3), FDSTORE=1): our listening
 * sockets lie there too, so that they stay open, and keep who is queued, even when workers die
 * while there is no master. A name for each address; the next master gets them back with its start.
 */
#include "proxy/master.h"

#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/activation.h"
#include "base/log.h"
#include "proxy/inherit.h"
#include "proxy/notify.h"

#define PREFIX     "headgate."
#define SERVICE    PREFIX "service."
#define NAME_BYTES 240 /* the manager takes 255 */
#define AGAIN_MS   200

static struct deadline again;

/* "headgate.https.[__]_443": printable ASCII without colons is what the manager takes. */
static struct str name_of(const struct listener *l, char name[NAME_BYTES])
{
    struct out o = out_on(name, NAME_BYTES - 1);
    out_fmt(&o, PREFIX "%s.", listener_kind_text(l->kind));
    for (size_t i = 0; i < l->addr.text.n; i++) {
        char c = l->addr.text.p[i];
        out_char(&o, c <= ' ' || c >= 127 || c == ':' ? '_' : c);
    }
    name[o.n] = '\0';
    return out_done(&o);
}

/* Those that the manager passed (fd:NAME) are its own already. */
static bool is_ours(const struct listener *l)
{
    return l->addr.sa.ss_family != AF_UNSPEC;
}

static unsigned listening(const struct listener *l, int *fds)
{
    unsigned n = 0;
    for (unsigned i = 0; i < l->n_socks; i++)
        if (l->socks[i].listening && (n == 0 || l->shared_fd < 0))
            fds[n++] = l->socks[i].fd;
    return n;
}

static void on_again(struct deadline *d)
{
    (void)d;
    store_look();
}

void store_look(void)
{
    LIST_EACH (&master.listeners, it) {
        struct listener *l = container_of(it, struct listener, link);
        char name[NAME_BYTES];
        int *fds = calloc(l->n_socks + 1, sizeof(*fds));
        ASSERT(fds);
        unsigned n = is_ours(l) ? listening(l, fds) : 0;
        name_of(l, name);
        if (n > l->stored && notify_store(name, fds, n))
            l->stored = n;
        if (n > l->stored)
            deadline_set(&again, AGAIN_MS, on_again); /* the manager is slow */
        free(fds);
    }
}

void store_forget(const struct listener *l)
{
    char name[NAME_BYTES];
    name_of(l, name);
    if (l->stored)
        notify_unstore(name);
}

/* ---- at the start ---- */

void store_take(void)
{
    for (unsigned i = 0; i < activation_count(); i++) {
        struct activation *a = activation_at(i);
        if (a->fd < 0 || !str_starts(a->name, STR(PREFIX)) || str_starts(a->name, STR(SERVICE)))
            continue;
        inherit_add(a->fd);
        a->fd = -1;
    }
}

static bool in_use(struct str stored)
{
    LIST_EACH (&master.listeners, it) {
        char name[NAME_BYTES];
        if (str_eq(name_of(container_of(it, struct listener, link), name), stored))
            return true;
    }
    return false;
}

void store_clean(void)
{
    for (unsigned i = 0; i < activation_count(); i++) {
        struct str name = activation_at(i)->name;
        char text[NAME_BYTES];
        struct out o = out_on(text, sizeof(text) - 1);
        out_str(&o, name);
        text[o.n] = '\0';
        if (str_starts(name, STR(PREFIX)) && !str_starts(name, STR(SERVICE)) && !o.over &&
            !in_use(name))
            notify_unstore(text);
    }
}

/* ---- sockets of services ---- */

static struct str service_name(uint64_t id, char name[NAME_BYTES])
{
    struct out o = out_on(name, NAME_BYTES - 1);
    out_fmt(&o, SERVICE "%" PRIu64, id);
    name[o.n] = '\0';
    return out_done(&o);
}

void store_socket(void *ctx, uint64_t id, int fd)
{
    char name[NAME_BYTES];
    (void)ctx;
    service_name(id, name);
    if (fd < 0)
        notify_unstore(name);
    else if (!notify_store(name, &fd, 1))
        log_warn("the service manager is too slow to keep a service's socket", "instance",
                 "%" PRIu64, id);
}

int store_socket_take(void *ctx, uint64_t id)
{
    char name[NAME_BYTES];
    unsigned i = 0;
    (void)ctx;
    struct activation *a = activation_next(service_name(id, name), &i);
    int fd = a ? a->fd : -1;
    if (a)
        a->fd = -1;
    return fd;
}

void store_sockets_clean(void)
{
    for (unsigned i = 0; i < activation_count(); i++) {
        struct activation *a = activation_at(i);
        char name[NAME_BYTES];
        uint64_t id;
        if (a->fd < 0 || !str_starts(a->name, STR(SERVICE)))
            continue;
        if (str_u64(str_sub(a->name, sizeof(SERVICE) - 1, a->name.n), &id)) {
            service_name(id, name);
            notify_unstore(name);
        }
        close(a->fd);
        a->fd = -1;
    }
}
