/*
 * base64.c - base64 in pieces, padded anywhere.
 */
#include "proxy/base64.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* Value of a character, or -1. */
static int value_of(uint8_t c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

static bool take(struct base64_decoder *d, uint8_t c)
{
    if (c == '=') {
        if (d->chars < 2)
            return false;
        d->pads++;
        d->bits <<= 6;
    } else {
        int v = value_of(c);
        if (v < 0 || d->pads)
            return false;
        d->bits = d->bits << 6 | (uint32_t)v;
    }
    d->chars++;
    return true;
}

bool base64_decode(struct base64_decoder *d, const uint8_t *p, size_t n, struct out *o)
{
    for (size_t i = 0; i < n; i++) {
        if (!take(d, p[i]))
            return false;
        if (d->chars < 4)
            continue;
        const uint8_t bytes[3] = {(uint8_t)(d->bits >> 16), (uint8_t)(d->bits >> 8),
                                  (uint8_t)d->bits};
        out_bytes(o, bytes, 3 - d->pads);
        *d = (struct base64_decoder){0};
    }
    return true;
}

static void put(struct out *o, uint32_t bits, unsigned bytes)
{
    const char text[4] = {alphabet[bits >> 18 & 63], alphabet[bits >> 12 & 63],
                          bytes > 1 ? alphabet[bits >> 6 & 63] : '=',
                          bytes > 2 ? alphabet[bits & 63] : '='};
    out_bytes(o, text, sizeof(text));
}

void base64_encode(struct base64_encoder *e, const uint8_t *p, size_t n, struct out *o)
{
    while (e->n + n >= 3) {
        uint8_t b[3];
        for (unsigned i = 0; i < 3; i++) {
            if (i < e->n) {
                b[i] = e->held[i];
                continue;
            }
            b[i] = *p++;
            n--;
        }
        e->n = 0;
        put(o, (uint32_t)b[0] << 16 | (uint32_t)b[1] << 8 | b[2], 3);
    }
    while (n--)
        e->held[e->n++] = *p++;
}

void base64_encode_pad(struct base64_encoder *e, struct out *o)
{
    if (e->n)
        put(o, (uint32_t)e->held[0] << 16 | (e->n > 1 ? (uint32_t)e->held[1] << 8 : 0), e->n);
    e->n = 0;
}
