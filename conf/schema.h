/*
 * schema.h - the one table of all keys (schema.c), its readers: check.c (is a file right?), load*.c
 * (defaults), schema_json.c and schema_mdoc.c (documentation).
 */
#ifndef HG_CONF_SCHEMA_H
#define HG_CONF_SCHEMA_H

#include "base/base.h"

/* A map with its own keys. */
enum schema_group {
    G_NONE,
    G_ROOT,
    G_LISTEN,
    G_PUBLIC,
    G_ACME,
    G_EAB,
    G_TLS,
    G_CERT,
    G_HSTS,
    G_USER,
    G_LOG,
    G_ACCESS,
    G_METRICS,
    G_ADMIN,
    G_LIMITS,
    G_TIMEOUTS,
    G_STREAM,
    G_SITE,
    G_BASIC_AUTH,
    G_HEADERS,
    G_TO_BACKEND,
    G_RATE,
    G_GRPC,
    G_SERVICE,
    G_READY,
    G_HEALTH,
    G_STOP,
    G_RESTART,
    G_BACKEND_TLS,
    G_ROUTE,
    G_STATIC,
    G_RELEASES,
    G_SITE_LIMITS,
    G_SITE_TIMEOUTS,
    G_ROUTE_LIMITS,
    G_ROUTE_TIMEOUTS,
    G_COUNT
};

enum schema_type {
    T_STRING,
    T_BOOL,
    T_COUNT,
    T_PORT,
    T_SIZE,
    T_DURATION,
    T_BYTE_RATE,
    T_RATE,
    T_ENUM,
    T_PATH,
    T_ADDR,
    T_LISTEN,
    T_HOST,
    T_NAME,
    T_URL,
    T_MODE,
    T_UIDS,
    T_STATUS,
    T_TARGET,
    T_CIDR,
    T_SERVICE_LISTEN,
    T_MAP
};

/* How values of the type come. */
enum schema_shape {
    ONE,
    LIST,        /* [a, b] */
    ONE_OR_LIST, /* a, or [a, b] */
    NAMED        /* a map from names of the user's choice */
};

/* What names a NAMED map takes. */
enum schema_names { N_NONE, N_NAME, N_ROUTE, N_ENV, N_HEADER, N_STATUS, N_ANY };

enum {
    S_LATER = 1,    /* not available in this version */
    S_OFF = 2,      /* `off` is a value */
    S_AUTO = 4,     /* `auto` is a value */
    S_WHOLE = 8,    /* merging replaces it whole */
    S_RUN = 16,     /* belongs to `run`, means nothing to a service with `url` */
    S_HANDLER = 32, /* a route has exactly one of these */
    S_SECRET = 64,  /* never shown */
    S_LATE = 128,   /* $listen and its like may stand in it */
    S_NONE = 256,   /* the key without a value, or "", is fine */
};

struct schema_key {
    enum schema_group in;
    const char *name;
    enum schema_type type;
    enum schema_shape shape;
    unsigned flags;
    enum schema_group map;   /* T_MAP: its keys */
    enum schema_names names; /* NAMED */
    const char *values;      /* T_ENUM: "a|b"; T_COUNT: "1-256" */
    const char *later;       /* values known and not available in this version */
    const char *def;         /* default as it would be written; NULL: none */
    const char *doc;         /* one line for people */
};

extern const struct schema_key schema_keys[];
extern const unsigned schema_n_keys;

const struct schema_key *schema_find(enum schema_group in, struct str name);
/* The key that a string in the place of this map sets; NULL when a string cannot stand there. */
const char *schema_main_key(enum schema_group map);
const char *schema_group_title(
    enum schema_group map); /* "service", "route", …: as messages name it */
const char *schema_type_words(const struct schema_key *k); /* "a duration such as 30s" */
/* Is `word` one of "a|b|c"? */
bool schema_has_word(const char *words, struct str word);

/* Did you mean: the key of the group nearest to `name`, or NULL. */
const char *schema_nearest_key(enum schema_group in, struct str name);
/* What headgate calls a word of other servers ("server_name"): a sentence for the hint, or NULL. */
const char *schema_synonym(enum schema_group in, struct str name);
/* Edits (insert, delete, change, swap) from a to b; above `max` it returns max + 1. */
unsigned schema_distance(struct str a, struct str b, unsigned max);
/* Is b near enough to a to be offered instead? */
bool schema_near(struct str a, struct str b, unsigned *distance);

#endif
