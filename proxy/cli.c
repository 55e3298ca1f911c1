/*
 * cli.c - the command line from argv to exit status, and the verbs that need neither a server nor a
 * file of their own. Which verbs and options there are stands in cli_table.c.
 */
#include "proxy/cli.h"

#include <stdlib.h>
#include <unistd.h>

#include "conf/conf.h"
#include "proxy/admin.h"
#include "proxy/cli_table.h"
#include "proxy/metrics.h"
#include "proxy/roles.h"

int cli_usage_error(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fputs("headgate: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputs("\n`headgate help` lists the verbs, `headgate VERB --help` the options of one.\n",
          stderr);
    va_end(ap);
    return ADMIN_USAGE;
}

bool cli_wants_colour(FILE *f)
{
    const char *term = getenv("TERM");
    return isatty(fileno(f)) == 1 && !getenv("NO_COLOR") && !(term && strcmp(term, "dumb") == 0);
}

int cli_verb_run(struct cli *c)
{
    /* The program's memory keeps the arguments only until its title is set. */
    return master_main(cli_config_file(c));
}

int cli_verb_explain(struct cli *c)
{
    int rc = conf_explain(c->word, stdout); /* says itself what codes there are */
    return rc == 0 ? ADMIN_FINE : ADMIN_FAILED;
}

int cli_verb_schema(struct cli *c)
{
    if (c->metrics)
        return metrics_print_mdoc(stdout);
    return c->mdoc ? conf_print_keys_mdoc(stdout) : conf_print_schema(stdout);
}

int cli_verb_version(struct cli *c)
{
    if (c->json)
        printf("{\"version\":\"%s\"}\n", HG_VERSION);
    else
        printf("headgate %s\n", HG_VERSION);
    return ADMIN_FINE;
}

static int dispatch(struct cli *c, int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--version") == 0)
        return cli_verb_version(c);
    if (argc >= 2 && strcmp(argv[1], "complete") == 0) /* no verb for people: in no help */
        return cli_complete(c, argv + 2);
    const char *err = cli_parse(c, argc, argv);
    if (err)
        return cli_usage_error("%s", err);
    if (c->verb && !c->help)
        return c->verb->run(c);
    if (c->verb)
        cli_print_verb(c, c->verb);
    else
        cli_print_verbs(c->help ? stdout : stderr);
    return c->help ? ADMIN_FINE : ADMIN_USAGE;
}

int cli_main(int argc, char **argv)
{
    struct cli c = {.arena = arena_new(16 * 1024), .lines = 100};
    int status = dispatch(&c, argc, argv);
    /* What was printed must have got somewhere: a full disk is a failure. */
    if (fflush(stdout) != 0 && status == ADMIN_FINE) {
        perror("headgate: cannot write the output");
        status = ADMIN_FAILED;
    }
    arena_free(&c.arena);
    return status;
}
