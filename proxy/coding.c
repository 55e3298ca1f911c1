/*
 * coding.c - see coding.h.
 */
#include "proxy/coding.h"

struct str coding_name(enum conf_coding c)
{
    static const struct str names[] = {
        [CONF_BR] = {"br", 2}, [CONF_ZSTD] = {"zstd", 4}, [CONF_GZIP] = {"gzip", 4}};
    return names[c];
}

/* ---- Accept-Encoding ---- */

#define UNSAID UINT32_MAX

struct weights { /* thousandths; UNSAID: not listed */
    unsigned coding[3], identity, any;
};

static void weigh_one(struct weights *w, struct str name, unsigned q)
{
    if (str_eq(name, STR("*")))
        w->any = q;
    else if (str_ieq(name, STR("identity")))
        w->identity = q;
    else if (str_ieq(name, STR("x-gzip"))) /* RFC 9110 8.4.1.3 */
        w->coding[CONF_GZIP] = q;
    for (unsigned i = 0; i < ARRAY_LEN(w->coding); i++)
        if (str_ieq(name, coding_name((enum conf_coding)i)))
            w->coding[i] = q;
}

static void weigh(struct weights *w, struct str list)
{
    struct str item;
    while (str_split(&list, ',', &item)) {
        struct str piece, name = STR_NULL;
        unsigned q = 1000;
        for (bool first = true; str_split(&item, ';', &piece); first = false) {
            piece = str_trim(piece);
            if (first)
                name = piece;
            else if (str_istarts(piece, STR("q=")))
                q = http_qvalue(str_sub(piece, 2, piece.n));
        }
        weigh_one(w, name, q);
    }
}

bool coding_choose(const struct fields *request, const enum conf_coding *prefer, unsigned n,
                   enum conf_coding *out)
{
    struct weights w = {{UNSAID, UNSAID, UNSAID}, UNSAID, UNSAID};
    unsigned best = 0;
    for (unsigned i = 0; i < request->n; i++)
        if (request->v[i].token == FIELD_accept_encoding)
            weigh(&w, request->v[i].value);
    for (unsigned i = 0; i < n; i++) {
        unsigned q = w.coding[prefer[i]] != UNSAID ? w.coding[prefer[i]] : w.any;
        if (q == UNSAID || q <= best)
            continue;
        best = q;
        *out = prefer[i];
    }
    return best > 0 && (w.identity == UNSAID || best >= w.identity);
}

/* ---- what is worth it ---- */

bool coding_worth_type(struct str type)
{
    static const char *const types[] = {"application/json",
                                        "application/javascript",
                                        "application/x-javascript",
                                        "application/ecmascript",
                                        "application/xml",
                                        "application/wasm",
                                        "application/rtf",
                                        "application/sql",
                                        "application/x-ndjson",
                                        "application/yaml",
                                        "application/toml",
                                        "application/graphql",
                                        "application/vnd.ms-fontobject",
                                        "image/bmp",
                                        "image/x-icon",
                                        "image/vnd.microsoft.icon",
                                        "font/ttf",
                                        "font/otf",
                                        "font/collection"};
    type = str_trim(str_sub(type, 0, str_chr(type, ';')));
    if (str_istarts(type, STR("text/")) || str_iends(type, STR("+json")) ||
        str_iends(type, STR("+xml")))
        return true;
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        if (str_ieq(type, str_of(types[i])))
            return true;
    return false;
}

static bool no_transform(const struct fields *f)
{
    for (unsigned i = 0; i < f->n; i++)
        if (f->v[i].token == FIELD_cache_control &&
            http_list_has(f->v[i].value, STR("no-transform")))
            return true;
    return false;
}

bool coding_allowed(const struct fields *request, const struct fields *answer)
{
    /* Digests are of the bytes as they are (RFC 9530). */
    static const char *const of_bytes[] = {"content-digest", "repr-digest", "digest",
                                           "content-md5"};
    if (fields_get(answer, FIELD_content_encoding) || fields_get(answer, FIELD_content_range) ||
        no_transform(answer) || no_transform(request))
        return false;
    for (unsigned i = 0; i < answer->n; i++)
        for (size_t k = 0; k < ARRAY_LEN(of_bytes) && answer->v[i].token == FIELD_OTHER; k++)
            if (str_eq(answer->v[i].name, str_of(of_bytes[k])))
                return false;
    return true;
}

/* ---- the head ---- */

void coding_vary(struct arena *a, struct fields *answer)
{
    for (unsigned i = 0; i < answer->n; i++)
        if (answer->v[i].token == FIELD_vary &&
            (http_list_has(answer->v[i].value, STR("accept-encoding")) ||
             http_list_has(answer->v[i].value, STR("*"))))
            return;
    fields_add_token(a, answer, FIELD_vary, STR("accept-encoding"));
}

void coding_weaken_etag(struct arena *a, struct fields *answer)
{
    for (unsigned i = 0; i < answer->n; i++) {
        struct field *f = &answer->v[i];
        if (f->token == FIELD_etag && !str_starts(f->value, STR("W/")))
            f->value = arena_fmt(a, "W/" STR_FMT, STR_ARG(f->value));
    }
}
