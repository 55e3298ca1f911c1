/*
 * field_rules.h - the fields that the configuration sets and removes (headers, robots, HSTS), put
 * into practice on a head. Which head, and when, is req.c's and proxy.c's.
 */
#ifndef HG_FIELD_RULES_H
#define HG_FIELD_RULES_H

#include "conf/conf.h"
#include "proxy/http.h"

/* The rules' strings live as long as the configuration. `https`: how the client came. */
void field_rules_apply(const struct conf_fields *rules, bool https, struct arena *a,
                       struct fields *f);

#endif
