/*
 * json.c - strings for jansson, which takes well-formed UTF-8 only, and a look at what it is to
 * read before it recurses into that.
 */
#include "base/json.h"

#include <stdlib.h>

#define WORST 3 /* a bad byte becomes U+FFFD */

struct str json_str(const json_t *string)
{
    return (struct str){json_string_value(string), json_string_length(string)};
}

json_t *json_time(int64_t at)
{
    return at ? json_integer(at) : json_null();
}

json_t *json_text(struct str s)
{
    json_t *j = json_stringn(s.p ? s.p : "", s.n);
    if (j)
        return j;
    char *mem = malloc(s.n * WORST);
    ASSERT(mem);
    struct out o = out_on(mem, s.n * WORST);
    out_utf8(&o, s);
    j = json_stringn(o.p, o.n);
    ASSERT(j && !o.over);
    free(mem);
    return j;
}

/* Brackets open at the deepest place; those in strings are none. */
static unsigned depth_of(struct str text)
{
    unsigned depth = 0, deepest = 0;
    bool in_string = false;
    for (size_t i = 0; i < text.n; i++) {
        char c = text.p[i];
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            depth++;
            deepest = MAX(deepest, depth);
        } else if ((c == '}' || c == ']') && depth) {
            depth--;
        }
    }
    return deepest;
}

json_t *json_read_object(struct str text, unsigned depth, const char **why)
{
    static json_error_t error;
    *why = "it is nested too deep";
    if (depth_of(text) > depth)
        return NULL;
    json_t *j = json_loadb(text.p ? text.p : "", text.n, JSON_REJECT_DUPLICATES, &error);
    *why = error.text;
    if (!j || json_is_object(j))
        return j;
    *why = "it is no object";
    json_decref(j);
    return NULL;
}
