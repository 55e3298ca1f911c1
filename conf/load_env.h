/*
 * load_env.h - the environment of a service: env_file and env. Private to conf/.
 */
#ifndef HG_CONF_LOAD_ENV_H
#define HG_CONF_LOAD_ENV_H

#include "conf/load.h"

/* `late`: the service's scope; what the placeholders stand for is escaped for conf_expand. */
void load_env(struct load *l, const struct scope *late, const struct node *map,
              struct conf_service *s);

#endif
