/*
 * h1_fields.h - inside the HTTP/1.1 parser: the field section (RFC 9112 5) as heads and trailers
 * have it, and what its fields say about framing, connection and host. Only h1_host_valid is for
 * HTTP/2 too.
 */
#ifndef HG_H1_FIELDS_H
#define HG_H1_FIELDS_H

#include "proxy/h1_scan.h"

/*
 * The field lines of buf, which are the lines from `first` on without the last, empty one; `l` is
 * what h1_find_end made of them when it found their end, and [buf, buf + n) may be read. Names
 * become lower case in place. f->v has room for a field a line. NULL, or the rule that was broken.
 */
const char *h1_fields_parse(char *buf, size_t n, const struct h1_lines *l, unsigned first,
                            struct fields *f) MUST_USE;

/* What a head's fields say; the fields point into the array that was read. */
struct h1_facts {
    const struct field *host, *length, *coding, *upgrade;
    uint64_t content_length;
    bool chunked; /* Transfer-Encoding is there, and it is `chunked` */
    bool close, keep_alive, connection_upgrade;
    bool expect_continue, expect_other;
    bool te_trailers;
};

/*
 * Collects them, flags FIELD_HOP, refuses framing that two readers could understand in two ways.
 * NULL, or the rule that was broken.
 */
const char *h1_facts_of(struct fields *f, struct h1_facts *facts) MUST_USE;

/* A Host field's value: a DNS name, IPv4 or [IPv6] address and maybe a port, nothing more. */
bool h1_host_valid(struct str host);
/* The same host and port? The port left out is `default_port`. Both are valid. */
bool h1_host_same(struct str a, struct str b, struct str default_port);

#endif
