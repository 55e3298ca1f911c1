/*
 * issuer_ask.c - what people ask: how the hosts' certificates stand, one now, one revoked, another
 * account key. Answers are JSON for the command line (proxy/cli_certs.c).
 */
#include <stdio.h>
#include <stdlib.h>

#include "acme/cert_store.h"
#include "acme/issuer_parts.h"
#include "base/json.h"
#include "base/log.h"

#define PATIENCE_MS 50000 /* below the master's own */

struct ask {
    struct list link; /* in is->asks */
    struct list wait; /* in its host's asks */
    struct issuer *is;
    uint64_t id;
    char host[256];
    char (*cas)[ISSUER_NAME_MAX]; /* roll-key: whose, in this order */
    unsigned n_cas, at, failed;   /* the next of them, and how many would not */
    struct ca_call *call;         /* of revoke and roll-key */
    char issuer[ISSUER_NAME_MAX]; /* that is asked */
    char text[1024];
    struct deadline limit;
};

/* ---- the report ---- */

static json_t *next_json(const struct host *h)
{
    if (!host_rests(h))
        return json_pack("{s:n, s:s}", "at", "what",
                         h->state == HOST_LOOKING  ? "looks whether the host can be found"
                         : h->state == HOST_QUEUED ? "waits for its turn at the CA"
                         : h->step[0]              ? h->step
                                                   : "order under way");
    return json_pack("{s:I, s:s}", "at", (json_int_t)host_next_at(h), "what",
                     h->state == HOST_IDLE ? "renewal" : "next try");
}

static json_t *error_json(const struct host *h)
{
    if (!h->rec.error.at)
        return json_null();
    return json_pack("{s:I, s:o, s:o, s:o}", "at", (json_int_t)h->rec.error.at, "text",
                     json_text(str_of(h->rec.error.text)), "hint",
                     json_text(str_of(h->rec.error.hint)), "ca",
                     json_text(str_of(h->rec.error.ca)));
}

static json_t *ari_json(const struct host *h)
{
    if (!h->rec.ari.chosen || !host_ari_is_of_served(h))
        return json_null();
    return json_pack("{s:I, s:I, s:o}", "start", (json_int_t)h->rec.ari.start, "end",
                     (json_int_t)h->rec.ari.end, "url",
                     h->rec.ari.url[0] ? json_text(str_of(h->rec.ari.url)) : json_null());
}

static json_t *history_json(const struct host *h)
{
    json_t *all = json_array();
    for (unsigned i = 0; i < h->rec.n_history; i++) {
        const struct host_event *e = &h->rec.history[i];
        json_array_append_new(all, json_pack("{s:I, s:o, s:b, s:o}", "at", (json_int_t)e->at,
                                             "what", json_text(str_of(e->what)), "ok", (int)e->ok,
                                             "text", json_text(str_of(e->text))));
    }
    return all;
}

static json_t *host_json(const struct host *h)
{
    static const char *const steps[] = {
        [ISSUER_SERVED] = "served", [ISSUER_WORKING] = "working", [ISSUER_WAITING] = "waiting"};
    const bool have = h->served.have;
    json_t *j = json_object();
    json_object_set_new(j, "host", json_text(str_of(h->name)));
    json_object_set_new(j, "issuer", have ? json_text(str_of(h->served.issuer)) : json_null());
    json_object_set_new(j, "state", json_string(steps[host_step(h)]));
    json_object_set_new(j, "serving", json_boolean(have && h->served.until > wall_s()));
    json_object_set_new(j, "not_before", json_time(have ? h->served.not_before : 0));
    json_object_set_new(j, "not_after", json_time(have ? h->served.until : 0));
    json_object_set_new(j, "next", next_json(h));
    json_object_set_new(j, "failures", json_integer(h->rec.failures));
    json_object_set_new(j, "error", error_json(h));
    json_object_set_new(j, "ari", ari_json(h));
    json_object_set_new(j, "preflight", json_text(str_of(h->preflight_text)));
    json_object_set_new(j, "history", history_json(h));
    return j;
}

/* What one host may still do is its own business; here what the CA counts for all of them. */
static json_t *limits_json(const struct issuer *is, const struct issuer_ca *ca)
{
    json_t *all = json_array();
    for (unsigned k = 0; k < LEDGER_KINDS; k++) {
        struct ledger_left worst = {0};
        LIST_EACH (&is->hosts, l) {
            const struct host *h = container_of(l, struct host, link);
            struct ledger_left left =
                ledger_left(ca->ledger, (enum ledger_kind)k, str_of(h->name), wall_s());
            if (left.used >= worst.used)
                worst = left;
        }
        if (worst.limit)
            json_array_append_new(all, json_pack("{s:s, s:i, s:i, s:o}", "what",
                                                 ledger_kind_text((enum ledger_kind)k), "used",
                                                 (int)worst.used, "limit", (int)worst.limit,
                                                 "until", json_time(worst.until)));
    }
    return all;
}

static json_t *ca_json(const struct issuer *is, const struct issuer_ca *ca)
{
    const struct acme_fail *problem = ca_problem(ca->ca);
    return json_pack("{s:s, s:o, s:s, s:o, s:o, s:o}", "name", ca->name, "directory",
                     json_text(ca_directory(ca->ca)), "account", ca_account_url(ca->ca),
                     "paused_until", json_time(ca_paused_until(ca->ca)), "problem",
                     problem ? json_text(str_of(problem->text)) : json_null(), "limits",
                     limits_json(is, ca));
}

static json_t *report(const struct issuer *is, const char *text)
{
    json_t *hosts = json_array(), *cas = json_array();
    LIST_EACH (&is->hosts, l)
        json_array_append_new(hosts, host_json(container_of(l, struct host, link)));
    LIST_EACH (&is->cas, l)
        json_array_append_new(cas, ca_json(is, container_of(l, struct issuer_ca, link)));
    return json_pack("{s:o, s:o, s:o}", "text", json_text(str_of(text)), "hosts", hosts, "cas",
                     cas);
}

/* ---- answers ---- */

static void ask_close(struct ask *k)
{
    deadline_cancel(&k->limit);
    list_remove(&k->link);
    list_remove(&k->wait);
    ca_call_cancel(&k->call);
    free(k->cas);
    free(k);
}

static void ask_answer(struct ask *k, bool ok)
{
    struct issuer *is = k->is;
    json_t *j = report(is, k->text);
    const uint64_t id = k->id;
    ask_close(k);
    is->ops->answer(is->ctx, id, ok, j);
}

static void say(struct ask *k, const char *fmt, ...) PRINTF(2, 3);
static void say(struct ask *k, const char *fmt, ...)
{
    struct arena *a = arena_new(2048);
    va_list ap;
    va_start(ap, fmt);
    char line[800];
    int n = vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    struct str all = arena_fmt(a, "%s%s\n", k->text, n > 0 ? line : "");
    text_copy(k->text, sizeof(k->text), all);
    arena_free(&a);
}

static void on_limit(struct deadline *d)
{
    struct ask *k = container_of(d, struct ask, limit);
    const bool known = !k->call; /* else its answer, if it comes, is nobody's any more */
    say(k, known ? "still under way: `headgate certs` shows how it stands"
                 : "the CA did not answer in time: whether it did it is not known; ask again");
    ask_answer(k, known);
}

/* ---- renew ---- */

void asks_host_ended(struct host *h, bool ok)
{
    LIST_EACH_SAFE (&h->asks, l) {
        struct ask *k = container_of(l, struct ask, wait);
        if (ok)
            say(k, "%s: a certificate of %s is in service", h->name, h->served.issuer);
        else if (h->rec.error.at)
            say(k, "%s: %s", h->name, h->rec.error.text);
        else
            say(k, "%s: the configuration does not name it any more", h->name);
        if (!ok && h->rec.error.hint[0])
            say(k, "%s", h->rec.error.hint);
        ask_answer(k, ok);
    }
}

static void renew(struct ask *k, struct host *h)
{
    list_append(&h->asks, &k->wait);
    h->first_look_done = h->served.have;
    host_event(h, TRIGGER_ASKED);
}

/* ---- revoke ---- */

static void on_revoked(void *ctx, const struct ca_answer *ans)
{
    struct ask *k = ctx;
    struct host *h = host_find(k->is, str_of(k->host));
    struct arena *a = arena_new(4096);
    k->call = NULL;
    if (ans->fail) {
        say(k, "%s: not revoked: %s", k->host, ans->fail->text);
        ask_answer(k, false);
        arena_free(&a);
        return;
    }
    const char *err = cert_store_remove(a, k->is->state, k->issuer, str_of(k->host));
    log_info("certificate revoked", "host", "%s", k->host, "ca", "%s", k->issuer);
    say(k, "%s: revoked; a new one is ordered", k->host);
    if (err)
        say(k, "its files are still there: %s", issuer_words(k->is, a, err));
    if (h) {
        host_record_event(&h->rec, wall_s(), true, "revoked", k->issuer);
        host_order_over(h);
        host_forget(h); /* in service until its successor is there */
        renew(k, h);
    } else {
        ask_answer(k, true);
    }
    arena_free(&a);
}

static void revoke(struct ask *k, struct host *h)
{
    struct arena *a = arena_new(64 * 1024);
    struct cert_unit u;
    struct cert_facts f;
    bool found = false;
    struct issuer_ca *ca = cas_find(k->is, str_of(h->served.issuer));
    const char *err = NULL;
    if (!h->served.have)
        err = "it has no certificate";
    else if (!ca)
        err = "its CA is not in acme.ca any more: put it back to revoke the certificate there";
    if (!err)
        err = cert_store_read(a, k->is->state, ca->name, str_of(h->name), &u, &found);
    if (!err && !found)
        err = "its files are gone";
    if (!err)
        err = cert_check(a, u.cert_pem, u.key_pem, str_of(h->name), wall_s(), &f);
    if (err) {
        say(k, "%s: not revoked: %s", h->name, issuer_words(k->is, a, err));
        ask_answer(k, false);
    } else {
        text_copy(k->issuer, sizeof(k->issuer), str_of(ca->name));
        k->call = ca_revoke(ca->ca, f.leaf_der, 0, on_revoked, k);
    }
    arena_free(&a);
}

/* ---- roll-key ---- */

static void roll_next(struct ask *k);

static void on_rolled(void *ctx, const struct ca_answer *ans)
{
    struct ask *k = ctx;
    k->call = NULL;
    if (ans->fail) {
        k->failed++;
        say(k, "%s: the account's key is the old one still: %s", k->issuer, ans->fail->text);
    } else {
        say(k, "%s: the account has a new key", k->issuer);
    }
    roll_next(k);
}

/* Those of the time of the question: a reload may have changed their order. */
static void roll_next(struct ask *k)
{
    struct issuer_ca *ca = NULL;
    while (!ca && k->at < k->n_cas)
        ca = cas_find(k->is, str_of(k->cas[k->at++]));
    if (!ca) {
        ask_answer(k, k->failed == 0);
        return;
    }
    text_copy(k->issuer, sizeof(k->issuer), str_of(ca->name));
    k->call = ca_roll_key(ca->ca, on_rolled, k);
}

static void roll(struct ask *k)
{
    const struct issuer *is = k->is;
    k->cas = calloc(is->n_ranked + 1, sizeof(k->cas[0]));
    ASSERT(k->cas);
    for (; k->n_cas < is->n_ranked; k->n_cas++)
        text_copy(k->cas[k->n_cas], sizeof(k->cas[0]), str_of(is->ranked[k->n_cas]->name));
    if (!k->n_cas)
        say(k, "there is no `acme` in the configuration, so there is no account");
    k->failed = k->n_cas == 0;
    roll_next(k);
}

/* ---- all ---- */

void issuer_ask(struct issuer *is, uint64_t id, struct str what, struct str host)
{
    struct ask *k = calloc(1, sizeof(*k));
    struct host *h = host.n ? host_find(is, host) : NULL;
    ASSERT(k);
    k->id = id;
    k->is = is;
    text_copy(k->host, sizeof(k->host), host);
    list_init(&k->wait);
    list_append(&is->asks, &k->link);
    deadline_set(&k->limit, PATIENCE_MS, on_limit);
    if (str_eq(what, STR("list"))) {
        ask_answer(k, true);
    } else if (str_eq(what, STR("roll-key"))) {
        roll(k);
    } else if (!h) {
        say(k, "%s: no host of the configuration gets its certificate by ACME under this name",
            k->host);
        ask_answer(k, false);
    } else if (str_eq(what, STR("renew"))) {
        renew(k, h);
    } else if (str_eq(what, STR("revoke"))) {
        revoke(k, h);
    } else {
        say(k, "this agent does not know `" STR_FMT "`", STR_ARG(what));
        ask_answer(k, false);
    }
}

void asks_ca_gone(struct issuer *is)
{
    LIST_EACH_SAFE (&is->asks, l) {
        struct ask *k = container_of(l, struct ask, link);
        if (!k->call)
            continue;
        ca_call_cancel(&k->call);
        say(k, "the configuration changed meanwhile: ask again");
        ask_answer(k, false);
    }
}

void asks_drop_all(struct issuer *is)
{
    LIST_EACH_SAFE (&is->asks, l)
        ask_close(container_of(l, struct ask, link));
}
