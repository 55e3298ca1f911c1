/*
 * confine.c - the cgroup of an instance, where headgate was given one to make others in: entered
 * before its program runs, so that nothing of it is ever outside; limits its memory; killed whole
 * and removed at the end. Without one, orphans.c hunts for what was left, and `memory` is a wish,
 * which is said.
 */
#include "channels/confine.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/cgroup.h"
#include "base/log.h"

/* Once a definition: an instance that fails again and again says enough. */
static void say_unlimited(struct instance *i)
{
    struct service *svc = i->svc;
    if (svc->unlimited_told == svc->gen + 1)
        return;
    svc->unlimited_told = svc->gen + 1;
    log_warn("memory of a service is not limited", "service", "%s", svc->name, "cause", "%s",
             i->unlimited);
}

/* `memory` of its definition, on the group that it is in. */
static void limit_memory(struct instance *i)
{
    const struct supervisor *s = i->svc->sup;
    const struct conf_service *def = i->svc->def;
    i->memory = 0;
    i->unlimited = NULL;
    if (!def || !def->memory)
        return;
    const char *err = s->cgroup ? NULL : s->no_cgroup;
    if (!err && !i->cgroup)
        err = "it has no cgroup of its own";
    if (!err)
        err = cgroup_allow_memory(s->cgroup);
    if (!err)
        err = cgroup_set_memory(i->cgroup, def->memory);
    if (!err) {
        i->memory = def->memory;
        return;
    }
    i->unlimited = err;
    say_unlimited(i);
}

void confine_start(struct instance *i, pid_t pid)
{
    const struct supervisor *s = i->svc->sup;
    i->cgroup = NULL;
    if (s->cgroup) {
        i->cgroup = arena_fmt(i->run, "%s/instance-%" PRIu64, s->cgroup, i->id).p;
        const char *err = cgroup_make(i->cgroup);
        if (!err)
            err = cgroup_add(i->cgroup, pid);
        if (err) {
            log_warn("instance gets no cgroup of its own", "service", "%s", i->svc->name,
                     "instance", "%" PRIu64, i->id, "cgroup", "%s", i->cgroup, "cause", "%s", err);
            cgroup_remove(i->cgroup);
            i->cgroup = NULL;
        }
    }
    limit_memory(i);
}

void confine_adopt(struct instance *i, struct str cgroup)
{
    const struct supervisor *s = i->svc->sup;
    /* Only one of ours: of a base that is still the same. */
    size_t n = s->cgroup ? strlen(s->cgroup) : cgroup.n;
    if (n < cgroup.n && str_starts(cgroup, str_of(s->cgroup)) && cgroup.p[n] == '/')
        i->cgroup = arena_strz(i->run, cgroup);
    limit_memory(i);
}

bool confine_kill(const struct instance *i, bool *left)
{
    return i->cgroup && !cgroup_kill(i->cgroup, left);
}

void confine_explain_end(struct instance *i)
{
    size_t n = strlen(i->last_exit);
    if (i->memory && i->cgroup && cgroup_ran_out(i->cgroup))
        snprintf(i->last_exit + n, sizeof(i->last_exit) - n,
                 ": it needed more than its memory of %.1f MiB", (double)i->memory / 1048576);
}

void confine_end(struct instance *i)
{
    if (i->cgroup)
        cgroup_remove(i->cgroup);
    i->cgroup = NULL;
    i->memory = 0;
}
