/*
 * cert_store.c - a host's certificate, key and meta data as one folder that is exchanged whole.
 * What the files mean is their issuer's.
 */
#include "acme/cert_store.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

#define FILE_MAX (1024 * 1024)

static const char *const names[] = {"cert.pem", "key.pem", "meta.json"};

/* Where the unit lies, and beside it where the next one is written and the last one may wait. */
struct unit_paths {
    const char *parent, *now, *new, *old, *lock;
};

/* A host is a part of a path here: only what a host may hold passes. */
const char *cert_store_name(struct arena *a, struct str host, const char **err)
{
    struct str name = host;
    if (str_starts(host, STR("*")))
        name = arena_fmt(a, "_" STR_FMT, STR_ARG(str_sub(host, 1, host.n)));
    bool fine = name.n > 0 && name.n <= 255 && name.p[0] != '.';
    for (size_t i = 0; i < name.n; i++) {
        char c = ascii_lower(name.p[i]);
        fine = fine && ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || strchr("-._:", c)) && c;
    }
    *err = fine ? NULL : arena_fmt(a, "`" STR_FMT "` is no name of a host", STR_ARG(host)).p;
    return fine ? arena_strz(a, name) : NULL;
}

static const char *paths_of(struct arena *a, const char *state, const char *issuer, struct str host,
                            struct unit_paths *p)
{
    const char *err, *name = cert_store_name(a, host, &err);
    if (!name)
        return err;
    p->parent = arena_fmt(a, "%s/certs/%s", state, issuer).p;
    p->now = arena_fmt(a, "%s/%s", p->parent, name).p;
    p->new = arena_fmt(a, "%s/.new.%s", p->parent, name).p;
    p->old = arena_fmt(a, "%s/.old.%s", p->parent, name).p;
    p->lock = arena_fmt(a, "%s/.lock.%s", p->parent, name).p;
    return NULL;
}

static bool exists(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0;
}

static const char *read_unit(struct arena *a, const char *dir, struct cert_unit *out)
{
    struct str *texts[] = {&out->cert_pem, &out->key_pem, &out->meta};
    const char *err = NULL;
    for (size_t i = 0; i < ARRAY_LEN(names) && !err; i++)
        err = file_read(a, arena_fmt(a, "%s/%s", dir, names[i]).p, FILE_MAX, texts[i]);
    return err;
}

const char *cert_store_read(struct arena *a, const char *state, const char *issuer, struct str host,
                            struct cert_unit *out, bool *found)
{
    struct unit_paths p;
    *found = false;
    const char *err = paths_of(a, state, issuer, host, &p);
    if (err)
        return err;
    /* `old` is there alone only after a crash between the two renames of replace_by_two. */
    const char *dir = exists(p.now) ? p.now : exists(p.old) ? p.old : NULL;
    if (!dir)
        return NULL;
    *found = true;
    return read_unit(a, dir, out);
}

/* Our own three files and the folder; what else lies there stays, and the folder with it. */
static void remove_unit(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return;
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        unlinkat(fd, names[i], 0);
    close(fd);
    rmdir(dir);
}

/* *fd: the file, to be synced and closed; -1 when it could not be made. */
static const char *write_file(struct arena *a, int dir, const char *path, const char *name,
                              struct str data, int *fd)
{
    *fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (*fd < 0 || fd_write_all(*fd, data) || fchmod(*fd, 0600) < 0)
        return file_error(a, errno, "write", arena_fmt(a, "%s/%s", path, name).p);
    return NULL;
}

/* All are written before the first is synced: one commit of the file system's journal takes them
 * all, and one each would be most of what a certificate costs. */
static const char *write_files(struct arena *a, int dir, const char *path,
                               const struct cert_unit *u)
{
    const struct str texts[] = {u->cert_pem, u->key_pem, u->meta};
    int fds[ARRAY_LEN(names)];
    const char *err = NULL;
    size_t n = 0;
    for (; n < ARRAY_LEN(names) && !err; n++)
        err = write_file(a, dir, path, names[n], texts[n], &fds[n]);
    for (size_t i = 0; i < n; i++) {
        if (!err && fsync(fds[i]) < 0)
            err = file_error(a, errno, "write", arena_fmt(a, "%s/%s", path, names[i]).p);
        if (fds[i] >= 0)
            close(fds[i]);
    }
    return err;
}

static const char *write_unit(struct arena *a, const char *dir, const struct cert_unit *u)
{
    remove_unit(dir); /* of a crash */
    if (mkdir(dir, 0700) < 0)
        return file_error(a, errno, "create", dir);
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return file_error(a, errno, "enter", dir);
    const char *err = write_files(a, fd, dir, u);
    if (!err && fsync(fd) < 0)
        err = file_error(a, errno, "write", dir);
    close(fd);
    return err;
}

/* For file systems that cannot exchange two folders at once: the old one waits aside. */
static int replace_by_two(const struct unit_paths *p)
{
    remove_unit(p->old);
    if (rename(p->now, p->old) < 0)
        return -1;
    if (rename(p->new, p->now) == 0) {
        remove_unit(p->old);
        return 0;
    }
    int err = errno;
    if (rename(p->old, p->now) < 0)
        return -1; /* cert_store_read looks at `old` too */
    errno = err;
    return -1;
}

static int replace(const struct unit_paths *p)
{
    if (!exists(p->now))
        return rename(p->new, p->now);
    if (renameat2(AT_FDCWD, p->new, AT_FDCWD, p->now, RENAME_EXCHANGE) == 0) {
        remove_unit(p->new); /* the old one by now */
        return 0;
    }
    return errno == EINVAL || errno == ENOSYS || errno == EPERM ? replace_by_two(p) : -1;
}

static const char *sync_dir(struct arena *a, const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const char *err = fd < 0 || fsync(fd) < 0 ? file_error(a, errno, "write", path) : NULL;
    if (fd >= 0)
        close(fd);
    return err;
}

const char *cert_store_write(struct arena *a, const char *state, const char *issuer,
                             struct str host, const struct cert_unit *unit)
{
    struct unit_paths p;
    const char *err = paths_of(a, state, issuer, host, &p);
    if (!err)
        err = file_mkdirs(a, p.parent, 0700, (uid_t)-1, (gid_t)-1);
    if (!err)
        err = write_unit(a, p.new, unit);
    if (!err && replace(&p) < 0)
        err = file_error(a, errno, "replace", p.now);
    if (err) {
        remove_unit(p.new);
        return err;
    }
    remove_unit(p.old); /* of a crash long ago: the new one counts */
    return sync_dir(a, p.parent);
}

const char *cert_store_remove(struct arena *a, const char *state, const char *issuer,
                              struct str host)
{
    struct unit_paths p;
    const char *err = paths_of(a, state, issuer, host, &p);
    if (err || (!exists(p.now) && !exists(p.old)))
        return err;
    remove_unit(p.old);
    /* Aside first: a unit is whole or it is not there. */
    remove_unit(p.new);
    if (exists(p.now) && rename(p.now, p.new) < 0)
        return file_error(a, errno, "remove", p.now);
    remove_unit(p.new);
    return sync_dir(a, p.parent);
}

/* ---- the lock ---- */

#define OWNER_MAX 128

/* For people alone: the kernel knows better who holds it. */
static void write_owner(int fd)
{
    char text[OWNER_MAX], name[64] = "";
    if (gethostname(name, sizeof(name) - 1) < 0)
        name[0] = '\0';
    struct out o = out_on(text, sizeof(text));
    out_fmt(&o, "pid %d on %s\n", (int)getpid(), name);
    if (ftruncate(fd, 0) < 0 || pwrite(fd, text, o.n, 0) < 0)
        return;
}

static const char *read_owner(struct arena *a, int fd)
{
    char text[OWNER_MAX];
    ssize_t n = pread(fd, text, sizeof(text), 0);
    struct str s = {text, n > 0 ? (size_t)n : 0};
    s = str_sub(s, 0, str_chr(s, '\n'));
    return s.n ? arena_strz(a, s) : "another headgate";
}

const char *cert_store_lock(struct arena *a, const char *state, const char *issuer, struct str host,
                            int *lock, const char **owner)
{
    struct unit_paths p;
    *lock = -1;
    *owner = NULL;
    const char *err = paths_of(a, state, issuer, host, &p);
    if (!err)
        err = file_mkdirs(a, p.parent, 0700, (uid_t)-1, (gid_t)-1);
    if (err)
        return err;
    int fd = open(p.lock, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return file_error(a, errno, "write", p.lock);
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
        write_owner(fd);
        *lock = fd;
        return NULL;
    }
    if (errno == EWOULDBLOCK)
        *owner = read_owner(a, fd);
    else
        err = file_error(a, errno, "lock", p.lock);
    close(fd);
    return err;
}

void cert_store_unlock(int *lock)
{
    if (*lock >= 0)
        close(*lock);
    *lock = -1;
}

unsigned cert_store_issuers(struct arena *a, const char *state, const char ***out)
{
    enum { MOST = 64 };
    DIR *d = opendir(arena_fmt(a, "%s/certs", state).p);
    unsigned n = 0;
    *out = arena_zarray(a, const char *, MOST);
    for (struct dirent *e; d && n < MOST && (e = readdir(d));)
        if (e->d_name[0] != '.')
            (*out)[n++] = arena_strz(a, str_of(e->d_name));
    if (d)
        closedir(d);
    return n;
}
