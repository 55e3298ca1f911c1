/*
 * files_cache.c - opens files beneath a root and keeps what it learnt (see files_cache.h). Knows
 * neither requests nor answers.
 *
 * Looking again is openat2 and fstat, not a stat of the kept descriptor: only the name tells
 * whether another file took its place.
 */
#include "proxy/files_cache.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/loop.h"
#include "proxy/encoder.h"
#include "proxy/mime.h"

#define FRESH_MS 1000 /* a look is believed that long */
#define SWEEP_MS 5000 /* how often unused entries are looked for */
#define IDLE_MS                                                                      \
    10000 /* an entry that nobody asked for since is dropped: a deleted file's space \
           */
#define BUCKETS 2048
#define TRIES   8

struct kept {
    struct files_entry entry;
    unsigned refs;
    struct kept *next; /* in its bucket */
    struct list lru;
    uint64_t hash;
    uint64_t generation;
    unsigned root;
    struct str name;        /* behind the struct */
    uint64_t checked, used; /* loop_now_ms */
    dev_t dev;
    ino_t ino;
    struct timespec mtim, ctim;
    char etag[64];
    char date[HTTP_DATE_MAX];
};

static struct {
    struct kept *buckets[BUCKETS];
    struct list lru; /* the last used first */
    unsigned count, fds;
    size_t bytes;
    uint64_t seed;
    struct deadline sweep;
    bool ready;
} cache;

static struct kept *kept_of(struct files_entry *e)
{
    return container_of(e, struct kept, entry);
}

static void cache_init(void)
{
    if (cache.ready)
        return;
    list_init(&cache.lru);
    random_bytes(&cache.seed, sizeof(cache.seed));
    cache.ready = true;
}

static uint64_t hash_of(uint64_t generation, unsigned root, struct str name)
{
    uint64_t h = cache.seed ^ (generation * 0x9e3779b97f4a7c15u) ^ root;
    for (size_t i = 0; i < name.n; i++)
        h = (h ^ (unsigned char)name.p[i]) * 0x100000001b3u;
    return h ^ (h >> 29);
}

static void kept_free(struct kept *k)
{
    if (k->entry.fd >= 0)
        close(k->entry.fd);
    slab_unref(k->entry.content);
    for (unsigned i = 0; i < FILES_CODINGS; i++)
        slab_unref(k->entry.coded[i]);
    free(k);
}

struct files_entry *files_entry_ref(struct files_entry *e)
{
    kept_of(e)->refs++;
    return e;
}

void files_entry_unref(struct files_entry **e)
{
    if (!*e)
        return;
    struct kept *k = kept_of(*e);
    *e = NULL;
    ASSERT(k->refs > 0);
    if (--k->refs == 0)
        kept_free(k);
}

/* ---- the table ---- */

static size_t bytes_of(const struct kept *k)
{
    size_t n = k->entry.content ? (size_t)k->entry.size : 0;
    for (unsigned i = 0; i < FILES_CODINGS; i++)
        n += k->entry.coded[i] ? k->entry.coded[i]->used : 0;
    return n;
}

static void cache_remove(struct kept *k)
{
    struct kept **at = &cache.buckets[k->hash % BUCKETS];
    while (*at != k)
        at = &(*at)->next;
    *at = k->next;
    list_remove(&k->lru);
    cache.count--;
    cache.fds -= k->entry.fd >= 0;
    cache.bytes -= bytes_of(k);
    struct files_entry *e = &k->entry;
    files_entry_unref(&e);
}

static void cache_shrink(void)
{
    while (cache.count > FILES_CACHE_ENTRIES || cache.fds > FILES_CACHE_FDS ||
           cache.bytes > FILES_CACHE_BYTES)
        cache_remove(container_of(cache.lru.prev, struct kept, lru));
}

static void on_sweep(struct deadline *d)
{
    while (!list_empty(&cache.lru)) {
        struct kept *k = container_of(cache.lru.prev, struct kept, lru);
        if (k->used + IDLE_MS > loop_now_ms())
            break;
        cache_remove(k);
    }
    if (cache.count)
        deadline_set(d, SWEEP_MS, on_sweep);
}

static void cache_insert(struct kept *k)
{
    k->next = cache.buckets[k->hash % BUCKETS];
    cache.buckets[k->hash % BUCKETS] = k;
    list_push(&cache.lru, &k->lru);
    k->refs++;
    cache.count++;
    cache.fds += k->entry.fd >= 0;
    cache.bytes += bytes_of(k);
    cache_shrink();
    if (!deadline_is_set(&cache.sweep))
        deadline_set(&cache.sweep, SWEEP_MS, on_sweep);
}

static struct kept *cache_find(uint64_t hash, uint64_t generation, unsigned root, struct str name)
{
    for (struct kept *k = cache.buckets[hash % BUCKETS]; k; k = k->next)
        if (k->hash == hash && k->generation == generation && k->root == root &&
            str_eq(k->name, name))
            return k;
    return NULL;
}

void files_cache_clear(void)
{
    cache_init();
    while (!list_empty(&cache.lru))
        cache_remove(container_of(cache.lru.next, struct kept, lru));
    deadline_cancel(&cache.sweep);
}

unsigned files_cache_count(void)
{
    return cache.count;
}

size_t files_cache_bytes(void)
{
    return cache.bytes;
}

/* ---- the file ---- */

enum files_found files_found_of_errno(int err)
{
    switch (err) {
    case EACCES:
    case EPERM:
        return FILES_DENIED;
    case EMFILE:
    case ENFILE:
    case ENOMEM:
    case EAGAIN:
        return FILES_BUSY;
    case EBADF:
    case EIO:
    case ESTALE:
        return FILES_BROKEN;
    default: /* ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG, ENXIO, EXDEV: a way out of the root */
        return FILES_MISSING;
    }
}

/*
 * EAGAIN means that something below the root was renamed meanwhile, so that the kernel could not be
 * sure.
 */
int files_open_beneath(int root_fd, const char *name, uint64_t flags)
{
    struct open_how how = {
        .flags = flags | O_CLOEXEC,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
    };
    int fd, tries = TRIES;
    do {
        fd = (int)syscall(SYS_openat2, root_fd, name, &how, sizeof(how));
    } while (fd < 0 && (errno == EAGAIN || errno == EINTR) && --tries);
    return fd;
}

/* O_NONBLOCK: a FIFO must not hold the worker; it is found out by fstat and closed. */
static enum files_found file_open(int root_fd, const char *name, int *fd, struct stat *st)
{
    *fd = files_open_beneath(root_fd, name, O_RDONLY | O_NONBLOCK | O_NOCTTY);
    if (*fd < 0)
        return files_found_of_errno(errno);
    enum files_found found = FILES_FOUND;
    if (fstat(*fd, st) != 0)
        found = FILES_BROKEN;
    else if (S_ISDIR(st->st_mode))
        found = FILES_FOLDER;
    else if (!S_ISREG(st->st_mode))
        found = FILES_MISSING;
    if (found != FILES_FOUND) {
        close(*fd);
        *fd = -1;
    }
    return found;
}

static bool same_time(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static bool unchanged(const struct kept *k, const struct stat *st)
{
    return k->dev == st->st_dev && k->ino == st->st_ino && k->entry.size == (uint64_t)st->st_size &&
           same_time(k->mtim, st->st_mtim) && same_time(k->ctim, st->st_ctim);
}

/* A strong validator: any change of the bytes changes size or time, another file the inode. */
static void describe(struct kept *k, const struct stat *st)
{
    k->dev = st->st_dev;
    k->ino = st->st_ino;
    k->mtim = st->st_mtim;
    k->ctim = st->st_ctim;
    k->entry.size = (uint64_t)st->st_size;
    /* A Last-Modified that lies ahead of Date would be no truth (RFC 9110 8.8.2.1). */
    k->entry.mtime = MIN((int64_t)st->st_mtim.tv_sec, loop_wall_s());
    struct out o = out_on(k->etag, sizeof(k->etag));
    const uint64_t ns = (uint64_t)st->st_mtim.tv_sec * 1000000000u + (uint64_t)st->st_mtim.tv_nsec;
    out_char(&o, '"');
    out_hex(&o, ns, 16);
    out_char(&o, '-');
    out_hex(&o, k->entry.size, 10);
    out_char(&o, '-');
    out_hex(&o, (uint64_t)st->st_ino, 16);
    out_char(&o, '"');
    ASSERT(!o.over);
    k->entry.etag = out_done(&o);
    k->entry.last_modified = http_date_format(k->date, k->entry.mtime);
}

/* The whole content, or false when the file is not what fstat said: it is being written. */
static bool read_content(int fd, size_t size, struct slab *s)
{
    while (s->used < size) {
        ssize_t n = pread(fd, s->data + s->used, size - s->used, s->used);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        s->used += (uint32_t)n;
    }
    return true;
}

static enum files_found load(struct kept *k, int fd, struct stat *st)
{
    for (int tries = TRIES; tries; tries--) {
        describe(k, st);
        if (k->entry.size > FILES_CONTENT_MAX) {
            k->entry.fd = fd;
            return FILES_FOUND;
        }
        const size_t size = (size_t)k->entry.size;
        struct slab *s = slab_new(MAX(size, 1u));
        if (read_content(fd, size, s) && fstat(fd, st) == 0 && unchanged(k, st)) {
            k->entry.content = s;
            close(fd);
            return FILES_FOUND;
        }
        slab_unref(s);
        if (fstat(fd, st) != 0)
            break;
    }
    close(fd);
    return FILES_BROKEN;
}

static struct kept *kept_new(uint64_t hash, uint64_t generation, unsigned root, struct str name)
{
    struct kept *k = calloc(1, sizeof(*k) + name.n);
    ASSERT(k);
    char *copy = (char *)(k + 1);
    memcpy(copy, name.p, name.n);
    k->name = (struct str){copy, name.n};
    k->hash = hash;
    k->generation = generation;
    k->root = root;
    k->refs = 1;
    k->entry.fd = -1;
    k->entry.type = mime_type(k->name);
    return k;
}

enum files_found files_cache_open(int root_fd, uint64_t generation, unsigned root, struct str name,
                                  struct files_entry **out)
{
    cache_init();
    const uint64_t hash = hash_of(generation, root, name);
    const uint64_t now = loop_now_ms();
    struct kept *k = cache_find(hash, generation, root, name);
    if (k) {
        k->used = now;
        list_remove(&k->lru);
        list_push(&cache.lru, &k->lru);
        if (now - k->checked < FRESH_MS) {
            *out = files_entry_ref(&k->entry);
            return FILES_FOUND;
        }
    }
    int fd;
    struct stat st;
    enum files_found found = file_open(root_fd, name.p, &fd, &st);
    if (k && found == FILES_FOUND && unchanged(k, &st)) {
        close(fd);
        k->checked = now;
        *out = files_entry_ref(&k->entry);
        return FILES_FOUND;
    }
    if (k)
        cache_remove(k);
    if (found != FILES_FOUND)
        return found;
    k = kept_new(hash, generation, root, name);
    if ((found = load(k, fd, &st)) != FILES_FOUND) {
        kept_free(k);
        return found;
    }
    k->checked = k->used = now;
    cache_insert(k);
    *out = &k->entry;
    return FILES_FOUND;
}

/* ---- the content compressed ---- */

struct collect {
    struct slab *into;
    bool full; /* it became no smaller */
};

static void on_coded(void *arg, struct slab *s)
{
    struct collect *c = arg;
    c->full = c->full || s->used > c->into->cap - c->into->used;
    if (!c->full) {
        memcpy(c->into->data + c->into->used, s->data, s->used);
        c->into->used += s->used;
    }
    slab_unref(s);
}

struct slab *files_entry_coded(struct files_entry *e, enum conf_coding coding)
{
    struct kept *k = kept_of(e);
    if (e->tried[coding] || !e->content)
        return e->coded[coding];
    const size_t size = (size_t)e->size;
    struct encoder *encoder = encoder_new(coding, ENCODER_ONCE, size, ENCODERS_MAX);
    if (!encoder)
        return NULL;
    struct slab *room = slab_new(MAX(size, 1u));
    struct collect c = {.into = room};
    bool ok = encoder_run(encoder, e->content->data, size, ENCODER_END, on_coded, &c);
    encoder_close(&encoder);
    e->tried[coding] = true;
    if (ok && !c.full && room->used < size) {
        /* Only what it takes is kept. */
        struct slab *s = e->coded[coding] = slab_new(MAX((size_t)room->used, 1u));
        memcpy(s->data, room->data, room->used);
        s->used = room->used;
        if (list_linked(&k->lru)) {
            cache.bytes += s->used;
            cache_shrink();
        }
    }
    slab_unref(room);
    return e->coded[coding];
}
