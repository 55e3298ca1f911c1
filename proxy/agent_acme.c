/*
 * agent_acme.c - between the issuer and the master: certificates, challenges, states, and answers
 * to `headgate certs`. Nothing is decided here.
 */
#include "proxy/agent_acme.h"

#include <openssl/crypto.h>
#include <stdlib.h>
#include <unistd.h>

#include "acme/issuer.h"
#include "base/file.h"
#include "base/log.h"
#include "proxy/admin.h"
#include "proxy/agent_certs.h"
#include "proxy/agent_challenges.h"

static struct {
    struct issuer *issuer;
    struct msg_peer *master;
} self;

static void on_cert(void *ctx, struct str host, struct str pem, int64_t not_after)
{
    (void)ctx;
    const char *err = agent_cert_send(self.master, host, pem, not_after, AGENT_ISSUER_ACME);
    if (err)
        log_error("certificate cannot be served", "host", STR_FMT, STR_ARG(host), "cause", "%s",
                  err);
}

static uint64_t on_show(void *ctx, const struct challenge *c,
                        void (*done)(void *arg, const char *err), void *arg)
{
    (void)ctx;
    return agent_challenge_show(c, done, arg);
}

static void on_hide(void *ctx, uint64_t id)
{
    (void)ctx;
    agent_challenge_hide(id);
}

static void on_state(void *ctx, const struct issuer_state *s)
{
    (void)ctx;
    static const uint32_t steps[] = {[ISSUER_SERVED] = MSG_CERT_SERVED,
                                     [ISSUER_WORKING] = MSG_CERT_WORKING,
                                     [ISSUER_WAITING] = MSG_CERT_WAITING};
    struct msg_cert_state m = {.not_after = (uint64_t)s->not_after,
                               .next_at = (uint64_t)s->next_at,
                               .step = steps[s->step],
                               .failures = s->failures};
    char tail[1024];
    struct out o = out_on(tail, sizeof(tail));
    out_str(&o, s->host);
    out_char(&o, '\0');
    out_bytes(&o, s->issuer, strlen(s->issuer) + 1);
    out_bytes(&o, s->error, strlen(s->error) + 1);
    ASSERT(!o.over);
    msg_send(self.master, MSG_CERT_STATE, &m, out_done(&o), -1);
}

static void on_answer(void *ctx, uint64_t ask, bool ok, json_t *answer)
{
    (void)ctx;
    struct msg_answer m = {.id = ask, .status = ok ? ADMIN_FINE : ADMIN_FAILED};
    char *text = json_dumps(answer, JSON_COMPACT);
    json_decref(answer);
    ASSERT(text);
    int fd = file_memfd("headgate-certs", str_of(text));
    free(text);
    if (fd < 0) {
        log_error("no answer about certificates", "cause", "%s", err_of_errno(errno));
        return; /* the master's patience ends it */
    }
    msg_send(self.master, MSG_CERTS_ANSWER, &m, STR_NULL, fd);
    close(fd);
}

void agent_acme_use(struct conf *c, const struct str *hosts, unsigned n, struct msg_peer *master,
                    const char *state)
{
    static const struct issuer_ops ops = {
        .cert = on_cert, .show = on_show, .hide = on_hide, .state = on_state, .answer = on_answer};
    self.master = master;
    if (!self.issuer)
        self.issuer = issuer_new(state, c->state.p, &ops, NULL);
    issuer_use(self.issuer, c, hosts, n);
}

bool agent_acme_serves(struct str host)
{
    return self.issuer && issuer_serves(self.issuer, host);
}

void agent_acme_ask(const struct msg_ask *m, struct str tail)
{
    struct str what, host = STR_NULL;
    if (!self.issuer || !str_split(&tail, '\0', &what))
        return; /* the master's patience ends it */
    (void)str_split(&tail, '\0', &host);
    issuer_ask(self.issuer, m->id, what, host);
}

void agent_acme_stop(void)
{
    issuer_close(&self.issuer);
}
