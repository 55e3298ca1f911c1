/*
 * cgroup.h - groups of processes by cgroup v2, below a group that was delegated to this process
 * (systemd: Delegate=): made, entered, limited, killed whole, removed. Which process belongs where
 * is the callers' business. Nothing here needs a group: without one the errors say why.
 */
#ifndef HG_CGROUP_H
#define HG_CGROUP_H

#include "base/arena.h"

/*
 * The folder below which we may make groups: our own cgroup's or, when we stand in a subgroup of
 * it, its parent's; in `a`. Only where whoever delegated it says so (the attribute user.delegate or
 * trusted.delegate): being root is no permission to rearrange a service manager's groups. NULL, or
 * why there is none, a constant for people; *base is NULL then.
 */
const char *cgroup_find_base(struct arena *a, const char **base) MUST_USE;

/*
 * The functions below return NULL or a constant for people. `path` is a group's folder, made in a
 * base.
 */
const char *cgroup_make(const char *path) MUST_USE; /* one that is there is emptied by SIGKILL */
const char *cgroup_add(const char *path, pid_t pid) MUST_USE;
/* SIGKILL to all in it, what they fork meanwhile included; *left: whether any is still there. It
 * fails on kernels before 5.14 too. */
const char *cgroup_kill(const char *path, bool *left) MUST_USE;
/* Its folder, when nothing is in it any more; best effort. */
void cgroup_remove(const char *path);

/*
 * Lets the groups below `base` have limits of memory; fine when they may already. All processes in
 * `base` itself move to base/headgate, since the kernel wants none beside limited groups. It wants
 * none to come later either: a service manager could not start us anew there after a crash. So a
 * child waits for our end and takes the permission back; the next one of us gives it again, and has
 * to set the limits again.
 */
const char *cgroup_allow_memory(const char *base) MUST_USE;
/* Takes it back now, and ends the child: before an orderly end. */
void cgroup_disallow_memory(void);
const char *cgroup_set_memory(const char *path, uint64_t bytes) MUST_USE;
/* Whether the kernel killed something in it because of its limit. */
bool cgroup_ran_out(const char *path);

#endif
