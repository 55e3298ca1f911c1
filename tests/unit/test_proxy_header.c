/*
 * test_proxy_header.c - the header of the PROXY protocol, byte by byte, for every kind of address.
 */
#include "base/base.h" /* first: it says which C library we want */

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include "proxy/proxy_header.h"

static struct sockaddr_storage at(const char *ip, uint16_t port)
{
    struct sockaddr_storage sa = {0};
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    if (!ip)
        sa.ss_family = AF_UNIX;
    else if (inet_pton(AF_INET, ip, &in.sin_addr) == 1)
        memcpy(&sa, &in, sizeof(in));
    else if (inet_pton(AF_INET6, ip, &in6.sin6_addr) == 1)
        memcpy(&sa, &in6, sizeof(in6));
    else
        fail_msg("%s is no address", ip);
    return sa;
}

#define V2      "\r\n\r\n\0\r\nQUIT\n"
#define B(text) text, sizeof(text) - 1

static const struct {
    const char *from, *to;
    uint16_t from_port, to_port;
    const char *v1, *v2;
    size_t v2_n;
} rows[] = {
    {"192.0.2.1", "198.51.100.2", 56324, 443, "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n",
     B(V2 "\x21\x11\0\x0c\xc0\0\2\1\xc6\x33\x64\2\xdc\4\1\xbb")},
    {"2001:db8::1", "2001:db8::2", 1, 65535, "PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n",
     B(V2
       "\x21\x21\0\x24\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\2"
       "\0\1\xff\xff")},
    /* a dual-stack listener's view of IPv4 */
    {"::ffff:192.0.2.1", "::ffff:198.51.100.2", 56324, 443,
     "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n",
     B(V2 "\x21\x11\0\x0c\xc0\0\2\1\xc6\x33\x64\2\xdc\4\1\xbb")},
    {"192.0.2.1", "::1", 7, 8, "PROXY TCP6 ::ffff:192.0.2.1 ::1 7 8\r\n",
     B(V2 "\x21\x21\0\x24\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\0\2\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1"
          "\0\7\0\x08")},
    {NULL, NULL, 0, 0, "PROXY UNKNOWN\r\n", B(V2 "\x20\0\0\0")},
    {"192.0.2.1", NULL, 5, 0, "PROXY UNKNOWN\r\n", B(V2 "\x20\0\0\0")},
};

static void test_rows(void **state)
{
    char mem[PROXY_HEADER_MAX];
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct sockaddr_storage from = at(rows[i].from, rows[i].from_port),
                                      to = at(rows[i].to, rows[i].to_port);
        struct str s = proxy_header(CONF_SEND_PROXY_V1, &from, &to, mem);
        if (!str_eq(s, str_of(rows[i].v1)))
            fail_msg("row %zu: " STR_FMT, i, STR_ARG(s));
        s = proxy_header(CONF_SEND_PROXY_V2, &from, &to, mem);
        if (!str_eq(s, (struct str){rows[i].v2, rows[i].v2_n}))
            fail_msg("row %zu: v2, %zu bytes", i, s.n);
    }
}

/* The longest that there is fits. */
static void test_longest(void **state)
{
    char mem[PROXY_HEADER_MAX];
    const char *ip = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    const struct sockaddr_storage end = at(ip, 65535);
    (void)state;
    assert_int_equal(proxy_header(CONF_SEND_PROXY_V1, &end, &end, mem).n,
                     sizeof("PROXY TCP6   65535 65535\r\n") - 1 + 2 * 39);
    assert_int_equal(proxy_header(CONF_SEND_PROXY_V2, &end, &end, mem).n, 16 + 36);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rows), cmocka_unit_test(test_longest)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
