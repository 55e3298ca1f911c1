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

/* Writes what the reader takes now. Runs by itself within 100 ms; call it before the process ends.
 */
void access_log_flush(void);

/* The line alone, with its newline, for access_log_write and tests. mem: ACCESS_LINE_MAX bytes. */
size_t access_log_line(const struct req *r, enum conf_access_format format, bool query,
                       char mem[static ACCESS_LINE_MAX]);

#endif
