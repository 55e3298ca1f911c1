/*
 * issuer.c - the hosts: what lies on disk for them, when each is due, and what follows from the end
 * of a try: a table of state × trigger. What a try does is issuer_try.c's.
 */
#include "acme/issuer.h"

#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>

#include "acme/cert_store.h"
#include "acme/issuer_parts.h"
#include "base/file.h"
#include "base/log.h"

#define LOOK_MAX_S   3600  /* clocks are set, machines sleep: looking again costs nothing */
#define ARI_NONE_S   21600 /* a CA that has none is asked again after that */
#define DAY_S        86400
#define WARN_EVERY_S DAY_S
#define PAUSE_LEAST  5    /* from one certificate to the next, however short they live */
#define POSTPONE_MAX 60   /* a CA that says "in a second" again and again: so slowly at last */
#define LIMITED_S    3600 /* "too many", and not a word until when */
#define BUSY_S       60

static void on_due(struct deadline *d);
static void on_now(struct turn_task *t);
static void on_ari_due(struct deadline *d);

const char *issuer_words(const struct issuer *is, struct arena *a, const char *text)
{
    return file_in_full(a, text, is->state, is->shown);
}

/* ---- what is in service ---- */

static bool issuer_is_wanted(const struct issuer *is, const char *name)
{
    for (unsigned i = 0; i < is->n_ranked; i++)
        if (strcmp(is->ranked[i]->name, name) == 0)
            return true;
    return false;
}

/* The same for one certificate however often it is asked. */
static uint64_t seed_of(const struct host *h)
{
    return fnv1a(FNV1A_BASIS ^ (uint64_t)h->served.not_after, str_of(h->name));
}

bool host_ari_is_of_served(const struct host *h)
{
    return strcmp(h->rec.ari.id, h->served.ari_id) == 0;
}

int64_t host_renew_at(const struct host *h)
{
    if (!h->served.have || !issuer_is_wanted(h->is, h->served.issuer))
        return 0;
    const int64_t before = (int64_t)(h->is->conf->acme.renew_before / 1000);
    const int64_t life = h->served.until - h->served.not_before;
    /* Whatever the CA says, there is time for more than one try. */
    const int64_t latest = h->served.until - life / 10;
    const bool by_ca = !before && h->rec.ari.chosen && host_ari_is_of_served(h);
    return by_ca ? MIN(h->rec.ari.chosen, latest)
                 : renew_at(h->served.not_before, h->served.until, before, seed_of(h));
}

void host_forget(struct host *h)
{
    if (h->served.pem)
        OPENSSL_cleanse(h->served.pem, strlen(h->served.pem));
    free(h->served.pem);
    h->served.pem = NULL;
    h->served.have = false;
}

void host_order_over(struct host *h)
{
    OPENSSL_cleanse(&h->rec.pending, sizeof(h->rec.pending));
}

static void send_cert(struct host *h)
{
    h->is->ops->cert(h->is->ctx, str_of(h->name), str_of(h->served.pem), h->served.until);
}

void host_serve(struct host *h, const char *issuer, const struct cert_facts *f, struct str key_pem)
{
    host_forget(h);
    ca_call_cancel(&h->ari_call); /* what it says would be of the one before */
    h->served.have = true;
    h->served.not_before = f->not_before;
    h->served.not_after = f->not_after;
    h->served.until = f->chain_until;
    text_copy(h->served.issuer, sizeof(h->served.issuer), str_of(issuer));
    text_copy(h->served.ari_id, sizeof(h->served.ari_id), f->ari_id);
    h->served.pem = malloc(f->pem.n + key_pem.n + 1);
    ASSERT(h->served.pem);
    struct out o = out_on(h->served.pem, f->pem.n + key_pem.n + 1);
    out_str(&o, f->pem);
    out_str(&o, key_pem);
    out_char(&o, '\0');
    ASSERT(!o.over);
    send_cert(h);
    host_ari_look(h);
}

struct found {
    const char *issuer;
    struct cert_facts facts;
    struct str key;
};

/* Its order has ended: who was killed between the store and the record does not fetch it again. */
static void look_at_order(struct host *h, const char *issuer, struct str meta)
{
    json_t *j = json_loadb(meta.p, meta.n, 0, NULL);
    const char *url = json_string_value(json_object_get(j, "order"));
    if (url && strcmp(h->rec.pending.url, url) == 0 && strcmp(h->rec.pending.ca, issuer) == 0)
        host_order_over(h);
    json_decref(j);
}

/* The unit of one issuer, when it may be served and ends later than the best so far. */
static void look_at_unit(struct host *h, struct arena *a, const char *issuer, struct found *best)
{
    struct cert_unit u;
    struct cert_facts f;
    bool found;
    const char *err = cert_store_read(a, h->is->state, issuer, str_of(h->name), &u, &found);
    if (!err && !found)
        return;
    if (!err)
        err = cert_check(a, u.cert_pem, u.key_pem, str_of(h->name), wall_s(), &f);
    if (err) {
        log_warn("stored certificate is not served", "host", "%s", h->name, "issuer", "%s", issuer,
                 "cause", "%s", issuer_words(h->is, a, err));
        return;
    }
    look_at_order(h, issuer, u.meta);
    if (!best->issuer || f.chain_until > best->facts.chain_until)
        *best = (struct found){issuer, f, u.key_pem};
}

/* Of an earlier configuration's CA: better than none, until its successor is there. */
static void look_at_others(struct host *h, struct arena *a, struct found *best)
{
    const char **names;
    unsigned n = cert_store_issuers(a, h->is->state, &names);
    for (unsigned i = 0; i < n; i++)
        if (strcmp(names[i], "local") != 0 && !str_ends(str_of(names[i]), STR("-staging")) &&
            !issuer_is_wanted(h->is, names[i]))
            look_at_unit(h, a, names[i], best);
}

bool host_adopt(struct host *h)
{
    struct arena *a = arena_new(64 * 1024);
    struct found best = {0};
    for (unsigned i = 0; i < h->is->n_ranked; i++)
        look_at_unit(h, a, h->is->ranked[i]->name, &best);
    if (!best.issuer && !h->served.have)
        look_at_others(h, a, &best);
    const bool better =
        best.issuer &&
        (!h->served.have || best.facts.chain_until > h->served.until ||
         (!issuer_is_wanted(h->is, h->served.issuer) && issuer_is_wanted(h->is, best.issuer)));
    if (better)
        host_serve(h, best.issuer, &best.facts, best.key);
    arena_free(&a);
    return better;
}

/* ---- the record ---- */

void host_save(struct host *h)
{
    struct arena *a = arena_new(8 * 1024);
    const char *err = host_record_write(a, h->is->state, str_of(h->name), &h->rec);
    if (err)
        log_error("state of a certificate is not stored", "host", "%s", h->name, "cause", "%s",
                  issuer_words(h->is, a, err));
    arena_free(&a);
}

bool host_rests(const struct host *h)
{
    return h->state == HOST_IDLE || h->state == HOST_WAITING;
}

int64_t host_next_at(const struct host *h)
{
    return !host_rests(h) ? 0 : h->state == HOST_IDLE ? host_renew_at(h) : h->rec.next_at;
}

enum issuer_step host_step(const struct host *h)
{
    return !host_rests(h) ? ISSUER_WORKING : h->state == HOST_IDLE ? ISSUER_SERVED : ISSUER_WAITING;
}

void host_tell(struct host *h)
{
    const struct issuer_state s = {.host = str_of(h->name),
                                   .issuer = h->served.have ? h->served.issuer : "",
                                   .not_after = h->served.have ? h->served.until : 0,
                                   .next_at = host_next_at(h),
                                   .step = host_step(h),
                                   .failures = h->rec.failures,
                                   .error = h->rec.error.at ? h->rec.error.text : ""};
    h->is->ops->state(h->is->ctx, &s);
}

/* ---- when ---- */

/* From then on its end is near: a renewal that went well would have come long before. */
static int64_t end_is_near_at(const struct host *h)
{
    return h->served.until - (h->served.until - h->served.not_before) / 6;
}

/* Said once a day, and when it has come. */
static void warn_of_end(struct host *h)
{
    const int64_t now = wall_s(), left = h->served.until - now;
    const bool warned = h->warned_at <= now && now - h->warned_at < WARN_EVERY_S &&
                        (left > 0 || h->warned_at >= h->served.until);
    if (!h->served.have || now < end_is_near_at(h) || warned)
        return;
    h->warned_at = now;
    if (left <= 0)
        log_error("certificate has expired and is not served any more", "host", "%s", h->name,
                  "cause", "%s", h->rec.error.text);
    else
        log_warn("certificate expires soon and was not renewed", "host", "%s", h->name,
                 "hours_left", "%ld", (long)(left / 3600), "failures", "%u", h->rec.failures,
                 "cause", "%s", h->rec.error.text);
}

/* When the host is due by its state; wall clock s. */
static int64_t due_at(const struct host *h)
{
    return h->state == HOST_IDLE ? MAX(host_renew_at(h), h->rec.next_at) : h->rec.next_at;
}

/*
 * Waits are bounded: a longer one, or an error that is yet to come, was written when the clock was
 * ahead.
 */
static void mend_clock(struct host *h)
{
    const int64_t now = wall_s(), most = h->rec.error.at ? 8 * DAY_S : DAY_S / 2;
    if (h->rec.next_at <= now + most && h->rec.error.at <= now + 60)
        return;
    h->rec.next_at = 0;
    h->rec.error.at = MIN(h->rec.error.at, now);
}

static void host_schedule(struct host *h)
{
    mend_clock(h);
    const int64_t now = wall_s(), due = due_at(h);
    if (due <= now) {
        loop_at_turn_end(&h->now, on_now);
        return;
    }
    const int64_t looks[] = {due, now + LOOK_MAX_S, end_is_near_at(h), h->served.until};
    int64_t next = due;
    for (size_t i = 0; i < ARRAY_LEN(looks); i++)
        if (looks[i] > now)
            next = MIN(next, looks[i]);
    deadline_set(&h->due, (uint64_t)(next - now) * 1000, on_due);
}

static void host_due(struct host *h)
{
    warn_of_end(h);
    mend_clock(h);
    if (host_rests(h) && due_at(h) > wall_s())
        host_schedule(h);
    else
        host_event(h, TRIGGER_DUE);
}

static void on_due(struct deadline *d)
{
    host_due(container_of(d, struct host, due));
}

static void on_now(struct turn_task *t)
{
    host_due(container_of(t, struct host, now));
}

void host_wait(struct host *h, enum host_state state, uint64_t ms)
{
    const bool news = h->state != state;
    h->state = state;
    turn_task_cancel(&h->now);
    deadline_set(&h->due, ms, on_due);
    if (news)
        host_tell(h);
}

static void act_nothing(struct host *h)
{
    (void)h; /* what was asked for is under way */
}

void host_event(struct host *h, enum host_trigger t)
{
    static void (*const table[HOST_STATES][TRIGGER_TRIGGERS])(struct host *) = {
        [HOST_IDLE] = {try_begin, try_begin, act_nothing},
        [HOST_WAITING] = {try_begin, try_begin, act_nothing},
        [HOST_QUEUED] = {try_order, act_nothing, act_nothing},
        [HOST_LOOKING] = {try_order, act_nothing, try_order},
        [HOST_ORDERING] = {act_nothing, act_nothing, act_nothing},
    };
    table[h->state][t](h);
}

/* ---- the ends of a try ---- */

static uint64_t random_u64(void)
{
    uint64_t r;
    random_bytes(&r, sizeof(r));
    return r;
}

static void host_rest(struct host *h, enum host_state state)
{
    h->state = state;
    host_save(h);
    host_schedule(h);
    host_tell(h);
    asks_host_ended(h, state == HOST_IDLE);
}

/*
 * A CA whose certificates are to be replaced as they come (a window in the past, again and again)
 * is asked more and more rarely, as after failures.
 */
static int64_t pause_of(const struct host *h)
{
    const int64_t now = wall_s(), life = h->served.until - h->served.not_before;
    unsigned lately = 0;
    for (unsigned i = 0; i < h->rec.n_history; i++)
        lately +=
            strcmp(h->rec.history[i].what, "issued") == 0 && h->rec.history[i].at > now - DAY_S;
    return MAX(MIN(renew_backoff(MAX(lately, 1), random_u64()), life / 4), PAUSE_LEAST);
}

void host_succeeded(struct host *h)
{
    h->rec.failures = h->postponed = 0;
    h->rec.next_at = wall_s() + pause_of(h);
    h->rec.error.at = 0;
    h->warned_at = 0;
    host_rest(h, HOST_IDLE);
}

static void set_error(struct host *h, const char *ca, const char *text, const char *hint)
{
    h->rec.error.at = wall_s();
    text_copy(h->rec.error.ca, sizeof(h->rec.error.ca), str_of(ca));
    text_copy(h->rec.error.text, sizeof(h->rec.error.text), str_of(text));
    text_copy(h->rec.error.hint, sizeof(h->rec.error.hint), str_of(hint));
}

void host_failed(struct host *h, const struct acme_fail *f, const char *ca)
{
    if (f->kind == ACME_BUSY || f->kind == ACME_LIMITED) {
        const int64_t pause = f->kind == ACME_BUSY ? BUSY_S : LIMITED_S;
        host_postponed(h, f->retry_at ? f->retry_at : wall_s() + pause, f->text, ca);
        return;
    }
    h->rec.failures++;
    h->postponed = 0;
    h->rec.next_at = MAX(wall_s() + renew_backoff(h->rec.failures, random_u64()),
                         MIN(f->retry_at, wall_s() + DAY_S));
    set_error(h, ca, f->text, f->hint);
    host_record_event(&h->rec, wall_s(), false, "failed", f->text);
    log_error("no certificate", "host", "%s", h->name, "ca", "%s", ca, "step", "%s", f->step,
              "cause", "%s", f->text, "cure", "%s", f->hint ? f->hint : "", "failures", "%u",
              h->rec.failures, "next_try_in_s", "%ld", (long)(h->rec.next_at - wall_s()));
    host_rest(h, HOST_WAITING);
}

void host_postponed(struct host *h, int64_t until, const char *why, const char *ca)
{
    const int64_t least = MIN((int64_t)1 << MIN(h->postponed, 6u), POSTPONE_MAX);
    const int64_t wait = MAX(until - wall_s(), least);
    const bool same = strcmp(h->rec.error.text, why) == 0;
    h->postponed++;
    h->rec.next_at = wall_s() + wait + (int64_t)(random_u64() % (uint64_t)(wait / 10 + 1));
    set_error(h, ca, why, NULL);
    if (!same) {
        host_record_event(&h->rec, wall_s(), false, "waits", why);
        log_warn("certificate has to wait", "host", "%s", h->name, "ca", "%s", ca, "cause", "%s",
                 why, "seconds", "%ld", (long)wait);
    }
    host_rest(h, HOST_WAITING);
}

/* ---- the CA's word about renewal (RFC 9773) ---- */

static void ari_take(struct host *h, const struct ari_window *w)
{
    text_copy(h->rec.ari.id, sizeof(h->rec.ari.id), str_of(h->served.ari_id));
    text_copy(h->rec.ari.url, sizeof(h->rec.ari.url), w->url);
    const bool news = h->rec.ari.chosen != w->chosen;
    h->rec.ari.start = w->start;
    h->rec.ari.end = w->end;
    h->rec.ari.chosen = w->chosen;
    h->rec.ari.look_again = w->look_again;
    host_save(h);
    if (news)
        log_info("the CA says when to renew", "host", "%s", h->name, "in_s", "%ld",
                 (long)(w->chosen - wall_s()));
    if (h->state == HOST_IDLE) {
        host_schedule(h);
        host_tell(h);
    }
}

/* What was known of this certificate stays; that of the one before goes, or the CA would be asked
 * for a successor of it without end. */
static void ari_none(struct host *h, const char *why, int64_t retry_at)
{
    log_debug("no word of the CA about renewal", "host", "%s", h->name, "cause", "%s", why);
    if (!host_ari_is_of_served(h)) {
        memset(&h->rec.ari, 0, sizeof(h->rec.ari));
        text_copy(h->rec.ari.id, sizeof(h->rec.ari.id), str_of(h->served.ari_id));
    }
    h->rec.ari.look_again = MAX(wall_s() + ARI_NONE_S, retry_at);
}

static void on_ari(void *ctx, const struct ca_answer *ans)
{
    struct host *h = ctx;
    struct arena *a = arena_new(1024);
    struct ari_window w,
        old = {.start = h->rec.ari.start, .end = h->rec.ari.end, .chosen = h->rec.ari.chosen};
    const bool known = host_ari_is_of_served(h) && h->rec.ari.chosen;
    h->ari_call = NULL;
    const char *err =
        ans->fail ? ans->fail->text
                  : ari_read(a, ans->json, ans->retry_at, wall_s(), known ? &old : NULL, &w);
    if (!err)
        ari_take(h, &w);
    else
        ari_none(h, err, ans->fail ? ans->fail->retry_at : 0);
    arena_free(&a);
    host_ari_look(h);
}

static void on_ari_due(struct deadline *d)
{
    struct host *h = container_of(d, struct host, ari_due);
    struct issuer_ca *ca = cas_find(h->is, str_of(h->served.issuer));
    if (h->ari_call || !ca || !h->served.have)
        return;
    h->ari_call = ca_get(ca->ca, CA_RENEWAL_INFO, h->served.ari_id, "renewalInfo", on_ari, h);
}

void host_ari_look(struct host *h)
{
    const int64_t wait = host_ari_is_of_served(h) ? h->rec.ari.look_again - wall_s() : 0;
    deadline_cancel(&h->ari_due);
    if (!h->served.have || !h->served.ari_id[0] || h->is->conf->acme.renew_before)
        return;
    /* A new certificate's window is asked for at once, others when the CA wants it. */
    deadline_set(&h->ari_due, wait > 0 ? (uint64_t)MIN(wait, DAY_S) * 1000 : 1, on_ari_due);
}

/* ---- the set of hosts ---- */

struct host *host_find(struct issuer *is, struct str name)
{
    LIST_EACH (&is->hosts, l) {
        struct host *h = container_of(l, struct host, link);
        if (str_ieq(str_of(h->name), name))
            return h;
    }
    return NULL;
}

static void host_close(struct host *h)
{
    try_drop(h);
    asks_host_ended(h, false);
    deadline_cancel(&h->due);
    deadline_cancel(&h->ari_due);
    turn_task_cancel(&h->now);
    list_remove(&h->link);
    host_forget(h);
    OPENSSL_cleanse(&h->rec, sizeof(h->rec));
    free(h);
}

static void host_add(struct issuer *is, struct str name)
{
    struct arena *a = arena_new(16 * 1024);
    struct host *h = calloc(1, sizeof(*h));
    const char *err;
    ASSERT(h && name.n < sizeof(h->name));
    h->is = is;
    h->wanted = true;
    h->lock = -1;
    list_init(&h->asks);
    text_copy(h->name, sizeof(h->name), name);
    list_append(&is->hosts, &h->link);
    host_record_read(a, is->state, name, &h->rec, &err);
    if (err)
        log_warn("record of a certificate", "host", "%s", h->name, "cause", "%s",
                 issuer_words(is, a, err));
    (void)host_adopt(h);
    if (!h->served.have && !h->rec.error.at)
        h->rec.next_at = 0; /* no failure, but what was got is gone */
    h->state = h->rec.error.at || !h->served.have ? HOST_WAITING : HOST_IDLE;
    arena_free(&a);
}

/* A changed account, CA or way in may be the cure: whoever waits after a failure tries at once. */
static bool cure_possible(const struct issuer *is, const struct conf *c)
{
    const struct conf_acme *old = &is->conf->acme, *now = &c->acme;
    bool same = old->n_cas == now->n_cas && old->n_challenges == now->n_challenges &&
                str_eq(old->email, now->email) && str_eq(old->eab_kid, now->eab_kid) &&
                str_eq(old->eab_hmac, now->eab_hmac) && str_eq(old->root_pem, now->root_pem) &&
                str_eq(old->dns_hook, now->dns_hook) && str_eq(old->profile, now->profile);
    for (unsigned i = 0; same && i < now->n_cas; i++)
        same = str_eq(old->cas[i].url, now->cas[i].url);
    same = same && is->conf->n_listens == c->n_listens && is->conf->public_http == c->public_http &&
           is->conf->public_https == c->public_https;
    for (unsigned i = 0; same && i < c->n_listens; i++)
        same = is->conf->listens[i].kind == c->listens[i].kind;
    return !same || memcmp(old->challenges, now->challenges, sizeof(now->challenges)) != 0;
}

static void hosts_schedule(struct issuer *is, bool cured)
{
    LIST_EACH (&is->hosts, l) {
        struct host *h = container_of(l, struct host, link);
        host_tell(h);
        host_ari_look(h);
        if (!host_rests(h))
            continue;
        if (cured)
            h->rec.next_at = 0;
        host_schedule(h);
    }
}

void issuer_use(struct issuer *is, struct conf *c, const struct str *hosts, unsigned n)
{
    struct conf *old = is->conf;
    const bool cured = old && cure_possible(is, c);
    cas_use(is, &c->acme);
    is->conf = conf_ref(c);
    LIST_EACH (&is->hosts, l)
        container_of(l, struct host, link)->wanted = false;
    for (unsigned i = 0; i < n; i++) {
        struct host *h = host_find(is, hosts[i]);
        if (!h)
            host_add(is, hosts[i]);
        else if (h->served.have)
            send_cert(h);
        else
            h->served.until = 0; /* what was revoked is not sent again */
        if (h)
            h->wanted = true;
    }
    LIST_EACH_SAFE (&is->hosts, l) {
        struct host *h = container_of(l, struct host, link);
        if (!h->wanted)
            host_close(h);
    }
    if (old)
        conf_unref(&old);
    hosts_schedule(is, cured);
}

bool issuer_serves(struct issuer *is, struct str host)
{
    const struct host *h = host_find(is, host);
    return h && h->served.until > wall_s(); /* also one that is to be replaced, since revoked */
}

struct issuer *issuer_new(const char *state, const char *shown, const struct issuer_ops *ops,
                          void *ctx)
{
    struct arena *a = arena_new(1024);
    struct issuer *is = arena_znew(a, struct issuer);
    is->arena = a;
    is->state = arena_strz(a, str_of(state));
    is->shown = arena_strz(a, str_of(shown));
    is->ops = ops;
    is->ctx = ctx;
    list_init(&is->hosts);
    list_init(&is->cas);
    list_init(&is->asks);
    file_sweep(a, arena_fmt(a, "%s/acme/hosts", state).p);
    return is;
}

void issuer_close(struct issuer **isp)
{
    struct issuer *is = *isp;
    *isp = NULL;
    if (!is)
        return;
    asks_drop_all(is);
    LIST_EACH_SAFE (&is->hosts, l)
        host_close(container_of(l, struct host, link));
    cas_close(is);
    if (is->conf)
        conf_unref(&is->conf);
    struct arena *a = is->arena;
    arena_free(&a);
}
