/*
 * load_listen.h - where a service that is run listens, how many of it may run at a time, and how it
 * says that it is ready. Private to conf/.
 */
#ifndef HG_CONF_LOAD_LISTEN_H
#define HG_CONF_LOAD_LISTEN_H

#include "conf/load.h"

/* listen, ports, instances, strategy and ready; run and env are loaded. */
void load_listening(struct load *l, const struct scope *sc, const struct node *map,
                    struct conf_service *s);

/* `ready` alone: for services with `url` too. */
void load_ready(struct load *l, const struct scope *sc, const struct node *map,
                struct conf_service *s);

#endif
