/*
 * encoder.c - the three libraries (see encoder.h): a constant table a coding, one loop for all.
 *
 * Windows are small (128 to 256 KiB): what they would gain beyond that on pages and scripts is
 * little, and memory is what bounds the number of answers that are coded at a time.
 */
#include "proxy/encoder.h"

#include <brotli/encode.h>
#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>

#define BR_WINDOW   16 /* log2 */
#define ZSTD_WINDOW 17
#define GZIP_WINDOW (15 + 16) /* 32 KiB, in gzip's framing */
#define GZIP_MEMORY 8

/* One call into a library: how far it came. */
struct run {
    const uint8_t *in;
    size_t in_n;
    uint8_t *out;
    size_t out_n;
};

struct kind {
    /* Levels by effort: on the fly some 50 to 100 MB/s, once a fifth of it. */
    int level[2];
    bool (*open)(struct encoder *e, int level, uint64_t size);
    /* Moves r on; *done: with this op nothing is left to come. */
    bool (*step)(struct encoder *e, struct run *r, enum encoder_op op, bool *done);
    void (*close)(struct encoder *e);
};

struct encoder {
    const struct kind *kind;
    union {
        BrotliEncoderState *br;
        ZSTD_CCtx *zstd;
        z_stream gzip;
    };
};

static unsigned count;

unsigned encoder_count(void)
{
    return count;
}

/* ---- brotli ---- */

static bool br_open(struct encoder *e, int level, uint64_t size)
{
    e->br = BrotliEncoderCreateInstance(NULL, NULL, NULL);
    ASSERT(e->br);
    BrotliEncoderSetParameter(e->br, BROTLI_PARAM_QUALITY, (uint32_t)level);
    BrotliEncoderSetParameter(e->br, BROTLI_PARAM_LGWIN, BR_WINDOW);
    if (size < UINT32_MAX)
        BrotliEncoderSetParameter(e->br, BROTLI_PARAM_SIZE_HINT, (uint32_t)size);
    return true;
}

static bool br_step(struct encoder *e, struct run *r, enum encoder_op op, bool *done)
{
    static const BrotliEncoderOperation ops[] = {[ENCODER_MORE] = BROTLI_OPERATION_PROCESS,
                                                 [ENCODER_FLUSH] = BROTLI_OPERATION_FLUSH,
                                                 [ENCODER_END] = BROTLI_OPERATION_FINISH};
    if (!BrotliEncoderCompressStream(e->br, ops[op], &r->in_n, &r->in, &r->out_n, &r->out, NULL))
        return false;
    *done = !r->in_n && !BrotliEncoderHasMoreOutput(e->br) &&
            (op != ENCODER_END || BrotliEncoderIsFinished(e->br));
    return true;
}

static void br_close(struct encoder *e)
{
    BrotliEncoderDestroyInstance(e->br);
}

/* ---- zstd ---- */

static bool zstd_open(struct encoder *e, int level, uint64_t size)
{
    e->zstd = ZSTD_createCCtx();
    ASSERT(e->zstd);
    bool bad = ZSTD_isError(ZSTD_CCtx_setParameter(e->zstd, ZSTD_c_compressionLevel, level)) ||
               ZSTD_isError(ZSTD_CCtx_setParameter(e->zstd, ZSTD_c_windowLog, ZSTD_WINDOW));
    if (size != UINT64_MAX)
        bad = bad || ZSTD_isError(ZSTD_CCtx_setPledgedSrcSize(e->zstd, size));
    return !bad;
}

static bool zstd_step(struct encoder *e, struct run *r, enum encoder_op op, bool *done)
{
    static const ZSTD_EndDirective ops[] = {[ENCODER_MORE] = ZSTD_e_continue,
                                            [ENCODER_FLUSH] = ZSTD_e_flush,
                                            [ENCODER_END] = ZSTD_e_end};
    ZSTD_inBuffer in = {r->in, r->in_n, 0};
    ZSTD_outBuffer out = {r->out, r->out_n, 0};
    size_t left = ZSTD_compressStream2(e->zstd, &out, &in, ops[op]);
    if (ZSTD_isError(left))
        return false;
    r->in += in.pos;
    r->in_n -= in.pos;
    r->out += out.pos;
    r->out_n -= out.pos;
    *done = !r->in_n && (op == ENCODER_MORE || !left);
    return true;
}

static void zstd_close(struct encoder *e)
{
    ZSTD_freeCCtx(e->zstd);
}

/* ---- gzip ---- */

static bool gzip_open(struct encoder *e, int level, uint64_t size)
{
    (void)size;
    return deflateInit2(&e->gzip, level, Z_DEFLATED, GZIP_WINDOW, GZIP_MEMORY,
                        Z_DEFAULT_STRATEGY) == Z_OK;
}

static bool gzip_step(struct encoder *e, struct run *r, enum encoder_op op, bool *done)
{
    static const int ops[] = {
        [ENCODER_MORE] = Z_NO_FLUSH, [ENCODER_FLUSH] = Z_SYNC_FLUSH, [ENCODER_END] = Z_FINISH};
    z_stream *z = &e->gzip;
    z->next_in = (Bytef *)(uintptr_t)r->in;
    z->avail_in = (uInt)MIN(r->in_n, (size_t)1 << 30);
    size_t offered = z->avail_in;
    z->next_out = r->out;
    z->avail_out = (uInt)MIN(r->out_n, (size_t)1 << 30);
    size_t room = z->avail_out;
    int rc = deflate(z, offered < r->in_n ? Z_NO_FLUSH : ops[op]);
    if (rc != Z_OK && rc != Z_STREAM_END && rc != Z_BUF_ERROR)
        return false;
    r->in += offered - z->avail_in;
    r->in_n -= offered - z->avail_in;
    r->out += room - z->avail_out;
    r->out_n -= room - z->avail_out;
    /* Room that is left says that nothing more was there to come. */
    *done = op == ENCODER_END ? rc == Z_STREAM_END : !r->in_n && z->avail_out > 0;
    return true;
}

static void gzip_close(struct encoder *e)
{
    deflateEnd(&e->gzip);
}

/* ---- all of them ---- */

static const struct kind kinds[] = {
    [CONF_BR] = {{5, 6}, br_open, br_step, br_close},
    [CONF_ZSTD] = {{3, 9}, zstd_open, zstd_step, zstd_close},
    [CONF_GZIP] = {{5, 6}, gzip_open, gzip_step, gzip_close},
};

struct encoder *encoder_new(enum conf_coding c, enum encoder_effort effort, uint64_t size,
                            unsigned max)
{
    if (count >= MIN(max, (unsigned)ENCODERS_MAX))
        return NULL;
    struct encoder *e = calloc(1, sizeof(*e));
    ASSERT(e);
    e->kind = &kinds[c];
    ASSERT(e->kind->open(e, e->kind->level[effort], size));
    count++;
    return e;
}

bool encoder_run(struct encoder *e, const void *in, size_t n, enum encoder_op op,
                 void (*put)(void *arg, struct slab *s), void *arg)
{
    struct run r = {.in = in, .in_n = n};
    bool done = !n && op == ENCODER_MORE;
    while (!done) {
        struct slab *s = slab_new(r.in_n > SLAB_SMALL ? SLAB_LARGE : SLAB_SMALL);
        r.out = s->data;
        r.out_n = s->cap;
        if (!e->kind->step(e, &r, op, &done)) {
            slab_unref(s);
            return false;
        }
        s->used = (uint32_t)(r.out - s->data);
        if (s->used)
            put(arg, s);
        else
            slab_unref(s);
    }
    return true;
}

void encoder_close(struct encoder **e)
{
    struct encoder *old = *e;
    *e = NULL;
    if (!old)
        return;
    old->kind->close(old);
    count--;
    free(old);
}
