/*
 * proc.c - starting processes with nothing but what they were given, signalling and reaping them,
 * and giving up privileges. Who restarts what and when is the callers' business.
 */
#include "base/proc.h"

#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"

/* Where a start failed, as the child tells it through the pipe that exec closes. */
enum spawn_step { STEP_FDS, STEP_CWD, STEP_LIMIT, STEP_GROUPS, STEP_USER, STEP_PRIVS, STEP_EXEC };
struct spawn_failure {
    int err;
    enum spawn_step step;
};

/* Soft limit before proc_raise_nofile: programs that select() break on descriptors above 1023. */
static struct rlimit nofile_before;
static bool nofile_raised;

/* ---- which children are ours to leave alone ---- */

static struct {
    pid_t *pids;
    unsigned n, cap;
} owned;

static void owned_add(pid_t pid)
{
    if (owned.n == owned.cap) {
        owned.cap = owned.cap ? owned.cap * 2 : 64;
        owned.pids = reallocarray(owned.pids, owned.cap, sizeof(pid_t));
        ASSERT(owned.pids);
    }
    owned.pids[owned.n++] = pid;
}

static bool owned_has(pid_t pid)
{
    for (unsigned i = 0; i < owned.n; i++)
        if (owned.pids[i] == pid)
            return true;
    return false;
}

/* Forgets pids that are no children any more, before the kernel gives their numbers to strangers.
 */
static void owned_keep_only(const pid_t *children, unsigned n)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < owned.n; i++) {
        bool alive = false;
        for (unsigned j = 0; j < n && !alive; j++)
            alive = children[j] == owned.pids[i];
        if (alive)
            owned.pids[kept++] = owned.pids[i];
    }
    owned.n = kept;
}

#define CHILDREN_MAX 4096

/* Pids of all children, zombies too, from /proc; 0 where the kernel does not tell. */
static unsigned children_list(pid_t out[CHILDREN_MAX])
{
    static char text[CHILDREN_MAX * 8];
    char path[64];
    struct out o = out_on(path, sizeof(path));
    out_fmt(&o, "/proc/self/task/%d/children", (int)getpid());
    out_char(&o, '\0');
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    size_t got = 0;
    for (ssize_t r; got < sizeof(text) && (r = read(fd, text + got, sizeof(text) - got)) > 0;)
        got += (size_t)r;
    close(fd);
    struct str rest = {text, got}, word;
    unsigned n = 0;
    while (n < CHILDREN_MAX && str_split(&rest, ' ', &word)) {
        uint64_t pid;
        if (str_u64(str_trim(word), &pid) && pid > 0 && pid < INT32_MAX)
            out[n++] = (pid_t)pid;
    }
    return n;
}

unsigned proc_reap_strangers(void)
{
    static pid_t children[CHILDREN_MAX];
    unsigned n = children_list(children), left = 0;
    owned_keep_only(children, n);
    for (unsigned i = 0; i < n; i++)
        if (owned_has(children[i]) || waitpid(children[i], NULL, WNOHANG) != children[i])
            left++;
    return left;
}

void proc_signal_children(int sig)
{
    static pid_t children[CHILDREN_MAX];
    unsigned n = children_list(children);
    for (unsigned i = 0; i < n; i++)
        proc_signal_group(children[i], sig);
}

void proc_signal_group(pid_t pid, int sig)
{
    ASSERT(pid > 1);
    /* Between fork and setsid there is no such group yet; then the process itself is all of it. */
    if (kill(-pid, sig) < 0)
        kill(pid, sig);
}

uint64_t proc_started(pid_t pid)
{
    char path[64], buf[1024];
    struct out o = out_on(path, sizeof(path));
    out_fmt(&o, "/proc/%d/stat", (int)pid);
    out_char(&o, '\0');
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t n = read(fd, buf, sizeof(buf) - 1);
    close(fd);
    if (n <= 0)
        return 0;
    buf[n] = '\0';
    /* proc_pid_stat(5): state is the 3rd field, the first behind the name, whose parentheses may
     * hold anything; starttime is the 22nd. */
    const char *end = strrchr(buf, ')');
    char state;
    unsigned long long started;
    if (!end || sscanf(end + 1,
                       " %c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s "
                       "%*s %llu",
                       &state, &started) != 2)
        return 0;
    return state == 'Z' || state == 'X' ? 0 : started;
}

bool proc_find(pid_t pid, uint64_t started, struct proc *out)
{
    *out = (struct proc){.pid = -1, .pidfd = -1};
    /* First the descriptor, then the look: what it holds cannot become another process. */
    int pidfd = pid > 1 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
    if (pidfd < 0)
        return false;
    if (!started || proc_started(pid) != started) {
        close(pidfd);
        return false;
    }
    *out = (struct proc){.pid = pid, .pidfd = pidfd};
    return true;
}

/* ---- the child's side of a start: only async-signal-safe calls from here to exec ---- */

/*
 * By the kernel's own call: glibc keeps 32 and 33 for itself and leaves them as whoever started us
 * had them, ignored perhaps. All zero is SIG_DFL, without flags.
 */
static void signals_default(void)
{
    static const unsigned long dfl[4];
    for (int sig = 1; sig < NSIG; sig++)
        if (sig != SIGKILL && sig != SIGSTOP)
            syscall(SYS_rt_sigaction, sig, dfl, NULL, NSIG / 8);
}

pid_t proc_fork(void)
{
    sigset_t all, before;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    pid_t pid = fork();
    if (pid != 0) {
        int err = errno;
        if (pid > 0)
            owned_add(pid);
        sigprocmask(SIG_SETMASK, &before, NULL);
        errno = err;
        return pid;
    }
    /* The parent's handlers write into its loop's socket: they must be gone before signals may
     * come. */
    signals_default();
    sigemptyset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    return 0;
}

/*
 * Puts the descriptors in their places. All are moved up first: a place may hold what another one
 * still needs. Returns the new number of the error pipe; *exec_fd is moved likewise.
 */
static int place_fds(const struct proc_spec *s, int err_fd, int *exec_fd)
{
    int want[3] = {s->stdin_fd, s->stdout_fd, s->stderr_fd};
    int base = 3 + (int)s->n_keep + 2;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    int moved_err = fcntl(err_fd, F_DUPFD_CLOEXEC, base);
    if (null < 0 || moved_err < 0)
        return -1;
    int high[3 + 64];
    int n = 3 + (int)s->n_keep;
    ASSERT((size_t)n <= ARRAY_LEN(high));
    for (int i = 0; i < n; i++) {
        int from = i >= 3 ? s->keep_fds[i - 3] : want[i] >= 0 ? want[i] : null;
        high[i] = fcntl(from, F_DUPFD_CLOEXEC, base);
        if (high[i] < 0)
            return -1;
    }
    if (*exec_fd >= 0 && (*exec_fd = fcntl(*exec_fd, F_DUPFD_CLOEXEC, base)) < 0)
        return -1;
    for (int i = 0; i < n; i++)
        if (dup2(high[i], i) < 0)
            return -1;
    if (*exec_fd >= 0 && (*exec_fd = dup3(*exec_fd, n + 1, O_CLOEXEC)) < 0)
        return -1;
    if (dup3(moved_err, n, O_CLOEXEC) < 0)
        return -1;
    close_range((unsigned)n + (*exec_fd >= 0 ? 2 : 1), ~0u, 0);
    return n;
}

static bool set_user(uid_t uid, gid_t gid, enum spawn_step *step)
{
    if (uid == (uid_t)-1)
        return true;
    *step = STEP_GROUPS;
    if (geteuid() == 0 && setgroups(1, &gid) < 0)
        return false;
    *step = STEP_USER;
    return setresgid(gid, gid, gid) == 0 && setresuid(uid, uid, uid) == 0;
}

/* Waits for the parent's word; its end of the pipe is closed without one when it dies. */
static void wait_for_go(int go[2])
{
    char c;
    ssize_t n;
    if (go[0] < 0)
        return;
    close(go[1]);
    do {
        n = read(go[0], &c, 1);
    } while (n < 0 && errno == EINTR);
    if (n != 1)
        _exit(127);
}

/* The bounding set needs CAP_SETPCAP, so it goes first; without it there is nothing to bound. */
static void drop_bounding(void)
{
    for (unsigned long cap = 0; cap < 64; cap++)
        if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
            break;
}

static bool drop_capabilities(void)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2];
    memset(none, 0, sizeof(none));
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    return syscall(SYS_capset, &head, none) == 0;
}

static bool set_limits(const struct proc_spec *s)
{
    struct rlimit files = {s->open_files, s->open_files};
    if (s->open_files)
        return setrlimit(RLIMIT_NOFILE, &files) == 0;
    if (nofile_raised)
        setrlimit(RLIMIT_NOFILE, &nofile_before);
    return true;
}

static void write_pid(char *to)
{
    char digits[PROC_PID_TEXT];
    unsigned n = 0;
    for (pid_t pid = getpid(); pid; pid /= 10)
        digits[n++] = (char)('0' + pid % 10);
    while (n)
        *to++ = digits[--n];
    *to = '\0';
}

static void child_exec(const struct proc_spec *s, pid_t parent, int err_fd)
{
    struct spawn_failure f = {.step = STEP_FDS};
    int exec_fd = s->exec_fd;
    if (s->own_group)
        setsid();
    umask(022);
    if (s->pid_text)
        write_pid(s->pid_text);
    int placed = place_fds(s, err_fd, &exec_fd);
    if (placed < 0)
        goto failed;
    err_fd = placed;
    /* While we still may: the folders above it can be closed to the user. */
    f.step = STEP_CWD;
    if (chdir(s->cwd ? s->cwd : "/") < 0)
        goto failed;
    f.step = STEP_LIMIT; /* while we may raise it, and after our own descriptors are in place */
    if (!set_limits(s))
        goto failed;
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    if (s->no_caps)
        drop_bounding();
    if (!set_user(s->uid, s->gid, &f.step))
        goto failed;
    f.step = STEP_PRIVS;
    if (s->no_caps && !drop_capabilities())
        goto failed;
    if (s->no_new_privs && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        goto failed;
    /* Only now: a change of user clears it. The parent may have died before it was set. */
    if (s->die_with_parent && (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent))
        goto failed;
    f.step = STEP_EXEC;
    /* By its path, under which ps knows it; by the descriptor where the user may not walk there. */
    if (s->path)
        execve(s->path, s->argv, s->envp);
    if (exec_fd >= 0 && (!s->path || errno == EACCES))
        syscall(SYS_execveat, exec_fd, "", s->argv, s->envp, AT_EMPTY_PATH);
failed:
    f.err = errno;
    (void)!write(err_fd, &f, sizeof(f));
    _exit(127);
}

/* ---- the parent's side ---- */

static const char *failure_text(struct arena *a, const struct proc_spec *s,
                                const struct spawn_failure *f)
{
    const char *why = err_of_errno(f->err), *path = s->path ? s->path : s->argv[0];
    switch (f->step) {
    case STEP_FDS:
        return arena_fmt(a, "cannot hand over descriptors: %s", why).p;
    case STEP_CWD:
        return file_error(a, f->err, "enter", s->cwd ? s->cwd : "/");
    case STEP_LIMIT:
        return arena_fmt(a,
                         "cannot let it open %u files: %s; the limit of headgate itself "
                         "(LimitNOFILE=) must be at least as high",
                         s->open_files, why)
            .p;
    case STEP_GROUPS:
    case STEP_USER:
        return arena_fmt(a, "cannot become uid %u, gid %u: %s", s->uid, s->gid, why).p;
    case STEP_PRIVS:
        return arena_fmt(a, "cannot give up privileges: %s", why).p;
    case STEP_EXEC:
        break;
    }
    if (f->err == ENOENT && access(path, F_OK) == 0)
        return arena_fmt(a, "cannot run %s: its interpreter is missing", path).p;
    if (f->err == ENOEXEC)
        return arena_fmt(
                   a, "cannot run %s: it is no program for this machine (or a script without #!)",
                   path)
            .p;
    return file_error(a, f->err, "run", path);
}

static ssize_t read_failure(int fd, struct spawn_failure *f)
{
    ssize_t n;
    do {
        n = read(fd, f, sizeof(*f));
    } while (n < 0 && errno == EINTR);
    return n;
}

static void close_both(const int fds[2])
{
    for (unsigned i = 0; i < 2; i++)
        if (fds[i] >= 0)
            close(fds[i]);
}

static void let_go(const struct proc_spec *spec, const int go[2], pid_t pid)
{
    if (go[1] < 0)
        return;
    spec->on_pid(spec->ctx, pid);
    (void)!write(go[1], "", 1);
    close_both(go);
}

const char *proc_spawn(struct arena *a, const struct proc_spec *spec, struct proc *out)
{
    int pipe_fds[2] = {-1, -1}, go[2] = {-1, -1};
    *out = (struct proc){.pid = -1, .pidfd = -1};
    bool ok = pipe2(pipe_fds, O_CLOEXEC) == 0 && (!spec->on_pid || pipe2(go, O_CLOEXEC) == 0);
    pid_t parent = getpid(), pid = ok ? proc_fork() : -1;
    if (pid < 0) {
        int err = errno;
        close_both(pipe_fds);
        close_both(go);
        return arena_fmt(a, "cannot start a process: %s", err_of_errno(err)).p;
    }
    if (pid == 0) {
        wait_for_go(go);
        child_exec(spec, parent, pipe_fds[1]);
    }
    close(pipe_fds[1]);
    let_go(spec, go, pid);
    struct spawn_failure f = {0};
    ssize_t n = read_failure(pipe_fds[0], &f);
    close(pipe_fds[0]);
    if (n == (ssize_t)sizeof(f)) {
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            ;
        return failure_text(a, spec, &f);
    }

    out->pid = pid;
    out->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (out->pidfd >= 0)
        return NULL;
    const char *err = arena_fmt(a, "cannot watch a process: %s", err_of_errno(errno)).p;
    proc_signal_group(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    return err;
}

void proc_raise_nofile(void)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) < 0)
        return;
    if (!nofile_raised)
        nofile_before = r;
    nofile_raised = true;
    r.rlim_cur = r.rlim_max;
    setrlimit(RLIMIT_NOFILE, &r);
}

/* ---- privileges ---- */

const char *proc_drop(uid_t uid, gid_t gid)
{
    enum spawn_step step;
    drop_bounding();
    if (!set_user(uid, gid, &step))
        return "cannot become the user that the configuration names";
    if (!drop_capabilities())
        return "cannot give up capabilities";
    if (uid != (uid_t)-1 && uid != 0 && (setuid(0) == 0 || getuid() != uid || geteuid() != uid))
        return "could become root again: privileges were not given up";
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return "cannot set no_new_privs";
    /* Keys are in this memory: no core dump, no ptrace by the same user. */
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
        return "cannot turn off core dumps";
    return NULL;
}

/* ---- words and names ---- */

const char *proc_status_text(int wait_status, char *buf, size_t n)
{
    struct out o = out_on(buf, n - 1);
    if (WIFEXITED(wait_status)) {
        out_fmt(&o, "exited with status %d", WEXITSTATUS(wait_status));
    } else if (WIFSIGNALED(wait_status)) {
        const char *name = sigabbrev_np(WTERMSIG(wait_status));
        if (name)
            out_fmt(&o, "killed by SIG%s", name);
        else
            out_fmt(&o, "killed by signal %d", WTERMSIG(wait_status));
        if (WCOREDUMP(wait_status))
            out_lit(&o, " (core dumped)");
    } else {
        out_lit(&o, "ended");
    }
    buf[o.n] = '\0';
    return buf;
}

static bool is_program(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

const char *proc_which(struct arena *a, const char *name, const char *path_env)
{
    if (strchr(name, '/'))
        return arena_strz(a, str_of(name));
    struct str rest = str_of(path_env), dir;
    while (rest.n && str_split(&rest, ':', &dir)) {
        /* An empty entry means the working folder: never for a server. */
        if (!dir.n || dir.p[0] != '/')
            continue;
        const char *path = arena_fmt(a, STR_FMT "/%s", STR_ARG(dir), name).p;
        if (is_program(path))
            return path;
    }
    return NULL;
}

static struct {
    char *p;
    size_t n;
} title;

void proc_save_args(int argc, char **argv)
{
    extern char **environ;
    static char **env, *texts; /* for the process's life: who unsets a variable frees nothing */
    char *end = argv[0] + strlen(argv[0]) + 1;
    for (int i = 1; i < argc && argv[i] == end; i++)
        end += strlen(argv[i]) + 1;
    /* The environment stands behind the arguments; a copy frees its place for a longer title. */
    size_t n = 0, bytes = 0;
    for (; environ && environ[n]; n++)
        bytes += strlen(environ[n]) + 1;
    env = calloc(n + 1, sizeof(char *));
    texts = malloc(bytes + 1);
    ASSERT(env && texts);
    char *at = texts;
    for (size_t i = 0; i < n; i++) {
        size_t size = strlen(environ[i]) + 1;
        if (environ[i] == end)
            end += size;
        env[i] = memcpy(at, environ[i], size);
        at += size;
    }
    environ = env;
    title.p = argv[0];
    title.n = (size_t)(end - argv[0]);
}

void proc_set_title(const char *text)
{
    /* Started as /proc/self/exe, the short name would be "exe". */
    prctl(PR_SET_NAME, "headgate", 0, 0, 0);
    if (title.n < 2)
        return;
    struct out o = out_on(title.p, title.n - 1);
    if (!str_starts(str_of(text), STR("headgate")))
        out_str(&o, str_sub(STR("headgate: "), 0, o.cap));
    out_str(&o, str_sub(str_of(text), 0, o.cap - o.n));
    memset(title.p + o.n, 0, title.n - o.n);
}
