/*
 * agent_acme.h - the ACME issuer (acme/issuer.h) in the agent: what it wants told goes to the
 * master as messages.
 */
#ifndef HG_AGENT_ACME_H
#define HG_AGENT_ACME_H

#include "base/msg.h"
#include "conf/conf.h"

/*
 * The hosts of a configuration that get their certificates by ACME; those on disk are sent before
 * it returns. `state`: as the agent reaches the state folder.
 */
void agent_acme_use(struct conf *c, const struct str *hosts, unsigned n, struct msg_peer *master,
                    const char *state);
bool agent_acme_serves(struct str host); /* or does it wait for its first certificate? */
void agent_acme_ask(const struct msg_ask *m, struct str tail); /* `headgate certs` */
void agent_acme_stop(void);

#endif
