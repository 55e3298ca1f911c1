/*
 * forwarded.h - what proxies in front of headgate say about the client, what of it is believed
 * (`trusted_proxies`), and what headgate says in its turn to backends: X-Forwarded-For, -Proto,
 * -Host, -Port and Forwarded (RFC 7239).
 */
#ifndef HG_FORWARDED_H
#define HG_FORWARDED_H

#include "proxy/req.h"

/*
 * The first step of a request: r->ip, r->ip_text, r->scheme and what is said of host and port are
 * those of the client, by the word of the connection's peer when that is a trusted one.
 */
void step_forwarded(struct req *r);
/* Is it one of the fields that are written anew, whatever came? */
bool forwarded_replaces(enum field_token t);
/* Adds them for a backend. */
void forwarded_add(const struct req *r, struct fields *to);

#endif
