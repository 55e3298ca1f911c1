/*
 * test_proc.c - starting processes with nothing but what they were given; words for their ends.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs the four above first */
#include <cmocka.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/proc.h"

static struct arena *arena;

static int wait_for(struct proc *p)
{
    int status;
    assert_int_equal(waitpid(p->pid, &status, 0), p->pid);
    close(p->pidfd);
    return status;
}

/* Runs a shell script with the spec's other members; its output in `out`. */
static int run(struct proc_spec spec, const char *script, char *out, size_t cap)
{
    char *argv[] = {"sh", "-c", (char *)(uintptr_t)script, NULL};
    char *envp[] = {"PATH=/usr/bin:/bin", "GREETING=hello", NULL};
    int pipe_fds[2];
    struct proc p;
    assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
    spec.path = "/bin/sh";
    spec.exec_fd = -1;
    spec.argv = argv;
    spec.envp = envp;
    spec.stdin_fd = -1;
    spec.stdout_fd = pipe_fds[1];
    spec.stderr_fd = -1;
    assert_null(proc_spawn(arena, &spec, &p));
    close(pipe_fds[1]);
    size_t n = 0;
    for (ssize_t got; n < cap - 1 && (got = read(pipe_fds[0], out + n, cap - 1 - n)) > 0;)
        n += (size_t)got;
    out[n] = '\0';
    close(pipe_fds[0]);
    return wait_for(&p);
}

static const struct proc_spec plain = {.uid = (uid_t)-1};

static void test_environment(void **state)
{
    char out[4096];
    (void)state;
    assert_int_equal(setenv("SECRET", "s3cret", 1), 0);
    assert_int_equal(run(plain, "echo $GREETING; echo \"[$SECRET]\"; pwd; umask", out, sizeof(out)),
                     0);
    assert_string_equal(out, "hello\n[]\n/\n0022\n");
}

/* Nothing of ours is open there: three streams, what was asked for, and what ls opens itself. */
static void test_descriptors(void **state)
{
    char out[4096];
    (void)state;
    int leaky = open("/dev/null", O_RDONLY); /* not even close-on-exec */
    int low = fcntl(leaky, F_DUPFD, 3), keep[2] = {low, leaky};
    struct proc_spec spec = plain;
    assert_int_equal(run(spec, "ls /proc/self/fd | tr '\\n' ' '", out, sizeof(out)), 0);
    assert_string_equal(out, "0 1 2 3 ");
    spec.keep_fds = keep;
    spec.n_keep = 2;
    assert_int_equal(run(spec, "ls /proc/self/fd | tr '\\n' ' '", out, sizeof(out)), 0);
    assert_string_equal(out, "0 1 2 3 4 5 ");
    close(leaky);
    close(low);
}

/* Kept descriptors end up in their places though each stands where another one must go. */
static void test_descriptors_crossed(void **state)
{
    char out[4096];
    (void)state;
    int a[2], b[2];
    assert_int_equal(pipe(a), 0);
    assert_int_equal(pipe(b), 0);
    assert_int_equal(write(a[1], "A", 1), 1);
    assert_int_equal(write(b[1], "B", 1), 1);
    int keep[2] = {fcntl(a[0], F_DUPFD, 20), 3};
    int four = dup2(b[0], 4);
    (void)four;
    keep[1] = 4;
    struct proc_spec spec = plain;
    spec.keep_fds = keep;
    spec.n_keep = 2;
    assert_int_equal(run(spec, "head -c 1 <&3; head -c 1 <&4", out, sizeof(out)), 0);
    assert_string_equal(out, "AB");
    for (int fd = 3; fd < 24; fd++)
        close(fd);
}

static void test_signals_are_default(void **state)
{
    char out[4096];
    sigset_t block, before;
    (void)state;
    signal(SIGPIPE, SIG_IGN);
    /* 32 is glibc's own: only the kernel's call changes it, and some starters leave it ignored. */
    static const unsigned long ignore[4] = {1};
    assert_int_equal(syscall(SYS_rt_sigaction, 32, ignore, NULL, 8), 0);
    sigemptyset(&block);
    sigaddset(&block, SIGTERM);
    sigprocmask(SIG_BLOCK, &block, &before);
    assert_int_equal(
        run(plain, "grep -E 'Sig(Blk|Ign)' /proc/self/status | cut -f2", out, sizeof(out)), 0);
    assert_string_equal(out, "0000000000000000\n0000000000000000\n");
    sigset_t now;
    sigprocmask(SIG_SETMASK, &before, &now);
    assert_true(sigismember(&now, SIGTERM)); /* ours is as it was */
    signal(SIGPIPE, SIG_DFL);
}

static void test_group(void **state)
{
    (void)state;
    int pipe_fds[2];
    struct proc p;
    char *argv[] = {"sh", "-c", "sleep 1000 & sleep 1000 & echo up; wait", NULL},
         *envp[] = {"PATH=/bin", NULL};
    assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
    struct proc_spec spec = {.path = "/bin/sh",
                             .exec_fd = -1,
                             .argv = argv,
                             .envp = envp,
                             .stdin_fd = -1,
                             .stdout_fd = pipe_fds[1],
                             .stderr_fd = -1,
                             .uid = (uid_t)-1,
                             .own_group = true};
    assert_null(proc_spawn(arena, &spec, &p));
    close(pipe_fds[1]);
    char up[4];
    assert_int_equal(read(pipe_fds[0], up, sizeof(up)), 3);
    proc_signal_group(p.pid, SIGKILL);
    /* The pipe ends only when the sleepers, who hold it too, are dead. */
    assert_int_equal(read(pipe_fds[0], up, sizeof(up)), 0);
    close(pipe_fds[0]);
    assert_true(WIFSIGNALED(wait_for(&p)));
}

static void test_errors_are_words(void **state)
{
    struct proc p;
    char *argv[] = {"x", NULL}, *envp[] = {NULL};
    (void)state;
    struct proc_spec spec = {.path = "/nonexistent/program",
                             .exec_fd = -1,
                             .argv = argv,
                             .envp = envp,
                             .stdin_fd = -1,
                             .stdout_fd = -1,
                             .stderr_fd = -1,
                             .uid = (uid_t)-1};
    assert_non_null(strstr(proc_spawn(arena, &spec, &p), "/nonexistent/program"));
    assert_int_equal(p.pid, -1);
    spec.path = "/etc/passwd";
    assert_non_null(strstr(proc_spawn(arena, &spec, &p), "permission denied"));
    spec.path = "/bin/true";
    spec.cwd = "/nonexistent";
    assert_non_null(strstr(proc_spawn(arena, &spec, &p), "/nonexistent"));
    errno = 0;
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no zombie is left of them */
    assert_int_equal(errno, ECHILD);
}

static void test_missing_interpreter(void **state)
{
    (void)state;
    char path[] = "/tmp/headgate-test-XXXXXX";
    int fd = mkstemp(path);
    static const char script[] = "#!/nonexistent/sh\n";
    assert_int_equal(write(fd, script, sizeof(script) - 1), sizeof(script) - 1);
    fchmod(fd, 0755);
    close(fd);
    struct proc p;
    char *argv[] = {"x", NULL}, *envp[] = {NULL};
    struct proc_spec spec = {.path = path,
                             .exec_fd = -1,
                             .argv = argv,
                             .envp = envp,
                             .stdin_fd = -1,
                             .stdout_fd = -1,
                             .stderr_fd = -1,
                             .uid = (uid_t)-1};
    assert_non_null(strstr(proc_spawn(arena, &spec, &p), "interpreter"));
    unlink(path);
}

static void test_exec_by_descriptor(void **state)
{
    (void)state;
    struct proc p;
    char *argv[] = {"true", NULL}, *envp[] = {NULL};
    int fd = open("/bin/true", O_PATH | O_CLOEXEC);
    struct proc_spec spec = {.path = "/bin/true",
                             .exec_fd = fd,
                             .argv = argv,
                             .envp = envp,
                             .stdin_fd = -1,
                             .stdout_fd = -1,
                             .stderr_fd = -1,
                             .uid = (uid_t)-1};
    assert_null(proc_spawn(arena, &spec, &p));
    assert_int_equal(wait_for(&p), 0);
    close(fd);
}

static void test_user_and_privileges(void **state)
{
    char out[4096];
    (void)state;
    struct proc_spec spec = plain;
    spec.no_new_privs = true;
    if (geteuid() == 0) {
        spec.uid = 65534;
        spec.gid = 65534;
    }
    assert_int_equal(
        run(spec, "grep NoNewPrivs /proc/self/status | cut -f2; id -u; id -G", out, sizeof(out)),
        0);
    if (geteuid() == 0)
        assert_string_equal(out, "1\n65534\n65534\n");
    else
        assert_int_equal(strncmp(out, "1\n", 2), 0);
}

static void test_drop(void **state)
{
    (void)state;
    pid_t pid = fork();
    if (pid == 0) {
        uid_t uid = geteuid() == 0 ? 65534 : (uid_t)-1;
        if (proc_drop(uid, 65534) != NULL)
            _exit(1);
        if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1 || prctl(PR_GET_DUMPABLE) != 0)
            _exit(2);
        if (setuid(0) == 0)
            _exit(3);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void test_nofile(void **state)
{
    char out[64];
    struct rlimit before, now;
    (void)state;
    getrlimit(RLIMIT_NOFILE, &before);
    struct rlimit low = {MIN(before.rlim_cur, 300), before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    proc_raise_nofile();
    getrlimit(RLIMIT_NOFILE, &now);
    assert_int_equal(now.rlim_cur, now.rlim_max);
    /* Programs that select() get what they would have without us. */
    assert_int_equal(run(plain, "ulimit -n", out, sizeof(out)), 0);
    assert_int_equal(atoi(out), (int)low.rlim_cur);
}

static void test_status_text(void **state)
{
    char buf[64], small[12];
    (void)state;
    assert_string_equal(proc_status_text(0, buf, sizeof(buf)), "exited with status 0");
    assert_string_equal(proc_status_text(3 << 8, buf, sizeof(buf)), "exited with status 3");
    assert_string_equal(proc_status_text(SIGKILL, buf, sizeof(buf)), "killed by SIGKILL");
    assert_string_equal(proc_status_text(SIGSEGV | 0x80, buf, sizeof(buf)),
                        "killed by SIGSEGV (core dumped)");
    assert_true(strlen(proc_status_text(SIGSEGV | 0x80, small, sizeof(small))) < sizeof(small));
}

static void test_which(void **state)
{
    (void)state;
    assert_string_equal(proc_which(arena, "./x", "/bin"), "./x");
    assert_string_equal(proc_which(arena, "sh", "/nonexistent:/bin"), "/bin/sh");
    assert_null(proc_which(arena, "surely-no-such-program", "/bin:/usr/bin"));
    assert_null(proc_which(arena, "sh", ""));
    assert_null(proc_which(arena, "passwd", "/etc")); /* a file that is no program */
    assert_null(
        proc_which(arena, "bin", "/usr:.:bin")); /* a folder; and never from relative ones */
}

/* A grandchild whose parent is gone comes to the subreaper and is reaped; a child of our own is
 * not. */
static void test_strangers(void **state)
{
    (void)state;
    int pipe_fds[2];
    struct proc p;
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);
    assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
    char *argv[] = {"sh", "-c", "(read x) & exit 0", NULL}, *envp[] = {"PATH=/bin", NULL};
    struct proc_spec spec = {.path = "/bin/sh",
                             .exec_fd = -1,
                             .argv = argv,
                             .envp = envp,
                             .stdin_fd = pipe_fds[0],
                             .stdout_fd = pipe_fds[0],
                             .stderr_fd = -1,
                             .uid = (uid_t)-1,
                             .own_group = true};
    assert_null(proc_spawn(arena, &spec, &p));
    close(pipe_fds[0]);
    /* Dead, but ours to reap. */
    siginfo_t info;
    assert_int_equal(waitid(P_PID, (id_t)p.pid, &info, WEXITED | WNOWAIT), 0);
    assert_true(proc_reap_strangers() >= 1);
    assert_int_equal(wait_for(&p), 0);
    close(pipe_fds[1]); /* now the grandchild ends, if it has not yet */
    while (proc_reap_strangers() > 0)
        waitid(P_ALL, 0, &info, WEXITED | WNOWAIT);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

static int setup(void **state)
{
    (void)state;
    arena = arena_new(4096);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    arena_free(&arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_environment),
        cmocka_unit_test(test_descriptors),
        cmocka_unit_test(test_descriptors_crossed),
        cmocka_unit_test(test_signals_are_default),
        cmocka_unit_test(test_group),
        cmocka_unit_test(test_errors_are_words),
        cmocka_unit_test(test_missing_interpreter),
        cmocka_unit_test(test_exec_by_descriptor),
        cmocka_unit_test(test_user_and_privileges),
        cmocka_unit_test(test_drop),
        cmocka_unit_test(test_status_text),
        cmocka_unit_test(test_which),
        cmocka_unit_test(test_strangers),
        cmocka_unit_test(test_nofile),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
