/*
 * cli_status.c - `headgate status` for people: what serves, what does not, and since when.
 */
#include <time.h>

#include "proxy/cli.h"

#define BOLD        "1"
#define DIM         "2"
#define GREEN       "32"
#define YELLOW      "33"
#define RED         "31"

#define TEXT_LINES  24 /* of what a reload said */
#define SLOTS_SHOWN 4

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

/* "680ms", "12s": until something is tried again. */
static void next_start(FILE *f, const json_t *j)
{
    char text[32];
    long long ms = number_of(j, "next_start_ms");
    if (ms >= 1000)
        fprintf(f, "next start in %s", span((ms + 999) / 1000, text, sizeof(text)));
    else if (ms > 0)
        fprintf(f, "next start in %lldms", ms);
    else
        fputs("starts now", f);
}

static void reload_line(FILE *f, const json_t *reload)
{
    char at[32], ago[32];
    if (json_is_true(json_object_get(reload, "under_way")))
        fputs("reload    under way\n", f);
    if (!json_object_get(reload, "at"))
        return;
    bool ok = json_is_true(json_object_get(reload, "ok"));
    long long s = number_of(reload, "at");
    fprintf(f, "reload    ");
    paint(f, ok ? GREEN : RED, ok ? "applied" : "refused");
    fprintf(f, "  %s, %s ago\n", when(s, at, sizeof(at)),
            span(MAX((long long)time(NULL) - s, 0), ago, sizeof(ago)));
    struct str rest = str_of(text_of(reload, "text")), line;
    for (unsigned shown = 0; rest.n && str_split(&rest, '\n', &line); shown++) {
        if (shown == TEXT_LINES) {
            fputs("          … `headgate status --json` has all of it\n", f);
            return;
        }
        if (line.n)
            fprintf(f, "          " STR_FMT "\n", STR_ARG(line));
    }
}

/* "2 http, 1 sse" between the two: what there is of each kind; nothing where there is nothing. */
static void kinds(FILE *f, const char *before, const json_t *of, const char *after)
{
    const char *kind, *first = before;
    json_t *n;
    json_object_foreach((json_t *)(uintptr_t)of, kind, n)
    {
        if (json_integer_value(n) == 0)
            continue;
        fprintf(f, "%s%lld %s", before, json_integer_value(n), kind);
        before = ", ";
    }
    if (before != first)
        fputs(after, f);
}

static void traffic(FILE *f, const json_t *t, const json_t *counters)
{
    const long long connections = number_of(counters, "connections"),
                    requests = number_of(counters, "requests");
    fprintf(f, "traffic   %lld connection%s", connections, connections == 1 ? "" : "s");
    kinds(f, " (", json_object_get(t, "connections"), ")");
    fprintf(f, "\n          %lld request%s under way", requests, requests == 1 ? "" : "s");
    kinds(f, " (", json_object_get(t, "requests"), ")");
    fprintf(f, ", %lld begun since the start", number_of(counters, "requests_total"));
    if (number_of(counters, "requests_waiting")) {
        fputs(", ", f);
        paint(f, YELLOW, "some wait for a service");
    }
    fputc('\n', f);
}

static void head(FILE *f, const json_t *s)
{
    char up[32];
    const json_t *config = json_object_get(s, "config"), *counters = json_object_get(s, "counters");
    const char *waits = text_of(s, "waits_for");
    paint(f, BOLD, "headgate");
    fprintf(f, " %s  ", text_of(s, "version"));
    state(f, text_of(s, "state"), 0);
    if (*waits)
        fprintf(f, " (waits for %s)", waits);
    fprintf(f, "  pid %lld  up %s\n", number_of(s, "pid"),
            span(number_of(s, "uptime"), up, sizeof(up)));
    fprintf(f, "config    %s (generation %lld)\n", text_of(config, "file"),
            number_of(config, "generation"));
    fprintf(f, "state     %s\n", text_of(config, "state"));
    traffic(f, json_object_get(s, "traffic"), counters);
    reload_line(f, json_object_get(s, "reload"));
}

static void title(FILE *f, const char *text)
{
    fputc('\n', f);
    paint(f, BOLD, text);
    fputc('\n', f);
}

/* Only the slots whose own worker does not accept are worth a word. */
static void slots(FILE *f, const json_t *all)
{
    const char *before = "  ";
    unsigned shown = 0;
    size_t i;
    json_t *s;
    json_array_foreach(all, i, s)
    {
        bool lent = json_is_true(json_object_get(s, "lent"));
        bool idle = json_is_null(json_object_get(s, "worker"));
        if (!lent && !idle)
            continue;
        if (++shown > SLOTS_SHOWN) {
            fputs(", …", f);
            return;
        }
        fprintf(f, "%sslot %lld ", before, number_of(s, "slot"));
        if (lent)
            fprintf(f, "lent to worker %lld", number_of(s, "worker"));
        else
            paint(f, RED, "not served");
        before = ", ";
    }
}

static void listeners(FILE *f, const json_t *all)
{
    size_t i;
    json_t *l;
    title(f, "listeners");
    paint(f, DIM, "           address                         state          connections\n");
    json_array_foreach(all, i, l)
    {
        fprintf(f, "  %-7s  %-30s  ", text_of(l, "kind"), text_of(l, "address"));
        state(f, text_of(l, "state"), 13);
        fprintf(f, "  %-11lld", number_of(l, "connections"));
        slots(f, json_object_get(l, "slots"));
        if (json_is_true(json_object_get(l, "ipv4_only")))
            paint(f, YELLOW, "  IPv4 only");
        fputc('\n', f);
    }
}

/* The columns that all processes of ours share. */
static void process(FILE *f, const char *what, const json_t *p)
{
    char up[32] = "-", pid[24] = "-";
    if (number_of(p, "pid"))
        snprintf(pid, sizeof(pid), "%lld", number_of(p, "pid"));
    if (json_object_get(p, "uptime"))
        span(number_of(p, "uptime"), up, sizeof(up));
    fprintf(f, "  %-9s  %-7s  ", what, pid);
    state(f, text_of(p, "state"), 9);
    fprintf(f, "  %-8s  %-8lld", up, number_of(p, "restarts"));
}

static void workers(FILE *f, const json_t *all)
{
    char what[32];
    size_t i;
    json_t *w;
    title(f, "processes");
    paint(f, DIM,
          "             pid      state      up        restarts  connections  requests  begun\n");
    json_array_foreach(all, i, w)
    {
        bool slot = json_is_integer(json_object_get(w, "slot"));
        bool orphan = !slot && !json_is_integer(json_object_get(w, "worker"));
        snprintf(what, sizeof(what), orphan ? "orphan" : "worker %lld",
                 number_of(w, slot ? "slot" : "worker"));
        process(f, what, w);
        if (json_object_get(w, "connections")) {
            fprintf(f, "  %-11lld  %-8lld  %lld", number_of(w, "connections"),
                    number_of(w, "requests"), number_of(w, "requests_total"));
            kinds(f, "  now: ", json_object_get(json_object_get(w, "traffic"), "requests"), "");
        } else if (orphan) {
            fputs("  of a master that was killed", f);
        } else {
            fputs("  ", f);
            next_start(f, w);
        }
        fputc('\n', f);
    }
}

static void agent(FILE *f, const json_t *a)
{
    const char *problem = text_of(a, "problem");
    process(f, "agent", a);
    if (json_object_get(a, "next_start_ms")) {
        fputs("  ", f);
        next_start(f, a);
    }
    if (*problem) {
        fputs("\n             ", f);
        paint(f, RED, problem);
    }
    fputc('\n', f);
}

static void names(FILE *f, const char *before, const json_t *all)
{
    size_t i;
    json_t *name;
    json_array_foreach(all, i, name)
    {
        fprintf(f, "%s%s", i ? ", " : before, json_string_value(name));
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
        fprintf(f, "  %-8s %-20s %s", text_of(s, "kind"), text_of(s, "name"), text_of(s, "host"));
        names(f, ", ", json_object_get(s, "aliases"));
        names(f, "  redirected from ", json_object_get(s, "redirect_from"));
        fputc('\n', f);
    }
}

/* How it came to its last end, and when it is tried again. */
static void troubles(FILE *f, const json_t *in)
{
    const char *error = text_of(in, "last_error"), *ended = text_of(in, "last_exit");
    long long restarts = number_of(in, "restarts");
    bool fine = strcmp(text_of(in, "state"), "ready") == 0;
    if (json_object_get(in, "next_start_ms")) {
        fputs("  ", f);
        next_start(f, in);
    }
    if (number_of(in, "failures") > 1) {
        char for_long[32], text[96];
        snprintf(text, sizeof(text), "  CRASH LOOP: failed %lld times in %s,",
                 number_of(in, "failures"),
                 span(number_of(in, "failing_s"), for_long, sizeof(for_long)));
        paint(f, RED, text);
    }
    if (restarts)
        fprintf(f, "  %lld %s", restarts, restarts == 1 ? "restart" : "restarts");
    if (*text_of(in, "not_ready"))
        fprintf(f, "  not ready yet: %s", text_of(in, "not_ready"));
    if (*error || *ended) {
        fputs(restarts ? ", last: " : "  ", f);
        paint(f, fine ? DIM : RED, *error ? error : ended);
    }
    if (*text_of(in, "last_failure")) {
        fputs("  last failure: ", f);
        paint(f, fine ? DIM : RED, text_of(in, "last_failure"));
    }
}

static void instance(FILE *f, const char *service, bool url, const json_t *in)
{
    char since[32], pid[24] = "-", memory[24] = "";
    const char *address = text_of(in, "address");
    if (number_of(in, "pid"))
        snprintf(pid, sizeof(pid), "%lld", number_of(in, "pid"));
    if (number_of(in, "rss"))
        snprintf(memory, sizeof(memory), "%.1fMiB", (double)number_of(in, "rss") / 1048576);
    fprintf(f, "  %-20s  %-7s  ", service, url ? "url" : pid);
    state(f, text_of(in, "state"), 9);
    fprintf(f, "  %-8s  %-8s  %s", span(number_of(in, "since_s"), since, sizeof(since)), memory,
            *address ? address : "-");
    if (*text_of(in, "says"))
        fprintf(f, "  says: %s", text_of(in, "says"));
    troubles(f, in);
    if (*text_of(in, "warning")) {
        fputs("  ", f);
        paint(f, YELLOW, text_of(in, "warning"));
    }
    fputc('\n', f);
}

/* Names of backends that mean nothing, or that were not to be looked up last. */
static void backend_names(FILE *f, const json_t *all)
{
    size_t i;
    json_t *name;
    json_array_foreach(all, i, name)
    {
        if (!*text_of(name, "error"))
            continue;
        fprintf(f, "  %-20s  ", text_of(name, "name"));
        paint(f, number_of(name, "addresses") ? DIM : RED, text_of(name, "error"));
        if (number_of(name, "addresses"))
            fputs("; the last addresses are kept", f);
        fputc('\n', f);
    }
}

static void services(FILE *f, const json_t *all)
{
    size_t i, k;
    json_t *s, *in;
    if (!json_array_size(all))
        return;
    title(f, "services");
    paint(f, DIM, "                        pid      state      for       memory    address\n");
    json_array_foreach(all, i, s)
    {
        const char *name = text_of(s, "service");
        bool url = strcmp(text_of(s, "kind"), "url") == 0;
        json_array_foreach(json_object_get(s, "instances"), k, in)
        {
            instance(f, k ? "" : name, url, in);
        }
        if (!json_array_size(json_object_get(s, "instances")))
            fprintf(f, "  %-20s  -        %s\n", name, text_of(s, "state"));
        backend_names(f, json_object_get(s, "names"));
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

/* Columns are padded, whatever follows: nothing may, and then the padding goes. */
static void without_padding(struct str text, FILE *to)
{
    struct str line;
    while (text.n && str_split(&text, '\n', &line)) {
        while (line.n && line.p[line.n - 1] == ' ')
            line.n--;
        fprintf(to, STR_FMT "\n", STR_ARG(line));
    }
}

void cli_print_status(const json_t *s, bool colour, FILE *to)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    ASSERT(f);
    colours = colour;
    head(f, s);
    listeners(f, json_object_get(s, "listeners"));
    workers(f, json_object_get(s, "workers"));
    agent(f, json_object_get(s, "agent"));
    sites(f, json_object_get(s, "sites"));
    services(f, json_object_get(s, "services"));
    certificates(f, json_object_get(s, "certificates"));
    ASSERT(fclose(f) == 0);
    without_padding((struct str){text, n}, to);
    free(text);
}
