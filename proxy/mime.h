/*
 * mime.h - media types of files, by the end of their names. Nothing is read from the system: the
 * same file has the same type on every box.
 */
#ifndef HG_MIME_H
#define HG_MIME_H

#include "base/base.h"

/* "a/b.HTML" → "text/html; charset=utf-8"; a constant. Unknown: "application/octet-stream". */
struct str mime_type(struct str name);

#endif
