/*
 * ready_notify.h - a service's NOTIFY_SOCKET (sd_notify(3)): one datagram socket a start, READY=1,
 * STOPPING=1 and STATUS= from the instance's own processes only. The calls are in instance.h.
 */
#ifndef HG_READY_NOTIFY_H
#define HG_READY_NOTIFY_H

#include "base/loop.h"

/* Embedded in the instance, zeroed. */
struct ready_notify {
    bool open;
    int fd;
    struct event ev;
    const char *path; /* of the socket's file; in the run's arena */
    bool stranger;    /* somebody else wrote to it: said once */
};

#endif
