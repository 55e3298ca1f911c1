/* proxy/proxy_protocol: headers as balancers send them and as nobody should; whole, and cut
 * anywhere. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs the four above first */
#include <cmocka.h>

#include "proxy/proxy_protocol.h"

#define SIG   "\r\n\r\n\0\r\nQUIT\n"
#define LOCAL "\x20"
#define PROXY "\x21"
#define TCP4  "\x11"
#define TCP6  "\x21"
#define ADDR4 \
    "\xc0\x00\x02\x07\x7f\x00\x00\x01\x12\x67\x01\xbb" /* 192.0.2.7:4711 → 127.0.0.1:443 */
#define MAPPED "\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\0\2\7"
#define ADDR6                                                                         \
    "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\7" /* [2001:db8::7]:4711 → [::1]:443 */ \
    "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1\x12\x67\x01\xbb"
#define Z8  "\0\0\0\0\0\0\0\0"
#define Z64 Z8 Z8 Z8 Z8 Z8 Z8 Z8 Z8
#define A44 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

enum { MORE = PROXY_PROTOCOL_MORE, DONE = PROXY_PROTOCOL_DONE, BAD = PROXY_PROTOCOL_BAD };

static const struct row {
    const char *name;
    struct str in;
    int state;
    const char *ip; /* NULL: none is named; BAD: a part of the reason */
    unsigned port;
} rows[] = {
#define NAMES(name, in, ip, port)                  \
    {                                              \
        name, {in, sizeof(in) - 1}, DONE, ip, port \
    }
#define SAYS(name, in, state)                      \
    {                                              \
        name, {in, sizeof(in) - 1}, state, NULL, 0 \
    }
#define FAILS(name, in, why)                    \
    {                                           \
        name, {in, sizeof(in) - 1}, BAD, why, 0 \
    }
    /* version 1 */
    NAMES("v1_tcp4", "PROXY TCP4 192.0.2.7 127.0.0.1 4711 443\r\n", "192.0.2.7", 443),
    NAMES("v1_tcp6", "PROXY TCP6 2001:db8::7 ::1 4711 443\r\n", "2001:db8::7", 443),
    NAMES("v1_tcp6_mapped", "PROXY TCP6 ::ffff:192.0.2.7 ::1 1 65535\r\n", "192.0.2.7", 65535),
    NAMES("v1_port_0", "PROXY TCP4 192.0.2.7 127.0.0.1 0 0\r\n", "192.0.2.7", 0),
    SAYS("v1_unknown", "PROXY UNKNOWN\r\n", DONE),
    SAYS("v1_unknown_with_addresses", "PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", DONE),
    SAYS("v1_unknown_with_anything", "PROXY UNKNOWN a b c d e f g\r\n", DONE),
    NAMES("v1_longest",
          "PROXY TCP6 ffff:f00f:ffff:ffff:ffff:ffff:ffff:ffff "
          "ffff:f00f:ffff:ffff:ffff:ffff:ffff:ffff "
          "65535 65535\r\n",
          "ffff:f00f:ffff:ffff:ffff:ffff:ffff:ffff", 65535),
    SAYS("v1_no_end", "PROXY TCP4 192.0.2.7 127.0.0.1 4711 443", MORE),
    SAYS("v1_only_cr", "PROXY TCP4 192.0.2.7 127.0.0.1 4711 443\r", MORE),
    FAILS("v1_bare_lf", "PROXY TCP4 192.0.2.7 127.0.0.1 4711 443\n", "CR LF"),
    FAILS("v1_too_long", "PROXY UNKNOWN " A44 A44 A44, "too long"),
    SAYS("v1_107_bytes", "PROXY UNKNOWN " A44 A44 "aaa\r\n", DONE),
    FAILS("v1_108_bytes", "PROXY UNKNOWN " A44 A44 "aaaa\r\n", "too long"),
    FAILS("v1_udp", "PROXY UDP4 192.0.2.7 127.0.0.1 4711 443\r\n", "malformed"),
    FAILS("v1_lower_case", "proxy tcp4 192.0.2.7 127.0.0.1 4711 443\r\n", "begin"),
    FAILS("v1_unknown_glued", "PROXY UNKNOWNX\r\n", "malformed"),
    FAILS("v1_wrong_family_4", "PROXY TCP4 ::1 ::1 4711 443\r\n", "malformed"),
    FAILS("v1_wrong_family_6", "PROXY TCP6 192.0.2.7 127.0.0.1 4711 443\r\n", "malformed"),
    FAILS("v1_two_spaces", "PROXY TCP4  192.0.2.7 127.0.0.1 4711 443\r\n", "malformed"),
    FAILS("v1_tab", "PROXY TCP4\t192.0.2.7 127.0.0.1 4711 443\r\n", "malformed"),
    FAILS("v1_space_at_end", "PROXY TCP4 192.0.2.7 127.0.0.1 4711 443 \r\n", "malformed"),
    FAILS("v1_a_word_more", "PROXY TCP4 192.0.2.7 127.0.0.1 4711 443 x\r\n", "malformed"),
    FAILS("v1_a_word_less", "PROXY TCP4 192.0.2.7 127.0.0.1 4711\r\n", "malformed"),
    FAILS("v1_nothing_more", "PROXY TCP4\r\nGET", ""),
    FAILS("v1_port_65536", "PROXY TCP4 192.0.2.7 127.0.0.1 4711 65536\r\n", "malformed"),
    FAILS("v1_port_with_zero", "PROXY TCP4 192.0.2.7 127.0.0.1 04711 443\r\n", "malformed"),
    FAILS("v1_port_sign", "PROXY TCP4 192.0.2.7 127.0.0.1 +471 443\r\n", "malformed"),
    FAILS("v1_no_address", "PROXY TCP4 192.0.2.256 127.0.0.1 4711 443\r\n", "malformed"),
    FAILS("v1_short_address",
          "PROXY TCP4 192.2.7 "
          "127.0.0.1 4711 443\r\n",
          "malformed"),
    FAILS("v1_zone", "PROXY TCP6 fe80::1%lo ::1 4711 443\r\n", "malformed"),
    FAILS("v1_bad_server",
          "PROXY TCP4 192.0.2.7 "
          "localhost 4711 443\r\n",
          "malformed"),
    FAILS("v1_nul",
          "PROXY TCP4 192.0.2.7\0 127.0.0.1 4711 "
          "443\r\n",
          "malformed"),
    FAILS("v1_line_in_line", "PROXY UNKNOWN\nGET / HTTP/1.1\r\n", "CR LF"),
    /* version 2 */
    NAMES("v2_tcp4", SIG PROXY TCP4 "\0\x0c" ADDR4, "192.0.2.7", 443),
    NAMES("v2_tcp6", SIG PROXY TCP6 "\0\x24" ADDR6, "2001:db8::7", 443),
    NAMES("v2_tcp6_mapped", SIG PROXY TCP6 "\0\x24" MAPPED MAPPED "\0\1\0\2", "192.0.2.7", 2),
    SAYS("v2_unix", SIG PROXY "\x31\0\xd8" Z64 Z64 Z64 Z8 Z8 Z8, DONE),
    FAILS("v2_unix_cut", SIG PROXY "\x31\0\x0c" ADDR4, "cut"),
    SAYS("v2_unspec", SIG PROXY "\0\0\0", DONE),
    SAYS("v2_unspec_with_tlvs", SIG PROXY "\0\0\6\4\0\3abc", DONE),
    SAYS("v2_udp4", SIG PROXY "\x12\0\x0c" ADDR4, DONE),
    SAYS("v2_local", SIG LOCAL "\0\0\0", DONE),
    SAYS("v2_local_with_addresses", SIG LOCAL TCP4 "\0\x0c" ADDR4, DONE),
    SAYS("v2_local_with_garbage", SIG LOCAL "\xff\0\3\xff\xff\xff", DONE),
    NAMES("v2_more_than_addresses", SIG PROXY TCP4 "\0\x0f" ADDR4 "\4\0\0", "192.0.2.7", 443),
    NAMES("v2_tlvs", SIG PROXY TCP4 "\0\x19" ADDR4 "\1\0\2h2\2\0\5a.org", "192.0.2.7", 443),
    NAMES("v2_crc", SIG PROXY TCP4 "\0\x13" ADDR4 "\3\0\4\x7b\xc2\xa2\xd4", "192.0.2.7", 443),
    FAILS("v2_crc_wrong", SIG PROXY TCP4 "\0\x13" ADDR4 "\3\0\4\1\2\3\4", "does not fit"),
    FAILS("v2_crc_short", SIG PROXY TCP4 "\0\x12" ADDR4 "\3\0\3\1\2\3", "malformed"),
    FAILS("v2_tlv_too_long", SIG PROXY TCP4 "\0\x13" ADDR4 "\1\0\5abcd", "TLV"),
    FAILS("v2_tlv_cut", SIG PROXY TCP4 "\0\x0e" ADDR4 "\1\0", "TLV"),
    FAILS("v2_addresses_cut", SIG PROXY TCP4 "\0\x0b\xc0\x00\x02\x07\x7f\0\0\1\x12\x67\1", "cut"),
    FAILS("v2_tcp6_with_4_bytes", SIG PROXY TCP6 "\0\x0c" ADDR4, "cut"),
    FAILS("v2_no_body", SIG PROXY TCP4 "\0\0", "cut"),
    SAYS("v2_not_whole", SIG PROXY TCP4 "\0\x0c\xc0\x00\x02\x07", MORE),
    SAYS("v2_only_signature", SIG, MORE),
    FAILS("v2_version_1", SIG "\x11" TCP4 "\0\x0c" ADDR4, "version"),
    FAILS("v2_version_3", SIG "\x31" TCP4 "\0\x0c" ADDR4, "version"),
    FAILS("v2_command_2", SIG "\x22" TCP4 "\0\x0c" ADDR4, "version"),
    FAILS("v2_family_4", SIG PROXY "\x41\0\x0c" ADDR4, "family"),
    FAILS("v2_transport_3", SIG PROXY "\x13\0\x0c" ADDR4, "family"),
    SAYS("v2_4096_bytes_and_not_whole", SIG PROXY TCP4 "\x0f\xf0" ADDR4, MORE),
    FAILS("v2_4097_bytes", SIG PROXY TCP4 "\x0f\xf1" ADDR4, "longer"),
    FAILS("v2_65551_bytes", SIG LOCAL TCP4 "\xff\xff" ADDR4, "longer"),
    FAILS("v2_signature_wrong", "\r\n\r\n\0\r\nQUIX\n" PROXY TCP4, "begin"),
    /* neither */
    SAYS("nothing", "", MORE),
    SAYS("one_byte_of_v1", "P", MORE),
    SAYS("one_byte_of_v2", "\r", MORE),
    FAILS("http", "GET / HTTP/1.1\r\n\r\n", "begin"),
    FAILS("http_put", "PUT / HTTP/1.1\r\n\r\n", "begin"),
    FAILS("http_beginning_like_v2", "\r\n\r\nGET / HTTP/1.1\r\n\r\n", "begin"),
    FAILS("tls", "\x16\3\1\2\0\1\0\1\xfc\3\3aaaa", "begin"),
};

static void check(const struct row *row, const struct proxy_protocol *h)
{
    char text[NET_TEXT_MAX];
    assert_int_equal((int)h->state, row->state);
    if (row->state == BAD) {
        assert_non_null(strstr(h->error, row->ip));
        return;
    }
    assert_int_equal(h->named, row->ip != NULL);
    if (!row->ip)
        return;
    assert_string_equal(net_ip_text(h->ip, text).p, row->ip);
    assert_int_equal(h->local_port, row->port);
}

/* As many bytes at a time; returns how many were taken of all. */
static size_t feed(struct proxy_protocol *h, const char *p, size_t n, size_t step)
{
    size_t used = 0;
    *h = (struct proxy_protocol){0};
    while (used < n && h->state == PROXY_PROTOCOL_MORE) {
        size_t some = MIN(step, n - used), took = proxy_protocol_feed(h, p + used, some);
        assert_true(took <= some);
        if (h->state == PROXY_PROTOCOL_MORE)
            assert_int_equal(took, some);
        used += took;
    }
    return used;
}

static void test_rows(void **state)
{
    static struct proxy_protocol h;
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct row *r = &rows[i];
        print_message("  %s\n", r->name);
        for (size_t step = 1; step <= r->in.n; step++) {
            feed(&h, r->in.p, r->in.n, step);
            check(r, &h);
        }
    }
}

/* What follows the header is not the header's. */
static void test_not_a_byte_more(void **state)
{
    static struct proxy_protocol h;
    char whole[600];
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct row *r = &rows[i];
        if (r->state != DONE)
            continue;
        memcpy(whole, r->in.p, r->in.n);
        memcpy(whole + r->in.n, "GET / HTTP/1.1\r\n", 16);
        for (size_t step = 1; step <= r->in.n + 16; step++) {
            assert_int_equal(feed(&h, whole, r->in.n + 16, step), r->in.n);
            check(r, &h);
        }
    }
}

/* The largest that is taken. */
static void test_4096_bytes(void **state)
{
    static struct proxy_protocol h;
    static char whole[PROXY_PROTOCOL_MAX + 1] = SIG PROXY TCP4 "\x0f\xf0" ADDR4 "\xe0\x0f\xe1";
    (void)state;
    for (size_t step = 1; step <= sizeof(whole); step += 13) {
        assert_int_equal(feed(&h, whole, sizeof(whole), step), PROXY_PROTOCOL_MAX);
        assert_int_equal(h.state, PROXY_PROTOCOL_DONE);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_not_a_byte_more),
        cmocka_unit_test(test_4096_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
