/*
 * uids.h - as whom a service runs. Started as root, every service has a user of its own, so that no
 * backend can read a TLS key or another one's data; else all run as headgate does.
 */
#ifndef HG_UIDS_H
#define HG_UIDS_H

#include "conf/conf.h"

struct service_user {
    uid_t uid; /* (uid_t)-1: as we are */
    gid_t gid;
    const char *name; /* NULL: it has none */
    bool exclusive;   /* nothing but this service runs as uid */
};

/*
 * The user of `svc` in `out`; `auto` takes the next number of service_uids, once: it is kept in
 * $state/uids, since the service's data belongs to it. An error is a sentence in `a`.
 */
const char *service_user_find(struct arena *a, const struct conf *c, const char *state,
                              const struct conf_service *svc, struct service_user *out) MUST_USE;

#endif
