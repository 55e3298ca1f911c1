/*
 * load.c - loading a configuration in a throw-away child, so that a parser that stumbles takes
 * nothing with it, and taking over its result. What is done with the result is master*.c's.
 */
#include "proxy/load.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/proc.h"

#define TEXT_MAX   (1024 * 1024)
#define BUNDLE_MAX (256u * 1024 * 1024)

/* ---- the child ---- */

static int print_to(int fd, const struct diags *d, bool colour)
{
    FILE *f = fdopen(dup(fd), "w");
    if (!f)
        return -1;
    diags_print(d, DIAG_TEXT, colour, f);
    if (diags_errors(d) || diags_warnings(d))
        diags_summary(d, f);
    return fclose(f);
}

static struct conf_source *source_certs_anew(int bundle_fd)
{
    struct str bundle; /* mapped until the child's end */
    const char *err = file_map_sealed(bundle_fd, &bundle);
    struct conf_source *src = err ? NULL : conf_source_bundle(bundle, &err);
    if (!src)
        _exit(2);
    conf_source_certs_anew(src);
    return src;
}

static void child_load(const struct load *l, struct conf_source *src)
{
    struct diags *d = diags_new();
    struct conf *c = conf_load(src, 0, d);
    if (print_to(l->plain_fd, d, false) != 0 || print_to(l->colour_fd, d, true) != 0)
        _exit(2);
    if (!c)
        _exit(1);
    struct arena *a = arena_new(64 * 1024);
    const char *err = fd_write_all(l->bundle_fd, conf_bundle(a, src));
    _exit(err ? 2 : 0);
}

/* ---- the master ---- */

void load_drop(struct load *l)
{
    int *fds[] = {&l->bundle_fd, &l->plain_fd, &l->colour_fd};
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        if (*fds[i] >= 0)
            close(*fds[i]);
        *fds[i] = -1;
    }
    l->pid = -1;
}

/* `file`, or when it is NULL the bundle. */
static const char *start(struct load *l, const char *file, int bundle_fd)
{
    *l = (struct load){-1, -1, -1, -1, wall_s()};
    l->bundle_fd = memfd_create("headgate-config", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    l->plain_fd = memfd_create("headgate-diags", MFD_CLOEXEC);
    l->colour_fd = memfd_create("headgate-diags", MFD_CLOEXEC);
    if (l->bundle_fd < 0 || l->plain_fd < 0 || l->colour_fd < 0) {
        const char *err = err_of_errno(errno);
        load_drop(l);
        return err;
    }
    l->pid = proc_fork();
    if (l->pid < 0) {
        const char *err = err_of_errno(errno);
        load_drop(l);
        return err;
    }
    if (l->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        child_load(l, file ? conf_source_fs(file) : source_certs_anew(bundle_fd));
    }
    return NULL;
}

const char *load_start(struct load *l, const char *file)
{
    return start(l, file, -1);
}

const char *load_start_certs(struct load *l, int bundle_fd)
{
    return start(l, NULL, bundle_fd);
}

static struct str read_text(struct arena *a, int fd)
{
    struct stat st;
    if (fstat(fd, &st) < 0 || st.st_size <= 0)
        return STR("");
    size_t n = MIN((size_t)st.st_size, (size_t)TEXT_MAX);
    char *p = arena_alloc(a, n + 1);
    ssize_t got = pread(fd, p, n, 0);
    n = got > 0 ? (size_t)got : 0;
    p[n] = '\0';
    return (struct str){p, n};
}

static const char *open_roots(struct arena *a, struct loaded *l)
{
    struct conf *c = l->conf;
    l->root_fds = calloc(c->n_roots + 1, sizeof(int));
    l->root_ids = calloc(c->n_roots + 1, sizeof(struct root_id));
    ASSERT(l->root_fds && l->root_ids);
    for (; l->n_roots < c->n_roots; l->n_roots++) {
        const struct conf_root *r = &c->roots[l->n_roots];
        const char *path = arena_strz(a, r->path);
        struct stat st;
        int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) < 0) {
            int err = errno;
            if (fd >= 0)
                close(fd);
            return arena_fmt(a, "error: " STR_FMT ":%u:%u: %s\n", STR_ARG(r->place.file),
                             r->place.line, r->place.col, file_error(a, err, "enter", path))
                .p;
        }
        l->root_fds[l->n_roots] = fd;
        l->root_ids[l->n_roots] = (struct root_id){st.st_dev, st.st_ino};
    }
    return NULL;
}

/* The master's own load of the bundle: it sees the very bytes that its children will see. */
static const char *load_bundle(struct arena *a, struct loaded *l, uint64_t generation)
{
    struct str bundle;
    const char *err = NULL;
    const int seals = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
    struct stat st;
    if (fstat(l->bundle_fd, &st) < 0 || st.st_size > (off_t)BUNDLE_MAX)
        return "error: the files of the configuration are larger than 256 MiB together\n";
    if (fcntl(l->bundle_fd, F_ADD_SEALS, seals) < 0)
        return "error: cannot seal the configuration's bundle\n";
    err = file_map_sealed(l->bundle_fd, &bundle);
    if (err)
        return arena_fmt(a, "error: the configuration's bundle: %s\n", err).p;
    struct conf_source *src = conf_source_bundle(bundle, &err);
    if (src) {
        struct diags *d = diags_new();
        l->conf = conf_load(src, 0, d);
        if (l->conf) {
            l->conf->generation = generation;
            l->n_cert_paths = conf_source_cert_paths(src, l->conf->arena, &l->cert_paths);
        } else {
            err = "it does not load a second time";
        }
        diags_free(&d);
        conf_source_close(&src);
    }
    munmap((void *)(uintptr_t)bundle.p, bundle.n);
    return err ? arena_fmt(a, "error: the configuration's bundle: %s\n", err).p : NULL;
}

struct loaded *load_finish(struct load *l, int wait_status, uint64_t generation, bool colour,
                           struct arena *a, struct str *text)
{
    *text = read_text(a, colour ? l->colour_fd : l->plain_fd);
    if (!WIFEXITED(wait_status) || WEXITSTATUS(wait_status) > 1) {
        char how[64];
        *text = arena_fmt(a, STR_FMT "error: the process that reads the configuration %s\n",
                          STR_ARG(*text), proc_status_text(wait_status, how, sizeof(how)));
        load_drop(l);
        return NULL;
    }
    if (WEXITSTATUS(wait_status) != 0) {
        load_drop(l);
        return NULL;
    }
    struct loaded *made = calloc(1, sizeof(*made));
    ASSERT(made);
    made->bundle_fd = l->bundle_fd;
    made->begun = l->begun;
    l->bundle_fd = -1;
    load_drop(l);
    const char *err = load_bundle(a, made, generation);
    if (!err)
        err = open_roots(a, made);
    if (err) {
        *text = arena_fmt(a, STR_FMT "%s", STR_ARG(*text), err);
        loaded_free(&made);
    }
    return made;
}

void loaded_free(struct loaded **lp)
{
    struct loaded *l = *lp;
    *lp = NULL;
    if (!l)
        return;
    for (unsigned i = 0; i < l->n_roots; i++)
        close(l->root_fds[i]);
    free(l->root_fds);
    free(l->root_ids);
    if (l->bundle_fd >= 0)
        close(l->bundle_fd);
    if (l->conf)
        conf_unref(&l->conf);
    free(l);
}
