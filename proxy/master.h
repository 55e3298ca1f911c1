/*
 * master.h - what the master's files share: its state, its slots of workers, its agent, its reload.
 * For proxy/master*.c only. Who does what:
 *
 *   master.c          start, signals, stop: the life of the whole
 *   master_workers.c  slots: a table of state × event; lending of listeners
 *   master_messages.c what workers are told and what they say
 *   master_orphans.c  workers that outlived the master before us
 *   master_store.c    listening sockets, of services too, in the service manager's store
 *   master_idle.c     when a draining instance, or a held service, has no request left
 *   master_eject.c    which instances failed the workers
 *   master_agent.c    the agent and the certificates that came from it
 *   master_challenges.c  how names are proven: shown by all workers, or by acme.dns_hook
 *   master_cert_state.c  how it stands with certificates by ACME
 *   master_ask.c      what the agent is asked by `headgate certs`
 *   master_reload.c   one reload after the other, step by step
 *   master_certs.c    the files of tls.certificates: read again when they change
 *   master_diff.c     what a reload changed, in words
 *   master_admin.c    verbs of the admin socket; status
 *   master_metrics.c  what workers tell monitoring of the master
 *   master_logs.c     the verb logs
 *   master_files.c    folders, lock, access log
 */
#ifndef HG_MASTER_H
#define HG_MASTER_H

#include "base/base.h" /* first: it says which C library we want */

#include <jansson.h>

#include "base/loop.h"
#include "base/msg.h"
#include "channels/supervise.h"
#include "proxy/admin.h"
#include "proxy/listeners.h"
#include "proxy/load.h"
#include "proxy/roles.h"

/* Half of the numbers stay free for those who drain while their successors serve already. */
#define SLOTS_MAX (ROLE_WORKERS_MAX / 2)

enum master_state { MASTER_STARTING, MASTER_SERVING, MASTER_STOPPING };
enum stop_step { STOP_NONE, STOP_WORKERS, STOP_SERVICES, STOP_AGENT, STOP_DONE };

/* ---- workers ---- */

#define RESCUE_NAME 48 /* bytes: where the next master finds a worker (master_orphans.c) */

enum worker_state { WORKER_STARTING, WORKER_SERVING, WORKER_DRAINING };

struct worker {
    struct list link;  /* master.workers */
    struct slot *slot; /* NULL when it drains */
    unsigned num;      /* among all that live: its stats slot and name */
    enum worker_state state;
    pid_t pid;
    struct msg_peer *peer; /* NULL after it closed its end */
    uint64_t sent;         /* generation of the last CONFIG */
    uint64_t answered;     /* … of the last CONFIG_DONE */
    bool refused;          /* … which said no */
    char refused_why[256];
    struct root_id *roots; /* what its sandbox lets it see */
    unsigned n_roots;
    unsigned drops_due; /* LISTENER_DROPs not acknowledged */
    unsigned holds;     /* listeners that it accepts on */
    uint64_t started_ms;
    struct deadline limit; /* for its start, or its drain: then it is killed */
    char rescue[RESCUE_NAME];
};

/* Some of those that live, by num. */
struct worker_set {
    uint64_t bits[ROLE_WORKERS_MAX / 64];
};
static inline void worker_set_add(struct worker_set *s, const struct worker *w)
{
    s->bits[w->num / 64] |= UINT64_C(1) << (w->num % 64);
}
static inline void worker_set_remove(struct worker_set *s, const struct worker *w)
{
    s->bits[w->num / 64] &= ~(UINT64_C(1) << (w->num % 64));
}
static inline unsigned worker_set_count(const struct worker_set *s)
{
    int n = 0;
    for (size_t i = 0; i < ARRAY_LEN(s->bits); i++)
        n += __builtin_popcountll(s->bits[i]);
    return (unsigned)n;
}

enum slot_state { SLOT_EMPTY, SLOT_STARTING, SLOT_SERVING, SLOT_REPLACING, SLOT_BACKOFF };
enum slot_event {
    SLOT_WANT,      /* the configuration wants this slot */
    SLOT_UNWANT,    /* … does not any more */
    SLOT_READY,     /* the starting worker serves */
    SLOT_NEXT_DIED, /* the starting worker died */
    SLOT_CUR_DIED,  /* the serving worker died */
    SLOT_TIMER,     /* the pause between two starts is over */
    SLOT_REPLACE,   /* a new worker shall take over from the serving one */
};

struct slot {
    unsigned index;
    enum slot_state state;
    struct worker *cur;  /* serves */
    struct worker *next; /* starts */
    struct deadline pause;
    uint64_t last_start_ms;
    unsigned restarts;
    unsigned failed_starts; /* in a row */
};

/* ---- the agent ---- */

enum agent_state { AGENT_STOPPED, AGENT_STARTING, AGENT_SERVING, AGENT_BACKOFF };

struct agent {
    enum agent_state state;
    pid_t pid;
    struct msg_peer *peer;
    uint64_t sent;       /* generation of the last CONFIG */
    uint64_t certs_done; /* … of the last CERTS_DONE */
    bool certs_ok;
    bool gave_up;      /* it died, or was late: nobody waits for it until it is back */
    char problem[512]; /* "" when all is well */
    unsigned restarts;
    uint64_t backoff_ms, started_ms;
    struct deadline pause, limit;
};

/* A certificate as the agent sent it, for workers that come later. */
struct master_cert {
    struct list link;
    char *host;
    int fd;
    struct msg_cert fixed;
    uint64_t generation; /* of the agent's configuration when it came last */
};

/* How it stands with a host's certificate by ACME, as the agent said last. */
struct cert_state {
    struct list link;
    char *host, *issuer; /* the CA's name; "": none is chosen yet */
    char *error;         /* of the last try, in words; "": it went well */
    struct msg_cert_state fixed;
    uint64_t generation; /* as a certificate's */
};

/* ---- reload ---- */

enum reload_step {
    RELOAD_IDLE,
    RELOAD_LOADING,   /* the child reads the files */
    RELOAD_CERTS,     /* the agent makes certificates for new hosts */
    RELOAD_CANARY,    /* one worker tries the new configuration */
    RELOAD_WORKERS,   /* all the others */
    RELOAD_LISTENERS, /* addresses that went: their last connections are taken */
};

enum reload_kind {
    RELOAD_APPLY, /* the files as they are now */
    RELOAD_PLAN,  /* … but only to say what would change */
    RELOAD_REREAD /* the running configuration with its certificates' files as they are now */
};

/* Somebody who waits for a reload's outcome; embedded, zeroed. */
struct reload_wait {
    struct list link;
    bool colour;
    enum reload_kind kind;
    void (*done)(struct reload_wait *w, enum admin_status status, struct str text);
};

struct reload {
    enum reload_step step;
    struct list waiting; /* for the reload under way */
    struct list queued;  /* came later: they get the next one */
    struct load load;
    struct loaded *next;          /* the new configuration, until it is the current one */
    struct str warnings, summary; /* in arena */
    struct arena *arena;
    struct list opened; /* listeners bound for it */
    struct worker *canary;
    enum reload_kind kind;
    bool replacing; /* a root lies outside the workers' sandboxes */
    struct deadline limit;
    /* the last one that ended */
    int64_t last_at;
    bool last_ok;
    char *last_text;
};

/* ---- the whole ---- */

struct master {
    enum master_state state;
    enum stop_step stop;
    unsigned stop_signals;
    int exit_status;
    const char *config_file;
    struct loaded *loaded; /* the current configuration */
    uint64_t last_generation;
    int64_t started_at;
    int stats_fd, rows_fd, rates_fd, tally_fd;
    int lock_fds[2]; /* runtime, state */
    struct list listeners;
    struct slot slots[SLOTS_MAX];
    unsigned n_slots; /* highest that was ever wanted */
    struct list workers;
    struct agent agent;
    struct list certs, cert_states;
    struct supervisor *supervisor;
    bool services_stopped;
    struct admin *admin;
    struct admin_conn *stop_asked[16]; /* they hear when all is over */
    unsigned n_stop_asked;
    struct reload reload;
    struct msg_ticket_keys tickets;
    struct deadline ticket_turn;
    int access_fd; /* -1: off */
    struct root_id access_id;
    bool access_failed; /* said so already */
    struct deadline access_look;
    struct turn_task settle;
    struct deadline stop_limit;
    struct event signals[6];
};

extern struct master master;

static inline struct conf *master_conf(void)
{
    return master.loaded->conf;
}
/* Something changed: what follows from it is done at the end of this turn (master.c). */
void master_changed(void);
void master_stop(void);
void master_fail_start(const char *why);

/* master_workers.c */
void slot_event(struct slot *s, enum slot_event e);
void workers_set_count(unsigned n); /* slots wanted from now on */
void workers_reap(void);            /* after SIGCHLD, like agent_reap and reload_reap */
void workers_share_listeners(void); /* who accepts where; idempotent */
void listener_take_away(
    struct listener *l); /* an address that went: dropped by its holders, closed */
void workers_drain_all(void);
void workers_kill_all(void);
bool worker_accepts(const struct worker *w); /* connections; fine on NULL */
bool workers_all_serve(void);
unsigned workers_serving(void);
void worker_kill(struct worker *w);
const char *worker_state_text(enum worker_state s);

/* master_messages.c */
/* All that a new one needs. */
void worker_introduce(struct worker *w, const struct loaded *l, int rescue_fd);
void worker_send_config(struct worker *w, const struct loaded *l);
bool worker_sees(const struct worker *w, const struct loaded *l); /* do its roots cover l's? */
void worker_on_msg(void *ctx, struct msg *m);
void worker_on_gone(void *ctx, const char *why);
void workers_tell_instance(void *ctx, uint64_t id, const char *service, enum inst_state state,
                           const struct inst_address *at);
void workers_tell_hold(void *ctx, const char *service, bool on);
void workers_tell_cert(const struct master_cert *c);
void workers_tell_access_log(void);
void tickets_start(void);

/* master_orphans.c */
const char *rescue_prepare(struct arena *a) MUST_USE;
/* The socket of a worker that is about to start, and, once it did, the name that says whose. */
const char *rescue_open(int *fd) MUST_USE;
void rescue_name(pid_t pid, char name[RESCUE_NAME]);
void rescue_forget(const char name[RESCUE_NAME]);
void orphans_find(void); /* waits until all have handed over their sockets: inherit.h */
void orphans_drain(uint64_t timeout_ms);
void orphans_kill_all(void);
bool orphans_none(void);
uint64_t orphans_last_instance(void); /* the highest id that any of them knows */
bool orphans_know(uint64_t id);
void orphans_tell_gone(uint64_t id);
void orphans_status(json_t *workers);

/* master_store.c */
void store_take(void);  /* what the manager hands back: inherit.h */
void store_clean(void); /* what it keeps for addresses that nobody configures any more goes */
void store_look(void);  /* sockets that began to listen are stored; idempotent */
void store_forget(const struct listener *l);
/* The same for sockets of services, by instance: what supervisor_ops asks for. */
void store_socket(void *ctx, uint64_t id, int fd);
int store_socket_take(void *ctx, uint64_t id);
void store_sockets_clean(void); /* those that no adopted instance took go */

/* master_idle.c */
void idle_await(uint64_t id); /* it drains: tell the supervisor when no worker needs it any more */
void idle_forget(uint64_t id);
void idle_said(const struct worker *from, uint64_t id);
void idle_await_service(const char *service); /* … the same for a service that is held */
void idle_forget_service(const char *service);
void idle_said_service(const struct worker *from, struct str service);
void idle_worker_gone(const struct worker *gone);
void idle_orphans_gone(void);

/* master_eject.c */
void eject_said(struct worker *w, const struct msg_eject *m, struct str why);
void eject_forget(uint64_t id); /* the instance is gone */
void eject_worker_gone(const struct worker *w);
void eject_status(json_t *services); /* adds what is known to supervisor_status */

/* master_agent.c */
void agent_resolve(struct str name); /* again, soon */
void agent_start(void);
void agent_configure(const struct loaded *l);
bool agent_settled(uint64_t generation); /* its certificates are there, or nobody waits for them */
void agent_reap(void);
void agent_stop(void);
void certs_drop_older(uint64_t generation);
const struct master_cert *cert_find(struct str host); /* NULL: none came yet */

/* master_cert_state.c */
void cert_state_came(const struct msg_cert_state *fixed, struct str tail);
struct cert_state *cert_state_find(struct str host); /* NULL: not by ACME, or not told yet */
void cert_states_drop_older(uint64_t generation);
json_t *cert_state_status(const struct cert_state *s, bool serving);

/* master_ask.c */
void verb_certs(struct admin_conn *c, json_t *request);
void ask_answered(const struct msg_answer *m, int fd); /* takes over the descriptor */
void asks_agent_gone(void);
void asks_conn_closed(const struct admin_conn *c);
unsigned asks_open(void); /* that wait for the agent */

/* master_challenges.c */
void challenge_came(const struct msg_challenge *m, struct str tail); /* of the agent */
void challenge_said(struct worker *from, const struct msg_challenge_done *m, struct str why);
void challenges_replay(struct worker *to); /* a new one, before it accepts */
void challenges_worker_gone(const struct worker *w);
void challenges_agent_gone(void); /* nobody will ask for what it had shown */
void challenges_settle(void);     /* what is shown everywhere is told to the agent */
void challenges_stop(void);       /* hooks that run are ended, none begins any more */

/* master_reload.c */
void reload_init(void);
void reload_request(struct reload_wait *w);
void reload_cancel(struct reload_wait *w);
void reload_reap(void);
void reload_go_on(void);
void reload_worker_died(const struct worker *w);
void reload_abort(struct str why);

/* master_certs.c */
void certs_watch(void); /* from the current configuration on */

/* master_diff.c */
struct str conf_diff(struct arena *a, const struct conf *old, const struct conf *new_one);

/* master_metrics.c */
const char *metrics_start(void) MUST_USE; /* before the first worker */
/*
 * The names of the current configuration have rows; `next`: those of one that may come too, before
 * any worker hears of it. NULL: it came, or was refused.
 */
void metrics_follow(const struct conf *next);
void metrics_tell_state(void); /* after whatever changed */
void metrics_reload_ended(bool ok);

/* master_files.c */
const char *files_prepare(struct arena *a, const struct conf *c); /* folders and the lock */
const char *access_target_open(struct arena *a, const struct conf *c, int *fd);
void access_target_use(int fd);
void access_target_watch(void);
/* argv and environment of a child of ours */
const char *role_spawn(struct arena *a, const char *role, const char *cwd, int *peer_fd,
                       pid_t *pid);

/* master_logs.c */
void verb_logs(struct admin_conn *c, json_t *request);
void logs_conn_room(const struct admin_conn *c);
void logs_conn_closed(const struct admin_conn *c);

/* master_admin.c */
const char *master_admin_open(struct arena *a);
void master_admin_stopped(void);
json_t *master_status(void);
json_t *certs_status(void);

#endif
