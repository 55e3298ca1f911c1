/*
 * record.c - an instance's record and FIFOs: written, parsed, opened. What is made of a record that
 * was found is adopt.c's.
 */
#include "channels/record.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"

#define FIFO_BYTES (256 * 1024) /* of a user's 64 MiB: enough for a hundred instances */
#define PATH_BYTES 4096
#define TEXT_BYTES 16384
#define FIRST_LINE "headgate instance 1"
#define LAST_LINE  "end" /* a record without it is half of one */

static const char *const suffixes[2] = {".out", ".err"};

/* ---- the text: a line "KEY VALUE" a field ---- */

enum field_kind { FIELD_TEXT, FIELD_NUMBER };

static const struct field {
    const char *key;
    enum field_kind kind;
    size_t offset;
} fields[] = {
#define TEXT(name)                                       \
    {                                                    \
#name, FIELD_TEXT, offsetof(struct record, name) \
    }
#define NUMBER(name)                                       \
    {                                                      \
#name, FIELD_NUMBER, offsetof(struct record, name) \
    }
    TEXT(boot),          TEXT(service),        TEXT(digest),  TEXT(address),    TEXT(asked),
    TEXT(socket),        TEXT(cgroup),         TEXT(ports),   NUMBER(pid),      NUMBER(started),
    NUMBER(state),       NUMBER(uid),          NUMBER(gid),   NUMBER(own_user), NUMBER(port),
    NUMBER(stop_signal), NUMBER(stop_timeout), NUMBER(drain), NUMBER(restarts),
#undef TEXT
#undef NUMBER
};

static const void *field_at(const struct record *r, const struct field *f)
{
    return (const char *)r + f->offset;
}

static void record_print(struct out *o, const struct record *r)
{
    out_lit(o, FIRST_LINE "\n");
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        const void *at = field_at(r, &fields[i]);
        out_str(o, str_of(fields[i].key));
        out_char(o, ' ');
        if (fields[i].kind == FIELD_NUMBER) {
            out_u64(o, *(const uint64_t *)at);
        } else {
            struct str text = *(const struct str *)at;
            o->over = o->over || str_chr(text, '\n') < text.n;
            out_str(o, text);
        }
        out_char(o, '\n');
    }
    out_lit(o, LAST_LINE "\n");
}

/* One line; false when it is none of ours. */
static bool field_parse(struct str line, struct record *r, uint64_t *seen)
{
    size_t space = str_chr(line, ' ');
    struct str key = str_sub(line, 0, space), value = str_sub(line, space + 1, line.n);
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        if (!str_eq(key, str_of(fields[i].key)))
            continue;
        void *at = (char *)r + fields[i].offset;
        *seen |= UINT64_C(1) << i;
        if (fields[i].kind == FIELD_NUMBER)
            return str_u64(value, at);
        *(struct str *)at = value;
        return true;
    }
    return true; /* a later version's */
}

const char *record_parse(struct str text, struct record *out)
{
    struct str line;
    uint64_t seen = 0;
    *out = (struct record){0};
    if (!str_split(&text, '\n', &line) || !str_eq(line, STR(FIRST_LINE)))
        return "it is no record of this version";
    while (str_split(&text, '\n', &line)) {
        if (str_eq(line, STR(LAST_LINE)))
            return seen == (UINT64_C(1) << ARRAY_LEN(fields)) - 1 ? NULL : "a field is missing";
        if (!field_parse(line, out, &seen))
            return "a number is none";
    }
    return "it ends in the middle";
}

struct str record_boot_id(struct arena *a)
{
    char id[64];
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, id, sizeof(id)) : -1;
    if (fd >= 0)
        close(fd);
    struct str s = {id, n > 0 ? (size_t)n : 0};
    return arena_str(a, str_sub(s, 0, str_chr(s, '\n')));
}

/* ---- files ---- */

const char *record_folder(struct arena *a, const char *runtime, const char **path)
{
    *path = arena_fmt(a, "%s/instances", runtime).p;
    return file_mkdirs(a, *path, 0700, (uid_t)-1, (gid_t)-1);
}

/* False when it is longer than any path may be. */
static bool path_of(const struct instance *i, const char *suffix, char path[PATH_BYTES])
{
    struct out o = out_on(path, PATH_BYTES - 1);
    out_fmt(&o, "%s/instances/%" PRIu64 "%s", i->svc->sup->runtime, i->id, suffix);
    path[o.n] = '\0';
    return !o.over;
}

static const char *write_aside(const struct instance *i, struct str text)
{
    char path[PATH_BYTES], aside[PATH_BYTES];
    if (!path_of(i, "", path) || !path_of(i, ".new", aside))
        return err_of_errno(ENAMETOOLONG);
    int fd = open(aside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return err_of_errno(errno);
    const char *err = fd_write_all(fd, text);
    close(fd);
    if (!err && rename(aside, path) < 0)
        err = err_of_errno(errno);
    return err;
}

static struct str ports_text(struct arena *a, const struct instance *i)
{
    struct str text = STR("");
    for (unsigned k = 0; k < i->n_ports; k++)
        text = arena_fmt(a, STR_FMT "%s" STR_FMT "=%u", STR_ARG(text), k ? " " : "",
                         STR_ARG(i->ports[k].name), i->ports[k].number);
    return text;
}

void record_save(struct instance *i, enum inst_state state)
{
    static char text[TEXT_BYTES];
    struct arena *a = arena_new(256);
    const struct record r = {.boot = record_boot_id(a),
                             .service = str_of(i->svc->name),
                             .digest = str_of(i->digest),
                             .address = i->addr.text,
                             .asked = i->asked.text,
                             .socket = str_of(i->socket),
                             .cgroup = str_of(i->cgroup),
                             .ports = ports_text(a, i),
                             .pid = (uint64_t)i->leader,
                             .started = i->leader_started,
                             .state = state,
                             .uid = i->user.uid,
                             .gid = i->user.gid,
                             .own_user = i->user.exclusive,
                             .port = i->port,
                             .stop_signal = (uint64_t)i->stop_signal,
                             .stop_timeout = i->stop_timeout,
                             .drain = i->drain,
                             .restarts = i->restarts};
    struct out o = out_on(text, sizeof(text));
    record_print(&o, &r);
    const char *err = o.over ? "its address cannot be written down" : write_aside(i, out_done(&o));
    if (err)
        log_warn("instance could not be adopted if headgate were killed", "service", "%s",
                 i->svc->name, "instance", "%" PRIu64, i->id, "cause", "%s", err);
    arena_free(&a);
}

void record_drop(const struct instance *i)
{
    char path[PATH_BYTES];
    if (path_of(i, "", path))
        unlink(path);
    for (unsigned k = 0; k < 2; k++)
        if (path_of(i, suffixes[k], path))
            unlink(path);
}

/* ---- FIFOs ---- */

static const char *fifo_make(const struct instance *i, const char *path, int *rd, int *wr)
{
    if (unlink(path) < 0 && errno != ENOENT)
        return err_of_errno(errno);
    if (mkfifo(path, 0600) < 0 || (*rd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC)) < 0 ||
        (*wr = open(path, O_RDWR | O_CLOEXEC)) < 0)
        return err_of_errno(errno);
    if (fcntl(*rd, F_SETPIPE_SZ, FIFO_BYTES) < 0)
        log_debug("output pipe stays small", "instance", "%s", i->name, "error", "%s",
                  err_of_errno(errno));
    /* Programs open /dev/stdout again to log there, which needs the FIFO to be their group's. */
    if (i->user.uid != (uid_t)-1 &&
        (fchown(*wr, (uid_t)-1, i->user.gid) < 0 || fchmod(*wr, 0660) < 0))
        log_debug("cannot give the output pipe away", "instance", "%s", i->name, "error", "%s",
                  err_of_errno(errno));
    return NULL;
}

const char *record_fifos_make(struct instance *i, int rd[2], int wr[2])
{
    const char *folder, *err = record_folder(i->run, i->svc->sup->runtime, &folder);
    char path[PATH_BYTES];
    for (unsigned k = 0; k < 2; k++)
        rd[k] = wr[k] = -1;
    for (unsigned k = 0; k < 2 && !err; k++)
        err = path_of(i, suffixes[k], path) ? fifo_make(i, path, &rd[k], &wr[k])
                                            : err_of_errno(ENAMETOOLONG);
    if (!err)
        return NULL;
    for (unsigned k = 0; k < 2; k++) {
        if (rd[k] >= 0)
            close(rd[k]);
        if (wr[k] >= 0)
            close(wr[k]);
    }
    return arena_fmt(i->run, "cannot make its output's FIFO below %s: %s", i->svc->sup->runtime,
                     err)
        .p;
}

void record_fifos_open(const struct instance *i, int rd[2])
{
    char path[PATH_BYTES];
    for (unsigned k = 0; k < 2; k++) {
        struct stat st;
        rd[k] = path_of(i, suffixes[k], path)
                    ? open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW)
                    : -1;
        if (rd[k] >= 0 && (fstat(rd[k], &st) < 0 || !S_ISFIFO(st.st_mode))) {
            close(rd[k]);
            rd[k] = -1;
        }
        if (rd[k] < 0)
            log_error("output of an adopted instance cannot be read", "service", "%s", i->svc->name,
                      "instance", "%" PRIu64, i->id, "file", "%s", path);
    }
}
