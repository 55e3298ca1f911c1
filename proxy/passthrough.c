/*
 * passthrough.c - a connection from accept until it is known whose it is: stream.c's for a name of
 * a passthrough site, else client.c's. What was read meanwhile goes along.
 */
#include "proxy/passthrough.h"

#include <stdlib.h>

#include "base/io.h"
#include "base/stats.h"
#include "proxy/client.h"
#include "proxy/hello.h"
#include "proxy/stream.h"

/* One slab holds all that is ever read here. */
_Static_assert(HELLO_MAX <= SLAB_SMALL, "a hello fits a small slab");

struct newcomer {
    struct list link;
    struct io io;
    struct front_pass pass;
    struct front_door door;
    struct deadline deadline;
    struct slab *held; /* what came so far, when the hello was not whole at once; NULL: nothing */
    bool over;
};

static struct list newcomers = {&newcomers, &newcomers};

static void newcomer_close(struct newcomer *c)
{
    if (c->over)
        return;
    c->over = true;
    io_close(&c->io);
    deadline_cancel(&c->deadline);
    slab_unref(c->held);
    c->held = NULL;
    front_leave(&c->pass);
    list_remove(&c->link);
    loop_free_later(c, free);
}

/* It belongs to somebody else now, with all that it said: nothing of it stays here. */
static void hand_on(struct newcomer *c, struct str bytes, const struct conf_site *site,
                    struct str name)
{
    struct front_pass pass = c->pass;
    const struct front_door door = c->door;
    const int fd = io_take(&c->io);
    c->pass.row = NULL;
    if (site && site->pass)
        stream_pass_on(fd, &pass, &door, site->pass, name, bytes);
    else
        client_enter_with(fd, &pass, &door, bytes);
    newcomer_close(c);
}

static void decide(struct newcomer *c, struct str bytes)
{
    char mem[256];
    struct str name;
    struct route_match m = {0};
    enum hello_verdict v = hello_name(bytes, mem, &name);
    if (v == HELLO_MORE)
        return;
    /* As sites are known by it. */
    for (size_t i = 0; i < name.n; i++)
        mem[i] = ascii_lower(mem[i]);
    if (str_ends(name, STR(".")))
        name.n--;
    if (v == HELLO_WHOLE)
        (void)router_host(snapshot_current()->router, name, &m);
    hand_on(c, bytes, m.site, name);
}

static void on_read(struct io *io, struct slice data)
{
    struct newcomer *c = container_of(io, struct newcomer, io);
    if (!c->held) {
        decide(c, (struct str){(const char *)data.p, data.n});
        if (c->over)
            return;
        c->held = slab_new(SLAB_SMALL);
    }
    ASSERT(c->held->used + data.n <= HELLO_MAX);
    memcpy(c->held->data + c->held->used, data.p, data.n);
    c->held->used += (uint32_t)data.n;
    io->read_max = HELLO_MAX - c->held->used; /* not 0: with HELLO_MAX bytes it is decided */
    if (c->held->used > data.n)
        decide(c, (struct str){(const char *)c->held->data, c->held->used});
}

static void on_eof(struct io *io)
{
    stats_inc(handshakes_failed);
    newcomer_close(container_of(io, struct newcomer, io));
}

static void on_error(struct io *io, const char *err UNUSED)
{
    on_eof(io);
}

static const struct io_ops newcomer_ops = {
    .on_read = on_read, .on_eof = on_eof, .on_error = on_error};

static void on_deadline(struct deadline *d)
{
    stats_inc(handshakes_failed);
    newcomer_close(container_of(d, struct newcomer, deadline));
}

void passthrough_enter(int fd, const struct front_pass *pass, const struct front_door *door)
{
    const struct conf *conf = snapshot_current()->conf;
    if (!conf->passes_tls) {
        client_enter(fd, pass, door);
        return;
    }
    struct newcomer *c = calloc(1, sizeof(*c));
    ASSERT(c);
    c->pass = *pass;
    c->door = *door;
    c->io.read_max = HELLO_MAX;
    list_append(&newcomers, &c->link);
    if (conf->timeouts.handshake)
        deadline_set(&c->deadline, conf->timeouts.handshake, on_deadline);
    io_init(&c->io, fd, &newcomer_ops);
}
