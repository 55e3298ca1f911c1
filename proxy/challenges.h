/*
 * challenges.h - how names are proven to a CA, on its way between the processes (roles.h): the
 * words of MSG_CHALLENGE, and a worker's table of what it shows now. Which name is proven how is
 * acme/'s, where it is shown tls.c's (RFC 8737) and req.c's (RFC 8555 8.3).
 */
#ifndef HG_CHALLENGES_H
#define HG_CHALLENGES_H

#include "base/msg.h"

#define CHALLENGES_MAX 4096 /* at a time */

/* The tail of MSG_CHALLENGE. */
struct challenge_text {
    struct str host, token, answer;
};
/* False: it is none. The pieces point into `tail`. */
bool challenge_text_read(struct str tail, struct challenge_text *out) MUST_USE;
void challenge_text_write(const struct challenge_text *t, struct out *tail);

struct tls_cert;

/*
 * A worker's: shows it, or (`on` 0) no more, which is fine for an unknown id. All is copied. NULL,
 * or a sentence that is good until the next call.
 */
const char *challenges_take(const struct msg_challenge *m, struct str tail) MUST_USE;
void challenges_fini(void); /* for tests: none is shown any more */

extern unsigned challenges_shown;
/* Requests and handshakes ask this first: there is nothing to look for nearly always. */
static inline bool challenges_any(void)
{
    return unlikely(challenges_shown > 0);
}
/* Host in lower case, without port. What was shown last, borrowed; NULL, and p == NULL: none. */
struct tls_cert *challenges_cert(struct str host);
struct str challenges_answer(struct str host, struct str token);

#endif
