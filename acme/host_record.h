/*
 * host_record.h - what is remembered of one host across restarts: failures and when the next try
 * is due, the last error, an order under way, the CA's renewal window, what happened lately. One
 * file a host, $state/acme/hosts/NAME.json, 0600. The certificate itself is cert_store.c's.
 */
#ifndef HG_HOST_RECORD_H
#define HG_HOST_RECORD_H

#include "acme/ari.h"
#include "base/arena.h"

#define HOST_HISTORY 12

struct host_event {
    int64_t at; /* wall clock s */
    bool ok;
    char what[24]; /* "issued", "failed", "revoked", "dry run" */
    char text[256];
};

struct host_record {
    unsigned failures; /* in a row */
    int64_t next_at;   /* wall clock s; before it no try; 0: none is forbidden */
    struct {
        int64_t at; /* 0: none since the last success */
        char ca[128], text[512], hint[256];
    } error;
    struct { /* url "": none */
        char ca[128], url[2049], key[4096];
        bool issued; /* and counted; the certificate is not here yet */
    } pending;
    struct {
        char id[192]; /* of the certificate that it is about */
        int64_t start, end, chosen, look_again;
        char url[513];
    } ari;
    struct host_event history[HOST_HISTORY]; /* the oldest first */
    unsigned n_history;
};

/* A file that cannot be used is as none: *err says so, in a. */
void host_record_read(struct arena *a, const char *state, struct str host, struct host_record *r,
                      const char **err);
/* Not synced: what a power failure takes costs one more order. */
const char *host_record_write(struct arena *a, const char *state, struct str host,
                              const struct host_record *r) MUST_USE;
/* `text` is cut where it is too long. */
void host_record_event(struct host_record *r, int64_t at, bool ok, const char *what,
                       const char *text);
/* Copies what fits, at a character's border. */
void text_copy(char *to, size_t size, struct str from);

#endif
