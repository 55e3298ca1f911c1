/*
 * cli_complete.c - `headgate complete WORD...`, for shells: what the last of the words may become.
 * A line each, "VALUE<TAB>what it is", or ":files", ":folders", ":commands" where the shell knows
 * better. The scripts that ask are conf/completion.bash and conf/completion.zsh.
 */
#include "proxy/cli_table.h"

#include <unistd.h>

#include "conf/explain.h"
#include "proxy/admin.h"

#define SERVER_PATIENCE 5 /* seconds: a shell waits for us with the user's keyboard */

struct completion {
    struct cli *cli; /* its config and socket, to ask the server */
    const struct cli_verb *verb;
    const struct cli_action *action; /* the verb's first word, where it is one */
    uint32_t given;
    const struct cli_option *awaits; /* the option whose value comes next */
    unsigned words;                  /* behind the verb */
    unsigned command;                /* words of a command so far; 0: none has begun */
    bool options_over;
    struct str cur; /* the beginning of what is wanted */
};

/* ---- the words that are there ---- */

static void value(struct completion *p, const char *text)
{
    if (p->awaits == &cli_options[CLI_OPT_CONFIG])
        p->cli->config = text;
    if (p->awaits == &cli_options[CLI_OPT_SOCKET])
        p->cli->socket = text;
    if (p->awaits->kind == CLI_COMMAND)
        p->command = 1;
    p->awaits = NULL;
}

static void option(struct completion *p, const struct cli_option *o, const char *text)
{
    p->given |= UINT32_C(1) << (o - cli_options);
    if (o->kind == CLI_FLAG)
        return;
    p->awaits = o;
    if (text)
        value(p, text);
}

static void long_option(struct completion *p, const char *word)
{
    struct str name = {word, strcspn(word, "=")};
    for (unsigned i = 0; i < CLI_N_OPTIONS; i++)
        if (str_eq(name, str_of(cli_options[i].name)))
            option(p, &cli_options[i], word[name.n] ? word + name.n + 1 : NULL);
}

static void letters(struct completion *p, const char *word)
{
    for (; *word && !p->awaits; word++)
        for (unsigned i = 0; i < CLI_N_OPTIONS; i++)
            if (cli_options[i].letter == *word && cli_options[i].kind == CLI_FLAG)
                option(p, &cli_options[i], NULL);
            else if (cli_options[i].letter == *word && word[1])
                return; /* the rest is its value */
            else if (cli_options[i].letter == *word)
                option(p, &cli_options[i], NULL);
}

/* bash makes three words of `--name=value`. */
static void word(struct completion *p, const char *text)
{
    if (p->command)
        p->command++;
    else if (p->awaits && strcmp(text, "=") != 0)
        value(p, text);
    else if (p->awaits)
        return;
    else if (!p->options_over && strcmp(text, "--") == 0)
        p->options_over = true;
    else if (!p->options_over && strncmp(text, "--", 2) == 0)
        long_option(p, text + 2);
    else if (!p->options_over && text[0] == '-')
        letters(p, text + 1);
    else if (p->verb && p->verb->actions && !p->action && !p->words)
        p->words = (p->action = cli_action_find(p->verb, text)) ? 0 : 1;
    else if (p->verb)
        p->words++;
    else
        p->verb = cli_verb_find(text);
}

/* ---- what may follow ---- */

static void offer(const struct completion *p, const char *text, const char *help)
{
    if (str_starts(str_of(text), p->cur))
        printf("%s\t%s\n", text, help);
}

static void offer_verbs(const struct completion *p)
{
    for (unsigned i = 0; i < cli_n_verbs; i++)
        offer(p, cli_verbs[i].name, cli_verbs[i].summary);
}

static void offer_options(const struct completion *p)
{
    if (!p->verb) {
        offer(p, "--help", "the verbs");
        offer(p, "--version", "the version");
        return;
    }
    for (unsigned i = 0; i < CLI_N_OPTIONS; i++) {
        const struct cli_option *o = &cli_options[i];
        bool again = p->given & (UINT32_C(1) << i);
        if (o->help && !again && cli_verb_takes(p->verb, (enum cli_option_id)i))
            offer(p, arena_fmt(p->cli->arena, "--%s", o->name).p, o->help);
    }
}

static void offer_values(const struct completion *p)
{
    switch (p->awaits->kind) {
    case CLI_CHOICE:
        for (unsigned i = 0; p->awaits->choices[i]; i++)
            offer(p, p->awaits->choices[i], "");
        break;
    case CLI_FILE:
        puts(":files");
        break;
    case CLI_FOLDER:
        puts(":folders");
        break;
    case CLI_COMMAND:
        puts(":commands");
        break;
    case CLI_FLAG:
    case CLI_TEXT_VALUE:
    case CLI_COUNT:
        break;
    }
}

static void offer_codes(const struct completion *p)
{
    for (unsigned i = 0; explain_code(i); i++)
        offer(p, explain_code(i), explain_title(i));
}

/* The running server's; NULL: there is none. */
static json_t *ask_status(const struct completion *p)
{
    const char *err;
    alarm(SERVER_PATIENCE);
    json_t *ask = json_pack("{s:s}", "verb", "status");
    json_t *status = admin_call(p->cli->arena, cli_socket_path(p->cli), ask, false, &err);
    json_decref(ask);
    return status;
}

/* Those whose certificates come by ACME. */
static void offer_hosts(const struct completion *p)
{
    size_t i;
    json_t *c, *status = ask_status(p);
    json_array_foreach(json_object_get(status, "certificates"), i, c)
    {
        const char *host = json_string_value(json_object_get(c, "host"));
        if (host && json_object_get(c, "failures"))
            offer(p, host, "");
    }
    json_decref(status);
}

/* Channels once each: services of one follow each other. */
static void offer_services(const struct completion *p, bool channels)
{
    size_t i;
    json_t *s, *status = ask_status(p);
    struct str last = STR("");
    json_array_foreach(json_object_get(status, "services"), i, s)
    {
        const char *name = json_string_value(json_object_get(s, "service"));
        const char *kind = json_string_value(json_object_get(s, "kind"));
        if (!name || !kind || strcmp(kind, "run") != 0)
            continue;
        struct str channel = {name, strcspn(name, "/")};
        if (channels && !str_eq(channel, last))
            offer(p, arena_strz(p->cli->arena, channel), "all its services");
        last = channel;
        offer(p, name, "");
    }
    json_decref(status);
}

static void offer_actions(const struct completion *p)
{
    for (const struct cli_action *x = p->verb->actions; x->name; x++)
        offer(p, x->name, x->help);
}

static void offer_word(const struct completion *p)
{
    if (p->words)
        return;
    if (p->verb->actions && !p->action) {
        offer_actions(p);
        return;
    }
    switch (p->action ? p->action->word : p->verb->word) {
    case CLI_SERVICE_WORD:
    case CLI_CHANNEL_WORD:
        offer_services(p, p->verb->word == CLI_CHANNEL_WORD);
        break;
    case CLI_CODE_WORD:
        offer_codes(p);
        break;
    case CLI_HOST_WORD:
        offer_hosts(p);
        break;
    case CLI_VERB_WORD:
        offer_verbs(p);
        break;
    case CLI_NO_WORD:
        offer_options(p); /* nothing else can stand there */
        break;
    }
}

int cli_complete(struct cli *c, char *const *words)
{
    struct completion p = {.cli = c};
    if (!words[0])
        return ADMIN_USAGE;
    for (; words[1]; words++)
        word(&p, words[0]);
    const char *last = words[0];
    size_t equals = strcspn(last, "=");
    if (!p.command && !p.awaits && !p.options_over && strncmp(last, "--", 2) == 0 && last[equals]) {
        word(&p, arena_strz(c->arena, (struct str){last, equals}));
        last += equals + 1;
    } else if (p.awaits && strcmp(last, "=") == 0) {
        last++;
    }
    p.cur = str_of(last);
    if (p.command)
        puts(":files");
    else if (p.awaits)
        offer_values(&p);
    else if (!p.options_over && last[0] == '-')
        offer_options(&p);
    else if (p.verb)
        offer_word(&p);
    else
        offer_verbs(&p);
    return ADMIN_FINE;
}
