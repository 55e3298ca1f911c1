/*
 * issuer_world.h - for test_issuer.c: CAs, orders and the look at DNS as the issuer sees them,
 * played by the test. It stands in for acme/ca.c, order.c and preflight.c.
 */
#ifndef HG_TEST_ISSUER_WORLD_H
#define HG_TEST_ISSUER_WORLD_H

#include "acme/issuer_parts.h"

struct ca {
    char name[64], root_pem[64], eab_kid[64]; /* as it was opened with */
    struct str directory;                     /* of the configuration */
    int64_t paused_until;
    struct acme_fail problem;
    const char *ari; /* URL; "" none */
    bool unread;     /* its directory */
    ca_done *done;   /* of the call under way */
    void *ctx;
    char step[32];
};
static struct ca cas[8];
static unsigned n_cas;

static struct ca *ca_named(const char *name)
{
    for (unsigned i = 0; i < n_cas; i++)
        if (strcmp(cas[i].name, name) == 0)
            return &cas[i];
    return NULL;
}

struct ca *ca_open(const struct ca_spec *spec)
{
    char name[64];
    text_copy(name, sizeof(name), spec->name);
    struct ca *ca = ca_named(name);
    if (!ca) {
        ca = &cas[n_cas++];
        *ca = (struct ca){.ari = ""};
        text_copy(ca->name, sizeof(ca->name), spec->name);
    }
    text_copy(ca->root_pem, sizeof(ca->root_pem), spec->root_pem);
    text_copy(ca->eab_kid, sizeof(ca->eab_kid), spec->eab_kid);
    ca->directory = spec->directory;
    return ca;
}

struct str ca_directory(const struct ca *ca)
{
    return ca->directory;
}

void ca_close(struct ca **ca)
{
    *ca = NULL;
}

const char *ca_url(const struct ca *ca, enum ca_resource r)
{
    if (ca->unread)
        return "";
    return r == CA_RENEWAL_INFO ? ca->ari : "https://ca.test/x";
}

int64_t ca_paused_until(const struct ca *ca)
{
    return ca->paused_until > wall_s() ? ca->paused_until : 0;
}

const struct acme_fail *ca_problem(const struct ca *ca)
{
    return ca->problem.kind ? &ca->problem : NULL;
}

const char *ca_account_url(const struct ca *ca UNUSED)
{
    return "https://ca.test/acct/1";
}

static struct ca_call *call(struct ca *ca, const char *step, ca_done *done, void *ctx)
{
    ca->done = done;
    ca->ctx = ctx;
    text_copy(ca->step, sizeof(ca->step), str_of(step));
    return (struct ca_call *)ca;
}

struct ca_call *ca_get(struct ca *ca, enum ca_resource r UNUSED, const char *suffix UNUSED,
                       const char *step, ca_done *done, void *ctx)
{
    return call(ca, step, done, ctx);
}

struct ca_call *ca_roll_key(struct ca *ca, ca_done *done, void *ctx)
{
    return call(ca, "roll", done, ctx);
}

struct ca_call *ca_revoke(struct ca *ca, struct str leaf_der UNUSED, unsigned reason UNUSED,
                          ca_done *done, void *ctx)
{
    return call(ca, "revoke", done, ctx);
}

void ca_call_cancel(struct ca_call **c)
{
    if (*c)
        ((struct ca *)*c)->done = NULL;
    *c = NULL;
}

static void ca_answers(const char *name, const struct ca_answer *a)
{
    struct ca *ca = ca_named(name);
    ca_done *done = ca->done;
    assert_non_null(done);
    ca->done = NULL;
    done(ca->ctx, a);
}

struct order {
    bool open;
    struct ca *ca;
    const struct order_ops *ops;
    void *ctx;
    char host[256], resume_url[256], replaces[256];
    unsigned n_challenges;
    enum conf_challenge challenges[CONF_CHALLENGES];
};
static struct order orders[32];
static unsigned n_orders;

struct order *order_start(struct ca *ca, const struct order_spec *s, const struct order_ops *ops,
                          void *ctx)
{
    struct order *o = &orders[n_orders++];
    *o = (struct order){.open = true, .ca = ca, .ops = ops, .ctx = ctx};
    o->n_challenges = s->n_challenges;
    memcpy(o->challenges, s->challenges, sizeof(o->challenges));
    text_copy(o->host, sizeof(o->host), s->host);
    text_copy(o->resume_url, sizeof(o->resume_url), s->resume_url);
    text_copy(o->replaces, sizeof(o->replaces), s->replaces);
    return o;
}

void order_shown(struct order *o UNUSED, const char *err UNUSED)
{
}

void order_close(struct order **o)
{
    if (*o)
        (*o)->open = false;
    *o = NULL;
}

static struct preflight_verdict verdict;
static bool looking;
static void (*looked)(void *ctx, const struct preflight_verdict *v);
static void *looked_ctx;

struct preflight *preflight_start(const struct preflight_spec *spec UNUSED,
                                  void (*done)(void *ctx, const struct preflight_verdict *v),
                                  void *ctx)
{
    looking = true;
    looked = done;
    looked_ctx = ctx;
    return (struct preflight *)&verdict;
}

void preflight_close(struct preflight **p)
{
    if (*p)
        looking = false;
    *p = NULL;
}

#endif
