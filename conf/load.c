/*
 * load.c - a whole load, step by step: files → trees → checked → combined → struct conf. Each step
 * goes on over errors, so that one run shows all of them; only a file that cannot be read to its
 * end stops it before the values are looked at, as missing keys mean nothing then.
 */
#include <openssl/sha.h>

#include "base/file.h"
#include "conf/load.h"

#define INCLUDES_MAX 1000

static struct conf_file *file_new(struct load *l, struct str shown, struct str abs)
{
    struct conf_file *f = arena_znew(l->tmp, struct conf_file);
    size_t slash = abs.n;
    while (slash && abs.p[slash - 1] != '/')
        slash--;
    f->shown = arena_str(l->a, shown);
    f->abs = arena_str(l->a, abs);
    f->dir = arena_str(l->a, str_sub(abs, 0, MAX(slash, (size_t)1)));
    return f;
}

/* `at`: who asked for it; line 0 for the main file. */
static struct node *read_file(struct load *l, struct conf_file *f, struct diag_place at)
{
    const char *err = source_read(l->src, f->abs.p, YAML_FILE_MAX, &f->text);
    if (err) {
        diags_add(l->d, "E001", at.line ? at : (struct diag_place){.file = f->shown}, "%s", err);
        l->broken = true;
        return NULL;
    }
    diags_source(l->d, f->shown, f->text);
    struct node *root = yaml_load(l->tmp, l->d, f);
    l->broken |= f->broken;
    if (root)
        check_file(l->tmp, l->d, root);
    return root;
}

/* How an included file is named in messages: beside the main file's name, as that was given. */
static struct str shown_name(struct load *l, struct str abs)
{
    struct str shown = source_file(l->src), dir = l->c->file;
    size_t cut = shown.n, slash = dir.n;
    while (slash && dir.p[slash - 1] != '/')
        slash--;
    while (cut && shown.p[cut - 1] != '/')
        cut--;
    if (!slash || !str_starts(abs, str_sub(dir, 0, slash)))
        return abs;
    return arena_fmt(l->tmp, STR_FMT STR_FMT, STR_ARG(str_sub(shown, 0, cut)),
                     STR_ARG(str_sub(abs, slash, abs.n)));
}

struct include {
    struct str abs;
    struct diag_place at;
    struct include *next;
};

static void include_one(struct load *l, struct include **seen, struct str abs,
                        const struct node *item)
{
    unsigned count = 0;
    for (const struct include *i = *seen; i; i = i->next, count++) {
        if (!str_eq(i->abs, abs))
            continue;
        unsigned id = diags_add(l->d, "E064", item->at, STR_FMT " is included already",
                                STR_ARG(shown_name(l, abs)));
        if (i->at.line)
            diags_also(l->d, id, i->at, "first here");
        return;
    }
    if (count >= INCLUDES_MAX) {
        diags_add(l->d, "E022", item->at, "more than %d files", INCLUDES_MAX);
        return;
    }
    struct include *i = arena_znew(l->tmp, struct include);
    *i = (struct include){.abs = abs, .at = item->at, .next = *seen};
    *seen = i;
    struct node *root = read_file(l, file_new(l, shown_name(l, abs), abs), item->at);
    if (!root)
        return;
    struct member *inner = node_member(root, STR("include"));
    if (inner) {
        unsigned id = diags_add(l->d, "E064", inner->at, "an included file cannot include others");
        diags_hint(l->d, id, "name all files in the main file");
    }
    merge_file(l->tmp, l->d, l->root, root);
}

static void include_all(struct load *l)
{
    struct str *patterns;
    const struct node **items;
    struct include main = {.abs = l->c->file}, *seen = &main;
    unsigned n = get_list(l, NULL, l->root, G_ROOT, "include", &patterns, &items);
    for (unsigned i = 0; i < n; i++) {
        struct str path = resolve_path(l, items[i], patterns[i]);
        if (strcspn(path.p, "*?[") == path.n) {
            include_one(l, &seen, path, items[i]);
            continue;
        }
        struct str found = source_glob(l->src, path.p);
        if (!found.n) {
            unsigned id = diags_add(l->d, "W004", items[i]->at, "no file fits `" STR_FMT "`",
                                    STR_ARG(patterns[i]));
            diags_hint(l->d, id, "nothing is included here");
        }
        while (found.n) {
            struct str one = str_of(found.p);
            include_one(l, &seen, one, items[i]);
            found = str_sub(found, one.n + 1, found.n);
        }
    }
}

static void set_digest(struct load *l)
{
    uint8_t sum[SHA256_DIGEST_LENGTH];
    char hex[2 * sizeof(sum)];
    struct str bundle = conf_bundle(l->tmp, l->src);
    struct out o = out_on(hex, sizeof(hex));
    SHA256((const uint8_t *)bundle.p, bundle.n, sum);
    for (size_t i = 0; i < sizeof(sum); i++)
        out_hex(&o, sum[i], 2);
    l->c->digest = arena_str(l->a, out_done(&o));
}

static void load_all(struct load *l)
{
    l->root = read_file(l, file_new(l, source_file(l->src), l->c->file), (struct diag_place){0});
    if (!l->root)
        return;
    if (!l->broken)
        include_all(l);
    if (l->broken)
        return;
    merge_defaults(l->tmp, l->d, l->root);
    load_global(l);
    load_sites(l);
    load_streams(l);
    check_hosts(l);
}

struct conf *conf_load(struct conf_source *s, unsigned flags, struct diags *diags)
{
    struct arena *a = arena_new(32768);
    struct load l = {.a = a, .tmp = arena_new(65536), .src = s, .d = diags, .flags = flags};
    l.c = arena_znew(a, struct conf);
    l.c->arena = a;
    l.c->refs = 1;
    l.c->uid = (uid_t)-1;
    l.c->gid = (gid_t)-1;
    l.c->file = arena_str(a, source_file_abs(s));
    load_all(&l);
    if (!diags_errors(diags))
        set_digest(&l);
    arena_free(&l.tmp);
    if (!diags_errors(diags))
        return l.c;
    arena_free(&a);
    return NULL;
}

struct conf *conf_ref(struct conf *c)
{
    c->refs++;
    return c;
}

void conf_unref(struct conf **c)
{
    struct conf *old = *c;
    *c = NULL;
    if (!old)
        return;
    ASSERT(old->refs > 0);
    if (--old->refs)
        return;
    struct arena *a = old->arena;
    arena_free(&a);
}

const struct conf_service *conf_service_find(const struct conf *c, struct str name)
{
    for (unsigned i = 0; i < c->n_services; i++)
        if (str_eq(c->services[i].name, name))
            return &c->services[i];
    return NULL;
}

const struct conf_stream *conf_stream_find(const struct conf *c, struct str address)
{
    for (unsigned i = 0; i < c->n_streams; i++)
        if (str_eq(c->streams[i].address, address))
            return &c->streams[i];
    return NULL;
}

bool conf_listens(const struct conf *c, enum conf_listen_kind kind)
{
    for (unsigned i = 0; i < c->n_listens; i++)
        if (c->listens[i].kind == kind)
            return true;
    return false;
}

bool conf_ends_tls(const struct conf *c)
{
    if (conf_listens(c, CONF_LISTEN_HTTPS))
        return true;
    for (unsigned i = 0; i < c->n_streams; i++)
        if (c->streams[i].tls)
            return true;
    return false;
}

bool conf_service_alone(const struct conf_service *s)
{
    return s->n_argv && (s->exclusive || s->fixed.len);
}

uint64_t conf_service_drain(const struct conf_service *s)
{
    uint64_t half = MAX(s->wait_ready / 2, 1u);
    if (!conf_service_alone(s))
        return s->drain;
    return s->drain ? MIN(s->drain, half) : half;
}
