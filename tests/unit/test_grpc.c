/*
 * test_grpc.c - gRPC's vocabulary: media types and their lookalikes, statuses, timeouts, messages
 * cut at every byte.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "proxy/grpc.h"

static void media_types(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum grpc_form form;
        const char *suffix;
    } cases[] = {
        {"application/grpc", GRPC_PLAIN, ""},
        {"application/grpc+proto", GRPC_PLAIN, "+proto"},
        {"Application/gRPC+JSON", GRPC_PLAIN, "+JSON"},
        {"application/grpc; charset=utf-8", GRPC_PLAIN, ""},
        {"application/grpc+proto ;a=b", GRPC_PLAIN, "+proto"},
        {"application/grpc-web", GRPC_WEB, ""},
        {"application/grpc-web+proto", GRPC_WEB, "+proto"},
        {"application/grpc-web-text", GRPC_WEB_TEXT, ""},
        {"application/grpc-web-text+proto", GRPC_WEB_TEXT, "+proto"},
        {"APPLICATION/GRPC-WEB-TEXT", GRPC_WEB_TEXT, ""},
        {"application/grpcx", GRPC_LOOKALIKE, ""},
        {"application/grpc-", GRPC_LOOKALIKE, ""},
        {"application/grpc-web-", GRPC_LOOKALIKE, ""},
        {"application/grpc-webby", GRPC_LOOKALIKE, ""},
        {"application/grpc-web-texts", GRPC_LOOKALIKE, ""},
        {"application/grpc+", GRPC_LOOKALIKE, ""},
        {"application/grpc+a+b", GRPC_LOOKALIKE, ""},
        {"application/grpc +proto", GRPC_LOOKALIKE, ""},
        {"application/grp", GRPC_NONE, ""},
        {"application/json", GRPC_NONE, ""},
        {"text/application/grpc", GRPC_NONE, ""},
        {"", GRPC_NONE, ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct grpc_type t = grpc_type_parse(str_of(cases[i].text));
        assert_int_equal(t.form, cases[i].form);
        assert_true(str_eq(t.suffix, str_of(cases[i].suffix)));
    }
    struct arena *a = arena_new(1024);
    struct grpc_type t = {GRPC_WEB_TEXT, STR("+proto")};
    assert_true(str_eq(grpc_type_text(a, t), STR("application/grpc-web-text+proto")));
    t = (struct grpc_type){.form = GRPC_PLAIN};
    assert_true(str_eq(grpc_type_text(a, t), STR("application/grpc")));
    arena_free(&a);
}

static void statuses(void **state)
{
    (void)state;
    static const struct {
        unsigned http;
        enum grpc_status grpc;
    } cases[] = {
        {400, GRPC_INTERNAL},      {401, GRPC_UNAUTHENTICATED}, {403, GRPC_PERMISSION_DENIED},
        {404, GRPC_UNIMPLEMENTED}, {429, GRPC_UNAVAILABLE},     {502, GRPC_UNAVAILABLE},
        {503, GRPC_UNAVAILABLE},   {504, GRPC_UNAVAILABLE},     {500, GRPC_UNKNOWN},
        {200, GRPC_UNKNOWN},       {302, GRPC_UNKNOWN}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_int_equal(grpc_status_of_http(cases[i].http), cases[i].grpc);
    assert_string_equal(grpc_status_name(GRPC_UNAUTHENTICATED), "UNAUTHENTICATED");
    assert_string_equal(grpc_status_name(GRPC_STATUS_NONE), "?");
    assert_int_equal(grpc_status_parse(STR("14")), GRPC_UNAVAILABLE);
    assert_int_equal(grpc_status_parse(STR("17")), GRPC_UNKNOWN);
    assert_int_equal(grpc_status_parse(STR("-1")), GRPC_UNKNOWN);
    assert_int_equal(grpc_status_parse(STR("")), GRPC_UNKNOWN);
}

static void timeouts(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool valid;
        uint64_t ms;
    } cases[] = {
        {"1S", true, 1000},
        {"100m", true, 100},
        {"2M", true, 120000},
        {"1H", true, 3600000},
        {"0S", true, 0},
        {"1n", true, 1},
        {"1000001n", true, 2},
        {"99999999u", true, 100000},
        {"99999999S", true, GRPC_TIMEOUT_MAX_MS},
        {"99999999H", true, GRPC_TIMEOUT_MAX_MS},
        {"123456789S", false, 0},
        {"S", false, 0},
        {"1", false, 0},
        {"1s", false, 0},
        {"-1S", false, 0},
        {"1.5S", false, 0},
        {" 1S", false, 0},
        {"", false, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        uint64_t ms = 0;
        assert_int_equal(grpc_timeout_parse(str_of(cases[i].text), &ms), cases[i].valid);
        if (cases[i].valid)
            assert_int_equal(ms, cases[i].ms);
    }
}

static void messages_for_people(void **state)
{
    (void)state;
    struct arena *a = arena_new(1024);
    assert_true(
        str_eq(grpc_message_encode(a, STR("no instance is ready")), STR("no instance is ready")));
    assert_true(
        str_eq(grpc_message_encode(a, STR("50% \n\x7f\xc3\xa4")), STR("50%25 %0A%7F%C3%A4")));
    assert_int_equal(grpc_message_encode(a, STR("")).n, 0);
    arena_free(&a);
}

/* Three messages, cut at every two places. */
static void frames_in_pieces(void **state)
{
    (void)state;
    static const uint8_t body[] = {0, 0, 0, 0, 3, 'a', 'b', 'c', 1,   0,
                                   0, 0, 0, 0, 0, 0,   0,   2,   'x', 'y'};
    for (size_t i = 0; i <= sizeof(body); i++) {
        for (size_t k = i; k <= sizeof(body); k++) {
            struct grpc_frames f = {0};
            assert_null(grpc_frames_feed(&f, body, i));
            assert_int_equal(grpc_frames_between(&f), i == 0 || i == 8 || i == 13 || i == 20);
            assert_null(grpc_frames_feed(&f, body + i, k - i));
            assert_null(grpc_frames_feed(&f, body + k, sizeof(body) - k));
            assert_true(grpc_frames_between(&f));
            assert_int_equal(f.messages, 3);
        }
    }
}

static void frames_refused(void **state)
{
    (void)state;
    static const uint8_t eight[] = {0, 0, 0, 0, 8}, nine[] = {0, 0, 0, 0, 9},
                         flags[] = {2, 0, 0, 0, 0}, trailers[] = {0x80, 0, 0, 0, 0},
                         huge[] = {0, 0xff, 0xff, 0xff, 0xff};
    struct grpc_frames f = {.max = 8};
    assert_null(grpc_frames_feed(&f, eight, sizeof(eight)));
    f = (struct grpc_frames){.max = 8};
    assert_ptr_equal(grpc_frames_feed(&f, nine, sizeof(nine)), grpc_err_too_large);
    f = (struct grpc_frames){0};
    assert_ptr_equal(grpc_frames_feed(&f, flags, sizeof(flags)), grpc_err_flags);
    f = (struct grpc_frames){0};
    assert_ptr_equal(grpc_frames_feed(&f, trailers, sizeof(trailers)), grpc_err_flags);
    f = (struct grpc_frames){0};
    assert_null(grpc_frames_feed(&f, huge, sizeof(huge)));
    assert_false(grpc_frames_between(&f));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(media_types),      cmocka_unit_test(statuses),
        cmocka_unit_test(timeouts),         cmocka_unit_test(messages_for_people),
        cmocka_unit_test(frames_in_pieces), cmocka_unit_test(frames_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
