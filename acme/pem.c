/*
 * pem.c - certificates and keys as text, and back. What they are good for is not judged here.
 */
#include "acme/pem.h"

#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <time.h>

/* The content of a memory BIO, copied to `a`; the BIO's own copy is wiped and freed. */
static struct str bio_take(struct arena *a, BIO *b)
{
    char *p = NULL;
    long n = BIO_get_mem_data(b, &p);
    ASSERT(n > 0);
    struct str out = arena_str(a, (struct str){p, (size_t)n});
    OPENSSL_cleanse(p, (size_t)n);
    BIO_free(b);
    return out;
}

struct str pem_of_cert(struct arena *a, X509 *x)
{
    BIO *b = BIO_new(BIO_s_mem());
    ASSERT(b && PEM_write_bio_X509(b, x) == 1);
    return bio_take(a, b);
}

struct str pem_of_key(struct arena *a, EVP_PKEY *k)
{
    BIO *b = BIO_new(BIO_s_mem());
    ASSERT(b && PEM_write_bio_PKCS8PrivateKey(b, k, NULL, NULL, 0, NULL, NULL) == 1);
    return bio_take(a, b);
}

static BIO *bio_of(struct str text)
{
    ASSERT(text.n <= INT32_MAX);
    BIO *b = BIO_new_mem_buf(text.n ? text.p : "", (int)text.n);
    ASSERT(b);
    return b;
}

/* OpenSSL would ask the terminal. */
static int no_passphrase(char *buf UNUSED, int size UNUSED, int rw UNUSED, void *arg UNUSED)
{
    return -1;
}

X509 *pem_cert(struct str text)
{
    BIO *b = bio_of(text);
    X509 *x = PEM_read_bio_X509(b, NULL, no_passphrase, NULL);
    BIO_free(b);
    ERR_clear_error();
    return x;
}

EVP_PKEY *pem_key(struct str text)
{
    BIO *b = bio_of(text);
    EVP_PKEY *k = PEM_read_bio_PrivateKey(b, NULL, no_passphrase, NULL);
    BIO_free(b);
    ERR_clear_error();
    return k;
}

void pem_wipe(struct str secret)
{
    if (secret.n)
        OPENSSL_cleanse((char *)(uintptr_t)secret.p, secret.n);
}

int64_t pem_seconds(const ASN1_TIME *t)
{
    struct tm tm;
    return ASN1_TIME_to_tm(t, &tm) == 1 ? (int64_t)timegm(&tm) : 0;
}
