/*
 * instance.h - inside channels/: what the supervisor, its services and their instances are made of,
 * and the calls between supervise.c (state × event), services.c (what should run), instance.c (the
 * process), address.c, orphans.c, record.c, adopt.c, logs.c and names.c. Others include
 * supervise.h.
 */
#ifndef HG_INSTANCE_H
#define HG_INSTANCE_H

#include "base/arena.h"
#include "base/loop.h"
#include "base/proc.h"
#include "channels/lines.h"
#include "channels/output.h"
#include "channels/ready.h"
#include "channels/ready_notify.h"
#include "channels/supervise.h"
#include "channels/uids.h"

#define PORTS_AVOIDED 32

struct supervisor {
    struct arena *arena;
    struct supervisor_ops ops;
    void *ctx;
    const char *state, *runtime;
    const char *cgroup;    /* where instances get groups of their own, or NULL: */
    const char *no_cgroup; /* why not */
    struct conf *conf;     /* of the last apply; one reference */
    struct list services;
    struct list names;       /* what names in `url` stand for: urls.c */
    struct list log_readers; /* struct log_reader */
    uint64_t last_id;
    bool stopping, stopped;
    struct turn_task task;         /* reconcile: never in the middle of an event */
    uint16_t avoid[PORTS_AVOIDED]; /* ports that were found taken, the last ones */
    unsigned avoid_next;
};

struct service {
    struct list link;
    struct supervisor *sup;
    struct arena *arena;
    const char *name;
    const struct conf_service *def; /* in sup->conf; NULL: no longer configured */
    uint64_t drain;                 /* ms: of its instances, as configured last; 0: for ever */
    char digest[129];               /* of the definition that the newest instances have */
    unsigned gen;                   /* grows when the running instances are to be replaced */
    bool tried;                     /* one was ready, or failed, since the service is known */
    struct list instances;          /* oldest first */
    bool holding;                   /* handover: workers were told HOLD, the old one still runs */
    struct deadline hold_limit;
    uint64_t restarts_untold; /* since supervisor_count */
    unsigned unlimited_told;  /* gen + 1 of which the log says that `memory` is no limit; 0: none */
    unsigned no_health_told;  /* the same, that its gRPC server has no health service */
    struct kept_lines lines;  /* what its instances printed last */
};

enum inst_event {
    EV_DUE,    /* its deadline: next start, start_timeout, end of drain, kill */
    EV_GOOD,   /* a look at its port went well */
    EV_BAD,    /* it did not; i->probe_err says why */
    EV_EXIT,   /* the process ended; i->wait_status */
    EV_RETIRE, /* not wanted any more, let requests end */
    EV_STOP,   /* not wanted any more, at once */
    EV_IDLE,   /* no worker has a request for it */
    EV_LEAVES, /* it said STOPPING=1 */
    EV_CLEAN,  /* nothing of it runs any more */
    EV_COUNT
};

enum inst_goal { GOAL_RUN, GOAL_END }; /* what comes after INST_STOPPING */

struct instance {
    struct list link;
    struct service *svc;
    struct arena *arena; /* this struct lies in it */
    struct arena *run;   /* of one start: address, arguments, sentences */
    uint64_t id;         /* of this start */
    unsigned gen;
    bool url;                    /* an address, no process */
    struct conf_backend backend; /* url: what the config said of it when it came */
    bool waits;                  /* starts when the older ones of its fixed address are gone */
    enum inst_state state, told; /* told: INST_BACKOFF when others do not know it */
    enum inst_goal goal;
    uint64_t since; /* ms, of the state */
    struct deadline due;

    /* the process */
    const char *name;        /* "beta/api-3": $instance */
    struct proc proc;        /* pid 0: none */
    struct event ended;      /* its pidfd */
    pid_t leader;            /* pid of this start, kept when it ended: names its session */
    uint64_t leader_started; /* proc_started of it */
    bool adopted;            /* another master started it: it is no child of ours */
    struct service_user user;
    bool killed;           /* SIGKILL was sent */
    const char *cgroup;    /* its own, in run, or NULL */
    uint64_t memory;       /* bytes that it may use, where that is seen to; 0: all there is */
    const char *unlimited; /* why `memory` of its definition is not, or NULL */
    int wait_status;
    struct output out[2];
    struct conf_addr addr;   /* text NUL-terminated */
    uint16_t port;           /* chosen by us; 0: not */
    struct conf_port *ports; /* of `ports`, all with numbers; in run */
    unsigned n_ports;
    struct conf_addr asked; /* where looks go: its address, or the port that `ready` names */
    int listen_fd;          /* listen: fd, or -1; kept from start to start */
    struct ready_notify notify;
    const char *socket; /* path to remove at the end, or NULL */
    bool lost_port;     /* it ended because somebody else took the port */

    /* from the definition it was started with */
    const char *digest;
    int stop_signal;
    uint64_t stop_timeout, drain;

    /* looks at its port */
    struct event poll;
    struct probe probe;
    uint64_t poll_ms;
    unsigned bad; /* looks in a row that went wrong */
    const char *probe_err;

    /* restarts */
    unsigned starts, restarts, port_retries;
    unsigned failures;                              /* in a row, since it was last stable */
    uint64_t failing_since;                         /* ms: the first of them */
    uint64_t backoff, next_start, ready_at;         /* ms */
    char last_exit[96], last_error[512], says[160]; /* says: its last STATUS= */
};

/* supervise.c */
void instance_set_url(struct instance *i);   /* an instance of a url service is ready as it is */
void instance_watch_url(struct instance *i); /* looks at it as the config says now */
/* Ready for so long that the next failure counts as the first. */
bool instance_stable(const struct instance *i);
void instance_event(struct instance *i, enum inst_event ev);
void instance_ended(struct instance *i); /* its pidfd says so: reaps it */
void instance_sweep(struct instance *i); /* kills what is left of it; EV_CLEAN when nothing is */
/* An instance that was found alive: goes on from the state that its record names. */
void instance_adopt(struct instance *i, const struct proc *proc, enum inst_state was);
/* … and one that was not: what is left of it ends. */
void instance_adopt_remains(struct instance *i);

/* services.c */
struct service *service_get(struct supervisor *s, struct str name); /* made when it is missing */
struct instance *instance_new(struct service *svc, bool url);
void instance_close(struct instance *i); /* unlinked now, freed after the turn */
struct service *service_find(const struct supervisor *s, struct str name); /* NULL: none */
void supervisor_reconcile(struct turn_task *t);

/* urls.c */
void service_match_urls(struct service *svc); /* an instance an address; names as far as known */
void service_retire(struct instance *i);      /* services.c */
json_t *service_names(const struct service *svc); /* for the status: names and what they mean */
void names_prune(struct supervisor *s);           /* those that no service names any more */
void names_free(struct supervisor *s);

/* instance.c */
/* Starts the process; NULL, or what went wrong, in i->run. */
const char *instance_spawn(struct instance *i) MUST_USE;
/* From now on its end is noticed; takes over the descriptor. */
void instance_watch(struct instance *i, const struct proc *proc);
/* Output that an adopted one writes is read again. */
void instance_reopen_output(struct instance *i);
/* The process was reaped: its descriptor goes. */
void instance_unwatch(struct instance *i);
/* After the process ended: output, descriptors, the socket's file. */
void instance_release(struct instance *i);
/* Lets the workers connect to a Unix socket that a service of another user made. */
void instance_share_socket(struct instance *i);

/* address.c */
struct inst_address instance_address(const struct instance *i);
/* Fills addr, port and socket; an error is a sentence in i->run. */
const char *address_choose(struct instance *i) MUST_USE;
/* A port chosen for it belongs to somebody else by now; remembers it. */
bool address_lost(struct instance *i);

/* ready_notify.c: what its processes say to NOTIFY_SOCKET; open until notify_close. */
const char *notify_open(struct instance *i) MUST_USE;
void notify_close(struct instance *i);

/* logs.c */
void logs_start(struct supervisor *s);
void logs_stop(struct supervisor *s);

/* names.c */
/* What to say to a name that is none: in a. `channels`: names of channels would do too. */
const char *supervisor_no_such(const struct supervisor *s, struct arena *a, struct str name,
                               bool channels);

/* orphans.c */
/* Is this process, which may have ended already, of the instance? `uid`: as the kernel told it. */
bool orphans_owns(const struct instance *i, pid_t pid, uid_t uid);
/* Kills what `i` left behind; how many processes were still there. `by_uid`: i alone runs as its
 * user. */
unsigned orphans_kill(const struct instance *i, bool by_uid);

#endif
