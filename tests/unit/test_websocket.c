/*
 * test_websocket.c - the handshake's proof (RFC 6455's own example), what a request and an answer
 * must say, and frames cut at every byte.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "proxy/websocket.h"

#define KEY    "dGhlIHNhbXBsZSBub25jZQ=="
#define ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

static void the_rfcs_example(void **state)
{
    (void)state;
    char accept[WEBSOCKET_ACCEPT_SIZE];
    websocket_accept(STR(KEY), accept);
    assert_memory_equal(accept, ACCEPT, sizeof(accept));
}

static void new_keys(void **state)
{
    (void)state;
    char a[WEBSOCKET_KEY_SIZE], b[WEBSOCKET_KEY_SIZE];
    websocket_key_new(a);
    websocket_key_new(b);
    assert_memory_not_equal(a, b, sizeof(a));
    struct arena *arena = arena_new(1024);
    struct fields f = {0};
    struct websocket_request got;
    fields_add(arena, &f, STR("sec-websocket-version"), STR("13"));
    fields_add(arena, &f, STR("sec-websocket-key"), (struct str){a, sizeof(a)});
    assert_null(websocket_request_check(&f, true, &got));
    assert_true(str_eq(got.key, (struct str){a, sizeof(a)}));
    arena_free(&arena);
}

static void tokens(void **state)
{
    (void)state;
    assert_true(websocket_is_token(STR("websocket")));
    assert_true(websocket_is_token(STR("WebSocket")));
    assert_false(websocket_is_token(STR("websocket/13")));
    assert_false(websocket_is_token(STR("h2c, websocket")));
    assert_false(websocket_is_token(STR("")));
    assert_false(websocket_is_token(STR_NULL));
}

static void requests(void **state)
{
    (void)state;
    static const struct {
        const char *keys[3], *versions[3]; /* NULL ends */
        bool keyed, good, other;
    } cases[] = {
        {{KEY}, {"13"}, true, true, false},
        {{NULL}, {"13"}, false, true, false},
        {{"x", "y"}, {"13"}, false, true, false},
        {{NULL}, {"13"}, true, false, false},
        {{KEY, KEY}, {"13"}, true, false, false},
        {{""}, {"13"}, true, false, false},
        {{"dGhlIHNhbXBsZSBub25jZQ="}, {"13"}, true, false, false},
        {{"dGhlIHNhbXBsZSBub25jZQ==="}, {"13"}, true, false, false},
        {{"dGhlIHNhbXBsZSBub25jZQAA"}, {"13"}, true, false, false},
        {{"dGhlIHNhbXBsZSBub25jZQA="}, {"13"}, true, false, false},
        {{"dGhl-HNhbXBsZSBub25jZQ=="}, {"13"}, true, false, false},
        {{KEY}, {NULL}, true, false, false},
        {{KEY}, {"13", "13"}, true, false, false},
        {{KEY}, {"8"}, true, false, true},
        {{KEY}, {"013"}, true, false, true},
        {{KEY}, {"13, 8"}, true, false, true},
        {{NULL}, {"7"}, false, false, true},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct arena *a = arena_new(1024);
        struct fields f = {0};
        struct websocket_request got;
        for (unsigned k = 0; cases[i].keys[k]; k++)
            fields_add(a, &f, STR("sec-websocket-key"), str_of(cases[i].keys[k]));
        for (unsigned k = 0; cases[i].versions[k]; k++)
            fields_add(a, &f, STR("sec-websocket-version"), str_of(cases[i].versions[k]));
        const char *err = websocket_request_check(&f, cases[i].keyed, &got);
        if ((err == NULL) != cases[i].good)
            printf("row %zu: %s\n", i, err ? err : "good");
        assert_int_equal(err == NULL, cases[i].good);
        assert_int_equal(got.other_version, cases[i].other);
        arena_free(&a);
    }
}

static void answers(void **state)
{
    (void)state;
    static const struct {
        const char *upgrade, *accepts[3];
        bool good;
    } cases[] = {
        {"websocket", {ACCEPT}, true},
        {"WebSocket", {ACCEPT}, true},
        {"h2c", {ACCEPT}, false},
        {"websocket", {NULL}, false},
        {"websocket", {ACCEPT, ACCEPT}, false},
        {"websocket", {"S3PPLMBITXAQ9KYGZZHZRBK+XOO="}, false},
        {"websocket", {ACCEPT "="}, false},
        {"websocket", {""}, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct arena *a = arena_new(1024);
        struct fields f = {0};
        for (unsigned k = 0; cases[i].accepts[k]; k++)
            fields_add(a, &f, STR("sec-websocket-accept"), str_of(cases[i].accepts[k]));
        const char *err = websocket_answer_check(&f, str_of(cases[i].upgrade), STR(KEY));
        assert_int_equal(err == NULL, cases[i].good);
        arena_free(&a);
    }
}

/* "|" where a frame ends; the same wherever it is cut. */
static void frames(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t n;
        size_t ends[4]; /* offsets; 0 ends */
        bool closed;    /* after the last one */
    } cases[] = {
        {"\x81\x05hello\x89\x00", 9, {7, 9}, false},
        {"\x81\x85mmmmhello\x88\x02\x03\xe8", 15, {11, 15}, true},
        {"\x82\x7e\x00\x03"
         "abc\x88\x00",
         9,
         {7, 9},
         true},
        {"\x82\x7f\x00\x00\x00\x00\x00\x00\x00\x02"
         "ab\x88\x80mmmm",
         18,
         {12, 18},
         true},
        {"\x88\x02\x03\xe8\x81\x01x", 7, {4, 7}, false},
        {"\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff"
         "abc",
         13,
         {0},
         false},
        {"\x01\x00\x80\x00", 4, {2, 4}, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct websocket_frames f = {0};
        const uint8_t *p = (const uint8_t *)cases[i].bytes;
        unsigned end = 0;
        assert_true(websocket_frames_between(&f) && !websocket_frames_closed(&f));
        for (size_t at = 0; at < cases[i].n; at++) {
            websocket_frames_feed(&f, p + at, 1);
            bool ends = cases[i].ends[end] == at + 1;
            assert_int_equal(websocket_frames_between(&f), ends);
            end += ends;
        }
        assert_int_equal(websocket_frames_closed(&f), cases[i].closed);
        for (size_t cut = 0; cut <= cases[i].n; cut++) {
            struct websocket_frames g = {0};
            websocket_frames_feed(&g, p, cut);
            websocket_frames_feed(&g, p + cut, cases[i].n - cut);
            assert_int_equal(websocket_frames_between(&g), websocket_frames_between(&f));
            assert_int_equal(websocket_frames_closed(&g), websocket_frames_closed(&f));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_rfcs_example), cmocka_unit_test(new_keys), cmocka_unit_test(tokens),
        cmocka_unit_test(requests),         cmocka_unit_test(answers),  cmocka_unit_test(frames),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
