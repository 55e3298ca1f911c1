/*
 * supervise.h - supervision of the services' instances, in the master: start, ready, watch, restart
 * with backoff, stop. A table of state × event (supervise.c). Knows no HTTP server and no worker:
 * who wants to know an instance's state gives a listener. The processes are watched by pidfd and
 * reaped here, so nobody else may wait for them; their orphans that come to a master that is
 * PR_SET_CHILD_SUBREAPER are killed here and reaped there (proc_reap_strangers). When this process
 * is killed they go on running, and the next one adopts them (record.h).
 */
#ifndef HG_SUPERVISE_H
#define HG_SUPERVISE_H

#include <jansson.h>

#include "base/arena.h"
#include "channels/lines.h"
#include "conf/conf.h"

enum inst_state {
    INST_BACKOFF,  /* waits for its next start */
    INST_STARTING, /* the process runs, not ready yet */
    INST_READY,
    INST_UNREADY,  /* runs, but its port stopped answering: no new requests */
    INST_DRAINING, /* no new requests; stopped when the workers have none left or time is up */
    INST_STOPPING, /* signal sent, kill follows */
    INST_GONE
};

struct supervisor;

/* Where an instance is reached. All of it is borrowed for the call. */
struct inst_address {
    const char *text;               /* "127.0.0.1:PORT" or "unix:/path" */
    const struct conf_backend *url; /* what a url service's configuration says of it, else NULL */
    const struct conf_port *ports;  /* its further ports of 127.0.0.1, all with numbers */
    unsigned n_ports;
};

/*
 * Called on every change that others must know. The
 * states told are READY, UNREADY, DRAINING (also before a stop without a drain) and GONE, which
 * comes when the process has ended; each start has an id of its own. The callee must not call back.
 */
struct supervisor_ops {
    void (*on_instance)(void *ctx, uint64_t id, const char *service, enum inst_state state,
                        const struct inst_address *at);
    /*
     * strategy: handover. on: no new request to the service, streams end; supervisor_held follows
     * when none is in flight. off: as before. The callee must not call back. NULL: nobody to tell.
     */
    void (*on_hold)(void *ctx, const char *service, bool on);
    /*
     * The listening socket that an instance is handed (listen: fd) is kept for the next master
     * under the instance's id; fd -1: not any more. The fd stays the supervisor's. NULL: nobody
     * keeps it.
     */
    void (*on_socket)(void *ctx, uint64_t id, int fd);
    /* What the master before left under this id, the supervisor's from now on, or -1. */
    int (*kept_socket)(void *ctx, uint64_t id);
    void (*on_all_stopped)(
        void *ctx); /* after supervisor_stop, from the loop; may free the supervisor */
};

struct supervisor *supervisor_new(const struct supervisor_ops *ops, void *ctx, const char *state,
                                  const char *runtime);
/*
 * Takes over the instances that a master that was killed left running; once, before the first
 * supervisor_apply of the same configuration, whose rules decide which of them stay. They keep
 * their ids; new ones are larger.
 */
void supervisor_adopt(struct supervisor *s, struct conf *c);
/* No new instance gets an id up to `last`. */
void supervisor_skip_ids(struct supervisor *s, uint64_t last);
/*
 * Makes what runs match the config: new services start, gone ones drain and stop, changed ones are
 * started anew (the new instance first, the old one drains when it is ready), the others are left
 * alone. url services have an instance for each address, ready until looks say otherwise (where
 * the config asks for looks). The conf is referenced.
 */
void supervisor_apply(struct supervisor *s, struct conf *c);
/*
 * What a name in `url` stands for from now on: numbers, each ended by NUL; or why that is not known
 * (then the last ones stay). Addresses that went drain.
 */
void supervisor_resolved(struct supervisor *s, struct str name, struct str addrs, const char *err);
bool supervisor_knows(const struct supervisor *s, uint64_t id);
/* The name in `url` that led to the instance; empty: none. */
struct str supervisor_name_of(const struct supervisor *s, uint64_t id);
/* Ends everything: signal, wait, kill of the whole groups; then on_all_stopped. */
void supervisor_stop(struct supervisor *s);
void supervisor_free(struct supervisor **s);
/* No worker has a request in flight for this draining instance: it is stopped now, not later. */
void supervisor_instance_idle(struct supervisor *s, uint64_t id);
/* No worker has a request in flight for this service, which is held. */
void supervisor_held(struct supervisor *s, struct str service);
/*
 * `headgate restart CHANNEL/SERVICE`: a new instance, and when it is ready the old one drains (a
 * fixed address: the old one stops first). Returns what is wrong with the name (may be in a), or
 * NULL.
 */
const char *supervisor_restart(struct supervisor *s, struct arena *a, struct str service) MUST_USE;
/* Calls on_instance for each one that workers should know (a new worker needs them all). */
void supervisor_replay(struct supervisor *s,
                       void (*each)(void *ctx, uint64_t id, const char *service, enum inst_state,
                                    const struct inst_address *at),
                       void *ctx);
/* … and on_hold for each service that is held. */
void supervisor_replay_holds(struct supervisor *s,
                             void (*each)(void *ctx, const char *service, bool on), void *ctx);
/* True once no instance is INST_STARTING for the first time (each is ready, or failed at least
 * once). */
bool supervisor_settled(const struct supervisor *s);
/*
 * For each service: how many instances are in each state, and how many restarts there were since
 * the last call.
 */
void supervisor_count(struct supervisor *s,
                      void (*each)(void *ctx, const char *service, const unsigned states[INST_GONE],
                                   uint64_t restarts),
                      void *ctx);
/* Who reads what services print. Embed it, zeroed but for `of` and `on_line`. */
struct log_reader {
    struct list link;
    struct str of; /* "beta" (all its services) or "beta/api" */
    void (*on_line)(struct log_reader *r, const struct line *line); /* must not call back */
};
/*
 * `headgate logs`: on_line for the last `n` lines, up to 4 MiB of text, oldest first, from inside
 * this call; with `follow` for each later one too, until supervisor_logs_leave. Returns what is
 * wrong with the name (in a).
 */
const char *supervisor_logs(struct supervisor *s, struct arena *a, struct log_reader *r, unsigned n,
                            bool follow) MUST_USE;
void supervisor_logs_leave(struct log_reader *r);
json_t *supervisor_status(
    const struct supervisor *s); /* array of services with their instances; caller's */

#endif
