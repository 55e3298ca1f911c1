/*
 * test_events.c - where an event stream may end: the same places however it is cut into pieces.
 */
#include "base/base.h"

#include <setjmp.h>
#include <string.h>

#include <cmocka.h>

#include "proxy/events.h"

/* '|' marks each place where the stream may end; it is no byte of it. */
static const char *const streams[] = {
    "data: 1\n\n|data: 2\n\n|",
    "data: 1\r\n\r\n|data: 2\r\n\r\n|",
    "data: 1\r\r|data: 2\r\r|",
    "id: 7\nevent: x\ndata: 1\ndata: 2\n\n|",
    ": a comment\n|: another\n|data: 1\n: inside of an event\n\n|",
    "\n|\n|\r\n|\n|",
    "data\n\n|",
    "retry: 10\r\n\r\n|: x\r\n|data",
};

/* Places found when the stream comes in pieces of n bytes, as bits. */
static uint64_t places(const char *bytes, size_t total, size_t n)
{
    struct events e = {0};
    uint64_t found = 0;
    for (size_t from = 0; from < total; from += n) {
        size_t some = MIN(n, total - from);
        for (size_t at = 0; at < some;) {
            size_t took = events_step(&e, (const uint8_t *)bytes + from + at, some - at);
            assert_in_range(took, 1, some - at);
            at += took;
            if (events_between(&e))
                found |= UINT64_C(1) << (from + at);
        }
    }
    return found;
}

static void the_same_places(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(streams); i++) {
        char bytes[64];
        size_t total = 0;
        uint64_t wanted = 0, halves = 0;
        for (const char *p = streams[i]; *p; p++) {
            if (*p == '|')
                wanted |= UINT64_C(1) << total;
            else
                bytes[total++] = *p;
        }
        /* Between CR and its LF a piece may end, and the stream too. */
        for (size_t k = 1; k < total; k++)
            if (bytes[k - 1] == '\r' && bytes[k] == '\n' && (wanted >> (k + 1) & 1))
                halves |= UINT64_C(1) << k;
        assert_true(total < sizeof(bytes));
        for (size_t n = 1; n <= total; n++) {
            uint64_t found = places(bytes, total, n);
            if ((found & ~halves) != wanted)
                fail_msg("%s: in pieces of %zu: %llx, not %llx", streams[i], n,
                         (unsigned long long)found, (unsigned long long)wanted);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_same_places)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
