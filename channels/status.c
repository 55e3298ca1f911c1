/*
 * status.c - the supervisor's part of `headgate status`: every service with its instances, a crash
 * loop told in words.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "base/json.h"
#include "channels/instance.h"

static const char *const words[] = {
    [INST_BACKOFF] = "failing", [INST_STARTING] = "starting", [INST_READY] = "ready",
    [INST_UNREADY] = "unready", [INST_DRAINING] = "draining", [INST_STOPPING] = "stopping",
    [INST_GONE] = "gone",
};

/* Bytes of memory it holds, or -1 when the kernel does not tell. */
static int64_t rss_of(pid_t pid)
{
    char path[64], text[128];
    struct out o = out_on(path, sizeof(path) - 1);
    out_fmt(&o, "/proc/%d/statm", (int)pid);
    path[o.n] = '\0';
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t n = read(fd, text, sizeof(text) - 1);
    close(fd);
    if (n <= 0)
        return -1;
    struct str rest = {text, (size_t)n}, size, resident;
    uint64_t pages;
    if (!str_split(&rest, ' ', &size) || !str_split(&rest, ' ', &resident) ||
        !str_u64(resident, &pages))
        return -1;
    return (int64_t)pages * sysconf(_SC_PAGESIZE);
}

static const char *word_of(const struct instance *i)
{
    if (i->state == INST_BACKOFF && !i->starts)
        return "waiting";
    if (i->state == INST_STOPPING && i->goal == GOAL_RUN)
        return "failing";
    return words[i->state];
}

static void set(json_t *o, const char *key, json_t *value)
{
    int rc = json_object_set_new(o, key, value);
    ASSERT(rc == 0);
}

static json_t *text(const char *z)
{
    return json_text(str_of(z));
}

static json_t *instance_json(const struct instance *i)
{
    json_t *o = json_object();
    uint64_t now = loop_now_ms();
    set(o, "id", json_integer((json_int_t)i->id));
    set(o, "state", text(word_of(i)));
    set(o, "address", text(i->state == INST_BACKOFF ? "" : i->addr.text.p));
    set(o, "since_s", json_integer((json_int_t)((now - MIN(now, i->since)) / 1000)));
    if (i->url) {
        set(o, "last_error", text(i->last_error));
        return o;
    }
    set(o, "pid", json_integer(i->proc.pid > 0 ? i->proc.pid : 0));
    set(o, "restarts", json_integer((json_int_t)i->restarts));
    set(o, "last_exit", text(i->last_exit));
    set(o, "last_error", text(i->last_error));
    if (i->state == INST_STARTING && i->probe_err)
        set(o, "not_ready", text(i->probe_err));
    if (i->memory)
        set(o, "memory_max", json_integer((json_int_t)i->memory));
    if (i->unlimited)
        set(o, "warning", json_sprintf("memory is not limited: %s", i->unlimited));
    if (i->says[0])
        set(o, "says", text(i->says));
    if (i->user.uid != (uid_t)-1)
        set(o, "uid", json_integer((json_int_t)i->user.uid));
    if (i->failures && !instance_stable(i)) {
        set(o, "failures", json_integer((json_int_t)i->failures));
        set(o, "failing_s", json_integer((json_int_t)((now - i->failing_since) / 1000)));
    }
    if (i->state == INST_BACKOFF && i->next_start > now)
        set(o, "next_start_ms", json_integer((json_int_t)(i->next_start - now)));
    int64_t rss = i->proc.pid > 0 ? rss_of(i->proc.pid) : -1;
    if (rss >= 0)
        set(o, "rss", json_integer((json_int_t)rss));
    return o;
}

/* The instance that says most about its service: one that serves, else the newest. */
static const struct instance *best_of(const struct service *svc)
{
    const struct instance *best = NULL;
    LIST_EACH (&svc->instances, l) {
        const struct instance *i = container_of(l, struct instance, link);
        if (!best || best->state != INST_READY || i->state == INST_READY)
            best = i;
    }
    return best;
}

static json_t *service_json(const struct service *svc)
{
    json_t *o = json_object(), *all = json_array();
    const struct instance *best = best_of(svc);
    bool url = svc->def ? svc->def->n_argv == 0 : best && best->url;
    LIST_EACH (&svc->instances, l) {
        int rc = json_array_append_new(all, instance_json(container_of(l, struct instance, link)));
        ASSERT(rc == 0);
    }
    set(o, "service", text(svc->name));
    set(o, "kind", text(url ? "url" : "run"));
    const char *none = svc->def && url ? "unresolved" : "stopped";
    set(o, "state", text(!svc->def && best ? "stopping" : best ? word_of(best) : none));
    set(o, "address", text(best && best->state != INST_BACKOFF ? best->addr.text.p : ""));
    set(o, "restarts", json_integer(best ? (json_int_t)best->restarts : 0));
    set(o, "instances", all);
    if (svc->def && url)
        set(o, "names", service_names(svc));
    return o;
}

void supervisor_count(struct supervisor *s,
                      void (*each)(void *ctx, const char *service, const unsigned states[INST_GONE],
                                   uint64_t restarts),
                      void *ctx)
{
    LIST_EACH (&s->services, l) {
        struct service *svc = container_of(l, struct service, link);
        unsigned states[INST_GONE] = {0};
        LIST_EACH (&svc->instances, k) {
            const struct instance *i = container_of(k, struct instance, link);
            if (i->state < INST_GONE)
                states[i->state]++;
        }
        each(ctx, svc->name, states, svc->restarts_untold);
        svc->restarts_untold = 0;
    }
}

json_t *supervisor_status(const struct supervisor *s)
{
    json_t *all = json_array();
    LIST_EACH (&s->services, l) {
        int rc = json_array_append_new(all, service_json(container_of(l, struct service, link)));
        ASSERT(rc == 0);
    }
    return all;
}
