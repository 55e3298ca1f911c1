/*
 * cli_certs.c - `headgate certs`: what the server says of certificates, for people. Orders, backoff
 * and limits are the agent's; what is printed of them here came from it.
 */
#include "proxy/cli.h"

#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "proxy/admin.h"
#include "proxy/cli_show.h"
#include "proxy/cli_table.h"

#define HISTORY_SHOWN 3   /* lines of it, unless one host is asked for */
#define TEXT_SHOWN    100 /* bytes of the text of each, likewise */
#define SOON          (7 * 86400)

/* ---- times ---- */

/* "in 59 days (2026-01-25 12:00:00)", "5 minutes ago (…)". */
static void moment(FILE *f, long long at, long long now)
{
    char span[32], when[32];
    show_when(at, when, sizeof(when));
    if (at > now)
        fprintf(f, "in %s (%s)", show_span_words(at - now, span, sizeof(span)), when);
    else if (at + 1 >= now)
        fprintf(f, "now (%s)", when);
    else
        fprintf(f, "%s ago (%s)", show_span_words(now - at, span, sizeof(span)), when);
}

/* ---- one host ---- */

static void label(FILE *f, const char *text)
{
    fputs("  ", f);
    show_paint(f, DIM, text);
    fprintf(f, "%*s", (int)(10 - MIN(strlen(text), (size_t)9)), "");
}

/* A sentence may have lines of its own: they stand below each other. */
static void lines(FILE *f, const char *colour, const char *text)
{
    struct str rest = str_of(text), line;
    bool first = true;
    while (rest.n && str_split(&rest, '\n', &line)) {
        char buf[1024];
        struct out o = out_on(buf, sizeof(buf) - 1);
        out_str(&o, str_sub(line, 0, sizeof(buf) - 1));
        buf[o.n] = '\0';
        if (!first)
            fprintf(f, "%12s", "");
        show_paint(f, colour, buf);
        fputc('\n', f);
        first = false;
    }
    if (first)
        fputc('\n', f);
}

static void head(FILE *f, const json_t *h, long long now)
{
    const char *state = show_text(h, "state");
    const bool serving = json_is_true(json_object_get(h, "serving")),
               over = show_number(h, "not_after") && show_number(h, "not_after") <= now;
    show_paint(f, BOLD, show_text(h, "host"));
    fputs("  ", f);
    if (over)
        show_paint(f, RED, "the certificate has expired");
    else if (!serving)
        show_paint(f, strcmp(state, "working") == 0 ? YELLOW : RED, "no certificate yet");
    else if (strcmp(state, "waiting") == 0)
        show_paint(f, YELLOW,
                   show_number(h, "failures") ? "served, its renewal failed"
                                              : "served, its renewal waits");
    else
        show_paint(f, GREEN, "served");
    if (strcmp(state, "working") == 0)
        fputs(", an order is under way", f);
    fputc('\n', f);
}

static void validity(FILE *f, const json_t *h, long long now)
{
    const long long end = show_number(h, "not_after"), begin = show_number(h, "not_before");
    char when[32];
    if (*show_text(h, "issuer")) {
        label(f, "issuer");
        fprintf(f, "%s\n", show_text(h, "issuer"));
    }
    if (!end)
        return;
    label(f, end > now ? "ends" : "ended");
    moment(f, end, now);
    if (begin)
        fprintf(f, ", begun %s", show_when(begin, when, sizeof(when)));
    if (end > now && end - now < SOON && end - begin > 2 * SOON)
        show_paint(f, RED, "  soon");
    fputc('\n', f);
}

static void next_step(FILE *f, const json_t *h, long long now)
{
    const json_t *next = json_object_get(h, "next"), *ari = json_object_get(h, "ari");
    char from[32], to[32];
    const char *what = show_text(next, "what");
    what += strncmp(what, "next ", 5) == 0 ? 5 : 0; /* the label says so */
    if (show_number(next, "at") || *what) {
        label(f, "next");
        fprintf(f, "%s", *what ? what : "the next try");
        if (show_number(next, "at")) {
            fputc(' ', f);
            moment(f, show_number(next, "at"), now);
        }
        fputc('\n', f);
    }
    if (!show_number(ari, "start"))
        return;
    label(f, "CA says");
    fprintf(f, "renew between %s and %s", show_when(show_number(ari, "start"), from, sizeof(from)),
            show_when(show_number(ari, "end"), to, sizeof(to)));
    fprintf(f, "%s%s\n", *show_text(ari, "url") ? ": " : "", show_text(ari, "url"));
}

static void trouble(FILE *f, const json_t *h, long long now)
{
    const json_t *error = json_object_get(h, "error");
    const long long failures = show_number(h, "failures");
    const bool well = !json_is_object(error) && strcmp(show_text(h, "state"), "served") == 0;
    if (*show_text(h, "preflight") && !well) {
        label(f, "looks");
        lines(f, YELLOW, show_text(h, "preflight"));
    }
    if (!json_is_object(error))
        return;
    label(f, failures ? "failed" : "waits"); /* for a limit, a pause, another headgate */
    if (failures > 1)
        fprintf(f, "%lld times in a row, last ", failures);
    moment(f, show_number(error, "at"), now);
    fprintf(f, "%s%s\n", *show_text(error, "ca") ? " at " : "", show_text(error, "ca"));
    label(f, "why");
    lines(f, RED, show_text(error, "text"));
    if (!*show_text(error, "hint"))
        return;
    label(f, "cure");
    lines(f, BOLD, show_text(error, "hint"));
}

/* So much of a text as fits a line, in whole characters. */
static int beginning(const char *text, size_t most)
{
    size_t n = MIN(strcspn(text, "\n"), most);
    while (n && text[n] && ((unsigned char)text[n] & 0xc0) == 0x80)
        n--;
    return (int)n;
}

static void event(FILE *f, const json_t *x, bool whole)
{
    char when[32];
    const bool ok = json_is_true(json_object_get(x, "ok"));
    const char *what = show_text(x, "what"), *text = show_text(x, "text");
    const int n = beginning(text, whole ? SIZE_MAX : TEXT_SHOWN);
    fprintf(f, "%s  ", show_when(show_number(x, "at"), when, sizeof(when)));
    const bool waits = strcmp(what, "waits") == 0;
    if (!ok && !waits && strcmp(what, "failed") != 0)
        show_paint(f, RED, "failed ");
    show_paint(f, ok ? GREEN : waits ? YELLOW : RED, what);
    fprintf(f, "%s%.*s%s\n", n ? ": " : "", n, text, text[n] ? "…" : "");
}

/* The newest first; of a host that is well the last one will do. */
static void history(FILE *f, const json_t *h, bool whole)
{
    const json_t *all = json_object_get(h, "history");
    const size_t n = json_array_size(all);
    const bool well = !json_is_object(json_object_get(h, "error"));
    const size_t most = whole ? n : MIN(n, (size_t)(well ? 1 : HISTORY_SHOWN));
    for (size_t i = 0; i < most; i++) {
        if (i)
            fprintf(f, "%12s", "");
        else
            label(f, "history");
        event(f, json_array_get(all, n - 1 - i), whole);
    }
    if (most < n)
        fprintf(f, "%12s… and %zu more: headgate certs show %s\n", "", n - most,
                show_text(h, "host"));
}

static void host(FILE *f, const json_t *h, long long now, bool whole)
{
    head(f, h, now);
    validity(f, h, now);
    next_step(f, h, now);
    trouble(f, h, now);
    history(f, h, whole);
}

/* ---- CAs, and certificates of other kinds ---- */

static void limits(FILE *f, const json_t *all, long long now)
{
    size_t i;
    json_t *l;
    json_array_foreach(all, i, l)
    {
        const long long used = show_number(l, "used"), limit = show_number(l, "limit");
        if (i)
            fprintf(f, "%12s", "");
        else
            label(f, "limits");
        fprintf(f, "%s: %lld of %lld used", show_text(l, "what"), used, limit);
        if (show_number(l, "until") > now) {
            fputs(", the next one ", f);
            moment(f, show_number(l, "until"), now);
        }
        fputc('\n', f);
    }
}

static void ca(FILE *f, const json_t *c, long long now)
{
    const long long paused = show_number(c, "paused_until");
    show_paint(f, BOLD, show_text(c, "name"));
    fprintf(f, "  %s\n", show_text(c, "directory"));
    label(f, "account");
    fprintf(f, "%s\n", *show_text(c, "account") ? show_text(c, "account") : "none yet");
    if (paused > now) {
        label(f, "paused");
        fputs("nothing is asked of it before ", f);
        moment(f, paused, now);
        fputc('\n', f);
    }
    if (*show_text(c, "problem")) {
        label(f, "problem");
        lines(f, RED, show_text(c, "problem"));
    }
    limits(f, json_object_get(c, "limits"), now);
}

/* Given files, and what the local CA signed: those that the agent has no more to tell of. */
static void others(FILE *f, const json_t *all, long long now)
{
    size_t i;
    json_t *c;
    bool any = false;
    json_array_foreach(all, i, c)
    {
        if (json_object_get(c, "failures"))
            continue; /* by ACME */
        if (!any)
            show_title(f, "given, and of the local CA");
        any = true;
        const char *name = *show_text(c, "host") ? show_text(c, "host") : show_text(c, "file");
        fprintf(f, "  %-30s  %-6s", name, show_text(c, "issuer"));
        if (show_number(c, "not_after")) {
            fputs("  ends ", f);
            moment(f, show_number(c, "not_after"), now);
        }
        fputc('\n', f);
    }
}

/* ---- the whole ---- */

static unsigned hosts(FILE *f, const json_t *all, const char *only, long long now)
{
    unsigned shown = 0;
    size_t i;
    json_t *h;
    json_array_foreach(all, i, h)
    {
        if (only && strcmp(show_text(h, "host"), only) != 0)
            continue;
        if (shown++)
            fputc('\n', f);
        host(f, h, now, only != NULL);
    }
    return shown;
}

bool cli_print_certs(const json_t *certs, const char *only, int64_t now, bool colour, FILE *to)
{
    char *text = NULL;
    size_t n = 0, i;
    json_t *c;
    FILE *f = open_memstream(&text, &n);
    ASSERT(f);
    show_colours(colour);
    unsigned shown = hosts(f, json_object_get(certs, "hosts"), only, now);
    if (!only) {
        json_array_foreach(json_object_get(certs, "cas"), i, c)
        {
            if (shown++)
                fputc('\n', f);
            ca(f, c, now);
        }
        if (!shown)
            fputs("No host gets its certificate by ACME.\n", f);
        others(f, json_object_get(certs, "certificates"), now);
    }
    ASSERT(fclose(f) == 0);
    show_without_padding((struct str){text, n}, to);
    free(text);
    return shown > 0;
}

/* The agent's part of the answer is text, into which the master did not look: its members go beside
 * the master's own. False: it is no JSON. */
static bool unfold(json_t *reply)
{
    const json_t *agent = json_object_get(reply, "agent");
    json_error_t e;
    if (!json_is_string(agent))
        return true; /* refused: the agent had no part in it */
    json_t *its = json_loadb(json_string_value(agent), json_string_length(agent), 0, &e);
    const bool ok = json_is_object(its) && json_object_update(reply, its) == 0;
    json_decref(its);
    json_object_del(reply, "agent");
    return ok;
}

/* What is asked of the agent: the action, or all there is to tell. */
static const char *wanted(const struct cli *c)
{
    return !c->action || strcmp(c->action->name, "show") == 0 ? "list" : c->action->name;
}

static int print(struct cli *c, json_t *reply)
{
    const int status = (int)show_number(reply, "status");
    FILE *to = status == ADMIN_FINE ? stdout : stderr;
    if (isatty(fileno(to)))
        cli_make_harmless(reply);
    if (strcmp(wanted(c), "list") != 0 || status != ADMIN_FINE) {
        const char *text = show_text(reply, "text");
        fputs(text, to);
        if (*text && text[strlen(text) - 1] != '\n')
            fputc('\n', to);
        return status;
    }
    if (cli_print_certs(reply, c->word, time(NULL), cli_wants_colour(stdout), stdout) || !c->word)
        return status;
    fprintf(stderr, "headgate: no certificate of `%s` comes by ACME; `headgate certs` has all\n",
            c->word);
    return ADMIN_FAILED;
}

int cli_verb_certs(struct cli *c)
{
    json_t *reply = cli_ask(c, json_pack("{s:s, s:s, s:s}", "verb", "certs", "what", wanted(c),
                                         "host", c->word ? c->word : ""));
    if (!reply)
        return ADMIN_NO_SERVER;
    if (!unfold(reply)) {
        fputs("headgate: the server's answer cannot be read; is it of another version?\n", stderr);
        json_decref(reply);
        return ADMIN_FAILED;
    }
    if (c->json)
        return cli_show_reply(c, reply);
    int status = print(c, reply);
    json_decref(reply);
    return status;
}
