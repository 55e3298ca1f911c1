/*
 * load_answer.c - what the configuration adds to answers, whoever gives them: header fields, robots
 * and HSTS as one list of fields to set or remove, error pages, compression.
 */
#include "conf/load.h"

#define ERROR_PAGE_MAX  (256 * 1024)
#define FIELD_VALUE_MAX 8192
#define FIELDS_MAX      (16 * 1024) /* bytes of all that is set in one direction */

/* ---- lists of fields ---- */

/* Over what is there of that name. */
static void put(struct load *l, struct conf_fields *f, struct conf_field field)
{
    for (unsigned i = 0; i < f->n; i++) {
        if (!str_eq(f->v[i].name, field.name))
            continue;
        f->v[i] = field;
        return;
    }
    struct conf_field *v = arena_zarray(l->a, struct conf_field, f->n + 1);
    if (f->n)
        memcpy(v, f->v, f->n * sizeof(*v));
    v[f->n] = field;
    f->v = v;
    f->n++;
}

static void drop(struct conf_fields *f, struct str name)
{
    for (unsigned i = 0; i < f->n; i++)
        if (str_eq(f->v[i].name, name))
            f->v[i--] = f->v[--f->n];
}

static struct conf_fields copy(struct load *l, const struct conf_fields *from)
{
    struct conf_fields f = {.v = arena_zarray(l->a, struct conf_field, from->n + 1), .n = from->n};
    if (f.n)
        memcpy(f.v, from->v, f.n * sizeof(*f.v));
    return f;
}

/* ---- headers ---- */

/* How a message ends and what holds for one connection only is headgate's own business. */
static const char *decided_here(struct str name, bool to_backend)
{
    static const char *const hop[] = {
        "connection", "content-length", "keep-alive",        "proxy-connection",
        "te",         "trailer",        "transfer-encoding", "upgrade"};
    for (size_t i = 0; i < ARRAY_LEN(hop); i++)
        if (str_eq(name, str_of(hop[i])))
            return "it belongs to one connection and its framing: headgate writes it by itself";
    if (to_backend && str_eq(name, STR("host")))
        return "the service's `host_header` says what is sent as Host";
    if (to_backend && str_eq(name, STR("expect")))
        return "headgate answers it by itself";
    return NULL;
}

static bool field_name(struct load *l, struct str text, bool to_backend, struct diag_place at,
                       struct str *name)
{
    struct value_error e;
    if (!value_name(text, N_HEADER, &e)) {
        unsigned id = diags_add(l->d, e.code, at, "%s", e.what);
        if (e.hint[0])
            diags_hint(l->d, id, "%s", e.hint);
        return false;
    }
    struct out o = out_on(arena_alloc(l->a, text.n), text.n);
    for (size_t i = 0; i < text.n; i++)
        out_char(&o, ascii_lower(text.p[i]));
    *name = out_done(&o);
    const char *why = decided_here(*name, to_backend);
    if (!why)
        return true;
    unsigned id = diags_add(l->d, "E071", at, "the field `" STR_FMT "` cannot be set or removed",
                            STR_ARG(text));
    diags_hint(l->d, id, "%s", why);
    return false;
}

/* RFC 9110 5.5: no control bytes but tabs; the spaces around it are none of the value. */
static bool field_value(struct load *l, struct str *value, struct diag_place at)
{
    *value = str_trim(*value);
    for (size_t i = 0; i < value->n; i++) {
        unsigned char c = (unsigned char)value->p[i];
        if (c == '\t' || (c >= ' ' && c != 0x7f))
            continue;
        unsigned id = diags_add(l->d, "E071", at, "a control character in the value of a field");
        diags_hint(l->d, id,
                   c == '\n' || c == '\r' ? "a field is one line" : "byte %u of it is 0x%02x",
                   (unsigned)i + 1, c);
        return false;
    }
    if (value->n <= FIELD_VALUE_MAX)
        return true;
    diags_add(l->d, "E071", at, "the value of a field is longer than %d bytes", FIELD_VALUE_MAX);
    return false;
}

static bool set_before(struct load *l, const struct node *set, unsigned i)
{
    for (unsigned k = 0; k < i; k++) {
        if (!str_ieq(set->v[k].key, set->v[i].key))
            continue;
        unsigned id = diags_add(l->d, "E068", set->v[i].at, "`" STR_FMT "` is set twice",
                                STR_ARG(set->v[i].key));
        diags_hint(l->d, id, "the names of fields are the same in upper and lower case");
        diags_also(l->d, id, set->v[k].at, "first here");
        return true;
    }
    return false;
}

static void load_set(struct load *l, const struct scope *sc, const struct node *set,
                     bool to_backend, struct conf_fields *out)
{
    for (unsigned i = 0; set && set->kind == NODE_MAP && i < set->n; i++) {
        const struct member *m = &set->v[i];
        struct conf_field f = {0};
        if (m->value->bad || m->value->kind != NODE_SCALAR || set_before(l, set, i) ||
            !field_name(l, m->key, to_backend, m->at, &f.name) ||
            !load_expand(l, sc, m->value, &f.value) || !field_value(l, &f.value, m->value->at))
            continue;
        /* Over plain HTTP it must not be sent (RFC 6797 7.2). */
        f.https_only = !to_backend && str_eq(f.name, STR("strict-transport-security"));
        put(l, out, f);
    }
}

static void load_remove(struct load *l, const struct scope *sc, const struct node *map,
                        enum schema_group g, struct conf_fields *out)
{
    struct str *names;
    const struct node **items, *set = node_get(map, "set");
    unsigned n = get_list(l, sc, map, g, "remove", &names, &items);
    for (unsigned i = 0; i < n; i++) {
        struct conf_field f = {.remove = true};
        if (!field_name(l, names[i], g == G_TO_BACKEND, items[i]->at, &f.name))
            continue;
        for (unsigned k = 0; set && set->kind == NODE_MAP && k < set->n; k++) {
            if (!str_ieq(set->v[k].key, f.name))
                continue;
            unsigned id = diags_add(l->d, "E068", items[i]->at, "`" STR_FMT "` is set and removed",
                                    STR_ARG(names[i]));
            diags_hint(l->d, id, "to set it replaces all of that name");
            diags_also(l->d, id, set->v[k].at, "set here");
        }
        put(l, out, f);
    }
}

static void check_sum(struct load *l, const struct node *map, const struct conf_fields *f)
{
    size_t sum = 0;
    for (unsigned i = 0; i < f->n; i++)
        sum += f->v[i].name.n + f->v[i].value.n;
    if (sum > FIELDS_MAX)
        diags_add(l->d, "E071", map->at, "the fields are longer than %d bytes together",
                  FIELDS_MAX);
}

static void load_headers(struct load *l, const struct scope *sc, const struct node *map,
                         struct conf_fields *answer, struct conf_fields *to_backend)
{
    if (!map || map->kind != NODE_MAP)
        return;
    const struct node *back = node_get(map, "to_backend");
    load_set(l, sc, node_get(map, "set"), false, answer);
    load_remove(l, sc, map, G_HEADERS, answer);
    check_sum(l, map, answer);
    if (!back || back->kind != NODE_MAP)
        return;
    load_set(l, sc, node_get(back, "set"), true, to_backend);
    load_remove(l, sc, back, G_TO_BACKEND, to_backend);
    check_sum(l, back, to_backend);
}

/* ---- robots ---- */

/* auto: search engines see what is released as stable, and what has no releases. */
static bool is_prerelease(struct load *l, const struct scope *sc, const struct node *site,
                          bool is_channel)
{
    const struct node *releases = node_get(site, "releases");
    if (!releases || releases->kind != NODE_MAP)
        return false;
    if (!is_channel && !is_written(releases, "channel"))
        return false; /* a site's releases come from stable */
    return !str_eq(get_text(l, sc, releases, G_RELEASES, "channel"), STR("stable"));
}

static void load_robots(struct load *l, const struct node *map, struct str robots, bool prerelease,
                        struct conf_fields *answer)
{
    static const struct str name = {"x-robots-tag", 12};
    if (!is_written(map, "robots"))
        robots = STR("auto");
    else if (value_is_off(robots)) /* robots: off says the same as index */
        robots = STR("index");
    if (str_eq(robots, STR("noindex")) || (str_eq(robots, STR("auto")) && prerelease))
        put(l, answer, (struct conf_field){.name = name, .value = STR("noindex")});
    else
        drop(answer, name);
}

/* ---- HSTS ---- */

static void put_hsts(struct load *l, const struct conf_hsts *h, struct conf_fields *answer)
{
    if (!h->on)
        return;
    struct conf_field f = {.name = STR("strict-transport-security"), .https_only = true};
    f.value = arena_fmt(l->a, "max-age=%llu%s%s", (unsigned long long)(h->max_age / 1000),
                        h->subdomains ? "; includeSubDomains" : "", h->preload ? "; preload" : "");
    put(l, answer, f);
}

/* ---- error pages ---- */

static const struct {
    const char *ending, *type;
} page_types[] = {{".html", "text/html; charset=utf-8"},
                  {".htm", "text/html; charset=utf-8"},
                  {".txt", "text/plain; charset=utf-8"},
                  {".json", "application/json"}};

static bool page_type(struct load *l, const struct node *n, struct str path,
                      struct conf_error_page *page)
{
    for (size_t i = 0; i < ARRAY_LEN(page_types); i++) {
        if (!str_iends(path, str_of(page_types[i].ending)))
            continue;
        page->type = str_of(page_types[i].type);
        page->html = i < 2;
        return true;
    }
    unsigned id = diags_add(l->d, "E037", n->at, "`" STR_FMT "` is no page", STR_ARG(path));
    diags_hint(l->d, id, "a file that ends in .html, .txt or .json");
    return false;
}

static void load_errors(struct load *l, const struct scope *sc, const struct node *map,
                        struct conf_site *site)
{
    if (!map || map->kind != NODE_MAP)
        return;
    site->error_pages = arena_zarray(l->a, struct conf_error_page, map->n + 1);
    for (unsigned i = 0; i < map->n; i++) {
        const struct member *m = &map->v[i];
        struct conf_error_page *page = &site->error_pages[site->n_error_pages];
        struct str path, text;
        uint64_t status;
        if (m->value->bad || m->value->kind != NODE_SCALAR || node_is_off(m->value) ||
            !load_expand(l, sc, m->value, &path))
            continue;
        path = resolve_path(l, m->value, path);
        if (!page_type(l, m->value, path, page) || load_offline(l))
            continue;
        const char *err = source_read(l->src, arena_strz(l->tmp, path), ERROR_PAGE_MAX, &text);
        if (err) {
            diags_add(l->d, "E042", m->value->at, "%s", err);
            continue;
        }
        if (str_u64(m->key, &status))
            page->from = page->to = (unsigned)status;
        else if (m->key.n) {
            page->from = (unsigned)(m->key.p[0] - '0') * 100;
            page->to = page->from + 99;
        }
        page->body = arena_str(l->a, text);
        site->n_error_pages++;
    }
}

/* ---- compression ---- */

static void load_compress(struct load *l, const struct scope *sc, const struct node *map,
                          struct conf_site *site)
{
    static const struct {
        const char *name;
        enum conf_coding coding;
    } codings[] = {{"br", CONF_BR}, {"zstd", CONF_ZSTD}, {"gzip", CONF_GZIP}};
    struct str *names;
    unsigned n;
    if (!is_written(map, "compress")) {
        for (size_t i = 0; i < ARRAY_LEN(codings); i++)
            site->compress[site->n_compress++] = codings[i].coding;
        return;
    }
    n = get_list(l, sc, map, G_SITE, "compress", &names, NULL);
    for (unsigned i = 0; i < n; i++) {
        bool seen = false;
        for (size_t k = 0; k < ARRAY_LEN(codings); k++) {
            if (!str_eq(names[i], str_of(codings[k].name)))
                continue;
            for (unsigned j = 0; j < site->n_compress; j++)
                seen |= site->compress[j] == codings[k].coding;
            if (!seen)
                site->compress[site->n_compress++] = codings[k].coding;
        }
    }
}

/* ---- a site, a route ---- */

void load_site_answer(struct load *l, const struct scope *sc, const struct node *map,
                      struct conf_site *site)
{
    const struct node *files = node_get(map, "static");
    load_robots(l, map, get_text(l, sc, map, G_SITE, "robots"),
                is_prerelease(l, sc, map, site->is_channel), &site->answer_fields);
    put_hsts(l, &site->tls.hsts, &site->answer_fields);
    load_headers(l, sc, node_get(map, "headers"), &site->answer_fields, &site->backend_fields);
    load_errors(l, sc, node_get(map, "errors"), site);
    load_compress(l, sc, map, site);
    site->dotfiles = is_written(files, "dotfiles") &&
                     str_eq(get_text(l, sc, files, G_STATIC, "dotfiles"), STR("allow"));
    site->prerelease = is_prerelease(l, sc, map, site->is_channel);
}

void load_route_answer(struct load *l, const struct scope *sc, const struct node *map,
                       const struct conf_site *site, struct conf_route *r)
{
    r->answer_fields = copy(l, &site->answer_fields);
    r->backend_fields = copy(l, &site->backend_fields);
    if (is_written(map, "robots"))
        load_robots(l, map, get_text(l, sc, map, G_ROUTE, "robots"), site->prerelease,
                    &r->answer_fields);
    load_headers(l, sc, node_get(map, "headers"), &r->answer_fields, &r->backend_fields);
}
