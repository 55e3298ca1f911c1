/*
 * master_logs.c - the verb `logs`: what services print, over the admin socket. The answer has the
 * last lines; to who follows, later ones come as an object each. Who reads too slowly loses lines
 * and is told how many; the master never waits.
 */
#include "proxy/master.h"

#include <stdlib.h>

#define LINES_DEFAULT 100

struct follower {
    struct list link;
    struct log_reader reader;
    struct admin_conn *conn;
    json_t *first;    /* of the answer, while it is made */
    uint64_t dropped; /* since the last line that got through */
    char of[];
};

static struct list followers = {&followers, &followers};

static json_t *text(struct str s)
{
    json_t *j = json_stringn(s.p, s.n);
    return j ? j : json_string("(not UTF-8)");
}

static json_t *line_object(const struct line *l)
{
    return json_pack("{s:I, s:s, s:I, s:s, s:o}", "at_ms", (json_int_t)l->at_ms, "service",
                     l->service, "instance", (json_int_t)l->instance, "stream", l->stream, "line",
                     text((struct str){l->text, l->n}));
}

static void on_line(struct log_reader *r, const struct line *line)
{
    struct follower *f = container_of(r, struct follower, reader);
    if (f->first) {
        json_array_append_new(f->first, line_object(line));
        return;
    }
    if (f->dropped &&
        !admin_stream(f->conn, json_pack("{s:I}", "dropped", (json_int_t)f->dropped))) {
        f->dropped++;
        return;
    }
    f->dropped = 0;
    if (!admin_stream(f->conn, line_object(line)))
        f->dropped = 1;
}

static void follower_free(struct follower *f)
{
    supervisor_logs_leave(&f->reader);
    list_remove(&f->link);
    free(f);
}

void logs_conn_closed(const struct admin_conn *c)
{
    LIST_EACH_SAFE (&followers, it) {
        struct follower *f = container_of(it, struct follower, link);
        if (f->conn == c)
            follower_free(f);
    }
}

void verb_logs(struct admin_conn *c, json_t *request)
{
    const char *of = json_string_value(json_object_get(request, "of"));
    const json_t *n = json_object_get(request, "lines");
    bool follow = json_is_true(json_object_get(request, "follow"));
    json_int_t lines = json_is_integer(n) ? json_integer_value(n) : LINES_DEFAULT;
    size_t len = of ? strlen(of) : 0;
    struct follower *f = calloc(1, sizeof(*f) + len + 1);
    ASSERT(f);
    if (of)
        memcpy(f->of, of, len);
    f->conn = c;
    f->reader.of = (struct str){f->of, len};
    f->reader.on_line = on_line;
    f->first = json_array();
    list_append(&followers, &f->link);
    unsigned most = lines < 0 ? 0 : (unsigned)MIN(lines, (json_int_t)UINT32_MAX);
    const char *err = supervisor_logs(master.supervisor, &f->reader, most, follow);
    json_t *first = f->first;
    f->first = NULL;
    if (!err) {
        admin_reply(c, ADMIN_FINE, STR(""), json_pack("{s:o}", "lines", first));
    } else {
        struct arena *a = arena_new(512);
        json_decref(first);
        admin_reply(c, ADMIN_FAILED, arena_fmt(a, "headgate: logs %s: %s\n", f->of, err), NULL);
        arena_free(&a);
    }
    if (err || !follow)
        follower_free(f);
}
