/*
 * test_ready_grpc.c - what the reader of health checks makes of fields as a real compressor writes
 * them (nghttp2's: plain, Huffman, out of its table), and that it does not matter how the bytes
 * were cut. What hostile servers say is in tests/cases/test_ready_grpc.py.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <nghttp2/nghttp2.h>

#include "channels/ready_grpc.h"

enum { DATA = 0, HEADERS = 1, SETTINGS = 4 };
enum { END_STREAM = 1, END_HEADERS = 4 };

static void put_frame(struct out *o, uint8_t kind, uint8_t flags, uint8_t stream, struct str load)
{
    const uint8_t head[9] = {0,     (uint8_t)(load.n >> 8), (uint8_t)load.n, kind, flags, 0, 0, 0,
                             stream};
    out_bytes(o, head, sizeof(head));
    out_str(o, load);
}

struct field {
    const char *name, *value;
};

static void put_fields(struct out *o, nghttp2_hd_deflater *d, uint8_t flags,
                       const struct field *fields, size_t n)
{
    uint8_t block[2048];
    nghttp2_nv nv[8];
    for (size_t i = 0; i < n; i++)
        nv[i] = (nghttp2_nv){.name = (uint8_t *)(uintptr_t)fields[i].name,
                             .value = (uint8_t *)(uintptr_t)fields[i].value,
                             .namelen = strlen(fields[i].name),
                             .valuelen = strlen(fields[i].value)};
    ssize_t got = nghttp2_hd_deflate_hd(d, block, sizeof(block), nv, n);
    assert_true(got > 0);
    put_frame(o, HEADERS, (uint8_t)(flags | END_HEADERS), 1,
              (struct str){(char *)block, (size_t)got});
}

/* A whole answer; `table`: the size of the compressor's table. */
static struct str make_answer(char *mem, size_t cap, const char *type, const char *status,
                              struct str message, size_t table)
{
    const struct field head[] = {{":status", "200"}, {"content-type", type}};
    const struct field end[] = {{"grpc-status", status}, {"grpc-message", ""}};
    struct out o = out_on(mem, cap);
    nghttp2_hd_deflater *d;
    assert_int_equal(nghttp2_hd_deflate_new(&d, table), 0);
    put_frame(&o, SETTINGS, 0, 0, STR_NULL);
    put_fields(&o, d, 0, head, ARRAY_LEN(head));
    put_frame(&o, DATA, 0, 1, message);
    put_fields(&o, d, END_STREAM, end, ARRAY_LEN(end));
    nghttp2_hd_deflate_del(d);
    assert_false(o.over);
    return out_done(&o);
}

/* In pieces of `step` bytes, each in memory of exactly its size. Returns whether it was judged. */
static bool feed(struct ready_grpc *g, struct str in, size_t step, struct out *reply)
{
    bool judged = false;
    ready_grpc_begin(g);
    for (size_t at = 0; at < in.n && !judged; at += step) {
        struct str piece = str_sub(in, at, at + step);
        char *exact = malloc(piece.n);
        assert_non_null(exact);
        memcpy(exact, piece.p, piece.n);
        judged = ready_grpc_feed(g, exact, piece.n, reply);
        free(exact);
    }
    return judged;
}

static const struct str serving = {"\0\0\0\0\2\x08\1", 7};

static const struct {
    const char *type, *status;
    bool ready, no_health;
    const char *why;
} rows[] = {
    {"application/grpc", "0", true, false, NULL},
    {"application/grpc+proto", "0", true, false, NULL},
    {"application/grpc;charset=utf-8", "0", true, false, NULL},
    {"application/grpc-web", "0", false, false, "no gRPC"},
    {"application/grpcx", "0", false, false, "no gRPC"},
    {"application/grp", "0", false, false, "no gRPC"},
    {"Application/grpc", "0", false, false, "no gRPC"},
    {"application/json", "0", false, false, "no gRPC"},
    {"", "0", false, false, "no gRPC"},
    {"application/grpc", "1", false, false, "CANCELLED"},
    {"application/grpc", "2", false, false, "in UNKNOWN"},
    {"application/grpc", "3", false, false, "INVALID_ARGUMENT"},
    {"application/grpc", "4", false, false, "DEADLINE_EXCEEDED"},
    {"application/grpc", "5", false, false, "does not know"},
    {"application/grpc", "6", false, false, "ALREADY_EXISTS"},
    {"application/grpc", "7", false, false, "PERMISSION_DENIED"},
    {"application/grpc", "8", false, false, "RESOURCE_EXHAUSTED"},
    {"application/grpc", "9", false, false, "FAILED_PRECONDITION"},
    {"application/grpc", "10", false, false, "ABORTED"},
    {"application/grpc", "11", false, false, "OUT_OF_RANGE"},
    {"application/grpc", "12", true, true, NULL},
    {"application/grpc", "13", false, false, "INTERNAL"},
    {"application/grpc", "14", false, false, "UNAVAILABLE"},
    {"application/grpc", "15", false, false, "DATA_LOSS"},
    {"application/grpc", "16", false, false, "UNAUTHENTICATED"},
    {"application/grpc", "17", false, false, "no grpc-status"},
    {"application/grpc", "00", false, false, "no grpc-status"},
    {"application/grpc", "", false, false, "no grpc-status"},
};

static void test_compressed_fields(void **state)
{
    static const size_t tables[] = {0, 4096};
    (void)state;
    for (size_t k = 0; k < ARRAY_LEN(rows) * ARRAY_LEN(tables); k++) {
        size_t r = k / ARRAY_LEN(tables);
        char mem[4096], back[READY_GRPC_REPLY];
        struct ready_grpc g;
        struct str in = make_answer(mem, sizeof(mem), rows[r].type, rows[r].status, serving,
                                    tables[k % ARRAY_LEN(tables)]);
        for (size_t step = 1; step <= in.n; step = step < 8 ? step + 1 : step + in.n - 8) {
            struct out reply = out_on(back, sizeof(back));
            assert_true(feed(&g, in, step, &reply));
            if ((g.err == NULL) != rows[r].ready || g.no_health != rows[r].no_health ||
                (g.err && !strstr(g.err, rows[r].why)))
                fail_msg("%s, %s: %s", rows[r].type, rows[r].status, g.err ? g.err : "ready");
            assert_int_equal(reply.n, 9);
            assert_memory_equal(reply.p, "\0\0\0\4\1\0\0\0\0", 9); /* SETTINGS are acknowledged */
        }
    }
}

/* An answer that breaks off anywhere is no verdict. */
static void test_every_prefix(void **state)
{
    char mem[4096], back[READY_GRPC_REPLY];
    struct ready_grpc g;
    struct str in = make_answer(mem, sizeof(mem), "application/grpc", "0", serving, 4096);
    (void)state;
    for (size_t n = 0; n < in.n; n++) {
        struct out reply = out_on(back, sizeof(back));
        assert_false(feed(&g, str_sub(in, 0, n), in.n, &reply));
    }
}

/* Each bit of an answer turned over: judged or not, memory stays whole (sanitizers look on). */
static void test_every_bit(void **state)
{
    char mem[4096], back[READY_GRPC_REPLY];
    struct ready_grpc g;
    struct str in = make_answer(mem, sizeof(mem), "application/grpc", "0", serving, 0);
    unsigned good = 0;
    (void)state;
    for (size_t bit = 0; bit < in.n * 8; bit++) {
        mem[bit / 8] = (char)(mem[bit / 8] ^ 1 << bit % 8);
        struct out reply = out_on(back, sizeof(back));
        good += feed(&g, in, in.n, &reply) && !g.err;
        assert_false(reply.over);
        mem[bit / 8] = (char)(mem[bit / 8] ^ 1 << bit % 8);
    }
    assert_true(good > 0 && good < in.n * 4);
}

/* What does not fit is told, and nothing is written behind the memory that there is. */
static void test_request_bounds(void **state)
{
    char name[400], mem[1024];
    (void)state;
    memset(name, 'n', sizeof(name));
    struct out o = out_on(mem, sizeof(mem));
    ready_grpc_request(&o, STR("localhost"), (struct str){name, 255}, UINT64_MAX);
    assert_false(o.over);
    size_t whole = o.n;
    for (size_t cap = 0; cap < whole; cap++) {
        o = out_on(mem, cap);
        ready_grpc_request(&o, STR("localhost"), (struct str){name, 255}, UINT64_MAX);
        assert_true(o.over && o.n <= cap);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_compressed_fields),
        cmocka_unit_test(test_every_prefix),
        cmocka_unit_test(test_every_bit),
        cmocka_unit_test(test_request_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
