/*
 * mdoc.h - text for generated manual pages. Which text is the tables' (schema_mdoc.c and others).
 */
#ifndef HG_CONF_MDOC_H
#define HG_CONF_MDOC_H

#include <stdio.h>

#include "base/base.h"

/*
 * Text for mdoc, without its last newline: a new sentence is a new line, lines are short, and what
 * has a meaning to roff is escaped.
 */
void mdoc_text(FILE *f, const char *text);

#endif
