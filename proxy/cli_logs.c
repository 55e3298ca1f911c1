/*
 * cli_logs.c - `headgate logs`: asks the server for what services printed and shows it, a line
 * each; with -f as it comes.
 */
#include "proxy/cli.h"

#include <stdlib.h>
#include <time.h>

#include "proxy/admin.h"

struct show {
    const struct cli *cli;
    bool colour, answered;
    int status;
};

static long long number_of(const json_t *o, const char *key)
{
    return json_integer_value(json_object_get(o, key));
}

static void print_line(const struct show *s, const json_t *line)
{
    char at[32] = "";
    time_t seconds = (time_t)(number_of(line, "at_ms") / 1000);
    struct tm tm;
    if (s->cli->json) {
        json_dumpf(line, stdout, JSON_COMPACT);
        putchar('\n');
        return;
    }
    if (localtime_r(&seconds, &tm))
        strftime(at, sizeof(at), "%Y-%m-%d %H:%M:%S", &tm);
    printf("%s%s.%03lld %s-%lld%s %s\n", s->colour ? "\x1b[2m" : "", at,
           number_of(line, "at_ms") % 1000, json_string_value(json_object_get(line, "service")),
           number_of(line, "instance"), s->colour ? "\x1b[0m" : "",
           json_string_value(json_object_get(line, "line")));
}

static void print_answer(struct show *s, const json_t *reply)
{
    const json_t *lines = json_object_get(reply, "lines");
    s->answered = true;
    s->status = (int)number_of(reply, "status");
    if (s->status != ADMIN_FINE)
        fputs(json_string_value(json_object_get(reply, "text")), stderr);
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
    struct show s = {.cli = c, .colour = colour};
    json_t *request = json_pack("{s:s, s:s, s:b, s:i}", "verb", "logs", "of", c->word, "follow",
                                c->follow, "lines", (int)c->lines);
    const char *err = admin_follow(c->arena, cli_socket_path(c), request, on_object, &s);
    json_decref(request);
    if (!err)
        return s.status;
    fprintf(stderr, "headgate: %s\n", err);
    return ADMIN_NO_SERVER;
}
