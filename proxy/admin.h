/*
 * admin.h - the admin socket: newline-delimited JSON over a Unix stream socket. A request is one
 * object with "verb", an answer one object with "status" (the exit status of the command line) and
 * "text" for people, more by verb. One request at a time a connection. Both ends are here; what the
 * verbs do is the master's, how answers look the command line's.
 */
#ifndef HG_ADMIN_H
#define HG_ADMIN_H

#include <jansson.h>
#include <sys/types.h>

#include "base/arena.h"

/* Exit statuses of the command line, as CONFIG.md has them. */
enum admin_status {
    ADMIN_FINE = 0,
    ADMIN_FAILED = 1, /* the thing asked for failed */
    ADMIN_USAGE = 2,
    ADMIN_NO_SERVER = 3,
    ADMIN_REFUSED = 4, /* the server would not */
};

/* ---- the master's end ---- */

struct admin;
struct admin_conn;

struct admin_ops {
    /* `request` is borrowed. Exactly one admin_reply must follow, now or later. */
    void (*on_request)(void *ctx, struct admin_conn *c, const char *verb, json_t *request);
    /* All that waited for it is out, after admin_stream had to refuse a line. */
    void (*on_room)(void *ctx, struct admin_conn *c);
    /* The connection is gone; no reply may come any more. */
    void (*on_closed)(void *ctx, struct admin_conn *c);
};

/*
 * Binds and listens; a socket file that nobody serves is replaced (the caller holds the server's
 * lock). `group` (gid_t)-1: as it is. NULL and a sentence (in a) in *err.
 */
struct admin *admin_open(struct arena *a, const char *path, mode_t mode, gid_t group,
                         const struct admin_ops *ops, void *ctx, const char **err);
/* `more` (stolen, may be NULL): further members of the answer. */
void admin_reply(struct admin_conn *c, enum admin_status status, struct str text, json_t *more);
/*
 * Behind an answer, one more line for who follows something. False when the other end is so slow
 * that too much waits for it already: then it is not sent, and on_room follows. `object` is stolen
 * either way.
 */
bool admin_stream(struct admin_conn *c, json_t *object) MUST_USE;
/* The last words of a process that ends now: written at once, without the loop. */
void admin_reply_last(struct admin_conn *c, enum admin_status status, struct str text);
/* Takes no connection any more; the ones there are stay, for their last answers. */
void admin_stop_listening(struct admin *s);
void admin_close(struct admin **s);

/* ---- the command line's end ---- */

/*
 * Sends one request and waits for its answer, with no limit of time: a reload takes as long as it
 * takes; an answer has at most 64 MiB. NULL and a sentence (in a) in *err when there is no server,
 * it went away, or what it said is no answer.
 * `till_exit`: after the answer, waits until the server's process is gone.
 */
json_t *admin_call(struct arena *a, const char *path, json_t *request, bool till_exit,
                   const char **err);
/*
 * The same, and then each further line of the server by each(), which owns it and returns false to
 * go; the first one is the answer. NULL when each() went or the server ended after it; else why
 * there was no answer, or no line.
 */
const char *admin_follow(struct arena *a, const char *path, json_t *request,
                         bool (*each)(void *ctx, json_t *line), void *ctx) MUST_USE;

#endif
