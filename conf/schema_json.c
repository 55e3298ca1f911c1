/*
 * schema_json.c - the schema table as JSON Schema 2020-12 (`headgate schema`), for editors: each
 * group is one of $defs. Keys that are not available yet are left out.
 */
#include <jansson.h>

#include "conf/conf.h"
#include "conf/schema.h"

static json_t *typed(const char *type)
{
    return json_pack("{s:s}", "type", type);
}

static json_t *patterned(const char *pattern)
{
    return json_pack("{s:[s,s],s:s}", "type", "string", "integer", "pattern", pattern);
}

/* Units are compulsory: of bare numbers only 0. */
static json_t *with_unit(const char *pattern)
{
    return json_pack("{s:[{s:i},{s:s,s:s}]}", "anyOf", "const", 0, "type", "string", "pattern",
                     pattern);
}

static json_t *words(const char *list)
{
    json_t *v = json_array();
    struct str rest = str_of(list), piece;
    while (rest.n && str_split(&rest, '|', &piece))
        json_array_append_new(v, json_stringn(piece.p, piece.n));
    return json_pack("{s:o}", "enum", v);
}

/* min_version: 1.2 without quotes is a number to other parsers. */
static json_t *enumeration(const struct schema_key *k)
{
    json_t *j = words(k->values);
    if (k->values[0] >= '0' && k->values[0] <= '9') {
        json_t *v = json_object_get(j, "enum");
        json_array_append_new(v, json_real(1.2));
        json_array_append_new(v, json_real(1.3));
    }
    return j;
}

static json_t *anything_scalar(void)
{
    return json_pack("{s:[s,s,s]}", "type", "string", "number", "boolean");
}

/* Maps of the same name take other keys further down. */
static const char *level_of(enum schema_group g)
{
    if (g == G_SITE_LIMITS || g == G_SITE_TIMEOUTS)
        return ".site";
    return g == G_ROUTE_LIMITS || g == G_ROUTE_TIMEOUTS ? ".route" : "";
}

static json_t *one(const struct schema_key *k)
{
    char ref[64];
    switch (k->type) {
    case T_MAP: {
        struct out o = out_on(ref, sizeof(ref) - 1);
        out_fmt(&o, "#/$defs/%s%s", schema_group_title(k->map), level_of(k->map));
        ref[o.n] = 0;
        json_t *j = json_pack("{s:s}", "$ref", ref);
        if (!schema_main_key(k->map))
            return j;
        /* A string sets the main key. */
        return json_pack("{s:[o,o]}", "anyOf", j,
                         json_pack("{s:[s,s,s]}", "type", "string", "number", "array"));
    }
    case T_BOOL:
        return json_pack("{s:[b,b,s,s,s,s]}", "enum", 1, 0, "on", "off", "yes", "no");
    case T_COUNT:
    case T_STATUS:
    case T_PORT:
        return patterned("^[0-9]+$");
    case T_SIZE:
        return with_unit("^(0|[0-9]+ ?(B|KiB|MiB|GiB|TiB)|\\$.+)$");
    case T_DURATION:
        return with_unit("^(0|[0-9]+ ?(ms|s|m|h|d)|\\$.+)$");
    case T_BYTE_RATE:
        return with_unit("^(0|[0-9]+ ?(B|KiB|MiB)/s)$");
    case T_RATE:
        return patterned("^[0-9]+/[smh]$");
    case T_ENUM:
        return enumeration(k);
    case T_STRING:
        return anything_scalar();
    case T_MODE:
        return patterned("^[0-7]{3,4}$");
    case T_UIDS:
        return patterned("^[0-9]+-[0-9]+$");
    default: /* paths, addresses, names, networks */
        return typed("string");
    }
}

static json_t *or_word(json_t *j, const char *word)
{
    json_t *also = strcmp(word, "off") == 0 ? json_pack("{s:[s,b]}", "enum", word, 0)
                                            : json_pack("{s:s}", "const", word);
    return json_pack("{s:[o,o]}", "anyOf", j, also);
}

static const char *name_pattern(enum schema_names names)
{
    switch (names) {
    case N_NAME:
        return "^[a-z0-9][a-z0-9_-]{0,62}$";
    case N_ROUTE:
        return "^/";
    case N_ENV:
        return "^[A-Za-z_][A-Za-z0-9_]*$";
    case N_STATUS:
        return "^([45][0-9][0-9]|[45]xx)$";
    case N_HEADER:
    case N_NONE:
    case N_ANY:
        break;
    }
    return "^.+$";
}

static json_t *value_of(const struct schema_key *k)
{
    json_t *j = one(k);
    switch (k->shape) {
    case ONE:
        break;
    case LIST:
        j = json_pack("{s:s,s:o}", "type", "array", "items", j);
        break;
    case ONE_OR_LIST:
        j = json_pack("{s:[o,{s:s,s:o}]}", "anyOf", json_deep_copy(j), "type", "array", "items", j);
        break;
    case NAMED:
        j = json_pack("{s:s,s:o,s:b}", "type", "object", "patternProperties",
                      json_pack("{s:o}", name_pattern(k->names), or_word(j, "off")),
                      "additionalProperties", 0);
        break;
    }
    bool in_site = k->in == G_SITE || k->in == G_SERVICE;
    if ((k->flags & S_OFF) || (in_site && (k->type == T_MAP || k->shape != ONE)))
        j = or_word(j, "off");
    if (k->flags & S_AUTO)
        j = or_word(j, "auto");
    if (k->shape != ONE || k->type == T_MAP)
        j = json_pack("{s:[o,{s:s}]}", "anyOf", j, "type",
                      "null"); /* `key:` with nothing behind it */
    json_object_set_new(j, "description", json_string(k->doc));
    if (k->def)
        json_object_set_new(j, "default", json_string(k->def));
    return j;
}

static json_t *group(enum schema_group g)
{
    json_t *properties = json_object();
    for (unsigned i = 0; i < schema_n_keys; i++)
        if (schema_keys[i].in == g && !(schema_keys[i].flags & S_LATER))
            json_object_set_new(properties, schema_keys[i].name, value_of(&schema_keys[i]));
    return json_pack("{s:s,s:o,s:b}", "type", "object", "properties", properties,
                     "additionalProperties", 0);
}

int conf_print_schema(FILE *f)
{
    json_t *defs = json_object();
    char name[64];
    for (unsigned g = G_ROOT + 1; g < G_COUNT; g++) {
        struct out o = out_on(name, sizeof(name) - 1);
        out_fmt(&o, "%s%s", schema_group_title((enum schema_group)g),
                level_of((enum schema_group)g));
        name[o.n] = 0;
        json_object_set_new(defs, name, group((enum schema_group)g));
    }
    json_t *root = group(G_ROOT);
    json_object_set_new(root, "$schema",
                        json_string("https://json-schema.org/draft/2020-12/schema"));
    json_object_set_new(root, "title", json_string("headgate.yaml"));
    json_object_set_new(root, "$defs", defs);
    int err = json_dumpf(root, f, JSON_INDENT(2) | JSON_SORT_KEYS);
    fputc('\n', f);
    json_decref(root);
    return err || ferror(f) ? 1 : 0;
}
