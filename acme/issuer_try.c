/*
 * issuer_try.c - one try to get a host its certificate: a CA that may be asked now, the lock, the
 * look whether the host can be found, an order (rehearsed at the staging CA after a failure), the
 * store. When the next try is, is issuer.c's.
 */
#include <stdlib.h>

#include "acme/cert_store.h"
#include "acme/issuer_parts.h"
#include "base/log.h"

#define OWNED_S 30    /* another headgate renews it: looked at again then */
#define LOOK_MS 45000 /* others may be looked at first: no order waits longer for that */
#define ROOM_MS 1000  /* the orders under way may fill a limit: looked at again then */

static const char NO_WAY[] =
    "none of acme.challenge can work for this host: tls-alpn-01 needs listen.https, http-01 needs "
    "listen.http, a wildcard needs dns-01 with dns_hook";

static const struct order_ops order_ops;

static void try_next(struct host *h);

/* ---- its end ---- */

/* What must not outlive a try; the preflight that nobody waits for may. */
static void release(struct host *h)
{
    if (h->ca && h->order)
        h->ca->under_way--;
    order_close(&h->order);
    cert_store_unlock(&h->lock);
    h->ca = h->target = NULL;
    h->step[0] = '\0';
}

static void hide_probe(struct host *h)
{
    if (h->probe_id)
        h->is->ops->hide(h->is->ctx, h->probe_id);
    h->probe_id = 0;
}

void try_drop(struct host *h)
{
    release(h);
    preflight_close(&h->preflight);
    hide_probe(h);
    ca_call_cancel(&h->ari_call);
    if (!host_rests(h))
        h->state = HOST_WAITING; /* who waits for it is told by whoever drops it */
}

static void fail_here(struct host *h, enum acme_fail_kind kind, const char *step, const char *why)
{
    struct acme_fail f;
    const char *ca = h->ca ? h->ca->name : "";
    acme_fail_set(&f, kind, step, "%s", why);
    release(h);
    host_failed(h, &f, ca);
}

/* ---- which CA ---- */

struct choice {
    struct issuer_ca *target, *ca;
    int64_t until; /* when none may be asked now: the first that may be again */
    char why[512], name[ISSUER_NAME_MAX];
};

/* One whose directory was not read yet may: where it does not, it passes over `replaces`. */
static bool takes_renewals(const struct ca *ca)
{
    return ca_url(ca, CA_RENEWAL_INFO)[0] || !ca_url(ca, CA_NEW_ORDER)[0];
}

static bool renewal_exempt(const struct host *h, const struct issuer_ca *ca)
{
    return h->served.have && strcmp(h->served.issuer, ca->name) == 0 && h->served.ari_id[0] &&
           takes_renewals(ca->ca);
}

/* An order of before is gone on with: no new one is made. */
static bool goes_on(const struct host *h, const struct issuer_ca *ca)
{
    return h->rec.pending.url[0] && strcmp(h->rec.pending.ca, ca->name) == 0;
}

/* May this one be asked now? Else the earliest moment is kept in *c. */
static bool may_ask(const struct host *h, struct issuer_ca *ca, struct choice *c)
{
    int64_t until = ca_paused_until(ca->ca);
    const char *why = "the CA asked to be left alone for a while";
    struct ledger_verdict v;
    if (until <= wall_s() && goes_on(h, ca)) {
        until = 0;
    } else if (until <= wall_s()) {
        v = ledger_ask(ca->ledger, str_of(h->name), renewal_exempt(h, ca), wall_s());
        until = v.until;
        why = v.text;
    } else if (ca_problem(ca->ca)) {
        why = ca_problem(ca->ca)->text;
    }
    if (!until)
        return true;
    if (c->until && c->until <= until)
        return false;
    c->until = until;
    text_copy(c->why, sizeof(c->why), str_of(why));
    text_copy(c->name, sizeof(c->name), str_of(ca->name));
    return false;
}

/* After a failure the CA's staging directory is asked first: its limits are generous. */
static bool to_be_rehearsed(const struct host *h, const struct issuer_ca *ca)
{
    struct choice ignored = {0};
    return h->rec.failures > 0 && ca->stage && !h->rehearsed && !h->rec.pending.url[0] &&
           may_ask(h, ca->stage, &ignored);
}

static void choose(struct host *h, struct choice *c)
{
    for (; h->ca_at < h->is->n_ranked; h->ca_at++, h->rehearsed = false) {
        struct issuer_ca *ca = h->is->ranked[h->ca_at];
        if (!may_ask(h, ca, c))
            continue;
        c->target = ca;
        c->ca = to_be_rehearsed(h, ca) ? ca->stage : ca;
        return;
    }
}

/* ---- the look whether the host can be found ---- */

static void on_looked(void *ctx, const struct preflight_verdict *v)
{
    struct host *h = ctx;
    h->preflight = NULL;
    hide_probe(h);
    text_copy(h->preflight_text, sizeof(h->preflight_text), str_of(v->text));
    if (v->result != PREFLIGHT_FINE)
        log_warn("the CA may not find this host", "host", "%s", h->name, "cause", "%s", v->text);
    if (h->state != HOST_LOOKING)
        return;
    if (v->result == PREFLIGHT_BAD)
        fail_here(h, ACME_INVALID, "preflight", v->text);
    else
        host_event(h, TRIGGER_LOOKED);
}

/* Where a CA of the internet comes; others come where we listen, or where they were told. */
static void ports_of(const struct host *h, uint16_t ports[2])
{
    const struct conf *c = h->is->conf;
    const bool known = h->target->known;
    memset(ports, 0, 2 * sizeof(*ports));
    if (conf_listens(c, CONF_LISTEN_HTTP))
        ports[0] = known ? 80 : c->public_http;
    if (conf_listens(c, CONF_LISTEN_HTTPS))
        ports[1] = known ? 443 : c->public_https;
}

static void look(struct host *h, bool with_probe)
{
    char path[128];
    struct preflight_spec spec = {.host = str_of(h->name)};
    struct out o = out_on(path, sizeof(path));
    memcpy(spec.ports, h->look_ports, sizeof(spec.ports));
    if (with_probe) {
        out_lit(&o, "/.well-known/acme-challenge/");
        out_str(&o, str_of(h->probe_token));
        spec.probe_path = out_done(&o);
        spec.probe_body = str_of(h->probe_answer);
    }
    h->preflight = preflight_start(&spec, on_looked, h);
}

static void on_probe_shown(void *arg, const char *err)
{
    struct host *h = arg;
    if (err)
        hide_probe(h);
    look(h, !err);
}

static void random_word(char *to, size_t size)
{
    uint64_t r[2];
    random_bytes(r, sizeof(r));
    struct out o = out_on(to, size - 1);
    out_hex(&o, r[0], 16);
    out_hex(&o, r[1], 16);
    ASSERT(!o.over);
    to[o.n] = '\0';
}

/* A file that this very server shows tells it from another one at the same name. */
static void preflight_begin(struct host *h)
{
    if (h->preflight || h->probe_id || str_starts(str_of(h->name), STR("*")))
        return;
    ports_of(h, h->look_ports);
    if (!conf_listens(h->is->conf, CONF_LISTEN_HTTP)) {
        look(h, false);
        return;
    }
    random_word(h->probe_token, sizeof(h->probe_token));
    random_word(h->probe_answer, sizeof(h->probe_answer));
    const struct challenge c = {.kind = CONF_HTTP_01,
                                .host = str_of(h->name),
                                .token = str_of(h->probe_token),
                                .answer = str_of(h->probe_answer)};
    h->probe_id = h->is->ops->show(h->is->ctx, &c, on_probe_shown, h);
}

/* ---- the order ---- */

static unsigned challenges_for(const struct host *h, enum conf_challenge out[CONF_CHALLENGES])
{
    const struct conf *c = h->is->conf;
    const bool wild = str_starts(str_of(h->name), STR("*"));
    unsigned n = 0;
    for (unsigned i = 0; i < c->acme.n_challenges; i++) {
        enum conf_challenge k = c->acme.challenges[i];
        bool works = k == CONF_DNS_01
                         ? c->acme.dns_hook.n > 0
                         : !wild && conf_listens(c, k == CONF_HTTP_01 ? CONF_LISTEN_HTTP
                                                                      : CONF_LISTEN_HTTPS);
        if (works)
            out[n++] = k;
    }
    return n;
}

static void order_begin(struct host *h)
{
    const struct conf_acme *c = &h->is->conf->acme;
    struct order_spec spec = {
        .host = str_of(h->name), .key = c->key, .profile = c->profile, .chain = c->chain};
    spec.n_challenges = challenges_for(h, spec.challenges);
    const bool rehearsal = h->ca != h->target;
    if (!rehearsal && renewal_exempt(h, h->ca))
        spec.replaces = str_of(h->served.ari_id);
    if (!rehearsal && goes_on(h, h->ca)) {
        spec.resume_url = str_of(h->rec.pending.url);
        spec.resume_key = str_of(h->rec.pending.key);
    }
    h->state = HOST_ORDERING;
    h->order = order_start(h->ca->ca, &spec, &order_ops, h);
    host_tell(h);
}

/* Orders under way count only as they end: with them, is there room for one more in the limits? */
static bool fits_beside(const struct host *h)
{
    const struct ledger *l = h->ca->ledger;
    const int64_t now = wall_s();
    const struct ledger_left all = ledger_left(l, LEDGER_ORDERS, str_of(h->name), now),
                             same = ledger_left(l, LEDGER_DOMAIN, str_of(h->name), now);
    if (goes_on(h, h->ca) || (!all.limit && !same.limit))
        return true;
    struct arena *a = arena_new(4096);
    const struct str domain = ledger_domain(a, str_of(h->name));
    unsigned orders = 0, of_domain = 0;
    LIST_EACH (&h->is->hosts, it) {
        const struct host *x = container_of(it, struct host, link);
        if (x->ca != h->ca || !x->order)
            continue;
        orders++;
        of_domain += str_eq(ledger_domain(a, str_of(x->name)), domain);
    }
    arena_free(&a);
    return (!all.limit || all.used + orders < all.limit) &&
           (!same.limit || same.used + of_domain < same.limit || renewal_exempt(h, h->ca));
}

void try_order(struct host *h)
{
    enum conf_challenge ignored[CONF_CHALLENGES];
    struct choice c = {0};
    if (!challenges_for(h, ignored)) {
        fail_here(h, ACME_LOCAL, "order", NO_WAY);
        return;
    }
    uint64_t wait = cas_take_place(h->ca);
    if (!wait && !may_ask(h, h->ca, &c)) {
        /* While it waited, others took what was left, or the CA began to pause. */
        cas_leave_place(h->ca);
        release(h);
        try_next(h);
        return;
    }
    if (!wait && !fits_beside(h)) {
        cas_leave_place(h->ca);
        wait = ROOM_MS;
    }
    if (wait)
        host_wait(h, HOST_QUEUED, wait);
    else
        order_begin(h);
}

/* ---- the order's callbacks ---- */

static void on_shown(void *arg, const char *err)
{
    struct host *h = arg;
    if (h->order)
        order_shown(h->order, err);
}

static void on_show(void *ctx, const struct challenge *c)
{
    struct host *h = ctx;
    h->shown_id = h->is->ops->show(h->is->ctx, c, on_shown, h);
}

static void on_hide(void *ctx, const struct challenge *c)
{
    struct host *h = ctx;
    (void)c;
    if (h->shown_id)
        h->is->ops->hide(h->is->ctx, h->shown_id);
    h->shown_id = 0;
}

static const char *on_save(void *ctx, struct str url, struct str key_pem)
{
    struct host *h = ctx;
    if (h->ca != h->target)
        return NULL; /* a rehearsal is not worth it */
    host_order_over(h);
    if (url.n >= sizeof(h->rec.pending.url) || key_pem.n >= sizeof(h->rec.pending.key))
        return "the order's URL is too long to be kept";
    text_copy(h->rec.pending.ca, sizeof(h->rec.pending.ca), str_of(h->ca->name));
    text_copy(h->rec.pending.url, sizeof(h->rec.pending.url), url);
    text_copy(h->rec.pending.key, sizeof(h->rec.pending.key), key_pem);
    struct arena *a = arena_new(8 * 1024);
    static char words[512];
    const char *err = host_record_write(a, h->is->state, str_of(h->name), &h->rec);
    if (err)
        text_copy(words, sizeof(words), str_of(issuer_words(h->is, a, err)));
    arena_free(&a);
    return err ? words : NULL;
}

static void on_spent(void *ctx, enum order_spent what, bool renewal)
{
    static const enum ledger_event events[] = {[ORDER_SPENT_ORDER] = LEDGER_ORDERED,
                                               [ORDER_SPENT_VALIDATION] = LEDGER_FAILED,
                                               [ORDER_SPENT_CERTIFICATE] = LEDGER_ISSUED};
    struct host *h = ctx;
    const bool kept = what == ORDER_SPENT_CERTIFICATE && h->ca == h->target;
    /* One that could not be fetched or stored is fetched again: it counts once. */
    if (kept && h->rec.pending.issued)
        return;
    struct arena *a = arena_new(1024);
    const char *err =
        ledger_add(h->ca->ledger, a, events[what], str_of(h->name), renewal, wall_s());
    if (err)
        log_error("ledger of orders is not stored", "ca", "%s", h->ca->name, "cause", "%s",
                  issuer_words(h->is, a, err));
    arena_free(&a);
    if (kept) {
        h->rec.pending.issued = true;
        host_save(h);
    }
}

static void on_step(void *ctx, const char *step)
{
    struct host *h = ctx;
    text_copy(h->step, sizeof(h->step), str_of(step));
    log_debug("order", "host", "%s", h->name, "ca", "%s", h->ca->name, "step", "%s", step);
}

static struct str meta_of(struct arena *a, const struct host *h, const struct order_result *r)
{
    json_t *j =
        json_pack("{s:s, s:s, s:I, s:I, s:I, s:s%, s:s%}", "host", h->name, "ca", h->ca->name,
                  "issued_at", (json_int_t)wall_s(), "not_before", (json_int_t)r->cert.not_before,
                  "not_after", (json_int_t)r->cert.not_after, "order", r->url.p, r->url.n,
                  "signed_by", r->cert.issuer.n ? r->cert.issuer.p : "", r->cert.issuer.n);
    char *text = j ? json_dumps(j, JSON_INDENT(1)) : NULL;
    struct str out = arena_str(a, text ? str_of(text) : STR("{}"));
    free(text);
    json_decref(j);
    return out;
}

/* In service even when the disk is full: the order is kept, and is asked for it again. */
static void issued(struct host *h, const struct order_result *r)
{
    struct arena *a = arena_new(32 * 1024);
    const struct cert_unit unit = {r->cert.pem, r->key_pem, meta_of(a, h, r)};
    const char *err = cert_store_write(a, h->is->state, h->ca->name, str_of(h->name), &unit);
    host_serve(h, h->ca->name, &r->cert, r->key_pem);
    log_info("certificate issued", "host", "%s", h->name, "ca", "%s", h->ca->name, "hours", "%ld",
             (long)((r->cert.not_after - wall_s()) / 3600));
    if (err) {
        fail_here(h, ACME_LOCAL, "store", issuer_words(h->is, a, err));
    } else {
        host_order_over(h);
        host_record_event(&h->rec, wall_s(), true, "issued", h->ca->name);
        release(h);
        host_succeeded(h);
    }
    arena_free(&a);
}

static bool waits(const struct acme_fail *f)
{
    return f->kind == ACME_BUSY || f->kind == ACME_LIMITED;
}

/* A failure, whose retry does not wait for a CA's word, before a wait; then the shorter wait. */
static bool counts_more(const struct acme_fail *f, const struct acme_fail *than)
{
    if (than->kind == ACME_FINE || !waits(than))
        return than->kind == ACME_FINE;
    return !waits(f) || (f->retry_at && f->retry_at < than->retry_at);
}

static void refused(struct host *h, const struct acme_fail *f)
{
    const char *ca = h->ca->name;
    const bool more = h->ca_at + 1 < h->is->n_ranked && f->kind != ACME_LOCAL;
    if (counts_more(f, &h->fail)) {
        h->fail = *f;
        text_copy(h->fail_ca, sizeof(h->fail_ca), str_of(ca));
    }
    release(h);
    if (more) {
        log_warn("the next CA is tried", "host", "%s", h->name, "ca", "%s", ca, "cause", "%s",
                 f->text);
        h->ca_at++;
        h->rehearsed = false;
        try_next(h);
    } else {
        host_failed(h, &h->fail, h->fail_ca);
    }
}

/* Trouble of the staging CA says nothing about the host, and must not hold up its certificate. */
static bool is_its_own(const struct acme_fail *f)
{
    return waits(f) || f->kind == ACME_NETWORK || f->kind == ACME_ACCOUNT;
}

/* By agreement, or because there can be none now: the CA itself is next. */
static void rehearsal_over(struct host *h)
{
    h->rehearsed = true;
    release(h);
    try_next(h);
}

static void on_done(void *ctx, const struct order_result *r)
{
    struct host *h = ctx;
    h->order = NULL; /* it closes itself */
    h->ca->under_way--;
    if (r->fail && h->ca != h->target && is_its_own(r->fail)) {
        log_warn("no dry run", "host", "%s", h->name, "ca", "%s", h->ca->name, "cause", "%s",
                 r->fail->text);
        rehearsal_over(h);
    } else if (r->fail) {
        refused(h, r->fail);
    } else if (h->ca == h->target) {
        issued(h, r);
    } else {
        host_record_event(&h->rec, wall_s(), true, "dry run", h->ca->name);
        rehearsal_over(h);
    }
}

static const struct order_ops order_ops = {.show = on_show,
                                           .hide = on_hide,
                                           .save = on_save,
                                           .spent = on_spent,
                                           .step = on_step,
                                           .done = on_done};

/* ---- its beginning ---- */

/* Another headgate may have renewed it meanwhile, in a folder that is shared. */
static bool done_by_another(struct host *h)
{
    return host_adopt(h) && host_renew_at(h) > wall_s();
}

static void with_lock(struct host *h)
{
    if (done_by_another(h)) {
        host_record_event(&h->rec, wall_s(), true, "found", "another headgate renewed it");
        release(h);
        host_succeeded(h);
        return;
    }
    const bool first = !h->served.have && !h->first_look_done;
    h->first_look_done = true;
    if (first)
        preflight_begin(h);
    /* A CA of a private network may see names that are not seen from here. */
    if (!first || !h->ca->known || (!h->preflight && !h->probe_id)) {
        try_order(h);
        return;
    }
    host_wait(h, HOST_LOOKING, LOOK_MS);
}

static void try_next(struct host *h)
{
    struct choice c = {0};
    choose(h, &c);
    if (!c.ca && h->fail.kind) {
        host_failed(h, &h->fail, h->fail_ca);
        return;
    }
    if (!c.ca) {
        host_postponed(h, c.until, c.why, c.name);
        return;
    }
    struct arena *a = arena_new(1024);
    const char *owner;
    h->target = c.target;
    h->ca = c.ca;
    const char *err =
        cert_store_lock(a, h->is->state, c.target->name, str_of(h->name), &h->lock, &owner);
    if (err) {
        fail_here(h, ACME_LOCAL, "lock", issuer_words(h->is, a, err));
    } else if (owner) {
        char why[256];
        struct out o = out_on(why, sizeof(why) - 1);
        out_fmt(&o, "it is being renewed by another headgate (%.100s)", owner);
        why[o.n] = '\0';
        release(h);
        host_postponed(h, wall_s() + OWNED_S, why, c.ca->name);
    } else {
        with_lock(h);
    }
    arena_free(&a);
}

void try_begin(struct host *h)
{
    h->ca_at = 0;
    h->rehearsed = false;
    h->fail = (struct acme_fail){0};
    try_next(h);
}
