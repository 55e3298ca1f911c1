/*
 * tree.h - a YAML file as a tree in which every key and value knows its place. The tree is scratch
 * memory of one load: what lasts is copied into struct conf.
 */
#ifndef HG_CONF_TREE_H
#define HG_CONF_TREE_H

#include "base/arena.h"
#include "conf/diag.h"

#define YAML_FILE_MAX  (1024 * 1024) /* bytes of one file */
#define YAML_DEPTH_MAX 24            /* CONFIG.md needs 7 */
#define YAML_NODES_MAX 20000         /* keys are compared with each other: bounds the time, too */

struct conf_file {
    struct str shown; /* as messages name it */
    struct str abs;
    struct str dir; /* absolute: relative paths in the file start here */
    struct str text;
    bool broken; /* could not be read to its end: missing keys mean nothing */
};

enum node_kind { NODE_SCALAR = 1, NODE_MAP, NODE_LIST };

struct node {
    enum node_kind kind;
    struct diag_place at;
    const struct conf_file *file;
    struct str text; /* scalars: as written, placeholders inside */
    bool quoted;     /* "off" in quotes is a string and removes nothing */
    bool stray;      /* maps: holds an unknown key, which may be the one that seems to be missing */
    bool bad;        /* reported already: quietly take the default */
    struct member *v; /* map members, list items (without keys) */
    unsigned n, cap;
};

struct member {
    struct str key;
    struct diag_place at; /* of the key */
    struct node *value;
};

/*
 * The tree of file->text, in `a`; NULL when there is nothing to look at. Errors go to `d`; after
 * one that ends the parsing, file->broken is set and the tree holds what came before.
 */
struct node *yaml_load(struct arena *a, struct diags *d, struct conf_file *file);
/* Bytes first: NUL, UTF-8, tabs. False when libyaml need not look. */
bool yaml_scan(struct diags *d, struct conf_file *file);
/*
 * Words for libyaml's complaint about `at`; `opened`: where the thing it was reading began, line 0
 * when it does not say. In a flow map or list when `flow`.
 */
void yaml_complain(struct arena *a, struct diags *d, const struct conf_file *file,
                   const char *problem, struct diag_place at, struct diag_place opened, bool flow);

struct node *node_new(struct arena *a, enum node_kind kind, struct diag_place at,
                      const struct conf_file *file);
void node_add(struct arena *a, struct node *to, struct str key, struct diag_place key_at,
              struct node *value);
struct member *node_member(const struct node *map, struct str key); /* NULL: none, or no map */
struct node *node_get(const struct node *map, const char *key);
bool node_is_off(const struct node *n);   /* off, no, false without quotes */
bool node_is_empty(const struct node *n); /* `key:` and nothing behind it */

/* The nth line of text (from 1), without its end. */
struct str text_line(struct str text, unsigned line);

#endif
