/*
 * h1_chunked.c - the chunked coding (RFC 9112 7.1), read piece by piece: sizes, extensions, data,
 * trailers. Data is handed out where it lies and never copied; trailer lines are kept in the arena
 * until the section is whole.
 */
#include "proxy/h1_fields.h"
#include "proxy/h1_parse.h"

enum { LINE_MAX_BYTES = 256, SIZE_DIGITS_MAX = 16, TRAILER_FIRST = 512 };

enum state {
    SIZE,        /* hex digits */
    SIZE_SPACE,  /* white space behind them: only an extension may follow */
    EXTENSION,   /* behind a semicolon: dropped */
    SIZE_LF,     /* the CR was there */
    DATA,        /* c->left bytes */
    DATA_CR,     /* behind the data */
    DATA_LF,     /**/
    TRAILER,     /* at the first byte of a line */
    TRAILER_IN,  /* within one */
    TRAILER_LF,  /* at its end */
    TRAILER_END, /* the LF of the empty line */
    DONE,
    BROKEN,
};

void h1_chunked_init(struct h1_chunked *c, struct arena *a, const struct h1_limits *l)
{
    *c = (struct h1_chunked){
        .state = SIZE, .arena = a, .trailer_max = l->head, .trailer_fields_max = l->fields};
}

/* ---- trailers ---- */

/* Called at the empty line: the lines in c->trailer become c->trailers. */
static const char *read_trailers(struct h1_chunked *c)
{
    struct out *o = &c->trailer;
    struct fields *f = &c->trailers;
    struct h1_lines lines;
    if (o->n == 0)
        return NULL;
    out_lit(o, "\r\n");
    ASSERT(!o->over);
    struct h1_end e = h1_find_end(o->p, 0, o->n, &lines);
    if (e.found == H1_FOUND_CONTROL)
        return "a control byte in the trailer section";
    ASSERT(e.found == H1_FOUND_END && e.at == o->n); /* CR and LF were looked at byte by byte */
    f->cap = lines.n - 1;
    if (f->cap > c->trailer_fields_max)
        return "too many trailer fields";
    f->v = arena_zarray(c->arena, struct field, f->cap);
    const char *why = h1_fields_parse(o->p, o->n, &lines, 0, f);
    if (why)
        return why;
    unsigned kept = 0;
    for (unsigned i = 0; i < f->n; i++)
        if (!http_trailer_forbidden(&f->v[i]))
            f->v[kept++] = f->v[i];
    f->n = kept;
    return NULL;
}

static const char *keep_trailer_byte(struct h1_chunked *c, char byte)
{
    struct out *o = &c->trailer;
    if (o->n >= c->trailer_max)
        return "the trailer section is too large";
    if (o->cap - o->n <= 2) { /* room for this byte and, later, the empty line */
        struct out larger = {.cap = o->cap ? o->cap * 2 : TRAILER_FIRST};
        larger.p = arena_alloc(c->arena, larger.cap);
        out_bytes(&larger, o->p, o->n);
        *o = larger;
    }
    out_char(o, byte);
    return NULL;
}

static const char *trailer_byte(struct h1_chunked *c, char b)
{
    if (c->state == TRAILER && b == '\r') {
        c->state = TRAILER_END;
        return NULL;
    }
    if (c->state == TRAILER_END) {
        if (b != '\n')
            return "a CR that stands alone in the trailer section";
        c->state = DONE;
        return read_trailers(c);
    }
    if ((c->state == TRAILER_LF) != (b == '\n'))
        return "a CR or LF that stands alone in the trailer section";
    if (c->state == TRAILER_LF)
        c->state = TRAILER;
    else
        c->state = b == '\r' ? TRAILER_LF : TRAILER_IN;
    return keep_trailer_byte(c, b);
}

/* ---- chunk lines ---- */

static int hex_value(char b)
{
    if (b >= '0' && b <= '9')
        return b - '0';
    b = ascii_lower(b);
    return b >= 'a' && b <= 'f' ? b - 'a' + 10 : -1;
}

static const char *size_digit(struct h1_chunked *c, int value)
{
    if (++c->digits > SIZE_DIGITS_MAX || c->left > (INT64_MAX >> 4))
        return "a chunk size is too large";
    c->left = c->left << 4 | (unsigned)value;
    return NULL;
}

/* What may follow the digits of a size. */
static const char *after_size(struct h1_chunked *c, char b)
{
    if (c->digits == 0)
        return "a chunk has no size";
    if (b == ';')
        c->state = EXTENSION;
    else if (b == ' ' || b == '\t')
        c->state = SIZE_SPACE;
    else if (b == '\r' && c->state == SIZE)
        c->state = SIZE_LF;
    else
        return "a chunk size is not a number";
    return NULL;
}

static const char *extension_byte(struct h1_chunked *c, char b)
{
    unsigned char u = (unsigned char)b;
    if (b == '\r')
        c->state = SIZE_LF;
    else if ((u < 0x20 && b != '\t') || u == 0x7f)
        return "a control byte in a chunk extension";
    return NULL;
}

/* One byte of a line, whichever; NULL or the rule that was broken. */
static const char *line_byte(struct h1_chunked *c, char b)
{
    if (c->state >= TRAILER && c->state < DONE)
        return trailer_byte(c, b);
    if (++c->line > LINE_MAX_BYTES)
        return "a chunk line is too long";
    int value;
    switch ((enum state)c->state) {
    case SIZE:
        value = hex_value(b);
        return value >= 0 ? size_digit(c, value) : after_size(c, b);
    case SIZE_SPACE:
        return after_size(c, b);
    case EXTENSION:
        return extension_byte(c, b);
    case SIZE_LF:
        c->state = c->left ? DATA : TRAILER;
        return b == '\n' ? NULL : "a CR that stands alone in a chunk line";
    case DATA_CR:
        c->state = DATA_LF;
        return b == '\r' ? NULL : "chunk data longer than its size";
    case DATA_LF:
        c->state = SIZE;
        c->line = 0;
        c->digits = 0;
        return b == '\n' ? NULL : "a CR that stands alone behind chunk data";
    default:
        return "a chunked body that was broken before";
    }
}

enum h1_chunk_event h1_chunked_feed(struct h1_chunked *c, struct str *data, struct str *piece,
                                    const char **why)
{
    *piece = STR_NULL;
    while (data->n > 0 && c->state != DONE) {
        if (c->state == DATA) {
            size_t n = (size_t)MIN(c->left, (uint64_t)data->n);
            *piece = str_sub(*data, 0, n);
            *data = str_sub(*data, n, data->n);
            c->left -= n;
            if (c->left == 0) {
                c->state = DATA_CR;
                c->line = 0;
            }
            return H1_CHUNK_DATA;
        }
        *why = line_byte(c, data->p[0]);
        if (*why) {
            c->state = BROKEN;
            return H1_CHUNK_BAD;
        }
        *data = str_sub(*data, 1, data->n);
    }
    return c->state == DONE ? H1_CHUNK_END : H1_CHUNK_MORE;
}
