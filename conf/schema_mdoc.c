/*
 * schema_mdoc.c - the key reference of headgate.yaml(5), in mdoc, from the schema table.
 */
#include "conf/conf.h"
#include "conf/mdoc.h"
#include "conf/schema.h"

/* mdoc macros end their arguments at spaces and take words such as Ar as macros: one quoted word.
 */
static void write_word(FILE *f, const char *text)
{
    fputc('"', f);
    for (const char *p = text; *p; p++)
        if (*p == '"')
            fputs("\"\"", f);
        else if (*p == '\\')
            fputs("\\e", f);
        else
            fputc(*p, f);
    fputc('"', f);
}

static void write_values(FILE *f, const struct schema_key *k)
{
    struct str rest = str_of(k->values), piece;
    fputs("One of", f);
    while (rest.n && str_split(&rest, '|', &piece))
        fprintf(f, " " STR_FMT "%s", STR_ARG(piece), rest.n ? "," : ".\n");
}

static void write_type(FILE *f, const struct schema_key *k)
{
    if (k->type == T_MAP && k->shape == ONE)
        return;
    if (k->type == T_ENUM) {
        write_values(f, k);
        return;
    }
    static const char *const shapes[] = {[ONE] = "Takes ",
                                         [LIST] = "A list; each is ",
                                         [ONE_OR_LIST] = "One, or a list; each is ",
                                         [NAMED] = "By name; each is "};
    fputs(shapes[k->shape], f);
    mdoc_text(f, schema_type_words(k));
    if (k->flags & S_OFF)
        fputs(", or off", f);
    if (k->flags & S_AUTO)
        fputs(", or auto", f);
    fputs(".\n", f);
}

static void write_key(FILE *f, const struct schema_key *k)
{
    fputs(".It Ic ", f);
    write_word(f, k->name);
    fputc('\n', f);
    mdoc_text(f, k->doc);
    fputc('\n', f);
    write_type(f, k);
    if (k->def) {
        fputs("Default:\n.Ql ", f);
        write_word(f, k->def);
        fputs(" .\n", f);
    }
    if (k->flags & S_LATER)
        fputs("Not available in this version.\n", f);
    if (k->later) {
        struct str rest = str_of(k->later), piece;
        fputs("Not available in this version:", f);
        while (rest.n && str_split(&rest, '|', &piece))
            fprintf(f, " " STR_FMT "%s", STR_ARG(piece), rest.n ? "," : ".\n");
    }
}

static const char *group_words(enum schema_group g)
{
    switch (g) {
    case G_ROOT:
        return "Top level";
    case G_SITE:
        return "Channels and sites";
    case G_SERVICE:
        return "Services";
    case G_ROUTE:
        return "Routes";
    case G_CERT:
        return "tls.certificates";
    case G_USER:
        return "users";
    case G_STREAM:
        return "streams";
    case G_SITE_LIMITS:
        return "limits of a channel or site";
    case G_SITE_TIMEOUTS:
        return "timeouts of a channel or site";
    case G_ROUTE_LIMITS:
        return "limits of a route";
    case G_ROUTE_TIMEOUTS:
        return "timeouts of a route";
    default:
        return schema_group_title(g);
    }
}

int conf_print_keys_mdoc(FILE *f)
{
    for (unsigned g = G_ROOT; g < G_COUNT; g++) {
        fprintf(f, ".Ss %s\n", group_words((enum schema_group)g));
        const char *main_key = schema_main_key((enum schema_group)g);
        if (main_key)
            fprintf(f, "Where this map is expected, a single value sets\n.Ic \"%s\" .\n", main_key);
        fputs(".Bl -tag -width Ds\n", f);
        for (unsigned i = 0; i < schema_n_keys; i++)
            if (schema_keys[i].in == g)
                write_key(f, &schema_keys[i]);
        fputs(".El\n", f);
    }
    return ferror(f) ? 1 : 0;
}
