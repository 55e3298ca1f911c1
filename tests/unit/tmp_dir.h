/*
 * tmp_dir.h - a folder for one unit test: made anew below $TMPDIR, and gone after it with all that
 * is in it. What stands in it is the test's.
 */
#ifndef HG_TEST_TMP_DIR_H
#define HG_TEST_TMP_DIR_H

#include "base/arena.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

/* Its path, in a; NULL: it could not be made. */
UNUSED static const char *tmp_dir_make(struct arena *a)
{
    const char *tmp = getenv("TMPDIR");
    struct str path = arena_fmt(a, "%s/headgate-unit.XXXXXX", tmp ? tmp : "/tmp");
    return mkdtemp((char *)(uintptr_t)path.p);
}

/* Dies when something of it stays: a test that leaves what it cannot remove would not be noticed.
 */
UNUSED static void tmp_dir_remove(struct arena *a, const char *path)
{
    DIR *d = opendir(path);
    if (d) {
        for (struct dirent *e; (e = readdir(d));)
            if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
                tmp_dir_remove(a, arena_fmt(a, "%s/%s", path, e->d_name).p);
        closedir(d);
    }
    ASSERT(remove(path) == 0);
}

#endif
