/*
 * files_cond.h - conditional and range requests for a representation whose validators are known
 * (RFC 9110 13 and 14), and HTTP dates. Pure functions: no file is touched.
 */
#ifndef HG_FILES_COND_H
#define HG_FILES_COND_H

#include "proxy/http.h"

#define HTTP_DATE_MAX 30

/* IMF-fixdate (RFC 9110 5.6.7) of seconds since 1970, with a NUL; text in buf. */
struct str http_date_format(char buf[static HTTP_DATE_MAX], int64_t s);
/* Any of the three forms that a recipient must read. */
bool http_date_parse(struct str s, int64_t *out) MUST_USE;

struct files_validators {
    struct str etag; /* strong, with its quotes */
    int64_t mtime;   /* seconds since 1970 */
    uint64_t size;
};

enum files_verdict {
    FILES_WHOLE,        /* 200 */
    FILES_PART,         /* 206: *range */
    FILES_NOT_MODIFIED, /* 304 */
    FILES_PRECONDITION, /* 412 */
    FILES_UNSATISFIABLE /* 416 */
};

struct files_range {
    uint64_t from, n; /* bytes */
};

/*
 * Judges a GET or HEAD in the order of RFC 9110 13.2.2. Several ranges in one request are answered
 * with the whole (14.2 allows it), as is a Range that cannot be read. `now`: seconds since 1970.
 */
enum files_verdict files_judge(const struct fields *request, enum http_method method,
                               const struct files_validators *v, int64_t now,
                               struct files_range *range);

#endif
