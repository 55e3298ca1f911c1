/*
 * agent_challenges.h - asks the master to show challenges, and hears when they are shown. Which and
 * for how long is the orders' business (acme/order.h).
 */
#ifndef HG_AGENT_CHALLENGES_H
#define HG_AGENT_CHALLENGES_H

#include "acme/challenge.h"
#include "base/msg.h"

/* Once, when the agent starts; borrowed until agent_challenges_stop. */
void agent_challenges_start(struct msg_peer *master);
/* The master is gone, or the agent ends: nobody is called back from here on. */
void agent_challenges_stop(void);

/*
 * `done` once every worker shows it, or dns_hook ended well (err NULL); else with a sentence that
 * is borrowed. Never before this returned, once at most, and not after agent_challenge_hide, which
 * is due in either case. Copied. Returns what hide takes, never 0.
 */
uint64_t agent_challenge_show(const struct challenge *c, void (*done)(void *ctx, const char *err),
                              void *ctx);
/* Nobody asks for it any more. Fine with 0, twice, and from inside `done`. */
void agent_challenge_hide(uint64_t id);
/* MSG_CHALLENGE_DONE came. */
void agent_challenge_said(const struct msg_challenge_done *m, struct str why);

#endif
