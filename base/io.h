/*
 * io.h - one connected stream socket, plain or TLS, with bounded queues. TLS runs on our own BIO:
 * one recv a wake-up, ciphertext queued, one writev at the turn's end. Knows no protocol above.
 *
 * Reading is paused with a named reason and goes on when none is left. What one recv brought is
 * always delivered whole, so a reader that pauses must take up to IO_READ_MAX bytes more.
 */
#ifndef HG_IO_H
#define HG_IO_H

#include <openssl/ssl.h>
#include <sys/socket.h>

#include "base/loop.h"
#include "base/pace.h"
#include "base/slab.h"

#define IO_READ_MAX SLAB_LARGE
#define IO_TURN_MAX                                                              \
    (64 * 1024) /* plaintext a connection emits a turn before others have theirs \
                 */

enum io_state { IO_CLOSED, IO_CONNECTING, IO_HANDSHAKE, IO_OPEN };
enum io_pause { IO_PAUSE_PEER = 1, IO_PAUSE_REQUEST = 2, IO_PAUSE_BUDGET = 4, IO_PAUSE_HOLD = 8 };

struct io;
/* Any of these may io_close() the io; its memory must outlive the turn (loop_free_later). */
struct io_ops {
    void (*on_open)(struct io *);                    /* connected, handshake done; NULL is fine */
    void (*on_read)(struct io *, struct slice data); /* plaintext; never empty */
    void (*on_eof)(struct io *);   /* FIN after whole TLS records, or close_notify */
    void (*on_drain)(struct io *); /* once after io_want_drain: the queue is empty */
    void (*on_error)(struct io *, const char *err); /* dead; io_close() it */
};

/* Embedded in its owner; zero it before io_init. */
struct io {
    const struct io_ops *ops;
    SSL *ssl; /* NULL: plain */
    int fd;
    enum io_state state;
    unsigned paused; /* bits of enum io_pause */
    size_t read_max; /* bytes that one on_read may bring; 0: IO_READ_MAX. Plain sockets */
    bool reading;    /* the READ event is added */
    bool writing;    /* the WRITE event is added */
    bool drain_wanted;
    bool shut; /* io_shutdown was called: FIN after the queue */
    bool fin_sent;
    bool eof_seen;
    struct event ev_read, ev_write;
    struct turn_task flush;
    struct sliceq out;   /* bytes for the wire (ciphertext with TLS) */
    struct sliceq early; /* TLS: plaintext that waits for the handshake's end */
    struct slab *gather; /* TLS: plaintext of this turn, not yet a record */
    size_t burst;        /* plaintext since the last idle second: sizes TLS records */
    size_t turn_out;     /* plaintext of the turn `turn` */
    uint64_t turn;
    uint64_t last_in, last_out;   /* loop_now_ms of the last progress, for gap timeouts */
    uint64_t bytes_in, bytes_out; /* on the wire */
    struct pace take;             /* of the peer, while the socket takes no more of ours */
    uint64_t taken;               /* bytes of ours that had arrived there at the last look */
    const char *error;
};

/* fd: connected (accepted), non-blocking; owned from now on. Reading starts at once. */
void io_init(struct io *io, int fd, const struct io_ops *ops);
/*
 * Takes the SSL (server or client method chosen by the caller) and does the handshake first. A
 * client's comes right after io_connect; what it writes meanwhile follows the handshake.
 */
void io_start_tls(struct io *io, SSL *ssl);
/* Non-blocking connect; on_open or on_error follows, never from inside this call. */
void io_connect(struct io *io, const struct sockaddr *addr, socklen_t len,
                const struct io_ops *ops);
/*
 * The kernel asks a silent peer whether it still lives, and after about two minutes without an
 * answer it is an error. For connections that no deadline watches.
 */
void io_keepalive(struct io *io);
/* Right after io_connect: bytes that go out first, in plain, whatever TLS follows. */
void io_write_before_tls(struct io *io, struct str bytes);
/* Queues bytes; sent at the end of the turn. Never fails: errors come by on_error. */
void io_write(struct io *io, const void *p, size_t n);
/* The same; a slice of 4 KiB or more is kept (plain) or encrypted in place (TLS), not copied. */
void io_write_slice(struct io *io, struct slice s);
/* on_drain once, when everything queued is sent; at most IO_TURN_MAX a turn passes between. */
void io_want_drain(struct io *io);
static inline size_t io_queued(const struct io *io)
{
    return io->out.bytes + io->early.bytes + (io->gather ? io->gather->used : 0);
}
/*
 * ms until the peer took nothing of what waits for it for `gap` ms (0: it may), or is by more than
 * that behind `rate` (bytes a second; 0: any); 0: it is, with *slow true when it is the rate.
 * UINT64_MAX: nothing waits, or it may take its time. What counts is what has arrived there, not
 * what the kernel took from us. To be called now and then while something waits.
 */
uint64_t io_take_left(struct io *io, uint64_t gap, uint64_t rate, bool *slow);
/* loop_now_ms of the last bytes of ours that arrived there, as far as calls of this can know. */
uint64_t io_last_taken(struct io *io);
void io_pause(struct io *io, enum io_pause why);
void io_resume(struct io *io, enum io_pause why);
/*
 * For on_error: sending failed, but what the other side said before it broke off may
 * still lie there. Delivers up to IO_READ_MAX of it by on_read.
 */
void io_read_rest(struct io *io);
/* After what is queued: close_notify and FIN; reading goes on. */
void io_shutdown(struct io *io);
/* At once: events gone, fd closed (RST when `reset`), queues dropped, SSL freed. Twice is fine. */
void io_close(struct io *io);
void io_reset(struct io *io);
/* Lets go of the socket, with nothing queued: it is the caller's, the io is closed. */
int io_take(struct io *io);
/* TLS: what was read from the socket before io_start_tls, at most IO_FEED_MAX bytes. */
#define IO_FEED_MAX ((size_t)48 * 1024)
void io_feed(struct io *io, struct str cipher);
/* Prepares the process: BIO method, read buffers. */
void io_setup(void);

#endif
