/*
 * order_answer.c - what a CA's answer means for an order in the state that it is in: the event, and
 * what is kept of it. What follows is order.c's.
 */
#include "acme/csr.h"
#include "acme/order_parts.h"
#include "acme/pem.h"
#include "base/json.h"

/* From the CA's own words about this order; NULL: it has none. */
static void fail_of(struct order *o, enum acme_fail_kind kind, const json_t *problem)
{
    if (problem) {
        acme_fail_problem(&o->fail, order_step(o), 0, problem);
        o->fail.kind = kind;
    } else {
        order_fail(o, kind, "the CA gave it up and does not say why");
    }
}

static enum order_event unusable(struct order *o, const char *why)
{
    order_fail(o, ACME_BROKEN, "the CA's answer is not usable: %s", why);
    return E_FAILED;
}

static enum order_event read_order(struct order *o, const struct ca_answer *a)
{
    struct order_view v;
    const char *err = order_read(o->step, o->ca, a->json, o->spec.host, &v);
    if (err)
        return unusable(o, err);
    if (v.finalize.n)
        o->finalize = arena_strz(o->arena, v.finalize);
    if (v.certificate.n)
        o->certificate = arena_strz(o->arena, v.certificate);
    if (v.n_authorizations)
        o->n_authorizations = v.n_authorizations;
    for (unsigned i = 0; i < v.n_authorizations; i++)
        o->authorizations[i] = arena_strz(o->arena, v.authorizations[i]);
    if (v.status == ACME_STATUS_INVALID)
        fail_of(o, ACME_REFUSED, v.error);
    return (enum order_event)v.status;
}

/* RFC 9773 5: a CA that takes the order as a renewal repeats what it replaces, always. */
static bool is_renewal(const struct order *o, const json_t *j)
{
    struct str id = json_str(json_object_get(j, "replaces"));
    return id.n && str_eq(id, o->spec.replaces);
}

/* The order is there: it and its key are stored before anything else is done with it. */
static enum order_event read_new_order(struct order *o, const struct ca_answer *a)
{
    o->renewal = is_renewal(o, a->json);
    o->ops->spent(o->ctx, ORDER_SPENT_ORDER, o->renewal);
    if (!a->location.n)
        return unusable(o, "it does not say where the new order is (Location)");
    o->url = arena_strz(o->arena, a->location);
    enum order_event e = read_order(o, a);
    if (e != E_PENDING && e != E_READY)
        return e;
    if (!o->key) {
        o->key = csr_key_new(o->spec.key);
        o->key_pem = pem_of_key(o->arena, o->key);
    }
    o->saved = true;
    const char *err = o->ops->save(o->ctx, str_of(o->url), o->key_pem);
    if (!err)
        return e;
    order_fail(o, ACME_LOCAL, "the order cannot be stored: %s", err);
    return E_FAILED;
}

static void note_ways(struct order *o, const struct authz_view *v)
{
    for (unsigned i = 0; i < CONF_CHALLENGES; i++) {
        const struct authz_challenge *c = &v->challenges[i];
        struct way *w = &o->ways[i];
        w->offered = c->offered && c->status != ACME_STATUS_INVALID;
        w->under_way = c->status != ACME_STATUS_PENDING;
        w->url = arena_strz(o->arena, c->url);
        w->token = arena_str(o->arena, c->token);
    }
}

static enum order_event read_authorization(struct order *o, const struct ca_answer *a)
{
    struct authz_view v;
    struct str host = str_sub(o->spec.host, order_wild(o) ? 2 : 0, o->spec.host.n);
    const char *err = authz_read(o->step, o->ca, a->json, host, &v);
    if (err)
        return unusable(o, err);
    if (v.status == ACME_STATUS_READY)
        return unusable(o, "an authorization is never \"ready\"");
    if (v.status == ACME_STATUS_PROCESSING)
        v.status = ACME_STATUS_PENDING; /* of older drafts */
    if (o->state == S_AUTHORIZING) {
        note_ways(o, &v);
        if (v.status == ACME_STATUS_INVALID)
            fail_of(o, ACME_REFUSED, v.error);
        return (enum order_event)v.status;
    }
    const struct authz_challenge *c = &v.challenges[o->challenge.kind];
    if (c->offered && c->status != ACME_STATUS_PENDING)
        o->untold = (struct acme_fail){0};
    /* Some leave the authorization pending for another way, which we take by a new order. */
    if (v.status != ACME_STATUS_INVALID &&
        (v.status == ACME_STATUS_VALID || !c->offered || c->status != ACME_STATUS_INVALID))
        return (enum order_event)v.status;
    fail_of(o, ACME_INVALID, c->error ? c->error : v.error);
    o->fail.hint = acme_hint(o->fail.type, challenge_name(o->challenge.kind));
    return E_INVALID;
}

static enum order_event read_chain(struct order *o, const struct ca_answer *a)
{
    struct cert_facts f;
    const char *err = cert_check(o->arena, a->body, o->key_pem, o->spec.host, wall_s(), &f);
    if (o->state == S_FETCHING) {
        o->refusal = err;
        for (unsigned i = 0; i < MIN(a->n_alternates, ORDER_ALTERNATES_MAX); i++)
            o->alternates[o->n_alternates++] = arena_strz(o->arena, a->alternates[i]);
    }
    if (!err && (!o->cert.pem.n || str_eq(f.top, o->spec.chain)))
        o->cert = f;
    return E_CHAIN;
}

static enum order_event read_answer(struct order *o, const struct ca_answer *a)
{
    switch (o->state) {
    case S_ORDERING:
        return read_new_order(o, a);
    case S_RESUMING:
        o->renewal = is_renewal(o, a->json);
        return read_order(o, a);
    case S_READYING:
    case S_FINALIZING:
    case S_PROCESSING:
        return read_order(o, a);
    case S_AUTHORIZING:
    case S_VALIDATING:
        return read_authorization(o, a);
    case S_TELLING:
        return E_TOLD;
    case S_FETCHING:
    case S_ALTERNATES:
        return read_chain(o, a);
    case S_SHOWING:
    case S_ENDED:
    case N_STATES:
        break;
    }
    base_die(__FILE__, __LINE__, "an answer that nobody asked for");
}

static enum order_event failure(const struct order *o)
{
    if (o->fail.kind == ACME_NETWORK || (o->fail.kind == ACME_BUSY && order_polls(o->state)))
        return E_NETWORK;
    if (o->state == S_FINALIZING && strcmp(o->fail.type, "orderNotReady") == 0)
        return E_PENDING;
    return E_FAILED;
}

enum order_event order_answer(struct order *o, const struct ca_answer *a)
{
    o->fail = a->fail ? *a->fail : (struct acme_fail){0};
    return a->fail ? failure(o) : read_answer(o, a);
}
