/*
 * cert_check.h - may this chain be stored and served for that host? What a strict client would
 * refuse is refused here, with the reason. Pure.
 */
#ifndef HG_CERT_CHECK_H
#define HG_CERT_CHECK_H

#include "base/arena.h"

#define CERT_CHAIN_MAX (128 * 1024) /* bytes */

struct cert_facts {
    struct str pem; /* normalised: leaf first, LF, nothing around the blocks; a root at the end is
                       dropped */
    struct str leaf_der;
    int64_t not_before, not_after; /* wall clock s, of the leaf */
    int64_t chain_until;           /* the first end of any of them */
    struct str ari_id;             /* RFC 9773 4.1; empty when the leaf has no key identifier */
    struct str issuer;             /* common name of who signed the leaf, for people */
    struct str top; /* issuer common name of the last one: alternate chains are chosen by it */
};

/*
 * Leaf and intermediates in order (RFC 8555 7.4.2). The key (PEM) is the leaf's; the SAN is exactly
 * `host` (one name, nothing else); all dates hold at `now` (a leaf that begins a minute later is
 * waited for by nobody: refused); each is signed by the next, which is a CA and may; TLS server
 * use; nothing weak, nothing that a strict client does not know. A leaf alone is refused: whether
 * its issuer is a root cannot be seen. CRLF, text around the blocks and a missing last newline are
 * fine. NULL and *out, with its strings in a; or a sentence in a.
 */
const char *cert_check(struct arena *a, struct str chain_pem, struct str key_pem, struct str host,
                       int64_t now, struct cert_facts *out) MUST_USE;

#endif
