/*
 * yaml.c - libyaml's events become a tree with places. Only the strict subset of CONFIG.md gets
 * through: no anchors, aliases, merge keys, tags, second documents, duplicate keys. What bytes may
 * stand in a file, and the words for libyaml's own complaints, are in yaml_traps.c; what keys mean
 * is in schema.c.
 */
#include <yaml.h>

#include "conf/tree.h"

struct frame {
    struct node *node;
    struct str key;
    struct diag_place key_at;
    bool have_key;
    bool drop; /* the value of a key that was refused */
    bool flow;
};

struct builder {
    struct arena *a;
    struct diags *d;
    struct conf_file *file;
    struct node *root;
    struct frame stack[YAML_DEPTH_MAX];
    unsigned depth;
    unsigned nodes;
    unsigned documents;
    struct node *last; /* the scalar read last: what libyaml stumbles over may be its rest */
    bool stop;
};

struct node *node_new(struct arena *a, enum node_kind kind, struct diag_place at,
                      const struct conf_file *file)
{
    struct node *n = arena_znew(a, struct node);
    n->kind = kind;
    n->at = at;
    n->file = file;
    return n;
}

void node_add(struct arena *a, struct node *to, struct str key, struct diag_place key_at,
              struct node *value)
{
    if (to->n == to->cap) {
        unsigned cap = to->cap ? to->cap * 2 : 8;
        struct member *v = arena_zarray(a, struct member, cap);
        if (to->n)
            memcpy(v, to->v, to->n * sizeof(*v));
        to->v = v;
        to->cap = cap;
    }
    to->v[to->n++] = (struct member){.key = key, .at = key_at, .value = value};
}

struct member *node_member(const struct node *map, struct str key)
{
    if (!map || map->kind != NODE_MAP)
        return NULL;
    for (unsigned i = 0; i < map->n; i++)
        if (str_eq(map->v[i].key, key))
            return &map->v[i];
    return NULL;
}

struct node *node_get(const struct node *map, const char *key)
{
    struct member *m = node_member(map, str_of(key));
    return m ? m->value : NULL;
}

bool node_is_off(const struct node *n)
{
    return n && n->kind == NODE_SCALAR && !n->quoted &&
           (str_ieq(n->text, STR("off")) || str_ieq(n->text, STR("no")) ||
            str_ieq(n->text, STR("false")));
}

bool node_is_empty(const struct node *n)
{
    return n && n->kind == NODE_SCALAR && !n->quoted && n->text.n == 0;
}

struct str text_line(struct str text, unsigned line)
{
    struct str rest = text;
    for (unsigned i = 1; i < line; i++) {
        size_t nl = str_chr(rest, '\n');
        if (nl == rest.n)
            return STR("");
        rest = str_sub(rest, nl + 1, rest.n);
    }
    struct str s = str_sub(rest, 0, str_chr(rest, '\n'));
    if (s.n && s.p[s.n - 1] == '\r')
        s.n--;
    return s;
}

static struct diag_place place_of(const struct builder *b, const yaml_mark_t *from,
                                  const yaml_mark_t *to)
{
    struct diag_place at = {.file = b->file->shown,
                            .line = (unsigned)from->line + 1,
                            .col = (unsigned)from->column + 1,
                            .len = 1};
    if (to && to->line == from->line && to->column > from->column)
        at.len = (unsigned)(to->column - from->column);
    return at;
}

static void refuse_decoration(struct builder *b, const yaml_event_t *e, const yaml_char_t *anchor,
                              const yaml_char_t *tag)
{
    struct diag_place at = place_of(b, &e->start_mark, &e->end_mark);
    if (anchor) {
        at.len = (unsigned)strlen((const char *)anchor) + 1;
        unsigned id =
            diags_add(b->d, "E012", at, "anchor `&%s`: anchors are not part of this language",
                      (const char *)anchor);
        diags_hint(b->d, id, "write the value out, use channel_defaults, or put it in quotes");
    }
    if (tag) {
        at.len = 1;
        unsigned id = diags_add(b->d, "E015", at, "tag `%s`: tags are not part of this language",
                                (const char *)tag);
        diags_hint(b->d, id, "the key says what type a value has; leave the tag away");
    }
}

/* Where the next node would go is a key: a map that has none pending. */
static bool expects_key(const struct builder *b)
{
    if (!b->depth)
        return false;
    const struct frame *f = &b->stack[b->depth - 1];
    return f->node->kind == NODE_MAP && !f->have_key;
}

static void take_key(struct builder *b, struct str key, struct diag_place at)
{
    struct frame *f = &b->stack[b->depth - 1];
    f->key = key;
    f->key_at = at;
    f->have_key = true;
    f->drop = false;
    if (str_eq(key, STR("<<"))) {
        unsigned id =
            diags_add(b->d, "E014", at, "merge key `<<`: merge keys are not part of this language");
        diags_hint(b->d, id, "what channels share goes into channel_defaults");
        f->drop = true;
        return;
    }
    if (key.n == 0) {
        unsigned id = diags_add(b->d, "E024", at, "an empty key");
        diags_hint(b->d, id, "a key is a word before the `:`");
        f->drop = true;
        return;
    }
    struct member *first = node_member(f->node, key);
    if (first) {
        unsigned id =
            diags_add(b->d, "E011", at, "the key `" STR_FMT "` is given twice", STR_ARG(key));
        diags_hint(b->d, id, "again here");
        diags_also(b->d, id, first->at, "first here");
        f->drop = true;
    }
}

static void attach(struct builder *b, struct node *n)
{
    if (!b->depth) {
        if (!b->root)
            b->root = n;
        return;
    }
    struct frame *f = &b->stack[b->depth - 1];
    if (f->node->kind == NODE_LIST) {
        node_add(b->a, f->node, STR_NULL, n->at, n);
        return;
    }
    if (!f->drop)
        node_add(b->a, f->node, f->key, f->key_at, n);
    f->have_key = false;
}

static bool count_node(struct builder *b, const yaml_event_t *e)
{
    if (++b->nodes <= YAML_NODES_MAX)
        return true;
    diags_add(b->d, "E022", place_of(b, &e->start_mark, NULL),
              "more than %d keys and values in one file", YAML_NODES_MAX);
    b->stop = true;
    return false;
}

static void on_scalar(struct builder *b, const yaml_event_t *e)
{
    struct str text = {(const char *)e->data.scalar.value, e->data.scalar.length};
    struct diag_place at = place_of(b, &e->start_mark, &e->end_mark);
    refuse_decoration(b, e, e->data.scalar.anchor, e->data.scalar.tag);
    bool quoted = e->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    text = arena_str(b->a, text);
    bool nul = memchr(text.p, 0, text.n) != NULL;
    if (nul)
        diags_add(b->d, "E017", at, "a NUL character");
    if (expects_key(b)) {
        take_key(b, text, at);
        b->stack[b->depth - 1].drop |= nul;
        return;
    }
    struct node *n = node_new(b->a, NODE_SCALAR, at, b->file);
    n->text = text;
    n->quoted = quoted;
    n->bad = nul;
    b->last = n;
    struct frame *f = b->depth ? &b->stack[b->depth - 1] : NULL;
    if (!quoted && text.n == 0 && f && f->node->kind == NODE_MAP && f->flow && !f->drop) {
        unsigned id =
            diags_add(b->d, "E019", f->key_at, "`" STR_FMT "` has no value", STR_ARG(f->key));
        diags_hint(b->d, id,
                   "a comma ends a value in { }: put a value that holds a comma in quotes");
        f->drop = true;
    }
    attach(b, n);
}

static void on_alias(struct builder *b, const yaml_event_t *e)
{
    struct diag_place at = place_of(b, &e->start_mark, &e->end_mark);
    const char *name = (const char *)e->data.alias.anchor;
    unsigned id =
        diags_add(b->d, "E013", at, "alias `*%s`: aliases are not part of this language", name);
    diags_hint(b->d, id, "if it is a value, put it in quotes: \"*%s\"", name);
    if (expects_key(b)) {
        take_key(b, arena_fmt(b->a, "*%s", name), at);
        b->stack[b->depth - 1].drop = true;
        return;
    }
    struct node *n = node_new(b->a, NODE_SCALAR, at, b->file);
    n->bad = true;
    attach(b, n);
}

static void on_open(struct builder *b, const yaml_event_t *e, enum node_kind kind)
{
    bool map = kind == NODE_MAP;
    struct diag_place at = place_of(b, &e->start_mark, NULL);
    refuse_decoration(b, e, map ? e->data.mapping_start.anchor : e->data.sequence_start.anchor,
                      map ? e->data.mapping_start.tag : e->data.sequence_start.tag);
    if (expects_key(b)) {
        unsigned id = diags_add(b->d, "E024", at, "a %s cannot be a key", map ? "map" : "list");
        diags_hint(b->d, id, "put it in quotes if it is meant as text");
        b->stop = true;
        return;
    }
    if (b->depth == YAML_DEPTH_MAX) {
        diags_add(b->d, "E021", at, "nested more than %d levels deep", YAML_DEPTH_MAX);
        b->stop = true;
        return;
    }
    struct node *n = node_new(b->a, kind, at, b->file);
    attach(b, n);
    b->stack[b->depth++] = (struct frame){
        .node = n,
        .flow = map ? e->data.mapping_start.style == YAML_FLOW_MAPPING_STYLE
                    : e->data.sequence_start.style == YAML_FLOW_SEQUENCE_STYLE,
    };
}

static void on_document(struct builder *b, const yaml_event_t *e)
{
    if (e->data.document_start.version_directive ||
        e->data.document_start.tag_directives.start != e->data.document_start.tag_directives.end) {
        unsigned id = diags_add(b->d, "E015", place_of(b, &e->start_mark, NULL),
                                "a %%YAML or %%TAG line: directives are not part of this language");
        diags_hint(b->d, id, "leave it away");
    }
    if (++b->documents == 2) {
        struct diag_place at = place_of(b, &e->start_mark, &e->end_mark);
        unsigned id = diags_add(b->d, "E016", at, "a second document begins here");
        diags_hint(b->d, id, "one file is one document: use `include` for several files");
        b->stop = true;
    }
}

static void on_event(struct builder *b, const yaml_event_t *e)
{
    switch (e->type) {
    case YAML_DOCUMENT_START_EVENT:
        on_document(b, e);
        break;
    case YAML_SCALAR_EVENT:
        if (count_node(b, e))
            on_scalar(b, e);
        break;
    case YAML_ALIAS_EVENT:
        if (count_node(b, e))
            on_alias(b, e);
        break;
    case YAML_SEQUENCE_START_EVENT:
        if (count_node(b, e))
            on_open(b, e, NODE_LIST);
        break;
    case YAML_MAPPING_START_EVENT:
        if (count_node(b, e))
            on_open(b, e, NODE_MAP);
        break;
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        ASSERT(b->depth > 0);
        b->depth--;
        break;
    case YAML_STREAM_END_EVENT:
        b->stop = true;
        break;
    case YAML_NO_EVENT:
    case YAML_STREAM_START_EVENT:
    case YAML_DOCUMENT_END_EVENT:
        break;
    }
}

static bool in_flow(const struct builder *b)
{
    return b->depth && b->stack[b->depth - 1].flow;
}

static void parse(struct builder *b)
{
    yaml_parser_t p;
    ASSERT(yaml_parser_initialize(&p));
    yaml_parser_set_encoding(&p, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&p, (const unsigned char *)b->file->text.p, b->file->text.n);
    unsigned before = diags_errors(b->d);
    while (!b->stop) {
        yaml_event_t e;
        if (!yaml_parser_parse(&p, &e)) {
            ASSERT(p.error != YAML_MEMORY_ERROR);
            const char *problem = p.problem ? p.problem : "not YAML";
            struct diag_place at = place_of(b, &p.problem_mark, NULL);
            struct diag_place opened = place_of(b, &p.context_mark, NULL);
            yaml_complain(b->a, b->d, b->file, problem, at,
                          p.context ? opened : (struct diag_place){0}, in_flow(b));
            b->file->broken = true;
            if (b->last)
                b->last->bad = true;
            break;
        }
        bool end = e.type == YAML_STREAM_END_EVENT;
        on_event(b, &e);
        yaml_event_delete(&e);
        if (b->stop && !end && diags_errors(b->d) > before)
            b->file->broken = true;
    }
    yaml_parser_delete(&p);
}

struct node *yaml_load(struct arena *a, struct diags *d, struct conf_file *file)
{
    if (!yaml_scan(d, file)) {
        file->broken = true;
        return NULL;
    }
    struct builder *b = arena_znew(a, struct builder);
    b->a = a;
    b->d = d;
    b->file = file;
    parse(b);
    if (!b->root || (file->broken && b->root->kind != NODE_MAP)) {
        if (!file->broken)
            diags_add(d, "E023", (struct diag_place){.file = file->shown}, "the file is empty");
        file->broken = true;
        return NULL;
    }
    if (b->root->kind != NODE_MAP) {
        unsigned id =
            diags_add(d, "E023", b->root->at, "the file must be a map of keys at its top");
        diags_hint(d, id, "write `key: value` lines");
        file->broken = true;
        return NULL;
    }
    return b->root;
}
