/*
 * cli_init.h - what `headgate init` knows when it writes the file: shared by cli_init.c, which
 * asks, and cli_starter.c, which writes.
 */
#ifndef HG_CLI_INIT_H
#define HG_CLI_INIT_H

#include "proxy/cli.h"

/* Texts are as they stand in the file: quoted where they need it. Empty: not given. */
struct starter {
    struct arena *arena;
    struct str host;  /* alone as it is: a host name needs quotes for its `*` only */
    struct str email; /* the CA's contact */
    char kind;        /* '1', '2', '3': the answer to what it serves */
    struct str folder;
    struct str url;
    struct str *run;
    size_t n_run;
    struct str cwd; /* where files lie that the command's arguments name */
    bool told;      /* the command's arguments hold its address */
    struct str http, https;
    unsigned http_port, https_port; /* of these; 0: off, or no port to be seen */
    bool high_ports; /* these were chosen because a user may not have the usual ones */
    bool no_user;    /* started by root, and there is no user `headgate` */
};

/* Its certificate comes by ACME: of what is answered so far. */
bool starter_by_acme(const struct starter *s);
/* Writes the configuration; errors stay in `f`. */
void starter_write(struct starter *s, FILE *f);

#endif
