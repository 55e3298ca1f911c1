/*
 * passthrough.h - the door of an https listener: where some site has its TLS passed on unopened
 * (tls.issuer: passthrough), the client's first message is read before anybody answers it, and the
 * name in it decides who gets the connection. Without such a site nothing is looked at.
 */
#ifndef HG_PASSTHROUGH_H
#define HG_PASSTHROUGH_H

#include "proxy/front.h"

void passthrough_enter(int fd, const struct front_pass *pass, const struct front_door *door);

#endif
