/*
 * master_agent.c - the agent's life in the master, and the certificates that it sends: kept for
 * workers that come later, handed on to those that are there.
 */
#include "proxy/master.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>

#include <unistd.h>

#include "base/log.h"
#include "base/proc.h"
#include "base/stats.h"

#define BACKOFF_FIRST_MS 250
#define BACKOFF_MAX_MS   60000
#define STEADY_MS        60000 /* lived this long: the next death starts from the first backoff */
#define CERTS_LIMIT_MS   60000 /* generous: then the others go on without it */
#define STOP_LIMIT_MS    5000
#define PATIENCE_MS      2000 /* a pause this short is waited for */

static struct agent *const agent = &master.agent;

/* ---- certificates ---- */

static struct master_cert *cert_of(struct str host)
{
    LIST_EACH (&master.certs, it) {
        struct master_cert *c = container_of(it, struct master_cert, link);
        if (str_eq(str_of(c->host), host))
            return c;
    }
    return NULL;
}

const struct master_cert *cert_find(struct str host)
{
    return cert_of(host);
}

static void cert_free(struct master_cert *c)
{
    list_remove(&c->link);
    if (c->fd >= 0)
        close(c->fd);
    free(c->host);
    free(c);
}

/*
 * A host of the configuration, or of the one that is coming; "*": names that no site has. About
 * others the agent may speak when a reload took them meanwhile; what it says of those is dropped.
 */
static bool is_named(struct str host)
{
    const struct loaded *next = master.reload.next;
    return str_eq(host, STR("*")) || conf_names_host(master_conf(), host) ||
           (next && conf_names_host(next->conf, host));
}

/* Takes over the descriptor. */
static void cert_came(const struct msg_cert *fixed, struct str host, int fd)
{
    if (!is_named(host)) {
        close(fd);
        return;
    }
    struct master_cert *c = cert_of(host);
    bool same = c && memcmp(c->fixed.digest, fixed->digest, sizeof(fixed->digest)) == 0;
    if (!c) {
        c = calloc(1, sizeof(*c));
        ASSERT(c);
        c->fd = -1;
        c->host = strndup(host.p, host.n);
        ASSERT(c->host);
        list_append(&master.certs, &c->link);
    }
    if (c->fd >= 0)
        close(c->fd);
    c->fd = fd;
    c->fixed = *fixed;
    c->generation = agent->sent;
    if (!same)
        workers_tell_cert(c);
}

/* Hosts that the configuration does not name any more. */
void certs_drop_older(uint64_t generation)
{
    LIST_EACH_SAFE (&master.certs, it) {
        struct master_cert *c = container_of(it, struct master_cert, link);
        if (c->generation < generation)
            cert_free(c);
    }
    cert_states_drop_older(generation);
}

/* ---- messages ---- */

static void problem_set(const char *why)
{
    struct out o = out_on(agent->problem, sizeof(agent->problem) - 1);
    out_str(&o, str_sub(str_of(why), 0, sizeof(agent->problem) - 1));
    agent->problem[o.n] = '\0';
}

static void agent_gave_up(const char *why)
{
    problem_set(why);
    if (!agent->gave_up)
        log_error("the agent failed: certificates of the local CA may be missing", "cause", "%s",
                  why);
    agent->gave_up = true;
    master_changed();
}

static void on_certs_done(const struct msg_done *d, struct str why)
{
    deadline_cancel(&agent->limit);
    agent->state = AGENT_SERVING;
    agent->certs_done = d->generation;
    agent->certs_ok = d->ok != 0;
    agent->gave_up = false;
    problem_set(d->ok ? "" : why.p);
    if (!d->ok)
        log_error("certificates are missing", "cause", "%s", why.p);
    master_changed();
}

static void on_resolved(const struct msg_resolved *m, struct str tail)
{
    struct str name;
    if (!master.supervisor || !str_split(&tail, '\0', &name))
        return;
    if (m->ok)
        supervisor_resolved(master.supervisor, name, tail, NULL);
    else
        supervisor_resolved(master.supervisor, name, STR_NULL,
                            tail.n ? tail.p : "it has no address");
}

static void on_msg(void *ctx, struct msg *m)
{
    (void)ctx;
    switch (m->type) {
    case MSG_CERT:
        cert_came(m->fixed, m->tail, m->fd);
        return;
    case MSG_CERTS_DONE:
        on_certs_done(m->fixed, m->tail);
        return;
    case MSG_RESOLVED:
        on_resolved(m->fixed, m->tail);
        return;
    case MSG_CHALLENGE:
        challenge_came(m->fixed, m->tail);
        return;
    case MSG_CERT_STATE:
        if (is_named(str_sub(m->tail, 0, str_chr(m->tail, '\0'))))
            cert_state_came(m->fixed, m->tail);
        return;
    case MSG_CERTS_ANSWER:
        ask_answered(m->fixed, m->fd);
        return;
    case MSG_CONFIG_DONE:
        if (!((const struct msg_done *)m->fixed)->ok)
            agent_gave_up(m->tail.p);
        return;
    case MSG_HELLO:
    case MSG_READY:
        return;
    default:
        break;
    }
    if (m->fd >= 0)
        close(m->fd);
    log_error("agent broke the protocol: killed", "message", "%s", msg_name(m->type));
    proc_signal_group(agent->pid, SIGKILL);
}

static void on_gone(void *ctx, const char *why)
{
    (void)ctx;
    msg_peer_close(&agent->peer);
    if (why != err_eof && why != err_reset)
        log_error("agent broke the protocol: killed", "cause", "%s", why);
    if (agent->pid > 0)
        proc_signal_group(agent->pid, SIGKILL);
}

static void on_limit(struct deadline *d)
{
    (void)d;
    agent_gave_up("it did not send its certificates in time");
}

void agent_configure(const struct loaded *l)
{
    if (!agent->peer)
        return;
    struct msg_generation g = {l->conf->generation};
    msg_send(agent->peer, MSG_CONFIG, &g, STR_NULL, l->bundle_fd);
    agent->sent = l->conf->generation;
    if (agent->state == AGENT_STARTING)
        agent->gave_up = false; /* a new one: each gets its try */
    deadline_set(&agent->limit, CERTS_LIMIT_MS, on_limit);
}

void agent_resolve(struct str name)
{
    struct msg_empty none = {0};
    if (agent->peer)
        msg_send(agent->peer, MSG_RESOLVE, &none, name, -1);
}

bool agent_settled(uint64_t generation)
{
    /* One that just died is back in a moment, and starts with this very configuration. */
    if (agent->state == AGENT_BACKOFF && agent->sent < generation &&
        agent->backoff_ms <= PATIENCE_MS)
        return false;
    return agent->gave_up || !agent->peer || agent->certs_done == generation;
}

/* ---- life ---- */

static void on_pause_over(struct deadline *d)
{
    (void)d;
    agent_start();
}

static void agent_failed(const char *why)
{
    agent_gave_up(why);
    if (loop_now_ms() - agent->started_ms >= STEADY_MS)
        agent->backoff_ms = 0;
    agent->backoff_ms =
        agent->backoff_ms ? MIN(agent->backoff_ms * 2, BACKOFF_MAX_MS) : BACKOFF_FIRST_MS;
    agent->state = AGENT_BACKOFF;
    deadline_set(&agent->pause, agent->backoff_ms, on_pause_over);
}

void agent_start(void)
{
    struct arena *a = arena_new(4096);
    int fd;
    agent->started_ms = loop_now_ms();
    /* Its working folder is the state folder: it gets there even where the way to it is closed. */
    const char *state = arena_strz(a, master_conf()->state);
    const char *err = role_spawn(a, "agent", state, &fd, &agent->pid);
    if (err) {
        agent->pid = -1;
        agent_failed(err);
    } else {
        agent->state = AGENT_STARTING;
        agent->peer = msg_peer_new(fd, NULL, on_msg, on_gone);
        struct msg_hello hello = {MSG_VERSION, ROLE_MASTER, 0, (uint32_t)getpid()};
        struct msg_setup setup = {ROLE_STATS_AGENT, master_conf()->workers};
        msg_send(agent->peer, MSG_HELLO, &hello, STR_NULL, -1);
        msg_send(agent->peer, MSG_SETUP, &setup, STR_NULL, master.stats_fd);
        agent_configure(master.reload.next ? master.reload.next : master.loaded);
    }
    arena_free(&a);
}

void agent_reap(void)
{
    int status;
    char how[64];
    if (agent->pid <= 0 || waitpid(agent->pid, &status, WNOHANG) != agent->pid)
        return;
    agent->pid = -1;
    deadline_cancel(&agent->limit);
    msg_peer_close(&agent->peer);
    challenges_agent_gone();
    asks_agent_gone();
    stats_slot_died(ROLE_STATS_AGENT);
    proc_status_text(status, how, sizeof(how));
    if (master.state == MASTER_STOPPING) {
        agent->state = AGENT_STOPPED;
    } else {
        agent->restarts++;
        stats_inc(agent_restarts);
        log_error("agent died", "how", "%s", how);
        agent_failed(how);
    }
    master_changed();
}

static void on_stop_limit(struct deadline *d)
{
    (void)d;
    if (agent->pid > 0)
        proc_signal_group(agent->pid, SIGKILL);
}

/* The end of its socket is its sign to go. */
void agent_stop(void)
{
    deadline_cancel(&agent->pause);
    deadline_cancel(&agent->limit);
    msg_peer_close(&agent->peer);
    if (agent->pid > 0)
        deadline_set(&agent->limit, STOP_LIMIT_MS, on_stop_limit);
    else
        agent->state = AGENT_STOPPED;
}
