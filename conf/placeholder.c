/*
 * placeholder.c - $channel, ${env:HOME}, $$ and their like: finding them in a text, and the late
 * ones' expansion when an instance starts. What the early ones stand for is load_get.c's matter.
 */
#include "conf/value.h"

static const struct {
    const char *name;
    enum placeholder kind;
    bool arg;
} table[] = {
    {"project", PH_PROJECT, false},   {"channel", PH_CHANNEL, false},
    {"host", PH_HOST, false},         {"service", PH_SERVICE, false},
    {"state", PH_STATE, false},       {"runtime", PH_RUNTIME, false},
    {"data", PH_DATA, false},         {"release", PH_RELEASE, false},
    {"version", PH_VERSION, false},   {"listen", PH_LISTEN, false},
    {"instance", PH_INSTANCE, false}, {"env", PH_ENV, true},
    {"file", PH_FILE, true},          {"secret", PH_SECRET, true},
    {"port", PH_PORT, false},
};

static bool letter(char c)
{
    c = ascii_lower(c);
    return (c >= 'a' && c <= 'z') || c == '_';
}

static bool name_char(char c)
{
    return letter(c) || (c >= '0' && c <= '9');
}

/* What may stand in an argument without braces: a file's path ends at a space or a comma. */
static bool arg_char(enum placeholder kind, char c)
{
    if (kind == PH_FILE)
        return c > ' ' && !strchr(",;\"'`|<>", c);
    if (kind == PH_SECRET)
        return name_char(c) || c == '-' || c == '.';
    return name_char(c) || (kind == PH_PORT_NAMED && c == '-');
}

static void identify(struct placeholder_at *out, bool has_colon)
{
    out->kind = PH_UNKNOWN;
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        if (!str_eq(out->name, str_of(table[i].name)))
            continue;
        if (table[i].kind == PH_PORT && has_colon)
            out->kind = PH_PORT_NAMED;
        else if (table[i].arg == has_colon || !table[i].arg)
            out->kind = table[i].kind;
    }
}

bool placeholder_next(struct str text, size_t from, struct placeholder_at *out)
{
    size_t i = from + str_chr(str_sub(text, from, text.n), '$');
    if (i >= text.n)
        return false;
    *out = (struct placeholder_at){.kind = PH_UNKNOWN, .from = i, .to = i + 1};
    size_t at = i + 1;
    if (at < text.n && text.p[at] == '$') {
        out->kind = PH_DOLLAR;
        out->to = at + 1;
        return true;
    }
    bool brace = at < text.n && text.p[at] == '{';
    at += brace;
    size_t name = at;
    if (at < text.n && letter(text.p[at]))
        while (at < text.n && name_char(text.p[at]))
            at++;
    out->name = str_sub(text, name, at);
    bool colon = at + 1 < text.n && text.p[at] == ':';
    identify(out, colon);
    bool takes_arg = out->kind == PH_ENV || out->kind == PH_FILE || out->kind == PH_SECRET ||
                     out->kind == PH_PORT_NAMED;
    if (colon && takes_arg) {
        size_t arg = ++at;
        while (at < text.n && (brace ? text.p[at] != '}' : arg_char(out->kind, text.p[at])))
            at++;
        out->arg = str_sub(text, arg, at);
        /* `$port:` in front of something else is $port and a colon. */
        if (!out->arg.n && out->kind == PH_PORT_NAMED) {
            out->kind = PH_PORT;
            at = arg - 1;
        } else if (!out->arg.n) {
            out->kind = PH_UNKNOWN;
        }
    }
    if (brace) {
        if (at >= text.n || text.p[at] != '}')
            out->kind = PH_UNKNOWN;
        else
            at++;
    }
    out->to = MAX(at, i + 1);
    return true;
}

const char *placeholder_nearest(struct str name)
{
    const char *best = NULL;
    unsigned least = UINT32_MAX;
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        unsigned d;
        if (!schema_near(name, str_of(table[i].name), &d) || d >= least)
            continue;
        least = d;
        best = table[i].name;
    }
    return best;
}

static struct str port_named(struct str name, const struct conf_vars *v, char digits[8])
{
    struct out o = out_on(digits, 8);
    for (unsigned i = 0; i < v->n_ports; i++)
        if (str_eq(v->ports[i].name, name))
            out_u64(&o, v->ports[i].number);
    return out_done(&o);
}

static struct str late_value(const struct placeholder_at *p, const struct conf_vars *v,
                             struct str text, char digits[8])
{
    switch (p->kind) {
    case PH_DOLLAR:
        return STR("$");
    case PH_LISTEN:
        return v->listen;
    case PH_PORT:
        return v->port;
    case PH_PORT_NAMED:
        return port_named(p->arg, v, digits);
    case PH_RELEASE:
        return v->release;
    case PH_VERSION:
        return v->version;
    case PH_INSTANCE:
        return v->instance;
    default: /* the load let nothing else through */
        return str_sub(text, p->from, p->to);
    }
}

struct str conf_expand(struct arena *a, struct str text, const struct conf_vars *v)
{
    struct placeholder_at p;
    char digits[8];
    size_t n = text.n;
    for (size_t at = 0; placeholder_next(text, at, &p); at = p.to)
        n += late_value(&p, v, text, digits).n;
    struct out o = out_on(arena_alloc(a, n + 1), n);
    size_t at = 0;
    for (; placeholder_next(text, at, &p); at = p.to) {
        out_str(&o, str_sub(text, at, p.from));
        out_str(&o, late_value(&p, v, text, digits));
    }
    out_str(&o, str_sub(text, at, text.n));
    ASSERT(!o.over);
    o.p[o.n] = 0;
    return out_done(&o);
}
