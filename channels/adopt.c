/*
 * adopt.c - instances that outlived the master that started them: found by their records, told from
 * strangers with the same number by boot and start time, and supervised from then on like our own.
 * How they differ: they are not our children, so how they ended is not known.
 */
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "channels/confine.h"
#include "channels/record.h"
#include "conf/value.h"

#define ITS_SOCKET 3 /* SD_LISTEN_FDS_START */
#define RECORD_MAX 16384

struct found {
    struct supervisor *sup;
    struct arena *arena;
    const char *folder;
    struct str boot;
    uint64_t *ids;
    size_t n, cap;
};

/* ---- the folder ---- */

static int by_id(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void add_id(struct found *f, uint64_t id)
{
    for (size_t k = 0; k < f->n; k++)
        if (f->ids[k] == id)
            return;
    if (f->n == f->cap) {
        f->cap = f->cap ? f->cap * 2 : 64;
        f->ids = reallocarray(f->ids, f->cap, sizeof(*f->ids));
        ASSERT(f->ids);
    }
    f->ids[f->n++] = id;
}

/* Every number that a file is called by, record or not: what belongs to nothing is removed. */
static void list_folder(struct found *f)
{
    DIR *d = opendir(f->folder);
    if (!d)
        return;
    for (struct dirent *e; (e = readdir(d));) {
        uint64_t id;
        struct str name = str_of(e->d_name);
        if (str_u64(str_sub(name, 0, str_chr(name, '.')), &id))
            add_id(f, id);
    }
    closedir(d);
    if (f->n)
        qsort(f->ids, f->n, sizeof(*f->ids), by_id);
}

static void remove_files(const struct found *f, uint64_t id)
{
    static const char *const names[] = {"", ".new", ".out", ".err"};
    for (size_t k = 0; k < ARRAY_LEN(names); k++)
        unlink(arena_fmt(f->arena, "%s/%" PRIu64 "%s", f->folder, id, names[k]).p);
}

/* ---- one instance ---- */

static const char *read_record(struct found *f, uint64_t id, struct record *r)
{
    struct str text;
    const char *path = arena_fmt(f->arena, "%s/%" PRIu64, f->folder, id).p;
    if (access(path, F_OK) < 0)
        return "it has no record";
    const char *err = file_read(f->arena, path, RECORD_MAX, &text);
    if (!err)
        err = record_parse(text, r);
    if (!err && !str_eq(r->boot, f->boot))
        err = "the machine was started anew since";
    if (!err && (r->pid <= 1 || r->pid > INT32_MAX || !r->service.n || r->state >= INST_GONE))
        err = "it names no process of a service";
    return err;
}

static bool set_address(struct instance *i, struct str text, struct conf_addr *addr)
{
    struct value_error e;
    if (str_starts(text, STR("unix:")))
        return value_unix(i->run, str_sub(text, 5, text.n), addr, &e);
    return value_addr(i->run, text, addr, &e);
}

/* At the path that it knows: what it says from now on is heard. */
static void listen_again(struct instance *i)
{
    const struct conf_service *def = i->svc->def;
    const char *err = def && def->ready == CONF_READY_NOTIFY ? notify_open(i) : NULL;
    if (err)
        log_warn("what an instance says to its NOTIFY_SOCKET is not heard any more", "service",
                 "%s", i->svc->name, "instance", "%" PRIu64, i->id, "cause", "%s", err);
}

/* Does it listen where the record says? */
static bool is_its_socket(const struct instance *i, int fd)
{
    struct sockaddr_storage sa = {0};
    socklen_t n = sizeof(sa), size = sizeof(int);
    int listens = 0;
    return getsockname(fd, (struct sockaddr *)&sa, &n) == 0 && n == i->addr.len &&
           memcmp(&sa, &i->addr.sa, n) == 0 &&
           getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) == 0 && listens;
}

/*
 * listen: fd: the socket that it was handed, from the service manager's store, or, where the kernel
 * lets us look into the instance (root with CAP_SYS_PTRACE, or the same user), from itself. Without
 * it the instance runs on, and gets a new one at its next start.
 */
static void take_socket(struct instance *i, int pidfd)
{
    const struct supervisor *s = i->svc->sup;
    if (!i->svc->def || i->svc->def->listen != CONF_SVC_FD)
        return;
    int fd = s->ops.kept_socket ? s->ops.kept_socket(s->ctx, i->id) : -1;
    if (fd < 0)
        fd = (int)syscall(SYS_pidfd_getfd, pidfd, ITS_SOCKET, 0);
    if (fd >= 0 && !is_its_socket(i, fd)) {
        close(fd);
        fd = -1;
    }
    i->listen_fd = fd;
    if (fd < 0)
        log_warn("the socket of an adopted instance is its alone: lost if it ends", "service", "%s",
                 i->svc->name, "instance", "%" PRIu64, i->id);
}

static struct instance *instance_of(struct found *f, uint64_t id, const struct record *r)
{
    struct service *svc = service_get(f->sup, r->service);
    svc->def = conf_service_find(f->sup->conf, r->service);
    struct instance *i = instance_new(svc, false);
    i->id = id;
    i->adopted = true;
    i->gen = svc->gen;
    i->name = arena_fmt(i->run, "%s-%" PRIu64, svc->name, id).p;
    i->digest = arena_strz(i->run, r->digest);
    i->leader = (pid_t)r->pid;
    i->leader_started = r->started;
    i->user = (struct service_user){
        .uid = (uid_t)r->uid, .gid = (gid_t)r->gid, .exclusive = r->own_user != 0};
    i->port = (uint16_t)r->port;
    i->socket = r->socket.n ? arena_strz(i->run, r->socket) : NULL;
    i->stop_signal = (int)r->stop_signal;
    i->stop_timeout = r->stop_timeout;
    i->drain = r->drain;
    i->restarts = (unsigned)r->restarts;
    i->starts = 1;
    confine_adopt(i, r->cgroup);
    return i;
}

/* "client=4222 monitor=8222" */
static bool set_ports(struct instance *i, struct str text)
{
    struct str rest = text, one;
    unsigned n = 1;
    for (size_t k = 0; k < text.n; k++)
        n += text.p[k] == ' ';
    i->ports = arena_zarray(i->run, struct conf_port, n);
    while (rest.n && str_split(&rest, ' ', &one)) {
        const size_t sign = str_chr(one, '=');
        uint64_t number;
        if (!str_u64(str_sub(one, sign + 1, one.n), &number) || !number || number > UINT16_MAX)
            return false;
        i->ports[i->n_ports++] =
            (struct conf_port){arena_str(i->run, str_sub(one, 0, sign)), (uint16_t)number};
    }
    return true;
}

static void adopt_one(struct found *f, uint64_t id)
{
    struct record r;
    struct proc proc;
    const char *err = read_record(f, id, &r);
    if (err) {
        log_info("record of an instance is of no use any more", "instance", "%" PRIu64, id, "cause",
                 "%s", err);
        remove_files(f, id);
        return;
    }
    struct instance *i = instance_of(f, id, &r);
    bool alive = set_address(i, r.address, &i->addr) && set_address(i, r.asked, &i->asked) &&
                 set_ports(i, r.ports) && proc_find(i->leader, i->leader_started, &proc);
    if (!alive) {
        log_warn("instance ended while there was no master", "service", "%s", i->svc->name,
                 "instance", "%" PRIu64, id, "pid", "%d", (int)i->leader);
        instance_adopt_remains(i);
        return;
    }
    listen_again(i);
    take_socket(i, proc.pidfd);
    instance_adopt(i, &proc, (enum inst_state)r.state);
}

/* ---- generations ---- */

static bool counts(const struct instance *i)
{
    return i->adopted && i->goal == GOAL_RUN;
}

/*
 * What runs is the definition of the newest one that is to stay. A configuration with another
 * digest replaces it by the usual rules; so do older ones that a replacement was under way for.
 */
static void settle_service(struct service *svc)
{
    const struct instance *newest = NULL;
    LIST_EACH (&svc->instances, l) {
        const struct instance *i = container_of(l, struct instance, link);
        bool wanted = svc->def && str_eq(str_of(i->digest), svc->def->digest);
        if (counts(i) &&
            (wanted || !newest || !svc->def || !str_eq(str_of(newest->digest), svc->def->digest)))
            newest = i;
    }
    svc->digest[0] = '\0'; /* nothing that is to stay: the service starts as if it were new */
    if (!newest)
        return;
    struct out o = out_on(svc->digest, sizeof(svc->digest) - 1);
    out_str(&o, str_sub(str_of(newest->digest), 0, sizeof(svc->digest) - 1));
    svc->digest[o.n] = '\0';
    svc->gen++;
    svc->tried = true;
    LIST_EACH (&svc->instances, l) {
        struct instance *i = container_of(l, struct instance, link);
        if (counts(i) && str_eq(str_of(i->digest), str_of(svc->digest)))
            i->gen = svc->gen;
    }
}

void supervisor_adopt(struct supervisor *s, struct conf *c)
{
    struct found f = {.sup = s, .arena = arena_new(4096)};
    const char *err = record_folder(f.arena, s->runtime, &f.folder);
    ASSERT(list_empty(&s->services) && !s->conf);
    s->conf = conf_ref(c);
    f.boot = record_boot_id(f.arena);
    if (err)
        log_error("records of instances cannot be read", "cause", "%s", err);
    else
        list_folder(&f);
    for (size_t k = 0; k < f.n; k++) {
        adopt_one(&f, f.ids[k]);
        s->last_id = MAX(s->last_id, f.ids[k]);
    }
    LIST_EACH_SAFE (&s->services, l)
        settle_service(container_of(l, struct service, link));
    free(f.ids);
    arena_free(&f.arena);
}

void supervisor_skip_ids(struct supervisor *s, uint64_t last)
{
    s->last_id = MAX(s->last_id, last);
}
