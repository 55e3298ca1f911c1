/*
 * cgroup.c - cgroup v2 by its files (cgroups(7), the kernel's admin-guide/cgroup-v2). What a group
 * stands for is unknown here.
 */
#include "base/cgroup.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/file.h"
#include "base/proc.h"

#define PATH_BYTES 4096
#define OWN_GROUP  "headgate"
#define FILE_BYTES 65536
#define MOVE_TURNS 16 /* who forks while it is moved leaves a child behind, which is next */

/* ---- files ---- */

static bool path_in(const char *folder, const char *name, char path[PATH_BYTES])
{
    struct out o = out_on(path, PATH_BYTES - 1);
    out_fmt(&o, "%s/%s", folder, name);
    path[o.n] = '\0';
    return !o.over;
}

/* Whole; empty when it cannot be read. In a buffer that the next call uses again. */
static struct str read_whole(const char *path)
{
    static char text[FILE_BYTES];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t got = 0;
    if (fd < 0)
        return STR_NULL;
    for (ssize_t n; got < sizeof(text) && (n = read(fd, text + got, sizeof(text) - got)) > 0;)
        got += (size_t)n;
    close(fd);
    return (struct str){text, got};
}

static struct str read_in(const char *folder, const char *name)
{
    char path[PATH_BYTES];
    return path_in(folder, name, path) ? read_whole(path) : STR_NULL;
}

static const char *write_in(const char *folder, const char *name, struct str text)
{
    char path[PATH_BYTES];
    if (!path_in(folder, name, path))
        return err_of_errno(ENAMETOOLONG);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return err_of_errno(errno);
    const char *err = fd_write_all(fd, text);
    close(fd);
    return err;
}

static const char *write_number(const char *folder, const char *name, uint64_t number)
{
    char text[24];
    struct out o = out_on(text, sizeof(text));
    out_u64(&o, number);
    return write_in(folder, name, out_done(&o));
}

/* Of one line. */
static bool has_word(struct str text, struct str word)
{
    struct str one;
    text = str_sub(text, 0, str_chr(text, '\n'));
    while (str_split(&text, ' ', &one))
        if (str_eq(one, word))
            return true;
    return false;
}

/* The number behind "KEY " in a flat keyed file; 0 when it is not there. */
static uint64_t number_in(const char *folder, const char *name, struct str key)
{
    struct str text = read_in(folder, name), line;
    uint64_t number;
    while (str_split(&text, '\n', &line))
        if (str_starts(line, key) && str_u64(str_sub(line, key.n, line.n), &number))
            return number;
    return 0;
}

/* ---- where we stand ---- */

/* /proc/self/cgroup: "0::PATH" is that of version 2. */
static struct str own_group(struct arena *a)
{
    struct str text = read_whole("/proc/self/cgroup"), line;
    while (str_split(&text, '\n', &line))
        if (str_starts(line, STR("0::/")))
            return arena_str(a, str_sub(line, 3, line.n));
    return STR_NULL;
}

/* proc_pid_mountinfo(5): ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [TAG …] - TYPE SOURCE OPTIONS */
static struct str mount_point(struct arena *a)
{
    struct str text = read_whole("/proc/self/mountinfo"), line, field[5], word;
    while (str_split(&text, '\n', &line)) {
        unsigned n = 0;
        while (n < ARRAY_LEN(field) && str_split(&line, ' ', &field[n]))
            n++;
        while (str_split(&line, ' ', &word) && !str_eq(word, STR("-")))
            ;
        /* A part of the tree, or a path with blanks in it, is nobody's usual way to mount it. */
        if (n == ARRAY_LEN(field) && str_split(&line, ' ', &word) && str_eq(word, STR("cgroup2")) &&
            str_eq(field[3], STR("/")) && str_chr(field[4], '\\') == field[4].n)
            return arena_str(a, field[4]);
    }
    return STR_NULL;
}

static bool delegated(const char *path)
{
    static const char *const names[] = {"user.delegate", "trusted.delegate"};
    char value = 0;
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (getxattr(path, names[i], &value, 1) == 1 && value == '1')
            return true;
    return false;
}

static struct str parent_of(struct str path)
{
    while (path.n && path.p[path.n - 1] != '/')
        path.n--;
    return str_sub(path, 0, path.n ? path.n - 1 : 0);
}

const char *cgroup_find_base(struct arena *a, const char **base)
{
    struct str mount = mount_point(a), own = own_group(a);
    *base = NULL;
    if (!mount.n || !own.n)
        return "this system has no cgroup v2 mounted";
    const char *path = arena_fmt(a, STR_FMT STR_FMT, STR_ARG(mount), STR_ARG(own)).p;
    const char *above = arena_strz(a, parent_of(str_of(path)));
    if (delegated(path))
        *base = path;
    else if (own.n > 1 && delegated(above))
        *base = above;
    return *base ? NULL : "no cgroup is delegated to headgate (Delegate=yes of its systemd unit)";
}

/* ---- one group ---- */

const char *cgroup_make(const char *path)
{
    bool left;
    if (mkdir(path, 0755) == 0)
        return NULL;
    return errno == EEXIST ? cgroup_kill(path, &left) : err_of_errno(errno);
}

const char *cgroup_add(const char *path, pid_t pid)
{
    return write_number(path, "cgroup.procs", (uint64_t)pid);
}

const char *cgroup_kill(const char *path, bool *left)
{
    const char *err = write_in(path, "cgroup.kill", STR("1"));
    *left = number_in(path, "cgroup.events", STR("populated ")) != 0;
    return err;
}

void cgroup_remove(const char *path)
{
    (void)!rmdir(path);
}

/* ---- memory ---- */

/* The child that takes the permission back when we end: it reads until the pipe is closed. */
static struct {
    pid_t pid;
    int pipe, control; /* control: base/cgroup.subtree_control */
} keeper = {.pipe = -1, .control = -1};

static void keep(int end)
{
    char c;
    int control = fcntl(keeper.control, F_DUPFD_CLOEXEC, 3);
    setsid();
    dup2(end, 0);
    dup2(control, 1);
    close_range(2, ~0u, 0);
    proc_set_title("keeper");
    while (read(0, &c, 1) < 0 && errno == EINTR)
        ;
    (void)!write(1, "-memory", 7);
    _exit(0);
}

static bool keeper_alive(void)
{
    return keeper.pid > 0 && waitpid(keeper.pid, NULL, WNOHANG) == 0;
}

static void keeper_forget(void)
{
    if (keeper.pipe >= 0)
        close(keeper.pipe);
    if (keeper.control >= 0)
        close(keeper.control);
    keeper.pipe = keeper.control = -1;
    keeper.pid = 0;
}

static const char *keeper_start(const char *base)
{
    char path[PATH_BYTES];
    int fds[2];
    keeper_forget();
    if (!path_in(base, "cgroup.subtree_control", path))
        return err_of_errno(ENAMETOOLONG);
    keeper.control = open(path, O_WRONLY | O_CLOEXEC);
    if (keeper.control < 0 || pipe2(fds, O_CLOEXEC) < 0)
        return err_of_errno(errno);
    keeper.pid = proc_fork();
    if (keeper.pid == 0) {
        close(fds[1]);
        keep(fds[0]);
    }
    close(fds[0]);
    keeper.pipe = fds[1];
    return keeper.pid < 0 ? err_of_errno(errno) : NULL;
}

static const char *move_own(const char *base)
{
    char own[PATH_BYTES];
    if (!path_in(base, OWN_GROUP, own))
        return err_of_errno(ENAMETOOLONG);
    for (unsigned turn = 0; turn < MOVE_TURNS; turn++) {
        struct str pids = read_in(base, "cgroup.procs"), line;
        if (!pids.n)
            return NULL;
        if (mkdir(own, 0755) < 0 && errno != EEXIST)
            return err_of_errno(errno);
        /* One that ended meanwhile is no trouble: the next turn tells. */
        while (str_split(&pids, '\n', &line))
            (void)!write_in(own, "cgroup.procs", line);
    }
    return "processes in its cgroup cannot be moved out of the way";
}

const char *cgroup_allow_memory(const char *base)
{
    if (!has_word(read_in(base, "cgroup.controllers"), STR("memory")))
        return "the memory controller is not delegated with its cgroup";
    if (keeper_alive())
        return NULL;
    const char *err = keeper_start(base);
    if (!err)
        err = move_own(base);
    if (!err)
        err = write_in(base, "cgroup.subtree_control", STR("+memory"));
    if (err)
        cgroup_disallow_memory();
    return err;
}

void cgroup_disallow_memory(void)
{
    if (keeper.control >= 0)
        (void)!write(keeper.control, "-memory", 7);
    keeper_forget();
}

const char *cgroup_set_memory(const char *path, uint64_t bytes)
{
    /* All of it is killed, not the largest process alone: half a service serves nobody. Kernels
     * before 4.19 do without. */
    (void)!write_in(path, "memory.oom.group", STR("1"));
    return write_number(path, "memory.max", bytes);
}

bool cgroup_ran_out(const char *path)
{
    return number_in(path, "memory.events", STR("oom_kill ")) != 0;
}
