/*
 * record.h - what the next master finds of an instance when this one was killed, in a folder that
 * only headgate may enter:
 *
 *   $runtime/instances/ID       the record: which process, of which service, listening where
 *   $runtime/instances/ID.out   a FIFO, its standard output
 *   $runtime/instances/ID.err   a FIFO, its standard error
 *
 * The record is there before the program runs (proc_spec.on_pid), so no instance is ever without
 * one; it goes when the instance has ended. It is written aside and renamed, and not synced: it has
 * to outlive a process, and the boot id says that it did not outlive the machine.
 *
 * The instance holds its FIFOs open for reading too: a lost reader is no SIGPIPE. They take 256 KiB
 * without a reader, where the kernel lets them, and then the instance waits in its write until the
 * next master reads: within a second under systemd, and it loses no line. What is found there is
 * taken over in adopt.c.
 */
#ifndef HG_RECORD_H
#define HG_RECORD_H

#include "channels/instance.h"

struct record {
    struct str boot, service, digest, address, asked, socket, cgroup;
    struct str ports;      /* "client=4222 monitor=8222" */
    uint64_t pid, started; /* started: proc_started */
    uint64_t state;        /* enum inst_state */
    uint64_t uid, gid, own_user, port;
    uint64_t stop_signal, stop_timeout, drain, restarts;
};

/* $runtime/instances, made when it is missing. */
const char *record_folder(struct arena *a, const char *runtime, const char **path) MUST_USE;
/* Writes what `i` is now, with `state` as its state. A failure is logged: it cannot be adopted. */
void record_save(struct instance *i, enum inst_state state);
/* Record and FIFOs go. */
void record_drop(const struct instance *i);
/* NULL, or why the record cannot be used, a constant. Strings are borrowed from `text`. */
const char *record_parse(struct str text, struct record *out) MUST_USE;
struct str record_boot_id(struct arena *a);

/* Makes both FIFOs and opens them: read[] non-blocking, for us; write[] for the instance. */
const char *record_fifos_make(struct instance *i, int read[2], int write[2]) MUST_USE;
/* The reading ends of an adopted instance's, -1 for one that is not there. */
void record_fifos_open(const struct instance *i, int read[2]);

#endif
