/*
 * json.h - what jansson lacks: strings from bytes that come from anywhere.
 */
#ifndef HG_JSON_H
#define HG_JSON_H

#include "base/base.h"

#include <jansson.h>

/* Never NULL: bytes that are no UTF-8 become U+FFFD, one by one; the rest stays. */
json_t *json_text(struct str s) MUST_USE;

#endif
