/*
 * order_read.c - orders and authorizations as a CA sends them, looked through. What follows from
 * them is order.c's.
 */
#include "acme/order_read.h"

#include "base/json.h"

#define CHALLENGES_MAX 32 /* of an authorization; a few kinds exist */
#define SHOWN_MAX      64 /* bytes of the CA's in a sentence */

static struct str member(const json_t *j, const char *name)
{
    return json_str(json_object_get(j, name));
}

static const json_t *problem(const json_t *j)
{
    const json_t *e = json_object_get(j, "error");
    return json_is_object(e) ? e : NULL;
}

static bool read_status(const json_t *j, enum acme_status *out)
{
    static const struct {
        struct str word;
        enum acme_status status;
    } words[] = {
        {STR("pending"), ACME_STATUS_PENDING},       {STR("ready"), ACME_STATUS_READY},
        {STR("processing"), ACME_STATUS_PROCESSING}, {STR("valid"), ACME_STATUS_VALID},
        {STR("invalid"), ACME_STATUS_INVALID},       {STR("deactivated"), ACME_STATUS_INVALID},
        {STR("expired"), ACME_STATUS_INVALID},       {STR("revoked"), ACME_STATUS_INVALID},
    };
    struct str s = member(j, "status");
    for (unsigned i = 0; i < ARRAY_LEN(words); i++)
        if (str_eq(s, words[i].word)) {
            *out = words[i].status;
            return true;
        }
    return false;
}

static const char *no_status(struct arena *a, const char *of, const json_t *j)
{
    return arena_fmt(a, "the status of its %s is none (\"" STR_FMT "\")", of,
                     STR_ARG(str_sub(member(j, "status"), 0, SHOWN_MAX)))
        .p;
}

/* Names of hosts are compared without case: a CA may write them as it likes. */
static bool is_host(const json_t *identifier, struct str host)
{
    return str_eq(member(identifier, "type"), STR("dns")) &&
           str_ieq(member(identifier, "value"), host);
}

static const char *foreign(struct arena *a, const char *what, const json_t *identifier,
                           struct str host)
{
    return arena_fmt(a, "its %s is for \"" STR_FMT "\", where " STR_FMT " alone was asked for",
                     what, STR_ARG(str_sub(member(identifier, "value"), 0, SHOWN_MAX)),
                     STR_ARG(host))
        .p;
}

static const char *bad_url(struct arena *a, const char *what, struct str url)
{
    return arena_fmt(a, "the URL of its %s is not one of its own (\"" STR_FMT "\")", what,
                     STR_ARG(str_sub(url, 0, SHOWN_MAX)))
        .p;
}

static const char *read_authorizations(struct arena *a, const struct ca *ca, const json_t *j,
                                       struct order_view *out)
{
    const json_t *all = json_object_get(j, "authorizations");
    size_t n = json_array_size(all);
    if (n == 0 || n > ORDER_AUTHORIZATIONS_MAX)
        return arena_fmt(a, "its order has %zu authorizations, where 1 to %d make sense", n,
                         ORDER_AUTHORIZATIONS_MAX)
            .p;
    for (size_t i = 0; i < n; i++) {
        struct str url = json_str(json_array_get(all, i));
        if (!ca_url_fine(ca, url))
            return bad_url(a, "authorization", url);
        out->authorizations[out->n_authorizations++] = url;
    }
    return NULL;
}

const char *order_read(struct arena *a, const struct ca *ca, const json_t *j, struct str host,
                       struct order_view *out)
{
    *out = (struct order_view){.error = problem(j)};
    if (!json_is_object(j))
        return "its order is no JSON object";
    if (!read_status(j, &out->status))
        return no_status(a, "order", j);
    const json_t *names = json_object_get(j, "identifiers");
    for (size_t i = 0; i < json_array_size(names); i++)
        if (!is_host(json_array_get(names, i), host))
            return foreign(a, "order", json_array_get(names, i), host);
    if (json_array_size(names) != 1)
        return "its order does not have the one name that was asked for";
    if (out->status == ACME_STATUS_VALID) {
        out->certificate = member(j, "certificate");
        if (!ca_url_fine(ca, out->certificate))
            return bad_url(a, "certificate", out->certificate);
    }
    if (out->status != ACME_STATUS_PENDING && out->status != ACME_STATUS_READY)
        return NULL;
    out->finalize = member(j, "finalize");
    if (!ca_url_fine(ca, out->finalize))
        return bad_url(a, "order's end (finalize)", out->finalize);
    return out->status == ACME_STATUS_PENDING ? read_authorizations(a, ca, j, out) : NULL;
}

/* Kinds that we do not know are none of our business, nor is a second one of a kind. */
static const char *read_challenge(struct arena *a, const struct ca *ca, const json_t *j,
                                  struct authz_view *out)
{
    enum conf_challenge kind;
    if (!out->error)
        out->error = problem(j);
    if (!challenge_parse(member(j, "type"), &kind) || out->challenges[kind].offered)
        return NULL;
    struct authz_challenge *c = &out->challenges[kind];
    *c = (struct authz_challenge){
        .offered = true, .url = member(j, "url"), .token = member(j, "token"), .error = problem(j)};
    if (!read_status(j, &c->status))
        return no_status(a, "challenge", j);
    if (!ca_url_fine(ca, c->url))
        return bad_url(a, "challenge", c->url);
    if (!challenge_token_fine(c->token))
        return arena_fmt(a,
                         "the token of its %s challenge is none: it must be 1 to 128 letters, "
                         "digits, - and _",
                         challenge_name(kind))
            .p;
    return NULL;
}

const char *authz_read(struct arena *a, const struct ca *ca, const json_t *j, struct str host,
                       struct authz_view *out)
{
    *out = (struct authz_view){0};
    if (!json_is_object(j))
        return "its authorization is no JSON object";
    if (!read_status(j, &out->status))
        return no_status(a, "authorization", j);
    const json_t *identifier = json_object_get(j, "identifier");
    if (!is_host(identifier, host))
        return foreign(a, "authorization", identifier, host);
    const json_t *all = json_object_get(j, "challenges");
    const char *err = NULL;
    for (size_t i = 0; i < MIN(json_array_size(all), (size_t)CHALLENGES_MAX) && !err; i++)
        err = read_challenge(a, ca, json_array_get(all, i), out);
    return err;
}
