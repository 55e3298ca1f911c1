/*
 * load_env.c - the environment of a service: first the lines of env_file, taken as they are, then
 * env over it. Lines are never shown in messages: they hold secrets.
 */
#include "conf/load_env.h"

#define ENV_FILE_MAX (256 * 1024)

struct env {
    struct str *v;
    unsigned n, cap;
};

static void set(struct load *l, struct env *e, struct str name, struct str value)
{
    struct str text = arena_fmt(l->a, STR_FMT "=" STR_FMT, STR_ARG(name), STR_ARG(value));
    for (unsigned i = 0; i < e->n; i++) {
        if (!str_eq(str_sub(e->v[i], 0, str_chr(e->v[i], '=')), name))
            continue;
        e->v[i] = text;
        return;
    }
    if (e->n == e->cap) {
        unsigned cap = e->cap ? e->cap * 2 : 16;
        struct str *v = arena_zarray(l->a, struct str, cap);
        if (e->n)
            memcpy(v, e->v, e->n * sizeof(*v));
        e->v = v;
        e->cap = cap;
    }
    e->v[e->n++] = text;
}

static struct str dollars_doubled(struct load *l, struct str s)
{
    struct out o = out_on(arena_alloc(l->tmp, s.n * 2 + 1), s.n * 2 + 1);
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '$')
            out_char(&o, '$');
        out_char(&o, s.p[i]);
    }
    return out_done(&o);
}

/* NAME=value, value in one kind of quotes or none; false when it is something else. */
static bool take_line(struct load *l, struct env *e, struct str line)
{
    struct value_error ignored;
    if (str_starts(line, STR("export ")))
        line = str_trim(str_sub(line, 7, line.n));
    size_t eq = str_chr(line, '=');
    struct str name = str_sub(line, 0, eq), value = str_sub(line, eq + 1, line.n);
    if (eq == line.n || !value_name(name, N_ENV, &ignored) || memchr(line.p, 0, line.n))
        return false;
    char q = value.n ? value.p[0] : 0;
    if ((q == '"' || q == '\'') && (value.n < 2 || value.p[value.n - 1] != q))
        return false;
    if (q == '"' || q == '\'')
        value = str_sub(value, 1, value.n - 1);
    set(l, e, name, dollars_doubled(l, value));
    return true;
}

static void load_env_file(struct load *l, const struct scope *sc, const struct node *map,
                          struct env *e)
{
    const struct node *n = node_get(map, "env_file");
    if (!n || load_offline(l))
        return;
    struct str path = get_path(l, sc, map, G_SERVICE, "env_file"), text;
    if (!path.n)
        return;
    const char *err = source_read(l->src, path.p, ENV_FILE_MAX, &text);
    if (err) {
        diags_add(l->d, "E042", n->at, "%s", err);
        return;
    }
    struct str line;
    for (unsigned no = 1; str_split(&text, '\n', &line); no++) {
        if (line.n && line.p[line.n - 1] == '\r')
            line.n--;
        line = str_trim(line);
        if (!line.n || line.p[0] == '#' || take_line(l, e, line))
            continue;
        unsigned id = diags_add(l->d, "E045", n->at, "line %u of " STR_FMT " is not NAME=value", no,
                                STR_ARG(path));
        diags_hint(l->d, id, "one a line; the value may stand in quotes");
    }
}

void load_env(struct load *l, const struct scope *late, const struct node *map,
              struct conf_service *s)
{
    const struct node *env = node_get(map, "env");
    struct scope early = *late;
    struct env e = {0};
    early.late = false;
    load_env_file(l, &early, map, &e);
    for (unsigned i = 0; env && env->kind == NODE_MAP && i < env->n; i++) {
        const struct node *n = env->v[i].value;
        struct str value;
        if (n->bad || n->kind != NODE_SCALAR || !load_expand(l, late, n, &value))
            continue;
        set(l, &e, env->v[i].key, value);
    }
    s->env = e.v;
    s->n_env = e.n;
}
