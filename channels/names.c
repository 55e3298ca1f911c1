/*
 * names.c - what is said to a name of a channel or service that is none: what was meant, and which
 * there are.
 */
#include "channels/instance.h"
#include "conf/schema.h"

#define NAMES_SHOWN 20
#define TEXT_MAX    8192

struct found {
    struct str name, best;
    unsigned least;
};

static void consider(struct found *f, struct str candidate)
{
    unsigned d;
    if (!schema_near(f->name, candidate, &d) || d >= f->least)
        return;
    f->least = d;
    f->best = candidate;
}

/* The nearest name, if any is near. */
static struct str nearest(const struct supervisor *s, struct str name, bool channels)
{
    struct found f = {.name = name, .least = UINT32_MAX};
    LIST_EACH (&s->services, l) {
        const struct service *svc = container_of(l, struct service, link);
        const struct str full = str_of(svc->name);
        const size_t slash = str_chr(full, '/');
        if (!svc->def)
            continue;
        consider(&f, full);
        if (channels)
            consider(&f, str_sub(full, 0, slash));
        else if (str_eq(name, str_sub(full, slash + 1, full.n))) /* the channel was forgotten */
            return full;
    }
    return f.best;
}

const char *supervisor_no_such(const struct supervisor *s, struct arena *a, struct str name,
                               bool channels)
{
    struct out o = out_on(arena_alloc(a, TEXT_MAX), TEXT_MAX - 1);
    const struct str best = nearest(s, name, channels);
    unsigned n = 0;
    if (!channels && str_chr(name, '/') == name.n)
        out_lit(&o, "the name of a service is CHANNEL/SERVICE");
    else
        out_fmt(&o, "there is no %s of this name", channels ? "channel or service" : "service");
    if (best.n)
        out_fmt(&o, "; did you mean `" STR_FMT "`", STR_ARG(str_sub(best, 0, 300)));
    out_str(&o, best.n ? STR("?") : STR("."));
    LIST_EACH (&s->services, l) {
        const struct service *svc = container_of(l, struct service, link);
        if (svc->def && n++ < NAMES_SHOWN)
            out_fmt(&o, "%s%.300s", n == 1 ? " There are: " : ", ", svc->name);
    }
    if (!n)
        out_lit(&o, " The configuration has no services.");
    else if (n > NAMES_SHOWN)
        out_fmt(&o, " and %u more; `headgate status` shows them", n - NAMES_SHOWN);
    ASSERT(!o.over); /* so many names of so many bytes fit */
    o.p[o.n] = '\0';
    return o.p;
}
