/*
 * explain.h - the codes of diagnostics, for those who go through all of them (tests,
 * documentation).
 */
#ifndef HG_CONF_EXPLAIN_H
#define HG_CONF_EXPLAIN_H

/* The nth code, NULL behind the last one. */
const char *explain_code(unsigned n);
const char *explain_title(unsigned n);

#endif
