/*
 * test_sandbox.c - what a worker and the agent can and cannot do any more. Each check runs in a
 * child of its own: what is forbidden ends it by SIGSYS.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs the four above first */
#include <arpa/inet.h>
#include <cmocka.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/sandbox.h"

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

static char dir[] = "/tmp/headgate-sandbox-XXXXXX";
static int root_fd, other_fd;

/* The wait status of `act` in a sandboxed child; 0 when it returned true. */
static int in_worker(bool (*act)(void))
{
    pid_t pid = fork();
    if (pid == 0) {
        if (sandbox_worker(&root_fd, 1) != NULL)
            _exit(99);
        _exit(act() ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static int in_agent(bool (*act)(void))
{
    pid_t pid = fork();
    if (pid == 0) {
        if (chdir(dir) != 0 || sandbox_agent(".") != NULL)
            _exit(99);
        _exit(act() ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static bool killed(int status)
{
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS;
}

/* ---- what a worker needs ---- */

static bool connects_and_serves(void)
{
    static const int domains[] = {AF_INET, AF_INET6, AF_UNIX};
    for (size_t i = 0; i < ARRAY_LEN(domains); i++) {
        int fd = socket(domains[i], SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd < 0 && errno != EAFNOSUPPORT)
            return false;
        if (domains[i] == AF_INET) {
            struct sockaddr_in in = {.sin_family = AF_INET,
                                     .sin_port = htons(1),
                                     .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
            int on = 1;
            if (connect(fd, (struct sockaddr *)&in, sizeof(in)) == 0 ||
                setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on)) != 0)
                return false;
        }
        close(fd);
    }
    int ep = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event ev;
    return ep >= 0 && epoll_wait(ep, &ev, 1, 0) == 0;
}

static bool uses_memory_and_time(void)
{
    void *p = malloc(8 << 20);
    if (!p)
        return false;
    memset(p, 1, 8 << 20);
    p = realloc(p, 16 << 20);
    free(p);
    struct tm tm;
    time_t now = time(NULL);
    char buf[64];
    localtime_r(&now, &tm);
    gmtime_r(&now, &tm);
    random_bytes(buf, sizeof(buf));
    int fd = memfd_create("x", MFD_CLOEXEC);
    return fd >= 0 && write(fd, buf, sizeof(buf)) == (ssize_t)sizeof(buf) &&
           pread(fd, buf, sizeof(buf), 0) == (ssize_t)sizeof(buf) && now_ms() > 0;
}

static int open_below(int at, const char *path)
{
    struct open_how how = {.flags = O_RDONLY | O_CLOEXEC, .resolve = RESOLVE_BENEATH};
    return (int)syscall(SYS_openat2, at, path, &how, sizeof(how));
}

static bool reads_its_root(void)
{
    struct stat st;
    char buf[8];
    int fd = open_below(root_fd, "sub/file");
    return fd >= 0 && fstat(fd, &st) == 0 && st.st_size == 5 && read(fd, buf, sizeof(buf)) == 5;
}

static bool reads_nothing_else(void)
{
    return open_below(other_fd, "file") < 0 && (errno == EACCES || errno == EPERM);
}

static bool writes_nothing(void)
{
    struct open_how how = {
        .flags = O_WRONLY | O_CREAT | O_CLOEXEC, .mode = 0644, .resolve = RESOLVE_BENEATH};
    return syscall(SYS_openat2, root_fd, "new", &how, sizeof(how)) < 0;
}

static void test_worker_may(void **state)
{
    (void)state;
    assert_int_equal(in_worker(connects_and_serves), 0);
    assert_int_equal(in_worker(uses_memory_and_time), 0);
    assert_int_equal(in_worker(reads_its_root), 0);
}

static void test_worker_sees_only_its_roots(void **state)
{
    (void)state;
    if (!sandbox_has_landlock() || SANITIZED)
        skip();
    assert_int_equal(in_worker(reads_nothing_else), 0);
    assert_int_equal(in_worker(writes_nothing), 0);
}

/* ---- what it has given up ---- */

static bool does_bind(void)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in in = {.sin_family = AF_INET};
    bind(fd, (struct sockaddr *)&in, sizeof(in));
    return true;
}

static bool does_listen(void)
{
    listen(socket(AF_INET, SOCK_STREAM, 0), 1);
    return true;
}

static bool does_exec(void)
{
    char *argv[] = {"true", NULL};
    execv("/bin/true", argv);
    return true;
}

static bool does_fork(void)
{
    return fork() >= 0;
}

static bool does_open(void)
{
    return open("/etc/passwd", O_RDONLY) >= -1;
}

static bool does_udp(void)
{
    socket(AF_INET, SOCK_DGRAM, 0);
    return true;
}

static bool does_netlink(void)
{
    socket(AF_NETLINK, SOCK_RAW, 0);
    return true;
}

static bool does_map_code(void)
{
    mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return true;
}

static bool does_kill(void)
{
    kill(getppid(), 0);
    return true;
}

static bool does_ptrace(void)
{
    syscall(SYS_ptrace, 0, 0, 0, 0);
    return true;
}

static bool does_raise_limits(void)
{
    syscall(SYS_prlimit64, getppid(), 7, NULL, NULL);
    return true;
}

static bool does_unlink(void)
{
    unlink("/tmp/nothing");
    return true;
}

static void test_worker_may_not(void **state)
{
    (void)state;
    assert_true(killed(in_worker(does_bind)));
    assert_true(killed(in_worker(does_listen)));
    assert_true(killed(in_worker(does_exec)));
    assert_true(killed(in_worker(does_udp)));
    assert_true(killed(in_worker(does_netlink)));
    assert_true(killed(in_worker(does_unlink)));
    if (SANITIZED)
        return; /* the sanitizers' own needs */
    assert_true(killed(in_worker(does_fork)));
    assert_true(killed(in_worker(does_open)));
    assert_true(killed(in_worker(does_map_code)));
    assert_true(killed(in_worker(does_kill)));
    assert_true(killed(in_worker(does_ptrace)));
    assert_true(killed(in_worker(does_raise_limits)));
}

static bool does_abort(void)
{
    abort();
}

static void test_abort_stays_abort(void **state)
{
    (void)state;
    int status = in_worker(does_abort);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

/* ---- the agent ---- */

static bool agent_writes_its_state(void)
{
    int fd = open("new.tmp", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, "x", 1) != 1 || fsync(fd) != 0 || close(fd) != 0)
        return false;
    if (rename("new.tmp", "new") != 0 || mkdir("made", 0700) != 0 || rmdir("made") != 0)
        return false;
    return unlink("new") == 0;
}

static bool agent_writes_elsewhere(void)
{
    return open("/tmp/headgate-not-here", O_WRONLY | O_CREAT, 0600) >= 0;
}

static bool agent_reads_etc(void)
{
    return open("/etc/passwd", O_RDONLY) >= 0;
}

static void test_agent(void **state)
{
    (void)state;
    assert_int_equal(in_agent(agent_writes_its_state), 0);
    assert_int_equal(in_agent(agent_reads_etc), 0);
    assert_int_equal(in_agent(does_udp), 0);
    assert_true(killed(in_agent(does_exec)));
    assert_true(killed(in_agent(does_listen)));
    assert_true(SANITIZED || killed(in_agent(does_ptrace)));
    assert_true(SANITIZED || killed(in_agent(does_fork)));
    if (sandbox_has_landlock())
        assert_true(in_agent(agent_writes_elsewhere) != 0);
}

/* ---- */

static void make_file(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT, 0644);
    assert_true(fd >= 0 && write(fd, "hello", 5) == 5);
    close(fd);
}

static int setup(void **state)
{
    (void)state;
    if (!mkdtemp(dir) || chdir(dir) != 0 || mkdir("root", 0755) != 0 ||
        mkdir("root/sub", 0755) != 0 || mkdir("other", 0755) != 0)
        return 1;
    make_file("root/sub/file");
    make_file("other/file");
    root_fd = open("root", O_PATH | O_DIRECTORY);
    other_fd = open("other", O_PATH | O_DIRECTORY);
    return chdir("/");
}

static int teardown(void **state)
{
    static const char *const files[] = {"root/sub/file", "other/file"};
    static const char *const dirs[] = {"root/sub", "root", "other"};
    (void)state;
    if (chdir(dir) != 0)
        return 1;
    for (size_t i = 0; i < ARRAY_LEN(files); i++)
        unlink(files[i]);
    for (size_t i = 0; i < ARRAY_LEN(dirs); i++)
        rmdir(dirs[i]);
    close(root_fd);
    close(other_fd);
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_worker_may),     cmocka_unit_test(test_worker_sees_only_its_roots),
        cmocka_unit_test(test_worker_may_not), cmocka_unit_test(test_abort_stays_abort),
        cmocka_unit_test(test_agent),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
