/*
 * orphans.c - finds what an instance left behind: children of its group and session, and those that
 * left both (setsid, double fork). The master is their subreaper, so they come back to it as its
 * own children; /proc then tells whose they were. Only descendants of this process are ever killed,
 * and what an adopted instance left: that is told by its session and group, while their number is
 * still theirs, and by the marks in the environment. All this only where the instance has no
 * cgroup, which knows better (confine.c).
 */
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "channels/confine.h"

struct seen {
    pid_t pid, parent, group, session;
    unsigned long long started;
    bool ours; /* a descendant of this process */
    bool its;  /* the instance's */
    bool dead;
};

struct seen_list {
    struct seen *v;
    size_t n, cap;
};

static ssize_t proc_read(pid_t pid, const char *what, char *buf, size_t n)
{
    char path[64];
    struct out o = out_on(path, sizeof(path) - 1);
    out_fmt(&o, "/proc/%d/%s", (int)pid, what);
    path[o.n] = '\0';
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t got = read(fd, buf, n);
    close(fd);
    return got;
}

static void seen_add(struct seen_list *l, pid_t pid)
{
    char buf[512];
    ssize_t n = proc_read(pid, "stat", buf, sizeof(buf) - 1);
    if (n <= 0)
        return;
    buf[n] = '\0';
    /* The name in parentheses may hold anything, parentheses too: the last one ends it. */
    const char *end = strrchr(buf, ')');
    char state;
    int parent, group, session;
    unsigned long long started;
    if (!end || sscanf(end + 1,
                       " %c %d %d %d %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s "
                       "%llu",
                       &state, &parent, &group, &session, &started) != 5)
        return;
    if (l->n == l->cap) {
        l->cap = l->cap ? l->cap * 2 : 256;
        l->v = reallocarray(l->v, l->cap, sizeof(*l->v));
        ASSERT(l->v);
    }
    l->v[l->n++] = (struct seen){.pid = pid,
                                 .parent = parent,
                                 .group = group,
                                 .session = session,
                                 .started = started,
                                 .dead = state == 'Z' || state == 'X'};
}

static int seen_order(const void *a, const void *b)
{
    const struct seen *x = a, *y = b;
    return x->pid < y->pid ? -1 : x->pid > y->pid;
}

static struct seen *seen_find(const struct seen_list *l, pid_t pid)
{
    struct seen key = {.pid = pid};
    return l->n ? bsearch(&key, l->v, l->n, sizeof(*l->v), seen_order) : NULL;
}

static bool seen_all(struct seen_list *l)
{
    DIR *d = opendir("/proc");
    if (!d)
        return false;
    for (struct dirent *e; (e = readdir(d));) {
        if (isdigit((unsigned char)e->d_name[0]))
            seen_add(l, (pid_t)strtol(e->d_name, NULL, 10));
    }
    closedir(d);
    if (l->n)
        qsort(l->v, l->n, sizeof(*l->v), seen_order);
    return true;
}

static bool env_has(struct str env, const char *name, const char *value)
{
    struct str one;
    size_t n = strlen(name);
    while (str_split(&env, '\0', &one))
        if (str_starts(one, str_of(name)) && str_eq(str_sub(one, n, one.n), str_of(value)))
            return true;
    return false;
}

/* Whether the environment it was started with names the instance, and this headgate. */
static bool env_names(pid_t pid, const struct instance *i)
{
    static char buf[64 * 1024];
    ssize_t n = proc_read(pid, "environ", buf, sizeof(buf));
    struct str env = {buf, n > 0 ? (size_t)n : 0};
    return env_has(env, "HEADGATE_INSTANCE=", i->name) &&
           env_has(env, "HEADGATE_RUNTIME=", i->svc->sup->runtime);
}

static bool runs_as(pid_t pid, uid_t uid)
{
    char path[64];
    struct stat st;
    struct out o = out_on(path, sizeof(path) - 1);
    out_fmt(&o, "/proc/%d", (int)pid);
    path[o.n] = '\0';
    return stat(path, &st) == 0 && st.st_uid == uid;
}

static bool belongs(const struct instance *i, const struct seen *p, bool by_uid)
{
    if (p->pid == i->leader || p->session == i->leader || p->group == i->leader)
        return true;
    if (by_uid && i->user.exclusive && runs_as(p->pid, i->user.uid))
        return true;
    return env_names(p->pid, i);
}

/* Of an adopted one's, which did not come back to us. `named`: its number is still its own. */
static bool belongs_adopted(const struct instance *i, const struct seen *p, bool named)
{
    if (named && (p->session == i->leader || p->group == i->leader))
        return true;
    return env_names(p->pid, i);
}

/* No number is given out anew while it names a session or a group: only a new leader tells. */
static bool number_is_its_own(const struct seen_list *l, const struct instance *i)
{
    const struct seen *p = seen_find(l, i->leader);
    return !p || p->started == i->leader_started;
}

bool orphans_owns(const struct instance *i, pid_t pid, uid_t uid)
{
    uid_t its = i->user.uid == (uid_t)-1 ? geteuid() : i->user.uid;
    struct seen_list l = {0};
    if (uid != its)
        return false;
    if (i->user.exclusive || pid == i->leader)
        return true;
    /* It, or one above it. A process that is gone by now cannot be asked: then its user, who alone
     * may write to the socket, has to do. */
    bool known = false, own = false;
    for (pid_t at = pid; at > 1 && !own; at = l.v[l.n - 1].parent) {
        size_t n = l.n;
        seen_add(&l, at);
        if (l.n == n)
            break;
        known = true;
        own = belongs(i, &l.v[l.n - 1], false);
    }
    free(l.v);
    return own || !known;
}

/* Children of what is ours, and of what is the instance's, until nothing new is found. */
static void seen_spread(struct seen_list *l, const struct instance *i, bool by_uid)
{
    pid_t self = getpid();
    bool named = i->adopted && number_is_its_own(l, i);
    for (size_t k = 0; k < l->n && i->adopted; k++)
        l->v[k].its = l->v[k].ours = belongs_adopted(i, &l->v[k], named);
    for (bool again = true; again;) {
        again = false;
        for (size_t k = 0; k < l->n; k++) {
            struct seen *p = &l->v[k];
            const struct seen *parent = seen_find(l, p->parent);
            if (!p->ours && (p->parent == self || (parent && parent->ours))) {
                p->ours = again = true;
                p->its = belongs(i, p, by_uid);
            }
            if (p->ours && !p->its && parent && parent->its)
                p->its = again = true;
        }
    }
}

unsigned orphans_kill(const struct instance *i, bool by_uid)
{
    struct seen_list l = {0};
    unsigned found = 0;
    bool left;
    if (confine_kill(i, &left))
        return left;
    if (i->leader <= 1 || !seen_all(&l))
        return 0;
    seen_spread(&l, i, by_uid);
    for (size_t k = 0; k < l.n; k++) {
        const struct seen *p = &l.v[k];
        if (!p->its || p->dead || p->pid <= 1 || p->pid == getpid())
            continue;
        found++;
        kill(p->pid, SIGKILL);
    }
    free(l.v);
    return found;
}
