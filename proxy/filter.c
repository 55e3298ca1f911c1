/*
 * filter.c - the chain of filters of a request: who is in it, and the order in which they see what
 * passes. What they do is in their own files; when they are called is req.c's.
 */
#include "proxy/filter.h"

#include "base/loop.h"
#include "proxy/compress.h"
#include "proxy/req.h"

struct filter_chain {
    struct filter_use *inner, *outer; /* the handler's neighbour, the client's */
    struct turn_task again;
    struct req *req;
    uint64_t length; /* of the answer's body as the handler announced it */
    uint64_t taken;  /* of it so far */
};

/* From the handler outwards: an answer passes them in this order, a request in the other. */
static const struct filter *const kinds[] = {&compress_filter};

static void unlink_use(struct filter_chain *c, struct filter_use *u)
{
    *(u->inner ? &u->inner->outer : &c->inner) = u->outer;
    *(u->outer ? &u->outer->inner : &c->outer) = u->inner;
}

void filter_leave(struct filter_use *u)
{
    /* Its own links stay: the walk that it was called from goes on from them. */
    unlink_use(u->req->filters, u);
    if (u->filter->close)
        u->filter->close(u);
}

void filter_add(struct req *r, const struct filter *f)
{
    struct filter_chain *c = r->filters;
    struct filter_use *u = arena_znew(r->arena, struct filter_use);
    if (!c) {
        c = r->filters = arena_znew(r->arena, struct filter_chain);
        c->req = r;
        c->length = REQ_LENGTH_UNKNOWN;
    }
    u->filter = f;
    u->req = r;
    u->outer = c->inner;
    *(c->inner ? &c->inner->inner : &c->outer) = u;
    c->inner = u;
    if (f->begin)
        f->begin(u);
}

bool filters_begin(struct req *r)
{
    /* The request's order, from the client's side. */
    for (size_t i = ARRAY_LEN(kinds); i-- > 0 && !req_over(r);)
        if (kinds[i]->wanted(r))
            filter_add(r, kinds[i]);
    return !req_over(r);
}

void filters_answer_head(struct req *r, struct filter_use *from, bool *end)
{
    if (!from)
        r->filters->length = r->answer.length;
    for (struct filter_use *u = from ? from->outer : r->filters->inner; u; u = u->outer)
        if (u->filter->answer_head)
            u->filter->answer_head(u, end);
}

/* The handler keeps its own promise, whatever the filters make of it. */
static const char *as_announced(struct filter_chain *c, const struct piece *p)
{
    for (unsigned i = 0; i < p->n; i++)
        c->taken += p->v[i].n;
    if (c->length != REQ_LENGTH_UNKNOWN &&
        (c->taken > c->length || (p->end && c->taken < c->length)))
        return "the answer's body is not as long as announced";
    return NULL;
}

const char *filters_answer_body(struct req *r, struct filter_use *from, struct piece *p)
{
    const char *err = from ? NULL : as_announced(r->filters, p);
    for (struct filter_use *u = from ? from->outer : r->filters->inner; u && !err; u = u->outer)
        if (u->filter->answer_body)
            err = u->filter->answer_body(u, p);
    return err;
}

const char *filters_request_body(struct req *r, struct piece *p)
{
    const char *err = NULL;
    for (struct filter_use *u = r->filters->outer; u && !err; u = u->inner)
        if (u->filter->request_body)
            err = u->filter->request_body(u, p);
    return err;
}

struct filter_use *filters_fail(struct req *r, unsigned status, const char *err, struct piece *last)
{
    for (struct filter_use *u = r->filters->inner; u; u = u->outer)
        if (u->filter->fail && u->filter->fail(u, status, err, last))
            return u;
    return NULL;
}

static void on_again(struct turn_task *t)
{
    req_proceed(container_of(t, struct filter_chain, again)->req);
}

void filters_again(struct req *r)
{
    loop_at_turn_end(&r->filters->again, on_again);
}

void filters_close(struct req *r)
{
    if (!r->filters)
        return;
    turn_task_cancel(&r->filters->again);
    while (r->filters->inner)
        filter_leave(r->filters->inner);
}
