/*
 * fuzz_hello.c - any bytes as the beginning of a TLS connection: more bytes never change a verdict,
 * how the message is cut into records does not matter, and where OpenSSL reads a hello too, both
 * read the same name.
 */
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>

#include "proxy/hello.h"

static enum hello_verdict look(const uint8_t *p, size_t n, char mem[256], struct str *name)
{
    char *copy = malloc(n ? n : 1);
    ASSERT(copy != NULL);
    if (n)
        memcpy(copy, p, n);
    enum hello_verdict v = hello_name((struct str){copy, n}, mem, name);
    ASSERT(v == HELLO_WHOLE || name->n == 0);
    ASSERT(!name->n || (name->p == mem && name->n <= 255));
    ASSERT(v != HELLO_MORE || n < HELLO_MAX);
    free(copy);
    return v;
}

static void check_prefixes(const uint8_t *p, size_t n, enum hello_verdict whole, struct str host)
{
    char mem[256];
    struct str name;
    bool settled = false;
    const size_t step = n > 512 ? n / 128 : 1;
    for (size_t i = 0; i < n; i += step) {
        enum hello_verdict v = look(p, i, mem, &name);
        ASSERT(!settled || v != HELLO_MORE);
        settled = v != HELLO_MORE;
        if (settled)
            ASSERT(v == whole && str_eq(name, host));
    }
}

/* The message of good records, a byte a record: as long as that is not too much, the same name. */
static void check_recut(const uint8_t *p, struct str host)
{
    static uint8_t to[HELLO_MAX];
    char mem[256];
    struct str name;
    size_t n = 0, left = SIZE_MAX, got = 0;
    uint8_t head[4];
    for (size_t at = 0; left;) {
        size_t record = (size_t)p[at + 3] << 8 | p[at + 4];
        for (size_t i = 0; i < record && left; i++, left--) {
            if (n + 6 >= sizeof(to))
                return;
            memcpy(to + n, "\x16\3\3\0\1", 5);
            to[n + 5] = p[at + 5 + i];
            n += 6;
            if (got < 4)
                head[got++] = p[at + 5 + i];
            if (got == 4 && left > (size_t)1 << 24)
                left = 1 + ((size_t)head[1] << 16 | (size_t)head[2] << 8 | head[3]);
        }
        at += 5 + record;
    }
    ASSERT(look(to, n, mem, &name) == HELLO_WHOLE && str_eq(name, host));
}

/* ---- what OpenSSL makes of it ---- */

struct seen {
    bool called, named, odd;
    char name[256];
    size_t n;
};

static int on_hello(SSL *ssl, int *alert, void *arg)
{
    struct seen *s = SSL_get_app_data(ssl);
    const unsigned char *p;
    size_t n;
    (void)arg;
    s->called = true;
    s->named = SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_server_name, &p, &n) == 1;
    if (s->named && n > 5 && n - 5 <= 255) {
        memcpy(s->name, p + 5, n - 5);
        s->n = n - 5;
    } else {
        s->odd = s->named;
    }
    *alert = SSL_AD_INTERNAL_ERROR;
    return SSL_CLIENT_HELLO_ERROR;
}

static void check_openssl(const uint8_t *p, size_t n, struct str host)
{
    static SSL_CTX *ctx;
    struct seen s = {0};
    if (!ctx) {
        ctx = SSL_CTX_new(TLS_server_method());
        ASSERT(ctx != NULL);
        SSL_CTX_set_client_hello_cb(ctx, on_hello, NULL);
    }
    SSL *ssl = SSL_new(ctx);
    BIO *in = BIO_new_mem_buf(p, (int)n), *out = BIO_new(BIO_s_mem());
    ASSERT(ssl != NULL && in != NULL && out != NULL);
    SSL_set_app_data(ssl, &s);
    SSL_set_bio(ssl, in, out);
    SSL_accept(ssl);
    SSL_free(ssl);
    ERR_clear_error();
    if (s.called && !s.odd)
        ASSERT(str_eq(host, (struct str){s.name, s.n}));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    char mem[256];
    struct str name;
    enum hello_verdict v = look(data, n, mem, &name);
    check_prefixes(data, n, v, name);
    if (v != HELLO_WHOLE)
        return 0;
    check_recut(data, name);
    check_openssl(data, n, name);
    return 0;
}
