/*
 * value.c - texts become numbers, times, sizes and words, by the type of their key. Addresses, URLs
 * and names are in value_net.c.
 */
#include <stdio.h>

#include "conf/value.h"

static bool wrong(struct value_error *e, const char *code, const char *fmt, ...) PRINTF(3, 4);
static bool wrong(struct value_error *e, const char *code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    e->code = code;
    e->hint[0] = 0;
    vsnprintf(e->what, sizeof(e->what), fmt, ap);
    va_end(ap);
    return false;
}

static void hint(struct value_error *e, const char *fmt, ...) PRINTF(2, 3);
static void hint(struct value_error *e, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(e->hint, sizeof(e->hint), fmt, ap);
    va_end(ap);
}

/* As much of a text as a message can bear. */
#define SHOWN(t) (int)MIN((t).n, (size_t)60), (t).p ? (t).p : ""

bool value_is_off(struct str t)
{
    return str_ieq(t, STR("off")) || str_ieq(t, STR("no")) || str_ieq(t, STR("false"));
}

bool value_bool(struct str t, bool *out, struct value_error *e)
{
    if (str_ieq(t, STR("on")) || str_ieq(t, STR("yes")) || str_ieq(t, STR("true"))) {
        *out = true;
        return true;
    }
    if (value_is_off(t)) {
        *out = false;
        return true;
    }
    wrong(e, "E032", "`%.*s` is neither on nor off", SHOWN(t));
    hint(e, "write on or off (or true, false, yes, no)");
    return false;
}

/* The number at the beginning of t; *unit is what follows it. */
static bool number(struct str t, uint64_t *v, struct str *unit, struct value_error *e)
{
    size_t i = 0;
    while (i < t.n && t.p[i] >= '0' && t.p[i] <= '9')
        i++;
    *unit = str_trim(str_sub(t, i, t.n));
    if (i == 0)
        return wrong(e, "E031", "`%.*s` is not a number", SHOWN(t));
    if (unit->n && (unit->p[0] == '.' || unit->p[0] == ',')) {
        wrong(e, "E031", "`%.*s` has a fraction", SHOWN(t));
        hint(e, "write a whole number of a smaller unit");
        return false;
    }
    if (i > 19 || !str_u64(str_sub(t, 0, i), v))
        return wrong(e, "E031", "`%.*s` is too large", SHOWN(t));
    return true;
}

static bool in_range(struct str t, uint64_t v, const char *range, struct value_error *e)
{
    if (!range)
        return true;
    struct str r = str_of(range);
    size_t dash = str_chr(r, '-');
    uint64_t lo = 0, hi = 0;
    ASSERT(str_u64(str_sub(r, 0, dash), &lo) && str_u64(str_sub(r, dash + 1, r.n), &hi));
    if (v >= lo && v <= hi)
        return true;
    wrong(e, "E031", "`%.*s` is out of range", SHOWN(t));
    hint(e, "from %llu to %llu", (unsigned long long)lo, (unsigned long long)hi);
    return false;
}

bool value_count(struct str t, const char *range, uint64_t *out, struct value_error *e)
{
    struct str unit;
    if (!number(t, out, &unit, e)) {
        hint(e, "write a whole number");
        return false;
    }
    if (unit.n) {
        wrong(e, "E031", "`%.*s` is not a plain number", SHOWN(t));
        hint(e, "this key takes no unit");
        return false;
    }
    return in_range(t, *out, range, e);
}

struct unit {
    const char *name;
    uint64_t factor;
};

static bool with_unit(struct str t, const struct unit *units, size_t n, const char *examples,
                      uint64_t *out, struct value_error *e)
{
    struct str unit;
    uint64_t v;
    if (!number(t, &v, &unit, e)) {
        if (!e->hint[0])
            hint(e, "such as %s", examples);
        return false;
    }
    if (v == 0 && !unit.n) {
        *out = 0;
        return true;
    }
    if (!unit.n) {
        wrong(e, "E030", "`%.*s` has no unit", SHOWN(t));
        hint(e, "such as %s", examples);
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if (!str_eq(unit, str_of(units[i].name)))
            continue;
        if (v > (uint64_t)INT64_MAX / units[i].factor)
            return wrong(e, "E031", "`%.*s` is too large", SHOWN(t));
        *out = v * units[i].factor;
        return true;
    }
    wrong(e, "E030", "`%.*s`: `%.*s` is no unit here", SHOWN(t), SHOWN(unit));
    hint(e, "such as %s", examples);
    return false;
}

static const struct unit sizes[] = {
    {"B", 1},
    {"KiB", 1024},
    {"MiB", 1024ULL * 1024},
    {"GiB", 1024ULL * 1024 * 1024},
    {"TiB", 1024ULL * 1024 * 1024 * 1024},
};

bool value_size(struct str t, const char *range, uint64_t *bytes, struct value_error *e)
{
    if (!with_unit(t, sizes, ARRAY_LEN(sizes), "512B, 64KiB, 10MiB or 1GiB", bytes, e))
        return false;
    return in_range(t, *bytes, range, e);
}

bool value_duration(struct str t, uint64_t *ms, struct value_error *e)
{
    static const struct unit units[] = {
        {"ms", 1}, {"s", 1000}, {"m", 60 * 1000}, {"h", 3600 * 1000}, {"d", 86400ULL * 1000},
    };
    if (!with_unit(t, units, ARRAY_LEN(units), "250ms, 30s, 5m, 12h or 7d", ms, e))
        return false;
    /* Deadlines are now + this: keep them far from overflow. */
    if (*ms > 3650ULL * 86400 * 1000)
        return wrong(e, "E031", "`%.*s` is more than ten years", SHOWN(t));
    return true;
}

bool value_byte_rate(struct str t, uint64_t *rate, struct value_error *e)
{
    static const struct unit units[] = {{"B/s", 1}, {"KiB/s", 1024}, {"MiB/s", 1024ULL * 1024}};
    return with_unit(t, units, ARRAY_LEN(units), "500B/s or 10KiB/s", rate, e);
}

bool value_rate(struct str t, uint64_t *interval_us, struct value_error *e)
{
    static const struct unit units[] = {{"/s", 1}, {"/m", 60}, {"/h", 3600}};
    static const char examples[] = "50/s, 100/m or 1000/h";
    struct str unit;
    uint64_t v, whole = 0;
    if (!with_unit(t, units, ARRAY_LEN(units), examples, &v, e) || !number(t, &v, &unit, e))
        return false;
    for (size_t i = 0; i < ARRAY_LEN(units); i++)
        if (str_eq(unit, str_of(units[i].name)))
            whole = units[i].factor * 1000000;
    *interval_us = v ? whole / v : 0;
    if (*interval_us)
        return true;
    if (v) {
        wrong(e, "E031", "`%.*s` is too large", SHOWN(t));
        hint(e, "1000000/s at most");
    } else {
        wrong(e, "E031", "`%.*s` would let nothing through", SHOWN(t));
        hint(e, "such as %s; no limit is written `rate_limit: off`", examples);
    }
    return false;
}

bool value_mode(struct str t, mode_t *out, struct value_error *e)
{
    mode_t v = 0;
    bool ok = t.n >= 3 && t.n <= 4;
    for (size_t i = 0; ok && i < t.n; i++) {
        ok = t.p[i] >= '0' && t.p[i] <= '7';
        v = v * 8 + (mode_t)(t.p[i] - '0');
    }
    if (!ok || v > 0777) {
        wrong(e, "E031", "`%.*s` is no file mode", SHOWN(t));
        hint(e, "three octal digits, such as \"0660\"");
        return false;
    }
    *out = v;
    return true;
}

bool value_uids(struct str t, uint32_t *first, uint32_t *last, struct value_error *e)
{
    size_t dash = str_chr(t, '-');
    uint64_t lo = 0, hi = 0;
    if (dash == t.n || !str_u64(str_sub(t, 0, dash), &lo) ||
        !str_u64(str_sub(t, dash + 1, t.n), &hi) || lo == 0 || hi < lo || hi >= UINT32_MAX - 1) {
        wrong(e, "E031", "`%.*s` is no range of user ids", SHOWN(t));
        hint(e, "FIRST-LAST, such as 61184-65519");
        return false;
    }
    *first = (uint32_t)lo;
    *last = (uint32_t)hi;
    return true;
}

static bool check_enum(const struct schema_key *k, struct str t, struct value_error *e)
{
    if (schema_has_word(k->values, t))
        return true;
    if (k->later && schema_has_word(k->later, t)) {
        wrong(e, "E004", "`%s: %.*s` is not available in this version", k->name, SHOWN(t));
        return false;
    }
    wrong(e, "E033", "`%.*s` is no value of `%s`", SHOWN(t), k->name);
    struct str rest = str_of(k->values), piece;
    unsigned d;
    while (rest.n && str_split(&rest, '|', &piece)) {
        if (!schema_near(t, piece, &d))
            continue;
        hint(e, "did you mean `" STR_FMT "`?", STR_ARG(piece));
        return false;
    }
    struct out o = out_on(e->hint, sizeof(e->hint) - 1);
    out_lit(&o, "one of ");
    for (const char *p = k->values; *p; p++)
        if (*p == '|')
            out_lit(&o, ", ");
        else
            out_char(&o, *p);
    e->hint[o.n] = 0;
    return false;
}

static bool check_service_listen(struct arena *a, const struct schema_key *k, struct str t,
                                 struct value_error *e)
{
    struct conf_addr addr;
    if (schema_has_word(k->values, t))
        return true;
    if (!value_addr(a, t, &addr, e))
        return false;
    if (addr.sa.ss_family != AF_INET || !str_starts(addr.text, STR("127."))) {
        wrong(e, "E034", "`%.*s` is not on this machine only", SHOWN(t));
        hint(e, "tcp, unix, fd, or a fixed 127.0.0.1:PORT");
        return false;
    }
    return true;
}

/* ---- by type ---- */

static bool check_bool(struct arena *a, const struct schema_key *k, struct str t,
                       struct value_error *e)
{
    bool v;
    (void)a;
    (void)k;
    return value_bool(t, &v, e);
}

/* Numbers of all kinds. */
static bool check_number(struct arena *a, const struct schema_key *k, struct str t,
                         struct value_error *e)
{
    uint64_t v;
    (void)a;
    switch (k->type) {
    case T_PORT:
        return value_count(t, "1-65535", &v, e);
    case T_STATUS:
        return value_count(t, "200-599", &v, e);
    case T_SIZE:
        return value_size(t, k->values, &v, e);
    case T_DURATION:
        return value_duration(t, &v, e);
    case T_BYTE_RATE:
        return value_byte_rate(t, &v, e);
    default:
        return value_count(t, k->values, &v, e);
    }
}

static bool check_rate(struct arena *a, const struct schema_key *k, struct str t,
                       struct value_error *e)
{
    uint64_t interval;
    (void)a;
    (void)k;
    return value_rate(t, &interval, e);
}

static bool check_word(struct arena *a, const struct schema_key *k, struct str t,
                       struct value_error *e)
{
    (void)a;
    return check_enum(k, t, e);
}

static bool check_addr(struct arena *a, const struct schema_key *k, struct str t,
                       struct value_error *e)
{
    struct conf_addr v;
    (void)k;
    return value_addr(a, t, &v, e);
}

static bool check_listen(struct arena *a, const struct schema_key *k, struct str t,
                         struct value_error *e)
{
    struct conf_addr v;
    (void)k;
    return value_listen(a, t, &v, e);
}

static bool check_host(struct arena *a, const struct schema_key *k, struct str t,
                       struct value_error *e)
{
    struct str v;
    (void)k;
    return value_host(a, t, &v, e);
}

static bool check_name(struct arena *a, const struct schema_key *k, struct str t,
                       struct value_error *e)
{
    (void)a;
    (void)k;
    return value_name(t, N_NAME, e);
}

static bool check_url(struct arena *a, const struct schema_key *k, struct str t,
                      struct value_error *e)
{
    struct conf_backend v;
    (void)k;
    return value_url(a, t, &v, e);
}

static bool check_mode(struct arena *a, const struct schema_key *k, struct str t,
                       struct value_error *e)
{
    mode_t v;
    (void)a;
    (void)k;
    return value_mode(t, &v, e);
}

static bool check_uids(struct arena *a, const struct schema_key *k, struct str t,
                       struct value_error *e)
{
    uint32_t first, last;
    (void)a;
    (void)k;
    return value_uids(t, &first, &last, e);
}

static bool check_target(struct arena *a, const struct schema_key *k, struct str t,
                         struct value_error *e)
{
    (void)a;
    (void)k;
    return value_target(t, e);
}

static bool check_network(struct arena *a, const struct schema_key *k, struct str t,
                          struct value_error *e)
{
    struct net_range r;
    (void)a;
    (void)k;
    if (net_range_parse(t, &r))
        return true;
    wrong(e, "E034", "`%.*s` is no network", SHOWN(t));
    hint(e, "10.0.0.0/8, 2001:db8::/32, an address, or unix for peers of Unix sockets");
    return false;
}

bool value_check(struct arena *a, const struct schema_key *k, struct str t, struct value_error *e)
{
    /* What has no entry is any text. */
    static bool (*const checks[])(struct arena *, const struct schema_key *, struct str,
                                  struct value_error *) = {
        [T_BOOL] = check_bool,
        [T_COUNT] = check_number,
        [T_PORT] = check_number,
        [T_SIZE] = check_number,
        [T_DURATION] = check_number,
        [T_BYTE_RATE] = check_number,
        [T_STATUS] = check_number,
        [T_RATE] = check_rate,
        [T_ENUM] = check_word,
        [T_ADDR] = check_addr,
        [T_LISTEN] = check_listen,
        [T_HOST] = check_host,
        [T_NAME] = check_name,
        [T_URL] = check_url,
        [T_MODE] = check_mode,
        [T_UIDS] = check_uids,
        [T_TARGET] = check_target,
        [T_CIDR] = check_network,
        [T_SERVICE_LISTEN] = check_service_listen,
        [T_MAP] = NULL,
    };
    if (((k->flags & S_OFF) && value_is_off(t)) || ((k->flags & S_AUTO) && str_eq(t, STR("auto"))))
        return true;
    if (t.n == 0 && (k->flags & S_NONE))
        return true;
    if (t.n == 0)
        return wrong(e, "E005", "`%s` has no value", k->name);
    return !checks[k->type] || checks[k->type](a, k, t, e);
}
