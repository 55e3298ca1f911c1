/* base/net: addresses from text and sockets, and which network has them. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/net.h"

static void test_parse(void **state)
{
    static const struct {
        const char *in, *out; /* NULL: no address */
    } rows[] = {
        {"192.0.2.1", "192.0.2.1"},
        {"2001:DB8:0:0::1", "2001:db8::1"},
        {"::ffff:192.0.2.1", "192.0.2.1"},
        {"::ffff:c000:201", "192.0.2.1"},
        {"::", "::"},
        {"::1", "::1"},
        {"0.0.0.0", "0.0.0.0"},
        {"", NULL},
        {"192.0.2", NULL},
        {"192.0.2.256", NULL},
        {"192.0.2.1 ", NULL},
        {"192.0.2.1:80", NULL},
        {"[::1]", NULL},
        {"fe80::1%eth0", NULL},
        {"unix", NULL},
        {"1:2:3:4:5:6:7:8:9", NULL},
        {"0000:0000:0000:0000:0000:0000:0000:0000:0000:00", NULL},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char buf[NET_TEXT_MAX];
        struct net_ip ip;
        bool ok = net_ip_parse(str_of(rows[i].in), &ip);
        print_message("  %s\n", rows[i].in);
        assert_int_equal(ok, rows[i].out != NULL);
        if (ok)
            assert_string_equal(net_ip_text(ip, buf).p, rows[i].out);
    }
    struct net_ip ip;
    assert_false(net_ip_parse(STR("192.0.2.1\0"), &ip));
}

static void test_ranges(void **state)
{
    static const struct {
        const char *range, *ip;
        bool has;
    } rows[] = {
        {"10.0.0.0/8", "10.255.255.255", true},
        {"10.0.0.0/8", "11.0.0.0", false},
        {"10.1.2.3/8", "10.9.9.9", true},
        {"192.0.2.128/25", "192.0.2.128", true},
        {"192.0.2.128/25", "192.0.2.127", false},
        {"192.0.2.1", "192.0.2.1", true},
        {"192.0.2.1", "192.0.2.2", false},
        {"192.0.2.1/31", "192.0.2.0", true},
        {"0.0.0.0/0", "255.1.2.3", true},
        {"0.0.0.0/0", "2001:db8::1", false},
        {"::/0", "2001:db8::1", true},
        {"::/0", "192.0.2.1", false},
        {"2001:db8::/32", "2001:db8:ffff::1", true},
        {"2001:db8::/32", "2001:db9::", false},
        {"2001:db8::/33", "2001:db8:8000::", false},
        {"::ffff:10.0.0.0/104", "10.1.1.1", true},
        {"::ffff:10.0.0.1", "10.0.0.1", true},
        {"10.0.0.0/8", "::ffff:10.0.0.1", true},
        {"unix", "10.0.0.1", false},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct net_range r;
        struct net_ip ip;
        print_message("  %s %s\n", rows[i].range, rows[i].ip);
        assert_true(net_range_parse(str_of(rows[i].range), &r));
        assert_true(net_ip_parse(str_of(rows[i].ip), &ip));
        assert_int_equal(net_ranges_have((struct net_ranges){&r, 1}, ip), rows[i].has);
    }
    struct net_range all[3];
    const struct net_ip unix_peer = {.family = NET_UNIX}, nobody = {0};
    assert_true(net_range_parse(STR("0.0.0.0/0"), &all[0]));
    assert_true(net_range_parse(STR("::/0"), &all[1]));
    assert_true(net_range_parse(STR("unix"), &all[2]));
    assert_false(net_ranges_have((struct net_ranges){all, 2}, unix_peer));
    assert_true(net_ranges_have((struct net_ranges){all, 3}, unix_peer));
    assert_false(net_ranges_have((struct net_ranges){all, 3}, nobody));
    assert_false(net_ranges_have((struct net_ranges){0}, unix_peer));
}

static void test_no_ranges(void **state)
{
    static const char *const rows[] = {"",
                                       "/8",
                                       "10.0.0.0/",
                                       "10.0.0.0/33",
                                       "10.0.0.0/-1",
                                       "10.0.0/8",
                                       "2001:db8::/129",
                                       "10.0.0.0/8/8",
                                       "localhost",
                                       "unix:/run",
                                       "::ffff:10.0.0.0/95",
                                       "10.0.0.0/ 8"};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct net_range r;
        print_message("  %s\n", rows[i]);
        assert_false(net_range_parse(str_of(rows[i]), &r));
    }
}

static void test_sockets(void **state)
{
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr un = {.sa_family = AF_UNIX};
    char buf[NET_TEXT_MAX];
    (void)state;
    inet_pton(AF_INET6, "::ffff:192.0.2.7", &v6.sin6_addr);
    inet_pton(AF_INET, "192.0.2.7", &v4.sin_addr);
    struct net_ip from6 = net_ip_of((struct sockaddr *)(void *)&v6),
                  from4 = net_ip_of((struct sockaddr *)(void *)&v4);
    assert_true(net_ip_eq(from6, from4));
    inet_pton(AF_INET6, "2001:db8::7", &v6.sin6_addr);
    assert_string_equal(net_ip_text(net_ip_of((struct sockaddr *)(void *)&v6), buf).p,
                        "2001:db8::7");
    assert_string_equal(net_ip_text(net_ip_of(&un), buf).p, "unix");
    struct sockaddr_storage back;
    net_to_sockaddr(from4, 80, &back);
    assert_int_equal(back.ss_family, AF_INET);
    assert_int_equal(((struct sockaddr_in *)(void *)&back)->sin_port, htons(80));
    assert_true(net_ip_eq(net_ip_of((struct sockaddr *)(void *)&back), from4));
    net_to_sockaddr(net_ip_of((struct sockaddr *)(void *)&v6), 443, &back);
    assert_int_equal(back.ss_family, AF_INET6);
    assert_int_equal(((struct sockaddr_in6 *)(void *)&back)->sin6_port, htons(443));
    net_to_sockaddr(net_ip_of(&un), 443, &back);
    assert_int_equal(back.ss_family, AF_UNSPEC);
}

static void test_groups(void **state)
{
    static const struct {
        const char *a, *b;
        bool same;
    } rows[] = {
        {"2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", true},
        {"2001:db8::1", "2001:db8:0:1::1", false},
        {"192.0.2.1", "192.0.2.2", false},
        {"192.0.2.1", "::ffff:192.0.2.1", true},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct net_ip a, b;
        assert_true(net_ip_parse(str_of(rows[i].a), &a));
        assert_true(net_ip_parse(str_of(rows[i].b), &b));
        assert_int_equal(net_ip_eq(net_ip_group(a), net_ip_group(b)), rows[i].same);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),     cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_no_ranges), cmocka_unit_test(test_sockets),
        cmocka_unit_test(test_groups),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
