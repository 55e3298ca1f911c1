/*
 * master_messages.c - what workers are told and what they answer, in the order of roles.h. What
 * follows from an answer is decided in master_workers.c and master_reload.c.
 */
#include "proxy/master.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/sandbox.h"
#include "proxy/tls.h"

#define TICKET_TURN_MS (8 * 3600 * 1000u) /* a ticket is good for two turns at most */

/* ---- roots ---- */

static bool id_among(struct root_id id, const struct root_id *ids, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (ids[i].dev == id.dev && ids[i].ino == id.ino)
            return true;
    return false;
}

/* Is the folder, or one above it, among those that the worker's sandbox opened? */
static bool path_covered(const struct worker *w, struct str path)
{
    char z[4096];
    if (path.n >= sizeof(z))
        return false;
    memcpy(z, path.p, path.n);
    z[path.n] = '\0';
    for (;;) {
        struct stat st;
        if (stat(z, &st) == 0 &&
            id_among((struct root_id){st.st_dev, st.st_ino}, w->roots, w->n_roots))
            return true;
        char *slash = strrchr(z, '/');
        if (!slash || z[1] == '\0')
            return false;
        slash[slash == z ? 1 : 0] = '\0';
    }
}

bool worker_sees(const struct worker *w, const struct loaded *l)
{
    if (!sandbox_has_landlock())
        return true;
    for (unsigned i = 0; i < l->n_roots; i++)
        if (!id_among(l->root_ids[i], w->roots, w->n_roots) &&
            !path_covered(w, l->conf->roots[i].path))
            return false;
    return true;
}

/* ---- to workers ---- */

static const struct msg_empty empty;

static void send_cert(struct worker *w, const struct master_cert *c)
{
    msg_send(w->peer, MSG_CERT, &c->fixed, str_of(c->host), c->fd);
}

void workers_tell_cert(const struct master_cert *c)
{
    LIST_EACH (&master.workers, it) {
        struct worker *w = container_of(it, struct worker, link);
        if (w->peer)
            send_cert(w, c);
    }
}

static void send_access_log(struct worker *w)
{
    if (w->peer && master.access_fd >= 0)
        msg_send(w->peer, MSG_ACCESS_LOG, &empty, master_conf()->log.to, master.access_fd);
}

void workers_tell_access_log(void)
{
    LIST_EACH (&master.workers, it) {
        send_access_log(container_of(it, struct worker, link));
    }
}

void worker_send_config(struct worker *w, const struct loaded *l)
{
    uint64_t generation = l->conf->generation;
    for (unsigned i = 0; i < l->n_roots; i++) {
        struct msg_root r = {.generation = generation, .index = i};
        msg_send(w->peer, MSG_ROOT, &r, l->conf->roots[i].path, l->root_fds[i]);
    }
    struct msg_generation g = {generation};
    msg_send(w->peer, MSG_CONFIG, &g, STR_NULL, l->bundle_fd);
    w->sent = generation;
    w->refused = false;
}

static uint32_t instance_state_of(enum inst_state s)
{
    switch (s) {
    case INST_READY:
        return INSTANCE_READY;
    case INST_DRAINING:
    case INST_STOPPING:
        return INSTANCE_DRAINING;
    case INST_BACKOFF:
    case INST_STARTING:
    case INST_UNREADY:
    case INST_GONE:
        break;
    }
    return INSTANCE_STARTING;
}

static void send_instance(struct worker *w, uint64_t id, const char *service, enum inst_state state,
                          const struct inst_address *at)
{
    if (!w->peer)
        return;
    if (state == INST_GONE) {
        struct msg_instance_gone g = {id};
        msg_send(w->peer, MSG_INSTANCE_GONE, &g, STR_NULL, -1);
        return;
    }
    char tail[MSG_TAIL_MAX];
    struct out o = out_on(tail, sizeof(tail));
    out_bytes(&o, service, strlen(service) + 1);
    out_bytes(&o, at->text ? at->text : "", at->text ? strlen(at->text) + 1 : 1);
    if (at->url)
        out_str(&o, at->url->authority);
    out_char(&o, '\0');
    ASSERT(!o.over); /* the schema bounds names, and sun_path bounds addresses */
    for (unsigned i = 0; i < at->n_ports; i++) {
        out_str(&o, at->ports[i].name);
        out_char(&o, '=');
        out_u64(&o, at->ports[i].number);
        out_char(&o, '\0');
    }
    if (o.over) { /* hundreds of ports */
        log_error("an instance has more ports than can be told", "service", "%s", service);
        return;
    }
    const struct conf_backend *url = at->url;
    struct msg_instance m = {.id = id, .state = instance_state_of(state), .tls = url && url->tls};
    msg_send(w->peer, MSG_INSTANCE, &m, out_done(&o), -1);
}

void workers_tell_instance(void *ctx, uint64_t id, const char *service, enum inst_state state,
                           const struct inst_address *at)
{
    (void)ctx;
    LIST_EACH (&master.workers, it) {
        send_instance(container_of(it, struct worker, link), id, service, state, at);
    }
    if (state == INST_GONE) {
        orphans_tell_gone(id);
        eject_forget(id);
    }
    if (state == INST_DRAINING)
        idle_await(id);
    else
        idle_forget(id);
}

static void send_hold(void *worker, const char *service, bool on)
{
    struct worker *w = worker;
    if (w->peer)
        msg_send(w->peer, MSG_HOLD, &(struct msg_hold){.on = on}, str_of(service), -1);
}

void workers_tell_hold(void *ctx, const char *service, bool on)
{
    (void)ctx;
    LIST_EACH (&master.workers, it) {
        send_hold(container_of(it, struct worker, link), service, on);
    }
    if (on)
        idle_await_service(service);
    else
        idle_forget_service(service);
}

static void replay_instance(void *ctx, uint64_t id, const char *service, enum inst_state state,
                            const struct inst_address *at)
{
    send_instance(ctx, id, service, state, at);
}

void worker_introduce(struct worker *w, const struct loaded *l, int rescue_fd)
{
    struct msg_hello hello = {MSG_VERSION, ROLE_MASTER, w->num, (uint32_t)getpid()};
    struct msg_setup setup = {w->num, master_conf()->workers};
    msg_send(w->peer, MSG_HELLO, &hello, STR_NULL, -1);
    msg_send(w->peer, MSG_SETUP, &setup, STR_NULL, master.stats_fd);
    msg_send(w->peer, MSG_ROWS, &empty, STR_NULL, master.rows_fd);
    msg_send(w->peer, MSG_RATES, &empty, STR_NULL, master.rates_fd);
    msg_send(w->peer, MSG_TALLY, &empty, STR_NULL, master.tally_fd);
    msg_send(w->peer, MSG_RESCUE, &empty, STR_NULL, rescue_fd);
    msg_send(w->peer, MSG_TICKET_KEYS, &master.tickets, STR_NULL, -1);
    send_access_log(w);
    LIST_EACH (&master.certs, it) {
        send_cert(w, container_of(it, struct master_cert, link));
    }
    challenges_replay(w);
    w->n_roots = l->n_roots;
    w->roots = calloc(l->n_roots + 1, sizeof(*w->roots));
    ASSERT(w->roots);
    memcpy(w->roots, l->root_ids, l->n_roots * sizeof(*w->roots));
    worker_send_config(w, l);
    if (master.supervisor)
        supervisor_replay(master.supervisor, replay_instance, w);
    if (master.supervisor)
        supervisor_replay_holds(master.supervisor, send_hold, w);
}

/* ---- ticket keys ---- */

static void on_ticket_turn(struct deadline *d)
{
    struct msg_ticket_keys *t = &master.tickets;
    t->epoch++;
    t->previous = t->current;
    t->current = t->next;
    tls_ticket_key_make(&t->next);
    LIST_EACH (&master.workers, it) {
        struct worker *w = container_of(it, struct worker, link);
        if (w->peer)
            msg_send(w->peer, MSG_TICKET_KEYS, t, STR_NULL, -1);
    }
    deadline_set(d, TICKET_TURN_MS, on_ticket_turn);
}

void tickets_start(void)
{
    master.tickets.epoch = 1;
    tls_ticket_key_make(&master.tickets.previous);
    tls_ticket_key_make(&master.tickets.current);
    tls_ticket_key_make(&master.tickets.next);
    deadline_set(&master.ticket_turn, TICKET_TURN_MS, on_ticket_turn);
}

/* ---- from workers ---- */

static void on_config_done(struct worker *w, const struct msg_done *d, struct str why)
{
    w->answered = d->generation;
    w->refused = !d->ok;
    struct out o = out_on(w->refused_why, sizeof(w->refused_why) - 1);
    out_str(&o, str_sub(why, 0, sizeof(w->refused_why) - 1));
    w->refused_why[o.n] = '\0';
    if (w->refused)
        log_error("worker refused the configuration", "worker", "%u", w->num, "cause", "%s",
                  w->refused_why);
    master_changed();
}

static void broken(struct worker *w, const char *why)
{
    log_error("worker broke the protocol: killed", "worker", "%u", w->num, "pid", "%d", (int)w->pid,
              "cause", "%s", why);
    worker_kill(w);
}

void worker_on_msg(void *ctx, struct msg *m)
{
    struct worker *w = ctx;
    if (m->fd >= 0)
        close(m->fd); /* workers have nothing to hand over */
    switch (m->type) {
    case MSG_HELLO: {
        const struct msg_hello *h = m->fixed;
        if (h->version != MSG_VERSION || h->role != ROLE_WORKER)
            broken(w, "is another version's");
        break;
    }
    case MSG_CONFIG_DONE:
        on_config_done(w, m->fixed, m->tail);
        break;
    case MSG_READY:
        if (w->state == WORKER_STARTING && w->slot && w->slot->next == w)
            slot_event(w->slot, SLOT_READY);
        break;
    case MSG_LISTENER_DROPPED:
        if (w->drops_due)
            w->drops_due--;
        master_changed();
        break;
    case MSG_INSTANCE_IDLE:
        idle_said(w, ((const struct msg_instance_gone *)m->fixed)->id);
        break;
    case MSG_EJECT:
        eject_said(w, m->fixed, m->tail);
        break;
    case MSG_CHALLENGE_DONE:
        challenge_said(w, m->fixed, m->tail);
        break;
    case MSG_DEMAND:
        log_debug("requests wait for a service", "service", "%s", m->tail.p, "worker", "%u",
                  w->num);
        break;
    case MSG_HELD:
        idle_said_service(w, m->tail);
        break;
    case MSG_PREPARED:
    case MSG_COMMITTED:
        break; /* answers to what only a switch of releases asks */
    default:
        broken(w, "sent a message that is not a worker's to send");
    }
}

void worker_on_gone(void *ctx, const char *why)
{
    struct worker *w = ctx;
    msg_peer_close(&w->peer);
    if (why != err_eof && why != err_reset)
        broken(w, why);
    else if (w->state != WORKER_DRAINING)
        worker_kill(w); /* it is on its way out, or hangs there: SIGCHLD tells the rest */
}
