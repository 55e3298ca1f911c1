/*
 * cli_table.h - the one table of verbs and options. The parser (cli_parse.c), the help and its JSON
 * (cli_help.c) read it, and a test holds man/headgate.8 against it. What a verb does is not here.
 */
#ifndef HG_CLI_TABLE_H
#define HG_CLI_TABLE_H

#include "proxy/cli.h"

/* What an option's value is, and what its field of struct cli is then. */
enum cli_kind {
    CLI_FLAG,       /* it has none: bool */
    CLI_TEXT_VALUE, /* const char * */
    CLI_FILE,       /* a path: const char * */
    CLI_FOLDER,     /* likewise */
    CLI_CHOICE,     /* one of `choices`: unsigned, its index */
    CLI_COUNT,      /* a number up to CLI_COUNT_MAX: unsigned */
    CLI_COMMAND,    /* the next word and all behind it, whatever they look like: char *const * */
};
#define CLI_COUNT_MAX 1000000

enum cli_option_id {
    CLI_OPT_HOST,
    CLI_OPT_STATIC,
    CLI_OPT_PROXY,
    CLI_OPT_RUN,
    CLI_OPT_HTTP,
    CLI_OPT_HTTPS,
    CLI_OPT_EMAIL,
    CLI_OPT_STRICT,
    CLI_OPT_OFFLINE,
    CLI_OPT_ONLINE,
    CLI_OPT_FORMAT,
    CLI_OPT_PLAN,
    CLI_OPT_WATCH,
    CLI_OPT_FOLLOW,
    CLI_OPT_LINES,
    CLI_OPT_UNINSTALL,
    CLI_OPT_MDOC,
    CLI_OPT_METRICS,
    CLI_OPT_CONFIG,
    CLI_OPT_SOCKET,
    CLI_OPT_JSON,
    CLI_OPT_HELP,
    CLI_N_OPTIONS
};

struct cli_option {
    const char *name; /* "config": --config */
    char letter;      /* 'f': -f too; '\0': none */
    enum cli_kind kind;
    const char *value;          /* what its value is called: "FILE" */
    const char *const *choices; /* NULL behind the last */
    size_t field;               /* offset in struct cli */
    const char *help;           /* NULL: not shown, the build's own */
};

enum cli_word_kind {
    CLI_NO_WORD,
    CLI_SERVICE_WORD, /* CHANNEL/SERVICE */
    CLI_CHANNEL_WORD, /* CHANNEL or CHANNEL/SERVICE */
    CLI_CODE_WORD,    /* of a diagnostic */
    CLI_HOST_WORD,    /* whose certificate comes by ACME */
    CLI_VERB_WORD
};

/* What a verb that does several things is told to do, and on what. */
struct cli_action {
    const char *name;
    enum cli_word_kind word; /* never optional */
    const char *word_name;   /* "HOST" */
    const char *help;
};

struct cli_verb {
    const char *name;
    int (*run)(struct cli *c);
    uint32_t options; /* bits 1 << enum cli_option_id; --help is each verb's */
    enum cli_word_kind word;
    bool word_optional;
    const char *word_name;            /* "CHANNEL/SERVICE" */
    const struct cli_action *actions; /* in place of a word, optional; ended by one without name */
    const char *summary;              /* a line */
    const char *text;                 /* what --help says of it; "\n" between paragraphs */
};

extern const struct cli_option cli_options[CLI_N_OPTIONS];
extern const struct cli_verb cli_verbs[];
extern const unsigned cli_n_verbs;
extern const char
    *const cli_later_verbs[]; /* of later versions: refused by name; NULL at the end */

const struct cli_verb *cli_verb_find(const char *name); /* NULL: there is none */
const struct cli_action *cli_action_find(const struct cli_verb *v, const char *name);
/* All words of the verb as its usage has them: "renew HOST | roll-key"; empty: it takes none. */
struct str cli_words_text(struct arena *a, const struct cli_verb *v);
static inline bool cli_verb_takes(const struct cli_verb *v, enum cli_option_id id)
{
    return id == CLI_OPT_HELP || (v->options & (UINT32_C(1) << id));
}

#endif
