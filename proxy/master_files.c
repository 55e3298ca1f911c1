/*
 * master_files.c - what the master needs of the file system before it can serve: its folders, the
 * lock that keeps a second server away, the access log; and how it starts children of its own.
 */
#include "proxy/master.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/proc.h"

#define LOOK_MS       1000
#define LOCK_TRIES    50
#define LOCK_PAUSE_NS (20 * 1000 * 1000)

/* ---- folders and lock ---- */

static const char *make_folders(struct arena *a, const struct conf *c)
{
    const struct {
        const char *below;
        mode_t mode;
        bool agents; /* the agent writes there */
    } folders[] = {{"", 0755, false},      {"/data", 0755, false},       {"/ca", 0755, true},
                   {"/certs", 0700, true}, {"/certs/local", 0700, true}, {"/acme", 0700, true}};
    for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
        const char *path = arena_fmt(a, STR_FMT "%s", STR_ARG(c->state), folders[i].below).p;
        uid_t uid = folders[i].agents ? c->uid : (uid_t)-1;
        const char *err = file_mkdirs(a, path, folders[i].mode, uid, c->gid);
        if (err)
            return arena_fmt(a, "state: %s", err).p;
    }
    const char *err = file_mkdirs(a, arena_strz(a, c->runtime), 0755, (uid_t)-1, (gid_t)-1);
    return err ? arena_fmt(a, "runtime: %s", err).p : NULL;
}

static const char *locked_by_other(struct arena *a, int fd, const char *path)
{
    char pid[16];
    ssize_t n = pread(fd, pid, sizeof(pid) - 1, 0);
    struct str who =
        str_trim((struct str){pid, n > 0 ? str_chr((struct str){pid, (size_t)n}, '\n') : 0});
    return arena_fmt(a,
                     "another headgate (pid " STR_FMT
                     ") runs already: it holds %s. `headgate stop` ends it; "
                     "two servers need a `state` and a `runtime` folder each",
                     STR_ARG(who), path)
        .p;
}

/* The pid that the holder of a lock file wrote into it, or 0. */
static pid_t holder_of(int fd)
{
    char text[16];
    uint64_t pid = 0;
    ssize_t n = pread(fd, text, sizeof(text), 0);
    struct str s = {text, n > 0 ? (size_t)n : 0};
    return str_u64(str_sub(s, 0, str_chr(s, '\n')), &pid) && pid < INT32_MAX ? (pid_t)pid : 0;
}

/*
 * A master that was killed may leave a child of its last moments, between fork and exec, that
 * shares its descriptors and is about to end. One that lives has the lock for good. errno as of
 * flock.
 */
static bool lock_patiently(int fd)
{
    for (unsigned tries = 0; tries < LOCK_TRIES; tries++) {
        if (flock(fd, LOCK_EX | LOCK_NB) == 0)
            return true;
        if (errno != EWOULDBLOCK)
            return false;
        pid_t pid = holder_of(fd);
        bool alive = pid && proc_started(pid);
        errno = EWOULDBLOCK;
        if (!pid || alive)
            return false;
        nanosleep(&(struct timespec){.tv_nsec = LOCK_PAUSE_NS}, NULL);
    }
    errno = EWOULDBLOCK;
    return false;
}

static const char *take_lock(struct arena *a, struct str folder, int *lock)
{
    const char *path = arena_fmt(a, STR_FMT "/headgate.lock", STR_ARG(folder)).p;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (fd < 0)
        return file_error(a, errno, "write", path);
    if (!lock_patiently(fd)) {
        const char *err = errno == EWOULDBLOCK ? locked_by_other(a, fd, path)
                                               : file_error(a, errno, "lock", path);
        close(fd);
        return err;
    }
    struct str pid = arena_fmt(a, "%d\n", (int)getpid());
    if (ftruncate(fd, 0) < 0 || pwrite(fd, pid.p, pid.n, 0) != (ssize_t)pid.n) {
        const char *err = file_error(a, errno, "write", path);
        close(fd);
        return err;
    }
    *lock = fd; /* held until the process ends */
    return NULL;
}

const char *files_prepare(struct arena *a, const struct conf *c)
{
    const char *err = make_folders(a, c);
    if (!err)
        err = take_lock(a, c->runtime, &master.lock_fds[0]);
    if (!err && !str_eq(c->runtime, c->state))
        err = take_lock(a, c->state, &master.lock_fds[1]);
    return err;
}

/* ---- access log ---- */

/*
 * The workers write without blocking, so they need a description of their own that says so: setting
 * it on ours would change it for the terminal or the pipe's other users too.
 */
static int reopen_own(int fd)
{
    struct stat st;
    char path[32];
    struct out o = out_on(path, sizeof(path) - 1);
    out_fmt(&o, "/proc/self/fd/%d", fd);
    path[o.n] = '\0';
    if (fstat(fd, &st) == 0 && !S_ISSOCK(st.st_mode)) {
        int own = open(path, O_WRONLY | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        if (own >= 0)
            return own;
    }
    return fcntl(fd, F_DUPFD_CLOEXEC, 3);
}

const char *access_target_open(struct arena *a, const struct conf *c, int *fd)
{
    *fd = -1;
    if (c->log.format == CONF_ACCESS_OFF)
        return NULL;
    if (str_eq(c->log.to, STR("stdout")) || str_eq(c->log.to, STR("stderr"))) {
        *fd = reopen_own(str_eq(c->log.to, STR("stdout")) ? STDOUT_FILENO : STDERR_FILENO);
        return *fd < 0 ? "log.access.to: the output is closed" : NULL;
    }
    const char *path = arena_strz(a, c->log.to);
    struct stat st;
    /* A pipe opened for writing alone would wait for its reader, and die with it. */
    bool fifo = stat(path, &st) == 0 && S_ISFIFO(st.st_mode);
    int flags = fifo ? O_RDWR : O_WRONLY | O_APPEND | O_CREAT;
    *fd = open(path, flags | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0640);
    return *fd < 0 ? arena_fmt(a, "log.access.to: %s", file_error(a, errno, "write", path)).p
                   : NULL;
}

void access_target_use(int fd)
{
    struct stat st;
    if (master.access_fd >= 0)
        close(master.access_fd);
    master.access_fd = fd;
    master.access_id = (struct root_id){0};
    if (fd >= 0 && fstat(fd, &st) == 0)
        master.access_id = (struct root_id){st.st_dev, st.st_ino};
    workers_tell_access_log();
}

static bool access_target_moved(const struct conf *c)
{
    struct stat st;
    char path[4096];
    if (c->log.format == CONF_ACCESS_OFF || !c->log.to.n || c->log.to.p[0] != '/' ||
        c->log.to.n >= sizeof(path))
        return false;
    memcpy(path, c->log.to.p, c->log.to.n);
    path[c->log.to.n] = '\0';
    return stat(path, &st) < 0 || st.st_dev != master.access_id.dev ||
           st.st_ino != master.access_id.ino;
}

static void on_access_look(struct deadline *d)
{
    deadline_set(d, LOOK_MS, on_access_look);
    if (master.state == MASTER_STOPPING || !access_target_moved(master_conf()))
        return;
    struct arena *a = arena_new(1024);
    int fd;
    const char *err = access_target_open(a, master_conf(), &fd);
    if (!err) {
        access_target_use(fd);
        log_info("access log opened again", "path", "%s", arena_strz(a, master_conf()->log.to));
    } else if (!master.access_failed) {
        log_error("access log cannot be opened again; the old file is written to", "cause", "%s",
                  err);
    }
    master.access_failed = err != NULL;
    arena_free(&a);
}

void access_target_watch(void)
{
    deadline_set(&master.access_look, LOOK_MS, on_access_look);
}

/* ---- children of our own ---- */

/* Of the environment a child of ours gets what changes how libraries behave, and no secrets. */
static char **role_environment(struct arena *a)
{
    static const char *const kept[] = {"PATH",          "TZ",           "ASAN_OPTIONS",
                                       "UBSAN_OPTIONS", "LSAN_OPTIONS", "LD_LIBRARY_PATH",
                                       "OPENSSL_CONF",  "MALLOC_CONF",  "LLVM_PROFILE_FILE"};
    char **env = arena_zarray(a, char *, ARRAY_LEN(kept) + 1);
    size_t n = 0;
    for (size_t i = 0; i < ARRAY_LEN(kept); i++) {
        const char *value = getenv(kept[i]);
        if (value)
            env[n++] = (char *)(uintptr_t)arena_fmt(a, "%s=%s", kept[i], value).p;
    }
    return env;
}

/* A worker serves on without us; the agent has nobody to work for. */
const char *role_spawn(struct arena *a, const char *role, const char *cwd, int *peer_fd, pid_t *pid)
{
    bool dies_with_us = strcmp(role, "worker") != 0;
    static char name[] = "headgate";
    int pair[2];
    const char *err = msg_pair(pair);
    if (err)
        return err;
    /* The title needs room, and this is where it comes from. */
    struct str arg = arena_fmt(a, "--role=%s                        ", role);
    char *argv[] = {name, (char *)(uintptr_t)arg.p, NULL};
    struct proc_spec spec = {
        .path = "/proc/self/exe",
        .exec_fd = -1,
        .argv = argv,
        .envp = role_environment(a),
        .cwd = cwd,
        .stdin_fd = -1,
        .stdout_fd = -1,
        .stderr_fd = STDERR_FILENO,
        .keep_fds = &pair[1],
        .n_keep = 1,
        .uid = master_conf()->uid,
        .gid = master_conf()->gid,
        .own_group = true, /* a terminal's Ctrl-C is for the master */
        .die_with_parent = dies_with_us,
        .no_new_privs = true,
    };
    struct proc proc;
    err = proc_spawn(a, &spec, &proc);
    close(pair[1]);
    if (err) {
        close(pair[0]);
        return err;
    }
    close(proc.pidfd);
    *peer_fd = pair[0];
    *pid = proc.pid;
    return NULL;
}
