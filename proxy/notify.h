/*
 * notify.h - the service manager's protocol (sd_notify(3)): one datagram of assignments to
 * NOTIFY_SOCKET. Without a manager every call does nothing.
 */
#ifndef HG_NOTIFY_H
#define HG_NOTIFY_H

#include "base/base.h"

/* Takes NOTIFY_SOCKET and WATCHDOG_USEC out of the environment, so that no child speaks for us. */
void notify_init(void);
/* Starts the keep-alive at half of what the manager asked for; needs the loop. */
void notify_watchdog_start(void);
void notify_ready(const char *status);    /* READY=1, after a start and after a reload */
void notify_reloading(void);              /* RELOADING=1 with MONOTONIC_USEC */
void notify_stopping(const char *status); /* STOPPING=1 */
/* FDSTORE=1 with FDNAME: the manager keeps these (those that it has already, once). False: it did
 * not take them now; true without a manager too. */
bool notify_store(const char *name, const int *fds, unsigned n) MUST_USE;
void notify_unstore(const char *name);  /* FDSTOREREMOVE=1 */
void notify_status(const char *status); /* what `systemctl status` shows */

#endif
