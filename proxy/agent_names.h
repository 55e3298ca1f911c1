/*
 * agent_names.h - the agent looks up the names that `url` of services mentions, and again from time
 * to time. What a name means to instances is the master's (channels/urls.c).
 */
#ifndef HG_AGENT_NAMES_H
#define HG_AGENT_NAMES_H

#include "base/msg.h"
#include "conf/conf.h"

/* Each name of the configuration is looked up now, and its findings are sent to the master. */
void agent_names_use(const struct conf *c, struct msg_peer *master);
/* This one is to be looked up soon: a backend at its address fails. */
void agent_names_again(struct str name);
void agent_names_stop(void);

#endif
