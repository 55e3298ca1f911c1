/*
 * master_certs.c - looks whether the files of tls.certificates changed, and has them read again
 * when they did. What follows is a reload of the running configuration with those files alone new
 * (master_reload.c): a file of the configuration that somebody is at work on stays out of it.
 */
#include "proxy/master.h"

#include <sys/stat.h>

#include "base/log.h"

/* Twice the same look: certificate and key are seldom written in one moment. */
#define LOOK_MS 3000

static struct {
    uint64_t known;   /* stamp of the files in use; 0: they may have changed while they were read */
    uint64_t pending; /* another one, seen by the last look */
    struct deadline look;
    struct reload_wait wait;
} watch;

static uint64_t mix(uint64_t h, uint64_t v)
{
    for (unsigned i = 0; i < 8; i++) {
        h = fnv1a_byte(h, (uint8_t)v);
        v >>= 8;
    }
    return h;
}

/* Changes when any of the files does; never 0. *newest: when the last of them changed. */
static uint64_t stamp(int64_t *newest)
{
    const struct loaded *l = master.loaded;
    uint64_t h = FNV1A_BASIS;
    for (unsigned i = 0; i < l->n_cert_paths; i++) {
        struct stat st;
        if (stat(l->cert_paths[i], &st) < 0) {
            h = mix(h, (uint64_t)errno);
            continue;
        }
        h = mix(mix(h, st.st_dev), st.st_ino);
        h = mix(mix(h, (uint64_t)st.st_size), (uint64_t)st.st_mtim.tv_sec);
        h = mix(mix(h, (uint64_t)st.st_mtim.tv_nsec), (uint64_t)st.st_ctim.tv_sec);
        h = mix(h, (uint64_t)st.st_ctim.tv_nsec);
        *newest = MAX(*newest, (int64_t)st.st_ctim.tv_sec);
    }
    return h ? h : 1;
}

static void on_reread(struct reload_wait *w, enum admin_status status, struct str text)
{
    (void)w, (void)status, (void)text; /* the log has it */
}

static void look(void)
{
    int64_t newest = 0;
    uint64_t now = stamp(&newest);
    if (now == watch.known || list_linked(&watch.wait.link))
        return;
    if (now != watch.pending) {
        watch.pending = now;
        return;
    }
    watch.known = now; /* when they cannot be used: not again before the next change */
    watch.wait.kind = RELOAD_REREAD;
    watch.wait.done = on_reread;
    log_debug("certificate files changed");
    reload_request(&watch.wait);
}

static void on_look(struct deadline *d)
{
    if (master.state == MASTER_SERVING)
        look();
    deadline_set(d, LOOK_MS, on_look);
}

void certs_watch(void)
{
    int64_t newest = 0;
    watch.known = stamp(&newest);
    watch.pending = 0;
    if (newest >= master.loaded->begun - 1)
        watch.known = 0;
    if (master.loaded->n_cert_paths)
        deadline_set(&watch.look, LOOK_MS, on_look);
    else
        deadline_cancel(&watch.look);
}
