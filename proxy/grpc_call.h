/*
 * grpc_call.h - a gRPC call on its way through: the filter that both plain gRPC and gRPC-Web have
 * next to the handler. It follows the messages, keeps the deadline, and sees to it that whatever
 * happens ends in a grpc-status (PROTOCOL-HTTP2.md). Towards it everything is plain gRPC; what
 * browsers speak is grpc_web.c's.
 */
#ifndef HG_GRPC_CALL_H
#define HG_GRPC_CALL_H

#include "base/loop.h"
#include "proxy/filter.h"
#include "proxy/grpc.h"
#include "proxy/req.h"

/* What is known of a call; req->grpc, in the request's arena. */
struct grpc_call {
    struct req *req;
    struct grpc_type type; /* of the request, as the client sent it */
    struct grpc_frames in, out;
    enum grpc_status status; /* GRPC_STATUS_NONE until it is known */
    bool foreign;            /* what answers is no gRPC server: its body is not passed on */
    struct deadline deadline;
    uint64_t moved; /* ms: the last bytes of it, either way */
};

extern const struct filter grpc_call_filter;

/*
 * The step of req_begin that tells what kind of request this is; chains the filters of a call. A
 * step answers true to go on.
 */
bool step_grpc(struct req *r);
/* A request that fails before that step, with its head's limits, say: a call all the same. */
void grpc_adopt(struct req *r);
/* The route of the service that the method's package goes to; NULL: the paths' routes decide. */
const struct conf_route *grpc_route(const struct req *r);
/*
 * May it go on for ever? Told by the messages so far, and where those of one call look like another
 * kind's by what did not follow them. A unary call never is, but a stream may not be one yet.
 */
bool grpc_call_is_stream(const struct grpc_call *c);
extern const char grpc_err_drain[]; /* a stream ends because its instance does */
/* As the messages so far tell. */
enum grpc_shape { GRPC_UNARY, GRPC_CLIENT_STREAM, GRPC_SERVER_STREAM, GRPC_BIDI_STREAM };
#define GRPC_SHAPES 4
enum grpc_shape grpc_call_shape(const struct grpc_call *c);
const char *grpc_shape_text(enum grpc_shape s); /* "unary", "client_stream", … */

#endif
