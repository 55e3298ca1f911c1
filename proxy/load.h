/*
 * load.h - one loaded configuration as the master hands it on: the conf, its sealed bundle, its
 * opened roots; and the throw-away child that reads and checks the files.
 */
#ifndef HG_LOAD_H
#define HG_LOAD_H

#include "base/base.h" /* first: it says which C library we want */
#include "conf/conf.h"

/* Which folder a root was when it was opened: a worker's sandbox is bound to it, not to the path.
 */
struct root_id {
    dev_t dev;
    ino_t ino;
};

struct loaded {
    struct conf *conf;
    int bundle_fd; /* sealed memfd */
    int *root_fds; /* conf->roots[i], opened O_PATH */
    struct root_id *root_ids;
    unsigned n_roots;
    const char **cert_paths; /* files and folders of tls.certificates, to be watched */
    unsigned n_cert_paths;
    int64_t begun; /* wall clock, seconds: what changed since may have been missed */
};

/*
 * The child: loads `file` with all that the load may read, far from the master's own state, and
 * leaves the bundle and the diagnostics in memory files.
 */
struct load {
    pid_t pid; /* -1: none */
    int bundle_fd, plain_fd, colour_fd;
    int64_t begun;
};
const char *load_start(struct load *l, const char *file) MUST_USE;
/* The same of an earlier load's bundle, with nothing read anew but the files of tls.certificates.
 */
const char *load_start_certs(struct load *l, int bundle_fd) MUST_USE;
/*
 * After the child was reaped. The loaded configuration, or NULL; *text gets the diagnostics
 * (warnings too; empty when there are none), with colours when asked, made in `a`.
 */
struct loaded *load_finish(struct load *l, int wait_status, uint64_t generation, bool colour,
                           struct arena *a, struct str *text);
/* Ends a load that is not wanted any more; the child was killed or reaped by the caller. */
void load_drop(struct load *l);
void loaded_free(struct loaded **l);

#endif
