/*
 * stream.h - one connection of raw bytes: from a client to an instance of a service and back, TLS
 * ended here or none of our business. Knows no protocol inside: bytes go both ways as they come,
 * each side's end is passed on by itself.
 */
#ifndef HG_STREAM_H
#define HG_STREAM_H

#include "conf/conf.h"
#include "proxy/front.h"

/* A door's: a connection that a listener of `streams` accepted. */
void stream_enter(int fd, const struct front_pass *pass, const struct front_door *door);
/*
 * TLS that is passed on unopened to where `def` of the current configuration says: the client asked
 * for `host`, and `read` was read from it already.
 */
void stream_pass_on(int fd, const struct front_pass *pass, const struct front_door *door,
                    const struct conf_stream *def, struct str host, struct str read);
/* The time to drain is over: all of them end, each with its line in the access log. */
void streams_cut(void);

#endif
