/*
 * cli.h - the command line: verbs, options, exit statuses (CONFIG.md). For proxy/cli*.c and main.c;
 * what there is to say on it, in one table, is cli_table.h's.
 */
#ifndef HG_CLI_H
#define HG_CLI_H

#include "base/base.h" /* first: it says which C library we want */

#include <jansson.h>
#include <stdio.h>

#include "base/arena.h"
#include "conf/conf.h"

struct cli_action;
struct cli_verb;

enum cli_format { CLI_TEXT, CLI_SHORT, CLI_JSON };

/* A command line, read. Options that take a value: NULL when they were not given. */
struct cli {
    struct arena *arena;
    const struct cli_verb *verb;     /* NULL: none was given */
    const char *config;              /* as given; NULL: the default */
    const char *socket;              /* NULL: the config's */
    const struct cli_action *action; /* what the verb is to do; NULL: not said */
    const char *word;                /* the verb's own argument, or its action's */
    enum cli_format format;
    bool json, strict, offline, online, plan, watch, mdoc, metrics, uninstall, help;
    unsigned lines;                                         /* logs -n */
    bool follow;                                            /* logs -f */
    const char *host, *folder, *url, *http, *https, *email; /* init */
    char *const *command;                                   /* init --run: it and all behind it */
};

/* The whole command line; returns the exit status. */
int cli_main(int argc, char **argv);

/* Says on stderr what is wrong with the command line; returns ADMIN_USAGE. */
int cli_usage_error(const char *fmt, ...) PRINTF(1, 2);
bool cli_wants_colour(FILE *f);

/* cli_parse.c: NULL, or a sentence that names the cure (in c->arena). */
const char *cli_parse(struct cli *c, int argc, char **argv) MUST_USE;
const char *cli_no_such_verb(struct cli *c, const char *name); /* says so, and what was meant */

/* cli_help.c */
void cli_print_verbs(FILE *f);                                /* what `headgate --help` says */
void cli_print_verb(struct cli *c, const struct cli_verb *v); /* and `headgate VERB --help` */

/* cli_complete.c: for shells; the words behind the program's name, the last one unfinished. */
int cli_complete(struct cli *c, char *const *words);

/* cli_socket.c */
const char *cli_config_file(struct cli *c); /* absolute */
const char *cli_socket_path(
    struct cli *c); /* where the server listens, found even when the config is bad */

/* Absolute; NULL and a sentence in *err when neither the file nor a server that runs with it tells.
 */
const char *cli_state_folder(struct cli *c, const char **err);

/* cli_check.c: conf_load, and warnings of addresses that could not be listened on now. */
struct conf *cli_load(struct cli *c, struct conf_source *src, unsigned flags, struct diags *d);

/*
 * cli_online.c: warnings of hosts that no CA would find, or that its rate limits let wait; what is
 * left of these to `text` (may be NULL). Takes as long as name servers do.
 */
void cli_check_online(struct cli *c, const struct conf *conf, struct diags *d, FILE *text);

/* cli_status.c */
void cli_print_status(const json_t *status, bool colour, FILE *to);

/*
 * cli_certs.c: what the server said of certificates; `only`: of this host alone, all of it. False:
 * there is nothing to show. `now`: wall clock s.
 */
bool cli_print_certs(const json_t *certs, const char *only, int64_t now, bool colour, FILE *to);

/* cli_server.c */
/* Asks the server (request stolen); NULL when there is none, which was said. */
json_t *cli_ask(struct cli *c, json_t *request);
/* The answer (stolen) as JSON, or its words alone. Returns the exit status. */
int cli_show_reply(struct cli *c, json_t *reply);

/* cli_text.c */
/* s as it may be shown on a terminal: control characters written out, as "\x1b"; in a. */
struct str cli_harmless(struct arena *a, struct str s);
/* The same for all strings of a document, in their place. */
void cli_make_harmless(json_t *j);

/* cli_logs.c */
int cli_logs(struct cli *c, bool colour);

/* The verbs, for the table; each returns its exit status. */
int cli_verb_run(struct cli *c);
int cli_verb_init(struct cli *c);
int cli_verb_check(struct cli *c);
int cli_verb_reload(struct cli *c);
int cli_verb_status(struct cli *c);
int cli_verb_stop(struct cli *c);
int cli_verb_restart(struct cli *c);
int cli_verb_logs(struct cli *c);
int cli_verb_certs(struct cli *c);
int cli_verb_trust(struct cli *c);
int cli_verb_explain(struct cli *c);
int cli_verb_schema(struct cli *c);
int cli_verb_version(struct cli *c);
int cli_verb_help(struct cli *c);

#endif
