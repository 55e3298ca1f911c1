/*
 * ca_wire.c - one exchange with a CA: a nonce, a signed POST (or a plain GET), badNonce tried
 * again, and the answer taken apart within bounds. Which account signs and what waits for what, is
 * ca.c's.
 */
#include "acme/ca_parts.h"
#include "acme/jose.h"
#include "base/fetch.h"
#include "base/json.h"

#define BODY_MAX    (256 * 1024)
#define JSON_DEPTH  16
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
    if (!nonce.n || nonce.n >= CA_NONCE_MAX)
        return false;
    for (size_t i = 0; i < nonce.n; i++) {
        char c = ascii_lower(nonce.p[i]);
        if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '-' && c != '_')
            return false;
    }
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

/* ---- an answer, taken apart ---- */

static bool is_json(struct str type)
{
    struct str media = str_trim(str_sub(type, 0, str_chr(type, ';')));
    return str_ieq(media, STR("application/json")) ||
           str_ieq(media, STR("application/problem+json"));
}

static void broken(struct acme_fail *fail, const struct wire *w, unsigned status, const char *what)
{
    acme_fail_set(fail, ACME_BROKEN, w->step, "the CA's answer is not usable: %s", what);
    fail->status = status;
}

static void read_alternate(const struct wire *w, struct str link, struct ca_answer *a)
{
    struct str piece, rest = link;
    (void)str_split(&rest, ';', &piece);
    piece = str_trim(piece);
    if (piece.n < 2 || piece.p[0] != '<' || piece.p[piece.n - 1] != '>')
        return;
    struct str url = str_sub(piece, 1, piece.n - 1);
    bool alternate = false;
    while (str_split(&rest, ';', &piece)) {
        piece = str_trim(piece);
        alternate = alternate || str_ieq(piece, STR("rel=\"alternate\"")) ||
                    str_ieq(piece, STR("rel=alternate"));
    }
    if (alternate && ca_url_fine(w->ca, url) && a->n_alternates < ARRAY_LEN(a->alternates))
        a->alternates[a->n_alternates++] = url;
}

/* RFC 8288 3: lists with commas, in one field or many. A URL with a comma in it is not followed. */
static void read_links(const struct wire *w, const struct fetch_answer *f, struct ca_answer *a)
{
    for (unsigned i = 0; i < f->n_headers; i++) {
        struct str rest = f->headers[i].value, link;
        if (str_ieq(f->headers[i].name, STR("Link")))
            while (str_split(&rest, ',', &link))
                read_alternate(w, link, a);
    }
}

static void read_success(const struct wire *w, const struct fetch_answer *f, struct ca_answer *a,
                         struct acme_fail *fail)
{
    const char *why = NULL;
    a->body = f->body;
    a->location = fetch_header(f, "Location");
    a->retry_at = acme_retry_after(fetch_header(f, "Retry-After"), wall_s());
    read_links(w, f, a);
    if (a->location.n && !ca_url_fine(w->ca, a->location)) {
        broken(fail, w, f->status, "it sends us to a URL that is not its own");
        return;
    }
    if (!f->body.n || !is_json(fetch_header(f, "Content-Type")))
        return;
    a->json = json_read_object(f->body, JSON_DEPTH, &why);
    if (!a->json)
        broken(fail, w, f->status, arena_fmt(w->arena, "its JSON is none: %s", why).p);
}

static void read_problem(const struct wire *w, const struct fetch_answer *f, struct acme_fail *fail)
{
    const char *why;
    json_t *problem = is_json(fetch_header(f, "Content-Type"))
                          ? json_read_object(f->body, JSON_DEPTH, &why)
                          : NULL;
    acme_fail_problem(fail, w->step, f->status, problem);
    json_decref(problem);
    fail->retry_at = acme_retry_after(fetch_header(f, "Retry-After"), wall_s());
}

static void read_answer(const struct wire *w, const struct fetch_answer *f, struct ca_answer *a,
                        struct acme_fail *fail)
{
    a->status = f->status;
    if (f->err)
        acme_fail_set(fail, f->too_large ? ACME_BROKEN : ACME_NETWORK, w->step, "%s", f->err);
    else if (f->status >= 200 && f->status < 300)
        read_success(w, f, a, fail);
    else if (f->status >= 400)
        read_problem(w, f, fail);
    else
        broken(fail, w, f->status, "it redirects, which ACME does not know");
}

/* ---- one after the other ---- */

static bool try_again(struct wire *w, const struct acme_fail *fail)
{
    return w->key && strcmp(fail->type, "badNonce") == 0 && ++w->tries < NONCE_TRIES;
}

static void on_answer(void *ctx, const struct fetch_answer *f)
{
    struct wire *w = ctx;
    struct ca_answer a = {0};
    struct acme_fail fail = {0};
    w->fetch = NULL;
    read_answer(w, f, &a, &fail);
    bool fresh = nonce_keep(w->ca, fetch_header(f, "Replay-Nonce"));
    if (w->state == WIRE_NONCE && fail.kind == ACME_FINE && !fresh)
        broken(&fail, w, f->status, "there is no nonce in it");
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
    *w = (struct wire){.arena = a, .ca = ca, .step = spec->step, .done = done, .ctx = ctx};
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
