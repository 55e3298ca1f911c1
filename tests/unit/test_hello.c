/*
 * test_hello.c - ClientHellos made by OpenSSL, cut into records and segments in every way; and
 * wrong ones, each by the byte that makes it so.
 */
#include "base/base.h" /* first: it says which C library we want */

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>
#include <openssl/ssl.h>
#include <stdlib.h>

#include "proxy/hello.h"

struct hello {
    uint8_t p[40000];
    size_t n;
};

/* What OpenSSL's client would say first. */
static void make(struct hello *h, const char *host, int version, size_t alpn)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
    assert_true(ctx && in && out);
    SSL_CTX_set_max_proto_version(ctx, version);
    SSL *ssl = SSL_new(ctx);
    assert_non_null(ssl);
    if (host)
        assert_int_equal(SSL_set_tlsext_host_name(ssl, host), 1);
    uint8_t *list = calloc(1, alpn + 1); /* makes the hello long: names of 255 bytes */
    assert_non_null(list);
    for (size_t i = 0; i < alpn; i++)
        list[i] = i % 256 ? 'x' : (uint8_t)MIN(alpn - i - 1, (size_t)255);
    if (alpn)
        assert_int_equal(SSL_set_alpn_protos(ssl, list, (unsigned)alpn), 0);
    free(list);
    SSL_set_bio(ssl, in, out);
    SSL_connect(ssl);
    int n = BIO_read(out, h->p, sizeof(h->p));
    assert_true(n > 0);
    h->n = (size_t)n;
    SSL_free(ssl);
    SSL_CTX_free(ctx);
}

/* The same message in records of at most `size` bytes. */
static void recut(struct hello *h, size_t size)
{
    struct hello *to = calloc(1, sizeof(*to));
    assert_non_null(to);
    for (size_t at = 0; at < h->n;) {
        size_t record = (size_t)h->p[at + 3] << 8 | h->p[at + 4];
        for (size_t i = 0; i < record; i += size) {
            size_t n = MIN(size, record - i);
            const uint8_t head[] = {22, 3, 1, (uint8_t)(n >> 8), (uint8_t)n};
            assert_true(to->n + 5 + n <= sizeof(to->p));
            memcpy(to->p + to->n, head, 5);
            memcpy(to->p + to->n + 5, h->p + at + 5 + i, n);
            to->n += 5 + n;
        }
        at += 5 + record;
    }
    *h = *to;
    free(to);
}

/* A copy of exactly that size, so that a sanitizer sees each byte read behind it. */
static enum hello_verdict look(const uint8_t *p, size_t n, char mem[256], struct str *name)
{
    char *copy = malloc(n ? n : 1);
    assert_non_null(copy);
    if (n)
        memcpy(copy, p, n);
    enum hello_verdict v = hello_name((struct str){copy, n}, mem, name);
    free(copy);
    return v;
}

static void expect(const struct hello *h, size_t step, const char *host)
{
    char mem[256];
    struct str name;
    for (size_t n = 0; n < h->n; n += step) {
        assert_int_equal(look(h->p, n, mem, &name), HELLO_MORE);
        assert_int_equal(name.n, 0);
    }
    assert_int_equal(look(h->p, h->n, mem, &name), HELLO_WHOLE);
    if (!str_eq(name, str_of(host ? host : "")))
        fail_msg("the name is " STR_FMT, STR_ARG(name));
}

static void test_every_cut(void **state)
{
    static struct hello h;
    (void)state;
    for (size_t size = 1; size < 64; size++) {
        make(&h, "www.example.org", TLS1_3_VERSION, 0);
        recut(&h, size);
        expect(&h, 1, "www.example.org");
    }
}

static void test_versions(void **state)
{
    static struct hello h;
    char longest[256];
    (void)state;
    memset(longest, 'a', 255);
    longest[255] = '\0';
    make(&h, "A.example", TLS1_2_VERSION, 0);
    expect(&h, 1, "A.example");
    make(&h, NULL, TLS1_3_VERSION, 0);
    expect(&h, 1, NULL);
    make(&h, longest, TLS1_3_VERSION, 0);
    expect(&h, 1, longest);
}

/* As long as hellos with post-quantum keys and more; then longer than is looked at. */
static void test_long(void **state)
{
    static struct hello h;
    char mem[256];
    struct str name;
    (void)state;
    make(&h, "pq.example", TLS1_3_VERSION, 12000);
    expect(&h, 97, "pq.example");
    recut(&h, 500);
    expect(&h, 97, "pq.example");
    make(&h, "pq.example", TLS1_3_VERSION, 20000);
    assert_true(h.n > HELLO_MAX);
    assert_int_equal(look(h.p, h.n, mem, &name), HELLO_BAD);
    /* Not too long for itself, but with the heads of so many records. */
    make(&h, "pq.example", TLS1_3_VERSION, 5000);
    recut(&h, 1);
    assert_true(h.n > HELLO_MAX);
    assert_int_equal(look(h.p, HELLO_MAX - 1, mem, &name), HELLO_MORE);
    assert_int_equal(look(h.p, HELLO_MAX, mem, &name), HELLO_BAD);
}

/* What follows is of no interest: early data, the client's own next record. */
static void test_more_behind(void **state)
{
    static struct hello h;
    char mem[256];
    struct str name;
    (void)state;
    make(&h, "www.example.org", TLS1_3_VERSION, 0);
    memcpy(h.p + h.n, "\x17\x03\x03\x00\x05hello", 10);
    assert_int_equal(look(h.p, h.n + 10, mem, &name), HELLO_WHOLE);
    assert_true(str_eq(name, STR("www.example.org")));
}

/* ---- by hand ---- */

#define R32 "0123456789abcdef0123456789abcdef"
/* version, random, no session, one cipher, no compression */
#define FRONT   "\3\3" R32 "\0\0\2\x13\1\1\0"
#define SNI     "\0\0\0\x0a\0\x08\0\0\5a.org"
#define S(text) text, sizeof(text) - 1

/* `body` of a ClientHello; its record and message heads are put in front. */
static const struct {
    const char *what, *body;
    size_t n;
    enum hello_verdict v;
    const char *host;
} rows[] = {
    {"no extensions", S(FRONT), HELLO_WHOLE, ""},
    {"none in the list", S(FRONT "\0\0"), HELLO_WHOLE, ""},
    {"a name", S(FRONT "\0\x0e" SNI), HELLO_WHOLE, "a.org"},
    {"GREASE before and behind", S(FRONT "\0\x1b\x0a\x0a\0\0" SNI "\xfa\xfa\0\1\0\xfe\x0d\0\0"),
     HELLO_WHOLE, "a.org"},
    {"an encrypted hello: the outer name", S(FRONT "\0\x16" SNI "\xfe\x0d\0\4\0\1\2\3"),
     HELLO_WHOLE, "a.org"},
    {"a byte behind the extensions", S(FRONT "\0\x0e" SNI "x"), HELLO_BAD, ""},
    {"extensions cut off", S(FRONT "\0\x0f" SNI), HELLO_BAD, ""},
    {"half an extension", S(FRONT "\0\3\0\0\0"), HELLO_BAD, ""},
    {"two names", S(FRONT "\0\x1c" SNI SNI), HELLO_BAD, ""},
    {"an empty list", S(FRONT "\0\6\0\0\0\2\0\0"), HELLO_BAD, ""},
    {"an empty name", S(FRONT "\0\x09\0\0\0\5\0\3\0\0\0"), HELLO_BAD, ""},
    {"another kind of name", S(FRONT "\0\x0e\0\0\0\x0a\0\x08\1\0\5a.org"), HELLO_BAD, ""},
    {"a list longer than it is", S(FRONT "\0\x0e\0\0\0\x0a\0\x09\0\0\5a.org"), HELLO_BAD, ""},
    {"a name longer than its list", S(FRONT "\0\x0e\0\0\0\x0a\0\x08\0\0\6a.org"), HELLO_BAD, ""},
    {"no cipher", S("\3\3" R32 "\0\0\0\1\0"), HELLO_BAD, ""},
    {"half a cipher", S("\3\3" R32 "\0\0\3\x13\1\x13\1\0"), HELLO_BAD, ""},
    {"no compression", S("\3\3" R32 "\0\0\2\x13\1\0"), HELLO_BAD, ""},
    {"a session of 33 bytes", S("\3\3" R32 "\x21" R32 "x\0\2\x13\1\1\0"), HELLO_BAD, ""},
    {"SSL 2", S("\2\0" R32 "\0\0\2\x13\1\1\0"), HELLO_BAD, ""},
    {"nothing", S(""), HELLO_BAD, ""},
};

static void test_rows(void **state)
{
    char mem[256];
    struct str name;
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct hello h = {0};
        const size_t n = rows[i].n;
        const uint8_t head[] = {22, 3, 1, 0, (uint8_t)(n + 4), 1, 0, 0, (uint8_t)n};
        assert_true(n + 4 < 256);
        memcpy(h.p, head, sizeof(head));
        memcpy(h.p + sizeof(head), rows[i].body, n);
        enum hello_verdict v = look(h.p, sizeof(head) + n, mem, &name);
        if (v != rows[i].v || !str_eq(name, str_of(rows[i].host)))
            fail_msg("%s: %d, " STR_FMT, rows[i].what, (int)v, STR_ARG(name));
    }
}

static const struct {
    const char *what, *bytes;
    size_t n;
    enum hello_verdict v;
} heads[] = {
    {"nothing", S(""), HELLO_MORE},
    {"HTTP", S("G"), HELLO_BAD},
    {"an alert", S("\x15"), HELLO_BAD},
    {"a record begins", S("\x16"), HELLO_MORE},
    {"another protocol's", S("\x16\2"), HELLO_BAD},
    {"a length is awaited", S("\x16\3\1\x40"), HELLO_MORE},
    {"an empty record", S("\x16\3\1\0\0"), HELLO_BAD},
    {"a record too long", S("\x16\3\1\x40\1"), HELLO_BAD},
    {"a server's hello", S("\x16\3\1\0\x10\2"), HELLO_BAD},
    {"a message too long", S("\x16\3\1\0\x10\1\0\x40\0"), HELLO_BAD},
    {"two messages in a record", S("\x16\3\1\0\x10\1\0\0\5"), HELLO_BAD},
    {"the second record is none", S("\x16\3\1\0\2\1\0G"), HELLO_BAD},
};

static void test_heads(void **state)
{
    char mem[256];
    struct str name;
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(heads); i++) {
        enum hello_verdict v = look((const uint8_t *)heads[i].bytes, heads[i].n, mem, &name);
        if (v != heads[i].v)
            fail_msg("%s: %d", heads[i].what, (int)v);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_cut), cmocka_unit_test(test_versions),
        cmocka_unit_test(test_long),      cmocka_unit_test(test_more_behind),
        cmocka_unit_test(test_rows),      cmocka_unit_test(test_heads)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
