/*
 * grpc.c - gRPC's vocabulary: media types, statuses, timeouts, messages' frames. Pure.
 */
#include "proxy/grpc.h"

const char grpc_err_too_large[] = "a gRPC message is larger than grpc.max_message";
const char grpc_err_flags[] = "a gRPC message with flags that are not defined";

/* ---- media types ---- */

static const struct {
    struct str name;
    enum grpc_form form;
} forms[] = {
    /* the longest first: each is a beginning of the one before */
    {{"application/grpc-web-text", 25}, GRPC_WEB_TEXT},
    {{"application/grpc-web", 20}, GRPC_WEB},
    {{"application/grpc", 16}, GRPC_PLAIN},
};

static bool suffix_valid(struct str s)
{
    for (size_t i = 1; i < s.n; i++)
        if (!http_is_tchar((unsigned char)s.p[i]) || s.p[i] == '+')
            return false;
    return s.n > 1 && s.p[0] == '+';
}

struct grpc_type grpc_type_parse(struct str content_type)
{
    struct str type = str_trim(str_sub(content_type, 0, str_chr(content_type, ';')));
    for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
        if (!str_istarts(type, forms[i].name))
            continue;
        struct str suffix = str_sub(type, forms[i].name.n, type.n);
        if (suffix.n && !suffix_valid(suffix))
            return (struct grpc_type){.form = GRPC_LOOKALIKE};
        return (struct grpc_type){.form = forms[i].form, .suffix = suffix};
    }
    return (struct grpc_type){.form = GRPC_NONE};
}

struct str grpc_type_text(struct arena *a, struct grpc_type t)
{
    for (size_t i = 0; i < ARRAY_LEN(forms); i++)
        if (forms[i].form == t.form)
            return arena_fmt(a, STR_FMT STR_FMT, STR_ARG(forms[i].name), STR_ARG(t.suffix));
    base_die(__FILE__, __LINE__, "a form with a media type");
}

/* ---- statuses ---- */

enum grpc_status grpc_status_of_http(unsigned http_status)
{
    switch (http_status) {
    case 400:
        return GRPC_INTERNAL;
    case 401:
        return GRPC_UNAUTHENTICATED;
    case 403:
        return GRPC_PERMISSION_DENIED;
    case 404:
        return GRPC_UNIMPLEMENTED;
    case 429:
    case 502:
    case 503:
    case 504:
        return GRPC_UNAVAILABLE;
    default:
        return GRPC_UNKNOWN;
    }
}

static const char *const status_names[GRPC_STATUS_COUNT] = {
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
};

const char *grpc_status_name(enum grpc_status s)
{
    return s < GRPC_STATUS_COUNT ? status_names[s] : "?";
}

enum grpc_status grpc_status_parse(struct str value)
{
    uint64_t v;
    return str_u64(value, &v) && v < GRPC_STATUS_COUNT ? (enum grpc_status)v : GRPC_UNKNOWN;
}

/* ---- timeouts ---- */

bool grpc_timeout_parse(struct str value, uint64_t *ms)
{
    static const struct {
        char unit;
        uint64_t ns;
    } units[] = {{'H', 3600000000000}, {'M', 60000000000}, {'S', 1000000000},
                 {'m', 1000000},       {'u', 1000},        {'n', 1}};
    uint64_t v;
    if (value.n < 2 || value.n > 9 || !str_u64(str_sub(value, 0, value.n - 1), &v))
        return false;
    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        if (units[i].unit != value.p[value.n - 1])
            continue;
        /* Eight digits of hours do not fit into 64 bits of nanoseconds. */
        uint64_t most = GRPC_TIMEOUT_MAX_MS * 1000000 / units[i].ns;
        *ms = v >= most ? GRPC_TIMEOUT_MAX_MS : (v * units[i].ns + 999999) / 1000000;
        return true;
    }
    return false;
}

/* ---- messages for people ---- */

struct str grpc_message_encode(struct arena *a, struct str text)
{
    static const char hex[] = "0123456789ABCDEF";
    char *p = arena_alloc(a, text.n * 3 + 1);
    size_t n = 0;
    for (size_t i = 0; i < text.n; i++) {
        unsigned char c = (unsigned char)text.p[i];
        if (c >= 0x20 && c < 0x7f && c != '%') {
            p[n++] = (char)c;
            continue;
        }
        p[n++] = '%';
        p[n++] = hex[c >> 4];
        p[n++] = hex[c & 15];
    }
    p[n] = '\0';
    return (struct str){p, n};
}

/* ---- messages' frames ---- */

static const char *head_complete(struct grpc_frames *f)
{
    const uint8_t *b = f->head;
    if (b[0] > 1) /* only "compressed" is defined; grpc-web's trailers flag is no client's */
        return grpc_err_flags;
    f->left = (uint32_t)b[1] << 24 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 8 | b[4];
    if (f->max && f->left > f->max)
        return grpc_err_too_large;
    f->head_have = 0;
    if (!f->left)
        f->messages++;
    return NULL;
}

const char *grpc_frames_feed(struct grpc_frames *f, const uint8_t *p, size_t n)
{
    while (n) {
        if (f->left) {
            size_t some = MIN(n, (size_t)f->left);
            f->left -= (uint32_t)some;
            p += some;
            n -= some;
            if (!f->left)
                f->messages++;
            continue;
        }
        f->head[f->head_have++] = *p++;
        n--;
        const char *err = f->head_have == sizeof(f->head) ? head_complete(f) : NULL;
        if (err)
            return err;
    }
    return NULL;
}
