/*
 * cli_show.h - the pieces that `headgate status` and `headgate certs` are printed with: colours,
 * times in words, members of what the server said.
 */
#ifndef HG_CLI_SHOW_H
#define HG_CLI_SHOW_H

#include "base/base.h" /* first: it says which C library we want */

#include <jansson.h>
#include <stdio.h>

#define BOLD   "1"
#define DIM    "2"
#define GREEN  "32"
#define YELLOW "33"
#define RED    "31"

void show_colours(bool on); /* from now on */
void show_paint(FILE *f, const char *code, const char *text);
void show_title(FILE *f, const char *text); /* after an empty line */

const char *show_text(const json_t *j, const char *key); /* "" when there is none */
long long show_number(const json_t *j, const char *key); /* 0 when there is none */

/* "3d 4h", "5m 2s": two units are enough. */
const char *show_span(long long s, char *buf, size_t n);
/* "59 days", "1 hour", "40 seconds": the largest unit alone. */
const char *show_span_words(long long s, char *buf, size_t n);
/* "2026-11-27 12:00:00", local time. */
const char *show_when(long long at, char *buf, size_t n);

/* What is printed for people: spaces at the ends of lines go (columns are padded). */
void show_without_padding(struct str text, FILE *to);

#endif
