/*
 * cli_logs.c - `headgate logs`: asks the server for what services printed and shows it, a line
 * each; with -f as it comes.
 */
#include "proxy/cli.h"

#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/json.h"
#include "proxy/admin.h"

struct show {
    const struct cli *cli;
    struct arena *scratch; /* of one line */
    bool colour, terminal, answered;
    int status;
};

static long long number_of(const json_t *o, const char *key)
{
    return json_integer_value(json_object_get(o, key));
}

/* What a service prints must not reach a terminal as it is; a file or a program gets the bytes. */
static struct str text_of(const struct show *s, const json_t *o, const char *key)
{
    const json_t *j = json_object_get(o, key);
    const struct str text = json_str(j);
    return s->terminal ? cli_harmless(s->scratch, text) : text;
}

static void print_line(const struct show *s, const json_t *line)
{
    char at[32] = "";
    time_t seconds = (time_t)(number_of(line, "at_ms") / 1000);
    struct tm tm;
    if (s->cli->json) {
        json_dumpf(line, stdout, s->terminal ? JSON_COMPACT | JSON_ENSURE_ASCII : JSON_COMPACT);
        putchar('\n');
        return;
    }
    if (localtime_r(&seconds, &tm))
        strftime(at, sizeof(at), "%Y-%m-%d %H:%M:%S", &tm);
    const struct str text = text_of(s, line, "line");
    printf("%s%s.%03lld " STR_FMT "-%lld%s ", s->colour ? "\x1b[2m" : "", at,
           number_of(line, "at_ms") % 1000, STR_ARG(text_of(s, line, "service")),
           number_of(line, "instance"), s->colour ? "\x1b[0m" : "");
    fwrite(text.p, 1, text.n, stdout);
    putchar('\n');
    arena_reset(s->scratch);
}

static void print_answer(struct show *s, const json_t *reply)
{
    const json_t *lines = json_object_get(reply, "lines");
    s->answered = true;
    s->status = (int)number_of(reply, "status");
    const char *text = json_string_value(json_object_get(reply, "text"));
    if (s->status != ADMIN_FINE)
        fputs(text ? text : "", stderr);
    for (size_t i = 0; i < json_array_size(lines); i++)
        print_line(s, json_array_get(lines, i));
}

static bool on_object(void *ctx, json_t *o)
{
    struct show *s = ctx;
    if (!s->answered)
        print_answer(s, o);
    else if (json_object_get(o, "dropped") && !s->cli->json)
        fprintf(stderr, "headgate: %lld lines were dropped: they came faster than they were read\n",
                number_of(o, "dropped"));
    else
        print_line(s, o);
    json_decref(o);
    /* Who reads us may be gone, or wait for each line. */
    return fflush(stdout) == 0 && s->cli->follow && s->status == ADMIN_FINE;
}

int cli_logs(struct cli *c, bool colour)
{
    struct show s = {.cli = c,
                     .scratch = arena_new(4096),
                     .colour = colour,
                     .terminal = isatty(STDOUT_FILENO) == 1};
    json_t *request = json_pack("{s:s, s:s, s:b, s:i}", "verb", "logs", "of", c->word, "follow",
                                c->follow, "lines", (int)c->lines);
    const char *err = admin_follow(c->arena, cli_socket_path(c), request, on_object, &s);
    json_decref(request);
    arena_free(&s.scratch);
    if (!err)
        return s.status;
    fprintf(stderr, "headgate: %s\n", err);
    return ADMIN_NO_SERVER;
}
