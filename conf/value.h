/*
 * value.h - what a text means, by the type that its key has: units, booleans, addresses, hosts. No
 * tree, no files: pure functions on text. Also placeholders: where they stand and what they are.
 */
#ifndef HG_CONF_VALUE_H
#define HG_CONF_VALUE_H

#include "conf/conf.h"
#include "conf/schema.h"

/* Why a text is no such value. */
struct value_error {
    const char *code;
    char what[200]; /* "`30` has no unit" */
    char hint[160]; /* "write 30s or 30ms"; may be empty */
};

/* All return false with *e filled. */
bool value_bool(struct str t, bool *out, struct value_error *e);
/* `range`: "1-256" or NULL. */
bool value_count(struct str t, const char *range, uint64_t *out, struct value_error *e);
bool value_size(struct str t, const char *range, uint64_t *bytes, struct value_error *e);
bool value_duration(struct str t, uint64_t *ms, struct value_error *e);
bool value_byte_rate(struct str t, uint64_t *bytes_a_second, struct value_error *e);
/* "50/s": the time from one to the next. */
bool value_rate(struct str t, uint64_t *interval_us, struct value_error *e);
bool value_mode(struct str t, mode_t *out, struct value_error *e);
bool value_uids(struct str t, uint32_t *first, uint32_t *last, struct value_error *e);
/* ":443", "127.0.0.1:80", "[::1]:80"; strings in a. */
bool value_addr(struct arena *a, struct str t, struct conf_addr *out, struct value_error *e);
/* The same, unix:/path, and fd:NAME (family AF_UNSPEC, no length: only its text says what it is).
 */
bool value_listen(struct arena *a, struct str t, struct conf_addr *out, struct value_error *e);
/* http://HOST:PORT, https://HOST:PORT, tcp://HOST:PORT, unix:/path. */
bool value_url(struct arena *a, struct str t, struct conf_backend *out, struct value_error *e);
/* "example.org", "example.org:8080", "[::1]:80": what may stand in a Host field. */
bool value_authority(struct arena *a, struct str t, struct value_error *e);
/* A host name in lower case, "*", "*.example.org", or an IP address. */
bool value_host(struct arena *a, struct str t, struct str *out, struct value_error *e);
bool value_route(struct str t, struct value_error *e);
bool value_name(struct str t, enum schema_names kind, struct value_error *e);
bool value_target(struct str t, struct value_error *e);
/* Does the text fit the type of the key? For all types, those not served yet too. */
bool value_check(struct arena *a, const struct schema_key *k, struct str t, struct value_error *e);

/* sockaddr for IP text ("127.0.0.1", "::1") and port; false when it is no address. */
bool value_ip(struct str ip, uint16_t port, struct conf_addr *out);
bool value_unix(struct arena *a, struct str path, struct conf_addr *out, struct value_error *e);
bool value_is_off(struct str t);

/* ---- placeholders ---- */
enum placeholder {
    PH_UNKNOWN,
    PH_DOLLAR,
    PH_PROJECT,
    PH_CHANNEL,
    PH_HOST,
    PH_SERVICE,
    PH_STATE,
    PH_RUNTIME,
    PH_DATA,
    PH_RELEASE,
    PH_VERSION,
    PH_LISTEN,
    PH_PORT,
    PH_PORT_NAMED,
    PH_INSTANCE,
    PH_ENV,
    PH_FILE,
    PH_SECRET
};
struct placeholder_at {
    enum placeholder kind;
    struct str name; /* as written, without $ and braces: "channel", "env" */
    struct str arg;  /* of $env:NAME and its like */
    size_t from, to; /* bytes of it in the text */
};
/* The first placeholder at or behind `from`; false when there is none. */
bool placeholder_next(struct str text, size_t from, struct placeholder_at *out);
const char *placeholder_nearest(struct str name); /* did you mean; NULL */

#endif
