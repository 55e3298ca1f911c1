/*
 * cli_help.c - what the command line says about itself, from the table: the list of verbs, a verb
 * in full, and all of it as JSON.
 */
#include "proxy/cli_table.h"

#include "base/json.h"
#include "proxy/admin.h"

#define WIDTH 80

/* A line that is broken between pieces, where it would be wider than WIDTH. */
struct wrap {
    FILE *f;
    size_t col, indent;
};

static void piece(struct wrap *w, struct str text)
{
    if (w->col + 1 + text.n > WIDTH && w->col > w->indent) {
        fprintf(w->f, "\n%*s", (int)w->indent, "");
        w->col = w->indent;
    } else if (w->col > w->indent) {
        fputc(' ', w->f);
        w->col++;
    }
    fwrite(text.p, 1, text.n, w->f);
    w->col += text.n;
}

static void paragraphs(FILE *f, const char *text)
{
    struct str rest = str_of(text), line, word;
    while (str_split(&rest, '\n', &line)) {
        struct wrap w = {.f = f};
        while (str_split(&line, ' ', &word))
            piece(&w, word);
        fputc('\n', f);
    }
}

/* "-n N", "--format text|short|json": the shortest way to write it. */
static struct str option_text(struct arena *a, const struct cli_option *o, bool both)
{
    const char *value = o->value ? o->value : "", *gap = o->value ? " " : "";
    if (o->letter && both)
        return arena_fmt(a, "-%c, --%s%s%s", o->letter, o->name, gap, value);
    if (o->letter)
        return arena_fmt(a, "-%c%s%s", o->letter, gap, value);
    return arena_fmt(a, "--%s%s%s", o->name, gap, value);
}

static void usage_line(struct cli *c, const struct cli_verb *v)
{
    struct str head = arena_fmt(c->arena, "usage: headgate %s", v->name);
    struct wrap w = {.f = stdout, .indent = head.n + 1};
    fwrite(head.p, 1, head.n, stdout);
    fputc(' ', stdout);
    w.col = w.indent;
    struct str words = cli_words_text(c->arena, v);
    if (words.n)
        piece(&w, v->word_optional || v->actions
                      ? arena_fmt(c->arena, "[" STR_FMT "]", STR_ARG(words))
                      : words);
    for (unsigned i = 0; i < CLI_N_OPTIONS; i++) {
        if (!cli_options[i].help || i == CLI_OPT_HELP || !cli_verb_takes(v, (enum cli_option_id)i))
            continue;
        struct str text = option_text(c->arena, &cli_options[i], false);
        piece(&w, arena_fmt(c->arena, "[" STR_FMT "]", STR_ARG(text)));
    }
    fputc('\n', stdout);
}

static void option_list(struct cli *c, const struct cli_verb *v)
{
    struct str texts[CLI_N_OPTIONS];
    size_t width = 0;
    for (unsigned i = 0; i < CLI_N_OPTIONS; i++) {
        bool shown = cli_options[i].help && cli_verb_takes(v, (enum cli_option_id)i);
        texts[i] = shown ? option_text(c->arena, &cli_options[i], true) : STR_NULL;
        width = MAX(width, texts[i].n);
    }
    for (unsigned i = 0; i < CLI_N_OPTIONS; i++)
        if (texts[i].n)
            printf("  %-*s  %s\n", (int)width, texts[i].p, cli_options[i].help);
}

static void action_list(struct cli *c, const struct cli_verb *v)
{
    struct str text;
    size_t width = 0;
    for (const struct cli_action *x = v->actions; x && x->name; x++)
        width = MAX(width, strlen(x->name) + (x->word_name ? 1 + strlen(x->word_name) : 0));
    for (const struct cli_action *x = v->actions; x && x->name; x++) {
        text = x->word_name ? arena_fmt(c->arena, "%s %s", x->name, x->word_name) : str_of(x->name);
        printf("  %-*s  %s\n", (int)width, text.p, x->help);
    }
    if (width)
        fputc('\n', stdout);
}

void cli_print_verb(struct cli *c, const struct cli_verb *v)
{
    usage_line(c, v);
    printf("\n%s: %s\n", v->name, v->summary);
    if (v->text) {
        fputc('\n', stdout);
        paragraphs(stdout, v->text);
    }
    fputc('\n', stdout);
    action_list(c, v);
    option_list(c, v);
    fputs("\nMore: headgate(8), headgate.yaml(5).\n", stdout);
}

void cli_print_verbs(FILE *f)
{
    fputs("usage: headgate VERB [OPTION]...\n\n", f);
    size_t width = 0;
    for (unsigned i = 0; i < cli_n_verbs; i++)
        width = MAX(width, strlen(cli_verbs[i].name));
    for (unsigned i = 0; i < cli_n_verbs; i++)
        fprintf(f, "  %-*s  %s\n", (int)width, cli_verbs[i].name, cli_verbs[i].summary);
    fputs("\n`headgate VERB --help` has its options; most take [--config FILE] [--socket PATH]\n"
          "[--json]. FILE is /etc/headgate/headgate.yaml by default, for a user without root\n"
          "~/.config/headgate/headgate.yaml. Exit status: 0 fine, 1 failed, 2 usage,\n"
          "3 no server at the socket, 4 the server refused. More: headgate(8), headgate.yaml(5).\n",
          f);
}

/* ---- for programs ---- */

static json_t *option_json(const struct cli_option *o)
{
    json_t *j = json_pack("{s:s, s:s}", "name", o->name, "help", o->help);
    if (o->letter)
        json_object_set_new(j, "letter", json_stringn(&o->letter, 1));
    if (o->value)
        json_object_set_new(j, "value", json_string(o->value));
    for (unsigned i = 0; o->choices && o->choices[i]; i++) {
        if (i == 0)
            json_object_set_new(j, "choices", json_array());
        json_array_append_new(json_object_get(j, "choices"), json_string(o->choices[i]));
    }
    return j;
}

static json_t *actions_json(const struct cli_verb *v)
{
    json_t *all = json_array();
    for (const struct cli_action *x = v->actions; x->name; x++) {
        json_t *j = json_pack("{s:s, s:s}", "name", x->name, "help", x->help);
        if (x->word_name)
            json_object_set_new(j, "word", json_string(x->word_name));
        json_array_append_new(all, j);
    }
    return all;
}

static json_t *verb_json(struct cli *c, const struct cli_verb *v)
{
    struct str words = cli_words_text(c->arena, v);
    json_t *j = json_pack("{s:s, s:s}", "name", v->name, "summary", v->summary);
    json_t *options = json_array();
    if (words.n)
        json_object_set_new(j, "word",
                            json_pack("{s:o, s:b}", "name", json_text(words), "optional",
                                      v->word_optional || v->actions));
    if (v->actions)
        json_object_set_new(j, "actions", actions_json(v));
    for (unsigned i = 0; i < CLI_N_OPTIONS; i++)
        if (cli_options[i].help && cli_verb_takes(v, (enum cli_option_id)i))
            json_array_append_new(options, option_json(&cli_options[i]));
    json_object_set_new(j, "options", options);
    return j;
}

int cli_verb_help(struct cli *c)
{
    const struct cli_verb *v = c->word ? cli_verb_find(c->word) : NULL;
    if (c->word && !v)
        return cli_usage_error("%s", cli_no_such_verb(c, c->word));
    if (c->json) {
        json_t *all = json_array();
        for (unsigned i = 0; i < cli_n_verbs; i++)
            if (!v || v == &cli_verbs[i])
                json_array_append_new(all, verb_json(c, &cli_verbs[i]));
        json_dumpf(all, stdout, JSON_INDENT(2));
        fputc('\n', stdout);
        json_decref(all);
    } else if (v) {
        cli_print_verb(c, v);
    } else {
        cli_print_verbs(stdout);
    }
    return ADMIN_FINE;
}
