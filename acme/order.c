/*
 * order.c - one order as a table of state × event (RFC 8555 7.4, 7.5). A state is a request that is
 * under way, or the wait before it; an event is what its answer means; only the actions of the
 * table lead from state to state. What a CA's objects must look like is order_read.c's, when a
 * chain is good cert_check.c's.
 */
#include "acme/order.h"

#include <inttypes.h>

#include "acme/csr.h"
#include "acme/jose.h"
#include "acme/order_parts.h"
#include "acme/pem.h"
#include "base/json.h"
#include "base/log.h"
#include "base/loop.h"

#define POLL_FIRST_MS   25 /* a CA that is done at once is asked at once */
#define POLL_MOST_MS    5000
#define PATIENCE_MS     (600 * 1000) /* some CAs take minutes */
#define HOOK_PATIENCE   6   /* hooks run a few at a time, and some take minutes: so many times it */
#define NETWORK_TRIES   3   /* of a request that is not a mere look */
#define NETWORK_WAIT_MS 500 /* doubled */
#define ORDERS_MAX      6   /* one a challenge, one for each thing that is left out, one resumed */
#define FINALIZES_MAX   6

static void on_answer(void *ctx, const struct ca_answer *a);

/* ---- words ---- */

static const struct {
    const char *step; /* in a failure */
    const char *text; /* for people */
} words[N_STATES] = {
    [S_RESUMING] = {"order", "going on with the order of before"},
    [S_ORDERING] = {"newOrder", "ordering"},
    [S_AUTHORIZING] = {"authorization", "asking how to prove the name"},
    [S_SHOWING] = {"challenge", "putting up the proof"},
    [S_TELLING] = {"challenge", "telling the CA that the proof is up"},
    [S_VALIDATING] = {"validation", "waiting for validation"},
    [S_READYING] = {"order", "waiting until the CA takes the proof"},
    [S_FINALIZING] = {"finalize", "sending the certificate's request"},
    [S_PROCESSING] = {"order", "waiting until the CA has issued"},
    [S_FETCHING] = {"certificate", "fetching the certificate"},
    [S_ALTERNATES] = {"certificate", "fetching another chain"},
    [S_ENDED] = {"", "at its end"},
};

const char *order_step(const struct order *o)
{
    return words[o->state].step;
}

static const char *state_text(struct order *o)
{
    const char *text = words[o->state].text;
    if (o->state != S_SHOWING && o->state != S_TELLING && o->state != S_VALIDATING)
        return text;
    return arena_fmt(o->step, "%s by %s", text, challenge_name(o->challenge.kind)).p;
}

/* ---- the end ---- */

static void hide(struct order *o)
{
    if (!o->shown)
        return;
    o->shown = false;
    o->ops->hide(o->ctx, &o->challenge);
}

static void order_free(void *p)
{
    struct order *o = p;
    struct arena *own = o->arena;
    EVP_PKEY_free(o->key);
    pem_wipe(o->key_pem);
    pem_wipe(o->spec.resume_key);
    arena_free(&o->step);
    arena_free(&own);
}

static void end(struct order *o)
{
    o->state = S_ENDED;
    turn_task_cancel(&o->begin);
    event_del(&o->timer);
    ca_call_cancel(&o->call);
    hide(o);
    loop_free_later(o, order_free);
}

void order_close(struct order **op)
{
    struct order *o = *op;
    *op = NULL;
    if (o && o->state != S_ENDED)
        end(o);
}

/* There is nothing to go on with any more. */
static void forget(struct order *o)
{
    if (!o->saved)
        return;
    o->saved = false;
    const char *err = o->ops->save(o->ctx, STR(""), STR(""));
    if (err)
        log_warn("an order that came to nothing is still kept", "host", "%s", o->spec.host.p,
                 "cause", "%s", err);
}

static void fail(struct order *o, bool resumable)
{
    struct order_result r = {.fail = &o->fail};
    if (!resumable)
        forget(o);
    end(o);
    o->ops->done(o->ctx, &r);
}

static void give_up(struct order *o)
{
    enum acme_fail_kind k = o->fail.kind;
    fail(o, k != ACME_REFUSED && k != ACME_INVALID && k != ACME_BROKEN);
}

static void succeed(struct order *o)
{
    struct order_result r = {.cert = o->cert, .key_pem = o->key_pem, .url = str_of(o->url)};
    end(o);
    o->ops->done(o->ctx, &r);
}

/* ---- requests ---- */

static bool wants_profile(const struct order *o)
{
    return o->spec.profile.n && !o->without_profile;
}

/* Known once the directory was read. */
static void drop_unknown_profile(struct order *o)
{
    if (!wants_profile(o) || ca_has_profile(o->ca, o->spec.profile))
        return;
    log_warn("the CA has no such profile: its default is ordered", "host", "%s", o->spec.host.p,
             "profile", "%s", o->spec.profile.p);
    o->without_profile = true;
}

static json_t *new_order(struct order *o)
{
    drop_unknown_profile(o);
    json_t *j = json_pack("{s:[{s:s, s:o}]}", "identifiers", "type", "dns", "value",
                          json_text(o->spec.host));
    ASSERT(j);
    if (wants_profile(o))
        ASSERT(json_object_set_new(j, "profile", json_text(o->spec.profile)) == 0);
    if (o->spec.replaces.n && !o->without_replaces)
        ASSERT(json_object_set_new(j, "replaces", json_text(o->spec.replaces)) == 0);
    return j;
}

static json_t *csr(const struct order *o)
{
    struct str der = csr_make(o->step, o->key, o->spec.host);
    json_t *j = json_pack("{s:o}", "csr", json_text(jose_b64(o->step, der)));
    ASSERT(j);
    return j;
}

/* What a state is about; asked again after a wait, in the same state. */
static void ask(struct order *o)
{
    const char *url = NULL;
    json_t *payload = NULL;
    switch (o->state) {
    case S_ORDERING:
        payload = new_order(o);
        break;
    case S_RESUMING:
    case S_READYING:
    case S_PROCESSING:
        url = o->url;
        break;
    case S_AUTHORIZING:
    case S_VALIDATING:
        url = o->authorizations[o->at_authorization];
        break;
    case S_TELLING:
        url = o->ways[o->challenge.kind].url;
        payload = json_object();
        break;
    case S_FINALIZING:
        url = o->finalize;
        payload = csr(o);
        break;
    case S_FETCHING:
        url = o->certificate;
        break;
    case S_ALTERNATES:
        url = o->alternates[o->at_alternate];
        break;
    case S_SHOWING:
    case S_ENDED:
    case N_STATES:
        break;
    }
    ASSERT(url || o->state == S_ORDERING);
    o->call = ca_post(o->ca, CA_NEW_ORDER, url, payload, order_step(o), on_answer, o);
}

static void enter(struct order *o, enum order_state s)
{
    ASSERT(o->state != S_ENDED);
    log_debug("order", "host", "%s", o->spec.host.p, "from", "%s", words[o->state].text, "to", "%s",
              words[s].text);
    o->state = s;
    o->polls = o->network_tries = 0;
    o->retry_at = 0;
    o->since = loop_now_ms();
    o->ops->step(o->ctx, state_text(o));
}

static void go(struct order *o, enum order_state s)
{
    enter(o, s);
    ask(o);
}

/* A timer of its own: the wheel's 100 ms would be half of what an order takes. */
static void wait_ms(struct order *o, uint64_t ms)
{
    struct timeval tv = {.tv_sec = (time_t)(ms / 1000), .tv_usec = (suseconds_t)(ms % 1000) * 1000};
    event_add(&o->timer, &tv);
}

/*
 * Quickly at first, then more and more slowly, and as slowly as the CA wants it (Retry-After). One
 * early look is no burden, and many a CA that asks for seconds is done at once.
 */
static uint64_t poll_wait(const struct order *o)
{
    uint64_t ms = POLL_FIRST_MS;
    for (unsigned i = 0; i < o->polls && ms < POLL_MOST_MS; i++)
        ms += ms / 2;
    ms = MIN(ms, (uint64_t)POLL_MOST_MS);
    int64_t asked = o->retry_at - wall_s();
    return o->polls && asked > 0 ? MAX(ms, (uint64_t)asked * 1000) : ms;
}

/* Stuck. Once that order is gone on with later; twice would be for ever. */
static void lose_patience(struct order *o)
{
    if (o->fail.kind == ACME_NETWORK || o->fail.kind == ACME_BUSY) {
        give_up(o);
        return;
    }
    order_fail(o, ACME_REFUSED, "the CA decided nothing in %" PRIu64 " s of %s",
               o->spec.patience_ms / 1000, state_text(o));
    o->fail.retry_at = o->retry_at;
    fail(o, !o->resumed);
}

/* Nothing is decided yet: another look after a while. */
static void poll_again(struct order *o)
{
    uint64_t left = loop_time_left(o->since, o->spec.patience_ms), ms = poll_wait(o);
    o->polls++;
    if (left)
        wait_ms(o, MIN(ms, left));
    else
        lose_patience(o);
}

static void poll(struct order *o, enum order_state s)
{
    enter(o, s);
    poll_again(o);
}

static void network_failed(struct order *o)
{
    if (order_polls(o->state)) {
        o->retry_at = o->fail.retry_at;
        poll_again(o);
    } else if (++o->network_tries < NETWORK_TRIES) {
        wait_ms(o, (uint64_t)NETWORK_WAIT_MS << (o->network_tries - 1));
    } else {
        give_up(o);
    }
}

/* ---- actions: the order ---- */

/* What was left of an earlier one is dropped. */
static void order_anew(struct order *o)
{
    forget(o);
    if (o->resumed) {
        EVP_PKEY_free(o->key);
        o->key = NULL;
    }
    o->resumed = false;
    o->url = NULL;
    o->finalizes = 0;
    if (o->orders++ < ORDERS_MAX) {
        go(o, S_ORDERING);
    } else {
        order_fail(o, ACME_BROKEN, "%d orders in a row came to nothing", ORDERS_MAX);
        give_up(o);
    }
}

/*
 * What is optional is left out: `replaces` for whatever reason (RFC 9773 5), a profile when the
 * directory, which is known by now, does not have it.
 */
static void order_refused(struct order *o)
{
    enum acme_fail_kind k = o->fail.kind;
    bool ours = k == ACME_REFUSED || k == ACME_LIMITED || k == ACME_BROKEN;
    /* A certificate of another account is "unauthorized", as a closed account is. */
    if ((ours || k == ACME_ACCOUNT) && o->spec.replaces.n && !o->without_replaces) {
        log_info("the CA does not take the order as a renewal: ordered as a new certificate",
                 "host", "%s", o->spec.host.p, "cause", "%s", o->fail.text);
        o->without_replaces = true;
        order_anew(o);
    } else if (ours && wants_profile(o) && !ca_has_profile(o->ca, o->spec.profile)) {
        order_anew(o); /* without it */
    } else {
        give_up(o);
    }
}

/* The order of before is gone; or its CA cannot be asked now. */
static void resume_failed(struct order *o)
{
    if (o->fail.kind == ACME_REFUSED || o->fail.kind == ACME_BROKEN)
        order_anew(o);
    else
        give_up(o);
}

static void ready(struct order *o)
{
    if (o->finalizes++ < FINALIZES_MAX) {
        go(o, S_FINALIZING);
        return;
    }
    order_fail(o, ACME_BROKEN, "the CA says that the order is ready, and then that it is not");
    give_up(o);
}

/* The first looks are slower with each time that it was said to be ready, and was not. */
static void not_ready(struct order *o)
{
    enter(o, S_READYING);
    o->polls = 2 * (o->finalizes - 1);
    poll_again(o);
}

static void issuing(struct order *o)
{
    poll(o, S_PROCESSING);
}

static void issued(struct order *o)
{
    o->ops->spent(o->ctx, ORDER_SPENT_CERTIFICATE, o->renewal);
    go(o, S_FETCHING);
}

/* ---- actions: the proof ---- */

static void authorize(struct order *o)
{
    o->at_authorization = 0;
    go(o, S_AUTHORIZING);
}

static void authorized(struct order *o)
{
    hide(o);
    if (++o->at_authorization < o->n_authorizations)
        go(o, S_AUTHORIZING);
    else
        ready(o);
}

/* Invalid before anything was tried. */
static void authorization_lost(struct order *o)
{
    if (o->resumed)
        order_anew(o);
    else
        give_up(o);
}

static struct way *next_way(struct order *o, enum conf_challenge *kind)
{
    for (unsigned i = 0; i < o->spec.n_challenges; i++) {
        struct way *w = &o->ways[o->spec.challenges[i]];
        *kind = o->spec.challenges[i];
        if (w->offered && !w->used && (*kind == CONF_DNS_01 || !order_wild(o)))
            return w;
    }
    return NULL;
}

static void no_way_left(struct order *o)
{
    if (!o->failures.n) {
        order_fail(o, ACME_REFUSED, "the CA offers no way to prove the name that can be used here");
        o->fail.hint =
            order_wild(o) ? "a wildcard is proven by dns-01 alone: acme.challenge and acme.dns_hook"
                          : "add another one to acme.challenge";
        give_up(o);
        return;
    }
    struct acme_fail last = o->fail;
    acme_fail_set(&o->fail, last.kind, last.step, "%s", o->failures.p);
    memcpy(o->fail.type, last.type, sizeof(last.type));
    o->fail.hint = last.hint;
    give_up(o);
}

static void prove(struct order *o)
{
    enum conf_challenge kind;
    struct way *w = next_way(o, &kind);
    if (!w) {
        no_way_left(o);
        return;
    }
    o->challenge =
        (struct challenge){.kind = kind,
                           .host = str_sub(o->spec.host, order_wild(o) ? 2 : 0, o->spec.host.n),
                           .token = w->token};
    const char *err = challenge_make(o->arena, ca_account_key(o->ca), &o->challenge);
    ASSERT(!err);
    enter(o, S_SHOWING);
    wait_ms(o, o->spec.patience_ms * (kind == CONF_DNS_01 ? HOOK_PATIENCE : 1));
    o->shown = true;
    o->ops->show(o->ctx, &o->challenge); /* may call order_shown at once */
}

static void proof_up(struct order *o)
{
    event_del(&o->timer);
    o->untold = (struct acme_fail){0};
    if (o->ways[o->challenge.kind].under_way)
        poll(o, S_VALIDATING);
    else
        go(o, S_TELLING);
}

static void way_failed(struct order *o)
{
    o->failures =
        arena_fmt(o->arena, STR_FMT "%s%s: %s", STR_ARG(o->failures), o->failures.n ? "; " : "",
                  challenge_name(o->challenge.kind), o->fail.text);
    o->ways[o->challenge.kind].used = true;
    hide(o);
}

/* The CA was told nothing yet: another way is open in the same order. */
static void proof_not_up(struct order *o)
{
    event_del(&o->timer);
    way_failed(o);
    prove(o);
}

static void told(struct order *o)
{
    poll(o, S_VALIDATING);
}

/* Refused, perhaps because it is decided already: the authorization tells. */
static void not_told(struct order *o)
{
    if (o->fail.kind != ACME_REFUSED) {
        give_up(o);
        return;
    }
    o->untold = o->fail;
    poll(o, S_VALIDATING);
}

static void not_validated_yet(struct order *o)
{
    if (o->untold.kind == ACME_FINE) {
        poll_again(o);
    } else {
        o->fail = o->untold;
        give_up(o);
    }
}

/* RFC 8555 7.1.6: the order is invalid with it; the next way needs a new one. */
static void not_validated(struct order *o)
{
    enum conf_challenge ignored;
    o->ops->spent(o->ctx, ORDER_SPENT_VALIDATION, o->renewal);
    way_failed(o);
    if (next_way(o, &ignored)) {
        log_info("the next challenge is tried", "host", "%s", o->spec.host.p, "cause", "%s",
                 o->fail.text);
        order_anew(o);
    } else {
        no_way_left(o);
    }
}

/* ---- actions: the certificate ---- */

static bool is_preferred(const struct order *o)
{
    return o->cert.pem.n && (!o->spec.chain.n || str_eq(o->cert.top, o->spec.chain));
}

/* The preferred chain, else the first that is good. */
static void choose_chain(struct order *o)
{
    if (is_preferred(o) || o->at_alternate == o->n_alternates) {
        if (o->cert.pem.n) {
            succeed(o);
            return;
        }
        order_fail(o, ACME_BROKEN, "the CA's certificate is neither stored nor used: %s",
                   o->refusal);
        give_up(o);
        return;
    }
    go(o, S_ALTERNATES);
}

static void next_chain(struct order *o)
{
    o->at_alternate++;
    choose_chain(o);
}

/* ---- the table ---- */

#define OTHERWISE [E_NETWORK] = network_failed, [E_FAILED] = give_up

/* What is not here is no ACME: handle() says so. */
static void (*const table[N_STATES][N_EVENTS])(struct order *) = {
    [S_RESUMING] = {[E_PENDING] = authorize,
                    [E_READY] = ready,
                    [E_PROCESSING] = issuing,
                    [E_VALID] = issued,
                    [E_INVALID] = order_anew,
                    [E_NETWORK] = network_failed,
                    [E_FAILED] = resume_failed},
    [S_ORDERING] = {[E_PENDING] = authorize,
                    [E_READY] = ready,
                    [E_INVALID] = give_up,
                    [E_NETWORK] = network_failed,
                    [E_FAILED] = order_refused},
    [S_AUTHORIZING] =
        {[E_PENDING] = prove, [E_VALID] = authorized, [E_INVALID] = authorization_lost, OTHERWISE},
    [S_SHOWING] = {[E_SHOWN] = proof_up, [E_NOT_SHOWN] = proof_not_up},
    [S_TELLING] = {[E_TOLD] = told, [E_NETWORK] = network_failed, [E_FAILED] = not_told},
    [S_VALIDATING] = {[E_PENDING] = not_validated_yet,
                      [E_VALID] = authorized,
                      [E_INVALID] = not_validated,
                      OTHERWISE},
    [S_READYING] = {[E_PENDING] = poll_again,
                    [E_READY] = ready,
                    [E_PROCESSING] = issuing,
                    [E_VALID] = issued,
                    [E_INVALID] = give_up,
                    OTHERWISE},
    [S_FINALIZING] = {[E_PENDING] = not_ready,
                      [E_READY] = not_ready,
                      [E_PROCESSING] = issuing,
                      [E_VALID] = issued,
                      [E_INVALID] = give_up,
                      OTHERWISE},
    [S_PROCESSING] = {[E_READY] = ready,
                      [E_PROCESSING] = poll_again,
                      [E_VALID] = issued,
                      [E_INVALID] = give_up,
                      OTHERWISE},
    [S_FETCHING] = {[E_CHAIN] = choose_chain, OTHERWISE},
    [S_ALTERNATES] = {[E_CHAIN] = next_chain, [E_NETWORK] = next_chain, [E_FAILED] = next_chain},
};

static void handle(struct order *o, enum order_event e)
{
    static const char *const statuses[N_EVENTS] = {
        [E_PENDING] = "pending", [E_READY] = "ready",     [E_PROCESSING] = "processing",
        [E_VALID] = "valid",     [E_INVALID] = "invalid",
    };
    void (*action)(struct order *) = table[o->state][e];
    if (!action) {
        ASSERT(statuses[e]);
        order_fail(o, ACME_BROKEN,
                   "the CA's answer is not usable: it is \"%s\", which cannot be now", statuses[e]);
        action = give_up;
    }
    action(o);
}

/* ---- what happens ---- */

static void on_answer(void *ctx, const struct ca_answer *a)
{
    struct order *o = ctx;
    o->call = NULL;
    o->retry_at = a->retry_at;
    arena_reset(o->step);
    handle(o, order_answer(o, a));
}

void order_shown(struct order *o, const char *err)
{
    if (o->state != S_SHOWING)
        return;
    if (err)
        order_fail(o, ACME_LOCAL, "%s", err);
    handle(o, err ? E_NOT_SHOWN : E_SHOWN);
}

static void on_timer(evutil_socket_t fd UNUSED, short what UNUSED, void *ctx)
{
    struct order *o = ctx;
    if (o->state == S_SHOWING)
        order_shown(o, "nobody knows whether the proof is up: that takes too long");
    else
        ask(o);
}

/* ---- the beginning ---- */

static void begin(struct turn_task *t)
{
    struct order *o = container_of(t, struct order, begin);
    if (o->resumed)
        go(o, S_RESUMING);
    else
        order_anew(o);
}

struct order *order_start(struct ca *ca, const struct order_spec *spec, const struct order_ops *ops,
                          void *ctx)
{
    struct arena *a = arena_new(16 * 1024);
    struct order *o = arena_znew(a, struct order);
    *o = (struct order){.arena = a, .ca = ca, .spec = *spec, .ops = ops, .ctx = ctx};
    o->step = arena_new(4096);
    o->spec.host = arena_str(a, spec->host);
    o->spec.profile = arena_str(a, spec->profile);
    o->spec.replaces = arena_str(a, spec->replaces);
    o->spec.chain = arena_str(a, spec->chain);
    o->spec.resume_url = arena_str(a, spec->resume_url);
    o->spec.resume_key = arena_str(a, spec->resume_key);
    o->spec.patience_ms = spec->patience_ms ? spec->patience_ms : PATIENCE_MS;
    event_assign(&o->timer, loop_base(), -1, 0, on_timer, o);
    if (spec->resume_url.n) {
        o->saved = true;
        o->url = o->spec.resume_url.p;
        o->key_pem = o->spec.resume_key;
        o->key = pem_key(o->key_pem);
        o->resumed = o->key != NULL;
    }
    loop_at_turn_end(&o->begin, begin);
    return o;
}
