/*
 * logs.c - `headgate logs` in the supervisor: which services are meant, their last lines and those
 * that follow. What is kept is lines.c's, how it gets to a terminal the admin socket's.
 */
#include <stdlib.h>

#include "channels/instance.h"

#define LAST_BYTES (4 * 1024 * 1024) /* of text at once: it is one answer */

/* "beta" means all services of beta, "beta/api" that one. */
static bool is_meant(const struct service *svc, struct str of)
{
    struct str name = str_of(svc->name);
    return of.n && str_starts(name, of) &&
           (name.n == of.n || (of.n < name.n && name.p[of.n] == '/'));
}

static void on_output(void *ctx, const char *service, uint64_t instance, const char *stream,
                      struct str text)
{
    struct supervisor *s = ctx;
    struct service *svc = service_find(s, str_of(service));
    if (!svc)
        return;
    const struct line *line = lines_add(&svc->lines, svc->name, instance, stream, text);
    LIST_EACH_SAFE (&s->log_readers, l) {
        struct log_reader *r = container_of(l, struct log_reader, link);
        if (is_meant(svc, r->of))
            r->on_line(r, line);
    }
}

void logs_start(struct supervisor *s)
{
    list_init(&s->log_readers);
    output_tell(on_output, s);
}

void logs_stop(struct supervisor *s)
{
    output_tell(NULL, NULL);
    while (!list_empty(&s->log_readers))
        list_remove(s->log_readers.next);
}

const char *supervisor_logs(struct supervisor *s, struct arena *a, struct log_reader *r, unsigned n,
                            bool follow)
{
    struct kept_lines **of = NULL;
    const struct line **lines;
    unsigned n_of = 0;
    LIST_EACH (&s->services, l) {
        struct service *svc = container_of(l, struct service, link);
        if (!is_meant(svc, r->of))
            continue;
        of = reallocarray(of, n_of + 1, sizeof(*of));
        ASSERT(of);
        of[n_of++] = &svc->lines;
    }
    if (!n_of)
        return supervisor_no_such(s, a, r->of, true);
    unsigned got = lines_last(of, n_of, n, LAST_BYTES, &lines);
    for (unsigned i = 0; i < got; i++)
        r->on_line(r, lines[i]);
    free(lines);
    free(of);
    if (follow)
        list_append(&s->log_readers, &r->link);
    return NULL;
}

void supervisor_logs_leave(struct log_reader *r)
{
    if (list_linked(&r->link))
        list_remove(&r->link);
}
