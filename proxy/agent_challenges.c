/*
 * agent_challenges.c - what the agent has asked for and not taken back, by number.
 */
#include "proxy/agent_challenges.h"

#include <stdlib.h>

#include "proxy/challenges.h"

struct asked {
    struct list link;
    uint64_t id;
    enum conf_challenge kind;
    void (*done)(void *ctx, const char *err); /* NULL: it was called */
    void *ctx;
};

static struct list all = {&all, &all};
static struct msg_peer *peer; /* NULL: the master is gone */
static uint64_t last_id;

void agent_challenges_start(struct msg_peer *master)
{
    peer = master;
}

static void asked_free(struct asked *a)
{
    list_remove(&a->link);
    free(a);
}

void agent_challenges_stop(void)
{
    peer = NULL;
    LIST_EACH_SAFE (&all, it)
        asked_free(container_of(it, struct asked, link));
}

static struct asked *asked_find(uint64_t id)
{
    LIST_EACH (&all, it) {
        struct asked *a = container_of(it, struct asked, link);
        if (a->id == id)
            return a;
    }
    return NULL;
}

static void tell(uint64_t id, enum conf_challenge kind, bool on, struct str tail)
{
    static const uint32_t kinds[CONF_CHALLENGES] = {[CONF_TLS_ALPN_01] = MSG_CHALLENGE_TLS_ALPN,
                                                    [CONF_HTTP_01] = MSG_CHALLENGE_HTTP,
                                                    [CONF_DNS_01] = MSG_CHALLENGE_DNS};
    struct msg_challenge m = {.id = id, .kind = kinds[kind], .on = on};
    if (peer)
        msg_send(peer, MSG_CHALLENGE, &m, tail, -1);
}

uint64_t agent_challenge_show(const struct challenge *c, void (*done)(void *ctx, const char *err),
                              void *ctx)
{
    char text[MSG_TAIL_MAX];
    struct out tail = out_on(text, sizeof(text));
    struct challenge_text t = {c->host, c->token, c->answer};
    challenge_text_write(&t, &tail);
    ASSERT(!tail.over); /* challenge.h bounds host and token, and the answer is our own */
    struct asked *a = calloc(1, sizeof(*a));
    ASSERT(a);
    a->id = ++last_id;
    a->kind = c->kind;
    a->done = done;
    a->ctx = ctx;
    list_append(&all, &a->link);
    tell(a->id, c->kind, true, out_done(&tail));
    return a->id;
}

void agent_challenge_hide(uint64_t id)
{
    struct asked *a = asked_find(id);
    if (!a)
        return;
    tell(id, a->kind, false, STR_NULL);
    asked_free(a);
}

void agent_challenge_said(const struct msg_challenge_done *m, struct str why)
{
    struct asked *a = asked_find(m->id);
    if (!a || !a->done)
        return;
    void (*done)(void *, const char *) = a->done;
    a->done = NULL;
    done(a->ctx, m->ok ? NULL : why.n ? why.p : "the challenge cannot be shown");
}
