/*
 * master_logs.c - the verb `logs`: what services print, over the admin socket. The answer has the
 * last lines; to who follows, later ones come as an object each. Who reads too slowly loses lines
 * and is told how many as soon as it has read what was there; the master never waits.
 */
#include "proxy/master.h"

#include <stdlib.h>

#include "base/json.h"

#define LINES_DEFAULT 100
#define FOLLOWERS_MAX 32 /* half a MiB may wait for each; other verbs need connections too */

struct follower {
    struct list link;
    struct log_reader reader;
    struct admin_conn *conn;
    json_t *first;    /* of the answer, while it is made */
    uint64_t dropped; /* since there was no room */
    char of[];
};

static struct list followers = {&followers, &followers};

static struct follower *follower_of(const struct admin_conn *c)
{
    LIST_EACH (&followers, it) {
        struct follower *f = container_of(it, struct follower, link);
        if (f->conn == c)
            return f;
    }
    return NULL;
}

/* Why this connection may not follow (more), or NULL. */
static const char *follow_refused(const struct admin_conn *c)
{
    unsigned n = 0;
    if (follower_of(c))
        return "this connection follows already; ask on another one";
    LIST_EACH (&followers, it)
        n++;
    return n < FOLLOWERS_MAX ? NULL : "32 others follow already, and no more may; end one of them";
}

static json_t *line_object(const struct line *l)
{
    return json_pack("{s:I, s:s, s:I, s:s, s:o}", "at_ms", (json_int_t)l->at_ms, "service",
                     l->service, "instance", (json_int_t)l->instance, "stream", l->stream, "line",
                     json_text((struct str){l->text, l->n}));
}

static void on_line(struct log_reader *r, const struct line *line)
{
    struct follower *f = container_of(r, struct follower, reader);
    if (f->first) {
        json_array_append_new(f->first, line_object(line));
        return;
    }
    /* Once one did not fit, none does until logs_conn_room: what is missing is in one place. */
    if (f->dropped || !admin_stream(f->conn, line_object(line)))
        f->dropped++;
}

void logs_conn_room(const struct admin_conn *c)
{
    struct follower *f = follower_of(c);
    if (!f || !f->dropped)
        return;
    if (admin_stream(f->conn, json_pack("{s:I}", "dropped", (json_int_t)f->dropped)))
        f->dropped = 0;
}

static void follower_free(struct follower *f)
{
    supervisor_logs_leave(&f->reader);
    list_remove(&f->link);
    free(f);
}

void logs_conn_closed(const struct admin_conn *c)
{
    struct follower *f = follower_of(c);
    if (f)
        follower_free(f);
}

/* A channel or site that is configured, but has nothing that could print. */
static bool is_site(struct str name)
{
    const struct conf *c = master_conf();
    for (unsigned i = 0; i < c->n_sites; i++)
        if (str_eq(c->sites[i].name, name))
            return true;
    return false;
}

static void refuse(struct admin_conn *c, enum admin_status status, struct arena *a, const char *of,
                   const char *why)
{
    admin_reply(c, status, arena_fmt(a, "headgate: logs %s: %s\n", of, why), NULL);
}

static struct follower *follower_new(struct admin_conn *c, struct str of)
{
    struct follower *f = calloc(1, sizeof(*f) + of.n + 1);
    ASSERT(f);
    if (of.n)
        memcpy(f->of, of.p, of.n);
    f->conn = c;
    f->reader.of = (struct str){f->of, of.n};
    f->reader.on_line = on_line;
    list_append(&followers, &f->link);
    return f;
}

static void answer(struct admin_conn *c, struct arena *a, const char *of, unsigned n, bool follow)
{
    const char *refused = follow ? follow_refused(c) : NULL;
    if (refused) {
        refuse(c, ADMIN_REFUSED, a, of, refused);
        return;
    }
    struct follower *f = follower_new(c, str_of(of));
    f->first = json_array();
    const char *err = supervisor_logs(master.supervisor, a, &f->reader, n, follow);
    json_t *first = f->first;
    f->first = NULL;
    if (err && is_site(str_of(of)))
        err = "it has no service, and nothing else prints";
    if (err) {
        json_decref(first);
        refuse(c, ADMIN_FAILED, a, of, err);
    } else {
        admin_reply(c, ADMIN_FINE, STR(""), json_pack("{s:o}", "lines", first));
    }
    if (err || !follow)
        follower_free(f);
}

void verb_logs(struct admin_conn *c, json_t *request)
{
    const char *of = json_string_value(json_object_get(request, "of"));
    const json_t *lines = json_object_get(request, "lines");
    const json_int_t n = json_is_integer(lines) ? json_integer_value(lines) : LINES_DEFAULT;
    struct arena *a = arena_new(1024);
    if (of)
        answer(c, a, of, n < 0 ? 0 : (unsigned)MIN(n, (json_int_t)UINT32_MAX),
               json_is_true(json_object_get(request, "follow")));
    else
        refuse(c, ADMIN_USAGE, a, "", "`of` is to be CHANNEL or CHANNEL/SERVICE");
    arena_free(&a);
}
