/*
 * check.c - one file's tree against the schema table: unknown keys, wrong shapes and types, keys
 * that are not available yet. Shorthands (a string for a map) become maps here. What only shows
 * when everything is put together (a proxy to no service) is for load*.c.
 */
#include "conf/load.h"

struct check {
    struct arena *a;
    struct diags *d;
};

static void check_map(struct check *c, struct node *n, enum schema_group g, struct str where);

static const char *kind_words(const struct node *n)
{
    return n->kind == NODE_MAP ? "a map" : n->kind == NODE_LIST ? "a list" : "text";
}

static void wrong_shape(struct check *c, struct node *n, struct str what, const char *expected,
                        const char *hint)
{
    n->bad = true;
    unsigned id = diags_add(c->d, "E005", n->at, STR_FMT " must be %s, not %s", STR_ARG(what),
                            expected, kind_words(n));
    if (hint)
        diags_hint(c->d, id, "%s", hint);
}

static struct str key_words(struct check *c, const struct schema_key *k)
{
    return arena_fmt(c->a, "`%s`", k->name);
}

static void make_empty(struct node *n, enum node_kind kind)
{
    n->kind = kind;
    n->text = STR_NULL;
}

/* ---- scalars ---- */

struct diag_place place_in(const struct node *n, const struct placeholder_at *p)
{
    struct diag_place at = n->at;
    if (p->to <= at.len) {
        at.col += (unsigned)p->from + n->quoted;
        at.len = (unsigned)(p->to - p->from);
    }
    return at;
}

static void unknown_placeholder(struct check *c, const struct node *n,
                                const struct placeholder_at *p)
{
    struct str written = str_sub(n->text, p->from, p->to);
    unsigned id = diags_add(c->d, "E040", place_in(n, p), "unknown placeholder `" STR_FMT "`",
                            STR_ARG(written));
    const char *near = p->name.n ? placeholder_nearest(p->name) : NULL;
    if (near && !str_eq(p->name, str_of(near)))
        diags_hint(c->d, id, "did you mean `$%s`?", near);
    else if (near)
        diags_hint(c->d, id,
                   p->to > p->from && n->text.p[p->from + 1] == '{'
                       ? "`}` or the name behind `:` is missing"
                       : "write ${%s:NAME}",
                   near);
    else
        diags_hint(c->d, id, "write `$$` for a dollar sign");
}

/* True when the text holds no placeholder, so that its type can be checked as it stands. */
static bool check_placeholders(struct check *c, const struct node *n, const struct schema_key *k)
{
    struct placeholder_at p;
    bool none = true;
    for (size_t at = 0; placeholder_next(n->text, at, &p); at = p.to) {
        none = false;
        if (p.kind == PH_UNKNOWN)
            unknown_placeholder(c, n, &p);
        bool late = p.kind == PH_LISTEN || p.kind == PH_PORT || p.kind == PH_PORT_NAMED ||
                    p.kind == PH_INSTANCE;
        if (late && !(k->flags & S_LATE)) {
            unsigned id = diags_add(c->d, "E044", place_in(n, &p),
                                    "`$" STR_FMT "` has no meaning here", STR_ARG(p.name));
            diags_hint(c->d, id, "it is known when an instance starts: only in `run` and `env`");
        }
    }
    return none;
}

static void check_scalar(struct check *c, struct node *n, const struct schema_key *k)
{
    struct value_error e;
    if (n->bad)
        return;
    if (n->kind != NODE_SCALAR) {
        const char *hint = n->kind == NODE_LIST && n->n == 1 ? "only one can be given here" : NULL;
        wrong_shape(c, n, key_words(c, k), schema_type_words(k), hint);
        return;
    }
    if (!check_placeholders(c, n, k) || value_check(c->a, k, n->text, &e))
        return;
    n->bad = true;
    unsigned id = diags_add(c->d, e.code, n->at, "%s", e.what);
    if (e.hint[0])
        diags_hint(c->d, id, "%s", e.hint);
}

/* ---- maps and lists ---- */

/* `off` in place of something that a channel may have inherited: merge.c takes it out. */
static bool is_removal(const struct node *n, const struct schema_key *k)
{
    bool in_site = k->in == G_SITE || k->in == G_SERVICE || k->in == G_ROUTE ||
                   k->in == G_HEADERS || k->in == G_GRPC || k->in == G_RELEASES ||
                   k->in == G_TO_BACKEND;
    return in_site && node_is_off(n);
}

/* A string where a map is expected sets the main key. False when it cannot. */
static bool expand_shorthand(struct check *c, struct node *n, const struct schema_key *k)
{
    const char *main_key = schema_main_key(k->map);
    const struct schema_key *mk = main_key ? schema_find(k->map, str_of(main_key)) : NULL;
    bool list = n->kind == NODE_LIST && mk && mk->shape == ONE_OR_LIST;
    if (!mk || (n->kind != NODE_SCALAR && !list))
        return false;
    struct node *value = node_new(c->a, n->kind, n->at, n->file);
    *value = *n;
    *n = (struct node){.kind = NODE_MAP, .at = value->at, .file = value->file};
    node_add(c->a, n, str_of(main_key), value->at, value);
    return true;
}

static void check_one_map(struct check *c, struct node *n, const struct schema_key *k,
                          struct str where)
{
    if (n->bad || is_removal(n, k) || ((k->flags & S_OFF) && node_is_off(n)))
        return;
    if (node_is_empty(n))
        make_empty(n, NODE_MAP);
    if (n->kind == NODE_MAP || expand_shorthand(c, n, k)) {
        check_map(c, n, k->map, where);
        return;
    }
    const char *hint = NULL;
    if (k->map == G_ROUTE)
        hint = "write { proxy: SERVICE }, { files: DIR }, { redirect: /to/ } or { respond: text }";
    else if (k->map == G_READY)
        hint = "write { http: /healthz } or { tcp: on }";
    wrong_shape(c, n, k->shape == NAMED ? where : key_words(c, k), "a map", hint);
}

static void check_items(struct check *c, struct node *n, const struct schema_key *k,
                        struct str where)
{
    for (unsigned i = 0; i < n->n; i++) {
        if (k->type == T_MAP)
            check_one_map(c, n->v[i].value, k, where);
        else
            check_scalar(c, n->v[i].value, k);
    }
}

static void check_list(struct check *c, struct node *n, const struct schema_key *k,
                       struct str where)
{
    if (((k->flags & S_OFF) && node_is_off(n)) || (is_removal(n, k) && !(k->flags & S_WHOLE)))
        return;
    if (node_is_empty(n))
        make_empty(n, NODE_LIST);
    if (n->kind == NODE_LIST) {
        check_items(c, n, k, where);
        return;
    }
    bool run = k->in == G_SERVICE && k->type == T_STRING;
    wrong_shape(c, n, key_words(c, k), "a list",
                run ? "write [program, arg, …]: there is no shell that would split it"
                : n->kind == NODE_SCALAR ? "put it in [ ]"
                                         : NULL);
}

static struct str entry_words(struct check *c, const struct schema_key *k, struct str name,
                              struct str where)
{
    const char *what =
        str_eq(str_of(k->name), STR("channels")) ? "channel" : schema_group_title(k->map);
    if (k->map == G_SERVICE || k->map == G_ROUTE)
        return arena_fmt(c->a, "%s `" STR_FMT "` of " STR_FMT, what, STR_ARG(name), STR_ARG(where));
    return arena_fmt(c->a, "%s `" STR_FMT "`", what, STR_ARG(name));
}

static void check_named(struct check *c, struct node *n, const struct schema_key *k,
                        struct str where)
{
    if (node_is_empty(n))
        make_empty(n, NODE_MAP);
    if (n->kind != NODE_MAP) {
        wrong_shape(c, n, key_words(c, k), "a map", "write NAME: … entries");
        return;
    }
    for (unsigned i = 0; i < n->n; i++) {
        struct member *m = &n->v[i];
        struct value_error e;
        if (!value_name(m->key, k->names, &e)) {
            unsigned id = diags_add(c->d, e.code, m->at, "%s", e.what);
            if (e.hint[0])
                diags_hint(c->d, id, "%s", e.hint);
            m->value->bad = true;
        }
        if (is_removal(m->value, k))
            continue;
        if (k->type == T_MAP)
            check_one_map(c, m->value, k, entry_words(c, k, m->key, where));
        else
            check_scalar(c, m->value, k);
    }
}

static void check_value(struct check *c, struct node *n, const struct schema_key *k,
                        struct str where)
{
    if (n->bad)
        return;
    struct str inner = arena_fmt(c->a, "`%s`" STR_FMT STR_FMT, k->name,
                                 STR_ARG(where.n ? STR(" of ") : STR("")), STR_ARG(where));
    switch (k->shape) {
    case ONE:
        if (k->type == T_MAP)
            check_one_map(c, n, k, inner);
        else if (!is_removal(n, k) || k->type != T_PATH)
            check_scalar(c, n, k);
        return;
    case LIST:
        check_list(c, n, k, inner);
        return;
    case ONE_OR_LIST:
        if (n->kind == NODE_LIST)
            check_items(c, n, k, inner);
        else
            check_scalar(c, n, k);
        return;
    case NAMED:
        check_named(c, n, k, where);
        return;
    }
}

/* The same key one map further up or down: "put it there". */
static const char *elsewhere(enum schema_group in, struct str name)
{
    static const struct {
        enum schema_group in, at;
        const char *words;
    } places[] = {
        {G_SITE_LIMITS, G_LIMITS,
         "this limit is known before the site is: it belongs to the top level"},
        {G_SITE_TIMEOUTS, G_TIMEOUTS,
         "this time runs before the site is known: it belongs to the top level"},
        {G_ROUTE_LIMITS, G_SITE_LIMITS,
         "this limit is known before the route is: it belongs to the channel or site"},
        {G_ROUTE_LIMITS, G_LIMITS,
         "this limit is known before the site is: it belongs to the top level"},
        {G_ROUTE_TIMEOUTS, G_SITE_TIMEOUTS,
         "this time is a service's, not a route's: it belongs to the channel or site"},
        {G_ROUTE_TIMEOUTS, G_TIMEOUTS,
         "this time runs before the site is known: it belongs to the top level"},
        {G_SITE, G_ROOT, "it belongs to the top level"},
        {G_ROOT, G_SITE, "it belongs into a channel or a site"},
        {G_ROOT, G_SERVICE, "it belongs to a service"},
        {G_ROUTE, G_SITE, "it belongs to the channel or site, not to a route"},
        {G_ROUTE, G_SERVICE, "it belongs to a service"},
        {G_SITE, G_SERVICE, "it belongs to a service"},
        {G_SERVICE, G_SITE, "it belongs to the channel or site, not to a service"},
    };
    for (size_t i = 0; i < ARRAY_LEN(places); i++)
        if (places[i].in == in && schema_find(places[i].at, name))
            return places[i].words;
    return NULL;
}

static void unknown_key(struct check *c, const struct member *m, enum schema_group g,
                        struct str where)
{
    unsigned id = where.n
                      ? diags_add(c->d, "E003", m->at, "unknown key `" STR_FMT "` in " STR_FMT,
                                  STR_ARG(m->key), STR_ARG(where))
                      : diags_add(c->d, "E003", m->at, "unknown key `" STR_FMT "` at the top level",
                                  STR_ARG(m->key));
    const char *words = schema_synonym(g, m->key);
    const char *near = schema_nearest_key(g, m->key);
    if (!words && !near)
        words = elsewhere(g, m->key);
    if (words)
        diags_hint(c->d, id, "%s", words);
    else if (near)
        diags_hint(c->d, id, "did you mean `%s`?", near);
}

static void check_map(struct check *c, struct node *n, enum schema_group g, struct str where)
{
    for (unsigned i = 0; i < n->n; i++) {
        struct member *m = &n->v[i];
        const struct schema_key *k = schema_find(g, m->key);
        if (!k) {
            unknown_key(c, m, g, where);
            n->stray = true;
            continue;
        }
        if (k->flags & S_LATER)
            diags_add(c->d, "E004", m->at, "`" STR_FMT "` is not available in this version",
                      STR_ARG(m->key));
        check_value(c, m->value, k, where);
    }
}

void check_file(struct arena *a, struct diags *d, struct node *root)
{
    struct check c = {a, d};
    check_map(&c, root, G_ROOT, STR(""));
}
