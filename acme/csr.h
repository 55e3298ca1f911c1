/*
 * csr.h - keys for certificates, and the request for one (RFC 2986). Pure.
 */
#ifndef HG_CSR_H
#define HG_CSR_H

#include <openssl/x509.h>

#include "base/arena.h"
#include "conf/conf.h"

EVP_PKEY *csr_key_new(enum conf_acme_key kind);
/* DER, in a: the host as its only name, no subject, nothing else. */
struct str csr_make(struct arena *a, EVP_PKEY *key, struct str host);
/* A subject alternative name with this DNS name alone, the caller's to free. */
X509_EXTENSION *csr_san(struct str host);

#endif
