/*
 * tunnel.h - the `tunnel` handler: a request that was switched to WebSocket, from its 101 to its
 * end. Bytes go both ways with backpressure, each direction ends by itself, and the configuration
 * that it began with is no longer held. What WebSocket's frames look like is websocket.h's.
 */
#ifndef HG_TUNNEL_H
#define HG_TUNNEL_H

#include "proxy/exchange.h"
#include "proxy/req.h"

/*
 * The backend switched: r->answer is its head, x the exchange, which the tunnel takes over. Called
 * from x's on_head.
 */
void tunnel_open(struct req *r, struct exchange *x);

#endif
