/*
 * output.h - what an instance prints, line by line into the log. Bounded a line and a turn, so that
 * a backend that prints without end costs itself and not the master.
 */
#ifndef HG_OUTPUT_H
#define HG_OUTPUT_H

#include "base/loop.h"

#define OUTPUT_PIECE    2000 /* bytes of one log event; a longer line goes on in the next */
#define OUTPUT_LINE_MAX 4096 /* the rest of a line is dropped and counted */

/* Embedded in the instance, zeroed. */
struct output {
    int fd;
    bool open;
    struct event ev;
    const char *service, *stream; /* borrowed */
    uint64_t instance;
    pid_t pid;
    size_t n;       /* bytes of piece[] */
    size_t cost;    /* of piece[] when the log escapes it */
    size_t line;    /* bytes of this line that were taken */
    uint64_t cut;   /* bytes of this line that were dropped */
    char last[200]; /* the beginning of the last line that was not empty */
    char piece[OUTPUT_PIECE + 4];
};

/* Who else gets the lines that go into the log, once for the process; NULL: nobody. */
void output_tell(void (*on_line)(void *ctx, const char *service, uint64_t instance,
                                 const char *stream, struct str text),
                 void *ctx);
/* fd: the reading end of a pipe, non-blocking; owned from now on. */
void output_open(struct output *o, int fd, const char *service, uint64_t instance, pid_t pid,
                 const char *stream);
/* Reads what is there now, at most a few pipes full: before the exit of its writer is logged. */
void output_flush(struct output *o);
/* output_flush, the line without an end too, and close. Fine when it is not open. */
void output_close(struct output *o);

#endif
