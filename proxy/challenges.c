/*
 * challenges.c - the table: challenges by host, of one host the newest first. Ids are the master's;
 * the same host may be shown by several, as when two CAs are asked.
 */
#include "proxy/challenges.h"

#include <stdlib.h>

#include "proxy/tls.h"

#define BUCKETS 256u /* of hosts that the configuration names: nobody else chooses them */

struct shown {
    struct list link; /* of its bucket */
    uint64_t id;
    struct arena *arena; /* holds this */
    struct str host, token, answer;
    struct tls_cert *cert; /* counted; NULL: it is shown by HTTP */
};

static struct list buckets[BUCKETS];
unsigned challenges_shown;

/* ---- the tail ---- */

bool challenge_text_read(struct str tail, struct challenge_text *out)
{
    *out = (struct challenge_text){0};
    bool whole = str_chr(tail, '\0') < tail.n && str_split(&tail, '\0', &out->host) &&
                 str_chr(tail, '\0') < tail.n && str_split(&tail, '\0', &out->token);
    out->answer = tail;
    return whole && out->host.n && out->answer.n && str_chr(tail, '\0') == tail.n;
}

void challenge_text_write(const struct challenge_text *t, struct out *tail)
{
    out_str(tail, t->host);
    out_char(tail, '\0');
    out_str(tail, t->token);
    out_char(tail, '\0');
    out_str(tail, t->answer);
}

/* ---- the table ---- */

static struct list *bucket_of(struct str host)
{
    return &buckets[fnv1a(FNV1A_BASIS, host) % BUCKETS];
}

static void shown_free(struct shown *s)
{
    list_remove(&s->link);
    tls_cert_unref(&s->cert);
    challenges_shown--;
    struct arena *a = s->arena;
    arena_free(&a);
}

static struct shown *find_id(uint64_t id)
{
    for (unsigned i = 0; i < BUCKETS && challenges_shown; i++)
        LIST_EACH (&buckets[i], it) {
            struct shown *s = container_of(it, struct shown, link);
            if (s->id == id)
                return s;
        }
    return NULL;
}

static struct str lower(struct arena *a, struct str s)
{
    char *p = arena_alloc(a, s.n);
    for (size_t i = 0; i < s.n; i++)
        p[i] = ascii_lower(s.p[i]);
    return (struct str){p, s.n};
}

static const char *show(const struct msg_challenge *m, const struct challenge_text *t)
{
    struct tls_cert *cert = NULL;
    const char *err = NULL;
    if (m->kind == MSG_CHALLENGE_TLS_ALPN && !(cert = tls_cert_parse(t->answer, STR_NULL, &err)))
        return err;
    struct arena *a = arena_new(512);
    struct shown *s = arena_znew(a, struct shown);
    s->arena = a;
    s->id = m->id;
    s->host = lower(a, t->host);
    s->token = arena_str(a, t->token);
    s->cert = cert;
    if (!cert)
        s->answer = arena_str(a, t->answer);
    list_push(bucket_of(s->host), &s->link);
    challenges_shown++;
    return NULL;
}

static void buckets_init(void)
{
    for (unsigned i = 0; i < BUCKETS && !buckets[i].next; i++)
        list_init(&buckets[i]);
}

const char *challenges_take(const struct msg_challenge *m, struct str tail)
{
    struct challenge_text t;
    buckets_init();
    struct shown *known = find_id(m->id);
    if (known)
        shown_free(known);
    if (!m->on)
        return NULL;
    if (challenges_shown >= CHALLENGES_MAX)
        return "as many challenges as fit are shown already: some orders must end first";
    if (m->kind != MSG_CHALLENGE_TLS_ALPN && m->kind != MSG_CHALLENGE_HTTP)
        return "a worker cannot show challenges of this kind";
    if (!challenge_text_read(tail, &t))
        return "the challenge is not whole";
    return show(m, &t);
}

void challenges_fini(void)
{
    for (unsigned i = 0; i < BUCKETS && challenges_shown; i++)
        while (!list_empty(&buckets[i]))
            shown_free(container_of(buckets[i].next, struct shown, link));
}

/* ---- questions ---- */

struct tls_cert *challenges_cert(struct str host)
{
    if (!challenges_any())
        return NULL;
    LIST_EACH (bucket_of(host), it) {
        const struct shown *s = container_of(it, struct shown, link);
        if (s->cert && str_eq(s->host, host))
            return s->cert;
    }
    return NULL;
}

struct str challenges_answer(struct str host, struct str token)
{
    if (!challenges_any())
        return STR_NULL;
    LIST_EACH (bucket_of(host), it) {
        const struct shown *s = container_of(it, struct shown, link);
        if (!s->cert && str_eq(s->token, token) && str_eq(s->host, host))
            return s->answer;
    }
    return STR_NULL;
}
