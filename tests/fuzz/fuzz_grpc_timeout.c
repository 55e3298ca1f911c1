/*
 * fuzz_grpc_timeout.c - any bytes as grpc-timeout, as a content type, a status and a message for
 * people: what is taken is what the specification's grammar takes, and means what it says.
 */
#include "proxy/grpc.h"

/* One to eight digits and a unit; what they mean in ms, rounded up, no more than the longest. */
static bool plain_timeout(struct str s, uint64_t *ms)
{
    static const struct {
        char unit;
        uint64_t ns;
    } units[] = {{'n', 1},
                 {'u', 1000},
                 {'m', 1000 * 1000},
                 {'S', 1000 * 1000 * 1000},
                 {'M', 60000ull * 1000 * 1000},
                 {'H', 3600000ull * 1000 * 1000}};
    unsigned __int128 v = 0;
    if (s.n < 2 || s.n > 9)
        return false;
    for (size_t i = 0; i + 1 < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
        v = v * 10 + (unsigned)(s.p[i] - '0');
    }
    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        if (units[i].unit != s.p[s.n - 1])
            continue;
        v = (v * units[i].ns + 999999) / 1000000;
        *ms = v > GRPC_TIMEOUT_MAX_MS ? GRPC_TIMEOUT_MAX_MS : (uint64_t)v;
        return true;
    }
    return false;
}

static void timeout(struct str s)
{
    uint64_t ms = 0, want = 0;
    const bool good = plain_timeout(s, &want);
    ASSERT(grpc_timeout_parse(s, &ms) == good);
    ASSERT(!good || ms == want);
}

static unsigned hex(char c)
{
    return (unsigned)(c <= '9' ? c - '0' : c - 'A' + 10);
}

/* Printable, and the same when it is decoded. */
static void message(struct arena *a, struct str s)
{
    const struct str text = grpc_message_encode(a, s);
    size_t at = 0;
    for (size_t i = 0; i < text.n; i++, at++) {
        unsigned char c = (unsigned char)text.p[i];
        ASSERT(c >= 0x20 && c < 0x7f && at < s.n);
        if (c == '%') {
            ASSERT(i + 2 < text.n);
            c = (unsigned char)(hex(text.p[i + 1]) << 4 | hex(text.p[i + 2]));
            i += 2;
        }
        ASSERT(c == (unsigned char)s.p[at]);
    }
    ASSERT(at == s.n);
}

/* A form is found again in the text that is made of it. */
static void type(struct arena *a, struct str s)
{
    const struct grpc_type t = grpc_type_parse(s);
    if (t.form == GRPC_NONE || t.form == GRPC_LOOKALIKE)
        return;
    const struct grpc_type again = grpc_type_parse(grpc_type_text(a, t));
    ASSERT(again.form == t.form && str_eq(again.suffix, t.suffix));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct str s = {(const char *)data, size};
    struct arena *a = arena_new(256);
    timeout(s);
    message(a, s);
    type(a, s);
    ASSERT(grpc_status_parse(s) < GRPC_STATUS_COUNT);
    arena_free(&a);
    return 0;
}
