/*
 * mdoc.c - words for the manual pages that are made from tables: escaped, in short lines.
 */
#include "conf/mdoc.h"

static void write_escaped(FILE *f, struct str word, bool first)
{
    if (first && word.n && (word.p[0] == '.' || word.p[0] == '\''))
        fputs("\\&", f);
    for (size_t i = 0; i < word.n; i++)
        if (word.p[i] == '\\')
            fputs("\\e", f);
        else if (word.p[i] == '`')
            fputs("\\(ga", f);
        else if (word.p[i] == '\'')
            fputs("\\(aq", f);
        else
            fputc(word.p[i], f);
}

void mdoc_text(FILE *f, const char *text)
{
    struct str rest = str_of(text), word;
    size_t col = 0;
    bool sentence_ended = false;
    while (str_split(&rest, ' ', &word)) {
        if (col && (sentence_ended || col + 1 + word.n > 72)) {
            fputc('\n', f);
            col = 0;
        } else if (col) {
            fputc(' ', f);
        }
        write_escaped(f, word, col == 0);
        col += word.n + 1;
        sentence_ended = str_ends(word, STR("."));
    }
}
