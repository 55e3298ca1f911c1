/*
 * master_cert_state.c - how it stands with each host's certificate by ACME, as the agent tells it:
 * for status and metrics. Orders and their schedule are the agent's.
 */
#include "proxy/master.h"

#include <stdlib.h>

#include "base/json.h"

struct cert_state *cert_state_find(struct str host)
{
    LIST_EACH (&master.cert_states, it) {
        struct cert_state *s = container_of(it, struct cert_state, link);
        if (str_eq(str_of(s->host), host))
            return s;
    }
    return NULL;
}

static void text_set(char **to, struct str text)
{
    free(*to);
    *to = strndup(text.n ? text.p : "", text.n);
    ASSERT(*to);
}

static void state_free(struct cert_state *s)
{
    list_remove(&s->link);
    free(s->host);
    free(s->issuer);
    free(s->error);
    free(s);
}

void cert_state_came(const struct msg_cert_state *fixed, struct str tail)
{
    struct str host = STR_NULL, issuer = STR_NULL;
    if (!str_split(&tail, '\0', &host) || !host.n)
        return;
    (void)str_split(&tail, '\0', &issuer);
    struct cert_state *s = cert_state_find(host);
    if (!s) {
        s = calloc(1, sizeof(*s));
        ASSERT(s);
        text_set(&s->host, host);
        list_append(&master.cert_states, &s->link);
    }
    text_set(&s->issuer, issuer);
    text_set(&s->error, str_sub(tail, 0, str_chr(tail, '\0')));
    s->fixed = *fixed;
    s->generation = master.agent.sent;
}

void cert_states_drop_older(uint64_t generation)
{
    LIST_EACH_SAFE (&master.cert_states, it) {
        struct cert_state *s = container_of(it, struct cert_state, link);
        if (s->generation < generation)
            state_free(s);
    }
}

static const char *step_text(uint32_t step)
{
    return step == MSG_CERT_SERVED ? "served" : step == MSG_CERT_WORKING ? "working" : "waiting";
}

/* Never NULL; `serving`: some certificate is shown for the host. */
json_t *cert_state_status(const struct cert_state *s, bool serving)
{
    json_t *j = json_object();
    json_object_set_new(j, "host", json_string(s->host));
    json_object_set_new(j, "issuer", json_text(str_of(s->issuer)));
    json_object_set_new(j, "not_after", json_time((int64_t)s->fixed.not_after));
    json_object_set_new(j, "state", json_string(step_text(s->fixed.step)));
    json_object_set_new(j, "serving", json_boolean(serving));
    json_object_set_new(j, "next_at", json_time((int64_t)s->fixed.next_at));
    json_object_set_new(j, "failures", json_integer(s->fixed.failures));
    json_object_set_new(j, "error", s->error[0] ? json_text(str_of(s->error)) : json_null());
    return j;
}
