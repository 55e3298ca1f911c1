/*
 * master_challenges.c - what the agent wants to be shown to a CA: to all workers, now and as they
 * come, and back to the agent once every one that accepts connections shows it; or into the DNS by
 * acme.dns_hook (dns_hook.c). What it means is the agent's and the workers' business.
 */
#include "proxy/master.h"

#include <stdlib.h>

#include "base/log.h"
#include "proxy/challenges.h"
#include "proxy/dns_hook.h"

#define SHOW_LIMIT_MS 60000 /* generous: then a worker hangs, and the order goes another way */

#define BYTES_MAX                                                                         \
    ((size_t)8 * 1024 * 1024)        /* of all: a worker that starts is sent them at once \
                                      */
#define DNS_LABEL "_acme-challenge." /* RFC 8555 8.4 */

/* A challenge that the agent has not taken back. */
struct proof {
    struct list link;
    uint64_t id; /* the agent's */
    /* The workers' name for it, unique for our life: what one of them says late must not be taken
     * for a word about a challenge of the next agent, whose ids begin anew. */
    uint64_t told;
    uint32_t kind;
    bool answered;
    struct worker_set due; /* accept connections, and did not say yet that they show it */
    struct deadline limit;
    struct dns_hook *hook; /* puts it into the DNS; NULL: not, or it has ended */
    bool hooked;           /* it has ended: what it did is to be undone */
    size_t n;
    char tail[];
};

static struct list proofs = {&proofs, &proofs};
static unsigned count;
static size_t bytes; /* of their tails */
static uint64_t last_told;

/* ---- to the agent ---- */

/* err NULL: it is shown. */
static void answer(uint64_t id, const char *err)
{
    struct msg_challenge_done m = {.id = id, .ok = !err};
    if (master.agent.peer)
        msg_send(master.agent.peer, MSG_CHALLENGE_DONE, &m, str_sub(str_of(err), 0, 512), -1);
}

static void proof_answer(struct proof *p, const char *err)
{
    if (p->answered)
        return;
    p->answered = true;
    deadline_cancel(&p->limit);
    answer(p->id, err);
}

/* Before we serve, nobody listens: no CA is to be sent here yet. */
void challenges_settle(void)
{
    if (master.state == MASTER_STARTING)
        return;
    LIST_EACH (&proofs, it) {
        struct proof *p = container_of(it, struct proof, link);
        if (p->kind != MSG_CHALLENGE_DNS && !worker_set_count(&p->due))
            proof_answer(p, NULL);
    }
}

static void on_limit(struct deadline *d)
{
    struct proof *p = container_of(d, struct proof, limit);
    if (worker_set_count(&p->due))
        proof_answer(p, "a worker did not take the challenge in time: it hangs, or the machine is "
                        "too busy");
}

/* ---- to workers ---- */

static void proof_send(const struct proof *p, struct worker *w, bool on)
{
    struct msg_challenge m = {.id = p->told, .kind = p->kind, .on = on};
    if (w->peer && p->kind != MSG_CHALLENGE_DNS)
        msg_send(w->peer, MSG_CHALLENGE, &m, on ? (struct str){p->tail, p->n} : STR_NULL, -1);
}

/* One that starts has it before its first listener: the order of messages is kept. */
static void proof_show(struct proof *p)
{
    LIST_EACH (&master.workers, it) {
        struct worker *w = container_of(it, struct worker, link);
        proof_send(p, w, true);
        if (worker_accepts(w))
            worker_set_add(&p->due, w);
    }
    deadline_set(&p->limit, SHOW_LIMIT_MS, on_limit);
    master_changed();
}

void challenges_replay(struct worker *to)
{
    LIST_EACH (&proofs, it)
        proof_send(container_of(it, struct proof, link), to, true);
}

/* ---- to the DNS ---- */

/* The agent may be at work by a configuration that is not in use yet. */
static const struct conf *agent_conf(void)
{
    const struct loaded *next = master.reload.next;
    return next && next->conf->generation == master.agent.sent ? next->conf : master_conf();
}

static struct dns_hook *hook_run(const struct proof *p, const char *verb,
                                 void (*done)(void *ctx, const char *err))
{
    const struct conf *c = agent_conf();
    const char *home = c->uid == (uid_t)-1 ? getenv("HOME") : NULL;
    struct challenge_text t;
    char name[MSG_TAIL_MAX + sizeof(DNS_LABEL)];
    struct out o = out_on(name, sizeof(name));
    ASSERT(challenge_text_read((struct str){p->tail, p->n}, &t));
    out_lit(&o, DNS_LABEL);
    out_str(&o, t.host);
    struct dns_hook_spec spec = {.path = c->acme.dns_hook,
                                 .verb = verb,
                                 .name = out_done(&o),
                                 .value = t.answer,
                                 .home = home ? str_of(home) : c->state,
                                 .uid = c->uid,
                                 .gid = c->gid,
                                 .limit_ms = DNS_HOOK_LIMIT_MS};
    return dns_hook_start(&spec, done, (void *)(uintptr_t)p);
}

static void on_presented(void *ctx, const char *err)
{
    struct proof *p = ctx;
    p->hook = NULL;
    p->hooked = true;
    proof_answer(p, err);
}

static void dns_begin(struct proof *p)
{
    if (agent_conf()->acme.dns_hook.n)
        p->hook = hook_run(p, "present", on_presented);
    else
        proof_answer(p, "acme.dns_hook is not set: dns-01 needs a program that changes the DNS");
}

/* A run that failed may have done a part. Who takes it out hears nothing of it: the log does. */
static void dns_end(struct proof *p)
{
    bool begun = p->hook ? dns_hook_let_go(&p->hook) : p->hooked;
    if (begun && agent_conf()->acme.dns_hook.n && master.state != MASTER_STOPPING)
        hook_run(p, "cleanup", NULL);
}

void challenges_stop(void)
{
    LIST_EACH (&proofs, it) {
        struct proof *p = container_of(it, struct proof, link);
        if (p->hook)
            dns_hook_let_go(&p->hook);
    }
    dns_hook_stop_all();
}

/* ---- begin and end ---- */

static void proof_end(struct proof *p)
{
    dns_end(p);
    LIST_EACH (&master.workers, it)
        proof_send(p, container_of(it, struct worker, link), false);
    deadline_cancel(&p->limit);
    list_remove(&p->link);
    count--;
    bytes -= p->n;
    free(p);
}

static struct proof *proof_find(uint64_t id)
{
    LIST_EACH (&proofs, it) {
        struct proof *p = container_of(it, struct proof, link);
        if (p->id == id)
            return p;
    }
    return NULL;
}

static void proof_begin(const struct msg_challenge *m, struct str tail)
{
    struct proof *p = calloc(1, sizeof(*p) + tail.n);
    ASSERT(p);
    p->id = m->id;
    p->told = ++last_told;
    p->kind = m->kind;
    p->n = tail.n;
    memcpy(p->tail, tail.p, tail.n);
    list_append(&proofs, &p->link);
    count++;
    bytes += p->n;
    if (p->kind == MSG_CHALLENGE_DNS)
        dns_begin(p);
    else
        proof_show(p);
}

/* ---- from the agent ---- */

void challenge_came(const struct msg_challenge *m, struct str tail)
{
    struct challenge_text t;
    struct proof *known = proof_find(m->id);
    if (known)
        proof_end(known);
    if (!m->on)
        return;
    if (master.state == MASTER_STOPPING)
        answer(m->id, "headgate stops");
    else if (count >= CHALLENGES_MAX || bytes + tail.n > BYTES_MAX)
        answer(m->id, "too many challenges are shown already: some orders must end first");
    else if (!challenge_text_read(tail, &t))
        answer(m->id, "the challenge is not whole");
    else
        proof_begin(m, tail);
}

void challenges_agent_gone(void)
{
    LIST_EACH_SAFE (&proofs, it)
        proof_end(container_of(it, struct proof, link));
}

/* ---- from workers ---- */

void challenge_said(struct worker *from, const struct msg_challenge_done *m, struct str why)
{
    LIST_EACH (&proofs, it) {
        struct proof *p = container_of(it, struct proof, link);
        if (p->told != m->id)
            continue;
        worker_set_remove(&p->due, from);
        if (!m->ok)
            proof_answer(p, why.n ? why.p : "a worker refused the challenge");
        master_changed();
        return;
    }
}

void challenges_worker_gone(const struct worker *w)
{
    LIST_EACH (&proofs, it)
        worker_set_remove(&container_of(it, struct proof, link)->due, w);
    master_changed();
}
