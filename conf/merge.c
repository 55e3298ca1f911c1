/*
 * merge.c - several files become one tree, and channel_defaults goes into each channel: maps key by
 * key, lists and scalars replace, routes, `ready` and `run`/`url` replace each other whole, and
 * `NAME: off` takes an inherited entry out. Values keep their own places.
 */
#include "conf/load.h"

static struct node *merge_maps(struct arena *a, struct diags *d, enum schema_group g,
                               const struct node *base, const struct node *over);

/* ---- files ---- */

static void twice(struct diags *d, const char *what, const struct member *second,
                  const struct member *first)
{
    unsigned id = diags_add(d, "E050", second->at, "%s `" STR_FMT "` is given in two files", what,
                            STR_ARG(second->key));
    diags_hint(d, id, "again here");
    diags_also(d, id, first->at, "first here");
}

void merge_file(struct arena *a, struct diags *d, struct node *into, struct node *from)
{
    for (unsigned i = 0; i < from->n; i++) {
        const struct member *m = &from->v[i];
        const struct schema_key *k = schema_find(G_ROOT, m->key);
        struct member *first = node_member(into, m->key);
        if (!k || str_eq(m->key, STR("include")))
            continue;
        if (!first) {
            node_add(a, into, m->key, m->at, m->value);
            continue;
        }
        if (k->shape != NAMED) {
            twice(d, "the key", m, first);
            continue;
        }
        if (m->value->kind != NODE_MAP || first->value->kind != NODE_MAP)
            continue;
        for (unsigned j = 0; j < m->value->n; j++) {
            const struct member *name = &m->value->v[j];
            const struct member *other = node_member(first->value, name->key);
            if (other)
                twice(d, "the name", name, other);
            else
                node_add(a, first->value, name->key, name->at, name->value);
        }
    }
}

/* ---- defaults ---- */

static void nothing_to_remove(struct diags *d, const struct member *m)
{
    unsigned id =
        diags_add(d, "W001", m->value->at, "`" STR_FMT ": off` removes nothing", STR_ARG(m->key));
    diags_hint(d, id, "nothing of this name is inherited");
}

static struct node *merge_named(struct arena *a, struct diags *d, const struct schema_key *k,
                                const struct node *base, const struct node *over)
{
    struct node *out = node_new(a, NODE_MAP, over->at, over->file);
    out->stray = over->stray || (base && base->stray);
    for (unsigned i = 0; base && i < base->n; i++)
        if (!node_member(over, base->v[i].key) && !node_is_off(base->v[i].value))
            node_add(a, out, base->v[i].key, base->v[i].at, base->v[i].value);
    for (unsigned i = 0; i < over->n; i++) {
        const struct member *m = &over->v[i];
        const struct node *inherited = base ? node_get(base, arena_strz(a, m->key)) : NULL;
        struct node *value = m->value;
        if (node_is_off(value)) {
            if (!inherited && k->type == T_MAP)
                nothing_to_remove(d, m);
            if (inherited || k->type == T_MAP)
                continue;
        }
        if (k->type == T_MAP && value->kind == NODE_MAP) {
            bool merge = inherited && inherited->kind == NODE_MAP && !(k->flags & S_WHOLE);
            value = merge_maps(a, d, k->map, merge ? inherited : NULL, value);
        }
        node_add(a, out, m->key, m->at, value);
    }
    return out;
}

/* `run` replaces an inherited `url`, and the other way round with all that belongs to `run`. */
static bool displaced(enum schema_group g, const struct schema_key *k, const struct node *over)
{
    if (g != G_SERVICE || !k)
        return false;
    if (node_get(over, "run"))
        return strcmp(k->name, "url") == 0;
    return node_get(over, "url") && (strcmp(k->name, "run") == 0 || (k->flags & S_RUN));
}

static struct node *merge_value(struct arena *a, struct diags *d, const struct schema_key *k,
                                const struct node *base, struct node *over)
{
    if (over->kind != NODE_MAP || !k)
        return over;
    const struct node *from = base && base->kind == NODE_MAP ? base : NULL;
    if (k->shape == NAMED)
        return merge_named(a, d, k, from, over);
    if (k->type == T_MAP)
        return merge_maps(a, d, k->map, k->flags & S_WHOLE ? NULL : from, over);
    return over;
}

static struct node *merge_maps(struct arena *a, struct diags *d, enum schema_group g,
                               const struct node *base, const struct node *over)
{
    struct node *out = node_new(a, NODE_MAP, over->at, over->file);
    out->stray = over->stray || (base && base->stray);
    for (unsigned i = 0; base && i < base->n; i++) {
        const struct member *m = &base->v[i];
        if (!node_member(over, m->key) && !displaced(g, schema_find(g, m->key), over))
            node_add(a, out, m->key, m->at, m->value);
    }
    for (unsigned i = 0; i < over->n; i++) {
        const struct member *m = &over->v[i];
        const struct schema_key *k = schema_find(g, m->key);
        const struct node *inherited = base ? node_get(base, arena_strz(a, m->key)) : NULL;
        /* Where `off` is a value it goes on, over what is inherited further up (tls.hsts). */
        bool removable =
            k && (k->type == T_MAP || k->shape == LIST || k->shape == NAMED) && !(k->flags & S_OFF);
        if (removable && node_is_off(m->value)) {
            if (!inherited)
                nothing_to_remove(d, m);
            continue;
        }
        node_add(a, out, m->key, m->at, merge_value(a, d, k, inherited, m->value));
    }
    return out;
}

static void merge_all(struct arena *a, struct diags *d, struct node *sites, const struct node *base)
{
    if (!sites || sites->kind != NODE_MAP)
        return;
    for (unsigned i = 0; i < sites->n; i++)
        if (sites->v[i].value->kind == NODE_MAP)
            sites->v[i].value = merge_maps(a, d, G_SITE, base, sites->v[i].value);
}

void merge_defaults(struct arena *a, struct diags *d, struct node *root)
{
    const struct node *base = node_get(root, "channel_defaults");
    merge_all(a, d, node_get(root, "channels"), base && base->kind == NODE_MAP ? base : NULL);
    merge_all(a, d, node_get(root, "sites"), NULL);
}
