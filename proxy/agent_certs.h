/*
 * agent_certs.h - sending a certificate from the agent to the master, who hands it to the workers.
 */
#ifndef HG_AGENT_CERTS_H
#define HG_AGENT_CERTS_H

#include "base/msg.h"

enum agent_issuer { AGENT_ISSUER_ACME = 1, AGENT_ISSUER_LOCAL = 2 }; /* msg_cert.issuer */

/* `pem`: chain and key in one text. NULL, or why it cannot be served; good until the next call. */
const char *agent_cert_send(struct msg_peer *master, struct str host, struct str pem,
                            int64_t not_after, enum agent_issuer issuer) MUST_USE;

#endif
