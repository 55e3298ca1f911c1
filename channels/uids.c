/*
 * uids.c - the table $state/uids: a line "NAME UID" for every service that ever had a number. It is
 * read when an instance starts and written when a service starts for the first time; a number is
 * never given to another service, whose files would then be open to it.
 */
#include "channels/uids.h"

#include <grp.h>
#include <pwd.h>
#include <unistd.h>

#include "base/file.h"

#define UIDS_FILE_MAX (1024 * 1024)

struct uid_table {
    const char *path;
    struct str text;
};

static const char *table_read(struct arena *a, const char *state, struct uid_table *t)
{
    t->path = arena_fmt(a, "%s/uids", state).p;
    t->text = STR_NULL;
    if (access(t->path, F_OK) < 0 && errno == ENOENT)
        return NULL;
    return file_read(a, t->path, UIDS_FILE_MAX, &t->text);
}

/* The next line of *rest; false at the end. A line that cannot be read stops everything: guessing
 * could give one service's data to another. */
static bool table_next(struct str *rest, struct str *name, uint64_t *uid, bool *bad)
{
    struct str line;
    while (str_split(rest, '\n', &line)) {
        if (!line.n)
            continue;
        size_t at = str_chr(line, ' ');
        *name = str_sub(line, 0, at);
        *bad = !at || !str_u64(str_sub(line, at + 1, line.n), uid) || *uid >= UINT32_MAX;
        return true;
    }
    return false;
}

/* *uid is the service's number, or 0 when it has none yet. */
static const char *table_find(struct arena *a, const struct uid_table *t, struct str name,
                              uint32_t *uid)
{
    struct str rest = t->text, n;
    uint64_t u = 0;
    bool bad = false;
    *uid = 0;
    while (table_next(&rest, &n, &u, &bad)) {
        if (bad)
            return arena_fmt(a,
                             "%s: the line \"" STR_FMT "\" is not \"SERVICE UID\"; "
                             "mend it or restore the file",
                             t->path, STR_ARG(n))
                .p;
        if (str_eq(n, name))
            *uid = (uint32_t)u;
    }
    return NULL;
}

static bool table_has(const struct uid_table *t, uint32_t uid)
{
    struct str rest = t->text, n;
    uint64_t u = 0;
    bool bad = false;
    while (table_next(&rest, &n, &u, &bad)) {
        if (!bad && u == uid)
            return true;
    }
    return false;
}

static bool uid_free(const struct conf *c, const struct uid_table *t, uint32_t uid)
{
    return uid && uid != c->uid && uid != c->gid && !table_has(t, uid) && !getpwuid(uid) &&
           !getgrgid(uid);
}

static const char *table_add(struct arena *a, const struct conf *c, const char *state,
                             const struct uid_table *t, struct str name, uint32_t *uid)
{
    uint64_t u = c->service_uid_first;
    while (u <= c->service_uid_last && !uid_free(c, t, (uint32_t)u))
        u++;
    if (u > c->service_uid_last)
        return arena_fmt(a,
                         "no user is left for it: service_uids %u-%u are all taken; widen the "
                         "range, or delete lines of services that are gone from %s",
                         c->service_uid_first, c->service_uid_last, t->path)
            .p;
    *uid = (uint32_t)u;
    struct str text =
        arena_fmt(a, STR_FMT "%s" STR_FMT " %u\n", STR_ARG(t->text),
                  t->text.n && !str_ends(t->text, STR("\n")) ? "\n" : "", STR_ARG(name), *uid);
    /* Open to pass: each service's own folder lies below. */
    const char *err = file_mkdirs(a, state, 0711, (uid_t)-1, (gid_t)-1);
    return err ? err : file_write(a, t->path, text, 0644);
}

static const char *user_auto(struct arena *a, const struct conf *c, const char *state,
                             const struct conf_service *svc, struct service_user *out)
{
    struct uid_table t;
    uint32_t uid;
    const char *err = table_read(a, state, &t);
    if (!err)
        err = table_find(a, &t, svc->name, &uid);
    if (!err && uid == 0)
        err = table_add(a, c, state, &t, svc->name, &uid);
    if (!err && uid == c->uid)
        err = arena_fmt(a, "%s gives it headgate's own user %u; delete that line", t.path, uid).p;
    if (err)
        return err;
    *out = (struct service_user){.uid = uid, .gid = uid, .exclusive = true};
    return NULL;
}

const char *service_user_find(struct arena *a, const struct conf *c, const char *state,
                              const struct conf_service *svc, struct service_user *out)
{
    bool root = geteuid() == 0 && c->uid != (uid_t)-1;
    *out = (struct service_user){.uid = (uid_t)-1, .gid = (gid_t)-1};
    if (!svc->user.n || str_eq(svc->user, STR("auto"))) {
        if (root)
            return user_auto(a, c, state, svc, out);
        const struct passwd *self = getpwuid(geteuid());
        out->name = self ? arena_strz(a, str_of(self->pw_name)) : NULL;
        return NULL;
    }
    const struct passwd *pw = getpwnam(arena_strz(a, svc->user));
    if (!pw)
        return arena_fmt(a, "there is no user " STR_FMT " on this machine", STR_ARG(svc->user)).p;
    out->name = arena_strz(a, svc->user);
    if (!root && pw->pw_uid == geteuid())
        return NULL;
    if (!root)
        return arena_fmt(a,
                         "it cannot run as user " STR_FMT ": headgate itself was not started as "
                         "root",
                         STR_ARG(svc->user))
            .p;
    if (pw->pw_uid == c->uid)
        return arena_fmt(a,
                         "it must not run as headgate's own user " STR_FMT ", which may read TLS "
                         "keys; give it another, or none",
                         STR_ARG(svc->user))
            .p;
    out->uid = pw->pw_uid;
    out->gid = pw->pw_gid;
    return NULL;
}
