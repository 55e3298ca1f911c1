/*
 * compress.h - the filter that compresses answers on their way to the client.
 */
#ifndef HG_COMPRESS_H
#define HG_COMPRESS_H

#include "proxy/filter.h"

extern const struct filter compress_filter;

#endif
