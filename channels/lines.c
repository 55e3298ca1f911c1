/*
 * lines.c - a list a service, oldest first, cut at the front. A line is one allocation.
 */
#include "channels/lines.h"

#include <stdlib.h>
#include <time.h>

static uint64_t last_seq;

static void drop_first(struct kept_lines *l)
{
    struct line *first = container_of(l->all.next, struct line, link);
    list_remove(&first->link);
    l->bytes -= first->n;
    l->n--;
    free(first);
}

const struct line *lines_add(struct kept_lines *l, const char *service, uint64_t instance,
                             const char *stream, struct str text)
{
    struct timespec now;
    if (!l->all.next)
        list_init(&l->all);
    while (l->n && (l->n >= KEPT_MAX || l->bytes + text.n > KEPT_BYTES))
        drop_first(l);
    struct line *new_one = malloc(sizeof(*new_one) + text.n);
    ASSERT(new_one);
    clock_gettime(CLOCK_REALTIME, &now);
    *new_one = (struct line){.seq = ++last_seq,
                             .at_ms = now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000,
                             .instance = instance,
                             .service = service,
                             .stream = stream,
                             .n = text.n};
    if (text.n)
        memcpy(new_one->text, text.p, text.n);
    list_append(&l->all, &new_one->link);
    l->bytes += text.n;
    l->n++;
    return new_one;
}

static int by_seq(const void *a, const void *b)
{
    const struct line *x = *(const struct line *const *)a, *y = *(const struct line *const *)b;
    return x->seq < y->seq ? -1 : x->seq > y->seq;
}

/* The last ones of each service are enough: those of all together are among them. */
unsigned lines_last(struct kept_lines *const *of, unsigned n_of, unsigned n, size_t bytes,
                    const struct line ***out)
{
    size_t most = 0;
    unsigned got = 0, keep = 0;
    for (unsigned i = 0; i < n_of; i++)
        most += MIN(of[i]->n, n);
    const struct line **v = calloc(most + 1, sizeof(*v));
    ASSERT(v);
    for (unsigned i = 0; i < n_of; i++) {
        struct list *at = of[i]->all.prev;
        for (unsigned k = 0; k < MIN(of[i]->n, n); k++, at = at->prev)
            v[got++] = container_of(at, struct line, link);
    }
    qsort(v, got, sizeof(*v), by_seq);
    for (; keep < MIN(got, n) && v[got - keep - 1]->n <= bytes; keep++)
        bytes -= v[got - keep - 1]->n;
    memmove(v, v + got - keep, keep * sizeof(*v));
    *out = v;
    return keep;
}

void lines_fini(struct kept_lines *l)
{
    while (l->n)
        drop_first(l);
}
