/*
 * cli_text.c - words of other programs on a terminal: nothing in them may move the cursor, change
 * colours or the order of letters.
 */
#include "base/json.h"
#include "base/utf8.h"
#include "proxy/cli.h"

static uint32_t code_point(const char *p, size_t len)
{
    static const unsigned char first[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
    uint32_t c = (unsigned char)p[0] & first[len];
    for (size_t i = 1; i < len; i++)
        c = c << 6 | ((unsigned char)p[i] & 0x3f);
    return c;
}

/* Controls (C0, C1), what ends a line or turns the direction of writing. */
static bool is_control(uint32_t c)
{
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x200e || c == 0x200f ||
           (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
}

static void out_control(struct out *o, uint32_t c)
{
    if (c == '\r') {
        out_lit(o, "\\r");
    } else if (c == '\t') {
        out_char(o, '\t');
    } else {
        out_str(o, c < 0x80 ? STR("\\x") : STR("\\u"));
        out_hex(o, c, c < 0x80 ? 2 : 4);
    }
}

#define WORST 6 /* bytes that one becomes */

struct str cli_harmless(struct arena *a, struct str s)
{
    struct out o = out_on(arena_alloc(a, s.n * WORST + 1), s.n * WORST);
    while (s.n) {
        const size_t len = utf8_len(s.p, s.n);
        const uint32_t c = len ? code_point(s.p, len) : 0xfffd;
        if (!len)
            out_lit(&o, "\xef\xbf\xbd");
        else if (is_control(c))
            out_control(&o, c);
        else
            out_bytes(&o, s.p, len);
        s = str_sub(s, MAX(len, (size_t)1), s.n);
    }
    ASSERT(!o.over);
    return out_done(&o);
}

static json_t *harmless_text(struct arena *a, const json_t *text)
{
    struct str all = json_str(text), line;
    struct out o = out_on(arena_alloc(a, all.n * WORST + 1), all.n * WORST);
    for (bool first = true; str_split(&all, '\n', &line); first = false) {
        if (!first)
            out_char(&o, '\n');
        out_str(&o, cli_harmless(a, line));
    }
    return json_text(out_done(&o));
}

/* A member that has lines of its own; elsewhere a line's end is a control character too. */
static json_t *harmless_value(struct arena *a, const char *key, json_t *value)
{
    const bool lines = key && strcmp(key, "text") == 0;
    if (!json_is_string(value)) {
        cli_make_harmless(value);
        return json_incref(value);
    }
    if (lines)
        return harmless_text(a, value);
    return json_text(cli_harmless(a, json_str(value)));
}

void cli_make_harmless(json_t *j)
{
    struct arena *a = arena_new(4096);
    const char *key;
    void *next;
    json_t *value;
    size_t i;
    json_object_foreach_safe(j, next, key, value)
    {
        json_object_set_new(j, key, harmless_value(a, key, value));
    }
    json_array_foreach(j, i, value)
    {
        json_array_set_new(j, i, harmless_value(a, NULL, value));
    }
    arena_free(&a);
}
