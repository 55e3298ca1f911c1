/*
 * cli.h - the command line: verbs, options, exit statuses (CONFIG.md). For proxy/cli*.c and main.c.
 */
#ifndef HG_CLI_H
#define HG_CLI_H

#include "base/base.h" /* first: it says which C library we want */

#include <jansson.h>
#include <stdio.h>

#include "base/arena.h"

enum cli_format { CLI_TEXT, CLI_SHORT, CLI_JSON };

struct cli {
    struct arena *arena;
    const char *verb;
    const char *config; /* as given; NULL: the default */
    const char *socket; /* NULL: the config's */
    const char *word;   /* the verb's own argument */
    enum cli_format format;
    bool json, strict, offline, online, plan, watch, mdoc, metrics;
    unsigned lines; /* logs -n */
    bool follow;    /* logs -f */
};

/* The whole command line; returns the exit status. */
int cli_main(int argc, char **argv);

/* cli_socket.c */
const char *cli_config_file(struct cli *c); /* absolute */
const char *cli_socket_path(
    struct cli *c); /* where the server listens, found even when the config is bad */

/* cli_status.c */
void cli_print_status(const json_t *status, bool colour, FILE *to);

/* cli_logs.c */
int cli_logs(struct cli *c, bool colour);

#endif
