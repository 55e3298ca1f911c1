/*
 * files_list.h - a folder as a page (files: listing: on): what of it may be served, sorted, as HTML
 * for people and JSON for programs. Which folder is meant, and whether it may be listed, is
 * files.c's.
 */
#ifndef HG_FILES_LIST_H
#define HG_FILES_LIST_H

#include "proxy/files_cache.h"

#define FILES_LIST_MAX 2000 /* entries of a folder that are shown */

struct files_list_entry {
    struct str name; /* as in the folder: any bytes but / and NUL */
    uint64_t size;
    int64_t mtime; /* seconds since 1970 */
    bool folder;
};

struct files_list {
    struct files_list_entry *v; /* folders first, then by name */
    unsigned n;
    bool more; /* there are more than FILES_LIST_MAX */
};

/*
 * Reads the folder `name` (NUL-terminated, relative, "" for the root itself); everything is in `a`.
 * Left out is what a request would not get: dot files unless `dotfiles`, what is neither file nor
 * folder, links out of the root.
 */
enum files_found files_list_read(struct arena *a, int root_fd, struct str name, bool dotfiles,
                                 struct files_list *out);
/* `path`: of the request, still percent-encoded; `up`: with a link to the folder above. */
struct str files_list_html(struct arena *a, const struct files_list *l, struct str path, bool up);
/* {"entries":[{"name","type":"file"|"directory","size","mtime"}],"truncated":false} */
struct str files_list_json(struct arena *a, const struct files_list *l);

#endif
