/*
 * fake_req.h - a request without a connection, for tests of handlers: a codec that keeps what it is
 * told. One at a time. Not for tests of codecs.
 */
#ifndef HG_FAKE_REQ_H
#define HG_FAKE_REQ_H

#include "base/base.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/loop.h"
#include "proxy/client.h"
#include "proxy/filter.h"
#include "proxy/req.h"

static struct {
    struct req r;
    struct client client;
    struct snapshot snap;
    struct conf conf;
    struct conf_site site;
    struct conf_route route;
    char *body;
    size_t n;
    unsigned heads, pieces;
    bool head_ended, ended, was_reset;
    const struct fields *trailers;
    const char *reset_why;
} fake;

static void fake_head(struct req *r, bool end)
{
    (void)r;
    fake.heads++;
    fake.head_ended = end;
    fake.ended = end;
}
static void fake_data(struct req *r, const struct slice *v, unsigned n, bool end)
{
    (void)r;
    for (unsigned i = 0; i < n; i++) {
        fake.body = realloc(fake.body, fake.n + v[i].n + 1);
        ASSERT(fake.body);
        memcpy(fake.body + fake.n, v[i].p, v[i].n);
        fake.n += v[i].n;
        fake.body[fake.n] = '\0';
    }
    fake.pieces++;
    fake.ended = end;
}
static void fake_trailers(struct req *r, const struct fields *t)
{
    (void)r;
    fake.trailers = t;
    fake.ended = true;
}
static void fake_info(struct req *r, unsigned status)
{
    (void)r;
    (void)status;
}
static void fake_want_body(struct req *r, bool on)
{
    (void)r;
    (void)on;
}
static void fake_reset(struct req *r, const char *err)
{
    (void)r;
    fake.was_reset = true;
    fake.reset_why = err;
}
static const struct codec fake_codec = {
    .name = "HTTP/1.1",
    .head = fake_head,
    .data = fake_data,
    .trailers = fake_trailers,
    .info = fake_info,
    .want_body = fake_want_body,
    .reset = fake_reset,
};

/* What the last request left goes; conf, site and route stay as the test made them. */
UNUSED static void fake_end(void)
{
    if (fake.r.arena) {
        if (fake.r.handler && fake.r.handler->cancel)
            fake.r.handler->cancel(&fake.r);
        filters_close(&fake.r);
        arena_free(&fake.r.arena);
    }
    free(fake.body);
    fake.body = NULL;
    fake.n = 0;
    fake.heads = fake.pieces = 0;
    fake.head_ended = fake.ended = fake.was_reset = false;
    fake.trailers = NULL;
    memset(&fake.r, 0, sizeof(fake.r));
}

/* A request for `path` (normalised) whose route's path is fake.route.path. */
UNUSED static struct req *fake_begin(enum http_method method, const char *path, const char *query)
{
    fake_end();
    struct req *r = &fake.r;
    r->arena = r->home = arena_new(4096);
    r->client = &fake.client;
    r->codec = &fake_codec;
    r->snap = &fake.snap;
    fake.snap.conf = &fake.conf;
    r->state = REQ_BEGUN;
    r->id = 1;
    r->method = method;
    r->method_text = method == METHOD_GET    ? STR("GET")
                     : method == METHOD_HEAD ? STR("HEAD")
                                             : STR("POST");
    r->ip.family = NET_IP4;
    r->ip_text = STR("192.0.2.1");
    r->scheme = STR("https");
    r->authority = r->host = STR("www.example.org");
    r->target = r->path = str_of(path);
    r->query = str_of(query);
    r->body_ended = true;
    r->site = &fake.site;
    r->route = &fake.route;
    r->rest = str_sub(r->path, fake.route.path.n, r->path.n);
    r->answer.length = REQ_LENGTH_UNKNOWN;
    return r;
}

UNUSED static void fake_field(enum field_token t, const char *value)
{
    fields_add_token(fake.r.arena, &fake.r.fields, t, str_of(value));
}

/* Starts the handler and asks for more until the answer is over. */
UNUSED static void fake_run(const struct handler *h)
{
    fake.r.handler = h;
    h->start(&fake.r);
    while (!req_over(&fake.r) && fake.r.send_pending)
        req_proceed(&fake.r);
}

/* Value of an answer's field, NUL-terminated; NULL when it is not there. */
UNUSED static const char *fake_answer(const char *name)
{
    const struct fields *f = &fake.r.answer.fields;
    for (unsigned i = 0; i < f->n; i++)
        if (str_eq(f->v[i].name, str_of(name)))
            return arena_strz(fake.r.arena, f->v[i].value);
    return NULL;
}

#endif
