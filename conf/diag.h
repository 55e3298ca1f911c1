/*
 * diag.h - diagnostics of a configuration: collected, sorted by place, printed with excerpt, caret
 * and hint, all in one run. Codes are listed once, in the table of explain.c.
 */
#ifndef HG_DIAG_H
#define HG_DIAG_H

#include <stdio.h>

#include "base/arena.h"

struct diag_place {
    struct str file;    /* as shown to the user */
    unsigned line, col; /* from 1; 0: the whole file */
    unsigned len;       /* width of the caret line; 0: one */
};

enum diag_format { DIAG_TEXT, DIAG_SHORT, DIAG_JSON };

struct diags; /* holds copies of everything it is given, source lines too */
struct diags *diags_new(void);
void diags_free(struct diags **d);
unsigned diags_errors(const struct diags *d);
unsigned diags_warnings(const struct diags *d);
/* code "E003" (error) or "W001" (warning). Returns an id for diags_hint and diags_also. */
unsigned diags_add(struct diags *d, const char *code, struct diag_place at, const char *fmt, ...)
    PRINTF(4, 5);
void diags_hint(struct diags *d, unsigned id, const char *fmt, ...)
    PRINTF(3, 4); /* behind the carets */
void diags_note(struct diags *d, unsigned id, const char *fmt, ...)
    PRINTF(3, 4); /* "   = …" line */
void diags_also(struct diags *d, unsigned id, struct diag_place at,
                const char *label); /* second place */
/* Gives the text of a file for excerpts; copied. */
void diags_source(struct diags *d, struct str file, struct str text);
/* `colour`: ANSI. No last line is added; see diags_summary. */
void diags_print(const struct diags *d, enum diag_format f, bool colour, FILE *to);
/* "2 errors, 1 warning." or "conf/demo.yaml is fine." */
void diags_summary(const struct diags *d, FILE *to);

#endif
