/*
 * encoder.h - content codings as streams of bytes: brotli, zstd and gzip behind one small face.
 * Knows no HTTP. An encoder takes 0.3 to 1.7 MiB, so that their number in a process is bounded.
 */
#ifndef HG_ENCODER_H
#define HG_ENCODER_H

#include "base/slab.h"
#include "conf/conf.h"

#define ENCODERS_MAX 64 /* of a process */

enum encoder_op {
    ENCODER_MORE,
    ENCODER_FLUSH, /* all of the input can be decoded from what came out */
    ENCODER_END
};

enum encoder_effort {
    ENCODER_FAST, /* for each answer anew */
    ENCODER_ONCE  /* for what is kept */
};

struct encoder;

/* NULL: there are `max` (at most ENCODERS_MAX) already. `size`: of all the input, UINT64_MAX:
 * unknown. */
struct encoder *encoder_new(enum conf_coding c, enum encoder_effort effort, uint64_t size,
                            unsigned max);
/*
 * Takes `in` whole. What comes out is given to `put` piece by piece, each in a slab of its own that
 * `put` owns from then on. False: the library failed; the encoder is of no use any more.
 */
bool encoder_run(struct encoder *e, const void *in, size_t n, enum encoder_op op,
                 void (*put)(void *arg, struct slab *s), void *arg) MUST_USE;
void encoder_close(struct encoder **e); /* fine on NULL */
unsigned encoder_count(void);

#endif
