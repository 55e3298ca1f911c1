/*
 * base64.h - base64 (RFC 4648 4) that comes and goes in any pieces, padded anywhere: as gRPC-Web's
 * text form has it. Pure.
 */
#ifndef HG_BASE64_H
#define HG_BASE64_H

#include "base/base.h"

/* Zeroed: between two quanta. */
struct base64_decoder {
    uint32_t bits;
    unsigned chars; /* of the quantum, padding included */
    unsigned pads;
};
/* Appends what n characters mean; at most 3 bytes for each 4. False: they are no base64. */
bool base64_decode(struct base64_decoder *d, const uint8_t *p, size_t n, struct out *o) MUST_USE;
static inline bool base64_decode_complete(const struct base64_decoder *d)
{
    return !d->chars;
}

struct base64_encoder {
    uint8_t held[2]; /* bytes that are no three yet */
    unsigned n;
};
/* At most 4 characters for each 3 bytes, those held from before included. */
void base64_encode(struct base64_encoder *e, const uint8_t *p, size_t n, struct out *o);
void base64_encode_pad(struct base64_encoder *e, struct out *o); /* what is held, padded */

#endif
