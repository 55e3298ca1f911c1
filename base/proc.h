/*
 * proc.h - processes: start one (own group, clean descriptors, environment, user, working folder),
 * watch it by pidfd, signal its whole group, drop privileges. Not what they are for.
 */
#ifndef HG_PROC_H
#define HG_PROC_H

#include "base/arena.h"

struct proc_spec {
    const char *path; /* program; looked up beforehand, absolute */
    int exec_fd;      /* opened program (fexecve) or -1 for path */
    char *const *argv;
    char *const *envp;
    const char *cwd;                    /* NULL: / */
    int stdin_fd, stdout_fd, stderr_fd; /* -1: /dev/null */
    const int *keep_fds;                /* become 3, 4, … in this order */
    unsigned n_keep;
    uid_t uid; /* (uid_t)-1: as we are */
    gid_t gid;
    bool own_group;       /* setsid: stop and kill reach all of it */
    bool die_with_parent; /* PR_SET_PDEATHSIG SIGKILL: headgate's own children */
    bool no_new_privs;
    /* Called in the parent when the pid is known, before the program is executed; NULL: not. When
     * the parent dies before it returned, the program never runs. */
    void (*on_pid)(void *ctx, pid_t pid);
    void *ctx;
    bool no_caps;        /* no capability, and none to be had again: bounding set and all */
    unsigned open_files; /* RLIMIT_NOFILE, soft and hard; 0: as we were started */
    char *pid_text; /* part of envp: the child writes its pid there (LISTEN_PID=); PROC_PID_TEXT
                       bytes */
};
#define PROC_PID_TEXT 12
/* For programs that others wrote, where our own environment has no PATH. */
#define PROC_DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

struct proc {
    pid_t pid;
    int pidfd;
};

/*
 * Starts it; exec errors come back in words ("no such file: /x/y"), not as an exit code. The child
 * has default signal dispositions, an empty mask, umask 022 and no descriptor but those named.
 */
const char *proc_spawn(struct arena *a, const struct proc_spec *spec, struct proc *out) MUST_USE;
void proc_signal_group(pid_t pid, int sig);
/* When it was started, in clock ticks since boot; 0 when there is none, or only its zombie. A pid
 * and this number name a process until the machine is started anew. */
uint64_t proc_started(pid_t pid);
/* A process that somebody else started: *out when it is the one that started then, and alive. */
bool proc_find(pid_t pid, uint64_t started, struct proc *out) MUST_USE;
/* fork whose child starts with default signal dispositions and an empty mask; as fork(2) else. */
pid_t proc_fork(void);
/*
 * Reaps the children that neither proc_spawn nor proc_fork started: what a service's daemon left
 * behind comes to the master as subreaper. The others are left to who started them. Returns how
 * many children there are still, strangers and others.
 */
unsigned proc_reap_strangers(void);
/* Signals the process group of every child, whoever started it: the last resort of a stop. */
void proc_signal_children(int sig);
/* Soft RLIMIT_NOFILE up to the hard one, for this process only: proc_spawn gives children the old
 * one. */
void proc_raise_nofile(void);
/* setgroups, setresgid, setresuid to the user for good, empty capability sets, no_new_privs. */
const char *proc_drop(uid_t uid, gid_t gid) MUST_USE;
/* "exited with status 1", "killed by SIGSEGV (core dumped)": for the log; in buf. */
const char *proc_status_text(int wait_status, char *buf, size_t n);
/* Program name → absolute path by PATH; with a slash as it is. NULL when there is none. */
const char *proc_which(struct arena *a, const char *name, const char *path_env);
void proc_set_title(
    const char *title); /* "headgate: TITLE" for ps, over the arguments: they are gone then */
void proc_save_args(int argc, char **argv);

#endif
