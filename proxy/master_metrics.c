/*
 * master_metrics.c - what the master alone knows, put where the workers that answer /metrics read
 * it: which names have a row, instances and restarts, reloads, and what the kernel says of
 * headgate's own processes.
 */
#include "proxy/master.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/stats.h"
#include "proxy/metrics.h"

#define LOOK_MS       1000
#define SERVICES_TOLD 512 /* as many as there are rows */

_Static_assert(ROW_STATES == (int)INST_GONE, "a cell a state of instances");
_Static_assert(ROWS_PROCESSES == STATS_SLOTS, "an area a slot");

static void set(enum stats_id s, int64_t v)
{
    stats_add(s, v - stats_self->v[s]);
}

/* ---- which names have rows ---- */

static void claim_route(void *ctx, const struct row_key *key)
{
    rows_claim(ROW_ROUTE, key, *(const uint64_t *)ctx);
}

static struct row_key service_key(struct str name)
{
    const size_t slash = str_chr(name, '/');
    return (struct row_key){{str_sub(name, 0, slash), str_sub(name, slash + 1, name.n)}};
}

static void claim_of(const struct conf *c, enum row_kind k, uint64_t now)
{
    if (k == ROW_ROUTE)
        metrics_route_keys(c, claim_route, &now);
    for (unsigned i = 0; k == ROW_SERVICE && i < c->n_services; i++) {
        const struct row_key key = service_key(c->services[i].name);
        rows_claim(k, &key, now);
    }
    for (unsigned i = 0; k == ROW_LISTENER && i < c->n_listens; i++)
        rows_claim(k,
                   &(struct row_key){
                       {str_of(listener_kind_text(c->listens[i].kind)), c->listens[i].addr.text}},
                   now);
}

void metrics_follow(const struct conf *next)
{
    static const enum row_kind kinds[] = {ROW_ROUTE, ROW_SERVICE, ROW_LISTENER};
    const uint64_t now = loop_now_ms();
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        rows_claim_begin(kinds[i]);
        claim_of(master_conf(), kinds[i], now);
        if (next)
            claim_of(next, kinds[i], now);
        rows_claim_end(kinds[i], next == NULL, now);
    }
}

/* ---- services ---- */

/* Services that were told of: whose supervisor is gone has no instance any more. */
static struct told {
    struct service_row *row;
    bool again;
} told[SERVICES_TOLD];
static unsigned n_told;

static void remember(struct service_row *row)
{
    for (unsigned i = 0; i < n_told; i++) {
        if (told[i].row != row)
            continue;
        told[i].again = true;
        return;
    }
    if (n_told < SERVICES_TOLD)
        told[n_told++] = (struct told){row, true};
}

static void zero_the_gone(void)
{
    for (unsigned i = 0; i < n_told; i++) {
        if (told[i].again) {
            told[i].again = false;
            continue;
        }
        for (unsigned k = 0; k < ROW_STATES; k++)
            row_set(&told[i].row->instances[k], 0);
        told[i--] = told[--n_told];
    }
}

static void on_service(void *ctx, const char *name, const unsigned states[INST_GONE],
                       uint64_t restarts)
{
    (void)ctx;
    const struct row_key key = service_key(str_of(name));
    struct service_row *row = rows_use(ROW_SERVICE, &key);
    for (unsigned i = 0; i < ROW_STATES; i++)
        row_set(&row->instances[i], (int64_t)states[i]);
    row_add(&row->restarts, (int64_t)restarts);
    rows_drop(ROW_SERVICE, row);
    remember(row);
}

/* ---- processes ---- */

/* What is kept of a process's name while its processes come and go. */
struct watched {
    pid_t pid;
    int64_t cpu_before; /* µs: of those that had the name before */
    int64_t cpu;        /* µs: of this one, when last looked at */
};
static struct watched watched[STATS_SLOTS];

/* The fields of /proc/PID/stat that are wanted, by their numbers in proc(5). */
struct proc_stat {
    uint64_t utime, stime, starttime, vsize, rss;
};

static bool stat_read(pid_t pid, struct proc_stat *s)
{
    char path[48], text[1024];
    struct out o = out_on(path, sizeof(path) - 1);
    out_fmt(&o, "/proc/%d/stat", (int)pid);
    path[o.n] = '\0';
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t n = read(fd, text, sizeof(text));
    close(fd);
    if (n <= 0)
        return false;
    /* The name in brackets may hold anything: the fields are counted from its end. */
    const char *end = memrchr(text, ')', (size_t)n);
    if (!end)
        return false;
    struct str rest = {end + 1, (size_t)(text + n - end - 1)}, word;
    rest = str_trim(rest);
    *s = (struct proc_stat){0};
    for (unsigned field = 3; str_split(&rest, ' ', &word); field++) {
        uint64_t *into = field == 14   ? &s->utime
                         : field == 15 ? &s->stime
                         : field == 22 ? &s->starttime
                         : field == 23 ? &s->vsize
                         : field == 24 ? &s->rss
                                       : NULL;
        if (into && !str_u64(word, into))
            return false;
    }
    return s->starttime != 0;
}

/* Newer kernels tell the number as the folder's size; older ones have it counted. */
static int64_t fds_of(pid_t pid)
{
    char path[48];
    struct stat st;
    int64_t n = 0;
    struct out o = out_on(path, sizeof(path) - 1);
    out_fmt(&o, "/proc/%d/fd", (int)pid);
    path[o.n] = '\0';
    if (stat(path, &st) == 0 && st.st_size > 0)
        return st.st_size;
    DIR *d = opendir(path);
    if (!d)
        return 0;
    for (const struct dirent *e = readdir(d); e; e = readdir(d))
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static int64_t boot_us(void)
{
    struct timespec up, now;
    clock_gettime(CLOCK_BOOTTIME, &up);
    clock_gettime(CLOCK_REALTIME, &now);
    return (now.tv_sec - up.tv_sec) * 1000000 + (now.tv_nsec - up.tv_nsec) / 1000;
}

static void look_at(unsigned num, pid_t pid, struct str name)
{
    const int64_t tick_us = 1000000 / sysconf(_SC_CLK_TCK);
    struct watched *w = &watched[num];
    struct proc_stat s;
    struct rlimit files;
    if (pid <= 0 || !stat_read(pid, &s))
        return;
    if (w->pid != pid) {
        w->cpu_before += w->cpu;
        w->cpu = 0;
    }
    w->pid = pid;
    w->cpu = MAX(w->cpu, (int64_t)(s.utime + s.stime) * tick_us);
    struct process_row *row = rows_use(ROW_PROCESS, &(struct row_key){{name}});
    row_set(&row->cpu_us, w->cpu_before + w->cpu);
    row_set(&row->resident, (int64_t)s.rss * sysconf(_SC_PAGESIZE));
    row_set(&row->virtual_size, (int64_t)s.vsize);
    row_set(&row->fds, fds_of(pid));
    /* Each of ours raises its limit to the same hard one, and only we may ask for our own. */
    if (getrlimit(RLIMIT_NOFILE, &files) == 0)
        row_set(&row->max_fds, (int64_t)MIN(files.rlim_cur, (rlim_t)INT32_MAX));
    row_set(&row->started_us, boot_us() + (int64_t)s.starttime * tick_us);
    rows_drop(ROW_PROCESS, row);
}

static struct str worker_name(unsigned num, char mem[static 24])
{
    struct out o = out_on(mem, 24);
    out_fmt(&o, "worker %u", num);
    return out_done(&o);
}

static void claim_processes(void)
{
    char mem[24];
    const uint64_t now = loop_now_ms();
    rows_claim_begin(ROW_PROCESS);
    rows_claim(ROW_PROCESS, &(struct row_key){{STR("master")}}, now);
    rows_claim(ROW_PROCESS, &(struct row_key){{STR("agent")}}, now);
    LIST_EACH (&master.workers, it) {
        const struct worker *w = container_of(it, struct worker, link);
        rows_claim(ROW_PROCESS, &(struct row_key){{worker_name(w->num, mem)}}, now);
    }
    /* A slot whose worker just died has one again soon. */
    for (unsigned i = 0; i < MIN(master_conf()->workers, SLOTS_MAX); i++)
        rows_claim(ROW_PROCESS, &(struct row_key){{worker_name(i, mem)}}, now);
    rows_claim_end(ROW_PROCESS, true, now);
}

static void look_at_processes(void)
{
    char mem[24];
    claim_processes();
    look_at(ROLE_STATS_MASTER, getpid(), STR("master"));
    look_at(ROLE_STATS_AGENT, master.agent.pid, STR("agent"));
    LIST_EACH (&master.workers, it) {
        const struct worker *w = container_of(it, struct worker, link);
        look_at(w->num, w->pid, worker_name(w->num, mem));
    }
}

/* ---- certificates by ACME ---- */

static void tell_certificates(void)
{
    const uint64_t now = loop_now_ms();
    rows_claim_begin(ROW_CERTIFICATE);
    LIST_EACH (&master.cert_states, it) {
        const struct cert_state *s = container_of(it, struct cert_state, link);
        rows_claim(ROW_CERTIFICATE, &(struct row_key){{str_of(s->host)}}, now);
    }
    rows_claim_end(ROW_CERTIFICATE, true, now);
    LIST_EACH (&master.cert_states, it) {
        const struct cert_state *s = container_of(it, struct cert_state, link);
        struct certificate_row *row =
            rows_use(ROW_CERTIFICATE, &(struct row_key){{str_of(s->host)}});
        row_set(&row->failures, (int64_t)s->fixed.failures);
        row_set(&row->next_at, (int64_t)s->fixed.next_at);
        rows_drop(ROW_CERTIFICATE, row);
    }
}

/* ---- the whole ---- */

void metrics_tell_state(void)
{
    set(STAT_serving, master.state == MASTER_SERVING);
    set(STAT_reloading, master.reload.step != RELOAD_IDLE && master.reload.kind != RELOAD_PLAN);
    set(STAT_config_generation, (int64_t)master_conf()->generation);
    set(STAT_workers_wanted, (int64_t)MIN(master_conf()->workers, SLOTS_MAX));
    set(STAT_workers_serving, workers_serving());
}

void metrics_reload_ended(bool ok)
{
    if (ok)
        stats_inc(reloads_done);
    else
        stats_inc(reloads_refused);
    set(STAT_reload_ok, ok);
    if (ok)
        set(STAT_reload_at, wall_s());
}

static void on_look(struct deadline *d)
{
    look_at_processes();
    if (master.supervisor)
        supervisor_count(master.supervisor, on_service, NULL);
    zero_the_gone();
    tell_certificates();
    metrics_tell_state();
    deadline_set(d, LOOK_MS, on_look);
}

const char *metrics_start(void)
{
    static struct deadline look;
    master.rows_fd = rows_create();
    const char *err = rows_attach(master.rows_fd, ROLE_STATS_MASTER);
    if (err)
        return err;
    metrics_follow(NULL);
    claim_processes();
    set(STAT_reload_ok, 1);
    set(STAT_reload_at, wall_s());
    deadline_set(&look, 1, on_look);
    return NULL;
}
