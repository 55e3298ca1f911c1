/*
 * h2_memory.h - memory for nghttp2: a few sizes, recycled by the process, and counted for the
 * session that has it. A request takes and gives back a dozen such pieces. The frame buffer, the
 * one large piece of a session, is shared by all.
 */
#ifndef HG_H2_MEMORY_H
#define HG_H2_MEMORY_H

#include <nghttp2/nghttp2.h>

#include "base/base.h"

struct h2_memory {
    size_t bytes; /* that the session has, without the shared frame buffer */
    bool opening; /* the session is being made: its frame buffer is the process's */
    nghttp2_mem hooks;
};

/*
 * A session in a process that has many of them: `session` becomes one, as by
 * nghttp2_session_server_new3. `m` must outlive it.
 *
 * A session makes each frame that it sends in a buffer of 16 KiB, which is more than all else that
 * an idle connection needs. What lies there is of use within one call of
 * nghttp2_session_mem_send only, as long as the caller takes the bytes at once and no
 * send_data_callback answers NGHTTP2_ERR_WOULDBLOCK or NGHTTP2_ERR_PAUSE: so all sessions of the
 * process have one such buffer.
 */
int h2_memory_session(struct h2_memory *m, nghttp2_session **session,
                      const nghttp2_session_callbacks *callbacks, void *user,
                      const nghttp2_option *options) MUST_USE;

#endif
