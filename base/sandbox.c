/*
 * sandbox.c - the lists of system calls that a worker and the agent may make, and the folders that
 * they may see. Derived from what libevent, OpenSSL and our own code call once a process is set up;
 * everything that opens files or loads code happens before.
 */
#include "base/sandbox.h"

#include <fcntl.h>
#include <linux/landlock.h>
#include <linux/sched.h>
#include <netinet/in.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

/* ---- seccomp ---- */

/*
 * Calls allowed whatever their arguments. A call that this machine's architecture lacks (the older
 * forms on arm64) resolves to a negative number and is skipped.
 */
static const int worker_calls[] = {
    /* events */
    SCMP_SYS(epoll_wait),
    SCMP_SYS(epoll_pwait),
    SCMP_SYS(epoll_pwait2),
    SCMP_SYS(epoll_ctl),
    SCMP_SYS(epoll_create1),
    SCMP_SYS(eventfd2),
    SCMP_SYS(timerfd_create),
    SCMP_SYS(timerfd_settime),
    SCMP_SYS(poll),
    SCMP_SYS(ppoll),
    /* bytes */
    SCMP_SYS(read),
    SCMP_SYS(write),
    SCMP_SYS(readv),
    SCMP_SYS(writev),
    SCMP_SYS(pread64),
    SCMP_SYS(preadv),
    SCMP_SYS(recvfrom),
    SCMP_SYS(recvmsg),
    SCMP_SYS(sendto),
    SCMP_SYS(sendmsg),
    SCMP_SYS(sendfile),
    SCMP_SYS(splice),
    SCMP_SYS(pipe2),
    SCMP_SYS(lseek),
    SCMP_SYS(close),
    SCMP_SYS(dup),
    /* sockets: socket() itself is below */
    SCMP_SYS(accept4),
    SCMP_SYS(connect),
    SCMP_SYS(shutdown),
    SCMP_SYS(getsockopt),
    SCMP_SYS(setsockopt),
    SCMP_SYS(getsockname),
    SCMP_SYS(getpeername),
    /* files: only from a root that was handed over */
    SCMP_SYS(openat2),
    SCMP_SYS(getdents64),
    SCMP_SYS(fstat),
    SCMP_SYS(fcntl),
    SCMP_SYS(memfd_create),
    SCMP_SYS(fadvise64),
    SCMP_SYS(readahead),
    /* memory: mmap and mprotect are below */
    SCMP_SYS(munmap),
    SCMP_SYS(mremap),
    SCMP_SYS(madvise),
    SCMP_SYS(brk),
    SCMP_SYS(futex),
    /* time, randomness, who and where we are */
    SCMP_SYS(clock_gettime),
    SCMP_SYS(clock_getres),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(time),
    SCMP_SYS(getrandom),
    SCMP_SYS(getpid),
    SCMP_SYS(getppid),
    SCMP_SYS(gettid),
    SCMP_SYS(getuid),
    SCMP_SYS(geteuid),
    SCMP_SYS(getgid),
    SCMP_SYS(getegid),
    SCMP_SYS(uname),
    SCMP_SYS(sysinfo),
    SCMP_SYS(sched_yield),
    SCMP_SYS(sched_getaffinity),
    SCMP_SYS(getrusage),
    /* signals and the end */
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(sigaltstack),
    SCMP_SYS(restart_syscall),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
};

/* What the agent needs more: threads, datagrams, and files of its own (Landlock says where). */
static const int agent_calls[] = {
    SCMP_SYS(open),
    SCMP_SYS(openat),
    SCMP_SYS(access),
    SCMP_SYS(faccessat),
    SCMP_SYS(faccessat2),
    SCMP_SYS(stat),
    SCMP_SYS(lstat),
    SCMP_SYS(newfstatat),
    SCMP_SYS(statx),
    SCMP_SYS(statfs),
    SCMP_SYS(fstatfs),
    SCMP_SYS(readlink),
    SCMP_SYS(readlinkat),
    SCMP_SYS(getcwd),
    SCMP_SYS(mkdir),
    SCMP_SYS(mkdirat),
    SCMP_SYS(rename),
    SCMP_SYS(renameat),
    SCMP_SYS(renameat2),
    SCMP_SYS(unlink),
    SCMP_SYS(unlinkat),
    SCMP_SYS(rmdir),
    SCMP_SYS(link),
    SCMP_SYS(linkat),
    SCMP_SYS(symlink),
    SCMP_SYS(symlinkat),
    SCMP_SYS(chmod),
    SCMP_SYS(fchmod),
    SCMP_SYS(fchmodat),
    SCMP_SYS(ftruncate),
    SCMP_SYS(fallocate),
    SCMP_SYS(fsync),
    SCMP_SYS(fdatasync),
    SCMP_SYS(flock),
    SCMP_SYS(pwrite64),
    SCMP_SYS(utimensat),
    SCMP_SYS(umask),
    SCMP_SYS(bind),
    SCMP_SYS(sendmmsg),
    SCMP_SYS(recvmmsg),
    SCMP_SYS(socketpair),
    SCMP_SYS(pipe),
    SCMP_SYS(select),
    SCMP_SYS(pselect6),
    SCMP_SYS(ioctl),
    SCMP_SYS(clone3),
    SCMP_SYS(set_robust_list),
    SCMP_SYS(set_tid_address),
    SCMP_SYS(rseq),
    SCMP_SYS(prctl),
    SCMP_SYS(getrlimit),
    SCMP_SYS(prlimit64),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(nanosleep),
    SCMP_SYS(membarrier),
    SCMP_SYS(arch_prctl),
    SCMP_SYS(getpriority),
    SCMP_SYS(mlock),
    SCMP_SYS(sched_getparam),
    SCMP_SYS(sched_getscheduler),
    SCMP_SYS(tgkill),
};

/* Reports read the program's symbols; the leak check stops the process from a clone of itself. */
static const int sanitizer_calls[] = {
    SCMP_SYS(open),
    SCMP_SYS(openat),
    SCMP_SYS(readlink),
    SCMP_SYS(readlinkat),
    SCMP_SYS(stat),
    SCMP_SYS(newfstatat),
    SCMP_SYS(access),
    SCMP_SYS(getcwd),
    SCMP_SYS(clone),
    SCMP_SYS(clone3),
    SCMP_SYS(ptrace),
    SCMP_SYS(wait4),
    SCMP_SYS(prctl),
    SCMP_SYS(prlimit64),
    SCMP_SYS(getrlimit),
    SCMP_SYS(kill),
    SCMP_SYS(tgkill),
    SCMP_SYS(tkill),
    SCMP_SYS(pipe),
    SCMP_SYS(mincore),
    SCMP_SYS(process_vm_readv),
    SCMP_SYS(sched_setaffinity),
    SCMP_SYS(set_robust_list),
    SCMP_SYS(rseq),
    SCMP_SYS(ioctl),
    SCMP_SYS(nanosleep),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(personality),
    SCMP_SYS(mmap),
    SCMP_SYS(mprotect),
};

/* First error of a list of rules; later ones are skipped, so that callers need one check. */
struct rules {
    scmp_filter_ctx ctx;
    int rc;
};

static void allow(struct rules *r, int call, unsigned n, const struct scmp_arg_cmp *args)
{
    if (r->rc != 0 || call < 0)
        return;
    int rc = seccomp_rule_add_array(r->ctx, SCMP_ACT_ALLOW, call, n, args);
    /* EEXIST: the list of another kind allowed it already. */
    if (rc != 0 && rc != -EEXIST)
        r->rc = rc;
}

static void allow_list(struct rules *r, const int *calls, size_t n)
{
    for (size_t i = 0; i < n; i++)
        allow(r, calls[i], 0, NULL);
}

static void allow_socket(struct rules *r, int domain, int type)
{
    const struct scmp_arg_cmp args[] = {SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)domain, 0),
                                        SCMP_A1(SCMP_CMP_MASKED_EQ, 0xf, (scmp_datum_t)type)};
    allow(r, SCMP_SYS(socket), 2, args);
}

/* Calls whose arguments matter, for workers. */
static void allow_checked(struct rules *r)
{
    const struct scmp_arg_cmp no_exec[] = {SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)};
    const struct scmp_arg_cmp at_fd[] = {SCMP_A3(SCMP_CMP_MASKED_EQ, AT_EMPTY_PATH, AT_EMPTY_PATH)};
    const struct scmp_arg_cmp statx_fd[] = {
        SCMP_A2(SCMP_CMP_MASKED_EQ, AT_EMPTY_PATH, AT_EMPTY_PATH)};
    const struct scmp_arg_cmp self[] = {SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid(), 0)};
    const struct scmp_arg_cmp only_get[] = {SCMP_A0(SCMP_CMP_EQ, 0, 0), SCMP_A2(SCMP_CMP_EQ, 0, 0)};
    static const unsigned long requests[] = {0x5401 /* TCGETS: isatty */, 0x5421 /* FIONBIO */,
                                             0x541b /* FIONREAD */, 0x5413 /* TIOCGWINSZ */,
                                             0x5411 /* SIOCOUTQ */};
    allow(r, SCMP_SYS(mmap), 1, no_exec);
    allow(r, SCMP_SYS(mprotect), 1, no_exec);
    allow(r, SCMP_SYS(newfstatat), 1, at_fd);
    allow(r, SCMP_SYS(statx), 1, statx_fd);
    allow(r, SCMP_SYS(tgkill), 1, self); /* abort() */
    allow(r, SCMP_SYS(prlimit64), 2, only_get);
    for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
        const struct scmp_arg_cmp request[] = {SCMP_A1(SCMP_CMP_EQ, requests[i], 0)};
        allow(r, SCMP_SYS(ioctl), 1, request);
    }
    allow_socket(r, AF_INET, SOCK_STREAM);
    allow_socket(r, AF_INET6, SOCK_STREAM);
    allow_socket(r, AF_UNIX, SOCK_STREAM);
}

static void allow_agent(struct rules *r)
{
    const struct scmp_arg_cmp thread[] = {SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD)};
    allow_list(r, agent_calls, ARRAY_LEN(agent_calls));
    allow(r, SCMP_SYS(clone), 1, thread);
    /* A resolver's modules are loaded when the first name is looked up. */
    allow(r, SCMP_SYS(mmap), 0, NULL);
    allow(r, SCMP_SYS(mprotect), 0, NULL);
    /* Answers too long for a datagram; nscd and systemd-resolved. */
    allow_socket(r, AF_INET, SOCK_STREAM);
    allow_socket(r, AF_INET6, SOCK_STREAM);
    allow_socket(r, AF_UNIX, SOCK_STREAM);
    allow_socket(r, AF_INET, SOCK_DGRAM);
    allow_socket(r, AF_INET6, SOCK_DGRAM);
    allow_socket(r, AF_UNIX, SOCK_DGRAM);
    allow_socket(r, AF_NETLINK, SOCK_RAW);
    allow_socket(r, AF_NETLINK, SOCK_DGRAM);
}

static const char *seccomp_start(bool agent)
{
    struct rules r = {.ctx = seccomp_init(SCMP_ACT_KILL_PROCESS)};
    if (!r.ctx)
        return "seccomp is not available";
    /* A binary tree instead of a list of comparisons: epoll and recvmsg pay for it on each call. */
    (void)seccomp_attr_set(r.ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    allow_list(&r, worker_calls, ARRAY_LEN(worker_calls));
    if (agent)
        allow_agent(&r);
    else if (!SANITIZED)
        allow_checked(&r);
    if (SANITIZED) {
        allow_list(&r, sanitizer_calls, ARRAY_LEN(sanitizer_calls));
        allow_socket(&r, AF_INET, SOCK_STREAM);
        allow_socket(&r, AF_INET6, SOCK_STREAM);
        allow_socket(&r, AF_UNIX, SOCK_STREAM);
    }
    if (r.rc == 0)
        r.rc = seccomp_load(r.ctx);
    seccomp_release(r.ctx);
    return r.rc == 0 ? NULL : "the kernel refused the system call filter";
}

/* ---- Landlock ---- */

#ifndef LANDLOCK_ACCESS_FS_REFER
#define LANDLOCK_ACCESS_FS_REFER (1ULL << 13)
#endif
#ifndef LANDLOCK_ACCESS_FS_TRUNCATE
#define LANDLOCK_ACCESS_FS_TRUNCATE (1ULL << 14)
#endif
#ifndef LANDLOCK_ACCESS_FS_IOCTL_DEV
#define LANDLOCK_ACCESS_FS_IOCTL_DEV (1ULL << 15)
#endif
#define FS_READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define FS_ABI1 ((LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1)
/* Own files: all but running programs and making devices. */
#define FS_OWN \
    (FS_ABI1 & \
     ~(LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_BLOCK))

static int landlock_abi(void)
{
    return (int)syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
}

bool sandbox_has_landlock(void)
{
    return landlock_abi() > 0;
}

/* Every right that this kernel can take away, so that what is not given below is gone. */
static uint64_t landlock_rights(int abi)
{
    uint64_t all = FS_ABI1;
    if (abi >= 2)
        all |= LANDLOCK_ACCESS_FS_REFER;
    if (abi >= 3)
        all |= LANDLOCK_ACCESS_FS_TRUNCATE;
    if (abi >= 5)
        all |= LANDLOCK_ACCESS_FS_IOCTL_DEV;
    return all;
}

/* -1 and errno on failure; `handled` gets the rights that the rules may give. */
static int landlock_new(uint64_t *handled)
{
    int abi = landlock_abi();
    if (abi <= 0)
        return -1;
    struct landlock_ruleset_attr attr = {.handled_access_fs = landlock_rights(abi)};
    *handled = attr.handled_access_fs;
    return (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);
}

static bool landlock_below(int ruleset, int dir, uint64_t rights)
{
    struct landlock_path_beneath_attr below = {.allowed_access = rights, .parent_fd = dir};
    return syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &below, 0) == 0;
}

/* A folder by its path; one that is not there needs no rule. */
static bool landlock_path(int ruleset, const char *path, uint64_t rights)
{
    int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT || errno == EACCES;
    struct stat st;
    bool dir = fstat(fd, &st) == 0 && S_ISDIR(st.st_mode);
    bool ok = landlock_below(ruleset, fd, dir ? rights : rights & ~LANDLOCK_ACCESS_FS_READ_DIR);
    close(fd);
    return ok;
}

static const char *landlock_enforce(int ruleset, bool ok)
{
    if (ok)
        ok = syscall(SYS_landlock_restrict_self, ruleset, 0) == 0;
    close(ruleset);
    return ok ? NULL : "the kernel refused the Landlock rules";
}

static const char *landlock_worker(const int *root_fds, unsigned n)
{
    uint64_t handled;
    int ruleset = landlock_new(&handled);
    if (ruleset < 0)
        return NULL; /* an older kernel, or turned off: seccomp stands alone */
    bool ok = true;
    for (unsigned i = 0; i < n && ok; i++)
        ok = landlock_below(ruleset, root_fds[i], FS_READ);
    if (ok && SANITIZED)
        ok = landlock_path(ruleset, "/", FS_READ);
    return landlock_enforce(ruleset, ok);
}

static const char *landlock_agent(const char *state_dir)
{
    /* What name lookups, CA bundles, OpenSSL and the loader read. */
    static const char *const readable[] = {"/etc",
                                           "/usr",
                                           "/lib",
                                           "/lib64",
                                           "/proc",
                                           "/run/systemd/resolve",
                                           "/run/resolvconf",
                                           "/run/NetworkManager",
                                           "/sys/devices/system/cpu",
                                           "/dev/urandom",
                                           "/dev/random"};
    uint64_t handled;
    int ruleset = landlock_new(&handled);
    if (ruleset < 0)
        return NULL;
    uint64_t own = (FS_OWN | LANDLOCK_ACCESS_FS_REFER | LANDLOCK_ACCESS_FS_TRUNCATE) & handled;
    bool ok = landlock_path(ruleset, state_dir, own) &&
              landlock_path(ruleset, "/dev/null", FS_READ | LANDLOCK_ACCESS_FS_WRITE_FILE);
    for (size_t i = 0; i < ARRAY_LEN(readable) && ok; i++)
        ok = landlock_path(ruleset, readable[i], FS_READ);
    if (ok && SANITIZED)
        ok = landlock_path(ruleset, "/", FS_READ);
    return landlock_enforce(ruleset, ok);
}

/* ---- both together ---- */

static const char *prepare(void)
{
    /* The C library reads these once, at their first use, from files that are out of reach then. */
    tzset();
    struct tm tm;
    time_t now = time(NULL);
    localtime_r(&now, &tm);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return "cannot set no_new_privs";
    return NULL;
}

const char *sandbox_worker(const int *root_fds, unsigned n)
{
    const char *err = prepare();
    if (!err)
        err = landlock_worker(root_fds, n);
    return err ? err : seccomp_start(false);
}

const char *sandbox_agent(const char *state_dir)
{
    const char *err = prepare();
    if (!err)
        err = landlock_agent(state_dir);
    return err ? err : seccomp_start(true);
}
