/*
 * pem.h - certificates and keys as text, and back. What they are good for is not judged here.
 */
#ifndef HG_PEM_H
#define HG_PEM_H

#include <openssl/x509.h>

#include "base/arena.h"

struct str pem_of_cert(struct arena *a, X509 *x);
struct str pem_of_key(struct arena *a, EVP_PKEY *k); /* PKCS#8, not encrypted */
/* The first one of the text, the caller's to free; NULL: there is none. */
X509 *pem_cert(struct str text);
EVP_PKEY *pem_key(struct str text);
void pem_wipe(struct str secret);        /* a copy that is not needed any more */
int64_t pem_seconds(const ASN1_TIME *t); /* wall clock s; 0: it is no time */

#endif
