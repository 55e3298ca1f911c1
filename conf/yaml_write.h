/*
 * yaml_write.h - the other direction: a text as a scalar that reads back as that text, wherever in
 * a configuration it is put. Nothing else of YAML is written by headgate.
 */
#ifndef HG_YAML_WRITE_H
#define HG_YAML_WRITE_H

#include "base/arena.h"

/*
 * The text plain where that is safe in any context, else in double quotes on one line; in `a`,
 * NUL-terminated. STR_NULL when YAML cannot hold it: NUL bytes, or no UTF-8.
 */
struct str yaml_scalar(struct arena *a, struct str text) MUST_USE;
/* The same for a value in which `$` means nothing: written `$$`, as the configuration wants it. */
struct str yaml_scalar_literal(struct arena *a, struct str text) MUST_USE;

#endif
