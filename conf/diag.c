/*
 * diag.c - diagnostics are collected here and written out in order of their places: as text with
 * excerpt and carets, short, or as JSON. What the codes mean is in explain.c.
 *
 * Values of keys that sound secret are starred out of the excerpts as soon as a file's text comes
 * in.
 */
#include <jansson.h>
#include <stdlib.h>

#include "base/json.h"
#include "base/utf8.h"
#include "conf/diag.h"

#define EXCERPT_MAX 160 /* columns of an excerpt line */
#define DIAGS_MAX   500 /* more than anyone reads; the count goes on */

struct also {
    struct diag_place at;
    struct str label;
    struct also *next;
};

struct note {
    struct str text;
    struct note *next;
};

struct diag {
    const char *code;
    struct diag_place at;
    struct str message, hint;
    struct also *also;
    struct note *notes;
    unsigned order;
};

struct source {
    struct str file, text;
    struct source *next;
};

struct diags {
    struct arena *a;
    struct diag *v;
    unsigned n, cap;
    unsigned errors, warnings;
    struct source *sources; /* in the order they came */
};

struct diags *diags_new(void)
{
    struct arena *a = arena_new(8192);
    struct diags *d = arena_znew(a, struct diags);
    d->a = a;
    return d;
}

void diags_free(struct diags **d)
{
    if (!*d)
        return;
    struct arena *a = (*d)->a;
    *d = NULL;
    arena_free(&a);
}

unsigned diags_errors(const struct diags *d)
{
    return d->errors;
}

unsigned diags_warnings(const struct diags *d)
{
    return d->warnings;
}

__attribute__((format(printf, 2, 0))) static struct str format(struct arena *a, const char *fmt,
                                                               va_list ap)
{
    char none[1];
    ASSERT(fmt);
    va_list again;
    va_copy(again, ap);
    int n = vsnprintf(none, sizeof(none), fmt, again);
    va_end(again);
    ASSERT(n >= 0);
    char *p = arena_alloc(a, (size_t)n + 1);
    vsnprintf(p, (size_t)n + 1, fmt, ap);
    /* Terminals act on control characters, and texts from files get in here. */
    for (int i = 0; i < n; i++)
        if ((unsigned char)p[i] < 0x20 || p[i] == 0x7f)
            p[i] = '?';
    return (struct str){p, (size_t)n};
}

static struct diag_place keep(struct diags *d, struct diag_place at)
{
    at.file = arena_str(d->a, at.file);
    return at;
}

static bool same(const struct diag *x, const char *code, struct diag_place at, struct str message)
{
    return strcmp(x->code, code) == 0 && x->at.line == at.line && x->at.col == at.col &&
           str_eq(x->at.file, at.file) && str_eq(x->message, message);
}

unsigned diags_add(struct diags *d, const char *code, struct diag_place at, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    struct str message = format(d->a, fmt, ap);
    va_end(ap);
    /* What is merged into several channels would be said once for each. */
    for (unsigned i = 0; i < d->n; i++)
        if (same(&d->v[i], code, at, message))
            return UINT32_MAX;
    if (code[0] == 'W')
        d->warnings++;
    else
        d->errors++;
    if (d->n >= DIAGS_MAX)
        return UINT32_MAX;
    if (d->n == d->cap) {
        unsigned cap = d->cap ? d->cap * 2 : 16;
        struct diag *v = arena_zarray(d->a, struct diag, cap);
        if (d->n)
            memcpy(v, d->v, d->n * sizeof(*v));
        d->v = v;
        d->cap = cap;
    }
    d->v[d->n] = (struct diag){.code = arena_strz(d->a, str_of(code)),
                               .at = keep(d, at),
                               .message = message,
                               .order = d->n};
    return d->n++;
}

void diags_hint(struct diags *d, unsigned id, const char *fmt, ...)
{
    if (id >= d->n)
        return;
    va_list ap;
    va_start(ap, fmt);
    d->v[id].hint = format(d->a, fmt, ap);
    va_end(ap);
}

void diags_note(struct diags *d, unsigned id, const char *fmt, ...)
{
    if (id >= d->n)
        return;
    va_list ap;
    va_start(ap, fmt);
    struct note *note = arena_znew(d->a, struct note);
    note->text = format(d->a, fmt, ap);
    va_end(ap);
    struct note **end = &d->v[id].notes;
    while (*end)
        end = &(*end)->next;
    *end = note;
}

void diags_also(struct diags *d, unsigned id, struct diag_place at, const char *label)
{
    if (id >= d->n)
        return;
    struct also *also = arena_znew(d->a, struct also);
    also->at = keep(d, at);
    also->label = arena_str(d->a, str_of(label));
    struct also **end = &d->v[id].also;
    while (*end)
        end = &(*end)->next;
    *end = also;
}

/* ---- secrets ---- */

static bool word_char(char c)
{
    c = ascii_lower(c);
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
}

static bool sounds_secret(struct str key)
{
    static const char *const parts[] = {"password",      "passwd",     "secret",      "token",
                                        "hmac",          "login",      "api_key",     "apikey",
                                        "authorization", "credential", "private_key", "mac_key"};
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        struct str part = str_of(parts[i]);
        for (size_t at = 0; at + part.n <= key.n; at++)
            if (str_ieq(str_sub(key, at, at + part.n), part))
                return true;
    }
    return false;
}

/* Stars from `from` to the end of the value; a placeholder is no secret. Returns where it ends. */
static size_t star_value(char *p, size_t n, size_t from)
{
    while (from < n && (p[from] == ' ' || p[from] == '"' || p[from] == '\''))
        from++;
    if (from < n && (p[from] == '$' || p[from] == '{' || p[from] == '['))
        return from;
    while (from < n && p[from] != '\n' && p[from] != ',' && p[from] != '}' && p[from] != '"' &&
           p[from] != '\'') {
        if (p[from] == '#' && p[from - 1] == ' ')
            break;
        if (p[from] != ' ' && ((unsigned char)p[from] & 0xc0) != 0x80)
            p[from] = '*';
        from++;
    }
    return from;
}

static void star_secrets(char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        size_t start = i;
        while (i < n && word_char(p[i]))
            i++;
        if (i == start || i >= n)
            continue;
        struct str word = {p + start, i - start};
        size_t colon = i;
        if (p[colon] == '"' || p[colon] == '\'')
            colon++;
        bool key =
            colon + 1 < n && p[colon] == ':' && (p[colon + 1] == ' ' || p[colon + 1] == '\t');
        if (key && sounds_secret(word))
            i = star_value(p, n, colon + 1);
        /* http://user:password@host: everything between // and @ */
        if (p[i < n ? i : n - 1] == ':' && i + 2 < n && p[i + 1] == '/' && p[i + 2] == '/') {
            size_t end = i + 3;
            while (end < n && !strchr(" \n/,\"'}]", p[end]) && p[end] != '@')
                end++;
            if (end < n && p[end] == '@')
                memset(p + i + 3, '*', end - i - 3);
        }
    }
}

void diags_source(struct diags *d, struct str file, struct str text)
{
    struct source *s = arena_znew(d->a, struct source);
    s->file = arena_str(d->a, file);
    char *p = arena_alloc(d->a, text.n + 1);
    if (text.n)
        memcpy(p, text.p, text.n);
    star_secrets(p, text.n);
    s->text = (struct str){p, text.n};
    struct source **end = &d->sources;
    while (*end)
        end = &(*end)->next;
    *end = s;
}

/* ---- output ---- */

static unsigned file_rank(const struct diags *d, struct str file)
{
    unsigned rank = 0;
    for (const struct source *s = d->sources; s; s = s->next, rank++)
        if (str_eq(s->file, file))
            return rank;
    return rank;
}

static int by_place(const void *x, const void *y, void *ctx)
{
    const struct diag *a = *(const struct diag *const *)x, *b = *(const struct diag *const *)y;
    const struct diags *d = ctx;
    unsigned fa = file_rank(d, a->at.file), fb = file_rank(d, b->at.file);
    if (fa != fb)
        return fa < fb ? -1 : 1;
    if (a->at.line != b->at.line)
        return a->at.line < b->at.line ? -1 : 1;
    if (a->at.col != b->at.col)
        return a->at.col < b->at.col ? -1 : 1;
    return a->order < b->order ? -1 : 1;
}

struct painter {
    const struct diags *d;
    FILE *to;
    bool colour;
    int gutter; /* digits of the largest line number shown */
};

#define BOLD   "\033[1m"
#define RED    "\033[1;31m"
#define YELLOW "\033[1;33m"
#define BLUE   "\033[1;34m"

static const char *paint(const struct painter *p, const char *code)
{
    return p->colour ? code : "";
}

static const char *unpaint(const struct painter *p)
{
    return p->colour ? "\033[0m" : "";
}

static struct str line_of(const struct diags *d, struct diag_place at)
{
    for (const struct source *s = d->sources; s; s = s->next) {
        if (!str_eq(s->file, at.file) || !at.line)
            continue;
        struct str rest = s->text;
        for (unsigned i = 1; i < at.line && rest.n; i++) {
            size_t nl = str_chr(rest, '\n');
            rest = nl < rest.n ? str_sub(rest, nl + 1, rest.n) : STR_NULL;
        }
        struct str line = str_sub(rest, 0, str_chr(rest, '\n'));
        if (line.n && line.p[line.n - 1] == '\r')
            line.n--;
        return line;
    }
    return STR_NULL;
}

/*
 * The line from column `first` on, at most EXCERPT_MAX columns; what a terminal would act on and
 * bytes that are no UTF-8 become '?', tabs one space, so that the carets stay below their
 * words.
 */
static void write_line(const struct painter *p, struct str line, unsigned first)
{
    unsigned col = 0;
    for (size_t i = 0, len; i < line.n; i += len) {
        unsigned char c = (unsigned char)line.p[i];
        len = utf8_len(line.p + i, line.n - i);
        bool control =
            c < 0x20 || c == 0x7f || (len == 2 && c == 0xc2 && (unsigned char)line.p[i + 1] < 0xa0);
        bool bad = len == 0 || control;
        len = MAX(len, (size_t)1);
        if (++col < first || col >= first + EXCERPT_MAX)
            continue;
        if (bad)
            fputc(c == '\t' ? ' ' : '?', p->to);
        else
            fwrite(line.p + i, 1, len, p->to);
    }
}

static unsigned columns_of(struct str line)
{
    unsigned n = 0;
    for (size_t i = 0; i < line.n; n++)
        i += MAX(utf8_len(line.p + i, line.n - i), (size_t)1);
    return n;
}

static void write_bar(const struct painter *p)
{
    fprintf(p->to, "%s%*s |%s", paint(p, BLUE), p->gutter, "", unpaint(p));
}

static void write_excerpt(const struct painter *p, struct diag_place at, char mark,
                          const char *colour, struct str label)
{
    struct str line = line_of(p->d, at);
    if (!at.line || !line.p) {
        if (label.n)
            fprintf(p->to, "%s%*s =%s " STR_FMT "\n", paint(p, BLUE), p->gutter, "", unpaint(p),
                    STR_ARG(label));
        return;
    }
    unsigned col = MAX(at.col, 1U), first = col > 100 ? col - 60 : 1;
    write_bar(p);
    fprintf(p->to, "\n%s%*u |%s ", paint(p, BLUE), p->gutter, at.line, unpaint(p));
    write_line(p, line, first);
    fputc('\n', p->to);
    write_bar(p);
    fprintf(p->to, " %*s%s", (int)(col - first), "", paint(p, colour));
    unsigned width = columns_of(line), len = MAX(at.len, 1U);
    if (col + len > width + 1)
        len = col <= width ? width + 1 - col : 1;
    for (unsigned i = 0; i < MIN(len, (unsigned)EXCERPT_MAX); i++)
        fputc(mark, p->to);
    if (label.n)
        fprintf(p->to, " " STR_FMT, STR_ARG(label));
    fprintf(p->to, "%s\n", unpaint(p));
}

static int digits(unsigned v)
{
    int n = 1;
    while (v >= 10) {
        v /= 10;
        n++;
    }
    return n;
}

static void write_place(const struct painter *p, const char *arrow, struct diag_place at)
{
    fprintf(p->to, "%s%*s%s%s " STR_FMT, paint(p, BLUE), p->gutter, "", arrow, unpaint(p),
            STR_ARG(at.file));
    if (at.line)
        fprintf(p->to, ":%u:%u", at.line, MAX(at.col, 1U));
    fputc('\n', p->to);
}

static void write_text(struct painter *p, const struct diag *g)
{
    bool warning = g->code[0] == 'W';
    const char *colour = warning ? YELLOW : RED;
    p->gutter = MAX(digits(g->at.line), 2);
    for (const struct also *x = g->also; x; x = x->next)
        p->gutter = MAX(p->gutter, digits(x->at.line));
    fprintf(p->to, "%s%s[%s]%s: %s" STR_FMT "%s\n", paint(p, colour), warning ? "warning" : "error",
            g->code, unpaint(p), paint(p, BOLD), STR_ARG(g->message), unpaint(p));
    write_place(p, "-->", g->at);
    write_excerpt(p, g->at, '^', colour, g->hint);
    for (const struct also *x = g->also; x; x = x->next) {
        write_place(p, ":::", x->at);
        write_excerpt(p, x->at, '-', BLUE, x->label);
    }
    for (const struct note *x = g->notes; x; x = x->next)
        fprintf(p->to, "%s%*s =%s " STR_FMT "\n", paint(p, BLUE), p->gutter, "", unpaint(p),
                STR_ARG(x->text));
    fprintf(p->to, "%s%*s =%s more: headgate explain %s\n", paint(p, BLUE), p->gutter, "",
            unpaint(p), g->code);
}

static void write_short(const struct painter *p, const struct diag *g)
{
    fprintf(p->to, STR_FMT ":%u:%u: %s[%s]: " STR_FMT, STR_ARG(g->at.file), g->at.line, g->at.col,
            g->code[0] == 'W' ? "warning" : "error", g->code, STR_ARG(g->message));
    if (g->hint.n)
        fprintf(p->to, " (" STR_FMT ")", STR_ARG(g->hint));
    fputc('\n', p->to);
}

static json_t *json_place(struct diag_place at)
{
    return json_pack("{s:o,s:i,s:i,s:i}", "file", json_text(at.file), "line", (int)at.line,
                     "column", (int)at.col, "length", (int)MAX(at.len, 1U));
}

static json_t *json_diag(const struct diag *g)
{
    json_t *also = json_array(), *notes = json_array();
    for (const struct also *x = g->also; x; x = x->next) {
        json_t *place = json_place(x->at);
        json_object_set_new(place, "label", json_text(x->label));
        json_array_append_new(also, place);
    }
    for (const struct note *x = g->notes; x; x = x->next)
        json_array_append_new(notes, json_text(x->text));
    json_t *j = json_place(g->at);
    json_object_set_new(j, "code", json_string(g->code));
    json_object_set_new(j, "severity", json_string(g->code[0] == 'W' ? "warning" : "error"));
    json_object_set_new(j, "message", json_text(g->message));
    json_object_set_new(j, "hint", json_text(g->hint));
    json_object_set_new(j, "also", also);
    json_object_set_new(j, "notes", notes);
    return j;
}

static void write_json(const struct diags *d, struct diag *const *sorted, FILE *to)
{
    json_t *list = json_array();
    for (unsigned i = 0; i < d->n; i++)
        json_array_append_new(list, json_diag(sorted[i]));
    json_t *all = json_pack("{s:i,s:i,s:o}", "errors", (int)d->errors, "warnings", (int)d->warnings,
                            "diagnostics", list);
    ASSERT(all);
    json_dumpf(all, to, JSON_INDENT(2));
    fputc('\n', to);
    json_decref(all);
}

void diags_print(const struct diags *d, enum diag_format f, bool colour, FILE *to)
{
    struct diag **sorted = calloc(d->n + 1, sizeof(struct diag *));
    ASSERT(sorted);
    for (unsigned i = 0; i < d->n; i++)
        sorted[i] = &d->v[i];
    qsort_r(sorted, d->n, sizeof(*sorted), by_place, (void *)(uintptr_t)d);
    struct painter p = {.d = d, .to = to, .colour = colour};
    if (f == DIAG_JSON)
        write_json(d, sorted, to);
    for (unsigned i = 0; i < d->n && f != DIAG_JSON; i++) {
        if (f == DIAG_SHORT) {
            write_short(&p, sorted[i]);
            continue;
        }
        write_text(&p, sorted[i]);
        fputc('\n', to);
    }
    unsigned more = d->errors + d->warnings - d->n;
    if (more && f != DIAG_JSON)
        fprintf(to, "and %u more of them\n", more);
    free(sorted);
}

void diags_summary(const struct diags *d, FILE *to)
{
    if (!d->errors && !d->warnings) {
        fprintf(to, STR_FMT " is fine.\n",
                STR_ARG(d->sources ? d->sources->file : STR("The configuration")));
        return;
    }
    if (d->errors)
        fprintf(to, "%u error%s", d->errors, d->errors == 1 ? "" : "s");
    if (d->warnings)
        fprintf(to, "%s%u warning%s", d->errors ? ", " : "", d->warnings,
                d->warnings == 1 ? "" : "s");
    fputs(".\n", to);
}
