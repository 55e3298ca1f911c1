/*
 * issuer_cas.c - the CAs of the configuration: opened once, kept over reloads that do not change
 * them, each with its ledger and a bucket for the pace of its orders.
 */
#include <stdlib.h>

#include "acme/cert_store.h"
#include "acme/issuer_parts.h"
#include "base/file.h"
#include "base/log.h"

#define PLACES        64 /* orders under way at a CA */
#define BUCKET        60 /* at once */
#define BUCKET_A_S    10 /* … then so many a second */
#define FULL_AGAIN_MS 100

struct issuer_ca *cas_find(struct issuer *is, struct str name)
{
    LIST_EACH (&is->cas, l) {
        struct issuer_ca *ca = container_of(l, struct issuer_ca, link);
        if (str_eq(str_of(ca->name), name))
            return ca;
    }
    return NULL;
}

static void ca_free(struct issuer_ca *ca)
{
    list_remove(&ca->link);
    ca_close(&ca->ca);
    ledger_close(&ca->ledger);
    free(ca);
}

/* `cc`: the entry of acme.ca that it is, or whose staging directory. */
static struct issuer_ca *ca_new(struct issuer *is, struct str name, struct str url,
                                const struct conf_ca *cc, const struct conf_acme *c)
{
    struct arena *a = arena_new(1024);
    struct issuer_ca *ca = calloc(1, sizeof(*ca));
    ASSERT(ca && name.n < sizeof(ca->name));
    text_copy(ca->name, sizeof(ca->name), name);
    const struct ca_spec spec = {.name = name,
                                 .directory = url,
                                 .root_pem = cc->known ? STR("") : c->root_pem,
                                 .email = c->email,
                                 .eab_kid = cc->takes_eab ? c->eab_kid : STR(""),
                                 .eab_hmac = cc->takes_eab ? c->eab_hmac : STR(""),
                                 .state = is->state};
    file_sweep(a, arena_fmt(a, "%s/acme/%s", is->state, ca->name).p);
    ca->ca = ca_open(&spec);
    ca->tokens = BUCKET * 1000;
    ca->tokens_at = loop_now_ms();
    list_append(&is->cas, &ca->link);
    arena_free(&a);
    return ca;
}

static void ledger_use(struct issuer *is, struct issuer_ca *ca, const struct ledger_limit *limits)
{
    const char *err = NULL;
    if (ca->ledger && ca->limits == limits)
        return; /* it may know what a full disk did not take */
    ca->limits = limits;
    ledger_close(&ca->ledger);
    struct arena *a = arena_new(1024);
    ca->ledger =
        ledger_open(a, arena_fmt(a, "%s/acme/%s/ledger", is->state, ca->name).p, limits, &err);
    if (err)
        log_warn("ledger of orders", "ca", "%s", ca->name, "cause", "%s", issuer_words(is, a, err));
    arena_free(&a);
}

static struct issuer_ca *ca_want(struct issuer *is, struct str name, struct str url,
                                 const struct conf_ca *cc, const struct conf_acme *c)
{
    struct issuer_ca *ca = cas_find(is, name);
    if (!ca)
        ca = ca_new(is, name, url, cc, c);
    ca->wanted = true;
    return ca;
}

static bool same_account(const struct conf_acme *a, const struct conf_acme *b)
{
    return str_eq(a->email, b->email) && str_eq(a->root_pem, b->root_pem) &&
           str_eq(a->eab_kid, b->eab_kid) && str_eq(a->eab_hmac, b->eab_hmac);
}

/* Orders go on only with a CA that is still asked in the same way. */
static void drop_unwanted(struct issuer *is)
{
    LIST_EACH_SAFE (&is->cas, l) {
        struct issuer_ca *ca = container_of(l, struct issuer_ca, link);
        if (ca->wanted)
            continue;
        LIST_EACH (&is->hosts, hl) {
            struct host *h = container_of(hl, struct host, link);
            if (h->ca == ca || h->target == ca)
                try_drop(h);
            ca_call_cancel(&h->ari_call); /* maybe of this one; asked again after the reload */
        }
        asks_ca_gone(is);
        ca_free(ca);
    }
}

/* Tries go on with the CA that they were begun with, wherever in the order it stands now. */
static void find_targets(struct issuer *is)
{
    LIST_EACH (&is->hosts, l) {
        struct host *h = container_of(l, struct host, link);
        unsigned at = 0;
        while (at < is->n_ranked && is->ranked[at] != h->target)
            at++;
        const bool asked = at < is->n_ranked && (h->ca == h->target || h->ca == h->target->stage);
        h->ca_at = asked ? at : 0;
        if (h->target && !asked)
            try_drop(h);
    }
}

void cas_use(struct issuer *is, const struct conf_acme *c)
{
    const bool same = is->conf && same_account(&is->conf->acme, c);
    LIST_EACH (&is->cas, l)
        container_of(l, struct issuer_ca, link)->wanted = false;
    if (!same)
        drop_unwanted(is);
    arena_free(&is->ranked_arena);
    is->ranked_arena = arena_new(256);
    is->ranked = arena_zarray(is->ranked_arena, struct issuer_ca *, c->n_cas + 1);
    is->n_ranked = 0;
    for (unsigned i = 0; i < c->n_cas; i++) {
        const struct conf_ca *cc = &c->cas[i];
        struct issuer_ca *ca = ca_want(is, cc->name, cc->url, cc, c);
        ca->known = cc->known;
        ledger_use(is, ca, ledger_limits(cc->name, cc->le_limits));
        ca->stage = NULL;
        if (cc->staging.n) {
            ca->stage = ca_want(is, cc->staging_name, cc->staging, cc, c);
            ca->stage->known = cc->known;
            ledger_use(is, ca->stage, cc->le_limits ? ledger_staging : ledger_none);
        }
        is->ranked[is->n_ranked++] = ca;
    }
    drop_unwanted(is);
    find_targets(is);
}

void cas_close(struct issuer *is)
{
    LIST_EACH_SAFE (&is->cas, l)
        ca_free(container_of(l, struct issuer_ca, link));
    arena_free(&is->ranked_arena);
}

uint64_t cas_take_place(struct issuer_ca *ca)
{
    const uint64_t now = loop_now_ms();
    ca->tokens = MIN(ca->tokens + (now - ca->tokens_at) * BUCKET_A_S, (uint64_t)BUCKET * 1000);
    ca->tokens_at = now;
    if (ca->under_way >= PLACES)
        return FULL_AGAIN_MS;
    if (ca->tokens < 1000)
        return (1000 - ca->tokens) / BUCKET_A_S + 1;
    ca->tokens -= 1000;
    ca->under_way++;
    return 0;
}

void cas_leave_place(struct issuer_ca *ca)
{
    ca->tokens += 1000;
    ca->under_way--;
}
