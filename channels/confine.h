/*
 * confine.h - the cgroup of an instance and its limit of memory. Calls that find none, or that the
 * kernel refuses, leave the instance without; status and log say so.
 */
#ifndef HG_CONFINE_H
#define HG_CONFINE_H

#include "channels/instance.h"

/* `pid` waits for us and has not run its program yet. */
void confine_start(struct instance *i, pid_t pid);
/* An instance that another master started in `cgroup`, empty for none: its limit is set again. */
void confine_adopt(struct instance *i, struct str cgroup);
/* SIGKILL to all that is in it; false when it has none, or the kernel cannot. */
bool confine_kill(const struct instance *i, bool *left) MUST_USE;
/* Adds to last_exit that it was out of memory, where that was the cause. */
void confine_explain_end(struct instance *i);
/* Nothing of it runs any more. */
void confine_end(struct instance *i);

#endif
