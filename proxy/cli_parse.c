/*
 * cli_parse.c - reading the command line by the table: "--name value", "--name=value", "-n5",
 * "-fn 5", options before and behind the verb, "--" for words that look like options. What is wrong
 * comes back as a sentence that names the cure.
 */
#include "proxy/cli_table.h"

#include "conf/schema.h"

struct parse {
    struct cli *cli;
    char **argv; /* what is left of it */
    uint32_t given;
    const char *err;
};

static void *field(struct cli *c, const struct cli_option *o)
{
    return (char *)c + o->field;
}

static const char *choose(struct cli *c, const struct cli_option *o, const char *value)
{
    for (unsigned i = 0; o->choices[i]; i++) {
        if (strcmp(o->choices[i], value) == 0) {
            *(unsigned *)field(c, o) = i;
            return NULL;
        }
    }
    return arena_fmt(c->arena, "--%s is %s, not `%s`", o->name, o->value, value).p;
}

static const char *count(struct cli *c, const struct cli_option *o, const char *value)
{
    uint64_t n;
    if (!str_u64(str_of(value), &n) || n > CLI_COUNT_MAX)
        return arena_fmt(c->arena, "`%s` is no number of %s", value, o->name).p;
    *(unsigned *)field(c, o) = (unsigned)n;
    return NULL;
}

/* The next word as an option's value; NULL when there is none. `--x` is none: an option follows. */
static const char *next_value(struct parse *p)
{
    const char *word = p->argv[0];
    if (!word || strncmp(word, "--", 2) == 0)
        return NULL;
    p->argv++;
    return word;
}

/* The word before this one, and all that follow. */
static void command(struct parse *p, const struct cli_option *o)
{
    *(char *const **)field(p->cli, o) = p->argv - 1;
    while (*p->argv)
        p->argv++;
}

/* `value`: what was written behind `=` or the letter; NULL: nothing. */
static void take(struct parse *p, enum cli_option_id id, const char *value)
{
    struct cli *c = p->cli;
    const struct cli_option *o = &cli_options[id];
    p->given |= UINT32_C(1) << id;
    if (o->kind == CLI_FLAG) {
        *(bool *)field(c, o) = true;
        return;
    }
    if (!value)
        value = next_value(p);
    if (!value || !*value)
        p->err = arena_fmt(c->arena, "--%s needs a value: --%s %s", o->name, o->name, o->value).p;
    else if (o->kind == CLI_CHOICE)
        p->err = choose(c, o, value);
    else if (o->kind == CLI_COMMAND)
        command(p, o);
    else if (o->kind == CLI_COUNT)
        p->err = count(c, o, value);
    else
        *(const char **)field(c, o) = value;
}

static const char *no_such_option(struct parse *p, struct str name)
{
    const char *best = NULL;
    unsigned least = UINT32_MAX, d;
    for (unsigned i = 0; i < CLI_N_OPTIONS; i++) {
        const struct cli_option *o = &cli_options[i];
        if (!o->help || !schema_near(name, str_of(o->name), &d) || d >= least)
            continue;
        best = o->name;
        least = d;
    }
    if (best)
        return arena_fmt(p->cli->arena, "there is no option `--" STR_FMT "`; did you mean `--%s`?",
                         STR_ARG(name), best)
            .p;
    return arena_fmt(p->cli->arena, "there is no option `--" STR_FMT "`", STR_ARG(name)).p;
}

static void long_option(struct parse *p, const char *word)
{
    size_t n = strcspn(word, "=");
    struct str name = {word, n};
    for (unsigned i = 0; i < CLI_N_OPTIONS; i++) {
        const struct cli_option *o = &cli_options[i];
        if (!str_eq(name, str_of(o->name)))
            continue;
        if (o->kind == CLI_FLAG && word[n])
            p->err = arena_fmt(p->cli->arena, "--%s takes no value", o->name).p;
        else if (o->kind == CLI_COMMAND && word[n])
            p->err = arena_fmt(p->cli->arena, "--%s stands apart from its words: --%s %s", o->name,
                               o->name, o->value)
                         .p;
        else
            take(p, (enum cli_option_id)i, word[n] ? word + n + 1 : NULL);
        return;
    }
    p->err = no_such_option(p, name);
}

/* Letters in a row; the rest behind one that takes a value is that value. */
static void letters(struct parse *p, const char *word)
{
    for (; *word && !p->err; word++) {
        unsigned i = 0;
        while (i < CLI_N_OPTIONS && cli_options[i].letter != *word)
            i++;
        if (i == CLI_N_OPTIONS) {
            p->err = arena_fmt(p->cli->arena, "there is no option `-%c`", *word).p;
            return;
        }
        bool flag = cli_options[i].kind == CLI_FLAG;
        take(p, (enum cli_option_id)i, !flag && word[1] ? word + 1 : NULL);
        if (!flag)
            return;
    }
}

const char *cli_no_such_verb(struct cli *c, const char *name)
{
    const char *best = NULL;
    unsigned least = UINT32_MAX, d;
    for (unsigned i = 0; cli_later_verbs[i]; i++)
        if (strcmp(cli_later_verbs[i], name) == 0)
            return arena_fmt(c->arena, "`%s` is not available in this version", name).p;
    for (unsigned i = 0; i < cli_n_verbs; i++) {
        if (!schema_near(str_of(name), str_of(cli_verbs[i].name), &d) || d >= least)
            continue;
        best = cli_verbs[i].name;
        least = d;
    }
    if (best)
        return arena_fmt(c->arena, "there is no verb `%s`; did you mean `%s`?", name, best).p;
    return arena_fmt(c->arena, "there is no verb `%s`", name).p;
}

static const char *no_such_action(struct cli *c, const char *name)
{
    const char *best = NULL;
    unsigned least = UINT32_MAX, d;
    for (const struct cli_action *x = c->verb->actions; x->name; x++) {
        if (!schema_near(str_of(name), str_of(x->name), &d) || d >= least)
            continue;
        best = x->name;
        least = d;
    }
    if (best)
        return arena_fmt(c->arena, "`%s` does not know `%s`; did you mean `%s`?", c->verb->name,
                         name, best)
            .p;
    return arena_fmt(c->arena, "`%s` does not know `%s`: headgate %s [" STR_FMT "]", c->verb->name,
                     name, c->verb->name, STR_ARG(cli_words_text(c->arena, c->verb)))
        .p;
}

static void word(struct parse *p, const char *text)
{
    struct cli *c = p->cli;
    if (!c->verb) {
        c->verb = cli_verb_find(text);
        p->err = c->verb ? NULL : cli_no_such_verb(c, text);
    } else if (c->verb->actions && !c->action) {
        c->action = cli_action_find(c->verb, text);
        p->err = c->action ? NULL : no_such_action(c, text);
    } else if (c->action && c->action->word == CLI_NO_WORD) {
        p->err = arena_fmt(c->arena, "`%s %s` takes no further word: `%s`", c->verb->name,
                           c->action->name, text)
                     .p;
    } else if (!c->action && c->verb->word == CLI_NO_WORD) {
        p->err = arena_fmt(c->arena, "`%s` takes no further word: `%s`", c->verb->name, text).p;
    } else if (c->word) {
        p->err = arena_fmt(c->arena, "`%s` is one word too many", text).p;
    } else {
        c->word = text;
    }
}

/* What the verb does not take, or lacks. */
static const char *fits(struct cli *c, uint32_t given)
{
    const struct cli_verb *v = c->verb;
    for (unsigned i = 0; v && i < CLI_N_OPTIONS; i++)
        if ((given & (UINT32_C(1) << i)) && !cli_verb_takes(v, (enum cli_option_id)i))
            return arena_fmt(c->arena, "`%s` does not take --%s", v->name, cli_options[i].name).p;
    if (c->action && c->action->word != CLI_NO_WORD && !c->word && !c->help)
        return arena_fmt(c->arena, "what shall `%s %s` work on? headgate %s %s %s", v->name,
                         c->action->name, v->name, c->action->name, c->action->word_name)
            .p;
    if (v && v->word != CLI_NO_WORD && !v->word_optional && !c->word && !c->help)
        return arena_fmt(c->arena, "what shall `%s` work on? headgate %s %s", v->name, v->name,
                         v->word_name)
            .p;
    return NULL;
}

const char *cli_parse(struct cli *c, int argc, char **argv)
{
    struct parse p = {.cli = c, .argv = argv + MIN(argc, 1)};
    bool options = true;
    while (p.argv[0] && !p.err) {
        const char *text = *p.argv++;
        if (options && strcmp(text, "--") == 0)
            options = false;
        else if (options && strncmp(text, "--", 2) == 0)
            long_option(&p, text + 2);
        else if (options && text[0] == '-' && text[1])
            letters(&p, text + 1);
        else
            word(&p, text);
    }
    return p.err ? p.err : fits(c, p.given);
}
