/*
 * req.h - a request and its answer, the same whatever the client's protocol. proxy/req.c is its
 * whole way in named steps. Two small interfaces carry it: `struct codec` towards the client and
 * `struct handler` towards what answers.
 *
 *   codec ── req_begin, req_body, req_body_end, req_proceed, req_gone ──►  req
 *   req   ── start, body, body_end, proceed, cancel ──►  handler
 *   codec ◄── head, data, trailers, info, want_body, reset ──  req
 *   req   ◄── req_answer*, req_send*, req_fail, req_want_body ──  handler
 *
 * Between the two may stand filters (filter.h); neither side knows of them.
 *
 * At most one send is in flight per direction: after req_answer or req_send without `end` a handler
 * waits for proceed; after body() a codec goes on only while the handler wants more.
 */
#ifndef HG_REQ_H
#define HG_REQ_H

#include "base/net.h"
#include "base/slab.h"
#include "proxy/http.h"
#include "proxy/snapshot.h"

struct req;
struct client;
struct files_entry;
struct filter_chain;
struct route_row;
struct grpc_call;

/* Towards the client; one constant table a protocol version. None of these frees the request. */
struct codec {
    const char *name;                                                        /* "HTTP/1.1" */
    void (*head)(struct req *, bool end);                                    /* req->answer */
    void (*data)(struct req *, const struct slice *v, unsigned n, bool end); /* borrowed */
    void (*trailers)(struct req *, const struct fields *t);                  /* ends the answer */
    void (*info)(struct req *, unsigned status);                             /* 100 */
    void (*want_body)(struct req *, bool on);
    /* See req_room; NULL: always IO_READ_MAX. */
    size_t (*room)(struct req *, bool at_once);
    void (*reset)(struct req *,
                  const char *err); /* the client must see a failure, never a clean end */
    /*
     * req->answer is a switch to what the request's `protocol` says: its head goes out, and the
     * request's body is bytes of that protocol from now on. data with `end` ends our side only.
     */
    void (*tunnel)(struct req *);
    void (*tunnel_over)(struct req *); /* both sides have ended; data with `end` came before */
};

/* What answers; one constant table a kind. `req->handler_state` is its own, in req->arena. */
struct handler {
    const char *name;
    void (*start)(struct req *);
    void (*body)(struct req *, struct slice data); /* after req_want_body(true); borrowed */
    void (*body_end)(struct req *, const struct fields *trailers); /* NULL: none */
    void (*proceed)(struct req *);                                 /* the last send is out */
    void (*cancel)(struct req *); /* the request is over: let go of everything */
};

/* What a request is, told once: it decides about timeouts, about failures, about draining. */
enum req_kind { REQ_HTTP, REQ_GRPC, REQ_GRPC_WEB, REQ_WEBSOCKET, REQ_EVENTS };

enum req_state {
    REQ_HEAD,      /* the head is being read */
    REQ_BEGUN,     /* routed, the handler works, no answer yet */
    REQ_ANSWERING, /* the answer's head is out */
    REQ_TUNNEL,    /* it was a switch: bytes go both ways, until req_tunnel_over */
    REQ_DONE,      /* the answer ended in order */
    REQ_FAILED     /* reset, or the client is gone */
};

#define REQ_LENGTH_UNKNOWN UINT64_MAX

struct req {
    struct client *client;
    const struct codec *codec;
    void *stream; /* the codec's own */
    struct arena *arena;
    struct arena *home;    /* where it lies itself: the same one, or one that a tunnel keeps */
    struct snapshot *snap; /* counted */
    enum req_state state;
    enum req_kind kind, kind_counted; /* the latter: in the gauges */
    uint64_t id;                      /* of the process; text by req_id_text */

    /* Each of these texts is named in leave_head (req.c), which moves them. */
    enum http_method method;
    struct str method_text;
    struct net_ip ip;          /* whose request it is: by the connection, or a trusted proxy */
    struct str ip_text;        /* the same: "192.0.2.1", "2001:db8::1", "unix" */
    struct str forwarded_host; /* what a trusted proxy was asked for; empty: none said so */
    uint16_t forwarded_port;   /* and where; 0 */
    struct str scheme;         /* "https", "http": as the client sees it */
    struct str authority;      /* as sent: host[:port] */
    struct str host;           /* lower case, no port, no trailing dot */
    struct str protocol;       /* that it asks to switch to (Upgrade, :protocol); p == NULL: none */
    struct str target;         /* as sent */
    struct str path;  /* normalised: begins with "/", no dot segments, still percent-encoded */
    struct str query; /* behind "?", as sent; p == NULL when there is none */
    struct fields fields;
    uint64_t body_length; /* 0: no body; REQ_LENGTH_UNKNOWN: chunked */
    uint64_t body_max;    /* limits.body; 0 unlimited */
    uint64_t body_in;     /* body bytes so far */
    bool body_ended;      /* all of it was handed to the handler */
    bool body_wanted;
    bool expect_continue; /* 100 not yet sent */

    const struct conf_site *site;
    const struct conf_route *route;
    struct str rest; /* of the path behind the route's prefix */
    const struct handler *handler;
    void *handler_state;
    struct filter_chain *filters; /* filter.h; NULL: none */
    struct grpc_call *grpc;       /* grpc_call.h; NULL: it is none */

    struct {
        unsigned status;
        struct fields fields; /* end-to-end fields only; framing is the codec's */
        uint64_t length;      /* REQ_LENGTH_UNKNOWN: told by the end */
        /* The body is this file's content, whole and in one send; during req_answer only. */
        struct files_entry *file;
    } answer;
    uint64_t body_out;   /* answer body bytes so far */
    bool send_pending;   /* between a send and its proceed */
    size_t counted;      /* bytes of the arena that the client's budget knows of */
    const char *error;   /* for the access log; NULL: fine */
    struct str instance; /* which backend instance answered, for the access log */
    uint64_t started_us; /* CLOCK_MONOTONIC */
    uint64_t took_us;    /* from there to req_close */
    /* A tunnel's, which has no snapshot, site and route any more. */
    struct {
        struct str site, route, service;
        struct route_row *row; /* in use for it */
        uint64_t answered_us;  /* from started_us to its head */
    } kept;
};

/* ---- for codecs ---- */
/* The arena that the next req_new takes over: for a head that is parsed before there is a request.
 */
struct arena *req_arena_spare(void);
struct req *req_new(struct client *c, const struct codec *codec, void *stream);
/*
 * The same, for one that may become a tunnel: it lies apart from its head, which then goes. Not for
 * codecs whose writing refers to the head for longer than a call.
 */
struct req *req_new_apart(struct client *c, const struct codec *codec, void *stream);
void req_begin(struct req *r);                   /* the head is complete: route and start */
void req_body(struct req *r, struct slice data); /* only while r->body_wanted */
void req_body_end(struct req *r, const struct fields *trailers);
void req_proceed(struct req *r);
void req_gone(struct req *r, const char *err); /* the client went away or broke the protocol */
void req_refuse(struct req *r, unsigned status,
                const char *err); /* a head that the codec refused */
/* Frees it one turn later, writes the access log line. The codec calls it when it let go. */
void req_close(struct req *r);

/* ---- for handlers ---- */
/* r->answer is set: send its head; with end the answer is over. HEAD, 204, 304 imply end. */
void req_answer(struct req *r, bool end);
void req_send(struct req *r, const struct slice *v, unsigned n, bool end);
void req_send_trailers(struct req *r, const struct fields *t);
/*
 * How many body bytes the client takes now: more than that would only wait in memory. 0: none, and
 * proceed comes when it does. `at_once`: they are sent from inside this call's caller; else they
 * come whenever they come, so that those of other requests may come first.
 */
size_t req_room(struct req *r, bool at_once);
/*
 * r->answer is a switch: its head goes out, and `h` has the request from now on. Each direction
 * ends by itself: body_end, and req_send with `end`. The snapshot is let go: site and route are
 * NULL.
 */
void req_tunnel(struct req *r, const struct handler *h, void *state);
void req_tunnel_over(struct req *r); /* both directions have ended */
/* A whole answer with a body in memory. */
void req_answer_text(struct req *r, unsigned status, struct str type, struct str body);
/*
 * The one judge of failed requests: an error page while no head is out, else a reset that the
 * client cannot take for a clean end. Calls handler->cancel. `err` goes to the access log.
 */
void req_fail(struct req *r, unsigned status, const char *err);
void req_want_body(struct req *r, bool on); /* sends 100 (Continue) when it is due */
struct str req_id_text(const struct req *r,
                       char buf[static 17]); /* 16 hex digits, unguessable order */
const char *req_kind_text(enum req_kind k);  /* "http", "grpc", "grpc-web", … */
/* Those of its route; of the whole configuration before there is one, and for a tunnel. */
const struct conf_timeouts *req_timeouts(const struct req *r);
/* It may be silent for hours: gaps are no failure; a dead peer is found by other means. */
static inline bool req_may_be_silent(const struct req *r)
{
    return r->kind != REQ_HTTP;
}
static inline bool req_over(const struct req *r)
{
    return r->state >= REQ_DONE;
}

/* ---- facts about the client, for handlers, filters and logs (client.c) ---- */
uint16_t req_local_port(const struct req *r);
const char *req_tls_version(const struct req *r); /* NULL: plain */

extern const struct handler proxy_handler, files_handler, redirect_handler, respond_handler,
    metrics_handler;

#endif
