/*
 * grpc_call.c - a gRPC call on its way through: messages, deadline, and a grpc-status at the end of
 * whatever happens.
 */
#include "proxy/grpc_call.h"

#include "proxy/client.h"
#include "proxy/exchange.h"
#include "proxy/grpc_web.h"

/* A unary call's end follows its only message at once; a stream's next one may take its time. */
#define QUIET_MS 2000
/* grpc-retry-pushback-ms: at least, and up to so much more, so that not all come at once. */
#define AGAIN_MS        100
#define AGAIN_SPREAD_MS 900

const char grpc_err_drain[] = "the backend of this stream goes away: call again";
static const char err_deadline[] = "the call's deadline is over";
static const char err_timeout_field[] = "grpc-timeout is no timeout";
static const char err_cut_request[] = "the request ends inside a message";
static const char err_cut_answer[] = "the backend's answer ends inside a message";
static const char err_no_status[] = "the backend ended the call without a grpc-status";

static struct grpc_call *call_of(const struct filter_use *u)
{
    return u->req->grpc;
}

static struct str field_named(const struct fields *f, struct str name)
{
    for (unsigned i = 0; i < f->n; i++)
        if (str_eq(f->v[i].name, name))
            return f->v[i].value;
    return STR_NULL;
}

enum grpc_shape grpc_call_shape(const struct grpc_call *c)
{
    bool many_in = c->in.messages > 1, many_out = c->out.messages > 1;
    return many_in ? (many_out ? GRPC_BIDI_STREAM : GRPC_CLIENT_STREAM)
                   : (many_out ? GRPC_SERVER_STREAM : GRPC_UNARY);
}

const char *grpc_shape_text(enum grpc_shape s)
{
    static const char *const names[GRPC_SHAPES] = {[GRPC_UNARY] = "unary",
                                                   [GRPC_CLIENT_STREAM] = "client_stream",
                                                   [GRPC_SERVER_STREAM] = "server_stream",
                                                   [GRPC_BIDI_STREAM] = "bidi_stream"};
    return names[s];
}

bool grpc_call_is_stream(const struct grpc_call *c)
{
    const struct grpc_frames *in = &c->in, *out = &c->out;
    if (in->messages > 1 || out->messages > 1)
        return true;
    if ((in->messages && !grpc_frames_between(in)) || (out->messages && !grpc_frames_between(out)))
        return true; /* inside of the second one */
    if (loop_now_ms() - c->moved < QUIET_MS)
        return false;
    return out->messages || (!c->req->body_ended && grpc_frames_between(in));
}

/* ---- the request ---- */

static void on_deadline(struct deadline *d)
{
    struct grpc_call *c = container_of(d, struct grpc_call, deadline);
    req_fail(c->req, 504, err_deadline);
}

static void on_begin(struct filter_use *u)
{
    struct grpc_call *c = call_of(u);
    struct str timeout = field_named(&u->req->fields, STR("grpc-timeout"));
    uint64_t ms;
    c->moved = loop_now_ms();
    if (!timeout.p || u->req->error) /* or it was late for that: grpc_adopt */
        return;
    if (!grpc_timeout_parse(timeout, &ms))
        req_fail(u->req, 400, err_timeout_field);
    else
        deadline_set(&c->deadline, ms, on_deadline);
}

static const char *follow(struct grpc_frames *f, const struct piece *p)
{
    const char *err = NULL;
    for (unsigned i = 0; i < p->n && !err; i++)
        err = grpc_frames_feed(f, p->v[i].p, p->v[i].n);
    return err;
}

static const char *on_request_body(struct filter_use *u, struct piece *p)
{
    struct grpc_call *c = call_of(u);
    c->moved = loop_now_ms();
    c->in.max = u->req->site->grpc.max_message;
    const char *err = follow(&c->in, p);
    return !err && p->end && !grpc_frames_between(&c->in) ? err_cut_request : err;
}

/* ---- how it ends ---- */

static void add_status(struct req *r, struct fields *to, enum grpc_status status,
                       struct str message)
{
    r->grpc->status = status;
    fields_add(r->arena, to, STR("grpc-status"), arena_fmt(r->arena, "%u", (unsigned)status));
    if (message.n)
        fields_add(r->arena, to, STR("grpc-message"), grpc_message_encode(r->arena, message));
}

/* An answer that is over with its head (a "trailers-only" one). */
static void status_head(struct req *r, enum grpc_status status, struct str message)
{
    struct grpc_type plain = {.form = GRPC_PLAIN, .suffix = r->grpc->type.suffix};
    r->answer.status = 200;
    r->answer.length = REQ_LENGTH_UNKNOWN;
    r->answer.fields = (struct fields){0};
    fields_add_token(r->arena, &r->answer.fields, FIELD_content_type,
                     grpc_type_text(r->arena, plain));
    add_status(r, &r->answer.fields, status, message);
}

static struct fields *status_trailers(struct req *r, enum grpc_status status, const char *message)
{
    struct fields *t = arena_znew(r->arena, struct fields);
    add_status(r, t, status, str_of(message));
    return t;
}

/* It was the instance or the connection to it, not the answer: another one would do. */
static bool is_of_instance(const char *err)
{
    static const char *const known[] = {
        grpc_err_drain,    exchange_err_refused, exchange_err_leaves,
        exchange_err_ping, err_refused,          err_reset,
        err_eof,           err_truncated};
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (known[i] == err)
            return true;
    return false;
}

/* What the gate's own failures are in gRPC's words: by what went wrong, else by its HTTP status. */
static enum grpc_status status_of(unsigned http_status, const char *err)
{
    static const struct {
        const char *err;
        enum grpc_status status;
    } known[] = {
        {grpc_err_too_large, GRPC_RESOURCE_EXHAUSTED},
        {grpc_err_flags, GRPC_INTERNAL},
        {err_deadline, GRPC_DEADLINE_EXCEEDED},
        {err_cut_request, GRPC_INVALID_ARGUMENT},
        {grpc_web_err_base64, GRPC_INVALID_ARGUMENT},
        {err_no_status, GRPC_UNKNOWN},
        {exchange_err_response_timeout, GRPC_DEADLINE_EXCEEDED},
        {exchange_err_cancelled, GRPC_CANCELLED},
        {exchange_err_calm, GRPC_RESOURCE_EXHAUSTED},
    };
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (known[i].err == err)
            return known[i].status;
    if (is_of_instance(err))
        return GRPC_UNAVAILABLE;
    switch (http_status) {
    case 413:
    case 429:
    case 431:
        return GRPC_RESOURCE_EXHAUSTED;
    case 500:
    case 502: /* the backend's answer was no good */
        return GRPC_INTERNAL;
    default:
        return grpc_status_of_http(http_status);
    }
}

/*
 * When a client may try again (A6): what Retry-After says, or, where all streams of an instance end
 * together, each at a moment of its own.
 */
static void add_pushback(struct req *r, const char *err, const struct fields *failed,
                         struct fields *to)
{
    const struct field *retry = failed ? fields_get(failed, FIELD_retry_after) : NULL;
    uint64_t ms = 0;
    if (retry && str_u64(retry->value, &ms) && ms < 24 * 3600) {
        ms *= 1000;
    } else if (is_of_instance(err)) {
        random_bytes(&ms, sizeof(ms));
        ms = AGAIN_MS + ms % AGAIN_SPREAD_MS;
    } else {
        return;
    }
    fields_add(r->arena, to, STR("grpc-retry-pushback-ms"),
               arena_fmt(r->arena, "%llu", (unsigned long long)ms));
}

static bool on_fail(struct filter_use *u, unsigned status, const char *err, struct piece *last)
{
    struct req *r = u->req;
    const struct fields failed = r->answer.fields;
    enum grpc_status code = status_of(status, err);
    deadline_cancel(&r->grpc->deadline);
    /* Misdirected: the client is to try again on another connection, which no status tells it. */
    if (status == 421 && r->state < REQ_ANSWERING)
        return false;
    if (r->state < REQ_ANSWERING) {
        status_head(r, code, str_of(err));
        add_pushback(r, err, &failed, &r->answer.fields);
        return true;
    }
    r->grpc->status = code;
    /* Inside a message trailers could not be told from the rest of it. */
    if (!grpc_frames_between(&r->grpc->out))
        return false;
    struct fields *trailers = status_trailers(r, code, err);
    add_pushback(r, err, NULL, trailers);
    last->trailers = trailers;
    return true;
}

/* ---- the answer ---- */

/* Something that is no gRPC server answered, or a proxy in front of it. */
static void foreign_answer(struct req *r, struct str type)
{
    unsigned http_status = r->answer.status;
    struct str why =
        http_status == 200
            ? arena_fmt(r->arena, "the backend answered with \"" STR_FMT "\", not gRPC",
                        STR_ARG(str_sub(type, 0, 100)))
            : arena_fmt(r->arena, "the backend answered with HTTP status %u", http_status);
    status_head(r, grpc_status_of_http(http_status), why);
    r->grpc->foreign = true;
}

static void on_answer_head(struct filter_use *u, bool *end)
{
    struct req *r = u->req;
    struct grpc_call *c = r->grpc;
    if (!r->route) { /* a redirect to https, say: it is not about the call */
        filter_leave(u);
        return;
    }
    const struct field *type = fields_get(&r->answer.fields, FIELD_content_type);
    struct str status = field_named(&r->answer.fields, STR("grpc-status"));
    bool grpc = type && grpc_type_parse(type->value).form == GRPC_PLAIN;
    if (r->answer.status != 200 || (!grpc && !status.p)) {
        foreign_answer(r, type ? type->value : STR("no content type"));
        *end = true;
        return;
    }
    r->answer.length = REQ_LENGTH_UNKNOWN;
    if (*end && status.p)
        c->status = grpc_status_parse(status);
    else if (*end)
        add_status(r, &r->answer.fields, GRPC_UNKNOWN, str_of(err_no_status));
}

static const char *on_answer_body(struct filter_use *u, struct piece *p)
{
    struct req *r = u->req;
    struct grpc_call *c = r->grpc;
    if (c->foreign) { /* whatever comes of it, the call is over */
        *p = (struct piece){.end = true};
        return NULL;
    }
    const char *err = follow(&c->out, p);
    c->moved = loop_now_ms();
    if (err || !p->end)
        return err;
    if (!grpc_frames_between(&c->out))
        return err_cut_answer;
    struct str status = p->trailers ? field_named(p->trailers, STR("grpc-status")) : STR_NULL;
    if (status.p)
        c->status = grpc_status_parse(status);
    else if (c->status == GRPC_STATUS_NONE) /* and none stood in the head */
        p->trailers = status_trailers(r, GRPC_UNKNOWN, err_no_status);
    return NULL;
}

static void on_close(struct filter_use *u)
{
    struct grpc_call *c = call_of(u);
    deadline_cancel(&c->deadline);
    if (c->status == GRPC_STATUS_NONE)
        c->status = GRPC_CANCELLED;
}

static bool never(const struct req *r)
{
    (void)r;
    return false; /* step_grpc chains it */
}

const struct filter grpc_call_filter = {
    .name = "grpc",
    .wanted = never,
    .begin = on_begin,
    .request_body = on_request_body,
    .answer_head = on_answer_head,
    .answer_body = on_answer_body,
    .fail = on_fail,
    .close = on_close,
};

/* ---- which requests are calls, and where they go ---- */

/* What the head says that the request is. A site is not known of one that failed early. */
static struct grpc_type call_type(const struct req *r)
{
    const struct grpc_type none = {.form = GRPC_NONE};
    const struct field *type = fields_get(&r->fields, FIELD_content_type);
    if (r->method != METHOD_POST || !type || (r->site && !r->site->grpc.on))
        return none;
    struct grpc_type t = grpc_type_parse(type->value);
    bool web = t.form == GRPC_WEB || t.form == GRPC_WEB_TEXT;
    return web && r->site && !r->site->grpc.web ? none : t;
}

static bool is_http1(const struct req *r)
{
    return str_starts(str_of(r->codec->name), STR("HTTP/1"));
}

static void call_begin(struct req *r, struct grpc_type t)
{
    bool web = t.form != GRPC_PLAIN;
    r->kind = web ? REQ_GRPC_WEB : REQ_GRPC;
    r->grpc = arena_znew(r->arena, struct grpc_call);
    r->grpc->req = r;
    r->grpc->type = t;
    r->grpc->status = GRPC_STATUS_NONE;
    if (web)
        filter_add(r, &grpc_web_filter);
    filter_add(r, &grpc_call_filter);
}

bool step_grpc(struct req *r)
{
    struct grpc_type t = call_type(r);
    if (t.form == GRPC_NONE)
        return true;
    if (t.form == GRPC_LOOKALIKE)
        req_fail(r, 415, "a media type that begins like gRPC's and is none");
    else if (t.form == GRPC_PLAIN && is_http1(r))
        req_fail(r, 505, "gRPC needs HTTP/2");
    else
        call_begin(r, t);
    return !req_over(r);
}

void grpc_adopt(struct req *r)
{
    struct grpc_type t = call_type(r);
    if (t.form != GRPC_NONE && t.form != GRPC_LOOKALIKE && !(t.form == GRPC_PLAIN && is_http1(r)))
        call_begin(r, t);
}

/* Does "/billing.v1.Invoices/Get" belong to the package (or service) "billing.v1"? */
static bool in_package(struct str path, struct str package)
{
    struct str rest = str_sub(path, 1, path.n);
    return !package.n || (str_starts(rest, package) && rest.n > package.n &&
                          (rest.p[package.n] == '.' || rest.p[package.n] == '/'));
}

const struct conf_route *grpc_route(const struct req *r)
{
    const struct conf_grpc *g = &r->site->grpc;
    for (unsigned i = 0; i < g->n_routes; i++)
        if (in_package(r->path, g->routes[i].package))
            return &g->routes[i];
    return NULL;
}
