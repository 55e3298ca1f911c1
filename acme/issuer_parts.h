/*
 * issuer_parts.h - what issuer.c (hosts and their moments), issuer_try.c (one try), issuer_cas.c
 * (the CAs) and issuer_ask.c (questions of people) share. Nobody else includes it.
 */
#ifndef HG_ISSUER_PARTS_H
#define HG_ISSUER_PARTS_H

#include "acme/ari.h"
#include "acme/ca.h"
#include "acme/host_record.h"
#include "acme/issuer.h"
#include "acme/ledger.h"
#include "acme/order.h"
#include "acme/preflight.h"
#include "base/loop.h"

#define ISSUER_NAME_MAX 128

/* A CA of the configuration, or the staging one of it. */
struct issuer_ca {
    struct list link;
    char name[ISSUER_NAME_MAX];
    struct ca *ca;
    struct ledger *ledger;
    const struct ledger_limit *limits; /* that it was opened with */
    bool known;                 /* it looks from the internet: what is sure here is sure there */
    bool wanted;                /* by the configuration at hand */
    struct issuer_ca *stage;    /* tried first after a failure; NULL: none */
    unsigned under_way;         /* orders */
    uint64_t tokens_at, tokens; /* the bucket: when it was filled last (ms), in thousandths */
};

enum host_state {
    HOST_IDLE,    /* until the renewal's moment */
    HOST_WAITING, /* until the next try may be made */
    HOST_QUEUED,  /* for a place in its CA's bucket */
    HOST_LOOKING, /* preflight */
    HOST_ORDERING,
    HOST_STATES
};
enum host_trigger {
    TRIGGER_DUE,
    TRIGGER_ASKED,  /* by people: whatever was waited for */
    TRIGGER_LOOKED, /* preflight is over, and nothing forbids an order */
    TRIGGER_TRIGGERS
};

struct host {
    struct list link;
    struct issuer *is;
    char name[256];
    bool wanted; /* by the configuration at hand */
    enum host_state state;
    struct host_record rec;
    bool first_look_done; /* preflight: before the first order of this process for the host */
    struct {
        bool have;
        char issuer[ISSUER_NAME_MAX], ari_id[192];
        int64_t not_before, not_after, until; /* until: the first end in the chain */
        char *pem; /* chain and key, for each configuration anew; also when the disk was full */
    } served;
    struct deadline due, ari_due;
    struct turn_task now; /* due at once: the wheel of deadlines is slower */
    struct ca_call *ari_call;
    struct list asks;
    int64_t warned_at;  /* of the end that is near */
    unsigned postponed; /* in a row, since this process began */
    char preflight_text[1024];

    /* the try under way */
    unsigned ca_at;           /* index in is->ranked: as far as the CAs were asked */
    struct issuer_ca *target; /* that one, for whose certificate the try is; NULL: none */
    struct issuer_ca *ca;     /* whose order it is: the target, or its staging CA */
    bool rehearsed;           /* the staging CA has agreed in this try */
    struct acme_fail fail;    /* of the CAs asked before in this try */
    char fail_ca[ISSUER_NAME_MAX];
    char step[64]; /* of the order, for people */
    struct order *order;
    struct preflight *preflight;
    uint64_t probe_id; /* challenge that preflight asks for; 0: none */
    char probe_token[40], probe_answer[40];
    uint16_t look_ports[2];
    int lock;          /* -1: not held */
    uint64_t shown_id; /* challenge of the order; 0: none */
};

struct issuer {
    struct arena *arena;
    const char *state, *shown;
    const struct issuer_ops *ops;
    void *ctx;
    struct conf *conf; /* counted */
    struct list hosts, cas, asks;
    struct issuer_ca **ranked; /* of the configuration, in its order; in ranked_arena */
    unsigned n_ranked;
    struct arena *ranked_arena;
};

/* ---- issuer.c ---- */
struct host *host_find(struct issuer *is, struct str name);
void host_event(struct host *h, enum host_trigger t);
void host_tell(struct host *h); /* its state, to ops.state */
/* The try is over: the certificate is in service / failed for these reasons. */
void host_succeeded(struct host *h);
void host_failed(struct host *h, const struct acme_fail *f, const char *ca);
/* Not a failure: a limit or a pause, until then. */
void host_postponed(struct host *h, int64_t until, const char *why, const char *ca);
void host_save(struct host *h);
/* A state of a try, in which TRIGGER_DUE comes after that time. */
void host_wait(struct host *h, enum host_state state, uint64_t ms);
bool host_rests(const struct host *h); /* no try is under way */
enum issuer_step host_step(const struct host *h);
int64_t host_next_at(const struct host *h); /* wall clock s; 0: while a try is under way */
int64_t host_renew_at(const struct host *h);
void host_forget(struct host *h);     /* as if none had ever been served */
void host_order_over(struct host *h); /* there is none to go on with */
void host_serve(struct host *h, const char *issuer, const struct cert_facts *f, struct str key_pem);
/* Reads a unit that is better than what is served; true: it is in service now. */
bool host_adopt(struct host *h);
bool host_ari_is_of_served(const struct host *h); /* what the record says of ARI */
void host_ari_look(struct host *h);               /* sets when the next look is due */
/* A path below the state folder, as people know it. */
const char *issuer_words(const struct issuer *is, struct arena *a, const char *text);

/* ---- issuer_try.c ---- */
void try_begin(struct host *h);
void try_order(struct host *h); /* the place is there, preflight is over */
void try_drop(struct host *h);  /* whatever is under way, without a word */

/* ---- issuer_cas.c ---- */
void cas_use(struct issuer *is, const struct conf_acme *c);
void cas_close(struct issuer *is);
struct issuer_ca *cas_find(struct issuer *is, struct str name);
/* One more order; 0: go, and it is counted; else ms until there may be room. */
uint64_t cas_take_place(struct issuer_ca *ca);
void cas_leave_place(struct issuer_ca *ca); /* as if it had not been taken */

/* ---- issuer_ask.c ---- */
void asks_host_ended(struct host *h, bool ok); /* answers who waits for this host */
void asks_ca_gone(struct issuer *is);          /* a CA is closed: its calls end without a word */
void asks_drop_all(struct issuer *is);

#endif
