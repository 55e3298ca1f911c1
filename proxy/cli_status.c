/*
 * cli_status.c - `headgate status` for people: what serves, what does not, and since when.
 */
#include <time.h>

#include "proxy/cli.h"
#include "proxy/cli_show.h"

#define TEXT_LINES  24 /* of what a reload said */
#define SLOTS_SHOWN 4

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
    show_paint(f, state_colour(text), text);
    int n = (int)strlen(text);
    fprintf(f, "%*s", width > n ? width - n : 0, "");
}

/* "680ms", "12s": until something is tried again. */
static void next_start(FILE *f, const json_t *j)
{
    char text[32];
    long long ms = show_number(j, "next_start_ms");
    if (ms >= 1000)
        fprintf(f, "next start in %s", show_span((ms + 999) / 1000, text, sizeof(text)));
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
    long long s = show_number(reload, "at");
    fprintf(f, "reload    ");
    show_paint(f, ok ? GREEN : RED, ok ? "applied" : "refused");
    fprintf(f, "  %s, %s ago\n", show_when(s, at, sizeof(at)),
            show_span(MAX((long long)time(NULL) - s, 0), ago, sizeof(ago)));
    struct str rest = str_of(show_text(reload, "text")), line;
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
    const long long connections = show_number(counters, "connections"),
                    requests = show_number(counters, "requests");
    fprintf(f, "traffic   %lld connection%s", connections, connections == 1 ? "" : "s");
    kinds(f, " (", json_object_get(t, "connections"), ")");
    fprintf(f, "\n          %lld request%s under way", requests, requests == 1 ? "" : "s");
    kinds(f, " (", json_object_get(t, "requests"), ")");
    fprintf(f, ", %lld begun since the start", show_number(counters, "requests_total"));
    if (show_number(counters, "requests_waiting")) {
        fputs(", ", f);
        show_paint(f, YELLOW, "some wait for a service");
    }
    fputc('\n', f);
}

static void head(FILE *f, const json_t *s)
{
    char up[32];
    const json_t *config = json_object_get(s, "config"), *counters = json_object_get(s, "counters");
    const char *waits = show_text(s, "waits_for");
    show_paint(f, BOLD, "headgate");
    fprintf(f, " %s  ", show_text(s, "version"));
    state(f, show_text(s, "state"), 0);
    if (*waits)
        fprintf(f, " (waits for %s)", waits);
    fprintf(f, "  pid %lld  up %s\n", show_number(s, "pid"),
            show_span(show_number(s, "uptime"), up, sizeof(up)));
    fprintf(f, "config    %s (generation %lld)\n", show_text(config, "file"),
            show_number(config, "generation"));
    fprintf(f, "state     %s\n", show_text(config, "state"));
    traffic(f, json_object_get(s, "traffic"), counters);
    reload_line(f, json_object_get(s, "reload"));
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
        fprintf(f, "%sslot %lld ", before, show_number(s, "slot"));
        if (lent)
            fprintf(f, "lent to worker %lld", show_number(s, "worker"));
        else
            show_paint(f, RED, "not served");
        before = ", ";
    }
}

static void listeners(FILE *f, const json_t *all)
{
    size_t i;
    json_t *l;
    show_title(f, "listeners");
    show_paint(f, DIM, "           address                         state          connections\n");
    json_array_foreach(all, i, l)
    {
        fprintf(f, "  %-7s  %-30s  ", show_text(l, "kind"), show_text(l, "address"));
        state(f, show_text(l, "state"), 13);
        fprintf(f, "  %-11lld", show_number(l, "connections"));
        slots(f, json_object_get(l, "slots"));
        if (json_is_true(json_object_get(l, "ipv4_only")))
            show_paint(f, YELLOW, "  IPv4 only");
        fputc('\n', f);
    }
}

/* The columns that all processes of ours share. */
static void process(FILE *f, const char *what, const json_t *p)
{
    char up[32] = "-", pid[24] = "-";
    if (show_number(p, "pid"))
        snprintf(pid, sizeof(pid), "%lld", show_number(p, "pid"));
    if (json_object_get(p, "uptime"))
        show_span(show_number(p, "uptime"), up, sizeof(up));
    fprintf(f, "  %-9s  %-7s  ", what, pid);
    state(f, show_text(p, "state"), 9);
    fprintf(f, "  %-8s  %-8lld", up, show_number(p, "restarts"));
}

static void workers(FILE *f, const json_t *all)
{
    char what[32];
    size_t i;
    json_t *w;
    show_title(f, "processes");
    show_paint(
        f, DIM,
        "             pid      state      up        restarts  connections  requests  begun\n");
    json_array_foreach(all, i, w)
    {
        bool slot = json_is_integer(json_object_get(w, "slot"));
        bool orphan = !slot && !json_is_integer(json_object_get(w, "worker"));
        snprintf(what, sizeof(what), orphan ? "orphan" : "worker %lld",
                 show_number(w, slot ? "slot" : "worker"));
        process(f, what, w);
        if (json_object_get(w, "connections")) {
            fprintf(f, "  %-11lld  %-8lld  %lld", show_number(w, "connections"),
                    show_number(w, "requests"), show_number(w, "requests_total"));
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
    const char *problem = show_text(a, "problem");
    process(f, "agent", a);
    if (json_object_get(a, "next_start_ms")) {
        fputs("  ", f);
        next_start(f, a);
    }
    if (*problem) {
        fputs("\n             ", f);
        show_paint(f, RED, problem);
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
        show_title(f, "channels and sites");
    json_array_foreach(all, i, s)
    {
        fprintf(f, "  %-8s %-20s %s", show_text(s, "kind"), show_text(s, "name"),
                show_text(s, "host"));
        names(f, ", ", json_object_get(s, "aliases"));
        names(f, "  redirected from ", json_object_get(s, "redirect_from"));
        fputc('\n', f);
    }
}

/* How it came to its last end, and when it is tried again. */
static void troubles(FILE *f, const json_t *in)
{
    const char *error = show_text(in, "last_error"), *ended = show_text(in, "last_exit");
    long long restarts = show_number(in, "restarts");
    bool fine = strcmp(show_text(in, "state"), "ready") == 0;
    if (json_object_get(in, "next_start_ms")) {
        fputs("  ", f);
        next_start(f, in);
    }
    if (show_number(in, "failures") > 1) {
        char for_long[32], text[96];
        snprintf(text, sizeof(text), "  CRASH LOOP: failed %lld times in %s,",
                 show_number(in, "failures"),
                 show_span(show_number(in, "failing_s"), for_long, sizeof(for_long)));
        show_paint(f, RED, text);
    }
    if (restarts)
        fprintf(f, "  %lld %s", restarts, restarts == 1 ? "restart" : "restarts");
    if (*show_text(in, "not_ready"))
        fprintf(f, "  not ready yet: %s", show_text(in, "not_ready"));
    if (*error || *ended) {
        fputs(restarts ? ", last: " : "  ", f);
        show_paint(f, fine ? DIM : RED, *error ? error : ended);
    }
    if (*show_text(in, "last_failure")) {
        fputs("  last failure: ", f);
        show_paint(f, fine ? DIM : RED, show_text(in, "last_failure"));
    }
}

static void instance(FILE *f, const char *service, bool url, const json_t *in)
{
    char since[32], pid[24] = "-", memory[24] = "";
    const char *address = show_text(in, "address");
    if (show_number(in, "pid"))
        snprintf(pid, sizeof(pid), "%lld", show_number(in, "pid"));
    if (show_number(in, "rss"))
        snprintf(memory, sizeof(memory), "%.1fMiB", (double)show_number(in, "rss") / 1048576);
    fprintf(f, "  %-20s  %-7s  ", service, url ? "url" : pid);
    state(f, show_text(in, "state"), 9);
    fprintf(f, "  %-8s  %-8s  %s", show_span(show_number(in, "since_s"), since, sizeof(since)),
            memory, *address ? address : "-");
    if (*show_text(in, "says"))
        fprintf(f, "  says: %s", show_text(in, "says"));
    troubles(f, in);
    if (*show_text(in, "warning")) {
        fputs("  ", f);
        show_paint(f, YELLOW, show_text(in, "warning"));
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
        if (!*show_text(name, "error"))
            continue;
        fprintf(f, "  %-20s  ", show_text(name, "name"));
        show_paint(f, show_number(name, "addresses") ? DIM : RED, show_text(name, "error"));
        if (show_number(name, "addresses"))
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
    show_title(f, "services");
    show_paint(f, DIM, "                        pid      state      for       memory    address\n");
    json_array_foreach(all, i, s)
    {
        const char *name = show_text(s, "service");
        bool url = strcmp(show_text(s, "kind"), "url") == 0;
        json_array_foreach(json_object_get(s, "instances"), k, in)
        {
            instance(f, k ? "" : name, url, in);
        }
        if (!json_array_size(json_object_get(s, "instances")))
            fprintf(f, "  %-20s  -        %s\n", name, show_text(s, "state"));
        backend_names(f, json_object_get(s, "names"));
    }
}

/* What is not well with it, or when it is renewed. */
static void by_acme(FILE *f, const json_t *c)
{
    char at[32];
    const char *step = show_text(c, "state"), *error = show_text(c, "error");
    const long long failures = show_number(c, "failures"), next = show_number(c, "next_at");
    if (!json_is_true(json_object_get(c, "serving")))
        show_paint(f, strcmp(step, "working") == 0 ? YELLOW : RED, "  none yet");
    if (strcmp(step, "working") == 0)
        fputs("  an order is under way", f);
    else if (next)
        fprintf(f, "  %s %s", failures || strcmp(step, "waiting") == 0 ? "next try" : "renewed",
                show_when(next, at, sizeof(at)));
    if (failures)
        fprintf(f, "  failed %lld %s", failures, failures == 1 ? "time" : "times");
    if (*error) {
        fputs("\n      ", f);
        show_paint(f, RED, error);
    }
}

static void certificates(FILE *f, const json_t *all)
{
    char at[32];
    size_t i;
    json_t *c;
    if (json_array_size(all))
        show_title(f, "certificates");
    json_array_foreach(all, i, c)
    {
        const char *host = show_text(c, "host"), *file = show_text(c, "file");
        fprintf(f, "  %-30s  %-11s", *host ? host : file, show_text(c, "issuer"));
        if (show_number(c, "not_after"))
            fprintf(f, "  until %s", show_when(show_number(c, "not_after"), at, sizeof(at)));
        if (json_object_get(c, "failures"))
            by_acme(f, c);
        fputc('\n', f);
    }
}

void cli_print_status(const json_t *s, bool colour, FILE *to)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    ASSERT(f);
    show_colours(colour);
    head(f, s);
    listeners(f, json_object_get(s, "listeners"));
    workers(f, json_object_get(s, "workers"));
    agent(f, json_object_get(s, "agent"));
    sites(f, json_object_get(s, "sites"));
    services(f, json_object_get(s, "services"));
    certificates(f, json_object_get(s, "certificates"));
    ASSERT(fclose(f) == 0);
    show_without_padding((struct str){text, n}, to);
    free(text);
}
