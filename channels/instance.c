/*
 * instance.c - one process of a service: its address, user, folder, environment, arguments and
 * output, the start and what has to be tidied after its end. When to do which is supervise.c's.
 */
#include "channels/instance.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "channels/confine.h"
#include "channels/record.h"

#define OWN_ENV 12

static const char *make_cwd(struct instance *i)
{
    const struct conf_service *def = i->svc->def;
    const char *cwd = arena_strz(i->run, def->cwd);
    if (!def->cwd_is_data)
        return NULL;
    return file_mkdirs(i->run, cwd, 0750, i->user.uid, i->user.gid);
}

static bool env_sets(const struct conf_service *def, struct str name)
{
    for (unsigned k = 0; k < def->n_env; k++) {
        if (def->env[k].n > name.n && def->env[k].p[name.n] == '=' && str_starts(def->env[k], name))
            return true;
    }
    return false;
}

/* NAME=value unless the service sets NAME itself. */
static void env_default(struct instance *i, char **env, unsigned *n, struct str name,
                        const char *value)
{
    if (value && !env_sets(i->svc->def, name))
        env[(*n)++] = (char *)(uintptr_t)arena_fmt(i->run, STR_FMT "=%s", STR_ARG(name), value).p;
}

static void env_add(struct instance *i, char **env, unsigned *n, const char *name,
                    const char *value)
{
    env[(*n)++] = (char *)(uintptr_t)arena_fmt(i->run, "%s=%s", name, value).p;
}

/* Ours to set: the config's would be a lie, or would hide ours. */
static bool env_reserved(const struct instance *i, struct str text)
{
    if (i->listen_fd >= 0 && str_starts(text, STR("LISTEN_")) &&
        (str_starts(text, STR("LISTEN_FDS=")) || str_starts(text, STR("LISTEN_PID=")) ||
         str_starts(text, STR("LISTEN_FDNAMES="))))
        return true;
    if (i->notify.open && str_starts(text, STR("NOTIFY_SOCKET=")))
        return true;
    return str_starts(text, STR("HEADGATE_INSTANCE=")) ||
           str_starts(text, STR("HEADGATE_RUNTIME="));
}

/* sd_listen_fds(3): the pid is the child's to write. */
static char *env_listen(struct instance *i, char **env, unsigned *n)
{
    static const char name[] = "LISTEN_PID=";
    char *text = arena_zalloc(i->run, sizeof(name) + PROC_PID_TEXT);
    memcpy(text, name, sizeof(name));
    env[(*n)++] = text;
    env_add(i, env, n, "LISTEN_FDS", "1");
    env_add(i, env, n, "LISTEN_FDNAMES", arena_strz(i->run, i->svc->def->short_name));
    return text + sizeof(name) - 1;
}

/*
 * A clean environment: nothing of headgate's own but PATH, where the service's program was found.
 * The marks come first and cannot be set by the config: orphans are told by them. The second one
 * tells those of another headgate on this machine apart. *pid_text: where the child writes its pid,
 * or NULL.
 */
static char **make_env(struct instance *i, const struct conf_vars *vars, char **pid_text)
{
    const struct conf_service *def = i->svc->def;
    char **env = arena_zarray(i->run, char *, def->n_env + OWN_ENV);
    unsigned n = 0;
    const char *path = getenv("PATH");
    env_add(i, env, &n, "HEADGATE_INSTANCE", i->name);
    env_add(i, env, &n, "HEADGATE_RUNTIME", i->svc->sup->runtime);
    *pid_text = i->listen_fd >= 0 ? env_listen(i, env, &n) : NULL;
    if (i->notify.open)
        env_add(i, env, &n, "NOTIFY_SOCKET", i->notify.path);
    env_default(i, env, &n, STR("PATH"), path && *path ? path : PROC_DEFAULT_PATH);
    env_default(i, env, &n, STR("HOME"), def->cwd.n ? arena_strz(i->run, def->cwd) : "/");
    env_default(i, env, &n, STR("LANG"), "C.UTF-8");
    env_default(i, env, &n, STR("USER"), i->user.name);
    env_default(i, env, &n, STR("LOGNAME"), i->user.name);
    for (unsigned k = 0; k < def->n_env; k++) {
        if (env_reserved(i, def->env[k]))
            continue;
        env[n++] = (char *)(uintptr_t)arena_strz(i->run, conf_expand(i->run, def->env[k], vars));
    }
    return env;
}

static char **make_argv(struct instance *i, const struct conf_vars *vars)
{
    const struct conf_service *def = i->svc->def;
    char **argv = arena_zarray(i->run, char *, def->n_argv + 1);
    for (unsigned k = 0; k < def->n_argv; k++)
        argv[k] = (char *)(uintptr_t)arena_strz(i->run, conf_expand(i->run, def->argv[k], vars));
    return argv;
}

static const char *prepare(struct instance *i)
{
    struct supervisor *s = i->svc->sup;
    const char *err = service_user_find(i->run, s->conf, s->state, i->svc->def, &i->user);
    if (!err)
        err = make_cwd(i);
    if (!err)
        err = address_choose(i);
    if (!err && i->svc->def->ready == CONF_READY_NOTIFY)
        err = notify_open(i);
    return err;
}

static void on_ended(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    instance_ended(arg);
}

void instance_watch(struct instance *i, const struct proc *proc)
{
    i->proc = *proc;
    i->leader = proc->pid;
    i->killed = false;
    event_assign(&i->ended, loop_base(), proc->pidfd, EV_READ | EV_PERSIST, on_ended, i);
    event_add(&i->ended, NULL);
}

void instance_unwatch(struct instance *i)
{
    if (i->proc.pidfd >= 0) {
        event_del(&i->ended);
        close(i->proc.pidfd);
    }
    i->proc = (struct proc){.pidfd = -1};
}

static void read_output(struct instance *i, const int fds[2])
{
    static const char *const streams[2] = {"stdout", "stderr"};
    for (unsigned k = 0; k < 2; k++)
        if (fds[k] >= 0)
            output_open(&i->out[k], fds[k], i->svc->name, i->id, i->leader, streams[k]);
}

void instance_reopen_output(struct instance *i)
{
    int fds[2];
    record_fifos_open(i, fds);
    read_output(i, fds);
}

/* Whatever happens to us from here on, the next master finds it. */
static void on_pid(void *ctx, pid_t pid)
{
    struct instance *i = ctx;
    i->leader = pid;
    i->leader_started = proc_started(pid);
    confine_start(i, pid);
    record_save(i, INST_STARTING);
}

static void close_both(const int fds[2])
{
    close(fds[0]);
    close(fds[1]);
}

/* So that who is queued there is not lost when the master is killed, and the instance after it. */
static void keep_socket(const struct instance *i, int fd)
{
    const struct supervisor *s = i->svc->sup;
    if (i->listen_fd >= 0 && s->ops.on_socket)
        s->ops.on_socket(s->ctx, i->id, fd);
}

const char *instance_spawn(struct instance *i)
{
    const struct conf_service *def = i->svc->def;
    arena_reset(i->run);
    memset(&i->addr, 0, sizeof(i->addr)); /* its text lay in there */
    i->name = arena_fmt(i->run, "%s-%" PRIu64, i->svc->name, i->id).p;
    i->digest = arena_strz(i->run, def->digest);
    i->adopted = false;
    const char *err = prepare(i);
    if (err)
        return err;
    struct str port = i->addr.sa.ss_family == AF_UNIX ? STR_NULL : i->addr.text;
    for (size_t at = port.n; at > 0; at--) {
        if (port.p[at - 1] == ':') {
            port = str_sub(port, at, port.n);
            break;
        }
    }
    struct conf_vars vars = {.listen = i->addr.text,
                             .port = port,
                             .instance = str_of(i->name),
                             .ports = i->ports,
                             .n_ports = i->n_ports};
    int output[2], its_output[2];
    err = record_fifos_make(i, output, its_output);
    if (err)
        return err;
    struct proc_spec spec = {
        .path = arena_strz(i->run, conf_expand(i->run, def->program, &vars)),
        .exec_fd = -1,
        .argv = make_argv(i, &vars),
        .cwd = def->cwd.n ? arena_strz(i->run, def->cwd) : NULL,
        .stdin_fd = -1,
        .stdout_fd = its_output[0],
        .stderr_fd = its_output[1],
        .uid = i->user.uid,
        .gid = i->user.gid,
        .own_group = true,
        .no_new_privs = true,
        .on_pid = on_pid,
        .ctx = i,
        .no_caps = true,
        .open_files = def->open_files,
        .keep_fds = &i->listen_fd,
        .n_keep = i->listen_fd >= 0,
    };
    spec.envp = make_env(i, &vars, &spec.pid_text);
    /* Opened while we still may: the folders above it can be closed to the service's user. */
    spec.exec_fd = open(spec.path, O_PATH | O_CLOEXEC);
    struct proc proc = {.pidfd = -1};
    err = proc_spawn(i->run, &spec, &proc);
    if (spec.exec_fd >= 0)
        close(spec.exec_fd);
    close_both(its_output);
    if (err) {
        close_both(output);
        return err;
    }
    instance_watch(i, &proc);
    read_output(i, output);
    keep_socket(i, i->listen_fd);
    return NULL;
}

void instance_share_socket(struct instance *i)
{
    const struct sockaddr_un *un = (const struct sockaddr_un *)&i->addr.sa;
    if (i->addr.sa.ss_family != AF_UNIX || i->user.uid == (uid_t)-1 || un->sun_path[0] == '\0')
        return;
    /* The service owns the folder and could put anything there: only a socket of its own user is
     * touched, and through a descriptor, so that it cannot be exchanged in between. */
    int fd = open(un->sun_path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;
    if (fd < 0)
        return;
    char self[32];
    struct out o = out_on(self, sizeof(self) - 1);
    out_fmt(&o, "/proc/self/fd/%d", fd);
    self[o.n] = '\0';
    if (fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode) && st.st_uid == i->user.uid) {
        if (fchownat(fd, "", (uid_t)-1, i->svc->sup->conf->gid, AT_EMPTY_PATH) < 0 ||
            chmod(self, (st.st_mode & 07777) | 0060) < 0)
            log_warn("the workers may not reach its socket", "instance", "%s", i->name, "socket",
                     "%s", un->sun_path, "error", "%s", err_of_errno(errno));
    }
    close(fd);
}

void instance_release(struct instance *i)
{
    output_close(&i->out[0]);
    output_close(&i->out[1]);
    notify_close(i);
    instance_unwatch(i);
    if (!i->url)
        record_drop(i);
    confine_end(i);
    keep_socket(i, -1);
    i->leader = 0;
    if (i->socket)
        unlink(i->socket);
    i->socket = NULL;
    i->port = 0;
}
