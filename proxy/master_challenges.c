/*
 * master_challenges.c - what the agent wants to be shown to a CA: to all workers, now and as they
 * come, and back to the agent once every one that accepts connections shows it. What it means is
 * the agent's and the workers' business.
 */
#include "proxy/master.h"

#include <stdlib.h>

#include "base/log.h"
#include "proxy/challenges.h"

#define SHOW_LIMIT_MS 60000 /* generous: then a worker hangs, and the order goes another way */

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
    size_t n;
    char tail[];
};

static struct list proofs = {&proofs, &proofs};
static unsigned count;
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
        if (!worker_set_count(&p->due))
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
    if (w->peer)
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

static void proof_end(struct proof *p)
{
    LIST_EACH (&master.workers, it)
        proof_send(p, container_of(it, struct worker, link), false);
    deadline_cancel(&p->limit);
    list_remove(&p->link);
    count--;
    free(p);
}

void challenges_replay(struct worker *to)
{
    LIST_EACH (&proofs, it)
        proof_send(container_of(it, struct proof, link), to, true);
}

/* ---- from the agent ---- */

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
    proof_show(p);
}

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
    else if (count >= CHALLENGES_MAX)
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
