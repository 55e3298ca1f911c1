/*
 * files_cache.h - opened files of a worker: each is opened beneath its root, described once (type,
 * validators), and kept for a while, small ones with their content. A kept one is looked at again
 * when the last look is a second old, so a change on disk shows within a second.
 */
#ifndef HG_FILES_CACHE_H
#define HG_FILES_CACHE_H

#include "base/slab.h"
#include "conf/conf.h"
#include "proxy/files_cond.h"

#define FILES_CONTENT_MAX   SLAB_LARGE /* a file up to this size is kept with its content */
#define FILES_CACHE_ENTRIES 1024
#define FILES_CACHE_FDS     256
#define FILES_CACHE_BYTES   (16 * 1024 * 1024) /* of contents */

#define FILES_CODINGS       3 /* as many as enum conf_coding has */

/* Counted; never changes once it was handed out, but for what is made of it on demand. */
struct files_entry {
    uint64_t size;
    int64_t mtime;                        /* seconds since 1970 */
    struct slab *content;                 /* size bytes at data; NULL for a large file */
    int fd;                               /* a large file's; else -1. Owned by the entry */
    struct str type, etag, last_modified; /* live as long as the entry */
    struct slab *coded[FILES_CODINGS];    /* the content compressed; see files_entry_coded */
    bool tried[FILES_CODINGS];
};

enum files_found {
    FILES_FOUND,
    FILES_FOLDER,  /* it is a directory */
    FILES_MISSING, /* nothing there that may be served: not only ENOENT, also a way out of the root
                    */
    FILES_DENIED,  /* the worker may not read it */
    FILES_BUSY,    /* no descriptor or memory left */
    FILES_BROKEN   /* the disk failed, or the file kept changing while it was read */
};

/*
 * Opens `name` beneath the root: no link leads out of it. -1 and errno. `flags`: of open(2), close
 * on exec always.
 */
int files_open_beneath(int root_fd, const char *name, uint64_t flags);
enum files_found files_found_of_errno(int err);

/*
 * `name`: relative, NUL-terminated, decoded, checked for dot files by the caller. `generation` and
 * `root` tell roots of different configurations apart. On FILES_FOUND the caller holds a reference.
 */
enum files_found files_cache_open(int root_fd, uint64_t generation, unsigned root, struct str name,
                                  struct files_entry **out);
struct files_entry *files_entry_ref(struct files_entry *e);
/*
 * The content compressed, made when it is first asked for; the entry's own. NULL: compressing makes
 * it no smaller, there is no content, or too many encoders are at work.
 */
struct slab *files_entry_coded(struct files_entry *e, enum conf_coding c);
void files_entry_unref(struct files_entry **e); /* fine on NULL; sets *e to NULL */

void files_cache_clear(void); /* lets go of everything kept */
unsigned files_cache_count(void);
size_t files_cache_bytes(void);

#endif
