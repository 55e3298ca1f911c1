/*
 * yaml_traps.c - what may not even reach libyaml (NUL, bad UTF-8, tabs as indentation), and plain
 * words for what libyaml stumbles over: above all values that need quotes, shown mended. The tree
 * is made in yaml.c.
 */
#include "base/utf8.h"
#include "conf/tree.h"

static bool scan_characters(struct diags *d, const struct conf_file *file)
{
    const unsigned char *p = (const unsigned char *)file->text.p;
    struct diag_place at = {.file = file->shown, .line = 1, .col = 1, .len = 1};
    for (size_t i = 0; i < file->text.n;) {
        size_t len = utf8_len(p + i, file->text.n - i);
        if (p[i] == 0) {
            diags_add(d, "E017", at, "a NUL byte: this is not a text file");
            return false;
        }
        if (len == 0) {
            unsigned id = diags_add(d, "E018", at, "byte 0x%02x is not UTF-8", p[i]);
            diags_hint(d, id, "save the file as UTF-8");
            return false;
        }
        if ((p[i] < 0x20 && p[i] != '\n' && p[i] != '\t' && p[i] != '\r') || p[i] == 0x7f) {
            unsigned id = diags_add(d, "E018", at, "control character 0x%02x", p[i]);
            diags_hint(d, id, "remove it; in double quotes it can be written as \"\\x%02x\"", p[i]);
            return false;
        }
        if (p[i] == '\n') {
            at.line++;
            at.col = 1;
        } else {
            at.col++;
        }
        i += len;
    }
    return true;
}

static size_t spaces_of(struct str line)
{
    size_t i = 0;
    while (i < line.n && line.p[i] == ' ')
        i++;
    return i;
}

/* Does a block scalar (`key: |`) begin at the end of this line? */
static bool opens_block(struct str line)
{
    struct str s = str_trim(line);
    while (s.n && strchr("+-123456789", s.p[s.n - 1]))
        s.n--;
    if (s.n < 2 || (s.p[s.n - 1] != '|' && s.p[s.n - 1] != '>'))
        return false;
    return s.p[s.n - 2] == ' ';
}

/* Tabs before the first word of a line. Inside a block scalar, behind its indentation, they are
 * text. */
static bool scan_tabs(struct diags *d, const struct conf_file *file)
{
    struct str rest = file->text, line;
    struct diag_place first = {0};
    unsigned count = 0;
    bool block = false;
    size_t block_indent = 0;
    for (unsigned no = 1; rest.n; no++) {
        size_t nl = str_chr(rest, '\n');
        line = str_sub(rest, 0, nl);
        rest = str_sub(rest, MIN(nl + 1, rest.n), rest.n);
        size_t indent = spaces_of(line);
        bool blank =
            str_trim(line).n == 0 || (str_trim(line).n == 1 && str_trim(line).p[0] == '\r');
        if (block && !blank && indent <= block_indent)
            block = false;
        if (!block && !blank && indent < line.n && line.p[indent] == '\t') {
            if (!count++)
                first = (struct diag_place){
                    .file = file->shown, .line = no, .col = (unsigned)indent + 1, .len = 1};
        }
        if (!block && opens_block(line)) {
            block = true;
            block_indent = indent;
        }
    }
    if (!count)
        return true;
    unsigned id = diags_add(d, "E010", first, "a tab as indentation");
    diags_hint(d, id, "use spaces");
    if (count > 1)
        diags_note(d, id, "%u lines of this file begin with a tab", count);
    return false;
}

bool yaml_scan(struct diags *d, struct conf_file *file)
{
    return scan_characters(d, file) && scan_tabs(d, file);
}

/* ---- values that need quotes ---- */

/* Byte offset of column col (from 1, counted in characters). */
static size_t offset_of(struct str line, unsigned col)
{
    size_t i = 0;
    for (unsigned c = 1; c < col && i < line.n; c++)
        i += MAX(utf8_len(line.p + i, line.n - i), (size_t)1);
    return i;
}

static unsigned column_of(struct str line, size_t offset)
{
    unsigned col = 1;
    for (size_t i = 0; i < offset && i < line.n; col++)
        i += MAX(utf8_len(line.p + i, line.n - i), (size_t)1);
    return col;
}

/* Behind the quoted string that begins at i, or the line's end. */
static size_t skip_quoted(struct str line, size_t i)
{
    char q = line.p[i++];
    while (i < line.n && line.p[i] != q)
        i += q == '"' && line.p[i] == '\\' && i + 1 < line.n ? 2 : 1;
    return MIN(i + 1, line.n);
}

/* End of the unquoted value that begins at `from`: a comment, the line's end, or flow punctuation.
 */
static size_t value_end(struct str line, size_t from, bool flow)
{
    size_t i = from, depth = 0;
    for (; i < line.n; i++) {
        char c = line.p[i];
        if (c == '#' && i > from && line.p[i - 1] == ' ')
            break;
        if (!flow)
            continue;
        if (c == '[' || c == '{')
            depth++;
        else if ((c == ']' || c == '}') && depth)
            depth--;
        else if ((c == ',' && !depth) || c == ']' || c == '}')
            break;
    }
    while (i > from && line.p[i - 1] == ' ')
        i--;
    return i;
}

/* `[::]:443`: a bracket that closes and goes on. */
static bool bracket_goes_on(struct str line, size_t i)
{
    size_t close = i + str_chr(str_sub(line, i, line.n), ']');
    return close + 1 < line.n && !strchr(" ,]}", line.p[close + 1]);
}

static bool needs_quotes(struct str line, size_t i)
{
    char c = line.p[i];
    char next = i + 1 < line.n ? line.p[i + 1] : ' ';
    if (c == '@' || c == '`' || c == '%' || c == '*')
        return true;
    if (c == '[')
        return bracket_goes_on(line, i);
    return c == ':' && next != ' ';
}

/* An unquoted value with ": " inside, as in `title: Errors: none`. */
static bool holds_colon(struct str line, size_t from, size_t to)
{
    for (size_t i = from; i + 1 < to; i++)
        if (line.p[i] == ':' && line.p[i + 1] == ' ')
            return true;
    return false;
}

/* The first value of the line that libyaml cannot take without quotes: its bytes are [*from, *to).
 */
static bool find_unquoted(struct str line, bool flow, size_t *from, size_t *to)
{
    bool value = false; /* a value may begin here */
    bool after_key = false;
    for (size_t i = spaces_of(line); i < line.n; i++) {
        char c = line.p[i];
        if (c == ' ')
            continue;
        if (c == '#' && (i == 0 || line.p[i - 1] == ' '))
            return false;
        if (value && needs_quotes(line, i)) {
            *from = i;
            *to = value_end(line, i, flow);
            return true;
        }
        if (after_key && !flow && !strchr("{[\"'|>&!", c) &&
            holds_colon(line, i, value_end(line, i, false))) {
            *from = i;
            *to = value_end(line, i, false);
            return true;
        }
        value = after_key = false;
        if (c == '"' || c == '\'') {
            i = skip_quoted(line, i) - 1;
        } else if (c == '{' || c == '[' || c == ',') {
            flow = flow || c != ',';
            value = true;
        } else if (c == ':' && i + 1 < line.n && line.p[i + 1] == ' ') {
            value = after_key = true;
        } else if (c == '-' && i + 1 < line.n && line.p[i + 1] == ' ' && i == spaces_of(line)) {
            value = true;
        }
    }
    return false;
}

/* The line with the value in quotes; false when no kind of quotes does. */
static bool mend(struct arena *a, struct str *line, size_t from, size_t to)
{
    struct str value = str_sub(*line, from, to);
    /* With a quote or backslash inside, single quotes need no further care but for ' itself. */
    bool single = memchr(value.p, '"', value.n) || memchr(value.p, '\\', value.n);
    const char *q = single ? "'" : "\"";
    if (single && memchr(value.p, '\'', value.n))
        return false;
    *line = arena_fmt(a, STR_FMT "%s" STR_FMT "%s" STR_FMT, STR_ARG(str_sub(*line, 0, from)), q,
                      STR_ARG(value), q, STR_ARG(str_sub(*line, to, line->n)));
    return true;
}

static bool complain_quotes(struct arena *a, struct diags *d, const struct conf_file *file,
                            unsigned line_no, bool flow)
{
    struct str line = text_line(file->text, line_no), mended = line;
    size_t from, to, next, end;
    if (!find_unquoted(line, flow, &from, &to) || to == from || !mend(a, &mended, from, to))
        return false;
    /* Others of the same line would only show in the next run. */
    for (int i = 0; i < 16 && find_unquoted(mended, flow, &next, &end) && end > next; i++)
        if (!mend(a, &mended, next, end))
            break;
    struct diag_place at = {.file = file->shown,
                            .line = line_no,
                            .col = column_of(line, from),
                            .len = column_of(line, to) - column_of(line, from)};
    char first = line.p[from];
    struct str what = first == '`' ? STR("a value that begins with a backtick needs quotes")
                      : memchr("*[:%@", first, 5)
                          ? arena_fmt(a, "a value that begins with `%c` needs quotes", first)
                          : STR("a value that holds `: ` needs quotes");
    unsigned id = diags_add(d, "E020", at, STR_FMT, STR_ARG(what));
    diags_hint(d, id, "put it in quotes");
    diags_note(d, id, "mended: " STR_FMT, STR_ARG(str_trim(mended)));
    return true;
}

/* libyaml's phrases, and ours. The first that fits wins. */
static const struct {
    const char *libyaml, *message, *hint;
} phrases[] = {
    {"could not find expected ':'", "a key without a `:` behind it", "write `key: value`"},
    {"did not find expected key", "this line does not fit the ones above it",
     "check its indentation, and the quotes and brackets above"},
    {"did not find expected '-' indicator", "this line does not fit the list above it",
     "check its indentation"},
    {"did not find expected ',' or '}'", "a `{` is not closed, or a comma is missing",
     "expected `,` or `}` here"},
    {"did not find expected ',' or ']'", "a `[` is not closed, or a comma is missing",
     "expected `,` or `]` here"},
    {"did not find expected node content", "a value is missing here", NULL},
    {"found unexpected end of stream", "a quoted text is not closed",
     "the closing quote is missing"},
    {"found unexpected document indicator", "a quoted text is not closed",
     "`---` inside of quotes"},
    {"found unknown escape character", "an unknown escape in double quotes",
     "write \\\\ for a backslash, or use single quotes"},
    {"did not find expected hexdecimal number", "a wrong escape in double quotes",
     "\\x takes two hexadecimal digits, \\u four"},
    {"mapping values are not allowed", "a second `: ` in one line, or wrong indentation",
     "one `key: value` a line; quotes around a value with `: `"},
    {"block sequence entries are not allowed", "a list item cannot stand here",
     "put it on a line of its own"},
    {"found character that cannot start any token", "a value cannot begin with this character",
     "put it in quotes"},
    {"found a tab character", "a tab where only spaces may stand", "use spaces"},
    {"did not find expected <document start>", "text behind the end of the document",
     "put the value in quotes"},
    {"did not find expected the document start", "text behind the end of the document", NULL},
    {"did not find expected alphabetic or numeric character",
     "`*` or `&` begins an alias or an anchor", "put it in quotes"},
};

void yaml_complain(struct arena *a, struct diags *d, const struct conf_file *file,
                   const char *problem, struct diag_place at, struct diag_place opened, bool flow)
{
    struct str line = text_line(file->text, at.line);
    if (complain_quotes(a, d, file, at.line, flow))
        return;
    /* A parser error is noticed at the next token, often one line late. */
    if (at.line > 1 && offset_of(line, at.col) <= spaces_of(line) &&
        complain_quotes(a, d, file, at.line - 1, flow))
        return;
    bool quote = strstr(problem, "end of stream") || strstr(problem, "document indicator");
    bool bracket = strstr(problem, "expected ','") != NULL;
    for (size_t i = 0; i < ARRAY_LEN(phrases); i++) {
        if (!strstr(problem, phrases[i].libyaml))
            continue;
        unsigned id =
            diags_add(d, "E002", quote && opened.line ? opened : at, "%s", phrases[i].message);
        if (phrases[i].hint)
            diags_hint(d, id, "%s", phrases[i].hint);
        if (bracket && opened.line)
            diags_also(d, id, opened, "opened here");
        return;
    }
    diags_add(d, "E002", at, "not YAML: %s", problem);
}
