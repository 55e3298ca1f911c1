/*
 * cli_server.c - the verbs that ask the running server: reload, restart, stop, status, logs. How
 * status and logs look is cli_status.c's and cli_logs.c's, finding the server cli_socket.c's.
 */
#include "proxy/cli.h"

#include <time.h>
#include <unistd.h>

#include "proxy/admin.h"

/* NULL when there is no server; said so then. */
static json_t *ask(struct cli *c, json_t *request, bool till_exit)
{
    const char *err = NULL;
    json_t *reply = admin_call(c->arena, cli_socket_path(c), request, till_exit, &err);
    json_decref(request);
    if (reply)
        return reply;
    const char *file = cli_config_file(c);
    if (c->config && !c->socket && access(file, F_OK) < 0)
        fprintf(stderr, "headgate: there is no %s, and no server that runs with it\n", file);
    else
        fprintf(stderr, "headgate: %s\n", err);
    return NULL;
}

static int status_of(const json_t *reply)
{
    json_int_t status = json_integer_value(json_object_get(reply, "status"));
    return status >= 0 && status <= ADMIN_REFUSED ? (int)status : ADMIN_FAILED;
}

json_t *cli_ask(struct cli *c, json_t *request)
{
    return ask(c, request, false);
}

/* The words go to stdout when all is well, else to stderr. */
int cli_show_reply(struct cli *c, json_t *reply)
{
    if (!reply)
        return ADMIN_NO_SERVER;
    int status = status_of(reply);
    const char *text = json_string_value(json_object_get(reply, "text"));
    if (c->json) {
        /* Words of other programs are in it: on a terminal as ASCII only. */
        json_dumpf(reply, stdout,
                   isatty(STDOUT_FILENO) ? JSON_INDENT(2) | JSON_ENSURE_ASCII : JSON_INDENT(2));
        putchar('\n');
    } else if (text) {
        fputs(text, status == ADMIN_FINE ? stdout : stderr);
    }
    json_decref(reply);
    return status;
}

int cli_verb_reload(struct cli *c)
{
    bool colour = !c->json && cli_wants_colour(stderr);
    return cli_show_reply(
        c, ask(c, json_pack("{s:s, s:b, s:b}", "verb", "reload", "colour", colour, "plan", c->plan),
               false));
}

int cli_verb_restart(struct cli *c)
{
    return cli_show_reply(
        c, ask(c, json_pack("{s:s, s:s}", "verb", "restart", "service", c->word), false));
}

int cli_verb_logs(struct cli *c)
{
    return cli_logs(c, cli_wants_colour(stdout));
}

int cli_verb_stop(struct cli *c)
{
    return cli_show_reply(c, ask(c, json_pack("{s:s}", "verb", "stop"), true));
}

static int status_once(struct cli *c, bool clear)
{
    json_t *reply = ask(c, json_pack("{s:s}", "verb", "status"), false);
    if (!reply)
        return ADMIN_NO_SERVER;
    int status = status_of(reply);
    if (clear)
        fputs("\x1b[H\x1b[2J", stdout);
    if (c->json || status != ADMIN_FINE)
        return cli_show_reply(c, reply);
    if (isatty(STDOUT_FILENO))
        cli_make_harmless(reply);
    cli_print_status(reply, cli_wants_colour(stdout), stdout);
    json_decref(reply);
    return status;
}

int cli_verb_status(struct cli *c)
{
    int status = status_once(c, c->watch && cli_wants_colour(stdout));
    while (c->watch && status == ADMIN_FINE && fflush(stdout) == 0) {
        nanosleep(&(struct timespec){1, 0}, NULL);
        if (!c->json && !cli_wants_colour(stdout))
            putchar('\n');
        status = status_once(c, cli_wants_colour(stdout));
    }
    return status;
}
