/*
 * fetch.h - one HTTP exchange with a server elsewhere, by libcurl on the loop: bounded in bytes and
 * time, never redirected, no proxy but the environment's. For the agent (ACME, polling); what an
 * answer means is the caller's.
 */
#ifndef HG_FETCH_H
#define HG_FETCH_H

#include "base/arena.h"

#define FETCH_HEADERS_MAX 64
#define FETCH_HEAD_MAX    (32 * 1024) /* bytes of an answer's head */

/* All borrowed until fetch_start returns. */
struct fetch_spec {
    const char *method; /* "GET", "HEAD", "POST" */
    const char *url;    /* https:// only, unless `plain` */
    bool plain;         /* http:// too */
    struct str body;
    const char *content_type; /* of the body; NULL: none */
    const char *accept;       /* NULL: anything */
    struct str ca_pem;        /* whom to trust; empty: the system's CAs */
    size_t max_body;          /* bytes; a longer answer is an error */
    uint64_t timeout_ms;      /* for all of it */
};

/* Borrowed by the callback. */
struct fetch_answer {
    const char *err; /* NULL: there is a whole answer; else a sentence: "cannot connect to …" */
    bool too_large;  /* err is about its size */
    unsigned status;
    struct str body;
    struct fetch_header {
        struct str name, value;
    } headers[FETCH_HEADERS_MAX];
    unsigned n_headers;
};
/* The first one of that name; empty when there is none. */
struct str fetch_header(const struct fetch_answer *a, const char *name);

struct fetch;
/* Never calls `done` before it returned. NULL is never returned: what fails at once fails later. */
struct fetch *fetch_start(const struct fetch_spec *spec,
                          void (*done)(void *ctx, const struct fetch_answer *a), void *ctx);
void fetch_cancel(struct fetch **f); /* `done` is not called any more; fine on NULL */
/* Before the sandbox closes: what libcurl and its TLS read but once. Idempotent. */
const char *fetch_setup(void) MUST_USE;
void fetch_fini(void); /* for orderly ends: no fetch may be under way */

#endif
