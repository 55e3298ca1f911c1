/*
 * load_get.c - single values on their way from the tree into struct conf: placeholders replaced,
 * type checked, default taken from the schema table. What was wrong is reported here once and the
 * default goes on in its place, so that all errors show in one run.
 */
#include "base/file.h"
#include "conf/load.h"

#define PLACEHOLDER_FILE_MAX (64 * 1024)
#define EXPANDED_MAX         (256 * 1024)
#define PLACEHOLDERS_MAX     100 /* in one value; each copies the text so far */

bool load_offline(const struct load *l)
{
    return (l->flags & CONF_OFFLINE) != 0;
}

struct diag_place place_keep(struct load *l, struct diag_place at)
{
    at.file = arena_str(l->a, at.file);
    return at;
}

struct str resolve_path(struct load *l, const struct node *n, struct str path)
{
    struct str main = l->c->file;
    size_t slash = main.n;
    while (slash && main.p[slash - 1] != '/')
        slash--;
    return file_resolve(l->a, n ? n->file->dir : str_sub(main, 0, MAX(slash, (size_t)1)), path);
}

bool is_written(const struct node *map, const char *name)
{
    return node_get(map, name) != NULL;
}

struct diag_place place_of_key(const struct node *map, const char *name)
{
    const struct node *n = node_get(map, name);
    return n ? n->at : map ? map->at : (struct diag_place){0};
}

/* ---- placeholders ---- */

static bool meaningless(struct load *l, const struct node *n, const struct placeholder_at *p,
                        const char *hint)
{
    unsigned id = diags_add(l->d, "E044", place_in(n, p), "`$" STR_FMT "` has no meaning here",
                            STR_ARG(p->name));
    if (hint)
        diags_hint(l->d, id, "%s", hint);
    return false;
}

static bool from_file(struct load *l, const struct node *n, const char *code, struct str path,
                      struct str *out)
{
    if (load_offline(l))
        return false;
    const char *err = source_read(l->src, arena_strz(l->tmp, path), PLACEHOLDER_FILE_MAX, out);
    if (!err && memchr(out->p, 0, out->n))
        err = arena_fmt(l->tmp, STR_FMT " holds a NUL byte", STR_ARG(path)).p;
    if (err) {
        diags_add(l->d, code, n->at, "%s", err);
        return false;
    }
    if (out->n && out->p[out->n - 1] == '\n')
        out->n--;
    return true;
}

static bool from_secret(struct load *l, const struct node *n, struct str name, struct str *out)
{
    struct str dir;
    if (load_offline(l))
        return false;
    if (!source_env(l->src, "CREDENTIALS_DIRECTORY", &dir) || !dir.n) {
        unsigned id = diags_add(l->d, "E043", n->at,
                                "`$secret:" STR_FMT "`: there are no credentials", STR_ARG(name));
        diags_hint(l->d, id,
                   "systemd: LoadCredential=" STR_FMT ":FILE; by hand: CREDENTIALS_DIRECTORY=DIR",
                   STR_ARG(name));
        return false;
    }
    if (str_chr(name, '/') < name.n || str_starts(name, STR("."))) {
        diags_add(l->d, "E043", n->at, "`$secret:" STR_FMT "` is no name of a credential",
                  STR_ARG(name));
        return false;
    }
    return from_file(l, n, "E043",
                     arena_fmt(l->tmp, STR_FMT "/" STR_FMT, STR_ARG(dir), STR_ARG(name)), out);
}

static bool from_env(struct load *l, const struct node *n, struct str name, struct str *out)
{
    if (load_offline(l))
        return false;
    if (source_env(l->src, arena_strz(l->tmp, name), out))
        return true;
    unsigned id = diags_add(l->d, "E041", n->at, "the environment variable " STR_FMT " is not set",
                            STR_ARG(name));
    diags_hint(l->d, id, "systemd: Environment=" STR_FMT "=…", STR_ARG(name));
    return false;
}

static bool known(struct load *l, const struct node *n, const struct placeholder_at *p,
                  struct str value, const char *hint, struct str *out)
{
    *out = value;
    return value.p ? true : meaningless(l, n, p, hint);
}

/* What an early placeholder stands for. */
static bool early_value(struct load *l, const struct scope *sc, const struct node *n,
                        const struct placeholder_at *p, struct str *out)
{
    switch (p->kind) {
    case PH_CHANNEL:
        return known(l, n, p, sc->channel, "only in a channel or a site", out);
    case PH_HOST:
        return known(l, n, p, sc->host, "only in a channel or a site, behind its `host`", out);
    case PH_SERVICE:
        return known(l, n, p, sc->service, "only in a service", out);
    case PH_DATA:
        return known(l, n, p, sc->data, "only in a service", out);
    case PH_STATE:
        return known(l, n, p, l->c->state, NULL, out);
    case PH_RUNTIME:
        return known(l, n, p, l->c->runtime, NULL, out);
    case PH_ENV:
        return from_env(l, n, p->arg, out);
    case PH_FILE:
        return from_file(l, n, "E042", resolve_path(l, n, p->arg), out);
    case PH_SECRET:
        return from_secret(l, n, p->arg, out);
    case PH_PROJECT:
    case PH_RELEASE:
    case PH_VERSION:
        diags_add(l->d, "E004", place_in(n, p), "`" STR_FMT "` is not available in this version",
                  STR_ARG(str_sub(n->text, p->from, p->to)));
        return false;
    case PH_LISTEN:
    case PH_PORT:
    case PH_PORT_NAMED:
    case PH_INSTANCE:
        return meaningless(l, n, p, "it is known when an instance starts: only in `run` and `env`");
    case PH_UNKNOWN: /* check.c said so */
    case PH_DOLLAR:
        return false;
    }
    return false;
}

static struct str join(struct load *l, struct str x, struct str y)
{
    return arena_fmt(l->tmp, STR_FMT STR_FMT, STR_ARG(x), STR_ARG(y));
}

/* $ in values must survive conf_expand. */
static struct str escape(struct load *l, struct str s)
{
    if (str_chr(s, '$') == s.n)
        return s;
    struct out o = out_on(arena_alloc(l->tmp, s.n * 2), s.n * 2);
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '$')
            out_char(&o, '$');
        out_char(&o, s.p[i]);
    }
    return out_done(&o);
}

static bool stays(const struct scope *sc, const struct placeholder_at *p)
{
    return sc->late && (p->kind == PH_LISTEN || p->kind == PH_PORT || p->kind == PH_PORT_NAMED ||
                        p->kind == PH_INSTANCE || p->kind == PH_DOLLAR);
}

bool load_expand(struct load *l, const struct scope *sc, const struct node *n, struct str *out)
{
    static const struct scope nowhere = {0};
    struct placeholder_at p;
    struct str text = STR("");
    size_t at = 0;
    bool ok = true;
    unsigned count = 0;
    if (!sc)
        sc = &nowhere;
    for (; placeholder_next(n->text, at, &p); at = p.to) {
        struct str value = STR_NULL;
        text = join(l, text, str_sub(n->text, at, p.from));
        if (stays(sc, &p))
            value = str_sub(n->text, p.from, p.to);
        else if (p.kind == PH_DOLLAR)
            value = STR("$");
        else if (early_value(l, sc, n, &p, &value))
            value = sc->late ? escape(l, value) : value;
        else
            ok = false;
        text = join(l, text, value);
        if (text.n > EXPANDED_MAX || ++count > PLACEHOLDERS_MAX) {
            diags_add(l->d, "E022", n->at,
                      "the value has more than %d placeholders, or becomes longer than %d bytes",
                      PLACEHOLDERS_MAX, EXPANDED_MAX);
            return false;
        }
    }
    *out = arena_str(l->a, join(l, text, str_sub(n->text, at, n->text.n)));
    return ok;
}

/* ---- values ---- */

static const struct schema_key *key_of(enum schema_group g, const char *name)
{
    const struct schema_key *k = schema_find(g, str_of(name));
    ASSERT(k);
    return k;
}

static void report(struct load *l, const struct node *n, const struct schema_key *k,
                   const struct value_error *e)
{
    if (str_chr(n->text, '$') == n->text.n) { /* check.c said it in the same words */
        unsigned same = diags_add(l->d, e->code, n->at, "%s", e->what);
        if (e->hint[0])
            diags_hint(l->d, same, "%s", e->hint);
        return;
    }
    /* What a placeholder stands for may be secret. */
    unsigned id = diags_add(l->d, e->code, n->at, "what `%s` stands for here is not %s", k->name,
                            schema_type_words(k));
    diags_hint(l->d, id, "look at the value behind the placeholder");
}

static bool checked(struct load *l, const struct scope *sc, const struct node *n,
                    const struct schema_key *k, struct str *out)
{
    struct value_error e;
    if (!n || n->bad || n->kind != NODE_SCALAR || !load_expand(l, sc, n, out))
        return false;
    if (value_check(l->tmp, k, *out, &e))
        return true;
    report(l, n, k, &e);
    return false;
}

static struct str default_of(struct load *l, const struct scope *sc, const struct schema_key *k)
{
    if (!k->def)
        return STR_NULL;
    struct str text = str_of(k->def), out;
    if (text.n >= 2 && text.p[0] == '"')
        text = str_sub(text, 1, text.n - 1);
    struct node n = {.kind = NODE_SCALAR, .text = text};
    return load_expand(l, sc, &n, &out) ? out : STR_NULL;
}

struct str get_text(struct load *l, const struct scope *sc, const struct node *map,
                    enum schema_group g, const char *name)
{
    const struct schema_key *k = key_of(g, name);
    struct str out;
    if (checked(l, sc, node_get(map, name), k, &out))
        return out;
    return default_of(l, sc, k);
}

struct str get_path(struct load *l, const struct scope *sc, const struct node *map,
                    enum schema_group g, const char *name)
{
    const struct schema_key *k = key_of(g, name);
    const struct node *n = node_get(map, name);
    struct str out;
    if (checked(l, sc, n, k, &out))
        return out.n ? resolve_path(l, n, out) : STR("");
    return default_of(l, sc, k);
}

uint64_t get_number(struct load *l, const struct scope *sc, const struct node *map,
                    enum schema_group g, const char *name)
{
    const struct schema_key *k = key_of(g, name);
    struct str t = get_text(l, sc, map, g, name);
    struct value_error e;
    uint64_t v = 0;
    if (!t.n || str_eq(t, STR("auto")) || value_is_off(t))
        return 0;
    switch (k->type) {
    case T_SIZE:
        return value_size(t, NULL, &v, &e) ? v : 0;
    case T_DURATION:
        return value_duration(t, &v, &e) ? v : 0;
    case T_BYTE_RATE:
        return value_byte_rate(t, &v, &e) ? v : 0;
    case T_RATE:
        return value_rate(t, &v, &e) ? v : 0;
    default:
        return value_count(t, NULL, &v, &e) ? v : 0;
    }
}

bool get_bool(struct load *l, const struct scope *sc, const struct node *map, enum schema_group g,
              const char *name)
{
    struct value_error e;
    bool v = false;
    struct str t = get_text(l, sc, map, g, name);
    return t.n && value_bool(t, &v, &e) && v;
}

unsigned get_list(struct load *l, const struct scope *sc, const struct node *map,
                  enum schema_group g, const char *name, struct str **out,
                  const struct node ***items)
{
    const struct schema_key *k = key_of(g, name);
    const struct node *n = node_get(map, name);
    *out = NULL;
    if (items)
        *items = NULL;
    if (!n || n->bad || n->kind == NODE_MAP)
        return 0;
    unsigned cap = n->kind == NODE_LIST ? n->n : 1, count = 0;
    *out = arena_zarray(l->a, struct str, MAX(cap, 1U));
    if (items)
        *items = arena_zarray(l->tmp, const struct node *, MAX(cap, 1U));
    for (unsigned i = 0; i < cap; i++) {
        const struct node *item = n->kind == NODE_LIST ? n->v[i].value : n;
        if (!checked(l, sc, item, k, &(*out)[count]))
            continue;
        if (items)
            (*items)[count] = item;
        count++;
    }
    return count;
}
