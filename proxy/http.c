/*
 * http.c - the vocabulary of HTTP that all versions share: method, field and status names, the
 * growing field array, comma-separated lists. No wire format here: see h1_parse.c for that.
 */
#include "proxy/http.h"

#define SAME(c)       [c] = (c)
#define FOLD(up, low) [up] = (low), [low] = (low)
const unsigned char http_tchar_lower[256] = {
    SAME('!'),      SAME('#'),      SAME('$'),      SAME('%'),      SAME('&'),      SAME('\''),
    SAME('*'),      SAME('+'),      SAME('-'),      SAME('.'),      SAME('^'),      SAME('_'),
    SAME('`'),      SAME('|'),      SAME('~'),      SAME('0'),      SAME('1'),      SAME('2'),
    SAME('3'),      SAME('4'),      SAME('5'),      SAME('6'),      SAME('7'),      SAME('8'),
    SAME('9'),      FOLD('A', 'a'), FOLD('B', 'b'), FOLD('C', 'c'), FOLD('D', 'd'), FOLD('E', 'e'),
    FOLD('F', 'f'), FOLD('G', 'g'), FOLD('H', 'h'), FOLD('I', 'i'), FOLD('J', 'j'), FOLD('K', 'k'),
    FOLD('L', 'l'), FOLD('M', 'm'), FOLD('N', 'n'), FOLD('O', 'o'), FOLD('P', 'p'), FOLD('Q', 'q'),
    FOLD('R', 'r'), FOLD('S', 's'), FOLD('T', 't'), FOLD('U', 'u'), FOLD('V', 'v'), FOLD('W', 'w'),
    FOLD('X', 'x'), FOLD('Y', 'y'), FOLD('Z', 'z'),
};
#undef SAME
#undef FOLD

bool http_is_tchar(unsigned char c)
{
    return http_tchar_lower[c] != 0;
}

/* ---- methods ---- */

enum http_method http_method_of(struct str name)
{
    static const struct {
        struct str name;
        enum http_method method;
    } table[] = {
        {STR("GET"), METHOD_GET},         {STR("POST"), METHOD_POST},
        {STR("HEAD"), METHOD_HEAD},       {STR("PUT"), METHOD_PUT},
        {STR("OPTIONS"), METHOD_OPTIONS}, {STR("DELETE"), METHOD_DELETE},
        {STR("PATCH"), METHOD_PATCH},     {STR("CONNECT"), METHOD_CONNECT},
        {STR("TRACE"), METHOD_TRACE},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        if (str_eq(name, table[i].name))
            return table[i].method;
    return METHOD_OTHER;
}

bool http_method_idempotent(enum http_method m)
{
    switch (m) {
    case METHOD_GET:
    case METHOD_HEAD:
    case METHOD_PUT:
    case METHOD_DELETE:
    case METHOD_OPTIONS:
    case METHOD_TRACE:
        return true;
    case METHOD_OTHER: /* unknown: assume that sending it twice does harm */
    case METHOD_POST:
    case METHOD_PATCH:
    case METHOD_CONNECT:
        break;
    }
    return false;
}

/* ---- field names ---- */

static const struct str names[FIELD_COUNT] = {[FIELD_OTHER] = {"", 0},
#define X(id, text) [FIELD_##id] = {text, sizeof(text) - 1},
                                              FIELD_TABLE(X)
#undef X
};

/*
 * Open addressing over 256 bytes, four cache lines, with room enough that a name which is not in
 * the table mostly meets an empty slot at once. Filled before main, so that looking up needs no
 * test whether it was: every process of headgate forks from one that has it.
 */
static uint8_t slots[256];

static inline unsigned slot_of(struct str s)
{
    const unsigned char *p = (const unsigned char *)s.p;
    return ((unsigned)s.n * 7 + p[0] * 5u + p[s.n - 1] * 31u + p[s.n / 2] * 17u) & 0xff;
}

__attribute__((constructor)) static void fill_slots(void)
{
    for (unsigned t = 1; t < FIELD_COUNT; t++) {
        unsigned at = slot_of(names[t]);
        while (slots[at])
            at = (at + 1) & 0xff;
        slots[at] = (uint8_t)t;
    }
}

static inline uint64_t load8(const char *p)
{
    uint64_t v;
    memcpy(&v, p, 8);
    return v;
}

/* memcmp's call costs more than the few bytes of a name. */
static inline bool same_bytes(const char *a, const char *b, size_t n)
{
    if (n < 8) {
        for (size_t i = 0; i < n; i++)
            if (a[i] != b[i])
                return false;
        return true;
    }
    for (size_t i = 0; i + 8 < n; i += 8)
        if (load8(a + i) != load8(b + i))
            return false;
    return load8(a + n - 8) == load8(b + n - 8);
}

enum field_token field_token_of(struct str s)
{
    if (s.n == 0)
        return FIELD_OTHER;
    for (unsigned at = slot_of(s); slots[at]; at = (at + 1) & 0xff) {
        const struct str *name = &names[slots[at]];
        if (name->n == s.n && same_bytes(name->p, s.p, s.n))
            return (enum field_token)slots[at];
    }
    return FIELD_OTHER;
}

struct str field_name(enum field_token t)
{
    ASSERT((unsigned)t < FIELD_COUNT);
    return names[t];
}

/* ---- field arrays ---- */

static void append(struct arena *a, struct fields *f, struct field field)
{
    if (f->n == f->cap) {
        unsigned cap = MAX(f->cap * 2, 8u);
        ASSERT(cap > f->cap);
        struct field *v = arena_zarray(a, struct field, cap);
        if (f->n)
            memcpy(v, f->v, f->n * sizeof(*v));
        f->v = v;
        f->cap = cap;
    }
    f->v[f->n++] = field;
}

void fields_add(struct arena *a, struct fields *f, struct str name, struct str value)
{
    append(a, f,
           (struct field){.name = name, .value = value, .token = (uint16_t)field_token_of(name)});
}

void fields_add_token(struct arena *a, struct fields *f, enum field_token t, struct str value)
{
    ASSERT(t != FIELD_OTHER);
    append(a, f, (struct field){.name = field_name(t), .value = value, .token = (uint16_t)t});
}

const struct field *fields_get(const struct fields *f, enum field_token t)
{
    for (unsigned i = 0; i < f->n; i++)
        if (f->v[i].token == t)
            return &f->v[i];
    return NULL;
}

void fields_remove(struct fields *f, struct str name)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < f->n; i++)
        if (!str_eq(f->v[i].name, name))
            f->v[kept++] = f->v[i];
    f->n = kept;
}

/* ---- lists ---- */

unsigned http_qvalue(struct str s)
{
    if (s.n == 0 || s.n > 5 || (s.p[0] != '0' && s.p[0] != '1') || (s.n > 1 && s.p[1] != '.'))
        return 0;
    unsigned q = s.p[0] == '1' ? 1000 : 0;
    unsigned unit = 100;
    for (size_t i = 2; i < s.n; i++, unit /= 10) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return 0;
        q += (unsigned)(s.p[i] - '0') * unit;
    }
    return MIN(q, 1000u);
}

bool http_list_has(struct str list, struct str token)
{
    struct str piece;
    while (str_split(&list, ',', &piece))
        if (str_ieq(str_trim(piece), token))
            return token.n > 0; /* empty elements mean nothing (RFC 9110 5.6.1.2) */
    return false;
}

/* ---- statuses ---- */

/* The IANA registry's phrases; what RFC 9110 renamed has its new name. */
struct str http_reason(unsigned status)
{
    static const char *const phrases[] = {
        [100 - 100] = "Continue",
        [101 - 100] = "Switching Protocols",
        [102 - 100] = "Processing",
        [103 - 100] = "Early Hints",
        [200 - 100] = "OK",
        [201 - 100] = "Created",
        [202 - 100] = "Accepted",
        [203 - 100] = "Non-Authoritative Information",
        [204 - 100] = "No Content",
        [205 - 100] = "Reset Content",
        [206 - 100] = "Partial Content",
        [207 - 100] = "Multi-Status",
        [208 - 100] = "Already Reported",
        [226 - 100] = "IM Used",
        [300 - 100] = "Multiple Choices",
        [301 - 100] = "Moved Permanently",
        [302 - 100] = "Found",
        [303 - 100] = "See Other",
        [304 - 100] = "Not Modified",
        [305 - 100] = "Use Proxy",
        [307 - 100] = "Temporary Redirect",
        [308 - 100] = "Permanent Redirect",
        [400 - 100] = "Bad Request",
        [401 - 100] = "Unauthorized",
        [402 - 100] = "Payment Required",
        [403 - 100] = "Forbidden",
        [404 - 100] = "Not Found",
        [405 - 100] = "Method Not Allowed",
        [406 - 100] = "Not Acceptable",
        [407 - 100] = "Proxy Authentication Required",
        [408 - 100] = "Request Timeout",
        [409 - 100] = "Conflict",
        [410 - 100] = "Gone",
        [411 - 100] = "Length Required",
        [412 - 100] = "Precondition Failed",
        [413 - 100] = "Content Too Large",
        [414 - 100] = "URI Too Long",
        [415 - 100] = "Unsupported Media Type",
        [416 - 100] = "Range Not Satisfiable",
        [417 - 100] = "Expectation Failed",
        [421 - 100] = "Misdirected Request",
        [422 - 100] = "Unprocessable Content",
        [423 - 100] = "Locked",
        [424 - 100] = "Failed Dependency",
        [425 - 100] = "Too Early",
        [426 - 100] = "Upgrade Required",
        [428 - 100] = "Precondition Required",
        [429 - 100] = "Too Many Requests",
        [431 - 100] = "Request Header Fields Too Large",
        [451 - 100] = "Unavailable For Legal Reasons",
        [500 - 100] = "Internal Server Error",
        [501 - 100] = "Not Implemented",
        [502 - 100] = "Bad Gateway",
        [503 - 100] = "Service Unavailable",
        [504 - 100] = "Gateway Timeout",
        [505 - 100] = "HTTP Version Not Supported",
        [506 - 100] = "Variant Also Negotiates",
        [507 - 100] = "Insufficient Storage",
        [508 - 100] = "Loop Detected",
        [511 - 100] = "Network Authentication ",
    };
    if (status < 100 || status - 100 >= ARRAY_LEN(phrases))
        return STR("");
    const char *phrase = phrases[status - 100];
    return phrase ? str_of(phrase) : STR("");
}

/*
 * RFC 9110 6.5.1: fields that are used for framing, routing, authentication, caching or to read the
 * content come too late in a trailer; whoever merged them would act on what nobody checked.
 */
bool http_trailer_forbidden(const struct field *f)
{
    static const char *const others[] = {
        "max-forwards", "pragma", "expires", "warning", "authentication-info", "clear-site-data"};
    if (str_starts(f->name, STR("content-")) || str_starts(f->name, STR("proxy-")) ||
        str_starts(f->name, STR("x-forwarded-")) || str_starts(f->name, STR("if-")))
        return true;
    switch (f->token) {
    case FIELD_OTHER:
        for (size_t i = 0; i < ARRAY_LEN(others); i++)
            if (str_eq(f->name, str_of(others[i])))
                return true;
        return false;
    case FIELD_etag: /* made while the body was sent: what trailers are for */
        return false;
    default:
        return true; /* everything else that code acts on */
    }
}

bool http_status_bodyless(unsigned status)
{
    return status < 200 || status == 204 || status == 304;
}

bool http_value_clean(struct str value)
{
    for (size_t i = 0; i < value.n; i++) {
        unsigned char c = (unsigned char)value.p[i];
        if (c < 0x20 ? c != '\t' : c == 0x7f)
            return false;
    }
    return true;
}
