/*
 * json.c - strings for jansson, which takes well-formed UTF-8 only.
 */
#include "base/json.h"

#include <stdlib.h>

#define WORST 3 /* a bad byte becomes U+FFFD */

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
