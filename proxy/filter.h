/*
 * filter.h - what changes bytes between client and handler: heads and bodies of the request and of
 * its answer. A filter is a constant table; those that a request needs are chained once, in the
 * step step_filters of req.c. A request without any costs a look at one pointer.
 *
 *   client ── begin, request_body ──►  filters  ──► handler
 *   client ◄── answer_head, answer_body, fail ──  filters  ◄── handler
 *
 * Flow control stays what it is: one input is one output and so one send; what a filter holds back
 * is its own bounded state. Where a send comes to nothing the handler is asked to go on at the
 * turn's end.
 */
#ifndef HG_FILTER_H
#define HG_FILTER_H

#include "base/slab.h"
#include "proxy/http.h"

struct req;
struct filter;
struct filter_chain; /* filter.c */

/* One step of a body on its way through the filters. */
struct piece {
    const struct slice *v;
    unsigned n;                    /* 0: no bytes */
    bool end;                      /* nothing comes after it */
    const struct fields *trailers; /* with end; NULL: none */
};

/* One filter in one request. */
struct filter_use {
    const struct filter *filter;
    struct req *req;
    void *state;                      /* the filter's own */
    struct filter_use *outer, *inner; /* towards the client, towards the handler; NULL: the last */
};

/*
 * Any but wanted may be NULL. A body callback replaces what is in the piece: slices of its own live
 * until its next call in the same direction, those that came in pass on as they are. An error that
 * it returns fails the request.
 */
struct filter {
    const char *name;
    bool (*wanted)(const struct req *r); /* the request is routed: is the filter for it? */
    /* May change the request's head (and then sets body_length), or fail the request. */
    void (*begin)(struct filter_use *u);
    const char *(*request_body)(struct filter_use *u, struct piece *p)MUST_USE;
    /*
     * req->answer is what the next one shall see; who changes the body's size sets the length too.
     * Where *end is set the handler sends no body: clearing it makes a last, empty piece come.
     */
    void (*answer_head)(struct filter_use *u, bool *end);
    const char *(*answer_body)(struct filter_use *u, struct piece *p)MUST_USE;
    /*
     * The request failed (req_fail). True: it ends in order all the same, with *last, and before
     * the answer's head (req->state) with the head that the filter put into req->answer. False: the
     * judge goes on, to an error page or a reset.
     */
    bool (*fail)(struct filter_use *u, unsigned status, const char *err, struct piece *last);
    void (*close)(struct filter_use *u); /* lets go of what is not in the request's arena */
};

/* Out of the chain from now on, close included. From the filter's own callbacks too. */
void filter_leave(struct filter_use *u);

/* ---- for req.c ---- */
bool filters_begin(struct req *r); /* false: one of them failed the request */
/* One more, the handler's new neighbour, and its begin. */
void filter_add(struct req *r, const struct filter *f);
/* Those behind `from` on the way to the client; NULL: all, it comes from the handler. */
void filters_answer_head(struct req *r, struct filter_use *from, bool *end);
const char *filters_answer_body(struct req *r, struct filter_use *from, struct piece *p) MUST_USE;
const char *filters_request_body(struct req *r, struct piece *p) MUST_USE;
/* The filter that ends the failed request in order; NULL: none does. */
struct filter_use *filters_fail(struct req *r, unsigned status, const char *err,
                                struct piece *last);
void filters_again(struct req *r); /* a send came to nothing: req_proceed at the turn's end */
void filters_close(struct req *r); /* fine without filters */

#endif
