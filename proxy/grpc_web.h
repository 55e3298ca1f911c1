/*
 * grpc_web.h - gRPC-Web (PROTOCOL-WEB.md) as a filter outside of grpc_call.h's: towards the handler
 * everything is plain gRPC, towards the client it is what browsers can read: base64 where it asks
 * for text, trailers as the last frame of the body. And CORS (Fetch standard) for its calls.
 */
#ifndef HG_GRPC_WEB_H
#define HG_GRPC_WEB_H

#include "proxy/filter.h"

extern const struct filter grpc_web_filter;
extern const char grpc_web_err_base64[];

/*
 * A step of req_begin: answers the preflight of a call from another origin that grpc.cors lists.
 * True: go on, it is none.
 */
bool step_preflight(struct req *r);
/* What a browser needs to let a page of another origin read r->answer. */
void grpc_cors_answer(struct req *r);

#endif
