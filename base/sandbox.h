/*
 * sandbox.h - what a process gives up for good: system calls (seccomp) and the file system
 * (Landlock, where the kernel has it).
 */
#ifndef HG_SANDBOX_H
#define HG_SANDBOX_H

#include "base/base.h"

/*
 * A worker: stream sockets of INET, INET6 and UNIX, connect, accept, files only by openat2;
 * no bind, listen, execve, fork, ptrace, open. Anything else kills the process, and the kernel
 * names the call in its log. `root_fds`: opened folders that stay readable under Landlock.
 */
const char *sandbox_worker(const int *root_fds, unsigned n) MUST_USE;
/* The agent: like a worker, but with threads, datagram sockets and files below its state folder. */
const char *sandbox_agent(const char *state_dir) MUST_USE;

/* True when the kernel has Landlock: then a worker sees no root but those that it was started with.
 */
bool sandbox_has_landlock(void);

#endif
