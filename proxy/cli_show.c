/*
 * cli_show.c - colours, times and members, as `headgate status` and `headgate certs` print them.
 */
#include "proxy/cli_show.h"

#include <time.h>

static bool colours;

void show_colours(bool on)
{
    colours = on;
}

void show_paint(FILE *f, const char *code, const char *text)
{
    if (colours)
        fprintf(f, "\x1b[%sm%s\x1b[0m", code, text);
    else
        fputs(text, f);
}

void show_title(FILE *f, const char *text)
{
    fputc('\n', f);
    show_paint(f, BOLD, text);
    fputc('\n', f);
}

const char *show_text(const json_t *j, const char *key)
{
    const char *s = json_string_value(json_object_get(j, key));
    return s ? s : "";
}

long long show_number(const json_t *j, const char *key)
{
    return json_integer_value(json_object_get(j, key));
}

static const struct {
    long long in;
    char letter;
    const char *word;
} units[] = {{86400, 'd', "day"}, {3600, 'h', "hour"}, {60, 'm', "minute"}, {1, 's', "second"}};

const char *show_span(long long s, char *buf, size_t n)
{
    struct out o = out_on(buf, n - 1);
    unsigned shown = 0;
    for (size_t i = 0; i < ARRAY_LEN(units) && shown < 2; i++) {
        long long v = s / units[i].in;
        s %= units[i].in;
        if (v == 0 && (shown == 0) && i + 1 < ARRAY_LEN(units))
            continue;
        if (v == 0 && shown > 0)
            break;
        out_fmt(&o, "%s%lld%c", shown ? " " : "", v, units[i].letter);
        shown++;
    }
    buf[o.n] = '\0';
    return buf;
}

const char *show_span_words(long long s, char *buf, size_t n)
{
    struct out o = out_on(buf, n - 1);
    size_t i = 0;
    while (i + 1 < ARRAY_LEN(units) && s < units[i].in)
        i++;
    long long v = s / units[i].in;
    out_fmt(&o, "%lld %s%s", v, units[i].word, v == 1 ? "" : "s");
    buf[o.n] = '\0';
    return buf;
}

const char *show_when(long long at, char *buf, size_t n)
{
    struct tm tm;
    time_t t = (time_t)at;
    if (!localtime_r(&t, &tm) || strftime(buf, n, "%Y-%m-%d %H:%M:%S", &tm) == 0)
        buf[0] = '\0';
    return buf;
}

void show_without_padding(struct str text, FILE *to)
{
    struct str line;
    while (text.n && str_split(&text, '\n', &line)) {
        while (line.n && line.p[line.n - 1] == ' ')
            line.n--;
        fprintf(to, STR_FMT "\n", STR_ARG(line));
    }
}
