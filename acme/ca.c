/*
 * ca.c - calls to a CA: they wait until directory and account are there, run side by side, and keep
 * to the CA's pauses. The exchange itself is ca_wire.c's, the account ca_account.c's.
 */
#include "acme/ca.h"

#include <stdlib.h>

#include "acme/ca_parts.h"
#include "acme/jose.h"
#include "base/log.h"

#define PAUSE_FIRST ((int64_t)60)
#define PAUSE_MOST  ((int64_t)3600)
/* What a CA may ask for: longer, and a slip of its would be an outage of ours. */
#define PAUSE_ASKED ((int64_t)86400)

enum call_kind { CALL_POST, CALL_GET, CALL_ROLL, CALL_REVOKE };
enum call_state { CALL_WAITING, CALL_RUNNING, CALL_ENDED };

struct ca_call {
    struct list link;
    struct arena *arena; /* holds this struct */
    struct ca *ca;
    enum call_kind kind;
    enum call_state state;
    enum ca_resource resource;
    const char *url;    /* NULL: the resource's */
    const char *target; /* where it goes */
    const char *suffix;
    struct str payload;
    const char *step;
    ca_done *done;
    void *ctx;
    struct wire *wire;
    const char *kid; /* that signed */
    bool again;      /* it ran before, by an account that the CA did not know */
};

static void pump(struct turn_task *t);

/* ---- what a CA is ---- */

static const char *state_name(enum ca_state s)
{
    static const char *const names[] = {"cold",   "directory",   "asking-new",
                                        "asking", "registering", "contact",
                                        "ready",  "rolling",     "closed"};
    return names[s];
}

void ca_enter(struct ca *ca, enum ca_state state)
{
    log_debug("ACME CA", "ca", "%s", ca->spec.name.p, "from", "%s", state_name(ca->state), "to",
              "%s", state_name(state));
    ca->state = state;
}

struct ca *ca_open(const struct ca_spec *spec)
{
    struct arena *a = arena_new(4096);
    struct ca *ca = arena_znew(a, struct ca);
    ca->arena = a;
    ca->spec = (struct ca_spec){
        .name = arena_str(a, spec->name),
        .directory = arena_str(a, spec->directory),
        .root_pem = arena_str(a, spec->root_pem),
        .email = arena_str(a, spec->email),
        .eab_kid = arena_str(a, spec->eab_kid),
        .eab_hmac = arena_str(a, spec->eab_hmac),
        .state = arena_strz(a, str_of(spec->state)),
    };
    ca->folder = arena_fmt(a, "%s/acme/%s", ca->spec.state, ca->spec.name.p).p;
    ca->key_path = arena_fmt(a, "%s/account.key", ca->folder).p;
    ca->new_key_path = arena_fmt(a, "%s/account.key.new", ca->folder).p;
    ca->account_path = arena_fmt(a, "%s/account.json", ca->folder).p;
    list_init(&ca->waiting);
    list_init(&ca->running);
    return ca;
}

static void ca_free(void *p)
{
    struct ca *ca = p;
    struct arena *a = ca->arena;
    arena_free(&a);
}

void ca_close(struct ca **cap)
{
    struct ca *ca = *cap;
    *cap = NULL;
    if (!ca)
        return;
    ca_enter(ca, CA_CLOSED);
    turn_task_cancel(&ca->pump);
    struct list *lists[] = {&ca->waiting, &ca->running};
    for (size_t i = 0; i < ARRAY_LEN(lists); i++)
        while (!list_empty(lists[i])) {
            struct ca_call *c = container_of(lists[i]->next, struct ca_call, link);
            ca_call_cancel(&c);
        }
    account_fini(ca);
    loop_free_later(ca, ca_free);
}

struct str ca_directory(const struct ca *ca)
{
    return ca->spec.directory;
}

const char *ca_url(const struct ca *ca, enum ca_resource r)
{
    ASSERT(r < CA_RESOURCES);
    const char *url = ca->directory.urls[r];
    return url ? url : "";
}

bool ca_has_profile(const struct ca *ca, struct str profile)
{
    for (unsigned i = 0; i < ca->directory.n_profiles; i++)
        if (str_eq(ca->directory.profiles[i], profile))
            return true;
    return !ca->directory.lists_profiles;
}

EVP_PKEY *ca_account_key(const struct ca *ca)
{
    return ca->key;
}

const char *ca_account_url(const struct ca *ca)
{
    return ca->kid;
}

int64_t ca_paused_until(const struct ca *ca)
{
    int64_t left = ca->paused_until - wall_s();
    /* A clock that was set back does not make a pause of years. */
    return left > 0 && left <= PAUSE_ASKED ? ca->paused_until : 0;
}

const struct acme_fail *ca_problem(const struct ca *ca)
{
    return ca->problem.kind == ACME_FINE ? NULL : &ca->problem;
}

/* ---- URLs ---- */

/* Host and port of an https URL, without the port that it has anyway; empty: it is none. */
static struct str origin_of(struct str url)
{
    if (!str_starts(url, STR("https://")) || url.n > CA_URL_MAX)
        return STR_NULL;
    for (size_t i = 0; i < url.n; i++)
        if (url.p[i] <= ' ' || url.p[i] >= 0x7f || url.p[i] == '#' || url.p[i] == '\\')
            return STR_NULL;
    struct str rest = str_sub(url, sizeof "https://" - 1, url.n);
    size_t n = MIN(str_chr(rest, '/'), str_chr(rest, '?'));
    struct str origin = str_sub(rest, 0, n);
    if (str_chr(origin, '@') < origin.n)
        return STR_NULL;
    if (str_ends(origin, STR(":443")))
        origin.n -= 4;
    return origin;
}

bool ca_url_fine(const struct ca *ca, struct str url)
{
    struct str origin = origin_of(url);
    return origin.n && str_ieq(origin, origin_of(ca->spec.directory));
}

/* ---- pauses and problems ---- */

static void pause_ca(struct ca *ca, struct acme_fail *fail)
{
    int64_t now = wall_s(), until = MIN(fail->retry_at, now + PAUSE_ASKED);
    if (!fail->retry_at) {
        /* Calls that ran side by side fail side by side: that is one failure. */
        if (!ca_paused_until(ca) || !ca->pauses)
            ca->pauses++;
        until = now + MIN(PAUSE_FIRST << MIN(ca->pauses - 1, 16u), PAUSE_MOST);
    }
    if (until > ca_paused_until(ca)) {
        ca->paused_until = until;
        log_warn("the CA wants to be left alone", "ca", "%s", ca->spec.name.p, "seconds", "%ld",
                 (long)(until - now), "cause", "%s", fail->text);
    }
    fail->retry_at = ca->paused_until;
}

void ca_heard(struct ca *ca, struct acme_fail *fail)
{
    if (fail->kind == ACME_BUSY) {
        pause_ca(ca, fail);
        ca->problem = *fail;
    } else if (fail->kind == ACME_ACCOUNT) {
        ca->problem = *fail;
    } else if (fail->kind == ACME_FINE || fail->kind == ACME_REFUSED) {
        ca->pauses = 0;
    }
}

static struct acme_fail busy(const struct ca *ca, const char *step)
{
    struct acme_fail fail;
    char text[64];
    struct out at = out_on(text, sizeof(text));
    out_utc(&at, ca->paused_until);
    acme_fail_set(&fail, ACME_BUSY, step, "the CA is left alone until " STR_FMT ": %s",
                  STR_ARG(out_done(&at)), ca->problem.text);
    fail.status = ca->problem.status;
    fail.retry_at = ca->paused_until;
    return fail;
}

/* ---- calls ---- */

static void call_free(void *p)
{
    struct ca_call *c = p;
    struct arena *a = c->arena;
    arena_free(&a);
}

static void call_end(struct ca_call *c)
{
    c->state = CALL_ENDED;
    wire_cancel(&c->wire);
    list_remove(&c->link);
    loop_free_later(c, call_free);
}

void ca_call_cancel(struct ca_call **cp)
{
    struct ca_call *c = *cp;
    *cp = NULL;
    if (!c || c->state == CALL_ENDED)
        return;
    struct ca *ca = c->ca;
    bool rolling = c->kind == CALL_ROLL && c->state == CALL_RUNNING;
    call_end(c);
    if (rolling && ca->state == CA_ROLLING) {
        /* Unknown whether the CA took the new key: what runs next finds out. */
        ca_enter(ca, CA_COLD);
    }
    if (ca->state != CA_CLOSED)
        loop_at_turn_end(&ca->pump, pump);
}

static void call_tell(struct ca_call *c, const struct ca_answer *a)
{
    call_end(c);
    c->done(c->ctx, a);
}

static struct ca_call *call_new(struct ca *ca, enum call_kind kind, const char *step, ca_done *done,
                                void *ctx)
{
    ASSERT(ca->state != CA_CLOSED);
    struct arena *a = arena_new(1024);
    struct ca_call *c = arena_znew(a, struct ca_call);
    c->arena = a;
    c->ca = ca;
    c->kind = kind;
    c->step = step;
    c->done = done;
    c->ctx = ctx;
    list_append(&ca->waiting, &c->link);
    loop_at_turn_end(&ca->pump, pump);
    return c;
}

static struct str dumped(struct arena *a, json_t *payload)
{
    if (!payload)
        return STR("");
    char *text = json_dumps(payload, JSON_COMPACT);
    ASSERT(text);
    struct str out = arena_str(a, str_of(text));
    free(text);
    json_decref(payload);
    return out;
}

struct ca_call *ca_post(struct ca *ca, enum ca_resource r, const char *url, json_t *payload,
                        const char *step, ca_done *done, void *ctx)
{
    struct ca_call *c = call_new(ca, CALL_POST, step, done, ctx);
    c->resource = r;
    c->url = url ? arena_strz(c->arena, str_of(url)) : NULL;
    c->payload = dumped(c->arena, payload);
    return c;
}

struct ca_call *ca_get(struct ca *ca, enum ca_resource r, const char *suffix, const char *step,
                       ca_done *done, void *ctx)
{
    struct ca_call *c = call_new(ca, CALL_GET, step, done, ctx);
    c->resource = r;
    c->suffix = arena_strz(c->arena, str_of(suffix));
    return c;
}

struct ca_call *ca_roll_key(struct ca *ca, ca_done *done, void *ctx)
{
    struct ca_call *c = call_new(ca, CALL_ROLL, "keyChange", done, ctx);
    c->resource = CA_KEY_CHANGE;
    return c;
}

struct ca_call *ca_revoke(struct ca *ca, struct str leaf_der, unsigned reason, ca_done *done,
                          void *ctx)
{
    struct ca_call *c = call_new(ca, CALL_REVOKE, "revokeCert", done, ctx);
    c->resource = CA_REVOKE;
    c->payload = dumped(c->arena, json_pack("{s:s, s:i}", "certificate",
                                            jose_b64(c->arena, leaf_der).p, "reason", (int)reason));
    return c;
}

/* ---- one that runs ---- */

/* The account was lost: once a call, it is made anew and the call repeated. */
static bool call_repeats(struct ca_call *c, const struct ca_answer *a)
{
    if (!a->fail || strcmp(a->fail->type, "accountDoesNotExist") != 0 || c->again ||
        c->kind == CALL_GET || c->kind == CALL_ROLL)
        return false;
    struct ca *ca = c->ca;
    c->again = true;
    if (strcmp(c->kid, ca->kid) == 0)
        account_lost(ca);
    c->state = CALL_WAITING;
    list_remove(&c->link);
    list_push(&ca->waiting, &c->link);
    return true;
}

/* What only the call knows about its answer. */
static void call_judge(struct ca_call *c, struct ca_answer *a, struct acme_fail *fail)
{
    if (!a->fail)
        return;
    *fail = *a->fail;
    a->fail = fail;
    if (c->kind == CALL_REVOKE && strcmp(fail->type, "alreadyRevoked") == 0) {
        a->fail = NULL;
    } else if (c->resource == CA_NEW_ORDER && !c->url && c->kind == CALL_POST &&
               strcmp(fail->type, "unauthorized") == 0) {
        /* RFC 8555 7.3.6: that is how a deactivated account is told. */
        fail->kind = ACME_ACCOUNT;
        fail->hint = account_closed_hint;
    }
    if (a->fail && fail->kind == ACME_ACCOUNT)
        c->ca->problem = *fail;
}

static void on_call_answer(void *ctx, const struct ca_answer *answer)
{
    struct ca_call *c = ctx;
    struct ca *ca = c->ca;
    struct ca_answer a = *answer;
    struct acme_fail fail = {0};
    c->wire = NULL;
    loop_at_turn_end(&ca->pump, pump);
    if (c->kind == CALL_ROLL) {
        account_roll_end(ca, a.fail);
        ca_enter(ca, ca->new_key ? CA_COLD : CA_READY);
    }
    if (call_repeats(c, &a))
        return;
    call_judge(c, &a, &fail);
    if (!a.fail)
        ca->problem = (struct acme_fail){0};
    call_tell(c, &a);
}

/* Where it goes. NULL, or why there is no such place. */
static const char *call_aim(struct ca_call *c)
{
    struct ca *ca = c->ca;
    c->target = c->url ? c->url : arena_strz(c->arena, str_of(ca_url(ca, c->resource)));
    if (!*c->target)
        return "the CA's directory has no such resource";
    if (c->suffix)
        c->target = arena_fmt(c->arena, "%s/%s", c->target, c->suffix).p;
    if (!ca_url_fine(ca, str_of(c->target)))
        return "the CA sends us to a URL that is not its own";
    return NULL;
}

/* False, and *fail says so: it cannot even be asked. */
static bool call_prepare(struct ca_call *c, struct acme_fail *fail)
{
    enum acme_fail_kind kind = ACME_BROKEN;
    const char *err = call_aim(c);
    if (!err && c->kind == CALL_ROLL) {
        kind = ACME_LOCAL;
        err = account_roll_begin(c->ca, c->arena, &c->payload);
    }
    if (err)
        acme_fail_set(fail, kind, c->step, "%s", err);
    return err == NULL;
}

static void call_run(struct ca_call *c)
{
    struct ca *ca = c->ca;
    struct acme_fail fail;
    if (!call_prepare(c, &fail)) {
        call_tell(c, &(struct ca_answer){.fail = &fail});
        return;
    }
    if (c->kind == CALL_ROLL)
        ca_enter(ca, CA_ROLLING);
    c->state = CALL_RUNNING;
    list_remove(&c->link);
    list_append(&ca->running, &c->link);
    c->kid = arena_strz(c->arena, str_of(ca->kid));
    c->wire = wire_start(ca,
                         &(struct wire_spec){.url = c->target,
                                             .key = c->kind == CALL_GET ? NULL : ca->key,
                                             .kid = c->kid,
                                             .payload = c->payload,
                                             .step = c->step,
                                             .aside = c->kind == CALL_GET},
                         on_call_answer, c);
}

/* ---- those that wait ---- */

static unsigned count(const struct list *head)
{
    unsigned n = 0;
    LIST_EACH ((struct list *)(uintptr_t)head, it)
        n++;
    return n;
}

/* Those that wait now: what their callers ask next waits for the next turn. NULL: a pause. */
static void fail_waiting(struct ca *ca, const struct acme_fail *fail)
{
    for (unsigned n = count(&ca->waiting); n && ca->state != CA_CLOSED && !list_empty(&ca->waiting);
         n--) {
        struct ca_call *c = container_of(ca->waiting.next, struct ca_call, link);
        struct acme_fail own = fail ? *fail : busy(ca, c->step);
        call_tell(c, &(struct ca_answer){.fail = &own, .status = own.status});
    }
}

void ca_prepared(struct ca *ca, const struct acme_fail *fail)
{
    ca_enter(ca, fail ? CA_COLD : CA_READY);
    if (fail) {
        ca->problem = *fail;
        fail_waiting(ca, fail);
    }
    if (ca->state != CA_CLOSED)
        loop_at_turn_end(&ca->pump, pump);
}

static void pump(struct turn_task *t)
{
    struct ca *ca = container_of(t, struct ca, pump);
    if (list_empty(&ca->waiting))
        return;
    if (ca_paused_until(ca)) {
        fail_waiting(ca, NULL);
        return;
    }
    account_prepare(ca);
    for (unsigned n = count(&ca->waiting); n && ca->state == CA_READY && !list_empty(&ca->waiting);
         n--) {
        struct ca_call *c = container_of(ca->waiting.next, struct ca_call, link);
        /* It changes what the others sign with. */
        if (c->kind == CALL_ROLL && !list_empty(&ca->running))
            break;
        call_run(c);
    }
}
