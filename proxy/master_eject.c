/*
 * master_eject.c - what workers say of instances that fail them: for the log, once a change and not
 * once a worker, and for the status. Each worker ejects for itself (eject.h); nothing is decided
 * here but that a backend's name is looked up again.
 */
#include "proxy/master.h"

#include <stdlib.h>

#include "base/log.h"

struct complaint {
    struct list link;
    uint64_t id;               /* of the instance */
    struct worker_set ejected; /* by whom */
    int64_t failed_at;         /* wall clock */
    char why[256];
};

static struct list complaints = {&complaints, &complaints};

static struct complaint *complaint_find(uint64_t id)
{
    LIST_EACH (&complaints, l) {
        struct complaint *c = container_of(l, struct complaint, link);
        if (c->id == id)
            return c;
    }
    return NULL;
}

static struct complaint *complaint_new(uint64_t id)
{
    struct complaint *c = calloc(1, sizeof(*c));
    ASSERT(c);
    c->id = id;
    list_append(&complaints, &c->link);
    return c;
}

void eject_forget(uint64_t id)
{
    struct complaint *c = complaint_find(id);
    if (!c)
        return;
    list_remove(&c->link);
    free(c);
}

static void log_back(const struct complaint *c)
{
    if (!worker_set_count(&c->ejected))
        log_info("instance serves again", "instance", "%llu", (unsigned long long)c->id);
}

void eject_worker_gone(const struct worker *w)
{
    LIST_EACH (&complaints, l) {
        struct complaint *c = container_of(l, struct complaint, link);
        worker_set_remove(&c->ejected, w);
    }
}

/* Its address may be an old one. */
static void look_up_again(uint64_t id)
{
    struct str name = supervisor_name_of(master.supervisor, id);
    if (name.n)
        agent_resolve(name);
}

static void on_failed(struct worker *w, const struct msg_eject *m, struct str why)
{
    struct complaint *c = complaint_find(m->id);
    if (!c)
        c = complaint_new(m->id);
    struct out o = out_on(c->why, sizeof(c->why) - 1);
    out_str(&o, str_sub(why, 0, sizeof(c->why) - 1));
    c->why[o.n] = '\0';
    c->failed_at = wall_s();
    look_up_again(m->id);
    if (m->change != MSG_EJECT_OUT)
        return;
    if (!worker_set_count(&c->ejected))
        log_warn("instance is ejected: it fails requests", "instance", "%llu",
                 (unsigned long long)m->id, "cause", "%s", c->why, "for_ms", "%u", m->ms);
    worker_set_add(&c->ejected, w);
}

void eject_said(struct worker *w, const struct msg_eject *m, struct str why)
{
    struct complaint *c = complaint_find(m->id);
    if (!supervisor_knows(master.supervisor, m->id))
        return; /* it went while the message was on its way */
    if (m->change != MSG_EJECT_BACK) {
        on_failed(w, m, why);
    } else if (c && worker_set_count(&c->ejected)) {
        worker_set_remove(&c->ejected, w);
        log_back(c);
    }
}

/* ---- status ---- */

static void tell(json_t *instance)
{
    const struct complaint *c =
        complaint_find((uint64_t)json_integer_value(json_object_get(instance, "id")));
    if (!c)
        return;
    unsigned n = worker_set_count(&c->ejected);
    const char *state = json_string_value(json_object_get(instance, "state"));
    json_object_set_new(instance, "last_failure", json_string(c->why));
    json_object_set_new(instance, "last_failure_at", json_integer(c->failed_at));
    json_object_set_new(instance, "ejected_by", json_integer(n));
    if (n && state && strcmp(state, "ready") == 0)
        json_object_set_new(instance, "state", json_string("ejected"));
}

void eject_status(json_t *services)
{
    size_t i, k;
    json_t *s, *in;
    json_array_foreach(services, i, s) json_array_foreach(json_object_get(s, "instances"), k, in)
        tell(in);
}
