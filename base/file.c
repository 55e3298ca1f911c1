/*
 * file.c - whole files: bounded reads, atomic writes, folders, sealed memory files, and errors that
 * say who could not do what, and why.
 */
#include "base/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *user_name(struct arena *a, uid_t uid)
{
    struct passwd pw, *found = NULL;
    char *buf = arena_alloc(a, 4096);
    if (getpwuid_r(uid, &pw, buf, 4096, &found) == 0 && found)
        return found->pw_name;
    return arena_fmt(a, "uid %u", uid).p;
}

static void mode_text(mode_t m, char out[11])
{
    static const char bits[] = "rwxrwxrwx";
    out[0] = S_ISDIR(m) ? 'd' : S_ISLNK(m) ? 'l' : S_ISSOCK(m) ? 's' : S_ISFIFO(m) ? 'p' : '-';
    for (int i = 0; i < 9; i++)
        out[i + 1] = (m & (0400u >> i)) ? bits[i] : '-';
    out[10] = '\0';
}

/* The nearest part of path whose mode can be shown: path itself, else the folders above it. */
static const char *denied_by(struct arena *a, const char *path)
{
    struct str p = arena_str(a, str_of(path));
    char *z = (char *)(uintptr_t)p.p;
    for (;;) {
        struct stat st;
        if (stat(z, &st) == 0) {
            char mode[11];
            mode_text(st.st_mode, mode);
            return arena_fmt(a, "%s%s%s %s", strcmp(z, path) ? z : "", strcmp(z, path) ? ": " : "",
                             mode, user_name(a, st.st_uid))
                .p;
        }
        char *slash = strrchr(z, '/');
        if (!slash)
            return "it cannot be looked at";
        if (slash == z)
            z[1] = '\0';
        else
            *slash = '\0';
    }
}

const char *file_error(struct arena *a, int err, const char *verb, const char *path)
{
    switch (err) {
    case EACCES:
    case EPERM:
        return arena_fmt(a, "permission denied: user %s cannot %s %s (%s)", user_name(a, geteuid()),
                         verb, path, denied_by(a, path))
            .p;
    case ENOENT:
        return arena_fmt(a, "there is no %s", path).p;
    case ENOTDIR:
        return arena_fmt(a, "%s: a part of this path is not a folder", path).p;
    case EISDIR:
        return arena_fmt(a, "%s is a folder, not a file", path).p;
    case ENOSPC:
    case EDQUOT:
        return arena_fmt(a, "the disk is full: cannot %s %s; free some space there", verb, path).p;
    case EROFS:
        return arena_fmt(a, "cannot %s %s: the file system is mounted read-only", verb, path).p;
    default:
        return arena_fmt(a, "cannot %s %s: %s", verb, path, err_of_errno(err)).p;
    }
}

static const char *read_all(struct arena *a, int fd, const char *path, size_t max, struct str *out)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return file_error(a, errno, "read", path);
    if (!S_ISREG(st.st_mode))
        return arena_fmt(a, "%s is not a regular file", path).p;
    if ((uint64_t)st.st_size > max)
        return arena_fmt(a, "%s is larger than %zu bytes", path, max).p;
    /* One byte more than it says, so that a file that grows is seen. */
    size_t cap = (size_t)st.st_size + 1, n = 0;
    char *p = arena_alloc(a, cap + 1);
    while (n < cap) {
        ssize_t got = read(fd, p + n, cap - n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return file_error(a, errno, "read", path);
        if (got == 0)
            break;
        n += (size_t)got;
    }
    if (n == cap)
        return arena_fmt(a, "%s changed while it was read", path).p;
    p[n] = '\0';
    *out = (struct str){p, n};
    return NULL;
}

const char *file_read(struct arena *a, const char *path, size_t max, struct str *out)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return file_error(a, errno, "read", path);
    const char *err = read_all(a, fd, path, max, out);
    close(fd);
    return err;
}

static const char *dir_sync(struct arena *a, const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *dir = !slash          ? "."
                      : slash == path ? "/"
                                      : arena_fmt(a, "%.*s", (int)(slash - path), path).p;
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return file_error(a, errno, "enter", dir);
    int rc = fsync(fd), err = errno;
    close(fd);
    return rc < 0 ? file_error(a, err, "write", dir) : NULL;
}

static const char *exchange(struct arena *a, const char *path, struct str data, mode_t mode,
                            bool synced)
{
    uint32_t salt;
    random_bytes(&salt, sizeof(salt));
    const char *tmp = arena_fmt(a, "%s.%08x.tmp", path, salt).p;
    int fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return file_error(a, errno, "write", path);
    const char *err = fd_write_all(fd, data);
    int code = errno;
    if (!err && (fchmod(fd, mode) < 0 || (synced && fsync(fd) < 0))) {
        err = "";
        code = errno;
    }
    close(fd);
    if (!err && rename(tmp, path) < 0) {
        err = "";
        code = errno;
    }
    if (err) {
        unlink(tmp);
        return file_error(a, code, "write", path);
    }
    return synced ? dir_sync(a, path) : NULL;
}

const char *file_write(struct arena *a, const char *path, struct str data, mode_t mode)
{
    return exchange(a, path, data, mode, true);
}

const char *file_write_unsynced(struct arena *a, const char *path, struct str data, mode_t mode)
{
    return exchange(a, path, data, mode, false);
}

void file_sweep(struct arena *a, const char *dir)
{
    DIR *d = opendir(dir);
    if (!d)
        return;
    for (struct dirent *e; (e = readdir(d));)
        if (str_ends(str_of(e->d_name), STR(".tmp")))
            unlink(arena_fmt(a, "%s/%s", dir, e->d_name).p);
    closedir(d);
}

/* What is synced in a new folder is lost with it when the power goes. Where its parent may not be
 * read, it is used all the same. */
static void made_sync(struct arena *a, const char *dir)
{
    const char *ignored = dir_sync(a, dir);
    (void)ignored;
}

const char *file_mkdirs(struct arena *a, const char *path, mode_t mode, uid_t uid, gid_t gid)
{
    struct str p = arena_str(a, str_of(path));
    char *z = (char *)(uintptr_t)p.p;
    while (p.n > 1 && z[p.n - 1] == '/')
        z[--p.n] = '\0';
    for (char *at = strchr(z + 1, '/'); at; at = strchr(at + 1, '/')) {
        *at = '\0';
        int rc = mkdir(z, 0755);
        int err = errno;
        if (rc == 0)
            made_sync(a, z);
        *at = '/';
        if (rc < 0 && err != EEXIST)
            return file_error(a, err, "create", z);
    }
    bool made = mkdir(z, 0700) == 0;
    struct stat st;
    if (!made && errno != EEXIST)
        return file_error(a, errno, "create", z);
    if (made)
        made_sync(a, z);
    if (stat(z, &st) < 0)
        return file_error(a, errno, "enter", z);
    if (!S_ISDIR(st.st_mode))
        return arena_fmt(a, "%s is not a folder", z).p;
    bool chown_due = uid != (uid_t)-1 && geteuid() == 0 && st.st_uid != uid;
    if (chown_due && chown(z, uid, gid) < 0)
        return file_error(a, errno, "give away", z);
    if ((made || chown_due) && chmod(z, mode) < 0)
        return file_error(a, errno, "set the mode of", z);
    return NULL;
}

const char *file_in_full(struct arena *a, const char *text, const char *dir, const char *full)
{
    if (!text || strcmp(dir, full) == 0)
        return text;
    struct str rest = str_of(text), done = STR("");
    while (rest.n) {
        size_t at = 0;
        while (at < rest.n && !(str_starts(str_sub(rest, at, rest.n), STR("./")) &&
                                (at == 0 || strchr(" `(", rest.p[at - 1]))))
            at++;
        done = arena_fmt(a, STR_FMT STR_FMT "%s", STR_ARG(done), STR_ARG(str_sub(rest, 0, at)),
                         at < rest.n ? full : "");
        rest = str_sub(rest, at < rest.n ? at + 1 : at, rest.n);
    }
    return done.p;
}

struct str file_resolve(struct arena *a, struct str dir, struct str path)
{
    struct str rest = path.n && path.p[0] == '/'
                          ? path
                          : arena_fmt(a, STR_FMT "/" STR_FMT, STR_ARG(dir), STR_ARG(path));
    char *p = arena_alloc(a, rest.n + 2);
    size_t n = 0;
    struct str piece;
    while (str_split(&rest, '/', &piece)) {
        if (!piece.n || str_eq(piece, STR(".")))
            continue;
        if (str_eq(piece, STR(".."))) {
            while (n && p[--n] != '/')
                ;
            continue;
        }
        p[n++] = '/';
        memcpy(p + n, piece.p, piece.n);
        n += piece.n;
    }
    if (!n)
        p[n++] = '/';
    p[n] = '\0';
    return (struct str){p, n};
}

int file_memfd(const char *name, struct str data)
{
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -1;
    if (fd_write_all(fd, data) ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
        int err = errno;
        close(fd);
        errno = err;
        return -1;
    }
    return fd;
}

const char *file_map_sealed(int fd, struct str *out)
{
    struct stat st;
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & (F_SEAL_WRITE | F_SEAL_SHRINK)) != (F_SEAL_WRITE | F_SEAL_SHRINK))
        return "the memory file is not sealed";
    if (fstat(fd, &st) < 0)
        return err_of_errno(errno);
    if (st.st_size == 0)
        return "the memory file is empty";
    void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED)
        return err_of_errno(errno);
    *out = (struct str){p, (size_t)st.st_size};
    return NULL;
}

const char *fd_nonblock(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return err_of_errno(errno);
    return NULL;
}

const char *fd_write_all(int fd, struct str data)
{
    while (data.n) {
        ssize_t n = write(fd, data.p, data.n);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_of_errno(errno);
        data = str_sub(data, (size_t)n, data.n);
    }
    return NULL;
}
