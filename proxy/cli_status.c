/*
 * cli_status.c - `headgate status` for people: what serves, what does not, and since when.
 */
#include <time.h>

#include "proxy/cli.h"

#define BOLD   "1"
#define DIM    "2"
#define GREEN  "32"
#define YELLOW "33"
#define RED    "31"

static bool colours;

static void paint(FILE *f, const char *code, const char *text)
{
    if (colours)
        fprintf(f, "\x1b[%sm%s\x1b[0m", code, text);
    else
        fputs(text, f);
}

static const char *text_of(const json_t *j, const char *key)
{
    const char *s = json_string_value(json_object_get(j, key));
    return s ? s : "";
}

static long long number_of(const json_t *j, const char *key)
{
    return json_integer_value(json_object_get(j, key));
}

/* "3d 4h", "5m 2s": two units are enough. */
static const char *span(long long s, char *buf, size_t n)
{
    static const struct {
        long long in;
        char unit;
    } units[] = {{86400, 'd'}, {3600, 'h'}, {60, 'm'}, {1, 's'}};
    struct out o = out_on(buf, n - 1);
    unsigned shown = 0;
    for (size_t i = 0; i < ARRAY_LEN(units) && shown < 2; i++) {
        long long v = s / units[i].in;
        s %= units[i].in;
        if (v == 0 && (shown == 0) && i + 1 < ARRAY_LEN(units))
            continue;
        if (v == 0 && shown > 0)
            break;
        out_fmt(&o, "%s%lld%c", shown ? " " : "", v, units[i].unit);
        shown++;
    }
    buf[o.n] = '\0';
    return buf;
}

static const char *when(long long at, char *buf, size_t n)
{
    struct tm tm;
    time_t t = (time_t)at;
    localtime_r(&t, &tm);
    if (strftime(buf, n, "%Y-%m-%d %H:%M:%S", &tm) == 0)
        buf[0] = '\0';
    return buf;
}

static const char *state_colour(const char *state)
{
    static const char *const good[] = {"serving", "ready", "static"};
    static const char *const fair[] = {"starting", "draining", "stopping",
                                       "stopped",  "held",     "waiting"};
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        if (strcmp(state, good[i]) == 0)
            return GREEN;
    for (size_t i = 0; i < ARRAY_LEN(fair); i++)
        if (strcmp(state, fair[i]) == 0)
            return YELLOW;
    return RED;
}

/* A state in its colour, padded to the column's width (colour codes have none). */
static void state(FILE *f, const char *text, int width)
{
    paint(f, state_colour(text), text);
    int n = (int)strlen(text);
    fprintf(f, "%*s", width > n ? width - n : 0, "");
}

static void head(FILE *f, const json_t *s)
{
    char up[32], at[32];
    const json_t *config = json_object_get(s, "config"), *reload = json_object_get(s, "reload");
    paint(f, BOLD, "headgate");
    fprintf(f, " %s  ", text_of(s, "version"));
    state(f, text_of(s, "state"), 0);
    fprintf(f, "  pid %lld  up %s\n", number_of(s, "pid"),
            span(number_of(s, "uptime"), up, sizeof(up)));
    fprintf(f, "config    %s (generation %lld)\n", text_of(config, "file"),
            number_of(config, "generation"));
    if (json_is_true(json_object_get(reload, "under_way")))
        fputs("reload    under way\n", f);
    if (!json_object_get(reload, "at"))
        return;
    bool ok = json_is_true(json_object_get(reload, "ok"));
    fprintf(f, "reload    %s  ", when(number_of(reload, "at"), at, sizeof(at)));
    paint(f, ok ? GREEN : RED, ok ? "applied" : "refused");
    fputc('\n', f);
    if (ok)
        return;
    struct str rest = str_of(text_of(reload, "text")), line;
    while (rest.n && str_split(&rest, '\n', &line))
        if (line.n)
            fprintf(f, "          " STR_FMT "\n", STR_ARG(line));
}

static void title(FILE *f, const char *text)
{
    fputc('\n', f);
    paint(f, BOLD, text);
    fputc('\n', f);
}

static void listeners(FILE *f, const json_t *all)
{
    size_t i;
    json_t *l;
    title(f, "listeners");
    json_array_foreach(all, i, l)
    {
        long long lent = number_of(l, "lent"), unserved = number_of(l, "unserved");
        fprintf(f, "  %-6s  %s", text_of(l, "kind"), text_of(l, "address"));
        if (json_is_true(json_object_get(l, "ipv4_only")))
            paint(f, YELLOW, "  IPv4 only");
        if (lent)
            fprintf(f, "  %lld of %lld sockets lent", lent, number_of(l, "sockets"));
        if (unserved)
            paint(f, RED, "  not all sockets are served");
        fputc('\n', f);
    }
}

static void workers(FILE *f, const json_t *all)
{
    char up[32];
    size_t i;
    json_t *w;
    title(f, "workers");
    paint(f, DIM,
          "  worker  pid      state      up        restarts  connections  requests  served\n");
    json_array_foreach(all, i, w)
    {
        if (!json_object_get(w, "connections")) {
            fprintf(f, "  %-6s  %-7s  ", "-", "-");
            state(f, text_of(w, "state"), 9);
            fprintf(f, "  restarts %lld\n", number_of(w, "restarts"));
            continue;
        }
        fprintf(f, "  %-6lld  %-7lld  ", number_of(w, "worker"), number_of(w, "pid"));
        state(f, text_of(w, "state"), 9);
        fprintf(f, "  %-8s  %-8lld  %-11lld  %-8lld  %lld\n",
                span(number_of(w, "uptime"), up, sizeof(up)), number_of(w, "restarts"),
                number_of(w, "connections"), number_of(w, "requests"),
                number_of(w, "requests_total"));
    }
}

static void agent(FILE *f, const json_t *a)
{
    const char *problem = text_of(a, "problem");
    fprintf(f, "  agent   %-7lld  ", number_of(a, "pid"));
    state(f, text_of(a, "state"), 9);
    fprintf(f, "            %lld\n", number_of(a, "restarts"));
    if (*problem) {
        fputs("          ", f);
        paint(f, RED, problem);
        fputc('\n', f);
    }
}

static void sites(FILE *f, const json_t *all)
{
    size_t i;
    json_t *s;
    if (json_array_size(all))
        title(f, "channels and sites");
    json_array_foreach(all, i, s)
    {
        fprintf(f, "  %-8s %-20s %s\n", text_of(s, "kind"), text_of(s, "name"), text_of(s, "host"));
    }
}

static void instance(FILE *f, const json_t *in)
{
    char since[32], pid[24] = "-";
    const char *error = text_of(in, "last_error"), *ended = text_of(in, "last_exit");
    if (number_of(in, "pid"))
        snprintf(pid, sizeof(pid), "%lld", number_of(in, "pid"));
    fprintf(f, "    %-7s  ", pid);
    state(f, text_of(in, "state"), 9);
    fprintf(f, "  %-8s  %s", span(number_of(in, "since_s"), since, sizeof(since)),
            text_of(in, "address"));
    if (number_of(in, "restarts"))
        fprintf(f, "  %lld restarts", number_of(in, "restarts"));
    if (*error || *ended) {
        fputs("  ", f);
        paint(f, RED, *error ? error : ended);
    }
    fputc('\n', f);
}

static void services(FILE *f, const json_t *all)
{
    size_t i, k;
    json_t *s, *in;
    if (json_array_size(all))
        title(f, "services");
    json_array_foreach(all, i, s)
    {
        fprintf(f, "  %s\n", text_of(s, "service"));
        json_array_foreach(json_object_get(s, "instances"), k, in)
        {
            instance(f, in);
        }
    }
}

static void certificates(FILE *f, const json_t *all)
{
    char at[32];
    size_t i;
    json_t *c;
    if (json_array_size(all))
        title(f, "certificates");
    json_array_foreach(all, i, c)
    {
        const char *host = text_of(c, "host"), *file = text_of(c, "file");
        fprintf(f, "  %-30s  %-6s", *host ? host : file, text_of(c, "issuer"));
        if (number_of(c, "not_after"))
            fprintf(f, "  until %s", when(number_of(c, "not_after"), at, sizeof(at)));
        fputc('\n', f);
    }
}

void cli_print_status(const json_t *s, bool colour, FILE *to)
{
    colours = colour;
    head(to, s);
    listeners(to, json_object_get(s, "listeners"));
    workers(to, json_object_get(s, "workers"));
    agent(to, json_object_get(s, "agent"));
    sites(to, json_object_get(s, "sites"));
    services(to, json_object_get(s, "services"));
    certificates(to, json_object_get(s, "certificates"));
}
