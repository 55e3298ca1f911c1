/*
 * source.c - the world as a load sees it: files, folders, users, environment. Each answer is
 * recorded under a kind and a key, and asked for only once, so that a bundle of the records gives
 * another process the same answers without a look of its own. The bundle's form is at the end of
 * the file.
 */
#include <fcntl.h>
#include <glob.h>
#include <grp.h>
#include <openssl/sha.h>
#include <pwd.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "conf/source.h"

#define BUNDLE_MAGIC   "HGCONF01"
#define BUNDLE_RECORDS 100000

enum kind {
    REC_MAIN = 'M',
    REC_FILE = 'F',
    REC_GLOB = 'G',
    REC_CERT_FILE = 'C',
    REC_CERT_GLOB = 'c',
    REC_ENV = 'E',
    REC_USER = 'U',
    REC_GROUP = 'g',
    REC_FACT = 'N',
    REC_WHICH = 'W',
    REC_PATH = 'P'
};

struct record {
    uint8_t kind;
    bool ok;    /* false: the value is the sentence of the error */
    bool stale; /* what it says may have changed: look again when asked */
    struct str key, value;
};

struct conf_source {
    struct arena *a;
    bool replay;     /* only records: the sandboxed side */
    bool memory;     /* replay of nothing: what is missing is no broken bundle */
    bool certs_anew; /* … but the files of tls.certificates are looked at */
    struct str file;
    struct record *v;
    unsigned n, cap;
};

static struct record *record_find(const struct conf_source *s, enum kind kind, struct str key)
{
    for (unsigned i = 0; i < s->n; i++)
        if (s->v[i].kind == kind && str_eq(s->v[i].key, key))
            return &s->v[i];
    return NULL;
}

static const struct record *record_add(struct conf_source *s, enum kind kind, struct str key,
                                       bool ok, struct str value)
{
    if (s->n == s->cap) {
        unsigned cap = s->cap ? s->cap * 2 : 32;
        struct record *v = arena_zarray(s->a, struct record, cap);
        if (s->n)
            memcpy(v, s->v, s->n * sizeof(*v));
        s->v = v;
        s->cap = cap;
    }
    s->v[s->n] =
        (struct record){(uint8_t)kind, ok, false, arena_str(s->a, key), arena_str(s->a, value)};
    return &s->v[s->n++];
}

/* In place of a stale record, so that a bundle of unchanged files is the same to the byte. */
static const struct record *record_put(struct conf_source *s, enum kind kind, struct str key,
                                       bool ok, struct str value)
{
    struct record *r = record_find(s, kind, key);
    if (!r)
        return record_add(s, kind, key, ok, value);
    r->ok = ok;
    r->stale = false;
    r->value = arena_str(s->a, value);
    return r;
}

/* A record that answers the question, in a replay even when there is none; NULL: look and record.
 */
static const struct record *recorded(struct conf_source *s, enum kind kind, struct str key)
{
    const struct record *r = record_find(s, kind, key);
    if (r && !r->stale)
        return r;
    bool look = kind == REC_CERT_FILE || kind == REC_CERT_GLOB ? s->certs_anew : false;
    if (!s->replay || look)
        return NULL;
    return record_add(s, kind, key, false,
                      s->memory ? STR("no such file or directory")
                                : STR("it is not part of the bundle"));
}

/* ---- making one ---- */

static struct conf_source *source_new(struct str file)
{
    struct arena *a = arena_new(16384);
    struct conf_source *s = arena_znew(a, struct conf_source);
    s->a = a;
    s->file = arena_str(a, file);
    return s;
}

struct conf_source *conf_source_fs(const char *file)
{
    struct conf_source *s = source_new(str_of(file));
    char cwd[4096] = "/";
    if (file[0] != '/' && !getcwd(cwd, sizeof(cwd)))
        snprintf(cwd, sizeof(cwd), "/");
    struct str abs = file_resolve(s->a, str_of(cwd), s->file);
    record_add(s, REC_MAIN, s->file, true, abs);
    return s;
}

struct conf_source *source_memory(const char *file, struct str text)
{
    struct conf_source *s = source_new(str_of(file));
    struct str abs = arena_fmt(s->a, "/%s", file);
    s->replay = s->memory = true;
    record_add(s, REC_MAIN, s->file, true, abs);
    record_add(s, REC_FILE, abs, true, text);
    return s;
}

void conf_source_close(struct conf_source **s)
{
    if (!*s)
        return;
    struct arena *a = (*s)->a;
    *s = NULL;
    arena_free(&a);
}

struct str source_file(const struct conf_source *s)
{
    return s->file;
}

struct str source_file_abs(struct conf_source *s)
{
    const struct record *r = recorded(s, REC_MAIN, s->file);
    return r->ok ? r->value : s->file;
}

/* ---- the questions ---- */

static const char *read_as(struct conf_source *s, enum kind kind, const char *path, size_t max,
                           struct str *out)
{
    struct str key = str_of(path);
    const struct record *r = recorded(s, kind, key);
    if (!r) {
        struct str data = STR_NULL;
        const char *err = file_read(s->a, path, max, &data);
        r = record_put(s, kind, key, !err, err ? str_of(err) : data);
    }
    *out = r->ok ? r->value : STR_NULL;
    return r->ok ? NULL : r->value.p;
}

const char *source_read(struct conf_source *s, const char *path, size_t max, struct str *out)
{
    return read_as(s, REC_FILE, path, max, out);
}

const char *source_read_cert(struct conf_source *s, const char *path, size_t max, struct str *out)
{
    return read_as(s, REC_CERT_FILE, path, max, out);
}

static struct str glob_as(struct conf_source *s, enum kind kind, const char *pattern)
{
    struct str key = str_of(pattern);
    const struct record *r = recorded(s, kind, key);
    if (r)
        return r->ok ? r->value : STR_NULL;
    glob_t g = {0};
    struct str value = STR("");
    if (glob(pattern, 0, NULL, &g) == 0) {
        size_t n = 0;
        for (size_t i = 0; i < g.gl_pathc; i++)
            n += strlen(g.gl_pathv[i]) + 1;
        struct out o = out_on(arena_alloc(s->a, n), n);
        for (size_t i = 0; i < g.gl_pathc; i++)
            out_bytes(&o, g.gl_pathv[i], strlen(g.gl_pathv[i]) + 1);
        value = out_done(&o);
    }
    globfree(&g);
    return record_put(s, kind, key, true, value)->value;
}

struct str source_glob(struct conf_source *s, const char *pattern)
{
    return glob_as(s, REC_GLOB, pattern);
}

struct str source_glob_cert(struct conf_source *s, const char *pattern)
{
    return glob_as(s, REC_CERT_GLOB, pattern);
}

static bool of_certs(const struct record *r)
{
    return r->kind == REC_CERT_FILE || r->kind == REC_CERT_GLOB;
}

void conf_source_certs_anew(struct conf_source *s)
{
    s->certs_anew = true;
    for (unsigned i = 0; i < s->n; i++)
        s->v[i].stale = of_certs(&s->v[i]);
}

/* Of a pattern its folder up to the first star: its time changes when a file or folder comes. */
static struct str watched_path(const struct record *r)
{
    if (r->kind == REC_CERT_FILE)
        return r->key;
    size_t n = str_chr(r->key, '*');
    while (n > 1 && r->key.p[n - 1] != '/')
        n--;
    return str_sub(r->key, 0, n);
}

unsigned conf_source_cert_paths(const struct conf_source *s, struct arena *a, const char ***out)
{
    unsigned n = 0;
    const char **paths = arena_zarray(a, const char *, s->n + 1);
    for (unsigned i = 0; i < s->n; i++)
        if (of_certs(&s->v[i]))
            paths[n++] = arena_strz(a, watched_path(&s->v[i]));
    *out = paths;
    return n;
}

bool source_env(struct conf_source *s, const char *name, struct str *out)
{
    const struct record *r = recorded(s, REC_ENV, str_of(name));
    if (!r) {
        const char *v = getenv(name);
        r = record_add(s, REC_ENV, str_of(name), v != NULL, v ? str_of(v) : STR(""));
    }
    *out = r->ok ? r->value : STR_NULL;
    return r->ok;
}

static bool two_numbers(struct str t, uint64_t *a, uint64_t *b)
{
    size_t sp = str_chr(t, ' ');
    return str_u64(str_sub(t, 0, sp), a) && str_u64(str_sub(t, sp + 1, t.n), b) &&
           *a <= UINT32_MAX && *b <= UINT32_MAX;
}

bool source_user(struct conf_source *s, const char *name, struct source_user *out)
{
    const struct record *r = recorded(s, REC_USER, str_of(name));
    if (!r) {
        const struct passwd *pw = getpwnam(name);
        struct str ids = pw ? arena_fmt(s->a, "%u %u", pw->pw_uid, pw->pw_gid) : STR("");
        r = record_add(s, REC_USER, str_of(name), pw != NULL, ids);
    }
    uint64_t uid, gid;
    if (!r->ok || !two_numbers(r->value, &uid, &gid))
        return false;
    *out = (struct source_user){(uid_t)uid, (gid_t)gid};
    return true;
}

bool source_group(struct conf_source *s, const char *name, gid_t *out)
{
    const struct record *r = recorded(s, REC_GROUP, str_of(name));
    if (!r) {
        const struct group *gr = getgrnam(name);
        struct str id = gr ? arena_fmt(s->a, "%u", gr->gr_gid) : STR("");
        r = record_add(s, REC_GROUP, str_of(name), gr != NULL, id);
    }
    uint64_t gid;
    if (!r->ok || !str_u64(r->value, &gid) || gid > UINT32_MAX)
        return false;
    *out = (gid_t)gid;
    return true;
}

static uint64_t look_up_fact(enum source_fact f)
{
    cpu_set_t set;
    switch (f) {
    case FACT_ROOT:
        return geteuid() == 0;
    case FACT_CPUS:
        if (sched_getaffinity(0, sizeof(set), &set) == 0 && CPU_COUNT(&set) > 0)
            return (uint64_t)CPU_COUNT(&set);
        return 1;
    }
    return 0;
}

static struct str fact_name(enum source_fact f)
{
    static const char *const names[] = {[FACT_ROOT] = "root", [FACT_CPUS] = "cpus"};
    return str_of(names[f]);
}

void source_preset_fact(struct conf_source *s, enum source_fact f, uint64_t value)
{
    record_add(s, REC_FACT, fact_name(f), true, arena_fmt(s->a, "%llu", (unsigned long long)value));
}

uint64_t source_fact(struct conf_source *s, enum source_fact f)
{
    struct str key = fact_name(f);
    const struct record *r = recorded(s, REC_FACT, key);
    if (!r)
        r = record_add(s, REC_FACT, key, true,
                       arena_fmt(s->a, "%llu", (unsigned long long)look_up_fact(f)));
    uint64_t v;
    return r->ok && str_u64(r->value, &v) ? v : f == FACT_CPUS;
}

/* ---- programs and folders ---- */

static bool is_program(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

static const char *which(struct conf_source *s, const char *name, struct str *out)
{
    struct str path = STR_NULL, piece;
    if (!source_env(s, "PATH", &path))
        path = STR("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    struct str rest = path;
    while (str_split(&rest, ':', &piece)) {
        if (!piece.n || piece.p[0] != '/')
            continue;
        struct str candidate = arena_fmt(s->a, STR_FMT "/%s", STR_ARG(piece), name);
        if (!is_program(candidate.p))
            continue;
        *out = candidate;
        return NULL;
    }
    return arena_fmt(s->a, "no program `%s` in PATH (" STR_FMT ")", name, STR_ARG(path)).p;
}

const char *source_which(struct conf_source *s, const char *name, struct str *out)
{
    struct str key = str_of(name);
    const struct record *r = recorded(s, REC_WHICH, key);
    if (!r) {
        struct str found = STR_NULL;
        const char *err;
        if (strchr(name, '/')) {
            found = key;
            err = source_path(s, name, WANT_PROGRAM, "", (uid_t)-1, (gid_t)-1);
        } else {
            err = which(s, name, &found);
        }
        r = record_add(s, REC_WHICH, key, !err, err ? str_of(err) : found);
    }
    *out = r->ok ? r->value : STR_NULL;
    return r->ok ? NULL : r->value.p;
}

/* May `user` list and enter the folder? By its mode bits, as we may be root ourselves. */
static bool may_enter(const struct stat *st, const char *user, uid_t uid, gid_t gid)
{
    if (uid == 0)
        return true;
    if (st->st_uid == uid)
        return (st->st_mode & 0500) == 0500;
    gid_t groups[256];
    int n = (int)ARRAY_LEN(groups);
    if (!*user || getgrouplist(user, gid, groups, &n) < 0) {
        groups[0] = gid;
        n = 1;
    }
    for (int i = 0; i < n; i++)
        if (groups[i] == st->st_gid)
            return (st->st_mode & 0050) == 0050;
    return (st->st_mode & 0005) == 0005;
}

static const char *refused(struct conf_source *s, const struct stat *st, const char *path,
                           const char *user)
{
    char mode[11] = "drwxrwxrwx";
    for (int i = 0; i < 9; i++)
        if (!(st->st_mode & (0400U >> i)))
            mode[i + 1] = '-';
    const struct passwd *pw = getpwuid(st->st_uid);
    struct str owner =
        pw ? arena_fmt(s->a, "%s", pw->pw_name) : arena_fmt(s->a, "uid %u", st->st_uid);
    return arena_fmt(s->a, "permission denied: user %s cannot read %s (%s " STR_FMT ")", user, path,
                     mode, STR_ARG(owner))
        .p;
}

static const char *look_at_path(struct conf_source *s, const char *path, enum source_want want,
                                const char *user, uid_t uid, gid_t gid)
{
    struct stat st;
    if (stat(path, &st) < 0)
        return file_error(s->a, errno, want == WANT_FOLDER ? "read" : "execute", path);
    if (want == WANT_PROGRAM) {
        if (S_ISDIR(st.st_mode))
            return arena_fmt(s->a, "%s is a folder, not a program", path).p;
        if (!S_ISREG(st.st_mode))
            return arena_fmt(s->a, "%s is not a regular file", path).p;
        if (!(st.st_mode & 0111))
            return arena_fmt(s->a, "%s is not executable (chmod +x)", path).p;
        return access(path, X_OK) == 0 ? NULL : file_error(s->a, errno, "execute", path);
    }
    if (!S_ISDIR(st.st_mode))
        return arena_fmt(s->a, "%s is not a folder", path).p;
    if (uid == (uid_t)-1)
        return access(path, R_OK | X_OK) == 0 ? NULL : file_error(s->a, errno, "read", path);
    return may_enter(&st, user, uid, gid) ? NULL : refused(s, &st, path, user);
}

const char *source_path(struct conf_source *s, const char *path, enum source_want want,
                        const char *user, uid_t uid, gid_t gid)
{
    struct str key = arena_fmt(s->a, "%d %u %s", want, uid, path);
    const struct record *r = recorded(s, REC_PATH, key);
    if (!r) {
        const char *err = look_at_path(s, path, want, user, uid, gid);
        r = record_add(s, REC_PATH, key, !err, err ? str_of(err) : STR(""));
    }
    return r->ok ? NULL : r->value.p;
}

/*
 * ---- the bundle ----
 * magic, number of records, then each: kind, ok, length of key, length of value, key, value;
 * SHA-256 of all that last. Numbers are 32 bits, little-endian. It never leaves the machine.
 */
static void put_u32(struct out *o, size_t v)
{
    ASSERT(v <= UINT32_MAX);
    uint8_t b[4] = {(uint8_t)v, (uint8_t)(v >> 8), (uint8_t)(v >> 16), (uint8_t)(v >> 24)};
    out_bytes(o, b, 4);
}

struct str conf_bundle(struct arena *a, const struct conf_source *s)
{
    size_t n = sizeof(BUNDLE_MAGIC) - 1 + 4 + SHA256_DIGEST_LENGTH;
    unsigned count = 0;
    for (unsigned i = 0; i < s->n; i++) {
        n += 10 + s->v[i].key.n + s->v[i].value.n;
        count += !s->v[i].stale; /* still stale: a file that no pattern finds any more */
    }
    struct out o = out_on(arena_alloc(a, n), n);
    out_lit(&o, BUNDLE_MAGIC);
    put_u32(&o, count);
    for (unsigned i = 0; i < s->n; i++) {
        const struct record *r = &s->v[i];
        if (r->stale)
            continue;
        out_char(&o, (char)r->kind);
        out_char(&o, (char)r->ok);
        put_u32(&o, r->key.n);
        put_u32(&o, r->value.n);
        out_str(&o, r->key);
        out_str(&o, r->value);
    }
    uint8_t sum[SHA256_DIGEST_LENGTH];
    SHA256((const uint8_t *)o.p, o.n, sum);
    out_bytes(&o, sum, sizeof(sum));
    ASSERT(!o.over);
    return out_done(&o);
}

static bool take_u32(struct str *in, uint32_t *v)
{
    if (in->n < 4)
        return false;
    const uint8_t *b = (const uint8_t *)in->p;
    *v = (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
    *in = str_sub(*in, 4, in->n);
    return true;
}

static bool take_record(struct str *in, struct conf_source *s)
{
    uint32_t key, value;
    if (in->n < 2)
        return false;
    uint8_t kind = (uint8_t)in->p[0];
    bool ok = in->p[1] != 0;
    *in = str_sub(*in, 2, in->n);
    if (!take_u32(in, &key) || !take_u32(in, &value) || in->n < (size_t)key + value)
        return false;
    record_add(s, (enum kind)kind, str_sub(*in, 0, key), ok,
               str_sub(*in, key, (size_t)key + value));
    *in = str_sub(*in, (size_t)key + value, in->n);
    return true;
}

struct conf_source *conf_source_bundle(struct str bundle, const char **err)
{
    size_t head = sizeof(BUNDLE_MAGIC) - 1;
    uint8_t sum[SHA256_DIGEST_LENGTH];
    uint32_t count;
    *err = "the bundle is damaged";
    if (bundle.n < head + 4 + sizeof(sum) || !str_starts(bundle, STR(BUNDLE_MAGIC)))
        return NULL;
    struct str in = str_sub(bundle, head, bundle.n - sizeof(sum));
    SHA256((const uint8_t *)bundle.p, bundle.n - sizeof(sum), sum);
    if (memcmp(sum, bundle.p + bundle.n - sizeof(sum), sizeof(sum)) != 0 ||
        !take_u32(&in, &count) || count > BUNDLE_RECORDS)
        return NULL;
    struct conf_source *s = source_new(STR(""));
    s->replay = true;
    bool ok = true;
    while (ok && count--)
        ok = take_record(&in, s);
    if (!ok || in.n || !s->n || s->v[0].kind != REC_MAIN) {
        conf_source_close(&s);
        return NULL;
    }
    s->file = s->v[0].key;
    *err = NULL;
    return s;
}
