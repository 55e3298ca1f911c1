/*
 * access_log.h - one line a request, by the worker that answered it: JSON or the combined format,
 * as the request's configuration says. Lines are whole, at most 4,096 bytes, gathered and written
 * without ever blocking. Events of headgate itself are base/log.h's.
 */
#ifndef HG_ACCESS_LOG_H
#define HG_ACCESS_LOG_H

#include "base/base.h"
#include "proxy/req.h"

#define ACCESS_LINE_MAX 4096

/*
 * Lines go to fd from now on; what is gathered for the former one is written first. Takes over fd
 * and closes the former; -1: lines are dropped silently. Regular files are expected to be O_APPEND.
 */
void access_log_open(int fd);

/* Adds the line of a request that is over, unless its configuration says otherwise. */
void access_log_write(const struct req *r);

/* A connection of `streams` or of TLS passed on, when it is over. Texts may be empty. */
struct access_stream {
    struct str client, address, host; /* address: of the listener; host: what TLS named, <= 255 */
    struct str service, instance;
    struct str tls;               /* "TLSv1.3" where it was ended here */
    unsigned status;              /* as nginx's streams have it: 200, or 4xx and 5xx */
    uint64_t bytes_in, bytes_out; /* from the client, to it; TLS not counted */
    uint64_t us;                  /* how long it lasted */
    struct str error;             /* why it ended, when not in order: a constant */
};
void access_log_stream(const struct access_stream *s);
size_t access_stream_line(const struct access_stream *s, enum conf_access_format format,
                          char mem[static ACCESS_LINE_MAX]);

/* Writes what the reader takes now. Runs by itself within 100 ms; call it before the process ends.
 */
void access_log_flush(void);

/* The line alone, with its newline, for access_log_write and tests. mem: ACCESS_LINE_MAX bytes. */
size_t access_log_line(const struct req *r, enum conf_access_format format, bool query,
                       char mem[static ACCESS_LINE_MAX]);

#endif
