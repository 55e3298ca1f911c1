/*
 * file.h - files, whole: read with a bound, write atomically, make folders, and errors in words
 * that name the path, the cause and the cure. Not for serving (proxy/files.c) nor for logs.
 */
#ifndef HG_FILE_H
#define HG_FILE_H

#include "base/arena.h"

/*
 * Functions here that fail return NULL on success, else a sentence in `a` for people:
 * "permission denied: user nobody cannot read /srv/x (drwx------ root)".
 */
/* Whole file, NUL-terminated behind its end, at most `max` bytes, regular files only. */
const char *file_read(struct arena *a, const char *path, size_t max, struct str *out) MUST_USE;
/* Written beside, fsynced, renamed over `path`, parent fsynced. Mode as given whatever the umask.
 */
const char *file_write(struct arena *a, const char *path, struct str data, mode_t mode) MUST_USE;
/* The same without fsync, for what can be made anew: a power failure may leave the old or an empty
 * one. */
const char *file_write_unsynced(struct arena *a, const char *path, struct str data,
                                mode_t mode) MUST_USE;
/* What file_write left in this folder when its process was killed goes; the caller alone writes
 * there. */
void file_sweep(struct arena *a, const char *dir);
/* Each missing folder of path; the last one gets mode and, when root and uid != -1, the owner. */
const char *file_mkdirs(struct arena *a, const char *path, mode_t mode, uid_t uid,
                        gid_t gid) MUST_USE;
/* The sentence for errno `err` on `path`: who cannot do `verb` ("read", "write", "enter") and why.
 */
const char *file_error(struct arena *a, int err, const char *verb, const char *path);
/*
 * `text` with the paths in it that begin with "./" below `full`: for a process whose working folder
 * is `dir`, ".", and who reads it knows it as `full`. As it is when `dir` has its name already.
 * NULL is fine.
 */
const char *file_in_full(struct arena *a, const char *text, const char *dir, const char *full);
/* `path` made absolute against `dir` (absolute), "." and ".." folded, no symlinks resolved. */
struct str file_resolve(struct arena *a, struct str dir, struct str path);
/* memfd with `data`, sealed against every change; -1 and errno on failure. */
int file_memfd(const char *name, struct str data);
/* The content of a sealed memfd mapped read-only; refuses an unsealed one. Unmap with munmap. */
const char *file_map_sealed(int fd, struct str *out) MUST_USE;
const char *fd_nonblock(int fd) MUST_USE;
/* Writes all of it or fails; EINTR retried. For pipes and files of the master and the CLI only. */
const char *fd_write_all(int fd, struct str data) MUST_USE;

#endif
