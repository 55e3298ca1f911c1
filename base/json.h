/*
 * json.h - what jansson lacks: strings from bytes that come from anywhere, bounds for what others
 * send.
 */
#ifndef HG_JSON_H
#define HG_JSON_H

#include "base/base.h"

#include <jansson.h>

/* Never NULL: bytes that are no UTF-8 become U+FFFD, one by one; the rest stays. */
json_t *json_text(struct str s) MUST_USE;
/* A string's bytes, borrowed; STR_NULL for what is none, NULL too. */
struct str json_str(const json_t *string);
/* Wall clock s; null for 0: never, or unknown. */
json_t *json_time(int64_t at) MUST_USE;
/*
 * An object from somebody who may mean ill: no key twice, nested at most `depth` deep (jansson
 * recurses up to 2,048 times). NULL: it is none, and *why says so in words, valid till the next
 * call.
 */
json_t *json_read_object(struct str text, unsigned depth, const char **why) MUST_USE;

#endif
