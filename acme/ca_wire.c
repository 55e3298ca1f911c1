/*
 * ca_wire.c - one exchange with a CA: a nonce, a signed POST (or a plain GET), badNonce tried
 * again, all within bounds. What an answer says is ca_read.c's; which account signs and what waits
 * for what, ca.c's.
 */
#include "acme/ca_parts.h"
#include "acme/jose.h"
#include "base/fetch.h"

#define BODY_MAX    (256 * 1024)
#define EXCHANGE_MS 60000
/*
 * A CA that loses nonces does so for some requests, and each new try costs us as much as it; a test
 * server that refuses nine of ten is passed all the same (0.9^100 is 1 in 40,000).
 */
#define NONCE_TRIES 100

enum wire_state { WIRE_NONCE, WIRE_ASKED, WIRE_ENDED };

struct wire {
    struct arena *arena; /* holds this struct */
    struct ca *ca;
    enum wire_state state;
    const char *url, *kid;
    EVP_PKEY *key;
    struct str payload;
    const char *step;
    ca_done *done;
    void *ctx;
    struct fetch *fetch;
    uint64_t began; /* loop ms */
    unsigned tries;
    bool aside;
};

static void send_it(struct wire *w);

/* ---- the end ---- */

static void wire_free(void *p)
{
    struct wire *w = p;
    EVP_PKEY_free(w->key);
    struct arena *a = w->arena;
    arena_free(&a);
}

static void wire_end(struct wire *w)
{
    w->state = WIRE_ENDED;
    fetch_cancel(&w->fetch);
    loop_free_later(w, wire_free);
}

void wire_cancel(struct wire **wp)
{
    struct wire *w = *wp;
    *wp = NULL;
    if (w && w->state != WIRE_ENDED)
        wire_end(w);
}

static void wire_tell(struct wire *w, struct ca_answer *a, struct acme_fail *fail)
{
    if (!w->aside)
        ca_heard(w->ca, fail);
    a->fail = fail->kind == ACME_FINE ? NULL : fail;
    wire_end(w);
    w->done(w->ctx, a);
    json_decref(a->json);
}

/* ---- nonces ---- */

/* RFC 8555 6.5.1: base64url; anything else is dropped. The oldest makes room. */
static bool nonce_keep(struct ca *ca, struct str nonce)
{
    if (!nonce.n || nonce.n >= CA_NONCE_MAX || !str_is_base64url(nonce))
        return false;
    if (ca->n_nonces == CA_NONCES)
        memmove(ca->nonces[0], ca->nonces[1], (size_t)--ca->n_nonces * CA_NONCE_MAX);
    char *to = ca->nonces[ca->n_nonces++];
    memcpy(to, nonce.p, nonce.n);
    to[nonce.n] = '\0';
    return true;
}

/* The youngest, which the CA is the surest to know. */
static bool nonce_take(struct ca *ca, char out[CA_NONCE_MAX])
{
    if (!ca->n_nonces)
        return false;
    memcpy(out, ca->nonces[--ca->n_nonces], CA_NONCE_MAX);
    return true;
}

/* ---- one after the other ---- */

static bool try_again(struct wire *w, const struct acme_fail *fail)
{
    return w->key && strcmp(fail->type, "badNonce") == 0 && ++w->tries < NONCE_TRIES;
}

static void on_answer(void *ctx, const struct fetch_answer *f)
{
    struct wire *w = ctx;
    struct ca_answer a;
    struct acme_fail fail;
    w->fetch = NULL;
    ca_read(w->ca, w->step, f, &a, &fail);
    bool fresh = nonce_keep(w->ca, fetch_header(f, "Replay-Nonce"));
    if (w->state == WIRE_NONCE && fail.kind == ACME_FINE && !fresh)
        acme_fail_set(&fail, ACME_BROKEN, w->step,
                      "the CA's answer is not usable: there is no nonce in it");
    bool go_on = w->state == WIRE_NONCE ? fail.kind == ACME_FINE : try_again(w, &fail);
    if (go_on) {
        json_decref(a.json);
        send_it(w);
    } else {
        wire_tell(w, &a, &fail);
    }
}

static void ask(struct wire *w, struct fetch_spec *spec)
{
    /* 1 ms: it fails by itself, and later. */
    spec->timeout_ms = MAX(loop_time_left(w->began, EXCHANGE_MS), 1);
    spec->ca_pem = w->ca->spec.root_pem;
    spec->max_body = BODY_MAX;
    w->fetch = fetch_start(spec, on_answer, w);
}

static void send_it(struct wire *w)
{
    char nonce[CA_NONCE_MAX];
    if (!w->key) {
        w->state = WIRE_ASKED;
        ask(w, &(struct fetch_spec){.method = "GET", .url = w->url});
    } else if (!nonce_take(w->ca, nonce)) {
        w->state = WIRE_NONCE;
        ask(w, &(struct fetch_spec){.method = "HEAD", .url = ca_url(w->ca, CA_NEW_NONCE)});
    } else {
        w->state = WIRE_ASKED;
        struct jose_head head = {.url = w->url, .nonce = nonce, .kid = w->kid};
        ask(w, &(struct fetch_spec){.method = "POST",
                                    .url = w->url,
                                    .body = jose_sign(w->arena, w->key, &head, w->payload),
                                    .content_type = "application/jose+json"});
    }
}

struct wire *wire_start(struct ca *ca, const struct wire_spec *spec, ca_done *done, void *ctx)
{
    struct arena *a = arena_new(8192);
    struct wire *w = arena_znew(a, struct wire);
    *w = (struct wire){
        .arena = a, .ca = ca, .step = spec->step, .done = done, .ctx = ctx, .aside = spec->aside};
    w->url = arena_strz(a, str_of(spec->url));
    w->kid = spec->kid ? arena_strz(a, str_of(spec->kid)) : NULL;
    w->payload = arena_str(a, spec->payload);
    w->key = spec->key;
    if (w->key)
        EVP_PKEY_up_ref(w->key);
    w->began = loop_now_ms();
    send_it(w);
    return w;
}
