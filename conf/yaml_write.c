/*
 * yaml_write.c - quoting for YAML. Plain texts are a small safe set, so that what a plain scalar
 * may be in which context never matters.
 */
#include "conf/yaml_write.h"

#include "base/utf8.h"

#define ESCAPED_MAX 6 /* "\u2028" for three bytes, "\x01" for one */

static bool alnum(char c)
{
    return (c >= '0' && c <= '9') || (ascii_lower(c) >= 'a' && ascii_lower(c) <= 'z');
}

/* Letters and digits with /._-$ between them, "--option", "http://host:1": nothing that YAML knows
 * a meaning of, at any place. */
static bool is_plain(struct str t)
{
    size_t dashes = 0;
    while (dashes < t.n && t.p[dashes] == '-')
        dashes++;
    if (dashes > 2 || dashes == t.n)
        return false;
    bool word = false;
    for (size_t i = 0; i < t.n; i++) {
        char c = t.p[i];
        bool colon = c == ':' && i > dashes && i + 1 < t.n;
        if (!alnum(c) && !colon && !memchr("/._-$", c, 5))
            return false;
        word = word || alnum(c);
    }
    return word && t.p[dashes] != '.';
}

static uint32_t code_point(const unsigned char *p, size_t len)
{
    uint32_t c = len == 1 ? p[0] : p[0] & (0x7fu >> len);
    for (size_t i = 1; i < len; i++)
        c = c << 6 | (p[i] & 0x3f);
    return c;
}

/* What YAML's reader refuses or breaks lines at, and what cannot be seen. */
static bool needs_code(uint32_t c)
{
    return c < 0x20 || (c >= 0x7f && c <= 0xa0) || c == 0xad || (c >= 0x200b && c <= 0x200f) ||
           (c >= 0x2028 && c <= 0x202e) || (c >= 0x2060 && c <= 0x206f) || c == 0xfeff ||
           c == 0xfffe || c == 0xffff;
}

static void quoted_char(struct out *o, const unsigned char *p, size_t len)
{
    uint32_t c = code_point(p, len);
    if (c == '"' || c == '\\') {
        out_char(o, '\\');
        out_char(o, (char)c);
    } else if (c == '\n') {
        out_lit(o, "\\n");
    } else if (c == '\t') {
        out_lit(o, "\\t");
    } else if (needs_code(c)) {
        out_bytes(o, c < 0x100 ? "\\x" : "\\u", 2);
        out_hex(o, c, c < 0x100 ? 2 : 4);
    } else {
        out_bytes(o, p, len);
    }
}

struct str yaml_scalar(struct arena *a, struct str text)
{
    if (is_plain(text))
        return arena_str(a, text);
    size_t cap = text.n * ESCAPED_MAX + 3;
    struct out o = out_on(arena_alloc(a, cap), cap);
    out_char(&o, '"');
    for (size_t i = 0; i < text.n;) {
        const unsigned char *p = (const unsigned char *)text.p + i;
        size_t len = utf8_len(p, text.n - i);
        if (!len || !*p)
            return STR_NULL;
        quoted_char(&o, p, len);
        i += len;
    }
    out_lit(&o, "\"\0");
    ASSERT(!o.over);
    return str_sub(out_done(&o), 0, o.n - 1);
}

struct str yaml_scalar_literal(struct arena *a, struct str text)
{
    struct out o = out_on(arena_alloc(a, text.n * 2 + 1), text.n * 2 + 1);
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] == '$')
            out_char(&o, '$');
        out_char(&o, text.p[i]);
    }
    ASSERT(!o.over);
    return yaml_scalar(a, out_done(&o));
}
